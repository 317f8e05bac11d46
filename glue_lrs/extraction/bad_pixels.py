"""Bad-pixel correction of a box extraction with a fitted spatial profile."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.apertures.placement import aperture_weights
from glue_lrs.errors import LostPixelsWarning, LRSWarning, Message, warn
from glue_lrs.extraction.base import NO_PIXELS, jansky_per_sum
from glue_lrs.fitting.least_squares import inverse_normal, normal
from glue_lrs.image.pixels import read_pixels
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.columns import COMPONENTS

if TYPE_CHECKING:
    from glue_lrs.apertures.aperture_correction import ApertureCorrection
    from glue_lrs.extraction.box import BoxExtractor
    from glue_lrs.extraction.optimal import OptimalExtractor
    from glue_lrs.extraction.optimal_result import OptimalResult
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction

#: A row is corrected only if its good pixels hold at least this fraction of the sum P^2 over all
#: pixels, where P is the spatial profile.
_MIN_POWER = 0.02


@dataclass(frozen=True, kw_only=True)
class CorrectedBoxExtractor:
    """Box extraction that restores the flux on bad pixels from a fitted profile.

    Parameters
    ----------
    box : BoxExtractor
        Box extraction whose rows are corrected.
    optimal : OptimalExtractor
        Optimal extraction that fits the source's profile P and its flux f in each row.

    Notes
    -----
    With the aperture weights w, the data D and the background B, the flux of a row is
    S = sum_good w (D - B) + L f. Here f = sum k D is the flux from the optimal fit, k is the
    response of f to each pixel, and L = sum_lost w P is the flux that a source of unit flux has on
    the lost pixels. Both terms are sums over the same pixels, so that the variance is
    sum (w + L k)^2 var, not the sum of two variances. Rows whose good pixels hold too little of the
    profile keep their values and get DQ bit 0.
    """

    box: BoxExtractor
    optimal: OptimalExtractor

    def run(self, image: SlitImage) -> Extraction:
        """Extract all columns of the spectrum.

        Parameters
        ----------
        image : SlitImage
            Image or stack of integrations to extract.

        Returns
        -------
        Extraction
            The result of `BoxExtractor.run`, except in rows with lost pixels. There, the flux
            includes the profile's flux on the lost pixels, NPIXELS and the aperture correction are
            the values for the whole aperture, and the errors are larger.

        Raises
        ------
        LRSError
            Under the same conditions as in `BoxExtractor.run` and `OptimalExtractor.fit`.
        """
        issued: set[str] = set()
        with _each_once(issued):
            box = self.box.run(image)
        assert box.aperture_weight is not None
        pixels = np.atleast_2d(box.columns["NPIXELS"])
        lost = pixels < box.aperture_weight - NO_PIXELS
        if not lost.any():
            return box
        with _each_once(issued):
            model = self.optimal.fit(image)
        columns = {name: np.array(np.atleast_2d(values)) for name, values in box.columns.items()}
        correction = _Correction.prepare(self.box, image, model, box)
        corrected = uncorrectable = 0
        for i in np.flatnonzero(lost.any(axis=1)).tolist():
            done, failed = correction.apply(i, np.flatnonzero(lost[i]), columns)
            corrected, uncorrectable = corrected + done, uncorrectable + failed
        if not image.is_stack:
            columns = {name: values[0] for name, values in columns.items()}
        notes = _notes(corrected, uncorrectable, pixels.size)
        for note in notes[1:] if corrected else notes:
            warn(note.about(image.label))
        provenance = box.provenance
        if provenance is not None:
            kept = [m for m in provenance.messages if not isinstance(m, LostPixelsWarning)]
            provenance = provenance.changed(notes=[*kept, *notes])
        return replace(box, columns=columns, provenance=provenance)


def _notes(corrected: int, uncorrectable: int, of: int) -> list[LRSWarning]:
    """Return warnings that count the corrected and the uncorrectable rows among `of` rows."""
    notes = []
    if corrected:
        notes.append(
            LRSWarning(
                f"the flux of bad pixels was restored from the profile in {corrected} of {of} rows"
            )
        )
    if uncorrectable:
        notes.append(
            LRSWarning(
                f"{uncorrectable} of {of} rows have too few good pixels for the profile "
                "correction and are masked"
            )
        )
    return notes


@contextlib.contextmanager
def _each_once(issued: set[str]) -> Iterator[None]:
    """Issue each warning only once, and suppress `LostPixelsWarning`.

    Warnings about lost pixels would be wrong because these pixels are corrected afterwards.
    Warnings whose text is in `issued` are not repeated; new texts are added to it.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        text = str(warning.message)
        if text not in issued and not issubclass(warning.category, LostPixelsWarning):
            issued.add(text)
            message: Message | str = text
            if isinstance(warning.message, LRSWarning):
                message = warning.message
            warnings.warn_explicit(
                message,  # type: ignore[arg-type]
                warning.category,
                warning.filename,
                warning.lineno,
            )


@dataclass(frozen=True, eq=False)
class _Correction:
    """Correction for lost pixels in the rows of one image.

    `rows` are the image rows of the spectrum and `weights` the aperture weights of all pixels of
    the image. `total` is the sum of the weights in each row of the spectrum, including lost pixels,
    and `factor` the aperture correction for this sum. `scale` converts a sum of pixels to a flux.
    """

    image: SlitImage
    model: OptimalResult
    scale: float
    rows: NDArray[np.intp]
    weights: NDArray[np.float64]
    total: NDArray[np.float64]
    wavelength: NDArray[np.float64]
    correction: ApertureCorrection | None
    factor: NDArray[np.float64]
    keep_flags: bool

    @classmethod
    def prepare(
        cls, box: BoxExtractor, image: SlitImage, model: OptimalResult, extraction: Extraction
    ) -> _Correction:
        """Collect the quantities that the corrections of all integrations share."""
        placement = box.placement.place(box.aperture, image)
        weights = aperture_weights(box.aperture, image, placement).full(image.shape)
        weights = weights * np.isfinite(image.wavelength)
        total = extraction.aperture_weight
        assert total is not None
        correction, wave = box.correction_for(image), extraction.wavelength
        return cls(
            image=image,
            model=model,
            scale=jansky_per_sum(image),
            rows=np.flatnonzero(weights.sum(axis=1) > 0),
            weights=weights,
            total=total,
            wavelength=wave,
            correction=correction,
            factor=np.ones(total.shape) if correction is None else correction(wave, total),
            keep_flags=box.max_lost is not None,
        )

    def apply(
        self, i: int, which: NDArray[np.intp], columns: dict[str, NDArray[Any]]
    ) -> tuple[int, int]:
        """Correct rows `which` of integration `i` in place.

        Returns the number of corrected rows and the number of rows that could not be corrected.
        """
        cutout = self.model.fitter.cutout
        at = self.rows[which]
        fitted = (at >= cutout.rows.start) & (at < cutout.rows.stop)
        failed = int((columns["NPIXELS"][i, which[~fitted]] > NO_PIXELS).sum())
        columns["DQ"][i, which[~fitted]] |= np.uint32(DO_NOT_USE)
        which, at = which[fitted], at[fitted]
        spread, light, flux, able, planes = self._spread(i, at)
        pixels = columns["NPIXELS"][i, which].copy()
        factor = np.ones(which.size)
        if self.correction is not None:
            factor = self.correction(self.wavelength[which], pixels)
        total, new = self.total[which], self.factor[which]
        found = columns["FLUX"][i, which] / (self.scale * factor)
        found = np.where(np.isnan(found), 0.0, found) + light * flux
        done = which[able]
        columns["FLUX"][i, done] = (found * self.scale * new)[able]
        columns["SURF_BRIGHT"][i, done] = (found * new / total)[able]
        columns["NPIXELS"][i, done] = total[able]
        if not self.keep_flags:
            columns["DQ"][i, done] &= ~np.uint32(DO_NOT_USE)
        sums = np.zeros((2, which.size))
        for component, plane in zip(COMPONENTS, planes, strict=True):
            background = columns[f"BKGD_VAR_{component}"][i, which] * np.maximum(pixels, 1e-30) ** 2
            variance = np.where(np.isnan(background), 0.0, background)
            if plane is not None:
                variance = variance + np.einsum("rc,rc,rc->r", spread, spread, plane)
            of_flux, of_mean = variance * (self.scale * new) ** 2, variance * (new / total) ** 2
            columns[f"FLUX_VAR_{component}"][i, done] = of_flux[able]
            columns[f"SB_VAR_{component}"][i, done] = of_mean[able]
            sums += of_flux, of_mean
        with np.errstate(invalid="ignore"):  # negative variances give NaN
            columns["FLUX_ERROR"][i, done] = np.sqrt(sums[0][able])
            columns["SB_ERROR"][i, done] = np.sqrt(sums[1][able])
        columns["DQ"][i, which[~able]] |= np.uint32(DO_NOT_USE)
        # Rows without any good pixel are not counted, because their flux is NaN anyway.
        failed += int((~able & (pixels > NO_PIXELS)).sum())
        return int(able.sum()), failed

    def _spread(self, i: int, at: NDArray[np.intp]) -> tuple[Any, ...]:
        """Return the quantities for the correction of image rows `at` in integration `i`.

        These are the response of the corrected flux to each pixel, shape (row, column); the flux
        that a source of unit flux has on lost pixels, shape (row,); the fitted flux, shape (row,);
        the mask of correctable rows, shape (row,); and the three variance planes, each None if the
        image does not have it.
        """
        fitter, model = self.model.fitter, self.model
        local = at - fitter.cutout.rows.start
        integration = i if self.image.is_stack else None
        good = fitter.cutout.read(integration, fitter.columns)[1][local]
        where = (at, fitter.columns) if integration is None else (integration, at, fitter.columns)
        _, planes, present = read_pixels(self.image, lambda plane: np.asarray(plane)[where])
        shift = 0.0 if model.shifts is None else float(model.shifts[i])
        basis = [field[local] for field in fitter.basis(shift)]
        weight = good * fitter.inverse[local]
        for row, column in _rejected(model, i, self.image.is_stack):
            weight[np.flatnonzero(at == row), column - fitter.columns.start] = 0.0
        profile = basis[0]
        aperture = self.weights[at][:, fitter.columns]
        # The box sums all present pixels, including those that the fit rejected.
        light = (aperture * profile * ~present).sum(axis=1)
        power = (profile**2 * (weight > 0)).sum(axis=1) / (profile**2).sum(axis=1)
        coefficients = model.coefficients[i] if self.image.is_stack else model.coefficients
        spread = aperture * present + light[:, np.newaxis] * _response(basis, weight)
        planes = [None if v is None else np.where(spread != 0, v, 0.0) for v in planes]
        return spread, light, coefficients[local, 0], power > _MIN_POWER, planes


def _rejected(model: OptimalResult, integration: int, stack: bool) -> list[tuple[int, int]]:
    """Return (row, column) of each pixel that the fit rejected in an integration."""
    where = model.rejected
    if stack:
        selected = where[0] == integration
        where = (where[1][selected], where[2][selected])
    return list(zip(where[0].tolist(), where[1].tolist(), strict=True))


def _response(basis: list[NDArray[np.float64]], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the response of the first source's fitted flux to each pixel, shape (row, column)."""
    weighted = [field * weight for field in basis]
    inverse = inverse_normal(normal(basis, weighted))
    return np.sum(
        [inverse[:, 0, i, np.newaxis] * field for i, field in enumerate(weighted)], axis=0
    )
