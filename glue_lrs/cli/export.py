"""The command ``glue-lrs export``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click

from glue_lrs.cli import console, options, tasks
from glue_lrs.cli.program import main


@main.command(short_help="Write spectra as text: ECSV, CSV or columns.")
@options.FILES
@click.option(
    "--to", "form", type=click.Choice(["ecsv", "csv", "txt"]), required=True,
    help="Format: ECSV with units, header and provenance; CSV, or columns separated by blanks, "
    "both with units in the names of the columns.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=options.FILE, metavar="FILE",
    help="Output file, if there is a single input.",
)  # fmt: skip
@click.option(
    "--output-dir", type=options.FOLDER, metavar="DIR",
    help="Output folder; created if it does not exist.",
)  # fmt: skip
@options.OVERWRITE
def export(
    files: tuple[str, ...], form: str, output: str | None, output_dir: str | None, overwrite: bool
) -> int:
    """Write spectra as text: ECSV, CSV or columns.

    All columns of an x1d, x1dints or c1d are written, by default to a file of the same name with
    the suffix of the format, in the current folder or in --output-dir. An x1dints has a row for
    each integration and wavelength, with the number and the times of the integration.

    \b
    Exit code: 0 if all files are written, 1 if some fail, 2 if all fail or for wrong usage.

    \b
    Examples:
      glue-lrs export x_x1d.fits --to csv
      glue-lrs export *_x1d.fits --to ecsv --output-dir tables
    """
    if output is not None and len(files) > 1:
        raise click.UsageError(f"--output names one file, but there are {len(files)}")
    if output is not None and output_dir is not None:
        raise click.UsageError("--output and --output-dir exclude each other")
    targets = [
        output or str(Path(output_dir or "") / f"{tasks.base_name(Path(path).name)}.{form}")
        for path in files
    ]
    tasks.check_inputs_kept(targets, files)
    tasks.check_output_folder(output_dir)
    if len(set(map(os.path.realpath, targets))) < len(targets):
        repeated = next(one for one in targets if targets.count(one) > 1)
        raise click.UsageError(f"several files give {repeated}, expected different names")
    reporter = console.Reporter()
    done = 0
    for path, target in zip(files, targets, strict=True):
        outcome = console.attempt(path, _export, (path, target, output_dir, form, overwrite))
        reporter.report(outcome)
        if outcome.error is None:
            console.echo(f"wrote {target}")
            done += 1
    reporter.close()
    return console.exit_code(done, len(files))


def _export(job: tuple[str, str, str | None, str, bool]) -> None:
    """Write the text file of one spectrum. A job is input, output, folder to create, options."""
    from glue_lrs.io.text import export_spectrum

    path, target, folder, form, overwrite = job
    tasks.check_outputs([target], overwrite)
    made = contextlib.nullcontext() if folder is None else tasks.created_folder(Path(folder))
    with made:
        export_spectrum(path, target, form, overwrite)
