"""Figure of light curves: the white one, its residuals, the bins, and the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import LogFormatter

from glue_lrs._utils.validation import check_type
from glue_lrs.plotting import style
from glue_lrs.timeseries.curve import LightCurve
from glue_lrs.timeseries.noise import allan_deviation, neighbour_differences

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from glue_lrs._utils.typing import Array
    from glue_lrs.plotting.style import FigureSource

#: Number of points above which means of neighbouring points are drawn, too, and number of means.
_MANY, _MEANS = 500, 100

_PPM = 1e6


@style.no_figure_on_error
def plot_light_curve(
    curve: LightCurve,
    *,
    allan: bool = False,
    figure: FigureSource = None,
    title: str | None = None,
) -> style.Panels:
    """Draw light curves against time, and their noise beside the photon limit.

    Parameters
    ----------
    curve : LightCurve
        Light curves.
    allan : bool
        Whether to draw the Allan deviation of the white light curve: its noise when several points
        are averaged.
    figure : `~matplotlib.figure.Figure` or callable, optional
        Figure to fill, or function that makes it (`glue_lrs.plotting.style.figure_or_new`).
    title : str, optional
        Title above the white light curve.

    Returns
    -------
    dict of `~matplotlib.axes.Axes`
        Axes of the panels ``"white"`` (the white light curve with its errors, relative to the
        median of the points, or of those out of transit if they are known) and ``"differences"``
        (of neighbouring points, scaled to the noise of a point); if there are bins, ``"bins"``
        (their relative light curves as an image) and ``"scatter"`` (against wavelength); if
        requested, ``"allan"``. The attribute ``figure`` is the figure.
    """
    check_type("curve", curve, LightCurve, "a LightCurve")
    bins = len(curve.edges) > 1
    size = (11.0 if bins or allan else 8.0, 7.5 if bins else 5.5)
    made: Figure = style.figure_or_new(figure, size)
    heights = (2.0, 1.0, 1.8) if bins else (2.0, 1.0)
    side = [name for name, shown in (("scatter", bins), ("allan", allan)) if shown]
    grid = made.add_gridspec(1, 2 if side else 1, width_ratios=(1.9, 1) if side else None)
    left = grid[0, 0].subgridspec(len(heights), 1, height_ratios=heights)
    white = made.add_subplot(left[0])
    panels = style.Panels(white=white, differences=made.add_subplot(left[1], sharex=white))
    zero = float(np.floor(curve.time.mjd[0]))
    days = curve.time.mjd - zero
    _draw_white(white, curve, days)
    white.set_title(style.plain_text(title or _title(curve)), fontsize="medium", loc="left")
    _draw_differences(panels["differences"], curve, days)
    if bins:
        panels["bins"] = made.add_subplot(left[2], sharex=white)
        _draw_bins(panels["bins"], curve, days)
    *upper, bottom = panels.values()
    for ax in upper:
        ax.tick_params(labelbottom=False)
    bottom.set_xlabel(f"time [days since {curve.time_label} {zero:.0f}]")
    if side:
        right = grid[0, 1].subgridspec(len(side), 1)
        for place, name in enumerate(side):
            panels[name] = made.add_subplot(right[place])
            draw = _draw_scatter if name == "scatter" else _draw_allan
            draw(panels[name], curve)
    return panels


def _title(curve: LightCurve) -> str:
    cards = (curve.header.get(card) for card in ("TARGNAME", "TARGPROP"))
    return str(next(filter(None, cards), "light curve"))


def _draw_white(ax: Axes, curve: LightCurve, days: Array) -> None:
    """Draw the white light curve with its errors, relative to its level."""
    flux, error = curve.flux[:, 0] / curve.level[0], curve.error[:, 0] / curve.level[0]
    low, high = curve.edges[0]
    many = flux.size > _MANY
    colour = "0.65" if many else style.BLUE
    ax.errorbar(
        days, flux, np.nan_to_num(error), fmt=".", color=colour, ms=2 if many else 5,
        elinewidth=0.4 if many else 0.9, label=f"{low:g} to {high:g} µm",
    )  # fmt: skip
    if many:
        size = int(np.ceil(flux.size / _MEANS))
        at, mean, sigma = _means(days, flux, error, size)
        ax.errorbar(
            at, mean, sigma, fmt="o", color=style.BLUE, ms=3.5, elinewidth=1.0,
            label=f"means of {size} points",
        )  # fmt: skip
    if curve.out_of_transit is not None:
        ax.fill_between(
            days, 0.0, 1.0, where=curve.out_of_transit.tolist(), step="mid", lw=0,
            transform=ax.get_xaxis_transform(), color=style.GREEN, alpha=0.12,
            label="out of transit",
        )  # fmt: skip
    ax.ticklabel_format(useOffset=False)
    ax.set_ylabel("relative flux")
    ax.grid(alpha=0.25)
    style.add_legend(ax, ncols=3, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)


def _means(days: Array, flux: Array, error: Array, size: int) -> tuple[Array, Array, Array]:
    """Return the means of `size` neighbouring points, and their errors."""
    starts = np.arange(0, flux.size, size)
    good = np.isfinite(flux)
    number = np.add.reduceat(good.astype(float), starts)
    number[number == 0] = np.nan
    at, mean, variance = (
        np.add.reduceat(np.where(good, values, 0.0), starts)
        for values in (days, flux, np.nan_to_num(error) ** 2)
    )
    return at / number, mean / number, np.sqrt(variance) / number


def _draw_differences(ax: Axes, curve: LightCurve, days: Array) -> None:
    """Draw the residuals of the white light curve from the mean of neighbouring points."""
    good = np.isfinite(curve.flux[:, 0])
    relative = curve.flux[good, 0] / curve.level[0]
    rest = _PPM * neighbour_differences(relative)
    ax.plot(days[good][1:-1], rest, ".", color="0.35", ms=2 if rest.size > _MANY else 4)
    scatter, photon, expected = (
        _PPM * one[0] / curve.level[0]
        for one in (curve.scatter, curve.expected_photon_noise, curve.expected_noise)
    )
    if np.isfinite(photon):
        ax.axhspan(-photon, photon, color=style.SKY, alpha=0.35, lw=0)
    parts = [("scatter", scatter), ("photon limit", photon), ("expected", expected)]
    text = ", ".join(f"{name} {value:.0f} ppm" for name, value in parts if np.isfinite(value))
    ax.set_title(text, fontsize="small", loc="left")
    ax.axhline(0.0, color="0.6", lw=0.7)
    ax.set_ylabel("difference from\nneighbours [ppm]")
    ax.grid(alpha=0.25)


def _draw_bins(ax: Axes, curve: LightCurve, days: Array) -> None:
    """Draw the relative light curves of the bins as an image."""
    relative = (curve.flux[:, 1:] / curve.level[1:]).T
    step = np.diff(days)
    edges = np.concatenate(
        [[days[0] - step[0] / 2], (days[1:] + days[:-1]) / 2, [days[-1] + step[-1] / 2]]
    )
    with style.no_nan_warnings():
        low, high = np.nanpercentile(relative, [1, 99])
    waves = np.append(curve.edges[1:, 0], curve.edges[-1, 1])
    mesh = ax.pcolormesh(
        edges, waves, relative, cmap="viridis", vmin=low, vmax=high, rasterized=True
    )
    ax.set_facecolor(style.NO_DATA)
    ax.set_ylabel("wavelength [µm]")
    ax.figure.colorbar(
        mesh, ax=ax, location="bottom", pad=0.03, fraction=0.07, aspect=45, label="relative flux"
    )


def _draw_scatter(ax: Axes, curve: LightCurve) -> None:
    """Draw the scatter of the bins against wavelength, beside the photon limit."""
    low, high = curve.edges[1:].T
    middle, level = (low + high) / 2, curve.level[1:]
    edges = np.append(low, high[-1])
    for values, label, colour in (
        (curve.expected_noise, "expected from the errors", style.ORANGE),
        (curve.expected_photon_noise, "photon limit", style.BLUE),
    ):
        ax.stairs(_PPM * values[1:] / level, edges, baseline=None, color=colour, label=label)
    ax.plot(middle, _PPM * curve.scatter[1:] / level, "o", color=style.BLACK, ms=4, label="scatter")
    ax.set_ylim(0.0, None)
    ax.set_xlabel("wavelength [µm]")
    ax.set_ylabel("noise of a point [ppm]")
    ax.grid(alpha=0.25)
    style.add_legend(ax)


def _draw_allan(ax: Axes, curve: LightCurve) -> None:
    """Draw the Allan deviation of the white light curve, out of transit if known."""
    flux = curve.flux[:, 0] if curve.out_of_transit is None else curve.flux[curve.out_of_transit, 0]
    number, deviation = allan_deviation(_PPM * flux / curve.level[0])
    if number.size == 0:
        text = "too few points"
        ax.text(0.5, 0.5, text, ha="center", transform=ax.transAxes)
        return
    ax.loglog(number, deviation, "o-", color=style.BLACK, ms=4, label="Allan deviation")
    for values, label, colour in (
        (curve.expected_noise, "expected from the errors", style.ORANGE),
        (curve.expected_photon_noise, "photon limit", style.BLUE),
    ):
        if np.isfinite(values[0]):
            limit = _PPM * values[0] / curve.level[0] / np.sqrt(number)
            ax.loglog(number, limit, color=colour, label=label)
    which = "all points" if curve.out_of_transit is None else "out of transit"
    ax.set_title(f"white light, {which}", fontsize="small", loc="left")
    ax.set_xlabel("number of points averaged")
    ax.set_ylabel("noise of the mean [ppm]")
    for axis in (ax.xaxis, ax.yaxis):  # plain numbers
        axis.set_major_formatter(LogFormatter())
        axis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    ax.grid(alpha=0.25, which="both")
    style.add_legend(ax)
