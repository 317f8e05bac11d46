"""Extraction of a stack without outliers along time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from glue_lrs import Aperture, Background, Extract1D, Extraction, LRSWarning, SlitImage, rerun
from glue_lrs.errors import ReferenceFileError
from glue_lrs.simulation.scene import Scene
from glue_lrs.spectra.quality import quality_counts
from tests.helpers.images import slit, stack

APERTURE = Aperture(xstart=31, xstop=40)
BACKGROUND = Background(bkg_coeff=[[5.5], [20.5]])
N_INT = 8
HIT, LOST = (3, 20, 35), (5, 10, 36)


def clean() -> SlitImage:
    image = stack(N_INT)
    ones = np.ones_like(image.data)
    return replace(image, err=ones, var_poisson=ones / 2, var_rnoise=ones / 2, var_flat=0 * ones)


def spoiled() -> SlitImage:
    """A stack with an outlier and a lost pixel in the aperture."""
    data = np.array(clean().data)
    data[HIT] += 400.0
    data[LOST] = np.nan
    return replace(clean(), data=data)


def operator(**options: Any) -> Extract1D:
    return Extract1D(aperture=APERTURE, background=BACKGROUND, **options)


@pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning")
@pytest.mark.parametrize("options", [{}, {"extraction_type": "optimal"}], ids=["box", "optimal"])
def test_replaced_values(options: dict[str, Any]) -> None:
    plain = operator(**options)
    expected = plain.run(clean())
    found = replace(plain, time_outliers="replace").run(spoiled())
    error = expected.columns["FLUX_ERROR"]
    assert_allclose(found.columns["FLUX"] / error, expected.columns["FLUX"] / error, atol=4)
    assert_allclose(found.columns["NPIXELS"], expected.columns["NPIXELS"], rtol=1e-3)
    restored = np.argwhere(found.quality_mask("restored")).tolist()
    assert sorted(row[0] for row in restored) == [HIT[0], LOST[0]]
    [finding] = [one for one in found.findings if one.kind == "time_outliers"]
    assert finding.values == {"outliers": 1, "all": 10 * 40 * N_INT, "lost": 1}


@pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning")
def test_outliers_as_lost_pixels() -> None:
    found = operator(time_outliers="lost").run(spoiled())
    flagged = np.zeros((N_INT, 40, 46), dtype=np.uint32)
    flagged[HIT] = 1
    expected = operator().run(replace(spoiled(), dq=flagged))
    for name in ("FLUX", "FLUX_ERROR", "NPIXELS"):
        assert_array_equal(found.columns[name], expected.columns[name])
    # The rows of the spectrum are those of the image here.
    assert np.argwhere(found.quality_mask("rejected")).tolist() == [[HIT[0], HIT[1]]]
    assert quality_counts(found.columns["QUALITY"]) == {"lost": 2, "rejected": 1}
    [text] = [one.text for one in found.findings if one.kind == "time_outliers"]
    assert text.startswith("1 of 3200 pixels of the aperture are outliers along time, in 1 of 8")


def test_default_keeps_the_pipelines_numbers() -> None:
    with pytest.warns(LRSWarning, match="bad pixels reduce the aperture"):
        found = operator().run(spoiled())
    assert quality_counts(found.columns["QUALITY"]) == {"lost": 1}
    assert not [one for one in found.findings if one.kind == "time_outliers"]
    assert "time_outliers" not in operator().parameters["options"]


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (slit(), "found a single image"),
        (stack(4), "expected a stack of at least 5 integrations, found 4 integrations"),
    ],
)
def test_without_effect(image: SlitImage, text: str) -> None:
    with pytest.warns(LRSWarning, match=text):
        Extract1D(aperture=APERTURE, time_outliers="replace").run(image)


def test_validation_and_export() -> None:
    with pytest.raises(ReferenceFileError, match="time_outliers is 'drop', expected 'keep'"):
        operator(time_outliers="drop")
    with pytest.raises(ReferenceFileError, match="time_outliers 'replace', which the pipeline"):
        operator(time_outliers="replace").to_reference()


@pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning")
def test_rerun_from_a_file(tmp_path: Path) -> None:
    image = Scene(seed=3).calints(6).image
    data = np.array(image.data)
    data[2, 200, 35] += 30 * np.nanmax(np.asarray(image.err))
    path = tmp_path / "made_calints.fits"
    replace(image, data=data).write(path)
    found = Extract1D(aperture=APERTURE, time_outliers="replace").run(path)
    found.to_spectrum().write(tmp_path / "made_x1dints.fits", format="lrs-x1d")
    again = rerun(Extraction.read(tmp_path / "made_x1dints.fits").provenance)
    assert_array_equal(again.columns["FLUX"], found.columns["FLUX"])
    assert again.quality_mask("restored").sum() >= 1


@pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning")
def test_segments_are_one_stack(tmp_path: Path) -> None:
    """The planes of several files are patched when they are read, like those of one file."""
    paths = []
    for segment, first in ((1, 1), (2, 5)):
        image = Scene(seed=segment).calints(4, first=first, segment=segment, n_total=8).image
        data = np.array(image.data)
        data[2, 200, 35] += 30 * np.nanmax(np.asarray(image.err))
        data[1, 150, 36] = np.nan
        paths.append(tmp_path / f"made-seg00{segment}_calints.fits")
        replace(image, data=data).write(paths[-1])
    joined = SlitImage.read(paths)
    names = ("data", "err", "var_poisson", "var_rnoise", "var_flat", "dq")
    arrays = {name: np.asarray(getattr(joined, name)) for name in names}
    for how in ("replace", "lost"):
        found = Extract1D(aperture=APERTURE, time_outliers=how).run(joined)
        expected = Extract1D(aperture=APERTURE, time_outliers=how).run(replace(joined, **arrays))
        for name in ("FLUX", "FLUX_ERROR", "NPIXELS", "QUALITY"):
            assert_array_equal(found.columns[name], expected.columns[name])
        assert [one for one in found.findings if one.kind == "time_outliers"]
