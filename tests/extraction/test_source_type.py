"""The type of the source as a parameter of the extraction, instead of SRCTYPE in the header."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from glue_lrs import Extract1D, LRSError, SlitImage
from glue_lrs.cli import main
from glue_lrs.errors import ReferenceFileError
from glue_lrs.extraction.rerun import rerun
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.simulation.scene import Scene
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.viewers.live.script import python_lines
from tests.helpers.live import execute

SCENE = Scene(seed=2, bad_fraction=0.0)
CORRECTION = SCENE.aperture_correction(size=np.arange(1, 31))
TYPES = [("POINT", "EXTENDED"), ("EXTENDED", "POINT"), (None, "POINT"), ("UNKNOWN", "EXTENDED")]
QUIET = pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning")


def make(**changes: Any) -> Extract1D:
    changes = {"apcorr": CORRECTION} | changes
    return Extract1D.from_reference(None, FIXED_SLIT, **changes)


def equal(one: Extraction, other: Extraction) -> None:
    for name, values in one.columns.items():
        np.testing.assert_array_equal(values, other.columns[name], err_msg=name)
    assert one.keywords == other.keywords


@QUIET
@pytest.mark.parametrize(("header", "chosen"), TYPES)
@pytest.mark.parametrize("options", [{}, {"bad_pixels": "profile"}, {"extraction_type": "optimal"}])
def test_the_choice_replaces_the_header(
    header: str | None, chosen: str, options: dict[str, Any]
) -> None:
    image = replace(SCENE.s2d(1).image, source_type=header)
    if options and chosen == "EXTENDED":  # a profile needs an aperture on the source
        options = options | {"use_source_posn": True}
    expected = make(**options).run(replace(image, source_type=chosen))
    for word in (chosen, chosen.lower(), chosen.title()):
        operator = make(source_type=word, **options)
        assert operator == make(source_type=chosen, **options)
        equal(operator.run(image), expected)
    assert image.source_type == header
    operator = make(source_type=chosen, **options)
    moves = chosen == "POINT" or "use_source_posn" in options
    assert operator.positions(image) == moves
    assert (operator.place(image).offset != 0) == moves
    if not options:
        other = make().run(image).columns["FLUX"]
        different = not np.array_equal(other, expected.columns["FLUX"], equal_nan=True)
        assert different == ((header == "POINT") != (chosen == "POINT"))


def test_other_types_are_refused() -> None:
    message = r"source_type is .*, expected 'POINT' or 'EXT"
    for value in ("banana", 3, True):
        with pytest.raises(ReferenceFileError, match=message):
            make(source_type=value)
    assert make(source_type=None) == make()
    assert "source_type" not in make().parameters["options"]


@QUIET
def test_the_choice_is_recorded_and_repeated(tmp_path: Path) -> None:
    SCENE.s2d(1).image.write(tmp_path / "a_s2d.fits")
    write_apcorr(CORRECTION, tmp_path / "apcorr.fits")
    image = SlitImage.read(tmp_path / "a_s2d.fits")
    operator = make(source_type="Extended", apcorr=str(tmp_path / "apcorr.fits"))
    parameters = json.loads(json.dumps(operator.parameters))
    assert parameters["options"]["source_type"] == "EXTENDED"
    correction = operator.aperture_correction
    assert Extract1D.from_parameters(parameters, apcorr=correction) == operator
    made = operator.run(image)
    assert made.keywords["SRCTYPE"] == "EXTENDED"
    made.write(tmp_path / "a_x1d.fits")
    provenance = Extraction.read(tmp_path / "a_x1d.fits").provenance
    assert provenance is not None
    assert "changed" not in provenance["input"]
    equal(rerun(provenance), made)
    spectrum = execute(python_lines(operator, image))
    np.testing.assert_array_equal(spectrum.flux.value, made.to_spectrum().flux.value)


def test_the_wcs_is_loaded_once() -> None:
    loads = []
    made = SCENE.s2d(1).image
    wcs = made.wcs

    def load() -> Any:
        loads.append(1)
        return wcs

    image = replace(made, wcs_source=load, source_type="EXTENDED")
    for _ in range(3):
        make(source_type="POINT").run(image)
    assert len(loads) == 1


def test_an_extended_source_needs_no_aperture_correction() -> None:
    image = SCENE.s2d(1).image
    kinds = {one.kind for one in make(apcorr=None).run(image).findings}
    assert "no_aperture_correction" in kinds
    kinds = {one.kind for one in make(apcorr=None, source_type="extended").check(image)}
    assert not kinds & {"no_aperture_correction", "flux_outside"}
    assert "aperture_off_header" in kinds


def test_a_reference_cannot_hold_it() -> None:
    image = SCENE.s2d(1).image
    operator = make(source_type="EXTENDED")
    message = r"source_type 'EXTENDED' .*step srctype with --source_type=EXTENDED"
    for one in (None, image):
        with pytest.raises(LRSError, match=message):
            operator.to_reference(one)
    extended = replace(image, source_type="EXTENDED")
    same = operator.to_reference(extended)
    assert same.document == make().to_reference(extended).document


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    replace(SCENE.s2d(1).image, source_type="EXTENDED").write("a_s2d.fits")
    write_apcorr(CORRECTION, "apcorr.fits")
    command = ["extract", "a_s2d.fits", "--apcorr", "apcorr.fits", "--set", "source_type=point"]
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, result.stderr) == (0, "")
    image = replace(SlitImage.read("a_s2d.fits"), source_type="POINT")
    made = Extraction.read("a_x1d.fits")
    flux = make(apcorr="apcorr.fits").run(image).columns["FLUX"]
    np.testing.assert_array_equal(made.columns["FLUX"], flux)
    text = CliRunner().invoke(main, ["info", "a_x1d.fits"]).stdout
    assert 'source_type="POINT"' in text
    result = CliRunner().invoke(main, [*command[:-1], "source_type=banana", "--overwrite"])
    assert result.exit_code == 2
    assert "expected 'POINT' or 'EXTENDED'" in result.stderr
