from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import LRSError, LRSWarning, ReferenceFileError, WriteError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.extraction.rerun import rerun
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.reference.reference import Reference
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.provenance import Provenance

DOCUMENT = {
    "reftype": "EXTRACT1D",
    "remarks": {"free": [1, 2]},
    "apertures": [
        {
            "id": FIXED_SLIT,
            "xstart": 27.25,
            "xstop": 34,
            "bkg_coeff": [[0.5, 0.1], [4.5, 0.1]],
            "bkg_fit": "median",
            "use_source_posn": False,
        }
    ],
}


@pytest.mark.parity
def test_round_trip(tmp_path: Path) -> None:
    from jwst.extract_1d.extract import read_extract1d_ref

    path = tmp_path / "mine.json"
    Reference.from_dict(DOCUMENT).write(path)
    again = Reference.read(path)
    assert again.document == DOCUMENT
    assert again == Reference.from_dict(DOCUMENT)
    assert again.name == str(path)
    assert read_extract1d_ref(str(path)) == DOCUMENT
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.json"]
    Reference.default().write(tmp_path / "default.json")
    assert Reference.read(tmp_path / "default.json") == Reference.default()


def test_one_line_for_each_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    Reference.from_dict(DOCUMENT).write(path)
    lines = path.read_text().splitlines()
    assert '            "bkg_coeff": [[0.5, 0.1], [4.5, 0.1]],' in lines
    assert '    "reftype": "EXTRACT1D",' in lines
    assert path.read_text().endswith("}\n")


@pytest.mark.parametrize(
    ("entry", "written"),
    [
        ({"bkg_coeff": [[1], [3]], "bkg_fit": "mean", "bkg_order": 2},
         {"bkg_coeff": [[1], [3]], "bkg_fit": "poly", "bkg_order": 0}),
        ({"xstart": 3, "bkg_coeff": [[1], [3]], "bkg_fit": None}, {"xstart": 3}),
        ({"disp_axis": 2}, {"dispaxis": 2}),
        ({"use_source_posn": None, "src_coeff": None, "comment": "x"}, {"comment": "x"}),
        ({"src_coeff": [[1], [3]], "xstart": None}, {"src_coeff": [[1], [3]]}),
    ],
)  # fmt: skip
def test_keys_are_converted_for_the_pipeline(
    entry: dict[str, Any], written: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"
    reference = Reference.from_dict({"apertures": [{"id": "ANY", **entry}]})
    reference.write(path)
    assert json.loads(path.read_text())["apertures"] == [{"id": "ANY", **written}]
    assert reference.document["apertures"] == [{"id": "ANY", **entry}]
    operators = [
        Extract1D.from_reference(one, FIXED_SLIT, apply_apcorr=False)
        for one in (reference, Reference.read(path), path, str(path))
    ]
    assert operators.count(operators[0]) == 4


def test_the_file_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    Reference.from_dict(DOCUMENT).write(path)
    operator = Extract1D.from_reference(path, FIXED_SLIT, apply_apcorr=False)
    assert operator.references == (("extract1d", str(path)), ("apcorr", None))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty, expected an EXTRACT1D JSON file"),
        (
            b'{"apertures": [\n  {"id": "ANY",}\n]}',
            "is not JSON: found a comma before '}', .* \\(line 2, column 15\\)",
        ),
        (b'{"apertures": []', "is not JSON: found the end of the text, .* \\(line 1, column 17\\)"),
        (b"SIMPLE  =    T\xff\xfe", "is a FITS file, expected an EXTRACT1D JSON file"),
        (b'{"apertures": "\xff"}', "is not UTF-8 at byte 15"),
        (b'{"apertures": [{"id": "ANY", "xstart": NaN}]}', "holds NaN, expected finite numbers"),
        (b'{"apertures": [{"id": "ANY", "xstart": 1e999}]}', "xstart is inf, expected a finite"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"3", "is a int, expected an object with the key 'apertures'"),
        (b'{"apertures": [{"id": "ANY", "xstrt": 3}]}', "aperture 'ANY': unknown key 'xstrt'"),
    ],
)
def test_invalid_files(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ReferenceFileError, match=message) as caught:
        Reference.read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(
        ReferenceFileError, match=r"no\.json: does not exist, expected an EXTRACT1D"
    ):
        Extract1D.from_reference(tmp_path / "no.json", FIXED_SLIT)
    with pytest.raises(ReferenceFileError, match="is a directory, expected an EXTRACT1D"):
        Reference.read(tmp_path)
    with pytest.raises(ReferenceFileError, match="cannot be read"):
        Reference.read("null\0byte.json")


def test_a_byte_order_mark_and_another_name_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(DOCUMENT).encode())
    assert Reference.read(path).document == DOCUMENT


@pytest.mark.parity
def test_warning_for_duplicate_keys(tmp_path: Path) -> None:
    from jwst.extract_1d.extract import read_extract1d_ref

    path = tmp_path / "twice.json"
    path.write_text('{"apertures": [{"id": "ANY", "xstart": 1, "xstart": 2}]}')
    with pytest.warns(LRSWarning, match=r"twice\.json: xstart: given more than once, the last"):
        reference = Reference.read(path)
    logging.getLogger("jwst").setLevel(logging.CRITICAL)
    assert reference.document == read_extract1d_ref(str(path))


def test_existing_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text("precious")
    with pytest.raises(WriteError, match=r"mine\.json: exists"):
        Reference.default().write(path)
    assert path.read_text() == "precious"
    Reference.default().write(path, overwrite=True)
    assert Reference.read(path) == Reference.default()
    with pytest.raises(WriteError, match=r"expected a name that ends in \.json"):
        Reference.default().write(tmp_path / "mine.txt")
    with pytest.raises(WriteError, match="does not exist"):
        Reference.default().write(tmp_path / "nowhere" / "mine.json")
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.json"]


# --- once more from a provenance ---------------------------------------------------------------


@pytest.fixture
def folder(make_image: Callable[..., SlitImage], tmp_path: Path) -> Path:
    make_image((30, 45)).write(tmp_path / "image.fits")
    rng = np.random.default_rng(2)
    wavelength, size = np.linspace(4, 14, 5), np.arange(3, 9)
    factor = rng.uniform(1, 2, (5, 6))
    write_apcorr(
        ApertureCorrection(wavelength=wavelength, size=size, factor=factor),
        tmp_path / "apcorr.fits",
    )
    return tmp_path


def extraction(folder: Path, apcorr: Any = "apcorr.fits") -> Extraction:
    operator = Extract1D.from_reference(
        DOCUMENT,
        FIXED_SLIT,
        apcorr=folder / apcorr if isinstance(apcorr, str) else apcorr,
        position_offset=0.1,
        max_lost=0.5,
    )
    return operator.run(SlitImage.read(folder / "image.fits"))


def test_rerun_gives_the_same_again(folder: Path) -> None:
    first = extraction(folder)
    assert first.provenance is not None
    stored = Provenance.from_dict(json.loads(json.dumps(dict(first.provenance))))
    for again in (rerun(first.provenance), rerun(stored)):
        for name, values in first.columns.items():
            np.testing.assert_array_equal(again.columns[name], values)
        assert again.provenance is not None
        assert again.provenance["parameters"] == stored["parameters"]
        assert again.provenance["references"] == stored["references"]
        assert again.provenance["input"] == stored["input"]
    uncorrected = extraction(folder, apcorr=None)  # the factors are not all 1
    assert not np.allclose(uncorrected.columns["FLUX"], first.columns["FLUX"], equal_nan=True)


def test_rerun_of_files_that_were_moved(folder: Path) -> None:
    first = extraction(folder)
    assert first.provenance is not None
    stored = Provenance.from_dict(dict(first.provenance))
    for name in ("image", "apcorr"):
        (folder / f"{name}.fits").rename(folder / f"{name}-moved.fits")
    with pytest.raises(LRSError, match=r"image\.fits: the image cannot be read: No such file"):
        rerun(stored)
    with pytest.raises(LRSError, match=r"apcorr\.fits: the APCORR reference cannot be read"):
        rerun(stored, input=folder / "image-moved.fits")
    again = rerun(stored, input=folder / "image-moved.fits", apcorr=folder / "apcorr-moved.fits")
    np.testing.assert_array_equal(again.columns["FLUX"], first.columns["FLUX"])
    with pytest.raises(LRSError, match=r"the APCORR reference has SHA-256 .*, expected"):
        rerun(stored, input=folder / "image-moved.fits", apcorr=folder / "image-moved.fits")


def test_rerun_refuses_another_image(folder: Path, make_image: Callable[..., SlitImage]) -> None:
    stored = Provenance.from_dict(dict(extraction(folder).provenance or {}))
    make_image((30, 45), seed=9).write(folder / "image.fits", overwrite=True)
    with pytest.raises(
        LRSError, match=r"image\.fits: the image has SHA-256 \w{12}\.\.\., expected"
    ):
        rerun(stored)


def test_rerun_without_files(folder: Path, make_image: Callable[..., SlitImage]) -> None:
    correction = ApertureCorrection.read(folder / "apcorr.fits")
    loose = ApertureCorrection(
        wavelength=correction.wavelength, size=correction.size, factor=correction.factor
    )
    first = extraction(folder, apcorr=loose)
    assert first.provenance is not None
    with pytest.raises(LRSError, match="the aperture correction was not read from a file"):
        rerun(first.provenance)
    again = rerun(first.provenance, apcorr=loose)
    np.testing.assert_array_equal(again.columns["FLUX"], first.columns["FLUX"])
    operator = Extract1D.from_parameters(first.provenance["parameters"])
    unknown = operator.run(make_image((30, 45))).provenance
    assert unknown is not None
    with pytest.raises(LRSError, match="was made from an image in memory"):
        rerun(unknown)
    with pytest.warns(LRSWarning, match="no checksum was recorded"):
        rerun(unknown, input=folder / "image.fits")
