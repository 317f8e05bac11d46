"""The command ``glue-lrs plot``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glue_lrs.cli import console, options, tasks
from glue_lrs.cli.program import main
from glue_lrs.errors import LRSError, naming

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from glue_lrs.extraction.extract1d import Extract1D

#: Largest number of characters in the name of a plot of several spectra, without the suffix.
#: File systems allow 255 bytes.
_LONGEST_NAME = 100


@main.command(short_help="Plot images with their apertures, or compare spectra.")
@options.FILES
@click.option(
    "-o", "--output", type=options.FILE, metavar="PNG",
    help="File for the plot, whose suffix determines the format (PNG, PDF, SVG, ...).",
)  # fmt: skip
@options.OVERWRITE
@click.option("--show", is_flag=True, help="Open a window; a file is written only with --output.")
@click.option("--column", default="FLUX", show_default=True, help="Column of spectra to plot.")
@click.option("--integration", type=int, metavar="N", help="Integration of a stack, from 1.")
@click.option(
    "--xlim", callback=options.limits, metavar="LOW,HIGH",
    help="Limits of the spectra's wavelength in micron.",
)  # fmt: skip
@click.option(
    "--ylim", callback=options.limits, metavar="LOW,HIGH",
    help="Limits of the spectra's values, in the unit of the plot.",
)  # fmt: skip
@click.option(
    "--offset", type=float, default=0.0, metavar="FRACTION",
    help="Distance between several spectra, as a fraction of the median of the first.",
)  # fmt: skip
@click.option(
    "--rows", callback=options.row_numbers, metavar="ROW,...",
    help="Rows of images to plot as cuts along the slit; default: three of the aperture.",
)  # fmt: skip
@click.option(
    "--stretch", type=click.Choice(["asinh", "linear", "sqrt", "log"]),
    help="Stretch of the grey scale of images; default: asinh.",
)  # fmt: skip
@click.option(
    "--units", callback=options.unit_pair, metavar="WAVELENGTH,FLUX",
    help="Units of the columns of text files that have none, such as um,mJy.",
)  # fmt: skip
@options.recipe_options
def plot(
    files: tuple[str, ...],
    output: str | None,
    overwrite: bool,
    show: bool,
    integration: int | None,
    offset: float,
    rows: tuple[int, ...] | None,
    stretch: str | None,
    units: tuple[str, str] | None,
    recipe: options.RecipeOptions,
    **look: Any,
) -> int:
    """Plot images with their apertures, or compare spectra.

    For an s2d, cal or calints, the plot shows the image with the default aperture (or the aperture
    from --extract1d and --set) and the bounding box, three cuts along the slit, and the spectrum.
    With --set extraction_type=optimal, it shows the trace, data minus model with the rejected
    pixels, the profile, and the spectrum. For x1d and c1d, it shows the spectra and their ratio to
    the first spectrum. For an x1dints, it shows the median spectrum, the variation with time, and
    the light curve. The files of the segments of an exposure (calints, or x1dints) are plotted as
    one.

    Spectra in text files (CSV, ECSV, MRT, columns with names such as wave, flux and error) are
    drawn beside them. Units are those of the file, or in the names of its columns, as in
    flux[mJy], or from --units.

    \b
    Examples:
      glue-lrs plot x_s2d.fits --set 'bkg_coeff=[[0.5],[4.5]]' --set fixed_background=true
      glue-lrs plot mine_x1d.fits pipeline_x1d.fits -o compared.png
      glue-lrs plot mine_x1d.fits published.csv --units um,mJy
      glue-lrs plot x_s2d.fits --rows 140,200,325 --stretch log --xlim 5,12
      glue-lrs plot *_x1d.fits --offset 0.2 --xlim 5,12 --ylim 0,3
      glue-lrs plot x_x1d.fits --column SURF_BRIGHT --show
    """
    from glue_lrs.io.image_segments import group_segments
    from glue_lrs.io.spectra import is_spectrum
    from glue_lrs.io.text import is_text

    kinds = {is_text(path) or is_spectrum(path): path for path in reversed(files)}
    if len(kinds) > 1:
        raise click.UsageError(
            f"{kinds[False]} is an image and {kinds[True]} a spectrum, expected one kind"
        )
    spectra = True in kinds
    if spectra:
        console.no_images()
    groups = [[path] for path in files] if spectra else group_segments(files)
    if output is not None and not spectra and len(groups) > 1:
        raise click.UsageError(f"--output names one file, but there are {len(groups)} images")
    if integration is not None and integration < 1:
        raise click.UsageError(f"--integration is {integration}, expected 1 or more")
    if spectra and (recipe.files or recipe.settings):
        raise click.UsageError(
            "--extract1d, --apcorr, --psf and --set are for images, not for spectra"
        )
    if spectra and (rows is not None or stretch is not None):
        raise click.UsageError("--rows and --stretch are for images, not for spectra")
    if offset and not spectra:
        raise click.UsageError("--offset is for several spectra, not for images")
    if units is not None and not any(map(is_text, files)):
        raise click.UsageError("--units is for text files, but there are none")
    targets: list[str | None] = [None] * len(groups)
    if not show or output is not None:
        if output is not None:
            names = [output]
        elif spectra:
            names = [_comparison_name(plot_names([*dict.fromkeys(files)]))]
        else:
            names = plot_names([path for path, *_ in groups])
        targets[: len(names)] = names
    tasks.check_folders(targets)
    if recipe.apcorr is None and recipe.settings.get("correction") != "profile":  # needs none
        recipe = replace(recipe, settings={"apply_apcorr": False, **recipe.settings})
    operators: list[Extract1D] = []
    for group in [] if spectra else groups:
        operators.append(_operator(group, integration, rows, recipe))
    tasks.check_outputs(targets, overwrite)
    if spectra:
        figure = _spectra_figure(files, units, integration, offset, show, look)
        _save(figure, targets[0], overwrite)
    else:
        for group, operator, target in zip(groups, operators, targets, strict=True):
            image = tasks.read_again(*group)
            figure = tasks.plot_extracted(
                image,
                operator,
                *tasks.extract_with_model(operator, image),
                integration=None if integration is None else integration - 1,
                rows=rows,
                stretch=stretch or "asinh",
                figure=empty_figure(show),
                title=Path(image.label).name,
                **look,
            )
            _save(figure, target, overwrite)
    if show:
        from matplotlib import pyplot

        pyplot.show()
    return console.OK


def _operator(
    group: Sequence[str],
    integration: int | None,
    rows: tuple[int, ...] | None,
    recipe: options.RecipeOptions,
) -> Extract1D:
    """Return the operator for an image, after checking that integration and rows exist."""
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.plotting.image import checked_rows

    image = SlitImage.read(group if len(group) > 1 else group[0])
    tasks.check_integration(integration, [(image.label, image.data.shape[:-2])])
    if rows is not None:
        with naming(image.label):
            checked_rows(image, rows)
    return tasks.operator_from_options(image, recipe)


def _spectra_figure(
    files: Sequence[str],
    units: tuple[str, str] | None,
    integration: int | None,
    offset: float,
    show: bool,
    look: dict[str, Any],
) -> Figure:
    """Read spectra, report their findings, and plot them."""
    from glue_lrs.io.spectra import read_series, read_spectra
    from glue_lrs.io.text import is_text, read_text

    found = read_series(
        files, lambda path: [read_text(path, units)] if is_text(path) else read_spectra(path)
    )
    if offset and len(found) == 1:
        raise click.UsageError("--offset is for several spectra, but there is one")
    reporter = console.Reporter()
    for path, one in found:
        reporter.report(console.Outcome(path, notes=console.finding_notes(one.findings)))
    shapes = [(path, one.columns["FLUX"].shape[:-1]) for path, one in found]
    tasks.check_integration(integration, shapes)
    return tasks.plot_spectra(
        found, integration=integration, offset=offset, figure=empty_figure(show), **look
    )


def _save(figure: Figure, target: str | None, overwrite: bool) -> None:
    """Write a figure to a file, unless `target` is None."""
    from glue_lrs.plotting import save

    if target is not None:
        save(figure, target, overwrite=overwrite)
        console.echo(f"wrote {target}")


def _comparison_name(names: Sequence[str]) -> str:
    """Return the name of the plot of several spectra, which consists of the names of all of them.

    If it is too long for a file, the name of the first spectrum is followed by their number.
    """
    joined = "_".join(Path(name).stem for name in names)
    if len(joined) > _LONGEST_NAME:
        joined = f"{Path(names[0]).stem}_and_{len(names) - 1}_more"
    return f"{joined}.png"


def plot_names(paths: Sequence[str]) -> list[str]:
    """Return a different name for the plot of each file.

    Files of the same name in different folders are distinguished by the names of the folders.
    """
    stems = [tasks.base_name(path) for path in map(os.path.abspath, paths)]
    names = [Path(stem).name for stem in stems]
    for depth in range(2, max(len(Path(stem).parts) for stem in stems) + 1):
        repeated = {name for name in names if names.count(name) > 1}
        names = [
            "_".join(part for part in Path(stem).parts[-depth:] if part != os.sep)
            if name in repeated
            else name
            for stem, name in zip(stems, names, strict=True)
        ]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate is not None:
        first, second, *_ = (p for p, name in zip(paths, names, strict=True) if name == duplicate)
        if os.path.realpath(first) == os.path.realpath(second):
            raise click.UsageError(f"{first} is given twice")
        raise click.UsageError(
            f"{first} and {second} both give {duplicate}.png, expected different names"
        )
    return [f"{name}.png" for name in names]


def empty_figure(show: bool) -> Figure | None:
    """Return a figure of pyplot, which can be shown in a window, or None if `show` is False."""
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
