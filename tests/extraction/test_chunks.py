"""Extraction of a stack in chunks, here of ten integrations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glue_lrs import Extract1D, SlitImage
from glue_lrs.extraction.chunks import ChunkedExtraction
from glue_lrs.simulation import Scene, Source

NUMBER = 30
SHIFTS = np.linspace(-0.5, 0.5, NUMBER)
KEYS = {"xstart": 33, "xstop": 38, "bkg_coeff": [[4.5], [22.5], [48.5], [66.5]]}
SCENE = Scene(sources=(Source(flux=0.1),), exposure_time=30.0, flat_error=0.0, seed=6)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glue_lrs.fitting.time_outliers._GROUP", 10)


@pytest.fixture(scope="module")
def image() -> SlitImage:
    return SCENE.calints(NUMBER, shifts=SHIFTS).image


def operator(image: SlitImage, **keys: object) -> Extract1D:
    return Extract1D.from_reference(None, image.exp_type, **KEYS | keys)


@pytest.mark.parametrize("kind", [None, "EXTENDED"])
def test_all_chunks_count_shifts_from_the_same_position(image: SlitImage, kind: str | None) -> None:
    """Also if the image gets another source type."""
    correcting = operator(image, drift="correct", source_type=kind, apply_apcorr=False)
    parts = list(ChunkedExtraction(correcting, image))
    assert [len(part.columns["FLUX"]) for part in parts] == [10, 10, 10]
    found = np.concatenate([part.times["SHIFT"] for part in parts])
    assert found == pytest.approx(SHIFTS, abs=0.005)
    whole = correcting.run(image, check=False)
    flux = np.concatenate([part.columns["FLUX"] for part in parts])
    np.testing.assert_allclose(flux, whole.columns["FLUX"], rtol=1e-7)


def test_the_findings_are_those_of_a_sample(
    image: SlitImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most twelve of thirty, which is a third of them, in the middle of each three."""
    monkeypatch.setattr("glue_lrs.extraction.chunks.CHECKED", 12)
    chunks = ChunkedExtraction(operator(image, time_outliers="replace"), image)
    expected = operator(image).run(replace(image, data=image.data[1::3], err=None,
        var_poisson=image.var_poisson[1::3], var_rnoise=image.var_rnoise[1::3],
        var_flat=image.var_flat[1::3], dq=image.dq[1::3], times=None,
    ), check=False)  # fmt: skip
    np.testing.assert_array_equal(chunks.sample.columns["FLUX"], expected.columns["FLUX"])
    assert set(chunks.sample.findings) <= set(chunks.findings)


def test_without_a_source_the_spectra_have_no_drift() -> None:
    empty = replace(SCENE, sources=(Source(flux=0.0),)).calints(20).image
    chunks = ChunkedExtraction(operator(empty), empty)
    assert "SHIFT" not in chunks[1].times.colnames
    (note,) = (one for one in chunks.findings if one.kind == "not_measured")
    assert note.text.startswith("the drift of the source could not be measured: ")
