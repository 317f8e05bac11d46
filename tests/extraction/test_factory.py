"""Optimal extraction and bad-pixel correction through `Extract1D`."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glue_lrs import Extract1D, LRSError, LRSWarning, SlitImage
from glue_lrs.errors import ApertureError, ReferenceFileError, SourceError
from glue_lrs.extraction.optimal import OptimalExtractor
from glue_lrs.extraction.rerun import rerun
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.io.psf import write_psf
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.simulation.bounds import TrueProfile
from glue_lrs.simulation.optics import PSF
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source
from glue_lrs.simulation.truth import Simulated
from glue_lrs.spectra.columns import COLUMNS
from glue_lrs.spectra.extraction import Extraction

WAVES = np.linspace(2.5, 14.6, 60)


@pytest.fixture(scope="module")
def psf() -> PSFProfile:
    return PSFProfile.sampled(TrueProfile(PSF(), 0.0), WAVES)


@pytest.fixture(scope="module")
def nod() -> Simulated:
    return Scene(seed=3, sources=(Source(flux=2e-3, halo=0.0),), bad_fraction=0.02).s2d(1)


def make(**changes: Any) -> Extract1D:
    return Extract1D.from_reference(None, FIXED_SLIT, **changes)


def equal(one: Extraction, other: Extraction) -> None:
    for name in COLUMNS:
        np.testing.assert_array_equal(one.columns[name], other.columns[name], err_msg=name)


def bias(extraction: Extraction, simulated: Simulated) -> float:
    """Return the ratio of extracted to true flux, summed over rows."""
    first = extraction.keywords["EXTRYSTR"] - 1
    true = simulated.truth.flux[first : first + extraction.columns["FLUX"].size]
    known = np.isfinite(extraction.columns["FLUX"]) & np.isfinite(true)
    return float(extraction.columns["FLUX"][known].sum() / true[known].sum()) - 1.0


def test_without_a_psf_the_profile_is_fitted(nod: Simulated) -> None:
    operator = make(extraction_type="optimal")
    assert operator.mode == "learned"
    made = operator.run(nod.image)
    equal(made, OptimalExtractor().run(nod.image))
    assert abs(bias(made, nod)) < 0.002
    spectrum = operator(nod.image)
    assert spectrum.flux.unit == "Jy"
    assert spectrum.meta["glue_lrs"]["parameters"]["options"]["optimal_mode"] == "learned"


def test_with_a_psf_the_mode_is_pipeline_or_psf(nod: Simulated, psf: PSFProfile) -> None:
    pipelines = make(extraction_type="optimal", psf=psf)
    ours = make(extraction_type="optimal", psf=psf, optimal_mode="psf")
    learned = make(extraction_type="optimal", psf=psf, optimal_mode="learned")
    assert [one.mode for one in (pipelines, ours, learned)] == ["pipeline", "psf", "learned"]
    with pytest.warns(LRSWarning, match="a negative trace is not modelled"):
        pipeline = pipelines.run(nod.image)
    assert "shift" in pipeline.provenance["position"]
    fitted = ours.run(nod.image)
    assert abs(bias(fitted, nod)) < 0.002
    equal(fitted, OptimalExtractor(profile=psf).run(nod.image))
    equal(learned.run(nod.image), OptimalExtractor().run(nod.image))
    # Equal weights reduce the signal to noise even of this bright source.
    better = np.nanmedian(pipeline.columns["FLUX_ERROR"] / fitted.columns["FLUX_ERROR"])
    assert better > 1.0


def test_parameters_round_trip(nod: Simulated, psf: PSFProfile) -> None:
    for operator in (
        make(extraction_type="optimal", model_nod_pair=False),
        make(extraction_type="optimal", psf=psf, optimal_mode="psf", optimize_psf_location=False),
        make(extraction_type="optimal", psf=psf),
        make(bad_pixels="profile", apply_apcorr=False),
    ):
        stored = json.loads(json.dumps(operator.parameters))
        again = Extract1D.from_parameters(stored, psf=operator.psf)
        assert again.mode == operator.mode
        assert again.parameters == operator.parameters
        assert replace(again, optimal_mode=operator.optimal_mode) == operator


@pytest.mark.slow
def test_an_extraction_can_be_repeated_from_its_file(
    nod: Simulated, psf: PSFProfile, tmp_path: Path
) -> None:
    nod.image.write(tmp_path / "a_s2d.fits")
    write_psf(psf, tmp_path / "psf.fits")
    image = SlitImage.read(tmp_path / "a_s2d.fits")
    optimal = {"extraction_type": "optimal"}
    for number, operator in enumerate(
        (
            make(**optimal),
            make(**optimal, psf=tmp_path / "psf.fits", optimal_mode="psf"),
            make(bad_pixels="profile", apply_apcorr=False),
        )
    ):
        made = operator.run(image)
        made.write(tmp_path / f"{number}_x1d.fits")
        stored = Extraction.read(tmp_path / f"{number}_x1d.fits").provenance
        equal(rerun(stored), made)
    write_psf(replace(psf, data=psf.data * 2), tmp_path / "psf.fits", overwrite=True)
    with pytest.raises(LRSError, match=r"psf\.fits: the PSF reference has SHA-256 .*, expected"):
        rerun(Extraction.read(tmp_path / "1_x1d.fits").provenance)
    in_memory = make(**optimal, psf=psf, optimal_mode="psf").run(image)
    with pytest.raises(LRSError, match="PSF profile was not read from a file, expected it as psf="):
        rerun(in_memory.provenance)
    equal(rerun(in_memory.provenance, psf=psf), in_memory)


def test_flux_lost_to_bad_pixels_is_restored(nod: Simulated) -> None:
    image, truth = nod.image, nod.truth
    rows = np.arange(40, 360, 20)
    data = image.data.copy()
    data[rows, np.round(truth.column[rows]).astype(int)] = np.nan
    spoilt = replace(image, data=data)
    box, corrected = make(apply_apcorr=False), make(apply_apcorr=False, bad_pixels="profile")
    complete = box.run(replace(image, dq=None))
    with pytest.warns(LRSWarning, match="bad pixels reduce the aperture"):
        lost = box.run(spoilt)
    made = corrected.run(spoilt)
    first = complete.keywords["EXTRYSTR"] - 1
    there = complete.lost_fraction[rows - first] < 1e-6
    at = rows[there] - first
    ratio = made.columns["FLUX"][at] / complete.columns["FLUX"][at]
    assert (lost.columns["FLUX"][at] / complete.columns["FLUX"][at] < 0.95).all()
    assert abs(ratio.mean() - 1) < 0.01
    assert (made.columns["FLUX_ERROR"][at] > complete.columns["FLUX_ERROR"][at]).all()
    assert "restored from the profile" in made.findings[-1].text


@pytest.mark.slow
def test_the_aperture_selects_the_source(psf: PSFProfile) -> None:
    """The fainter of two sources; the header points to the brighter one."""
    sources = (Source(flux=2e-3, halo=0.0), Source(flux=5e-4, position=1.2, halo=0.0))
    made = Scene(seed=5, sources=sources, bad_fraction=0.01).s2d(1)
    column = float(made.truth.column[190]) + 1.2 / 0.11
    for extra in ({}, {"psf": psf, "optimal_mode": "psf"}):
        fainter = make(
            extraction_type="optimal",
            use_source_posn=False,
            xstart=column - 4.5,
            xstop=column + 3.0,
            **extra,
        ).run(made.image)
        found = fainter.provenance["position"]["column"]
        assert found == pytest.approx(column, abs=0.05)
        assert np.nanmedian(fainter.columns["FLUX"]) == pytest.approx(5e-4, rel=0.03)
        brighter = make(extraction_type="optimal", **extra).run(made.image)
        assert np.nanmedian(brighter.columns["FLUX"]) == pytest.approx(2e-3, rel=0.03)


@pytest.mark.slow
def test_an_offset_is_relative_to_the_position_in_the_header() -> None:
    sources = (Source(flux=2e-3, halo=0.0), Source(flux=1e-3, position=1.1, halo=0.0))
    made = Scene(seed=6, sources=sources).s2d(1)
    found = make(extraction_type="optimal", position_offset=9.5).run(made.image)
    assert found.provenance["position"]["column"] == pytest.approx(
        float(made.truth.column[190]) + 10.0, abs=0.02
    )
    np.testing.assert_allclose(np.nanmedian(found.columns["FLUX"]), 1e-3, rtol=0.02)


@pytest.mark.parametrize("with_psf", [False, True])
@pytest.mark.parametrize("offset", [8.0, -9.0])
def test_an_offset_without_a_source_is_an_error(
    offset: float, with_psf: bool, psf: PSFProfile
) -> None:
    """The fit must not converge to another source and return its flux."""
    made = Scene(seed=6, sources=(Source(flux=2e-3, halo=0.0),)).s2d(1)
    changes = {"psf": psf, "optimal_mode": "psf"} if with_psf else {}
    operator = make(extraction_type="optimal", position_offset=offset, **changes)
    with pytest.raises(SourceError, match=r"no source at column .* at column 13"):
        operator.run(made.image)


def test_errors_of_a_model_name_parameters_of_the_operator(nod: Simulated) -> None:
    """The viewers show the residual of a model also for a box."""
    operator = make(xstart=20, xstop=25, use_source_posn=False, apply_apcorr=False)
    text = r"this is the middle of the aperture.* \(optimize_psf_location=False extracts"
    with pytest.raises(SourceError, match=text):
        operator.fit_model(nod.image)


def test_parameters_without_effect_warn(nod: Simulated, psf: PSFProfile) -> None:
    regions = {"bkg_coeff": [[0.5], [4.5]], "fixed_background": True}
    operator = make(extraction_type="optimal", bkg_fit="median", smoothing_length=5, **regions)
    with pytest.warns(LRSWarning, match="bkg_fit 'median' and smoothing_length have no effect"):
        operator.run(nod.image)
    operator = make(extraction_type="optimal", psf=psf, max_lost=0.1, model_nod_pair=False)
    with pytest.warns(LRSWarning, match="max_lost has no effect in the pipeline's"):
        operator.run(nod.image)
    make(extraction_type="optimal", bkg_order=1, **regions).run(nod.image)  # without a warning


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s2d", "cal", "calints"])
def test_wavelengths_are_those_of_their_rows(kind: str, psf: PSFProfile) -> None:
    """Negative wings of a fitted profile do not affect the mean wavelength."""
    scene = Scene(seed=4, sources=(Source(flux=3e-4),), background_slope=0.1, bad_fraction=0.02)
    image = {"s2d": scene.s2d, "cal": scene.cal, "calints": scene.calints}[kind](2).image
    keys: dict[str, Any] = {"extraction_type": "optimal", "model_nod_pair": False}
    for more in ({}, {"psf": psf}, {"psf": psf, "optimal_mode": "psf"}):
        operator = Extract1D.from_reference(None, image.exp_type, **keys, **more)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LRSWarning)
            made = operator.run(image)
        first = made.keywords["EXTRYSTR"] - 1
        rows = image.wavelength[first : first + made.columns["WAVELENGTH"].shape[-1]]
        low, high = np.nanmin(rows, axis=1), np.nanmax(rows, axis=1)
        found = np.atleast_2d(made.columns["WAVELENGTH"])
        assert (found >= low - 1e-6).all()
        assert (found <= high + 1e-6).all()


def test_fit_returns_the_model(nod: Simulated, psf: PSFProfile) -> None:
    result = make(extraction_type="optimal").fit(nod.image)
    equal(result.extractions[0], make(extraction_type="optimal").run(nod.image))
    pulls = result.normalised_residual()
    pulls = pulls[np.isfinite(pulls)]
    assert pulls.size > 10_000
    assert 0.95 < pulls.std() < 1.05
    assert result.image is nod.image
    with pytest.raises(ReferenceFileError, match="of the kind 'box', expected an optimal one"):
        make(apply_apcorr=False).fit(nod.image)
    with pytest.raises(ReferenceFileError, match="of the kind 'pipeline'"):
        make(extraction_type="optimal", psf=psf).fit(nod.image)


def test_a_reference_cannot_contain_optimal_parameters(psf: PSFProfile) -> None:
    with pytest.raises(ReferenceFileError, match="run the step with --extraction_type=optimal"):
        make(extraction_type="optimal", psf=psf).to_reference()
    with pytest.raises(ReferenceFileError, match="optimal_mode 'learned', which the pipeline"):
        make(extraction_type="optimal").to_reference()
    with pytest.raises(ReferenceFileError, match="bad_pixels 'profile', which the pipeline"):
        make(bad_pixels="profile", apply_apcorr=False).to_reference(None)


def test_invalid_parameters_are_errors(psf: PSFProfile) -> None:
    box = make(apply_apcorr=False)
    for changes, match in (
        ({"extraction_type": "square"}, "extraction_type is 'square', expected 'box' or 'optimal'"),
        ({"psf": "psf.fits"}, "psf is a str, expected a PSFProfile"),
        ({"psf": psf, "model_nod_pair": 1}, "model_nod_pair is 1, expected true or false"),
    ):
        with pytest.raises(ReferenceFileError, match=match):
            replace(box, **changes)
    with pytest.raises(LRSError, match="psf is a int, expected a path, a PSFProfile or None"):
        make(psf=3)


def test_an_aperture_away_from_the_source_is_an_error() -> None:
    image = replace(Scene(seed=1).s2d(1).image, source_type=None)
    text = (
        r"no source at column 30\.5.*the middle of the aperture, which stays where it is: expected "
        r"xstart and xstop.*optimize_psf_location=False extracts.*use_source_posn=True moves it"
    )
    with pytest.raises(SourceError, match=text):
        Extract1D.from_reference(None, image.exp_type, extraction_type="optimal").run(image)


@pytest.mark.parametrize(
    "keys", [{"position_offset": 500.0}, {"use_source_posn": False, "xstart": 100, "xstop": 110}]
)
def test_an_aperture_off_the_image_is_an_error(keys: dict[str, Any]) -> None:
    image = Scene(seed=1).s2d(1).image
    operator = Extract1D.from_reference(None, image.exp_type, extraction_type="optimal", **keys)
    with pytest.raises(ApertureError, match="has no pixel on the image"):
        operator.run(image)


def test_the_fit_is_on_the_scale_of_the_aperture_correction() -> None:
    """`fit` and `run` give the same flux, also with an aperture correction."""
    made = Scene(seed=3, sources=(Source(flux=1e-3),))
    image = made.s2d(1).image
    correction = made.aperture_correction()
    operator = Extract1D.from_reference(
        None, FIXED_SLIT, extraction_type="optimal", apcorr=correction
    )
    run, fit = operator.run(image), operator.fit(image)
    assert fit.corrected
    for name in ("FLUX", "FLUX_ERROR"):
        np.testing.assert_array_equal(fit.extractions[0].columns[name], run.columns[name])
    extended = replace(operator, source_type="EXTENDED", use_source_posn=True)
    other = replace(extended, aperture_correction=made.aperture_correction("SLITLESSPRISM"))
    with pytest.warns(LRSWarning, match="assumes a point source"):
        other.run(image)  # the correction is not applied


def test_a_fitted_profile_extracts_the_same_flux_again() -> None:
    """All of the profile is used, and the trace is fitted."""
    image = Scene(seed=3, sources=(Source(flux=2e-3),), trace_error=(0.0, 0.3)).s2d(1).image
    learned = OptimalExtractor().fit(image)
    again = OptimalExtractor(profile=learned.profile).fit(image)
    first, second = (one.extractions[0].columns["FLUX"] for one in (learned, again))
    good = np.isfinite(first) & np.isfinite(second)
    np.testing.assert_allclose(second[good], first[good], rtol=1e-3)
    np.testing.assert_allclose(again.traces[0][5:-5], learned.traces[0][5:-5], atol=0.01)
    assert np.abs(learned.profile.coefficients).max() > 0.1  # type: ignore[attr-defined]
