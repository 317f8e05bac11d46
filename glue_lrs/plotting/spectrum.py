"""Function that draws spectra into one axes."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import count
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from specutils import Spectrum

from glue_lrs.combination.combination import Combination
from glue_lrs.errors import LRSError, naming
from glue_lrs.io.open import open as open_file
from glue_lrs.plotting import style
from glue_lrs.plotting.spectra import (
    FLUX_UNITS,
    axis_label,
    draw_series,
    flux_scale,
    focus,
    mark_rows,
    offset_label,
    offset_step,
    series,
)
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.from_specutils import spectrum_to_extraction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from glue_lrs.plotting.style import AxisLimits


@style.no_figure_on_error
def plot_spectrum(
    *spectra: Spectrum | Extraction | Combination | str | PathLike[str],
    labels: str | Sequence[str] | None = None,
    column: str = "FLUX",
    integration: int | None = None,
    offset: float = 0.0,
    xlim: AxisLimits = None,
    ylim: AxisLimits = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw spectra with their errors into one axes.

    Wavelengths at which LRS is poorly calibrated are shaded. For a single spectrum, rows that are
    masked, have bad pixels or quality bits are marked at the bottom, as in
    `~glue_lrs.plotting.plot_extraction`, which also shows the background and the pixels used.

    Parameters
    ----------
    *spectra : `~specutils.Spectrum`, Extraction, Combination, str or path-like
        Spectra to draw: results of `~glue_lrs.extract`, `~glue_lrs.open` or `~glue_lrs.combine`, or
        paths of files that `~glue_lrs.open` reads.
    labels : str or sequence of str, optional
        Labels in the legend; by default, the names of the files or targets.
    column : str
        Name of the column to draw.
    integration : int, optional
        Index of the integration of stacks, counted from 0. If None, the median over the
        integrations is drawn.
    offset : float
        Vertical distance of each spectrum from the one before, as a fraction of the median of the
        first spectrum. The legend shows the offsets.
    xlim, ylim : (float, float), optional
        Limits of the wavelength in micron, and of the values in the unit of the label.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw into; by default, the current axes of pyplot. If they contain spectra already,
        their unit is kept.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Axes with wavelength in micron along x and the values along y.

    Raises
    ------
    LRSError
        If there is no spectrum, a spectrum lacks the column or the integration, units differ, or
        the number of labels is not that of the spectra.

    Examples
    --------
    ::

        glue_lrs.plot_spectrum(nod1, nod2, labels=["nod 1", "nod 2"], offset=0.2)
    """
    if not spectra:
        raise LRSError("nothing to draw, expected at least one spectrum")
    column = style.column_name(column)
    extractions = [one for spectrum in spectra for one in _as_extractions(spectrum)]
    names = _labels(extractions, labels)
    drawn = [series(one, column, integration) for one in extractions]
    units = {str(one.units.get(column, "")) for one in extractions}
    if len(units) > 1:
        raise LRSError(f"the spectra have different units of {column} ({', '.join(sorted(units))})")
    wave = np.concatenate([one.wavelength for one in drawn])
    style.check_limits(xlim, ylim, wave)
    factor, unit = flux_scale(drawn[0].values, units.pop())
    step = offset_step(drawn[0], offset)
    ax = style.axes_or_current(ax, (8.5, 4.5))
    before = ax.get_ylabel()
    if before:  # other spectra, whose unit determines that of these
        factor, unit = _unit_before(before, column, factor, unit)
    first = sum(line.get_gid() == _SPECTRUM for line in ax.lines)
    if not first:
        style.mark_poorly_calibrated(ax, wave, xlim)
    for n, (one, name) in enumerate(zip(drawn, names, strict=True)):
        colour = style.SERIES[(first + n) % len(style.SERIES)]
        shift = (first + n) * step
        label = _unused(ax, offset_label(style.plain_text(name), shift * factor, unit))
        line = draw_series(ax, one.shifted(shift), factor, colour, label)
        line.set_gid(_SPECTRUM)
    shown = (line.get_ydata() for line in ax.lines if line.get_gid() == _SPECTRUM)
    focus(ax, [np.asarray(values, dtype=float) for values in shown])
    if (
        len(extractions) == 1
        and not first
        and (integration is not None or not extractions[0].is_stack)
    ):
        mark_rows(ax, extractions[0], integration or 0)
    ax.set(xlabel="wavelength [µm]", ylabel=axis_label(column, unit))
    if not first:
        ax.grid(alpha=0.25)
    style.set_limits(ax, xlim, ylim)
    style.add_legend(ax)
    return ax


#: Mark of the lines that are spectra, in Matplotlib's group id.
_SPECTRUM = "glue_lrs spectrum"


def _unused(ax: Axes, label: str) -> str:
    """Return a label, with a number if the axes contain a spectrum with this label."""
    used = {line.get_label() for line in ax.lines if line.get_gid() == _SPECTRUM}
    numbered = (f"{label} #{number}" for number in count(2))
    return label if label not in used else next(one for one in numbered if one not in used)


def _as_extractions(spectrum: object) -> list[Extraction]:
    """Return a spectrum, or the spectra in a file, as `Extraction` objects."""
    if isinstance(spectrum, str | PathLike):
        found = open_file(spectrum)
        several = found if isinstance(found, list) else [found]
        with naming(os.fspath(spectrum)):
            return [one for item in several for one in _as_extractions(item)]
    if isinstance(spectrum, Extraction):
        return [spectrum]
    if isinstance(spectrum, Combination):
        return [spectrum.to_extraction()]
    if isinstance(spectrum, Spectrum):
        return [spectrum_to_extraction(spectrum)]
    raise LRSError(
        f"the spectrum is a {type(spectrum).__name__}, expected a Spectrum, an Extraction, a "
        "Combination, or the path of a spectrum"
    )


def _labels(extractions: Sequence[Extraction], labels: str | Sequence[str] | None) -> list[str]:
    """Return a label for each spectrum."""
    if labels is not None:
        given = [labels] if isinstance(labels, str) else [str(label) for label in labels]
        if len(given) != len(extractions):
            raise LRSError(f"there are {len(given)} labels, expected {len(extractions)}")
        return given
    names = [
        Path(one.filename).name if one.filename else str(one.header.get("TARGNAME") or "spectrum")
        for one in extractions
    ]
    return [
        f"{name} #{names[:n].count(name) + 1}" if names.count(name) > 1 else name
        for n, name in enumerate(names)
    ]


def _unit_before(label: str, column: str, factor: float, unit: str) -> tuple[float, str]:
    """Return the factor and unit of the spectra that axes contain, from the label of their y axis.

    Raises
    ------
    LRSError
        If the axes show another column or unit.
    """
    found = re.search(r"\[([^\]]*)\]$", label)
    unit_before = found[1] if found else ""
    if unit in FLUX_UNITS and unit_before in FLUX_UNITS:
        factor, unit = FLUX_UNITS[unit_before], unit_before
    if label != axis_label(column, unit):
        raise LRSError(
            f"the axes show {label}, expected {axis_label(column, unit)}, or new axes "
            "(pyplot.figure(), or ax=)"
        )
    return factor, unit
