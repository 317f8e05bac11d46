"""The command ``glue-lrs info``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

from glue_lrs.cli import console, options
from glue_lrs.cli.program import main


@main.command(short_help="Describe files, and the default aperture of images.")
@options.FILES
@options.JSON
@options.reporting_options
def info(files: tuple[str, ...], as_json: bool, reporting: console.Reporting) -> int:
    """Describe files, and the default aperture of images.

    For an s2d, cal or calints, the output lists exposure, axes, wavelengths, bounding box, source,
    the default aperture on this image, bad pixels, and the reference files that the pipeline used.
    For an x1d, x1dints or c1d, it lists columns, signal-to-noise ratio, the number of
    values with each quality bit, and how the file was made.
    For an EXTRACT1D, APCORR or PSF reference, it lists what the file contains.
    The last lines are the findings of the checks (see "What is checked" in the documentation), for
    an image those of an extraction with the default aperture.

    Columns and rows are counted from 0, and limits are inclusive: 27 to 34 are eight columns. Edges
    are positions, where pixel i extends from i - 0.5 to i + 0.5. Integrations are counted from 1.
    The same conventions hold for --json.

    \b
    Examples:
      glue-lrs info x_s2d.fits
      glue-lrs info --json *_x1d.fits
    """
    from glue_lrs.cli.summary import describe_file

    return console.describe_each(files, describe_file, as_json, reporting)
