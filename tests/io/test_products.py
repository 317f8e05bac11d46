"""Readers and writers of images, identification, atomic writes, ASDF extensions."""

from __future__ import annotations

import copy
import gc
import gzip
import io
import mmap
import os
import pickle
import resource
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import asdf
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import ICRS
from astropy.io import fits, registry
from astropy.modeling.models import (
    Linear1D,
    Mapping,
    Pix2Sky_Gnomonic,
    RotateNative2Celestial,
    Tabular1D,
)
from astropy.table import Table
from gwcs import coordinate_frames as cf
from gwcs.wcs import WCS

from glue_lrs.apertures.aperture import Aperture
from glue_lrs.errors import LRSWarning, ProductError, WriteError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.image.source_position import source_position
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.io import files as _files
from glue_lrs.io import image_reader as products
from glue_lrs.io import image_writer
from glue_lrs.io.files import asdf_bytes, asdf_hdu, atomic_write, opened, parse_asdf
from glue_lrs.io.identify import identify_product, is_lrs_product
from glue_lrs.simulation.scene import Scene

PLANES = ("data", "err", "var_poisson", "var_rnoise", "var_flat", "dq", "wavelength")
KINDS = ("s2d", "cal", "full", "calints")
SHAPES = {"s2d": (40, 20), "cal": (40, 20), "full": (1024, 1032), "calints": (3, 40, 20)}
MODELS = {"s2d": "SlitModel", "cal": "SlitModel", "full": "ImageModel", "calints": "SlitModel"}
IMAGE_KINDS = ("s2d", "cal", "calints")
JSON = (
    '{"reftype": "EXTRACT1D", "instrument": "MIRI", "apertures": '
    '[{"id": "ANY", "xstart": 3, "xstop": 16, "use_source_posn": false}]}'
)


def make_wcs(shape: tuple[int, ...], box: bool = True) -> WCS:
    """The WCS of an s2d: the wavelength depends on the row only."""
    rows, columns = shape[-2:]
    scale = 0.11 / 3600
    mapping = Mapping((0, 0, 1))
    mapping.inverse = Mapping((0, 2), n_inputs=3)
    along = Linear1D(scale, -scale * columns / 2) & Linear1D(scale / 7, -scale * columns / 14)
    sky = along | Pix2Sky_Gnomonic() | RotateNative2Celestial(53.08, -27.86, 180.0)
    wave = Tabular1D(np.arange(rows), np.linspace(14.0, 5.0, rows), bounds_error=False)
    detector = cf.Frame2D(name="detector", unit=(u.pix, u.pix))
    celestial = cf.CelestialFrame(name="sky", reference_frame=ICRS(), unit=(u.deg, u.deg))
    spectral = cf.SpectralFrame(name="spectral", unit=(u.um,), axes_order=(2,))
    world = cf.CompositeFrame([celestial, spectral], name="world")
    wcs = WCS([(detector, mapping | sky & wave), (world, None)])
    if box:
        wcs.bounding_box = ((2.5, columns - 3.5), (4.5, rows - 2.5))
    return wcs


def make_times(first: int, number: int) -> Table:
    table = Table({"integration_number": np.arange(first, first + number, dtype=np.int32)})
    names = ("int_start_MJD_UTC", "int_mid_MJD_UTC", "int_end_MJD_UTC")
    names += ("int_start_BJD_TDB", "int_mid_BJD_TDB", "int_end_BJD_TDB")
    for index, name in enumerate(names):
        table[name] = 60000.0 + index / 1e3 + table["integration_number"]
    return table


def make(kind: str = "s2d", **changes: Any) -> SlitImage:
    """An image made in memory, without any header."""
    shape = SHAPES[kind]
    rng = np.random.default_rng(7)
    wcs = make_wcs(shape)
    rows, columns = np.indices(shape[-2:], dtype=float)
    values: dict[str, Any] = {
        "data": rng.normal(10, 1, shape).astype(np.float32),
        "err": rng.uniform(1, 2, shape).astype(np.float32),
        "wavelength": np.asarray(wcs(columns, rows)[2], dtype=np.float32),
        "unit": u.Unit("MJy/sr"),
        "exp_type": SLITLESS if kind == "calints" else FIXED_SLIT,
        "pixel_area": 2.86e-13,
        "source_type": "POINT",
        "subarray": "SLITLESSPRISM" if kind == "calints" else "FULL",
        "source_ra": 53.08,
        "source_dec": -27.86,
        "kind": "cal" if kind == "full" else kind,
        "wcs_source": wcs,
    }
    for name in ("var_poisson", "var_rnoise", "var_flat"):
        values[name] = rng.uniform(0.1, 1, shape).astype(np.float32)
    if kind != "s2d":
        dq = np.zeros(shape, dtype=np.uint32)
        dq[..., 7, 8] = 1
        dq[..., 9, 9] = 2**31 + 4
        values["dq"] = dq
    if kind == "calints":
        values["times"] = make_times(1, shape[0])
    values["data"][..., 5, 6] = np.nan
    return SlitImage(**values | changes)


@pytest.fixture
def s2d(tmp_path: Path) -> Path:
    path = tmp_path / "a_s2d.fits"
    make().write(path)
    return path


def same(first: Any, second: Any) -> bool:
    if first is None or second is None:
        return first is second
    return np.array_equal(first, second, equal_nan=True)


def load_asdf(hdulist: fits.HDUList) -> Any:
    raw = asdf_bytes(hdulist)
    return None if raw is None else parse_asdf(raw)


def edit(path: Path, change: Any) -> None:
    """Change a file on disk; nothing is recomputed."""
    with fits.open(path, memmap=False) as hdulist:
        change(hdulist)
        hdulist.writeto(path, overwrite=True, output_verify="silentfix")


# --- there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind: str, tmp_path: Path) -> None:
    image = make(kind)
    path = tmp_path / "a.fits"
    image.write(path)
    again = SlitImage.read(path)
    for name in PLANES:
        assert same(getattr(image, name), getattr(again, name)), name
    for name in ("unit", "exp_type", "calibrated", "pixel_area", "dispaxis", "source_type"):
        assert getattr(image, name) == getattr(again, name), name
    for name in ("subarray", "source_ra", "source_dec", "kind", "name", "spectral_order"):
        assert getattr(image, name) == getattr(again, name), name
    assert again.bounding_box == image.bounding_box
    for x, y in ((3.0, 6.5), (9.2, 20.0)):
        assert again.wcs(x, y) == image.wcs(x, y)
        assert np.allclose(again.wcs.backward_transform(*again.wcs(x, y)), (x, y))
    if image.times is None:
        assert again.times is None
    else:
        assert all(same(image.times[name], again.times[name]) for name in image.times.colnames)
    # and once more: now with the headers of a file, which must not change
    again.write(tmp_path / "b.fits")
    third = SlitImage.read(tmp_path / "b.fits")
    assert third.header.pop("FILENAME") == "b.fits"
    assert again.header.pop("FILENAME") == "a.fits"
    assert repr(third.header) == repr(again.header)
    assert repr(third.sci_header) == repr(again.sci_header)


def test_cards_are_kept_and_fields_take_precedence(tmp_path: Path) -> None:
    header = fits.Header([("PROGRAM", "08544", "Program number"), ("SUBARRAY", "BRIGHTSKY")])
    header["HISTORY"] = "made by hand"
    sci = fits.Header([("PHOTMJSR", 13.85, "flux"), ("BUNIT", "mJy"), ("S_REGION", "P " * 60)])
    image = make(header=header, sci_header=sci, source_type=None, spectral_order=2)
    before = repr(image.header), repr(image.sci_header)
    image.write(tmp_path / "a.fits")
    assert (repr(image.header), repr(image.sci_header)) == before
    again = SlitImage.read(tmp_path / "a.fits")
    assert again.header["PROGRAM"] == "08544"
    assert again.header.comments["PROGRAM"] == "Program number"
    assert list(again.header["HISTORY"]) == ["made by hand"]
    assert again.header["SUBARRAY"] == "FULL"
    assert again.sci_header["PHOTMJSR"] == 13.85
    assert again.sci_header["S_REGION"].strip() == ("P " * 60).strip()
    assert again.sci_header["BUNIT"] == "MJy/sr"
    assert again.source_type is None
    assert again.spectral_order == 2


def test_uncalibrated(tmp_path: Path) -> None:
    image = make("calints", calibrated=False, unit=u.Unit("DN/s"), pixel_area=None, var_flat=None)
    image.write(tmp_path / "a.fits")
    again = SlitImage.read(tmp_path / "a.fits")
    assert not again.calibrated
    assert again.unit == u.DN / u.s
    assert again.pixel_area is None
    assert again.var_flat is None
    assert again.sci_header["BUNIT"] == "DN/s"


def test_float64_is_stored_as_float32_and_not_changed(tmp_path: Path) -> None:
    data = make().data.astype(float) / 3
    image = make(data=data)
    kept = data.copy()
    image.write(tmp_path / "a.fits")
    assert image.data is data
    assert same(data, kept)
    assert same(SlitImage.read(tmp_path / "a.fits").data, data.astype(np.float32))


@pytest.mark.parity
@pytest.mark.parametrize("kind", KINDS)
def test_stdatamodels_opens_what_is_written(kind: str, tmp_path: Path) -> None:
    from jwst.lib.pipe_utils import is_tso
    from stdatamodels.jwst import datamodels

    image = make(kind)
    image.write(tmp_path / "a.fits")
    with datamodels.open(tmp_path / "a.fits") as model:
        assert type(model).__name__ == MODELS[kind]
        assert not list(model.validate() or [])
        for name in PLANES:
            if getattr(image, name) is not None:
                assert same(getattr(model, name), getattr(image, name)), name
        assert model.meta.exposure.type == image.exp_type
        assert model.meta.photometry.pixelarea_steradians == image.pixel_area
        assert model.meta.wcsinfo.dispersion_direction == 2
        assert model.meta.target.source_type == "POINT"
        assert model.meta.bunit_data == "MJy/sr"
        assert model.meta.bunit_err == "MJy/sr"
        assert model.meta.cal_step.photom == "COMPLETE"
        assert model.meta.dither.dithered_ra == image.source_ra
        assert model.meta.subarray.name == image.subarray
        assert model.meta.wcs(5.0, 9.0) == image.wcs(5.0, 9.0)
        if image.times is not None:
            assert is_tso(model)
            for name in image.times.colnames:
                assert same(model.int_times[name], image.times[name]), name


@pytest.mark.parity
@pytest.mark.parametrize("kind", KINDS)
def test_the_pipeline_runs_on_what_is_written(kind: str, tmp_path: Path) -> None:
    from jwst.extract_1d.extract import run_extract1d
    from stdatamodels.jwst import datamodels

    path, reference = tmp_path / "a.fits", tmp_path / "extract1d.json"
    make(kind).write(path)
    reference.write_text(JSON)
    with datamodels.open(path) as model:
        theirs = run_extract1d(model, str(reference))[0].spec[0]
    ours = Extract1D(aperture=Aperture(xstart=3, xstop=16)).run(SlitImage.read(path))
    for name in ("WAVELENGTH", "FLUX", "FLUX_ERROR", "FLUX_VAR_FLAT", "NPIXELS"):
        expected = np.array(theirs.spec_table[name])
        found = ours.columns[name]
        lit = np.isfinite(ours.columns["FLUX"])
        assert found.shape == expected.shape
        assert np.allclose(found[lit], expected[lit], rtol=1e-9, atol=0)
    if kind == "calints":
        assert ours.times is not None
        for name in ("INT_NUM", "MJD-BEG", "MJD-AVG", "MJD-END", "TDB-BEG", "TDB-MID", "TDB-END"):
            assert same(np.array(theirs.spec_table[name]), np.array(ours.times[name])), name


@pytest.mark.parity
@pytest.mark.parametrize(
    ("kind", "stated", "found"),
    [
        ("calints", "CubeModel", "CubeModel"),
        ("cal", "ImageModel", "ImageModel"),
        ("s2d", "MultiSlitModel", "MultiSlitModel"),
        ("s2d", "CubeModel", "SlitModel"),  # cannot hold the image
        ("calints", "ImageModel", "SlitModel"),
        ("s2d", "IFUCubeModel", "SlitModel"),
    ],
)
def test_the_data_model_of_the_header(kind: str, stated: str, found: str, tmp_path: Path) -> None:
    from stdatamodels.jwst import datamodels

    image = make(kind, header=fits.Header([("DATAMODL", stated)]))
    image.write(tmp_path / "a.fits")
    with datamodels.open(tmp_path / "a.fits") as model:
        assert type(model).__name__ == found
        science = model.slits[0] if found == "MultiSlitModel" else model
        assert same(science.data, image.data)
        assert science.meta.wcs(5.0, 9.0) == image.wcs(5.0, 9.0)
    assert SlitImage.read(tmp_path / "a.fits").wcs(5.0, 9.0) == image.wcs(5.0, 9.0)


# --- files of the pipeline -----------------------------------------------------------------------


def fill(model: Any, image: SlitImage, meta: Any | None = None) -> Any:
    """Set planes and metadata of a data model of the pipeline to those of an image."""
    for name in PLANES:
        if getattr(image, name) is not None:
            setattr(model, name, getattr(image, name))
    meta = model.meta if meta is None else meta
    meta.telescope, meta.instrument.name, meta.exposure.type = "JWST", "MIRI", image.exp_type
    meta.instrument.detector, meta.instrument.filter = "MIRIMAGE", "P750L"
    meta.cal_step.photom, meta.subarray.name = "COMPLETE", image.subarray
    meta.dither.dithered_ra, meta.dither.dithered_dec = image.source_ra, image.source_dec
    meta.target.source_type = image.source_type
    model.meta.bunit_data = model.meta.bunit_err = "MJy/sr"
    model.meta.photometry.pixelarea_steradians = image.pixel_area
    model.meta.wcsinfo.dispersion_direction = 2
    model.meta.wcs = image.wcs
    return model


@pytest.mark.parity
@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("s2d", "SlitModel"),
        ("cal", "SlitModel"),
        ("full", "ImageModel"),
        ("calints", "SlitModel"),
        ("calints", "CubeModel"),
    ],
)
def test_reads_what_the_pipeline_writes(kind: str, model: str, tmp_path: Path) -> None:
    from stdatamodels.jwst import datamodels

    image = make(kind)
    path = tmp_path / "a.fits"
    with fill(getattr(datamodels, model)(), image) as filled:
        if kind == "s2d":
            filled.meta.cal_step.resample = "COMPLETE"
        filled.save(path)
    again = SlitImage.read(path)
    for name in PLANES:
        if getattr(image, name) is not None:
            assert same(getattr(image, name), getattr(again, name)), name
    assert again.kind == image.kind == identify_product(path)
    assert again.pixel_area == image.pixel_area
    assert (again.source_ra, again.source_dec) == (image.source_ra, image.source_dec)
    assert again.source_type == "POINT"
    assert again.slit_name == image.exp_type
    assert again.wcs(5.0, 9.0) == image.wcs(5.0, 9.0)
    assert again.bounding_box == image.bounding_box


@pytest.mark.parity
@pytest.mark.parametrize("missing", ["absent", "zero", "zero and NaN"])
@pytest.mark.parametrize("kind", ["s2d", "calints"])
def test_wavelength_of_the_wcs(kind: str, missing: str, tmp_path: Path) -> None:
    from jwst.lib.wcs_utils import get_wavelengths
    from stdatamodels.jwst import datamodels

    image = make(kind, var_flat=None)
    path = tmp_path / "a.fits"
    plane = None
    if missing != "absent":
        plane = np.zeros(image.shape, dtype=np.float32)
    if missing == "zero and NaN":
        plane[3:20] = np.nan
    model = datamodels.CubeModel() if kind == "calints" else datamodels.SlitModel()
    with fill(model, image) as filled:
        filled.wavelength = plane
        filled.save(path)
    with fits.open(path) as hdulist:
        assert ("WAVELENGTH" in hdulist) == (missing != "absent")
    again = SlitImage.read(path)
    with datamodels.open(path) as model:
        expected = get_wavelengths(model, image.exp_type)
    assert again.wavelength.dtype == np.float64
    assert same(again.wavelength, expected)
    assert np.isnan(again.wavelength[0]).all()  # outside the bounding box
    assert np.isfinite(again.wavelength).any()
    assert again.var_flat is None


def test_nan_wavelengths_are_not_replaced_by_those_of_the_wcs(tmp_path: Path) -> None:
    nothing = np.full((40, 20), np.nan, dtype=np.float32)
    make(wavelength=nothing).write(tmp_path / "a.fits")
    assert np.isnan(SlitImage.read(tmp_path / "a.fits").wavelength).all()


def multislit(number: int, path: Path) -> None:
    from stdatamodels.jwst import datamodels

    image = make("cal")
    with datamodels.MultiSlitModel() as model:
        for index in range(number):
            slit = fill(datamodels.SlitModel(), make("cal"))
            slit.name = f"SLIT{index}"
            slit.source_type = "EXTENDED"
            model.slits.append(slit)
        fill(datamodels.SlitModel(), image, model.meta)
        model.save(path)


@pytest.mark.parity
def test_one_slit_of_many(tmp_path: Path) -> None:
    multislit(1, tmp_path / "a.fits")
    image = SlitImage.read(tmp_path / "a.fits")
    assert same(image.data, make("cal").data)
    assert image.slit_name == "SLIT0"
    assert image.source_type == "EXTENDED"
    assert image.wcs(5.0, 9.0) == make("cal").wcs(5.0, 9.0)


@pytest.mark.parity
def test_many_slits(tmp_path: Path) -> None:
    multislit(2, tmp_path / "a.fits")
    with pytest.raises(
        ProductError, match=r"a\.fits: has 2 SCI extensions, expected a single slit"
    ):
        SlitImage.read(tmp_path / "a.fits")


def test_source_type_of_the_primary_header(s2d: Path) -> None:
    def change(hdulist: fits.HDUList) -> None:
        del hdulist["SCI"].header["SRCTYPE"]
        hdulist[0].header["SRCTYPE"] = "EXTENDED"

    edit(s2d, change)
    assert SlitImage.read(s2d).source_type == "EXTENDED"


def test_cards_without_a_value(s2d: Path) -> None:
    def change(hdulist: fits.HDUList) -> None:
        for key in ("DITH_RA", "SUBARRAY"):
            hdulist[0].header[key] = None
        hdulist["SCI"].header["SRCTYPE"] = None

    edit(s2d, change)
    image = SlitImage.read(s2d)
    assert image.source_ra is None
    assert image.subarray is None
    assert image.source_type is None


# --- times ---------------------------------------------------------------------------------------


def test_int_times_without_rows_is_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "a_calints.fits"
    make("calints").write(path)
    edit(path, lambda hdus: setattr(hdus["INT_TIMES"], "data", hdus["INT_TIMES"].data[:0]))
    image = SlitImage.read(path)
    assert image.times is not None
    assert len(image.times) == 0
    image.write(tmp_path / "b_calints.fits")
    extract = Extract1D(aperture=Aperture(xstart=3, xstop=16))
    extract.run(image).write(tmp_path / "b_x1dints.fits")
    for name in ("b_calints.fits", "b_x1dints.fits"):
        with fits.open(tmp_path / name) as hdulist:
            assert hdulist["INT_TIMES"].columns.names == make_times(1, 1).colnames
            assert len(hdulist["INT_TIMES"].data) == 0


@pytest.mark.parametrize(
    ("change", "message", "known"),
    [
        (lambda table: table[:2], "2 in 2 rows.* 1 to 2 are used and .* 3 have no", [1, 2]),
        (lambda table: table[1:], "2 to 3 in 2 rows.* 2 to 3 are used and .* 1 have no", [2, 3]),
        (lambda table: table[::2], "1 to 3 in 2 rows.* 1, 3 are used and .* 2 have no", [1, 3]),
        (lambda table: table[["int_mid_MJD_UTC"]], "no column of integration numbers", None),
        (
            lambda table: table[["integration_number", "int_mid_MJD_UTC"]],
            r"no numbers in int_start_MJD_UTC, .*, int_end_BJD_TDB, so that these times are NaN",
            [1, 2, 3],
        ),
    ],
)
def test_int_times_that_fit_in_part(
    change: Any, message: str, known: list[int] | None, tmp_path: Path
) -> None:
    """The extraction is that without times, or with the times that are known."""
    path = tmp_path / "a_calints.fits"
    image = make("calints", times=make_times(1, 3))
    image.write(path)
    table = change(make_times(1, 3))
    edit(path, lambda hdus: hdus.__setitem__("INT_TIMES", image_writer.times_hdu(table)))
    with pytest.warns(LRSWarning, match=message) as caught:
        again = SlitImage.read(path)
    assert [one.filename for one in caught] == [__file__]
    assert (again.times is None) == (known is None)
    extract = Extract1D(aperture=Aperture(xstart=3, xstop=16))
    made, expected = extract.run(again), extract.run(image)
    assert same(made.columns["FLUX"], expected.columns["FLUX"])
    assert made.times is not None
    assert expected.times is not None
    assert made.times["INT_NUM"].tolist() == [1, 2, 3]
    for number, found, true in zip((1, 2, 3), made.times, expected.times, strict=True):
        assert same(found["MJD-AVG"], true["MJD-AVG"] if number in (known or ()) else np.nan)
    made.write(tmp_path / "a_x1dints.fits")


def test_int_times_are_used_if_the_header_names_more_integrations(tmp_path: Path) -> None:
    """As in files of MIRISim that were cut; the pipeline does not use the table."""
    path = tmp_path / "a_calints.fits"
    image = make("calints", times=make_times(1, 3))
    image.write(path)
    edit(path, lambda hdus: hdus[0].header.__setitem__("INTEND", 309))
    with pytest.warns(LRSWarning, match="rows for 1 to 309, and SCI has 3 .* 1 to 3 are used"):
        times = SlitImage.read(path).times
    assert times is not None
    assert same(times["int_mid_MJD_UTC"], make_times(1, 3)["int_mid_MJD_UTC"])


NAN = float("nan")


def with_wcs(path: Path) -> SlitImage:
    """An image whose WCS is loaded."""
    image = SlitImage.read(path)
    assert image.wcs is not None
    return image


@pytest.mark.parametrize(
    "box", [((NAN, NAN), (NAN, NAN)), ((-0.5, NAN), (-0.5, 30.5)), ((-float("inf"), 1), (0, 9))]
)
@pytest.mark.parametrize("plane", [True, False])
def test_a_bounding_box_without_an_area_is_ignored(box: Any, plane: bool, tmp_path: Path) -> None:
    path = tmp_path / "a_s2d.fits"
    image = make()
    wcs = copy.deepcopy(image.wcs)
    assert wcs is not None
    wcs.bounding_box = None
    whole = replace(image, wcs_source=wcs)
    whole.write(path)
    with warnings.catch_warnings(action="ignore"):  # astropy reports inverted intervals
        wcs = copy.deepcopy(wcs)
        wcs.bounding_box = box
        made = asdf_hdu({"meta": {"wcs": wcs}})
    edit(path, lambda hdus: hdus.__setitem__("ASDF", made))
    if not plane:
        edit(path, without("WAVELENGTH"))
    message = "bounding box of the WCS is .*, expected ascending edges; it is ignored"
    with pytest.warns(LRSWarning, match=message) as caught:
        again = with_wcs(path)
    assert {one.filename for one in caught} == {__file__}
    assert again.bounding_box == whole.bounding_box
    known = np.isfinite(whole.wavelength)
    np.testing.assert_allclose(again.wavelength[known], whole.wavelength[known], rtol=1e-6)
    assert source_position(again) == source_position(whole)
    with pytest.warns(LRSWarning, match=message):
        assert source_position(replace(image, wcs_source=wcs)) == source_position(whole)
    assert wcs.bounding_box is not None  # that of the caller is unchanged


@pytest.mark.filterwarnings("ignore:.*INT_TIMES has")
@pytest.mark.parity
def test_times_are_those_the_pipeline_takes(tmp_path: Path) -> None:
    from jwst.extract_1d.extract import populate_time_keywords
    from jwst.lib.pipe_utils import is_tso
    from stdatamodels.jwst import datamodels

    rng = np.random.default_rng(3)
    outcomes = {"none": 0, "all": 0, "some": 0}
    image = make("calints")
    number = len(image.data)
    path = tmp_path / "a.fits"
    image.write(path)
    names = ("TSOVISIT", "NINTS", "INTSTART", "INTEND")
    with datamodels.open(path) as model, fits.open(path, memmap=False) as hdulist:
        for _ in range(120):
            first_row, rows = int(rng.integers(1, 4)), int(rng.choice([2, 3, 3, 4, 6, 8]))
            first = first_row + int(rng.choice([-1, 0, 0, 0, 1, 3]))
            start = rng.choice([None, first], p=[0.2, 0.8])
            end = rng.choice([None, first + number - 1], p=[0.2, 0.8])
            cards = (bool(rng.random() < 0.9), int(rng.choice([1, number, 7])), start, end)
            table = make_times(first_row, rows)
            for key, value in zip(names, cards, strict=True):
                hdulist[0].header.remove(key, ignore_missing=True)
                if value is not None:
                    hdulist[0].header[key] = value
            hdulist["INT_TIMES"] = image_writer.times_hdu(table)
            hdulist.writeto(path, overwrite=True)

            model.meta.visit.tsovisit, model.meta.exposure.nints = cards[:2]
            model.meta.exposure.integration_start = start
            model.meta.exposure.integration_end = end
            model.int_times = table.as_array().astype(model.get_dtype("int_times"))
            output = datamodels.TSOMultiSpecModel()
            output.spec.append(datamodels.TSOSpecModel())
            expected = np.zeros(number, dtype=output.spec[0].get_dtype("spec_table"))
            output.spec[0].spec_table = expected.copy()
            if is_tso(model):
                try:
                    populate_time_keywords(model, output)
                    expected = output.spec[0].spec_table
                except IndexError:  # the table ends before the integrations do
                    expected = np.zeros_like(expected)

            times = SlitImage.read(path).times
            if not np.any(expected["INT_NUM"]):  # the times that are known are used nevertheless
                outcomes["none"] += 1
                for row in () if times is None else times:
                    stored = table[table["integration_number"] == row["integration_number"]]
                    expect = stored["int_mid_MJD_UTC"][0] if len(stored) else np.nan
                    assert same(row["int_mid_MJD_UTC"], expect)
                continue
            assert times is not None
            assert same(times["integration_number"], expected["INT_NUM"])
            assert same(times["int_start_MJD_UTC"], expected["MJD-BEG"])
            assert same(times["int_end_BJD_TDB"], expected["TDB-END"])
            outcomes["all" if rows == number else "some"] += 1
    print(outcomes)
    assert min(outcomes.values()) > 5, outcomes


def test_part_of_a_segment_keeps_its_times(tmp_path: Path) -> None:
    image = make("calints", times=make_times(201, 3))
    image.write(tmp_path / "a.fits")
    again = SlitImage.read(tmp_path / "a.fits")
    assert list(again.times["integration_number"]) == [201, 202, 203]
    assert (again.header["INTSTART"], again.header["INTEND"]) == (201, 203)


def test_slit_time_series(tmp_path: Path) -> None:
    image = make("calints", exp_type=FIXED_SLIT, subarray="FULL")
    image.write(tmp_path / "a.fits")
    again = SlitImage.read(tmp_path / "a.fits")
    assert again.exp_type == FIXED_SLIT
    assert same(again.times["int_mid_MJD_UTC"], image.times["int_mid_MJD_UTC"])


# --- memory and files ----------------------------------------------------------------------------


def base_of(array: Any) -> Any:
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_planes_are_mapped_and_outlive_the_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    make(kind).write(path)
    image = SlitImage.read(path)
    for name in PLANES:
        if name != "dq":
            plane = getattr(image, name)
            assert isinstance(base_of(plane), mmap.mmap), name
            assert plane.dtype == np.dtype(">f4")
    path.unlink()
    gc.collect()
    assert same(image.data, make(kind).data)


@pytest.mark.slow
def test_no_handle_stays_open(s2d: Path) -> None:
    def handles() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    before = handles()
    for _ in range(5):
        assert SlitImage.read(s2d).wcs is not None
        for problem in ("nothing", "EXTVER"):
            with pytest.raises(ProductError):
                SlitImage.read(s2d.with_name(problem))
    damaged = s2d.with_name("b.fits")
    damaged.write_bytes(s2d.read_bytes()[:-20000])
    with pytest.raises(ProductError, match="truncated"):
        SlitImage.read(damaged)
    assert handles() == before


def test_the_wcs_is_read_on_first_access(s2d: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(products, "parse_asdf", lambda *a: asked.append(1) or parse_asdf(*a))
    monkeypatch.chdir(s2d.parent)
    image = SlitImage.read(s2d.name)
    assert not asked
    monkeypatch.chdir("/")
    assert image.wcs is image.wcs
    assert asked == [1]


def test_an_image_can_be_sent_to_another_process(s2d: Path) -> None:
    image = pickle.loads(pickle.dumps(SlitImage.read(s2d)))
    assert same(image.data, make().data)
    assert image.wcs(5.0, 9.0) == make().wcs(5.0, 9.0)


def test_an_image_may_be_written_onto_its_own_file(s2d: Path) -> None:
    image = SlitImage.read(s2d)
    image.write(s2d, overwrite=True)
    assert same(image.data, make().data)
    assert same(SlitImage.read(s2d).data, make().data)


# --- bad input -----------------------------------------------------------------------------------


def card(key: str, value: Any, name: str = "PRIMARY") -> Any:
    def change(hdulist: fits.HDUList) -> None:
        if value is None:
            del hdulist[name].header[key]
        else:
            hdulist[name].header[key] = value

    return change


def without(*names: str) -> Any:
    def change(hdulist: fits.HDUList) -> None:
        for name in names:
            del hdulist[name]

    return change


def plane(name: str, values: Any) -> Any:
    def change(hdulist: fits.HDUList) -> None:
        hdulist[name].data = values

    return change


def broken_asdf(hdulist: fits.HDUList) -> None:
    del hdulist["WAVELENGTH"]
    hdulist["ASDF"].data["ASDF_METADATA"][:] = 65


def strange_wcs(hdulist: fits.HDUList) -> None:
    del hdulist["WAVELENGTH"], hdulist["ASDF"]
    hdulist.append(asdf_hdu({"meta": {"wcs": {"a": 1}}}))


def no_image(hdulist: fits.HDUList) -> None:
    del hdulist["SCI"]
    hdulist.append(fits.BinTableHDU.from_columns([fits.Column("A", "D", array=[1.0])], name="SCI"))


EXPECTED_TYPES = "expected 'MIR_LRS-FIXEDSLIT' or 'MIR_LRS-SLITLESS'"
NAN = np.full((40, 20), np.nan, dtype=np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (card("TELESCOP", "HST"), "TELESCOP is 'HST', expected 'JWST'"),
        (card("TELESCOP", None), "TELESCOP is missing, expected 'JWST'"),
        (card("INSTRUME", "NIRSPEC"), "INSTRUME is 'NIRSPEC', expected 'MIRI'"),
        (card("EXP_TYPE", "MIR_MRS"), f"EXP_TYPE is 'MIR_MRS', {EXPECTED_TYPES}"),
        (card("EXP_TYPE", "MIR_IMAGE"), f"EXP_TYPE is 'MIR_IMAGE', {EXPECTED_TYPES}"),
        (card("EXP_TYPE", None), f"EXP_TYPE is missing, {EXPECTED_TYPES}"),
        (card("FILTER", "F560W"), "FILTER is 'F560W', expected 'P750L'"),
        (without("SCI"), "has no SCI extension, found PRIMARY, ERR, WAVELENGTH, VAR_POISSON"),
        (no_image, "SCI is a table, expected an image"),
        (plane("SCI", None), "SCI is empty, expected an image"),
        (plane("SCI", NAN), "SCI holds nothing but NaN"),
        (plane("SCI", NAN[:, 0]), "SCI has shape (40,), expected (row, column) or"),
        (plane("ERR", NAN[1:]), "ERR has shape (39, 20), expected (40, 20) as SCI"),
        (plane("VAR_FLAT", NAN[:, 1:]), "VAR_FLAT has shape (40, 19), expected (40, 20) as SCI"),
        (plane("WAVELENGTH", NAN[1:]), "WAVELENGTH has shape (39, 20), expected (40, 20) as SCI"),
        (without("WAVELENGTH", "ASDF"), "WAVELENGTH is missing and there is no WCS (ASDF ext"),
        (broken_asdf, "the ASDF extension cannot be read, "),
        (strange_wcs, "meta.wcs (ASDF extension) is a dict, expected a gwcs WCS"),
        (card("DISPAXIS", None, "SCI"), "DISPAXIS is none, expected 2"),
        (card("DISPAXIS", 1, "SCI"), "DISPAXIS is 1, expected 2"),
        (card("DISPAXIS", 1.5, "SCI"), "DISPAXIS is 1.5, expected a whole number"),
        (card("PIXAR_SR", "small", "SCI"), "PIXAR_SR is 'small', expected a number"),
        (card("DITH_RA", True), "DITH_RA is true, expected a number"),
    ],
)
def test_bad_product(change: Any, message: str, s2d: Path) -> None:
    edit(s2d, change)
    with pytest.raises(ProductError) as caught:
        SlitImage.read(s2d)
    assert str(caught.value).startswith(f"{s2d}: {message}")
    assert "\n" not in str(caught.value)


def test_another_filter_is_not_claimed(s2d: Path) -> None:
    assert is_lrs_product(s2d, IMAGE_KINDS)
    edit(s2d, card("FILTER", "F560W"))
    assert not is_lrs_product(s2d, IMAGE_KINDS)


def save_rate(path: Path, stacked: bool, wcs: bool) -> None:
    """The output of ramp fitting, or of assign_wcs."""
    from stdatamodels.jwst import datamodels

    image = make("calints" if stacked else "full")
    with (datamodels.CubeModel if stacked else datamodels.ImageModel)() as model:
        for name in ("data", "err", "dq", "var_poisson", "var_rnoise"):
            setattr(model, name, getattr(image, name))
        meta = model.meta
        meta.telescope, meta.instrument.name, meta.exposure.type = "JWST", "MIRI", image.exp_type
        meta.instrument.filter, meta.bunit_data = "P750L", "DN/s"
        meta.cal_step.ramp_fit = "COMPLETE"
        if wcs:
            meta.wcs, meta.wcsinfo.dispersion_direction = image.wcs, 2
        model.save(path)


@pytest.mark.parity
@pytest.mark.parametrize("stacked", [False, True])
def test_rates_are_rejected(stacked: bool, tmp_path: Path) -> None:
    """A rate has the right mode, but no wavelengths yet."""
    path, later = tmp_path / "a.fits", tmp_path / "b.fits"
    save_rate(path, stacked, wcs=False)
    word = "rateints" if stacked else "rate"
    message = rf"a\.fits: is a {word}, which has no wavelengths yet .*calwebb_spec2"
    for read in (SlitImage.read, identify_product):
        with pytest.raises(ProductError, match=message) as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert not is_lrs_product(path, IMAGE_KINDS)
    save_rate(later, stacked, wcs=True)  # calibrated or not, it can be extracted now
    assert is_lrs_product(later, ("calints" if stacked else "cal",))
    assert SlitImage.read(later).unit == u.DN / u.s


@pytest.mark.parity
@pytest.mark.parametrize("word", ["BANANA", "point", 3])
def test_unknown_source_types_are_ignored(word: Any, s2d: Path) -> None:
    from stdatamodels.jwst import datamodels

    edit(s2d, card("SRCTYPE", word, "SCI"))
    with pytest.warns(
        LRSWarning, match=f"SRCTYPE is '{word}', expected 'POINT', 'EXTEND"
    ) as caught:
        image = SlitImage.read(s2d)
    assert [one.filename for one in caught] == [__file__]
    with pytest.warns(Warning, match="source_type"), datamodels.open(s2d) as model:
        assert model.source_type is None
    assert image.source_type is None
    operator = Extract1D(aperture=Aperture(xstart=3, xstop=16), use_source_posn=None)
    assert not operator.positions(image)
    assert "SRCTYPE" not in operator.run(image).keywords


@pytest.mark.parametrize(
    ("unit", "scale", "message"),
    [
        ("m", 1e-6, None),
        ("nm", 1e3, None),
        ("Angstrom", 1e4, None),
        ("micron", 1.0, None),
        (None, 1e-6, "WAVELENGTH is 9.15.*e-06, expected micron"),
        (None, 1e4, "WAVELENGTH is 9.15.*e\\+04, expected micron"),
        ("um", 1e-6, "WAVELENGTH is 9.15.*e-06, expected micron"),
        ("Jy", 1.0, "WAVELENGTH is in 'Jy', expected 'um'"),
        ("moons", 1.0, "WAVELENGTH is in 'moons', expected 'um'"),
    ],
)
def test_units_of_the_wavelength(
    unit: str | None, scale: float, message: str | None, s2d: Path
) -> None:
    before = np.array(SlitImage.read(s2d).wavelength)  # not memory-mapped
    edit(s2d, plane("WAVELENGTH", (before * scale).astype(np.float32)))
    if unit is not None:
        edit(s2d, card("BUNIT", unit, "WAVELENGTH"))
    if message is None:
        assert np.allclose(SlitImage.read(s2d).wavelength, before, rtol=1e-6, equal_nan=True)
    else:
        with pytest.raises(ProductError, match=rf"a_s2d\.fits: {message}"):
            SlitImage.read(s2d)


@pytest.mark.parametrize("error", [True, False])
def test_warning_without_variances(error: bool, s2d: Path) -> None:
    edit(s2d, without("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT", *([] if error else ["ERR"])))
    words = "VAR_FLAT beside ERR - all errors" if error else "VAR_FLAT - all errors"
    with pytest.warns(LRSWarning, match=f"{words} will be 0") as caught:
        image = SlitImage.read(s2d)
    assert [one.filename for one in caught] == [__file__]
    made = Extract1D(aperture=Aperture(xstart=3, xstop=16)).run(image)  # no second warning
    assert not np.nansum(made.columns["FLUX_ERROR"])
    assert any("there are no variances" in one.text for one in made.findings)


def test_warning_for_a_missing_variance(s2d: Path) -> None:
    edit(s2d, without("VAR_POISSON"))
    with pytest.warns(LRSWarning, match="has no VAR_POISSON, so that the errors will be"):
        SlitImage.read(s2d)


@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.int32])
def test_integer_data(kind: Any, s2d: Path) -> None:
    """Files of other software; bad pixels require NaN."""
    with fits.open(s2d, mode="update") as hdus:
        values = np.clip(np.nan_to_num(hdus["SCI"].data * 10.0), 0, 200).astype(kind)
        hdus["SCI"].data = values
    image = SlitImage.read(s2d)
    assert np.asarray(image.data).dtype == np.float64
    np.testing.assert_array_equal(image.data, values)
    Extract1D(aperture=Aperture(xstart=3, xstop=16)).run(image)


# --- what a file may be given as -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bytes", "packed", "stream", "hdulist", "changed hdulist"])
def test_every_kind_of_source(kind: str, s2d: Path) -> None:
    whole = s2d.read_bytes()
    with open(s2d, "rb") as stream, fits.open(s2d) as hdulist:
        source: Any = {
            "bytes": io.BytesIO(whole),
            "packed": io.BytesIO(gzip.compress(whole)),
            "stream": stream,
        }.get(kind, hdulist)
        stream.seek(100)  # wherever it stands, it is read from its start
        factor = 1.0
        if kind == "changed hdulist":
            hdulist["SCI"].data = hdulist["SCI"].data * np.float32(2)
            factor = 2.0
        assert identify_product(source) == "s2d"
        image = SlitImage.read(source)
        assert hdulist[0].header["TELESCOP"] == "JWST"  # left open
        assert source is hdulist or source.seek(0) == 0
    s2d.unlink()
    gc.collect()
    assert (image.filename, image.path) == (None, None)
    for name in PLANES:
        expected = getattr(make(), name)
        assert same(getattr(image, name), expected * factor if name == "data" else expected), name
    assert image.wcs(5.0, 9.0) == make().wcs(5.0, 9.0)
    assert pickle.loads(pickle.dumps(image)).wcs(5.0, 9.0) == image.wcs(5.0, 9.0)
    run = Extract1D(aperture=Aperture(xstart=3, xstop=16)).run
    assert run(image).provenance["input"] is None


def test_a_closed_list_is_opened_again(s2d: Path) -> None:
    with fits.open(s2d) as hdulist:
        pass
    assert same(SlitImage.read(hdulist).data, make().data)
    s2d.unlink()
    with pytest.raises(ProductError, match=r"a_s2d\.fits: the HDU list is closed"):
        SlitImage.read(hdulist)


def test_sources_that_cannot_be_read(s2d: Path) -> None:
    whole = s2d.read_bytes()
    with open(s2d, encoding="latin1") as text:
        for source, message in (
            (None, "found None, expected the path of a FITS file, an open file or an HDUList"),
            (3, "found an object of type int, expected the path of"),
            (whole, "found an object of type bytes, expected the path of"),
            (fits.HDUList(), "found an empty HDU list"),
            (text, f"{s2d}: is open as text, expected binary"),
            (io.BytesIO(), "file: is empty, expected a FITS file"),
            (io.BytesIO(b"{}" * 3000), "file: is not a FITS file"),
            (io.BytesIO(whole[:-20000]), "file: is truncated"),
            (io.BytesIO(gzip.compress(whole)[:9999]), "file: is truncated"),
        ):
            with pytest.raises(ProductError) as caught:
                SlitImage.read(source)
            assert str(caught.value).startswith(message)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", [None, 3, io.BytesIO()])
def test_only_paths_can_be_written_to(path: Any) -> None:
    with pytest.raises(WriteError, match="expected the path of the file to write"):
        make().write(path)


def test_names_that_are_not_ascii(tmp_path: Path) -> None:
    for name in ("\u00e4_s2d.fits", os.fsdecode(b"\xff_s2d.fits")):
        make().write(tmp_path / name)
        assert SlitImage.read(tmp_path / name).header["FILENAME"] == "?_s2d.fits"


def test_zero_wavelength_and_no_wcs(s2d: Path) -> None:
    edit(s2d, plane("WAVELENGTH", np.zeros((40, 20), dtype=np.float32)))
    edit(s2d, without("ASDF"))
    with pytest.raises(ProductError, match=r"WAVELENGTH is all zero and there is no WCS \(ASDF"):
        SlitImage.read(s2d)


def test_missing_wcs_fails_only_if_needed(s2d: Path) -> None:
    edit(s2d, without("ASDF"))
    image = SlitImage.read(s2d)
    assert image.wcs is None
    image.write(s2d, overwrite=True)
    assert SlitImage.read(s2d).wcs is None


def test_a_missing_variance_counts_as_zero(s2d: Path) -> None:
    edit(s2d, without("VAR_FLAT", "ERR"))
    edit(s2d, plane("VAR_RNOISE", None))
    with pytest.warns(LRSWarning, match="has no VAR_RNOISE, so that the errors will be"):
        image = SlitImage.read(s2d)
    assert image.var_flat is None
    assert image.err is None
    assert image.var_rnoise is None
    columns = Extract1D(aperture=Aperture(xstart=3, xstop=16)).run(image).columns
    assert not columns["FLUX_VAR_FLAT"][10]
    assert columns["FLUX_VAR_POISSON"][10] > 0


def test_no_pixel_area(s2d: Path) -> None:
    edit(s2d, card("PIXAR_SR", None, "SCI"))
    image = SlitImage.read(s2d)
    assert image.pixel_area is None
    with pytest.raises(ProductError, match="PIXAR_SR is missing"):
        Extract1D(aperture=Aperture(xstart=3, xstop=16)).run(image)


def test_only_one_integration_has_values(tmp_path: Path) -> None:
    data = np.full((3, 40, 20), np.nan, dtype=np.float32)
    data[2, 3, 4] = 1.0
    make("calints", data=data).write(tmp_path / "a.fits")
    with pytest.warns(LRSWarning, match="SCI is NaN throughout in the integrations 1, 2"):
        assert same(SlitImage.read(tmp_path / "a.fits").data, data)


@pytest.mark.parametrize(("unit", "warned"), [("Jy", True), ("DN/s", True), ("MJy / sr", False)])
def test_unit_that_contradicts_the_calibration(unit: str, warned: bool, s2d: Path) -> None:
    edit(s2d, card("BUNIT", unit, "SCI"))
    if warned:
        with pytest.warns(LRSWarning, match=rf"a_s2d\.fits: BUNIT is '{unit}', expected 'MJy/sr'"):
            image = SlitImage.read(s2d)
    else:
        image = SlitImage.read(s2d)
    assert image.unit == u.MJy / u.sr


def test_files_that_cannot_be_opened(s2d: Path, tmp_path: Path) -> None:
    whole = s2d.read_bytes()
    text = tmp_path / "text.fits"
    text.write_text("no FITS file at all\n" * 1000)
    empty = tmp_path / "empty.fits"
    empty.touch()
    expected = {
        text: "is not a FITS file",
        empty: "is empty, expected a FITS file",
        tmp_path / "none.fits": "does not exist",
        tmp_path: "is a directory, expected a FITS file",
    }
    for path, message in expected.items():
        for function in (SlitImage.read, identify_product):
            with pytest.raises(ProductError) as caught:
                function(path)
            assert str(caught.value) == f"{path}: {message}"
        assert not is_lrs_product(path, IMAGE_KINDS)
    missing = opened(tmp_path / "none.fits", WriteError)
    with pytest.raises(WriteError, match="does not exist"), missing:
        pass
    # cut anywhere but exactly between two extensions
    with fits.open(s2d) as hdulist:
        ends = {info._data_offset + info._data_size for info in hdulist}
    cut = tmp_path / "cut.fits"
    for length in (*range(5, len(whole), 2880 + 11), len(whole) - 1):
        assert length not in ends
        cut.write_bytes(whole[:length])
        with pytest.raises(ProductError, match=r"cut\.fits: .*(truncated|not a FITS)") as caught:
            SlitImage.read(cut)
        assert "\n" not in str(caught.value)


def test_no_permission(s2d: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_files.fits, "open", refuse)
    with pytest.raises(ProductError, match=r"a_s2d\.fits: cannot be read, [Pp]ermission denied"):
        SlitImage.read(s2d)


# --- identification -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_identify_images(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    make(kind).write(path)
    found = "cal" if kind == "full" else kind
    assert identify_product(path) == found
    for other in IMAGE_KINDS:
        assert is_lrs_product(path, (other,)) == (other == found)
    with fits.open(path) as hdulist:
        assert is_lrs_product(hdulist, IMAGE_KINDS)
        assert hdulist[1].data is not None  # left open


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["s2d", "calints"])
def test_identify_spectra(kind: str, tmp_path: Path) -> None:
    from jwst.extract_1d.extract import run_extract1d
    from stdatamodels.jwst import datamodels

    (tmp_path / "extract1d.json").write_text(JSON)
    make(kind).write(tmp_path / "a.fits")
    path = tmp_path / "b.fits"
    with datamodels.open(tmp_path / "a.fits") as model:
        run_extract1d(model, str(tmp_path / "extract1d.json"))[0].save(path)
    found = {"s2d": "x1d", "calints": "x1dints"}[kind]
    assert identify_product(path) == found
    assert is_lrs_product(path, (found,))
    assert not is_lrs_product(path, IMAGE_KINDS)
    with pytest.raises(
        ProductError, match=rf"b\.fits: is an {found} \(EXTRACT1D\), expected an s2d"
    ):
        SlitImage.read(path)


def test_identification_never_raises(s2d: Path, tmp_path: Path) -> None:
    for thing in (None, 3, b"x", fits.HDUList(), tmp_path / "none.fits", "http://a.invalid/b.fits"):
        assert is_lrs_product(thing, IMAGE_KINDS) is False
    edit(s2d, card("EXP_TYPE", "MIR_MRS"))
    assert not is_lrs_product(s2d, IMAGE_KINDS)


def test_the_registry_knows_the_format(s2d: Path) -> None:
    assert same(SlitImage.read(str(s2d), format="lrs").data, make().data)
    assert list(registry.get_formats(SlitImage)["Format"]) == ["lrs"]


# --- atomic writes -------------------------------------------------------------------------------


def test_existing_output_is_kept(s2d: Path) -> None:
    before = s2d.read_bytes()
    with pytest.raises(WriteError) as caught:
        make("cal").write(s2d)
    assert str(caught.value) == f"{s2d}: exists, expected a new name (overwrite=True replaces it)"
    assert s2d.read_bytes() == before
    make("cal").write(s2d, overwrite=True)
    assert SlitImage.read(s2d).kind == "cal"
    assert os.listdir(s2d.parent) == [s2d.name]


def test_disk_full(s2d: Path) -> None:
    """A limit on the file size has the same effect as a full disk."""
    before = s2d.read_bytes()
    new = s2d.with_name("b.fits")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, limits[1]))
    try:
        for path in (new, s2d):
            with pytest.raises(WriteError, match=rf"{path.name}: cannot be written, ") as caught:
                make().write(path, overwrite=True)
            assert "\n" not in str(caught.value)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(s2d.parent) == [s2d.name]
    assert s2d.read_bytes() == before


def test_unit_that_no_product_has(tmp_path: Path) -> None:
    with pytest.raises(ProductError, match=r"unit is Jy, expected MJy / sr"):
        make(unit=u.Jy).write(tmp_path / "a.fits")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_atomic_write(overwrite: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with atomic_write(path, overwrite) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".gz"
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.tar.gz"]


def test_atomic_write_keeps_the_mode_and_follows_links(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    with atomic_write(link, overwrite=True) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("links", [True, False])
def test_a_file_created_in_the_meantime_is_not_replaced(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:

        def refuse(*args: Any) -> None:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a"

    def race() -> None:
        with atomic_write(path) as name:
            name.write_text("mine")
            path.write_text("theirs")

    with pytest.raises(WriteError, match="exists, expected a new name"):
        race()
    assert path.read_text() == "theirs"
    with atomic_write(tmp_path / "b") as name:
        name.write_text("mine")
    assert (tmp_path / "b").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (PermissionError(13, "Permission denied"), WriteError, "a: cannot be written, Permission"),
        (OSError(28, "No space left on device"), WriteError, "a: cannot be written, No space left"),
        (OSError("two\nlines"), WriteError, "a: cannot be written, two lines"),
        (ProductError("its own"), ProductError, "its own"),
        (ZeroDivisionError("its own"), ZeroDivisionError, "its own"),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
    ],
)
def test_no_temporary_file_remains(
    raised: BaseException, expected: type, message: str, tmp_path: Path
) -> None:
    def write() -> None:
        with atomic_write(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise raised

    with pytest.raises(expected, match=message):
        write()
    assert not os.listdir(tmp_path)


def test_targets_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    def attempt(path: Any, message: str) -> None:
        with pytest.raises(WriteError, match=message) as caught, atomic_write(path, True):
            ran.append(path)
        assert "\n" not in str(caught.value)

    attempt(tmp_path, "is a directory, expected the name of a file")
    attempt(tmp_path / "no" / "a", r"a: the folder .*no does not exist")
    attempt("/dev/null", "is not a regular file")
    (tmp_path / "a").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # even root is refused
    attempt(tmp_path / "a", "the file is write-protected")
    attempt(tmp_path / "b", "no permission to write to")
    assert not ran
    assert os.listdir(tmp_path) == ["a"]


# --- ASDF in FITS --------------------------------------------------------------------------------


def test_asdf_extension() -> None:
    tree = {"meta": {"wcs": make_wcs((40, 20))}, "own": {"a": [1, None, "x"], "b": np.arange(5.0)}}
    hdu = asdf_hdu(tree)
    assert hdu.name == "ASDF"
    assert hdu.columns.names == ["ASDF_METADATA"]
    assert len(hdu.data) == 1
    again = load_asdf(fits.HDUList([fits.PrimaryHDU(), hdu]))
    assert again is not None
    assert again["own"]["a"] == [1, None, "x"]
    assert same(again["own"]["b"], np.arange(5.0))
    gc.collect()  # the tree must not need the ASDF file
    assert again["meta"]["wcs"](5.0, 9.0) == tree["meta"]["wcs"](5.0, 9.0)
    assert load_asdf(fits.HDUList([fits.PrimaryHDU()])) is None


@pytest.mark.parametrize("standard", ["1.5.0", "1.6.0"])
def test_asdf_of_other_versions(standard: str, tmp_path: Path) -> None:
    """Older standards, newer packages, references to other extensions: no warning, no failure."""
    plain = tmp_path / "a.asdf"
    with asdf.AsdfFile({"meta": {"wcs": make_wcs((40, 20))}}, version=standard) as file:
        file.write_to(plain)
    raw = plain.read_bytes()
    start, end = raw.index(b"\nmeta:"), raw.index(b"\n...\n")
    reference = (
        b"\ndata: !core/ndarray-1.0.0\n  source: fits:SCI,1\n  datatype: float32\n"
        b"  byteorder: big\n  shape: [40, 20]\nslits:\n- !core/asdf-1.1.0\n  data: "
        b"!core/ndarray-1.0.0\n    source: fits:SCI,2\n    datatype: float32\n    byteorder: big\n"
        b"    shape: [1]\nodd: !<tag:nowhere.org:nothing-1.0.0> {a: 1}"
    )
    head = raw[:start].replace(b"name: gwcs, version: ", b"name: gwcs, version: 99.")
    head = head.replace(
        b"name: asdf_wcs_schemas, version: ", b"name: asdf_wcs_schemas, version: 99."
    )
    assert b"99." in head
    raw = head + reference + raw[start:end] + raw[end:].split(b"#ASDF BLOCK INDEX")[0]
    hdu = asdf_hdu({})
    data = np.frombuffer(raw, np.uint8)[np.newaxis]
    column = fits.Column(name="ASDF_METADATA", format=f"{data.size}B", array=data)
    hdu = fits.BinTableHDU.from_columns([column], name="ASDF")
    tree = load_asdf(fits.HDUList([fits.PrimaryHDU(), hdu]))
    assert tree is not None
    assert "data" not in tree
    assert tree["meta"]["wcs"](5.0, 9.0) == make_wcs((40, 20))(5.0, 9.0)


@pytest.mark.parametrize("how", ["packed then cut", "cut then packed"])
def test_truncated_gzip_files(how: str, tmp_path: Path) -> None:
    """Astropy reads either as a complete file with fewer extensions."""
    whole = tmp_path / "a_s2d.fits"
    make().write(whole)
    content = whole.read_bytes()
    packed = gzip.compress(content)
    if how == "packed then cut":
        packed = packed[: len(packed) // 2]
    else:
        with fits.open(whole) as hdus:  # within the pixels of an extension
            place = hdus["VAR_POISSON"].fileinfo()
        packed = gzip.compress(content[: place["datLoc"] + place["datSpan"] // 2])
    path = tmp_path / "a_s2d.fits.gz"
    path.write_bytes(packed)
    with pytest.raises(ProductError, match="truncated"):
        SlitImage.read(path)
    path.write_bytes(gzip.compress(content))
    assert SlitImage.read(path).shape == SlitImage.read(whole).shape


def test_a_wcs_that_has_been_inverted_is_written_and_read(tmp_path: Path) -> None:
    """Its models are the inverses of their inverses: a cycle in the ASDF tree."""
    image = Scene(seed=1).s2d(1).image
    sky = image.wcs(20, 100)
    assert image.wcs.backward_transform is not None
    image.write(tmp_path / "x_s2d.fits")
    again = SlitImage.read(tmp_path / "x_s2d.fits")
    np.testing.assert_allclose(again.wcs(20, 100), sky, rtol=1e-15)


def test_a_wcs_whose_inverse_gives_arrays_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a damaged file, a parameter of which is an array."""
    Scene(seed=1).s2d(1).image.write(tmp_path / "x_s2d.fits")
    arrays = np.zeros(2), np.zeros(2)
    monkeypatch.setattr(WCS, "backward_transform", lambda self, *world: arrays)
    with pytest.raises(ProductError, match="the WCS in the ASDF extension cannot be read"):
        SlitImage.read(tmp_path / "x_s2d.fits").wcs  # noqa: B018
