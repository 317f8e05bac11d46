"""Notices: errors, warnings and notes from actions, which are kept until the user clears them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from glue_lrs.errors import SEVERITIES
from glue_lrs.spectra.findings import worst_first
from glue_lrs.viewers.live.messages import panel_text

if TYPE_CHECKING:
    from glue_lrs.errors import Severity
    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Largest number of notices that are kept. The oldest are dropped first.
_MOST = 100


@dataclass(frozen=True)
class Notice:
    """A line that is shown in the list of messages.

    Parameters
    ----------
    severity : {"error", "warning", "info"}
        Severity, which determines the colour.
    text : str
        One line.
    time : str
        Time of day at which an action reported it, such as ``"14:03:27"``. It is empty for a
        finding about the extraction that is shown.
    count : int
        How often it was reported.
    """

    severity: Severity
    text: str
    time: str = ""
    count: int = 1

    def __str__(self) -> str:
        when = f"{self.time}  " if self.time else ""
        return when + self.text + (f" ({self.count} times)" if self.count > 1 else "")


class Notices:
    """List of the messages of a live extraction.

    Notices of actions are in `LiveExtraction.notices`, newest first. Errors and warnings stay until
    `clear` is called. A note about success stays until the next notice or change.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction whose actions are reported.
    """

    def __init__(self, live: LiveExtraction) -> None:
        self._live = live

    def add(self, text: str, severity: Severity = "warning") -> None:
        """Add a notice, or move it to the beginning if the same text was reported before."""
        if not text:
            return
        same = [one for one in self._live.notices if (one.severity, one.text) == (severity, text)]
        kept = [one for one in self._lasting() if one not in same]
        time = f"{datetime.now():%H:%M:%S}"
        count = 1 + sum(one.count for one in same)
        self._live.notices = (Notice(severity, text, time, count), *kept)[:_MOST]

    def drop_notes(self) -> None:
        """Remove notes about success, which are obsolete after a change."""
        lasting = self._lasting()
        if lasting != self._live.notices:
            self._live.notices = lasting

    def clear(self) -> None:
        """Remove all notices. Findings about the extraction remain."""
        self._live.notices = ()

    def lines(self) -> tuple[Notice, ...]:
        """Return all messages in the order in which they are shown.

        The last notice comes first, because it answers the last action; then the reason why there
        is no extraction, or its findings, worst first; then older notices.
        """
        live = self._live
        if live.extraction is None:
            state = [Notice("error", live.message)] if live.message else []
        else:
            state = [
                Notice(one.severity, panel_text(one.about(live.image.label).message, live.image))
                for one in worst_first(live.findings)
            ]
        newest, older = live.notices[:1], live.notices[1:]
        return (*newest, *state, *older)

    def _lasting(self) -> tuple[Notice, ...]:
        return tuple(one for one in self._live.notices if one.severity != "info")


def counts_text(lines: tuple[Notice, ...]) -> str:
    """Return the numbers of errors, warnings and notes, such as ``"1 error, 2 warnings"``."""
    words = {"error": "error", "warning": "warning", "info": "note"}
    counts = [
        (sum(one.severity == severity for one in lines), words[severity]) for severity in SEVERITIES
    ]
    found = [f"{number} {word}{'s' * (number > 1)}" for number, word in counts if number]
    return ", ".join(found) or "no messages"
