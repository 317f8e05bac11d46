"""A browser that shows canvases of ipympl: it sends events, and asks for announced draws."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from ipywidgets.widgets import widget


class Browser:
    """The canvases of an application, with events at places in data coordinates."""

    def __init__(self, app: Any) -> None:
        self.figures = [app.image, app.spectrum_viewer, app.profile]
        self.draws = dict.fromkeys(self.figures, 0)
        self.frames = dict.fromkeys(self.figures, 0)
        self._waiting = dict.fromkeys(self.figures, False)
        for figure in self.figures:
            self._listen(figure)
            for kind in ("refresh", "send_image_mode", "initialized"):
                self._message(figure, {"type": kind})
        self.settle()
        self.reset()

    def _listen(self, figure: Any) -> None:
        def sent(content: dict[str, Any], buffers: Any = None) -> None:
            kind = json.loads(content["data"])["type"]
            self.frames[figure] += kind == "binary"
            self._waiting[figure] |= kind == "draw"

        figure.canvas.send = sent

    def _message(self, figure: Any, content: dict[str, Any]) -> None:
        data = {"method": "custom", "content": content}
        figure.canvas.comm.handle_msg({"content": {"data": data}, "buffers": []})

    def reset(self) -> None:
        """Count draws and frames from now on."""
        self.draws = dict.fromkeys(self.figures, 0)
        self.frames = dict.fromkeys(self.figures, 0)

    def settle(self) -> None:
        """Ask for the draws that the canvases have announced."""
        while any(self._waiting.values()):
            for figure, waiting in self._waiting.items():
                if waiting:
                    self._waiting[figure] = False
                    self.draws[figure] += 1
                    self._message(figure, {"type": "draw"})

    def send(self, figure: Any, kind: str, x: float, y: float, **more: Any) -> None:
        """Send an event of the mouse; by default the left button is pressed."""
        right, up = figure.axes.transData.transform((x, y))
        place = {"x": float(right), "y": float(figure.figure.bbox.height - up)}
        event = {"type": kind, "button": 0, "buttons": 1, "modifiers": [], "guiEvent": {}}
        self._message(figure, {**event, **place, "step": 0, **more})
        self.settle()

    def drag(self, figure: Any, *places: tuple[float, float], **more: Any) -> None:
        """Press at the first place, move over the others, and release at the last."""
        self.send(figure, "button_press", *places[0], **more)
        for place in places[1:]:
            self.send(figure, "motion_notify", *place, **more)
        self.send(figure, "button_release", *places[-1], **{"buttons": 0, **more})

    def double_click(self, figure: Any, x: float, y: float) -> None:
        """Click twice; the browser reports the double click after both clicks."""
        self.drag(figure, (x, y))
        self.drag(figure, (x, y))
        self.send(figure, "dblclick", x, y, buttons=0)

    def press(self, figure: Any, *keys: str) -> None:
        """Press and release keys, named as ipympl does, such as ``shift+kArrowLeft``."""
        for key in keys:
            for kind in ("key_press", "key_release"):
                self._message(figure, {"type": kind, "key": key, "guiEvent": {}})
        self.settle()

    def tool(self, figure: Any, name: str) -> None:
        """Press a button of the toolbar."""
        self._message(figure, {"type": "toolbar_button", "name": name})
        self.settle()


def seen(figure: Any, x: float, y: float = 0.0) -> np.ndarray:
    """Place that Matplotlib reports for the mouse: that of an integer pixel."""
    pixel = figure.axes.transData.transform((x, y)).astype(int)
    return np.asarray(figure.axes.transData.inverted().transform(pixel))


def moved(figure: Any, start: float, stop: float) -> float:
    """Columns between two places of the mouse."""
    return float(seen(figure, stop)[0] - seen(figure, start)[0])


def open_widgets() -> tuple[str, ...]:
    """The identifiers of all widgets that are open, also of those that other tests have left."""
    return tuple(widget._instances)
