"""Noise that an extraction adds to the propagated errors, and the warning if some is missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from glue_lrs.errors import Hint, NoiseError, ReferenceFileError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.reference.schema import IN_MEMORY, OPTIONS
from glue_lrs.spectra.columns import NOD_VARIANCE
from glue_lrs.spectra.findings import Finding, emit
from glue_lrs.uncertainty.added_variance import (
    check_image,
    empirical_variance,
    nod_variance,
)
from glue_lrs.uncertainty.source_free import excess_noise

if TYPE_CHECKING:
    from os import PathLike

    from glue_lrs._utils.typing import Array
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.spectra.extraction import Extraction


@dataclass(frozen=True, eq=False)
class Noise:
    """Image with the variances from which the errors of a spectrum are propagated.

    Parameters
    ----------
    image : SlitImage
        Image to be extracted.
    finding : Finding, optional
        Description of the added variance, for the provenance.
    wavelength, shared : ndarray, optional
        Wavelength of each row of the image in micron, ascending, and the added variance, which
        exposures at the same nod have in common, relative to the resulting read-noise variance of
        the spectrum. The ratio may exceed 1, as the added variance also contains Poisson noise.
    """

    image: SlitImage
    finding: Finding | None = None
    wavelength: Array | None = None
    shared: Array | None = None

    @classmethod
    def for_operator(cls, operator: Extract1D, image: SlitImage) -> Noise:
        """Return the image with the variance that an operator requests added to it.

        Raises
        ------
        NoiseError
            If the variance cannot be derived.
        """
        if operator.noise == "propagated":
            return cls(image)
        check_image(image)
        if operator.noise == "nod" and not (operator.nods or image.is_background_subtracted):
            finding = Finding(
                "unused_option",
                "S_BKDSUB is not COMPLETE: no background was subtracted, and the noise 'nod' adds "
                "nothing",
            )
            emit([finding], image.label)
            return cls(image, finding)
        weights = operator.weights(image, operator.place(image))
        middle = weights.values[len(weights.values) // 2]
        if operator.noise == "nod":
            added = nod_variance(image, middle, [_exposure(one) for one in operator.nods])
        else:
            added = empirical_variance(image, middle)
        finding = Finding("noise_added", f"noise {operator.noise!r}: {added.description}")
        larger = added.added_to(image)
        if operator.noise == "empirical" and not image.is_background_subtracted:
            return cls(larger, finding)
        aperture = weights.full(image.shape)
        ratio = added.relative_to_read_noise(image, aperture)
        known = (aperture > 0) & np.isfinite(image.wavelength)
        rows = np.flatnonzero(known.any(axis=1))
        wave = np.where(known, image.wavelength, 0.0)[rows].sum(axis=1) / known[rows].sum(axis=1)
        order = np.argsort(wave)
        return cls(larger, finding, wave[order], ratio[rows][order])

    def recorded(self, extraction: Extraction) -> Extraction:
        """Return the extraction with the column FLUX_VAR_NOD and the finding, if there are any."""
        if self.finding is None:
            return extraction
        extraction = extraction.with_findings([*extraction.findings, self.finding])
        if self.wavelength is None or self.shared is None:
            return extraction
        part = np.interp(extraction.wavelength, self.wavelength, self.shared)
        columns = extraction.columns | {NOD_VARIANCE: part * extraction.columns["FLUX_VAR_RNOISE"]}
        units = extraction.units | {NOD_VARIANCE: extraction.units["FLUX_VAR_RNOISE"]}
        return replace(extraction, columns=columns, units=units)


def _exposure(given: str | PathLike[str] | SlitImage) -> SlitImage:
    """Return an exposure that was subtracted, which is read if it is given as a path."""
    if isinstance(given, SlitImage):
        return given
    if given == IN_MEMORY:
        raise NoiseError(
            "an exposure in nods was not read from a file, expected the path of a file"
        )
    return SlitImage.read(given)


def with_excess_reported(image: SlitImage, extraction: Extraction) -> Extraction:
    """Warn if the noise of a nod-subtracted image exceeds its errors.

    The finding is recorded in the provenance of the returned extraction.

    Parameters
    ----------
    image : SlitImage
        Image that was extracted with the propagated errors.
    extraction : Extraction
        Result. The noise is that of a sum over as many pixels as its aperture has.
    """
    total = extraction.aperture_weight
    if total is None or total.size == 0:
        return extraction
    width = float(np.sort(total)[total.size // 2])  # faster than np.median
    # Weights of an aperture of this width, whose last pixel is partial.
    weights = np.clip(width - np.arange(np.ceil(width)), 0.0, 1.0)
    finding = excess_noise(image, weights)
    if finding is None:
        return extraction
    emit([finding], image.label)
    return extraction.with_findings([*extraction.findings, finding])


def check_noise_options(operator: Extract1D) -> None:
    """Raise `ReferenceFileError` if the options about noise are invalid or inconsistent."""
    OPTIONS["noise"]("noise", operator.noise)
    OPTIONS["nods"]("nods", operator.nods)
    if operator.nods and operator.noise != "nod":
        raise ReferenceFileError(
            f"noise is {operator.noise!r}, expected 'nod', because nods are given",
            hint=Hint.to("give {}", noise="nod"),
        )


def noise_parameters(operator: Extract1D) -> dict[str, Any]:
    """Return the options about noise as JSON values, without defaults."""
    if operator.noise == "propagated":
        return {}
    found: dict[str, Any] = {"noise": operator.noise}
    if operator.nods:
        paths = (one.path if isinstance(one, SlitImage) else str(one) for one in operator.nods)
        found["nods"] = [path or IN_MEMORY for path in paths]
    return found
