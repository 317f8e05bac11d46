"""Types of command-line parameters, and options that several commands share."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeAlias

import click

from glue_lrs._utils.json_text import json_problem
from glue_lrs.cli.console import Reporting
from glue_lrs.cli.tasks import base_name
from glue_lrs.errors import quoted

#: Value of the option --set: pairs of a key and its value.
Settings: TypeAlias = tuple[tuple[str, Any], ...]

#: Largest number of cuts in a figure: more could not be told apart.
_MOST_ROWS = 12


class _Name(click.ParamType):  # type: ignore[type-arg]
    """Name of a file or folder, which must not be empty.

    An unset shell variable would give an empty name.
    """

    def __init__(self, kind: str) -> None:
        self.name = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or reject it if it is empty."""
        if value == "":
            self.fail(f"'', expected the name of a {self.name}", param, ctx)
        return str(value)


class _FitsName(_Name):
    """Name of a FITS file to write."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or reject it if it has no FITS suffix."""
        name = super().convert(value, param, ctx)
        if base_name(name) == name:
            self.fail(f"{quoted(name)}, expected a name that ends in .fits or .fits.gz", param, ctx)
        return name


FILE, FOLDER, FITS = _Name("file"), _Name("folder"), _FitsName("file")


class _Setting(click.ParamType):  # type: ignore[type-arg]
    """Setting KEY=VALUE, whose value is parsed as JSON, or taken as text if it is not JSON."""

    name = "KEY=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Return the key before the first "=" and the parsed value after it."""
        key, equals, text = value.partition("=")
        if not equals or not key.strip():
            self.fail(f"{quoted(value)}, expected KEY=VALUE, such as bkg_fit=median", param, ctx)
        try:
            return key.strip(), parsed(text.strip())
        except ValueError as error:
            raise click.UsageError(f"--set {key.strip()} is not JSON: found {error}") from None


def parsed(text: str) -> Any:
    """Parse a JSON value, or Python's True, False or None; return other texts unchanged.

    Raises
    ------
    ValueError
        If the text begins as a list or an object of JSON, but is none. The text of the error says
        what was found instead.
    """
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except json.JSONDecodeError as error:
        if text[:1] in ("[", "{"):
            raise ValueError(json_problem(error)) from None
        return text
    except (ValueError, RecursionError):  # a number with too many digits, or too deeply nested
        return text


def context_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return a CRDS context, or reject a value that is not a context, such as a file name."""
    if not value or re.fullmatch(r"[\w.-]+\.pmap|[\w-]*latest[\w-]*|[\w-]*edit", value):
        return value
    expected = "expected a context such as jwst_1322.pmap, or nothing: put --crds after the files"
    raise click.BadParameter(f"{quoted(value)}, {expected}")


def unit_pair(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[str, str] | None:
    """Return the units of wavelength and flux in a value such as "um,mJy", or reject it."""
    if value is None:
        return None
    wave, comma, flux = value.partition(",")
    if not comma or not wave.strip() or not flux.strip():
        raise click.BadParameter(f"{quoted(value)}, expected two units, such as um,mJy")
    return wave.strip(), flux.strip()


def limits(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[float, float] | None:
    """Return the limits of an axis in a value such as "5,12", or reject it."""
    if value is None:
        return None
    try:
        low, high = (float(part) for part in value.split(","))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        expected = "expected two ascending numbers, such as 5,12"
        raise click.BadParameter(f"{quoted(value)}, {expected}")
    return low, high


def row_numbers(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Return the rows in a value such as "140,200,325", or reject it."""
    if value is None:
        return None
    try:
        rows = tuple(int(part) for part in value.split(","))
    except ValueError:
        rows = ()
    if not rows or len(rows) > _MOST_ROWS or len(set(rows)) < len(rows):
        raise click.BadParameter(
            f"{quoted(value)}, expected 1 to {_MOST_ROWS} different rows, such as 140,200,325"
        )
    return rows


def _different_keys(ctx: click.Context, param: click.Parameter, value: Settings) -> Settings:
    """Return the settings, or reject them if a key is given twice."""
    keys = [key for key, _ in value]
    for key in keys:
        if keys.count(key) > 1:
            raise click.UsageError(f"--set {key} is given {keys.count(key)} times, expected once")
    return value


SETTINGS = click.option(
    "--set", "settings", type=_Setting(), multiple=True, metavar="KEY=VALUE",
    callback=_different_keys,
    help="Set a key of the reference or a step parameter; may be repeated. "
    "Values are JSON: --set 'bkg_coeff=[[0.5],[4.5]]' --set bkg_fit=median.",
)  # fmt: skip

EXTRACT1D = click.option(
    "--extract1d", type=FILE, metavar="JSON", help="EXTRACT1D reference; default: built in."
)

APCORR = click.option(
    "--apcorr", type=FILE, metavar="FITS",
    help="APCORR reference: aperture correction for the SUBARRAY of the image.",
)  # fmt: skip

PSF = click.option(
    "--psf", type=FILE, metavar="FITS",
    help="PSF reference, for --set extraction_type=optimal, --set bad_pixels=profile and "
    "--set correction=profile.",
)  # fmt: skip

APERTURE = click.option(
    "--aperture", metavar="measured",
    help="Place the aperture on the measured trace, with the width in the reference; the same as "
    "--set aperture=measured.",
)  # fmt: skip

NODS = click.option(
    "--nods", type=FILE, multiple=True, metavar="FITS",
    help="Exposure at another nod, for --set noise=nod; repeat the option for each file.",
)  # fmt: skip

OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace existing files.")

JSON = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: a list with one object per file."
)

FILES = click.argument("files", type=FILE, nargs=-1, required=True, metavar="FILE...")


#: Names of the options for reference files.
REFERENCES = ("extract1d", "apcorr", "psf")


@dataclass(frozen=True)
class RecipeOptions:
    """Values of --extract1d, --apcorr, --psf, --nods, --aperture and --set, for an extraction."""

    extract1d: str | None
    apcorr: str | None
    psf: str | None
    settings: dict[str, Any]

    @property
    def files(self) -> list[str]:
        """Reference files that were given."""
        references = (self.extract1d, self.apcorr, self.psf)
        return [path for path in references if path is not None] + self.nods

    @property
    def given(self) -> list[str]:
        """Names of the options that were given, as on the command line."""
        references = {name: getattr(self, name) for name in REFERENCES}
        names = [f"--{name}" for name, value in references.items() if value is not None]
        return (
            names
            + [f"--set {name}" for name in self.settings if name != "nods"]
            + (["--nods"] if self.nods else [])
        )

    def to_json(self) -> dict[str, Any]:
        """Return the values of the options that were given, with names of files without folders."""
        references = {name: getattr(self, name) for name in REFERENCES}
        values: dict[str, Any] = {
            name: os.path.basename(path) for name, path in references.items() if path is not None
        }
        nods = {"nods": list(map(os.path.basename, self.nods))} if self.nods else {}
        return values | ({"set": {**self.settings, **nods}} if self.settings else {})

    def recorded(self) -> dict[str, Any]:
        """Return the options as recorded in a manifest: `to_json` and the checksums of files."""
        from glue_lrs._utils.source_file import file_digest

        sums = {os.path.basename(path): file_digest(path) for path in self.files}
        return self.to_json() | ({"sha256": sums} if sums else {})

    def with_keys(self, keys: Mapping[str, Any]) -> RecipeOptions:
        """Return the options with some references and settings replaced by those in `keys`."""
        references = {key: keys.get(key, getattr(self, key)) for key in REFERENCES}
        own = {key: value for key, value in keys.items() if key not in REFERENCES}
        return RecipeOptions(**references, settings=self.settings | own)

    def absolute(self) -> RecipeOptions:
        """Return the options with absolute paths, for a process in another folder."""

        def path(name: str | None) -> str | None:
            return None if name is None else os.path.abspath(os.path.expanduser(name))

        settings = self.settings | ({"nods": list(map(path, self.nods))} if self.nods else {})
        return RecipeOptions(path(self.extract1d), path(self.apcorr), path(self.psf), settings)

    @property
    def nods(self) -> list[str]:
        """Files of exposures at other nods.

        Raises
        ------
        ReferenceFileError
            If the value given by --set is not a list of files.
        """
        from glue_lrs.reference import schema

        return list(schema.OPTIONS["nods"]("nods", self.settings.get("nods", [])))


def recipe_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add --extract1d, --apcorr, --psf, --nods, --aperture and --set to a command.

    The command receives their values as the argument `recipe`, a `RecipeOptions` object.
    """

    @wraps(command)
    def wrapped(*, settings: Settings, **values: Any) -> int:
        references = {name: values.pop(name) for name in REFERENCES}
        own = {"nods": list(values.pop("nods")), "aperture": values.pop("aperture")}
        chosen = dict(settings)
        for key, value in own.items():
            if value not in (None, []) and key in chosen:
                raise click.UsageError(f"--{key} and --set {key} exclude each other")
        chosen |= {key: value for key, value in own.items() if value not in (None, [])}
        return command(recipe=RecipeOptions(**references, settings=chosen), **values)

    return EXTRACT1D(APCORR(PSF(NODS(APERTURE(SETTINGS(wrapped))))))


def reporting_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options --strict and --quiet, as the argument `reporting` of the command."""

    @click.option(
        "--strict", is_flag=True, help="Exit with code 1 if there are warnings or errors."
    )
    @click.option("-q", "--quiet", is_flag=True, help="Print no warnings and findings.")
    @wraps(command)
    def wrapped(*args: Any, strict: bool, quiet: bool, **kwargs: Any) -> int:
        return command(*args, reporting=Reporting(strict, quiet), **kwargs)

    return wrapped
