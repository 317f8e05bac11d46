"""Images and spectra as glue datasets: values, coordinates, files, sessions."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from glue.core import Data, DataCollection
from glue.core.application_base import Application
from glue.core.data_factories import find_factory, load_data
from glue.core.data_factories.fits import fits_reader
from glue.core.message import NumericalDataChangedMessage
from hypothesis import given
from hypothesis import strategies as st

from glue_lrs import Aperture, Extract1D, SlitImage
from glue_lrs.errors import LRSError, LRSWarning, ProductError, WriteError
from glue_lrs.image.source_position import expected_position
from glue_lrs.image.trace import expected_trace
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.simulation.scene import Scene
from glue_lrs.spectra.columns import COLUMNS
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.viewers.datasets.coordinates import LRSCoordinates, SpectrumCoordinates
from glue_lrs.viewers.datasets.images import image_data, is_lrs_image, slit_image
from glue_lrs.viewers.datasets.loaders import export_x1d, lrs_image, lrs_spectrum, open_image
from glue_lrs.viewers.datasets.spectra import (
    extraction_of,
    is_lrs_spectrum,
    spectrum_data,
    update_spectrum_data,
)
from glue_lrs.viewers.plugin import register

Make = Callable[..., SlitImage]


@pytest.fixture(autouse=True)
def _registered() -> None:
    register()


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(seed=3)


@pytest.fixture(scope="module")
def s2d(scene: Scene) -> SlitImage:
    return scene.s2d(nod=1).image


@pytest.fixture(scope="module")
def cal(scene: Scene) -> SlitImage:
    return scene.cal(nod=1).image


@pytest.fixture(scope="module")
def calints(scene: Scene) -> SlitImage:
    return scene.calints(3).image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, s2d: SlitImage, calints: SlitImage) -> Path:
    """A file of each product that is identified by its layout."""
    folder = tmp_path_factory.mktemp("products")
    s2d.write(folder / "a_s2d.fits")
    calints.write(folder / "b_calints.fits")
    extract(s2d).write(folder / "a_x1d.fits")
    extract(calints).write(folder / "b_x1dints.fits")
    return folder


def extract(image: SlitImage, **aperture: Any) -> Extraction:
    limits = {"xstart": 10.3, "xstop": 17.2} | aperture
    return Extract1D(aperture=Aperture(**limits)).run(image)


def saved(collection: DataCollection, path: Path, **options: Any) -> DataCollection:
    """A collection after a session was saved and restored."""
    session = str(path / "session.glu")
    Application(collection).save_session(session, **options)
    return Application.restore_session(session).data_collection


def assert_same_data(one: Data, other: Data) -> None:
    assert one.label == other.label
    assert [c.label for c in one.main_components] == [c.label for c in other.main_components]
    for cid in one.main_components:
        found = other.find_component_id(cid.label)
        np.testing.assert_array_equal(one[cid], other[found])
        assert one[cid].dtype == other[found].dtype
        assert one.get_component(cid).units == other.get_component(found).units
    assert type(one.coords) is type(other.coords)
    for cid, found in zip(one.world_component_ids, other.world_component_ids, strict=True):
        assert cid.label == found.label
        np.testing.assert_array_equal(one[cid], other[found])


# --- images ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(30, 20), (3, 30, 20)])
def test_an_image_keeps_its_numbers_and_units_without_a_copy(
    make_image: Make, shape: tuple[int, ...]
) -> None:
    image = make_image(shape, dq=np.zeros(shape, dtype=np.uint32))
    data = image_data(image, "mine")
    assert is_lrs_image(data)
    assert data.label == "mine"
    assert data.shape == shape
    labels = ["flux", "uncertainty", "wavelength", "dq"]
    assert [cid.label for cid in data.main_components] == labels
    assert [data.get_component(name).units for name in labels] == ["MJy/sr", "MJy/sr", "um", ""]
    planes = (image.data, image.err, image.wavelength, image.dq)
    for name, plane in zip(labels, planes, strict=True):
        assert plane is not None
        np.testing.assert_array_equal(data[name], np.broadcast_to(plane, shape))
        assert np.shares_memory(data[name], plane)
        assert plane.flags.writeable  # glue makes only its own arrays read-only
    assert data["wavelength"].nbytes == 4 * np.prod(shape)
    assert data["wavelength"].strides[0] == (0 if len(shape) == 3 else image.wavelength.strides[0])


def test_an_image_without_errors_and_flags_has_no_such_components(make_image: Make) -> None:
    data = image_data(make_image(err=None, calibrated=False, unit=u.DN / u.s))
    assert [cid.label for cid in data.main_components] == ["flux", "wavelength"]
    assert data.get_component("flux").units == "DN/s"


def test_the_image_of_a_dataset_is_the_same_object(make_image: Make) -> None:
    image = make_image()
    data = image_data(image)
    assert slit_image(data) is image
    assert slit_image(data) is image


def test_new_values_of_a_dataset_are_in_its_image(make_image: Make) -> None:
    image = make_image((2, 30, 20))
    data = image_data(image)
    data.update_components({data.id["flux"]: np.asarray(image.data) * 2})
    changed = slit_image(data)
    np.testing.assert_array_equal(changed.data, image.data * 2)
    assert changed.err is image.err
    assert changed.wavelength.shape == (30, 20)
    assert slit_image(data) is changed
    data.update_components({data.id["wavelength"]: np.asarray(data["wavelength"]) + 0.5})
    np.testing.assert_array_equal(slit_image(data).wavelength, image.wavelength + np.float32(0.5))
    assert slit_image(data).data is changed.data


def test_other_datasets_are_no_images(make_image: Make) -> None:
    other = Data(flux=np.ones((3, 4)), label="other")
    assert not is_lrs_image(other)
    assert not is_lrs_image(make_image())
    assert not is_lrs_spectrum(other)
    with pytest.raises(ProductError, match=r"^other: is not an LRS image, expected .*$"):
        slit_image(other)


def test_the_metadata_have_the_cards_of_the_file(folder: Path) -> None:
    data = load_data(str(folder / "a_s2d.fits"))
    assert data.meta["filename"] == str(folder / "a_s2d.fits")
    assert data.meta["kind"] == "s2d"
    assert data.meta["EXP_TYPE"] == "MIR_LRS-FIXEDSLIT"
    assert data.meta["DISPAXIS"] == 2  # from the extension


# --- coordinates ----------------------------------------------------------------------------------


def positions(data: Data, seed: int = 1, beyond: float = 5.0) -> list[np.ndarray]:
    """Pixel coordinates on and around an image, in astropy's order."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(-beyond, size + beyond, 300) for size in data.shape[::-1]]


@pytest.mark.parametrize("kind", ["s2d", "cal", "calints"])
@pytest.mark.parametrize("turned", [False, True])
def test_coordinates_can_be_inverted(
    kind: str, turned: bool, request: pytest.FixtureRequest
) -> None:
    image = request.getfixturevalue(kind)
    if turned:  # wavelengths that ascend along the rows
        planes = {
            name: getattr(image, name)[..., ::-1, :]
            for name in ("data", "wavelength", "err", "var_poisson", "var_rnoise", "var_flat", "dq")
            if getattr(image, name) is not None
        }
        image = replace(image, wcs_source=None, **planes)
    data = image_data(image)
    assert isinstance(data.coords, LRSCoordinates)
    rows, columns = np.nonzero(np.isfinite(image.wavelength))
    others = [np.ones(rows.size)] * (data.ndim - 2)
    offset, wavelength, *_ = data.coords.pixel_to_world_values(columns, rows, *others)
    np.testing.assert_allclose(wavelength, image.wavelength[rows, columns], rtol=2e-6)
    pixel = positions(data)
    world = data.coords.pixel_to_world_values(*pixel)
    for one, other in zip(pixel, data.coords.world_to_pixel_values(*world), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)
    one_row = rows == rows[rows.size // 2]
    assert np.ptp(offset[one_row]) == pytest.approx(0.11 * np.ptp(columns[one_row]), rel=0.02)


@pytest.mark.parametrize("kind", ["s2d", "cal", "calints"])
def test_offsets_are_angles_on_the_sky(kind: str, request: pytest.FixtureRequest) -> None:
    image = request.getfixturevalue(kind)
    coords = image_data(image).coords
    middle = np.nonzero(np.isfinite(image.wavelength).any(axis=1))[0].mean().round()
    columns = np.nonzero(np.isfinite(image.wavelength[int(middle)]))[0].astype(float)
    rows = np.full_like(columns, middle)
    others = [np.zeros_like(columns)] * (coords.pixel_n_dim - 2)
    offset = coords.pixel_to_world_values(columns, rows, *others)[0]
    assert image.wcs is not None
    ra, dec = image.wcs(columns, rows)[:2]
    sky = SkyCoord(ra, dec, unit="deg")
    # All separations in a row are along the slit, apart from the tilt of the rows.
    distance = sky[0].separation(sky).arcsec
    np.testing.assert_allclose(offset - offset[0], distance, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["s2d", "cal"])
def test_offsets_are_counted_from_the_source(kind: str, request: pytest.FixtureRequest) -> None:
    image = request.getfixturevalue(kind)
    coords = image_data(image).coords
    trace = expected_trace(image)
    rows = np.flatnonzero(np.isfinite(trace))
    assert rows.size > 300
    offset, _ = coords.pixel_to_world_values(trace[rows], rows)
    np.testing.assert_allclose(offset, 0.0, atol=0.005)


def test_offsets_without_a_source_are_counted_from_the_middle(s2d: SlitImage) -> None:
    image = replace(s2d, source_ra=None, source_dec=None)
    assert isinstance(expected_position(image), str)
    offset, _ = image_data(image).coords.pixel_to_world_values((s2d.shape[1] - 1) / 2, 100.0)
    assert offset == pytest.approx(0.0, abs=1e-6)


def test_without_a_wcs_offsets_are_multiples_of_the_pixel(make_image: Make) -> None:
    coords = image_data(make_image(pixel_area=float((0.2 * u.arcsec).to_value(u.rad)) ** 2)).coords
    offset, wavelength = coords.pixel_to_world_values([9.5, 10.5, 24.5], [0.0, 29.0, 0.5])
    np.testing.assert_allclose(offset, [0.0, 0.2, 3.0], atol=1e-12)
    np.testing.assert_allclose(wavelength, [14.0, 5.0, 14.0 - 0.5 * 9.0 / 29], rtol=1e-6)
    coords = image_data(make_image(pixel_area=None)).coords
    assert coords.pixel_to_world_values(10.5, 0.0)[0] == pytest.approx(0.11)


def test_an_image_without_a_valid_wcs_can_be_displayed(
    make_image: Make,
) -> None:
    def broken() -> Any:
        raise ProductError("x_s2d.fits: ASDF is damaged")

    coords = image_data(make_image(wcs_source=broken)).coords
    assert coords.pixel_to_world_values(9.5, 0.0)[0] == 0.0


def test_wavelengths_that_change_along_a_row(make_image: Make) -> None:
    rows, columns = np.mgrid[:30, :20].astype(float)
    wavelength = 14.0 - 0.3 * rows - 0.002 * rows**2 + 0.03 * columns
    wavelength[:3, :5] = wavelength[-4:, -6:] = np.nan  # the corners of a tilted slit
    data = image_data(make_image(wavelength=wavelength))
    assert data.coords.axis_correlation_matrix.all()
    known = np.isfinite(wavelength)
    _, found = data.coords.pixel_to_world_values(columns[known], rows[known])
    np.testing.assert_allclose(found, wavelength[known], rtol=1e-12)
    pixel = positions(data, beyond=0.0)
    back = data.coords.world_to_pixel_values(*data.coords.pixel_to_world_values(*pixel))
    np.testing.assert_allclose(back, pixel, atol=1e-8)
    np.testing.assert_allclose(  # as glue evaluates it
        data[data.world_component_ids[0]][known], wavelength[known], rtol=1e-12
    )


def test_world_axes_have_names_and_units(calints: SlitImage) -> None:
    data = image_data(calints)
    names = ["Integration", "Wavelength", "Cross-Dispersion"]
    assert [cid.label for cid in data.world_component_ids] == names
    units = [data.get_component(cid).units for cid in data.world_component_ids]
    assert units == ["", "um", "arcsec"]
    assert [u.Unit(unit) for unit in units] == [u.dimensionless_unscaled, u.um, u.arcsec]
    assert data.coords.world_axis_physical_types == [None, "em.wl", None]


def test_integrations_have_the_numbers_of_the_file(make_image: Make) -> None:
    stack = make_image((3, 30, 20))
    data = image_data(stack)
    np.testing.assert_array_equal(data[data.world_component_ids[0]][:, 0, 0], [1, 2, 3])
    times = Table({"integration_number": np.array([11, 12, 13], dtype=np.int32)})
    data = image_data(replace(stack, times=times))
    np.testing.assert_array_equal(data[data.world_component_ids[0]][:, 4, 5], [11, 12, 13])
    assert data.coords.world_to_pixel_values(0.0, 10.0, 12.5)[2] == pytest.approx(1.5)


def test_an_image_of_one_integration(make_image: Make) -> None:
    data = image_data(make_image((1, 30, 20)))
    pixel = (3.0, 4.0, 0.0)
    world = data.coords.pixel_to_world_values(*pixel)
    np.testing.assert_allclose(data.coords.world_to_pixel_values(*world), pixel, atol=1e-9)


def test_an_image_without_wavelengths_is_an_error(make_image: Make) -> None:
    with pytest.raises(LRSError, match="no pixel has a wavelength"):
        image_data(make_image(wavelength=np.full((30, 20), np.nan)))


@given(
    steps=st.lists(st.floats(1e-3, 10.0), min_size=1, max_size=30),
    first=st.integers(-50, 50),
    descending=st.booleans(),
    missing=st.integers(0, 5),
)
def test_a_spectrum_comes_back_in_either_order(
    steps: list[float], first: int, descending: bool, missing: int
) -> None:
    values = np.cumsum([1.0, *steps])
    values = values[::-1] if descending else values
    coords = SpectrumCoordinates(values * u.nm)
    pixel = np.linspace(-3, values.size + 3, 50)
    world = coords.pixel_to_world_values(pixel)
    np.testing.assert_allclose(coords.world_to_pixel_values(world), pixel, atol=1e-6)
    np.testing.assert_array_equal(coords.pixel_to_world_values(np.arange(values.size)), values)
    assert (np.diff(world) > 0).all() != descending
    assert (np.diff(world) < 0).all() == descending
    image = LRSCoordinates(np.append(values, [np.nan] * missing), np.arange(4.0), None, (first, 0))
    found = image.pixel_to_world_values(0.0, first + np.arange(values.size))[1]
    np.testing.assert_array_equal(found, values)


def test_a_range_of_wavelengths_selects_its_rows(s2d: SlitImage) -> None:
    data = image_data(s2d)
    collection = DataCollection([data])
    world = data.world_component_ids[0]
    group = collection.new_subset_group("range", (world > 6.0) & (world < 7.0))
    mask = group.subsets[0].to_mask()
    expected = (s2d.wavelength > 6.0) & (s2d.wavelength < 7.0)
    assert expected.any()
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("kind", ["s2d", "cal", "calints"])
def test_the_axes_can_be_drawn(kind: str, request: pytest.FixtureRequest) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    image = request.getfixturevalue(kind)
    data = image_data(image)
    rows, columns = np.nonzero(np.isfinite(image.wavelength))
    row, column = rows[rows.size // 2], columns[rows.size // 2]
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection=data.coords, slices=("x", "y", 0)[: data.ndim])
    axes.set_xlim(-0.5, data.shape[-1] - 0.5)
    axes.set_ylim(-0.5, data.shape[-2] - 0.5)
    figure.canvas.draw()
    axes.set_xlim(column - 3, column + 3)
    axes.set_ylim(row - 3, row + 3)
    figure.canvas.draw()
    shown = float(axes.format_coord(column, row).split()[1])
    assert shown == pytest.approx(image.wavelength[row, column], abs=0.006)


@pytest.mark.slow
def test_coordinates_outside_the_slit_are_finite(cal: SlitImage) -> None:
    """astropy cannot draw axes if all values of a coordinate are NaN."""
    data = image_data(cal)
    wavelength, offset = (data[cid] for cid in data.world_component_ids)
    assert wavelength.shape == (1024, 1032)
    assert np.isfinite(wavelength).all()
    assert np.isfinite(offset).all()
    assert (np.diff(wavelength, axis=0) < 0).all()
    assert (np.diff(offset, axis=1) > 0).all()
    assert wavelength.min() > -30.0
    assert np.isnan(data["wavelength"][500:]).all()  # as in the file


def test_positions_that_are_nan_have_no_coordinates(s2d: SlitImage, cal: SlitImage) -> None:
    for image in (s2d, cal):
        coords = image_data(image).coords
        world = coords.pixel_to_world_values([np.nan, 10.0], [np.nan, 100.0])
        np.testing.assert_array_equal(np.isnan(world), [[True, False]] * 2)
        pixel = coords.world_to_pixel_values(*world)
        np.testing.assert_array_equal(np.isnan(pixel), [[True, False]] * 2)


def test_wavelengths_that_are_not_monotonic_are_reproduced(make_image: Make) -> None:
    wavelength = np.array(make_image().wavelength, dtype=float)
    wavelength[10:13] = wavelength[12:9:-1]
    coords = image_data(make_image(wavelength=wavelength)).coords
    rows = np.arange(30.0)
    world = coords.pixel_to_world_values(3.0, rows)
    np.testing.assert_array_equal(world[1], wavelength[:, 3])
    back = coords.world_to_pixel_values(*world)[1]
    np.testing.assert_allclose(back[rows < 9], rows[rows < 9], atol=1e-9)
    assert np.abs(back - rows).max() < 3


# --- spectra --------------------------------------------------------------------------------------


def test_a_spectrum_has_all_columns_by_ascending_wavelength(s2d: SlitImage) -> None:
    extraction = extract(s2d)
    data = spectrum_data(extraction, "spectrum")
    assert is_lrs_spectrum(data)
    assert not is_lrs_image(data)
    assert (np.diff(data["wavelength"]) > 0).all()
    back = np.argsort(-data["wavelength"])
    names = {"FLUX_ERROR": "uncertainty"}
    for name in COLUMNS:
        component = names.get(name, name.lower())
        np.testing.assert_array_equal(data[component][back], extraction.columns[name])
        assert data.get_component(component).units == extraction.units.get(name, "")
    np.testing.assert_array_equal(data["masked"][back].astype(bool), extraction.mask)
    np.testing.assert_array_equal(data[data.world_component_ids[0]], data["wavelength"])
    assert data.meta["uncertainty_type"] == "std"
    assert data.meta["EXP_TYPE"] == "MIR_LRS-FIXEDSLIT"
    assert extraction_of(data) is extraction
    rows = data["row"].astype(int)
    np.testing.assert_allclose(s2d.wavelength[rows, 14], data["wavelength"], rtol=1e-6)


def test_a_stack_of_spectra_has_two_axes(calints: SlitImage) -> None:
    extraction = extract(calints)
    data = spectrum_data(extraction)
    assert data.shape == extraction.columns["FLUX"].shape
    assert [cid.label for cid in data.world_component_ids] == ["Integration", "Wavelength"]
    order = np.argsort(extraction.wavelength)
    np.testing.assert_array_equal(data["flux"], extraction.columns["FLUX"][:, order])
    np.testing.assert_array_equal(data["wavelength"][1], extraction.wavelength[order])
    np.testing.assert_array_equal(data[data.world_component_ids[1]], data["wavelength"])
    np.testing.assert_array_equal(data["row"][0], data["row"][2])
    pixel = (5.25, 1.5)
    world = data.coords.pixel_to_world_values(*pixel)
    assert world[1] == 2.5
    np.testing.assert_allclose(data.coords.world_to_pixel_values(*world), pixel)


def test_with_an_image_there_is_an_element_for_every_row(s2d: SlitImage) -> None:
    data = spectrum_data(extract(s2d, ystart=50, ystop=299), image=s2d)
    assert data.shape == (s2d.shape[0],)
    part = extract(s2d, xstart=12.0, xstop=14.5, ystart=100, ystop=199)
    identity = {cid.label: cid for cid in data.main_components}
    update_spectrum_data(data, part)
    assert {cid.label: cid for cid in data.main_components} == identity
    rows = data["row"].astype(int)
    inside = (rows >= 100) & (rows <= 199)
    np.testing.assert_array_equal(np.isfinite(data["flux"]), inside)
    np.testing.assert_array_equal(data["flux"][inside][::-1], part.columns["FLUX"])
    np.testing.assert_array_equal(data["uncertainty"][inside][::-1], part.columns["FLUX_ERROR"])
    np.testing.assert_array_equal(data["masked"], ~inside)
    np.testing.assert_array_equal(data["dq"], ~inside)
    assert data["dq"].dtype == np.uint32
    np.testing.assert_allclose(data["wavelength"], s2d.wavelength[rows, 14], rtol=1e-6)
    assert extraction_of(data) is part
    update_spectrum_data(data, None)
    assert np.isnan(data["flux"]).all()
    assert np.isnan(data["npixels"]).all()
    assert data["masked"].all()
    assert np.isfinite(data["wavelength"]).all()
    assert extraction_of(data) is None


def test_a_dataset_can_be_made_before_its_spectrum(s2d: SlitImage) -> None:
    data = spectrum_data(None, "later", s2d)
    assert np.isnan(data["flux"]).all()
    assert data.get_component("flux").units == "Jy"
    update_spectrum_data(data, extract(s2d))
    assert_same_data(data, spectrum_data(extract(s2d), "later", s2d))


def test_rows_without_a_wavelength_have_no_element(cal: SlitImage) -> None:
    some = np.isfinite(cal.wavelength).any(axis=1)
    assert not some.all()
    data = spectrum_data(None, image=cal)
    np.testing.assert_array_equal(np.sort(data["row"]), np.flatnonzero(some))


def test_an_extraction_with_gaps_finds_its_rows(make_image: Make) -> None:
    wavelength = np.array(make_image().wavelength)
    wavelength[12:15, 5:10] = np.nan  # in all pixels of the aperture
    image = make_image(wavelength=wavelength)
    extraction = extract(image, xstart=5, xstop=9)
    assert extraction.wavelength.size == 27
    data = spectrum_data(extraction, image=image)
    rows = data["row"].astype(int)
    np.testing.assert_array_equal(np.sort(rows[np.isnan(data["flux"])]), [12, 13, 14])
    flux = dict(zip(rows, data["flux"], strict=True))
    np.testing.assert_array_equal([flux[11], flux[15]], extraction.columns["FLUX"][[11, 12]])


def test_an_update_sends_one_message(s2d: SlitImage) -> None:
    data = spectrum_data(extract(s2d), image=s2d)
    collection = DataCollection([data])
    messages: list[Any] = []
    collection.hub.subscribe(collection, NumericalDataChangedMessage, handler=messages.append)
    update_spectrum_data(data, extract(s2d, xstart=11.0))
    assert len(messages) == 1
    assert messages[0].data is data


def test_invalid_updates_are_errors(s2d: SlitImage, calints: SlitImage) -> None:
    data = spectrum_data(extract(s2d), "mine")
    with pytest.raises(LRSError, match=r"^mine: found 100 wavelengths, expected 387.*$"):
        update_spectrum_data(data, extract(s2d, ystart=100, ystop=199))
    with pytest.raises(LRSError, match=r"^mine: found an extraction of shape .* expected a single"):
        update_spectrum_data(data, extract(calints))
    with pytest.raises(LRSError, match="is not an LRS spectrum"):
        update_spectrum_data(image_data(s2d), extract(s2d))
    with pytest.raises(LRSError, match="expected the spectrum of one image"):
        spectrum_data(extract(calints), image=calints)
    with pytest.raises(LRSError, match="expected one, or the image"):
        spectrum_data(None)


def test_a_stack_may_be_shown_one_integration_at_a_time(calints: SlitImage) -> None:
    planes = ("data", "err", "dq", "var_poisson", "var_rnoise", "var_flat")
    values = {name: getattr(calints, name) for name in planes}
    one = {name: None if plane is None else plane[1] for name, plane in values.items()}
    data = spectrum_data(None, image=calints)
    extraction = extract(replace(calints, times=None, **one))
    update_spectrum_data(data, extraction)
    np.testing.assert_array_equal(
        data["flux"], extract(calints).columns["FLUX"][1][np.argsort(extraction.wavelength)]
    )


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "factory", "shape"),
    [
        ("a_s2d.fits", lrs_image, (387, 45)),
        ("b_calints.fits", lrs_image, (3, 416, 72)),
        ("a_x1d.fits", lrs_spectrum, (387,)),
        ("b_x1dints.fits", lrs_spectrum, (3, 388)),
    ],
)
def test_glue_opens_products_of_lrs_with_the_loaders(
    folder: Path, name: str, factory: Any, shape: tuple[int, ...]
) -> None:
    path = str(folder / name)
    assert find_factory(path) is factory
    data = load_data(path)
    assert data.label == name.removesuffix(".fits")
    assert data.shape == shape
    if factory is lrs_image:
        np.testing.assert_array_equal(data["flux"], SlitImage.read(path).data)
        assert slit_image(data).path == path
    else:
        flux = Extraction.read(path).columns["FLUX"]
        np.testing.assert_array_equal(np.sort(data["flux"]), np.sort(flux))


@pytest.mark.slow
def test_cal_and_slit_time_series_are_loaded(scene: Scene, tmp_path: Path) -> None:
    scene.cal(nod=2).image.write(tmp_path / "x_cal.fits")
    scene.slit_calints(2).image.write(tmp_path / "y_calints.fits")
    cal = load_data(str(tmp_path / "x_cal.fits"))
    assert is_lrs_image(cal)
    assert cal.meta["kind"] == "cal"
    assert load_data(str(tmp_path / "y_calints.fits")).ndim == 3


@pytest.mark.slow
def test_gzip_files_are_loaded(folder: Path, tmp_path: Path) -> None:
    import gzip

    packed = tmp_path / "a_s2d.fits.gz"
    packed.write_bytes(gzip.compress((folder / "a_s2d.fits").read_bytes()))
    data = load_data(str(packed))
    assert is_lrs_image(data)
    np.testing.assert_array_equal(data["flux"], load_data(str(folder / "a_s2d.fits"))["flux"])


def changed(folder: Path, target: Path, drop: tuple[str, ...] = (), **cards: Any) -> str:
    """An s2d with changed cards, and without given extensions."""
    with fits.open(folder / "a_s2d.fits") as hdulist:
        kept = fits.HDUList([hdu for hdu in hdulist if hdu.name not in drop])
        for key, value in cards.items():
            kept[0].header[key] = value
        kept.writeto(target)
    return str(target)


@pytest.mark.parametrize(
    "cards",
    [
        {"EXP_TYPE": "MIR_IMAGE"},  # an i2d
        {"EXP_TYPE": "NRS_FIXEDSLIT", "INSTRUME": "NIRSPEC"},
        {"EXP_TYPE": "MIR_MRS"},
        {"TELESCOP": "HST"},
    ],
)
def test_glue_opens_other_products_with_its_own_reader(
    folder: Path, tmp_path: Path, cards: dict[str, Any]
) -> None:
    path = changed(folder, tmp_path / "other_s2d.fits", **cards)
    assert find_factory(path) is fits_reader


def test_a_rate_of_lrs_is_left_to_glue(folder: Path, tmp_path: Path) -> None:
    path = changed(folder, tmp_path / "x_rate.fits", ("WAVELENGTH", "ASDF"), S_RESAMP="SKIPPED")
    with fits.open(path, mode="update") as hdulist:
        hdulist[0].header.remove("S_WCS", ignore_missing=True)
    assert find_factory(path) is fits_reader


def test_files_of_other_kinds_are_left_to_glue(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.ones((3, 4))).writeto(tmp_path / "random.fits")
    assert find_factory(str(tmp_path / "random.fits")) is fits_reader
    (tmp_path / "table.csv").write_text("a,b\n1,2\n3,4\n")
    assert find_factory(str(tmp_path / "table.csv")) not in (None, lrs_image, lrs_spectrum)
    (tmp_path / "empty.fits").write_bytes(b"")
    assert find_factory(str(tmp_path / "empty.fits")) not in (lrs_image, lrs_spectrum)


def test_an_x1d_of_several_spectra_becomes_several_datasets(folder: Path, tmp_path: Path) -> None:
    with fits.open(folder / "a_x1d.fits") as hdulist:
        second = hdulist["EXTRACT1D"].copy()
        second.ver = 2
        second.data["WAVELENGTH"] += 0.001
        fits.HDUList([hdulist[0], hdulist["EXTRACT1D"], second]).writeto(tmp_path / "c_x1d.fits")
    first, last = load_data(str(tmp_path / "c_x1d.fits"))
    assert (first.label, last.label) == ("c_x1d 1", "c_x1d 2")
    np.testing.assert_allclose(last["wavelength"] - first["wavelength"], 0.001)
    restored = saved(DataCollection([first, last]), tmp_path)
    assert_same_data(last, restored[1])
    assert_same_data(first, restored[0])


# --- sessions -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("include_data", [False, True])
def test_a_session_restores_all_data(folder: Path, tmp_path: Path, include_data: bool) -> None:
    names = ("a_s2d.fits", "b_calints.fits", "a_x1d.fits", "b_x1dints.fits")
    collection = DataCollection([load_data(str(folder / name)) for name in names])
    image = slit_image(collection[0])
    extraction = extract(image, ystart=50, ystop=200)
    collection.append(spectrum_data(extraction, "live", image))
    restored = saved(collection, tmp_path, include_data=include_data)
    restored = saved(restored, tmp_path, include_data=include_data)  # a second time
    for one, other in zip(collection, restored, strict=True):
        assert_same_data(one, other)
        assert is_lrs_image(other) == is_lrs_image(one)
        assert is_lrs_spectrum(other) == is_lrs_spectrum(one)
    for before, after in zip(collection[:2], restored[:2], strict=True):
        one, other = slit_image(before), slit_image(after)
        for plane in ("data", "err", "var_poisson", "var_rnoise", "var_flat", "wavelength"):
            np.testing.assert_array_equal(getattr(one, plane), getattr(other, plane))
        assert one.path == other.path
        assert expected_position(one) == expected_position(other)
    for before, after in zip(collection[2:], restored[2:], strict=True):
        one, other = extraction_of(before), extraction_of(after)
        assert one is not None
        assert other is not None
        assert one.keywords == other.keywords
        assert one.header == other.header
        assert one.units == other.units
        assert dict(one.provenance or {}) == dict(other.provenance or {})
        for name, values in one.columns.items():
            np.testing.assert_array_equal(values, other.columns[name])
    update_spectrum_data(restored[4], extract(image))  # it can still be updated
    assert np.isfinite(restored[4]["flux"]).sum() > 300


def test_a_session_contains_only_names_of_files(folder: Path, tmp_path: Path) -> None:
    collection = DataCollection([load_data(str(folder / "b_calints.fits"))])
    saved(collection, tmp_path)
    assert (tmp_path / "session.glu").stat().st_size < 50_000
    collection = DataCollection([open_image(folder / "b_calints.fits")])
    saved(collection, tmp_path)
    assert (tmp_path / "session.glu").stat().st_size < 50_000


def test_subsets_and_links_survive_a_session(folder: Path, tmp_path: Path) -> None:
    from glue.core.link_helpers import LinkSame

    image, spectrum = (load_data(str(folder / name)) for name in ("a_s2d.fits", "a_x1d.fits"))
    collection = DataCollection([image, spectrum])
    world = image.world_component_ids[0]
    collection.add_link(LinkSame(spectrum.id["wavelength"], world))
    wavelength = spectrum.id["wavelength"]
    collection.new_subset_group("range", (wavelength > 6.0) & (wavelength < 7.0))
    expected = [subset.to_mask() for subset in collection.subset_groups[0].subsets]
    assert 0 < expected[0].sum() == expected[1].sum() * image.shape[1]
    restored = saved(collection, tmp_path)
    found = [subset.to_mask() for subset in restored.subset_groups[0].subsets]
    np.testing.assert_array_equal(expected[0], found[0])
    np.testing.assert_array_equal(expected[1], found[1])


def test_a_session_moves_with_its_files(folder: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    shutil.copy(folder / "a_s2d.fits", here)
    collection = DataCollection([load_data(str(here / "a_s2d.fits"))])
    saved(collection, here, absolute_paths=False)
    here.rename(there)
    (data,) = Application.restore_session(str(there / "session.glu")).data_collection
    assert_same_data(collection[0], data)
    assert slit_image(data).path == str(there / "a_s2d.fits")


@pytest.mark.parametrize("name", ["a_s2d.fits", "a_x1d.fits"])
def test_a_file_that_has_moved_is_named_in_one_line(
    folder: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    shutil.copy(folder / name, path)
    collection = DataCollection([load_data(str(path))])
    session = str(tmp_path / "session.glu")
    Application(collection).save_session(session)
    path.rename(tmp_path / "elsewhere.fits")
    with pytest.raises(ProductError) as caught:
        Application.restore_session(session)
    assert str(caught.value) == f"{path}: does not exist"


def test_a_session_with_data_needs_no_file(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a_s2d.fits"
    shutil.copy(folder / "a_s2d.fits", path)
    collection = DataCollection([load_data(str(path))])
    session = str(tmp_path / "session.glu")
    Application(collection).save_session(session, include_data=True)
    path.rename(tmp_path / "elsewhere.fits")
    (data,) = Application.restore_session(session).data_collection
    assert_same_data(collection[0], data)
    expected = SlitImage.read(tmp_path / "elsewhere.fits")
    np.testing.assert_array_equal(slit_image(data).data, expected.data)
    np.testing.assert_array_equal(slit_image(data).err, expected.err)


def test_a_changed_file_is_read_again(scene: Scene, s2d: SlitImage, tmp_path: Path) -> None:
    path = tmp_path / "x_s2d.fits"
    s2d.write(path)
    collection = DataCollection([load_data(str(path))])
    session = str(tmp_path / "session.glu")
    Application(collection).save_session(session)
    rows = slice(20, 300)
    planes = {
        name: getattr(s2d, name)[rows]
        for name in ("data", "wavelength", "err", "var_poisson", "var_rnoise", "var_flat")
    }
    dq = None if s2d.dq is None else s2d.dq[rows]
    replace(s2d, dq=dq, wcs_source=None, **planes).write(path, overwrite=True)
    (data,) = Application.restore_session(session).data_collection
    assert data.shape == (280, 45)
    np.testing.assert_array_equal(data["flux"], s2d.data[rows])
    assert slit_image(data).shape == (280, 45)
    wavelength = data[data.world_component_ids[0]]
    np.testing.assert_allclose(wavelength, s2d.wavelength[rows], rtol=1e-6)


def test_an_image_from_memory_is_kept_in_a_session(make_image: Make, tmp_path: Path) -> None:
    image = make_image()
    (data,) = saved(DataCollection([image_data(image, "mine")]), tmp_path)
    np.testing.assert_array_equal(data["flux"], image.data)
    assert is_lrs_image(data)
    np.testing.assert_array_equal(slit_image(data).data, image.data)


def test_a_changed_image_of_a_file_keeps_its_changes_through_a_session(
    folder: Path, tmp_path: Path
) -> None:
    image = SlitImage.read(folder / "a_s2d.fits")
    image = replace(image, data=np.asarray(image.data) * 3)
    (data,) = saved(DataCollection([image_data(image)]), tmp_path)
    np.testing.assert_array_equal(slit_image(data).data, image.data)
    assert slit_image(data).path == str(folder / "a_s2d.fits")


# --- export ---------------------------------------------------------------------------------------


def assert_same_table(path: Path, extraction: Extraction) -> None:
    found = Extraction.read(path)
    assert list(found.columns) == list(extraction.columns)
    for name, values in extraction.columns.items():
        np.testing.assert_array_equal(found.columns[name], values)


@pytest.mark.parametrize("restored", [False, True])
def test_an_exported_spectrum_is_the_x1d_of_the_extraction(
    s2d: SlitImage, tmp_path: Path, restored: bool
) -> None:
    extraction = extract(s2d, ystart=50, ystop=250)
    collection = DataCollection([spectrum_data(extraction, "live", s2d)])
    if restored:
        collection = saved(collection, tmp_path)
    path = tmp_path / "out_x1d.fits"
    export_x1d(str(path), collection[0])
    assert_same_table(path, extraction)
    extraction.write(tmp_path / "direct_x1d.fits")
    for extension in (0, "EXTRACT1D"):
        one, other = (
            fits.getheader(file, extension) for file in (path, tmp_path / "direct_x1d.fits")
        )
        for header in (one, other):
            for key in ("DATE", "FILENAME"):
                header.remove(key, ignore_missing=True)
        assert one == other
    export_x1d(str(path), collection[0])  # glue asks before replacing a file


def test_an_exported_stack_is_an_x1dints(calints: SlitImage, tmp_path: Path) -> None:
    extraction = extract(calints)
    export_x1d(str(tmp_path / "out.fits"), spectrum_data(extraction))
    assert_same_table(tmp_path / "out.fits", extraction)


def test_the_exporter_writes_the_components_that_were_chosen(
    s2d: SlitImage, tmp_path: Path
) -> None:
    data = spectrum_data(extract(s2d))
    export_x1d(str(tmp_path / "out.fits"), data, components=[data.id["uncertainty"]])
    columns = Extraction.read(tmp_path / "out.fits").columns
    assert list(columns) == ["WAVELENGTH", "FLUX", "FLUX_ERROR", "DQ"]


def test_an_exported_subset_has_its_wavelengths(s2d: SlitImage, tmp_path: Path) -> None:
    extraction = extract(s2d)
    data = spectrum_data(extraction, "live", s2d)
    subset = data.new_subset(data.id["wavelength"] < 8.0, label="short")
    export_x1d(str(tmp_path / "out.fits"), subset)
    found = Extraction.read(tmp_path / "out.fits")
    inside = extraction.wavelength < 8.0
    np.testing.assert_array_equal(found.wavelength, extraction.wavelength[inside])
    np.testing.assert_array_equal(found.columns["FLUX"], extraction.columns["FLUX"][inside])
    np.testing.assert_array_equal(found.columns["DQ"], extraction.columns["DQ"][inside])
    nothing = data.new_subset(data.id["wavelength"] > 100.0, label="nothing")
    with pytest.raises(LRSError, match=r"^nothing: has no element of live$"):
        export_x1d(str(tmp_path / "none.fits"), nothing)


def test_an_exported_subset_of_a_stack_flags_other_elements(
    calints: SlitImage, tmp_path: Path
) -> None:
    extraction = extract(calints)
    data = spectrum_data(extraction)
    first = data.pixel_component_ids[0] < 1
    subset = data.new_subset((data.id["wavelength"] < 8.0) & first)
    export_x1d(str(tmp_path / "out.fits"), subset)
    found = Extraction.read(tmp_path / "out.fits").columns
    inside = extraction.wavelength < 8.0
    np.testing.assert_array_equal(found["DQ"][0], extraction.columns["DQ"][0, inside])
    assert (found["DQ"][1:] & DO_NOT_USE == DO_NOT_USE).all()
    np.testing.assert_array_equal(found["FLUX"], extraction.columns["FLUX"][:, inside])


def test_values_changed_in_glue_are_exported(s2d: SlitImage, tmp_path: Path) -> None:
    extraction = extract(s2d)
    data = spectrum_data(extraction)
    data.update_components({data.id["flux"]: data["flux"] * 2})
    export_x1d(str(tmp_path / "out.fits"), data)
    found = Extraction.read(tmp_path / "out.fits").columns
    assert np.isnan(found["NPIXELS"]).all()
    np.testing.assert_array_equal(np.sort(found["FLUX"]), np.sort(extraction.columns["FLUX"] * 2))


def test_other_datasets_are_not_exported(s2d: SlitImage, tmp_path: Path) -> None:
    for data in (Data(x=[1.0, 2.0], label="mine"), image_data(s2d, "mine")):
        with pytest.raises(WriteError, match=r"^mine: is not a spectrum of MIRI LRS, .*$"):
            export_x1d(str(tmp_path / "out.fits"), data)
    assert not (tmp_path / "out.fits").exists()


# --- the plugin -----------------------------------------------------------------------------------


def test_the_plugin_registers_once() -> None:
    from glue.config import data_exporter, data_factory, data_translator

    registries = (data_factory, data_exporter, data_translator)
    before = [len(registry.members) for registry in registries]
    register()
    assert [len(registry.members) for registry in registries] == before


@pytest.mark.slow
def test_no_toolkit_is_imported(folder: Path) -> None:
    code = f"""
import sys
import glue_lrs
assert not any(name == "glue" or name.startswith("glue.") for name in sys.modules)
from glue_lrs.viewers import register
register()
from glue.core.data_factories import load_data
assert load_data({str(folder / "a_s2d.fits")!r}).shape == (387, 45)
toolkits = ("qtpy", "PyQt6", "PySide6", "ipywidgets", "glue_jupyter", "glue_astronomy")
print([name for name in toolkits if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.filterwarnings(
    "ignore:Dropping column"
)  # from glue's own reader, about the ASDF extension
def test_a_file_of_lrs_that_cannot_be_extracted_opens_as_any_fits_file(tmp_path: Path) -> None:
    """With the factory of this package it is an error."""
    image = Scene(seed=1).s2d(1).image
    path = tmp_path / "blank_s2d.fits"
    image.write(path)
    with fits.open(path, mode="update") as hdulist:
        del hdulist["SCI"].header["DISPAXIS"]
    with pytest.warns(LRSWarning, match="opened as a plain FITS file, without extraction"):
        plain = load_data(str(path))
    first = plain[0] if isinstance(plain, list) else plain
    assert not is_lrs_image(first)
    with pytest.raises(ProductError, match="DISPAXIS"):
        open_image(path)
