"""Base of the planes of stacks that are like arrays, but read only what is selected."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.source_file import is_mapped, release_memory

#: Array, which may be memory-mapped, or lazy plane.
Plane: TypeAlias = "NDArray[Any] | LazyPlane"


class LazyPlane(ABC):
    """Plane of a stack that is indexed like an array, and of which only a part is then read.

    The index of an integration or a row, and a slice of integrations or rows with a positive step,
    read these only. NumPy functions receive a copy of the full array.
    """

    #: Number of axes.
    ndim: ClassVar[int] = 3

    @property
    @abstractmethod
    def parts(self) -> tuple[Plane, ...]:
        """Arrays and planes from which this plane is read."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Number of integrations, rows and columns."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""

    @abstractmethod
    def part(self, where: slice) -> LazyPlane:
        """Return the plane with some of the integrations, in ascending order, without reading it.

        Parameters
        ----------
        where : slice
            Integrations, with a positive step.
        """

    @abstractmethod
    def _read(self, times: slice, rows: slice) -> NDArray[Any]:
        """Return some integrations and rows, shape (integration, row, column).

        Both slices have a start and a stop within the plane, and a positive step.
        """

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    @property
    def is_mapped(self) -> bool:
        """Whether a part is in a memory-mapped file."""
        return any(in_mapped_file(part) for part in self.parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError(f"a {type(self).__name__} cannot be an array without a copy")
        return np.array(self[:], dtype=dtype)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        parts = list(index) if isinstance(index, tuple) else [index]
        if any(part is None or getattr(part, "dtype", None) == np.bool_ for part in parts):
            return np.asarray(self)[index]
        omitted = [slice(None)] * (self.ndim + any(part is ... for part in parts) - len(parts))
        at = next((i for i, part in enumerate(parts) if part is ...), len(parts))
        parts[at : at + 1] = omitted
        # Columns are selected at the end, as a row is contiguous in memory.
        times, rows = _span(parts[0], self.shape[0]), _span(parts[1], self.shape[1])
        read = self._read(times, rows)
        return np.asarray(read[(_within(parts[0]), _within(parts[1]), *parts[2:])])


def part_of(plane: Any, where: slice | NDArray[np.intp]) -> Any:
    """Return an array or a plane with some of the integrations; a slice of it is not read."""
    lazy = isinstance(plane, LazyPlane) and isinstance(where, slice)
    return plane.part(where) if lazy else plane[where]


def in_mapped_file(plane: Plane | None) -> bool:
    """Return whether a plane, or a part of it, is in a memory-mapped file."""
    return plane.is_mapped if isinstance(plane, LazyPlane) else is_mapped(plane)


def release_plane(plane: Plane | None) -> None:
    """Release the memory of a plane that is in memory-mapped files (`release_memory`)."""
    if not isinstance(plane, LazyPlane):
        release_memory(plane)
        return
    for part in plane.parts:
        release_plane(part)


def _span(part: Any, number: int) -> slice:
    """Return a slice of an axis that contains what an index selects."""
    if isinstance(part, slice):
        found = slice(*part.indices(number))
        return found if found.step > 0 else slice(0, number, 1)
    if isinstance(part, int | np.integer):
        at = range(number)[int(part)]
        return slice(at, at + 1, 1)
    return slice(0, number, 1)


def _within(part: Any) -> Any:
    """Return an index of the same values within their `_span`."""
    if isinstance(part, slice) and (part.step or 1) > 0:
        return slice(None)
    if isinstance(part, int | np.integer):
        return 0
    return part
