"""Contradictions between the inputs of a combination, whichever of them is wrong."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from glue_lrs import Extraction, LRSError, LRSWarning, SlitImage, combine
from glue_lrs.cli import main
from glue_lrs.simulation import Scene
from glue_lrs.spectra.findings import Finding
from tests.helpers.spectra import SIZE, lose, spectrum

ALL = list(range(SIZE))


def nod(factor: float = 1.0, seed: int = 0, **cards: Any) -> Extraction:
    rng = np.random.default_rng(seed)
    return spectrum(factor * rng.normal(1.0, 0.005, SIZE), error=0.005 * factor, **cards)


def found(spectra: list[Extraction], kind: str, **options: Any) -> list[Finding]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        return [one for one in combine(spectra, **options).findings if one.kind == kind]


@pytest.mark.parametrize("wrong", range(4))
def test_the_input_that_contradicts_all_others_is_named(wrong: int) -> None:
    spectra = [nod(1.3 if k == wrong else 1.0, seed=k) for k in range(4)]
    (one,) = found(spectra, "different_flux")
    assert one.subject == f"spectrum {wrong + 1}"
    assert one.values["ratio"] == pytest.approx(1.3, abs=0.01)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_an_input_without_flux_hides_no_contradiction(order: tuple[int, ...]) -> None:
    spectra = [lose(nod(seed=0), ALL), nod(seed=1), nod(1.3, seed=2)]
    assert len(found([spectra[i] for i in order], "different_flux")) == 1
    scaled = found([spectra[i] for i in order], "scaled", scale=True)
    factors = sorted(one.values["factor"] for one in scaled)
    assert factors == pytest.approx([1.15 / 1.3, 1.15], rel=0.01)


def test_the_error_of_a_ratio() -> None:
    spectra = [spectrum(np.full(SIZE, 1.0), error=0.02), spectrum(np.full(SIZE, 3.0), error=0.03)]
    (one,) = found(spectra, "different_flux")
    assert one.values["ratio"] == pytest.approx(3.0)
    assert one.values["error"] == pytest.approx(np.hypot(0.03, 3.0 * 0.02) / SIZE**0.5)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_spectrum_of_the_sky_contradicts_those_of_the_source(order: tuple[int, ...]) -> None:
    sky = spectrum(np.random.default_rng(0).normal(0.0, 0.005, SIZE), error=0.005)
    spectra = [sky, nod(seed=1), nod(seed=2)]
    (one,) = found([spectra[i] for i in order], "different_flux")
    assert one.subject == f"spectrum {order.index(0) + 1}"
    assert one.values["ratio"] == pytest.approx(0.0, abs=0.005)
    assert one.hint is None  # it cannot be scaled


@pytest.mark.parametrize("faint", range(3))
def test_an_input_that_cannot_be_scaled_is_named(faint: int) -> None:
    spectra = [nod(seed=k) for k in range(3)]
    spectra[faint] = spectrum(seed=3, flux=np.zeros(SIZE))
    with pytest.raises(LRSError, match="cannot be scaled") as error:
        combine(spectra, scale=True)
    assert error.value.subject == f"spectrum {faint + 1}"


def test_parts_of_the_wavelengths_are_scaled_to_the_spectrum_that_has_all() -> None:
    wave = np.linspace(14.0, 5.0, 120)
    whole = spectrum(np.ones(120), error=0.01, wave=wave)
    parts = [
        spectrum(np.full(60, f), error=0.01, wave=w)
        for f, w in ((1.2, wave[:60]), (0.8, wave[60:]))
    ]
    scaled = found([*parts, whole], "scaled", scale=True)
    factors = {one.subject: one.values["factor"] for one in scaled}
    expected = {"spectrum 1": 1 / 1.2, "spectrum 2": 1 / 0.8, "spectrum 3": 1.0}
    assert factors == pytest.approx(expected, abs=0.01)


def test_targets_are_compared_although_the_first_is_unknown() -> None:
    spectra = [nod(seed=0), nod(seed=1, TARGNAME="A"), nod(seed=2, TARGNAME="B")]
    (one,) = found(spectra, "different_targets")
    assert (one.subject, one.text) == ("spectrum 3", "the target is B, that of spectrum 2 is A")


def test_source_types_are_compared_although_the_first_is_unknown() -> None:
    spectra = [
        replace(nod(seed=k), keywords_source={"SRCTYPE": kind})
        for k, kind in enumerate(("UNKNOWN", "POINT", "EXTENDED"))
    ]
    (one,) = found(spectra, "different_spectra")
    assert one.text == "the source is EXTENDED, that of spectrum 2 is POINT"


# --- on the command line --------------------------------------------------------------------------


def run(*arguments: object) -> tuple[int, list[str]]:
    done = CliRunner().invoke(main, [str(one) for one in arguments], env={"COLUMNS": "100"})
    return done.exit_code, done.stderr.splitlines()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path]]:
    """Two nods, of which the first has lost pixels at the peak, and the x1d of both."""
    folder = tmp_path_factory.mktemp("nods")
    nods, spectra = [], []
    for number in (1, 2):
        image = Scene(seed=1).s2d(nod=number).image
        if number == 1:
            data = image.data.copy()
            data[150:160, 13] = np.nan
            image = replace(image, data=data)
        nods.append(folder / f"n{number}_s2d.fits")
        spectra.append(folder / f"n{number}_x1d.fits")
        image.write(nods[-1])
        assert run("extract", nods[-1], "-o", spectra[-1])[0] == 0
    return nods, spectra


@pytest.mark.slow
@pytest.mark.parametrize("kind", [0, 1])
def test_lost_pixels_that_are_rejected_are_not_repeated(
    images: tuple[list[Path], list[Path]], kind: int, tmp_path: Path
) -> None:
    made = tmp_path / "c_c1d.fits"
    assert run("combine", *images[kind], "-o", made, "--strict") == (0, [])
    code, lines = run("combine", *images[kind], "-o", made, "--keep-incomplete", "--overwrite")
    assert (code, len(lines)) == (0, 1)
    assert "reduce the aperture in 10 of" in lines[0]


@pytest.mark.slow
def test_lost_pixels_that_are_not_rejected_are_repeated(
    images: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    """The size of the aperture is not in an x1d, and NPIXELS does not show a loss in all rows."""
    image = SlitImage.read(images[0][0])
    data = image.data.copy()
    data[:, 13] = np.nan
    lost = tmp_path / "lost_s2d.fits"
    replace(image, data=data).write(lost)
    run("extract", lost, "-o", tmp_path / "lost_x1d.fits")
    _, lines = run("combine", tmp_path / "lost_x1d.fits", images[1][1], "-o", tmp_path / "c.fits")
    assert any("bad pixels reduce the aperture" in line for line in lines)


@pytest.mark.slow
def test_a_refusal_is_one_line(images: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    negative = tmp_path / "negative_x1d.fits"
    fixed = ("--set", "use_source_posn=false", "--set", "xstart=27", "--set", "xstop=34")
    run("extract", images[0][0], *fixed, "-o", negative)
    code, lines = run("combine", negative, images[1][1], "-o", tmp_path / "c_c1d.fits")
    assert (code, len(lines)) == (2, 1)
    assert "they would cancel each other" in lines[0]
    options = ("-o", tmp_path / "c_c1d.fits", "--allow-opposite")
    code, lines = run("combine", negative, images[1][1], *options)
    assert code == 0
    assert any("the mean flux is negative:" in line for line in lines)
