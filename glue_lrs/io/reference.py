"""EXTRACT1D references as JSON files."""

from __future__ import annotations

import json
import os
import warnings
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

from astropy.io import registry

from glue_lrs.errors import LRSWarning, ReferenceFileError, WriteError
from glue_lrs.io.files import atomic_write
from glue_lrs.reference.reference import Reference

__all__ = ["format_reference", "read_reference", "register", "write_reference"]


def read_reference(path: str | PathLike[str]) -> Reference:
    """Read an EXTRACT1D reference.

    Parameters
    ----------
    path : str or path-like
        A JSON file. Unlike the pipeline's, its name may end in anything.

    Returns
    -------
    Reference
        The document, checked.

    Raises
    ------
    ReferenceFileError
        If the file cannot be read, is not UTF-8, is not JSON (the message tells line and column),
        or is not what an EXTRACT1D reference must be.

    Warns
    -----
    LRSWarning
        If a key is there twice in an object; the last one counts, as in the pipeline.
    """
    label = os.fspath(path)
    try:
        raw = Path(label).expanduser().read_bytes()
    except FileNotFoundError:
        raise ReferenceFileError(
            f"{label}: does not exist, expected an EXTRACT1D JSON file"
        ) from None
    except IsADirectoryError:
        raise ReferenceFileError(
            f"{label}: is a directory, expected an EXTRACT1D JSON file"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        why = getattr(error, "strerror", None) or error
        raise ReferenceFileError(f"{label}: cannot be read: {why}") from None
    twice: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        names = [key for key, _ in pairs]
        twice.extend(sorted({key for key in names if names.count(key) > 1}))
        return made

    def refuse(word: str) -> NoReturn:
        raise ReferenceFileError(f"{label}: holds {word}, expected finite numbers")

    try:
        # utf-8-sig: editors of one operating system begin their files with a mark
        document = json.loads(
            raw.decode("utf-8-sig"), object_pairs_hook=collect, parse_constant=refuse
        )
    except UnicodeDecodeError as error:
        kind = "a FITS file" if raw.startswith(b"SIMPLE") else f"not UTF-8 at byte {error.start}"
        raise ReferenceFileError(f"{label}: is {kind}, expected an EXTRACT1D JSON file") from None
    except json.JSONDecodeError as error:
        kind = "is empty" if not raw.strip() else "is not JSON"
        raise ReferenceFileError(
            f"{label}: {kind}: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except (RecursionError, ValueError) as error:  # nested too deep, a number of too many digits
        text = str(error).splitlines()[0]
        raise ReferenceFileError(f"{label}: cannot be read as JSON: {text}") from None
    if twice:
        warnings.warn(
            f"{label}: {', '.join(twice)}: given twice, the last one counts",
            LRSWarning,
            stacklevel=2,
        )
    return Reference(document, label)


def format_reference(reference: Reference) -> str:
    """The text of a JSON file: a line for each key, coefficients on one line.

    Parameters
    ----------
    reference : Reference
        The document.
    """

    def lines(mapping: dict[str, Any], indent: str) -> str:
        body = ",\n".join(
            f"{indent}    {json.dumps(key)}: {text(key, value, indent)}"
            for key, value in mapping.items()
        )
        return "{\n" + body + f"\n{indent}}}"

    def text(key: str, value: Any, indent: str) -> str:
        if key == "apertures" and indent == "":
            entries = ",\n".join("        " + lines(entry, "        ") for entry in value)
            return f"[\n{entries}\n    ]"
        return json.dumps(value, allow_nan=False)

    return lines(reference.document, "") + "\n"


def write_reference(
    reference: Reference, path: str | PathLike[str], overwrite: bool = False
) -> None:
    """Write an EXTRACT1D reference that the pipeline takes by ``override_extract1d``.

    Parameters
    ----------
    reference : Reference
        Written as `Reference.for_pipeline` gives it.
    path : str or path-like
        The file to write; its name must end in ``.json``.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    WriteError
        If the file exists, has another name, or cannot be written.
    """
    label = os.fspath(path)
    if not label.lower().endswith(".json"):
        raise WriteError(
            f"{label}: expected a name that ends in .json, which the pipeline insists on"
        )
    text = format_reference(reference.for_pipeline())
    with atomic_write(path, overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")


def register() -> None:
    """Register the format ``extract1d`` of `Reference`."""
    registry.register_reader("extract1d", Reference, read_reference, force=True)
    registry.register_writer("extract1d", Reference, write_reference, force=True)
