"""Combination of spectra: arithmetic, errors and warnings, simulated truth."""

from __future__ import annotations

import copy
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from specutils import Spectrum, SpectrumList
from specutils.analysis import line_flux

from glue_lrs import Aperture, Extract1D
from glue_lrs.combination import combination
from glue_lrs.combination.combination import COLUMNS, Combination
from glue_lrs.combination.combine import WEIGHTS, combine
from glue_lrs.combination.pipeline import grid_position
from glue_lrs.errors import LRSError, LRSWarning
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.plotting import plot_comparison
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source, Supernova
from glue_lrs.simulation.truth import Simulated
from glue_lrs.spectra.extraction import Extraction
from tests.helpers.spectra import SIZE, WAVE, lose, nods, spectrum, stack

# --- the mean -------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("bad", [(), (0, 7, 8, SIZE - 1)])
def test_one_spectrum_stays_as_it_is(weights: str, bad: tuple[int, ...]) -> None:
    one = lose(spectrum(), list(bad)) if bad else spectrum()
    made = combine([one], weights=weights)
    pairs = {"FLUX": "FLUX", "ERROR": "FLUX_ERROR"}
    pairs |= {name: name for name in ("WAVELENGTH", "SURF_BRIGHT", "SB_ERROR", "DQ")}
    for name, source in pairs.items():
        np.testing.assert_allclose(
            made.columns[name], one.columns[source][::-1], rtol=1e-14, err_msg=name
        )
    np.testing.assert_array_equal(made.wavelength, WAVE[::-1])
    np.testing.assert_array_equal(made.mask, one.mask[::-1])
    np.testing.assert_array_equal(made.columns["N_INPUT"], 1.0 - one.mask[::-1])


@pytest.mark.parametrize(
    ("weights", "each"),
    [("unit", [1, 1, 1]), ("exposure_time", [100, 300, 200]), ("integration_time", [25, 75, 50])],
)
def test_the_weighted_mean_and_its_error(weights: str, each: list[float]) -> None:
    times = (100.0, 300.0, 200.0)
    given = [spectrum(seed=k, error=0.1 * (k + 1), time=t) for k, t in enumerate(times)]
    given[1] = lose(given[1], 5)
    given[2] = lose(given[2], [5, 6], by="dq")
    made = combine(given, weights=weights)
    for row in range(SIZE):
        used = [k for k in range(3) if not given[k].mask[row]]
        w = np.array([each[k] for k in used], dtype=float)
        out = {name: values[SIZE - 1 - row] for name, values in made.columns.items()}
        f = np.array([given[k].columns["FLUX"][row] for k in used])
        e = np.array([given[k].columns["FLUX_ERROR"][row] for k in used])
        assert out["FLUX"] == pytest.approx((w * f).sum() / w.sum(), rel=1e-13)
        assert out["ERROR"] == pytest.approx(np.sqrt((w**2 * e**2).sum()) / w.sum(), rel=1e-13)
        assert out["SURF_BRIGHT"] == pytest.approx(10 * out["FLUX"], rel=1e-13)
        assert out["SB_ERROR"] == pytest.approx(10 * out["ERROR"], rel=1e-13)
        assert out["WEIGHT"] == pytest.approx(w.sum(), rel=1e-13)
        assert out["N_INPUT"] == len(used)
    np.testing.assert_array_equal(made.wavelength, WAVE[::-1])
    assert made.units["WEIGHT" if weights != "unit" else "FLUX"] in ("s", "Jy")
    assert [one.rows_used for one in made.inputs] == [SIZE, SIZE - 1, SIZE - 2]


def test_an_element_without_a_usable_input_is_nan() -> None:
    given = [lose(spectrum(seed=k), [4], by="dq" if k else "nan") for k in range(3)]
    given[0].columns["DQ"][4] |= 8
    made = combine(given)
    row = SIZE - 1 - 4
    assert made.columns["WAVELENGTH"][row] == WAVE[4]
    for name in ("FLUX", "ERROR", "SURF_BRIGHT", "SB_ERROR"):
        assert np.isnan(made.columns[name][row])
        assert np.isfinite(np.delete(made.columns[name], row)).all()
    assert (made.columns["DQ"][row], made.columns["N_INPUT"][row]) == (9, 0)
    assert made.columns["WEIGHT"][row] == 0
    # The pipeline removes it.
    with pytest.warns(
        LRSWarning, match=f"1 of {SIZE} wavelength bins have no input and are removed"
    ):
        assert combine(given, mode="pipeline").wavelength.size == SIZE - 1


def test_flags_of_used_elements_are_kept() -> None:
    given = [spectrum(seed=k) for k in range(2)]
    given[0].columns["DQ"][3], given[1].columns["DQ"][3] = 4, 16
    given[0] = lose(given[0], 8)
    given[0].columns["DQ"][8] = 1 | 32
    made = combine(given).columns["DQ"][::-1]
    assert made[3] == 20
    assert made[8] == 0  # only the flags of used inputs count


def test_an_unknown_error_does_not_count_as_0() -> None:
    given = [spectrum(seed=k) for k in range(2)]
    given[0].columns["FLUX_ERROR"][3] = np.nan
    given[0].columns["SURF_BRIGHT"][5] = np.nan
    made = combine(given)
    row = SIZE - 1 - 3
    assert np.isfinite(made.columns["FLUX"][row])
    assert np.isnan(made.columns["ERROR"][row])
    # A missing surface brightness has no weight.
    other = given[1].columns["SURF_BRIGHT"][5]
    assert made.columns["SURF_BRIGHT"][SIZE - 1 - 5] == pytest.approx(other)
    pipeline = combine(given, mode="pipeline")
    assert pipeline.columns["ERROR"][row] == pytest.approx(0.05)  # as if the other had none
    assert pipeline.columns["SURF_BRIGHT"][SIZE - 1 - 5] == pytest.approx(other / 2)


# --- the grid -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*has the same flux")
@given(
    shifts=st.lists(st.floats(-3.0, 3.0), min_size=1, max_size=4),
    sizes=st.lists(st.integers(20, 90), min_size=4, max_size=4),
    lost=st.lists(st.integers(0, 19), max_size=6),
    weights=st.sampled_from(["unit", "exposure_time", "inverse_variance"]),
    slope=st.floats(-1.0, 1.0),
)
def test_a_straight_line_is_kept_for_any_grids(
    shifts: list[float], sizes: list[int], lost: list[int], weights: str, slope: float
) -> None:
    """Wavelength and flux have the same weights, so that points on a line stay on the line."""
    step = WAVE[0] - WAVE[1]
    given = []
    for number, shift in enumerate([0.0, *shifts]):
        wave = WAVE + shift * step
        if number and sizes[number - 1] != SIZE:
            wave = np.linspace(wave[0], wave[-1], sizes[number - 1])
        one = spectrum(
            2.0 + slope * wave, error=0.1 + 0.05 * number, wave=wave, time=100.0 + number
        )
        given.append(lose(one, lost) if number == 1 and lost else one)
    made = combine(given, weights=weights)
    assert (np.diff(made.wavelength) > 0).all()
    line = 2.0 + slope * made.wavelength
    used = made.columns["N_INPUT"] > 0
    np.testing.assert_allclose(made.columns["FLUX"][used], line[used], rtol=1e-9, atol=1e-9)
    assert np.isnan(made.columns["FLUX"][~used]).all()
    # No element is lost at the ends, and no input counts twice in an element.
    ends = [one.wavelength[~one.mask] for one in given]
    assert made.columns["N_INPUT"].max() <= len(given)
    assert made.wavelength[0] <= max(wave.min() for wave in ends) + 1e-9
    assert sum(one.rows_used for one in made.inputs) == made.columns["N_INPUT"].sum()


def test_elements_beyond_the_ends_are_not_lost() -> None:
    """The pipeline loses half of the elements at the ends of its grid."""
    step = WAVE[0] - WAVE[1]
    given = [spectrum(seed=k, wave=WAVE + 0.2 * k * step) for k in range(3)]
    made = combine(given)
    assert made.columns["N_INPUT"].tolist() == [3.0] * SIZE
    pipeline = combine(given, mode="pipeline")
    assert pipeline.columns["N_INPUT"].sum() < 3 * SIZE


def test_the_mean_of_equal_wavelengths_loses_no_element() -> None:
    """Rounding may shift the outermost element of the pipeline's grid inside its inputs."""
    lost = []
    for number in range(2, 14):
        given = [spectrum(seed=k) for k in range(number)]
        made = combine(given)
        np.testing.assert_array_equal(made.wavelength, WAVE[::-1])
        assert (made.columns["N_INPUT"] == number).all()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LRSWarning)
            lost.append(SIZE - combine(given, mode="pipeline").wavelength.size)
    assert max(lost) == 1


def test_several_elements_in_one_place_are_averaged() -> None:
    coarse = spectrum(1.0, wave=np.arange(5.0, 65.0))
    fine_wave = np.sort(np.concatenate([np.arange(5.0, 34.0) - 0.2, np.arange(5.0, 34.0) + 0.2]))
    flux = np.tile([2.0, 4.0], 29)
    fine = spectrum(flux, error=0.2, wave=fine_wave)
    made = combine([coarse, fine])
    both = slice(0, 29)
    assert made.columns["N_INPUT"].tolist() == [2.0] * 29 + [1.0] * 31
    np.testing.assert_allclose(made.columns["FLUX"][both], (1.0 + 3.0) / 2)
    error = np.sqrt(0.1**2 + 0.2**2 / 2) / 2
    np.testing.assert_allclose(made.columns["ERROR"][both], error)
    # The pipeline keeps the last one.
    pipeline = combine([replace(coarse), fine], mode="pipeline")
    inside = pipeline.columns["N_INPUT"] > 1
    assert inside.any()
    assert not np.isclose(pipeline.columns["FLUX"][inside], 2.0).all()


def test_ranges_that_do_not_overlap_are_joined() -> None:
    blue = spectrum(1.0, wave=np.arange(5.0, 8.0, 0.1))
    red = spectrum(3.0, wave=np.arange(8.0, 14.0, 0.1)[::-1])
    made = combine([blue, red])
    assert made.wavelength.size == 30 + 60
    np.testing.assert_allclose(made.columns["FLUX"], np.repeat([1.0, 3.0], [30, 60]))
    assert (made.columns["N_INPUT"] == 1).all()


def test_a_gap_in_one_input_is_filled_by_the_other() -> None:
    complete = np.arange(5.0, 14.0, 0.1)
    with_gap = spectrum(
        1.0, wave=np.delete(np.append(complete, [14.0, 14.1, 14.2, 14.3]), [40, 41])
    )
    made = combine([with_gap, spectrum(3.0, wave=complete)])
    assert made.wavelength.size == complete.size + 4
    assert made.columns["FLUX"][[39, 40, 41, 42]].tolist() == [2.0, 3.0, 3.0, 2.0]


# --- clipping -------------------------------------------------------------------------------------


def test_an_outlier_is_clipped_and_counted() -> None:
    given = [spectrum(seed=k) for k in range(4)]
    given[2].columns["FLUX"][10] += 5.0
    given[2].columns["DQ"][10] = 4
    given[0].columns["FLUX"][40] -= 5.0
    made = combine(given, sigma_clip=5.0)
    assert made.clipped is not None
    wrong = np.zeros((4, SIZE), dtype=bool)
    wrong[2, SIZE - 1 - 10] = wrong[0, SIZE - 1 - 40] = True
    np.testing.assert_array_equal(made.clipped, wrong)
    assert [one.rows_clipped for one in made.inputs] == [1, 0, 1, 0]
    assert [one.rows_used for one in made.inputs] == [SIZE - 1, SIZE, SIZE - 1, SIZE]
    without = combine([lose(given[0], 40), given[1], lose(given[2], 10), given[3]])
    for name in COLUMNS:
        np.testing.assert_allclose(made.columns[name], without.columns[name], err_msg=name)
    assert not np.array_equal(combine(given).columns["FLUX"], made.columns["FLUX"])


def test_each_element_is_clipped_by_its_own_error() -> None:
    """The same difference is clipped with a small error, and kept with a large one."""
    given = [spectrum(1.0 + 0.01 * k, error=0.1) for k in range(5)]
    given[1].columns["FLUX"][10] += 1.5
    given[1].columns["FLUX_ERROR"][10] = 1.0
    given[1].columns["FLUX"][20] += 1.0
    made = combine(given, sigma_clip=4.0)
    assert made.clipped is not None
    assert np.argwhere(made.clipped).tolist() == [[1, SIZE - 1 - 20]]


def test_fewer_than_three_are_not_clipped() -> None:
    given = [spectrum(seed=k) for k in range(2)]
    given[0].columns["FLUX"][10] += 50.0
    with pytest.warns(LRSWarning, match="two spectra are not clipped.*at least 3"):
        made = combine(given, sigma_clip=3.0)
    np.testing.assert_array_equal(made.columns["FLUX"], combine(given).columns["FLUX"])
    assert made.clipped is not None
    assert not made.clipped.any()
    with pytest.warns(LRSWarning, match="one spectrum is not clipped"):
        combine(given[:1], sigma_clip=3.0)
    # Nor are elements with only two usable inputs.
    three = [*given, lose(spectrum(seed=9), [10])]
    assert not combine(three, sigma_clip=5.0).clipped.any()  # type: ignore[union-attr]
    # The pipeline clips both of two inputs, and removes the element.
    with pytest.warns(LRSWarning, match="have no input and are removed"):
        assert combine(given, sigma_clip=5.0, mode="pipeline").wavelength.size < SIZE


def test_unequal_exposure_times_are_not_clipped() -> None:
    """The pipeline compares flux times weight."""
    times = (100.0, 300.0, 300.0, 300.0)
    given = [spectrum(seed=k, time=t) for k, t in enumerate(times)]
    assert not combine(given, sigma_clip=5.0).clipped.any()  # type: ignore[union-attr]
    short = combine(given, sigma_clip=5.0, mode="pipeline").inputs[0]
    assert short.rows_clipped > 0.9 * SIZE


def test_a_persistent_difference_is_not_clipped() -> None:
    """Nods of a bright source differ by more than their noise."""
    true = Supernova(level=1.0)(WAVE)
    rng = np.random.default_rng(1)
    given = [
        spectrum(true * f * (1 + 1e-3 * rng.standard_normal(SIZE)), error=1e-3 * true)
        for f in (0.98, 1.0, 1.03)
    ]
    given[0].columns["FLUX"][30] *= 1.5
    made = combine(given, sigma_clip=5.0)
    assert made.clipped is not None
    assert np.argwhere(made.clipped).tolist() == [[0, SIZE - 1 - 30]]


def test_a_background_in_one_input_is_not_clipped() -> None:
    wave = np.linspace(14.0, 5.0, 386)
    true = 20.0 * np.exp(-((wave - 7.0) ** 2))
    rng = np.random.default_rng(2)
    given = [
        spectrum(true + level + 0.02 * rng.standard_normal(386), error=0.02, wave=wave)
        for level in (0.0, 0.1, 0.2)
    ]
    assert not combine(given, sigma_clip=5.0).clipped.any()  # type: ignore[union-attr]


@pytest.mark.parametrize("number", [3, 4, 5, 10])
def test_normal_noise_is_hardly_clipped(number: int) -> None:
    rng = np.random.default_rng(number)
    wave = np.linspace(5.0, 14.0, 4000)
    given = [spectrum(rng.normal(1.0, 0.1, 4000), wave=wave) for _ in range(number)]
    fraction = np.mean(combine(given, sigma_clip=3.0).clipped)  # type: ignore[arg-type]
    assert 2e-4 < fraction < 0.0027  # that of a normal distribution


# --- inverse variances ----------------------------------------------------------------------------


def test_inverse_variance_weights_are_those_of_the_errors() -> None:
    given = [spectrum(seed=1, error=0.1), spectrum(seed=2, error=0.2)]
    made = combine(given, weights="inverse_variance")
    f = [one.columns["FLUX"][::-1] for one in given]
    np.testing.assert_allclose(made.columns["FLUX"], 0.8 * f[0] + 0.2 * f[1])
    np.testing.assert_allclose(made.columns["ERROR"], (1 / 0.1**2 + 1 / 0.2**2) ** -0.5)
    np.testing.assert_allclose(made.columns["WEIGHT"], 1 / 0.1**2 + 1 / 0.2**2)
    assert u.Unit(made.units["WEIGHT"]) == u.Jy**-2


def test_a_jump_of_one_variance_is_kept() -> None:
    """An element with a truncated ramp has little weight, although variances are smoothed."""
    given = [spectrum(seed=1), spectrum(seed=2)]
    given[0].columns["FLUX_ERROR"][20] = 1.0
    # A spectral line raises the variances of both inputs: no jump.
    for one in given:
        one.columns["FLUX_ERROR"][40] = 1.0
    made = combine(given, weights="inverse_variance")
    f = [one.columns["FLUX"][::-1] for one in given]
    cut, line = SIZE - 1 - 20, SIZE - 1 - 40
    assert made.columns["FLUX"][cut] == pytest.approx((f[0][cut] + 100 * f[1][cut]) / 101)
    assert made.columns["FLUX"][line] == pytest.approx((f[0][line] + f[1][line]) / 2)


def test_the_weight_of_an_element_is_independent_of_its_noise() -> None:
    rng = np.random.default_rng(3)
    given = [spectrum(seed=k, error=rng.uniform(0.08, 0.12, SIZE)) for k in (1, 2)]
    row = 20
    given[0].columns["FLUX_ERROR"][row] = 0.081
    before = combine(given, weights="inverse_variance").columns["WEIGHT"][::-1]
    given[0].columns["FLUX_ERROR"][row] = 0.119
    after = combine(given, weights="inverse_variance").columns["WEIGHT"][::-1]
    np.testing.assert_array_equal(after[row - 1 : row + 2], before[row - 1 : row + 2])
    assert not np.array_equal(after, before)  # those of others depend on it


@pytest.mark.slow
@pytest.mark.parametrize(("number", "mean"), [(2, 9), (4, 9), (4, 25), (2, 100)])
def test_poisson_noise_does_not_bias_the_mean(number: int, mean: int) -> None:
    """Poisson noise, S/N 3 to 10; unsmoothed inverse variances bias the mean by up to 9%."""
    rng = np.random.default_rng(number + mean)
    wave = np.linspace(5.0, 14.0, 300_000)
    counts = rng.poisson(mean, (number, wave.size)).astype(float)
    given = [spectrum(one, error=np.sqrt(np.maximum(one, 1.0)), wave=wave) for one in counts]
    flux = combine(given, weights="inverse_variance").columns["FLUX"]
    assert abs(flux.mean() / mean - 1.0) < 0.003
    weight = 1.0 / np.maximum(counts, 1.0)
    naive = (counts * weight).sum(axis=0) / weight.sum(axis=0)
    assert naive.mean() / mean < 1.0 - 0.0045


def test_rows_without_an_error_have_no_inverse_variance() -> None:
    given = [spectrum(seed=1), spectrum(seed=2)]
    given[0].columns["FLUX_ERROR"][20] = 0.0
    given[1].columns["FLUX_ERROR"][20] = np.nan
    given[1].columns["FLUX_ERROR"][25] = np.nan
    made = combine(given, weights="inverse_variance")
    assert made.columns["N_INPUT"][SIZE - 1 - 20] == 0
    assert made.columns["FLUX"][SIZE - 1 - 25] == given[0].columns["FLUX"][25]
    for one in given:
        one.columns["FLUX_ERROR"][:] = np.nan
    with pytest.raises(LRSError, match="no spectrum has an error"):
        combine(given, weights="inverse_variance")
    with pytest.raises(LRSError, match="sigma_clip needs errors"):
        combine([*given, replace(given[0])], sigma_clip=3.0)


# --- simulated truth ------------------------------------------------------------------------------


def box(simulated: Simulated) -> Extraction:
    """Extract the source within 4 pixels of its column, without fractional pixels."""
    column = int(np.rint(np.nanmean(simulated.truth.column)))
    return Extract1D(aperture=Aperture.from_edges(column - 4.5, column + 4.5)).run(simulated.image)


def truth_in_box(simulated: Simulated) -> np.ndarray:
    truth = simulated.truth
    column = int(np.rint(np.nanmean(truth.column)))
    return truth.flux * partial(truth, column - 4.5, column + 4.5)


def partial(truth: Any, lower: float, upper: float) -> np.ndarray:
    """Light between two edges, spread evenly over pixels that an edge divides."""
    first, last = int(np.ceil(lower - 0.5)), int(np.floor(upper + 0.5))
    return (
        truth.enclosed(first + 0.5, last - 0.5)
        + truth.enclosed(first - 0.5, first + 0.5) * (first + 0.5 - lower)
        + truth.enclosed(last - 0.5, last + 0.5) * (upper - last + 0.5)
    )


def pulls_and_bias(
    level: float, weights: str, sets: int, **scene: Any
) -> tuple[np.ndarray, float, float, float]:
    """Pulls, bias, its error, and median S/N of sets of six nods: four long ones, two short."""
    found, sums, signal = [], [], []
    for seed in range(sets):
        made = []
        for part, time in enumerate((1.0, 1.0, 0.3)):
            source = Source(flux=Supernova(level=level), halo=0.0)
            options = {"exposure_time": 332.0} | scene
            options["exposure_time"] *= time
            one = Scene(sources=(source,), seed=7 * seed + part, **options)
            made += [one.s2d(nod=1), one.s2d(nod=2)]
        combined = combine([box(one) for one in made], weights=weights)
        true = np.mean([truth_in_box(one) for one in made], axis=0)[::-1]
        wave = made[0].truth.wavelength[::-1]
        true = np.interp(combined.wavelength, wave, true)
        c = combined.columns
        good = (combined.wavelength > 5.0) & (combined.wavelength < 12.0) & ~combined.mask
        found.append(((c["FLUX"] - true) / c["ERROR"])[good])
        sums.append(c["FLUX"][good].sum() / true[good].sum() - 1.0)
        signal.append(np.median((c["FLUX"] / c["ERROR"])[good]))
    error = float(np.std(sums) / np.sqrt(sets))
    return np.concatenate(found), float(np.mean(sums)), error, float(np.median(signal))


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["exposure_time", "inverse_variance"])
@pytest.mark.parametrize("level", [3e-6, 1.5e-4, 1e-2])
def test_nods_give_the_true_flux_within_their_errors(level: float, weights: str) -> None:
    """Faint (S/N 6), medium and bright (1500), with noise of all three variances."""
    pulls, bias, error, signal = pulls_and_bias(level, weights, 8)
    assert 0.95 < pulls.std() < 1.05
    assert abs(bias) < 0.003 + 3 * error * (signal < 20)
    assert {3e-6: 4, 1.5e-4: 100, 1e-2: 1000}[level] < signal < 3000


@pytest.mark.slow
def test_variances_from_few_photons_do_not_bias_the_flux() -> None:
    """Faint background: the noise is that of the source, as is the variance estimated from it."""
    scene = {"background": 0.002, "read_noise": 0.2, "exposure_time": 4.0}
    pulls, bias, error, signal = pulls_and_bias(2e-5, "inverse_variance", 40, **scene)
    assert signal < 20
    assert error < 0.001
    assert abs(bias) < 0.003
    assert 0.95 < pulls.std() < 1.05
    # Unsmoothed inverse variances bias the flux by more than that.
    low = []
    for seed in range(40):
        source = Source(flux=Supernova(level=2e-5), halo=0.0)
        made = [Scene(sources=(source,), seed=7 * seed, **scene).s2d(nod=nod) for nod in (1, 2)]
        spectra = [box(one) for one in made]
        f = np.array([one.columns["FLUX"] for one in spectra])
        w = 1.0 / np.array([one.columns["FLUX_ERROR"] for one in spectra]) ** 2
        rows = slice(-f.shape[1] - 1, -1) if f.shape[1] < 387 else slice(None)
        true = np.mean([truth_in_box(one) for one in made], axis=0)[rows]
        wave = spectra[0].wavelength
        good = (wave > 5.0) & (wave < 12.0) & np.isfinite(w).all(axis=0)
        mean = (f * w).sum(axis=0) / w.sum(axis=0)
        low.append(mean[good].sum() / true[good].sum() - 1.0)
    assert np.mean(low) < -0.006


@pytest.mark.slow
def test_integrations_share_the_error_of_the_flat_field() -> None:
    found, without = [], []
    for seed in range(10):
        scene = Scene(
            sources=(Source(flux=1e-2, halo=0.0),), flat_error=0.02, seed=seed, exposure_time=30.0,
            background=0.0,
        )  # fmt: skip
        simulated = scene.calints(24)
        column = int(np.rint(np.nanmedian(simulated.truth.column)))
        lower, upper = column - 6.5, column + 6.5
        extraction = Extract1D(aperture=Aperture.from_edges(lower, upper)).run(simulated.image)
        made = combine([extraction])
        known = np.isfinite(simulated.truth.wavelength)
        true = simulated.truth.flux * partial(simulated.truth, lower, upper)
        wave = simulated.truth.wavelength[known]
        true = np.interp(made.wavelength, wave[::-1], true[known][::-1])
        good = (made.wavelength > 5.0) & (made.wavelength < 12.0)
        difference = (made.columns["FLUX"] - true)[good]
        found.append(difference / made.columns["ERROR"][good])
        separate = [
            replace(extraction, columns={k: v[i] for k, v in extraction.columns.items()})
            for i in range(24)
        ]
        with pytest.warns(LRSWarning, match="spectrum 2: is of the same exposure as spectrum 1"):
            apart = combine(separate)
        without.append(difference / apart.columns["ERROR"][good])
    assert 0.95 < np.concatenate(found).std() < 1.05
    assert np.concatenate(without).std() > 1.3  # as if the flat errors were independent


def test_a_nod_pair_in_one_call() -> None:
    images = [one.image for one in nods()]
    extract = Extract1D(aperture=Aperture(xstart=9, xstop=17), use_source_posn=True)
    made = combine(images, extract=extract)
    apart = combine([extract.run(image) for image in images])
    mixed = combine([images[0].to_spectrum(), extract(images[1])], extract=[extract])
    each = combine(images, extract=[extract, extract])
    function = combine(images, extract=lambda image: extract(image))
    for other in (apart, mixed, each, function):
        for name in COLUMNS:
            np.testing.assert_array_equal(made.columns[name], other.columns[name])
    known = nods()[0].truth
    good = (made.wavelength > 5) & (made.wavelength < 12)
    true = np.interp(made.wavelength, known.wavelength[::-1], known.flux[::-1])
    assert np.median(made.columns["FLUX"][good] / true[good]) == pytest.approx(1.0, abs=0.01)
    single = extract.run(images[0])
    ratio = np.nanmedian(single.columns["FLUX_ERROR"][::-1][good] / made.columns["ERROR"][good])
    assert ratio == pytest.approx(np.sqrt(2), rel=0.02)


# --- inputs and outputs ---------------------------------------------------------------------------


def test_all_types_of_input_are_equivalent() -> None:
    given = [lose(spectrum(seed=k), [5 * k]) for k in range(3)]
    expected = combine(given)
    as_spectra = SpectrumList([one.to_spectrum() for one in given])
    for same in (as_spectra, tuple(given), (one for one in given)):
        made = combine(same)
        for name in COLUMNS:
            np.testing.assert_array_equal(made.columns[name], expected.columns[name])
    # A changed spectrum is combined with its current values.
    doubled = [one.to_spectrum() * 2.0 for one in given]
    made = combine(doubled)
    np.testing.assert_allclose(made.columns["FLUX"], 2 * expected.columns["FLUX"])
    np.testing.assert_allclose(made.columns["ERROR"], 2 * expected.columns["ERROR"])
    assert np.isnan(made.columns["SURF_BRIGHT"]).all()
    # A stack is equivalent to its integrations; a single object needs no list.
    integrations = stack(given)
    made = combine(integrations)
    assert len(made.inputs) == 3
    assert [one.integration for one in made.inputs] == [0, 1, 2]
    np.testing.assert_array_equal(made.columns["FLUX"], expected.columns["FLUX"])
    np.testing.assert_array_equal(
        combine(integrations.to_spectrum()).columns["FLUX"], expected.columns["FLUX"]
    )


def test_the_exposure_time_of_an_integration_is_its_own() -> None:
    one, many = (
        spectrum(1.0, time=100.0),
        stack([spectrum(2.0, seed=k, time=400.0) for k in (1, 2)]),
    )
    with pytest.warns(LRSWarning, match="the same flux"):
        made = combine([one, many])
    assert [each.exposure_time for each in made.inputs] == [100.0, 100.0, 100.0]
    np.testing.assert_allclose(made.columns["FLUX"], 5 / 3)
    assert made.header["EFFEXPTM"] == 300.0


def test_the_spectrum_for_specutils() -> None:
    given = [lose(spectrum(seed=k, TARGNAME="SN"), [20]) for k in range(2)]
    made = combine(given, weights="unit")
    found = made.to_spectrum()
    assert isinstance(found, Spectrum)
    assert (np.diff(found.spectral_axis.value) > 0).all()
    assert found.flux.unit == u.Jy
    assert np.flatnonzero(found.mask).tolist() == [SIZE - 1 - 20]
    assert np.isfinite(found.flux).all()
    assert np.isfinite(found.uncertainty.array).all()
    good = ~found.mask
    np.testing.assert_array_equal(found.flux.value[good], made.columns["FLUX"][good])
    np.testing.assert_array_equal(found.uncertainty.array[good], made.columns["ERROR"][good])
    assert np.isfinite(line_flux(found).value)
    assert np.isnan(made.to_spectrum(fill="nan").flux.value[SIZE - 1 - 20])
    bright = made.to_spectrum("SURF_BRIGHT")
    assert bright.flux.unit == u.MJy / u.sr
    np.testing.assert_array_equal(bright.uncertainty.array[good], made.columns["SB_ERROR"][good])
    assert found.meta["header"]["TARGNAME"] == "SN"
    assert found.meta["combination"] is made
    record = found.meta["glue_lrs"]
    chosen = {"weights": "unit", "sigma_clip": None, "mode": "default"}
    kept = {"incomplete": "reject", "scale": False, "allow_opposite": False}
    assert record["parameters"] == chosen | kept
    assert len(record["inputs"]) == 2
    assert record["extractions"][0]["findings"][0]["text"] == "as measured"
    json.dumps(dict(record))
    assert combine(given[:1]).to_spectrum(fill="nan").meta["column"] == "FLUX"
    assert copy.deepcopy(found).meta["combination"] is made
    assert combine([spectrum()]).to_spectrum().mask is None
    with pytest.raises(LRSError, match="column: found 'ERROR'"):
        made.to_spectrum("ERROR")  # type: ignore[arg-type]


def test_table_and_repr() -> None:
    made = combine([spectrum(seed=k) for k in range(2)])
    assert made.table.colnames == list(COLUMNS)
    assert made.table["FLUX"].unit == u.Jy
    assert made.table["WEIGHT"].unit == u.s
    assert repr(made).startswith("<Combination of 2 spectra, MIR_LRS-FIXEDSLIT\n")
    assert f"\n  {SIZE} wavelengths, 4.29 to 15.97 um\n" in repr(made)
    assert repr(made.provenance) == "<Provenance of a combination>"
    assert made.keywords == {"SRCTYPE": "POINT", "SPORDER": 1}
    extraction = made.to_extraction()
    np.testing.assert_array_equal(extraction.columns["FLUX_ERROR"], made.columns["ERROR"])
    np.testing.assert_array_equal(extraction.wavelength, made.wavelength)
    assert extraction.units == {k: v for k, v in extraction.units.items() if k in made.units} | {
        "FLUX_ERROR": "Jy"
    }
    assert extraction.keywords["SRCTYPE"] == "POINT"
    assert list(plot_comparison({"both": made.to_extraction()}, figure=Figure)) == ["spectra"]


def test_inputs_are_recorded_and_checksums_computed_on_access(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    for number in range(2):
        path = tmp_path / f"nod{number}_x1d.fits"
        spectrum(seed=number).write(path)
        given.append(Extraction.read(path))
    looked: list[str] = []
    real = combination.file_record
    monkeypatch.setattr(combination, "file_record", lambda path: looked.append(path) or real(path))
    made = combine(given)
    made.to_spectrum()
    assert not looked
    assert [Path(str(one.filename)).name for one in made.inputs] == [
        "nod0_x1d.fits",
        "nod1_x1d.fits",
    ]
    assert all(len(str(one.sha256)) == 64 for one in made.inputs)
    assert made.inputs[0].label == "spectrum 1 (nod0_x1d.fits)"
    assert made.inputs[0].exposure_time == 332.0
    assert len(looked) == 2
    # The file of an extracted image is that of the image.
    image = nods()[0].image
    image.write(tmp_path / "a_s2d.fits")
    read = SlitImage.read(tmp_path / "a_s2d.fits")
    extract = Extract1D(aperture=Aperture(xstart=9, xstop=17))
    assert combine([read], extract=extract).inputs[0].filename == str(tmp_path / "a_s2d.fits")
    assert combine([image], extract=extract).inputs[0].filename is None


@pytest.mark.filterwarnings("ignore:.*have no input and are removed")
def test_inputs_are_not_changed() -> None:
    given = [lose(spectrum(seed=k), [k]) for k in range(4)]
    before = [
        {name: values.copy() for name, values in one.columns.items()} | {"h": one.header.copy()}
        for one in given
    ]
    for mode in ("default", "pipeline"):
        combine(given, sigma_clip=2.0, mode=mode)
    for one, kept in zip(given, before, strict=True):
        assert one.header == kept.pop("h")
        for name, values in kept.items():
            np.testing.assert_array_equal(one.columns[name], values)


# --- errors and warnings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([], {}, "spectra is empty"),
        (3, {}, "spectra is a int, expected a sequence"),
        ([spectrum(), 3], {}, "spectrum 2: is a int, expected a Spectrum"),
        (
            [spectrum(), spectrum(seed=1, calibrated=False)],
            {},
            r"spectrum 2: FLUX is in DN/s, expected Jy as in spectrum 1",
        ),
        (
            [spectrum(), spectrum(seed=1, EXP_TYPE="MIR_LRS-SLITLESS")],
            {},
            "spectrum 2: EXP_TYPE is MIR_LRS-SLITLESS, expected MIR_LRS-FIXEDSLIT as in spectrum 1",
        ),
        ([spectrum()], {"weights": "exposure"}, "weights: found 'exposure'.*did you mean"),
        ([spectrum()], {"mode": "jwst"}, "mode: found 'jwst'"),
        ([spectrum()], {"sigma_clip": 0}, "sigma_clip is 0, expected a number above 0"),
        ([spectrum()], {"sigma_clip": np.nan}, "sigma_clip is nan"),
        ([spectrum()], {"sigma_clip": True}, "sigma_clip is true"),
        ([spectrum()], {"sigma_clip": "3"}, "sigma_clip is '3'"),
        (
            [spectrum()],
            {"mode": "pipeline", "weights": "inverse_variance"},
            "which the pipeline does not have",
        ),
        ([spectrum(EFFEXPTM=0.0)], {}, r"spectrum 1: EFFEXPTM is 0.0, expected seconds"),
        ([spectrum(wave=np.array([5.0]))], {}, "no spectrum has more than one wavelength"),
        (
            [spectrum(wave=np.array([5.0]))],
            {"mode": "pipeline"},
            "no spectrum has more than one wavelength",
        ),
        ([combine([spectrum()])], {}, "spectrum 1: is a combination already"),
        ([combine([spectrum()]).to_spectrum()], {}, "spectrum 1: is a combination already"),
        ([nods()[0].image], {}, "extract is None, expected an Extract1D"),
        ([nods()[0].image], {"extract": [None, None]}, "extract has 2 operators, expected one"),
        ([nods()[0].image], {"extract": 3}, "extract is a int, expected an Extract1D"),
    ],
)
def test_invalid_arguments(given: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LRSError, match=message) as caught:
        combine(given, **options)
    assert "\n" not in str(caught.value)


def test_a_missing_time_is_named() -> None:
    one = spectrum()
    del one.header["EFFINTTM"]
    with pytest.raises(LRSError, match=r"EFFINTTM is missing.*weights='unit' needs none"):
        combine([one], weights="integration_time")
    assert combine([one], weights="unit").wavelength.size == SIZE


def test_no_usable_flux_is_an_error() -> None:
    empty = lose(spectrum(), slice(None))
    with pytest.raises(LRSError, match="no spectrum has a usable flux"):
        combine([empty, empty])
    with pytest.raises(LRSError, match="none of the 1 spectra can be used"):
        combine([empty], mode="pipeline")
    with pytest.warns(LRSWarning, match="spectrum 2: has no usable flux"):
        made = combine([spectrum(), empty])
    assert made.inputs[1].rows_used == 0
    assert made.header["EFFEXPTM"] == 332.0


def test_other_targets_and_repeated_spectra_give_a_warning() -> None:
    a, b = spectrum(TARGNAME="SN"), spectrum(seed=1, TARGNAME="GALAXY")
    with pytest.warns(LRSWarning, match="spectrum 2: the target is GALAXY, that of spectrum 1 is"):
        made = combine([a, b])
    assert made.provenance is not None
    assert "GALAXY" in made.findings[0].text
    with pytest.warns(LRSWarning, match="spectrum 2: has the same flux as spectrum 1"):
        combine([a, replace(a)])


def test_the_pipelines_grid_must_rise() -> None:
    with pytest.raises(LRSError, match="the same wavelength twice"):
        grid_position(np.array([1.0, 1.0, 2.0]), np.array([1.5]))


def test_frozen() -> None:
    made = combine([spectrum()])
    assert isinstance(made, Combination)
    with pytest.raises(AttributeError):
        made.units = {}  # type: ignore[misc]


def spectra_of_nods(**options: Any) -> list[Extraction]:
    extract = Extract1D(aperture=Aperture(xstart=9, xstop=17), use_source_posn=True)
    return [extract.run(one.image) for one in nods(**options)]


def without_errors(one: Extraction) -> Extraction:
    columns = dict(one.columns)
    for name in columns:
        if name.startswith("FLUX_") and ("VAR" in name or "ERROR" in name):
            columns[name] = np.zeros_like(columns[name])
    return replace(one, columns=columns)


def test_errors_of_0_give_a_warning() -> None:
    first, second = spectra_of_nods()
    with pytest.warns(LRSWarning, match=r"spectrum 1.* has errors of 0, which are unknown"):
        made = combine([without_errors(first), second])
    assert np.nanmedian(made.columns["ERROR"]) == pytest.approx(
        0.5 * np.nanmedian(second.columns["FLUX_ERROR"]), rel=0.05
    )
    with pytest.warns(LRSWarning, match=r"spectrum 1.*: has no usable error: skipped"):
        made = combine([without_errors(first), second], weights="inverse_variance")
    assert made.columns["N_INPUT"].max() == 1
    third = spectra_of_nods(seed=2)[0]
    with pytest.raises(LRSError, match="sigma_clip needs errors"):
        combine([without_errors(one) for one in (first, second, third)], sigma_clip=3.0)


@pytest.mark.parametrize("mode", ["default", "pipeline"])
def test_a_masked_spectrum_is_an_error(mode: str) -> None:
    masked = []
    for one in spectra_of_nods():
        columns = dict(one.columns)
        columns["DQ"] = np.ones_like(columns["DQ"])
        masked.append(replace(one, columns=columns))
    with pytest.raises(LRSError, match="no spectrum has a usable flux, expected one of the 2"):
        combine(masked, mode=mode)


def test_inputs_that_differ_give_a_warning() -> None:
    images = [one.image for one in nods()]
    box = Extract1D(aperture=Aperture(xstart=9, xstop=17), use_source_posn=True)
    corrected = {"extraction_type": "optimal", "apcorr": Scene().aperture_correction()}
    optimal = Extract1D.from_reference(None, images[0].exp_type, **corrected)
    first, second = (box.run(image) for image in images)
    total = optimal.run(images[1])
    with pytest.warns(LRSWarning, match=r"has no aperture correction, .* has all of the flux"):
        combine([first, total])
    wider = replace(box, aperture=Aperture(xstart=8, xstop=18)).run(images[0])
    with pytest.warns(LRSWarning, match=r"spectrum 3.*: is of the same exposure as spectrum 1"):
        combine([first, second, wider])
    extended = replace(images[1], source_type="EXTENDED")
    with pytest.warns(LRSWarning, match=r"the source is EXTENDED, that of spectrum 1.* is POINT"):
        combine([first, box.run(extended)])
    combine([first, second])  # no warning


def test_segments_are_not_the_same_exposure() -> None:
    image = nods()[0].image
    header = image.header.copy()
    header["EXSEGNUM"] = 2
    later = replace(image, header=header, data=1.001 * image.data)
    extract = Extract1D(aperture=Aperture(xstart=9, xstop=17), use_source_posn=True)
    combine([extract.run(image), extract.run(later)])  # no warning
