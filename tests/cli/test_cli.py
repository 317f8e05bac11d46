"""The command line: files, messages, exit codes."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable
from click.testing import CliRunner, Result

import glue_lrs.io.crds
from glue_lrs import (
    ApertureCorrection,
    Extract1D,
    Extraction,
    LRSError,
    LRSWarning,
    Reference,
    SlitImage,
)
from glue_lrs.cli.program import main
from glue_lrs.extraction.regions import region_findings as advice
from glue_lrs.extraction.rerun import rerun
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.io.psf import write_psf
from glue_lrs.io.x1d_reader import read_single
from glue_lrs.measurement.curve_of_growth import measure_with_growth
from glue_lrs.profiles.gaussian import GaussianProfile
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.reference.validation import reference_errors
from glue_lrs.simulation.scene import Scene

FIXED = ["--set", "use_source_posn=false"]
QUIET = ["--set", "apply_apcorr=false"]  # no warning about a missing correction
SKY = ["--set", "bkg_coeff=[[8.5],[18.5],[52.5],[62.5]]"]  # of slitless images


def run(*args: object) -> Result:
    """Run glue-lrs; a traceback is always a failure."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert "Traceback" not in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def refused(*args: object, code: int = 2) -> str:
    """Run a command that must fail with a single line; return the line."""
    result = run(*args)
    assert result.exit_code == code, result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("glue-lrs: error: ")
    return lines[0]


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a small scene; tests must not change them."""
    folder = tmp_path_factory.mktemp("made")
    scene = Scene(background_drift=0.05, seed=3)
    scene.s2d(1).image.write(folder / "a_s2d.fits")
    scene.s2d(2).image.write(folder / "b_s2d.fits")
    scene.calints(3).image.write(folder / "c_calints.fits")
    for name, subarray in (("slit", "FULL"), ("slitless", "SLITLESSPRISM")):
        write_apcorr(
            scene.aperture_correction(subarray, size=np.arange(1, 31)), folder / f"{name}.fits"
        )
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def same(one: Extraction, other: Extraction) -> bool:
    return list(one.columns) == list(other.columns) and all(
        np.array_equal(one.columns[name], other.columns[name], equal_nan=True)
        for name in one.columns
    )


def cells_of(head: str, line: str) -> dict[str, str]:
    """A line of the table, by the names of its columns."""
    return dict(zip(re.split("  +", head), re.split("  +", line), strict=True))


# --- extract -----------------------------------------------------------------------------------


def test_extract_equals_the_operator(made: Path, here: Path) -> None:
    result = run(
        "extract", made / "a_s2d.fits", "--apcorr", made / "slit.fits",
        "--set", "bkg_coeff=[[0.5],[4.5],[38.5],[43.5]]", "--set", "bkg_fit=median",
        "--set", "xstart=9.25", "--set", "xstop=17", "--set", "use_source_posn=False",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    operator = Extract1D.from_reference(
        None, FIXED_SLIT, apcorr=made / "slit.fits", bkg_fit="median", xstart=9.25, xstop=17,
        bkg_coeff=[[0.5], [4.5], [38.5], [43.5]], use_source_posn=False,
    )  # fmt: skip
    expected = operator.run(SlitImage.read(made / "a_s2d.fits"))
    assert same(read_single("a_x1d.fits"), expected)
    assert list(tree(here)) == ["a_x1d.fits"]

    head, line = result.stdout.splitlines()
    cells = cells_of(head, line)
    assert cells["file"] == "a_s2d.fits"
    assert (cells["columns"], cells["moved"]) == ("9.25 - 17.00", "-")
    assert (cells["unit"], cells["warnings"]) == ("Jy", "-")
    ratio = expected.columns["FLUX"] / expected.columns["FLUX_ERROR"]
    assert f"{np.median(ratio[~expected.mask]):.1f}" in line
    assert line.endswith("a_x1d.fits")
    assert f"{np.nanmin(expected.wavelength):.2f} - 14.02 um" in line


@pytest.mark.parametrize(
    ("name", "spectrum"),
    [
        ("jw1_s2d.fits", "jw1_x1d.fits"),
        ("jw1_cal.fits", "jw1_x1d.fits"),
        ("jw1_calints.fits", "jw1_x1dints.fits"),
        ("jw1_crfints.fits", "jw1_x1dints.fits"),
        ("other.fits", "other_x1d.fits"),
        ("s2d.fits", "s2d_x1d.fits"),
    ],
)
def test_names_of_spectra(made: Path, here: Path, name: str, spectrum: str) -> None:
    source = here.parent / name
    ending = "c_calints.fits" if "ints" in name else "a_s2d.fits"
    source.write_bytes((made / ending).read_bytes())
    assert run("extract", source, *QUIET).exit_code == 0
    assert list(tree(here)) == [spectrum]


@pytest.mark.slow
def test_output_and_output_dir(made: Path, here: Path) -> None:
    assert run("extract", made / "a_s2d.fits", *QUIET, "--output", "mine.fits").exit_code == 0
    files = [made / "a_s2d.fits", made / "c_calints.fits"]
    assert run("extract", *files, *QUIET, "--output-dir", "new/er").exit_code == 0
    assert sorted(tree(here)) == ["mine.fits", "new/er/a_x1d.fits", "new/er/c_x1dints.fits"]
    before = tree(here)
    line = refused("extract", made / "b_s2d.fits", *QUIET, "-o", "mine.fits")
    assert "mine.fits: exists" in line
    assert "--overwrite" in line
    assert tree(here) == before
    assert (
        run("extract", made / "b_s2d.fits", *QUIET, "-o", "mine.fits", "--overwrite").exit_code == 0
    )
    assert tree(here)["mine.fits"] != before["mine.fits"]


def test_a_failing_file_does_not_stop_the_others(made: Path, here: Path) -> None:
    (here / "bad_s2d.fits").write_bytes(b"nothing of the kind")
    result = run("extract", "bad_s2d.fits", made / "a_s2d.fits", "none_s2d.fits", *QUIET)
    assert result.exit_code == 1
    errors = result.stderr.splitlines()
    assert [line.split(":")[1] for line in errors[:2]] == [" error", " error"]
    assert "bad_s2d.fits" in errors[0]
    assert "none_s2d.fits" in errors[1]
    assert errors[2:] == ["2 of 3 files failed"]
    assert sorted(tree(here)) == ["a_x1d.fits", "bad_s2d.fits"]
    assert run("extract", "bad_s2d.fits", "none_s2d.fits").exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_jobs_print_and_write_the_same(made: Path, here: Path, jobs: int) -> None:
    files = [made / "a_s2d.fits", made / "b_s2d.fits", here / "none_s2d.fits"]
    result = run("extract", *files, "--jobs", jobs, *FIXED)
    assert result.exit_code == 1
    warnings = [line for line in result.stderr.splitlines() if "warning" in line]
    # Reported once with the number of files, each on one line.
    assert len(warnings) == 0
    assert "a_s2d.fits: the mean flux is negative" in result.stderr
    for name, number in (("a", "3"), ("b", "-")):  # b's is the nod that the aperture is for
        (line,) = (x for x in result.stdout.splitlines() if x.startswith(name))
        assert cells_of(result.stdout.splitlines()[0], line)["warnings"] == number
    assert "none_s2d.fits: does not exist" in result.stderr
    for name in "ab":
        image = SlitImage.read(made / f"{name}_s2d.fits")
        operator = Extract1D.from_reference(
            None, FIXED_SLIT, use_source_posn=False, apply_apcorr=False
        )
        assert same(read_single(f"{name}_x1d.fits"), operator.run(image))


@pytest.mark.parametrize("command", ["extract", "combine"])
def test_a_spectrums_name_ends_as_fits(command: str, made: Path, here: Path) -> None:
    for name in ("a.txt", "a.fits.txt", "spectrum"):
        text = refused(command, made / "a_s2d.fits", "-o", name)
        assert f"{name!r}, expected a name that ends in .fits or .fits.gz" in text
    assert tree(here) == {}
    assert run(command, made / "a_s2d.fits", *QUIET, "-o", "a.fits.gz").exit_code == 0
    assert (here / "a.fits.gz").read_bytes()[:2] == b"\x1f\x8b"


def test_outputs_must_differ(made: Path, here: Path) -> None:
    (here / "sub").mkdir()
    for folder in (here, here / "sub"):
        (folder / "x_s2d.fits").write_bytes((made / "a_s2d.fits").read_bytes())
    before = tree(here)
    line = refused("extract", "x_s2d.fits", "sub/x_s2d.fits", *QUIET)
    assert "x_s2d.fits and sub/x_s2d.fits both give x_x1d.fits" in line
    line = refused("extract", "x_s2d.fits", *QUIET, "-o", "sub/../x_s2d.fits", "--overwrite")
    assert "would replace the input x_s2d.fits" in line
    line = refused("extract", "x_s2d.fits", "sub/x_s2d.fits", "--output", "y.fits")
    assert "--output names one file" in line
    line = refused("extract", "x_s2d.fits", "--output", "y.fits", "--output-dir", "z")
    assert "exclude each other" in line
    assert tree(here) == before


@pytest.mark.slow
def test_plot_beside_the_spectrum(made: Path, here: Path) -> None:
    result = run("extract", made / "a_s2d.fits", made / "c_calints.fits", "--plot", *QUIET)
    assert result.exit_code == 0, result.stderr
    (line,) = result.stderr.splitlines()
    assert "c_calints.fits: no background was subtracted" in line
    names = ["a_x1d.fits", "a_x1d.png", "c_x1dints.fits", "c_x1dints.png"]
    assert sorted(tree(here)) == names
    for name in names[1::2]:
        assert (here / name).read_bytes().startswith(b"\x89PNG")
    (here / "a_x1d.fits").unlink()
    before = tree(here)
    line = refused("extract", made / "a_s2d.fits", "--plot", *QUIET)
    assert "a_x1d.png: exists" in line
    assert tree(here) == before


@pytest.mark.slow
def test_references_of_crds(made: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("reference", "edit", "--exp-type", FIXED_SLIT, "--set", "xstart=9", "--set",
               "xstop=20", *FIXED, "-o", "crds.json").exit_code == 0  # fmt: skip
    asked: list[Any] = []

    def best(file: Any, context: str | None = None) -> dict[str, str | None]:
        asked.append(context)
        return {"extract1d": "crds.json", "apcorr": str(made / "slit.fits"), "psf": None}

    monkeypatch.setattr(glue_lrs.io.crds, "best_references", best)
    image = made / "a_s2d.fits"
    assert run("extract", image, "--crds").exit_code == 0
    assert run("extract", image, "--crds", "jwst_1322.pmap", "-o", "2.fits").exit_code == 0
    assert run("extract", image, "--crds", "--apcorr", made / "slit.fits", "--extract1d",
               "crds.json", "-o", "3.fits").exit_code == 0  # fmt: skip
    assert asked == [None, "jwst_1322.pmap"]  # given references are not looked up
    operator = Extract1D.from_reference("crds.json", FIXED_SLIT, apcorr=made / "slit.fits")
    for name in ("a_x1d.fits", "2.fits", "3.fits"):
        assert same(read_single(name), operator.run(SlitImage.read(image)))
    assert "put --crds after the files" in refused("extract", "--crds", image, image)

    def unreachable(file: Any, context: str | None = None) -> dict[str, str | None]:
        raise LRSError("CRDS gives no extract1d reference")

    monkeypatch.setattr(glue_lrs.io.crds, "best_references", unreachable)
    assert "CRDS gives no extract1d" in refused("extract", image, "--crds", "-o", "4.fits")


# --- bad input ---------------------------------------------------------------------------------

Change = Callable[[fits.HDUList], None]


def card(key: str, value: Any, hdu: str | int = 0) -> Change:
    def change(hdulist: fits.HDUList) -> None:
        if value is None:
            del hdulist[hdu].header[key]
        else:
            hdulist[hdu].header[key] = value

    return change


def without(*names: str) -> Change:
    def change(hdulist: fits.HDUList) -> None:
        for name in names:
            del hdulist[name]

    return change


def smaller(hdulist: fits.HDUList) -> None:
    hdulist["ERR"].data = hdulist["ERR"].data[:-1].copy()


def all_nan(hdulist: fits.HDUList) -> None:
    hdulist["SCI"].data = np.full_like(hdulist["SCI"].data, np.nan)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (card("INSTRUME", "NIRSPEC"), "INSTRUME is 'NIRSPEC'"),
        (card("EXP_TYPE", "MIR_MRS"), "EXP_TYPE is 'MIR_MRS'"),
        (card("EXP_TYPE", "MIR_IMAGE"), "EXP_TYPE is 'MIR_IMAGE'"),
        (without("SCI"), "SCI"),
        (smaller, "ERR has shape (386, 45)"),
        (all_nan, "NaN"),
        (without("WAVELENGTH", "ASDF"), "WAVELENGTH"),
        (card("PIXAR_SR", None, "SCI"), "PIXAR_SR is missing"),
    ],
    ids=["NIRSpec", "MRS", "i2d", "no SCI", "shapes", "NaN", "no wavelength", "no PIXAR_SR"],
)
def test_products_that_cannot_be_extracted(
    made: Path, here: Path, change: Change, message: str
) -> None:
    source = here.parent / "x_s2d.fits"
    with fits.open(made / "a_s2d.fits") as hdulist:
        change(hdulist)
        hdulist.writeto(source)
    for args in (["--plot"], ["--output-dir", "new"]):
        line = refused("extract", source, *QUIET, *args)
        assert message in line
        assert "x_s2d.fits" in line
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (lambda raw: b"", "empty"),
        (lambda raw: b"{}" * 2000, "not a FITS file"),
        (lambda raw: raw[:1000], "truncated"),
        (lambda raw: raw[: len(raw) // 2], "truncated"),
    ],
    ids=["empty", "not FITS", "no header", "half"],
)
@pytest.mark.parametrize("command", ["extract", "info", "plot"])
def test_damaged_files(
    made: Path, here: Path, command: str, cut: Callable[[bytes], bytes], message: str
) -> None:
    source = here.parent / "x_s2d.fits"
    source.write_bytes(cut((made / "a_s2d.fits").read_bytes()))
    line = refused(command, source)
    assert message in line
    assert "x_s2d.fits" in line
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([*FIXED, "--set", "xstart=500", "--set", "xstop=510"], "no pixel on the image"),
        (["--set", "xstat=3"], "'xstat' (did you mean 'xstart'?)"),
        (["--set", "xstart=27px"], "xstart is '27px', expected a number"),
        (["--set", "bkg_coeff=[[1]]"], "bkg_coeff has 1 edges, expected pairs"),
        (["--set", "xstart"], "expected KEY=VALUE"),
        (["--extract1d", "slitless.json"], "no aperture has the id 'MIR_LRS-FIXEDSLIT'"),
        (["--extract1d", "broken.json"], "broken.json: is not JSON"),
        (["--extract1d", "none.json"], "none.json: does not exist"),
        (["--apcorr", "slitless.fits"], "no row for SUBARRAY FULL"),
        (["--apcorr", "a_s2d.fits"], "a_s2d.fits"),
        (["--output", "slit.fits/x.fits"], "slit.fits"),
        (["--output-dir", "slit.fits"], "slit.fits"),
        (["--output", "."], "."),
        (["--jobs", "0"], "--jobs is 0"),
        (["--no-such-option"], "No such option"),
    ],
)
def test_invalid_options(made: Path, here: Path, args: list[str], message: str) -> None:
    for name in ("slit.fits", "slitless.fits", "a_s2d.fits"):
        (here / name).write_bytes((made / name).read_bytes())
    (here / "broken.json").write_text('{"apertures": [')
    document = Reference.default().document
    (here / "slitless.json").write_text(json.dumps({"apertures": document["apertures"][1:]}))
    before = tree(here)
    quiet = [] if "--apcorr" in args else QUIET
    assert message in refused("extract", "a_s2d.fits", *quiet, *args)
    assert tree(here) == before


def test_disk_full(made: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: fits.HDUList, name: Path, *args: Any, **kwargs: Any) -> None:
        Path(name).write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fits.HDUList, "writeto", full)
    line = refused("extract", made / "a_s2d.fits", *QUIET, "--output-dir", "new/er", "--plot")
    assert "a_x1d.fits: cannot be written, No space left on device" in line
    assert list(here.iterdir()) == []


def test_bugs_are_reported_on_one_line(
    made: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*args: Any) -> None:
        raise ZeroDivisionError("something is wrong")

    monkeypatch.setattr(Extract1D, "run", fault)
    line = refused("extract", made / "a_s2d.fits", *QUIET)
    assert "a_s2d.fits: ZeroDivisionError: something is wrong (a bug in glue-lrs" in line
    assert "ZeroDivisionError" in refused("plot", made / "a_s2d.fits")
    args = ["--traceback", "extract", str(made / "a_s2d.fits"), *QUIET]
    shown = CliRunner().invoke(main, args).stderr
    assert "Traceback (most recent call last)" in shown
    assert "in fault" in shown


# --- what a user would want to know ------------------------------------------------------------


def operator(**keys: Any) -> Extract1D:
    return Extract1D.from_reference(None, FIXED_SLIT, apply_apcorr=False, **keys)


def test_advice_of_an_aperture_that_misses_the_source(made: Path) -> None:
    image = SlitImage.read(made / "a_s2d.fits")  # the source is at column 13.05
    (text,) = map(str, advice(image, operator(use_source_posn=False)))
    assert text.startswith("the aperture (columns 27.00 to 34.00) misses the source, which the ")
    assert "puts at column 13.05 in row 193 (use_source_posn=True moves" in text
    assert advice(image, operator()) == []  # it moves there
    found = {
        edge: advice(image, operator(use_source_posn=False, xstart=edge, xstop=edge + 7))
        for edge in (5.5, 5.6, 13.5, 13.6)  # half a width, 4 columns, from the middle
    }
    assert [bool(found[edge]) for edge in found] == [True, False, False, True]
    taper = [[11.0], [12.0, 0.01]]  # around 12.5 in row 193
    assert advice(image, operator(use_source_posn=False, src_coeff=taper)) == []
    taper = [[11.0], [13.0, -0.001]]
    assert len(advice(image, operator(use_source_posn=False, src_coeff=taper))) == 1
    pair = [[2.0], [4.0], [22.0], [24.0]]  # on either side of it
    assert advice(image, operator(use_source_posn=False, src_coeff=pair)) == []
    slitless = SlitImage.read(made / "c_calints.fits")
    assert advice(slitless, Extract1D.from_reference(None, SLITLESS, apply_apcorr=False)) == []


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"bkg_coeff": [[0.5], [8.5], [17.5], [20.0]]}, []),  # the aperture goes from 8.5 to 17.5
        ({"bkg_coeff": [[0.5], [8.7]]}, ["columns 1.00 to 8.20) overlaps the aperture (columns 9"]),
        ({"bkg_coeff": [[0.5], [4.5], [17.3], [20.0]]}, ["columns 17.80 to 19.50) overlaps"]),
        ({"bkg_coeff": [[0.5], [8.7], [12.0], [14.0]]}, ["columns 1.00", "columns 12.50"]),
        ({"bkg_coeff": [[0.5], [8.7]], "subtract_background": False}, []),
        ({"bkg_coeff": [[0.5], [8.7]], "bkg_fit": "median"}, []),  # without pixel 9
        ({"bkg_coeff": [[0.5], [9.5]], "bkg_fit": "median"}, ["columns 1.00 to 9.00) overlaps"]),
        ({"bkg_coeff": [[0.5], [8.5, 0.01]]}, ["in 385 of 387 rows"]),
        ({"bkg_coeff": [[17.5], [20]], "xstart": 22, "xstop": 30}, ["misses the source"]),
        (
            {"bkg_coeff": [[12.5], [16]], "xstart": 22, "xstop": 30},
            ["misses the source", "columns 13.00 to 15.50) lies on the source, which the header"],
        ),
    ],
)
def test_advice_of_background_regions(made: Path, keys: dict[str, Any], found: list[str]) -> None:
    image = SlitImage.read(made / "a_s2d.fits")
    keys = {"xstart": 9, "xstop": 17, "use_source_posn": False, **keys}
    texts = [str(note) for note in advice(image, operator(**keys))]
    assert len(texts) == len(found)
    for text, part in zip(texts, found, strict=True):
        assert part in text


@pytest.mark.slow
def test_advice_is_printed(made: Path, here: Path) -> None:
    regions = ["--set", "bkg_coeff=[[0.5],[4.5],[33.5],[38.5]]"]
    result = run("extract", made / "a_s2d.fits", *QUIET, *FIXED, *regions)
    assert result.exit_code == 0
    lines = result.stderr.splitlines()
    (line,) = (x for x in lines if "does not contain the source" in x)
    assert "(--set use_source_posn=true moves it to the header position of the source" in line
    assert "the background region (columns 34.00 to 38.00) overlaps the aperture" in result.stderr
    assert cells_of(*result.stdout.splitlines())["warnings"] == str(len(lines))
    result = run("extract", made / "a_s2d.fits", *QUIET, "-o", "moved.fits")
    image = SlitImage.read(made / "a_s2d.fits")
    moved = operator().place(image).offset
    cells = cells_of(*result.stdout.splitlines())
    assert cells["columns"] == f"{27 + moved:.2f} - {34 + moved:.2f}"
    assert cells["moved"] == f"{moved:+.2f}"

    source = here.parent / "x_s2d.fits"
    with fits.open(made / "a_s2d.fits") as hdulist:
        hdulist["SCI"].header["SRCTYPE"] = "EXTENDED"  # then the default aperture stays
        hdulist.writeto(source)
    text = run("info", source).stdout
    assert "warning           the aperture (columns 27.00 to 34.00) misses the source" in text
    (found,) = json.loads(run("info", "--json", source).stdout)
    kinds = {one["kind"]: one["text"] for one in found["findings"]}
    assert kinds["aperture_off_header"].endswith(" in row 193")
    (here / "r.json").write_text(json.dumps({"apertures": [{"id": "ANY", "use_source_posn": False,
                                 "xstart": 20, "xstop": 28}]}))  # fmt: skip
    result = run("reference", "check", "r.json", "--image", made / "a_s2d.fits")
    assert "a_s2d.fits: the aperture (columns 20.00 to 28.00) misses" in result.stderr


@pytest.mark.slow
def test_uncalibrated_images(made: Path, here: Path) -> None:
    source = here.parent / "x_s2d.fits"
    with fits.open(made / "a_s2d.fits") as hdulist:
        hdulist[0].header["S_PHOTOM"] = "SKIPPED"
        hdulist["SCI"].header["BUNIT"] = "DN/s"
        hdulist.writeto(source)
    note = "not photometrically calibrated (S_PHOTOM is SKIPPED): the spectrum is in DN/s"
    result = run("extract", source, made / "b_s2d.fits", *QUIET)
    assert result.stderr == ""  # an info
    head, first, second = result.stdout.splitlines()
    assert [cells_of(head, line)["unit"] for line in (first, second)] == ["DN/s", "Jy"]
    assert f"info              {note}" in run("info", source).stdout


@pytest.mark.slow
def test_the_correction_is_that_of_the_subarray(made: Path, here: Path) -> None:
    table = ApertureCorrection.read(made / "slit.fits")
    others = [
        ApertureCorrection(
            wavelength=table.wavelength, size=table.size, factor=table.factor * factor,
            subarray=name,
        )
        for name, factor in (("FULL", 1.0), ("SLITLESSPRISM", 2.0), ("SUB256", 3.0))
    ]  # fmt: skip
    write_apcorr(others, "all.fits")
    fluxes = {}
    for name in ("FULL", "SUB256"):
        with fits.open(made / "a_s2d.fits") as hdulist:
            hdulist[0].header["SUBARRAY"] = name
            hdulist.writeto(f"{name}_s2d.fits")
        for command in (["extract", f"{name}_s2d.fits"], ["plot", f"{name}_s2d.fits"]):
            result = run(*command, "--apcorr", "all.fits")
            assert result.exit_code == 0, result.stderr
        fluxes[name] = read_single(f"{name}_x1d.fits").columns["FLUX"]
    np.testing.assert_allclose(fluxes["SUB256"], 3 * fluxes["FULL"], rtol=1e-6)
    provenance = read_single("SUB256_x1d.fits").provenance
    assert provenance["references"]["apcorr"]["filename"] == "all.fits"
    line = refused("extract", "SUB256_s2d.fits", "--apcorr", made / "slit.fits", "-o", "y.fits")
    assert "no row for SUBARRAY SUB256" in line


# --- words -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_warnings_use_the_syntax_of_the_command_line(made: Path, here: Path) -> None:
    with fits.open(made / "a_s2d.fits") as hdulist:
        hdulist["SCI"].data[100:200, 12:15] = np.nan
        hdulist["SCI"].header["SRCTYPE"] = "BANANA"
        hdulist.writeto("x_s2d.fits")
    result = run("extract", "x_s2d.fits", "--set", "use_source_posn=true")
    assert "(--set max_lost=0 masks these rows)" in result.stderr
    assert "moves it to the source" not in result.stderr  # it was given
    result = run("extract", "x_s2d.fits", "--set", "use_source_posn=false", "-o", "y.fits")
    assert "(--set use_source_posn=true moves it to the source)" in result.stderr
    assert not re.search("=(True|False|None)", result.stderr)
    assert "(max_lost=0 masks" in " ".join(map(str, read_single("x_x1d.fits").findings))
    text = " ".join(run("info", "x_x1d.fits").stdout.split())
    assert "the flux is too low there" in text
    assert "options fixed_background=false, max_lost=null" in text  # no words of ours: as stored
    edit = ["reference", "edit", "--exp-type", FIXED_SLIT]
    line = refused(*edit, "--set", "position_offset=1.5")
    assert "(give --image FILE to include the shifts in the limits)" in line
    line = refused(*edit, "--set", "max_lost=0.25", "-o", "x.json")
    assert "glue-lrs extract --set max_lost=0.25" in line
    line = refused("reference", "show", "max_lost=0.json")  # the name of a file stays what it is
    assert "error: max_lost=0.json: does not exist" in line


@pytest.mark.slow
def test_hints_name_only_options_of_the_command(made: Path, here: Path) -> None:
    with fits.open(made / "a_s2d.fits") as hdulist:
        hdulist["SCI"].header["SRCTYPE"] = "BANANA"
        hdulist.writeto("x_s2d.fits")
    (here / "r.json").write_text(json.dumps({"apertures": [{"id": "ANY", "xstart": 20}]}))
    hint = "(--set use_source_posn=true moves it to the source)"
    for command, has_set in (
        (["extract", "x_s2d.fits", *QUIET], True),
        (["plot", "x_s2d.fits"], True),
        (["info", "x_s2d.fits"], False),
        (["measure", "x_s2d.fits", "--no-plot"], False),
        (["reference", "check", "r.json", "--image", "x_s2d.fits"], False),
    ):
        result = run(*command)
        assert result.exit_code == 0
        assert "SRCTYPE" in result.stderr
        assert (hint in result.stderr, "--set" in result.stderr) == (has_set, has_set)


@pytest.mark.parametrize(
    "args",
    [
        ["extract", "a_s2d.fits", "-o", ""],
        ["extract", "a_s2d.fits", "--output-dir", ""],
        ["extract", "a_s2d.fits", "--extract1d", ""],
        ["extract", "a_s2d.fits", "--apcorr", ""],
        ["extract", ""],
        ["info", ""],
        ["plot", "a_s2d.fits", "-o", ""],
        ["reference", "show", ""],
        ["reference", "check", ""],
        ["reference", "check", "r.json", "--image", ""],
        ["reference", "edit", "--set", "xstart=3", "-o", ""],
        ["demo", "--output-dir", ""],
    ],
)
def test_empty_names(made: Path, here: Path, args: list[str]) -> None:
    (here / "a_s2d.fits").write_bytes((made / "a_s2d.fits").read_bytes())
    assert "'', expected the name of a fi" in refused(*args).replace("folder", "file")
    assert list(tree(here)) == ["a_s2d.fits"]


@pytest.mark.slow
def test_names_that_are_not_utf8(made: Path, here: Path) -> None:
    """They are neither text nor valid YAML, and "$" starts mathematical text in a figure."""
    name = os.fsdecode(b"odd\xff$x^$_s2d.fits")
    (here / name).write_bytes((made / "a_s2d.fits").read_bytes())
    result = run("extract", name, "--plot", *QUIET)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("odd\\udcff$x^$_") == 2
    head, line = result.stdout.splitlines()
    assert cells_of(head, line)["rows"] == "387"
    assert head.index("output") == line.index("odd", 1)  # in columns
    spectrum = name.replace("s2d", "x1d")
    assert sorted(tree(here)) == sorted([name, spectrum, spectrum.replace("fits", "png")])
    found = read_single(spectrum)
    assert found.provenance["input"]["filename"].endswith("/odd\\udcff$x^$_s2d.fits")
    assert same(rerun(found.provenance, input=name), found)
    for args in (["info", name, spectrum], ["plot", name], ["info", "--json", spectrum]):
        result = run(*args)
        assert result.exit_code == 0, result.stderr
        assert "odd\\udcff$x^$_" in result.stdout
    missing = os.fsdecode(b"\xfe.fits")
    assert "\\udcfe.fits: does not exist" in refused("info", missing)
    run("extract", made / "b_s2d.fits", *QUIET)
    assert run("plot", spectrum, "b_x1d.fits", "-o", "both.png").exit_code == 0
    command = [sys.executable, "-c", "from glue_lrs.cli import main; main()", "info", name]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    shown = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert shown.stdout.startswith(b"odd\\udcff$x^$_s2d.fits\n")


# --- Ctrl-C ------------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[None]:
    """Ctrl-C as in a terminal; background jobs of a shell ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("swallowed", [False, True, None])
def test_interrupted_while_writing(
    made: Path, here: Path, monkeypatch: pytest.MonkeyPatch, swallowed: bool | None
) -> None:
    """A library may convert it to another error (True), or suppress it (None)."""
    kept = fits.HDUList.writeto

    def half(self: fits.HDUList, name: Path, *args: Any, **kwargs: Any) -> None:
        Path(name).write_bytes(b"half of it")
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        except KeyboardInterrupt:
            if swallowed is False:
                raise
            if swallowed:
                raise ValueError("something else") from None
            kept(self, name, overwrite=True)

    monkeypatch.setattr(fits.HDUList, "writeto", half)
    before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    files = [made / "a_s2d.fits", made / "b_s2d.fits"]
    result = run("extract", *files, *QUIET, "--output-dir", "new/er")
    assert result.exit_code == 130
    assert not result.stdout or swallowed is None
    assert result.stderr == "glue-lrs: error: interrupted\n"
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before
    if swallowed is None:
        assert sorted(tree(here)) == ["new/er/a_x1d.fits", "new/er/b_x1d.fits"]
    else:
        assert list(here.iterdir()) == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_terminated_while_writing(
    made: Path, here: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    number = getattr(signal, name)

    def half(self: fits.HDUList, name: Path, *args: Any, **kwargs: Any) -> None:
        Path(name).write_bytes(b"half of it")
        os.kill(os.getpid(), number)
        time.sleep(60)

    monkeypatch.setattr(fits.HDUList, "writeto", half)
    before = signal.signal(number, signal.SIG_DFL), signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        result = run("extract", made / "a_s2d.fits", *QUIET, "--output-dir", "new")
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before[0])
        signal.signal(signal.SIGINT, before[1])
    assert result.exit_code == 128 + number
    assert result.stderr == "glue-lrs: error: terminated\n"
    assert list(here.iterdir()) == []


def test_interrupted_while_parsing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("click.Group.make_context", stop)
    assert refused("info", "x.fits", code=130) == "glue-lrs: error: interrupted"


#: What ends a program in the middle: at an import, or when a process has written half a file.
PROGRAM = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
sys.meta_path.insert(0, Stop())
from glue_lrs.cli.program import main
from glue_lrs.measurement.curve_of_growth import measure_with_growth
if {slow}:
    from astropy.io import fits
    def half(self, name, *args, **kwargs):
        open(name, "wb").write(b"half of it")
        open("begun", "w").close()
        time.sleep(60)
    fits.HDUList.writeto = half
if __name__ == "__main__":
    sys.exit(main())
"""


def program(here: Path, name: str, slow: bool, *args: object) -> subprocess.Popen[str]:
    """Start glue-lrs in its own process group, like a terminal."""
    path = here.parent / "glue-lrs"
    path.write_text(PROGRAM.format(name=name, slow=slow))
    return subprocess.Popen(
        [sys.executable, str(path), *map(str, args)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["specutils", "glue_lrs.extraction.extract1d", "glue_lrs.extraction.regions"]
)
def test_interrupted_while_it_is_imported(made: Path, here: Path, name: str) -> None:
    """Of the package's imports, the command's own ones, and those in the middle of a file."""
    process = program(here, name, False, "extract", made / "a_s2d.fits", *QUIET)
    assert process.communicate(timeout=50) == ("", "glue-lrs: error: interrupted\n")
    assert process.returncode == 130
    assert list(here.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("group", [True, False])
def test_interrupted_while_processes_write(made: Path, here: Path, group: bool) -> None:
    files = [made / "a_s2d.fits", made / "b_s2d.fits", made / "c_calints.fits"]
    process = program(
        here, "none", True, "extract", *files, *QUIET, "--jobs", 2, "--output-dir", "new"
    )
    end = time.monotonic() + 150
    while not (here / "begun").exists() and time.monotonic() < end:
        time.sleep(0.05)
    if not (here / "begun").exists():
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"nothing was written: {process.communicate()}")
    assert list((here / "new").iterdir())  # half of it
    if group:  # as a terminal does
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=50) == ("", "glue-lrs: error: interrupted\n")
    assert process.returncode == 130
    assert list(tree(here)) == ["begun"]


# --- info --------------------------------------------------------------------------------------


def test_info_of_an_image(made: Path, here: Path) -> None:
    source = here.parent / "x_calints.fits"
    with fits.open(made / "c_calints.fits") as hdulist:
        hdulist["SCI"].data[0, 100, :5] = np.nan
        hdulist["DQ"].data[1, 100, 28:32] |= 5
        hdulist[0].header["R_FLAT"] = "crds://jwst_miri_flat_0001.fits"
        hdulist.writeto(source)
    text = run("info", source).stdout
    assert "calints: stack of integrations" in text
    assert "3 integrations of 416 rows (dispersion) x 72 columns" in text
    assert "columns 30.00 to 41.00 (inclusive limits: xstart, xstop), not moved" in text
    assert "which is 29.50 to 41.50 (edges: src_coeff)" in text
    assert "9 of 89856: 5 NaN in SCI and 4 flagged in DQ" in text
    assert "2 of the 13968 in the default aperture" in text  # 388 rows of 12 columns, 3 times
    assert "integrations 1 to 3 of 3, MJD 60994.6" in text
    assert "R_FLAT=jwst_miri_flat_0001.fits" in text


@pytest.mark.slow
def test_info_as_json(made: Path, here: Path) -> None:
    run("extract", made / "a_s2d.fits", *QUIET)
    result = run("info", "--json", made / "a_s2d.fits", "a_x1d.fits", "c_calints.fits")
    assert result.exit_code == 1
    assert result.stderr == "glue-lrs: error: c_calints.fits: does not exist\n"
    image, spectrum = json.loads(result.stdout)
    placed = image["default_aperture"]
    # The built-in aperture is 8 columns wide and moves to the source, which is at column 13.
    assert placed["limits"][1] - placed["limits"][0] == pytest.approx(7)
    assert np.mean(placed["limits"]) == pytest.approx(image["expected_source"]["column"])
    assert placed["edges"] == pytest.approx([placed["limits"][0] - 0.5, placed["limits"][1] + 0.5])
    assert image["expected_source"]["column"] == pytest.approx(22 - 1.97 / 2 / 0.11)
    # One convention for all: pixel numbers from 0, the last one included.
    assert placed["rows"] == [0, 386]
    assert image["bounding_box"] == {"columns": [0, 44], "rows": [0, 386]}
    for key in ("limits", "edges", "rows"):
        assert spectrum["aperture"][key] == pytest.approx(placed[key])
    cards = fits.getheader("a_x1d.fits", "EXTRACT1D")
    assert cards["EXTRXSTR"] == pytest.approx(placed["limits"][0] + 1)
    assert [one["kind"] for one in image["findings"] if one["severity"] != "info"] == []
    assert spectrum["made_by_glue_lrs"]["parameters"]["reference"]["xstart"] == 27
    assert spectrum["made_by_glue_lrs"]["input"]["filename"].endswith("a_s2d.fits")
    found = read_single("a_x1d.fits")
    ratio = found.columns["FLUX"] / found.columns["FLUX_ERROR"]
    assert spectrum["median_sn"] == [pytest.approx(np.median(ratio[~found.mask]))]
    text = run("info", "a_x1d.fits").stdout
    assert "FLUX FLUX_ERROR [Jy]" in text
    assert "made by           glue_lrs" in text
    assert "apply_apcorr=false" in text


# --- reference ---------------------------------------------------------------------------------


def test_reference_show(here: Path) -> None:
    assert json.loads(run("reference", "show").stdout) == Reference.default().document
    one = json.loads(run("reference", "show", "--exp-type", SLITLESS).stdout)
    assert one["apertures"] == [Reference.default().entry(SLITLESS)]
    (here / "mean.json").write_text(
        json.dumps({"apertures": [{"id": "ANY", "bkg_coeff": [[1], [4]], "bkg_fit": "mean"}]})
    )
    shown = json.loads(run("reference", "show", "mean.json").stdout)["apertures"][0]
    assert (shown["bkg_fit"], shown["bkg_order"]) == ("poly", 0)  # the pipeline knows no mean
    assert "no aperture has the id 'x'" in refused("reference", "show", "--exp-type", "x")


@pytest.mark.slow
def test_reference_edit(made: Path, here: Path) -> None:
    edit = ["reference", "edit", "--exp-type", FIXED_SLIT]
    result = run(*edit, "--set", "xstart=25", "--set", "bkg_order=null", *FIXED, "-o", "new.json")
    assert result.exit_code == 0
    new, old = Reference.read("new.json"), Reference.default()
    expected = old.entry(FIXED_SLIT) | {"xstart": 25, "use_source_posn": False}
    del expected["bkg_order"]
    assert new.entry(FIXED_SLIT) == expected
    assert new.entry(SLITLESS) == old.entry(SLITLESS)

    shown = run(
        "reference", "edit", "new.json", "--exp-type", FIXED_SLIT, "--set", "position_offset=-2.5"
    )
    assert json.loads(shown.stdout)["apertures"][0]["xstart"] == 22.5

    image = made / "b_s2d.fits"
    shown = run("reference", "edit", "--image", image, "--set", "position_offset=1")
    (here / "folded.json").write_text(shown.stdout)
    run("extract", image, *QUIET, "--set", "position_offset=1", "-o", "step.fits")
    run("extract", image, *QUIET, "--extract1d", "folded.json", "-o", "folded.fits")
    np.testing.assert_allclose(
        read_single("folded.fits").columns["FLUX"],
        read_single("step.fits").columns["FLUX"],
        rtol=1e-9,
    )

    before = tree(here)
    for args, message in (
        (["--set", "xstat=1", "-o", "bad.json"], "did you mean 'xstart'"),
        (["--set", "xstop=20", "-o", "bad.json"], "xstop is 20"),
        (["--set", "position_offset=1", "-o", "bad.json"], "position_offset=1"),
        (["--set", "xstart=20", "-o", "new.json"], "new.json: exists"),
        (["--set", "xstart=20", "-o", "bad.txt"], ".json"),
        ([], "nothing to change"),
    ):
        assert message in refused(*edit, *args)
    assert "expected --exp-type" in refused("reference", "edit", "--set", "xstart=1")
    assert tree(here) == before


def test_reference_check(made: Path, here: Path) -> None:
    def write(**keys: Any) -> str:
        document = {"apertures": [{"id": FIXED_SLIT, "use_source_posn": False, **keys}]}
        (here / "r.json").write_text(json.dumps(document))
        return "r.json"

    result = run("reference", "check", write(xstart=9, xstop=17))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "ok\n", "")
    result = run("reference", "check", "r.json", "--image", made / "a_s2d.fits")
    assert "columns 9.00 to 17.00, rows 0 to 386" in result.stdout
    assert result.stdout.endswith("\nok\n")
    result = run("reference", "check", write(xstart=9, xstop=17, bkg_fit="median"))
    assert "bkg_fit has no effect without bkg_coeff" in result.stderr
    assert (result.exit_code, result.stdout) == (0, "")
    regions = [[0.5], [4.5], [70.5], [75.5]]
    result = run(
        "reference",
        "check",
        write(xstart=9, xstop=17, bkg_coeff=regions),
        "--image",
        made / "a_s2d.fits",
    )
    assert result.exit_code == 0
    assert "has no pixel on the image, whose columns are 0 to 44" in result.stderr
    line = refused("reference", "check", write(xstart=60, xstop=70), "--image", made / "a_s2d.fits")
    assert "no pixel on the image" in line
    assert "xstop is 5" in refused("reference", "check", write(xstart=9, xstop=5))
    result = run(
        "reference", "check", write(xstart=60, xstop=70, bkg_coeff=[[80], [90]]), "--image",
        made / "a_s2d.fits",
    )  # fmt: skip
    assert result.exit_code == 2
    for part in ("source aperture (60.00 to 70.00)", "region (columns 80.50 to 89.50)"):
        assert f"{part} has" in result.stderr
    assert len(result.stderr.splitlines()) == 2
    assert "no aperture has the id" in refused(
        "reference", "check", write(xstart=9), "--image", made / "c_calints.fits"
    )


def test_reference_check_reports_all_errors(here: Path) -> None:
    document = {
        "apertures": [
            {"x": 1},
            {"id": FIXED_SLIT, "xstat": 3, "xstart": "2", "xstop": 5, "bkg_fit": "medan"},
            {"id": FIXED_SLIT, "xstart": 9, "xstop": 5, "ystart": 9, "ystop": 3},
            {"id": FIXED_SLIT, "xstart": None, "src_coeff": [[1], [5]], "ystop": "9"},
            {"id": "MIR_MRS", "anything": 3},
            {"id": "ANY", "xstart": 3},
        ]
    }
    (here / "r.json").write_text(json.dumps(document))
    result = run("reference", "check", "r.json")
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    expected = [
        "apertures[0] has no id",
        "unknown key 'xstat' (did you mean 'xstart'?)",
        "xstart is '2', expected a number",
        "bkg_fit is 'medan'",
        "xstop is 5, expected at least xstart, which is 9",
        "ystop is 3, expected at least ystart, which is 9",
        "ystop is '9', expected a number",
    ]
    assert len(lines) == len(expected)
    for line, part in zip(lines, expected, strict=True):
        assert line.startswith("glue-lrs: error: r.json: ")
        assert part in line
    assert reference_errors(Reference.default().document, "r.json") == []
    for broken in ([], {}, {"apertures": 3}, {"apertures": []}):
        (here / "r.json").write_text(json.dumps(broken))
        with pytest.raises(LRSError) as caught:
            Reference.read("r.json")
        assert refused("reference", "check", "r.json") == f"glue-lrs: error: {caught.value}"
    (here / "r.json").write_text('{"apertures": [')
    assert "is not JSON" in refused("reference", "check", "r.json")


# --- plot --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_plot_images_and_spectra(made: Path, here: Path) -> None:
    for name in "ab":
        run("extract", made / f"{name}_s2d.fits", *QUIET)
    run("extract", made / "c_calints.fits", *QUIET, *SKY)
    for name in ("a_x1d.fits", "b_x1d.fits", "c_x1dints.fits"):
        assert (here / name).exists()
    for args, name in (
        ([made / "b_s2d.fits", "--set", "bkg_coeff=[[0.5],[4.5]]", *FIXED], "b_s2d.png"),
        ([made / "c_calints.fits", "--integration", "2", *SKY], "c_calints.png"),
        (["a_x1d.fits"], "a_x1d.png"),
        (["a_x1d.fits", "b_x1d.fits", "-o", "ab.svg"], "ab.svg"),
        (
            ["a_x1d.fits", "b_x1d.fits", "--offset", "0.2", "--xlim", "5,12", "-o", "o.svg"],
            "o.svg",
        ),
        (
            [
                made / "a_s2d.fits",
                "--rows",
                "9,200",
                "--stretch",
                "log",
                "--column",
                "npixels",
                "--xlim",
                "5,12",
                "--ylim=-5,20",
                "-o",
                "rows.svg",
            ],
            "rows.svg",
        ),
        (["c_x1dints.fits"], "c_x1dints.png"),
        (["a_x1d.fits", "b_x1d.fits"], "a_x1d_b_x1d.png"),
        (
            ["c_x1dints.fits", "--column", "background", "--integration", "3", "-o", "3.png"],
            "3.png",
        ),
    ):
        result = run("plot", *args)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == f"wrote {name}\n"
        assert result.stderr == ""
    svg = (here / "ab.svg").read_text()
    assert "ratio to" in svg
    assert "b_x1d.fits +" in (here / "o.svg").read_text()
    rows = (here / "rows.svg").read_text()
    assert all(text in rows for text in ("row 200, ", "row 9, ", "pixels used"))
    before = tree(here)
    for args, message in (
        (["a_x1d.fits"], "a_x1d.png: exists"),
        (["a_x1d.fits", made / "a_s2d.fits"], "expected one kind"),
        (["a_x1d.fits", "-o", "x.foo"], "expected a picture"),
        (["a_x1d.fits", "--column", "FLIX", "-o", "x.png"], "did you mean 'flux'"),
        (
            ["c_x1dints.fits", "--integration", "4", "-o", "x.png"],
            "c_x1dints.fits: --integration is 4, expected 1 to 3",
        ),
        (
            [made / "c_calints.fits", "--integration", "4", "-o", "x.png"],
            "c_calints.fits: --integration is 4, expected 1 to 3",
        ),
        (["a_x1d.fits", "--integration", "1", "-o", "x.png"], "a_x1d.fits: is not a stack"),
        ([made / "a_s2d.fits", "--integration", "2", "-o", "x.png"], "a_s2d.fits: is not a stack"),
        (["c_x1dints.fits", "--integration", "0", "-o", "x.png"], "--integration is 0"),
        (["a_x1d.fits", "--set", "xstart=3", "-o", "x.png"], "for images"),
        (["a_x1d.fits", "--rows", "3", "-o", "x.png"], "--rows and --stretch are for images"),
        (["a_x1d.fits", "--offset", "3", "-o", "x.png"], "for several spectra, but there is one"),
        (["a_x1d.fits", "--xlim", "nan,3", "-o", "x.png"], "expected two ascending numbers"),
        ([made / "a_s2d.fits", "--offset", "3", "-o", "x.png"], "not for images"),
        ([made / "a_s2d.fits", "--rows", "3,3", "-o", "x.png"], "1 to 12 different rows"),
        ([made / "a_s2d.fits", "--rows", "999", "-o", "x.png"], "row is 999, expected 0 to"),
        ([made / "a_s2d.fits", made / "b_s2d.fits", "-o", "x.png"], "2 images"),
        ([made / "a_s2d.fits", "--set", "xstart=90", *FIXED, "-o", "x.png"], "xstop is 34"),
    ):
        assert message in refused("plot", *args)
    assert tree(here) == before
    before = (here / "a_x1d.png").read_bytes()
    assert run("plot", "a_x1d.fits", "--overwrite", "--column", "NPIXELS").exit_code == 0
    assert (here / "a_x1d.png").read_bytes() != before


@pytest.mark.slow
def test_plot_published_spectra_beside_an_x1d(made: Path, here: Path) -> None:
    run("extract", made / "a_s2d.fits", *QUIET)
    Path("with.csv").write_text("wavelength[um],flux[mJy],error[mJy]\n5,3,1\n7,2,1\n9,1,1\n")
    Path("without.txt").write_text("wave flux\n5 3\n7 2\n9 1\n")
    result = run("plot", "a_x1d.fits", "with.csv", "-o", "with.svg")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "wrote with.svg\n", "")
    svg = (here / "with.svg").read_text()
    assert "with.csv" in svg
    assert "a_x1d.fits: interpolated linearly" in svg
    units = ["--units", "um,mJy"]
    result = run("plot", "a_x1d.fits", "without.txt", "with.csv", *units, "-o", "all.png")
    assert (result.exit_code, result.stderr) == (0, "")
    before = tree(here)
    for args, message in (
        (["a_x1d.fits", "without.txt"], "no unit, expected a name such as 'wave[UNIT]' (--units"),
        (["a_x1d.fits", "without.txt", "--units", "um"], "expected two units"),
        (["a_x1d.fits", "without.txt", "--units", "um,m"], "without.txt: the flux is in m"),
        (["a_x1d.fits", *units], "--units is for text files"),
        ([made / "a_s2d.fits", "with.csv"], "with.csv a spectrum"),
        (["a_x1d.fits", "with.csv", "--column", "BACKGROUND"], "expected one of FLUX"),
    ):
        assert message in refused("plot", *args, "-o", "x.png")
    assert tree(here) == before


# --- export ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_export(made: Path, here: Path) -> None:
    run("extract", made / "a_s2d.fits", made / "c_calints.fits", *QUIET)
    files = ["a_x1d.fits", "c_x1dints.fits"]
    for form in ("ecsv", "csv", "txt"):
        result = run("export", *files, "--to", form, "--output-dir", "tables")
        names = [f"tables/a_x1d.{form}", f"tables/c_x1dints.{form}"]
        lines = "".join(f"wrote {name}\n" for name in names)
        assert (result.exit_code, result.stdout, result.stderr) == (0, lines, "")
        for name in names:
            assert run("plot", name, "-o", f"{name}.png").exit_code == 0
    assert run("export", "a_x1d.fits", "--to", "csv", "-o", "one.csv").exit_code == 0
    assert Path("one.csv").read_bytes() == Path("tables/a_x1d.csv").read_bytes()
    before = tree(here)
    (here / "b").mkdir()
    for args, message in (
        (["a_x1d.fits", "--to", "csv", "-o", "one.csv"], "one.csv: exists"),
        ([*files, "--to", "csv", "-o", "x.csv"], "there are 2"),
        (["a_x1d.fits", "--to", "csv", "-o", "x", "--output-dir", "y"], "exclude each other"),
        (["a_x1d.fits", "b/a_x1d.fits", "--to", "csv"], "several files give a_x1d.csv"),
        (["a_x1d.fits", "--to", "csv", "-o", "a_x1d.fits"], "would replace the input"),
        (["a_x1d.fits", "--to", "csv", "-o", "new/x.csv"], "new does not exist"),
        ([made / "a_s2d.fits", "--to", "csv", "--output-dir", "new"], "EXTRACT1D"),
        (["a_x1d.fits"], "--to"),
        (["a_x1d.fits", "--to", "fits"], "'fits' is not one of"),
        ([made / "a_s2d.fits", "--to", "csv"], "EXTRACT1D"),
    ):
        assert message in refused("export", *args)
    (here / "b").rmdir()
    assert tree(here) == before
    assert not (here / "new").exists()
    result = run("export", "a_x1d.fits", made / "a_s2d.fits", "--to", "csv")
    assert result.exit_code == 1
    assert Path("a_x1d.csv").exists()


@pytest.mark.slow
def test_plots_of_files_of_the_same_name(made: Path, here: Path) -> None:
    for folder, name in (("a", "a"), ("b", "b"), ("c/b", "a")):
        (here / folder).mkdir(parents=True)
        (here / folder / "x.fits").write_bytes((made / f"{name}_s2d.fits").read_bytes())
    result = run("plot", "a/x.fits", "b/x.fits", "c/b/x.fits", made / "b_s2d.fits")
    assert result.exit_code == 0, result.stderr
    names = ["a_x.png", "here_b_x.png", "c_b_x.png", "b_s2d.png"]
    assert result.stdout.splitlines() == [f"wrote {name}" for name in names]
    assert (here / "a_x.png").read_bytes() != (here / "here_b_x.png").read_bytes()
    assert "a/../a/x.fits is given twice" in refused("plot", "a/../a/x.fits", "a/x.fits")


def test_plot_show_needs_windows(made: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import pyplot
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    monkeypatch.setattr(pyplot, "get_backend", lambda: "agg")
    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", None)
    pyplot.switch_backend("agg")
    assert "opens no windows" in refused("plot", made / "a_s2d.fits", "--show")
    assert pyplot.get_fignums() == []
    shown: list[list[int]] = []
    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", "a toolkit")
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.get_fignums()))
    assert run("plot", made / "a_s2d.fits", made / "b_s2d.fits", "--show").exit_code == 0
    assert shown == [[1, 2]]
    pyplot.close("all")
    assert list(here.iterdir()) == []


# --- the program -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [[], ["extract"], ["info"], ["plot"], ["demo"], ["reference"],
                ["reference", "show"], ["reference", "edit"], ["reference", "check"]],
)  # fmt: skip
def test_help_has_an_example(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "  glue-lrs " in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert run(*command, "-h").stdout == result.stdout


@pytest.mark.slow
def test_as_a_program(made: Path, here: Path) -> None:
    code = "from glue_lrs.cli import main; main()"

    def program(*args: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    result = program("extract", made / "a_s2d.fits", "none_s2d.fits", *FIXED)
    assert result.returncode == 1
    *warnings, error, count = result.stderr.splitlines()
    assert warnings
    for line in warnings:
        assert line.startswith(("glue-lrs: error: /", "glue-lrs: warning: /"))
        assert "a_s2d.fits: " in line
    assert error == "glue-lrs: error: none_s2d.fits: does not exist"
    assert count == "1 of 2 files failed"
    assert list(tree(here)) == ["a_x1d.fits"]


# --- combine -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_combine_takes_images_and_spectra(made: Path, here: Path) -> None:
    from glue_lrs.combination.combination import Combination
    from glue_lrs.combination.combine import combine

    one = run("combine", made / "a_s2d.fits", made / "b_s2d.fits", *QUIET, "-o", "ab_c1d.fits")
    assert one.exit_code == 0, one.stderr
    assert "spectrum 2 (" in one.stdout
    for name in "ab":
        assert run("extract", made / f"{name}_s2d.fits", *QUIET).exit_code == 0
    files = ["a_x1d.fits", "b_x1d.fits"]
    options = ["--weights", "inverse_variance", "--plot"]
    missing = refused("combine", *files, *options, "-o", "new/ab_c1d.fits")
    assert "new/ab_c1d.fits: the folder new does not exist" in missing
    (here / "new").mkdir()
    two = run("combine", *files, *options, "-o", "new/ab_c1d.fits")
    assert two.exit_code == 0, two.stderr
    assert (here / "new/ab_c1d.png").read_bytes().startswith(b"\x89PNG")
    images = [SlitImage.read(made / f"{name}_s2d.fits") for name in "ab"]
    for path, weights in (
        ("ab_c1d.fits", "exposure_time"),
        ("new/ab_c1d.fits", "inverse_variance"),
    ):
        expected = combine(
            images,
            weights=weights,
            extract=Extract1D.from_reference(None, FIXED_SLIT, apply_apcorr=False),
        )
        found = Combination.read(here / path)
        np.testing.assert_array_equal(found.columns["FLUX"], expected.columns["FLUX"])


@pytest.mark.slow
def test_combine_draws_integrations_and_keeps_its_inputs(made: Path, here: Path) -> None:
    stack = made / "c_calints.fits"
    assert run("extract", stack, *QUIET, "-o", "c_x1dints.fits").exit_code == 0
    result = run("combine", "c_x1dints.fits", "--plot", "-o", "c_c1d.fits")
    assert result.exit_code == 0, result.stderr
    assert (here / "c_c1d.png").read_bytes().startswith(b"\x89PNG")
    before = tree(here)
    text = refused("combine", "c_x1dints.fits", "-o", here / "c_x1dints.fits", "--overwrite")
    assert "would replace the input c_x1dints.fits" in text
    assert tree(here) == before


@pytest.mark.slow
def test_combine_as_the_pipeline_does(made: Path, here: Path) -> None:
    from glue_lrs.combination.combination import Combination
    from glue_lrs.combination.combine import combine

    images = [SlitImage.read(made / f"{name}_s2d.fits") for name in "ab"]
    extract = Extract1D.from_reference(None, FIXED_SLIT, apply_apcorr=False)
    paths = [made / "a_s2d.fits", made / "b_s2d.fits"]
    options = ["--pipeline", "--sigma-clip", "2"]
    assert run("combine", *paths, *QUIET, *options, "-o", "ab_c1d.fits").exit_code == 0
    with pytest.warns(LRSWarning, match="no input"):  # of two, it clips both or none
        expected = combine(images, mode="pipeline", sigma_clip=2.0, extract=extract)
    found = Combination.read(here / "ab_c1d.fits")
    np.testing.assert_array_equal(found.columns["FLUX"], expected.columns["FLUX"])


@pytest.mark.slow
def test_info_and_plot_of_a_combined_spectrum(made: Path, here: Path) -> None:
    paths = [made / "a_s2d.fits", made / "b_s2d.fits"]
    assert run("combine", *paths, *QUIET, "-o", "ab_c1d.fits").exit_code == 0
    assert run("extract", paths[0], *QUIET).exit_code == 0
    shown = run("info", "ab_c1d.fits")
    assert shown.exit_code == 0, shown.stderr
    assert "c1d: spectra combined to one" in shown.stdout
    assert "spectrum 2 (b_s2d.fits), 38" in shown.stdout
    assert 'weights="exposure_time"' in shown.stdout
    (facts,) = json.loads(run("info", "--json", "ab_c1d.fits").stdout)
    assert facts["product"] == "c1d"
    assert [one["rows_clipped"] for one in facts["made_by_glue_lrs"]["inputs"]] == [0, 0]
    assert facts["columns"]["ERROR"] == "Jy"
    assert run("plot", "ab_c1d.fits").exit_code == 0
    assert run("plot", "ab_c1d.fits", "a_x1d.fits", "-o", "both.png").exit_code == 0
    assert (here / "both.png").stat().st_size > (here / "ab_c1d.png").stat().st_size > 10_000
    expected = "ab_c1d.fits: is a c1d (COMBINE1D), expected an s2d, cal or calints image (SCI)"
    assert refused("extract", "ab_c1d.fits").endswith(expected)


@pytest.mark.slow
def test_combine_of_invalid_inputs(made: Path, here: Path) -> None:
    (here / "old_c1d.fits").write_text("mine")
    nods = [made / "a_s2d.fits", made / "b_s2d.fits"]
    assert "old_c1d.fits: exists" in refused("combine", *nods, *QUIET, "-o", "old_c1d.fits")
    (here / "y.png").write_text("mine")
    assert "y.png: exists" in refused("combine", *nods, *QUIET, "--plot", "-o", "y.fits")
    text = refused("combine", nods[0], made / "c_calints.fits", "--quiet", "-o", "x.fits")
    assert "expected MIR_LRS-FIXEDSLIT" in text
    assert "EXTRACT" in refused("combine", *nods, "--set", "xstrt=3", "-o", "x.fits")
    assert "slit.fits" in refused("combine", nods[0], made / "slit.fits", *QUIET, "-o", "x.fits")
    assert tree(here) == {"old_c1d.fits": b"mine", "y.png": b"mine"}


# --- optimal extraction --------------------------------------------------------------------------


@pytest.mark.slow
def test_extract_optimally(made: Path, here: Path) -> None:
    image = made / "a_s2d.fits"
    optimal = ["--set", "extraction_type=optimal"]
    result = run("extract", image, *optimal, "--plot")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    expected = Extract1D.from_reference(None, FIXED_SLIT, extraction_type="optimal")
    loaded = SlitImage.read(image)
    fitted = expected.fit(loaded)
    assert same(read_single("a_x1d.fits"), fitted.extractions[0])
    assert f"about {fitted.traces[0, 193]:.2f}" in result.stdout
    assert "a_s2d.fits: fitted together with a negative trace at column" in result.stdout
    assert (here / "a_x1d.png").read_bytes().startswith(b"\x89PNG")
    assert run("plot", made / "c_calints.fits", *optimal, "--integration", "2").exit_code == 0
    assert set(tree(here)) == {"a_x1d.fits", "a_x1d.png", "c_calints.png"}
    psf = PSFProfile.sampled(GaussianProfile(), np.linspace(2.5, 14.6, 50), name="MYSLIT")
    write_psf(psf, "other.fits")
    text = refused("extract", image, *optimal, "--psf", "other.fits", "-o", "2.fits")
    assert "other.fits: found no aperture" in text
    write_psf(replace(psf, name=loaded.slit_name), "psf.fits")
    extra = [*optimal, "--psf", "psf.fits", "--set", "model_nod_pair=false"]
    assert run("extract", image, *extra, "-o", "2.fits").exit_code == 0
    theirs = Extract1D.from_reference(
        None, FIXED_SLIT, extraction_type="optimal", psf="psf.fits", model_nod_pair=False
    )
    assert theirs.mode == "pipeline"
    written = read_single("2.fits")
    assert same(written, theirs.run(loaded))
    assert written.provenance["references"]["psf"]["filename"] == "psf.fits"
    nods = [made / "a_s2d.fits", made / "b_s2d.fits"]
    assert run("combine", *nods, *optimal, "-o", "both_c1d.fits").exit_code == 0


def test_invalid_settings_of_optimal_extraction(made: Path, here: Path) -> None:
    image = made / "a_s2d.fits"
    text = refused("extract", image, "--set", "extraction_type=optimal", "--set",
                   "optimal_mode=psf")  # fmt: skip
    assert text.endswith("which needs a PSF reference (give --psf FITS)")
    text = refused("extract", image, "--set", "extraction_type=optimal", "--psf",
                   made / "slit.fits")  # fmt: skip
    assert "slit.fits: REFTYPE is APCORR, expected a PSF reference of MIRI LRS" in text
    text = refused("extract", image, "--set", "extraction_type=optimum")
    assert "(did you mean 'optimal'?)" in text
    assert tree(here) == {}


def test_psf_of_crds(made: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = made / "a_s2d.fits"
    psf = PSFProfile.sampled(GaussianProfile(), np.linspace(2.5, 14.6, 50))
    write_psf(psf, "psf.fits")
    run("reference", "edit", "--exp-type", FIXED_SLIT, "--set", "xstart=20", "-o", "crds.json")
    found: dict[str, str | None] = {"extract1d": "crds.json", "apcorr": None, "psf": "psf.fits"}
    monkeypatch.setattr(glue_lrs.io.crds, "best_references", lambda *_: found)
    optimal = ["--set", "extraction_type=optimal", "--set", "model_nod_pair=false", "--crds"]
    assert run("extract", image, *optimal).exit_code == 0
    record = read_single("a_x1d.fits").provenance
    assert record["references"]["psf"]["filename"] == "psf.fits"
    assert record["parameters"]["options"]["optimal_mode"] == "pipeline"
    found["psf"] = None
    result = run("extract", image, *optimal, "-o", "2.fits")
    assert result.exit_code == 0
    assert "CRDS has no PSF reference for this file; the profile is fitted" in result.stderr


# --- measure -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_measure_prints_and_plots(made: Path, here: Path) -> None:
    result = run("measure", made / "a_s2d.fits")
    assert result.exit_code == 0, result.stderr
    found, curve, _ = measure_with_growth(SlitImage.read(made / "a_s2d.fits"))
    assert f"{found.report()}\n{curve.report()}" in result.stdout
    assert result.stdout.endswith("wrote a_s2d_measured.png\n")
    assert (here / "a_s2d_measured.png").read_bytes().startswith(b"\x89PNG")
    before = tree(here)
    assert "a_s2d_measured.png: exists" in refused("measure", made / "a_s2d.fits")
    assert f"{found.report()}\n{curve.report()}" in run("measure", made / "a_s2d.fits").stdout
    assert tree(here) == before
    both = run("measure", made / "a_s2d.fits", made / "c_calints.fits", "--no-plot", "--json")
    facts = json.loads(both.stdout)
    assert facts[0]["measurement"] == json.loads(json.dumps(found.to_dict()))
    assert len(facts[1]["measurement"]["shift"]) == 3
    assert set(tree(here)) == {"a_s2d_measured.png"}


@pytest.mark.slow
def test_measure_writes_the_drift(made: Path, here: Path) -> None:
    result = run("measure", made / "c_calints.fits", "--no-plot", "--drift", "drift.ecsv")
    assert result.exit_code == 0, result.stderr
    table = QTable.read("drift.ecsv", format="ascii.ecsv")
    assert table["integration"].tolist() == [1, 2, 3]
    assert np.isfinite(table["shift"]).all()
    assert table.meta["image"].endswith("c_calints.fits")
    assert "drift" in refused("measure", made / "a_s2d.fits", "--no-plot", "--drift", "new.ecsv")
    assert set(tree(here)) == {"drift.ecsv"}


@pytest.mark.slow
@pytest.mark.parametrize(("width", "columns"), [("8", 8.0), ("best", None), ("3fwhm", None)])
def test_measure_writes_a_reference(
    made: Path, here: Path, width: str, columns: float | None
) -> None:
    image = made / "a_s2d.fits"
    result = run("measure", image, "--no-plot", "--reference", "my.json", "--width", width,
                 "--apcorr", made / "slit.fits")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith("wrote my.json\n")
    found, curve, _ = measure_with_growth(SlitImage.read(image))
    aperture = Extract1D.from_reference("my.json", FIXED_SLIT, apply_apcorr=False).aperture
    if columns is None and width == "best":
        columns = curve.best
    if columns is None:
        assert aperture == found.tapered(3)
    else:
        low, high = (edge[0] for edge in aperture.src_coeff)
        assert (low + high) / 2 == pytest.approx(found.column, abs=1e-6)
        assert high - low == pytest.approx(columns, abs=0.3)  # the table moves the best a little
    assert run("extract", image, "--extract1d", "my.json", *QUIET).exit_code == 0


@pytest.mark.slow
def test_measure_writes_a_reference_where_the_trace_bends(made: Path, here: Path) -> None:
    """A tapered aperture is a polynomial of the wavelength, so the background must be one too."""
    stack = made / "c_calints.fits"
    for width in ("3fwhm", "best", "30"):
        written = ["--reference", f"{width}.json", "--width", width]
        assert run("measure", stack, "--no-plot", *written).exit_code == 0
        checked = run("reference", "check", f"{width}.json", "--image", stack)
        assert checked.exit_code == 0
        assert checked.stdout.endswith("ok\n"), checked.stderr
        operator = Extract1D.from_reference(f"{width}.json", SLITLESS, apply_apcorr=False)
        assert len(operator.aperture.src_coeff[0]) > 1
        assert operator.background is not None
    wide = run("measure", stack, "--no-plot", "--reference", "66.json", "--width", "66")
    assert "touches another trace or the image's edge" in wide.stderr
    assert "there is no room for background regions" in wide.stderr
    text = refused("measure", stack, "--no-plot", "--reference", "x.json", "--width", "300")
    assert "--width is 300.0 columns, expected at most 6" in text
    assert "x.json" not in tree(here)


def test_measure_with_invalid_options(made: Path, here: Path) -> None:
    image = made / "a_s2d.fits"
    assert "expected best, columns such as 8, or 3fwhm" in refused(
        "measure", image, "--width", "3px"
    )
    assert "--reference names one file, but there are 2" in refused(
        "measure", image, made / "b_s2d.fits", "--reference", "my.json"
    )
    assert "exclude each other" in refused("measure", image, "--no-plot", "-o", "a.png")
    assert "slit.fits: has no SCI extension" in refused("measure", made / "slit.fits", "--no-plot")
    blank = SlitImage.read(image)
    noise = np.random.default_rng(1).normal(size=blank.data.shape).astype(np.float32)
    replace(blank, data=noise, wcs_source=blank.wcs).write("blank_s2d.fits")
    assert "no source" in refused("measure", "blank_s2d.fits", "--reference", "my.json")
    assert set(tree(here)) == {"blank_s2d.fits"}


# --- view (what it opens is tested in tests/viewers/qt) ------------------------------------------


def test_view_without_qt(made: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    (here / "old.png").write_text("mine")
    image = made / "a_s2d.fits"
    assert "old.png: exists, expected a new name (--overwrite replaces it)" in refused(
        "view", image, "--screenshot", "old.png"
    )
    assert refused("view", "none.fits").endswith("none.fits: no such file")
    for name in ("PyQt6", "PySide6", "PyQt5", "PySide2", "qtpy"):
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, f"{name}.QtWidgets", None)
    assert "pip install glue-qt qtpy PyQt6" in refused("view", image, "--screenshot", "new.png")
    assert tree(here) == {"old.png": b"mine"}


@pytest.mark.slow
def test_settings_are_checked_before_the_output(made: Path, here: Path) -> None:
    """An error in a setting is reported, although the output exists."""
    image, wrong = made / "a_s2d.fits", ["--set", "xstat=3"]
    for command, name in (
        (["extract", image, *QUIET, "-o"], "a_x1d.fits"),
        (["combine", image, *QUIET, "-o"], "a_c1d.fits"),
        (["plot", image, "-o"], "a.png"),
    ):
        assert run(*command, name).exit_code == 0
        assert "unknown parameter 'xstat'" in refused(*command, name, *wrong)
        exists = refused(*command, name)
        assert exists.endswith(f"{name}: exists, expected a new name (--overwrite replaces it)")
        missing = refused(*command, f"no/{name}")
        assert missing.endswith(f"no/{name}: the folder no does not exist")
        assert not (here / "no").exists()
    for command, name in ((["measure", image, "-o"], "b.png"), (["measure", image, "--reference"],
                                                                "b.json")):  # fmt: skip
        assert "the folder no does not exist" in refused(*command, f"no/{name}")
    assert run("extract", image, *QUIET, "--output-dir", "new/sub").exit_code == 0


@pytest.mark.slow
def test_hints_do_not_repeat_what_was_given(made: Path, here: Path) -> None:
    with fits.open(made / "a_s2d.fits") as hdulist:
        hdulist["SCI"].data[100:200, 12:15] = np.nan
        hdulist.writeto("x_s2d.fits")
    text = run("extract", "x_s2d.fits", *QUIET).stderr
    assert "(--set bad_pixels=profile restores the flux; --set max_lost=0 masks these rows)" in text
    fixed = run("extract", "x_s2d.fits", *QUIET, "--set", "bad_pixels=profile", "-o", "y.fits")
    assert fixed.exit_code == 0
    assert "bad_pixels" not in fixed.stderr


def test_edited_values_are_not_errors_of_the_reference(here: Path) -> None:
    edit = ["reference", "edit", "--exp-type", FIXED_SLIT]
    for setting, message in (
        ("extract_width=0.5", "error: extract_width is 0.5, expected at least 1 pixel"),
        ("source_type=point", "error: 'source_type' is an option of the extraction"),
        ("xstop=20", "error: the built-in reference: xstop is 20, expected at least xstart"),
    ):
        assert message in refused(*edit, "--set", setting)


def test_many_spectra_have_a_short_name(made: Path, here: Path) -> None:
    assert run("extract", made / "a_s2d.fits", *QUIET).exit_code == 0
    names = [f"{'long' * 8}{letter}_x1d.fits" for letter in "abcd"]
    for name in names:
        (here / name).write_bytes((here / "a_x1d.fits").read_bytes())
    assert run("plot", *names).stdout == f"wrote {'long' * 8}a_x1d_and_3_more.png\n"


@pytest.mark.slow
def test_lines_of_info_have_at_most_100_characters(made: Path, here: Path) -> None:
    for name in ("a_s2d", "c_calints"):
        assert run("extract", made / f"{name}.fits", *QUIET).exit_code == 0
    for path in (made / "a_s2d.fits", made / "c_calints.fits", "a_x1d.fits", "c_x1dints.fits"):
        lines = run("info", path).stdout.splitlines()[1:]  # the first line is the path
        assert max(map(len, lines)) <= 100


def test_messages_name_options_of_the_command_line(tmp_path: Path) -> None:
    """Not arguments of Python functions."""
    path = tmp_path / "a_s2d.fits"
    image = Scene(seed=1).s2d(nod=1).image
    replace(image, var_poisson=None, var_rnoise=None, var_flat=None).write(path)
    options = ["combine", str(path), "-o", str(tmp_path / "c1d.fits"), "--weights"]
    run = CliRunner().invoke(main, [*options, "inverse_variance"])
    assert run.exit_code == 2
    assert "(--weights unit needs none)" in run.stderr
    assert "='" not in run.stderr


def test_extraction_options_for_spectra_have_no_effect(tmp_path: Path) -> None:
    paths = []
    for nod in (1, 2):
        paths.append(str(tmp_path / f"nod{nod}_x1d.fits"))
        image = Scene(seed=1).s2d(nod=nod).image
        Extract1D.from_reference(None, image.exp_type).run(image).write(paths[-1])
    command = ["combine", *paths, "-o", str(tmp_path / "c1d.fits"), "--set", "xstart=25"]
    run = CliRunner().invoke(main, [*command, "--strict"])
    assert run.exit_code == 1
    assert "warning: --set xstart: no effect, because the files contain spectra" in run.stderr
    quiet = CliRunner().invoke(main, [*command, "--overwrite", "--quiet"])
    assert (quiet.exit_code, quiet.stderr) == (0, "")
