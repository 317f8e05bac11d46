"""Figure of an error budget."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import QTable

from glue_lrs._utils.validation import check_type
from glue_lrs.measurement.error_budget import CONTRIBUTIONS
from glue_lrs.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Labels of the columns.
_LABELS = {name: name.replace("_", " ").lower() for name in (*CONTRIBUTIONS, "BACKGROUND")}


@style.no_figure_on_error
def plot_budget(table: QTable, *, ax: Axes | None = None, title: str | None = None) -> Axes:
    """Draw the contributions to the uncertainty of a spectrum in percent of the flux.

    Contributions that are the same at all wavelengths are dashed. The error of the background,
    which is a part of the noise, is dotted. Those that are 0 or not known are not drawn.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        Result of `glue_lrs.measurement.error_budget`.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw in; by default, the current axes of pyplot.
    title : str, optional
        Title of the axes.

    Returns
    -------
    `~matplotlib.axes.Axes`
        The axes.
    """
    check_type("table", table, QTable, "a QTable, the result of error_budget")
    ax = style.axes_or_current(ax, (8.5, 5.0))
    wave = table["WAVELENGTH"].value
    order = np.argsort(wave)
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = {
            name: (100.0 * np.abs(table[name] / table["FLUX"])).value[order]
            for name in (*_LABELS, "FLUX_ERROR", "TOTAL")
        }
    for color, (name, label) in zip(cycle(style.SERIES), _LABELS.items(), strict=False):
        if np.nanmax(np.append(percent[name], 0.0)) > 0:
            line = "--" if name in table.meta["correlated"] else "-"
            line = ":" if name == "BACKGROUND" else line  # part of the others
            ax.plot(wave[order], percent[name], line, color=color, lw=0.9, label=label)
    for name, color, label in (
        ("FLUX_ERROR", "0.5", "FLUX_ERROR in the spectrum"),
        ("TOTAL", style.BLACK, "total"),
    ):
        ax.plot(wave[order], percent[name], color=color, lw=1.6, label=label)
    middle = percent["TOTAL"][np.isfinite(percent["TOTAL"]) & (percent["TOTAL"] > 0)]
    if middle.size:
        ax.set_ylim(np.median(middle) / 300.0, np.quantile(middle, 0.95) * 5.0)
    ax.set_yscale("log")
    ax.set_xlabel("wavelength (µm)")
    ax.set_ylabel("1σ error (% of the flux)")
    if title:
        ax.set_title(style.plain_text(title))
    style.add_legend(ax, ncols=2)
    return ax
