"""Blocks of a calculation in threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from glue_lrs import Extract1D
from glue_lrs._utils.parallel import for_each, threads  # noqa: PLC2701
from glue_lrs.simulation import Scene


def test_calls_are_made_in_threads_within_the_block_only() -> None:
    barrier, found = threading.Barrier(3, timeout=60), []

    def wait(item: int) -> None:
        barrier.wait()  # passes if three calls are in progress
        found.append(item)

    with threads(3):
        for_each(wait, range(6))
    assert sorted(found) == list(range(6))
    here: list[threading.Thread] = []
    for_each(lambda _: here.append(threading.current_thread()), range(3))
    assert set(here) == {threading.current_thread()}


def test_the_first_error_is_raised() -> None:
    def fail(item: int) -> None:
        if item:
            raise ValueError(item)

    with threads(2), pytest.raises(ValueError, match="1"):
        for_each(fail, range(5))


@pytest.mark.parametrize("background", [None, "median", "poly"])
def test_a_stack_has_the_same_numbers_in_threads(background: str | None) -> None:
    image = Scene(seed=3, bad_fraction=0.002).calints(40).image
    keys = {"bkg_coeff": [[8.5], [20.5], [50.5], [62.5]], "bkg_fit": background}
    extract = Extract1D.from_reference(
        None, image.exp_type, apply_apcorr=False, **(keys if background else {})
    )
    expected = extract.run(image, check=False)
    blocks: list[int] = []
    kept = ThreadPoolExecutor.map

    def recorded(self: ThreadPoolExecutor, function: Any, items: Any) -> Any:
        blocks.append(len(items))
        return kept(self, function, items)

    with pytest.MonkeyPatch.context() as patched, threads(3):
        patched.setattr(ThreadPoolExecutor, "map", recorded)
        found = extract.run(image, check=False)
    assert blocks[0] > 1
    for name, values in expected.columns.items():
        np.testing.assert_array_equal(found.columns[name], values)
