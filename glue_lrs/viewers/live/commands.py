"""Commands of a live extraction for undo and redo with glue's command stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glue.core.command import Command
from glue.core.session import Session
from glue.core.subset import Subset, SubsetState

from glue_lrs.viewers.live.registry import live_for

if TYPE_CHECKING:
    from glue.core.subset_group import SubsetGroup

    from glue_lrs.extraction.extract1d import Extract1D


class SetOperator(Command):
    """Command that sets the `Extract1D` operator of a live extraction.

    It contains the uuid of the image's dataset, not the dataset. The command stack therefore keeps
    no data in memory, and a command remains valid if the extraction is closed and opened again.

    Parameters
    ----------
    uuid : str
        The uuid of the image's dataset.
    setup : str
        Name of the setup that is edited.
    old, new : Extract1D
        Operators before and after the command.
    label : str
        Label in glue's undo menu.
    """

    kwargs = ["uuid", "setup", "old", "new", "label"]  # noqa: RUF012 - glue's spelling
    label = ""  # glue's class has a property with this name

    uuid: str
    setup: str
    old: Extract1D
    new: Extract1D

    def do(self, session: Session) -> None:
        """Set the new operator."""
        self._set(session, self.new)

    def undo(self, session: Session) -> None:
        """Set the old operator."""
        self._set(session, self.old)

    def _set(self, session: Session, operator: Extract1D) -> None:
        live = live_for(session, self.uuid)
        if live is None or live.arrangement.named(self.setup) is None:
            return  # the data or the setup were removed after the command
        live.arrangement.activate(self.setup)
        live.accept(operator)


class EmptySubset(Command):
    """Command that empties a subset; glue itself has no such command.

    Parameters
    ----------
    subset : SubsetGroup or Subset
        Subset to empty.
    old : SubsetState
        State of the subset before the command.
    """

    kwargs = ["subset", "old"]  # noqa: RUF012 - glue's spelling
    label = "clear the selected range"

    subset: Subset | SubsetGroup
    old: SubsetState

    def do(self, session: Session) -> None:
        """Make the subset empty."""
        self.subset.subset_state = SubsetState()

    def undo(self, session: Session) -> None:
        """Restore the old state, without effect on a subset that has been deleted."""
        self.subset.subset_state = self.old
