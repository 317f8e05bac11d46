"""Status of a viewer: lines about the place under the mouse, and a hint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy import QtCore, QtWidgets

from glue_lrs.viewers.qt.panel.widgets import PlainLabel, plain

if TYPE_CHECKING:
    from qtpy import QtGui


class StatusLines(PlainLabel):
    """A fixed number of lines of text, which are shortened to fit, and never change the layout.

    Parameters
    ----------
    number : int
        Number of lines of the readout. The hint is shown below them.

    Attributes
    ----------
    readout, hint : str
        Texts that are shown, not shortened.
    """

    def __init__(self, number: int) -> None:
        self.readout = ""
        self.hint = ""
        self._number = number
        super().__init__(styleSheet="font-size: 10px")
        self.setSizePolicy(QtWidgets.QSizePolicy.Ignored, QtWidgets.QSizePolicy.Fixed)
        self.ensurePolished()  # otherwise the metrics are those of the default font
        self.setText("\n" * number)
        self.setFixedHeight(self.sizeHint().height())

    def show_readout(self, lines: tuple[str, ...]) -> None:
        """Show lines about the place under the mouse."""
        self.readout = "\n".join(lines)
        self._show()

    def show_hint(self, text: str | None) -> None:
        """Show a hint or a message about an error, or nothing, for which glue may pass None."""
        self.hint = text or ""
        self._show()

    def _show(self) -> None:
        lines = self.readout.split("\n")
        lines = [*lines, *[""] * (self._number - len(lines)), self.hint.replace("\n", " ")]
        elided, width = self.fontMetrics().elidedText, self.width() - 4
        self.setText("\n".join(elided(one, QtCore.Qt.ElideRight, width) for one in lines))
        self.setToolTip(plain("\n".join(filter(None, (self.readout, self.hint)))))

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:  # noqa: N802
        """Shorten the lines to the new width."""
        super().resizeEvent(event)
        self._show()
