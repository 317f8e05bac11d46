"""Several files as a SpectrumList."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from specutils import Spectrum, SpectrumList
from specutils.manipulation import FluxConservingResampler

from glue_lrs import Extract1D
from glue_lrs.combination.combine import combine
from glue_lrs.errors import LRSError, WriteError
from glue_lrs.simulation.scene import Scene

SCENE = Scene(seed=1, bad_fraction=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images and spectra of the slit, a time series, and a combined spectrum."""
    made = tmp_path_factory.mktemp("lists")
    spectra = []
    for nod in (1, 2):
        image = SCENE.s2d(nod).image
        image.write(made / f"n{nod}_s2d.fits")
        operator = Extract1D.from_reference(None, image.exp_type, apply_apcorr=False)
        spectra.append(operator.run(image))
        spectra[-1].write(made / f"n{nod}_x1d.fits")
    stack = SCENE.calints(3).image
    operator = Extract1D.from_reference(None, stack.exp_type, apply_apcorr=False)
    operator.run(stack).write(made / "t_x1dints.fits")
    combine(spectra).write(made / "n_c1d.fits")
    return made


@pytest.mark.parametrize("chosen", [None, "lrs-x1d"])
@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("as_path", [Path, str])
def test_a_list_of_x1d_files(chosen: str | None, kind: type, as_path: type, folder: Path) -> None:
    names = kind(map(as_path, sorted(glob.glob(str(folder / "n*_x1d.fits")))))
    options = {} if chosen is None else {"format": chosen}
    found = SpectrumList.read(names, **options)
    assert isinstance(found, SpectrumList)
    for spectrum, name in zip(found, names, strict=True):
        single = Spectrum.read(name, format="lrs-x1d")
        np.testing.assert_array_equal(spectrum.flux, single.flux)
        np.testing.assert_array_equal(spectrum.uncertainty.array, single.uncertainty.array)
        assert spectrum.meta["glue_lrs"]["parameters"] == single.meta["glue_lrs"]["parameters"]
    resampled = FluxConservingResampler()(found[0], np.arange(5.5, 12, 0.1) * u.um)
    assert np.isfinite(resampled.flux.value).all()


def test_wildcards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SpectrumList.read(str(folder / "n?_x1d.fits"), format="lrs-x1d", column="BACKGROUND")
    assert [spectrum.unit for spectrum in found] == [u.MJy / u.sr] * 2
    monkeypatch.chdir(folder)
    assert len(SpectrumList.read("*x1d*.fits", format="lrs-x1d")) == 5  # with the integrations
    os.symlink("n1_x1d.fits", "[n]1_x1d.fits")  # a name is not a pattern
    try:
        assert len(SpectrumList.read("[n]1_x1d.fits", format="lrs-x1d")) == 1
    finally:
        os.unlink("[n]1_x1d.fits")


def test_other_sources_and_formats(folder: Path) -> None:
    names = [folder / "n1_x1d.fits", folder / "t_x1dints.fits"]
    assert [one.shape for one in SpectrumList.read(names)][1:] == [
        one.shape for one in SpectrumList.read(names[1])
    ]
    with fits.open(names[0]) as first, names[1].open("rb") as second:
        assert len(SpectrumList.read([first, second], format="lrs-x1d")) == 4
        assert len(SpectrumList.read(first, format="lrs-x1d")) == 1  # an HDU list is no list
    images = SpectrumList.read([folder / "n1_s2d.fits", folder / "n2_s2d.fits"])
    assert [one.flux.ndim for one in images] == [2, 2]
    assert len(SpectrumList.read(folder / "n1_s2d.fits")) == 1
    assert len(SpectrumList.read([folder / "n_c1d.fits"] * 2)) == 2


def test_errors_are_one_line(folder: Path, tmp_path: Path) -> None:
    for nothing in ([], (), str(tmp_path / "*_x1d.fits")):
        with pytest.raises(LRSError, match="there are no files, expected at least one"):
            SpectrumList.read(nothing, format="lrs-x1d")
    with pytest.raises(LRSError, match="n1_s2d"):
        SpectrumList.read([folder / "n1_x1d.fits", folder / "n1_s2d.fits"], format="lrs-x1d")
    with pytest.raises(LRSError, match=r"n1_x1d\.fits: is one spectrum"):
        Spectrum.read([folder / "n1_x1d.fits", folder / "n2_x1d.fits"], format="lrs-x1d")


def test_a_list_is_written_one_by_one(folder: Path, tmp_path: Path) -> None:
    spectra = SpectrumList.read([folder / "n1_x1d.fits", folder / "n2_x1d.fits"])
    path = tmp_path / "a_x1d.fits"
    with pytest.raises(WriteError, match="SpectrumList of 2 spectra is no x1d, expected one"):
        spectra.write(path, format="lrs-x1d")
    assert not path.exists()
    SpectrumList(spectra[:1]).write(path, format="lrs-x1d")
    np.testing.assert_array_equal(Spectrum.read(path).flux, spectra[0].flux)
