"""Extractions with added noise in files, in provenance and on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal

from glue_lrs import Aperture, Extract1D, combine, rerun
from glue_lrs.cli.program import main
from glue_lrs.errors import LRSError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.io.x1d_reader import read_single
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source
from glue_lrs.spectra.columns import COLUMNS
from glue_lrs.spectra.extraction import Extraction


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Exposures at two nods, two at each."""
    folder = tmp_path_factory.mktemp("nods")
    made = Scene(sources=(Source(flux=1e-5),), nod_variance=False, seed=2).nods(2)
    paths = [str(folder / f"{number}_s2d.fits") for number in range(len(made))]
    for one, path in zip(made, paths, strict=True):
        one.image.write(path)
    return paths


def operator(files: list[str]) -> Extract1D:
    aperture = Aperture(xstart=27, xstop=34)
    return Extract1D(aperture=aperture, use_source_posn=True, noise="nod", nods=files)


@pytest.mark.slow
def test_column_is_written_read_and_combined(files: list[str], tmp_path: Path) -> None:
    made = [operator(files).run(SlitImage.read(path)) for path in files]
    read = []
    for number, extraction in enumerate(made):
        path = tmp_path / f"{number}_x1d.fits"
        extraction.write(path)
        read.append(read_single(path))
        (found,) = [one for one in read[-1].findings if one.kind == "noise_added"]
        assert found.text.startswith("noise 'nod': ")
        assert list(read[-1].columns) == [*COLUMNS, "QUALITY", "FLUX_VAR_NOD"]
        assert read[-1].units["FLUX_VAR_NOD"] == "Jy^2"
        assert read[-1].table["FLUX_VAR_NOD"].unit == "Jy2"
        assert_array_equal(read[-1].columns["FLUX_VAR_NOD"], extraction.columns["FLUX_VAR_NOD"])
    of_spectra = [one.to_spectrum() for one in read]
    expected = combine(made).columns["ERROR"]
    for inputs in (read, of_spectra):
        assert_allclose(combine(inputs).columns["ERROR"], expected)
    independent = [
        Extraction(columns={name: one.columns[name] for name in COLUMNS}, units=one.units,
                   header=one.header) for one in made
    ]  # fmt: skip
    # Of two exposures at a nod, each with the variance v + v/2, the common part v/2 stays.
    ratio = expected / combine(independent).columns["ERROR"]
    assert np.nanmedian(ratio) == pytest.approx(np.sqrt((0.5 + 0.5) / 0.75), abs=0.05)


@pytest.mark.slow
def test_rerun_and_parameters(files: list[str], tmp_path: Path) -> None:
    made = operator(files).run(SlitImage.read(files[0]))
    stored = json.loads(json.dumps(dict(made.provenance)))
    assert stored["parameters"]["options"]["nods"] == files
    again = rerun(stored)
    for name, values in made.columns.items():
        assert_array_equal(again.columns[name], values)
    images = [SlitImage.read(path) for path in files]
    assert operator(images).parameters == operator(files).parameters
    in_memory = Scene(sources=(Source(flux=1e-5),), nod_variance=False, seed=2).nods(2)
    made = operator([one.image for one in in_memory]).run(images[0])
    with pytest.raises(LRSError, match="not read from a file"):
        rerun(made.provenance)


@pytest.mark.slow
def test_command_line(files: list[str], tmp_path: Path) -> None:
    output, common = str(tmp_path / "x1d.fits"), ["--set", "apply_apcorr=false"]
    given = [text for path in files for text in ("--nods", path)]
    run = CliRunner().invoke
    result = run(main, ["extract", files[0], "-o", output, *common, "--set", "noise=nod", *given])
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr
    assert np.nanmin(read_single(output).columns["FLUX_VAR_NOD"]) > 0
    plain = run(main, ["extract", files[0], "-o", str(tmp_path / "a.fits"), *common])
    assert "(--set noise=nod adds it)" in plain.stderr
    assert "1.2" in plain.stderr or "1.1" in plain.stderr
    for options, text in (
        ([*given[2:4], "--set", "noise=nod"], "at the same nod"),
        (given, "noise is 'propagated', expected 'nod'"),
        (["--nods", str(tmp_path / "nix.fits"), "--set", "noise=nod"], "does not exist"),
    ):
        failed = run(main, ["extract", files[0], "-o", str(tmp_path / "b.fits"), *common, *options])
        assert failed.exit_code == 2
        lines = [line for line in failed.stderr.splitlines() if "error" in line]
        assert len(lines) == 1
        assert text in lines[0]
        assert not (tmp_path / "b.fits").exists()
