"""Function that draws the spectra of a stack of integrations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glue_lrs._utils.validation import check_type
from glue_lrs.errors import LRSError
from glue_lrs.plotting import style
from glue_lrs.plotting.spectra import axis_label, draw_series, flux_scale, focus, series
from glue_lrs.plotting.style import Panels
from glue_lrs.spectra.extraction import Extraction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from glue_lrs._utils.typing import Floats
    from glue_lrs.plotting.style import AxisLimits, FigureSource


@style.no_figure_on_error
def plot_stack(
    extraction: Extraction,
    *,
    column: str = "FLUX",
    xlim: AxisLimits = None,
    ylim: AxisLimits = None,
    figure: FigureSource = None,
    title: str | None = None,
) -> Panels:
    """Draw the spectra of a stack of integrations: median, variation with time, light curve.

    Parameters
    ----------
    extraction : Extraction
        Stack of spectra of shape (integration, n_wave).
    column : str
        Name of the column to draw.
    xlim, ylim : (float, float), optional
        Limits of the wavelength in micron, and of the median spectrum in the unit of its label.
    figure : `~matplotlib.figure.Figure`, SubFigure or callable, optional
        Figure to fill, or function that makes it (`glue_lrs.plotting.style.figure_or_new`).
    title : str, optional
        Title above the median spectrum.

    Returns
    -------
    dict of `~matplotlib.axes.Axes`
        Axes of three panels: ``"median"``, the median spectrum with the scatter of the
        integrations, ``"variation"``, the ratio of each integration to the median spectrum, and
        ``"light curve"``, the sum over wavelength of each integration. Its attribute ``figure`` is
        the figure.

    Raises
    ------
    LRSError
        If `extraction` is not a stack or lacks the column.
    """
    check_type("extraction", extraction, Extraction, "an Extraction")
    if not extraction.is_stack:
        raise LRSError("a single spectrum has no integrations to compare, expected a stack")
    column = style.column_name(column)
    style.check_limits(xlim, ylim, extraction.wavelength)
    middle = series(extraction, column, None)
    made = style.figure_or_new(figure, (10.0, 7.0))
    grid = made.add_gridspec(2, 2, width_ratios=(2.6, 1), height_ratios=(1, 1.1))
    top = made.add_subplot(grid[0, 0])
    picture = made.add_subplot(grid[1, 0], sharex=top)
    curve = made.add_subplot(grid[1, 1])
    wave, median = middle.wavelength, middle.values
    factor, unit = flux_scale(median, extraction.units.get(column))
    good = ~extraction.mask
    values = np.where(good, np.asarray(extraction.columns[column], dtype=float), np.nan)
    with style.no_nan_warnings():
        low, high = factor * np.nanpercentile(values, [16, 84], axis=0)
    top.fill_between(wave, low, high, color=style.BLUE, alpha=0.3, lw=0, label="16 to 84 %")
    style.mark_poorly_calibrated(top, wave)
    draw_series(top, middle, factor, style.BLUE, "median")
    focus(top, [median * factor])
    top.set_ylabel(axis_label(column, unit))
    style.add_legend(top, ncols=2)
    title = style.plain_text(title or f"{values.shape[0]} integrations")
    top.set_title(title, fontsize="medium", loc="left")
    top.grid(alpha=0.25)
    _draw_variation(picture, wave, values, median)
    _draw_light_curve(curve, values[:, good.all(axis=0)])
    curve.set_ylim(picture.get_ylim())
    for ax in (picture, curve):
        ax.set_ylabel("integration")
        ax.locator_params(axis="y", integer=True)
    style.set_limits(top, xlim, ylim)
    return Panels({"median": top, "variation": picture, "light curve": curve})


def _draw_variation(ax: Axes, wave: Floats, values: Floats, median: Floats) -> None:
    """Draw each integration divided by the median spectrum."""
    with style.no_nan_warnings():
        relative = values / median
        spread = float(np.nanpercentile(np.abs(relative - 1.0), 90))
    spread = spread if np.isfinite(spread) and spread > 0 else 0.01
    edges = np.arange(values.shape[0] + 1) + 0.5
    mesh = ax.pcolormesh(
        _bin_edges(wave), edges, relative,
        cmap="PuOr_r", vmin=1 - spread, vmax=1 + spread, rasterized=True,
    )  # fmt: skip
    ax.set_facecolor(style.NO_DATA)
    ax.set_xlabel("wavelength [µm]")
    ax.figure.colorbar(
        mesh, ax=ax, location="bottom", pad=0.02, fraction=0.06, aspect=40,
        label="ratio to the median spectrum",
    )  # fmt: skip


def _draw_light_curve(ax: Axes, values: Floats) -> None:
    """Draw the sum over wavelength for each integration, relative to the median sum.

    `values` holds only the wavelengths that are usable in all integrations, because a masked value
    would look like a dip in the light curve.
    """
    white = values.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = white / np.median(white)
    ax.plot(relative, np.arange(1, white.size + 1), "o-", color=style.VERMILION, ms=3, lw=0.8)
    ax.set_xlabel("sum over wavelength / median")
    ax.ticklabel_format(useOffset=False)
    ax.tick_params(axis="x", rotation=30)
    ax.grid(alpha=0.25)


def _bin_edges(centres: Floats) -> Floats:
    """Return the edges of bins with the given centres."""
    if centres.size == 1:
        return np.array([centres[0] - 0.01, centres[0] + 0.01])
    middle = (centres[1:] + centres[:-1]) / 2.0
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])
