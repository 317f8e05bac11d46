"""Figures of light curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from glue_lrs.plotting import plot_light_curve
from glue_lrs.timeseries import LightCurve, allan_deviation, light_curve
from glue_lrs.timeseries.noise import neighbour_differences
from tests.helpers.light_curves import series

pytestmark = pytest.mark.slow

OUTSIDE = np.r_[:20, 40:60]


def made(number: int = 60, **options: Any) -> LightCurve:
    factors = np.ones(number)
    factors[number // 3 : 2 * number // 3] = 0.99
    return light_curve(series(factors, noise=0.002, seed=1), **options)


def axes(panels: Any) -> dict[str, Any]:
    panels.figure.draw_without_rendering()
    return {ax.get_ylabel().replace("\n", " "): ax for ax in panels.values()}


def test_white_light_curve_with_errors_against_days() -> None:
    curve = made()
    found = axes(plot_light_curve(curve, title="$mine"))
    assert list(found) == ["relative flux", "difference from neighbours [ppm]"]
    white, rest = found.values()
    (bars,) = white.containers
    np.testing.assert_allclose(bars.lines[0].get_xdata(), curve.time.mjd - 60000.0)
    np.testing.assert_allclose(bars.lines[0].get_ydata(), curve.flux[:, 0] / curve.level[0])
    (_, (sticks,)) = bars.lines[1:]
    first = sticks.get_segments()[0]
    assert first[1, 1] - first[0, 1] == pytest.approx(2 * curve.error[0, 0] / curve.level[0])
    assert white.get_title(loc="left") == r"\$mine"
    assert rest.get_xlabel() == "time [days since BMJD_TDB 60000]"
    line = rest.get_lines()[0]
    expected = 1e6 * neighbour_differences(curve.flux[:, 0] / curve.level[0])
    np.testing.assert_allclose(line.get_ydata(), expected)
    ppm = 1e6 / curve.level[0]
    assert rest.get_title(loc="left") == (
        f"scatter {ppm * curve.scatter[0]:.0f} ppm, "
        f"photon limit {ppm * curve.expected_photon_noise[0]:.0f} ppm, "
        f"expected {ppm * curve.expected_noise[0]:.0f} ppm"
    )


def test_bins_and_their_scatter_beside_the_photon_limit() -> None:
    curve = made(bins=6)
    found = axes(plot_light_curve(curve))
    (mesh,) = (one for one in found["wavelength [µm]"].collections)
    np.testing.assert_allclose(
        mesh.get_array().reshape(6, 60), (curve.flux[:, 1:] / curve.level[1:]).T
    )
    noise = found["noise of a point [ppm]"]
    (points,) = noise.get_lines()
    np.testing.assert_allclose(points.get_ydata(), 1e6 * curve.scatter[1:] / curve.level[1:])
    stairs = {one.get_label(): one.get_data().values for one in noise.patches}
    limit = 1e6 * curve.expected_photon_noise[1:] / curve.level[1:]
    np.testing.assert_allclose(stairs["photon limit"], limit)
    assert stairs["expected from the errors"] == pytest.approx(limit * 2**0.5)
    assert found["wavelength [µm]"].get_xlabel().startswith("time [days since")
    assert found["relative flux"].get_xlabel() == ""


def test_allan_deviation_out_of_transit() -> None:
    mask = np.zeros(60, dtype=bool)
    mask[OUTSIDE] = True
    curve = made(out_of_transit=mask)
    ax = axes(plot_light_curve(curve, allan=True))["noise of the mean [ppm]"]
    lines = {line.get_label(): line for line in ax.get_lines()}
    number, deviation = allan_deviation(1e6 * curve.flux[mask, 0] / curve.level[0])
    np.testing.assert_array_equal(lines["Allan deviation"].get_xdata(), number)
    np.testing.assert_allclose(lines["Allan deviation"].get_ydata(), deviation)
    limit = lines["photon limit"].get_ydata()
    assert limit[0] == pytest.approx(1e6 * curve.expected_photon_noise[0] / curve.level[0])
    assert limit[2] == pytest.approx(limit[0] / number[2] ** 0.5)
    assert ax.get_title(loc="left") == "white light, out of transit"


def test_many_points_are_averaged() -> None:
    curve = made(900)
    white = axes(plot_light_curve(curve))["relative flux"]
    means = {one.get_label(): one for one in white.containers}["means of 9 points"]
    assert means.lines[0].get_xdata().size == 100
    first = curve.flux[:9, 0].mean() / curve.level[0]
    assert means.lines[0].get_ydata()[0] == pytest.approx(first)


def test_unknown_errors_and_few_points() -> None:
    curve = light_curve(series(np.ones(3)), bins=2)
    found = axes(plot_light_curve(curve, allan=True))
    assert found["difference from neighbours [ppm]"].get_title(loc="left") == "scatter 0 ppm"
    texts = [one.get_text() for ax in found.values() for one in ax.texts]
    assert texts == ["too few points"]
