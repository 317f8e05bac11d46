"""Actions that set apertures and models from the data, from files or from glue's subsets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from echo import delay_callback

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import LRSError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.reference.reference import remarks
from glue_lrs.reference.schema import KEYS, OPTIONS, STEP
from glue_lrs.viewers.datasets.session_meta import absolute_path
from glue_lrs.viewers.live.messages import joined, panel_text
from glue_lrs.viewers.live.regions import WITH_ARTICLE, operator_with, shared_variable
from glue_lrs.viewers.live.residual import fit_residual, residual_data
from glue_lrs.viewers.live.source_measurement import centred
from glue_lrs.viewers.live.subsets import regions_of_subset

if TYPE_CHECKING:
    from glue.core import Data
    from glue.core.subset import Subset, SubsetState
    from glue.core.subset_group import SubsetGroup

    from glue_lrs.apertures.aperture import Aperture
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.regions import Kind, Region
    from glue_lrs.viewers.live.source_measurement import Measured


def default_operator(image: SlitImage, correction: ApertureCorrection | None) -> Extract1D:
    """Return the operator defined by the built-in EXTRACT1D reference file."""
    with warnings.catch_warnings(action="ignore"):  # the aperture correction may be missing
        return Extract1D.from_reference(None, image.exp_type, apcorr=correction)


class Actions:
    """Actions with which a user changes a live extraction in the viewers.

    Actions that return a bool commit a new `Extract1D` operator (see `Editing.set`), and return
    whether it differs from the old operator.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction on which to act.
    """

    def __init__(self, live: LiveExtraction) -> None:
        self._live = live
        self._nods: tuple[Any, ...] = ()

    # --- from the data ---------------------------------------------------------------------------

    def to_source(self) -> bool:
        """Centre the aperture on the measured source, keeping its width.

        Background regions stay where they are. If no source can be measured, the position from the
        header and the WCS is used. `LiveExtraction.message` reports this, and any disagreement of
        the measured position with the header.
        """
        live = self._live
        if live.closed:
            return False
        regions = live.regions_of(live.extract)
        if not regions:
            live.message = f"the aperture stays where it is: {live.message}"
            return False
        try:
            measured = live.measure()
            notes = measured.notes
            moved = centred(regions, measured.measurement.trace, live.row_wavelength)
        except LRSError as error:
            reason = panel_text(error, live.image)
            expected = expected_position(live.image)
            if not isinstance(expected, SourcePosition):
                live.message = f"the aperture stays where it is: {reason}; {expected}"
                return False
            trace = np.full(live.rows.size, np.nan)
            trace[expected.row] = expected.column
            moved = centred(regions, trace, live.row_wavelength)
            notes = (f"the source could not be measured, the header's position is used: {reason}",)
        return self._set_with_notes(moved, "move the aperture to the source", notes)

    def three_fwhm(self, n: float) -> bool:
        """Make the aperture n times as wide as the measured FWHM, around the source."""
        return self._set_measured(
            lambda measured: measured.measurement.tapered(n), f"make the aperture {n:g} × FWHM"
        )

    def best_width(self) -> bool:
        """Centre an aperture with the width of best signal to noise on the source."""
        return self._set_measured(
            lambda measured: measured.measurement.box(measured.curve.best),
            "make the aperture that of best S/N",
        )

    def _set_measured(self, make: Callable[[Measured], Aperture], label: str) -> bool:
        """Set an aperture made from the measurement; keep row limits and background."""
        live = self._live
        if live.closed:
            return False
        try:
            measured = live.measure()
            aperture = make(measured)
            fixed = live.extract
            regions = live.regions_of(fixed)
            if regions:  # there are none if the position of the default aperture is not known
                fixed = operator_with(fixed, live.image, regions)
            aperture = replace(aperture, ystart=fixed.aperture.ystart, ystop=fixed.aperture.ystop)
            operator = replace(
                fixed,
                aperture=aperture,
                use_source_posn=False,
                reference_source_posn=None,
                position_offset=0.0,
            )
        except LRSError as error:
            reason = panel_text(error, live.image)
            live.message = f"the aperture stays as it is: {reason}"
            return False
        return self._set_with_notes(operator, label, measured.notes)

    def _set_with_notes(
        self, target: Extract1D | Sequence[Region], label: str, notes: Sequence[str]
    ) -> bool:
        """Set an operator or regions, and show notes before the message of the extraction."""
        live = self._live
        changed = live.set(target, label)
        live.message = joined(*notes, live.message)
        return changed

    def residual(self) -> Data | None:
        """Fit the source within the aperture, and show `shown` minus the model.

        The model is that of an optimal extraction with the committed operator; see
        `glue_lrs.extraction.factory.optimal_for`. The residual does not change with later edits,
        and is hidden when another integration is shown.

        Returns
        -------
        Data or None
            `residual_data` of shape (row, column), with the components ``residual`` (data minus
            model in the image's unit), ``sigma`` (residual over its 1-sigma error) and ``rejected``
            (1 in rejected pixels, else 0). None if the extraction is closed.

        Raises
        ------
        LRSError
            If nothing can be fitted. Then the previous residual stays.
        """
        live = self._live
        if live.closed:
            return None
        residual = fit_residual(live.extract, live.shown)
        collection = live.session.data_collection
        live.residual_data = residual_data(collection, live.data, live.shown, residual)
        with delay_callback(live, "residual_limit", "residual_shown", "message"):
            live.residual_limit = residual.limit
            live.residual_shown = True
            live.message = joined("residual: data − model", *residual.notes)
        return live.residual_data

    # --- from files ------------------------------------------------------------------------------

    def default(self) -> bool:
        """Set the operator from the built-in reference file; keep the aperture correction."""
        live = self._live
        operator = default_operator(live.image, live.extract.aperture_correction)
        return live.set(operator, "take the default aperture")

    def load_reference(self, path: str | PathLike[str]) -> bool:
        """Set the aperture and the background from an EXTRACT1D reference file.

        Raises
        ------
        LRSError
            If the file cannot be used.
        """
        live = self._live
        with warnings.catch_warnings(action="ignore"):
            operator = Extract1D.from_reference(
                fspath(path),
                live.image.exp_type,
                apcorr=live.extract.aperture_correction,
                source_type=live.extract.source_type,
            )
        return live.editing.set_or_raise(operator, "load a reference")

    def set_keys(self, **keys: Any) -> bool:
        """Set keys of an EXTRACT1D aperture, step parameters or parameters of `Extract1D`.

        Parameters
        ----------
        **keys
            Overrides, as in `Extract1D.from_reference`, of the committed operator. A key that is
            None is removed.

        Raises
        ------
        LRSError
            If a key or a value is wrong, or nothing can be extracted. Then nothing changes.
        """
        live = self._live
        groups: dict[str, dict[str, Any]] = {
            name: dict(values) for name, values in live.extract.parameters.items()
        }
        for key, value in keys.items():
            step = key in STEP and key not in KEYS
            group = groups["options" if key in OPTIONS else "step" if step else "reference"]
            group[key] = value
            if value is None and not step:
                del group[key]
        operator = Extract1D.from_parameters(
            groups,
            apcorr=live.extract.aperture_correction,
            psf=live.extract.psf,
            references=dict(live.extract.references),
        )
        changed = live.editing.set_or_raise(operator, f"set {', '.join(keys)}")
        found = remarks(groups["reference"])
        notes = [text for level, key, text in found if level == "warning" and key in keys]
        live.message = joined(*notes, live.message)
        return changed

    def load_apcorr(self, path: str | PathLike[str] | None) -> bool:
        """Set the aperture correction from an APCORR reference file, or none.

        Raises
        ------
        LRSError
            If the file cannot be used, or not for this image.
        """
        live = self._live
        correction = None
        if path is not None:
            subarray = live.image.subarray or ""
            correction = ApertureCorrection.read(absolute_path(path), subarray=subarray)
        filename = None if correction is None else correction.filename
        references = dict(live.extract.references) | {"apcorr": filename}
        operator = replace(
            live.extract, aperture_correction=correction, references=tuple(references.items())
        )
        return live.editing.set_or_raise(operator, "change the aperture correction")

    # --- errors ----------------------------------------------------------------------------------

    def set_noise(self, noise: Literal["propagated", "nod", "empirical"]) -> bool:
        """Choose the noise of which the errors are propagated; see `Extract1D`.

        The exposures that were subtracted (``nods``) are kept for the next time that ``"nod"`` is
        chosen, as the other choices do not use them.

        Raises
        ------
        LRSError
            If the noise cannot be derived. Then nothing changes.
        """
        live = self._live
        self._nods = live.extract.nods or self._nods
        nods = self._nods if noise == "nod" else ()
        operator = replace(live.extract, noise=noise, nods=nods)
        return live.editing.set_or_raise(operator, f"take the {noise} errors")

    # --- from glue -------------------------------------------------------------------------------

    def subset_to_region(self, subset: Subset | SubsetGroup | SubsetState, kind: Kind) -> bool:
        """Replace the aperture by a subset of the image, or add the subset to the background.

        Parameters
        ----------
        subset : Subset, SubsetGroup or SubsetState
            Selection of pixels; see `glue_lrs.viewers.live.subsets.regions_of_subset`.
        kind : {"aperture", "background"}
            Whether the subset becomes an aperture or a background region.

        Raises
        ------
        LRSError
            If the subset selects no pixels, or less than one pixel along the slit.
        """
        live = self._live
        regions = live.regions_of(live.extract)
        kept = [one for one in regions if kind == "background" or one.kind != "aperture"]
        variable = shared_variable(kept)
        new = regions_of_subset(subset, live.data, kind, live.row_wavelength, variable)
        target = [*kept, *new] if kind == "background" else [*new, *kept]
        return live.editing.set_or_raise(target, f"make a subset {WITH_ARTICLE[kind]}")
