"""Timing of calls, and a table of the times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle, islice
from typing import Any


def timed(calls: list[Callable[[], Any]]) -> float:
    """Median duration in seconds of calls that are each made once."""
    return statistics.median(_durations(calls))


def side_by_side(
    ours: list[Callable[[], Any]], theirs: list[Callable[[], Any]]
) -> tuple[float, float]:
    """Median durations in seconds of two lists of calls that are made in turn.

    An equal share of `ours` precedes each call of `theirs`, because the speed of a machine may vary
    by a factor of two from one minute to the next. All of `ours` are made once before, to warm.
    """
    for call in ours:
        call()
    share = -(-len(ours) // len(theirs))
    times: tuple[list[float], list[float]] = [], []
    for turn, call in enumerate(theirs):
        times[0].extend(_durations(ours[turn * share : (turn + 1) * share]))
        times[1].extend(_durations([call]))
    return statistics.median(times[0]), statistics.median(times[1])


def _durations(calls: list[Callable[[], Any]]) -> list[float]:
    found = []
    for call in calls:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def repeated(call: Callable[..., Any], inputs: list[tuple[Any, ...]], number: int) -> float:
    """Median duration in seconds of a call whose input changes from one repetition to the next."""
    for args in inputs:
        call(*args)  # warm
    turn = islice(cycle(inputs), number)
    return timed([partial(call, *args) for args in turn])


def show(rows: list[tuple[str, float, float | None]]) -> None:
    """Print a table: name, milliseconds, and ratio to the time of this package."""
    width = max(len(what) for what, _, _ in rows)
    for what, seconds, ours in rows:
        ratio = "" if ours is None else f"{seconds / ours:10.1f} x"
        print(f"  {what:{width}s} {seconds * 1e3:10.3f} ms {ratio}")
