"""Profile of an image along the slit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import LRSError
from glue_lrs.image.pixels import lost_pixels

if TYPE_CHECKING:
    from glue_lrs.apertures.background import Background
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.viewers.live.regions import Region


#: Maximum height above the other columns of a peak that is only one column wide, as a multiple of
#: the range of the other columns. Higher peaks are cut off. Sources are never cut off, because even
#: the narrowest point source in MIRI images spreads over several columns.
_MAX_PEAK = 5.0

#: Margin beyond the other columns on the side where a one-column peak is cut off, as a multiple of
#: the range of the other columns.
_PEAK_ROOM = 1.0


class CrossDispersionProfile(NamedTuple):
    """Column numbers, mean flux over some rows in each column, and 1-sigma errors."""

    columns: NDArray[np.float64]
    flux: NDArray[np.float64]
    error: NDArray[np.float64]


def cross_dispersion_profile(
    image: SlitImage, row: float, number: int = 11
) -> CrossDispersionProfile:
    """Average rows of an image to a profile along the slit.

    Parameters
    ----------
    image : SlitImage
        Single image, not a stack, whose rows are averaged.
    row : float
        Row in the middle of the averaged rows.
    number : int
        Number of rows to average. Fewer are used at the ends of the image.

    Returns
    -------
    CrossDispersionProfile
        Column numbers, means in the unit of the image, and their 1-sigma errors. Pixels that are
        flagged or not finite are excluded. Columns without good pixels are NaN.

    Raises
    ------
    LRSError
        If the image is a stack, or `row` or `number` is invalid.
    """
    if image.is_stack:
        raise LRSError(
            "is a stack, expected one integration or the median of all", subject=image.label
        )
    if number < 1 or not np.isfinite(row):
        raise LRSError(
            f"row is {row} and the number of rows {number}, expected a row and 1 or more"
        )
    averaged = averaged_rows(image, row, number)
    good = ~lost_pixels(image, averaged)
    count = good.sum(axis=0)
    variances = variance(image, averaged)
    with np.errstate(invalid="ignore"):  # 0 / 0 in columns without good pixels
        flux = np.where(good, image.data[averaged], 0.0).sum(axis=0, dtype=float) / count
        error = np.sqrt(np.where(good, variances, 0.0).sum(axis=0)) / count
    return CrossDispersionProfile(np.arange(image.shape[1], dtype=float), flux, error)


def fitted_background(
    image: SlitImage,
    background: Background,
    regions: Sequence[Region],
    row: float,
    number: int = 11,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit the background in some rows, and average it to a profile along the slit.

    Parameters
    ----------
    image : SlitImage
        Single image, not a stack.
    background : Background
        Background with fit, order and smoothing.
    regions : sequence of Region
        Regions at their positions on the image. Those of the aperture are ignored.
    row : float
        Row in the middle of the averaged rows.
    number : int
        Number of rows to average, as in `cross_dispersion_profile`.

    Returns
    -------
    columns, level : ndarray
        Column numbers, and the mean of the fitted background in each column in the unit of the
        image. Rows without a fit are excluded; if there are no others, the level is NaN.

    Raises
    ------
    LRSError
        If no region has a pixel on the image.
    """
    averaged = averaged_rows(image, row, number)
    margin = background.smoothing_length // 2
    wide = slice(max(averaged.start - margin, 0), averaged.stop + margin)
    inner = slice(averaged.start - wide.start, averaged.stop - wide.start)
    own = [region for region in regions if region.kind == "background"]
    edges = tuple(edge for region in own for edge in (region.lower, region.upper))
    placed = replace(background, bkg_coeff=edges, independent_var=own[0].variable)
    weights = placed.weights(image.wavelength, findings=[])
    inside = weights.full(image.shape)[averaged, weights.columns]
    data = np.asarray(image.data[wide, weights.columns], dtype=float)
    data = np.where(lost_pixels(image, (wide, weights.columns)), np.nan, data)
    smoothed = placed.smooth(data)[inner] if placed.smoothing_length else None
    data = data[inner]
    axis = np.linspace(-1.0, 1.0, image.shape[1])
    terms = placed.order + 1
    fit = placed.fit(
        data, inside != 0, np.isnan(data), axis[weights.columns], np.ones((1, terms)), smoothed
    )
    if fit.coefficients is None:
        assert fit.level is not None
        level = np.broadcast_to(fit.level[:, np.newaxis], (len(fit.level), image.shape[1]))
    else:
        level = fit.coefficients @ np.vander(axis, terms, increasing=True).T
    level = level[~fit.empty]
    mean = level.mean(axis=0) if len(level) else np.full(image.shape[1], np.nan)
    return np.arange(image.shape[1], dtype=float), mean


def fitted_level(
    extraction: Extraction | None,
    regions: Sequence[Region],
    row_wavelength: NDArray[np.float64],
    row: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the edges of the aperture in a row, and the column BACKGROUND of its wavelength.

    Parameters
    ----------
    extraction : Extraction or None
        Single spectrum; None if the extraction failed.
    regions : sequence of Region
        Regions on the image. The edges are those of the outermost apertures.
    row_wavelength : ndarray
        Wavelength of each row in micron.
    row : float
        Row of the profile.

    Returns
    -------
    (ndarray, ndarray) or None
        Two positions and twice the level; None if there is no background.
    """
    at = int(np.clip(round(row), 0, row_wavelength.size - 1))
    wave = row_wavelength[at]
    apertures = [region.at(at, wave) for region in regions if region.kind == "aperture"]
    if extraction is None or not apertures or not np.isfinite(wave):
        return None
    nearest = int(np.nanargmin(np.abs(extraction.wavelength - wave)))
    level = float(extraction.columns["BACKGROUND"][nearest])
    if level == 0.0:  # no background was fitted
        return None
    edges = [min(low for low, _ in apertures), max(high for _, high in apertures)]
    return np.array(edges, dtype=float), np.full(2, level)


def averaged_rows(image: SlitImage, row: float, number: int) -> slice:
    """Return the rows around `row` of which a profile is the mean, fewer at the ends."""
    start = round(row - (number - 1) / 2.0)
    first = int(np.clip(start, 0, image.shape[0] - 1))
    return slice(first, int(np.clip(start + number, first + 1, image.shape[0])))


def variance(image: SlitImage, averaged: slice) -> NDArray[np.float64]:
    """Return the variances of pixels in some rows, or NaN if the image has no errors."""
    if image.err is not None:
        return np.asarray(image.err[averaged], dtype=float) ** 2
    planes = (image.var_poisson, image.var_rnoise, image.var_flat)
    parts = [np.asarray(plane[averaged], dtype=float) for plane in planes if plane is not None]
    return np.sum(parts, axis=0) if parts else np.array(np.nan)


def peak_limited_range(flux: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range of a profile, ignoring peaks that are too high and narrow for a source."""
    values = flux[np.isfinite(flux)]
    if values.size == 0:
        return np.nan, np.nan
    low, high = float(values.min()), float(values.max())
    if values.size < 5:
        return low, high
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(values, 3), axis=1)
    middle, bottom, top = (float(f(smooth)) for f in (np.median, np.min, np.max))
    span = max(top - bottom, 1e-6 * abs(middle))
    lower = low if bottom - low <= _MAX_PEAK * span else bottom - _PEAK_ROOM * span
    upper = high if high - top <= _MAX_PEAK * span else top + _PEAK_ROOM * span
    return lower, upper
