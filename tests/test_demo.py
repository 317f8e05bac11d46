"""The demonstration: its table against the true spectra, and its files in the pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib import image as pictures

from glue_lrs.cli.program import main
from glue_lrs.demo import EXAMPLES, FWHM, FWHM_WAVELENGTH, TAPER
from glue_lrs.io.x1d_reader import read_single
from glue_lrs.simulation.spectra import Supernova

pytestmark = pytest.mark.slow

SPECTRA = {
    one.name: f"demo_{one.name}_x1d{'ints' * one.product.endswith('ints')}.fits" for one in EXAMPLES
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder and the output of one run for all tests."""
    folder = tmp_path_factory.mktemp("demo") / "new"
    result = CliRunner().invoke(main, ["demo", "--output-dir", str(folder)])
    assert result.exit_code == 0, result.stderr
    return folder, result


def printed(result: Result) -> dict[str, dict[str, str]]:
    """The printed table: example -> column -> cell."""
    head, *lines = result.stdout.splitlines()[: len(EXAMPLES) + 1]
    cells = [[part.strip() for part in line.split("  ") if part.strip()] for line in (head, *lines)]
    return {row[0]: dict(zip(cells[0], row, strict=True)) for row in cells[1:]}


def test_table_against_the_truth(demo: tuple[Path, Result]) -> None:
    rows = printed(demo[1])
    assert list(rows) == ["default", "wider", "nod", "background", "tapered", "slitless"]
    ratio = {name: float(row["flux/truth"]) for name, row in rows.items()}
    pull = {name: float(row["pull std"]) for name, row in rows.items()}
    rms = {name: float(row["rms [sigma]"]) for name, row in rows.items()}
    # With background subtraction only noise remains.
    for name in ("background", "slitless"):
        assert ratio[name] == pytest.approx(1, abs=0.002)
        assert 0.9 < pull[name] < 1.1
        assert 0.9 < rms[name] < 1.1
    # Without, the excess increases with the number of pixels.
    assert 1.001 < ratio["default"] < ratio["wider"] < 1.01
    assert 1.001 < ratio["nod"] < 1.01
    assert 1.001 < ratio["tapered"] < 1.01
    assert all(rms[name] > rms["background"] for name in ("default", "wider", "nod", "tapered"))


def test_table_from_the_files(demo: tuple[Path, Result]) -> None:
    """The printed table, recomputed from the files and the supernova of the scene."""
    folder, result = demo
    flux_of = Supernova(level=1.5e-4)
    for name in ("default", "nod", "background"):
        found = read_single(folder / SPECTRA[name])
        wave, flux, error = (found.columns[c] for c in ("WAVELENGTH", "FLUX", "FLUX_ERROR"))
        pixels = found.columns["NPIXELS"]
        good = (wave > 5) & (wave < 12) & (pixels == pixels.max())
        truth = flux_of(wave[good])
        row = printed(result)[name]
        assert float(row["flux/truth"]) == pytest.approx(np.median(flux[good] / truth), abs=1e-4)
        off = (flux[good] - truth) / error[good]
        assert float(row["pull std"]) == pytest.approx(np.std(off), abs=0.01)
        assert float(row["rms [sigma]"]) == pytest.approx(np.sqrt(np.mean(off**2)), abs=0.01)
        assert float(row["median S/N"]) == pytest.approx(
            np.median(flux[good] / error[good]), abs=0.1
        )
        lost = (wave > 5) & (wave < 12) & (pixels < pixels.max())
        assert int(row["bad pixel"]) == lost.sum()


def test_limits_are_those_of_the_notebook(demo: tuple[Path, Result]) -> None:
    expected = {
        "default": (27, 34), "wider": (25, 36), "nod": (9, 17), "background": (9, 17),
        "tapered": (25.90, 35.10), "slitless": (30, 41),
    }  # fmt: skip
    for name, limits in expected.items():
        keywords = read_single(demo[0] / SPECTRA[name]).keywords
        found = keywords["EXTRXSTR"] - 1, keywords["EXTRXSTP"] - 1
        assert found == pytest.approx(limits, abs=0.005)
    half = 1.5 * np.array(FWHM) / 0.11
    assert np.polynomial.polynomial.polyfit(FWHM_WAVELENGTH, half, 1) == pytest.approx(TAPER)


def test_all_files_are_written(demo: tuple[Path, Result]) -> None:
    folder, result = demo
    names = {path.name for path in folder.iterdir()}
    images = {"demo_nod1_s2d.fits", "demo_nod2_s2d.fits", "demo_level3_s2d.fits",
              "demo_slitless_calints.fits", "demo_apcorr.fits"}  # fmt: skip
    drawn = {f"demo_{one.name}.png" for one in EXAMPLES}
    drawn |= {"demo_compared.png", "demo_tapered_width.png", "demo_slitless_light_curve.png"}
    references = {f"demo_{one.name}_extract1d.json" for one in EXAMPLES}
    assert names == images | drawn | references | set(SPECTRA.values())
    for name in drawn:
        picture = pictures.imread(folder / name)
        assert min(picture.shape[:2]) > 400
        assert picture[..., :3].std() > 0.05
    for name in references:
        assert len(json.loads((folder / name).read_text())["apertures"]) == 1
    # What it says is to be looked at, and to be tried, is there.
    for word in " ".join(result.stdout.splitlines()[-2:]).replace(":", "").split():
        if word.startswith(str(folder)):
            assert Path(word).exists()


@pytest.mark.parity
def test_stdatamodels_opens_all(demo: tuple[Path, Result]) -> None:
    from stdatamodels.jwst import datamodels

    folder = demo[0]
    kinds = {
        "demo_level3_s2d.fits": datamodels.SlitModel,
        "demo_nod1_s2d.fits": datamodels.SlitModel,
        "demo_nod2_s2d.fits": datamodels.SlitModel,
        "demo_slitless_calints.fits": datamodels.SlitModel,
        "demo_slitless_x1dints.fits": datamodels.TSOMultiSpecModel,
        "demo_apcorr.fits": datamodels.MirLrsApcorrModel,
    }
    kinds |= {name: datamodels.MultiSpecModel for name in SPECTRA.values() if "x1d." in name}
    assert set(kinds) == {path.name for path in folder.glob("*.fits")}
    for name, kind in kinds.items():
        if kind is datamodels.MirLrsApcorrModel:
            model = kind(folder / name)
            assert len(model.apcorr_table) == 2
        else:
            model = datamodels.open(folder / name)
            assert type(model) is kind
        model.close()


@pytest.mark.parity
@pytest.mark.parametrize("name", ["background", "tapered", "slitless"])
def test_the_pipeline_agrees(demo: tuple[Path, Result], name: str) -> None:
    """The step function of the pipeline results in the same spectra."""
    from jwst.extract_1d.extract import run_extract1d
    from stdatamodels.jwst import datamodels

    folder = demo[0]
    product = next(one.product for one in EXAMPLES if one.name == name)
    with datamodels.open(folder / f"demo_{product}.fits") as model:
        result, *_ = run_extract1d(
            model,
            str(folder / f"demo_{name}_extract1d.json"),
            str(folder / "demo_apcorr.fits"),
            None,
            extraction_type="box",
        )
        table = result.spec[0].spec_table
        found = read_single(folder / SPECTRA[name])
        for column in ("WAVELENGTH", "FLUX", "FLUX_ERROR", "BACKGROUND", "NPIXELS"):
            theirs = np.asarray(table[column], dtype=float)
            ours = found.columns[column].reshape(theirs.shape)
            known = np.isfinite(ours)
            least = 1e-9 * np.median(np.abs(theirs[known]))
            np.testing.assert_allclose(ours[known], theirs[known], rtol=1e-9, atol=least)
            if column in ("WAVELENGTH", "FLUX"):
                np.testing.assert_array_equal(known, np.isfinite(theirs))


def test_existing_files_are_kept(demo: tuple[Path, Result]) -> None:
    folder = demo[0]
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    result = CliRunner().invoke(main, ["demo", "--output-dir", str(folder)])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "exists, expected a new name (--overwrite replaces it)" in result.stderr
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
