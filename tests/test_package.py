from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest
from click.testing import CliRunner

import glue_lrs
from glue_lrs.cli import main


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.slow
def test_importing_the_package_brings_in_nothing_heavy() -> None:
    """Beyond specutils: no toolkit, no glue, no pipeline, none of our own rooms on the right."""
    code = (
        "import sys, specutils; before = set(sys.modules); import glue_lrs;"
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before} - {'glue_lrs'}));"
        "print(*(m for m in sys.modules if m.split('.')[0] in "
        "('qtpy', 'PyQt6', 'PySide6', 'ipywidgets', 'glue', 'jwst', 'stdatamodels', 'crds')));"
        "print(*(m for m in sys.modules if m.startswith(('glue_lrs.plotting.image', 'glue_lrs.cli',"
        "'glue_lrs.fitting', 'glue_lrs.simulation.scene', 'glue_lrs.demo'))))"
    )
    added, *heavy = [*run(code).split("\n"), "", ""]
    assert heavy[:2] == ["", ""]
    # What specutils does not import itself, besides pieces of the standard library.
    assert not set(added.split()) & {"matplotlib", "click", "tqdm", "joblib", "pandas", "ndcube"}


@pytest.mark.slow
def test_the_formats_are_registered_on_import() -> None:
    code = (
        "import glue_lrs; from specutils import Spectrum; from astropy.io import registry;"
        "t = registry.get_formats(Spectrum);"
        "print(*(r['Format'] + r['Read'] + r['Write'] "
        "for r in t if r['Format'].startswith('lrs')))"
    )
    assert run(code).split() == ["lrs-c1dYesNo", "lrs-s2dYesNo", "lrs-x1dYesYes"]


@pytest.mark.slow
def test_figures_are_reached_without_another_import() -> None:
    """Completion lists the names for users, not the subpackages."""
    code = "import glue_lrs; print('plotting' in dir(glue_lrs), glue_lrs.plotting.plot_stack)"
    assert run(code).startswith("False <function plot_stack")


def test_version_is_that_of_the_installation() -> None:
    assert glue_lrs.__version__ == version("glue-lrs")


@pytest.mark.slow
def test_the_package_is_run_like_the_command() -> None:
    def shown(*args: str) -> str:
        command = [sys.executable, "-m", "glue_lrs", *args]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert shown("--version") == f"glue-lrs, version {version('glue-lrs')}\n"
    usage, *text = shown("--help").splitlines()
    assert usage == "Usage: python -m glue_lrs [OPTIONS] COMMAND [ARGS]..."
    assert text == CliRunner().invoke(main, ["--help"]).stdout.splitlines()[1:]
