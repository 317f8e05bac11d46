"""Pictures: an image with its aperture, cuts across the slit, spectra, and what compares them.

Every function draws on Matplotlib's objects and returns them; none of them uses pyplot. What takes
an ``ax`` draws there, what takes a ``figure`` fills it; without one a new figure is made.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import AsinhNorm, ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike, NDArray

from glue_lrs.apertures.edges import polynomial_regions
from glue_lrs.errors import LRSError, LRSWarning
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.plotting.style import (
    APERTURE_STYLE,
    BACKGROUND_STYLE,
    BAD_PIXEL_STYLE,
    BLACK,
    BOX_STYLE,
    NO_DATA,
    ORANGE,
    axes_or_new,
    legend_above,
    outside_legend,
    quiet_matplotlib,
    row_wavelength,
    time_series,
    unit_label,
    wavelength_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from glue_lrs.apertures.edges import Limits
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction

__all__ = ["plot_cut", "plot_image", "plot_width", "shown_part", "spread_rows"]


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
        ax.imshow(marks, cmap=ListedColormap([BAD_PIXEL_STYLE]), vmin=0, vmax=1, **settings)
        handles.append(Patch(color=BAD_PIXEL_STYLE, label="bad pixel"))
    (x0, x1), (y0, y1) = image.bounding_box
    ax.add_patch(
        Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=BOX_STYLE, lw=1.4, ls=":")
    )
    handles.append(Line2D([], [], color=BOX_STYLE, lw=1.4, ls=":", label="bounding box"))
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
    bar.set_label(f"surface brightness [{unit_label(image.unit)}]")
    bar.set_ticks(_asinh_ticks(picture.norm), minor=False)
    bar.ax.minorticks_off()
    bar.ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if legend:
        legend_above(ax, handles)
    return ax


def _draw_regions(ax: Axes, image: SlitImage, extract: Extract1D) -> list[Any]:
    """Draw the edges of aperture and background; return the entries of a legend."""
    source, background, rows, trace = _regions(image, extract)
    handles = [Line2D([], [], color=APERTURE_STYLE, lw=1.6, label="aperture")]
    y = np.stack([rows - 0.5, rows + 0.5], axis=1).ravel()  # both ends of each row
    for lower, upper in source:
        for edge in (lower, upper):
            ax.plot(np.repeat(edge[rows], 2), y, color=APERTURE_STYLE, lw=1.6)
    for lower, upper in background:
        for edge in (lower, upper):
            ax.plot(np.repeat(edge[rows], 2), y, color=BACKGROUND_STYLE, lw=1.3, ls="--")
        ax.fill_betweenx(rows, lower[rows], upper[rows], color=BACKGROUND_STYLE, alpha=0.12, lw=0)
    if background:
        handles.append(Line2D([], [], color=BACKGROUND_STYLE, lw=1.3, ls="--", label="background"))
    if trace is not None:
        ax.plot(trace, np.arange(trace.size), color=APERTURE_STYLE, lw=0.9, ls="-.")
        handles.append(
            Line2D([], [], color=APERTURE_STYLE, lw=0.9, ls="-.", label="expected trace")
        )
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
            ax.axvspan(lower[row], upper[row], color=APERTURE_STYLE, alpha=0.22, lw=0)
        handles.append(Patch(color=APERTURE_STYLE, alpha=0.22, lw=0, label="aperture"))
        for lower, upper in background:
            ax.axvspan(lower[row], upper[row], color=BACKGROUND_STYLE, alpha=0.22, lw=0)
        if background:
            handles.append(Patch(color=BACKGROUND_STYLE, alpha=0.22, lw=0, label="background"))
        level = _level(extraction, image, row, integration)
        if level is not None and background:
            low = min(float(lower[row]) for lower, _ in source)
            high = max(float(upper[row]) for _, upper in source)
            ax.plot([low, high], [level, level], color=BACKGROUND_STYLE, lw=1.8)
            handles.append(
                Line2D([], [], color=BACKGROUND_STYLE, lw=1.8, label="background under it")
            )
    ax.stairs(values, np.append(columns - 0.5, right + 0.5), baseline=None, color=BLACK, lw=1.0)
    error = _error(image, integration)
    if error is not None:
        ax.errorbar(columns, values, error[row, columns], fmt="none", ecolor="0.35", elinewidth=0.8)
    lost = columns[np.isnan(values) & np.isfinite(image.wavelength[row, columns])]
    if lost.size:
        ax.plot(
            lost,
            np.full(lost.size, 0.04),
            "x",
            color=BAD_PIXEL_STYLE,
            transform=ax.get_xaxis_transform(),
        )
        handles.append(
            Line2D([], [], color=BAD_PIXEL_STYLE, marker="x", ls="none", label="bad pixel")
        )
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
    wave = row_wavelength(image)[row]
    ax.set_title(f"row {row}, {wave:.2f} µm", fontsize="medium", loc="left", pad=3)
    ax.set_ylabel(f"[{unit_label(image.unit)}]")
    if label:
        ax.set_xlabel("column (cross-dispersion) [pixel]")
        outside_legend(ax, handles)
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
    ax.plot(span, fit, color=APERTURE_STYLE, lw=1.8, label=f"edge of the aperture: {terms}")
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
    rows = rows[np.isfinite(row_wavelength(image)[rows])]
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
            column = quiet_matplotlib(np.nanmean, values, axis=1)
            column = np.clip(np.nan_to_num(np.round(column)), 0, values.shape[1] - 1).astype(int)
            values = np.take_along_axis(values, column[:, np.newaxis], axis=1)
        out.append(values[:, 0] + half)
    return out[0], out[1]


def spread_rows(image: SlitImage, extract: Extract1D | None) -> list[int]:
    """Three rows that show the slit: at an eighth, a half and seven eighths of those in use."""
    if extract is not None:
        rows = _regions(image, extract)[2]
    else:
        rows = np.flatnonzero(np.isfinite(row_wavelength(image)))
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
    values = time_series(extraction, "BACKGROUND", integration)[0]
    at = quiet_matplotlib(np.abs, extraction.wavelength - row_wavelength(image)[row])
    if not np.isfinite(at).any():
        return None
    return float(values[int(np.nanargmin(at))])
