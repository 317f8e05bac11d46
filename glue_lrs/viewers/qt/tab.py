"""A tab with an image, its spectrum, a slit profile and the extraction panel."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from qtpy import QtCore, QtWidgets

from glue_lrs.errors import LRSError
from glue_lrs.viewers.datasets.images import is_lrs_image, not_an_image
from glue_lrs.viewers.live.live_extraction import LiveExtraction
from glue_lrs.viewers.live.messages import panel_text
from glue_lrs.viewers.live.open import open_extraction
from glue_lrs.viewers.qt.image import LRSImageViewer
from glue_lrs.viewers.qt.menus import Menus, add_menus
from glue_lrs.viewers.qt.panel.viewer import ExtractionPanel
from glue_lrs.viewers.qt.panel.widgets import plain
from glue_lrs.viewers.qt.profile import SlitProfileViewer
from glue_lrs.viewers.qt.spectrum import LRSSpectrumViewer

if TYPE_CHECKING:
    from glue.core import Data, DataCollection
    from glue.core.session import Session
    from glue_qt.app import GlueApplication

#: Minimum and maximum width of the panel in pixels.
_PANEL = (300, 350)
#: Width in pixels of a tab in which the viewers have enough room.
_LEAST = 900
#: Width of the image as a fraction of the width that the panel leaves free.
_IMAGE = 0.40
#: Height of the spectrum as a fraction of the height of the tab.
_SPECTRUM = 0.58


def open_tab(app: GlueApplication | Session, source: object) -> LiveExtraction:
    """Open a tab for an image, with its spectrum, its slit profile and the extraction panel.

    Parameters
    ----------
    app : GlueApplication or Session
        glue's application, or its session.
    source : LiveExtraction, Data, SlitImage, str or path-like
        Image to show, or any other argument that `open_extraction` accepts.

    Returns
    -------
    LiveExtraction
        The live extraction that the tab shows.

    Raises
    ------
    LRSError
        If the image cannot be extracted.
    """
    app = getattr(app, "application", app)
    live = source if isinstance(source, LiveExtraction) else open_extraction(app.session, source)
    add_menus(app)
    _use_new_tab(app)
    image = app.new_data_viewer(LRSImageViewer, data=live.data)
    app.new_data_viewer(LRSSpectrumViewer, data=live.spectrum_data)
    app.new_data_viewer(SlitProfileViewer, data=live.data)
    app.new_data_viewer(ExtractionPanel, data=live.data)
    index = app.tab_widget.currentIndex()
    taken = {name for i, name in enumerate(app.tab_names) if i != index}
    name = f"LRS: {live.data.label}"
    names = itertools.chain([name], (f"{name} ({n})" for n in itertools.count(2)))
    app.tab_bar.rename_tab(index, next(one for one in names if one not in taken))
    page = app.tab(index)
    (page.findChild(_Layout) or _Layout(page)).apply()
    if image is not None:  # activate the image, so that its tools and options are visible
        page.setActiveSubWindow(image._mdi_wrapper)
    return live


def _use_new_tab(app: GlueApplication) -> None:
    """Open a new tab, unless the current tab is empty."""
    page = app.current_tab
    if not hasattr(page, "addSubWindow") or page.subWindowList():
        app.new_tab()


class _Layout(QtCore.QObject):
    """Arrangement of the windows in a tab, kept on resizing until a user moves a window."""

    def __init__(self, page: QtWidgets.QMdiArea) -> None:
        super().__init__(page)
        self._page = page
        self._placed: dict[QtWidgets.QMdiSubWindow, QtCore.QRect] = {}
        page.installEventFilter(self)

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:  # noqa: N802
        if event.type() == QtCore.QEvent.Resize and watched is self._page:
            QtCore.QTimer.singleShot(0, self._again)
        return False

    def _again(self) -> None:
        try:
            self._make_room()
            windows = self._page.subWindowList()
            if all(w.geometry() == self._placed.get(w) for w in windows if w in self._placed):
                self.apply()
        except RuntimeError:  # the tab has been deleted
            pass

    def _make_room(self) -> None:
        """Hide glue's lists on the left if the viewers have too little room beside the panel."""
        menus = self._page.window().findChild(Menus)
        if menus is not None and self._page.isVisible() and self._page.width() < _LEAST:
            menus.make_room()

    def apply(self) -> None:
        """Arrange the windows."""
        windows = reversed(self._page.subWindowList())  # so that the first of each kind is used
        kinds = {type(window.widget()): window for window in windows}
        area = self._page.contentsRect()  # includes scroll bars, which will disappear
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


# --- menus ---------------------------------------------------------------------------------


def open_from_menu(session: Session, data_collection: DataCollection) -> None:
    """Open tabs; called from the Plugins menu.

    Tabs are opened for the selected images; by default, for the images that have no tab or, if all
    have a tab, for all images. If the session has no images, the user chooses a file.

    Parameters
    ----------
    session : Session
        glue session with the application.
    data_collection : DataCollection
        Data collection of the session.
    """
    app = session.application
    selected = app._layer_widget.selected_layers()
    images = [data for data in selected if is_lrs_image(data)]
    images = images or _not_shown(app, [data for data in data_collection if is_lrs_image(data)])
    if not images:
        path, _ = QtWidgets.QFileDialog.getOpenFileName(
            app, "Open an LRS image", "", "JWST products (*.fits *.fits.gz);;All files (*)"
        )
        images = [path] if path else []
    for image in images:
        _open_or_warn(app, image)


def open_startup(session: Session, data_collection: DataCollection) -> None:
    """Open a tab for each LRS image; called by ``glue --startup=lrs``."""
    for image in [data for data in data_collection if is_lrs_image(data)]:
        _open_or_warn(session.application, image)


def extract_layer(data: Data, data_collection: DataCollection) -> None:
    """Open a tab for a dataset; called from the context menu of the dataset."""
    app = _application_of(data_collection)
    if app is None:
        return
    if not is_lrs_image(data):
        QtWidgets.QMessageBox.warning(app, "MIRI LRS extraction", plain(not_an_image(data)))
        return
    _open_or_warn(app, data)


def _open_or_warn(app: GlueApplication, image: Data | str) -> None:
    try:
        open_tab(app, image)
    except LRSError as error:
        QtWidgets.QMessageBox.warning(app, "MIRI LRS extraction", plain(panel_text(error)))


def _not_shown(app: GlueApplication, images: list[Data]) -> list[Data]:
    """Return the images that have no tab, or all images if each has a tab."""
    viewers = itertools.chain.from_iterable(app.viewers)
    shown = {id(v.live.data) for v in viewers if isinstance(v, LRSImageViewer) and v.live}
    return [image for image in images if id(image) not in shown] or images


def _application_of(data_collection: DataCollection) -> GlueApplication | None:
    """Return the application with a data collection, because layer actions get only the latter."""
    # The class is not compared, because importing it from `glue_qt.app` takes more than a second.
    widgets = QtWidgets.QApplication.topLevelWidgets()
    found = (one for one in widgets if getattr(one, "data_collection", None) is data_collection)
    return next(found, None)
