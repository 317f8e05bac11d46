"""Objects at the prompt: texts of a few lines, and the hook for HTML in notebooks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from importlib import import_module
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from glue_lrs.errors import escaped

#: Module that registers the pictures for notebooks with `register_renderer`. It is imported by name
#: because it imports Matplotlib, which this layer must not.
_RENDERERS_MODULE = "glue_lrs.plotting.notebook"

#: Largest number of characters in a line.
_WIDTH = 100

_renderers: dict[type, Callable[[Any], str]] = {}


def described(value: object, *lines: str | None) -> str:
    """Return the text of an object: its type and first line, and the other lines indented.

    Lines that are None or empty are omitted, long lines are shortened, and characters that a
    terminal would not show as they are are escaped.
    """
    kept = [shorten(escaped(line), _WIDTH, placeholder=" ...") for line in lines if line]
    return f"<{type(value).__name__} " + "\n  ".join(kept) + ">"


def joined(*parts: str | None) -> str:
    """Return the parts that are neither None nor empty, separated by commas."""
    return ", ".join(part for part in parts if part)


def rounded(value: float) -> str:
    """Return a number with three significant digits, or without decimals if it is larger."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def span_text(values: ArrayLike, unit: str, form: str = ".2f") -> str:
    """Return the range of the finite values with a unit, such as "5.00 to 12.00 um"."""
    array = np.asarray(values, dtype=float)
    finite = array[np.isfinite(array)]
    if finite.size == 0:
        return f"no {unit}"
    low, high = (format(value, form) for value in (finite.min(), finite.max()))
    return f"{low if low == high else f'{low} to {high}'} {unit}".rstrip()


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings as "name=value", without those that are None."""
    return joined(*(f"{name}={value!r}" for name, value in settings.items() if value is not None))


def changed_fields(value: Any, omitted: Collection[str] = ()) -> dict[str, Any]:
    """Return the fields of a dataclass that do not have their default value."""
    return {
        field.name: getattr(value, field.name)
        for field in fields(value)
        if field.name not in omitted and getattr(value, field.name) != field.default
    }


def register_renderer(kind: type, render: Callable[[Any], str]) -> None:
    """Enter the function that returns the HTML of the objects of a class."""
    _renderers[kind] = render


def html(value: object) -> str | None:
    """Return the HTML of an object, as method ``_repr_html_``, without issuing warnings.

    It is None if there is no renderer or the renderer fails, so that the notebook shows the text.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            import_module(_RENDERERS_MODULE)
            return _renderers[type(value)](value)
    except Exception:  # drawing may raise any error; the notebook then shows the text
        return None
