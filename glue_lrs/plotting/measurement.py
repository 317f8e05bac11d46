"""Functions that draw a measurement: spatial profile, trace, FWHM and curve of growth.

The functions draw into the given axes, or into the current axes of pyplot, and return the axes.
Those with several panels draw into the given figure, or into a new figure of pyplot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial.polynomial import polyval
from numpy.typing import NDArray

from glue_lrs._utils.validation import check_type
from glue_lrs.errors import LRSError
from glue_lrs.instrument import expected_fwhm
from glue_lrs.measurement.curve_of_growth import CurveOfGrowth
from glue_lrs.measurement.measurement import Measurement
from glue_lrs.plotting import style
from glue_lrs.plotting.style import Panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from glue_lrs._utils.typing import Floats
    from glue_lrs.apertures.background import Background
    from glue_lrs.plotting.style import FigureSource

#: Minimum S/N of a band for its flux to be drawn versus the aperture width. In bands with a lower
#: S/N, the curve would show only noise.
_MIN_SNR = 10.0


@style.no_figure_on_error
def plot_measurement(
    measurement: Measurement,
    growth: CurveOfGrowth | None = None,
    *,
    background: Background | None = None,
    figure: FigureSource = None,
    title: str | None = None,
) -> Panels:
    """Draw a measurement: profile, trace, FWHM, and the curve of growth.

    Parameters
    ----------
    measurement : Measurement
        Measurement to draw.
    growth : CurveOfGrowth, optional
        Curve of growth to draw.
    background : Background, optional
        Background whose regions are shaded in the profile.
    figure : `~matplotlib.figure.Figure`, SubFigure or callable, optional
        Figure to fill, or function that makes it (`glue_lrs.plotting.style.figure_or_new`).
    title : str, optional
        Title of the figure.

    Returns
    -------
    dict of `~matplotlib.axes.Axes`
        Axes of the panels ``"profile"``, ``"trace"`` and ``"width"``, with a curve of growth also
        ``"growth"`` and ``"snr"``, and for a stack ``"shift"``. Its attribute ``figure`` is the
        figure.
    """
    check_type("measurement", measurement, Measurement, "a Measurement")
    stack = measurement.shift is not None
    rows = [["profile", "profile"], ["trace", "width"]]
    if growth is not None:
        rows.append(["growth", "snr"])
    if stack:
        rows.append(["shift", "shift"])
    made = style.figure_or_new(figure, (11.0, 3.2 * len(rows)))
    axes = Panels(made.subplot_mosaic(rows))
    plot_profile(measurement, background=background, ax=axes["profile"])
    plot_trace(measurement, ax=axes["trace"])
    plot_fwhm(measurement, ax=axes["width"])
    if growth is not None:
        plot_growth(growth, axes=(axes["growth"], axes["snr"]))
    if stack:
        plot_integrations(measurement, ax=axes["shift"])
    if title:
        made.suptitle(style.plain_text(title), fontsize="medium")
    return axes


@style.no_figure_on_error
def plot_profile(
    measurement: Measurement, *, background: Background | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the mean profile along the slit with the detected sources.

    Parameters
    ----------
    measurement : Measurement
        Measurement that holds the profile and the sources.
    background : Background, optional
        Background whose regions are shaded, at their columns in the reference row.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw into; by default, the current axes of pyplot.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Axes with the column in the reference row along x, and the brightness along y on an asinh
        scale.
    """
    check_type("measurement", measurement, Measurement, "a Measurement")
    ax = style.axes_or_current(ax, (8.0, 3.6))
    profile, error = measurement.profile, measurement.profile_error
    style.draw_steps(ax, measurement.profile_column, profile, error)
    for source in measurement.sources:
        colour, label = style.SOURCES[source.kind]
        line = "--" if source.negative else "-"
        ax.axvline(source.column, color=colour, lw=1.4, ls=line, label=label)
    if measurement.expected is not None:
        ax.axvline(measurement.expected.column, color=style.GREEN, lw=1.4, ls=":", label="header")
    if background is not None:
        for lower, upper in _regions(measurement, background):
            ax.axvspan(lower, upper, color=style.BLUE, alpha=0.15, lw=0, label="background")
    scale = 5.0 * float(np.nanmedian(error))
    if scale > 0:
        ax.set_yscale("asinh", linear_width=scale)
        low, high = float(np.nanmin(profile)), float(np.nanmax(profile))
        ax.set_yticks(style.asinh_ticks(low, high, scale))
        ax.minorticks_off()
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    unit = f" [{style.unit_label(measurement.unit)}]" if measurement.unit else ""
    ax.set(xlabel=f"column at row {measurement.row} [pixel]", ylabel=f"mean brightness{unit}")
    style.add_legend(ax)
    return ax


@style.no_figure_on_error
def plot_trace(measurement: Measurement, *, ax: Axes | None = None) -> Axes:
    """Draw the trace of the target, and the centroid of the target in each wavelength band.

    Parameters
    ----------
    measurement : Measurement
        Measurement that holds the trace.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw into; by default, the current axes of pyplot.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Axes with wavelength along x and column along y.
    """
    check_type("measurement", measurement, Measurement, "a Measurement")
    ax = style.axes_or_current(ax, (6.0, 3.6))
    target = measurement.target
    wave, order = _sorted(measurement.wavelength)
    trace, error = target.trace[order], target.trace_error[order]
    _draw_fit(ax, wave, trace, error, "trace")
    _draw_bands(ax, measurement, target.centroid, target.centroid_error)
    visible = [trace, target.centroid[target.centroid_error < 0.3]]
    if measurement.expected is not None:
        header = measurement.expected.column + measurement.curve[order]
        ax.plot(wave, header, color=style.GREEN, lw=1.2, ls=":", label="header")
        visible.append(header)
    values = np.concatenate(visible)
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.15 * (high - low) + 3.0 * float(np.median(target.centroid_error)) + 0.002
    ax.set_ylim(low - margin, high + margin)
    ax.set_ylabel("column [pixel]")
    ax.ticklabel_format(axis="y", useOffset=False)
    style.add_legend(ax)
    return ax


@style.no_figure_on_error
def plot_fwhm(measurement: Measurement, *, ax: Axes | None = None) -> Axes:
    """Draw the FWHM in each wavelength band, the smooth fit, and the expected FWHM of LRS.

    Parameters
    ----------
    measurement : Measurement
        Measurement that holds the FWHM.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw into; by default, the current axes of pyplot.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Axes with wavelength along x, FWHM in arcsec along y, and FWHM in columns on the right.
    """
    check_type("measurement", measurement, Measurement, "a Measurement")
    ax = style.axes_or_current(ax, (6.0, 3.6))
    wave, _ = _sorted(measurement.wavelength)
    width, error = measurement.width(wave)
    _draw_fit(ax, wave, width, error, "smooth fit")
    _draw_bands(ax, measurement, measurement.fwhm, measurement.fwhm_error)
    expected = expected_fwhm(wave)
    ax.plot(wave, expected, color=style.GREEN, lw=1.2, ls=":", label="expected")
    inner = (wave > 4.5) & (wave < 13.5)
    known = np.concatenate([expected, width[inner] if inner.any() else width])
    ax.set_ylim(min(0.8 * known.min(), 0.25), 1.15 * known.max())
    ax.set_ylabel("FWHM [arcsec]")
    style.scaled_axis(ax, 1.0 / measurement.pixel_scale, "FWHM [pixel]")
    style.add_legend(ax)
    return ax


def _draw_fit(
    ax: Axes,
    x: Floats,
    y: Floats,
    error: Floats,
    label: str,
    colour: str = style.VERMILION,
    alpha: float = 0.25,
) -> None:
    """Draw a curve with a band of 1-sigma errors."""
    ax.plot(x, y, color=colour, lw=1.4, label=label)
    ax.fill_between(x, y - error, y + error, color=colour, alpha=alpha, lw=0)


def _draw_bands(ax: Axes, measurement: Measurement, values: Floats, errors: Floats) -> None:
    """Draw the values and errors measured in each band versus wavelength."""
    ax.errorbar(
        measurement.bands, values, errors, fmt="o", color=style.BLACK, ms=4, elinewidth=0.9,
        label="measured in bands",
    )  # fmt: skip
    ax.set_xlabel("wavelength [µm]")
    ax.grid(alpha=0.25)


@style.no_figure_on_error
def plot_growth(
    growth: CurveOfGrowth,
    *,
    axes: tuple[Axes, Axes] | None = None,
    figure: FigureSource = None,
) -> Panels:
    """Draw the curve of growth: flux and S/N versus the width of the aperture.

    Parameters
    ----------
    growth : CurveOfGrowth
        Curve of growth to draw.
    axes : (`~matplotlib.axes.Axes`, `~matplotlib.axes.Axes`), optional
        Axes for the flux and for the S/N.
    figure : `~matplotlib.figure.Figure`, SubFigure or callable, optional
        Figure to fill if no axes are given, or function that makes it.

    Returns
    -------
    dict of `~matplotlib.axes.Axes`
        Axes of two panels. ``"growth"`` shows the flux as extracted (dashed) and times the aperture
        correction (solid), relative to the corrected flux at the best width. ``"snr"`` shows the
        S/N relative to the maximum in each band, with a marker at the best width. Its attribute
        ``figure`` is the figure.
    """
    check_type("growth", growth, CurveOfGrowth, "a CurveOfGrowth")
    if axes is None:
        axes = tuple(style.figure_or_new(figure, (11.0, 4.0)).subplots(1, 2))
    left, right = axes
    for n, wave in enumerate(growth.wavelength):
        colour = style.SERIES[n % len(style.SERIES)]
        label = f"{wave:.1f} µm"
        relative = growth.snr[n] / np.nanmax(growth.snr[n])
        right.plot(growth.widths, relative, color=colour, lw=1.5, label=label)
        right.plot(growth.best_width[n], 1.0, "v", color=colour, ms=6)
        if np.nanmax(growth.snr[n]) < _MIN_SNR:
            continue
        best = int(np.argmin(np.abs(growth.widths - growth.best_width[n])))
        total = growth.corrected[n, best]
        left.plot(growth.widths, growth.flux[n] / total, color=colour, lw=1.0, ls="--")
        error = np.abs(growth.flux_error[n] * growth.correction[n] / total)
        _draw_fit(left, growth.widths, growth.corrected[n] / total, error, label, colour, 0.12)
    right.axvline(growth.best, color=style.BLACK, lw=1.0, ls=":", label=f"best: {growth.best:.1f}")
    left.set_ylabel("flux relative to that at the best width")
    right.set_ylabel("S/N relative to the maximum")
    first, last = float(growth.widths[0]), float(growth.widths[-1])
    if growth.free_width < last:
        label = "touches another trace or the edge"
        left.plot([], [], color=style.PURPLE, alpha=0.3, lw=6, label=label)
    left.plot([], [], color="0.4", lw=1.0, ls="--", label="not corrected")
    for ax, top in ((left, 1.3), (right, 1.08)):
        if growth.free_width < last:
            ax.axvspan(growth.free_width, last, color=style.PURPLE, alpha=0.12, lw=0)
        ax.set(xlabel="width of the aperture [pixel]", xlim=(first, last), ylim=(0.0, top))
        ax.grid(alpha=0.25)
        style.add_legend(ax, loc="lower right", ncols=2)
    return Panels(growth=left, snr=right)


@style.no_figure_on_error
def plot_integrations(measurement: Measurement, *, ax: Axes | None = None) -> Axes:
    """Draw the shift of the sources in each integration of a stack.

    Parameters
    ----------
    measurement : Measurement
        Measurement of a stack, which holds the shifts.
    ax : `~matplotlib.axes.Axes`, optional
        Axes to draw into; by default, the current axes of pyplot.

    Returns
    -------
    `~matplotlib.axes.Axes`
        Axes with the number of the integration, counted from 1, along x, and the shift relative to
        the mean image in columns along y.

    Raises
    ------
    LRSError
        If the measurement has no shifts.
    """
    check_type("measurement", measurement, Measurement, "a Measurement")
    if measurement.shift is None or measurement.shift_error is None:
        raise LRSError("has no shifts, expected a stack of integrations", subject=measurement.label)
    ax = style.axes_or_current(ax, (8.0, 3.0))
    number = np.arange(1, measurement.shift.size + 1)
    ax.errorbar(
        number, measurement.shift, measurement.shift_error, fmt="o", color=style.BLACK, ms=3,
        elinewidth=0.8,
    )  # fmt: skip
    ax.axhline(0.0, color="0.6", lw=0.7, zorder=0)
    ax.set(xlabel="integration", ylabel="shift [pixel]")
    ax.grid(alpha=0.25)
    return ax


def _sorted(wavelength: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Return the finite wavelengths in ascending order, and their rows."""
    known = np.flatnonzero(np.isfinite(wavelength))
    order = known[np.argsort(wavelength[known], kind="stable")]
    return wavelength[order], order


def _regions(measurement: Measurement, background: Background) -> list[tuple[float, float]]:
    """Return the lower and upper edge of each background region at the reference row."""
    in_wavelength = background.independent_var == "wavelength"
    at = measurement.row_wavelength if in_wavelength else float(measurement.row)
    edges = [float(polyval(at, edge)) for edge in background.bkg_coeff]
    return list(zip(edges[::2], edges[1::2], strict=True))
