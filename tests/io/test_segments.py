"""Time series whose integrations are in several files or tables."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from specutils import Spectrum, SpectrumList

from glue_lrs.errors import LRSWarning, ProductError
from glue_lrs.io.spectra import read_series
from glue_lrs.io.x1d_reader import read_x1d
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.times import times_table
from tests.helpers.spectra import make_extraction

#: Numbers of the integrations of each segment.
SEGMENTS = ([1, 2, 3], [4, 5], [6, 7, 8, 9])
EXPOSURE = {
    "TELESCOP": "JWST", "INSTRUME": "MIRI", "EXP_TYPE": "MIR_LRS-SLITLESS", "TARGNAME": "WASP-1",
    "PROGRAM": "01234", "OBSERVTN": "001", "EXPOSURE": "00001",
}  # fmt: skip


def int_times(numbers: list[int]) -> Table:
    """INT_TIMES with a time that shows the number of the integration."""
    table = Table({"integration_number": np.array(numbers, dtype=np.int32)})
    for system, part in itertools.product(("MJD_UTC", "BJD_TDB"), ("start", "mid", "end")):
        table[f"int_{part}_{system}"] = 59000.0 + np.array(numbers) / 10 + len(table.colnames)
    return table


def segment(number: int, numbers: list[int], times: bool = True, **cards: Any) -> Extraction:
    """Spectra whose flux is the number of the integration."""
    made = make_extraction(integrations=len(numbers), rows=6)
    flux = np.repeat(np.array(numbers, dtype=float)[:, np.newaxis], 6, axis=1)
    header = fits.Header(
        EXPOSURE
        | {"EXSEGNUM": number, "EXSEGTOT": 3, "INTSTART": numbers[0], "INTEND": numbers[-1]}
        | {"NINTS": 9}
        | cards
    )
    known = int_times(numbers) if times else None
    counted = numbers if times else np.arange(1, len(numbers) + 1)
    return replace(
        made,
        columns=made.columns | {"FLUX": flux},
        header=header,
        times=times_table(counted, number, known),
        int_times=known,
        provenance=None,
    )


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("segments")
    found = [folder / f"seg{number}_x1dints.fits" for number in (1, 2, 3)]
    for number, (path, numbers) in enumerate(zip(found, SEGMENTS, strict=True), start=1):
        segment(number, numbers).write(path)
    return found


def one_file(path: Path, parts: list[Extraction], rows: list[int] | None = None) -> Path:
    """A level-3 x1dints: a table for each segment, and INT_TIMES for the integrations `rows`."""
    hdus = []
    for number, part in enumerate(parts):
        single = path.with_name(f"{number}.fits")
        part.write(single)
        with fits.open(single, memmap=False) as hdulist:
            hdus += [hdulist[name].copy() for name in ([0] if number == 0 else []) + ["EXTRACT1D"]]
    if rows is not None:
        hdus.insert(1, fits.BinTableHDU(int_times(rows), name="INT_TIMES"))
    fits.HDUList(hdus).writeto(path)
    return path


def check_series(spectrum: Spectrum) -> None:
    """Flux and times of all integrations are in the order of their numbers."""
    np.testing.assert_array_equal(spectrum.flux.value[:, 0], np.arange(1.0, 10.0))
    times = spectrum.meta["times"]
    np.testing.assert_array_equal(times["INT_NUM"], np.arange(1, 10))
    np.testing.assert_array_equal(times["SEGMENT"], [1, 1, 1, 2, 2, 3, 3, 3, 3])
    np.testing.assert_allclose(times["MJD-AVG"], 59002.0 + np.arange(1, 10) / 10, rtol=1e-14)
    assert times["TDB-MID"].unit == "d"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_files_of_segments_are_one_spectrum(order: tuple[int, ...], paths: list[Path]) -> None:
    given = [paths[index] for index in order]
    check_series(Spectrum.read(given, format="lrs-x1d"))
    check_series(Spectrum.read(list(map(str, given))))  # the format is identified
    stack = Extraction.read(given)
    assert stack.int_times is not None
    assert stack.int_times["integration_number"].tolist() == list(range(1, 10))
    assert (stack.header["INTSTART"], stack.header["INTEND"]) == (1, 9)
    assert len(SpectrumList.read(given)) == 9  # as before


def test_a_joined_stack_is_written_and_read_back(paths: list[Path], tmp_path: Path) -> None:
    stack = Extraction.read(paths)
    stack.write(tmp_path / "all_x1dints.fits")
    check_series(Spectrum.read(tmp_path / "all_x1dints.fits"))


def test_tables_of_a_level_3_product_are_one_spectrum(tmp_path: Path) -> None:
    parts = [segment(k, numbers) for k, numbers in enumerate(SEGMENTS, start=1)]
    path = one_file(tmp_path / "a_x1dints.fits", parts, list(range(1, 10)))
    assert len(read_x1d(path)) == 1
    check_series(Spectrum.read(path))


@pytest.mark.parametrize("counted", [False, True])
def test_times_missing_in_the_tables_are_those_of_int_times(counted: bool, tmp_path: Path) -> None:
    """The pipeline then counts the integrations of each segment from 1."""
    parts = [segment(k, numbers, times=False) for k, numbers in enumerate(SEGMENTS, start=1)]
    if not counted:  # as in level-3 products
        for part, numbers in zip(parts, SEGMENTS, strict=True):
            assert part.times is not None
            part.times["INT_NUM"] = numbers
    check_series(Spectrum.read(one_file(tmp_path / "a_x1dints.fits", parts, list(range(1, 10)))))


def test_a_segment_without_times_is_numbered_by_its_header(tmp_path: Path) -> None:
    """Its integrations 4 and 5 must not get the times of the integrations 1 and 2."""
    for number in (0, 1, 2):
        segment(number + 1, SEGMENTS[number], times=False).write(tmp_path / f"{number}.fits")
    stack = Extraction.read([tmp_path / f"{number}.fits" for number in (2, 1, 0)])
    assert stack.times is not None
    assert stack.times["INT_NUM"].tolist() == list(range(1, 10))
    assert np.isnan(stack.times["MJD-AVG"]).all()


def test_int_times_of_some_integrations_are_used(tmp_path: Path) -> None:
    parts = [segment(k, numbers, times=False) for k, numbers in enumerate(SEGMENTS, start=1)]
    path = one_file(tmp_path / "a_x1dints.fits", parts, [2, 3, 4, 5, 0, 0])
    expected = "INT_TIMES has times for 4 of 9 integrations; those of .* 1, 6 to 9 are NaN"
    with pytest.warns(LRSWarning, match=expected) as caught:
        times = Spectrum.read(path).meta["times"]
    assert len(caught) == 1
    known = np.isfinite(times["MJD-AVG"])
    assert times["INT_NUM"][known].tolist() == [2, 3, 4, 5]
    np.testing.assert_allclose(times["MJD-AVG"][known], 59002.0 + np.arange(2, 6) / 10, rtol=1e-14)


def test_repeated_integrations_in_a_file_remain_apart(tmp_path: Path) -> None:
    """Nor do they get times, because their numbers may be wrong."""
    parts = [segment(1, [1, 2], times=False), segment(1, [1, 2], times=False)]
    path = one_file(tmp_path / "a_x1dints.fits", parts, [1, 2])
    for one in read_x1d(path):
        assert one.times is not None
        assert np.isnan(one.times["MJD-AVG"]).all()
    with pytest.raises(ProductError, match=r"has 2 spectra, .*integrations 1 to 2, which"):
        Spectrum.read(path)


def test_gaps_are_reported(paths: list[Path]) -> None:
    with pytest.warns(LRSWarning, match="integrations 4 to 5 of the exposure are missing") as found:
        stack = Extraction.read([paths[2], paths[0]])
    assert len(found) == 1
    assert stack.times is not None
    assert stack.times["INT_NUM"].tolist() == [1, 2, 3, 6, 7, 8, 9]


def test_absurd_numbers_take_no_memory(tmp_path: Path) -> None:
    parts = [segment(1, [1, 2], INTSTART=10**18), segment(2, [2**31 - 2])]
    path = one_file(tmp_path / "a_x1dints.fits", parts)
    with pytest.warns(LRSWarning, match="integrations 3 to 2147483645 of the exposure are missing"):
        assert [one.columns["FLUX"].shape for one in read_x1d(path)] == [(3, 6)]


def narrower(part: Extraction) -> Extraction:
    return replace(part, columns={n: v[:, 1:] for n, v in part.columns.items()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda part: part, "contains the integrations 4 to 5, which .*seg2.* contains, too"),
        (narrower, "has other wavelengths than .*seg2"),
        (lambda part: segment(1, [1], TARGNAME="W2"), "TARGNAME is 'W2', expected 'WASP-1'"),
        (lambda part: segment(1, [1], EXPOSURE="00002"), "EXPOSURE is '00002', expected '00001'"),
        (lambda part: make_extraction(rows=6), "is one spectrum, expected the spectra of several"),
    ],
)
def test_other_spectra_are_refused(
    change: Callable[[Extraction], Extraction], message: str, paths: list[Path], tmp_path: Path
) -> None:
    change(Extraction.read(paths[1])).write(tmp_path / "other.fits")
    with pytest.raises(ProductError, match=message) as caught:
        Spectrum.read([paths[1], tmp_path / "other.fits"], format="lrs-x1d")
    assert "other.fits" in str(caught.value)


def test_segments_that_were_extracted_otherwise_are_reported(
    paths: list[Path], tmp_path: Path
) -> None:
    other = segment(2, SEGMENTS[1])
    replace(other, keywords_source={**other.keywords, "EXTRXSTR": 1}).write(tmp_path / "other.fits")
    with pytest.warns(LRSWarning, match="other.fits: the aperture is not that of .*seg1"):
        Extraction.read([paths[0], tmp_path / "other.fits", paths[2]])


def test_series_joins_segments_and_nothing_else(paths: list[Path], tmp_path: Path) -> None:
    """Two extractions of a segment, and spectra of other exposures, are compared, not joined."""
    names = list(map(str, paths))
    other, single = str(tmp_path / "other.fits"), str(tmp_path / "single.fits")
    segment(2, SEGMENTS[1], EXPOSURE="00002").write(other)
    make_extraction(rows=6).write(single)
    found = read_series([single, names[2], other, names[0], names[1]])
    assert [one.columns["FLUX"].shape for _, one in found] == [(6,), (9, 6), (2, 6)]
    assert [name for name, _ in found] == [single, f"{names[0]} and 2 more segments", other]
    assert len(read_series([names[0], names[0]])) == 2
