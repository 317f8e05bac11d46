"""Extraction with one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import glue_lrs
from glue_lrs import ApertureCorrection, Extract1D, LRSError, SlitImage
from glue_lrs.io.apcorr import write_apcorr

Maker = Callable[..., SlitImage]
KEYS = {"xstart": 7, "xstop": 10, "use_source_posn": False}


def correction(subarray: str, factor: float) -> ApertureCorrection:
    return ApertureCorrection(
        wavelength=[4.0, 15.0], size=[1.0, 20.0], factor=np.full((2, 2), factor), subarray=subarray
    )


def test_paths_images_and_spectra_give_the_same_spectrum(make_image: Maker, tmp_path: Path) -> None:
    image = make_image()
    expected = Extract1D.from_reference(None, image.exp_type, **KEYS)(image)
    image.write(tmp_path / "a_s2d.fits")
    for source in (
        image,
        image.to_spectrum(),
        tmp_path / "a_s2d.fits",
        str(tmp_path / "a_s2d.fits"),
    ):
        found = glue_lrs.extract(source, **KEYS)
        np.testing.assert_array_equal(found.flux, expected.flux)
        np.testing.assert_array_equal(found.uncertainty.array, expected.uncertainty.array)


def test_reference_files_are_read_for_the_image(make_image: Maker, tmp_path: Path) -> None:
    """The row of the SUBARRAY of the image, which `Extract1D.from_reference` cannot know."""
    rows = [correction("FULL", 1.5), correction("SUB64", 1.25)]
    write_apcorr(rows, tmp_path / "apcorr.fits")
    reference = {"apertures": [{"id": "ANY", "xstart": 5, "xstop": 8, "use_source_posn": False}]}
    image = make_image()
    plain = glue_lrs.extract(image, reference=reference)
    np.testing.assert_allclose(
        plain.flux, glue_lrs.extract(image, **{**KEYS, "xstart": 5, "xstop": 8}).flux
    )
    for subarray, factor in (("FULL", 1.5), ("SUB64", 1.25)):
        other = replace(image, subarray=subarray)
        found = glue_lrs.extract(other, reference=reference, apcorr=tmp_path / "apcorr.fits")
        np.testing.assert_allclose(found.flux, factor * plain.flux)
        extended = replace(other, source_type="EXTENDED")
        found = glue_lrs.extract(extended, reference=reference, apcorr=tmp_path / "apcorr.fits")
        np.testing.assert_allclose(found.flux, plain.flux)


def test_wrong_calls(make_image: Maker) -> None:
    with pytest.raises(LRSError, match=r"unknown parameter 'xstrt' \(did you mean 'xstart'"):
        glue_lrs.extract(make_image(), xstrt=3)
    with pytest.raises(LRSError, match="the image is a int, expected a SlitImage or a Spectrum"):
        glue_lrs.extract(3)
    with pytest.raises(LRSError, match=r"has no meta\['image'\]"):
        glue_lrs.extract(glue_lrs.extract(make_image(), **KEYS))
