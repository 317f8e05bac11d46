"""Planes of stacks that are like arrays, but of which only selected parts are read into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import EllipsisType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Index of an axis, or Ellipsis.
_Index: TypeAlias = int | slice | EllipsisType | NDArray[np.intp]

#: Offset with which FITS stores unsigned integers of 32 bits: adding it inverts the highest bit.
_OFFSET = np.uint32(1 << 31)


class FlagPlane:
    """Flags as FITS stores unsigned integers: signed, and lower by 2**31.

    Indexing returns an array of the unsigned flags.

    Parameters
    ----------
    stored : ndarray of int32
        Stored values, which may be memory-mapped, shape (integration, row, column).
    """

    dtype = np.dtype(np.uint32)

    def __init__(self, stored: NDArray[np.int32]) -> None:
        self.stored = np.asarray(stored)
        self.shape = self.stored.shape

    def __len__(self) -> int:
        return len(self.stored)

    def part(self, where: slice) -> FlagPlane:
        """Return the flags of some of the integrations, without reading them."""
        return FlagPlane(self.stored[where])

    def __getitem__(self, where: _Index | tuple[_Index, ...]) -> NDArray[np.uint32]:
        return np.array(self.stored[where], dtype=np.int32).view(np.uint32) ^ _OFFSET


class JoinedPlane:
    """Stacks of several segments, joined along the axis of the integrations.

    The arrays of the segments, which may be memory-mapped, are neither copied nor modified.
    Indexing returns an array: a view if the selected integrations are in one segment, else a copy.
    NumPy functions receive a copy of the full array.

    Parameters
    ----------
    parts : sequence of ndarray or FlagPlane
        Planes of the segments, shape (integration, row, column), with the same rows and columns.
    """

    def __init__(self, parts: Sequence[NDArray[Any] | FlagPlane]) -> None:
        # Slicing a memory map is slower than slicing an array.
        self.parts = [p if isinstance(p, FlagPlane) else np.asarray(p) for p in parts]
        self.starts = np.cumsum([0, *map(len, self.parts)])
        self.shape = (int(self.starts[-1]), *self.parts[0].shape[1:])
        self.dtype = np.result_type(*(part.dtype for part in self.parts))
        self.ndim = len(self.shape)
        self.size = int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, where: _Index | tuple[_Index, ...]) -> NDArray[Any]:
        """Return the selected part, as for an array whose first axis is not indexed by an array."""
        first, *rest = where if isinstance(where, tuple) else (where,)
        if first is Ellipsis:  # stands for the first axis, unless all axes are indexed
            first, *rest = rest if len(rest) == self.ndim else (slice(None), first, *rest)
        if isinstance(first, int | np.integer):
            number = range(len(self))[first]
            segment = int(np.searchsorted(self.starts, number, side="right")) - 1
            return self.parts[segment][(number - int(self.starts[segment]), *rest)]
        if not isinstance(first, slice):
            raise TypeError(f"the integrations are {first!r}, expected an integer or a slice")
        pieces = [part[(selected, *rest)] for part, selected in self._selected(first)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def part(self, where: slice) -> JoinedPlane:
        """Return the plane with some of the integrations, in ascending order, without reading it.

        Raises
        ------
        ValueError
            If the integrations are in descending order.
        """
        parts = [
            part.part(selected) if isinstance(part, FlagPlane) else part[selected]
            for part, selected in self._selected(where)
        ]
        return JoinedPlane(parts)

    def _selected(self, where: slice) -> Iterator[tuple[NDArray[Any] | FlagPlane, slice]]:
        """Yield the parts with selected integrations, and the slice that selects them."""
        first, last, step = where.indices(len(self))
        if step < 0:
            raise ValueError("the integrations are in descending order, expected ascending order")
        number = first
        for part, start in zip(self.parts, self.starts.tolist(), strict=False):
            end = min(last, start + len(part))
            if start <= number < end:
                yield part, slice(number - start, end - start, step)
                number += -(-(end - number) // step) * step
        if number == first:  # nothing is selected
            yield self.parts[0], slice(0, 0)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return a copy of the full array in memory."""
        if copy is False:
            raise ValueError("the planes of several segments cannot be an array without a copy")
        return np.concatenate([part[...] for part in self.parts], dtype=dtype)
