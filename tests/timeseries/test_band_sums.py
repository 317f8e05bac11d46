"""Sums over bands in chunks of ten integrations, which elements are lost, and their weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glue_lrs.timeseries import light_curve
from tests.helpers.light_curves import PIXELS, STAR, WAVE, series

NUMBER = 40
INSIDE = (WAVE >= 5.0) & (WAVE <= 12.0)
#: An element in the middle of the range.
MIDDLE = int(np.flatnonzero(INSIDE)[30])


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glue_lrs.fitting.time_outliers._GROUP", 10)


def stack(lost: slice = slice(0), noise: float = 0.0, **damage: float):
    """A constant star, of which some integrations of one element are damaged."""
    made = series(np.ones(NUMBER), noise=noise)
    for name, value in damage.items():
        made.columns[name][lost, MIDDLE] = value
    return made


def test_elements_that_are_lost_in_a_part_of_the_chunks_are_replaced() -> None:
    """All of the first chunk has lost it, and three others have not."""
    curve = light_curve(stack(slice(0, 10), FLUX=np.nan), check=False)
    assert curve.elements.tolist() == [INSIDE.sum()]
    assert curve.replaced[:, 0].tolist() == [1] * 10 + [0] * 30
    np.testing.assert_allclose(curve.flux[:, 0], STAR[INSIDE].sum(), rtol=1e-12)


def test_pixels_that_a_whole_chunk_has_lost_are_a_loss() -> None:
    damaged = stack(slice(10, 20), FLUX=0.7 * STAR[MIDDLE], NPIXELS=PIXELS - 1.0)
    curve = light_curve(damaged, check=False)
    assert curve.replaced[:, 0].tolist() == [0] * 10 + [1] * 10 + [0] * 20
    np.testing.assert_allclose(curve.flux[:, 0], STAR[INSIDE].sum(), rtol=1e-12)


@pytest.mark.parametrize(("lost", "elements"), [(20, 0), (21, 1)])
def test_half_of_the_integrations_may_be_replaced(lost: int, elements: int) -> None:
    curve = light_curve(stack(slice(lost), FLUX=np.nan), check=False)
    assert curve.elements.tolist() == [INSIDE.sum() - elements]


def test_replaced_elements_are_counted_whatever_their_weight() -> None:
    damaged = stack(slice(0, 5), noise=0.002, FLUX=np.nan)
    curve = light_curve(damaged, bins=2, weights="inverse_variance", check=False)
    upper = int(WAVE[MIDDLE] >= curve.edges[2, 0])
    expected = np.zeros((NUMBER, 3), dtype=int)
    expected[:5, 0] = expected[:5, 1 + upper] = 1
    np.testing.assert_array_equal(curve.replaced, expected)


def test_weights_do_not_depend_on_the_number_of_losses() -> None:
    """The variance of an element is its mean where it is known."""
    curves = [
        light_curve(stack(slice(lost), noise=0.002, FLUX=np.nan), weights="inverse_variance",
                    check=False)
        for lost in (0, 15)
    ]  # fmt: skip
    np.testing.assert_allclose(curves[1].error[20:], curves[0].error[20:], rtol=1e-4)
    optimal = STAR[INSIDE].sum() / np.sqrt((STAR**2 / (0.002 * STAR * WAVE / 5) ** 2)[INSIDE].sum())
    np.testing.assert_allclose(curves[1].error[20:], optimal, rtol=1e-4)


def test_integrations_without_a_time_do_not_count() -> None:
    damaged = stack(slice(0, 25), FLUX=np.nan)
    for name in ("MJD-AVG", "TDB-MID"):
        damaged.times[name][:20] = np.nan
    curve = light_curve(damaged, check=False)
    assert curve.elements.tolist() == [INSIDE.sum()]  # is lost in 5 of 20, and not in 25 of 40
    assert curve.replaced[:, 0].tolist() == [1] * 5 + [0] * 15
    (found,) = (one for one in curve.findings if one.kind == "elements_replaced")
    assert found.values == {"values": 5, "all": 20 * INSIDE.sum()}


def test_elements_at_the_edges_of_the_range_belong_to_it() -> None:
    first, last = np.flatnonzero(INSIDE)[[-1, 0]]  # the wavelengths descend
    curve = light_curve(stack(), wavelength_range=(WAVE[first], WAVE[last]), check=False)
    assert curve.elements.tolist() == [INSIDE.sum()]


def test_the_drift_of_each_integration() -> None:
    """In the order of the times, without integrations that have none."""
    made = series(np.ones(NUMBER))
    shift = np.linspace(0.0, 1.0, NUMBER)
    times = made.times.copy()
    for at, name in enumerate(("SHIFT", "SHIFT_ERROR", "WIDTH", "WIDTH_ERROR")):
        times[name] = shift + at
    for name in ("MJD-AVG", "TDB-MID"):
        times[name] = times[name][::-1].copy()
        times[name][3] = np.nan
    curve = light_curve(replace(made, times=times), check=False)
    kept = np.delete(shift, 3)[::-1]
    assert curve.drift is not None
    for at, name in enumerate(("shift", "shift_error", "width", "width_error")):
        np.testing.assert_allclose(getattr(curve.drift, name), kept + at)
