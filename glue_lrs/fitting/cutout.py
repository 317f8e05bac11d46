"""Cutouts: the part of an image that is fitted, with variances, wavelengths and WCS trace.

Optimal extraction and `glue_lrs.measure` use different classes. For optimal extraction, `Cutout`
reads single integrations, and `MeanCutout` contains the mean of a stack of integrations. For
`glue_lrs.measure`, `SlitCutout` contains the mean of a stack.

`Cutout` and `SlitCutout` exclude outliers from the mean in different ways, which are both kept
because the results of the fits depend on them. `Cutout.mean` takes the median of a few
integrations, scales it to the brightness of each integration, and rejects pixels that differ from
it. `SlitCutout` excludes values that differ from the median of the same pixel over all
integrations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.statistics import SIGMA_PER_MAD, median, nanmedian, row_level, running_mean
from glue_lrs._utils.typing import Array, Mask
from glue_lrs.errors import MeasurementError, ProductError, ProfileError
from glue_lrs.image.pixels import (
    PLANES,
    Variances,
    good_pixels,
    lost_by_plane,
    lost_pixels,
    lost_text,
    read_pixels,
    set_zero,
    unweighted_mask,
)
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.image.trace import sky_trace, sky_trace_curve
from glue_lrs.profiles.diffraction import expected_core

#: Change of the natural logarithm of the wavelength from row to row above which a row is used even
#: if only every n-th row is fitted. At these short wavelengths, the profile changes quickly.
_FAST_CHANGE = 0.01


@dataclass(frozen=True, eq=False)
class PixelPlanes:
    """Pixels to which a profile is fitted.

    Parameters
    ----------
    data : ndarray
        Values of the pixels, shape (row, column), 0 for pixels that are not good.
    variance : ndarray
        Variance of the data, shape (row, column), greater than 0.
    good : ndarray of bool
        Mask of the pixels that are used in the fit, shape (row, column).
    wavelength : ndarray
        Wavelength of each row in micron, shape (row,).
    columns : ndarray
        Column numbers in the image, shape (column,).
    """

    data: Array
    variance: Array
    good: Mask
    wavelength: Array
    columns: Array

    def offsets(self, traces: Array) -> Array:
        """Return the distance in columns from each trace to each pixel.

        For traces of shape (..., row), the shape of the result is (..., row, column).
        """
        return self.columns - traces[..., np.newaxis]

    def columns_between(self, first: float, last: float) -> slice:
        """Return the slice that selects the image columns from `first` to `last`, inclusive."""
        return slice(*np.searchsorted(self.columns, (first, last + 0.5)).tolist())

    def cut(self, first: float, last: float) -> PixelPlanes:
        """Return the part with the image columns from `first` to `last`, inclusive."""
        return self.part(self.columns_between(first, last))

    def part(self, columns: slice, rows: NDArray[np.intp] | None = None) -> PixelPlanes:
        """Return the part with a slice of columns and, unless `rows` is None, with these rows."""
        chosen: NDArray[np.intp] | slice = slice(None) if rows is None else rows
        return PixelPlanes(
            self.data[chosen, columns],
            self.variance[chosen, columns],
            self.good[chosen, columns],
            self.wavelength[chosen],
            self.columns[columns],
        )

    def every(self, step: int) -> NDArray[np.intp]:
        """Return the indices of every `step`-th row, and of rows where the wavelength changes fast.

        The profile also changes fast there (see `_FAST_CHANGE`).
        """
        number = np.arange(self.wavelength.size)
        change = np.abs(np.gradient(np.log(np.nan_to_num(self.wavelength, nan=8.0))))
        return np.flatnonzero((number % step == 0) | (change > _FAST_CHANGE))

    @property
    def domain(self) -> tuple[float, float]:
        """Smallest and largest wavelength in micron."""
        known = self.wavelength[np.isfinite(self.wavelength)]
        if known.size < 2 or known.min() == known.max():
            raise ProfileError("the image has no two rows of different wavelength to fit a profile")
        return float(known.min()), float(known.max())


# --- optimal extraction --------------------------------------------------------------------------

#: Mean of a stack: number of integrations, evenly spaced in the stack, with whose median each
#: integration is compared.
_PILOTS = 9

#: Mean of a stack: largest accepted difference between a pixel and the median, which is scaled to
#: the brightness of the integration. It is the sum of two terms.
_CLIP, _CLIP_FRACTION = (
    8.0,  # first term in standard deviations for one integration
    0.3,  # second term as a fraction of the scaled median
)

#: Mean of a stack: limits on the bright pixels of the source in an integration.
_BRIGHT_PIXELS, _AGREEING = (
    20,  # number of these pixels above which the brightness of the integration is measured
    0.7,  # the integration is then excluded if a smaller fraction agrees with the scaled median
)

#: Number of rows to either side over which the variances are averaged.
_SMOOTHED_ROWS = 4


@dataclass(frozen=True, eq=False)
class MeanCutout:
    """Mean of a stack of integrations, or a single image, to which the profile is fitted.

    Parameters
    ----------
    pixels : PixelPlanes
        Pixels of the mean, with variances that are smoothed over neighbouring rows.
    variances : list of ndarray or None
        Poisson, read-noise and flat-field variance of the mean, not smoothed. A variance is None if
        the image lacks it.
    n_integrations : int
        Number of integrations in the mean.
    """

    pixels: PixelPlanes
    variances: Variances
    n_integrations: int

    def part(self, columns: slice) -> MeanCutout:
        """Return the part with a slice of columns."""
        variances = [None if v is None else v[:, columns] for v in self.variances]
        return MeanCutout(self.pixels.part(columns), variances, self.n_integrations)


@dataclass(frozen=True, eq=False)
class Cutout:
    """Part of an image, or of a stack of integrations, that contains all pixels with a wavelength.

    Parameters
    ----------
    image : SlitImage
        Image or stack from which the pixels are read.
    rows, columns : slice
        Rows and columns of the image that are in the cutout.
    wavelength : ndarray
        Mean wavelength of each row in micron, shape (row,), NaN in rows without a wavelength.
    has_wavelength : ndarray of bool
        Mask of the pixels that have a wavelength, shape (row, column).
    """

    image: SlitImage
    rows: slice
    columns: slice
    wavelength: Array
    has_wavelength: Mask

    @classmethod
    def from_image(cls, image: SlitImage) -> Cutout:
        """Return the cutout with all rows and columns that have wavelengths."""
        finite = np.isfinite(image.wavelength)
        rows, columns = np.flatnonzero(finite.any(axis=1)), np.flatnonzero(finite.any(axis=0))
        if rows.size < 2:
            raise ProductError("no two rows have a wavelength", subject=image.label)
        r = slice(int(rows[0]), int(rows[-1]) + 1)
        c = slice(int(columns[0]), int(columns[-1]) + 1)
        has_wavelength = finite[r, c]
        count = has_wavelength.sum(axis=1)
        total = np.where(has_wavelength, image.wavelength[r, c], 0.0).sum(axis=1, dtype=float)
        wavelength = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return cls(image, r, c, wavelength, has_wavelength)

    @cached_property
    def trace_shape(self) -> Array:
        """Column of the WCS trace relative to its column in the middle row, shape (row,).

        It is 0 in s2d images, in which traces are straight, and in images without a WCS.
        """
        image, number = self.image, self.rows.stop - self.rows.start
        if image.kind == "s2d" or image.wcs is None:
            return np.zeros(number)
        (left, right), (bottom, top) = image.bounding_box
        middle = round((bottom + top) / 2.0)
        trace = sky_trace(image, (left + right) / 2.0, middle)
        known = np.isfinite(trace)
        if not known.any():
            return np.zeros(number)
        trace = np.interp(np.arange(trace.size), np.flatnonzero(known), trace[known])
        return (trace - trace[middle])[self.rows]

    def inner(self, columns: slice) -> slice:
        """Convert a slice of image columns to a slice of cutout columns."""
        return slice(columns.start - self.columns.start, columns.stop - self.columns.start)

    def read(self, integration: int | None, columns: slice) -> tuple[Array, Mask, Variances]:
        """Read data, good pixels and variances of a single image or an integration of a stack.

        Parameters
        ----------
        integration : int or None
            Index of the integration to read. It is ignored for a single image.
        columns : slice
            Columns of the image to read.

        Returns
        -------
        data : ndarray
            Values of the pixels, shape (row, column), 0 for pixels that are not good.
        good : ndarray of bool
            Mask of the pixels that are neither lost nor unweighted. `glue_lrs.image.pixels` defines
            these terms.
        variances : list of ndarray or None
            Poisson, read-noise and flat-field variance, 0 for pixels that are not good.
        """
        stack = self.image.is_stack
        part = (integration, self.rows, columns) if stack else (self.rows, columns)
        data, variances, good = read_pixels(self.image, lambda plane: np.asarray(plane[part]))
        unweighted = unweighted_mask(variances)
        if unweighted is not None:
            good &= ~unweighted
        good &= self.has_wavelength[:, self.inner(columns)]
        set_zero(~good, data, variances)
        return data, good, variances

    def mean(self) -> MeanCutout:
        """Return the mean of the integrations without outliers, or the image if it is not a stack.

        Raises
        ------
        ProductError
            If no pixel is good.
        """
        image = self.image
        number = image.data.shape[0] if image.is_stack else 1
        if number == 1:
            return self._mean_cutout(*self.read(0, self.columns), 1)
        reference, count, variances = self._reference()
        total_variance = np.sum([v for v in variances if v is not None], axis=0)
        tolerance = _CLIP * np.sqrt(np.maximum(total_variance, 0.0))
        light = reference - np.median(reference, axis=1, keepdims=True)  # without background
        bright = (light > tolerance) & (light > 0.3 * light.max(axis=1, keepdims=True))
        total, times = np.zeros_like(reference), np.zeros_like(reference)
        for i in range(number):
            data, good, _ = self.read(i, self.columns)
            # The reference is scaled to the brightness of the integration so that the core is not
            # rejected if the source is fainter. If the core still differs after scaling, the source
            # has probably moved, and the integration is excluded from the mean.
            core = bright & good
            measurable = int(core.sum()) > _BRIGHT_PIXELS
            change = median((data - reference)[core] / light[core]) if measurable else 0.0
            expected = reference + change * light
            good &= np.abs(data - expected) <= tolerance + _CLIP_FRACTION * np.abs(expected)
            agreeing = np.count_nonzero(good & core)
            if measurable and agreeing < _AGREEING * np.count_nonzero(core):
                continue
            total += np.where(good, data, 0.0)
            times += good
        if not times.any():  # every integration disagrees with the reference
            total, times = reference, (count > 0).astype(float)
        number = max(int(times.max()), 1)  # integrations without good pixels are not counted
        good = times > number / 4
        mean = np.where(good, total / np.maximum(times, 1), 0.0)
        # The flat-field error is the same in all integrations and is not reduced by averaging.
        variances = [
            v if v is None or name == "var_flat" else v / number
            for name, v in zip(PLANES, variances, strict=True)
        ]
        return self._mean_cutout(mean, good, variances, number)

    def _reference(self) -> tuple[Array, NDArray[np.int_], Variances]:
        """Return the median of a few evenly spaced integrations, and their typical variances.

        Integrations without good pixels are not used unless there are no other integrations.

        Returns
        -------
        middle : ndarray
            Median of the good values in each pixel, shape (row, column).
        count : ndarray of int
            Number of good values in each pixel, shape (row, column).
        variances : list of ndarray or None
            Median of each variance over these integrations, shape (row, column).
        """
        every = range(self.image.data.shape[0])
        pilots = [self.read(i, self.columns) for i in _evenly_spaced(every)]
        if not all(good.any() for _, good, _ in pilots):
            usable = [i for i in every if self.read(i, self.columns)[1].any()]
            pilots = [self.read(i, self.columns) for i in _evenly_spaced(usable)] or pilots
        stacked = np.stack([np.where(good, data, np.nan) for data, good, _ in pilots])
        stacked.sort(axis=0)
        count = np.isfinite(stacked).sum(axis=0)
        middle = np.take_along_axis(stacked, np.maximum(count - 1, 0)[np.newaxis] // 2, axis=0)[0]
        middle[count == 0] = 0.0
        # The median is used because the mean would be affected by the large variances of pixels
        # that are hit by a cosmic ray.
        variances: Variances = [
            None if planes[0] is None else np.median(planes, axis=0)
            for planes in zip(*(v for _, _, v in pilots), strict=True)
        ]
        return middle, count, variances

    def _mean_cutout(
        self, data: Array, good: Mask, variances: Variances, number: int
    ) -> MeanCutout:
        total = np.zeros_like(data) + sum(v for v in variances if v is not None)
        good = good & np.isfinite(self.wavelength)[:, np.newaxis]
        if not good.any():
            raise ProductError(
                "every pixel is NaN, flagged, or has no usable variance", subject=self.image.label
            )
        if not (total[good] > 0).any():
            total[good] = 1.0  # no variances: equal weights
        floor = 1e-3 * median(total[good])
        # Before they are averaged over rows, the variances are divided by the typical value in each
        # row, because this value changes fast at the ends of the spectrum.
        level = row_level(total, good)
        relative = np.where(good, total / level, 0.0)
        smooth = level * running_mean(relative, good, _SMOOTHED_ROWS)
        columns = np.arange(self.columns.start, self.columns.stop, dtype=float)
        pixels = PixelPlanes(
            np.where(good, data, 0.0),
            np.maximum(smooth, max(floor, 1e-300)),
            good,
            self.wavelength,
            columns,
        )
        return MeanCutout(pixels, variances, number)


def _evenly_spaced(numbers: Sequence[int]) -> list[int]:
    """Return at most `_PILOTS` of the numbers, evenly spaced from the first to the last."""
    at = np.linspace(0, len(numbers) - 1, min(_PILOTS, len(numbers)))
    return [numbers[int(index)] for index in at]


# --- measuring -----------------------------------------------------------------------------------

#: Limits for clipping a stack of integrations.
_STACK_CLIP, _FEWEST_CLIPPED = (
    6.0,  # largest accepted difference from the median of the same pixel, in standard deviations
    5,  # minimum number of integrations for clipping
)

#: Columns at the edges of the image are in the cutout if more than this fraction of their pixels is
#: good.
_FEWEST_GOOD = 0.2


@dataclass(frozen=True, eq=False)
class SlitCutout:
    """Part of an image, or of the mean of a stack of integrations, that contains data.

    Parameters
    ----------
    data : ndarray
        Values of the pixels, shape (row, column), 0 for pixels that are not good.
    good : ndarray of bool
        Mask of the pixels that are used in the fit, shape (row, column).
    variances : ndarray
        Poisson, read-noise and flat-field variance, shape (3, row, column).
    rows, columns : ndarray of int
        Row numbers and column numbers in the image.
    wave : ndarray
        Wavelength of each row in micron, shape (row,).
    curve : ndarray
        Column of the WCS trace relative to its column in the reference row, shape (row,).
    reference : int
        Reference row: the row of the image in which the columns of the sources are given.
    scale : float
        Pixel scale along the slit, in arcsec per column.
    label : str
        Name of the image in messages.
    follows_wcs : bool
        Whether `curve` was computed from the WCS. If False, `curve` is 0.
    """

    data: Array
    good: Mask
    variances: Array
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    wave: Array
    curve: Array
    reference: int
    scale: float
    label: str
    follows_wcs: bool

    @classmethod
    def from_image(cls, image: SlitImage, scale: float) -> SlitCutout:
        """Return the cutout with all pixels inside the bounding box that contain data.

        Parameters
        ----------
        image : SlitImage
            Image or stack from which the pixels are taken.
        scale : float
            Pixel scale along the slit, in arcsec per column.

        Raises
        ------
        MeasurementError
            If there are too few rows or columns with data.
        """
        wavelength = np.asarray(image.wavelength, dtype=float)
        (left, right), (bottom, top) = image.bounding_box
        inside = np.isfinite(wavelength)
        row_index, column_index = np.arange(image.shape[0]), np.arange(image.shape[1])
        inside &= ((row_index >= bottom) & (row_index <= top))[:, np.newaxis]
        inside &= (column_index >= left) & (column_index <= right)
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if rows.size < 3 or columns.size < 5:
            raise MeasurementError(
                f"{rows.size} rows and {columns.size} columns have a wavelength, "
                "expected at least 3 and 5",
                subject=image.label,
            )
        rows = np.arange(rows[0], rows[-1] + 1)
        columns = np.arange(columns[0], columns[-1] + 1)
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        data, good, variances = _clipped_mean(image, window)
        good &= inside[window]
        # Exclude empty rows and columns.
        columns_used = np.flatnonzero(good.mean(axis=0) > _FEWEST_GOOD)
        if columns_used.size < 5:
            raise MeasurementError(
                f"fewer than 5 columns hold data{_why_bad(image, window)}", subject=image.label
            )
        cut = slice(columns_used[0], columns_used[-1] + 1)
        used = np.flatnonzero(good[:, cut].sum(axis=1) >= 5)
        if used.size < 3:
            raise MeasurementError(
                f"{used.size} rows hold data, expected at least 3{_why_bad(image, window)}",
                subject=image.label,
            )
        wave = np.nanmean(np.where(inside, wavelength, np.nan)[rows[used]], axis=1)
        position = expected_position(image)
        reference = int((bottom + top) / 2.0)
        if isinstance(position, SourcePosition):
            reference = position.row
        reference = int(np.clip(reference, rows[0], rows[-1]))
        curve = sky_trace_curve(image, rows[used], reference)
        return cls(
            data=np.where(good, data, 0.0)[used, cut],
            good=good[used, cut],
            variances=np.where(good, variances, 0.0)[:, used, cut],
            rows=rows[used],
            columns=columns[cut],
            wave=wave,
            curve=np.zeros(used.size) if curve is None else curve,
            reference=reference,
            scale=scale,
            label=image.label,
            follows_wcs=curve is not None,
        )

    @cached_property
    def core(self) -> Array:
        """Expected standard deviation of the core of the profile in columns, shape (row,)."""
        return expected_core(self.wave, self.scale)

    @cached_property
    def along(self) -> Array:
        """Coordinate that increases from -1 in the first row to 1 in the last row, shape (row,)."""
        span = max(float(self.rows[-1] - self.rows[0]), 1.0)
        return 2.0 * (self.rows - self.rows[0]) / span - 1.0

    @cached_property
    def across(self) -> Array:
        """Coordinate that increases from -1 in the first column to 1 in the last, shape (column,).

        `background_basis` computes the same coordinate, but with different rounding errors.
        """
        return np.linspace(-1.0, 1.0, self.columns.size)


def _why_bad(image: SlitImage, window: tuple[slice, slice]) -> str:
    """Return the end of a message: the numbers of lost and unweighted pixels in a part of an image.

    The text is empty if there are none.
    """
    where = (..., *window)
    unweighted = unweighted_mask(
        [None if plane is None else plane[where] for plane in (getattr(image, n) for n in PLANES)]
    )
    counts = lost_text(lost_by_plane(image, where))
    number = 0 if unweighted is None else int((unweighted & ~lost_pixels(image, where)).sum())
    without = f"{number} without a positive variance" if number else ""
    found = " and ".join(filter(None, [counts, without]))
    return f": {found} of {image.data[where].size} pixels" if found else ""


def _clipped_mean(image: SlitImage, window: tuple[slice, slice]) -> tuple[Array, Mask, Array]:
    """Return data, good pixels and variances of an image or of the clipped mean of a stack.

    If the image has no variances, the first of the three is the square of ERR or, without ERR, is
    estimated from the data, and the other two are 0.

    Parameters
    ----------
    image : SlitImage
        Image or stack of integrations.
    window : tuple of slice
        Rows and columns of the image to read.
    """
    shape = (window[0].stop - window[0].start, window[1].stop - window[1].start)
    planes = [getattr(image, name) for name in PLANES]
    squared = image.err is not None and not image.has_variances
    if squared:
        planes[0] = image.err
    number = image.data.shape[0] if image.is_stack else 1
    data, good = np.empty(shape), np.empty(shape, dtype=bool)
    found = np.zeros((len(PLANES), *shape))
    step = max(1, (1 << 21) // (number * shape[1]))  # read about 2 million values at a time
    for first in range(0, shape[0], step):
        part = slice(first, min(first + step, shape[0]))
        rows = slice(window[0].start + part.start, window[0].start + part.stop)
        where = (..., rows, window[1])
        size = (number, part.stop - part.start, shape[1])
        values = np.asarray(image.data[where], dtype=float).reshape(size)
        used = good_pixels(image, where).reshape(size)
        if number >= _FEWEST_CLIPPED:
            used &= ~_outlying_integrations(values, used)
        count = used.sum(axis=0)
        share = np.maximum(count, 1)
        data[part] = np.where(used, values, 0.0).sum(axis=0) / share
        good[part] = count > 0
        for plane, name, out in zip(planes, PLANES, found, strict=True):
            if plane is None:
                continue
            variance = np.asarray(plane[where], dtype=float).reshape(size)
            if squared:
                variance = variance**2
            total = np.where(used & np.isfinite(variance), variance, 0.0).sum(axis=0)
            # The flat-field error is the same in all integrations and is not reduced by averaging.
            out[part] = total / (share if name == "var_flat" else share**2)
    if all(plane is None for plane in planes):
        found[0] = _scatter(data, good) ** 2
    # A pixel whose ERR is 0 or infinite has no variance unless other integrations give it one.
    if not image.is_stack:
        good &= found.sum(axis=0) > 0
    return data, good, found


def _outlying_integrations(values: Array, good: Mask) -> Mask:
    """Return the mask of values that differ too much from the median of the same pixel.

    Parameters
    ----------
    values : ndarray
        Values of all integrations, shape (integration, row, column).
    good : ndarray of bool
        Mask of the values from which the median is computed, same shape.
    """
    masked = np.where(good, values, np.nan)
    distance = np.abs(masked - nanmedian(masked, axis=0))
    with np.errstate(invalid="ignore"):
        sigma = _STACK_CLIP * SIGMA_PER_MAD * np.maximum(nanmedian(distance, axis=0), 1e-300)
        return distance > sigma


def _scatter(data: Array, good: Mask) -> float:
    """Return the standard deviation of the noise, from the differences of adjacent rows."""
    both = good[1:] & good[:-1]
    steps = (data[1:] - data[:-1])[both]
    if steps.size == 0:
        return 1.0
    mad = float(np.median(np.abs(steps - np.median(steps))))
    return max(SIGMA_PER_MAD * mad / math.sqrt(2.0), 1e-300)
