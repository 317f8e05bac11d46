"""Functions that draw the details of a spectrum, or a comparison of several spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from glue_lrs._utils.validation import check_type
from glue_lrs.errors import LRSError, nearest, quoted
from glue_lrs.plotting import style
from glue_lrs.plotting.style import Panels
from glue_lrs.spectra.columns import COLUMNS, ERROR_OF, QUALITY
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.quality import QUALITY_BITS, bit_names, has_bits

if TYPE_CHECKING:
    from types import EllipsisType

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

    from glue_lrs._utils.typing import Bools, Floats
    from glue_lrs.plotting.style import AxisLimits, FigureSource

#: Fraction of the aperture weight above which a loss to bad pixels is marked. Smaller losses, such
#: as those in the far wings of a fitted profile, cannot be seen in the spectrum.
_MARKED_LOSS = 0.01

# --- one spectrum ------------------------------------------------------------------------------


@style.no_figure_on_error
def plot_extraction(
    extraction: Extraction,
    *,
    truth: tuple[ArrayLike, ArrayLike] | None = None,
    comparison: tuple[str, ArrayLike, ArrayLike] | None = None,
    column: str = "FLUX",
    integration: int = 0,
    xlim: AxisLimits = None,
    ylim: AxisLimits = None,
    figure: FigureSource = None,
    title: str | None = None,
) -> Panels:
    """Draw a spectrum with its errors, its background and the number of pixels used.

    Marks below the spectrum are rows that are masked, rows with bad pixels in the aperture, and
    others that have quality bits.

    Parameters
    ----------
    extraction : Extraction
        Spectrum or stack of integrations to draw.
    truth : (array_like, array_like), optional
        Wavelengths in micron and fluxes, in the unit of the spectrum, of a known spectrum to
        overplot.
    comparison : (str, array_like, array_like), optional
        Label, wavelengths in micron and values, in the unit of the column, of a spectrum to
        overplot.
    column : str
        Name of the column to draw in the upper panel.
    integration : int
        Index of the integration of a stack, counted from 0.
    xlim, ylim : (float, float), optional
        Limits of the wavelength in micron, and of the upper panel in the unit of its label.
    figure : `~matplotlib.figure.Figure`, SubFigure or callable, optional
        Figure to fill, or function that makes it (`glue_lrs.plotting.style.figure_or_new`).
    title : str, optional
        Title above the upper panel.

    Returns
    -------
    dict of `~matplotlib.axes.Axes`
        Axes of three panels: ``"spectrum"``, ``"background"`` and ``"pixels"``. Its attribute
        ``figure`` is the figure.

    Raises
    ------
    LRSError
        If the integration or the column does not exist.
    """
    column = style.column_name(column)
    drawn = series(extraction, column, integration)
    style.check_limits(xlim, ylim, drawn.wavelength)
    made = style.figure_or_new(figure, (8.5, 7.0))
    panels = made.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1.3, 1)})
    top, middle, bottom = panels
    factor, unit = flux_scale(drawn.values, extraction.units.get(column))
    wave = drawn.wavelength
    style.mark_poorly_calibrated(top, wave, xlim)
    draw_series(top, drawn, factor, style.BLUE, "extracted, ±1σ")
    if truth is not None:
        _draw_truth(top, truth, factor, lw=1.0)
    shown = [drawn.values * factor]
    if comparison is not None:
        label, at, other = comparison
        other = np.asarray(other, dtype=float) * factor
        top.plot(at, other, color=style.VERMILION, lw=1.0, ls=(0, (4, 1.5)),
                 label=style.plain_text(label))  # fmt: skip
        inside = np.asarray(at, dtype=float)
        shown.append(other[(inside >= np.nanmin(wave)) & (inside <= np.nanmax(wave))])
    focus(top, shown)
    mark_rows(top, extraction, integration)
    style.add_legend(top, ncols=3)
    level = series(extraction, "BACKGROUND", integration)
    draw_series(middle, level, 1.0, style.GREEN, None)
    if np.nanmax(np.abs(level.values), initial=0.0) == 0:
        middle.set_ylim(-1, 1)
        middle.text(
            0.5, 0.62, "no background subtracted", transform=middle.transAxes, ha="center",
            color="0.4",
        )  # fmt: skip
    else:
        focus(middle, [level.values])
    pixels = series(extraction, "NPIXELS", integration).values
    bottom.step(wave, pixels, where="mid", color=style.VERMILION, lw=1.0)
    bottom.set_ylim(0, max(float(np.nanmax(pixels, initial=1.0)) * 1.15, 1.0))
    background_unit = style.unit_label(extraction.units.get("BACKGROUND"))
    labels = axis_label(column, unit), f"background\n[{background_unit}]", "pixels\nused"
    for ax, label in zip(panels, labels, strict=True):
        ax.set_ylabel(label)
    _finish(made, panels, [wave], title)
    style.set_limits(top, xlim, ylim)
    return Panels(spectrum=top, background=middle, pixels=bottom)


def mark_rows(ax: Axes, extraction: Extraction, integration: int = 0) -> None:
    """Mark rows that are masked, rows with bad pixels in the aperture, and other quality bits.

    Bad pixels are marked if they remove more than 1% of the aperture's weight; in a spectrum from a
    file, which does not contain the weights, if there is the quality bit ``"lost"``.
    """
    shape = extraction.columns["FLUX"].shape
    index: Any = integration if extraction.is_stack else ...
    mask = extraction.mask[index]
    bits = np.asarray(extraction.columns.get(QUALITY, np.zeros(shape, dtype=np.uint32)))[index]
    lost = has_bits(bits, ("lost",))
    if extraction.aperture_weight is not None:
        lost = extraction.lost_fraction[index] > _MARKED_LOSS
    bits = bits & ~np.uint32(QUALITY_BITS["lost"].value)
    flagged = (bits != 0) & ~mask
    names = ", ".join(bit_names(int(np.bitwise_or.reduce(bits[flagged]))) if flagged.any() else [])
    for rows, height, mark, size, colour, label in (
        (mask, 0.02, "|", 8, style.BAD_PIXEL, "masked"),
        (lost & ~mask, 0.08, "x", 4, style.BAD_PIXEL, "bad pixels"),
        (flagged, 0.05, "|", 5, style.FLAGGED, f"quality: {names}"),
    ):
        if rows.any():
            ax.plot(
                extraction.wavelength[rows], np.full(int(rows.sum()), height), mark, color=colour,
                ms=size, label=label, transform=ax.get_xaxis_transform(),
            )  # fmt: skip


# --- comparison --------------------------------------------------------------------------------


@style.no_figure_on_error
def plot_comparison(
    extractions: Mapping[str, Extraction],
    *,
    column: str = "FLUX",
    integration: int | None = None,
    offset: float = 0.0,
    xlim: AxisLimits = None,
    ylim: AxisLimits = None,
    truth: tuple[ArrayLike, ArrayLike] | None = None,
    figure: FigureSource = None,
    title: str | None = None,
) -> Panels:
    """Overplot spectra, and draw their ratio to the first spectrum or to a known spectrum.

    Parameters
    ----------
    extractions : mapping of str to Extraction
        Spectra to draw, with their labels as keys.
    column : str
        Name of the column to draw, with errors if there are any.
    integration : int, optional
        Index of the integration of stacks, counted from 0. If None, the median over the
        integrations is drawn.
    offset : float
        Vertical distance of each spectrum from the one before, as a fraction of the median of the
        first spectrum. The legend shows the offsets; the ratios have none.
    xlim, ylim : (float, float), optional
        Limits of the wavelength in micron, and of the upper panel in the unit of its label.
    truth : (array_like, array_like), optional
        Wavelengths in micron and fluxes, in the unit of the column, of a known spectrum. The ratios
        are relative to this spectrum.
    figure : `~matplotlib.figure.Figure`, SubFigure or callable, optional
        Figure to fill, or function that makes it (`glue_lrs.plotting.style.figure_or_new`).
    title : str, optional
        Title above the upper panel.

    Returns
    -------
    dict of `~matplotlib.axes.Axes`
        Axes of the panels ``"spectra"`` and ``"ratio"``, of which a single spectrum without `truth`
        has the first only. Its attribute ``figure`` is the figure. If the wavelengths of a spectrum
        differ from those of the divisor, the divisor is interpolated linearly, and a note in the
        figure says so.

    Raises
    ------
    LRSError
        If there is no spectrum, a spectrum lacks the column, or the units differ.
    """
    check_type("extractions", extractions, Mapping, "spectra with their labels as keys")
    if not extractions:
        raise LRSError("nothing to draw, expected at least one spectrum")
    column = style.column_name(column)
    drawn = {
        style.plain_text(name): series(one, column, integration)
        for name, one in extractions.items()
    }
    style.check_limits(xlim, ylim, np.concatenate([one.wavelength for one in drawn.values()]))
    units = {str(one.units.get(column, "")) for one in extractions.values()}
    if len(units) > 1:
        raise LRSError(f"the spectra have different units of {column} ({', '.join(sorted(units))})")
    made = style.figure_or_new(figure, (9.5, 7.0))
    name, divisor = next(iter(drawn.items()))
    factor, unit = flux_scale(divisor.values, units.pop())
    step = offset_step(divisor, offset)
    colours = dict(zip(drawn, cycle(style.SERIES), strict=False))
    divided = {label: one for label, one in drawn.items() if truth is not None or label != name}
    heights = (2, 1) if divided else (1,)
    ratios = {"height_ratios": heights}
    panels = [*made.subplots(len(heights), sharex=True, squeeze=False, gridspec_kw=ratios).flat]
    if truth is not None:
        name, divisor = "truth", _draw_truth(panels[0], truth, factor, lw=1.2, zorder=5)
    shifted = {label: one.shifted(n * step) for n, (label, one) in enumerate(drawn.items())}
    for n, (label, one) in enumerate(shifted.items()):
        band = len(drawn) < 4 or bool(step)  # bands that overlap would hide each other
        shown = offset_label(label, n * step * factor, unit)
        draw_series(panels[0], one, factor, colours[label], shown, band=band)
    focus(panels[0], [one.values * factor for one in shifted.values()])
    panels[0].set_ylabel(axis_label(column, unit))
    for ax in panels:
        wave = np.concatenate([one.wavelength for one in drawn.values()])
        style.mark_poorly_calibrated(ax, wave, xlim, label=ax is panels[0])
    style.add_legend(panels[0])
    if divided:
        with_colours = [(one, colours[label]) for label, one in divided.items()]
        _draw_ratios(panels[1], with_colours, name, divisor)
    _finish(made, panels, [one.wavelength for one in drawn.values()], title)
    style.set_limits(panels[0], xlim, ylim)
    return Panels(zip(("spectra", "ratio"), panels, strict=False))


def offset_step(first: Series, offset: float) -> float:
    """Return an offset between spectra, given as a fraction of the median of the first one."""
    if not np.isfinite(offset):
        raise LRSError(f"offset is {quoted(offset)}, expected a finite number")
    with style.no_nan_warnings():
        middle = abs(float(np.nanmedian(np.where(first.mask, np.nan, first.values))))
    return offset * middle if offset and np.isfinite(middle) else 0.0


def offset_label(label: str, offset: float, unit: str) -> str:
    """Return the label of a spectrum with its offset, unless this is 0."""
    return f"{label} {offset:+.3g} {unit}".rstrip() if offset else label


def _draw_ratios(
    ax: Axes, spectra: Sequence[tuple[Series, str]], name: str, divisor: Series
) -> None:
    """Draw the ratio of each spectrum to the divisor. `spectra` includes a colour for each."""
    interpolated, ratios = False, []
    for one, colour in spectra:
        base = divisor.values
        if not np.array_equal(one.wavelength, divisor.wavelength):
            interpolated, base = True, _interpolate(one.wavelength, divisor)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = one.values / base
        ratio[one.mask | ~np.isfinite(ratio)] = np.nan
        ratios.append(ratio)
        ax.plot(one.wavelength, ratio, color=colour, lw=0.9, alpha=0.85)
    ax.axhline(1.0, color=style.BLACK, lw=0.8, ls="--")
    focus(ax, ratios, least=0.05)
    ax.set_ylabel(f"ratio to\n{name}" if len(name) < 28 else "ratio to the\nfirst spectrum")
    if interpolated:
        ax.text(
            0.01, 0.04, f"{name}: interpolated linearly in wavelength for the ratio",
            transform=ax.transAxes, fontsize="x-small", color="0.3",
        )  # fmt: skip


def _interpolate(wave: Floats, base: Series) -> Floats:
    """Interpolate a spectrum linearly to other wavelengths; return NaN outside its range."""
    known = np.isfinite(base.wavelength) & np.isfinite(base.values)
    order = np.argsort(base.wavelength[known])
    x, y = base.wavelength[known][order], base.values[known][order]
    return np.interp(wave, x, y, left=np.nan, right=np.nan)


def _draw_truth(ax: Axes, truth: tuple[ArrayLike, ArrayLike], factor: float, **line: Any) -> Series:
    """Draw a known spectrum times a factor, and return the spectrum without the factor."""
    wave, flux = (np.asarray(values, dtype=float) for values in truth)
    ax.plot(wave, flux * factor, color=style.BLACK, ls="--", label="truth", **line)
    return Series(wave, flux, None, np.isnan(flux))


def _finish(
    figure: Figure | SubFigure,
    panels: Sequence[Axes],
    wavelengths: Sequence[Floats],
    title: str | None,
) -> None:
    """Add the wavelength axis that all panels share, grids and a title."""
    if title:
        panels[0].set_title(style.plain_text(title), fontsize="medium", loc="left")
    every = np.concatenate(wavelengths)
    panels[-1].set_xlim(np.nanmin(every) - 0.1, np.nanmax(every) + 0.1)
    panels[-1].set_xlabel("wavelength [µm]")
    for ax in panels:
        ax.grid(alpha=0.25)
    figure.align_ylabels(panels)


# --- columns -----------------------------------------------------------------------------------


class Series(NamedTuple):
    """Wavelengths, values, errors and mask of a spectrum to draw, each of shape (n_wave,)."""

    wavelength: Floats
    values: Floats
    error: Floats | None
    mask: Bools

    def shifted(self, offset: float) -> Series:
        """Return the series with an offset added to its values."""
        return self._replace(values=self.values + offset)


def series(extraction: Extraction, column: str, integration: int | None) -> Series:
    """Return the values in a column, with their errors if the spectrum has them.

    Parameters
    ----------
    extraction : Extraction
        Spectrum or stack of integrations.
    column : str
        Name of the column.
    integration : int or None
        Index of the integration of a stack, counted from 0. If None, the median over the
        integrations is returned. The index is ignored for a single spectrum.

    Raises
    ------
    LRSError
        If the column or integration does not exist.
    """
    check_type("the spectrum", extraction, Extraction, "an Extraction")
    wave, mask, values = extraction.wavelength, extraction.mask, _column(extraction, column)
    if extraction.is_stack and integration is None:
        with style.no_nan_warnings():
            median = np.nanmedian(np.where(mask, np.nan, values), axis=0)
        return Series(wave, median, None, np.all(mask, axis=0))
    index: int | EllipsisType = ...
    if extraction.is_stack and integration is not None:
        if not isinstance(integration, int | np.integer):
            raise LRSError(f"integration is {quoted(integration)}, expected a whole number")
        if not 0 <= integration < len(values):
            raise LRSError(f"integration is {integration}, expected 0 to {len(values) - 1}")
        index = integration
    name = ERROR_OF.get(column.upper())
    error = _column(extraction, name)[index] if name in extraction.columns else None
    return Series(wave, values[index], error, mask[index])


def _column(extraction: Extraction, column: str) -> Floats:
    name = column.upper()
    if name not in extraction.columns or name == "WAVELENGTH":
        known = [c for c in COLUMNS[1:] if c in extraction.columns]
        raise LRSError(
            f"column is {quoted(column)}{nearest(column, [c.lower() for c in known])}, "
            f"expected one of {', '.join(known)}"
        )
    return np.asarray(extraction.columns[name], dtype=float)


def draw_series(
    ax: Axes, series: Series, factor: float, colour: str, label: str | None, band: bool = True
) -> Line2D:
    """Draw a series times a factor, with a band of 1-sigma errors, and return its line."""
    wave, values, error, mask = series
    shown = np.where(mask, np.nan, values * factor)
    (line,) = ax.plot(wave, shown, color=colour, lw=1.0, label=label)
    if error is not None and band:
        width = np.where(mask, np.nan, error * factor)
        ax.fill_between(wave, shown - width, shown + width, color=colour, alpha=0.25, lw=0)
    return line


def axis_label(column: str, unit: str) -> str:
    """Return the label of the axis of a column."""
    return style.COLUMN_LABELS.get(column, column) + (f" [{unit}]" if unit else "")


def focus(ax: Axes, values: Sequence[Floats], least: float = 0.0) -> None:
    """Set y limits from the central 98% of the values.

    This excludes extreme values, such as those at the ends of the LRS wavelength range. `least` is
    the minimum half range.
    """
    flat = np.concatenate(values)
    finite = flat[np.isfinite(flat)]
    if finite.size == 0:
        return
    low, high = (float(v) for v in np.percentile(finite, [1.0, 99.0]))
    middle, half = (low + high) / 2.0, (high - low) / 2.0
    half = max(1.25 * half, least, 1e-3 * abs(middle), 1e-300)
    ax.set_ylim(middle - half, middle + half)


#: Units in which fluxes are drawn, and their number in 1 Jy.
FLUX_UNITS = {"Jy": 1.0, "mJy": 1e3, "µJy": 1e6, "nJy": 1e9}


def flux_scale(values: Floats, unit: str | None) -> tuple[float, str]:
    """Return a factor for fluxes and the label of the resulting unit: Jy, mJy, µJy or nJy.

    The unit is chosen so that most values are easy to read.

    Parameters
    ----------
    values : ndarray
        Fluxes in `unit`.
    unit : str or None
        Unit of the fluxes. A unit other than Jy is kept, with a factor of 1.
    """
    if unit != "Jy":
        return 1.0, style.unit_label(unit)
    finite = np.abs(values[np.isfinite(values)])
    typical = float(np.percentile(finite, 90)) if finite.size else 1.0
    name = next((name for name, factor in FLUX_UNITS.items() if typical * factor >= 0.5), "nJy")
    return FLUX_UNITS[name], name
