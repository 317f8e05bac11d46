"""The pipeline-equal optimal extraction against the pipeline's own code, with a PSF reference."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jwst.extract_1d import psf_profile
from jwst.extract_1d.source_location import location_from_wcs, middle_from_wcs, trace_from_wcs

from glue_lrs import Extract1D, LRSWarning
from glue_lrs.apertures.placement import Placement
from glue_lrs.extraction.factory import extractor_for
from glue_lrs.extraction.pipeline_optimal import PipelineOptimalExtractor
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.io.psf import read_psf, write_psf
from glue_lrs.profiles.gaussian import GaussianProfile
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source
from tests.helpers import pipeline

TOLERANCE = 1e-9
to_model = pipeline.to_model


def nod_model(image: SlitImage, model_class: str | None = None) -> Any:
    """The pipeline's data model, with what it looks for where it models a negative trace."""
    model = to_model(image, model_class)
    meta, header, sci = model.meta, image.header, image.sci_header
    meta.cal_step.bkg_subtract = header.get("S_BKDSUB")
    meta.dither.primary_type = header.get("PATTTYPE")
    meta.dither.x_offset, meta.dither.y_offset = header.get("XOFFSET"), header.get("YOFFSET")
    meta.wcsinfo.v3yangle, meta.wcsinfo.vparity = sci.get("V3I_YANG"), sci.get("VPARITY")
    meta.wcsinfo.v2_ref, meta.wcsinfo.v3_ref = sci.get("V2_REF"), sci.get("V3_REF")
    return model


@dataclass(frozen=True, kw_only=True)
class WithPipelineTrace(PipelineOptimalExtractor):
    """Ours with the pipeline's own trace, which lies some rows off on a cal."""

    def trace(self, image: SlitImage, placement: Placement) -> np.ndarray | None:
        if placement.position is None:
            return None
        trace = location_from_wcs(pipeline.to_model(image, "ImageModel"), None)[3]
        return trace + self.placement.position_offset

    def middle_trace(self, image: SlitImage) -> np.ndarray:
        model = pipeline.to_model(image, "ImageModel")
        wcs, box = model.meta.wcs, model.meta.wcs.bounding_box
        row, column, _ = middle_from_wcs(wcs, box, 2)
        return trace_from_wcs(image.exp_type, image.shape, box, wcs, column, row, 2)


@dataclass
class Fits:
    """What the pipeline's optimizer was asked and what it found."""

    cost: list[Callable[..., float]] = field(default_factory=list)
    best: list[np.ndarray] = field(default_factory=list)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    seen = Fits()
    minimize = psf_profile.optimize.minimize

    class Recorder:
        @staticmethod
        def minimize(function: Any, start: Any, args: Any, method: str) -> Any:
            found = minimize(function, start, args, method=method)
            seen.cost.append(lambda shifts: function(shifts, *args))
            seen.best.append(found.x)
            return found

    monkeypatch.setattr(psf_profile, "optimize", Recorder)
    monkeypatch.setattr(pipeline, "to_model", nod_model)
    return seen


@pytest.fixture
def reference(tmp_path: Path) -> tuple[Path, PSFProfile]:
    """A PSF reference with a width of its own, a lop-sided one, through a file."""
    made = PSFProfile.sampled(
        GaussianProfile(factor=(1.1, 0.05)), np.linspace(2.2, 14.6, 50), subpix=7.0, reach=26.0
    )
    tilt = 1.0 + 0.02 * np.linspace(-1.0, 1.0, made.data.shape[1])
    path = tmp_path / "psf.fits"
    write_psf(replace(made, data=3.0 * made.data * tilt), path)
    return path, read_psf(path)


IMAGES: dict[str, Callable[[Scene], SlitImage]] = {
    "s2d": lambda scene: scene.s2d(1).image,
    "s2d whole": lambda scene: replace(scene, bad_fraction=0.0).s2d(2, edges=False).image,
    "cal": lambda scene: scene.cal(2, full_frame=False).image,
    "cal full": lambda scene: scene.cal(1).image,
    "calints": lambda scene: scene.calints(3).image,
    "slit calints": lambda scene: scene.slit_calints(2).image,
    "tilted": lambda scene: tilted(scene.cal(1, full_frame=False).image),
    "uncalibrated": lambda scene: scene.s2d(1, calibrated=False).image,
}
BACKGROUNDS: dict[str, dict[str, Any]] = {
    "none": {},
    "constant": {"bkg_coeff": [[0.5], [4.5], [36.5], [42.5]]},
    "line": {"bkg_coeff": [[0.5], [4.5], [36.5], [42.5]], "bkg_order": 1},
    "parabola": {"bkg_coeff": [[1.2], [5.5]], "bkg_order": 2},
    "median": {"bkg_coeff": [[1.2], [5.5]], "bkg_fit": "median"},
}


def tilted(image: SlitImage) -> SlitImage:
    """Wavelengths that change along a row."""
    slope = 0.003 * np.arange(image.shape[1])
    return replace(image, wavelength=(image.wavelength + slope).astype(np.float32))


def scene(seed: int, **changes: Any) -> Scene:
    return Scene(**{"seed": seed, "bad_fraction": 0.01, "background_drift": 0.05} | changes)


def both(
    image: SlitImage, entry: dict[str, Any], psf: tuple[Path, PSFProfile], folder: Path, **step: Any
) -> tuple[Any, Any, PipelineOptimalExtractor]:
    """The pipeline's result, ours, and our operator."""
    theirs = pipeline.run(
        image, entry, folder, psf_ref_name=str(psf[0]), extraction_type="optimal", **step
    )
    own = {key: step.pop(key) for key in ("model_nod_pair", "optimize_psf_location")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        extract = Extract1D.from_reference(
            {"apertures": [{"id": image.exp_type, **entry}]},
            image.exp_type,
            psf=psf[1],
            extraction_type="optimal",
            **own,
            **step,
        )
        operator = extractor_for(extract, image)
        assert isinstance(operator, PipelineOptimalExtractor)
        if image.kind == "cal":
            operator = WithPipelineTrace(
                **{field.name: getattr(operator, field.name) for field in fields(operator)}
            )
            return theirs, operator.run(image), operator
        return theirs, extract.run(image), operator


def disagreements(ours: Any, theirs: Any, tolerance: float = TOLERANCE) -> list[str]:
    """As for the box; but the pipeline's background errors are NaN where a row has a bad pixel."""
    judge = dict(theirs.columns)
    for name in judge:
        if name.startswith("BKGD_"):
            gone = np.isnan(judge[name])
            assert np.isfinite(ours.columns[name][gone & ~ours.mask]).all()
            judge[name] = np.where(gone, ours.columns[name], judge[name])
    found = pipeline.disagreements(ours.columns, judge, tolerance)
    for key, value in theirs.keywords.items():
        mine = ours.keywords.get(key)
        if isinstance(value, float):
            if not np.isclose(mine, value, rtol=1e-9, atol=1e-9):
                found.append(f"{key}: {mine}, the pipeline {value}")
        elif mine != value:
            found.append(f"{key}: {mine!r}, the pipeline {value!r}")
    return found


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_equal_at_the_same_position(
    kind: str, background: str, fits: Fits, reference: Any, tmp_path: Path
) -> None:
    number = 10 * list(IMAGES).index(kind) + list(BACKGROUNDS).index(background)
    image = IMAGES[kind](scene(number))
    entry = {"xstart": 9, "xstop": 17, **BACKGROUNDS[background]}
    step: dict[str, Any] = {"model_nod_pair": number % 3 > 0, "optimize_psf_location": False}
    if number % 4 == 0:
        step["position_offset"] = 0.37
    if background == "median":
        step["use_source_posn"] = False
        if kind == "cal full":  # the regions are not moved to where the slit is
            entry["bkg_coeff"] = [[edge[0] + 303.0] for edge in entry["bkg_coeff"]]
    elif number % 3:
        step["use_source_posn"] = True
    theirs, ours, _ = both(image, entry, reference, tmp_path, **step)
    assert not fits.best
    # A parabola over 1032 columns fitted to 44 of them: what the condition number of 1e8 leaves.
    ill = (kind, background) == ("cal full", "parabola")
    assert not disagreements(ours, theirs, 1e-6 if ill else TOLERANCE)
    assert np.isfinite(theirs.columns["FLUX"]).mean() > 0.9
    if kind == "s2d whole" and background != "none":
        assert np.isfinite(theirs.columns["BKGD_ERROR"]).all()  # so that it has been compared


def test_a_background_without_regions(fits: Fits, reference: Any, tmp_path: Path) -> None:
    step = {"model_nod_pair": False, "optimize_psf_location": False, "subtract_background": True}
    image = scene(3).s2d(1, subtract_nod=False).image
    theirs, ours, _ = both(image, {"xstart": 9, "xstop": 17}, reference, tmp_path, **step)
    assert not disagreements(ours, theirs)
    assert (theirs.columns["BACKGROUND"] > 1.0).sum() > 300


@pytest.mark.parametrize("kind", ["s2d", "cal", "slit calints", "calints"])
@pytest.mark.parametrize("seed", range(3))
def test_the_fitted_shift(kind: str, seed: int, fits: Fits, reference: Any, tmp_path: Path) -> None:
    """Within 1e-3 column of the pipeline's, at a cost that its own function finds no higher."""
    made = scene(seed, pointing_error=(-0.05, 0.02, 0.12)[seed])
    image = IMAGES[kind](made)
    entry = {"xstart": 9, "xstop": 17}
    step = {"model_nod_pair": False, "optimize_psf_location": True}
    if kind != "calints":
        step["use_source_posn"] = True
    theirs, ours, operator = both(image, entry, reference, tmp_path, **step)
    location = operator.locate(image, operator.placement.place(operator.aperture, image))
    (cost,), (best,) = fits.cost, fits.best
    assert location.shift == pytest.approx(best[0], abs=1e-3)
    assert cost([location.shift]) <= cost(best) * (1 + 1e-12)
    assert ours.provenance["position"]["shift"] == location.shift
    assert not disagreements(ours, theirs, 1e-3 if location.shift != best[0] else TOLERANCE)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("nod", [1, 2])
def test_the_negative_trace(
    nod: int, seed: int, fits: Fits, reference: Any, tmp_path: Path
) -> None:
    image = scene(seed, sources=(Source(flux=3e-3),)).cal(nod, full_frame=bool(seed % 2)).image
    step = {"model_nod_pair": True, "optimize_psf_location": True, "use_source_posn": True}
    theirs, ours, operator = both(image, {}, reference, tmp_path, **step)
    location = operator.locate(image, operator.placement.place(operator.aperture, image))
    (cost,), (best,) = fits.cost, fits.best
    assert best.size == 2  # both fitted one
    assert (location.shift, location.nod_offset) == pytest.approx(tuple(best), abs=1e-3)
    assert abs(location.nod_offset) == pytest.approx(1.97 / 0.11, abs=0.05)
    assert cost([location.shift, location.nod_offset]) <= cost(best) * (1 + 1e-12)
    assert not disagreements(ours, theirs, 1e-6)


def test_no_nod_is_modelled_where_the_header_has_none(
    fits: Fits, reference: Any, tmp_path: Path
) -> None:
    image = scene(1).cal(1, subtract_nod=False, full_frame=False).image
    step = {"model_nod_pair": True, "optimize_psf_location": False, "use_source_posn": True}
    theirs, ours, operator = both(image, {}, reference, tmp_path, **step)
    assert (
        operator.locate(image, operator.placement.place(operator.aperture, image)).nod_offset
        is None
    )
    assert not disagreements(ours, theirs)


def test_rows_without_a_pixel(fits: Fits, reference: Any, tmp_path: Path) -> None:
    image = scene(1).s2d(1).image
    data = image.data.copy()
    data[100] = np.nan
    data[200, :30] = np.nan
    image = replace(image, data=data)
    step = {"model_nod_pair": False, "optimize_psf_location": True, "use_source_posn": True}
    theirs, ours, _ = both(image, {}, reference, tmp_path, **step)
    assert not disagreements(ours, theirs, 1e-6)  # the shift's last digits
    assert np.isnan(ours.columns["FLUX"]).sum() >= 1
    assert (ours.columns["DQ"] == np.isnan(ours.columns["FLUX"])).all()
