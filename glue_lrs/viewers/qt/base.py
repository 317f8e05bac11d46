"""Base classes for viewers that find the live extraction of their data and follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from glue.core import BaseData, Data
from qtpy import QtCore, QtWidgets

from glue_lrs.errors import LRSError
from glue_lrs.viewers.datasets.images import is_lrs_image, not_an_image
from glue_lrs.viewers.live.follower import Follower
from glue_lrs.viewers.live.links import image_uuid
from glue_lrs.viewers.live.messages import panel_text
from glue_lrs.viewers.live.open import open_extraction
from glue_lrs.viewers.live.registry import live_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from glue.core import Subset
    from glue.core.session import Session
    from glue.core.state import GlueUnSerializer
    from glue_qt.viewers.matplotlib.widget import MplWidget
    from qtpy import QtGui

    from glue_lrs.viewers.canvas.live_view import LiveView
    from glue_lrs.viewers.live.live_extraction import LiveExtraction

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


def live_of(session: Session, data: object, *, make: bool = False) -> LiveExtraction | None:
    """Return the live extraction for a dataset.

    Parameters
    ----------
    session : glue.core.session.Session
        glue session that contains the dataset.
    data : glue.core.Data
        Dataset of an LRS image, or of the spectrum of a live extraction.
    make : bool
        Whether to open an extraction for an LRS image if there is none yet.

    Returns
    -------
    LiveExtraction or None
        The live extraction, or None if the dataset has none.
    """
    if not isinstance(data, Data):
        return None
    found = live_for(session, data)
    if found is not None:
        return found
    if make and is_lrs_image(data):
        return open_extraction(session, data)
    # A session may restore the dataset of the spectrum before that of its image.
    uuid = image_uuid(data)
    for image in session.data_collection:
        if uuid is not None and image.uuid == uuid and is_lrs_image(image):
            open_extraction(session, image)
            return live_for(session, data)
    return None


class StateWithHome:
    """Mixin for the state of a viewer whose limits can be reset by a function.

    Attributes
    ----------
    home : callable or None
        Function that resets the limits. If it is None, glue adapts the limits to the layers.
    """

    home: Callable[[], None] | None = None

    def reset_limits(self) -> None:
        """Reset the limits of the axes."""
        reset = self.home or getattr(super(), "reset_limits", None)
        if reset is not None:
            reset()


class FollowsExtraction(Follower):
    """Mixin for glue viewers that follow the live extraction of their data.

    Subclasses must call `find_live` after layers have been added, and override `attach` and
    `detach`.
    """

    live: LiveExtraction | None = None
    inherit_tools = False
    tools: ClassVar[tuple[str, ...]] = ()
    # attributes that glue's viewers set
    session: Session
    state: Any
    toolbar: Any
    axes: Any  # Matplotlib axes with additional attributes set by glue
    mpl_widget: MplWidget

    def find_live(self, *, make: bool = True) -> None:
        """Attach the viewer to the extraction of the first layer that has one."""
        if self.live is not None:
            return
        for state in self.state.layers:
            live = self.live_or_error(state.layer, make=make)
            if live is not None:
                self.live = live
                self.attach(live)
                self.follow(self._live_closed, "closed")
                return

    def live_or_error(self, data: BaseData, *, make: bool) -> LiveExtraction | None:
        """Return the result of `live_of`; on an `LRSError`, show its message and return None."""
        try:
            return live_of(self.session, data, make=make)
        except LRSError as error:
            self.show_error(panel_text(error))
            return None

    def show_error(self, text: str) -> None:
        """Show an error message in the status line."""
        self.set_status(text)  # type: ignore[attr-defined]

    @classmethod
    def __setgluestate__(cls, rec: dict[str, Any], context: GlueUnSerializer) -> Self:
        viewer: Self = super().__setgluestate__(rec, context)  # type: ignore[misc]
        viewer.find_live()
        return viewer

    def attach(self, live: LiveExtraction) -> None:
        """Start to follow an extraction."""
        raise NotImplementedError

    def detach(self) -> None:
        """Stop following the extraction. This is called once, before `live` becomes None."""

    def leave_live(self) -> None:
        """Disconnect the viewer from the extraction."""
        if self.live is not None:
            self.unfollow()
            self.detach()
            self.live = None

    def _live_closed(self, closed: bool) -> None:
        if closed:
            self.leave_live()

    def remove_data(self, data: BaseData) -> None:
        """Remove a dataset, and disconnect from the extraction that it belongs to."""
        if self.live is not None and data in (self.live.data, self.live.spectrum_data):
            self.leave_live()
        super().remove_data(data)  # type: ignore[misc]

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
    margins = (0.7, 0.12, 0.42, 0.12)
    #: Name of the attribute that holds the plot, or None if there is no extraction.
    pointer_view = "editor"
    _pointer_enabled = True

    def __init__(
        self, session: Session, parent: QtWidgets.QWidget | None = None, state: object = None
    ) -> None:
        super().__init__(session, parent=parent, state=state)  # type: ignore[call-arg]
        self.restored = state is not None
        self.mpl_widget.canvas.setMinimumSize(*self.minimum_size)
        for name in ("x_axislabel", "y_axislabel", "x_ticklabel", "y_ticklabel"):
            setattr(self.state, f"{name}_size", LABEL_SIZE)
        self.axes.figure.canvas.mpl_connect("resize_event", self.resized)
        self.axes.resizer.margins = list(self.margins)
        self.axes.resizer.on_resize(None)

    def resized(self, *_: object) -> None:
        """Adapt the viewer to a new size of the canvas."""

    def initialize_toolbar(self) -> None:
        """Make the toolbar; while its tools are active, the plot does not respond to the mouse."""
        super().initialize_toolbar()  # type: ignore[misc]
        self.toolbar.setIconSize(QtCore.QSize(18, 18))  # small, because the windows are narrow
        self.toolbar.tool_activated.connect(lambda: self.enable_pointer(False))
        self.toolbar.tool_deactivated.connect(lambda: self.enable_pointer(True))

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


class ShowsOneImage(FollowsExtraction):
    """Mixin for viewers that show a single LRS image and no subsets."""

    def add_data(self, data: BaseData) -> bool:
        """Add an LRS image, unless another image is shown already."""
        if not is_lrs_image(data):
            self.show_error(not_an_image(data))
            return False
        if self.live is not None and data is not self.live.data:
            name = self.LABEL  # type: ignore[attr-defined]
            self.show_error(f"{data.label}: the {name} shows {self.live.data.label} already")
            return False
        added: bool = super().add_data(data)  # type: ignore[misc]
        if added:
            self.find_live()
        return added

    def add_subset(self, subset: Subset) -> bool:
        """Return False, because subsets are not shown."""
        return False
