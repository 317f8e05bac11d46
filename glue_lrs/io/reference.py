"""Reader and writer of EXTRACT1D reference files in JSON."""

from __future__ import annotations

import json
import os
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

from glue_lrs._utils.json_text import json_problem
from glue_lrs._utils.source_file import SourceFile
from glue_lrs.errors import LRSWarning, ReferenceFileError, WriteError, listed, naming, warn
from glue_lrs.io.files import atomic_write, one_line
from glue_lrs.reference.reference import Reference


def read_reference(path: str | PathLike[str]) -> Reference:
    """Read an EXTRACT1D reference file.

    Parameters
    ----------
    path : str or path-like
        Path of a JSON file. Unlike in the pipeline, the file may have any suffix.

    Returns
    -------
    Reference
        The validated content of the file.

    Raises
    ------
    ReferenceFileError
        If the file cannot be read, is not JSON in UTF-8, or is not a valid EXTRACT1D reference. For
        a syntax error, the message states line and column.

    Warns
    -----
    LRSWarning
        If a JSON object has several values for the same key. The last value is used, as in the
        pipeline.
    """
    label = SourceFile.from_path(os.fspath(path))
    with naming(label):
        try:
            raw = Path(label).expanduser().read_bytes()
        except (FileNotFoundError, IsADirectoryError) as error:
            found = "is a directory" if isinstance(error, IsADirectoryError) else "does not exist"
            raise ReferenceFileError(f"{found}, expected an EXTRACT1D JSON file") from None
        except (OSError, ValueError) as error:  # ValueError: a null byte in the name
            raise ReferenceFileError(f"cannot be read: {one_line(error)}") from None
        document, duplicates = _parse(raw)
    if duplicates:
        text = f"{listed(duplicates)}: given more than once, the last value is used"
        warn(LRSWarning(text, subject=label))
    return Reference(document, label)


def _parse(raw: bytes) -> tuple[Any, list[str]]:
    """Return the content of a JSON file, and the keys that occur repeatedly in an object."""
    duplicates: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [key for key, _ in pairs]
        duplicates.extend(sorted({key for key in names if names.count(key) > 1}))
        return dict(pairs)

    def refuse(word: str) -> NoReturn:
        raise ReferenceFileError(f"holds {word}, expected finite numbers")

    try:
        text = raw.decode("utf-8-sig")  # some editors write a byte order mark
        return json.loads(text, object_pairs_hook=collect, parse_constant=refuse), duplicates
    except UnicodeDecodeError as error:
        kind = "a FITS file" if raw.startswith(b"SIMPLE") else f"not UTF-8 at byte {error.start}"
        raise ReferenceFileError(f"is {kind}, expected an EXTRACT1D JSON file") from None
    except json.JSONDecodeError as error:
        if not raw.strip():
            raise ReferenceFileError("is empty, expected an EXTRACT1D JSON file") from None
        raise ReferenceFileError(f"is not JSON: found {json_problem(error)}") from None
    except (RecursionError, ValueError) as error:  # too deeply nested, or too many digits
        reason = str(error).splitlines()[0]
        raise ReferenceFileError(f"cannot be read as JSON: {reason}") from None


def format_reference(reference: Reference) -> str:
    """Format an EXTRACT1D reference as JSON, with one line per key.

    Parameters
    ----------
    reference : Reference
        Reference to format.

    Returns
    -------
    str
        Content of a JSON file.
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
    """Write an EXTRACT1D reference file that the pipeline accepts as ``override_extract1d``.

    Parameters
    ----------
    reference : Reference
        Reference to write. It is converted by `Reference.for_pipeline`.
    path : str or path-like
        Path of the file to write, which must end in ``.json``.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    WriteError
        If the file exists or cannot be written, or its name does not end in ``.json``.
    """
    label = os.fspath(path)
    if not label.lower().endswith(".json"):
        raise WriteError(
            "expected a name that ends in .json, which the pipeline requires", subject=label
        )
    text = format_reference(reference.for_pipeline())
    with atomic_write(path, overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
