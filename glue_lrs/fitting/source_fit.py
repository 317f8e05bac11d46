"""SourceFit: result of a fit of profile and traces to an image."""

from __future__ import annotations

from dataclasses import dataclass

from glue_lrs._utils.typing import Array
from glue_lrs.profiles.base import SpatialProfile


@dataclass(frozen=True, eq=False)
class SourceFit:
    """Result of a fit of profile and traces by `fit_profile`.

    Parameters
    ----------
    profile : SpatialProfile
        Profile that is common to all sources.
    traces : ndarray
        Column of each source and negative trace in each row, shape (source, row); NaN in rows
        without a trace.
    signal_to_noise : float
        Signal-to-noise ratio of the first source, for all rows together.
    chi2, freedom : float
        Chi-square of the fit, and number of fitted pixels minus number of fluxes and background
        terms.
    shift_error : ndarray
        1-sigma error in columns of the position of each source, but not of negative traces, shape
        (source,).
    covariance : ndarray or None
        Covariance matrix of the coefficients of an empirical profile, mode by mode. None unless
        such a profile was fitted to a single source.
    """

    profile: SpatialProfile
    traces: Array
    signal_to_noise: float
    chi2: float
    freedom: float
    shift_error: Array
    covariance: Array | None = None

    @property
    def positives(self) -> int:
        """Number of sources, not counting negative traces."""
        return self.shift_error.size
