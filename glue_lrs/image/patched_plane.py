"""Plane of an image, such as its data or errors, in which single values are replaced on reading."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.image.lazy_plane import LazyPlane, Plane


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
