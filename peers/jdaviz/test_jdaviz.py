"""LRS data in jdaviz, without and with glue_lrs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from jdaviz import Specviz, Specviz2d
from results import REGION, boxcar, specviz2d_results, specviz_results
from specutils import Spectrum

from glue_lrs import Extract1D, SlitImage, combine
from glue_lrs.simulation.scene import demo_scene

#: Some cards of the primary header.
CARDS = {"TELESCOP", "INSTRUME", "EXP_TYPE", "FILENAME"}


@pytest.fixture(scope="session")
def products(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files as the pipeline writes them."""
    folder = tmp_path_factory.mktemp("products")
    kinds = ("s2d", "calints", "x1d", "x1dints", "c1d")
    made = {kind: folder / f"demo_{kind}.fits" for kind in kinds}
    scene = demo_scene()
    for image, spectrum in (("s2d", "x1d"), ("calints", "x1dints")):
        pixels = scene.s2d().image if image == "s2d" else scene.calints(5).image
        pixels.write(made[image])
        extract = Extract1D.from_reference(None, pixels.exp_type, apply_apcorr=False)
        extraction = extract.run(pixels)
        extraction.write(made[spectrum])
        if spectrum == "x1d":
            combine([extraction, extraction]).write(made["c1d"])
    return made


# --- glue_lrs is installed, but not used ----------------------------------------------------------


def in_new_process(*arguments: str | Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "results.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_the_installation_changes_nothing(products: dict[str, Path]) -> None:
    files = [products[kind] for kind in ("x1d", "c1d", "s2d")]
    without, beside = in_new_process("--without", *files), in_new_process(*files)
    assert beside["imported"] is False
    assert beside == without
    for path in files:  # the files are loaded, so that there is something to be compared
        assert beside[path.name]["data"]["shape"] == [387]


# --- spectra and files of glue_lrs, with the package imported -------------------------------------


def spectrum_of(kind: str, products: dict[str, Path]) -> Spectrum:
    if kind == "Extract1D":
        image = SlitImage.read(products["s2d"])
        return Extract1D.from_reference(None, image.exp_type, apply_apcorr=False)(image)
    return Spectrum.read(products[kind], format="lrs-c1d" if kind == "c1d" else "lrs-x1d")


@pytest.fixture(
    scope="module",
    params=["x1d", "x1dints", "c1d", "x1d object", "x1dints object", "c1d object", "Extract1D"],
)
def loaded(request: pytest.FixtureRequest, products: dict[str, Path]) -> Any:
    """The spectrum, or the first integration, the application, and the results of the plugins."""
    kind, _, form = request.param.partition(" ")
    is_file = kind in products and not form
    app, results = specviz_results(str(products[kind]) if is_file else spectrum_of(kind, products))
    spectrum = spectrum_of(
        kind, products
    )  # again, because jdaviz has changed the meta of the first
    return spectrum[0] if spectrum.flux.ndim == 2 else spectrum, app, results


def test_every_plugin_has_a_result(loaded: tuple[Spectrum, Specviz, dict[str, Any]]) -> None:
    _, _, results = loaded
    failed = {name: found for name, found in results.items() if isinstance(found, str)}
    assert failed == {}


def test_values_and_errors(loaded: tuple[Spectrum, Specviz, dict[str, Any]]) -> None:
    spectrum, _, results = loaded
    found = results["get_data"]
    np.testing.assert_allclose(found["axis"], spectrum.spectral_axis.value)
    np.testing.assert_allclose(found["flux"], spectrum.flux.value)
    np.testing.assert_allclose(found["error"], spectrum.uncertainty.array)
    assert found["unit"] == str(spectrum.unit)
    low, high = np.asarray(results["Plot Options"])
    np.testing.assert_allclose(low, spectrum.flux.value - spectrum.uncertainty.array)
    np.testing.assert_allclose(high, spectrum.flux.value + spectrum.uncertainty.array)


def test_a_range_of_wavelengths(loaded: tuple[Spectrum, Specviz, dict[str, Any]]) -> None:
    spectrum, app, results = loaded
    wave = spectrum.spectral_axis
    inside = (wave >= REGION.lower) & (wave <= REGION.upper)
    np.testing.assert_array_equal(results["get_data of a subset"]["mask"], ~inside)
    assert app.plugins["Line Analysis"].spectral_subset.choices == ["Entire Spectrum", "Subset 1"]
    for function in ("Line Flux", "Equivalent Width", "Centroid"):
        for name in ("Line Analysis", "Line Analysis of a subset"):
            result, error = map(float, results[name][function])
            assert np.isfinite(result)
            assert error > 0


def test_metadata_and_export(loaded: tuple[Spectrum, Specviz, dict[str, Any]]) -> None:
    spectrum, _, results = loaded
    assert set(results["Metadata"]) >= CARDS
    assert set(results["Metadata"]) >= {card for card in spectrum.meta["header"] if card}
    size = [spectrum.shape[0]]
    assert results["Export"] == {"wavelength": size, "flux": size, "uncertainty": size}


def test_a_spectrum_is_written_after_it_has_been_loaded(
    products: dict[str, Path], tmp_path: Path
) -> None:
    """Loading removes the header from meta."""
    spectrum = spectrum_of("x1d", products)
    app = Specviz()
    app.load(spectrum)
    expected = fits.getheader(products["x1d"])
    for number, loaded in enumerate((spectrum, app.get_data())):
        path = tmp_path / f"{number}_x1d.fits"
        loaded.write(path, format="lrs-x1d")
        assert set(fits.getheader(path)) == set(expected)


# --- images ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["file", "object"])
def image(request: pytest.FixtureRequest, products: dict[str, Path]) -> Any:
    source: Any = str(products["s2d"])
    if request.param == "object":
        source = Spectrum.read(source, format="lrs-s2d")
    return specviz2d_results(source)


def test_an_image_lies_as_its_overlays(image: tuple[Specviz2d, dict[str, Any]]) -> None:
    _, results = image
    assert results["image"]["shape"] == [45, 387]
    assert results["image limits"] == [-0.5, 386.5, -0.5, 44.5]
    assert set(results["image metadata"]) >= CARDS


def test_errors_of_the_extraction_are_those_of_err(
    image: tuple[Specviz2d, dict[str, Any]], products: dict[str, Path]
) -> None:
    app, results = image
    assert "uncertainty" in results["image"]["components"]
    extract = boxcar(app)
    found = extract.spectrum
    half = extract.width / 2
    centre = float(np.median(extract.trace_object.trace))
    # fraction of each column of the detector within the box
    column = np.arange(45)[:, np.newaxis]
    share = np.clip(
        np.minimum(column + 0.5, centre + half) - np.maximum(column - 0.5, centre - half), 0, 1
    )
    err = np.asarray(fits.getdata(products["s2d"], "ERR"), dtype=float).T[:, ::-1]
    expected = np.sqrt(np.sum(np.where(share > 0, err * share, 0) ** 2, axis=0))
    good = np.isfinite(expected) & (found.uncertainty.array > 0)
    assert np.count_nonzero(good) > 300
    np.testing.assert_allclose(found.uncertainty.array[good], expected[good], rtol=1e-6)


def test_errors_in_specviz2d_and_what_it_drops(products: dict[str, Path]) -> None:
    """The image and a spectrum of this package keep their errors; unit and mask are jdaviz's."""
    app = Specviz2d()
    app.load(str(products["s2d"]), format="2D Spectrum")
    label, own = (data.label for data in app.app.data_collection)
    image = app.get_data(label)
    err = np.asarray(fits.getdata(products["s2d"], "ERR"), dtype=float)
    good = np.isfinite(err)
    found = image.uncertainty.array
    found = found if found.shape[0] == err.shape[0] else found.T
    assert any(np.allclose(found[order][good], err[good], rtol=1e-6) for order in np.s_[::1, ::-1])
    assert image.mask is None
    assert str(app.get_data(own).flux.unit) == "MJy / sr"
    extracted = spectrum_of("Extract1D", products)
    app.load(extracted, format="1D Spectrum")
    shown = app.get_data(app.app.data_collection[-1].label)
    assert shown.flux.unit == "Jy"
    np.testing.assert_allclose(shown.flux.value, extracted.flux.value)
    np.testing.assert_allclose(shown.uncertainty.array, extracted.uncertainty.array)


def test_every_plugin_for_images_has_a_result(
    image: tuple[Specviz2d, dict[str, Any]], products: dict[str, Path]
) -> None:
    """Except where jdaviz has none for the file without glue_lrs."""
    without = in_new_process("--without", products["s2d"])[products["s2d"].name]
    _, results = image
    failed = {name for name, found in results.items() if isinstance(found, str)}
    assert failed <= {name for name, found in without.items() if isinstance(found, str)}
