"""Table (ECSV) with the options of each file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from astropy.table import Table

from glue_lrs.cli.options import REFERENCES, parsed
from glue_lrs.errors import LRSError, nearest, quoted
from glue_lrs.extraction.extract import ALL_KEYS, check_keys
from glue_lrs.io.files import one_line

#: Column with the files.
FILE = "file"


class SettingsTable:
    """Options of each file, from a table with a column ``file`` and columns named as options.

    Parameters
    ----------
    path : str
        ECSV file. Other columns than ``file`` are keys as for --set, or extract1d, apcorr or psf.
        Files are relative to the folder of the table. Empty cells leave an option as it is for all
        files.

    Raises
    ------
    LRSError
        If the file cannot be read, or a column or a value is wrong.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder = Path(path).expanduser().parent
        table = _read(path)
        columns = [name for name in table.colnames if name != FILE]
        self._check_columns(table, columns)
        self.files: list[str] = []
        self._keys: dict[str, dict[str, Any]] = {}
        cells = {name: table[name].tolist() for name in (FILE, *columns)}
        for number in range(len(table)):
            name = cells[FILE][number]
            if not isinstance(name, str) or not name:
                raise self._error(number, None, f"file is {quoted(name)}, expected a name")
            file = self._place(name)
            if os.path.realpath(file) in self._keys:
                raise self._error(number, name, "has another row, expected one")
            given = {key: cells[key][number] for key in columns}
            self._keys[os.path.realpath(file)] = self._checked(number, name, given)
            self.files.append(file)

    def keys(self, file: str) -> Mapping[str, Any]:
        """Return the options of a file, or raise `LRSError` if the table has no row of it."""
        try:
            return self._keys[os.path.realpath(os.path.expanduser(file))]
        except KeyError:
            text = (
                f"has no row in {self._path}{nearest(Path(file).name, map(self._name, self.files))}"
            )
            raise LRSError(text, subject=file) from None

    @staticmethod
    def _name(file: str) -> str:
        return Path(file).name

    def _check_columns(self, table: Table, columns: Sequence[str]) -> None:
        if FILE not in table.colnames:
            raise LRSError(
                f"has no column {FILE!r}, expected the names of files", subject=self._path
            )
        known = (*REFERENCES, *ALL_KEYS)
        for name in columns:
            if name not in known:
                text = f"unknown column {quoted(name)}{nearest(name, known)}, expected an option"
                raise LRSError(text, subject=self._path)
            if getattr(table[name], "unit", None) is not None:
                text = f"the column {name} has the unit {table[name].unit}, expected none"
                raise LRSError(text, subject=self._path)

    def _checked(self, number: int, file: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options in a row, without empty cells."""
        found = {
            key: parsed(value) if isinstance(value, str) else value
            for key, value in given.items()
            if value is not None
        }
        for key in REFERENCES:
            if key in found:
                found[key] = self._place(str(given[key]))
        try:
            check_keys({key: value for key, value in found.items() if key not in REFERENCES})
        except LRSError as error:
            raise self._error(number, file, str(error)) from error
        if found.get("nods") is not None:
            found["nods"] = [self._place(str(one)) for one in found["nods"]]
        return found

    def _place(self, name: str) -> str:
        """Return a path that is relative to the folder of the table."""
        return str(self._folder / Path(name).expanduser())

    def _error(self, number: int, file: str | None, text: str) -> LRSError:
        where = f"row {number + 1}" + (f" ({file})" if file else "")
        return LRSError(f"{where}: {text}", subject=self._path)


def _read(path: str) -> Table:
    if not Path(path).expanduser().is_file():
        raise LRSError("does not exist", subject=path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Table.read(Path(path).expanduser(), format="ascii.ecsv")
    except Exception as error:  # astropy may raise any error for a file of another kind
        text = f"cannot be read as an ECSV table: {one_line(error)}"
        raise LRSError(text, subject=path) from error
