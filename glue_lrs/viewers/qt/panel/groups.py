"""Groups and widgets of the extraction panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy import QtCore, QtWidgets

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ElidedLabel", "SmoothingBox", "group_box", "number_box", "odd_length", "push_button"]


# --- small parts -------------------------------------------------------------------------------


class ElidedLabel(QtWidgets.QLabel):
    """A line that is cut in the middle where there is no room; the tool tip has all of it."""

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
        """All of it."""
        return self._full

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        metrics = self.fontMetrics()
        super().setText(metrics.elidedText(self._full, QtCore.Qt.ElideMiddle, self.width() - 2))


class SmoothingBox(QtWidgets.QSpinBox):
    """0, or an odd number from 3 on: what smoothing_length may be."""

    def __init__(self) -> None:
        super().__init__()
        self.setRange(0, 399)
        self.setSingleStep(2)
        self.setSpecialValueText("none")
        self.setSuffix(" rows")

    def stepBy(self, steps: int) -> None:  # noqa: N802
        """Leave out 1 and even numbers."""
        value = self.value()
        for _ in range(abs(steps)):
            up = steps > 0
            value = odd_length(value + 2) if up else (0 if value <= 3 else value - 2)
        self.setValue(value)


def group_box(title: str) -> tuple[QtWidgets.QGroupBox, QtWidgets.QVBoxLayout]:
    box = QtWidgets.QGroupBox(title)
    layout = QtWidgets.QVBoxLayout(box)
    layout.setContentsMargins(6, 4, 6, 6)
    layout.setSpacing(4)
    return box, layout


def push_button(text: str, function: Callable[..., Any], tip: str = "") -> QtWidgets.QPushButton:
    button = QtWidgets.QPushButton(text)
    button.setToolTip(tip)
    button.setFocusPolicy(QtCore.Qt.TabFocus)  # a click leaves the keyboard with the image
    button.clicked.connect(lambda *_: function())
    return button


def number_box(low: float, high: float, step: float, digits: int) -> QtWidgets.QDoubleSpinBox:
    spin = QtWidgets.QDoubleSpinBox()
    spin.setRange(low, high)
    spin.setSingleStep(step)
    spin.setDecimals(digits)
    spin.setKeyboardTracking(False)  # the value counts once it is typed
    return spin


def odd_length(rows: int) -> int:
    """What smoothing_length may be: 0, or odd and at least 3."""
    return 0 if rows == 0 else max(rows + (rows + 1) % 2, 3)
