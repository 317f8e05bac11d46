from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glue_lrs import Aperture, LRSError
from glue_lrs.apertures.edges import Limits, polynomial_regions
from glue_lrs.apertures.weights import limit_weights, region_weights

ROWS, COLUMNS = 12, 25
WAVELENGTH = np.linspace(14.0, 4.0, ROWS)[:, np.newaxis] + 0.01 * np.arange(COLUMNS)

#: Multiples of 0.001 pixel: finer differences would be subject to rounding.
positions = st.integers(-5000, 30000).map(lambda number: number / 1000)
widths = st.integers(10, 20000).map(lambda number: number / 1000)


def pipeline_weights(entry: dict[str, Any], wavelength: np.ndarray = WAVELENGTH) -> np.ndarray:
    """Weights computed by the pipeline."""
    from jwst.extract_1d.extract import box_profile

    params = {"src_coeff": None, "extract_width": None, "trace": None, "independent_var": "pixel"}
    params |= {"dispaxis": 2, "bkg_fit": None} | entry
    return box_profile(wavelength.shape, params, wavelength)


@pytest.mark.parity
@given(lower=positions, width=widths)
def test_weights_of_limits_are_those_of_the_pipeline(lower: float, width: float) -> None:
    ours = Aperture(xstart=lower, xstop=lower + width).weights(WAVELENGTH)
    theirs = pipeline_weights({"xstart": lower, "xstop": lower + width})
    np.testing.assert_allclose(
        np.broadcast_to(ours.full((ROWS, COLUMNS)), theirs.shape), theirs, atol=1e-12
    )


@pytest.mark.parity
@given(
    lower=positions,
    width=widths,
    gradient=st.integers(-200, 200).map(lambda n: n / 1000),
    variable=st.booleans(),
)
def test_weights_of_polynomials_are_those_of_the_pipeline(
    lower: float, width: float, gradient: float, variable: bool
) -> None:
    coefficients = [[lower, gradient], [lower + width + 1.0, gradient]]
    name = "wavelength" if variable else "pixel"
    ours = Aperture(src_coeff=coefficients, independent_var=name).weights(WAVELENGTH)
    theirs = pipeline_weights({"src_coeff": coefficients, "independent_var": name})
    np.testing.assert_allclose(ours.full((ROWS, COLUMNS)), theirs, atol=1e-12)


@given(lower=st.floats(1.0, 10.0), width=st.floats(0.0, 12.0))
def test_the_sum_of_the_weights_is_the_width(lower: float, width: float) -> None:
    """Integral limits enclose full pixels: 27 to 34 are eight."""
    weights = Aperture(xstart=lower, xstop=lower + width).weights(WAVELENGTH).values
    assert weights.sum(axis=1) == pytest.approx(width + 1.0, abs=1e-9)
    assert Aperture(xstart=27, xstop=34).weights(np.ones((3, 45))).values.sum() == 8.0


@given(lower=st.floats(0.0, 10.0), width=st.floats(1.0, 12.0))
def test_the_two_conventions_differ_by_half_a_pixel(lower: float, width: float) -> None:
    edges = Aperture.from_edges(lower, lower + width).weights(WAVELENGTH)
    limits = Aperture(xstart=lower + 0.5, xstop=lower + width - 0.5).weights(WAVELENGTH)
    np.testing.assert_allclose(
        edges.full((ROWS, COLUMNS)), limits.full((ROWS, COLUMNS)), atol=1e-12
    )
    assert (edges.lower, edges.upper) == pytest.approx((limits.lower, limits.upper))


def test_an_edge_gives_the_fraction_of_the_pixel_inside() -> None:
    """Pixel i covers i - 0.5 to i + 0.5: an edge at 2.25 includes a quarter of pixel 2."""
    weights = Aperture.from_edges(2.25, 4.5).weights(WAVELENGTH).full((ROWS, COLUMNS))[0]
    np.testing.assert_allclose(weights[:6], [0.0, 0.0, 0.25, 1.0, 1.0, 0.0])


def test_width_about_the_middle_and_along_a_trace() -> None:
    middle = Aperture(xstart=8, xstop=13, extract_width=4).regions(WAVELENGTH)[0]
    assert (float(middle.lower), float(middle.upper)) == (9.0, 12.0)
    trace = np.linspace(8.0, 9.0, ROWS)
    trace[3] = np.nan
    along = Aperture(extract_width=4).weights(WAVELENGTH, trace)
    full = along.full((ROWS, COLUMNS))
    assert full[3].sum() == 0.0
    good = np.arange(ROWS) != 3
    np.testing.assert_allclose(full[good].sum(axis=1), 4.0)
    centre = full[good] @ np.arange(COLUMNS) / 4.0
    np.testing.assert_allclose(centre, trace[good], atol=0.15)  # partial pixels are uniform


def test_the_weight_is_the_maximum_over_regions() -> None:
    one = Aperture(src_coeff=[[2.5], [7.5], [5.5], [10.0]]).weights(WAVELENGTH)
    np.testing.assert_allclose(
        one.full((ROWS, COLUMNS))[0, :12], [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0.5, 0]
    )
    assert (one.lower, one.upper) == (3.0, 9.5)


def test_rows_are_cut_to_ystart_and_ystop() -> None:
    weights = Aperture(xstart=3, xstop=5, ystart=2.2, ystop=7.9).weights(WAVELENGTH)
    assert np.flatnonzero(weights.full((ROWS, COLUMNS)).sum(axis=1)).tolist() == [3, 4, 5, 6, 7]


def test_pixels_without_a_wavelength_have_no_edge_in_wavelength() -> None:
    wavelength = WAVELENGTH.copy()
    wavelength[:3] = np.nan
    aperture = Aperture(src_coeff=[[5, 0.1], [9, 0.1]], independent_var="wavelength")
    weights = aperture.weights(wavelength)
    full = weights.full((ROWS, COLUMNS))
    assert full[:3].sum() == 0.0
    assert full[3:].sum(axis=1).min() > 3.9
    assert np.isfinite([weights.lower, weights.upper]).all()  # the pipeline gives NaN


@given(st.floats(-3, 3))
def test_shifting_moves_the_limits(offset: float) -> None:
    for aperture in (
        Aperture(xstart=8, xstop=12),
        Aperture(src_coeff=[[8, 0.1], [12, -0.1]]),
        Aperture(xstart=8, xstop=12, extract_width=3.5),
    ):
        moved = aperture.shifted(offset).weights(WAVELENGTH)
        shifted = aperture.weights(WAVELENGTH, offset=offset)
        np.testing.assert_allclose(
            moved.full((ROWS, COLUMNS)), shifted.full((ROWS, COLUMNS)), atol=1e-12
        )


def test_no_partial_pixels_for_a_median() -> None:
    weights = limit_weights(np.arange(8.0), Limits(np.array(2.3), np.array(5.0)), partial=False)
    assert weights.tolist() == [0, 0, 0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"xstart": "27"}, "xstart is '27', expected a number"),
        ({"xstart": True}, "xstart is true, expected a number"),
        ({"xstart": float("nan")}, "xstart is nan, expected a finite number"),
        ({"xstart": 30, "xstop": 20}, "xstop is 20, expected at least xstart"),
        ({"xstart": 10.4, "xstop": 9.9}, "xstop is 9.9, expected at least xstart"),
        ({"ystart": -3}, "ystart is -3, expected a row number of 0 or more"),
        ({"ystart": 9, "ystop": 3}, "ystop is 3, expected at least ystart"),
        ({"extract_width": 0.5}, "extract_width is 0.5, expected at least 1 pixel"),
        ({"src_coeff": [[1], [5], [7]]}, "src_coeff has 3 edges, expected pairs"),
        ({"src_coeff": []}, "src_coeff has 0 edges, expected pairs"),
        ({"src_coeff": "27"}, "src_coeff is '27', expected"),
        ({"src_coeff": [1, 5]}, r"src_coeff\[0\] is 1, expected a list of coefficients"),
        ({"src_coeff": [[1], ["5"]]}, r"src_coeff\[1\] is '5', expected a number"),
        ({"src_coeff": [[9], [5]]}, "src_coeff region 1 goes from 9 to 5, expected the lower edge"),
        ({"src_coeff": [[1], [5]], "independent_var": "row"}, "independent_var is 'row', expected"),
    ],
)
def test_errors_name_the_parameter(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LRSError, match=message) as caught:
        Aperture(**values)
    assert "\n" not in str(caught.value)


def test_edges_that_cross_on_the_image_are_an_error() -> None:
    aperture = Aperture(src_coeff=[[5.0, 0.0], [12.0, -1.0]])
    with pytest.raises(LRSError, match="pixels wide at row 7, expected at least 1"):
        aperture.weights(WAVELENGTH)


def test_coefficients_may_be_an_array() -> None:
    assert Aperture(src_coeff=np.array([[2.5, 0.1], [7.5, 0.1]])) == Aperture(
        src_coeff=[[2.5, 0.1], [7.5, 0.1]]
    )


edges = st.tuples(st.floats(-4, 24), st.floats(-0.5, 0.5), st.floats(1.5, 12), st.floats(-0.1, 0.1))


@given(
    edge=edges,
    box=st.tuples(*[st.integers(0, 5)] * 4),
    holes=st.integers(0, 3),
    offset=st.floats(-3, 3),
)
def test_weights_of_boxed_limits_are_those_of_full_limits(
    edge: tuple[float, float, float, float],
    box: tuple[int, int, int, int],
    holes: int,
    offset: float,
) -> None:
    """The weights equal those of limits computed for every pixel, to the last bit."""
    lower, gradient, width, spread = edge
    coefficients = ((lower, gradient), (lower + width, gradient + spread))
    wavelength = WAVELENGTH.astype(">f4")
    wavelength[: box[0]] = wavelength[ROWS - box[1] :] = np.nan
    wavelength[:, : box[2]] = wavelength[:, COLUMNS - box[3] :] = np.nan
    wavelength[5, 3 * holes :: 9] = np.nan
    aperture = Aperture(src_coeff=coefficients, independent_var="wavelength")
    try:
        (full,) = polynomial_regions("src_coeff", coefficients, "wavelength", wavelength, offset)
    except LRSError as error:
        with pytest.raises(LRSError, match=re.escape(str(error))):
            aperture.weights(wavelength, None, offset)
        return
    assert full.lower.shape == full.upper.shape == (ROWS, COLUMNS)
    np.testing.assert_array_equal(np.isnan(full.lower), np.isnan(wavelength))
    theirs = region_weights(Limits(np.array(full.lower), np.array(full.upper)), (ROWS, COLUMNS))
    ours = aperture.weights(wavelength, None, offset)
    assert (ours.rows, ours.columns) == (theirs.rows, theirs.columns)
    assert ours.values.tobytes() == theirs.values.tobytes()
    np.testing.assert_array_equal([ours.lower, ours.upper], [theirs.lower, theirs.upper])
