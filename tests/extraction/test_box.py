"""Comparison of the box extraction with a simple implementation, row by row."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from glue_lrs import Aperture, Background, Extract1D, LRSError, LRSWarning, SlitImage
from glue_lrs.extraction.box import BoxExtractor
from tests.helpers.plain_box import VARIANCES, plain_box

REGIONS = ((0.2, 3.7), (14.5, 18.9))
BACKGROUNDS = {
    "none": None,
    "constant": Background.from_edges(*REGIONS),
    "line": Background.from_edges(*REGIONS, bkg_order=1),
    "parabola": Background.from_edges(*REGIONS, bkg_order=2),
    "median": Background.from_edges(*REGIONS, bkg_fit="median"),
}


def spoiled(image: SlitImage, seed: int) -> SlitImage:
    """Random defects in all planes are handled alike, also in a row without any good pixel."""
    rng = np.random.default_rng(seed)
    planes = {}
    for name in ("data", "err", *VARIANCES):
        values = np.array(getattr(image, name), dtype=float)
        values[rng.random(values.shape) < 0.02] = np.nan
        if name != "err":
            values[rng.random(values.shape) < 0.01] = np.inf
        if name in VARIANCES:
            values[rng.random(values.shape) < 0.01] = -5.0
        planes[name] = values
    dq = rng.choice(np.array([0, 1, 2, 4], np.uint32), image.data.shape, p=[0.9, 0.04, 0.03, 0.03])
    dq[7] = 1
    return replace(image, dq=dq, **planes)


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_plain_box(
    background: str, seed: int, make_image: Callable[..., SlitImage]
) -> None:
    image = spoiled(make_image((40, 20), seed=seed), seed)
    aperture = (
        Aperture(xstart=6, xstop=11),
        Aperture.from_edges(5.3, 12.9),
        Aperture(src_coeff=[[5.0, 0.03], [12.0, -0.02]]),
    )[seed]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        made = Extract1D(aperture=aperture, background=BACKGROUNDS[background]).run(image)
    expected = plain_box(image, aperture, BACKGROUNDS[background])
    for name, values in expected.items():
        found = made.columns[name]
        known = np.isfinite(values)
        np.testing.assert_allclose(found[known], values[known], rtol=1e-9, atol=1e-22, err_msg=name)
    assert np.isnan(made.columns["FLUX"][7])
    assert (made.columns["NPIXELS"] < made.aperture_weight - 0.5).sum() > 10


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_the_fraction_that_may_be_lost_is_a_fraction(value: float) -> None:
    with pytest.raises(LRSError, match=r"max_lost is .* expected a fraction between 0 and 1"):
        BoxExtractor(aperture=Aperture(xstart=6, xstop=11), max_lost=value)
