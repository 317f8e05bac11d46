"""Functions that draw the traces, the residual and the profile from an optimal extraction.

The functions draw into the given axes, or into the current axes of pyplot, and return the axes.
`plot_optimal` draws into the given figure, or into a new figure of pyplot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from glue_lrs._utils.validation import check_type
from glue_lrs.extraction.optimal_result import OptimalResult
from glue_lrs.instrument import PIXEL_SCALE, expected_fwhm
from glue_lrs.plotting import style
from glue_lrs.plotting.image import draw_plane, plot_image
from glue_lrs.plotting.spectra import plot_extraction
from glue_lrs.plotting.style import Panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from glue_lrs.plotting.style import AxisLimits, FigureSource

#: The colour scale extends to plus and minus this residual in standard deviations.
_SIGMAS = 5.0
#: Wavelengths in micron at which the profile is drawn, and the colours of the curves.
_PROFILES = {5.0: style.BLUE, 7.5: style.GREEN, 10.0: style.ORANGE, 12.0: style.VERMILION}


@style.no_figure_on_error
def plot_optimal(
    result: OptimalResult,
    *,
    integration: int = 0,
    column: str = "FLUX",
    stretch: str = "asinh",
    xlim: AxisLimits = None,
    ylim: AxisLimits = None,
    figure: FigureSource = None,
    title: str | None = None,
) -> Panels:
    """Draw an optimal extraction: image with traces, residual, profile, and spectrum.

    Parameters
    ----------
    result : OptimalResult
        Result of ``extract.fit(image)``.
    integration : int
        Index of the integration of a stack, counted from 0.
    column : str
        Name of the column of the spectrum to draw.
    stretch : {"asinh", "linear", "sqrt", "log"}
        Stretch of the grey scale of the image.
    xlim, ylim : (float, float), optional
        Limits of the spectrum, as in `plot_extraction`.
    figure : `~matplotlib.figure.Figure` or callable, optional
        Figure to fill, or function that makes it (`glue_lrs.plotting.style.figure_or_new`).
    title : str, optional
        Title of the figure; by default, the name of the image.

    Returns
    -------
    dict of `~matplotlib.axes.Axes`
        Axes of the panels ``"image"``, ``"residual"`` and ``"profile"``, and those of
        `plot_extraction`. Its attribute ``figure`` is the figure.
    """
    check_type("result", result, OptimalResult, "an OptimalResult, as of OptimalExtractor.fit")
    image = result.image
    made = style.figure_or_new(figure, (16.0, 8.0))
    parts: Any = made.subfigures(1, 3, width_ratios=(1.0, 1.0, 1.75))
    left, middle, right = parts
    panels = Panels(image=left.subplots(), residual=middle.subplots())
    plot_image(image, integration=integration, ax=panels["image"], stretch=stretch, legend=False)
    _draw_traces(panels["image"], result, integration)
    plot_residual(result, integration=integration, ax=panels["residual"])
    above, below = right.subfigures(2, 1, height_ratios=(2.4, 1.0))
    panels |= plot_extraction(
        result.extractions[0], column=column, integration=integration, xlim=xlim, ylim=ylim,
        figure=above,
    )  # fmt: skip
    panels["profile"] = plot_model_profile(result, ax=below.subplots())
    where = f", integration {integration + 1} of {image.data.shape[0]}" if image.is_stack else ""
    made.suptitle(style.plain_text((title or image.label) + where), fontsize="medium")
    return panels


def _draw_traces(ax: Axes, result: OptimalResult, integration: int) -> None:
    """Draw the trace of each fitted source in one integration."""
    shift = 0.0 if result.shifts is None else float(result.shifts[integration])
    rows = np.arange(result.traces.shape[1])
    lines: dict[str, Line2D] = {}
    for i, (trace, positive) in enumerate(zip(result.traces, result.positive, strict=True)):
        kind = "target" if i == 0 else "source" if positive else "negative"
        colour, label = style.SOURCES[kind]
        line = "-." if positive else ":"
        (lines[label],) = ax.plot(trace + shift, rows, color=colour, lw=1.1, ls=line, label=label)
    ax.legend(handles=list(lines.values()), frameon=False, fontsize="small", **style.ABOVE)


@style.no_figure_on_error
def plot_residual(
    result: OptimalResult, *, integration: int = 0, ax: Axes | None = None, legend: bool = True
) -> Axes:
    """Draw data minus model in standard deviations, and mark the rejected pixels.

    Parameters
    ----------
    result : OptimalResult
        Result of ``extract.fit(image)``.
    integration : int
        Index of the integration of a stack, counted from 0.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw into; by default, the current axes of pyplot.
    legend : bool
        Whether to add a legend.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Axes with columns along x and rows along y. Rejected pixels are marked with squares.
    """
    check_type("result", result, OptimalResult, "an OptimalResult, as of OptimalExtractor.fit")
    ax = style.axes_or_current(ax, (4.5, 8.0))
    residual = result.normalised_residual(integration)
    bad = np.isnan(residual) & np.isfinite(result.model(integration))
    draw_plane(
        ax, result.image, residual, bad, "data − model [σ]",
        cmap="RdBu_r", vmin=-_SIGMAS, vmax=_SIGMAS,
    )  # fmt: skip
    *stack_index, rows, columns = result.rejected
    if stack_index:
        here = stack_index[0] == integration
        rows, columns = rows[here], columns[here]
    ax.plot(
        columns, rows, ls="none", marker="s", ms=5.0, mfc="none", mec=style.GREEN, mew=1.2,
        label=f"rejected ({rows.size})",
    )  # fmt: skip
    if legend:
        style.add_legend(ax, **style.ABOVE)
    return ax


@style.no_figure_on_error
def plot_model_profile(result: OptimalResult, *, ax: Axes | None = None) -> Axes:
    """Draw the spatial profile that determines the weights of pixels, at four wavelengths.

    Parameters
    ----------
    result : OptimalResult
        Result of ``extract.fit(image)``.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw into; by default, the current axes of pyplot.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Axes with the distance of a pixel from the source along x and the fraction of the flux in
        the pixel along y. Dotted lines mark the expected FWHM of LRS.
    """
    check_type("result", result, OptimalResult, "an OptimalResult, as of OptimalExtractor.fit")
    ax = style.axes_or_current(ax, (6.0, 3.0))
    offset = np.arange(-8.0, 8.01, 0.05)
    for wavelength, colour in _PROFILES.items():
        values = result.profile(offset[np.newaxis], np.array([wavelength]))[0]
        ax.plot(offset, values, color=colour, lw=1.1, label=f"{wavelength:g} µm")
        half = float(expected_fwhm(wavelength)) / PIXEL_SCALE / 2.0
        for side in (-half, half):
            ax.axvline(side, color=colour, lw=0.7, ls=":", ymax=0.5)
    ax.set(xlabel="columns from the source", ylabel="fraction of\nthe flux")
    ax.set_xlim(offset[0], offset[-1])
    ax.grid(alpha=0.25)
    style.add_legend(ax, title="dotted: expected FWHM", title_fontsize="small")
    return ax
