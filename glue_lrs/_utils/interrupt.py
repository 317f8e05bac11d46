"""Ctrl-C in the program ``glue-lrs``: one line and exit code 130, at any time.

The imports of the package take a second and come before the first line of the command line, so that
this module is the first that the package imports. It does nothing unless that program runs.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from typing import Any

__all__ = ["EXIT_CODE", "arm", "leave"]

#: What shells say of a program that was ended by Ctrl-C.
EXIT_CODE = 130

_LINE = b"glue-lrs: error: interrupted\n"


def leave(*_: Any) -> None:
    """Say it and go: for as long as nothing is being written."""
    os.write(2, _LINE)
    os._exit(EXIT_CODE)


def arm() -> None:
    """Have Ctrl-C end the program at once while it starts; nothing in other programs."""
    name = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""
    ours = re.sub(r"(-script\.pyw?|\.exe)$", "", name) == "glue-lrs"
    if not ours and sys.orig_argv[1:3] != ["-m", "glue_lrs.cli"]:
        return
    main = threading.current_thread() is threading.main_thread()
    # Another handler is somebody else's wish, as of a shell that runs this in the background.
    if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


arm()
