"""Provenance: how a spectrum was made, and making it again."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glue_lrs.apertures.aperture_correction import ApertureCorrection
    from glue_lrs.profiles.psf import PSFProfile
    from glue_lrs.spectra.extraction import Extraction

__all__ = ["Provenance", "file_record"]


class Provenance(Mapping[str, Any]):
    """How a spectrum was made: a mapping that is ready for JSON.

    Keys: ``parameters`` (``reference``, ``step`` and ``options``, see `Extract1D.parameters`),
    ``references`` (file names and checksums), ``input`` (file name and checksum), ``position``
    (what was found of the source), ``notes`` (what the user was warned of), ``versions``, ``date``.
    Checksums are computed when they are first looked at.

    Parameters
    ----------
    parameters : dict, or callable that returns one
        `Extract1D.parameters`.
    input : str, optional
        Path of the image's file.
    references : dict
        Path of each reference file, None where none was used.
    position : dict
        Offset of the aperture and expected column of the source.
    notes : list of str
        What the user was warned of.
    """

    _keys = ("parameters", "references", "input", "position", "notes", "versions", "date")

    def __init__(
        self,
        parameters: dict[str, Any] | Callable[[], dict[str, Any]],
        input: str | None = None,
        references: dict[str, str | None] | None = None,
        position: dict[str, Any] | None = None,
        notes: list[str] | None = None,
    ) -> None:
        self._parameters_source = parameters
        self._input = input
        self._references = references or {}
        self._position = position or {}
        self._notes = notes or []
        self._date = datetime.now(UTC)
        self._stored: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Provenance:
        """Take over what a file has stored."""
        made = cls(dict(stored.get("parameters", {})))
        made._stored = {key: stored.get(key) for key in cls._keys}
        return made

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        source = self._parameters_source
        return source() if callable(source) else source

    @cached_property
    def _values(self) -> dict[str, Any]:
        if self._stored is not None:
            return self._stored
        return {
            "parameters": self._parameters,
            "references": {key: file_record(path) for key, path in self._references.items()},
            "input": file_record(self._input),
            "position": self._position,
            "notes": list(self._notes),
            "versions": {
                name: importlib.metadata.version(name)
                for name in ("glue-lrs", "numpy", "astropy", "specutils")
            },
            "date": self._date.isoformat(timespec="seconds"),
        }

    def __getitem__(self, key: str) -> Any:
        if key == "parameters":
            return self._parameters
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def changed(
        self,
        parameters: Callable[[], dict[str, Any]] | None = None,
        references: Mapping[str, str | None] | None = None,
        notes: list[str] | None = None,
    ) -> Provenance:
        """Return this provenance with other parameters, references or notes; it looks at no file.

        Parameters
        ----------
        parameters : callable, optional
            Returns the parameters.
        references : mapping, optional
            Path of each reference file.
        notes : list of str, optional
            What the user was warned of.
        """
        return Provenance(
            self._parameters_source if parameters is None else parameters,
            self._input,
            self._references if references is None else dict(references),
            self._position,
            self._notes if notes is None else notes,
        )

    @property
    def notes(self) -> list[str]:
        """What the user was warned of; no file is looked at."""
        return list(self["notes"] if self._stored is not None else self._notes)

    def has_reference(self, key: str) -> bool:
        """Whether a reference of a kind (``"apcorr"``) was used; no file is looked at."""
        references = self._references if self._stored is None else self["references"] or {}
        return references.get(key) is not None

    def rerun(
        self,
        *,
        input: str | PathLike[str] | None = None,
        apcorr: str | PathLike[str] | ApertureCorrection | None = None,
        psf: str | PathLike[str] | PSFProfile | None = None,
    ) -> Extraction:
        """Extract once more: the same parameters on the same image.

        Parameters
        ----------
        input : str or path-like, optional
            Where the image is now, if it was moved. Its checksum must be the recorded one.
        apcorr : str, path-like or ApertureCorrection, optional
            Where the APCORR reference is now, or what to take if it came from no file.
        psf : str, path-like or PSFProfile, optional
            The same of the PSF reference.

        Returns
        -------
        Extraction
            All columns.

        Raises
        ------
        LRSError
            If a file is gone, is not the same as it was, or never was one.
        """
        from glue_lrs.extraction.rerun import rerun

        return rerun(self, input=input, apcorr=apcorr, psf=psf)

    def __repr__(self) -> str:
        return f"<Provenance of {self._input or 'an image in memory'}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Provenance:
        return self  # nothing in it changes


def file_record(path: str | None) -> dict[str, str | None] | None:
    """Name and SHA-256 of a file; no checksum where it is gone or was never a file."""
    if path is None:
        return None
    try:
        with Path(path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        digest = None
    return {"filename": path, "sha256": digest}
