"""FitOptions: the options of the fit of an optimal extraction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from glue_lrs.profiles.empirical import REACH

if TYPE_CHECKING:
    from glue_lrs.profiles.base import SpatialProfile

__all__ = ["FitOptions"]


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Options of the fit of an optimal extraction; `OptimalExtractor` checks and builds them.

    Parameters
    ----------
    profile : SpatialProfile or None
        The spatial profile; None: an empirical profile is fitted to the image.
    position : tuple of float or None
        Column of each requested source in the middle row, the target first; None: the target is
        chosen by the header and the brightness.
    nods : bool
        Whether the negative traces of subtracted nods are searched for and fitted.
    background_order : int or None
        Order of the background's polynomial in each row; None: there is no background.
    threshold : float or None
        Outlier rejection, in standard deviations; None: no pixel is rejected.
    fit_position : bool
        Whether positions are fitted.
    trace_order : int or None
        Order of the polynomial that is added to the WCS trace; None: 0 to 3, by the
        signal-to-noise ratio.
    fit_shift : bool
        Whether the shift of each integration of a stack is fitted.
    reach : int
        Columns from the source at which an empirical profile ends.
    spline : bool
        Whether an empirical profile has a spline correction to its Gaussian.
    """

    profile: SpatialProfile | None = None
    position: tuple[float, ...] | None = None
    nods: bool = True
    background_order: int | None = 0
    threshold: float | None = 5.0
    fit_position: bool = True
    trace_order: int | None = None
    fit_shift: bool = True
    reach: int = REACH
    spline: bool = True

    @property
    def n_requested(self) -> int:
        """Number of requested sources."""
        return 1 if self.position is None else len(self.position)
