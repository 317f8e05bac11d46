"""Result of a measurement: sources along the slit, their traces and their width.

`glue_lrs.fitting.source_search` describes the fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.polynomial.polynomial import polyfit, polyval
from numpy.typing import ArrayLike, NDArray

from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.background import Background
from glue_lrs.instrument import FWHM, PIXEL_SCALE, expected_fwhm
from glue_lrs.measurement.report import (
    band_table,
    measurement_dict,
    measurement_report,
    source_table,
)
from glue_lrs.profiles.diffraction import (
    DiffractionProfile,
    expected_core,
    profile_fwhm,
    width_basis,
)

if TYPE_CHECKING:
    from astropy.table import QTable

    from glue_lrs._utils.typing import Array
    from glue_lrs.image.source_position import SourcePosition

__all__ = ["DetectedSource", "Measurement"]

#: Total width of the background regions, in columns, below which they come closer to the sources.
_MIN_BACKGROUND = 6.0

#: Margin in columns at the ends of a region: the polynomial of the trace is good to 0.002 column.
_MARGIN = 0.01

#: Accuracy in columns of the polynomial through a trace.
_TRACE_ACCURACY = 2e-3


@dataclass(frozen=True, eq=False, kw_only=True)
class DetectedSource:
    """A source along the slit, or the negative trace of one.

    Parameters
    ----------
    kind : {"target", "source", "negative"}
        The target is the source at the header's position, or otherwise the brightest.
    column, column_error : float
        Column at the reference row, `Measurement.row`, and its standard deviation.
    flux_ratio, flux_ratio_error : float
        Ratio to the flux of the target, over all wavelengths; negative for a negative trace.
    snr : float
        Signal to noise of all rows together.
    trace : ndarray
        Column in each row of the image, shape (row,), NaN in rows without a wavelength.
    trace_error : ndarray
        Its standard deviation.
    centroid, centroid_error : ndarray
        Column measured in each band of `Measurement.bands`, and its standard deviation.
    flux : ndarray
        Fitted flux in each row, a sum over columns in the unit of the image; not smoothed.
    flux_error : ndarray
        Its standard deviation.
    """

    kind: Literal["target", "source", "negative"]
    column: float
    column_error: float
    flux_ratio: float
    flux_ratio_error: float
    snr: float
    trace: Array
    trace_error: Array
    centroid: Array
    centroid_error: Array
    flux: Array
    flux_error: Array

    @property
    def negative(self) -> bool:
        """Whether it is a negative trace."""
        return self.kind == "negative"


@dataclass(frozen=True, eq=False, kw_only=True)
class Measurement:
    """Sources of an image, their traces and their width: the result of `measure`.

    Parameters
    ----------
    label : str
        Name of the image in messages.
    shape : (int, int)
        Rows and columns of the image.
    columns : (int, int)
        First and last column that hold data.
    sources : tuple of DetectedSource
        The target first, then by brightness.
    row : int
        Reference row, at which columns are given.
    row_wavelength : float
        Its wavelength in micron.
    wavelength : ndarray
        Wavelength of each row in micron, shape (row,), NaN in rows without one.
    curve : ndarray
        Trace by the WCS minus its column at the reference row; shape (row,).
    expected : SourcePosition, optional
        Position of the target by the header.
    why_not : str, optional
        Reason why that is not known.
    tolerance : float
        Difference of the two positions in columns above which it is reported.
    bands : ndarray
        Mean wavelength of each band in micron, shape (band,), descending like the rows.
    band_rows : ndarray
        Mean row of each band, fractional.
    fwhm, fwhm_error : ndarray
        Full width at half maximum in each band in arcsec, without the broadening by the pixel, and
        its standard deviation.
    width_terms : ndarray
        Logarithm of (core / expected core): coefficients of a polynomial in (wavelength - 8.5) / 4,
        constant term first.
    shape_terms : ndarray
        Kurtosis of the core and the wings of `DiffractionProfile`.
    covariance : ndarray
        Covariance of `width_terms` and `shape_terms` together.
    bend : float
        Departure of the trace from that of the WCS, peak to peak in columns; 0 if it is not
        significant.
    profile_column, profile, profile_error : ndarray
        Mean cross-dispersion profile of all rows versus the column at the reference row,
        background subtracted, in the unit of the image, and its standard deviation.
    rejected : int
        Number of pixels that were rejected as outliers, in addition to flagged ones.
    chi2 : float
        Reduced chi-square of the fit.
    noise_factor : float
        Factor that all errors include because the noise is correlated between pixels (as after
        resampling) or the residuals exceed their errors; 1 where neither is significant.
    pixel_scale : float
        Width of a column in arcsec.
    shift, shift_error : ndarray, optional
        Displacement of the sources in each integration of a stack from the mean in columns, and its
        standard deviation.
    notes : tuple of str
        Findings that the user should know.
    """

    label: str
    shape: tuple[int, int]
    columns: tuple[int, int]
    sources: tuple[DetectedSource, ...]
    row: int
    row_wavelength: float
    wavelength: Array
    curve: Array
    expected: SourcePosition | None
    why_not: str | None
    tolerance: float
    bands: Array
    band_rows: Array
    fwhm: Array
    fwhm_error: Array
    width_terms: Array
    shape_terms: Array
    covariance: Array
    bend: float
    profile_column: Array
    profile: Array
    profile_error: Array
    rejected: int
    chi2: float
    noise_factor: float
    pixel_scale: float = PIXEL_SCALE
    shift: Array | None = None
    shift_error: Array | None = None
    notes: tuple[str, ...] = ()

    @property
    def target(self) -> DetectedSource:
        """The source at the header's position, or otherwise the brightest."""
        return self.sources[0]

    @property
    def others(self) -> tuple[DetectedSource, ...]:
        """All sources and negative traces except the target."""
        return self.sources[1:]

    @property
    def column(self) -> float:
        """Column of the target at the reference row."""
        return self.target.column

    @property
    def column_error(self) -> float:
        """Its standard deviation."""
        return self.target.column_error

    @property
    def trace(self) -> Array:
        """Column of the target in each row, shape (row,), NaN in rows without a wavelength."""
        return self.target.trace

    @property
    def offset(self) -> float | None:
        """Column of the target minus that by the header; None if that is not known."""
        return None if self.expected is None else self.column - self.expected.column

    @property
    def agrees(self) -> bool | None:
        """Whether the offset is within the tolerance or three standard deviations."""
        if self.offset is None:
            return None
        return abs(self.offset) <= max(self.tolerance, 3.0 * self.column_error)

    @cached_property
    def point_spread(self) -> DiffractionProfile:
        """The fitted spatial profile."""
        wave = np.sort(self.wavelength[np.isfinite(self.wavelength)])
        core = np.exp(width_basis(wave) @ self.width_terms) * expected_core(wave, self.pixel_scale)
        return DiffractionProfile(
            wave, core, float(self.shape_terms[0]), self.shape_terms[1:], self.pixel_scale
        )

    def width(self, wavelength: ArrayLike) -> tuple[Array, Array]:
        """Measured FWHM as a smooth function of the wavelength, and its standard deviation.

        Parameters
        ----------
        wavelength : array_like
            Wavelengths in micron.

        Returns
        -------
        (ndarray, ndarray)
            FWHM in arcsec and its standard deviation, both of the shape of `wavelength`.
        """
        wave = np.atleast_1d(np.asarray(wavelength, dtype=float))
        log_core = width_basis(wave) @ self.width_terms + np.log(
            expected_core(wave, self.pixel_scale)
        )
        value, gradient = profile_fwhm(log_core, self.shape_terms, wave, self.pixel_scale)
        jacobian = np.concatenate([width_basis(wave) * gradient[:, :1], gradient[:, 1:]], axis=1)
        error = np.sqrt(np.einsum("ni,ij,nj->n", jacobian, self.covariance, jacobian))
        shape = np.shape(wavelength)
        return (value * self.pixel_scale).reshape(shape), (error * self.pixel_scale).reshape(shape)

    @property
    def width_ratio(self) -> tuple[float, float]:
        """Mean ratio of the FWHM to the expected one over the bands, and its standard deviation."""
        good = np.isfinite(self.fwhm) & (self.fwhm_error > 0)
        expected = expected_fwhm(self.bands[good])
        weight = (expected / self.fwhm_error[good]) ** 2
        mean = float(np.average(self.fwhm[good] / expected, weights=weight))
        return mean, float(1.0 / math.sqrt(weight.sum()))

    def center(
        self,
        source: DetectedSource | None = None,
        independent_var: Literal["pixel", "wavelength"] = "pixel",
    ) -> tuple[tuple[float, ...], str]:
        """Fit a polynomial to a trace, good to 0.002 column where five orders suffice.

        Parameters
        ----------
        source : DetectedSource, optional
            Source of the trace; by default the target.
        independent_var : {"pixel", "wavelength"}
            Variable of the polynomial: the row, or the wavelength in micron.

        Returns
        -------
        (tuple of float, str)
            Coefficients, constant term first, and `independent_var`. A constant trace has one
            coefficient.
        """
        trace = (source or self.target).trace
        rows = np.flatnonzero(np.isfinite(trace))
        if np.ptp(trace[rows]) < 1e-6:
            return (float(trace[rows].mean()),), independent_var
        variable = rows if independent_var == "pixel" else self.wavelength[rows]
        for degree in range(1, 6):
            coefficients = polyfit(variable, trace[rows], degree)
            if np.abs(polyval(variable, coefficients) - trace[rows]).max() < _TRACE_ACCURACY:
                break
        return tuple(coefficients.tolist()), independent_var

    def box(self, width: float) -> Aperture:
        """Aperture of constant width, centred on the trace of the target.

        Parameters
        ----------
        width : float
            Width in columns, at least 1.
        """
        center, variable = self.center()
        half = width / 2.0
        return Aperture.from_edges(
            (center[0] - half, *center[1:]),
            (center[0] + half, *center[1:]),
            independent_var=variable,
        )

    def tapered(self, n: float = 3.0, *, order: int = 1) -> Aperture:
        """Aperture of n times the measured FWHM, centred on the trace of the target.

        Parameters
        ----------
        n : float
            Width in units of the FWHM.
        order : int
            Degree of the polynomial in wavelength that represents the width.
        """
        wave = self.wavelength[np.isfinite(self.wavelength)]
        inner = wave[(wave >= 4.5) & (wave <= 13.5)]
        used = inner if inner.size > order + 1 else wave
        trace = np.interp(np.arange(self.shape[0]), *_finite(self.trace))
        return Aperture.tapered(
            (used, self.width(used)[0]),
            n,
            center=trace if np.ptp(trace) > 1e-6 else float(trace[0]),
            wavelength=self.wavelength,
            order=order,
            pixel_scale=self.pixel_scale,
        )

    def clear_regions(self, distance: float = 2.5, least: float = 2.0) -> tuple[Array, ...]:
        """Column ranges that are free of sources, negative traces and the image edge.

        Parameters
        ----------
        distance : float
            Distance to every source and negative trace, in units of the FWHM at the longest
            wavelength.
        least : float
            Minimum width of a range in columns.

        Returns
        -------
        tuple of ndarray
            Lower and upper edge of each range, at the reference row.
        """
        widest = float(np.max(self.point_spread.core)) * FWHM
        curve = self.trace - self.column
        low = self.columns[0] - 0.5 - float(np.nanmin(curve))
        high = self.columns[1] + 0.5 - float(np.nanmax(curve))
        occupied = sorted(
            (s.column - distance * widest, s.column + distance * widest) for s in self.sources
        )
        ranges, start = [], low
        for left, right in [*occupied, (high, high)]:
            end = min(left, high)
            if end - start >= least:
                ranges.append(np.array([start + _MARGIN, end - _MARGIN]))
            start = max(start, right)
        return tuple(ranges)

    def background(
        self,
        *,
        distance: float | None = None,
        independent_var: Literal["pixel", "wavelength"] = "pixel",
        **kwargs: Any,
    ) -> Background | None:
        """Background in the columns that are free of sources: see `clear_regions`.

        Parameters
        ----------
        distance : float, optional
            As for `clear_regions`. By default 2.5, and less, down to 1.6, if that gives fewer than
            six columns.
        independent_var : {"pixel", "wavelength"}
            Variable of the polynomials of the edges. A reference has a common one for the aperture
            and the background; that of `tapered` is the wavelength.
        **kwargs
            Other parameters of `Background`, such as ``bkg_fit``.

        Returns
        -------
        Background or None
            None if there are no such columns.
        """
        regions: tuple[Array, ...] = ()
        for keep in (2.5, 2.0, 1.6) if distance is None else (distance,):
            regions = self.clear_regions(keep)
            if sum(upper - lower for lower, upper in regions) >= _MIN_BACKGROUND:
                break
        if not regions:
            return None
        center, variable = self.center(independent_var=independent_var)
        start = polyval(self.row if variable == "pixel" else self.wavelength[self.row], center)
        edges = tuple(
            (center[0] + edge - start, *center[1:]) for region in regions for edge in region
        )
        return Background(bkg_coeff=edges, independent_var=variable, **kwargs)  # type: ignore[arg-type]

    def model(self, *which: DetectedSource) -> Array:
        """Fitted image of sources, by default of all, without background.

        Parameters
        ----------
        *which : DetectedSource
            The sources.

        Returns
        -------
        ndarray
            Shape (row, column), 0 in rows without a wavelength.
        """
        image = np.zeros(self.shape)
        known = np.flatnonzero(np.isfinite(self.wavelength))
        wave = self.wavelength[known][:, np.newaxis]
        edges = np.arange(self.shape[1] + 1) - 0.5
        for source in which or self.sources:
            below = self.point_spread.cumulative(edges - source.trace[known][:, np.newaxis], wave)
            flux = np.nan_to_num(source.flux[known])
            image[known] += flux[:, np.newaxis] * np.diff(below, axis=1)
        return image

    @cached_property
    def table(self) -> QTable:
        """One row per band: wavelength, row, centroid of the target, FWHM, expected FWHM."""
        return band_table(self)

    @cached_property
    def source_table(self) -> QTable:
        """One row per source: kind, column, flux ratio, signal to noise."""
        return source_table(self)

    def report(self) -> str:
        """Text with all results, for people."""
        return measurement_report(self)

    def to_dict(self) -> dict[str, Any]:
        """All numbers, ready for JSON; None where a number is not known."""
        return measurement_dict(self)

    def __repr__(self) -> str:
        found = ", ".join(f"{s.kind} {s.column:.2f}" for s in self.sources)
        return f"<Measurement of {self.label}: {found}>"


def _finite(values: Array) -> tuple[NDArray[np.intp], Array]:
    """Indices and values of the finite elements."""
    known = np.flatnonzero(np.isfinite(values))
    return known, values[known]
