"""Parts that all extractors share: flux scale, notes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from glue_lrs.errors import LRSWarning, ProductError

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage

__all__ = ["NO_PIXELS", "NO_VARIANCES", "REPORTED_LOSS", "emit_notes", "jansky_per_sum"]

#: Rows that lost more than so many pixels to bad ones are told of, whether or not they are masked.
REPORTED_LOSS = 0.5

#: What is said of an image without them.
NO_VARIANCES = "there are no variances (VAR_POISSON, VAR_RNOISE, VAR_FLAT): the errors are 0"

#: An aperture with less weight than this has no pixel (`numpy.isclose` to 0).
NO_PIXELS = 1e-8

#: MJy to Jy.
_MEGA = 1e6


def emit_notes(image: SlitImage, notes: Sequence[str]) -> None:
    """Warn the caller's caller of all but what was told when a file was read."""
    for note in notes:
        if note != NO_VARIANCES or image.path is None:
            warnings.warn(f"{image.label}: {note}", LRSWarning, stacklevel=3)


def jansky_per_sum(image: SlitImage) -> float:
    """What a sum of pixels is multiplied by to become a flux."""
    if not image.calibrated:
        return 1.0
    if image.pixel_area is None or not image.pixel_area > 0:
        found = "missing" if image.pixel_area is None else f"{image.pixel_area:g}"
        raise ProductError(
            f"{image.label}: PIXAR_SR is {found}, expected a solid angle in sr, as S_PHOTOM says "
            "that the file is photometrically calibrated"
        )
    return image.pixel_area * _MEGA
