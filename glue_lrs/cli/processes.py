"""Calls of a function in processes of this machine, of which some may be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process, resource_tracker
from typing import Any, ClassVar, TypeVar

from glue_lrs._utils.interrupt import EXIT_CODE
from glue_lrs.cli import console

#: Time in seconds in which a process whose parent has ended may remove its temporary file.
_GRACE = 10.0

#: Number of times that the process of a call, while no other runs, is killed before the call fails.
_ATTEMPTS = 2

_KILLED = "its process was killed, perhaps for lack of memory; try fewer --jobs"

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def in_processes(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    number: int,
    repeated: Callable[[Argument], Argument] = lambda argument: argument,
) -> Generator[tuple[int, Result | str]]:
    """Call a function on each argument in new processes.

    If a process is killed, the calls that may have been in it are repeated, one at a time, so that
    only a call that kills its process twice fails.

    Parameters
    ----------
    function : callable
        Function of one argument, which can be pickled.
    arguments : sequence
        Arguments, which can be pickled.
    number : int
        Number of processes.
    repeated : callable, optional
        Function that returns the argument for a call that is repeated.

    Yields
    ------
    int, object
        Index of an argument, and the result, or a text if the process of the call was killed. The
        order is that in which the calls end.
    """
    given, killed = list(arguments), Counter[int]()
    waiting, suspected = deque(range(len(given))), deque[int]()
    while waiting or suspected:
        alone = bool(suspected)
        source, width = (suspected, 1) if alone else (waiting, min(number, len(waiting)))
        lost: list[int] = []
        with _started(width) as executor:
            pending: dict[Future[Result], int] = {}
            while (source or pending) and not lost:
                # No process waits for the next call, and few calls are affected if one is killed.
                while source and len(pending) < (1 if alone else 2 * width) and not lost:
                    try:
                        with _without_interrupts():  # new processes inherit the blocked SIGINT
                            future = executor.submit(_Worker.call, function, given[source[0]])
                    except BrokenProcessPool:
                        lost.append(source.popleft())
                    else:
                        pending[future] = source.popleft()
                # If one process is killed, all calls fail.
                ended = pending if lost else wait(pending, return_when=FIRST_COMPLETED).done
                for future in list(ended):
                    index = pending.pop(future)
                    if isinstance(future.exception(), _ENDED):
                        lost.append(index)
                    else:
                        yield index, future.result()
            for future, index in pending.items():
                if isinstance(future.exception(), _ENDED):
                    lost.append(index)
                else:
                    yield index, future.result()
        for index in sorted(lost):
            killed[index] += alone
            if killed[index] == _ATTEMPTS:
                yield index, _KILLED
                continue
            suspected.append(index)
            given[index] = repeated(given[index])


@contextlib.contextmanager
def _started(number: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes for a block, and terminate them if the block fails."""
    others = active_children()
    context = get_context("spawn")  # a fork would copy locks that threads hold
    executor = ProcessPoolExecutor(number, context, _Worker.start)
    try:
        yield executor
    except BaseException:
        with _without_interrupts():  # an interrupt here would leave some processes running
            for process in active_children():
                if process not in others:
                    process.terminate()
        raise
    finally:
        with _without_interrupts():
            executor.shutdown(wait=True, cancel_futures=True)


class _Worker:
    """State and signal handling of a process.

    The process removes partial files before it terminates.
    """

    #: Whether a call is in progress.
    working: ClassVar[bool] = False
    #: Number of termination signals received.
    terminations: ClassVar[int] = 0

    @classmethod
    def start(cls) -> None:
        """Install the signal handlers, and end this process when its parent has ended.

        Ctrl-C and SIGHUP are ignored, because the parent process handles them. SIGTERM is handled
        by `end`.
        """
        for number in {signal.SIGINT, *console.TERMINATIONS} - {signal.SIGTERM}:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, cls.end)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        threading.Thread(target=cls.follow_parent, daemon=True).start()

    @classmethod
    def follow_parent(cls) -> None:
        """Wait until the parent process has ended or was killed, and then end this process."""
        parent = parent_process()
        if parent is None:
            return
        parent.join()
        main_thread = threading.main_thread().ident
        if cls.working and main_thread is not None and hasattr(signal, "pthread_kill"):
            signal.pthread_kill(main_thread, signal.SIGTERM)  # see `end`
            end = time.monotonic() + _GRACE
            while cls.working and time.monotonic() < end:
                time.sleep(0.1)
        os._exit(EXIT_CODE)

    @classmethod
    def end(cls, *_: Any) -> None:
        """Abort the call in progress, or exit if there is none."""
        cls.terminations += 1
        if not cls.working:
            sys.exit(EXIT_CODE)
        if cls.terminations == 1:
            raise KeyboardInterrupt

    @classmethod
    def call(cls, function: Callable[[Argument], Result], argument: Argument) -> Result:
        """Call a function, unless the process has received a termination signal."""
        if cls.terminations:
            raise _TerminatedError
        cls.working = True
        try:
            return function(argument)
        except KeyboardInterrupt:
            raise _TerminatedError from None
        finally:
            cls.working = False
            if cls.terminations > 1:  # another signal arrived while the call was aborted
                os._exit(EXIT_CODE)


class _TerminatedError(Exception):
    """The process received a termination signal; the call is treated as if it had been killed."""


#: Errors of calls whose processes have ended.
_ENDED = (BrokenProcessPool, _TerminatedError)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Defer Ctrl-C and terminations to the end of a block, and in processes that it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it inside the block would unblock the signal
    signals = {signal.SIGINT, *console.TERMINATIONS}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
