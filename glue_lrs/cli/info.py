"""The command ``glue-lrs info``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import json
from typing import Any

import click

from glue_lrs.cli.console import each_file, echo, exit_code
from glue_lrs.cli.options import FILES
from glue_lrs.cli.program import main


@main.command(short_help="Describe files, and the default aperture of images.")
@FILES
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: a list with one object per file."
)
@click.pass_context
def info(ctx: click.Context, files: tuple[str, ...], as_json: bool) -> int:
    """Describe files, and the default aperture of images.

    For an s2d, cal or calints, the output lists exposure, axes, wavelengths, bounding box, source,
    the default aperture on this image, bad pixels, and the reference files that the pipeline used.
    For an x1d, x1dints or c1d, it lists columns, quality, and how the file was made.

    Columns and rows are pixel numbers from 0, and limits are inclusive: 27 to 34 are eight columns.
    Edges are positions, where pixel i extends from i - 0.5 to i + 0.5. Integrations are counted
    from 1. The same is true for --json.

    \b
    Examples:
      glue-lrs info x_s2d.fits
      glue-lrs info --json *_x1d.fits
    """
    from glue_lrs.cli.summary import format_summary, summarize_file

    found: list[dict[str, Any]] = []
    for facts in each_file(ctx, files, summarize_file):
        if not as_json:
            echo(("\n" if found else "") + format_summary(facts))
        found.append(facts)
    if as_json and found:
        echo(json.dumps(found, indent=2))
    return exit_code(len(found), len(files))
