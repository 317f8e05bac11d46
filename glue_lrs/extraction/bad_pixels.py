"""Bad-pixel correction of a box extraction with a fitted spatial profile."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glue_lrs.apertures.placement import aperture_weights
from glue_lrs.errors import LostPixelsWarning
from glue_lrs.extraction.base import emit_findings, jansky_per_sum
from glue_lrs.fitting.least_squares import inverse_normal, normal
from glue_lrs.image.pixels import read_pixels
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.column_checks import NO_PIXELS, empty_rows
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
    from glue_lrs.spectra.extraction import Extraction

#: A row is corrected only if the sum of P^2 over its good pixels is more than this fraction of the
#: sum of P^2 over all its pixels, where P is the spatial profile.
_MIN_POWER = 0.02


@dataclass(frozen=True, kw_only=True)
class CorrectedBoxExtractor:
    """Box extraction that estimates the flux on bad pixels from a fitted profile.

    Parameters
    ----------
    box : BoxExtractor
        Box extraction whose result is corrected.
    optimal : OptimalExtractor
        Optimal extraction that fits the source's profile P and its flux f in each row.

    Notes
    -----
    With the aperture weights w, the data D and the background B, the flux of a row is
    S = sum_good w (D - B) + L f. Here f = sum k D is the flux from the optimal fit, k is the
    derivative of f with respect to each pixel, and L = sum_lost w P is the flux that a source of
    unit flux has on the lost pixels. The two terms of S are correlated because both depend on the
    good pixels, so that the variance of S is sum (w + L k)^2 var. Rows whose good pixels contain
    too little of the profile keep their values and get DQ bit 0.
    """

    box: BoxExtractor
    optimal: OptimalExtractor

    def run(self, image: SlitImage, *, check: bool = True) -> Extraction:
        """Extract all columns of the spectrum.

        Parameters
        ----------
        image : SlitImage
            Image or stack of integrations to extract.
        check : bool
            Whether to make the checks of `BoxExtractor.run`.

        Returns
        -------
        Extraction
            The result of `BoxExtractor.run`, except in rows with lost pixels. There, the flux
            includes the flux estimated for the lost pixels, NPIXELS and the aperture correction
            are the values for the whole aperture, and the errors are larger.

        Raises
        ------
        LRSError
            Under the same conditions as in `BoxExtractor.run` and `OptimalExtractor.fit`.
        """
        issued: set[str] = set()
        with each_once(issued):
            box = self.box.run(image, check=check)
        assert box.aperture_weight is not None
        assert box.provenance is not None
        pixels = np.atleast_2d(box.columns["NPIXELS"])
        lost = pixels < box.aperture_weight - NO_PIXELS
        if not lost.any():
            return box
        with each_once(issued):
            model = self.optimal.fit(image)
        columns = {name: np.array(np.atleast_2d(values)) for name, values in box.columns.items()}
        correction = _Correction(self.box, image, model, box)
        corrected = uncorrectable = 0
        for i in np.flatnonzero(lost.any(axis=1)).tolist():
            done, failed = correction.apply(i, np.flatnonzero(lost[i]), columns)
            corrected, uncorrectable = corrected + done, uncorrectable + failed
        if not image.is_stack:
            columns = {name: values[0] for name, values in columns.items()}
        replaced = ("lost_pixels", "empty_rows")
        findings = [one for one in box.provenance.findings if one.kind not in replaced]
        findings += fit_findings(model)
        if corrected:
            findings.append(
                Finding(
                    "restored_pixels",
                    "the flux of bad pixels was restored from the profile in "
                    f"{corrected} of {pixels.size} rows",
                    {"rows": corrected, "all": pixels.size},
                )
            )
        if uncorrectable:
            failed_rows = Finding(
                "uncorrected_pixels",
                f"{uncorrectable} of {pixels.size} rows have too few good pixels for the profile "
                "correction and are masked",
                {"rows": uncorrectable, "all": pixels.size},
            )
            findings.append(failed_rows)
            emit_findings(image, [failed_rows])
        empty = empty_rows(columns) if check else []
        emit_findings(image, empty)
        provenance = box.provenance.changed(findings=[*findings, *empty])
        return replace(box, columns=columns, provenance=provenance)


def fit_findings(model: OptimalResult) -> list[Finding]:
    """Return the findings about the fit of the profile, which the fit has issued as warnings."""
    provenance = model.extractions[0].provenance
    assert provenance is not None
    return [one for one in provenance.findings if one.kind == "fit"]


@contextlib.contextmanager
def each_once(issued: set[str]) -> Iterator[None]:
    """Issue each warning only once, and suppress `LostPixelsWarning`.

    `LostPixelsWarning` is suppressed because the lost pixels are corrected afterwards. Warnings
    whose text is in `issued` are not repeated. The texts of new warnings are added to `issued`.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        text = str(warning.message)
        if text not in issued and not issubclass(warning.category, LostPixelsWarning):
            issued.add(text)
            message = warning.message  # always an instance, although typed as Warning | str
            assert isinstance(message, Warning)
            warnings.warn_explicit(message, warning.category, warning.filename, warning.lineno)


class _Correction:
    """Correction for lost pixels in the rows of one image.

    Parameters
    ----------
    box : BoxExtractor
        Extractor with the aperture and the aperture correction.
    image : SlitImage
        Image or stack of integrations that was extracted.
    model : OptimalResult
        Fit to the image.
    extraction : Extraction
        Result of the box extraction.
    """

    def __init__(
        self, box: BoxExtractor, image: SlitImage, model: OptimalResult, extraction: Extraction
    ) -> None:
        assert extraction.aperture_weight is not None
        placement = box.placement.place(box.aperture, image)
        weights = aperture_weights(box.aperture, image, placement).full(image.shape)
        self.box, self.image, self.model = box, image, model
        self.scale = jansky_per_sum(image)  # factor from a sum of pixels to a flux
        # Aperture weights of all pixels of the image.
        self.weights = weights * np.isfinite(image.wavelength)
        # Image rows that are in the spectrum, and the sum of the weights in each row, including
        # the weights of lost pixels.
        self.rows = np.flatnonzero(self.weights.sum(axis=1) > 0)
        self.total = extraction.aperture_weight
        self.wavelength, self.correction = extraction.wavelength, box.correction_for(image)
        # Aperture correction for apertures without lost pixels.
        self.factor = self._factor(slice(None), self.total)

    def _factor(self, which: slice | NDArray[np.intp], pixels: Array) -> Array:
        """Return the aperture correction in rows `which` for an aperture of `pixels` pixels."""
        if self.correction is None:
            return np.ones(pixels.shape)
        return self.correction(self.wavelength[which], pixels)

    def apply(self, i: int, which: NDArray[np.intp], columns: Columns) -> tuple[int, int]:
        """Correct `columns` in place, in rows `which` of integration `i`.

        Returns the number of corrected rows and the number of rows that could not be corrected.
        """
        cutout = self.model.fitter.cutout
        at = self.rows[which]
        fitted = (at >= cutout.rows.start) & (at < cutout.rows.stop)
        failed = self._mask(i, which[~fitted], columns)
        which, at = which[fitted], at[fitted]
        response, light, flux, able, variances = self._response(i, at)
        pixels = columns["NPIXELS"][i, which].copy()
        total, new = self.total[which], self.factor[which]
        found = columns["FLUX"][i, which] / (self.scale * self._factor(which, pixels))
        found = np.where(np.isnan(found), 0.0, found) + light * flux
        done = which[able]
        columns["FLUX"][i, done] = (found * self.scale * new)[able]
        columns["SURF_BRIGHT"][i, done] = (found * new / total)[able]
        failed += self._mask(i, which[~able], columns)
        columns["NPIXELS"][i, done] = total[able]
        columns[QUALITY][i, done] &= ~np.uint32(QUALITY_BITS["lost"].value)
        columns[QUALITY][i, done] |= np.uint32(QUALITY_BITS["restored"].value)
        if self.box.max_lost is None:
            columns["DQ"][i, done] &= ~np.uint32(DO_NOT_USE)
        sums = np.zeros((2, which.size))
        for component, plane in zip(COMPONENTS, variances, strict=True):
            background = columns[f"BKGD_VAR_{component}"][i, which] * np.maximum(pixels, 1e-30) ** 2
            variance = np.where(np.isnan(background), 0.0, background)
            if plane is not None:
                variance = variance + np.einsum("rc,rc,rc->r", response, response, plane)
            of_flux, of_mean = variance * (self.scale * new) ** 2, variance * (new / total) ** 2
            columns[f"FLUX_VAR_{component}"][i, done] = of_flux[able]
            columns[f"SB_VAR_{component}"][i, done] = of_mean[able]
            sums += of_flux, of_mean
        with np.errstate(invalid="ignore"):  # negative variances give NaN
            columns["FLUX_ERROR"][i, done] = np.sqrt(sums[0][able])
            columns["SB_ERROR"][i, done] = np.sqrt(sums[1][able])
        return int(able.sum()), failed

    @staticmethod
    def _mask(i: int, rows: NDArray[np.intp], columns: Columns) -> int:
        """Mask rows of integration `i` that cannot be corrected, and return their number.

        Rows without any good pixel are not counted, because their flux is NaN anyway.
        """
        columns["DQ"][i, rows] |= np.uint32(DO_NOT_USE)
        columns[QUALITY][i, rows] |= np.uint32(QUALITY_BITS["uncorrected"].value)
        return int((columns["NPIXELS"][i, rows] > NO_PIXELS).sum())

    def _response(
        self, i: int, at: NDArray[np.intp]
    ) -> tuple[Array, Array, Array, Mask, list[Array | None]]:
        """Return the quantities that are needed to correct image rows `at` in integration `i`.

        Returns
        -------
        response : ndarray
            Derivative of the corrected flux with respect to each pixel, shape (row, column).
        light : ndarray
            Flux that a source of unit flux has on the lost pixels, shape (row,).
        flux : ndarray
            Fitted flux, shape (row,).
        able : ndarray of bool
            Mask of the rows that can be corrected, shape (row,).
        variances : list of ndarray or None
            The three variance planes, shape (row, column). A plane is None if the image lacks it.
        """
        model, fitter, stack = self.model, self.model.fitter, self.image.is_stack
        local = at - fitter.cutout.rows.start
        good = fitter.cutout.read(i if stack else None, fitter.columns)[1][local]
        where = (i, at, fitter.columns) if stack else (at, fitter.columns)
        _, variances, present = read_pixels(self.image, lambda plane: np.asarray(plane)[where])
        basis = [field[local] for field in fitter.basis(model.shift(i))]
        weight = good * fitter.inverse[local]
        *integrations, rows, columns = model.rejected
        for n in np.flatnonzero(integrations[0] == i) if stack else range(rows.size):
            weight[at == rows[n], columns[n] - fitter.columns.start] = 0.0
        profile = basis[0]
        aperture = self.weights[at][:, fitter.columns]
        # The box extraction sums all pixels that have a value, even if the fit rejected them.
        light = (aperture * profile * ~present).sum(axis=1)
        power = (profile**2 * (weight > 0)).sum(axis=1) / (profile**2).sum(axis=1)
        weighted = [field * weight for field in basis]
        inverse = inverse_normal(normal(basis, weighted))
        of_fit = np.sum([inverse[:, 0, [n]] * field for n, field in enumerate(weighted)], axis=0)
        response = aperture * present + light[:, np.newaxis] * of_fit
        variances = [None if v is None else np.where(response != 0, v, 0.0) for v in variances]
        flux = model.coefficients_of(i)[local, 0]
        return response, light, flux, power > _MIN_POWER, variances
