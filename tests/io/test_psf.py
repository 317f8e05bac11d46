"""PSF references as files: round trip, and errors for invalid files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from glue_lrs.errors import ProfileError, WriteError
from glue_lrs.io.psf import read_psf, write_psf
from glue_lrs.profiles.gaussian import GaussianProfile
from glue_lrs.profiles.psf import PSFProfile


@pytest.fixture
def psf() -> PSFProfile:
    return PSFProfile.sampled(GaussianProfile(), np.linspace(4.0, 13.0, 10), subpix=4.0, reach=9.0)


def test_round_trip(psf: PSFProfile, tmp_path: Path) -> None:
    path = tmp_path / "psf.fits"
    write_psf(psf, path)
    read = PSFProfile.read(path)
    np.testing.assert_array_equal(read.data, psf.data)
    np.testing.assert_array_equal(read.wave, psf.wave)
    assert (read.subpix, read.center, read.name) == (4.0, 36.0, "ANY")
    assert read.filename == str(path)


@pytest.mark.parity
def test_the_pipeline_reads_it(psf: PSFProfile, tmp_path: Path) -> None:
    from stdatamodels.jwst.datamodels import SpecPsfModel

    write_psf(psf, tmp_path / "psf.fits")
    with SpecPsfModel(tmp_path / "psf.fits") as model:
        (aperture,) = model.apertures
        assert (aperture.name, aperture.subpix, aperture.center_col) == ("ANY", 4.0, 36.0)
        np.testing.assert_array_equal(aperture.data, psf.data)
        np.testing.assert_array_equal(aperture.wave, psf.wave)


@pytest.mark.parity
def test_a_file_of_the_pipeline_is_read(psf: PSFProfile, tmp_path: Path) -> None:
    from stdatamodels.jwst.datamodels import SpecPsfModel

    model = SpecPsfModel()
    for name, factor in (("S1", 1.0), ("S2", 2.0)):
        model.apertures.append(
            {
                "name": name,
                "subpix": 4.0,
                "center_col": 36.0,
                "center_row": 0.0,
                "data": psf.data * factor,
                "wave": psf.wave.copy(),
            }
        )
    model.meta.instrument.name = "MIRI"
    model.save(tmp_path / "psf.fits")
    read = read_psf(tmp_path / "psf.fits", "s2")  # case does not matter
    np.testing.assert_array_equal(read.data, 2.0 * psf.data)
    assert read.name == "S2"
    with pytest.raises(ProfileError, match="no aperture S3; there are S1, S2"):
        read_psf(tmp_path / "psf.fits", "S3")


def test_keywords_of_older_files_are_in_the_primary_header(psf: PSFProfile, tmp_path: Path) -> None:
    path = tmp_path / "psf.fits"
    write_psf(psf, path)
    with fits.open(path, mode="update") as hdus:
        for key in ("SUBPIX", "CENTCOL"):
            hdus[0].header[key] = hdus["PSF"].header.pop(key)
        hdus["PSF"].header.pop("APERTURE")
    assert (read_psf(path).subpix, read_psf(path).center) == (4.0, 36.0)
    assert read_psf(path, "anything").name == "ANY"


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda h: h[0].header.set("INSTRUME", "NIRSPEC"), "INSTRUME is NIRSPEC, expected a PSF"),
        (lambda h: h[0].header.set("REFTYPE", "APCORR"), "REFTYPE is APCORR"),
        (lambda h: h["PSF"].header.pop("SUBPIX"), "SUBPIX of PSF,1 is missing, expected a number"),
        (lambda h: h["PSF"].header.set("CENTCOL", "x"), "CENTCOL of PSF,1 is 'x'"),
        (lambda h: h.pop("WAVE"), "no extension WAVE,1"),
        (lambda h: h.pop("PSF"), "no extension PSF"),
        (
            lambda h: setattr(h["WAVE"], "data", np.arange(3.0)),
            r"PSF has shape \(10, 73\) and WAVE",
        ),
        (lambda h: setattr(h["WAVE"], "data", np.ones(10)), "neither rises nor falls"),
        (lambda h: h["PSF"].data.__setitem__((2, 3), np.nan), "not finite"),
    ],
)
def test_invalid_files(spoil, match: str, psf: PSFProfile, tmp_path: Path) -> None:
    path = tmp_path / "psf.fits"
    write_psf(psf, path)
    with fits.open(path) as hdus:
        whole = fits.HDUList([hdu.copy() for hdu in hdus])
    spoil(whole)
    whole.writeto(path, overwrite=True)
    with pytest.raises(ProfileError, match=match) as caught:
        read_psf(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_invalid_profiles_are_not_written(psf: PSFProfile, tmp_path: Path) -> None:
    path = tmp_path / "psf.fits"
    with pytest.raises(ProfileError, match="no profile"):
        write_psf([], path)
    with pytest.raises(ProfileError, match="two profiles are for aperture ANY"):
        write_psf([psf, psf], path)
    write_psf(psf, path)
    with pytest.raises(WriteError, match="exists"):
        write_psf(psf, path)
    write_psf(psf, path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["psf.fits"]
    with pytest.raises(ProfileError, match="does not exist"):
        read_psf(tmp_path / "none.fits")
