"""Functions that draw an image with its aperture, cuts along the slit, and tapered widths.

The functions draw into the given axes, or into the current axes of pyplot, and return the axes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import chain, cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.colors import ListedColormap
from numpy.typing import ArrayLike, NDArray

from glue_lrs._utils.validation import check_type
from glue_lrs.apertures.edges import polynomial_regions
from glue_lrs.errors import LRSError, LRSWarning, quoted
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.pixels import PLANES, lost_pixels
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import PIXEL_SCALE
from glue_lrs.plotting import grey, style
from glue_lrs.plotting.spectra import series
from glue_lrs.spectra.extraction import Extraction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar

    from glue_lrs._utils.typing import Bools, Floats
    from glue_lrs.apertures.edges import Limits
    from glue_lrs.image.slit_image import ImageSource
    from glue_lrs.plotting.style import AxisLimits

#: Range of the positions of an edge in several rows, in columns, up to which one position is drawn
#: for all of them. A smaller range is not visible.
_STRAIGHT = 0.05

#: Colours of several apertures on one image. Blue is that of background regions.
_APERTURES = (style.APERTURE, style.SKY, style.GREEN, style.ORANGE, style.PURPLE)

# --- image -------------------------------------------------------------------------------------


@style.no_figure_on_error
def plot_image(
    image: ImageSource,
    extract: Extract1D | Mapping[str, Extract1D] | None = None,
    *,
    integration: int = 0,
    ax: Axes | None = None,
    rows: Sequence[int] = (),
    stretch: str = "asinh",
    xlim: AxisLimits = None,
    ylim: AxisLimits = None,
    legend: bool = True,
) -> Axes:
    """Draw an image with the aperture, the background regions and the bounding box.

    Parameters
    ----------
    image : SlitImage, `~specutils.Spectrum`, str or path-like
        Image to draw, or the path of its file.
    extract : Extract1D or mapping of str to Extract1D, optional
        `Extract1D` operator whose aperture and background regions are drawn at the positions that
        they have on this image; or several operators, with the labels of their apertures as keys.
    integration : int
        Index of the integration of a stack, counted from 0.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw into; by default, the current axes of pyplot.
    rows : sequence of int
        Rows to mark with a line, such as the rows of cuts.
    stretch : {"asinh", "linear", "sqrt", "log"}
        Stretch of the grey scale, whose limits follow from the displayed part of the image
        (`glue_lrs.plotting.grey.image_limits`).
    xlim, ylim : (float, float), optional
        Columns and rows to display; by default, the bounding box with a margin.
    legend : bool
        Whether to add a legend.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Axes with columns along x, rows along y, wavelengths on the right, and the image as
        ``ax.images[0]``.

    Raises
    ------
    LRSError
        If the integration or the stretch does not exist, or an aperture has no pixel on the image.

    Examples
    --------
    ::

        glue_lrs.plot_image(image, {"8 pixels": default, "12 pixels": wider})
    """
    image = SlitImage.from_any(image)
    style.check_limits(xlim, ylim)
    chosen = [] if np.size(rows) == 0 else checked_rows(image, rows)
    operators = _labelled(extract)
    data = _data(image, integration)
    norm = grey.grey_norm(_single(image, integration), stretch)
    for operator in operators.values():
        operator.weights(image, operator.place(image))  # raises before a figure is made
    ax = style.axes_or_current(ax, (4.5, 8.0))
    bad = np.isnan(data) & np.isfinite(image.wavelength)
    for (name, operator), colour in zip(operators.items(), cycle(_APERTURES), strict=False):
        _draw_regions(ax, image, operator, colour, name)
    label = f"surface brightness [{style.unit_label(image.unit)}]"
    bar = draw_plane(ax, image, data, bad, label, cmap=grey.CMAP, norm=norm)
    bar.set_ticks(style.round_ticks(norm.vmin, norm.vmax, norm, gap=0.16), minor=False)
    bar.ax.minorticks_off()
    bar.ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    (x0, x1), (y0, y1) = image.bounding_box
    x, y = [x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0]
    ax.plot(x, y, color=style.BOX, lw=1.4, ls=":", label="bounding box")
    for row in chosen:
        ax.axhline(row, color=style.ORANGE, lw=0.8, ls=(0, (6, 3)), label="cut")
    # The bounding box may extend to the edge of the image, so leave a margin around both.
    displayed, columns = grey.displayed_part(image)
    ax.set_xlim(min(columns.start - 0.5, x0 - 2), max(columns.stop - 0.5, x1 + 2))
    ax.set_ylim(min(displayed.start - 0.5, y0 - 4), max(displayed.stop - 0.5, y1 + 4))
    style.set_limits(ax, xlim, ylim)
    ax.set_ylabel("row (dispersion) [pixel]")
    if legend:
        style.add_legend(ax, **style.ABOVE)
    return ax


def draw_plane(
    ax: Axes, image: SlitImage, plane: Floats, bad: Bools, label: str, **options: Any
) -> Colorbar:
    """Draw an array of pixel values in and around the bounding box, and mark bad pixels.

    Parameters
    ----------
    ax : `~matplotlib.axes.Axes`
        Axes to draw into.
    image : SlitImage
        Image to which the pixels belong. It provides the bounding box and the wavelengths, which
        are shown on the right.
    plane : ndarray
        Pixel values to draw, with the shape of the image.
    bad : ndarray of bool
        True for the pixels to mark.
    label : str
        Label of the colour bar.
    **options
        Keyword arguments of `~matplotlib.axes.Axes.imshow` for the colours and their scale.

    Returns
    -------
    `~matplotlib.colorbar.Colorbar`
        Colour bar below the axes.
    """
    part = rows, columns = grey.displayed_part(image)
    geometry: dict[str, Any] = {
        "origin": "lower",
        "aspect": "auto",
        "interpolation": "nearest",
        "extent": (columns.start - 0.5, columns.stop - 0.5, rows.start - 0.5, rows.stop - 0.5),
    }
    ax.set_facecolor(style.NO_DATA)
    picture = ax.imshow(plane[part], **options, **geometry)
    if bad[part].any():
        marks = np.where(bad[part], 1.0, np.nan)
        marked = ax.imshow(
            marks, cmap=ListedColormap([style.BAD_PIXEL]), vmin=0, vmax=1, **geometry
        )
        marked.mouseover = False  # the value at the pointer is that of the image
        ax.fill([], [], color=style.BAD_PIXEL, label="bad pixel")  # makes an entry in the legend
    ax.set_xlabel("column (cross-dispersion) [pixel]")
    add_wavelength_axis(ax, image)
    return ax.figure.colorbar(
        picture, ax=ax, location="bottom", pad=0.01, fraction=0.03, aspect=28, label=label
    )


def add_wavelength_axis(ax: Axes, image: SlitImage) -> Any:
    """Add a wavelength axis on the right with ticks at whole microns that do not overlap.

    Parameters
    ----------
    ax : `~matplotlib.axes.Axes`
        Axes with the rows of the image along y.
    image : SlitImage
        Image with the wavelengths.

    Returns
    -------
    ``matplotlib.axes._secondary_axes.SecondaryAxis``
        The axis, a child of `ax`.
    """
    displayed, _ = grey.displayed_part(image)
    bottom, top = displayed.start, displayed.stop - 1
    wave = _row_mean(image.wavelength)
    order = np.argsort(wave, kind="stable")[: np.isfinite(wave).sum()]  # without NaN, which is last
    axis = ax.secondary_yaxis("right")
    axis.set_ylabel("wavelength [µm]")
    ticks: dict[str, float] = {}
    if order.size > 1:
        first, last = np.ceil(wave[order[0]]), np.floor(wave[order[-1]])
        for value in np.arange(last, first - 1, -1.0):
            row = float(np.interp(value, wave[order], order))
            distinct = all(abs(row - other) > 0.035 * (top - bottom) for other in ticks.values())
            if distinct and bottom <= row <= top:
                ticks[f"{value:g}"] = row
    axis.set_yticks(list(ticks.values()), list(ticks))
    return axis


def _labelled(extract: Extract1D | Mapping[str, Extract1D] | None) -> Mapping[str, Extract1D]:
    """Return operators with labels for their apertures."""
    if extract is None:
        return {}
    if isinstance(extract, Mapping):
        for name, one in extract.items():
            check_type(f"extract {quoted(name)}", one, Extract1D, "an Extract1D")
        return {style.plain_text(str(name)): one for name, one in extract.items()}
    check_type("extract", extract, Extract1D, "an Extract1D, or several with their labels")
    return {"aperture": extract}


def _draw_regions(ax: Axes, image: SlitImage, extract: Extract1D, colour: str, label: str) -> None:
    """Draw the edges of the aperture and the background regions, and the expected trace."""
    regions = _regions(image, extract)
    rows = regions.rows
    y = np.stack([rows - 0.5, rows + 0.5], axis=1).ravel()  # lower and upper end of each row
    for edge in chain(*regions.aperture):
        ax.plot(np.repeat(edge[rows], 2), y, color=colour, lw=1.6, label=label)
    for lower, upper in regions.background:
        for edge in (lower, upper):
            x = np.repeat(edge[rows], 2)
            ax.plot(x, y, color=style.BACKGROUND, lw=1.3, ls="--", label="background")
        ax.fill_betweenx(rows, lower[rows], upper[rows], color=style.BACKGROUND, alpha=0.25, lw=0)
    if regions.trace is not None:
        row = np.arange(regions.trace.size)
        ax.plot(regions.trace, row, color=colour, lw=0.9, ls="-.", label="expected trace")


# --- cut ---------------------------------------------------------------------------------------


@style.no_figure_on_error
def plot_cut(
    image: ImageSource,
    rows: int | Sequence[int],
    extract: Extract1D | None = None,
    extraction: Extraction | None = None,
    *,
    integration: int = 0,
    ax: Axes | None = None,
    xlim: AxisLimits = None,
    ylim: AxisLimits = None,
    label: bool = True,
) -> Axes:
    """Draw cuts along the slit: rows of an image, with aperture and background regions.

    Parameters
    ----------
    image : SlitImage, `~specutils.Spectrum`, str or path-like
        Image from which the rows are taken, or the path of its file.
    rows : int or sequence of int
        Row to draw, or rows to draw in different colours.
    extract : Extract1D, optional
        `Extract1D` operator whose aperture and background regions are shaded. For several rows,
        they are those in the middle one.
    extraction : Extraction, optional
        Result of the extraction from `image`. Its background in each row is drawn as a horizontal
        line across the aperture.
    integration : int
        Index of the integration of a stack, counted from 0.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw into; by default, the current axes of pyplot.
    xlim, ylim : (float, float), optional
        Columns and surface brightness to display; by default, all columns of the bounding box, and
        all values with their errors.
    label : bool
        Whether to label the horizontal axis and add a legend.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Axes with columns along x and surface brightness, with the errors of the pixels, along y.
        The cuts are patches (``ax.patches``) in the order of `rows`, after those of the regions.

    Raises
    ------
    LRSError
        If a row or the integration does not exist, or the aperture has no pixel on the image.
    """
    image = SlitImage.from_any(image)
    style.check_limits(xlim, ylim)
    check_type("extract", extract, Extract1D | None, "an Extract1D or None")
    check_type("extraction", extraction, Extraction | None, "an Extraction or None")
    chosen = checked_rows(image, rows)
    regions = None if extract is None else _regions(image, extract)
    columns = np.arange(*grey.displayed_part(image)[1].indices(image.shape[1]))
    data, error = (plane(image, integration)[:, columns] for plane in (_data, _error))
    wave = _row_mean(image.wavelength)
    ax = style.axes_or_current(ax, (6.0, 3.0) if len(chosen) == 1 else (7.0, 4.5))
    if regions is not None:
        _shade_regions(ax, regions, chosen)
    single = len(chosen) == 1
    for n, row in enumerate(chosen):
        colour = style.BLACK if single else style.SERIES[n % len(style.SERIES)]
        name = f"row {row}, {wave[row]:.2f} µm"
        if regions is not None and extraction is not None and np.isfinite(wave[row]):
            line = {"color": style.BACKGROUND if single else colour, "label": "background level"}
            _draw_level(ax, regions, row, _level(extraction, wave[row], integration), line)
        style.draw_steps(
            ax, columns, data[row], error[row], colour=colour,
            error_colour="0.35" if single else colour, label=None if single else name,
        )  # fmt: skip
    bad = np.isnan(data[chosen]) & np.isfinite(np.asarray(image.wavelength)[chosen][:, columns])
    if bad.any():
        marked = columns[bad.any(axis=0)]
        ax.plot(
            marked, np.full(marked.size, 0.04), "x", color=style.BAD_PIXEL, label="bad pixel",
            transform=ax.get_xaxis_transform(),
        )  # fmt: skip
    _include_errors(ax, data[chosen], error[chosen])
    style.set_limits(ax, xlim, ylim)
    if single:
        ax.set_title(name, fontsize="medium", loc="left", pad=3)
    quantity = "" if single else "surface brightness "
    ax.set_ylabel(f"{quantity}[{style.unit_label(image.unit)}]")
    if label:
        ax.set_xlabel("column (cross-dispersion) [pixel]")
        below = (0.5, -0.3 if single else -0.16)
        style.add_legend(ax, loc="upper center", bbox_to_anchor=below, ncols=2, columnspacing=1.0)
    return ax


def checked_rows(image: SlitImage, rows: int | Sequence[int]) -> list[int]:
    """Return the rows of cuts as a list, or raise `LRSError` if one does not exist."""
    several = np.atleast_1d(np.asarray(rows))
    if several.dtype.kind not in "iu" and several.size:
        raise LRSError(f"rows is {quoted(rows)}, expected whole numbers")
    chosen = [int(row) for row in several.ravel()]
    if not chosen:
        raise LRSError("rows is empty, expected at least one row")
    for row in chosen:
        if not 0 <= row < image.shape[0]:
            raise LRSError(f"row is {row}, expected 0 to {image.shape[0] - 1}")
    return chosen


def _shade_regions(ax: Axes, regions: _Regions, rows: Sequence[int]) -> None:
    """Shade aperture and background regions in the middle of several rows."""
    middle = sorted(rows)[len(rows) // 2]
    for edges, colour, name in (
        (regions.aperture, style.APERTURE, "aperture"),
        (regions.background, style.BACKGROUND, "background"),
    ):
        every = [edge[list(rows)] for edge in chain(*edges)]
        moves = any(np.ptp(positions) > _STRAIGHT for positions in every)
        label = f"{name} in row {middle}" if moves else name
        for lower, upper in edges:
            ax.axvspan(lower[middle], upper[middle], color=colour, alpha=0.22, lw=0, label=label)


def _level(extraction: Extraction, wave: float, integration: int) -> float:
    """Return the background in the row of the spectrum closest to a wavelength in micron."""
    closest = np.nanargmin(np.abs(extraction.wavelength - wave))
    return float(series(extraction, "BACKGROUND", integration).values[closest])


def _draw_level(ax: Axes, regions: _Regions, row: int, level: float, line: dict[str, Any]) -> None:
    """Draw the background level in a row across the aperture, if there are background regions."""
    if regions.background:
        low = min(float(lower[row]) for lower, _ in regions.aperture)
        high = max(float(upper[row]) for _, upper in regions.aperture)
        ax.plot([low, high], [level, level], lw=1.8, **line)


def _include_errors(ax: Axes, values: Floats, error: Floats) -> None:
    """Include all error bars, and leave room below for the markers of bad pixels."""
    reach = np.nan_to_num(error, posinf=0.0)
    ends = np.concatenate([values - reach, values + reach], axis=None)
    ends = ends[np.isfinite(ends)]
    if ends.size:
        low, high = float(ends.min()), float(ends.max())
        margin = 0.06 * (high - low) or 1.0
        ax.set_ylim(low - 2 * margin, high + margin)


def representative_rows(image: SlitImage, extract: Extract1D | None) -> list[int]:
    """Return rows for three cuts, at 1/8, 1/2 and 7/8 of the rows of the aperture.

    If `extract` is None, the rows of the image that have a wavelength are used instead.
    """
    if extract is not None:
        rows = _regions(image, extract).rows
    else:
        rows = np.flatnonzero(np.isfinite(_row_mean(image.wavelength)))
    if rows.size == 0:
        raise LRSError("no row has a wavelength", subject=image.label)
    return sorted({int(rows[round(part * (rows.size - 1))]) for part in (0.125, 0.5, 0.875)})


# --- tapered aperture --------------------------------------------------------------------------


@style.no_figure_on_error
def plot_width(
    wavelength: ArrayLike,
    fwhm: ArrayLike,
    line: Sequence[float],
    *,
    error: ArrayLike | None = None,
    label: str | None = None,
    pixel_scale: float = PIXEL_SCALE,
    factor: float = 1.5,
    ax: Axes | None = None,
) -> Axes:
    """Draw the FWHM versus wavelength, and the polynomial for the width of a tapered aperture.

    Drawn into axes that contain such a polynomial, the widths and the polynomial have another
    colour.

    Parameters
    ----------
    wavelength : array_like
        Wavelengths in micron.
    fwhm : array_like
        FWHM at these wavelengths in arcsec.
    line : sequence of float
        Coefficients, constant term first, of the polynomial in wavelength (micron) that gives the
        half width of the aperture in pixels.
    error : array_like, optional
        1-sigma errors of the FWHM in arcsec.
    label : str, optional
        Name of the widths in the legend, such as their source.
    pixel_scale : float
        Width of a pixel in arcsec.
    factor : float
        Half width of the aperture in units of the FWHM.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw into; by default, the current axes of pyplot.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Axes with wavelength along x, half widths in pixels along y, and the FWHM in arcsec on the
        right.
    """
    ax = style.axes_or_current(ax, (6.5, 4.2))
    before = sum(line.get_gid() == _WIDTH for line in ax.lines)
    colours = (style.BLACK, style.BLUE, style.PURPLE), (style.APERTURE, style.SKY, style.GREEN)
    point, edge = (each[before % len(each)] for each in colours)
    wave = np.asarray(wavelength, dtype=float)
    scale = factor / pixel_scale
    half = scale * np.asarray(fwhm, dtype=float)
    bar = None if error is None else scale * np.asarray(error, dtype=float)
    span = np.linspace(min(4.5, wave.min() - 0.5), max(13.5, wave.max() + 0.5), 50)
    fit = np.polynomial.polynomial.polyval(span, line)
    terms = " + ".join(
        f"{c:.4f}" + ("" if power == 0 else " λ" if power == 1 else f" λ^{power}")
        for power, c in enumerate(line)
    )
    name = "" if label is None else f"{style.plain_text(label)}: "
    ax.errorbar(
        wave, half, bar, fmt="osD"[before % 3],
        color=point, ms=6, elinewidth=0.9, label=f"{name}{factor:g} × FWHM",
    )  # fmt: skip
    (drawn,) = ax.plot(span, fit, color=edge, lw=1.8, label=f"{name}edge of the aperture: {terms}")
    drawn.set_gid(_WIDTH)
    ax.set(xlabel="wavelength λ [µm]", ylabel="half width [pixel]")
    if not before:
        style.scaled_axis(ax, 1.0 / scale, "FWHM [arcsec]")
        ax.grid(alpha=0.25)
    ax.legend(loc="upper left", frameon=False)
    return ax


#: Mark of the lines that are polynomials of widths, in Matplotlib's group id.
_WIDTH = "glue_lrs width"


# --- planes and regions ------------------------------------------------------------------------


def _single(image: SlitImage, integration: int) -> SlitImage:
    """Return one integration of a stack, or the image itself if it is not a stack.

    Raises
    ------
    ProductError
        If the file of a memory-mapped image was overwritten.
    """
    image.check_file()
    if isinstance(integration, bool) or not isinstance(integration, int | np.integer):
        raise LRSError(f"integration is {quoted(integration)}, expected a whole number")
    return image.integration(integration) if image.is_stack or integration else image


def _data(image: SlitImage, integration: int) -> Floats:
    """Return the data of an integration, with bad pixels set to NaN."""
    single = _single(image, integration)
    return np.where(lost_pixels(single), np.nan, np.asarray(single.data, dtype=float))


def _error(image: SlitImage, integration: int) -> Floats:
    """Return the errors of an integration, from the variances if the image has no ERR plane."""
    single = _single(image, integration)
    if single.err is not None:
        error = np.asarray(single.err, dtype=float)
        return np.where(error >= 0, error, np.nan)  # because negative errors cannot be drawn
    variances = (getattr(single, name) for name in PLANES)
    with np.errstate(invalid="ignore"):
        return np.sqrt(sum((v for v in variances if v is not None), np.zeros(image.shape)))


def _row_mean(values: NDArray[Any]) -> Floats:
    """Return the mean of each row, ignoring NaN. Rows without a value are NaN."""
    with style.no_nan_warnings():
        return np.nanmean(np.asarray(values, dtype=float), axis=1)


class _Regions(NamedTuple):
    """Lower and upper edge of each aperture and background region in every row, and the trace."""

    aperture: list[tuple[Floats, Floats]]
    background: list[tuple[Floats, Floats]]
    #: Rows of the aperture that have a wavelength.
    rows: NDArray[np.intp]
    trace: Floats | None


def _regions(image: SlitImage, extract: Extract1D) -> _Regions:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)  # the extraction issues the same warnings
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
    rows = rows[np.isfinite(_row_mean(image.wavelength)[rows])]
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
        values = np.asarray(limit, dtype=float)
        if values.ndim and values.shape[1] > 1:
            # The limit is a polynomial in wavelength and has a value at each pixel. Use the value
            # at the pixel where the edge is.
            edge = np.nan_to_num(np.round(_row_mean(values)))
            column = np.clip(edge, 0, values.shape[1] - 1).astype(int)
            values = np.take_along_axis(values, column[:, np.newaxis], axis=1)
        edges.append(np.broadcast_to(values, (rows, 1))[:, 0] + half)
    return edges[0], edges[1]
