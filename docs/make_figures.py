"""Draw the figures of the documentation; called by Sphinx.

    glue-lrs demo --output-dir demo && python docs/make_figures.py demo figures

All data are simulated or computed.
"""

from __future__ import annotations

import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from glue_lrs import Aperture, ApertureCorrection, Extract1D, LRSWarning, SlitImage
from glue_lrs.measurement import measure_with_growth
from glue_lrs.plotting import (
    plot_cut,
    plot_image,
    plot_light_curve,
    plot_measurement,
    plot_optimal,
)
from glue_lrs.simulation import Scene, Source, Supernova, demo_scene
from glue_lrs.timeseries import light_curve

VERMILION, BLUE, GREEN, GREY = "#D55E00", "#0072B2", "#009E73", "0.45"
#: Figures of the demonstration that are used unchanged.
FROM_DEMO = (
    "default", "wider", "nod", "background", "tapered", "tapered_width", "compared",
    "slitless_light_curve",
)  # fmt: skip


def draw_all(demo: Path, target: Path) -> None:
    """Draw every figure.

    Parameters
    ----------
    demo : Path
        Directory of ``glue-lrs demo``.
    target : Path
        Directory for the PNG files; created if it does not exist.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in FROM_DEMO:
        shutil.copyfile(demo / f"demo_{name}.png", target / f"{name}.png")
    figures = {
        "image": image(demo),
        "conventions": conventions(),
        "fractions": fractions(),
        "kinds": kinds(demo),
        "offset_background": offset_background(demo),
        "fits": fits(),
        "position": position(demo),
        "apcorr": apcorr(demo),
        "lost": lost(demo),
        "filled": filled(),
        "choosing": choosing(demo),
        "light_curve": transit(),
        "optimal": optimal(demo),
    }
    for name, figure in figures.items():
        figure.savefig(target / f"{name}.png", dpi=110)


def _new(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _operator(image: SlitImage, **keys: Any) -> Extract1D:
    return Extract1D.from_reference(None, image.exp_type, apply_apcorr=False, **keys)


# --- the source ----------------------------------------------------------------------------------


def choosing(demo: Path) -> Figure:
    """Measurement and curve of growth of a nod."""
    found, growth, background = measure_with_growth(SlitImage.read(demo / "demo_nod1_s2d.fits"))
    return plot_measurement(found, growth, background=background, figure=Figure).figure


def transit() -> Figure:
    """Draw the light curves of a simulated transit with lost pixels."""
    number = 120
    distance = np.abs(np.linspace(-1.0, 1.0, number))
    factors = np.interp(distance, [0.4, 0.47], [0.99, 1.0])
    scene = Scene(sources=(Source(flux=0.1),), exposure_time=60.0, seed=2)
    image = scene.calints(number, factors=factors).image
    lost = np.random.default_rng(1).random(image.data.shape) < 0.001
    image = replace(image, data=np.where(lost, np.nan, image.data))
    extract = _operator(image, bkg_coeff=[[8.5], [18.5], [52.5], [62.5]])
    curve = light_curve(extract.run(image), bins=14, out_of_transit=distance > 0.5)
    return plot_light_curve(curve, allan=True, title="simulated transit").figure


# --- the image -----------------------------------------------------------------------------------


def optimal(demo: Path) -> Figure:
    """Draw an optimal extraction with its residual."""
    nod = SlitImage.read(demo / "demo_nod1_s2d.fits")
    extract = Extract1D.from_reference(None, nod.exp_type, extraction_type="optimal")
    return plot_optimal(extract.fit(nod), figure=Figure, title="demo_nod1_s2d.fits").figure


def image(demo: Path) -> Figure:
    """Draw the same nod before and after resampling."""
    figure = _new(8.4, 6.6)
    cal, s2d = figure.subplots(1, 2)
    faint = replace(demo_scene(), sources=(Source(flux=Supernova(level=1.5e-4)),))
    plot_image(faint.cal(full_frame=False).image, ax=cal)
    cal.set_title("cal: the detector's pixels", fontsize="medium", loc="left", pad=34)
    plot_image(SlitImage.read(demo / "demo_nod1_s2d.fits"), ax=s2d)
    s2d.set_title("s2d: resampled", fontsize="medium", loc="left", pad=34)
    return figure


# --- the aperture --------------------------------------------------------------------------------


def _pixels(
    ax: Axes,
    first: int,
    last: int,
    weights: dict[int, float],
    shifts: dict[int, float] | None = None,
) -> None:
    """Draw a row of pixels with their numbers, shaded by weight."""
    for column in range(first, last + 1):
        weight = weights.get(column, 0.0)
        colour = (*_rgb(VERMILION), 0.12 + 0.33 * weight) if weight else "white"
        ax.add_patch(Rectangle((column - 0.5, 0), 1, 1, facecolor=colour, edgecolor="0.4", lw=0.9))
        x = column + (shifts or {}).get(column, 0.0)
        ax.text(x, 0.5, str(column), ha="center", va="center", fontsize=10)
    ax.set_xlim(first - 0.7, last + 0.7)
    ax.set_yticks([])
    for side in ("left", "right", "top", "bottom"):
        ax.spines[side].set_visible(False)
    ax.tick_params(axis="x", length=0, labelbottom=False)


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def _mark(ax: Axes, x: float, text: str, colour: str, *, below: bool = False) -> None:
    y, label = (0.0, -0.75) if below else (1.0, 1.75)
    ax.annotate(
        text, (x, y), (x, label), ha="center", va="center", fontsize=10, color=colour,
        arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.6, "shrinkB": 0},
    )  # fmt: skip


def conventions() -> Figure:
    """Draw the same eight pixels in both conventions."""
    figure = _new(9.2, 4.4)
    top, bottom = figure.subplots(2, 1)
    weights = dict.fromkeys(range(27, 35), 1.0)
    _pixels(top, 24, 37, weights)
    for column in range(24, 38):
        top.plot(column, 0.16, ".", color=GREY, ms=4)
    _mark(top, 27, "xstart = 27", VERMILION)
    _mark(top, 34, "xstop = 34", VERMILION)
    top.set_ylim(-0.3, 2.2)
    top.set_title(
        "limits: numbers of the first and the last pixel, both inclusive",
        loc="left", fontsize="medium",
    )  # fmt: skip
    _pixels(bottom, 24, 37, weights)
    _mark(bottom, 26.5, "lower edge 26.5", BLUE)
    _mark(bottom, 34.5, "upper edge 34.5", BLUE)
    for edge in np.arange(23.5, 38):
        bottom.plot([edge, edge], [-0.16, 0], color=GREY, lw=1)
        bottom.text(edge, -0.24, f"{edge:g}", ha="center", va="top", fontsize=7.5, color=GREY)
    bottom.set_ylim(-0.6, 2.2)
    bottom.set_title(
        "edges: positions on an axis on which pixel i extends from i − 0.5 to i + 0.5  (src_coeff, "
        "bkg_coeff)",
        loc="left", fontsize="medium",
    )  # fmt: skip
    return figure


def fractions() -> Figure:
    """Draw an aperture with fractional pixels at its edges, and the weights."""
    figure = _new(9.2, 4.6)
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (1.4, 1)})
    aperture = Aperture(xstart=27.3, xstop=33.6)
    found = aperture.weights(np.full((1, 63), 7.0)).full((1, 63))[0]
    weights = {column: float(found[column]) for column in np.flatnonzero(found)}
    _pixels(top, 24, 37, weights, shifts={27: 0.14, 34: -0.2})
    top.add_patch(Rectangle((26.8, 0), 7.3, 1, fill=False, edgecolor=BLUE, lw=2))
    _mark(top, 27.3, "xstart = 27.3", VERMILION)
    _mark(top, 33.6, "xstop = 33.6", VERMILION)
    _mark(top, 26.8, "edge 26.8", BLUE, below=True)
    _mark(top, 34.1, "edge 34.1", BLUE, below=True)
    top.set_ylim(-1.1, 2.2)
    columns = np.arange(24, 38)
    bottom.bar(columns, found[columns], width=0.92, color=VERMILION, alpha=0.6)
    for column, weight in weights.items():
        bottom.text(column, weight + 0.05, f"{weight:.1f}", ha="center", fontsize=9)
    bottom.set_ylim(0, 1.3)
    bottom.set_ylabel("weight")
    bottom.set_xticks(columns)
    bottom.tick_params(axis="x", labelbottom=True)
    bottom.set_xlabel("column")
    bottom.set_title(
        f"sum: {sum(weights.values()):.1f} pixels = 34.1 − 26.8 = 33.6 − 27.3 + 1",
        fontsize="medium", loc="left",
    )  # fmt: skip
    return figure


def kinds(demo: Path) -> Figure:
    """Draw three kinds of aperture on one image."""
    picture = SlitImage.read(demo / "demo_level3_s2d.fits")
    figure = _new(8.4, 5.6)
    shapes: dict[str, dict[str, Any]] = {
        "xstart, xstop": {"xstart": 27, "xstop": 34},
        "src_coeff, in rows": {"src_coeff": [[24.5, 0.008], [36.5, -0.008]]},
        "src_coeff, in wavelength": {
            "src_coeff": [[30.5 - 2.445618715370405, -0.2579519802996102],
                          [30.5 + 2.445618715370405, 0.2579519802996102]],
            "independent_var": "wavelength",
        },
    }  # fmt: skip
    for ax, (title, keys) in zip(figure.subplots(1, 3), shapes.items(), strict=True):
        plot_image(picture, _operator(picture, use_source_posn=False, **keys), ax=ax, legend=False)
        ax.set_title(title, fontsize="small")
        ax.set_xlabel("column")
        for other in ax.child_axes:  # one wavelength axis suffices
            other.set_visible(False)
        if ax is not figure.axes[0]:
            ax.set_ylabel("")
    for ax in [one for one in figure.axes if one.get_label() == "<colorbar>"]:
        ax.set_visible(False)
    return figure


# --- the background ------------------------------------------------------------------------------


def offset_background(demo: Path) -> Figure:
    """Draw regions that move with the source, and fixed regions."""
    picture = SlitImage.read(demo / "demo_nod1_s2d.fits")
    keys = {"bkg_coeff": [[0.5], [4.5], [38.5], [43.5]], "bkg_fit": "median"}
    figure = _new(8.4, 6.2)
    moved, fixed = figure.subplots(1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        plot_image(picture, _operator(picture, **keys), ax=moved)
        plot_image(picture, _operator(picture, fixed_background=True, **keys), ax=fixed)
    moved.set_title("as in the pipeline", fontsize="medium", loc="left", pad=50)
    fixed.set_title("fixed_background=True", fontsize="medium", loc="left", pad=50)
    return figure


def fits() -> Figure:
    """Draw three fits to the same regions of one row, with one outlier."""
    scene = Scene(sources=(Source(flux=Supernova(level=1.5e-4)),), background_slope=0.08, seed=4)
    picture = scene.s2d(1, subtract_nod=False).image
    row, columns, bad = 150, np.arange(45), 41
    data = np.array(picture.data)
    data[row, bad] += 60.0
    picture = replace(picture, data=data)
    region = np.zeros(45, dtype=bool)
    region[1:5] = region[22:44] = True
    values = data[row].astype(float)
    figure = _new(8.4, 3.8)
    ax = figure.subplots()
    operator = _operator(
        picture, xstart=9, xstop=17, use_source_posn=False, bkg_coeff=[[0.5], [4.5], [21.5], [43.5]]
    )
    plot_cut(picture, row, operator, ax=ax, label=False)
    inside = columns[1:44]
    ax.plot(inside, np.full(43, np.median(values[region])), color=VERMILION, lw=2, label="median")
    for order, colour in ((0, BLUE), (1, GREEN)):
        line = np.polynomial.Polynomial.fit(columns[region], values[region], order)
        ax.plot(inside, line(inside), color=colour, lw=2, label=f"poly, order {order}")
    ax.set_ylim(values[region].min() - 15, values[bad] + 10)
    ax.set_xlabel("column")
    ax.legend(loc="upper center", frameon=False, fontsize="small")
    return figure


# --- position, correction ------------------------------------------------------------------------


def position(demo: Path) -> Figure:
    """Draw one aperture on two nods, fixed and moved to the source."""
    figure = _new(9.2, 4.6)
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for number, pair in enumerate(axes.T, start=1):
        picture = SlitImage.read(demo / f"demo_nod{number}_s2d.fits")
        for ax, moves in zip(pair, (False, True), strict=True):
            operator = _operator(picture, use_source_posn=moves)
            plot_cut(picture, 193, operator, ax=ax, label=False)
            limits = operator.run(picture).keywords
            ax.set_title(
                f"nod {number}, use_source_posn={moves}: "
                f"{limits['EXTRXSTR'] - 1:.2f} to {limits['EXTRXSTP'] - 1:.2f}",
                fontsize="medium", loc="left",
            )  # fmt: skip
    for ax in axes[1]:
        ax.set_xlabel("column")
    for ax in axes[:, 1]:
        ax.set_ylabel("")
    return figure


def apcorr(demo: Path) -> Figure:
    """Draw the aperture correction versus size, at several wavelengths."""
    table = ApertureCorrection.read(demo / "demo_apcorr.fits", subarray="FULL")
    figure = _new(7.2, 3.8)
    ax = figure.subplots()
    sizes = np.linspace(3, 20, 200)
    for wave, colour in ((5.0, BLUE), (8.0, GREEN), (12.0, VERMILION)):
        ax.plot(sizes, table(wave, sizes), color=colour, label=f"{wave:g} µm")
        ax.plot(8, table(wave, 8), "o", color=colour, ms=5)
    ax.axvline(8, color="0.6", lw=0.8, ls="--")
    ax.text(8.15, 1.33, "xstart 27, xstop 34", color="0.4", fontsize="small")
    ax.set_xlabel("aperture size: NPIXELS")
    ax.set_ylabel("factor")
    ax.set_ylim(1, 1.4)
    ax.grid(alpha=0.25)
    ax.legend(frameon=False)
    return figure


# --- columns, spectra ----------------------------------------------------------------------------


def lost(demo: Path) -> Figure:
    """Draw the effect of a bad pixel on the trace on the spectrum."""
    picture = SlitImage.read(demo / "demo_level3_s2d.fits")
    data = np.array(picture.data)
    data[250, 30] = np.nan
    spoiled = replace(picture, data=data)
    extract = _operator(picture, use_source_posn=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        found = extract.run(spoiled)
    figure = _new(8.4, 4.2)
    top, low = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (2, 1)})
    wave, near = found.wavelength, slice(225, 276)
    top.plot(wave[near], 1e6 * found.columns["FLUX"][near], color=BLUE, marker=".", lw=1)
    row = int(np.argmax(found.lost_fraction[near])) + 225
    top.plot(wave[row], 1e6 * found.columns["FLUX"][row], "o", color=VERMILION, mfc="none", ms=11)
    top.set_ylabel("flux [µJy]")
    low.step(wave[near], found.columns["NPIXELS"][near], where="mid", color=VERMILION)
    low.set_ylim(0, 9)
    low.set_ylabel("NPIXELS")
    low.set_xlabel("wavelength [µm]")
    for ax in (top, low):
        ax.grid(alpha=0.25)
    return figure


def filled() -> Figure:
    """Draw masked rows, interpolated and NaN."""
    scene = replace(demo_scene(), bad_fraction=0.03)
    picture = scene.combined().image
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        found = _operator(picture, use_source_posn=False, max_lost=0.1).run(picture)
    spectrum, gaps = found.to_spectrum(), found.to_spectrum(fill="nan")
    figure = _new(8.4, 3.4)
    ax = figure.subplots()
    wave = spectrum.spectral_axis.value
    ax.plot(wave, 1e3 * gaps.flux.value, color=BLUE, lw=1.2, label='fill="nan"')
    filled_in = np.where(spectrum.mask, 1e3 * spectrum.flux.value, np.nan)
    ax.plot(wave, filled_in, ".", color=VERMILION, ms=5, label="interpolated (masked)")
    ax.set_xlim(7.6, 9.4)
    inside = (wave > 7.6) & (wave < 9.4)
    values = 1e3 * spectrum.flux.value[inside]
    ax.set_ylim(values.min() - 0.1, values.max() + 0.1)
    ax.set_xlabel("wavelength [µm]")
    ax.set_ylabel("flux [mJy]")
    ax.grid(alpha=0.25)
    ax.legend(frameon=False)
    return figure


if __name__ == "__main__":
    draw_all(Path(sys.argv[1]), Path(sys.argv[2]))
