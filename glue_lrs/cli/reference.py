"""The commands ``glue-lrs reference show``, ``edit`` and ``check``."""
# ruff: noqa: D301 - click wants the control character \b before what is not to be wrapped

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glue_lrs.cli import console, options
from glue_lrs.cli.program import main
from glue_lrs.errors import LRSError, ReferenceFileError, listed

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.reference.reference import Reference


@main.group(short_help="Show, edit and check EXTRACT1D references (JSON).")
def reference() -> None:
    """Show, edit and check EXTRACT1D references, which are JSON files with extraction parameters.

    \b
    Examples:
      glue-lrs reference show > my.json
      glue-lrs reference edit --set xstart=25 --set xstop=36 --exp-type MIR_LRS-FIXEDSLIT -o my.json
      glue-lrs reference check my.json --image x_s2d.fits
    """


_JSON = click.argument("json_file", type=options.FILE, required=False, metavar="[JSON]")

_EXP_TYPE = click.option(
    "--exp-type", metavar="ID", help="Aperture: MIR_LRS-FIXEDSLIT or MIR_LRS-SLITLESS."
)


@reference.command()
@_JSON
@_EXP_TYPE
def show(json_file: str | None, exp_type: str | None) -> None:
    """Print a reference, by default the built-in one, with the keys of the pipeline.

    \b
    Examples:
      glue-lrs reference show > my.json
      glue-lrs reference show jwst_miri_extract1d_0006.json --exp-type MIR_LRS-SLITLESS
    """
    from glue_lrs.io.reference import format_reference
    from glue_lrs.reference.reference import Reference

    found = _read_reference(json_file)
    if exp_type is not None:
        found = Reference({**found.document, "apertures": [found.entry(exp_type)]}, found.filename)
    console.echo(format_reference(found.for_pipeline()), nl=False, lines=True)


@reference.command()
@_JSON
@options.SETTINGS
@_EXP_TYPE
@click.option(
    "--image", type=options.FILE, metavar="FILE",
    help="Image from which the source position is taken to convert step parameters to keys.",
)  # fmt: skip
@click.option(
    "-o",
    "--output",
    type=options.FILE,
    metavar="FILE",
    help="The JSON file to write; default: print.",
)
@options.OVERWRITE
def edit(
    json_file: str | None,
    settings: options.Settings,
    exp_type: str | None,
    image: str | None,
    output: str | None,
    overwrite: bool,
) -> None:
    """Edit the keys of an aperture in a reference, and write the reference for the pipeline.

    The value null removes a key. Step parameters that are not keys (such as position_offset) are
    converted to keys where possible. To convert an offset from the source position, --image is
    required.

    \b
    Examples:
      glue-lrs reference edit --exp-type MIR_LRS-FIXEDSLIT --set xstart=25 --set xstop=36 -o my.json
      glue-lrs reference edit my.json --set position_offset=1.5 --image x_s2d.fits -o new.json
    """
    from glue_lrs.io.reference import format_reference

    if not settings:
        raise click.UsageError("nothing to change, expected --set KEY=VALUE")
    for key, value in settings:
        if key == "max_lost":
            raise click.UsageError(
                "max_lost is not a key of a reference, as the pipeline does not mask rows with "
                f"bad pixels; set it for the extraction: glue-lrs extract --set max_lost={value}"
            )
    slit_image, exp_type = _read_image(image, exp_type)
    changed = _edited(_read_reference(json_file), exp_type, dict(settings), slit_image)
    if output is None:
        console.echo(format_reference(changed.for_pipeline()), nl=False, lines=True)
        return
    changed.write(output, overwrite=overwrite)
    console.echo(f"wrote {output}")


def _read_image(path: str | None, exp_type: str | None) -> tuple[SlitImage | None, str | None]:
    """Read the image, if a path is given, and return it with an EXP_TYPE.

    The EXP_TYPE is `exp_type` or, if it is None, that of the image.
    """
    from glue_lrs.image.slit_image import SlitImage

    image = None if path is None else SlitImage.read(path)
    return image, exp_type if image is None or exp_type is not None else image.exp_type


#: Parameters that are not keys of an EXTRACT1D reference, and must be converted to keys.
_STEP_ONLY = ("position_offset", "subtract_background", "apply_apcorr", "fixed_background")

#: Keys that the conversion of step parameters by `Extract1D.to_reference` replaces.
_CONVERTED = (
    "xstart", "xstop", "ystart", "ystop", "extract_width", "src_coeff", "bkg_coeff", "bkg_fit",
    "bkg_order", "smoothing_length", "independent_var", "use_source_posn",
)  # fmt: skip


def _edited(
    found: Reference,
    exp_type: str | None,
    settings: dict[str, Any],
    image: SlitImage | None,
) -> Reference:
    """Return a copy of a reference in which an aperture is changed by `settings`.

    Step parameters that are not keys of a reference are converted to keys. To convert an offset
    from the source position, the image is required.
    """
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.reference import schema
    from glue_lrs.reference.reference import Reference

    ids = [str(entry["id"]) for entry in found.document["apertures"]]
    if exp_type is None and len(ids) > 1:
        raise click.UsageError(
            f"there are several apertures, expected --exp-type with one of {listed(ids)}"
        )
    exp_type = exp_type or ids[0]
    old = found.entry(exp_type)
    index = found.document["apertures"].index(old)
    step_only = {key: value for key, value in settings.items() if key in _STEP_ONLY}
    changes = {key: value for key, value in settings.items() if key not in step_only}
    # A value that is invalid by itself is not an error of the reference.
    schema.check_entry({key: one for key, one in changes.items() if one is not None}, None)
    new = {**old, **changes}
    new = {key: value for key, value in new.items() if value is not None or key == "bkg_fit"}

    def replaced(entry: dict[str, Any]) -> Reference:
        entries = [*found.document["apertures"]]
        entries[index] = entry
        return Reference({**found.document, "apertures": entries}, found.filename)

    changed = replaced(new)
    if step_only:
        operator = Extract1D.from_reference(changed, exp_type, **step_only)
        kept = {key: new[key] for key in new if key not in _CONVERTED}
        changed = replaced({**kept, **operator.to_reference(image).document["apertures"][0]})
    return changed


@reference.command()
@click.argument("json_file", type=options.FILE, metavar="JSON")
@click.option("--image", type=options.FILE, metavar="FILE", help="Also extract this image.")
@_EXP_TYPE
def check(json_file: str, image: str | None, exp_type: str | None) -> int:
    """Check a reference, and with --image the extraction of an image with the reference.

    Prints a line for each error, warning or note, and "ok" if there are no errors or warnings. The
    exit code is 2 if there is an error.

    \b
    Examples:
      glue-lrs reference check my.json
      glue-lrs reference check my.json --image x_s2d.fits
    """
    try:
        found = _read_reference(json_file)
    except ReferenceFileError as error:
        for text in _all_errors(json_file, error):
            console.say("error", text)
        return console.FAILED
    slit_image, exp_type = _read_image(image, exp_type)
    issues = [(str(issue.level), str(issue)) for issue in found.check(exp_type=exp_type)]
    if slit_image is not None and not any(level == "error" for level, _ in issues):
        issues += _check_on_image(found, slit_image, exp_type)
    for level, text in issues:
        if level == "note":
            console.echo(text)
        else:
            console.say(level, text)
    levels = {level for level, _ in issues}
    if levels <= {"note"}:
        console.echo("ok")
    return console.FAILED if "error" in levels else console.OK


def _all_errors(path: str, first: ReferenceFileError) -> list[str]:
    """Return the texts of all errors in a reference file. `first` is the error that was raised."""
    from glue_lrs.reference.validation import reference_errors

    try:
        document = json.loads(Path(path).expanduser().read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):  # not a JSON file, so there is only one error
        return [str(first)]
    return list(dict.fromkeys([str(first), *reference_errors(document, path)]))


def _check_on_image(
    found: Reference, image: SlitImage, exp_type: str | None
) -> list[tuple[str, str]]:
    """Extract an image with a reference, and return all issues as pairs of level and text.

    The level is "error", "warning" or "note". A note states the position of the aperture on the
    image.
    """
    from glue_lrs.cli.summary import summarize
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.extraction.regions import region_findings

    notes: list[console.Note] = []
    errors: list[str] = []
    operator = None
    with console.collect_warnings(notes):
        try:
            operator = Extract1D.from_reference(
                found, exp_type or image.exp_type, apply_apcorr=False
            )
            extraction = operator.run(image, check=False)
        except LRSError as error:
            errors = [error.render(console.option), *_region_errors(image, operator)]
    if errors or operator is None:
        failed = [("error", error) for error in dict.fromkeys(errors)]
        return [*notes, *failed]
    found_there = (one.about(image.label) for one in region_findings(image, operator))
    notes += console.finding_notes(found_there)
    cards, placement = extraction.keywords, operator.place(image)
    where = (
        f"{image.label}: columns {cards['EXTRXSTR'] - 1:.2f} to {cards['EXTRXSTP'] - 1:.2f}, rows "
        f"{cards['EXTRYSTR'] - 1} to {cards['EXTRYSTP'] - 1} (inclusive, from 0)"
    )
    if placement.offset:
        where += f", moved by {placement.offset:+.2f}"
    if placement.position is not None:
        at = placement.position
        where += f" to the source at column {at.column:.2f} in row {at.row}"
    summary = summarize(extraction)
    where += f"; median S/N {summary['median S/N']}, {summary['lost']} rows lost"
    return [("note", where), *notes]


def _region_errors(image: SlitImage, operator: Extract1D | None) -> list[str]:
    """Return the texts of errors in the background regions.

    The regions are checked separately because an error in the aperture ends the extraction before
    the regions are used.
    """
    if operator is None or operator.background is None:
        return []
    try:
        operator.background.weights(image.wavelength, operator.place(image).background_offset)
    except LRSError as error:
        return [error.render(console.option)]
    return []


def _read_reference(path: str | None) -> Reference:
    from glue_lrs.reference.reference import Reference

    return Reference.default() if path is None else Reference.read(path)
