"""Opening of any file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import glue_lrs
from glue_lrs import (
    Aperture,
    ApertureCorrection,
    Extract1D,
    Extraction,
    LRSError,
    PSFProfile,
    Reference,
    SlitImage,
    combine,
)
from glue_lrs.combination.combination import Combination
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.io.psf import write_psf
from glue_lrs.io.text import export_spectrum

Maker = Callable[..., SlitImage]


def test_the_content_decides(make_image: Maker, tmp_path: Path) -> None:
    cards = {"TELESCOP": "JWST", "INSTRUME": "MIRI", "EXP_TYPE": FIXED_SLIT, "FILTER": "P750L"}
    header = fits.Header(cards)
    image, stack = (make_image(shape, header=header) for shape in ((30, 20), (3, 30, 20)))
    operator = Extract1D(aperture=Aperture(xstart=7, xstop=10))
    spectra = [operator.run(one) for one in (image, make_image(seed=2, header=header))]
    offset = np.arange(-10.0, 10.5, 0.5)
    profile = np.exp(-(offset**2) / 2.0) * np.ones((2, 1))
    psf = PSFProfile(data=profile, wave=[4.0, 15.0], subpix=2.0, center=20.0)
    tables = [
        ApertureCorrection(
            wavelength=[4.0, 15.0], size=[1.0, 20.0], factor=np.full((2, 2), factor), subarray=name
        )
        for name, factor in (("FULL", 1.5), ("SUB64", 1.25))
    ]
    image.write(tmp_path / "s2d.fits")
    stack.write(tmp_path / "calints.fits")
    spectra[0].write(tmp_path / "x1d.fits")
    operator.run(stack).write(tmp_path / "x1dints.fits")
    combine(spectra, weights="unit").write(tmp_path / "c1d.fits")
    Reference.default().write(tmp_path / "extract1d.json")
    (tmp_path / "extract1d.ref").write_bytes((tmp_path / "extract1d.json").read_bytes())
    write_apcorr(tables, tmp_path / "apcorr.fits")
    write_psf(psf, tmp_path / "psf.fits")
    export_spectrum(str(tmp_path / "x1d.fits"), tmp_path / "x1d.csv", "csv")
    for name, kind in {
        "s2d.fits": SlitImage,
        "calints.fits": SlitImage,
        "x1d.fits": Extraction,
        "x1dints.fits": Extraction,
        "x1d.csv": Extraction,
        "c1d.fits": Combination,
        "extract1d.json": Reference,
        "extract1d.ref": Reference,
        "apcorr.fits": ApertureCorrection,
        "psf.fits": PSFProfile,
    }.items():
        assert type(glue_lrs.open(tmp_path / name)) is kind, name
    assert glue_lrs.open(tmp_path / "apcorr.fits", subarray="SUB64") == tables[1]
    assert glue_lrs.open(tmp_path / "extract1d.ref") == Reference.default()
    np.testing.assert_array_equal(
        glue_lrs.open(tmp_path / "x1d.fits").columns["FLUX"], spectra[0].columns["FLUX"]
    )
    with pytest.raises(LRSError, match="subarray is not an option for s2d files, expected none"):
        glue_lrs.open(tmp_path / "s2d.fits", subarray="FULL")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.fits", None, "does not exist"),
        ("a.json", None, "does not exist"),
        ("a.json", b"", "is empty"),
        ("a.json", b"[1]", "expected"),
        ("a", b" {", "is not JSON"),
        ("a.fits", b"text", "is not a FITS file"),
    ],
)
def test_other_files(name: str, content: bytes | None, reason: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(LRSError, match=reason) as error:
        glue_lrs.open(tmp_path / name)
    assert error.value.subject == str(tmp_path / name)
