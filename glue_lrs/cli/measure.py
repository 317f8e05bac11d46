"""The command ``glue-lrs measure``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from glue_lrs.cli import console, options, tasks
from glue_lrs.cli.plot import plot_names
from glue_lrs.cli.program import main
from glue_lrs.errors import LRSError, LRSWarning, escaped, quoted, warn

if TYPE_CHECKING:
    from glue_lrs.apertures.aperture import Aperture
    from glue_lrs.apertures.background import Background
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.measurement.curve_of_growth import CurveOfGrowth
    from glue_lrs.measurement.measurement import Measurement


class _Width(click.ParamType):  # type: ignore[type-arg]
    """Width of an aperture: a number of columns, a number followed by "fwhm", or "best"."""

    name = "WIDTH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Return the unit ("best", "columns" or "fwhm") and the number, 0 for "best"."""
        text = str(value).strip().lower()
        if text == "best":
            return "best", 0.0
        match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(fwhm|x ?fwhm)?", text)
        if match is None or float(match[1]) <= 0:
            self.fail(f"{quoted(value)}, expected best, columns such as 8, or 3fwhm", param, ctx)
        return ("fwhm" if match[2] else "columns"), float(match[1])


@main.command(short_help="Measure position and width of the source, and the best aperture.")
@options.FILES
@options.JSON
@click.option(
    "-o", "--output", type=options.FILE, metavar="PNG",
    help="File for the plot, if there is a single input; default: FILE_measured.png.",
)  # fmt: skip
@click.option("--no-plot", is_flag=True, help="Do not plot.")
@click.option(
    "--drift", type=options.FILE, metavar="ECSV",
    help="Write position and width of each integration of a stack to a table (single input only).",
)  # fmt: skip
@click.option(
    "--reference", type=options.FILE, metavar="JSON",
    help="Write an EXTRACT1D reference with an aperture around the source (single input only).",
)  # fmt: skip
@click.option(
    "--width", type=_Width(), default="best", show_default=True, metavar="WIDTH",
    help="Width of the aperture: best (highest S/N), a number of columns such as 8, or 3fwhm.",
)  # fmt: skip
@options.APCORR
@options.OVERWRITE
def measure(
    files: tuple[str, ...],
    as_json: bool,
    output: str | None,
    no_plot: bool,
    drift: str | None,
    reference: str | None,
    width: tuple[str, float],
    apcorr: str | None,
    overwrite: bool,
) -> int:
    """Measure position and width of the source, and the best aperture.

    For an s2d, cal or calints, the output lists the sources along the slit and the negative traces
    from other nods; the offset of the source from the position in the header; the trace and the
    width of the source versus wavelength, with errors and with the widths expected for LRS; and
    flux and S/N versus the width of the aperture. The plot is written to the current folder. For a
    calints, --drift writes shift and relative width of the source in each integration to a table.

    With --reference, the aperture and a background that avoids other traces are written to an
    EXTRACT1D reference, for glue-lrs extract --extract1d and for the pipeline. The columns in the
    reference are valid for this image only. If the background has been subtracted (S_BKDSUB), or
    there is no room, the reference has no background, and the output says so.

    Columns are counted from 0. The flux outside the aperture is corrected for with the measured
    profile, or with the APCORR reference from --apcorr.

    \b
    Examples:
      glue-lrs measure x_s2d.fits
      glue-lrs measure x_s2d.fits --reference my.json --width 3fwhm
      glue-lrs measure x_calints.fits --drift x_drift.ecsv
      glue-lrs measure --json --no-plot *_s2d.fits
    """
    named = (("--output", output), ("--reference", reference), ("--drift", drift))
    for option, value in named:
        if value is not None and len(files) > 1:
            raise click.UsageError(f"{option} names one file, but there are {len(files)}")
    if output is not None and no_plot:
        raise click.UsageError("--output and --no-plot exclude each other")
    plots: dict[str, str] = {}
    if not no_plot:
        names = [output or f"{Path(name).stem}_measured.png" for name in plot_names(files)]
        plots = dict(zip(files, names, strict=True))
    tasks.check_folders((output, reference, drift))
    tasks.check_outputs([reference, drift], overwrite)
    tasks.check_inputs_kept([one for one in (output, reference, drift) if one], files)

    from matplotlib.figure import Figure

    from glue_lrs.apertures.aperture_correction import ApertureCorrection
    from glue_lrs.extraction.extract import read_correction
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.io.files import already_exists
    from glue_lrs.io.tables import write_ecsv
    from glue_lrs.measurement.curve_of_growth import measure_with_growth
    from glue_lrs.plotting import plot_measurement, save

    def process(path: str) -> tuple[dict[str, Any], str]:
        image = _read(path, stacked=drift is not None)
        table = None if apcorr is None else read_correction(image, apcorr, {})
        found, growth, background = measure_with_growth(
            image, aperture_correction=table if isinstance(table, ApertureCorrection) else None
        )
        lines = [found.report(), growth.report()]
        shifts = None if drift is None else found.drift_table
        document, figure, subtracted = None, None, False
        if reference is not None:
            subtracted = image.is_background_subtracted
            aperture, background = _regions(found, growth, background, width, subtracted)
            operator = Extract1D(
                aperture=aperture, background=background, use_source_posn=False, id=image.exp_type
            )
            document = operator.to_reference(image)
        if path in plots:
            figure = plot_measurement(
                found, growth, background=background, figure=Figure, title=Path(path).name
            ).figure
        # Write no file unless all results could be computed.
        if figure is not None:
            save(figure, plots[path], overwrite=overwrite)
            lines.append(escaped(f"wrote {plots[path]}"))
        if document is not None and reference is not None:
            document.write(reference, overwrite=overwrite)
            if subtracted:
                lines.append("the reference has no background, as S_BKDSUB is COMPLETE")
            lines.append(escaped(f"wrote {reference}"))
        if shifts is not None and drift is not None:
            write_ecsv(shifts, drift, overwrite)
            lines.append(escaped(f"wrote {drift}"))
        facts = {"file": path, "measurement": found.to_dict(), "growth": growth.to_dict()}
        return facts, "\n".join(lines)

    # Existing plots are errors, but do not hide the measurement.
    kept = {path: name for path, name in plots.items() if not overwrite and Path(name).exists()}
    for path in kept:
        del plots[path]
    code = console.describe_each(files, process, as_json)
    for name in kept.values():
        console.say("error", console.error_text(already_exists(name)))
    written = console.exit_code(len(files) - len(kept), len(files))
    return max(code, written)


def _read(path: str, stacked: bool) -> SlitImage:
    """Read an image, which must be a stack if `stacked` is True."""
    from glue_lrs.image.slit_image import SlitImage

    image = SlitImage.read(path)
    if stacked and not image.is_stack:
        text = "is a single image, expected a stack of integrations (calints) for --drift"
        raise LRSError(text, subject=path)
    return image


def _regions(
    found: Measurement,
    growth: CurveOfGrowth,
    background: Background | None,
    width: tuple[str, float],
    subtracted: bool,
) -> tuple[Aperture, Background | None]:
    """Return the aperture with the width from --width, and background regions outside it.

    There are no regions if the background is subtracted already, or, with a warning, if there is no
    room for them.

    The regions also avoid the other sources. Their edges have the same independent variable as the
    aperture, because an EXTRACT1D reference has one independent variable for both.
    """
    kind, number = width
    wave = found.wavelength[np.isfinite(found.wavelength)]
    widest = float(np.max(found.width(wave)[0])) / found.pixel_scale
    columns = {"best": growth.best, "columns": number, "fwhm": number * widest}[kind]
    first, last = found.columns
    if columns > last - first + 1:
        most = f"expected at most {last - first + 1}, which have data"
        raise LRSError(f"--width is {columns:.1f} columns, {most}", subject=found.label)
    if columns > growth.free_width:
        text = f"an aperture of {columns:.1f} columns touches another trace or the image's edge"
        warn(LRSWarning(f"{text}, expected at most {growth.free_width:.1f} columns"))
    aperture = found.tapered(number) if kind == "fwhm" else found.box(columns)
    if subtracted:
        return aperture, None
    # Keep a distance of 1 column, because all pixels that a region touches belong to the region.
    distance = (columns / 2.0 + 1.0) / widest
    regions = None
    if background is not None:
        regions = found.background(
            distance=None if distance < 1.6 else max(distance, 2.5),
            independent_var=aperture.independent_var,
            bkg_fit=background.bkg_fit,
        )
    if regions is None:
        text = f"there is no room for background regions outside an aperture of {columns:.1f}"
        warn(LRSWarning(f"{text} columns: the reference has none"))
    return aperture, regions
