"""Headers and times of simulated products."""

from __future__ import annotations

import numpy as np
from astropy.table import Table

from glue_lrs.simulation.optics import EXPOSURE_START, SceneError

__all__ = ["check_nod", "integration_times"]


def check_nod(nod: int) -> None:
    if nod not in (1, 2):
        raise SceneError(f"nod is {nod}, expected 1 or 2")


def integration_times(first: int, number: int, seconds: float) -> Table:
    """INT_TIMES of the integrations of a stack."""
    index = np.arange(first, first + number, dtype=np.int32)
    start = EXPOSURE_START + (index - 1) * seconds / 86400.0
    table = Table()
    table["integration_number"] = index
    # From UTC to TDB, and the light's way to the barycentre: about 69 s and 4 minutes.
    for scale, offset in (("MJD_UTC", 0.0), ("BJD_TDB", (69.184 + 241.0) / 86400.0)):
        for name, part in (("start", 0.0), ("mid", 0.5), ("end", 1.0)):
            table[f"int_{name}_{scale}"] = start + part * seconds / 86400.0 + offset
    return Table(
        table[
            "integration_number",
            "int_start_MJD_UTC",
            "int_mid_MJD_UTC",
            "int_end_MJD_UTC",
            "int_start_BJD_TDB",
            "int_mid_BJD_TDB",
            "int_end_BJD_TDB",
        ]
    )
