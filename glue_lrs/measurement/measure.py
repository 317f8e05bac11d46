"""Measurement of the sources in an image with the fit in `glue_lrs.fitting`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from astropy import units as u

from glue_lrs._utils.validation import check_number, check_pixels
from glue_lrs.errors import LRSError, ReferenceFileError, SourceError, quoted
from glue_lrs.fitting.cutout import SlitCutout
from glue_lrs.fitting.drift import DriftModel
from glue_lrs.fitting.engine import correlation, trace_basis, typical_width
from glue_lrs.fitting.source_model import SourceModel
from glue_lrs.fitting.source_search import NEAR, search_residuals
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.instrument import FWHM, PIXEL_SCALE
from glue_lrs.measurement.band_fit import BandFit, assign_bands
from glue_lrs.measurement.measurement import DetectedSource, Measurement
from glue_lrs.measurement.outliers import deviations
from glue_lrs.profiles.diffraction import profile_fwhm

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.apertures.aperture import Aperture
    from glue_lrs.fitting.engine import SlitFit
    from glue_lrs.image.slit_image import ImageSource

#: Minimum flux of the target, relative to the brightest source in the same blend, and relative to
#: the brightest source in the slit.
_MIN_TARGET, _MIN_BRIGHTEST = (
    0.3,  # fainter sources in a blend are not chosen as the target
    0.5,  # a note is added if the target is fainter
)

#: Largest number of bands, and of sources: an image has about 1000 rows and columns.
_MOST = 1000


def measure(
    image: ImageSource,
    *,
    bands: int = 12,
    max_sources: int = 6,
    tolerance: float = 0.5,
    integrations: bool = True,
    pixel_scale: float = PIXEL_SCALE,
) -> Measurement:
    """Find the sources in an image and measure their positions and widths.

    Parameters
    ----------
    image : SlitImage, `~specutils.Spectrum`, str or path-like
        Image to measure: an s2d, a cal (whose trace may be curved), or a stack of integrations,
        whose mean is measured.
    bands : int
        Maximum number of wavelength bands in which centroid and width are measured. A faint source
        has fewer bands.
    max_sources : int
        Maximum number of sources and negative traces.
    tolerance : float
        Largest accepted difference in columns between the measured position and the position from
        the header. A note is added if the difference exceeds both this value and three times the
        error of the measured position.
    integrations : bool
        Whether shift and width of the sources are measured in each integration of a stack.
    pixel_scale : float
        Width of a column in arcsec.

    Returns
    -------
    Measurement
        Sources, traces, widths and notes.

    Raises
    ------
    SourceError
        If there is no source, or only negative traces.
    MeasurementError
        If there are too few rows, columns or good pixels to search for a source.
    LRSError
        If a parameter is out of range.
    """
    for key, value in (("bands", bands), ("max_sources", max_sources)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise LRSError(f"{key} is {quoted(value)}, expected a whole number of 1 or more")
        if value > _MOST:
            raise LRSError(f"{key} is {quoted(value)}, expected at most {_MOST}")
    tolerance = check_pixels("tolerance", tolerance)
    pixel_scale = check_number("pixel_scale", pixel_scale, u.arcsec)
    for key, number in (("tolerance", tolerance), ("pixel_scale", pixel_scale)):
        if number <= 0:
            raise LRSError(f"{key} is {quoted(number)}, expected a number greater than 0")
    image = SlitImage.from_any(image)
    model = SourceModel(SlitCutout.from_image(image, pixel_scale))
    fit = search_residuals(model, max_sources)
    return _Evaluation(image, model, fit, tolerance).measurement(bands, integrations)


def aperture_at_source(image: ImageSource, width: float) -> Aperture:
    """Return an aperture that is centred on the measured source in an image.

    Parameters
    ----------
    image : SlitImage, `~specutils.Spectrum`, str or path-like
        Image whose source is measured with `measure`.
    width : float
        Width of the aperture in columns, at least 1.

    Returns
    -------
    Aperture
        Aperture whose edges follow the measured trace. Because the edges are positions on this
        image, the aperture must be used with ``use_source_posn=False``.

    Raises
    ------
    SourceError
        If no source is found.
    ReferenceFileError
        If the width is less than 1.
    """
    columns = check_pixels("width", width)
    if columns < 1:
        raise ReferenceFileError(f"width is {quoted(width)}, expected at least 1 pixel")
    return measure(image, integrations=False).box(columns)


class _Evaluation:
    """Evaluation of a converged fit, which results in a `Measurement`.

    Parameters
    ----------
    image : SlitImage
        Image that was fitted.
    model : SourceModel
        Model of the image, with the final weights of the pixels.
    fit : SlitFit
        Converged fit of the model.
    tolerance : float
        See `measure`.
    """

    def __init__(
        self, image: SlitImage, model: SourceModel, fit: SlitFit, tolerance: float
    ) -> None:
        self.image, self.model, self.slit, self.fit = image, model, model.slit, fit
        self.tolerance = tolerance
        self.correlation = correlation(model, fit)
        self.chi2 = fit.linear.chi2 / fit.linear.freedom
        significant = self.chi2 > 1.0 + 5.0 * math.sqrt(2.0 / fit.linear.freedom)
        #: Factor by which all errors are increased (see `Measurement.noise_factor`).
        self.scale = self.correlation * (math.sqrt(self.chi2) if significant else 1.0)
        self.covariance = fit.covariance * self.scale**2
        self.traces = fit.parameters.geometry(self.slit).traces
        self.trace_basis = trace_basis(self.slit, fit.parameters.bend.size)
        position = expected_position(image)
        self.expected = position if isinstance(position, SourcePosition) else None
        self.why_not = position if isinstance(position, str) else None
        self.notes: list[str] = []

    def measurement(self, bands: int, integrations: bool) -> Measurement:
        """Return the measurement. See `measure` for the parameters."""
        slit, parameters = self.slit, self.fit.parameters
        order = self._order()
        target = order[0]
        band = assign_bands(self.model, self.fit, target, self.scale, bands)
        bands_fit = BandFit.from_fit(self.model, self.fit, band, target, self.scale)
        fwhm, gradient = profile_fwhm(
            bands_fit.log_core, bands_fit.terms, bands_fit.wavelength, slit.scale
        )
        fwhm_error = np.sqrt(np.einsum("ni,nij,nj->n", gradient, bands_fit.covariance, gradient))
        column, profile, profile_error = self._profile(self.traces[target])
        drift = None
        if integrations and self.image.is_stack:
            model = DriftModel(self.model, self.fit, len(self.image.data))
            drift = model.measure(self.image)
        smooth = slice(parameters.shift.size + parameters.bend.size, None)
        measurement = Measurement(
            label=self.image.label,
            shape=self.image.shape,
            columns=(int(slit.columns[0]), int(slit.columns[-1])),
            sources=tuple(self._source(s, target, bands_fit) for s in order),
            row=slit.reference,
            row_wavelength=float(np.interp(slit.reference, slit.rows, slit.wave)),
            wavelength=self._in_all_rows(slit.wave),
            curve=self._in_all_rows(slit.curve),
            expected=self.expected,
            why_not=self.why_not,
            tolerance=self.tolerance,
            bands=bands_fit.wavelength,
            band_rows=bands_fit.rows,
            fwhm=fwhm * slit.scale,
            fwhm_error=fwhm_error * slit.scale,
            width_terms=parameters.width,
            shape_terms=parameters.terms,
            covariance=self.covariance[smooth, smooth],
            bend=float(np.ptp(self.trace_basis @ parameters.bend)) if parameters.bend.size else 0.0,
            profile_column=column,
            profile=profile,
            profile_error=profile_error,
            rejected=self.model.rejected,
            outliers=self._outliers(),
            chi2=self.chi2,
            noise_factor=self.scale,
            unit=self.image.unit.to_string(),
            pixel_scale=slit.scale,
            drift=drift,
        )
        return replace(measurement, notes=tuple(self.notes + _notes(measurement)))

    def _source(self, s: int, target: int, bands: BandFit) -> DetectedSource:
        """Return the position and flux of the source with index `s`."""
        slit, linear = self.slit, self.fit.linear
        kind: Literal["target", "source", "negative"]
        kind = "target" if s == target else "negative" if self._sign(s) < 0 else "source"
        errors = self._trace_errors(s)
        template = linear.smooth[target]
        variance = np.maximum(linear.flux_variance[s], 1e-300) * self.scale**2
        flux, smooth = linear.flux[s], linear.smooth[s]
        power = float((template**2 / variance).sum())
        ratio = float((template * flux / variance).sum()) / power
        snr = float((flux * smooth / variance).sum()) / math.sqrt(
            max(float((smooth**2 / variance).sum()), 1e-300)
        )
        return DetectedSource(
            kind=kind,
            column=float(np.interp(slit.reference, slit.rows, self.traces[s])),
            column_error=float(errors[-1]),
            flux_ratio=1.0 if s == target else ratio,
            flux_ratio_error=0.0 if s == target else 1.0 / math.sqrt(power),
            snr=snr,
            trace=self._in_all_rows(self.traces[s]),
            trace_error=self._in_all_rows(errors[:-1]),
            centroid=np.interp(bands.rows, slit.rows, self.traces[s]) + bands.shift[s],
            centroid_error=bands.shift_error[s],
            flux=self._in_all_rows(flux),
            flux_error=self._in_all_rows(np.sqrt(variance)),
        )

    def _trace_errors(self, s: int) -> Array:
        """Return the error of the trace of source `s` in each fitted row.

        An additional last value is the error in the reference row.
        """
        slit, basis = self.slit, self.trace_basis
        number = self.fit.parameters.shift.size
        reference = [np.interp(slit.reference, slit.rows, column) for column in basis.T]
        jacobian = np.zeros((slit.rows.size + 1, self.covariance.shape[0]))
        jacobian[:, s] = 1.0
        jacobian[:, number : number + basis.shape[1]] = np.vstack([basis, reference])
        return np.sqrt(np.einsum("ri,ij,rj->r", jacobian, self.covariance, jacobian))

    def _outliers(self) -> Array:
        """Return row, column and deviation of each rejected pixel, shape (3, pixel)."""
        slit, linear = self.slit, self.fit.linear
        row, column = np.nonzero(slit.good & ~self.model.good)
        sources = linear.model - linear.background
        found = deviations(slit.data, linear.model, sources, self.model.good, (row, column))
        return np.stack([slit.rows[row], slit.columns[column], found])

    def _sign(self, s: int) -> float:
        """Return the sign of the weighted sum of the flux of source `s` over all rows."""
        linear = self.fit.linear
        weight = np.abs(linear.smooth[s]) / np.maximum(linear.flux_variance[s], 1e-300)
        return float(np.sign((linear.flux[s] * weight).sum()))

    def _order(self) -> list[int]:
        """Return the indices of the sources: first the target, then the others by brightness."""
        shift, strength = self.fit.parameters.shift, self.fit.linear.strength
        order = sorted(range(shift.size), key=lambda s: -strength[s])
        positive = [s for s in order if self._sign(s) > 0]
        if not positive:
            columns = ", ".join(f"{shift[s]:.1f}" for s in order)
            raise SourceError(
                f"only negative traces (columns {columns}), expected a source",
                subject=self.image.label,
            )
        # A source beyond the edge of the image, or hot columns there, may be the brightest.
        last = self.image.shape[1] - 1
        target = next((s for s in positive if 0.0 <= shift[s] <= last), positive[0])
        if self.expected is not None:
            distance = np.abs(shift - self.expected.column)
            candidates = [s for s in positive if distance[s] < typical_width(self.slit)]
            if candidates:
                # In a blend, the target is the source that is nearest to the expected position,
                # except for faint companions.
                limit = _MIN_TARGET * strength[candidates[0]]
                bright = [s for s in candidates if strength[s] > limit]
                target = min(bright, key=lambda s: distance[s])
            if strength[target] < _MIN_BRIGHTEST * strength[positive[0]]:
                self.notes.append("the target is not the brightest source")
        return [target, *(s for s in order if s != target)]

    def _in_all_rows(self, values: Array) -> Array:
        """Return values for all rows of the image, NaN in rows that were not fitted."""
        placed = np.full(self.image.shape[0], np.nan)
        placed[self.slit.rows] = values
        return placed

    def _profile(self, trace: Array) -> tuple[Array, Array, Array]:
        """Return the mean cross-dispersion profile of all rows after the trace is straightened.

        The result consists of the columns in the reference row, the mean profile and its error.
        """
        slit, linear, variance = self.slit, self.fit.linear, self.model.variance
        sources = linear.model - linear.background
        clean = np.where(self.model.good, slit.data - linear.model, 0.0) + sources
        shift = trace - float(np.interp(slit.reference, slit.rows, trace))
        good = (self.model.good / variance > 0).astype(float)
        row_weight = 1.0 / np.median(variance, axis=1)
        total, power, norm = (np.zeros(slit.columns.size) for _ in range(3))
        for r in range(slit.rows.size):
            # Shift the row so that the trace becomes straight. Bad pixels are replaced by the model
            # in `clean`, but columns to which mostly bad pixels contribute are not used.
            at = slit.columns + shift[r]
            values = np.interp(at, slit.columns, clean[r], left=np.nan, right=np.nan)
            known = np.interp(at, slit.columns, good[r], left=0, right=0)
            use = np.isfinite(values) & (known > 0.5)
            total[use] += row_weight[r] * values[use]
            power[use] += row_weight[r] ** 2 * np.interp(at, slit.columns, variance[r])[use]
            norm[use] += row_weight[r]
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.sqrt(power) / norm * self.scale
            return slit.columns.astype(float), total / norm, error


def _notes(measurement: Measurement) -> list[str]:
    """Return the texts of notes about an unexpected position or width and about blends."""
    notes = []
    expected, offset = measurement.expected, measurement.offset
    if expected is not None and offset is not None and not measurement.agrees:
        notes.append(
            f"the source is {offset:+.2f} columns ({offset * measurement.pixel_scale:+.3f} arcsec) "
            f"from the header position (column {expected.column:.2f})"
        )
    ratio, error = measurement.width_ratio
    if abs(ratio - 1.0) > max(0.15, 5.0 * error):
        notes.append(f"the source is {ratio:.2f} times as wide as a point source should be")
    fwhm = float(np.median(measurement.point_spread.core)) * FWHM
    for other in measurement.others:
        distance = abs(other.column - measurement.column)
        if distance < NEAR * fwhm:
            kind = "negative trace" if other.negative else "source"
            notes.append(
                f"a {kind} with {abs(other.flux_ratio):.2g} times the target's flux is "
                f"{distance:.1f} columns from it: a box contains flux from both"
            )
    return notes
