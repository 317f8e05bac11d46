"""The command ``glue-lrs extract``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
import warnings
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
    echo,
    failure,
    interrupted,
    recorded,
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
from glue_lrs.cli.tasks import base_name, drawn, extracted, folder_made, operator_for
from glue_lrs.errors import LRSWarning, WriteError

#: The endings of pipeline products and what replaces them in the name of a spectrum.
_ENDINGS = {
    "s2d": "x1d", "cal": "x1d", "crf": "x1d", "bsub": "x1d",
    "calints": "x1dints", "crfints": "x1dints", "bsubints": "x1dints",
}  # fmt: skip


@dataclass(frozen=True)
class _Job:
    """One file to extract. It can be sent to another process."""

    path: str
    output: str
    picture: str | None
    reference: str | None
    apcorr: str | None
    psf: str | None
    crds: str | None
    settings: dict[str, Any]
    overwrite: bool


@dataclass(frozen=True)
class _Outcome:
    """What became of a job."""

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
    help="Take from CRDS what --extract1d, --apcorr and --psf do not give.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=FITS, metavar="FILE", help="The spectrum's file, for a single input."
)
@click.option(
    "--output-dir", type=FOLDER, metavar="DIR", help="Folder of the output; made if there is none."
)
@OVERWRITE
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
    psf: str | None,
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
    have no usable flux, and how many warnings there were. Below it, of an optimal extraction: what
    was fitted together with the source, and how many pixels were rejected.

    Without --extract1d the built-in reference is used: on the slit, for a point source, the
    aperture moves to where the header puts the source, and background regions move along unless
    --set fixed_background=true. --set max_lost=0.1 masks rows that lost more than a tenth of the
    aperture to bad pixels, --set bad_pixels=profile makes up for their light.

    --set extraction_type=optimal weights the pixels with the profile of a point source, which is
    learned from the image. With --psf or --crds it does what the pipeline does with that PSF
    reference; --set optimal_mode=psf takes the reference's profile, but fits it better.

    \b
    Exit code: 0 all extracted, 1 some files failed, 2 all failed or bad usage.

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
            picture=f"{base_name(target)}.png" if picture else None,
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
    base, _, ending = stem.rpartition("_")
    name = (
        f"{base}_{_ENDINGS[ending.lower()]}"
        if ending.lower() in _ENDINGS and base
        else f"{stem}_x1d"
    )
    return str(Path(folder or "") / f"{name}.fits")


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
    console = Reporter()
    # None: no bar where stderr is not a terminal.
    hide = True if len(planned) == 1 else None
    with tqdm(total=len(planned), disable=hide, unit="file", leave=False) as bar:
        for outcome in _stream(planned, jobs):
            with tqdm.external_write_mode(file=sys.stderr):
                for note in outcome.notes:
                    console.report("warning", outcome.job.path, note)
                if outcome.error is not None:
                    say_traceback(ctx, outcome.trace)
                    console.report("error", outcome.job.path, outcome.error)
            outcomes.append(outcome)
            bar.update()
    console.close()
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
        with recorded(notes):
            summary, remarks = _extract_and_write(job)
    except Exception as error:  # one bad file must not stop the others; it is told
        if interrupted() or _Worker.told:
            raise KeyboardInterrupt from None
        return _Outcome(job, notes, error=failure(error), trace=traceback.format_exc())
    summary["warnings"] = str(len(notes) or "-")
    return _Outcome(job, notes, {**summary, "output": job.output}, remarks)


def _extract_and_write(job: _Job) -> tuple[dict[str, str], list[str]]:
    from glue_lrs.cli.summary import summarize
    from glue_lrs.extraction.advice import advice
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.plotting.style import save

    targets = [Path(target) for target in (job.output, job.picture) if target is not None]
    for target in targets:  # before the work rather than after it
        if target.exists() and not job.overwrite:
            raise WriteError(f"{target}: exists, expected a new name or --overwrite")
    image = SlitImage.read(job.path)
    operator = operator_for(
        image, job.path, job.reference, job.apcorr, job.psf, job.crds, job.settings
    )
    extraction, result = extracted(operator, image)
    for text in advice(image, operator):
        warnings.warn(text, LRSWarning, stacklevel=2)
    figure = None
    if job.picture is not None:
        figure = drawn(image, operator, extraction, result, title=Path(job.output).name)
    with folder_made(targets[0].parent):
        extraction.write(job.output, overwrite=job.overwrite)
        if figure is not None and job.picture is not None:
            save(figure, job.picture, overwrite=job.overwrite)
    remarks = [] if result is None else result.remarks
    return {"file": Path(job.path).name, **summarize(extraction)}, remarks
