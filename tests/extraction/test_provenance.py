"""Provenance: an extraction can be repeated from its record, or the error names the reason."""

from __future__ import annotations

import copy
import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glue_lrs import Extract1D, LRSError, LRSWarning, SlitImage
from glue_lrs.cli.summary import describe_file
from glue_lrs.errors import NoVariancesWarning
from glue_lrs.extraction.optimal import OptimalExtractor
from glue_lrs.extraction.rerun import rerun
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.io.psf import write_psf
from glue_lrs.profiles.gaussian import GaussianProfile
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.reference.schema import IN_MEMORY
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.provenance import check_record, same_recipe
from glue_lrs.viewers.live.script import python_lines

WAVES = np.linspace(2.5, 14.6, 60)
#: For tests that do not check warnings.
QUIET = pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning")
SCENE = Scene(seed=3, sources=(Source(flux=2e-3, halo=0.0),), bad_fraction=0.02)


@pytest.fixture(scope="module")
def s2d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "nod1_s2d.fits"
    SCENE.s2d(1).image.write(path)
    return path


@pytest.fixture(scope="module")
def psf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PSF reference with two profiles: that of the slit, and a broader one."""
    path = tmp_path_factory.mktemp("references") / "psf.fits"
    broad = GaussianProfile(factor=(1.3,))
    write_psf(
        [
            PSFProfile.sampled(GaussianProfile(), WAVES, name=FIXED_SLIT),
            PSFProfile.sampled(broad, WAVES, name="OTHER"),
        ],
        path,
    )
    return path


def make(**changes: Any) -> Extract1D:
    return Extract1D.from_reference(None, FIXED_SLIT, apply_apcorr=False, **changes)


def again(made: Extraction, folder: Path, **where: Any) -> Extraction:
    """Write an extraction, read it, and repeat it."""
    made.write(folder / "a_x1d.fits", overwrite=True)
    provenance = Extraction.read(folder / "a_x1d.fits").provenance
    assert provenance is not None
    return rerun(provenance, **where)


def equal(one: Extraction, other: Extraction) -> None:
    for name, values in one.columns.items():
        np.testing.assert_array_equal(values, other.columns[name], err_msg=name)


@QUIET
def test_a_replaced_aperture_correction(s2d: Path, tmp_path: Path) -> None:
    """The correction in use is recorded, not the one with which the operator was made."""
    image = SlitImage.read(s2d)
    correction = SCENE.aperture_correction()
    operator = replace(make(), aperture_correction=correction, apply_apcorr=True)
    assert dict(operator.references)["apcorr"] == IN_MEMORY
    made = operator.run(image)
    with pytest.raises(LRSError, match="was not read from a file, expected it as apcorr="):
        again(made, tmp_path)
    equal(again(made, tmp_path, apcorr=correction), made)
    without = replace(operator, aperture_correction=None)
    assert dict(without.references)["apcorr"] is None


@QUIET
@pytest.mark.parametrize("changes", [{"bad_pixels": "profile"}, {"optimal_mode": "psf"}])
def test_a_replaced_profile(changes: dict[str, Any], s2d: Path, psf: Path, tmp_path: Path) -> None:
    image, profile = SlitImage.read(s2d), PSFProfile.read(psf, FIXED_SLIT)
    kind = "box" if "bad_pixels" in changes else "optimal"
    operator = replace(make(), extraction_type=kind, psf=profile, **changes)
    made = operator.run(image)
    equal(again(made, tmp_path), made)
    memory = replace(operator, psf=replace(profile, filename=None)).run(image)
    with pytest.raises(LRSError, match="was not read from a file, expected it as psf="):
        again(memory, tmp_path)
    equal(again(memory, tmp_path, psf=profile), made)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*of the pixels on the source were rejected")
def test_the_profile_of_another_slit(s2d: Path, psf: Path, tmp_path: Path) -> None:
    image = SlitImage.read(s2d)
    changes = {"extraction_type": "optimal", "optimal_mode": "psf"}
    other = make(psf=PSFProfile.read(psf, "OTHER"), **changes).run(image)
    own = make(psf=psf, **changes).run(image)
    assert np.nanmax(np.abs(other.columns["FLUX"] / own.columns["FLUX"] - 1.0)) > 0.01
    equal(again(other, tmp_path), other)
    equal(again(own, tmp_path), own)


@QUIET
@pytest.mark.parametrize("key", ["model_nod_pair", "optimize_psf_location"])
def test_the_bad_pixel_correction_is_recorded(key: str, s2d: Path, tmp_path: Path) -> None:
    operator = make(bad_pixels="profile", **{key: False})
    parameters = operator.parameters
    assert parameters["step"][key] is False
    assert Extract1D.from_parameters(parameters) == operator
    made = operator.run(SlitImage.read(s2d))
    equal(again(made, tmp_path), made)


def test_errors_name_the_missing_input(s2d: Path, tmp_path: Path) -> None:
    made = OptimalExtractor().run(SlitImage.read(s2d))
    with pytest.raises(LRSError, match="made by OptimalExtractor, whose"):
        again(made, tmp_path)


@QUIET
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bad_pixels": "profile"},
        {"extraction_type": "optimal"},
        {"extraction_type": "optimal", "psf": "given", "optimal_mode": "psf"},
        {"extraction_type": "optimal", "psf": "given", "optimal_mode": "pipeline"},
    ],
)
def test_an_image_without_variances(changes: dict[str, Any], psf: Path) -> None:
    """The errors are 0, as in the pipeline, which needs a warning."""
    if "psf" in changes:
        changes = changes | {"psf": psf}
    image = replace(SCENE.s2d(1).image, var_poisson=None, var_rnoise=None, var_flat=None)
    # The pipeline's fit of the position needs VAR_RNOISE.
    fits = changes.get("optimal_mode") != "pipeline"
    operator = make(optimize_psf_location=fits, **changes)
    with pytest.warns(
        LRSWarning, match="there are no variances .* the errors are unknown"
    ) as caught:
        made = operator.run(image)
    assert sum("no variances" in str(one.message) for one in caught) == 1
    error = made.columns["FLUX_ERROR"]
    assert not (error[np.isfinite(error)] > 0).any()


@QUIET
def test_an_extended_source_is_not_a_point_source(psf: Path) -> None:
    image = replace(SCENE.s2d(1).image, source_type="EXTENDED")
    for changes in ({}, {"psf": psf, "optimal_mode": "psf"}):
        operator = make(
            extraction_type="optimal", use_source_posn=True, xstart=9, xstop=17, **changes
        )
        with pytest.warns(LRSWarning, match="SRCTYPE is EXTENDED, but an optimal extraction"):
            operator.run(image)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(use_source_posn=True, xstart=9, xstop=17).run(image)
    assert not any("EXTENDED" in str(one.message) for one in caught)


def test_parameters_without_effect_warn(psf: Path) -> None:
    image = SCENE.s2d(1).image
    operator = make(extraction_type="optimal", ystart=100, ystop=200)
    with pytest.warns(LRSWarning, match="ystart and ystop have no effect"):
        operator.run(image)
    with pytest.warns(LRSWarning, match="a PSF reference has no effect on a box"):
        make(psf=psf)
    with warnings.catch_warnings():  # a requested background is fitted
        warnings.simplefilter("error")
        fitted = make(extraction_type="optimal", subtract_background=True)
    assert np.nanmax(np.abs(fitted.run(image).columns["BACKGROUND"])) > 0
    with pytest.warns(LRSWarning, match="is a constant that is fitted .*; bkg_order has no effect"):
        make(extraction_type="optimal", bkg_order=2)


@pytest.mark.parametrize("given", ["a_x1d.fits", None])
def test_only_a_provenance_is_repeated(given: str | None) -> None:
    with pytest.raises(LRSError, match=r"provenance is a .*, expected that of a spectrum"):
        rerun(given)  # type: ignore[arg-type]


def _other_wcs(image: SlitImage) -> Any:
    return SCENE.s2d(2).image.wcs_source


#: Changes of an image in memory.
CHANGES: dict[str, Any] = {
    "data": lambda image: image.data - 1.0,
    "dq": lambda image: np.full(image.data.shape, 4, np.uint32),
    "wavelength": lambda image: np.asarray(image.wavelength) + 0.01,
    "var_rnoise": lambda image: None,
    "source_type": lambda image: "EXTENDED",
    "source_dec": lambda image: image.source_dec + 1e-5,
    "pixel_area": lambda image: 2.0 * image.pixel_area,
    "wcs_source": _other_wcs,
}


@QUIET
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_image_is_not_that_of_its_file(name: str, s2d: Path, tmp_path: Path) -> None:
    image = SlitImage.read(s2d)
    assert image.changed == ()
    other = replace(image, **{name: CHANGES[name](image)})
    assert other.changed == (name,)
    assert pickle.loads(pickle.dumps(other)).changed == (name,)
    assert copy.deepcopy(other).changed == (name,)
    made = make().run(other)
    with pytest.raises(LRSError, match=rf"changed in memory after it was read \({name}\)"):
        again(made, tmp_path)
    described = " ".join(describe_file(str(tmp_path / "a_x1d.fits"))[1].split())
    assert f"changed in memory ({name})" in described
    with pytest.raises(LRSError, match="changed in memory"):
        python_lines(make(), other)
    other.write(tmp_path / "other_s2d.fits")  # an image in a file of its own can be repeated
    again(make().run(SlitImage.read(tmp_path / "other_s2d.fits")), tmp_path)


@QUIET
@pytest.mark.parametrize("copied", [False, True])
def test_values_assigned_to_pixels_are_noticed(copied: bool, s2d: Path, tmp_path: Path) -> None:
    image = SlitImage.read(s2d)
    image = copy.deepcopy(image) if copied else image
    equal(again(make().run(image), tmp_path), make().run(image))
    image.data[200] += 5.0
    with pytest.raises(LRSError, match="changed in memory before it was extracted"):
        again(make().run(image), tmp_path)


@QUIET
def test_a_part_of_a_stack_is_not_its_file(tmp_path: Path) -> None:
    SCENE.calints(3).image.write(tmp_path / "a_calints.fits")
    stack = SlitImage.read(tmp_path / "a_calints.fits")
    operator = Extract1D.from_reference(None, stack.exp_type, apply_apcorr=False)
    equal(again(operator.run(stack), tmp_path), operator.run(stack))
    for part in (stack.integration(1), stack.median()):
        with pytest.raises(LRSError, match=r"changed in memory after it was read \(data"):
            again(operator.run(part), tmp_path)


def test_missing_variances_are_reported_for_a_changed_image(s2d: Path) -> None:
    """The reader reported none, because the file has them."""
    image = replace(SlitImage.read(s2d), var_poisson=None, var_rnoise=None, var_flat=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make().run(image)
    assert any(issubclass(one.category, NoVariancesWarning) for one in caught)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": None}, "the provenance has no parameters of an extraction"),
        ({"parameters": {"reference": 3}}, "the provenance has an invalid value of 'parameters'"),
        ({"references": {"apcorr": 1.5}}, "the provenance has an invalid value of 'references'"),
        ({"input": {"filename": 3}}, "the provenance has an invalid value of 'input'"),
        ({"input": {}}, "the image has no recorded file name"),
        ({"findings": "text"}, "the provenance has an invalid value of 'findings'"),
        ({"findings": [{"kind": 3}]}, "the provenance has an invalid value of 'findings'"),
        ({"findings": [{"hints": [3]}]}, "the provenance has an invalid value of 'findings'"),
        (
            {"findings": [{"hints": [["give {}", []]]}]},
            "the provenance has an invalid value of 'findings'",
        ),
    ],
)
def test_records_of_a_wrong_type_are_refused_in_one_line(
    change: dict[str, Any], message: str
) -> None:
    record = {"parameters": {"reference": {"id": "ANY"}}, "references": {}, "input": None}
    with pytest.raises(LRSError, match=message) as caught:
        rerun(record | change)
    assert "\n" not in str(caught.value)


def test_recipes_are_the_same_if_the_results_are() -> None:
    one = {
        "parameters": {"options": {"max_lost": 0.5}},
        "references": {"apcorr": {"filename": "a.fits", "sha256": "1"}},
        "input": {"filename": "x.fits", "sha256": "2"},
        "versions": {"numpy": "2.0"},
        "date": "2026-01-01", "findings": [],
    }  # fmt: skip
    moved = {"filename": "y.fits", "sha256": "2"}
    assert same_recipe(one, one | {"input": moved, "date": "2026-02-01"})
    for changed in (
        {"parameters": {"options": {"max_lost": 0.4}}},
        {"references": {"apcorr": {"filename": "a.fits", "sha256": "9"}}},
        {"input": moved | {"sha256": "9"}},
        {"inputs": [moved]},
        {"versions": {"numpy": "2.1"}},
    ):
        assert not same_recipe(one, one | changed)
    unknown = {"filename": "x.fits", "sha256": None}  # the name counts then
    assert same_recipe(one | {"input": unknown}, one | {"input": unknown})
    assert not same_recipe(one | {"input": unknown}, one | {"input": unknown | moved})
    assert not same_recipe(
        one | {"input": unknown}, one | {"input": unknown | {"filename": "y.fits"}}
    )


def test_records_of_combinations_have_types_of_their_own() -> None:
    check_record({"parameters": {"clip": 3.0}, "inputs": [{"integration": 1}]}, combined=True)
    with pytest.raises(LRSError, match="invalid value of 'parameters'"):
        check_record({"parameters": {"clip": 3.0}}, combined=False)
    with pytest.raises(LRSError, match="invalid value of 'inputs'"):
        check_record({"inputs": [{"integration": "first"}]}, combined=True)
