"""The main window of glue: opening files in tabs, saving screenshots, and closing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import chdir, suppress
from functools import partial
from pathlib import Path
from typing import Any

from glue.core import Data
from glue.core.state import GlueUnSerializer
from glue.main import load_plugins
from glue_qt.app import GlueApplication
from glue_qt.utils import process_events
from glue_qt.viewers.profile import ProfileViewer
from qtpy import QtCore

from glue_lrs.errors import LRSError, WriteError
from glue_lrs.io.files import atomic_write, one_line
from glue_lrs.io.spectra import is_spectrum, read_series
from glue_lrs.viewers.datasets.session_check import check_session
from glue_lrs.viewers.datasets.session_paths import moved_files, relocated
from glue_lrs.viewers.datasets.spectra import spectrum_data
from glue_lrs.viewers.live.messages import panel_text
from glue_lrs.viewers.live.registry import registry_of
from glue_lrs.viewers.qt import plugin
from glue_lrs.viewers.qt.base import settle
from glue_lrs.viewers.qt.spectrum import LRSSpectrumViewer
from glue_lrs.viewers.qt.tab import open_tab


def make_application(
    paths: Sequence[str | os.PathLike[str]],
    failed: Callable[[LRSError], object] | None = None,
) -> GlueApplication:
    """Make an application and open files in it, or restore a session.

    Parameters
    ----------
    paths : sequence of str or path-like
        Files with images and spectra, or a single session (.glu).
    failed : callable, optional
        Function that is called with the error for each file that cannot be opened, if others can.
        By default, the first error is raised.

    Returns
    -------
    GlueApplication
        The application; its window is not visible yet.

    Raises
    ------
    LRSError
        If no file can be read, or a session is combined with other files.
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
        fill(application, paths, failed)
    except BaseException:
        close(application)
        raise
    return application


def _restored(path: str) -> GlueApplication:
    """Restore a session after checking that it runs no foreign code.

    Files that do not exist are replaced by files with the same name beside the session.
    """
    check_session(path)
    try:
        text, folder = Path(path).read_text(encoding="utf-8"), Path(path).resolve().parent
        moved = moved_files(json.loads(text), folder)
        if not moved:
            return GlueApplication.restore_session(path, show=False)
        with chdir(folder):  # relative paths are those relative to the session
            state = GlueUnSerializer.loads(relocated(text, moved))
            application = state.object("__main__")
        application._on_session_changed(path)
        for old, new in moved.items():
            for live in registry_of(application.session).lives.values():
                live.notify(f"{old} does not exist, the file beside the session is used: {new}")
        return application
    except LRSError:
        raise
    except Exception as error:  # glue may raise any error for an invalid session
        text = f"the session cannot be restored, {one_line(error)}"
        raise LRSError(text, subject=path) from error


def fill(
    application: GlueApplication,
    paths: Sequence[str | os.PathLike[str]],
    failed: Callable[[LRSError], object] | None = None,
) -> None:
    """Open files in an application.

    Each image opens in a tab of its own, in which the spectrum is shown for comparison. If there
    are no images, the spectra open in viewers.

    Parameters
    ----------
    application : GlueApplication
        Application in which to open the files.
    paths : sequence of str or path-like
        Images and spectra to open.
    failed : callable, optional
        As for `make_application`.

    Raises
    ------
    LRSError
        If no file can be read, or there are images and more than one spectrum.
    """
    errors: list[LRSError] = []

    def attempt(function: Callable[[Any], Any], argument: Any) -> Any:
        """Return the result of a function; store an error, and return None."""
        try:
            return function(argument)
        except LRSError as error:
            if failed is None:
                raise
            errors.append(error)
            return None

    kinds = {path: attempt(is_spectrum, os.fspath(path)) for path in dict.fromkeys(paths)}
    spectra = [path for path, kind in kinds.items() if kind]
    images = [path for path, kind in kinds.items() if kind is False]
    if images and len(spectra) > 1:
        raise LRSError(
            f"is one of {len(spectra)} spectra, expected one spectrum to compare with the images",
            subject=os.fspath(spectra[1]),
        )
    opened = [attempt(partial(open_tab, application), path) for path in images]
    lives = [live for live in opened if live is not None]
    compared = spectra if images else []
    for spectrum in compared:
        for live in lives:
            attempt(live.load_comparison, os.fspath(spectrum))
    datasets: list[Data] = []
    if not images:
        names = [os.fspath(path) for path in spectra]
        datasets = attempt(partial(_spectrum_datasets, application), names) or []
        if not datasets and len(names) > 1:  # open those that can be read
            errors.clear()
            each = [attempt(partial(_spectrum_datasets, application), [name]) for name in names]
            datasets = [data for found in each for data in found or ()]
    for data in datasets:
        viewer = LRSSpectrumViewer if data.ndim == 1 else ProfileViewer
        application.new_data_viewer(viewer, data=data)
    if errors and not (lives or datasets):
        raise errors[0]
    for error in errors:
        for live in lives:
            live.notify(panel_text(error), "error")
        if failed is not None:
            failed(error)
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
