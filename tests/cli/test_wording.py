"""Messages on the command line: no Python syntax, for mistakes in every setting and command."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from glue_lrs.cli import main
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.reference import schema
from glue_lrs.simulation import Scene, Source

#: Constants, calls, attributes and types of Python, and names of things that are not files.
PYTHON = re.compile(
    r"\b(True|False|None|NoneType|ndarray|dict|tuple|list|str|bool|int|float)\b(?! of )|\w\(|"
    r"<built-in|<in memory|\b(Extract1D|SlitImage|PSFProfile|SpatialProfile|OptimalExtractor)\b|"
    r"(?<![\w/.-])[a-z_]+\.(?!fits|json|png|csv|txt|ecsv)[a-z_]+|Error\b"
)

KEYS = sorted({*schema.KEYS, *schema.STEP, *schema.OPTIONS, "typo"})
VALUES = ("null", "true", "false", "5", "-1", "[1, 2]", '[["a"], ["b"]]', '{"a": 1}', "word", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nod, a time series, an image without a source, and an output that exists."""
    folder = tmp_path_factory.mktemp("wording")
    Scene(seed=1).s2d(nod=1).image.write(folder / "nod_s2d.fits")
    Scene(seed=1).calints(n_int=2).image.write(folder / "t_calints.fits")
    Scene(seed=1, sources=(Source(flux=1e-9),)).s2d(nod=1).image.write(folder / "empty_s2d.fits")
    write_apcorr(Scene().aperture_correction(size=np.arange(1, 31)), folder / "apcorr.fits")
    (folder / "made_x1d.fits").write_text("exists")
    return folder


def messages(folder: Path, *arguments: str) -> list[str]:
    """The lines that a command prints to stderr, without the names of the files."""
    given = [str(folder / one) if one.endswith((".fits", ".json")) else one for one in arguments]
    done = CliRunner().invoke(main, given, env={"COLUMNS": "100"})
    lines = done.stderr.replace(f"{folder}/", "").splitlines()
    assert done.exit_code == 2 or (done.exit_code == 0 and lines), arguments
    return lines


def check(lines: list[str]) -> None:
    assert [line for line in lines if PYTHON.search(line)] == []


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_settings(folder: Path, key: str) -> None:
    for value in VALUES:
        lines = messages(
            folder, "extract", "nod_s2d.fits", "-o", "made_x1d.fits", "--set", f"{key}={value}"
        )
        check(lines)
        assert len([line for line in lines if ": error: " in line]) == 1


MISTAKES = {
    "nods without noise": "extract nod_s2d.fits -o x.fits --nods t_calints.fits",
    "psf": "extract nod_s2d.fits -o x.fits --psf apcorr.fits",
    "apcorr": "extract nod_s2d.fits -o x.fits --apcorr nod_s2d.fits",
    "extract1d": "extract nod_s2d.fits -o x.fits --extract1d nod_s2d.fits",
    "mode": "extract nod_s2d.fits -o x.fits --set optimal_mode=psf",
    "no psf": "extract nod_s2d.fits -o x.fits --set extraction_type=optimal --set optimal_mode=psf",
    "off the image": "extract nod_s2d.fits -o x.fits --set xstart=90 --set xstop=99",
    "unused": "extract nod_s2d.fits -o x.fits --overwrite --set bkg_fit=median",
    "bad pixels": "extract nod_s2d.fits -o x.fits --set extraction_type=optimal "
    "--set bad_pixels=profile",
    "no source": "extract empty_s2d.fits -o x.fits --set extraction_type=optimal "
    "--set xstart=3 --set xstop=5 --set use_source_posn=false",
    "empty": "extract empty_s2d.fits -o x.fits --overwrite",
    "off the source": "extract nod_s2d.fits -o x.fits --overwrite --set use_source_posn=false",
    "scale": "combine nod_s2d.fits nod_s2d.fits -o x.fits --scale --pipeline",
    "weights": "combine nod_s2d.fits -o x.fits --pipeline --weights inverse_variance",
    "clip": "combine nod_s2d.fits nod_s2d.fits -o x.fits --overwrite --sigma-clip 3",
    "kinds": "combine nod_s2d.fits t_calints.fits -o x.fits",
    "measure": "measure empty_s2d.fits --no-plot",
    "info": "info made_x1d.fits",
    "plot": "plot nod_s2d.fits t_calints.fits apcorr.fits",
    "reference": "reference check nod_s2d.fits",
}


@pytest.mark.slow
@pytest.mark.parametrize("command", MISTAKES.values(), ids=list(MISTAKES))
def test_mistakes(folder: Path, command: str) -> None:
    check(messages(folder, *command.split()))


def test_nods_need_the_noise(folder: Path) -> None:
    lines = messages(folder, *MISTAKES["nods without noise"].split())
    assert lines == [
        "glue-lrs: error: nod_s2d.fits: noise is 'propagated', expected 'nod', because nods are "
        "given (give --set noise=nod)"
    ]
