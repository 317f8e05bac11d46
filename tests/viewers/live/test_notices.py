"""The list of messages: notices of actions stay until they are cleared."""

from __future__ import annotations

from dataclasses import replace

from glue.core.session import Session

from glue_lrs.viewers import LiveExtraction, open_extraction
from glue_lrs.viewers.live.notices import Notice, counts_text
from glue_lrs.viewers.live.regions import Region
from tests.helpers.images import slit


def texts(live: LiveExtraction) -> list[str]:
    return [one.text for one in live.notices]


def test_errors_and_warnings_stay_and_notes_do_not(live: LiveExtraction) -> None:
    live.notify("first", "error")
    live.notify("second")
    live.notify("wrote a file", "info")
    assert texts(live) == ["wrote a file", "second", "first"]
    live.set([live.regions[0].moved(1)])  # a change makes the note obsolete
    assert texts(live) == ["second", "first"]
    live.notify("wrote a file", "info")
    live.notify("third")  # so does another notice
    assert texts(live) == ["third", "second", "first"]
    live.messages.clear()
    assert texts(live) == []


def test_repeated_notices_are_counted(live: LiveExtraction) -> None:
    for text in ("one", "two", "one"):
        live.notify(text)
    assert [(one.text, one.count) for one in live.notices] == [("one", 2), ("two", 1)]
    assert str(live.notices[0]).endswith("one (2 times)")
    for number in range(150):
        live.notify(f"number {number}")
    assert len(live.notices) == 100
    assert texts(live)[0] == "number 149"


def test_the_order_of_the_list(session: Session) -> None:
    """The newest notice is followed by findings, worst first, and by older notices."""
    image = slit()
    data = image.data.copy()
    data[10, 12] = float("nan")
    live = open_extraction(session, replace(image, data=-data))
    live.notify("older")
    live.notify("newest", "info")
    lines = live.messages.lines()
    assert [lines[0].text, lines[-1].text] == ["newest", "older"]
    order = {"error": 0, "warning": 1, "info": 2}
    found = [order[one.severity] for one in lines[1:-1]]
    assert found == sorted(found)
    assert len(found) == len(live.findings) > 1
    assert {one.time for one in lines[1:-1]} == {""}


def test_a_failed_extraction_is_an_error_in_the_list(live: LiveExtraction) -> None:
    live.preview([Region("aperture", (900.0,), (910.0,))])
    (line,) = live.messages.lines()
    assert (line.severity, line.text) == ("error", live.message)
    live.commit()
    assert live.messages.lines()[0].text.startswith("not kept: ")


def test_counts() -> None:
    notices = [Notice(severity, "x") for severity in ("error", "warning", "warning", "info")]
    assert counts_text(tuple(notices)) == "1 error, 2 warnings, 1 note"
    assert counts_text(()) == "no messages"
