"""LiveImage: the image of a live extraction, with cached results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.errors import LRSError
from glue_lrs.viewers.live.regions import regions_of, row_wavelength
from glue_lrs.viewers.live.source_measurement import measured_of

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.viewers.live.regions import Region
    from glue_lrs.viewers.live.source_measurement import Measured


class LiveImage:
    """An image and results derived from it; made again when the pixels change.

    Parameters
    ----------
    image : SlitImage
        Image, or stack of images.

    Attributes
    ----------
    image : SlitImage
        Image, or stack of images.
    rows : ndarray
        Number of each row.
    row_wavelength : ndarray
        Wavelength of each row in micron; NaN where it has none.
    """

    def __init__(self, image: SlitImage) -> None:
        self.image = image
        self.rows = np.arange(image.shape[0], dtype=float)
        self.row_wavelength = row_wavelength(image)
        self._median: SlitImage | None = None
        self._integration: tuple[int, SlitImage] | None = None
        self._regions: list[tuple[Extract1D, tuple[Region, ...]]] = []
        self._measured: dict[int | None, Measured] = {}

    @property
    def middle_row(self) -> float:
        """Row in the middle of the rows that have a wavelength."""
        known = np.flatnonzero(np.isfinite(self.row_wavelength))
        return float(known[known.size // 2]) if known.size else float(self.rows.size // 2)

    def valid_integration(self, number: int | None) -> int | None:
        """Return the nearest valid integration number; None for the median or a single image."""
        if number is None or not self.image.is_stack:
            return None
        return int(np.clip(int(number), 0, self.image.data.shape[0] - 1))

    def shown(self, integration: int | None) -> SlitImage:
        """Return the image of an integration, or the median of all if `integration` is None."""
        if not self.image.is_stack:
            return self.image
        if integration is None:
            if self._median is None:
                self._median = self.image.median()
            return self._median
        if self._integration is None or self._integration[0] != integration:
            self._integration = (integration, self.image.integration(integration))
        return self._integration[1]

    def title(self, integration: int | None) -> str:
        """Return the label of the image, with the integration that is shown."""
        if not self.image.is_stack:
            return self.image.label
        which = "median of all" if integration is None else f"integration {integration + 1}"
        return f"{self.image.label}, {which}"

    def regions_of(self, operator: Extract1D, committed: Extract1D) -> tuple[Region, ...]:
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
        kept = [one for one in self._regions if one[0] is committed]
        self._regions = [*kept, (operator, regions)]
        return regions

    def measured(self, integration: int | None) -> Measured | None:
        """Return the measurement for an integration (None for the median), if any."""
        return self._measured.get(integration)

    def measure(self, integration: int | None) -> Measured:
        """Measure the source in an integration (None for the median), unless this was done before.

        Raises
        ------
        LRSError
            If there is no source.
        """
        if integration not in self._measured:
            self._measured[integration] = measured_of(self.shown(integration))
        return self._measured[integration]
