"""The command line ``glue-lrs``: thin.

Every command reads with `glue_lrs.SlitImage` and its like, and extracts with `glue_lrs.Extract1D`;
none has arithmetic of its own. What is heavy is imported inside the commands.
"""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import click

from glue_lrs import __version__
from glue_lrs.cli.console import Program


@click.group(
    cls=Program,
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
