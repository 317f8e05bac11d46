"""Words: what messages of the package say in Python's words, in those of the desktop's panel."""

from __future__ import annotations

__all__ = ["in_the_panel"]

#: What tells of a parameter -> what there is in the panel.
_SAID = {
    "(max_lost=0 would mask them)": "(Numbers tells how much)",
    ": use_source_posn would move the aperture there": "",
}


def in_the_panel(text: str) -> str:
    """A message of the package in the words of the panel.

    Parameters
    ----------
    text : str
        The message.

    Examples
    --------
    >>> in_the_panel("their light is missing from the flux (max_lost=0 would mask them)")
    'their light is missing from the flux (Numbers tells how much)'
    """
    for python, ours in _SAID.items():
        text = text.replace(python, ours)
    return text
