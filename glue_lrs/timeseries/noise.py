"""Scatter of a light curve, point to point and averaged over several points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy.stats import biweight_scale
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array

#: Number of differences below which the biweight scale of Gaussian noise may be 0 or undefined, and
#: the root mean square is used.
_FEWEST_ROBUST = 10

#: Number of pairs of neighbouring means that an Allan deviation needs.
_FEWEST_PAIRS = 4


def neighbour_differences(flux: ArrayLike) -> Array:
    """Return the difference of each point and the mean of its two neighbours, scaled by sqrt(2/3).

    For independent noise, the standard deviation is that of a point. A slope cancels.

    Parameters
    ----------
    flux : array_like
        Light curve, or light curves, shape (n, ...).

    Returns
    -------
    ndarray
        Differences, shape (n - 2, ...).
    """
    values = np.asarray(flux, dtype=float)
    return np.asarray(
        np.sqrt(2.0 / 3.0) * (values[1:-1] - (values[:-2] + values[2:]) / 2.0), dtype=float
    )


def point_scatter(flux: ArrayLike, time: ArrayLike | None = None) -> float:
    """Return the standard deviation of the noise of a point of a light curve.

    Parameters
    ----------
    flux : array_like
        Light curve, shape (n,). NaN are left out.
    time : array_like, optional
        Times of the points. If given, the flux is constant or a line in time (as out of transit),
        and the result is the standard deviation about this line. Otherwise, it is the
        biweight scale of the `neighbour_differences`, which a transit and outliers hardly change,
        but which contains no noise that changes slowly.

    Returns
    -------
    float
        Standard deviation in the unit of the flux, or NaN for fewer than three points.
    """
    values = np.asarray(flux, dtype=float)
    good = np.isfinite(values)
    if good.sum() < 3:
        return np.nan
    if time is None:
        rest = neighbour_differences(values[good])
        few = rest.size < _FEWEST_ROBUST
        return float(np.sqrt(np.mean(rest**2)) if few else biweight_scale(rest, M=0.0))
    at = np.asarray(time, dtype=float)[good]
    at = at - at.mean()
    values = values[good] - values[good].mean()
    rest = values - at * (at @ values) / (at @ at)
    return float(np.sqrt(rest @ rest / (rest.size - 2)))


def allan_deviation(flux: ArrayLike) -> tuple[Array, Array]:
    """Return the Allan deviation of a light curve: the noise of the mean of several points.

    It is the standard deviation of the difference of the means of neighbouring groups of points,
    divided by sqrt(2), of all groups (overlapping). Independent noise falls with the square root of
    the number of points in a group.

    Parameters
    ----------
    flux : array_like
        Light curve of equidistant points, shape (n,). NaN are left out.

    Returns
    -------
    number : ndarray
        Numbers of points that are averaged, from 1, in steps of a factor of about 1.4.
    deviation : ndarray
        Allan deviation for each number, in the unit of the flux.
    """
    values = np.asarray(flux, dtype=float)
    values = values[np.isfinite(values)]
    largest = values.size // (_FEWEST_PAIRS + 1)
    steps = np.arange(0, 2 * np.log2(max(largest, 1)) + 1e-9)
    number = np.unique(np.round(2.0 ** (steps / 2.0)).astype(int))
    number = number[number <= largest]
    total = np.concatenate([[0.0], np.cumsum(values - values.mean())]) if values.size else values
    deviation = []
    for count in number:
        means = (total[count:] - total[:-count]) / count
        difference = means[count:] - means[:-count]
        deviation.append(np.sqrt(0.5 * np.mean(difference**2)))
    return number.astype(float), np.array(deviation, dtype=float)
