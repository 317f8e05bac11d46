"""The command ``glue-lrs extract``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from glue_lrs._utils.interrupt import EXIT_CODE
from glue_lrs.cli.console import (
    FAILED,
    OK,
    SOME_FAILED,
    Reporter,
    collect_warnings,
    echo,
    error_text,
    interrupted,
    say_traceback,
    table_text,
)
from glue_lrs.cli.options import (
    APCORR,
    EXTRACT1D,
    FILES,
    FITS,
    FOLDER,
    OVERWRITE,
    PSF,
    SETTINGS,
    context_name,
)
from glue_lrs.cli.program import main
from glue_lrs.cli.tasks import (
    base_name,
    check_outputs,
    created_folder,
    extract_with_model,
    operator_from_options,
    plot_extracted,
)
from glue_lrs.errors import warn

#: Suffixes of pipeline products, and the suffixes of the spectra that are extracted from them.
_SUFFIXES = {
    "s2d": "x1d", "cal": "x1d", "crf": "x1d", "bsub": "x1d",
    "calints": "x1dints", "crfints": "x1dints", "bsubints": "x1dints",
}  # fmt: skip


@dataclass(frozen=True)
class _Job:
    """A file to extract, with all options; it can be pickled for another process."""

    path: str
    output: str
    plot: str | None
    reference: str | None
    apcorr: str | None
    psf: str | None
    crds: str | None
    settings: dict[str, Any]
    overwrite: bool


@dataclass(frozen=True)
class _Outcome:
    """Result of a job: messages and a row of the summary table, or an error."""

    job: _Job
    notes: list[str] = field(default_factory=list)
    summary: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    error: str | None = None
    trace: str = ""


@main.command(short_help="Extract spectra from s2d, cal and calints files.")
@FILES
@EXTRACT1D
@APCORR
@PSF
@SETTINGS
@click.option(
    "--crds", is_flag=False, flag_value="", metavar="[CONTEXT]", callback=context_name,
    help="Use the best references of CRDS unless --extract1d, --apcorr or --psf are given.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=FITS, metavar="FILE", help="File of the spectrum, for a single input."
)
@click.option(
    "--output-dir", type=FOLDER, metavar="DIR", help="Output folder; created if it does not exist."
)
@OVERWRITE
@click.option(
    "--plot", "plotted", is_flag=True, help="Plot each spectrum (PNG next to the output)."
)
@click.option(
    "-j", "--jobs", default=1, show_default=True, metavar="N",
    help="Number of processes; -1 for the number of processors.",
)  # fmt: skip
@click.pass_context
def extract(
    ctx: click.Context,
    files: tuple[str, ...],
    extract1d: str | None,
    apcorr: str | None,
    psf: str | None,
    settings: tuple[tuple[str, Any], ...],
    crds: str | None,
    output: str | None,
    output_dir: str | None,
    overwrite: bool,
    plotted: bool,
    jobs: int,
) -> int:
    """Extract spectra from s2d, cal and calints files.

    x_s2d.fits and x_cal.fits become x_x1d.fits, and x_calints.fits becomes x_x1dints.fits, in the
    current folder like in the pipeline step, or in --output-dir. Existing files are replaced only
    with --overwrite. If a file fails, the others are still extracted.

    The table at the end lists for each file the aperture (first and last column, inclusive, counted
    from 0; mean values if it varies along the rows), its shift in columns, the number of rows
    without a usable flux, and the number of warnings. For an optimal extraction, the sources fitted
    simultaneously and the number of rejected pixels follow.

    The default reference is the built-in one: on the slit, the aperture of a point source moves to
    the source position in the header, and background regions move along unless
    --set fixed_background=true. --set max_lost=0.1 masks rows that lost more than a tenth of the
    aperture to bad pixels, --set bad_pixels=profile restores their flux from the spatial profile.

    --set extraction_type=optimal weights the pixels with the spatial profile of a point source,
    which is fitted to the image. With --psf or --crds it reproduces the optimal extraction of the
    pipeline with that PSF reference; --set optimal_mode=psf uses the profile of the reference, but
    improves its fit.

    \b
    Exit code: 0 all extracted, 1 some files failed, 2 all failed or wrong usage.

    \b
    Examples:
      glue-lrs extract jw*_s2d.fits --output-dir spectra --plot
      glue-lrs extract x_s2d.fits --set xstart=25 --set xstop=36 --set use_source_posn=false
      glue-lrs extract x_s2d.fits --set 'bkg_coeff=[[0.5],[4.5]]' --set fixed_background=true
      glue-lrs extract x_calints.fits --extract1d my.json --apcorr jwst_miri_apcorr_0010.fits
      glue-lrs extract x_s2d.fits --set extraction_type=optimal --plot
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
            plot=f"{base_name(target)}.png" if plotted else None,
            reference=extract1d,
            apcorr=apcorr,
            psf=psf,
            crds=crds,
            settings=dict(settings),
            overwrite=overwrite,
        )
        for path, target in ((path, output or _output_name(path, output_dir)) for path in files)
    ]
    _check_targets(ctx, planned, [*files, *filter(None, (extract1d, apcorr, psf))])
    outcomes = _run_all(ctx, planned, jobs)
    failed = sum(outcome.error is not None for outcome in outcomes)
    if failed < len(outcomes):
        echo(table_text([outcome.summary for outcome in outcomes if outcome.error is None]))
        for outcome in outcomes:
            for remark in outcome.remarks:
                echo(f"{outcome.summary['file']}: {remark}")
    if failed and len(outcomes) > 1:
        echo(f"{failed} of {len(outcomes)} files failed", err=True)
    return OK if not failed else FAILED if failed == len(outcomes) else SOME_FAILED


def _output_name(path: str, folder: str | None) -> str:
    stem = base_name(Path(path).name)
    base, _, suffix = stem.rpartition("_")
    name = (
        f"{base}_{_SUFFIXES[suffix.lower()]}"
        if suffix.lower() in _SUFFIXES and base
        else f"{stem}_x1d"
    )
    return str(Path(folder or "") / f"{name}.fits")


def _check_targets(ctx: click.Context, jobs: Sequence[_Job], inputs: Sequence[str]) -> None:
    """Raise `click.UsageError` if an output would replace an input or another output."""
    taken = {os.path.realpath(path): path for path in inputs}
    sources: dict[str, str] = {}
    for job in jobs:
        for target in filter(None, (job.output, job.plot)):
            real = os.path.realpath(target)
            if real in taken:
                raise click.UsageError(
                    f"the output {target} would replace the input {taken[real]}", ctx
                )
            if real in sources:
                raise click.UsageError(
                    f"{sources[real]} and {job.path} both give {target}, expected different names "
                    "(extract them to different folders with --output-dir)",
                    ctx,
                )
            sources[real] = job.path


def _run_all(ctx: click.Context, planned: Sequence[_Job], jobs: int) -> list[_Outcome]:
    """Extract all files, in this process or in others, and print messages as they arrive."""
    from tqdm import tqdm

    outcomes: list[_Outcome] = []
    reporter = Reporter()
    # With None, tqdm shows a progress bar only if stderr is a terminal.
    hide = True if len(planned) == 1 else None
    with tqdm(total=len(planned), disable=hide, unit="file", leave=False) as bar:
        for outcome in _stream(planned, jobs):
            with tqdm.external_write_mode(file=sys.stderr):
                for note in outcome.notes:
                    reporter.report("warning", outcome.job.path, note)
                if outcome.error is not None:
                    say_traceback(ctx, outcome.trace)
                    reporter.report("error", outcome.job.path, outcome.error)
            outcomes.append(outcome)
            bar.update()
    reporter.close()
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
    context = get_context("spawn")  # a fork would copy locks held by threads
    executor = ProcessPoolExecutor(workers, context, _Worker.start)
    try:
        with _without_interrupts():  # the new processes inherit this state
            futures = [executor.submit(_Worker.extract, job) for job in planned]
        for job, future in zip(planned, futures, strict=True):
            try:
                outcome = future.result()
            except BrokenProcessPool:
                text = "a process was killed, perhaps for lack of memory; try fewer --jobs"
                outcome = _Outcome(job, error=text)
            yield outcome
    except BaseException:
        with _without_interrupts():  # an interrupt here would leave some processes running
            for process in active_children():
                if process not in others:
                    process.terminate()
        raise
    finally:
        with _without_interrupts():
            executor.shutdown(wait=True, cancel_futures=True)


class _Worker:
    """State and functions of a process that extracts files.

    When the process is terminated, it removes partial files first.
    """

    working = False
    #: Number of termination signals received.
    terminations = 0

    @classmethod
    def start(cls) -> None:
        """Ignore Ctrl-C, because the parent process handles it; handle termination with `end`."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, cls.end)

    @classmethod
    def end(cls, *_: Any) -> None:
        """Abort the file that is being extracted, or exit if there is none."""
        cls.terminations += 1
        if not cls.working:
            sys.exit(EXIT_CODE)
        if cls.terminations == 1:
            raise KeyboardInterrupt

    @classmethod
    def extract(cls, job: _Job) -> _Outcome:
        """Extract a file, unless the process was told to terminate."""
        if cls.terminations:
            return _Outcome(job, error="interrupted")
        cls.working = True
        try:
            return _extract_one(job)
        finally:
            cls.working = False
            if cls.terminations > 1:  # another signal arrived while the file was aborted
                os._exit(EXIT_CODE)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Defer Ctrl-C to the end of a block; processes that are started in it never receive Ctrl-C."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # starting it inside the block would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _extract_one(job: _Job) -> _Outcome:
    notes: list[str] = []
    try:
        with collect_warnings(notes):
            summary, remarks = _extract_and_write(job)
    except Exception as error:  # an error in a file must not stop the other files
        if interrupted() or _Worker.terminations:
            raise KeyboardInterrupt from None
        return _Outcome(job, notes, error=error_text(error), trace=traceback.format_exc())
    summary["warnings"] = str(len(notes) or "-")
    return _Outcome(job, notes, {**summary, "output": job.output}, remarks)


def _extract_and_write(job: _Job) -> tuple[dict[str, str], list[str]]:
    from glue_lrs.cli.summary import summarize
    from glue_lrs.extraction.advice import advice
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.plotting import save

    check_outputs((job.output, job.plot), job.overwrite)
    image = SlitImage.read(job.path)
    operator = operator_from_options(
        image, job.path, job.reference, job.apcorr, job.psf, job.crds, job.settings
    )
    extraction, result = extract_with_model(operator, image)
    for note in advice(image, operator):
        warn(note)
    figure = None
    if job.plot is not None:
        figure = plot_extracted(image, operator, extraction, result, title=Path(job.output).name)
    with created_folder(Path(job.output).parent):
        extraction.write(job.output, overwrite=job.overwrite)
        if figure is not None and job.plot is not None:
            save(figure, job.plot, overwrite=job.overwrite)
    remarks = [] if result is None else result.remarks
    return {"file": Path(job.path).name, **summarize(extraction)}, remarks
