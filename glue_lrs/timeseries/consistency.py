"""The same wavelength elements in all integrations, so that a bad pixel is no dip.

An element of a spectrum is *lost* in an integration if it is masked, has no flux, has an infinite
variance, or if its aperture contains fewer pixels (NPIXELS) than in another integration. A box sum
without a pixel is too low, without being masked. A pixel that is bad in all integrations is no
loss.

Elements that are lost in more than a fraction of the integrations are left out of all of them. The
others are replaced where they are lost: by the spectrum of the star (median over time, after each
integration was scaled to the same mean), scaled to the sum of the nearest good elements of the same
integration. The sum over a band is thus a linear function of the good elements, from which its
variance is propagated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from glue_lrs._utils.statistics import nanmedian
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.findings import SIGNIFICANT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from glue_lrs._utils.typing import Array, Mask

#: Number of good elements to which a replaced element is scaled. It adds a third of the noise of an
#: element, and ten elements are 0.2 um, over which the depth of a transit hardly changes.
NEIGHBOURS = 10

#: Difference of NPIXELS, in pixels, that is no loss. It is larger than rounding errors, and changes
#: the flux of a box by less than 0.1%.
_TOLERANCE = 0.01

#: Number of integrations that are summed at a time, to limit the memory use.
_BLOCK = 1024


def lost_elements(columns: Mapping[str, Any], most: Array | None = None) -> Mask:
    """Return the mask of lost elements of a stack, shape (integration, n_wave).

    Parameters
    ----------
    columns : mapping of str to ndarray
        Columns of the spectra, shape (integration, n_wave).
    most : ndarray, optional
        Largest NPIXELS of each element, shape (n_wave,), by default that of these spectra.
    """
    lost = unusable_elements(columns)
    pixels = columns.get("NPIXELS")
    if pixels is not None:
        if most is None:
            most = most_pixels(columns, lost)
        lost = lost | (pixels < most - _TOLERANCE)  # False for NaN
    return lost


def unusable_elements(columns: Mapping[str, Any]) -> Mask:
    """Return the mask of elements that are masked, or have no flux or no finite variance."""
    flux = columns["FLUX"]
    lost = ((columns["DQ"] & DO_NOT_USE) != 0) | ~np.isfinite(flux)
    for name in ("FLUX_VAR_POISSON", "FLUX_VAR_RNOISE"):
        if name in columns:  # an infinite variance means that the error is unknown
            lost |= np.isinf(columns[name])
    return np.asarray(lost)


def most_pixels(columns: Mapping[str, Any], lost: Mask) -> Array:
    """Return the largest NPIXELS of each element where it is not lost, shape (n_wave,)."""
    return np.asarray(np.where(lost, -np.inf, columns["NPIXELS"]).max(axis=0))


def mean_spectrum(flux: Array, variance: Array, good: Mask) -> Array:
    """Return the spectrum whose shape lost elements get, shape (n_wave,).

    It is the median over time of the good elements, after each integration was divided by its
    median ratio to the median spectrum, so that it does not matter whether an element is lost
    before or during an eclipse. An integration without a significant flux is not divided.

    Parameters
    ----------
    flux, variance : ndarray
        Flux and its variance, shape (integration, n_wave).
    good : ndarray of bool
        Mask of the elements that are not lost.
    """
    values = np.where(good, flux, np.nan)
    first = np.nan_to_num(nanmedian(values, axis=0))
    known = first > 0
    if not known.any():
        return first
    ratio = nanmedian(values[:, known] / first[known], axis=1)
    total = np.where(good, flux, 0.0).sum(axis=1)
    error = np.sqrt(np.where(good, variance, 0.0).sum(axis=1))
    ratio[~((ratio > 0) & (total > SIGNIFICANT * error))] = 1.0
    return np.nan_to_num(nanmedian(values / ratio[:, np.newaxis], axis=0))


@dataclass(frozen=True, eq=False)
class ConsistentSpectra:
    """Spectra of a stack in which lost elements can be replaced.

    Parameters
    ----------
    flux : ndarray
        Flux, shape (integration, element).
    variances : ndarray
        Variance of the flux, and possibly other ones, such as that of the photons, whose sums are
        requested, shape (kind, integration, element).
    good : ndarray of bool
        Mask of the elements that are not lost.
    spectrum : ndarray
        Spectrum of the star, from `mean_spectrum`, shape (element,).
    """

    flux: Array
    variances: Array
    good: Mask
    spectrum: Array

    def band_sums(self, weights: Array) -> tuple[Array, Array]:
        """Return the weighted sums over bands, with lost elements replaced, and their variances.

        Parameters
        ----------
        weights : ndarray
            Weight of each element in each band, 0 outside the band, shape (band, element).

        Returns
        -------
        sums : ndarray
            Shape (integration, band).
        variances : ndarray
            Shape (kind, integration, band).
        """
        number = len(self.flux)
        sums = np.zeros((number, len(weights)))
        variances = np.zeros((len(self.variances), *sums.shape))
        for start in range(0, number, _BLOCK):
            block = slice(start, start + _BLOCK)
            self._sum_block(block, weights, sums[block], variances[:, block])
        return sums, variances

    def _sum_block(self, block: slice, weights: Array, sums: Array, variances: Array) -> None:
        """Fill the sums and variances of a block of integrations."""
        good = self.good[block]
        flux = np.where(good, self.flux[block], 0.0)
        variance = np.where(good, self.variances[:, block], 0.0)
        row, element, first, last = _windows(good)
        near_flux, near_variance, near_spectrum = (
            _between(values, row, first, last)
            for values in (flux, variance[0], np.where(good, self.spectrum, 0.0))
        )
        # The sum of a spectrum that is mostly noise has no ratio to that of another integration.
        scaled = near_spectrum > SIGNIFICANT * np.sqrt(near_variance)
        ratio = np.divide(
            self.spectrum[element], near_spectrum, out=np.zeros(row.size), where=scaled
        )
        value = np.where(scaled, ratio * near_flux, self.spectrum[element])
        for band, weight in enumerate(weights):
            inside, mine = np.flatnonzero(weight), np.flatnonzero(weight[element])
            if inside.size == 0:
                continue
            at = weight[element[mine]]
            replaced = np.bincount(row[mine], at * value[mine], len(flux))
            sums[:, band] = flux[:, inside] @ weight[inside] + replaced
            # the elements with a coefficient in the sum
            start = min(inside[0], first[mine].min(initial=inside[0]))
            stop = max(inside[-1] + 1, last[mine].max(initial=0))
            width = stop - start + 1
            change = np.bincount(
                np.concatenate([first[mine], last[mine]]) - start + np.tile(row[mine] * width, 2),
                np.concatenate([at * ratio[mine], -at * ratio[mine]]),
                len(flux) * width,
            ).reshape(-1, width)
            coefficient = weight[start:stop] + np.cumsum(change[:, :-1], axis=1)
            variances[..., band] = np.einsum(
                "ij,kij->ki", coefficient**2, variance[..., start:stop]
            )


def _windows(good: Mask) -> tuple[NDArray[np.intp], ...]:
    """Return the lost elements, and the range of elements with the nearest good ones of each.

    Returns
    -------
    row, element : ndarray of int
        Indices of the lost elements.
    first, last : ndarray of int
        The elements from `first` to `last` - 1 include `NEIGHBOURS` good ones, or all if there are
        fewer, half of them on either side where possible.
    """
    row, element = np.nonzero(~good)
    count = np.concatenate([np.zeros((len(good), 1), int), np.cumsum(good, axis=1)], axis=1)
    number = count[row, -1]
    rank = count[row, element] - NEIGHBOURS // 2
    rank = np.clip(rank, 0, np.maximum(number - NEIGHBOURS, 0))
    end = np.minimum(rank + NEIGHBOURS, number)
    places = np.nonzero(good)[1]  # elements of all good ones, row by row
    start = np.concatenate([[0], np.cumsum(good.sum(axis=1))])[row]
    some = number > 0
    first, last = np.zeros_like(row), np.zeros_like(row)
    first[some] = places[(start + rank)[some]]
    last[some] = places[(start + end - 1)[some]] + 1
    return row, element, first, last


def _between(
    values: Array, row: NDArray[np.intp], first: NDArray[np.intp], last: NDArray[np.intp]
) -> Array:
    """Return the sums of values in a row from element `first` to `last` - 1."""
    total = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    return np.asarray(total[row, last] - total[row, first])
