"""How the program talks: errors and warnings in one line each, Ctrl-C, tables."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from glue_lrs._utils.interrupt import EXIT_CODE, leave
from glue_lrs.errors import LRSError, LRSWarning

#: Exit codes: all is well; some of several files failed; nothing was done.
OK, SOME_FAILED, FAILED = 0, 1, 2


class Program(click.Group):
    """The group of commands. Errors are one line on stderr, never a traceback."""

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        """Run, and leave with an exit code."""
        with _interruptible():
            try:
                with _one_line_warnings():
                    code = self._run(*args, **kwargs)
            except KeyboardInterrupt:
                code = EXIT_CODE
            if interrupted() or code == EXIT_CODE:  # something may have swallowed it
                code = EXIT_CODE
                say_error("interrupted")
        if standalone_mode:
            sys.exit(code)
        return code

    def _run(self, *args: Any, **kwargs: Any) -> int:
        try:
            kwargs["standalone_mode"] = False
            code = super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.ctx.get_help() if error.ctx else error.format_message(), err=True)
            return FAILED
        except click.UsageError as error:
            help_ = f" (see '{error.ctx.command_path} --help')" if error.ctx is not None else ""
            say_error(error.format_message().rstrip(".") + help_)
            return FAILED
        except click.ClickException as error:
            say_error(error.format_message())
            return FAILED
        except click.Abort:
            return EXIT_CODE
        return code if isinstance(code, int) else OK

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the words of the command line."""
        try:
            return super().make_context(*args, **kwargs)
        except KeyboardInterrupt:  # at which click itself says an empty line
            raise click.Abort from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; tell its errors while the options are still known."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.Abort from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if interrupted():  # which a library has made another error of
                raise click.Abort from None
            if isinstance(error, BrokenPipeError):  # the reader of our output has gone: no error
                raise
            say_traceback(ctx, traceback.format_exc())
            say_error(failure(error))
            return FAILED


def say_error(text: str) -> None:
    """Tell of an error on stderr."""
    _say(click.style("error", fg="red"), text)


def say_warning(text: str) -> None:
    """Tell of a warning on stderr."""
    _say(click.style("warning", fg="yellow"), text)


def _say(kind: str, text: str) -> None:
    echo(f"glue-lrs: {kind}: {' '.join(text.split())}", err=True)


def say_traceback(context: click.Context, text: str) -> None:
    """Tell where an error comes from, if that is asked for."""
    if context.find_root().params.get("show_traceback"):
        echo(text, err=True, nl=False)


def echo(text: str, err: bool = False, nl: bool = True) -> None:
    """Print what can be printed where it goes."""
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    click.echo(printable(text, encoding), err=err, nl=nl)


def printable(text: str, encoding: str = "utf-8") -> str:
    """Text whose odd letters, as in names of files that are not UTF-8, are escaped."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


#: Whether Ctrl-C was pressed: KeyboardInterrupt may be swallowed, or become another error.
_pressed: list[bool] = []


def interrupted() -> bool:
    """Whether Ctrl-C was pressed."""
    return bool(_pressed)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Have Ctrl-C raise KeyboardInterrupt, so that what is half-written is removed, and keep it."""
    _pressed.clear()
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before not in (leave, signal.default_int_handler):
        yield  # not ours to decide
        return
    hook = sys.unraisablehook

    def press(*_: Any) -> None:
        _pressed.append(True)
        raise KeyboardInterrupt

    def unraisable(info: Any) -> None:
        if not isinstance(info.exc_value, KeyboardInterrupt):  # it is kept: nothing to print
            hook(info)

    sys.unraisablehook = unraisable
    signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        # Once it was told, a second time says no more.
        signal.signal(signal.SIGINT, signal.SIG_IGN if _pressed and before is leave else before)
        sys.unraisablehook = hook


@contextlib.contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Tell each warning once, on one line."""
    said: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = _warning_text(message, category)
        if text not in said:
            said.add(text)
            say_warning(text)

    with warnings.catch_warnings():
        warnings.simplefilter("always", LRSWarning)
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def recorded(into: list[str]) -> Iterator[None]:
    """Collect the texts of the warnings of a block, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LRSWarning)
        try:
            yield
        finally:
            into += dict.fromkeys(_warning_text(w.message, w.category) for w in caught)


def _warning_text(message: Warning | str, category: type[Warning]) -> str:
    """What a warning says; of those that are not ours it helps to know what they are."""
    if issubclass(category, LRSWarning):
        return translated(str(message))
    return f"{category.__name__}: {message}"


def failure(error: BaseException) -> str:
    """What to say of an error: ours explain themselves, others are the system's or our fault."""
    if isinstance(error, LRSError):
        return translated(str(error))
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"{type(error).__name__}: {error} (a fault of glue-lrs; --traceback shows where)"


#: What messages of the package say in Python's words -> how it is said on the command line.
_SAID = {
    "give apcorr= or --apcorr, or apply_apcorr=False": "give --apcorr FITS, or --set "
    "apply_apcorr=false",
    "give overwrite=True (--overwrite)": "give --overwrite",
    "give the image": "give --image FILE",
    "give psf= or --psf": "give --psf FITS",
}

_PARAMETERS = (
    "apply_apcorr", "bad_pixels", "bkg_fit", "bkg_order", "extraction_type", "fixed_background",
    "max_lost", "model_nod_pair", "optimal_mode", "optimize_psf_location", "position_offset",
    "smoothing_length", "subtract_background", "use_source_posn",
)  # fmt: skip

_ASSIGNED = re.compile(
    rf"(?<![-\w./])(?<!--set )({'|'.join(_PARAMETERS)})="
    r"(True|False|None|-?\d+(?:\.\d+)?|'\w+')(?![\w./])"
)


def translated(text: str) -> str:
    """A message of the package in the words of the command line."""
    for python, ours in _SAID.items():
        text = text.replace(python, ours)
    words = {"True": "true", "False": "false", "None": "null"}

    def said(match: re.Match[str]) -> str:
        value = match[2].strip("'")
        return f"--set {match[1]}={words.get(value, value)}"

    return _ASSIGNED.sub(said, text)


class Reporter:
    """Tells warnings and errors of many files: what several share once, and how often."""

    def __init__(self) -> None:
        self.heard: dict[tuple[str, str], int] = {}

    def report(self, kind: str, path: str, text: str) -> None:
        """Tell a message of a file, unless it was told of another one."""
        seen = self.heard.get((kind, text))
        self.heard[kind, text] = 0 if seen is None else seen + 1
        if seen is None:
            _SAY[kind](text if path in text else f"{path}: {text}")

    def close(self) -> None:
        """Say how often messages came again."""
        for (kind, text), more in self.heard.items():
            if more:
                _SAY[kind](f"the same of {more} more file{'s' * (more > 1)}: {text}")


def each_file(
    ctx: click.Context, paths: Sequence[str], work: Callable[[str], Any]
) -> Iterator[Any]:
    """Do the work for each file, and yield what it gives. One bad file does not stop the others."""
    console = Reporter()
    for path in paths:
        notes: list[str] = []
        try:
            with recorded(notes):
                result = work(path)
        except Exception as error:  # it is told
            if interrupted():
                raise
            say_traceback(ctx, traceback.format_exc())
            console.report("error", path, failure(error))
            continue
        finally:
            for note in notes:
                console.report("warning", path, note)
        yield result
    console.close()


def exit_code(done: int, asked: int) -> int:
    """The exit code when so many of the files that were asked for are done."""
    return OK if done == asked else SOME_FAILED if done else FAILED


_SAY = {"error": say_error, "warning": say_warning}


def table_text(lines: Sequence[dict[str, str]]) -> str:
    """Columns under each other, with a head."""
    lines = [{key: printable(value) for key, value in line.items()} for line in lines]
    head = {key: key for key in lines[0]}
    width = {key: max(len(line[key]) for line in (head, *lines)) for key in head}
    numbers = {key for key in head if all(re.fullmatch(r"[-\d.+%]*", line[key]) for line in lines)}

    def row(line: dict[str, str]) -> str:
        cells = (
            line[key].rjust(width[key]) if key in numbers else line[key].ljust(width[key])
            for key in head
        )
        return "  ".join(cells).rstrip()

    return "\n".join([row(head), *map(row, lines)])
