"""Entry point for glue's plugin system, which every application based on glue loads.

It does not import `glue_lrs`, because that registers readers with specutils. An application without
the LRS viewers, such as jdaviz, must work with LRS data as if this package were not installed.
"""

from __future__ import annotations

from glue_qt.config import menubar_plugin


def setup() -> None:
    """Have `glue_lrs.viewers.qt.plugin` set up when a glue desktop application builds its menus."""
    menubar_plugin.lazy_add("glue_lrs.viewers.qt.plugin")
