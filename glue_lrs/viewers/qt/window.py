"""The main window of glue: opening files in tabs, saving screenshots, and closing."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from glue.core import Data
from glue.main import load_plugins
from glue_qt.app import GlueApplication
from glue_qt.utils import process_events
from glue_qt.viewers.profile import ProfileViewer
from qtpy import QtCore

from glue_lrs.errors import LRSError, WriteError
from glue_lrs.io.files import atomic_write, one_line
from glue_lrs.io.spectra import is_spectrum, read_series
from glue_lrs.viewers.datasets.session_check import check_session
from glue_lrs.viewers.datasets.spectra import spectrum_data
from glue_lrs.viewers.qt import plugin
from glue_lrs.viewers.qt.base import settle
from glue_lrs.viewers.qt.spectrum import LRSSpectrumViewer
from glue_lrs.viewers.qt.tab import open_tab


def make_application(paths: Sequence[str | os.PathLike[str]]) -> GlueApplication:
    """Make an application and open files in it, or restore a session.

    Parameters
    ----------
    paths : sequence of str or path-like
        Files with images and spectra, or a single session (.glu).

    Returns
    -------
    GlueApplication
        The application; its window is not visible yet.

    Raises
    ------
    LRSError
        If a file cannot be read, or a session is combined with other files.
    """
    load_plugins(require_qt_plugins=False)
    plugin.setup()  # before the menus are built, because a session is restored before
    sessions = [path for path in paths if str(path).endswith(".glu")]
    if sessions:
        if len(paths) > 1:
            raise LRSError("is a session, expected no other files", subject=os.fspath(sessions[0]))
        return _restored(os.fspath(sessions[0]))
    application = GlueApplication()
    try:
        fill(application, paths)
    except BaseException:
        close(application)
        raise
    return application


def _restored(path: str) -> GlueApplication:
    """Restore a session after checking that it runs no foreign code."""
    check_session(path)
    try:
        return GlueApplication.restore_session(path, show=False)
    except LRSError:
        raise
    except Exception as error:  # glue may raise any error for an invalid session
        text = f"the session cannot be restored, {one_line(error)}"
        raise LRSError(text, subject=path) from error


def fill(application: GlueApplication, paths: Sequence[str | os.PathLike[str]]) -> None:
    """Open files in an application.

    Each image opens in a tab of its own, in which the spectrum is shown for comparison. If there
    are no images, the spectra open in viewers.

    Parameters
    ----------
    application : GlueApplication
        Application in which to open the files.
    paths : sequence of str or path-like
        Images and spectra to open.

    Raises
    ------
    LRSError
        If a file cannot be read, or there are images and more than one spectrum.
    """
    spectra = [path for path in paths if is_spectrum(os.fspath(path))]
    if 1 < len(spectra) < len(paths):
        raise LRSError(
            f"is one of {len(spectra)} spectra, expected one spectrum to compare with the images",
            subject=os.fspath(spectra[1]),
        )
    lives = [open_tab(application, path) for path in paths if path not in spectra]
    for spectrum in spectra:
        for live in lives:
            live.load_comparison(os.fspath(spectrum))
    if not lives:
        for data in _spectrum_datasets(application, [os.fspath(path) for path in spectra]):
            viewer = LRSSpectrumViewer if data.ndim == 1 else ProfileViewer
            application.new_data_viewer(viewer, data=data)
    application.tab_widget.setCurrentIndex(0)


def _spectrum_datasets(application: GlueApplication, paths: Sequence[str]) -> list[Data]:
    """Load spectra, and return their datasets. The segments of an exposure become one dataset.

    A session saves the names of files, but the values of a dataset from several files.
    """
    series = read_series(paths) if len(paths) > 1 else []
    joined = [one for name, one in series if name not in paths]
    if not joined:
        loaded = [application.load_data(path) for path in paths]
        return [data for one in loaded for data in (one if isinstance(one, list) else [one])]
    datasets = [spectrum_data(one, label=os.path.basename(name)) for name, one in series]
    application.data_collection.extend(datasets)
    return datasets


def save_screenshot(
    application: GlueApplication, target: Path, size: tuple[int, int], *, overwrite: bool
) -> None:
    """Draw the window of an application into a PNG file.

    Parameters
    ----------
    application : GlueApplication
        Application whose window is drawn.
    target : Path
        File to write.
    size : (int, int)
        Width and height of the window in pixels.
    overwrite : bool
        Whether to replace an existing file.

    Raises
    ------
    WriteError
        If the file cannot be written.
    """

    def print_message(kind: object, context: object, text: str) -> None:
        # Qt prints this message, because offscreen windows cannot be raised; it can be ignored
        if not text.startswith("This plugin does not support"):
            print(text, file=sys.stderr)

    before = QtCore.qInstallMessageHandler(print_message)
    try:
        application.start(maximized=False, size=size, block=False)
        settle()
        picture = application.grab()
    finally:
        QtCore.qInstallMessageHandler(before)
    with atomic_write(target, overwrite=overwrite) as temporary:
        if not picture.save(str(temporary), "PNG"):
            raise WriteError("cannot be written", subject=target)


def close(application: GlueApplication) -> None:
    """Close the window and all viewers, because PySide6 aborts on exit if a viewer is open.

    Parameters
    ----------
    application : GlueApplication
        Application to close. It may be closed already.
    """
    with suppress(RuntimeError):  # raised if the user has closed the window, as Qt then deletes it
        for tab in application.viewers:
            for viewer in tab:
                viewer.close(warn=False)
        application.close()
    process_events()
