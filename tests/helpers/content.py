"""Comparison of the content of objects, and functions for other processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.modeling import Model
from astropy.nddata import NDUncertainty
from astropy.table import Table
from gwcs.wcs import WCS
from specutils import Spectrum

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), type, slice)


def returned(value: Any) -> Any:
    """The argument; another process that is given this function pickles it twice."""
    return value


def assert_same_content(one: Any, other: Any, where: str = "object") -> None:
    """Objects have the same types and values, down to arrays and numbers."""
    assert type(one) is type(other), f"{where}: {type(one)}, {type(other)}"
    if one is other:
        return
    assert not isinstance(one, FunctionType | BuiltinFunctionType), f"{where}: functions differ"
    if isinstance(one, np.ndarray):
        _assert_same_array(one, other, where)
        return
    if isinstance(one, (*_PLAIN, np.generic, u.UnitBase)):
        assert one == other or (one != one and other != other), f"{where}: {one!r}, {other!r}"
        return
    first, second = _parts(one), _parts(other)
    assert list(first) == list(second), where
    for name, part in first.items():
        assert_same_content(part, second[name], f"{where}.{name}")


def _assert_same_array(one: np.ndarray, other: np.ndarray, where: str) -> None:
    # Pickling may change the byte order, which is not content.
    assert one.dtype.newbyteorder("=") == other.dtype.newbyteorder("="), where
    assert one.shape == other.shape, where
    assert getattr(one, "unit", None) == getattr(other, "unit", None), where
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other), err_msg=where)


def _parts(value: Any) -> dict[Any, Any]:
    """The parts on which the content of an object depends, by name."""
    if isinstance(value, fits.Header):
        return {"cards": value.tostring()}
    if isinstance(value, Table):
        return {"meta": dict(value.meta)} | {name: value[name] for name in value.colnames}
    if isinstance(value, Spectrum):
        names = ("data", "unit", "spectral_axis", "uncertainty", "mask", "wcs", "meta")
        return {name: getattr(value, name) for name in names}
    if isinstance(value, NDUncertainty):
        return {"array": value.array, "unit": value.unit}
    if isinstance(value, WCS):
        pixels = [np.linspace(2.0, 8.0, 5)] * value.pixel_n_dim
        return {"frames": repr(value), "world": list(np.atleast_2d(value(*pixels)))}
    if isinstance(value, Model):
        return {"model": repr(value), "parameters": value.parameters}
    if isinstance(value, partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    if isinstance(value, MethodType):
        return {"func": value.__func__, "self": value.__self__}
    if is_dataclass(value):
        return {one.name: getattr(value, one.name) for one in fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    return dict(getattr(value, "__dict__", {}))
