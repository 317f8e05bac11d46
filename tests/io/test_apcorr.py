from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import CorrectionError, WriteError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.io.apcorr import write_apcorr


def a_correction(
    subarray: str = "FULL", waves: int = 7, sizes: int = 5, seed: int = 5
) -> ApertureCorrection:
    rng = np.random.default_rng(seed)
    wavelength = rng.permutation(np.linspace(4.0, 13.5, waves)).astype(np.float32)
    size = np.sort(rng.choice(np.arange(1, 40), sizes, replace=False))
    factor = rng.uniform(1, 3, (waves, sizes)).astype(np.float32)
    return ApertureCorrection(wavelength=wavelength, size=size, factor=factor, subarray=subarray)


def pipelines(path: Path, subarray: str, exp_type: str) -> Any:
    """The aperture correction of the pipeline for a file and a subarray."""
    from jwst.extract_1d.apply_apcorr import ApCorr, select_apcorr
    from jwst.extract_1d.extract import read_apcorr_ref

    model = SimpleNamespace(
        meta=SimpleNamespace(
            instrument=SimpleNamespace(name="MIRI"),
            exposure=SimpleNamespace(type=exp_type),
            subarray=SimpleNamespace(name=subarray),
        )
    )
    logging.getLogger("stdatamodels").setLevel(logging.CRITICAL)
    with read_apcorr_ref(str(path), exp_type) as table:
        assert select_apcorr(model) is ApCorr
        return ApCorr(model, table.apcorr_table.copy(), table.sizeunit)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("subarray", "exp_type"), [("FULL", FIXED_SLIT), ("SLITLESSPRISM", SLITLESS)]
)
def test_written_files_are_read_by_the_pipeline_and_back(
    subarray: str, exp_type: str, tmp_path: Path
) -> None:
    from jwst.extract_1d.extract import read_apcorr_ref

    path = tmp_path / "apcorr.fits"
    tables = [a_correction(), a_correction("SLITLESSPRISM", 4, 9, seed=6)]  # padded both ways
    write_apcorr(tables, path)
    ours = ApertureCorrection.read(path, subarray=subarray.lower())
    expected = tables[subarray != "FULL"]
    assert (ours.subarray, ours.filename) == (subarray, str(path))
    for name in ("wavelength", "size", "factor"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(expected, name))
    with read_apcorr_ref(str(path), exp_type) as table:
        table.validate()  # warns of what a reference lacks
    judge = pipelines(path, subarray, exp_type)
    rng = np.random.default_rng(1)
    wavelength, size = rng.uniform(2, 16, 2000), rng.uniform(0, 50, 2000)
    theirs = [judge.apcorr_func(s, w).item() for s, w in zip(size, wavelength, strict=True)]
    np.testing.assert_allclose(ours(wavelength, size), theirs, rtol=1e-12, atol=0)


@pytest.mark.parity
def test_tables_of_the_pipeline_are_read(tmp_path: Path) -> None:
    """Unsorted wavelengths and filling beyond NELEM, written by the pipeline's data model."""
    from stdatamodels.jwst.datamodels import MirLrsApcorrModel

    path = tmp_path / "apcorr.fits"
    expected = a_correction(waves=6, sizes=4)
    order = np.random.default_rng(2).permutation(6)
    with MirLrsApcorrModel() as model:
        dtype = [
            ("subarray", "S17"),
            ("wavelength", "f4", 9),
            ("nelem_wl", "i2"),
            ("size", "u1", 8),
        ]
        dtype += [("nelem_size", "i2"), ("apcorr", "f4", (9, 8)), ("apcorr_err", "f4", (9, 8))]
        data = np.zeros(2, dtype)
        data["subarray"] = ["FULL", "SLITLESSPRISM"]
        data["nelem_wl"], data["nelem_size"] = 6, 4
        data["wavelength"][:, :6] = expected.wavelength[order]
        data["size"][:, :4] = expected.size
        data["apcorr"][:, :6, :4] = expected.factor[order]
        data["apcorr"][1] += 1
        model.apcorr_table = data
        model.sizeunit = "pixels"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the model misses header cards that do not matter
            model.save(path)
    ours = ApertureCorrection.read(path)
    np.testing.assert_array_equal(ours.wavelength, expected.wavelength)
    np.testing.assert_array_equal(ours.factor, expected.factor)
    judge = pipelines(path, "FULL", FIXED_SLIT)
    assert float(ours(7.7, 6.6)) == pytest.approx(judge.apcorr_func(6.6, 7.7).item(), rel=1e-12)


def test_the_row_follows_the_exposure_type(tmp_path: Path) -> None:
    path = tmp_path / "apcorr.fits"
    write_apcorr([a_correction(), a_correction("SLITLESSPRISM")], path)
    for exp_type, subarray in ((FIXED_SLIT, "FULL"), (SLITLESS, "SLITLESSPRISM")):
        operator = Extract1D.from_reference(None, exp_type, apcorr=path)
        assert operator.aperture_correction is not None
        assert operator.aperture_correction.subarray == subarray
        assert dict(operator.references)["apcorr"] == str(path)
    write_apcorr(a_correction(), path, overwrite=True)
    with pytest.raises(CorrectionError, match="found no row for SUBARRAY SLITLESSPRISM"):
        Extract1D.from_reference(None, SLITLESS, apcorr=path)


def change(path: Path, edit: Any) -> None:
    with fits.open(path, mode="update") as hdulist:
        edit(hdulist)


def rows(hdulist: fits.HDUList, table: Table) -> None:
    hdulist["APCORR"] = fits.BinTableHDU(table, name="APCORR")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda h: h[0].header.set("INSTRUME", "NIRSPEC"),
            "INSTRUME is NIRSPEC, expected an APCORR reference of MIRI LRS",
        ),
        (lambda h: h[0].header.set("REFTYPE", "PSF"), "REFTYPE is PSF, expected an APCORR"),
        (lambda h: h[1].header.set("SIZEUNIT", "arcsec"), "SIZEUNIT is 'arcsec', expected 'pix"),
        (lambda h: h.__delitem__(1), r"has no extension APCORR \(there are: none\)"),
        (
            lambda h: rows(h, Table({"wavelength": [[1.0]], "radius": [[1.0]], "apcorr": [[1.0]]})),
            "the table is for an integral field unit, expected",
        ),
        (lambda h: rows(h, Table({"grating": ["x"], "size": [1]})), "the table is for NIRSpec"),
        (
            lambda h: rows(h, Table({"subarray": ["FULL"], "size": [1]})),
            "has no column WAVELENGTH, NELEM_WL, NELEM_SIZE, APCORR",
        ),
        (
            lambda h: h[1].data["subarray"].__setitem__(1, "full"),
            "found 2 rows for SUBARRAY FULL, expected one; there are FULL, full",
        ),
        (
            lambda h: h[1].data["subarray"].__setitem__(0, "BRIGHTSKY"),
            "found no row for SUBARRAY FULL, expected one; there are BRIGHTSKY, SLITLESSPRISM",
        ),
        (lambda h: h[1].data["nelem_wl"].__setitem__(0, 99), "NELEM_WL is 99, expected 2 to 7"),
        (lambda h: h[1].data["nelem_size"].__setitem__(0, 0), "NELEM_SIZE is 0, expected 2 to 5"),
        (lambda h: h[1].data["apcorr"].__setitem__(0, np.nan), "values that are not finite"),
    ],
)
def test_invalid_files(edit: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "apcorr.fits"
    write_apcorr([a_correction(), a_correction("SLITLESSPRISM")], path)
    change(path, edit)
    with pytest.raises(CorrectionError, match=message) as caught:
        ApertureCorrection.read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_without_sizeunit_sizes_are_pixels(tmp_path: Path) -> None:
    path = tmp_path / "apcorr.fits"
    write_apcorr(a_correction(), path)
    change(path, lambda h: h[1].header.remove("SIZEUNIT"))
    np.testing.assert_array_equal(ApertureCorrection.read(path).size, a_correction().size)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "apcorr.fits"
    with pytest.raises(CorrectionError, match="does not exist"):
        ApertureCorrection.read(path)
    path.write_text("{}")
    with pytest.raises(CorrectionError, match="not a FITS file"):
        ApertureCorrection.read(path)
    write_apcorr(a_correction(), path, overwrite=True)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(CorrectionError, match="truncated"):
        ApertureCorrection.read(path)


def test_invalid_corrections_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "apcorr.fits"
    fine = a_correction()

    def table(**changes: Any) -> ApertureCorrection:
        values = {"wavelength": fine.wavelength, "size": fine.size, "factor": fine.factor}
        return ApertureCorrection(**values | changes)

    for wrong, message in (
        ([], "no aperture correction was given"),
        ([fine, a_correction("full")], "two aperture corrections are for SUBARRAY FULL"),
        (table(subarray=""), "SUBARRAY is '', expected 1 to 17 characters"),
        (table(size=fine.size + 0.5), "expected whole numbers of pixels from 0 to 255"),
        (table(size=fine.size + 250), "expected whole numbers of pixels from 0 to 255"),
        (table(wavelength=5 + 1e-9 * np.arange(7)), "wavelengths coincide in single precision"),
    ):
        with pytest.raises(CorrectionError, match=message):
            write_apcorr(wrong, path)
    assert not list(tmp_path.iterdir())
    write_apcorr(fine, path)
    with pytest.raises(WriteError, match="exists"):
        write_apcorr(fine, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["apcorr.fits"]


def test_every_kind_of_source(tmp_path: Path) -> None:
    path, table = tmp_path / "a.fits", a_correction()
    write_apcorr(table, path)
    expected = ApertureCorrection.read(path)
    assert expected.filename == str(path)
    with open(path, "rb") as stream, fits.open(path) as hdulist:
        for source in (io.BytesIO(path.read_bytes()), stream, hdulist):
            found = ApertureCorrection.read(source)
            assert found == expected
            assert found.filename is None
        assert hdulist[0].header["REFTYPE"] == "APCORR"  # left open
    for source in (None, 3):
        with pytest.raises(CorrectionError, match="expected the path of a FITS file"):
            ApertureCorrection.read(source)
    with pytest.raises(CorrectionError, match="subarray is null, expected a word"):
        ApertureCorrection.read(path, subarray=None)
