"""Result of a measurement: sources along the slit, their traces, and the width of the profile.

The fit is described in `glue_lrs.fitting.source_search`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.polynomial.polynomial import polyfit, polyval
from numpy.typing import ArrayLike

from glue_lrs._utils.display import described, joined, rounded
from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.background import Background
from glue_lrs.instrument import FWHM, PIXEL_SCALE, expected_fwhm
from glue_lrs.measurement.report import (
    band_table,
    drift_table,
    measurement_dict,
    measurement_report,
    plus_minus,
    source_table,
)
from glue_lrs.profiles.diffraction import (
    DiffractionProfile,
    expected_core,
    profile_fwhm,
    width_basis,
)

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.fitting.drift import Drift
    from glue_lrs.image.source_position import SourcePosition

#: Minimum total width of the background regions in columns. Narrower regions are extended towards
#: the sources.
_MIN_BACKGROUND = 6.0

#: Margin in columns at the ends of a background region. It is larger than the error of the
#: polynomial that represents the trace, which is 0.002 columns.
_MARGIN = 0.01

#: Maximum difference in columns between a trace and the polynomial that represents it.
_TRACE_ACCURACY = 2e-3


@dataclass(frozen=True, eq=False, kw_only=True)
class DetectedSource:
    """A source along the slit, or the negative trace of a source in the subtracted nod.

    Parameters
    ----------
    kind : {"target", "source", "negative"}
        Whether this is the target, another source, or a negative trace. The target is the source at
        the position from the header, or the brightest source if there is no source at this
        position.
    column, column_error : float
        Column of the source at the reference row, `Measurement.row`, and its 1-sigma error.
    flux_ratio, flux_ratio_error : float
        Flux over all wavelengths divided by the target's flux, and the 1-sigma error of the ratio.
        The ratio is negative for a negative trace.
    snr : float
        Signal-to-noise ratio for all rows together.
    trace : ndarray
        Column of the source in each row of the image, shape (row,), NaN in rows without a
        wavelength.
    trace_error : ndarray
        1-sigma error of `trace`, shape (row,).
    centroid, centroid_error : ndarray
        Column measured in each band of `Measurement.bands`, and its 1-sigma error, shape (band,).
    flux : ndarray
        Fitted flux in each row, not smoothed, shape (row,). It is the sum over columns of the
        fitted profile, in the unit of the image.
    flux_error : ndarray
        1-sigma error of `flux`, shape (row,).
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
        """Whether this is a negative trace."""
        return self.kind == "negative"


@dataclass(frozen=True, eq=False, kw_only=True)
class Measurement:
    """Result of `measure`: sources in an image, their traces, and the width of the profile.

    Parameters
    ----------
    label : str
        Name of the image in messages.
    shape : (int, int)
        Number of rows and number of columns in the image.
    columns : (int, int)
        First and last column that contain data.
    sources : tuple of DetectedSource
        The target first, then the other sources in order of decreasing brightness.
    row : int
        Reference row. The columns of the sources are their columns in this row.
    row_wavelength : float
        Wavelength in the reference row in micron.
    wavelength : ndarray
        Wavelength of each row in micron, shape (row,), NaN in rows without a wavelength.
    curve : ndarray
        Column of the WCS trace in each row minus its column in the reference row, shape (row,).
    expected : SourcePosition, optional
        Position of the target according to the header.
    why_not : str, optional
        Reason why the position from the header is not known.
    tolerance : float
        Largest accepted difference in columns between the measured position and the position from
        the header.
    bands : ndarray
        Wavelength at the mean row of each band in micron, shape (band,). The bands are sorted by
        row, so that the wavelengths descend.
    band_rows : ndarray
        Mean row of each band, weighted and not rounded, shape (band,).
    fwhm, fwhm_error : ndarray
        Full width at half maximum in each band in arcsec, without the broadening by the pixels, and
        its 1-sigma error, shape (band,).
    width_terms : ndarray
        Coefficients of a polynomial in (wavelength - 8.5) / 4, with the wavelength in micron,
        constant term first. Its value is the natural logarithm of the ratio of the core width to
        the expected core width.
    shape_terms : ndarray
        Kurtosis of the core, followed by the wing terms of `DiffractionProfile`.
    covariance : ndarray
        Covariance matrix of `width_terms` followed by `shape_terms`.
    bend : float
        Peak-to-peak difference in columns between the shapes of the measured trace and of the WCS
        trace, 0 if it is not significant.
    profile_column, profile, profile_error : ndarray
        Columns in the reference row, mean cross-dispersion profile of all rows at these columns
        after background subtraction, and 1-sigma error of this profile, in the unit of the image.
    rejected : int
        Number of pixels that were rejected as outliers, without pixels that are bad in the image.
    outliers : ndarray
        Row, column and deviation of each of these pixels from the model, shape (3, rejected). If a
        pixel deviates less from the prediction of the neighbouring rows, this deviation is given.
    chi2 : float
        Reduced chi-square of the fit.
    noise_factor : float
        Factor by which all errors are increased because the noise is correlated between pixels (as
        after resampling) or the residuals are larger than the pixel errors. It is 1 if neither
        effect is significant.
    unit : str
        Unit of the image, and so of the profile and of the fluxes of the sources.
    pixel_scale : float
        Width of a column in arcsec.
    drift : Drift, optional
        Shift of the sources in each integration of a stack relative to the mean image in columns,
        width relative to it, and 1-sigma errors.
    notes : tuple of str
        Texts about results that are unexpected or may affect an extraction.
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
    outliers: Array
    chi2: float
    noise_factor: float
    unit: str = ""
    pixel_scale: float = PIXEL_SCALE
    drift: Drift | None = None
    notes: tuple[str, ...] = ()

    @property
    def target(self) -> DetectedSource:
        """Source at the position from the header, or else the brightest source."""
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
        """1-sigma error of `column`."""
        return self.target.column_error

    @property
    def trace(self) -> Array:
        """Column of the target in each row, shape (row,), NaN in rows without a wavelength."""
        return self.target.trace

    @property
    def offset(self) -> float | None:
        """Measured minus expected column of the target, None if the header gives no position."""
        return None if self.expected is None else self.column - self.expected.column

    @property
    def agrees(self) -> bool | None:
        """Whether `offset` is within `tolerance` or three times its error, None if unknown."""
        if self.offset is None:
            return None
        return abs(self.offset) <= max(self.tolerance, 3.0 * self.column_error)

    @property
    def shift(self) -> Array | None:
        """Shift of the sources in each integration of a stack in columns, shape (integration,)."""
        return None if self.drift is None else self.drift.shift

    @property
    def shift_error(self) -> Array | None:
        """1-sigma error of `shift`."""
        return None if self.drift is None else self.drift.shift_error

    @cached_property
    def point_spread(self) -> DiffractionProfile:
        """Fitted spatial profile."""
        wave = np.sort(self.wavelength[np.isfinite(self.wavelength)])
        core = np.exp(width_basis(wave) @ self.width_terms) * expected_core(wave, self.pixel_scale)
        return DiffractionProfile(
            wave, core, float(self.shape_terms[0]), self.shape_terms[1:], self.pixel_scale
        )

    def width(self, wavelength: ArrayLike) -> tuple[Array, Array]:
        """Return the measured FWHM, which is a smooth function of the wavelength, and its error.

        Parameters
        ----------
        wavelength : array_like
            Wavelengths in micron.

        Returns
        -------
        (ndarray, ndarray)
            FWHM in arcsec and its 1-sigma error, both with the shape of `wavelength`.
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
        """Mean ratio of the measured to the expected FWHM in the bands, and its 1-sigma error.

        Both are NaN if no band has a width with a finite error.
        """
        good = np.isfinite(self.fwhm) & np.isfinite(self.fwhm_error) & (self.fwhm_error > 0)
        if not good.any():
            return math.nan, math.nan
        expected = expected_fwhm(self.bands[good])
        weight = (expected / self.fwhm_error[good]) ** 2
        mean = float(np.average(self.fwhm[good] / expected, weights=weight))
        return mean, float(1.0 / math.sqrt(weight.sum()))

    def center(
        self,
        source: DetectedSource | None = None,
        independent_var: Literal["pixel", "wavelength"] = "pixel",
    ) -> tuple[tuple[float, ...], str]:
        """Fit a polynomial of degree 5 or less to a trace, accurate to 0.002 columns if possible.

        Parameters
        ----------
        source : DetectedSource, optional
            Source whose trace is fitted. The default is the target.
        independent_var : {"pixel", "wavelength"}
            Variable of the polynomial: the row number, or the wavelength in micron.

        Returns
        -------
        (tuple of float, str)
            Coefficients, constant term first, and `independent_var`. There is only one coefficient
            for a constant trace.
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
        """Return an aperture of constant width that is centred on the target's trace.

        Parameters
        ----------
        width : float
            Width in columns, at least 1.
        """
        (middle, *slopes), variable = self.center()
        lower, upper = ((middle + half, *slopes) for half in (-width / 2.0, width / 2.0))
        return Aperture.from_edges(lower, upper, independent_var=variable)

    def tapered(self, n: float = 3.0, *, order: int = 1) -> Aperture:
        """Return an aperture on the target's trace whose width is n times the measured FWHM.

        Parameters
        ----------
        n : float
            Width of the aperture in units of the FWHM.
        order : int
            Degree of the polynomial in wavelength that represents the width.
        """
        wave = self.wavelength[np.isfinite(self.wavelength)]
        inner = wave[(wave >= 4.5) & (wave <= 13.5)]
        used = inner if inner.size > order + 1 else wave
        known = np.flatnonzero(np.isfinite(self.trace))
        trace = np.interp(np.arange(self.shape[0]), known, self.trace[known])
        return Aperture.tapered(
            (used, self.width(used)[0]),
            n,
            center=trace if np.ptp(trace) > 1e-6 else float(trace[0]),
            wavelength=self.wavelength,
            order=order,
            pixel_scale=self.pixel_scale,
        )

    def clear_regions(self, distance: float = 2.5, least: float = 2.0) -> tuple[Array, ...]:
        """Return the column ranges on the image that are free of sources and negative traces.

        Parameters
        ----------
        distance : float
            Minimum distance to every source and negative trace, in units of the FWHM at the longest
            wavelength.
        least : float
            Minimum width of a range in columns.

        Returns
        -------
        tuple of ndarray
            Lower and upper edge of each range at the reference row.
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
        """Return a background whose regions are free of sources, as found by `clear_regions`.

        Parameters
        ----------
        distance : float, optional
            As for `clear_regions`. The default is 2.5, which is reduced to 2 and then to 1.6 if
            there are fewer than six free columns.
        independent_var : {"pixel", "wavelength"}
            Independent variable of the polynomials for the edges. In an EXTRACT1D reference file,
            it must be the same for aperture and background. For apertures from `tapered`, it is
            "wavelength".
        **kwargs
            Other parameters of `Background`, such as ``bkg_fit``.

        Returns
        -------
        Background or None
            Background, or None if there are no free columns.
        """
        regions: tuple[Array, ...] = ()
        for keep in (2.5, 2.0, 1.6) if distance is None else (distance,):
            regions = self.clear_regions(keep)
            if sum(upper - lower for lower, upper in regions) >= _MIN_BACKGROUND:
                break
        if not regions:
            return None
        edges = self.edges(regions, independent_var)
        return Background(bkg_coeff=edges, independent_var=independent_var, **kwargs)

    def edges(
        self,
        regions: Iterable[tuple[float, float] | Array],
        independent_var: Literal["pixel", "wavelength"] = "pixel",
    ) -> tuple[tuple[float, ...], ...]:
        """Return the polynomials of the edges of regions that follow the target's trace.

        Parameters
        ----------
        regions : iterable of (float, float)
            Lower and upper edge of each region in columns at the reference row.
        independent_var : {"pixel", "wavelength"}
            Variable of the polynomials.

        Returns
        -------
        tuple of tuple of float
            Coefficients of each edge, as in ``bkg_coeff``.
        """
        center, variable = self.center(independent_var=independent_var)
        start = polyval(self.row if variable == "pixel" else self.wavelength[self.row], center)
        return tuple(
            (float(center[0] + edge - start), *center[1:]) for region in regions for edge in region
        )

    def model(self, *which: DetectedSource) -> Array:
        """Return the fitted model image of the sources, without background.

        Parameters
        ----------
        *which : DetectedSource
            Sources to include. By default, all sources and negative traces are included.

        Returns
        -------
        ndarray
            Image of shape (row, column), 0 in rows without a wavelength.
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

    table = cached_property(band_table)
    source_table = cached_property(source_table)
    drift_table = cached_property(drift_table)
    report = measurement_report
    to_dict = measurement_dict

    def __repr__(self) -> str:
        target, middle = self.target, int(np.argmin(np.abs(self.bands - np.median(self.bands))))
        fwhm = plus_minus(self.fwhm[middle], self.fwhm_error[middle])
        column = plus_minus(target.column, target.column_error)
        from_header = None if self.offset is None else f"{self.offset:+.3f} from the header's"
        return described(
            self,
            f"of {self.label}",
            joined(f"target at column {column} in row {self.row}", from_header),
            f"S/N {rounded(target.snr)}, FWHM {fwhm} arcsec at {self.bands[middle]:.2f} um",
            joined(*(f"{source.kind} at {source.column:.2f}" for source in self.others)),
        )
