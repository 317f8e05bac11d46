"""Restore a live extraction from a session."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import LRSError
from glue_lrs.extraction.extract1d import Extract1D

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage

__all__ = ["restored_extraction", "without_warnings"]


def restored_extraction(
    stored: dict[str, Any], image: SlitImage, notes: list[str]
) -> Extract1D | None:
    """The operator that a session has kept."""
    if not stored:
        return None
    correction, references = None, dict(stored.get("references") or ())
    try:
        correction = _restored_correction(stored.get("apcorr"), notes)
    except LRSError as error:
        notes.append(f"without the aperture correction: {error}")
        references["apcorr"] = None
    try:
        with without_warnings():
            return Extract1D.from_parameters(
                stored["parameters"], apcorr=correction, references=references
            )
    except (LRSError, KeyError, TypeError, ValueError) as error:
        notes.append(f"the default aperture, as that of the session cannot be used: {error}")
        return None


def _restored_correction(stored: Any, notes: list[str]) -> ApertureCorrection | None:
    if stored is None:
        return None
    numbers = {name: value for name, value in stored.items() if name != "path"}
    path = stored.get("path")
    if "factor" not in numbers:  # of an older session
        return ApertureCorrection.read(path, subarray=stored["subarray"])
    if path is not None and not Path(path).is_file():
        notes.append(f"{path}: is gone; the aperture correction is the one that the session kept")
    return ApertureCorrection(**numbers, filename=path)


# --- small things --------------------------------------------------------------------------------


@contextmanager
def without_warnings() -> Iterator[None]:
    """Without warnings: what they tell is told elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
