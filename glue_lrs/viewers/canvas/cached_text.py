"""CachedText: a few words beside the mouse, drawn from letters that were drawn before.

Matplotlib renders every letter of a changed text anew (3.11 takes 5 ms for three short lines), too
long for numbers that follow a mouse. Here each letter is rendered once and then copied.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_rgba
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from numpy.typing import NDArray

__all__ = ["CachedText"]

#: Distance of baselines over the size of the font.
_LEADING = 1.3

#: Space around the words over the size of the font.
_PADDING = 0.35

_SAMPLE = "x"


class _Glyph(NamedTuple):
    """Coverage of a letter's pixels (0 to 255), as high as its line, and where the next begins."""

    coverage: NDArray[np.uint8]
    left: int
    advance: float


@lru_cache(maxsize=2048)
def _glyph(letter: str, font: FontProperties, dpi: float) -> _Glyph:
    """Render a letter as Matplotlib does; the columns that it covers."""
    size = font.get_size_in_points() * dpi / 72.0
    height, below = _line(size)
    margin = int(np.ceil(size))
    renderer = RendererAgg(4 * margin, height, dpi)
    context = renderer.new_gc()
    context.set_foreground("black")
    renderer.draw_text(context, margin, height - below, letter, font, 0.0)
    coverage = np.array(renderer.buffer_rgba())[..., 3]
    # Between two others: a blank has no extent of its own.
    width = renderer.get_text_width_height_descent
    beside = width(_SAMPLE + letter + _SAMPLE, font, False)[0]
    advance = beside - width(_SAMPLE + _SAMPLE, font, False)[0]
    used = np.flatnonzero(coverage.any(axis=0))
    if used.size == 0:
        return _Glyph(coverage[:, :0], 0, float(advance))
    cut = slice(int(used[0]), int(used[-1]) + 1)
    return _Glyph(coverage[:, cut].copy(), cut.start - margin, float(advance))


def _line(size: float) -> tuple[int, int]:
    """Height of a line and of what of it is below the baseline, in pixels."""
    return round(_LEADING * size), round(0.35 * size)


class CachedText(Text):
    """A text of one or more lines in a box that is cheap to change.

    Parameters are those of `~matplotlib.text.Text`; `ha` and `va` place the box and not the words.
    It is drawn level, in one colour, without mathematics.

    Parameters
    ----------
    edge : colour, optional
        Colour of the box's edge; none by default.
    """

    def __init__(self, *args: Any, edge: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._edge = edge
        face = {"boxstyle": f"square,pad={_PADDING}", "fc": "white", "alpha": 0.9, "lw": 0.7}
        self.set_bbox(face | {"ec": "none" if edge is None else edge})  # where it is not quick

    def size(self, dpi: float) -> tuple[int, int]:
        """Width and height of the box in pixels."""
        image = self._image(dpi)
        return image.shape[1], image.shape[0]

    def draw(self, renderer: Any) -> None:
        """Draw the box and the words."""
        if not self.get_visible() or not self.get_text():
            return
        if not isinstance(renderer, RendererAgg):
            super().draw(renderer)
            return
        image = self._image(renderer.dpi)
        height, width = image.shape[:2]
        x, y = self.get_transform().transform(self.get_unitless_position())
        x -= {"left": 0.0, "center": 0.5, "right": 1.0}[self.get_horizontalalignment()] * width
        y -= {"bottom": 0.0, "center": 0.5, "top": 1.0}.get(
            self.get_verticalalignment(), 0
        ) * height
        context = renderer.new_gc()
        renderer.draw_image(context, round(x), round(y), image)
        context.restore()
        self.stale = False

    def _image(self, dpi: float) -> NDArray[np.uint8]:
        """The box and the words as RGBA, the lowest row first."""
        font = self.get_fontproperties()
        size = font.get_size_in_points() * dpi / 72.0
        height, _ = _line(size)
        pad, top = round(_PADDING * size), round(0.2 * size)
        lines = [[_glyph(c, font, dpi) for c in line] for line in self.get_text().split("\n")]
        width = max(sum(glyph.advance for glyph in line) for line in lines)
        words = np.zeros((len(lines) * height + top, int(np.ceil(width)) + 2 * pad), np.uint8)
        for number, line in enumerate(lines):
            part, at = words[top + number * height :][:height], float(pad)
            for glyph in line:
                first = max(round(at) + glyph.left, 0)
                here = part[:, first : first + glyph.coverage.shape[1]]
                np.maximum(here, glyph.coverage[:, : here.shape[1]], out=here)
                at += glyph.advance
        ink = (words / 255.0)[..., np.newaxis]
        colour = np.array(to_rgba(self.get_color()))
        paper = np.empty((*words.shape, 4))
        paper[:] = (1.0, 1.0, 1.0, 0.9)
        if self._edge is not None:
            edge = to_rgba(self._edge)
            paper[[0, -1]] = edge
            paper[:, [0, -1]] = edge
        made = np.rint(255.0 * (paper + (colour - paper) * ink)).astype(np.uint8)
        return np.ascontiguousarray(made[::-1])
