"""Plane of an image, such as its data or errors, in which single values are replaced on reading."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.image.lazy_plane import LazyPlane, Plane, part_of


class PatchedPlane(LazyPlane):
    """Plane of a stack in which some values are replaced, without a copy of the plane in memory.

    An index gives a new array with the replaced values, in native byte order.

    Parameters
    ----------
    plane : ndarray or LazyPlane
        Plane of shape (integration, row, column), which may be memory-mapped. It is not modified.
    places : ndarray of int
        Integration, row and column of each replaced value, shape (3, value), with ascending
        integrations.
    values : array_like
        Values at these places, shape (value,), or one value for all of them.
    """

    def __init__(self, plane: Plane, places: NDArray[np.intp], values: Any) -> None:
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
        return PatchedPlane(part_of(self.base, where), places, self._values[kept])

    @property
    def parts(self) -> tuple[Plane, ...]:
        """The plane without the replaced values."""
        return (self.base,)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of integrations, rows and columns."""
        return self.base.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, in native byte order."""
        return self.base.dtype.newbyteorder("=")

    def _read(self, times: slice, rows: slice) -> NDArray[Any]:
        read = np.array(self.base[times, rows], dtype=self.dtype)
        first, last = np.searchsorted(self._places[0], (times.start, times.stop))
        time, row, column = self._places[:, first:last]
        time, row = time - times.start, row - rows.start
        inside = (row >= 0) & (row < rows.stop - rows.start)
        inside &= (time % times.step == 0) & (row % rows.step == 0)
        at = time[inside] // times.step, row[inside] // rows.step, column[inside]
        read[at] = self._values[first:last][inside]
        return read


class MarkedFlags(LazyPlane):
    """DQ plane of a stack in which some pixels are flagged in all integrations.

    Parameters
    ----------
    plane : ndarray
        Flags, shape (integration, row, column), which may be memory-mapped.
    marks : ndarray of uint32
        Flags that are set in all integrations, shape (row, column).
    """

    def __init__(self, plane: Plane, marks: NDArray[np.uint32]) -> None:
        self._plane, self._marks = plane, marks

    def part(self, where: slice) -> MarkedFlags:
        """Return the plane with some of the integrations, without reading it."""
        return MarkedFlags(part_of(self._plane, where), self._marks)

    @property
    def parts(self) -> tuple[Plane, ...]:
        """The plane without the additional flags."""
        return (self._plane,)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of integrations, rows and columns."""
        return self._plane.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the flags, uint32."""
        return np.dtype(np.uint32)

    def _read(self, times: slice, rows: slice) -> NDArray[Any]:
        return np.asarray(self._plane[times, rows], dtype=np.uint32) | self._marks[rows]
