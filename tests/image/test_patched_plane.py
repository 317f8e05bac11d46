"""A patched plane equals a copy of the plane with the replaced values, for every index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from glue_lrs.image.joined import FlagPlane, JoinedPlane
from glue_lrs.image.patched_plane import PatchedPlane

RNG = np.random.default_rng(1)
PLANE = RNG.normal(size=(6, 5, 4)).astype(">f4")
PLACES = np.array([[0, 2, 2, 5], [1, 0, 4, 3], [3, 0, 2, 1]])
VALUES = [10.0, 20.0, 30.0, 40.0]


@pytest.mark.parametrize(
    "index",
    [
        ..., slice(None), 2, -1, slice(1, 4), slice(None, None, 2), slice(None, None, -1),
        (2, 4), (2, 4, 2), (slice(2, 3), slice(0, 5), slice(None)), (slice(None), slice(3, 5)),
        (..., slice(3, 5), slice(1, 3)), (..., 2), (0, np.array([0, 1, 3])), (2, ..., 0),
        (slice(4, 2),), (slice(None), slice(4, None, 2), slice(0, 2)), (5, slice(-2, None)),
        PLANE > 0, np.array([0, 2, 5]), (np.array([0, 2]), np.array([1, 4]), np.array([3, 2])),
    ],
    ids=str,
)  # fmt: skip
def test_index(index: Any) -> None:
    expected = PLANE.astype(np.float32)
    expected[tuple(PLACES)] = VALUES
    found = PatchedPlane(PLANE, PLACES, VALUES)
    assert_array_equal(found[index], expected[index])
    assert found[index].dtype.isnative


@pytest.mark.parametrize(
    "index",
    [..., 3, slice(1, 6, 2), (slice(0, 6, 3), slice(1, 5, 3)), (slice(2, 6), 2, 0)],
    ids=str,
)
def test_patches_of_joined_segments(index: Any) -> None:
    expected = PLANE.astype(np.float32)
    expected[tuple(PLACES)] = VALUES
    joined = JoinedPlane([PLANE[:2], PLANE[2:]])
    assert_array_equal(PatchedPlane(joined, PLACES, VALUES)[index], expected[index])


def test_a_mapped_file_is_known_through_all_planes(tmp_path: Path) -> None:
    PLANE.tofile(tmp_path / "plane")
    mapped = np.memmap(tmp_path / "plane", ">f4", "r", shape=PLANE.shape)
    assert PatchedPlane(JoinedPlane([PLANE, mapped]), PLACES, 0.0).is_mapped
    assert not PatchedPlane(JoinedPlane([PLANE, PLANE]), PLACES, 0.0).is_mapped
    flags = FlagPlane(np.memmap(tmp_path / "plane", ">i4", "r", shape=PLANE.shape))
    assert PatchedPlane(flags, PLACES, 0).is_mapped


def test_like_an_array() -> None:
    found = PatchedPlane(PLANE, PLACES, 7.0)
    assert (found.shape, found.ndim, found.size, len(found)) == (PLANE.shape, 3, PLANE.size, 6)
    assert_array_equal(np.asarray(found)[tuple(PLACES)], 7.0)
    assert_array_equal(found.base, PLANE)
    with pytest.raises(IndexError):
        found[6]
