"""File dialogs of the extraction panel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy import QtWidgets

if TYPE_CHECKING:
    from glue_lrs.viewers.live.live_extraction import LiveExtraction


class FileDialogs:
    """Dialogs in which the user chooses files; they open in the folder of the image.

    Parameters
    ----------
    parent : QWidget
        Parent widget of the dialogs.
    live : LiveExtraction
        Live extraction whose image determines the folder and the proposed file names.
    """

    def __init__(self, parent: QtWidgets.QWidget, live: LiveExtraction) -> None:
        self._parent = parent
        self._live = live

    @property
    def _folder(self) -> str:
        path = self._live.image.path
        return str(Path(path).resolve().parent) if path else ""

    @property
    def _stem(self) -> str:
        path = self._live.image.path or self._live.image.filename or self._live.data.label
        name = Path(path).name.removesuffix(".gz").removesuffix(".fits")
        for ending in ("_s2d", "_calints", "_cal"):
            name = name.removesuffix(ending)
        return name

    def open_path(self, title: str, filters: str) -> str:
        """Let the user choose a file to read.

        Parameters
        ----------
        title : str
            Title of the dialog.
        filters : str
            Filters for file names in Qt's format.

        Returns
        -------
        str
            Path of the file, or "" if the dialog was cancelled.
        """
        path, _ = QtWidgets.QFileDialog.getOpenFileName(self._parent, title, self._folder, filters)
        return str(path)

    def save_path(self, title: str, ending: str, extensions: tuple[str, ...]) -> str:
        """Let the user choose a file to write.

        Parameters
        ----------
        title : str
            Title of the dialog.
        ending : str
            End of the proposed file name, which begins with the name of the image.
        extensions : tuple of str
            Valid extensions. The first extension is appended to a name that has none of them.

        Returns
        -------
        str
            Path of the file, or "" if the dialog was cancelled.
        """
        name = f"{self._stem}{ending}"
        while True:
            path, _ = QtWidgets.QFileDialog.getSaveFileName(
                self._parent,
                title,
                str(Path(self._folder) / name),
                " ".join(f"*{extension}" for extension in extensions),
            )
            if not path or str(path).lower().endswith(extensions):
                return str(path)
            # The dialog has confirmed a replacement only for the name without the extension.
            complete = Path(f"{path}{extensions[0]}")
            if not complete.exists() or self._confirm_replacement(complete):
                return str(complete)
            name = str(complete)

    def _confirm_replacement(self, path: Path) -> bool:
        box = QtWidgets.QMessageBox
        answer = box.question(
            self._parent,
            "Replace the file?",
            f"{path.name} already exists.\nDo you want to replace it?",
            box.Yes | box.No,
            box.No,
        )
        return bool(answer == box.Yes)
