"""Checks for what the desktop requires: Qt, glue-qt and a display."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib import import_module
from importlib.util import find_spec

from glue_lrs.errors import LRSError

#: Environment variable with the name of Qt's platform plugin.
PLATFORM = "QT_QPA_PLATFORM"

_EXTRA = "expected glue's desktop: pip install glue-qt qtpy PyQt6"

#: Libraries that Qt needs and that are missing on a minimal system.
_LIBRARIES = (
    "libEGL.so.1",
    "libGL.so.1",
    "libOpenGL.so.0",
    "libglib-2.0.so.0",
    "libfontconfig.so.1",
    "libdbus-1.so.3",
    "libxkbcommon.so.0",
)

_XCB = {"cursor": 0, "icccm": 4, "image": 0, "keysyms": 1, "randr": 0, "render-util": 0, "shape": 0}

#: Further libraries, which only Qt's X11 plugin needs. If any is missing, Qt aborts the process.
_X11_LIBRARIES = (
    *(f"libxcb-{name}.so.{version}" for name, version in _XCB.items()),
    "libxcb-xkb.so.1",
    "libxkbcommon-x11.so.0",
)


def require_qt() -> None:
    """Check that Qt and glue-qt can be imported.

    Raises
    ------
    LRSError
        If Qt or glue-qt cannot be imported. The message says which packages to install.
    """
    for name in ("qtpy.QtWidgets", "glue_qt"):
        try:
            import_module(name)
        except ImportError as error:
            cause = error if name == "glue_qt" else _binding_error() or error
            raise LRSError(f"view: {_reason(cause)}; {_EXTRA}") from None


def require_display() -> None:
    """Check for a display and X11 libraries, because Qt aborts the process without them.

    Raises
    ------
    LRSError
        If the display or a library is missing.
    """
    other = os.environ.get(PLATFORM) or os.environ.get("WAYLAND_DISPLAY")
    if other or not sys.platform.startswith("linux"):
        return
    if not os.environ.get("DISPLAY"):
        raise LRSError("view: there is no display, expected DISPLAY to be set, or --screenshot")
    missing = [library for library in _X11_LIBRARIES if not loads(library)]
    if missing:
        raise LRSError(f"view: {_missing(*missing)}")


def loads(library: str) -> bool:
    """Return whether a shared library can be loaded."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _binding_error() -> ImportError | None:
    """Return the error, hidden by qtpy, from importing an installed Qt binding, or None."""
    for name in ("PyQt6", "PySide6"):
        if find_spec(name) is not None:
            try:
                import_module(f"{name}.QtWidgets")
            except ImportError as error:
                return error
    return None


def _reason(error: BaseException) -> str:
    """Return the message of an import error in one line, with packages to install if known."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "cannot open shared object" in text:  # such as libEGL.so.1
        return _missing(text.split(":")[0])
    return text


def _missing(*libraries: str) -> str:
    """Return a message with the names of missing libraries and of their Debian packages."""
    packages = " ".join(_package(library) for library in libraries)
    return (
        f"Qt needs {', '.join(libraries)}, which is missing (Debian and Ubuntu: apt install "
        f"{packages})"
    )


def _package(library: str) -> str:
    """Return the Debian package that contains a library, named as in Debian Policy 8.1."""
    if library not in _LIBRARIES + _X11_LIBRARIES:
        return "the system package that contains it"
    name, _, version = library.lower().replace("libglib-", "libglib").partition(".so.")
    return f"{name}-{version}" if name[-1].isdigit() else f"{name}{version}"
