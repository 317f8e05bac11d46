"""Stacks of spectra from which light curves are made, as chunks of integrations."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from astropy.table import Table
from specutils import Spectrum

from glue_lrs._utils.source_file import SourceFile
from glue_lrs.errors import LRSError, quoted
from glue_lrs.extraction.chunks import ChunkedExtraction
from glue_lrs.extraction.keywords import integration_times
from glue_lrs.fitting.time_outliers import group_edges
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.from_specutils import spectrum_to_extraction

if TYPE_CHECKING:
    from astropy.io import fits

    from glue_lrs.spectra.findings import Finding
    from glue_lrs.spectra.provenance import Provenance

_Path: TypeAlias = str | os.PathLike[str]

#: Spectra of a time series, or the file or files that contain them.
Source: TypeAlias = Extraction | ChunkedExtraction | Spectrum | _Path | Sequence[_Path]


@dataclass(frozen=True, eq=False)
class SpectralChunks:
    """Spectra of a time series, of which a chunk of integrations is made or selected at a time.

    Parameters
    ----------
    spectra : Extraction or ChunkedExtraction
        All spectra, or those that are extracted when they are asked for.
    files : tuple of str
        Files from which they were read.
    """

    spectra: Extraction | ChunkedExtraction
    files: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """Number of integrations."""
        if isinstance(self.spectra, ChunkedExtraction):
            return self.spectra.number
        return len(self.spectra.columns["FLUX"])

    @property
    def slices(self) -> list[slice]:
        """Integrations of each chunk."""
        return [slice(first, stop) for first, stop in pairwise(group_edges(self.number))]

    def columns(self, index: int) -> tuple[Mapping[str, Any], Table | None]:
        """Return the columns and the times of a chunk."""
        if isinstance(self.spectra, ChunkedExtraction):
            made = self.spectra[index]
            return made.columns, made.times
        where, times = self.slices[index], self.spectra.times
        columns = {name: values[where] for name, values in self.spectra.columns.items()}
        return columns, None if times is None else times[where]

    @property
    def times(self) -> Table | None:
        """Columns INT_NUM, MJD-AVG, TDB-MID, ... with one row per integration."""
        if isinstance(self.spectra, ChunkedExtraction):
            return integration_times(self.spectra.image)
        return self.spectra.times

    @property
    def int_times(self) -> Table | None:
        """Table INT_TIMES of the file, if it was read."""
        if isinstance(self.spectra, ChunkedExtraction):
            return self.spectra.image.times
        return self.spectra.int_times

    @property
    def filename(self) -> str | None:
        """Name of the spectra in messages."""
        if isinstance(self.spectra, ChunkedExtraction):
            return self.spectra.image.filename
        return self.spectra.filename

    @property
    def header(self) -> fits.Header:
        """Primary header of the spectra."""
        if isinstance(self.spectra, ChunkedExtraction):
            return self.spectra.image.header
        return self.spectra.header

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings about the spectra."""
        return self.spectra.findings

    @property
    def unit(self) -> str:
        """Unit of the flux."""
        return self._example.units.get("FLUX", "")

    @property
    def provenance(self) -> Provenance | None:
        """Provenance of the spectra."""
        found = self._example.provenance
        if found is None or not isinstance(self.spectra, ChunkedExtraction):
            return found
        return found.changed(findings=self.findings, columns={})  # column sums of a chunk only

    @property
    def _example(self) -> Extraction:
        """All spectra, or a few of them."""
        return self.spectra.sample if isinstance(self.spectra, ChunkedExtraction) else self.spectra


def chunks_from(source: Source) -> SpectralChunks:
    """Return the spectra of a time series as chunks. The parameters are those of `stack_from`."""
    if isinstance(source, ChunkedExtraction):
        image = source.image
        paths = image.segments or (() if image.path is None else (image.path,))
        return SpectralChunks(source, tuple(paths))
    files = _paths(source)
    stack = stack_from(files or source)
    if not files and stack.filename is not None:
        files = [stack.filename]
    return SpectralChunks(stack, tuple(files))


def stack_from(source: Source) -> Extraction:
    """Return the stack of spectra of a time series.

    Raises
    ------
    LRSError
        If the source is no stack of at least two integrations.
    """
    if isinstance(source, Extraction):
        stack = source
    elif isinstance(source, Spectrum):
        stack = spectrum_to_extraction(source)
    elif files := _paths(source):
        stack = Extraction.read(files[0] if len(files) == 1 else files)
    else:
        raise LRSError(f"found {quoted(source)}, expected spectra or files", subject="source")
    shape = stack.columns["FLUX"].shape
    if len(shape) != 2 or shape[0] < 2:
        raise LRSError(
            "has one spectrum, expected the spectra of several integrations (x1dints)",
            subject=stack.filename,
        )
    return stack


def _paths(source: Source) -> list[str]:
    """Return the paths of a source, with the state of the files before they are read."""
    paths: list[Any] = []
    if isinstance(source, str | os.PathLike):
        paths = [source]
    elif isinstance(source, Sequence) and not isinstance(source, ChunkedExtraction):
        paths = list(source)
    return [
        one if isinstance(one, SourceFile) else SourceFile.from_path(os.fspath(one))
        for one in paths
    ]
