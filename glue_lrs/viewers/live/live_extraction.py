"""LiveExtraction: an image in glue, the operator that is edited on it, and its spectrum."""

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

__all__ = ["LiveExtraction"]

#: Priority of the extraction's own callbacks, which are called before those of viewers.
_FIRST = 1000


class LiveExtraction(HasCallbackProperties):
    """An image in glue, the operator that is set for it, and its spectrum.

    Made by `open_extraction`. It holds the state, and the parts that act on it: `editing`,
    `actions`, `selection`, `persistence`. Properties with a star can be listened to by
    ``live.add_callback(name, function)`` (see `echo`); `operator`, `extraction` and `message` are
    all set before any callback is called.

    Attributes
    ----------
    operator*, extraction* : Extract1D, Extraction or None
        The operator that is shown, which is the committed one or a preview, and its result on
        `shown`, which is None if it fails.
    message* : str
        Why there is no extraction, or notes about it; one line, or "".
    integration* : int or None
        The integration of a stack that is shown, from 0; None means the median of all, see
        `SlitImage.median`. Always None for a single image.
    cursor_row*, rows_averaged* : float, int
        The row of the crosshair and of the slit profile, and the number of rows it averages.
    wavelength_range* : (float, float) or None
        The selected range in micron. It follows the subset that was changed last in glue.
    wavelength_ranges* : tuple of (float, float)
        The parts of the range, ascending: several if glue's subset modes have combined ranges.
    comparison*, comparison_label* : `~specutils.Spectrum` or None, str
        A spectrum to compare with, ascending, and its name.
    selected* : int or None
        Index in `regions` of the region that has the focus.
    measured* : Measured or None
        The measurement of the source in `shown`; None before `measure`.
    residual_shown*, residual_limit* : bool, float
        Whether image viewers show `residual_data`, and the limit of its colour scale.
    closed* : bool
        Whether the extraction has ended, as its data were removed. It can no longer be changed.
    data, spectrum_data, residual_data : Data
        The image, its spectrum, which follows the committed operator, and its residual (or None) in
        glue's collection.
    compared : Comparison or None
        The spectrum to compare with, or the stack of them, with its source.
    last_background : Background or None
        The background that was removed last: regions that are drawn later take its fit.
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
        """The image of `data`."""
        return self._live_image.image

    @property
    def rows(self) -> NDArray[np.float64]:
        """Number of each row of the image."""
        return self._live_image.rows

    @property
    def row_wavelength(self) -> NDArray[np.float64]:
        """Wavelength of each row in micron, NaN where it has none."""
        return self._live_image.row_wavelength

    @property
    def extract(self) -> Extract1D:
        """The committed operator. To set it, use `set`."""
        return self._extract

    @property
    def aperture(self) -> Aperture:
        """The committed aperture. Setting it is a command on glue's stack.

        Raises
        ------
        LRSError
            On setting, if nothing can be extracted with it; then nothing changes.
        """
        return self._extract.aperture

    @aperture.setter
    def aperture(self, aperture: Aperture) -> None:
        operator = replace(self._extract, aperture=aperture)
        self.editing.set_or_raise(operator, "change the aperture")

    @property
    def background(self) -> Background | None:
        """The committed background. Setting it is a command on glue's stack; see `aperture`."""
        return self._extract.background

    @background.setter
    def background(self, background: Background | None) -> None:
        operator = replace(self._extract, background=background)
        self.editing.set_or_raise(operator, "change the background")

    @property
    def shown(self) -> SlitImage:
        """The image that is shown: an integration, or the median of all."""
        return self._live_image.shown(self.integration)

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions of `operator` at their positions on the image, aperture first."""
        return self.regions_of(self.operator)

    def regions_of(self, operator: Extract1D) -> tuple[Region, ...]:
        """Return the regions of an operator on the image; none if the trace is not known."""
        return self._live_image.regions_of(operator, self._extract)

    def set_image(self, image: SlitImage) -> None:
        """Replace the image, whose pixels were changed in glue, and extract again."""
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
        """Make an operator the committed one. For the commands of glue's stack: use `set`."""
        if self.closed:
            return
        if operator.background is None and self._extract.background is not None:
            self.last_background = self._extract.background
        self._extract = operator
        if self.operator != operator or self.extraction is None:
            self.show(operator)
        else:
            self.operator = operator
        if self.spectrum_data not in self.session.data_collection:  # a session needs it
            self.add_spectrum()
        self._update_spectrum_data()
        self.persistence.store()

    def add_spectrum(self) -> None:
        """Add `spectrum_data` to glue's collection and link it to the image, where it is not."""
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
        """The spectrum of `shown` with the committed operator: see `Extraction.to_spectrum`.

        Raises
        ------
        LRSError
            If the extraction fails.
        """
        return self._committed_extraction().to_spectrum()

    def run_all(self) -> Extraction:
        """Extract the image; a stack gives one spectrum for each integration.

        Raises
        ------
        LRSError
            As `Extract1D.run`.
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

        By default `rows_averaged` rows about `cursor_row`; for the parameters see
        `glue_lrs.viewers.live.cross_dispersion_profile.cross_dispersion_profile`.
        """
        row = self.cursor_row if row is None else row
        number = self.rows_averaged if number is None else number
        return cross_dispersion_profile(self.shown, row, number)

    def ratio(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Divide flux by comparison: see `glue_lrs.viewers.live.comparison.flux_ratio`."""
        return flux_ratio(self.extraction, self.comparison)

    def numbers(self) -> ExtractionStatistics:
        """Compute the statistics of `extraction` in the selected range of wavelengths."""
        row = int(np.clip(round(self.cursor_row), 0, self.rows.size - 1))
        limits = limits_text(self.regions, row, float(self.row_wavelength[row]))
        return extraction_statistics(self.extraction, self.ratio(), self.wavelength_ranges, limits)

    # --- edits -----------------------------------------------------------------------------------

    def preview(self, target: Extract1D | Sequence[Region]) -> None:
        """Show the result of an operator or of regions, without committing it.

        If it fails, `extraction` is None and `message` gives the reason; nothing is raised.

        Parameters
        ----------
        target : Extract1D or sequence of Region
            An operator, or the complete list of regions. The limits of straight regions that are
            not among those of the committed operator are rounded to 0.01 pixel.
        """
        self.editing.preview(target)

    def commit(self, label: str = "change the extraction", step: object = None) -> bool:
        """Commit the operator that is shown, as one command on glue's stack.

        Parameters
        ----------
        label : str
            Label of the command in the menu.
        step : object, optional
            Kind of a small step, such as that of an arrow key that is held down. Successive steps
            of the same kind, each within a second of the last, are one command.

        Returns
        -------
        bool
            Whether there was a change to commit. If nothing can be extracted, the committed
            operator is shown again, and `message` gives the reason.
        """
        return self.editing.commit(label, step)

    def cancel(self) -> None:
        """Show the committed operator again."""
        self.editing.cancel()

    def set(
        self,
        target: Extract1D | Sequence[Region],
        label: str = "change the extraction",
        step: object = None,
    ) -> bool:
        """Show and commit an operator or regions: see `preview` and `commit`."""
        return self.editing.set(target, label, step)

    def add_region(self, kind: Kind, lower: float, upper: float) -> bool:
        """Add a straight region between two positions; see `set`."""
        return self.editing.add_region(kind, lower, upper)

    def delete_region(self, index: int) -> bool:
        """Delete a region; see `set`. The last region of the aperture cannot be deleted."""
        return self.editing.delete_region(index)

    # --- actions ---------------------------------------------------------------------------------

    def measure(self) -> Measured:
        """Measure position and width of the source in `shown`, and the aperture of best S/N.

        It takes some tenths of a second, once for each integration, and sets `measured`: see
        `glue_lrs.measurement.curve_of_growth.measure_with_growth`.

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
        header and the WCS is taken. `message` reports this, and a disagreement between the two.
        """
        return self.actions.to_source()

    def three_fwhm(self, n: float = 3.0) -> bool:
        """Make the aperture n times as wide as the measured FWHM, about the source; see `set`."""
        return self.actions.three_fwhm(n)

    def best_width(self) -> bool:
        """Give the aperture the width of best signal to noise, about the source; see `set`."""
        return self.actions.best_width()

    def residual(self) -> Data | None:
        """Fit the source within the aperture, and show `shown` minus the model.

        The model is that of an optimal extraction with the committed operator, see
        `glue_lrs.extraction.factory.optimal_for`. The residual does not follow later edits, and is
        hidden when another integration is shown.

        Returns
        -------
        Data or None
            `residual_data`: shape (row, column), with the components ``residual`` (data minus
            model, in the image's unit), ``sigma`` (the same over its standard deviation) and
            ``rejected`` (1 where a pixel was rejected). None if the extraction is closed.

        Raises
        ------
        LRSError
            If nothing can be fitted; then the previous residual stays.
        """
        return self.actions.residual()

    def hide_residual(self) -> None:
        """Hide the residual; its dataset stays in glue's collection."""
        self.residual_shown = False

    def default(self) -> bool:
        """Set the built-in reference, with the present aperture correction; see `set`."""
        return self.actions.default()

    def load_reference(self, path: str | PathLike[str]) -> bool:
        """Set the aperture and the background of an EXTRACT1D reference; see `set`.

        Raises
        ------
        LRSError
            If the file cannot be used.
        """
        return self.actions.load_reference(path)

    def load_apcorr(self, path: str | PathLike[str] | None) -> bool:
        """Set the aperture correction of an APCORR reference, or none; see `set`.

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
            Kind of the new regions.

        Raises
        ------
        LRSError
            If it selects no pixels, or less than one across the slit.
        """
        return self.actions.subset_to_region(subset, kind)

    def load_comparison(self, source: str | PathLike[str] | Data | None) -> None:
        """Set the spectrum to compare with, or none.

        Parameters
        ----------
        source : str, path-like, Data or None
            An x1d or x1dints file, or the glue dataset of a spectrum. Of a stack of spectra, that
            of `integration` is taken, or the median of all.

        Raises
        ------
        LRSError
            If it is not a spectrum.
        """
        self.compared = None if source is None else comparison_of(source)
        self._update_comparison()
        self.persistence.store()

    # --- selection -------------------------------------------------------------------------------

    def select(self, low: float, high: float) -> None:
        """Select a range of wavelengths (micron) in glue, in the spectrum and in the image.

        This is a command on the stack. It changes the subset that is edited in glue, or makes one,
        according to glue's subset mode.
        """
        self.selection.select(low, high)

    def deselect(self) -> None:
        """Empty the subset that `wavelength_range` follows, which becomes None.

        This is a command on the stack. The subset itself stays, for the next range.
        """
        self.selection.deselect()

    # --- files -----------------------------------------------------------------------------------

    def save_reference(self, path: str | PathLike[str], overwrite: bool = False) -> None:
        """Write the EXTRACT1D reference that is equivalent to the committed operator.

        ``extract_1d`` with this file as ``override_extract1d``, and the same APCORR reference,
        returns the same spectrum of this image: see `Extract1D.to_reference`.

        Raises
        ------
        LRSError
            If a reference cannot represent it, or the file exists or cannot be written.
        """
        self._extract.to_reference(self.image).write(path, overwrite=overwrite)

    def save_spectrum(self, path: str | PathLike[str], overwrite: bool = False) -> None:
        """Write the x1d; of a stack the x1dints, with all integrations.

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
        self.hide_residual()  # it is that of another integration
        if self.operator is self._extract:
            self._update_spectrum_data()
        self._update_comparison()
        self.persistence.store()

    def _update_spectrum_data(self) -> None:
        try:
            update_spectrum_data(self.spectrum_data, self.extraction)
        except LRSError as error:  # the user has changed the dataset; the extraction is valid
            self.message = joined(self.message, panel_text(error, self.image))

    def _update_comparison(self) -> None:
        compared = self.compared
        with delay_callback(self, "comparison", "comparison_label"):
            self.comparison = None if compared is None else compared.spectrum(self.integration)
            self.comparison_label = "" if compared is None else compared.label
