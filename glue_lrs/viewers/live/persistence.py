"""Persistence: the state of a live extraction in the metadata of its spectrum, for sessions."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from glue.core import Data, DataCollection

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import LRSError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.viewers.datasets.session_meta import RESIDUAL_KEY, absolute_path
from glue_lrs.viewers.live.comparison import comparison_of
from glue_lrs.viewers.live.links import STATE_KEY, derived_data
from glue_lrs.viewers.live.state import LiveState

if TYPE_CHECKING:
    from glue_lrs.viewers.live.comparison import Comparison


class Persistence(LiveState):
    """Storage of the state of a live extraction in the metadata of the spectrum's dataset.

    glue saves these metadata in sessions.
    """

    def _store(self) -> None:
        """Store the operator, the selected integration, the comparison, and the view settings."""
        self.spectrum_data.meta[STATE_KEY] = {
            "image": self.data.uuid,
            "parameters": self._extract.parameters,
            "references": [list(pair) for pair in self._extract.references],  # keeps the order
            "apcorr": _stored_correction(self._extract.aperture_correction),
            "integration": self.integration,
            "comparison": None if self.compared is None else self.compared.source,
        }
        self._store_view()

    def _store_view(self, *_: object) -> None:
        """Store the view settings, such as the crosshair, which change more often than the rest."""
        self.spectrum_data.meta[STATE_KEY] |= {
            "rows_averaged": int(self.rows_averaged),
            "cursor_row": float(self.cursor_row),
            "residual": bool(self.residual_shown),
            "wavelength_ranges": [[float(end) for end in one] for one in self.wavelength_ranges],
        }

    def _restore(self, spectrum: Data | None) -> list[str]:
        """Restore the state from the metadata of a spectrum, or set the default state.

        The wavelength range that encloses `wavelength_ranges` is not set.

        Returns
        -------
        list of str
            One line for each part of the state that cannot be restored.
        """
        stored = {} if spectrum is None else dict(spectrum.meta[STATE_KEY])
        notes: list[str] = []
        operator = _restored_operator(stored, notes) if stored else None
        self._extract = operator or self._default_operator(None)
        collection = self.session.data_collection
        self.compared = _restored_comparison(stored.get("comparison"), collection, notes)
        integration = stored.get("integration", 0)
        valid = integration is None or isinstance(integration, int)
        self.integration = self._valid_integration(integration if valid else 0)
        self.rows_averaged = int(stored.get("rows_averaged", 11))
        row = stored.get("cursor_row")
        if row is None:
            known = np.flatnonzero(np.isfinite(self.row_wavelength))
            row = known[known.size // 2] if known.size else self.rows.size // 2
        self.cursor_row = float(row)
        ranges = stored.get("wavelength_ranges", ())
        self.wavelength_ranges = tuple((float(low), float(high)) for low, high in ranges)
        self.residual_data = derived_data(collection, self.data, RESIDUAL_KEY)
        if self.residual_data is not None:
            self.residual_limit = float(self.residual_data.meta[RESIDUAL_KEY].get("limit", 1.0))
            self.residual_shown = bool(stored.get("residual", False))
        return notes

    def _default_operator(self, correction: ApertureCorrection | None) -> Extract1D:
        """Return the operator defined by the built-in EXTRACT1D reference file."""
        with warnings.catch_warnings(action="ignore"):  # the aperture correction may be missing
            return Extract1D.from_reference(None, self.image.exp_type, apcorr=correction)

    def _valid_integration(self, number: int | None) -> int | None:
        """Return the nearest valid integration number; None for the median or a single image."""
        if number is None or not self.image.is_stack:
            return None
        return int(np.clip(int(number), 0, self.image.data.shape[0] - 1))


def _restored_operator(stored: dict[str, Any], notes: list[str]) -> Extract1D | None:
    correction, references = None, dict(stored.get("references") or ())
    try:
        correction = _restored_correction(stored.get("apcorr"), notes)
    except LRSError as error:
        notes.append(f"without the aperture correction: {error}")
        references["apcorr"] = None
    try:
        with warnings.catch_warnings(action="ignore"):
            return Extract1D.from_parameters(
                stored["parameters"], apcorr=correction, references=references
            )
    except (LRSError, KeyError, TypeError, ValueError) as error:
        notes.append(f"the default aperture is used, as that of the session is invalid: {error}")
        return None


def _restored_comparison(
    stored: dict[str, str] | None, collection: DataCollection, notes: list[str]
) -> Comparison | None:
    stored = stored or {}
    datasets = {data.uuid: data for data in collection}
    source = stored.get("path", datasets.get(stored.get("uuid")))
    if source is None:  # there is no comparison, or its dataset is no longer in the collection
        return None
    try:
        return comparison_of(source)
    except LRSError as error:
        notes.append(f"without the comparison: {error}")
        return None


def _stored_correction(correction: ApertureCorrection | None) -> dict[str, object] | None:
    """Return the values of an aperture correction, whose file may be moved or changed."""
    if correction is None:
        return None
    names = ("wavelength", "size", "factor")
    path = {} if correction.filename is None else {"path": absolute_path(correction.filename)}
    arrays = {name: getattr(correction, name).tolist() for name in names}
    return {**arrays, "subarray": correction.subarray, **path}


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
