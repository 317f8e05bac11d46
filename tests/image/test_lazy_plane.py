"""Planes of which only a part is read: what is read, and parts of planes without reading them."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from glue_lrs.image.lazy_plane import LazyPlane, part_of, release_plane
from glue_lrs.image.patched_plane import MarkedFlags, PatchedPlane

ARRAY = np.arange(7 * 5 * 4).reshape(7, 5, 4)


class Recorded(LazyPlane):
    """Plane that records the integrations and rows that are read."""

    parts = ()
    shape = ARRAY.shape
    dtype = ARRAY.dtype

    def __init__(self) -> None:
        self.read: list[tuple[range, range]] = []

    def part(self, where: slice) -> LazyPlane:
        raise AssertionError

    def _read(self, times: slice, rows: slice) -> Any:
        self.read.append((range(7)[times], range(5)[rows]))
        return ARRAY[times, rows]


@pytest.mark.parametrize(
    ("index", "times", "rows"),
    [
        (3, range(3, 4), range(5)), ((-1, -2), range(6, 7), range(3, 4)),
        (slice(1, 6, 2), range(1, 6, 2), range(5)), ((slice(5, 2), 1), range(0), range(1, 2)),
        ((..., 2), range(7), range(5)), ((2, slice(1, 3), [0, 3]), range(2, 3), range(1, 3)),
        (slice(None, None, -1), range(7), range(5)), (([1, 4], 2), range(7), range(2, 3)),
    ],
    ids=str,
)  # fmt: skip
def test_only_what_is_selected_is_read(index: Any, times: range, rows: range) -> None:
    plane = Recorded()
    assert_array_equal(plane[index], ARRAY[index])
    ((found, of_rows),) = plane.read
    assert list(found) == list(times)
    assert of_rows == rows


PLACES = np.array([[0, 1, 1, 3, 5, 6], [0, 2, 4, 1, 3, 4], [3, 0, 2, 1, 1, 0]])
PATCHED = ARRAY.copy()
PATCHED[tuple(PLACES)] = [-1, -2, -3, -4, -5, -6]
MARKS = np.zeros((5, 4), dtype=np.uint32)
MARKS[1, 2], MARKS[4, 0] = 1, 8
PLANES = {
    "patched": (PatchedPlane(ARRAY, PLACES, [-1, -2, -3, -4, -5, -6]), PATCHED),
    "marked": (MarkedFlags(ARRAY.astype(np.uint32), MARKS), ARRAY.astype(np.uint32) | MARKS),
}


@pytest.mark.parametrize("name", PLANES)
def test_parts_of_planes_have_the_values_of_the_array(name: str) -> None:
    plane, array = PLANES[name]
    slices = [slice(None), slice(1, 6), slice(1, 7, 2), slice(0, 3, 3), slice(4, 2)]
    for where, times, rows in product(slices, slices, [slice(None), slice(1, 5, 3), 4]):
        part = part_of(plane, where)
        assert isinstance(part, LazyPlane)
        assert part.shape == array[where].shape
        assert_array_equal(part[times, rows], array[where][times, rows])
    assert_array_equal(part_of(plane, np.array([0, 5])), array[[0, 5]])


def test_the_memory_of_all_parts_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[int] = []
    monkeypatch.setattr(
        "glue_lrs.image.lazy_plane.release_memory", lambda one: released.append(id(one))
    )
    release_plane(MarkedFlags(PatchedPlane(ARRAY, PLACES, 0), MARKS))
    assert released == [id(ARRAY)]
