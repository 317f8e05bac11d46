"""Edits in the viewers give the extraction of `Extract1D`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from glue.core.session import Session

from glue_lrs import Aperture, Background, Extract1D, LRSError
from glue_lrs.viewers import LiveExtraction, open_extraction
from glue_lrs.viewers.live import editing
from glue_lrs.viewers.live.regions import Region
from tests.helpers.cases import make_wcs
from tests.helpers.images import SOURCE, slit
from tests.helpers.live import assert_same, assert_shows, ends, redo, undo

# --- edits ---------------------------------------------------------------------------------------


def absolute(live: LiveExtraction, **changes: Any) -> Extract1D:
    """The committed operator with its regions fixed on the image, and with changes."""
    fixed = {"use_source_posn": False, "reference_source_posn": None, "position_offset": 0.0}
    return replace(live.extract, **fixed | changes)


def test_a_moved_body(live: LiveExtraction) -> None:
    expected = absolute(live, aperture=Aperture(xstart=10.55, xstop=17.55))
    (region,) = live.regions
    assert live.set([region.moved(10.05 - region.lower[0])], "move the aperture")
    assert_shows(live, expected)
    assert live.session.command_stack.undo_label == "move the aperture"


def test_a_moved_edge(live: LiveExtraction) -> None:
    (region,) = live.regions
    made = region.with_edge("upper", 15.123 - region.upper[0])
    start = round(region.lower[0] + 0.5, 2)
    expected = absolute(live, aperture=Aperture(xstart=start, xstop=14.62))
    live.preview([made])
    assert live.commit()
    assert_shows(live, expected)


def test_a_tilted_edge(live: LiveExtraction) -> None:
    (region,) = live.regions
    made = region.with_end("upper", "top", region.upper[0] + 3, *ends(live))
    assert live.set([made])
    assert_shows(
        live,
        absolute(
            live,
            aperture=Aperture(src_coeff=(made.lower, made.upper), independent_var="wavelength"),
        ),
    )
    assert len(live.extract.aperture.src_coeff[1]) == 2
    # The edge is 3 pixels farther out at the last row, and unchanged at the first.
    _, upper = live.regions[0].at(*ends(live))
    assert upper[-1] == pytest.approx(region.upper[0] + 3)
    assert upper[0] == pytest.approx(region.upper[0])


def test_a_taper(live: LiveExtraction) -> None:
    made = live.regions[0].tapered("bottom", 2.0, *ends(live))
    assert live.set([made])
    assert_shows(
        live,
        absolute(
            live,
            aperture=Aperture(src_coeff=(made.lower, made.upper), independent_var="wavelength"),
        ),
    )


def test_background_regions_are_added_moved_and_deleted(live: LiveExtraction) -> None:
    (region,) = live.regions
    limits = Aperture(
        xstart=region.lower[0] + 0.5, xstop=region.upper[0] - 0.5
    )  # the aperture is not rounded, as it is not edited
    assert live.add_region("background", 24.504, 31.0)
    first = ((24.5,), (31.0,))
    assert_shows(live, absolute(live, aperture=limits, background=Background(bkg_coeff=first)))

    assert live.set([*live.regions, Region("background", (34.0,), (40.0,))], "add")
    both = (*first, (34.0,), (40.0,))
    assert_shows(live, absolute(live, aperture=limits, background=Background(bkg_coeff=both)))

    regions = list(live.regions)
    regions[1] = regions[1].moved(0.5)
    assert live.set(regions, "move")
    moved = ((25.0,), (31.5,), *both[2:])
    assert_shows(live, absolute(live, aperture=limits, background=Background(bkg_coeff=moved)))

    regions[2] = regions[2].with_end("lower", "top", 35.5, *ends(live))
    assert live.set(regions, "tilt")
    tilted = Background(
        bkg_coeff=(*moved[:2], regions[2].lower, (40.0,)), independent_var="wavelength"
    )
    assert_shows(live, absolute(live, aperture=limits, background=tilted))

    assert live.delete_region(2)
    assert live.extract.background == Background(bkg_coeff=moved[:2])
    assert live.delete_region(1)
    assert_shows(live, absolute(live, aperture=limits, background=None))
    for _ in range(6):
        undo(live)
    assert live.extract.background is None
    assert live.extract.use_source_posn is None


def test_new_regions_take_the_fit_of_deleted_ones(live: LiveExtraction) -> None:
    fit = Background(bkg_coeff=((1.0,), (5.0,)), bkg_fit="median", smoothing_length=5)
    live.set([live.regions[0].moved(1)])
    live.background = fit
    assert live.delete_region(1)
    assert live.background is None
    assert live.add_region("background", 2, 6)
    assert live.background == replace(fit, bkg_coeff=((2.0,), (6.0,)))


def test_a_new_background_region_is_subtracted(live: LiveExtraction) -> None:
    assert live.set(replace(live.extract, subtract_background=False))
    assert live.add_region("background", 2, 6)
    assert live.extract.subtract_background is None
    assert (live.extraction.columns["BACKGROUND"] != 0).all()


def test_polynomials_in_wavelength_are_edited(live: LiveExtraction) -> None:
    aperture = Aperture(src_coeff=((9.0, -0.1, 0.003), (17.0, 0.1)), independent_var="wavelength")
    live.aperture = aperture
    operator = live.extract
    assert_shows(live, operator)
    region = live.regions[0].moved(1.5)
    assert live.set([region])
    offset = Placed(operator, live).offset
    assert live.extract.aperture.src_coeff == (
        (9.0 + offset + 1.5, -0.1, 0.003),
        (17.0 + offset + 1.5, 0.1),
    )


class Placed:
    def __init__(self, operator: Extract1D, live: LiveExtraction) -> None:
        self.offset = operator.place(live.image).offset


def test_an_extraction_along_the_trace_is_edited(session: Session, tmp_path: Path) -> None:
    box = ((2.5, 42.5), (3.5, 35.5))
    wavelength = 14.0 - 9.0 * (np.arange(40) / 40) ** 1.5
    wcs = make_wcs(40, 46, wavelength, 3.0, box)
    x, y = np.meshgrid(np.arange(46.0), np.arange(40.0))
    plane = np.asarray(wcs(x, y)[2], dtype=np.float32)
    ra, dec, _ = wcs(SOURCE, 20)
    image = slit(
        kind="cal", wcs_source=wcs, wavelength=plane, source_ra=float(ra), source_dec=float(dec)
    )
    live = open_extraction(session, image)
    followed = Extract1D(aperture=Aperture(extract_width=7.0), use_source_posn=True)
    assert live.set(followed)
    assert_shows(live, followed)
    (region,) = live.regions
    trace = followed.place(image).trace
    known = np.isfinite(trace)
    assert np.ptp(trace[known]) > 1.5
    lower, upper = region.at(live.rows[known], np.nan)
    np.testing.assert_allclose((lower + upper) / 2, trace[known], atol=0.01)
    assert live.set([region.moved(1.0)])
    assert live.extract.aperture.independent_var == "pixel"
    np.testing.assert_allclose(live.regions[0].at(live.rows[known], np.nan)[0], lower + 1.0)
    assert_shows(live, live.extract)
    undo(live)
    assert_shows(live, followed)


@pytest.mark.slow
def test_rounding_does_not_accumulate_in_a_drag(live) -> None:
    (region,) = live.regions
    for step in range(1, 1001):
        live.preview([region.moved(0.004 * step)])
    (after,) = live.regions
    assert after.lower[0] == pytest.approx(region.lower[0] + 4.0, abs=0.0051)


# --- preview, commit, cancel, undo ---------------------------------------------------------------


def test_a_preview_is_shown_but_not_committed(live: LiveExtraction) -> None:
    before, (region,) = live.extract, live.regions
    flux = live.spectrum_data["flux"].copy()
    live.preview([region.moved(3)])
    assert live.operator != before
    assert live.extract == before
    assert_same(live.extraction, live.operator.run(live.image))
    assert live.regions[0].lower[0] == pytest.approx(region.lower[0] + 3, abs=0.01)
    np.testing.assert_array_equal(live.spectrum.flux, before(live.image).flux)
    np.testing.assert_array_equal(live.spectrum_data["flux"], flux)
    live.cancel()
    assert_shows(live, before)
    assert not live.session.command_stack.can_undo_redo()[0]


def test_undo_and_redo(live: LiveExtraction) -> None:
    operators = [live.extract]
    for dx in (1.0, 2.5, -1.0):
        assert live.set([live.regions[0].moved(dx)])
        operators.append(live.extract)
    for operator in operators[-2::-1]:
        undo(live)
        assert_shows(live, operator)
    for operator in operators[1:]:
        redo(live)
        assert_shows(live, operator)


def test_successive_steps_are_one_command(
    live: LiveExtraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with an arrow key that is held down: undo returns to before the first step."""
    now = [100.0]
    monkeypatch.setattr(editing, "monotonic", lambda: now[0])
    first, start = live.extract, live.regions[0]

    def step(number: float, kind: object = "nudge", after: float = 0.1) -> bool:
        now[0] += after
        return live.set([start.moved(number)], "move the aperture", step=kind)

    number = len(live.session.command_stack._command_stack)
    for count in range(1, 31):
        assert step(0.1 * count)
    assert len(live.session.command_stack._command_stack) == number + 1
    last = live.extract
    assert live.regions[0].lower[0] == pytest.approx(start.lower[0] + 3, abs=0.006)
    assert_shows(live, last)
    undo(live)
    assert live.extract == first
    redo(live)
    assert live.extract == last
    # Each of these starts another command.
    for kind, after in (("nudge", 0.1), ("nudge", 1.1), ("other", 0.1), (None, 0.1), (None, 0.1)):
        before = live.extract
        assert step(live.regions[0].lower[0] - start.lower[0] + 0.5, kind, after)
        undo(live)
        assert live.extract == before
        redo(live)
    assert step(9.0)
    live.select(6.0, 8.0)  # another command on the same stack
    moved = live.extract
    assert step(9.5)
    undo(live)
    assert live.extract == moved
    assert live.wavelength_range == (6.0, 8.0)


def test_undo_ends_a_drag(live: LiveExtraction) -> None:
    first = live.extract
    assert live.set([live.regions[0].moved(1)])
    live.preview([live.regions[0].moved(1)])
    undo(live)
    assert_shows(live, first)
    assert not live.commit()


def test_no_change_is_no_command(live: LiveExtraction) -> None:
    live.preview(live.regions)
    assert live.operator is live.extract
    assert not live.commit()
    live.preview([live.regions[0].moved(1)])
    live.preview([live.regions[0].moved(-1)])
    live.cancel()
    assert not live.commit()
    assert not live.session.command_stack.can_undo_redo()[0]


def test_callbacks_see_a_consistent_state(live: LiveExtraction) -> None:
    seen = []

    def look(_: Any) -> None:
        seen.append((live.operator, live.extraction, live.message, live.extract))

    for name in ("operator", "extraction", "message"):
        live.add_callback(name, look)
    live.preview([live.regions[0].moved(200)])
    assert seen
    assert all(one == seen[0] for one in seen)
    operator, extraction, message, committed = seen[0]
    assert operator is live.operator
    assert extraction is None
    assert "has no pixel on the image" in message
    assert committed is live.extract


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dx", [-300, 300, 1e9])
def test_an_aperture_off_the_image_is_a_message_and_is_not_committed(live, dx) -> None:
    before = live.extract
    live.preview([live.regions[0].moved(dx)])
    assert live.extraction is None
    assert "has no pixel on the image" in live.message
    assert "\n" not in live.message
    assert not live.commit()
    assert_shows(live, before)
    assert live.notices[0].text.startswith("not kept: ")


def test_an_edge_stops_at_the_other(live: LiveExtraction) -> None:
    (region,) = live.regions
    live.preview([region.with_edge("lower", 100)])
    assert live.extraction is not None
    assert live.operator.aperture.xstop - live.operator.aperture.xstart == pytest.approx(0)
    assert live.commit()


def test_regions_that_cross_are_a_message(live: LiveExtraction) -> None:
    before = live.extract
    live.preview([Region("aperture", (15.0,), (12.0,))])
    assert live.extraction is None
    assert "expected at least xstart" in live.message
    assert not live.commit()
    assert_shows(live, before)


def test_all_nan_columns_are_a_message(session: Session) -> None:
    image = slit()
    data = np.array(image.data)
    data[:, 20:32] = np.nan
    live = open_extraction(session, replace(image, data=data))
    live.preview([Region("aperture", (21.0,), (29.0,))])
    assert live.extraction is None
    assert "every pixel of the aperture is bad" in live.message
    live.set([Region("aperture", (17.0,), (25.0,))])
    assert live.extraction is not None
    assert "bad pixels reduce the aperture" in live.message
    assert live.numbers().most_lost == pytest.approx(5.5 / 8)


def test_the_last_aperture_cannot_be_deleted(live: LiveExtraction) -> None:
    before = live.extract
    assert not live.delete_region(0)
    assert any("no region is an aperture" in one.text for one in live.notices)
    assert_shows(live, before)
    assert not live.delete_region(7)
    assert live.notices[0].text == "region is 7, expected 0 to 0"


def test_setters_raise_and_change_nothing(live: LiveExtraction) -> None:
    before = live.extract
    with pytest.raises(LRSError, match="has no pixel on the image"):
        live.aperture = Aperture(src_coeff=((300.0,), (310.0,)))
    with pytest.raises(LRSError, match="no background region"):
        live.background = Background(bkg_coeff=((300.0,), (310.0,)))
    assert_shows(live, before)
    live.background = Background(bkg_coeff=((24.0,), (30.0,)))
    assert_shows(live, replace(before, background=live.background))
    undo(live)
    assert live.background is None


def test_the_focus_does_not_outlive_its_region(live: LiveExtraction) -> None:
    live.add_region("background", 2, 6)
    live.selected = 1
    live.delete_region(1)
    assert live.selected is None
