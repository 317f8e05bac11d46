"""The errors and warnings of the package: one root each, so that one ``except`` catches all."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "ApertureError",
    "CorrectionError",
    "LRSError",
    "LRSWarning",
    "ProductError",
    "ProfileError",
    "ReferenceFileError",
    "SourceError",
    "WriteError",
    "nearest",
]


class LRSError(Exception):
    """Something in a file or a parameter is not as it must be.

    The message is one line: what file or key, what was found, what was expected.
    """


class ProductError(LRSError):
    """A science product (s2d, cal, calints, x1d, x1dints) cannot be used."""


class ReferenceFileError(LRSError):
    """An EXTRACT1D reference, or a parameter that takes the place of one of its keys, is wrong."""


class ApertureError(ReferenceFileError):
    """An aperture or a background region does not fit the image."""


class CorrectionError(LRSError):
    """An APCORR reference cannot be used for this image."""


class ProfileError(LRSError):
    """A PSF reference cannot be used, or a profile cannot be learned."""


class SourceError(LRSError):
    """There is no source in an image, or not the one that is asked for."""


class WriteError(LRSError):
    """An output file cannot be written."""


class LRSWarning(UserWarning):
    """The result stands, but a user would want to know something about it."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known word nearest to a misspelt one, or ``""``."""
    match = get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f" (did you mean {match[0]!r}?)" if match else ""
