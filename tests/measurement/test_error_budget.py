"""The contributions to the uncertainty of a flux have the expected sizes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import QTable
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal

from glue_lrs import Aperture, ApertureCorrection, Background, Extract1D, LRSError, measure
from glue_lrs.cli import main
from glue_lrs.errors import CorrectionError
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.measurement import CONTRIBUTIONS, error_budget, mean_in_bands
from glue_lrs.plotting import plot_budget
from glue_lrs.simulation.scene import Scene
from tests.helpers.images import SOURCE, slit, stack

pytestmark = pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning")

TABLE = ApertureCorrection(
    wavelength=[4.0, 15.0], size=[1.0, 30.0], factor=[[1.2, 1.1], [1.4, 1.2]],
    error=[[0.024, 0.022], [0.056, 0.048]],
)  # fmt: skip


def operator(**options: Any) -> Extract1D:
    return Extract1D(aperture=Aperture(xstart=9, xstop=16), **options)


def test_the_noise_is_that_of_the_spectrum() -> None:
    table = error_budget(slit(), operator())
    columns = operator().run(slit()).columns
    assert_array_equal(table["FLUX_ERROR"].value, columns["FLUX_ERROR"])
    noise = [table[name].value for name in ("PHOTON_NOISE", "READ_NOISE", "FLAT_FIELD")]
    assert_allclose(np.sqrt(np.square(noise).sum(axis=0)), columns["FLUX_ERROR"], rtol=1e-12)
    for name in ("ADDED_NOISE", "PROFILE", "APERTURE_CORRECTION", "BACKGROUND"):
        assert np.isnan(table[name].value).all(), name
        assert name in table.meta["not_applied"]
    assert (table["TOTAL"] >= table["FLUX_ERROR"] * (1 - 1e-12)).all()


def test_aperture_correction() -> None:
    used = operator(aperture_correction=TABLE)
    table = error_budget(slit(), used)
    share = (table["APERTURE_CORRECTION"] / table["FLUX"]).value
    wavelength = table["WAVELENGTH"].value
    size = np.full_like(wavelength, 8.0)
    assert_allclose(share, TABLE.error_of(wavelength, size) / TABLE(wavelength, size), rtol=1e-12)
    without = operator(aperture_correction=replace(TABLE, error=None))
    unknown = error_budget(slit(), without)
    assert np.isnan(unknown["APERTURE_CORRECTION"].value).all()
    assert np.isfinite(unknown["TOTAL"].value).all()


def test_background() -> None:
    ones = np.ones_like(slit().data)
    image = slit(err=ones, var_poisson=ones, var_rnoise=0 * ones, var_flat=0 * ones)
    background = Background.from_edges((24.5, 34.5), bkg_fit="mean")  # ten pixels
    table = error_budget(image, operator(background=background))
    scale = 1e6 * 2.86e-13
    assert_allclose(table["BACKGROUND"].value, scale * 8.0 / np.sqrt(10.0), rtol=1e-6)
    corrected = operator(background=background, aperture_correction=TABLE)
    factor = (error_budget(image, corrected)["FLUX"] / table["FLUX"]).value
    found = error_budget(image, corrected)["BACKGROUND"].value
    assert_allclose(found, factor * scale * 8.0 / np.sqrt(10.0), rtol=1e-6)


@pytest.mark.parametrize("fixed", [True, False])
def test_position(fixed: bool) -> None:
    """An aperture whose edge is on the flank of the profile."""
    background = Background.from_edges((24.5, 34.5), bkg_fit="mean")
    used = Extract1D(
        aperture=Aperture(xstart=9, xstop=13), background=background, fixed_background=fixed
    )
    table = error_budget(slit(), used)
    x = np.arange(46.0)

    def flux(column: float) -> float:
        light = 50.0 * np.exp(-0.5 * ((x - column) / 1.5) ** 2)
        return float(light[9:14].sum() * 2.86e-7)

    slope = (flux(SOURCE + 0.05) - flux(SOURCE - 0.05)) / 0.1
    error = measure(slit(), integrations=False).target.column_error
    assert_allclose(np.median(table["POSITION"].value), abs(slope) * error, rtol=0.1)


def test_position_of_an_undetected_source_is_unknown() -> None:
    image = slit(data=np.array(slit().data) * 0 + np.random.default_rng(1).normal(0, 1, (40, 46)))
    table = error_budget(image, operator())
    assert np.isnan(table["POSITION"].value).all()
    assert_allclose(table["TOTAL"].value, table["FLUX_ERROR"].value, rtol=1e-12)


def test_profile_and_nods() -> None:
    image = Scene(seed=3, nod_variance=False).nods()[0].image
    used = Extract1D.from_reference(
        None, image.exp_type, extraction_type="optimal", noise="nod", apply_apcorr=False
    )
    table = error_budget(image, used)
    covariance = used.fit(image).profile_covariance()
    assert covariance is not None
    expected = np.abs(table["FLUX"].value) * np.sqrt(np.diagonal(covariance))
    assert_allclose(table["PROFILE"].value, expected, rtol=1e-6)
    known = np.isfinite(table["FLUX"].value)
    assert (table["ADDED_NOISE"].value[known] > 0).all()
    assert_array_equal(np.isfinite(table["TOTAL"].value), known)
    assert not table["POSITION"].value.any()
    parts = ("PHOTON_NOISE", "READ_NOISE", "ADDED_NOISE", "FLAT_FIELD")
    noise = np.sqrt(sum(np.square(table[name].value) for name in parts))
    assert_allclose(noise, table["FLUX_ERROR"].value, rtol=1e-9)


def test_correction_by_the_profile() -> None:
    """The size is that of the table's aperture; position and profile are not known."""
    narrow = Extract1D(
        aperture=Aperture(xstart=10, xstop=14), aperture_correction=TABLE, correction="profile"
    )
    table = error_budget(slit(), narrow)
    wavelength = table["WAVELENGTH"].value
    share = (table["APERTURE_CORRECTION"] / table["FLUX"]).value
    assert_allclose(share, TABLE.error_of(wavelength, 8.0) / TABLE(wavelength, 8.0), rtol=1e-6)
    assert np.isnan(table["POSITION"].value).all()
    assert np.isnan(table["PROFILE"].value).all()
    plain = error_budget(slit(), replace(narrow, apply_apcorr=False))
    assert (plain["POSITION"].value > 0).all()


def test_mean_in_bands() -> None:
    table = error_budget(slit(), operator(aperture_correction=TABLE))
    means = mean_in_bands(table, [(7.0, 9.0), (90.0, 91.0)])
    used = (table["WAVELENGTH"].value >= 7) & (table["WAVELENGTH"].value < 9)
    number = used.sum()
    assert_allclose(means["FLUX"][0].value, table["FLUX"][used].value.mean())
    noise = np.sqrt(np.square(table["PHOTON_NOISE"][used].value).sum()) / number
    assert_allclose(means["PHOTON_NOISE"][0].value, noise)
    same = table["APERTURE_CORRECTION"][used].value.mean()
    assert_allclose(means["APERTURE_CORRECTION"][0].value, same)
    parts = [means[name][0].value for name in CONTRIBUTIONS]
    assert_allclose(means["TOTAL"][0].value, np.sqrt(np.nansum(np.square(parts))))
    assert np.isnan(means["FLUX"][1].value)


def test_stack_is_refused() -> None:
    with pytest.raises(LRSError, match=r"expected a single image, such as image.median\(\)"):
        error_budget(stack(), operator())


def test_figure() -> None:
    table = error_budget(slit(), operator(aperture_correction=TABLE))
    axes = plot_budget(table)
    labels = [line.get_label() for line in axes.lines]
    assert labels == [
        "photon noise", "read noise", "flat field", "position", "aperture correction",
        "FLUX_ERROR in the spectrum", "total",
    ]  # fmt: skip


def test_errors_of_the_table_in_a_file(tmp_path: Path) -> None:
    write_apcorr(TABLE, tmp_path / "with.fits")
    write_apcorr(replace(TABLE, error=None), tmp_path / "without.fits")
    found = ApertureCorrection.read(tmp_path / "with.fits").error
    assert found is not None
    assert_allclose(found, TABLE.error, rtol=1e-6)
    without = ApertureCorrection.read(tmp_path / "without.fits")
    assert without.error is None
    with pytest.raises(CorrectionError, match="has no errors"):
        without.error_of(8.0, 8.0)
    with pytest.raises(CorrectionError, match="APCORR_ERR has shape"):
        replace(TABLE, error=[0.1])
    assert replace(TABLE, error=None) != TABLE


def test_command(tmp_path: Path) -> None:
    path = tmp_path / "x_s2d.fits"
    Scene(seed=3).nods()[0].image.write(path)
    run = CliRunner().invoke
    written = ["--plot", str(tmp_path / "b.png"), "-o", str(tmp_path / "b.ecsv")]
    done = run(main, ["budget", str(path), *written])
    assert done.exit_code == 0
    assert "photon noise" in done.stdout
    assert QTable.read(tmp_path / "b.ecsv")["TOTAL"].unit == "Jy"
    assert (tmp_path / "b.png").stat().st_size > 10_000
    again = run(main, ["budget", str(path), *written])
    assert again.exit_code == 2
    assert "exists" in again.stderr
    facts = json.loads(run(main, ["budget", str(path), "--json"]).stdout)
    assert [band["lower"] for band in facts[0]["bands"]] == [5, 7, 9, 11]
