"""Paths in place of images, and the line to which a warning points."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import glue_lrs
from glue_lrs import Background, Extract1D, OptimalExtractor, SlitImage
from glue_lrs.cli import main
from glue_lrs.errors import LRSWarning, ProductError, ReferenceFileError
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.measurement.curve_of_growth import measure_with_growth
from glue_lrs.reference.reference import Reference
from glue_lrs.simulation.scene import Scene

SCENE = Scene(seed=1, bad_fraction=0.0)
QUIET = pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning")


@pytest.fixture(scope="module")
def s2d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "a_s2d.fits"
    SCENE.s2d(1).image.write(path)
    return path


def make(**changes: Any) -> Extract1D:
    return Extract1D.from_reference(None, FIXED_SLIT, apply_apcorr=False, **changes)


@pytest.mark.slow
@QUIET
@pytest.mark.parametrize("as_path", [str, Path])
def test_a_path_in_place_of_an_image(as_path: Callable[[Path], Any], s2d: Path) -> None:
    image, path = SlitImage.read(s2d), as_path(s2d)
    operator, optimal = make(), make(extraction_type="optimal")
    flux = operator.run(image).columns["FLUX"]
    np.testing.assert_array_equal(operator.run(path).columns["FLUX"], flux)
    np.testing.assert_array_equal(operator(path).flux.value, operator(image).flux.value)
    found = optimal.fit(path).extractions[0].columns["FLUX"]
    np.testing.assert_array_equal(found, optimal.run(image).columns["FLUX"])
    assert operator.run(path).provenance["input"]["filename"] == str(s2d)  # type: ignore[index]
    assert OptimalExtractor().run(path).wavelength.size == flux.size
    assert glue_lrs.measure(path).fwhm.tolist() == glue_lrs.measure(image).fwhm.tolist()
    assert measure_with_growth(path)[1].best == measure_with_growth(image)[1].best


def test_other_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProductError, match="a list, expected a SlitImage or a Spectrum, or"):
        make().run([tmp_path])  # type: ignore[arg-type]
    with pytest.raises(ProductError, match=r"no_s2d.fits: does not exist"):
        make().run(tmp_path / "no_s2d.fits")


def _without_variances() -> SlitImage:
    return replace(SCENE.s2d(1).image, var_poisson=None, var_rnoise=None, var_flat=None)


def _nan_box() -> SlitImage:
    image = SCENE.s2d(1).image
    wcs = image.wcs
    assert wcs is not None
    with warnings.catch_warnings(action="ignore"):
        wcs.bounding_box = ((np.nan, 1.0), (0.0, 9.0))
    return replace(image, wcs_source=lambda: wcs)


#: Entry of a reference with a key that has no effect.
OLD_ENTRY = {"id": FIXED_SLIT, "xstart": 3, "xstop": 9, "nod2_offset": 4.5}

#: Functions that warn.
WARNINGS: dict[str, Callable[[], object]] = {
    "run": lambda: make().run(_without_variances()),
    "call": lambda: make()(_without_variances()),
    "optimal": lambda: make(extraction_type="optimal")(_without_variances()),
    "fit": lambda: make(extraction_type="optimal").fit(_without_variances()),
    "bad pixels": lambda: make(bad_pixels="profile").run(_without_variances()),
    "combine": lambda: glue_lrs.combine([_without_variances()], extract=make()),
    "combine by a function": lambda: glue_lrs.combine([_without_variances()], extract=make().run),
    "from_reference": lambda: Extract1D.from_reference({"apertures": [OLD_ENTRY]}, FIXED_SLIT),
    "Background": lambda: Background(bkg_coeff=((1.0,), (5.0,)), smoothing_length=4),
    "replace": lambda: replace(Background(bkg_coeff=((1.0,), (5.0,))), smoothing_length=4),
    "to_reference": lambda: replace(make(), apply_apcorr=True, max_lost=0.1).to_reference(),
    "map": lambda: list(map(make().run, [_without_variances()])),
    "wcs": lambda: _nan_box().wcs,
    "measure": lambda: glue_lrs.measure(_nan_box()),
    "growth": lambda: measure_with_growth(_nan_box()),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_warnings_point_at_the_line_of_the_caller(name: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        WARNINGS[name]()
    assert any(issubclass(one.category, LRSWarning) for one in caught)
    assert {one.filename for one in caught} == {__file__}
    with open(__file__) as stream:
        lines = stream.read().splitlines()
    assert all(f'"{name}": lambda:' in lines[one.lineno - 1] for one in caught)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extract_width": 0.5}, "extract_width is 0.5, expected at least 1 pixel"),
        ({"xstart": 30, "xstop": 20}, "xstop is 20, expected at least xstart, which is 30"),
        ({"ystart": -1}, "ystart is -1, expected a row number of 0 or more"),
        ({"xstart": 40}, "the built-in reference with xstart: xstop is 34, expected at least"),
    ],
)
def test_the_reference_is_not_blamed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ReferenceFileError) as caught:
        make(**changes)
    assert str(caught.value).startswith(message)
    reference = Reference({**Reference.default().document}, "my.json")
    with pytest.raises(ReferenceFileError) as caught:
        Extract1D.from_reference(reference, FIXED_SLIT, **changes)
    expected = message.replace("the built-in reference", f"my.json: aperture {FIXED_SLIT!r}")
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    "changes", [{"bkg_order": 2}, {"smoothing_length": 5}, {"src_coeff": [[3], [9]], "xstart": 3}]
)
def test_warnings_do_not_blame_the_reference_either(changes: dict[str, Any]) -> None:
    with pytest.warns(LRSWarning) as caught:
        make(**changes)
    assert not any("<built-in>" in str(one.message) for one in caught)


@pytest.mark.parametrize("kept", [True, False])
def test_measure_says_why_a_reference_has_no_background(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scene = SCENE if kept else replace(SCENE, background=0.0)
    image = scene.s2d(1).image
    image.header["S_BKDSUB"] = "SKIPPED" if kept else "COMPLETE"
    image.write("a_s2d.fits")
    result = CliRunner().invoke(
        main, ["measure", "a_s2d.fits", "--no-plot", "--reference", "r.json"]
    )
    assert result.exit_code == 0, result.stderr
    (entry,) = json.loads(Path("r.json").read_text())["apertures"]
    assert ("bkg_coeff" in entry) == kept
    *_, why, wrote = result.stdout.splitlines()
    assert wrote == "wrote r.json"
    assert (why == "the reference has no background, as S_BKDSUB is COMPLETE") != kept
