"""The extraction panel: settings and results of a live extraction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy import QtCore, QtWidgets

from glue_lrs.viewers.qt.panel.actions import PanelActions
from glue_lrs.viewers.qt.panel.files import FileDialogs
from glue_lrs.viewers.qt.panel.groups import (
    BackgroundGroup,
    ComparisonGroup,
    OutputGroup,
    PanelGroup,
    PositionGroup,
    StackGroup,
    StatisticsGroup,
)
from glue_lrs.viewers.qt.panel.regions import RegionsGroup

if TYPE_CHECKING:
    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Properties of the live extraction whose changes cause a refresh of the panel.
_FOLLOWED = (
    "operator", "extraction", "message", "integration", "rows_averaged", "cursor_row",
    "wavelength_ranges", "comparison", "comparison_label", "selected", "measured",
    "residual_shown",
)  # fmt: skip


class Panel(QtWidgets.QWidget):
    """Settings and results of a live extraction, in groups of widgets.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction to show and change.
    parent : QWidget, optional
        Parent widget.

    Attributes
    ----------
    regions, background, position, stack, statistics, comparison, output : PanelGroup
        Groups of widgets. `stack` is None for a single image.
    message : QLabel
        Line for errors and warnings. It is not a child of the panel, so that it can be put where it
        stays visible when the panel is scrolled.
    """

    def __init__(self, live: LiveExtraction, parent: Any = None) -> None:
        super().__init__(parent)
        self.live = live
        self._closed = False
        self.message = QtWidgets.QLabel()
        self.message.setWordWrap(True)
        self.message.setMargin(6)
        self.message.setTextInteractionFlags(QtCore.Qt.TextSelectableByMouse)
        self._actions = actions = PanelActions(live, self.message, self.refresh, self)
        files = FileDialogs(self, live)
        self.regions = RegionsGroup(actions)
        self.background = BackgroundGroup(actions)
        self.position = PositionGroup(actions, files)
        self.stack = StackGroup(actions) if live.image.is_stack else None
        self.statistics = StatisticsGroup(actions)
        self.comparison = ComparisonGroup(actions, files)
        self.output = OutputGroup(actions, files)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(6)
        for group in self._groups:
            layout.addWidget(group)
        layout.addStretch(1)
        for name in _FOLLOWED:
            live.add_callback(name, actions.refresh_soon)
        self.refresh()

    @property
    def _groups(self) -> list[PanelGroup]:
        groups = (
            self.regions, self.background, self.position, self.stack, self.statistics,
            self.comparison, self.output,
        )  # fmt: skip
        return [group for group in groups if group is not None]

    def close_panel(self) -> None:
        """Disconnect the panel from the extraction."""
        if self._closed:
            return
        self._closed = True
        self._actions.stop()
        for name in _FOLLOWED:
            self.live.remove_callback(name, self._actions.refresh_soon)

    def refresh(self) -> None:
        """Show the current state of the extraction."""
        if self._closed or self.live.closed:
            return
        with self._actions.filling_widgets():
            for group in self._groups:
                group.refresh()
        self._actions.report(self.live.message, error=self.live.extraction is None)

    def refresh_soon(self) -> None:
        """Schedule a refresh."""
        self._actions.refresh_soon()

    def report(self, text: str, *, error: bool = False) -> None:
        """Show a message, in red if it is an error."""
        self._actions.report(text, error=error)
