"""Validators of single values: numbers, booleans, choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from glue_lrs.errors import LRSError, ReferenceFileError, nearest

__all__ = [
    "check_bool",
    "check_choice",
    "check_flag",
    "check_fraction",
    "check_number",
    "checked",
    "excerpt",
    "one_of",
    "or_null",
    "plain",
    "written",
]


def check_number(key: str, value: object) -> float:
    """Return a finite number as float, or raise `ReferenceFileError` that names the key."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ReferenceFileError(f"{key} is {value!r}, expected a number")
    if not np.isfinite(float(value)):
        raise ReferenceFileError(f"{key} is {value!r}, expected a finite number")
    return float(value)


def check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise LRSError(
            f"{name}: found {value!r}{nearest(str(value), known)}, "
            f"expected {', '.join(map(repr, known[:-1]))} or {known[-1]!r}"
        )


def written(value: Any) -> Any:
    """What JSON gets of a value: lists for tuples, whole numbers without a decimal point."""
    if isinstance(value, tuple):
        return [written(item) for item in value]
    return short(value) if isinstance(value, float) else value


def short(value: float) -> float | int:
    """The same number, without a decimal point where it is whole."""
    return int(value) if value == int(value) and abs(value) < 2**53 else value


def check_flag(key: str, value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ReferenceFileError(f"{key} is {value!r}, expected true, false or null")
    return value


def check_bool(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ReferenceFileError(f"{key} is {value!r}, expected true or false")
    return value


def or_null(check: Callable[[str, object], Any]) -> Callable[[str, object], Any]:
    return lambda key, value: None if value is None else check(key, value)


def one_of(*words: str) -> Callable[[str, object], str]:
    def check(key: str, value: object) -> str:
        if value not in words:
            hint = nearest(value, words) if isinstance(value, str) else ""
            expected = " or ".join(map(repr, words))
            raise ReferenceFileError(f"{key} is {value!r}{hint}, expected {expected}")
        return str(value)

    return check


def check_fraction(key: str, value: object) -> float:
    number = check_number(key, value)
    if not 0 <= number <= 1:
        raise ReferenceFileError(f"{key} is {value!r}, expected a fraction between 0 and 1")
    return number


def checked(check: Callable[[str, object], Any], key: str, value: object) -> Any:
    try:
        return check(key, value)
    except OverflowError:
        raise ReferenceFileError(
            f"{key} has too many digits, expected a number below 1e308"
        ) from None


def plain(value: Any) -> Any:
    """A copy made of what JSON has: dict, list, str, int, float, bool, None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def excerpt(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
