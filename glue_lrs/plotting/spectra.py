"""Functions that draw a spectrum, a comparison of several spectra, or a stack of integrations."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from glue_lrs.errors import LRSError, nearest
from glue_lrs.plotting.style import (
    BAD_PIXEL_STYLE,
    BLACK,
    BLUE,
    COLUMN_LABELS,
    GREEN,
    NO_DATA,
    SERIES,
    VERMILION,
    figure_or_new,
    plain_text,
    unit_label,
)
from glue_lrs.spectra.columns import COLUMNS, ERROR_OF

if TYPE_CHECKING:
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
    figure = figure_or_new(figure, (8.5, 7.0))
    panels = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1.3, 1)})
    top, middle, bottom = panels
    wave = extraction.wavelength
    factor, unit = flux_scale(extraction.columns["FLUX"], extraction.units.get("FLUX"))
    flux, error, mask = column_and_error(extraction, "FLUX", integration)
    series = _Series(wave, flux, error, mask)
    _draw_series(top, series, factor, BLUE, "extracted, ±1σ")
    if truth is not None:
        true_wave, true_flux = (np.asarray(values, dtype=float) for values in truth)
        top.plot(true_wave, true_flux * factor, color=BLACK, lw=1.0, ls="--", label="truth")
    _set_limits(top, [flux * factor])
    top.set_ylabel(f"flux [{unit}]")
    _mark_masked(top, wave, mask)
    top.legend(loc="best", frameon=False, fontsize="small", ncols=3)
    if title:
        top.set_title(plain_text(title), fontsize="medium", loc="left")
    level, level_error, _ = column_and_error(extraction, "BACKGROUND", integration)
    _draw_series(middle, _Series(wave, level, level_error, mask), 1.0, GREEN, None)
    if np.nanmax(np.abs(level), initial=0.0) == 0:
        middle.set_ylim(-1, 1)
        middle.text(
            0.5, 0.62, "no background subtracted", transform=middle.transAxes, ha="center",
            color="0.4",
        )  # fmt: skip
    else:
        _set_limits(middle, [level])
    middle.set_ylabel(f"background\n[{unit_label(extraction.units.get('BACKGROUND'))}]")
    pixels = column_and_error(extraction, "NPIXELS", integration)[0]
    bottom.step(wave, pixels, where="mid", color=VERMILION, lw=1.0)
    bottom.set_ylim(0, max(float(np.nanmax(pixels, initial=1.0)) * 1.15, 1.0))
    bottom.set_ylabel("pixels\nused")
    bottom.set_xlabel("wavelength [µm]")
    for ax in panels:
        ax.grid(alpha=0.25)
    top.set_xlim(np.nanmin(wave) - 0.1, np.nanmax(wave) + 0.1)
    figure.align_ylabels(panels)
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
        wavelengths of two spectra differ, the divisor is interpolated linearly for the ratio, and a
        note in the figure says so.

    Raises
    ------
    LRSError
        If there is no spectrum, a spectrum lacks the column, or the units differ.
    """
    if not extractions:
        raise LRSError("nothing to draw, expected at least one spectrum")
    figure = figure_or_new(figure, (9.5, 7.0))
    series = {
        plain_text(name): _series(one, column, integration) for name, one in extractions.items()
    }
    first = next(iter(series))
    units = {str(one.units.get(column, "")) for one in extractions.values()}
    if len(units) > 1:
        raise LRSError(f"the spectra have different units of {column} ({', '.join(sorted(units))})")
    factor, unit = flux_scale(series[first].values, units.pop())
    if truth is None and len(series) == 1:
        top, low = figure.subplots(), None
    else:
        top, low = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (2, 1)})
    if truth is not None:
        true_wave, true_flux = (np.asarray(values, dtype=float) for values in truth)
        top.plot(
            true_wave, true_flux * factor, color=BLACK, lw=1.2, ls="--", label="truth", zorder=5
        )
    colours = dict(zip(series, cycle(SERIES), strict=False))
    for label, one in series.items():
        _draw_series(top, one, factor, colours[label], label, band=len(series) < 4)
    _set_limits(top, [one.values * factor for one in series.values()])
    top.set_ylabel(f"{COLUMN_LABELS.get(column, column)}" + (f" [{unit}]" if unit else ""))
    top.legend(loc="best", frameon=False, fontsize="small")
    if title:
        top.set_title(plain_text(title), fontsize="medium", loc="left")
    if low is not None:
        name, divisor = first, (series[first].wavelength, series[first].values)
        if truth is not None:
            name, divisor = "truth", (true_wave, true_flux)
        divided = [
            (one, colours[label])
            for label, one in series.items()
            if truth is not None or label != first
        ]
        _draw_ratios(low, divided, name, divisor)
    bottom = top if low is None else low
    bottom.set_xlabel("wavelength [µm]")
    ends = [
        edge
        for one in series.values()
        for edge in (np.nanmin(one.wavelength), np.nanmax(one.wavelength))
    ]
    bottom.set_xlim(min(ends) - 0.1, max(ends) + 0.1)
    for ax in (top, low) if low is not None else (top,):
        ax.grid(alpha=0.25)
    figure.align_ylabels()
    return figure


def _draw_ratios(
    ax: Axes, series: Sequence[tuple[_Series, str]], name: str, divisor: tuple[Floats, Floats]
) -> None:
    """Draw the ratio of each series to a divisor.

    `series` holds each series with its colour, `name` is the label of the divisor, and `divisor`
    holds its wavelengths and values.
    """
    interpolated, ratios = False, []
    for one, colour in series:
        same = np.array_equal(one.wavelength, divisor[0])
        interpolated |= not same
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = one.values / (divisor[1] if same else _interpolate(one.wavelength, *divisor))
        ratio[one.mask | ~np.isfinite(ratio)] = np.nan
        ratios.append(ratio)
        ax.plot(one.wavelength, ratio, color=colour, lw=0.9, alpha=0.85)
    ax.axhline(1.0, color=BLACK, lw=0.8, ls="--")
    _set_limits(ax, ratios, least=0.05)
    ax.set_ylabel(f"ratio to\n{name}" if len(name) < 28 else "ratio to the\nfirst spectrum")
    if interpolated:
        ax.text(
            0.01, 0.04, f"{name}: interpolated linearly in wavelength for the ratio",
            transform=ax.transAxes, fontsize="x-small", color="0.3",
        )  # fmt: skip


def _interpolate(wave: Floats, base_wave: Floats, base: Floats) -> Floats:
    """Interpolate the values `base` linearly from `base_wave` to `wave`; NaN outside the range."""
    known = np.isfinite(base_wave) & np.isfinite(base)
    order = np.argsort(base_wave[known])
    return np.interp(wave, base_wave[known][order], base[known][order], left=np.nan, right=np.nan)


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
    figure = figure_or_new(figure, (10.0, 7.0))
    grid = figure.add_gridspec(2, 2, width_ratios=(2.6, 1), height_ratios=(1, 1.1))
    top = figure.add_subplot(grid[0, 0])
    picture = figure.add_subplot(grid[1, 0], sharex=top)
    curve = figure.add_subplot(grid[1, 1])
    wave, median, _, mask = _series(extraction, column, None)
    factor, unit = flux_scale(median, extraction.units.get(column))
    good = ~extraction.mask
    values = np.where(good, _column(extraction, column), np.nan)
    with _no_nan_warnings():
        low, high = np.nanpercentile(values, [16, 84], axis=0)
    top.fill_between(
        wave, low * factor, high * factor, color=BLUE, alpha=0.3, lw=0, label="16 to 84 %"
    )
    top.plot(wave, np.where(mask, np.nan, median) * factor, color=BLUE, lw=1.0, label="median")
    _set_limits(top, [median * factor])
    top.set_ylabel(f"{COLUMN_LABELS.get(column, column)}" + (f" [{unit}]" if unit else ""))
    top.legend(loc="best", frameon=False, fontsize="small", ncols=2)
    top.set_title(
        plain_text(title or f"{values.shape[0]} integrations"), fontsize="medium", loc="left"
    )
    top.grid(alpha=0.25)
    _draw_variation(picture, wave, values, median)
    _draw_light_curve(curve, values[:, good.all(axis=0)])
    curve.set_ylim(picture.get_ylim())
    for axis in (picture.yaxis, curve.yaxis):
        locator: Any = axis.get_major_locator()
        locator.set_params(integer=True)
    return figure


def _draw_variation(ax: Axes, wave: Floats, values: Floats, median: Floats) -> None:
    """Draw each integration divided by the median spectrum."""
    with _no_nan_warnings():
        relative = values / median
        spread = float(np.nanpercentile(np.abs(relative - 1.0), 90))
    spread = spread if np.isfinite(spread) and spread > 0 else 0.01
    edges = np.arange(values.shape[0] + 1) + 0.5
    mesh = ax.pcolormesh(
        _bin_edges(wave), edges, relative,
        cmap="PuOr_r", vmin=1 - spread, vmax=1 + spread, rasterized=True,
    )  # fmt: skip
    ax.set_facecolor(NO_DATA)
    ax.set_xlabel("wavelength [µm]")
    ax.set_ylabel("integration")
    bar = ax.figure.colorbar(mesh, ax=ax, location="bottom", pad=0.02, fraction=0.06, aspect=40)
    bar.set_label("ratio to the median spectrum")


def _draw_light_curve(ax: Axes, values: Floats) -> None:
    """Draw the sum over wavelength of each integration, relative to the median.

    `values` holds only the wavelengths that are usable in all integrations, because a masked value
    would look like a dip in the light curve.
    """
    white = values.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = white / np.median(white)
    ax.plot(relative, np.arange(1, white.size + 1), "o-", color=VERMILION, ms=3, lw=0.8)
    ax.set_xlabel("sum over wavelength / median")
    ax.set_ylabel("integration")
    ax.ticklabel_format(useOffset=False)
    ax.tick_params(axis="x", rotation=30)
    ax.grid(alpha=0.25)


def _bin_edges(centres: Floats) -> Floats:
    """Return the edges of bins with these centres."""
    if centres.size == 1:
        return np.array([centres[0] - 0.01, centres[0] + 0.01])
    middle = (centres[1:] + centres[:-1]) / 2.0
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


# --- columns -----------------------------------------------------------------------------------


def column_and_error(
    extraction: Extraction, column: str, integration: int
) -> tuple[Floats, Floats | None, Bools]:
    """Return the values of a column, their errors and the mask, each of shape (n_wave,).

    Parameters
    ----------
    extraction : Extraction
        Spectrum or stack of integrations.
    column : str
        Name of the column.
    integration : int
        Index of the integration of a stack, counted from 0; ignored for a single spectrum.

    Raises
    ------
    LRSError
        If the column or integration does not exist.
    """
    values, mask = _column(extraction, column), extraction.mask
    name = ERROR_OF.get(column.upper())
    error = None if name is None or name not in extraction.columns else _column(extraction, name)
    if not extraction.is_stack:
        return values, error, mask
    if not 0 <= integration < len(values):
        raise LRSError(f"integration is {integration}, expected 0 to {len(values) - 1}")
    return values[integration], None if error is None else error[integration], mask[integration]


def _column(extraction: Extraction, column: str) -> Floats:
    name = column.upper()
    if name not in extraction.columns or name == "WAVELENGTH":
        known = [c for c in COLUMNS[1:] if c in extraction.columns]
        raise LRSError(
            f"column is {column!r}{nearest(column, [c.lower() for c in known])}, expected one of "
            f"{', '.join(known)}"
        )
    return np.asarray(extraction.columns[name], dtype=float)


class _Series(NamedTuple):
    """Wavelengths, values, errors and mask of a spectrum to draw, each of shape (n_wave,)."""

    wavelength: Floats
    values: Floats
    error: Floats | None
    mask: Bools


def _series(extraction: Extraction, column: str, integration: int | None) -> _Series:
    """Return a column from an integration, or if `integration` is None, the median of a stack."""
    if not extraction.is_stack or integration is not None:
        return _Series(
            extraction.wavelength, *column_and_error(extraction, column, integration or 0)
        )
    mask = extraction.mask
    values = np.where(mask, np.nan, _column(extraction, column))
    with _no_nan_warnings():
        median = np.nanmedian(values, axis=0)
    return _Series(extraction.wavelength, median, None, np.all(mask, axis=0))


@contextmanager
def _no_nan_warnings() -> Iterator[None]:
    """Suppress the warnings of NumPy about rows or columns that are all NaN."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _draw_series(
    ax: Axes, series: _Series, factor: float, colour: str, label: str | None, band: bool = True
) -> None:
    """Draw a series times a factor, with a band of 1-sigma errors."""
    wave, values, error, mask = series
    shown = np.where(mask, np.nan, values * factor)
    ax.plot(wave, shown, color=colour, lw=1.0, label=label)
    if error is not None and band:
        width = np.where(mask, np.nan, error * factor)
        ax.fill_between(wave, shown - width, shown + width, color=colour, alpha=0.25, lw=0)


def _mark_masked(ax: Axes, wave: Floats, mask: Bools) -> None:
    if mask.any():
        ax.plot(
            wave[mask], np.full(int(mask.sum()), 0.02), "|", color=BAD_PIXEL_STYLE, ms=8,
            label="masked", transform=ax.get_xaxis_transform(),
        )  # fmt: skip


def _set_limits(ax: Axes, values: Sequence[Floats], least: float = 0.0) -> None:
    """Set y limits from the central 98% of the values.

    Extreme values, as at the ends of the LRS wavelength range, are thus ignored. `least` is the
    smallest half range.
    """
    flat = np.concatenate([np.ravel(part) for part in values] or [np.zeros(0)])
    finite = flat[np.isfinite(flat)]
    if finite.size == 0:
        return
    low, high = (float(v) for v in np.percentile(finite, [1.0, 99.0]))
    middle, half = (low + high) / 2.0, (high - low) / 2.0
    half = max(1.25 * half, least, 1e-3 * abs(middle), 1e-300)
    ax.set_ylim(middle - half, middle + half)


def flux_scale(values: Floats, unit: str | None) -> tuple[float, str]:
    """Return the factor and the unit label with which fluxes are drawn: Jy, mJy, µJy or nJy.

    Parameters
    ----------
    values : ndarray
        Fluxes in `unit`.
    unit : str or None
        Unit of the fluxes. If it is not Jy, the factor is 1.
    """
    if unit != "Jy":
        return 1.0, unit_label(unit)
    finite = np.abs(values[np.isfinite(values)])
    typical = float(np.percentile(finite, 90)) if finite.size else 1.0
    for name, factor in (("Jy", 1.0), ("mJy", 1e3), ("µJy", 1e6)):
        if typical * factor >= 0.5:
            return factor, name
    return 1e9, "nJy"
