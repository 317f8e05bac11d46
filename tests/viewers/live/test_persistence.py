"""Sessions restore a live extraction, and report files that have moved."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from glue.core import DataCollection
from glue.core.application_base import Application
from glue.core.data_factories import load_data
from glue.core.edit_subset_mode import OrMode
from glue.core.state import GlueSerializer, GlueUnSerializer
from glue.core.subset import RangeSubsetState

from glue_lrs import Background, LRSError, SlitImage
from glue_lrs.errors import LRSWarning
from glue_lrs.viewers import LiveExtraction, live_for, open_extraction
from glue_lrs.viewers.live.regions import Region
from glue_lrs.viewers.plugin import register
from tests.helpers.images import correction, saved, slit, stack
from tests.helpers.live import assert_shows, masks

register()


def restored(collection: DataCollection, include_data: bool = False) -> DataCollection:
    """Save a collection as a session does, and load it."""
    text = GlueSerializer(collection, include_data=include_data).dumps()
    return GlueUnSerializer.loads(text).object("__main__")


def image_of(collection: DataCollection) -> Any:
    (data,) = [data for data in collection if data.ndim > 1]
    return data


def edited(session: Any, path: Path, apcorr: Path) -> LiveExtraction:
    """An extraction in which all settings differ from the default."""
    live = open_extraction(session, path)
    tapered = live.regions[0].tapered("top", 1.5, live.rows, live.row_wavelength)
    assert live.set([tapered])
    assert live.add_region("background", 24.0, 31.5)
    fit = replace(live.background, bkg_fit="median", smoothing_length=5)
    assert live.set(replace(live.extract, background=fit, max_lost=0.25))
    assert live.load_apcorr(apcorr)
    live.cursor_row, live.rows_averaged = 17.0, 5
    return live


def assert_restored(old: LiveExtraction, new: LiveExtraction) -> None:
    assert new is not old
    assert new.extract == old.extract
    assert new.extract.references == old.extract.references
    assert_shows(new, new.extract)
    for name in (
        "integration",
        "rows_averaged",
        "cursor_row",
        "wavelength_range",
        "wavelength_ranges",
    ):
        assert getattr(new, name) == getattr(old, name), name
    np.testing.assert_array_equal(new.spectrum.flux, old.spectrum.flux)


@pytest.mark.parametrize("include_data", [False, True])
def test_the_state_is_restored(path: Path, apcorr: Path, include_data: bool) -> None:
    collection = DataCollection()
    old = edited(collection, path, apcorr)
    old.select(6.5, 7.5)
    old.session.edit_subset_mode.mode = OrMode
    old.select(8.5, 9.5)
    assert len(old.wavelength_ranges) == 2
    other = restored(collection, include_data)
    assert [data.label for data in other] == [data.label for data in collection]
    new = open_extraction(other, image_of(other))
    assert len(other) == 2  # the spectrum is the one that was saved
    assert new.spectrum_data in other
    assert_restored(old, new)
    # It can be edited: commands, undo and links work.
    before = new.extract
    assert new.set([region.moved(1) for region in new.regions])
    assert_shows(new, new.extract)
    new.session.command_stack.undo()
    assert_shows(new, before)
    rows, spectrum = masks(new)
    assert rows.any()
    np.testing.assert_array_equal(rows, spectrum)


def test_links_are_not_duplicated(path: Path) -> None:
    collection = DataCollection()
    open_extraction(collection, path)
    number = len(collection.external_links)
    other = restored(collection)
    open_extraction(other, image_of(other))
    assert len(other.external_links) == number
    again = restored(other)
    open_extraction(again, image_of(again))
    assert len(again.external_links) == number
    again.new_subset_group("a", RangeSubsetState(10, 20, image_of(again).pixel_component_ids[0]))
    rows, spectrum = masks(live_for(again, image_of(again)))
    np.testing.assert_array_equal(np.flatnonzero(spectrum), np.arange(10, 21))
    np.testing.assert_array_equal(rows, spectrum)


@pytest.mark.parametrize("integration", [0, 3, None])
def test_a_stack_is_restored(tmp_path: Path, integration: int | None) -> None:
    collection = DataCollection()
    old = open_extraction(collection, saved(stack(), tmp_path / "tso_calints.fits"))
    old.set([Region("aperture", (31.2,), (40.0,)), Region("background", (3.0,), (20.0,))])
    old.integration = integration
    other = restored(collection)
    new = open_extraction(other, image_of(other))
    assert_restored(old, new)


def test_a_preview_is_not_saved(path: Path) -> None:
    collection = DataCollection()
    old = open_extraction(collection, path)
    kept = old.extract
    old.preview([old.regions[0].moved(3)])
    other = restored(collection)
    assert open_extraction(other, image_of(other)).extract == kept


def test_an_edit_after_the_spectrum_was_removed_is_restored(path: Path) -> None:
    """The spectrum contains the state: an edit adds it to the collection again."""
    collection = DataCollection()
    live = open_extraction(collection, path)
    collection.remove(live.spectrum_data)
    assert live.set([live.regions[0].moved(1.5)])
    assert live.spectrum_data in collection
    other = restored(collection)
    assert_restored(live, open_extraction(other, image_of(other)))


def test_two_files_loaded_by_glue_are_restored(tmp_path: Path, path: Path, apcorr: Path) -> None:
    collection = DataCollection([load_data(str(path))])
    second = load_data(str(saved(slit(), tmp_path / "nod2_s2d.fits")))
    collection.append(second)
    one = edited(collection, path, apcorr)
    assert one.data is collection[0]
    two = open_extraction(collection, second)
    two.set([two.regions[0].moved(-1)])
    other = restored(collection)
    images = {data.label: data for data in other if data.ndim == 2}
    for old in (one, two):
        assert_restored(old, open_extraction(other, images[old.data.label]))
    assert len(other) == 4


def test_an_aperture_correction_in_memory_is_restored(path: Path) -> None:
    collection = DataCollection()
    old = open_extraction(collection, path)
    assert old.set(replace(old.extract, aperture_correction=correction()))
    other = restored(collection)
    assert_restored(old, open_extraction(other, image_of(other)))


@pytest.mark.slow
def test_the_comparison_is_restored(tmp_path: Path, path: Path) -> None:
    collection = DataCollection()
    old = open_extraction(collection, path)
    old.save_spectrum(tmp_path / "old_x1d.fits")
    old.load_comparison(tmp_path / "old_x1d.fits")
    old.set([old.regions[0].moved(2)])
    other = restored(collection)
    new = open_extraction(other, image_of(other))
    assert new.comparison_label == "old_x1d.fits"
    np.testing.assert_array_equal(new.ratio()[1], old.ratio()[1])
    (tmp_path / "old_x1d.fits").unlink()
    last = restored(other)
    without = open_extraction(last, image_of(last))
    assert without.comparison is None
    (notice,) = without.notices
    assert notice.text.startswith("without the comparison: ")
    assert "old_x1d.fits: does not exist" in notice.text
    assert without.extract == old.extract


def test_another_spectrum_as_comparison_is_restored(tmp_path: Path, path: Path) -> None:
    collection = DataCollection()
    other_file = open_extraction(collection, saved(slit(), tmp_path / "nod2_s2d.fits"))
    old = open_extraction(collection, path)
    old.load_comparison(other_file.spectrum_data)
    other = restored(collection)
    data = next(d for d in other if d.label == "nod1_s2d")
    new = open_extraction(other, data)
    assert new.comparison_label == "nod2_s2d spectrum"
    np.testing.assert_allclose(new.ratio()[1], old.ratio()[1])


def test_a_moved_aperture_correction_is_reported(path: Path, apcorr: Path) -> None:
    collection = DataCollection()
    old = edited(collection, path, apcorr)
    apcorr.unlink()
    with pytest.warns(LRSWarning, match=r"apcorr\.fits: has changed or was removed since"):
        other = restored(collection)
    new = open_extraction(other, image_of(other))
    kept, had = new.extract.aperture_correction, old.extract.aperture_correction
    np.testing.assert_array_equal(kept.factor, had.factor)
    assert replace(new.extract, aperture_correction=had) == old.extract
    np.testing.assert_array_equal(new.spectrum.flux, old.spectrum.flux)
    (notice,) = new.notices
    assert "apcorr.fits: no longer exists; the aperture correction that the" in notice.text
    assert "\n" not in notice.text
    third = restored(other)  # a second time
    again = open_extraction(third, image_of(third))
    assert again.extract.aperture_correction is not None


def test_a_moved_image_is_reported(tmp_path: Path, path: Path) -> None:
    collection = DataCollection()
    open_extraction(collection, path)
    text = GlueSerializer(collection).dumps()
    shutil.move(path, tmp_path / "elsewhere.fits")
    with pytest.raises(Exception, match=r"nod1_s2d\.fits") as caught:
        GlueUnSerializer.loads(text).object("__main__")
    assert "\n" not in str(caught.value)


def test_an_image_that_the_session_contains_needs_no_file(tmp_path, path) -> None:
    collection = DataCollection()
    old = open_extraction(collection, path)
    old.set([old.regions[0].moved(1)])
    text = GlueSerializer(collection, include_data=True).dumps()
    shutil.move(path, tmp_path / "elsewhere.fits")
    other = GlueUnSerializer.loads(text).object("__main__")
    new = open_extraction(other, image_of(other))
    assert new.extract == old.extract
    np.testing.assert_array_equal(new.spectrum.flux, old.spectrum.flux)
    assert dict(new.image.header) == dict(old.image.header)
    assert new.image.path is None
    with pytest.raises(LRSError, match=r"nod1_s2d\.fits: was not read from a file"):
        new.python()
    # once more, from the session
    text = GlueSerializer(other, include_data=True).dumps()
    third = GlueUnSerializer.loads(text).object("__main__")
    again = open_extraction(third, image_of(third))
    np.testing.assert_array_equal(again.spectrum.flux, old.spectrum.flux)


def test_a_changed_file_is_extracted_with_its_new_content(path: Path, apcorr: Path) -> None:
    collection = DataCollection()
    old = edited(collection, path, apcorr)
    text = GlueSerializer(collection).dumps()
    image = SlitImage.read(path)
    replace(image, data=2 * np.asarray(image.data)).write(path, overwrite=True)
    other = GlueUnSerializer.loads(text).object("__main__")
    new = open_extraction(other, image_of(other))
    assert new.extract == old.extract
    assert_shows(new, new.extract)
    good = ~new.extraction.mask
    np.testing.assert_allclose(
        new.extraction.columns["FLUX"][good], 2 * old.extraction.columns["FLUX"][good], rtol=1e-6
    )


def test_an_invalid_operator_is_replaced_by_the_default(path: Path) -> None:
    collection = DataCollection()
    live = open_extraction(collection, path)
    default = live.extract
    live.set([live.regions[0].moved(1)])
    live.spectrum_data.meta["glue_lrs"]["parameters"]["reference"]["xstrat"] = 3
    other = restored(collection)
    new = open_extraction(other, image_of(other))
    assert new.extract == default
    assert "unknown key 'xstrat'" in new.notices[0].text


def test_an_application_is_restored(tmp_path: Path, path: Path, apcorr: Path) -> None:
    app = Application()
    old = edited(app, path, apcorr)
    app.save_session(str(tmp_path / "my.glu"))
    new_app = Application.restore_session(str(tmp_path / "my.glu"))
    data = image_of(new_app.data_collection)
    assert_restored(old, open_extraction(new_app, data))
    assert live_for(new_app, data).session is new_app.session


def test_the_background_of_a_reference_with_offsets_is_restored(path: Path) -> None:
    """Regions that follow the source do so after a session, too."""
    collection = DataCollection()
    old = open_extraction(collection, path)
    operator = replace(
        old.extract,
        background=Background(bkg_coeff=((20.0, 0.01), (25.0, 0.0)), bkg_order=1),
        position_offset=0.25,
        fixed_background=True,
    )
    assert old.set(operator)
    other = restored(collection)
    new = open_extraction(other, image_of(other))
    assert new.extract.use_source_posn is None
    assert_restored(old, new)
