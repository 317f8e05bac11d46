"""Measurement of the source in the image that is shown, and apertures centred on the source."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial.polynomial import Polynomial
from numpy.typing import NDArray

from glue_lrs.errors import LRSWarning
from glue_lrs.measurement.curve_of_growth import measure_with_growth
from glue_lrs.measurement.report import plus_minus

if TYPE_CHECKING:
    from glue_lrs.apertures.background import Background
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.measurement.curve_of_growth import CurveOfGrowth
    from glue_lrs.measurement.measurement import Measurement
    from glue_lrs.viewers.live.regions import Region, Variable

#: Largest deviation in columns between a trace and the polynomial that represents it (first value),
#: and the highest degree of the polynomial (second value).
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

    def fwhm(self, wavelength: float) -> float:
        """Return the FWHM in columns at a wavelength in micron."""
        return float(self.measurement.width(wavelength)[0]) / self.measurement.pixel_scale

    def line(self, wavelength: float) -> str:
        """Summarise column, FWHM at a wavelength in micron, and best width in one line."""
        measurement = self.measurement
        width = ""
        if np.isfinite(wavelength):
            width = f"FWHM {self.fwhm(wavelength):.2f} columns at {wavelength:.2f} µm, "
        return (
            f"column {plus_minus(measurement.column, measurement.column_error)}, {width}"
            f"best width {self.curve.best:.1f}"
        )


def measured_of(image: SlitImage) -> Measured:
    """Measure the source in an image.

    Parameters
    ----------
    image : SlitImage
        A single image to measure.

    Returns
    -------
    Measured
        The measurement. Instead of warnings, it contains notes: see `Measured.notes`.

    Raises
    ------
    SourceError
        If there is no source.
    LRSError
        If the source cannot be measured.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)  # `Measured.notes` has the same content
        return Measured(*measure_with_growth(image))


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
    curved = [region.variable for region in (*apertures, *regions) if not region.straight]
    variable: Variable = curved[0] if curved else "pixel"
    shift = _polynomial(where[0] if variable == "pixel" else where[1], trace[rows] - middle)
    if len(shift) == 1:
        return tuple(r.moved(shift[0]) if r.kind == "aperture" else r for r in regions)
    return tuple(
        replace(r, lower=_sum(r.lower, shift), upper=_sum(r.upper, shift), variable=variable)
        if r.kind == "aperture"
        else r
        for r in regions
    )


def _polynomial(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the polynomial of lowest degree that agrees with y within the tolerance."""
    if np.ptp(x) == 0.0:  # NumPy before 2.3 cannot fit a single point
        return (float(y.mean()),)
    for degree in range(min(_MAX_DEGREE, x.size - 1) + 1):
        polynomial = Polynomial.fit(x, y, degree)
        if np.abs(polynomial(x) - y).max() <= _TOLERANCE:
            break
    return tuple(float(value) for value in polynomial.convert().coef)


def _sum(edge: tuple[float, ...], shift: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(value) for value in (Polynomial(edge) + Polynomial(shift)).coef)
