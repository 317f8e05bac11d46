"""Groups of bad pixels neither hide a source nor become one; emission lines are no bad pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glue_lrs import Extract1D, measure
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.simulation import Scene, Source

pytestmark = pytest.mark.slow

#: Rows and columns. The source is at column 13.05.
GROUPS = {
    "at the peak": (slice(150, 160), 13),
    "beside": (slice(150, 160), 25),
    "block": (slice(150, 160), slice(20, 24)),
    "rows": (slice(200, 210), slice(None)),
    "last rows": (slice(375, 387), 14),
    "many rows": (slice(150, 190), 14),
}


@pytest.fixture(scope="module")
def image() -> SlitImage:
    return Scene(seed=1).s2d(nod=1).image


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", GROUPS)
def test_a_group_of_bad_pixels_does_not_hide_the_source(
    image: SlitImage, name: str, sign: float
) -> None:
    data = image.data.copy()
    group = data[GROUPS[name]].shape
    data[GROUPS[name]] = sign * 10 ** np.random.default_rng(3).uniform(4.0, 9.0, group)
    found = measure(replace(image, data=data))
    assert [one.kind for one in found.sources] == ["target", "negative"]
    assert found.column == pytest.approx(13.05, abs=0.01)
    assert found.target.snr > 5000.0


def lines(wave: Any) -> Any:
    """Emission lines of 0.2 um without a continuum."""
    return sum(1e-3 * np.exp(-0.5 * ((wave - at) / 0.1) ** 2) for at in (6.0, 8.0, 10.0, 12.0))


def test_a_source_without_a_continuum_is_found() -> None:
    found = measure(Scene(seed=1, sources=(Source(flux=lines),)).s2d(nod=1).image)
    assert found.column == pytest.approx(13.05, abs=0.02)
    assert found.target.snr > 100.0


@pytest.mark.parametrize(("column", "value"), [(14, 1e5), (16, 3e3)])
def test_a_group_of_many_rows_does_not_change_an_optimal_extraction(
    image: SlitImage, column: int, value: float
) -> None:
    """As a hot column, or the trace of a ray. It is longer than the window of a running median."""
    operator = Extract1D.from_reference(None, image.exp_type, extraction_type="optimal")
    data = image.data.copy()
    data[150:174, column] += value
    expected, found = operator.run(image), operator.run(replace(image, data=data))
    np.testing.assert_allclose(
        found.columns["FLUX"][20:360], expected.columns["FLUX"][20:360], rtol=0.01
    )
