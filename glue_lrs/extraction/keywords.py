"""Header cards, integration times, and the record of the source position for the provenance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.image.slit_image import load_wcs
from glue_lrs.spectra.times import SEGMENT, times_table

if TYPE_CHECKING:
    from astropy.table import Table
    from gwcs.wcs import WCS

    from glue_lrs.apertures.placement import Placement
    from glue_lrs.image.slit_image import SlitImage

#: Cards of the slit and its source that the pipeline copies from SCI to EXTRACT1D.
_SLIT_CARDS = (
    "SLITID",
    "SOURCEID",
    "SRCNAME",
    "SRCALIAS",
    "STLARITY",
    "TA_XPOS",
    "TA_YPOS",
    "SRCXPOS",
    "SRCYPOS",
    "SRCRA",
    "SRCDEC",
    "WAVECOR",
    "PTHLOSS",
    "BARSHDW",
    "SHUTSTA",
    "MSAQUAD",
    "SLTXSCL",
    "SLTYSCL",
    "PA_APER",
)


def position_record(placement: Placement) -> dict[str, float | int | None]:
    """Return the offsets and the source position from a placement, for the provenance."""
    record: dict[str, float | int | None] = {
        "offset": placement.offset,
        "background_offset": placement.background_offset,
    }
    found = placement.position
    if found is not None:
        record |= {"column": found.column, "row": found.row, "wavelength": found.wavelength}
    return record


def integration_times(image: SlitImage) -> Table | None:
    """Return a table with INT_NUM, SEGMENT and the times of each integration.

    The columns have the same names as in x1dints files. Unknown times are NaN. Returns None if the
    image is not a stack.
    """
    if not image.is_stack:
        return None
    number = image.data.shape[0]
    times = image.times if image.times is not None and len(image.times) == number else None
    numbers = np.arange(1, number + 1) if times is None else times["integration_number"]
    if times is not None and SEGMENT in times.colnames:  # the integrations of several segments
        return times_table(numbers, times[SEGMENT], times)
    segment = LazyHeader.view(image.header).get("EXSEGNUM", 1)
    segment = segment if isinstance(segment, int) else 1
    return times_table(numbers, segment, times)


@dataclass(frozen=True, eq=False)
class SpectrumKeywords:
    """Callable that returns the header cards for the EXTRACT1D extension of a spectrum.

    SLIT_RA and SLIT_DEC are computed only when this object is called, because they require the WCS.
    This object must not refer to the image, because a spectrum would otherwise keep the pixels of a
    whole stack in memory, or a file open.

    Parameters
    ----------
    values : dict
        Cards with values that are known from the extraction.
    header, sci_header : fits.Header
        Headers of the image, from which further cards are copied on access.
    wcs_source : WCS or callable, optional
        WCS, or function that loads it, as in `SlitImage.loaded_wcs_source`.
    centroid : tuple of float, or callable that returns such a tuple
        Column and row of the centroid of the aperture weights. SLIT_RA and SLIT_DEC are its sky
        coordinates.
    """

    values: dict[str, Any]
    header: fits.Header
    sci_header: fits.Header
    wcs_source: WCS | Callable[[], WCS | None] | None
    centroid: tuple[float, float] | Callable[[], tuple[float, float]]

    @classmethod
    def from_image(
        cls,
        image: SlitImage,
        limits: tuple[float, float],
        rows: tuple[int, int],
        centroid: tuple[float, float] | Callable[[], tuple[float, float]],
    ) -> SpectrumKeywords:
        """Create the object for a spectrum that was extracted from an image.

        Parameters
        ----------
        image : SlitImage
            Image from which the spectrum was extracted.
        limits : tuple of float
            First and last column of the aperture, counted from 0.
        rows : tuple of int
            First and last row of the spectrum, counted from 0.
        centroid : tuple of float, or callable that returns such a tuple
            Column and row of the centroid of the aperture weights.
        """
        values = {
            "SLTNAME": image.slit_name,
            "SRCTYPE": image.source_type,
            "EXTRXSTR": limits[0] + 1,
            "EXTRXSTP": limits[1] + 1,
            "EXTRYSTR": rows[0] + 1,
            "EXTRYSTP": rows[1] + 1,
            "SPORDER": image.spectral_order,
            "DISPAXIS": image.dispaxis,
        }
        return cls(values, image.header, image.sci_header, image.loaded_wcs_source, centroid)

    @property
    def cards(self) -> dict[str, Any]:
        """Cards that do not require the WCS. The viewers use only these."""
        cards = dict(self.values)
        if not cards["SRCTYPE"]:
            del cards["SRCTYPE"]
        science, header = LazyHeader.view(self.sci_header), LazyHeader.view(self.header)
        cards |= {name: science[name] for name in _SLIT_CARDS if name in science}
        if "DETECTOR" in header:
            cards["DETECTOR"] = header["DETECTOR"]
        return cards

    def __call__(self) -> dict[str, Any]:
        """Return all cards, including those that require the WCS."""
        cards = self.cards
        wcs = load_wcs(self.wcs_source)
        if wcs is not None:
            centroid = self.centroid() if callable(self.centroid) else self.centroid
            ra, dec = (float(value) for value in wcs(*centroid)[:2])
            if np.isfinite(ra) and np.isfinite(dec):
                cards |= {"SLIT_RA": ra, "SLIT_DEC": dec}
        return cards
