"""Manifest: a table (ECSV) of the outputs of a command, with the inputs and the parameters."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from astropy.table import Table

from glue_lrs import __version__
from glue_lrs.errors import LRSError, WriteError, escaped, quoted
from glue_lrs.io.files import atomic_write, one_line

#: Columns with the type of their values and their descriptions.
COLUMNS: dict[str, tuple[type, str]] = {
    "output": (str, "file that was written; relative to the manifest if it is below its folder"),
    "status": (str, "done or failed"),
    "file": (str, "input; a JSON list if there are several"),
    "sha256": (str, "checksum of the input; a JSON list if there are several"),
    "target": (str, "TARGNAME of the header"),
    "exp_type": (str, "EXP_TYPE of the header"),
    "snr": (float, "median ratio of flux to error"),
    "values": (int, "number of rows of a spectrum, or of points of a light curve"),
    "masked": (int, "number of these without a usable flux"),
    "quality": (str, "severity of the worst finding: good, info, warning or error"),
    "warnings": (int, "number of warnings and errors"),
    "messages": (str, "warnings and errors, or the reason for which the file failed"),
    "parameters": (str, "options that affect the output, as JSON"),
    "version": (str, "version of glue_lrs"),
    "packages": (str, "versions of other packages, as JSON"),
    "output_sha256": (str, "checksum of the output"),
    "date": (str, "end of the extraction (UTC)"),
    "seconds": (float, "duration"),
}

_TITLE = "manifest of glue-lrs"


@dataclass(frozen=True)
class Record:
    """Values in a row of a manifest that determine whether an output is up to date.

    Parameters
    ----------
    status : str
        ``"done"`` or ``"failed"``.
    sha256 : str
        Checksum of the input, a JSON list if there are several.
    parameters : str
        Options that affect the output, as JSON.
    version : str
        Version of this package.
    output_sha256 : str
        Checksum of the output.
    warnings : int
        Number of warnings and errors.
    """

    status: str
    sha256: str
    parameters: str
    version: str
    output_sha256: str
    warnings: int | None

    @property
    def plotted(self) -> bool:
        """Whether a plot was made with the output."""
        try:
            return bool(json.loads(self.parameters).get("plot"))
        except (ValueError, AttributeError):  # was edited
            return False

    def agrees(self, sha256: str, parameters: str) -> bool:
        """Return whether the output was made from this input with these parameters."""
        expected = ("done", sha256, parameters, __version__)
        return (self.status, self.sha256, self.parameters, self.version) == expected


class Manifest:
    """Manifest that is open for additions. `Manifest.opened` opens it.

    A row is appended as soon as its output is complete. Rows replace earlier ones of the same
    output when the manifest is closed, or, if the program was killed, when it is opened again.
    """

    def __init__(self, path: str, rows: dict[str, dict[str, Any]], stream: BinaryIO) -> None:
        self._path, self._rows, self._stream = path, rows, stream

    @classmethod
    @contextlib.contextmanager
    def opened(cls, path: str) -> Iterator[Manifest]:
        """Open or create a manifest for the duration of a block.

        Raises
        ------
        LRSError
            If the file is not a manifest, or another program writes to it.
        WriteError
            If the file cannot be written.
        """
        if Path(path).suffix.lower() != ".ecsv":
            raise WriteError(f"ends in {Path(path).suffix!r}, expected .ecsv", subject=path)
        rows: dict[str, dict[str, Any]] = {}
        if Path(path).exists():
            with _stream(path) as old:  # locked until its content was moved to the new file
                rows = _read(path, old)
                _write(path, rows)
        else:
            _write(path, rows)
        with _stream(path) as stream:
            manifest = cls(path, rows, stream)
            try:
                yield manifest
            finally:
                # Without it, the file has all rows as well, but several of some outputs.
                with contextlib.suppress(LRSError):
                    _write(path, rows)

    def record(self, output: str) -> Record | None:
        """Return what is recorded about an output, or None if there is no row of it."""
        row = self._rows.get(self._relative(output))
        return (
            None
            if row is None
            else Record(**{key: row[key] for key in Record.__dataclass_fields__})
        )

    def add(self, output: str, files: tuple[str, ...], values: Mapping[str, Any]) -> None:
        """Append a row. Columns without a value are empty.

        Raises
        ------
        WriteError
            If the row cannot be written. The file is left without it.
        """
        places = [self._relative(path) for path in files]
        row = {"output": self._relative(output), "file": joined(places), **values}
        row = {name: row.get(name) for name in COLUMNS}
        end = self._stream.seek(0, os.SEEK_END)
        try:
            line = _line(row)
            if self._stream.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._stream.truncate(end)
            text = f"cannot be written, {one_line(error)}"
            raise WriteError(text, subject=self._path) from error
        self._rows[row["output"]] = {key: _filled(key, value) for key, value in row.items()}

    def _relative(self, path: str) -> str:
        """Return the path relative to the folder of the manifest if it is below, else absolute."""
        real, folder = (os.path.realpath(os.path.expanduser(p)) for p in (path, self._path))
        folder = os.path.dirname(folder)
        inside = os.path.commonpath([real, folder]) == folder if real[:1] == folder[:1] else False
        return os.path.relpath(real, folder) if inside else real


def joined(values: list[Any]) -> str:
    """Return the only value, or all as a JSON list."""
    return str(values[0]) if len(values) == 1 else json.dumps(values)


@contextlib.contextmanager
def _stream(path: str) -> Iterator[BinaryIO]:
    """Open a manifest for reading and appending, locked against other programs."""
    try:
        stream = open(path, "r+b", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        raise WriteError(f"cannot be opened, {one_line(error)}", subject=path) from error
    with stream:
        try:
            import fcntl
        except ImportError:  # not on Windows
            yield stream
            return
        in_use = LRSError("is in use by another run of glue-lrs", subject=path)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise in_use from None
        except OSError:  # the file system has no locks
            pass
        # Another run may have replaced the file after it was opened here.
        if not os.path.samestat(os.fstat(stream.fileno()), os.stat(path)):
            raise in_use
        yield stream


def _empty() -> Table:
    table = Table(
        names=list(COLUMNS), dtype=[kind for kind, _ in COLUMNS.values()], meta={"title": _TITLE}
    )
    for name, (_, description) in COLUMNS.items():
        table[name].description = description
    return table


def _line(row: Mapping[str, Any]) -> bytes:
    """Return a row as text, which is complete if it ends in a newline."""
    text = io.StringIO()
    cells = ["" if row[name] is None else row[name] for name in COLUMNS]
    cells = [escaped(cell) if isinstance(cell, str) else cell for cell in cells]
    # A name that starts with # would be a comment without quotes.
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerow(cells)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _write(path: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a complete manifest."""
    head = io.StringIO()
    _empty().write(head, format="ascii.ecsv", delimiter=",")
    with atomic_write(path, overwrite=True) as temporary:
        content = head.getvalue().encode() + b"".join(map(_line, rows.values()))
        temporary.write_bytes(content)


def _read(path: str, stream: BinaryIO) -> dict[str, dict[str, Any]]:
    """Read the last row of each output; an incomplete last line is ignored."""
    content = stream.read()
    content = content[: content.rfind(b"\n") + 1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = Table.read(content.decode("utf-8"), format="ascii.ecsv")
    except Exception as error:  # astropy may raise any error for a file of another kind
        text = f"is not a manifest of glue-lrs: {one_line(error)}"
        raise LRSError(text, subject=path) from error
    missing = [name for name in COLUMNS if name not in table.colnames]
    if table.meta.get("title") != _TITLE or missing:
        found = f"the column {missing[0]} is missing" if missing else "it has another title"
        raise LRSError(f"is not a manifest of glue-lrs: {found}", subject=path)
    rows: dict[str, dict[str, Any]] = {}
    cells = zip(*(table[name].tolist() for name in COLUMNS), strict=True)
    for number, values in enumerate(cells):
        row = {name: _filled(name, value) for name, value in zip(COLUMNS, values, strict=True)}
        if not row["output"]:
            raise LRSError(f"row {number + 1} has no output, expected a file", subject=path)
        rows[row["output"]] = row
    return rows


def _filled(name: str, value: Any) -> Any:
    """Return a value as `str`, `int` or `float`; "" or None if the cell is empty."""
    kind = COLUMNS[name][0]
    if value is None or value == "":
        return "" if kind is str else None
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise LRSError(f"{name} is {quoted(value)}, expected a number") from None
