"""Noise of source-free columns, and the variance of the subtracted nods."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from glue_lrs import Aperture, Extract1D, combine
from glue_lrs.errors import LRSError, NoiseError, NoiseWarning, UnusedOptionWarning
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.simulation import LAWS
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source
from glue_lrs.simulation.truth import Simulated
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.uncertainty import (
    SourceFreeNoise,
    empirical_variance,
    excess_noise,
    nod_variance,
)
from glue_lrs.uncertainty.source_free import source_free

#: Fluxes in Jy with a signal-to-noise ratio of about 1, 37 and 260 in a row at 8 micron.
FLUXES = (2e-6, 1e-4, 2e-3)
BOX = np.ones(8)


@cache
def nods(seed: int, number: int = 1, flux: float = 2e-6, included: bool = False) -> list[Simulated]:
    scene = Scene(
        sources=(Source(flux=flux, halo=0.02),), seed=seed, flat_error=0.0, nod_variance=included
    )
    return scene.nods(number)


def operator(width: float = 8.0, **options: object) -> Extract1D:
    aperture = Aperture(xstart=30.0, xstop=31.0, extract_width=width)
    return Extract1D(aperture=aperture, use_source_posn=True, **options)


def extract(made: Simulated, extract: Extract1D) -> tuple[Extraction, NDArray[np.float64]]:
    """Extraction, and the true flux in its aperture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoiseWarning)
        found = extract.run(made.image)
    weights = extract.weights(made.image, extract.place(made.image)).full(made.image.shape)
    true = (weights * made.truth.pixel_fractions()).sum(axis=1) * made.truth.flux
    known = np.isfinite(made.truth.wavelength)
    order = np.argsort(made.truth.wavelength[known])
    return found, np.interp(
        found.wavelength, made.truth.wavelength[known][order], true[known][order]
    )


def spread(pulls: list[NDArray[np.float64]]) -> float:
    values = np.concatenate(pulls)
    return float(np.std(values[np.isfinite(values)]))


# --- comparison --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("width", [3, 8, 15])
def test_comparison_with_errors(width: int) -> None:
    for included, expected in ((True, 1.0), (False, np.sqrt(2.0))):
        pulls = []
        for seed in range(6):
            image = nods(seed, included=included)[0].image
            found = SourceFreeNoise.from_image(image).compare(np.ones(width))
            assert 0.0 < found.error < 0.05
            assert found.is_excess is not included
            pulls.append((found.factor - expected) / found.error)
        assert abs(np.mean(pulls)) < 1.5
        assert np.max(np.abs(pulls)) < 4.0


def test_smoothed_noise_is_compared_by_aperture() -> None:
    """Columns that resampling correlates have little noise each; that of their sum is as before."""
    rng = np.random.default_rng(3)
    image = nods(0, included=True)[0].image
    sigma = np.sqrt(image.var_poisson + image.var_rnoise)
    noise = rng.standard_normal((image.shape[0], image.shape[1] + 1))
    smoothed = (0.5 * (noise[:, 1:] + noise[:, :-1])).astype(np.float32)
    image = replace(image, data=smoothed * sigma)
    found = SourceFreeNoise.from_image(image)
    assert found.compare(np.ones(1)).factor == pytest.approx(np.sqrt(0.5), abs=0.02)
    for width in (4, 12):
        expected = np.sqrt(1.0 - 0.5 / width)
        for common in (True, False):
            factor = found.compare(np.ones(width), common=common).factor
            assert factor == pytest.approx(expected, abs=0.06)


def test_noise_common_to_rows_is_in_the_comparison() -> None:
    scene = Scene(sources=(Source(flux=1e-6),), background=0.0, common_noise=0.5, seed=2)
    found = SourceFreeNoise.from_image(scene.s2d(1, subtract_nod=False).image)
    assert found.compare(np.ones(8)).factor == pytest.approx(np.sqrt(1 + 8 * 0.25), abs=0.15)
    assert found.compare(np.ones(1)).factor == pytest.approx(np.sqrt(1.25), abs=0.05)


@pytest.mark.parametrize("flux", FLUXES)
def test_sources_and_their_negatives_are_not_source_free(flux: float) -> None:
    made = nods(1, flux=flux)[0]
    free = SourceFreeNoise.from_image(made.image).free
    if flux > 1e-5:
        for trace in (made.truth.column, made.truth.negative[0]):
            assert not free[:, round(float(trace[0]))].any()
    light = np.abs(made.truth.data - made.truth.background) / np.sqrt(made.truth.variance)
    assert light[free].max() < 4.0
    assert free.any()


def test_excess_is_reported_in_extractions() -> None:
    with pytest.warns(NoiseWarning, match=r"1\.4\d \+- 0\.0\d times its error") as record:
        found = operator().run(nods(0)[0].image)
    assert len(record) == 1
    assert "noise='nod'" in str(record[0].message)
    (one,) = [one for one in found.findings if one.kind == "noise_excess"]
    assert one.values["factor"] == pytest.approx(1.42, abs=0.05)
    operator().run(nods(0)[0].image, check=False)  # without a warning
    with pytest.warns(NoiseWarning, match=r"1\.4"):
        operator(extraction_type="optimal").run(nods(0, flux=1e-4)[0].image)
    for included in (nods(0, included=True)[0].image, nods(1, included=True, flux=1e-4)[1].image):
        assert excess_noise(included, BOX) is None
        operator().run(included)  # without a warning, as warnings are errors
    # Nothing was subtracted, or it is not known.
    image = nods(0)[0].image
    for status in ("SKIPPED", None):
        header = image.header.copy()
        del header["S_BKDSUB"]
        if status is not None:
            header["S_BKDSUB"] = status
        assert excess_noise(replace(image, header=header), BOX) is None
    assert excess_noise(Scene().calints(2).image, BOX) is None


@pytest.mark.slow
@pytest.mark.parametrize("number", [43, 52])
def test_structure_in_the_wings_is_no_excess(number: int) -> None:
    """A bright source with spikes, whose wings leave few columns without light."""
    flux = 10.0 ** np.random.default_rng(number).uniform(-5.0, -2.0)
    scene = Scene(seed=number, psf=LAWS["cross"], sources=(Source(flux=flux),))
    image = scene.cal(nod=1 + number % 2).image
    assert excess_noise(image, np.ones(8)) is None


@pytest.mark.slow
@pytest.mark.parametrize("law", ["telescope", "cross", "moffat"])
def test_excess_is_reported_with_any_wings(law: str) -> None:
    scene = Scene(seed=3, psf=LAWS[law], sources=(Source(flux=1e-4),), nod_variance=False)
    finding = excess_noise(scene.cal(nod=1).image, np.ones(8))
    assert finding is not None
    assert finding.values["factor"] == pytest.approx(np.sqrt(2.0), abs=0.2)


# --- variance ----------------------------------------------------------------------------------


@pytest.mark.truth
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("route", ["image", "files", "empirical"])
def test_pulls_of_boxes(number: int, route: str) -> None:
    noise = "empirical" if route == "empirical" else "nod"
    for flux in FLUXES[:2]:
        for width in (3, 8, 15):
            pulls, propagated = [], []
            for seed in range(3 if number > 1 else 5):
                made = nods(seed, number, flux)
                images = tuple(one.image for one in made) if route == "files" else ()
                for one in made[:: 2 * number - 1]:
                    found, true = extract(one, operator(width, noise=noise, nods=images))
                    pulls.append((found.columns["FLUX"] - true) / found.columns["FLUX_ERROR"])
                    plain, _ = extract(one, operator(width))
                    propagated.append((plain.columns["FLUX"] - true) / plain.columns["FLUX_ERROR"])
                    assert_array_equal(plain.columns["FLUX"], found.columns["FLUX"])
            assert 0.95 < spread(pulls) < 1.05, (flux, width)
            if number == 1 and flux == FLUXES[0]:
                assert spread(propagated) > 1.3


@pytest.mark.truth
@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("files", [False, True])
def test_pulls_of_combinations(number: int, files: bool) -> None:
    pulls, propagated = [], []
    for seed in range(20, 28 if number == 1 else 25):
        made = nods(seed, number)
        images = tuple(one.image for one in made) if files else ()
        for noise, into in (("nod", pulls), ("propagated", propagated)):
            options = {"noise": noise, "nods": images if noise == "nod" else ()}
            spectra, true = zip(*(extract(one, operator(**options)) for one in made), strict=True)
            combined = combine(spectra)
            truth = np.interp(combined.wavelength, spectra[0].wavelength[::-1], true[0][::-1])
            into.append((combined.columns["FLUX"] - truth) / combined.columns["ERROR"])
    assert 0.95 < spread(pulls) < 1.05
    assert spread(propagated) > 1.3


@pytest.mark.slow
def test_nothing_is_added_where_the_variance_is_there() -> None:
    ratios = []
    for seed in range(8):
        made = nods(seed, included=True)
        for images in ((), tuple(one.image for one in made)):
            plain = operator().run(made[0].image).columns["FLUX_ERROR"]
            found = operator(noise="nod", nods=images).run(made[0].image)
            ratios.append(np.nanmax(found.columns["FLUX_ERROR"] / plain))
    assert np.median(ratios) == 1.0
    assert max(ratios) < 1.05


def test_components_of_the_error() -> None:
    made = nods(0)
    plain, _ = extract(made[0], operator())
    images = tuple(one.image for one in made)
    for options in ({"noise": "nod"}, {"noise": "nod", "nods": images}, {"noise": "empirical"}):
        found, _ = extract(made[0], operator(**options))
        columns = found.columns
        total = sum(columns[f"FLUX_VAR_{name}"] for name in ("POISSON", "RNOISE", "FLAT"))
        assert_allclose(columns["FLUX_ERROR"] ** 2, total)
        added = columns["FLUX_ERROR"] ** 2 - plain.columns["FLUX_ERROR"] ** 2
        known = np.isfinite(added)
        assert_allclose(columns["FLUX_VAR_NOD"][known], added[known], rtol=0.02)
        assert found.units["FLUX_VAR_NOD"] == "Jy^2"
        ratio = columns["SB_ERROR"] / columns["FLUX_ERROR"]
        assert_allclose(ratio, plain.columns["SB_ERROR"] / plain.columns["FLUX_ERROR"])
        if options["noise"] == "nod":
            poisson = columns["FLUX_VAR_POISSON"] / plain.columns["FLUX_VAR_POISSON"]
            assert np.nanmedian(poisson) == pytest.approx(2.0, abs=0.25)
    assert "FLUX_VAR_NOD" not in plain.columns


def test_files_give_the_variance_of_their_mean() -> None:
    made = nods(0, 3)
    image = made[0].image
    added = nod_variance(image, BOX, [one.image for one in made])
    others = [one.image for one in made[3:]]
    for name in ("poisson", "rnoise"):
        expected = sum(np.nan_to_num(getattr(one, f"var_{name}")) for one in others) / 9.0
        assert_allclose(getattr(added, name), expected, rtol=1e-6)


@pytest.mark.slow
def test_other_modes_and_products() -> None:
    image = nods(0, flux=1e-4)[0].image
    found = operator(extraction_type="optimal", noise="nod").run(image)
    with pytest.warns(NoiseWarning):
        plain = operator(extraction_type="optimal").run(image)
    ratio = np.nanmedian(found.columns["FLUX_ERROR"] / plain.columns["FLUX_ERROR"])
    assert 1.1 < ratio < np.sqrt(2.0)
    fitted = operator(extraction_type="optimal", noise="nod").fit(image).extractions[0]
    assert_array_equal(fitted.columns["FLUX_ERROR"], found.columns["FLUX_ERROR"])
    scene = Scene(sources=(Source(flux=1e-5),), nod_variance=False, seed=1)
    cal = scene.cal(1, full_frame=False).image
    combined = scene.combined().image
    for one, least in ((cal, 1.3), (combined, 1.3)):
        with pytest.warns(NoiseWarning):
            plain = operator().run(one)
        found = operator(noise="nod").run(one)
        ratio = np.nanmedian(found.columns["FLUX_ERROR"] / plain.columns["FLUX_ERROR"])
        assert ratio == pytest.approx(1.39, abs=0.06), least


# --- refusals ----------------------------------------------------------------------------------


def with_sources_everywhere(image: SlitImage) -> SlitImage:
    light = 30.0 * np.sin(np.arange(image.shape[1]))
    sigma = np.sqrt(image.var_poisson + image.var_rnoise)
    return replace(image, data=image.data + (light * sigma).astype(np.float32))


def test_refusals() -> None:
    made = nods(0)
    image = made[0].image
    crowded = with_sources_everywhere(image)
    for noise in ("nod", "empirical"):
        with pytest.raises(NoiseError, match="columns are free of sources") as error:
            operator(noise=noise).run(crowded)
        assert "\n" not in str(error.value)
        with pytest.raises(NoiseError, match="stack of integrations"):
            Extract1D(aperture=Aperture(xstart=30, xstop=41), noise=noise).run(
                Scene().calints(2).image
            )
        with pytest.raises(LRSError, match="VAR_RNOISE"):
            operator(noise=noise).run(replace(image, var_rnoise=None))
    assert nod_variance(crowded, BOX, [made[1].image]).rnoise.any()
    with pytest.raises(NoiseError, match="at the same nod"):
        operator(noise="nod", nods=[image]).run(image)
    with pytest.raises(NoiseError, match=r"has shape \(388, 63\)"):
        operator(noise="nod", nods=[replace(Scene().combined().image, header={})]).run(image)
    with pytest.raises(LRSError, match="noise is 'propagated', expected 'nod'"):
        operator(nods=[image])
    with pytest.raises(LRSError, match="noise is 'other'"):
        operator(noise="other")
    with pytest.raises(LRSError, match="expected a list of files"):
        operator(noise="nod", nods="a.fits")
    with pytest.warns(UnusedOptionWarning, match="adds nothing"):
        operator(noise="nod").run(Scene(seed=1).s2d(1, subtract_nod=False).image, check=False)
    with pytest.raises(LRSError, match="which the pipeline does not have"):
        Extract1D(aperture=Aperture(xstart=27, xstop=34), noise="nod").to_reference()


def test_empirical_noise_is_local() -> None:
    image = nods(0, included=True)[0].image
    noisy = np.array(image.data)
    rng = np.random.default_rng(5)
    sigma = np.sqrt(image.var_poisson + image.var_rnoise)
    noisy[:150] += (2.0 * sigma * rng.standard_normal(sigma.shape))[:150].astype(np.float32)
    added = empirical_variance(replace(image, data=noisy), BOX)
    ratio = 1.0 + added.rnoise / (image.var_rnoise + image.var_poisson)
    assert np.nanmedian(ratio[30:120]) == pytest.approx(5.0, abs=0.8)
    assert np.nanmedian(ratio[230:]) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("rows", [1, 47, 100, 145])
def test_source_free_pixels_of_a_slit(rows: int) -> None:
    """All but two columns at each end of the slit, the neighbours of a source, and bad pixels."""
    pulls = np.random.default_rng(0).normal(0.0, 0.1, (rows, 30))
    pulls[:, 12] += 20.0
    good = np.ones(pulls.shape, dtype=bool)
    good[:, :3] = good[:, 27:] = False  # beyond the slit
    good[rows // 2, 20] = False
    expected = good.copy()
    expected[:, [3, 4, 11, 12, 13, 25, 26]] = False
    assert_array_equal(source_free(pulls, good), expected)
