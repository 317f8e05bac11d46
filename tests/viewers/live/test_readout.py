"""Texts about the pixel or the wavelength under the mouse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from glue.core.session import Session

from glue_lrs.viewers import LiveExtraction, open_extraction
from glue_lrs.viewers.live.plotted_spectrum import FluxUnit
from glue_lrs.viewers.live.readout import Readout
from tests.helpers.images import ROWS, slit, stack

MILLIJANSKY = FluxUnit("Jy", 1e3, "mJy")


@pytest.fixture
def live(session: Session) -> LiveExtraction:
    image = slit()
    data, flags = image.data.copy(), np.zeros(image.shape, dtype=np.uint32)
    data[20, 12], flags[20, 12] = 51.234, 1 | 4 | 1 << 11
    data[5, 3] = np.nan
    err = image.err.copy()
    err[20, 12] = 0.5
    return open_extraction(session, replace(image, data=data, dq=flags, err=err))


def test_a_pixel_has_position_value_error_weight_and_flags(live: LiveExtraction) -> None:
    readout = Readout(live)
    wavelength = live.image.wavelength[20, 12]
    assert readout.pixel(12.4, 19.6) == (
        f"column 12, row 20, {wavelength:.3f} µm",
        "51.23 ± 0.50 MJy/sr; aperture weight 1; DQ DO_NOT_USE, JUMP_DET, HOT",
    )
    assert readout.pixel(3.0, 5.0)[1] == "no value; aperture weight 0"
    for x, y in ((-0.6, 3.0), (3.0, ROWS), (np.nan, 3.0)):
        assert readout.pixel(x, y) == ()


def test_the_weight_is_that_of_the_present_aperture(live: LiveExtraction) -> None:
    """Also of one that is dragged or tilted."""
    readout = Readout(live)
    rows, wave = live.rows, live.row_wavelength
    assert live.set([live.regions[0].with_end("upper", "top", 9.0, rows, wave)])
    live.preview([live.regions[0].moved(0.3)])
    weights = live.operator.weights(live.image, live.operator.place(live.image))
    full = weights.full(live.image.shape)
    for row in (0, 17, ROWS - 1):
        for column in (8, 11, 16, 17, 25):
            text = readout.pixel(column, row)[1]
            assert f"aperture weight {full[row, column]:.3g}" in text


def test_an_image_without_errors_says_so(session: Session) -> None:
    planes = dict.fromkeys(("err", "var_poisson", "var_rnoise", "var_flat"))
    live = open_extraction(session, slit(**planes))
    assert "(error unknown) MJy/sr" in Readout(live).pixel(12, 20)[1]


def test_the_shown_integration_of_a_stack_is_described(session: Session) -> None:
    live = open_extraction(session, stack())
    live.integration = 3
    value = live.image.data[3, 8, 35]
    assert Readout(live).pixel(35, 8)[1].startswith(f"{value:.2f} ±")


def test_the_spectrum_has_the_flux_of_the_closest_row(live: LiveExtraction) -> None:
    readout = Readout(live)
    row = 20
    wavelength = float(live.row_wavelength[row])
    at = int(np.argmin(np.abs(live.extraction.wavelength - wavelength)))
    (text,) = readout.spectrum(wavelength + 0.01, MILLIJANSKY)
    assert text.startswith(f"{wavelength:.3f} µm, row {row}:  ")
    flux, error = (1e3 * live.extraction.columns[name][at] for name in ("FLUX", "FLUX_ERROR"))
    found, found_error = (float(one) for one in text.split(":  ")[1].split(" mJy")[0].split(" ± "))
    assert (found, found_error) == pytest.approx((flux, error), abs=0.1 * error)
    assert readout.spectrum(2.0, MILLIJANSKY) == ()


def test_the_profile_has_the_mean_of_the_rows(live: LiveExtraction) -> None:
    live.cursor_row = 20.0
    profile = live.cross_dispersion_profile()
    assert Readout(live).profile(12.2) == (
        f"column 12: {profile.flux[12]:.2f} ± {profile.error[12]:.2f} MJy/sr",
    )
    assert Readout(live).profile(99.0) == ()
