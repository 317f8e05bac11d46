"""Entry point for glue's plugin system, which every application based on glue loads.

It does not import `glue_lrs`, because that registers readers with specutils. An application without
the LRS viewers, such as jdaviz, must work with LRS data as if this package were not installed.
"""

from __future__ import annotations

from importlib.util import find_spec

from glue_qt.config import menubar_plugin

# glue lists a plugin as not loaded if its import fails; qtpy, if imported, would set QT_API
if not any(find_spec(binding) for binding in ("PyQt6", "PySide6")):
    raise ImportError("neither PyQt6 nor PySide6 is installed, expected one: glue-lrs[qt]")


def setup() -> None:
    """Have `glue_lrs.viewers.qt.plugin` set up when a glue desktop application builds its menus."""
    menubar_plugin.lazy_add("glue_lrs.viewers.qt.plugin")
