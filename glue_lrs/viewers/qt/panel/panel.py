"""The extraction panel: settings and results of a live extraction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy import QtCore, QtWidgets

from glue_lrs.viewers.qt.panel import groups
from glue_lrs.viewers.qt.panel.actions import PanelActions
from glue_lrs.viewers.qt.panel.method import MethodGroup
from glue_lrs.viewers.qt.panel.regions import RegionsGroup
from glue_lrs.viewers.qt.panel.setups import SetupsGroup

if TYPE_CHECKING:
    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Delay in milliseconds between the last change and the checks that measure the source.
_CHECK_DELAY = 400


class Panel(PanelActions):
    """Settings and results of a live extraction, in groups of widgets.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction to show and change.
    parent : QWidget, optional
        Parent widget.

    Attributes
    ----------
    regions, background, position, method, setups, stack, statistics, comparison, output
        Groups of widgets (`PanelGroup`). `stack` is None for a single image.
    """

    def __init__(self, live: LiveExtraction, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(live, parent)
        self.regions = RegionsGroup(self)
        self.background = groups.BackgroundGroup(self)
        self.position = groups.PositionGroup(self)
        self.method = MethodGroup(self)
        self.setups = SetupsGroup(self)
        self.stack = groups.StackGroup(self) if live.image.is_stack else None
        self.statistics = groups.StatisticsGroup(self)
        self.comparison = groups.ComparisonGroup(self)
        self.output = groups.OutputGroup(self)
        self._groups = [one for one in vars(self).values() if isinstance(one, groups.PanelGroup)]
        layout = QtWidgets.QVBoxLayout(self, spacing=6)
        layout.setContentsMargins(6, 6, 6, 6)
        for group in self._groups:
            layout.addWidget(group)
        layout.addStretch(1)
        self._check_timer = QtCore.QTimer(
            self, singleShot=True, interval=_CHECK_DELAY, timeout=self._check
        )
        self._unchecked: object = None
        live.add_global_callback(self.refresh_soon)
        self.refresh()

    def close_panel(self) -> None:
        """Disconnect the panel from the extraction."""
        self._timer.stop()
        self._check_timer.stop()
        self.live.remove_global_callback(self.refresh_soon)

    def refresh(self) -> None:
        """Show the current state of the extraction."""
        if self.live.closed:
            return
        self.filling = True
        try:
            for group in self._groups:
                group.refresh()
        finally:
            self.filling = False
        self.message.refresh()
        if self.live.extraction is not self._unchecked:
            self._unchecked = self.live.extraction
            self._check_timer.start()  # again, if it was running

    def _check(self) -> None:
        """Make all checks, unless the user is dragging a region."""
        if not self.live.closed and self.live.operator is self.live.extract:
            self.live.check()
