"""Functions that draw a spectrum, a comparison of several spectra, or a stack of integrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glue_lrs.errors import LRSError, nearest, quoted
from glue_lrs.plotting import style
from glue_lrs.spectra.columns import COLUMNS, ERROR_OF, QUALITY
from glue_lrs.spectra.quality import bit_names

if TYPE_CHECKING:
    from types import EllipsisType

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from glue_lrs._utils.typing import Bools, Floats
    from glue_lrs.spectra.extraction import Extraction

# --- one spectrum ------------------------------------------------------------------------------


def plot_extraction(
    extraction: Extraction,
    *,
    truth: tuple[ArrayLike, ArrayLike] | None = None,
    integration: int = 0,
    figure: Figure | SubFigure | None = None,
    title: str | None = None,
) -> Figure:
    """Draw a spectrum with its errors, its background and the number of pixels used.

    Marks below the spectrum are rows that are masked, and others that have quality bits.

    Parameters
    ----------
    extraction : Extraction
        Spectrum or stack of integrations to draw.
    truth : (array_like, array_like), optional
        Wavelengths in micron and fluxes, in the unit of the spectrum, of a known spectrum to
        overplot.
    integration : int
        Index of the integration of a stack, counted from 0.
    figure : `~matplotlib.figure.Figure` or SubFigure, optional
        Figure to fill.
    title : str, optional
        Title above the flux panel.

    Returns
    -------
    `~matplotlib.figure.Figure`
        Figure with three panels: flux, background and number of pixels.

    Raises
    ------
    LRSError
        If the integration does not exist.
    """
    figure = style.figure_or_new(figure, (8.5, 7.0))
    panels = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1.3, 1)})
    top, middle, bottom = panels
    factor, unit = flux_scale(extraction.columns["FLUX"], extraction.units.get("FLUX"))
    flux = series(extraction, "FLUX", integration)
    wave, mask = flux.wavelength, flux.mask
    _draw_series(top, flux, factor, style.BLUE, "extracted, ±1σ")
    if truth is not None:
        _draw_truth(top, truth, factor, lw=1.0)
    _set_limits(top, [flux.values * factor])
    if mask.any():
        top.plot(
            wave[mask], np.full(int(mask.sum()), 0.02), "|", color=style.BAD_PIXEL, ms=8,
            label="masked", transform=top.get_xaxis_transform(),
        )  # fmt: skip
    bits = _flags(extraction, integration)
    flagged = (bits != 0) & ~mask
    if flagged.any():
        names = bit_names(int(np.bitwise_or.reduce(bits[flagged])))
        top.plot(
            wave[flagged], np.full(int(flagged.sum()), 0.05), "|", color=style.FLAGGED, ms=5,
            label=f"quality: {', '.join(names)}", transform=top.get_xaxis_transform(),
        )  # fmt: skip
    style.add_legend(top, ncols=3)
    level = series(extraction, "BACKGROUND", integration)
    _draw_series(middle, level, 1.0, style.GREEN, None)
    if np.nanmax(np.abs(level.values), initial=0.0) == 0:
        middle.set_ylim(-1, 1)
        middle.text(
            0.5, 0.62, "no background subtracted", transform=middle.transAxes, ha="center",
            color="0.4",
        )  # fmt: skip
    else:
        _set_limits(middle, [level.values])
    pixels = series(extraction, "NPIXELS", integration).values
    bottom.step(wave, pixels, where="mid", color=style.VERMILION, lw=1.0)
    bottom.set_ylim(0, max(float(np.nanmax(pixels, initial=1.0)) * 1.15, 1.0))
    background_unit = style.unit_label(extraction.units.get("BACKGROUND"))
    labels = f"flux [{unit}]", f"background\n[{background_unit}]", "pixels\nused"
    for ax, label in zip(panels, labels, strict=True):
        ax.set_ylabel(label)
    _finish(figure, panels, [wave], title)
    return figure


# --- comparison --------------------------------------------------------------------------------


def plot_comparison(
    extractions: Mapping[str, Extraction],
    *,
    column: str = "FLUX",
    integration: int | None = None,
    truth: tuple[ArrayLike, ArrayLike] | None = None,
    figure: Figure | SubFigure | None = None,
    title: str | None = None,
) -> Figure:
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
    truth : (array_like, array_like), optional
        Wavelengths in micron and fluxes, in the unit of the column, of a known spectrum. The ratios
        are relative to this spectrum.
    figure : `~matplotlib.figure.Figure` or SubFigure, optional
        Figure to fill.
    title : str, optional
        Title above the upper panel.

    Returns
    -------
    `~matplotlib.figure.Figure`
        Figure with two panels, or with one panel for a single spectrum without `truth`. If the
        wavelengths of a spectrum differ from those of the divisor, the divisor is interpolated
        linearly, and a note in the figure says so.

    Raises
    ------
    LRSError
        If there is no spectrum, a spectrum lacks the column, or the units differ.
    """
    if not extractions:
        raise LRSError("nothing to draw, expected at least one spectrum")
    column = column.upper()
    figure = style.figure_or_new(figure, (9.5, 7.0))
    drawn = {
        style.plain_text(name): series(one, column, integration)
        for name, one in extractions.items()
    }
    units = {str(one.units.get(column, "")) for one in extractions.values()}
    if len(units) > 1:
        raise LRSError(f"the spectra have different units of {column} ({', '.join(sorted(units))})")
    name, divisor = next(iter(drawn.items()))
    factor, unit = flux_scale(divisor.values, units.pop())
    colours = dict(zip(drawn, cycle(style.SERIES), strict=False))
    divided = {label: one for label, one in drawn.items() if truth is not None or label != name}
    heights = (2, 1) if divided else (1,)
    ratios = {"height_ratios": heights}
    panels = [*figure.subplots(len(heights), sharex=True, squeeze=False, gridspec_kw=ratios).flat]
    if truth is not None:
        name, divisor = "truth", _draw_truth(panels[0], truth, factor, lw=1.2, zorder=5)
    for label, one in drawn.items():
        _draw_series(panels[0], one, factor, colours[label], label, band=len(drawn) < 4)
    _set_limits(panels[0], [one.values * factor for one in drawn.values()])
    panels[0].set_ylabel(_axis_label(column, unit))
    style.add_legend(panels[0])
    if divided:
        with_colours = [(one, colours[label]) for label, one in divided.items()]
        _draw_ratios(panels[1], with_colours, name, divisor)
    _finish(figure, panels, [one.wavelength for one in drawn.values()], title)
    return figure


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
    _set_limits(ax, ratios, least=0.05)
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


# --- stack -------------------------------------------------------------------------------------


def plot_stack(
    extraction: Extraction,
    *,
    column: str = "FLUX",
    figure: Figure | SubFigure | None = None,
    title: str | None = None,
) -> Figure:
    """Draw the spectra of a stack of integrations: median, variation with time, light curve.

    Parameters
    ----------
    extraction : Extraction
        Stack of spectra of shape (integration, n_wave).
    column : str
        Name of the column to draw.
    figure : `~matplotlib.figure.Figure` or SubFigure, optional
        Figure to fill.
    title : str, optional
        Title above the median spectrum.

    Returns
    -------
    `~matplotlib.figure.Figure`
        Figure with three panels: the median spectrum with the scatter of the integrations, the
        ratio of each integration to the median spectrum, and the sum over wavelength of each
        integration.

    Raises
    ------
    LRSError
        If `extraction` is not a stack or lacks the column.
    """
    if not extraction.is_stack:
        raise LRSError("a single spectrum has no integrations to compare, expected a stack")
    column = column.upper()
    figure = style.figure_or_new(figure, (10.0, 7.0))
    grid = figure.add_gridspec(2, 2, width_ratios=(2.6, 1), height_ratios=(1, 1.1))
    top = figure.add_subplot(grid[0, 0])
    picture = figure.add_subplot(grid[1, 0], sharex=top)
    curve = figure.add_subplot(grid[1, 1])
    middle = series(extraction, column, None)
    wave, median = middle.wavelength, middle.values
    factor, unit = flux_scale(median, extraction.units.get(column))
    good = ~extraction.mask
    values = np.where(good, _column(extraction, column), np.nan)
    with style.no_nan_warnings():
        low, high = factor * np.nanpercentile(values, [16, 84], axis=0)
    top.fill_between(wave, low, high, color=style.BLUE, alpha=0.3, lw=0, label="16 to 84 %")
    _draw_series(top, middle, factor, style.BLUE, "median")
    _set_limits(top, [median * factor])
    top.set_ylabel(_axis_label(column, unit))
    style.add_legend(top, ncols=2)
    title = style.plain_text(title or f"{values.shape[0]} integrations")
    top.set_title(title, fontsize="medium", loc="left")
    top.grid(alpha=0.25)
    _draw_variation(picture, wave, values, median)
    _draw_light_curve(curve, values[:, good.all(axis=0)])
    curve.set_ylim(picture.get_ylim())
    for ax in (picture, curve):
        ax.set_ylabel("integration")
        ax.locator_params(axis="y", integer=True)
    return figure


def _draw_variation(ax: Axes, wave: Floats, values: Floats, median: Floats) -> None:
    """Draw each integration divided by the median spectrum."""
    with style.no_nan_warnings():
        relative = values / median
        spread = float(np.nanpercentile(np.abs(relative - 1.0), 90))
    spread = spread if np.isfinite(spread) and spread > 0 else 0.01
    edges = np.arange(values.shape[0] + 1) + 0.5
    mesh = ax.pcolormesh(
        _bin_edges(wave), edges, relative,
        cmap="PuOr_r", vmin=1 - spread, vmax=1 + spread, rasterized=True,
    )  # fmt: skip
    ax.set_facecolor(style.NO_DATA)
    ax.set_xlabel("wavelength [µm]")
    ax.figure.colorbar(
        mesh, ax=ax, location="bottom", pad=0.02, fraction=0.06, aspect=40,
        label="ratio to the median spectrum",
    )  # fmt: skip


def _draw_light_curve(ax: Axes, values: Floats) -> None:
    """Draw the sum over wavelength for each integration, relative to the median sum.

    `values` holds only the wavelengths that are usable in all integrations, because a masked value
    would look like a dip in the light curve.
    """
    white = values.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = white / np.median(white)
    ax.plot(relative, np.arange(1, white.size + 1), "o-", color=style.VERMILION, ms=3, lw=0.8)
    ax.set_xlabel("sum over wavelength / median")
    ax.ticklabel_format(useOffset=False)
    ax.tick_params(axis="x", rotation=30)
    ax.grid(alpha=0.25)


def _bin_edges(centres: Floats) -> Floats:
    """Return the edges of bins with the given centres."""
    if centres.size == 1:
        return np.array([centres[0] - 0.01, centres[0] + 0.01])
    middle = (centres[1:] + centres[:-1]) / 2.0
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


# --- columns -----------------------------------------------------------------------------------


class Series(NamedTuple):
    """Wavelengths, values, errors and mask of a spectrum to draw, each of shape (n_wave,)."""

    wavelength: Floats
    values: Floats
    error: Floats | None
    mask: Bools


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
    wave, mask, values = extraction.wavelength, extraction.mask, _column(extraction, column)
    if extraction.is_stack and integration is None:
        with style.no_nan_warnings():
            median = np.nanmedian(np.where(mask, np.nan, values), axis=0)
        return Series(wave, median, None, np.all(mask, axis=0))
    index: int | EllipsisType = ...
    if extraction.is_stack and integration is not None:
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


def _flags(extraction: Extraction, integration: int) -> NDArray[np.uint32]:
    """Return the quality bits of a spectrum or of an integration, 0 if they are unknown."""
    bits = extraction.columns.get(QUALITY)
    if bits is None:
        return np.zeros(extraction.wavelength.shape, dtype=np.uint32)
    return np.asarray(bits[integration] if extraction.is_stack else bits)


def _draw_series(
    ax: Axes, series: Series, factor: float, colour: str, label: str | None, band: bool = True
) -> None:
    """Draw a series times a factor, with a band of 1-sigma errors."""
    wave, values, error, mask = series
    shown = np.where(mask, np.nan, values * factor)
    ax.plot(wave, shown, color=colour, lw=1.0, label=label)
    if error is not None and band:
        width = np.where(mask, np.nan, error * factor)
        ax.fill_between(wave, shown - width, shown + width, color=colour, alpha=0.25, lw=0)


def _axis_label(column: str, unit: str) -> str:
    return style.COLUMN_LABELS.get(column, column) + (f" [{unit}]" if unit else "")


def _set_limits(ax: Axes, values: Sequence[Floats], least: float = 0.0) -> None:
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
    for name, factor in (("Jy", 1.0), ("mJy", 1e3), ("µJy", 1e6)):
        if typical * factor >= 0.5:
            return factor, name
    return 1e9, "nJy"
