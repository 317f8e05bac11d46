"""Optimal extraction against the truth of simulated scenes: flux, errors, and the best S/N.

What is best is worked out from the scene's own profile and true variances; no extraction has a
part in it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from glue_lrs import Aperture, Background, Extract1D, LRSError, LRSWarning
from glue_lrs.errors import ProductError, ReferenceFileError
from glue_lrs.extraction import COLUMNS, Extraction
from glue_lrs.image import SlitImage
from glue_lrs.mending import extract_mended
from glue_lrs.optimal import OptimalExtraction, OptimalResult
from glue_lrs.profile import GaussianProfile, Profile, PSFProfile
from glue_lrs.simulate import PIXEL_AREA, PIXEL_SCALE, PSF, Scene, Simulated, Source, Truth

JANSKY = PIXEL_AREA * 1e6
PLANES = ("data", "err", "var_poisson", "var_rnoise", "var_flat", "dq")


class TrueProfile(Profile):
    """The scene's own."""

    def __init__(self, psf: PSF, halo: float) -> None:
        self.psf, self.halo = psf, halo

    def __call__(self, offset: NDArray[Any], wavelength: NDArray[Any]) -> NDArray[Any]:
        below, above = ((offset + half) * PIXEL_SCALE for half in (-0.5, 0.5))
        return np.nan_to_num(self.psf.enclosed(below, above, wavelength[:, None], self.halo))


def scene(seed: int, flux: float, **changes: Any) -> Scene:
    values: dict[str, Any] = {
        "sources": (Source(flux=flux, halo=0.05),),
        "bad_fraction": 0.02,
        "pointing_error": 0.021,
        "seed": seed,
    }
    return Scene(**values | changes)


def light(truth: Truth) -> NDArray[Any]:
    """Fraction of the first source's light on each pixel."""
    columns = range(truth.data.shape[1])
    return np.nan_to_num(np.stack([truth.enclosed(c - 0.5, c + 0.5) for c in columns], axis=1))


def least_error(truth: Truth, order: int | None) -> NDArray[Any]:
    """The error of the best linear estimate of each row's flux, in Jy, without bad pixels."""
    variance = truth.var_poisson + truth.var_rnoise + truth.var_flat
    weight = np.where(np.isfinite(variance), 1.0 / variance, 0.0)
    profile = light(truth)
    basis = [profile]
    if order is not None:
        x = np.linspace(-1, 1, profile.shape[1])
        basis += [np.broadcast_to(x**i, profile.shape) for i in range(order + 1)]
    matrix = np.array([[(a * b * weight).sum(axis=1) for a in basis] for b in basis])
    matrix = np.moveaxis(matrix, -1, 0)
    error = np.full(len(profile), np.nan)
    some = np.linalg.det(matrix) > 0
    error[some] = np.sqrt(np.linalg.inv(matrix[some])[:, 0, 0])
    return error * JANSKY


def best_box(truth: Truth) -> NDArray[Any]:
    """The least relative error of all boxes about the source, without a background."""
    variance = np.nan_to_num(truth.var_poisson + truth.var_rnoise + truth.var_flat)
    profile, columns = light(truth), np.arange(truth.data.shape[1])
    best = np.full(len(profile), np.inf)
    for width in np.arange(1.0, 30.0, 0.25):
        weight = np.clip(width / 2 + 0.5 - np.abs(columns - truth.column[:, None]), 0.0, 1.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.sqrt((variance * weight**2).sum(1)) / (profile * weight).sum(1)
        best = np.fmin(best, error)
    return best * JANSKY


def rows_of(extraction: Extraction) -> slice:
    return slice(extraction.keywords["EXTRYSTR"] - 1, extraction.keywords["EXTRYSTP"])


@dataclass(frozen=True)
class Found:
    """What a number of scenes gave: pulls, flux over truth, S/N over the best there is."""

    pulls: NDArray[Any]
    bias: float
    bias_error: float
    efficiency: float
    rejected: float
    results: list[OptimalResult]


def study(
    scenes: list[Scene],
    make: Callable[[Scene], Simulated],
    operator: OptimalExtraction,
    *,
    order: int | None = None,
    spoil: Callable[[Simulated, int], SlitImage] | None = None,
    factor: Any = 1.0,
) -> Found:
    pulls, means, weights, ratios, rejected, results = [], [], [], [], [], []
    for made in scenes:
        simulated = make(made)
        image = simulated.image if spoil is None else spoil(simulated, made.seed)
        result = operator.fit(image)
        extraction = result.extractions[0]
        rows, columns = rows_of(extraction), extraction.columns
        flux, error = columns["FLUX"], columns["FLUX_ERROR"]
        true = simulated.truth.flux[rows] * np.asarray(factor)
        least = least_error(simulated.truth, order)[rows]
        known = np.isfinite(flux) & np.isfinite(least)
        pulls.append(((flux - true) / error)[known])
        weight = np.where(known, true / least**2, 0.0)
        means.append(np.nansum(np.where(known, flux, 0.0) * weight) / (true * weight).sum())
        weights.append((true * weight).sum())
        whole = known & (np.abs(extraction.lost_fraction) < 1e-6)
        ratios.append((np.broadcast_to(least, flux.shape) / error)[whole])
        rejected.append(result.number_rejected)
        results.append(result)
    return Found(
        np.concatenate(pulls),
        float(np.average(means, weights=weights)) - 1.0,
        float(1.0 / np.sqrt(np.sum(weights))),
        float(np.median(np.concatenate(ratios))) if any(r.size for r in ratios) else np.nan,
        float(np.mean(rejected)),
        results,
    )


def check(found: Found, *, spread: float = 0.05, efficiency: float = 0.98) -> None:
    """What the issue asks: bias below 0.3%, pulls 0.95 to 1.05, S/N within 2% of the best."""
    # At low S/N no estimate can be better than the noise of all rows of all scenes; a profile that
    # is learned from the same data is twice that.
    assert abs(found.bias) < max(0.003, 6.0 * found.bias_error)
    allowed = max(spread, 3.5 / np.sqrt(2.0 * found.pulls.size))
    assert found.pulls.std() == pytest.approx(1.0, abs=allowed)
    assert np.abs(found.pulls).max() < 7.0
    assert found.efficiency > efficiency
    assert found.efficiency < 1.02  # better than the best: something would be wrong with the errors


PRODUCTS: dict[str, tuple[Callable[[Scene], Simulated], int | None]] = {
    "s2d, nod subtracted": (lambda s: s.s2d(1), None),
    "s2d, background": (lambda s: s.s2d(1, subtract_nod=False), 0),
    "cal, nod subtracted": (lambda s: s.cal(2, full_frame=False), None),
    "cal, background": (lambda s: s.cal(1, full_frame=False, subtract_nod=False), 0),
    "both nods": (lambda s: s.combined(), None),
}


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("flux", [2.5e-6, 3e-5, 3e-4, 3e-3])
def test_flux_error_and_signal_to_noise(product: str, flux: float) -> None:
    """From a signal-to-noise ratio of 3 in each row to 500, 2% of the pixels bad.

    The profile is learned from the image but at a ratio of 3, where it is given: see the next test.
    """
    make, order = PRODUCTS[product]
    scenes = [scene(seed, flux) for seed in range(6)]
    profile = TrueProfile(scenes[0].psf, 0.05) if flux < 1e-5 else None
    check(study(scenes, make, OptimalExtraction(profile=profile), order=order))


@pytest.mark.parametrize("product", ["s2d, nod subtracted", "s2d, background"])
def test_a_profile_learned_from_next_to_nothing(product: str) -> None:
    """At a ratio of 3 in each row the learned profile adds some 1.5% to all fluxes of an image."""
    make, order = PRODUCTS[product]
    scenes = [scene(seed, 2.5e-6) for seed in range(10)]
    found = study(scenes, make, OptimalExtraction(), order=order)
    assert abs(found.bias) < 0.02
    assert found.pulls.std() == pytest.approx(1.0, abs=0.05)
    assert found.efficiency == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("product", ["s2d, background", "cal, nod subtracted"])
@pytest.mark.parametrize("flat_error", [3e-3, 3e-4])
def test_very_bright_sources(product: str, flat_error: float) -> None:
    """A ratio of 800 (limited by the flat field) and of 1900."""
    make, order = PRODUCTS[product]
    scenes = [scene(seed, 0.03, flat_error=flat_error) for seed in range(4)]
    check(study(scenes, make, OptimalExtraction(), order=order), spread=0.1)


def test_full_frames_and_uncalibrated_images() -> None:
    made = scene(1, 1e-3)
    cut = OptimalExtraction().run(made.cal(1, full_frame=False).image)
    full = OptimalExtraction().run(made.cal(1).image)
    np.testing.assert_allclose(full.columns["FLUX"], cut.columns["FLUX"], rtol=1e-2)
    simulated = made.s2d(1, calibrated=False)
    rate = OptimalExtraction().run(simulated.image)
    ratio = rate.columns["FLUX"] / simulated.truth.flux[rows_of(rate)]
    assert np.nanmedian(ratio) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("flux", [3e-6, 3e-4])
def test_never_below_the_best_box(flux: float) -> None:
    """Faint: 1.02 times the best box of each row, which no one knows beforehand."""
    source = Source(flux=flux, halo=0.0)
    made = scene(1, flux, sources=(source,), bad_fraction=0.0, background=30.0)
    simulated = made.s2d(1)
    profile = TrueProfile(made.psf, 0.0) if flux < 1e-5 else None
    extraction = OptimalExtraction(profile=profile).run(simulated.image)
    rows = rows_of(extraction)
    gain = best_box(simulated.truth)[rows] / extraction.columns["FLUX_ERROR"]
    known = np.isfinite(gain)
    assert np.percentile(gain[known], 2) > 0.99
    assert np.median(gain[known]) > 1.0
    if flux < 1e-5:
        assert np.median(gain[known]) == pytest.approx(1.025, abs=0.01)
        box = Extract1D(aperture=Aperture.from_edges(9.24, 17.24)).run(simulated.image)
        enclosed = simulated.truth.enclosed(9.24, 17.24)[rows]
        default = box.columns["FLUX_ERROR"] / enclosed / extraction.columns["FLUX_ERROR"]
        for wavelength, expected in ((5.0, 1.4), (12.0, 1.2)):
            near = np.abs(extraction.wavelength - wavelength) < 0.4
            assert np.nanmedian(default[near]) == pytest.approx(expected, abs=0.06)


def test_weights_do_not_follow_the_noise() -> None:
    """The pixels' own variances, as weights, would bias a faint flux; the model's do not."""
    pulls, naive = [], []
    for seed in range(8):
        made = scene(seed, 1e-5, background=0.0, bad_fraction=0.0, read_noise=3.0)
        simulated = made.s2d(1, subtract_nod=False)
        image, profile = simulated.image, TrueProfile(made.psf, 0.05)
        result = OptimalExtraction(profile=profile, bkg_order=None).fit(image)
        extraction = result.extractions[0]
        rows = rows_of(extraction)
        true = simulated.truth.flux[rows]
        pulls.append(np.nanmean((extraction.columns["FLUX"] / true)[20:300]))
        p = light(simulated.truth)[rows]
        v = (image.var_poisson + image.var_rnoise + image.var_flat)[rows]
        with np.errstate(invalid="ignore"):
            estimate = np.nansum(p * image.data[rows] / v, 1) / np.nansum(p * p / v, 1)
        naive.append(np.nanmean((estimate * JANSKY / true)[20:300]))
    assert np.mean(naive) < 0.993
    assert np.mean(pulls) == pytest.approx(1.0, abs=0.003)


def cosmic_rays(simulated: Simulated, seed: int) -> SlitImage:
    """1% of the pixels hit: 20 to 3000 standard deviations of the background."""
    rng = np.random.default_rng(seed + 100)
    image = simulated.image
    data = image.data.copy()
    noise = np.nan_to_num(image.var_poisson + image.var_rnoise)  # rows without a pixel
    sigma = np.sqrt(np.median(noise, axis=-1, keepdims=True))
    hit = rng.random(data.shape) < 0.01
    size = 10 ** rng.uniform(1.3, 3.5, data.shape)
    data[hit] += (size * sigma)[hit].astype(np.float32)
    return replace(image, data=data)


@pytest.mark.parametrize("product", ["s2d, background", "cal, nod subtracted"])
@pytest.mark.parametrize("flux", [1e-5, 3e-4])
def test_cosmic_rays_are_rejected_and_counted(product: str, flux: float) -> None:
    make, order = PRODUCTS[product]
    scenes = [scene(seed, flux) for seed in range(5)]
    found = study(scenes, make, OptimalExtraction(), order=order, spoil=cosmic_rays)
    check(found, spread=0.1)
    assert found.rejected > 50
    blind = study(
        scenes[:1], make, OptimalExtraction(threshold=None), order=order, spoil=cosmic_rays
    )
    assert np.abs(blind.pulls).max() > 20.0
    assert blind.rejected == 0


def test_nothing_is_rejected_without_a_reason() -> None:
    made = [scene(seed, flux) for seed, flux in enumerate((1e-5, 3e-4, 3e-3))]
    found = study(made, lambda s: s.s2d(2), OptimalExtraction())
    assert found.rejected < 3  # of 17 000 pixels


def test_rejected_pixels_are_told() -> None:
    simulated = scene(1, 3e-4, bad_fraction=0.0).s2d(1)
    data = simulated.image.data.copy()
    data[100, 13] += 500.0
    data[101, 14] -= 500.0
    image = replace(simulated.image, data=data)
    result = OptimalExtraction().fit(image)
    assert list(zip(*(part.tolist() for part in result.rejected), strict=True)) == [
        (100, 13),
        (101, 14),
    ]
    extraction = result.extractions[0]
    lost = np.flatnonzero(extraction.lost_fraction > 0.01) + rows_of(extraction).start
    assert lost.tolist() == [0, 100, 101, 386]  # the first and the last have no pixel at all
    assert any("2 pixels were rejected" in note for note in extraction.provenance["notes"])  # type: ignore[index]
    assert result.residual()[100, 13] == pytest.approx(500.0, abs=40.0)
    inside = result.residual()[:, 9:18]
    sigma = np.sqrt(sum(getattr(image, n) for n in ("var_poisson", "var_rnoise", "var_flat")))
    pull = np.delete(inside / sigma[:, 9:18], [100, 101], axis=0)
    assert np.nanstd(pull) == pytest.approx(1.0, abs=0.1)  # 9 pixels and one flux of each row


def test_a_nan_at_the_peak_costs_nothing() -> None:
    """The pipeline's box: 24 to 30%."""
    simulated = scene(2, 3e-3, bad_fraction=0.0).s2d(1)
    whole = OptimalExtraction().run(simulated.image).columns
    data = simulated.image.data.copy()
    rows = np.arange(20, 380, 20)
    data[rows, 13] = np.nan
    less = OptimalExtraction().run(replace(simulated.image, data=data))
    at = rows - rows_of(less).start
    ratio = less.columns["FLUX"][at] / whole["FLUX"][at]
    assert np.abs(ratio - 1.0).max() < 0.01
    assert (less.columns["FLUX_ERROR"][at] > 1.05 * whole["FLUX_ERROR"][at]).all()
    assert (less.lost_fraction[at] > 0.15).all()
    masked = OptimalExtraction(max_lost=0.1).run(replace(simulated.image, data=data))
    assert np.flatnonzero(masked.columns["DQ"]).tolist() == [0, *at.tolist(), len(whole["DQ"]) - 1]


@pytest.mark.parametrize("apart", [2.0, 3.0, 4.0, 6.0])
@pytest.mark.parametrize("flux", [1e-5, 1e-3])
def test_blends(apart: float, flux: float) -> None:
    """Two sources 2 to 6 columns apart, with the negatives of both, and a profile that is given."""
    scenes, both = [], []
    for seed in range(4):
        second = Source(flux=0.6 * flux, halo=0.05, position=apart * PIXEL_SCALE)
        scenes.append(scene(seed, flux, sources=(Source(flux=flux, halo=0.05), second)))
    operator = OptimalExtraction(
        position=(13.0, 13.0 + apart), profile=TrueProfile(scenes[0].psf, 0.05)
    )
    found = study(scenes, lambda s: s.s2d(1), operator)
    check(found, spread=0.1, efficiency=0.0)
    for result in found.results:
        assert len(result.extractions) == 2
        ratio = result.extractions[1].columns["FLUX"] / (0.6 * flux)
        error = result.extractions[1].columns["FLUX_ERROR"] / (0.6 * flux)
        weight = 1.0 / error**2
        known = np.isfinite(ratio)
        mean = np.average(ratio[known], weights=weight[known])
        both.append((mean - 1.0) * np.sqrt(weight[known].sum()))
        difference = result.traces[1] - result.traces[0]
        assert np.nanmean(difference) == pytest.approx(apart, abs=0.1 if flux < 1e-4 else 0.01)
    # The error of where the sources are is not in the errors of the fluxes.
    assert abs(np.mean(both)) < 3.0


def test_a_profile_learned_from_a_star_serves_a_blend() -> None:
    star = OptimalExtraction().fit(scene(50, 3e-3).s2d(1).image)
    second = Source(flux=6e-4, halo=0.05, position=2.5 * PIXEL_SCALE)
    blend = scene(1, 1e-3, sources=(Source(flux=1e-3, halo=0.05), second)).s2d(1)
    operator = OptimalExtraction(position=(13.0, 15.5), profile=star.profile)
    flux = operator.run(blend.image).columns["FLUX"]
    assert np.nanmedian(flux) == pytest.approx(1e-3, rel=5e-3)
    with pytest.warns(LRSWarning, match="2.5 columns apart, which is too close"):
        OptimalExtraction(position=(13.0, 15.5)).fit(blend.image)


def test_the_position_is_right_from_the_start() -> None:
    """Where it is not fitted the pipeline's profile lies half a column off: 3% of the flux."""
    made = scene(1, 3e-3, pointing_error=0.0)
    simulated = made.s2d(1)
    column = float(np.nanmean(simulated.truth.column))
    psf = PSFProfile.sampled(TrueProfile(made.psf, 0.05), np.linspace(2.5, 14.5, 80), subpix=20)
    fixed = OptimalExtraction(profile=psf, position=column, fit_position=False)
    ratio = fixed.run(simulated.image).columns["FLUX"] / 3e-3
    assert np.nanmedian(ratio) == pytest.approx(1.0, abs=1e-3)
    fitted = OptimalExtraction(profile=psf).fit(simulated.image)
    assert np.nanmean(fitted.traces[0]) == pytest.approx(column, abs=3e-3)


def test_the_brightest_is_not_always_the_target() -> None:
    """A brighter star elsewhere, and a negative trace: the header decides."""
    other = Source(flux=5e-3, halo=0.05, position=8 * PIXEL_SCALE)
    simulated = scene(1, 1e-3, sources=(Source(flux=1e-3, halo=0.05), other)).s2d(1)
    result = OptimalExtraction().fit(simulated.image)
    assert np.nanmean(result.traces[0]) == pytest.approx(13.2, abs=0.2)
    lost = replace(simulated.image, source_ra=None)
    assert np.nanmean(OptimalExtraction().fit(lost).traces[0]) == pytest.approx(21.2, abs=0.2)


def test_header_and_data_that_disagree_are_told() -> None:
    simulated = scene(1, 1e-3, pointing_error=0.25).s2d(1)
    with pytest.warns(LRSWarning, match="found at column 15.3., .2.2. from where the header"):
        flux = OptimalExtraction().run(simulated.image).columns["FLUX"]
    assert np.nanmedian(flux) == pytest.approx(1e-3, rel=3e-3)
    faint = scene(1, 1e-7).s2d(1)
    with pytest.warns(LRSWarning, match="no source stands out"):
        OptimalExtraction(profile=GaussianProfile()).run(faint.image)
    with pytest.raises(ProductError, match="no source was found"):
        OptimalExtraction().run(replace(faint.image, source_ra=None))


# --- stacks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["calints", "slit_calints"])
@pytest.mark.parametrize("flux", [3e-4, 5e-3])
def test_stacks(kind: str, flux: float) -> None:
    """A time series along a curved trace: each integration's flux, and the light curve."""
    number = 24
    factors = 1.0 + 0.01 * np.sin(np.arange(number))
    made = scene(3, flux, flat_error=1e-4, exposure_time=60.0)
    found = study(
        [made],
        lambda s: getattr(s, kind)(number, factors=factors),
        OptimalExtraction(),
        order=0,
        factor=factors[:, np.newaxis],
    )
    check(found)
    (result,) = found.results
    flux_of = result.extractions[0].columns["FLUX"]
    assert flux_of.shape[0] == number
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        curve = np.nanmedian(flux_of / np.nanmedian(flux_of, axis=0), axis=1)
    np.testing.assert_allclose(curve / curve.mean(), factors / factors.mean(), atol=3e-3)
    assert result.shifts is not None
    assert np.abs(result.shifts).max() < 0.01  # there is none


def jittered(shifts: NDArray[Any], flux: float) -> tuple[SlitImage, Simulated]:
    """Integrations of which each is pointed a little differently."""
    many = [
        scene(
            seed, flux, flat_error=1e-5, exposure_time=60.0, pointing_error=shift * PIXEL_SCALE
        ).slit_calints(1)
        for seed, shift in enumerate(shifts.tolist())
    ]
    first = many[0].image
    planes = {name: np.concatenate([getattr(m.image, name) for m in many]) for name in PLANES}
    return replace(first, times=None, **planes), many[0]


def test_each_integration_has_a_shift() -> None:
    rng = np.random.default_rng(1)
    shifts = rng.normal(0.0, 0.08, 16)
    image, simulated = jittered(shifts, 3e-3)
    result = OptimalExtraction().fit(image)
    assert result.shifts is not None
    found = result.shifts - result.shifts.mean()
    np.testing.assert_allclose(found, shifts - shifts.mean(), atol=2e-3)
    extraction = result.extractions[0]
    ratio = extraction.columns["FLUX"] / simulated.truth.flux[rows_of(extraction)]
    weight = 1.0 / extraction.columns["FLUX_ERROR"] ** 2
    known = np.isfinite(ratio)
    white = np.where(known, ratio * weight, 0).sum(1) / np.where(known, weight, 0).sum(1)
    stiff = OptimalExtraction(fit_shift=False).run(image).columns["FLUX"]
    ratio = stiff / simulated.truth.flux[rows_of(extraction)]
    fixed = np.where(known, ratio * weight, 0).sum(1) / np.where(known, weight, 0).sum(1)
    assert white.std() < 4e-4
    assert fixed.std() > 2 * white.std()


def test_cosmic_rays_in_stacks() -> None:
    made = scene(4, 1e-3, flat_error=1e-4, exposure_time=60.0)
    found = study([made], lambda s: s.calints(8), OptimalExtraction(), order=0, spoil=cosmic_rays)
    check(found, spread=0.1)
    assert found.rejected > 1000
    (result,) = found.results
    assert len(result.rejected) == 3
    assert set(result.rejected[0].tolist()) == set(range(8))


def test_a_stack_of_one_is_an_image() -> None:
    image = scene(1, 1e-3).slit_calints(1).image
    single = replace(
        image,
        times=None,
        **{name: getattr(image, name)[0] for name in PLANES},
    )
    stack, plain = OptimalExtraction().run(image), OptimalExtraction().run(single)
    for name in COLUMNS:
        np.testing.assert_array_equal(stack.columns[name][0], plain.columns[name])


# --- a box whose losses are made up for -----------------------------------------------------------

BOXES: dict[str, tuple[Callable[[Scene], Simulated], Extract1D]] = {
    "s2d": (lambda s: s.s2d(1), Extract1D(aperture=Aperture.from_edges(8.5, 17.5))),
    "background": (
        lambda s: s.s2d(1, subtract_nod=False),
        Extract1D(
            aperture=Aperture.from_edges(8.5, 17.5),
            background=Background.from_edges((26.5, 40.5)),
        ),
    ),
    "stack": (
        lambda s: replace(s, exposure_time=60.0).calints(3),
        Extract1D(
            aperture=Aperture.from_edges(29.5, 41.5),
            background=Background.from_edges((8.5, 20.5), (50.5, 65.5)),
        ),
    ),
}


@pytest.mark.parametrize("kind", BOXES)
@pytest.mark.parametrize("flux", [3e-5, 3e-3])
def test_lost_light_is_made_up_for(kind: str, flux: float) -> None:
    make, box = BOXES[kind]
    pulls, ratios, plain = [], [], []
    edges = (29.5, 41.5) if kind == "stack" else (8.5, 17.5)
    for seed in range(1 if kind == "stack" else 4):
        simulated = make(scene(seed, flux, bad_fraction=0.03))
        mended = extract_mended(box, simulated.image)
        before = box.run(simulated.image)
        rows = rows_of(mended)
        true = (simulated.truth.flux * simulated.truth.enclosed(*edges))[rows]
        lost = (before.lost_fraction > 0.01) & np.isfinite(before.columns["FLUX"])
        for name in COLUMNS:  # nothing else changes
            same = ~lost & ~(before.lost_fraction > 0)
            np.testing.assert_array_equal(mended.columns[name][same], before.columns[name][same])
        c = mended.columns
        pulls.append(((c["FLUX"] - true) / c["FLUX_ERROR"])[lost])
        ratios.append((c["FLUX"] / true)[lost])
        plain.append((before.columns["FLUX"] / true)[lost])
        whole = np.broadcast_to(mended.aperture_weight, c["NPIXELS"].shape)
        np.testing.assert_allclose(c["NPIXELS"][lost], whole[lost])
        np.testing.assert_allclose(
            c["SURF_BRIGHT"][lost] * whole[lost] * JANSKY, c["FLUX"][lost], rtol=1e-9
        )
        assert any("made up for" in note for note in mended.provenance["notes"])  # type: ignore[index]
    pull, ratio = np.concatenate(pulls), np.concatenate(ratios)
    assert np.median(np.concatenate(plain)) < 0.97
    assert pull.std() == pytest.approx(1.0, abs=0.12)
    assert abs(pull.mean()) < 0.2
    weight = 1.0 / np.maximum(np.abs((ratio - 1.0) / pull), 1e-9) ** 2
    error = 1.0 / np.sqrt(weight.sum())
    assert abs(np.average(ratio, weights=weight) - 1.0) < 4.0 * error + 5e-4


def test_a_nan_at_the_peak_and_the_aperture_correction() -> None:
    """The mended row has the light and the aperture correction of the whole aperture."""
    made = scene(2, 3e-3, bad_fraction=0.0)
    simulated = made.s2d(1)
    data = simulated.image.data.copy()
    data[200, 13] = np.nan
    image = replace(simulated.image, data=data)
    box = Extract1D(
        aperture=Aperture.from_edges(9.5, 16.5),
        aperture_correction=made.aperture_correction("FULL"),
    )
    at = 200 - rows_of(box.run(simulated.image)).start
    whole = box.run(simulated.image).columns
    mended = extract_mended(box, image).columns
    assert mended["FLUX"][at] == pytest.approx(whole["FLUX"][at], rel=0.01)
    assert mended["FLUX_ERROR"][at] > 1.02 * whole["FLUX_ERROR"][at]
    with pytest.warns(LRSWarning, match="bad pixels"):
        assert box.run(image).columns["FLUX"][at] < 0.8 * whole["FLUX"][at]


def test_what_cannot_be_made_up_for_is_masked() -> None:
    simulated = scene(2, 3e-3, bad_fraction=0.0).s2d(1)
    data = simulated.image.data.copy()
    data[200, 10:17] = np.nan
    box = Extract1D(aperture=Aperture.from_edges(8.5, 17.5))
    with pytest.warns(LRSWarning, match="1 of 3.. rows have too few good pixels"):
        mended = extract_mended(box, replace(simulated.image, data=data))
    at = 200 - rows_of(mended).start
    assert mended.columns["DQ"][at] == 1


# --- parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        {"profile": "psf.fits"},
        {"position": "13"},
        {"position": ()},
        {"position": np.nan},
        {"nods": 1},
        {"fit_shift": None},
        {"bkg_order": -1},
        {"bkg_order": 1.5},
        {"bkg_order": True},
        {"trace_order": "two"},
        {"reach": 2},
        {"threshold": 0.0},
        {"max_lost": 1.5},
    ],
)
def test_parameters_are_checked(parameters: dict[str, Any]) -> None:
    with pytest.raises(ReferenceFileError, match=next(iter(parameters))):
        OptimalExtraction(**parameters)


def test_parameters_are_ready_for_json() -> None:
    import json

    operator = OptimalExtraction(position=13.0, profile=GaussianProfile(), bkg_order=1)
    told = json.loads(json.dumps(operator.parameters))
    assert told["step"] == {"extraction_type": "optimal"}
    assert told["options"]["position"] == [13.0]
    assert told["options"]["profile"] == "GaussianProfile"


def test_the_spectrum_goes_the_usual_way() -> None:
    image = scene(1, 1e-3).s2d(1).image
    before = image.data.copy()
    spectrum = OptimalExtraction()(image)
    assert spectrum.flux.unit == "Jy"
    assert (np.diff(spectrum.spectral_axis.value) > 0).all()
    assert set(spectrum.meta["extraction"].columns) == set(COLUMNS)
    np.testing.assert_array_equal(image.data, before)
    again = OptimalExtraction().run(image.to_spectrum())
    np.testing.assert_array_equal(
        again.columns["FLUX"], spectrum.meta["extraction"].columns["FLUX"]
    )


def test_background_of_a_line() -> None:
    made = scene(1, 1e-4, background=40.0, background_slope=0.05, bad_fraction=0.0)
    simulated = made.s2d(1, subtract_nod=False)
    extraction = OptimalExtraction(bkg_order=1).run(simulated.image)
    rows, c = rows_of(extraction), extraction.columns
    true = (
        simulated.truth.background[rows, 13] + 0.24 * np.diff(simulated.truth.background)[rows, 13]
    )
    pull = (c["BACKGROUND"] - true) / c["BKGD_ERROR"]
    assert np.nanstd(pull) == pytest.approx(1.0, abs=0.12)
    assert abs(np.nanmean(pull)) < 0.2
    assert np.nanmedian(c["FLUX"]) == pytest.approx(1e-4, rel=4e-3)


@pytest.mark.parametrize("how", ["nothing", "no area", "no wavelength"])
def test_images_that_cannot_be_extracted(how: str) -> None:
    image = scene(1, 1e-3).s2d(1).image
    if how == "nothing":
        image = replace(image, data=np.full_like(image.data, np.nan))
    elif how == "no area":
        image = replace(image, pixel_area=None)
    else:
        image = replace(image, wavelength=np.full_like(image.wavelength, np.nan))
    with pytest.raises(LRSError):
        OptimalExtraction().run(image)


def test_without_variances_all_pixels_weigh_the_same() -> None:
    simulated = scene(1, 1e-3).s2d(1)
    bare = replace(simulated.image, err=None, var_poisson=None, var_rnoise=None, var_flat=None)
    columns = OptimalExtraction(threshold=None).run(bare).columns
    assert np.nanmedian(columns["FLUX"]) == pytest.approx(1e-3, rel=2e-3)
    assert not np.nan_to_num(columns["FLUX_ERROR"]).any()
