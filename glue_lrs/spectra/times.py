"""Times of the integrations of a stack, in the columns of x1dints files."""

from __future__ import annotations

import numpy as np
from astropy.table import Column, Table
from numpy.typing import ArrayLike

#: Names of time columns in x1dints files, and of the INT_TIMES columns from which they are copied.
TIMES = {
    "MJD-BEG": "int_start_MJD_UTC",
    "MJD-AVG": "int_mid_MJD_UTC",
    "MJD-END": "int_end_MJD_UTC",
    "TDB-BEG": "int_start_BJD_TDB",
    "TDB-MID": "int_mid_BJD_TDB",
    "TDB-END": "int_end_BJD_TDB",
}

#: Column with the number of the segment, in x1dints files and in the times of a joined stack.
SEGMENT = "SEGMENT"


#: Columns with the drift of the source in the times of a stack (`glue_lrs.fitting.drift`), and
#: attribute and unit of each: displacement in columns, width relative to the mean, and errors.
DRIFT = {
    "SHIFT": ("shift", "pix"),
    "SHIFT_ERROR": ("shift_error", "pix"),
    "WIDTH": ("width", None),
    "WIDTH_ERROR": ("width_error", None),
}


def times_table(numbers: ArrayLike, segments: ArrayLike, known: Table | None) -> Table:
    """Make a table with INT_NUM, SEGMENT and the times of each integration.

    Parameters
    ----------
    numbers : array_like of int
        Number of each integration within the exposure.
    segments : array_like of int
        Number of the segment of each integration, or one number for all.
    known : `~astropy.table.Table`, optional
        Rows of INT_TIMES for these integrations. If None, the times are NaN.
    """
    table = Table()
    table["INT_NUM"] = np.asarray(numbers, dtype=np.int32)
    table[SEGMENT] = np.broadcast_to(np.asarray(segments, dtype=np.int32), len(table)).copy()
    for name, source in TIMES.items():
        values = np.full(len(table), np.nan) if known is None else np.asarray(known[source], float)
        table[name] = Column(values, unit="d")
    return table


def matching_times(numbers: ArrayLike, int_times: Table) -> Table:
    """Return one row of INT_TIMES for each given integration, with NaN if the table has none.

    Parameters
    ----------
    numbers : array_like of int
        Numbers of the integrations within the exposure.
    int_times : `~astropy.table.Table`
        INT_TIMES table. Columns that it lacks are NaN in the result. Of several rows with the same
        number, the first is used.

    Returns
    -------
    `~astropy.table.Table`
        Table with integration_number and the columns of `TIMES`, with a row for each integration.
    """
    wanted = np.asarray(numbers)
    stored, first = np.unique(np.asarray(int_times["integration_number"]), return_index=True)
    place = np.minimum(np.searchsorted(stored, wanted), stored.size - 1)
    known = stored[place] == wanted if stored.size else np.zeros(wanted.size, dtype=bool)
    made = Table({"integration_number": wanted.astype(np.int32)})
    for name in TIMES.values():
        made[name] = np.full(wanted.size, np.nan)
        if name in int_times.colnames:
            made[name][known] = np.asarray(int_times[name], dtype=float)[first[place[known]]]
    return made
