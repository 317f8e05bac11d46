"""What the viewers of an extraction share: they find it by the data shown, and follow it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from glue.core import BaseData, Data
from qtpy import QtCore, QtWidgets

from glue_lrs.errors import LRSError
from glue_lrs.viewers.datasets.datasets import is_lrs_image, no_image
from glue_lrs.viewers.live.live_extraction import META
from glue_lrs.viewers.live.open import open_extraction
from glue_lrs.viewers.live.registry import live_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from glue_lrs.viewers.live.live_extraction import LiveExtraction

__all__ = [
    "ICON_SIZE",
    "SUBTOOLS",
    "FollowsExtraction",
    "HasHand",
    "ShowsOneImage",
    "busy",
    "live_of",
    "settle",
]

#: Of the tools: the image's window is narrow.
ICON_SIZE = QtCore.QSize(18, 18)
#: What is behind the tools that are menus.
SUBTOOLS = {"save": ["mpl:save"], "window": ["window:movetab", "window:title"]}


@contextmanager
def busy() -> Iterator[None]:
    """Show the cursor of a program at work."""
    QtWidgets.QApplication.setOverrideCursor(QtCore.Qt.WaitCursor)
    try:
        yield
    finally:
        QtWidgets.QApplication.restoreOverrideCursor()


def settle(seconds: float = 0.5) -> None:
    """Let layouts and timers have their turn.

    By an event loop: every ``processEvents`` of PySide6 6.12 loses a reference to None, and enough
    of them end the program.
    """
    loop = QtCore.QEventLoop()
    QtCore.QTimer.singleShot(round(1000 * seconds), loop.quit)
    (loop.exec if hasattr(loop, "exec") else loop.exec_)()


def live_of(session: Any, data: Any, *, make: bool = False) -> LiveExtraction | None:
    """The live extraction that a dataset belongs to.

    Parameters
    ----------
    session : glue.core.session.Session
        The session.
    data : glue.core.Data
        An LRS image or a live spectrum.
    make : bool
        Whether to open an extraction for an LRS image that has none.

    Returns
    -------
    LiveExtraction or None
        None if the data has none.
    """
    if not isinstance(data, Data):
        return None
    found = live_for(session, data)
    if found is not None:
        return found
    if make and is_lrs_image(data):
        return open_extraction(session, data)
    # The spectrum of a session that is being restored may come before its image.
    stored = data.meta.get(META)
    uuid = stored.get("image") if isinstance(stored, dict) else None
    for image in session.data_collection:
        if uuid is not None and image.uuid == uuid and is_lrs_image(image):
            open_extraction(session, image)
            return live_for(session, data)
    return None


class FollowsExtraction:
    """Mixin of glue viewers that follow the live extraction of the data they show.

    Subclasses call `find_live` when layers were added and override `attach` and `detach`.
    """

    live: LiveExtraction | None = None
    _followed: list[tuple[str, Callable[..., None]]]

    def initialize_toolbar(self) -> None:
        """Small icons."""
        super().initialize_toolbar()  # type: ignore[misc]
        self.toolbar.setIconSize(ICON_SIZE)  # type: ignore[attr-defined]

    def find_live(self, *, make: bool = True) -> None:
        """Attach to the extraction of the first layer that has one."""
        if self.live is not None:
            return
        for layer in self.shown_data():
            try:
                live = live_of(self.session, layer, make=make)  # type: ignore[attr-defined]
            except LRSError as error:
                self.complain(str(error))
                continue
            if live is not None:
                self.live = live
                self._followed = []
                self.attach(live)
                self.follow("closed", self._live_closed)
                return

    def complain(self, text: str) -> None:
        """Tell in one line what went wrong."""
        self.set_status(text)  # type: ignore[attr-defined]

    @classmethod
    def __setgluestate__(cls, rec: dict[str, Any], context: Any) -> Any:
        viewer = super().__setgluestate__(rec, context)  # type: ignore[misc]
        viewer.find_live()
        return viewer

    def shown_data(self) -> list[BaseData]:
        """The datasets (not the subsets) shown."""
        return [
            state.layer
            for state in self.state.layers  # type: ignore[attr-defined]
            if isinstance(state.layer, BaseData)
        ]

    def follow(self, name: str, function: Callable[..., None]) -> None:
        """Call a function with each new value of a property of the extraction."""
        assert self.live is not None
        self.live.add_callback(name, function)
        self._followed.append((name, function))

    def attach(self, live: LiveExtraction) -> None:
        """Begin to follow."""
        raise NotImplementedError

    def detach(self) -> None:
        """End it; called once, before `live` becomes None."""

    def leave_live(self) -> None:
        """Forget the extraction."""
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
        """Let go of an extraction whose data leaves."""
        if self.live is not None and data in (self.live.data, self.live.spectrum_data):
            self.leave_live()
        super().remove_data(data)  # type: ignore[misc]

    def closeEvent(self, event: Any) -> None:  # noqa: N802
        """Let go before the canvas is gone."""
        super().closeEvent(event)  # type: ignore[misc]
        if event.isAccepted():
            self.leave_live()
            # Glue's list of layers goes on to listen after Qt has deleted it.
            self.session.hub.unsubscribe_all(self._view.layer_list)  # type: ignore[attr-defined]


class HasHand(FollowsExtraction):
    """Mixin of viewers in which a view takes the mouse while no tool of glue's is chosen."""

    _free = True

    @property
    def hand(self) -> Any:
        """The view that takes the mouse; None while there is none."""
        raise NotImplementedError

    def initialize_toolbar(self) -> None:
        """Let glue's tools have the mouse while one is chosen."""
        super().initialize_toolbar()
        toolbar = self.toolbar  # type: ignore[attr-defined]
        toolbar.tool_activated.connect(lambda: self.let_hand(False))
        toolbar.tool_deactivated.connect(lambda: self.let_hand(True))

    def let_hand(self, free: bool | None = None) -> None:
        """Give the view the mouse, or take it away; by default as it was before."""
        self._free = self._free if free is None else free
        if self.hand is not None:
            self.hand.active = self._free


class ShowsOneImage(FollowsExtraction):
    """Mixin of viewers that show one LRS image and no subsets."""

    def add_data(self, data: Any) -> bool:
        """Add an LRS image, unless there is another one."""
        if not is_lrs_image(data):
            self.complain(no_image(data))
            return False
        if self.live is not None and data is not self.live.data:
            name = self.LABEL  # type: ignore[attr-defined]
            self.complain(f"{data.label}: the {name} shows {self.live.data.label} already")
            return False
        added: bool = super().add_data(data)  # type: ignore[misc]
        if added:
            self.find_live()
        return added

    def add_subset(self, subset: Any) -> bool:
        """No subset is shown."""
        return False
