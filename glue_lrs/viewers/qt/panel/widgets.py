"""Widgets of the extraction panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy import QtCore, QtWidgets

if TYPE_CHECKING:
    from collections.abc import Callable


class ElidedLabel(QtWidgets.QLabel):
    """Line of text that is shortened in its middle to fit; its tool tip is the full text."""

    def __init__(self) -> None:
        super().__init__()
        self._full = ""
        self.setMinimumWidth(40)

    def setText(self, text: str) -> None:  # noqa: N802
        """Show a text."""
        self._full = text
        self.setToolTip(text)
        self._fit()

    def full_text(self) -> str:
        """Return the full text."""
        return self._full

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        """Shorten the text to the new width."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        metrics = self.fontMetrics()
        super().setText(metrics.elidedText(self._full, QtCore.Qt.ElideMiddle, self.width() - 2))


class SmoothingBox(QtWidgets.QSpinBox):
    """Spin box for smoothing_length, whose values are 0 or an odd number of at least 3."""

    def __init__(self) -> None:
        super().__init__()
        self.setRange(0, 399)
        self.setSingleStep(2)
        self.setSpecialValueText("none")
        self.setSuffix(" rows")

    def stepBy(self, steps: int) -> None:  # noqa: N802
        """Change the value by steps, skipping 1 and even numbers."""
        value = self.value()
        for _ in range(abs(steps)):
            up = steps > 0
            value = odd_length(value + 2) if up else (0 if value <= 3 else value - 2)
        self.setValue(value)


def odd_length(rows: int) -> int:
    """Return the smallest valid smoothing_length (0, or odd and at least 3) not below `rows`."""
    return 0 if rows == 0 else max(rows + (rows + 1) % 2, 3)


def push_button(text: str, function: Callable[..., Any], tip: str = "") -> QtWidgets.QPushButton:
    """Make a button that calls a function without arguments, and does not take the focus."""
    button = QtWidgets.QPushButton(text)
    button.setToolTip(tip)
    button.setFocusPolicy(QtCore.Qt.TabFocus)
    button.clicked.connect(lambda *_: function())
    return button


def number_box(low: float, high: float, step: float, digits: int) -> QtWidgets.QDoubleSpinBox:
    """Make a spin box that reports a typed value only once the user has completed it."""
    spin = QtWidgets.QDoubleSpinBox()
    spin.setRange(low, high)
    spin.setSingleStep(step)
    spin.setDecimals(digits)
    spin.setKeyboardTracking(False)
    return spin


def show_value(widget: Any, value: float) -> None:
    """Show a value in a spin box or slider, unless the user is typing into it."""
    editing = getattr(widget, "lineEdit", None)
    if editing is not None and editing().isModified() and widget.hasFocus():
        return
    widget.setValue(value)
