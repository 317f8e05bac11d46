"""Cutouts: the part of an image that a fit sees, with its variances, wavelengths and trace.

Each of the two fits has its own: `Cutout`, for optimal extraction, reads single integrations, and
`MeanCutout` is the mean of a stack; `SlitCutout`, for `glue_lrs.measure`, is a mean from the start.
The two means stay two until the fits are one, as they differ in the last bits and beyond: that of
`Cutout` compares integrations with a median of a few and scales it to the brightness of each, that
of `SlitCutout` clips each pixel about the median of all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.statistics import median, nanmedian, row_level, running_mean
from glue_lrs.errors import ProductError, ProfileError, SourceError
from glue_lrs.image.pixels import PLANES, good_pixels, unweighted_mask
from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.image.trace import sky_trace, sky_trace_curve
from glue_lrs.profiles.diffraction import expected_core

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.image.slit_image import SlitImage

    #: Variances of Poisson noise, read noise and flat field; None where the image has none.
    Variances: TypeAlias = list[Array | None]

__all__ = ["Cutout", "MeanCutout", "PixelPlanes", "SlitCutout"]


@dataclass(frozen=True, eq=False)
class PixelPlanes:
    """Pixels that a profile is fitted to.

    Parameters
    ----------
    data : ndarray
        Shape (row, column), 0 at pixels that are not good.
    variance : ndarray
        Variance of the data, same shape, greater than 0.
    good : ndarray of bool
        Pixels that take part in the fit.
    wavelength : ndarray
        Wavelength of each row in micron, shape (row,).
    columns : ndarray
        Column number in the image of each column.
    """

    data: Array
    variance: Array
    good: Mask
    wavelength: Array
    columns: Array

    def offsets(self, trace: Array) -> Array:
        """Return the columns from a trace to each pixel, shape (row, column)."""
        return self.columns - trace[:, np.newaxis]

    def columns_between(self, first: float, last: float) -> slice:
        """Return the index of the columns from `first` to `last`."""
        return slice(*np.searchsorted(self.columns, (first, last + 0.5)).tolist())

    def cut(self, first: float, last: float) -> PixelPlanes:
        """Return the columns from `first` to `last`."""
        part = self.columns_between(first, last)
        return PixelPlanes(
            self.data[:, part],
            self.variance[:, part],
            self.good[:, part],
            self.wavelength,
            self.columns[part],
        )

    def every_nth_row(self, step: int) -> PixelPlanes:
        """Return every `step`-th row."""
        if step == 1:
            return self
        return PixelPlanes(
            self.data[::step],
            self.variance[::step],
            self.good[::step],
            self.wavelength[::step],
            self.columns,
        )

    @property
    def domain(self) -> tuple[float, float]:
        """First and last wavelength in micron."""
        known = self.wavelength[np.isfinite(self.wavelength)]
        if known.size < 2 or known.min() == known.max():
            raise ProfileError("the image has no two rows of different wavelength to fit a profile")
        return float(known.min()), float(known.max())


# --- optimal extraction --------------------------------------------------------------------------

#: Mean of a stack: number of integrations, spread over the stack, whose median is the reference
#: that all are compared with.
_PILOTS = 9

#: Mean of a stack: tolerance of a pixel about the reference, in standard deviations of one
#: integration, and as a fraction of the reference.
_CLIP, _CLIP_FRACTION = 8.0, 0.3

#: Mean of a stack: number of bright pixels on the source above which the brightness of an
#: integration is measured, and the fraction of them that must agree with the scaled reference for
#: the integration to count.
_BRIGHT_PIXELS, _AGREEING = 20, 0.7

#: Running mean of the variances: rows to each side.
_SMOOTHED_ROWS = 4


@dataclass(frozen=True, eq=False)
class MeanCutout:
    """Mean of a stack, or a single image, which profile and positions are fitted to.

    Parameters
    ----------
    pixels : PixelPlanes
        The mean, with smooth variances.
    variances : list of ndarray or None
        Poisson, read noise and flat-field variance of the mean as the image has them.
    n_integrations : int
        Number of integrations in the mean.
    """

    pixels: PixelPlanes
    variances: Variances
    n_integrations: int


@dataclass(frozen=True, eq=False)
class Cutout:
    """Part of an image that has wavelengths.

    Parameters
    ----------
    image : SlitImage
        An image or a stack.
    rows, columns : slice
        The part of the image.
    wavelength : ndarray
        Mean wavelength of each row in micron, shape (row,); NaN where there is none.
    has_wavelength : ndarray of bool
        Pixels that have a wavelength, shape (row, column).
    """

    image: SlitImage
    rows: slice
    columns: slice
    wavelength: Array
    has_wavelength: Mask

    @classmethod
    def from_image(cls, image: SlitImage) -> Cutout:
        """Cut out the rows and columns that have wavelengths."""
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
        """WCS trace less its column in the middle row, shape (row,)."""
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

    def read(
        self, integration: int | slice | None, columns: slice, variances: bool = True
    ) -> tuple[Array, Mask, Variances]:
        """Read an integration.

        Parameters
        ----------
        integration : int, slice or None
            Number of the integration; None for an image that is no stack.
        columns : slice
            Columns of the image.
        variances : bool
            Whether the variances are returned, None otherwise. They decide which pixels are good in
            any case.

        Returns
        -------
        data : ndarray
            Shape (row, column), 0 at pixels that are not good.
        good : ndarray of bool
            Pixels that are neither lost nor unweighted: see `glue_lrs.image.pixels`.
        variances : list of ndarray or None
            Poisson, read noise and flat-field variance, 0 at pixels that are not good.
        """
        image = self.image
        part: Any = (self.rows, columns)
        if image.is_stack:
            part = (slice(None) if integration is None else integration, *part)
        data = np.asarray(image.data)[part].astype(float)
        good = good_pixels(image, part)
        planes: Variances = []
        for name in PLANES:
            plane = getattr(image, name) if variances else None
            planes.append(None if plane is None else np.asarray(plane)[part].astype(float))
        inner = slice(columns.start - self.columns.start, columns.stop - self.columns.start)
        has_wavelength = self.has_wavelength[:, inner]
        if not has_wavelength.all():
            good &= has_wavelength
        if not good.all():
            bad = ~good
            data[bad] = 0.0
            for values in planes:
                if values is not None:
                    values[bad] = 0.0
        return data, good, planes

    def mean(self) -> MeanCutout:
        """Return the image, or the mean of all integrations without outliers.

        Raises
        ------
        ProductError
            If no pixel is good.
        """
        image = self.image
        if not image.is_stack or image.data.shape[0] == 1:
            data, good, variances = self.read(0 if image.is_stack else None, self.columns)
            return self._mean_cutout(data, good, variances, 1)
        number = image.data.shape[0]
        reference, count, variances = self._reference()
        total_variance = np.sum([v for v in variances if v is not None], axis=0)
        tolerance = _CLIP * np.sqrt(np.maximum(total_variance, 0.0))
        light = reference - np.median(reference, axis=1, keepdims=True)  # the source
        bright = (light > tolerance) & (light > 0.3 * light.max(axis=1, keepdims=True))
        total, times = np.zeros_like(reference), np.zeros_like(reference)
        for i in range(number):
            data, good, _ = self.read(i, self.columns, variances=False)
            # An integration in which the source is fainter keeps its core; one that disagrees after
            # scaling, because the source has moved, is no part of the mean.
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
        if not times.any():  # every integration disagrees
            total, times = reference, (count > 0).astype(float)
        number = max(int(times.max()), 1)  # integrations without a good pixel do not count
        good = times > number / 4
        mean = np.where(good, total / np.maximum(times, 1), 0.0)
        variances = [None if v is None else v / number for v in variances]
        if variances[2] is not None:  # the error of the flat field does not average out
            variances[2] = variances[2] * number
        return self._mean_cutout(mean, good, variances, number)

    def _reference(self) -> tuple[Array, NDArray[np.int_], Variances]:
        """Median of a few integrations, its number of values, and the median variances of one."""
        pilots = self._pilots()
        stacked = np.stack([np.where(good, data, np.nan) for data, good, _ in pilots])
        stacked.sort(axis=0)
        count = np.isfinite(stacked).sum(axis=0)
        middle = np.take_along_axis(stacked, np.maximum(count - 1, 0)[np.newaxis] // 2, axis=0)[0]
        middle[count == 0] = 0.0
        variances: Variances = []
        for i in range(3):
            planes = [v[i] for _, _, v in pilots]
            # Not the mean: the variance of a pixel that a cosmic ray has hit is an outlier too.
            variances.append(
                None
                if planes[0] is None
                else np.median(np.stack([p for p in planes if p is not None]), axis=0)
            )
        return middle, count, variances

    def _pilots(self) -> list[tuple[Array, Mask, Variances]]:
        """Read a few integrations over the stack, such that have good pixels where possible."""
        number = self.image.data.shape[0]
        found = [self.read(i, self.columns) for i in _evenly_spaced(range(number))]
        if all(good.any() for _, good, _ in found):
            return found
        usable = [i for i in range(number) if self.read(i, self.columns, variances=False)[1].any()]
        return [self.read(i, self.columns) for i in _evenly_spaced(usable)] or found

    def _mean_cutout(
        self, data: Array, good: Mask, variances: Variances, number: int
    ) -> MeanCutout:
        total = np.zeros_like(data)
        for values in variances:
            if values is not None:
                total += values
        good = good & np.isfinite(self.wavelength)[:, np.newaxis]
        if not good.any():
            raise ProductError(
                "every pixel is NaN, flagged, or has a negative variance", subject=self.image.label
            )
        if not (total[good] > 0).any():
            total[good] = 1.0  # no variances: equal weights
        floor = 1e-3 * median(total[good])
        # In units of the row's level, which changes fast at the ends of the spectrum.
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
    """Return up to `_PILOTS` of the numbers, from the first to the last."""
    at = np.linspace(0, len(numbers) - 1, min(_PILOTS, len(numbers)))
    return [numbers[int(index)] for index in at]


# --- measuring -----------------------------------------------------------------------------------

#: Clipping of a stack: distance from the pixel's median, in standard deviations by the median
#: absolute deviation, above which an integration is excluded; from this number of integrations on.
_STACK_CLIP, _FEWEST_CLIPPED = 6.0, 5

#: Smallest fraction of good pixels in a column at the edge that is part of the image.
_FEWEST_GOOD = 0.2

#: Standard deviation of a normal distribution over its median absolute deviation.
_SIGMA_PER_MAD = 1.4826


@dataclass(frozen=True, eq=False)
class SlitCutout:
    """Pixels of a slit that hold data; of a stack, their mean.

    Parameters
    ----------
    data : ndarray
        Shape (row, column), 0 at pixels that are not good.
    good : ndarray of bool
        Pixels that take part in the fit.
    variances : tuple of ndarray
        Poisson, read noise and flat-field variance, each of the shape of the data.
    rows, columns : ndarray of int
        Row and column numbers in the image.
    wave : ndarray
        Wavelength of each row in micron.
    curve : ndarray
        WCS trace less its column in the reference row, shape (row,).
    reference : int
        Row of the image in which the columns of sources are given.
    scale : float
        Pixel scale along the slit, in arcsec per column.
    label : str
        Name of the image in messages.
    follows_wcs : bool
        Whether the WCS gives the curve; otherwise it is 0.
    """

    data: Array
    good: Mask
    variances: tuple[Array, Array, Array]
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
        """Cut out the pixels inside the bounding box that hold data.

        Raises
        ------
        SourceError
            If there are too few of them.
        """
        wavelength = np.asarray(image.wavelength, dtype=float)
        (left, right), (bottom, top) = image.bounding_box
        inside = np.isfinite(wavelength)
        row_index, column_index = np.arange(image.shape[0]), np.arange(image.shape[1])
        inside &= ((row_index >= bottom) & (row_index <= top))[:, np.newaxis]
        inside &= (column_index >= left) & (column_index <= right)
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if rows.size < 3 or columns.size < 5:
            raise SourceError(
                f"{rows.size} rows and {columns.size} columns have a wavelength, "
                "expected at least 3 and 5",
                subject=image.label,
            )
        rows = np.arange(rows[0], rows[-1] + 1)
        columns = np.arange(columns[0], columns[-1] + 1)
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        data, good, variances = _clipped_mean(image, window)
        good &= inside[window]
        # Empty rows and columns at the edges are no part of the image.
        columns_used = np.flatnonzero(good.mean(axis=0) > _FEWEST_GOOD)
        if columns_used.size < 5:
            raise SourceError("fewer than 5 columns hold data", subject=image.label)
        cut = slice(columns_used[0], columns_used[-1] + 1)
        used = np.flatnonzero(good[:, cut].sum(axis=1) >= 5)
        if used.size < 3:
            raise SourceError(
                f"{used.size} rows hold data, expected at least 3", subject=image.label
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
            variances=tuple(np.where(good, v, 0.0)[used, cut] for v in variances),  # type: ignore[arg-type]
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
        """Expected standard deviation of the core in columns, shape (row,)."""
        return expected_core(self.wave, self.scale)

    @cached_property
    def along(self) -> Array:
        """Coordinate along the rows, from -1 to 1."""
        span = max(float(self.rows[-1] - self.rows[0]), 1.0)
        return 2.0 * (self.rows - self.rows[0]) / span - 1.0

    @cached_property
    def across(self) -> Array:
        """Coordinate across the columns, from -1 to 1; `background_basis` rounds differently."""
        return np.linspace(-1.0, 1.0, self.columns.size)


def _clipped_mean(
    image: SlitImage, window: tuple[slice, slice]
) -> tuple[Array, Mask, tuple[Array, Array, Array]]:
    """Data, good pixels and variances of an image, or of the clipped mean of a stack."""
    shape = (window[0].stop - window[0].start, window[1].stop - window[1].start)
    planes = [getattr(image, name) for name in PLANES]
    if all(plane is None for plane in planes) and image.err is not None:
        planes[0] = image.err  # squared below
    squared = planes[0] is image.err and planes[0] is not None
    if not image.is_stack:
        data = np.asarray(image.data[window], dtype=float)
        good = good_pixels(image, window)
        found = [np.zeros(shape) if p is None else np.asarray(p[window], float) for p in planes]
        if squared:
            found[0] = found[0] ** 2
        if not any(p is not None for p in planes):
            found[0] = np.broadcast_to(_scatter(data, good) ** 2, shape).copy()
        unweighted = unweighted_mask(found)  # ERR where there are no variances
        if unweighted is not None:
            good &= ~unweighted
        return data, good, (found[0], found[1], found[2])
    number = image.data.shape[0]
    data, good = np.empty(shape), np.empty(shape, dtype=bool)
    found = [np.zeros(shape) for _ in planes]
    step = max(1, (1 << 21) // (number * shape[1]))  # rows of 2 million values at a time
    for first in range(0, shape[0], step):
        part = slice(first, min(first + step, shape[0]))
        where = (
            slice(None),
            slice(window[0].start + part.start, window[0].start + part.stop),
            window[1],
        )
        values = np.asarray(image.data[where], dtype=float)
        used = good_pixels(image, where)
        if number >= _FEWEST_CLIPPED:
            used &= ~_outlying_integrations(values, used)
        count = used.sum(axis=0)
        share = np.maximum(count, 1)
        data[part] = np.where(used, values, 0.0).sum(axis=0) / share
        good[part] = count > 0
        for plane, name, out in zip(planes, PLANES, found, strict=True):
            if plane is None:
                continue
            variance = np.asarray(plane[where], dtype=float)
            if squared:
                variance = variance**2
            total = np.where(used & np.isfinite(variance), variance, 0.0).sum(axis=0)
            # The error of the flat field is common to all integrations: it does not average out.
            out[part] = total / (share if name == "var_flat" else share**2)
    if not any(p is not None for p in planes):
        found[0][...] = _scatter(data, good) ** 2
    return data, good, (found[0], found[1], found[2])


def _outlying_integrations(values: Array, good: Mask) -> Mask:
    """Return the integrations that are far from the pixel's median."""
    masked = np.where(good, values, np.nan)
    distance = np.abs(masked - nanmedian(masked, axis=0))
    with np.errstate(invalid="ignore"):
        sigma = _STACK_CLIP * _SIGMA_PER_MAD * np.maximum(nanmedian(distance, axis=0), 1e-300)
        return distance > sigma


def _scatter(data: Array, good: Mask) -> float:
    """Noise of an image without variances, from differences between neighbouring rows."""
    both = good[1:] & good[:-1]
    steps = (data[1:] - data[:-1])[both]
    if steps.size == 0:
        return 1.0
    mad = float(np.median(np.abs(steps - np.median(steps))))
    return max(_SIGMA_PER_MAD * mad / math.sqrt(2.0), 1e-300)
