"""Subsets of glue become regions and ranges of wavelength."""

from __future__ import annotations

import numpy as np
import pytest
from glue.core import Data
from glue.core.edit_subset_mode import AndMode, AndNotMode, NewMode, OrMode, ReplaceMode, XorMode
from glue.core.roi import PolygonalROI, RectangularROI
from glue.core.session import Session
from glue.core.subset import MaskSubsetState, RangeSubsetState, RoiSubsetState

from glue_lrs import Aperture, Background, LRSError
from glue_lrs.viewers import LiveExtraction, open_extraction
from tests.helpers.live import assert_shows, columns_of, ends, masks, rows_of, undo


def test_a_range_of_columns_becomes_the_aperture(live: LiveExtraction) -> None:
    group = live.session.data_collection.new_subset_group(
        "mine", RangeSubsetState(9.25, 16.5, columns_of(live))
    )
    for subset in (group, group.subsets[0], group.subset_state):
        assert live.subset_to_region(subset, "aperture")
        assert live.extract.aperture == Aperture(xstart=9.75, xstop=16.0)
        assert_shows(live, live.extract)
        undo(live)


def test_a_rectangle_becomes_a_background(live: LiveExtraction) -> None:
    for xatt, yatt, roi in (
        (columns_of(live), rows_of(live), RectangularROI(24.2, 30.75, 5, 30)),
        (rows_of(live), columns_of(live), RectangularROI(5, 30, 24.2, 30.75)),
    ):
        state = RoiSubsetState(xatt, yatt, roi)
        assert live.subset_to_region(state, "background")
        assert live.background == Background(bkg_coeff=((24.2,), (30.75,)))
        undo(live)
    assert live.subset_to_region(state, "background")
    assert live.subset_to_region(RangeSubsetState(35, 40, columns_of(live)), "background")
    assert len(live.background.bkg_coeff) == 4


def test_a_polygon_becomes_polynomials(live: LiveExtraction) -> None:
    # A slanted band with a pointed top and bottom.
    y = np.array([3.0, 6.0, 33.0, 36.0, 33.0, 6.0])
    left = 8 + 0.1 * y
    x = np.where(np.arange(6) < 4, left, left + 7.0)
    x[0] += 3.5
    x[3] += 3.5
    state = RoiSubsetState(columns_of(live), rows_of(live), PolygonalROI(x, y))
    assert live.subset_to_region(state, "aperture")
    region = live.regions[0]
    lower, upper = region.at(*ends(live))
    assert region.variable == "pixel"  # it needs fewer coefficients
    inner = slice(7, 33)
    np.testing.assert_allclose(lower[inner], (8 + 0.1 * live.rows)[inner], atol=0.15)
    np.testing.assert_allclose(upper[inner], (15 + 0.1 * live.rows)[inner], atol=0.15)
    assert_shows(live, live.extract)


def test_selected_pixels_become_a_region(live: LiveExtraction) -> None:
    mask = np.zeros(live.data.shape, dtype=bool)
    mask[:, 9:16] = True
    state = MaskSubsetState(mask, live.data.pixel_component_ids)
    assert live.subset_to_region(state, "aperture")
    assert live.extract.aperture == Aperture(xstart=9.0, xstop=15.0)  # the selected pixels


def test_combined_ranges_become_several_regions(live: LiveExtraction) -> None:
    """The combinations of glue's subset modes: or, and not, and, xor."""
    x = columns_of(live)

    def columns(low: float, high: float) -> RangeSubsetState:
        return RangeSubsetState(low, high, x)

    for state, expected in (
        (columns(24.2, 28.0) | columns(33.3, 40.1), [(24.2, 28.0), (33.3, 40.1)]),
        (columns(24.2, 30.0) | columns(28.0, 40.1), [(24.2, 40.1)]),
        (
            columns(24.2, 30.0) | columns(30.4, 40.1),
            [(24.2, 40.1)],
        ),  # less than a pixel between them
        (columns(24.2, 40.1) & ~columns(28.0, 33.3), [(24.2, 28.0), (33.3, 40.1)]),
        (columns(24.2, 40.1) & ~columns(24.9, 33.3), [(33.3, 40.1)]),  # the rest is too narrow
        (columns(24.2, 33.3) & columns(28.0, 40.1), [(28.0, 33.3)]),
        (columns(24.2, 33.3) ^ columns(28.0, 40.1), [(24.2, 28.0), (33.3, 40.1)]),
        (~columns(3.5, 40.1), [(-0.5, 3.5), (40.1, 45.5)]),  # the rest of the image
    ):
        assert live.subset_to_region(state, "background")
        found = [(r.lower[0], r.upper[0]) for r in live.regions if r.kind == "background"]
        np.testing.assert_allclose(found, expected)
        assert_shows(live, live.extract)
        undo(live)
    two = columns(8.0, 11.0) | columns(14.0, 18.5)
    assert live.subset_to_region(two, "aperture")
    assert live.aperture.src_coeff == ((8.0,), (11.0,), (14.0,), (18.5,))
    before = live.extract
    with pytest.raises(LRSError, match="selects no pixel of the image"):
        live.subset_to_region(columns(24.2, 28.0) & columns(33.3, 40.1), "background")
    assert_shows(live, before)


def test_combined_shapes_become_several_regions(live: LiveExtraction) -> None:
    def drawn(x: float) -> RoiSubsetState:
        y = np.array([2.0, 37.0, 37.0, 2.0])
        sides = x + 0.1 * y + np.array([0.0, 0.0, 5.0, 5.0])
        return RoiSubsetState(columns_of(live), rows_of(live), PolygonalROI(sides, y))

    assert live.subset_to_region(drawn(2.0) | drawn(30.0), "background")
    _, first, second = live.regions
    for region, x in ((first, 2.0), (second, 30.0)):
        lower, upper = region.at(*ends(live))
        np.testing.assert_allclose(lower[5:35], (x + 0.1 * live.rows)[5:35], atol=0.6)
        np.testing.assert_allclose(upper[5:35], (x + 5 + 0.1 * live.rows)[5:35], atol=0.6)
    assert_shows(live, live.extract)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (lambda live: RangeSubsetState(3, 9, rows_of(live)), "selects whole rows"),
        (lambda live: RangeSubsetState(90, 99, columns_of(live)) | RangeSubsetState(
            95, 96, columns_of(live)), "selects no pixel of the image"),
        (lambda live: RangeSubsetState(9, 9.3, columns_of(live)), "is 0.30 pixels wide"),
        (lambda live: RangeSubsetState(0, 1, Data(x=[1, 2]).id["x"]), "cannot be seen"),
    ],
)  # fmt: skip
def test_a_subset_that_is_not_a_range_of_columns_is_an_error(live, state, text) -> None:
    before = live.extract
    with pytest.raises(LRSError, match=text):
        live.subset_to_region(state(live), "aperture")
    assert_shows(live, before)


@pytest.mark.parametrize("which", ["live", "stacked"])
@pytest.mark.parametrize("axis", ["component", "world"])
def test_a_range_of_wavelengths_selects_the_rows_of_the_image(request, which, axis) -> None:
    live = request.getfixturevalue(which)
    data = live.spectrum_data
    att = data.id["wavelength"] if axis == "component" else data.world_component_ids[0]
    live.session.data_collection.new_subset_group("line", RangeSubsetState(6.5, 8.5, att))
    rows, spectrum = masks(live)
    np.testing.assert_array_equal(rows, (live.row_wavelength >= 6.5) & (live.row_wavelength <= 8.5))
    np.testing.assert_array_equal(spectrum, rows)
    assert live.wavelength_range == pytest.approx((6.5, 8.5), abs=0.3)


@pytest.mark.parametrize("which", ["live", "stacked"])
@pytest.mark.parametrize("axis", ["pixel", "component", "world"])
def test_rows_of_the_image_select_the_range_of_the_spectrum(request, which, axis) -> None:
    live = request.getfixturevalue(which)
    data = live.data
    if axis == "pixel":
        state = RangeSubsetState(10, 20, rows_of(live))
    else:
        att = data.id["wavelength"] if axis == "component" else data.world_component_ids[-2]
        state = RangeSubsetState(live.row_wavelength[20], live.row_wavelength[10], att)
    live.session.data_collection.new_subset_group("line", state)
    rows, spectrum = masks(live)
    np.testing.assert_array_equal(np.flatnonzero(rows), np.arange(10, 21))
    np.testing.assert_array_equal(spectrum, rows)
    assert live.wavelength_range == pytest.approx(
        (live.row_wavelength[20], live.row_wavelength[10])
    )


def test_selecting_is_a_command(live: LiveExtraction) -> None:
    live.select(8.0, 6.0)
    assert live.wavelength_range == (6.0, 8.0)
    rows, spectrum = masks(live)
    np.testing.assert_array_equal(spectrum, rows)
    assert rows.sum() == live.numbers().rows
    live.select(9.0, 10.0)
    assert len(live.session.data_collection.subset_groups) == 1
    undo(live)
    assert live.wavelength_range == (6.0, 8.0)
    undo(live)
    assert live.wavelength_range is None


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (ReplaceMode, [(7.0, 9.0)]),
        (OrMode, [(6.0, 9.0)]),
        (AndMode, [(7.0, 8.0)]),
        (XorMode, [(6.0, 7.0), (8.0, 9.0)]),
        (AndNotMode, [(6.0, 7.0)]),
        (NewMode, [(7.0, 9.0)]),
    ],
)
def test_selecting_follows_the_subset_mode(live: LiveExtraction, mode, expected) -> None:
    """The selection equals that of glue's own viewers, and the statistics refer to it."""
    live.select(6.0, 8.0)
    live.session.edit_subset_mode.mode = mode
    live.select(7.0, 9.0)
    collection = live.session.data_collection
    group = collection.subset_groups[-1]
    assert len(collection.subset_groups) == (2 if mode is NewMode else 1)
    wave, chosen = live.spectrum_data["wavelength"], np.zeros(live.spectrum_data.size, dtype=bool)
    for low, high in expected:
        chosen |= (wave >= low) & (wave <= high)
    (mask,) = (one.to_mask() for one in group.subsets if one.data is live.spectrum_data)
    np.testing.assert_array_equal(mask, chosen)
    assert len(live.wavelength_ranges) == len(expected)
    np.testing.assert_allclose(live.wavelength_ranges, expected, atol=0.35)  # whole rows
    assert live.wavelength_range == (live.wavelength_ranges[0][0], live.wavelength_ranges[-1][1])
    assert live.numbers().rows == np.count_nonzero(chosen)
    flux, error = live.spectrum_data["flux"][chosen], live.spectrum_data["uncertainty"][chosen]
    assert live.numbers().signal_to_noise == pytest.approx(np.median(flux / error))
    live.deselect()
    assert (live.wavelength_range, live.wavelength_ranges) == (None, ())
    undo(live)
    assert len(live.wavelength_ranges) == len(expected)
    undo(live)
    # The new subset is removed; the other one has not changed.
    assert live.wavelength_ranges == (() if mode is NewMode else ((6.0, 8.0),))


def test_an_empty_intersection_is_no_range(live: LiveExtraction) -> None:
    live.select(6.0, 7.0)
    live.session.edit_subset_mode.mode = AndMode
    live.select(8.0, 9.0)
    assert (live.wavelength_range, live.wavelength_ranges) == (None, ())
    undo(live)
    assert live.wavelength_range == (6.0, 7.0)


def test_a_range_can_be_set_without_a_subset(live: LiveExtraction) -> None:
    ranges: list[object] = []
    live.add_callback("wavelength_ranges", ranges.append)
    live.wavelength_range = (6.0, 8.0)
    live.wavelength_range = None
    assert ranges == [((6.0, 8.0),), ()]


def test_clearing_the_selection_is_a_command(live: LiveExtraction) -> None:
    live.deselect()  # without a selection
    assert live.wavelength_range is None
    live.select(6.0, 8.0)
    before = masks(live)
    live.deselect()
    assert live.wavelength_range is None
    assert not any(mask.any() for mask in masks(live))
    undo(live)
    assert live.wavelength_range == (6.0, 8.0)
    for now, then in zip(masks(live), before, strict=True):
        np.testing.assert_array_equal(now, then)
    live.wavelength_range = (9.0, 9.5)  # not a subset
    live.deselect()
    assert live.wavelength_range is None


def test_a_deleted_selection_is_none(live: LiveExtraction) -> None:
    live.select(6.0, 8.0)
    collection = live.session.data_collection
    collection.remove_subset_group(collection.subset_groups[0])
    assert live.wavelength_range is None


def test_the_links_are_made_once(live: LiveExtraction, session: Session) -> None:
    number = len(session.data_collection.external_links)
    assert number >= 2
    open_extraction(session, live.data)
    live.add_spectrum()
    assert len(session.data_collection.external_links) == number
