"""LiveExtraction: an image in glue, the operator that the user edits, and its spectrum."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from echo import CallbackProperty, HasCallbackProperties, delay_callback
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
from glue_lrs.viewers.live.comparison import comparison_of, flux_ratio
from glue_lrs.viewers.live.cross_dispersion_profile import cross_dispersion_profile
from glue_lrs.viewers.live.editing import Editing
from glue_lrs.viewers.live.links import derived_data, link_image_and_spectrum
from glue_lrs.viewers.live.messages import findings_text, joined, panel_text
from glue_lrs.viewers.live.persistence import Persistence
from glue_lrs.viewers.live.product_figure import product_figure
from glue_lrs.viewers.live.regions import RowWavelength, regions_of, row_wavelength
from glue_lrs.viewers.live.registry import registry_of
from glue_lrs.viewers.live.script import python_lines
from glue_lrs.viewers.live.selection import Selection
from glue_lrs.viewers.live.source_measurement import Measured
from glue_lrs.viewers.live.statistics import extraction_statistics, limits_text

if TYPE_CHECKING:
    from glue.core.subset import Subset, SubsetState
    from glue.core.subset_group import SubsetGroup
    from numpy.typing import NDArray
    from specutils import Spectrum

    from glue_lrs.apertures.aperture import Aperture
    from glue_lrs.apertures.background import Background
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.viewers.live.comparison import Comparison
    from glue_lrs.viewers.live.cross_dispersion_profile import CrossDispersionProfile
    from glue_lrs.viewers.live.regions import Kind, Region
    from glue_lrs.viewers.live.statistics import ExtractionStatistics

#: Priority of the extraction's own callbacks, which must run before the callbacks of viewers.
_FIRST = 1000


class LiveExtraction(HasCallbackProperties):
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
    """

    operator = CallbackProperty(None)
    extraction = CallbackProperty(None)
    message = CallbackProperty("")
    findings = CallbackProperty(())
    integration = CallbackProperty(None)
    rows_averaged = CallbackProperty(11)
    cursor_row = CallbackProperty(0.0)
    wavelength_range = CallbackProperty(None)
    wavelength_ranges = CallbackProperty(())
    comparison = CallbackProperty(None)
    comparison_label = CallbackProperty("")
    selected = CallbackProperty(0)
    measured = CallbackProperty(None)
    residual_shown = CallbackProperty(False)
    residual_limit = CallbackProperty(1.0)
    closed = CallbackProperty(False)

    spectrum_data: Data
    residual_data: Data | None = None
    compared: Comparison | None = None
    last_background: Background | None = None

    def __init__(self, session: Session, data: Data, image: SlitImage) -> None:
        super().__init__()
        self.session = session
        self.data = data
        self.editing = Editing(self)
        self.actions = Actions(self)
        self.selection = Selection(self)
        self.persistence = Persistence(self)
        self._listener = HubListener()
        self._use(image)

        self.add_callback("integration", self._valid_integration, validator=True)
        spectrum = derived_data(session.data_collection, data)
        restored, notes = self.persistence.restore(spectrum)
        self._extract = restored or default_operator(image, None)
        self.show(self._extract)
        if spectrum is None:
            spectrum = spectrum_data(self.extraction, f"{data.label} spectrum", image=image)
        self.spectrum_data = spectrum
        self._update_comparison()
        if notes:
            self.message = joined(*notes, self.message)
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

    def _use(self, image: SlitImage) -> None:
        """Set the image, and empty the caches, which contain results for the previous image."""
        self.image = image
        self.rows = np.arange(image.shape[0], dtype=float)
        self.row_wavelength = row_wavelength(image)
        self.wavelengths = RowWavelength(self.row_wavelength)
        self._images: dict[int | None, SlitImage] = {}
        self._regions: list[tuple[Extract1D, tuple[Region, ...]]] = []
        self._measured: dict[int | None, Measured] = {}

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

    @property
    def shown(self) -> SlitImage:
        """The image that is shown: an integration, or the median of all integrations."""
        if not self.image.is_stack:
            return self.image
        number = self.integration
        if number not in self._images:
            made = self.image.median() if number is None else self.image.integration(number)
            for other in self._images.keys() - {None}:  # the median is kept, because it is slow
                del self._images[other]
            self._images[number] = made
        return self._images[number]

    @property
    def regions(self) -> tuple[Region, ...]:
        """Regions of `operator` at their positions on the image, aperture first."""
        return self.regions_of(self.operator)

    def regions_of(self, operator: Extract1D) -> tuple[Region, ...]:
        """Return the regions of an operator on the image; none if the trace is not known.

        The regions of this and of the committed operator are cached, because they may need the WCS.
        """
        for known, regions in self._regions:
            if known is operator:
                return regions
        try:
            regions = regions_of(operator, self.image)
        except LRSError:  # the extraction fails for the same reason and gives a message
            regions = ()
        kept = [one for one in self._regions if one[0] is self._extract]
        self._regions = [*kept, (operator, regions)]
        return regions

    def show(self, operator: Extract1D, check: bool = True) -> None:
        """Run an operator on `shown`; set `operator`, `extraction`, `findings` and `message`."""
        extraction = None
        try:
            with warnings.catch_warnings(action="ignore"):
                extraction = operator.run(self.shown, check=check)
            message = findings_text(extraction.findings, self.image)
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

    def accept(self, operator: Extract1D) -> None:
        """Make an operator the committed operator; only for commands, otherwise use `set`."""
        if self.closed:
            return
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
        self.persistence.store()

    def set_image(self, image: SlitImage) -> None:
        """Replace the image after its pixels were changed in glue, and extract again."""
        self._use(image)
        self.measured = None
        self.hide_residual()
        self.show(self._extract)
        self._update_spectrum_data()

    def check(self) -> None:
        """Measure the source, and set `findings` and `message` to those of `Extract1D.check`."""
        if self.extraction is not None:
            self.findings = check(self.operator, self.shown, self.extraction)
            self.message = findings_text(self.findings, self.image)

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
            return self._extract.run(self.shown)

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

    def cross_dispersion_profile(
        self, row: float | None = None, number: int | None = None
    ) -> CrossDispersionProfile:
        """Average rows of `shown` to a profile along the slit.

        By default, average `rows_averaged` rows around `cursor_row`. For the parameters see
        `glue_lrs.viewers.live.cross_dispersion_profile.cross_dispersion_profile`.
        """
        row = self.cursor_row if row is None else row
        return cross_dispersion_profile(self.shown, row, number or self.rows_averaged)

    def ratio(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Divide the flux of `extraction` by the flux of `comparison`.

        The result is described in `glue_lrs.viewers.live.comparison.flux_ratio`.
        """
        return flux_ratio(self.extraction, self.comparison)

    def numbers(self) -> ExtractionStatistics:
        """Compute statistics of `extraction` in the selected ranges of wavelength."""
        row = int(np.clip(round(self.cursor_row), 0, self.rows.size - 1))
        limits = limits_text(self.regions, row, float(self.row_wavelength[row]))
        return extraction_statistics(self.extraction, self.ratio(), self.wavelength_ranges, limits)

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
        self._update_comparison()
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
            self.message = panel_text(error, self.image)
            return
        if image is not self.image:
            self.set_image(image)

    def _valid_integration(self, number: int | None) -> int | None:
        """Return the nearest valid integration number; None for the median or a single image."""
        if number is None or not self.image.is_stack:
            return None
        return int(np.clip(int(number), 0, self.image.data.shape[0] - 1))

    def _integration_changed(self, *_: object) -> None:
        if self.closed:
            return
        self.show(self.operator)
        self.measured = self._measured.get(self.integration)
        self.hide_residual()  # the residual is that of another integration
        if self.operator is self._extract:
            self._update_spectrum_data()
        self._update_comparison()
        self.persistence.store()

    def _update_spectrum_data(self) -> None:
        try:
            update_spectrum_data(self.spectrum_data, self.extraction)
        except LRSError as error:  # the user has changed the dataset, but the extraction is valid
            self.message = joined(self.message, panel_text(error, self.image))

    def _update_comparison(self) -> None:
        compared = self.compared
        with delay_callback(self, "comparison", "comparison_label"):
            self.comparison = None if compared is None else compared.spectrum(self.integration)
            self.comparison_label = "" if compared is None else compared.label
