"""Files and Python code that live extractions write."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glue_lrs import Background, Extraction, LRSError, Reference
from glue_lrs.errors import WriteError
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.spectra.columns import COLUMNS
from glue_lrs.viewers import LiveExtraction, open_extraction
from glue_lrs.viewers.live.product_figure import product_figure
from glue_lrs.viewers.live.regions import Region
from tests.helpers.images import correction, saved, slit
from tests.helpers.live import assert_repeats, ends

# --- files ---------------------------------------------------------------------------------------


def edits(live: LiveExtraction) -> dict[str, Callable[[], Any]]:
    return {
        "default": lambda: None,
        "moved": lambda: live.set([live.regions[0].moved(1.3)]),
        "tapered": lambda: live.set([live.regions[0].tapered("top", 1.5, *ends(live))]),
        "background": lambda: (
            live.set(replace(live.extract, background=Background(
                bkg_coeff=((1.0,), (5.0,)), bkg_fit="median", smoothing_length=3))),
            live.add_region("background", 24, 30.4),
        ),
        "source": lambda: (live.set([live.regions[0].moved(4)]), live.to_source()),
        "3 FWHM": lambda: (live.add_region("background", 24, 30.4), live.three_fwhm()),
        "best": lambda: (live.add_region("background", 24, 30.4), live.best_width()),
    }  # fmt: skip


NAMES = ["default", "moved", "tapered", "background", "source", "3 FWHM", "best"]


@pytest.mark.parity
@pytest.mark.parametrize("source_type", ["POINT", "EXTENDED"])
@pytest.mark.parametrize("edit", NAMES)
def test_the_pipeline_given_the_reference_returns_the_same(
    session, tmp_path, edit, source_type
) -> None:
    from tests.helpers import pipeline

    live = open_extraction(session, slit(source_type=source_type))
    write_apcorr(correction(), tmp_path / "apcorr.fits")
    live.load_apcorr(tmp_path / "apcorr.fits")
    edits(live)[edit]()
    live.save_reference(tmp_path / "mine.json")
    entry = Reference.read(tmp_path / "mine.json").entry(live.image.exp_type)
    theirs = pipeline.run(live.image, entry, tmp_path, apcorr=tmp_path / "apcorr.fits")
    tolerance = 5e-6 if edit == "background" else 1e-9  # smoothing is done in single precision
    assert pipeline.disagreements(live.extraction.columns, theirs.columns, tolerance) == []
    assert np.isfinite(theirs.columns["FLUX"]).all()


@pytest.mark.parity
def test_the_pipeline_reads_the_file(live: LiveExtraction, tmp_path: Path) -> None:
    from jwst.extract_1d.extract import run_extract1d

    from tests.helpers import pipeline

    live.set([live.regions[0].tapered("top", 1.5, *ends(live))])
    live.add_region("background", 24, 30.4)
    live.save_reference(tmp_path / "mine.json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the pipeline
        model = pipeline.to_model(live.image)
        out = run_extract1d(model, str(tmp_path / "mine.json"), "N/A")[0]
    flux = np.asarray(out.spec[0].spec_table["FLUX"])
    np.testing.assert_allclose(flux, live.extraction.columns["FLUX"], rtol=1e-9)


@pytest.mark.parity
def test_the_pipeline_returns_the_same_of_a_stack(stacked, tmp_path) -> None:
    from tests.helpers import pipeline

    stacked.set([Region("aperture", (31.2,), (40.0,)), Region("background", (3.0,), (20.0,))])
    stacked.save_reference(tmp_path / "mine.json")
    entry = Reference.read(tmp_path / "mine.json").entry(stacked.image.exp_type)
    image = replace(stacked.image, wavelength=np.asarray(stacked.image.wavelength))
    theirs = pipeline.run(image, entry, tmp_path, model_class="CubeModel")
    assert pipeline.disagreements(stacked.run_all().columns, theirs.columns, 1e-9) == []


def test_the_spectrum_is_written(live: LiveExtraction, tmp_path: Path) -> None:
    live.save_spectrum(tmp_path / "mine_x1d.fits")
    read = Extraction.read(tmp_path / "mine_x1d.fits")
    for name in COLUMNS:
        np.testing.assert_allclose(read.columns[name], live.extraction.columns[name], rtol=1e-6)


def test_the_spectra_of_all_integrations_are_written(stacked, tmp_path) -> None:
    stacked.integration = 2
    stacked.save_spectrum(tmp_path / "mine_x1dints.fits")
    read = Extraction.read(tmp_path / "mine_x1dints.fits")
    assert read.columns["FLUX"].shape[0] == 5
    np.testing.assert_allclose(read.columns["FLUX"], stacked.run_all().columns["FLUX"], rtol=1e-6)


def test_a_figure_is_written(live: LiveExtraction, tmp_path: Path) -> None:
    live.add_region("background", 24, 30)
    live.save_figure(tmp_path / "mine.png")
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_of_the_median_is_written(stacked, tmp_path) -> None:
    stacked.integration = None
    stacked.save_figure(tmp_path / "mine.png")
    assert (tmp_path / "mine.png").stat().st_size > 10000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("save_reference", "mine.json"),
        ("save_spectrum", "mine_x1d.fits"),
        ("save_figure", "mine.png"),
    ],
)
def test_a_file_is_overwritten_on_request_only(live, tmp_path, method, name) -> None:
    target = tmp_path / "out" / name
    with pytest.raises(WriteError, match="does not exist"):
        getattr(live, method)(target)
    target.parent.mkdir()
    target.write_text("precious")
    with pytest.raises(WriteError, match="exists"):
        getattr(live, method)(target)
    assert target.read_text() == "precious"
    getattr(live, method)(target, overwrite=True)
    assert target.read_bytes() != b"precious"
    assert os.listdir(target.parent) == [name]


# --- Python --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("edit", NAMES)
def test_python_reproduces_the_spectrum(live, apcorr, edit) -> None:
    assert_repeats(live)
    live.load_apcorr(apcorr)
    edits(live)[edit]()
    assert_repeats(live)
    assert "ApertureCorrection.read(" in live.python()


def test_python_reproduces_options_that_the_pipeline_does_not_have(live: LiveExtraction) -> None:
    live.set(
        replace(
            live.extract,
            position_offset=0.3,
            background=Background(bkg_coeff=((24.0,), (30.0,)), bkg_order=1),
            fixed_background=True,
            max_lost=0.1,
            subtract_background=True,
        )
    )
    assert_repeats(live)


@pytest.mark.parametrize("integration", [0, 3, None])
def test_python_reproduces_the_spectrum_of_a_stack(stacked, integration) -> None:
    stacked.integration = integration
    stacked.set([Region("aperture", (31.2,), (40.0,))])
    assert_repeats(stacked)


def test_python_needs_files(session, live) -> None:
    other = open_extraction(session, slit())
    with pytest.raises(LRSError, match="was not read from a file, expected one that a script can"):
        other.python()
    live.set(replace(live.extract, aperture_correction=correction()))
    with pytest.raises(LRSError, match="the aperture correction was not read from a file"):
        live.python()


def test_python_quotes_paths(session, tmp_path) -> None:
    folder = tmp_path / 'it\'s "mine"'
    folder.mkdir()
    live = open_extraction(session, saved(slit(), folder / "a_s2d.fits"))
    assert_repeats(live)


def test_the_figure_has_the_comparison_and_says_which_correction_was_applied(
    live: LiveExtraction, tmp_path: Path, apcorr: Path
) -> None:
    live.save_spectrum(tmp_path / "nod1_x1d.fits")
    live.load_comparison(tmp_path / "nod1_x1d.fits")
    axes = product_figure(live, live.extraction).axes
    (spectrum,) = (one for one in axes if one.get_ylabel().startswith("flux"))
    (line,) = (one for one in spectrum.lines if one.get_label() == "nod1_x1d.fits")
    np.testing.assert_allclose(line.get_ydata()[::-1], spectrum.lines[0].get_ydata())
    assert spectrum.get_title(loc="left") == "no aperture correction: no APCORR reference"
    live.load_apcorr(apcorr)
    live.actions.set_noise("empirical")
    live.load_comparison(None)
    axes = product_figure(live, live.extraction).axes
    (spectrum,) = (one for one in axes if one.get_ylabel().startswith("flux"))
    title = spectrum.get_title(loc="left")
    assert title.startswith("aperture correction × 1.")
    assert title.endswith("; empirical errors")
    assert "nod1_x1d.fits" not in [one.get_label() for one in spectrum.lines]
