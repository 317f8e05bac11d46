"""Threads for the blocks of a calculation, such as the integrations of a long exposure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_executor: ContextVar[Executor | None] = ContextVar("executor", default=None)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Use threads for the calls of `for_each` in a block of code.

    Parameters
    ----------
    number : int
        Number of threads.
    """
    with ThreadPoolExecutor(number) as executor:
        token = _executor.set(executor)
        try:
            yield
        finally:
            _executor.reset(token)
            executor.shutdown(cancel_futures=True)


def for_each(function: Callable[[T], object], items: Iterable[T]) -> None:
    """Call a function on each item, in several threads within `threads`.

    The calls must be independent of each other, so that the result does not depend on the number of
    threads. The first error is raised.
    """
    executor = _executor.get()
    for _ in map(function, items) if executor is None else executor.map(function, items):
        pass
