"""The command ``glue-lrs extract``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from glue_lrs.cli import batch, console, options, tasks
from glue_lrs.cli.program import main
from glue_lrs.errors import LRSError, LRSWarning, warn

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction

#: Suffixes of pipeline products, and the suffixes of the spectra that are extracted from them.
_SUFFIXES = {
    "s2d": "x1d", "cal": "x1d", "crf": "x1d", "bsub": "x1d",
    "calints": "x1dints", "crfints": "x1dints", "bsubints": "x1dints",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Job(batch.Job):
    """Spectrum to extract, with all options."""

    recipe: options.RecipeOptions
    crds: str | None

    def absolute(self) -> Self:
        """Return the job with absolute paths."""
        return replace(super().absolute(), recipe=self.recipe.absolute())


@main.command(short_help="Extract spectra from s2d, cal and calints files.")
@click.argument("files", type=options.FILE, nargs=-1, metavar="FILE...")
@options.recipe_options
@click.option(
    "--crds", is_flag=False, flag_value="", metavar="[CONTEXT]", callback=options.context_name,
    help="Use the best references from CRDS where --extract1d, --apcorr or --psf is not given.",
)  # fmt: skip
@click.option(
    "-o",
    "--output",
    type=options.FITS,
    metavar="FILE",
    help="Output file for the spectrum of a single input, or of the segments of an exposure, which "
    "are then extracted together.",
)
@click.option(
    "--output-dir",
    type=options.FOLDER,
    metavar="DIR",
    help="Output folder; created if it does not exist.",
)
@click.option(
    "--table", type=options.FILE, metavar="ECSV",
    help="Table with a column file and columns of options, such as xstart: options of each file. "
    "Without FILE..., its files are extracted.",
)  # fmt: skip
@options.OVERWRITE
@click.option(
    "--plot", "plotted", is_flag=True, help="Plot each spectrum (PNG next to the output)."
)
@batch.resource_options
@options.reporting_options
def extract(
    files: tuple[str, ...],
    recipe: options.RecipeOptions,
    crds: str | None,
    output: str | None,
    output_dir: str | None,
    table: str | None,
    overwrite: bool,
    plotted: bool,
    resources: batch.Resources,
    reporting: console.Reporting,
) -> int:
    """Extract spectra from s2d, cal and calints files.

    The spectrum from x_s2d.fits or x_cal.fits is written to x_x1d.fits, and that from
    x_calints.fits to x_x1dints.fits, in the current folder or in --output-dir. Existing files are
    replaced only with --overwrite. If a file fails, the other files are still extracted.

    The segments of a time series (x-seg001_calints.fits, ...) are extracted one by one, to a file
    each, as in the pipeline. Other commands and Spectrum.read take these files as one time series.
    With --output, the segments are extracted together to one x1dints, with one aperture and, in an
    optimal extraction, one profile; memory is needed for the spectra only.

    The table at the end lists for each file the aperture (first and last column, inclusive, counted
    from 0, averaged over the rows), the shift of the aperture in columns, the number of rows
    without a usable flux, and the number of warnings and errors. For an optimal extraction, further
    lines list the sources fitted simultaneously and the number of rejected pixels.

    Without --extract1d, the built-in reference is used. In the slit, its aperture for a point
    source is moved to the source position in the header. The background regions are moved by the
    same amount, except with --set fixed_background=true. --aperture measured places the
    aperture on the measured trace instead. --set background=auto places background regions beside
    the source, clear of other sources and of hot columns. --set max_lost=0.1 masks
    rows that lose more than a tenth of the aperture to bad pixels. --set bad_pixels=profile
    restores the flux in bad pixels from the spatial profile. --set filled_pixels=lost also treats
    those as bad that the pipeline filled in from their neighbours when it resampled the image.
    --set correction=profile
    derives the aperture correction of a point source from its profile and position in the image,
    and scales it to --apcorr. --set time_outliers=replace replaces pixels of a time series that
    deviate from the other integrations, such as those hit by a cosmic ray. --set drift=correct
    corrects the flux of a time series for light that moves out of the aperture, and
    --set hot_pixels=lost leaves out pixels that are too bright in all integrations.

    --set noise=nod adds the noise of the other nods, which the pipeline subtracts without including
    its variance in the errors. --nods names their files; without them, the noise is derived from
    columns without sources.

    --set extraction_type=optimal weights the pixels with the spatial profile of a point source,
    which is fitted to the image. With a PSF reference (--psf or --crds), it reproduces the optimal
    extraction of the pipeline. --set optimal_mode=psf also uses the profile from the PSF reference,
    but improves on the fit of the pipeline.

    Each spectrum is checked: is the aperture on the source, is the background subtracted, are
    pixels missing? Warnings and errors are printed, and all findings recorded in the output.

    For many files, --jobs extracts in several processes, and --scheduler on a Dask cluster.
    --manifest records each output, and a later run with the same manifest makes only those whose
    input, parameters or version have changed. --table gives each file its own settings.

    \b
    Exit code: 0 if all files are extracted, 1 if some fail, 2 if all fail or for wrong usage. With
    --strict, 1 also if there are warnings or errors.

    \b
    Examples:
      glue-lrs extract jw*_s2d.fits --output-dir spectra --plot
      glue-lrs extract x_s2d.fits --set xstart=25 --set xstop=36 --set use_source_posn=false
      glue-lrs extract x_s2d.fits --set 'bkg_coeff=[[0.5],[4.5]]' --set fixed_background=true
      glue-lrs extract x_calints.fits --extract1d my.json --apcorr jwst_miri_apcorr_0010.fits
      glue-lrs extract x_s2d.fits --set extraction_type=optimal --plot
      glue-lrs extract x-seg*_calints.fits --output x_x1dints.fits
      glue-lrs extract *_s2d.fits --output-dir spectra --manifest spectra/run.ecsv --jobs 8
    """
    if output is not None and output_dir is not None:
        raise click.UsageError("--output and --output-dir exclude each other")
    if not files and table is None:
        raise click.MissingParameter(param_type="argument", param_hint="'FILE...'")
    tasks.check_folders([output])
    tasks.check_output_folder(output_dir)
    files, recipes = _recipes(files, recipe, table)
    together = output is not None and len(files) > 1
    if together:
        _check_segments(files)
        if table is not None:
            raise click.UsageError("--table and --output exclude each other for several files")
    planned = []
    for path, own in list(zip(files, recipes, strict=True))[: 1 if together else None]:
        target = output or _output_name(path, output_dir)
        planned.append(
            _Job(
                files=files if together else (path,),
                output=target,
                plot=f"{tasks.base_name(target)}.png" if plotted else None,
                overwrite=overwrite,
                parameters=_parameters(own, crds, plotted) if resources.manifest else "{}",
                recipe=own,
                crds=crds,
            )
        )
    batch.check_targets(planned, [*files, *(path for own in recipes for path in own.files)])
    if output is not None:
        tasks.check_product_name(output, "x1d", "x1dints")
    reporter = console.Reporter(reporting)
    return batch.summarize(planned, batch.run(planned, _extract, resources, reporter), reporter)


def _recipes(
    files: tuple[str, ...], recipe: options.RecipeOptions, table: str | None
) -> tuple[tuple[str, ...], list[options.RecipeOptions]]:
    """Return the files, and the options of each; both are in the table if there is one."""
    if table is None:
        return files, [recipe] * len(files)
    from glue_lrs.cli.settings_table import SettingsTable

    rows = SettingsTable(table)
    files = files or tuple(rows.files)
    return files, [recipe.with_keys(rows.keys(file)) for file in files]


def _check_segments(files: Sequence[str]) -> None:
    """Raise `click.UsageError` if files that are to be extracted together are not calints."""
    from glue_lrs.io.identify import identify_product

    other = next((path for path in files if identify_product(path) != "calints"), None)
    if other is not None:
        raise click.UsageError(
            f"--output names one file, but there are {len(files)}, and {other} is not a segment of "
            "an exposure (calints)"
        )


def _output_name(path: str, folder: str | None) -> str:
    """Return the output path, whose name is that of the image with the suffix of a spectrum."""
    stem = tasks.base_name(Path(path).name)
    base, _, suffix = stem.rpartition("_")
    product = _SUFFIXES.get(suffix.lower()) if base else None
    name = f"{stem}_x1d" if product is None else f"{base}_{product}"
    return str(Path(folder or "") / f"{name}.fits")


def _parameters(recipe: options.RecipeOptions, crds: str | None, plotted: bool) -> str:
    """Return the options that affect a spectrum, with the checksums of their files, as JSON."""
    values = recipe.recorded() | ({} if crds is None else {"crds": crds or "latest"})
    return json.dumps(values | ({"plot": True} if plotted else {}), sort_keys=True)


def _extract(job: _Job) -> batch.Done:
    """Extract an image, write and plot the spectrum, and describe it."""
    from glue_lrs.cli.summary import summarize
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.summary import signal_to_noise

    image = SlitImage.read(list(job.files) if len(job.files) > 1 else job.path)
    operator = tasks.operator_from_options(image, _with_best_references(job))
    extraction = _written_before(job, operator, image)
    remarks: list[str] = []
    if extraction is None or not all(map(os.path.exists, job.targets)):
        job = job if extraction is None else replace(job, overwrite=True)  # its plot is missing
        extraction, remarks = _written(job, operator, image)
    notes = console.finding_notes(tasks.new_findings(image, extraction.findings))
    mask, header = extraction.mask, extraction.header
    facts = batch.facts_about(
        header, extraction.findings, signal_to_noise(extraction), mask.size, int(mask.sum())
    )
    row = {"file": Path(image.label).name, **summarize(extraction)}
    return batch.Done(row, {**facts, "sha256": _checksums(extraction)}, remarks, notes)


def _written(job: _Job, operator: Extract1D, image: SlitImage) -> tuple[Extraction, list[str]]:
    """Extract an image, write and plot the spectrum, and return it and notes about the fit."""
    from glue_lrs.plotting import save

    tasks.check_outputs(job.targets, job.overwrite)
    extraction, result = tasks.extract_and_check(operator, image)
    figure, output = None, Path(job.output)
    if job.plot is not None:
        figure = tasks.plot_extracted(image, operator, extraction, result, title=output.name)
    with tasks.created_folder(output.parent):
        extraction.write(job.output, overwrite=job.overwrite)
        if figure is not None and job.plot is not None:
            save(figure, job.plot, overwrite=job.overwrite)
    return extraction, [] if result is None else result.remarks


def _written_before(job: _Job, operator: Extract1D, image: SlitImage) -> Extraction | None:
    """Return the spectrum if a process that was killed had written it, with the same options."""
    from glue_lrs.extraction.rerun import is_result
    from glue_lrs.spectra.extraction import Extraction

    if job.overwrite or not job.repeatable or not os.path.exists(job.output):
        return None
    try:
        found = Extraction.read(job.output)
    except LRSError:  # another file
        return None
    return found if is_result(found.provenance, operator, image) else None


def _checksums(extraction: Extraction) -> str:
    """Return the checksums of the files that were read, as in a manifest."""
    from glue_lrs.cli.manifest import joined

    assert extraction.provenance is not None  # all extractions record it
    record: dict[str, Any] = extraction.provenance["input"]
    sums = [one["sha256"] for one in record.get("segments") or [record]]
    return "" if None in sums else joined(sums)


def _with_best_references(job: _Job) -> options.RecipeOptions:
    """Return the options of a job, completed with the best references from CRDS if requested."""
    recipe, settings = job.recipe, job.recipe.settings
    fitted = (
        settings.get("extraction_type") == "optimal"
        or settings.get("bad_pixels") is not None
        or settings.get("correction") == "profile"
    )
    needs_psf = recipe.psf is None and fitted
    if job.crds is None or not (needs_psf or recipe.extract1d is None or recipe.apcorr is None):
        return recipe
    from glue_lrs.io.crds import best_references

    best = best_references(job.path, job.crds or None)
    if needs_psf and best["psf"] is None:
        text = "CRDS has no PSF reference for this file; the profile is fitted to the image"
        warn(LRSWarning(text))
    return replace(
        recipe,
        extract1d=recipe.extract1d or best["extract1d"],
        apcorr=recipe.apcorr or best["apcorr"],
        psf=best["psf"] if needs_psf else recipe.psf,
    )
