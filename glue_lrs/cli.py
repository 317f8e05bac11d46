"""The command line ``glue-lrs``: thin.

Every command reads with `glue_lrs.SlitImage` and its like, and extracts with `glue_lrs.Extract1D`;
none has arithmetic of its own. What is heavy is imported inside the commands.
"""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glue_lrs import __version__
from glue_lrs._interrupt import EXIT_CODE, leave
from glue_lrs.errors import LRSError, LRSWarning, ReferenceFileError, WriteError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from glue_lrs.aperture_correction import ApertureCorrection
    from glue_lrs.extract import Extract1D
    from glue_lrs.extraction import Extraction
    from glue_lrs.image import SlitImage

__all__ = ["main"]

#: Exit codes: all is well; some of several files failed; nothing was done.
OK, SOME_FAILED, FAILED = 0, 1, 2

#: The endings of pipeline products and what replaces them in the name of a spectrum.
_ENDINGS = {
    "s2d": "x1d", "cal": "x1d", "crf": "x1d", "bsub": "x1d",
    "calints": "x1dints", "crfints": "x1dints", "bsubints": "x1dints",
}  # fmt: skip


# --- how the program talks ---------------------------------------------------------------------


class _Program(click.Group):
    """The group of commands. Errors are one line on stderr, never a traceback."""

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        """Run, and leave with an exit code."""
        with _interruptible():
            try:
                with _one_line_warnings():
                    code = self._run(*args, **kwargs)
            except KeyboardInterrupt:
                code = EXIT_CODE
            if _interrupted() or code == EXIT_CODE:  # something may have swallowed it
                code = EXIT_CODE
                _say_error("interrupted")
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
            _say_error(error.format_message().rstrip(".") + help_)
            return FAILED
        except click.ClickException as error:
            _say_error(error.format_message())
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
            if _interrupted():  # which a library has made another error of
                raise click.Abort from None
            if isinstance(error, BrokenPipeError):  # the reader of our output has gone: no error
                raise
            _say_traceback(ctx, traceback.format_exc())
            _say_error(_failure(error))
            return FAILED


def _say_error(text: str) -> None:
    _say(click.style("error", fg="red"), text)


def _say_warning(text: str) -> None:
    _say(click.style("warning", fg="yellow"), text)


def _say(kind: str, text: str) -> None:
    _echo(f"glue-lrs: {kind}: {' '.join(text.split())}", err=True)


def _say_traceback(context: click.Context, text: str) -> None:
    if context.find_root().params.get("show_traceback"):
        _echo(text, err=True, nl=False)


def _echo(text: str, err: bool = False, nl: bool = True) -> None:
    """Print what can be printed where it goes."""
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    click.echo(_printable(text, encoding), err=err, nl=nl)


def _printable(text: str, encoding: str = "utf-8") -> str:
    """Text whose odd letters, as in names of files that are not UTF-8, are written as \\udc.."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


#: Whether Ctrl-C was pressed: KeyboardInterrupt may be swallowed, or become another error.
_pressed: list[bool] = []


def _interrupted() -> bool:
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
            _say_warning(text)

    with warnings.catch_warnings():
        warnings.simplefilter("always", LRSWarning)
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def _recorded(into: list[str]) -> Iterator[None]:
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
        return _translated(str(message))
    return f"{category.__name__}: {message}"


def _failure(error: BaseException) -> str:
    """What to say of an error: ours explain themselves, others are the system's or our fault."""
    if isinstance(error, LRSError):
        return _translated(str(error))
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"{type(error).__name__}: {error} (a fault of glue-lrs; --traceback shows where)"


#: What messages of the package say in Python's words -> how it is said on the command line.
_SAID = {
    "give apcorr= or --apcorr, or apply_apcorr=False": "give --apcorr FITS, or --set "
    "apply_apcorr=false",
    "give overwrite=True (--overwrite)": "give --overwrite",
    "give the image": "give --image FILE",
}
_PARAMETERS = (
    "apply_apcorr", "bkg_fit", "bkg_order", "fixed_background", "max_lost", "position_offset",
    "smoothing_length", "subtract_background", "use_source_posn",
)  # fmt: skip
_ASSIGNED = re.compile(
    rf"(?<![-\w./])(?<!--set )({'|'.join(_PARAMETERS)})=(True|False|None|-?\d+(?:\.\d+)?)(?![\w./])"
)


def _translated(text: str) -> str:
    """A message of the package in the words of the command line."""
    for python, ours in _SAID.items():
        text = text.replace(python, ours)
    words = {"True": "true", "False": "false", "None": "null"}
    return _ASSIGNED.sub(lambda m: f"--set {m[1]}={words.get(m[2], m[2])}", text)


class _Talk:
    """Tells warnings and errors of many files: what several share once, and how often."""

    def __init__(self) -> None:
        self.heard: dict[tuple[str, str], int] = {}

    def tell(self, kind: str, path: str, text: str) -> None:
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


_SAY = {"error": _say_error, "warning": _say_warning}


# --- what options mean -------------------------------------------------------------------------


class _Name(click.ParamType):  # type: ignore[type-arg]
    """The name of a file or a folder: not the empty word that a variable without a value leaves."""

    def __init__(self, what: str) -> None:
        self.name = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take anything but nothing."""
        if value == "":
            self.fail(f"'', expected the name of a {self.name}", param, ctx)
        return str(value)


_FILE, _FOLDER = _Name("file"), _Name("folder")


class _Setting(click.ParamType):  # type: ignore[type-arg]
    """KEY=VALUE, the value as JSON where it is JSON, as a word where it is not."""

    name = "KEY=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Split at the first "="."""
        key, equals, text = value.partition("=")
        if not equals or not key.strip():
            self.fail(f"{value!r}, expected KEY=VALUE, such as bkg_fit=median", param, ctx)
        return key.strip(), _value(text.strip())


def _value(text: str) -> Any:
    python = {"True": True, "False": False, "None": None}
    if text in python:
        return python[text]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _context_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse what is hardly a CRDS context, such as the file that stands behind the option."""
    if value in (None, "") or re.fullmatch(
        r"[\w.-]+\.pmap|[\w-]*latest[\w-]*|[\w-]*edit", str(value)
    ):
        return value
    raise click.BadParameter(
        f"{value!r}, expected a context such as jwst_1322.pmap, or nothing: put --crds behind "
        "the files",
        ctx,
        param,
    )


_SETTINGS = click.option(
    "--set", "settings", type=_Setting(), multiple=True, metavar="KEY=VALUE",
    help="Set a key of the reference or a step parameter; may be repeated. "
    "Values are JSON: --set 'bkg_coeff=[[0.5],[4.5]]' --set bkg_fit=median.",
)  # fmt: skip
_EXTRACT1D = click.option(
    "--extract1d",
    type=_FILE,
    metavar="JSON",
    help="EXTRACT1D reference; the built-in defaults without it.",
)
_APCORR = click.option(
    "--apcorr", type=_FILE, metavar="FITS",
    help="APCORR reference: aperture correction; its row for the image's SUBARRAY is taken.",
)  # fmt: skip
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace existing files.")
_FILES = click.argument("files", type=_FILE, nargs=-1, required=True, metavar="FILE...")


@click.group(
    cls=_Program,
    name="glue-lrs",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="glue-lrs")
@click.option("--traceback", "show_traceback", is_flag=True, help="Show where an error comes from.")
def main(show_traceback: bool) -> None:
    """Extract JWST MIRI LRS spectra: the pipeline's numbers, fast.

    \b
    First steps:
      glue-lrs demo                        see it all at work, on simulated files
      glue-lrs info x_s2d.fits             what a file is, and where its spectrum will be taken
      glue-lrs extract x_s2d.fits --plot   make x_x1d.fits and a picture of it

    Every command has its own help: glue-lrs extract --help
    """


# --- extract -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """One file to extract. It can be sent to another process."""

    path: str
    output: str
    picture: str | None
    reference: str | None
    apcorr: str | None
    crds: str | None
    settings: dict[str, Any]
    overwrite: bool


@dataclass(frozen=True)
class _Outcome:
    """What became of a job."""

    job: _Job
    notes: list[str] = field(default_factory=list)
    summary: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    trace: str = ""


@main.command(short_help="Extract spectra from s2d, cal and calints files.")
@_FILES
@_EXTRACT1D
@_APCORR
@_SETTINGS
@click.option(
    "--crds", is_flag=False, flag_value="", metavar="[CONTEXT]", callback=_context_name,
    help="Take from CRDS what --extract1d and --apcorr do not give.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=_FILE, metavar="FILE", help="The spectrum's file, for a single input."
)
@click.option(
    "--output-dir", type=_FOLDER, metavar="DIR", help="Folder of the output; made if there is none."
)
@_OVERWRITE
@click.option("--plot", "picture", is_flag=True, help="Draw a picture beside each spectrum (PNG).")
@click.option(
    "-j", "--jobs", default=1, show_default=True, metavar="N",
    help="Number of processes; -1 for as many as there are processors.",
)  # fmt: skip
@click.pass_context
def extract(
    ctx: click.Context,
    files: tuple[str, ...],
    extract1d: str | None,
    apcorr: str | None,
    settings: tuple[tuple[str, Any], ...],
    crds: str | None,
    output: str | None,
    output_dir: str | None,
    overwrite: bool,
    picture: bool,
    jobs: int,
) -> int:
    """Extract spectra from s2d, cal and calints files.

    x_s2d.fits and x_cal.fits become x_x1d.fits, and x_calints.fits becomes x_x1dints.fits, in the
    current folder as with the pipeline's own step, or in --output-dir. Nothing that exists is
    replaced without --overwrite. A file that fails does not stop the others.

    The table at the end tells where the aperture was (first and last column, inclusive, counted
    from 0; means where it changes along the rows), by how many columns it was moved, how many rows
    have no usable flux, and how many warnings there were.

    Without --extract1d the built-in reference is used: on the slit, for a point source, the
    aperture moves to where the header puts the source, and background regions move along unless
    --set fixed_background=true. --set max_lost=0.1 masks rows that lost more than a tenth of the
    aperture to bad pixels.

    \b
    Exit code: 0 all extracted, 1 some files failed, 2 all failed or bad usage.

    \b
    Examples:
      glue-lrs extract jw*_s2d.fits --output-dir spectra --plot
      glue-lrs extract x_s2d.fits --set xstart=25 --set xstop=36 --set use_source_posn=false
      glue-lrs extract x_s2d.fits --set 'bkg_coeff=[[0.5],[4.5]]' --set fixed_background=true
      glue-lrs extract x_calints.fits --extract1d my.json --apcorr jwst_miri_apcorr_0010.fits
    """
    if output is not None and len(files) > 1:
        raise click.UsageError(f"--output names one file, but there are {len(files)}", ctx)
    if output is not None and output_dir is not None:
        raise click.UsageError("--output and --output-dir exclude each other", ctx)
    if jobs == 0 or jobs < -1:
        raise click.UsageError(f"--jobs is {jobs}, expected at least 1, or -1", ctx)
    planned = [
        _Job(
            path=path,
            output=target,
            picture=f"{_stem(target)}.png" if picture else None,
            reference=extract1d,
            apcorr=apcorr,
            crds=crds,
            settings=dict(settings),
            overwrite=overwrite,
        )
        for path, target in ((path, output or _output_name(path, output_dir)) for path in files)
    ]
    _check_targets(ctx, planned, [*files, *filter(None, (extract1d, apcorr))])
    outcomes = _run_all(ctx, planned, jobs)
    failed = sum(outcome.error is not None for outcome in outcomes)
    if failed < len(outcomes):
        _echo(_table([outcome.summary for outcome in outcomes if outcome.error is None]))
    if failed and len(outcomes) > 1:
        _echo(f"{failed} of {len(outcomes)} files failed", err=True)
    return OK if not failed else FAILED if failed == len(outcomes) else SOME_FAILED


def _output_name(path: str, folder: str | None) -> str:
    stem = _stem(Path(path).name)
    base, _, ending = stem.rpartition("_")
    name = (
        f"{base}_{_ENDINGS[ending.lower()]}"
        if ending.lower() in _ENDINGS and base
        else f"{stem}_x1d"
    )
    return str(Path(folder or "") / f"{name}.fits")


def _stem(name: str) -> str:
    """A name without .fits or .fits.gz."""
    return re.sub(r"\.fits?(\.gz)?$", "", name, flags=re.IGNORECASE)


def _check_targets(ctx: click.Context, jobs: Sequence[_Job], inputs: Sequence[str]) -> None:
    """Refuse outputs that would replace each other or an input, before anything is read."""
    taken = {os.path.realpath(path): path for path in inputs}
    made: dict[str, str] = {}
    for job in jobs:
        for target in filter(None, (job.output, job.picture)):
            real = os.path.realpath(target)
            if real in taken:
                raise click.UsageError(
                    f"the output {target} would replace the input {taken[real]}", ctx
                )
            if real in made:
                raise click.UsageError(
                    f"{made[real]} and {job.path} both give {target}, expected different names "
                    "(extract them to different folders with --output-dir)",
                    ctx,
                )
            made[real] = job.path


def _run_all(ctx: click.Context, planned: Sequence[_Job], jobs: int) -> list[_Outcome]:
    """Extract all files, here or in other processes, and tell what is to be told as it comes."""
    from tqdm import tqdm

    outcomes: list[_Outcome] = []
    talk = _Talk()
    # None: no bar where stderr is not a terminal.
    hide = True if len(planned) == 1 else None
    with tqdm(total=len(planned), disable=hide, unit="file", leave=False) as bar:
        for outcome in _stream(planned, jobs):
            with tqdm.external_write_mode(file=sys.stderr):
                for note in outcome.notes:
                    talk.tell("warning", outcome.job.path, note)
                if outcome.error is not None:
                    _say_traceback(ctx, outcome.trace)
                    talk.tell("error", outcome.job.path, outcome.error)
            outcomes.append(outcome)
            bar.update()
    talk.close()
    return outcomes


def _stream(planned: Sequence[_Job], jobs: int) -> Iterator[_Outcome]:
    if jobs == 1 or len(planned) == 1:
        yield from map(_extract_one, planned)
        return
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import active_children, get_context

    others = active_children()
    workers = min(len(planned), jobs if jobs > 0 else os.cpu_count() or 1)
    context = get_context("spawn")  # a fork would copy the locks of threads
    executor = ProcessPoolExecutor(workers, context, _Worker.start)
    try:
        with _without_interrupts():  # which the processes would inherit
            futures = [executor.submit(_Worker.extract, job) for job in planned]
        for job, future in zip(planned, futures, strict=True):
            try:
                outcome = future.result()
            except BrokenProcessPool:
                text = "a process was ended from outside, perhaps for want of memory"
                outcome = _Outcome(job, error=f"{text}; try fewer --jobs")
            yield outcome
    except BaseException:
        with _without_interrupts():  # or some of them go on writing
            for process in active_children():
                if process not in others:
                    process.terminate()
        raise
    finally:
        with _without_interrupts():
            executor.shutdown(wait=True, cancel_futures=True)


class _Worker:
    """A process that extracts. When told to end it removes what is half-written first."""

    working = False
    #: How often it was told.
    told = 0

    @classmethod
    def start(cls) -> None:
        """Leave Ctrl-C, which reaches all processes of a terminal, to the one that began."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, cls.end)

    @classmethod
    def end(cls, *_: Any) -> None:
        """Give up the file, or end."""
        cls.told += 1
        if not cls.working:
            sys.exit(EXIT_CODE)
        if cls.told == 1:
            raise KeyboardInterrupt

    @classmethod
    def extract(cls, job: _Job) -> _Outcome:
        """Extract one file, unless told to end."""
        if cls.told:
            return _Outcome(job, error="interrupted")
        cls.working = True
        try:
            return _extract_one(job)
        finally:
            cls.working = False
            if cls.told > 1:  # meanwhile: nobody waits for the rest
                os._exit(EXIT_CODE)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Put Ctrl-C off to the end of a block; processes that are started in it never see it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # when started later, it would let the signal through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _extract_one(job: _Job) -> _Outcome:
    notes: list[str] = []
    try:
        with _recorded(notes):
            summary = _extract_and_write(job)
    except Exception as error:  # one bad file must not stop the others; it is told
        if _interrupted() or _Worker.told:
            raise KeyboardInterrupt from None
        return _Outcome(job, notes, error=_failure(error), trace=traceback.format_exc())
    summary["warnings"] = str(len(notes) or "-")
    return _Outcome(job, notes, {**summary, "output": job.output})


def _extract_and_write(job: _Job) -> dict[str, str]:
    from glue_lrs.checks import advice
    from glue_lrs.describe import summarize
    from glue_lrs.image import SlitImage
    from glue_lrs.plot import plot_product, save

    targets = [Path(target) for target in (job.output, job.picture) if target is not None]
    for target in targets:  # before the work rather than after it
        if target.exists() and not job.overwrite:
            raise WriteError(f"{target}: exists, expected a new name or --overwrite")
    image = SlitImage.read(job.path)
    operator = _operator(image, job.path, job.reference, job.apcorr, job.crds, job.settings)
    extraction = operator.run(image)
    for text in advice(image, operator):
        warnings.warn(text, LRSWarning, stacklevel=2)
    figure = None
    if job.picture is not None:
        figure = plot_product(image, operator, extraction, title=Path(job.output).name)
    with _folder(targets[0].parent):
        extraction.write(job.output, overwrite=job.overwrite)
        if figure is not None and job.picture is not None:
            save(figure, job.picture, overwrite=job.overwrite)
    return {"file": Path(job.path).name, **summarize(extraction)}


def _operator(
    image: SlitImage,
    path: str,
    reference: str | None,
    apcorr: str | None,
    crds: str | None,
    settings: dict[str, Any],
) -> Extract1D:
    from glue_lrs.extract import Extract1D

    if crds is not None and (reference is None or apcorr is None):
        from glue_lrs.io.crds import best_references

        best = best_references(path, crds or None)
        reference = reference or best["extract1d"]
        apcorr = apcorr or best["apcorr"]
    correction = _correction(image, apcorr, settings)
    return Extract1D.from_reference(reference, image.exp_type, apcorr=correction, **settings)


def _correction(
    image: SlitImage, apcorr: str | None, settings: dict[str, Any]
) -> ApertureCorrection | str | None:
    """The row of an APCORR reference for an image; the file's name where it will not be applied."""
    from glue_lrs.aperture_correction import ApertureCorrection

    applied = settings.get("apply_apcorr") is not False
    if apcorr is None or image.subarray is None or image.source_type != "POINT" or not applied:
        return apcorr
    return ApertureCorrection.read(apcorr, subarray=image.subarray)


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make a folder where there is none, and take it away again if nothing could be put in it."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"{folder}: cannot be made, {error.strerror}") from error
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not empty: somebody else needs it
            for one in made:
                one.rmdir()
        raise


def _table(lines: Sequence[dict[str, str]]) -> str:
    """Columns under each other, with a head."""
    lines = [{key: _printable(value) for key, value in line.items()} for line in lines]
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


# --- combine -----------------------------------------------------------------------------------


@main.command(short_help="Combine nods or exposures into one spectrum.")
@_FILES
@click.option(
    "-o", "--output", type=_FILE, required=True, metavar="C1D", help="The combined spectrum's file."
)
@_OVERWRITE
@click.option(
    "--weights",
    type=click.Choice(["exposure_time", "integration_time", "unit", "inverse_variance"]),
    default="exposure_time",
    show_default=True,
    help="What spectra are weighted by.",
)
@click.option(
    "--sigma-clip", type=click.FloatRange(min=0, min_open=True), metavar="SIGMA",
    help="Leave out what is so many of its errors from the others; needs three spectra.",
)  # fmt: skip
@click.option(
    "--pipeline", is_flag=True, help="Do as the pipeline's combine_1d does, faults included."
)
@_EXTRACT1D
@_APCORR
@_SETTINGS
def combine(
    files: tuple[str, ...],
    output: str,
    overwrite: bool,
    weights: str,
    sigma_clip: float | None,
    pipeline: bool,
    extract1d: str | None,
    apcorr: str | None,
    settings: tuple[tuple[str, Any], ...],
) -> int:
    """Combine nods or exposures into one spectrum.

    Spectra (x1d, x1dints) are taken as they are; images (s2d, cal, calints) are extracted first,
    as glue-lrs extract does. Nothing is resampled: each element of a spectrum goes to one element
    of the common grid.

    \b
    Examples:
      glue-lrs combine nod1_x1d.fits nod2_x1d.fits -o both_c1d.fits
      glue-lrs combine nod*_s2d.fits --apcorr jwst_miri_apcorr_0010.fits -o both_c1d.fits
      glue-lrs combine *_x1d.fits --weights inverse_variance --sigma-clip 4 -o all_c1d.fits
    """
    from glue_lrs.io.c1d import combine_files

    def extracted(image: SlitImage) -> Extraction:
        path = image.path or image.label
        return _operator(image, path, extract1d, apcorr, None, dict(settings)).run(image)

    if Path(output).exists() and not overwrite:  # before the work rather than after it
        raise WriteError(f"{output}: exists, expected a new name or --overwrite")
    mode = "pipeline" if pipeline else "default"
    made = combine_files(
        files, weights=weights, sigma_clip=sigma_clip, mode=mode, extract=extracted
    )
    with _folder(Path(output).parent):
        made.write(output, overwrite=overwrite)
    lines = [
        {
            "input": one.label,
            "rows used": str(one.rows_used),
            "rows clipped": str(one.rows_clipped),
        }
        for one in made.inputs
    ]
    _echo(_table(lines))
    _echo(f"{output}: {made.wavelength.size} rows of {len(lines)} spectra")
    return OK


# --- info --------------------------------------------------------------------------------------


@main.command(short_help="Say what files are, and where their spectra will be taken.")
@_FILES
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a list with one object a file.")
@click.pass_context
def info(ctx: click.Context, files: tuple[str, ...], as_json: bool) -> int:
    """Say what files are, and where their spectra will be taken.

    Of an s2d, cal or calints: exposure, axes, wavelengths, bounding box, source, the default
    aperture where it falls on this image, bad pixels, references of the pipeline. Of an x1d or
    x1dints: its columns, how good it is, and how it was made.

    Columns and rows are pixel numbers that count from 0, and limits are inclusive: 27 to 34 are
    eight whole columns. Edges are positions, on which pixel i reaches from i - 0.5 to i + 0.5.
    Integrations count from 1. This holds for --json as well.

    \b
    Examples:
      glue-lrs info x_s2d.fits
      glue-lrs info --json *_x1d.fits
    """
    from glue_lrs.describe import describe, description

    talk = _Talk()
    found: list[dict[str, Any]] = []
    for path in files:
        notes: list[str] = []
        try:
            with _recorded(notes):
                facts = describe(path)
        except Exception as error:  # one bad file must not stop the others; it is told
            if _interrupted():
                raise
            _say_traceback(ctx, traceback.format_exc())
            talk.tell("error", path, _failure(error))
            continue
        finally:
            for note in notes:
                talk.tell("warning", path, note)
        if not as_json:
            _echo(("\n" if found else "") + description(facts, _translated))
        found.append(facts)
    talk.close()
    if as_json and found:
        _echo(json.dumps(found, indent=2))
    return OK if len(found) == len(files) else SOME_FAILED if found else FAILED


# --- reference ---------------------------------------------------------------------------------


@main.group(short_help="Show, change and check EXTRACT1D references (JSON).")
def reference() -> None:
    """Show, change and check EXTRACT1D references, the JSON files that say what is extracted.

    \b
    Examples:
      glue-lrs reference show > my.json
      glue-lrs reference edit --set xstart=25 --set xstop=36 --exp-type MIR_LRS-FIXEDSLIT -o my.json
      glue-lrs reference check my.json --image x_s2d.fits
    """


_JSON = click.argument("json_file", type=_FILE, required=False, metavar="[JSON]")
_EXP_TYPE = click.option(
    "--exp-type", metavar="ID", help="Aperture: MIR_LRS-FIXEDSLIT or MIR_LRS-SLITLESS."
)


@reference.command()
@_JSON
@_EXP_TYPE
def show(json_file: str | None, exp_type: str | None) -> None:
    """Print a reference, or the built-in one, in words that the pipeline understands.

    \b
    Examples:
      glue-lrs reference show > my.json
      glue-lrs reference show jwst_miri_extract1d_0006.json --exp-type MIR_LRS-SLITLESS
    """
    from glue_lrs.io.reference import format_reference
    from glue_lrs.reference import Reference

    found = _read_reference(json_file)
    if exp_type is not None:
        found = Reference({**found.document, "apertures": [found.entry(exp_type)]}, found.filename)
    _echo(format_reference(found.for_pipeline()), nl=False)


@reference.command()
@_JSON
@_SETTINGS
@_EXP_TYPE
@click.option(
    "--image",
    type=_FILE,
    metavar="FILE",
    help="Fold step parameters in for this image, source position included.",
)
@click.option(
    "-o", "--output", type=_FILE, metavar="FILE", help="The JSON file to write; printed without it."
)
@_OVERWRITE
@click.pass_context
def edit(
    ctx: click.Context,
    json_file: str | None,
    settings: tuple[tuple[str, Any], ...],
    exp_type: str | None,
    image: str | None,
    output: str | None,
    overwrite: bool,
) -> None:
    """Change keys of one aperture of a reference, and write it for the pipeline.

    A value null takes a key away. Step parameters that a reference has no key for
    (position_offset, subtract_background) are folded into the keys it has, where that can be: an
    offset beside a source position needs the --image whose position it is.

    \b
    Examples:
      glue-lrs reference edit --exp-type MIR_LRS-FIXEDSLIT --set xstart=25 --set xstop=36 -o my.json
      glue-lrs reference edit my.json --set position_offset=1.5 --image x_s2d.fits -o new.json
    """
    from glue_lrs.io.reference import format_reference

    if not settings:
        raise click.UsageError("nothing to change, expected --set KEY=VALUE", ctx)
    for key, value in settings:
        if key == "max_lost":
            raise click.UsageError(
                "max_lost is no key of a reference, as the pipeline does not mask rows that lost "
                f"pixels: give it where you extract, glue-lrs extract --set max_lost={value}",
                ctx,
            )
    from glue_lrs.image import SlitImage

    picture = None if image is None else SlitImage.read(image)
    if picture is not None and exp_type is None:
        exp_type = picture.exp_type
    changed = _edited(ctx, _read_reference(json_file), exp_type, dict(settings), picture)
    if output is None:
        _echo(format_reference(changed.for_pipeline()), nl=False)
        return
    changed.write(output, overwrite=overwrite)
    _echo(f"wrote {output}")


#: Step parameters that are no keys of a reference.
_STEP_ONLY = ("position_offset", "subtract_background", "apply_apcorr", "fixed_background")

#: Keys that an operator writes anew when something is folded into them; all others stay.
_FOLDED = (
    "xstart", "xstop", "ystart", "ystop", "extract_width", "src_coeff", "bkg_coeff", "bkg_fit",
    "bkg_order", "smoothing_length", "independent_var", "use_source_posn",
)  # fmt: skip


def _edited(
    ctx: click.Context,
    found: Any,
    exp_type: str | None,
    settings: dict[str, Any],
    image: SlitImage | None,
) -> Any:
    """Change keys; step parameters go through an operator, which can fold them."""
    from glue_lrs.extract import Extract1D
    from glue_lrs.reference import Reference

    ids = [str(entry["id"]) for entry in found.document["apertures"]]
    if exp_type is None:
        if len(ids) > 1:
            raise click.UsageError(
                f"there are several apertures, expected --exp-type with one of {', '.join(ids)}",
                ctx,
            )
        exp_type = ids[0]
    old = found.entry(exp_type)
    index = found.document["apertures"].index(old)
    new = {**old, **{key: value for key, value in settings.items() if key not in _STEP_ONLY}}
    new = {key: value for key, value in new.items() if value is not None or key == "bkg_fit"}
    folded = {key: value for key, value in settings.items() if key in _STEP_ONLY}

    def replaced(entry: dict[str, Any]) -> Any:
        entries = [*found.document["apertures"]]
        entries[index] = entry
        return Reference({**found.document, "apertures": entries}, found.filename)

    changed = replaced(new)
    if folded:
        with warnings.catch_warnings():  # of a correction, which no reference has
            warnings.filterwarnings("ignore", "no aperture correction", LRSWarning)
            operator = Extract1D.from_reference(changed, exp_type, **folded)
        kept = {key: new[key] for key in new if key not in _FOLDED}
        changed = replaced({**kept, **operator.to_reference(image).document["apertures"][0]})
    return changed


@reference.command()
@click.argument("json_file", type=_FILE, metavar="JSON")
@click.option(
    "--image", type=_FILE, metavar="FILE", help="Check it on this image as well, by an extraction."
)
@_EXP_TYPE
def check(json_file: str, image: str | None, exp_type: str | None) -> int:
    """Check a reference, and with --image what it does on an image.

    Prints all that was found, a line each, or "ok". Exit code 2 if there is an error in it.

    \b
    Examples:
      glue-lrs reference check my.json
      glue-lrs reference check my.json --image x_s2d.fits
    """
    from glue_lrs.image import SlitImage

    try:
        found = _read_reference(json_file)
    except ReferenceFileError as error:
        for text in _all_errors(json_file, error):
            _say_error(text)
        return FAILED
    picture = None if image is None else SlitImage.read(image)
    if picture is not None and exp_type is None:
        exp_type = picture.exp_type
    problems = [(one.level, str(one)) for one in found.check(exp_type=exp_type)]
    if picture is not None and not any(level == "error" for level, _ in problems):
        problems += _check_on_image(found, picture, exp_type)
    for level, text in problems:
        if level == "error":
            _say_error(text)
        elif level == "warning":
            _say_warning(text)
        else:
            _echo(text)
    if any(level == "error" for level, _ in problems):
        return FAILED
    if all(level == "note" for level, _ in problems):
        _echo("ok")
    return OK


def _all_errors(path: str, first: ReferenceFileError) -> list[str]:
    """All that is wrong with a reference that could not be read, of which an error names one."""
    from glue_lrs.checks import reference_errors

    try:
        document = json.loads(Path(path).expanduser().read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):  # the error has told
        return [str(first)]
    return list(dict.fromkeys([str(first), *reference_errors(document, path)]))


def _check_on_image(found: Any, image: SlitImage, exp_type: str | None) -> list[tuple[str, str]]:
    """Extract, and tell where the aperture fell and what there is to say."""
    from glue_lrs.checks import advice
    from glue_lrs.describe import summarize
    from glue_lrs.extract import Extract1D

    notes: list[str] = []
    errors: list[str] = []
    operator = None
    with _recorded(notes):
        try:
            operator = Extract1D.from_reference(
                found, exp_type or image.exp_type, apply_apcorr=False
            )
            extraction = operator.run(image)
        except LRSError as error:
            errors = [str(error), *_region_errors(image, operator)]
    if errors or operator is None:
        told = [("error", _translated(error)) for error in dict.fromkeys(errors)]
        return [*(("warning", note) for note in notes), *told]
    notes += (f"{image.label}: {_translated(text)}" for text in advice(image, operator))
    cards, placement = extraction.keywords, operator.place(image)
    where = (
        f"{image.label}: columns {cards['EXTRXSTR'] - 1:.2f} to {cards['EXTRXSTP'] - 1:.2f}, rows "
        f"{cards['EXTRYSTR'] - 1} to {cards['EXTRYSTP'] - 1} (inclusive, from 0)"
    )
    if placement.offset:
        where += f", moved by {placement.offset:+.2f}"
    if placement.position is not None:
        at = placement.position
        where += f" to the source at column {at.column:.2f} in row {at.row}"
    summary = summarize(extraction)
    where += f"; median S/N {summary['median S/N']}, {summary['lost']} rows lost"
    return [("note", where), *(("warning", note) for note in notes)]


def _region_errors(image: SlitImage, operator: Extract1D | None) -> list[str]:
    """What is wrong with background regions, which are not looked at if the aperture is wrong."""
    if operator is None or operator.background is None:
        return []
    try:
        operator.background.weights(image.wavelength, operator.place(image).background_offset)
    except LRSError as error:
        return [str(error)]
    return []


def _read_reference(path: str | None) -> Any:
    from glue_lrs.reference import Reference

    return Reference.default() if path is None else Reference.read(path)


# --- plot --------------------------------------------------------------------------------------


@main.command(short_help="Draw images with their apertures, or compare spectra.")
@_FILES
@click.option(
    "-o", "--output", type=_FILE, metavar="PNG",
    help="The picture's file (PNG, PDF, SVG, ... by its ending).",
)  # fmt: skip
@_OVERWRITE
@click.option("--show", is_flag=True, help="Open a window; nothing is written without --output.")
@click.option("--column", default="FLUX", show_default=True, help="Column of spectra to draw.")
@click.option("--integration", type=int, metavar="N", help="Integration of a stack, from 1.")
@_EXTRACT1D
@_APCORR
@_SETTINGS
@click.pass_context
def plot(
    ctx: click.Context,
    files: tuple[str, ...],
    output: str | None,
    overwrite: bool,
    show: bool,
    column: str,
    integration: int | None,
    extract1d: str | None,
    apcorr: str | None,
    settings: tuple[tuple[str, Any], ...],
) -> int:
    """Draw images with their apertures, or spectra over each other.

    An s2d, cal or calints: the image with the default aperture (or that of --extract1d and --set),
    its bounding box, three cuts across the slit, and the spectrum. One or several x1d: the spectra,
    with their ratio to the first. An x1dints: the median spectrum, the change with time, the light
    curve.

    \b
    Examples:
      glue-lrs plot x_s2d.fits --set 'bkg_coeff=[[0.5],[4.5]]' --set fixed_background=true
      glue-lrs plot mine_x1d.fits pipeline_x1d.fits -o compared.png
      glue-lrs plot x_x1d.fits --column SURF_BRIGHT --show
    """
    from glue_lrs.describe import is_spectrum
    from glue_lrs.io.x1d import read_x1d
    from glue_lrs.plot import plot_product, save

    spectra = [is_spectrum(path) for path in files]
    if any(spectra) and not all(spectra):
        odd = files[spectra.index(False)]
        raise click.UsageError(
            f"{odd} is an image and {files[spectra.index(True)]} a spectrum, expected one kind", ctx
        )
    if output is not None and not spectra[0] and len(files) > 1:
        raise click.UsageError(f"--output names one file, but there are {len(files)} images", ctx)
    if integration is not None and integration < 1:
        raise click.UsageError(f"--integration is {integration}, expected 1 or more", ctx)
    if spectra[0] and (extract1d or apcorr or settings):
        raise click.UsageError(
            "--extract1d, --apcorr and --set are for images, not for spectra", ctx
        )
    targets: list[str | None] = [None] * len(files)
    if not show or output is not None:
        pictures = files[:1] if spectra[0] else files
        targets[: len(pictures)] = [output] if output is not None else _pictures(ctx, pictures)
    for target in filter(None, targets):
        if Path(target).exists() and not overwrite:
            raise WriteError(f"{target}: exists, expected a new name or --overwrite")
    drawn: list[Any] = []
    if spectra[0]:
        found = [(path, one) for path in files for one in read_x1d(path)]
        _check_integration(integration, [(path, _integrations(one)) for path, one in found])
        drawn.append(_draw_spectra(found, column, integration, _figure(show)))
    else:
        for path in files:
            image, operator = _image_and_operator(path, extract1d, apcorr, dict(settings))
            number = image.data.shape[0] if image.is_stack else None
            _check_integration(integration, [(path, number)])
            figure = plot_product(
                image,
                operator,
                operator.run(image),
                integration=None if integration is None else integration - 1,
                figure=_figure(show),
                title=Path(path).name,
            )
            drawn.append(figure)
    for figure, picture in zip(drawn, targets, strict=False):
        if picture is not None:
            save(figure, picture, overwrite=overwrite)
            _echo(f"wrote {picture}")
    if show:
        from matplotlib import pyplot

        pyplot.show()
    return OK


def _pictures(ctx: click.Context, paths: Sequence[str]) -> list[str]:
    """Names of pictures: those of the files, with their folders' in front where they are alike."""
    stems = [_stem(path) for path in map(os.path.abspath, paths)]
    names = [Path(stem).name for stem in stems]
    for depth in range(2, max(len(Path(stem).parts) for stem in stems) + 1):
        alike = {name for name in names if names.count(name) > 1}
        names = [
            "_".join(part for part in Path(stem).parts[-depth:] if part != os.sep)
            if name in alike
            else name
            for stem, name in zip(stems, names, strict=True)
        ]
    again = next((name for name in names if names.count(name) > 1), None)
    if again is not None:
        first, second, *_ = (p for p, name in zip(paths, names, strict=True) if name == again)
        if os.path.realpath(first) == os.path.realpath(second):
            raise click.UsageError(f"{first} is given twice", ctx)
        raise click.UsageError(
            f"{first} and {second} both give {again}.png, expected different names", ctx
        )
    return [f"{name}.png" for name in names]


def _integrations(extraction: Extraction) -> int | None:
    return extraction.columns["FLUX"].shape[0] if extraction.is_stack else None


def _check_integration(integration: int | None, stacks: Sequence[tuple[str, int | None]]) -> None:
    """Refuse an integration that one of the stacks does not have; it counts from 1."""
    if integration is None:
        return
    for path, number in stacks:
        if number is not None and integration > number:
            raise LRSError(f"{path}: --integration is {integration}, expected 1 to {number}")
    if all(number is None for _, number in stacks):
        raise LRSError(
            f"{stacks[0][0]}: is no stack of integrations, --integration {integration} has no "
            "meaning for it"
        )


def _figure(show: bool) -> Figure | None:
    """A figure of pyplot, which can open a window, or None for one that cannot."""
    if not show:
        return None
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(13.0, 8.0), layout="constrained")
    if figure.canvas.required_interactive_framework is None:
        pyplot.close(figure)
        raise LRSError(
            f"--show: Matplotlib's backend {pyplot.get_backend()!r} opens no windows, expected a "
            "display and a GUI toolkit such as Qt (or use --output)"
        )
    return figure


def _draw_spectra(
    found: Sequence[tuple[str, Extraction]],
    column: str,
    integration: int | None,
    figure: Figure | None,
) -> Figure:
    from glue_lrs.plot import plot_comparison, plot_extraction, plot_stack

    if len(found) == 1:
        path, only = found[0]
        title = Path(path).name
        if only.is_stack and integration is None and only.columns["FLUX"].shape[0] > 1:
            return plot_stack(only, column=column, figure=figure, title=title)
        if column.upper() == "FLUX":
            return plot_extraction(
                only, integration=(integration or 1) - 1, figure=figure, title=title
            )
    return plot_comparison(
        dict(zip(_labels([path for path, _ in found]), (one for _, one in found), strict=True)),
        column=column,
        integration=None if integration is None else integration - 1,
        figure=figure,
    )


def _labels(paths: Sequence[str]) -> list[str]:
    """Names that tell files apart: without the folder where that is enough."""
    names = [Path(path).name for path in paths]
    names = list(paths) if len(set(names)) < len(set(paths)) else names
    again = {name for name in names if names.count(name) > 1}
    return [
        f"{name} #{names[:i].count(name) + 1}" if name in again else name
        for i, name in enumerate(names)
    ]


def _image_and_operator(
    path: str, extract1d: str | None, apcorr: str | None, settings: dict[str, Any]
) -> tuple[SlitImage, Extract1D]:
    from glue_lrs.extract import Extract1D
    from glue_lrs.image import SlitImage

    image = SlitImage.read(path)
    if apcorr is None:  # a picture is drawn, no flux is given: nothing to be warned of
        settings = {"apply_apcorr": False, **settings}
    correction = _correction(image, apcorr, settings)
    return image, Extract1D.from_reference(extract1d, image.exp_type, apcorr=correction, **settings)


# --- view --------------------------------------------------------------------------------------


@main.command(short_help="Draw the aperture by hand, in glue, and watch the spectrum.")
@_FILES
@click.option(
    "--screenshot", type=_FILE, metavar="PNG",
    help="Draw the window into a picture, without a screen, and exit.",
)  # fmt: skip
@_OVERWRITE
def view(files: tuple[str, ...], screenshot: str | None, overwrite: bool) -> int:
    """Draw the aperture by hand, in glue, and watch the spectrum.

    Each s2d, cal or calints opens in a tab: the image with the aperture at the source, the
    spectrum, a cut across the slit, and a panel. Drag edges; save what you see as an x1d and as an
    EXTRACT1D reference. An x1d beside an image is what its spectrum is compared with. A glue
    session (.glu) opens as it was saved.

    It takes glue's desktop: pip install 'glue-lrs[qt]'.

    \b
    Examples:
      glue-lrs view x_s2d.fits
      glue-lrs view x_s2d.fits x_x1d.fits
      glue-lrs view x_s2d.fits --screenshot view.png
    """
    from glue_lrs.viewers.qt.app import view as start

    return start(files, screenshot, overwrite=overwrite)


# --- demo --------------------------------------------------------------------------------------


@main.command(short_help="See it all at work, on simulated files whose truth is known.")
@click.option(
    "--output-dir",
    type=_FOLDER,
    default="glue-lrs-demo",
    show_default=True,
    metavar="DIR",
    help="Where to write.",
)
@_OVERWRITE
def demo(output_dir: str, overwrite: bool) -> None:
    """See it all at work, on simulated files whose truth is known.

    Simulates a supernova in the slit (two nods, and both combined) and a slitless time series, as
    files that the pipeline takes as well; extracts them in the five ways that every LRS user knows
    from STScI's notebook; writes spectra, references and pictures; and prints how each compares
    with the truth. It needs no network and takes some seconds.

    \b
    Example:
      glue-lrs demo --output-dir demo
    """
    from glue_lrs.demo import run_demo

    with _folder(Path(output_dir)):
        result = run_demo(output_dir, overwrite=overwrite, tell=lambda text: _echo(text, err=True))
    _echo(_table(result.lines))
    _echo("between 5 and 12 um; fluxes with a bad pixel in the aperture are counted and left out\n")
    _echo(result.advice)


if __name__ == "__main__":
    main()
