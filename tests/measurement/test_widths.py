"""Measured widths of sources whose PSF is not that of the prior."""

from __future__ import annotations

import numpy as np
import pytest

from glue_lrs import measure
from glue_lrs.simulation.psf_laws import LAWS, Gaussian, straight_width, telescope_width
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source

pytestmark = pytest.mark.slow

WAVES = np.array([5.5, 6.0, 6.5, 7.0, 7.5, 8.0, 9.0, 10.0, 12.0])
WIDTHS = {
    "constant": np.full(WAVES.size, 0.31),
    "telescope": telescope_width(WAVES),
    "straight": straight_width(WAVES),
}


@pytest.mark.parametrize("law", WIDTHS)
def test_widths_follow_the_source_and_not_the_prior(law: str) -> None:
    assert isinstance(LAWS[law], Gaussian)
    made = Scene(sources=(Source(flux=0.02, halo=0.0),), seed=3, psf=LAWS[law])
    width, error = measure(made.s2d(nod=1).image).width(WAVES)
    assert np.abs((width - WIDTHS[law]) / error).max() < 5.0
    np.testing.assert_allclose(width, WIDTHS[law], rtol=2e-3)
