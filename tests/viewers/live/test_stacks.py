"""Live extractions of stacks of integrations."""

from __future__ import annotations

import numpy as np
import pytest

from glue_lrs import Aperture, LRSError
from glue_lrs.spectra.columns import COLUMNS
from glue_lrs.viewers import LiveExtraction
from glue_lrs.viewers.live.cross_dispersion_profile import cross_dispersion_profile
from glue_lrs.viewers.live.regions import Region
from tests.helpers.images import stack
from tests.helpers.live import assert_shows


def test_an_integration_of_a_stack_is_shown(stacked: LiveExtraction) -> None:
    extraction = stacked.run_all()
    assert extraction.columns["FLUX"].shape[0] == 5
    assert stacked.integration == 0
    for number in (0, 3, 4):
        stacked.integration = number
        assert_shows(stacked, stacked.extract)
        np.testing.assert_array_equal(stacked.shown.data, stacked.image.data[number])
        for name in COLUMNS:
            np.testing.assert_allclose(
                stacked.extraction.columns[name], extraction.columns[name][number], rtol=1e-12
            )
    stacked.integration = 99
    assert stacked.integration == 4
    stacked.integration = -3
    assert stacked.integration == 0


def test_an_edit_applies_to_all_integrations(stacked: LiveExtraction) -> None:
    stacked.integration = 2
    assert stacked.set([Region("aperture", (31.0,), (40.0,))])
    assert_shows(stacked, stacked.extract)
    stacked.integration = 1
    assert_shows(stacked, stacked.extract)
    assert stacked.extract.aperture == Aperture(xstart=31.5, xstop=39.5)


def test_the_median_of_all_is_shown(stacked: LiveExtraction) -> None:
    stacked.integration = None
    np.testing.assert_allclose(stacked.shown.data, np.median(stacked.image.data, axis=0), rtol=1e-6)
    assert_shows(stacked, stacked.extract)


def test_a_single_image_has_no_integrations(live: LiveExtraction) -> None:
    live.integration = 3
    assert live.integration is None
    assert live.shown is live.image


def test_the_slit_profile_of_a_stack_is_an_error() -> None:
    with pytest.raises(LRSError, match="is a stack, expected one integration"):
        cross_dispersion_profile(stack(), 3)


def test_a_comparison_follows_the_integration(stacked, tmp_path) -> None:
    extraction = stacked.run_all()
    extraction.write(tmp_path / "tso_x1dints.fits")
    stacked.load_comparison(tmp_path / "tso_x1dints.fits")
    for number in (0, 3):
        stacked.integration = number
        np.testing.assert_allclose(stacked.ratio()[1], 1.0, rtol=1e-6)
    stacked.integration = None
    median = np.median(extraction.columns["FLUX"], axis=0)[::-1]
    np.testing.assert_allclose(stacked.comparison.flux.value, median, rtol=1e-6)
