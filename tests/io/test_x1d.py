"""x1d and x1dints files and the registered formats of specutils."""

from __future__ import annotations

import io
import json
import os
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits, registry
from astropy.nddata import StdDevUncertainty
from astropy.table import QTable, Table
from astropy.utils.exceptions import AstropyDeprecationWarning
from specutils import SpectralRegion, Spectrum, Spectrum1D, SpectrumList
from specutils.manipulation import FluxConservingResampler, extract_region

import glue_lrs
from glue_lrs.errors import LRSError, ProductError, WriteError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.io.formats import identify_s2d, identify_x1d
from glue_lrs.io.x1d_reader import read_single, read_x1d
from glue_lrs.io.x1d_writer import write_x1d
from glue_lrs.spectra.columns import COLUMNS, ERROR_OF
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.findings import Finding
from glue_lrs.spectra.provenance import Provenance
from tests.helpers.images import marked
from tests.helpers.spectra import make_extraction

REDUCED = ["WAVELENGTH", "FLUX", "FLUX_ERROR", "DQ"]
UNITS = (
    ["um", "Jy", "Jy", "Jy^2", "Jy^2", "Jy^2", "MJy/sr", "MJy/sr"]
    + 3 * ["MJy^2 / sr^2"]
    + [None, "MJy/sr", "MJy/sr"]
    + 3 * ["MJy^2 / sr^2"]
    + [None]
)


def make_stack(integrations: int = 4, **options: Any) -> Extraction:
    """A stack with all times, and INT_TIMES to pass on."""
    extraction = make_extraction(integrations=integrations, **options)
    numbers = np.arange(5, 5 + integrations, dtype=np.int32)
    times = Table({"INT_NUM": numbers, "SEGMENT": np.full(integrations, 2, dtype=np.int32)})
    for name in ("MJD-BEG", "MJD-AVG", "MJD-END", "TDB-BEG", "TDB-MID", "TDB-END"):
        times[name] = 59000.0 + numbers / 7 + len(times.colnames) / 11
        times[name].unit = "d"
    int_times = Table({"integration_number": numbers})
    for system in ("MJD_UTC", "BJD_TDB"):
        for part in ("start", "mid", "end"):
            int_times[f"int_{part}_{system}"] = 59000.0 + numbers / 9 + len(int_times.colnames)
    header = extraction.header.copy()
    header["EXP_TYPE"] = "MIR_LRS-SLITLESS"
    return replace(extraction, times=times, int_times=int_times, header=header)


def full_header() -> fits.Header:
    """Cards as in a product of the pipeline, comments and section titles included."""
    header = fits.Header()
    header["SIMPLE"] = True
    header["FILENAME"] = ("jw1_s2d.fits", "Name of the file")
    header["DATAMODL"] = "SlitModel"
    header["TELESCOP"] = "JWST"
    header["INSTRUME"] = "MIRI"
    header["EXP_TYPE"] = "MIR_LRS-FIXEDSLIT"
    header[""] = "Target information"
    header["TARG_RA"] = (53.08269282805595, "[deg] Target RA")
    header["TARG_DEC"] = -27.8
    header["EFFINTTM"] = 332.0
    header["EFFEXPTM"] = 664.0
    header["R_FLAT"] = "crds://jwst_miri_flat_0790.fits"
    header["S_PHOTOM"] = "COMPLETE"
    header.add_history("made for a test")
    return header


@pytest.fixture
def extraction() -> Extraction:
    """A spectrum with two bad rows and the header of a product."""
    return replace(make_extraction(bad=[0, 17]), header=full_header())


@pytest.fixture
def x1d(extraction: Extraction, tmp_path: Path) -> Path:
    path = tmp_path / "a_x1d.fits"
    extraction.write(path)
    return path


@pytest.fixture
def x1dints(tmp_path: Path) -> Path:
    path = tmp_path / "a_x1dints.fits"
    make_stack(bad=[3]).write(path)
    return path


def assert_bits(one: Extraction, other: Extraction) -> None:
    assert list(one.columns) == list(other.columns)
    for name, values in other.columns.items():
        assert one.columns[name].dtype == values.dtype
        assert one.columns[name].shape == values.shape
        assert one.columns[name].tobytes() == values.tobytes(), name
    assert one.units == other.units
    assert one.keywords == other.keywords


# --- the file -------------------------------------------------------------------------------------


def test_x1d_round_trip_is_exact(extraction: Extraction, x1d: Path) -> None:
    back = read_single(x1d)
    assert_bits(back, extraction)
    for card in extraction.header.cards:
        if card.keyword not in ("SIMPLE", "FILENAME", "DATAMODL", "", "HISTORY"):
            assert back.header[card.keyword] == card.value
            assert back.header.comments[card.keyword] == card.comment
    assert "made for a test" in str(back.header["HISTORY"])
    assert back.filename == str(x1d)
    again = x1d.with_name("b_x1d.fits")
    back.write(again)
    with fits.open(x1d) as one, fits.open(again) as other:
        difference = fits.FITSDiff(one, other, ignore_keywords=["DATE", "FILENAME"])
    assert difference.identical, difference.report()


def test_x1dints_round_trip_is_exact(x1dints: Path) -> None:
    stack = make_stack(bad=[3])
    back = read_single(x1dints)
    assert_bits(back, stack)
    assert back.is_stack
    for found, expected in ((back.times, stack.times), (back.int_times, stack.int_times)):
        assert found is not None
        assert expected is not None
        assert found.colnames == expected.colnames
        for name in expected.colnames:
            np.testing.assert_array_equal(found[name], expected[name])
            assert found[name].dtype == expected[name].dtype


def test_table_is_laid_out_as_the_pipelines(x1d: Path) -> None:
    with fits.open(x1d) as hdulist:
        assert [hdu.name for hdu in hdulist] == ["PRIMARY", "EXTRACT1D", "ASDF"]
        primary, header = hdulist[0].header, hdulist[1].header
    assert (header["NAXIS1"], header["EXTVER"]) == (140, 1)
    assert [header[f"TTYPE{n}"] for n in range(1, 19)] == list(COLUMNS)
    assert [header[f"TFORM{n}"] for n in range(1, 19)] == ["D"] * 11 + ["J"] + ["D"] * 6
    assert [header.get(f"TUNIT{n}") for n in range(1, 19)] == UNITS
    assert header["TZERO12"] == 2**31
    assert (header["SLTNAME"], header["SRCTYPE"], header["EXTRXSTR"]) == ("slit", "POINT", 27.5)
    assert primary["FILENAME"] == "a_x1d.fits"
    assert primary["DATAMODL"] == "MultiSpecModel"
    assert primary["S_EXTR1D"] == "COMPLETE"
    assert len(primary["DATE"]) == len("2026-11-22T13:27:46.072")


def test_stack_is_laid_out_as_the_pipelines(x1dints: Path) -> None:
    with fits.open(x1dints) as hdulist:
        assert [hdu.name for hdu in hdulist] == ["PRIMARY", "INT_TIMES", "EXTRACT1D", "ASDF"]
        assert hdulist[0].header["DATAMODL"] == "TSOMultiSpecModel"
        header, data = hdulist["EXTRACT1D"].header, hdulist["EXTRACT1D"].data
        names = ["INT_NUM", *COLUMNS, "N_ALONGDISP", "SEGMENT"]
        assert data.names[:21] == names
        assert (header["TFORM3"], header["TDIM3"]) == ("40D", "(40)")
        assert data["N_ALONGDISP"].tolist() == [40] * 4


@pytest.mark.parity
@pytest.mark.parametrize(
    ("references", "cards"),
    [
        ({}, ("N/A", "N/A")),
        (
            {"extract1d": "/a/b/jwst_miri_extract1d_0005.json", "apcorr": "my_apcorr.fits"},
            ("crds://jwst_miri_extract1d_0005.json", "my_apcorr.fits"),
        ),
        (
            {
                "extract1d": "jwst_miri_extract1d_new.json",
                "apcorr": "/c/jwst_miri_apcorr_0010.fits",
            },
            ("jwst_miri_extract1d_new.json", "crds://jwst_miri_apcorr_0010.fits"),
        ),
    ],
)
def test_references_are_named_in_cards(
    extraction: Extraction, tmp_path: Path, references: dict[str, str], cards: tuple[str, str]
) -> None:
    made = replace(extraction, provenance=Provenance({}, references=references))
    write_x1d(made, tmp_path / "x.fits")
    header = fits.getheader(tmp_path / "x.fits")
    assert (header["R_EXTR1D"], header["R_APCORR"]) == cards
    names = list(header)
    assert names.index("R_EXTR1D") == names.index("R_FLAT") + 1  # next to its group
    from stdatamodels.jwst import datamodels

    with datamodels.open(tmp_path / "x.fits") as model:
        assert model.meta.ref_file.extract1d.name == cards[0]
        assert model.meta.ref_file.apcorr.name == cards[1]


def test_file_without_provenance_keeps_its_cards(extraction: Extraction, tmp_path: Path) -> None:
    extraction.header["R_EXTR1D"] = "crds://jwst_miri_extract1d_0007.json"
    made = replace(extraction, provenance=None)
    made.write(tmp_path / "x.fits")
    back = read_single(tmp_path / "x.fits")
    assert back.provenance is None
    assert back.header["R_EXTR1D"] == "crds://jwst_miri_extract1d_0007.json"


def test_provenance_round_trip(extraction: Extraction, tmp_path: Path) -> None:
    source = tmp_path / "in.fits"
    source.write_bytes(b"something")
    parameters = {
        "reference": {"xstart": 27, "src_coeff": [[0.5, 1e-7], [3.0]], "bkg_fit": None},
        "step": {"position_offset": np.float64(0.25), "apply_apcorr": True},
        "options": {},
    }
    provenance = Provenance(
        parameters, str(source), {"extract1d": None}, {"column": 1.5}, [Finding("changed", "a: b")]
    )
    replace(extraction, provenance=provenance).write(tmp_path / "x.fits")
    stored = read_single(tmp_path / "x.fits").provenance
    assert stored is not None
    assert dict(stored) == dict(provenance)
    assert json.loads(json.dumps(dict(stored))) == dict(stored)  # plain: no numpy, no ASDF types
    assert len(stored["input"]["sha256"]) == 64
    assert stored["date"] == provenance["date"]
    read_single(tmp_path / "x.fits").write(tmp_path / "y.fits")
    again = read_single(tmp_path / "y.fits").provenance
    assert again is not None
    assert dict(again) == dict(provenance)


def test_long_values_fit_into_the_header(extraction: Extraction, tmp_path: Path) -> None:
    extraction.header["TARGPROP"] = "x" * 100
    keywords = dict(extraction.keywords) | {"S_REGION": "POLYGON ICRS " + "53.084113765 " * 8}
    replace(extraction, keywords_source=keywords).write(tmp_path / "x.fits")
    back = read_single(tmp_path / "x.fits")
    assert back.header["TARGPROP"] == "x" * 100
    assert back.keywords["S_REGION"].strip() == keywords["S_REGION"].strip()


def test_names_that_are_not_ascii(extraction: Extraction, tmp_path: Path) -> None:
    references = {"extract1d": "/été/spécial.json"}
    made = replace(extraction, provenance=Provenance({}, references=references))
    path = tmp_path / "é_x1d.fits"
    made.write(path)
    back = read_single(path)
    assert back.header["FILENAME"] == "?_x1d.fits"
    assert back.header["R_EXTR1D"] == "sp?cial.json"
    assert back.provenance is not None
    assert back.provenance["references"]["extract1d"]["filename"] == "/été/spécial.json"


def test_nothing_is_overwritten_or_left_behind(extraction: Extraction, tmp_path: Path) -> None:
    path = tmp_path / "x_x1d.fits"
    path.write_text("precious")
    with pytest.raises(WriteError, match="exists"):
        extraction.write(path)
    with pytest.raises(WriteError, match="exists"):
        extraction.to_spectrum().write(path, format="lrs-x1d")
    assert path.read_text() == "precious"
    extraction.write(path, overwrite=True)
    assert_bits(read_single(path), extraction)
    broken = replace(extraction, columns=extraction.columns | {"DQ": np.zeros((2, 2), np.uint32)})
    with pytest.raises(ValueError, match=r"shape|broadcast|dimension"):
        broken.write(tmp_path / "y.fits")
    with pytest.raises(WriteError, match="does not exist"):
        extraction.write(tmp_path / "none" / "y.fits")
    assert os.listdir(tmp_path) == [path.name]


# --- what others make of it -----------------------------------------------------------------------


@pytest.mark.parity
def test_pipeline_opens_and_combines_an_x1d(extraction: Extraction, x1d: Path) -> None:
    from jwst.combine_1d.combine1d import combine_1d_spectra
    from stdatamodels.jwst import datamodels

    with datamodels.open(x1d) as model:
        assert type(model) is datamodels.MultiSpecModel
        model.validate()
        assert model.meta.cal_step.extract_1d == "COMPLETE"
        assert model.meta.ref_file.extract1d.name == "N/A"
        assert model.meta.filename == "a_x1d.fits"
        assert model.spec[0].name == "slit"
        table = model.spec[0].spec_table
        assert table.dtype.names == COLUMNS
        for name in COLUMNS:
            np.testing.assert_array_equal(table[name], extraction.columns[name])
        assert table.columns["flux"].unit == "Jy"
        _, _, wave = model.spec[0].meta.wcs(np.arange(40.0))
        np.testing.assert_allclose(wave, extraction.wavelength, rtol=1e-15)
        combined = combine_1d_spectra(model, "exposure_time")
        assert combined.meta.cal_step.combine_1d == "COMPLETE"
        good = ~extraction.mask
        result = combined.spec[0].spec_table
        for name, column in (("FLUX", "FLUX"), ("ERROR", "FLUX_ERROR")):
            expected = extraction.columns[column][good][::-1]
            np.testing.assert_allclose(result[name], expected, rtol=1e-12)


@pytest.mark.parity
def test_pipeline_opens_and_combines_an_x1dints(x1dints: Path) -> None:
    from jwst.combine_1d.combine1d import combine_1d_spectra
    from stdatamodels.jwst import datamodels

    stack = make_stack(bad=[3])
    with datamodels.open(x1dints) as model:
        assert type(model) is datamodels.TSOMultiSpecModel
        model.validate()
        table = model.spec[0].spec_table
        for name in COLUMNS:
            np.testing.assert_array_equal(table[name], stack.columns[name])
        np.testing.assert_array_equal(table["TDB-MID"], stack.times["TDB-MID"])  # type: ignore[index]
        name = "int_mid_BJD_TDB"
        np.testing.assert_array_equal(model.int_times[name], stack.int_times[name])  # type: ignore[index]
        combined = combine_1d_spectra(model, "unit_weight")
        assert combined.meta.cal_step.combine_1d == "COMPLETE"
        expected = np.delete(stack.columns["FLUX"].mean(axis=0), 3)[::-1]
        np.testing.assert_allclose(combined.spec[0].spec_table["FLUX"], expected, rtol=1e-12)


@pytest.mark.parity
def test_pipelines_model_writes_a_file_that_comes_back(x1d: Path, tmp_path: Path) -> None:
    from stdatamodels.jwst import datamodels

    with datamodels.open(x1d) as model:
        model.save(tmp_path / "saved_x1d.fits")
    back, first = read_single(tmp_path / "saved_x1d.fits"), read_single(x1d)
    assert_bits(back, first)
    assert back.provenance is not None
    assert dict(back.provenance) == dict(first.provenance)  # type: ignore[arg-type]


def test_specutils_own_reader_takes_an_x1d(extraction: Extraction, x1d: Path) -> None:
    spectrum = Spectrum.read(x1d, format="JWST x1d")
    np.testing.assert_array_equal(spectrum.flux.value, extraction.columns["FLUX"])
    np.testing.assert_array_equal(spectrum.spectral_axis.value, extraction.wavelength)
    np.testing.assert_array_equal(spectrum.uncertainty.array, extraction.columns["FLUX_ERROR"])


@pytest.mark.parity
def test_reduced_table_is_refused_by_the_pipeline_not_misread(
    extraction: Extraction, tmp_path: Path
) -> None:
    """With an unsigned DQ the models read columns by position, and DQ as a variance."""
    from stdatamodels.jwst import datamodels

    twice = extraction.to_spectrum() * 2
    path = tmp_path / "left_out.fits"
    twice.write(path, format="lrs-x1d", all_columns=False)
    with pytest.raises(ValueError, match="Column names don't match schema"):
        datamodels.open(path)
    own = Spectrum.read(path, format="JWST x1d")
    np.testing.assert_array_equal(own.flux.value, 2 * extraction.columns["FLUX"])


CHANGES = {
    "times two": lambda spectrum: spectrum * 2,
    "mJy": lambda spectrum: spectrum.with_flux_unit("mJy"),
    "cut": lambda spectrum: extract_region(spectrum, SpectralRegion(5 * u.um, 9 * u.um)),
    "cut and times two": lambda spectrum: (
        extract_region(spectrum, SpectralRegion(5 * u.um, 9 * u.um)) * 2
    ),
}


@pytest.mark.parity
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("integrations", [None, 3])
def test_changed_spectrum_is_opened_and_combined_by_the_pipeline(
    change: Callable[[Spectrum], Spectrum], integrations: int | None, tmp_path: Path
) -> None:
    from jwst.combine_1d.combine1d import combine_1d_spectra
    from stdatamodels.jwst import datamodels

    if integrations is None:
        extraction = replace(make_extraction(bad=[0, 17]), header=full_header())
    else:
        extraction = make_stack(integrations, bad=[0, 17])
        extraction.header.update({"EFFINTTM": 332.0, "EFFEXPTM": 996.0})
    extraction.columns["DQ"][..., 20:23] |= 4
    spectrum = change(extraction.to_spectrum())
    path = tmp_path / "x1d.fits"
    spectrum.write(path, format="lrs-x1d")
    with datamodels.open(path, strict_validation=True) as model:
        model.validate()
        table = model.spec[0].spec_table
        assert [name for name in table.dtype.names if name in COLUMNS] == list(COLUMNS)
        flux, good = table["FLUX"], ~np.isnan(table["FLUX"])
        np.testing.assert_allclose(
            flux[good], spectrum.flux.to_value("Jy")[..., ::-1][good], rtol=1e-14
        )
        inside = np.isin(extraction.wavelength, np.atleast_2d(table["WAVELENGTH"])[0])
        np.testing.assert_array_equal(table["DQ"], extraction.columns["DQ"][..., inside])
        same = change is CHANGES["cut"]
        assert np.isnan(table["NPIXELS"]).all() == (not same)
        combined = combine_1d_spectra(model, "exposure_time")
        assert combined.meta.cal_step.combine_1d == "COMPLETE"
        assert np.isfinite(combined.spec[0].spec_table["FLUX"]).any()


# --- files of others ------------------------------------------------------------------------------


def old_table(extraction: Extraction, **cards: Any) -> fits.BinTableHDU:
    """EXTRACT1D as the pipeline wrote it before 1.3: fewer columns under other names."""
    names = {
        "WAVELENGTH": "WAVELENGTH",
        "FLUX": "FLUX",
        "ERROR": "FLUX_ERROR",
        "SURF_BRIGHT": "SURF_BRIGHT",
        "SB_ERROR": "SB_ERROR",
        "SB_VAR_POISSON": "SB_VAR_POISSON",
        "DQ": "DQ",
        "BACKGROUND": "BACKGROUND",
        "BERROR": "BKGD_ERROR",
        "NPIXELS": "NPIXELS",
    }
    units = {
        "WAVELENGTH": "um",
        "FLUX": "Jy",
        "ERROR": "Jy",
        "SURF_BRIGHT": "MJy/sr",
        "SB_VAR_POISSON": "(MJy/sr)^2",
    }
    columns = [
        fits.Column(
            name=name,
            format="J" if name == "DQ" else "D",
            bzero=2**31 if name == "DQ" else None,
            unit=units.get(name),
            array=extraction.columns[new],
        )
        for name, new in names.items()
    ]
    return fits.BinTableHDU.from_columns(columns, header=fits.Header(cards), name="EXTRACT1D")


def write_hdus(path: Path, *hdus: Any, **cards: Any) -> Path:
    header = fits.Header(
        {"TELESCOP": "JWST", "INSTRUME": "MIRI", "EXP_TYPE": "MIR_LRS-FIXEDSLIT"} | cards
    )
    fits.HDUList([fits.PrimaryHDU(header=header), *hdus]).writeto(path)
    return path


def test_old_names_and_units(tmp_path: Path) -> None:
    extraction = make_extraction(bad=[4])
    path = write_hdus(tmp_path / "x.fits", old_table(extraction, SRCTYPE="POINT"))
    back = read_single(path)
    for name in ("FLUX", "FLUX_ERROR", "SB_VAR_POISSON", "BKGD_ERROR", "NPIXELS", "DQ"):
        np.testing.assert_array_equal(back.columns[name], extraction.columns[name])
    assert "FLUX_VAR_FLAT" not in back.columns
    assert u.Unit(back.units["SB_VAR_POISSON"]) == u.Unit("MJy2 / sr2")
    assert back.units["BACKGROUND"] == "MJy/sr"  # which the table did not say
    spectrum = Spectrum.read(path)
    np.testing.assert_array_equal(spectrum.mask[::-1], extraction.mask)
    assert spectrum.uncertainty is not None
    assert Spectrum.read(path, column="SB_VAR_POISSON").unit == u.Unit("MJy2 / sr2")
    with pytest.raises(LRSError, match=r"'FLUX_VAR_FLAT'.*expected one of FLUX, FLUX_ERROR"):
        Spectrum.read(path, column="FLUX_VAR_FLAT")


@pytest.mark.parametrize("numbered", [True, False])
def test_an_extension_for_each_integration_is_a_stack(tmp_path: Path, numbered: bool) -> None:
    parts = [make_extraction(seed=seed, bad=[seed]) for seed in range(3)]
    tables = []
    for number, part in enumerate(parts, 1):
        cards: dict[str, Any] = {"SRCTYPE": "POINT", "EXTVER": number}
        if numbered:
            cards |= {"INT_NUM": number + 10, "MJD-BEG": 59000.5 + number, "TDB-MID": 1.0 * number}
        tables.append(old_table(part, **cards))
    exp_type = "MIR_LRS-FIXEDSLIT" if numbered else "MIR_LRS-SLITLESS"
    path = write_hdus(tmp_path / "x1dints.fits", *tables, EXP_TYPE=exp_type)
    stack = read_single(path)
    assert stack.columns["FLUX"].shape == (3, 40)
    assert stack.times is not None
    assert stack.times["INT_NUM"].tolist() == ([11, 12, 13] if numbered else [1, 2, 3])
    assert stack.keywords == {"SRCTYPE": "POINT"}
    spectrum = Spectrum.read(path)
    assert spectrum.shape == (3, 40)
    for number, part in enumerate(parts):
        np.testing.assert_array_equal(stack.columns["FLUX"][number], part.columns["FLUX"])
        if numbered:
            assert spectrum.meta["times"]["MJD-BEG"][number] == 59001.5 + number
    assert [one.shape for one in SpectrumList.read(path)] == [(40,)] * 3
    stack.write(tmp_path / "new.fits")
    again = read_single(tmp_path / "new.fits")
    np.testing.assert_array_equal(again.columns["FLUX"], stack.columns["FLUX"])


def pad(path: Path, lengths: list[int]) -> None:
    """Truncate the spectra of an x1dints, like the pipeline for rows without a value."""
    with fits.open(path, mode="update") as hdulist:
        data = hdulist["EXTRACT1D"].data
        for line, length in enumerate(lengths):
            for name in COLUMNS:
                data[name][line, length:] = 1 if name == "DQ" else np.nan
            data["N_ALONGDISP"][line] = length


def test_padding_is_cut_off(x1dints: Path) -> None:
    pad(x1dints, [35] * 4)
    stack = read_single(x1dints)
    assert stack.columns["FLUX"].shape == (4, 35)
    np.testing.assert_array_equal(
        stack.columns["FLUX"], make_stack(bad=[3]).columns["FLUX"][:, :35]
    )
    assert Spectrum.read(x1dints).shape == (4, 35)


def test_integrations_with_different_wavelengths_are_split(x1dints: Path) -> None:
    pad(x1dints, [35, 40, 38, 40])
    with pytest.raises(ProductError, match=r"has 4 spectra.*SpectrumList\.read"):
        Spectrum.read(x1dints)
    spectra = SpectrumList.read(x1dints)
    assert [one.shape for one in spectra] == [(35,), (40,), (38,), (40,)]
    assert [one.meta["times"]["INT_NUM"].tolist() for one in spectra] == [[5], [6], [7], [8]]


def test_several_spectra_make_a_list(tmp_path: Path) -> None:
    parts = [make_extraction(rows=rows, seed=rows) for rows in (30, 40)]
    path = write_hdus(tmp_path / "x.fits", *(old_table(part) for part in parts))
    assert [one.columns["FLUX"].shape for one in read_x1d(path)] == [(30,), (40,)]
    spectra = SpectrumList.read(path, column="SURF_BRIGHT", order="file")
    for spectrum, part in zip(spectra, parts, strict=True):
        np.testing.assert_array_equal(spectrum.flux.value, part.columns["SURF_BRIGHT"])
    with pytest.raises(ProductError, match=r"x\.fits: has 2 spectra.*SpectrumList\.read"):
        Spectrum.read(path)


def test_single_integration_keeps_its_time(x1dints: Path, tmp_path: Path) -> None:
    spectrum = SpectrumList.read(x1dints)[2]
    spectrum.write(tmp_path / "one.fits", format="lrs-x1d")
    header = fits.getheader(tmp_path / "one.fits", "EXTRACT1D")
    assert header["INT_NUM"] == 7
    back = Spectrum.read(tmp_path / "one.fits")
    np.testing.assert_array_equal(back.flux, spectrum.flux)
    for name in ("INT_NUM", "MJD-BEG", "TDB-END"):
        assert back.meta["times"][name] == spectrum.meta["times"][name]


# --- what cannot be read --------------------------------------------------------------------------


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9000])


def _emptied(path: Path) -> None:
    with fits.open(path) as hdulist:
        table = fits.BinTableHDU(hdulist[1].data[:0], name="EXTRACT1D")
        write_hdus(path.with_name("new.fits"), table)
    path.with_name("new.fits").replace(path)


def _columnless(path: Path) -> None:
    path.unlink()
    write_hdus(path, fits.BinTableHDU(Table({"A": [1.0]}).as_array(), name="EXTRACT1D"))


def _image_table(path: Path) -> None:
    path.unlink()
    write_hdus(path, fits.ImageHDU(np.zeros((3, 3)), name="EXTRACT1D"))


def _s2d(path: Path) -> None:
    path.unlink()
    write_hdus(path, fits.ImageHDU(np.zeros((3, 3)), name="SCI"))


def _card(**cards: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with fits.open(path, mode="update") as hdulist:
            hdulist[0].header.update(cards)

    return change


def _odd_shapes(path: Path) -> None:
    path.unlink()
    columns = [
        fits.Column(name="WAVELENGTH", format="D", array=np.arange(3.0)),
        fits.Column(name="FLUX", format="2D", array=np.ones((3, 2))),
    ]
    write_hdus(path, fits.BinTableHDU.from_columns(columns, name="EXTRACT1D"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_text("hello"), "is not a FITS file"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.unlink(), "does not exist"),
        (_truncated, "truncated"),
        (_emptied, "the table EXTRACT1D has no rows"),
        (_columnless, "the table EXTRACT1D has the columns A, expected WAVELENGTH, FLUX"),
        (_image_table, "EXTRACT1D is an image, expected a table"),
        (_odd_shapes, r"FLUX has the shape \(3, 2\), expected"),
        (_s2d, "found SCI, expected an x1d with an EXTRACT1D extension"),
        (
            _card(INSTRUME="NIRSPEC", EXP_TYPE="NRS_FIXEDSLIT"),
            r"NRS_FIXEDSLIT \(NIRSPEC\), expected",
        ),
        (_card(EXP_TYPE="MIR_MRS"), "EXP_TYPE is MIR_MRS"),
    ],
)
@pytest.mark.parametrize("kind", [Spectrum, SpectrumList])
def test_invalid_files(x1d: Path, change: Callable[[Path], None], message: str, kind: Any) -> None:
    change(x1d)
    with pytest.raises(ProductError, match=message) as caught:
        kind.read(x1d, format="lrs-x1d")
    assert str(caught.value).startswith(str(x1d))
    assert "\n" not in str(caught.value)


def test_extractions_of_files_can_be_pickled(x1d: Path) -> None:
    extraction = read_single(x1d)
    copy = pickle.loads(pickle.dumps(extraction))
    assert_bits(copy, extraction)
    assert copy.provenance is not None
    assert dict(copy.provenance) == dict(extraction.provenance)  # type: ignore[arg-type]


def test_damaged_provenance_fails_on_access(x1d: Path) -> None:
    raw = x1d.read_bytes()
    x1d.write_bytes(raw.replace(b"\nglue_lrs:", b"\nglue_lrs: ]").replace(b"\n...", b"..."))
    provenance = read_single(x1d).provenance
    assert provenance is not None
    with pytest.raises(ProductError, match="the provenance in the ASDF extension cannot be read"):
        dict(provenance)


# --- specutils' registry --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["path", "text", "stream", "bytes", "hdulist"])
def test_every_kind_of_source(x1d: Path, kind: str) -> None:
    expected = read_single(x1d)
    with open(x1d, "rb") as stream, fits.open(x1d) as hdulist:
        source = {
            "path": x1d,
            "text": str(x1d),
            "stream": stream,
            "bytes": io.BytesIO(x1d.read_bytes()),
            "hdulist": hdulist,
        }[kind]
        spectrum = Spectrum.read(source)
        assert hdulist[0].header["TELESCOP"] == "JWST"  # left open
    np.testing.assert_array_equal(spectrum.mask[::-1], expected.mask)
    assert spectrum.meta["extraction"].columns["NPIXELS"].sum() > 0
    np.testing.assert_array_equal(
        spectrum.meta["extraction"].columns["FLUX"], expected.columns["FLUX"]
    )


def test_closed_list_is_opened_again(x1d: Path) -> None:
    with fits.open(x1d) as hdulist:
        pass
    assert Spectrum.read(hdulist, format="lrs-x1d").shape == (40,)


def test_old_class_name_works(x1d: Path) -> None:
    with pytest.warns(AstropyDeprecationWarning):
        spectrum = Spectrum1D.read(x1d, format="lrs-x1d")
    assert type(spectrum) is Spectrum1D
    assert spectrum.mask.sum() == 2
    assert spectrum.unit == u.Jy
    assert [one["text"] for one in spectrum.meta["glue_lrs"]["findings"]] == ["as measured"]
    assert isinstance(spectrum.uncertainty, StdDevUncertainty)


@pytest.mark.parametrize("column", ["FLUX", "SURF_BRIGHT", "BACKGROUND", "NPIXELS"])
@pytest.mark.parametrize("order", ["ascending", "file"])
@pytest.mark.parametrize("fill", ["interpolate", "nan"])
def test_keywords_of_reading(x1d: Path, column: str, order: str, fill: str) -> None:
    spectrum = Spectrum.read(x1d, column=column, order=order, fill=fill)
    expected = read_single(x1d).to_spectrum(column, order=order, fill=fill)  # type: ignore[arg-type]
    np.testing.assert_array_equal(spectrum.flux, expected.flux)
    np.testing.assert_array_equal(spectrum.spectral_axis, expected.spectral_axis)
    if column in ERROR_OF:
        np.testing.assert_array_equal(spectrum.uncertainty.array, expected.uncertainty.array)
    if fill == "nan" and column != "NPIXELS":
        assert np.isnan(spectrum.flux.value).sum() == 2


def test_stack_as_one_and_as_many(x1dints: Path) -> None:
    stack = Spectrum.read(x1dints)
    assert stack.shape == (4, 40)
    assert stack.meta["times"]["INT_NUM"].tolist() == [5, 6, 7, 8]
    spectra = SpectrumList.read(x1dints)
    assert len(spectra) == 4
    for number, spectrum in enumerate(spectra):
        np.testing.assert_array_equal(spectrum.flux, stack.flux[number])
        np.testing.assert_array_equal(spectrum.uncertainty.array, stack.uncertainty.array[number])
        assert spectrum.meta["times"]["INT_NUM"].tolist() == [5 + number]
        assert spectrum.meta["extraction"].columns["NPIXELS"].shape == (40,)


def formats_of(source: Any, kind: Any = Spectrum) -> set[str]:
    """The formats of this package that identify a source."""
    path = source if isinstance(source, str | Path) else None
    found = registry.identify_format("read", kind, path, None, [source], {})
    return {name for name in found if name.startswith("lrs")}


@pytest.mark.parametrize("kind", [Spectrum, SpectrumList])
def test_only_lrs_files_are_claimed(
    x1d: Path, x1dints: Path, tmp_path: Path, make_image: Any, kind: Any
) -> None:
    image = tmp_path / "i_s2d.fits"
    make_image().write(image)
    assert formats_of(x1d, kind) == formats_of(x1dints, kind) == {"lrs-x1d"}
    assert formats_of(image, kind) == {"lrs-s2d"}
    table = old_table(make_extraction(), SRCTYPE="POINT")
    science = fits.ImageHDU(np.zeros((3, 4)), name="SCI")
    others = [
        write_hdus(
            tmp_path / "nirspec_x1d.fits", table, INSTRUME="NIRSPEC", EXP_TYPE="NRS_MSASPEC"
        ),
        write_hdus(tmp_path / "mrs_x1d.fits", table, EXP_TYPE="MIR_MRS"),
        write_hdus(tmp_path / "nirspec_s2d.fits", science, INSTRUME="NIRSPEC", EXP_TYPE="NRS_IFU"),
        write_hdus(tmp_path / "miri_i2d.fits", science, EXP_TYPE="MIR_IMAGE"),
        write_hdus(tmp_path / "hst.fits", table, TELESCOP="HST"),
        write_hdus(tmp_path / "bare.fits"),
    ]
    text = tmp_path / "text.fits"
    text.write_text("SIMPLE, but no FITS file")
    (tmp_path / "empty.fits").write_bytes(b"")
    for path in [*others, text, tmp_path / "empty.fits", tmp_path / "none.fits", tmp_path]:
        assert formats_of(path, kind) == set(), path
        assert formats_of(str(path), kind) == set(), path


@pytest.mark.parametrize("identify", [identify_s2d, identify_x1d])
def test_identifiers_never_raise(identify: Callable[..., bool], x1d: Path) -> None:
    for arguments in ((), (None, None), (None, None, None), (None, None, 3), (None, None, [x1d])):
        assert identify("read", *arguments) is False
    assert identify("write", str(x1d), None) is False
    stream = io.BytesIO(x1d.read_bytes())
    stream.seek(17)
    assert identify("read", None, stream, stream) is (identify is identify_x1d)
    assert stream.tell() == 17


def test_foreign_spectra_are_still_read_by_others(tmp_path: Path) -> None:
    table = old_table(make_extraction(), SRCTYPE="POINT")
    asdf = fits.BinTableHDU(Table({"A": [1]}).as_array(), name="ASDF")
    path = write_hdus(tmp_path / "x.fits", table, asdf, INSTRUME="NIRSPEC", EXP_TYPE="NRS_IFU")
    spectrum = Spectrum.read(path)
    assert "extraction" not in spectrum.meta
    assert spectrum.spectral_axis[0] > spectrum.spectral_axis[-1]


# --- images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(30, 20), (3, 30, 20)])
def test_s2d_format_extracts_to_the_same_numbers(
    make_image: Callable[..., SlitImage], tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = tmp_path / "a_s2d.fits"
    marked(make_image, shape).write(path)
    operator = glue_lrs.Extract1D(aperture=glue_lrs.Aperture(xstart=2.3, xstop=13.8))
    expected = operator.run(SlitImage.read(path))
    with open(path, "rb") as stream, fits.open(path) as hdulist:
        for source in (path, stream, hdulist, io.BytesIO(path.read_bytes())):
            spectrum = Spectrum.read(source, format="lrs-s2d")
            assert spectrum.shape == (*shape[:-2], 20, 29)
            found = operator.run(spectrum)
            for name in COLUMNS:
                np.testing.assert_array_equal(found.columns[name], expected.columns[name])
    assert Spectrum.read(path).meta["header"]["EXP_TYPE"] == "MIR_LRS-FIXEDSLIT"
    with pytest.raises(ProductError, match="expected an x1d"):
        Spectrum.read(path, format="lrs-x1d")


def test_s2d_format_refuses_an_x1d(x1d: Path) -> None:
    with pytest.raises(ProductError, match="expected an s2d"):
        Spectrum.read(x1d, format="lrs-s2d")


# --- writing spectra ------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["FLUX", "SURF_BRIGHT"])
@pytest.mark.parametrize("order", ["ascending", "file"])
@pytest.mark.parametrize("fill", ["interpolate", "nan"])
def test_unchanged_spectrum_writes_the_whole_file(
    x1d: Path, tmp_path: Path, column: str, order: str, fill: str
) -> None:
    spectrum = Spectrum.read(x1d, column=column, order=order, fill=fill)
    spectrum.write(tmp_path / "y.fits", format="lrs-x1d")
    with fits.open(x1d) as one, fits.open(tmp_path / "y.fits") as other:
        difference = fits.FITSDiff(one, other, ignore_keywords=["DATE", "FILENAME"])
    assert difference.identical, difference.report()


def test_unchanged_stack_writes_the_whole_file(x1dints: Path, tmp_path: Path) -> None:
    Spectrum.read(x1dints).write(tmp_path / "y.fits", format="lrs-x1d")
    with fits.open(x1dints) as one, fits.open(tmp_path / "y.fits") as other:
        difference = fits.FITSDiff(one, other, ignore_keywords=["DATE", "FILENAME"])
    assert difference.identical, difference.report()


def written(spectrum: Spectrum, path: Path, **options: bool) -> QTable:
    spectrum.write(path, format="lrs-x1d", overwrite=True, **options)
    return QTable.read(path, hdu="EXTRACT1D", mask_invalid=False)


def test_region_is_written_with_all_columns(x1d: Path, tmp_path: Path) -> None:
    first = QTable.read(x1d, hdu="EXTRACT1D", mask_invalid=False)
    region = SpectralRegion(5 * u.um, 9 * u.um)
    table = written(extract_region(Spectrum.read(x1d), region), tmp_path / "y.fits")
    inside = (first["WAVELENGTH"] >= 5 * u.um) & (first["WAVELENGTH"] <= 9 * u.um)
    assert table.colnames == list(COLUMNS)
    for name in COLUMNS:
        np.testing.assert_array_equal(table[name], first[name][inside])


@pytest.mark.parametrize(
    "change",
    [
        lambda spectrum: spectrum * 2,
        lambda spectrum: spectrum.with_flux_unit("mJy"),
        lambda spectrum: FluxConservingResampler()(spectrum, np.linspace(5, 12, 9) * u.um),
        lambda spectrum: extract_region(spectrum, SpectralRegion(5 * u.um, 9 * u.um)) * 2,
    ],
    ids=["times two", "mJy", "resampled", "cut and times two"],
)
def test_changed_spectrum_is_written_as_it_is(
    x1d: Path, tmp_path: Path, change: Callable[[Spectrum], Spectrum]
) -> None:
    spectrum = change(Spectrum.read(x1d))
    table = written(spectrum, tmp_path / "y.fits", all_columns=False)
    assert table.colnames == REDUCED
    complete = written(spectrum, tmp_path / "y.fits")
    assert complete.colnames == list(COLUMNS)
    for name in COLUMNS:
        if name in REDUCED:
            np.testing.assert_array_equal(complete[name], table[name])
        else:
            assert np.isnan(complete[name]).all()
    assert [complete[name].unit for name in COLUMNS] == [unit and u.Unit(unit) for unit in UNITS]
    assert table["FLUX"].unit == table["FLUX_ERROR"].unit == u.Jy
    mask = np.zeros(spectrum.shape, dtype=bool) if spectrum.mask is None else spectrum.mask
    turn = (
        slice(None, None, -1) if table["WAVELENGTH"][0] > table["WAVELENGTH"][-1] else slice(None)
    )
    error = spectrum.uncertainty.represent_as(StdDevUncertainty).quantity
    np.testing.assert_allclose(table["WAVELENGTH"][turn], u.Quantity(spectrum.spectral_axis))
    np.testing.assert_array_equal(table["DQ"][turn], mask)
    np.testing.assert_allclose(table["FLUX"][turn][~mask], spectrum.flux.to("Jy")[~mask])
    np.testing.assert_allclose(table["FLUX_ERROR"][turn][~mask], error.to("Jy")[~mask])
    assert np.isnan(table["FLUX"][turn][mask]).all()
    back = Spectrum.read(tmp_path / "y.fits", format="lrs-x1d")
    np.testing.assert_allclose(back.flux, spectrum.flux.to("Jy"), rtol=1e-12)
    np.testing.assert_allclose(back.uncertainty.quantity, error.to("Jy"), rtol=1e-12)
    assert (back.mask is None) == (not mask.any())


def test_flags_of_a_changed_spectrum_are_kept(extraction: Extraction, tmp_path: Path) -> None:
    extraction.columns["DQ"][20:23] |= 4
    twice = extraction.to_spectrum() * 2
    for spectrum in (twice, twice[5:]):
        spectrum.write(tmp_path / "y.fits", format="lrs-x1d", overwrite=True)
        found = read_single(tmp_path / "y.fits")
        inside = np.isin(extraction.wavelength, found.wavelength)
        np.testing.assert_array_equal(found.columns["DQ"], extraction.columns["DQ"][inside])


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (slice(1, 3), [6, 7]),
        (2, [7]),
        (-1, [8]),
        ((slice(1, 3), slice(5, 9)), [6, 7]),
        ((1, slice(5, 9)), [6]),
        ((slice(None, None, 2), slice(5 * u.um, 9 * u.um)), [5, 7]),
        (slice(5 * u.um, 9 * u.um), [5, 6, 7, 8]),
        (np.array([True, False, False, True]), [5, 8]),
        ((Ellipsis, slice(5, 9)), [5, 6, 7, 8]),
    ],
)
def test_selected_integrations_have_their_times(
    x1dints: Path, tmp_path: Path, part: Any, expected: list[int]
) -> None:
    stack = Spectrum.read(x1dints, format="lrs-x1d")
    chosen = stack[part]
    assert chosen.meta["times"]["INT_NUM"].tolist() == expected
    assert stack.meta["times"]["INT_NUM"].tolist() == [5, 6, 7, 8]
    for spectrum in (chosen, chosen * 2):
        spectrum.write(tmp_path / "y.fits", format="lrs-x1d", overwrite=True)
        times = read_single(tmp_path / "y.fits").times
        assert times is not None
        assert times["INT_NUM"].tolist() == expected
        assert times["MJD-BEG"].tolist() == chosen.meta["times"]["MJD-BEG"].tolist()


def test_int_times_without_rows_is_passed_on(tmp_path: Path) -> None:
    stack = make_stack()
    assert stack.int_times is not None
    replace(stack, int_times=stack.int_times[:0]).write(tmp_path / "x.fits")
    Spectrum.read(tmp_path / "x.fits").write(tmp_path / "y.fits", format="lrs-x1d")
    for name in ("x.fits", "y.fits"):
        with fits.open(tmp_path / name) as hdulist:
            assert len(hdulist["INT_TIMES"].data) == 0
            assert hdulist["INT_TIMES"].columns.names == stack.int_times.colnames


def test_header_changed_by_the_user_is_written(x1d: Path, tmp_path: Path) -> None:
    spectrum = Spectrum.read(x1d)
    spectrum.meta["header"] = spectrum.meta["header"].copy()
    spectrum.meta["header"]["OBSERVER"] = "me"
    spectrum.write(tmp_path / "y.fits", format="lrs-x1d")
    assert fits.getheader(tmp_path / "y.fits")["OBSERVER"] == "me"
    assert "OBSERVER" not in read_single(x1d).header


def test_the_header_of_the_original_is_written_if_meta_has_none(x1d: Path, tmp_path: Path) -> None:
    """As in a spectrum that has been loaded in jdaviz."""
    spectrum = Spectrum.read(x1d)
    cards = spectrum.meta.pop("header")
    spectrum.write(tmp_path / "y.fits", format="lrs-x1d")
    assert fits.getheader(tmp_path / "y.fits")["TELESCOP"] == cards["TELESCOP"]


def test_x1d_of_a_spectrum_from_elsewhere(tmp_path: Path) -> None:
    wave, flux = np.linspace(5, 12, 8) * u.um, np.linspace(1, 2, 8) * u.mJy
    plain = Spectrum(flux=flux, spectral_axis=wave)
    table = written(plain, tmp_path / "z.fits", all_columns=False)
    assert table.colnames == ["WAVELENGTH", "FLUX", "DQ"]
    assert written(plain, tmp_path / "y.fits").colnames == list(COLUMNS)
    np.testing.assert_allclose(table["FLUX"].to("mJy"), flux, rtol=1e-15)
    header = fits.getheader(tmp_path / "y.fits")
    assert header["DATAMODL"] == "MultiSpecModel"
    assert "TELESCOP" not in header
    back = Spectrum.read(tmp_path / "y.fits", format="lrs-x1d")
    assert back.uncertainty is None
    assert back.meta["glue_lrs"] is None
    np.testing.assert_allclose(back.flux.to("mJy"), flux, rtol=1e-15)


def test_spectrum_of_specutils_own_reader_is_rewritten(x1d: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its merged header has cards of tables
        own = Spectrum.read(x1d, format="JWST x1d")
    table = written(own, tmp_path / "y.fits")
    assert table.colnames == list(COLUMNS)
    np.testing.assert_array_equal(table["FLUX"], own.flux)
    back = read_single(tmp_path / "y.fits")
    assert back.keywords["SLTNAME"] == "slit"
    assert back.header["TARG_RA"] == 53.08269282805595
    assert "TTYPE1" not in back.header
    assert "SLTNAME" not in back.header
