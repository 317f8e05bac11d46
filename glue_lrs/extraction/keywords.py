"""Header cards and integration times of an extraction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.image.slit_image import load_wcs

if TYPE_CHECKING:
    from glue_lrs.apertures.placement import Placement
    from glue_lrs.image.slit_image import SlitImage

#: Time columns in x1dints files, and the columns in the INT_TIMES table from which they are copied.
_TIMES = {
    "MJD-BEG": "int_start_MJD_UTC",
    "MJD-AVG": "int_mid_MJD_UTC",
    "MJD-END": "int_end_MJD_UTC",
    "TDB-BEG": "int_start_BJD_TDB",
    "TDB-MID": "int_mid_BJD_TDB",
    "TDB-END": "int_end_BJD_TDB",
}


def position_record(placement: Placement) -> dict[str, Any]:
    """Return a dict of the placement's offsets and source position for the provenance."""
    record: dict[str, Any] = {
        "offset": placement.offset,
        "background_offset": placement.background_offset,
    }
    if placement.position is not None:
        record["column"] = placement.position.column
        record["row"] = placement.position.row
        record["wavelength"] = placement.position.wavelength
    return record


def integration_times(image: SlitImage) -> Table | None:
    """Return a table of INT_NUM, SEGMENT and the times of each integration of a stack.

    The columns are named as in x1dints files. Unknown times are NaN.
    """
    if not image.is_stack:
        return None
    number = image.data.shape[0]
    table = Table()
    table["INT_NUM"] = np.arange(1, number + 1, dtype=np.int32)
    segment = LazyHeader.view(image.header).get("EXSEGNUM", 1)
    table["SEGMENT"] = np.full(number, segment, dtype=np.int32)
    times = image.times if image.times is not None and len(image.times) == number else None
    if times is not None:
        table["INT_NUM"] = np.asarray(times["integration_number"], dtype=np.int32)
    for name, source in _TIMES.items():
        unknown = np.full(number, np.nan)
        table[name] = unknown if times is None else np.asarray(times[source], dtype=float)
        table[name].unit = "d"
    return table


@dataclass(frozen=True, eq=False)
class SpectrumKeywords:
    """Header cards for the EXTRACT1D extension of a spectrum.

    They are computed on demand because SLIT_RA and SLIT_DEC require the WCS. This object must not
    refer to the image, because a spectrum would otherwise keep the pixels of a whole stack in
    memory, or a file open.

    Parameters
    ----------
    slit_name, source_type, spectral_order, dispaxis, header, wcs_source
        Attributes of the image.
    limits : tuple of float
        First and last column of the aperture, counted from 0.
    rows : tuple of int
        First and last row of the spectrum, counted from 0.
    centroid : tuple of float, or callable that returns such a tuple
        Column and row of the weights' centroid, where SLIT_RA and SLIT_DEC are evaluated.
    """

    slit_name: str
    source_type: str | None
    spectral_order: int
    dispaxis: int | None
    header: fits.Header
    wcs_source: Any
    limits: tuple[float, float]
    rows: tuple[int, int]
    centroid: tuple[float, float] | Callable[[], tuple[float, float]]

    @classmethod
    def from_image(
        cls,
        image: SlitImage,
        header: fits.Header,
        limits: tuple[float, float],
        rows: tuple[int, int],
        centroid: tuple[float, float] | Callable[[], tuple[float, float]],
    ) -> SpectrumKeywords:
        """Return the cards for a spectrum that was extracted from an image."""
        return cls(
            image.slit_name,
            image.source_type,
            image.spectral_order,
            image.dispaxis,
            header,
            image.loaded_wcs_source,
            limits,
            rows,
            centroid,
        )

    @property
    def cards(self) -> dict[str, Any]:
        """Cards that do not require the WCS, so that the viewers can read them fast."""
        cards: dict[str, Any] = {"SLTNAME": self.slit_name}
        if self.source_type:
            cards["SRCTYPE"] = self.source_type
        cards |= {
            "EXTRXSTR": self.limits[0] + 1,
            "EXTRXSTP": self.limits[1] + 1,
            "EXTRYSTR": self.rows[0] + 1,
            "EXTRYSTP": self.rows[1] + 1,
            "SPORDER": self.spectral_order,
            "DISPAXIS": self.dispaxis,
        }
        header = LazyHeader.view(self.header)
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
