"""Actions of the extraction panel, and the line that reports errors and warnings."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qtpy import QtCore

from glue_lrs.errors import LRSError, LRSWarning
from glue_lrs.viewers.live.messages import panel_text
from glue_lrs.viewers.qt.base import busy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qtpy import QtWidgets

    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Delay in milliseconds from a change to the refresh of the panel. Several changes during a drag
#: thus cause a single refresh, which does not slow the drag.
_DELAY = 30


class PanelActions:
    """Actions of the panel: methods of a live extraction, whose errors and warnings are reported.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction whose methods are called.
    message : QLabel
        Line that shows errors and warnings.
    refresh : callable
        Function that refreshes the panel.
    parent : QObject
        Owner of the timer that delays the refresh.

    Attributes
    ----------
    filling : bool
        Whether the panel is filling its widgets with values, so that their signals must be ignored.
    """

    def __init__(
        self,
        live: LiveExtraction,
        message: QtWidgets.QLabel,
        refresh: Callable[[], None],
        parent: QtCore.QObject,
    ) -> None:
        self.live = live
        self.filling = False
        self._message = message
        self._notes: list[str] = []
        self._timer = QtCore.QTimer(parent)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY)
        self._timer.timeout.connect(refresh)

    @contextmanager
    def filling_widgets(self) -> Iterator[None]:
        """Ignore the signals from widgets while the panel fills them with values."""
        self.filling = True
        try:
            yield
        finally:
            self.filling = False

    def refresh_soon(self, *_: Any) -> None:
        """Schedule a refresh of the panel."""
        if not self._timer.isActive():
            self._timer.start()

    def stop(self) -> None:
        """Cancel a scheduled refresh."""
        self._timer.stop()

    def report(self, text: str, *, error: bool = False) -> None:
        """Show a message, in red if it is an error."""
        self._message.setText(text)
        self._message.setToolTip(text)
        self._message.setStyleSheet(f"color: {'#b00020' if error else '#7a5200'}" if text else "")
        self._message.setVisible(bool(text))

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        """Call a function, and report an `LRSError` or any `LRSWarning` from it.

        Returns
        -------
        bool
            Whether the function has returned without an `LRSError`.
        """
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                function(*args, **kwargs)
        except LRSError as error:
            self.stop()  # a scheduled refresh would replace the message
            self.report(panel_text(error), error=True)
            return False
        notes = [panel_text(one.message) for one in caught if issubclass(one.category, LRSWarning)]
        if notes:
            self.report("; ".join(notes))
        self._notes = notes
        return True

    def run_slow(self, function: Callable[[], Any]) -> bool:
        """Call a function as `run` does, while the cursor indicates a busy program."""
        with busy():
            return self.run(function)

    def write(self, function: Callable[..., Any], path: str) -> None:
        """Write a file, replacing an existing file, and report its path; do nothing if it is ""."""
        if path and self.run(function, path, overwrite=True):
            self.report("; ".join([f"wrote {path}", *self._notes]))
