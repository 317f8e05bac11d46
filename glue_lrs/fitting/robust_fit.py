"""Iteratively reweighted least squares for many integrations with the same images.

The first fits use Huber's weights, which approach the solution from any start, the last ones
Tukey's biweight, which gives outliers no weight. Integrations without outliers have equal weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.statistics import SIGMA_PER_MAD
from glue_lrs.fitting.least_squares import solve_ridge

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Mask

#: Deviation in standard deviations above which a pixel gets less weight in the first fits (Huber),
#: and above which it gets none in the last (Tukey's biweight; 4.7 is usual, for 95% efficiency).
_HUBER, _TUKEY = 1.5, 6.0

#: Number of fits with each of the two weights, after which the fits have converged.
_FITS = 3

#: Deviation of a pixel in standard deviations above which the fit is repeated with weights.
_OUTLYING = 4.5

#: Smallest number of pixels of a band from which a standard deviation is estimated, to 8% or
#: better, and lower limit of this standard deviation.
_SAMPLE, _SMALLEST = 200, 1e-3

#: Fraction of the information about the first and the last image that the good pixels of a band
#: must contain.
_INFORMATION = 0.5

_Single = NDArray[np.float32]


def robust_fit(
    terms: _Single, values: _Single, lost: Mask, known: Mask
) -> tuple[_Single, Mask, _Single]:
    """Fit images to the integrations of some bands.

    Parameters
    ----------
    terms : ndarray
        Images, shape (band, term, pixel).
    values : ndarray
        Values in standard deviations, 0 in lost pixels, shape (band, integration, pixel).
    lost : ndarray of bool
        Mask of the lost pixels, same shape.
    known : ndarray of bool
        Mask of the pixels in which the images are known, shape (band, pixel).

    Returns
    -------
    found : ndarray
        Multiples of the images, shape (band, integration, term).
    fitted : ndarray of bool
        Whether the good pixels contain most of the information about the first and the last image,
        shape (band, integration).
    model : ndarray
        Sum of the multiples of the images, shape (band, integration, pixel).
    """
    fit = _Fit(terms)
    partly = np.any(lost, axis=1)
    normal = np.empty((*values.shape[:2], fit.products.shape[1]), dtype=np.float32)
    for made, mask, some, products in zip(normal, lost, partly, fit.products, strict=True):
        made[:] = products[:, ~some].sum(axis=1)
        made += ~mask[:, some] @ products[:, some].T
    found = fit.solved(normal, values)
    model = np.matmul(found, terms)
    again = _outlying(values - model, lost)
    chosen = np.flatnonzero(again.any(axis=0))
    if chosen.size:
        start = found[:, chosen]
        better = fit.reweighted(
            start, np.take(values, chosen, axis=1), np.take(lost, chosen, axis=1)
        )
        found[:, chosen] = np.where(again[:, chosen, np.newaxis], better, start)
        model = np.matmul(found, terms, out=model)
    ends = [0, fit.products.shape[1] - 1]
    total = (fit.products[:, ends] * known[:, np.newaxis]).sum(axis=-1)
    fitted = normal[..., ends] > _INFORMATION * np.maximum(total, 1e-30)[:, np.newaxis]
    return found, fitted.all(axis=-1), model


class _Fit:
    """Least squares with images of shape (band, term, pixel).

    Attributes
    ----------
    products : ndarray
        Products of each pair of images, shape (band, pair, pixel).
    """

    def __init__(self, terms: _Single) -> None:
        self._terms, number = terms, terms.shape[1]
        first, second = np.triu_indices(number)
        self.products = terms[:, first] * terms[:, second]
        #: Number of the pair for each element of a normal matrix.
        self._pair = np.zeros((number, number), dtype=int)
        self._pair[first, second] = self._pair[second, first] = np.arange(first.size)

    def solved(self, normal: _Single, weighted: _Single) -> _Single:
        """Return the multiples of the images, shape (band, integration, term).

        Parameters
        ----------
        normal : ndarray
            Weighted sums of the products, shape (band, integration, pair).
        weighted : ndarray
            Weighted values, shape (band, integration, pixel).
        """
        moments = np.matmul(weighted, self._terms.swapaxes(1, 2))
        matrices = normal.reshape(-1, normal.shape[-1]).astype(float)[:, self._pair]
        found = solve_ridge(matrices, moments.reshape(len(matrices), -1).astype(float))
        return found.astype(np.float32).reshape(moments.shape)

    def reweighted(self, found: _Single, values: _Single, lost: Mask) -> _Single:
        """Return the multiples of the images from reweighted fits, which begin with `found`.

        The other parameters are those of `robust_fit`.
        """
        bad, sample = np.flatnonzero(lost), _Sample(lost)
        weights, products = np.empty_like(values), self.products.swapaxes(1, 2)
        for attempt in range(2 * _FITS):
            np.matmul(found, self._terms, out=weights)
            np.subtract(values, weights, out=weights)
            np.abs(weights, out=weights)
            spread = sample.spread(weights)
            if attempt < _FITS:
                with np.errstate(divide="ignore", over="ignore"):
                    np.divide(_HUBER * spread, weights, out=weights)
                np.clip(weights, 0.0, 1.0, out=weights)
            else:
                weights *= 1.0 / (_TUKEY * spread)
                np.square(weights, out=weights)
                np.subtract(1.0, weights, out=weights)
                np.clip(weights, 0.0, 1.0, out=weights)
                np.square(weights, out=weights)
            np.put(weights, bad, 0.0)
            normal = np.matmul(weights, products)
            weights *= values
            found = self.solved(normal, weights)
        return found


class _Sample:
    """Some pixels of integrations, from which their standard deviations are estimated.

    `lost` is the mask of the lost pixels, shape (band, integration, pixel).
    """

    def __init__(self, lost: Mask) -> None:
        self._every = slice(None, None, max(lost.shape[-1] // _SAMPLE, 1))
        sample = lost[..., self._every].copy()
        self._lost, size = np.flatnonzero(sample), sample.shape[-1]
        self._count = (size - np.count_nonzero(sample, axis=-1))[..., np.newaxis]
        low, high = np.maximum(self._count - 1, 0) // 2, np.minimum(self._count // 2, size - 1)
        self._middle = np.concatenate([low, high], axis=-1)

    def spread(self, distance: _Single) -> _Single:
        """Return a robust standard deviation of each integration, shape (band, integration, 1).

        `distance` contains absolute deviations, shape (band, integration, pixel).
        """
        ordered = distance[..., self._every].copy()
        np.put(ordered, self._lost, np.inf)
        ordered.sort(axis=-1)
        both: Any = np.take_along_axis(ordered, self._middle, axis=-1)
        middle = (both[..., :1] + both[..., 1:]) / 2.0
        spread = np.where(self._count > 0, SIGMA_PER_MAD * middle, 0.0)
        return np.maximum(spread, _SMALLEST).astype(np.float32)


def _outlying(residual: _Single, lost: Mask) -> Mask:
    """Return whether the largest absolute residual of an integration is that of an outlier."""
    distance = np.abs(residual, out=residual)
    np.put(distance, np.flatnonzero(lost), 0.0)
    spread = _Sample(lost).spread(distance)
    outlying: Mask = distance.max(axis=-1) > _OUTLYING * spread[..., 0]
    return outlying
