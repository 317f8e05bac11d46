"""Stack of spectra from which light curves are made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeAlias

from specutils import Spectrum

from glue_lrs.errors import LRSError, quoted
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.from_specutils import spectrum_to_extraction

_Path: TypeAlias = str | os.PathLike[str]

#: Spectra of a time series, or the file or files that contain them.
Source: TypeAlias = Extraction | Spectrum | _Path | Sequence[_Path]


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
    elif isinstance(source, str | os.PathLike):
        stack = Extraction.read(source)
    elif isinstance(source, Sequence) and source:
        stack = Extraction.read(source[0] if len(source) == 1 else list(source))
    else:
        raise LRSError(f"found {quoted(source)}, expected spectra or files", subject="source")
    shape = stack.columns["FLUX"].shape
    if len(shape) != 2 or shape[0] < 2:
        raise LRSError(
            "has one spectrum, expected the spectra of several integrations (x1dints)",
            subject=stack.filename,
        )
    return stack
