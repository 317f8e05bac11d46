"""Profiles along the slit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glue_lrs.viewers import LiveExtraction
from glue_lrs.viewers.live.cross_dispersion_profile import cross_dispersion_profile
from tests.helpers.images import slit


def test_the_slit_profile_is_the_mean_of_rows(live: LiveExtraction) -> None:
    image = live.image
    columns, flux, error = live.cross_dispersion_profile(10, 5)
    np.testing.assert_array_equal(columns, np.arange(46))
    np.testing.assert_allclose(flux, image.data[8:13].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(
        error, np.sqrt((image.err[8:13].astype(float) ** 2).sum(axis=0)) / 5, rtol=1e-6
    )
    live.cursor_row, live.rows_averaged = 20.0, 3
    np.testing.assert_allclose(
        live.cross_dispersion_profile().flux, image.data[19:22].mean(axis=0), rtol=1e-6
    )
    # Fewer rows are averaged at the ends of the image.
    np.testing.assert_allclose(
        live.cross_dispersion_profile(0, 5).flux, image.data[:3].mean(axis=0), rtol=1e-6
    )
    np.testing.assert_allclose(live.cross_dispersion_profile(99, 5).flux, image.data[-1], rtol=1e-6)


def test_the_slit_profile_excludes_bad_pixels() -> None:
    image = slit()
    data, dq = np.array(image.data), np.zeros(image.data.shape, dtype=np.uint32)
    data[9, 3] = np.nan
    dq[10, 3] = 1
    dq[10, 4] = 4
    data[8:13, 6] = np.nan
    profile = cross_dispersion_profile(replace(image, data=data, dq=dq), 10, 5)
    assert profile.flux[3] == pytest.approx(image.data[[8, 11, 12], 3].mean())
    expected = np.sqrt((image.err[[8, 11, 12], 3].astype(float) ** 2).sum()) / 3
    assert profile.error[3] == pytest.approx(expected)
    assert profile.flux[4] == pytest.approx(image.data[8:13, 4].mean())
    assert np.isnan(profile.flux[6])
    assert np.isnan(profile.error[6])
