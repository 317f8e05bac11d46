"""Follower: base class for objects that respond when properties of a live extraction change."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from glue_lrs.viewers.live.live_extraction import LiveExtraction


class Follower:
    """Base class for objects that respond when properties of a live extraction change."""

    live: LiveExtraction | None
    _followed: tuple[tuple[str, Callable[..., None]], ...] = ()

    def follow(self, function: Callable[..., None], *names: str) -> None:
        """Call a function whenever one of the named properties of the extraction changes."""
        assert self.live is not None
        for name in names:
            self.live.add_callback(name, function)
            self._followed = (*self._followed, (name, function))

    def unfollow(self) -> None:
        """Disconnect all functions that `follow` has connected."""
        assert self.live is not None
        for name, function in self._followed:
            self.live.remove_callback(name, function)
        self._followed = ()
