"""Actions that set apertures and models from the data, from files or from glue's subsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np
from echo import delay_callback

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import LRSError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.viewers.live.editing import with_article
from glue_lrs.viewers.live.messages import joined, panel_text, without_warnings
from glue_lrs.viewers.live.persistence import absolute_path
from glue_lrs.viewers.live.regions import operator_with
from glue_lrs.viewers.live.residual import fit_residual, residual_data
from glue_lrs.viewers.live.source_measurement import centred
from glue_lrs.viewers.live.subsets import regions_of_subset

if TYPE_CHECKING:
    from glue.core import Data

    from glue_lrs.apertures.aperture import Aperture
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.regions import Kind, Region
    from glue_lrs.viewers.live.source_measurement import Measured


def default_operator(image: SlitImage, correction: ApertureCorrection | None) -> Extract1D:
    """Return the `Extract1D` operator defined by the built-in EXTRACT1D reference file."""
    with without_warnings():  # warnings that there is no aperture correction
        return Extract1D.from_reference(None, image.exp_type, apcorr=correction)


class Actions:
    """Actions that a user starts in the viewers; see the methods of `LiveExtraction`.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction on which to act.
    """

    def __init__(self, live: LiveExtraction) -> None:
        self._live = live

    # --- from the data ---------------------------------------------------------------------------

    def to_source(self) -> bool:
        """Centre the aperture on the measured source, or else on the position from the header."""
        live = self._live
        if live.closed:
            return False
        regions = live.regions_of(live.extract)
        if not regions:
            live.message = f"the aperture stays where it is: {live.message}"
            return False
        try:
            measured = live.measure()
            notes = list(measured.notes)
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
            notes = [f"the source could not be measured, the header's position is used: {reason}"]
        return self._set_with_notes(moved, "move the aperture to the source", notes)

    def three_fwhm(self, n: float) -> bool:
        """Make the aperture n times as wide as the measured FWHM."""
        return self._set_measured(
            lambda measured: measured.measurement.tapered(n), f"make the aperture {n:g} × FWHM"
        )

    def best_width(self) -> bool:
        """Give the aperture the width with the best signal to noise."""
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
        changed = self._live.set(target, label)
        self._live.message = joined(*notes, self._live.message)
        return changed

    def residual(self) -> Data | None:
        """Fit the source, and show the data minus the model."""
        live = self._live
        if live.closed:
            return None
        residual = fit_residual(live.extract, live.shown)
        live.residual_data = residual_data(
            live.session.data_collection, live.data, live.shown, residual
        )
        with delay_callback(live, "residual_limit", "residual_shown", "message"):
            live.residual_limit = residual.limit
            live.residual_shown = True
            live.message = joined("residual: data − model", *residual.notes)
        return live.residual_data

    # --- from files ------------------------------------------------------------------------------

    def default(self) -> bool:
        """Set the operator defined by the built-in reference file; keep the aperture correction."""
        live = self._live
        correction = live.extract.aperture_correction
        return live.set(default_operator(live.image, correction), "take the default aperture")

    def load_reference(self, path: str | PathLike[str]) -> bool:
        """Set the aperture and background from an EXTRACT1D reference file."""
        live = self._live
        with without_warnings():
            operator = Extract1D.from_reference(
                fspath(path), live.image.exp_type, apcorr=live.extract.aperture_correction
            )
        return live.editing.set_or_raise(operator, "load a reference")

    def load_apcorr(self, path: str | PathLike[str] | None) -> bool:
        """Set the aperture correction from an APCORR reference file, or none."""
        live = self._live
        correction = None
        if path is not None:
            correction = ApertureCorrection.read(
                str(absolute_path(path)), subarray=live.image.subarray or ""
            )
        filename = None if correction is None else correction.filename
        references = dict(live.extract.references) | {"apcorr": filename}
        operator = replace(
            live.extract, aperture_correction=correction, references=tuple(references.items())
        )
        return live.editing.set_or_raise(operator, "change the aperture correction")

    # --- from glue -------------------------------------------------------------------------------

    def subset_to_region(self, subset: Any, kind: Kind) -> bool:
        """Replace the aperture by a subset, or add a subset to the background regions."""
        live = self._live
        regions = live.regions_of(live.extract)
        kept = [one for one in regions if kind == "background" or one.kind != "aperture"]
        variable = next((one.variable for one in kept if not one.straight), None)
        new = regions_of_subset(subset, live.data, kind, live.row_wavelength, variable)
        target = [*kept, *new] if kind == "background" else [*new, *kept]
        return live.editing.set_or_raise(target, f"make a subset {with_article(kind)}")
