"""Aperture correction of a box extraction by the profile at the measured position of the source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import uniform_filter1d

from glue_lrs.apertures.placement import aperture_weights
from glue_lrs.extraction.bad_pixels import each_once, fit_findings
from glue_lrs.extraction.base import emit_findings
from glue_lrs.extraction.optimal_result import UNCORRECTED, scale_of_aperture
from glue_lrs.fitting.least_squares import fit_rows, residuals
from glue_lrs.image.pixels import lost_pixels
from glue_lrs.instrument import APERTURE_WIDTH, DO_NOT_USE
from glue_lrs.profiles.drizzled import DrizzledProfile, broadening
from glue_lrs.profiles.empirical import EmpiricalProfile
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.spectra.column_checks import NO_PIXELS
from glue_lrs.spectra.columns import COMPONENTS, QUALITY
from glue_lrs.spectra.findings import Finding
from glue_lrs.spectra.quality import QUALITY_BITS

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.extraction.base import Columns
    from glue_lrs.extraction.box import BoxExtractor
    from glue_lrs.extraction.optimal import OptimalExtractor
    from glue_lrs.extraction.optimal_result import OptimalResult
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.profiles.base import SpatialProfile
    from glue_lrs.spectra.extraction import Extraction

#: A row is corrected only if its good pixels in the aperture contain more than this fraction of the
#: flux. A larger correction would be an extrapolation of the wings of the profile.
_MIN_LIGHT = 0.1

#: Broadening of a profile by drizzle relative to its mean, 6 p (1 - p), where the overlaps p of the
#: pixels are equally distributed from 0 to 1: mean and variance.
_MEAN_AMOUNT, _VARIANCE = 1.0, 0.2

#: Number of rows in which the broadening is assumed to be the same. The trace moves by a column in
#: a hundred rows or more.
_WINDOW = 31


@dataclass(frozen=True, kw_only=True)
class ProfileCorrectedBoxExtractor:
    """Box extraction of a point source, with an aperture correction that follows from its profile.

    Parameters
    ----------
    box : BoxExtractor
        Box extraction whose result is corrected. Its aperture correction defines the flux scale.
    optimal : OptimalExtractor
        Optimal extraction that fits profile and position of the source.

    Notes
    -----
    The sum over the aperture is divided by the sum of w P over its good pixels, where w are the
    aperture weights and P is the fraction of the flux in each pixel, for the fitted position in
    each row and integration. Offset, shape and lost pixels of the aperture are thus accounted for.
    In a resampled image, a PSF reference is broadened by drizzle, by an amount that is fitted
    (`glue_lrs.profiles.drizzled.DrizzledProfile`). The result is multiplied by the fraction of P in
    a centred aperture of 8 columns, which is the aperture of the pipeline's references, and by the
    aperture correction for this width. Without an aperture correction, the flux is that of the
    profile.

    In rows that lost pixels, NPIXELS becomes that of the complete aperture. The errors are those of
    the sum, multiplied by the same factor: they do not include the error of the profile.
    """

    box: BoxExtractor
    optimal: OptimalExtractor

    def run(self, image: SlitImage, *, check: bool = True) -> Extraction:
        """Extract all columns of the spectrum.

        Parameters
        ----------
        image : SlitImage
            Image or stack of integrations to extract. A source that is not a point source is
            extracted without a correction.
        check : bool
            Whether to make the checks of `BoxExtractor.run`.

        Raises
        ------
        LRSError
            Under the same conditions as in `BoxExtractor.run` and `OptimalExtractor.fit`.
        """
        if not image.is_point_source:
            return self.box.run(image, check=check)
        correction = self.box.correction_for(image)
        issued: set[str] = set()
        with each_once(issued):
            made = replace(self.box, aperture_correction=None).run(image, check=check)
        with each_once(issued):
            model = self.optimal.fit(image)
        assert made.aperture_weight is not None
        assert made.provenance is not None
        total, wave = made.aperture_weight, made.wavelength
        weights = self._weights(image)
        rows, profile = weights.any(axis=1), model.profile
        if isinstance(profile, PSFProfile) and image.drizzle_weight is not None:
            profile = DrizzledProfile(profile, _drizzle_broadening(model)[rows])
        present = _light(image, model, profile, weights)
        columns = {name: np.array(np.atleast_2d(values)) for name, values in made.columns.items()}
        pixels = columns["NPIXELS"]
        has_flux, short = pixels > NO_PIXELS, pixels < total - NO_PIXELS
        able = has_flux & (present > _MIN_LIGHT)
        restored = able & short
        scale = scale_of_aperture(correction, profile, wave)
        factor = np.divide(scale, present, out=np.ones(present.shape), where=able)
        filled = np.where(able, pixels / total, 1.0)
        _multiply(columns, factor, factor * filled)
        columns["NPIXELS"] = np.where(restored, total, pixels)
        columns["DQ"][has_flux & ~able] |= np.uint32(DO_NOT_USE)
        columns[QUALITY][~able] |= np.uint32(QUALITY_BITS["uncorrected"].value)
        columns[QUALITY][restored] &= ~np.uint32(QUALITY_BITS["lost"].value)
        columns[QUALITY][restored] |= np.uint32(QUALITY_BITS["restored"].value)
        if not image.is_stack:
            columns = {name: values[0] for name, values in columns.items()}
        replaced = ["no_aperture_correction", *["lost_pixels"] * (self.box.max_lost is None)]
        findings = [one for one in made.provenance.findings if one.kind not in replaced]
        new = _findings(restored, has_flux & ~able)
        given = self.optimal.profile
        if correction is not None:
            new += correction.range_findings(wave, np.full(wave.shape, float(APERTURE_WIDTH)))
        elif given is None or isinstance(given, EmpiricalProfile):
            new.append(Finding("no_aperture_correction", UNCORRECTED))
        # These findings were not issued as warnings within `each_once`.
        emit_findings(image, [*new, *(one for one in findings if one.kind == "empty_rows")])
        findings += [*fit_findings(model), *new]
        provenance = made.provenance.changed(findings=findings)
        return replace(made, columns=columns, provenance=provenance)

    def _weights(self, image: SlitImage) -> Array:
        """Return the aperture weights of all pixels that have a wavelength."""
        placement = self.box.placement.place(self.box.aperture, image)
        weights = aperture_weights(self.box.aperture, image, placement).full(image.shape)
        return np.asarray(weights * np.isfinite(image.wavelength))


def _light(
    image: SlitImage, model: OptimalResult, profile: SpatialProfile, weights: Array
) -> Array:
    """Return the fraction of the flux on the good pixels of the aperture.

    The shape is (integration, row), with the rows of the spectrum. The fraction is 0 in rows that
    are not fitted.
    """
    cutout, rows = model.fitter.cutout, weights.any(axis=1)
    wave = np.full(image.shape[0], np.nan)
    wave[cutout.rows] = cutout.wavelength
    at = profile.at(wave[rows])
    offset = np.arange(image.shape[1]) - model.traces[0, rows, np.newaxis]
    light = np.empty((len(image.data) if image.is_stack else 1, int(rows.sum())))
    for i, target in enumerate(light):
        good = ~lost_pixels(image, i if image.is_stack else ...)[rows]
        target[:] = np.einsum("rc,rc->r", weights[rows] * good, at(offset - model.shift(i)))
    return np.nan_to_num(light)


def _drizzle_broadening(model: OptimalResult) -> Array:
    """Fit the broadening of a given profile by drizzle, `DrizzledProfile.amount`.

    The fit is linear, in a running window along the rows, with the distribution over all overlaps
    as a prior. Returns the amount in each row of the image, shape (row,).
    """
    fitter, cutout = model.fitter, model.fitter.cutout
    data, good, _ = cutout.read(None, fitter.columns)
    weight = good * fitter.inverse
    row, column = model.rejected
    weight[row - cutout.rows.start, column - fitter.columns.start] = 0.0
    basis, coefficients = fitter.basis(), model.coefficients
    columns = np.arange(fitter.columns.start, fitter.columns.stop)
    offset = columns - model.traces[0, cutout.rows, np.newaxis]
    change = broadening(model.profile, offset, cutout.wavelength)
    change = residuals(change, basis, fit_rows(basis, weight, change)[0])
    change *= coefficients[:, 0, np.newaxis]
    residual = residuals(data, basis, coefficients)
    sums = [np.einsum("rc,rc,rc->r", weight, change, one) for one in (residual, change)]
    window = min(_WINDOW, len(change))
    total, power = (window * uniform_filter1d(one, window, mode="nearest") for one in sums)
    amount = np.ones(cutout.image.shape[0])
    amount[cutout.rows] = (total + _MEAN_AMOUNT / _VARIANCE) / (power + 1.0 / _VARIANCE)
    return amount


def _multiply(columns: Columns, flux: Array, brightness: Array) -> None:
    """Multiply the columns of flux and of surface brightness by factors, in place."""
    for names, prefix, factor in (
        (("FLUX", "FLUX_ERROR"), "FLUX", flux),
        (("SURF_BRIGHT", "SB_ERROR"), "SB", brightness),
    ):
        for name in names:
            columns[name] *= factor
        for component in COMPONENTS:
            columns[f"{prefix}_VAR_{component}"] *= factor**2


def _findings(restored: Mask, failed: Mask) -> list[Finding]:
    """Return findings about rows whose lost pixels were restored, and about masked rows."""
    findings = []
    size = restored.size
    if number := int(restored.sum()):
        findings.append(
            Finding(
                "restored_pixels",
                f"the aperture correction by the profile includes bad pixels in {number} of {size} "
                "rows",
                {"rows": number, "all": size},
            )
        )
    if number := int(failed.sum()):
        findings.append(
            Finding(
                "uncorrected_pixels",
                f"{number} of {size} rows have less than {_MIN_LIGHT:.0%} of the flux on good "
                "pixels of the aperture, and are masked",
                {"rows": number, "all": size},
            )
        )
    return findings
