"""The extraction panel as a glue viewer."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from glue.core.message import SubsetCreateMessage, SubsetDeleteMessage, SubsetUpdateMessage
from glue.viewers.common.layer_artist import LayerArtist
from glue.viewers.common.state import ViewerState
from glue_qt.viewers.common.data_viewer import DataViewer
from qtpy import QtCore, QtGui, QtWidgets

from glue_lrs.viewers.canvas.region_editor import RegionEditor
from glue_lrs.viewers.live.viewer import ShowsOneImage
from glue_lrs.viewers.qt.base import FollowsExtraction
from glue_lrs.viewers.qt.panel.messages import severity_colour
from glue_lrs.viewers.qt.panel.panel import Panel
from glue_lrs.viewers.qt.panel.widgets import PlainLabel

if TYPE_CHECKING:
    from glue.core import Hub
    from glue.core.message import SubsetMessage

    from glue_lrs.viewers.live.live_extraction import LiveExtraction


class PanelLayerArtist(LayerArtist):
    """Artist that draws nothing. glue requires an artist for the layer of the image."""

    def update(self) -> None:
        """Do nothing."""

    clear = redraw = remove = update


_ARROWS = ("left", "right", "up", "down")

#: Matplotlib's names for the keys that the image editor handles.
_KEYS = {
    getattr(QtCore.Qt, f"Key_{name.capitalize()}"): name
    for name in (*_ARROWS, "delete", "backspace", "escape")
}


class ExtractionPanel(FollowsExtraction, ShowsOneImage, DataViewer):
    """The extraction panel as a glue viewer, so that sessions restore it."""

    LABEL = "LRS extraction panel"
    _state_cls = ViewerState
    _data_artist_cls = PanelLayerArtist
    _subset_artist_cls = PanelLayerArtist

    panel: Panel | None = None

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.scroll = QtWidgets.QScrollArea(
            widgetResizable=True,
            frameShape=QtWidgets.QFrame.NoFrame,
            horizontalScrollBarPolicy=QtCore.Qt.ScrollBarAlwaysOff,
            focusPolicy=QtCore.Qt.NoFocus,  # arrow keys must not scroll the panel
        )
        central = QtWidgets.QWidget()
        self._layout = QtWidgets.QVBoxLayout(central, spacing=0)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.addWidget(self.scroll, 1)
        self.setCentralWidget(central)
        self.statusBar().hide()
        self.resize(320, 700)

    def initialize_toolbar(self) -> None:
        """Do nothing, because the panel has no toolbar."""

    def show_error(self, text: str) -> None:
        """Show an error message in the panel, or in place of the panel if there is none."""
        if self.panel is not None:
            self.panel.report(text, "error")
            return
        label = PlainLabel(text, wordWrap=True, margin=8)
        palette = label.palette()
        palette.setColor(QtGui.QPalette.WindowText, severity_colour(palette, "error"))
        label.setPalette(palette)
        self.scroll.setWidget(label)

    def keyPressEvent(self, event: QtGui.QKeyEvent) -> None:  # noqa: N802 - Qt's
        """Pass arrow keys, Delete and Escape that no widget has handled on to the image editor."""
        name, editor = _KEYS.get(event.key()), self._region_editor()
        if name is None or editor is None:
            super().keyPressEvent(event)
            return
        shift = bool(event.modifiers() & QtCore.Qt.ShiftModifier)
        editor.press_key(f"shift+{name}" if shift and name in _ARROWS else name)

    def _region_editor(self) -> RegionEditor | None:
        """Return the first editor of the panel's extraction, normally that of the image viewer."""
        viewers = itertools.chain.from_iterable(self.session.application.viewers)
        editors = (getattr(viewer, "editor", None) for viewer in viewers)
        found = (one for one in editors if isinstance(one, RegionEditor) and one.live is self.live)
        return next(found, None)

    def register_to_hub(self, hub: Hub) -> None:
        """Subscribe to messages about subsets."""
        super().register_to_hub(hub)
        for message in (SubsetCreateMessage, SubsetUpdateMessage, SubsetDeleteMessage):
            hub.subscribe(self, message, handler=self._subsets_changed)

    def _subsets_changed(self, message: SubsetMessage) -> None:
        if self.panel is not None:
            self.panel.refresh_soon()

    def attach(self, live: LiveExtraction) -> None:
        """Show the panel for an extraction."""
        self.panel = Panel(live)
        self.scroll.setWidget(self.panel)
        self._layout.addWidget(self.panel.message)
        bar = self.scroll.verticalScrollBar().sizeHint().width()
        self.scroll.setMinimumWidth(self.panel.minimumSizeHint().width() + bar + 2)

    def detach(self) -> None:
        """Remove the panel."""
        if self.panel is not None:
            self.panel.close_panel()
            self.panel.message.setParent(None)
            self.panel = None
