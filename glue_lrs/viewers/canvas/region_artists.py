"""Artists of a region: patch, edges, handles and text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

__all__ = ["DIGITS", "RegionArtists", "edges_and_pixels", "limits_text", "plain_number"]

#: Digits of a position that a hand has set.
DIGITS = 2


def limits_text(lower: float, upper: float) -> str:
    """Edges as positions and as inclusive pixel numbers, which differ by half a pixel.

    Parameters
    ----------
    lower, upper : float
        Positions of the edges: pixel i reaches from i - 0.5 to i + 0.5.

    Examples
    --------
    >>> limits_text(26.5, 34.5)
    'edges 26.50 .. 34.50 (pixels 27 to 34)'
    """
    edges, pixels = edges_and_pixels(lower, upper)
    return f"{edges} ({pixels})"


def edges_and_pixels(lower: float, upper: float) -> tuple[str, str]:
    first, last = (f"{plain_number(value)}" for value in (lower + 0.5, upper - 0.5))
    return (
        f"edges {plain_number(lower, False)} .. {plain_number(upper, False)}",
        f"pixels {first} to {last}",
    )


def plain_number(value: float, short: bool = True) -> str:
    text = f"{value + 0.0:.{DIGITS}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.rstrip("0").rstrip(".") if short else text


class RegionArtists:
    """The artists of one region."""

    def __init__(self, put: Callable[..., Any], clip: bool = True) -> None:
        self.fill = put(Polygon(np.zeros((2, 2)), closed=True, lw=0))
        # White beside the colour: seen on dark and on light.
        self.casing = put(Line2D([], [], color="white", alpha=0.75, solid_capstyle="butt"))
        self.edges = put(Line2D([], [], solid_capstyle="butt"))
        self.hot = put(Line2D([], [], solid_capstyle="butt"))
        self.handles = [
            put(Line2D([], [], ls="", marker=marker, mew=1.2), screen_only=True)
            for marker in ("s", "o", "D", "s")  # body, edges, ends, the one under the mouse
        ]

    @property
    def all(self) -> list[Any]:
        return [self.fill, self.casing, self.edges, self.hot, *self.handles]
