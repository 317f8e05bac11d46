"""The command ``glue-lrs view``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import signal

import click

from glue_lrs.cli import console, options
from glue_lrs.cli.program import main
from glue_lrs.errors import LRSError


@main.command(short_help="Edit the aperture interactively in glue, with a live spectrum.")
@options.FILES
@click.option(
    "--screenshot", type=options.FILE, metavar="PNG",
    help="Save an image of the window, without a display, and exit.",
)  # fmt: skip
@options.OVERWRITE
def view(files: tuple[str, ...], screenshot: str | None, overwrite: bool) -> int:
    """Edit the aperture interactively in glue, with a live spectrum.

    Each s2d, cal or calints opens in a tab with the image and its aperture, the spectrum, a cut
    along the slit, and a panel with settings. Drag the edges of the aperture to change it, and
    save the result as an x1d and as an EXTRACT1D reference. If an x1d is given together with an
    image, its spectrum is compared with that of the image. If only spectra are given, they open in
    a viewer for spectra. A glue session (.glu) opens as it was saved; files that have moved are
    searched for beside it. If some of several files cannot be opened, the others are.

    This command requires glue's desktop application: pip install glue-qt qtpy PyQt6.

    \b
    Examples:
      glue-lrs view x_s2d.fits
      glue-lrs view x_s2d.fits x_x1d.fits
      glue-lrs view x_s2d.fits --screenshot view.png
    """
    for number in console.TERMINATIONS:  # Qt would not call a handler in Python
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    from glue_lrs.viewers.qt.app import view as start

    def failed(error: LRSError) -> None:
        console.say("error", console.error_text(error))

    code = start(files, screenshot, overwrite=overwrite, failed=failed)
    if screenshot is not None:
        console.echo(f"wrote {screenshot}")
    return code
