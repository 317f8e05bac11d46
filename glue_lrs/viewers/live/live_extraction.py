"""LiveExtraction: an image in glue, the operator that hands have set, and its spectrum."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.units import UnitConversionError
from echo import CallbackProperty, HasCallbackProperties, delay_callback
from glue.core import Data, DataCollection, HubListener
from glue.core.command import ApplySubsetState
from glue.core.link_helpers import LinkSame
from glue.core.message import (
    DataCollectionDeleteMessage,
    NumericalDataChangedMessage,
    SubsetCreateMessage,
    SubsetDeleteMessage,
    SubsetUpdateMessage,
)
from glue.core.session import Session
from glue.core.subset import RangeSubsetState
from numpy.typing import NDArray

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import LRSError, LRSWarning
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.viewers.datasets import datasets as glue_data
from glue_lrs.viewers.live import cross_dispersion_profile as cut
from glue_lrs.viewers.live.commands import EmptySubset, SetOperator
from glue_lrs.viewers.live.comparison import comparison_of, series
from glue_lrs.viewers.live.persistence import restored_extraction, without_warnings
from glue_lrs.viewers.live.regions import Region, operator_with, regions_of, row_wavelength
from glue_lrs.viewers.live.registry import REGISTRY
from glue_lrs.viewers.live.residual import META as RESIDUAL_META
from glue_lrs.viewers.live.residual import fit_residual, residual_data, residual_of
from glue_lrs.viewers.live.script import python_lines
from glue_lrs.viewers.live.source_measurement import centred, measured_of
from glue_lrs.viewers.live.statistics import ExtractionStatistics, finite_median
from glue_lrs.viewers.live.subsets import regions_of_subset, wavelengths_of

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs.apertures.aperture import Aperture
    from glue_lrs.apertures.background import Background
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.viewers.live.comparison import Comparison
    from glue_lrs.viewers.live.regions import Kind, Variable
    from glue_lrs.viewers.live.source_measurement import Measured

__all__ = ["META", "LiveExtraction", "image_uuid"]

#: The key of a spectrum's meta that holds what a session needs to bring an extraction back.
META = "glue_lrs"

#: Priority of callbacks that must come before anybody else's.
_FIRST = 1000

#: Seconds after which another step of the same kind is a command of its own.
_PAUSE = 1.0

#: A row has lost pixels if they took more than this fraction of the aperture; less is rounding.
_LOST = 1e-9


class LiveExtraction(HasCallbackProperties, HubListener):
    """An image in glue, the operator that is set for it, and its spectrum.

    Made by `open_extraction`. Listen to what has a star with ``live.add_callback(name, function)``
    (see `echo`); `operator`, `extraction` and `message` are all set before anybody is told.

    Attributes
    ----------
    operator* : Extract1D
        What is shown now: the committed operator, or one that is being tried (`preview`).
    extraction* : Extraction or None
        What `operator` gives of `shown`; None if it fails.
    message* : str
        Why there is no extraction, or what a user would want to know of it; one line, or "".
    integration* : int or None
        Which integration of a stack is shown, from 0; None means the median of all, see
        `SlitImage.median`. Always None for a single image.
    rows_averaged* : int
        How many rows the slit profile averages.
    cursor_row* : float
        The row of the crosshair and of the slit profile.
    wavelength_range* : (float, float) or None
        The selected range in micron. It follows the subset that is changed last in glue.
    wavelength_ranges* : tuple of (float, float)
        Its parts, ascending: more than one where glue's subset modes have made it of several; none
        where there is no range. `numbers` counts what is in them.
    comparison* : `~specutils.Spectrum` or None
        A spectrum to compare with, ascending; `comparison_label*` is its name.
    selected* : int or None
        Number of the region, in `regions`, that has the focus.
    measured* : Measured or None
        What was measured in `shown`; None before `measure`.
    residual_shown* : bool
        Whether image viewers show `residual_data` as a layer; `residual_limit*` is the end of its
        colours.
    closed* : bool
        Whether the extraction is over, as its data were removed. All methods that change
        something then do nothing.
    data, spectrum_data : Data
        The image, and its spectrum, in glue's collection. The spectrum follows what is committed.
    residual_data : Data or None
        What `residual` has left of the image, in glue's collection.
    session : Session
        Of glue.
    image : SlitImage
        The image behind `data`.
    rows, row_wavelength : ndarray
        The number of each row of the image, and its wavelength in micron, NaN where it has none.
    """

    operator = CallbackProperty(None)
    extraction = CallbackProperty(None)
    message = CallbackProperty("")
    integration = CallbackProperty(None)
    rows_averaged = CallbackProperty(11)
    cursor_row = CallbackProperty(0.0)
    wavelength_range = CallbackProperty(None)
    wavelength_ranges = CallbackProperty(())
    comparison = CallbackProperty(None)
    comparison_label = CallbackProperty("")
    selected = CallbackProperty(None)
    measured = CallbackProperty(None)
    residual_shown = CallbackProperty(False)
    residual_limit = CallbackProperty(1.0)
    closed = CallbackProperty(False)

    residual_data: Data | None = None
    _shown: tuple[int, SlitImage] | None
    finite_median: SlitImage | None
    _known_regions: list[tuple[Extract1D, tuple[Region, ...]]]
    _base: tuple[Extract1D, Extract1D] | None
    _run: tuple[object, SetOperator, float] | None = None

    def __init__(self, session: Session, data: Data, image: SlitImage) -> None:
        super().__init__()
        self.session = session
        self.data = data
        self._set_image(image)
        self._comparison: Comparison | None = None
        self._fit: Background | None = None
        self._subset: weakref.ref[Any] | None = None

        found = _spectrum_of(session.data_collection, data)
        stored = {} if found is None else dict(found.meta[META])
        notes: list[str] = []
        self._extract = restored_extraction(stored, image, notes) or self._default(None)
        self.integration = self._stored_integration(stored.get("integration", 0))
        self.rows_averaged = int(stored.get("rows_averaged", 11))
        self.cursor_row = float(stored.get("cursor_row", self._middle_row()))
        chosen = stored.get("wavelength_ranges", ())
        self._set_ranges(tuple((float(low), float(high)) for low, high in chosen))
        self.selected = 0
        self.add_callback("integration", self._check_integration, validator=True)
        self._show(self._extract)
        if found is None:
            label = f"{data.label} spectrum"
            found = glue_data.spectrum_data(self.extraction, label, image=image)
            session.data_collection.append(found)
        self.spectrum_data = found
        self._restore_comparison(stored.get("comparison"), notes)
        self.residual_data = residual_of(session.data_collection, data)
        if self.residual_data is not None:
            self.residual_limit = float(self.residual_data.meta[RESIDUAL_META].get("limit", 1.0))
            self.residual_shown = bool(stored.get("residual", False))
        if notes:
            self.message = "; ".join([*notes, *filter(None, [self.message])])
        self._update_data()
        self._link()
        self._remember()

        self.add_callback("integration", self._integration_changed, priority=_FIRST)
        self.add_callback("wavelength_range", self._range_set, priority=_FIRST)
        for name in ("rows_averaged", "cursor_row", "wavelength_ranges", "residual_shown"):
            self.add_callback(name, self._remember_view)
        session.command_stack.add_callback(self._stack_moved)
        hub = session.hub
        hub.subscribe(self, DataCollectionDeleteMessage, handler=self._data_removed)
        hub.subscribe(self, NumericalDataChangedMessage, handler=self._numbers_changed)
        hub.subscribe(self, SubsetCreateMessage, handler=self._subset_changed)
        hub.subscribe(self, SubsetUpdateMessage, handler=self._subset_changed)
        hub.subscribe(self, SubsetDeleteMessage, handler=self._subset_removed)

    def __repr__(self) -> str:
        return f"<LiveExtraction of {self.data.label}{', closed' if self.closed else ''}>"

    # --- what there is to see ----------------------------------------------------------------

    @property
    def extract(self) -> Extract1D:
        """The committed operator. To set it, use `set`."""
        return self._extract

    @property
    def aperture(self) -> Aperture:
        """The committed aperture. Setting it is a command of glue's stack.

        Raises
        ------
        LRSError
            On setting, if nothing can be extracted with it; then nothing has changed.
        """
        return self._extract.aperture

    @aperture.setter
    def aperture(self, aperture: Aperture) -> None:
        self._set_or_raise(replace(self._extract, aperture=aperture), "change the aperture")

    @property
    def background(self) -> Background | None:
        """The committed background. Setting it is a command of glue's stack; see `aperture`."""
        return self._extract.background

    @background.setter
    def background(self, background: Background | None) -> None:
        self._set_or_raise(replace(self._extract, background=background), "change the background")

    @property
    def shown(self) -> SlitImage:
        """The image that is shown: that of the integration, or the median of all."""
        if not self.image.is_stack:
            return self.image
        number = self.integration
        if number is None:
            if self._median is None:
                self._median = self.image.median()
            return self._median
        if self._shown is None or self._shown[0] != number:
            self._shown = (number, self.image.integration(number))
        return self._shown[1]

    @property
    def spectrum(self) -> Spectrum:
        """The spectrum of `shown` with the committed operator: see `Extraction.to_spectrum`.

        Raises
        ------
        LRSError
            If there is none.
        """
        return self._committed().to_spectrum()

    def run_all(self) -> Extraction:
        """Extract the whole image: of a stack a spectrum for each integration.

        Raises
        ------
        LRSError
            As `Extract1D.run`.
        """
        return self._extract.run(self.image)

    def _committed(self) -> Extraction:
        if self.extraction is not None and self.operator == self._extract:
            return self.extraction
        with without_warnings():
            return self._extract.run(self.shown)

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions of `operator` where they lie on the image: aperture first."""
        return self._regions_of(self.operator)

    def _regions_of(self, operator: Extract1D) -> tuple[Region, ...]:
        for known, regions in self._known_regions:
            if known is operator:
                return regions
        try:
            regions = regions_of(operator, self.image)
        except LRSError:  # a trace that is not known: `message` tells
            regions = ()
        # The committed operator's, which may need the WCS, and those of what is shown.
        kept = [one for one in self._known_regions if one[0] is self._extract]
        self._known_regions = [*kept, (operator, regions)]
        return regions

    def cross_dispersion_profile(
        self, row: float | None = None, number: int | None = None
    ) -> cut.CrossDispersionProfile:
        """A cut across the slit, as `glue_lrs.viewers.live.cross_dispersion_profile.cross_dispersion_profile` makes it of `shown`.

        Parameters
        ----------
        row : float, optional
            The middle row; `cursor_row` by default.
        number : int, optional
            How many rows to average; `rows_averaged` by default.
        """
        row = self.cursor_row if row is None else row
        return cut.cross_dispersion_profile(
            self.shown, row, self.rows_averaged if number is None else number
        )

    def ratio(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Flux over that of the comparison, interpolated onto the wavelengths of `extraction`.

        Returns
        -------
        wavelength, ratio : ndarray
            The wavelengths in micron, ascending, and the ratio there: NaN where either is masked or
            the comparison does not reach. Empty without an extraction or a comparison, or if their
            units differ.
        """
        empty = np.empty(0), np.empty(0)
        if self.extraction is None or self.comparison is None:
            return empty
        axis, flux, unit = series(self.comparison)
        try:
            flux = flux * unit.to(self.extraction.units["FLUX"])
        except UnitConversionError:
            return empty
        known = np.isfinite(flux)
        if not known.any():
            return empty
        order = np.argsort(self.extraction.wavelength)
        wave = self.extraction.wavelength[order]
        mine = np.where(self.extraction.mask, np.nan, self.extraction.columns["FLUX"])[order]
        theirs = np.interp(wave, axis[known], flux[known], left=np.nan, right=np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = mine / theirs
        return wave, np.where(np.isfinite(ratio), ratio, np.nan)

    def numbers(self) -> ExtractionStatistics:
        """What matters while deciding: of `operator`, in the selected range of wavelengths."""
        lower, upper = self._limits_text()
        extraction = self.extraction
        if extraction is None:
            return ExtractionStatistics(math.nan, math.nan, 0, 0, 0, math.nan, lower, upper)
        inside = self._selects(extraction.wavelength)
        good = inside & ~extraction.mask
        error = extraction.columns["FLUX_ERROR"][good]
        with np.errstate(divide="ignore", invalid="ignore"):
            signal = extraction.columns["FLUX"][good] / error
        wave, ratio = self.ratio()
        lost = extraction.lost_fraction[good]
        return ExtractionStatistics(
            signal_to_noise=finite_median(signal),
            ratio=finite_median(ratio[self._selects(wave)]),
            rows=int(good.sum()),
            rows_masked=int((inside & ~good).sum()),
            rows_lost=int((lost > _LOST).sum()),
            most_lost=float(np.max(lost, initial=0.0)),
            limits=lower,
            edges=upper,
        )

    def _selects(self, wavelength: NDArray[np.float64]) -> NDArray[np.bool_]:
        inside = np.full(wavelength.shape, not self.wavelength_ranges)
        for low, high in self.wavelength_ranges:
            inside |= (wavelength >= low) & (wavelength <= high)
        return inside

    def _limits_text(self) -> tuple[str, str]:
        """The aperture's edges in both conventions; at the cursor's row where they change."""
        source = [region for region in self.regions if region.kind == "aperture"]
        row = int(np.clip(round(self.cursor_row), 0, self.rows.size - 1))
        limits, edges = [], []
        for region in source:
            lower, upper = (float(v) for v in region.at(row, self.row_wavelength[row]))
            limits.append(f"{lower + 0.5:.2f} to {upper - 0.5:.2f}")
            edges.append(f"{lower:.2f} to {upper:.2f}")
        where = "" if all(region.straight for region in source) else f" in row {row}"
        return ", ".join(limits) + where, ", ".join(edges) + where

    # --- edits -------------------------------------------------------------------------------

    def preview(self, wanted: Extract1D | Sequence[Region]) -> None:
        """Show what an operator, or regions, would give; nothing is committed.

        Parameters
        ----------
        wanted : Extract1D or sequence of Region
            An operator, or all regions that there are to be. Regions that are not among those of
            the committed operator have been moved by hand: if they are straight, their limits are
            rounded to 0.01 pixel.

        Notes
        -----
        It does not raise: what is wrong is in `message`, and `extraction` is None.
        """
        if self.closed:
            return
        if not isinstance(wanted, Extract1D):
            try:
                wanted = self._with(tuple(wanted))
            except LRSError as error:
                with delay_callback(self, "extraction", "message"):
                    self.extraction = None
                    self.message = str(error)
                return
        self._show(wanted)

    def _with(self, regions: tuple[Region, ...]) -> Extract1D:
        """The committed operator with regions elsewhere."""
        before = self._regions_of(self._extract)
        if regions == before:
            return self._extract
        if self._base is None or self._base[0] is not self._extract:
            # As an operator that does not move: nothing has to ask the WCS while dragging.
            self._base = (self._extract, operator_with(self._extract, self.image, before))
        base = self._base[1]
        made = [region if region in before else region.rounded() for region in regions]
        number, other = (sum(r.kind == "background" for r in some) for some in (made, before))
        if number > other and base.subtract_background is False:
            base = replace(base, subtract_background=None)  # who draws one wants it subtracted
        return operator_with(base, self.image, made, self._fit)

    def commit(self, label: str = "change the extraction", step: object = None) -> bool:
        """Keep what is shown, as one command of glue's stack.

        Parameters
        ----------
        label : str
            How the menu calls it.
        step : object, optional
            What is done in small steps, as by an arrow key that is held. Steps of the same kind
            that follow each other within a second, with nothing else done between them, are one
            command.

        Returns
        -------
        bool
            Whether there was something to keep. Where nothing can be extracted, the committed
            operator comes back, and `message` tells why.
        """
        if self.closed:
            return False
        if self.extraction is None:
            why = self.message
            self.cancel()
            if why and self.extraction is not None:
                self.message = f"not kept: {why}"
            return False
        if self.operator == self._extract:
            return False
        command = self._goes_on(step)
        if command is None:
            command = SetOperator(
                uuid=self.data.uuid, old=self._extract, new=self.operator, text=label
            )
            self.session.command_stack.do(command)
        else:  # it is the last of the stack: undo goes back to before the first step
            command.new = self.operator
            self._settle(self.operator)
        self._run = None if step is None else (step, command, monotonic())
        return True

    def _goes_on(self, step: object) -> SetOperator | None:
        """The command that a step belongs to, if there is one."""
        if step is None or self._run is None:
            return None
        known, command, last = self._run
        same = known == step and command.new is self._extract and monotonic() - last < _PAUSE
        return command if same else None

    def _stack_moved(self, *_: Any) -> None:
        """Something is done, undone or redone in glue: what was done in steps is done."""
        self._run = None

    def cancel(self) -> None:
        """Show the committed operator again."""
        if not self.closed:
            self._show(self._extract)

    def set(
        self,
        wanted: Extract1D | Sequence[Region],
        label: str = "change the extraction",
        step: object = None,
    ) -> bool:
        """Show and keep an operator, or regions: `preview` and `commit`.

        Returns
        -------
        bool
            As `commit`.
        """
        self.preview(wanted)
        return self.commit(label, step)

    def add_region(self, kind: Kind, lower: float, upper: float) -> bool:
        """Add a straight region between two positions; see `set`."""
        try:
            region = Region(kind, (lower,), (upper,), self._variable(self.regions))
        except LRSError as error:
            self.message = str(error)
            return False
        return self.set([*self._regions_of(self._extract), region], f"add {_an(kind)}")

    def delete_region(self, index: int) -> bool:
        """Delete a region; see `set`. The last region of the aperture stays."""
        regions = self._regions_of(self._extract)
        if not 0 <= index < len(regions):
            self.message = f"region is {index}, expected 0 to {len(regions) - 1}"
            return False
        made = [one for number, one in enumerate(regions) if number != index]
        return self.set(made, f"delete {_an(regions[index].kind)}")

    @staticmethod
    def _variable(regions: Sequence[Region]) -> Variable:
        """What edges depend on that are not straight."""
        return next((r.variable for r in regions if not r.straight), "wavelength")

    # --- what the image itself says ------------------------------------------------------------

    def measure(self) -> Measured:
        """Measure position and width of the source in `shown`, and the aperture of best S/N.

        It takes some tenths of a second, once for each integration: the result is kept, and is in
        `measured`.

        Returns
        -------
        Measured
            What `glue_lrs.measurement.curve_of_growth.measure_with_growth` says.

        Raises
        ------
        LRSError
            If there is no source.
        """
        if self.integration not in self._measurements:
            self._measurements[self.integration] = measured_of(self.shown)
        self.measured = self._measurements[self.integration]
        return self.measured

    def to_source(self) -> bool:
        """Move the aperture, as wide as it is, to where the source is measured; see `set`.

        Background regions stay where they are. Where nothing can be measured, the aperture goes to
        where the header and the WCS put the source, and `message` says so; it also says how far
        apart the two are if they disagree.
        """
        if self.closed:
            return False
        regions = self._regions_of(self._extract)
        if not regions:
            self.message = f"the aperture stays where it is: {self.message}"
            return False
        try:
            measured = self.measure()
            notes = list(measured.notes)
            made = centred(regions, measured.measurement.trace, self.row_wavelength)
        except LRSError as error:
            why = self._own(error)
            found = expected_position(self.image)
            if not isinstance(found, SourcePosition):
                self.message = f"the aperture stays where it is: {why}; {found}"
                return False
            trace = np.full(self.rows.size, np.nan)
            trace[found.row] = found.column
            made = centred(regions, trace, self.row_wavelength)
            notes = [f"the source could not be measured, the header's position is taken: {why}"]
        return self._set_and_tell(made, "move the aperture to the source", notes)

    def three_fwhm(self, n: float = 3.0) -> bool:
        """Make the aperture n times as wide as the measured FWHM, about the source; see `set`.

        Parameters
        ----------
        n : float
            Width over FWHM: see `glue_lrs.measurement.measurement.Measurement.tapered`.
        """
        return self._take(
            lambda measured: measured.measurement.tapered(n), f"make the aperture {n:g} × FWHM"
        )

    def best_width(self) -> bool:
        """Give the aperture the width of best signal to noise, about the source; see `set`."""
        return self._take(
            lambda measured: measured.measurement.box(measured.curve.best),
            "make the aperture that of best S/N",
        )

    def _take(self, make: Callable[[Measured], Aperture], label: str) -> bool:
        """Set an aperture that is measured; background regions stay where they are."""
        if self.closed:
            return False
        try:
            measured = self.measure()
            aperture = make(measured)
            regions = self._regions_of(self._extract)
            fixed = self._extract
            if regions:  # else the default has failed, and there is nothing to keep
                fixed = operator_with(fixed, self.image, regions)
            kept = fixed.aperture
            aperture = replace(aperture, ystart=kept.ystart, ystop=kept.ystop)
            operator = replace(
                fixed,
                aperture=aperture,
                use_source_posn=False,
                reference_source_posn=None,
                position_offset=0.0,
            )
        except LRSError as error:
            self.message = f"the aperture stays as it is: {self._own(error)}"
            return False
        return self._set_and_tell(operator, label, measured.notes)

    def _set_and_tell(
        self, wanted: Extract1D | Sequence[Region], label: str, notes: Sequence[str]
    ) -> bool:
        done = self.set(wanted, label)
        self.message = "; ".join([*notes, *filter(None, [self.message])])
        return done

    def _own(self, error: LRSError) -> str:
        """What an error says, without the name of the image."""
        return str(error).replace(f"{self.image.label}: ", "")

    def residual(self) -> Data | None:
        """Fit the source within the aperture, and show what the model leaves of `shown`.

        It is an optimal extraction as `glue_lrs.extraction.factory.optimal_for` makes it of the committed operator.
        The residual stays as it is when the aperture changes, until this is called again; it is
        hidden when another integration is shown.

        Returns
        -------
        Data or None
            `residual_data`: shape (row, column), with the components ``residual`` (data less
            model, in the image's unit), ``sigma`` (over its standard deviation) and ``rejected``
            (1 where a pixel disagrees with the model and was left out). None if the extraction is
            over.

        Raises
        ------
        LRSError
            If nothing can be fitted; then what was shown stays.
        """
        if self.closed:
            return None
        found = fit_residual(self._extract, self.shown)
        collection = self.session.data_collection
        self.residual_data = residual_data(collection, self.data, self.shown, found)
        with delay_callback(self, "residual_limit", "residual_shown", "message"):
            self.residual_limit = found.limit
            self.residual_shown = True
            self.message = "; ".join(["residual: data − model", *found.notes])
        return self.residual_data

    def hide_residual(self) -> None:
        """Show the residual no longer; its dataset stays in glue's collection."""
        self.residual_shown = False

    def default(self) -> bool:
        """Take the built-in reference, with the present aperture correction; see `set`."""
        made = self._default(self._extract.aperture_correction)
        return self.set(made, "take the default aperture")

    def _default(self, correction: ApertureCorrection | None) -> Extract1D:
        with without_warnings():  # that there is no aperture correction
            return Extract1D.from_reference(None, self.image.exp_type, apcorr=correction)

    def load_reference(self, path: str | PathLike[str]) -> bool:
        """Take the aperture and the background of an EXTRACT1D reference.

        Raises
        ------
        LRSError
            If the file cannot be used.
        """
        with without_warnings():
            made = Extract1D.from_reference(
                fspath(path), self.image.exp_type, apcorr=self._extract.aperture_correction
            )
        return self._set_or_raise(made, "load a reference")

    def load_apcorr(self, path: str | PathLike[str] | None) -> bool:
        """Take an APCORR reference, or none.

        Raises
        ------
        LRSError
            If the file cannot be used, or not for this image.
        """
        correction = None
        if path is not None:
            correction = ApertureCorrection.read(
                str(_absolute(path)), subarray=self.image.subarray or ""
            )
        name = None if correction is None else correction.filename
        references = dict(self._extract.references) | {"apcorr": name}
        made = replace(
            self._extract, aperture_correction=correction, references=tuple(references.items())
        )
        return self._set_or_raise(made, "change the aperture correction")

    def subset_to_region(self, subset: Any, kind: Kind) -> bool:
        """Make a subset of the image the aperture, or background regions more.

        Parameters
        ----------
        subset : Subset, SubsetGroup or SubsetState
            A range of columns, or a shape drawn on the image, or several that glue's subset modes
            have put together: see `glue_lrs.viewers.live.subsets.regions_of_subset`.
        kind : {"aperture", "background"}
            What becomes of it. All regions of the aperture are replaced.

        Raises
        ------
        LRSError
            If it selects no pixels, or less than one across the slit.
        """
        regions = self._regions_of(self._extract)
        kept = [one for one in regions if kind == "background" or one.kind != "aperture"]
        variable = next((one.variable for one in kept if not one.straight), None)
        new = regions_of_subset(subset, self.data, kind, self.row_wavelength, variable)
        made = [*kept, *new] if kind == "background" else [*new, *kept]
        return self._set_or_raise(made, f"make a subset {_an(kind)}")

    def _set_or_raise(self, wanted: Extract1D | Sequence[Region], label: str) -> bool:
        """Set an operator; an extraction that fails raises, and changes nothing."""
        if self.closed:
            return False
        operator = wanted if isinstance(wanted, Extract1D) else self._with(tuple(wanted))
        with without_warnings():
            operator.run(self.shown)
        return self.set(operator, label)

    def _settle(self, operator: Extract1D) -> None:
        """Make an operator the committed one: what the commands of the stack call."""
        if self.closed:
            return
        if operator.background is None and self._extract.background is not None:
            self._fit = self._extract.background  # for regions that are drawn later
        self._extract = operator
        if self.operator != operator or self.extraction is None:
            self._show(operator)
        else:
            self.operator = operator
        collection = self.session.data_collection
        if self.spectrum_data not in collection:  # removed, but sessions find the state in it
            collection.append(self.spectrum_data)
            self._link()
        self._update_data()
        self._remember()

    def _show(self, operator: Extract1D) -> None:
        extraction, message = None, ""
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                extraction = operator.run(self.shown)
            told = [str(one.message) for one in caught if issubclass(one.category, LRSWarning)]
            message = "; ".join(told)
        except LRSError as error:
            message = str(error)
        with delay_callback(self, "operator", "extraction", "message", "selected"):
            self.operator = operator
            self.extraction = extraction
            self.message = message.replace(f"{self.image.label}: ", "")
            if self.selected is not None and self.selected >= len(self.regions):
                self.selected = None

    def _update_data(self) -> None:
        try:
            glue_data.update_spectrum_data(self.spectrum_data, self.extraction)
        except LRSError as error:  # what users have made of the dataset; the extraction stands
            self.message = "; ".join(filter(None, (self.message, str(error))))

    # --- comparison --------------------------------------------------------------------------

    def load_comparison(self, source: str | PathLike[str] | Data | None) -> None:
        """Take a spectrum to compare with, or none.

        Parameters
        ----------
        source : str, path-like, Data or None
            An x1d or x1dints, or the glue data of a spectrum. Of a stack of spectra the one of
            `integration` is taken, or the median of all.

        Raises
        ------
        LRSError
            If it is no spectrum.
        """
        self._comparison = None if source is None else comparison_of(source)
        self._compare()
        self._remember()

    def _compare(self) -> None:
        made = None if self._comparison is None else self._comparison.spectrum(self.integration)
        with delay_callback(self, "comparison", "comparison_label"):
            self.comparison = made
            self.comparison_label = "" if self._comparison is None else self._comparison.label

    def _restore_comparison(self, stored: Any, notes: list[str]) -> None:
        if not stored:
            return
        source: Any = stored.get("path")
        if source is None:
            uuid = stored.get("uuid")
            source = next((d for d in self.session.data_collection if d.uuid == uuid), None)
        if source is None:
            return
        try:
            self._comparison = comparison_of(source)
            self._compare()
        except LRSError as error:
            notes.append(f"without the comparison: {error}")

    # --- files -------------------------------------------------------------------------------

    def save_reference(self, path: str | PathLike[str], overwrite: bool = False) -> None:
        """Write the EXTRACT1D reference that has the pipeline do what is committed.

        ``extract_1d``, given it by ``override_extract1d``, returns the same spectrum of this
        image, with the same APCORR reference: see `Extract1D.to_reference`.

        Raises
        ------
        LRSError
            If a reference cannot hold it, or the file exists or cannot be written.
        """
        self._extract.to_reference(self.image).write(_named(path), overwrite=overwrite)

    def save_spectrum(self, path: str | PathLike[str], overwrite: bool = False) -> None:
        """Write the x1d; of a stack the x1dints, with all integrations.

        Raises
        ------
        LRSError
            If the extraction fails, or the file exists or cannot be written.
        """
        self.run_all().write(_named(path), overwrite=overwrite)

    def save_figure(self, path: str | PathLike[str], overwrite: bool = False) -> None:
        """Write a picture of the image with its regions, cuts across the slit, and the spectrum.

        Raises
        ------
        LRSError
            If there is no spectrum, or the file exists or cannot be written.
        """
        from glue_lrs.plotting.product import plot_product
        from glue_lrs.plotting.style import save

        title = self.image.label
        if self.image.is_stack:
            number = self.integration
            title += ", median of all" if number is None else f", integration {number + 1}"
        figure = plot_product(self.shown, self._extract, self._committed(), title=title)
        save(figure, _named(path), overwrite=overwrite)

    def python(self) -> str:
        """The few lines of Python that repeat `spectrum` to the last digit.

        Raises
        ------
        LRSError
            If the image or the aperture correction is in no file.
        """
        return python_lines(self._extract, self.image, self.integration)

    # --- glue --------------------------------------------------------------------------------

    def deselect(self) -> None:
        """Empty the subset that `wavelength_range` follows, which becomes None.

        It is a command of the stack. The subset itself stays, for the range that is selected next.
        """
        if self.closed:
            return
        subset = None if self._subset is None else self._subset()
        if subset is not None:
            self.session.command_stack.do(
                EmptySubset(subset=getattr(subset, "group", subset), old=subset.subset_state)
            )
        self.wavelength_range = None

    def select(self, low: float, high: float) -> None:
        """Select a range of wavelengths (micron) in glue, in the spectrum and in the image.

        It is a command of the stack; the subset that is edited in glue changes, or one is made, as
        glue's subset mode says: it may be added to what was selected, or taken away from it.
        """
        if self.closed:
            return
        state = RangeSubsetState(min(low, high), max(low, high), self._id("wavelength"))
        collection = self.session.data_collection
        self.session.command_stack.do(
            ApplySubsetState(data_collection=collection, subset_state=state)
        )
        if self.spectrum_data not in collection:  # else glue tells what is selected now
            self.wavelength_range = (float(min(low, high)), float(max(low, high)))

    def close(self) -> None:
        """End the extraction; its data stay in glue's collection."""
        if self.closed:
            return
        self.session.hub.unsubscribe_all(self)
        self.session.command_stack.remove_callback(self._stack_moved)
        registry = getattr(self.session.data_collection, REGISTRY, None)
        if registry is not None and registry.lives.get(self.data.uuid) is self:
            del registry.lives[self.data.uuid]
        self.hide_residual()
        self.closed = True

    def _id(self, name: str) -> Any:
        return self.spectrum_data.find_component_id(name)

    def _link(self) -> None:
        """Link image and spectrum by wavelength and row, so that one selects in the other."""
        image, spectrum = self.data, self.spectrum_data
        wave, row = self._id("wavelength"), self._id("row")
        pairs = [
            (image.find_component_id("wavelength"), wave),
            (image.pixel_component_ids[-2], row),
        ]
        if image.coords is not None:
            pairs.append((image.world_component_ids[-2], wave))
        if spectrum.coords is not None:
            pairs.append((image.find_component_id("wavelength"), spectrum.world_component_ids[0]))
        collection = self.session.data_collection
        there = {
            frozenset((*link.cids1, *link.cids2))
            for link in collection.external_links
            if hasattr(link, "cids1")
        }
        new = [LinkSame(*pair) for pair in pairs if frozenset(pair) not in there]
        if new:
            collection.add_link(new)

    def _data_removed(self, message: Any) -> None:
        if message.data is self.data:
            self.close()
        elif message.data is self.residual_data:
            self.hide_residual()
            self.residual_data = None

    def _numbers_changed(self, message: Any) -> None:
        """Somebody has put other numbers into the image."""
        if message.data is not self.data:
            return
        try:
            image = glue_data.slit_image(self.data)
        except LRSError as error:
            self.message = str(error)
            return
        if image is not self.image:
            self._set_image(image)
            self.measured = None
            self.hide_residual()
            self._show(self._extract)
            self._update_data()

    def _subset_changed(self, message: Any) -> None:
        if message.subset.data is not self.spectrum_data:
            return
        if getattr(message, "attribute", "subset_state") != "subset_state":
            return
        found = wavelengths_of(message.subset, self.spectrum_data)
        if found:
            self._subset = weakref.ref(message.subset)
            self._set_ranges(found)
        elif self._subset is not None and message.subset is self._subset():
            self.wavelength_range = None  # it has been emptied, and may be filled again

    def _subset_removed(self, message: Any) -> None:
        if self._subset is not None and message.subset is self._subset():
            self._subset = None
            self.wavelength_range = None

    def _set_ranges(self, ranges: tuple[tuple[float, float], ...]) -> None:
        """Select ranges, ascending ones."""
        with delay_callback(self, "wavelength_range", "wavelength_ranges"):
            self.wavelength_ranges = ranges
            self.wavelength_range = (ranges[0][0], ranges[-1][1]) if ranges else None

    def _range_set(self, chosen: tuple[float, float] | None) -> None:
        """Somebody has set the range: it is one, unless that was `_set_ranges`."""
        ranges = self.wavelength_ranges
        if chosen is None:
            self.wavelength_ranges = ()
        elif not ranges or tuple(chosen) != (ranges[0][0], ranges[-1][1]):
            self.wavelength_ranges = ((float(chosen[0]), float(chosen[1])),)

    def _set_image(self, image: SlitImage) -> None:
        self.image = image
        self.row_wavelength = row_wavelength(image)
        self.rows = np.arange(image.shape[0], dtype=float)
        self._shown = None
        self._median = None
        self._known_regions = []
        self._base = None
        self._measurements: dict[int | None, Measured] = {}

    def _middle_row(self) -> float:
        known = np.flatnonzero(np.isfinite(self.row_wavelength))
        return float(known[known.size // 2]) if known.size else float(self.rows.size // 2)

    # --- integrations ------------------------------------------------------------------------

    def _check_integration(self, value: Any) -> int | None:
        if value is None or not self.image.is_stack:
            return None
        return int(np.clip(int(value), 0, self.image.data.shape[0] - 1))

    def _stored_integration(self, value: Any) -> int | None:
        return self._check_integration(value if value is None or isinstance(value, int) else 0)

    def _integration_changed(self, *_: Any) -> None:
        if self.closed:
            return
        self._show(self.operator)
        self.measured = self._measurements.get(self.integration)
        self.hide_residual()  # it is that of another integration
        if self.operator is self._extract:
            self._update_data()
        self._compare()
        self._remember()

    # --- sessions ----------------------------------------------------------------------------

    def _remember_view(self, *_: Any) -> None:
        """Keep what is looked at: often, so that nothing else is worked out."""
        self.spectrum_data.meta[META] |= {
            "rows_averaged": int(self.rows_averaged),
            "cursor_row": float(self.cursor_row),
            "residual": bool(self.residual_shown),
            "wavelength_ranges": [[float(end) for end in one] for one in self.wavelength_ranges],
        }

    def _remember(self) -> None:
        """Keep in the spectrum's meta what a session needs to bring this extraction back."""
        correction = self._extract.aperture_correction
        stored: dict[str, Any] | None = None
        if correction is not None:  # its numbers as well: the file may move, or change
            axes = ("wavelength", "size", "factor")
            stored = {name: getattr(correction, name).tolist() for name in axes}
            stored["subarray"] = correction.subarray
            if correction.filename is not None:
                stored["path"] = str(_absolute(correction.filename))
        source = None if self._comparison is None else self._comparison.source
        self.spectrum_data.meta[META] = {
            "image": self.data.uuid,
            "parameters": self._extract.parameters,
            "references": [list(pair) for pair in self._extract.references],  # in their order
            "apcorr": stored,
            "integration": self.integration,
            "comparison": source,
        }
        self._remember_view()


# --- what a session has kept ---------------------------------------------------------------------


def _spectrum_of(collection: DataCollection, data: Data) -> Data | None:
    """The spectrum that an earlier extraction of an image has left."""
    return next((one for one in collection if image_uuid(one) == data.uuid), None)


def image_uuid(data: Any) -> str | None:
    """The uuid of the image that the data of a spectrum belong to."""
    stored = getattr(data, "meta", {}).get(META)
    return stored.get("image") if isinstance(stored, dict) else None


def _an(kind: str) -> str:
    return "an aperture" if kind == "aperture" else "a background region"


def _absolute(path: str | PathLike[str]) -> Path:
    return Path(fspath(path)).expanduser().resolve()


def _named(path: str | PathLike[str]) -> str:
    return str(Path(fspath(path)).expanduser())
