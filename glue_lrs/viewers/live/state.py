"""State of a live extraction: the image that is shown, the operator and its result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from echo import CallbackProperty, HasCallbackProperties

from glue_lrs.errors import LRSError
from glue_lrs.extraction.options import prepared_integration
from glue_lrs.viewers.live.comparison import flux_ratio
from glue_lrs.viewers.live.correction import correction_text
from glue_lrs.viewers.live.cross_dispersion_profile import (
    cross_dispersion_profile,
    fitted_background,
    fitted_level,
)
from glue_lrs.viewers.live.regions import RowWavelength, regions_of, row_wavelength
from glue_lrs.viewers.live.statistics import (
    extraction_statistics,
    includes_sky,
    limits_text,
)

if TYPE_CHECKING:
    from glue.core import Data
    from numpy.typing import NDArray

    from glue_lrs.apertures.background import Background
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.viewers.live.comparison import Comparison
    from glue_lrs.viewers.live.cross_dispersion_profile import CrossDispersionProfile
    from glue_lrs.viewers.live.regions import Region
    from glue_lrs.viewers.live.source_measurement import Measured
    from glue_lrs.viewers.live.statistics import ExtractionStatistics


class ExtractionState(HasCallbackProperties):
    """Properties of a live extraction that viewers follow, and images and regions that it shows.

    `~glue_lrs.viewers.live.live_extraction.LiveExtraction` describes the attributes.
    """

    operator = CallbackProperty(None)
    extraction = CallbackProperty(None)
    message = CallbackProperty("")
    findings = CallbackProperty(())
    notices = CallbackProperty(())
    integration = CallbackProperty(None)
    rows_averaged = CallbackProperty(11)
    cursor_row = CallbackProperty(0.0)
    wavelength_range = CallbackProperty(None)
    wavelength_ranges = CallbackProperty(())
    comparison = CallbackProperty(None)
    comparison_label = CallbackProperty("")
    setups = CallbackProperty(())
    active = CallbackProperty("")
    selected = CallbackProperty(0)
    measured = CallbackProperty(None)
    residual_shown = CallbackProperty(False)
    residual_limit = CallbackProperty(1.0)
    closed = CallbackProperty(False)

    spectrum_data: Data
    residual_data: Data | None = None
    compared: Comparison | None = None
    last_background: Background | None = None

    _extract: Extract1D

    def _use(self, image: SlitImage) -> None:
        """Set the image, and empty the caches, which contain results for the previous image."""
        self.image = image
        self.rows = np.arange(image.shape[0], dtype=float)
        self.row_wavelength = row_wavelength(image)
        self.wavelengths = RowWavelength(self.row_wavelength)
        self._images: dict[int | None, SlitImage] = {}
        self._prepared: dict[tuple[object, ...], SlitImage] = {}
        self._regions: list[tuple[Extract1D, tuple[Region, ...]]] = []
        self._measured: dict[int | None, Measured] = {}

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

    def image_for(self, operator: Extract1D) -> SlitImage:
        """Return the image to extract with an operator: `shown`, or without outliers along time.

        Outliers along time can be found only in the stack. They are removed from the stack, and the
        integration that is shown, or the median of all, is taken from the result.

        Raises
        ------
        LRSError
            If outliers along time cannot be searched for.
        """
        if not self.image.is_stack or operator.time_outliers == "keep":
            return self.shown
        how = operator.time_outliers, operator.filled_pixels, operator.source_type
        key = (self.integration, *how)
        if key not in self._prepared:
            made = prepared_integration(operator, self.image, self.integration)
            self._prepared = {
                one: image
                for one, image in self._prepared.items()
                if one[1:] == how and one[0] is None
            }
            self._prepared[key] = made
        return self._prepared[key]

    @property
    def regions(self) -> tuple[Region, ...]:
        """Regions of `operator` at their positions on the image, aperture first."""
        return self.regions_of(self.operator)

    def regions_of(self, operator: Extract1D) -> tuple[Region, ...]:
        """Return the regions of an operator on the image; none if the trace is not known.

        The regions of this, of the committed operator and of those of other setups are cached,
        because they may need the WCS.
        """
        for known, regions in self._regions:
            if known is operator:
                return regions
        try:
            regions = regions_of(operator, self.image)
        except LRSError:  # the extraction fails for the same reason and gives a message
            regions = ()
        lasting = [self._extract, *(setup.operator for setup in self.setups)]
        kept = [one for one in self._regions if any(one[0] is other for other in lasting)]
        self._regions = [*kept, (operator, regions)]
        return regions

    def cross_dispersion_profile(
        self, row: float | None = None, number: int | None = None
    ) -> CrossDispersionProfile:
        """Average rows of `shown` to a profile along the slit.

        By default, average `rows_averaged` rows around `cursor_row`. For the parameters see
        `glue_lrs.viewers.live.cross_dispersion_profile.cross_dispersion_profile`.
        """
        row = self.cursor_row if row is None else row
        return cross_dispersion_profile(self.shown, row, number or self.rows_averaged)

    def fitted_background(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return column numbers and the background that `operator` subtracts in the slit profile.

        For an optimal extraction, it is the fitted level in the columns of the aperture. None if no
        background is subtracted.
        """
        operator, row = self.operator, self.cursor_row
        if operator.mode != "box":
            return fitted_level(self.extraction, self.regions, self.row_wavelength, row)
        background = operator.subtracted_background
        if background is None or not any(one.kind == "background" for one in self.regions):
            return None
        try:
            image = self.image_for(operator)
            return fitted_background(image, background, self.regions, row, self.rows_averaged)
        except LRSError:  # the extraction fails for the same reason and gives a message
            return None

    def ratio(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Divide the flux of `extraction` by the flux of `comparison`.

        The result is described in `glue_lrs.viewers.live.comparison.flux_ratio`.
        """
        return flux_ratio(self.extraction, self.comparison)

    def numbers(self) -> ExtractionStatistics:
        """Compute statistics of `extraction` in the selected ranges of wavelength."""
        row = int(np.clip(round(self.cursor_row), 0, self.rows.size - 1))
        limits = limits_text(self.regions, row, float(self.row_wavelength[row]))
        sky = includes_sky(self.operator, self.image, self.findings)
        return extraction_statistics(
            self.extraction, self.ratio(), self.wavelength_ranges, limits, sky
        )

    def correction_text(self) -> str:
        """Return the size of the aperture correction, or why there is none; see `correction`."""
        try:
            image = self.image_for(self.operator)
        except LRSError:  # the extraction has failed for the same reason
            return ""
        return correction_text(self.operator, image, self.extraction)

    def _valid_integration(self, number: int | None) -> int | None:
        """Return the nearest valid integration number; None for the median or a single image."""
        if number is None or not self.image.is_stack:
            return None
        return int(np.clip(int(number), 0, self.image.data.shape[0] - 1))
