"""Plane of an image, such as its data or errors, in which single values are replaced on reading."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class PatchedPlane:
    """Plane of a stack in which some values are replaced, without a copy of the plane in memory.

    An index gives a new array with the replaced values, in native byte order.

    Parameters
    ----------
    plane : ndarray
        Plane of shape (integration, row, column), which may be memory-mapped. It is not modified.
    places : ndarray of int
        Integration, row and column of each replaced value, shape (3, value), with ascending
        integrations.
    values : array_like
        Values at these places, shape (value,), or one value for all of them.
    """

    def __init__(self, plane: NDArray[Any], places: NDArray[np.intp], values: Any) -> None:
        #: Plane without the replaced values.
        self.base = plane
        self._places = places
        self._values = np.broadcast_to(np.asarray(values, self.dtype), places[0].shape)

    def part(self, where: slice) -> PatchedPlane:
        """Return the plane with some of the integrations, without reading it.

        Parameters
        ----------
        where : slice
            Integrations in ascending order.
        """
        start, stop, step = where.indices(len(self))
        time = self._places[0]
        kept = (time >= start) & (time < stop) & ((time - start) % step == 0)
        places = self._places[:, kept]
        places[0] = (places[0] - start) // step
        base = self.base.part(where) if hasattr(self.base, "part") else self.base[where]
        return PatchedPlane(base, places, self._values[kept])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, in native byte order."""
        return self.base.dtype.newbyteorder("=")

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of integrations, rows and columns."""
        return self.base.shape

    @property
    def ndim(self) -> int:
        """Number of axes, which is 3."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.base)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        parts = list(index) if isinstance(index, tuple) else [index]
        if any(part is None or getattr(part, "dtype", None) == np.bool_ for part in parts):
            return np.asarray(self)[index]
        omitted = [slice(None)] * (self.ndim + any(part is ... for part in parts) - len(parts))
        at = next((i for i, part in enumerate(parts) if part is ...), len(parts))
        parts[at : at + 1] = omitted
        # Only the integrations and rows in question are read, the columns are selected at the end.
        times, rows = _span(parts[0], self.shape[0]), _span(parts[1], self.shape[1])
        read = np.array(self.base[times, rows], dtype=self.dtype)
        first, last = np.searchsorted(self._places[0], (times.start, times.stop))
        places = self._places[:, first:last]
        inside = (places[1] >= rows.start) & (places[1] < rows.stop)
        time, row, column = places[:, inside]
        read[time - times.start, row - rows.start, column] = self._values[first:last][inside]
        return np.asarray(read[_within(parts[0]), _within(parts[1]), parts[2]])


class MarkedFlags:
    """DQ plane of a stack in which some pixels are flagged in all integrations.

    An index gives a new array, in native byte order.

    Parameters
    ----------
    plane : ndarray
        Flags, shape (integration, row, column), which may be memory-mapped.
    marks : ndarray of uint32
        Flags that are set in all integrations, shape (row, column).
    """

    dtype = np.dtype(np.uint32)
    ndim = 3

    def __init__(self, plane: NDArray[Any], marks: NDArray[np.uint32]) -> None:
        self._plane, self._marks, self.shape = plane, marks, plane.shape
        self.size = int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self._plane)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, index: Any) -> NDArray[np.uint32]:
        flags = np.asarray(self._plane[index], dtype=np.uint32)
        return np.asarray(flags | np.broadcast_to(self._marks, self.shape)[index])

    def part(self, where: slice) -> MarkedFlags:
        """Return the plane with some of the integrations, without reading it."""
        plane: Any = self._plane
        return MarkedFlags(
            plane.part(where) if hasattr(plane, "part") else plane[where], self._marks
        )


def _span(part: Any, number: int) -> slice:
    """Return the contiguous range of an axis that contains what an index selects."""
    if isinstance(part, slice):
        start, stop, step = part.indices(number)
        return slice(start, max(start, stop)) if step > 0 else slice(0, number)
    if isinstance(part, int | np.integer):
        at = range(number)[int(part)]
        return slice(at, at + 1)
    return slice(0, number)


def _within(part: Any) -> Any:
    """Return an index of the same values relative to the start of their range (see `_span`)."""
    if isinstance(part, slice) and (part.step or 1) > 0:
        return slice(None, None, part.step)
    if isinstance(part, int | np.integer):
        return 0
    return part
