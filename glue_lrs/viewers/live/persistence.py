"""Persistence: the state of a live extraction in the metadata of its spectrum, for sessions."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glue.core import Data, DataCollection

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import LRSError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.viewers.live.comparison import comparison_of
from glue_lrs.viewers.live.messages import without_warnings

if TYPE_CHECKING:
    from glue_lrs.viewers.live.comparison import Comparison
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.subsets import Ranges

__all__ = [
    "META",
    "Persistence",
    "StoredState",
    "absolute_path",
    "image_uuid",
    "restored_state",
    "spectrum_of",
]

#: Key of the state in the ``meta`` of a spectrum's dataset.
META = "glue_lrs"


class Persistence:
    """Stores the state of a live extraction where a session saves it.

    Parameters
    ----------
    live : LiveExtraction
        The extraction.
    """

    def __init__(self, live: LiveExtraction) -> None:
        self._live = live

    def store(self) -> None:
        """Store the operator, what is shown, and the settings of the view."""
        live = self._live
        live.spectrum_data.meta[META] = {
            "image": live.data.uuid,
            "parameters": live.extract.parameters,
            "references": [list(pair) for pair in live.extract.references],  # keeps their order
            "apcorr": _stored_correction(live.extract.aperture_correction),
            "integration": live.integration,
            "comparison": None if live.compared is None else live.compared.source,
        }
        self.store_view()

    def store_view(self, *_: Any) -> None:
        """Store the settings of the view, which change often."""
        live = self._live
        live.spectrum_data.meta[META] |= {
            "rows_averaged": int(live.rows_averaged),
            "cursor_row": float(live.cursor_row),
            "residual": bool(live.residual_shown),
            "wavelength_ranges": [[float(end) for end in one] for one in live.wavelength_ranges],
        }


def spectrum_of(collection: DataCollection, image: Data) -> Data | None:
    """Return the spectrum that an earlier extraction of an image has left in a collection."""
    return next((one for one in collection if image_uuid(one) == image.uuid), None)


def image_uuid(data: Any) -> str | None:
    """Return the uuid of the image that the dataset of a spectrum belongs to, if any."""
    stored = getattr(data, "meta", {}).get(META)
    return stored.get("image") if isinstance(stored, dict) else None


def absolute_path(path: str | PathLike[str]) -> Path:
    """Return an absolute path, with ``~`` expanded."""
    return Path(fspath(path)).expanduser().resolve()


@dataclass(frozen=True)
class StoredState:
    """The state of a live extraction as a session has stored it.

    Parameters
    ----------
    operator : Extract1D or None
        The committed operator; None if there is none, or it cannot be restored.
    comparison : Comparison or None
        The spectrum to compare with.
    notes : tuple of str
        A line for each part that cannot be restored.
    integration, rows_averaged, cursor_row, wavelength_ranges, residual_shown
        See `LiveExtraction`; `cursor_row` is None if it is not known.
    """

    operator: Extract1D | None
    comparison: Comparison | None
    notes: tuple[str, ...]
    integration: int | None
    rows_averaged: int
    cursor_row: float | None
    wavelength_ranges: Ranges
    residual_shown: bool


def restored_state(spectrum: Data | None, collection: DataCollection) -> StoredState:
    """Restore the state from the metadata of a spectrum.

    Parameters
    ----------
    spectrum : Data or None
        The dataset of the spectrum; None gives the defaults.
    collection : DataCollection
        Glue's collection, where a dataset to compare with is looked up.
    """
    stored = {} if spectrum is None else dict(spectrum.meta[META])
    notes: list[str] = []
    operator = _restored_operator(stored, notes) if stored else None
    comparison = _restored_comparison(stored.get("comparison"), collection, notes)
    integration = stored.get("integration", 0)
    row = stored.get("cursor_row")
    ranges = stored.get("wavelength_ranges", ())
    return StoredState(
        operator=operator,
        comparison=comparison,
        notes=tuple(notes),
        integration=integration if integration is None or isinstance(integration, int) else 0,
        rows_averaged=int(stored.get("rows_averaged", 11)),
        cursor_row=None if row is None else float(row),
        wavelength_ranges=tuple((float(low), float(high)) for low, high in ranges),
        residual_shown=bool(stored.get("residual", False)),
    )


def _restored_operator(stored: dict[str, Any], notes: list[str]) -> Extract1D | None:
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
        notes.append(f"the default aperture is used, as that of the session is invalid: {error}")
        return None


def _restored_comparison(
    stored: dict[str, str] | None, collection: DataCollection, notes: list[str]
) -> Comparison | None:
    if not stored:
        return None
    source: str | Data | None = stored.get("path")
    if source is None:
        source = next((data for data in collection if data.uuid == stored.get("uuid")), None)
    if source is None:  # the dataset is no longer in the collection
        return None
    try:
        return comparison_of(source)
    except LRSError as error:
        notes.append(f"without the comparison: {error}")
        return None


def _stored_correction(correction: ApertureCorrection | None) -> dict[str, Any] | None:
    """An aperture correction with its values, as its file may be moved or changed."""
    if correction is None:
        return None
    stored: dict[str, Any] = {
        name: getattr(correction, name).tolist() for name in ("wavelength", "size", "factor")
    }
    stored["subarray"] = correction.subarray
    if correction.filename is not None:
        stored["path"] = str(absolute_path(correction.filename))
    return stored


def _restored_correction(
    stored: dict[str, Any] | None, notes: list[str]
) -> ApertureCorrection | None:
    if stored is None:
        return None
    values = {name: value for name, value in stored.items() if name != "path"}
    path = stored.get("path")
    if path is not None and not Path(path).is_file():
        notes.append(
            f"{path}: no longer exists; the aperture correction that the session contains is used"
        )
    return ApertureCorrection(**values, filename=path)
