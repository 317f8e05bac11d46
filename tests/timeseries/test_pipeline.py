"""White light curve of the pipeline: order of time, missing columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.table import QTable
from click.testing import CliRunner

from glue_lrs.cli import main
from glue_lrs.errors import LRSError
from glue_lrs.timeseries import white_light
from tests.helpers.light_curves import STAR, WAVE, series


def test_fluxes_are_in_order_of_time() -> None:
    stack = series([1.0, 2.0, 3.0])
    assert stack.times is not None
    stack.times["MJD-AVG"] = stack.times["MJD-AVG"][[2, 0, 1]]
    found = white_light(stack)
    assert (np.diff(found["MJD_UTC"]) > 0).all()
    np.testing.assert_allclose(found["whitelight_flux"].value / STAR.sum(), [2.0, 3.0, 1.0])


def test_without_times() -> None:
    stack = series([1.0, 2.0, 3.0])
    assert stack.times is not None
    table = stack.times[["INT_NUM", "MJD-AVG"]]
    assert np.isnan(white_light(replace(stack, times=table))["BJD_TDB"]).all()
    with pytest.raises(LRSError, match="has no column MJD-AVG, expected an x1dints"):
        white_light(replace(stack, times=table[["INT_NUM"]]))


@pytest.mark.usefixtures("folder")
def test_command() -> None:
    series([1.0, 2.0, 3.0]).write("star_x1dints.fits")

    def run(*options: str) -> tuple[int, str, str]:
        command = ["lightcurve", "star_x1dints.fits", "--pipeline", *options]
        done = CliRunner().invoke(main, command)
        return done.exit_code, done.stdout, done.stderr

    assert run("--range", "5,9") == (0, "wrote star_whtlt.ecsv: 3 points\n", "")
    table = QTable.read("star_whtlt.ecsv", format="ascii.ecsv")
    inside = (WAVE >= 5.0) & (WAVE <= 9.0)
    np.testing.assert_allclose(table["whitelight_flux"].value[0], STAR[inside].sum())
    assert "star_whtlt.ecsv: exists" in run()[2]
    assert run("--overwrite")[0] == 0
    for options, text in (
        (("--bins", "3"), "excludes all other options"),
        (("--plot",), "excludes all other options"),
        (("--weights", "inverse_variance"), "excludes all other options"),
        (("-o", "white.fits"), "white.fits: ends in '.fits', expected .ecsv"),
        (("-o", "star_x1dints.fits"), "would replace the input"),
    ):
        code, _, error = run(*options)
        assert code == 2
        assert text in error


@pytest.fixture
def folder(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
