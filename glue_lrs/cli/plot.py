"""The command ``glue-lrs plot``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glue_lrs.cli.console import OK, echo
from glue_lrs.cli.options import APCORR, EXTRACT1D, FILE, FILES, OVERWRITE, PSF, SETTINGS
from glue_lrs.cli.program import main
from glue_lrs.cli.tasks import (
    base_name,
    check_integration,
    draw_spectra,
    drawn,
    extracted,
    image_and_operator,
)
from glue_lrs.errors import LRSError, WriteError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from glue_lrs.spectra.extraction import Extraction


@main.command(short_help="Draw images with their apertures, or compare spectra.")
@FILES
@click.option(
    "-o", "--output", type=FILE, metavar="PNG",
    help="The picture's file (PNG, PDF, SVG, ... by its ending).",
)  # fmt: skip
@OVERWRITE
@click.option("--show", is_flag=True, help="Open a window; nothing is written without --output.")
@click.option("--column", default="FLUX", show_default=True, help="Column of spectra to draw.")
@click.option("--integration", type=int, metavar="N", help="Integration of a stack, from 1.")
@EXTRACT1D
@APCORR
@PSF
@SETTINGS
@click.pass_context
def plot(
    ctx: click.Context,
    files: tuple[str, ...],
    output: str | None,
    overwrite: bool,
    show: bool,
    column: str,
    integration: int | None,
    extract1d: str | None,
    apcorr: str | None,
    psf: str | None,
    settings: tuple[tuple[str, Any], ...],
) -> int:
    """Draw images with their apertures, or spectra over each other.

    An s2d, cal or calints: the image with the default aperture (or that of --extract1d and --set),
    its bounding box, three cuts across the slit, and the spectrum; with --set
    extraction_type=optimal the trace, data less model with the rejected pixels, the profile, and
    the spectrum. One or several x1d or c1d: the spectra, with their ratio to the first. An x1dints:
    the median spectrum, the change with time, the light curve.

    \b
    Examples:
      glue-lrs plot x_s2d.fits --set 'bkg_coeff=[[0.5],[4.5]]' --set fixed_background=true
      glue-lrs plot mine_x1d.fits pipeline_x1d.fits -o compared.png
      glue-lrs plot x_x1d.fits --column SURF_BRIGHT --show
    """
    from glue_lrs.io.spectra import is_spectrum, read_spectra
    from glue_lrs.plotting.style import save

    spectra = [is_spectrum(path) for path in files]
    if any(spectra) and not all(spectra):
        odd = files[spectra.index(False)]
        raise click.UsageError(
            f"{odd} is an image and {files[spectra.index(True)]} a spectrum, expected one kind", ctx
        )
    if output is not None and not spectra[0] and len(files) > 1:
        raise click.UsageError(f"--output names one file, but there are {len(files)} images", ctx)
    if integration is not None and integration < 1:
        raise click.UsageError(f"--integration is {integration}, expected 1 or more", ctx)
    if spectra[0] and (extract1d or apcorr or psf or settings):
        raise click.UsageError(
            "--extract1d, --apcorr, --psf and --set are for images, not for spectra", ctx
        )
    targets: list[str | None] = [None] * len(files)
    if not show or output is not None:
        pictures = files[:1] if spectra[0] else files
        targets[: len(pictures)] = [output] if output is not None else picture_names(ctx, pictures)
    for target in filter(None, targets):
        if Path(target).exists() and not overwrite:
            raise WriteError(f"{target}: exists, expected a new name or --overwrite")
    figures: list[Any] = []
    if spectra[0]:
        found = [(path, one) for path in files for one in read_spectra(path)]
        check_integration(integration, [(path, _integrations(one)) for path, one in found])
        figures.append(draw_spectra(found, column, integration, empty_figure(show)))
    else:
        for path in files:
            image, operator = image_and_operator(path, extract1d, apcorr, psf, dict(settings))
            number = image.data.shape[0] if image.is_stack else None
            check_integration(integration, [(path, number)])
            figure = drawn(
                image,
                operator,
                *extracted(operator, image),
                integration=None if integration is None else integration - 1,
                figure=empty_figure(show),
                title=Path(path).name,
            )
            figures.append(figure)
    for figure, picture in zip(figures, targets, strict=False):
        if picture is not None:
            save(figure, picture, overwrite=overwrite)
            echo(f"wrote {picture}")
    if show:
        from matplotlib import pyplot

        pyplot.show()
    return OK


def picture_names(ctx: click.Context, paths: Sequence[str]) -> list[str]:
    """Names of pictures: those of the files, with their folders' in front where they are alike."""
    stems = [base_name(path) for path in map(os.path.abspath, paths)]
    names = [Path(stem).name for stem in stems]
    for depth in range(2, max(len(Path(stem).parts) for stem in stems) + 1):
        alike = {name for name in names if names.count(name) > 1}
        names = [
            "_".join(part for part in Path(stem).parts[-depth:] if part != os.sep)
            if name in alike
            else name
            for stem, name in zip(stems, names, strict=True)
        ]
    again = next((name for name in names if names.count(name) > 1), None)
    if again is not None:
        first, second, *_ = (p for p, name in zip(paths, names, strict=True) if name == again)
        if os.path.realpath(first) == os.path.realpath(second):
            raise click.UsageError(f"{first} is given twice", ctx)
        raise click.UsageError(
            f"{first} and {second} both give {again}.png, expected different names", ctx
        )
    return [f"{name}.png" for name in names]


def _integrations(extraction: Extraction) -> int | None:
    return extraction.columns["FLUX"].shape[0] if extraction.is_stack else None


def empty_figure(show: bool) -> Figure | None:
    """A figure of pyplot, which can open a window, or None for one that cannot."""
    if not show:
        return None
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(13.0, 8.0), layout="constrained")
    if figure.canvas.required_interactive_framework is None:
        pyplot.close(figure)
        raise LRSError(
            f"--show: Matplotlib's backend {pyplot.get_backend()!r} opens no windows, expected a "
            "display and a GUI toolkit such as Qt (or use --output)"
        )
    return figure
