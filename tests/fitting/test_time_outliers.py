"""Outliers along time are found, and changes of the source are not taken for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from glue_lrs import SlitImage
from glue_lrs._utils.parallel import threads  # noqa: PLC2701 - as the command line does
from glue_lrs.errors import ProductError
from glue_lrs.fitting.time_outliers import (
    find_time_outliers,
    remove_time_outliers,
    removed_time_outliers,
    without_time_outliers,
)
from glue_lrs.image.stack import read_stack
from glue_lrs.simulation import Scene, Source
from tests.helpers.images import COLUMNS, ROWS, stack
from tests.helpers.plain_time_outliers import plain_outliers
from tests.helpers.time_series import Defects, TimeSeries

N_INT = 30
_COLUMN = np.arange(COLUMNS)


def observed(
    flux: Any = 1.0, shift: Any = 0.0, width: Any = 1.0, sky: Any = 1.0, **changes: Any
) -> SlitImage:
    """A stack whose source and background vary along time, with photon noise and read noise."""
    rng = np.random.default_rng(7)
    flux, shift, width, sky = (
        np.broadcast_to(v, N_INT)[:, np.newaxis, np.newaxis] for v in (flux, shift, width, sky)
    )
    slope = np.linspace(2.0, 0.5, ROWS)[:, np.newaxis]  # the spectrum
    distance = _COLUMN - 22.4 - 0.02 * np.arange(ROWS)[:, np.newaxis] - shift
    light = 3e4 * slope * flux * np.exp(-0.5 * (distance / (1.1 * width)) ** 2)
    mean = light + 400.0 * sky * np.linspace(1.0, 3.0, ROWS)[:, np.newaxis]
    data = rng.poisson(mean) + rng.normal(0.0, 10.0, mean.shape)
    error = np.sqrt(mean + 100.0)
    planes = {"err": error, "var_poisson": mean, "var_rnoise": np.full(mean.shape, 100.0)}
    values = {"data": data, "var_flat": np.zeros(mean.shape), **planes}
    made = {name: plane.astype(np.float32) for name, plane in values.items()}
    return stack(N_INT, **made | changes)


def step(inside: float) -> Any:
    return np.where((np.arange(N_INT) > 9) & (np.arange(N_INT) < 20), inside, 1.0)


def spike(height: float) -> Any:
    return np.where(np.arange(N_INT) == 12, height, 1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"flux": step(0.5)}, {"flux": step(0.0)}, {"flux": spike(3.0)}, {"flux": spike(0.3)},
        {"shift": np.linspace(-0.15, 0.15, N_INT)}, {"shift": spike(1.1) - 1.0},
        {"width": spike(1.05)}, {"sky": spike(1.3)}, {"sky": np.linspace(1.0, 1.2, N_INT)},
    ],
    ids=str,
)  # fmt: skip
def test_changes_of_the_source_are_no_outliers(changes: dict[str, Any]) -> None:
    found = find_time_outliers(observed(**changes))
    # Normal noise gives one in 2 million, a very bright integration a few in its brightest pixels.
    assert found.outliers.shape[1] <= 2
    assert found.lost.shape == (3, 0)


@pytest.mark.parametrize("flux", [1.0, step(0.5), spike(3.0)], ids=["constant", "eclipse", "flare"])
def test_hits_are_found_and_their_values_known(flux: Any) -> None:
    clean = observed(flux)
    rng = np.random.default_rng(3)
    hit = rng.random(clean.data.shape) < 0.002
    hit[15, 10:13, 20:23] = True  # a ray that crosses the trace
    data = np.array(clean.data)
    data[hit] += (rng.choice([-1, 1], hit.sum()) * 12.0 * clean.err[hit]).astype(np.float32)
    found = find_time_outliers(observed(flux, data=data))
    mask = np.zeros(data.shape, dtype=bool)
    mask[tuple(found.outliers)] = True
    assert (mask & ~hit).sum() <= 2
    assert (hit & ~mask).sum() <= 1
    at = tuple(found.outliers)
    pulls = (found.outlier_values["data"] - clean.data[at]) / clean.err[at]
    assert abs(pulls.mean()) < 4 / np.sqrt(pulls.size)
    assert 0.85 < pulls.std() < 1.25  # the value in `clean` has noise


def test_pixel_of_varying_dark_current_has_no_outliers() -> None:
    data = np.array(observed().data)
    data[::3, 5, 40] += 4000.0  # in a third of the integrations, each far from the others
    data[1::3, 5, 40] += 2000.0
    assert find_time_outliers(observed(data=data)).outliers.shape[1] <= 2


@pytest.mark.parametrize("plane", ["data", "err", "var_flat", "dq"])
def test_lost_pixels_get_expected_values(plane: str) -> None:
    clean = observed()
    values = np.zeros(clean.data.shape, np.uint32) if plane == "dq" else getattr(clean, plane)
    values = np.array(values)
    values[4, 20, 23] = values[:, 30, 22] = 1 if plane == "dq" else np.nan
    image = observed(**{plane: values})
    found = find_time_outliers(image)
    # A pixel that is lost in all integrations stays lost.
    assert_array_equal(found.lost, [[4], [20], [23]])
    better = found.without(image, "replace")
    pixel = (4, 20, 23)
    assert abs(better.data[pixel] - clean.data[pixel]) < 5 * clean.err[pixel]
    assert better.var_poisson is not None
    assert better.var_poisson[pixel] == pytest.approx(clean.var_poisson[pixel], rel=0.1)
    assert better.dq is not None
    assert better.dq[pixel] == 0


def test_outliers_become_lost_pixels() -> None:
    data = np.array(observed().data)
    data[8, 20, 23] += 9e4
    image = observed(data=data)
    found = find_time_outliers(image)
    assert [8, 20, 23] in found.outliers.T.tolist()
    flags = found.without(image, "lost").dq
    assert flags is not None
    assert flags[8, 20, 23] == 1
    assert np.count_nonzero(flags) == found.outliers.shape[1]


def test_groups_of_integrations(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.array(observed().data)
    places = [[3, 8, 20], [14, 20, 23], [29, 39, 45]]
    for place in places:
        data[tuple(place)] += 9e4
    monkeypatch.setattr("glue_lrs.fitting.time_outliers._GROUP", 10)
    found = find_time_outliers(observed(data=data)).outliers.T.tolist()
    assert all(place in found for place in places)


def test_without_errors_the_scatter_counts() -> None:
    data = np.array(observed().data)
    data[8, 20, 40] += 4000.0
    none = dict.fromkeys(("err", "var_poisson", "var_rnoise", "var_flat"))
    found = find_time_outliers(observed(data=data, **none))
    assert [8, 20, 40] in found.outliers.T.tolist()
    assert found.outliers.shape[1] < 5e-4 * data.size
    assert set(found.outlier_values) == {"data"}


@pytest.mark.parametrize("how", ["lost", "replace"])
def test_a_stack_without_outliers_is_unchanged(how: Any) -> None:
    image = observed()
    found = find_time_outliers(image)
    assert found.outliers.shape == (3, 0)
    cleaned = found.without(image, how)
    for name in ("data", "err", "var_poisson"):
        assert_array_equal(np.asarray(getattr(cleaned, name)), getattr(image, name))


def test_lost_bands_are_not_invented() -> None:
    """Nothing tells the flux of an integration that is lost, or has lost the trace."""
    data = np.array(observed(step(0.5)).data)
    data[13] = np.nan
    data[16, :, 14:] = np.nan
    found = find_time_outliers(observed(step(0.5), data=data))
    assert not np.isin(found.lost[0], [13, 16]).any()


@pytest.mark.parametrize("where", [np.s_[:, :14], np.s_[:, :, :18]], ids=["rows", "columns"])
def test_an_eclipse_beside_many_lost_pixels(where: Any) -> None:
    data = np.array(observed(step(0.5)).data)
    data[where] = np.nan
    found = find_time_outliers(observed(step(0.5), data=data))
    assert found.outliers.shape[1] <= 2


@pytest.mark.parametrize(
    "changes",
    [
        {"var_flat": "flat"}, {"err": None}, {"err": 0.0},
        {"var_poisson": None, "var_rnoise": None},
        {"err": None, "var_poisson": None, "var_rnoise": None},
    ],
    ids=["flat field", "no ERR", "ERR is 0", "ERR only", "no errors"],
)  # fmt: skip
def test_noise_of_the_comparison(changes: dict[str, Any]) -> None:
    """Rays are found in an eclipse whatever the errors contain, or do not."""
    clean = observed(step(0.5))
    data, places = np.array(clean.data), [(5, 8, 22), (12, 20, 23), (22, 30, 22), (15, 33, 24)]
    sigma = np.array(clean.err)
    for place in places:
        data[place] += 15 * sigma[place]
    values: dict[str, Any] = dict(changes)
    if "var_flat" in values:
        values["var_flat"] = np.square(0.05 * np.asarray(clean.data))
        values["err"] = np.sqrt(sigma**2 + values["var_flat"])
    elif values.get("err") == 0.0:
        values["err"] = 0.0 * sigma
    found = find_time_outliers(observed(step(0.5), data=data, **values))
    assert {tuple(one) for one in found.outliers.T.tolist()} >= set(places)
    assert found.outliers.shape[1] <= len(places) + (60 if len(values) == 3 else 2)


def test_too_few_columns() -> None:
    wavelength = np.full((ROWS, COLUMNS), np.nan)
    wavelength[:, 20] = np.linspace(5, 12, ROWS)
    with pytest.raises(ProductError, match="has 1 columns with a wavelength, expected more than 4"):
        find_time_outliers(observed(wavelength=wavelength))


def test_an_integration_that_lost_nearly_half_of_its_pixels_is_replaced_well() -> None:
    """Its lost pixels, whose deviations count as 0, must not make its scatter seem small."""
    scene = Scene(sources=(Source(flux=0.003),), exposure_time=30.0, flat_error=0.0, seed=2)
    made = scene.calints(24)
    data = made.image.data.copy()
    data[5][np.random.default_rng(1).random(data.shape[1:]) < 0.45] = np.nan
    found = find_time_outliers(replace(made.image, data=data))
    mine = found.lost[0] == 5
    at = tuple(found.lost[1:][:, mine])
    sigma = np.sqrt(made.truth.var_poisson + made.truth.var_rnoise)[at]
    errors = (found.lost_values["data"][mine] - made.truth.data[at]) / sigma
    assert mine.sum() > 9000
    assert np.sqrt(np.mean(errors**2)) < 0.5
    assert found.outliers.shape[1] == 0


def test_a_bright_pixel_lost_in_all_integrations_does_not_exclude_its_band() -> None:
    scene = Scene(sources=(Source(flux=0.1),), exposure_time=30.0, flat_error=0.0, seed=2)
    data = scene.calints(24).image.data.copy()
    data[:, 100:300:12, 36] = np.nan
    data[7, 150, 35] += 50000.0
    found = find_time_outliers(replace(scene.calints(24).image, data=data))
    assert [7, 150, 35] in found.outliers.T.tolist()


@pytest.mark.parametrize("struck", [slice(None), slice(11, 25, 3)], ids=["all", "some"])
@pytest.mark.parametrize("flux", [1.0, step(0.5), spike(3.0)], ids=["constant", "eclipse", "flare"])
def test_the_search_equals_a_plain_one(flux: Any, struck: slice) -> None:
    """Pixel by pixel and in double precision; the search is in single precision.

    Only integrations with outliers have a fit with weights.
    """
    clean = observed(flux)
    rng = np.random.default_rng(5)
    data, hit = np.array(clean.data), np.zeros(clean.data.shape, dtype=bool)
    hit[struck] = rng.random(hit[struck].shape) < 0.02
    data[hit] += (10.0 ** rng.uniform(2.0, 5.0, hit.sum())).astype(np.float32)
    data[rng.random(data.shape) < 0.05] = np.nan
    image = observed(flux, data=data)
    check_plain_search(image)


@pytest.mark.parametrize("together", [1, 4])
def test_the_search_of_a_full_image_equals_a_plain_one(
    together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last of its bands has fewer rows."""
    monkeypatch.setattr("glue_lrs.fitting.time_search._TOGETHER", together)
    series = TimeSeries(number=10, defects=Defects(lost=0.01, rays=0.003, hot=0.0, drift=0.05))
    image = series.chunk(0, 10)
    assert np.isfinite(image.wavelength).any(axis=1).sum() % 24
    check_plain_search(image)


def test_threads_find_the_same() -> None:
    image = TimeSeries(number=8).chunk(0, 8)
    expected = find_time_outliers(image)
    with threads(2):
        found = find_time_outliers(replace(image))
    assert found is not expected
    for name in ("outliers", "lost"):
        assert_array_equal(getattr(found, name), getattr(expected, name))
    for name, values in expected.lost_values.items():
        assert_array_equal(found.lost_values[name], values)


def check_plain_search(image: SlitImage) -> None:
    found = find_time_outliers(image)
    rows, columns = (np.isfinite(image.wavelength).any(axis=axis).nonzero()[0] for axis in (1, 0))
    window = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    planes = {
        name: plane[window]
        for name in ("data", "err", "var_poisson", "var_rnoise", "var_flat", "dq")
        if (plane := getattr(image, name)) is not None
    }
    wavelength = image.wavelength[window[1:]]
    outliers, expected = plain_outliers(replace(image, wavelength=wavelength, **planes))
    first = [0, rows[0], columns[0]]
    np.testing.assert_array_equal(found.outliers.T, np.argwhere(outliers) + first)
    for places, values in (
        (found.outliers, found.outlier_values), (found.lost, found.lost_values)
    ):  # fmt: skip
        time, row, column = (places.T - first).T
        typical = np.nanmedian(np.asarray(planes["err"]), axis=0)[row, column]
        difference = (values["data"] - expected[time, row, column]) / typical
        assert np.abs(difference).max() < 0.01
        assert time.size > 100


@pytest.mark.parametrize("how", ["lost", "replace"])
def test_outliers_that_are_removed_in_place(how: Any) -> None:
    data = np.array(observed().data)
    data[8, 20, 23] += 9e4
    data[4, 21, 23] = np.nan
    image = observed(data=data)
    expected = without_time_outliers(image, how)
    mine = read_stack(image, {})
    made = remove_time_outliers(mine, how)
    for name in ("data", "err", "var_poisson", "var_rnoise", "dq"):
        assert_array_equal(getattr(made, name), np.asarray(getattr(expected, name)))
    assert np.isnan(image.data[4, 21, 23])
    assert without_time_outliers(made, how) is made
    removed = removed_time_outliers(made)
    assert removed is not None
    assert [8, 20, 23] in removed.outliers.T.tolist()
