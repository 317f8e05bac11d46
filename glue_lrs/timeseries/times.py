"""Times of the integrations of a stack, barycentric if they are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy.time import Time

from glue_lrs.errors import Hint, LRSError, quoted
from glue_lrs.spectra.findings import Finding
from glue_lrs.spectra.times import TIMES, matching_times

if TYPE_CHECKING:
    from astropy.table import Table
    from numpy.typing import NDArray

    from glue_lrs._utils.typing import Array

#: Column with the middle of each integration in x1dints files, and the time scale. Both are
#: modified Julian dates, also those that are called BJD in INT_TIMES.
_COLUMNS = (("TDB-MID", "tdb"), ("MJD-AVG", "utc"))


@dataclass(frozen=True, eq=False)
class MidTimes:
    """Times of the middle of the integrations that have one, in order of time.

    Parameters
    ----------
    time : `~astropy.time.Time`
        Times in the scale "tdb" at the barycentre of the solar system, or else "utc" at JWST.
    rows : ndarray of int
        Index of the integration of each time in the stack.
    reference : {"barycentre", "spacecraft"}
        Place at which the light arrives at these times.
    findings : tuple of Finding
        Limitations of the times.
    """

    time: Time
    rows: NDArray[np.intp]
    reference: str
    findings: tuple[Finding, ...] = ()


def mid_times(
    number: int,
    table: Table | None,
    int_times: Table | None,
    time: Time | None = None,
    subject: str | None = None,
) -> MidTimes:
    """Return the times of the integrations of a stack.

    Barycentric times (TDB) come from the columns of the x1dints, or else from INT_TIMES. If there
    are none, the times are those at JWST (UTC). Integrations without a time are left out, as well
    as all but the first one of equal times.

    Parameters
    ----------
    number : int
        Number of integrations.
    table, int_times : `~astropy.table.Table`, optional
        Attributes `times` and `int_times` of the spectra (`Extraction`).
    time : `~astropy.time.Time`, optional
        Times that replace those of the stack, one for each integration. They are barycentric if
        their scale is "tdb"; times in another scale are converted to UTC.
    subject : str, optional
        Name of the spectra in messages.

    Raises
    ------
    LRSError
        If there are no times, or `time` has another number of them.
    """
    if time is None:
        days, scale = _best(table, int_times, number, subject)
    else:
        if not isinstance(time, Time) or time.shape != (number,):
            raise LRSError(
                f"found {quoted(time)}, expected a Time with {number} values", subject="time"
            )
        scale = "tdb" if time.scale == "tdb" else "utc"
        days = np.array(getattr(time, scale).mjd, dtype=float)
    findings: list[Finding] = []
    if scale == "utc":
        text = (
            "there are no barycentric times (TDB): the times are UTC at JWST, which differ from "
            "them by up to 10 minutes"
        )
        findings.append(Finding("times_utc", text))
    known = np.flatnonzero(np.isfinite(days))
    if known.size < number:
        missing = number - known.size
        text = f"{missing} of {number} integrations have no time: they are left out"
        values = {"missing": missing, "all": number}
        findings.append(Finding("times_missing", text, values))
    ordered, first = np.unique(days[known], return_index=True)
    if ordered.size < known.size:
        repeated = known.size - ordered.size
        text = (
            f"{repeated} of {number} integrations have the time of another one, as if a file was "
            "given twice: they are left out"
        )
        values = {"repeated": repeated, "all": number}
        findings.append(Finding("times_repeated", text, values))
    time = Time(ordered, format="mjd", scale=scale)
    reference = "barycentre" if scale == "tdb" else "spacecraft"
    return MidTimes(time, known[first], reference, tuple(findings))


def _best(
    table: Table | None, int_times: Table | None, number: int, subject: str | None
) -> tuple[Array, str]:
    """Return the barycentric times, or those at the spacecraft if there are none, and their scale.

    Of several columns, that with the most times is used.

    Raises
    ------
    LRSError
        If there are no times.
    """
    candidates = []
    stored = None
    if table is not None and int_times is not None and "integration_number" in int_times.colnames:
        numbers = np.asarray(table["INT_NUM"])
        if np.unique(numbers).size == number:
            stored = matching_times(numbers, int_times)
    for name, scale in _COLUMNS:
        if table is not None and name in table.colnames:
            candidates.append((np.array(table[name], dtype=float), scale))
        if stored is not None:
            candidates.append((np.array(stored[TIMES[name]], dtype=float), scale))
    candidates = [one for one in candidates if np.isfinite(one[0]).any()]
    if not candidates:
        raise LRSError(
            "the integrations have no times, expected TDB-MID or MJD-AVG, or INT_TIMES",
            subject=subject,
            hint=Hint.to("give {}", "time"),
        )
    return max(candidates, key=lambda one: (one[1] == "tdb", int(np.isfinite(one[0]).sum())))
