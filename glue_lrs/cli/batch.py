"""Processing of many files: in this process, in others, or on a cluster; and their manifest."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

import click

from glue_lrs.cli import console, options, tasks
from glue_lrs.errors import escaped, quoted

if TYPE_CHECKING:
    from glue_lrs.cli.manifest import Manifest, Record
    from glue_lrs.spectra.findings import Finding

#: Largest number of processes. Each takes about 200 MB of memory.
_MOST_JOBS = 1024


@dataclass(frozen=True)
class Resources:
    """Values of the options --jobs, --scheduler, --manifest and --redo.

    Parameters
    ----------
    jobs : int
        Number of processes, or of threads for a single job.
    scheduler : str, optional
        Address or scheduler file of a Dask cluster.
    manifest : str, optional
        Manifest to read and to write.
    redo : bool
        Whether to repeat outputs that are up to date according to the manifest.
    """

    jobs: int = 1
    scheduler: str | None = None
    manifest: str | None = None
    redo: bool = False

    def __post_init__(self) -> None:
        if self.jobs == 0 or self.jobs < -1:
            raise click.UsageError(
                f"--jobs is {self.jobs}, expected 1 or more, or -1 for all processors"
            )
        if self.jobs > _MOST_JOBS:
            raise click.UsageError(f"--jobs is {quoted(self.jobs)}, expected at most {_MOST_JOBS}")
        if self.scheduler is not None and self.jobs != 1:
            raise click.UsageError("--jobs and --scheduler exclude each other")
        if self.redo and self.manifest is None:
            raise click.UsageError("--redo needs --manifest")

    @property
    def processes(self) -> int:
        """Number of processes, that of the processors of this machine for -1."""
        return self.jobs if self.jobs > 0 else os.cpu_count() or 1


def resource_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add --jobs, --scheduler, --manifest and --redo, as the argument `resources` of a command."""

    @click.option(
        "-j", "--jobs", default=1, show_default=True, metavar="N",
        help="Number of processes, or, for a single exposure, of threads; -1 for the number of "
        "processors.",
    )  # fmt: skip
    @click.option(
        "--scheduler", metavar="ADDRESS", type=options.FILE,
        help="Run on a Dask cluster: address of its scheduler, or scheduler file (.json).",
    )  # fmt: skip
    @click.option(
        "--manifest", metavar="ECSV", type=options.FILE,
        help="Table of all outputs. If it exists, only outputs that have changed are made again.",
    )  # fmt: skip
    @click.option("--redo", is_flag=True, help="Also repeat outputs that are up to date.")
    @wraps(command)
    def wrapped(
        *args: Any,
        jobs: int,
        scheduler: str | None,
        manifest: str | None,
        redo: bool,
        **kwargs: Any,
    ) -> int:
        return command(*args, resources=Resources(jobs, scheduler, manifest, redo), **kwargs)

    return wrapped


@dataclass(frozen=True, kw_only=True)
class Job:
    """Output to make. A job can be pickled for another process.

    Parameters
    ----------
    files : tuple of str
        Input file, or the files of the segments of an exposure.
    output, plot : str
        Files to write. `plot` is None if nothing is to be plotted.
    overwrite : bool
        Whether existing files may be replaced.
    parameters : str
        Options that affect the output, as JSON.
    record : Record, optional
        Row of the manifest for the output.
    repeatable : bool
        Whether the output may exist because a process was killed after it had written it.
    """

    files: tuple[str, ...]
    output: str
    plot: str | None = None
    overwrite: bool = False
    parameters: str = "{}"
    record: Record | None = None
    repeatable: bool = False

    @property
    def path(self) -> str:
        """First input file."""
        return self.files[0]

    @property
    def label(self) -> str:
        """Name of the input in messages."""
        return self.path

    @property
    def targets(self) -> tuple[str, ...]:
        """Files to write."""
        return (self.output,) if self.plot is None else (self.output, self.plot)

    def is_up_to_date(self) -> bool:
        """Return whether the manifest says that the outputs exist, with the present parameters."""
        if self.record is None or not all(map(os.path.exists, self.targets)):
            return False
        return self._owns_output() and self.record.agrees(checksums(self.files), self.parameters)

    def had_warnings(self, outcome: Outcome) -> bool:
        """Return whether an output that is up to date had warnings, which are not repeated."""
        done = outcome.result
        return bool(done and done.unchanged and self.record and self.record.warnings)

    def writable(self) -> Self:
        """Return the job with `overwrite` if the files that exist are those of the manifest.

        Raises
        ------
        WriteError
            If the output is that of the manifest, but the plot is another file.
        """
        if self.overwrite or self.record is None or not self._owns_output():
            return self
        if self.plot is not None and os.path.exists(self.plot) and not self.record.plotted:
            from glue_lrs.io.files import already_exists

            raise already_exists(self.plot)
        return replace(self, overwrite=True)

    def _owns_output(self) -> bool:
        from glue_lrs._utils.source_file import file_digest

        return self.record is not None and self.record.output_sha256 == file_digest(self.output)

    def absolute(self) -> Self:
        """Return the job with absolute paths, for a process in another folder."""
        files = tuple(map(_absolute, self.files))
        plot = None if self.plot is None else _absolute(self.plot)
        return replace(self, files=files, output=_absolute(self.output), plot=plot)


@dataclass(frozen=True)
class Done:
    """Result of a job.

    Parameters
    ----------
    row : dict
        Row of the summary table.
    facts : dict
        Values of columns of the manifest.
    remarks : list of str
        Lines below the summary table.
    findings : list of Note
        Findings that are to be reported.
    details : dict
        Other values for the command.
    unchanged : bool
        Whether the output is up to date according to the manifest. If so, the other values are
        empty.
    """

    row: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    findings: list[console.Note] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    unchanged: bool = False


#: Outcome of a job. Its notes include the findings.
Outcome: TypeAlias = console.Outcome[Done]

AnyJob = TypeVar("AnyJob", bound=Job)

#: Function that makes the output of a job.
Make: TypeAlias = Callable[[AnyJob], Done]


def check_targets(jobs: Sequence[Job], inputs: Sequence[str]) -> None:
    """Raise `click.UsageError` if an output would replace an input or another output."""
    sources: dict[str, str] = {}
    tasks.check_inputs_kept([target for job in jobs for target in job.targets], inputs)
    for job in jobs:
        for target in job.targets:
            real = os.path.realpath(target)
            if real in sources:
                raise click.UsageError(
                    f"{sources[real]} and {job.label} both give {target}, expected different names "
                    "(extract them to different folders with --output-dir)"
                )
            sources[real] = job.label


def checksums(files: Sequence[str]) -> str:
    """Return the checksums of files as in a manifest."""
    from glue_lrs._utils.source_file import file_digest
    from glue_lrs.cli.manifest import joined

    return joined([file_digest(path) for path in files])


def facts_about(
    header: Mapping[str, Any],
    findings: Sequence[Finding],
    ratio: float | None,
    values: int,
    masked: int,
) -> dict[str, Any]:
    """Return the columns of a manifest that describe an output."""
    severities = [one.severity for one in findings]  # worst first
    return {
        "target": str(header.get("TARGNAME") or ""),
        "exp_type": str(header.get("EXP_TYPE") or ""),
        "snr": ratio,
        "values": values,
        "masked": masked,
        "quality": severities[0] if severities else "good",
    }


def run(
    jobs: Sequence[AnyJob],
    make: Make[AnyJob],
    resources: Resources,
    reporter: console.Reporter,
) -> list[Outcome]:
    """Make the outputs of all jobs, record them in the manifest, and print the messages.

    Returns
    -------
    list of Outcome
        Outcome of each job, in the order of the jobs.
    """
    from tqdm import tqdm

    planned = list(jobs)
    if resources.manifest is not None or resources.scheduler is not None:
        planned = list(map(_repeatable, jobs))
    outcomes: dict[int, Outcome] = {}
    # With None, tqdm shows a progress bar only if stderr is a terminal.
    hide = True if len(planned) == 1 else None
    with _manifest(resources, {Path(job.output).parent for job in planned}) as manifest:
        if manifest is not None and not resources.redo:
            planned = [replace(job, record=manifest.record(job.output)) for job in planned]
        elif manifest is not None:
            planned = [_redone(job, manifest.record(job.output)) for job in planned]
        reported = 0
        with tqdm(total=len(planned), disable=hide, unit="file", leave=False) as bar:
            for index, outcome in _outcomes(planned, make, resources):
                outcomes[index] = outcome
                if manifest is not None:
                    _record(manifest, planned[index], outcome)
                bar.update()
                while reported in outcomes:  # in the order of the files
                    with tqdm.external_write_mode(file=sys.stderr):
                        reporter.report(outcomes[reported])
                    if planned[reported].had_warnings(outcomes[reported]):
                        reporter.judge([{"severity": "warning"}])
                    reported += 1
        _remove_remains({str(Path(job.output).parent) for job in planned}, resources)
    reporter.close()
    return [outcomes[index] for index in range(len(planned))]


def summarize(jobs: Sequence[Job], outcomes: Sequence[Outcome], reporter: console.Reporter) -> int:
    """Print the table of the outputs that were made, and return the exit code."""
    rows: list[dict[str, str]] = []
    lines: list[str] = []
    unchanged = 0
    for job, outcome in zip(jobs, outcomes, strict=True):
        if outcome.result is None:
            continue
        if outcome.result.unchanged:
            unchanged += 1
            continue
        count = str(sum(map(console.is_serious, outcome.notes)) or "-")
        rows.append({**outcome.result.row, "warnings": count, "output": job.output})
        lines += [f"{rows[-1]['file']}: {remark}" for remark in outcome.result.remarks]
    if rows:
        console.echo("\n".join([console.table_text(rows), *map(escaped, lines)]), lines=True)
    if unchanged:
        console.echo(f"{unchanged} of {len(jobs)} outputs are up to date (--redo repeats them)")
    done = len(rows) + unchanged
    if done < len(jobs) > 1:
        console.echo(f"{len(jobs) - done} of {len(jobs)} files failed", err=True)
    return reporter.exit_code(done, len(jobs))


def _redone(job: AnyJob, record: Record | None) -> AnyJob:
    """Return a job whose output is made again, even if the manifest says that it is up to date."""
    return replace(job, record=None if record is None else replace(record, status="failed"))


def _manifest(
    resources: Resources, folders: set[Path]
) -> contextlib.AbstractContextManager[Manifest | None]:
    """Open the manifest. Its folder is created if it is also a folder of an output."""
    if resources.manifest is None:
        return contextlib.nullcontext()
    from glue_lrs.cli.manifest import Manifest

    folder = Path(resources.manifest).parent
    if folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return Manifest.opened(resources.manifest)


def _outcomes(
    jobs: Sequence[AnyJob], make: Make[AnyJob], resources: Resources
) -> Iterator[tuple[int, Outcome]]:
    """Yield the index of each job and its outcome, in the order in which they end."""
    work = partial(attempt, make)
    found: Generator[tuple[int, Outcome | str]]
    if resources.scheduler is not None:
        from glue_lrs.cli.cluster import on_cluster

        found = on_cluster(work, [job.absolute() for job in jobs], resources.scheduler)
    elif resources.processes == 1 or len(jobs) == 1:
        found = _in_this_process(work, jobs, resources.processes)
    else:
        from glue_lrs.cli.processes import in_processes

        found = in_processes(work, jobs, resources.processes, _repeatable)
    with contextlib.closing(found):
        for index, outcome in found:
            path = jobs[index].label
            if isinstance(outcome, str):
                yield index, console.Outcome(path, error=outcome)
            else:
                yield index, replace(outcome, path=path)


def _repeatable(job: AnyJob) -> AnyJob:
    return replace(job, repeatable=True)


def _in_this_process(
    work: Callable[[AnyJob], Outcome], jobs: Sequence[AnyJob], number: int
) -> Generator[tuple[int, Outcome]]:
    """Run the jobs one after the other, and the blocks of a long exposure in threads."""
    from glue_lrs._utils.parallel import threads

    with threads(number) if number > 1 else contextlib.nullcontext():
        for index, job in enumerate(jobs):
            yield index, work(job)


def attempt(make: Make[AnyJob], job: AnyJob) -> Outcome:
    """Make the output of a job, and return the result or the error, with findings as notes."""
    start = time.monotonic()
    outcome = console.attempt(job.label, partial(_made, make), job)
    done = outcome.result
    if done is None or done.unchanged:
        return outcome
    facts = {**done.facts, "seconds": round(time.monotonic() - start, 3)}
    notes = [*outcome.notes, *done.findings]
    return replace(outcome, notes=notes, result=replace(done, facts=facts))


def _made(make: Make[AnyJob], job: AnyJob) -> Done:
    if job.is_up_to_date():
        return Done(unchanged=True)
    done = make(job.writable())
    if not job.repeatable:
        return done
    return replace(
        done,
        facts={
            "output_sha256": checksums([job.output]),
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            **done.facts,
        },
    )


def _record(manifest: Manifest, job: Job, outcome: Outcome) -> None:
    """Add the row of a job to the manifest, unless its output was up to date."""
    from glue_lrs import __version__
    from glue_lrs.spectra.provenance import package_versions

    done = outcome.result
    if done is not None and done.unchanged:
        return
    serious = [
        f"{kind}: {text}" for kind, text in outcome.notes if console.is_serious((kind, text))
    ]
    if outcome.error is not None:
        serious.append(f"failed: {outcome.error}")
    packages = {name: one for name, one in package_versions().items() if name != "glue-lrs"}
    facts = {} if done is None else done.facts
    if done is None and job.record is not None and job.record.output_sha256:
        # The repetition failed, and the earlier output still exists: keep its record, so that a
        # later run may replace it and its plot.
        facts = {"output_sha256": job.record.output_sha256, "parameters": job.record.parameters}
    values = {
        "status": "failed" if done is None else "done",
        "warnings": len(serious),
        "messages": "; ".join(serious),
        "parameters": job.parameters,
        "version": __version__,
        "packages": json.dumps(packages),
        **facts,
    }
    manifest.add(job.output, job.files, values)


def _remove_remains(folders: set[str], resources: Resources) -> None:
    """Remove the temporary files of processes that were killed, from the folders of the outputs."""
    if resources.scheduler is None:
        _remove_each(folders)
        return
    from glue_lrs.cli.cluster import call_on_each_worker

    # A worker finds the temporary files of processes on its own computer only.
    remove = partial(_remove_each, set(map(_absolute, folders)))
    call_on_each_worker(remove, resources.scheduler)


def _remove_each(folders: set[str]) -> None:
    from glue_lrs.io.files import remove_remains

    for folder in folders:
        remove_remains(Path(folder))


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))
