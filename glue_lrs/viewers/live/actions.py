"""Actions that set apertures and models from the data, from files or from glue's subsets."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from echo import delay_callback

from glue_lrs._utils.validation import one_of
from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import LRSError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.measurement.background_regions import place_background
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.reference.reference import remarks
from glue_lrs.reference.schema import KEYS, OPTIONS, STEP
from glue_lrs.viewers.datasets.session_meta import absolute_path
from glue_lrs.viewers.live.messages import panel_text
from glue_lrs.viewers.live.regions import (
    WITH_ARTICLE,
    Region,
    operator_with,
    shared_variable,
)
from glue_lrs.viewers.live.residual import fit_residual, residual_data
from glue_lrs.viewers.live.source_measurement import centred
from glue_lrs.viewers.live.subsets import regions_of_subset
from glue_lrs.viewers.live.tooltips import CORRECTIONS, METHODS

if TYPE_CHECKING:
    from types import EllipsisType

    from glue.core import Data
    from glue.core.subset import Subset, SubsetState
    from glue.core.subset_group import SubsetGroup

    from glue_lrs.apertures.aperture import Aperture
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.regions import Kind
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
        self._nods: Sequence[str | PathLike[str] | SlitImage] = ()

    # --- from the data ---------------------------------------------------------------------------

    def to_source(self) -> bool:
        """Centre the aperture on the measured source, keeping its width.

        Background regions stay where they are. If no source can be measured, the position from the
        header and the WCS is used. A notice reports this, and any disagreement of the measured
        position with the header.
        """
        live = self._live
        if live.closed:
            return False
        regions = live.regions_of(live.extract)
        if not regions:
            live.notify(f"the aperture stays where it is: {live.message}", "error")
            return False
        try:
            measured = live.measure()
            notes = measured.notes
            moved = centred(regions, measured.measurement.trace, live.row_wavelength)
        except LRSError as error:
            reason = panel_text(error, live.image)
            expected = expected_position(live.image)
            if not isinstance(expected, SourcePosition):
                live.notify(f"the aperture stays where it is: {reason}; {expected}", "error")
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
            live.notify(f"the aperture stays as it is: {reason}", "error")
            return False
        return self._set_with_notes(operator, label, measured.notes)

    def _set_with_notes(
        self, target: Extract1D | Sequence[Region], label: str, notes: Sequence[str]
    ) -> bool:
        """Set an operator or regions, and report notes."""
        changed = self._live.set(target, label)
        for note in notes:
            self._live.notify(note)
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
        with delay_callback(live, "residual_limit", "residual_shown"):
            live.residual_limit = residual.limit
            live.residual_shown = True
        live.notify("residual: data − model", "info")
        for note in residual.notes:
            live.notify(note)
        return live.residual_data

    def add_background(self) -> bool:
        """Place background regions beside the source; see `place_background`.

        They are clear of all traces that `measure` finds, also negative ones. Regions that exist
        already stay, and those that would overlap them are not added. Notices say where the regions
        are, or why there are none.
        """
        live = self._live
        if live.closed:
            return False
        try:
            existing = live.regions_of(live.extract)
            fixed = operator_with(live.extract, live.image, existing)
            placed = place_background(live.image, replace(fixed, background=None))
        except LRSError as error:
            reason = panel_text(error, live.image)
            live.notify(f"no background region was added: {reason}", "error")
            return False
        row = int(np.clip(round(live.cursor_row), 0, live.rows.size - 1))
        at = live.rows[row], live.row_wavelength[row]
        edges = iter(placed.bkg_coeff)
        new = [
            Region("background", tuple(lower), tuple(upper), placed.independent_var)
            for lower, upper in zip(edges, edges, strict=True)
        ]
        old = [region.at(*at) for region in existing if region.kind == "background"]
        free = [
            region
            for region in new
            if all(region.at(*at)[0] >= high or region.at(*at)[1] <= low for low, high in old)
        ]
        where = " and ".join("columns {:.1f} to {:.1f}".format(*one.at(*at)) for one in free)
        if not free:
            live.notify("no background region was added: the clear columns have regions", "error")
            return False
        operator = fixed
        if operator.subtract_background is False:
            operator = replace(operator, subtract_background=None)
        target = operator_with(
            operator, live.image, [*existing, *free], live.last_background or placed
        )
        changed = live.set(target, "add background regions")
        if changed:
            live.selected = len(live.regions) - 1
            live.notify(f"background at {where} in row {row}, clear of measured traces", "info")
        return changed

    # --- settings --------------------------------------------------------------------------------

    def set_method(self, method: str) -> bool:
        """Set the method of extraction.

        Parameters
        ----------
        method : {"box", "learned", "psf", "pipeline"}
            Sum over the aperture, or mode of the optimal extraction (`Extract1D.optimal_mode`).
            Options that only a box extraction has are reset for an optimal one.

        Raises
        ------
        LRSError
            If the method is not known, needs a PSF reference, or fails. Then nothing changes.
        """
        live = self._live
        one_of(*(name for name, _ in METHODS))("method", method)
        if method == "box":
            operator = replace(live.extract, extraction_type="box", optimal_mode=None)
        else:
            operator = replace(
                live.extract,
                extraction_type="optimal",
                optimal_mode=method,  # type: ignore[arg-type]
                correction="table",
                bad_pixels=None,
            )
        return live.editing.set_or_raise(operator, "change the method of extraction")

    def set_correction(self, correction: str) -> bool:
        """Set the aperture correction.

        Parameters
        ----------
        correction : {"table", "profile", "none"}
            Correction by the APCORR table or by the profile of the source, or none.

        Raises
        ------
        LRSError
            If it is not known, or the profile cannot be fitted. Then nothing changes.
        """
        live = self._live
        one_of(*(name for name, _ in CORRECTIONS))("correction", correction)
        operator = replace(live.extract, apply_apcorr=correction != "none")
        if correction != "none":
            operator = replace(operator, correction=correction)  # type: ignore[arg-type]
        return live.editing.set_or_raise(operator, "change the aperture correction")

    def set_time_outliers(self, treatment: str) -> bool:
        """Set the treatment of outliers along time in a stack: "keep", "lost" or "replace".

        Raises
        ------
        LRSError
            If it is not known. Then nothing changes.
        """
        operator = replace(self._live.extract, time_outliers=treatment)  # type: ignore[arg-type]
        return self._live.editing.set_or_raise(operator, "treat outliers along time")

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

    def set_keys(
        self,
        *,
        apcorr: str | PathLike[str] | ApertureCorrection | EllipsisType | None = ...,
        **keys: Any,
    ) -> bool:
        """Set keys of an EXTRACT1D aperture, step parameters or parameters of `Extract1D`.

        Parameters
        ----------
        apcorr : str, path-like, ApertureCorrection or None, optional
            Aperture correction, or its file; None removes it.
        **keys
            Overrides, as in `Extract1D.from_reference`, of the committed operator. A key that is
            None is removed.

        Raises
        ------
        LRSError
            If a key, a value or the file is wrong, or nothing can be extracted. Then nothing
            changes.
        """
        live = self._live
        correction, references = live.extract.aperture_correction, dict(live.extract.references)
        if apcorr is not ...:
            correction = self._correction(apcorr)
            references["apcorr"] = None if correction is None else correction.filename
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
            groups, apcorr=correction, psf=live.extract.psf, references=references
        )
        names = [*keys, *(["apcorr"] if apcorr is not ... else [])]
        changed = live.editing.set_or_raise(operator, f"set {', '.join(names)}")
        found = remarks(groups["reference"])
        notes = [text for level, key, text in found if level == "warning" and key in keys]
        for note in notes:
            live.notify(note)
        return changed

    def load_apcorr(self, path: str | PathLike[str] | None) -> bool:
        """Set the aperture correction from an APCORR reference file, or none.

        Raises
        ------
        LRSError
            If the file cannot be used, or not for this image.
        """
        live = self._live
        correction = self._correction(path)
        filename = None if correction is None else correction.filename
        references = dict(live.extract.references) | {"apcorr": filename}
        operator = replace(
            live.extract, aperture_correction=correction, references=tuple(references.items())
        )
        return live.editing.set_or_raise(operator, "change the aperture correction")

    def load_psf(self, path: str | PathLike[str] | None) -> bool:
        """Set the profile from a PSF reference file, or none.

        It is used by the methods "psf" and "pipeline", and by the correction "profile". Without it,
        these methods are replaced by "learned".

        Raises
        ------
        LRSError
            If the file cannot be used. Then nothing changes.
        """
        live = self._live
        psf = None
        if path is not None:
            psf = PSFProfile.read(absolute_path(path), live.image.slit_name)
        references = dict(live.extract.references)
        references["psf"] = None if psf is None else psf.filename
        mode = live.extract.optimal_mode
        if psf is None and mode in ("psf", "pipeline"):
            mode = "learned"
        operator = replace(
            live.extract, psf=psf, optimal_mode=mode, references=tuple(references.items())
        )
        return live.editing.set_or_raise(operator, "change the PSF reference")

    def _correction(
        self, source: str | PathLike[str] | ApertureCorrection | None
    ) -> ApertureCorrection | None:
        """Return an aperture correction; a file has a row for the SUBARRAY of the image."""
        if source is None or isinstance(source, ApertureCorrection):
            return source
        subarray = self._live.image.subarray or ""
        return ApertureCorrection.read(absolute_path(source), subarray=subarray)

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
