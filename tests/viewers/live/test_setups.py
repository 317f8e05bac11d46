"""Several apertures or settings on one image, each with its spectrum."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from glue.core import DataCollection
from glue.core.session import Session
from glue.core.state import GlueSerializer, GlueUnSerializer

from glue_lrs import LRSError
from glue_lrs.viewers import LiveExtraction, open_extraction
from tests.helpers.images import SOURCE, slit
from tests.helpers.live import assert_same, assert_shows, redo, undo


def names(live: LiveExtraction) -> list[str]:
    return [one.name for one in live.setups]


@pytest.fixture
def pair(session: Session) -> LiveExtraction:
    """An image with a second source, half as bright, 15 columns to the right."""
    image = slit()
    data = np.array(image.data)
    both = data + 0.5 * np.roll(data - np.median(data), 15, axis=1)
    return open_extraction(session, replace(image, data=both.astype(np.float32)))


def test_a_copy_is_edited_and_the_original_stays(live: LiveExtraction) -> None:
    first = live.extract
    assert names(live) == ["A"]
    assert live.arrangement.keep_for_comparison() == "B"
    assert (live.active, live.comparison_label) == ("B", "setup A")
    live.set([live.regions[0].with_edge("upper", 2)])
    second = live.extract
    kept = live.arrangement.named("A")
    assert kept.operator == first
    assert_same(kept.extraction, first.run(live.image))
    ratio = live.extraction.columns["FLUX"] / kept.extraction.columns["FLUX"]
    np.testing.assert_allclose(live.ratio()[1], ratio[::-1], rtol=1e-6)
    live.arrangement.switch()
    assert_shows(live, first)
    assert (live.active, live.comparison_label) == ("A", "setup B")
    live.arrangement.switch()
    assert_shows(live, second)
    assert (live.active, live.comparison_label) == ("B", "setup A")


def test_undo_applies_to_the_setup_that_was_edited(live: LiveExtraction) -> None:
    first = live.extract
    live.set([live.regions[0].moved(1)])
    moved = live.extract
    live.arrangement.add()
    live.set([live.regions[0].moved(1)])
    undo(live)
    assert (live.active, live.extract) == ("B", moved)
    undo(live)
    assert (live.active, live.extract) == ("A", first)
    assert live.arrangement.named("B").operator == moved
    redo(live)
    assert (live.active, live.extract) == ("A", moved)
    redo(live)
    assert live.active == "B"
    assert live.extract != moved
    live.arrangement.remove("B")
    assert (names(live), live.active) == (["A"], "A")
    undo(live)  # of an edit of a setup that no longer exists
    assert live.extract == moved
    live.arrangement.remove("A")
    assert names(live) == ["A"]


def test_the_next_source_gets_an_aperture(pair: LiveExtraction) -> None:
    live = pair
    assert live.arrangement.add_source() == "B"
    lower, upper = live.regions[0].at(11, live.row_wavelength[11])
    assert (lower + upper) / 2 == pytest.approx(SOURCE + 15, abs=0.3)
    assert live.notices[0].text.startswith("B: aperture on the source at column")
    flux = [np.nansum(live.arrangement.named(name).extraction.columns["FLUX"]) for name in "AB"]
    assert flux[1] / flux[0] == pytest.approx(0.5, abs=0.1)
    before = live.extract
    assert live.arrangement.add_source() is None
    assert "all 2 measured sources have an aperture" in live.notices[0].text
    assert live.extract == before


def test_the_number_of_setups_is_limited(live: LiveExtraction) -> None:
    for _ in range(7):
        assert live.arrangement.add() is not None
    assert live.arrangement.add() is None
    assert names(live) == list("ABCDEFGH")
    assert "there are 8 already" in live.notices[0].text


def test_setups_follow_the_integration(stacked: LiveExtraction) -> None:
    stacked.arrangement.keep_for_comparison()
    stacked.set([stacked.regions[0].with_edge("upper", 1)])
    stacked.integration = 3
    kept = stacked.arrangement.named("A")
    assert_same(kept.extraction, kept.operator.run(stacked.image.integration(3), check=False))
    flux = kept.extraction.columns["FLUX"]
    expected = (stacked.extraction.columns["FLUX"] / flux)[::-1]
    np.testing.assert_allclose(stacked.ratio()[1], expected, rtol=1e-6)


def test_sessions_keep_setups(path: Path) -> None:
    collection = DataCollection()
    live = open_extraction(collection, path)
    live.arrangement.keep_for_comparison()
    live.set([live.regions[0].moved(2)])
    text = GlueSerializer(collection).dumps()
    other = GlueUnSerializer.loads(text).object("__main__")
    new = open_extraction(other, next(one for one in other if one.label == "nod1_s2d"))
    assert (names(new), new.active) == (["A", "B"], "B")
    assert new.extract == live.extract
    assert new.arrangement.named("A").operator == live.arrangement.named("A").operator
    assert new.comparison_label == "setup A"
    np.testing.assert_array_equal(new.ratio()[1], live.ratio()[1])


def test_a_setup_that_does_not_exist_is_not_compared(live: LiveExtraction) -> None:
    with pytest.raises(LRSError, match="setup C has no spectrum"):
        live.arrangement.compare("C")
    assert live.comparison is None
