"""The command-line program ``glue-lrs``, a thin layer above the package.

Its commands read files with `glue_lrs.SlitImage` and similar classes, and extract spectra with
`glue_lrs.Extract1D`. The commands import these classes inside functions, so that the program starts
quickly.
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
@click.option("--traceback", "show_traceback", is_flag=True, help="Show the traceback of an error.")
def main(show_traceback: bool) -> None:
    """Extract JWST MIRI LRS spectra: the pipeline's numbers, fast.

    \b
    First steps:
      glue-lrs demo                        demonstrate the package on simulated files
      glue-lrs info x_s2d.fits             describe a file and its default aperture
      glue-lrs extract x_s2d.fits --plot   extract x_x1d.fits, and plot it

    Every command has its own help: glue-lrs extract --help
    """
