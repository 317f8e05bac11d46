"""Parameters of the fit of a profile that are common to all rows, and their prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glue_lrs._utils.typing import Array, Mask
from glue_lrs.profiles.shape_modes import shape_modes, wing_fractions

#: Number of terms of the polynomials in the logarithm of the wavelength for the width, the wings,
#: the modes of the core and those of the wings. Those of the wings are Bernstein polynomials, the
#: others are Legendre polynomials.
WIDTH_TERMS, WING_TERMS, CORE_TERMS, WING_MODE_TERMS = 8, 3, 8, 3


@dataclass(frozen=True)
class ProfileParameters:
    """Parameters that are common to all rows, and their prior.

    Parameters
    ----------
    values, mean, deviation : ndarray
        Values, and mean and standard deviation of their Gaussian prior, shape (n,): positions with
        distances of nods (`position_matrix`), trace polynomial, width, wings, core and wing modes.
    sizes : tuple of int
        Number of parameters of each of these six kinds.
    """

    values: Array
    mean: Array
    deviation: Array
    sizes: tuple[int, ...]

    def slice(self, kind: int) -> slice:
        """Return the slice of `values` with the parameters of a kind, such as `WIDTH`."""
        first = sum(self.sizes[:kind])
        return slice(first, first + self.sizes[kind])

    @property
    def modes(self) -> Array:
        """Coefficients of the modes, for each term that `fitted_terms` selects."""
        return self.values[-(self.sizes[CORE_MODES] + self.sizes[WING_MODES]) :]

    @property
    def penalty(self) -> float:
        """Sum of the squared differences from the prior mean in standard deviations."""
        return float((((self.values - self.mean) / self.deviation) ** 2).sum())

    def __getitem__(self, kind: int) -> Array:
        return self.values[self.slice(kind)]


#: Kinds of parameters, in this order.
POSITIONS, TRACE, WIDTH, WINGS, CORE_MODES, WING_MODES = range(6)


def expected_wings() -> tuple[tuple[float, ...], ...]:
    """Return the expected coefficients of the wings, as in `EmpiricalProfile`."""
    return tuple((fraction,) * WING_TERMS for fraction in wing_fractions().tolist())


def fitted_terms() -> Mask:
    """Return True for each fitted term of each deformation of the profile, shape (mode, term)."""
    number = np.where(shape_modes().core, CORE_TERMS, WING_MODE_TERMS)
    return np.arange(CORE_TERMS) < number[:, np.newaxis]
