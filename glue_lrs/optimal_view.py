"""The part of an image that an optimal extraction works on, and the sources in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import ProductError
from glue_lrs.image import DO_NOT_USE, SlitImage
from glue_lrs.learn import Pixels
from glue_lrs.position import SourcePosition, expected_position, expected_trace
from glue_lrs.profile import FWHM, PIXEL_SCALE, expected_fwhm

PLANES = ("var_poisson", "var_rnoise", "var_flat")

#: Integrations of which the median stands at the beginning of a stack's mean.
_PILOTS = 9

#: Pixels that tell how bright an integration is, and fraction of them that must be alike.
_BRIGHT, _ALIKE = 20, 0.7


@dataclass(frozen=True, eq=False)
class Mean:
    """The mean of a stack, or a single image, to learn from; with its three variances."""

    pixels: Pixels
    variances: list[NDArray[np.float64] | None]
    number: int


@dataclass(frozen=True, eq=False)
class View:
    """The part of an image that has a wavelength."""

    image: SlitImage
    rows: slice
    columns: slice
    wavelength: NDArray[np.float64]
    lit: NDArray[np.bool_]

    @classmethod
    def of(cls, image: SlitImage) -> View:
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

    def mean(self) -> Mean:
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
    ) -> Mean:
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
        pixels = Pixels(
            np.where(good, data, 0.0),
            np.maximum(smooth, max(floor, 1e-300)),
            good,
            self.wavelength,
            columns,
        )
        return Mean(pixels, variances, number)


def _evenly(numbers: Sequence[int]) -> list[int]:
    """Some of many, from the first to the last."""
    some = np.linspace(0, len(numbers) - 1, min(_PILOTS, len(numbers)))
    return [numbers[int(at)] for at in some]


def running(values: NDArray[np.float64], good: NDArray[np.bool_], half: int) -> NDArray[np.float64]:
    """Mean over rows from `half` before to `half` after, of good pixels."""
    total, count = window(values, half), window(good.astype(float), half)
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0.5)


def window(values: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """Sum over rows from `half` before to `half` after; cut off at the ends."""
    rows = values.shape[0]
    total = np.zeros((rows + 2 * half + 1, *values.shape[1:]))
    inner = slice(half + 1, half + 1 + rows)
    np.cumsum(values, axis=0, out=total[inner])
    total[inner.stop :] = total[inner.stop - 1]
    return np.asarray(total[2 * half + 1 :] - total[:rows])


def header_column(image: SlitImage) -> float | None:
    """Column of the source in the middle row, by the header; None where it does not tell."""
    row = image.shape[0] // 2
    known = image.wavelength[row][np.isfinite(image.wavelength[row])]
    if image.kind != "s2d" or known.size == 0:
        position = expected_position(image)
        return position.column if isinstance(position, SourcePosition) else None
    # The trace is straight: one call of the WCS, which takes longer than the fit of a row, will do.
    if image.source_ra is None or image.source_dec is None or image.wcs is None:
        return None
    wavelength = float(known.mean())
    found = image.wcs.backward_transform(image.source_ra, image.source_dec, wavelength)
    column = float(found[0])
    return column if -0.5 <= column <= image.shape[1] - 0.5 else None


@dataclass(frozen=True)
class Extreme:
    """A maximum along the slit, or a minimum, of which light and ratio are negative.

    `column` is that in the middle row, `ratio` a signal-to-noise ratio, `dip` the least light
    between it and a brighter one, as a fraction of its own.
    """

    column: float
    ratio: float
    light: float
    dip: float


def find_sources(pixels: Pixels, shape: NDArray[np.float64], chunk: int = 64) -> list[Extreme]:
    """Find maxima and minima along the slit.

    Parameters
    ----------
    pixels : Pixels
        The image.
    shape : ndarray
        How far the trace is from its column in the middle row, shape (row,).
    chunk : int
        Rows of which the median is taken.

    Returns
    -------
    list of Extreme
        The one with the most light first.
    """
    rows, width = pixels.data.shape
    number = max(rows // chunk, 1)
    edges = np.linspace(0, rows, number + 1).astype(int)
    light, noise = np.zeros(width), np.zeros(width)
    columns = pixels.columns
    beyond = np.arange(width + 12) + (columns[0] - 6.0)
    for first, last in pairwise(edges.tolist()):
        good = pixels.good[first:last]
        some = good.any(axis=1)
        if not some.any():
            continue
        values = np.sort(np.where(good, pixels.data[first:last], np.inf), axis=0)
        count = good.sum(axis=0)
        low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, last - first - 1)
        c = np.arange(width)
        middle = 0.5 * (values[low, c] + values[high, c])
        known = count > (last - first) / 4
        if known.sum() < 8:
            continue
        variance = np.where(good, pixels.variance[first:last], 0.0).sum(axis=0)
        variance = 1.6 * variance / np.maximum(count, 1) ** 2  # of a median
        wave = pixels.wavelength[first:last]
        sigma = float(expected_fwhm(wave[np.isfinite(wave)].mean())) / (PIXEL_SCALE * FWHM)
        level = median(middle[known])
        x = columns - np.mean(shape[first:last])
        flat = np.interp(columns, x[known], middle[known] - level, left=0.0, right=0.0)
        error = np.interp(beyond, x[known], variance[known])
        kernel = np.exp(-0.5 * (np.arange(-6, 7) / sigma) ** 2)
        weight = 1.0 / median(error[6:-6])
        light += weight * np.convolve(flat, kernel)[6:-6]
        noise += weight**2 * np.convolve(error, kernel**2, mode="valid")
    # Maxima of the light: over its own photon noise a bright source has two, one on either side.
    ratio = light / np.sqrt(np.maximum(noise, 1e-300))
    found = []
    for sign in (1.0, -1.0):
        value = sign * light
        peak = np.flatnonzero((value[1:-1] >= value[:-2]) & (value[1:-1] > value[2:])) + 1
        for at in peak:
            before, here, after = value[at - 1 : at + 2]
            curvature = before - 2.0 * here + after
            part = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
            higher = np.flatnonzero(value > here)
            between = [
                value[min(at, other) : max(at, other) + 1].min()
                for other in (higher[higher < at][-1:], higher[higher > at][:1])
                for other in other.tolist()
            ]
            dip = max(between, default=0.0) / here if here > 0 else 1.0
            column = float(columns[at] + part)
            found.append(Extreme(column, float(ratio[at]), float(sign * here), float(dip)))
    return sorted(found, key=lambda item: -abs(item.light))


def median(values: NDArray[np.float64]) -> float:
    """Median of numbers, none of them NaN; NumPy's own looks for those first."""
    low, high = (values.size - 1) // 2, values.size // 2
    ordered = np.partition(values, (low, high))
    return float(0.5 * (ordered[low] + ordered[high]))


def row_level(values: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Median of each row's pixels, shape (row, 1); more than 0."""
    ordered = np.sort(np.where(mask, values, np.inf), axis=1)
    count = mask.sum(axis=1)
    middle = ordered[np.arange(len(values)), np.maximum(count - 1, 0) // 2]
    known = (count > 0) & np.isfinite(middle) & (middle > 0)
    if not known.any():
        return np.ones((len(values), 1))
    rows = np.arange(len(values))
    return np.interp(rows, rows[known], middle[known])[:, np.newaxis]
