"""Colours, labels and helper functions that all figures share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from matplotlib.figure import Figure

from glue_lrs.errors import escaped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from glue_lrs._utils.typing import Floats

# Colours from the palette by Okabe and Ito (2008), which can be distinguished with all types of
# colour vision.
ORANGE, SKY, GREEN = "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, BLACK = "#0072B2", "#D55E00", "#CC79A7", "#000000"

#: Colours of overplotted spectra, except for a known spectrum, which is black and dashed.
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#666666")

APERTURE, BACKGROUND, BOX, BAD_PIXEL = VERMILION, BLUE, GREEN, PURPLE

#: Colour of the marks of values with quality bits.
FLAGGED = "0.45"

#: Background colour of images, visible where there are no data.
NO_DATA = "#E8E8E8"

#: Colour and label of each kind of source (`DetectedSource.kind`).
SOURCES = {
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
    """Return `figure`; if it is None, return a new figure of `size` inches, without pyplot."""
    return Figure(figsize=size, layout="constrained") if figure is None else figure


def axes_or_new(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return `ax`; if it is None, return the axes of a new figure of `size` inches."""
    return figure_or_new(None, size).subplots() if ax is None else ax


#: Options for `add_legend` that put the legend above the axes, as images leave no room inside.
ABOVE: dict[str, Any] = {
    "loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 2, "handlelength": 1.6,
    "columnspacing": 1.0, "borderaxespad": 0.2,
}  # fmt: skip


def add_legend(ax: Axes, **options: Any) -> None:
    """Add a legend with one entry for each different label, unless there are no labels.

    `options` are keyword arguments of `~matplotlib.axes.Axes.legend`.
    """
    handles, labels = ax.get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))
    if entries:
        style = {"frameon": False, "fontsize": "small", **options}
        ax.legend(list(entries.values()), list(entries), **style)


def draw_steps(ax: Axes, columns: NDArray[Any], values: Floats, errors: Floats) -> None:
    """Draw the values of pixels as steps with error bars, and a line at 0."""
    edges = np.append(columns - 0.5, columns[-1] + 0.5)
    ax.stairs(values, edges, baseline=None, color=BLACK, lw=1.0)
    ax.errorbar(columns, values, errors, fmt="none", ecolor="0.35", elinewidth=0.8)
    ax.axhline(0.0, color="0.6", lw=0.7, zorder=0)
    ax.set_xlim(edges[0], edges[-1])


def scaled_axis(ax: Axes, factor: float, label: str) -> None:
    """Add an axis on the right whose values are `factor` times the values on the left."""
    convert = (lambda value: np.multiply(value, factor), lambda value: np.divide(value, factor))
    ax.secondary_yaxis("right", functions=convert).set_ylabel(label)


@contextmanager
def no_nan_warnings() -> Iterator[None]:
    """Suppress the warnings from NumPy about rows or columns that are all NaN."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def plain_text(text: str) -> str:
    r"""Escape "$", which begins a formula in Matplotlib, and characters that no font has."""
    return escaped(text).replace("$", r"\$")


def unit_label(unit: str | u.UnitBase | None) -> str:
    """Return a compact label for a unit, or an empty string for None."""
    return "" if unit is None else f"{u.Unit(unit)}".replace(" ", "").replace("um", "µm")


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
