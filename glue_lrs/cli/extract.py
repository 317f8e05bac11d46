"""The command ``glue-lrs extract``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import click

from glue_lrs._utils.interrupt import EXIT_CODE
from glue_lrs.cli import console, options, tasks
from glue_lrs.cli.program import main
from glue_lrs.errors import LRSWarning, escaped, quoted, warn

#: Suffixes of pipeline products, and the suffixes of the spectra that are extracted from them.
_SUFFIXES = {
    "s2d": "x1d", "cal": "x1d", "crf": "x1d", "bsub": "x1d",
    "calints": "x1dints", "crfints": "x1dints", "bsubints": "x1dints",
}  # fmt: skip

#: Time in seconds in which a process whose parent has ended may remove its temporary file.
_GRACE = 10.0

#: Largest number of processes. Each takes about 200 MB of memory.
_MOST_JOBS = 1024


@dataclass(frozen=True)
class _Job:
    """File to extract, with all options. A job can be pickled for another process.

    If `segments` are given, they are the files, and `path` is the first of them.
    """

    path: str
    output: str
    plot: str | None
    recipe: options.RecipeOptions
    crds: str | None
    overwrite: bool
    segments: tuple[str, ...] = ()


class _Extracted(NamedTuple):
    """Row of the summary table, remarks on the fit, and findings."""

    row: dict[str, str]
    remarks: list[str]
    findings: list[console.Note]


#: Outcome of a file. Its notes include the findings.
_Outcome: TypeAlias = console.Outcome[_Extracted]


@main.command(short_help="Extract spectra from s2d, cal and calints files.")
@options.FILES
@options.recipe_options
@click.option(
    "--crds", is_flag=False, flag_value="", metavar="[CONTEXT]", callback=options.context_name,
    help="Use the best references from CRDS where --extract1d, --apcorr or --psf is not given.",
)  # fmt: skip
@click.option(
    "-o",
    "--output",
    type=options.FITS,
    metavar="FILE",
    help="Output file for the spectrum of a single input, or of the segments of an exposure, which "
    "are then extracted together.",
)
@click.option(
    "--output-dir",
    type=options.FOLDER,
    metavar="DIR",
    help="Output folder; created if it does not exist.",
)
@options.OVERWRITE
@click.option(
    "--plot", "plotted", is_flag=True, help="Plot each spectrum (PNG next to the output)."
)
@click.option(
    "-j", "--jobs", default=1, show_default=True, metavar="N",
    help="Number of processes; -1 for the number of processors.",
)  # fmt: skip
@options.reporting_options
def extract(
    files: tuple[str, ...],
    recipe: options.RecipeOptions,
    crds: str | None,
    output: str | None,
    output_dir: str | None,
    overwrite: bool,
    plotted: bool,
    jobs: int,
    reporting: console.Reporting,
) -> int:
    """Extract spectra from s2d, cal and calints files.

    The spectrum from x_s2d.fits or x_cal.fits is written to x_x1d.fits, and that from
    x_calints.fits to x_x1dints.fits, in the current folder or in --output-dir. Existing files are
    replaced only with --overwrite. If a file fails, the other files are still extracted.

    The segments of a time series (x-seg001_calints.fits, ...) are extracted one by one, to a file
    each, as in the pipeline. Other commands and Spectrum.read take these files as one time series.
    With --output, the segments are extracted together to one x1dints, with one aperture and, in an
    optimal extraction, one profile; memory is needed for the spectra only.

    The table at the end lists for each file the aperture (first and last column, inclusive, counted
    from 0, averaged over the rows), the shift of the aperture in columns, the number of rows
    without a usable flux, and the number of warnings and errors. For an optimal extraction, further
    lines list the sources fitted simultaneously and the number of rejected pixels.

    Without --extract1d, the built-in reference is used. In the slit, its aperture for a point
    source is moved to the source position in the header. The background regions are moved by the
    same amount, except with --set fixed_background=true. --set aperture=measured places the
    aperture on the measured trace instead. --set background=auto places background regions beside
    the source, clear of other sources and of hot columns. --set max_lost=0.1 masks
    rows that lose more than a tenth of the aperture to bad pixels. --set bad_pixels=profile
    restores the flux in bad pixels from the spatial profile. --set filled_pixels=lost also treats
    those as bad that the pipeline filled in from their neighbours when it resampled the image.
    --set correction=profile
    derives the aperture correction of a point source from its profile and position in the image,
    and scales it to --apcorr. --set time_outliers=replace replaces pixels of a time series that
    deviate from the other integrations, such as those hit by a cosmic ray. --set drift=correct
    corrects the flux of a time series for light that moves out of the aperture, and
    --set hot_pixels=lost leaves out pixels that are too bright in all integrations.

    --set noise=nod adds the noise of the other nods, which the pipeline subtracts without including
    its variance in the errors. --nods names their files; without them, the noise is derived from
    columns without sources.

    --set extraction_type=optimal weights the pixels with the spatial profile of a point source,
    which is fitted to the image. With a PSF reference (--psf or --crds), it reproduces the optimal
    extraction of the pipeline. --set optimal_mode=psf also uses the profile from the PSF reference,
    but improves on the fit of the pipeline.

    Each spectrum is checked: is the aperture on the source, is the background subtracted, are
    pixels missing? Warnings and errors are printed, and all findings recorded in the output.

    \b
    Exit code: 0 if all files are extracted, 1 if some fail, 2 if all fail or for wrong usage. With
    --strict, 1 also if there are warnings or errors.

    \b
    Examples:
      glue-lrs extract jw*_s2d.fits --output-dir spectra --plot
      glue-lrs extract x_s2d.fits --set xstart=25 --set xstop=36 --set use_source_posn=false
      glue-lrs extract x_s2d.fits --set 'bkg_coeff=[[0.5],[4.5]]' --set fixed_background=true
      glue-lrs extract x_calints.fits --extract1d my.json --apcorr jwst_miri_apcorr_0010.fits
      glue-lrs extract x_s2d.fits --set extraction_type=optimal --plot
      glue-lrs extract x-seg*_calints.fits --output x_x1dints.fits
    """
    if output is not None and output_dir is not None:
        raise click.UsageError("--output and --output-dir exclude each other")
    if jobs == 0 or jobs < -1:
        raise click.UsageError(f"--jobs is {jobs}, expected 1 or more, or -1 for all processors")
    if jobs > _MOST_JOBS:
        raise click.UsageError(f"--jobs is {quoted(jobs)}, expected at most {_MOST_JOBS}")
    tasks.check_folders([output])
    planned = []
    together = output is not None and len(files) > 1
    if together:
        _check_segments(files)
    for path in files[:1] if together else files:
        target = output or _output_name(path, output_dir)
        picture = f"{tasks.base_name(target)}.png" if plotted else None
        segments = files if together else ()
        planned.append(_Job(path, target, picture, recipe, crds, overwrite, segments))
    _check_targets(planned, [*files, *recipe.files])
    rows: list[dict[str, str]] = []
    lines: list[str] = []
    reporter = console.Reporter(reporting)
    for job, outcome in zip(planned, _run_all(planned, jobs, reporter), strict=True):
        if outcome.result is not None:
            row, remarks, _ = outcome.result
            count = str(sum(map(console.is_serious, outcome.notes)) or "-")
            rows.append({**row, "warnings": count, "output": job.output})
            lines += [f"{row['file']}: {remark}" for remark in remarks]
    if rows:
        console.echo("\n".join([console.table_text(rows), *map(escaped, lines)]), lines=True)
    if len(rows) < len(planned) > 1:
        console.echo(f"{len(planned) - len(rows)} of {len(planned)} files failed", err=True)
    return reporter.exit_code(len(rows), len(planned))


def _check_segments(files: Sequence[str]) -> None:
    """Raise `click.UsageError` if files that are to be extracted together are not calints."""
    from glue_lrs.io.identify import identify_product

    other = next((path for path in files if identify_product(path) != "calints"), None)
    if other is not None:
        raise click.UsageError(
            f"--output names one file, but there are {len(files)}, and {other} is not a segment of "
            "an exposure (calints)"
        )


def _output_name(path: str, folder: str | None) -> str:
    """Return the output path, whose name is that of the image with the suffix of a spectrum."""
    stem = tasks.base_name(Path(path).name)
    base, _, suffix = stem.rpartition("_")
    product = _SUFFIXES.get(suffix.lower()) if base else None
    name = f"{stem}_x1d" if product is None else f"{base}_{product}"
    return str(Path(folder or "") / f"{name}.fits")


def _check_targets(jobs: Sequence[_Job], inputs: Sequence[str]) -> None:
    """Raise `click.UsageError` if an output would replace an input or another output."""
    sources: dict[str, str] = {}
    for job in jobs:
        targets = [target for target in (job.output, job.plot) if target is not None]
        tasks.check_inputs_kept(targets, inputs)
        for target in targets:
            real = os.path.realpath(target)
            if real in sources:
                raise click.UsageError(
                    f"{sources[real]} and {job.path} both give {target}, expected different names "
                    "(extract them to different folders with --output-dir)"
                )
            sources[real] = job.path


def _run_all(planned: Sequence[_Job], jobs: int, reporter: console.Reporter) -> list[_Outcome]:
    """Extract all files in one or several processes, and print the messages of each file."""
    from tqdm import tqdm

    outcomes: list[_Outcome] = []
    # With None, tqdm shows a progress bar only if stderr is a terminal.
    hide = True if len(planned) == 1 else None
    with tqdm(total=len(planned), disable=hide, unit="file", leave=False) as bar:
        for outcome in _stream(planned, jobs):
            with tqdm.external_write_mode(file=sys.stderr):
                reporter.report(outcome)
            outcomes.append(outcome)
            bar.update()
    reporter.close()
    return outcomes


def _stream(planned: Sequence[_Job], jobs: int) -> Iterator[_Outcome]:
    """Extract all files in `jobs` processes, and yield the outcome for each file in order."""
    if jobs == 1 or len(planned) == 1:
        for job in planned:
            yield _attempt(job)
        return
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import active_children, get_context

    others = active_children()
    workers = min(len(planned), jobs if jobs > 0 else os.cpu_count() or 1)
    context = get_context("spawn")  # a fork would copy locks that threads hold
    executor = ProcessPoolExecutor(workers, context, _Worker.start)
    try:
        with _without_interrupts():  # the new processes inherit the blocked SIGINT
            futures = [executor.submit(_Worker.extract, job) for job in planned]
        for job, future in zip(planned, futures, strict=True):
            try:
                outcome = future.result()
            except BrokenProcessPool:
                text = "a process was killed, perhaps for lack of memory; try fewer --jobs"
                outcome = console.Outcome(job.path, error=text)
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
    """State and signal handling of a process that extracts files.

    The process removes partial files before it terminates.
    """

    #: Whether a file is being extracted.
    working = False
    #: Number of termination signals received.
    terminations = 0

    @classmethod
    def start(cls) -> None:
        """Install the signal handlers, and end this process when its parent has ended.

        Ctrl-C and SIGHUP are ignored, because the parent process handles them. SIGTERM is handled
        by `end`.
        """
        for number in {signal.SIGINT, *console.TERMINATIONS} - {signal.SIGTERM}:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, cls.end)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        threading.Thread(target=cls.follow_parent, daemon=True).start()

    @classmethod
    def follow_parent(cls) -> None:
        """Wait until the parent process has ended or was killed, and then end this process."""
        from multiprocessing import parent_process

        parent = parent_process()
        if parent is None:
            return
        parent.join()
        main_thread = threading.main_thread().ident
        if cls.working and main_thread is not None and hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main_thread, signal.SIGTERM)  # see `end`
            end = time.monotonic() + _GRACE
            while cls.working and time.monotonic() < end:
                time.sleep(0.1)
        os._exit(EXIT_CODE)

    @classmethod
    def end(cls, *_: Any) -> None:
        """Abort the current extraction, or exit if no file is being extracted."""
        cls.terminations += 1
        if not cls.working:
            sys.exit(EXIT_CODE)
        if cls.terminations == 1:
            raise KeyboardInterrupt

    @classmethod
    def extract(cls, job: _Job) -> _Outcome:
        """Extract a file, unless the process has received a termination signal."""
        if cls.terminations:
            return console.Outcome(job.path, error="interrupted")
        cls.working = True
        try:
            return _attempt(job)
        finally:
            cls.working = False
            if cls.terminations > 1:  # another signal arrived while the extraction was aborted
                os._exit(EXIT_CODE)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Defer Ctrl-C and terminations to the end of a block, and in processes that it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # starting it inside the block would unblock the signal
    signals = {signal.SIGINT, *console.TERMINATIONS}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _attempt(job: _Job) -> _Outcome:
    """Extract an image, and return the result or the error, with findings among the notes."""
    outcome = console.attempt(job.path, _extract, job)
    found = [] if outcome.result is None else outcome.result.findings
    return replace(outcome, notes=[*outcome.notes, *found])


def _extract(job: _Job) -> _Extracted:
    """Extract an image, write and plot the spectrum, and return a table row and remarks."""
    from glue_lrs.cli.summary import summarize
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.plotting import save

    image = SlitImage.read(list(job.segments) or job.path)
    operator = tasks.operator_from_options(image, _with_best_references(job))
    tasks.check_outputs((job.output, job.plot), job.overwrite)
    extraction, result = tasks.extract_and_check(operator, image)
    figure, output = None, Path(job.output)
    if job.plot is not None:
        figure = tasks.plot_extracted(image, operator, extraction, result, title=output.name)
    with tasks.created_folder(output.parent):
        extraction.write(job.output, overwrite=job.overwrite)
        if figure is not None and job.plot is not None:
            save(figure, job.plot, overwrite=job.overwrite)
    row = {"file": Path(image.label).name, **summarize(extraction)}
    findings = console.finding_notes(tasks.new_findings(image, extraction.findings))
    return _Extracted(row, [] if result is None else result.remarks, findings)


def _with_best_references(job: _Job) -> options.RecipeOptions:
    """Return the options of a job, completed with the best references from CRDS if requested."""
    recipe, settings = job.recipe, job.recipe.settings
    fitted = (
        settings.get("extraction_type") == "optimal"
        or settings.get("bad_pixels") is not None
        or settings.get("correction") == "profile"
    )
    needs_psf = recipe.psf is None and fitted
    if job.crds is None or not (needs_psf or recipe.extract1d is None or recipe.apcorr is None):
        return recipe
    from glue_lrs.io.crds import best_references

    best = best_references(job.path, job.crds or None)
    if needs_psf and best["psf"] is None:
        text = "CRDS has no PSF reference for this file; the profile is fitted to the image"
        warn(LRSWarning(text))
    return replace(
        recipe,
        extract1d=recipe.extract1d or best["extract1d"],
        apcorr=recipe.apcorr or best["apcorr"],
        psf=best["psf"] if needs_psf else recipe.psf,
    )
