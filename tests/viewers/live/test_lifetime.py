"""Removed data, several images, callbacks of glue."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from glue.core import DataCollection
from glue.core.session import Session
from glue.core.subset import SubsetState

from glue_lrs import Aperture, Extract1D, Extraction, SlitImage
from glue_lrs.viewers import LiveExtraction, live_for, open_extraction
from tests.helpers.images import saved, slit
from tests.helpers.live import assert_shows, masks, undo


def test_removed_data_close_the_extraction(live: LiveExtraction, session: Session) -> None:
    live.set([live.regions[0].moved(1)])
    kept = live.extract
    live.preview([live.regions[0].moved(1)])
    seen = []
    live.add_callback("closed", seen.append)
    session.data_collection.remove(live.data)
    assert seen == [True]
    assert live_for(session, live.data) is None
    assert live.spectrum_data in session.data_collection
    # Calls that viewers may still make have no effect.
    live.preview([live.regions[0].moved(1)])
    assert not live.commit()
    assert not live.set([live.regions[0].moved(2)])
    assert not live.to_source()
    assert not live.three_fwhm()
    assert not live.best_width()
    assert live.residual() is None
    live.hide_residual()
    assert not live.default()
    live.cancel()
    live.select(6, 8)
    live.integration = 3
    live.cursor_row = 4.0
    live.wavelength_range = (5.0, 6.0)
    live.aperture = Aperture(xstart=3, xstop=8)
    live.numbers()
    live.cross_dispersion_profile()
    session.command_stack.undo()
    session.command_stack.redo()
    live.close()
    assert live.extract == kept
    # The extraction is restored when the data are added again.
    session.data_collection.append(live.data)
    again = open_extraction(session, live.data)
    assert again is not live
    assert again.spectrum_data is live.spectrum_data
    assert again.extract == kept
    session.command_stack.undo()
    assert again.extract.use_source_posn is None


def test_a_removed_spectrum_is_added_when_the_image_is_opened_again(live, session) -> None:
    session.data_collection.remove(live.spectrum_data)
    assert live.set([live.regions[0].moved(1)])
    assert open_extraction(session, live.data) is live
    assert live.spectrum_data in session.data_collection
    assert_shows(live, live.extract)
    live.select(6.5, 8.5)
    assert masks(live)[0].any()


def test_two_files_are_independent(session, live, tmp_path) -> None:
    other = open_extraction(session, saved(slit(), tmp_path / "nod2_s2d.fits"))
    before = other.extract
    assert live.set([live.regions[0].moved(1)])
    assert_shows(other, before)
    assert other.set([other.regions[0].moved(-2)])
    changed = live.extract
    undo(live)  # glue has one stack for all data
    assert_shows(live, changed)
    assert_shows(other, before)
    session.data_collection.remove(live.data)
    assert live.closed
    assert not other.closed
    assert other.set([other.regions[0].moved(1)])


def test_two_collections_have_an_extraction_each(path: Path) -> None:
    one, two = DataCollection(), DataCollection()
    assert open_extraction(one, path) is not open_extraction(two, path)


def test_changed_pixels_are_extracted(live: LiveExtraction) -> None:
    flux = 2 * np.asarray(live.image.data)
    before = live.extraction.columns["FLUX"]
    live.data.update_components({live.data.id["flux"]: flux})
    np.testing.assert_allclose(live.extraction.columns["FLUX"], 2 * before, rtol=1e-6)
    assert_shows(live, live.extract)


@pytest.mark.slow
def test_nothing_is_kept_alive(path: Path) -> None:
    collection = DataCollection()
    live = open_extraction(collection, path)
    live.set([live.regions[0].moved(1)])
    live.preview([live.regions[0].moved(1)])  # no subset, as glue keeps groups of subsets alive
    live.integration, live.wavelength_range = None, (5.0, 7.0)
    refs = [weakref.ref(one) for one in (live, live.image, live.session, collection)]
    del live, collection
    for _ in range(3):
        gc.collect()
    assert [ref() for ref in refs] == [None] * 4


def test_a_closed_extraction_is_not_kept_alive(session: Session, path: Path) -> None:
    live = open_extraction(session, path)
    live.set([live.regions[0].moved(1)])
    ref = weakref.ref(live)
    session.data_collection.remove(live.data)
    del live
    gc.collect()
    assert ref() is None


def test_a_preview_extracts_once_and_does_not_update_glue(
    live: LiveExtraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A move of the pointer costs one extraction without checks; glue is updated on commit."""
    runs: list[Extract1D] = []
    checked: list[bool] = []
    run = Extract1D.run

    def counted(self: Extract1D, image: SlitImage, *, check: bool = True) -> Extraction:
        runs.append(self)
        checked.append(check)
        return run(self, image, check=check)

    monkeypatch.setattr(Extract1D, "run", counted)
    before = live.spectrum_data["flux"].copy()
    for step in range(1, 4):
        live.preview([live.regions[0].moved(0.5), *live.regions[1:]])
        assert len(runs) == step
    np.testing.assert_array_equal(live.spectrum_data["flux"], before)
    live.commit("move")
    assert checked == [False, False, False, True]
    assert not np.array_equal(live.spectrum_data["flux"], before, equal_nan=True)


@pytest.mark.parametrize("name", ["wavelength", "flux"])
def test_a_renamed_component_is_a_message(live: LiveExtraction, name: str) -> None:
    data = live.spectrum_data
    data.find_component_id(name).label = "mine"
    before = live.extract
    assert live.set(replace(before, aperture=before.aperture.shifted(1.0)), "shift")
    assert live.extract != before  # the edit is committed
    assert f"{name} was renamed or removed" in live.notices[0].text
    data.find_component_id("mine").label = name
    live.session.command_stack.undo()
    assert live.extract == before
    assert [one.count for one in live.notices] == [1]  # kept, but not repeated


def test_a_subset_state_that_raises_is_ignored(live: LiveExtraction) -> None:
    """An exception in a handler would end glue's broadcast to other listeners."""

    class Raising(SubsetState):
        def to_mask(self, data: Any, view: Any = None) -> Any:
            raise IndexError("of another dataset")

        def copy(self) -> SubsetState:
            return Raising()

    collection = live.session.data_collection
    collection.new_subset_group("raising", Raising())
    collection.new_subset_group("other", live.data.id["flux"] > 0)
    assert live.wavelength_ranges == ()
