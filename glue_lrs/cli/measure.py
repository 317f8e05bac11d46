"""The command ``glue-lrs measure``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from glue_lrs.cli.console import each_file, echo, exit_code, translated
from glue_lrs.cli.options import APCORR, FILE, FILES, OVERWRITE
from glue_lrs.cli.plot import picture_names
from glue_lrs.cli.program import main
from glue_lrs.cli.tasks import correction
from glue_lrs.errors import LRSError, LRSWarning, WriteError

if TYPE_CHECKING:
    from glue_lrs.apertures.aperture import Aperture
    from glue_lrs.apertures.background import Background
    from glue_lrs.measurement.curve_of_growth import CurveOfGrowth
    from glue_lrs.measurement.measurement import Measurement


class _Width(click.ParamType):  # type: ignore[type-arg]
    """A number of columns, a number with "fwhm" behind it, or "best"."""

    name = "WIDTH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Split number and unit."""
        text = str(value).strip().lower()
        if text == "best":
            return "best", 0.0
        match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(fwhm|x ?fwhm)?", text)
        if match is None or float(match[1]) <= 0:
            self.fail(f"{value!r}, expected best, columns such as 8, or 3fwhm", param, ctx)
        return ("fwhm" if match[2] else "columns"), float(match[1])


@main.command(short_help="Measure where the source is, how wide, and the best aperture.")
@FILES
@click.option("--json", "as_json", is_flag=True, help="Print JSON, a list with one object a file.")
@click.option(
    "-o", "--output", type=FILE, metavar="PNG",
    help="The picture's file, for a single input; FILE_measured.png without it.",
)  # fmt: skip
@click.option("--no-plot", is_flag=True, help="Draw nothing.")
@click.option(
    "--reference", type=FILE, metavar="JSON",
    help="Write an EXTRACT1D reference with an aperture about the source, for a single input.",
)  # fmt: skip
@click.option(
    "--width", type=_Width(), default="best", show_default=True, metavar="WIDTH",
    help="Width of that aperture: best (in signal to noise), columns such as 8, or 3fwhm.",
)  # fmt: skip
@APCORR
@OVERWRITE
@click.pass_context
def measure(
    ctx: click.Context,
    files: tuple[str, ...],
    as_json: bool,
    output: str | None,
    no_plot: bool,
    reference: str | None,
    width: tuple[str, float],
    apcorr: str | None,
    overwrite: bool,
) -> int:
    """Measure where the source is, how wide, and which aperture is best.

    Of an s2d, cal or calints: the sources along the slit, negative traces of other nods told
    apart; how far the source is from where the header puts it; trace and width over wavelength,
    with errors, beside the widths that LRS is expected to have; flux and signal to noise against
    the width of the aperture. A picture is drawn into the current folder.

    With --reference the aperture and a background that touches nothing are written as an EXTRACT1D
    reference, in this image's columns, for glue-lrs extract --extract1d and for the pipeline.

    Columns count from 0. Fluxes of the growth curve are corrected for the light outside the
    aperture by the measured profile, or with --apcorr by the table.

    \b
    Examples:
      glue-lrs measure x_s2d.fits
      glue-lrs measure x_s2d.fits --reference my.json --width 3fwhm
      glue-lrs measure --json --no-plot *_s2d.fits
    """
    for option, value in (("--output", output), ("--reference", reference)):
        if value is not None and len(files) > 1:
            raise click.UsageError(f"{option} names one file, but there are {len(files)}", ctx)
    if output is not None and no_plot:
        raise click.UsageError("--output and --no-plot exclude each other", ctx)
    pictures: list[str | None] = [None] * len(files)
    if not no_plot:
        names = picture_names(ctx, files)
        pictures = [output or f"{Path(name).stem}_measured.png" for name in names]
    for target in filter(None, (*pictures, reference)):
        if Path(target).exists() and not overwrite:
            raise WriteError(f"{target}: exists, expected a new name or --overwrite")
    targets = dict(zip(files, pictures, strict=True))

    def work(path: str) -> tuple[str, dict[str, Any], str]:
        return path, *_measured(path, targets[path], reference, width, apcorr, overwrite)

    found: list[dict[str, Any]] = []
    for path, facts, text in each_file(ctx, files, work):
        if not as_json:
            echo(("\n" if found else "") + text)
            for target in filter(None, (targets[path], reference)):
                echo(f"wrote {target}")
        found.append(facts)
    if as_json and found:
        echo(json.dumps(found, indent=2))
    return exit_code(len(found), len(files))


def _measured(
    path: str,
    picture: str | None,
    reference: str | None,
    width: tuple[str, float],
    apcorr: str | None,
    overwrite: bool,
) -> tuple[dict[str, Any], str]:
    """Measure a file; write what is to be written; return what there is to say."""
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.measurement.curve_of_growth import measure_with_growth
    from glue_lrs.plotting.style import save

    image = SlitImage.read(path)
    table = correction(image, apcorr, {})
    found, growth, background = measure_with_growth(
        image, aperture_correction=None if isinstance(table, str) else table
    )
    written = None
    if reference is not None:
        aperture, columns = _aperture(found, growth, width)
        if background is not None:
            background = _background(found, background, aperture, columns)
        made = Extract1D(
            aperture=aperture,
            background=background,
            use_source_posn=False,
            id=image.exp_type,
        )
        written = made.to_reference(image)
    figure = None
    if picture is not None:
        from glue_lrs.plotting.measurement import plot_measurement

        figure = plot_measurement(found, growth, background=background, title=Path(path).name)
    if written is not None and reference is not None:
        written.write(reference, overwrite=overwrite)
    if figure is not None and picture is not None:
        save(figure, picture, overwrite=overwrite)
    facts = {"file": path, "measurement": found.to_dict(), "growth": growth.to_dict()}
    text = f"{found.report()}\n{growth.report()}"
    return facts, translated(text)


def _widest(found: Measurement) -> float:
    """The largest FWHM in columns."""
    wave = found.wavelength[np.isfinite(found.wavelength)]
    return float(np.max(found.width(wave)[0])) / found.pixel_scale


def _aperture(
    found: Measurement, growth: CurveOfGrowth, width: tuple[str, float]
) -> tuple[Aperture, float]:
    """The aperture, and how many columns it has where it is widest."""
    kind, number = width
    columns = growth.best if kind == "best" else number
    if kind == "fwhm":
        columns = number * _widest(found)
    first, last = found.columns
    if columns > last - first + 1:
        raise LRSError(
            f"{found.label}: --width is {columns:.1f} columns, expected at most "
            f"{last - first + 1}, which hold data"
        )
    if columns > growth.free_width:
        warnings.warn(
            f"an aperture of {columns:.1f} columns touches another trace or the image's edge: up "
            f"to {growth.free_width:.1f} are free",
            LRSWarning,
            stacklevel=2,
        )
    return (found.tapered(number) if kind == "fwhm" else found.box(columns)), columns


def _background(
    found: Measurement, background: Background, aperture: Aperture, columns: float
) -> Background | None:
    """Regions that touch neither source nor aperture; a reference has one variable for both."""
    beside = (columns / 2.0 + 1.0) / _widest(found)  # a pixel that is touched counts as a whole
    made = found.background(
        distance=None if beside < 1.6 else max(beside, 2.5),
        independent_var=aperture.independent_var,
        bkg_fit=background.bkg_fit,
    )
    if made is None:
        warnings.warn(
            f"there is no room for background regions beside an aperture of {columns:.1f} columns: "
            "the reference has none",
            LRSWarning,
            stacklevel=2,
        )
    return made
