"""EmpiricalProfile: a Gaussian with wings and a smooth correction, fitted to an image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import legendre
from scipy.special import comb, ndtr

from glue_lrs._utils.display import described, span_text
from glue_lrs.instrument import FWHM, psf_width
from glue_lrs.profiles.base import SpatialProfile
from glue_lrs.profiles.gaussian import gaussian
from glue_lrs.profiles.shape_modes import (
    WING_WIDTHS,
    light_within,
    pad,
    scale_at,
    shape_modes,
    spline_weights,
    table_index,
    wing_light,
    wing_shapes,
)

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array

#: Default distance in columns from the source within which the flux is normalised to 1.
REACH = 14

#: Smallest variance in columns squared of the Gaussian before its integration over the pixels.
_MIN_VARIANCE = 0.04


@dataclass(frozen=True, eq=False, kw_only=True)
class EmpiricalProfile(SpatialProfile):
    """A profile that is fitted to data.

    The profile is (1 - h) G(x) + sum_j w_j W_j(x) + sum_k c_k M_k(x) at the distance x from the
    source, where G is a Gaussian that is integrated over the pixels, the wings W_j are wider
    Gaussians of fixed widths, and M_k are the modes of a smooth correction
    (`glue_lrs.profiles.shape_modes`). The width of G and the c_k are polynomials in the logarithm
    of the wavelength. The fractions w_j are polynomials that are not negative: the wings are
    positive and decrease with the distance. The flux h in wings and correction is taken from the
    Gaussian, so that the profile is normalised to 1 within `reach`.

    Parameters
    ----------
    domain : (float, float)
        First and last wavelength in micron to which the profile was fitted.
    width : tuple of float
        Legendre coefficients of the logarithm of the ratio of the Gaussian's width to
        `glue_lrs.instrument.psf_width`.
    wings : tuple of tuple of float
        Bernstein coefficients of each w_j as a function of the logarithm of the wavelength, for the
        widths `glue_lrs.profiles.shape_modes.WING_WIDTHS`. If they are not negative, w_j is not
        negative. Without any, there are no wings.
    coefficients : ndarray
        Legendre coefficients of c_k, shape (mode, term).
    reach : int
        Distance in columns from the source within which the flux is normalised to 1.
    center : float
        Position of the source in columns, relative to the middle of the Gaussian. The offsets with
        which the profile is called count from the source.
    """

    domain: tuple[float, float]
    width: tuple[float, ...] = (0.0,)
    wings: tuple[tuple[float, ...], ...] = ()
    coefficients: Array
    reach: int = REACH
    center: float = 0.0

    def __repr__(self) -> str:
        modes, terms = self.coefficients.shape
        return described(
            self,
            f"fitted from {span_text(self.domain, 'um')}, {modes} modes with {terms} terms, within "
            f"{self.reach} columns",
        )

    def __call__(self, offset: Array, wavelength: Array) -> Array:  # noqa: D102 - inherited
        return self.at(wavelength)(offset)

    def at(self, wavelength: Array) -> EmpiricalLight:  # noqa: D102 - inherited
        return EmpiricalLight(self, wavelength)

    def gaussian_fwhm(self, wavelength: Array) -> Array:
        """Return the FWHM of the Gaussian in columns, before its integration over the pixels."""
        return FWHM * ProfileRows(self, wavelength).gaussian_sigma(self.width)

    def symmetric(self) -> EmpiricalProfile:
        """Return the profile without antisymmetric modes, and with `center` 0."""
        even = np.where(shape_modes().even[:, np.newaxis], self.coefficients, 0.0)
        return replace(self, coefficients=even, center=0.0)

    def terms(self, wavelength: Array) -> Array:
        """Return the Legendre polynomials of the c_k at each wavelength, shape (row, term)."""
        return ProfileRows(self, wavelength).terms(self.coefficients.shape[1])


class ProfileRows:
    """Quantities of each row that are the same for all profiles with the same domain and reach.

    They depend on the wavelength of the row, and are computed only once during a fit.

    Parameters
    ----------
    profile : EmpiricalProfile
        Profile that defines the domain and the reach.
    wavelength : ndarray
        Wavelength in micron of each row, shape (row,).
    """

    def __init__(self, profile: EmpiricalProfile, wavelength: Array) -> None:
        self.wavelength, self.reach = wavelength, profile.reach
        self.unit = log_unit(wavelength, profile.domain)
        self.scale = scale_at(wavelength)[:, np.newaxis]
        self._terms: Array = np.ones((wavelength.size, 1))

    def terms(self, number: int) -> Array:
        """Return the first `number` Legendre polynomials in each row, shape (row, number)."""
        if number > self._terms.shape[1]:
            self._terms = np.asarray(legendre.legvander(self.unit, number - 1), dtype=float)
        return self._terms[:, :number]

    def polynomial(self, coefficients: tuple[float, ...]) -> Array:
        """Return the Legendre series with given coefficients in each row, shape (row,)."""
        return self.terms(len(coefficients)) @ np.array(coefficients)

    def wing_terms(self, number: int) -> Array:
        """Return the Bernstein polynomials of the w_j in each row, shape (row, number)."""
        t = 0.5 + 0.5 * self.unit[:, np.newaxis]
        n, order = np.arange(number), number - 1
        return np.asarray(comb(order, n) * t**n * (1.0 - t) ** (order - n))

    def gaussian_sigma(self, width: tuple[float, ...]) -> Array:
        """Return the standard deviation of the Gaussian in columns, shape (row,).

        It is that before the integration over the pixels. `width` is as in `EmpiricalProfile`.
        """
        square = (self.psf_width * np.exp(self.polynomial(width))) ** 2
        return np.sqrt(np.maximum(square - 1.0 / 12.0, _MIN_VARIANCE))

    @cached_property
    def psf_width(self) -> Array:
        """Expected standard deviation of the PSF in columns at each wavelength, shape (row,).

        It includes the integration over the pixels.
        """
        return psf_width(self.wavelength)

    @cached_property
    def wings_within(self) -> Array:
        """Fraction of the flux of each wing that is within the reach, shape (wing,)."""
        return wing_light(float(self.reach))

    @cached_property
    def modes_within(self) -> Array:
        """Integral of each mode over the reach of the profile, shape (row, mode)."""
        return light_within(np.nan_to_num(self.reach * self.scale[:, 0]))


class EmpiricalLight:
    """An `EmpiricalProfile` at given wavelengths, as a function of offsets, with its derivatives.

    Parameters
    ----------
    profile : EmpiricalProfile
        Profile to evaluate.
    wavelength : ndarray
        Wavelength in micron of each row, shape (row,).
    """

    def __init__(self, profile: EmpiricalProfile, wavelength: Array) -> None:
        self._set(profile, ProfileRows(profile, wavelength))

    def changed(self, profile: EmpiricalProfile) -> EmpiricalLight:
        """Return the light of another profile in the same rows.

        What depends on the wavelengths of the rows only, such as the width of the Gaussian that the
        core is relative to, is not computed again. It is valid only if `profile` has the wavelength
        range (`domain`) and the largest offset (`reach`) of the profile of this object.
        """
        light = object.__new__(EmpiricalLight)
        light._set(profile, self.rows)
        return light

    def _set(self, profile: EmpiricalProfile, rows: ProfileRows) -> None:
        self.profile, self.rows, self.scale = profile, rows, rows.scale
        self.sigma = rows.gaussian_sigma(profile.width)[:, np.newaxis]
        self.core: Array = np.ones((rows.wavelength.size, 1))
        if profile.wings:
            self.wings = rows.wing_terms(len(profile.wings[0])) @ np.array(profile.wings).T
            self.core -= self.wings @ rows.wings_within[:, np.newaxis]
        self.splines: Array | None = None
        if profile.coefficients.any():
            correction = rows.terms(profile.coefficients.shape[1]) @ profile.coefficients.T
            inside = np.einsum("rk,rk->r", correction, rows.modes_within)
            self.core -= inside[:, np.newaxis]
            self.splines = pad(correction @ shape_modes().splines.T, 1)
            self.splines *= self.scale

    def __call__(self, offset: Array) -> Array:
        """Return the fraction of the flux on each pixel, shape (row, column)."""
        if self.profile.center:
            offset = offset + self.profile.center
        value = self.core * gaussian(offset, self.sigma[:, 0] * FWHM)
        if self.profile.wings:
            for fraction, shape in zip(self.wings.T, wing_shapes(offset), strict=True):
                value += fraction[:, np.newaxis] * shape
        if self.splines is not None:
            value += self.correction(offset, 0)
        value[np.isnan(value)] = 0.0
        return value

    def correction(self, offset: Array, derivative: int) -> Array:
        """Return the correction, or its derivative with respect to the offset, on each pixel.

        `derivative` is 0 for the correction and 1 for its derivative.
        """
        assert self.splines is not None
        u = np.nan_to_num(offset * self.scale, nan=1e3)
        first, parts = spline_weights(u, derivative)
        first += np.arange(len(first))[:, np.newaxis] * self.splines.shape[1]
        total = sum(part * self.splines.take(first + j) for j, part in enumerate(parts))
        return np.asarray(total * self.scale if derivative else total)

    def derivatives(self, offset: Array) -> LightDerivatives:
        """Return the derivatives of the flux on pixels whose offsets are one column apart."""
        return LightDerivatives(self, offset)


@dataclass(frozen=True, eq=False)
class LightDerivatives:
    """Derivatives of an `EmpiricalProfile` on pixels whose offsets are one column apart.

    Parameters
    ----------
    light : EmpiricalLight
        Profile at the wavelengths of the rows.
    offset : ndarray
        Distance in columns from the source to the centre of each pixel, shape (row, column).
    """

    light: EmpiricalLight
    offset: Array

    @cached_property
    def _edges(self) -> Array:
        """Positions of the pixels' edges in standard deviations of the Gaussian."""
        edges = np.empty((self.offset.shape[0], self.offset.shape[1] + 1))
        edges[:, :-1] = self.offset - 0.5
        edges[:, -1] = self.offset[:, -1] + 0.5
        edges /= self.light.sigma
        return edges

    @cached_property
    def _density(self) -> Array:
        return np.exp(-0.5 * self._edges**2) / np.sqrt(2.0 * np.pi)

    @cached_property
    def _wings(self) -> list[Array]:
        return wing_shapes(self.offset)

    @cached_property
    def _gaussian(self) -> Array:
        return np.diff(ndtr(self._edges), axis=1)

    def d_offset(self) -> Array:
        """Return the derivative with respect to the offset, shape (row, column)."""
        light = self.light
        out = light.core / light.sigma * np.diff(self._density, axis=1)
        if light.profile.wings:
            for fraction, width, shape in zip(light.wings.T, WING_WIDTHS, self._wings, strict=True):
                out -= (fraction / width**2)[:, np.newaxis] * self.offset * shape
        if light.splines is not None:
            out += light.correction(self.offset, 1)
        return out

    def d_width(self) -> Array:
        """Return the derivative with respect to the logarithm of the width of the Gaussian.

        Its shape is (row, 1, column).
        """
        light = self.light
        # The width includes the integration over the pixels, but `sigma` does not.
        factor = -light.core * (1.0 + 1.0 / (12.0 * light.sigma**2))
        return np.asarray((factor * np.diff(self._density * self._edges, axis=1))[:, np.newaxis])

    def d_wings(self) -> Array:
        """Return the derivatives with respect to the fraction w_j of the flux in each wing.

        Their shape is (row, wing, column).
        """
        light = self.light
        within = light.rows.wings_within[:, np.newaxis, np.newaxis]
        return np.swapaxes(np.stack(self._wings) - within * self._gaussian, 0, 1)

    def d_modes(self, factor: Array | None = None) -> Array:
        """Return the derivatives with respect to the coefficients c_k of the modes.

        Their shape is (row, mode, column). If `factor`, shape (row,), is given, the derivatives in
        each row are multiplied by it.
        """
        light = self.light
        scale, gaussian = light.scale, self._gaussian
        if factor is not None:
            scale = scale * factor[:, np.newaxis]
            gaussian = gaussian * factor[:, np.newaxis]
        change = shape_modes().table.take(table_index(self.offset * light.scale), axis=0)
        change *= scale[..., np.newaxis]
        change -= gaussian[..., np.newaxis] * light.rows.modes_within[:, np.newaxis]
        return np.swapaxes(change, 1, 2)


def log_unit(wavelength: Array, domain: tuple[float, float]) -> Array:
    """Return the logarithm of wavelengths, scaled from `domain` to [-1, 1], and clipped."""
    first, last = np.log(domain)
    return np.clip((2.0 * np.log(wavelength) - (first + last)) / (last - first), -1.0, 1.0)
