"""What a drag sends to the browser, whose time for drawing is most of what a user waits for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from glue_lrs.viewers import ExtractionApp
from tests.helpers.figure import messages, send
from tests.helpers.images import SOURCE

#: Upper edge of the default aperture of `slit`: 8 columns around the source.
UPPER = SOURCE + 4.0


class Loop:
    """Event loop whose timers end when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Timer] = []

    def call_later(self, delay: float, function: Callable[[], None]) -> Timer:
        assert delay > 0
        timer = Timer(self, function)
        self.waiting.append(timer)
        return timer

    def end(self) -> None:
        """Let the time pass that the timers wait for."""
        for timer in [*self.waiting]:
            self.waiting.remove(timer)
            timer.function()


class Timer:
    """Timer of `Loop`."""

    def __init__(self, loop: Loop, function: Callable[[], None]) -> None:
        self.loop, self.function = loop, function

    def cancel(self) -> None:
        if self in self.loop.waiting:
            self.loop.waiting.remove(self)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    """Event loop of the parts that are drawn a little later."""
    loop = Loop()
    monkeypatch.setattr("glue_lrs.viewers.jupyter.timing.get_ioloop", lambda: loop)
    return loop


def test_a_step_of_a_drag_sends_four_messages_and_the_spectrum_first(
    app: ExtractionApp, loop: Loop
) -> None:
    editor, spectrum = app.image.editor, app.spectrum_viewer
    send(app.image, "dragstart", UPPER, 12.0)
    send(app.image, "dragmove", UPPER + 2.0, 12.0)  # the limits adapt
    for step in range(3):
        with messages() as sent:
            send(app.image, "dragmove", UPPER + 1.9 - 0.1 * step, 12.0)
        assert [(widget, names) for widget, names, _ in sent] == [
            (spectrum.line, ("y",)),
            (spectrum.band, ("y",)),
            (editor.areas["aperture"], ("x",)),
            (editor.handles[1], ("x",)),
        ]
        rows = spectrum.line.y.size
        assert sum(number for *_, number in sent) < 8 * (3 * rows + 20)  # three arrays and corners
    send(app.image, "dragend", UPPER + 0.5, 12.0)


def test_the_other_figure_and_the_text_follow_a_little_later(
    app: ExtractionApp, loop: Loop
) -> None:
    other, text = app.profile.editor.areas["aperture"], app.panel.status
    before = other.x.copy()
    send(app.image, "dragstart", UPPER, 12.0)
    for step in range(1, 4):
        send(app.image, "dragmove", UPPER + step, 12.0)
    np.testing.assert_array_equal(other.x, before)
    assert "width" not in text.value
    with messages() as sent:
        loop.end()
    assert {widget for widget, *_ in sent} == {other, app.profile.editor.handles[1], text}
    assert "width 11" in text.value
    send(app.image, "dragmove", UPPER + 4.0, 12.0)
    send(app.image, "dragend", UPPER + 5.0, 12.0)
    assert "width" not in text.value
    loop.end()
    assert other.x.max() == pytest.approx(UPPER + 5.0)
    assert "width" not in text.value


def test_a_drag_in_the_profile_draws_the_image_later(app: ExtractionApp, loop: Loop) -> None:
    image, height = app.image.editor.areas["aperture"], app.profile.editor.frame.at_height(0.3)
    before = image.x.copy()
    send(app.profile, "dragstart", UPPER, height)
    send(app.profile, "dragmove", UPPER + 1.0, height)
    np.testing.assert_array_equal(image.x, before)
    loop.end()
    assert image.x.max() == pytest.approx(UPPER + 1.0)
    send(app.profile, "keydown", key="Escape")
    np.testing.assert_array_equal(image.x, before)


def test_nothing_waits_when_the_application_is_closed(app: ExtractionApp, loop: Loop) -> None:
    send(app.image, "dragstart", UPPER, 12.0)
    send(app.image, "dragmove", UPPER + 1.0, 12.0)
    assert loop.waiting
    app.close()
    assert not loop.waiting
