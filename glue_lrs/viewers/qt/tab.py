"""A tab with the image, its spectrum, the slit profile and the panel, laid out together."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from qtpy import QtCore, QtWidgets

from glue_lrs.errors import LRSError
from glue_lrs.viewers.datasets.datasets import is_lrs_image, no_image
from glue_lrs.viewers.qt.image import LRSImageViewer
from glue_lrs.viewers.qt.panel.viewer import ExtractionPanel
from glue_lrs.viewers.qt.profile import SlitProfileViewer
from glue_lrs.viewers.qt.spectrum import LRSSpectrumViewer

if TYPE_CHECKING:
    from glue_lrs.viewers.live.live_extraction import LiveExtraction

__all__ = ["extract_layer", "lay_out", "open_from_menu", "open_startup", "open_tab"]

#: Least and greatest width of the panel.
_PANEL = (300, 350)
#: Part of the remaining width that is the image's.
_IMAGE = 0.40
#: Part of the height that is the spectrum's.
_SPECTRUM = 0.58


def open_tab(app: Any, source: Any) -> LiveExtraction:
    """Open a tab for an image: the image, its spectrum, the slit profile and the panel.

    Parameters
    ----------
    app : GlueApplication or Session
        The application, or its session.
    source : LiveExtraction, Data, SlitImage, str or path-like
        The image; anything that `open_extraction` takes.

    Returns
    -------
    LiveExtraction
        What is shown.

    Raises
    ------
    LRSError
        If the image cannot be extracted.
    """
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.open import open_extraction

    app = getattr(app, "application", app)
    live = source
    if not isinstance(source, LiveExtraction):
        live = open_extraction(app.session, source)
    _use_new_tab(app)
    made = []
    for viewer, data in (
        (LRSImageViewer, live.data),
        (LRSSpectrumViewer, live.spectrum_data),
        (SlitProfileViewer, live.data),
        (ExtractionPanel, live.data),
    ):
        made.append(app.new_data_viewer(viewer, data=data))
    index = app.tab_widget.currentIndex()
    taken = {name for i, name in enumerate(app.tab_names) if i != index}
    name = f"LRS: {live.data.label}"
    names = itertools.chain([name], (f"{name} ({n})" for n in itertools.count(2)))
    app.tab_bar.rename_tab(index, next(one for one in names if one not in taken))
    page = app.tab(index)
    lay_out(page)
    if made[0] is not None:  # the image has the focus: its tools and options are what one needs
        page.setActiveSubWindow(made[0]._mdi_wrapper)
    return live


def _use_new_tab(app: Any) -> None:
    """A new tab, unless the current one is empty."""
    page = app.current_tab
    if not hasattr(page, "addSubWindow") or page.subWindowList():
        app.new_tab()


def lay_out(page: QtWidgets.QMdiArea) -> None:
    """Lay out the viewers of a tab: image, spectrum over slit profile, panel.

    Parameters
    ----------
    page : QMdiArea
        The tab. It is laid out again when its size changes, until a hand moves a window.
    """
    keeper = page.findChild(_Layout)
    if keeper is None:
        keeper = _Layout(page)
    keeper.apply()


class _Layout(QtCore.QObject):
    """Keeps the windows of a tab in place while the tab is resized, until a hand moves one."""

    def __init__(self, page: QtWidgets.QMdiArea) -> None:
        super().__init__(page)
        self._page = page
        self._placed: dict[Any, QtCore.QRect] = {}
        page.installEventFilter(self)

    def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802
        if event.type() == QtCore.QEvent.Resize and watched is self._page:
            QtCore.QTimer.singleShot(0, self._again)
        return False

    def _again(self) -> None:
        try:
            windows = self._page.subWindowList()
            if all(w.geometry() == self._placed.get(w) for w in windows if w in self._placed):
                self.apply()
        except RuntimeError:  # the tab is gone
            pass

    def apply(self) -> None:
        """Place the windows."""
        kinds: dict[type, Any] = {}
        for window in self._page.subWindowList():
            kinds.setdefault(type(window.widget()), window)
        area = self._page.contentsRect()  # the viewport may have scroll bars, which then go
        width, height = area.width(), area.height()
        panel = min(max(width // 4, _PANEL[0]), _PANEL[1])
        if ExtractionPanel in kinds:
            panel = max(panel, kinds[ExtractionPanel].minimumSizeHint().width())
        image = round((width - panel) * _IMAGE)
        middle = width - panel - image
        upper = round(height * _SPECTRUM)
        places = {
            LRSImageViewer: (0, 0, image, height),
            LRSSpectrumViewer: (image, 0, middle, upper),
            SlitProfileViewer: (image, upper, middle, height - upper),
            ExtractionPanel: (image + middle, 0, panel, height),
        }
        self._placed = {}
        for kind, place in places.items():
            if kind in kinds and not kinds[kind].isMaximized():
                kinds[kind].setGeometry(*place)
                self._placed[kinds[kind]] = kinds[kind].geometry()


# --- where a user finds it -----------------------------------------------------------------------


def open_from_menu(session: Any, data_collection: Any) -> None:
    """Plugins > MIRI LRS extraction: for the selected image, else for all, else ask for a file.

    Parameters
    ----------
    session : Session
        The session.
    data_collection : DataCollection
        Its data.
    """
    app = session.application
    images = [data for data in _selected(app) if is_lrs_image(data)]
    images = images or _not_shown(app, [data for data in data_collection if is_lrs_image(data)])
    if not images:
        path, _ = QtWidgets.QFileDialog.getOpenFileName(
            app, "Open an LRS image", "", "JWST products (*.fits *.fits.gz);;All files (*)"
        )
        images = [path] if path else []
    for image in images:
        _open_or_tell(app, image)


def open_startup(session: Any, data_collection: Any) -> None:
    """``glue --startup=lrs``: a tab for each LRS image."""
    for image in [data for data in data_collection if is_lrs_image(data)]:
        _open_or_tell(session.application, image)


def extract_layer(data: Any, data_collection: Any) -> None:
    """Right click on a dataset > MIRI LRS extraction."""
    app = _application_of(data_collection)
    if app is None:
        return
    if not is_lrs_image(data):
        QtWidgets.QMessageBox.warning(app, "MIRI LRS extraction", no_image(data))
        return
    _open_or_tell(app, data)


def _open_or_tell(app: Any, image: Any) -> None:
    try:
        open_tab(app, image)
    except LRSError as error:
        QtWidgets.QMessageBox.warning(app, "MIRI LRS extraction", str(error))


def _selected(app: Any) -> list[Any]:
    """Datasets selected in glue's list."""
    return [layer for layer in app._layer_widget.selected_layers() if hasattr(layer, "coords")]


def _not_shown(app: Any, images: list[Any]) -> list[Any]:
    """The images that have no tab yet; all of them, if none has one too few."""
    viewers = itertools.chain.from_iterable(app.viewers)
    shown = {id(v.live.data) for v in viewers if isinstance(v, LRSImageViewer) and v.live}
    return [image for image in images if id(image) not in shown] or images


def _application_of(data_collection: Any) -> Any:
    """The application that shows a collection: glue's layer actions are not told."""
    from glue_qt.app import GlueApplication

    for widget in QtWidgets.QApplication.topLevelWidgets():
        if isinstance(widget, GlueApplication) and widget.data_collection is data_collection:
            return widget
    return None
