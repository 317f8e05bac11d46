"""White light curve: the same table as that of the pipeline's ``white_light``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jwst.white_light.white_light import white_light as pipeline_white_light
from stdatamodels.jwst import datamodels

from glue_lrs.spectra.extraction import Extraction
from glue_lrs.timeseries import white_light
from tests.helpers.light_curves import series

NUMBER = 12


def damaged() -> Extraction:
    """Single NaN, flagged values, an integration and a column without a flux."""
    stack = series(np.linspace(1.0, 0.9, NUMBER), noise=0.01)
    rng = np.random.default_rng(1)
    flux = stack.columns["FLUX"]
    flux[rng.random(flux.shape) < 0.05] = np.nan
    flux[3], flux[:, 50] = np.nan, np.nan
    stack.columns["DQ"][5] = 1
    stack.columns["NPIXELS"][6] = 3.0
    return stack


def without_times(stack: Extraction) -> Extraction:
    assert stack.times is not None
    stack.times["MJD-AVG"][[2, 7]] = np.nan
    stack.times["TDB-MID"][4] = np.nan
    return stack


def with_equal_times(stack: Extraction) -> Extraction:
    assert stack.times is not None
    stack.times["MJD-AVG"][5] = stack.times["MJD-AVG"][4]
    stack.times["MJD-AVG"][9] = stack.times["MJD-AVG"][4]
    return stack


CASES: dict[str, tuple[Any, dict[str, float]]] = {
    "clean": (lambda: series(np.linspace(1.0, 0.9, NUMBER)), {}),
    "damaged": (damaged, {}),
    "range": (damaged, {"min_wavelength": 5.0, "max_wavelength": 9.75}),
    "shortest": (damaged, {"min_wavelength": 7.0}),
    "nothing in range": (damaged, {"min_wavelength": 30.0}),
    "missing times": (lambda: without_times(damaged()), {}),
    "equal times": (lambda: with_equal_times(damaged()), {"max_wavelength": 11.0}),
}


@pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning")  # an integration has no flux
@pytest.mark.parametrize("name", CASES)
def test_white_light_equals_that_of_the_pipeline(name: str, tmp_path: Path) -> None:
    make, limits = CASES[name]
    path = tmp_path / "star_x1dints.fits"
    make().write(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the pipeline are not tested here
        with datamodels.TSOMultiSpecModel(path) as model:
            steps = {f"{key[:3]}_wave": value for key, value in limits.items()}
            expected = pipeline_white_light(model, **steps)
    for source in (path, Extraction.read(path)):
        found = white_light(source, **limits)
        assert found.colnames == expected.colnames
        assert found.meta == dict(expected.meta)
        for column in found.colnames:
            np.testing.assert_allclose(found[column], expected[column], rtol=1e-12, err_msg=column)
            assert found[column].unit == expected[column].unit
    assert len(found) == {"missing times": 10, "equal times": 10}.get(name, NUMBER)
