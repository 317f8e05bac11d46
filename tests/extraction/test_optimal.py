"""Optimal extraction of simulated scenes: bias of the flux, errors, and signal-to-noise ratio.

The best possible signal-to-noise ratio is computed from the true profile and the true variances of
the scene, without the extraction.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from glue_lrs import Aperture, Background, Extract1D, LRSError, LRSWarning
from glue_lrs.errors import ProductError, ReferenceFileError
from glue_lrs.extraction.optimal import OptimalExtractor
from glue_lrs.extraction.optimal_result import OptimalResult
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.profiles.empirical import EmpiricalProfile
from glue_lrs.profiles.gaussian import GaussianProfile
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.simulation.bounds import LinearBound, TrueProfile, best_box_error
from glue_lrs.simulation.optics import JY_PER_PIXEL, PIXEL_SCALE, PSF
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source
from glue_lrs.simulation.truth import Simulated
from glue_lrs.spectra.columns import COLUMNS
from tests.helpers.study import (
    HALO,
    PRODUCTS,
    StudyResult,
    add_cosmic_rays,
    changes_of,
    flux_of,
    rows_of,
    scene,
    study,
)

PLANES = ("data", "err", "var_poisson", "var_rnoise", "var_flat", "dq")


def check(found: StudyResult, *, told: bool = True, efficiency: float = 0.98) -> None:
    """Check the bias (below 0.3%), the spread of the pulls (0.95 to 1.05) and the S/N.

    The S/N must be at least `efficiency` times the best possible. The limits are widened by the
    statistical uncertainty of the study, and the error of the bias must be below 0.1%.
    """
    assert 3.0 * found.bias_error < 0.003
    assert abs(found.bias) < 0.003
    chance = 2.5 / np.sqrt(2.0 * found.pulls.size)
    assert 0.95 - chance < found.spread < 1.05 + chance
    assert found.efficiency > efficiency - chance
    if told:
        assert 0.98 < found.reported < 1.02
    assert np.abs(found.pulls).max() < 7.0


def study_at(
    ratio: float, product: str, seeds: int, operator: OptimalExtractor, **keys: Any
) -> StudyResult:
    """Study scenes with 2% bad pixels, whose median S/N in a row is `ratio`."""
    make, order = PRODUCTS[product]
    changes = changes_of(ratio, product)
    flux = flux_of(ratio, product, **changes)
    return study(
        (scene(seed, flux, **changes) for seed in range(seeds)), make, operator, order=order, **keys
    )


IMAGES = [product for product in PRODUCTS if not product.startswith("stack")]


@pytest.mark.slow
@pytest.mark.parametrize("product", IMAGES)
@pytest.mark.parametrize("ratio", [30.0, 100.0, 1000.0])
def test_flux_error_and_signal_to_noise(product: str, ratio: float) -> None:
    """The profile is fitted to the image."""
    found = study_at(ratio, product, 6 if ratio > 50 else 20, OptimalExtractor())
    # With both nods in an image, an error of the profile of 0.06% exceeds the noise of S/N 1000.
    check(found, efficiency=0.75 if (ratio, product) == (1000.0, "both nods") else 0.98)


@pytest.mark.parametrize("product", ["s2d, background", "cal, nod subtracted"])
def test_a_width_that_changes_fast_with_wavelength(product: str) -> None:
    """A flat-field error of 3% limits the accuracy of the fitted profile, but not of the rows."""
    make, order = PRODUCTS[product]
    scenes = [scene(seed, 1e-3, flat_error=0.03) for seed in range(8)]
    check(study(scenes, make, OptimalExtractor(), order=order))


@pytest.mark.slow
@pytest.mark.parametrize("product", ["s2d, nod subtracted", "s2d, background"])
def test_rows_share_the_error_of_a_learned_profile(product: str) -> None:
    """The error of a mean over rows follows from the covariance, not from the errors alone."""
    make = PRODUCTS[product][0]
    flux = flux_of(10.0, product)
    operators = [OptimalExtractor(), OptimalExtractor(profile=TrueProfile(PSF(), HALO))]
    off, noise, shared = [], [], []
    for seed in range(30):
        simulated = make(scene(seed, flux))
        result = operators[0].fit(simulated.image)
        extraction = result.extractions[0]
        truth = simulated.truth.flux[rows_of(extraction)]
        flux_, error = (extraction.columns[name] / truth for name in ("FLUX", "FLUX_ERROR"))
        weight = np.where(np.isfinite(flux_), error**-2, 0.0)
        weight /= weight.sum()
        covariance = result.profile_covariance()
        assert covariance is not None
        assert covariance.shape == (truth.size, truth.size)
        off.append(np.nansum(weight * (flux_ - 1.0)))
        noise.append(np.nansum((weight * error) ** 2))
        shared.append(weight @ covariance @ weight)
        # The contribution to the error of a single row is negligible.
        part = np.nanmedian(np.diag(covariance) / error**2)
        assert part < 0.05
    scatter = np.sqrt(np.mean(np.square(off)))
    assert scatter > 1.25 * np.sqrt(np.mean(noise))
    assert scatter == pytest.approx(np.sqrt(np.mean(noise) + np.mean(shared)), rel=0.4)
    assert operators[1].fit(simulated.image).profile_covariance() is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("product", "ratio", "seeds"),
    [("s2d, nod subtracted", 3.0, 100), ("s2d, background", 10.0, 70)],
)
def test_a_profile_learned_from_faint_light(product: str, ratio: float, seeds: int) -> None:
    check(study_at(ratio, product, seeds, OptimalExtractor()))


@pytest.mark.slow
@pytest.mark.parametrize("product", IMAGES)
def test_a_profile_that_is_given(product: str) -> None:
    given = OptimalExtractor(profile=TrueProfile(PSF(), HALO))
    for ratio in (3.0, 300.0):
        found = study_at(ratio, product, 6, given)
        check(found)
        assert abs(found.bias) < 0.0005


@pytest.mark.slow
def test_positions_are_as_good_as_can_be() -> None:
    """Position errors are below 1.2 times the Cramer-Rao bound, for any profile and any S/N."""
    given = OptimalExtractor(profile=TrueProfile(PSF(), HALO))
    moves = {
        operator.profile is None: np.concatenate(
            [
                study_at(ratio, product, 7, operator).position_ratios
                for ratio in (10.0, 100.0, 1000.0)
                for product in ("s2d, background", "cal, nod subtracted", "both nods")
            ]
        )
        for operator in (OptimalExtractor(), given)
    }
    for found in moves.values():
        assert np.sqrt(np.mean(found**2)) < 1.2
        assert np.sqrt(np.mean(found**2)) > 0.8  # better than the bound: the bound would be wrong


@pytest.mark.slow
def test_errors_of_positions_are_told() -> None:
    found = study_at(
        30.0, "s2d, background", 60, OptimalExtractor(), inspect=lambda r: r.position_errors[0]
    )
    pulls = found.position_ratios * found.position_bounds / np.array(found.inspected)
    assert 0.77 < np.std(pulls) < 1.23  # 60 values: 1 +- 0.09
    assert abs(np.mean(pulls)) < 0.4


def test_full_frames_and_uncalibrated_images() -> None:
    made = scene(1, 1e-3)
    cut = OptimalExtractor().run(made.cal(1, full_frame=False).image)
    full = OptimalExtractor().run(made.cal(1).image)
    np.testing.assert_allclose(full.columns["FLUX"], cut.columns["FLUX"], rtol=1e-2)
    simulated = made.s2d(1, calibrated=False)
    rate = OptimalExtractor().run(simulated.image)
    ratio = rate.columns["FLUX"] / simulated.truth.flux[rows_of(rate)]
    assert np.nanmedian(ratio) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("flux", [3e-6, 3e-4])
def test_never_below_the_best_box(flux: float) -> None:
    """The errors are minimal, and 1.7% smaller than for boxes if the background dominates.

    The boxes have the best width and position for each row, which are unknown in practice, and
    edges within pixels. The errors of the default box of 8 columns are 1.35 times as large at 5
    micron, and 1.16 times at 12 micron.
    """
    source = Source(flux=flux, halo=0.0)
    made = scene(1, flux, sources=(source,), bad_fraction=0.0, background=30.0)
    simulated = made.s2d(1)
    truth = simulated.truth
    best, boxes = LinearBound.from_truth(truth, None).error, best_box_error(truth)
    for profile in (None, TrueProfile(made.psf, 0.0)):
        correction = made.aperture_correction("FULL") if profile is None else None
        operator = OptimalExtractor(profile=profile, aperture_correction=correction)
        extraction = operator.run(simulated.image)
        rows = rows_of(extraction)
        error = extraction.columns["FLUX_ERROR"]
        known = np.isfinite(error) & np.isfinite(best[rows])
        gain = (boxes[rows] / error)[known]
        assert np.median((best[rows] / error)[known]) == pytest.approx(1.0, abs=0.02)
        if profile is not None:
            # Errors are computed from noisy variances and may be wrong by 2% in a single row.
            assert np.percentile(gain, 2) > 0.98
        assert np.median(gain) > 1.0
    assert np.median(gain) == pytest.approx(np.median((boxes / best)[rows][known]), abs=0.005)
    if flux < 1e-5:
        assert np.median((boxes / best)[rows][known]) == pytest.approx(1.017, abs=0.002)
        box = Extract1D(aperture=Aperture.from_edges(9.24, 17.24)).run(simulated.image)
        enclosed = truth.enclosed(9.24, 17.24)[rows]
        default = box.columns["FLUX_ERROR"] / enclosed / error
        edges = np.clip(17.24 - (np.arange(45) - 0.5), 0, 1)
        weight = np.minimum(edges, np.clip(np.arange(45) + 0.5 - 9.24, 0, 1))
        variance = np.nan_to_num(truth.variance)
        exact = (
            np.sqrt((variance * weight**2).sum(axis=1))[rows] * JY_PER_PIXEL / enclosed / best[rows]
        )
        for wavelength, expected in ((5.0, 1.35), (12.0, 1.16)):
            near = np.abs(extraction.wavelength - wavelength) < 0.2
            assert np.nanmedian(exact[near]) == pytest.approx(expected, abs=0.02)
            assert np.nanmedian(default[near]) == pytest.approx(np.nanmedian(exact[near]), rel=0.02)


def test_weights_do_not_follow_the_noise() -> None:
    """Weights from the variances of single pixels bias a faint flux by more than 0.3%."""
    ours, naive, total = 0.0, 0.0, 0.0
    for seed in range(12):
        made = scene(seed, 1e-5, background=0.0, bad_fraction=0.0, read_noise=3.0)
        simulated = made.s2d(1, subtract_nod=False)
        image, truth = simulated.image, simulated.truth
        operator = OptimalExtractor(profile=TrueProfile(made.psf, HALO), bkg_order=None)
        extraction = operator.run(image)
        rows = rows_of(extraction)
        best = LinearBound.from_truth(truth, None, data=image.data)
        p, v = (
            truth.pixel_fractions()[rows],
            (image.var_poisson + image.var_rnoise + image.var_flat)[rows],
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            estimate = (
                np.nansum(p * image.data[rows] / v, 1) / np.nansum(p * p / v, 1) * JY_PER_PIXEL
            )
        expected = truth.flux[rows] + best.noise[rows]
        weight = 1.0 / best.error[rows] ** 2
        known = np.isfinite(expected) & np.isfinite(weight) & np.isfinite(estimate)
        ours += ((extraction.columns["FLUX"] - expected) * weight)[known].sum()
        naive += ((estimate - expected) * weight)[known].sum()
        total += (truth.flux[rows] * weight)[known].sum()
    assert naive / total < -0.003
    assert abs(ours / total) < 0.001


@pytest.mark.slow
@pytest.mark.parametrize("product", ["s2d, background", "cal, nod subtracted"])
@pytest.mark.parametrize("ratio", [10.0, 100.0])
def test_cosmic_rays_are_rejected_and_counted(product: str, ratio: float) -> None:
    operator = OptimalExtractor(profile=TrueProfile(PSF(), HALO) if ratio < 30 else None)
    found = study_at(ratio, product, 10, operator, cosmic_rays=True)
    check(found)
    assert found.position < 1.5  # of 10 scenes: 1.2 +- 0.3
    assert found.rejected > 50
    blind = study_at(ratio, product, 1, replace(operator, threshold=None), cosmic_rays=True)
    assert np.abs(blind.pulls).max() > 20.0
    assert blind.rejected == 0


@pytest.mark.slow
@pytest.mark.parametrize("product", ["s2d, background", "cal, nod subtracted"])
def test_cosmic_rays_on_the_brightest_sources(product: str) -> None:
    """Only cosmic rays below 5 standard deviations remain, because they cannot be detected."""
    found = study_at(1000.0, product, 8, OptimalExtractor(), cosmic_rays=True)
    chance = 2.5 / np.sqrt(2.0 * found.pulls.size)
    assert abs(found.bias) < 1e-4
    assert 0.95 - chance < found.spread < 1.05 + chance
    assert found.efficiency > 0.96 - chance
    assert np.abs(found.pulls).max() < 8.0
    assert found.position < 2.0  # the bound is 6e-5 columns


@pytest.mark.parametrize(("ratio", "seed"), [(300.0, 345_002), (1000.0, 800_005)])
def test_a_cosmic_ray_where_the_spectrum_ends(ratio: float, seed: int) -> None:
    """The cosmic ray is rejected, not the good pixels in the same row.

    The first is in the last row, which has no neighbours on one side. The second is in the wing,
    where the profile is uncertain.
    """
    product = "cal, nod subtracted"
    changes = changes_of(ratio, product)
    simulated = PRODUCTS[product][0](scene(seed, flux_of(ratio, product, **changes), **changes))
    image, hit = add_cosmic_rays(simulated, seed)
    result = OptimalExtractor().fit(image)
    extraction = result.extractions[0]
    off = extraction.columns["FLUX"] - simulated.truth.flux[rows_of(extraction)]
    assert np.nanmax(np.abs(off / extraction.columns["FLUX_ERROR"])) < 8.0
    assert (~hit[result.rejected]).sum() < 3


def test_nothing_is_rejected_without_a_reason() -> None:
    made = [scene(seed, flux) for seed, flux in enumerate((1e-5, 3e-4, 3e-3))]
    found = study(made, lambda s: s.s2d(2), OptimalExtractor(), order=None)
    assert found.rejected < 3  # of 17 000 pixels


def test_rejected_pixels_are_reported() -> None:
    simulated = scene(1, 3e-4, bad_fraction=0.0).s2d(1)
    data = simulated.image.data.copy()
    data[100, 13] += 500.0
    data[101, 14] -= 500.0
    image = replace(simulated.image, data=data)
    result = OptimalExtractor().fit(image)
    assert list(zip(*(part.tolist() for part in result.rejected), strict=True)) == [
        (100, 13),
        (101, 14),
    ]
    extraction = result.extractions[0]
    lost = np.flatnonzero(extraction.lost_fraction > 0.01) + rows_of(extraction).start
    assert lost.tolist() == [0, 100, 101, 386]  # the first and the last row have no pixel
    assert any("2 pixels were rejected" in one.text for one in extraction.findings)
    assert result.residual()[100, 13] == pytest.approx(500.0, abs=40.0)
    inside = result.residual()[:, 9:18]
    sigma = np.sqrt(sum(getattr(image, n) for n in ("var_poisson", "var_rnoise", "var_flat")))
    pull = np.delete(inside / sigma[:, 9:18], [100, 101], axis=0)
    assert np.nanstd(pull) == pytest.approx(1.0, abs=0.1)  # 9 pixels and one flux of each row


def test_neighbours_that_are_hit_are_not_taken_for_the_source() -> None:
    """Two adjacent pixels at the trace are hit, and disagree with the rest of the row only."""
    simulated = scene(3, 1e-5, bad_fraction=0.0).s2d(1, subtract_nod=False)
    data = simulated.image.data.copy()
    column = int(np.nanmean(simulated.truth.column))
    rows = np.arange(30, 340, 10)
    data[rows, column] += 120.0
    data[rows, column + 1] += 150.0
    extraction = OptimalExtractor().run(replace(simulated.image, data=data))
    at = rows - rows_of(extraction).start
    columns = extraction.columns
    pull = (columns["FLUX"][at] - 1e-5) / columns["FLUX_ERROR"][at]
    assert np.abs(pull).max() < 5.0
    assert (extraction.lost_fraction[at] > 0.3).all()


def test_hits_on_both_sides_of_the_trace_are_no_brighter_source() -> None:
    """The pixel between the two hits disagrees with both, but is not rejected."""
    simulated = scene(3, 1e-5, bad_fraction=0.0).s2d(1, subtract_nod=False)
    data = simulated.image.data.copy()
    column = int(np.nanmean(simulated.truth.column))
    rows = np.arange(30, 340, 10)
    data[rows, column - 1] += 100.0
    data[rows, column + 1] += 130.0
    result = OptimalExtractor().fit(replace(simulated.image, data=data))
    extraction = result.extractions[0]
    at = rows - rows_of(extraction).start
    columns = extraction.columns
    pull = (columns["FLUX"][at] - 1e-5) / columns["FLUX_ERROR"][at]
    assert np.abs(pull).max() < 5.0
    hit = np.isin(result.rejected[0], rows)
    assert set(result.rejected[1][hit].tolist()) == {column - 1, column + 1}


def test_headers_and_times_are_ones_own() -> None:
    image = scene(1, 1e-3).calints(2).image
    extraction = OptimalExtractor().run(image)
    extraction.header["TARGNAME"] = "changed"
    assert image.header["TARGNAME"] == "SIMULATED"
    assert extraction.int_times is not image.times
    assert extraction.int_times is not None
    extraction.int_times["int_mid_BJD_TDB"][0] = 0.0
    assert image.times is not None
    assert image.times["int_mid_BJD_TDB"][0] > 0.0


def test_a_nan_at_the_peak_costs_nothing() -> None:
    """The flux changes by less than 1%. The pipeline's box loses 24 to 30%."""
    simulated = scene(2, 3e-3, bad_fraction=0.0).s2d(1)
    whole = OptimalExtractor().run(simulated.image).columns
    data = simulated.image.data.copy()
    rows = np.arange(20, 380, 20)
    data[rows, 13] = np.nan
    less = OptimalExtractor().run(replace(simulated.image, data=data))
    at = rows - rows_of(less).start
    ratio = less.columns["FLUX"][at] / whole["FLUX"][at]
    assert np.abs(ratio - 1.0).max() < 0.01
    assert (less.columns["FLUX_ERROR"][at] > 1.05 * whole["FLUX_ERROR"][at]).all()
    assert (less.lost_fraction[at] > 0.15).all()
    masked = OptimalExtractor(max_lost=0.1).run(replace(simulated.image, data=data))
    assert np.flatnonzero(masked.columns["DQ"]).tolist() == [0, *at.tolist(), len(whole["DQ"]) - 1]


def blends(ratio: float, apart: float, seeds: int, given: bool) -> tuple[StudyResult, float, float]:
    """Study two sources with a flux ratio of 0.6, and their negative traces.

    Returns the study of the first source, and the bias of the second source with its error.
    """
    product = "s2d, nod subtracted"
    flux = flux_of(ratio, product)
    second = Source(flux=0.6 * flux, halo=HALO, position=apart * PIXEL_SCALE)
    sources = (Source(flux=flux, halo=HALO), second)
    operator = OptimalExtractor(
        position=(13.0, 13.0 + apart), profile=TrueProfile(PSF(), HALO) if given else None
    )

    def look(result: OptimalResult) -> tuple[float, float]:
        columns = result.extractions[1].columns
        known = np.isfinite(columns["FLUX"])
        weight = known / np.median(columns["FLUX_ERROR"][known]) ** 2
        some = slice(20, 340)  # the ends are noisy
        mean = np.average(columns["FLUX"][known][some], weights=weight[known][some])
        distance = np.nanmean(result.traces[1] - result.traces[0])
        return mean / (0.6 * flux) - 1.0, float(distance - apart)

    found = study(
        [scene(seed, flux, sources=sources) for seed in range(seeds)],
        PRODUCTS[product][0], operator, order=None, separations=(apart,), flux_ratios=(0.6,),
        inspect=look,
    )  # fmt: skip
    other, distance = np.array(found.inspected).T
    assert np.abs(distance).max() < (0.05 if ratio < 50 else 0.01)
    return found, float(other.mean()), float(other.std() / np.sqrt(seeds - 1))


@pytest.mark.slow
@pytest.mark.parametrize("apart", [2.0, 3.0, 4.0, 6.0])
@pytest.mark.parametrize("given", [False, True])
def test_blends(apart: float, given: bool) -> None:
    """The profile may be fitted to the blend itself if the sources are bright."""
    found, other, error = blends(100.0, apart, 8, given)
    check(found)
    if given:
        assert found.position < 1.6  # of 8 scenes: 1.2 +- 0.3
    # A fitted profile is uncertain for sources that are 2 columns apart.
    least = 0.008 if apart < 3.0 and not given else 0.003
    assert abs(other) < max(least, 3.0 * error)


@pytest.mark.slow
@pytest.mark.parametrize(("apart", "given"), [(2.0, True), (2.0, False), (3.0, False)])
def test_faint_blends(apart: float, given: bool) -> None:
    """The S/N of a row is 10, too low for measuring the curvature of the trace."""
    found, other, error = blends(10.0, apart, 24, given)
    assert abs(found.bias) < max(0.003, 2.5 * found.bias_error)
    assert 0.95 < found.spread < 1.05
    assert found.efficiency > 0.96  # 0.98, less the statistical uncertainty
    assert abs(other) < max(0.003, 3.0 * error)


def test_a_profile_learned_from_a_star_serves_a_blend() -> None:
    star = OptimalExtractor().fit(scene(50, 3e-3).s2d(1).image)
    second = Source(flux=6e-4, halo=0.05, position=2.2 * PIXEL_SCALE)
    blend = scene(1, 1e-3, sources=(Source(flux=1e-3, halo=0.05), second)).s2d(1)
    operator = OptimalExtractor(position=(13.0, 15.2), profile=star.profile)
    flux = operator.run(blend.image).columns["FLUX"]
    assert np.nanmedian(flux) == pytest.approx(1e-3, rel=3e-3)
    with pytest.warns(LRSWarning, match="2.2 columns apart, too close"):
        OptimalExtractor(position=(13.0, 15.2)).fit(blend.image)


def test_the_position_is_right_from_the_start() -> None:
    """A profile with a fixed position is centred; in the pipeline it is half a column off."""
    made = scene(1, 3e-3, pointing_error=0.0)
    simulated = made.s2d(1)
    column = float(np.nanmean(simulated.truth.column))
    psf = PSFProfile.sampled(TrueProfile(made.psf, 0.05), np.linspace(2.5, 14.5, 80), subpix=20)
    fixed = OptimalExtractor(profile=psf, position=column, fit_position=False)
    ratio = fixed.run(simulated.image).columns["FLUX"] / 3e-3
    assert np.nanmedian(ratio) == pytest.approx(1.0, abs=1e-3)
    fitted = OptimalExtractor(profile=psf).fit(simulated.image)
    assert np.nanmean(fitted.traces[0]) == pytest.approx(column, abs=3e-3)


@pytest.mark.slow
def test_the_brightest_is_not_always_the_target() -> None:
    """The header position selects the target, although another star is brighter."""
    other = Source(flux=5e-3, halo=0.05, position=8 * PIXEL_SCALE)
    simulated = scene(1, 1e-3, sources=(Source(flux=1e-3, halo=0.05), other)).s2d(1)
    result = OptimalExtractor().fit(simulated.image)
    assert np.nanmean(result.traces[0]) == pytest.approx(13.2, abs=0.2)
    lost = replace(simulated.image, source_ra=None)
    assert np.nanmean(OptimalExtractor().fit(lost).traces[0]) == pytest.approx(21.2, abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("apart", [-11.0, 6.0, 9.0])
@pytest.mark.parametrize("subtract_nod", [False, True])
def test_a_brighter_neighbour_is_fitted_as_well(apart: float, subtract_nod: bool) -> None:
    """The neighbour contaminates the target and is fitted, although it was not requested."""
    other = Source(flux=2e-3, halo=HALO, position=apart * PIXEL_SCALE)
    made = scene(1, 5e-4, sources=(Source(flux=5e-4, halo=HALO), other))
    simulated = made.s2d(2 if apart < 0 else 1, subtract_nod=subtract_nod)
    column = float(np.nanmean(simulated.truth.column))
    result = OptimalExtractor(position=column).fit(simulated.image)
    (extraction,) = result.extractions
    assert np.nanmean(result.traces[0]) == pytest.approx(column, abs=0.02)
    assert np.nanmean(result.traces[1]) == pytest.approx(column + apart, abs=0.02)
    ratio = extraction.columns["FLUX"] / 5e-4
    weight = 1.0 / np.nan_to_num(extraction.columns["FLUX_ERROR"], nan=np.inf) ** 2
    assert np.nansum(ratio * weight) / weight.sum() == pytest.approx(1.0, abs=0.003)
    # No neighbour is found next to a single source, even if it is bright.
    alone = scene(1, 2e-2, sources=(Source(flux=2e-2, halo=0.2),)).s2d(1, subtract_nod=False)
    assert len(OptimalExtractor().fit(alone.image).traces) == 1


def test_header_and_data_that_disagree_are_told() -> None:
    simulated = scene(1, 1e-3, pointing_error=0.25).s2d(1)
    extraction = OptimalExtractor().run(simulated.image)  # which issues no warning: an info
    (off,) = [one for one in extraction.findings if one.kind == "header_off"]
    assert re.search(r"found at column 15\.3., .2\.2. from the header position", off.text)
    flux = extraction.columns["FLUX"]
    assert np.nanmedian(flux) == pytest.approx(1e-3, rel=3e-3)
    faint = scene(1, 1e-7).s2d(1)
    with pytest.warns(LRSWarning, match="no source was found"):
        OptimalExtractor(profile=GaussianProfile()).run(faint.image)
    with pytest.raises(ProductError, match="no source was found"):
        OptimalExtractor().run(replace(faint.image, source_ra=None))


# --- stacks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["calints", "slit_calints"])
@pytest.mark.parametrize("flux", [3e-4, 5e-3])
def test_stacks(kind: str, flux: float) -> None:
    """The fluxes of a time series with a curved trace, and the light curve, are correct."""
    number = 24
    factors = 1.0 + 0.01 * np.sin(np.arange(number))
    made = scene(3, flux, flat_error=1e-4, exposure_time=60.0)
    found = study(
        [made],
        lambda s: getattr(s, kind)(number, factors=factors),
        OptimalExtractor(),
        order=0,
        factor=factors,
        inspect=lambda result: result,
    )
    assert abs(found.bias) < 0.003
    assert 0.95 < found.spread < 1.05
    assert found.efficiency > 0.98 - 2.5 / np.sqrt(2.0 * found.pulls.size)
    (result,) = found.inspected
    flux_of = result.extractions[0].columns["FLUX"]
    assert flux_of.shape[0] == number
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        curve = np.nanmedian(flux_of / np.nanmedian(flux_of, axis=0), axis=1)
    np.testing.assert_allclose(curve / curve.mean(), factors / factors.mean(), atol=3e-3)
    assert result.shifts is not None
    assert np.abs(result.shifts).max() < 0.01  # the scene has no shifts


def jittered(shifts: NDArray[Any], flux: float) -> tuple[SlitImage, Simulated]:
    """Return a stack of integrations with slightly different pointings."""
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
    result = OptimalExtractor().fit(image)
    assert result.shifts is not None
    found = result.shifts - result.shifts.mean()
    np.testing.assert_allclose(found, shifts - shifts.mean(), atol=2e-3)
    extraction = result.extractions[0]
    ratio = extraction.columns["FLUX"] / simulated.truth.flux[rows_of(extraction)]
    weight = 1.0 / extraction.columns["FLUX_ERROR"] ** 2
    known = np.isfinite(ratio)
    white = np.where(known, ratio * weight, 0).sum(1) / np.where(known, weight, 0).sum(1)
    with pytest.warns(LRSWarning, match="of the pixels on the source were rejected"):
        stiff = OptimalExtractor(fit_shift=False).run(image).columns["FLUX"]
    ratio = stiff / simulated.truth.flux[rows_of(extraction)]
    fixed = np.where(known, ratio * weight, 0).sum(1) / np.where(known, weight, 0).sum(1)
    assert white.std() < 4e-4
    assert fixed.std() > 2 * white.std()


def test_cosmic_rays_in_stacks() -> None:
    made = scene(4, 1e-3, flat_error=1e-4, exposure_time=60.0)
    found = study(
        [made],
        lambda s: s.calints(8),
        OptimalExtractor(),
        order=0,
        cosmic_rays=True,
        factor=np.ones(8),
        inspect=lambda result: result,
    )
    assert abs(found.bias) < 0.003
    assert 0.95 < found.spread < 1.05
    assert found.rejected > 1000
    (result,) = found.inspected
    assert len(result.rejected) == 3
    assert set(result.rejected[0].tolist()) == set(range(8))


def stack(factors: list[float]) -> Simulated:
    made = scene(4, 1e-3, flat_error=1e-4, bad_fraction=0.0)
    return made.calints(len(factors), factors=np.array(factors))


@pytest.mark.parametrize("factors", [[1.0, 0.6] * 4, [1.0, 0.5, 0.0, 1.0, 1.2], [1.0, 2.0]])
def test_integrations_of_different_brightness(factors: list[float]) -> None:
    """The core of the source is not rejected in integrations in which the source is fainter."""
    simulated = stack(factors)
    result = OptimalExtractor().fit(simulated.image)
    columns = result.extractions[0].columns
    true = np.outer(factors, simulated.truth.flux[rows_of(result.extractions[0])])
    weight = columns["FLUX_ERROR"] ** -2
    bias = np.nansum(weight * (columns["FLUX"] - true)) / np.nansum(weight * true)
    assert abs(bias) < 1e-3
    assert result.number_rejected < 20


@pytest.mark.parametrize(("number", "some"), [(4, [3]), (8, [3, 6]), (30, [1, 2])])
def test_stacks_of_which_little_is_left(number: int, some: list[int]) -> None:
    simulated = stack([1.0] * number)
    dq = simulated.image.dq.copy()  # type: ignore[union-attr]
    dq[[i for i in range(number) if i not in some]] |= 1
    extraction = OptimalExtractor().run(replace(simulated.image, dq=dq))
    flux = extraction.columns["FLUX"]
    assert np.isfinite(flux).any(axis=1).nonzero()[0].tolist() == some
    ratio = flux[some] / simulated.truth.flux[rows_of(extraction)]
    assert np.nanmedian(ratio) == pytest.approx(1.0, abs=2e-3)


def test_an_integration_that_was_moved_does_not_spoil_the_others() -> None:
    simulated = stack([1.0] * 6)
    data = simulated.image.data.copy()
    data[2] = np.roll(data[2], 2, axis=-1)
    told = "1 of 6 integrations is 0.5 columns or more off the mean"
    with pytest.warns(LRSWarning, match=told), pytest.warns(LRSWarning, match="were rejected"):
        result = OptimalExtractor().fit(replace(simulated.image, data=data))
    flux = (
        result.extractions[0].columns["FLUX"] / simulated.truth.flux[rows_of(result.extractions[0])]
    )
    assert np.nanmedian(np.delete(flux, 2, axis=0), axis=1) == pytest.approx(1.0, abs=2e-3)
    assert np.nanmedian(flux[2]) < 0.5


def test_light_off_the_image_is_told() -> None:
    image = scene(5, 1e-3, pointing_error=-1.4).s2d(1, subtract_nod=False).image
    told = r"3\d% of the source's flux is off the image and was extrapolated"
    with pytest.warns(LRSWarning, match=told):
        OptimalExtractor().fit(image)
    given = OptimalExtractor(profile=TrueProfile(PSF(), HALO))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        extraction = given.run(image)
    assert not any("off the image" in str(one.message) for one in caught)
    (off,) = [one for one in extraction.findings if one.kind == "header_off"]
    assert off.severity == "info"
    assert off.values["offset"] == pytest.approx(-1.4 / 0.11, abs=0.5)
    assert np.nanmedian(extraction.columns["FLUX"]) == pytest.approx(1e-3, rel=5e-3)


def test_a_source_subtracted_with_the_other_nod_is_told() -> None:
    sources = (Source(flux=1e-3), Source(flux=7e-4, position=-1.97))
    image = Scene(sources=sources, seed=7).s2d(1).image
    told = r"negative trace at column 30\.9\d has 3\.\d times the source's flux"
    with pytest.warns(LRSWarning, match=told):
        OptimalExtractor().fit(image)


@pytest.mark.parametrize("how", ["few", "wild"])
def test_what_no_profile_can_be_learned_from(how: str) -> None:
    fraction = 0.9 if how == "few" else 0.0
    image = Scene(sources=(Source(flux=1e-4),), bad_fraction=fraction, seed=1).s2d(1).image
    if how == "wild":
        data = image.data.copy()
        data[np.random.default_rng(1).random(data.shape) < 0.3] = 1e25
        image = replace(image, data=data)
    with pytest.raises(LRSError, match="no profile can be fitted, expected more good pixels"):
        OptimalExtractor().run(image)


def test_errors_of_the_profile_have_the_rows_of_the_spectrum() -> None:
    image = scene(2, 1e-3).s2d(1).image
    wavelength = image.wavelength.copy()
    wavelength[150:160] = np.nan
    result = OptimalExtractor().fit(replace(image, wavelength=wavelength))
    covariance = result.profile_covariance()
    assert covariance is not None
    assert covariance.shape == 2 * result.extractions[0].columns["FLUX"].shape


def test_a_profile_ends_with_the_image() -> None:
    image = scene(2, 1e-3).s2d(1).image
    profile = OptimalExtractor(reach=1000).fit(image).profile
    assert isinstance(profile, EmpiricalProfile)
    assert profile.reach == image.shape[1]


def test_a_stack_of_one_is_an_image() -> None:
    image = scene(1, 1e-3).slit_calints(1).image
    single = replace(
        image,
        times=None,
        **{name: getattr(image, name)[0] for name in PLANES},
    )
    stack, plain = OptimalExtractor().run(image), OptimalExtractor().run(single)
    for name in COLUMNS:
        np.testing.assert_array_equal(stack.columns[name][0], plain.columns[name])


# --- bad-pixel correction of a box ----------------------------------------------------------------

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
        mended = replace(box, bad_pixels="profile").run(simulated.image)
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
            c["SURF_BRIGHT"][lost] * whole[lost] * JY_PER_PIXEL, c["FLUX"][lost], rtol=1e-9
        )
        assert any("restored from the profile" in one.text for one in mended.findings)
    pull, ratio = np.concatenate(pulls), np.concatenate(ratios)
    assert np.median(np.concatenate(plain)) < 0.97
    assert pull.std() == pytest.approx(1.0, abs=0.12)
    assert abs(pull.mean()) < 0.2
    weight = 1.0 / np.maximum(np.abs((ratio - 1.0) / pull), 1e-9) ** 2
    error = 1.0 / np.sqrt(weight.sum())
    assert abs(np.average(ratio, weights=weight) - 1.0) < 4.0 * error + 5e-4


def test_a_nan_at_the_peak_and_the_aperture_correction() -> None:
    """The corrected row has the flux and the aperture correction of the whole aperture."""
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
    mended = replace(box, bad_pixels="profile").run(image).columns
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
        mended = replace(box, bad_pixels="profile").run(replace(simulated.image, data=data))
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
        OptimalExtractor(**parameters)


def test_parameters_are_ready_for_json() -> None:
    import json

    operator = OptimalExtractor(position=13.0, profile=GaussianProfile(), bkg_order=1)
    told = json.loads(json.dumps(operator.parameters))
    assert told["step"] == {"extraction_type": "optimal"}
    assert told["options"]["position"] == [13.0]
    assert told["options"]["profile"] == "GaussianProfile"


def test_the_spectrum_goes_the_usual_way() -> None:
    image = scene(1, 1e-3).s2d(1).image
    before = image.data.copy()
    spectrum = OptimalExtractor()(image)
    assert spectrum.flux.unit == "Jy"
    assert (np.diff(spectrum.spectral_axis.value) > 0).all()
    assert set(spectrum.meta["extraction"].columns) == {*COLUMNS, "QUALITY"}
    np.testing.assert_array_equal(image.data, before)
    again = OptimalExtractor().run(image.to_spectrum())
    np.testing.assert_array_equal(
        again.columns["FLUX"], spectrum.meta["extraction"].columns["FLUX"]
    )


def test_background_of_a_line() -> None:
    made = scene(1, 1e-4, background=40.0, background_slope=0.05, bad_fraction=0.0)
    simulated = made.s2d(1, subtract_nod=False)
    profile = TrueProfile(PSF(), HALO)  # a learned one is not that sure where its wings end
    extraction = OptimalExtractor(profile=profile, bkg_order=1).run(simulated.image)
    rows, c = rows_of(extraction), extraction.columns
    true = (
        simulated.truth.background[rows, 13] + 0.24 * np.diff(simulated.truth.background)[rows, 13]
    )
    pull = (c["BACKGROUND"] - true) / c["BKGD_ERROR"]
    assert np.nanstd(pull) == pytest.approx(1.0, abs=0.12)
    assert abs(np.nanmean(pull)) < 0.2
    assert np.nanmedian(c["FLUX"]) == pytest.approx(1e-4, rel=4e-3)


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("product", PRODUCTS)
def test_backgrounds_of_a_higher_order(product: str, order: int) -> None:
    """The polynomial partly follows the wings of the source, but the bias is below 0.7%."""
    changes = changes_of(100.0, product)
    flux = flux_of(100.0, product, **changes)
    made = [scene(seed, flux, **changes) for seed in range(2)]
    found = study(made, PRODUCTS[product][0], OptimalExtractor(bkg_order=order), order=order)
    assert abs(found.bias) < 0.007
    assert found.spread < 1.25


@pytest.mark.parametrize(("width", "most"), [(45, 0.003), (33, 0.003), (27, 0.01)])
def test_backgrounds_of_narrow_images(width: int, most: float) -> None:
    """The wings of the source reach both edges, so that few pixels constrain the background."""
    made = [scene(seed, 1e-3, nod_throw=0.02) for seed in range(2)]
    found = study(
        made,
        lambda s: s.s2d(1, subtract_nod=False, shape=(387, width), column=(width - 1) / 2),
        OptimalExtractor(),
        order=0,
    )
    assert abs(found.bias) < most


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
        OptimalExtractor().run(image)


def test_without_variances_all_pixels_weigh_the_same() -> None:
    simulated = scene(1, 1e-3).s2d(1)
    bare = replace(simulated.image, err=None, var_poisson=None, var_rnoise=None, var_flat=None)
    with pytest.warns(LRSWarning, match="no variances"):
        columns = OptimalExtractor(threshold=None).run(bare).columns
    assert np.nanmedian(columns["FLUX"]) == pytest.approx(1e-3, rel=2e-3)
    assert not np.nan_to_num(columns["FLUX_ERROR"]).any()


def test_a_rejected_pixel_where_none_is_bad() -> None:
    """An outlier is rejected in an image without other bad pixels."""
    image = scene(7, 2e-3, bad_fraction=0.0).s2d(1, edges=False).image
    data = image.data.copy()
    data[150, 13] += 300.0
    result = OptimalExtractor().fit(replace(image, data=data))
    assert (150, 13) in set(zip(*(axis.tolist() for axis in result.rejected), strict=True))
