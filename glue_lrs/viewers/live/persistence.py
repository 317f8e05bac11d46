"""Persistence: the state of a live extraction in the metadata of its spectrum, for sessions."""

from __future__ import annotations

import warnings
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from glue.core import Data, DataCollection

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import LRSError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.viewers.datasets.session_meta import RESIDUAL_KEY, absolute_path
from glue_lrs.viewers.live.comparison import comparison_of
from glue_lrs.viewers.live.links import STATE_KEY, derived_data

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.viewers.live.comparison import Comparison
    from glue_lrs.viewers.live.live_extraction import LiveExtraction


class Persistence:
    """Storage of the state of a live extraction in the metadata of the spectrum's dataset.

    glue saves these metadata in sessions.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction whose state is stored and restored.
    """

    def __init__(self, live: LiveExtraction) -> None:
        self._live = live

    def store(self) -> None:
        """Store the state of the extraction and the view in the metadata of the spectrum."""
        live = self._live
        live.spectrum_data.meta[STATE_KEY] = {
            "image": live.data.uuid,
            **_stored_operator(live.extract),
            "setups": {one.name: _stored_operator(one.operator) for one in live.arrangement.others},
            "active": live.active,
            "integration": live.integration,
            "comparison": None if live.compared is None else live.compared.source,
        }
        self.store_view()

    def store_view(self, *_: object) -> None:
        """Store the view settings, such as the crosshair, which change more often than the rest."""
        live = self._live
        live.spectrum_data.meta[STATE_KEY] |= {
            "rows_averaged": int(live.rows_averaged),
            "cursor_row": float(live.cursor_row),
            "residual": bool(live.residual_shown),
            "wavelength_ranges": [[float(end) for end in one] for one in live.wavelength_ranges],
        }

    def restore(self, spectrum: Data | None) -> tuple[Extract1D | None, list[str]]:
        """Restore the state from the metadata of a spectrum, or set the default state.

        Returns
        -------
        operator : Extract1D or None
            The committed operator; None if none is stored or it cannot be restored.
        notes : list of str
            One line for each part of the state that cannot be restored.
        """
        live = self._live
        stored = {} if spectrum is None else dict(spectrum.meta[STATE_KEY])
        notes: list[str] = []
        operator = _restored_operator(stored, live.image, notes) if stored else None
        collection = live.session.data_collection
        compared = stored.get("comparison") or {}
        if "setup" not in compared:  # a setup is compared when it has been restored
            live.compared = _restored_comparison(compared, collection, notes)
        integration = stored.get("integration", 0)
        valid = integration is None or isinstance(integration, int)
        live.integration = integration if valid else 0
        live.rows_averaged = int(stored.get("rows_averaged", 11))
        row = stored.get("cursor_row")
        if row is None:
            known = np.flatnonzero(np.isfinite(live.row_wavelength))
            row = known[known.size // 2] if known.size else live.rows.size // 2
        live.cursor_row = float(row)
        ranges = stored.get("wavelength_ranges", ())
        live.selection.set_ranges(tuple((float(low), float(high)) for low, high in ranges))
        live.residual_data = derived_data(collection, live.data, RESIDUAL_KEY)
        if live.residual_data is not None:
            live.residual_limit = float(live.residual_data.meta[RESIDUAL_KEY].get("limit", 1.0))
            live.residual_shown = bool(stored.get("residual", False))
        return operator, notes

    def restore_setups(self, spectrum: Data | None) -> None:
        """Set the setups to those in the metadata of a spectrum, or to one.

        Setups that cannot be restored are left out, with a notice.
        """
        live = self._live
        stored = {} if spectrum is None else spectrum.meta[STATE_KEY]
        found = {}
        for name, values in dict(stored.get("setups") or {}).items():
            notes: list[str] = []
            operator = _restored_operator(values, live.image, notes)
            if operator is not None:
                found[name] = operator
            for note in notes:
                live.notify(f"setup {name}: {note}")
        active = str(stored.get("active", "A"))
        live.arrangement.start({**found, active: live.extract}, active)
        compared = stored.get("comparison") or {}
        if "setup" in compared:
            with suppress(LRSError):  # the setup could not be restored, which a notice says
                live.compared = live.arrangement.comparison(compared["setup"])


def _stored_operator(operator: Extract1D) -> dict[str, Any]:
    """Return the parameters and the references of an operator as values for JSON."""
    return {
        "parameters": operator.parameters,
        "references": [list(pair) for pair in operator.references],  # keeps the order
        "apcorr": _stored_correction(operator.aperture_correction),
        "psf": None if operator.psf is None else _stored_psf(operator.psf),
    }


def _restored_operator(
    stored: dict[str, Any], image: SlitImage, notes: list[str]
) -> Extract1D | None:
    stored = deepcopy(stored)
    correction, references = None, dict(stored.get("references") or ())
    psf = _restored_psf(stored, references, notes)
    try:
        correction = _restored_correction(stored.get("apcorr"), notes)
    except LRSError as error:
        notes.append(f"without the aperture correction: {error}")
        references["apcorr"] = None
    try:
        with warnings.catch_warnings(action="ignore"):
            return Extract1D.from_parameters(
                stored["parameters"], apcorr=correction, psf=psf, references=references
            )
    except (LRSError, KeyError, TypeError, ValueError) as error:
        notes.append(f"the default aperture is used, as that of the session is invalid: {error}")
        return None


def _stored_psf(psf: PSFProfile) -> dict[str, str | None]:
    """Return the file and the name of a profile, whose table is too large for a session."""
    return {
        "path": None if psf.filename is None else absolute_path(psf.filename),
        "name": psf.name,
    }


def _restored_psf(
    stored: dict[str, Any], references: dict[str, str | None], notes: list[str]
) -> PSFProfile | None:
    """Read a profile; if this fails, replace it in `stored` by a profile that is fitted."""
    where = stored.get("psf")
    if where is None:
        return None
    try:
        if where["path"] is None:
            raise LRSError("the PSF reference was not read from a file")
        return PSFProfile.read(where["path"], where["name"])
    except (LRSError, KeyError, TypeError) as error:
        notes.append(f"a fitted profile replaces the PSF reference: {error}")
        references["psf"] = None
        options = stored.get("parameters", {}).get("options", {})
        if options.get("optimal_mode") in ("psf", "pipeline"):
            options["optimal_mode"] = "learned"
        options.pop("psf_name", None)
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
    if correction.error is not None:
        arrays["error"] = correction.error.tolist()
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
