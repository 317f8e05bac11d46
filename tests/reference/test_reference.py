from __future__ import annotations

import json
import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.apertures.background import Background
from glue_lrs.errors import LRSError, LRSWarning, ReferenceFileError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.reference.reference import Reference
from tests.helpers.cases import make_case, make_wcs

SHAPE = (30, 45)


def one(**entry: Any) -> dict[str, Any]:
    return {"apertures": [{"id": FIXED_SLIT, **entry}]}


def make(reference: Any = None, exp_type: str = FIXED_SLIT, **overrides: Any) -> Extract1D:
    return Extract1D.from_reference(reference, exp_type, **{"apply_apcorr": False, **overrides})


# --- comparison with the pipeline ------------------------------------------------------------


def pipeline_parameters(
    document: dict[str, Any], exp_type: str, source_type: str, step: dict[str, Any]
) -> dict[str, Any]:
    """Return the extraction parameters of the pipeline."""
    from jwst.extract_1d import extract as jwst_extract

    step = dict(step)
    if source_type != "POINT" and step.get("use_source_posn") is None:
        step["use_source_posn"] = False
    model = SimpleNamespace(data=np.zeros(SHAPE))
    meta = SimpleNamespace(exposure=SimpleNamespace(type=exp_type))
    logging.getLogger("jwst").setLevel(logging.CRITICAL)
    found: dict[str, Any] = jwst_extract.get_extract_parameters(
        document, model, exp_type, 1, meta, **step
    )
    return found


def random_document(rng: np.random.Generator) -> dict[str, Any]:
    def entry() -> dict[str, Any]:
        made: dict[str, Any] = {"id": str(rng.choice([FIXED_SLIT, SLITLESS, "ANY", "S200A1"]))}
        if rng.random() < 0.3:
            made["region_type"] = str(rng.choice(["target", "target", "background"]))
        if rng.random() < 0.4:
            made["spectral_order"] = [1, 1, 2, "ANY"][rng.integers(4)]
        for key, low in (("xstart", 2), ("xstop", 20), ("ystart", 0), ("ystop", 15)):
            if rng.random() < 0.6:
                made[key] = low + int(rng.integers(5)) + 0.25 * int(rng.integers(3))
        if rng.random() < 0.3:
            made["extract_width"] = [None, 7, 3.5][rng.integers(3)]
        if rng.random() < 0.4:
            made["src_coeff"] = [None, [[3, 0.1], [12.5]]][rng.integers(2)]
            if made["src_coeff"] is not None and rng.random() < 0.5:
                made["xstart"] = None  # valid only with src_coeff
        if rng.random() < 0.7:
            made["bkg_coeff"] = [None, [[1], [4.5]], [[1.5], [3.5], [30], [40.5, 0.01]]][
                rng.integers(3)
            ]
        if rng.random() < 0.5:
            made["bkg_fit"] = str(rng.choice(["poly", "median"]))
        if rng.random() < 0.5:
            made["bkg_order"] = int(rng.integers(4))
        if rng.random() < 0.4:
            made["smoothing_length"] = [0, 1, 3, 4, 5.4, -3][rng.integers(6)]
        if rng.random() < 0.4:
            made["independent_var"] = str(
                rng.choice(["pixel", "PIXEL", "wavelength", "Wavelength_um"])
            )
        if rng.random() < 0.5:
            made["use_source_posn"] = [True, False, None][rng.integers(3)]
        return made

    return {"apertures": [entry() for _ in range(rng.integers(1, 5))]}


def random_step(rng: np.random.Generator) -> dict[str, Any]:
    choices: dict[str, list[Any]] = {
        "subtract_background": [None, True, False],
        "use_source_posn": [None, True, False],
        "position_offset": [0.0, 1.25],
        "smoothing_length": [None, 0, 7, 6],
        "bkg_fit": [None, "mean", "poly", "median"],
        "bkg_order": [None, 0, 2],
        "extraction_type": ["box"],
    }
    return {
        key: values[rng.integers(len(values))]
        for key, values in choices.items()
        if rng.random() < 0.5
    }


@pytest.mark.parity
def test_selection_and_defaults_are_the_pipelines(make_image: Callable[..., SlitImage]) -> None:
    from jwst.extract_1d import extract as jwst_extract

    rng = np.random.default_rng(11)
    reached: Counter[str] = Counter()
    for _ in range(1500):
        document, step = random_document(rng), random_step(rng)
        exp_type = str(rng.choice([FIXED_SLIT, SLITLESS]))
        source_type = str(rng.choice(["POINT", "EXTENDED"]))
        theirs = pipeline_parameters(json.loads(json.dumps(document)), exp_type, source_type, step)
        if theirs["match"] != jwst_extract.EXACT:
            with pytest.raises(ReferenceFileError):
                Reference.from_dict(document).entry(exp_type)
            reached[f"match {theirs['match']}"] += 1
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LRSWarning)
            ours = make(document, exp_type, **step)
        aperture, background = ours.aperture, ours.background
        limits = {"xstart": 0, "xstop": SHAPE[1] - 1, "ystart": 0, "ystop": SHAPE[0] - 1}
        for key, default in limits.items():
            mine = getattr(aperture, key)
            if theirs[key] is None:
                assert theirs["src_coeff"] is not None
                assert mine is None
            else:
                assert (default if mine is None else mine) == theirs[key], (key, document)
        assert aperture.extract_width == theirs["extract_width"]
        coefficients = theirs["src_coeff"]
        assert aperture.src_coeff == (
            None if coefficients is None else tuple(map(tuple, coefficients))
        )
        variable = theirs["independent_var"]
        assert (aperture.independent_var == "wavelength") == variable.startswith("wavelength")
        subtracts = theirs["subtract_background"] and theirs["bkg_coeff"] is not None
        assert (background is not None and ours.subtract_background is not False) == subtracts
        reached["subtracts" if subtracts else "subtracts not"] += 1
        if subtracts:
            assert background is not None
            assert background.bkg_coeff == tuple(map(tuple, theirs["bkg_coeff"]))
            assert background.bkg_fit == theirs["bkg_fit"]
            assert background.smoothing_length == theirs["smoothing_length"]
            assert background.independent_var == aperture.independent_var
            if background.bkg_fit == "poly":
                assert background.bkg_order == theirs["bkg_order"]
            reached[background.bkg_fit] += 1
            reached["smooths" if background.smoothing_length else "smooths not"] += 1
        image = make_image(SHAPE, exp_type=exp_type, source_type=source_type)
        assert ours.positions(image) == theirs["use_source_posn"]
        assert ours.position_offset == theirs["position_offset"]
        reached[f"{exp_type} {source_type} moves {ours.positions(image)}"] += 1
    assert min(reached.values()) >= 10
    assert len(reached) == 2 + 2 + 2 + 2 + 8, reached  # every branch


def test_the_built_in_defaults() -> None:
    reference = Reference.default()
    slit, slitless = (reference.entry(mode) for mode in (FIXED_SLIT, SLITLESS))
    assert (slit["xstart"], slit["xstop"]) == (27, 34)
    assert "use_source_posn" not in slit
    assert (slitless["xstart"], slitless["xstop"]) == (30, 41)
    assert slitless["use_source_posn"] is False
    assert reference.check(SHAPE) == []
    assert reference.name == "<built-in>"
    assert reference.document["reftype"] == "EXTRACT1D"


def test_documents_and_entries_are_copied() -> None:
    document = one(src_coeff=[[1.0], [5.0]])
    reference = Reference.from_dict(document)
    document["apertures"][0]["src_coeff"][0][0] = 99.0
    reference.entry(FIXED_SLIT)["src_coeff"][0][0] = 98.0
    assert reference.entry(FIXED_SLIT)["src_coeff"] == [[1.0], [5.0]]
    Reference.default().document["apertures"].clear()
    assert len(Reference.default().document["apertures"]) == 2


def test_numpy_values_and_tuples_are_accepted() -> None:
    edges = np.array([[3.5], [9.5]])
    operator = make(one(xstart=np.int64(3), src_coeff=((3, 0.5), (9, 0.5))), bkg_coeff=edges)
    assert operator.aperture.src_coeff == ((3.0, 0.5), (9.0, 0.5))
    assert operator.background == Background(bkg_coeff=((3.5,), (9.5,)))
    json.dumps(operator.parameters)


# --- validation ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"x_start": 3}, r"unknown key 'x_start' \(did you mean 'xstart'\?\)"),
        ({"bgk_coeff": [[1], [3]]}, r"unknown key 'bgk_coeff' \(did you mean 'bkg_coeff'\?\)"),
        ({"gibberish": 1}, r"unknown key 'gibberish', expected a key of"),
        ({"radius": 3}, "'radius' is a key of the integral field units"),
        ({"position_offset": 1}, "'position_offset' is a parameter of the step, not a key"),
        ({"model_nod_pair": True}, "'model_nod_pair' is a parameter of the step, not a key"),
        ({"xstart": "27"}, "xstart is '27', expected a number"),
        ({"xstart": True}, "xstart is true, expected a number"),
        ({"xstart": [27]}, r"xstart is \[27\], expected a number"),
        ({"xstart": float("nan")}, "xstart is nan, expected a finite number"),
        ({"xstart": 10**400}, "xstart has too many digits"),
        ({"xstart": None}, "xstart is null, expected a number"),
        ({"xstop": None, "src_coeff": None}, "xstop is null, expected a number"),
        ({"ystart": None, "src_coeff": [[1], [3]]}, "ystart is null, expected a number"),
        ({"ystart": -1}, "ystart is -1, expected a row number of 0 or more"),
        ({"xstart": 34, "xstop": 27}, "xstop is 27, expected at least xstart, which is 34"),
        ({"ystart": 5, "ystop": 3}, "ystop is 3, expected at least ystart"),
        ({"extract_width": 0.5}, "extract_width is 0.5, expected at least 1 pixel"),
        ({"src_coeff": [[1], [3], [5]]}, "src_coeff has 3 edges, expected pairs"),
        ({"bkg_coeff": [[1], [3], [5]]}, "bkg_coeff has 3 edges, expected pairs"),
        ({"bkg_coeff": []}, "bkg_coeff has 0 edges, expected pairs"),
        ({"bkg_coeff": [1, 3]}, r"bkg_coeff\[0\] is 1, expected a list of coefficients"),
        ({"bkg_coeff": [["1"], [3]]}, r"bkg_coeff\[0\] is '1', expected a number"),
        ({"bkg_coeff": [[9], [3]]}, "bkg_coeff region 1 goes from 9 to 3, expected the lower edge"),
        ({"src_coeff": "1,3"}, "src_coeff is '1,3', expected"),
        ({"bkg_fit": "average"}, "bkg_fit is 'average', expected 'mean', 'median', 'poly' or null"),
        ({"bkg_fit": 1}, "bkg_fit is 1, expected 'mean'"),
        ({"bkg_order": 1.5}, "bkg_order is 1.5, expected a whole number"),
        ({"bkg_order": "1"}, "bkg_order is '1', expected a number"),
        ({"bkg_order": None}, "bkg_order is null, expected a number"),
        ({"smoothing_length": "3"}, "smoothing_length is '3', expected a number"),
        ({"independent_var": "lambda"}, "independent_var is 'lambda', expected 'pixel' or"),
        ({"use_source_posn": "false"}, "use_source_posn is 'false', expected true, false or null"),
        ({"use_source_posn": 0}, "use_source_posn is 0, expected true, false or null"),
        ({"spectral_order": None}, "spectral_order is null, expected a number"),
        ({"spectral_order": 1.5}, "spectral_order is 1.5, expected a whole number or 'ANY'"),
        ({"dispaxis": 3}, "dispaxis is 3, expected 1"),
        ({"disp_axis": "2"}, "disp_axis is '2', expected 1"),
        ({"region_type": None}, "region_type is null, expected a word"),
    ],
)
def test_errors_of_an_entry_name_the_key(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ReferenceFileError, match=message) as caught:
        Reference(one(**entry), "some.json")
    text = str(caught.value)
    assert text.startswith(f"some.json: aperture '{FIXED_SLIT}': ")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "is a list, expected an object with the key 'apertures'"),
        ({}, "found nothing, expected a key 'apertures'"),
        ({"Aperture": []}, r"found 'Aperture', .* \(did you mean 'apertures'\?\)"),
        ({"apertures": {}}, "apertures is {}, expected a list of one or more objects"),
        ({"apertures": []}, r"apertures is \[\], expected a list"),
        ({"apertures": [3]}, r"apertures\[0\] is 3, expected an object"),
        ({"apertures": [{"xstart": 3}]}, r"apertures\[0\] has no id, expected an EXP_TYPE"),
        ({"apertures": [{"Id": "x"}]}, r"has no id, .* \(did you mean 'id'\?\)"),
        ({"apertures": [{"id": 3}]}, "aperture 3: id is 3, expected a word"),
    ],
)
def test_errors_of_a_document(document: Any, message: str) -> None:
    with pytest.raises(ReferenceFileError, match=message):
        Reference.from_dict(document)


def test_all_entries_except_those_of_other_modes_are_validated() -> None:
    good = {"id": FIXED_SLIT, "xstart": 3}
    with pytest.raises(ReferenceFileError, match=f"aperture '{SLITLESS}': unknown key 'xstrt'"):
        Reference.from_dict({"apertures": [good, {"id": SLITLESS, "xstrt": 3}]})
    other = {"id": "MIR_MRS", "radius": 3}
    assert Reference.from_dict({"apertures": [other, good]}).entry(FIXED_SLIT) == good


def test_a_missing_id_lists_the_available_ones() -> None:
    reference = Reference({"apertures": [{"id": "mir_lrs-fixedslit"}, {"id": SLITLESS}]}, "r.json")
    with pytest.raises(
        ReferenceFileError,
        match=f"no aperture has the id '{FIXED_SLIT}', found 'mir_lrs-fixedslit', '{SLITLESS}' ",
    ):
        reference.entry(FIXED_SLIT)
    with pytest.raises(ReferenceFileError, match="for spectral_order 2, expected 1"):
        Reference.from_dict(one(spectral_order=2)).entry(FIXED_SLIT)
    with pytest.raises(ReferenceFileError, match="exp_type is null"):
        reference.entry(None)  # type: ignore[arg-type]


def levels(reference: Reference, **kwargs: Any) -> list[tuple[str, str]]:
    return [(problem.level, str(problem)) for problem in reference.check(**kwargs)]


@pytest.mark.parametrize(
    ("entry", "level", "text"),
    [
        ({"xstart": 50}, "error", r"\(50.00 to 44.00\)|xstop is 44"),
        ({"xstart": 50, "xstop": 55}, "error", "the source aperture .* has no pixel on the image"),
        ({"ystart": 40}, "error", "the source aperture has no row on the image"),
        ({"xstart": -5, "xstop": 9}, "warning", "reaches beyond the image"),
        ({"bkg_coeff": [[60], [70]]}, "error", "no background region"),
        ({"bkg_coeff": [[1], [4], [60], [70]]}, "warning", "has no pixel on the image"),
        ({"bkg_coeff": [[1], [90]]}, "warning", "reaches beyond"),
        ({"src_coeff": [[5, 0.2], [9]]}, "error", "src_coeff .* pixels wide at row"),
        ({"bkg_coeff": [[5, 0.2], [9]]}, "error", "bkg_coeff .* pixels wide at row"),
        ({"src_coeff": [[5], [9]], "xstart": 3}, "warning", "xstart has no effect with src_coeff"),
        ({"bkg_fit": "median"}, "warning", "bkg_fit has no effect without bkg_coeff"),
        ({"bkg_coeff": [[1], [4]], "bkg_fit": None}, "warning", "bkg_coeff has no effect"),
        (
            {"bkg_coeff": [[1], [4]], "bkg_fit": "median", "bkg_order": 1},
            "warning",
            "bkg_order has no effect",
        ),
        ({"bkg_coeff": [[1], [4]], "smoothing_length": 4}, "warning", "is 4, expected an odd"),
        ({"region_type": "background"}, "warning", "never used: region_type is 'background'"),
        ({"independent_var": "wavelength"}, "warning", "independent_var has no effect"),
        ({"dispaxis": 1}, "warning", "dispaxis 1 has no effect"),
        ({"bkg_coeff": [[1], [4]], "bkg_fit": "mean"}, "note", 'bkg_fit "mean" is not accepted by'),
        ({"disp_axis": 2}, "note", "disp_axis 2 is not accepted by the pipeline"),
        ({"comment": "mine", "_by": "me"}, "note", "comment, _by: kept, without effect"),
    ],
)
def test_check_reports_probably_unintended_settings(
    entry: dict[str, Any], level: str, text: str
) -> None:
    found = levels(Reference.from_dict(one(**entry)), shape=SHAPE)
    assert any(lv == level and re.search(text, tx) for lv, tx in found), found
    assert all("\n" not in tx for _, tx in found)


def test_check_of_a_document() -> None:
    fine = Reference.from_dict(
        one(xstart=5, xstop=9, bkg_coeff=[[0.5], [3.5]], smoothing_length=5, dispaxis=2)
    )
    assert fine.check(SHAPE) == []
    assert fine.check(SHAPE, FIXED_SLIT) == []
    assert levels(fine, exp_type=SLITLESS)[0][0] == "error"
    twice = Reference.from_dict({"apertures": [{"id": "ANY"}, {"id": FIXED_SLIT}]})
    assert "an earlier aperture matches" in twice.check()[0]
    ordered = [{"id": FIXED_SLIT, "spectral_order": 2}, {"id": FIXED_SLIT}]
    assert Reference.from_dict({"apertures": ordered}).check() == []
    assert (
        "no aperture is for MIRI LRS"
        in Reference.from_dict({"apertures": [{"id": "S1"}]}).check()[0]
    )


# --- from a reference to the operator ---------------------------------------------------------

REGIONS = [[0.5], [4.5], [38.5], [43.5]]


def test_values_that_the_pipeline_rejects_are_accepted() -> None:
    mean = make(one(bkg_coeff=REGIONS, bkg_fit="mean", bkg_order=2))
    assert mean.background == Background(bkg_coeff=mean.background.bkg_coeff, bkg_order=0)
    assert make(one(bkg_coeff=REGIONS, bkg_fit=None)).background is None
    overruled = make(one(bkg_coeff=REGIONS, bkg_fit=None), bkg_fit="median").background
    assert overruled is not None
    assert overruled.bkg_fit == "median"
    make(one(disp_axis=2))


def test_overrides_are_step_parameters_or_replace_keys() -> None:
    reference = one(xstart=27, xstop=34, bkg_coeff=REGIONS, bkg_fit="median", use_source_posn=True)
    operator = make(reference, xstart=9, xstop=17, ystop=20, use_source_posn=False, bkg_fit="mean")
    assert operator.aperture == Aperture(xstart=9, xstop=17, ystop=20)
    assert operator.use_source_posn is False  # the step parameter
    assert operator.reference_source_posn is True
    assert operator.background == Background(bkg_coeff=operator.background.bkg_coeff, bkg_order=0)
    assert make(reference, bkg_coeff=None).background is None
    assert make(reference, xstop=None).aperture.xstop is None
    assert make(reference, bkg_fit=None).background.bkg_fit == "median"
    assert make(reference, max_lost=0.2, fixed_background=True).max_lost == 0.2
    assert make({"apertures": [{"id": "ANY", "spectral_order": 2}]}, spectral_order=2).id == "ANY"
    assert make(reference, extraction_type=None) == make(reference, extraction_type="box")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"bgk_fit": "median"}, r"unknown parameter 'bgk_fit' \(did you mean 'bkg_fit'\?\)"),
        ({"apply_apcor": False}, r"\(did you mean 'apply_apcorr'\?\)"),
        ({"xstart": "27"}, "^xstart is '27', expected a number"),
        ({"xstart": 40}, "with xstart: xstop is 34, expected at least xstart, which is 40"),
        ({"position_offset": "1"}, "position_offset is '1', expected a number"),
        ({"subtract_background": "no"}, "subtract_background is 'no', expected true, false or"),
        ({"apply_apcorr": None}, "apply_apcorr is null, expected true or false"),
        (
            {"extraction_type": "optimum"},
            r"'optimum' \(did you mean 'optimal'\?\), expected 'box' or",
        ),
        ({"model_nod_pair": 1}, "model_nod_pair is 1, expected true or false"),
        ({"optimal_mode": "best"}, "optimal_mode is 'best', expected 'pipeline' or 'psf' or 'lea"),
        ({"optimal_mode": "learned"}, "'learned', expected extraction_type 'optimal' with it"),
        ({"extraction_type": "optimal", "optimal_mode": "psf"}, "which needs a PSF reference"),
        ({"bad_pixels": "mend"}, "bad_pixels is 'mend', expected 'profile'"),
        ({"bad_pixels": "profile", "extraction_type": "optimal"}, "extraction_type 'box' with it"),
        ({"max_lost": 2}, "max_lost is 2, expected a fraction between 0 and 1"),
        ({"fixed_background": 1}, "fixed_background is 1, expected true or false"),
        ({"dispaxis": 1}, "dispaxis is 1, expected 2 for MIRI LRS"),
        ({"region_type": "sky"}, "region_type is 'sky', expected 'target' for MIRI LRS"),
        ({"id": None}, "id is null"),
        ({"src_coeff": [[1], [2], [3]]}, "src_coeff has 3 edges"),
    ],
)
def test_invalid_overrides_are_errors(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ReferenceFileError, match=message):
        make(None, **overrides)


def test_keys_without_effect_warn() -> None:
    taper = {"apertures": [{"id": FIXED_SLIT, "src_coeff": [[8.5], [17.5]]}]}
    with pytest.warns(LRSWarning, match="xstart has no effect with src_coeff"):
        make(taper, xstart=3)
    make(taper)  # no warning: the key is not overridden


def test_ids_without_a_match() -> None:
    spaced = Reference.from_dict({"apertures": [{"id": f"{FIXED_SLIT} "}]})
    with pytest.raises(ReferenceFileError, match=f"'{FIXED_SLIT}', found '{FIXED_SLIT} '$"):
        spaced.entry(FIXED_SLIT)
    assert any("is for no exposure of LRS, expected" in problem for problem in spaced.check())
    lower = Reference.from_dict({"apertures": [{"id": FIXED_SLIT.lower()}]})
    with pytest.raises(ReferenceFileError, match=r"\(upper and lower case differ\)$"):
        lower.entry(FIXED_SLIT)
    with pytest.raises(ReferenceFileError, match=r"^id is 'foo', expected 'MIR_LRS-FIXEDSLIT'"):
        make(None, id="foo")
    other = Reference.from_dict({"instrument": "NIRSPEC", "apertures": [{"id": "ANY"}]})
    assert [p.level for p in other.check()] == ["warning"]
    assert "instrument is 'NIRSPEC', expected 'MIRI'" in other.check()[0]


def test_errors_name_the_type_of_an_argument() -> None:
    with pytest.raises(ReferenceFileError, match="reference is a int, expected a path"):
        make(3)
    with pytest.raises(LRSError, match="apcorr is a int, expected a path"):
        Extract1D.from_reference(None, FIXED_SLIT, apcorr=3)  # type: ignore[arg-type]


def a_correction(subarray: str = "FULL") -> ApertureCorrection:
    return ApertureCorrection(
        wavelength=[5.0, 12.0], size=[3, 9], factor=[[1.5, 1.25], [2.0, 1.5]], subarray=subarray
    )


def test_the_aperture_correction_is_recorded() -> None:
    """Without one, there is no warning (see tests/findings)."""
    operator = Extract1D.from_reference(None, FIXED_SLIT)
    assert dict(operator.references) == {"extract1d": "<built-in>", "apcorr": None}
    with_table = Extract1D.from_reference(None, FIXED_SLIT, apcorr=a_correction())
    assert dict(with_table.references)["apcorr"] == "<in memory>"
    assert with_table.apply_apcorr


@pytest.mark.parametrize(
    ("entry", "step", "why"),
    [
        ({}, {"subtract_background": True}, "there is no bkg_coeff; subtract_background has no"),
        ({}, {"bkg_fit": "median", "bkg_order": 1}, "bkg_fit, bkg_order have no effect"),
        (
            {"bkg_coeff": REGIONS, "bkg_fit": None},
            {"subtract_background": True},
            "bkg_fit is null; subtract_background has no effect",
        ),
    ],
)
def test_parameters_of_a_missing_background_warn(
    entry: dict[str, Any], step: dict[str, Any], why: str
) -> None:
    with pytest.warns(LRSWarning, match=why):
        make(one(**entry), **step)
    make(one(**entry), subtract_background=False)  # no warning


# --- parameters ------------------------------------------------------------------------------

numbers = st.floats(-1e6, 1e6)
polynomials = st.lists(numbers, min_size=1, max_size=4)


@st.composite
def regions(draw: Any) -> list[list[float]]:
    edges = []
    for _ in range(draw(st.integers(1, 3))):
        lower = draw(polynomials)
        upper = [lower[0] + draw(st.floats(1.5, 50.0)), *draw(polynomials)]
        edges += [lower, upper]
    return edges


@st.composite
def operators(draw: Any) -> Extract1D:
    def maybe(strategy: Any) -> Any:
        return draw(st.none() | strategy)

    start = maybe(numbers)
    aperture = Aperture(
        xstart=start,
        xstop=None if start is None else start + draw(st.floats(0, 1e3)),
        ystart=maybe(st.floats(0, 10)),
        ystop=maybe(st.floats(10, 400)),
        extract_width=maybe(st.floats(1, 50)),
        src_coeff=maybe(regions()),
        independent_var=draw(st.sampled_from(["pixel", "wavelength"])),
    )
    background = None
    if draw(st.booleans()):
        background = Background(
            bkg_coeff=draw(regions()),
            bkg_fit=draw(st.sampled_from(["poly", "median"])),
            bkg_order=draw(st.integers(0, 5)),
            smoothing_length=draw(st.sampled_from([0, 3, 11])),
            independent_var=draw(st.sampled_from(["pixel", "wavelength"])),
        )
    flags = st.sampled_from([None, True, False])
    return Extract1D(
        aperture=aperture,
        background=background,
        use_source_posn=draw(flags),
        reference_source_posn=draw(flags),
        position_offset=draw(numbers),
        subtract_background=draw(flags),
        apply_apcorr=draw(st.booleans()),
        fixed_background=draw(st.booleans()),
        max_lost=maybe(st.floats(0, 1)),
        id=maybe(st.sampled_from([FIXED_SLIT, "ANY"])),
    )


@pytest.mark.slow
@given(operators())
def test_parameters_make_the_same_operator_again(operator: Extract1D) -> None:
    stored = json.dumps(operator.parameters, allow_nan=False)
    assert Extract1D.from_parameters(json.loads(stored)) == operator


def test_parameters_are_grouped_by_origin() -> None:
    operator = make(one(xstart=3, xstop=9), use_source_posn=False, max_lost=0.5)
    assert operator.parameters == {
        "reference": {"id": FIXED_SLIT, "xstart": 3, "xstop": 9, "independent_var": "pixel"},
        "step": {
            "subtract_background": None,
            "apply_apcorr": False,
            "use_source_posn": False,
            "position_offset": 0.0,
        },
        "options": {"fixed_background": False, "max_lost": 0.5},
    }
    again = Extract1D.from_parameters(operator.parameters, references={"extract1d": "a.json"})
    assert again.references == (("extract1d", "a.json"),)
    assert (
        Extract1D.from_parameters(operator.parameters, apcorr=a_correction()).aperture_correction
        is not None
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"refrence": {}}, r"parameters: unknown key 'refrence' \(did you mean 'reference'\?\)"),
        ({"step": {"offset": 1}}, "parameters: unknown step 'offset'"),
        ({"step": {"position_offset": "1"}}, "position_offset is '1', expected a number"),
        ({"options": {"max_lsot": 1}}, r"unknown options 'max_lsot' \(did you mean 'max_lost'\?\)"),
        ({"reference": {"xstrt": 1}}, "parameters: unknown key 'xstrt'"),
    ],
)
def test_invalid_parameters_are_errors(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ReferenceFileError, match=message):
        Extract1D.from_parameters({**make().parameters, **change})
    with pytest.raises(ReferenceFileError, match="'reference' is missing"):
        Extract1D.from_parameters({})
    with pytest.raises(ReferenceFileError, match="parameters is 3, expected a mapping"):
        Extract1D.from_parameters(3)  # type: ignore[arg-type]


# --- export ----------------------------------------------------------------------------------


def spectrum(image: SlitImage, entry: dict[str, Any], folder: Path, **step: Any) -> Any:
    from tests.helpers import pipeline

    kind = "SlitModel" if image.wavelength.dtype.itemsize == 4 else "ImageModel"
    return pipeline.run(image, entry, folder, model_class=kind, **step).columns


@pytest.mark.parity
def test_the_pipeline_repeats_an_extraction_with_the_exported_reference(tmp_path: Path) -> None:
    """Compare the pipeline with step parameters, and with the exported reference alone."""
    from tests.helpers import pipeline

    reached: Counter[str] = Counter()
    for seed in range(700, 765):
        case = make_case(seed)
        image = case.image
        if image.is_stack:
            continue
        step = {k: v for k, v in case.step.items() if k != "apply_apcorr"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LRSWarning)
            operator = make({"apertures": [{"id": image.exp_type, **case.entry}]}, **step)
            placement = operator.place(image)
        operator = Extract1D.from_parameters(
            {**operator.parameters, "step": {**operator.parameters["step"], "apply_apcorr": True}}
        )
        expected = spectrum(image, case.entry, tmp_path, **step)
        lost = placement.trace is not None and (
            operator.position_offset != 0
            or (operator.use_source_posn is True and image.source_type != "POINT")
        )
        if lost:
            with pytest.raises(ReferenceFileError, match="run the step with --"):
                operator.to_reference(image)
            reached["refused"] += 1
            continue
        entry = operator.to_reference(image).entry(image.exp_type)
        found = spectrum(image, entry, tmp_path)
        assert not pipeline.disagreements(strip(found), strip(expected), 1e-9), (seed, entry, step)
        reached["moved" if placement.position is not None else "stays"] += 1
        reached["trace" if placement.trace is not None else "no trace"] += 1
        reached["offset" if operator.position_offset else "no offset"] += 1
        reached[
            "absorbed" if placement.offset and entry.get("use_source_posn") is False else ""
        ] += 1
    every = ("refused", "moved", "stays", "trace", "offset", "absorbed")
    assert all(reached[name] for name in every), reached


def strip(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return columns with NaN instead of the pipeline's errors of 0 in rows without flux."""
    missing = np.isnan(columns["FLUX"])
    return {
        name: np.where(missing, np.nan, values) if "ERR" in name or "VAR" in name else values
        for name, values in columns.items()
    }


def slit_image(make_image: Callable[..., SlitImage], source_type: str = "POINT") -> SlitImage:
    """Return an s2d whose source is several columns from the apertures in these tests."""
    rows, columns = 40, 45
    wavelength = np.linspace(14.0, 5.0, rows)
    box = ((-0.5, columns - 0.5), (-0.5, rows - 0.5))
    wcs = make_wcs(rows, columns, wavelength, 0.0, box)
    ra, dec = wcs(21.3, rows / 2.0)[:2]
    return make_image(
        (rows, columns),
        source_type=source_type,
        wcs_source=wcs,
        source_ra=float(ra),
        source_dec=float(dec),
    )


@pytest.mark.parity
@pytest.mark.parametrize(
    ("entry", "step"),
    [
        ({"xstart": 12, "xstop": 18}, {}),
        ({"src_coeff": [[11.5, 0.01], [18.5]]}, {"position_offset": 0.4}),
        ({"xstart": 12, "xstop": 18}, {"use_source_posn": False, "position_offset": -0.7}),
        ({"extract_width": 7}, {}),
    ],
)
def test_fixed_background_regions_are_exported(
    entry: dict[str, Any],
    step: dict[str, Any],
    make_image: Callable[..., SlitImage],
    tmp_path: Path,
) -> None:
    from tests.helpers import pipeline

    image = slit_image(make_image)
    operator = Extract1D.from_reference(
        one(**entry, bkg_coeff=[[0.5], [5.5]], bkg_fit="median"),
        FIXED_SLIT,
        apcorr=a_correction(),
        fixed_background=True,
        **step,
    )
    placement = operator.place(image)
    assert placement.offset != placement.background_offset == 0
    written = operator.to_reference(image).entry(FIXED_SLIT)
    ours = replace(operator, aperture_correction=None).run(image).columns
    assert not pipeline.disagreements(ours, spectrum(image, written, tmp_path), 1e-9)


def test_errors_of_the_export_name_the_step_parameter(
    make_image: Callable[..., SlitImage],
) -> None:
    correction = a_correction()

    def operator(**overrides: Any) -> Extract1D:
        return Extract1D.from_reference(None, FIXED_SLIT, apcorr=correction, **overrides)

    with pytest.raises(ReferenceFileError, match=r"--position_offset=0\.1234567890123"):
        operator(position_offset=0.1234567890123).to_reference()
    with pytest.raises(ReferenceFileError, match="--apply_apcorr=false"):
        operator(apply_apcorr=False).to_reference()
    with pytest.raises(
        ReferenceFileError, match="fixed_background, which is no parameter of the step"
    ):
        operator(fixed_background=True, bkg_coeff=REGIONS).to_reference()
    image = slit_image(make_image)
    with pytest.raises(ReferenceFileError, match=r"--position_offset=0\.5"):
        operator(extract_width=5, position_offset=0.5).to_reference(image)
    extended = slit_image(make_image, "EXTENDED")
    with pytest.raises(ReferenceFileError, match="--use_source_posn=true"):
        operator(extract_width=5, use_source_posn=True).to_reference(extended)
    operator(apply_apcorr=False).to_reference(extended)  # an extended source has no correction
    exported = operator(position_offset=0.5).to_reference(extended).entry(FIXED_SLIT)
    assert (exported["xstart"], exported["use_source_posn"]) == (27.5, False)
    both = Extract1D(
        aperture=Aperture(src_coeff=((3.0, 0.1), (9.0,)), independent_var="wavelength"),
        background=Background(bkg_coeff=((1.0, 0.1), (2.5,))),
    )
    with pytest.raises(
        ReferenceFileError, match="independent_var is 'wavelength' for the aperture"
    ):
        both.to_reference()
    unlimited = Extract1D(aperture=Aperture(), position_offset=1.0)
    with pytest.raises(ReferenceFileError, match="xstop is not set"):
        unlimited.to_reference()
    assert unlimited.to_reference(image).entry(FIXED_SLIT)["xstop"] == image.shape[1]
    with pytest.warns(LRSWarning, match="--position_offset=0.5"):
        left = operator(position_offset=0.5).to_reference(strict=False)
    assert left.entry(FIXED_SLIT)["xstart"] == 27
    with pytest.warns(LRSWarning, match="SRCTYPE POINT only"):
        key = operator(use_source_posn=True).to_reference().entry(FIXED_SLIT)
    assert key["use_source_posn"] is True
    with pytest.warns(LRSWarning, match="max_lost is omitted"):
        operator(max_lost=0.5).to_reference()


def test_export_without_an_image() -> None:
    regions = [[0.5], [4.5, 0.125]]
    operator = make(
        None, bkg_coeff=regions, bkg_fit="mean", position_offset=0.5, use_source_posn=False
    )
    operator = Extract1D.from_parameters(
        operator.parameters | {"step": {**operator.parameters["step"], "apply_apcorr": True}}
    )
    entry = operator.to_reference().entry(FIXED_SLIT)
    assert (entry["xstart"], entry["xstop"]) == (27.5, 34.5)
    assert entry["bkg_coeff"] == [[1], [5, 0.125]]
    assert (entry["bkg_fit"], entry["bkg_order"]) == ("poly", 0)
    assert entry["use_source_posn"] is False
    unsubtracted = Extract1D(
        aperture=operator.aperture, background=operator.background, subtract_background=False
    )
    assert not {"bkg_coeff", "bkg_fit", "bkg_order"} & set(
        unsubtracted.to_reference().entry("anything")
    )
    slitless = Extract1D.from_reference(
        None, SLITLESS, apcorr=a_correction("SLITLESSPRISM"), position_offset=1.0
    )
    assert slitless.to_reference().entry(SLITLESS)["xstart"] == 31


@pytest.mark.parametrize(
    "key", ["nod2_offset", "nod3_offset", "nod_offset", "nod_correction", "position_correction"]
)
def test_keys_of_older_references_have_no_effect(key: str, tmp_path: Path) -> None:
    """The pipeline ignores them; they are reported, and the extraction goes on."""
    entry = {"id": FIXED_SLIT, "xstart": 3, "xstop": 9}
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"apertures": [{**entry, key: 4.5}]}))
    message = f"old.json: aperture '{FIXED_SLIT}': {key} has no effect: it is a key of older"
    with pytest.warns(LRSWarning, match=message) as caught:
        operator = Extract1D.from_reference(path, FIXED_SLIT, apply_apcorr=False)
    assert [one.filename for one in caught] == [__file__]
    expected = Extract1D.from_reference({"apertures": [entry]}, FIXED_SLIT, apply_apcorr=False)
    assert operator == expected
    issues = Reference.read(path).check()
    assert [(issue.level, key in issue) for issue in issues] == [("warning", True)]
    with pytest.raises(ReferenceFileError, match=f"unknown parameter {key!r}"):
        Extract1D.from_reference(None, FIXED_SLIT, **{key: 4.5})
