"""Commands on the files of the segments of a time series."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner, Result

from glue_lrs import Aperture, Extract1D, Extraction, SlitImage
from glue_lrs.cli import main
from glue_lrs.simulation import Scene

#: Background of slitless images, and no warning about a missing aperture correction.
OPTIONS = ["--set", "bkg_coeff=[[8.5],[18.5],[52.5],[62.5]]", "--set", "apply_apcorr=false"]


def run(*args: object) -> Result:
    """Run glue-lrs, which must succeed."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stack of 5 integrations, in one file and in segments of 3 and 2."""
    folder = tmp_path_factory.mktemp("made")
    whole = Scene(seed=5).calints(5).image
    header = whole.header.copy()
    header["OBSLABEL"] = "Background observation"
    replace(whole, header=header).write(folder / "whole_calints.fits")
    for number, part in ((1, slice(0, 3)), (2, slice(3, 5))):
        names = ("data", "err", "dq", "var_poisson", "var_rnoise", "var_flat")
        planes = {n: getattr(whole, n)[part] for n in names if getattr(whole, n) is not None}
        header["EXSEGNUM"] = number
        segment = replace(whole, **planes, times=whole.times[part], header=header)
        segment.write(folder / f"seg{number}_calints.fits")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def images(made: Path) -> list[Path]:
    return [made / "seg2_calints.fits", made / "seg1_calints.fits"]


@pytest.mark.slow
def test_extract_one_by_one_and_together(made: Path, images: list[Path], here: Path) -> None:
    run("extract", *images, *OPTIONS)
    assert sorted(path.name for path in here.iterdir()) == [
        "seg1_x1dints.fits",
        "seg2_x1dints.fits",
    ]
    result = run("extract", *images, *OPTIONS, "--output", "all_x1dints.fits")
    assert "seg1_calints.fits and 1 more segment  5 x 388" in result.stdout
    together = Extraction.read("all_x1dints.fits")
    series = Extraction.read(["seg1_x1dints.fits", "seg2_x1dints.fits"])
    run("extract", made / "whole_calints.fits", *OPTIONS)
    whole = Extraction.read("whole_x1dints.fits")
    for one in (together, series):
        for name, values in whole.columns.items():
            np.testing.assert_array_equal(one.columns[name], values)
        assert one.times is not None
        assert one.times["INT_NUM"].tolist() == [1, 2, 3, 4, 5]
        assert one.times["SEGMENT"].tolist() == [1, 1, 1, 2, 2]


def test_output_for_other_files_is_refused(images: list[Path], here: Path) -> None:
    Scene(seed=1).s2d(1).image.write("a_s2d.fits")
    arguments = ["extract", str(images[0]), "a_s2d.fits", "-o", "b.fits"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "--output names one file, but there are 2, and a_s2d.fits is not a seg" in result.stderr
    result = CliRunner().invoke(main, ["extract", str(images[0]), str(images[0]), "-o", "b.fits"])
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "contains the integrations 4 to 5, which" in line
    assert [path.name for path in here.iterdir()] == ["a_s2d.fits"]


def test_info_shows_the_label_of_the_observation_and_the_times(images: list[Path]) -> None:
    text = run("info", images[0]).stdout
    assert "SIMULATED, 'Background observation', program 00001" in text
    assert "integrations 4 to 5 of 5, MJD 60994.6" in text


@pytest.mark.slow
def test_info_of_an_x1dints(images: list[Path], here: Path) -> None:
    run("extract", *images, *OPTIONS, "-o", "all_x1dints.fits")
    text = run("info", "all_x1dints.fits").stdout
    assert "integrations 1 to 5 of 5, MJD 60994.600000 to 60994.61" in text
    assert "'Background observation'" in text
    assert "seg1_calints.fits," in text
    assert "seg2_calints.fits" in text
    (facts,) = json.loads(run("info", "--json", "all_x1dints.fits").stdout)
    assert facts["times"]["last_integration"] == 5
    assert facts["times"]["without_time"] == 0
    with fits.open("all_x1dints.fits") as hdulist:
        for name in ("MJD-BEG", "MJD-END"):
            hdulist["EXTRACT1D"].data[name][1] = np.nan
        del hdulist["INT_TIMES"]
        hdulist.writeto("cut_x1dints.fits")
    text = " ".join(run("info", "cut_x1dints.fits").stdout.split())
    assert "integrations 1 to 5 of 5, MJD 60994.600000 to 60994.61" in text
    assert "(UTC), 1 without a time" in text


@pytest.mark.slow
def test_plot_draws_the_segments_as_one(images: list[Path], here: Path) -> None:
    assert run("plot", *images, *OPTIONS, "-o", "a.png").stdout == "wrote a.png\n"
    for path in images:
        extract = Extract1D(aperture=Aperture(xstart=30, xstop=41))
        extract.run(SlitImage.read(path), check=False).write(path.name[:4] + "_x1dints.fits")
    run("plot", "seg1_x1dints.fits", "seg2_x1dints.fits", "--integration", "5", "-o", "b.png")
    result = CliRunner().invoke(
        main, ["plot", "seg1_x1dints.fits", "seg2_x1dints.fits", "--integration", "6"]
    )
    assert (
        "seg1_x1dints.fits and 1 more segment: --integration is 6, expected 1 to 5" in result.stderr
    )


def test_the_stack_is_that_of_the_files(made: Path, images: list[Path]) -> None:
    """The other tests are about the same integrations."""
    stack, whole = SlitImage.read(images), SlitImage.read(made / "whole_calints.fits")
    np.testing.assert_array_equal(np.asarray(stack.data), whole.data)
