"""Commands of a live extraction for glue's command stack: undo and redo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glue.core.command import Command
from glue.core.session import Session
from glue.core.subset import Subset, SubsetState

from glue_lrs.viewers.live.registry import live_for

if TYPE_CHECKING:
    from glue.core.subset_group import SubsetGroup

    from glue_lrs.extraction.extract1d import Extract1D

__all__ = ["EmptySubset", "SetOperator"]


class SetOperator(Command):
    """Set the operator of a live extraction.

    The image's dataset is referred to by its uuid, so that the stack keeps no data alive and a
    command remains valid when an extraction is closed and opened again.

    Parameters
    ----------
    uuid : str
        The uuid of the image's dataset.
    old, new : Extract1D
        The operators before and after.
    text : str
        Label in the menu.
    """

    kwargs = ["uuid", "old", "new", "text"]  # noqa: RUF012 - glue's spelling

    uuid: str
    old: Extract1D
    new: Extract1D
    text: str

    def do(self, session: Session) -> None:
        """Set the new operator."""
        self._set(session, self.new)

    def undo(self, session: Session) -> None:
        """Set the old operator."""
        self._set(session, self.old)

    @property
    def label(self) -> str:
        """Label in the menu."""
        return self.text

    def _set(self, session: Session, operator: Extract1D) -> None:
        live = live_for(session, self.uuid)
        if live is not None:  # None if its data were removed since
            live.accept(operator)


class EmptySubset(Command):
    """Empty a subset; glue has no command for it.

    Parameters
    ----------
    subset : SubsetGroup or Subset
        The subset.
    old : SubsetState
        Its state before.
    """

    kwargs = ["subset", "old"]  # noqa: RUF012 - glue's spelling
    label = "clear the selected range"

    subset: Subset | SubsetGroup
    old: SubsetState

    def do(self, session: Session) -> None:
        """Select nothing."""
        self.subset.subset_state = SubsetState()

    def undo(self, session: Session) -> None:
        """Restore the state; this has no effect if the subset was deleted."""
        self.subset.subset_state = self.old
