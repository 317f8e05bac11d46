"""The command ``glue-lrs budget``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from glue_lrs.cli import console, options, tasks
from glue_lrs.cli.program import main
from glue_lrs.errors import escaped

if TYPE_CHECKING:
    from astropy.table import QTable

    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage


@main.command(short_help="List the contributions to the uncertainty of the flux.")
@options.FILES
@options.recipe_options
@options.JSON
@click.option(
    "-o", "--output", type=options.FILE, metavar="ECSV",
    help="Write the contributions at each wavelength to a table, if there is a single input.",
)  # fmt: skip
@click.option(
    "--plot", type=options.FILE, metavar="PNG", help="Plot them, if there is a single input."
)
@options.OVERWRITE
def budget(
    files: tuple[str, ...],
    recipe: options.RecipeOptions,
    as_json: bool,
    output: str | None,
    plot: str | None,
    overwrite: bool,
) -> int:
    """List the contributions to the uncertainty of the flux.

    The image is extracted with the given settings. For the mean flux in four bands, the output
    lists in percent of the flux the noise of photons, detector and subtracted nods, the error of
    the flat field, and what the errors of a spectrum never include: the uncertainty of the position
    of the source in the aperture, of a fitted profile, and of the aperture correction. The noise of
    the background is a part of the noise. Of a time series, the median of all integrations is used.
    Flux that the spectrum lacks, such as that outside the aperture without --apcorr, is no error:
    it is listed below the table.

    \b
    Examples:
      glue-lrs budget x_s2d.fits --apcorr jwst_miri_apcorr_0010.fits --set noise=nod
      glue-lrs budget x_s2d.fits --set extraction_type=optimal --plot budget.png -o budget.ecsv
    """
    for option, value in (("--output", output), ("--plot", plot)):
        if value is not None and len(files) > 1:
            raise click.UsageError(f"{option} names one file, but there are {len(files)}")
    targets = [one for one in (output, plot) if one is not None]
    tasks.check_inputs_kept(targets, [*files, *recipe.files])
    tasks.check_folders(targets)
    tasks.check_outputs(targets, overwrite)

    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.io.tables import write_ecsv
    from glue_lrs.measurement.error_budget import error_budget, mean_in_bands

    def process(path: str) -> tuple[dict[str, Any], str]:
        image = SlitImage.read(path)
        image = image.median() if image.is_stack else image
        operator = tasks.operator_from_options(image, recipe)
        table = error_budget(image, operator)
        means = mean_in_bands(table)
        lines = [f"{escaped(path)}: errors of the mean flux in percent", _text(means)]
        missing = _missing(operator, image)
        lines += [f"not in the table: {escaped(one)}" for one in missing]
        if plot is not None:
            from matplotlib.figure import Figure

            from glue_lrs.plotting import plot_budget, save

            figure = Figure(figsize=(8.5, 5.0), layout="constrained")
            plot_budget(table, ax=figure.subplots(), title=Path(path).name)
            save(figure, plot, overwrite=overwrite)
            lines.append(escaped(f"wrote {plot}"))
        if output is not None:
            write_ecsv(table, output, overwrite)
            lines.append(escaped(f"wrote {output}"))
        facts = {
            "file": path,
            "unit": str(table["FLUX"].unit),
            "bands": _facts(means),
            "not_applied": [one.lower() for one in table.meta["not_applied"]],
            "missing": missing,
        }
        return facts, "\n".join(lines)

    return console.describe_each(files, process, as_json)


#: Kinds of findings about flux that the spectrum lacks, whatever its errors.
_MISSING = (
    "no_aperture_correction", "flux_outside", "off_centre", "far_off_centre", "source_outside",
    "correction_off_centre", "background_left",
)  # fmt: skip


def _missing(operator: Extract1D, image: SlitImage) -> list[str]:
    """Return the texts of the findings about flux that the errors do not include."""
    found = [one for one in operator.check(image) if one.kind in _MISSING]
    return [one.message.render(console.option, with_subject=False) for one in found]


def _facts(means: QTable) -> list[dict[str, float | None]]:
    """Return the rows of the table as JSON values, with None for NaN."""
    plain = [{name.lower(): float(row[name].value) for name in means.colnames} for row in means]
    return [{name: None if np.isnan(v) else v for name, v in row.items()} for row in plain]


def _text(means: QTable) -> str:
    """Return the table with a row for each contribution and a column for each band."""
    bands = [
        f"{low:g} - {up:g} um"
        for low, up in zip(means["LOWER"].value, means["UPPER"].value, strict=True)
    ]
    rows = []
    for name in means.colnames[3:]:
        percent = 100.0 * np.abs(means[name] / means["FLUX"]).value
        label = name.replace("_", " ").lower()
        label = f"({label})" if name == "BACKGROUND" else label
        unknown = "not applied" if name in means.meta["not_applied"] else "unknown"
        texts = [unknown if np.isnan(one) else f"{one:.3f}" for one in percent]
        rows.append({"": label, **dict(zip(bands, texts, strict=True))})
    return console.table_text(rows)
