"""Size of the aperture correction of an extraction, or the reason why there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.errors import LRSError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction

#: Wavelengths in micron at which the size of the correction is given: the ends of the range that is
#: well calibrated.
_WAVELENGTHS = (5.0, 12.0)

#: Largest distance in micron of a row from these wavelengths.
_NEAR = 0.1


def correction_text(operator: Extract1D, image: SlitImage, extraction: Extraction | None) -> str:
    """Return the size of the aperture correction in one line, or why none was applied.

    Parameters
    ----------
    operator : Extract1D
        Operator of the extraction.
    image : SlitImage
        Image that was extracted.
    extraction : Extraction or None
        Single spectrum; None if the extraction failed.
    """
    point = image.as_source_type(operator.source_type).is_point_source
    table = operator.aperture_correction
    if not operator.apply_apcorr:
        return "no correction: switched off"
    if operator.mode == "pipeline":
        return "no correction: the flux is that of the PSF reference"
    if operator.mode != "box":
        return (
            "flux of the profile, on the scale of the APCORR reference"
            if table is not None
            else "flux of the profile: no APCORR reference to scale it"
        )
    if not point:
        return "no correction: not a point source"
    if operator.correction == "table" and table is None:
        return "no correction: no APCORR reference"
    if extraction is None:
        return ""
    try:
        factor = _factor(operator, image, extraction)
    except LRSError as error:
        return f"no correction: {error.text}"
    scale = "" if table is not None else ", without an APCORR reference"
    return f"flux {_sizes(extraction, factor)}{scale}"


def _factor(operator: Extract1D, image: SlitImage, extraction: Extraction) -> NDArray[np.float64]:
    """Return the factor by which a box extraction was multiplied in each row."""
    wave, pixels = extraction.wavelength, extraction.columns["NPIXELS"]
    if operator.correction == "table":
        assert operator.aperture_correction is not None
        return operator.aperture_correction(wave, pixels)
    plain = (
        replace(operator, correction="table", apply_apcorr=False)
        .run(image, check=False)
        .columns["FLUX"]
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(extraction.columns["FLUX"] / plain)


def _sizes(extraction: Extraction, factor: NDArray[np.float64]) -> str:
    """Return the factor at some wavelengths, or its median if no row is close to them."""
    good = ~extraction.mask & np.isfinite(factor)
    wave = extraction.wavelength
    parts = []
    for at in _WAVELENGTHS:
        near = good & (np.abs(wave - at) < _NEAR)
        if near.any():
            parts.append(f"× {np.median(factor[near]):.3f} at {at:g} µm")
    if not parts:
        return f"× {np.median(factor[good]):.3f}" if good.any() else "× –"
    return ", ".join(parts)
