"""Light curves: sums, lost pixels, errors, bins, and invalid parameters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy import units as u

from glue_lrs.errors import LostPixelsWarning, LRSError, NoiseWarning, TimesWarning
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.timeseries import LightCurve, light_curve
from glue_lrs.timeseries.consistency import ConsistentSpectra, lost_elements, mean_spectrum
from tests.helpers.light_curves import PIXELS, STAR, WAVE, plain_sum, series

#: Elements in the default range of 5 to 12 um.
INSIDE = (WAVE >= 5.0) & (WAVE <= 12.0)
#: A transit of 1% in 40 integrations, and an eclipse of a half.
TRANSIT = np.where((np.arange(40) >= 12) & (np.arange(40) < 28), 0.99, 1.0)
ECLIPSE = np.where(np.arange(40) < 20, 1.0, 0.5)


def changed(stack: Extraction, **columns: Any) -> Extraction:
    return replace(stack, columns=stack.columns | columns)


def with_nan(stack: Extraction, lost: Any) -> Extraction:
    return changed(stack, FLUX=np.where(lost, np.nan, stack.columns["FLUX"]))


def with_fewer_pixels(stack: Extraction, lost: Any) -> Extraction:
    """A pixel with 30% of the flux is missing from the sum, which is not masked."""
    return changed(
        stack,
        FLUX=np.where(lost, 0.7, 1.0) * stack.columns["FLUX"],
        NPIXELS=np.where(lost, PIXELS - 1.0, stack.columns["NPIXELS"]),
    )


def with_flags(stack: Extraction, lost: Any) -> Extraction:
    return changed(
        stack,
        FLUX=np.where(lost, 1e3, stack.columns["FLUX"]),
        DQ=np.where(lost, np.uint32(1), stack.columns["DQ"]),
    )


DAMAGE = [with_nan, with_fewer_pixels, with_flags]


def test_white_light_is_the_sum_from_5_to_12_micron() -> None:
    stack = series(TRANSIT)
    curve = light_curve(stack)
    np.testing.assert_allclose(curve.flux[:, 0], TRANSIT * STAR[INSIDE].sum(), rtol=1e-14)
    assert curve.elements.tolist() == [INSIDE.sum()]
    assert curve.edges.tolist() == [[5.0, 12.0]]
    assert not curve.replaced.any()
    assert curve.findings == ()
    assert curve.unit == "Jy"


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("factors", [TRANSIT, ECLIPSE], ids=["transit", "eclipse"])
def test_values_lost_in_single_integrations_are_no_dips(
    damage: Callable[[Extraction, Any], Extraction], factors: Any
) -> None:
    rng = np.random.default_rng(1)
    lost = rng.random((40, WAVE.size)) < 0.1
    lost[3, 40:45] = True  # a gap
    lost[:17, 70] = True  # lost before the eclipse only
    clean = light_curve(series(factors), bins=5)
    curve = light_curve(damage(series(factors), lost), bins=5)
    np.testing.assert_allclose(curve.flux, clean.flux, rtol=1e-12)
    assert curve.replaced[:, 0].tolist() == lost[:, INSIDE].sum(axis=1).tolist()
    assert curve.replaced[:, 1:].sum(axis=1).tolist() == curve.replaced[:, 0].tolist()
    (finding,) = curve.findings
    assert finding.kind == "elements_replaced"
    assert finding.values["values"] == lost[:, INSIDE].sum()


@pytest.mark.parametrize("damage", DAMAGE)
def test_columns_lost_in_most_integrations_are_left_out_of_all(
    damage: Callable[[Extraction, Any], Extraction],
) -> None:
    lost = np.zeros((40, WAVE.size), dtype=bool)
    lost[:25, 60:63] = True
    lost[5:, 80] = True
    curve = light_curve(damage(series(TRANSIT), lost))
    kept = INSIDE & ~lost.any(axis=0)
    np.testing.assert_allclose(curve.flux[:, 0], TRANSIT * STAR[kept].sum(), rtol=1e-12)
    assert [one.kind for one in curve.findings] == ["elements_left_out"]
    assert curve.findings[0].values["elements"] == 4


def test_columns_lost_in_all_integrations_are_left_out() -> None:
    lost = np.zeros((40, WAVE.size), dtype=bool)
    lost[:, [60, 61]] = True
    curve = light_curve(with_nan(series(TRANSIT), lost))
    assert curve.elements[0] == INSIDE.sum() - 2
    assert curve.findings[0].values["elements"] == 2


def test_a_pixel_that_is_bad_in_all_integrations_is_no_loss() -> None:
    lost = np.zeros((40, WAVE.size), dtype=bool)
    lost[:, 60] = True
    stack = with_fewer_pixels(series(TRANSIT), lost)
    curve = light_curve(stack)
    np.testing.assert_allclose(
        curve.flux[:, 0], stack.columns["FLUX"][:, INSIDE].sum(axis=1), rtol=1e-14
    )
    assert curve.findings == ()


def test_a_change_of_colour_is_followed_by_the_neighbours() -> None:
    """The star fades at long wavelengths only: the scale of the band would be wrong by 1e-3."""
    fading = 1.0 - 0.2 * np.linspace(0.0, 1.0, 40)[:, np.newaxis] * (WAVE > 9.0)
    lost = np.zeros((40, WAVE.size), dtype=bool)
    lost[30, [20, 21, 90]] = True
    clean, curve = light_curve(series(fading)), light_curve(with_nan(series(fading), lost))
    assert curve.replaced[30, 0] > 0
    np.testing.assert_allclose(curve.flux, clean.flux, rtol=1e-4)


def test_bins_contain_each_element_once() -> None:
    stack = series(TRANSIT)
    curve = light_curve(stack, bins=[5.0, 6.0, 7.5, WAVE[60], 12.0])
    assert curve.edges[1:].tolist() == [[5, 6], [6, 7.5], [7.5, WAVE[60]], [WAVE[60], 12]]
    assert curve.elements[1:].sum() == curve.elements[0] == INSIDE.sum()
    assert curve.elements[4] == ((WAVE[60] <= WAVE) & (WAVE <= 12.0)).sum()
    np.testing.assert_allclose(curve.flux[:, 1:].sum(axis=1), curve.flux[:, 0], rtol=1e-14)
    even = light_curve(stack, bins=7, wavelength_range=(6.0, 9.5))
    np.testing.assert_allclose(np.diff(even.edges[1:]), 0.5)
    quantity = light_curve(stack, bins=7, wavelength_range=[60000, 95000] * u.AA)
    np.testing.assert_allclose(quantity.flux, even.flux)


# --- errors ---------------------------------------------------------------------------------------


def test_sums_and_variances_are_those_of_the_plain_sum() -> None:
    rng = np.random.default_rng(2)
    flux = STAR * (1.0 + 0.01 * rng.standard_normal((30, WAVE.size)))
    variance = (0.01 * STAR) ** 2 * rng.uniform(0.5, 2.0, flux.shape)
    good = rng.random(flux.shape) > 0.15
    good[3, :15] = good[4, -12:] = good[5, 20:60] = False
    good[6, 7:] = False  # fewer good ones than neighbours
    weights = rng.uniform(0.5, 1.5, (2, WAVE.size)) * np.array([WAVE < 9.0, WAVE >= 8.0])
    both = np.stack([variance, variance / 3.0])
    sums, variances = ConsistentSpectra(flux, both, good, STAR).band_sums(weights)
    np.testing.assert_allclose(variances[1], variances[0] / 3.0)
    for number in range(30):
        for band, weight in enumerate(weights):
            expected = plain_sum(flux[number], variance[number], good[number], STAR, weight)
            np.testing.assert_allclose(
                (sums[number, band], variances[0, number, band]), expected, rtol=1e-12
            )


def test_blocks_of_integrations_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    flux, good = rng.uniform(1.0, 2.0, (1100, 40)), rng.random((1100, 40)) > 0.1
    sums, variances = _sums(flux, good)
    last_sums, last_variances = _sums(flux[1000:], good[1000:])
    np.testing.assert_allclose(sums[1000:], last_sums)
    np.testing.assert_allclose(variances[:, 1000:], last_variances)


def _sums(flux: Any, good: Any) -> tuple[Any, Any]:
    weights = np.stack([np.ones(40), np.zeros(40)])
    return ConsistentSpectra(flux, 0.01 * flux[np.newaxis], good, np.ones(40)).band_sums(weights)


@pytest.mark.parametrize("weights", ["sum", "inverse_variance"])
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_errors_are_those_of_the_scatter(weights: str, share: float) -> None:
    stack = series(np.ones(3000), noise=0.01, seed=4)
    lost = np.random.default_rng(5).random(stack.columns["FLUX"].shape) < share
    curve = light_curve(with_nan(stack, lost), bins=3, weights=weights)
    # The standard deviation of 3000 values is known to 1.3%, and 1.48 median to 2.2%.
    pull = (curve.flux - curve.level) / curve.error
    np.testing.assert_allclose(pull.std(axis=0), 1.0, atol=0.05)
    np.testing.assert_allclose(curve.scatter / curve.expected_noise, 1.0, atol=0.09)
    # half of the variance is that of the photons, and the error of the flat field is left out
    np.testing.assert_allclose(curve.photon_noise / curve.error, 0.5**0.5, rtol=1e-9)
    kinds = {one.kind for one in curve.findings}
    assert kinds == ({"elements_replaced"} if share else set())


def test_inverse_variance_has_the_level_of_the_sum_and_smaller_errors() -> None:
    stack = series(TRANSIT, noise=0.01)
    plain, best = light_curve(stack, bins=2), light_curve(stack, bins=2, weights="inverse_variance")
    np.testing.assert_allclose(best.level, plain.level, rtol=0.003)
    assert (best.error < plain.error).all()
    # the smallest error of any weights of the relative light curves
    sigma = 0.01 * (WAVE / 5.0)[INSIDE]
    expected = (1.0 / (1.0 / sigma**2).sum()) ** 0.5
    np.testing.assert_allclose(best.error[0, 0] / best.level[0], expected, rtol=0.01)
    depth = 1.0 - best.flux[TRANSIT < 1, 0].mean() / best.flux[TRANSIT == 1, 0].mean()
    assert abs(depth - 0.01) < 4 * expected * (1 / 16 + 1 / 24) ** 0.5


def test_errors_without_components_are_those_of_the_flux() -> None:
    stack = series(np.ones(10), noise=0.01, flat=0.0)
    error = stack.columns["FLUX_ERROR"]
    columns = {name: v for name, v in stack.columns.items() if "_VAR_" not in name}
    curve = light_curve(replace(stack, columns=columns))
    expected = (error[:, INSIDE] ** 2).sum(axis=1) ** 0.5
    np.testing.assert_allclose(curve.error[:, 0], expected, rtol=1e-12)
    assert np.isnan(curve.photon_noise).all()


def test_without_errors_lost_values_are_replaced_and_errors_unknown() -> None:
    stack = series(ECLIPSE)  # no noise, no variance
    columns = {name: v for name, v in stack.columns.items() if "VAR" not in name}
    columns["FLUX_ERROR"] = np.zeros_like(columns["FLUX"])
    lost = np.zeros((40, WAVE.size), dtype=bool)
    lost[30, 60] = True
    curve = light_curve(with_nan(replace(stack, columns=columns), lost))
    np.testing.assert_allclose(curve.flux[:, 0], ECLIPSE * STAR[INSIDE].sum(), rtol=1e-12)
    assert np.isnan(curve.error).all()
    with pytest.raises(LRSError, match="weights: is 'inverse_variance', but the spectra have no"):
        light_curve(replace(stack, columns=columns), weights="inverse_variance")


def test_a_spectrum_of_noise_is_not_scaled() -> None:
    """The sum of the neighbours is 0 within its error, so that a ratio to it means nothing."""
    stack = series(np.full(60, 1e-4), noise=0.01, seed=6)
    lost = np.random.default_rng(7).random((60, WAVE.size)) < 0.1
    curve = light_curve(with_nan(stack, lost))
    assert (np.abs(curve.flux - curve.level) < 5 * curve.error).all()


def test_errors_from_the_scatter() -> None:
    stack = series(np.ones(500), noise=0.01, seed=8)
    doubled = changed(stack, FLUX=STAR + 2.0 * (stack.columns["FLUX"] - STAR))
    with pytest.warns(NoiseWarning, match=r"scatters by \d+ ppm .* where \d+ ppm are expected"):
        plain = light_curve(doubled, bins=2)
    (finding,) = plain.findings
    assert finding.kind == "scatter_excess"
    assert finding.values["factor"] == pytest.approx(2.0, rel=0.15)
    curve = light_curve(doubled, bins=2, error="scatter", check=False)
    np.testing.assert_allclose(np.median(curve.error, axis=0), curve.scatter)
    np.testing.assert_allclose(curve.propagated, plain.error)
    np.testing.assert_allclose(curve.error / curve.error[0], plain.error / plain.error[0])


@pytest.mark.parametrize("seed", range(5))
def test_correct_errors_give_no_warning(seed: int) -> None:
    factors = np.interp(np.arange(60), [0, 20, 22, 40, 42, 60], [1, 1, 0.98, 0.98, 1, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        light_curve(series(factors, noise=0.002, seed=seed), bins=4)


def test_scatter_out_of_transit() -> None:
    """A drift in time and the transit are no noise; the mask and the times select the same."""
    drift = TRANSIT * np.linspace(1.0, 1.02, 40)
    stack = series(drift, noise=0.003, seed=9)
    mask = TRANSIT == 1.0
    curve = light_curve(stack, out_of_transit=mask)
    assert curve.scatter[0] == pytest.approx(curve.expected_noise[0], rel=0.4)
    days = curve.time.mjd
    spans = [(days[0], days[11]), (days[28], days[39])]
    assert light_curve(stack, out_of_transit=spans).scatter == curve.scatter
    assert curve.out_of_transit is not None
    assert (curve.out_of_transit == mask).all()
    assert curve.level[0] == np.median(curve.flux[mask, 0])


# --- lost integrations and invalid input ----------------------------------------------------------


def test_points_without_half_of_their_flux_have_none() -> None:
    lost = np.zeros((40, WAVE.size), dtype=bool)
    lost[7, WAVE > 6.0] = True
    lost[8, WAVE > 11.0] = True
    with pytest.warns(LostPixelsWarning, match="1 of 40 integrations have lost more than 50%"):
        curve = light_curve(with_nan(series(TRANSIT, noise=0.001), lost))
    assert np.flatnonzero(np.isnan(curve.flux[:, 0])).tolist() == [7]
    assert np.isnan(curve.error[7, 0])
    assert np.isfinite(curve.scatter).all()


def test_lost_elements_are_masked_or_have_fewer_pixels() -> None:
    stack = series(np.ones(3))
    lost = np.zeros((3, WAVE.size), dtype=bool)
    lost[1, 5] = lost[2, 6] = True
    for damage in DAMAGE:
        assert (lost_elements(damage(stack, lost).columns) == lost).all()
    unknown = changed(stack, NPIXELS=np.full((3, WAVE.size), np.nan))
    assert not lost_elements(unknown.columns).any()


def test_the_mean_spectrum_does_not_depend_on_when_an_element_is_lost() -> None:
    flux, good = ECLIPSE[:, np.newaxis] * STAR, np.ones((40, WAVE.size), dtype=bool)
    good[:15, 10] = good[25:, 20] = False
    spectrum = mean_spectrum(flux, np.zeros_like(flux), good)
    np.testing.assert_allclose(spectrum / spectrum[0], STAR / STAR[0], rtol=1e-12)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"weights": "mean"}, "weights: found 'mean', expected"),
    ({"error": "both"}, "error: found 'both', expected"),
    ({"bins": 0}, "bins: found 0, expected at least 1"),
    ({"bins": [5.0]}, "expected at least two ascending wavelengths"),
    ({"bins": [6.0, 5.0]}, "expected at least two ascending wavelengths"),
    ({"bins": "many"}, "expected wavelengths in micron"),
    ({"bins": [5.0, 6.0], "wavelength_range": (5.0, 6.0)}, "given together with the edges"),
    ({"wavelength_range": (5.0, 6.0, 7.0)}, "expected two ascending wavelengths"),
    ({"wavelength_range": (5.0, np.nan)}, "expected two ascending wavelengths"),
    ({"wavelength_range": (5.0, 6.0) * u.s}, "expected wavelengths in micron"),
    ({"wavelength_range": (20.0, 30.0)}, "has no wavelength from 20 to 30 um, expected some of"),
    ({"bins": [5.0, 5.0001, 6.0]}, "no usable wavelength element from 5 to 5.0001 um"),
    ({"max_replaced": 2.0}, "max_replaced is 2.0, expected a fraction"),
    ({"out_of_transit": [True, False]}, r"has the shape \(2,\), expected a mask of 40"),
    ({"out_of_transit": [(1.0, 2.0)]}, "selects 0 points, expected at least 3"),
    ({"out_of_transit": "start"}, "expected a mask of 40 integrations, or pairs of times"),
]


@pytest.mark.parametrize(("options", "text"), WRONG, ids=[str(one) for one, _ in WRONG])
def test_invalid_parameters(options: dict[str, Any], text: str) -> None:
    with pytest.raises(LRSError, match=text):
        light_curve(series(TRANSIT), **options)


def test_other_inputs_than_stacks() -> None:
    stack = series(TRANSIT)
    single = replace(stack, columns={name: one[0] for name, one in stack.columns.items()})
    with pytest.raises(LRSError, match="has one spectrum, expected the spectra of several"):
        light_curve(single)
    for source in (None, [], 5.0):
        with pytest.raises(LRSError, match=r"source: found .*, expected spectra or files"):
            light_curve(source)  # type: ignore[arg-type]


def test_a_spectrum_gives_the_light_curve_of_its_extraction() -> None:
    lost = np.zeros((40, WAVE.size), dtype=bool)
    lost[7, 60] = True
    stack = with_nan(series(TRANSIT, noise=0.001), lost)
    from_spectrum = light_curve(stack.to_spectrum(), bins=3)
    expected = light_curve(stack, bins=3)
    assert_same(from_spectrum, expected)
    part = light_curve(stack.to_spectrum()[5:20], bins=3)
    np.testing.assert_allclose(part.time.mjd, expected.time.mjd[5:20])


def assert_same(one: LightCurve, other: LightCurve) -> None:
    for name in ("flux", "error", "photon_noise", "scatter", "replaced", "edges"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert (one.time == other.time).all()


def test_elements_of_infinite_variance_are_lost() -> None:
    stack = series(np.ones(12), noise=1e-3, seed=2)
    stack.columns["FLUX_VAR_RNOISE"][4, 30:40] = np.inf
    assert lost_elements(stack.columns).sum() == 10
    assert light_curve(stack, wavelength_range=(4.0, 14.0)).replaced.sum() == 10


def test_pixels_rejected_by_an_optimal_extraction_are_no_loss() -> None:
    """Where the profile is slightly negative, a rejected pixel increases NPIXELS a little."""
    stack = series(np.ones(12), noise=1e-3, seed=2)
    stack.columns["NPIXELS"][4, 30:40] += 4e-4
    assert not lost_elements(stack.columns).any()


def test_out_of_transit_as_pairs_of_times() -> None:
    stack = series(np.ones(30), noise=1e-3, seed=2)
    times = light_curve(stack).time
    pairs = [(times[0], times[9]), (times[20], times[29])]
    expected = [(pair[0].mjd, pair[1].mjd) for pair in pairs]
    found, plain = (light_curve(stack, out_of_transit=one) for one in (pairs, expected))
    assert np.array_equal(found.out_of_transit, plain.out_of_transit)
    assert np.sum(found.out_of_transit) == 20


def test_negative_fluxes_have_a_light_curve() -> None:
    """As of a source on a negative trace. No element is lost."""
    stack = series(np.ones(12), noise=1e-3)
    found = light_curve(changed(stack, FLUX=-stack.columns["FLUX"]))
    assert np.allclose(found.flux, -light_curve(stack).flux)


def test_one_missing_barycentric_time_does_not_change_the_scale() -> None:
    stack = series(np.ones(12), noise=1e-3)
    stack.times["TDB-MID"][3] = np.nan
    with pytest.warns(TimesWarning, match="1 of 12 integrations have no time"):
        curve = light_curve(stack)
    assert curve.time.scale == "tdb"
    assert len(curve.time) == 11
