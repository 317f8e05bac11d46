"""Files that are not what they seem: one true line, in Python and on the command line."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner

from glue_lrs import Extract1D, LRSError, LRSWarning, SlitImage
from glue_lrs.cli import main
from glue_lrs.simulation import Scene, Source

pytestmark = pytest.mark.slow

Change = Callable[[Path], None]


def card(name: str, value: Any, extension: int = 0) -> Change:
    def change(path: Path) -> None:
        fits.setval(path, name, value=value, ext=extension)

    return change


def pixels(function: Callable[[Any], Any], extension: str = "SCI") -> Change:
    def change(path: Path) -> None:
        with fits.open(path, mode="update") as hdus:
            hdus[extension].data = function(hdus[extension].data.copy())

    return change


def swapped(one: str, other: str) -> Change:
    def change(path: Path) -> None:
        with fits.open(path, mode="update") as hdus:
            first, second = hdus[one].data.copy(), hdus[other].data.copy()
            hdus[one].data, hdus[other].data = second, first

    return change


def other_file(shape: tuple[int, ...], **cards: Any) -> Change:
    """Replace the file by a product of another mode."""

    def change(path: Path) -> None:
        primary = fits.PrimaryHDU()
        primary.header.update({"TELESCOP": "JWST", "INSTRUME": "MIRI"} | cards)
        image = fits.ImageHDU(np.ones(shape, np.float32), name="SCI")
        fits.HDUList([primary, image]).writeto(path, overwrite=True)

    return change


def every_second(axis: int) -> Callable[[Any], Any]:
    def lost(data: Any) -> Any:
        data[(slice(None),) * axis + (slice(None, None, 2),)] = np.nan
        return data

    return lost


REFUSED: list[tuple[str, Change, str]] = [
    ("imaging", other_file((50, 50), EXP_TYPE="MIR_IMAGE", FILTER="F770W"), "EXP_TYPE is"),
    ("MRS", other_file((5, 20, 20), EXP_TYPE="MIR_MRS"), "EXP_TYPE is 'MIR_MRS'"),
    ("NIRSpec", other_file((50, 90), INSTRUME="NIRSPEC"), "INSTRUME is 'NIRSPEC'"),
    (
        "ramps",
        other_file((1, 5, 50, 50), EXP_TYPE="MIR_LRS-FIXEDSLIT", FILTER="P750L"),
        "SCI has 4 axes",
    ),
    ("NIRCam", card("INSTRUME", "NIRCAM"), "INSTRUME is 'NIRCAM'"),
    ("no pixel area", card("PIXAR_SR", 0.0, 1), "PIXAR_SR is 0"),
]

WARNED: list[tuple[str, Change, str]] = [
    ("mJy", card("BUNIT", "mJy", 1), "BUNIT is 'mJy', expected 'MJy/sr'"),
    ("no sr", card("BUNIT", "MJy", 1), "BUNIT is 'MJy', expected 'MJy/sr'"),
    ("rate", card("BUNIT", "DN/s", 1), "BUNIT is 'DN/s', expected 'MJy/sr'"),
    ("data and errors", swapped("SCI", "ERR"), "ERR is negative or infinite in most pixels"),
    ("data and variance", swapped("SCI", "VAR_POISSON"), "VAR_POISSON is negative"),
    ("pixel area", card("PIXAR_SR", 2.86e-11, 1), "PIXAR_SR is 2.86e-11, expected about 2.84e-13"),
    ("rolled", pixels(lambda one: np.roll(one, 200, axis=0), "WAVELENGTH"), "neither rises nor"),
    ("rows", pixels(every_second(0)), "192 of 387 rows have no flux"),
    ("columns", pixels(every_second(1)), "reduce the aperture in 385 of 387 rows"),
    ("sign", pixels(np.negative), "the mean flux is negative"),
    ("mirrored", pixels(lambda one: one[:, ::-1]), "does not contain the source"),
    ("constant", pixels(lambda one: 0 * one + 3), "no source was found"),
    ("slitless", card("EXP_TYPE", "MIR_LRS-SLITLESS"), "does not contain the source"),
]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("nod") / "nod_s2d.fits"
    Scene(seed=1, sources=(Source(),)).s2d(nod=1).image.write(path)
    return path.read_bytes()


def extracted(path: Path) -> tuple[int, str]:
    out = path.with_name("made_x1d.fits")
    command = ["extract", str(path), "-o", str(out), "--strict"]
    run = CliRunner().invoke(main, command, env={"COLUMNS": "100"})
    return run.exit_code, run.stderr


@pytest.mark.parametrize(("name", "change", "text"), REFUSED, ids=[one[0] for one in REFUSED])
def test_refused(name: str, change: Change, text: str, original: bytes, tmp_path: Path) -> None:
    path = tmp_path / "given_s2d.fits"
    path.write_bytes(original)
    change(path)
    with pytest.raises(LRSError, match=text):
        Extract1D.from_reference(None, "MIR_LRS-FIXEDSLIT").run(path)
    code, told = extracted(path)
    assert code == 2
    assert len(told.splitlines()) == 1
    assert text in told


@pytest.mark.parametrize(("name", "change", "text"), WARNED, ids=[one[0] for one in WARNED])
def test_warned(name: str, change: Change, text: str, original: bytes, tmp_path: Path) -> None:
    path = tmp_path / "given_s2d.fits"
    path.write_bytes(original)
    change(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LRSWarning)
        image = SlitImage.read(path)
        found = Extract1D.from_reference(None, image.exp_type).check(image)
    texts = [str(one.message) for one in caught]
    texts += [one.text for one in found if one.severity != "info"]
    assert any(text in one for one in texts)
    code, told = extracted(path)
    assert code == 1
    assert text in told
