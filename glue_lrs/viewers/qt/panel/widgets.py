"""Widgets of the extraction panel."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from qtpy import QtCore, QtWidgets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qtpy import QtGui


#: Filter for FITS files in Qt's format.
FITS_FILES = "FITS (*.fits *.fits.gz)"

_TOP_LEFT = QtCore.Qt.AlignLeft | QtCore.Qt.AlignTop


def plain(text: str) -> str:
    """Return a text that tool tips and message boxes show as it is, even if it looks like HTML."""
    return f"<qt>{html.escape(text)}</qt>" if "<" in text else text


class PlainLabel(QtWidgets.QLabel):
    """Label that shows its text as it is, even if it looks like HTML."""

    def __init__(self, text: str = "", **options: Any) -> None:
        super().__init__(text, textFormat=QtCore.Qt.PlainText, **options)


class ElidedLabel(PlainLabel):
    """Line of text that is shortened in its middle to fit; its tool tip is the full text."""

    def __init__(self) -> None:
        self._full = ""
        super().__init__(minimumWidth=40)

    def setText(self, text: str) -> None:  # noqa: N802
        """Show a text, shortened if necessary."""
        self._full = text
        self.setToolTip(plain(text))
        self._fit()

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:  # noqa: N802
        """Shorten the text to the new width."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        elided = self.fontMetrics().elidedText
        super().setText(elided(self._full, QtCore.Qt.ElideMiddle, self.width() - 2))


class LinesLabel(PlainLabel):
    """Text that takes a constant number of lines; its tool tip is the full text.

    Parameters
    ----------
    lines : int
        Number of lines. A text that is longer is cut off at the end.
    **options
        Options of the label.
    """

    def __init__(self, lines: int = 1, **options: Any) -> None:
        super().__init__(**options, wordWrap=True, alignment=_TOP_LEFT)
        self.setTextInteractionFlags(QtCore.Qt.TextSelectableByMouse)
        self._full = self._tip = ""
        self._height = lines * self.fontMetrics().lineSpacing()
        self.setFixedHeight(self._height + 2)

    def setText(self, text: str) -> None:  # noqa: N802
        """Show a text, cut off if necessary."""
        if text != self._full:
            self._full = text
            self._fit()

    def text(self) -> str:
        """Return the text without the cut."""
        return self._full

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:  # noqa: N802
        """Cut the text for the new width."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        text = self._full
        while text and not self._fits(text):
            text = text[:-2].rstrip(" …") + "…" if len(text) > 2 else ""
        super().setText(text)

    def _fits(self, text: str) -> bool:
        area = QtCore.QRect(0, 0, max(self.width() - 2, 1), 10_000)
        needed = self.fontMetrics().boundingRect(area, int(QtCore.Qt.TextWordWrap), text)
        return bool(needed.height() <= self._height + 1)


class SmoothingBox(QtWidgets.QSpinBox):
    """Spin box for smoothing_length, whose values are 0 or an odd number of at least 3."""

    def __init__(self, tip: str) -> None:
        super().__init__(maximum=399, singleStep=2, suffix=" rows", toolTip=tip)
        self.setSpecialValueText("none")

    def stepBy(self, steps: int) -> None:  # noqa: N802
        """Change the value by 2 for each step, skipping the values 1 and 2."""
        value = self.value() + 2 * steps
        self.setValue(odd_length(value) if steps > 0 or value >= 3 else 0)


def odd_length(rows: int) -> int:
    """Return the smallest valid smoothing_length (0, or odd and at least 3) not below `rows`."""
    return 0 if rows == 0 else max(rows + (rows + 1) % 2, 3)


def push_button(text: str, function: Callable[[], object], tip: str = "") -> QtWidgets.QPushButton:
    """Make a button that calls a function. A click does not give the button the focus."""
    return QtWidgets.QPushButton(
        text, toolTip=tip, focusPolicy=QtCore.Qt.TabFocus, clicked=lambda *_: function()
    )


def choice_box(choices: Iterable[tuple[object, str]], tip: str) -> QtWidgets.QComboBox:
    """Make a combo box with values and their labels."""
    box = QtWidgets.QComboBox(toolTip=tip)
    for value, label in choices:
        box.addItem(label, value)
    return box


def number_box(low: float, high: float, tip: str) -> QtWidgets.QDoubleSpinBox:
    """Make a spin box that reports a typed value only once the user has completed it."""
    return QtWidgets.QDoubleSpinBox(
        minimum=low, maximum=high, singleStep=0.1, decimals=2, keyboardTracking=False, toolTip=tip
    )


def show_value(widget: QtWidgets.QAbstractSpinBox | QtWidgets.QSlider, value: float) -> None:
    """Show a value in a spin box or slider, unless the user is typing into it."""
    editing = getattr(widget, "lineEdit", None)
    if editing is None or not (editing().isModified() and widget.hasFocus()):
        widget.setValue(value)
