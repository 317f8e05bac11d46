"""Provenance: record of how a spectrum was extracted or combined."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias

from glue_lrs.errors import LRSWarning

#: Mapping with the values of a record, or a function that returns such a mapping.
Source: TypeAlias = Mapping[str, Any] | Callable[[], Mapping[str, Any]]


class ProvenanceRecord(Mapping[str, Any]):
    """Record of how a spectrum was made, as a mapping with fixed keys and JSON values.

    The values are computed at the first access and do not change afterwards.
    """

    _keys: ClassVar[tuple[str, ...]]

    def __init__(self, source: Source | None) -> None:
        self._stored = source

    def _collect(self) -> Mapping[str, Any]:
        """Return a mapping with the values. If a key is missing, the value is None."""
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
    (name and checksum of the image file), ``position`` (position of the source and shifts of the
    aperture), ``notes`` (texts of the warnings), ``versions`` (of packages) and ``date``. Checksums
    are computed at the first access.

    Parameters
    ----------
    parameters : dict, or callable that returns a dict
        Parameters of the extraction, such as `Extract1D.parameters`.
    input : str, optional
        Path of the image file.
    references : dict
        Path of the reference file of each type, or None if no file of this type was used.
    position : dict
        Position of the source and shifts of the aperture.
    notes : sequence of LRSWarning
        Warnings that were issued during the extraction.
    """

    _keys = ("parameters", "references", "input", "position", "notes", "versions", "date")

    def __init__(
        self,
        parameters: dict[str, Any] | Callable[[], dict[str, Any]],
        input: str | None = None,
        references: dict[str, str | None] | None = None,
        position: dict[str, Any] | None = None,
        notes: Sequence[LRSWarning] = (),
    ) -> None:
        super().__init__(None)
        self._parameters_source = parameters
        self._input = input
        self._references = references or {}
        self._position = position or {}
        self._notes = tuple(notes)
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
            "input": file_record(self._input),
            "position": self._position,
            "notes": self.notes,
            "versions": package_versions(),
            "date": self._date.isoformat(timespec="seconds"),
        }

    def __getitem__(self, key: str) -> Any:
        if key == "parameters" and self._stored is None:
            return self._parameters  # without computing the checksums of the files
        return super().__getitem__(key)

    def changed(
        self,
        parameters: Callable[[], dict[str, Any]] | None = None,
        references: Mapping[str, str | None] | None = None,
        notes: Sequence[LRSWarning] | None = None,
    ) -> Provenance:
        """Return a copy of the provenance with some values replaced, without computing checksums.

        Values for which no argument is given are not changed.

        Parameters
        ----------
        parameters : callable, optional
            Function that returns the new parameters.
        references : mapping, optional
            Path of the reference file of each type.
        notes : sequence of LRSWarning, optional
            Warnings that were issued during the extraction.

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
            self.messages if notes is None else notes,
        )

    @property
    def messages(self) -> tuple[LRSWarning, ...]:
        """Warnings that the extraction issued. Those read from a file have only a text."""
        if self._stored is not None:
            return tuple(LRSWarning(text) for text in self["notes"] or ())
        return self._notes

    @property
    def notes(self) -> list[str]:
        """Texts of the warnings that the extraction issued, without computing checksums."""
        return [note.render(with_subject=False) for note in self.messages]

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

    The keys are ``parameters`` (``weights``, ``sigma_clip``, ``mode``), ``inputs`` (a dict for each
    spectrum, as described in `CombineInput`), ``extractions`` (the `Provenance` of each object that
    was passed to `combine`, or None), ``notes`` (texts of the warnings), ``versions`` and ``date``.

    Parameters
    ----------
    source : callable
        Function that returns the values. It is called at the first access, because it computes
        checksums, which takes time.
    """

    _keys = ("parameters", "inputs", "extractions", "notes", "versions", "date")

    def __repr__(self) -> str:
        return "<Provenance of a combination>"


def package_versions() -> dict[str, str]:
    """Return the versions of this package and of the packages that affect its results."""
    return {
        name: importlib.metadata.version(name)
        for name in ("glue-lrs", "numpy", "astropy", "specutils")
    }


def file_record(path: str | None) -> dict[str, str | None] | None:
    """Return the path and the SHA-256 checksum of a file, or None if `path` is None.

    The checksum is None if the file cannot be read.
    """
    if path is None:
        return None
    try:
        with Path(path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        digest = None
    return {"filename": path, "sha256": digest}
