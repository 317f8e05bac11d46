"""Defective pixels: every extractor, `measure` and `combine` agree on which are lost.

The cases are the table of docs/concepts/image.rst: a defect, the planes that it can be in, and what
becomes of the pixel.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glue_lrs import Aperture, Extract1D, LRSWarning, SlitImage, combine
from glue_lrs.fitting.cutout import SlitCutout
from glue_lrs.image.pixels import good_pixels, lost_pixels
from glue_lrs.instrument import PIXEL_SCALE
from glue_lrs.simulation import Scene, Source

ROW = 200
VARIANCES = ("var_poisson", "var_rnoise", "var_flat")

#: Value for each defect. Only "negative" makes the total variance negative.
VALUES = {"NaN": np.nan, "infinite": np.inf, "negative": -1e3, "slightly negative": -1e-9}
VALUES |= {"zero": 0.0, "bit 0": 1, "other bits": 6}


def table() -> list[tuple[str, str, str]]:
    """Plane, defect and class of each cell of the table in the docs."""
    text = (Path(__file__).parents[2] / "docs/concepts/image.rst").read_text()
    names = {"SCI": "data", "ERR": "err", "DQ": "dq", "VAR_POISSON": "var_poisson"}
    names |= {"VAR_RNOISE": "var_rnoise", "VAR_FLAT": "var_flat"}
    cases = []
    block = text.split(".. list-table:: Defective pixels", 1)[1]
    for row in re.findall(r"   \* - (.+)\n     - (.+)\n     - (.+)\n", block):
        defect, planes, kind = row
        if kind in ("lost", "unweighted", "good"):
            cases += [(names[plane], defect, kind) for plane in planes.split(", ")]
    return cases


CASES = table()


@pytest.fixture(scope="module")
def clean() -> Any:
    return Scene(seed=3, sources=(Source(flux=2e-3, halo=0.05),), background=0.0).s2d(
        1, subtract_nod=False
    )


def with_defect(image: SlitImage, plane: str, defect: str, column: int) -> SlitImage:
    if plane == "dq":
        values = np.zeros(image.data.shape, np.uint32)
    else:
        values = np.array(getattr(image, plane), dtype=float)
    values[ROW, column] = VALUES[defect]
    return replace(image, **{plane: values})


def flux_of(image: SlitImage, **keys: Any) -> tuple[float, float, float]:
    """Return the flux, the error and NPIXELS in the row with the defect."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        made = Extract1D(**keys).run(image)
    at = ROW - (made.keywords["EXTRYSTR"] - 1)
    return tuple(float(made.columns[name][at]) for name in ("FLUX", "FLUX_ERROR", "NPIXELS"))


def test_the_table_has_all_planes_and_defects() -> None:
    assert len(CASES) == len({(plane, defect) for plane, defect, _ in CASES}) > 25
    assert {defect for _, defect, _ in CASES} == set(VALUES)
    assert {plane for plane, _, _ in CASES} == {"data", "err", "dq", *VARIANCES}


@pytest.mark.parametrize(("plane", "defect", "kind"), CASES)
def test_everything_agrees(clean: Any, plane: str, defect: str, kind: str) -> None:
    column = round(float(clean.truth.column[ROW]))
    image = with_defect(clean.image, plane, defect, column)
    where = (ROW, column)
    assert bool(lost_pixels(image)[where]) == (kind == "lost")
    assert bool(good_pixels(image)[where]) == (kind == "good")

    aperture = Aperture.from_edges(column - 4.5, column + 4.5)
    _, clean_error, whole = flux_of(clean.image, aperture=aperture)
    _, error, pixels = flux_of(image, aperture=aperture)
    assert pixels == pytest.approx(whole - (kind == "lost"))
    if kind == "unweighted" and defect == "infinite":
        assert error == np.inf
    elif kind == "good" and plane != "data":
        assert error == pytest.approx(clean_error, rel=0.7)

    # The correction restores only the flux of lost pixels, also next to a defect of another kind.
    true = float(clean.truth.flux[ROW] * clean.truth.enclosed(column - 4.5, column + 4.5)[ROW])
    if plane != "data" or kind == "lost":
        wing = with_defect(image, "data", "NaN", column + 2)
        for one in (image, wing):
            corrected, _, pixels = flux_of(one, aperture=aperture, bad_pixels="profile")
            assert corrected == pytest.approx(true, rel=0.02)
            assert pixels == pytest.approx(whole)

    # The fits of optimal extraction and of `measure` give weight to good pixels only.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        optimal = Extract1D(aperture=aperture, extraction_type="optimal").run(image)
    lost = optimal.lost_fraction[ROW - (optimal.keywords["EXTRYSTR"] - 1)]
    if kind != "good":
        assert lost > 0.2
    elif plane != "data":  # a wrong value may be rejected as an outlier
        assert lost < 0.05
    cutout = SlitCutout.from_image(image, PIXEL_SCALE)
    row = int(np.flatnonzero(cutout.rows == ROW)[0])
    assert bool(cutout.good[row, column - cutout.columns[0]]) == (kind == "good")


@pytest.mark.parametrize(("plane", "defect", "kind"), [c for c in CASES if c[2] != "good"])
def test_a_combination_uses_the_other_input(clean: Any, plane: str, defect: str, kind: str) -> None:
    """A row without a usable error, or with one pixel less, does not spoil the mean."""
    column = round(float(clean.truth.column[ROW]))
    aperture = Aperture.from_edges(column - 4.5, column + 4.5)
    image = with_defect(clean.image, plane, defect, column)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        extract = Extract1D(aperture=aperture, bad_pixels="profile")
        inputs = [extract.run(image), Extract1D(aperture=aperture).run(clean.image)]
        made = combine(inputs, weights="inverse_variance")
    true = clean.truth.flux * clean.truth.enclosed(column - 4.5, column + 4.5)
    at = int(np.argmin(np.abs(made.wavelength - clean.truth.wavelength[ROW])))
    assert made.columns["FLUX"][at] == pytest.approx(true[ROW], rel=0.03)
    assert np.isfinite(made.columns["ERROR"][at])


def test_the_rule_does_not_depend_on_the_part_that_is_read(clean: Any) -> None:
    variances = {name: np.array(getattr(clean.image, name)) for name in VARIANCES}
    for values in variances.values():
        values[30] = 0.0
    image = replace(clean.image, **variances)
    assert not good_pixels(image)[30].any()
    np.testing.assert_array_equal(good_pixels(image, 30), good_pixels(image)[30])


def test_negative_variances_that_dominate_a_row(clean: Any) -> None:
    """The error of the row is NaN, without a warning from numpy."""
    column = round(float(clean.truth.column[ROW]))
    variance = np.array(clean.image.var_poisson, dtype=float)
    variance[ROW, column] = -1e9
    image = replace(with_defect(clean.image, "data", "NaN", column + 2), var_poisson=variance)
    aperture = Aperture.from_edges(column - 4.5, column + 4.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", LRSWarning)
        made = Extract1D(aperture=aperture, bad_pixels="profile").run(image)
    assert np.isnan(made.columns["FLUX_ERROR"][ROW - (made.keywords["EXTRYSTR"] - 1)])
