"""LiveExtraction: an image in glue, the operator that the user edits, and its spectrum."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING

from echo import delay_callback
from glue.core import Data, HubListener
from glue.core import message as messages
from glue.core.session import Session

from glue_lrs.errors import LRSError, LRSWarning
from glue_lrs.findings import check
from glue_lrs.measurement.curve_of_growth import measure_with_growth
from glue_lrs.plotting.files import save
from glue_lrs.viewers.datasets.images import slit_image
from glue_lrs.viewers.datasets.spectra import spectrum_data, update_spectrum_data
from glue_lrs.viewers.live.actions import Actions, default_operator
from glue_lrs.viewers.live.comparison import comparison_of
from glue_lrs.viewers.live.editing import Editing
from glue_lrs.viewers.live.links import derived_data, link_image_and_spectrum
from glue_lrs.viewers.live.messages import findings_text, panel_text
from glue_lrs.viewers.live.notices import Notices
from glue_lrs.viewers.live.persistence import Persistence
from glue_lrs.viewers.live.product_figure import product_figure
from glue_lrs.viewers.live.registry import registry_of
from glue_lrs.viewers.live.script import python_lines
from glue_lrs.viewers.live.selection import Selection
from glue_lrs.viewers.live.setups import Setups
from glue_lrs.viewers.live.source_measurement import Measured
from glue_lrs.viewers.live.state import ExtractionState

if TYPE_CHECKING:
    from glue.core.subset import Subset, SubsetState
    from glue.core.subset_group import SubsetGroup
    from specutils import Spectrum

    from glue_lrs.apertures.aperture import Aperture
    from glue_lrs.apertures.background import Background
    from glue_lrs.errors import Severity
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.viewers.live.regions import Kind, Region

#: Message while a drag does not change the spectrum.
_LATER = "the profile is fitted when the drag ends"

#: Priority of the extraction's own callbacks, which must run before the callbacks of viewers.
_FIRST = 1000


class LiveExtraction(ExtractionState):
    """An image in glue, the `Extract1D` operator that the user edits, and the resulting spectrum.

    Made by `open_extraction`. The committed operator is set by the last command on glue's undo
    stack; a drag previews another operator. ``live.add_callback(name, function)`` (see `echo`)
    calls a function when a property with a star changes, after `operator`, `extraction` and
    `message` are set. The parts, in the last attributes, contain what acts on this state.

    Parameters
    ----------
    session : Session
        Session in glue that contains the data.
    data : Data
        Dataset of the image.
    image : SlitImage
        Image, or stack of images, from which `data` was made.

    Attributes
    ----------
    operator*, extraction* : Extract1D, Extraction or None
        The operator that is shown, either the committed operator or a preview, and the extraction
        of `shown` with it, or None if it fails.
    message*, findings* : str, tuple of Finding
        Reason why there is no extraction, or the warnings about it; and its findings.
    notices* : tuple of Notice
        Errors, warnings and notes from actions, newest first; see `notify`.
    integration* : int or None
        Number, from 0, of the integration of a stack that is shown. None selects the median of all
        integrations (see `SlitImage.median`). It is always None for a single image.
    cursor_row*, rows_averaged* : float, int
        Row of the crosshair, and number of rows that the slit profile averages around it.
    wavelength_range* : (float, float) or None
        The selected range in micron. It follows the subset that was changed last in glue.
    wavelength_ranges* : tuple of (float, float)
        Parts of `wavelength_range`, ascending. There are several if glue's subset modes combine
        ranges.
    comparison*, comparison_label* : `~specutils.Spectrum` or None, str
        Spectrum with which the extraction is compared, with ascending wavelengths, and its name.
    setups*, active* : tuple of Setup, str
        Several apertures or settings for the image, and the name of the one that is edited.
    selected* : int or None
        Index in `regions` of the selected region.
    measured* : Measured or None
        Measurement of the source in `shown`; None before `measure` is called.
    residual_shown*, residual_limit* : bool, float
        Whether image viewers show `residual_data`, and the limit of its colour scale.
    closed* : bool
        Whether the extraction has ended because its data were removed. A closed extraction cannot
        be changed.
    image : SlitImage
        Image, or stack of images, from which `data` was made.
    rows, row_wavelength, wavelengths : ndarray, ndarray, RowWavelength
        Number of each row of the image, its wavelength in micron (or NaN), and their conversion.
    data, spectrum_data, residual_data : Data
        Datasets of the image, of the spectrum with the committed operator, and of the residual (or
        None) in glue's collection.
    compared : Comparison or None
        Spectrum or stack of spectra that was loaded by `load_comparison`.
    last_background : Background or None
        Background that was removed last. Its fit is used for background regions drawn later.
    editing : Editing
        Previews and commits operators and regions.
    actions : Actions
        Sets apertures and models from the data, from files or from glue's subsets.
    selection : Selection
        Connects the selected wavelengths with subsets in glue.
    persistence : Persistence
        Stores the state for sessions.
    arrangement : Setups
        Several apertures or settings, of which one is edited.
    messages : Notices
        Errors, warnings and notes, for the list of messages.
    """

    def __init__(self, session: Session, data: Data, image: SlitImage) -> None:
        super().__init__()
        self.session = session
        self.data = data
        self.editing = Editing(self)
        self.actions = Actions(self)
        self.selection = Selection(self)
        self.persistence = Persistence(self)
        self.messages = Notices(self)
        self.arrangement = Setups(self)
        self._listener = HubListener()
        self._extracted: SlitImage | None = None
        self._use(image)

        self.add_callback("integration", self._valid_integration, validator=True)
        spectrum = derived_data(session.data_collection, data)
        restored, notes = self.persistence.restore(spectrum)
        self._extract = restored or default_operator(image, None)
        self.show(self._extract)
        self.persistence.restore_setups(spectrum)
        if spectrum is None:
            spectrum = spectrum_data(self.extraction, f"{data.label} spectrum", image=image)
        self.spectrum_data = spectrum
        self.update_comparison()
        for note in notes:
            self.notify(note)
        self._update_spectrum_data()
        self.add_spectrum()
        self.persistence.store()
        self._connect()

    def _connect(self) -> None:
        """Follow changes of the state, and changes that are made in glue."""
        self.add_callback("integration", self._integration_changed, priority=_FIRST)
        self.add_callback("wavelength_range", self.selection.range_changed, priority=_FIRST)
        for name in ("rows_averaged", "cursor_row", "wavelength_ranges", "residual_shown"):
            self.add_callback(name, self.persistence.store_view)
        self.session.command_stack.add_callback(self.editing.end_steps)
        for message, handler in (
            (messages.DataCollectionDeleteMessage, self._data_removed),
            (messages.NumericalDataChangedMessage, self._pixels_changed),
            (messages.SubsetCreateMessage, self.selection.subset_changed),
            (messages.SubsetUpdateMessage, self.selection.subset_changed),
            (messages.SubsetDeleteMessage, self.selection.subset_removed),
        ):
            self.session.hub.subscribe(self._listener, message, handler=handler)

    def __repr__(self) -> str:
        return f"<LiveExtraction of {self.data.label}{', closed' if self.closed else ''}>"

    # --- state -----------------------------------------------------------------------------------

    @property
    def extract(self) -> Extract1D:
        """The committed operator. Use `set` to change it."""
        return self._extract

    @property
    def aperture(self) -> Aperture:
        """The committed aperture. Setting it adds a command to glue's command stack.

        Raises
        ------
        LRSError
            If the aperture is set and nothing can be extracted with it. Then nothing changes.
        """
        return self._extract.aperture

    @aperture.setter
    def aperture(self, aperture: Aperture) -> None:
        operator = replace(self._extract, aperture=aperture)
        self.editing.set_or_raise(operator, "change the aperture")

    @property
    def background(self) -> Background | None:
        """The committed background. Setting it adds a command, as for `aperture`."""
        return self._extract.background

    @background.setter
    def background(self, background: Background | None) -> None:
        operator = replace(self._extract, background=background)
        self.editing.set_or_raise(operator, "change the background")

    def show(self, operator: Extract1D, check: bool = True) -> None:
        """Run an operator on `shown`; set `operator`, `extraction`, `findings` and `message`.

        A fit of the profile is too slow for each step of a drag. Then, if `check` is False, the
        extraction remains that of the operator before.
        """
        extraction = None
        try:
            image = self.image_for(operator)
            if operator.fits_profile and not check and self._extracted is image:
                extraction, message = self.extraction, _LATER
            if extraction is None:
                with warnings.catch_warnings(action="ignore"):
                    extraction = operator.run(image, check=check)
                message = findings_text(extraction.findings, self.image)
            self._extracted = image
        except LRSError as error:
            message = panel_text(error, self.image)
        self._checked = check
        # the spectrum is drawn first: a browser shows the changes of a step one after the other
        with delay_callback(self, "extraction", "operator", "message", "findings", "selected"):
            self.operator, self.extraction = operator, extraction
            self.message = message
            self.findings = () if extraction is None else extraction.findings
            if self.selected is not None and self.selected >= len(self.regions):
                self.selected = None

    def complete(self) -> None:
        """Extract with `operator`, with all checks, if a preview has omitted this."""
        if not self._checked and self.operator.fits_profile:
            self.show(self.operator)

    def accept(self, operator: Extract1D) -> None:
        """Make an operator the committed operator; only for commands, otherwise use `set`."""
        if self.closed:
            return
        if operator != self._extract:
            self.messages.drop_notes()
        if operator.background is None and self._extract.background is not None:
            self.last_background = self._extract.background
        self._extract = operator
        if self.operator != operator or self.extraction is None or not self._checked:
            self.show(operator)
        else:
            self.operator = operator
        if self.spectrum_data not in self.session.data_collection:  # needed to save the operator
            self.add_spectrum()
        self._update_spectrum_data()
        self.arrangement.keep(operator, self.extraction)
        self.persistence.store()

    def set_image(self, image: SlitImage) -> None:
        """Replace the image after its pixels were changed in glue, and extract again."""
        self._use(image)
        self.measured = None
        self.hide_residual()
        self.show(self._extract)
        self.arrangement.extract_again()
        self._update_spectrum_data()

    def check(self) -> None:
        """Measure the source, and set `findings` and `message` to those of `Extract1D.check`."""
        if self.extraction is not None:
            image = self.image_for(self.operator)
            with delay_callback(self, "findings", "message"):
                self.findings = check(self.operator, image, self.extraction)
                self.message = findings_text(self.findings, self.image)

    def notify(self, text: str, severity: Severity = "warning") -> None:
        """Add a line to the list of messages; see `Notices.add`."""
        self.messages.add(text, severity)

    def add_spectrum(self) -> None:
        """Add `spectrum_data` to glue's collection, and link it to the image, if necessary."""
        collection = self.session.data_collection
        if self.spectrum_data not in collection:
            collection.append(self.spectrum_data)
        link_image_and_spectrum(collection, self.data, self.spectrum_data)

    def close(self) -> None:
        """End the extraction; its data stay in glue's collection."""
        if self.closed:
            return
        self.session.hub.unsubscribe_all(self._listener)
        self.session.command_stack.remove_callback(self.editing.end_steps)
        lives = registry_of(self.session).lives
        if lives.get(self.data.uuid) is self:
            del lives[self.data.uuid]
        self.hide_residual()
        self.closed = True

    # --- results ---------------------------------------------------------------------------------

    @property
    def spectrum(self) -> Spectrum:
        """Spectrum of `shown` with the committed operator; see `Extraction.to_spectrum`.

        Raises
        ------
        LRSError
            If the extraction fails.
        """
        return self._committed_extraction().to_spectrum()

    def run_all(self) -> Extraction:
        """Extract the image, or each integration if it is a stack, with the committed operator.

        Raises
        ------
        LRSError
            See `Extract1D.run`.
        """
        return self._extract.run(self.image)

    def _committed_extraction(self) -> Extraction:
        if self.extraction is not None and self.operator == self._extract and self._checked:
            return self.extraction
        with warnings.catch_warnings(action="ignore"):
            return self._extract.run(self.image_for(self._extract))

    def measure(self) -> Measured:
        """Measure position and width of the source in `shown`, and the aperture with the best S/N.

        The result is stored in `measured`. The first call for an integration takes some tenths of a
        second. See `glue_lrs.measurement.curve_of_growth.measure_with_growth`.

        Raises
        ------
        LRSError
            If there is no source, or it cannot be measured.
        """
        if self.integration not in self._measured:
            # `Measured.notes` has the same content as the warnings.
            with warnings.catch_warnings(action="ignore", category=LRSWarning):
                self._measured[self.integration] = Measured(*measure_with_growth(self.shown))
        self.measured = self._measured[self.integration]
        return self.measured

    def load_comparison(self, source: str | PathLike[str] | Data | None) -> None:
        """Set the spectrum with which to compare, or none.

        Parameters
        ----------
        source : str, path-like, Data or None
            An x1d or x1dints file, or the glue dataset of a spectrum. From a stack of spectra,
            `integration` selects a spectrum or, if None, the median.

        Raises
        ------
        LRSError
            If `source` is not a spectrum.
        """
        self.compared = None if source is None else comparison_of(source)
        self.update_comparison()
        self.persistence.store()

    def hide_residual(self) -> None:
        """Hide the residual; its dataset stays in glue's collection."""
        self.residual_shown = False

    # --- edits -----------------------------------------------------------------------------------

    def preview(self, target: Extract1D | Sequence[Region]) -> None:
        """Show the result with an operator or with regions; see `Editing.preview`."""
        self.editing.preview(target)

    def commit(self, label: str = "change the extraction", step: object = None) -> bool:
        """Commit the operator that is shown; see `Editing.commit`."""
        return self.editing.commit(label, step)

    def cancel(self) -> None:
        """Discard the preview and show the committed operator again."""
        self.editing.cancel()

    def set(
        self,
        target: Extract1D | Sequence[Region],
        label: str = "change the extraction",
        step: object = None,
    ) -> bool:
        """Show and commit an operator or regions; see `preview` and `commit`."""
        return self.editing.set(target, label, step)

    def add_region(self, kind: Kind, lower: float, upper: float) -> bool:
        """Add a straight region between two positions; see `set`."""
        return self.editing.add_region(kind, lower, upper)

    def delete_region(self, index: int) -> bool:
        """Delete a region, unless it is the only aperture; see `set`."""
        return self.editing.delete_region(index)

    # --- actions ---------------------------------------------------------------------------------

    def to_source(self) -> bool:
        """Centre the aperture on the measured source; see `Actions.to_source`."""
        return self.actions.to_source()

    def three_fwhm(self, n: float = 3.0) -> bool:
        """Make the aperture n times as wide as the measured FWHM, around the source; see `set`."""
        return self.actions.three_fwhm(n)

    def best_width(self) -> bool:
        """Centre an aperture with the width of best signal to noise on the source; see `set`."""
        return self.actions.best_width()

    def residual(self) -> Data | None:
        """Fit the source, and show `shown` minus the model; see `Actions.residual`."""
        return self.actions.residual()

    def add_background(self) -> bool:
        """Place background regions beside the source; see `Actions.add_background`."""
        return self.actions.add_background()

    def default(self) -> bool:
        """Set the operator from the built-in reference file; keep the aperture correction."""
        return self.actions.default()

    def load_reference(self, path: str | PathLike[str]) -> bool:
        """Set aperture and background from a reference file; see `Actions.load_reference`."""
        return self.actions.load_reference(path)

    def load_apcorr(self, path: str | PathLike[str] | None) -> bool:
        """Set the aperture correction from a file, or none; see `Actions.load_apcorr`."""
        return self.actions.load_apcorr(path)

    def subset_to_region(self, subset: Subset | SubsetGroup | SubsetState, kind: Kind) -> bool:
        """Make a subset the aperture or a background region; see `Actions.subset_to_region`."""
        return self.actions.subset_to_region(subset, kind)

    # --- selection -------------------------------------------------------------------------------

    def select(self, low: float, high: float) -> None:
        """Select a range of wavelengths (micron) in glue; see `Selection.select`."""
        self.selection.select(low, high)

    def deselect(self) -> None:
        """Empty the subset that `wavelength_range` follows; see `Selection.deselect`."""
        self.selection.deselect()

    # --- files -----------------------------------------------------------------------------------

    def save_reference(self, path: str | PathLike[str], overwrite: bool = False) -> None:
        """Write an EXTRACT1D reference file that is equivalent to the committed operator.

        ``extract_1d`` with this file as ``override_extract1d`` and with the same APCORR file
        returns the same spectrum for this image; see `Extract1D.to_reference`.

        Raises
        ------
        LRSError
            If the operator cannot be represented, or the file exists or cannot be written.
        """
        self._extract.to_reference(self.image).write(path, overwrite=overwrite)

    def save_spectrum(self, path: str | PathLike[str], overwrite: bool = False) -> None:
        """Write an x1d file, or for a stack an x1dints file with all integrations.

        Raises
        ------
        LRSError
            If the extraction fails, or the file exists or cannot be written.
        """
        self.run_all().write(path, overwrite=overwrite)

    def save_figure(self, path: str | PathLike[str], overwrite: bool = False) -> None:
        """Write a figure of the image with its regions, slit profiles and spectrum.

        It has the comparison, and says which aperture correction was applied.

        Raises
        ------
        LRSError
            If the extraction fails, or the file exists or cannot be written.
        """
        figure = product_figure(self, self._committed_extraction())
        save(figure, path, overwrite=overwrite)

    def python(self) -> str:
        """Return the lines of Python that reproduce `spectrum` exactly.

        Raises
        ------
        LRSError
            If the image or the aperture correction does not come from a file.
        """
        return python_lines(self._extract, self.image, self.integration)

    # --- callbacks -------------------------------------------------------------------------------

    def _data_removed(self, message: messages.DataCollectionDeleteMessage) -> None:
        if message.data is self.data:
            self.close()
        elif message.data is self.residual_data:
            self.hide_residual()
            self.residual_data = None

    def _pixels_changed(self, message: messages.DataMessage) -> None:
        if message.data is not self.data:
            return
        try:
            image = slit_image(self.data)
        except LRSError as error:
            self.notify(panel_text(error, self.image), "error")
            return
        if image is not self.image:
            self.set_image(image)

    def _integration_changed(self, *_: object) -> None:
        if self.closed:
            return
        self.show(self.operator)
        self.measured = self._measured.get(self.integration)
        self.hide_residual()  # the residual is that of another integration
        if self.operator is self._extract:
            self._update_spectrum_data()
        self.arrangement.extract_again()
        self.update_comparison()
        self.persistence.store()

    def _update_spectrum_data(self) -> None:
        try:
            update_spectrum_data(self.spectrum_data, self.extraction)
        except LRSError as error:  # the user has changed the dataset, but the extraction is valid
            self.notify(panel_text(error, self.image), "error")

    def update_comparison(self) -> None:
        """Set `comparison` to the spectrum of the comparison for the image that is shown."""
        name = None if self.compared is None else self.compared.source.get("setup")
        if name is not None and self.arrangement.named(name) is not None:
            with suppress(LRSError):  # the last spectrum of the setup remains
                self.compared = self.arrangement.comparison(name)
        compared = self.compared
        with delay_callback(self, "comparison", "comparison_label"):
            self.comparison = None if compared is None else compared.spectrum(self.integration)
            self.comparison_label = "" if compared is None else compared.label
