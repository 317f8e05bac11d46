"""``glue-lrs view``: glue with files and their tabs, or a picture of it."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from glue_lrs.errors import LRSError, WriteError

__all__ = ["close", "fill", "view"]

#: Size of a screenshot.
SIZE = (1600, 950)

#: What Qt is told its platform by.
_PLATFORM = "QT_QPA_PLATFORM"
_EXTRA = "expected glue's desktop: pip install 'glue-lrs[qt]'"


def view(
    paths: Sequence[str | os.PathLike[str]],
    screenshot: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    size: tuple[int, int] = SIZE,
) -> int:
    """Start glue with LRS files, a tab for each image.

    Parameters
    ----------
    paths : sequence of str or path-like
        Images (s2d, cal, calints), spectra (x1d, x1dints) to compare with, or one session (.glu).
        A spectrum is compared with every image.
    screenshot : str or path-like, optional
        Draw it without a screen, write a PNG here and return. A process that has started Qt on a
        screen already draws it there.
    overwrite : bool
        Whether `screenshot` may replace a file.
    size : (int, int)
        Width and height of the window of a screenshot.

    Returns
    -------
    int
        0.

    Raises
    ------
    LRSError
        If glue's desktop cannot be started, a file cannot be read, or the picture not be written.
    """
    if screenshot is not None:
        target = Path(screenshot)
        if target.suffix.lower() != ".png":
            raise WriteError(f"{target}: ends in {target.suffix!r}, expected '.png'")
        if target.exists() and not overwrite:
            raise WriteError(f"{target}: exists, give overwrite=True (--overwrite) to replace it")
    with _platform("offscreen" if screenshot is not None else None):
        application = _application(paths)
    try:
        if screenshot is None:
            application.start(maximized=True)
            return 0
        _photograph(application, Path(screenshot), overwrite, size)
    finally:
        close(application)
    return 0


@contextmanager
def _platform(name: str | None) -> Iterator[None]:
    """Let Qt start on a platform; what it starts later, and other processes, are left alone."""
    before = os.environ.get(_PLATFORM)
    if name is not None:
        os.environ[_PLATFORM] = name
    try:
        yield
    finally:
        if name is not None and before is None:
            os.environ.pop(_PLATFORM, None)
        elif before is not None:
            os.environ[_PLATFORM] = before


def _need_qt() -> None:
    """Tell in one line what is missing."""
    try:
        import qtpy.QtWidgets  # noqa: F401
    except ImportError as error:
        raise LRSError(f"view: {_reason(_of_binding() or error)}; {_EXTRA}") from None
    try:
        import glue_qt  # noqa: F401
    except ImportError as error:
        raise LRSError(f"view: {_reason(error)}; {_EXTRA}") from None


def _of_binding() -> ImportError | None:
    """Why a binding of Qt that is installed cannot be imported: qtpy says there is none."""
    for name in ("PyQt6", "PySide6"):
        if importlib.util.find_spec(name) is not None:
            try:
                importlib.import_module(f"{name}.QtWidgets")
            except ImportError as error:
                return error
    return None


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if "cannot open shared object" in text:  # libEGL.so.1, libGL.so.1 ...
        library = text.split(":")[0]
        package = _PACKAGES.get(library, "the system package that has it")
        return f"Qt needs {library}, which is missing (Debian and Ubuntu: apt install {package})"
    return text


#: Debian's packages of the libraries that Qt needs and a slim system does not have.
_PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libOpenGL.so.0": "libopengl0",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libfontconfig.so.1": "libfontconfig1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libxkbcommon.so.0": "libxkbcommon0",
}
#: What its X11 plugin needs besides: without it Qt ends the process.
_OF_XCB = {
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
}


def _need_display() -> None:
    """Qt ends the process where it finds no display: tell it first."""
    if not sys.platform.startswith("linux") or os.environ.get(_PLATFORM):
        return
    if os.environ.get("WAYLAND_DISPLAY"):
        return
    if not os.environ.get("DISPLAY"):
        raise LRSError("view: there is no display, expected DISPLAY to be set, or --screenshot")
    missing = [library for library in _OF_XCB if not _loads(library)]
    if missing:
        packages = " ".join(_OF_XCB[library] for library in missing)
        raise LRSError(
            f"view: Qt needs {', '.join(missing)}, which is missing (Debian and Ubuntu: apt "
            f"install {packages})"
        )


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _application(paths: Sequence[str | os.PathLike[str]]) -> Any:
    """The application with the files in it."""
    for path in paths:
        if not Path(path).exists():
            raise LRSError(f"{os.fspath(path)}: no such file")
    _need_qt()
    _need_display()
    from glue.main import load_plugins
    from glue_qt.app import GlueApplication

    load_plugins(require_qt_plugins=False)
    sessions = [path for path in paths if str(path).endswith(".glu")]
    if sessions:
        if len(paths) > 1:
            raise LRSError(f"{os.fspath(sessions[0])}: is a session, expected no other files")
        return GlueApplication.restore_session(os.fspath(sessions[0]), show=False)
    application = GlueApplication()
    try:
        fill(application, paths)
    except BaseException:
        close(application)
        raise
    return application


def fill(application: Any, paths: Sequence[str | os.PathLike[str]]) -> None:
    """Open files in an application: images in tabs of their own, spectra to compare with.

    Parameters
    ----------
    application : GlueApplication
        The application.
    paths : sequence of str or path-like
        Images and spectra.

    Raises
    ------
    LRSError
        If a file cannot be read.
    """
    from glue_lrs.io.spectra import is_spectrum
    from glue_lrs.viewers.qt.tab import open_tab

    spectra = [path for path in paths if is_spectrum(os.fspath(path))]
    lives = [open_tab(application, path) for path in paths if path not in spectra]
    for spectrum in spectra:
        for live in lives:
            live.load_comparison(os.fspath(spectrum))
    if not lives:
        from glue_qt.viewers.profile import ProfileViewer

        from glue_lrs.viewers.qt.spectrum import LRSSpectrumViewer

        for spectrum in spectra:
            found = application.load_data(os.fspath(spectrum))
            for data in found if isinstance(found, list) else [found]:
                viewer = LRSSpectrumViewer if data.ndim == 1 else ProfileViewer
                application.new_data_viewer(viewer, data=data)
    application.tab_widget.setCurrentIndex(0)


def _photograph(application: Any, target: Path, overwrite: bool, size: tuple[int, int]) -> None:
    """Draw the window into a PNG file."""
    from qtpy import QtCore

    from glue_lrs.io.files import atomic_write
    from glue_lrs.viewers.qt.base import settle

    def tell(kind: Any, context: Any, text: str) -> None:
        if not text.startswith("This plugin does not support"):  # it has no windows to raise
            print(text, file=sys.stderr)

    before = QtCore.qInstallMessageHandler(tell)
    try:
        application.start(maximized=False, size=size, block=False)
        settle()  # layouts and timers have their turn
        picture = application.grab()
    finally:
        QtCore.qInstallMessageHandler(before)
    with atomic_write(target, overwrite=overwrite) as temporary:
        if not picture.save(str(temporary), "PNG"):
            raise WriteError(f"{target}: cannot be written")


def close(application: Any) -> None:
    """Close the viewers, without which PySide6 ends in an abort, and the window.

    Parameters
    ----------
    application : GlueApplication
        The application; nothing happens if it is closed already.
    """
    from glue_qt.utils import process_events

    with suppress(RuntimeError):  # Qt has deleted what somebody has closed
        for tab in application.viewers:
            for viewer in tab:
                viewer.close(warn=False)
        application.close()
    process_events()
