"""More files than a process may open: they are read one at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from astropy.io import fits
from click.testing import CliRunner

from glue_lrs.cli import main
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.io.spectra import combine_files
from tests.helpers.images import slit

if sys.platform != "linux":
    pytest.skip("counts open files in /proc", allow_module_level=True)

import resource

#: Number of files that can be opened in addition to those that are open, and number of the inputs.
ROOM, NUMBER = 7, 9

pytestmark = pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning")


@pytest.fixture
def few_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def operator() -> Extract1D:
    return Extract1D.from_reference(None, FIXED_SLIT, apply_apcorr=False, use_source_posn=True)


@pytest.fixture(params=["s2d", "x1d"])
def paths(tmp_path: Path, request: pytest.FixtureRequest) -> list[str]:
    cards = {"TELESCOP": "JWST", "INSTRUME": "MIRI", "FILTER": "P750L", "EFFEXPTM": 10.0}
    cards["EXP_TYPE"] = FIXED_SLIT
    first = tmp_path / f"0_{request.param}.fits"
    image = slit(header=fits.Header(cards))
    (image if request.param == "s2d" else operator().run(image)).write(first)
    paths = [first, *(tmp_path / f"{n}_{request.param}.fits" for n in range(1, NUMBER))]
    for path in paths[1:]:
        os.link(first, path)
    return [str(path) for path in paths]


def test_combine(paths: list[str], few_files: None) -> None:
    assert len(combine_files(paths, extract=operator()).inputs) == NUMBER


@pytest.mark.slow  # 1 s: each image is measured
def test_command(paths: list[str], few_files: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(paths[0]).parent)
    done = CliRunner().invoke(main, ["combine", *paths, "-o", "all_c1d.fits"])
    assert done.exit_code == 0, done.output
