"""Reading spectra of any kind: x1d, x1dints, c1d."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glue_lrs.io.identify import identify_product
from glue_lrs.io.x1d_reader import read_x1d

if TYPE_CHECKING:
    from glue_lrs.combination.combination import Combination
    from glue_lrs.spectra.extraction import Extraction

__all__ = ["is_spectrum", "read_combined", "read_spectra"]


def is_spectrum(path: str) -> bool:
    """Tell whether a file of MIRI LRS is an x1d, x1dints or c1d rather than an image."""
    return identify_product(path) in ("x1d", "x1dints", "c1d")


def read_combined(path: str) -> Combination | None:
    """Read a c1d; None for another product."""
    from glue_lrs.io.c1d import read_c1d

    return read_c1d(path) if identify_product(path) == "c1d" else None


def read_spectra(path: str) -> list[Extraction]:
    """Read the spectra of an x1d or x1dints, or that of a c1d.

    Parameters
    ----------
    path : str
        The file.

    Raises
    ------
    LRSError
        If it is none of them, or is damaged.
    """
    combined = read_combined(path)
    return read_x1d(path) if combined is None else [combined.to_extraction()]
