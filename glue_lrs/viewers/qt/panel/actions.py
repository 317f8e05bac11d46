"""Base class of the extraction panel: calls of methods, file dialogs and messages."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from glue_qt.utils import set_cursor_cm
from qtpy import QtCore, QtWidgets

from glue_lrs.errors import LRSError, LRSWarning
from glue_lrs.viewers.live.messages import panel_text
from glue_lrs.viewers.live.names import folder_of, stem_of
from glue_lrs.viewers.qt.panel.messages import MessageArea
from glue_lrs.viewers.qt.panel.widgets import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from glue_lrs.errors import Severity
    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Delay in milliseconds between a change and the refresh of the panel, so that many changes during
#: a drag cause a single refresh and do not slow the drag.
_DELAY = 30


class PanelActions(QtWidgets.QWidget):
    """Base class of the panel, which calls methods of a live extraction and reports errors.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction whose methods are called.
    parent : QWidget, optional
        Parent widget.

    Attributes
    ----------
    message : MessageArea
        Place for errors and warnings. It is not a child of the panel, so that it can be put where
        it stays visible when the panel is scrolled.
    filling : bool
        Whether the panel is setting the values of its widgets, whose signals must then be ignored.
    """

    def __init__(self, live: LiveExtraction, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.live = live
        self.filling = False
        self.message = MessageArea(live)
        self._timer = QtCore.QTimer(self, singleShot=True, interval=_DELAY, timeout=self.refresh)

    def refresh(self) -> None:
        """Show the current state of the extraction."""
        raise NotImplementedError

    def refresh_soon(self, **_: object) -> None:
        """Schedule a refresh of the panel."""
        if not self._timer.isActive():
            self._timer.start()

    def report(self, text: str, severity: Severity = "info") -> None:
        """Add a message to the list of messages, and show it at once."""
        self.live.notify(text, severity)
        self.message.refresh()

    def run(self, function: Callable[..., object], *args: object, **kwargs: object) -> bool:
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
            self.report(panel_text(error), "error")
            return False
        for one in caught:
            if issubclass(one.category, LRSWarning):
                self.report(panel_text(one.message), "warning")
        return True

    def run_slow(self, function: Callable[[], object]) -> bool:
        """Call a function as `run` does, and show a wait cursor meanwhile."""
        with set_cursor_cm(QtCore.Qt.WaitCursor):
            return self.run(function)

    # --- files -----------------------------------------------------------------------------------

    def load(self, title: str, filters: str, function: Callable[[str], object]) -> None:
        """Let the user choose a file, and call a function with the path of the file.

        Parameters
        ----------
        title : str
            Title of the dialog.
        filters : str
            Filters for file names in Qt's format.
        function : callable
            Function that reads the file. It is not called if the dialog was cancelled.
        """
        path, _ = QtWidgets.QFileDialog.getOpenFileName(
            self, title, str(folder_of(self.live)), f"{filters};;All files (*)"
        )
        if path:
            self.run(function, path)

    def save(
        self, title: str, ending: str, extensions: tuple[str, ...], function: Callable[..., object]
    ) -> None:
        """Let the user choose the name of a file, write the file, and report the name.

        Parameters
        ----------
        title : str
            Title of the dialog.
        ending : str
            End of the proposed file name, which begins with the name of the image.
        extensions : tuple of str
            Valid extensions. The first extension is appended to a name that has none of them.
        function : callable
            Function that writes the file. It is called with the path and ``overwrite=True``, and is
            not called if the dialog was cancelled.
        """
        path = self._choose_name(title, f"{stem_of(self.live)}{ending}", extensions)
        if path and self.run(function, path, overwrite=True):
            self.report(f"wrote {path}")

    def _choose_name(self, title: str, name: str, extensions: tuple[str, ...]) -> str:
        """Let the user choose the path of a file to write; return "" if the dialog is cancelled."""
        filters = " ".join(f"*{extension}" for extension in extensions)
        while True:
            path, _ = QtWidgets.QFileDialog.getSaveFileName(
                self, title, str(folder_of(self.live) / name), filters
            )
            if not path or path.lower().endswith(extensions):
                return str(path)
            # The dialog has asked about replacing a file only for the name without the extension.
            name = f"{path}{extensions[0]}"
            if not Path(name).exists() or self._confirm_replacement(Path(name)):
                return name

    def _confirm_replacement(self, path: Path) -> bool:
        box = QtWidgets.QMessageBox
        text = f"{path.name} already exists.\nDo you want to replace it?"
        answer = box.question(self, "Replace the file?", plain(text), box.Yes | box.No, box.No)
        return bool(answer == box.Yes)
