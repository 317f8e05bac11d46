"""Calls of a function on the workers of a Dask cluster, of which some may be killed."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from glue_lrs.errors import LRSError
from glue_lrs.io.files import one_line
from glue_lrs.spectra.provenance import package_versions

if TYPE_CHECKING:
    from distributed import Client

#: Warnings are collected with `warnings.catch_warnings`, which is not safe in several threads.
_ONE_AT_A_TIME = threading.Lock()

#: Interval in seconds between looks at the state of a connection.
_INTERVAL = 0.1

_MISSING = (
    "--scheduler needs Dask (pip install 'glue-lrs[dask]'); without it, --jobs N uses N processes "
    "of this machine"
)

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def on_cluster(
    function: Callable[[Argument], Result], arguments: Sequence[Argument], address: str
) -> Generator[tuple[int, Result | str]]:
    """Call a function on each argument on the workers of a cluster.

    If a worker is killed, the scheduler repeats its calls on others. If the scheduler is restarted
    at the same address, the calls that have not ended are repeated.

    Parameters
    ----------
    function : callable
        Function of one argument, which can be pickled. A call may be repeated.
    arguments : sequence
        Arguments, which can be pickled.
    address : str
        Address of the scheduler, such as ``tcp://127.0.0.1:8786``, or its scheduler file (.json).

    Yields
    ------
    int, object
        Index of an argument, and the result, or a text if the call could not be made. The order is
        that in which the calls end.

    Raises
    ------
    LRSError
        If Dask is not installed, no scheduler answers, or the connection to it is lost.
    """
    with _connected(address) as client:
        from distributed import CancelledError, as_completed

        call = partial(_called, function, package_versions())
        remaining = dict(enumerate(arguments))
        while remaining:
            made = client.map(call, list(remaining.values()), pure=False)
            indices = dict(zip(made, remaining, strict=True))
            del made  # release each result after it was received
            waiting = as_completed(list(indices), loop=client.loop)
            for future in waiting:
                index = indices.pop(future)
                try:
                    failure = future.exception() if future.status == "error" else None
                    found = future.result() if failure is None else _failure(failure)
                except (CancelledError, OSError):  # the scheduler was stopped
                    continue
                del remaining[index]
                yield index, found
            if remaining and not _is_connected_again(client):
                raise LRSError(
                    f"the connection to the scheduler was lost, and {len(remaining)} of "
                    f"{len(arguments)} tasks have not ended",
                    subject=address,
                )


def call_on_each_worker(function: Callable[[], Any], address: str) -> None:
    """Call a function on each worker of a cluster, if the scheduler answers."""
    with _connected(address) as client:
        client.run(function)


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """Connect to a scheduler for the duration of a block, without messages of Dask."""
    try:
        from distributed import Client
    except ImportError:
        raise LRSError(_MISSING) from None
    with _without_messages_of_dask():
        try:
            if address.endswith(".json"):
                if not Path(address).exists():  # Dask would wait for it indefinitely
                    raise LRSError("the scheduler file does not exist", subject=address)
                client = Client(scheduler_file=address, set_as_default=False)
            else:
                client = Client(address, set_as_default=False)
        except (OSError, ValueError) as error:
            text = f"no Dask scheduler answers: {one_line(error)}"
            raise LRSError(text, subject=address) from error
        with contextlib.closing(client):
            yield client


@contextmanager
def _without_messages_of_dask() -> Iterator[None]:
    """Disable the loggers of Dask, each of which has its own level and handler."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    loggers = [one for one in map(logging.getLogger, names) if not one.disabled]
    for one in loggers:
        one.disabled = True
    try:
        yield
    finally:
        for one in loggers:
            one.disabled = False


def _is_connected_again(client: Client) -> bool:
    """Wait until a client that lost its connection has another one, or gives up."""
    while client.status == "connecting":
        time.sleep(_INTERVAL)
    return client.status == "running"


def _called(
    function: Callable[[Argument], Result], versions: dict[str, str], argument: Argument
) -> Result:
    """Call a function on a worker, whose versions must be those of the command."""
    found = package_versions()
    if found != versions:
        differing = [name for name in versions if found.get(name) != versions[name]]
        raise LRSError(
            "a worker has "
            + ", ".join(f"{name} {found.get(name)}" for name in differing)
            + ", expected "
            + ", ".join(f"{name} {versions[name]}" for name in differing)
            + " as the command"
        )
    with _ONE_AT_A_TIME:
        return function(argument)


def _failure(error: BaseException) -> str:
    """Return the text for a call that could not be made."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return "each of its workers was killed, perhaps for lack of memory"
    if isinstance(error, ImportError):
        return f"a worker cannot import the package: {one_line(error)}"
    return one_line(error) if isinstance(error, LRSError) else f"{type(error).__name__}: {error}"
