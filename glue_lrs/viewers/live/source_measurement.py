"""Measurement of the source in the image that is shown, and apertures centred on the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glue_lrs.measurement.report import plus_minus
from glue_lrs.viewers.live.regions import fitted_polynomial, shared_variable

if TYPE_CHECKING:
    from glue_lrs.apertures.background import Background
    from glue_lrs.measurement.curve_of_growth import CurveOfGrowth
    from glue_lrs.measurement.measurement import Measurement
    from glue_lrs.viewers.live.regions import Region

#: A trace is represented by a polynomial of at most `_MAX_DEGREE`, which deviates from it by at
#: most `_TOLERANCE` in columns.
_TOLERANCE, _MAX_DEGREE = 2e-3, 5


@dataclass(frozen=True, eq=False)
class Measured:
    """Result of `glue_lrs.measurement.curve_of_growth.measure_with_growth`.

    Parameters
    ----------
    measurement : Measurement
        Position and width of the source.
    curve : CurveOfGrowth
        Signal to noise as a function of the width of the aperture.
    background : Background or None
        Background that was subtracted to compute the curve of growth.
    """

    measurement: Measurement
    curve: CurveOfGrowth
    background: Background | None

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user, for example that the position in the header is wrong."""
        return (*self.measurement.notes, *self.curve.notes)

    def line(self, wavelength: float) -> str:
        """Summarise column, FWHM at a wavelength in micron, and best width in one line."""
        measurement = self.measurement
        width = ""
        if np.isfinite(wavelength):
            fwhm = float(measurement.width(wavelength)[0]) / measurement.pixel_scale
            width = f"FWHM {fwhm:.2f} columns at {wavelength:.2f} µm, "
        return (
            f"column {plus_minus(measurement.column, measurement.column_error)}, {width}"
            f"best width {self.curve.best:.1f}"
        )


def centred(
    regions: Sequence[Region], trace: NDArray[np.float64], wavelength: NDArray[np.float64]
) -> tuple[Region, ...]:
    """Centre the aperture on a trace.

    Parameters
    ----------
    regions : sequence of Region
        All regions. Regions of the aperture move together and keep their widths; regions of the
        background stay where they are.
    trace : ndarray
        Column of the source in each row, shape (row,); NaN where it is not known.
    wavelength : ndarray
        Wavelength of each row in micron; NaN where there is none.

    Returns
    -------
    tuple of Region
        Regions in the same order. Straight edges remain straight if the trace is straight.
        Otherwise they become polynomials in the variable that other edges use, or else in the row.
    """
    rows = np.flatnonzero(np.isfinite(trace) & np.isfinite(wavelength))
    where = rows.astype(float), wavelength[rows]
    apertures = [region for region in regions if region.kind == "aperture"]
    edges = np.array([region.at(*where) for region in apertures])  # axes: region, edge, row
    middle = (edges[:, 0].min(axis=0) + edges[:, 1].max(axis=0)) / 2.0
    variable = shared_variable((*apertures, *regions)) or "pixel"
    x = where[0] if variable == "pixel" else where[1]
    shift = fitted_polynomial(x, trace[rows] - middle, _TOLERANCE, _MAX_DEGREE)
    return tuple(
        replace(one.moved(shift), variable=variable if len(shift) > 1 else one.variable)
        if one.kind == "aperture"
        else one
        for one in regions
    )
