"""Functions that draw an image with its aperture, cuts across the slit, and tapered widths.

The functions draw into the given axes or figure and return it. If none is given, they make a new
figure, without pyplot.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.colors import AsinhNorm, ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike, NDArray

from glue_lrs.apertures.edges import polynomial_regions
from glue_lrs.errors import LRSError, LRSWarning
from glue_lrs.image.pixels import lost_pixels
from glue_lrs.instrument import PIXEL_SCALE
from glue_lrs.plotting.spectra import column_and_error
from glue_lrs.plotting.style import (
    APERTURE_STYLE,
    BACKGROUND_STYLE,
    BAD_PIXEL_STYLE,
    BLACK,
    BOX_STYLE,
    NO_DATA,
    ORANGE,
    asinh_ticks,
    axes_or_new,
    legend_above,
    legend_below,
    unit_label,
)

if TYPE_CHECKING:
    from types import EllipsisType

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from glue_lrs._utils.typing import Floats
    from glue_lrs.apertures.edges import Limits
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction

_CUT_LINE: dict[str, Any] = {"color": ORANGE, "lw": 0.8, "ls": (0, (6, 3))}


# --- image -------------------------------------------------------------------------------------


def plot_image(
    image: SlitImage,
    extract: Extract1D | None = None,
    *,
    integration: int = 0,
    ax: Axes | None = None,
    rows: Sequence[int] = (),
    legend: bool = True,
) -> Axes:
    """Draw an image with the aperture, the background regions and the bounding box.

    Parameters
    ----------
    image : SlitImage
        Image to draw.
    extract : Extract1D, optional
        `Extract1D` operator whose aperture and background regions are drawn at the positions that
        they have on this image.
    integration : int
        Index of the integration of a stack, counted from 0.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw into.
    rows : sequence of int
        Rows to mark with a line, such as the rows of cuts.
    legend : bool
        Whether to add a legend.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Axes with columns along x, rows along y, and wavelengths on the right. The surface
        brightness has an asinh scale.

    Raises
    ------
    LRSError
        If the integration does not exist, or the aperture has no pixel on the image.
    """
    ax = axes_or_new(ax, (4.5, 8.0))
    data = _data_plane(image, integration)
    norm: Any = _asinh_norm(data[_displayed_part(image)])
    bad = np.isnan(data) & np.isfinite(image.wavelength)
    picture, handles = draw_plane(ax, image, data, bad, cmap="gray_r", norm=norm)
    (x0, x1), (y0, y1) = image.bounding_box
    box: dict[str, Any] = {"lw": 1.4, "ls": ":"}
    ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=BOX_STYLE, **box))
    handles.append(Line2D([], [], color=BOX_STYLE, label="bounding box", **box))
    if extract is not None:
        handles = [*_draw_regions(ax, image, extract), *handles]
    for row in rows:
        ax.axhline(row, **_CUT_LINE)
    if len(rows):
        handles.append(Line2D([], [], label="cut", **_CUT_LINE))
    left, right, bottom, top = picture.get_extent()
    # The bounding box may reach the edge of the image.
    ax.set_xlim(min(left, x0 - 2), max(right, x1 + 2))
    ax.set_ylim(min(bottom, y0 - 4), max(top, y1 + 4))
    ax.set_xlabel("column (cross-dispersion) [pixel]")
    ax.set_ylabel("row (dispersion) [pixel]")
    wavelength_axis(ax, image)
    bar = ax.figure.colorbar(picture, ax=ax, location="bottom", pad=0.01, fraction=0.03, aspect=28)
    bar.set_label(f"surface brightness [{unit_label(image.unit)}]")
    bar.set_ticks(asinh_ticks(norm.vmin, norm.vmax, norm.linear_width, gap=0.16), minor=False)
    bar.ax.minorticks_off()
    bar.ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if legend:
        legend_above(ax, handles)
    return ax


def draw_plane(
    ax: Axes, image: SlitImage, plane: Floats, bad: NDArray[np.bool_], **options: Any
) -> tuple[AxesImage, list[Artist]]:
    """Draw the part of an array of pixel values around the bounding box, and mark bad pixels.

    Parameters
    ----------
    ax : `~matplotlib.axes.Axes`
        Axes to draw into.
    image : SlitImage
        Image to which the pixels belong; it provides the bounding box.
    plane : ndarray
        Pixel values to draw, with the shape of the image.
    bad : ndarray of bool
        Mask of the pixels to mark.
    **options
        Keyword arguments of `~matplotlib.axes.Axes.imshow` for the colours and their scale.

    Returns
    -------
    `~matplotlib.image.AxesImage`, list of `~matplotlib.artist.Artist`
        The drawn pixel values, and the legend handle for bad pixels if there are any.
    """
    part = rows, columns = _displayed_part(image)
    geometry: dict[str, Any] = {
        "origin": "lower",
        "aspect": "auto",
        "interpolation": "nearest",
        "extent": (columns.start - 0.5, columns.stop - 0.5, rows.start - 0.5, rows.stop - 0.5),
    }
    ax.set_facecolor(NO_DATA)
    picture = ax.imshow(plane[part], **options, **geometry)
    marks = np.where(bad[part], 1.0, np.nan)
    if np.isnan(marks).all():
        return picture, []
    ax.imshow(marks, cmap=ListedColormap([BAD_PIXEL_STYLE]), vmin=0, vmax=1, **geometry)
    return picture, [Patch(color=BAD_PIXEL_STYLE, label="bad pixel")]


def wavelength_axis(ax: Axes, image: SlitImage) -> None:
    """Add an axis on the right with ticks at whole microns, omitting overlapping labels."""
    displayed, _ = _displayed_part(image)
    bottom, top = displayed.start, displayed.stop - 1
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
            distinct = all(abs(row - other) > 0.035 * (top - bottom) for other in ticks.values())
            if distinct and bottom <= row <= top:
                ticks[f"{value:g}"] = row
    axis.set_yticks(list(ticks.values()), list(ticks))


def _draw_regions(ax: Axes, image: SlitImage, extract: Extract1D) -> list[Artist]:
    """Draw the edges of the aperture and the background regions; return the legend handles."""
    regions = _regions(image, extract)
    rows = regions.rows
    handles: list[Artist] = [Line2D([], [], color=APERTURE_STYLE, lw=1.6, label="aperture")]
    y = np.stack([rows - 0.5, rows + 0.5], axis=1).ravel()  # both ends of each row
    for lower, upper in regions.aperture:
        for edge in (lower, upper):
            ax.plot(np.repeat(edge[rows], 2), y, color=APERTURE_STYLE, lw=1.6)
    for lower, upper in regions.background:
        for edge in (lower, upper):
            ax.plot(np.repeat(edge[rows], 2), y, color=BACKGROUND_STYLE, lw=1.3, ls="--")
        ax.fill_betweenx(rows, lower[rows], upper[rows], color=BACKGROUND_STYLE, alpha=0.12, lw=0)
    if regions.background:
        handles.append(Line2D([], [], color=BACKGROUND_STYLE, lw=1.3, ls="--", label="background"))
    if regions.trace is not None:
        line: dict[str, Any] = {"color": APERTURE_STYLE, "lw": 0.9, "ls": "-."}
        ax.plot(regions.trace, np.arange(regions.trace.size), **line)
        handles.append(Line2D([], [], label="expected trace", **line))
    return handles


def _displayed_part(image: SlitImage) -> tuple[slice, slice]:
    """Return the rows and columns to display: the bounding box with a margin."""
    (left, right), (bottom, top) = image.bounding_box
    rows, columns = image.shape
    return (
        slice(max(int(np.floor(bottom)) - 4, 0), min(int(np.ceil(top)) + 5, rows)),
        slice(max(int(np.floor(left)) - 2, 0), min(int(np.ceil(right)) + 3, columns)),
    )


def _asinh_norm(data: Floats) -> AsinhNorm:
    """Return an asinh colour scale: linear within the noise, logarithmic beyond, for both signs."""
    finite = data[np.isfinite(data)]
    if finite.size == 0:
        return AsinhNorm(1.0, -1.0, 1.0)
    low, middle, high = (float(v) for v in np.percentile(finite, [0.5, 50, 99.7]))
    scatter = 1.4826 * float(np.median(np.abs(finite - middle)))
    if high <= low:
        low, high = low - 1.0, high + 1.0
    return AsinhNorm(max(2.0 * scatter, 1e-3 * (high - low)), low, high)


# --- cut ---------------------------------------------------------------------------------------


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
    """Draw one row of an image, a cut across the slit, with aperture and background regions.

    Parameters
    ----------
    image : SlitImage
        Image from which the row is taken.
    row : int
        Row to draw.
    extract : Extract1D, optional
        `Extract1D` operator whose aperture and background regions are shaded.
    extraction : Extraction, optional
        Result of the extraction from `image`. Its background is drawn as a horizontal line across
        the aperture.
    integration : int
        Index of the integration of a stack, counted from 0.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw into.
    label : bool
        Whether to label the horizontal axis and add a legend.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Axes with columns along x and surface brightness, with the errors of the pixels, along y.

    Raises
    ------
    LRSError
        If the row or integration does not exist, or the aperture has no pixel on the image.
    """
    ax = axes_or_new(ax, (6.0, 3.0))
    if not 0 <= row < image.shape[0]:
        raise LRSError(f"row is {row}, expected 0 to {image.shape[0] - 1}")
    part = _displayed_part(image)[1]
    columns = np.arange(part.start, part.stop)
    values = _data_plane(image, integration)[row, columns]
    handles: list[Artist] = []
    if extract is not None:
        regions = _regions(image, extract)
        handles += _shade_regions(ax, regions, row)
        level = _background_level(extraction, image, row, integration)
        if level is not None and regions.background:
            low = min(float(lower[row]) for lower, _ in regions.aperture)
            high = max(float(upper[row]) for _, upper in regions.aperture)
            line: dict[str, Any] = {"color": BACKGROUND_STYLE, "lw": 1.8}
            ax.plot([low, high], [level, level], **line)
            handles.append(Line2D([], [], label="background level", **line))
    ax.stairs(values, np.append(columns - 0.5, part.stop - 0.5), baseline=None, color=BLACK, lw=1.0)
    plane = _error_plane(image, integration)
    error = np.zeros(columns.size) if plane is None else plane[row, columns]
    if plane is not None:
        ax.errorbar(columns, values, error, fmt="none", ecolor="0.35", elinewidth=0.8)
    bad = columns[np.isnan(values) & np.isfinite(image.wavelength[row, columns])]
    if bad.size:
        marker: dict[str, Any] = {"marker": "x", "ls": "none", "color": BAD_PIXEL_STYLE}
        ax.plot(bad, np.full(bad.size, 0.04), transform=ax.get_xaxis_transform(), **marker)
        handles.append(Line2D([], [], label="bad pixel", **marker))
    _set_cut_limits(ax, values, np.nan_to_num(error, posinf=0.0))
    ax.set_xlim(part.start - 0.5, part.stop - 0.5)
    wave = _row_wavelength(image)[row]
    ax.set_title(f"row {row}, {wave:.2f} µm", fontsize="medium", loc="left", pad=3)
    ax.set_ylabel(f"[{unit_label(image.unit)}]")
    if label:
        ax.set_xlabel("column (cross-dispersion) [pixel]")
        legend_below(ax, handles)
    return ax


def representative_rows(image: SlitImage, extract: Extract1D | None) -> list[int]:
    """Return rows for cuts, at 1/8, 1/2 and 7/8 of the aperture's rows or else the image's rows."""
    if extract is not None:
        rows = _regions(image, extract).rows
    else:
        rows = np.flatnonzero(np.isfinite(_row_wavelength(image)))
    if rows.size == 0:
        raise LRSError("no row has a wavelength", subject=image.label)
    return sorted({int(rows[round(part * (rows.size - 1))]) for part in (0.125, 0.5, 0.875)})


def _shade_regions(ax: Axes, regions: _Regions, row: int) -> list[Artist]:
    """Shade the columns of the aperture and the background in a row; return legend handles."""
    handles: list[Artist] = []
    for edges, colour, label in (
        (regions.aperture, APERTURE_STYLE, "aperture"),
        (regions.background, BACKGROUND_STYLE, "background"),
    ):
        shade: dict[str, Any] = {"color": colour, "alpha": 0.22, "lw": 0}
        for lower, upper in edges:
            ax.axvspan(lower[row], upper[row], **shade)
        if edges:
            handles.append(Patch(label=label, **shade))
    return handles


def _set_cut_limits(ax: Axes, values: Floats, error: Floats) -> None:
    """Set y limits that include all error bars and leave room below for bad-pixel markers."""
    ends = np.concatenate([values - error, values + error])
    ends = ends[np.isfinite(ends)]
    if ends.size:
        low, high = float(ends.min()), float(ends.max())
        margin = 0.06 * (high - low) or 1.0
        ax.set_ylim(low - 2 * margin, high + margin)
        if low < 0 < high:
            ax.axhline(0.0, color="0.6", lw=0.7, zorder=0)


def _background_level(
    extraction: Extraction | None, image: SlitImage, row: int, integration: int
) -> float | None:
    """Return the background of an extraction at the wavelength closest to that of an image row."""
    if extraction is None:
        return None
    values = column_and_error(extraction, "BACKGROUND", integration)[0]
    distance = np.abs(extraction.wavelength - _row_wavelength(image)[row])
    if not np.isfinite(distance).any():
        return None
    return float(values[int(np.nanargmin(distance))])


# --- tapered aperture --------------------------------------------------------------------------


def plot_width(
    wavelength: ArrayLike,
    fwhm: ArrayLike,
    line: Sequence[float],
    *,
    pixel_scale: float = PIXEL_SCALE,
    factor: float = 1.5,
    ax: Axes | None = None,
) -> Axes:
    """Draw the FWHM versus wavelength, and the polynomial for the width of a tapered aperture.

    Parameters
    ----------
    wavelength : array_like
        Wavelengths in micron.
    fwhm : array_like
        FWHM at these wavelengths in arcsec.
    line : sequence of float
        Coefficients, constant term first, of the polynomial in wavelength (micron) that gives the
        half width of the aperture in pixels.
    pixel_scale : float
        Width of a pixel in arcsec.
    factor : float
        Half width of the aperture in units of the FWHM.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw into.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Axes with wavelength along x, half widths in pixels along y, and the FWHM in arcsec on the
        right.
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


# --- planes and regions ------------------------------------------------------------------------


def _data_plane(image: SlitImage, integration: int) -> Floats:
    """Return the data of an integration, with bad pixels set to NaN."""
    index = _plane_index(image, integration)
    data = np.array(image.data[index], dtype=float)
    data[lost_pixels(image, index)] = np.nan
    return data


def _error_plane(image: SlitImage, integration: int) -> Floats | None:
    index = _plane_index(image, integration)
    if image.err is not None:
        error = np.asarray(image.err[index], dtype=float)
        return np.where(error >= 0, error, np.nan)  # negative errors cannot be drawn
    parts = [p for p in (image.var_poisson, image.var_rnoise, image.var_flat) if p is not None]
    if not parts:
        return None
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.sum([np.asarray(p[index], dtype=float) for p in parts], axis=0))


def _plane_index(image: SlitImage, integration: int) -> int | EllipsisType:
    if not image.is_stack:
        if integration:
            raise LRSError(
                f"has no integration {integration}, as it is one image", subject=image.label
            )
        return ...
    if not 0 <= integration < image.data.shape[0]:
        raise LRSError(
            f"integration is {integration}, expected 0 to {image.data.shape[0] - 1}",
            subject=image.label,
        )
    return integration


def _row_wavelength(image: SlitImage) -> Floats:
    """Return the mean wavelength of each row, shape (row,); NaN in rows without a wavelength."""
    return _nanmean(np.asarray(image.wavelength, dtype=float))


def _nanmean(values: Floats) -> Floats:
    """Compute `numpy.nanmean` along each row, without a warning for rows of NaN."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(values, axis=1) / known.sum(axis=1))


class _Regions(NamedTuple):
    """Lower and upper edges of the aperture and background regions in every row, and the trace."""

    aperture: list[tuple[Floats, Floats]]
    background: list[tuple[Floats, Floats]]
    #: Rows of the aperture that have a wavelength.
    rows: NDArray[np.intp]
    trace: Floats | None


def _regions(image: SlitImage, extract: Extract1D) -> _Regions:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)  # the extraction issues these warnings
        placement = extract.place(image)
        weights = extract.aperture.weights(image.wavelength, placement.trace, placement.offset)
        aperture = extract.aperture.regions(image.wavelength, placement.trace, placement.offset)
    if weights.empty:
        raise LRSError(
            f"the source aperture ({weights.lower:.2f} to {weights.upper:.2f}) has "
            f"no pixel on the image, whose columns are 0 to {image.shape[1] - 1}",
            subject=image.label,
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
        raise LRSError("no pixel of the aperture has a wavelength", subject=image.label)
    return _Regions(
        [_edges(limits, image.shape[0]) for limits in aperture],
        [_edges(limits, image.shape[0]) for limits in background],
        rows,
        placement.trace,
    )


def _edges(limits: Limits, rows: int) -> tuple[Floats, Floats]:
    """Return the positions of both edges in every row, half a pixel outside the pixel limits."""
    edges = []
    for limit, half in zip(limits, (-0.5, 0.5), strict=True):
        values = np.broadcast_to(
            np.asarray(limit, dtype=float), np.broadcast_shapes(np.shape(limit), (rows, 1))
        )
        if values.shape[1] > 1:
            # The limit is a polynomial in wavelength, with a value for each pixel: take the value
            # at the pixel on the edge.
            edge = np.nan_to_num(np.round(_nanmean(values)))
            column = np.clip(edge, 0, values.shape[1] - 1).astype(int)
            values = np.take_along_axis(values, column[:, np.newaxis], axis=1)
        edges.append(values[:, 0] + half)
    return edges[0], edges[1]
