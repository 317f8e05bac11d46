"""The command ``glue-lrs combine``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import click

from glue_lrs.cli import console, options, tasks
from glue_lrs.cli.program import main
from glue_lrs.errors import LRSWarning

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.spectra.findings import Finding


@main.command(short_help="Combine nods or exposures into one spectrum.")
@options.FILES
@click.option(
    "-o",
    "--output",
    type=options.FITS,
    required=True,
    metavar="C1D",
    help="Output file for the combined spectrum.",
)
@options.OVERWRITE
@click.option(
    "--weights",
    type=click.Choice(["exposure_time", "integration_time", "unit", "inverse_variance"]),
    default="exposure_time",
    show_default=True,
    help="Weights of the spectra.",
)
@click.option(
    "--sigma-clip", type=click.FloatRange(min=0, min_open=True), metavar="SIGMA",
    help="Reject values more than SIGMA errors from those of the other spectra (at least three).",
)  # fmt: skip
@click.option(
    "--pipeline", is_flag=True, help="Reproduce combine_1d of the pipeline, including its faults."
)
@click.option(
    "--plot", "plotted", is_flag=True,
    help="Plot the combined spectrum and its inputs (PNG next to the output).",
)  # fmt: skip
@click.option("--scale", is_flag=True, help="Scale the spectra to the mean of their fluxes.")
@click.option(
    "--keep-incomplete", is_flag=True,
    help="Keep values that lost pixels where other spectra have complete ones.",
)  # fmt: skip
@click.option(
    "--allow-opposite", is_flag=True, help="Combine spectra with mean fluxes of opposite signs."
)
@options.reporting_options
@options.recipe_options
def combine(
    files: tuple[str, ...],
    output: str,
    overwrite: bool,
    weights: str,
    sigma_clip: float | None,
    pipeline: bool,
    plotted: bool,
    scale: bool,
    keep_incomplete: bool,
    allow_opposite: bool,
    recipe: options.RecipeOptions,
    reporting: console.Reporting,
) -> int:
    """Combine nods or exposures into one spectrum.

    Spectra (x1d, x1dints) are combined directly. Images (s2d, cal, calints) are first extracted, as
    by glue-lrs extract. Spectra are not resampled: each value of a spectrum is assigned to one
    wavelength bin of the common grid.

    \b
    Examples:
      glue-lrs combine nod1_x1d.fits nod2_x1d.fits -o both_c1d.fits
      glue-lrs combine nod*_s2d.fits --apcorr jwst_miri_apcorr_0010.fits -o both_c1d.fits
      glue-lrs combine nod*_s2d.fits --set extraction_type=optimal -o best_c1d.fits --plot
      glue-lrs combine *_x1d.fits --weights inverse_variance --sigma-clip 4 -o all_c1d.fits
    """
    from glue_lrs.combination.combine import combine as combine_spectra
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.io.spectra import read_inputs
    from glue_lrs.plotting import save

    targets = [output, f"{tasks.base_name(output)}.png"][: 2 if plotted else 1]
    _check_names(targets, [*files, *recipe.files])
    notes: list[console.Note] = []
    with console.collect_warnings(notes):
        inputs = [
            _Unextracted(str(one.filename), tasks.operator_from_options(one, recipe))
            if isinstance(one, SlitImage)
            else one
            for one in read_inputs(files)
        ]
    notes += _reported_settings(inputs, recipe)
    tasks.check_outputs(targets, overwrite)
    found = [one.run() if isinstance(one, _Unextracted) else (one, one.findings) for one in inputs]
    spectra = [spectrum for spectrum, _ in found]
    mode = "pipeline" if pipeline else "default"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)  # its findings are printed below
        combination = combine_spectra(
            spectra,
            weights=weights,
            sigma_clip=sigma_clip,
            mode=mode,
            incomplete="keep" if keep_incomplete else "reject",
            scale=scale,
            allow_opposite=allow_opposite,
        )
    reporter = console.Reporter(reporting)
    reporter.report(console.Outcome("", notes=notes))  # the notes name the files
    for number, (one, (spectrum, findings)) in enumerate(zip(inputs, found, strict=True), start=1):
        label = one.filename or str(spectrum.header.get("FILENAME") or f"spectrum {number}")
        _report_input(label, spectrum, findings, reporter, not keep_incomplete and not pipeline)
    notes = console.finding_notes(combination.findings)
    reporter.report(console.Outcome(output, notes=notes))
    reporter.close()
    figure = None
    if plotted:
        labelled = [
            (str(one.header.get("FILENAME") or f"spectrum {i}"), one)
            for i, one in enumerate(spectra, start=1)
        ]
        figure = tasks.plot_spectra([(output, combination.to_extraction()), *labelled])
    combination.write(output, overwrite=overwrite)
    if figure is not None:
        save(figure, targets[1], overwrite=overwrite)
    rows = [
        {
            "input": one.label,
            "rows used": str(one.rows_used),
            "rows clipped": str(one.rows_clipped),
        }
        for one in combination.inputs
    ]
    console.echo(console.table_text(rows), lines=True)
    kind = "spectrum" if len(rows) == 1 else "spectra"
    console.echo(f"{output}: {combination.wavelength.size} rows of {len(rows)} {kind}")
    return reporter.exit_code(1, 1)


def _check_names(targets: Sequence[str], inputs: Sequence[str]) -> None:
    """Raise an error if the outputs, of which the first is the spectrum, cannot be written."""
    tasks.check_inputs_kept(targets, inputs)
    tasks.check_product_name(targets[0], "c1d")
    tasks.check_folders(targets)


def _reported_settings(
    inputs: Sequence[object], recipe: options.RecipeOptions
) -> list[console.Note]:
    """Return a warning if the files are spectra, but there are settings of an extraction."""
    if any(isinstance(one, _Unextracted) for one in inputs):
        return []
    console.no_images()
    text = f"{', '.join(recipe.given)}: no effect, because the files contain spectra"
    return [("warning", text)] if recipe.given else []


class _Unextracted(NamedTuple):
    """Image that is read again when it is extracted."""

    filename: str
    operator: Extract1D

    def run(self) -> tuple[Extraction, Sequence[Finding]]:
        """Return the spectrum, and its findings of which reading the image does not warn."""
        image = tasks.read_again(self.filename)
        extraction, _ = tasks.extract_and_check(self.operator, image)
        return extraction, tasks.new_findings(image, extraction.findings)


def _report_input(
    label: str,
    spectrum: Extraction,
    findings: Sequence[Finding],
    reporter: console.Reporter,
    rejected: bool,
) -> None:
    """Report the findings of an input, without those about pixels whose values are rejected."""
    from glue_lrs.combination.inputs import InputBlock

    if rejected:
        findings = InputBlock(spectrum, label).remaining_findings(findings)
    reporter.report(console.Outcome(label, notes=console.finding_notes(findings)))
