"""The history of edits, and the way back to each of them."""

from __future__ import annotations

import pytest

from glue_lrs import LRSError
from glue_lrs.viewers import LiveExtraction, open_extraction
from glue_lrs.viewers.live.history import edits, go_to
from tests.helpers.images import slit


def test_every_edit_can_be_gone_back_to(live: LiveExtraction) -> None:
    session, states = live.session, [live.extract]
    assert edits(session) == ()
    for step in (1.0, 2.0):
        assert live.set([live.regions[0].moved(step)], f"move by {step:g}")
        states.append(live.extract)
    assert live.add_region("background", 25.0, 30.0)
    states.append(live.extract)
    labels = ["move by 1", "move by 2", "add a background region"]
    for number in (1, 3, 0, 2, 2):
        go_to(session, number)
        assert live.extract == states[number]
        assert [one.label for one in edits(session)] == labels
        assert [one.done for one in edits(session)] == [n < number for n in range(3)]
    with pytest.raises(LRSError, match="edit is 4, expected 0 to 3"):
        go_to(session, 4)
    assert live.set([live.regions[0].moved(1.0)], "another way")  # discards the undone edit
    assert [one.label for one in edits(session)] == [*labels[:2], "another way"]


def test_edits_of_several_images_are_named(live: LiveExtraction) -> None:
    other = open_extraction(live.session, slit())
    assert live.set([live.regions[0].moved(1.0)], "move")
    assert [one.label for one in edits(live.session)] == ["move"]
    assert other.set([other.regions[0].moved(2.0)], "move")
    expected = [f"{one.data.label}: move" for one in (live, other)]
    assert [one.label for one in edits(live.session)] == expected


def test_edits_of_several_setups_are_named(live: LiveExtraction) -> None:
    assert live.set([live.regions[0].moved(1.0)], "move")
    first = live.active
    second = live.arrangement.add()
    assert live.active == second
    assert live.set([live.regions[0].moved(2.0)], "move")
    assert [one.label for one in edits(live.session)][-2:] == [f"{first}: move", f"{second}: move"]
    moved = live.extract
    go_to(live.session, 0)
    go_to(live.session, len(edits(live.session)))
    assert (live.active, live.extract) == (second, moved)
