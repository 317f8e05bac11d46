"""What is done to an extraction, for glue's stack of commands: undo and redo."""

from __future__ import annotations

from typing import Any

from glue.core.command import Command
from glue.core.subset import SubsetState

__all__ = ["EmptySubset", "SetOperator"]


class SetOperator(Command):
    """Give a live extraction another operator.

    It knows the image's Data by its uuid, so that the stack keeps nothing alive and a command
    outlives a closed extraction.

    Parameters
    ----------
    uuid : str
        Of the image's Data.
    old, new : Extract1D
        The operators before and after.
    text : str
        How the menu calls it.
    """

    kwargs = ["uuid", "old", "new", "text"]  # noqa: RUF012 - glue's spelling

    uuid: str
    old: Any
    new: Any
    text: str

    def do(self, session: Any) -> None:
        """Set the new operator."""
        self._set(session, self.new)

    def undo(self, session: Any) -> None:
        """Set the old operator."""
        self._set(session, self.old)

    @property
    def label(self) -> str:
        """How the menu calls it."""
        return self.text

    def _set(self, session: Any, operator: Any) -> None:
        from glue_lrs.viewers.live.registry import live_for

        live = live_for(session, self.uuid)
        if live is not None:  # its data may have been removed meanwhile
            live._settle(operator)


class EmptySubset(Command):
    """Empty a subset, which glue has no command for.

    Parameters
    ----------
    subset : SubsetGroup or Subset
        The subset.
    old : SubsetState
        What it selects before.
    """

    kwargs = ["subset", "old"]  # noqa: RUF012 - glue's spelling
    label = "clear the selected range"

    subset: Any
    old: Any

    def do(self, session: Any) -> None:
        """Select nothing."""
        self.subset.subset_state = SubsetState()

    def undo(self, session: Any) -> None:
        """Select what was selected; of a subset that is gone nobody is told."""
        self.subset.subset_state = self.old
