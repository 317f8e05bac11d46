"""Search of a group of integrations for outliers along time; `time_outliers` describes the model.

The arrays of pixels are in single precision, and a block of bands fits into the processor's cache.
The blocks are searched one by one, or in the threads of `for_each`. Expected values and medians of
the errors are computed for the pixels that need them only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from glue_lrs._utils.parallel import for_each
from glue_lrs._utils.statistics import SIGMA_PER_MAD, masked_median, median_variance
from glue_lrs.fitting.robust_fit import robust_fit
from glue_lrs.image.pixels import PLANES, lost_mask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glue_lrs._utils.typing import Array, Mask

#: Deviation in standard deviations above which a pixel is an outlier. Normal noise exceeds it in
#: one of two million pixels.
_THRESHOLD = 5.0

#: Number of rows in a band, within which the relative change of the flux must be constant.
_BAND = 24

#: Number of integrations from which a typical error is computed.
_ERRORS = 16

#: Number of bands that are searched together, of which the arrays fit into the processor's cache.
_TOGETHER = 4

#: Number of images in the model of a band.
_TERMS = 4


@dataclass(frozen=True, eq=False)
class FoundPixels:
    """Pixels of a group of integrations, and their values that follow from other integrations.

    Parameters
    ----------
    places : ndarray of int
        Integration, row and column in the group, shape (3, pixel), in the order of the pixels in
        memory.
    values : dict of ndarray
        Expected value, error and variances by the name of the plane, each of shape (pixel,).
    """

    places: NDArray[np.intp]
    values: dict[str, NDArray[Any]]


def search_group(
    planes: Mapping[str, NDArray[Any]], known: Mask
) -> tuple[FoundPixels, FoundPixels]:
    """Return the outliers of a group of integrations, and the lost pixels that can be replaced.

    Parameters
    ----------
    planes : dict of ndarray
        Planes of the group by their names in `SlitImage`, in native byte order, shape (integration,
        row, column).
    known : ndarray of bool
        Mask of the pixels with a wavelength, shape (row, column).
    """
    rows, columns = known.shape
    height = -(-rows // max(round(rows / _BAND), 1))
    edges = [*range(0, rows, _TOGETHER * height), rows]
    cuts = [slice(first, stop) for first, stop in pairwise(edges)]
    lost = np.empty(planes["data"].shape, dtype=bool)

    def find_lost(cut: slice) -> None:
        lost[:, cut] = lost_mask({name: plane[:, cut] for name, plane in planes.items()})

    for_each(find_lost, cuts)
    sigma = _typical_error(planes, lost)
    blocks = [_Block(planes, lost, sigma, cut, height) for cut in cuts]
    for_each(_Block.find_median, blocks)
    terms = _terms(np.concatenate([block.middle for block in blocks]).reshape(rows, columns))
    for_each(lambda block: block.search(terms[:, block.rows]), blocks)
    scatter = np.concatenate([block.scatter for block in blocks]).reshape(rows, columns)
    # With few integrations, the scatter of one pixel may be small by chance.
    row, column = np.divmod(np.concatenate([block.suspects for block in blocks]), columns)
    limit = np.maximum(scatter, 1.0)
    limit[row, column] = np.maximum(limit[row, column], _row_median(scatter, row, column))
    limit *= _THRESHOLD
    for_each(lambda one: one.judge(limit[one.rows].ravel(), known[one.rows].ravel()), blocks)
    return (
        _joined([block.outliers for block in blocks], lost.shape),
        _joined([block.lost for block in blocks], lost.shape),
    )


class _Block:
    """Some rows of a group of integrations, which are divided into bands.

    Parameters
    ----------
    planes : dict of ndarray
        Planes of the group.
    lost : ndarray of bool
        Mask of the lost pixels of the group, shape (integration, row, column).
    sigma : ndarray
        Error of one integration, shape (row, column).
    rows : slice
        Rows of the block.
    height : int
        Number of rows in a band.

    Attributes
    ----------
    middle : ndarray
        Median over the integrations, NaN where all are lost, shape (pixel,).
    scatter : ndarray
        Scatter of each pixel along time in units of its error, shape (pixel,).
    suspects : ndarray of int
        Flat indices in the group of the pixels that may be outliers in some integration.
    outliers, lost : FoundPixels
        Outliers, and lost pixels that can be replaced.
    """

    middle: Array
    scatter: NDArray[np.float32]
    suspects: NDArray[np.intp]
    outliers: FoundPixels
    lost: FoundPixels

    def __init__(
        self,
        planes: Mapping[str, NDArray[Any]],
        lost: Mask,
        sigma: NDArray[np.float32],
        rows: slice,
        height: int,
    ) -> None:
        self.rows, self._planes, self._columns = rows, planes, lost.shape[-1]
        self._is_lost = lost[:, rows].reshape(len(lost), -1)
        self._sigma = sigma[rows].ravel()
        self._size = height * self._columns

    def _plane(self, name: str) -> NDArray[Any]:
        """Return a plane of the block, shape (integration, pixel)."""
        plane = self._planes[name][:, self.rows]
        return plane.reshape(len(plane), -1)

    def _bands(self, values: NDArray[Any], fill: float = 0) -> NDArray[Any]:
        """Divide the pixels of an array into bands, shape (band, ..., pixel)."""
        missing = -values.shape[-1] % self._size
        if missing:
            ends = [(0, 0)] * (values.ndim - 1) + [(0, missing)]
            values = np.pad(values, ends, constant_values=fill)
        return np.moveaxis(values.reshape(*values.shape[:-1], -1, self._size), -2, 0)

    def find_median(self) -> None:
        """Find the median over the integrations."""
        data = self._plane("data").astype(np.float32, copy=False)
        self.middle = masked_median(data, ~self._is_lost)

    def search(self, terms: NDArray[np.float32]) -> None:
        """Fit the model to each integration, and find the pixels that may be outliers.

        `terms` contains the images of the model, shape (term, row, column).
        """
        data, number = self._plane("data").astype(np.float32, copy=False), len(self._is_lost)
        middle = np.nan_to_num(self.middle)
        self._terms = terms.reshape(_TERMS, -1) / self._sigma
        offset, scale = self._bands(middle.astype(np.float32)), self._bands(1.0 / self._sigma)
        pull = np.subtract(self._bands(data), offset[:, np.newaxis], order="C")
        pull *= scale[:, np.newaxis]
        lost = np.ascontiguousarray(self._bands(self._is_lost, fill=1))
        bad = np.flatnonzero(lost)
        np.put(pull, bad, 0.0)
        known = self._bands(np.isfinite(self.middle))
        images = np.ascontiguousarray(self._bands(self._terms))
        self._found, self._fitted, model = robust_fit(images, pull, lost, known)
        pull -= model
        np.put(pull, bad, 0.0)
        pull[~self._fitted] = 0.0
        # A brighter source has larger noise, and the noise of the median is scaled with the source.
        bright = middle > _THRESHOLD * self._sigma
        ratio = np.divide(self._sigma, middle, out=np.zeros_like(middle), where=bright)
        model *= self._bands(ratio.astype(np.float32))[:, np.newaxis]
        power = np.square(pull, out=pull)
        variance = np.square(model)
        variance *= np.float32(median_variance(np.array(number)))
        variance += np.clip(model, 0.0, np.float32(np.inf), out=model)
        variance += 1.0
        power /= variance
        # The final limit is not lower than this one.
        candidates = np.flatnonzero(power > 0.999 * _THRESHOLD**2)
        self._power = power.ravel()[candidates]
        band, place = np.divmod(candidates, number * self._size)
        self._time, self._pixel = np.divmod(place, self._size)
        self._pixel += band * self._size
        self.suspects = np.unique(self._pixel) + self.rows.start * self._columns
        power.sort(axis=1)
        both = power[:, [(number - 1) // 2, number // 2]].astype(float)
        scatter = SIGMA_PER_MAD * np.sqrt(both).mean(axis=1)
        self.scatter = scatter.ravel()[: self._sigma.size].astype(np.float32)

    def judge(self, limit: NDArray[np.float32], known: Mask) -> None:
        """Find outliers and replaceable lost pixels, with their values.

        Parameters
        ----------
        limit : ndarray
            Deviation in units of the error above which a pixel is an outlier, shape (pixel,).
        known : ndarray of bool
            Mask of the pixels with a wavelength, shape (pixel,).
        """
        number, size = self._is_lost.shape
        above = self._power > np.square(limit)[self._pixel]
        outliers = (self._time * size + self._pixel)[above]
        # A pixel that is lost in most integrations is not known well enough to be replaced, nor is
        # one in an integration of which most of the band is lost.
        bad = np.flatnonzero(self._is_lost)
        time, pixel = np.divmod(bad, size)
        often = number - np.bincount(pixel, minlength=size) > 0.5 * number
        lost = bad[(often & known)[pixel] & self._fitted[pixel // self._size, time]]
        typical = ~self._is_lost
        np.put(typical, outliers, False)
        marked = np.zeros(size, dtype=bool)
        marked[outliers % size] = marked[lost % size] = True
        pixels, place = np.flatnonzero(marked), np.cumsum(marked) - 1
        usable = np.take(typical, pixels, axis=1)
        medians = {
            name: masked_median(np.take(self._plane(name), pixels, axis=1), usable)
            for name in ("err", *PLANES)
            if name in self._planes
        }
        self.outliers, self.lost = (
            self._values(at, {name: median[place[at % size]] for name, median in medians.items()})
            for at in (outliers, lost)
        )

    def _values(self, at: NDArray[np.intp], values: dict[str, NDArray[Any]]) -> FoundPixels:
        """Return the pixels at flat indices with their expected value and other values."""
        time, pixel = np.divmod(at, self._is_lost.shape[1])
        row, column = np.divmod(pixel, self._columns)
        found = self._found[pixel // self._size, time]
        model = np.einsum("nt,tn->n", found, self._terms[:, pixel])
        expected = self.middle[pixel] + model * self._sigma[pixel]
        places = np.array([time, row + self.rows.start, column])
        return FoundPixels(places, {"data": expected.astype(np.float32), **values})


def _terms(middle: Array) -> NDArray[np.float32]:
    """Return the images of the model (see `time_outliers`), shape (term, row, column)."""
    columns = np.arange(middle.shape[1], dtype=float)
    filled = np.array(middle)
    for number in np.flatnonzero(~np.isfinite(filled).all(axis=1)):
        row = filled[number]
        known = np.isfinite(row)
        row[:] = np.interp(columns, columns[known], row[known]) if known.any() else 0.0
    filled -= np.median(filled, axis=1, keepdims=True)  # the background
    spline = CubicSpline(columns, filled, axis=1)
    images = [filled, spline(columns, 1), spline(columns, 2), np.ones_like(filled)]
    return np.asarray(images, dtype=np.float32)


def _typical_error(planes: Mapping[str, NDArray[Any]], lost: Mask) -> NDArray[np.float32]:
    """Return the error of each pixel in a typical integration, shape (row, column).

    It is the median error from the variances, without that of the flat field, which is the same in
    all integrations; else the median of ERR; else the scatter of neighbouring integrations.
    """
    some = slice(None, None, max(len(lost) // _ERRORS, 1))
    good = ~lost[some]
    names = [name for name in ("var_poisson", "var_rnoise") if name in planes]
    sigma = np.zeros(lost.shape[1:])
    usable = np.zeros(lost.shape[1:], dtype=bool)
    if names:
        variance = np.sum([planes[name][some] for name in names], axis=0)
        sigma = np.sqrt(np.maximum(masked_median(variance, good), 0.0))
        usable = np.isfinite(sigma) & (sigma > 0)
    if "err" in planes and not usable.all():
        other = ~usable
        errors = np.asarray(planes["err"][some][:, other], dtype=float)
        sigma[other] = np.sqrt(masked_median(np.square(errors), good[:, other]))
        usable = np.isfinite(sigma) & (sigma > 0)
    if not usable.any():
        change = np.abs(np.diff(planes["data"].astype(np.float32), axis=0)) / np.sqrt(2.0)
        sigma = SIGMA_PER_MAD * masked_median(change, ~(lost[1:] | lost[:-1]))
        usable = np.isfinite(sigma) & (sigma > 0)
    typical = float(np.median(sigma[usable])) if usable.any() else 1.0  # no noise at all
    return np.where(usable, sigma, typical).astype(np.float32)


def _row_median(
    values: NDArray[np.float32], row: NDArray[np.intp], column: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the running median over `_BAND` rows at some pixels.

    Of an even number of values, it is the larger middle one, as in `scipy.ndimage.median_filter`.
    """
    half = _BAND // 2
    padded = np.pad(values, ((half, _BAND - half - 1), (0, 0)), mode="edge")
    windows = sliding_window_view(padded, _BAND, axis=0)[row, column]
    return np.asarray(np.sort(windows, axis=-1)[:, half])


def _joined(parts: list[FoundPixels], shape: tuple[int, ...]) -> FoundPixels:
    """Return the pixels of all bands in the order of the pixels in memory."""
    places = np.concatenate([part.places for part in parts], axis=1)
    order = np.argsort(np.ravel_multi_index(tuple(places), shape))
    values = {
        name: np.concatenate([part.values[name] for part in parts])[order]
        for name in parts[0].values
    }
    return FoundPixels(places[:, order], values)
