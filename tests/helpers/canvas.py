"""Mouse and keyboard events on Matplotlib canvases without a toolkit."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import KeyEvent, MouseEvent


class Pointer:
    """A mouse and a keyboard on the canvas of an axes; places are in data coordinates."""

    def __init__(self, ax: Axes) -> None:
        self.ax = ax
        self.canvas: Any = ax.figure.canvas
        self.draws = 0
        self.canvas.mpl_connect("draw_event", self._count)

    def _count(self, event: Any) -> None:
        self.draws += 1

    def send(self, name: str, at: tuple[float, float], **more: Any) -> None:
        x, y = self.ax.transData.transform(at)
        MouseEvent(name, self.canvas, x, y, **more)._process()

    def press(self, at: tuple[float, float], **more: Any) -> None:
        self.send("button_press_event", at, button=1, **more)

    def move(self, at: tuple[float, float], pressed: bool = True, **more: Any) -> None:
        self.send("motion_notify_event", at, buttons=[1] if pressed else [], **more)

    def release(self, at: tuple[float, float], **more: Any) -> None:
        self.send("button_release_event", at, button=1, **more)

    def drag(self, *places: tuple[float, float], **more: Any) -> None:
        self.press(places[0], **more)
        for place in places[1:]:
            self.move(place, **more)
        self.release(places[-1], **more)

    def key(self, name: str) -> None:
        KeyEvent("key_press_event", self.canvas, name, *self.canvas.figure.bbox.size)._process()

    def pixels(self) -> np.ndarray:
        """The drawn pixels, without drawing."""
        return np.array(self.canvas.buffer_rgba())[..., :3]
