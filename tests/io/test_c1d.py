"""c1d files: round trips, and exchange with the pipeline and specutils."""

from __future__ import annotations

import io
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from specutils import Spectrum, SpectrumList

from glue_lrs import Aperture, Extract1D
from glue_lrs.combination.combination import COLUMNS, Combination
from glue_lrs.combination.combine import combine
from glue_lrs.errors import LRSError, LRSWarning, ProductError, WriteError
from glue_lrs.io.c1d import read_c1d
from glue_lrs.io.formats import identify_c1d
from glue_lrs.io.spectra import combine_files, read_inputs
from tests.helpers.spectra import SIZE, lose, make_extraction, nods, spectrum


@pytest.fixture
def combination() -> Combination:
    given = [lose(spectrum(seed=k, TARGNAME="SN", TARG_RA=53.0), [7]) for k in range(4)]
    given[2].columns["FLUX"][20] += 3.0
    given[1].columns["DQ"][30] = 1 << 31
    return combine(given, sigma_clip=5.0)


def same(one: Combination, other: Combination) -> None:
    for name in COLUMNS:
        np.testing.assert_array_equal(one.columns[name], other.columns[name], err_msg=name)
        assert one.columns[name].dtype == other.columns[name].dtype
    assert one.units == other.units


def test_round_trip(tmp_path: Path, combination: Combination) -> None:
    path = tmp_path / "a_c1d.fits"
    combination.write(path)
    found = Combination.read(path)
    same(found, combination)
    assert found.clipped is not None
    np.testing.assert_array_equal(found.clipped, combination.clipped)
    assert found.clipped.sum() == 1
    assert found.filename == str(path)
    assert found.keywords == combination.keywords
    assert found.header["TARGNAME"] == "SN"
    assert found.header["S_EXTR1D"] == found.header["S_COMB1D"] == "COMPLETE"
    assert found.header["DATAMODL"] == "MultiCombinedSpecModel"
    assert found.header["FILENAME"] == "a_c1d.fits"
    assert found.header["EFFEXPTM"] == 4 * 332.0
    assert found.provenance is not None
    assert dict(found.provenance) == json.loads(json.dumps(dict(combination.provenance or {})))
    assert [one.to_dict() for one in found.inputs] == [one.to_dict() for one in combination.inputs]
    # A second round trip changes nothing.
    found.write(tmp_path / "b_c1d.fits")
    same(Combination.read(tmp_path / "b_c1d.fits"), combination)
    assert sorted(os.listdir(tmp_path)) == ["a_c1d.fits", "b_c1d.fits"]


@pytest.mark.parity
def test_the_pipelines_model_opens_it(tmp_path: Path, combination: Combination) -> None:
    from stdatamodels.jwst import datamodels

    path = tmp_path / "a_c1d.fits"
    combination.write(path)
    with datamodels.open(path) as model:
        assert isinstance(model, datamodels.MultiCombinedSpecModel)
        (spec,) = model.spec
        table = spec.spec_table
        for name in COLUMNS:
            np.testing.assert_array_equal(table[name.lower()], combination.columns[name])
        assert table.dtype["DQ"] == np.dtype("uint32")
        units = {column.name.upper(): column.unit for column in table.columns}
        assert {name: unit for name, unit in units.items() if unit} == combination.units
        assert spec.source_type == "POINT"
        assert spec.spectral_order == 1
        assert model.meta.cal_step.combine_1d == "COMPLETE"
        assert model.meta.exposure.type == "MIR_LRS-FIXEDSLIT"
        _, _, wave = model.meta.wcs(np.arange(SIZE))
        np.testing.assert_allclose(wave, combination.wavelength)
        model.validate()


def test_a_weight_in_no_unit(tmp_path: Path, combination: Combination) -> None:
    """As in a damaged file. A flux in no unit is refused."""
    path = tmp_path / "a_c1d.fits"
    combination.write(path)
    with fits.open(path, mode="update") as hdus:
        hdus["COMBINE1D"].columns["WEIGHT"].unit = "??"
    with pytest.warns(LRSWarning, match=r"a_c1d.fits: WEIGHT is in '\?\?', which is no unit"):
        found = read_c1d(path)
    assert found.table["WEIGHT"].unit is None
    assert found.table["FLUX"].unit == u.Jy
    with fits.open(path, mode="update") as hdus:
        hdus["COMBINE1D"].columns["FLUX"].unit = "??"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        with pytest.raises(ProductError, match=r"FLUX is in '\?\?', expected 'Jy'"):
            read_c1d(path)


def test_specutils_own_reader_opens_it(tmp_path: Path, combination: Combination) -> None:
    path = tmp_path / "a_c1d.fits"
    header = combination.header
    header["TELESCOP"] = "JWST"
    combination.write(path)
    theirs = Spectrum.read(path, format="JWST c1d")
    np.testing.assert_array_equal(theirs.flux.value, combination.columns["FLUX"])
    np.testing.assert_array_equal(theirs.uncertainty.array, combination.columns["ERROR"])
    np.testing.assert_array_equal(theirs.spectral_axis.value, combination.wavelength)
    assert theirs.flux.unit == u.Jy


def test_specutils_takes_ours_without_a_format(tmp_path: Path, combination: Combination) -> None:
    path = tmp_path / "a_c1d.fits"
    combination.header["TELESCOP"] = "JWST"
    combination.write(path)
    for found in (Spectrum.read(path), *SpectrumList.read(path), Spectrum.read(str(path))):
        expected = combination.to_spectrum()
        np.testing.assert_array_equal(found.flux.value, expected.flux.value)
        np.testing.assert_array_equal(found.mask, expected.mask)
        assert isinstance(found.meta["combination"], Combination)
        assert found.meta["glue_lrs"]["parameters"]["sigma_clip"] == 5.0
    with path.open("rb") as stream:
        assert Spectrum.read(stream, format="lrs-c1d").shape == (SIZE,)
    bright = Spectrum.read(path, column="SURF_BRIGHT", fill="nan", format="lrs-c1d")
    assert np.isnan(bright.flux.value).sum() == 1
    assert bright.flux.unit == u.MJy / u.sr


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:.*have no input and are removed")
def test_a_file_of_the_pipeline_is_read(tmp_path: Path) -> None:
    from jwst.combine_1d.combine1d import combine_1d_spectra

    from tests.helpers.pipeline import to_models

    given = []
    for k in range(3):
        one = make_extraction(seed=k)
        one.header["EFFEXPTM"], one.header["EFFINTTM"] = 100.0 + k, 10.0
        given.append(one)
    expected = combine(given, mode="pipeline")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = to_models(given)
        for model in models:
            model.meta.telescope = "JWST"
            model.meta.instrument.name = "MIRI"
            model.meta.exposure.type = "MIR_LRS-FIXEDSLIT"
        result = combine_1d_spectra(models, "exposure_time")
        result.save(tmp_path / "theirs_c1d.fits")
    found = Combination.read(tmp_path / "theirs_c1d.fits")
    for name in COLUMNS:
        np.testing.assert_allclose(
            found.columns[name], expected.columns[name], rtol=1e-9, err_msg=name
        )
    assert found.provenance is None
    assert found.clipped is None
    assert found.inputs == ()
    assert "39 wavelengths, 3.70 to 18.23 um" in repr(found)  # the pipeline lost a row
    assert found.to_spectrum().flux.unit == u.Jy
    assert Spectrum.read(tmp_path / "theirs_c1d.fits").meta["combination"].units["FLUX"] == "Jy"
    found.write(tmp_path / "ours_c1d.fits")
    same(Combination.read(tmp_path / "ours_c1d.fits"), found)


def test_existing_files_are_kept(tmp_path: Path, combination: Combination) -> None:
    path = tmp_path / "a_c1d.fits"
    combination.write(path)
    before = path.read_bytes()
    with pytest.raises(WriteError, match="exists"):
        combination.write(path)
    assert path.read_bytes() == before
    combine([spectrum()]).write(path, overwrite=True)
    assert Combination.read(path).columns["N_INPUT"].max() == 1
    with pytest.raises(WriteError, match="does not exist"):
        combination.write(tmp_path / "none" / "a_c1d.fits")
    assert os.listdir(tmp_path) == ["a_c1d.fits"]


def damaged(path: Path, change: Any) -> None:
    with fits.open(path, memmap=False) as hdulist:
        change(hdulist)
        hdulist.writeto(path.with_name("bad_c1d.fits"))


def _rename(hdulist: fits.HDUList, old: str, new: str) -> None:
    columns = hdulist["COMBINE1D"].columns
    columns.change_name(old, new)


def _replace(hdulist: fits.HDUList, name: str, hdu: Any) -> None:
    hdulist[hdulist.index_of(name)] = hdu


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.pop(1), "found CLIPPED, ASDF, expected a c1d with one extension COMBINE1D"),
        (lambda h: h.append(h[1].copy()), "expected a c1d with one extension COMBINE1D"),
        (lambda h: h[0].header.set("EXP_TYPE", "NRS_FIXEDSLIT"), "EXP_TYPE is NRS_FIXEDSLIT"),
        (lambda h: _rename(h, "N_INPUT", "N"), "COMBINE1D has no column N_INPUT"),
        (
            lambda h: _replace(h, "COMBINE1D", fits.ImageHDU(np.ones((2, 2)), name="COMBINE1D")),
            "COMBINE1D is an image, expected a table",
        ),
        (
            lambda h: _replace(h, "CLIPPED", fits.ImageHDU(np.ones((2, 2)), name="CLIPPED")),
            r"CLIPPED has the shape \(2, 2\), expected \(input, 60\)",
        ),
        (
            lambda h: _replace(
                h, "COMBINE1D", fits.BinTableHDU(h["COMBINE1D"].data[:0], name="COMBINE1D")
            ),
            r"FLUX has the shape \(0,\), expected",
        ),
    ],
)
def test_damaged_files(tmp_path: Path, combination: Combination, change: Any, message: str) -> None:
    combination.write(tmp_path / "a_c1d.fits")
    damaged(tmp_path / "a_c1d.fits", change)
    with pytest.raises(ProductError, match=message) as caught:
        read_c1d(tmp_path / "bad_c1d.fits")
    assert "bad_c1d.fits" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_provenance_fails_on_access(tmp_path: Path, combination: Combination) -> None:
    path = tmp_path / "a_c1d.fits"
    combination.write(path)
    raw = path.read_bytes().replace(b"\nglue_lrs:", b"\nglue_lrs: [}", 1)
    (tmp_path / "b_c1d.fits").write_bytes(raw[: path.stat().st_size])
    found = Combination.read(tmp_path / "b_c1d.fits")
    with pytest.raises(ProductError, match="the provenance in the ASDF extension cannot be read"):
        len(found.inputs)


def test_identification(tmp_path: Path, combination: Combination) -> None:
    path = tmp_path / "a_c1d.fits"
    combination.write(path)
    spectrum().write(tmp_path / "a_x1d.fits")
    (tmp_path / "text.fits").write_text("SIMPLE but no FITS")
    assert identify_c1d("read", path)
    assert identify_c1d("read", str(path))
    assert identify_c1d("read", None, io.BytesIO(path.read_bytes()))
    with fits.open(path) as hdulist:
        assert identify_c1d("read", hdulist)
    assert not identify_c1d("write", path)
    for other in ("a_x1d.fits", "text.fits", "none.fits"):
        assert not identify_c1d("read", tmp_path / other)
    assert not identify_c1d("read", None, None)
    damaged(path, lambda h: h[0].header.set("EXP_TYPE", "NRS_FIXEDSLIT"))
    assert not identify_c1d("read", tmp_path / "bad_c1d.fits")


def test_files_are_combined(tmp_path: Path) -> None:
    """Spectra, images, or both, as on the command line."""
    extract = Extract1D(aperture=Aperture(xstart=9, xstop=17), use_source_posn=True)
    images, spectra = [], []
    for number, one in enumerate(nods(), 1):
        images.append(tmp_path / f"nod{number}_s2d.fits")
        spectra.append(tmp_path / f"nod{number}_x1d.fits")
        one.image.write(images[-1])
        extract.run(one.image).write(spectra[-1])
    expected = combine_files(spectra, weights="inverse_variance")
    for paths in (images, [spectra[0], images[1]], [str(path) for path in images]):
        found = combine_files(paths, weights="inverse_variance", extract=extract)
        for name in COLUMNS:
            np.testing.assert_array_equal(found.columns[name], expected.columns[name])
    assert [one.filename for one in expected.inputs] == [str(path) for path in spectra]
    assert [type(one).__name__ for one in read_inputs([images[0], spectra[0]])] == [
        "SlitImage",
        "Extraction",
    ]
    with pytest.raises(LRSError, match="no files were given"):
        combine_files([])
    with pytest.raises(LRSError, match="extract is None"):
        combine_files(images)
    with pytest.raises(ProductError, match=r"none\.fits: does not exist"):
        combine_files([tmp_path / "none.fits"])
