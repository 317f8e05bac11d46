"""Calls that an event loop makes a little later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glue_jupyter.utils import get_ioloop

if TYPE_CHECKING:
    from asyncio import TimerHandle
    from collections.abc import Callable


class Postponed:
    """A function that is called some time after the first of several requests, and once for all.

    Without an event loop, as in scripts, each request calls the function at once.

    Parameters
    ----------
    function : callable
        Function to call.
    delay : float
        Time in seconds between the first request and the call.
    """

    def __init__(self, function: Callable[[], object], delay: float) -> None:
        self._function, self._delay = function, delay
        self._timer: TimerHandle | None = None

    def request(self) -> None:
        """Ask for a call."""
        loop = get_ioloop()
        if loop is None:
            self._function()
        elif self._timer is None:
            self._timer = loop.call_later(self._delay, self.call)

    def call(self) -> None:
        """Call the function now, and no longer later."""
        self.cancel()
        self._function()

    def cancel(self) -> None:
        """Do not call the function."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
