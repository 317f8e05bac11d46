"""Planes of stacks that are read from several files, or whose flags are stored with an offset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.image.lazy_plane import LazyPlane, Plane, part_of

#: Offset with which FITS stores unsigned integers of 32 bits: adding it inverts the highest bit.
_OFFSET = np.uint32(1 << 31)


class FlagPlane(LazyPlane):
    """Flags as FITS stores unsigned integers: signed, and lower by 2**31.

    Indexing returns an array of the unsigned flags.

    Parameters
    ----------
    stored : ndarray of int32
        Stored values, which may be memory-mapped, shape (integration, row, column).
    """

    def __init__(self, stored: NDArray[np.int32]) -> None:
        self.stored = np.asarray(stored)

    @property
    def parts(self) -> tuple[Plane, ...]:
        """The stored values."""
        return (self.stored,)

    def part(self, where: slice) -> FlagPlane:
        """Return the flags of some of the integrations, without reading them."""
        return FlagPlane(self.stored[where])

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of integrations, rows and columns."""
        return self.stored.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the flags, uint32."""
        return np.dtype(np.uint32)

    def _read(self, times: slice, rows: slice) -> NDArray[Any]:
        read = np.array(self.stored[times, rows], dtype=np.int32).view(np.uint32)
        read ^= _OFFSET
        return read


class JoinedPlane(LazyPlane):
    """Stacks of several segments, joined along the axis of the integrations.

    The arrays of the segments, which may be memory-mapped, are neither copied nor modified.
    Indexing returns an array: a view if the selected integrations are in one segment, else a copy.

    Parameters
    ----------
    parts : sequence of ndarray or LazyPlane
        Planes of the segments, shape (integration, row, column), with the same rows and columns.
    """

    def __init__(self, parts: Sequence[Plane]) -> None:
        # Slicing a memory map is slower than slicing an array.
        self._parts = tuple(p if isinstance(p, LazyPlane) else np.asarray(p) for p in parts)
        self._starts = np.cumsum([0, *map(len, self._parts)]).tolist()
        self._dtype = np.result_type(*(part.dtype for part in self._parts))

    @property
    def parts(self) -> tuple[Plane, ...]:
        """Planes of the segments."""
        return self._parts

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of integrations, rows and columns."""
        return (self._starts[-1], *self._parts[0].shape[1:])

    def part(self, where: slice) -> JoinedPlane:
        """Return the plane with some of the integrations, without reading it."""
        pieces = [part_of(part, times) for part, times in self._selected(where)]
        return JoinedPlane(pieces or [part_of(self._parts[0], slice(0, 0))])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Common type of the values in the segments."""
        return self._dtype

    def _read(self, times: slice, rows: slice) -> NDArray[Any]:
        pieces = [part[where, rows] for part, where in self._selected(times)]
        if not pieces:  # nothing is selected
            return self._parts[0][0:0, rows]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _selected(self, where: slice) -> Iterator[tuple[Plane, slice]]:
        """Yield the parts with selected integrations, and the slice that selects them."""
        number, last, step = where.indices(len(self))
        for part, start in zip(self._parts, self._starts, strict=False):
            end = min(last, start + len(part))
            if start <= number < end:
                yield part, slice(number - start, end - start, step)
                number += -(-(end - number) // step) * step
