"""Spectra of specutils through glue and back."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import InverseVariance, StdDevUncertainty, VarianceUncertainty
from glue.config import data_translator
from glue.core import Data, DataCollection
from glue.core.application_base import Application
from specutils import Spectrum

from glue_lrs import Aperture, Extract1D, SlitImage
from glue_lrs.errors import LRSError, ProductError
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.provenance import Provenance
from glue_lrs.viewers.datasets.conversions import data_to_spectrum, spectrum_to_data
from glue_lrs.viewers.datasets.images import image_data, is_lrs_image
from glue_lrs.viewers.datasets.session_meta import SessionMeta
from glue_lrs.viewers.datasets.spectra import is_lrs_spectrum, spectrum_data
from glue_lrs.viewers.plugin import register

Make = Callable[..., SlitImage]


@pytest.fixture(autouse=True)
def translators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the translators of this package are registered."""
    register()
    mine = "glue_lrs.viewers.datasets.translators"
    ours = [item for item in data_translator.members if type(item.handler).__module__ == mine]
    monkeypatch.setattr(data_translator, "_members", ours)


@pytest.fixture
def astronomy(translators: None) -> None:
    """Those of glue-astronomy are registered too, after those of this package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports
        # glue may have imported the package partially, as warnings are errors in tests. An import
        # statement would then fail, as the parent package lacks the attribute.
        theirs = importlib.import_module("glue_astronomy.translators.spectrum1d")

    data_translator(Spectrum)(theirs.SpecutilsHandler)


@pytest.fixture
def image(make_image: Make) -> SlitImage:
    """An image in which two rows have no valid pixel."""
    image = make_image()
    data = np.array(image.data)
    data[7:9] = np.nan
    return make_image(data=data)


@pytest.fixture
def stack(make_image: Make) -> SlitImage:
    image = make_image((3, 30, 20))
    data = np.array(image.data)
    data[1, 7:9] = np.nan
    return make_image((3, 30, 20), data=data, exp_type="MIR_LRS-SLITLESS")


OPERATOR = Extract1D(aperture=Aperture(xstart=5.5, xstop=9.2))


def saved(collection: DataCollection, path: Path) -> DataCollection:
    session = str(path / "session.glu")
    Application(collection).save_session(session)
    return Application.restore_session(session).data_collection


def assert_same_spectrum(one: Spectrum, other: Spectrum) -> None:
    assert one.unit == other.unit
    assert one.flux.dtype == other.flux.dtype
    np.testing.assert_array_equal(one.flux.value, other.flux.value)
    assert one.spectral_axis.unit == other.spectral_axis.unit
    np.testing.assert_array_equal(one.spectral_axis.value, other.spectral_axis.value)
    assert one.spectral_axis_index == other.spectral_axis_index
    assert type(one.uncertainty) is type(other.uncertainty)
    if one.uncertainty is not None:
        assert one.uncertainty.unit == other.uncertainty.unit
        np.testing.assert_array_equal(one.uncertainty.array, other.uncertainty.array)
    assert (one.mask is None) == (other.mask is None)
    if one.mask is not None:
        np.testing.assert_array_equal(one.mask, other.mask)
    assert one.radial_velocity == other.radial_velocity


def through_glue(spectrum: Spectrum, path: Path) -> tuple[Spectrum, Spectrum]:
    """A spectrum converted to a dataset and back, directly and after a session."""
    collection = DataCollection()
    collection["x"] = spectrum
    now = collection["x"].get_object()
    assert_same_spectrum(spectrum, now)
    (restored,) = saved(collection, path)
    later = restored.get_object(cls=Spectrum)
    assert_same_spectrum(spectrum, later)
    return now, later


@pytest.mark.parametrize("order", ["ascending", "file"])
@pytest.mark.parametrize("fill", ["interpolate", "nan"])
@pytest.mark.parametrize("kind", ["image", "stack"])
def test_a_spectrum_is_restored_exactly(
    kind: str, fill: Any, order: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    extraction = OPERATOR.run(request.getfixturevalue(kind))
    spectrum = extraction.to_spectrum(fill=fill, order=order)
    assert spectrum.mask is not None
    now, later = through_glue(spectrum, tmp_path)
    assert now.meta["extraction"] is extraction
    assert now.meta["glue_lrs"] is extraction.provenance
    assert later.meta.keys() == spectrum.meta.keys()
    assert later.meta["header"] == spectrum.meta["header"]
    assert type(later.meta["header"]) is type(spectrum.meta["header"])
    assert dict(later.meta["glue_lrs"]) == dict(spectrum.meta["glue_lrs"])
    later.write(tmp_path / "later.fits", format="lrs-x1d")
    found = Extraction.read(tmp_path / "later.fits")
    assert found.columns.keys() == extraction.columns.keys()
    for name, values in extraction.columns.items():
        np.testing.assert_array_equal(found.columns[name], values)


def test_the_dataset_has_the_columns_of_the_extraction(image: SlitImage) -> None:
    spectrum = OPERATOR(image)
    collection = DataCollection()
    collection["x"] = spectrum
    data = collection["x"]
    assert data.label == "x"
    assert is_lrs_spectrum(data)
    np.testing.assert_array_equal(data["flux"], spectrum.flux.value)
    np.testing.assert_array_equal(data["masked"].astype(bool), spectrum.mask)
    np.testing.assert_array_equal(data["wavelength"], spectrum.spectral_axis.value)
    extraction = spectrum.meta["extraction"]
    np.testing.assert_array_equal(data["npixels"][::-1], extraction.columns["NPIXELS"])
    np.testing.assert_array_equal(data["row"], np.arange(30.0)[::-1])
    units = {
        name: data.get_component(name).units for name in ("flux", "uncertainty", "surf_bright")
    }
    assert units == {"flux": "Jy", "uncertainty": "Jy", "surf_bright": "MJy/sr"}


def test_no_mask_and_an_empty_mask_are_distinguished(make_image: Make, tmp_path: Path) -> None:
    spectrum = OPERATOR(make_image())
    assert spectrum.mask is None
    through_glue(spectrum, tmp_path)
    spectrum.mask = np.zeros(spectrum.shape, dtype=bool)
    through_glue(spectrum, tmp_path)


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty, InverseVariance])
def test_uncertainties_of_all_kinds_are_restored(
    image: SlitImage, tmp_path: Path, kind: Any
) -> None:
    spectrum = OPERATOR(image)
    spectrum.uncertainty = spectrum.uncertainty.represent_as(kind)
    through_glue(spectrum, tmp_path)


def test_a_spectrum_without_uncertainty_is_restored(image: SlitImage, tmp_path: Path) -> None:
    spectrum = OPERATOR(image)
    spectrum.uncertainty = None
    through_glue(spectrum, tmp_path)


@pytest.mark.parametrize("unit", [u.nm, u.AA, u.GHz, u.eV])
def test_spectral_axes_in_other_units_are_restored(
    image: SlitImage, tmp_path: Path, unit: u.UnitBase
) -> None:
    first = OPERATOR(image)
    axis = u.Quantity(first.spectral_axis).to(unit, u.spectral())
    spectrum = Spectrum(
        flux=first.flux.astype(np.float32),
        spectral_axis=axis,
        uncertainty=first.uncertainty,
        mask=first.mask,
        meta=first.meta,
    )
    through_glue(spectrum, tmp_path)
    data = spectrum_to_data(spectrum)
    np.testing.assert_allclose(data["wavelength"], first.spectral_axis.value, rtol=1e-12)
    assert data.get_component(data.world_component_ids[0]).units == unit.to_string()
    np.testing.assert_array_equal(np.sort(data["row"]), np.arange(30.0))


def test_a_velocity_is_restored(image: SlitImage, tmp_path: Path) -> None:
    first = OPERATOR(image)
    spectrum = Spectrum(
        flux=first.flux,
        spectral_axis=u.Quantity(first.spectral_axis),
        radial_velocity=123.5 * u.km / u.s,
        meta=first.meta,
    )
    through_glue(spectrum, tmp_path)


def test_meta_of_all_kinds_are_restored_if_supported(image: SlitImage, tmp_path: Path) -> None:
    spectrum = OPERATOR(image)
    kept = {
        "text": "a 'b' µ",
        "number": 0.1,
        "count": 3,
        "truth": True,
        "nothing": None,
        "nan": float("nan"),
        "nested": {"list": [1, 2.5, {"deep": "x"}], "empty": {}},
        "array": np.arange(6.0).reshape(2, 3),
        "scalar": np.float32(1.5),
        "quantity": [3.0, 4.0] * u.Jy,
        "other_header": fits.Header([("A", 1, "b"), ("LONG", "x" * 100)]),
    }
    spectrum.meta.update(kept)
    strange = object()
    spectrum.meta.update({"object": strange, "inside": {"x": strange}, ("a", 1): 2})
    now, later = through_glue(spectrum, tmp_path)
    assert now.meta["object"] is strange
    assert now.meta["inside"]["x"] is strange
    assert later.meta.keys() == {*("header", "glue_lrs", "extraction", "column", "quality"), *kept}
    for name, values in spectrum.meta["quality"].items():
        np.testing.assert_array_equal(later.meta["quality"][name], values)
    assert list(later.meta["nested"]) == ["list", "empty"]
    for key, value in kept.items():
        found = later.meta[key]
        assert type(found) is type(value)
        if isinstance(value, np.ndarray | float):
            np.testing.assert_array_equal(found, value)
        else:
            assert found == value
    assert later.meta["quantity"].unit == u.Jy
    assert later.meta["scalar"].dtype == np.float32


def test_times_are_restored(stack: SlitImage, tmp_path: Path) -> None:
    spectrum = OPERATOR(stack)
    _, later = through_glue(spectrum, tmp_path)
    one, other = spectrum.meta["times"], later.meta["times"]
    assert one.colnames == other.colnames
    for name in one.colnames:
        assert one[name].dtype == other[name].dtype
        assert one[name].unit == other[name].unit
        np.testing.assert_array_equal(one[name], other[name])


def test_a_changed_spectrum_is_restored(image: SlitImage, tmp_path: Path) -> None:
    spectrum = OPERATOR(image) * 2
    assert isinstance(spectrum.meta.get("glue_lrs"), Provenance)
    through_glue(spectrum, tmp_path)
    data = spectrum_to_data(spectrum)
    assert data.find_component_id("npixels") is None  # no longer valid
    np.testing.assert_array_equal(data["row"], np.arange(30.0)[::-1])


def test_a_part_of_a_spectrum_keeps_its_columns(image: SlitImage, tmp_path: Path) -> None:
    part = OPERATOR(image)[5:20]
    through_glue(part, tmp_path)
    columns = part.meta["extraction"].columns
    np.testing.assert_array_equal(spectrum_to_data(part)["npixels"], columns["NPIXELS"][::-1][5:20])


# --- other datasets of LRS ------------------------------------------------------------------------


@pytest.mark.parametrize("restored", [False, True])
def test_an_extraction_in_glue_becomes_its_spectrum(
    image: SlitImage, tmp_path: Path, restored: bool
) -> None:
    extraction = Extract1D(aperture=Aperture(xstart=5, xstop=9, ystart=4, ystop=19)).run(image)
    data = spectrum_data(extraction, image=image)
    assert data.shape == (30,)
    if restored:
        (data,) = saved(DataCollection([data]), tmp_path)
    spectrum = data.get_object(cls=Spectrum)
    assert_same_spectrum(spectrum, extraction.to_spectrum())
    assert spectrum.shape == (16,)
    assert spectrum.meta["header"] == extraction.header


def test_values_changed_in_glue_are_in_the_spectrum(image: SlitImage) -> None:
    data = spectrum_data(OPERATOR.run(image), image=image)
    data.update_components({data.id["flux"]: data["flux"] * 2})
    spectrum = data.get_object(cls=Spectrum)
    np.testing.assert_array_equal(spectrum.flux.value, data["flux"])
    np.testing.assert_array_equal(spectrum.uncertainty.array, data["uncertainty"])
    np.testing.assert_array_equal(spectrum.mask, data["masked"] == 1)


def test_a_subset_masks_what_is_outside(image: SlitImage) -> None:
    extraction = Extract1D(aperture=Aperture(xstart=5, xstop=9, ystart=4, ystop=19)).run(image)
    complete = extraction.to_spectrum()
    for data in (spectrum_data(extraction, image=image), spectrum_to_data(complete)):
        subset = data.new_subset(data.id["wavelength"] > 11.0)
        spectrum = data.get_subset_object(cls=Spectrum, subset_id=0)
        outside = complete.spectral_axis.value <= 11.0
        assert outside.any()
        np.testing.assert_array_equal(spectrum.mask, outside | complete.mask)
        np.testing.assert_array_equal(spectrum.flux.value, complete.flux.value)
        subset.delete()


def test_another_component_can_be_the_flux(image: SlitImage) -> None:
    extraction = OPERATOR.run(image)
    data = spectrum_data(extraction)
    spectrum = data.get_object(cls=Spectrum, attribute="surf_bright")
    assert spectrum.unit == u.MJy / u.sr
    np.testing.assert_array_equal(spectrum.flux.value[::-1], extraction.columns["SURF_BRIGHT"])
    np.testing.assert_array_equal(spectrum.uncertainty.array[::-1], extraction.columns["SB_ERROR"])
    spectrum = data.get_object(cls=Spectrum, attribute=data.id["npixels"])
    assert spectrum.uncertainty is None
    with pytest.raises(LRSError, match=r"attribute is 'flx', expected one of flux, uncertainty, "):
        data.get_object(cls=Spectrum, attribute="flx")


def test_a_stack_can_be_collapsed(stack: SlitImage) -> None:
    extraction = OPERATOR.run(stack)
    data = spectrum_data(extraction)
    flux = extraction.columns["FLUX"][:, ::-1]
    error = extraction.columns["FLUX_ERROR"][:, ::-1]
    number = np.isfinite(flux).sum(axis=0)
    assert (number == 2).sum() == 2
    for statistic in ("mean", "median", "sum", "minimum", "maximum"):
        name = {"minimum": "nanmin", "maximum": "nanmax"}.get(statistic, f"nan{statistic}")
        spectrum = data.get_object(cls=Spectrum, statistic=statistic)
        np.testing.assert_allclose(spectrum.flux.value, getattr(np, name)(flux, axis=0))
        assert spectrum.mask is None
        expected = np.sqrt(np.nansum(error**2, axis=0))
        if statistic in ("mean", "sum"):
            expected = expected / number if statistic == "mean" else expected
            np.testing.assert_allclose(spectrum.uncertainty.array, expected)
        else:
            assert spectrum.uncertainty is None
    with pytest.raises(LRSError, match="statistic is 'mode', expected one of mean, "):
        data.get_object(cls=Spectrum, statistic="mode")


def test_rows_without_any_flux_stay_masked_in_a_collapsed_stack(make_image: Make) -> None:
    stack = make_image((3, 30, 20))
    data = np.array(stack.data)
    data[:, 7] = np.nan
    extraction = OPERATOR.run(make_image((3, 30, 20), data=data))
    spectrum = data_to_spectrum(spectrum_data(extraction), statistic="mean")
    np.testing.assert_array_equal(np.flatnonzero(spectrum.mask), [22])
    np.testing.assert_array_equal(np.isnan(spectrum.flux.value), spectrum.mask)


@pytest.mark.parametrize("kind", ["image", "stack"])
def test_an_image_is_converted(kind: str, request: pytest.FixtureRequest) -> None:
    image = request.getfixturevalue(kind)
    spectrum = image.to_spectrum()
    spectrum.meta["mine"] = 3
    collection = DataCollection()
    collection["x"] = spectrum
    assert is_lrs_image(collection["x"])
    back = collection["x"].get_object()
    assert_same_spectrum(spectrum, back)
    assert back.meta["mine"] == 3
    assert back.meta["image"] is image
    np.testing.assert_array_equal(OPERATOR(back).flux, OPERATOR(image).flux)


def test_a_changed_image_is_converted(image: SlitImage) -> None:
    spectrum = image.to_spectrum() * 3
    collection = DataCollection()
    collection["x"] = spectrum
    assert_same_spectrum(spectrum, collection["x"].get_object())


def test_a_subset_of_an_image_masks_the_pixels_outside(image: SlitImage) -> None:
    data = image_data(image)
    data.new_subset(data.pixel_component_ids[1] > 4.5)
    spectrum = data.get_subset_object(cls=Spectrum, subset_id=0)
    bad = np.isnan(image.data)
    bad[:, :5] = True
    np.testing.assert_array_equal(spectrum.mask, bad[::-1].T)
    with pytest.raises(LRSError, match="attribute is 'dq', expected 'flux' for an image"):
        data.get_object(cls=Spectrum, attribute="dq")


def test_images_and_extractions_are_converted(image: SlitImage) -> None:
    extraction = OPERATOR.run(image)
    collection = DataCollection()
    collection["image"] = image
    collection["spectrum"] = extraction
    assert collection["image"].get_object() is image
    assert collection["spectrum"].get_object() is extraction
    collection["spectrum"].new_subset(collection["spectrum"].id["wavelength"] < 8.0)
    part = collection["spectrum"].get_subset_object(subset_id=0, cls=Extraction)
    np.testing.assert_array_equal(part.wavelength, extraction.wavelength[extraction.wavelength < 8])
    collection["image"].new_subset(collection["image"].pixel_component_ids[1] > 4.5)
    part = collection["image"].get_subset_object(subset_id=0, cls=SlitImage)
    np.testing.assert_array_equal(part.dq[:, :5], 1)
    np.testing.assert_array_equal(part.dq[:, 5:], 0)
    assert image.dq is None
    with pytest.raises(LRSError, match=r"^image: is not an LRS spectrum$"):
        collection["image"].get_object(cls=Extraction)


def test_a_session_is_saved_without_the_file(image: SlitImage, tmp_path: Path) -> None:
    path = tmp_path / "gone_s2d.fits"

    def load() -> Any:
        raise ProductError(f"{path}: does not exist")

    image = replace(image, path=str(path), filename=str(path))
    extraction = replace(OPERATOR.run(image), keywords_source=load)
    collection = DataCollection([spectrum_data(extraction, "x")])
    (restored,) = saved(collection, tmp_path)
    assert_same_spectrum(extraction.to_spectrum(), restored.get_object(cls=Spectrum))


# --- other objects -----------------------------------------------------------------------------


def other(**values: Any) -> Spectrum:
    return Spectrum(
        **{
            "flux": np.arange(1.0, 6.0) * u.Jy,
            "spectral_axis": np.linspace(1.0, 2.0, 5) * u.um,
            "uncertainty": StdDevUncertainty(np.full(5, 0.1)),
        }
        | values
    )


def test_other_spectra_are_passed_on(astronomy: None) -> None:
    spectrum = other()
    collection = DataCollection()
    collection["x"] = spectrum
    data = collection["x"]
    assert not is_lrs_spectrum(data)
    back = data.get_object()
    np.testing.assert_array_equal(back.flux, spectrum.flux)
    np.testing.assert_array_equal(back.uncertainty.array, spectrum.uncertainty.array)
    back = data.get_object(attribute="flux", statistic=None)
    np.testing.assert_array_equal(back.flux, spectrum.flux)
    data.new_subset(data.id["flux"] > 2.5)
    part = data.get_subset_object(subset_id=0)
    np.testing.assert_array_equal(part.mask, [True, True, False, False, False])


def test_cubes_are_passed_on(image: SlitImage, astronomy: None) -> None:
    ours = OPERATOR(image)
    cube = other(
        flux=np.ones((2, 3, 5)) * u.Jy, uncertainty=None, spectral_axis_index=2, meta=ours.meta
    )
    collection = DataCollection()
    collection["x"] = cube
    assert collection["x"].shape == (2, 3, 5)
    assert not is_lrs_spectrum(collection["x"])


def test_translators_of_this_package_have_precedence(
    image: SlitImage, astronomy: None, tmp_path: Path
) -> None:
    through_glue(OPERATOR(image), tmp_path)


def test_other_spectra_are_an_error_without_glue_astronomy(image: SlitImage) -> None:
    collection = DataCollection()
    message = "^the Spectrum is not from MIRI LRS, .*: install glue-astronomy$"
    with pytest.raises(TypeError, match=message):
        collection["x"] = other()
    assert len(collection) == 0
    with pytest.raises(TypeError, match=message):
        Data(flux=np.ones(3)).get_object(cls=Spectrum)
    with pytest.raises(LRSError, match="is not an LRS spectrum"):
        data_to_spectrum(Data(flux=np.ones(3), label="x"))


def test_session_meta_is_a_mapping() -> None:
    meta = SessionMeta({"a": 1})
    assert dict(meta) == {"a": 1}
    assert len(meta) == 1
    assert repr(meta) == "<SessionMeta of a>"


def test_a_spectral_axis_must_correspond_to_a_wavelength(image: SlitImage) -> None:
    spectrum = other(spectral_axis=np.arange(5.0) * u.pix)
    with pytest.raises(LRSError, match="the spectral axis is in pix, expected something"):
        spectrum_to_data(spectrum)
    with pytest.raises(LRSError, match=r"the spectrum has the shape \(5, 2\)"):
        spectrum_to_data(
            other(flux=np.ones((5, 2)) * u.Jy, uncertainty=None, spectral_axis_index=0)
        )
