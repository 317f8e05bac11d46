"""Wavelengths of extractions do not depend on aperture and extractor where a row has only one."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glue_lrs import Extract1D, OptimalExtractor, SlitImage
from glue_lrs.apertures.weights import mean_wavelength
from glue_lrs.errors import LRSWarning
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.profiles.gaussian import GaussianProfile
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source

SCENE = Scene(seed=5, sources=(Source(flux=4e-3, halo=0.0),), bad_fraction=0.0)
PSF = PSFProfile.sampled(GaussianProfile(), np.linspace(2.5, 14.6, 60), name=FIXED_SLIT)
TAPER: dict[str, Any] = {
    "src_coeff": [[27.5, -0.3], [33.5, 0.3]],
    "independent_var": "wavelength",
    "use_source_posn": False,
}
EXTRACTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"xstart": 20.3, "xstop": 40.7, "use_source_posn": False},
    {"extract_width": 5.3},
    TAPER,
    {**TAPER, "src_coeff": [[27], [30], [31], [34.2, 0.1]]},
    {"bad_pixels": "profile"},
    {"extraction_type": "optimal"},
    {"extraction_type": "optimal", "psf": PSF, "optimal_mode": "psf"},
    {"extraction_type": "optimal", "psf": PSF, "optimal_mode": "pipeline"},
)


@pytest.fixture(scope="module", params=["float32", "float64", "edges"])
def image(request: pytest.FixtureRequest) -> SlitImage:
    """An s2d, whose wavelengths have many digits, or are NaN at the edges of the slit."""
    made = SCENE.s2d(1).image
    wavelength = np.array(made.wavelength)
    if request.param == "float64":
        wavelength = wavelength.astype(float) * (1.0 + 1e-9 / 3.0)
    if request.param == "edges":
        wavelength[:, :8] = np.nan
        wavelength[::2, 30] = np.nan
    return replace(made, wavelength=wavelength)


def extracted(image: SlitImage, changes: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        operator = Extract1D.from_reference(None, FIXED_SLIT, apply_apcorr=False, **changes)
        return operator.run(image)


@pytest.mark.parametrize("changes", EXTRACTIONS)
def test_the_wavelength_of_a_row_is_that_of_its_pixels(
    changes: dict[str, Any], image: SlitImage
) -> None:
    made = extracted(image, changes)
    of_rows = np.nanmax(np.asarray(image.wavelength, float), axis=1)
    first = round(made.keywords["EXTRYSTR"]) - 1
    np.testing.assert_array_equal(made.wavelength, of_rows[first : first + made.wavelength.size])


def test_spectra_of_two_extractions_are_subtracted(image: SlitImage) -> None:
    spectra = [extracted(image, changes).to_spectrum() for changes in EXTRACTIONS[:2]]
    difference = spectra[0] - spectra[1]
    assert np.isfinite(difference.flux.value).any()
    optimal = OptimalExtractor().run(image).to_spectrum()
    common = [optimal.spectral_axis.value, spectra[0].spectral_axis.value]
    assert np.isin(*common).mean() > 0.99


def test_rows_with_different_wavelengths_have_their_mean() -> None:
    rng = np.random.default_rng(1)
    wavelength = np.repeat(rng.uniform(5.0, 12.0, (50, 1)), 9, axis=1)
    weights = rng.uniform(0.0, 1.0, (50, 9))
    weights[rng.random(weights.shape) < 0.3] = 0.0
    weights[7] = 0.0
    tilted = np.arange(50) % 3 == 0
    wavelength[tilted] += np.linspace(-0.01, 0.01, 9)
    wavelength[weights == 0] += 1.0  # without weight: ignored
    total = weights.sum(axis=1)
    found = mean_wavelength(wavelength, weights, total)
    for row in range(50):
        used = weights[row] > 0
        if not used.any():
            assert found[row] == 1.0
        elif tilted[row]:
            expected = np.average(wavelength[row, used], weights=weights[row, used])
            np.testing.assert_allclose(found[row], expected, rtol=1e-14)
        else:
            assert (found[row] == wavelength[row, used]).all()
