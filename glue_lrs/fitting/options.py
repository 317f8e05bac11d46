"""FitOptions: options for the fit in an optimal extraction."""

from __future__ import annotations

from dataclasses import dataclass

from glue_lrs.profiles.base import SpatialProfile
from glue_lrs.profiles.empirical import REACH


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Options for the fit in an optimal extraction, which are checked by `OptimalExtractor`.

    Parameters
    ----------
    profile : SpatialProfile or None
        Spatial profile to use. If None, an empirical profile is fitted to the image.
    position : tuple of float or None
        Column of each requested source in the middle row, the target first. If None, the target is
        chosen by the position in the header and by brightness.
    nods : bool
        Whether the negative traces of subtracted nods are searched for and fitted.
    background_order : int or None
        Order of the background polynomial in each row. If None, no background is fitted.
    threshold : float or None
        Number of standard deviations above which pixels are rejected as outliers. If None, no pixel
        is rejected.
    fit_position : bool
        Whether positions are fitted. If False, they are those in `position` or in the header.
    trace_order : int or None
        Order of the polynomial that is added to the WCS trace. If None, an order from 0 to 3 is
        chosen by the signal-to-noise ratio.
    fit_shift : bool
        Whether a shift along the slit is fitted for each integration of a stack.
    reach : int
        Distance in columns from the source beyond which an empirical profile is 0.
    spline : bool
        Whether an empirical profile has wings and a correction. If False, it is only a Gaussian.
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
