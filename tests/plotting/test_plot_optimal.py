"""Figures of an optimal extraction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glue_lrs import Extract1D
from glue_lrs.extraction.optimal import OptimalExtractor
from glue_lrs.extraction.optimal_result import OptimalResult
from glue_lrs.plotting import plot_model_profile, plot_optimal, plot_residual
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source


@pytest.fixture(scope="module")
def result() -> OptimalResult:
    """A nod with three cosmic rays that are not flagged."""
    image = Scene(seed=3, sources=(Source(flux=2e-3),), bad_fraction=0.01).s2d(1).image
    data = image.data.copy()
    for row, column in ((100, 13), (200, 14), (300, 13)):
        data[row, column] += 200.0
    extract = Extract1D.from_reference(None, image.exp_type, extraction_type="optimal")
    return extract.fit(replace(image, data=data))


def test_residual_and_rejected_pixels(result: OptimalResult) -> None:
    ax = plot_residual(result)
    picture, *_ = ax.images
    left, _, bottom, _ = picture.get_extent()
    shown = np.ma.filled(picture.get_array(), np.nan)
    expected = result.normalised_residual()
    first, low = round(left + 0.5), round(bottom + 0.5)
    part = expected[low : low + shown.shape[0], first : first + shown.shape[1]]
    np.testing.assert_allclose(shown, part, equal_nan=True)
    assert shown[100 - low, 13 - first] > 5
    (marks,) = [line for line in ax.lines if line.get_marker() == "s"]
    drawn = {(int(y), int(x)) for x, y in zip(*marks.get_data(), strict=True)}
    assert {(100, 13), (200, 14), (300, 13)} <= drawn
    assert len(drawn) == result.number_rejected
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["bad pixel", f"rejected ({result.number_rejected})"]


def test_traces_are_on_the_image(result: OptimalResult) -> None:
    figure = plot_optimal(result, title="a title").figure
    assert figure.get_suptitle() == "a title"
    image, *_ = figure.axes
    target, negative = (line for line in image.lines if len(line.get_xdata()) > 300)
    np.testing.assert_allclose(target.get_xdata(), result.traces[0])
    np.testing.assert_allclose(negative.get_xdata(), result.traces[1])
    names = [text.get_text() for text in image.get_legend().get_texts()]
    assert names == ["target", "negative trace"]


@pytest.mark.slow
def test_trace_of_a_neighbour() -> None:
    sources = (Source(flux=2e-3), Source(flux=8e-4, position=0.55))
    result = OptimalExtractor().fit(Scene(seed=5, sources=sources).s2d(1).image)
    assert result.positive.tolist() == [True, True, False, False]
    np.testing.assert_allclose(result.relative_flux, [1.0, 0.4, -1.0, -0.4], atol=0.01)
    rejected, neighbour, negative, scale = result.remarks
    assert rejected == "no pixel was rejected"
    columns = result.traces[:, 193]
    assert (
        neighbour
        == f"fitted together with another source at column {columns[1]:.2f} (0.4 times its flux)"
    )
    expected = " and ".join(f"column {column:.2f}" for column in columns[2:])
    assert negative == f"fitted together with 2 negative traces at {expected}"
    assert scale.startswith("no aperture correction")
    found = [one.text for one in result.extractions[0].findings if one.kind != "noise_excess"]
    assert found == result.remarks[1:]
    image = plot_optimal(result)["image"]
    styles = [line.get_linestyle() for line in image.lines if len(line.get_xdata()) > 300]
    assert styles == ["-.", "-.", ":", ":"]
    names = [text.get_text() for text in image.get_legend().get_texts()]
    assert names == ["target", "another source", "negative trace"]


@pytest.mark.slow
def test_a_stacks_trace_has_the_integrations_shift() -> None:
    scene = Scene(seed=1, sources=(Source(flux=2e-3),))
    stack = scene.calints(3).image
    data = stack.data.copy()
    data[2] = replace(scene, pointing_error=0.02).calints(1).image.data[0]
    stack = replace(stack, data=data)
    extract = Extract1D.from_reference(None, stack.exp_type, extraction_type="optimal")
    result = extract.fit(stack)
    assert np.ptp(result.shifts) > 0.1
    for number in (0, 2):
        figure = plot_optimal(result, integration=number).figure
        assert figure.get_suptitle().endswith(f"integration {number + 1} of 3")
        line = next(line for line in figure.axes[0].lines if len(line.get_xdata()) > 300)
        np.testing.assert_allclose(line.get_xdata(), result.traces[0] + result.shifts[number])


def test_the_profile_is_that_of_the_fit(result: OptimalResult) -> None:
    ax = plot_model_profile(result)
    curves = [line for line in ax.lines if len(line.get_xdata()) > 100]
    assert [line.get_label() for line in curves] == ["5 µm", "7.5 µm", "10 µm", "12 µm"]
    x, y = curves[2].get_data()
    np.testing.assert_allclose(y, result.profile(x[np.newaxis], np.array([10.0]))[0])
    assert abs(x[np.argmax(y)]) < 0.1
