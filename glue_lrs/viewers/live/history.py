"""History of the edits in a session of glue, and a way back to each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from glue_lrs.errors import LRSError
from glue_lrs.viewers.live.commands import SetOperator

if TYPE_CHECKING:
    from glue.core.command import Command
    from glue.core.session import Session


class Edit(NamedTuple):
    """Name of an edit, and whether it is in effect, or undone and can be made again."""

    label: str
    done: bool


def edits(session: Session) -> tuple[Edit, ...]:
    """Return the edits on glue's command stack, first the oldest, last those that are undone.

    The label begins with the name of the image, or of the setup, if several were edited.

    These are all changes in the session that can be undone: of every extraction, and of subsets.

    Parameters
    ----------
    session : Session
        Session of glue.
    """
    done, undone = _commands(session)
    every = [*done, *undone]
    edited = {(one.uuid, one.setup) for one in every if isinstance(one, SetOperator)}
    images = len({uuid for uuid, _ in edited}) > 1
    setups = len({setup for _, setup in edited}) > 1
    names = {data.uuid: data.label for data in session.data_collection}

    def label(command: Command) -> str:
        if not isinstance(command, SetOperator):
            return str(command.label)
        where = [names.get(command.uuid, "")] * images + [command.setup] * setups
        return ": ".join(filter(None, [" ".join(where), command.label]))

    return tuple(Edit(label(one), number < len(done)) for number, one in enumerate(every))


def go_to(session: Session, number: int) -> None:
    """Undo or redo edits so that exactly the first ones are in effect.

    Parameters
    ----------
    session : Session
        Session of glue.
    number : int
        Number of edits of `edits` to be in effect; 0 undoes all.

    Raises
    ------
    LRSError
        If there are fewer edits.
    """
    done, undone = _commands(session)
    if not 0 <= number <= len(done) + len(undone):
        raise LRSError(f"edit is {number}, expected 0 to {len(done) + len(undone)}")
    stack = session.command_stack
    step = stack.undo if number < len(done) else stack.redo
    for _ in range(abs(number - len(done))):
        step()


def _commands(session: Session) -> tuple[list[Command], list[Command]]:
    """Return the commands that are in effect, and the undone ones in the order of redoing."""
    stack = session.command_stack  # glue has no public list of its commands
    return [*stack._command_stack], [*reversed(stack._undo_stack)]
