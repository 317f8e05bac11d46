"""Keys pressed in the panel, which has the focus after a click."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qtpy import QtCore

from glue_lrs.viewers.qt.tab import open_tab
from tests.helpers.pointer import Tab


def test_keys_of_the_panel_go_to_the_image(app: Any, products: dict[str, Path], qtbot: Any) -> None:
    live = open_tab(app, products["s2d"])
    panel = Tab(app, live).panel
    before = [(region.lower, region.upper) for region in live.regions]
    live.selected = 0
    qtbot.keyClick(panel, QtCore.Qt.Key_Right, QtCore.Qt.ShiftModifier)
    after = live.regions[0]
    assert after.lower[0] - before[0][0][0] == pytest.approx(1.0, abs=0.06)
    qtbot.keyClick(panel, QtCore.Qt.Key_Left)
    assert live.regions[0].lower[0] - before[0][0][0] == pytest.approx(0.9, abs=0.06)
    assert live.add_region("background", 30.0, 34.0)
    live.selected = len(live.regions) - 1
    number = len(live.regions)
    qtbot.keyClick(panel, QtCore.Qt.Key_Delete)
    assert len(live.regions) == number - 1
    assert panel.scroll.focusPolicy() == QtCore.Qt.NoFocus
