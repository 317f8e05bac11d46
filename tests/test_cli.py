"""The command line: what it writes, what it says, how it ends."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner, Result

import glue_lrs.io.crds
from glue_lrs import Extract1D, Extraction, LRSError, Reference, SlitImage
from glue_lrs.cli import main
from glue_lrs.image import FIXED_SLIT, SLITLESS
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.io.x1d import read_single
from glue_lrs.simulate import Scene

FIXED = ["--set", "use_source_posn=false"]
QUIET = ["--set", "apply_apcorr=false"]  # no correction is meant: nothing to warn of


def run(*args: object) -> Result:
    """Run glue-lrs; a traceback is a failure in any case."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert "Traceback" not in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def refused(*args: object, code: int = 2) -> str:
    """Run what must fail with a single line; return the line."""
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
    """Files of a small scene, which no test changes."""
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


# --- extract -----------------------------------------------------------------------------------


def test_extract_is_the_operator(made: Path, here: Path) -> None:
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
    cells = dict(zip(head.split("  "), line.split("  "), strict=False))
    assert cells["file"] == "a_s2d.fits"
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


@pytest.mark.parametrize("jobs", [1, 2])
def test_jobs_say_and_write_the_same(made: Path, here: Path, jobs: int) -> None:
    files = [made / "a_s2d.fits", made / "b_s2d.fits", here / "none_s2d.fits"]
    result = run("extract", *files, "--jobs", jobs, *FIXED)
    assert result.exit_code == 1
    warnings = [line for line in result.stderr.splitlines() if "warning" in line]
    # Told once, and how often: neither once for each file nor in Python's two lines.
    assert len(warnings) == 2
    assert "a_s2d.fits: no aperture correction" in warnings[0]
    assert "the same of 1 more file" in warnings[1]
    assert "none_s2d.fits: does not exist" in result.stderr
    for name in "ab":
        image = SlitImage.read(made / f"{name}_s2d.fits")
        operator = Extract1D.from_reference(
            None, FIXED_SLIT, use_source_posn=False, apply_apcorr=False
        )
        assert same(read_single(f"{name}_x1d.fits"), operator.run(image))


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


def test_plot_beside_the_spectrum(made: Path, here: Path) -> None:
    result = run("extract", made / "a_s2d.fits", made / "c_calints.fits", "--plot", *QUIET)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    names = ["a_x1d.fits", "a_x1d.png", "c_x1dints.fits", "c_x1dints.png"]
    assert sorted(tree(here)) == names
    for name in names[1::2]:
        assert (here / name).read_bytes().startswith(b"\x89PNG")
    (here / "a_x1d.fits").unlink()
    before = tree(here)
    line = refused("extract", made / "a_s2d.fits", "--plot", *QUIET)
    assert "a_x1d.png: exists" in line
    assert tree(here) == before


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
    assert asked == [None, "jwst_1322.pmap"]  # what is given is not asked for
    operator = Extract1D.from_reference("crds.json", FIXED_SLIT, apcorr=made / "slit.fits")
    for name in ("a_x1d.fits", "2.fits", "3.fits"):
        assert same(read_single(name), operator.run(SlitImage.read(image)))
    assert "put --crds behind the files" in refused("extract", "--crds", image, image)

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
def test_unfit_products(made: Path, here: Path, change: Change, message: str) -> None:
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
def test_unfit_options(made: Path, here: Path, args: list[str], message: str) -> None:
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


def test_our_own_faults_are_one_line(
    made: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*args: Any) -> None:
        raise ZeroDivisionError("something is wrong")

    monkeypatch.setattr(Extract1D, "run", fault)
    line = refused("extract", made / "a_s2d.fits", *QUIET)
    assert "a_s2d.fits: ZeroDivisionError: something is wrong (a fault of glue-lrs" in line
    assert "ZeroDivisionError" in refused("plot", made / "a_s2d.fits")
    args = ["--traceback", "extract", str(made / "a_s2d.fits"), *QUIET]
    shown = CliRunner().invoke(main, args).stderr
    assert "Traceback (most recent call last)" in shown
    assert "in fault" in shown


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
    assert "9 of 89856: 5 NaN, 4 with DQ DO_NOT_USE" in text
    assert "2 of the 13968 in the default aperture" in text  # 388 rows of 12 columns, 3 times
    assert "integrations 1 to 3, MJD 60994.6" in text
    assert "R_FLAT=jwst_miri_flat_0001.fits" in text


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
    assert spectrum["limits"][:2] == pytest.approx(np.add(placed["limits"], 1))
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
    assert "no aperture has the id" in refused(
        "reference", "check", write(xstart=9), "--image", made / "c_calints.fits"
    )


# --- plot --------------------------------------------------------------------------------------


def test_plot_images_and_spectra(made: Path, here: Path) -> None:
    for name in "ab":
        run("extract", made / f"{name}_s2d.fits", *QUIET)
    run("extract", made / "c_calints.fits", *QUIET)
    for name in ("a_x1d.fits", "b_x1d.fits", "c_x1dints.fits"):
        assert (here / name).exists()
    for args, name in (
        ([made / "a_s2d.fits", "--set", "bkg_coeff=[[0.5],[4.5]]", *FIXED], "a_s2d.png"),
        ([made / "c_calints.fits", "--integration", "2"], "c_calints.png"),
        (["a_x1d.fits"], "a_x1d.png"),
        (["a_x1d.fits", "b_x1d.fits", "-o", "ab.svg"], "ab.svg"),
        (["c_x1dints.fits"], "c_x1dints.png"),
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
    before = tree(here)
    for args, message in (
        (["a_x1d.fits"], "a_x1d.png: exists"),
        (["a_x1d.fits", made / "a_s2d.fits"], "expected one kind"),
        (["a_x1d.fits", "-o", "x.foo"], "expected a picture"),
        (["a_x1d.fits", "--column", "FLIX", "-o", "x.png"], "did you mean 'flux'"),
        (["c_x1dints.fits", "--integration", "4", "-o", "x.png"], "integration"),
        (["c_x1dints.fits", "--integration", "0", "-o", "x.png"], "--integration is 0"),
        (["a_x1d.fits", "--set", "xstart=3", "-o", "x.png"], "for images"),
        ([made / "a_s2d.fits", made / "b_s2d.fits", "-o", "x.png"], "2 images"),
        ([made / "a_s2d.fits", "--set", "xstart=90", *FIXED, "-o", "x.png"], "xstop is 34"),
    ):
        assert message in refused("plot", *args)
    assert tree(here) == before
    before = (here / "a_x1d.png").read_bytes()
    assert run("plot", "a_x1d.fits", "--overwrite", "--column", "NPIXELS").exit_code == 0
    assert (here / "a_x1d.png").read_bytes() != before


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


def test_as_a_program(made: Path, here: Path) -> None:
    code = "from glue_lrs.cli import main; main()"

    def program(*args: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    result = program("extract", made / "a_s2d.fits", "none_s2d.fits", *FIXED)
    assert result.returncode == 1
    warning, error, count = result.stderr.splitlines()
    assert warning.startswith("glue-lrs: warning: ")
    assert error == "glue-lrs: error: none_s2d.fits: does not exist"
    assert count == "1 of 2 files failed"
    assert list(tree(here)) == ["a_x1d.fits"]
