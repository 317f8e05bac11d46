"""Measure the sources in an image."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import LRSError, SourceError
from glue_lrs.fitting.cutout import SlitCutout
from glue_lrs.fitting.engine import (
    LOOSE,
    SourceGeometry,
    SourceModel,
    bend_basis,
    correlation,
    possible_terms,
    profiles,
    shape_prior,
    typical_width,
)
from glue_lrs.fitting.least_squares import invert_ridge, pulled_back
from glue_lrs.fitting.source_search import NEAR, search_residuals
from glue_lrs.image.pixels import good_pixels
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.instrument import FWHM, PIXEL_SCALE
from glue_lrs.measurement.measurement import DetectedSource, Measurement
from glue_lrs.profiles.diffraction import SHAPES, profile_fwhm

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs._utils.typing import Array
    from glue_lrs.fitting.engine import SlitFit

__all__ = ["measure"]


# --- measuring ---------------------------------------------------------------------------------


def measure(
    image: SlitImage | Spectrum,
    *,
    bands: int = 12,
    max_sources: int = 6,
    tolerance: float = 0.5,
    integrations: bool = True,
    pixel_scale: float = PIXEL_SCALE,
) -> Measurement:
    """Find the sources of an image and measure where they are and how wide.

    Parameters
    ----------
    image : SlitImage or `~specutils.Spectrum`
        An s2d, a cal (the trace may be curved), or a stack, of which the mean is measured.
    bands : int
        Bands of wavelength in which centroid and width are measured, at most; fewer for a source
        that is too faint to be measured in each.
    max_sources : int
        How many sources and negative traces are looked for.
    tolerance : float
        Columns by which the header's position may differ from the measured one before a note says
        so; three standard deviations of a faint source are tolerated as well.
    integrations : bool
        Whether the shift of each integration of a stack is measured.
    pixel_scale : float
        Arcsec a column.

    Returns
    -------
    Measurement
        Sources, trace, width.

    Raises
    ------
    SourceError
        If there is no source, or only negative traces.
    LRSError
        If a parameter is out of range.
    """
    for key, value, least in (("bands", bands, 1), ("max_sources", max_sources, 1)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
            raise LRSError(f"{key} is {value!r}, expected a whole number of {least} or more")
    for key, number in (("tolerance", tolerance), ("pixel_scale", pixel_scale)):
        if not (np.isfinite(number) and number > 0):
            raise LRSError(f"{key} is {number!r}, expected a number greater than 0")
    image = SlitImage.from_any(image)
    slit = SlitCutout.from_image(image, pixel_scale)
    work = SourceModel(slit)
    fit = search_residuals(work, max_sources)
    return _Report(image, work, fit, bands, tolerance).make(integrations)


# --- putting it together -----------------------------------------------------------------------


class _Report:
    """Makes the `Measurement` of a converged fit."""

    def __init__(
        self, image: SlitImage, work: SourceModel, fit: SlitFit, bands: int, tolerance: float
    ) -> None:
        self.image, self.work, self.slit = image, work, work.slit
        self.bands, self.tolerance = bands, tolerance
        self.fit = fit
        self.correlation = correlation(work, fit)
        self.chi2 = fit.solved.chi2 / fit.solved.freedom
        significant = self.chi2 > 1.0 + 5.0 * math.sqrt(2.0 / fit.solved.freedom)
        self.scale = self.correlation * (math.sqrt(self.chi2) if significant else 1.0)
        position = expected_position(image)
        self.expected = position if isinstance(position, SourcePosition) else None
        self.why_not = position if isinstance(position, str) else None
        self.notes: list[str] = []

    def make(self, integrations: bool) -> Measurement:
        slit, fit = self.slit, self.fit
        order = self._order()
        covariance = fit.covariance * self.scale**2
        number = fit.parameters.shift.size
        traces = fit.parameters.shape(slit).traces
        wave = np.full(self.image.shape[0], np.nan)
        wave[slit.rows] = slit.wave
        split = self._split(order[0])
        offsets, offset_errors, log_core, terms, log_errors, pivots = self._in_bands(
            split, order[0]
        )
        band_rows, band_waves = pivots
        basis = bend_basis(slit, fit.parameters.bend.size)
        reference = np.array([[float(np.interp(slit.reference, slit.rows, b)) for b in basis.T]])
        sources = []
        template = fit.solved.smooth[order[0]]
        for place, s in enumerate(order):
            own = np.zeros((slit.rows.size + 1, covariance.shape[0]))
            own[:, s] = 1.0
            own[:, number : number + basis.shape[1]] = np.concatenate(
                [basis, reference.reshape(1, basis.shape[1])]
            )
            errors = np.sqrt(np.einsum("ri,ij,rj->r", own, covariance, own))
            column = float(np.interp(slit.reference, slit.rows, traces[s]))
            variance = np.maximum(fit.solved.flux_variance[s], 1e-300) * self.scale**2
            flux, smooth = fit.solved.flux[s], fit.solved.smooth[s]
            power = float((template**2 / variance).sum())
            ratio = float((template * flux / variance).sum()) / power
            snr = float((flux * smooth / variance).sum()) / math.sqrt(
                max(float((smooth**2 / variance).sum()), 1e-300)
            )
            sources.append(
                DetectedSource(
                    kind="target" if place == 0 else "negative" if self.sign(s) < 0 else "source",
                    column=column,
                    column_error=float(errors[-1]),
                    flux_ratio=1.0 if place == 0 else ratio,
                    flux_ratio_error=0.0 if place == 0 else 1.0 / math.sqrt(power),
                    snr=snr,
                    trace=self._whole(traces[s]),
                    trace_error=self._whole(errors[:-1]),
                    centroid=np.interp(band_rows, slit.rows, traces[s]) + offsets[s],
                    centroid_error=offset_errors[s],
                    flux=self._whole(flux),
                    flux_error=self._whole(np.sqrt(variance)),
                )
            )
        width = np.concatenate([np.arange(number + basis.shape[1], covariance.shape[0])])
        fwhm, slopes = profile_fwhm(log_core, terms, band_waves, slit.scale)
        fwhm_error = np.sqrt(np.einsum("ni,nij,nj->n", slopes, log_errors, slopes))
        bend = float(np.ptp(basis @ fit.parameters.bend)) if basis.shape[1] else 0.0
        axis, profile, profile_error = self._profile(traces[order[0]])
        shift, shift_error = (None, None)
        if integrations and self.image.is_stack:
            shift, shift_error = self._integrations()
        measurement = Measurement(
            label=self.image.label,
            shape=self.image.shape,
            columns=(int(slit.columns[0]), int(slit.columns[-1])),
            sources=tuple(sources),
            row=slit.reference,
            row_wavelength=float(np.interp(slit.reference, slit.rows, slit.wave)),
            wavelength=wave,
            curve=self._whole(slit.curve),
            expected=self.expected,
            why_not=self.why_not,
            tolerance=self.tolerance,
            bands=band_waves,
            band_rows=band_rows,
            fwhm=fwhm * slit.scale,
            fwhm_error=fwhm_error * slit.scale,
            width_terms=fit.parameters.width,
            shape_terms=fit.parameters.terms,
            covariance=covariance[np.ix_(width, width)],
            bend=bend,
            profile_column=axis,
            profile=profile,
            profile_error=profile_error,
            rejected=self.work.rejected,
            chi2=self.chi2,
            noise_factor=self.scale,
            pixel_scale=slit.scale,
            shift=shift,
            shift_error=shift_error,
        )
        return replace(measurement, notes=tuple(self.notes + _notes(measurement)))

    def sign(self, s: int) -> float:
        """Whether a source adds light or takes it away."""
        solved = self.fit.solved
        weight = np.abs(solved.smooth[s]) / np.maximum(solved.flux_variance[s], 1e-300)
        return float(np.sign((solved.flux[s] * weight).sum()))

    def _order(self) -> list[int]:
        """The target first, then by brightness."""
        shift = self.fit.parameters.shift
        solved = self.fit.solved
        strength = solved.strength
        order = sorted(range(shift.size), key=lambda s: -strength[s])
        positive = [s for s in order if self.sign(s) > 0]
        if not positive:
            places = ", ".join(f"{shift[s]:.1f}" for s in order)
            raise SourceError(
                f"{self.image.label}: only negative traces (columns {places}), expected a source"
            )
        target = positive[0]
        if self.expected is not None:
            near = typical_width(self.slit)
            away = np.abs(shift - self.expected.column)
            inside = [s for s in positive if away[s] < near]
            if inside:
                # Of a blend the nearest, but no faint companion of what is meant.
                bright = [s for s in inside if strength[s] > 0.3 * strength[inside[0]]]
                target = min(bright, key=lambda s: away[s])
            if strength[target] < 0.5 * strength[positive[0]]:
                self.notes.append("the target is not the brightest source")
        return [target, *(s for s in order if s != target)]

    def _whole(self, values: Array) -> Array:
        """Values of the rows that were used, in all rows of the image."""
        out = np.full(self.image.shape[0], np.nan)
        out[self.slit.rows] = values
        return out

    def _split(self, target: int) -> NDArray[np.intp]:
        """Number of the band that each row belongs to."""
        information = self.fit.solved.curvature[:, target, target]
        flux = self.fit.solved
        power = float(
            (flux.smooth[target] ** 2 / np.maximum(flux.flux_variance[target], 1e-300)).sum()
        )
        number = int(np.clip(power / self.scale**2 / 150.0, 1, self.bands))
        rows = self.slit.rows.size
        number = min(number, rows)
        share = np.cumsum(information) / max(float(information.sum()), 1e-300)
        place = 0.5 * share + 0.5 * (np.arange(rows) + 1.0) / rows
        return np.minimum((place * number * (1.0 - 1e-9)).astype(int), number - 1)

    def _in_bands(
        self, split: NDArray[np.intp], target: int
    ) -> tuple[Array, Array, Array, Array, Array, tuple[Array, Array]]:
        """Shifts and widths of each band on their own, from the smooth fit on.

        Returned are the shift of each source from the smooth trace (source, band) with its error,
        the logarithm of the width (band,), the terms of the shape, their covariance with the width
        of each band (band, 1 + p, 1 + p), and the row and wavelength each band stands for.
        """
        slit, parameters = self.slit, self.fit.parameters
        split = np.unique(split, return_inverse=True)[1]
        number, bands = parameters.shift.size, int(split.max()) + 1
        size = (number + 1) * bands + SHAPES
        tangent = np.zeros((slit.rows.size, number + 1 + SHAPES, size))
        rows = np.arange(slit.rows.size)
        for s in range(number + 1):
            tangent[rows, s, s * bands + split] = 1.0
        for n in range(SHAPES):
            tangent[:, number + 1 + n, size - SHAPES + n] = 1.0
        mean, precision = np.zeros(size), np.zeros(size)
        precision[: number * bands] = 1.0  # a trace does not leave its place by columns
        precision[number * bands : -SHAPES] = 1.0 / LOOSE**2
        mean[-SHAPES:], precision[-SHAPES:] = shape_prior()
        vector = np.zeros(size)
        vector[-SHAPES:] = parameters.terms
        smooth = parameters.shape(slit)
        hessian = np.eye(size)
        for _ in range(3):
            shape = SourceGeometry(
                smooth.traces + vector[: number * bands].reshape(number, bands)[:, split],
                smooth.log_core + vector[number * bands : -SHAPES][split],
                possible_terms(vector[-SHAPES:], parameters.terms),
            )
            solved = self.work.solve(shape)
            hessian = pulled_back(solved.curvature, tangent)
            hessian += np.diag(precision)
            slope = np.einsum("rpk,rp->k", tangent, solved.gradient) + precision * (mean - vector)
            step = np.linalg.solve(hessian, slope)
            vector = vector + np.clip(step, -0.5, 0.5)
            if float(slope @ step) < 1e-4:
                break
        covariance = np.linalg.inv(hessian) * self.scale**2
        weight = np.maximum(self.fit.solved.curvature[:, target, target], 1e-300)
        total = np.bincount(split, weight)
        band_rows = np.bincount(split, weight * slit.rows) / total
        waves = np.interp(band_rows, slit.rows, slit.wave)
        errors = np.sqrt(np.diag(covariance))
        log_core = vector[number * bands : -SHAPES] + np.interp(
            band_rows, slit.rows, smooth.log_core
        )
        joint = np.empty((bands, 1 + SHAPES, 1 + SHAPES))
        for b in range(bands):
            index = [number * bands + b, *range(size - SHAPES, size)]
            joint[b] = covariance[np.ix_(index, index)]
        return (
            vector[: number * bands].reshape(number, bands),
            errors[: number * bands].reshape(number, bands),
            log_core,
            possible_terms(vector[-SHAPES:], parameters.terms),
            joint,
            (band_rows, waves),
        )

    def _profile(self, trace: Array) -> tuple[Array, Array, Array]:
        """Mean over the rows against the column at the reference row, without the background."""
        slit, solved = self.slit, self.fit.solved
        number = self.fit.parameters.shift.size
        weight = self.work.good / self.work.variance
        light = solved.model - self._background(number)
        clean = np.where(self.work.good, slit.data - solved.model, 0.0) + light
        moved = trace - float(np.interp(slit.reference, slit.rows, trace))
        row_weight = 1.0 / np.median(self.work.variance, axis=1)
        total, power = np.zeros(slit.columns.size), np.zeros(slit.columns.size)
        norm = np.zeros(slit.columns.size)
        for r in range(slit.rows.size):
            # Read on the straightened grid; a bad pixel is filled from the model and does not count
            at = slit.columns + moved[r]
            values = np.interp(at, slit.columns, clean[r], left=np.nan, right=np.nan)
            known = np.interp(at, slit.columns, (weight[r] > 0).astype(float), left=0, right=0)
            variance = np.interp(at, slit.columns, self.work.variance[r])
            use = np.isfinite(values) & (known > 0.5)
            total[use] += row_weight[r] * values[use]
            power[use] += row_weight[r] ** 2 * variance[use]
            norm[use] += row_weight[r]
        with np.errstate(invalid="ignore", divide="ignore"):
            return (
                slit.columns.astype(float),
                total / norm,
                np.sqrt(power) / norm * self.scale,
            )

    def _background(self, number: int) -> Array:
        """Background of the fit in each pixel."""
        solved, slit = self.fit.solved, self.slit
        light = np.einsum("rcs,sr->rc", solved.basis[..., :number], solved.flux)
        del slit
        return solved.model - light

    def _integrations(self) -> tuple[Array, Array]:
        """Shift of all sources together in each integration, from the mean; and its error.

        One step from the common fit; fluxes and background of each row are eliminated, and bad
        pixels stand in from the model. The flat field's error is the same for all and has no part
        in how they differ.
        """
        image, slit, work = self.image, self.slit, self.work
        shape = self.fit.parameters.shape(slit)
        solved = self.fit.solved
        _, moves = profiles(slit, shape)
        number = image.data.shape[0]
        weight = work.good / work.variance
        jacobian = np.einsum("sr,src->rc", solved.smooth, moves["shift"])
        heavy = np.swapaxes(solved.basis * weight[..., np.newaxis], 1, 2)
        basis = solved.basis
        part = (basis @ (solved.inverse @ (heavy @ jacobian[..., np.newaxis])))[..., 0]
        kernel = weight * (jacobian - part)
        light = solved.model - self._background(len(shape.traces))
        steady = (
            light
            - (
                basis[..., -2:]
                @ (  # what of the light is no background
                    invert_ridge(
                        np.swapaxes(basis[..., -2:] * weight[..., np.newaxis], 1, 2)
                        @ basis[..., -2:]
                    )
                    @ (heavy[:, -2:] @ light[..., np.newaxis])
                )
            )[..., 0]
        )
        bright = weight * steady
        bright_norm = float((bright * light).sum())
        flat = slit.variances[2]
        single = np.maximum(work.variance - flat, 0.0) * number
        shift, error = np.full(number, np.nan), np.full(number, np.nan)
        window = (
            slice(slit.rows[0], slit.rows[-1] + 1),
            slice(slit.columns[0], slit.columns[-1] + 1),
        )
        pick = slit.rows - slit.rows[0]
        step = max(1, (1 << 20) // (slit.rows.size * slit.columns.size))
        for first in range(0, number, step):
            where = (slice(first, min(first + step, number)), *window)
            data = np.asarray(image.data[where], dtype=float)[:, pick]
            good = good_pixels(image, where)[:, pick] & work.good
            away = np.where(good, data - solved.model, 0.0)
            factor = 1.0 + np.einsum("irc,rc->i", away, bright) / bright_norm
            away = np.where(
                good, data - solved.model - (factor - 1.0)[:, np.newaxis, np.newaxis] * light, 0.0
            )
            odd = np.abs(away) > 6.0 * np.sqrt(single) + 0.1 * np.abs(light)
            away[odd] = 0.0
            good &= ~odd
            seen = good.astype(float)  # what is left to tell of the shift
            scale = factor * np.einsum("irc,rc->i", seen, kernel * jacobian)
            power = np.einsum("irc,rc->i", seen, kernel**2 * single)
            with np.errstate(invalid="ignore", divide="ignore"):
                shift[where[0]] = np.einsum("irc,rc->i", away, kernel) / scale
                error[where[0]] = np.sqrt(power) / np.abs(scale)
        return shift, error * self.correlation


def _notes(measurement: Measurement) -> list[str]:
    """What a user would want to know of a measurement."""
    notes = []
    expected, offset = measurement.expected, measurement.offset
    if expected is not None and offset is not None and not measurement.agrees:
        notes.append(
            f"the source is {offset:+.2f} columns ({offset * measurement.pixel_scale:+.3f} arcsec) "
            f"from where the header puts it (column {expected.column:.2f}): use_source_posn would "
            "move the aperture there"
        )
    ratio, error = measurement.width_ratio
    if abs(ratio - 1.0) > max(0.15, 5.0 * error):
        notes.append(f"the source is {ratio:.2f} times as wide as a point source should be")
    for other in measurement.others:
        away = other.column - measurement.column
        if abs(away) < NEAR * float(np.median(measurement.point_spread.core)) * FWHM:
            what = "negative trace" if other.negative else "source"
            notes.append(
                f"a {what} of {abs(other.flux_ratio):.2g} times the flux is {abs(away):.1f} "
                "columns from the target: a box mixes their light"
            )
    return notes
