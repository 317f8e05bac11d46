"""Regions: conversion from an operator and back gives the same extraction."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glue_lrs import Aperture, Background, Extract1D, LRSError, LRSWarning
from glue_lrs.errors import ApertureError, ReferenceFileError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.image.trace import expected_trace
from glue_lrs.spectra.columns import COLUMNS
from glue_lrs.viewers.live.regions import (
    TRACE_TOLERANCE,
    Region,
    operator_with,
    regions_of,
    row_wavelength,
)
from tests.helpers.cases import Case, make_case

ROWS = np.arange(30.0)
WAVE = 14.0 - 9.0 * (ROWS / 29.0) ** 1.5


def run(operator: Extract1D, image: SlitImage) -> dict[str, np.ndarray] | str:
    """All columns, or the name of the error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        try:
            return operator.run(image).columns
        except LRSError as error:
            return type(error).__name__


def operator_of(case: Case) -> Extract1D:
    reference = {"apertures": [{"id": case.image.exp_type, **case.entry}]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        return Extract1D.from_reference(
            reference, case.image.exp_type, apcorr=case.apcorr, **case.step
        )


def follows_trace(case: Case, operator: Extract1D) -> bool:
    return operator.place(case.image).trace is not None and operator.aperture.src_coeff is None


CASES = {seed: make_case(seed) for seed in range(160)}
TRACES = [
    seed
    for seed, case in CASES.items()
    if "limits: width" in case.branches and follows_trace(case, operator_of(case))
]
OTHERS = [seed for seed in CASES if seed not in TRACES]


def test_the_cases_have_every_kind_of_operator() -> None:
    hit = set().union(*(CASES[seed].branches for seed in OTHERS))
    for limits in ("default", "whole", "fraction", "beyond", "width", "pixel", "taper", "two"):
        assert f"limits: {limits}" in hit
    for others in ("position: step_true", "offset: some", "rows: cut", "regions: sloped"):
        assert others in hit
    assert len(TRACES) >= 3
    moved = [operator_of(CASES[seed]).place(CASES[seed].image).offset for seed in OTHERS]
    assert np.count_nonzero(moved) > 30


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("chunk", range(8))
def test_the_operator_of_the_regions_extracts_the_same(chunk: int, fixed: bool) -> None:
    for seed in OTHERS[chunk::8]:
        case = CASES[seed]
        operator = replace(operator_of(case), fixed_background=fixed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LRSWarning)
            made = operator_with(operator, case.image, regions_of(operator, case.image))
        assert made.use_source_posn is False
        assert made.position_offset == 0.0
        before, after = run(operator, case.image), run(made, case.image)
        if isinstance(before, str) or isinstance(after, str):
            assert before == after, seed
            continue
        for name in COLUMNS:
            a, b = (np.asarray(columns[name], dtype=float) for columns in (before, after))
            assert a.shape == b.shape, (seed, name)
            scale = np.nanmedian(np.abs(a)) if np.isfinite(a).any() else 1.0
            np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-9 * scale, err_msg=f"{seed} {name}")
        again = operator_with(made, case.image, regions_of(made, case.image))
        assert again == made


@pytest.mark.parametrize("seed", TRACES)
def test_an_extraction_along_a_trace_becomes_polynomials(seed: int) -> None:
    case = CASES[seed]
    operator = operator_of(case)
    region = regions_of(operator, case.image)[0]
    assert region.straight or region.variable == "pixel"
    trace = expected_trace(case.image) + operator.position_offset
    known = np.flatnonzero(np.isfinite(trace))
    lower, upper = region.at(known, np.nan)
    np.testing.assert_allclose((lower + upper) / 2, trace[known], atol=TRACE_TOLERANCE)
    np.testing.assert_allclose(upper - lower, operator.aperture.extract_width, rtol=1e-12)
    made = operator_with(operator, case.image, regions_of(operator, case.image))
    before, after = run(operator, case.image), run(made, case.image)
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    np.testing.assert_array_equal(after["WAVELENGTH"].shape, before["WAVELENGTH"].shape)
    # An edge that moves by a fraction of a pixel adds or removes this fraction of its flux; the
    # peak is 60.
    flux = np.nanmax(np.abs(after["FLUX"] - before["FLUX"]))
    scale = (case.image.pixel_area or 1e-6) * 1e6
    assert flux <= 2 * TRACE_TOLERANCE * 60 * 1.5 * scale


def test_fixed_limits_are_reproduced_exactly(make_image) -> None:
    image = make_image()
    operator = Extract1D(
        aperture=Aperture(xstart=7.23, xstop=11.9, ystart=3),
        background=Background(bkg_coeff=((0.7,), (4.35,)), bkg_fit="median"),
    )
    assert operator_with(operator, image, regions_of(operator, image)) == operator


def test_absent_limits_are_the_edges_of_the_image(make_image) -> None:
    image = make_image()
    (region,) = regions_of(Extract1D(aperture=Aperture()), image)
    assert (region.lower, region.upper) == ((-0.5,), (19.5,))


def test_regions_include_the_offset(make_image) -> None:
    image = make_image()
    operator = Extract1D(
        aperture=Aperture(xstart=7, xstop=11),
        background=Background(bkg_coeff=((0.5,), (4.5,))),
        position_offset=1.25,
    )
    aperture, background = regions_of(operator, image)
    assert (aperture.kind, aperture.lower, aperture.upper) == ("aperture", (7.75,), (12.75,))
    assert (background.kind, background.lower, background.upper) == (
        "background",
        (1.75,),
        (5.75,),
    )
    _, background = regions_of(replace(operator, fixed_background=True), image)
    assert background.lower == (0.5,)


def test_straight_regions_share_the_variable_of_the_others(make_image) -> None:
    image = make_image()
    straight = Background(bkg_coeff=((0.5,), (4.5,)))
    for variable in ("pixel", "wavelength"):
        tapered = Aperture(src_coeff=((7, -0.01), (12, 0.01)), independent_var=variable)
        regions = regions_of(Extract1D(aperture=tapered, background=straight), image)
        assert {region.variable for region in regions} == {variable}
    plain = Extract1D(aperture=Aperture(xstart=7, xstop=11), background=straight)
    assert {region.variable for region in regions_of(plain, image)} == {"wavelength"}


def test_a_tilted_aperture_and_background_fit_into_one_reference(make_image) -> None:
    image = make_image()
    plain = Extract1D(
        aperture=Aperture(xstart=7, xstop=11), background=Background(bkg_coeff=((0.5,), (4.5,)))
    )
    regions = [
        region.with_end("upper", "top", region.upper[0] + 1.5, ROWS, row_wavelength(image))
        for region in regions_of(plain, image)
    ]
    operator = operator_with(plain, image, regions)
    entry = operator.to_reference(image).entry(image.exp_type)
    assert entry["independent_var"] == "wavelength"
    assert [len(edge) for edge in entry["src_coeff"]] == [1, 2]
    assert [len(edge) for edge in entry["bkg_coeff"]] == [1, 2]


def test_no_aperture_is_an_error(make_image) -> None:
    image = make_image()
    operator = Extract1D(aperture=Aperture(xstart=7, xstop=11))
    with pytest.raises(ApertureError, match="no region is an aperture"):
        operator_with(operator, image, [Region("background", (1.0,), (3.0,))])


def test_regions_of_both_variables_are_an_error(make_image) -> None:
    image = make_image()
    operator = Extract1D(aperture=Aperture(xstart=7, xstop=11))
    regions = [
        Region("aperture", (1.0, 0.1), (3.0, 0.1), "pixel"),
        Region("aperture", (9.0, 0.1), (12.0, 0.1), "wavelength"),
    ]
    with pytest.raises(ReferenceFileError, match="expected one variable for all"):
        operator_with(operator, image, regions)


def test_the_background_keeps_its_fit_or_takes_that_of_another(make_image) -> None:
    image = make_image()
    fit = Background(bkg_coeff=((0.5,), (4.5,)), bkg_fit="poly", bkg_order=2, smoothing_length=5)
    drawn = Region("background", (13.0,), (18.0,))
    both = Extract1D(aperture=Aperture(xstart=7, xstop=11), background=fit)
    aperture = regions_of(both, image)[0]
    for made in (
        operator_with(both, image, [aperture, drawn]),
        operator_with(replace(both, background=None), image, [aperture, drawn], fit),
    ):
        assert made.background == replace(fit, bkg_coeff=((13.0,), (18.0,)))
    bare = operator_with(replace(both, background=None), image, [aperture, drawn])
    assert bare.background == Background(bkg_coeff=((13.0,), (18.0,)))
    assert operator_with(both, image, [aperture]).background is None


# --- edits of a region -----------------------------------------------------------------------

numbers = st.floats(-30, 30)
variables = st.sampled_from(["pixel", "wavelength"])


@st.composite
def some_regions(draw) -> Region:
    """A region that is at least a pixel wide in all rows."""
    variable = draw(variables)
    slopes = st.floats(-0.02, 0.02) if variable == "pixel" else st.floats(-0.1, 0.1)
    edge = (draw(st.floats(5, 20)), draw(slopes), draw(slopes) / 50)[: draw(st.integers(1, 3))]
    wider = (draw(st.floats(4.5, 9)), draw(slopes))[: draw(st.integers(1, 2))]
    upper = np.polynomial.polynomial.polyadd(edge, wider)
    return Region("aperture", edge, tuple(upper), variable)


@given(some_regions(), numbers)
def test_moving_moves_both_edges(region: Region, dx: float) -> None:
    before, after = region.at(ROWS, WAVE), region.moved(dx).at(ROWS, WAVE)
    np.testing.assert_allclose(np.subtract(after, before), dx, atol=1e-9)


@given(some_regions(), st.sampled_from(["lower", "upper"]), numbers)
def test_an_edge_moves_alone_and_stops_a_pixel_before_the_other(region, edge, dx) -> None:
    (lower, upper), (new_lower, new_upper) = (
        one.at(ROWS, WAVE) for one in (region, region.with_edge(edge, dx, ROWS, WAVE))
    )
    moved, stays = (
        (new_lower - lower, new_upper - upper)
        if edge == "lower"
        else (new_upper - upper, new_lower - lower)
    )
    np.testing.assert_allclose(stays, 0.0, atol=1e-12)
    assert (new_upper - new_lower).min() >= 1 - 1e-9
    room = (upper - lower).min() - 1
    inward = dx if edge == "lower" else -dx
    expected = dx if inward <= room else np.sign(dx) * room
    np.testing.assert_allclose(moved, expected, atol=1e-9)


@given(
    some_regions(),
    st.sampled_from(["lower", "upper"]),
    st.sampled_from(["bottom", "top"]),
    numbers,
)
def test_an_end_moves_and_the_other_end_stays(region, edge, end, position) -> None:
    made = region.with_end(edge, end, position, ROWS, WAVE)
    (lower, upper), (new_lower, new_upper) = (one.at(ROWS, WAVE) for one in (region, made))
    old, new, fixed = (
        (lower, new_lower, new_upper - upper)
        if edge == "lower"
        else (upper, new_upper, new_lower - lower)
    )
    here, there = (0, -1) if end == "bottom" else (-1, 0)
    np.testing.assert_allclose(fixed, 0.0, atol=1e-12)
    np.testing.assert_allclose(new[there], old[there], atol=1e-9)
    assert (new_upper - new_lower).min() >= 1 - 1e-9
    other = (upper if edge == "lower" else lower)[here]
    clear = position <= other - 1.5 if edge == "lower" else position >= other + 1.5
    if clear and region.straight:
        np.testing.assert_allclose(new[here], position, atol=1e-9)
    # The change is linear in the variable of the region.
    variable = ROWS if region.variable == "pixel" else WAVE
    change = new - old
    line = change[0] + (change[-1] - change[0]) * (variable - variable[0]) / (
        variable[-1] - variable[0]
    )
    np.testing.assert_allclose(change, line, atol=1e-9)


@given(some_regions(), st.sampled_from(["bottom", "top"]), st.floats(-5, 5))
def test_a_taper_moves_both_edges_by_the_same(region, end, dx) -> None:
    made = region.tapered(end, dx, ROWS, WAVE)
    (lower, upper), (new_lower, new_upper) = (one.at(ROWS, WAVE) for one in (region, made))
    here, there = (0, -1) if end == "bottom" else (-1, 0)
    assert (new_upper - new_lower).min() >= 1 - 1e-9
    np.testing.assert_allclose(new_lower[there], lower[there], atol=1e-9)
    np.testing.assert_allclose(new_upper[there], upper[there], atol=1e-9)
    if region.straight:
        np.testing.assert_allclose((new_lower + new_upper)[here], (lower + upper)[here], atol=1e-9)
        width = max((upper - lower)[here] + 2 * dx, 1.0)
        np.testing.assert_allclose((new_upper - new_lower)[here], width, atol=1e-9)


@given(some_regions())
def test_straightened_edges_are_at_their_mean(region: Region) -> None:
    wave = np.where(ROWS < 4, np.nan, WAVE)
    made = region.straightened(ROWS, wave)
    assert made.straight
    known = np.isfinite(wave)
    for new, old in zip(made.at(0, 0), region.at(ROWS, wave), strict=True):
        assert new == pytest.approx(old[known].mean())


@given(st.floats(-5, 25), st.floats(1, 9))
def test_rounded_limits_have_two_digits_and_enclose_a_pixel(lower, width) -> None:
    region = Region("aperture", (lower,), (lower + width,)).rounded()
    for limit in (region.lower[0] + 0.5, region.upper[0] - 0.5):
        assert limit == pytest.approx(round(limit, 2), abs=1e-12)
    assert region.upper[0] - region.lower[0] >= 1 - 1e-12
    assert region.lower[0] == pytest.approx(lower, abs=0.0051)
    assert region.upper[0] == pytest.approx(lower + width, abs=0.0101)


def test_rounded_limits_are_not_changed_by_the_operator(make_image) -> None:
    image = make_image()
    operator = Extract1D(aperture=Aperture(xstart=7, xstop=11))
    region = Region("aperture", (6.8349999,), (11.3333333,)).rounded()
    made = operator_with(operator, image, [region])
    assert (made.aperture.xstart, made.aperture.xstop) == (7.33, 10.83)


def test_the_ends_of_an_edge_are_where_there_is_a_wavelength() -> None:
    wave = np.where((ROWS < 5) | (ROWS > 24), np.nan, WAVE)
    for variable in ("pixel", "wavelength"):
        region = Region("aperture", (5.0,), (9.0,), variable)
        made = region.with_end("upper", "bottom", 11.0, ROWS, wave)
        _, upper = made.at(ROWS, wave)
        assert upper[5] == pytest.approx(11.0)
        assert upper[24] == pytest.approx(9.0)


def test_an_edge_is_not_tilted_without_two_wavelengths() -> None:
    region = Region("aperture", (5.0,), (9.0,))
    assert region.with_end("upper", "top", 11.0, ROWS, np.full(30, np.nan)) is region


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"kind": "slit"}, "kind is 'slit', expected 'aperture' or 'background'"),
        ({"lower": ()}, "lower is empty"),
        ({"upper": (np.nan,)}, "upper is nan, expected a finite number"),
        ({"variable": "row"}, "independent_var is 'row'"),
    ],
)
def test_invalid_values_are_errors(values, text) -> None:
    with pytest.raises(ReferenceFileError, match=text):
        Region(**({"kind": "aperture", "lower": (1.0,), "upper": (3.0,)} | values))


def test_row_wavelengths_are_means_of_finite_values(make_image) -> None:
    image = make_image()
    wavelength = np.array(image.wavelength)
    wavelength[3, :5] = np.nan
    wavelength[4] = np.nan
    wavelength[6] += np.linspace(-0.1, 0.1, 20)
    found = row_wavelength(replace(image, wavelength=wavelength))
    assert np.isnan(found[4])
    good = np.arange(30) != 4
    np.testing.assert_allclose(found[good], image.wavelength[good, 0], rtol=1e-6)
