"""LiveExtraction: an image in glue, the operator that the user edits, and its spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from echo import CallbackProperty, HasCallbackProperties, delay_callback
from glue.core import Data
from glue.core.session import Session

from glue_lrs.errors import LRSError
from glue_lrs.plotting.files import save
from glue_lrs.plotting.product import plot_product
from glue_lrs.viewers.datasets.session_meta import RESIDUAL_KEY
from glue_lrs.viewers.datasets.spectra import spectrum_data, update_spectrum_data
from glue_lrs.viewers.live.actions import Actions, default_operator
from glue_lrs.viewers.live.comparison import comparison_of, flux_ratio
from glue_lrs.viewers.live.cross_dispersion_profile import cross_dispersion_profile
from glue_lrs.viewers.live.editing import Editing
from glue_lrs.viewers.live.glue_listener import GlueListener
from glue_lrs.viewers.live.links import link_image_and_spectrum
from glue_lrs.viewers.live.live_image import LiveImage
from glue_lrs.viewers.live.messages import (
    collected_warnings,
    joined,
    panel_text,
    without_warnings,
)
from glue_lrs.viewers.live.persistence import Persistence, restored_state, spectrum_of
from glue_lrs.viewers.live.registry import forget
from glue_lrs.viewers.live.residual import residual_of
from glue_lrs.viewers.live.script import python_lines
from glue_lrs.viewers.live.selection import Selection
from glue_lrs.viewers.live.statistics import extraction_statistics, limits_text

if TYPE_CHECKING:
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
    from glue_lrs.viewers.live.source_measurement import Measured
    from glue_lrs.viewers.live.statistics import ExtractionStatistics

#: Priority of the extraction's own callbacks, which must run before the callbacks of viewers.
_FIRST = 1000


class LiveExtraction(HasCallbackProperties):
    """An image in glue, the `Extract1D` operator that the user edits, and the resulting spectrum.

    Made by `open_extraction`. The committed operator is set by the last command on glue's undo
    stack; a drag previews another operator. ``live.add_callback(name, function)`` (see `echo`)
    calls a function when a property with a star changes, after `operator`, `extraction` and
    `message` are set. `editing`, `actions`, `selection` and `persistence` implement the methods.

    Attributes
    ----------
    operator*, extraction* : Extract1D, Extraction or None
        The operator that is shown, either the committed operator or a preview, and the extraction
        of `shown` with it, or None if it fails.
    message* : str
        Reason why there is no extraction, or notes about it, in one line; empty if there are none.
    integration* : int or None
        Number, from 0, of the integration of a stack that is shown. None shows the median of all
        (see `SlitImage.median`), and is the only value for a single image.
    cursor_row*, rows_averaged* : float, int
        Row of the crosshair, and number of rows that the slit profile averages around it.
    wavelength_range* : (float, float) or None
        The selected range in micron. It follows the subset that was changed last in glue.
    wavelength_ranges* : tuple of (float, float)
        Ascending parts of that range. There are several if glue's subset modes combine ranges.
    comparison*, comparison_label* : `~specutils.Spectrum` or None, str
        Spectrum to compare with, wavelengths ascending, and its name.
    selected* : int or None
        Index in `regions` of the selected region.
    measured* : Measured or None
        Measurement of the source in `shown`; None before `measure` is called.
    residual_shown*, residual_limit* : bool, float
        Whether image viewers show `residual_data`, and the limit of its colour scale.
    closed* : bool
        Whether the extraction has ended because its data were removed. It cannot be changed then.
    data, spectrum_data, residual_data : Data
        Datasets of the image, of the spectrum with the committed operator, and of the residual (or
        None) in glue's collection.
    compared : Comparison or None
        Spectrum to compare with, or stack of such spectra, with the file or dataset.
    last_background : Background or None
        Background that was removed last. Regions that are drawn later use its fit.
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

    def __init__(self, session: Session, data: Data, image: SlitImage) -> None:
        super().__init__()
        self.session = session
        self.data = data
        self.compared: Comparison | None = None
        self.last_background: Background | None = None
        self._live_image = LiveImage(image)
        self.editing = Editing(self)
        self.actions = Actions(self)
        self.selection = Selection(self)
        self.persistence = Persistence(self)
        self._listener = GlueListener(self)

        collection = session.data_collection
        spectrum = spectrum_of(collection, data)
        stored = restored_state(spectrum, collection)
        self._extract = stored.operator or default_operator(image, None)
        self.integration = self._live_image.valid_integration(stored.integration)
        self.rows_averaged = stored.rows_averaged
        middle = self._live_image.middle_row
        self.cursor_row = middle if stored.cursor_row is None else stored.cursor_row
        self.selection.set_ranges(stored.wavelength_ranges)
        self.selected = 0
        self.show(self._extract)
        if spectrum is None:
            spectrum = spectrum_data(self.extraction, f"{data.label} spectrum", image=image)
        self.spectrum_data = spectrum
        self.compared = stored.comparison
        self._update_comparison()
        self.residual_data: Data | None = residual_of(collection, data)
        if self.residual_data is not None:
            self.residual_limit = float(self.residual_data.meta[RESIDUAL_KEY].get("limit", 1.0))
            self.residual_shown = stored.residual_shown
        if stored.notes:
            self.message = joined(*stored.notes, self.message)
        self._update_spectrum_data()
        self.add_spectrum()
        self.persistence.store()

        self.add_callback("integration", self._valid_integration, validator=True)
        self.add_callback("integration", self._integration_changed, priority=_FIRST)
        self.add_callback("wavelength_range", self.selection.range_changed, priority=_FIRST)
        for name in ("rows_averaged", "cursor_row", "wavelength_ranges", "residual_shown"):
            self.add_callback(name, self.persistence.store_view)
        self._listener.connect()

    def __repr__(self) -> str:
        return f"<LiveExtraction of {self.data.label}{', closed' if self.closed else ''}>"

    # --- state -----------------------------------------------------------------------------------

    @property
    def image(self) -> SlitImage:
        """Image from which `data` was made."""
        return self._live_image.image

    @property
    def rows(self) -> NDArray[np.float64]:
        """Number of each row of the image."""
        return self._live_image.rows

    @property
    def row_wavelength(self) -> NDArray[np.float64]:
        """Wavelength of each row in micron; NaN where it has none."""
        return self._live_image.row_wavelength

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
        """The committed background. Setting it is a command, as for `aperture`."""
        return self._extract.background

    @background.setter
    def background(self, background: Background | None) -> None:
        operator = replace(self._extract, background=background)
        self.editing.set_or_raise(operator, "change the background")

    @property
    def shown(self) -> SlitImage:
        """The image that is shown: an integration, or the median of all integrations."""
        return self._live_image.shown(self.integration)

    @property
    def regions(self) -> tuple[Region, ...]:
        """Regions of `operator` at their positions on the image, aperture first."""
        return self.regions_of(self.operator)

    def regions_of(self, operator: Extract1D) -> tuple[Region, ...]:
        """Return the regions of an operator on the image; none if the trace is not known."""
        return self._live_image.regions_of(operator, self._extract)

    def set_image(self, image: SlitImage) -> None:
        """Replace the image after its pixels were changed in glue, and extract again."""
        self._live_image = LiveImage(image)
        self.measured = None
        self.hide_residual()
        self.show(self._extract)
        self._update_spectrum_data()

    def show(self, operator: Extract1D) -> None:
        """Extract `shown` with an operator; set `operator`, `extraction` and `message`."""
        extraction = None
        try:
            with collected_warnings(self.image) as notes:
                extraction = operator.run(self.shown)
            message = joined(*notes)
        except LRSError as error:
            message = panel_text(error, self.image)
        with delay_callback(self, "operator", "extraction", "message", "selected"):
            self.operator = operator
            self.extraction = extraction
            self.message = message
            if self.selected is not None and self.selected >= len(self.regions):
                self.selected = None

    def accept(self, operator: Extract1D) -> None:
        """Make an operator the committed operator; only for commands, otherwise use `set`."""
        if self.closed:
            return
        if operator.background is None and self._extract.background is not None:
            self.last_background = self._extract.background
        self._extract = operator
        if self.operator != operator or self.extraction is None:
            self.show(operator)
        else:
            self.operator = operator
        if self.spectrum_data not in self.session.data_collection:  # needed to save the operator
            self.add_spectrum()
        self._update_spectrum_data()
        self.persistence.store()

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
        self._listener.disconnect()
        forget(self)
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
        if self.extraction is not None and self.operator == self._extract:
            return self.extraction
        with without_warnings():
            return self._extract.run(self.shown)

    def cross_dispersion_profile(
        self, row: float | None = None, number: int | None = None
    ) -> CrossDispersionProfile:
        """Average rows of `shown` to a profile across the slit.

        By default, average `rows_averaged` rows around `cursor_row`. For the parameters see
        `glue_lrs.viewers.live.cross_dispersion_profile.cross_dispersion_profile`.
        """
        row = self.cursor_row if row is None else row
        number = self.rows_averaged if number is None else number
        return cross_dispersion_profile(self.shown, row, number)

    def ratio(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Divide flux by comparison; see `glue_lrs.viewers.live.comparison.flux_ratio`."""
        return flux_ratio(self.extraction, self.comparison)

    def numbers(self) -> ExtractionStatistics:
        """Compute statistics of `extraction` in the selected ranges of wavelength."""
        row = int(np.clip(round(self.cursor_row), 0, self.rows.size - 1))
        limits = limits_text(self.regions, row, float(self.row_wavelength[row]))
        return extraction_statistics(self.extraction, self.ratio(), self.wavelength_ranges, limits)

    # --- edits -----------------------------------------------------------------------------------

    def preview(self, target: Extract1D | Sequence[Region]) -> None:
        """Show the result with an operator or with regions, without committing it.

        If this fails, `extraction` is None and `message` gives the reason; nothing is raised.

        Parameters
        ----------
        target : Extract1D or sequence of Region
            An operator, or the complete list of regions. Limits of straight regions are rounded to
            0.01 pixel, except for regions of the committed operator.
        """
        self.editing.preview(target)

    def commit(self, label: str = "change the extraction", step: object = None) -> bool:
        """Commit the operator that is shown, as a command on glue's command stack.

        Parameters
        ----------
        label : str
            Label of the command in glue's undo menu.
        step : object, optional
            Identifies a kind of small steps, such as presses of an arrow key. Successive calls with
            equal `step`, each within a second of the previous call, form one command.

        Returns
        -------
        bool
            Whether the operator has changed and is committed. If nothing can be extracted with it,
            the committed operator is shown again, and `message` gives the reason.
        """
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

    def measure(self) -> Measured:
        """Measure position and width of the source in `shown`, and the aperture with the best S/N.

        The result is stored in `measured`. The first call for an integration takes some tenths of a
        second. See `glue_lrs.measurement.curve_of_growth.measure_with_growth`.

        Raises
        ------
        LRSError
            If there is no source.
        """
        self.measured = self._live_image.measure(self.integration)
        return self.measured

    def to_source(self) -> bool:
        """Centre the aperture on the measured source, keeping its width; see `set`.

        Background regions stay where they are. If no source can be measured, the position from the
        header and the WCS is used. `message` says so, and reports if the two positions disagree.
        """
        return self.actions.to_source()

    def three_fwhm(self, n: float = 3.0) -> bool:
        """Make the aperture n times as wide as the measured FWHM, around the source; see `set`."""
        return self.actions.three_fwhm(n)

    def best_width(self) -> bool:
        """Centre an aperture with the width of best signal to noise on the source; see `set`."""
        return self.actions.best_width()

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
        return self.actions.residual()

    def hide_residual(self) -> None:
        """Hide the residual; its dataset stays in glue's collection."""
        self.residual_shown = False

    def default(self) -> bool:
        """Set the operator from the built-in reference file; keep the aperture correction."""
        return self.actions.default()

    def load_reference(self, path: str | PathLike[str]) -> bool:
        """Set the aperture and the background from an EXTRACT1D reference file; see `set`.

        Raises
        ------
        LRSError
            If the file cannot be used.
        """
        return self.actions.load_reference(path)

    def load_apcorr(self, path: str | PathLike[str] | None) -> bool:
        """Set the aperture correction from an APCORR reference file, or none; see `set`.

        Raises
        ------
        LRSError
            If the file cannot be used, or not for this image.
        """
        return self.actions.load_apcorr(path)

    def subset_to_region(self, subset: Any, kind: Kind) -> bool:
        """Replace the aperture by a subset of the image, or add the subset to the background.

        Parameters
        ----------
        subset : Subset, SubsetGroup or SubsetState
            See `glue_lrs.viewers.live.subsets.regions_of_subset`.
        kind : {"aperture", "background"}
            Whether the subset becomes an aperture or a background region.

        Raises
        ------
        LRSError
            If the subset selects no pixels, or less than one pixel across the slit.
        """
        return self.actions.subset_to_region(subset, kind)

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

    # --- selection -------------------------------------------------------------------------------

    def select(self, low: float, high: float) -> None:
        """Select a range of wavelengths (micron) in glue, in the spectrum and in the image.

        This is a command on glue's command stack. It changes the subset that is edited in glue, or
        makes a new subset, according to glue's subset mode.
        """
        self.selection.select(low, high)

    def deselect(self) -> None:
        """Empty the subset that `wavelength_range` follows, so that this becomes None.

        This is a command on glue's command stack. The empty subset is kept for the next range.
        """
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

        Raises
        ------
        LRSError
            If the extraction fails, or the file exists or cannot be written.
        """
        title = self._live_image.title(self.integration)
        figure = plot_product(self.shown, self._extract, self._committed_extraction(), title=title)
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

    def _valid_integration(self, value: int | None) -> int | None:
        return self._live_image.valid_integration(value)

    def _integration_changed(self, *_: Any) -> None:
        if self.closed:
            return
        self.show(self.operator)
        self.measured = self._live_image.measured(self.integration)
        self.hide_residual()  # it was made from another integration
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
