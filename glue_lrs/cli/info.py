"""The command ``glue-lrs info``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import json
from typing import Any

import click

from glue_lrs.cli.console import each_file, echo, exit_code, translated
from glue_lrs.cli.options import FILES
from glue_lrs.cli.program import main


@main.command(short_help="Say what files are, and where their spectra will be taken.")
@FILES
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a list with one object a file.")
@click.pass_context
def info(ctx: click.Context, files: tuple[str, ...], as_json: bool) -> int:
    """Say what files are, and where their spectra will be taken.

    Of an s2d, cal or calints: exposure, axes, wavelengths, bounding box, source, the default
    aperture where it falls on this image, bad pixels, references of the pipeline. Of an x1d,
    x1dints or c1d: its columns, how good it is, and how it was made.

    Columns and rows are pixel numbers that count from 0, and limits are inclusive: 27 to 34 are
    eight whole columns. Edges are positions, on which pixel i reaches from i - 0.5 to i + 0.5.
    Integrations count from 1. This holds for --json as well.

    \b
    Examples:
      glue-lrs info x_s2d.fits
      glue-lrs info --json *_x1d.fits
    """
    from glue_lrs.cli.summary import format_summary, summarize_file

    found: list[dict[str, Any]] = []
    for facts in each_file(ctx, files, summarize_file):
        if not as_json:
            echo(("\n" if found else "") + format_summary(facts, translated))
        found.append(facts)
    if as_json and found:
        echo(json.dumps(found, indent=2))
    return exit_code(len(found), len(files))
