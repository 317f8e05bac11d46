"""Actions of the extraction panel, and the line that reports their outcome."""

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

__all__ = ["PanelActions"]

#: Milliseconds between a change and the refresh of the panel, so that labels do not slow a drag.
_DELAY = 30


class PanelActions:
    """Run methods of a live extraction for the groups of the panel, and report the outcome.

    Parameters
    ----------
    live : LiveExtraction
        The extraction.
    message : QLabel
        The line for errors and warnings.
    refresh : callable
        Called to refresh the panel.
    parent : QObject
        Owner of the timer.

    Attributes
    ----------
    filling : bool
        Whether widgets are being filled by the panel: their signals are then to be ignored.
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
        """Ignore the signals of widgets while the panel fills them."""
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
        """Show a message, an error in red."""
        self._message.setText(text)
        self._message.setToolTip(text)
        self._message.setStyleSheet(f"color: {'#b00020' if error else '#7a5200'}" if text else "")
        self._message.setVisible(bool(text))

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        """Call a function and report its `LRSError` or its `LRSWarning`s.

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
            self.stop()  # a refresh would replace the message
            self.report(panel_text(error), error=True)
            return False
        notes = [panel_text(one.message) for one in caught if issubclass(one.category, LRSWarning)]
        if notes:
            self.report("; ".join(notes))
        self._notes = notes
        return True

    def run_slow(self, function: Callable[[], Any]) -> bool:
        """Call a function as `run` does, with the cursor of a busy program."""
        with busy():
            return self.run(function)

    def write(self, function: Callable[..., Any], path: str) -> None:
        """Write a file, replacing an existing one, and report its path; "" writes nothing."""
        if path and self.run(function, path, overwrite=True):
            self.report("; ".join([f"wrote {path}", *self._notes]))
