"""The command ``glue-lrs demo``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

from pathlib import Path

import click

from glue_lrs.cli import console, options, tasks
from glue_lrs.cli.program import main


@main.command(short_help="Demonstrate the package on simulated files with known spectra.")
@click.option(
    "--output-dir", type=options.FOLDER, default="glue-lrs-demo", show_default=True, metavar="DIR",
    help="Output folder.",
)  # fmt: skip
@options.OVERWRITE
def demo(output_dir: str, overwrite: bool) -> None:
    """Demonstrate the package on simulated files with known spectra.

    Simulates a supernova in the slit (two nods and their combination) and a slitless time series as
    files that the pipeline can read. Extracts spectra as in the five worked examples of the STScI
    LRS notebook, writes spectra, references and plots, and compares the spectra with the true
    spectra. Needs no network and takes a few seconds.

    \b
    Example:
      glue-lrs demo --output-dir demo
    """
    from glue_lrs.demo import run_demo

    def report(text: str) -> None:
        console.echo(text, err=True)

    with tasks.created_folder(Path(output_dir)):
        result = run_demo(output_dir, overwrite=overwrite, report=report)
    text = "between 5 and 12 um; fluxes with a bad pixel in the aperture are counted and excluded"
    console.echo(f"{console.table_text(result.table)}\n{text}\n\n{result.advice}", lines=True)
