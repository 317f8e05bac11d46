"""Deviations of outliers from a fit, compared with the neighbouring rows.

The profile of a bright source differs from the fitted one by more than the errors of the pixels, so
that good pixels may be rejected. Such a misfit is similar in neighbouring rows; a cosmic ray or a
dead pixel affects single rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_opening

from glue_lrs._utils.statistics import SIGMA_PER_MAD, nanmedian

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask

#: Number of rows to either side with which an outlier is compared. The wavelength, and with it the
#: width of the profile, changes by about 2% over this distance.
_ROWS = 15

#: Smallest number of neighbouring pixels for a comparison. If there are fewer, the deviation from
#: the fit is used if fewer than `_WIDE` adjacent columns are outliers, as in a hot column, and is
#: otherwise set to 0, because a misfit is as wide as the profile.
_FEWEST, _WIDE = 5, 3

#: Fraction of the squared profile in the good pixels of a row that must also fall on good pixels of
#: a neighbouring row for a comparison.
_OVERLAP = 0.5

#: The misfit is proportional to the flux of the source if the flux in the neighbouring rows exceeds
#: this multiple of its scatter. The misfit of a fainter source is less than the noise.
_BRIGHT = 4.0


def deviations(
    data: Array, model: Array, sources: Array, kept: Mask, places: tuple[NDArray[np.intp], ...]
) -> Array:
    """Return the deviation of outliers from the fit, or from the neighbouring rows if it is less.

    Parameters
    ----------
    data, model, sources : ndarray
        Data, fitted model, and its part that is due to sources, shape (row, column).
    kept : ndarray of bool
        Pixels that are good and no outliers, shape (row, column).
    places : tuple of ndarray of int
        Rows and columns of the outliers, each of shape (pixel,).

    Returns
    -------
    ndarray
        Deviations, shape (pixel,): 0 if fit and neighbours give opposite signs.
    """
    found: Array = (data - model)[places]
    rejected = np.zeros(kept.shape, dtype=bool)
    rejected[places] = True
    wide = binary_opening(rejected, np.ones((1, _WIDE)))[places]
    limited = data[places] - _expected(data, model - sources, sources, kept, places)
    smaller = np.minimum(np.abs(limited), np.abs(found))
    judged = np.where(np.sign(limited) == np.sign(found), np.sign(found) * smaller, 0.0)
    return np.where(np.isfinite(limited), judged, np.where(wide, 0.0, found))


def _expected(
    data: Array, background: Array, sources: Array, kept: Mask, places: tuple[NDArray[np.intp], ...]
) -> Array:
    """Predict the data at some pixels from the neighbouring rows.

    The parameters are those of `deviations`, and the fitted background. The misfit of a row is its
    data minus the background and the profile, which is scaled to the row in the pixels that are
    good in both this row and that of the outlier. Background and profile are medians over the
    neighbouring rows, because a misfit changes the fit of the row of the outlier.

    Returns
    -------
    ndarray
        Expected values, shape (pixel,); NaN where too few neighbours are kept.
    """
    rows, row = np.unique(places[0], return_inverse=True)
    near = rows[:, np.newaxis] + np.arange(-_ROWS, _ROWS + 1)
    present = (near >= 0) & (near < len(data)) & (near != rows[:, np.newaxis])
    near = np.clip(near, 0, len(data) - 1)  # shape (row, neighbour)
    level, profile = (
        nanmedian(np.where(present[..., np.newaxis], one[near], np.nan), axis=1)
        for one in (background, sources)
    )
    use = kept[rows] * profile
    signal = np.where(kept[near], data[near] - level[:, np.newaxis], 0.0)
    power = np.einsum("rnc,rc,rc->rn", kept[near], use, profile)
    scale = np.einsum("rnc,rc->rn", signal, use) / np.maximum(power, 1e-300)
    full = power[:, _ROWS]  # of the row of the outlier itself
    comparable = present & (power > _OVERLAP * full[:, np.newaxis])
    factor = scale[:, _ROWS]
    middle = nanmedian(np.where(comparable, scale, np.nan), axis=1)
    scatter = np.where(comparable, np.abs(scale - middle[:, np.newaxis]), np.nan)
    bright = middle > _BRIGHT * SIGMA_PER_MAD * nanmedian(scatter, axis=1)
    ratio = np.divide(factor, middle, out=np.ones_like(factor), where=bright)
    # for each outlier, the pixels of its column in the neighbouring rows
    column = places[1][:, np.newaxis]
    usable = kept[near[row], column] & comparable[row]
    light = profile[row, places[1]]
    misfit = signal[row, :, places[1]] - scale[row] * light[:, np.newaxis]
    median = nanmedian(np.where(usable, misfit, np.nan), axis=1)
    expected = level[row, places[1]] + factor[row] * light + ratio[row] * median
    return np.where(usable.sum(axis=1) < _FEWEST, np.nan, expected)
