"""Optimal extraction of sources whose PSF is not that of the prior."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from glue_lrs import LRSWarning
from glue_lrs.extraction.optimal import OptimalExtractor
from glue_lrs.extraction.optimal_result import OptimalResult
from glue_lrs.simulation.optics import PIXEL_SCALE
from glue_lrs.simulation.psf_laws import LAWS
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source
from tests.helpers.study import PRODUCTS, StudyResult, flux_of, scene, study

pytestmark = pytest.mark.slow

PRODUCT = "s2d, nod subtracted"


def study_law(law: str, ratio: float, seeds: int, **keys: Any) -> StudyResult:
    """Study isolated sources with a median S/N of `ratio` in a row."""
    flux = flux_of(ratio, PRODUCT)
    source = Source(flux=flux, halo=0.0)
    scenes = (scene(seed, flux, psf=LAWS[law], sources=(source,)) for seed in range(seeds))
    make, order = PRODUCTS[PRODUCT]
    return study(scenes, make, OptimalExtractor(), order=order, **keys)


@pytest.mark.parametrize("law", ["telescope", "constant", "straight", "wavy", "moffat"])
def test_bright_sources_keep_all_pixels(law: str) -> None:
    """A width that is not expected must not be taken for outliers in the core."""
    made = Scene(sources=(Source(flux=0.02, halo=0.0),), seed=3, psf=LAWS[law])
    simulated = made.s2d(nod=1)
    correction = made.aperture_correction("FULL")
    result = OptimalExtractor(aperture_correction=correction).fit(simulated.image)
    extraction = result.extractions[0]
    first = extraction.keywords["EXTRYSTR"] - 1
    true = simulated.truth.flux[first : first + extraction.columns["FLUX"].size]
    band = (extraction.wavelength > 5.0) & (extraction.wavelength < 12.0)
    wrong = ((extraction.columns["FLUX"] - true) / extraction.columns["FLUX_ERROR"])[band]
    assert np.abs(wrong).max() < 6.0
    assert result.number_rejected <= 3


@pytest.mark.parametrize(
    "law", ["telescope", "constant", "straight", "wavy", "moffat", "scattered"]
)
def test_fluxes_of_other_laws(law: str) -> None:
    found = study_law(law, 100.0, 2)
    assert abs(found.bias) < 0.0015
    assert 0.92 < found.spread < 1.08
    assert found.efficiency > 0.95


@pytest.mark.parametrize("law", ["diffraction", "cross", "scattered"])
def test_wings_are_told_from_a_constant(law: str) -> None:
    """A constant that is added to the profile is cancelled by the negative trace.

    Wings that could be negative were up to 0.4% of the flux too low in 8 columns, with an S/N of
    0.71, 0.81 and 0.89 of the best.
    """
    found = study_law(law, 300.0, 3)
    assert abs(found.bias) < 0.0015
    assert found.efficiency > (0.84 if law == "cross" else 0.9)


@pytest.mark.parametrize("ratio", [30.0, 300.0])
def test_a_shoulder_of_the_profile_is_no_source(ratio: float) -> None:
    """A companion with the same spectrum could not be distinguished, so the user is warned."""
    found = study_law("asymmetric", ratio, 1, inspect=lambda result: result)
    assert abs(found.bias) < 0.003
    assert found.efficiency > 0.9
    for result in found.inspected:
        assert result.positive.tolist() == [True, False]
        texts = [one.text for one in result.extractions[0].findings]
        assert any(
            "cannot be distinguished from a shoulder of the profile" in text for text in texts
        )


def fit_pair(share: float, apart: float) -> OptimalResult:
    sources = (
        Source(flux=1e-3, halo=0.05),
        Source(flux=share * 1e-3, halo=0.05, position=apart * PIXEL_SCALE),
    )
    image = Scene(sources=sources, seed=4, bad_fraction=0.01).s2d(1).image
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        return OptimalExtractor().fit(image)


@pytest.mark.parametrize(("share", "apart"), [(1.0, 2.5), (0.3, 4.0)])
def test_companions_are_separated(share: float, apart: float) -> None:
    result = fit_pair(share, apart)
    assert result.positive.tolist() == [True, True, False, False]
    assert np.nanmean(result.traces[1] - result.traces[0]) == pytest.approx(apart, abs=0.05)
    assert result.relative_flux[1] == pytest.approx(share, rel=0.05)
