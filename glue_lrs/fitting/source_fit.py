"""SourceFit: profile and traces that are fitted to an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.profiles.base import SpatialProfile

__all__ = ["SourceFit"]


@dataclass(frozen=True, eq=False)
class SourceFit:
    """Profile and traces that are fitted to an image by `fit_profile` or `fit_traces`.

    Parameters
    ----------
    profile : SpatialProfile
        The profile of all sources.
    traces : ndarray
        Column of each source and negative trace in each row, shape (source, row); NaN in rows
        without a trace.
    signal_to_noise : float
        Signal-to-noise ratio of the first source, all rows together.
    shift_error : ndarray
        Standard deviation of the position of each source that is no negative trace, in columns,
        shape (positive source,).
    factor : tuple or None
        Inverse covariance of the coefficients of an empirical profile that is fitted to a single
        source, as a Cholesky factor of `scipy.linalg.cho_factor`.
    """

    profile: SpatialProfile
    traces: Array
    signal_to_noise: float
    shift_error: Array
    factor: tuple[Any, bool] | None = None
