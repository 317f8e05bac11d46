"""Base classes for viewers that find the live extraction of their data and follow it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qtpy import QtCore, QtWidgets

from glue_lrs.viewers.canvas.region_editor import RegionEditor
from glue_lrs.viewers.live.viewer import ExtractionViewer
from glue_lrs.viewers.qt.status import StatusLines

if TYPE_CHECKING:
    from glue.core.session import Session
    from glue_qt.viewers.matplotlib.widget import MplWidget
    from qtpy import QtGui

    from glue_lrs.viewers.canvas.live_view import LiveView

#: Folder of the icons of tools.
ICONS = Path(__file__).parent / "icons"

#: Tools at the beginning of the toolbar.
PLOT_TOOLS = ("save", "mpl:home", "mpl:pan", "mpl:zoom")
#: Font size of the labels of the axes.
LABEL_SIZE = 9


def settle(seconds: float = 0.5) -> None:
    """Process events, such as changes of the layout and timers, for a given time.

    An event loop is used instead of ``processEvents``, because in PySide6 6.12 every call of
    ``processEvents`` decrements the reference count of None, until the process aborts.

    Parameters
    ----------
    seconds : float
        Duration in seconds.
    """
    loop = QtCore.QEventLoop()
    QtCore.QTimer.singleShot(round(1000 * seconds), loop.quit)
    (loop.exec if hasattr(loop, "exec") else loop.exec_)()


class FollowsExtraction(ExtractionViewer):
    """Mixin for Qt viewers that follow the live extraction of their data."""

    toolbar: Any
    axes: Any  # Matplotlib axes with additional attributes set by glue
    mpl_widget: MplWidget

    def show_error(self, text: str) -> None:
        """Show an error message in the status line."""
        self.set_status(text)  # type: ignore[attr-defined]

    def closeEvent(self, event: QtGui.QCloseEvent) -> None:  # noqa: N802
        """Disconnect from the extraction before the canvas is deleted."""
        super().closeEvent(event)  # type: ignore[misc]
        if event.isAccepted():
            self.leave_live()
            # otherwise glue's list of layers stays subscribed after Qt has deleted it
            self.session.hub.unsubscribe_all(self._view.layer_list)  # type: ignore[attr-defined]


class HasPointerView(FollowsExtraction):
    """Mixin for viewers with a plot that responds to the mouse while no tool of glue is active."""

    #: Tools in each menu of the toolbar; the keys are the names of the menus.
    subtools: ClassVar[dict[str, list[str]]] = {
        "save": ["mpl:save"],
        "window": ["window:movetab", "window:title"],
    }
    #: Minimum size of the canvas in pixels; glue fails on axes of zero size.
    minimum_size = (240, 160)
    #: Left, right, bottom and top margins of the axes in inches.
    margins = (0.74, 0.12, 0.42, 0.12)
    #: Name of the attribute that holds the plot, or None if there is no extraction.
    pointer_view = "editor"
    #: Number of lines about the place under the mouse.
    readout_lines = 1
    _pointer_enabled = True

    def __init__(
        self, session: Session, parent: QtWidgets.QWidget | None = None, state: object = None
    ) -> None:
        super().__init__(session, parent=parent, state=state)  # type: ignore[call-arg]
        self.restored = state is not None
        self.status = StatusLines(self.readout_lines)
        self.statusBar().addWidget(self.status, 1)  # type: ignore[attr-defined]
        self.mpl_widget.canvas.setMinimumSize(*self.minimum_size)
        for name in ("x_axislabel", "y_axislabel", "x_ticklabel", "y_ticklabel"):
            setattr(self.state, f"{name}_size", LABEL_SIZE)
        canvas = self.axes.figure.canvas
        canvas.mpl_connect("resize_event", self.resized)
        self._edge_filter = _EdgeFilter(self)
        canvas.installEventFilter(self._edge_filter)
        self.axes.resizer.margins = list(self.margins)
        self.axes.resizer.on_resize(None)

    def set_status(self, message: str | None) -> None:
        """Show a hint or an error message below the plot."""
        self.status.show_hint(message)

    def resized(self, *_: object) -> None:
        """Adapt the viewer to a new size of the canvas."""

    def initialize_toolbar(self) -> None:
        """Make the toolbar; while its tools are active, the plot does not respond to the mouse."""
        super().initialize_toolbar()  # type: ignore[misc]
        self.toolbar.setIconSize(QtCore.QSize(18, 18))  # small, because the windows are narrow
        self.toolbar.tool_activated.connect(self._tool_activated)
        self.toolbar.tool_deactivated.connect(lambda: self.enable_pointer(True))

    def _tool_activated(self) -> None:
        """Leave the mouse to a tool, and say so."""
        self.enable_pointer(False)
        view = getattr(self, self.pointer_view)
        if view is not None and not view.active:
            tool = self.toolbar.active_tool
            edges = ", or press an edge" if isinstance(view, RegionEditor) else ""
            text = f"{tool.action_text} is active, nothing is edited: press its button again{edges}"
            self.set_status(". ".join(filter(None, (text, tool.status_tip))))

    def give_way(self, x: float, y: float) -> None:
        """Switch off the active tool if a press at a position on the canvas is on an edge."""
        view = getattr(self, self.pointer_view)
        begun = getattr(self.toolbar.active_tool, "_drawing", False)  # a polygon of glue
        if isinstance(view, RegionEditor) and not (view.active or begun) and view.on_edge(x, y):
            self.toolbar.active_tool = None

    def enable_pointer(self, enabled: bool | None = None) -> None:
        """Set whether the plot responds to the mouse; None applies the current setting again."""
        self._pointer_enabled = self._pointer_enabled if enabled is None else enabled
        view: LiveView | None = getattr(self, self.pointer_view)
        if view is not None:  # the tool that adds a region needs the mouse events of the plot
            view.active = self._pointer_enabled or getattr(view, "adding", False)

    def detach(self) -> None:
        """Remove the plot."""
        self.state.home = None
        getattr(self, self.pointer_view).close()
        setattr(self, self.pointer_view, None)


class _EdgeFilter(QtCore.QObject):
    """Filter of the events of a canvas that lets a viewer switch off a tool before a press.

    glue's tools may receive an event before the view, so that the view could not switch them off.
    """

    def __init__(self, viewer: HasPointerView) -> None:
        super().__init__(viewer)
        self._viewer = viewer

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:  # noqa: N802
        left = QtCore.Qt.LeftButton
        if event.type() == QtCore.QEvent.MouseButtonPress and event.button() == left:
            self._viewer.give_way(*watched.mouseEventCoords(event))
        return False
