"""Arguments of public functions: quantities, paths, and objects of a wrong type."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from matplotlib.figure import Figure

import glue_lrs
from glue_lrs import (
    Aperture,
    Background,
    Extract1D,
    LRSError,
    OptimalExtractor,
    SlitImage,
    plotting,
)
from glue_lrs import measurement as measuring
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.reference import schema
from glue_lrs.simulation import Scene

#: Keys whose values are numbers of pixels, and other keys that are numbers.
PIXELS = ("xstart", "xstop", "ystart", "ystop", "extract_width", "smoothing_length",
          "position_offset")  # fmt: skip
NUMBERS = ("bkg_order", "max_lost", "spectral_order")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image, with its spectrum beside it."""
    path = tmp_path_factory.mktemp("arguments") / "a_s2d.fits"
    Scene(seed=1).s2d(nod=1).image.write(path)
    operator().run(path, check=False).write(path.with_name("a_x1d.fits"))
    return path


def operator(**keys: Any) -> Extract1D:
    return Extract1D(aperture=Aperture(xstart=9, xstop=17), id=FIXED_SLIT, **keys)


@pytest.mark.parametrize("key", PIXELS)
def test_numbers_of_pixels(path: Path, key: str) -> None:
    value = {"xstart": 9, "xstop": 17, "ystart": 100, "ystop": 300}.get(key, 5)
    image = SlitImage.read(path)
    keys: dict[str, Any] = {"xstart": 9} if key == "xstop" else {}
    keys |= {"bkg_coeff": [[0.5], [4.5]], "fixed_background": True}
    made, given = (
        Extract1D.from_reference(None, FIXED_SLIT, **keys, **{key: one})
        for one in (value, value * u.pix)
    )
    assert made == given
    assert given == Extract1D.from_reference(
        None, FIXED_SLIT, **keys, **{key: u.Quantity(value, u.dimensionless_unscaled)}
    )
    with pytest.raises(LRSError, match=rf"^{key} is {value} um, expected a number$"):
        glue_lrs.extract(image, **{key: value * u.um})


@pytest.mark.parametrize("key", NUMBERS)
def test_numbers_without_a_unit(path: Path, key: str) -> None:
    with pytest.raises(LRSError, match=rf"{key} is 1 pix, expected a number"):
        glue_lrs.extract(path, **{key: 1 * u.pix})


def test_every_key_refuses_a_wavelength(path: Path) -> None:
    for key in {*schema.KEYS, *schema.STEP, *schema.OPTIONS}:
        for value in (9 * u.um, [9, 17] * u.um, [[9 * u.um], [17 * u.um]]):
            with pytest.raises(LRSError, match=key) as caught:
                glue_lrs.extract(path, **{key: value})
            assert "\n" not in str(caught.value)


def test_quantities_of_objects() -> None:
    pair = [[9, 0.1], [17, 0.1]]
    assert Aperture(src_coeff=pair * u.pix) == Aperture(src_coeff=pair)
    assert Aperture.from_edges(9 * u.pix, 17 * u.pix) == Aperture.from_edges(9, 17)
    regions = [[0.5], [4.5]]
    assert Background(bkg_coeff=regions * u.pix) == Background(bkg_coeff=regions)
    assert OptimalExtractor(position=[13, 20] * u.pix).position == (13.0, 20.0)
    for make in (
        lambda: Aperture(src_coeff=pair * u.um),
        lambda: Aperture.from_edges(9 * u.um, 17 * u.um),
        lambda: Background(bkg_coeff=regions * u.um),
        lambda: OptimalExtractor(position=13 * u.um),
        lambda: OptimalExtractor(position=[13, 20] * u.um),
        lambda: Aperture.tapered(0.3 * u.pix, center=13),
    ):
        with pytest.raises(LRSError, match="expected"):
            make()
    assert Aperture.tapered(300 * u.mas, center=13) == Aperture.tapered(0.3, center=13)


def test_fractions_may_be_percent(path: Path) -> None:
    made = Extract1D.from_reference(None, FIXED_SLIT, max_lost=10 * u.percent)
    assert made.max_lost == pytest.approx(0.1)


def test_paths_are_read(path: Path) -> None:
    image, spectrum = SlitImage.read(path), str(path.with_name("a_x1d.fits"))
    ax, other, third = Figure().subplots(1, 3)
    glue_lrs.plot_cut(path, [200], ax=ax)
    glue_lrs.plot_cut(image, [200], ax=other)
    plotting.plot_image(str(path), ax=third)
    assert ax.get_ylim() == other.get_ylim()
    ax = Figure().subplots()
    (line,) = [one for one in glue_lrs.plot_spectrum(spectrum, ax=ax).lines if one.get_gid()]
    assert len(line.get_xdata()) > 300
    plotting.plot_product(str(path), operator(), figure=Figure)
    placed = measuring.place_background(path, operator())
    assert placed == measuring.place_background(image, operator())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", glue_lrs.LRSWarning)  # the same data are combined twice
        combined = glue_lrs.combine([path, spectrum], extract=operator(), weights="unit")
    assert len(combined.inputs) == 2
    alone = glue_lrs.combine(spectrum)
    extracted = operator().run(path).columns["FLUX"]  # in the order of the rows
    np.testing.assert_allclose(np.sort(alone.columns["FLUX"]), np.sort(extracted), rtol=1e-14)


WRONG: dict[str, Callable[[Path, Any], Any]] = {
    "plot_image": lambda path, wrong: plotting.plot_image(wrong),
    "plot_image extract": lambda path, wrong: plotting.plot_image(path, wrong),
    "plot_image rows": lambda path, wrong: plotting.plot_image(path, rows=wrong),
    "plot_cut": lambda path, wrong: plotting.plot_cut(wrong, [9]),
    "plot_cut rows": lambda path, wrong: plotting.plot_cut(path, wrong),
    "plot_cut extract": lambda path, wrong: plotting.plot_cut(path, 9, wrong),
    "plot_cut extraction": lambda path, wrong: plotting.plot_cut(path, 9, operator(), wrong),
    "plot_cut integration": lambda path, wrong: plotting.plot_cut(path, 9, integration=wrong),
    "plot_cut xlim": lambda path, wrong: plotting.plot_cut(path, 9, xlim=wrong),
    "plot_product": lambda path, wrong: plotting.plot_product(wrong),
    "plot_product rows": lambda path, wrong: plotting.plot_product(path, rows=wrong),
    "plot_product extract": lambda path, wrong: plotting.plot_product(path, wrong),
    "plot_spectrum": lambda path, wrong: plotting.plot_spectrum(wrong),
    "plot_extraction": lambda path, wrong: plotting.plot_extraction(wrong),
    "plot_comparison": lambda path, wrong: plotting.plot_comparison(wrong),
    "plot_comparison item": lambda path, wrong: plotting.plot_comparison({"a": wrong}),
    "plot_stack": lambda path, wrong: plotting.plot_stack(wrong),
    "plot_measurement": lambda path, wrong: plotting.plot_measurement(wrong),
    "plot_profile": lambda path, wrong: plotting.plot_profile(wrong),
    "plot_trace": lambda path, wrong: plotting.plot_trace(wrong),
    "plot_fwhm": lambda path, wrong: plotting.plot_fwhm(wrong),
    "plot_growth": lambda path, wrong: plotting.plot_growth(wrong),
    "plot_integrations": lambda path, wrong: plotting.plot_integrations(wrong),
    "plot_light_curve": lambda path, wrong: plotting.plot_light_curve(wrong),
    "plot_optimal": lambda path, wrong: plotting.plot_optimal(wrong),
    "plot_residual": lambda path, wrong: plotting.plot_residual(wrong),
    "plot_model_profile": lambda path, wrong: plotting.plot_model_profile(wrong),
    "plot_budget": lambda path, wrong: plotting.plot_budget(wrong),
    "measure": lambda path, wrong: glue_lrs.measure(wrong),
    "measure tolerance": lambda path, wrong: glue_lrs.measure(path, tolerance=wrong),
    "curve_of_growth": lambda path, wrong: glue_lrs.curve_of_growth(wrong),
    "curve measurement": lambda path, wrong: glue_lrs.curve_of_growth(path, wrong),
    "curve widths": lambda path, wrong: glue_lrs.curve_of_growth(path, widths=wrong),
    "curve background": lambda path, wrong: glue_lrs.curve_of_growth(path, background=wrong),
    "curve correction": lambda path, wrong: glue_lrs.curve_of_growth(
        path, aperture_correction=wrong
    ),
    "aperture_at_source": lambda path, wrong: measuring.aperture_at_source(path, wrong),
    "place_background": lambda path, wrong: measuring.place_background(path, wrong),
    "error_budget": lambda path, wrong: measuring.error_budget(path, wrong),
    "combine": lambda path, wrong: glue_lrs.combine(wrong),
    "combine item": lambda path, wrong: glue_lrs.combine([wrong]),
    "extract": lambda path, wrong: glue_lrs.extract(wrong),
    "rerun": lambda path, wrong: glue_lrs.rerun(wrong),
    "open": lambda path, wrong: glue_lrs.open(wrong),
}


@pytest.mark.parametrize("call", WRONG)
@pytest.mark.parametrize("wrong", ["no.fits", object(), 9 * u.um], ids=["path", "object", "unit"])
def test_wrong_types_are_refused_in_one_line(path: Path, call: str, wrong: Any) -> None:
    with pytest.raises(LRSError) as caught:
        WRONG[call](path, wrong)
    assert "\n" not in str(caught.value)
