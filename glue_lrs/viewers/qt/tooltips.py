"""Tool tips that both the panel and the tools of the image viewer use."""

from __future__ import annotations

TO_SOURCE_HINT = (
    "Move the aperture, as wide as it is, to where the source is measured (or to the header's "
    "position, where there is nothing to measure)"
)

THREE_FWHM_HINT = "An aperture about the source, 3 times as wide as its FWHM at each wavelength"

BEST_WIDTH_HINT = "An aperture about the source, of the width that has the best signal to noise"

RESIDUAL_HINT = (
    "Show the data less the model of an optimal extraction, as a layer of the image. It stays as "
    "it is when the aperture changes: switch it off and on to fit again. Rejected pixels are 1 in "
    "its component 'rejected'"
)
