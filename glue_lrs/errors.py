"""Errors and warnings of the package, with one base class each.

A message is data: the file or key that it is about (`subject`), a sentence (`text`) and, where the
user can act, a `Hint` with the parameters to set. ``str(message)`` renders the hint in Python's
syntax; the command line and the viewers render it in theirs with ``message.render(syntax)``.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from os import PathLike, fspath
from pathlib import Path
from types import EllipsisType
from typing import Any, Self

__all__ = [
    "ApertureError",
    "CorrectionError",
    "Hint",
    "LRSError",
    "LRSWarning",
    "LostPixelsWarning",
    "Message",
    "NoApertureCorrectionWarning",
    "NoVariancesWarning",
    "ProductError",
    "ProfileError",
    "ReferenceFileError",
    "Setting",
    "SourceError",
    "WriteError",
    "nearest",
    "warn",
]


@dataclass(frozen=True)
class Setting:
    """A parameter that a message proposes to set.

    Parameters
    ----------
    name : str
        Name of the parameter in Python.
    value : object
        The proposed value; Ellipsis where the user has to choose one.
    """

    name: str
    value: Any = ...

    def __str__(self) -> str:
        return f"{self.name}=" if isinstance(self.value, EllipsisType) else self.python

    @property
    def python(self) -> str:
        """The setting as a keyword argument."""
        return f"{self.name}={self.value!r}"


@dataclass(frozen=True)
class Hint:
    """A way out that a message offers.

    Parameters
    ----------
    template : str
        Text with a ``{}`` for each of the settings.
    settings : tuple of Setting
        The parameters to set.
    """

    template: str
    settings: tuple[Setting, ...] = ()

    @classmethod
    def to(cls, template: str, *names: str, **settings: Any) -> Hint:
        """Return a hint with settings: names alone first, then names with values."""
        chosen = (*map(Setting, names), *(Setting(*item) for item in settings.items()))
        return cls(template, chosen)

    def joined(self, other: Hint) -> Hint:
        """Return both hints as one."""
        return Hint(f"{self.template}; {other.template}", (*self.settings, *other.settings))

    def render(self, syntax: Callable[[Setting], str | None] = str) -> str:
        """Return the hint with its settings in the syntax of a front end.

        Parameters
        ----------
        syntax : callable
            Renders one setting, or returns None where the front end does not have the parameter.

        Returns
        -------
        str
            Empty if a setting cannot be rendered.
        """
        rendered = [syntax(setting) for setting in self.settings]
        if None in rendered:
            return ""
        return self.template.format(*rendered)


class Message(Exception):  # noqa: N818 - base of errors and of warnings
    """Base of errors and warnings: one line, split into subject, text and hint.

    Parameters
    ----------
    text : str
        What was found and, for an error, what was expected.
    subject : str or path-like, optional
        The file, image or key that the message is about.
    hint : Hint, optional
        What the user can do about it.
    values : mapping, optional
        The numbers in the text.
    """

    def __init__(
        self,
        text: str,
        *,
        subject: str | PathLike[str] | None = None,
        hint: Hint | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(text)
        self.text = text
        self.subject = None if subject is None else fspath(subject)
        self.hint = hint
        self.values = dict(values or {})

    def render(
        self, syntax: Callable[[Setting], str | None] = str, *, with_subject: bool = True
    ) -> str:
        """Return the message as one line.

        Parameters
        ----------
        syntax : callable
            Renders the settings of the hint: see `Hint.render`.
        with_subject : bool
            Whether the line begins with the subject.
        """
        hint = "" if self.hint is None else self.hint.render(syntax)
        line = f"{self.text} ({hint})" if hint else self.text
        return f"{self.subject}: {line}" if self.subject and with_subject else line

    def about(self, subject: str) -> Self:
        """Return the same message about a subject; one that it has already is kept."""
        made = type(self)(self.text, subject=self.subject or subject, hint=self.hint)
        made.values = self.values
        return made

    def __str__(self) -> str:
        return self.render()


class LRSError(Message):
    """Something in a file or a parameter is not as it must be.

    The message is one line: the file or key, what was found, what was expected.
    """


class ProductError(LRSError):
    """A science product (s2d, cal, calints, x1d, x1dints) cannot be used."""


class ReferenceFileError(LRSError):
    """An EXTRACT1D reference, or a parameter that replaces one of its keys, is wrong."""


class ApertureError(ReferenceFileError):
    """An aperture or a background region does not fit the image."""


class CorrectionError(LRSError):
    """An APCORR reference cannot be used for this image."""


class ProfileError(LRSError):
    """A PSF reference cannot be used, or a profile cannot be fitted."""


class SourceError(LRSError):
    """There is no source in an image, or not the requested one."""


class WriteError(LRSError):
    """An output file cannot be written."""


class LRSWarning(Message, UserWarning):
    """The result is valid, but its user should know something about it."""


class LostPixelsWarning(LRSWarning):
    """Bad pixels reduce the effective aperture."""


class NoApertureCorrectionWarning(LRSWarning):
    """No aperture correction is applied: a point source's flux is that within the aperture."""


class NoVariancesWarning(LRSWarning):
    """The image has no variances: the errors are 0."""


#: Parts of paths of code between a user and this package.
_SKIPPED = (
    str(Path(__file__).parent),
    "astropy/io/registry/",
    "specutils/io/",
    "specutils/spectra/",
)


def warn(warning: LRSWarning) -> None:
    """Issue a warning that points to the first caller outside this package and its readers."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _is_skipped(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=level)


def _is_skipped(filename: str) -> bool:
    path = filename.replace("\\", "/")
    return any(part.replace("\\", "/") in path for part in _SKIPPED)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known word nearest to a misspelt one, or ``""``."""
    match = get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f" (did you mean {match[0]!r}?)" if match else ""
