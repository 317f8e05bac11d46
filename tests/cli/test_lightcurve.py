"""The command ``glue-lrs lightcurve``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from click.testing import CliRunner, Result

from glue_lrs.cli import main
from glue_lrs.simulation import Scene
from glue_lrs.timeseries import light_curve
from tests.helpers.light_curves import START, series

TRANSIT = np.where((np.arange(40) >= 12) & (np.arange(40) < 28), 0.99, 1.0)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stack = series(TRANSIT, noise=0.002)
    stack.columns["FLUX"][4, 60] = np.nan
    stack.write("star_x1dints.fits")


def run(*args: object) -> Result:
    result = CliRunner().invoke(main, ["lightcurve", *map(str, args)])
    assert "Traceback" not in result.stderr
    return result


def refused(*args: object) -> str:
    """Run a command that must fail with one line, and write nothing; return the line."""
    before = sorted(Path().iterdir())
    result = run(*args)
    assert result.exit_code == 2
    assert sorted(Path().iterdir()) == before
    (line,) = result.stderr.splitlines()
    return line.removeprefix("glue-lrs: error: ")


def test_a_light_curve_is_written_and_its_noise_listed() -> None:
    result = run("star_x1dints.fits", "--bins", 3)
    assert result.exit_code == 0
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].split("  ")[0] == "band"
    assert lines[1].startswith("white  5.00 to 12.00")
    assert [line.split()[0] for line in lines[2:5]] == ["1", "2", "3"]
    assert lines[-1] == "wrote star_lightcurve.ecsv"
    curve = light_curve("star_x1dints.fits", bins=3)
    table = QTable.read("star_lightcurve.ecsv", format="ascii.ecsv")
    for name in curve.table.colnames[1:]:
        np.testing.assert_array_equal(table[name], curve.table[name])
    (record,) = table.meta["glue_lrs"]["inputs"]
    assert record["filename"] == "star_x1dints.fits"
    assert len(record["sha256"]) == 64


def test_options_are_those_of_the_function() -> None:
    spans = [(START, START + 0.0041), (START + 0.0061, START + 1)]
    result = run(
        "star_x1dints.fits", "-o", "mine.fits", "--bins", "5,6,9.5", "--weights",
        "inverse_variance", "--error", "scatter", "--out-of-transit", f"{START},{START + 0.0041}",
        "--out-of-transit", f"{START + 0.0061},{START + 1}",
    )  # fmt: skip
    assert result.exit_code == 0
    curve = light_curve(
        "star_x1dints.fits",
        bins=[5.0, 6.0, 9.5],
        weights="inverse_variance",
        error="scatter",
        out_of_transit=spans,
    )
    table = QTable.read("mine.fits", hdu="LIGHTCURVE")
    np.testing.assert_array_equal(table["flux_2"].value, curve.flux[:, 2])
    np.testing.assert_array_equal(table["flux_err_1"].value, curve.error[:, 1])
    run("star_x1dints.fits", "-o", "range.fits", "--range", "6,7")
    with fits.open("range.fits") as hdus:
        assert hdus["BANDS"].data["lower"].tolist() == [6.0]
        assert hdus["BANDS"].data["upper"].tolist() == [7.0]


def test_json() -> None:
    result = run("star_x1dints.fits", "--bins", 2, "--json")
    (facts,) = json.loads(result.stdout)
    assert facts["output"] == "star_lightcurve.ecsv"
    assert (facts["points"], facts["time"], facts["unit"]) == (40, "BMJD_TDB", "Jy")
    assert [one["flux"] for one in facts["bands"]] == ["flux", "flux_1", "flux_2"]
    assert [one["kind"] for one in facts["findings"]] == ["elements_replaced"]
    assert facts["first"] == pytest.approx(START, abs=0.01)


def test_findings_are_printed_and_strict_fails() -> None:
    stack = series(TRANSIT, noise=0.002)
    assert stack.times is not None
    stack.times["TDB-MID"] = np.nan
    stack.write("utc_x1dints.fits")
    result = run("utc_x1dints.fits", "--strict")
    assert result.exit_code == 1
    assert result.stderr.startswith("glue-lrs: warning: utc_x1dints.fits: there are no barycentric")
    assert Path("utc_lightcurve.ecsv").exists()
    assert run("utc_x1dints.fits", "--overwrite", "--quiet").stderr == ""


def test_nothing_is_overwritten_unasked() -> None:
    Path("star_lightcurve.png").write_text("mine")
    assert "star_lightcurve.png: exists" in refused("star_x1dints.fits", "--plot")
    run("star_x1dints.fits")
    assert "star_lightcurve.ecsv: exists" in refused("star_x1dints.fits")
    assert run("star_x1dints.fits", "--overwrite").exit_code == 0
    assert "would replace the input" in refused("star_x1dints.fits", "-o", "star_x1dints.fits")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ["--bins", "many"],
            "'many', expected a number of bins, or ascending edges such as 5,6,10",
        ),
        (["--bins", "nan"], "--bins is nan, expected a whole number, or edges"),
        (["--bins", "5,nan,6"], "'5,nan,6', expected a number of bins, or ascending edges"),
        (["--bins", "inf"], "--bins is inf, expected a whole number, or edges"),
        (["--bins", "1.5"], "--bins is 1.5, expected a whole number, or edges"),
        (["--bins", "0"], "bins: found 0, expected at least 1"),
        (["--bins", "7,6"], "'7,6', expected a number of bins, or ascending edges such as 5,6,10"),
        (["--bins", "5,inf"], "expected at least two ascending wavelengths"),
        (["--range", "5"], "'5', expected two ascending wavelengths such as 5,12"),
        (["--range", "5,6", "--bins", "5,6"], "--range and the edges of --bins exclude"),
        (["--range", "20,30"], "star_x1dints.fits: has no wavelength from 20 to 30 um"),
        (["--allan"], "--allan needs --plot"),
        (["--out-of-transit", "1,2"], "out_of_transit: selects 0 points"),
        (["-o", "curve.csv"], "curve.csv: ends in '.csv', expected .ecsv, .fits or .fits.gz"),
        (["-o", "missing/curve.fits"], "the folder missing does not exist"),
    ],
)
def test_mistakes(arguments: list[str], text: str) -> None:
    assert text in refused("star_x1dints.fits", *arguments)


def test_other_files() -> None:
    series([1.0, 1.0]).to_spectrum()[0].write("one_x1d.fits", format="lrs-x1d")
    assert "expected the spectra of several integrations" in refused("one_x1d.fits")
    Path("text_x1dints.fits").write_text("no FITS")
    assert refused("text_x1dints.fits").startswith("text_x1dints.fits: ")
    assert "missing_x1dints.fits: " in refused("missing_x1dints.fits")


@pytest.mark.slow
def test_images_are_extracted() -> None:
    Scene(seed=1).calints(n_int=4).image.write("star_calints.fits")
    result = run("star_calints.fits", "--set", "background=auto")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "wrote star_lightcurve.ecsv"
    table = QTable.read("star_lightcurve.ecsv", format="ascii.ecsv")
    assert len(table) == 4
    assert np.isfinite(table["flux"]).all()
    assert np.isfinite(table["shift"]).all()


@pytest.mark.slow
def test_plot() -> None:
    result = run("star_x1dints.fits", "--bins", 4, "--plot", "--allan")
    assert result.stdout.splitlines()[-2:] == [
        "wrote star_lightcurve.ecsv", "wrote star_lightcurve.png",
    ]  # fmt: skip
    assert Path("star_lightcurve.png").read_bytes().startswith(b"\x89PNG")
