"""Images with a source and a WCS for tests of the viewers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from tests.helpers.cases import make_wcs

ROWS, COLUMNS = 40, 46
#: Column of the source in the image of `slit`.
SOURCE = 12.3


def slit(**changes: Any) -> SlitImage:
    """An s2d of 40 rows and 46 columns with a point source at the header's position."""
    rng = np.random.default_rng(4)
    wavelength = 14.0 - 9.0 * (np.arange(ROWS) / ROWS) ** 1.5
    wcs = make_wcs(ROWS, COLUMNS, wavelength, 0.0, ((-0.5, COLUMNS - 0.5), (-0.5, ROWS - 0.5)))
    ra, dec, _ = wcs(SOURCE, ROWS / 2)
    x = np.arange(COLUMNS, dtype=float)
    data = 2.0 + 50.0 * np.exp(-0.5 * ((x - SOURCE) / 1.5) ** 2) * np.ones((ROWS, 1))
    values: dict[str, Any] = {
        "data": (data + rng.normal(0, 0.5, data.shape)).astype(np.float32),
        "wavelength": np.repeat(wavelength[:, np.newaxis], COLUMNS, 1).astype(np.float32),
        "unit": u.Unit("MJy/sr"),
        "exp_type": FIXED_SLIT,
        "pixel_area": 2.86e-13,
        "source_type": "POINT",
        "subarray": "FULL",
        "source_ra": float(ra),
        "source_dec": float(dec),
        "wcs_source": wcs,
    }
    return SlitImage(**values | variances(rng, data.shape) | changes)


def stack(number: int = 5, **changes: Any) -> SlitImage:
    """A calints with a source at column 35.4, of 40 rows and 46 columns."""
    rng = np.random.default_rng(5)
    wavelength = 12.0 - 7.0 * (np.arange(ROWS) / ROWS) ** 1.5
    x = np.arange(COLUMNS, dtype=float)
    data = 20.0 + 500.0 * np.exp(-0.5 * ((x - 35.4) / 1.5) ** 2) * np.ones((number, ROWS, 1))
    wcs = make_wcs(ROWS, COLUMNS, wavelength, 0.0, ((-0.5, COLUMNS - 0.5), (-0.5, ROWS - 0.5)))
    values: dict[str, Any] = {
        "data": (data + rng.normal(0, 1.0, data.shape)).astype(np.float32),
        "wavelength": np.repeat(wavelength[:, np.newaxis], COLUMNS, 1).astype(np.float32),
        "unit": u.Unit("DN/s"),
        "exp_type": SLITLESS,
        "calibrated": False,
        "source_type": "POINT",
        "subarray": "SLITLESSPRISM",
        "kind": "calints",
        "wcs_source": wcs,
    }
    return SlitImage(**values | variances(rng, data.shape) | changes)


def variances(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Random variance planes, and the error plane."""
    planes = {
        name: rng.uniform(0.05, 0.15, shape).astype(np.float32)
        for name in ("var_poisson", "var_rnoise", "var_flat")
    }
    return planes | {"err": np.sqrt(sum(planes.values()))}


def correction(subarray: str = "FULL") -> ApertureCorrection:
    """An aperture correction that depends on wavelength and size."""
    wavelength, size = np.linspace(4.0, 15.0, 12), np.arange(1.0, 20.0)
    factor = 1 + 1 / np.add.outer(20 - wavelength, size)
    return ApertureCorrection(wavelength=wavelength, size=size, factor=factor, subarray=subarray)


def saved(image: SlitImage, path: Path) -> Path:
    """Write an image and return the path."""
    image.write(path)
    return path


def marked(make_image: Callable[..., SlitImage], shape: tuple[int, ...] = (30, 20)) -> SlitImage:
    """An image with bad pixels of each kind and a row without wavelength."""
    image = make_image(shape)
    image.data[..., 4, 5] = np.nan
    image.data[..., 5, 6] = np.inf
    image.var_flat[..., 6, 7] = np.nan
    image.wavelength[0] = np.nan
    dq = np.zeros(shape, dtype=np.uint32)
    dq[..., 7, 8] = 1
    dq[..., 7, 9] = 4
    return replace(image, dq=dq)
