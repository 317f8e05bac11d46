"""Errors and warnings of the package, derived from `LRSError` and `LRSWarning`.

A message consists of the file or key that it is about (`subject`), a sentence (`text`) and, if the
user can do something about the problem, a `Hint` with the parameters to set. ``str(message)``
renders the hint in Python syntax. The command line and the viewers use ``message.render(syntax)``
to render it in their own syntax.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from difflib import get_close_matches
from os import PathLike, fspath
from reprlib import Repr
from typing import Literal, Self, TypeAlias

#: Severity of a finding or warning. ``"info"``: a known limitation. ``"warning"``: the flux is
#: probably not what the user intended to measure. ``"error"``: the flux is wrong.
Severity: TypeAlias = Literal["info", "warning", "error"]

#: All severities, from the most to the least severe.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

#: Largest number of characters that a message quotes of a value: the width of a terminal.
LONGEST_VALUE = 80


class _Repr(Repr):
    """Repr with true, false and null as in JSON, and NumPy scalars without their type."""

    def repr1(self, x: object, level: int) -> str:
        if x is None or isinstance(x, bool):
            return json.dumps(x)
        if type(x).__module__ == "numpy" and getattr(x, "shape", None) == ():
            return self.repr1(x.item(), level)  # type: ignore[attr-defined]
        if type(x).__module__ == "astropy.units.quantity" and getattr(x, "shape", None) == ():
            return f"{x:g}"
        return super().repr1(x, level)


#: Abbreviates long and deeply nested values, so that the time for a repr is limited.
_REPR = _Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 4 * LONGEST_VALUE
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = _REPR.maxset = LONGEST_VALUE // 2


def quoted(value: object) -> str:
    """Return the repr of a value for a message, on one line of at most `LONGEST_VALUE` characters.

    True, False and None become true, false and null, as in a reference file. Numbers of thousands
    of digits, which have no repr, are replaced by a text.
    """
    try:
        text = " ".join(_REPR.repr(value).split())
    except ValueError:
        text = "a number with too many digits"
    return _cut(text)


def listed(names: Iterable[str]) -> str:
    """Return names as text for a message: the first ten, and the number of the others."""
    every = [*names]
    rest = f" and {len(every) - 10} more" * (len(every) > 10)
    return ", ".join(map(_cut, every[:10])) + rest


def _escape(character: str) -> str:
    return r"\u007f" if character == "\x7f" else json.dumps(character)[1:-1]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def escaped(text: str, keep: str = "") -> str:
    """Return a text in which the characters that are not printable are escaped.

    These are control characters such as ESC and newline, marks that change the direction of the
    text, and bytes of file names that are not valid in their encoding. The escapes are those of
    JSON, so that text in JSON format remains valid.

    Parameters
    ----------
    text : str
        Text, for example from a file.
    keep : str
        Characters that are not escaped.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else _escape(one) for one in text)


@dataclass(frozen=True)
class Setting:
    """Parameter that a message proposes to set.

    Parameters
    ----------
    name : str
        Name of the parameter in Python.
    value : object
        Proposed value, or Ellipsis if the user must choose a value.
    """

    name: str
    value: object = ...

    def __str__(self) -> str:
        value = "..." if self.value is ... else repr(self.value)
        return f"{self.name}={value}"


@dataclass(frozen=True)
class Hint:
    """Proposal in a message for how the user can solve the problem.

    Parameters
    ----------
    template : str
        Text in which each ``{}`` is replaced by a setting.
    settings : tuple of Setting
        Settings that replace ``{}``, in order.
    others : tuple of Hint
        Alternative proposals.
    """

    template: str
    settings: tuple[Setting, ...] = ()
    others: tuple[Hint, ...] = ()

    @classmethod
    def to(cls, template: str, *names: str, **settings: object) -> Hint:
        """Return a hint from a template and settings.

        Positional arguments are names of parameters whose values the user must choose. They are
        followed by keyword arguments, which are parameters with proposed values.
        """
        chosen = (*map(Setting, names), *(Setting(*item) for item in settings.items()))
        return cls(template, chosen)

    def joined(self, other: Hint) -> Hint:
        """Return a copy of this hint with another hint as an alternative.

        A front end omits the hints whose parameters it does not have, so that it may render only
        one of the two.
        """
        return replace(self, others=(*self.others, other))

    def render(self, syntax: Callable[[Setting], str | None] = str) -> str:
        """Return the hint with its settings in the syntax of a front end.

        Parameters
        ----------
        syntax : callable
            Function that renders one setting, or returns None if the front end does not have the
            parameter.

        Returns
        -------
        str
            Rendered hints, separated by "; ". Hints with a parameter that the front end does not
            have are omitted.
        """
        rendered = [syntax(setting) for setting in self.settings]
        own = "" if None in rendered else self.template.format(*rendered)
        return "; ".join(filter(None, [own, *(other.render(syntax) for other in self.others)]))


class Message(Exception):  # noqa: N818 - base of errors and of warnings
    """Base class of errors and warnings, whose message is one line.

    Parameters
    ----------
    text : str
        Text that says what was found and, for an error, what was expected.
    subject : str or path-like, optional
        File, image or key that the message is about.
    hint : Hint, optional
        Proposal for how the user can solve the problem.
    """

    def __init__(
        self,
        text: str,
        *,
        subject: str | PathLike[str] | None = None,
        hint: Hint | None = None,
    ) -> None:
        super().__init__(text)
        self.text = text
        self.subject = None if subject is None else fspath(subject)
        self.hint = hint

    def render(
        self, syntax: Callable[[Setting], str | None] = str, *, with_subject: bool = True
    ) -> str:
        """Return the message as one line, in which characters that are not printable are escaped.

        Parameters
        ----------
        syntax : callable
            Function that renders the settings in the hint, as described in `Hint.render`.
        with_subject : bool
            Whether the line begins with the subject.
        """
        hint = "" if self.hint is None else self.hint.render(syntax)
        line = f"{self.text} ({hint})" if hint else self.text
        return escaped(f"{self.subject}: {line}" if self.subject and with_subject else line)

    def about(self, subject: str | None) -> Self:
        """Return a copy of the message with a subject, unless it already has a subject."""
        made = copy(self)
        made.subject = self.subject or subject
        return made

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class LRSError(Message):
    """Base class of errors about invalid files or parameters.

    The message is one line that contains the file or key, what was found, and what was expected.
    """

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows for an uncaught error: the message, without a traceback."""
        return [f"{type(self).__name__}: {self}"]


@contextmanager
def naming(subject: str) -> Iterator[None]:
    """Add a subject to errors that are raised in a block, unless they already have a subject.

    Parameters
    ----------
    subject : str
        File, image or key that the errors are about.
    """
    try:
        yield
    except LRSError as error:
        error.subject = error.subject or subject
        raise


class ProductError(LRSError):
    """Error for a science product (s2d, cal, calints, x1d, x1dints) that cannot be used."""


class ReferenceFileError(LRSError):
    """Error for an invalid EXTRACT1D reference file or an invalid extraction parameter."""


class ApertureError(ReferenceFileError):
    """Error for an aperture or a background region that does not fit the image."""


class CorrectionError(LRSError):
    """Error for an APCORR reference file that is invalid or does not apply to the image."""


class ProfileError(LRSError):
    """Error for a PSF reference file that cannot be used, or a profile that cannot be fitted."""


class SourceError(LRSError):
    """Error for an image without a source, or without a source at the requested position."""


class MeasurementError(LRSError):
    """Error for an image with too few rows, columns or good pixels to search it for a source."""


class NoiseError(LRSError):
    """Error for an image in which the noise cannot be determined as requested."""


class WriteError(LRSError):
    """Error for an output file that cannot be written."""


class LRSWarning(Message, UserWarning):
    """Base class of warnings about results that are valid but have limitations.

    Attributes
    ----------
    severity : Severity
        Severity of the finding for which the warning is issued, ``"warning"`` if there is none.
    """

    severity: Severity = "warning"


class LostPixelsWarning(LRSWarning):
    """Warning that bad pixels reduce the effective aperture."""


class FilledPixelsWarning(LRSWarning):
    """Warning that drizzle filled in bad pixels of the aperture from their neighbours."""


class UncorrectedPixelsWarning(LRSWarning):
    """Warning that the bad-pixel correction could not restore the flux of some rows."""


class NoApertureCorrectionWarning(LRSWarning):
    """Warning that no aperture correction is applied, so that flux outside the aperture is lost."""


class NoiseWarning(LRSWarning):
    """Warning that the noise measured in an image is larger than its errors (ERR) indicate."""


class OffCentreCorrectionWarning(LRSWarning):
    """Warning that an aperture correction is applied to an off-centre or too narrow aperture."""


class CorrectionRangeWarning(LRSWarning):
    """Warning that wavelengths or aperture sizes are outside the table of aperture corrections."""


class NoVariancesWarning(LRSWarning):
    """Warning that the image has no variances, so that the errors of spectra are unknown."""


class InvalidVariancesWarning(LRSWarning):
    """Warning that negative variances leave fluxes without an error."""


class NoBackgroundWarning(LRSWarning):
    """Warning that the columns beside the aperture show a background that is not subtracted."""


class RowsWithoutBackgroundWarning(LRSWarning):
    """Warning that rows have too few pixels in the background regions to fit a background."""


class OffImageWarning(LRSWarning):
    """Warning that the aperture or a background region extends beyond the image."""


class BackgroundRegionWarning(LRSWarning):
    """Warning that a background region overlaps the aperture, or a source or negative trace."""


class PositionWarning(LRSWarning):
    """Warning that the aperture does not follow the source, whose position is unknown."""


class ApertureOffSourceWarning(LRSWarning):
    """Warning that the source is off the centre of the aperture, or outside the aperture."""


class NegativeTraceWarning(LRSWarning):
    """Warning that the aperture contains a negative trace, such as that of another nod."""


class NegativeFluxWarning(LRSWarning):
    """Warning that the mean flux is negative."""


class NoSourceWarning(LRSWarning):
    """Warning that the image has no source."""


class NeighbourWarning(LRSWarning):
    """Warning that the aperture contains light of another source."""


class TraceWarning(LRSWarning):
    """Warning that the measured trace has a different shape from the trace of the WCS."""


class OutlierWarning(LRSWarning):
    """Warning that the aperture contains outliers, such as cosmic rays."""


class FitWarning(LRSWarning):
    """Warning that the fit of an optimal extraction may be wrong."""


class UnusedOptionWarning(LRSWarning):
    """Warning that a parameter that the user has set has no effect."""


class DifferentTargetsWarning(LRSWarning):
    """Warning that combined spectra are, or may be, those of different targets."""


class DifferentSpectraWarning(LRSWarning):
    """Warning that combined spectra differ in flux, source type or aperture correction."""


class RepeatedSpectraWarning(LRSWarning):
    """Warning that the same data are included more than once in a combination."""


class UnusedSpectraWarning(LRSWarning):
    """Warning that spectra are left out of a combination, or wavelength bins have no input."""


class TimesWarning(LRSWarning):
    """Warning that the times of integrations are not barycentric, missing or repeated."""


#: Prefixes of the names of modules that are skipped in the search for the location of a warning,
#: which is the line in the user's code that called them.
_SKIPPED = (
    "glue_lrs.", "astropy.io.registry.", "astropy.nddata.", "specutils.io.", "specutils.spectra.",
    "contextlib.", "copy.", "dataclasses.", "functools.",
)  # fmt: skip


def warn(warning: LRSWarning) -> None:
    """Issue a warning whose reported location is in the user's code.

    The location is the innermost calling line outside this package, outside the I/O code of astropy
    and specutils, and outside the wrappers of the standard library.
    """
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and f"{frame.f_globals.get('__name__')}.".startswith(_SKIPPED):
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=level)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the text ``" (did you mean 'x'?)"`` for a word that is not in a list of known words.

    The proposed word ``x`` is the known word that is most similar to `word`, ignoring case. If no
    known word is similar, ``""`` is returned.
    """
    lower = {name.lower(): name for name in known}
    match = get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return f" (did you mean {lower[match[0]]!r}?)" if match else ""
