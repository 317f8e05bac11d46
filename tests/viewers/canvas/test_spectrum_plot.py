"""SpectrumPlot: what is drawn of a live spectrum, and how little is redrawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import StdDevUncertainty
from glue.core import DataCollection
from glue.core.edit_subset_mode import AndNotMode
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from specutils import Spectrum

from glue_lrs import Aperture, Extract1D, SlitImage
from glue_lrs.viewers import LiveExtraction, open_extraction
from glue_lrs.viewers.canvas.image_editor import ImageEditor
from glue_lrs.viewers.canvas.shapes import band_outlines
from glue_lrs.viewers.canvas.spectrum_plot import SpectrumPlot
from tests.helpers.canvas import Pointer

Maker = Callable[..., SlitImage]
ROWS, COLUMNS = 60, 45
START = Extract1D(aperture=Aperture(xstart=20, xstop=27))
BLUE = (0, 114, 178)


def source(make_image: Maker, **changes: Any) -> SlitImage:
    """A source about column 23, brighter towards short wavelengths, three bad rows."""
    image = make_image((ROWS, COLUMNS))
    data = np.array(image.data)
    profile = np.exp(-((np.arange(COLUMNS) - 23.0) ** 2) / 8.0)
    data += (20 + 2.0 * np.arange(ROWS))[:, np.newaxis] * profile
    data[[10, 11, 50]] = np.nan
    return replace(image, data=data.astype(np.float32), **changes)


def opened(image: SlitImage, operator: Extract1D = START) -> LiveExtraction:
    live = open_extraction(DataCollection(), image)
    assert live.set(operator)
    return live


@pytest.fixture
def live(make_image: Maker) -> LiveExtraction:
    return opened(source(make_image))


def new_axes(parts: int = 1) -> list[Axes]:
    figure = Figure(figsize=(6, 5), dpi=100)
    FigureCanvasAgg(figure)
    return list(np.atleast_1d(figure.subplots(parts, 1, sharex=True)))


@pytest.fixture
def plot(live: LiveExtraction) -> SpectrumPlot:
    ax = new_axes()[0]
    made = SpectrumPlot(ax, live)
    ax.figure.canvas.draw()
    return made


def middle(ax: Axes, x: float) -> tuple[float, float]:
    """Place at half the height of an axes."""
    return x, sum(ax.get_ylim()) / 2


def drag(ax: Axes, *xs: float, release: bool = True) -> None:
    pointer = Pointer(ax)
    pointer.press(middle(ax, xs[0]))
    for x in xs[1:]:
        pointer.move(middle(ax, x))
    if release:
        pointer.release(middle(ax, xs[-1]))


def extent(plot: SpectrumPlot) -> tuple[float, float]:
    box = plot.range_patch.get_path().get_extents()
    return box.x0, box.x1


# --- drawing -----------------------------------------------------------------------------------


def test_the_flux_is_drawn_in_a_readable_unit(live: LiveExtraction, plot: SpectrumPlot) -> None:
    columns, good = live.extraction.columns, ~live.extraction.mask
    factor = u.Jy.to(u.Unit(plot.unit.replace("µ", "u")))
    np.testing.assert_array_equal(plot.line.get_xdata(), columns["WAVELENGTH"])
    np.testing.assert_allclose(plot.line.get_ydata()[good], columns["FLUX"][good] * factor)
    assert np.isnan(plot.line.get_ydata()[~good]).all()
    assert 0.5 <= np.median(plot.line.get_ydata()[good]) < 1000
    assert plot.axes.get_ylabel() == f"flux [{plot.unit}]"
    assert plot.axes.get_xlabel() == "wavelength [µm]"


def test_the_band_is_one_sigma_wide_and_has_gaps(live: LiveExtraction, plot: SpectrumPlot) -> None:
    paths = plot.band.get_paths()
    assert len(paths) == 3  # rows 10 and 11 and row 50 part it
    row = 30
    wave = live.extraction.wavelength[row]
    factor = u.Jy.to(u.Unit(plot.unit.replace("µ", "u")))
    ends = sorted(
        y for path in paths for x, y in path.vertices[:-1] if x == pytest.approx(wave, abs=1e-9)
    )
    half = (ends[-1] - ends[0]) / 2
    assert half == pytest.approx(live.extraction.columns["FLUX_ERROR"][row] * factor, rel=1e-6)


def test_masked_rows_are_marked(live: LiveExtraction, plot: SpectrumPlot) -> None:
    assert sorted(plot.masked.get_xdata()) == sorted(live.row_wavelength[[10, 11, 50]])
    texts = [text.get_text() for text in plot.axes.get_legend().get_texts()]
    assert texts == ["extracted", "±1σ", "masked row"]


def test_rows_with_quality_bits_are_marked(make_image: Maker) -> None:
    image = source(make_image)
    data = np.array(image.data)
    data[30, 23] = np.nan
    plot = SpectrumPlot(new_axes()[0], opened(replace(image, data=data)))
    live = plot.live
    assert list(plot.flagged.get_xdata()) == [live.row_wavelength[30]]
    texts = [text.get_text() for text in plot.axes.get_legend().get_texts()]
    assert texts == ["extracted", "±1σ", "masked row", "quality bits"]
    live.cursor_row = 30.0
    assert plot.readout.get_text().endswith("Jy (lost)")
    live.preview(Extract1D(aperture=Aperture(xstart=10, xstop=15)))
    assert list(plot.flagged.get_xdata()) == []


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_a_band_covers_all_finite_points(good: list[bool]) -> None:
    x = np.arange(len(good), dtype=float)
    low = np.where(good, 1.0, np.nan)
    outlines = band_outlines(x, low, low + 1.0)
    runs = "".join("x" if one else " " for one in good).split()
    assert len(outlines) == len(runs)
    for outline, run in zip(outlines, runs, strict=True):
        width = np.ptp(outline[:, 0])
        assert width == len(run) - 1 or (len(run) == 1 and 0 < width < 1)
        assert set(outline[:, 1]) == {1.0, 2.0}


def test_a_row_between_masked_ones_can_be_seen(make_image: Maker) -> None:
    image = source(make_image)
    data = np.array(image.data)
    data[29], data[31] = np.nan, np.nan
    plot = SpectrumPlot(new_axes()[0], opened(replace(image, data=data)))
    wave = plot.live.row_wavelength
    assert list(plot.isolated.get_xdata()) == [wave[30]]


def test_the_readout_is_the_flux_at_the_crosshair(live: LiveExtraction, plot: SpectrumPlot) -> None:
    live.cursor_row = 30.0
    at = live.row_wavelength[30]
    factor = u.Jy.to(u.Unit(plot.unit.replace("µ", "u")))
    text = plot.readout.get_text()
    start, numbers = text.split(":  ")
    assert start == f"row 30, {at:.3f} µm"
    flux, _, error, unit = numbers.split()
    assert unit == plot.unit
    assert float(flux) == pytest.approx(
        live.extraction.columns["FLUX"][30] * factor, abs=0.51 * float(error)
    )
    assert float(error) == pytest.approx(
        live.extraction.columns["FLUX_ERROR"][30] * factor, rel=0.06
    )
    live.cursor_row = 10.0
    assert plot.readout.get_text().endswith("masked (lost)")


def test_a_failed_extraction_shows_the_reason(live: LiveExtraction, plot: SpectrumPlot) -> None:
    live.preview(Extract1D(aperture=Aperture(xstart=200, xstop=210)))
    assert live.extraction is None
    assert np.size(plot.line.get_xdata()) == 0
    assert plot.band.get_paths() == []
    assert plot.note.get_text().replace("\n", " ") == live.message
    live.cancel()
    assert plot.note.get_text() == ""
    assert np.size(plot.line.get_xdata()) == ROWS


def test_uncalibrated_fluxes_keep_their_unit(make_image: Maker) -> None:
    live = opened(source(make_image, unit=u.DN / u.s, calibrated=False))
    plot = SpectrumPlot(new_axes()[0], live)
    assert plot.unit == "DN/s"
    good = ~live.extraction.mask
    np.testing.assert_array_equal(
        plot.line.get_ydata()[good], live.extraction.columns["FLUX"][good]
    )


def test_a_given_unit_is_used(live: LiveExtraction) -> None:
    plot = SpectrumPlot(new_axes()[0], live, unit="Jy")
    good = ~live.extraction.mask
    np.testing.assert_array_equal(
        plot.line.get_ydata()[good], live.extraction.columns["FLUX"][good]
    )
    assert plot.axes.get_ylabel() == "flux [Jy]"


# --- limits ------------------------------------------------------------------------------------


def test_an_outlier_does_not_set_the_limits(make_image: Maker) -> None:
    image = source(make_image)
    before = SpectrumPlot(new_axes()[0], opened(image)).axes.get_ylim()
    data = np.array(image.data)
    data[45] *= 1000
    after = SpectrumPlot(new_axes()[0], opened(replace(image, data=data))).axes.get_ylim()
    assert np.ptp(after) < 1.3 * np.ptp(before)


def test_limits_hold_nearly_all_of_the_spectrum(plot: SpectrumPlot) -> None:
    low, high = plot.axes.get_ylim()
    values = plot.line.get_ydata()
    values = values[np.isfinite(values)]
    assert ((values > low) & (values < high)).mean() > 0.95
    assert np.ptp(values) > 0.5 * (high - low)
    left, right = plot.axes.get_xlim()
    assert left < 5.0 < 14.0 < right


def test_small_changes_are_blitted_and_large_ones_move_the_limits(
    live: LiveExtraction, plot: SpectrumPlot
) -> None:
    pointer = Pointer(plot.axes)
    limits = plot.axes.get_ylim()
    live.preview(Extract1D(aperture=Aperture(xstart=20.1, xstop=27)))
    assert plot.axes.get_ylim() == limits
    assert pointer.draws == 0
    live.preview(Extract1D(aperture=Aperture(xstart=35, xstop=40)))  # off the source
    assert plot.axes.get_ylim() != limits
    assert pointer.draws == 1
    values = plot.line.get_ydata()
    low, high = plot.axes.get_ylim()
    assert low < np.nanmedian(values) < high


def test_limits_of_a_user_stay(live: LiveExtraction, plot: SpectrumPlot) -> None:
    plot.axes.set_ylim(-5, 5)
    live.preview(Extract1D(aperture=Aperture(xstart=35, xstop=40)))
    assert plot.axes.get_ylim() == (-5, 5)
    plot.reset_limits()
    assert plot.axes.get_ylim() != (-5, 5)
    live.cancel()
    assert plot.axes.get_ylim()[1] > np.nanpercentile(plot.line.get_ydata(), 90)


def test_blitting_draws_what_a_full_draw_draws(live: LiveExtraction, plot: SpectrumPlot) -> None:
    pointer = Pointer(plot.axes)
    for start in (20.1, 20.3, 20.2):
        live.preview(Extract1D(aperture=Aperture(xstart=start, xstop=27)))
    live.cursor_row = 20.0
    live.wavelength_range = (6.0, 7.0)
    assert pointer.draws == 0
    blitted = pointer.pixels()
    plot.axes.figure.canvas.draw()
    np.testing.assert_array_equal(pointer.pixels(), blitted)
    close = np.abs(blitted.astype(int) - BLUE).max(axis=-1) < 30
    assert close.any(axis=0).sum() > 300  # the line crosses the figure


# --- comparison --------------------------------------------------------------------------------


def other(live: LiveExtraction, unit: str = "Jy", factor: float = 0.5) -> Spectrum:
    columns = live.extraction.columns
    good = ~live.extraction.mask
    order = np.argsort(columns["WAVELENGTH"][good])
    flux = (columns["FLUX"][good][order] * factor) * u.Jy
    return Spectrum(
        flux=flux.to(unit) if unit != "DN/s" else flux.value * u.DN / u.s,
        spectral_axis=columns["WAVELENGTH"][good][order] * u.um,
        uncertainty=StdDevUncertainty(np.ones(int(good.sum()))),
    )


@pytest.mark.parametrize("unit", ["Jy", "mJy"])
def test_a_comparison_is_overlaid_in_the_same_unit(live: LiveExtraction, unit: str) -> None:
    top, bottom = new_axes(2)
    plot = SpectrumPlot(top, live, ratio_axes=bottom)
    live.comparison, live.comparison_label = other(live, unit), "pipeline"
    x, y = plot.comparison_line.get_data()
    assert (np.diff(x) > 0).all()
    mine = np.interp(x, plot.line.get_xdata()[::-1], plot.line.get_ydata()[::-1])
    known = np.isfinite(mine)
    np.testing.assert_allclose(y[known], 0.5 * mine[known], rtol=1e-6)
    ratio = plot.ratio_line.get_ydata()
    np.testing.assert_allclose(ratio[np.isfinite(ratio)], 2.0, rtol=1e-6)
    assert np.isfinite(ratio).sum() == (~live.extraction.mask).sum()
    low, high = bottom.get_ylim()
    assert low < 1 < 2 < high
    texts = [text.get_text() for text in top.get_legend().get_texts()]
    assert "pipeline" in texts
    assert bottom.get_xlabel() == "wavelength [µm]"
    live.comparison = None
    assert np.size(plot.comparison_line.get_xdata()) == 0
    assert np.size(plot.ratio_line.get_xdata()) == 0
    assert len(top.get_legend().get_texts()) == 3


def test_a_comparison_in_another_unit_is_reported(live: LiveExtraction, plot: SpectrumPlot) -> None:
    live.comparison, live.comparison_label = other(live, "DN/s"), "raw"
    assert np.size(plot.comparison_line.get_xdata()) == 0
    texts = [text.get_text() for text in plot.axes.get_legend().get_texts()]
    assert "raw: in DN/s, not comparable" in texts


def test_the_ratio_is_that_of_the_statistics(live: LiveExtraction) -> None:
    """Drawn with gaps where a row is masked, also where the comparison covers a part only."""
    top, bottom = new_axes(2)
    plot = SpectrumPlot(top, live, ratio_axes=bottom)
    live.comparison = other(live)[10:30]
    wave, ratio = live.ratio()
    x, y = plot.ratio_line.get_data()
    np.testing.assert_array_equal(x, wave)
    np.testing.assert_array_equal(y, ratio)
    assert 15 <= np.isfinite(y).sum() <= 20
    assert np.nanmedian(y) == pytest.approx(live.numbers().ratio)


def test_several_ranges_are_bands_apart(live: LiveExtraction, plot: SpectrumPlot) -> None:
    live.select(6.0, 10.0)
    live.session.edit_subset_mode.mode = AndNotMode
    live.select(7.5, 8.5)
    assert len(live.wavelength_ranges) == 2
    inside = plot.range_patch.get_path().contains_points
    assert list(inside([(6.5, 0.5), (8.0, 0.5), (9.5, 0.5), (11.0, 0.5)])) == [1, 0, 1, 0]


# --- pointer -----------------------------------------------------------------------------------


def test_a_click_sets_the_crosshair(live: LiveExtraction, plot: SpectrumPlot) -> None:
    drag(plot.axes, 8.0, 8.005)
    assert live.cursor_row == pytest.approx(np.interp(-8.0, -live.row_wavelength, live.rows), abs=1)
    assert plot.cursor.get_xdata() == pytest.approx([8.0, 8.0], abs=0.02)
    assert live.wavelength_range is None


def test_a_drag_selects_a_range(live: LiveExtraction, plot: SpectrumPlot) -> None:
    ranges: list[Any] = []
    live.add_callback("wavelength_range", ranges.append)
    drag(plot.axes, 9.0, 8.0, 7.0)
    assert live.wavelength_range == pytest.approx((7.0, 9.0), abs=0.02)
    assert len(ranges) == 1
    assert extent(plot)[0] == pytest.approx(7.0, abs=0.02)
    drag(plot.axes, 6.0, 5.5, release=False)
    assert np.ptp(extent(plot)) == pytest.approx(0.5, abs=0.03)
    Pointer(plot.axes).key("escape")
    assert not plot.busy
    assert extent(plot)[0] == pytest.approx(7.0, abs=0.02)
    drag(plot.axes, 13.0, 40.0)  # off the axes: to the end of the wavelengths
    assert live.wavelength_range == pytest.approx((13.0, 14.0), abs=0.02)
    Pointer(plot.axes).press(middle(plot.axes, 8.0), dblclick=True)
    assert live.wavelength_range is None
    assert not plot.range_patch.get_visible()


def test_an_inactive_or_closed_plot_leaves_the_mouse_alone(
    live: LiveExtraction, plot: SpectrumPlot
) -> None:
    row = live.cursor_row
    plot.active = False
    drag(plot.axes, 9.0, 8.0)
    plot.active = True
    drag(plot.axes, 9.0, 8.0, release=False)
    plot.close()
    Pointer(plot.axes).release(middle(plot.axes, 7.0))
    drag(plot.axes, 9.0, 8.0)
    assert (live.wavelength_range, live.cursor_row) == (None, row)
    live.preview(Extract1D(aperture=Aperture(xstart=5, xstop=9)))
    assert plot.axes.get_children().count(plot.layer) == 0
    plot.close()


def test_axes_removed_while_shown(live: LiveExtraction, plot: SpectrumPlot) -> None:
    figure = plot.axes.figure
    plot.axes.remove()
    live.preview(Extract1D(aperture=Aperture(xstart=35, xstop=40)))
    live.cursor_row = 4.0
    live.comparison = other(live)
    figure.canvas.draw()
    plot.close()


def test_a_reason_is_within_the_axes(live: LiveExtraction, plot: SpectrumPlot) -> None:
    live.preview(Extract1D(aperture=Aperture(xstart=200, xstop=210)))
    canvas: Any = plot.axes.figure.canvas
    extent, axes = plot.note.get_window_extent(canvas.get_renderer()), plot.axes.bbox
    assert axes.x0 < extent.x0 < extent.x1 < axes.x1


def test_the_few_rows_of_a_steep_rise_are_seen(make_image: Maker) -> None:
    image = make_image((400, COLUMNS))
    data = np.array(image.data)
    data[390:396, 23] += 3000.0
    plot = SpectrumPlot(new_axes()[0], opened(replace(image, data=data)))
    peak = np.sort(plot.line.get_ydata())[-6]
    assert plot.axes.get_ylim()[1] > peak


@pytest.mark.slow
@pytest.mark.parametrize("escape", [False, True])
def test_a_long_drag_changes_the_limits_seldom_and_leaves_them_tight(
    live: LiveExtraction, escape: bool
) -> None:
    image, spectrum = new_axes()[0], new_axes()[0]
    image.set(xlim=(-0.5, COLUMNS - 0.5), ylim=(-0.5, ROWS - 0.5))
    editor, plot = ImageEditor(image, live), SpectrumPlot(spectrum, live)
    for ax in (image, spectrum):
        ax.figure.canvas.draw()
    pointer, redraws, begin = Pointer(image), Pointer(spectrum), plot.axes.get_ylim()

    places = [*np.linspace(23.5, 40, 80), *np.linspace(40, 23.5, 80)]
    pointer.press((23.5, 9))
    for x in places:
        pointer.move((x, 9))
    assert editor.busy
    assert 2 <= redraws.draws <= 16
    if escape:
        pointer.move((40, 9))
        pointer.key("escape")
    else:
        pointer.release((23.5, 9))
    assert live.extract.aperture == START.aperture
    assert plot.axes.get_ylim() == pytest.approx(begin, rel=0.3)
    values = plot.line.get_ydata()
    assert np.ptp(values[np.isfinite(values)]) > 0.55 * np.ptp(plot.axes.get_ylim())
