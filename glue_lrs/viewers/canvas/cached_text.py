"""CachedText: a short text that is drawn from cached images of its letters.

Matplotlib renders every letter again when a text changes, which takes 5 ms for three short lines in
version 3.11. This is too slow for a label that follows the mouse. A `CachedText` renders each
letter once and then copies its image.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.colors import to_rgba
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from glue_lrs.viewers.canvas.blitting import root_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.transforms import Transform
    from matplotlib.typing import ColorType

    from glue_lrs.viewers.canvas.blitting import Layer

#: Distance between baselines relative to the font size.
_LEADING = 1.3

#: Padding of the box around the text relative to the font size.
_PADDING = 0.35

_SAMPLE = "x"

#: Position of the reference point for each alignment, as a fraction of the box size from the
#: left or the bottom.
_ALIGNMENTS = {"left": 0.0, "bottom": 0.0, "center": 0.5, "right": 1.0, "top": 1.0}


class _Glyph(NamedTuple):
    """Image of a letter.

    ``coverage`` is the opacity (0 to 255) of the pixels in all rows of the line. ``left`` is the
    first column relative to the start of the letter, and ``advance`` the distance in pixels to the
    start of the next letter.
    """

    coverage: NDArray[np.uint8]
    left: int
    advance: float


@lru_cache(maxsize=2048)
def _glyph(letter: str, font: FontProperties, dpi: float) -> _Glyph:
    """Render a letter as Matplotlib does, cropped to the columns that it covers."""
    size = font.get_size_in_points() * dpi / 72.0
    height, below = _line(size)
    margin = int(np.ceil(size))
    renderer = RendererAgg(4 * margin, height, dpi)
    context = renderer.new_gc()
    context.set_foreground("black")
    renderer.draw_text(context, margin, height - below, letter, font, 0.0)
    coverage = np.array(renderer.buffer_rgba())[..., 3]
    # Measure the width between two other letters, because a blank alone has no extent.
    width = renderer.get_text_width_height_descent
    padded = width(_SAMPLE + letter + _SAMPLE, font, False)[0]
    advance = padded - width(_SAMPLE + _SAMPLE, font, False)[0]
    used = np.flatnonzero(coverage.any(axis=0))
    if used.size == 0:
        return _Glyph(coverage[:, :0], 0, float(advance))
    cut = slice(int(used[0]), int(used[-1]) + 1)
    return _Glyph(coverage[:, cut].copy(), cut.start - margin, float(advance))


def _line(size: float) -> tuple[int, int]:
    """Return the height of a line, and the height of its part below the baseline, in pixels."""
    return round(_LEADING * size), round(0.35 * size)


class CachedText(Text):
    """Text in a box, with one or more lines, that is redrawn quickly after a change.

    The text is horizontal and has one colour. Mathematical notation is not supported.

    Parameters
    ----------
    *args, **kwargs
        Arguments for `~matplotlib.text.Text`. The alignments `ha` and `va` refer to the box.
    edge : colour, optional
        Colour of the edge of the box; no edge by default.
    """

    def __init__(self, *args: Any, edge: ColorType | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._edge = edge
        face = {"boxstyle": f"square,pad={_PADDING}", "fc": "white", "alpha": 0.9, "lw": 0.7}
        # On renderers other than Agg, Matplotlib draws the text and this box.
        self.set_bbox(face | {"ec": "none" if edge is None else edge})

    def size(self, dpi: float) -> tuple[int, int]:
        """Return the width and the height of the box in pixels."""
        image = self._image(dpi)
        return image.shape[1], image.shape[0]

    def draw(self, renderer: RendererBase) -> None:
        """Draw the box and the text."""
        if not self.get_visible() or not self.get_text():
            return
        if not isinstance(renderer, RendererAgg):
            super().draw(renderer)
            return
        image = self._image(renderer.dpi)
        height, width = image.shape[:2]
        x, y = self.get_transform().transform(self.get_unitless_position())
        x -= _ALIGNMENTS[self.get_horizontalalignment()] * width
        y -= _ALIGNMENTS.get(self.get_verticalalignment(), 0.0) * height
        context = renderer.new_gc()
        renderer.draw_image(context, round(x), round(y), image)
        context.restore()
        self.stale = False

    def _image(self, dpi: float) -> NDArray[np.uint8]:
        """Return the box and the text as an RGBA image, with the bottom row first."""
        font = self.get_fontproperties()
        size = font.get_size_in_points() * dpi / 72.0
        height, _ = _line(size)
        pad, top = round(_PADDING * size), round(0.2 * size)
        lines = [[_glyph(c, font, dpi) for c in line] for line in self.get_text().split("\n")]
        width = max(sum(glyph.advance for glyph in line) for line in lines)
        coverage = np.zeros((len(lines) * height + top, int(np.ceil(width)) + 2 * pad), np.uint8)
        for number, line in enumerate(lines):
            pixels, x = coverage[top + number * height :][:height], float(pad)
            for glyph in line:
                first = max(round(x) + glyph.left, 0)
                target = pixels[:, first : first + glyph.coverage.shape[1]]
                np.maximum(target, glyph.coverage[:, : target.shape[1]], out=target)
                x += glyph.advance
        ink = (coverage / 255.0)[..., np.newaxis]
        colour = np.array(to_rgba(self.get_color()))
        paper = np.full((*coverage.shape, 4), (1.0, 1.0, 1.0, 0.9))
        if self._edge is not None:
            paper[[0, -1]] = paper[:, [0, -1]] = to_rgba(self._edge)
        made = np.rint(255.0 * (paper + (colour - paper) * ink)).astype(np.uint8)
        return np.ascontiguousarray(made[::-1])


#: Font size of a heading, and the height that it takes, both in points.
_HEADING, _HEADING_HEIGHT = 9.0, 15.0


def heading(layer: Layer) -> CachedText:
    """Add a line of text above the axes of a layer, where it covers no data, and return it."""
    text = CachedText(0.0, 1.0, "", ha="left", va="bottom", fontsize=_HEADING)
    return layer.put(text, transform=layer.home.transAxes, clip=False, above=True)


def above_heading(axes: Axes) -> Transform:
    """Return the coordinates of axes, shifted by the height of the heading."""
    scale = root_figure(axes).dpi_scale_trans
    return axes.transAxes + ScaledTranslation(0.0, _HEADING_HEIGHT / 72.0, scale)
