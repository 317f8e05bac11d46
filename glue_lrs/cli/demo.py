"""The command ``glue-lrs demo``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

from pathlib import Path

import click

from glue_lrs.cli.console import echo, table_text
from glue_lrs.cli.options import FOLDER, OVERWRITE
from glue_lrs.cli.program import main
from glue_lrs.cli.tasks import folder_made


@main.command(short_help="See it all at work, on simulated files whose truth is known.")
@click.option(
    "--output-dir",
    type=FOLDER,
    default="glue-lrs-demo",
    show_default=True,
    metavar="DIR",
    help="Where to write.",
)
@OVERWRITE
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

    with folder_made(Path(output_dir)):
        result = run_demo(output_dir, overwrite=overwrite, tell=lambda text: echo(text, err=True))
    echo(table_text(result.lines))
    echo("between 5 and 12 um; fluxes with a bad pixel in the aperture are counted and left out\n")
    echo(result.advice)
