"""Summaries of spectra: signal-to-noise ratio, and the text of a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.display import described, joined, rounded, span_text

if TYPE_CHECKING:
    from glue_lrs.spectra.extraction import Extraction


def signal_to_noise(extraction: Extraction) -> float | None:
    """Return the median ratio of flux to error, or None if no row has a usable flux and error."""
    flux, error = extraction.columns["FLUX"], extraction.columns.get("FLUX_ERROR")
    return None if error is None else median_ratio(flux, error, extraction.mask)


def median_ratio(flux: NDArray[Any], error: NDArray[Any], mask: NDArray[np.bool_]) -> float | None:
    """Return the median ratio of flux to error, or None if no value and error is usable."""
    good = ~mask & (error > 0)
    return float(np.median(flux[good] / error[good])) if good.any() else None


def exposure_text(header: Mapping[str, Any]) -> str:
    """Return target and EXP_TYPE from a primary header."""
    return joined(*(str(header.get(key, "") or "").strip() for key in ("TARGNAME", "EXP_TYPE")))


def noise_text(ratio: float | None) -> str | None:
    """Return a median S/N as text, or None if it is unknown."""
    return None if ratio is None else f"median S/N {rounded(ratio)}"


def extraction_text(extraction: Extraction) -> str:
    """Return the text of an extraction: target, size, aperture, S/N, findings and file."""
    shape = extraction.columns["FLUX"].shape
    size = f"{shape[0]} integrations, " if extraction.is_stack else ""
    masked = int(extraction.mask.sum())
    kinds = {one.kind: one.severity for one in extraction.findings if one.severity != "info"}
    found = joined(*(f"{kind} ({severity})" for kind, severity in kinds.items()))
    noise = noise_text(signal_to_noise(extraction))
    if noise and "background_left" in kinds:
        noise += " (sky included)"
    return described(
        extraction,
        exposure_text(extraction.header) or "spectrum",
        joined(
            f"{size}{shape[-1]} wavelengths, {span_text(extraction.wavelength, 'um')}",
            f"{masked} masked" if masked else None,
        ),
        joined(
            _aperture_text(extraction.keywords),
            noise,
            f"flux in {extraction.units['FLUX']}" if "FLUX" in extraction.units else None,
        ),
        f"findings: {found}" if found else None,
        extraction.filename,
    )


def _aperture_text(keywords: Mapping[str, Any]) -> str | None:
    """Return the columns of the aperture from the header cards, which count pixels from 1."""
    cards = [keywords.get(key) for key in ("EXTRXSTR", "EXTRXSTP")]
    if any(isinstance(card, bool) or not isinstance(card, int | float) for card in cards):
        return None
    return "aperture columns {:.2f} to {:.2f}".format(*(card - 1 for card in cards))  # type: ignore[operator]
