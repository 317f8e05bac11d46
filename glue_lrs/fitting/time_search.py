"""Search of a group of integrations for outliers along time; `time_outliers` describes the model.

All arrays of pixels are in single precision, with the integrations along the first axis. The bands
are searched one by one, or in the threads of `for_each`. Sums of squares and medians that exist for
all pixels are computed once, and replaced values only for the pixels that need them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from glue_lrs._utils.parallel import for_each
from glue_lrs._utils.statistics import SIGMA_PER_MAD, masked_median, median_variance
from glue_lrs.fitting.least_squares import solve_ridge
from glue_lrs.image.pixels import PLANES, lost_mask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glue_lrs._utils.typing import Array, Mask

#: Deviation in standard deviations above which a pixel is an outlier. Normal noise exceeds it in
#: one of two million pixels.
_THRESHOLD = 5.0

#: Number of rows in a band, within which the relative change of the flux must be constant.
_BAND = 24

#: Deviation in standard deviations above which a pixel gets less weight in the first fits (Huber),
#: and above which it gets none in the last (Tukey's biweight; 4.7 is usual, for 95% efficiency).
_HUBER, _TUKEY = 1.5, 6.0

#: Number of fits with each of the two weights, after which the fits have converged.
_FITS = 3

#: Largest deviation of a pixel in standard deviations above which a fit is repeated with weights.
_OUTLYING = 4.5

#: Smallest number of pixels of a band from which a standard deviation is estimated, to 8% or
#: better, and lower limit of this standard deviation.
_SAMPLE, _SMALLEST = 200, 1e-3

#: Fraction of the information about flux and background that the good pixels of a band must
#: contain. Otherwise its lost pixels are not replaced.
_INFORMATION = 0.5

#: Number of integrations from which a typical error is computed.
_ERRORS = 16

#: Number of images in the model of a band, and the pairs of them whose products are different.
_TERMS = 4
_PAIRS = np.triu_indices(_TERMS)

#: Number of the pair for each element of a normal matrix.
_PAIR_OF = np.zeros((_TERMS, _TERMS), dtype=int)
_PAIR_OF[_PAIRS] = _PAIR_OF[_PAIRS[::-1]] = np.arange(_PAIRS[0].size)


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
    cuts = [slice(first, min(first + height, rows)) for first in range(0, rows, height)]
    lost = np.empty(planes["data"].shape, dtype=bool)

    def find_lost(cut: slice) -> None:
        lost[:, cut] = lost_mask({name: plane[:, cut] for name, plane in planes.items()})

    for_each(find_lost, cuts)
    sigma = _typical_error(planes, lost)
    step = max(height * columns // _SAMPLE, 1)
    bands = [_Band(planes, lost, sigma, cut, step) for cut in cuts]
    for_each(_Band.find_median, bands)
    terms = _terms(np.concatenate([band.middle for band in bands]).reshape(rows, columns))
    for_each(lambda band: band.search(terms[:, band.rows]), bands)
    scatter = np.concatenate([band.scatter for band in bands]).reshape(rows, columns)
    # With few integrations, the scatter of one pixel may be small by chance.
    limit = _THRESHOLD * np.maximum(np.maximum(scatter, _row_median(scatter)), 1.0)
    for_each(lambda band: band.judge(limit[band.rows].ravel(), known[band.rows].ravel()), bands)
    return (
        _joined([band.outliers for band in bands], lost.shape),
        _joined([band.lost for band in bands], lost.shape),
    )


class _Band:
    """Some rows of a group of integrations.

    Parameters
    ----------
    planes : dict of ndarray
        Planes of the group.
    lost : ndarray of bool
        Mask of the lost pixels of the group, shape (integration, row, column).
    sigma : ndarray
        Error of one integration, shape (row, column).
    rows : slice
        Rows of the band.
    step : int
        Every `step`-th pixel is in the sample from which standard deviations are estimated.

    Attributes
    ----------
    middle : ndarray
        Median over the integrations, NaN where all are lost, shape (pixel,).
    scatter : ndarray
        Scatter of each pixel along time in units of its error, shape (pixel,).
    outliers, lost : tuple
        Integration, row and column of pixels, and their values; see `FoundPixels`.
    """

    middle: Array
    scatter: NDArray[np.float32]
    outliers: FoundPixels
    lost: FoundPixels

    def __init__(
        self,
        planes: Mapping[str, NDArray[Any]],
        lost: Mask,
        sigma: NDArray[np.float32],
        rows: slice,
        step: int,
    ) -> None:
        self.rows, self._planes, self._step = rows, planes, step
        self._columns = lost.shape[-1]
        self._is_lost = np.ascontiguousarray(lost[:, rows]).reshape(len(lost), -1)
        self._sigma = sigma[rows].ravel()

    def _plane(self, name: str) -> NDArray[Any]:
        """Return a plane of the band, shape (integration, pixel)."""
        plane = self._planes[name][:, self.rows]
        return plane.reshape(len(plane), -1)

    def find_median(self) -> None:
        """Find the median over the integrations."""
        data = self._plane("data").astype(np.float32, copy=False)
        self.middle = masked_median(data, ~self._is_lost)

    def search(self, terms: NDArray[np.float32]) -> None:
        """Fit the model to each integration, and find the pixels that may be outliers.

        `terms` contains the images of the model, shape (term, row, column).
        """
        data = self._plane("data").astype(np.float32, copy=False)
        middle = np.nan_to_num(self.middle)
        self._terms = terms.reshape(_TERMS, -1) / self._sigma
        pull = data - middle.astype(np.float32)
        pull *= 1.0 / self._sigma
        bad = np.flatnonzero(self._is_lost)
        pull.ravel()[bad] = 0.0
        self._found, self._fitted = self._robust_fit(pull)
        model = self._found @ self._terms
        pull -= model
        pull.ravel()[bad] = 0.0
        pull[~self._fitted] = 0.0
        # A brighter source has larger noise, and the noise of the median is scaled with the source.
        bright = middle > _THRESHOLD * self._sigma
        ratio = np.divide(self._sigma, middle, out=np.zeros_like(middle), where=bright)
        np.multiply(model, ratio.astype(np.float32), out=model)
        power = np.square(pull, out=pull)
        variance = np.square(model)
        variance *= np.float32(median_variance(np.array(len(data))))
        variance += np.clip(model, 0.0, np.float32(np.inf), out=model)
        variance += 1.0
        power /= variance
        ordered = np.sort(power, axis=0)
        both = ordered[[(len(data) - 1) // 2, len(data) // 2]].astype(float)
        self.scatter = (SIGMA_PER_MAD * np.sqrt(both).mean(axis=0)).astype(np.float32)
        # The final limit is not lower than this one.
        self._candidates = np.flatnonzero(power > 0.999 * _THRESHOLD**2)
        self._power = power.ravel()[self._candidates]

    def judge(self, limit: Array, known: Mask) -> None:
        """Find outliers and replaceable lost pixels, with their values.

        Parameters
        ----------
        limit : ndarray
            Deviation in units of the error above which a pixel is an outlier, shape (pixel,).
        known : ndarray of bool
            Mask of the pixels with a wavelength, shape (pixel,).
        """
        number, size = self._is_lost.shape
        above = self._power > np.square(limit)[self._candidates % size]
        outliers = self._candidates[above]
        # A pixel that is lost in most integrations is not known well enough to be replaced, nor is
        # one in an integration of which most of the band is lost.
        bad = np.flatnonzero(self._is_lost)
        often = number - np.bincount(bad % size, minlength=size) > 0.5 * number
        lost = bad[(often & known)[bad % size] & self._fitted[bad // size]]
        typical = ~self._is_lost
        typical.ravel()[outliers] = False
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
        model = np.einsum("nt,tn->n", self._found[time], self._terms[:, pixel])
        expected = self.middle[pixel] + model * self._sigma[pixel]
        places = np.array([time, row + self.rows.start, column])
        return FoundPixels(places, {"data": expected.astype(np.float32), **values})

    # --- fits ------------------------------------------------------------------------------------

    @cached_property
    def _products(self) -> NDArray[np.float32]:
        """Products of pairs of terms, shape (pair, pixel)."""
        return self._terms[_PAIRS[0]] * self._terms[_PAIRS[1]]

    def _robust_fit(self, pull: NDArray[np.float32]) -> tuple[NDArray[np.float32], Mask]:
        """Fit the terms to the deviations of each integration.

        Parameters
        ----------
        pull : ndarray
            Deviations from the median in standard deviations, 0 in lost pixels, shape (integration,
            pixel).

        Returns
        -------
        found : ndarray
            Multiples of the terms, shape (integration, term).
        fitted : ndarray of bool
            Whether the good pixels contain most of the information about the flux of the source and
            about the background, shape (integration,).
        """
        lost = self._is_lost
        partly = np.flatnonzero(lost.any(axis=0))
        normal = np.delete(self._products, partly, axis=1).sum(axis=1, dtype=float)
        normal = normal + np.take(~lost, partly, axis=1) @ self._products[:, partly].T
        found = self._solved(normal, pull)
        distance = pull - found @ self._terms
        again = self._outlying(np.abs(distance, out=distance))
        if again.size:
            found[again] = self._reweighted(pull[again], lost[again], distance[again])
        # Pixels that are lost in all integrations are not in the model.
        ends = np.diag(_PAIR_OF)[[0, -1]]
        total = self._products[ends] @ np.isfinite(self.middle).astype(np.float32)
        fitted = normal[:, ends] > _INFORMATION * np.maximum(total, 1e-30)
        return found, fitted.all(axis=1)

    def _solved(self, normal: NDArray[Any], weighted: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the multiples of the terms for normal matrices and weighted deviations."""
        moments = (weighted @ self._terms.T).astype(float)
        return solve_ridge(normal.astype(float)[:, _PAIR_OF], moments).astype(np.float32)

    def _outlying(self, distance: NDArray[np.float32]) -> NDArray[np.intp]:
        """Return the integrations whose largest absolute deviation is that of an outlier."""
        distance.ravel()[np.flatnonzero(self._is_lost)] = 0.0
        spread = _Sample(self._is_lost, self._step).spread(distance)
        return np.flatnonzero(distance.max(axis=1) > _OUTLYING * spread[:, 0])

    def _reweighted(
        self, pull: NDArray[np.float32], lost: Mask, distance: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the multiples of the terms from iteratively reweighted fits.

        Parameters
        ----------
        pull, lost : ndarray
            Deviations and mask of the lost pixels of some integrations.
        distance : ndarray
            Absolute deviations from the unweighted fits, which are overwritten.
        """
        bad, sample = np.flatnonzero(lost), _Sample(lost, self._step)
        weights = distance
        for attempt in range(2 * _FITS):
            spread = sample.spread(distance)
            if attempt < _FITS:
                with np.errstate(divide="ignore"):
                    np.divide(_HUBER * spread, distance, out=weights)
                np.clip(weights, 0.0, 1.0, out=weights)
            else:
                np.multiply(distance, 1.0 / (_TUKEY * spread), out=weights)
                np.square(weights, out=weights)
                np.subtract(1.0, weights, out=weights)
                np.clip(weights, 0.0, 1.0, out=weights)
                np.square(weights, out=weights)
            weights.ravel()[bad] = 0.0
            normal = weights @ self._products.T
            weights *= pull
            found = self._solved(normal, weights)
            np.matmul(found, self._terms, out=distance)
            np.subtract(pull, distance, out=distance)
            np.abs(distance, out=distance)
        return found


class _Sample:
    """Some pixels of integrations, from which their standard deviations are estimated.

    Parameters
    ----------
    lost : ndarray of bool
        Mask of the lost pixels, shape (integration, pixel).
    step : int
        Every `step`-th pixel is used.
    """

    def __init__(self, lost: Mask, step: int) -> None:
        self._every = slice(None, None, step)
        sample = lost[:, self._every]
        self._lost = np.nonzero(sample)
        self._count = (sample.shape[1] - np.count_nonzero(sample, axis=1))[:, np.newaxis]
        low, high = np.maximum(self._count - 1, 0) // 2, self._count // 2
        self._middle = np.concatenate([low, np.minimum(high, sample.shape[1] - 1)], axis=1)

    def spread(self, distance: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a robust standard deviation of each integration, shape (integration, 1).

        `distance` contains absolute deviations, shape (integration, pixel).
        """
        ordered = distance[:, self._every].copy()
        ordered[self._lost] = np.inf
        ordered.sort(axis=1)
        both = ordered[np.arange(len(ordered))[:, np.newaxis], self._middle]
        middle = both.mean(axis=1, keepdims=True, dtype=np.float32)
        spread = np.where(self._count > 0, SIGMA_PER_MAD * middle, 0.0)
        return np.maximum(spread, _SMALLEST).astype(np.float32)


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


def _row_median(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the running median of `_BAND` rows, the larger of the two middle values.

    It is that of `scipy.ndimage.median_filter`, ten times as fast.
    """
    half = _BAND // 2
    padded = np.pad(values.T, ((0, 0), (half, _BAND - half - 1)), mode="edge")
    windows = np.sort(sliding_window_view(padded, _BAND, axis=1), axis=-1)
    return np.asarray(windows[..., half].T)


def _joined(parts: list[FoundPixels], shape: tuple[int, ...]) -> FoundPixels:
    """Return the pixels of all bands in the order of the pixels in memory."""
    places = np.concatenate([part.places for part in parts], axis=1)
    order = np.argsort(np.ravel_multi_index(tuple(places), shape))
    values = {
        name: np.concatenate([part.values[name] for part in parts])[order]
        for name in parts[0].values
    }
    return FoundPixels(places[:, order], values)
