"""Declared dependencies: those that are imported, and what works without some of them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
with (ROOT / "pyproject.toml").open("rb") as _file:
    PROJECT = tomllib.load(_file)["project"]

#: Packages that the viewers alone need.
VIEWERS = {"glue-core", "echo"}
#: Modules of the packages that an installation without glue lacks.
MISSING = (
    "glue",
    "echo",
    "glue_qt",
    "glue_jupyter",
    "qtpy",
    "PyQt6",
    "PySide6",
    "crds",
    "distributed",
    "jwst",
)

QT = ("glue_qt.app", "glue_lrs.viewers.qt.window")


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(one).name) for one in requirements}


def imported(*packages: str) -> set[str]:
    """Return the distributions that packages import, imports within functions included."""
    provided_by = packages_distributions()
    graphs = [
        grimp.build_graph(package, include_external_packages=True, cache_dir=None)
        for package in packages
    ]
    modules = {module.split(".")[0] for graph in graphs for module in graph.modules}
    external = modules - set(packages) - set(sys.stdlib_module_names)
    return {canonicalize_name(provided_by[module][0]) for module in external}


def python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_each_imported_package_is_declared_and_no_other() -> None:
    optional = names(PROJECT["optional-dependencies"]["qt"])
    optional |= names(PROJECT["optional-dependencies"]["crds"])
    optional |= names(PROJECT["optional-dependencies"]["dask"])
    # bqplot imports six
    optional |= names(PROJECT["optional-dependencies"]["jupyter"]) - {"six"}
    # gwcs reads the frames of a WCS with asdf-astropy; qtpy imports one of its bindings
    declared = (names(PROJECT["dependencies"]) - {"asdf-astropy"}) | (optional - {"pyqt6"})
    declared |= {"xarray"}  # for those who have it
    assert imported("glue_lrs") == declared


@pytest.mark.slow
@pytest.mark.parametrize(
    "module",
    [
        "glue_lrs.viewers.jupyter.app",
        "ipympl",
        "crds",
        "distributed",
        *(pytest.param(m, marks=pytest.mark.desktop) for m in QT),
    ],
)
def test_what_an_extra_promises_is_imported(module: str) -> None:
    """``.ci/extras`` imports it in an environment of that extra alone."""
    done = python(f"import {module}")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_without_glue_all_but_the_viewers_is_imported() -> None:
    graph = grimp.build_graph("glue_lrs", cache_dir=None)
    modules = sorted(m for m in graph.modules if not m.startswith("glue_lrs.viewers"))
    assert len(modules) > 100
    done = python(
        f"import sys; sys.modules.update(dict.fromkeys({MISSING}))\n"
        f"for module in {modules}: __import__(module)\n"
        "from glue_lrs.cli import main; main(['view', 'pyproject.toml'])"
    )
    assert done.stderr.startswith("glue-lrs: error: view: No module named"), done.stderr


def test_the_installation_without_glue_names_all_other_dependencies() -> None:
    text = (ROOT / "docs" / "install.rst").read_text(encoding="utf-8")
    (listed,) = re.findall(r"\$ pip install (numpy .*)", text)
    assert names(listed.split()) == names(PROJECT["dependencies"]) - VIEWERS


def test_the_classifiers_name_the_oldest_python_and_the_types() -> None:
    oldest = PROJECT["requires-python"].removeprefix(">=")
    versions = [c.split()[-1] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d", c)]
    assert versions[0] == oldest
    assert (ROOT / "glue_lrs" / "py.typed").exists()
    assert "Typing :: Typed" in PROJECT["classifiers"]
