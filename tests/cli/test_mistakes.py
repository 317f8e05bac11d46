"""The command line: mistakes that a first user makes, each refused in one line."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from glue_lrs import Aperture, Extract1D
from glue_lrs.cli import main
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.io.apcorr import write_apcorr
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


LAST = "expected none after the last item"
CLOSE = "expected a value or a closing ']' or '}'"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            '{"a": 1,\n "b": [1, 2],\n}',
            "a comma before '}', expected none after the last item (line 2, column 13)",
        ),
        (
            '{"a": [1, 2, ]}',
            "a comma before ']', expected none after the last item (line 1, column 12)",
        ),
        ("{'a': 1}", "single quotes, expected double quotes (line 1, column 2)"),
        ('{"a": 1 "b": 2}', "no comma before '\"b\": 2}' (line 1, column 9)"),
        ('{"a" 2}', "no colon before '2}' (line 1, column 6)"),
        (
            '{"a": 1',
            "the end of the text, expected a value or a closing ']' or '}' (line 1, column 8)",
        ),
        ('{"a": True}', "True, expected true (line 1, column 7)"),
        ('{"a": yes}', "'yes' without double quotes (line 1, column 7)"),
        ('{"a": 1}}', "'}' after the end, expected nothing there (line 1, column 9)"),
        ('{ // c\n"a": 1}', "a comment, which JSON does not have (line 1, column 3)"),
        ('{"a": "b\n"}', "a line break or control character within quotes (line 1, column 9)"),
        ('{"a": "b}', "a text without its closing quote (line 1, column 7)"),
    ],
)
def test_faults_of_json_are_told_in_plain_words(here: Path, text: str, found: str) -> None:
    Path("r.json").write_text(text)
    said = refused("reference check r.json")
    assert said == f"r.json: is not JSON: found {found}"


def test_faults_of_a_setting(here: Path) -> None:
    assert refused("extract a_s2d.fits --set bkg_coeff=[[0.5],[4.5],]").startswith(
        "--set bkg_coeff is not JSON: found a comma before ']', expected none after the last item "
        "(line 1, column 13)"
    )


def test_info_of_a_reference(here: Path) -> None:
    Path("r.json").write_text(run("reference show").stdout)
    shown = run("info r.json")
    assert shown.exit_code == 0
    assert "EXTRACT1D reference" in shown.stdout
    assert "MIR_LRS-FIXEDSLIT: xstart=27, xstop=34" in shown.stdout
    (facts,) = json.loads(run("info --json r.json").stdout)
    assert facts["product"] == "extract1d"
    write_apcorr(Scene().aperture_correction(size=np.arange(1, 31)), "apcorr.fits")
    assert "factors 1.0" in run("info apcorr.fits").stdout
    Path("r.json").write_text("{")
    assert refused("info r.json").startswith("r.json: is not JSON: found the end of the text")


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("extract a_s2d.fits -o bad_s2d.fits", "(_s2d), expected _x1d.fits or _x1dints.fits, or"),
        ("extract a_s2d.fits -o b_c1d.fits", "has the suffix of another product (_c1d)"),
        ("extract t_calints.fits -o b_cal.fits.gz", "expected _x1d.fits or _x1dints.fits, or none"),
        ("combine a_x1d.fits -o b_x1d.fits", "(_x1d), expected _c1d.fits, or none"),
        ("lightcurve t_calints.fits -o b_x1dints.fits", "(_x1dints), expected another, or none"),
    ],
)
def test_names_of_other_products(here: Path, command: str, found: str) -> None:
    assert found in refused(command)


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("extract a_s2d.fits --output-dir a_x1d.fits", "is a file, expected a folder"),
        ("extract a_s2d.fits --output-dir /proc/xx", "/proc/xx: cannot be made"),
        ("extract a_s2d.fits --output-dir /proc", "/proc: no files can be written there"),
        ("lightcurve t_calints.fits --output-dir /proc/xx", "/proc/xx: cannot be made"),
        ("export a_x1d.fits --to csv --output-dir /proc/xx", "/proc/xx: cannot be made"),
        ("extract a_s2d.fits -o a_x1d.fits", "a_x1d.fits: exists"),
        ("extract a_s2d.fits -o /proc/x.fits", "/proc: no files can be written there"),
        ("combine a_s2d.fits -o none/x_c1d.fits", "the folder none does not exist"),
        ("measure a_s2d.fits --drift x.ecsv", "expected a stack of integrations"),
        ("plot a_s2d.fits --rows 9999", "row is 9999, expected 0 to"),
    ],
)
def test_outputs_are_checked_first(
    here: Path, command: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr(Extract1D, "run", never)
    module = sys.modules["glue_lrs.measurement.curve_of_growth"]
    monkeypatch.setattr(module, "measure_with_growth", never)
    assert found in refused(command)
