"""Shape modes: smooth functions of which the correction of an empirical profile is composed.

The correction has a Gaussian-process prior. Its covariance k(u, u') = s(u) s(u') exp(-(u - u')^2 /
(2 L^2)) expresses that the profile differs from a Gaussian by about s(u), and that it is smooth on
the scale L, as a telescope's profile is after its integration over pixels. The modes are the
eigenvectors of the covariance, multiplied by the square roots of their eigenvalues, so that each
coefficient has a prior with a standard deviation of 1. Modes with small eigenvalues are dropped.

In the wings, the covariance is multiplied by 1 - (u - u')^2 / L^2. The functions then oscillate
about zero, as the rings of a diffraction pattern do. Their mean brightness is described by the
wings of `EmpiricalProfile`, which are not negative. Otherwise, a constant could be added to the
profile, because it is cancelled by the negative trace of another nod or by the background, and the
flux would be wrong by this constant.

The coordinate u is the distance from the source in columns, divided by the ratio of the wavelength
to 5 micron, because diffraction is proportional to the wavelength. At shorter wavelengths, where
the width does not decrease further, u is the distance itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import spline_filter1d
from scipy.special import erf

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array

#: Wavelength in micron above which the profile scales with the wavelength.
_SCALED_FROM = 5.0

#: Prior of the correction in the core: its standard deviation s at u = 0, as a fraction of the flux
#: per column, and the standard deviation in columns of the Gaussian by which s decreases with u.
_CORE, _CORE_WIDTH = 0.05, 1.6

#: Correlation length L of the prior in columns, for the core and the wings.
_CORE_LENGTH, _WING_LENGTH = 1.0, 1.5

#: Widths of the wings: standard deviations in columns of Gaussians, each twice the one before, from
#: twice the width of the core to half of the slit. A sum of them with positive factors can be any
#: bell-shaped function that decreases more slowly than a Gaussian, such as a Lorentzian or an
#: exponential.
WING_WIDTHS = (3.0, 6.0, 12.0, 24.0)

#: Expected fraction of the flux in all wings. It is divided in proportion to 1 / width, as for a
#: diffraction pattern that the slit integrates in one direction: it decreases with the inverse
#: square of the distance.
WING_FRACTION = 0.04

#: Standard deviation s of the correction in the wings, as a fraction of a Lorentzian that contains
#: `WING_FRACTION` of the flux, and half width of the Lorentzian at half maximum in columns.
_WING_RATIO, _WING_SHAPE = 0.3, 4.0

#: Modes whose eigenvalue is below this fraction of the largest are dropped, for the core and for
#: the wings.
_DROPPED_CORE, _DROPPED_WINGS = 2e-5, 1e-2

#: Largest |u| at which the correction is not 0, apart from the wings of the expected shape.
_LIMIT = 16.0

#: Distance in u between the knots of the cubic splines that represent the modes.
_KNOT = 0.25


def scale_at(wavelength: Array) -> Array:
    """Return the ratio of u to the distance in columns at wavelengths in micron."""
    return np.asarray(_SCALED_FROM / np.maximum(wavelength, _SCALED_FROM))


def wing_fractions() -> Array:
    """Return the expected fraction of the flux in each wing, shape (wing,)."""
    share = 1.0 / np.array(WING_WIDTHS)
    return np.asarray(WING_FRACTION * share / share.sum())


def wing_shapes(offset: Array) -> list[Array]:
    """Return the flux per column of each wing, normalised to an integral of 1.

    Parameters
    ----------
    offset : ndarray
        Distance from the source in columns.

    Returns
    -------
    list of ndarray
        Values for each of `WING_WIDTHS`, each with the shape of `offset`.
    """
    value = np.exp(-0.5 * (offset / WING_WIDTHS[-1]) ** 2)
    out = []
    for width in WING_WIDTHS[::-1]:
        out.append(value / (np.sqrt(2.0 * np.pi) * width))
        value = value * value  # a Gaussian of half the width
        value *= value
    return out[::-1]


def wing_light(distance: float) -> Array:
    """Return the integral of each wing from -distance to distance, shape (wing,)."""
    return np.asarray(erf(distance / (np.sqrt(2.0) * np.array(WING_WIDTHS))))


@dataclass(frozen=True, eq=False)
class ShapeModes:
    """Modes for the core and the wings, tabulated as functions of u.

    Parameters
    ----------
    splines : ndarray
        Coefficients of uniform cubic B-splines for each mode, shape (knot, mode).
    table : ndarray
        Values of the modes at points from u = -16 to 16 in steps of 0.01, shape (point, mode).
    light : ndarray
        Integral of each mode from -u to u for each of the points with u >= 0, shape (point, mode).
    even : ndarray of bool
        Whether each mode is symmetric. The others are antisymmetric.
    core : ndarray of bool
        Whether each mode belongs to the core. The others belong to the wings.
    """

    splines: Array
    table: Array
    light: Array
    even: NDArray[np.bool_]
    core: NDArray[np.bool_]

    @property
    def number(self) -> int:
        """Number of modes."""
        return self.even.size


_FINE = 25  # number of steps in `ShapeModes.table` from one knot of the splines to the next


def _grid(step: float) -> Array:
    number = round(_LIMIT / step)
    return np.linspace(-number, number, 2 * number + 1) * step


@cache
def shape_modes() -> ShapeModes:
    """Return the tabulated modes, which are computed only once."""
    u = _grid(_KNOT)
    core = _CORE * np.exp(-0.5 * (u / _CORE_WIDTH) ** 2)
    wings = _WING_RATIO * WING_FRACTION / (np.pi * _WING_SHAPE * (1.0 + (u / _WING_SHAPE) ** 2))
    taper = np.clip((_LIMIT - np.abs(u)) / 3.0, 0.0, 1.0)
    parts = [
        _eigenmodes(u, core * taper, _CORE_LENGTH, _DROPPED_CORE),
        _eigenmodes(u, wings * taper, _WING_LENGTH, _DROPPED_WINGS, oscillating=True),
    ]
    modes = np.concatenate(parts, axis=1)
    splines = spline_filter1d(modes, order=3, axis=0, mode="mirror")
    fine = _grid(_KNOT / _FINE)
    table = _evaluate(splines, fine)
    half = len(fine) // 2
    outward = table[half:] + table[half::-1]
    light = np.cumsum(0.5 * (outward[1:] + outward[:-1]), axis=0) * _KNOT / _FINE
    return ShapeModes(
        splines,
        table,
        np.concatenate([np.zeros((1, modes.shape[1])), light]),
        np.abs(modes + modes[::-1]).max(axis=0) > np.abs(modes - modes[::-1]).max(axis=0),
        np.arange(modes.shape[1]) < parts[0].shape[1],
    )


def _eigenmodes(
    u: Array, deviation: Array, length: float, dropped: float, *, oscillating: bool = False
) -> Array:
    square = ((u[:, np.newaxis] - u) / length) ** 2
    correlation = np.exp(-0.5 * square)
    if oscillating:
        correlation *= 1.0 - square
    covariance = correlation * np.outer(deviation, deviation)
    values, vectors = np.linalg.eigh(covariance)
    kept = values > dropped * values[-1]
    return np.asarray((vectors[:, kept] * np.sqrt(values[kept]))[:, ::-1])


def _evaluate(splines: Array, u: Array) -> Array:
    low, parts = spline_weights(u)
    padded = pad(splines, 0)
    return np.asarray(sum(part[:, np.newaxis] * padded[low + j] for j, part in enumerate(parts)))


def pad(splines: Array, axis: int) -> Array:
    """Return spline coefficients with the zeros that `spline_weights` requires at both ends."""
    width = [(0, 0)] * splines.ndim
    width[axis] = (3, 3)
    return np.pad(splines, width)


def spline_weights(u: Array, derivative: int = 0) -> tuple[NDArray[np.intp], list[Array]]:
    """Return the index of the first of the four B-splines that are not 0 at `u`, and their values.

    The index refers to coefficients with zeros at both ends, see `pad`. If `derivative` is 1, the
    derivatives with respect to `u` are returned instead of the values.
    """
    position = np.clip(u / _KNOT, -_LIMIT / _KNOT - 1.999, _LIMIT / _KNOT + 1.999)
    low = np.floor(position)
    t = position - low
    s, square = 1.0 - t, t * t
    first = low.astype(np.intp) + (round(_LIMIT / _KNOT) + 2)
    if derivative:
        factor = 0.5 / _KNOT
        return first, [
            -factor * s * s,
            factor * (3.0 * square - 4.0 * t),
            factor * (1.0 + 2.0 * t - 3.0 * square),
            factor * square,
        ]
    cube = square * t
    return first, [
        s * s * s / 6.0,
        (4.0 - 6.0 * square + 3.0 * cube) / 6.0,
        (1.0 + 3.0 * t + 3.0 * square - 3.0 * cube) / 6.0,
        cube / 6.0,
    ]


def table_index(u: Array) -> NDArray[np.intp]:
    """Return the index of the point of `ShapeModes.table` that is nearest to `u`."""
    step = _KNOT / _FINE
    return np.rint((np.clip(u, -_LIMIT, _LIMIT) + _LIMIT) / step).astype(np.intp)


def light_within(u: Array) -> Array:
    """Return the integral of each mode from -u to u, shape (..., mode).

    It is read from the nearest point of `ShapeModes.light`.
    """
    modes = shape_modes()
    return modes.light.take(
        np.rint(np.clip(u, 0, _LIMIT) / (_KNOT / _FINE)).astype(np.intp), axis=0
    )
