"""Figures of a measurement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from glue_lrs import LRSError
from glue_lrs.measurement.curve_of_growth import measure_with_growth
from glue_lrs.plotting import (
    plot_fwhm,
    plot_growth,
    plot_integrations,
    plot_measurement,
    plot_profile,
    plot_trace,
)
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source


@pytest.fixture(scope="module")
def nod() -> Any:
    scene = Scene(sources=(Source(flux=1e-3),), pointing_error=0.11, seed=1, background=20.0)
    return measure_with_growth(scene.s2d(nod=1, subtract_nod=False).image)


@pytest.fixture(scope="module")
def stack() -> Any:
    return measure_with_growth(Scene(sources=(Source(flux=5e-3),), seed=1).calints(3).image)


def lines(ax: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in ax.get_lines()}


def test_the_profile_shows_sources_header_and_background(nod: Any) -> None:
    found, _, background = nod
    ax = plot_profile(found, background=background)
    drawn = lines(ax)
    assert drawn["target"].get_xdata()[0] == found.column
    assert drawn["header"].get_xdata()[0] == found.expected.column
    texts = {text.get_text() for text in ax.get_legend().get_texts()}
    assert texts == {"target", "header", "background"}
    (stairs,) = (p for p in ax.patches if hasattr(p, "get_data"))
    np.testing.assert_array_equal(stairs.get_data().values, found.profile)


def test_trace_and_width_are_those_measured(nod: Any) -> None:
    found, _, _ = nod
    ax = plot_trace(found)
    known = np.isfinite(found.trace)
    np.testing.assert_allclose(np.sort(lines(ax)["trace"].get_ydata()), np.sort(found.trace[known]))
    (bars,) = ax.containers
    np.testing.assert_array_equal(bars.lines[0].get_ydata(), found.target.centroid)
    assert lines(ax)["header"].get_ydata()[0] == pytest.approx(found.expected.column)
    ax = plot_fwhm(found, ax=Figure().subplots())
    (bars,) = ax.containers
    np.testing.assert_array_equal(bars.lines[0].get_ydata(), found.fwhm)
    low, high = ax.get_ylim()
    assert low < found.fwhm.min()
    assert high > found.fwhm.max()


def test_curve_of_growth(nod: Any) -> None:
    _, growth, _ = nod
    figure = plot_growth(growth).figure
    left, right = figure.axes
    labels = [f"{wave:.1f} µm" for wave in growth.wavelength]
    assert set(labels) < set(lines(right))
    for n, label in enumerate(labels):
        np.testing.assert_allclose(
            lines(right)[label].get_ydata(), growth.snr[n] / growth.snr[n].max()
        )
        assert np.interp(growth.best_width[n], growth.widths, lines(left)[label].get_ydata()) == (
            pytest.approx(1.0, abs=0.01)
        )


def test_measurement(nod: Any, stack: Any) -> None:
    found, growth, background = nod
    figure = plot_measurement(found, growth, background=background, title="a nod").figure
    assert len(figure.axes) == 5
    assert list(plot_measurement(found)) == ["profile", "trace", "width"]
    figure.canvas.draw()
    found, growth, background = stack
    figure = plot_measurement(found, growth, background=background).figure
    assert len(figure.axes) == 6
    figure.canvas.draw()


def test_shifts_of_a_stack(nod: Any, stack: Any) -> None:
    (bars,) = plot_integrations(stack[0]).containers
    np.testing.assert_array_equal(bars.lines[0].get_ydata(), stack[0].shift)
    with pytest.raises(LRSError, match="has no shifts, expected a stack"):
        plot_integrations(nod[0])
