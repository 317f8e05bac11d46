"""Deviations of outliers from a fit, judged by the neighbouring rows.

The profile of a bright source differs from the fitted one by more than the errors of the pixels, so
that good pixels may be rejected. Such a misfit is alike in neighbouring rows, and a cosmic ray or a
dead pixel is not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_opening

from glue_lrs._utils.statistics import SIGMA_PER_MAD

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask

#: Number of rows to either side with which an outlier is compared. The wavelength, and with it the
#: width of the profile, changes by about 2% over this distance.
_ROWS = 15

#: Smallest number of neighbouring pixels for a comparison. If there are fewer, the deviation from
#: the fit counts if fewer than `_WIDE` adjacent columns are outliers, as in a hot column. A misfit
#: is as wide as the profile.
_FEWEST, _WIDE = 5, 3

#: Smallest share of the light by which a row is scaled that a neighbouring row must have, too.
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
    background = model - sources
    rejected = np.zeros(kept.shape, dtype=bool)
    rejected[places] = True
    wide = binary_opening(rejected, np.ones((1, _WIDE)))[places]
    for row in np.unique(places[0]):
        of_row = places[0] == row
        near = np.arange(max(row - _ROWS, 0), min(row + _ROWS + 1, len(data)))
        near = near[near != row]
        columns = places[1][of_row]
        # A misfit changes the fit of the row itself, which is not used therefore.
        level = np.median(background[near], axis=0)
        signal = data[near] - level
        own = data[row] - level
        profile = np.median(sources[near], axis=0)
        expected = _expected(signal, own, kept[near], kept[row], profile, columns)
        limited = own[columns] - expected
        smaller = np.minimum(np.abs(limited), np.abs(found[of_row]))
        same = np.sign(limited) == np.sign(found[of_row])
        judged = np.where(same, np.sign(limited) * smaller, 0.0)
        alone = np.where(wide[of_row], 0.0, found[of_row])
        found[of_row] = np.where(np.isfinite(limited), judged, alone)
    return found


def _expected(
    signal: Array,
    own: Array,
    kept: Mask,
    kept_own: Mask,
    profile: Array,
    columns: NDArray[np.intp],
) -> Array:
    """Return the values in some columns of a row that its neighbours lead to expect.

    Parameters
    ----------
    signal, own : ndarray
        Data without background in the neighbouring rows (row, column), and in the row (column,).
    kept, kept_own : ndarray of bool
        Pixels that are good and no outliers, of the same shapes.
    profile : ndarray
        Fitted model of the sources, which is scaled to each row by the columns that are kept in
        the row itself, shape (column,).
    columns : ndarray of int
        Columns of the outliers.

    Returns
    -------
    ndarray
        Expected values, NaN where too few neighbours are kept.
    """
    weight = np.where(kept, kept_own * profile, 0.0)
    use = kept_own * profile
    power, full = weight @ profile, float(use @ profile)
    comparable = power > _OVERLAP * full
    usable = kept[:, columns] & comparable[:, np.newaxis]
    expected = np.full(columns.size, np.nan)
    enough = usable.sum(axis=0) >= _FEWEST
    if not enough.any() or full == 0:
        return expected
    scale = (weight * np.where(kept, signal, 0.0)).sum(axis=1) / np.maximum(power, 1e-300)
    factor = (use @ np.where(kept_own, own, 0.0)) / full
    misfit = signal[:, columns] - scale[:, np.newaxis] * profile[columns]
    expected[enough] = np.nanmedian(np.where(usable, misfit, np.nan)[:, enough], axis=0)
    scale = scale[comparable]
    middle = float(np.median(scale))
    if middle > _BRIGHT * SIGMA_PER_MAD * float(np.median(np.abs(scale - middle))):
        expected *= factor / middle
    return expected + factor * profile[columns]
