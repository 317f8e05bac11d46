from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RectBivariateSpline

from glue_lrs import ApertureCorrection, LRSError

WAVELENGTH = np.array([12.0, 5.0, 7.5, 10.0])
SIZE = np.array([3.0, 4.0, 8.0, 11.0, 40.0])
FACTOR = 1.0 + np.random.default_rng(3).random((4, 5))


@given(st.floats(2.0, 15.0), st.floats(0.0, 50.0))
def test_interpolates_as_the_pipelines_spline(wavelength: float, size: float) -> None:
    ours = ApertureCorrection(wavelength=WAVELENGTH, size=SIZE, factor=FACTOR)
    order = np.argsort(WAVELENGTH)
    spline = RectBivariateSpline(SIZE, WAVELENGTH[order], FACTOR[order].T, kx=1, ky=1)
    assert ours(wavelength, size) == pytest.approx(spline(size, wavelength).item(), rel=1e-12)


def test_broadcasts_over_integrations() -> None:
    ours = ApertureCorrection(wavelength=WAVELENGTH, size=SIZE, factor=FACTOR)
    wavelength, size = np.array([6.0, 9.0, 13.0]), np.array([[3.5, 7.0, 9.0], [1.0, 8.0, 99.0]])
    table = ours(wavelength, size)
    assert table.shape == (2, 3)
    assert table[1, 2] == FACTOR[0, -1]  # clamped in both
    assert table[0, 1] == pytest.approx(float(ours(9.0, 7.0)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"factor": FACTOR.T}, r"APCORR has shape \(5, 4\), expected \(4, 5\)"),
        ({"size": SIZE[::-1]}, "SIZE has 5 values, expected at least 2 that ascend"),
        ({"wavelength": [5, 5, 6, 7]}, "WAVELENGTH has 4 values, expected at least 2 that ascend"),
        ({"factor": FACTOR * np.nan}, "APCORR holds values that are not finite"),
    ],
)
def test_invalid_tables_are_errors(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LRSError, match=message):
        ApertureCorrection(
            **{"wavelength": WAVELENGTH, "size": SIZE, "factor": FACTOR, "filename": "a.fits"}
            | values
        )


def test_the_subarray_must_match_case_insensitively() -> None:
    ours = ApertureCorrection(wavelength=WAVELENGTH, size=SIZE, factor=FACTOR, subarray="full")
    ours.check("FULL")
    with pytest.raises(LRSError, match="is for SUBARRAY full, expected SLITLESSPRISM"):
        ours.check("SLITLESSPRISM")


def test_tables_are_compared_by_their_values() -> None:
    one = ApertureCorrection(wavelength=WAVELENGTH, size=SIZE, factor=FACTOR, filename="a.fits")
    same = ApertureCorrection(wavelength=WAVELENGTH, size=SIZE, factor=FACTOR.copy())
    assert one == same
    assert hash(one) == hash(same)
    assert one != ApertureCorrection(wavelength=WAVELENGTH, size=SIZE, factor=FACTOR + 1e-9)
    assert one != 3
