"""The command line: mistakes that a first user makes, each refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from glue_lrs import Aperture, Extract1D
from glue_lrs.cli import main
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.simulation import Scene
from tests.helpers.light_curves import series


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nod, a time series, and spectra of both, those of the latter without times."""
    folder = tmp_path_factory.mktemp("mistakes")
    image = Scene(seed=1).s2d(nod=1).image
    image.write(folder / "a_s2d.fits")
    Scene(seed=1).calints(n_int=2).image.write(folder / "t_calints.fits")
    operator = Extract1D(aperture=Aperture(xstart=9, xstop=17), id=FIXED_SLIT)
    operator.run(image, check=False).write(folder / "a_x1d.fits")
    replace(series([1.0] * 4, noise=0.002), times=None, int_times=None).write(
        folder / "t_x1dints.fits"
    )
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with links to the files, in which the commands run."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str) -> Result:
    result = CliRunner().invoke(main, command.split())
    assert "Traceback" not in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def refused(command: str) -> str:
    """Run a command that must fail with one line and write nothing; return the line."""
    before = sorted(Path().rglob("*"))
    result = run(command)
    assert result.exit_code == 2, result.output
    assert sorted(Path().rglob("*")) == before
    (line,) = result.stderr.splitlines()
    return line.removeprefix("glue-lrs: error: ")


def test_no_hint_names_a_parameter_of_python(here: Path) -> None:
    assert refused("lightcurve t_x1dints.fits") == (
        "t_x1dints.fits: the integrations have no times, expected TDB-MID or MJD-AVG, or INT_TIMES"
    )


def test_no_hint_names_an_option_that_is_refused(here: Path) -> None:
    """`plot` of a spectrum proposes no --set, which is for images."""
    assert run("extract t_calints.fits -o new_x1dints.fits").exit_code == 0
    (said,) = run("plot new_x1dints.fits").stderr.splitlines()
    assert "background" in said
    assert "--set" not in said


@pytest.mark.parametrize(
    "command",
    [
        "extract a_s2d.fits --set xstart=9 --set xstart=10",
        "budget a_s2d.fits --set xstart=9 --set xstop=17 --set xstart=9",
        "combine a_s2d.fits -o x_c1d.fits --set xstart=9 --set xstart=10",
        "plot a_s2d.fits --set xstart=9 --set xstart=10",
        "lightcurve t_calints.fits --set xstart=9 --set xstart=10",
        "reference edit --exp-type MIR_LRS-FIXEDSLIT --set xstart=9 --set xstart=10",
    ],
)
def test_a_key_is_given_once(here: Path, command: str) -> None:
    assert refused(command).startswith("--set xstart is given 2 times, expected once")


def test_limits_of_a_plot(here: Path) -> None:
    assert "'12,5', expected two ascending numbers, such as 5,12" in refused(
        "plot a_x1d.fits --xlim 12,5"
    )
    text = refused("plot a_x1d.fits --xlim 20,25")
    assert text == "xlim is 20 to 25, expected some of the data, 3.19 to 14.02 micron"
    assert refused("plot a_x1d.fits t_x1dints.fits --xlim 20,25").startswith("xlim is 20 to 25")
    assert refused("plot t_x1dints.fits --xlim 20,25").startswith("xlim is 20 to 25")
    assert refused("plot a_s2d.fits --xlim 20,25").endswith(text)


def test_nods_are_given_once(here: Path) -> None:
    text = refused('extract a_s2d.fits --nods b.fits --set nods=["c.fits"]')
    assert text.startswith("--nods and --set nods exclude each other")
