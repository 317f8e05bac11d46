"""A stack whose integrations are in several calints files."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glue_lrs
from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.background import Background
from glue_lrs.combination.combine import combine
from glue_lrs.errors import LRSError, LRSWarning, ProductError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.joined import JoinedPlane
from glue_lrs.image.patched_plane import PatchedPlane
from glue_lrs.image.pixels import DATA_PLANES
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.simulation import Scene

#: First integration of each segment, and the end.
LIMITS = (0, 2, 5, 6)
PLANES = ("data", *DATA_PLANES)


def cut_out(image: SlitImage, number: int, first: int, last: int, **cards: Any) -> SlitImage:
    """Segment `number` of an image, with the integrations from `first` to `last` - 1."""
    part = slice(first, last)
    header = image.header.copy()
    header.update({"EXSEGNUM": number, "INTSTART": first + 1, "INTEND": last, **cards})
    planes = {name: getattr(image, name) for name in PLANES}
    planes = {name: None if plane is None else plane[part] for name, plane in planes.items()}
    return replace(image, **planes, times=image.times[part], header=header)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SlitImage:
    """The stack in one file, with a lost pixel in each integration."""
    image = Scene(seed=4).calints(LIMITS[-1]).image
    assert image.dq is not None
    flags = image.dq.copy()
    flags[np.arange(len(flags)), 200, 30 + np.arange(len(flags))] = 2**31 + 1
    path = tmp_path_factory.mktemp("whole") / "a_calints.fits"
    replace(image, dq=flags).write(path)
    return SlitImage.read(path)


@pytest.fixture(scope="module")
def paths(whole: SlitImage, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("segments")
    found = [folder / f"seg{number}_calints.fits" for number in (1, 2, 3)]
    for number, path in enumerate(found, start=1):
        cut_out(whole, number, LIMITS[number - 1], LIMITS[number]).write(path)
    return found


@pytest.fixture
def stack(paths: list[Path]) -> SlitImage:
    return SlitImage.read([paths[2], paths[0], paths[1]])


def test_segments_are_one_stack(stack: SlitImage, whole: SlitImage) -> None:
    for name in PLANES:
        plane, expected = getattr(stack, name), getattr(whole, name)
        assert (plane is None) == (expected is None)
        if plane is not None:
            assert isinstance(plane, JoinedPlane)
            np.testing.assert_array_equal(np.asarray(plane), expected)
    assert stack.times is not None
    assert whole.times is not None
    for name in whole.times.colnames:
        np.testing.assert_array_equal(stack.times[name], whole.times[name])
    assert stack.times["SEGMENT"].tolist() == [1, 1, 2, 2, 2, 3]
    assert (stack.header["INTSTART"], stack.header["INTEND"]) == (1, 6)
    assert stack.changed == ()
    assert str(stack).count("seg1_calints.fits and 2 more segments") == 1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"background": Background(bkg_coeff=[[3.5], [12.5], [58.5], [68.5]], smoothing_length=3)},
        pytest.param({"bad_pixels": "profile"}, marks=pytest.mark.slow),
        pytest.param({"extraction_type": "optimal"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning")
def test_the_spectra_are_those_of_the_stack_in_one_file(
    options: dict[str, Any], stack: SlitImage, whole: SlitImage
) -> None:
    extract = Extract1D(aperture=Aperture(xstart=30, xstop=41), **options)
    made, expected = extract.run(stack), extract.run(whole)
    for name, values in expected.columns.items():
        np.testing.assert_array_equal(made.columns[name], values)
    assert made.findings == expected.findings
    assert made.times is not None
    assert expected.times is not None
    assert made.times["INT_NUM"].tolist() == [1, 2, 3, 4, 5, 6]
    assert made.times["SEGMENT"].tolist() == [1, 1, 2, 2, 2, 3]
    np.testing.assert_array_equal(made.times["TDB-MID"], expected.times["TDB-MID"])


def test_median_integration_and_spectrum(stack: SlitImage, whole: SlitImage) -> None:
    np.testing.assert_array_equal(stack.median().data, whole.median().data)
    np.testing.assert_array_equal(stack.integration(4).dq, whole.integration(4).dq)
    made, expected = stack.to_spectrum(), whole.to_spectrum()
    np.testing.assert_array_equal(made.flux.value, expected.flux.value)
    np.testing.assert_array_equal(made.mask, expected.mask)


@pytest.mark.filterwarnings("ignore::glue_lrs.errors.NoBackgroundWarning")
def test_the_record_names_all_files(stack: SlitImage, paths: list[Path], tmp_path: Path) -> None:
    extract = Extract1D(aperture=Aperture(xstart=33, xstop=38), use_source_posn=False)
    made = extract.run(stack)
    made.write(tmp_path / "a_x1dints.fits")
    back = glue_lrs.Extraction.read(tmp_path / "a_x1dints.fits")
    assert back.provenance is not None
    names = [one["filename"] for one in back.provenance["input"]["segments"]]
    assert names == list(map(str, paths))
    again = glue_lrs.rerun(back.provenance)
    np.testing.assert_array_equal(again.columns["FLUX"], made.columns["FLUX"])
    with pytest.raises(LRSError, match="input has 1 file, expected 3 as recorded"):
        glue_lrs.rerun(back.provenance, input=paths[0])
    with pytest.raises(LRSError, match=r"seg2.* has SHA-256 .*, expected"):
        glue_lrs.rerun(back.provenance, input=[paths[1], paths[0], paths[2]])


def test_combine_treats_segments_as_one_stack(whole: SlitImage, paths: list[Path]) -> None:
    """The flat-field error is common to all integrations, whether or not they are in one file."""
    extract = Extract1D(aperture=Aperture(xstart=30, xstop=41))
    segments = [extract.run(SlitImage.read(path), check=False) for path in paths]
    made, expected = combine(segments), combine([extract.run(whole, check=False)])
    for name, values in expected.columns.items():
        np.testing.assert_allclose(made.columns[name], values, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": 1}, r"contains the integration 2, which .*seg1.* contains, too"),
        ({"TARGNAME": "other"}, "TARGNAME is 'other', expected "),
        ({"EXPOSURE": "00009"}, "EXPOSURE is '00009', expected "),
        ({"wave": 1.001}, "other.fits: has other wavelengths than .*seg1_calints.fits"),
        ({"flags": None}, "DQ is in one of this file and .*seg1_calints.fits, expected in both"),
        ({"source_type": "EXTENDED"}, "source_type is EXTENDED, expected POINT as in .*seg1"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:.*has no DQ")
def test_other_files_are_refused(
    change: dict[str, Any], message: str, whole: SlitImage, paths: list[Path], tmp_path: Path
) -> None:
    cards = {key: value for key, value in change.items() if key.isupper()}
    other = cut_out(whole, 2, change.get("first", 2), 5, **cards)
    if "wave" in change:
        other = replace(other, wavelength=other.wavelength * np.float32(change["wave"]))
    if "flags" in change:
        other = replace(other, dq=None)
    if "source_type" in change:
        other = replace(other, source_type=change["source_type"])
    other.write(tmp_path / "other.fits")
    with pytest.raises(ProductError, match=message):
        SlitImage.read([paths[0], tmp_path / "other.fits"])


def test_the_same_file_twice_is_refused(paths: list[Path]) -> None:
    with pytest.raises(ProductError, match="the integrations 1 to 2, which"):
        SlitImage.read([paths[0], paths[0]])
    with pytest.raises(ProductError, match="there are no files"):
        SlitImage.read([])


def test_a_gap_is_reported(paths: list[Path]) -> None:
    with pytest.warns(LRSWarning, match="integrations 3 to 5 of the exposure are missing") as found:
        stack = SlitImage.read([paths[0], paths[2]])
    assert len(found) == 1
    assert stack.times is not None
    assert stack.times["integration_number"].tolist() == [1, 2, 6]


def test_without_times_the_header_numbers_the_integrations(
    whole: SlitImage, tmp_path: Path
) -> None:
    for number in (1, 2):
        part = cut_out(whole, number, LIMITS[number - 1], LIMITS[number])
        replace(part, times=None).write(tmp_path / f"{number}_calints.fits")
    stack = SlitImage.read([tmp_path / "2_calints.fits", tmp_path / "1_calints.fits"])
    extract = Extract1D(aperture=Aperture(xstart=30, xstop=41))
    times = extract.run(stack, check=False).times
    assert times is not None
    assert times["INT_NUM"].tolist() == [1, 2, 3, 4, 5]
    assert np.isnan(times["MJD-AVG"]).all()


def test_a_segment_that_is_overwritten_is_noticed(paths: list[Path], tmp_path: Path) -> None:
    copies = [tmp_path / path.name for path in paths]
    for path, copy in zip(paths, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    stack = SlitImage.read(copies)
    with copies[1].open("r+b") as stream:
        stream.truncate(2880)
    data = PatchedPlane(stack.data, np.array([[0], [3], [3]]), 0.0)
    planes = dict.fromkeys(("err", "dq", "var_poisson", "var_rnoise", "var_flat"))
    patched = replace(stack, data=data, wavelength=np.array(stack.wavelength), **planes)
    for image in (stack, patched):
        with pytest.raises(ProductError, match=r"seg2_calints.fits: was overwritten since it was"):
            SlitImage.from_any(image)


def traced(function: Callable[[], object]) -> int:
    """Return the largest memory in bytes that a function allocates."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.slow
def test_the_planes_are_not_held_in_memory(whole: SlitImage, tmp_path: Path) -> None:
    assert whole.times is not None
    paths = [tmp_path / f"{number}_calints.fits" for number in range(8)]
    for number, path in enumerate(paths):
        first = 6 * number
        times = whole.times.copy()
        times["integration_number"] += first
        part = cut_out(whole, 1, 0, 6, EXSEGNUM=number + 1, INTSTART=first + 1, INTEND=first + 6)
        replace(part, times=times).write(path)
    plane = 48 * 416 * 72 * 4  # 6 MB
    assert traced(lambda: SlitImage.read(paths)) < plane / 4
    extract = Extract1D(aperture=Aperture(xstart=30, xstop=41))
    assert traced(lambda: extract.run(SlitImage.read(paths), check=False)) < 2 * plane  # of six
