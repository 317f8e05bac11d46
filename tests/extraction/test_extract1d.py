from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy import units as u

from glue_lrs import Aperture, ApertureCorrection, Background, Extract1D, LRSError, LRSWarning
from glue_lrs.errors import LostPixelsWarning
from glue_lrs.extraction import box_plan, box_sums
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import SLITLESS
from glue_lrs.spectra.columns import COLUMNS
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.from_specutils import spectrum_to_extraction

Make = Callable[..., SlitImage]

APERTURE = Aperture(xstart=7.3, xstop=12.6)
MEDIAN = Background.from_edges((0.5, 4.5), (15.5, 18.5), bkg_fit="median")
CORRECTION = ApertureCorrection(
    wavelength=[4.0, 15.0], size=[1.0, 5.0, 15.0], factor=[[2.0, 1.5, 1.2], [3.0, 1.8, 1.4]]
)

OPERATORS = {
    "box": Extract1D(aperture=APERTURE),
    "median": Extract1D(aperture=APERTURE, background=MEDIAN, aperture_correction=CORRECTION),
    "constant": Extract1D(aperture=APERTURE, background=replace(MEDIAN, bkg_fit="poly")),
    "line": Extract1D(
        aperture=Aperture(src_coeff=[[7, 0.05], [12, 0.06]]),
        background=replace(MEDIAN, bkg_fit="poly", bkg_order=1),
        aperture_correction=CORRECTION,
    ),
    "smooth": Extract1D(
        aperture=Aperture(src_coeff=[[5, 0.2], [14, -0.1]], independent_var="wavelength"),
        background=replace(MEDIAN, smoothing_length=5),
    ),
}


def assert_same(one: Extraction, other: Extraction, rtol: float = 1e-13) -> None:
    for name in COLUMNS:
        np.testing.assert_allclose(one.columns[name], other.columns[name], rtol=rtol, err_msg=name)


def spoil(image: SlitImage, seed: int = 0) -> SlitImage:
    """Return an image with NaN in every plane, and flags."""
    rng = np.random.default_rng(seed)
    planes: dict[str, Any] = {}
    for name in ("data", "err", "var_poisson", "var_rnoise", "var_flat"):
        planes[name] = getattr(image, name).copy()
        planes[name][rng.random(image.data.shape) < 0.01] = np.nan
    dq = (rng.random(image.data.shape) < 0.01).astype(np.uint32) | np.uint32(2)
    return replace(image, dq=dq, **planes)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_stack_is_its_integrations(name: str, make_image: Make) -> None:
    stack = spoil(make_image((7, 30, 20)))
    together = OPERATORS[name].run(stack)
    assert together.columns["FLUX"].shape == (7, 30)
    for number in range(7):
        planes = {
            plane: getattr(stack, plane)[number]
            for plane in ("data", "err", "var_poisson", "var_rnoise", "var_flat", "dq")
        }
        alone = OPERATORS[name].run(replace(stack, **planes))
        for column in COLUMNS:
            np.testing.assert_allclose(
                together.columns[column][number], alone.columns[column], rtol=1e-10
            )


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("pixels", [1, 50, 333])
def test_blocks_make_no_difference(
    name: str, pixels: int, make_image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = spoil(make_image((5, 30, 20)))
    at_once = OPERATORS[name].run(stack)
    monkeypatch.setattr(box_plan, "BLOCK_PIXELS", pixels)
    assert_same(OPERATORS[name].run(stack), at_once, rtol=1e-12)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", OPERATORS)
def test_full_rows_make_no_difference(
    name: str, order: str, make_image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planes of a stack are read as full rows or as single columns, for any memory layout."""
    stack = spoil(make_image((5, 30, 20)))
    planes = {n: getattr(stack, n) for n in ("data", "err", "var_poisson", "var_rnoise", "dq")}
    swapped = {n: plane.astype(plane.dtype.newbyteorder(order)) for n, plane in planes.items()}
    turned = swapped["var_poisson"].transpose(1, 0, 2).copy().transpose(1, 0, 2)
    rows = OPERATORS[name].run(replace(stack, **swapped | {"var_poisson": turned}))
    monkeypatch.setattr(box_plan, "FULL_ROW_RATIO", 0)
    columns = OPERATORS[name].run(stack)
    for column in COLUMNS:
        np.testing.assert_array_equal(rows.columns[column], columns.columns[column], column)


@pytest.mark.parametrize("name", OPERATORS)
def test_byte_order_makes_no_difference_and_inputs_are_not_changed(
    name: str, make_image: Make
) -> None:
    image = spoil(make_image())
    planes = {
        plane: getattr(image, plane)
        for plane in ("data", "err", "var_poisson", "var_rnoise", "var_flat", "dq", "wavelength")
    }
    for values in planes.values():
        values.flags.writeable = False
    before = {plane: values.copy() for plane, values in planes.items()}
    swapped = {plane: v.astype(v.dtype.newbyteorder(">")) for plane, v in planes.items()}
    assert_same(OPERATORS[name].run(replace(image, **swapped)), OPERATORS[name].run(image))
    for plane, values in planes.items():
        np.testing.assert_array_equal(values, before[plane])


@pytest.mark.parametrize("name", ["box", "constant", "line"])
def test_the_variance_is_that_of_a_linear_flux(name: str, make_image: Make) -> None:
    """The variance is the sum of squared derivatives of the flux times pixel variances."""
    image = spoil(make_image((12, 20)))
    extract = OPERATORS[name]
    base = extract.run(image)
    bumps = np.broadcast_to(image.data, (20, *image.shape)).copy()
    bumps[np.arange(20), :, np.arange(20)] += 1.0  # one column at a time: rows are independent
    planes = {
        plane: np.broadcast_to(getattr(image, plane), bumps.shape)
        for plane in ("err", "var_poisson", "var_rnoise", "var_flat", "dq")
    }
    moved = extract.run(replace(image, data=bumps, **planes))
    derivative = moved.columns["FLUX"] - base.columns["FLUX"]  # (column, row)
    # In rows with lost pixels the pipeline still subtracts their background.
    complete = base.lost_fraction < 1e-12
    assert 4 < complete.sum() < 12
    for component in ("poisson", "rnoise", "flat"):
        variance = getattr(image, f"var_{component}").T
        # Source and background regions do not overlap: their variances add up.
        expected = np.nansum(derivative**2 * variance, axis=0)
        np.testing.assert_allclose(
            base.columns[f"FLUX_VAR_{component.upper()}"][complete], expected[complete], rtol=2e-3
        )


def test_columns_are_consistent(make_image: Make) -> None:
    c = OPERATORS["median"].run(spoil(make_image())).columns
    area = 2.86e-13 * 1e6
    np.testing.assert_allclose(c["FLUX"], c["SURF_BRIGHT"] * c["NPIXELS"] * area)
    for flux in ("FLUX", "SB", "BKGD"):
        parts = sum(c[f"{flux}_VAR_{part}"] for part in ("POISSON", "RNOISE", "FLAT"))
        np.testing.assert_allclose(c[f"{flux}_ERROR"], np.sqrt(parts))
    assert c["DQ"].dtype == np.uint32
    assert c["NPIXELS"].max() == pytest.approx(6.3)


def test_a_known_sum() -> None:
    """2 + 3/2 pixels of 4 over a background of 1, with 0.5 sr per pixel."""
    data = np.array([[1.0, 1.0, 4.0, 4.0, 4.0, 1.0, 3.0]] * 2)
    image = SlitImage(
        data=data,
        wavelength=np.array([[10.0] * 7, [9.0] * 7]),
        unit=u.Unit("MJy/sr"),
        exp_type=SLITLESS,
        pixel_area=0.5,
        var_rnoise=np.full((2, 7), 0.25),
    )
    extract = Extract1D(
        aperture=Aperture.from_edges(1.75, 4.5),
        background=Background.from_edges((-0.5, 1.5), (4.5, 6.5), bkg_fit="median"),
    )
    c = extract.run(image).columns
    assert c["NPIXELS"].tolist() == [2.75, 2.75]
    assert c["BACKGROUND"].tolist() == [1.0, 1.0]
    assert c["FLUX"].tolist() == pytest.approx([2.75 * 3.0 * 0.5e6] * 2)
    source, median = 0.25 * (2 + 0.75**2), 0.25 / 4 * (1.2 * 2.75) ** 2
    assert c["FLUX_VAR_RNOISE"] == pytest.approx((source + median) * 0.25e12)
    assert c["BKGD_VAR_RNOISE"] == pytest.approx(median / 2.75**2)
    assert c["FLUX_VAR_POISSON"].tolist() == [0.0, 0.0]


def test_rows_with_lost_pixels_warn_and_can_be_masked(make_image: Make) -> None:
    image = make_image()
    image.data[4, 9:11] = np.nan
    image.data[9] = np.nan  # no flux: masked in any case, and not counted as a loss
    extract = Extract1D(aperture=APERTURE)
    with pytest.warns(LRSWarning, match=r"in 1 of 30 rows, by at most 2.0 of 6.3 pixels at"):
        extraction = extract.run(image)
    assert np.flatnonzero(extraction.mask).tolist() == [9]
    (empty,) = (one for one in extraction.findings if one.kind == "empty_rows")
    assert empty.values["rows"] == 1
    (found,) = (one for one in extraction.findings if one.kind == "lost_pixels")
    assert (found.severity, found.values["rows"]) == ("warning", 1)
    assert found.values["lost"] == pytest.approx(2.0)
    assert "max_lost=0 masks these rows" in str(found)
    lost = extraction.lost_fraction
    assert lost[4] == pytest.approx(2 / 6.3)
    assert lost[0] == pytest.approx(0.0, abs=1e-12)
    with pytest.warns(LRSWarning, match="these rows are masked"):
        masked = replace(extract, max_lost=0.2).run(image)
    assert np.flatnonzero(masked.mask).tolist() == [4, 9]
    assert masked.columns["DQ"][4] == 1
    np.testing.assert_array_equal(masked.columns["FLUX"], extraction.columns["FLUX"])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*reduce the aperture", LostPixelsWarning)
        warnings.filterwarnings("ignore", ".*have no flux", LostPixelsWarning)
        assert not replace(extract, max_lost=0.5).run(image).mask[4]


def test_rows_without_background_warn(make_image: Make) -> None:
    image = make_image()
    image.data[4, :7] = np.nan
    image.data[4, 14:] = np.nan
    with pytest.warns(LRSWarning, match="1 of 30 rows have too few pixels in .*subtracted"):
        c = OPERATORS["constant"].run(image).columns
    assert c["BACKGROUND"][4] == 0.0
    assert np.isfinite(c["FLUX"][4])
    with pytest.warns(
        LRSWarning, match="too few pixels in the background regions; they have no flux"
    ):
        c = OPERATORS["median"].run(image).columns
    assert np.isnan(c["FLUX"][4])


def test_subtraction_and_correction_can_be_turned_off(make_image: Make) -> None:
    image = make_image()
    assert_same(
        replace(OPERATORS["median"], subtract_background=False, apply_apcorr=False).run(image),
        OPERATORS["box"].run(image),
    )
    extended = replace(image, source_type="EXTENDED")
    assert_same(
        OPERATORS["median"].run(extended),
        replace(OPERATORS["median"], apply_apcorr=False).run(image),
    )


def test_the_position_offset_moves_aperture_and_background(make_image: Make) -> None:
    image = make_image()
    moved = replace(OPERATORS["median"], position_offset=1.0)
    drawn = replace(
        OPERATORS["median"], aperture=APERTURE.shifted(1.0), background=MEDIAN.shifted(1.0)
    )
    assert_same(moved.run(image), drawn.run(image))
    fixed = replace(moved, fixed_background=True)
    assert_same(fixed.run(image), replace(drawn, background=MEDIAN).run(image))


@pytest.mark.parametrize(
    ("changes", "operator", "message"),
    [
        ({"pixel_area": -1.0}, "box", "PIXAR_SR is -1, expected a solid angle"),
        ({"pixel_area": None}, "box", "PIXAR_SR is missing, expected a solid angle"),
        ({"subarray": "SLITLESSPRISM"}, "median", "is for SUBARRAY FULL, expected SLITLESSPRISM"),
        (
            {"wavelength": np.full((30, 20), np.nan)},
            "box",
            "no pixel of the aperture has a wavelength",
        ),
        (
            {"data": np.full((30, 20), np.nan)},
            "box",
            "every pixel of the aperture is bad: 210 ",
        ),
        (
            {"dq": np.ones((30, 20), np.uint32)},
            "box",
            "every pixel of the aperture is bad: 210 ",
        ),
    ],
)
def test_images_that_cannot_be_extracted(
    changes: dict[str, Any], operator: str, message: str, make_image: Make
) -> None:
    with pytest.raises(LRSError, match=message) as caught:
        OPERATORS[operator].run(make_image(**changes))
    assert "\n" not in str(caught.value)


def test_an_aperture_off_the_image(make_image: Make) -> None:
    extract = Extract1D(aperture=Aperture(xstart=40, xstop=50))
    with pytest.raises(LRSError, match=r"\(40.00 to 50.00\) has no pixel .* columns are 0 to 19"):
        extract.run(make_image())


def test_an_uncalibrated_image_gives_count_rates(make_image: Make) -> None:
    image = make_image(calibrated=False, pixel_area=None, unit=u.DN / u.s)
    extraction = Extract1D(aperture=Aperture(xstart=7, xstop=9)).run(image)
    np.testing.assert_allclose(
        extraction.columns["FLUX"], image.data[:, 7:10].sum(axis=1, dtype=float), rtol=1e-12
    )
    assert extraction.units["FLUX"] == "DN/s"


def test_rows_without_wavelength_are_omitted(make_image: Make) -> None:
    image = make_image()
    image.wavelength[:2] = np.nan
    image.wavelength[11] = np.nan
    image.wavelength[20, 7:9] = np.nan
    extraction = Extract1D(aperture=APERTURE).run(image)
    assert extraction.wavelength.size == 27
    assert (extraction.keywords["EXTRYSTR"], extraction.keywords["EXTRYSTP"]) == (3, 30)
    row = np.flatnonzero(np.isclose(extraction.wavelength, image.wavelength[20, 10]))[0]
    assert extraction.columns["NPIXELS"][row] == pytest.approx(6.3 - 1.7)


@pytest.mark.parametrize(
    ("shape", "changes", "message"),
    [
        ((30, 20), {"wavelength": np.ones((3, 20))}, r"WAVELENGTH has shape \(3, 20\)"),
        ((30, 20), {"err": np.ones((3, 20))}, r"ERR has shape \(3, 20\), expected \(30, 20\)"),
        ((30, 20), {"dispaxis": 1}, r"DISPAXIS is 1, expected 2"),
        ((30, 20), {"dispaxis": None}, r"DISPAXIS is none, expected 2"),
        ((30, 20), {"data": np.ones(4)}, r"SCI has shape \(4,\), expected \(row, column\)"),
    ],
)
def test_planes_must_have_the_same_shape(
    shape: tuple[int, ...], changes: dict[str, Any], message: str, make_image: Make
) -> None:
    with pytest.raises(LRSError, match=message):
        make_image(shape, **changes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"position_offset": "1"}, "position_offset is '1', expected a number"),
        ({"max_lost": 1.5}, "max_lost is 1.5, expected a fraction between 0 and 1"),
        ({"use_source_posn": "no"}, "use_source_posn is 'no', expected true, false or null"),
    ],
)
def test_errors_name_the_parameter(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LRSError, match=message):
        Extract1D(aperture=APERTURE, **values)


def test_an_aperture_beyond_the_image_warns(make_image: Make) -> None:
    extract = Extract1D(aperture=Aperture(xstart=15, xstop=30))
    with pytest.warns(LRSWarning, match=r"aperture \(15.00 to 30.00\) reaches beyond the image"):
        extraction = extract.run(make_image())
    assert extraction.columns["NPIXELS"][0] == 5


@pytest.mark.parametrize("wrong", [None, np.ones((3, 3))])
def test_other_types_than_images_are_errors(wrong: Any) -> None:
    with pytest.raises(LRSError, match=r"the image is a .*, expected a SlitImage or a Spectrum"):
        Extract1D(aperture=APERTURE).run(wrong)


def test_a_unit_that_contradicts_the_calibration(make_image: Make) -> None:
    with pytest.raises(LRSError, match="unit is Jy / sr, expected MJy / sr for an image"):
        make_image(unit=u.Jy / u.sr)


def test_a_missing_aperture_correction_is_recorded(make_image: Make) -> None:
    note = "no aperture correction was applied"
    texts = [
        [one.text for one in OPERATORS[name].run(make_image()).findings]
        for name in ("box", "median")
    ]
    assert any(text.startswith(note) for text in texts[0])
    assert not any(text.startswith(note) for text in texts[1])


def test_equal_integrations_are_ambiguous(make_image: Make) -> None:
    """A spectrum cannot be assigned to one of two equal integrations: other columns are omitted."""
    stack = make_image((4, 30, 20))
    for name in ("data", "err", "var_poisson", "var_rnoise", "var_flat"):
        getattr(stack, name)[3] = getattr(stack, name)[1]
    spectrum = OPERATORS["box"].run(stack).to_spectrum()
    assert "NPIXELS" in spectrum_to_extraction(spectrum[2]).columns
    assert "NPIXELS" not in spectrum_to_extraction(spectrum[3]).columns


BACKGROUNDS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "median": {"bkg_fit": "median"},
    "constant": {},
    "line": {"bkg_order": 1},
    "parabola": {"bkg_order": 2},
    "smoothed": {"bkg_fit": "median", "smoothing_length": 5},
    "long smoothed parabola": {"bkg_order": 2, "smoothing_length": 51},
}
SHAPES = {(388, 63): (1.5, 8.5, 51.5, 59.5), (387, 45): (1.5, 5.5, 36.5, 42.5)}


#: Older versions of NumPy need more memory to solve the equations of all rows.
QUARTER = 0.25 if np.lib.NumpyVersion(np.__version__) >= "2.3.0" else 0.35


def added_memory(extract: Extract1D, image: SlitImage) -> float:
    """Return the peak memory of a run, including its result, relative to the six planes."""
    extract.run(image)  # fills the caches of libraries
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    result = extract.run(image)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert (
        peak > sum(values.nbytes for values in result.columns.values()) / 2
    )  # the memory is measured
    return peak / (6 * image.data.nbytes)


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("shape", [*SHAPES, (20, 200, 63)])
def test_a_run_adds_at_most_a_quarter_of_the_planes(
    shape: tuple[int, ...], background: str, make_image: Make
) -> None:
    image = spoil(make_image(shape))
    image = replace(image, **{n: getattr(image, n).astype(">f4") for n in ("data", "err")})
    edges, keys = SHAPES.get(shape, (1.5, 8.5, 51.5, 59.5)), BACKGROUNDS[background]
    pairs = (edges[:2], edges[2:])
    extract = Extract1D(
        aperture=Aperture(xstart=27, xstop=34),
        background=None if keys is None else Background.from_edges(*pairs, **keys),
        aperture_correction=CORRECTION,
    )
    assert added_memory(extract, image) <= QUARTER


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("number", [2, 8, 20])
def test_a_short_stack_adds_at_most_a_quarter_of_the_planes(
    number: int, background: str, make_image: Make
) -> None:
    """Full rows are copied temporarily."""
    image = spoil(make_image((number, 416, 72)))
    image = replace(image, **{n: getattr(image, n).astype(">f4") for n in ("data", "err")})
    keys = BACKGROUNDS[background]
    background_regions = (
        None if keys is None else Background.from_edges((8.5, 20.5), (50.5, 62.5), **keys)
    )
    extract = Extract1D(
        aperture=Aperture(xstart=30, xstop=41),
        background=background_regions,
        aperture_correction=CORRECTION,
    )
    assert added_memory(extract, image) <= QUARTER


@pytest.mark.parametrize("name", OPERATORS)
def test_rows_in_blocks_are_the_rows_at_once(
    name: str, make_image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of blocks of a single image depends on its memory."""
    image = spoil(make_image((90, 20)))
    steps: list[int] = []
    real = box_plan.block_steps
    monkeypatch.setattr(
        box_sums, "block_steps", lambda *args: steps.append(real(*args)[1]) or real(*args)
    )
    blocks = OPERATORS[name].run(image)
    monkeypatch.setattr(box_plan, "BLOCKS_PER_IMAGE", 1)
    at_once = OPERATORS[name].run(image)
    assert steps[0] < 90 == steps[1]
    assert_same(blocks, at_once)


def test_negative_variances_warn(make_image: Callable[..., SlitImage]) -> None:
    image = make_image(seed=3)
    bad = image.var_rnoise.copy()
    bad[10:13] = -1e6
    with pytest.warns(LRSWarning, match="3 of .* rows have a flux and no error: their variances"):
        found = Extract1D(aperture=Aperture(xstart=3, xstop=9)).run(replace(image, var_rnoise=bad))
    assert np.isnan(found.columns["FLUX_ERROR"]).sum() == 3
    assert np.isfinite(found.columns["FLUX"]).all()


def test_regions_shifted_off_the_image_are_an_error(
    make_image: Callable[..., SlitImage],
) -> None:
    extract = Extract1D(
        aperture=Aperture(xstart=10, xstop=14),
        background=Background.from_edges((0.5, 3.5)),
        position_offset=-8.0,
    )
    with pytest.raises(
        LRSError, match=r"shifted by -8\.00 with the aperture.*\(fixed_background=True"
    ):
        extract.run(make_image())
