"""Files with values that no observation has are refused, or read with a warning."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from glue_lrs import Extract1D, SlitImage
from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import CorrectionError, LRSError, LRSWarning, ProfileError
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.io.apcorr import read_apcorr
from glue_lrs.io.c1d import read_c1d
from glue_lrs.io.plausibility import check_pixel_area
from glue_lrs.io.psf import read_psf
from glue_lrs.io.x1d_reader import read_x1d
from tests.helpers.images import correction, slit, stack
from tests.mutations.products import REFERENCE, make_products

Change = Callable[[np.ndarray], None]


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_products(tmp_path_factory.mktemp("products"))


def changed(path: Path, tmp_path: Path, hdu: str, column: str | None, change: Change) -> Path:
    """A copy of a file with other values."""
    new = tmp_path / path.name
    with fits.open(path) as hdulist:
        data = hdulist[hdu].data
        change(data if column is None else data[column])
        hdulist.writeto(new)
    return new


def fill(value: float, part: slice = slice(None)) -> Change:
    def change(values: np.ndarray) -> None:
        values[..., part] = value

    return change


def scale(factor: float) -> Change:
    def change(values: np.ndarray) -> None:
        values *= np.asarray(factor, dtype=values.dtype)

    return change


def shuffle(values: np.ndarray) -> None:
    np.random.default_rng(1).shuffle(values)


def swap(values: np.ndarray) -> None:
    values[:] = values.byteswap()


def whole(values: np.ndarray) -> None:
    values[:] = np.round(values)


def repeat(values: np.ndarray) -> None:
    values[10] = values[11]


def first_integrations(values: np.ndarray) -> None:
    values[:2] = np.nan


IMAGES: list[tuple[str, str, Change, str]] = [
    ("s2d", "WAVELENGTH", fill(7.0), "refused: WAVELENGTH is 7 throughout"),
    ("s2d", "WAVELENGTH", scale(-1.0), "refused: WAVELENGTH is -14, expected positive"),
    ("s2d", "WAVELENGTH", scale(1e4), "refused: WAVELENGTH is .*, expected micron"),
    ("s2d", "WAVELENGTH", scale(1e3), "refused: WAVELENGTH is .*, expected micron"),
    ("s2d", "WAVELENGTH", scale(1e-6), "refused: WAVELENGTH is .*, expected micron"),
    ("s2d", "WAVELENGTH", shuffle, "WAVELENGTH neither rises nor falls throughout: "),
    ("s2d", "WAVELENGTH", whole, "WAVELENGTH neither rises nor falls throughout: "),
    ("s2d", "WAVELENGTH", repeat, "throughout: [12] of 39 steps between rows are 0 or reversed"),
    ("s2d", "WAVELENGTH", scale(0.1), "WAVELENGTH is 0.53.* to 1.4 um, expected 3 to 15"),
    ("s2d", "SCI", fill(np.nan), "refused: SCI holds nothing but NaN"),
    ("s2d", "SCI", fill(np.inf), "refused: SCI holds nothing but NaN"),
    ("s2d", "SCI", swap, "SCI reaches .*e.*, more than that of any source"),
    ("s2d", "SCI", fill(1e32), "SCI reaches 1e.32, more than that of any source"),
    ("s2d", "ERR", scale(-1.0), "ERR is negative or infinite in most pixels"),
    ("s2d", "ERR", fill(1e30), "ERR reaches 1e.30"),
    ("s2d", "VAR_POISSON", scale(-1.0), "VAR_POISSON is negative or infinite in most pixels"),
    ("s2d", "VAR_FLAT", fill(np.inf), "VAR_FLAT is negative or infinite in most pixels"),
    ("calints", "SCI", first_integrations, "SCI is NaN throughout in the integrations 1, 2"),
]


@pytest.mark.parametrize(("kind", "hdu", "change", "message"), IMAGES)
def test_images(
    products: dict[str, Path], tmp_path: Path, kind: str, hdu: str, change: Change, message: str
) -> None:
    path = changed(products[kind], tmp_path, hdu, None, change)
    _check(SlitImage.read, path, message)


SPECTRA: list[tuple[str, str, Change, str]] = [
    ("x1d", "WAVELENGTH", fill(7.0), "refused: WAVELENGTH is 7 throughout"),
    ("x1d", "WAVELENGTH", scale(-1.0), "refused: WAVELENGTH is .*, expected positive"),
    ("x1d", "WAVELENGTH", scale(1e4), "refused: WAVELENGTH is .*, expected micron"),
    ("x1d", "WAVELENGTH", fill(0.0, slice(0, 3)), "WAVELENGTH is 0 in 3 of 40 rows"),
    ("x1d", "WAVELENGTH", shuffle, "WAVELENGTH neither rises nor falls throughout"),
    ("x1d", "FLUX", fill(np.inf, slice(0, 4)), "FLUX is infinite in 4 of 40 rows"),
    ("x1d", "FLUX", fill(np.nan), "FLUX holds nothing but NaN"),
    ("x1d", "FLUX", fill(1e32), r"FLUX is beyond 1e\+12 in 40 of 40 rows"),
    ("x1d", "FLUX_ERROR", scale(-1.0), "FLUX_ERROR is negative in 40 of 40 rows"),
    ("x1d", "FLUX_ERROR", fill(0.0, slice(0, 5)), "FLUX_ERROR is 0 beside a flux in 5 of 40"),
    ("x1d", "FLUX_ERROR", fill(np.inf, slice(0, 1)), "FLUX_ERROR is infinite in 1 of 40"),
    ("x1d", "FLUX_ERROR", fill(1e300), r"FLUX_ERROR is beyond 1e\+12 in 40 of 40"),
    ("x1d", "SB_VAR_FLAT", scale(-1.0), "SB_VAR_FLAT is negative in 40 of 40"),
    ("x1dints", "FLUX", first_integrations, "2 of 3 integrations have no FLUX"),
    ("c1d", "ERROR", scale(-1.0), "ERROR is negative in 40 of 40"),
    ("c1d", "WAVELENGTH", scale(1e4), "refused: WAVELENGTH is .*, expected micron"),
]


@pytest.mark.parametrize(("kind", "column", "change", "message"), SPECTRA)
def test_spectra(
    products: dict[str, Path], tmp_path: Path, kind: str, column: str, change: Change, message: str
) -> None:
    hdu = "COMBINE1D" if kind == "c1d" else "EXTRACT1D"
    path = changed(products[kind], tmp_path, hdu, column, change)
    _check(read_c1d if kind == "c1d" else read_x1d, path, message)


APCORR: list[tuple[Change, str]] = [
    (scale(0.0), "refused: APCORR has a factor of 0"),
    (scale(-1.0), "refused: APCORR has a factor of -"),
    (scale(0.5), "APCORR has a factor of 0.5.*, expected 0.99 to 20"),
    (fill(100.0), "APCORR has a factor of 100, expected 0.99 to 20"),
    (fill(1e30), "refused: APCORR has a factor of 1e.30"),
]


@pytest.mark.parametrize(("change", "message"), APCORR)
def test_aperture_corrections(
    products: dict[str, Path], tmp_path: Path, change: Change, message: str
) -> None:
    path = changed(products["apcorr"], tmp_path, "APCORR", "apcorr", change)
    _check(read_apcorr, path, message, CorrectionError)


def constant(values: np.ndarray) -> None:
    values[:] = 1.0


def random(values: np.ndarray) -> None:
    values[:] = np.random.default_rng(1).uniform(size=values.shape)


PSF: list[tuple[str, dict[str, float], Change, str]] = [
    ("PSF", {}, constant, "refused: PSF has .*% of its flux within 3 pixels of the source"),
    ("PSF", {}, random, "refused: PSF has .*% of its flux within 3 pixels of the source"),
    ("PSF", {"CENTCOL": 500.0}, scale(1.0), "refused: CENTCOL is 500, expected a column of PSF"),
    ("PSF", {"CENTCOL": 10.0}, scale(1.0), "refused: PSF has .*% of its flux within 3 pixels"),
    ("PSF", {"CENTCOL": 56.0}, scale(1.0), "PSF has its centre -2.00 pixels from CENTCOL"),
    ("PSF", {"SUBPIX": 0.3}, scale(1.0), "refused: PSF has .*% of its flux within 3 pixels"),
    ("PSF", {"SUBPIX": 400.0}, scale(1.0), "PSF has 100% of its flux within 0.5 pixels"),
    ("WAVE", {}, scale(1e4), "refused: WAVE is .*, expected micron"),
    ("WAVE", {}, scale(0.1), "WAVE is 0.3 to 1.5 um, expected 3 to 15"),
]


@pytest.mark.parametrize(("hdu", "cards", "change", "message"), PSF)
def test_profiles(
    products: dict[str, Path],
    tmp_path: Path,
    hdu: str,
    cards: dict[str, float],
    change: Change,
    message: str,
) -> None:
    path = changed(products["psf"], tmp_path, hdu, None, change)
    with fits.open(path, mode="update") as hdulist:
        hdulist["PSF"].header.update(cards)
    _check(read_psf, path, message, ProfileError)


def _check(
    read: Callable[[Path], Any], path: Path, message: str, error: type[LRSError] = LRSError
) -> None:
    refused, _, expected = message.rpartition("refused: ")
    if refused or message.startswith("refused: "):
        with pytest.raises(LRSError, match=expected) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        return
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        read(path)
    (text,) = [str(one.message) for one in found if isinstance(one.message, LRSWarning)]
    assert text.startswith(f"{path}: ")
    assert re.search(message, text)


def test_valid_files_cause_no_warning(products: dict[str, Path]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind, read in (("s2d", SlitImage.read), ("calints", SlitImage.read)):
            assert read(products[kind]).wcs is not None
        for kind in ("x1d", "x1dints"):
            assert read_x1d(products[kind])
        assert read_c1d(products["c1d"])
        assert read_apcorr(products["apcorr"])
        assert read_psf(products["psf"])


def test_planes_that_the_product_should_have(tmp_path: Path) -> None:
    header = fits.Header({"S_FLAT": "COMPLETE", "CAL_VER": "1.18.0"})
    path = tmp_path / "a_calints.fits"
    stack(var_flat=None, header=header).write(path)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        SlitImage.read(path)
    texts = " ".join(str(one.message) for one in found)
    assert "has no VAR_FLAT, so that the errors will be too small" in texts
    assert "has no DQ, so that bad pixels are recognised only if they are NaN" in texts


def test_wavelengths_of_another_file(products: dict[str, Path], tmp_path: Path) -> None:
    path = changed(products["s2d"], tmp_path, "WAVELENGTH", None, lambda v: v.__iadd__(1.0))
    image = SlitImage.read(path)
    with pytest.warns(LRSWarning, match=r"WAVELENGTH and the WCS differ by .* rows"):
        assert image.wcs is not None


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"wavelength": np.linspace(4, 9, 12)}, r"\d\d% of the wavelengths .* are outside"),
        ({"size": np.arange(20.0, 39.0)}, "100% of the aperture sizes .* are outside"),
    ],
)
def test_a_correction_that_does_not_reach_the_data(axes: dict[str, Any], message: str) -> None:
    table = correction()
    values = {name: getattr(table, name) for name in ("wavelength", "size", "factor")}
    short = ApertureCorrection(**values | axes)
    operator = Extract1D.from_reference(REFERENCE, FIXED_SLIT, apcorr=short)
    with pytest.warns(LRSWarning, match=message):
        operator.run(slit())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Extract1D.from_reference(REFERENCE, FIXED_SLIT, apcorr=table).run(slit())


#: Solid angle of a pixel of 0.11 arcsec in sr.
PIXEL = (0.11 / 206264.806) ** 2


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_resampling_may_change_the_area_of_pixels(factor: float) -> None:
    assert check_pixel_area(factor * PIXEL) == []


@pytest.mark.parametrize(("factor", "text"), [(0.05, "0.05"), (50.0, "50")])
def test_the_area_of_other_pixels_is_reported(factor: float, text: str) -> None:
    (found,) = check_pixel_area(factor * PIXEL)
    assert f"PIXAR_SR is {factor * PIXEL:.4g}, expected about 2.84e-13 sr" in str(found)
    assert f"the flux would be {text} times the true one" in str(found)
