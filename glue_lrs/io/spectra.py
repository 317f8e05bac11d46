"""Readers for any product with spectra (x1d, x1dints, c1d), and combination of files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from glue_lrs.combination.combine import combine
from glue_lrs.errors import LRSError, ProductError, warn
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.io.c1d import read_c1d
from glue_lrs.io.identify import IMAGE_KINDS, SPECTRUM_KINDS, identify_product
from glue_lrs.io.x1d_reader import read_x1d
from glue_lrs.spectra.segments import exposure_of, join_segments

if TYPE_CHECKING:
    from glue_lrs.combination.combination import Combination
    from glue_lrs.spectra.extraction import Extraction


def is_spectrum(path: str) -> bool:
    """Return whether a MIRI LRS file is an x1d, x1dints or c1d rather than an image."""
    return identify_product(path) in SPECTRUM_KINDS


def read_combined(path: str) -> Combination | None:
    """Read a c1d file, or return None if the file is a product of another kind."""
    return read_c1d(path) if identify_product(path) == "c1d" else None


def read_spectra(path: str) -> list[Extraction]:
    """Read the spectra from an x1d, x1dints or c1d file.

    Parameters
    ----------
    path : str
        Path of the file.

    Raises
    ------
    LRSError
        If the file is a product of another kind, or is damaged.
    """
    combined = read_combined(path)
    return read_x1d(path) if combined is None else [combined.to_extraction()]


def read_series(
    paths: Iterable[str], read: Callable[[str], list[Extraction]] = read_spectra
) -> list[tuple[str, Extraction]]:
    """Read the spectra from several files, and join those of the segments of an exposure.

    Parameters
    ----------
    paths : iterable of str
        x1d, x1dints and c1d files.
    read : callable
        Function that reads the spectra of a file.

    Returns
    -------
    list of (str, Extraction)
        Pairs of the path, or the name of joined segments, and the spectrum. Stacks of one exposure
        that are not its segments, such as two extractions of the same integrations, remain apart.

    Warns
    -----
    LRSWarning
        As described in `glue_lrs.io.x1d_reader.read_single`.
    """
    found = [(path, one) for path in paths for one in read(path)]
    exposures: dict[object, list[tuple[str, Extraction]]] = {}
    for number, (path, one) in enumerate(found):
        exposure = exposure_of(one.header) if one.is_stack else None
        exposures.setdefault(number if exposure is None else exposure, []).append((path, one))
    series = []
    for group in exposures.values():
        if len(group) == 1:
            series += group
            continue
        try:
            joined, notes = join_segments([one for _, one in group], [path for path, _ in group])
        except ProductError:
            series += group
            continue
        for note in notes:
            warn(note.about(joined.filename))
        series.append((str(joined.filename), joined))
    return series


def read_inputs(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Extraction | SlitImage]:
    """Read the spectra and images that are to be combined, one file at a time.

    An image keeps its file open, and the number of open files is limited.

    Parameters
    ----------
    paths : iterable of str or path-like
        x1d, x1dints, s2d, cal and calints files of MIRI LRS, in any mixture.

    Yields
    ------
    Extraction or SlitImage
        Spectra and images in the order of the files. If an x1d holds several spectra, all of them
        are included.

    Raises
    ------
    ProductError
        If a file is a product of another kind.
    """
    for path in paths:
        if identify_product(path) in IMAGE_KINDS:
            yield SlitImage.read(path)
        else:
            yield from read_x1d(path)


def combine_files(
    paths: Iterable[str | os.PathLike[str]], *, extract: Any = None, **options: Any
) -> Combination:
    """Combine the spectra from several files, like ``glue-lrs combine``.

    Parameters
    ----------
    paths : iterable of str or path-like
        x1d, x1dints, s2d, cal and calints files of MIRI LRS, in any mixture.
    extract : Extract1D, callable, or a sequence of them, optional
        Extraction of the images, as in `glue_lrs.combination.combine.combine`.
    **options
        Other keyword parameters of `glue_lrs.combination.combine.combine`.

    Returns
    -------
    Combination
        The combined spectrum.

    Raises
    ------
    LRSError
        If a file cannot be used, or `glue_lrs.combination.combine.combine` raises an error.
    """
    paths = [os.fspath(path) for path in paths]
    if not paths:
        raise LRSError("no files were given, expected at least one")
    return combine(read_inputs(paths), extract=extract, **options)
