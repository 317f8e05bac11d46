"""Colours, labels and helper functions for axes that all figures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Colours from the palette by Okabe and Ito (2008), which can be distinguished with all types of
# colour vision.
ORANGE, SKY, GREEN = "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, BLACK = "#0072B2", "#D55E00", "#CC79A7", "#000000"

#: Colours of overplotted spectra. A known spectrum for comparison is drawn in black and dashed.
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#666666")

APERTURE_STYLE, BACKGROUND_STYLE, BOX_STYLE, BAD_PIXEL_STYLE = VERMILION, BLUE, GREEN, PURPLE

#: Background colour of images, visible where there are no data.
NO_DATA = "#E8E8E8"

#: Colour and label of each kind of source (`DetectedSource.kind`).
SOURCE_STYLES = {
    "target": (VERMILION, "target"),
    "source": (ORANGE, "another source"),
    "negative": (BLUE, "negative trace"),
}

COLUMN_LABELS = {
    "FLUX": "flux",
    "SURF_BRIGHT": "surface brightness",
    "BACKGROUND": "background",
    "NPIXELS": "pixels used",
}


def figure_or_new(figure: Any, size: tuple[float, float]) -> Figure:
    """Return `figure`, or a new figure of `size` inches, made without pyplot, if it is None."""
    return Figure(figsize=size, layout="constrained") if figure is None else figure


def axes_or_new(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return `ax`, or the axes of a new figure of `size` inches if it is None."""
    return figure_or_new(None, size).subplots() if ax is None else ax


def legend_above(ax: Axes, handles: Sequence[Artist]) -> None:
    """Add a legend above the axes, because an image leaves no free space inside."""
    ax.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False,
        fontsize="small", handlelength=1.6, columnspacing=1.0, borderaxespad=0.2,
    )  # fmt: skip


def legend_below(ax: Axes, handles: Sequence[Artist]) -> None:
    """Add a legend below the axis label, unless there are no handles."""
    if handles:
        ax.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=2, frameon=False,
            fontsize="small", columnspacing=1.0,
        )  # fmt: skip


def plain_text(text: str) -> str:
    r"""Escape "$", with which Matplotlib marks formulas, and characters that cannot be encoded."""
    return text.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")


def unit_label(unit: Any) -> str:
    """Return a compact label for a unit, or an empty string if it is None."""
    if unit is None:
        return ""
    text: str = u.Unit(unit).to_string()
    return text.replace(" ", "").replace("um", "µm")


def asinh_ticks(low: float, high: float, linear_width: float, gap: float = 0.15) -> list[float]:
    """Return about five round values as ticks for an asinh axis, including 0 if it is in range.

    Parameters
    ----------
    low, high : float
        Limits of the axis.
    linear_width : float
        Parameter ``linear_width`` of Matplotlib's asinh scale.
    gap : float
        Minimum distance between two ticks as a fraction of the length of the axis.
    """

    def position(value: float) -> float:
        return float(np.arcsinh(value / linear_width))

    distance = gap * (position(high) - position(low))
    steps = [step * 10.0**power for power in range(9, -10, -1) for step in (5.0, 2.0, 1.0)]
    ticks: list[float] = []
    for value in [0.0, *(sign * step for step in steps for sign in (1.0, -1.0))]:
        if low <= value <= high and all(
            abs(position(value) - position(tick)) > distance for tick in ticks
        ):
            ticks.append(value)
    return sorted(ticks)
