"""Header cards, integration times and position of an extraction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.extraction.box_plan import column_numbers
from glue_lrs.image.slit_image import load_wcs

if TYPE_CHECKING:
    from glue_lrs.apertures.placement import Placement
    from glue_lrs.extraction.box_plan import BoxPlan
    from glue_lrs.image.slit_image import SlitImage

__all__ = ["BoxKeywords", "SpectrumKeywords", "integration_times", "position_record"]


def position_record(placement: Placement) -> dict[str, Any]:
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
    """INT_NUM, SEGMENT and the times of each integration of a stack, under the x1dints' names."""
    if not image.is_stack:
        return None
    number = image.data.shape[0]
    table = Table()
    table["INT_NUM"] = np.arange(1, number + 1, dtype=np.int32)
    segment = LazyHeader.view(image.header).get("EXSEGNUM", 1)
    table["SEGMENT"] = np.full(number, segment, dtype=np.int32)
    names = {
        "MJD-BEG": "int_start_MJD_UTC",
        "MJD-AVG": "int_mid_MJD_UTC",
        "MJD-END": "int_end_MJD_UTC",
        "TDB-BEG": "int_start_BJD_TDB",
        "TDB-MID": "int_mid_BJD_TDB",
        "TDB-END": "int_end_BJD_TDB",
    }
    known = image.times is not None and len(image.times) == number
    if known and image.times is not None:
        table["INT_NUM"] = np.asarray(image.times["integration_number"], dtype=np.int32)
    for name, source in names.items():
        if known and image.times is not None:
            table[name] = np.asarray(image.times[source], dtype=float)
        else:
            table[name] = np.full(number, np.nan)
        table[name].unit = "d"
    return table


@dataclass(frozen=True, eq=False)
class SpectrumKeywords:
    """The cards of the EXTRACT1D extension: worked out when asked for, as they need the WCS.

    It must not hold the image: a spectrum would keep a whole stack, or an open file, alive.
    """

    cards: dict[str, Any]
    wcs_source: Any
    column: float
    row: float

    def __call__(self) -> dict[str, Any]:
        cards = dict(self.cards)
        wcs = load_wcs(self.wcs_source)
        if wcs is not None:
            ra, dec = (float(v) for v in wcs(self.column, self.row)[:2])
            if np.isfinite(ra) and np.isfinite(dec):
                cards |= {"SLIT_RA": ra, "SLIT_DEC": dec}
        return cards


@dataclass(frozen=True, eq=False)
class BoxKeywords:
    """Those of a box, of which nothing is worked out before."""

    slit_name: str
    source_type: str | None
    spectral_order: int
    dispaxis: int | None
    header: LazyHeader
    wcs_source: Any
    limits: tuple[float, float]
    rows: slice
    runs: tuple[slice, ...]
    weights: NDArray[np.float64]
    total: NDArray[np.float64]

    @classmethod
    def from_plan(cls, image: SlitImage, plan: BoxPlan, header: LazyHeader) -> BoxKeywords:
        return cls(
            image.slit_name,
            image.source_type,
            image.spectral_order,
            image.dispaxis,
            header,
            image.__dict__.get("wcs", image.wcs_source),
            plan.limits,
            plan.rows,
            plan.source.runs,
            plan.source.values.sum(axis=0),
            plan.total,
        )

    @property
    def cards(self) -> dict[str, Any]:
        """The cards that need no WCS."""
        cards: dict[str, Any] = {"SLTNAME": self.slit_name}
        if self.source_type:
            cards["SRCTYPE"] = self.source_type
        cards |= {
            "EXTRXSTR": self.limits[0] + 1,
            "EXTRXSTP": self.limits[1] + 1,
            "EXTRYSTR": self.rows.start + 1,
            "EXTRYSTP": self.rows.stop,
            "SPORDER": self.spectral_order,
            "DISPAXIS": self.dispaxis,
        }
        header = LazyHeader.view(self.header)
        if "DETECTOR" in header:
            cards["DETECTOR"] = header["DETECTOR"]
        return cards

    def __call__(self) -> dict[str, Any]:
        column = float(column_numbers(self.runs) @ self.weights / self.weights.sum())
        row = float(np.arange(self.rows.start, self.rows.stop) @ self.total / self.total.sum())
        return SpectrumKeywords(self.cards, self.wcs_source, column, row)()
