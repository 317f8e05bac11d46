"""Entry points of glue's plugin system, which also other applications load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

#: Load the plugins of this package in a new process, and print the names of those that glue lists
#: as loaded, of the registries that have changed, and of the modules imported.
_LOAD = """
import copy, importlib, json, sys
from importlib.metadata import EntryPoint

entries, blocked = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(blocked))
import glue._plugin_helpers, glue.config, glue.main

modules = [glue.config]
if "glue_qt" not in blocked:
    modules.append(importlib.import_module("glue_qt.config"))
registries = {
    name: registry
    for module in modules
    for name, registry in vars(module).items()
    if isinstance(registry, glue.config.Registry)
}

def state():
    for name, registry in registries.items():
        if name != "settings":  # whose members depend on the keys that are accessed
            registry.members
    return {
        name: {key: copy.copy(value) for key, value in vars(registry).items()}
        for name, registry in registries.items()
    }

def load(entries):
    glue._plugin_helpers.iter_plugin_entry_points = lambda: iter(entries)
    glue.main.load_plugins()

load([])
before = state()
load([EntryPoint(name, value, "glue.plugins") for name, value in entries.items()])
loaded = glue.main.list_loaded_plugins()
if "glue_qt" not in blocked:  # the menus are read by the desktop application only
    menus = registries.pop("menubar_plugin")
    del before["menubar_plugin"]
    after = state()
else:
    after = state()
changed = [name for name in before if before[name] != after[name]]
imported = [name for name in sys.modules if name.split(".")[0] in ("glue_lrs", "specutils")]
print(json.dumps([loaded, changed, imported]))
"""


def loaded_with(tmp_path: Path, *blocked: str) -> Any:
    """Load the entry points of pyproject.toml where some packages are not installed."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        entries = tomllib.load(file)["project"]["entry-points"]["glue.plugins"]
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, json.dumps([entries, blocked])],
        env={**os.environ, "HOME": str(tmp_path)},  # in which glue saves its settings
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_another_application_is_not_changed(tmp_path: Path) -> None:
    """Neither the registries of glue, nor by importing glue_lrs those of specutils."""
    toolkits = ("glue_qt", "qtpy", "PyQt6", "PySide6", "glue_jupyter", "glue_astronomy")
    assert loaded_with(tmp_path, *toolkits) == [[], [], []]


@pytest.mark.desktop
def test_another_application_is_not_changed_beside_the_desktop(tmp_path: Path) -> None:
    assert loaded_with(tmp_path) == [["glue_lrs_plugin"], [], []]


@pytest.mark.desktop
def test_without_a_binding_of_qt_it_is_not_loaded(tmp_path: Path) -> None:
    """glue-qt requires none."""
    assert loaded_with(tmp_path, "PyQt6", "PySide6") == [[], [], []]


@pytest.mark.desktop
def test_the_desktop_sets_the_plugin_up(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    import glue_qt.config
    from glue.config import data_factory, data_translator
    from glue_qt.app import GlueApplication
    from specutils import Spectrum

    import glue_lrs_plugin
    from glue_lrs.viewers.datasets.loaders import lrs_image, lrs_spectrum
    from glue_lrs.viewers.datasets.translators import SpectrumTranslator
    from glue_lrs.viewers.qt.plugin import MENU_LABEL
    from glue_lrs.viewers.qt.window import close

    # the registries at the start of an application, whichever tests have run
    menus = glue_qt.config.MenubarPluginRegistry()
    for module in (glue_qt.config, glue_lrs_plugin):
        monkeypatch.setattr(module, "menubar_plugin", menus)
    for registry in (data_factory, data_translator):
        ours = [item for item in registry.members if "glue_lrs" in repr(item)]
        monkeypatch.setattr(
            registry, "_members", [item for item in registry.members if item not in ours]
        )
    request.getfixturevalue("qtbot")
    glue_lrs_plugin.setup()
    assert not any("glue_lrs" in repr(item) for item in data_translator.members)
    application = GlueApplication()
    try:
        assert MENU_LABEL in [action.text() for action in application._actions["plugins"]]
        assert {lrs_image, lrs_spectrum} <= {item.function for item in data_factory.members}
        assert isinstance(data_translator.get_handler_for(Spectrum)[0], SpectrumTranslator)
    finally:
        close(application)
