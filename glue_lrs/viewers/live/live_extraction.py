"""LiveExtraction: an image in glue, the operator that the user edits, and its spectrum."""

from __future__ import annotations

import warnings
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from echo import delay_callback
from glue.core import Data, HubListener
from glue.core import message as messages
from glue.core.session import Session

from glue_lrs.errors import LRSError
from glue_lrs.plotting.files import save
from glue_lrs.plotting.product import plot_product
from glue_lrs.viewers.datasets.images import slit_image
from glue_lrs.viewers.datasets.spectra import spectrum_data
from glue_lrs.viewers.live.actions import Actions
from glue_lrs.viewers.live.comparison import comparison_of, flux_ratio
from glue_lrs.viewers.live.cross_dispersion_profile import cross_dispersion_profile
from glue_lrs.viewers.live.links import derived_data
from glue_lrs.viewers.live.messages import joined, panel_text
from glue_lrs.viewers.live.registry import registry_of
from glue_lrs.viewers.live.script import python_lines
from glue_lrs.viewers.live.selection import Selection
from glue_lrs.viewers.live.statistics import extraction_statistics, limits_text

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from specutils import Spectrum

    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.viewers.live.cross_dispersion_profile import CrossDispersionProfile
    from glue_lrs.viewers.live.statistics import ExtractionStatistics

#: Priority of the extraction's own callbacks, which must run before the callbacks of viewers.
_FIRST = 1000


class LiveExtraction(Actions, Selection, HubListener):
    """An image in glue, the `Extract1D` operator that the user edits, and the resulting spectrum.

    Made by `open_extraction`. The committed operator is set by the last command on glue's undo
    stack; a drag previews another operator. ``live.add_callback(name, function)`` (see `echo`)
    calls a function when a property with a star changes, after `operator`, `extraction` and
    `message` are set.

    Attributes
    ----------
    operator*, extraction* : Extract1D, Extraction or None
        The operator that is shown, either the committed operator or a preview, and the extraction
        of `shown` with it, or None if it fails.
    message* : str
        Reason why there is no extraction, or notes about it, in one line; empty if there are none.
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
    rows, row_wavelength : ndarray
        Number of each row of the image, and its wavelength in micron; NaN where it has none.
    data, spectrum_data, residual_data : Data
        Datasets of the image, of the spectrum with the committed operator, and of the residual (or
        None) in glue's collection.
    compared : Comparison or None
        Spectrum or stack of spectra that was loaded by `load_comparison`.
    last_background : Background or None
        Background that was removed last. Its fit is used for background regions drawn later.
    """

    def __init__(self, session: Session, data: Data, image: SlitImage) -> None:
        super().__init__(session, data, image)
        spectrum = derived_data(session.data_collection, data)
        notes = self._restore(spectrum)
        self._set_ranges(self.wavelength_ranges)
        self.show(self._extract)
        if spectrum is None:
            spectrum = spectrum_data(self.extraction, f"{data.label} spectrum", image=image)
        self.spectrum_data = spectrum
        self._update_comparison()
        if notes:
            self.message = joined(*notes, self.message)
        self._update_spectrum_data()
        self.add_spectrum()
        self._store()

        self.add_callback("integration", self._valid_integration, validator=True)
        self.add_callback("integration", self._integration_changed, priority=_FIRST)
        self.add_callback("wavelength_range", self._range_changed, priority=_FIRST)
        for name in ("rows_averaged", "cursor_row", "wavelength_ranges", "residual_shown"):
            self.add_callback(name, self._store_view)
        session.command_stack.add_callback(self._end_steps)
        for message, handler in (
            (messages.DataCollectionDeleteMessage, self._data_removed),
            (messages.NumericalDataChangedMessage, self._pixels_changed),
            (messages.SubsetCreateMessage, self._subset_changed),
            (messages.SubsetUpdateMessage, self._subset_changed),
            (messages.SubsetDeleteMessage, self._subset_removed),
        ):
            session.hub.subscribe(self, message, handler=handler)

    def __repr__(self) -> str:
        return f"<LiveExtraction of {self.data.label}{', closed' if self.closed else ''}>"

    def set_image(self, image: SlitImage) -> None:
        """Replace the image after its pixels were changed in glue, and extract again."""
        self._use(image)
        self.measured = None
        self.hide_residual()
        self.show(self._extract)
        self._update_spectrum_data()

    def close(self) -> None:
        """End the extraction; its data stay in glue's collection."""
        if self.closed:
            return
        self.session.hub.unsubscribe_all(self)
        self.session.command_stack.remove_callback(self._end_steps)
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
        if self.extraction is not None and self.operator == self._extract:
            return self.extraction
        with warnings.catch_warnings(action="ignore"):
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
        self._store()

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
        title, number = self.image.label, self.integration
        if self.image.is_stack:
            title += ", median of all" if number is None else f", integration {number + 1}"
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

    def _integration_changed(self, *_: object) -> None:
        if self.closed:
            return
        self.show(self.operator)
        self.measured = self._measured.get(self.integration)
        self.hide_residual()  # the residual is that of another integration
        if self.operator is self._extract:
            self._update_spectrum_data()
        self._update_comparison()
        self._store()

    def _update_comparison(self) -> None:
        compared = self.compared
        with delay_callback(self, "comparison", "comparison_label"):
            self.comparison = None if compared is None else compared.spectrum(self.integration)
            self.comparison_label = "" if compared is None else compared.label
