"""Spectra in text files: export, and tables of other programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.table import QTable, Table

from glue_lrs.combination.combine import combine
from glue_lrs.errors import LRSError
from glue_lrs.io.text import FORMATS, export_spectrum, is_text, read_text
from glue_lrs.spectra.extraction import Extraction
from tests.helpers.spectra import make_extraction, spectrum

#: A spectrum with a flux density of 2 mJy and an error of 0.1 mJy at 5, 6 and 8 micron.
TEXTS = {
    "names.csv": "wavelength [um],flux [mJy],flux_err [mJy]\n6,2,0.1\n5,2,0.1\n8,2,0.1\n",
    "blanks.txt": "# Wave(um) Flux(uJy) ERR(uJy)\n5 2000 100\n6 2000 100\n8 2000 100\n",
    "angstrom.dat": "lambda[Angstrom] fnu[Jy] sigma[mJy]\n5e4 0.002 .1\n6e4 2e-3 .1\n8e4 2e-3 .1\n",
    "frequency.tsv": "wave[THz]\tflux[mJy]\tunc[mJy]\n"
    + "".join(f"{299.792458 / wave}\t2\t0.1\n" for wave in (5, 6, 8)),
    "watt.txt": "WAVE[um] F_LAM[W/m2/um] error[W/m2/um]\n"
    + "".join(
        f"{w} {5.99584916e-15 / w**2:.12e} {2.99792458e-16 / w**2:.12e}\n" for w in (5, 6, 8)
    ),
    "comments.txt": "# A spectrum\n# of a star\n"
    "wave[um] flux[mJy] err[mJy]\n5 2 .1\n6 2 .1\n8 2 .1\n",
}


def close(extraction: Extraction) -> None:
    np.testing.assert_allclose(extraction.wavelength, [5.0, 6.0, 8.0], rtol=1e-9)
    np.testing.assert_allclose(extraction.columns["FLUX"], 2e-3, rtol=1e-9)
    np.testing.assert_allclose(extraction.columns["FLUX_ERROR"], 1e-4, rtol=1e-9)
    assert extraction.units == {"WAVELENGTH": "um", "FLUX": "Jy", "FLUX_ERROR": "Jy"}
    assert not extraction.mask.any()


@pytest.mark.parametrize("name", TEXTS)
def test_tables_with_units_in_their_names(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(TEXTS[name])
    assert is_text(str(path))
    close(read_text(str(path)))


@pytest.mark.parametrize("form", ["ascii.ecsv", "ascii.ipac", "ascii.mrt"])
def test_tables_with_units_in_their_format(form: str, tmp_path: Path) -> None:
    table = Table({"lambda": [5.0, 6.0, 8.0], "Flux": [2.0] * 3, "e_Flux": [0.1] * 3})
    table["lambda"].unit, table["Flux"].unit, table["e_Flux"].unit = u.um, u.mJy, u.mJy
    path = tmp_path / "a.txt"
    table.write(path, format=form)
    close(read_text(str(path), ("nm", "Jy")))  # which apply to columns without unit only


def test_units_are_given_where_the_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("wave flux err\n5 2 0.1\n6 2 0.1\n8 2 0.1\n")
    close(read_text(str(path), ("um", "mJy")))


def test_rows_without_values_are_masked_or_omitted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("wave[um],flux[Jy],err[Jy]\n5,1,0.1\n6,,\n7,nan,0.1\n,4,0.1\n8,2,0.1\n")
    extraction = read_text(str(path))
    assert extraction.wavelength.tolist() == [5.0, 6.0, 7.0, 8.0]
    assert extraction.mask.tolist() == [False, True, True, False]
    assert extraction.columns["FLUX"][[0, 3]].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wave flux\n5 1\n6 1\n", "a.txt: the column 'wave' has no unit"),
        ("wave[um] flux\n5 1\n6 1\n", "a.txt: the column 'flux' has no unit"),
        ("wave[um] depth[%]\n5 1\n6 1\n", "a.txt: has no column for the flux, found wave"),
        ("5 1\n6 1\n", "a.txt: has no column for the wavelength, found col1, col2"),
        ("wave[um] flux[%]\n5 1\n6 1\n", "a.txt: the flux is in %"),
        ("wave[um] flux[Jy] err[um]\n5 1 1\n6 1 1\n", "a.txt: the column 'err[um]' cannot be used"),
        ("wave[s] flux[Jy]\n5 1\n6 1\n", "a.txt: the column 'wave[s]' cannot be used"),
        (
            "wave[um] flux[foo]\n5 1\n6 1\n",
            "a.txt: the column 'flux[foo]' is in foo, expected a unit",
        ),
        ("wave[um] flux[Jy]\n5 one\n6 two\n", "a.txt: the column 'flux[Jy]' cannot be used"),
        ("wave[um] flux[Jy] DQ\n5 1 good\n6 2 bad\n", "a.txt: the column 'DQ' cannot be used"),
        ("wave[um] flux[Jy]\n5 1\n5 2\n", "a.txt: has repeated or fewer than two wavelengths"),
        ("wave[um] flux[Jy]\n5 1\n", "a.txt: has repeated or fewer than two wavelengths"),
        ("wave[um] flux[Jy]\n-5 1\n6 2\n", "a.txt: has wavelengths that are not positive"),
        ("INT_NUM wave[um] flux[Jy]\n1 5 1\n1 6 2\n2 5 1\n", "a.txt: has 3 rows"),
        ("INT_NUM wave[um] flux[Jy]\n1 5 1\n1 6 2\n2 5 1\n2 7 2\n", "different wavelengths"),
        ("", "a.txt: is not a table with named columns"),
        ("some\x00 binary", "a.txt: "),
    ],
)
def test_other_tables_are_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(LRSError) as caught:
        read_text(str(tmp_path / "a.txt"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00wave")
    with pytest.raises(LRSError, match="is not a text file in UTF-8"):
        read_text(str(tmp_path / "a.csv"))
    with pytest.raises(LRSError, match=r"does-not-exist\.csv: cannot be read, No such file"):
        read_text("does-not-exist.csv")
    assert not is_text("a_x1d.fits")
    assert not is_text("a_x1d.fits.gz")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("integrations", [None, 1, 3])
def test_an_export_has_all_values_and_units(
    form: str, integrations: int | None, tmp_path: Path
) -> None:
    original = make_extraction(integrations=integrations, bad=[0, 7])
    fits, text = tmp_path / "a.fits", tmp_path / f"a.{form}"
    original.write(fits)
    export_spectrum(str(fits), text, form)
    table = QTable.read(text, format=FORMATS[form])
    written = {name.split("[")[0]: name for name in table.colnames}
    for name, values in original.columns.items():
        column, unit = table[written[name]], u.Unit(original.units.get(name, ""))
        if form == "ecsv":
            assert (column.unit or u.one) == unit
        else:
            assert u.Unit(written[name].removeprefix(name).strip("[]")) == unit
        plain = np.ma.filled(np.ma.asarray(getattr(column, "value", column), dtype=float), np.nan)
        np.testing.assert_array_equal(plain, np.ravel(values), err_msg=name)
    if integrations:
        rows = original.wavelength.size
        assert table["INT_NUM"].tolist() == [
            n + 1 for n in range(integrations) for _ in range(rows)
        ]
    if form == "ecsv":
        assert table.meta["header"]["TELESCOP"] == "JWST"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("integrations", [None, 3])
def test_an_export_can_be_read(form: str, integrations: int | None, tmp_path: Path) -> None:
    original = make_extraction(integrations=integrations, bad=[0, 7])
    fits, text = tmp_path / "a.fits", tmp_path / f"a.{form}"
    original.write(fits)
    export_spectrum(str(fits), text, form)
    back = read_text(str(text))
    assert back.filename == str(text)
    np.testing.assert_array_equal(back.wavelength, original.wavelength[::-1])
    np.testing.assert_array_equal(back.mask, original.mask[..., ::-1])
    for name in ("FLUX", "FLUX_ERROR"):
        np.testing.assert_array_equal(back.columns[name], original.columns[name][..., ::-1])
        assert back.units[name] == original.units[name]


@pytest.mark.parametrize("integrations", [None, 3])
def test_the_table_of_an_extraction_can_be_read(integrations: int | None, tmp_path: Path) -> None:
    original = make_extraction(integrations=integrations, bad=[7])
    wave = original.columns["WAVELENGTH"].copy()
    wave[..., 3] = np.nan  # as in padding
    columns = {**original.columns, "WAVELENGTH": wave}
    replace(original, columns=columns).table.write(tmp_path / "a.ecsv")
    back = read_text(str(tmp_path / "a.ecsv"))
    expected = np.delete(original.columns["FLUX"], 3, axis=-1)[..., ::-1]
    np.testing.assert_array_equal(back.columns["FLUX"], expected)


def test_a_combination_is_exported(tmp_path: Path) -> None:
    combination = combine([spectrum(seed=seed) for seed in (1, 2)])
    combination.write(tmp_path / "a_c1d.fits")
    export_spectrum(str(tmp_path / "a_c1d.fits"), tmp_path / "a.ecsv", "ecsv")
    table = QTable.read(tmp_path / "a.ecsv")
    assert table.colnames == list(combination.columns)
    np.testing.assert_array_equal(table["FLUX"].value, combination.columns["FLUX"])
    assert table.meta["glue_lrs"]["parameters"]["weights"] == "exposure_time"
    with pytest.raises(LRSError, match="exists"):
        export_spectrum(str(tmp_path / "a_c1d.fits"), tmp_path / "a.ecsv", "ecsv")
