"""Handler for Ctrl-C in the program ``glue-lrs``.

The handler prints one line and exits with code 130. This module is imported first because importing
the rest of the package takes about a second, during which Ctrl-C must already work. It has no
effect in other programs.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading

#: Exit code of programs that SIGINT terminates, by the convention of shells (128 + 2).
EXIT_CODE = 130

_LINE = b"glue-lrs: error: interrupted\n"


def leave(*_: object) -> None:
    """Print the message and exit immediately, as handler of the signal SIGINT.

    The handler must not be installed while an output file is written, because the partial file
    would remain.
    """
    os.write(2, _LINE)
    os._exit(EXIT_CODE)


def arm() -> None:
    """Install the handler if the running program is ``glue-lrs``."""
    name = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""
    ours = re.sub(r"(-script\.pyw?|\.exe)$", "", name) == "glue-lrs"
    if not ours and sys.orig_argv[1:3] != ["-m", "glue_lrs.cli"]:
        return
    main = threading.current_thread() is threading.main_thread()
    # A handler other than the default was installed deliberately, for example by a shell for a
    # background job, and must not be replaced.
    if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


arm()
