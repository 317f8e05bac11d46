"""Files made to hang the program, to fill the memory, to reach the network, or to be misread."""

from __future__ import annotations

import gzip
import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from glue_lrs.cli.summary import describe_file
from glue_lrs.errors import LRSError, LRSWarning, ProductError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.io.c1d import read_c1d
from glue_lrs.io.files import parse_asdf
from glue_lrs.io.identify import is_lrs_product
from glue_lrs.io.x1d_reader import read_single, read_x1d
from tests.helpers.images import slit
from tests.mutations.products import make_products

#: Longest time in seconds that a refusal may take, on a loaded machine.
SECONDS = 20.0


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_products(tmp_path_factory.mktemp("products"))


def refused(path: Path, message: str, read: Callable[[Path], Any] = SlitImage.read) -> None:
    start = time.perf_counter()
    with pytest.raises(LRSError, match=message) as caught:
        read(path)
    assert not is_lrs_product(path, ("s2d", "x1d"))
    assert time.perf_counter() - start < SECONDS
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def card(name: str, value: str, hdu: int = 1) -> Callable[[bytes], bytes]:
    """Replace the value of a card in an HDU of a file."""

    def change(raw: bytes) -> bytes:
        start = [
            at for at in range(0, len(raw), 2880) if raw[at : at + 6] in (b"SIMPLE", b"XTENSI")
        ]
        place = raw.index(name.ljust(8).encode() + b"=", start[hdu])
        return raw[:place] + f"{name:8}= {value}".ljust(80).encode() + raw[place + 80 :]

    return change


def repeated(name: str, value: str) -> Callable[[bytes], bytes]:
    """Give a card a second time, with another value, in place of BUNIT."""

    def change(raw: bytes) -> bytes:
        place = raw.index(b"BUNIT   =")
        return raw[:place] + f"{name:8}= {value}".ljust(80).encode() + raw[place + 80 :]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (repeated("NAXIS", "T"), "NAXIS of extension 1 is given twice, as '2' and 'T'"),
        (repeated("NAXIS2", "3"), "NAXIS2 of extension 1 is given twice, as '40' and '3'"),
        (card("NAXIS", "-1"), "NAXIS of extension 1 is '-1', expected 0 to 999"),
        (card("NAXIS", "1000000000000"), "NAXIS of extension 1 is '1000000000000', expected 0 to"),
        (card("NAXIS1", "-46"), "NAXIS1 of extension 1 is '-46', expected at least 0"),
        (card("NAXIS2", "1000000000000"), "is truncated, extension 1 states 1840000+[0-9]* bytes"),
        (card("NAXIS2", "'forty'"), "NAXIS2 of extension 1 is 'forty', expected at least 0"),
        (card("BITPIX", "-31"), "BITPIX of extension 1 is -31, expected 8, 16"),
        (card("GCOUNT", "999999999999"), "is truncated, extension 1 states [0-9]* bytes"),
        (card("PCOUNT", "-9999"), "PCOUNT of extension 1 is '-9999', expected at least 0"),
        (card("TFIELDS", "1000000000", -1), "TFIELDS of extension 7 is '1000000000', expected 0"),
        (card("TFORM1", "'999999999D'", -1), "the columns of extension 7 take 7999999992 bytes"),
        (card("TFORM1", "'9Y'", -1), "TFORM1 of extension 7 is '9Y', expected one like '10D'"),
        (lambda raw: raw[:2880] + b"XTENSION" * 36000, "a header has no end"),
        (lambda raw: raw + bytes(5000), "is damaged or truncated, extension 8 has no valid header"),
    ],
)
def test_sizes(
    products: dict[str, Path], tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "a_s2d.fits"
    path.write_bytes(change(products["s2d"].read_bytes()))
    refused(path, message)


def test_compressed_files_that_expand_without_end(
    products: dict[str, Path], tmp_path: Path
) -> None:
    raw = products["s2d"].read_bytes()
    zeros = gzip.compress(bytes(1 << 24), 1)
    path = tmp_path / "a_s2d.fits.gz"
    path.write_bytes(zeros * 40)
    refused(path, "is not a FITS file")
    path.write_bytes(gzip.compress(raw) + zeros * 40)
    refused(path, "expands from .* MB to more than .* MB, expected at most 50 times its size")
    path.write_bytes(gzip.compress(raw))
    assert SlitImage.read(path).shape == slit().shape


def asdf(body: bytes) -> bytes:
    return (
        b"#ASDF 1.0.0\n#ASDF_STANDARD 1.5.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n"
        b"--- !core/asdf-1.1.0\n" + body + b"\n...\n"
    )


def with_asdf(source: Path, path: Path, content: bytes) -> Path:
    with fits.open(source) as hdulist:
        data = np.frombuffer(content, dtype=np.uint8)[np.newaxis]
        column = fits.Column("ASDF_METADATA", format=f"{data.size}B", array=data)
        hdulist["ASDF"] = fits.BinTableHDU.from_columns([column], name="ASDF")
        hdulist.writeto(path)
    return path


def bomb(levels: int, key: str) -> bytes:
    """Aliases of aliases: the tree expands to 10 ** levels nodes."""
    lines = [f"{key}:", "  a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for level in range(1, levels):
        copies = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"  a{level}: &a{level} [{copies}]")
    return "\n".join(lines).encode()


BOMBS = {
    "aliases": (bomb(30, "glue_lrs"), "expands to .* nodes, expected at most 1000000"),
    "depth": (b"glue_lrs: " + b"[" * 900 + b"]" * 900, "cannot be read, .*nested in more than 200"),
    "array": (
        b"glue_lrs: !core/ndarray-1.0.0\n  source: 0\n  shape: [100000, 100000]\n"
        b"  datatype: int8\n  byteorder: big\n  strides: [0, 0]",
        "an array has 1e.10 elements",
    ),
    "axes": (b"glue_lrs: {mapping: [0, 2147483648]}", "a transform has 2.15e.09 axes"),
    "inputs": (b"glue_lrs: {mapping: [0], n_inputs: 900000000}", "a transform has 9e.08 axes"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_trees_that_expand_without_end(
    products: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """In the WCS and in the record of the extraction, which is optional."""
    body, message = BOMBS[kind]
    path = with_asdf(products["s2d"], tmp_path / "a_s2d.fits", asdf(body))
    image = SlitImage.read(path)
    start = time.perf_counter()
    with pytest.raises(ProductError, match=message):
        _ = image.wcs
    spectrum = read_single(with_asdf(products["x1d"], tmp_path / "a_x1d.fits", asdf(body)))
    assert np.isfinite(spectrum.columns["FLUX"]).any()
    with pytest.raises(ProductError, match=message):
        dict(spectrum.provenance or {})
    assert time.perf_counter() - start < SECONDS


@pytest.mark.parametrize(
    "node",
    [
        b"!core/ndarray-1.0.0 {source: 'http://127.0.0.1:9/a', shape: [3], datatype: int8}",
        b"!core/ndarray-1.0.0 {source: 'file:///etc/hostname', shape: [3], datatype: int8}",
        b"{$ref: 'http://127.0.0.1:9/a#/b'}",
        b"{$ref: 'file:///etc/hostname#/b'}",
    ],
)
def test_external_sources_are_ignored(node: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **_: asked.append(args))
    monkeypatch.setattr(socket.socket, "connect", lambda *args, **_: asked.append(args))
    assert parse_asdf(asdf(b"a: 3\nb: " + node + b"\nc: [1, " + node + b"]")) == {
        "a": 3,
        "c": [1],
    }
    assert not asked


def test_a_damaged_record_is_reported_and_the_spectrum_read(
    products: dict[str, Path], tmp_path: Path
) -> None:
    expected = read_single(products["x1d"])
    path = with_asdf(products["x1d"], tmp_path / "a_x1d.fits", asdf(b"glue_lrs: [1, 2]"))
    np.testing.assert_array_equal(read_single(path).columns["FLUX"], expected.columns["FLUX"])
    with pytest.warns(LRSWarning, match=r"a_x1d\.fits: .*; how the spectrum was made is unknown"):
        facts, text = describe_file(str(path))
    assert "made_by_glue_lrs" not in facts
    assert "another program" in text


def test_cards_that_cannot_be_read(products: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "a_s2d.fits"
    path.write_bytes(card("TARGNAME", "'open quote", 0)(products["s2d"].read_bytes()))
    with pytest.warns(LRSWarning, match="the header of PRIMARY has invalid cards, .*: TARGNAME"):
        image = SlitImage.read(path)
    assert "TARGNAME" not in image.header
    assert image.header["FILTER"] == "P750L"


def test_names_of_cards_are_no_patterns(products: dict[str, Path], tmp_path: Path) -> None:
    """astropy expands ``*`` and ``?`` in a name that is looked up in a header."""
    path = tmp_path / "a_x1d.fits"
    raw = products["x1d"].read_bytes()
    place = raw.index(b"TARGNAME=")
    path.write_bytes(raw[:place] + b"\xfe\xfe[\xfe".ljust(80, b"\xfe") + raw[place + 80 :])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)  # such cards are left out
        found = read_single(path).table.meta["header"]
    assert found["FILTER"] == "P750L"
    assert "TARGNAME" not in found


def test_spectra_with_wavelengths_of_their_own_have_tables(
    products: dict[str, Path], tmp_path: Path
) -> None:
    """The integrations of an x1dints are single spectra if their wavelengths differ."""
    path = tmp_path / "a_x1dints.fits"
    with fits.open(products["x1dints"]) as hdulist:
        hdulist["EXTRACT1D"].data["WAVELENGTH"][1, 0] -= 0.5
        hdulist.writeto(path)
    spectra = read_x1d(path)
    assert len(spectra) == 3
    for number, one in enumerate(spectra, start=1):
        assert len(one.table) == one.columns["FLUX"].size
        assert one.table.meta["times"]["INT_NUM"] == number


def test_a_record_of_another_kind_is_not_shown(products: dict[str, Path], tmp_path: Path) -> None:
    """An x1d with the record of a combination, whose parameters are no groups."""
    tree = b"glue_lrs: {parameters: {scale: false}, inputs: [], versions: {}, date: today}"
    path = with_asdf(products["x1d"], tmp_path / "a_x1d.fits", asdf(tree))
    with pytest.warns(LRSWarning, match="invalid value of 'parameters'; how the spectrum was made"):
        assert "another program" in describe_file(str(path))[1]


def test_info_of_damaged_positions(products: dict[str, Path], tmp_path: Path) -> None:
    image, spectrum = tmp_path / "a_s2d.fits", tmp_path / "a_x1d.fits"
    with fits.open(products["s2d"]) as hdulist:
        hdulist[0].header["DITH_RA"] = 30.0
        hdulist[0].header.pop("DITH_DEC", None)
        hdulist.writeto(image)
    with fits.open(products["x1d"]) as hdulist:
        header = next(one.header for one in hdulist if "EXTRYSTP" in one.header)
        header["EXTRYSTP"] = 1e300
        hdulist.writeto(spectrum)
    spectrum.write_bytes(spectrum.read_bytes().replace(b"1E+300", b"1E+999"))
    assert "intended position" not in describe_file(str(image))[1]
    assert "(inclusive, from 0)" not in describe_file(str(spectrum))[1]


@pytest.mark.parametrize(
    ("column", "unit", "factor"),
    [
        ("WAVELENGTH", "nm", 1e3),
        ("WAVELENGTH", "Angstrom", 1e4),
        ("WAVELENGTH", "m", 1e-6),
        ("FLUX", "mJy", 1e3),
        ("FLUX", "uJy", 1e6),
        ("FLUX_ERROR", "mJy", 1e3),
        ("FLUX_VAR_FLAT", "mJy2", 1e6),
        ("SURF_BRIGHT", "Jy / arcsec2", 1e6 / 4.254517029615222e10),
    ],
)
def test_columns_are_converted_from_their_units(
    products: dict[str, Path], tmp_path: Path, column: str, unit: str, factor: float
) -> None:
    expected = read_single(products["x1d"])
    path = tmp_path / "a_x1d.fits"
    with fits.open(products["x1d"]) as hdulist:
        hdulist["EXTRACT1D"].data[column] *= factor
        hdulist["EXTRACT1D"].columns[column].unit = unit
        hdulist.writeto(path)
    spectrum = read_single(path)
    assert spectrum.units == expected.units
    for name, values in expected.columns.items():
        np.testing.assert_allclose(spectrum.columns[name], values, rtol=1e-12)


@pytest.mark.parametrize("unit", ["K", "furlong/??", "Hz", "W / m2"])
@pytest.mark.parametrize("kind", ["x1d", "c1d"])
def test_other_units_are_refused(
    products: dict[str, Path], tmp_path: Path, kind: str, unit: str
) -> None:
    path = tmp_path / f"a_{kind}.fits"
    hdu = "EXTRACT1D" if kind == "x1d" else "COMBINE1D"
    with fits.open(products[kind]) as hdulist:
        hdulist[hdu].header["TUNIT2"] = unit
        fits.HDUList([fits.PrimaryHDU(header=hdulist[0].header), hdulist[hdu]]).writeto(
            path, output_verify="ignore"
        )
    with pytest.raises(ProductError, match=r"is in .*, expected 'Jy' \(TUNIT\)"):
        (read_single if kind == "x1d" else read_c1d)(path)
