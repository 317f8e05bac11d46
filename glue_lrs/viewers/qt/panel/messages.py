"""Area of the panel for errors, warnings and notes, and the window that lists all of them."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from qtpy import QtCore, QtGui, QtWidgets

from glue_lrs.viewers.live.notices import counts_text
from glue_lrs.viewers.qt.panel.widgets import PlainLabel, push_button

if TYPE_CHECKING:
    from glue_lrs.errors import Severity
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.notices import Notice

#: Hues of errors and warnings on the colour circle, from 0 to 1.
_HUES = {"error": 0.0, "warning": 0.1}

#: Smallest contrast ratio of a text and its background in the guidelines WCAG 2, level AA.
_CONTRAST = 4.5

#: Number of lines for which the area of the panel has room.
_LINES = 5


def severity_colour(palette: QtGui.QPalette, severity: Severity) -> QtGui.QColor:
    """Return the colour of a message on the background that a palette, light or dark, gives.

    Parameters
    ----------
    palette : QPalette
        Palette of the theme.
    severity : {"error", "warning", "info"}
        Severity of the message. A note has the colour of other texts.
    """
    if severity not in _HUES:
        return palette.color(QtGui.QPalette.Text)
    base = palette.color(QtGui.QPalette.Base)
    dark = _luminance(base) < 0.18  # where white and black have the same contrast
    steps = (0.5 + (0.02 if dark else -0.02) * step for step in range(25))
    for lightness in steps:
        colour = QtGui.QColor.fromHslF(_HUES[severity], 0.85, lightness)
        if contrast(colour, base) >= _CONTRAST:
            break
    return colour


def contrast(one: QtGui.QColor, other: QtGui.QColor) -> float:
    """Return the contrast ratio of two colours as defined in WCAG 2, from 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: QtGui.QColor) -> float:
    """Return the relative luminance of a colour (WCAG 2), from 0 to 1."""
    parts = (colour.redF(), colour.greenF(), colour.blueF())
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


class MessageView(QtWidgets.QTextEdit):
    """Lines of text in the colours of their severities. The text can be selected and copied."""

    def __init__(self) -> None:
        super().__init__(readOnly=True, focusPolicy=QtCore.Qt.ClickFocus)
        self.lines: tuple[Notice, ...] = ()

    def show_lines(self, lines: tuple[Notice, ...]) -> None:
        """Show messages, from the first line on."""
        if lines != self.lines:
            self.lines = lines
            self._draw()

    def changeEvent(self, event: QtCore.QEvent) -> None:  # noqa: N802 - Qt's
        """Use the colours of the new theme."""
        super().changeEvent(event)
        if event.type() == QtCore.QEvent.PaletteChange and self.lines:
            self._draw()

    def _draw(self) -> None:
        parts = []
        for line in self.lines:
            colour = severity_colour(self.palette(), line.severity).name()
            word = "" if line.severity == "info" else f"<b>{line.severity}</b>: "
            text = html.escape(str(line))
            parts.append(f'<p style="margin: 0 0 3px 0; color: {colour}">{word}{text}</p>')
        self.setHtml("".join(parts))


class MessageArea(QtWidgets.QWidget):
    """Messages about an extraction, in a place of constant size, with their number.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction whose messages are shown.

    Attributes
    ----------
    view : MessageView
        Messages in the area.
    list_button, clear_button : QPushButton
        Buttons that open the window with all messages, and remove those of earlier actions.
    window_of_list : QDialog or None
        The window with all messages, after it was opened.
    """

    def __init__(self, live: LiveExtraction) -> None:
        super().__init__()
        self._live = live
        self.view = MessageView()
        self.counts = PlainLabel()
        tip = "Open the list of all messages in a window"
        self.list_button = push_button("List…", self.open_list, tip)
        tip = "Remove the messages of earlier actions; those about the spectrum remain"
        self.clear_button = push_button("Clear", live.messages.clear, tip)
        for button in (self.list_button, self.clear_button):
            button.setMaximumWidth(64)
        self.window_of_list: QtWidgets.QDialog | None = None
        self._list = MessageView()
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.counts, 1)
        row.addWidget(self.list_button)
        row.addWidget(self.clear_button)
        column = QtWidgets.QVBoxLayout(self, spacing=2)
        column.setContentsMargins(6, 4, 6, 4)
        column.addLayout(row)
        column.addWidget(self.view)
        self.view.setFixedHeight(_LINES * self.fontMetrics().lineSpacing() + 10)

    def refresh(self) -> None:
        """Show the current messages."""
        lines = self._live.messages.lines()
        self.view.show_lines(lines)
        self._list.show_lines(lines)
        self.counts.setText(counts_text(lines))
        self.clear_button.setEnabled(bool(self._live.notices))

    def text(self) -> str:
        """Return the texts of all messages in one line."""
        return "; ".join(line.text for line in self.view.lines)

    def open_list(self) -> None:
        """Open the window with all messages, which follows the extraction."""
        if self.window_of_list is None:
            title = f"Messages: {self._live.data.label}"
            dialog = QtWidgets.QDialog(self, windowTitle=title)
            column = QtWidgets.QVBoxLayout(dialog)
            column.addWidget(self._list)
            row = QtWidgets.QHBoxLayout()
            row.addStretch(1)
            row.addWidget(push_button("Clear", self._live.messages.clear))
            row.addWidget(push_button("Close", dialog.close))
            column.addLayout(row)
            dialog.resize(560, 320)
            self.window_of_list = dialog
        self.refresh()
        self.window_of_list.show()
        self.window_of_list.raise_()
