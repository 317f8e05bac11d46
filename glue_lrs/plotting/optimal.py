"""Pictures of an optimal extraction: trace, profile, residual, rejected pixels.

Every function draws on Matplotlib's objects and returns them; none of them uses pyplot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from glue_lrs.instrument import PIXEL_SCALE, expected_fwhm
from glue_lrs.plotting.image import plot_image, shown_part
from glue_lrs.plotting.spectra import plot_extraction
from glue_lrs.plotting.style import (
    BLUE,
    GREEN,
    NO_DATA,
    ORANGE,
    PURPLE,
    VERMILION,
    axes_or_new,
    figure_or_new,
    legend_above,
    plain_text,
    wavelength_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from glue_lrs.extraction.optimal_result import OptimalResult

__all__ = ["plot_model_profile", "plot_optimal", "plot_residual"]

#: Standard deviations at the ends of the residual's colours.
_SIGMAS = 5.0

#: Wavelengths in micron at which the profile is drawn.
_WAVELENGTHS = (5.0, 7.5, 10.0, 12.0)


def plot_optimal(
    result: OptimalResult,
    *,
    integration: int = 0,
    figure: Any = None,
    title: str | None = None,
) -> Any:
    """Draw an optimal extraction: image and trace, residual, profile, spectrum.

    Parameters
    ----------
    result : OptimalResult
        What ``extract.fit(image)`` gave.
    integration : int
        Which integration of a stack.
    figure : `~matplotlib.figure.Figure`, optional
        What to fill.
    title : str, optional
        What to write above it; the image's name by default.

    Returns
    -------
    `~matplotlib.figure.Figure`
        The figure.
    """
    image = result.image
    figure = figure_or_new(figure, (16.0, 8.0))
    left, middle, right = figure.subfigures(1, 3, width_ratios=(1.0, 1.0, 1.75))
    ax = left.subplots()
    plot_image(image, integration=integration, ax=ax, legend=False)
    _draw_traces(ax, result, integration)
    plot_residual(result, integration=integration, ax=middle.subplots())
    above, below = right.subfigures(2, 1, height_ratios=(2.4, 1.0))
    plot_extraction(result.extractions[0], integration=integration, figure=above)
    plot_model_profile(result, ax=below.subplots())
    where = f", integration {integration + 1} of {image.data.shape[0]}" if image.is_stack else ""
    figure.suptitle(plain_text((title or image.label) + where), fontsize="medium")
    return figure


def _draw_traces(ax: Axes, result: OptimalResult, integration: int) -> None:
    shift = 0.0 if result.shifts is None else float(result.shifts[integration])
    rows = np.arange(result.traces.shape[1])
    handles: list[Any] = []
    for i, (trace, positive) in enumerate(zip(result.traces, result.positive, strict=True)):
        name = "target" if i == 0 else "another source" if positive else "negative trace"
        colour = VERMILION if i == 0 else ORANGE if positive else BLUE
        style = "-." if positive else ":"
        ax.plot(trace + shift, rows, color=colour, lw=1.1, ls=style)
        if name not in (handle.get_label() for handle in handles):
            handles.append(Line2D([], [], color=colour, lw=1.1, ls=style, label=name))
    legend_above(ax, handles)


def plot_residual(
    result: OptimalResult, *, integration: int = 0, ax: Axes | None = None, legend: bool = True
) -> Axes:
    """Draw the data less the model, in standard deviations, and the pixels that were rejected.

    Parameters
    ----------
    result : OptimalResult
        What ``extract.fit(image)`` gave.
    integration : int
        Which integration of a stack.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw.
    legend : bool
        Whether to explain the marks.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Columns along x, rows along y; rejected pixels have a frame.
    """
    ax = axes_or_new(ax, (4.5, 8.0))
    image = result.image
    left, right, bottom, top = shown_part(image)
    part = (slice(bottom, top + 1), slice(left, right + 1))
    residual = result.normalised_residual(integration)[part]
    settings: dict[str, Any] = {
        "origin": "lower",
        "aspect": "auto",
        "interpolation": "nearest",
        "extent": (left - 0.5, right + 0.5, bottom - 0.5, top + 0.5),
    }
    ax.set_facecolor(NO_DATA)
    picture = ax.imshow(residual, cmap="RdBu_r", vmin=-_SIGMAS, vmax=_SIGMAS, **settings)
    handles: list[Any] = []
    bad = np.isnan(residual) & np.isfinite(result.model(integration)[part])
    if bad.any():
        marks = np.where(bad, 1.0, np.nan)
        ax.imshow(marks, cmap=ListedColormap([PURPLE]), vmin=0, vmax=1, **settings)
        handles.append(Patch(color=PURPLE, label="bad pixel"))
    *which, rows, columns = result.rejected
    here = which[0] == integration if which else np.ones(rows.shape, dtype=bool)
    ax.plot(
        columns[here], rows[here], ls="none", marker="s", ms=5.0, mfc="none", mec=GREEN, mew=1.2
    )
    handles.append(
        Line2D([], [], ls="none", marker="s", ms=5.0, mfc="none", mec=GREEN, mew=1.2,
               label=f"rejected ({int(here.sum())})")
    )  # fmt: skip
    ax.set_xlabel("column (cross-dispersion) [pixel]")
    wavelength_axis(ax, image, bottom, top)
    bar = ax.figure.colorbar(picture, ax=ax, location="bottom", pad=0.01, fraction=0.03, aspect=28)
    bar.set_label("data − model [σ]")
    if legend:
        legend_above(ax, handles)
    return ax


def plot_model_profile(result: OptimalResult, *, ax: Axes | None = None) -> Axes:
    """Draw the profile that the pixels were weighted with, at four wavelengths.

    Parameters
    ----------
    result : OptimalResult
        What ``extract.fit(image)`` gave.
    ax : `~matplotlib.axes.Axes`, optional
        Where to draw.

    Returns
    -------
    `~matplotlib.axes.Axes`
        The fraction of the light on a pixel over its distance from the source; a vertical dash at
        half the FWHM that LRS is expected to have.
    """
    ax = axes_or_new(ax, (6.0, 3.0))
    offset = np.arange(-8.0, 8.01, 0.05)
    colours = (BLUE, GREEN, ORANGE, VERMILION)
    for wavelength, colour in zip(_WAVELENGTHS, colours, strict=True):
        values = result.profile(offset[np.newaxis], np.array([wavelength]))[0]
        ax.plot(offset, values, color=colour, lw=1.1, label=f"{wavelength:g} µm")
        half = float(expected_fwhm(wavelength)) / PIXEL_SCALE / 2.0
        for side in (-half, half):
            ax.axvline(side, color=colour, lw=0.7, ls=":", ymax=0.5)
    ax.set_xlabel("columns from the source")
    ax.set_ylabel("fraction of\nthe light")
    ax.set_xlim(offset[0], offset[-1])
    ax.grid(alpha=0.25)
    ax.legend(frameon=False, fontsize="small", title="dots: expected FWHM", title_fontsize="small")
    return ax
