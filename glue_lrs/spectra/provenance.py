"""Provenance: record of how a spectrum was extracted or combined."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.source_file import SourceFile, file_digest
from glue_lrs.errors import LRSError, LRSWarning, quoted, warn
from glue_lrs.spectra.findings import Finding, worst_first

#: Columns of which the sum of the absolute values is recorded.
SUMMED = ("WAVELENGTH", "FLUX", "FLUX_ERROR")

#: Keys of the records of extractions and of light curves from which their results follow.
_RECIPE = ("parameters", "references", "input", "inputs", "versions")

#: Mapping with the values of a record, or a function that returns such a mapping.
Source: TypeAlias = Mapping[str, Any] | Callable[[], Mapping[str, Any]]


#: Schemas with the types of the values of a provenance. The schema of a mapping is a dict with the
#: schemas of its values, in which the key Ellipsis stands for all other keys. The schema of a list
#: is a list with the schema of its items. Each value may also be None.
_FILE = {"filename": str, "sha256": str}
_FINDING = {"kind": str, "severity": str, "text": str, "values": dict, "subject": str}
_COMMON = {"findings": [_FINDING], "versions": {...: str}, "date": str}
_EXTRACTION = _COMMON | {
    "parameters": {...: dict},
    "references": {...: _FILE},
    "input": _FILE | {"segments": [_FILE]},
    "position": dict,
}
_INPUT = _FILE | {"label": str, "integration": int, "rows_used": int, "rows_clipped": int}
_COMBINATION = _COMMON | {"parameters": dict, "inputs": [_INPUT], "extractions": list}


class ProvenanceRecord(Mapping[str, Any]):
    """Record of how a spectrum was made, as a mapping with fixed keys and JSON values.

    The values are computed at the first access and do not change afterwards.
    """

    _keys: ClassVar[tuple[str, ...]]

    def __init__(self, source: Source | None) -> None:
        self._stored = source

    def _collect(self) -> Mapping[str, Any]:
        """Return a mapping with the values of the record. Missing keys have the value None."""
        stored = self._stored or {}
        return stored() if callable(stored) else stored

    @cached_property
    def _values(self) -> dict[str, Any]:
        collected = self._collect()
        return {key: collected.get(key) for key in self._keys}

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self  # no copy is needed because the values never change


class Provenance(ProvenanceRecord):
    """Record of how a spectrum was extracted, as a mapping with JSON values.

    The keys are ``parameters`` (``reference``, ``step`` and ``options`` as described in
    `Extract1D.parameters`), ``references`` (names and checksums of the reference files), ``input``
    (name and checksum of the image file, or ``segments``, a list of these for a stack from several
    files), ``position`` (position of the source and shifts of the
    aperture), ``result`` (sums of the absolute values of the columns `SUMMED`, by which a
    repetition is verified), ``findings`` (list of dicts, as in `Finding.to_dict`), ``versions`` (of
    packages) and ``date``. Checksums and sums are computed at the first access.

    Parameters
    ----------
    parameters : dict, or callable that returns a dict
        Parameters of the extraction, such as `Extract1D.parameters`.
    input : str or tuple of str, optional
        Path of the image file, or of the files of its segments.
    references : dict
        Path of the reference file of each type, or None if no file of this type was used.
    position : dict
        Position of the source and shifts of the aperture.
    findings : sequence of Finding
        Findings of the checks of the extraction.
    changed : sequence of str
        Names of the parameters of the image that were replaced after it was read from the file.
        They are recorded in ``input`` with the key ``changed``, unless there are none.
    columns : mapping, optional
        Extracted columns.
    """

    _keys = (
        "parameters", "references", "input", "position", "result", "findings", "versions", "date",
    )  # fmt: skip

    def __init__(
        self,
        parameters: dict[str, Any] | Callable[[], dict[str, Any]],
        input: str | tuple[str, ...] | None = None,
        references: dict[str, str | None] | None = None,
        position: dict[str, Any] | None = None,
        findings: Sequence[Finding] = (),
        changed: Sequence[str] = (),
        columns: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        super().__init__(None)
        self._parameters_source = parameters
        self._input = input
        self._references = references or {}
        self._position = position or {}
        self._findings = worst_first(findings)
        self._changed = tuple(changed)
        self._columns = columns or {}
        self._date = datetime.now(UTC)

    @classmethod
    def from_dict(cls, stored: Source) -> Provenance:
        """Create a provenance from values that were stored in a file.

        Parameters
        ----------
        stored : mapping, or callable that returns a mapping
            Stored values. A callable is called at the first access.
        """
        made = cls({})
        made._stored = stored
        return made

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        source = self._parameters_source
        return source() if callable(source) else source

    def _collect(self) -> Mapping[str, Any]:
        if self._stored is not None:
            return super()._collect()
        return {
            "parameters": self._parameters,
            "references": {key: file_record(path) for key, path in self._references.items()},
            "input": self._input_record(),
            "position": self._position,
            "result": column_sums(self._columns),
            "findings": [one.to_dict() for one in self._findings],
            "versions": package_versions(),
            "date": self._date.isoformat(timespec="seconds"),
        }

    def _input_record(self) -> dict[str, Any] | None:
        record: dict[str, Any] | None
        if isinstance(self._input, tuple):
            record = {"segments": [file_record(path) for path in self._input]}
        else:
            record = file_record(self._input)
        if record is None or not self._changed:
            return record
        return {**record, "changed": list(self._changed)}

    def __getitem__(self, key: str) -> Any:
        if key == "parameters" and self._stored is None:
            return self._parameters  # without computing the checksums of the files
        return super().__getitem__(key)

    def changed(
        self,
        parameters: Callable[[], dict[str, Any]] | None = None,
        references: Mapping[str, str | None] | None = None,
        findings: Sequence[Finding] | None = None,
        columns: Mapping[str, NDArray[Any]] | None = None,
    ) -> Provenance:
        """Return a copy of the provenance with some values replaced, without computing checksums.

        Values for which no argument is given are not changed.

        Parameters
        ----------
        parameters : callable, optional
            Function that returns the new parameters.
        references : mapping, optional
            Path of the reference file of each type.
        findings : sequence of Finding, optional
            Findings of the checks of the extraction.
        columns : mapping, optional
            Extracted columns.

        Returns
        -------
        Provenance
            New record, whose date is the current time.
        """
        return Provenance(
            parameters or (self._parameters_source if self._stored is None else self["parameters"]),
            self._input,
            self._references if references is None else dict(references),
            self._position,
            self.findings if findings is None else findings,
            self._changed,
            self._columns if columns is None else columns,
        )

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of the checks of the extraction, the most severe first."""
        if self._stored is not None:
            return recorded_findings(self)
        return self._findings

    def has_reference(self, key: str) -> bool:
        """Return whether a reference file of a type, such as ``"apcorr"``, was used.

        Checksums are not computed.
        """
        references = self._references if self._stored is None else self["references"] or {}
        return references.get(key) is not None

    def __repr__(self) -> str:
        if self._stored is not None:
            return "<Provenance that was stored>"
        return f"<Provenance of {self._input or 'an image in memory'}>"


class CombinationProvenance(ProvenanceRecord):
    """Record of how spectra were combined, as a mapping with JSON values.

    The keys are ``parameters`` (those of `combine` except ``spectra`` and ``extract``), ``inputs``
    (a dict for each spectrum, as described in `CombineInput`), ``extractions`` (the `Provenance` of
    each object that was passed to `combine`, or None), ``findings`` (list of dicts, as in
    `Finding.to_dict`), ``versions`` (of packages) and ``date``.

    Parameters
    ----------
    source : callable
        Function that returns the values. It is called at the first access, because it computes
        checksums, which takes time.
    """

    _keys = ("parameters", "inputs", "extractions", "findings", "versions", "date")

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of the checks of the combination, the most severe first."""
        return recorded_findings(self)

    def __repr__(self) -> str:
        return "<Provenance of a combination>"


def json_tree(provenance: Mapping[str, Any]) -> dict[str, Any]:
    r"""Convert a provenance to a tree of JSON types.

    In file names that are not UTF-8, the invalid bytes are written as the text ``\udc..``, because
    YAML cannot encode them.
    """
    text = json.dumps(dict(provenance), default=_json_value, ensure_ascii=False)
    tree: dict[str, Any] = json.loads(
        re.sub("[\ud800-\udfff]", lambda match: rf"\\u{ord(match[0]):04x}", text)
    )
    return tree


def _json_value(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def same_recipe(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two provenances have the same inputs, parameters, references and versions.

    Files are compared by their checksums, and by their names if there are none. The spectra of both
    are then the same.
    """
    first, second = (
        {key: _by_checksum(json_tree(record).get(key)) for key in _RECIPE}
        for record in (one, other)
    )
    return first == second


def _by_checksum(value: Any) -> Any:
    """Return a value of a provenance without the names of files whose checksums are known."""
    if isinstance(value, Mapping):
        known = value.get("sha256") is not None
        return {k: _by_checksum(v) for k, v in value.items() if not (known and k == "filename")}
    return [_by_checksum(one) for one in value] if isinstance(value, list) else value


def recorded_findings(provenance: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Return the findings that a provenance contains, the most severe first."""
    return worst_first(Finding.from_dict(stored or {}) for stored in provenance["findings"] or ())


def package_versions() -> dict[str, str]:
    """Return the versions of this package and of the packages that affect its results."""
    return {
        name: importlib.metadata.version(name)
        for name in ("glue-lrs", "numpy", "astropy", "specutils")
    }


def column_sums(columns: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Return the sum of the absolute values of each of the columns `SUMMED`, ignoring NaN."""
    return {
        name: float(np.nansum(np.abs(columns[name]), dtype=float))
        for name in SUMMED
        if name in columns
    }


def file_record(path: str | None) -> dict[str, Any] | None:
    """Return the path and the SHA-256 checksum of a file, or None if `path` is None.

    The checksum is None if the file cannot be read, or is no longer the one that was read.

    Parameters
    ----------
    path : str, optional
        Path of the file. If it is a `SourceFile`, it is checked that the file has not changed since
        it was read.

    Warns
    -----
    LRSWarning
        If the file has changed since it was read.
    """
    if path is None:
        return None
    if not isinstance(path, SourceFile):
        return {"filename": path, "sha256": file_digest(path)}
    digest = path.sha256()
    if digest is None and path.was_read:
        warn(
            LRSWarning(
                "has changed or was removed since it was read; no checksum of it is recorded",
                subject=path,
            )
        )
    return {"filename": str(path), "sha256": digest}


def check_record(stored: object, combined: bool) -> None:
    """Raise `LRSError` if values of a stored provenance do not have the types that are written.

    Parameters
    ----------
    stored : object
        Record of an extraction or of a combination, for example from a file. Keys may be missing.
    combined : bool
        Whether it is that of a combination, or of light curves, which have several inputs.
    """
    if not isinstance(stored, Mapping):
        raise LRSError(f"the provenance is a {type(stored).__name__}, expected a mapping")
    schema = _COMBINATION if combined else _EXTRACTION
    for key, value in stored.items():
        if not _conforms(value, schema.get(key, object)):
            raise LRSError(f"the provenance has an invalid value of {quoted(str(key))}")
    for one in stored.get("findings") or ():
        try:
            str(Finding.from_dict(one or {}))
        except Exception as error:  # a hint may have any structure
            raise LRSError("the provenance has an invalid value of 'findings'") from error


def _conforms(value: object, schema: Any) -> bool:
    """Return whether a value is None, or it and its items have the types in a schema."""
    if value is None:
        return True
    if isinstance(schema, list):
        return isinstance(value, list) and all(_conforms(one, schema[0]) for one in value)
    if isinstance(schema, dict) and isinstance(value, Mapping):
        every = schema.get(..., object)
        return all(_conforms(one, schema.get(key, every)) for key, one in value.items())
    return not isinstance(schema, dict) and isinstance(value, schema)
