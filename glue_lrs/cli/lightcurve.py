"""The command ``glue-lrs lightcurve``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click
import numpy as np

from glue_lrs.cli import batch, console, options, tasks
from glue_lrs.cli.program import main
from glue_lrs.errors import LRSError, quoted

if TYPE_CHECKING:
    from glue_lrs.timeseries.curve import LightCurve


class _Numbers(click.ParamType):  # type: ignore[type-arg]
    """Ascending numbers separated by commas, of which there are `count` if it is given."""

    def __init__(self, name: str, expected: str, count: int | None = None) -> None:
        self.name, self._expected, self._count = name, expected, count

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a tuple of numbers, or reject the value."""
        try:
            numbers = tuple(float(one) for one in str(value).split(","))
        except ValueError:
            numbers = ()
        ascending = all(one < other for one, other in pairwise(numbers))  # False for NaN
        if not ascending or len(numbers) != (self._count or max(len(numbers), 1)):
            self.fail(f"{quoted(value)}, expected {self._expected}", param, ctx)
        return numbers


def _bins(numbers: tuple[float, ...] | None) -> Any:
    """Return the value of --bins for `light_curve`: a number of bins, or edges."""
    if numbers is None or len(numbers) > 1:
        return numbers
    if not numbers[0].is_integer():
        raise click.UsageError(f"--bins is {numbers[0]:g}, expected a whole number, or edges")
    return int(numbers[0])


@main.command(short_help="Make light curves from the spectra of a time series.")
@options.FILES
@click.option(
    "-o", "--output", type=options.FILE, metavar="FILE",
    help="Output file, which ends in .ecsv or .fits.",
)  # fmt: skip
@click.option(
    "--output-dir", type=options.FOLDER, metavar="DIR",
    help="Output folder, created if it does not exist. One light curve is made "
    "from the files of each exposure.",
)  # fmt: skip
@options.OVERWRITE
@click.option(
    "--bins", type=_Numbers("N", "a number of bins, or ascending edges such as 5,6,10"),
    help="Number of wavelength bins, or their edges in micron, such as 5,6,7.5,10.",
)  # fmt: skip
@click.option(
    "--range", "wavelength_range",
    type=_Numbers("FROM,TO", "two ascending wavelengths such as 5,12", 2),
    help="Wavelengths in micron.  [default: 5,12]",
)  # fmt: skip
@click.option(
    "--weights", type=click.Choice(["sum", "inverse_variance"]), default="sum", show_default=True,
    help="Weights of the wavelength elements.",
)  # fmt: skip
@click.option(
    "--error", type=click.Choice(["propagated", "scatter"]), default="propagated",
    show_default=True, help="Errors: propagated, or multiplied to match the scatter.",
)  # fmt: skip
@click.option(
    "--out-of-transit", type=_Numbers("FROM,TO", "two ascending times such as 60000.1,60000.2", 2),
    multiple=True,
    help="Times (MJD, as in the output) between which the star is constant, for the scatter; may "
    "be repeated.",
)  # fmt: skip
@click.option(
    "--pipeline", is_flag=True,
    help="Reproduce white_light of the pipeline (x_whtlt.ecsv), including its faults.",
)  # fmt: skip
@click.option(
    "--plot", "plotted", is_flag=True, help="Plot the light curves (PNG next to the output)."
)
@click.option("--allan", is_flag=True, help="Plot the noise of means of several points, too.")
@options.recipe_options
@options.JSON
@batch.resource_options
@options.reporting_options
def lightcurve(
    files: tuple[str, ...],
    output: str | None,
    output_dir: str | None,
    overwrite: bool,
    bins: tuple[float, ...] | None,
    wavelength_range: tuple[float, ...] | None,
    weights: str,
    error: str,
    out_of_transit: tuple[tuple[float, ...], ...],
    plotted: bool,
    allan: bool,
    pipeline: bool,
    recipe: options.RecipeOptions,
    as_json: bool,
    resources: batch.Resources,
    reporting: console.Reporting,
) -> int:
    """Make light curves from the spectra or images of a time series.

    The files are x1dints or calints; several files are the segments of one time series. The light
    curves are written to x_lightcurve.ecsv for x_x1dints.fits, or to --output: the white light
    curve in the columns flux and flux_err, those of the bins in flux_1, flux_err_1 and so on. The
    times are barycentric (TDB) if the files have them. With --output-dir, the files may be those of
    several exposures, and there is a light curve of each.

    Images are extracted in chunks, with the settings of glue-lrs extract (--set and others), so
    that the memory does not depend on the number of integrations. The drift of the source is
    measured, too, and is in the columns shift and width. An optimal extraction, and others that fit
    a profile, need memory for all spectra.

    Values that lost pixels in some integrations are replaced by the mean spectrum, scaled to its
    neighbours, so that a bad pixel is no dip; those that are lost in many are left out of all.

    The table lists for each band the noise of a point in parts per million of its flux: expected
    from the errors, of which the photons, and the scatter of neighbouring points.

    \b
    Examples:
      glue-lrs lightcurve x_x1dints.fits --plot
      glue-lrs lightcurve x_x1dints.fits --bins 20 --plot --allan
      glue-lrs lightcurve x_x1dints.fits --bins 5,6,8,12 --weights inverse_variance -o x.fits
      glue-lrs lightcurve x_x1dints.fits --pipeline
      glue-lrs lightcurve *_x1dints.fits --output-dir curves --jobs 4 --manifest curves.ecsv
      glue-lrs lightcurve x-seg*_calints.fits --set background=auto --set time_outliers=replace
    """
    from glue_lrs.io.identify import IMAGE_KINDS, is_lrs_product

    images = [path for path in files if is_lrs_product(path, IMAGE_KINDS)]
    if images and len(images) < len(files):
        text = "is an image, and another file is a spectrum, expected images or spectra only"
        raise LRSError(text, subject=images[0])
    if recipe.given and not images:
        given = recipe.given[0]
        raise click.UsageError(f"{given} is for images (calints), and the files are spectra")
    if not images:
        console.no_images()
    if pipeline:
        if images:
            text = "is an image, expected spectra (x1dints), which glue-lrs extract makes from it"
            raise LRSError(text, subject=images[0])
        if (
            bins
            or out_of_transit
            or plotted
            or as_json
            or output_dir
            or resources != batch.Resources()
            or (weights, error) != ("sum", "propagated")
        ):
            raise click.UsageError("--pipeline excludes all other options but -o and --range")
        return _reproduce(
            files, output or _output_name(files[0], "whtlt"), overwrite, wavelength_range
        )
    if allan and not plotted:
        raise click.UsageError("--allan needs --plot")
    if wavelength_range is not None and bins is not None and len(bins) > 1:
        raise click.UsageError("--range and the edges of --bins exclude each other")
    if output is not None and output_dir is not None:
        raise click.UsageError("--output and --output-dir exclude each other")
    settings = {
        "wavelength_range": wavelength_range,
        "bins": _bins(bins),
        "weights": weights,
        "error": error,
        "out_of_transit": out_of_transit or None,
    }
    extraction = recipe if images else None
    jobs = _jobs(files, output, output_dir, settings, extraction, (plotted, allan), overwrite)
    batch.check_targets(jobs, [*files, *recipe.files])
    _check_outputs(jobs, output, output_dir, overwrite or resources.manifest is not None)
    reporter = console.Reporter(reporting)
    outcomes = batch.run(jobs, _make, resources, reporter)
    if as_json:
        done = [one.result for one in outcomes if one.result is not None]
        console.echo(
            json.dumps([one.details["facts"] for one in done if one.details], indent=2), lines=True
        )
        return reporter.exit_code(len(done), len(jobs))
    if output_dir is not None or outcomes[0].result is None or outcomes[0].result.unchanged:
        return batch.summarize(jobs, outcomes, reporter)
    console.echo(console.table_text(outcomes[0].result.details["bands"]), lines=True)
    for name in jobs[0].targets:
        console.echo(f"wrote {name}")
    return reporter.exit_code(1, 1)


@dataclass(frozen=True, kw_only=True)
class _Job(batch.Job):
    """Light curve to make: parameters of `light_curve`, and whether to plot the Allan deviation."""

    settings: dict[str, Any]
    allan: bool
    recipe: options.RecipeOptions | None = None  # of images

    @property
    def label(self) -> str:
        """Name of the time series in messages."""
        return self.path if len(self.files) == 1 else self.output

    def absolute(self) -> Self:
        """Return the job with absolute paths, also of references."""
        recipe = None if self.recipe is None else self.recipe.absolute()
        return replace(super().absolute(), recipe=recipe)


def _jobs(
    files: tuple[str, ...],
    output: str | None,
    output_dir: str | None,
    settings: dict[str, Any],
    recipe: options.RecipeOptions | None,
    figure: tuple[bool, bool],
    overwrite: bool,
) -> list[_Job]:
    """Return the light curves to make: one, or with `output_dir` one of each exposure."""
    from glue_lrs.io.image_segments import group_segments

    plotted, allan = figure
    extraction = None if recipe is None else recipe.recorded()
    values = {**settings, "plot": plotted, "allan": allan, "extraction": extraction}
    chosen = {key: value for key, value in values.items() if value}
    jobs = []
    for group in [list(files)] if output_dir is None else group_segments(files):
        target = output or str(Path(output_dir or "") / _output_name(group[0]))
        jobs.append(
            _Job(
                files=tuple(group),
                output=target,
                plot=f"{_stem(target)}.png" if plotted else None,
                overwrite=overwrite,
                parameters=json.dumps(chosen, sort_keys=True),
                settings=settings,
                allan=allan,
                recipe=recipe,
            )
        )
    return jobs


def _check_outputs(
    jobs: list[_Job], output: str | None, output_dir: str | None, replaceable: bool
) -> None:
    """Raise an error if the outputs cannot be written, before the light curves are made."""
    tasks.check_output_folder(output_dir)
    if output is not None:
        tasks.check_product_name(output)
    if output_dir is None:
        tasks.check_folders(jobs[0].targets)
        tasks.check_outputs(jobs[0].targets, replaceable)


def _make(job: _Job) -> batch.Done:
    """Make, write and plot the light curves of an exposure, and describe them."""
    from matplotlib.figure import Figure

    from glue_lrs.cli.manifest import joined
    from glue_lrs.plotting import plot_light_curve, save
    from glue_lrs.timeseries import light_curve

    source = job.files if job.recipe is None else _extracted(job.files, job.recipe)
    curve = light_curve(source, check=False, **job.settings)
    overwrite = job.overwrite or (job.repeatable and _is_stored(curve, job.output))
    panels = None
    if job.plot is not None:
        panels = plot_light_curve(curve, allan=job.allan, figure=Figure)
    with tasks.created_folder(Path(job.output).parent):
        curve.write(job.output, overwrite=overwrite)
        if panels is not None and job.plot is not None:
            save(panels.figure, job.plot, overwrite=overwrite)
    bands = _rows(curve)
    white = curve.flux[:, 0]
    good = np.isfinite(white)
    ratio = float(np.median((white / curve.error[:, 0])[good])) if good.any() else None
    facts = batch.facts_about(curve.header, curve.findings, ratio, white.size, int((~good).sum()))
    inputs = [one["sha256"] for one in curve.provenance["inputs"]]
    row = {
        "file": Path(job.path).name + (f" and {len(job.files) - 1} more" if job.files[1:] else ""),
        "points": str(white.size),
        "bins": str(len(bands) - 1),
        **{key: value for key, value in bands[0].items() if key.endswith("]")},
    }
    return batch.Done(
        row,
        {**facts, "sha256": "" if None in inputs else joined(inputs)},
        findings=console.finding_notes(curve.findings),
        details={"bands": bands, "facts": {"output": job.output, **_facts(curve)}},
    )


def _is_stored(curve: LightCurve, path: str) -> bool:
    """Return whether a file has the same light curves, of a process that was killed afterwards."""
    from glue_lrs.io.light_curve_writer import read_provenance
    from glue_lrs.spectra.provenance import same_recipe

    try:
        return same_recipe(read_provenance(path), curve.provenance)
    except LRSError:  # another file
        return False


def _stem(name: str) -> str:
    return re.sub(r"\.ecsv$", "", tasks.base_name(name), flags=re.IGNORECASE)


def _output_name(path: str, suffix: str = "lightcurve") -> str:
    """Return the name of the light curve of a file, in the current folder."""
    stem = _stem(Path(path).name)
    return f"{re.sub('_(x1d|cal|crf|bsub)ints$', '', stem, flags=re.IGNORECASE)}_{suffix}.ecsv"


def _extracted(files: tuple[str, ...], recipe: options.RecipeOptions) -> Any:
    """Return the spectra of images, which are extracted in chunks if this is possible."""
    from glue_lrs.extraction.chunks import ChunkedExtraction, can_extract_in_chunks
    from glue_lrs.image.slit_image import SlitImage

    image = SlitImage.read(files[0] if len(files) == 1 else list(files))
    operator = tasks.operator_from_options(image, recipe)
    if can_extract_in_chunks(operator):
        return ChunkedExtraction(operator, image, release=True)
    return operator.run(image)


def _reproduce(
    files: tuple[str, ...],
    target: str,
    overwrite: bool,
    wavelength_range: tuple[float, ...] | None,
) -> int:
    """Write the white light curve of the pipeline."""
    from glue_lrs.io.tables import write_ecsv
    from glue_lrs.timeseries import white_light

    tasks.check_inputs_kept([target], files)
    tasks.check_folders([target])
    tasks.check_outputs([target], overwrite)
    table = white_light(files, *(wavelength_range or ()))
    write_ecsv(table, target, overwrite)
    console.echo(f"wrote {target}: {len(table)} points")
    return console.OK


def _facts(curve: LightCurve) -> dict[str, Any]:
    """Return the facts about light curves for JSON: times, bands and findings."""
    return {
        "points": len(curve.flux),
        "time": curve.time_label,
        "first": float(curve.time.mjd[0]),
        "last": float(curve.time.mjd[-1]),
        "unit": curve.unit,
        "bands": curve.table.meta["bands"],
        "findings": [one.to_dict() for one in curve.findings],
    }


def _rows(curve: LightCurve) -> list[dict[str, str]]:
    """Return the rows of the table of the bands, with the noise in parts per million."""

    def ppm(value: float, band: int) -> str:
        relative = 1e6 * value / curve.level[band]
        return f"{relative:.0f}" if math.isfinite(relative) else "-"

    return [
        {
            "band": "white" if band == 0 else str(band),
            "wavelength [um]": f"{low:.2f} to {high:.2f}",
            "elements": str(curve.elements[band]),
            "replaced": str(int(curve.replaced[:, band].sum())),
            f"flux [{curve.unit}]": f"{curve.level[band]:.4g}",
            "expected [ppm]": ppm(curve.expected_noise[band], band),
            "photons [ppm]": ppm(curve.expected_photon_noise[band], band),
            "scatter [ppm]": ppm(curve.scatter[band], band),
        }
        for band, (low, high) in enumerate(curve.edges)
    ]
