"""The part of an image that an optimal extraction works on, and the sources in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.statistics import median, nanmedian, row_level, running
from glue_lrs.errors import ProductError, ProfileError, SourceError
from glue_lrs.image.pixels import PLANES, good_pixels
from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.image.trace import expected_trace, wcs_bend
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.profiles.diffraction import expected_core

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.image.slit_image import SlitImage

__all__ = ["Cutout", "MeanCutout", "PixelPlanes", "SlitCutout"]


@dataclass(frozen=True, eq=False)
class PixelPlanes:
    """A part of an image that a profile is fitted to.

    Parameters
    ----------
    data : ndarray
        Shape (row, column), 0 where not good.
    variance : ndarray
        Of the same shape, more than 0.
    good : ndarray of bool
        Which pixels count.
    wavelength : ndarray
        Of each row in micron, shape (row,).
    columns : ndarray
        Column number of each column.
    """

    data: NDArray[np.float64]
    variance: NDArray[np.float64]
    good: NDArray[np.bool_]
    wavelength: NDArray[np.float64]
    columns: NDArray[np.float64]

    def offsets(self, trace: NDArray[np.float64]) -> NDArray[np.float64]:
        """Columns from a trace, shape (row, column)."""
        return self.columns - trace[:, np.newaxis]

    def cut(self, first: float, last: float) -> PixelPlanes:
        """The columns from `first` to `last`."""
        some = slice(*np.searchsorted(self.columns, (first, last + 0.5)).tolist())
        return PixelPlanes(
            self.data[:, some],
            self.variance[:, some],
            self.good[:, some],
            self.wavelength,
            self.columns[some],
        )

    def thinned(self, step: int) -> PixelPlanes:
        """Each so many-th row."""
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
        """First and last wavelength."""
        known = self.wavelength[np.isfinite(self.wavelength)]
        if known.size < 2 or known.min() == known.max():
            raise ProfileError("the image has no two rows of different wavelength to learn from")
        return float(known.min()), float(known.max())


#: Integrations of which the median stands at the beginning of a stack's mean.
_PILOTS = 9

#: Pixels that tell how bright an integration is, and fraction of them that must be alike.
_BRIGHT, _ALIKE = 20, 0.7


@dataclass(frozen=True, eq=False)
class MeanCutout:
    """The mean of a stack, or a single image, to learn from; with its three variances."""

    pixels: PixelPlanes
    variances: list[NDArray[np.float64] | None]
    number: int


@dataclass(frozen=True, eq=False)
class Cutout:
    """The part of an image that has a wavelength."""

    image: SlitImage
    rows: slice
    columns: slice
    wavelength: NDArray[np.float64]
    lit: NDArray[np.bool_]

    @classmethod
    def from_image(cls, image: SlitImage) -> Cutout:
        """Look at an image."""
        finite = np.isfinite(image.wavelength)
        rows, columns = np.flatnonzero(finite.any(axis=1)), np.flatnonzero(finite.any(axis=0))
        if rows.size < 2:
            raise ProductError(f"{image.label}: no two rows have a wavelength")
        r = slice(int(rows[0]), int(rows[-1]) + 1)
        c = slice(int(columns[0]), int(columns[-1]) + 1)
        lit = finite[r, c]
        count = lit.sum(axis=1)
        total = np.where(lit, image.wavelength[r, c], 0.0).sum(axis=1, dtype=float)
        wavelength = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return cls(image, r, c, wavelength, lit)

    @cached_property
    def trace_shape(self) -> NDArray[np.float64]:
        """How far a trace is from its column in the middle row, by the WCS; shape (row,)."""
        image, number = self.image, self.rows.stop - self.rows.start
        if image.kind == "s2d" or image.wcs is None:
            return np.zeros(number)
        (left, right), (bottom, top) = image.bounding_box
        middle = round((bottom + top) / 2.0)
        ra, dec = (float(v) for v in image.wcs((left + right) / 2.0, middle)[:2])
        if not (np.isfinite(ra) and np.isfinite(dec)):
            return np.zeros(number)
        moved = replace(image, source_ra=ra, source_dec=dec, wcs_source=image.wcs)
        trace = expected_trace(moved)
        known = np.isfinite(trace)
        if not known.any():
            return np.zeros(number)
        trace = np.interp(np.arange(trace.size), np.flatnonzero(known), trace[known])
        return (trace - trace[middle])[self.rows]

    def read(
        self, integration: int | slice | None, columns: slice, variances: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[NDArray[np.float64] | None]]:
        """Data (0 where bad), which pixels are good, and the three variances."""
        image = self.image
        part: Any = (self.rows, columns)
        if image.is_stack:
            part = (slice(None) if integration is None else integration, *part)
        data = np.asarray(image.data)[part].astype(float)
        good = np.isfinite(data)
        if image.err is not None:
            good &= ~np.isnan(np.asarray(image.err)[part])
        if image.dq is not None:
            flags = np.asarray(image.dq)[part]
            good &= (flags & flags.dtype.type(DO_NOT_USE)) == 0
        planes: list[NDArray[np.float64] | None] = []
        for name in PLANES:
            plane = getattr(image, name)
            if plane is None:
                planes.append(None)
                continue
            values = np.asarray(plane)[part]
            good &= np.isfinite(values) & (values >= 0)
            planes.append(values.astype(float) if variances else None)
        inner = slice(columns.start - self.columns.start, columns.stop - self.columns.start)
        lit = self.lit[:, inner]
        if not lit.all():
            good &= lit
        if not good.all():
            bad = ~good
            data[bad] = 0.0
            for values in planes:
                if values is not None:
                    values[bad] = 0.0
        return data, good, planes

    def mean(self) -> MeanCutout:
        """The image, or the mean of all integrations without pixels that stand out."""
        image = self.image
        if not image.is_stack or image.data.shape[0] == 1:
            data, good, variances = self.read(0 if image.is_stack else None, self.columns)
            return self._mean(data, good, variances, 1)
        number = image.data.shape[0]
        several = self._pilots()
        stacked = np.stack([np.where(good, data, np.nan) for data, good, _ in several])
        stacked.sort(axis=0)
        count = np.isfinite(stacked).sum(axis=0)
        middle = np.take_along_axis(stacked, np.maximum(count - 1, 0)[np.newaxis] // 2, axis=0)[0]
        middle[count == 0] = 0.0
        spreads: list[NDArray[np.float64] | None] = []
        for i in range(3):
            planes = [v[i] for _, _, v in several]
            # Of a variance the median, as that of a cosmic ray is as wild as the pixel.
            spreads.append(
                None
                if planes[0] is None
                else np.median(np.stack([p for p in planes if p is not None]), axis=0)
            )
        spread = np.sum([v for v in spreads if v is not None], axis=0)
        noise = 8.0 * np.sqrt(np.maximum(spread, 0.0))
        above = middle - np.median(middle, axis=1, keepdims=True)  # the source
        bright = (above > noise) & (above > 0.3 * above.max(axis=1, keepdims=True))
        total, times = np.zeros_like(middle), np.zeros_like(middle)
        for i in range(number):
            data, good, _ = self.read(i, self.columns, variances=False)
            # Of an integration that is fainter as a whole the core must not be left out; one that
            # differs otherwise, as it was moved, is no part of the mean.
            told = bright & good
            many = int(told.sum()) > _BRIGHT
            change = median((data - middle)[told] / above[told]) if many else 0.0
            expected = middle + change * above
            good &= np.abs(data - expected) <= noise + 0.3 * np.abs(expected)
            if many and np.count_nonzero(good & told) < _ALIKE * np.count_nonzero(told):
                continue
            total += np.where(good, data, 0.0)
            times += good
        if not times.any():  # all differ
            total, times = middle, (count > 0).astype(float)
        number = max(int(times.max()), 1)  # some may have no good pixel
        good = times > number / 4
        mean = np.where(good, total / np.maximum(times, 1), 0.0)
        shared = [None if v is None else v / number for v in spreads]
        if shared[2] is not None:  # the flat field's error is that of each integration
            shared[2] = shared[2] * number
        return self._mean(mean, good, shared, number)

    def _pilots(
        self,
    ) -> list[tuple[NDArray[np.float64], NDArray[np.bool_], list[NDArray[np.float64] | None]]]:
        """Some integrations; with good pixels, if any has."""
        number = self.image.data.shape[0]
        found = [self.read(i, self.columns) for i in _evenly(range(number))]
        if all(good.any() for _, good, _ in found):
            return found
        usable = [i for i in range(number) if self.read(i, self.columns, variances=False)[1].any()]
        return [self.read(i, self.columns) for i in _evenly(usable)] or found

    def _mean(
        self,
        data: NDArray[np.float64],
        good: NDArray[np.bool_],
        variances: list[NDArray[np.float64] | None],
        number: int,
    ) -> MeanCutout:
        total = np.zeros_like(data)
        for values in variances:
            if values is not None:
                total += values
        good = good & np.isfinite(self.wavelength)[:, np.newaxis]
        if not good.any():
            raise ProductError(
                f"{self.image.label}: every pixel is NaN, flagged, or has a negative variance"
            )
        if not (total[good] > 0).any():
            total[good] = 1.0  # no variances: all pixels alike
        floor = 1e-3 * median(total[good])
        # In units of the row's level, which changes fast at the ends of the spectrum.
        level = row_level(total, good)
        smooth = level * running(np.where(good, total / level, 0.0), good, 4)
        columns = np.arange(self.columns.start, self.columns.stop, dtype=float)
        pixels = PixelPlanes(
            np.where(good, data, 0.0),
            np.maximum(smooth, max(floor, 1e-300)),
            good,
            self.wavelength,
            columns,
        )
        return MeanCutout(pixels, variances, number)


def _evenly(numbers: Sequence[int]) -> list[int]:
    """Some of many, from the first to the last."""
    some = np.linspace(0, len(numbers) - 1, min(_PILOTS, len(numbers)))
    return [numbers[int(at)] for at in some]


# --- the data ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SlitCutout:
    """The pixels of a slit that hold data, as plain arrays; of a stack their mean.

    `good` tells which are to be used; `variances` are Poisson, read noise and flat field, of the
    shape of `data`. `curve` is the trace less its column at the reference row.
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
        """Cut out what holds data."""
        wavelength = np.asarray(image.wavelength, dtype=float)
        (left, right), (bottom, top) = image.bounding_box
        inside = np.isfinite(wavelength)
        row_index, column_index = np.arange(image.shape[0]), np.arange(image.shape[1])
        inside &= ((row_index >= bottom) & (row_index <= top))[:, np.newaxis]
        inside &= (column_index >= left) & (column_index <= right)
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if rows.size < 3 or columns.size < 5:
            raise SourceError(
                f"{image.label}: {rows.size} rows and {columns.size} columns have a wavelength, "
                "expected at least 3 and 5"
            )
        rows = np.arange(rows[0], rows[-1] + 1)
        columns = np.arange(columns[0], columns[-1] + 1)
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        data, good, variances = _mean_of(image, window)
        good &= inside[window]
        # A row or column at the edge that holds nothing is no part of the image.
        columns_used = np.flatnonzero(good.mean(axis=0) > 0.2)
        if columns_used.size < 5:
            raise SourceError(f"{image.label}: hardly a pixel holds data, expected some columns")
        cut = slice(columns_used[0], columns_used[-1] + 1)
        kept = np.flatnonzero(good[:, cut].sum(axis=1) >= 5)
        if kept.size < 3:
            raise SourceError(f"{image.label}: {kept.size} rows hold data, expected at least 3")
        wave = np.nanmean(np.where(inside, wavelength, np.nan)[rows[kept]], axis=1)
        found = expected_position(image)
        reference = found.row if isinstance(found, SourcePosition) else int((bottom + top) / 2.0)
        reference = int(np.clip(reference, rows[0], rows[-1]))
        curve = wcs_bend(image, rows[kept], reference)
        return cls(
            data=np.where(good, data, 0.0)[kept, cut],
            good=good[kept, cut],
            variances=tuple(np.where(good, v, 0.0)[kept, cut] for v in variances),  # type: ignore[arg-type]
            rows=rows[kept],
            columns=columns[cut],
            wave=wave,
            curve=np.zeros(kept.size) if curve is None else curve,
            reference=reference,
            scale=scale,
            label=image.label,
            follows_wcs=curve is not None,
        )

    @cached_property
    def core(self) -> Array:
        """Standard deviation, in columns, that the core is expected to have in each row."""
        return expected_core(self.wave, self.scale)

    @cached_property
    def along(self) -> Array:
        """Coordinate along the rows, from -1 to 1."""
        span = max(float(self.rows[-1] - self.rows[0]), 1.0)
        return 2.0 * (self.rows - self.rows[0]) / span - 1.0

    @cached_property
    def across(self) -> Array:
        """Coordinate across the columns, from -1 to 1."""
        return np.linspace(-1.0, 1.0, self.columns.size)


def _mean_of(
    image: SlitImage, window: tuple[slice, slice]
) -> tuple[Array, Mask, tuple[Array, Array, Array]]:
    """Data, which pixels are good, and the variances, of a part of an image or of a stack's mean.

    Values that stand out from a pixel's other integrations are left out of the mean.
    """
    shape = (window[0].stop - window[0].start, window[1].stop - window[1].start)
    names = ("var_poisson", "var_rnoise", "var_flat")
    planes = [getattr(image, name) for name in names]
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
        for plane in found:
            good &= np.isfinite(plane) & (plane >= 0)
        return data, good, (found[0], found[1], found[2])
    number = image.data.shape[0]
    data, good = np.empty(shape), np.empty(shape, dtype=bool)
    found = [np.zeros(shape) for _ in planes]
    step = max(1, (1 << 21) // (number * shape[1]))
    for first in range(0, shape[0], step):
        part = slice(first, min(first + step, shape[0]))
        where = (
            slice(None),
            slice(window[0].start + part.start, window[0].start + part.stop),
            window[1],
        )
        values = np.asarray(image.data[where], dtype=float)
        fine = good_pixels(image, where)
        if number >= 5:
            fine &= ~_stands_out(values, fine)
        count = fine.sum(axis=0)
        share = np.maximum(count, 1)
        data[part] = np.where(fine, values, 0.0).sum(axis=0) / share
        good[part] = count > 0
        for plane, name, out in zip(planes, names, found, strict=True):
            if plane is None:
                continue
            variance = np.asarray(plane[where], dtype=float)
            if squared:
                variance = variance**2
            usable = fine & np.isfinite(variance) & (variance >= 0)
            total = np.where(usable, variance, 0.0).sum(axis=0)
            # The flat field is the same in all integrations: its error does not average out.
            out[part] = total / (share if name == "var_flat" else share**2)
    if not any(p is not None for p in planes):
        found[0][...] = _scatter(data, good) ** 2
    return data, good, (found[0], found[1], found[2])


def _stands_out(values: Array, fine: Mask) -> Mask:
    """Integrations that are far from the pixel's median."""
    masked = np.where(fine, values, np.nan)
    middle = nanmedian(masked, axis=0)
    away = np.abs(masked - middle)
    with np.errstate(invalid="ignore"):
        return away > 6.0 * 1.4826 * np.maximum(nanmedian(away, axis=0), 1e-300)


def _scatter(data: Array, good: Mask) -> float:
    """Noise of an image without variances: from differences between neighbouring rows."""
    both = good[1:] & good[:-1]
    steps = (data[1:] - data[:-1])[both]
    if steps.size == 0:
        return 1.0
    return max(1.4826 * float(np.median(np.abs(steps - np.median(steps)))) / math.sqrt(2.0), 1e-300)
