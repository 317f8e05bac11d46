"""Entries that this package adds to the menus of the main window: redo, history and keys."""

from __future__ import annotations

import html
from functools import partial
from typing import TYPE_CHECKING

from qtpy import QtCore, QtGui, QtWidgets

from glue_lrs.viewers.live.history import edits, go_to
from glue_lrs.viewers.live.keys import KEYS

if TYPE_CHECKING:
    from glue_qt.app import GlueApplication

_REDO = ("Ctrl+Shift+Z", "Ctrl+Y")
_KEYS = ("F1", "?", "Shift+?")


class Menus(QtCore.QObject):
    """Entries in the menus of the main window of glue.

    Parameters
    ----------
    app : GlueApplication
        Application with the main window.

    Attributes
    ----------
    sidebar : QAction
        Whether the data list and the plot options on the left are shown.
    history : QMenu
        The edits of the session, each of which goes back, or forward, to the state after it.
    keys : QDialog
        List of the mouse actions and keys.
    """

    def __init__(self, app: GlueApplication) -> None:
        super().__init__(app)
        self._session = app.session
        self._splitter = app._ui.main_splitter
        self._made_room = False
        app._actions["redo"].setShortcuts([QtGui.QKeySequence(one) for one in _REDO])
        self.history = QtWidgets.QMenu("History", app)
        self.history.aboutToShow.connect(self.fill_history)
        redo = app._actions["redo"]
        edit = next(one for one in _menus(app) if redo in one.actions())
        after = edit.actions()[edit.actions().index(redo) + 1 :]
        edit.insertMenu(after[0] if after else None, self.history)
        self.keys = _keys_dialog(app)
        show = QtWidgets.QAction("MIRI LRS: mouse and keys", app)
        show.setShortcuts([QtGui.QKeySequence(one) for one in _KEYS])
        show.triggered.connect(self.show_keys)
        _menus(app)[-1].addAction(show)

        self.sidebar = QtWidgets.QAction("Data list and plot options", app)
        self.sidebar.setCheckable(True)
        self.sidebar.triggered.connect(self.show_sidebar)
        view = next(one for one in _menus(app) if one.title().strip("& ") == "View")
        view.addAction(self.sidebar)
        view.aboutToShow.connect(self._check_sidebar)

    def _check_sidebar(self) -> None:
        self.sidebar.setChecked(self._splitter.sizes()[0] > 0)

    def show_sidebar(self, on: bool) -> None:
        """Show or hide the data list and the plot options on the left of the window."""
        left, right = self._splitter.sizes()
        wanted = self._splitter.widget(0).sizeHint().width() if on else 0
        self._splitter.setSizes([wanted, left + right - wanted])

    def make_room(self) -> None:
        """Hide the list on the left in a window that is too narrow, unless this was done before."""
        if not self._made_room:
            self._made_room = True
            self.show_sidebar(False)

    def fill_history(self) -> None:
        """List the edits of the session, and mark the last one that is in effect."""
        self.history.clear()
        made = edits(self._session)
        current = sum(one.done for one in made)
        group = QtWidgets.QActionGroup(self.history)
        for number, label in enumerate(["before the first edit", *(one.label for one in made)]):
            entry = self.history.addAction(label.replace("&", "&&"))
            entry.setCheckable(True)
            entry.setChecked(number == current)
            entry.triggered.connect(partial(self._go_to, number))
            group.addAction(entry)

    def _go_to(self, number: int, *_: object) -> None:
        go_to(self._session, number)

    def show_keys(self, *_: object) -> None:
        """Show the list of mouse actions and keys."""
        self.keys.show()
        self.keys.raise_()


def add_menus(app: GlueApplication) -> Menus:
    """Add the entries to the menus of an application, unless they are there already."""
    return app.findChild(Menus) or Menus(app)


def _menus(app: GlueApplication) -> list[QtWidgets.QMenu]:
    found = (action.menu() for action in app.menuBar().actions())
    return [menu for menu in found if menu is not None]


def _keys_dialog(parent: QtWidgets.QWidget) -> QtWidgets.QDialog:
    dialog = QtWidgets.QDialog(parent)
    dialog.setWindowTitle("MIRI LRS: mouse and keys")
    rows = []
    for title, entries in KEYS:
        rows.append(f"<tr><th colspan=2 align=left>{html.escape(title)}</th></tr>")
        rows += [
            f"<tr><td>{html.escape(keys)}&nbsp;&nbsp;</td><td>{html.escape(effect)}</td></tr>"
            for keys, effect in entries
        ]
    text = QtWidgets.QLabel(f"<table cellpadding=2>{''.join(rows)}</table>")
    text.setTextFormat(QtCore.Qt.RichText)
    buttons = QtWidgets.QDialogButtonBox(QtWidgets.QDialogButtonBox.Close)
    buttons.rejected.connect(dialog.close)
    layout = QtWidgets.QVBoxLayout(dialog)
    layout.addWidget(text)
    layout.addWidget(buttons)
    return dialog
