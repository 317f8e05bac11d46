"""Base classes for viewers that find the live extraction of their data and follow it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from glue.core import BaseData, Data
from qtpy import QtCore, QtWidgets

from glue_lrs.errors import LRSError
from glue_lrs.viewers.datasets.images import is_lrs_image, not_an_image
from glue_lrs.viewers.live.links import image_uuid
from glue_lrs.viewers.live.messages import panel_text
from glue_lrs.viewers.live.open import open_extraction
from glue_lrs.viewers.live.registry import live_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from glue_lrs.viewers.canvas.live_view import LiveView
    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Size of the icons of tools. They are small, because the window with the image is narrow.
ICON_SIZE = QtCore.QSize(18, 18)
#: Tools in each menu of the toolbar; the keys are the names of the menus.
SUBTOOLS = {"save": ["mpl:save"], "window": ["window:movetab", "window:title"]}


@contextmanager
def busy() -> Iterator[None]:
    """Show the cursor that indicates a busy program."""
    QtWidgets.QApplication.setOverrideCursor(QtCore.Qt.WaitCursor)
    try:
        yield
    finally:
        QtWidgets.QApplication.restoreOverrideCursor()


def settle(seconds: float = 0.5) -> None:
    """Process pending events, such as changes of the layout and timers, for some seconds.

    An event loop is used instead of ``processEvents``, because every call of the latter in PySide6
    6.12 loses a reference to None, which finally aborts the process.

    Parameters
    ----------
    seconds : float
        Duration in seconds.
    """
    loop = QtCore.QEventLoop()
    QtCore.QTimer.singleShot(round(1000 * seconds), loop.quit)
    (loop.exec if hasattr(loop, "exec") else loop.exec_)()


def live_of(session: Any, data: Any, *, make: bool = False) -> LiveExtraction | None:
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
        The live extraction; None if there is none.
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


class FollowsExtraction:
    """Mixin for glue viewers that follow the live extraction of their data.

    Subclasses must call `find_live` after layers have been added, and override `attach` and
    `detach`.
    """

    live: LiveExtraction | None = None
    _followed: list[tuple[str, Callable[..., None]]]

    def initialize_toolbar(self) -> None:
        """Make the toolbar with small icons."""
        super().initialize_toolbar()  # type: ignore[misc]
        self.toolbar.setIconSize(ICON_SIZE)  # type: ignore[attr-defined]

    def find_live(self, *, make: bool = True) -> None:
        """Attach the viewer to the extraction of the first layer that has one."""
        if self.live is not None:
            return
        for layer in self.shown_data():
            try:
                live = live_of(self.session, layer, make=make)  # type: ignore[attr-defined]
            except LRSError as error:
                self.show_error(panel_text(error))
                continue
            if live is not None:
                self.live = live
                self._followed = []
                self.attach(live)
                self.follow("closed", self._live_closed)
                return

    def show_error(self, text: str) -> None:
        """Show an error message in one line."""
        self.set_status(text)  # type: ignore[attr-defined]

    @classmethod
    def __setgluestate__(cls, rec: dict[str, Any], context: Any) -> Any:
        viewer = super().__setgluestate__(rec, context)  # type: ignore[misc]
        viewer.find_live()
        return viewer

    def shown_data(self) -> list[BaseData]:
        """Return the datasets that are shown, without subsets."""
        return [
            state.layer
            for state in self.state.layers  # type: ignore[attr-defined]
            if isinstance(state.layer, BaseData)
        ]

    def follow(self, name: str, function: Callable[..., None]) -> None:
        """Call a function whenever a property of the extraction changes."""
        assert self.live is not None
        self.live.add_callback(name, function)
        self._followed.append((name, function))

    def attach(self, live: LiveExtraction) -> None:
        """Start to follow an extraction."""
        raise NotImplementedError

    def detach(self) -> None:
        """Stop following the extraction; called once, before `live` becomes None."""

    def leave_live(self) -> None:
        """Disconnect the viewer from the extraction."""
        if self.live is None:
            return
        for name, function in self._followed:
            self.live.remove_callback(name, function)
        self._followed = []
        self.detach()
        self.live = None

    def _live_closed(self, closed: bool) -> None:
        if closed:
            self.leave_live()

    def remove_data(self, data: Any) -> None:
        """Remove a dataset, and disconnect from the extraction that it belongs to."""
        if self.live is not None and data in (self.live.data, self.live.spectrum_data):
            self.leave_live()
        super().remove_data(data)  # type: ignore[misc]

    def closeEvent(self, event: Any) -> None:  # noqa: N802
        """Disconnect from the extraction before the canvas is deleted."""
        super().closeEvent(event)  # type: ignore[misc]
        if event.isAccepted():
            self.leave_live()
            # glue's list of layers would stay subscribed after Qt has deleted it
            self.session.hub.unsubscribe_all(self._view.layer_list)  # type: ignore[attr-defined]


class HasPointerView(FollowsExtraction):
    """Mixin for viewers with a plot that responds to the mouse while no tool of glue is active."""

    _pointer_enabled = True

    @property
    def pointer_view(self) -> LiveView | None:
        """Plot that responds to the mouse; None without an extraction."""
        raise NotImplementedError

    def initialize_toolbar(self) -> None:
        """Make the toolbar; while its tools are active, the plot does not respond to the mouse."""
        super().initialize_toolbar()
        toolbar = self.toolbar  # type: ignore[attr-defined]
        toolbar.tool_activated.connect(lambda: self.enable_pointer(False))
        toolbar.tool_deactivated.connect(lambda: self.enable_pointer(True))

    def enable_pointer(self, enabled: bool | None = None) -> None:
        """Set whether the plot responds to the mouse; None applies the current setting again."""
        self._pointer_enabled = self._pointer_enabled if enabled is None else enabled
        if self.pointer_view is not None:
            self.pointer_view.active = self._pointer_enabled


class ShowsOneImage(FollowsExtraction):
    """Mixin for viewers that show a single LRS image and no subsets."""

    def add_data(self, data: Any) -> bool:
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

    def add_subset(self, subset: Any) -> bool:
        """Return False, because subsets are not shown."""
        return False
