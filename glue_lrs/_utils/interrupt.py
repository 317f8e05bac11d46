"""Handler for Ctrl-C in the program ``glue-lrs``: one line of output and exit code 130.

Importing the package takes about a second, before the command line can install a handler. This
module is therefore imported first. It has no effect in other programs.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from typing import Any

__all__ = ["EXIT_CODE", "arm", "leave"]

#: Exit code of a program terminated by SIGINT, by the convention of shells (128 + 2).
EXIT_CODE = 130

_LINE = b"glue-lrs: error: interrupted\n"


def leave(*_: Any) -> None:
    """Print the message and exit immediately; for use while no output file is being written."""
    os.write(2, _LINE)
    os._exit(EXIT_CODE)


def arm() -> None:
    """Install the handler for the start of ``glue-lrs``; no effect in other programs."""
    name = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""
    ours = re.sub(r"(-script\.pyw?|\.exe)$", "", name) == "glue-lrs"
    if not ours and sys.orig_argv[1:3] != ["-m", "glue_lrs.cli"]:
        return
    main = threading.current_thread() is threading.main_thread()
    # Another handler than the default is deliberate, as that of a shell for a background job.
    if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


arm()
