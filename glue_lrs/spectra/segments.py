"""Segments of an exposure, whose integrations are in several files or tables.

They are joined to one time series, provided that all are of the same exposure and that no
integration is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table, unique, vstack
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.errors import LRSWarning, ProductError, quoted
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.findings import Finding
from glue_lrs.spectra.provenance import Provenance, column_sums
from glue_lrs.spectra.times import DRIFT, TIMES, times_table

#: Header cards that are equal in all segments of an exposure.
EXPOSURE_CARDS = (
    "EXP_TYPE", "SUBARRAY", "TARGNAME", "PROGRAM", "OBSERVTN", "VISIT", "VISITGRP", "SEQ_ID",
    "ACT_ID", "EXPOSURE",
)  # fmt: skip

#: Cards that a header must contain to identify an exposure.
_IDENTITY = ("PROGRAM", "OBSERVTN", "EXPOSURE")

#: Cards of the aperture. If they differ between segments, the flux may change from one to the next.
_APERTURE_CARDS = ("EXTRXSTR", "EXTRXSTP", "EXTRYSTR", "EXTRYSTP")

#: Keys of a `Provenance` whose values are equal for segments that were extracted in the same way.
_RECIPE = ("parameters", "references")


@dataclass(frozen=True, eq=False)
class Segment:
    """Segment of an exposure.

    Parameters
    ----------
    label : str
        Name of the file or table in messages.
    header : `~astropy.io.fits.Header`
        Primary header of the file.
    numbers : ndarray of int
        Number of each integration within the exposure.
    """

    label: str
    header: fits.Header
    numbers: NDArray[np.int_]


def segment_order(segments: Sequence[Segment]) -> tuple[list[int], list[LRSWarning]]:
    """Return the indices that sort segments by their integrations, and warnings about gaps.

    Raises
    ------
    ProductError
        If a segment is of another exposure than the first, or an integration is in two segments.
    """
    first = segments[0]
    for one in segments[1:]:
        for card in EXPOSURE_CARDS:
            found, expected = (LazyHeader.view(s.header).get(card) for s in (one, first))
            if found is not None and expected is not None and found != expected:
                raise ProductError(
                    f"{card} is {quoted(found)}, expected {quoted(expected)} as in {first.label}, "
                    "because the segments of a time series are of one exposure",
                    subject=one.label,
                )
    order = sorted(range(len(segments)), key=lambda index: int(segments[index].numbers[0]))
    for before, after in pairwise(segments[index] for index in order):
        repeated = np.intersect1d(before.numbers, after.numbers)
        if repeated.size:
            raise ProductError(
                f"contains {spans(repeated)}, which {before.label} contains, too; expected each "
                "integration once in a time series",
                subject=after.label,
            )
        if before.numbers.max() > after.numbers.min():
            raise ProductError(
                f"begins before the last integration of {before.label}, expected segments that "
                "follow each other",
                subject=after.label,
            )
    every = np.unique(np.concatenate([one.numbers for one in segments]))
    gaps = [(a + 1, b - 1) for a, b in pairwise(every.tolist()) if b > a + 1]
    if not gaps:
        return order, []
    return order, [LRSWarning(f"{_listed(gaps)} of the exposure are missing between the segments")]


def spans(numbers: NDArray[np.int_]) -> str:
    """Return ascending numbers of integrations as text: "the integrations 1 to 4, 9"."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return _listed([(int(run[0]), int(run[-1])) for run in runs])


def _listed(ranges: Sequence[tuple[int, int]]) -> str:
    """Return ranges of integrations, of which the first ten are named, as text."""
    parts = [f"{first} to {last}" if last > first else str(first) for first, last in ranges[:10]]
    several = len(ranges) > 1 or ranges[0][1] > ranges[0][0]
    more = ", ..." if len(ranges) > len(parts) else ""
    return f"the integration{'s' * several} {', '.join(parts)}{more}"


def exposure_of(header: fits.Header) -> tuple[object, ...] | None:
    """Return the values of the cards that identify an exposure, or None if some are missing."""
    values = tuple(LazyHeader.view(header).get(card) for card in EXPOSURE_CARDS)
    return values if all(LazyHeader.view(header).get(card) for card in _IDENTITY) else None


def joined_header(header: fits.Header, numbers: NDArray[np.int_]) -> fits.Header:
    """Return a copy of the first segment's header, with INTSTART and INTEND of all segments."""
    header = LazyHeader.view(header).copy()
    for card, value in (("INTSTART", numbers.min()), ("INTEND", numbers.max())):
        if card in header:
            header[card] = int(value)
    return header


def integration_numbers(extraction: Extraction) -> NDArray[np.int_]:
    """Return the number of each integration of a stack within the exposure.

    The pipeline counts the integrations of each segment from 1 if it does not use INT_TIMES. Such
    numbers are corrected with INTSTART, unless the integrations would then exceed NINTS.
    """
    number = len(extraction.columns["FLUX"])
    header, times = LazyHeader.view(extraction.header), extraction.times
    start, total = header.get("INTSTART"), header.get("NINTS")
    stored = np.arange(1, number + 1)
    if times is not None and "INT_NUM" in times.colnames:
        stored = np.asarray(times["INT_NUM"], dtype=int)
    counted = not has_times(extraction).any() and np.array_equal(stored, np.arange(1, number + 1))
    later = isinstance(start, int) and isinstance(total, int) and 1 < start <= total - number + 1
    return stored + start - 1 if counted and later else stored


def has_times(extraction: Extraction) -> NDArray[np.bool_]:
    """Return the mask of the integrations that have a time."""
    times = extraction.times
    known = np.zeros(len(extraction.columns["FLUX"]), dtype=bool)
    for name in TIMES:
        if times is not None and name in times.colnames:
            known |= np.isfinite(np.asarray(times[name], dtype=float))
    return known


def complete_times(extraction: Extraction, numbers: NDArray[np.int_]) -> Table:
    """Return a table with all columns of times, and with `numbers` as INT_NUM.

    Times that the stack does not have are NaN.
    """
    segment = LazyHeader.view(extraction.header).get("EXSEGNUM", 1)
    made = times_table(numbers, segment if isinstance(segment, int) else 1, None)
    known = extraction.times
    for name in ("SEGMENT", *TIMES, *DRIFT):
        if known is None or name not in known.colnames:
            continue
        if name in made.colnames:
            made[name][:] = np.asarray(known[name])
        else:
            made[name] = known[name]
    return made


def join_segments(
    parts: Sequence[Extraction], labels: Sequence[str], name: str | None = None
) -> tuple[Extraction, list[LRSWarning]]:
    """Join the spectra of the segments of an exposure to one stack.

    Parameters
    ----------
    parts : sequence of Extraction
        Stacks of spectra, in any order.
    labels : sequence of str
        Name of each stack in messages.
    name : str, optional
        File name of the joined stack; by default, that of the first segment and the number of the
        others.

    Returns
    -------
    Extraction
        Stack of all integrations in ascending order, with one row of times for each.
    list of LRSWarning
        Warnings about gaps between the segments, and about different apertures.

    Raises
    ------
    ProductError
        If the spectra are not those of the segments of one exposure.
    """
    numbers = _running_numbers(parts)
    for one, label in zip(parts, labels, strict=True):
        _check_alike(one, parts[0], label, labels[0])
    segments = map(Segment, labels, (one.header for one in parts), numbers)
    order, notes = segment_order(list(segments))
    first, *others = ordered = [parts[index] for index in order]
    names = [labels[index] for index in order]
    for one, label in zip(ordered, names, strict=True):
        if any(one.keywords.get(card) != first.keywords.get(card) for card in _APERTURE_CARDS):
            text = f"the aperture is not that of {names[0]}, so that the flux may change there"
            notes.append(LRSWarning(text, subject=label))
    wave, flux = first.wavelength, [one.columns["FLUX"] for one in ordered]
    columns = {
        name: np.concatenate([one.columns[name] for one in ordered])
        for name in first.columns
        if name != "WAVELENGTH"
    }
    wavelength = np.broadcast_to(wave, (sum(map(len, flux)), wave.size))
    columns = {name: columns.get(name, wavelength) for name in first.columns}
    known = [one.int_times for one in ordered if one.int_times is not None]
    keywords = {
        key: value
        for key, value in first.keywords.items()
        if all(one.keywords.get(key) == value for one in others)
    }
    count = f"{len(others)} more segment{'s' * (len(others) > 1)}"
    provenance, differences = _joined_provenance(ordered, names, columns)
    joined = replace(
        first,
        columns=columns,
        header=joined_header(first.header, np.concatenate(numbers)),
        keywords_source=keywords,
        # A segment may have no columns of the drift.
        times=vstack([complete_times(parts[index], numbers[index]) for index in order]).filled(
            np.nan
        ),
        int_times=_all_rows(known),
        provenance=provenance,
        filename=name or f"{first.filename or names[0]} and {count}",
        aperture_weight=None,
    )
    return joined, notes + differences


def _check_alike(one: Extraction, first: Extraction, label: str, expected: str) -> None:
    """Raise `ProductError` if spectra cannot be rows of one stack."""
    if not one.is_stack:
        text = "is one spectrum, expected the spectra of several integrations (x1dints)"
        raise ProductError(text, subject=label)
    for what, found, wanted in (
        ("columns", list(one.columns), list(first.columns)),
        ("units", one.units, first.units),
    ):
        if found != wanted:
            raise ProductError(f"has other {what} than {expected}", subject=label)
    if not np.array_equal(one.wavelength, first.wavelength, equal_nan=True):
        raise ProductError(
            f"has other wavelengths than {expected}, expected the same in all segments of a time "
            "series",
            subject=label,
        )


def _running_numbers(parts: Sequence[Extraction]) -> list[NDArray[np.int_]]:
    """Return the numbers of the integrations of each stack within the exposure.

    In a file with all segments, the pipeline counts the integrations of each segment from 1 if it
    does not use INT_TIMES. If the stacks are consecutive segments, such numbers are replaced by
    consecutive ones.
    """
    numbers = [integration_numbers(one) for one in parts]
    segments = [
        int(one.times["SEGMENT"][0])
        for one in parts
        if one.times is not None and "SEGMENT" in one.times.colnames
    ]
    counted = len({int(one[0]) for one in numbers}) == 1 < len(numbers)
    following = len(segments) == len(parts) and bool((np.diff(segments) == 1).all())
    if not counted or not following or any(has_times(one).any() for one in parts):
        return numbers
    ends = np.cumsum([0, *(one.size for one in numbers[:-1])])
    return [one + int(end) for one, end in zip(numbers, ends, strict=True)]


def _all_rows(tables: Sequence[Table]) -> Table | None:
    """Return the rows of all INT_TIMES tables, each integration once."""
    if not tables:
        return None
    every = vstack(list(tables), metadata_conflicts="silent")
    if "integration_number" not in every.colnames:
        return tables[0]
    return unique(every, keys="integration_number")


def _joined_provenance(
    parts: Sequence[Extraction], labels: Sequence[str], columns: Mapping[str, NDArray[Any]]
) -> tuple[Provenance | None, list[LRSWarning]]:
    """Return the provenance of the joined spectra, and warnings.

    It is None, with a warning, if the spectra were not extracted in the same way, and None without
    a warning if no spectrum has a provenance.
    """
    records = [one.provenance for one in parts]
    first = records[0]
    if all(one is first for one in records):
        return first, []
    for one, label in zip(records, labels, strict=True):
        if one is None or first is None or any(one[key] != first[key] for key in _RECIPE):
            text = f"was not extracted with the parameters and references of {labels[0]}"
            return None, [LRSWarning(f"{text}, so that the flux may change there", subject=label)]
    known = [one for one in records if one is not None]
    return Provenance.from_dict(partial(_joined_record, known, labels, columns)), []


def _joined_record(
    records: Sequence[Provenance], labels: Sequence[str], columns: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    found: dict[tuple[str, str], Finding] = {}
    for record, label in zip(records, labels, strict=True):
        for one in record.findings:
            key = one.kind, one.text
            # The name of a segment is not added to a finding about several segments.
            found[key] = one if key in found else one.about(label)
    return {
        **records[0],
        "input": {"segments": [one["input"] for one in records]},
        "result": column_sums(columns),
        "findings": [one.to_dict() for one in found.values()],
    }
