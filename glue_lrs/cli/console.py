"""Console output (errors and warnings on one line each, tables) and handling of Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import click

from glue_lrs._utils.interrupt import EXIT_CODE, leave
from glue_lrs._utils.validation import plain
from glue_lrs.errors import SEVERITIES, LRSError, LRSWarning, Setting, escaped

if TYPE_CHECKING:
    from glue_lrs.spectra.findings import Finding

#: Exit codes: OK if all files were processed, SOME_FAILED if some files failed, and FAILED if all
#: files failed or the usage is wrong.
OK, SOME_FAILED, FAILED = 0, 1, 2


class Command(click.Command):
    """Click command that prints errors to stderr, each on one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and print its errors.

        Errors are printed here rather than in `Program`, because their hints depend on the options
        of the command.
        """
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if interrupted():  # a library converted KeyboardInterrupt to another error
                raise click.Abort from None
            if isinstance(error, BrokenPipeError):  # the reader, such as head, ended: no error
                raise
            say_traceback(traceback.format_exc())
            say("error", error_text(error))
            return FAILED


class Program(click.Group):
    """Click group whose commands print errors to stderr, each on one line."""

    command_class = Command
    group_class = type  # for Click, this means that nested groups have the class of this group

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        """Run a command, and exit with its exit code or, without `standalone_mode`, return it."""
        with _interruptible():
            try:
                with _one_line_warnings():
                    code = self._run(*args, **kwargs)
            except KeyboardInterrupt:
                code = EXIT_CODE
            if interrupted() or code == EXIT_CODE:  # a library may have caught KeyboardInterrupt
                number = _received[0] if _received else signal.SIGINT
                code = 128 + number  # the convention of shells
                say("error", "interrupted" if number == signal.SIGINT else "terminated")
        if standalone_mode:
            sys.exit(code)
        return code

    def _run(self, *args: Any, **kwargs: Any) -> int:
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            return FAILED
        except click.ClickException as error:
            text = error.format_message()
            context = error.ctx if isinstance(error, click.UsageError) else None
            if context is not None:
                text = f"{text.rstrip('.')} (see '{context.command_path} --help')"
            say("error", text)
            return FAILED
        except click.Abort:
            return EXIT_CODE
        return code if isinstance(code, int) else OK

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the command line."""
        with _aborted():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with _aborted():
            return super().invoke(ctx)


@contextlib.contextmanager
def _aborted() -> Iterator[None]:
    """Convert KeyboardInterrupt to `click.Abort`, because click would print an empty line."""
    try:
        yield
    except KeyboardInterrupt:
        raise click.Abort from None


#: Colour of each kind of message.
_COLOURS = {"error": "red", "warning": "yellow"}


def say(kind: str, text: str) -> None:
    """Print a message to stderr, with its kind (such as "error") as a coloured label."""
    label = click.style(kind, fg=_COLOURS[kind])
    click.echo(f"glue-lrs: {label}: {_encodable(escaped(' '.join(text.split())), True)}", err=True)


def say_traceback(text: str) -> None:
    """Print a traceback to stderr if the option --traceback was given."""
    if click.get_current_context().find_root().params.get("show_traceback"):
        echo(text, err=True, nl=False, lines=True)


def echo(text: str, err: bool = False, nl: bool = True, lines: bool = False) -> None:
    """Print a text, in which characters that are not printable are escaped.

    Everything but the messages of `say` is printed here. Line ends are kept only if the text is one
    of several `lines`, so that a name from a file cannot imitate a line of the program.
    """
    click.echo(_encodable(escaped(text, keep="\n" if lines else ""), err), err=err, nl=nl)


def _encodable(text: str, err: bool) -> str:
    """Escape characters that the encoding of a stream does not have."""
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


#: Numbers of the signals received, such as that of Ctrl-C. The list is needed because libraries may
#: suppress KeyboardInterrupt or convert it to another error.
_received: list[int] = []

#: Signals that end the program as Ctrl-C does: from `kill`, and from a terminal that is closed.
TERMINATIONS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def interrupted() -> bool:
    """Return whether Ctrl-C was pressed or the program is to be terminated."""
    return bool(_received)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Record Ctrl-C and terminations, and raise KeyboardInterrupt to remove partial files.

    A handler that is installed already remains: the program that started this one, such as nohup,
    may ignore a signal.
    """
    _received.clear()
    handled: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handled = {one: signal.getsignal(one) for one in (signal.SIGINT, *TERMINATIONS)}
    ours = (leave, signal.default_int_handler, signal.SIG_DFL)
    handled = {one: before for one, before in handled.items() if before in ours}
    if not handled:
        yield
        return
    hook = sys.unraisablehook

    def press(number: int, _: Any) -> None:
        _received.append(number)
        raise KeyboardInterrupt

    def unraisable(info: Any) -> None:
        if not isinstance(info.exc_value, KeyboardInterrupt):  # `press` records it
            hook(info)

    sys.unraisablehook = unraisable
    for number in handled:
        signal.signal(number, press)
    try:
        yield
    finally:
        for number, before in handled.items():
            # Ignore a second Ctrl-C while the program ends.
            signal.signal(number, signal.SIG_IGN if _received and before is leave else before)
        sys.unraisablehook = hook


@contextlib.contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Print each warning once, on one line."""
    printed: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = _warning_text(message, category)
        if text not in printed:
            printed.add(text)
            say("warning", text)

    with warnings.catch_warnings():
        warnings.simplefilter("always", LRSWarning)
        warnings.showwarning = show
        yield


#: Severity and text of a warning or finding.
Note: TypeAlias = tuple[str, str]


def finding_notes(findings: Iterable[Finding]) -> list[Note]:
    """Return the severity and the text, in the syntax of the command line, of each finding."""
    return [
        (one.severity, one.message.render(option, with_subject=one.subject is not None))
        for one in findings
    ]


def is_serious(note: Note) -> bool:
    """Return whether a note is a warning or an error, which fails a command with --strict."""
    return note[0] != "info"


@contextlib.contextmanager
def collect_warnings(notes: list[Note]) -> Iterator[None]:
    """Append the warnings that a block issues to a list, without repetitions."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LRSWarning)
        try:
            yield
        finally:
            notes += dict.fromkeys(
                (getattr(w.message, "severity", "warning"), _warning_text(w.message, w.category))
                for w in caught
            )


def _warning_text(message: Warning | str, category: type[Warning]) -> str:
    """Return the text of a warning, preceded by the class unless it is an `LRSWarning`."""
    if issubclass(category, LRSWarning):
        return message.render(option) if isinstance(message, LRSWarning) else str(message)
    return f"{category.__name__}: {message}"


def error_text(error: BaseException) -> str:
    """Return the text of an error, with a remark that it is a bug if its class is unexpected."""
    if isinstance(error, LRSError):
        return error.render(option)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"{type(error).__name__}: {error} (a bug in glue-lrs; --traceback shows where)"


#: Parameters that have their own command-line option. All others are set with --set.
_OPTIONS = {
    "allow_opposite": "--allow-opposite",
    "apcorr": "--apcorr FITS",
    "aperture": "--aperture {}",
    "image": "--image FILE",
    "nods": "--nods FITS",
    "overwrite": "--overwrite",
    "psf": "--psf FITS",
    "scale": "--scale",
    "units": "--units WAVELENGTH,FLUX",
    "weights": "--weights {}",
}


#: Key of the metadata of a click context in which the inputs are spectra.
_NO_IMAGES = "glue_lrs.no_images"


def no_images() -> None:
    """Omit options of an extraction from the hints of this command: its files are spectra."""
    click.get_current_context().meta[_NO_IMAGES] = True


def option(setting: Setting) -> str | None:
    """Return a setting as a command-line option.

    Return None if the command lacks the option, or if it was given with this value already.
    """
    from glue_lrs.extraction.extract import ALL_KEYS

    # The processes of `glue-lrs extract --jobs` have no click context, but have all the options.
    context = click.get_current_context(silent=True)
    own = _OPTIONS.get(setting.name)
    if own is None and setting.name not in ALL_KEYS:  # a parameter of Python only
        return None
    if context is not None and setting.name in ALL_KEYS and _NO_IMAGES in context.meta:
        return None
    if context is not None and (setting.name if own else "settings") not in context.params:
        return None
    value = "..." if isinstance(setting.value, EllipsisType) else plain(setting.value)
    if own is not None:
        return own.format(value)
    given = dict((context.params.get("settings") if context is not None else None) or ())
    if setting.name in given and given[setting.name] == value:  # it would change nothing
        return None
    return f"--set {setting.name}={value if isinstance(value, str) else json.dumps(value)}"


@dataclass(frozen=True)
class Reporting:
    """Options --strict and --quiet: warnings and errors fail the command, and are not printed."""

    strict: bool = False
    quiet: bool = False


Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """Result of processing a file, and the warnings and findings.

    If an error occurred, `result` is None, and `error` and `trace` are the text and the traceback.
    """

    path: str
    result: Result | None = None
    notes: list[Note] = field(default_factory=list)
    error: str | None = None
    trace: str = ""


def attempt(
    path: str, process: Callable[[Argument], Result], argument: Argument
) -> Outcome[Result]:
    """Call `process` on an argument for the file `path`, and return the result or the error."""
    notes: list[Note] = []
    try:
        with collect_warnings(notes):
            result = process(argument)
    except Exception as error:  # an error in a file must not stop the other files
        if interrupted():
            raise KeyboardInterrupt from None
        return Outcome(path, None, notes, error_text(error), traceback.format_exc())
    return Outcome(path, result, notes)


class Reporter:
    """Printer for warnings and errors about several files.

    A message that repeats for several files is printed once, and its repetitions are counted.

    Parameters
    ----------
    reporting : Reporting
        Whether to print warnings and findings, and whether they fail the command.
    """

    def __init__(self, reporting: Reporting | None = None) -> None:
        self._reporting = reporting or Reporting()
        self._repeats: dict[Note, int] = {}
        self._serious = False

    def report(self, outcome: Outcome[Any]) -> None:
        """Print warnings and errors about a file, worst first, except those already printed."""
        self._serious |= any(map(is_serious, outcome.notes))
        ordered = sorted(outcome.notes, key=lambda note: SEVERITIES.index(note[0]))
        messages = [] if self._reporting.quiet else list(filter(is_serious, ordered))
        if outcome.error is not None:
            say_traceback(outcome.trace)
            messages.append(("error", outcome.error))
        for kind, text in messages:
            repeats = self._repeats.get((kind, text))
            self._repeats[kind, text] = 0 if repeats is None else repeats + 1
            if repeats is None:
                say(kind, text if escaped(outcome.path) in text else f"{outcome.path}: {text}")

    def judge(self, findings: Iterable[Mapping[str, Any]]) -> None:
        """Let findings, as in `Finding.to_dict`, fail a strict command without printing them."""
        self._serious |= any(one["severity"] != "info" for one in findings)

    def close(self) -> None:
        """Print each repeated message with the number of further files to which it applies."""
        for (kind, text), repeats in self._repeats.items():
            if repeats:
                say(kind, f"the same for {repeats} more file{'s' * (repeats > 1)}: {text}")

    def exit_code(self, n_done: int, n_requested: int) -> int:
        """Return the exit code if `n_done` of `n_requested` files were processed without error."""
        failed = self._reporting.strict and self._serious
        return exit_code(n_done, n_requested) or (SOME_FAILED if failed else OK)


def describe_each(
    paths: Sequence[str],
    describe: Callable[[str], tuple[dict[str, Any], str]],
    as_json: bool,
    reporting: Reporting | None = None,
) -> int:
    """Print a description of each file. If a file fails, print the error and continue.

    Parameters
    ----------
    paths : sequence of str
        Files to describe.
    describe : callable
        Function that returns the facts about a file twice: as a dict for JSON, and as text.
    as_json : bool
        Whether to print the facts about all files as JSON instead of the text.
    reporting : Reporting, optional
        Whether to print warnings, and whether they and the item "findings" of the facts fail the
        command.

    Returns
    -------
    int
        Exit code.
    """
    reporter = Reporter(reporting)
    found: list[dict[str, Any]] = []
    for path in paths:
        outcome = attempt(path, describe, path)
        reporter.report(outcome)
        if outcome.result is not None:
            facts, text = outcome.result
            if not as_json:
                echo(("\n" if found else "") + text, lines=True)
            found.append(facts)
            reporter.judge(facts.get("findings", ()))
    reporter.close()
    if as_json and found:
        echo(json.dumps(found, indent=2), lines=True)
    return reporter.exit_code(len(found), len(paths))


def exit_code(n_done: int, n_requested: int) -> int:
    """Return the exit code if `n_done` of `n_requested` files were processed without error."""
    return OK if n_done == n_requested else SOME_FAILED if n_done else FAILED


def table_text(rows: Sequence[dict[str, str]]) -> str:
    """Format a table, whose rows are dicts with the column headings as keys, as aligned text."""
    rows = [{key: escaped(value) for key, value in row.items()} for row in rows]
    head = {key: key for key in rows[0]}
    width = {key: max(len(row[key]) for row in (head, *rows)) for key in head}
    numbers = {key for key in head if all(re.fullmatch(r"[-\d.+%]*", row[key]) for row in rows)}

    def line(row: dict[str, str]) -> str:
        cells = (
            row[key].rjust(width[key]) if key in numbers else row[key].ljust(width[key])
            for key in head
        )
        return "  ".join(cells).rstrip()

    return "\n".join([line(head), *map(line, rows)])
