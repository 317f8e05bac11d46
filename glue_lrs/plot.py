"""Pictures: an image with its aperture, cuts across the slit, spectra, and what compares them.

Every function draws on Matplotlib's objects and returns them; none of them uses pyplot. What takes
an ``ax`` draws there, what takes a ``figure`` fills it; without one a new figure is made.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from matplotlib.colors import AsinhNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike, NDArray

from glue_lrs.aperture import Limits, polynomial_regions
from glue_lrs.errors import LRSError, LRSWarning, WriteError, nearest
from glue_lrs.extraction import COLUMNS, ERROR_OF
from glue_lrs.image import DO_NOT_USE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from glue_lrs.extract import Extract1D
    from glue_lrs.extraction import Extraction
    from glue_lrs.image import SlitImage

__all__ = [
    "plot_comparison",
    "plot_cut",
    "plot_extraction",
    "plot_image",
    "plot_product",
    "plot_stack",
    "plot_width",
    "save",
]

# Okabe and Ito's palette: told apart with every kind of colour vision.
ORANGE, SKY, GREEN = "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, BLACK = "#0072B2", "#D55E00", "#CC79A7", "#000000"
#: Colours of spectra that are drawn over each other; black and a dash tell the truth.
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#666666")

_APERTURE, _BACKGROUND, _BOX, _BAD = VERMILION, BLUE, GREEN, PURPLE
NO_DATA = "#E8E8E8"


# --- the image ---------------------------------------------------------------------------------


def plot_image(
    image: SlitImage,
    extract: Extract1D | None = None,
    *,
    integration: int = 0,
    ax: Axes | None = None,
    rows: Sequence[int] = (),
    legend: bool = True,
) -> Axes:
    """Draw the image with the aperture, the background regions and the bounding box on it.

    Parameters
    ----------
    image : SlitImage
        The image.
    extract : Extract1D, optional
        The operator whose aperture and background are drawn where they fall on this image.
    integration : int
        Which integration of a stack.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw.
    rows : sequence of int
        Rows to mark, as those of cuts.
    legend : bool
        Whether to explain the lines.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Columns along x, rows along y, wavelengths on the right, brightness on an asinh scale.

    Raises
    ------
    LRSError
        If there is no such integration, or the aperture does not fit the image.
    """
    ax = axes_or_new(ax, (4.5, 8.0))
    data = _plane(image, integration)
    left, right, bottom, top = shown_part(image)
    shown = data[bottom : top + 1, left : right + 1]
    extent = (left - 0.5, right + 0.5, bottom - 0.5, top + 0.5)
    settings: dict[str, Any] = {
        "origin": "lower",
        "aspect": "auto",
        "interpolation": "nearest",
        "extent": extent,
    }
    ax.set_facecolor(NO_DATA)
    picture = ax.imshow(shown, cmap="gray_r", norm=_stretch(shown), **settings)
    bad = np.isnan(shown) & np.isfinite(image.wavelength[bottom : top + 1, left : right + 1])
    handles: list[Any] = []
    if bad.any():
        marks = np.where(bad, 1.0, np.nan)
        ax.imshow(marks, cmap=ListedColormap([_BAD]), vmin=0, vmax=1, **settings)
        handles.append(Patch(color=_BAD, label="bad pixel"))
    (x0, x1), (y0, y1) = image.bounding_box
    ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=_BOX, lw=1.4, ls=":"))
    handles.append(Line2D([], [], color=_BOX, lw=1.4, ls=":", label="bounding box"))
    if extract is not None:
        handles = [*_draw_regions(ax, image, extract), *handles]
    for row in rows:
        ax.axhline(row, color=ORANGE, lw=0.8, ls=(0, (6, 3)))
    if len(rows):
        handles.append(Line2D([], [], color=ORANGE, lw=0.8, ls=(0, (6, 3)), label="cut"))
    ax.set_xlim(
        min(extent[0], x0 - 2), max(extent[1], x1 + 2)
    )  # the box may reach the image's edge
    ax.set_ylim(min(extent[2], y0 - 4), max(extent[3], y1 + 4))
    ax.set_xlabel("column (cross-dispersion) [pixel]")
    ax.set_ylabel("row (dispersion) [pixel]")
    wavelength_axis(ax, image, bottom, top)
    bar = ax.figure.colorbar(picture, ax=ax, location="bottom", pad=0.01, fraction=0.03, aspect=28)
    bar.set_label(f"surface brightness [{_unit_label(image.unit)}]")
    bar.set_ticks(_asinh_ticks(picture.norm), minor=False)
    bar.ax.minorticks_off()
    bar.ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if legend:
        legend_above(ax, handles)
    return ax


def legend_above(ax: Axes, handles: list[Any]) -> None:
    """Explain lines and marks above a picture that has no room for it."""
    ax.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False,
        fontsize="small", handlelength=1.6, columnspacing=1.0, borderaxespad=0.2,
    )  # fmt: skip


def _draw_regions(ax: Axes, image: SlitImage, extract: Extract1D) -> list[Any]:
    """Draw the edges of aperture and background; return the entries of a legend."""
    source, background, rows, trace = _regions(image, extract)
    handles = [Line2D([], [], color=_APERTURE, lw=1.6, label="aperture")]
    y = np.stack([rows - 0.5, rows + 0.5], axis=1).ravel()  # both ends of each row
    for lower, upper in source:
        for edge in (lower, upper):
            ax.plot(np.repeat(edge[rows], 2), y, color=_APERTURE, lw=1.6)
    for lower, upper in background:
        for edge in (lower, upper):
            ax.plot(np.repeat(edge[rows], 2), y, color=_BACKGROUND, lw=1.3, ls="--")
        ax.fill_betweenx(rows, lower[rows], upper[rows], color=_BACKGROUND, alpha=0.12, lw=0)
    if background:
        handles.append(Line2D([], [], color=_BACKGROUND, lw=1.3, ls="--", label="background"))
    if trace is not None:
        ax.plot(trace, np.arange(trace.size), color=_APERTURE, lw=0.9, ls="-.")
        handles.append(Line2D([], [], color=_APERTURE, lw=0.9, ls="-.", label="expected trace"))
    return handles


def plot_cut(
    image: SlitImage,
    row: int,
    extract: Extract1D | None = None,
    extraction: Extraction | None = None,
    *,
    integration: int = 0,
    ax: Axes | None = None,
    label: bool = True,
) -> Axes:
    """Draw one row of the image across the slit, with aperture and background regions.

    Parameters
    ----------
    image : SlitImage
        The image.
    row : int
        Which row.
    extract : Extract1D, optional
        The operator whose regions are shaded.
    extraction : Extraction, optional
        What it gave: its background is drawn as a line over the aperture.
    integration : int
        Which integration of a stack.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw.
    label : bool
        Whether to label the horizontal axis and explain the colours.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Columns along x, surface brightness along y, with the image's errors.
    """
    ax = axes_or_new(ax, (6.0, 3.0))
    if not 0 <= row < image.shape[0]:
        raise LRSError(f"row is {row}, expected 0 to {image.shape[0] - 1}")
    data = _plane(image, integration)[row]
    left, right, _, _ = shown_part(image)
    columns = np.arange(left, right + 1)
    values = data[columns]
    handles: list[Any] = []
    if extract is not None:
        source, background, _, _ = _regions(image, extract)
        for lower, upper in source:
            ax.axvspan(lower[row], upper[row], color=_APERTURE, alpha=0.22, lw=0)
        handles.append(Patch(color=_APERTURE, alpha=0.22, lw=0, label="aperture"))
        for lower, upper in background:
            ax.axvspan(lower[row], upper[row], color=_BACKGROUND, alpha=0.22, lw=0)
        if background:
            handles.append(Patch(color=_BACKGROUND, alpha=0.22, lw=0, label="background"))
        level = _level(extraction, image, row, integration)
        if level is not None and background:
            low = min(float(lower[row]) for lower, _ in source)
            high = max(float(upper[row]) for _, upper in source)
            ax.plot([low, high], [level, level], color=_BACKGROUND, lw=1.8)
            handles.append(Line2D([], [], color=_BACKGROUND, lw=1.8, label="background under it"))
    ax.stairs(values, np.append(columns - 0.5, right + 0.5), baseline=None, color=BLACK, lw=1.0)
    error = _error(image, integration)
    if error is not None:
        ax.errorbar(columns, values, error[row, columns], fmt="none", ecolor="0.35", elinewidth=0.8)
    lost = columns[np.isnan(values) & np.isfinite(image.wavelength[row, columns])]
    if lost.size:
        ax.plot(lost, np.full(lost.size, 0.04), "x", color=_BAD, transform=ax.get_xaxis_transform())
        handles.append(Line2D([], [], color=_BAD, marker="x", ls="none", label="bad pixel"))
    spread = 0.0 if error is None else np.nan_to_num(error[row, columns], posinf=0.0)
    ends = np.concatenate([values - spread, values + spread])
    ends = ends[np.isfinite(ends)]
    if ends.size:
        low, high = float(ends.min()), float(ends.max())
        room = 0.06 * (high - low) or 1.0
        ax.set_ylim(low - 2 * room, high + room)  # crosses of bad pixels below
        if low < 0 < high:
            ax.axhline(0.0, color="0.6", lw=0.7, zorder=0)
    ax.set_xlim(left - 0.5, right + 0.5)
    wave = _row_wavelength(image)[row]
    ax.set_title(f"row {row}, {wave:.2f} µm", fontsize="medium", loc="left", pad=3)
    ax.set_ylabel(f"[{_unit_label(image.unit)}]")
    if label:
        ax.set_xlabel("column (cross-dispersion) [pixel]")
        _outside_legend(ax, handles)
    return ax


def plot_width(
    wavelength: ArrayLike,
    fwhm: ArrayLike,
    line: Sequence[float],
    *,
    pixel_scale: float = 0.11,
    factor: float = 1.5,
    ax: Axes | None = None,
) -> Axes:
    """Draw a width as a function of wavelength, and the line that a tapered aperture follows.

    Parameters
    ----------
    wavelength : array_like
        Wavelengths in micron.
    fwhm : array_like
        Full width at half maximum there in arcsec.
    line : sequence of float
        Coefficients, constant term first, of the aperture's half width in pixels as a function of
        the wavelength in micron.
    pixel_scale : float
        Arcsec a pixel.
    factor : float
        How many times the FWHM the half width is to be.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Half widths in pixels along y, the FWHM in arcsec on the right.
    """
    ax = axes_or_new(ax, (6.5, 4.2))
    wave = np.asarray(wavelength, dtype=float)
    width = np.asarray(fwhm, dtype=float)
    span = np.linspace(min(4.5, wave.min() - 0.5), max(13.5, wave.max() + 0.5), 50)
    fit = np.polynomial.polynomial.polyval(span, line)
    terms = " + ".join(
        f"{c:.4f}" + ("" if power == 0 else " λ" if power == 1 else f" λ^{power}")
        for power, c in enumerate(line)
    )
    ax.plot(wave, factor * width / pixel_scale, "o", color=BLACK, ms=6, label=f"{factor:g} × FWHM")
    ax.plot(span, fit, color=_APERTURE, lw=1.8, label=f"edge of the aperture: {terms}")
    ax.set_xlabel("wavelength λ [µm]")
    ax.set_ylabel("half width [pixel]")
    scale = pixel_scale / factor
    right = ax.secondary_yaxis(
        "right", functions=(lambda p: np.multiply(p, scale), lambda a: np.divide(a, scale))
    )
    right.set_ylabel("FWHM [arcsec]")
    ax.grid(alpha=0.25)
    ax.legend(loc="upper left", frameon=False)
    return ax


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
    factor, unit = _scale(extraction.columns["FLUX"], extraction.units.get("FLUX"))
    flux, error, mask = _series(extraction, "FLUX", integration)
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
    level, level_error, _ = _series(extraction, "BACKGROUND", integration)
    level_unit = _unit_label(extraction.units.get("BACKGROUND"))
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
    pixels = _series(extraction, "NPIXELS", integration)[0]
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
    series = {name: _one_series(one, column, integration) for name, one in extractions.items()}
    series = {plain_text(name): one for name, one in series.items()}
    first = next(iter(series))
    units = {str(one.units.get(column, "")) for one in extractions.values()}
    if len(units) > 1:
        raise LRSError(f"the spectra have different units of {column} ({', '.join(sorted(units))})")
    factor, unit = _scale(series[first][1], units.pop())
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
    top.set_ylabel(f"{_COLUMN_LABELS.get(column, column)}" + (f" [{unit}]" if unit else ""))
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
    wave, middle, _, mask = _one_series(extraction, column, None)
    values = _column(extraction, column)
    factor, unit = _scale(middle, extraction.units.get(column))
    good = ~extraction.mask
    values = np.where(good, values, np.nan)
    low, high = _quiet(np.nanpercentile, values, [16, 84], axis=0)
    top.fill_between(
        wave, low * factor, high * factor, color=BLUE, alpha=0.3, lw=0, label="16 to 84 %"
    )
    top.plot(wave, np.where(mask, np.nan, middle) * factor, color=BLUE, lw=1.0, label="median")
    _limits(top, [middle * factor])
    top.set_ylabel(f"{_COLUMN_LABELS.get(column, column)}" + (f" [{unit}]" if unit else ""))
    top.legend(loc="best", frameon=False, fontsize="small", ncols=2)
    top.set_title(
        plain_text(title or f"{values.shape[0]} integrations"), fontsize="medium", loc="left"
    )
    top.grid(alpha=0.25)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = values / middle
    spread = float(_quiet(np.nanpercentile, np.abs(relative - 1.0), 90)) if good.any() else 0.01
    spread = spread if np.isfinite(spread) and spread > 0 else 0.01
    number = np.arange(1, values.shape[0] + 1)
    edges = np.append(number - 0.5, number[-1] + 0.5)
    mesh = picture.pcolormesh(
        _centre_edges(wave), edges, relative,
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


def plot_product(
    image: SlitImage,
    extract: Extract1D | None = None,
    extraction: Extraction | None = None,
    *,
    rows: Sequence[int] | None = None,
    integration: int | None = None,
    truth: tuple[ArrayLike, ArrayLike] | None = None,
    figure: Figure | None = None,
    title: str | None = None,
) -> Figure:
    """Draw all there is to see of one extraction: the image, cuts across the slit, the spectrum.

    Parameters
    ----------
    image : SlitImage
        The image.
    extract : Extract1D, optional
        The operator whose regions are drawn.
    extraction : Extraction, optional
        What it gave.
    rows : sequence of int, optional
        Rows to cut; three rows spread over the aperture by default.
    integration : int, optional
        Which integration of a stack; None draws the image of the first one, and the spectra of all
        as `plot_stack` does.
    truth : (array_like, array_like), optional
        Wavelengths in micron and fluxes in the unit of the spectrum.
    figure : `~matplotlib.figure.Figure`, optional
        What to fill.
    title : str, optional
        What to write above it; the image's file name by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure.

    Raises
    ------
    LRSError
        As `plot_image`.
    """
    together = extraction is not None and extraction.is_stack and integration is None
    number = 0 if integration is None else integration
    ratios = (1.0, 1.15) if extraction is None else (1.0, 1.05, 2.6 if together else 1.75)
    figure = figure_or_new(figure, (4.0 * sum(ratios) - 0.2 * len(ratios), 8.0))
    parts: Any = figure.subfigures(1, len(ratios), width_ratios=ratios)
    chosen = _spread_rows(image, extract) if rows is None else [int(row) for row in rows]
    plot_image(image, extract, integration=number, ax=parts[0].subplots(), rows=chosen)
    cuts = parts[1].subplots(len(chosen), 1, sharex=True, squeeze=False)[:, 0]
    for ax, row in zip(cuts, sorted(chosen, reverse=True), strict=True):  # as they lie on the image
        plot_cut(image, row, extract, extraction, integration=number, ax=ax, label=ax is cuts[-1])
    if extraction is not None and together:
        plot_stack(extraction, figure=parts[2])
    elif extraction is not None:
        plot_extraction(extraction, truth=truth, integration=number, figure=parts[2])
    where = f", integration {number + 1} of {image.data.shape[0]}" if image.is_stack else ""
    text = title or f"{image.label}: {image.kind}, {image.exp_type}"
    figure.suptitle(plain_text(text + where), fontsize="medium")
    return figure


def save(
    figure: Figure, path: str | PathLike[str], *, overwrite: bool = False, dpi: float = 120
) -> None:
    """Write a picture whole or not at all.

    Parameters
    ----------
    figure : `~matplotlib.figure.Figure`
        The figure.
    path : str or path-like
        The file; its ending says which kind: PNG, PDF, SVG and others.
    overwrite : bool
        Whether an existing file may be replaced.
    dpi : float
        Dots an inch, for pictures that are made of dots.

    Raises
    ------
    WriteError
        If the file exists, its ending is not that of a picture, or it cannot be written.
    """
    from glue_lrs.io._files import atomic_write

    known = figure.canvas.get_supported_filetypes()
    if Path(path).suffix.lstrip(".").lower() not in known:
        raise WriteError(
            f"{path}: ends in {Path(path).suffix!r}, expected a picture: {', '.join(sorted(known))}"
        )
    with atomic_write(path, overwrite) as temporary:
        figure.savefig(temporary, dpi=dpi)


# --- what the pictures are made of -------------------------------------------------------------

_COLUMN_LABELS = {
    "FLUX": "flux",
    "SURF_BRIGHT": "surface brightness",
    "BACKGROUND": "background",
    "NPIXELS": "pixels used",
}


def figure_or_new(figure: Any, size: tuple[float, float]) -> Any:
    if figure is None:
        return Figure(figsize=size, layout="constrained")
    return figure


def axes_or_new(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return figure_or_new(None, size).subplots() if ax is None else ax


def plain_text(name: str) -> str:
    """A name as text: no formula between two "$", nothing that a font cannot be asked for."""
    return name.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")


def _quiet(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a nan-function of numpy; where all is NaN, NaN is the answer and not news."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        return function(*args, **kwargs)


def _plane(image: SlitImage, integration: int) -> NDArray[np.float64]:
    """Data of one integration, bad pixels NaN."""
    which = _which(image, integration)
    data = np.array(image.data[which], dtype=float)
    if image.dq is not None:
        data[(np.asarray(image.dq[which]) & DO_NOT_USE) != 0] = np.nan
    return data


def _error(image: SlitImage, integration: int) -> NDArray[np.float64] | None:
    which = _which(image, integration)
    if image.err is not None:
        error = np.asarray(image.err[which], dtype=float)
        return np.where(error >= 0, error, np.nan)  # it cannot be drawn
    parts = [p for p in (image.var_poisson, image.var_rnoise, image.var_flat) if p is not None]
    if not parts:
        return None
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.sum([np.asarray(p[which], dtype=float) for p in parts], axis=0))


def _which(image: SlitImage, integration: int) -> Any:
    if not image.is_stack:
        if integration:
            raise LRSError(f"{image.label}: has no integration {integration}, as it is one image")
        return ...
    if not 0 <= integration < image.data.shape[0]:
        raise LRSError(
            f"{image.label}: integration is {integration}, expected 0 to {image.data.shape[0] - 1}"
        )
    return integration


def shown_part(image: SlitImage) -> tuple[int, int, int, int]:
    """First and last column and row to show: the bounding box and a little around it."""
    (left, right), (bottom, top) = image.bounding_box
    rows, columns = image.shape
    return (
        max(int(np.floor(left)) - 2, 0),
        min(int(np.ceil(right)) + 2, columns - 1),
        max(int(np.floor(bottom)) - 4, 0),
        min(int(np.ceil(top)) + 4, rows - 1),
    )


def _stretch(data: NDArray[np.float64]) -> AsinhNorm:
    """Asinh around the middle: linear within the noise, logarithmic beyond, for both signs."""
    finite = data[np.isfinite(data)]
    if finite.size == 0:
        return AsinhNorm(1.0, -1.0, 1.0)
    low, middle, high = (float(v) for v in np.percentile(finite, [0.5, 50, 99.7]))
    scatter = 1.4826 * float(np.median(np.abs(finite - middle)))
    if high <= low:
        low, high = low - 1.0, high + 1.0
    return AsinhNorm(max(2.0 * scatter, 1e-3 * (high - low)), low, high)


def _asinh_ticks(norm: Any) -> list[float]:
    """About five round values that stand apart on an asinh scale, 0 among them if it is there."""
    low, high = float(norm.vmin), float(norm.vmax)
    top = max(abs(low), abs(high))
    steps = [s * 10.0**p for p in range(-9, 10) for s in (1.0, 2.0, 5.0)]
    candidates = [0.0, *(sign * s for s in reversed(steps) if s <= top for sign in (1.0, -1.0))]
    chosen: list[float] = []
    for value in candidates:
        if not low <= value <= high:
            continue
        position = float(norm(value))
        if all(abs(position - float(norm(other))) > 0.16 for other in chosen):
            chosen.append(value)
    return sorted(chosen)


def _row_wavelength(image: SlitImage) -> NDArray[np.float64]:
    """Mean wavelength of each row, shape (row,); NaN where it has none."""
    return np.asarray(_quiet(np.nanmean, np.asarray(image.wavelength, dtype=float), axis=1))


def wavelength_axis(ax: Axes, image: SlitImage, bottom: int, top: int) -> None:
    """Whole wavelengths beside the rows, as many as there is room for."""
    wave = _row_wavelength(image)
    rows = np.flatnonzero(np.isfinite(wave))
    axis = ax.secondary_yaxis("right")
    axis.set_ylabel("wavelength [µm]")
    ticks: dict[str, float] = {}
    if rows.size > 1:
        order = np.argsort(wave[rows], kind="stable")
        sorted_wave, sorted_rows = wave[rows][order], rows[order].astype(float)
        first, last = np.ceil(sorted_wave[0]), np.floor(sorted_wave[-1])
        for value in np.arange(last, first - 1, -1.0):
            row = float(np.interp(value, sorted_wave, sorted_rows))
            room = all(abs(row - other) > 0.035 * (top - bottom) for other in ticks.values())
            if room and bottom <= row <= top:
                ticks[f"{value:g}"] = row
    axis.set_yticks(list(ticks.values()), list(ticks))


def _regions(
    image: SlitImage, extract: Extract1D
) -> tuple[list[Any], list[Any], NDArray[np.intp], NDArray[np.float64] | None]:
    """Edges of aperture and background as positions in every row, the rows used, and the trace."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)  # the extraction has told, or will
        placement = extract.place(image)
        weights = extract.aperture.weights(image.wavelength, placement.trace, placement.offset)
        source = extract.aperture.regions(image.wavelength, placement.trace, placement.offset)
    if weights.empty:
        raise LRSError(
            f"{image.label}: the source aperture ({weights.lower:.2f} to {weights.upper:.2f}) has "
            f"no pixel on the image, whose columns are 0 to {image.shape[1] - 1}"
        )
    background: list[Limits] = []
    if extract.background is not None and extract.subtract_background is not False:
        background = polynomial_regions(
            "bkg_coeff",
            extract.background.bkg_coeff,
            extract.background.independent_var,
            image.wavelength,
            placement.background_offset,
        )
    rows = np.arange(weights.rows.start, weights.rows.stop)
    rows = rows[np.isfinite(_row_wavelength(image)[rows])]
    if rows.size == 0:
        raise LRSError(f"{image.label}: no pixel of the aperture has a wavelength")
    shape = image.shape
    return (
        [_edges(limits, shape) for limits in source],
        [_edges(limits, shape) for limits in background],
        rows,
        placement.trace,
    )


def _edges(
    limits: Limits, shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions of the two edges in every row: half a pixel outside the inclusive limits."""
    out = []
    for edge, half in zip(limits, (-0.5, 0.5), strict=True):
        values = np.broadcast_to(
            np.asarray(edge, dtype=float), np.broadcast_shapes(np.shape(edge), (shape[0], 1))
        )
        if values.shape[1] > 1:
            # A function of each pixel's own wavelength: what counts is the pixel at the edge.
            column = _quiet(np.nanmean, values, axis=1)
            column = np.clip(np.nan_to_num(np.round(column)), 0, values.shape[1] - 1).astype(int)
            values = np.take_along_axis(values, column[:, np.newaxis], axis=1)
        out.append(values[:, 0] + half)
    return out[0], out[1]


def _spread_rows(image: SlitImage, extract: Extract1D | None) -> list[int]:
    """Three rows that show the slit: at an eighth, a half and seven eighths of those in use."""
    if extract is not None:
        rows = _regions(image, extract)[2]
    else:
        rows = np.flatnonzero(np.isfinite(_row_wavelength(image)))
    if rows.size == 0:
        raise LRSError(f"{image.label}: no row has a wavelength")
    chosen = [int(rows[round(part * (rows.size - 1))]) for part in (0.125, 0.5, 0.875)]
    return sorted(set(chosen))


def _level(
    extraction: Extraction | None, image: SlitImage, row: int, integration: int
) -> float | None:
    """The mean background under the aperture in a row."""
    if extraction is None:
        return None
    values = _series(extraction, "BACKGROUND", integration)[0]
    at = _quiet(np.abs, extraction.wavelength - _row_wavelength(image)[row])
    if not np.isfinite(at).any():
        return None
    return float(values[int(np.nanargmin(at))])


def _column(extraction: Extraction, column: str) -> NDArray[np.float64]:
    name = column.upper()
    if name not in extraction.columns or name == "WAVELENGTH":
        known = [c for c in COLUMNS[1:] if c in extraction.columns]
        raise LRSError(
            f"column is {column!r}{nearest(column, [c.lower() for c in known])}, expected one of "
            f"{', '.join(known)}"
        )
    return np.asarray(extraction.columns[name], dtype=float)


def _series(
    extraction: Extraction, column: str, integration: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.bool_]]:
    """A column of one integration, its error, and the mask."""
    pick: Any = ...
    if extraction.is_stack:
        number = extraction.columns["FLUX"].shape[0]
        if not 0 <= integration < number:
            raise LRSError(f"integration is {integration}, expected 0 to {number - 1}")
        pick = integration
    values = _column(extraction, column)[pick]
    error = ERROR_OF.get(column.upper())
    found = _column(extraction, error)[pick] if error in extraction.columns else None
    return values, found, np.asarray(extraction.mask[pick])


def _one_series(
    extraction: Extraction, column: str, integration: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.bool_]]:
    """Wavelength, a column, its error, the mask; without an integration a stack's median."""
    if not extraction.is_stack:
        return (extraction.wavelength, *_series(extraction, column, 0))
    if integration is not None:
        return (extraction.wavelength, *_series(extraction, column, integration))
    mask = extraction.mask
    values = np.where(mask, np.nan, _column(extraction, column))
    middle = _quiet(np.nanmedian, values, axis=0)
    return extraction.wavelength, middle, None, np.all(mask, axis=0)


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
            wave[mask], np.full(int(mask.sum()), 0.02), "|", color=_BAD, ms=8, label="masked",
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


def _scale(values: NDArray[np.float64], unit: str | None) -> tuple[float, str]:
    """Factor and unit that make fluxes readable numbers: Jy, mJy, µJy or nJy."""
    if unit != "Jy":
        return 1.0, _unit_label(unit)
    finite = np.abs(values[np.isfinite(values)])
    typical = float(np.percentile(finite, 90)) if finite.size else 1.0
    for name, factor in (("Jy", 1.0), ("mJy", 1e3), ("µJy", 1e6)):
        if typical * factor >= 0.5:
            return factor, name
    return 1e9, "nJy"


def _unit_label(unit: Any) -> str:
    if unit is None:
        return ""
    parsed = u.Unit(unit)
    text = parsed.to_string()
    return text.replace(" ", "").replace("um", "µm")


def _interpolate(
    wave: NDArray[np.float64], base_wave: NDArray[np.float64], base: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Values at other wavelengths, linear between the neighbours, NaN outside."""
    known = np.isfinite(base_wave) & np.isfinite(base)
    order = np.argsort(base_wave[known])
    return np.interp(wave, base_wave[known][order], base[known][order], left=np.nan, right=np.nan)


def _centre_edges(wave: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of bins around centres."""
    if wave.size == 1:
        return np.array([wave[0] - 0.01, wave[0] + 0.01])
    middle = (wave[1:] + wave[:-1]) / 2.0
    return np.concatenate([[2 * wave[0] - middle[0]], middle, [2 * wave[-1] - middle[-1]]])


def _outside_legend(ax: Axes, handles: list[Any]) -> None:
    if handles:
        ax.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=2, frameon=False,
            fontsize="small", columnspacing=1.0,
        )  # fmt: skip
