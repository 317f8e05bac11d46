"""Validation of numbers, booleans and choices, and conversion of values to JSON types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from types import UnionType
from typing import Any, TypeVar

import numpy as np
from astropy import units as u

from glue_lrs.errors import LRSError, ReferenceFileError, nearest, quoted

T = TypeVar("T")


#: Largest accepted absolute value of a number. Above 2 ** 53, about 1e16, neighbouring pixel
#: numbers are not distinct in double precision.
_LARGEST = 1e15


def without_unit(value: Any, unit: u.UnitBase = u.pix) -> Any:
    """Return a value in which quantities in `unit`, or without a unit, are plain numbers.

    Lists and tuples are converted item by item. Quantities in other units, and other values, are
    returned unchanged.
    """
    if isinstance(value, list | tuple):
        items = [without_unit(item, unit) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if not isinstance(value, u.Quantity):
        return value
    for one in (unit, u.dimensionless_unscaled):
        if value.unit.is_equivalent(one):
            return value.to_value(one).tolist()
    return value


def check_number(key: str, value: object, unit: u.UnitBase = u.dimensionless_unscaled) -> float:
    """Return a finite number as float, or raise `ReferenceFileError` for any other value.

    A quantity in `unit`, or without a unit, is a number.
    """
    value = without_unit(value, unit)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ReferenceFileError(f"{key} is {quoted(value)}, expected a number")
    if not np.isfinite(float(value)):
        raise ReferenceFileError(f"{key} is {quoted(value)}, expected a finite number")
    if abs(float(value)) > _LARGEST:
        raise ReferenceFileError(f"{key} is {float(value):.3g}, expected at most {_LARGEST:g}")
    return float(value)


def check_pixels(key: str, value: object) -> float:
    """Return a finite number, which may be a quantity in pixels, as `check_number` does."""
    return check_number(key, value, u.pix)


def check_type(name: str, value: object, kinds: type[Any] | UnionType, expected: str) -> None:
    """Raise `LRSError` if the parameter `name` is not an object of one of the types `kinds`."""
    if not isinstance(value, kinds):
        found = "None" if value is None else f"a {type(value).__name__}"
        raise LRSError(f"{name} is {found}, expected {expected}")


def check_choice(name: str, value: object, known: Sequence[str]) -> None:
    """Raise `LRSError` about the parameter `name` if its value is not one of the known values."""
    if value not in known:
        raise LRSError(
            f"found {quoted(value)}{nearest(str(value), known)}, "
            f"expected {', '.join(map(repr, known[:-1]))} or {known[-1]!r}",
            subject=name,
        )


def json_value(value: Any) -> Any:
    """Convert tuples to lists, and floats with an integral value to int, for writing JSON.

    Other values are returned unchanged.
    """
    if isinstance(value, tuple):
        return [json_value(item) for item in value]
    return short(value) if isinstance(value, float) else value


def short(value: float) -> float | int:
    """Convert a float with an integral value to int; return any other float unchanged."""
    return int(value) if value == int(value) and abs(value) < 2**53 else value


def check_flag(key: str, value: object) -> bool | None:
    """Return a value that is True, False or None, or raise `ReferenceFileError`."""
    return None if value is None else check_bool(key, value, "true, false or null")


def optional_bool(key: str, value: object) -> None:
    """Raise `ReferenceFileError` if the value is not True, False or None."""
    if value is not None:
        check_bool(key, value, "true, false or null")


def check_bool(key: str, value: object, expected: str = "true or false") -> bool:
    """Return a value that is True or False, or raise `ReferenceFileError` for any other value."""
    if not isinstance(value, bool):
        raise ReferenceFileError(f"{key} is {quoted(value)}, expected {expected}")
    return value


def or_null(check: Callable[[str, object], T]) -> Callable[[str, object], T | None]:
    """Return a validator that accepts None and all values that `check` accepts."""
    return lambda key, value: None if value is None else check(key, value)


def one_of(*words: str) -> Callable[[str, object], str]:
    """Return a validator that accepts only the given words."""

    def check(key: str, value: object) -> str:
        if value not in words:
            hint = nearest(value, words) if isinstance(value, str) else ""
            expected = " or ".join(map(repr, words))
            raise ReferenceFileError(f"{key} is {quoted(value)}{hint}, expected {expected}")
        return str(value)

    return check


def one_of_any_case(*words: str) -> Callable[[str, object], str]:
    """Return a validator that accepts the given upper-case words, also in lower case.

    The validator returns the word in upper case.
    """
    check = one_of(*words)
    return lambda key, value: check(key, value.upper() if isinstance(value, str) else value)


def check_fraction(key: str, value: object) -> float:
    """Return a number between 0 and 1, or raise `ReferenceFileError` for any other value."""
    number = check_number(key, value)
    if not 0 <= number <= 1:
        raise ReferenceFileError(f"{key} is {quoted(value)}, expected a fraction between 0 and 1")
    return number


def checked(check: Callable[[str, object], T], key: str, value: object) -> T:
    """Validate a value with `check`, and convert OverflowError to `ReferenceFileError`.

    Integers that are too large for a float cause OverflowError.
    """
    try:
        return check(key, value)
    except OverflowError:
        raise ReferenceFileError(
            f"{key} has too many digits, expected a number below {_LARGEST:g}"
        ) from None


def is_deeper(value: object, levels: int) -> bool:
    """Return whether mappings, lists and tuples in a value are nested in more than `levels`."""
    found: list[object] = [value]
    for _ in range(levels + 1):
        nested = [one for one in found if isinstance(one, Mapping | list | tuple)]
        if not nested:
            return False
        found = [
            item for one in nested for item in (one.values() if isinstance(one, Mapping) else one)
        ]
    return True


def plain(value: Any) -> Any:
    """Return a copy of a value in which all types can be written to JSON.

    Mappings become dicts, tuples and arrays become lists, and NumPy scalars become Python scalars.
    Quantities remain, as their units must be checked.
    """
    if isinstance(value, u.Quantity):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
