"""Requirements of the desktop: Qt, glue-qt and a display."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib import import_module
from importlib.util import find_spec

from glue_lrs.errors import LRSError

#: Environment variable with the name of Qt's platform plugin.
PLATFORM = "QT_QPA_PLATFORM"

_EXTRA = "expected glue's desktop: pip install 'glue-lrs[qt]'"

#: Libraries that Qt needs but a minimal system lacks, and the Debian packages that contain them.
_PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libOpenGL.so.0": "libopengl0",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libfontconfig.so.1": "libfontconfig1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libxkbcommon.so.0": "libxkbcommon0",
}

#: Libraries that Qt's X11 plugin needs in addition. If any is missing, Qt aborts the process.
_X11_PACKAGES = {
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


def require_qt() -> None:
    """Check that Qt and glue-qt can be imported.

    Raises
    ------
    LRSError
        If either cannot be imported. The message names the missing extra or system package.
    """
    try:
        import_module("qtpy.QtWidgets")
    except ImportError as error:
        raise LRSError(f"view: {_reason(_binding_error() or error)}; {_EXTRA}") from None
    try:
        import_module("glue_qt")
    except ImportError as error:
        raise LRSError(f"view: {_reason(error)}; {_EXTRA}") from None


def require_display() -> None:
    """Check that a display and the libraries for it exist, as Qt would abort the process without.

    Raises
    ------
    LRSError
        If the display or a library is missing.
    """
    if not sys.platform.startswith("linux") or os.environ.get(PLATFORM):
        return
    if os.environ.get("WAYLAND_DISPLAY"):
        return
    if not os.environ.get("DISPLAY"):
        raise LRSError("view: there is no display, expected DISPLAY to be set, or --screenshot")
    missing = [library for library in _X11_PACKAGES if not loads(library)]
    if missing:
        packages = " ".join(_X11_PACKAGES[library] for library in missing)
        raise LRSError(
            f"view: Qt needs {', '.join(missing)}, which is missing (Debian and Ubuntu: apt "
            f"install {packages})"
        )


def loads(library: str) -> bool:
    """Return whether a shared library can be loaded."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _binding_error() -> ImportError | None:
    """Return the error from importing an installed Qt binding, which qtpy does not report."""
    for name in ("PyQt6", "PySide6"):
        if find_spec(name) is not None:
            try:
                import_module(f"{name}.QtWidgets")
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
