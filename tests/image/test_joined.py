"""Planes of several segments: the selected part is that of one array, and nothing else is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from glue_lrs.image.joined import FlagPlane, JoinedPlane
from glue_lrs.image.lazy_plane import part_of

FULL = np.random.default_rng(0).normal(size=(9, 4, 5)).astype(">f4")
PARTS = [FULL[:3], FULL[3:4], FULL[4:]]
INTEGRATIONS = [
    0, -1, 8, 3, slice(None), slice(2, 7), slice(0, 9, 2), slice(1, 9, 3), slice(5, 5),
    slice(3, 4), slice(8, None), slice(0, 9, 7), slice(7, 2), slice(-3, -1), np.int64(4),
]  # fmt: skip
PIXELS: list[Any] = [
    (), (slice(1, 3),), (slice(None), 2), (np.array([0, 2]),), (np.array([2, 0]), slice(1, 4)),
]  # fmt: skip


@pytest.mark.parametrize("first", INTEGRATIONS, ids=str)
def test_selected_parts_are_those_of_the_array(first: Any) -> None:
    joined = JoinedPlane(PARTS)
    for rest in PIXELS:
        np.testing.assert_array_equal(joined[(first, *rest)], FULL[(first, *rest)])
    every = (..., first, slice(0, 2), slice(1, 3))
    np.testing.assert_array_equal(joined[every], FULL[every])


@pytest.mark.parametrize(
    "where", [..., (..., slice(1, 2)), (..., slice(1, 2), slice(0, 3)), (..., np.array([1, 0]), 2)]
)
def test_an_ellipsis_stands_for_all_integrations(where: Any) -> None:
    np.testing.assert_array_equal(JoinedPlane(PARTS)[where], FULL[where])


def test_a_slice_of_the_integrations_is_not_read() -> None:
    found = part_of(JoinedPlane(PARTS), slice(2, 7))
    assert isinstance(found, JoinedPlane)
    np.testing.assert_array_equal(found, FULL[2:7])
    chosen = part_of(JoinedPlane(PARTS), np.array([0, 5]))
    np.testing.assert_array_equal(chosen, FULL[[0, 5]])


def test_functions_of_numpy_get_the_array() -> None:
    joined = JoinedPlane(PARTS)
    assert (joined.shape, joined.ndim, joined.size, len(joined)) == (FULL.shape, 3, FULL.size, 9)
    np.testing.assert_array_equal(np.isnan(joined), np.isnan(FULL))
    np.testing.assert_array_equal(np.asarray(joined, dtype=float), FULL)
    assert np.shares_memory(joined[1], FULL)  # a part of one segment is not copied


@pytest.mark.parametrize("where", [slice(None, None, -1), [0, 1], None, FULL > 0])
def test_other_indices_read_the_whole_plane(where: Any) -> None:
    np.testing.assert_array_equal(JoinedPlane(PARTS)[where], FULL[where])
    for beyond in (9, (0, 4), (0, 0, 5)):
        with pytest.raises(IndexError):
            JoinedPlane(PARTS)[beyond]


def test_an_array_without_a_copy_is_refused() -> None:
    with pytest.raises(ValueError, match="a JoinedPlane cannot be an array without a copy"):
        np.array(JoinedPlane(PARTS), copy=False)


def test_flags_are_unsigned() -> None:
    flags = np.array([[[0, 1, 2**31, 2**32 - 1, 2**30 + 5]]], dtype=np.uint32)
    stored = (flags.astype(np.int64) - 2**31).astype(">i4")  # as in a file
    plane = FlagPlane(stored)
    joined = JoinedPlane([plane, plane])
    assert joined.dtype == np.uint32
    np.testing.assert_array_equal(joined[1], flags[0])
    np.testing.assert_array_equal(np.asarray(joined), np.concatenate([flags, flags]))
