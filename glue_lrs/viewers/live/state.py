"""LiveState: the image and the operator of a live extraction, and the results of both."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from echo import CallbackProperty, HasCallbackProperties, delay_callback
from glue.core import Data
from glue.core.session import Session

from glue_lrs.errors import LRSError, LRSWarning
from glue_lrs.measurement.curve_of_growth import measure_with_growth
from glue_lrs.viewers.datasets.spectra import update_spectrum_data
from glue_lrs.viewers.live.links import link_image_and_spectrum
from glue_lrs.viewers.live.messages import collected_warnings, joined, panel_text
from glue_lrs.viewers.live.regions import regions_of, row_wavelength
from glue_lrs.viewers.live.source_measurement import Measured

if TYPE_CHECKING:
    from glue_lrs.apertures.background import Background
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.viewers.live.comparison import Comparison
    from glue_lrs.viewers.live.regions import Region


class LiveState(HasCallbackProperties):
    """State of a live extraction; `LiveExtraction` documents its attributes.

    Parameters
    ----------
    session : Session
        Session in glue that contains the data.
    data : Data
        Dataset of the image.
    image : SlitImage
        Image, or stack of images, from which `data` was made.
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
    selected = CallbackProperty(0)
    measured = CallbackProperty(None)
    residual_shown = CallbackProperty(False)
    residual_limit = CallbackProperty(1.0)
    closed = CallbackProperty(False)

    _extract: Extract1D
    spectrum_data: Data
    residual_data: Data | None = None
    compared: Comparison | None = None
    last_background: Background | None = None

    def __init__(self, session: Session, data: Data, image: SlitImage) -> None:
        super().__init__()
        self.session = session
        self.data = data
        self._use(image)

    def _use(self, image: SlitImage) -> None:
        """Set the image, and empty the caches, which contain results for the previous image."""
        self.image = image
        self.rows = np.arange(image.shape[0], dtype=float)
        self.row_wavelength = row_wavelength(image)
        self._images: dict[int | None, SlitImage] = {}
        self._regions: list[tuple[Extract1D, tuple[Region, ...]]] = []
        self._fixed: tuple[Extract1D, Extract1D] | None = None
        self._measured: dict[int | None, Measured] = {}

    @property
    def extract(self) -> Extract1D:
        """The committed operator. Use `set` to change it."""
        return self._extract

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

    def hide_residual(self) -> None:
        """Hide the residual; its dataset stays in glue's collection."""
        self.residual_shown = False

    def add_spectrum(self) -> None:
        """Add `spectrum_data` to glue's collection, and link it to the image, if necessary."""
        collection = self.session.data_collection
        if self.spectrum_data not in collection:
            collection.append(self.spectrum_data)
        link_image_and_spectrum(collection, self.data, self.spectrum_data)

    def _update_spectrum_data(self) -> None:
        try:
            update_spectrum_data(self.spectrum_data, self.extraction)
        except LRSError as error:  # the user has changed the dataset, but the extraction is valid
            self.message = joined(self.message, panel_text(error, self.image))
