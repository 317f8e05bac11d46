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

#: Key of the state in the ``meta`` of the spectrum's dataset.
META = "glue_lrs"


class Persistence:
    """Writer of the state of a live extraction to the metadata of the spectrum's dataset.

    glue saves these metadata in sessions, from which `restored_state` reads the state.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction whose state is stored.
    """

    def __init__(self, live: LiveExtraction) -> None:
        self._live = live

    def store(self) -> None:
        """Store the operator, the selected integration, the comparison, and the view settings."""
        live = self._live
        live.spectrum_data.meta[META] = {
            "image": live.data.uuid,
            "parameters": live.extract.parameters,
            "references": [list(pair) for pair in live.extract.references],  # keeps the order
            "apcorr": _stored_correction(live.extract.aperture_correction),
            "integration": live.integration,
            "comparison": None if live.compared is None else live.compared.source,
        }
        self.store_view()

    def store_view(self, *_: Any) -> None:
        """Store the view settings, such as the crosshair, which change more often than the rest."""
        live = self._live
        live.spectrum_data.meta[META] |= {
            "rows_averaged": int(live.rows_averaged),
            "cursor_row": float(live.cursor_row),
            "residual": bool(live.residual_shown),
            "wavelength_ranges": [[float(end) for end in one] for one in live.wavelength_ranges],
        }


def spectrum_of(collection: DataCollection, image: Data) -> Data | None:
    """Return the spectrum in a collection that belongs to an earlier extraction of an image."""
    return next((one for one in collection if image_uuid(one) == image.uuid), None)


def image_uuid(data: Any) -> str | None:
    """Return the uuid of the image to which the dataset of a spectrum belongs, or None."""
    stored = getattr(data, "meta", {}).get(META)
    return stored.get("image") if isinstance(stored, dict) else None


def absolute_path(path: str | PathLike[str]) -> Path:
    """Return an absolute path, with ``~`` expanded."""
    return Path(fspath(path)).expanduser().resolve()


@dataclass(frozen=True)
class StoredState:
    """State of a live extraction restored from a session.

    Parameters
    ----------
    operator : Extract1D or None
        Committed operator; None if none is stored or it cannot be restored.
    comparison : Comparison or None
        Spectrum to compare with.
    notes : tuple of str
        One line for each part of the state that cannot be restored.
    integration, rows_averaged, cursor_row, wavelength_ranges, residual_shown
        See `LiveExtraction`. `cursor_row` is None if it is not stored.
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
    """Restore the state of a live extraction from the metadata of its spectrum.

    Parameters
    ----------
    spectrum : Data or None
        Dataset of the spectrum; None gives the default state.
    collection : DataCollection
        Collection in glue that may contain the dataset with which to compare.
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
    """Return the values of an aperture correction, whose file may be moved or changed."""
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
