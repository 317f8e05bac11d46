"""Coordinates for the ticks of an image: they never end, as astropy's axes cannot draw NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
from glue.core.coordinates import Coordinates
from numpy.typing import ArrayLike, NDArray

from glue_lrs.viewers.coordinates import LRSCoordinates

__all__ = ["TickCoordinates"]

_Floats = NDArray[np.float64]

#: Pixels that the coordinates are continued by: further away than anybody zooms.
_BEYOND = 5000
#: Pixels at either end that tell how to go on.
_SLOPE = 5


class TickCoordinates(Coordinates):
    """World coordinates along the middle column and the middle row, continued linearly.

    What `LRSCoordinates` has is exact, and ends where the wavelength ends; ticks need neither, as
    the edges of a tilted slit differ from its middle by less than a row.

    Parameters
    ----------
    coordinates : LRSCoordinates
        Those of the data.
    shape : tuple of int
        Shape of the data.
    """

    def __init__(self, coordinates: LRSCoordinates, shape: tuple[int, ...]) -> None:
        super().__init__(n_dim=len(shape))
        self._like = coordinates
        *_, rows, columns = shape
        row, column = np.arange(rows, dtype=float), np.arange(columns, dtype=float)
        rest = (np.zeros(1),) * (len(shape) - 2)
        wavelength = np.full(rows, np.nan)
        for middle in _from_the_middle(columns):
            wavelength = np.asarray(coordinates.pixel_to_world_values(middle, row, *rest)[1])
            if np.isfinite(wavelength).sum() > 1:
                break
        known = np.flatnonzero(np.isfinite(wavelength))
        middle = float(known[known.size // 2]) if known.size else rows / 2.0
        offset = np.asarray(coordinates.pixel_to_world_values(column, middle, *rest)[0])
        self._tables = [_continued(offset), _continued(wavelength)]

    @property
    def world_axis_names(self) -> Any:
        """Names of the axes, in astropy's order."""
        return self._like.world_axis_names

    @property
    def world_axis_units(self) -> Any:
        """Units of the axes, in astropy's order."""
        return self._like.world_axis_units

    @property
    def world_axis_physical_types(self) -> Any:
        """Physical types of the axes, in astropy's order."""
        return self._like.world_axis_physical_types

    @property
    def axis_correlation_matrix(self) -> NDArray[np.bool_]:
        """Each world axis depends on one pixel axis."""
        return np.identity(self.world_n_dim, dtype=bool)

    def pixel_to_world_values(self, *pixel_arrays: ArrayLike) -> tuple[_Floats, ...]:
        """World coordinates at column, row (, integration)."""
        values = [np.asarray(array, dtype=float) for array in pixel_arrays]
        found = [
            np.asarray(np.interp(value, where, what))
            for value, (where, what) in zip(values, self._tables, strict=False)
        ]
        return (*found, *(value + 1.0 for value in values[2:]))

    def world_to_pixel_values(self, *world_arrays: ArrayLike) -> tuple[_Floats, ...]:
        """Column, row (, integration) of world coordinates."""
        values = [np.asarray(array, dtype=float) for array in world_arrays]
        found = []
        for value, (where, what) in zip(values, self._tables, strict=False):
            turn = slice(None, None, -1 if what[-1] < what[0] else 1)
            found.append(
                np.asarray(np.interp(value, np.maximum.accumulate(what[turn]), where[turn]))
            )
        return (*found, *(value - 1.0 for value in values[2:]))


def _from_the_middle(number: int) -> list[float]:
    """Whole positions, those in the middle first."""
    return sorted(np.arange(number, dtype=float).tolist(), key=lambda at: abs(at - number / 2.0))


def _continued(values: _Floats) -> tuple[_Floats, _Floats]:
    """Positions and values far beyond both ends; whole positions where nothing is known."""
    position = np.arange(values.size, dtype=float)
    good = np.isfinite(values)
    if good.sum() < 2:
        position, known = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    else:
        position, known = position[good], values[good]
    last = min(_SLOPE, position.size - 1)
    below = (known[last] - known[0]) / (position[last] - position[0])
    above = (known[-1] - known[-1 - last]) / (position[-1] - position[-1 - last])
    return (
        np.concatenate([[position[0] - _BEYOND], position, [position[-1] + _BEYOND]]),
        np.concatenate([[known[0] - _BEYOND * below], known, [known[-1] + _BEYOND * above]]),
    )
