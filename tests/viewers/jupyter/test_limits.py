"""Limits of the axes in a notebook: they adapt to the data until the user zooms."""

from __future__ import annotations

import pytest

from glue_lrs.viewers import ExtractionApp
from tests.helpers.figure import drag, send
from tests.helpers.images import SOURCE

#: Upper edge of the default aperture of `slit`: 8 columns around the source.
UPPER = SOURCE + 4.0


def zoom(scale: object, low: float, high: float) -> None:
    """Set the limits of a scale, as the browser does for a zoom with the mouse."""
    scale.set_state({"min": low, "max": high})


def limits(scale: object) -> tuple[float, float]:
    return scale.min, scale.max


def test_the_limits_of_a_user_survive_a_drag(app: ExtractionApp) -> None:
    viewer = app.spectrum_viewer
    before = limits(viewer.scale_y)
    zoom(viewer.scale_y, before[0] / 2.0, before[1] / 7.0)
    zoom(viewer.scale_x, 6.0, 8.0)
    user = limits(viewer.scale_y)
    send(app.image, "dragstart", UPPER, 12.0)
    for step in range(1, 6):
        send(app.image, "dragmove", UPPER + 4.0 * step, 12.0)
        assert limits(viewer.scale_y) == user
    send(app.image, "dragend", UPPER + 20.0, 12.0)
    assert limits(viewer.scale_y) == user
    assert limits(viewer.scale_x) == (6.0, 8.0)
    viewer.toolbar.active_tool_id = "bqplot:home"
    assert viewer.scale_y.max > user[1]
    assert viewer.scale_x.max > 13.0
    drag(app.image, (UPPER + 20.0, 12.0), (UPPER, 12.0))
    assert limits(viewer.scale_y) == pytest.approx(before)  # they follow the data again


def test_the_limits_of_the_profile_survive_another_row(app: ExtractionApp) -> None:
    scale = app.profile.scale_y
    before = limits(scale)
    zoom(scale, before[0], before[1] / 10.0)
    app.live.cursor_row = 30.0
    assert scale.max == before[1] / 10.0
    app.profile.state.reset_limits()
    assert scale.max > before[1] / 10.0


def test_the_limits_of_a_user_change_with_the_unit(app: ExtractionApp) -> None:
    viewer = app.spectrum_viewer
    before, unit = limits(viewer.scale_y), viewer.unit
    zoom(viewer.scale_y, before[0], before[1] / 2.0)
    top = viewer.scale_y.max
    viewer.limits.rescale(1e-3)  # what another unit of the flux does
    assert viewer.scale_y.max == pytest.approx(1e-3 * top)
    assert not viewer.limits.follow
    assert unit == viewer.unit
