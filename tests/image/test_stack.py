"""One integration of a stack, and the median over integrations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import glue_lrs.image.stack
from glue_lrs import LRSError
from tests.helpers.images import slit, stack


def test_an_integration_is_an_image() -> None:
    image = stack(5)
    one = image.integration(3)
    assert one.shape == image.shape
    assert not one.is_stack
    for name in ("data", "err", "var_poisson", "var_rnoise", "var_flat"):
        assert np.shares_memory(getattr(one, name), getattr(image, name)[3])
        np.testing.assert_array_equal(getattr(one, name), getattr(image, name)[3])
    assert one.wavelength is image.wavelength


def test_the_median_is_pixelwise() -> None:
    image = stack(4)
    np.testing.assert_allclose(image.median().data, np.median(image.data, axis=0), rtol=1e-6)
    np.testing.assert_array_equal(stack(1).median().data, stack(1).data[0])


def test_values_that_are_not_finite_cause_no_numpy_warning() -> None:
    image = stack(5)
    data, var = np.array(image.data), np.array(image.var_poisson)
    data[:3, 5, 5] = [np.inf, -np.inf, np.inf]
    var[0, 6, 6] = np.inf
    made = replace(image, data=data, var_poisson=var).median()
    assert made.data[5, 5] == pytest.approx(image.data[3:, 5, 5].mean())
    assert np.isfinite(made.err).all()


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 8, 11])
def test_the_errors_of_the_median_are_those_of_the_scatter(number: int) -> None:
    rng = np.random.default_rng(number)
    shape = (number, 200, 300)
    image = stack()
    ones = np.ones(shape, dtype=np.float32)
    made = replace(
        image,
        data=rng.normal(0.0, 2.0, shape),
        wavelength=np.ones(shape[1:]),
        err=ones * np.sqrt(5.0),
        var_poisson=ones,
        var_rnoise=3 * ones,
        var_flat=ones,
    ).median()
    scatter = made.data.var()
    assert made.var_poisson.mean() + made.var_rnoise.mean() == pytest.approx(scatter, rel=0.02)
    np.testing.assert_allclose(made.var_rnoise, 3 * made.var_poisson)
    np.testing.assert_array_equal(made.var_flat, 1.0)  # the same flat in all integrations
    np.testing.assert_allclose(made.err**2, made.var_poisson + made.var_rnoise + 1.0)


def test_the_median_excludes_bad_pixels() -> None:
    image = stack(5)
    planes = {name: np.array(getattr(image, name)) for name in ("data", "var_rnoise")}
    dq = np.zeros(image.data.shape, dtype=np.uint32)
    planes["data"][1, 4, 4] = np.nan
    planes["var_rnoise"][2, 4, 4] = np.nan
    dq[3, 4, 4] = 1
    dq[:, 6, 6] = 1
    dq[:, 7, 7] = 4
    made = replace(image, dq=dq, **planes).median()
    assert made.data[4, 4] == pytest.approx((image.data[0, 4, 4] + image.data[4, 4, 4]) / 2)
    two = image.var_rnoise[[0, 4], 4, 4].astype(float)
    assert made.var_rnoise[4, 4] == pytest.approx(two.mean() / 2)
    assert np.isnan(made.data[6, 6])
    assert made.dq[6, 6] == 1
    assert np.isfinite(made.data[7, 7])
    assert made.dq.sum() == 1


def test_median_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = stack(4).median()
    monkeypatch.setattr(glue_lrs.image.stack, "BLOCK_PIXELS", 1000)
    parts = stack(4).median()
    for name in ("data", "err", "var_poisson", "var_rnoise", "var_flat", "dq"):
        np.testing.assert_array_equal(getattr(at_once, name), getattr(parts, name))


def test_a_single_image_has_no_integrations() -> None:
    with pytest.raises(LRSError, match="integration is 0, expected none, as it is a single image"):
        slit().integration(0)
    with pytest.raises(LRSError, match="integration is 5, expected 0 to 4"):
        stack().integration(5)
    with pytest.raises(LRSError, match="is a single image, expected a stack"):
        slit().median()
