"""Figures of spectra: one, several compared, a stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glue_lrs.errors import LRSError
from glue_lrs.plotting.style import (
    BAD_PIXEL_STYLE,
    BLACK,
    BLUE,
    COLUMN_LABELS,
    GREEN,
    NO_DATA,
    SERIES,
    VERMILION,
    centre_edges,
    column_values,
    figure_or_new,
    one_series,
    plain_text,
    quiet_matplotlib,
    time_series,
    unit_label,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from glue_lrs.spectra.extraction import Extraction

__all__ = ["plot_comparison", "plot_extraction", "plot_stack", "scale_axes"]


# --- spectra -----------------------------------------------------------------------------------


def plot_extraction(
    extraction: Extraction,
    *,
    truth: tuple[ArrayLike, ArrayLike] | None = None,
    integration: int = 0,
    figure: Any = None,
    title: str | None = None,
) -> Any:
    """Draw a spectrum with its errors, its background and the pixels that were used.

    Parameters
    ----------
    extraction : Extraction
        The spectrum.
    truth : (array_like, array_like), optional
        Wavelengths in micron and fluxes, in the unit of the spectrum, to draw beside it.
    integration : int
        Which integration of a stack.
    figure : `~matplotlib.figure.Figure` or SubFigure, optional
        What to fill.
    title : str, optional
        What to write above it.

    Returns
    -------
    `~matplotlib.figure.Figure`
        Three panels above each other: flux, background, number of pixels.
    """
    figure = figure_or_new(figure, (8.5, 7.0))
    panels = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1.3, 1)})
    wave = extraction.wavelength
    factor, unit = scale_axes(extraction.columns["FLUX"], extraction.units.get("FLUX"))
    flux, error, mask = time_series(extraction, "FLUX", integration)
    _draw_series(panels[0], wave, flux * factor, error, factor, mask, BLUE, "extracted, ±1σ")
    if truth is not None:
        reference = np.asarray(truth[1], dtype=float) * factor
        panels[0].plot(
            np.asarray(truth[0], dtype=float),
            reference,
            color=BLACK,
            lw=1.0,
            ls="--",
            label="truth",
        )
    _limits(panels[0], [flux * factor])
    panels[0].set_ylabel(f"flux [{unit}]")
    _mark_masked(panels[0], wave, mask)
    panels[0].legend(loc="best", frameon=False, fontsize="small", ncols=3)
    if title:
        panels[0].set_title(plain_text(title), fontsize="medium", loc="left")
    level, level_error, _ = time_series(extraction, "BACKGROUND", integration)
    level_unit = unit_label(extraction.units.get("BACKGROUND"))
    _draw_series(panels[1], wave, level, level_error, 1.0, mask, GREEN, "")
    if np.nanmax(np.abs(level), initial=0.0) == 0:
        panels[1].set_ylim(-1, 1)
        panels[1].text(
            0.5,
            0.62,
            "no background subtracted",
            transform=panels[1].transAxes,
            ha="center",
            color="0.4",
        )
    else:
        _limits(panels[1], [level])
    panels[1].set_ylabel(f"background\n[{level_unit}]")
    pixels = time_series(extraction, "NPIXELS", integration)[0]
    panels[2].step(wave, pixels, where="mid", color=VERMILION, lw=1.0)
    panels[2].set_ylim(0, max(float(np.nanmax(pixels, initial=1.0)) * 1.15, 1.0))
    panels[2].set_ylabel("pixels\nused")
    panels[2].set_xlabel("wavelength [µm]")
    for ax in panels:
        ax.grid(alpha=0.25)
    panels[0].set_xlim(np.nanmin(wave) - 0.1, np.nanmax(wave) + 0.1)
    figure.align_ylabels(panels)
    return figure


def plot_comparison(
    extractions: Mapping[str, Extraction],
    *,
    column: str = "FLUX",
    integration: int | None = None,
    truth: tuple[ArrayLike, ArrayLike] | None = None,
    figure: Any = None,
    title: str | None = None,
) -> Any:
    """Draw spectra over each other, and their ratio to the first one or to a known truth.

    Parameters
    ----------
    extractions : mapping of str to Extraction
        Labels and spectra.
    column : str
        Which column; with errors where it has them.
    integration : int, optional
        Which integration of stacks; None draws the median over their integrations.
    truth : (array_like, array_like), optional
        Wavelengths in micron and fluxes in the unit of the column; the ratio is then to these.
    figure : `~matplotlib.figure.Figure` or SubFigure, optional
        What to fill.
    title : str, optional
        What to write above it.

    Returns
    -------
    `~matplotlib.figure.Figure`
        Two panels, or one where there is nothing to divide by. For the ratio the divisor is
        interpolated linearly where its wavelengths differ; the figure says so.

    Raises
    ------
    LRSError
        If there is no spectrum, or one of them has no such column.
    """
    if not extractions:
        raise LRSError("nothing to draw, expected at least one spectrum")
    figure = figure_or_new(figure, (9.5, 7.0))
    series = {name: one_series(one, column, integration) for name, one in extractions.items()}
    series = {plain_text(name): one for name, one in series.items()}
    first = next(iter(series))
    units = {str(one.units.get(column, "")) for one in extractions.values()}
    if len(units) > 1:
        raise LRSError(f"the spectra have different units of {column} ({', '.join(sorted(units))})")
    factor, unit = scale_axes(series[first][1], units.pop())
    divide = truth is not None or len(series) > 1
    if divide:
        top, low = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (2, 1)})
    else:
        top = figure.subplots()
        low = None
    name = "truth" if truth is not None else first
    if truth is not None:
        base_wave, base = (np.asarray(a, dtype=float) for a in truth)
        top.plot(base_wave, base * factor, color=BLACK, lw=1.2, ls="--", label="truth", zorder=5)
    else:
        base_wave, base = series[first][0], series[first][1]
    interpolated, ratios = False, []
    for number, (label, (wave, values, error, mask)) in enumerate(series.items()):
        colour = SERIES[number % len(SERIES)]
        _draw_series(
            top, wave, values * factor, error, factor, mask, colour, label, band=len(series) < 4
        )
        if low is None or (truth is None and label == first):
            continue
        same = wave.shape == base_wave.shape and np.array_equal(wave, base_wave)
        interpolated |= not same
        divisor = base if same else _interpolate(wave, base_wave, base)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = values / divisor
        ratio[mask | ~np.isfinite(ratio)] = np.nan
        ratios.append(ratio)
        low.plot(wave, ratio, color=colour, lw=0.9, alpha=0.85)
    _limits(top, [values * factor for _, values, _, _ in series.values()])
    top.set_ylabel(f"{COLUMN_LABELS.get(column, column)}" + (f" [{unit}]" if unit else ""))
    top.legend(loc="best", frameon=False, fontsize="small")
    if title:
        top.set_title(plain_text(title), fontsize="medium", loc="left")
    bottom = top if low is None else low
    if low is not None:
        low.axhline(1.0, color=BLACK, lw=0.8, ls="--")
        _limits(low, ratios, least=0.05)
        low.set_ylabel(f"ratio to\n{name}" if len(name) < 28 else "ratio to the\nfirst spectrum")
        if interpolated:
            low.text(
                0.01, 0.04, f"{name}: interpolated linearly in wavelength for the ratio",
                transform=low.transAxes, fontsize="x-small", color="0.3",
            )  # fmt: skip
    bottom.set_xlabel("wavelength [µm]")
    ends = [edge for wave, *_ in series.values() for edge in (np.nanmin(wave), np.nanmax(wave))]
    bottom.set_xlim(min(ends) - 0.1, max(ends) + 0.1)
    for ax in (top, low) if low is not None else (top,):
        ax.grid(alpha=0.25)
    figure.align_ylabels()
    return figure


def plot_stack(
    extraction: Extraction, *, column: str = "FLUX", figure: Any = None, title: str | None = None
) -> Any:
    """Draw the spectra of a stack of integrations: their median, their change, the light curve.

    Parameters
    ----------
    extraction : Extraction
        Spectra of shape (integration, n_wave).
    column : str
        Which column.
    figure : `~matplotlib.figure.Figure` or SubFigure, optional
        What to fill.
    title : str, optional
        What to write above it.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The median spectrum with the scatter of the integrations, each integration divided by it,
        and the sum over all wavelengths.

    Raises
    ------
    LRSError
        If it is not a stack.
    """
    if not extraction.is_stack:
        raise LRSError("a single spectrum has no integrations to compare, expected a stack")
    figure = figure_or_new(figure, (10.0, 7.0))
    grid = figure.add_gridspec(2, 2, width_ratios=(2.6, 1), height_ratios=(1, 1.1))
    top = figure.add_subplot(grid[0, 0])
    picture = figure.add_subplot(grid[1, 0], sharex=top)
    curve = figure.add_subplot(grid[1, 1])
    wave, middle, _, mask = one_series(extraction, column, None)
    values = column_values(extraction, column)
    factor, unit = scale_axes(middle, extraction.units.get(column))
    good = ~extraction.mask
    values = np.where(good, values, np.nan)
    low, high = quiet_matplotlib(np.nanpercentile, values, [16, 84], axis=0)
    top.fill_between(
        wave, low * factor, high * factor, color=BLUE, alpha=0.3, lw=0, label="16 to 84 %"
    )
    top.plot(wave, np.where(mask, np.nan, middle) * factor, color=BLUE, lw=1.0, label="median")
    _limits(top, [middle * factor])
    top.set_ylabel(f"{COLUMN_LABELS.get(column, column)}" + (f" [{unit}]" if unit else ""))
    top.legend(loc="best", frameon=False, fontsize="small", ncols=2)
    top.set_title(
        plain_text(title or f"{values.shape[0]} integrations"), fontsize="medium", loc="left"
    )
    top.grid(alpha=0.25)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = values / middle
    spread = (
        float(quiet_matplotlib(np.nanpercentile, np.abs(relative - 1.0), 90))
        if good.any()
        else 0.01
    )
    spread = spread if np.isfinite(spread) and spread > 0 else 0.01
    number = np.arange(1, values.shape[0] + 1)
    edges = np.append(number - 0.5, number[-1] + 0.5)
    mesh = picture.pcolormesh(
        centre_edges(wave), edges, relative,
        cmap="PuOr_r", vmin=1 - spread, vmax=1 + spread, rasterized=True,
    )  # fmt: skip
    picture.set_facecolor(NO_DATA)
    picture.set_xlabel("wavelength [µm]")
    picture.set_ylabel("integration")
    bar = figure.colorbar(mesh, ax=picture, location="bottom", pad=0.02, fraction=0.06, aspect=40)
    bar.set_label("ratio to the median spectrum")
    # Only wavelengths that every integration has: a lost row must not look like a dip.
    whole = good.all(axis=0)
    white = values[:, whole].sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        curve.plot(white / np.median(white), number, "o-", color=VERMILION, ms=3, lw=0.8)
    curve.set_ylim(picture.get_ylim())
    curve.set_xlabel("sum over wavelength / median")
    curve.set_ylabel("integration")
    curve.ticklabel_format(useOffset=False)
    curve.tick_params(axis="x", rotation=30)
    curve.grid(alpha=0.25)
    for axis in (picture.yaxis, curve.yaxis):
        axis.get_major_locator().set_params(integer=True)
    return figure


def _draw_series(
    ax: Axes,
    wave: NDArray[np.float64],
    values: NDArray[np.float64],
    error: NDArray[np.float64] | None,
    factor: float,
    mask: NDArray[np.bool_],
    colour: str,
    label: str,
    band: bool = True,
) -> None:
    shown = np.where(mask, np.nan, values)
    ax.plot(wave, shown, color=colour, lw=1.0, label=label or None)
    if error is not None and band:
        width = np.where(mask, np.nan, error * factor)
        ax.fill_between(wave, shown - width, shown + width, color=colour, alpha=0.25, lw=0)


def _mark_masked(ax: Axes, wave: NDArray[np.float64], mask: NDArray[np.bool_]) -> None:
    if mask.any():
        ax.plot(
            wave[mask], np.full(int(mask.sum()), 0.02), "|", color=BAD_PIXEL_STYLE, ms=8, label="masked",
            transform=ax.get_xaxis_transform(),
        )  # fmt: skip


def _limits(ax: Axes, values: Sequence[NDArray[np.float64]], least: float = 0.0) -> None:
    """Limits that show all but the wildest values, as at the ends of LRS's range."""
    finite = np.concatenate(
        [np.ravel(v)[np.isfinite(np.ravel(v))] for v in values] or [np.zeros(0)]
    )
    if finite.size == 0:
        return
    low, high = (float(v) for v in np.percentile(finite, [1.0, 99.0]))
    middle, half = (low + high) / 2.0, (high - low) / 2.0
    half = max(1.25 * half, least, 1e-3 * abs(middle), 1e-300)
    ax.set_ylim(middle - half, middle + half)


def scale_axes(values: NDArray[np.float64], unit: str | None) -> tuple[float, str]:
    """Factor and unit that make fluxes readable numbers: Jy, mJy, µJy or nJy."""
    if unit != "Jy":
        return 1.0, unit_label(unit)
    finite = np.abs(values[np.isfinite(values)])
    typical = float(np.percentile(finite, 90)) if finite.size else 1.0
    for name, factor in (("Jy", 1.0), ("mJy", 1e3), ("µJy", 1e6)):
        if typical * factor >= 0.5:
            return factor, name
    return 1e9, "nJy"


def _interpolate(
    wave: NDArray[np.float64], base_wave: NDArray[np.float64], base: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Values at other wavelengths, linear between the neighbours, NaN outside."""
    known = np.isfinite(base_wave) & np.isfinite(base)
    order = np.argsort(base_wave[known])
    return np.interp(wave, base_wave[known][order], base[known][order], left=np.nan, right=np.nan)
