"""Figures of images and spectra."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from matplotlib import image as pictures
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from glue_lrs import Aperture, Background, Extract1D, Extraction, LRSError, SlitImage
from glue_lrs.errors import WriteError
from glue_lrs.plotting import (
    plot_comparison,
    plot_cut,
    plot_extraction,
    plot_image,
    plot_product,
    plot_spectrum,
    plot_stack,
    plot_width,
    save,
)
from glue_lrs.plotting.grey import grey_limits
from glue_lrs.simulation.scene import Scene

Maker = Callable[..., SlitImage]
REGIONS = Background.from_edges((0.5, 4.0), (14.25, 18.5), bkg_fit="median")


def lines(ax: Axes, colour: str) -> list[np.ndarray]:
    """Points of the lines of a colour, each of shape (n, 2)."""
    return [line.get_xydata() for line in ax.lines if line.get_color() == colour]


VERMILION, BLUE = "#D55E00", "#0072B2"


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of overlapping texts, ticks and titles included."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = []
    for ax in [*figure.axes, *(child for parent in figure.axes for child in parent.child_axes)]:
        labels = [ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            inside = (t for t in axis.get_major_ticks() if low <= t.get_loc() <= high)
            labels += [label for tick in inside for label in (tick.label1, tick.label2)]
        if ax.get_legend() is not None:
            labels += ax.get_legend().get_texts()
        texts += [t for t in labels if t.get_visible() and t.get_text().strip()]
    boxes = [text.get_window_extent(renderer).shrunk(0.9, 0.8) for text in texts]
    return [
        (one.get_text(), other.get_text())
        for i, (one, a) in enumerate(zip(texts, boxes, strict=True))
        for other, b in zip(texts[i + 1 :], boxes[i + 1 :], strict=True)
        if a.overlaps(b)
    ]


def test_edges_are_drawn_at_their_positions(make_image: Maker) -> None:
    image = make_image()
    extract = Extract1D(
        aperture=Aperture(xstart=7, xstop=10.5, ystart=3, ystop=20), background=REGIONS
    )
    ax = plot_image(image, extract)
    low, high = lines(ax, VERMILION)
    # Limits 7 to 10.5, both inclusive, are the positions 6.5 to 11; rows 3 to 20 are 2.5 to 20.5.
    for edge, where in ((low, 6.5), (high, 11.0)):
        assert (edge[:, 0] == where).all()
        assert (edge[:, 1].min(), edge[:, 1].max()) == (2.5, 20.5)
    assert sorted(edge[0, 0] for edge in lines(ax, BLUE)) == [0.5, 4.0, 14.25, 18.5]
    assert ax.images[0].get_extent() == [-0.5, 19.5, -0.5, 29.5]
    np.testing.assert_array_equal(ax.images[0].get_array(), image.data)


def test_tapered_edges_follow_the_wavelength(make_image: Maker) -> None:
    # Wavelength changes along the row as well: an edge is where its own pixel's wavelength puts it.
    wavelength = np.linspace(14.0, 5.0, 30)[:, None] + 0.05 * np.arange(20)
    image = make_image(wavelength=wavelength)
    extract = Extract1D(
        aperture=Aperture(src_coeff=((8.0, -0.25), (11.0, 0.5)), independent_var="wavelength")
    )
    low, high = lines(plot_image(image, extract), VERMILION)
    for edge, c0, c1 in ((low, 8.0, -0.25), (high, 11.0, 0.5)):
        row = np.round(edge[0::2, 1] + 0.5).astype(int)
        for column, at in zip(edge[0::2, 0], row, strict=True):
            own = wavelength[at, int(np.clip(round(column), 0, 19))]
            assert column == pytest.approx(c0 + c1 * own, abs=0.05)


def test_several_apertures_on_one_image(make_image: Maker) -> None:
    narrow = Extract1D(aperture=Aperture(xstart=7, xstop=10))
    wide = Extract1D(aperture=Aperture(xstart=5, xstop=12))
    ax = plot_image(make_image(), {"4 pixels": narrow, "8 pixels": wide})
    legend = ax.get_legend()
    for name, edges in (("4 pixels", [6.5, 10.5]), ("8 pixels", [4.5, 12.5])):
        drawn = [line for line in ax.lines if line.get_label() == name]
        assert [line.get_xdata()[0] for line in drawn] == edges
        assert [text.get_text() for text in legend.get_texts()].count(name) == 1
    colours = {line.get_label(): line.get_color() for line in ax.lines}
    assert colours["4 pixels"] != colours["8 pixels"]
    outside = Extract1D(aperture=Aperture(xstart=500, xstop=510))
    with pytest.raises(LRSError, match="has no pixel on the image"):
        plot_image(make_image(), {"4 pixels": narrow, "outside": outside})


def test_offset_and_trace_move_what_is_drawn(make_image: Maker) -> None:
    extract = Extract1D(
        aperture=Aperture(xstart=7, xstop=10), background=REGIONS, position_offset=1.5
    )
    ax = plot_image(make_image(), extract, ax=new())
    assert [edge[0, 0] for edge in lines(ax, VERMILION)] == [8.0, 12.0]
    assert sorted(edge[0, 0] for edge in lines(ax, BLUE)) == [2.0, 5.5, 15.75, 20.0]
    ax = plot_image(make_image(), replace(extract, fixed_background=True), ax=new())
    assert sorted(edge[0, 0] for edge in lines(ax, BLUE)) == [0.5, 4.0, 14.25, 18.5]
    ax = plot_image(make_image(), replace(extract, subtract_background=False), ax=new())
    assert lines(ax, BLUE) == []


def test_bad_pixels_are_marked(make_image: Maker) -> None:
    image = make_image()
    data = np.array(image.data)
    data[4, 5] = np.nan
    dq = np.zeros(data.shape, np.uint32)
    dq[6, 7], dq[8, 9] = 1, 4  # DO_NOT_USE, and a flag that takes nothing away
    ax = plot_image(replace(image, data=data, dq=dq))
    marked = np.argwhere(ax.images[1].get_array().filled(0) == 1)
    assert marked.tolist() == [[4, 5], [6, 7]]
    # the value that interactive figures show at the pointer is that of the image
    assert [picture.mouseover for picture in ax.images] == [True, False]
    assert len(plot_image(image, ax=new()).images) == 1
    assert data[6, 7] == image.data[6, 7]  # the image is not changed


def test_wavelengths_beside_the_rows(make_image: Maker) -> None:
    image = make_image()
    axis = plot_image(image).child_axes[0]
    row = np.interp(
        [float(t.get_text()) for t in axis.get_yticklabels()],
        image.wavelength[::-1, 0],
        np.arange(30)[::-1],
    )
    assert axis.get_yticks() == pytest.approx(row, abs=1e-3)
    assert len(row) >= 8


def test_cut_is_the_row(make_image: Maker) -> None:
    image = make_image()
    extract = Extract1D(aperture=Aperture(xstart=7, xstop=10), background=REGIONS)
    ax = plot_cut(image, 12, extract, extract.run(image))
    steps = ax.patches[-1].get_data()
    np.testing.assert_allclose(steps.values, image.data[12])
    spans = sorted(
        (p.get_x(), p.get_x() + p.get_width()) for p in ax.patches if hasattr(p, "get_x")
    )
    assert spans == [(0.5, 4.0), (6.5, 10.5), (14.25, 18.5)]
    level = next(xy for xy in lines(ax, BLUE))
    background = extract.run(image).columns["BACKGROUND"][12]
    np.testing.assert_allclose(level, [[6.5, background], [10.5, background]])
    assert f"{image.wavelength[12].mean():.2f}" in ax.get_title(loc="left")
    with pytest.raises(LRSError, match="row is 30, expected 0 to 29"):
        plot_cut(image, 30)


def new() -> Axes:
    """Axes of a figure of their own."""
    return Figure().subplots()


def test_cuts_in_one_axes(make_image: Maker) -> None:
    data = np.array(make_image().data)
    data[20, 3] = np.nan
    image = make_image(data=data)
    extract = Extract1D(aperture=Aperture(xstart=7, xstop=10), background=REGIONS)
    ax = plot_cut(image, [5, 12, 20], extract, extract.run(image))
    cuts = [patch for patch in ax.patches if hasattr(patch, "get_data")]
    for row, cut in zip([5, 12, 20], cuts, strict=True):
        np.testing.assert_array_equal(cut.get_data().values, data[row])
        assert cut.get_label().startswith(f"row {row}, {image.wavelength[row].mean():.2f}")
    assert len({cut.get_edgecolor() for cut in cuts}) == 3
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    # The regions have one entry each, and are drawn once: an aperture and two background regions.
    assert [label.split(",")[0] for label in labels] == [
        "aperture", "background", "background level", "row 5", "row 12", "row 20", "bad pixel",
    ]  # fmt: skip
    assert len(ax.patches) - len(cuts) == 3
    marked = next(line for line in ax.lines if line.get_label() == "bad pixel")
    assert marked.get_xdata().tolist() == [3]
    assert ax.get_ylabel() == "surface brightness [MJy/sr]"
    # The edges move with the wavelength: those of the middle row are drawn, and the legend says so.
    tapered = Extract1D(
        aperture=Aperture(src_coeff=((6.0, 0.1), (8.0, 0.3)), independent_var="wavelength")
    )
    ax = plot_cut(image, [20, 12, 5], tapered, ax=new(), xlim=(4, 12), ylim=(0, 20))
    span = next(p for p in ax.patches if p.get_label() == "aperture in row 12")
    wave = float(image.wavelength[12, 0])
    ends = span.get_x(), span.get_x() + span.get_width()
    assert ends == pytest.approx((6.0 + 0.1 * wave, 8.0 + 0.3 * wave), abs=0.01)
    assert (ax.get_xlim(), ax.get_ylim()) == ((4, 12), (0, 20))
    for rows, message in (([], "rows is empty"), ([3, 30], "row is 30, expected 0 to 29")):
        with pytest.raises(LRSError, match=message):
            plot_cut(image, rows)


def test_current_axes_of_pyplot(make_image: Maker) -> None:
    """A figure is made only where there is none; ``ax`` and ``figure`` take precedence."""
    image = make_image()
    ax = plot_image(image)
    assert pyplot.get_fignums() == [ax.figure.number]
    _, (left, right) = pyplot.subplots(1, 2)
    assert plot_cut(image, 3) is right
    pyplot.sca(left)
    assert plot_spectrum(run(image)) is left
    assert plot_image(image, ax=ax) is ax
    assert len(pyplot.get_fignums()) == 2
    panels = plot_extraction(run(image))
    assert pyplot.gcf() is panels.figure
    assert repr(panels) == "<Panels spectrum, background, pixels>"
    plot_product(image, None, run(image), figure=Figure)
    plot_image(image, ax=new())
    assert len(pyplot.get_fignums()) == 3


@pytest.mark.parametrize("stretch", ["asinh", "linear", "sqrt", "log"])
def test_stretch(make_image: Maker, stretch: str) -> None:
    picture = plot_image(make_image(), stretch=stretch, xlim=(2, 9), ylim=(3, 8)).images[0]
    low, high = picture.get_clim()
    middle = float(picture.norm(low + 0.25 * (high - low)))
    curves = {"linear": 0.25, "sqrt": 0.5, "asinh": np.arcsinh(2.5) / np.arcsinh(10.0)}
    assert middle == pytest.approx(curves.get(stretch, np.log(251) / np.log(1001)))
    assert [float(picture.norm(value)) for value in (low, high)] == pytest.approx([0.0, 1.0])
    assert (picture.axes.get_xlim(), picture.axes.get_ylim()) == ((2, 9), (3, 8))
    with pytest.raises(LRSError, match=r"stretch is 'asin' \(did you mean 'asinh'"):
        plot_image(make_image(), stretch="asin")


def test_grey_limits() -> None:
    """Neither the noisy ends of the spectrum nor negative traces determine the scale."""
    wavelength = np.linspace(14.0, 3.0, 110)[:, np.newaxis] * np.ones(50)
    values = np.random.default_rng(1).normal(0.0, 1.0, wavelength.shape)
    values[:, 20:24] += 100.0
    values[:, 30:34] -= 100.0
    low, high = grey_limits(values, wavelength)
    assert 95 < high < 110
    assert -15 < low < -5
    noisy = np.where((wavelength < 5) | (wavelength > 12), 1e4 * values, values)
    assert grey_limits(noisy, wavelength) == pytest.approx((low, high), rel=0.05)
    values[:50] = np.nan
    assert np.isfinite(grey_limits(values, wavelength)).all()
    assert grey_limits(np.full((3, 3), np.nan), np.ones((3, 3))) == (0.0, 1.0)
    assert grey_limits(np.full((3, 3), 2.0), np.full((3, 3), 7.0)) == (1.0, 3.0)


def run(image: SlitImage, **aperture: float) -> Extraction:
    return Extract1D(aperture=Aperture(**(aperture or {"xstart": 7, "xstop": 10}))).run(image)


def test_spectrum_with_truth(make_image: Maker) -> None:
    image = make_image()
    found = run(image)
    truth = np.full(30, 3e-5)
    flux, background, pixels = plot_extraction(found, truth=(found.wavelength, truth)).values()
    drawn, reference = flux.lines[0].get_xydata(), flux.lines[1].get_ydata()
    assert flux.get_ylabel() == "flux [µJy]"
    np.testing.assert_allclose(drawn[:, 1], found.columns["FLUX"] * 1e6)
    np.testing.assert_allclose(reference, 30.0)
    band = flux.collections[0].get_paths()[0].get_extents()
    error = found.columns["FLUX_ERROR"] * 1e6
    assert band.ymax == pytest.approx((drawn[:, 1] + error).max())
    assert "no background subtracted" in [text.get_text() for text in background.texts]
    assert (pixels.lines[0].get_ydata() == 4).all()


def test_masked_rows_are_gaps(make_image: Maker) -> None:
    image = make_image()
    data = np.array(image.data)
    data[12] = np.nan
    found = run(replace(image, data=data))
    ax = plot_extraction(found)["spectrum"]
    assert np.flatnonzero(np.isnan(ax.lines[0].get_ydata())).tolist() == [12]
    assert ax.lines[1].get_xdata() == pytest.approx([found.wavelength[12]])
    assert ax.lines[1].get_label() == "masked"


def test_spectra_in_one_axes(make_image: Maker) -> None:
    first, second = run(make_image()), run(make_image(seed=2))
    ax = plot_spectrum(first.to_spectrum(), second, labels=["one", "$2"], offset=0.5)
    one, two = (line.get_ydata() for line in ax.lines)
    step = 0.5e6 * np.median(first.columns["FLUX"])
    np.testing.assert_allclose(one, first.columns["FLUX"] * 1e6)
    np.testing.assert_allclose(two, second.columns["FLUX"] * 1e6 + step)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert (
        labels == ["3 to 5 µm: poorly calibrated", "one", rf"\$2 +{step:.3g} µJy"][-len(labels) :]
    )
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("wavelength [µm]", "flux [µJy]")
    # A spectrum that is a thousand times brighter is added in the unit of the axes.
    bright = run(make_image(data=make_image().data * 1e3))
    plot_spectrum(bright, xlim=(6, 9))
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), bright.columns["FLUX"] * 1e6)
    assert ax.get_ylabel() == "flux [µJy]"
    assert ax.get_xlim() == (6, 9)
    assert len({line.get_color() for line in ax.lines}) == 3
    assert plot_spectrum(bright, ax=new()).get_ylabel() == "flux [mJy]"
    named = [replace(first, filename=f"folder/{name}") for name in ("a.fits", "b.fits", "a.fits")]
    legend = plot_spectrum(*named, ax=new()).get_legend().get_texts()
    assert [text.get_text() for text in legend][-3:] == ["a.fits #1", "b.fits", "a.fits #2"]
    counts = run(make_image(unit=u.Unit("DN/s"), calibrated=False))
    for wrong, message in (
        ({"column": "NPIXELS"}, r"the axes show flux \[µJy\], expected pixels used"),
        ({"labels": ["a", "b"]}, "there are 2 labels, expected 1"),
        ({"offset": np.nan}, "offset is nan"),
    ):
        with pytest.raises(LRSError, match=message):
            plot_spectrum(first, **wrong)
    with pytest.raises(LRSError, match=r"different units of FLUX \(DN/s, Jy\)"):
        plot_spectrum(first, counts)
    with pytest.raises(LRSError, match=r"x1d\.fits: does not exist"):
        plot_spectrum("x1d.fits")
    with pytest.raises(LRSError, match="the spectrum is a int, expected a Spectrum"):
        plot_spectrum(5)  # type: ignore[arg-type]
    with pytest.raises(LRSError, match="at least one"):
        plot_spectrum()


def test_poorly_calibrated_wavelengths_and_bad_pixels_are_marked(make_image: Maker) -> None:
    wavelength = np.linspace(14.0, 3.5, 30)[:, np.newaxis] * np.ones(20)
    data = np.array(make_image().data)
    data[4, 8] = np.nan
    data[6] = np.nan
    found = run(make_image(data=data, wavelength=wavelength))
    for ax in (
        plot_spectrum(found),
        plot_extraction(found)["spectrum"],
        plot_comparison({"a": found})["spectra"],
    ):
        (span,) = (p for p in ax.patches if "poorly" in p.get_label())
        assert (span.get_x(), span.get_width()) == (3.0, 2.0)
        marks = {line.get_label(): line.get_xdata() for line in ax.lines}
        if "bad pixels" in marks:
            assert marks["bad pixels"] == pytest.approx([found.wavelength[4]])
            assert marks["masked"] == pytest.approx([found.wavelength[6]])
    ax = plot_spectrum(run(make_image()), ax=new())  # from 5 micron on
    assert not any("poorly" in p.get_label() for p in ax.patches)


def test_offset_of_a_comparison(make_image: Maker) -> None:
    first, second = run(make_image()), run(make_image(seed=2))
    panels = plot_comparison({"a": first, "b": second}, offset=-0.1, xlim=(6, 9), ylim=(0, 50))
    step = -0.1e6 * np.median(first.columns["FLUX"])
    shifted = panels["spectra"].lines[1].get_ydata() - second.columns["FLUX"] * 1e6
    np.testing.assert_allclose(shifted, step)
    ratio = panels["ratio"].lines[0].get_ydata()
    np.testing.assert_allclose(ratio, second.columns["FLUX"] / first.columns["FLUX"])
    assert panels["spectra"].get_legend().get_texts()[1].get_text() == f"b {step:.3g} µJy"
    assert panels["ratio"].get_xlim() == (6, 9)
    assert panels["spectra"].get_ylim() == (0, 50)


def test_comparison_divides(make_image: Maker) -> None:
    first = run(make_image(data=np.full((30, 20), 2.0)))
    # Another grid: half a row off, three times as bright.
    wave = np.linspace(14.0, 5.0, 30) - 4.5 / 29
    other = run(make_image(data=np.full((30, 20), 6.0), wavelength=np.tile(wave[:, None], (1, 20))))
    top, low = plot_comparison({"one": first, "three": other}).values()
    assert [text.get_text() for text in top.get_legend().get_texts()][:2] == ["one", "three"]
    (ratio,) = [line.get_ydata() for line in low.lines if len(line.get_ydata()) == 30]
    inside = wave > 5
    np.testing.assert_allclose(ratio[inside], 3.0)
    assert np.isnan(ratio[~inside]).all()  # no extrapolation
    assert "interpolated linearly" in low.texts[0].get_text()
    assert low.get_ylabel() == "ratio to\none"
    # On one grid nothing is interpolated, and nothing says so.
    assert plot_comparison({"a": first, "b": first})["ratio"].texts[:] == []
    assert list(plot_comparison({"a": first})) == ["spectra"]
    truth = (first.wavelength, first.columns["FLUX"] / 2)
    low = plot_comparison({"a": first}, truth=truth)["ratio"]
    np.testing.assert_allclose(low.lines[0].get_ydata(), 2.0)


def test_comparison_of_invalid_spectra(make_image: Maker) -> None:
    found = run(make_image())
    with pytest.raises(LRSError, match="at least one spectrum"):
        plot_comparison({})
    with pytest.raises(LRSError, match=r"column is 'FLIX' \(did you mean 'flux'\?\)"):
        plot_comparison({"a": found}, column="FLIX")
    counts = run(make_image(unit=u.Unit("DN/s"), calibrated=False))
    for column in ("FLUX", "flux"):
        with pytest.raises(LRSError, match=r"different units of FLUX \(DN/s, Jy\)"):
            plot_comparison({"a": found, "b": counts}, column=column)


def test_stack(make_image: Maker) -> None:
    factors = np.array([1.0, 1.0, 0.9, 1.1, 1.0])
    image = make_image((5, 30, 20), data=np.full((5, 30, 20), 2.0) * factors[:, None, None])
    data = np.array(image.data)
    data[1, 12] = np.nan  # a lost row must not look like a dip of the light curve
    found = run(replace(image, data=data))
    top, picture, curve = plot_stack(found).values()
    middle = np.median(found.columns["FLUX"], axis=0)[0] * 1e6
    np.testing.assert_allclose(top.lines[0].get_ydata(), middle)
    shown = picture.collections[0].get_array().reshape(5, 30)
    np.testing.assert_allclose(shown[2], 0.9)
    assert np.isnan(np.ma.filled(shown, np.nan)[1, 12])
    np.testing.assert_allclose(curve.lines[0].get_xdata(), factors)
    np.testing.assert_array_equal(curve.lines[0].get_ydata(), [1, 2, 3, 4, 5])
    with pytest.raises(LRSError, match="expected a stack"):
        plot_stack(run(make_image()))
    np.testing.assert_allclose(
        plot_extraction(found, integration=3)["spectrum"].lines[0].get_ydata(), 1.1 * middle
    )
    with pytest.raises(LRSError, match="integration is 5, expected 0 to 4"):
        plot_extraction(found, integration=5)


def test_width() -> None:
    ax = plot_width([5.0, 12.0], [0.29, 0.42], [2.4, 0.25], pixel_scale=0.11, factor=1.5)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [1.5 * 0.29 / 0.11, 1.5 * 0.42 / 0.11])
    wave, half = ax.lines[1].get_xydata().T
    np.testing.assert_allclose(half, 2.4 + 0.25 * wave)
    ax.figure.draw_without_rendering()
    right = ax.child_axes[0]
    np.testing.assert_allclose(right.get_ylim(), np.array(ax.get_ylim()) * 0.11 / 1.5)


def test_widths_of_two_sources_in_one_figure() -> None:
    ax = plot_width([5.0, 12.0], [0.29, 0.42], [2.4, 0.25], label="table", ax=new())
    error = [0.01, 0.02]
    again = plot_width(
        [5.0, 12.0], [0.3, 0.4], [2.5, 0.2], error=error, label="image", factor=1.5, ax=ax
    )
    assert again is ax
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sorted(texts) == [
        "image: 1.5 × FWHM",
        "image: edge of the aperture: 2.5000 + 0.2000 λ",
        "table: 1.5 × FWHM",
        "table: edge of the aperture: 2.4000 + 0.2500 λ",
    ]
    first, second = (line for line in ax.lines if line.get_gid())
    assert first.get_color() != second.get_color()
    (bars,) = ax.containers[1][2]
    lengths = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
    np.testing.assert_allclose(lengths, 2 * 1.5 * np.array(error) / 0.11)
    assert len(ax.child_axes) == 1


def test_the_legend_names_poor_calibration_only_if_it_is_shown(make_image: Maker) -> None:
    image = make_image(wavelength=np.linspace(14.0, 4.0, 30)[:, None] * np.ones(20))
    found = Extract1D(aperture=Aperture(xstart=7, xstop=10)).run(image)
    for limits, number in (((5, 14), 0), ((4, 14), 1), (None, 1)):
        axes = [
            plot_spectrum(found, xlim=limits, ax=new()),
            plot_extraction(found, xlim=limits)["spectrum"],
            plot_comparison({"one": found, "other": found}, xlim=limits)["spectra"],
        ]
        for ax in axes:
            texts = [text.get_text() for text in ax.get_legend().get_texts()]
            assert sum("poorly" in text for text in texts) == number


@pytest.mark.slow
def test_texts_do_not_overlap(make_image: Maker) -> None:
    image = Scene().combined().image  # whose wavelengths crowd at the short end
    stack = make_image((3, 400, 63))
    extract = Extract1D(
        aperture=Aperture(xstart=9, xstop=17),
        background=Background.from_edges((0.5, 4.5), (38, 43)),
    )
    found = extract.run(image)
    title = "jw01234001001_04101_00001_mirimage_s2d.fits"
    figures = [
        plot_product(image, extract, found, title=title),
        plot_product(stack, extract, extract.run(stack), integration=2, title=title),
        plot_product(stack, extract, extract.run(stack), title=title),
        plot_product(image, extract),
        plot_comparison({f"{title} #{i}": found for i in range(4)}),
        plot_stack(extract.run(stack), title=title),
        plot_width([5.0, 7.5, 12.0], [0.29, 0.3, 0.42], [2.4, 0.25], ax=Figure().subplots()),
    ]
    for drawn in figures:
        assert overlapping(drawn.figure) == []


@pytest.mark.slow
def test_product_and_its_cuts(make_image: Maker) -> None:
    image = make_image()
    extract = Extract1D(aperture=Aperture(xstart=7, xstop=10, ystart=10, ystop=18))
    figure = plot_product(image, extract, rows=(11, 15)).figure
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert [t.split(",")[0] for t in titles if t] == [
        "row 15",
        "row 11",
    ]  # as they lie on the image
    figure = plot_product(image, extract).figure
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert [t.split(",")[0] for t in titles if t] == ["row 17", "row 14", "row 11"]
    # A stack: the image of the first integration beside the spectra of all.
    stack = make_image((3, 30, 20))
    axes = plot_product(stack, extract, extract.run(stack)).figure.axes
    np.testing.assert_array_equal(axes[0].images[0].get_array(), stack.data[0])
    assert [ax.get_ylabel() for ax in axes].count("integration") == 2
    one = plot_product(stack, extract, extract.run(stack), integration=2).figure
    np.testing.assert_array_equal(one.axes[0].images[0].get_array(), stack.data[2])
    assert "integration 3 of 3" in one.get_suptitle()
    off = Extract1D(aperture=Aperture(xstart=70, xstop=80))
    with pytest.raises(LRSError, match="has no pixel on the image"):
        plot_product(image, off)


def test_save(make_image: Maker, tmp_path: Path) -> None:
    figure = plot_extraction(run(make_image())).figure
    save(figure, tmp_path / "a.png", dpi=50)
    assert pictures.imread(tmp_path / "a.png").shape[:2] == (350, 425)
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(WriteError, match="exists"):
        save(figure, tmp_path / "a.png")
    with pytest.raises(WriteError, match=r"ends in '\.doc', expected a picture"):
        save(figure, tmp_path / "a.doc")
    assert (tmp_path / "a.png").read_bytes() == before
    save(figure, tmp_path / "a.png", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.slow
def test_names_are_not_mathematical_text(make_image: Maker, tmp_path: Path) -> None:
    """File names are drawn literally, with "$" and characters that cannot be encoded escaped."""
    image = make_image()
    operator = Extract1D(aperture=Aperture(xstart=3, xstop=16))
    extraction = operator.run(image)
    name = "a\udcff$x^$"
    shown = "a\\udcff\\$x^\\$"
    figure = plot_product(image, operator, extraction, title=name).figure
    assert figure.get_suptitle() == shown
    save(figure, tmp_path / "a.png")
    figure = plot_comparison({name: extraction, "b": extraction}, title=name).figure
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == [shown, "b"]
    assert figure.axes[1].get_ylabel() == f"ratio to\n{shown}"
    save(figure, tmp_path / "b.png")


def test_spectra_of_the_same_name_in_two_calls(make_image: Maker) -> None:
    """Each has its entry in the legend, and its offset."""
    spectrum = run(make_image())
    ax = plot_spectrum(spectrum, offset=0.5)
    plot_spectrum(spectrum, offset=0.5)
    found = [line for line in ax.lines if (line.get_gid() or "").startswith("glue_lrs")]
    labels = [line.get_label() for line in found]
    assert len(set(labels)) == 2
    assert {text.get_text() for text in ax.get_legend().get_texts()} >= set(labels)
    shift = np.nanmedian(found[1].get_ydata() - found[0].get_ydata())
    assert shift > 0


def test_no_figure_is_left_if_the_aperture_is_off_the_image(make_image: Maker) -> None:
    before = pyplot.get_fignums()
    with pytest.raises(LRSError):
        plot_image(make_image(), Extract1D(aperture=Aperture(xstart=500, xstop=510)))
    assert pyplot.get_fignums() == before


def test_no_figure_is_left_by_an_error(make_image: Maker) -> None:
    image = make_image((12, 9))
    operator = Extract1D(aperture=Aperture(xstart=3, xstop=5))
    extraction = operator.run(image, check=False)
    other = pyplot.figure()
    before = pyplot.get_fignums()
    for draw in (
        lambda: plot_product(image, operator, extraction, rows=[400]),
        lambda: plot_product(image, operator, extraction, column="FLUXX"),
        lambda: plot_extraction(extraction, column="FLUXX"),
        lambda: plot_comparison({"one": extraction}, column="FLUXX"),
        lambda: plot_comparison({}),
        lambda: plot_spectrum(extraction, column="FLUXX"),
    ):
        with pytest.raises((LRSError, TypeError, ValueError)):
            draw()
        assert pyplot.get_fignums() == before
    pyplot.close(other)
