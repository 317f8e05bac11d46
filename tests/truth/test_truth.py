"""Simulated scenes are recovered within their errors.

The truth comes from the scene: its flux and the fraction of its point spread function between two
edges. No weight of an extraction is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from glue_lrs import Aperture, Background, Extract1D
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source
from glue_lrs.simulation.truth import Simulated
from glue_lrs.spectra.extraction import Extraction
from tests.helpers.study import rows_of

#: (measured - true) / error of many rows.
Pulls = np.ndarray


def pulls(extraction: Extraction, truth: np.ndarray) -> Pulls:
    """(measured - true) / error of all rows that have a flux and a truth."""
    c = extraction.columns
    complete = extraction.lost_fraction < 1e-9
    pull = (c["FLUX"] - truth) / c["FLUX_ERROR"]
    return pull[complete & np.isfinite(pull)]


def check(values: Pulls, bias: float = 0.1) -> None:
    """Check the standard deviation (0.95 to 1.05), the bias and the tails of pulls."""
    assert values.size > 3000
    assert 0.95 < values.std() < 1.05
    assert abs(values.mean()) < bias
    # Tails of a normal distribution.
    assert np.abs(values).max() < 6.0
    assert np.mean(np.abs(values) < 1.0) == pytest.approx(0.683, abs=0.03)


def scene(seed: int, **changes: Any) -> Scene:
    return Scene(**{"sources": (Source(halo=0.05),), "bad_fraction": 0.002, "seed": seed} | changes)


def nod(seed: int, **changes: Any) -> tuple[Scene, Simulated]:
    made = scene(seed, background=0.0, **changes)
    return made, made.s2d(nod=1, subtract_nod=False)


def test_fixed_limits_with_fractions() -> None:
    found = []
    for seed in range(12):
        _, simulated = nod(seed)
        lower, upper = 8.3, 17.9
        extract = Extract1D(aperture=Aperture.from_edges(lower, upper))
        extraction = extract.run(simulated.image)
        rows = rows_of(extraction)
        truth = simulated.truth
        light = partial_light(truth, lower, upper)
        found.append(pulls(extraction, (truth.flux * light)[rows]))
    check(np.concatenate(found))


def partial_light(truth: Any, lower: float, upper: float) -> np.ndarray:
    """Fraction of the light between two edges, spread evenly over pixels that an edge divides."""
    first, last = int(np.ceil(lower - 0.5)), int(np.floor(upper + 0.5))
    inside = truth.enclosed(first + 0.5, last - 0.5)
    left = truth.enclosed(first - 0.5, first + 0.5) * (first + 0.5 - lower)
    right = truth.enclosed(last - 0.5, last + 0.5) * (upper - last + 0.5)
    return inside + left + right


def test_the_aperture_correction_gives_the_total_flux() -> None:
    """The scene's table corrects for the light outside of the aperture, including the halo."""
    found = []
    for seed in range(12):
        made, simulated = nod(seed, pointing_error=0.017)
        column = float(np.nanmean(simulated.truth.column))
        extract = Extract1D(
            aperture=Aperture(xstart=9, xstop=17),
            aperture_correction=made.aperture_correction("FULL", offset=13.0 - column),
        )
        extraction = extract.run(simulated.image)
        found.append(pulls(extraction, simulated.truth.flux[rows_of(extraction)]))
    check(np.concatenate(found))


@pytest.mark.parametrize("order", [0, 1])
def test_a_background_is_subtracted_with_its_error(order: int) -> None:
    found, levels = [], []
    for seed in range(12):
        made = scene(
            seed,
            sources=(Source(halo=0.0),),
            background=40.0,
            background_slope=0.03 if order else 0.0,
        )
        simulated = made.s2d(nod=1, subtract_nod=False)
        extract = Extract1D(
            aperture=Aperture(xstart=8, xstop=18),
            background=Background.from_edges((23.5, 38.5), bkg_order=order)
            if not order
            else Background.from_edges((0.5, 4.5), (24.5, 40.5), bkg_order=order),
        )
        extraction = extract.run(simulated.image)
        rows = rows_of(extraction)
        truth = simulated.truth
        light = truth.enclosed(7.5, 18.5)
        found.append(pulls(extraction, (truth.flux * light)[rows]))
        levels.append(background_pulls(extraction, truth.background[rows, 8:19].mean(axis=1)))
    check(np.concatenate(found))
    check(np.concatenate(levels))


def background_pulls(extraction: Extraction, level: np.ndarray) -> Pulls:
    """(measured - true) / error of the background of all rows that have one."""
    pull = (extraction.columns["BACKGROUND"] - level) / extraction.columns["BKGD_ERROR"]
    return pull[np.isfinite(pull)]


def test_the_median_of_a_background_has_its_error() -> None:
    """The pipeline assumes 1.2 times the error of the mean; 1.253 for many pixels, less for few.

    The factor is for independent normal noise; 15 pixels give 1.21.
    """
    found = []
    for seed in range(12):
        simulated = scene(seed, sources=(Source(halo=0.0),), background=40.0).s2d(
            nod=1, subtract_nod=False
        )
        background = Background.from_edges((23.5, 38.5), bkg_fit="median")
        extract = Extract1D(aperture=Aperture(xstart=8, xstop=18), background=background)
        extraction = extract.run(simulated.image)
        level = simulated.truth.background[rows_of(extraction), 8:19].mean(axis=1)
        found.append(background_pulls(extraction, level))
    check(np.concatenate(found))


def test_each_variance_of_the_background_is_that_of_its_noise() -> None:
    """Mean of 15 pixels: the sum of the true variances over 15 squared."""
    made = scene(2, sources=(Source(halo=0.0),), background=40.0, bad_fraction=0.0)
    simulated = made.s2d(nod=1, subtract_nod=False)
    background = Background.from_edges((23.5, 38.5), bkg_fit="mean")
    extract = Extract1D(aperture=Aperture(xstart=8, xstop=18), background=background)
    columns = extract.run(simulated.image).columns
    for name in ("poisson", "rnoise", "flat"):
        truth = getattr(simulated.truth, f"var_{name}")[:, 24:39].sum(axis=1) / 15**2
        ratio = columns[f"BKGD_VAR_{name.upper()}"][1:-1] / truth[1:-1]
        assert np.median(ratio) == pytest.approx(1.0, abs=0.02)


def test_the_curved_trace_of_an_unresampled_image() -> None:
    """The aperture follows the trace, which is curved by 1.9 columns."""
    found = []
    for seed in range(12):
        made = scene(seed, background=0.0)
        simulated = made.cal(nod=2, full_frame=False, subtract_nod=False)
        extract = Extract1D(aperture=Aperture(extract_width=7.0), use_source_posn=True)
        placement = extract.place(simulated.image)
        assert placement.trace is not None
        truth = simulated.truth
        known = np.isfinite(placement.trace)
        assert known.sum() == np.isfinite(truth.wavelength).sum()
        np.testing.assert_allclose(placement.trace[known], truth.column[known], atol=2e-4)
        assert np.ptp(truth.column[known]) > 1.5
        extraction = extract.run(simulated.image)
        light = np.array(
            [
                partial_light_row(truth, row, column - 3.5, column + 3.5)
                for row, column in enumerate(placement.trace)
            ]
        )
        found.append(pulls(extraction, (truth.flux * light)[rows_of(extraction)]))
    check(np.concatenate(found))


def partial_light_row(truth: Any, row: int, lower: float, upper: float) -> float:
    return np.nan if np.isnan(lower) else float(partial_light(truth, lower, upper)[row])


def test_a_stack_of_integrations() -> None:
    factors = 1.0 + 0.01 * np.sin(np.arange(30))
    made = scene(3, sources=(Source(flux=5e-3, halo=0.0),), flat_error=1e-4)
    simulated = made.calints(30, factors=factors)
    extract = Extract1D(
        aperture=Aperture(xstart=29, xstop=42),
        background=Background.from_edges((8.5, 22.5), (50.5, 65.5), bkg_fit="mean"),
    )
    extraction = extract.run(simulated.image)
    truth = simulated.truth
    light = truth.enclosed(28.5, 42.5)
    expected = (truth.flux * light)[rows_of(extraction)] * factors[:, np.newaxis]
    check(pulls(extraction, expected))


def test_uncalibrated_data_give_the_count_rate() -> None:
    made = scene(5, background=0.0, bad_fraction=0.0)
    rate = made.s2d(nod=1, subtract_nod=False, calibrated=False)
    extract = Extract1D(aperture=Aperture(xstart=5, xstop=21))
    extraction = extract.run(rate.image)
    rows = rows_of(extraction)
    light = rate.truth.enclosed(4.5, 21.5)
    values = pulls(extraction, (rate.truth.flux * light)[rows])
    assert 0.9 < values.std() < 1.1


def test_each_variance_is_that_of_its_noise() -> None:
    """The three components equal the sums of the true variances."""
    _, simulated = nod(1, bad_fraction=0.0)
    columns = Extract1D(aperture=Aperture(xstart=9, xstop=17)).run(simulated.image).columns
    area = (simulated.image.pixel_area or 0.0) * 1e6
    for name in ("poisson", "rnoise", "flat"):
        truth = getattr(simulated.truth, f"var_{name}")[:, 9:18].sum(axis=1) * area**2
        ratio = columns[f"FLUX_VAR_{name.upper()}"][1:-1] / truth[1:-1]
        assert np.median(ratio) == pytest.approx(1.0, abs=0.02)
