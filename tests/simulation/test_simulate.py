"""Simulated scenes: truth, noise, headers, and files that the pipeline reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from glue_lrs.apertures.aperture import Aperture
from glue_lrs.errors import LRSError, LRSWarning
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.instrument import DO_NOT_USE, FIXED_SLIT, SLITLESS
from glue_lrs.simulation.optics import PIXEL_AREA, PIXEL_SCALE, PRISM, SLIT
from glue_lrs.simulation.scene import Scene, demo_scene
from glue_lrs.simulation.spectra import BlackBody, Source, Supernova, thermal_background
from glue_lrs.simulation.truth import Simulated
from glue_lrs.spectra.columns import COLUMNS

MAKERS = {
    "nod 1": lambda scene, **kwargs: scene.s2d(1, **kwargs),
    "nod 2": lambda scene, **kwargs: scene.s2d(2, **kwargs),
    "combined": lambda scene, **kwargs: scene.combined(**kwargs),
    "cal": lambda scene, **kwargs: scene.cal(1, **kwargs),
    "cut cal": lambda scene, **kwargs: scene.cal(2, full_frame=False, **kwargs),
    "calints": lambda scene, **kwargs: scene.calints(4, **kwargs),
    "slit calints": lambda scene, **kwargs: scene.slit_calints(4, **kwargs),
}
FIXED = [name for name in MAKERS if name != "calints"]
#: Products with only the first source once the background is subtracted.
ONE_TRACE = {
    "s2d": lambda scene: scene.s2d(1, subtract_nod=False, edges=False),
    "cal": lambda scene: scene.cal(2, subtract_nod=False),
    "cut cal": lambda scene: scene.cal(1, full_frame=False, subtract_nod=False),
    "calints": lambda scene: scene.calints(1),
    "slit calints": lambda scene: scene.slit_calints(1),
}


@pytest.fixture(params=MAKERS)
def product(request: pytest.FixtureRequest) -> Simulated:
    return MAKERS[request.param](demo_scene(3))


# --- the truth ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_TRACE)
@pytest.mark.parametrize("calibrated", [True, False])
def test_noise_free_sum_is_the_flux(name: str, calibrated: bool) -> None:
    scene = Scene(sources=(Source(halo=0.2, position=0.037),), background_slope=0.1)
    make = {
        "s2d": lambda: scene.s2d(1, subtract_nod=False, edges=False, calibrated=calibrated),
        "cal": lambda: scene.cal(2, subtract_nod=False, calibrated=calibrated),
        "cut cal": lambda: scene.cal(
            1, full_frame=False, subtract_nod=False, calibrated=calibrated
        ),
        "calints": lambda: scene.calints(1, calibrated=calibrated),
        "slit calints": lambda: scene.slit_calints(1, calibrated=calibrated),
    }[name]
    truth = make().truth
    rows = np.isfinite(truth.wavelength)
    light = np.nansum((truth.data - truth.background)[rows], axis=1)
    if calibrated:
        light = light * PIXEL_AREA * 1e6
        assert_allclose(truth.flux[rows], Supernova()(truth.wavelength[rows]), rtol=1e-12)
    # At the longest wavelengths the halo may extend beyond the slit's 44 columns.
    assert_allclose(light, truth.flux[rows], rtol=3e-5)
    assert rows.sum() in (387, 388)


@pytest.mark.parametrize("name", ONE_TRACE)
def test_noise_free_centroid_is_the_trace(name: str) -> None:
    scene = Scene(sources=(Source(position=-0.02, halo=0.1),), pointing_error=0.05)
    truth = ONE_TRACE[name](scene).truth
    rows = np.isfinite(truth.wavelength)
    light = np.nan_to_num((truth.data - truth.background)[rows])
    centroid = light @ np.arange(light.shape[1]) / light.sum(axis=1)
    assert_allclose(centroid, truth.column[rows], atol=1e-3)


def test_trace_is_curved_on_the_detector_and_straight_on_the_resampled_image() -> None:
    scene = Scene()
    cal, s2d = scene.cal(1).truth.column, scene.s2d(1).truth.column
    assert np.nanmax(cal) - np.nanmin(cal) == pytest.approx(2.0, abs=0.2)
    assert np.ptp(s2d) == 0.0
    assert s2d[0] == pytest.approx(13.0, abs=0.1)
    assert scene.s2d(2).truth.column[0] == pytest.approx(31.0, abs=0.1)
    assert scene.combined().truth.column[0] == 30.5


def test_negative_traces_cancel_the_source() -> None:
    scene = Scene(sources=(Source(flux=1e-3, halo=0.0),), background=0.0, nod_throw=1.98)
    nods = [scene.s2d(nod, edges=False).truth for nod in (1, 2)]
    assert_allclose(nods[0].data, -nods[1].data, atol=1e-9)
    assert_array_equal(nods[0].negative[0], nods[1].column)
    combined = scene.combined(edges=False).truth
    light = np.nan_to_num(combined.data)
    for column, sign in ((30.5, 1.0), (12.5, -1.0), (48.5, -1.0)):  # negatives: of one nod each
        window = slice(int(column) - 6, int(column) + 8)
        flux = light[:, window].sum(axis=1) * PIXEL_AREA * 1e6
        # The outer wing of a negative trace is halved where the other nod overlaps.
        assert_allclose(flux, sign * combined.flux, rtol=3e-3)
    assert sorted(trace[0] for trace in combined.negative) == [12.5, 48.5]


@pytest.mark.parametrize(("dispersion", "ends"), [(SLIT, (14.02, 2.9)), (PRISM, (13.992, 3.7))])
def test_dispersion(dispersion: object, ends: tuple[float, float]) -> None:
    rows = np.linspace(-293, 94, 3871)
    wave = dispersion.wavelength(rows)
    assert (np.diff(wave) < 0).all()
    assert_allclose(wave[[0, -1]], ends, atol=0.01)
    steps = -np.diff(wave[::10])
    assert steps[:20].mean() == pytest.approx(0.0142, abs=0.002)
    assert steps[-40:-20].mean() > 3 * steps[:20].mean()  # coarser at short wavelengths
    assert np.isnan(dispersion.wavelength([-293.5, 94.5])).all()


def test_real_wavelengths() -> None:
    # Rows of the calibration of LRS (specwcs 0005 and 0006), relative to the reference point.
    rows = [-206, -106, -6, 69]
    assert_allclose(SLIT.wavelength(rows), [12.7264, 10.9301, 8.5293, 5.6332], atol=0.03)
    assert_allclose(PRISM.wavelength(rows), [12.757, 11.0424, 8.7532, 6.053], atol=0.03)
    assert_allclose(SLIT.shift([94, -293]), [0.1933, -1.8006], atol=1e-3)
    assert_allclose(PRISM.shift([94, -293]), [0.1244, -1.1478], atol=1e-3)


def test_point_spread_function() -> None:
    scene = Scene(sources=(Source(halo=0.0),))
    assert_allclose(scene.psf.width([5, 7.5, 10, 12]), [0.29, 0.30, 0.36, 0.42])
    # A Gaussian has 76.1% of its light within the FWHM.
    inside = scene.psf.enclosed(-0.18, 0.18, 10.0, 0.0)
    assert inside == pytest.approx(0.7609681, abs=1e-6)
    assert scene.psf.enclosed(-0.9, 0.9, 10.0, 1.0) == pytest.approx(1.0)
    assert scene.psf.enclosed(-0.45, 0.45, 10.0, 1.0) == pytest.approx(0.5 + 1 / np.pi)
    assert scene.psf.enclosed(-2.0, 2.0, 10.0, 0.3) == pytest.approx(1.0)


def test_enclosed_and_aperture_correction_agree_with_the_image() -> None:
    scene = Scene(sources=(Source(flux=2e-3, halo=0.15),))
    truth = scene.s2d(1, subtract_nod=False, edges=False).truth
    light = (truth.data - truth.background)[:, 9:18].sum(axis=1) * PIXEL_AREA * 1e6
    assert_allclose(truth.enclosed(8.5, 17.5) * truth.flux, light, rtol=1e-12)
    offset = 13.0 - truth.column[0]
    table = scene.aperture_correction("SLITLESSPRISM", offset=offset)
    assert table.subarray == "SLITLESSPRISM"
    assert_allclose(table(truth.wavelength, 9.0) * light, truth.flux, rtol=1e-5)
    assert (table.factor[:, 0] > 1.5).all()
    assert_allclose(table.factor[:, -1], 1.0, atol=1e-12)


def test_fluxes() -> None:
    wave = np.linspace(3, 14, 500)
    assert (Supernova()(wave) > 0).all()
    assert_allclose(Supernova(4e-3)(wave), 2 * Supernova(2e-3)(wave))
    line = Supernova()(np.array([12.4, 12.814, 13.3]))
    assert line[1] > 2 * line[[0, 2]].max()
    assert BlackBody(300.0, 2e-3, 8.0)(8.0) == pytest.approx(2e-3)
    # Wien's displacement law in frequency: the maximum is at 5099 micron kelvin.
    assert wave[np.argmax(BlackBody(509.9)(wave))] == pytest.approx(10.0, abs=0.03)
    assert (np.diff(thermal_background(wave)) > 0).all()


# --- the noise ---------------------------------------------------------------------------------


def test_noise_matches_the_variances(product: Simulated) -> None:
    image, truth = product.image, product.truth
    total = truth.var_poisson + truth.var_rnoise + truth.var_flat
    good = np.isfinite(truth.data) & np.isfinite(image.data)
    if image.dq is not None:
        good &= (image.dq & DO_NOT_USE) == 0
    for variance in (np.broadcast_to(total, image.data.shape), np.square(image.err)):
        pull = ((image.data - truth.data) / np.sqrt(variance))[good]
        assert np.std(pull) == pytest.approx(1.0, abs=0.015)
        assert abs(np.mean(pull)) < 0.02
    assert_allclose(
        np.square(image.err)[good],
        (image.var_poisson + image.var_rnoise + image.var_flat)[good],
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("component", "settings"),
    [
        ("var_poisson", {"read_noise": 0.0, "flat_error": 0.0}),
        ("var_rnoise", {"read_noise": 1e5, "flat_error": 0.0}),
        ("var_flat", {"read_noise": 0.0, "flat_error": 0.3}),
    ],
)
def test_each_variance_is_drawn(component: str, settings: dict[str, float]) -> None:
    scene = Scene(sources=(Source(flux=5e-3),), background=50.0, **settings)
    sim = scene.s2d(1, subtract_nod=False, edges=False)
    true = getattr(sim.truth, component)
    others = (
        sum(getattr(sim.truth, name) for name in ("var_poisson", "var_rnoise", "var_flat")) - true
    )
    assert np.median(others / true) < 0.05
    pull = (sim.image.data - sim.truth.data) / np.sqrt(true + others)
    assert np.std(pull) == pytest.approx(1.0, abs=0.02)
    rows = slice(150, 380)  # many electrons
    assert np.median((getattr(sim.image, component) / true)[rows]) == pytest.approx(1.0, abs=0.02)
    if component != "var_rnoise":  # estimated from the noisy data
        assert np.std((getattr(sim.image, component) / true)[rows]) > 1e-3


def test_pixels_of_a_stack_are_independent_but_for_the_flat() -> None:
    sim = Scene(flat_error=0.0).calints(60)
    residual = (sim.image.data - sim.truth.data) / sim.image.err
    assert np.std(residual.mean(axis=0)) == pytest.approx(60**-0.5, rel=0.02)
    sim = Scene(background=300.0, flat_error=0.1).calints(60)
    residual = (sim.image.data - sim.truth.data)[:, 300:390].mean(axis=0)
    assert np.std(residual / np.sqrt(sim.truth.var_flat[300:390])) == pytest.approx(1.0, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", FIXED)
def test_extraction_recovers_the_truth(name: str) -> None:
    kwargs = {} if name in ("combined", "slit calints") else {"subtract_nod": False}
    extract = Extract1D(aperture=Aperture(extract_width=8), use_source_posn=True)
    pulls = []
    for seed in range(12):
        scene = Scene(sources=(Source(halo=0.1),), background=20.0, seed=seed)
        sim = MAKERS[name](scene, **kwargs)
        truth, columns = sim.truth, extract.run(sim.image).columns
        rows = np.isfinite(truth.column) & np.isfinite(truth.wavelength)
        assert columns["FLUX"].shape[-1] == rows.sum()
        # True light within 4 columns of the trace, with fractional pixels.
        away = np.arange(sim.image.shape[1]) - truth.column[rows, np.newaxis]
        inside = np.clip(4.5 - np.abs(away), 0.0, 1.0)
        light = np.nansum(truth.data[rows] * inside, axis=1) * PIXEL_AREA * 1e6
        pulls.append((columns["FLUX"] - light) / columns["FLUX_ERROR"])
    pull = np.concatenate([part.ravel() for part in pulls])
    pull = pull[np.isfinite(pull)]
    assert pull.size > 4500
    assert 0.95 < np.std(pull) < 1.05
    assert abs(np.mean(pull)) < 0.08  # slightly below 0: variances are estimated from noisy data


# --- frames and headers ------------------------------------------------------------------------


@pytest.mark.slow
def test_same_seed_same_noise() -> None:
    for make in MAKERS.values():
        one, same, other = (make(demo_scene(seed)).image.data for seed in (5, 5, 6))
        assert_array_equal(one, same)
        assert not np.array_equal(one, other, equal_nan=True)
    nods = [demo_scene(5).s2d(nod) for nod in (1, 2)]
    noise = [np.nan_to_num((nod.image.data - nod.truth.data) / nod.image.err) for nod in nods]
    assert abs(np.corrcoef(*(each.ravel() for each in noise))[0, 1]) < 0.02


def test_cal_cut_to_its_box_equals_that_part_of_the_full_frame() -> None:
    scene = demo_scene()
    full, cut = scene.cal(1).image, scene.cal(1, full_frame=False).image
    assert full.shape == (1024, 1032)
    for plane in ("data", "err", "var_poisson", "var_rnoise", "var_flat", "dq", "wavelength"):
        inner = getattr(full, plane)[7:394, 303:347]
        assert_array_equal(inner, getattr(cut, plane))
    outside = np.ones(full.shape, dtype=bool)
    outside[7:394, 303:347] = False
    assert np.isnan(full.data[outside]).all()
    assert np.isnan(full.wavelength[outside]).all()
    assert (full.dq[outside] & DO_NOT_USE).all()
    assert full.wcs(320.0, 100.0) == pytest.approx(cut.wcs(17.0, 93.0), rel=1e-12)
    assert cut.sci_header["SLTSTRT1"] == 304
    assert cut.sci_header["SLTSTRT2"] == 8


def test_wcs(product: Simulated) -> None:
    image, truth = product.image, product.truth
    wcs = image.wcs
    row, column = (index.astype(float) for index in np.indices(image.shape))
    ra, dec, wave = wcs(column, row)
    assert_array_equal(np.isfinite(wave), np.isfinite(image.wavelength))
    known = np.isfinite(wave)
    assert_allclose(wave[known], image.wavelength[known], rtol=1e-6)
    expected = np.broadcast_to(truth.wavelength[:, np.newaxis], wave.shape)
    assert_allclose(wave[known], expected[known], rtol=1e-12)
    back = wcs.backward_transform(ra[known], dec[known], wave[known])
    assert_allclose(back[0], column[known], atol=1e-7)
    assert_allclose(back[1], row[known], atol=1e-7)
    # A column is 0.11 arcsec on the sky.
    middle = int(np.nanmedian(truth.column))
    (ra1, ra2), (dec1, dec2) = (plane[200, middle : middle + 11 : 10] for plane in (ra, dec))
    step = np.hypot((ra2 - ra1) * np.cos(np.deg2rad(dec1)), dec2 - dec1)
    assert step * 3600 / 10 == pytest.approx(PIXEL_SCALE, rel=1e-6)
    assert wcs.available_frames[0] == "detector"
    assert wcs.available_frames[-1] == "world"
    assert ("v2v3" in wcs.available_frames) == (image.kind != "s2d")


@pytest.mark.parametrize("name", FIXED)
def test_header_points_at_the_source(name: str) -> None:
    scene = Scene(sources=(Source(position=0.06), Source(flux=1e-5, position=-0.8)))
    sim = MAKERS[name](scene)
    found = expected_position(sim.image)
    assert isinstance(found, SourcePosition)
    (_, _), (bottom, top) = sim.image.bounding_box
    rows = np.flatnonzero(np.isfinite(sim.truth.column))
    assert found.column == pytest.approx(
        np.interp((bottom + top) / 2, rows, sim.truth.column[rows]), abs=1e-4
    )
    # A pointing error displaces the light, but not the header's position.
    missed = MAKERS[name](Scene(pointing_error=0.22))
    assert np.nanmean(missed.truth.column - sim.truth.column) == pytest.approx(
        (0.22 - 0.06) / PIXEL_SCALE
    )
    assert expected_position(missed.image).column == pytest.approx(found.column - 0.06 / 0.11)


@pytest.mark.parametrize("name", MAKERS)
def test_nods_have_the_same_target(name: str) -> None:
    header = MAKERS[name](Scene(ra=120.0, dec=60.0, roll=77.0)).image.header
    assert (header["TARG_RA"], header["TARG_DEC"]) == (120.0, 60.0)
    assert header["DITH_RA"] == pytest.approx(120.0, abs=1e-7)
    assert header["DITH_DEC"] == pytest.approx(60.0, abs=1e-7)


def test_bad_pixels() -> None:
    scene = Scene(bad_fraction=0.01)
    s2d = scene.s2d(1, edges=False).image
    assert s2d.dq is None
    assert np.isnan(s2d.data).mean() == pytest.approx(0.01, rel=0.3)
    assert_array_equal(np.isnan(s2d.data), np.isnan(s2d.var_flat))
    stack = scene.calints(8).image
    assert stack.dq is not None
    bad = (stack.dq & DO_NOT_USE) != 0
    assert bad.mean() == pytest.approx(0.01, rel=0.1)
    assert bad.all(axis=0).sum() > 50  # permanent
    assert (bad.any(axis=0) & ~bad.all(axis=0)).sum() > 50  # temporary
    assert np.isnan(stack.data[bad]).mean() == pytest.approx(0.5, abs=0.05)
    assert np.isfinite(stack.data[~bad]).all()
    harmless = (stack.dq != 0) & ~bad
    assert harmless.mean() > 0.02


def test_edges_are_nan_as_after_resampling() -> None:
    for sim in (Scene().s2d(1), Scene().combined()):
        edge = np.ones(sim.image.shape, dtype=bool)
        edge[1:-1, 1:-1] = False
        assert np.isnan(sim.image.data[edge]).all()
        assert np.isfinite(sim.image.wavelength).all()
    assert np.isfinite(Scene().s2d(1, edges=False).image.data).all()


def test_headers(product: Simulated) -> None:
    image = product.image
    header, science = image.header, image.sci_header
    assert header["EXP_TYPE"] == image.exp_type
    assert header["SUBARRAY"] == image.subarray
    assert header["S_PHOTOM"] == "COMPLETE"
    assert science["PIXAR_SR"] == PIXEL_AREA == image.pixel_area
    assert science["SRCTYPE"] == image.source_type == "POINT"
    assert science["DISPAXIS"] == 2
    assert (header["DITH_RA"], header["DITH_DEC"]) == (image.source_ra, image.source_dec)
    assert header["S_BKDSUB"] == ("SKIPPED" if image.is_stack else "COMPLETE")
    assert ("S_RESAMP" in header) == (image.kind == "s2d")
    assert "nan" not in science["S_REGION"]
    if image.is_stack:
        assert header["TSOVISIT"]
        assert header["NINTS"] == header["INTEND"] == len(image.times) == 4
        assert (np.diff(image.times["int_mid_MJD_UTC"]) > 0).all()


def test_uncalibrated() -> None:
    image = Scene().calints(2, calibrated=False).image
    assert image.header["S_PHOTOM"] == "SKIPPED"
    assert image.sci_header["BUNIT"] == "DN/s"
    assert "PIXAR_SR" not in image.sci_header
    assert not image.calibrated
    assert image.pixel_area is None


def test_a_later_segment() -> None:
    image = Scene().calints(3, first=11, segment=2, n_total=20).image
    assert_array_equal(image.times["integration_number"], [11, 12, 13])
    cards = {key: image.header[key] for key in ("EXSEGNUM", "INTSTART", "INTEND", "NINTS")}
    assert cards == {"EXSEGNUM": 2, "INTSTART": 11, "INTEND": 13, "NINTS": 20}


def test_factors_of_a_light_curve() -> None:
    factors = np.array([1.0, 0.5, 0.0, 2.0])
    scene = Scene(sources=(Source(flux=0.05),), background=0.1)
    sim = scene.calints(4, factors=factors)
    light = (sim.image.data - sim.truth.background)[:, 150:300, 24:48].sum(axis=(1, 2))
    assert_allclose(light / light[0], factors, atol=0.01)
    assert_array_equal(sim.truth.factors, factors)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scene(sources=()), "sources is empty"),
        (lambda: Scene(bad_fraction=1.0), "bad_fraction is 1.0"),
        (lambda: Scene(read_noise=-1.0), "read_noise is -1.0"),
        (lambda: Scene(exposure_time=0.0), "exposure_time is 0.0"),
        (lambda: Source(halo=1.0), "halo is 1.0"),
        (lambda: Scene().s2d(3), "nod is 3"),
        (lambda: Scene().s2d(shape=(400, 45)), "shape is"),
        (lambda: Scene(sources=(Source(flux=np.nan),)).s2d(), "flux is not finite"),
        (lambda: Scene(background=-5.0).calints(1), "less than 0"),
        (lambda: Scene(sensitivity=0.0).s2d(), "sensitivity"),
        (lambda: Scene().calints(0), "n_int is 0"),
        (lambda: Scene().calints(2, factors=[1.0]), "factors has shape"),
    ],
)
def test_invalid_parameters(make: object, message: str) -> None:
    with pytest.raises(LRSError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


# --- the pipeline reads the files --------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("name", MAKERS)
def test_pipeline_extracts_the_file(name: str, tmp_path: Path) -> None:
    from jwst.extract_1d.extract import run_extract1d
    from jwst.extract_1d.source_location import location_from_wcs
    from stdatamodels.jwst import datamodels

    sim = MAKERS[name](demo_scene(4))
    slit = sim.image.exp_type == FIXED_SLIT
    middle = round(float(np.nanmean(sim.truth.column))) + 3  # off the source unless it is moved
    entry = {"id": sim.image.exp_type, "region_type": "target", "use_source_posn": slit}
    entry |= {"xstart": middle - 4, "xstop": middle + 3}
    path, reference = tmp_path / "image.fits", tmp_path / "extract1d.json"
    reference.write_text(json.dumps({"apertures": [entry]}))
    sim.image.write(path)
    with datamodels.open(path) as model:
        assert type(model).__name__ == "SlitModel"
        found = location_from_wcs(model, None)
        theirs = run_extract1d(model, str(reference), "N/A", "N/A")[0].spec[0].spec_table.copy()
    if slit:
        rows = np.flatnonzero(np.isfinite(sim.truth.column))
        expected = np.interp(np.mean(sim.image.bounding_box[1]), rows, sim.truth.column[rows])
        assert found[2] == pytest.approx(expected, abs=1e-4)
    aperture = Aperture(xstart=middle - 4, xstop=middle + 3)
    with pytest.warns(LRSWarning, match="bad pixels"):
        ours = Extract1D(aperture=aperture, use_source_posn=slit).run(SlitImage.read(path))
    for column in COLUMNS:
        values = ours.columns[column]
        good = np.isfinite(ours.columns["FLUX"])
        scale = np.maximum(np.abs(theirs[column]), np.median(np.abs(theirs[column][good])))
        close = np.abs(values - theirs[column]) <= 1e-9 * scale
        assert close[good].all(), column
    assert_array_equal(np.isnan(theirs["FLUX"]), np.isnan(ours.columns["FLUX"]))
    if sim.image.is_stack:
        assert_array_equal(theirs["INT_NUM"], [1, 2, 3, 4])
        assert_allclose(theirs["TDB-MID"], sim.image.times["int_mid_BJD_TDB"], rtol=1e-15)


@pytest.mark.parity
@pytest.mark.parametrize("nod", [1, 2])
def test_pipeline_finds_the_other_nod(nod: int, tmp_path: Path) -> None:
    from jwst.extract_1d.source_location import nod_pair_location
    from stdatamodels.jwst import datamodels

    sim = Scene().cal(nod, full_frame=False)
    sim.image.write(tmp_path / "cal.fits")
    with datamodels.open(tmp_path / "cal.fits") as model:
        found = nod_pair_location(model, sim.truth.wavelength[193])
    assert found == pytest.approx(sim.truth.negative[0][193], abs=1e-3)


@pytest.mark.parity
def test_older_datamodels(tmp_path: Path) -> None:
    from stdatamodels.jwst import datamodels

    for image in (
        Scene().cal(1, datamodel="ImageModel").image,
        Scene().calints(2, datamodel="CubeModel").image,
    ):
        path = tmp_path / f"{image.kind}.fits"
        image.write(path)
        with datamodels.open(path) as model:
            assert type(model).__name__ == image.header["DATAMODL"]
            assert_array_equal(model.data, image.data)
            assert model.meta.exposure.type in (FIXED_SLIT, SLITLESS)
