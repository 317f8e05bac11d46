"""Colours, labels and helper functions that all figures share."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from numbers import Real
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar

import numpy as np
from astropy import units as u
from matplotlib import pyplot

from glue_lrs.errors import LRSError, escaped, quoted
from glue_lrs.instrument import POORLY_CALIBRATED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from numpy.typing import NDArray

    from glue_lrs._utils.typing import Floats

    #: Figure to fill, or function that makes one.
    FigureSource: TypeAlias = Figure | SubFigure | Callable[..., Figure] | None

    #: Lower and upper limit of an axis, or None to keep the limits.
    AxisLimits: TypeAlias = tuple[float, float] | None

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Colours from the palette by Okabe and Ito (2008), which can be distinguished with all types of
# colour vision.
ORANGE, SKY, GREEN = "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, BLACK = "#0072B2", "#D55E00", "#CC79A7", "#000000"

#: Colours of overplotted spectra, except for a known spectrum, which is black and dashed.
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#666666")

APERTURE, BACKGROUND, BOX, BAD_PIXEL = VERMILION, BLUE, GREEN, PURPLE

#: Colour of the marks of values with quality bits.
FLAGGED = "0.45"

#: Colour of wavelengths at which the calibration is poor.
POOR = "0.8"

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


class Panels(dict[str, "Axes"]):
    """Axes of a figure with several panels, with the names of the panels as keys."""

    @property
    def figure(self) -> Figure:
        """Figure that contains the panels."""
        figure: Any = next(iter(self.values())).get_figure(root=True)
        return figure

    def __repr__(self) -> str:
        return f"<Panels {', '.join(self)}>"


def figure_or_new(figure: Any, size: tuple[float, float]) -> Any:
    """Return a figure to fill.

    Parameters
    ----------
    figure : `~matplotlib.figure.Figure`, SubFigure, callable or None
        Figure that is returned, or function such as the class `~matplotlib.figure.Figure` that
        makes one of keyword arguments; for None, this is `matplotlib.pyplot.figure`.
    size : (float, float)
        Width and height in inches of a new figure.
    """
    if figure is None:
        figure = pyplot.figure
    return figure(figsize=size, layout="constrained") if callable(figure) else figure


def no_figure_on_error(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make a function close the figures of pyplot that it has made when it raises an error.

    A notebook would show them, empty or incomplete.
    """

    @wraps(function)
    def plot(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        before = {*pyplot.get_fignums()}
        try:
            return function(*args, **kwargs)
        except BaseException:
            for number in {*pyplot.get_fignums()} - before:
                pyplot.close(number)
            raise

    return plot


def axes_or_current(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return `ax`, or the current axes of pyplot if it is None.

    If pyplot has no figure, one of `size` inches is made.
    """
    if ax is None and not pyplot.get_fignums():
        figure_or_new(None, size)
    return pyplot.gca() if ax is None else ax


def check_limits(xlim: Any, ylim: Any, wavelength: Floats | None = None) -> None:
    """Raise `LRSError` if limits are no pairs of numbers, or show none of the wavelengths.

    Parameters
    ----------
    xlim, ylim : object
        Limits of the axes, or None.
    wavelength : ndarray, optional
        Wavelengths in micron along x.
    """
    for name, limits in (("xlim", xlim), ("ylim", ylim)):
        if limits is None:
            continue
        pair = [limits] if isinstance(limits, str) or np.ndim(limits) == 0 else list(limits)
        if len(pair) != 2 or not all(
            isinstance(one, Real) and np.isfinite(float(one)) for one in pair
        ):
            raise LRSError(f"{name} is {quoted(limits)}, expected two numbers")
    known = np.array([]) if wavelength is None else wavelength[np.isfinite(wavelength)]
    if xlim is not None and known.size:
        low, high = sorted(xlim)
        if low > known.max() or high < known.min():
            span = f"{known.min():.2f} to {known.max():.2f} micron"
            raise LRSError(f"xlim is {low:g} to {high:g}, expected some of the data, {span}")


def column_name(column: object) -> str:
    """Return the name of a column in upper case, or raise `LRSError` if it is not a text."""
    if not isinstance(column, str):
        raise LRSError(f"column is {quoted(column)}, expected a name such as 'FLUX'")
    return column.upper()


def set_limits(ax: Axes, xlim: AxisLimits, ylim: AxisLimits) -> None:
    """Set the limits of axes that are given."""
    if xlim is not None:
        ax.set_xlim(xlim)
    if ylim is not None:
        ax.set_ylim(ylim)


def mark_poorly_calibrated(
    ax: Axes, wavelength: Floats, shown: AxisLimits = None, *, label: bool = True
) -> None:
    """Shade the wavelengths of `POORLY_CALIBRATED` if a spectrum covers any that are shown.

    Parameters
    ----------
    ax : `~matplotlib.axes.Axes`
        Axes with the wavelength in micron along x.
    wavelength : ndarray
        Wavelengths of the spectra in micron.
    shown : (float, float), optional
        Limits of the axis; by default, all wavelengths are shown.
    label : bool
        Whether the shade has an entry in the legend.
    """
    low, high = POORLY_CALIBRATED
    first, last = (-np.inf, np.inf) if shown is None else sorted(shown)
    poor = (wavelength >= low) & (wavelength < high)
    if np.any(poor & (wavelength >= first) & (wavelength <= last)):
        text = f"{low:g} to {high:g} µm: poorly calibrated" if label else None
        ax.axvspan(low, high, fc="none", ec=POOR, hatch="///", lw=0.6, zorder=0, label=text)


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


def draw_steps(
    ax: Axes,
    columns: NDArray[Any],
    values: Floats,
    errors: Floats,
    *,
    colour: str = BLACK,
    error_colour: str = "0.35",
    label: str | None = None,
) -> None:
    """Draw the values of pixels as steps with error bars, and a line at 0."""
    edges = np.append(columns - 0.5, columns[-1] + 0.5)
    ax.stairs(values, edges, baseline=None, color=colour, lw=1.0, label=label)
    ax.errorbar(columns, values, errors, fmt="none", ecolor=error_colour, elinewidth=0.8)
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
    """Return ticks for an axis with Matplotlib's asinh scale, as described in `round_ticks`.

    `linear_width` is the parameter of the scale.
    """
    return round_ticks(low, high, lambda value: float(np.arcsinh(value / linear_width)), gap)


def round_ticks(
    low: float, high: float, position: Callable[[float], float], gap: float = 0.15
) -> list[float]:
    """Return about five round values as ticks of an axis, including 0 if it is in range.

    Parameters
    ----------
    low, high : float
        Limits of the axis.
    position : callable
        Monotonic function that returns the position of a value on the axis, in any unit.
    gap : float
        Minimum distance between two ticks as a fraction of the length of the axis.
    """
    distance = gap * abs(position(high) - position(low))
    steps = [step * 10.0**power for power in range(9, -10, -1) for step in (5.0, 2.0, 1.0)]
    ticks: list[float] = []
    for value in [0.0, *(sign * step for step in steps for sign in (1.0, -1.0))]:
        if low <= value <= high and all(
            abs(position(value) - position(tick)) > distance for tick in ticks
        ):
            ticks.append(value)
    return sorted(ticks)
