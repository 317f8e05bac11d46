"""Many files: the manifest, the table of settings, and what is left when something ends a run."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import resource
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable, Table
from click.testing import CliRunner, Result

import glue_lrs
from glue_lrs import Extraction, LRSError
from glue_lrs.cli import main
from glue_lrs.cli.batch import Job, Resources
from glue_lrs.cli.manifest import COLUMNS, Manifest
from glue_lrs.cli.options import RecipeOptions
from glue_lrs.cli.processes import in_processes
from glue_lrs.cli.settings_table import SettingsTable
from glue_lrs.errors import WriteError
from glue_lrs.io.x1d_reader import read_single
from glue_lrs.measurement import aperture_at_source
from glue_lrs.simulation import Scene, Source
from glue_lrs.timeseries import light_curve
from tests.helpers.command_line import extract as run
from tests.helpers.images import slit
from tests.helpers.light_curves import series

NAMES = ("a", "b", "c")
FILES = [f"{name}_s2d.fits" for name in NAMES]
QUIET = ["--set", "apply_apcorr=false"]
RECORDED = [*QUIET, "--manifest", "run.ecsv", "--output-dir", "out"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three images."""
    for number, name in enumerate(FILES):
        image = slit(header=fits.Header({"TARGNAME": f"STAR {number}"}))
        image.data[:] += number
        image.write(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*args: object) -> str:
    """Run a command that must fail with one line, and write nothing; return the line."""
    before = sorted(Path().rglob("*"))
    result = run(*args)
    assert result.exit_code == 2
    assert sorted(Path().rglob("*")) == before
    (line,) = result.stderr.splitlines()
    return line.removeprefix("glue-lrs: error: ")


def manifest() -> Table:
    return Table.read("run.ecsv", format="ascii.ecsv")


def written() -> dict[str, tuple[int, int]]:
    """Number and time of each output, which change when it is written again."""
    found = {path.name: path.stat() for path in sorted(Path("out").iterdir())}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}


def full_disk(monkeypatch: pytest.MonkeyPatch, broken: Callable[[Path], bool]) -> None:
    """Let files of some names be cut off in the middle."""
    kept = fits.HDUList.writeto

    def write(self: fits.HDUList, name: Path, *args: Any, **kwargs: Any) -> None:
        if broken(Path(self[0].header["FILENAME"])):
            Path(name).write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        kept(self, name, *args, **kwargs)

    monkeypatch.setattr(fits.HDUList, "writeto", write)


# --- the manifest ------------------------------------------------------------------------------


def test_a_manifest_describes_each_output() -> None:
    Path("bad_s2d.fits").write_bytes(b"nothing of the kind")
    result = run(*FILES, "bad_s2d.fits", *RECORDED)
    assert result.exit_code == 1
    table = QTable.read("run.ecsv", format="ascii.ecsv")
    assert table.colnames == list(COLUMNS)
    assert table["output"].tolist() == [f"out/{name}_x1d.fits" for name in (*NAMES, "bad")]
    assert table["status"].tolist() == ["done"] * 3 + ["failed"]
    assert table["target"].tolist()[:3] == ["STAR 0", "STAR 1", "STAR 2"]
    for row in table[:3]:
        spectrum = read_single(row["output"])
        assert spectrum.provenance is not None
        assert row["sha256"] == spectrum.provenance["input"]["sha256"]
        ratio = spectrum.columns["FLUX"] / spectrum.columns["FLUX_ERROR"]
        assert row["snr"] == np.median(ratio[~spectrum.mask])
        assert (row["values"], row["masked"]) == (spectrum.mask.size, spectrum.mask.sum())
        assert row["quality"] == spectrum.findings[0].severity
        assert json.loads(row["parameters"]) == {"set": {"apply_apcorr": False}}
        assert row["version"] == glue_lrs.__version__
        assert json.loads(row["packages"])["numpy"] == np.__version__
    (error,) = (line for line in result.stderr.splitlines() if "bad_s2d" in line)
    assert table["messages"][3].startswith("failed: bad_s2d.fits: ")
    assert table["messages"][3].removeprefix("failed: ") in error


def test_a_manifest_in_the_folder_of_the_outputs() -> None:
    words = ["--set", "apply_apcorr=false", "--quiet", "--output-dir", "new/spectra"]
    result = run(FILES[0], *words, "--manifest", "new/spectra/run.ecsv")
    assert result.exit_code == 0, result.stderr
    table = QTable.read("new/spectra/run.ecsv", format="ascii.ecsv")
    assert table["output"].tolist() == [f"{NAMES[0]}_x1d.fits"]


def test_a_second_run_does_what_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    strict = run(*FILES, *RECORDED, "--strict").exit_code
    before = written()
    assert run(*FILES, *RECORDED, "--strict").exit_code == strict == 1  # there is a warning
    result = run(*FILES, *RECORDED)
    assert result.exit_code == 0
    assert result.stdout == "3 of 3 outputs are up to date (--redo repeats them)\n"
    assert written() == before
    slit().write("b_s2d.fits", overwrite=True)
    Path("out/c_x1d.fits").unlink()
    result = run(*FILES, *RECORDED)
    assert result.exit_code == 0
    changed = written()
    assert [name for name in before if changed[name] != before[name]] == [
        "b_x1d.fits",
        "c_x1d.fits",
    ]
    assert len(manifest()) == 3
    before = written()
    run(*FILES, *RECORDED, "--redo")
    assert not set(written().values()) & set(before.values())
    before = written()
    run(*FILES, *RECORDED, "--set", "xstart=9")
    assert not set(written().values()) & set(before.values())
    before = written()
    monkeypatch.setattr("glue_lrs.cli.manifest.__version__", "99")
    run(*FILES, *RECORDED, "--set", "xstart=9")
    assert not set(written().values()) & set(before.values())


def test_a_changed_reference_is_a_changed_parameter() -> None:
    arguments = ["--exp-type", "MIR_LRS-FIXEDSLIT", "-o", "my.json"]
    edit = ["reference", "edit", *arguments, "--set", "use_source_posn=false", "--set"]
    assert CliRunner().invoke(main, [*edit, "xstart=9"]).exit_code == 0
    run(*FILES, *RECORDED, "--extract1d", "my.json")
    before = written()
    assert CliRunner().invoke(main, [*edit, "xstart=8", "--overwrite"]).exit_code == 0
    run(*FILES, *RECORDED, "--extract1d", "my.json")
    assert not set(written().values()) & set(before.values())
    assert read_single("out/a_x1d.fits").keywords["EXTRXSTR"] == 9


def test_files_of_others_are_not_replaced() -> None:
    Path("out").mkdir()
    slit().write("out/a_x1d.fits")
    other = Path("out/a_x1d.fits").read_bytes()
    result = run(*FILES, *RECORDED)
    assert result.exit_code == 1
    assert "out/a_x1d.fits: exists, expected a new name" in result.stderr
    run(*FILES, *RECORDED, "--overwrite")
    spectrum = Path("out/a_x1d.fits")
    assert spectrum.read_bytes() != other
    spectrum.write_bytes(other)  # is no longer the one that the manifest records
    result = run(*FILES, *RECORDED)
    assert result.exit_code == 1
    assert spectrum.read_bytes() == other
    run(*FILES, *RECORDED, "--overwrite")
    # A repetition that fails does not make the output a file of others.
    image = Path("a_s2d.fits").read_bytes()
    Path("a_s2d.fits").write_bytes(image[:5000])
    assert run(*FILES, *RECORDED).exit_code == 1
    assert manifest()["status"].tolist().count("failed") == 1
    Path("a_s2d.fits").write_bytes(image)
    assert run(*FILES, *RECORDED, "--set", "xstart=9").exit_code == 0


def test_a_plot_belongs_to_the_output() -> None:
    run("a_s2d.fits", *RECORDED)
    Path("out/a_x1d.png").write_text("of another program")
    for _ in range(2):  # a run that failed does not make it a plot of the output
        result = run("a_s2d.fits", *RECORDED, "--plot", "--set", "xstart=9")
        assert result.exit_code == 2
        assert "out/a_x1d.png: exists, expected a new name" in result.stderr
        assert Path("out/a_x1d.png").read_text() == "of another program"
    Path("out/a_x1d.png").unlink()
    result = run("a_s2d.fits", *RECORDED, "--plot")
    assert result.exit_code == 0, result.stderr
    before = written()
    assert sorted(before) == ["a_x1d.fits", "a_x1d.png"]
    assert "1 of 1 outputs are up to date" in run("a_s2d.fits", *RECORDED, "--plot").stdout
    Path("out/a_x1d.png").unlink()
    assert run("a_s2d.fits", *RECORDED, "--plot").exit_code == 0
    assert sorted(written()) == ["a_x1d.fits", "a_x1d.png"]
    # After a run that failed, and with other options, both are replaced.
    image = Path("a_s2d.fits").read_bytes()
    Path("a_s2d.fits").write_bytes(image[:5000])
    assert run("a_s2d.fits", *RECORDED, "--plot").exit_code == 2
    Path("a_s2d.fits").write_bytes(image)
    before = written()
    assert run("a_s2d.fits", *RECORDED, "--plot", "--set", "xstart=9").exit_code == 0
    assert not set(written().values()) & set(before.values())


def test_a_run_that_was_killed_goes_on_where_it_stopped() -> None:
    """Its last line may be cut off, and outputs may have no line."""
    run(*FILES, *RECORDED)
    before = written()
    lines = Path("run.ecsv").read_bytes().splitlines(keepends=True)
    Path("run.ecsv").write_bytes(b"".join(lines[:-2]) + lines[-2][:50])
    result = run(*FILES, *RECORDED)
    assert result.exit_code == 0, result.stderr
    assert "1 of 3 outputs are up to date" in result.stdout
    assert written() == before  # were the results of the same extraction
    assert manifest()["status"].tolist() == ["done"] * 3
    # With other options, they are files of others.
    Path("run.ecsv").write_bytes(b"".join(lines[:-2]))
    result = run(*FILES, *RECORDED, "--set", "xstart=9")
    assert result.stderr.count("exists, expected a new name") == 2
    assert result.exit_code == 1


def test_the_order_and_the_folder_of_a_run_do_not_matter(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*FILES, *RECORDED)
    monkeypatch.chdir("out")
    files = [here / name for name in reversed(FILES)]
    options = [*QUIET, "--manifest", "../run.ecsv", "--output-dir", "."]
    assert "3 of 3 outputs are up to date" in run(*files, *options).stdout
    here.rename(here.with_name("moved"))
    monkeypatch.chdir(here.with_name("moved"))
    assert "3 of 3 outputs are up to date" in run(*FILES, *RECORDED).stdout


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("nothing of the kind\n", "is not a manifest of glue-lrs"),
        ("# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\na\n1\n",
         "is not a manifest of glue-lrs: the column output is missing"),
    ],
)  # fmt: skip
def test_another_file_is_not_taken_for_a_manifest(content: str, expected: str) -> None:
    Path("run.ecsv").write_text(content)
    assert refused(*FILES, *RECORDED).startswith(f"run.ecsv: {expected}")
    assert Path("run.ecsv").read_text() == content


def test_outputs_beside_the_folder_of_the_manifest_have_absolute_paths(here: Path) -> None:
    Path("lists").mkdir()
    words = [*QUIET, "--manifest", "lists/run.ecsv", "--output-dir", "out"]
    assert run(FILES[0], *words).exit_code == 0
    table = Table.read("lists/run.ecsv", format="ascii.ecsv")
    assert table["output"].tolist() == [f"{here}/out/a_x1d.fits"]
    assert table["file"].tolist() == [f"{here}/a_s2d.fits"]


def test_tables_that_are_no_manifest_any_more() -> None:
    run(FILES[0], *RECORDED)
    content = Path("run.ecsv").read_text()
    for old, new, expected in (
        ("title: manifest of glue-lrs", "title: my files",
         "is not a manifest of glue-lrs: it has another title"),
        ('"out/a_x1d.fits","done"', '"","done"', "row 1 has no output, expected a file"),
    ):  # fmt: skip
        assert old in content
        Path("run.ecsv").write_text(content.replace(old, new))
        assert refused(FILES[0], *RECORDED) == f"run.ecsv: {expected}"


def test_wrong_usage_of_a_manifest() -> None:
    assert "--redo needs --manifest" in refused(*FILES, *QUIET, "--redo")
    assert "expected .ecsv" in refused(*FILES, *QUIET, "--manifest", "run.txt")
    assert "none/run.ecsv" in refused(*FILES, *QUIET, "--manifest", "none/run.ecsv")
    with Manifest.opened("run.ecsv"):
        assert refused(*FILES, *RECORDED) == "run.ecsv: is in use by another run of glue-lrs"


def test_a_manifest_that_is_replaced_while_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a run that started within the same milliseconds."""
    run(FILES[0], *RECORDED)

    def replaced(stream: BinaryIO, mode: int) -> None:
        Path("new.ecsv").write_bytes(Path("run.ecsv").read_bytes())
        os.replace("new.ecsv", "run.ecsv")

    monkeypatch.setattr("fcntl.flock", replaced)
    assert refused(*FILES, *RECORDED) == "run.ecsv: is in use by another run of glue-lrs"


# --- ends --------------------------------------------------------------------------------------


def test_a_full_disk_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        full_disk(patched, lambda path: path.name == "b_x1d.fits")
        result = run(*FILES, *RECORDED)
    assert result.exit_code == 1
    assert "out/b_x1d.fits: cannot be written, No space left on device" in result.stderr
    assert sorted(written()) == ["a_x1d.fits", "c_x1d.fits"]
    assert list(manifest()["status"]) == ["done", "failed", "done"]
    assert "No space left on device" in manifest()["messages"][1]
    before = written()
    result = run(*FILES, *RECORDED)
    assert result.exit_code == 0
    assert "2 of 3 outputs are up to date" in result.stdout
    after = written()
    assert {name: after[name] for name in before} == before
    assert len(after) == 3


def test_a_manifest_without_space_has_complete_rows_only() -> None:
    with Manifest.opened("run.ecsv") as opened:
        opened.add("a_x1d.fits", ("a_s2d.fits",), {"status": "done"})
        size = Path("run.ecsv").stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
        try:
            with pytest.raises(WriteError, match=r"run\.ecsv: cannot be written"):
                opened.add("b_x1d.fits", ("b_s2d.fits",), {"status": "done"})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert Path("run.ecsv").stat().st_size == size
        opened.add("c_x1d.fits", ("c_s2d.fits",), {"status": "done", "snr": np.nan})
    assert manifest()["output"].tolist() == ["a_x1d.fits", "c_x1d.fits"]


def test_an_interrupted_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = fits.HDUList.writeto

    def interrupted(self: fits.HDUList, name: Path, *args: Any, **kwargs: Any) -> None:
        if self[0].header["FILENAME"] == "b_x1d.fits":
            Path(name).write_bytes(b"half of it")
            os.kill(os.getpid(), signal.SIGINT)
        kept(self, name, *args, **kwargs)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(fits.HDUList, "writeto", interrupted)
            result = run(*FILES, *RECORDED)
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "glue-lrs: error: interrupted"
    assert manifest()["output"].tolist() == ["out/a_x1d.fits"]
    assert list(written()) == ["a_x1d.fits"]
    assert "1 of 3 outputs are up to date" in run(*FILES, *RECORDED).stdout
    assert manifest()["status"].tolist() == ["done"] * 3


def square(argument: tuple[Path, int]) -> int:
    """Count the calls; number 3 is killed each time, and number 5 the first time."""
    folder, number = argument
    with (folder / f"call{number}").open("a") as stream:
        stream.write("x")
    if number == 3 or (number == 5 and (folder / "call5").stat().st_size == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / f"done{number}").write_text("x")
    return number**2


@pytest.mark.slow
def test_only_the_call_that_is_always_killed_fails(tmp_path: Path) -> None:
    arguments = [(tmp_path, number) for number in range(9)]
    repeated: list[int] = []

    def again(argument: tuple[Path, int]) -> tuple[Path, int]:
        repeated.append(argument[1])
        return argument

    found = dict(in_processes(square, arguments, 2, again))
    assert {3, 5} <= set(repeated)
    text = found.pop(3)
    assert isinstance(text, str)
    assert text.startswith("its process was killed, perhaps for lack of memory")
    assert found == {number: number**2 for number in range(9) if number != 3}
    for number in found:
        assert (tmp_path / f"done{number}").read_text() == "x"


@pytest.mark.slow
def test_processes_give_the_manifest_of_one_process() -> None:
    run(*FILES, *RECORDED)
    expected = manifest()
    spectra = {path.name: Extraction.read(path) for path in Path("out").iterdir()}
    os.rename("run.ecsv", "serial.ecsv")
    os.rename("out", "serial")
    result = run(*FILES, *RECORDED, "--jobs", 2)
    assert result.exit_code == 0
    found = manifest()
    found.sort("output")
    for name in set(COLUMNS) - {"output_sha256", "date", "seconds"}:
        assert found[name].tolist() == expected[name].tolist(), name
    for name, one in spectra.items():
        for column, values in Extraction.read(Path("out") / name).columns.items():
            np.testing.assert_array_equal(values, one.columns[column])


def test_resources_are_checked() -> None:
    assert "--jobs and --scheduler exclude each other" in refused(
        *FILES, "--jobs", 2, "--scheduler", "tcp://127.0.0.1:1"
    )
    assert Resources(-1).processes == os.cpu_count()
    for number in (0, -2):
        assert f"--jobs is {number}, expected 1 or more" in refused(*FILES, "--jobs", number)
    assert "--jobs is 1025, expected at most 1024" in refused(*FILES, "--jobs", 1025)
    assert Resources(1024).processes == 1024


def test_paths_of_jobs_are_absolute_for_other_folders(here: Path) -> None:
    found = Job(files=("a.fits", "/b.fits"), output="out/x.fits", plot="x.png").absolute()
    assert found.files == (f"{here}/a.fits", "/b.fits")
    assert found.targets == (f"{here}/out/x.fits", f"{here}/x.png")


def test_paths_of_references_are_absolute_for_other_folders(here: Path) -> None:
    found = RecipeOptions("a.json", None, "/p.fits", {"nods": ["b.fits"], "xstart": 3}).absolute()
    assert (found.extract1d, found.apcorr, found.psf) == (f"{here}/a.json", None, "/p.fits")
    assert found.settings == {"nods": [f"{here}/b.fits"], "xstart": 3}


# --- settings of each file ---------------------------------------------------------------------


def settings(content: str) -> None:
    """Write a table of settings, with the types that astropy gives the columns."""
    table = Table.read(content.strip().splitlines(), format="ascii.csv")
    table.write("settings.ecsv", format="ascii.ecsv")


def test_a_table_gives_each_file_its_own_settings() -> None:
    settings("""
file,xstart,xstop,use_source_posn,bkg_coeff,bkg_fit
a_s2d.fits,9,14,False,"[[25.5],[40.5]]",median
b_s2d.fits,8,16,False,,
c_s2d.fits,,,,,
""")
    result = run("--table", "settings.ecsv", *QUIET, "--set", "bkg_coeff=[[30.5],[40.5]]")
    assert result.exit_code == 0, result.stderr
    for name, keys in (
        ("a", {"xstart": 9, "xstop": 14, "bkg_coeff": [[25.5], [40.5]], "bkg_fit": "median"}),
        ("b", {"xstart": 8, "xstop": 16, "bkg_coeff": [[30.5], [40.5]]}),
        ("c", {"bkg_coeff": [[30.5], [40.5]]}),
    ):
        if name != "c":
            keys["use_source_posn"] = False
        meta = glue_lrs.extract(f"{name}_s2d.fits", apply_apcorr=False, **keys).meta
        found = read_single(f"{name}_x1d.fits")
        for column, values in meta["extraction"].columns.items():
            np.testing.assert_array_equal(found.columns[column], values)


def test_files_are_relative_to_the_folder_of_the_table(here: Path) -> None:
    Path("night").mkdir()
    table = Table({"file": ["a_s2d.fits", "/b_s2d.fits"], "extract1d": ["my.json", ""]})
    table["nods"] = ['["c_s2d.fits"]', ""]
    table.write("night/settings.ecsv", format="ascii.ecsv")
    found = SettingsTable("night/settings.ecsv")
    assert found.files == ["night/a_s2d.fits", "/b_s2d.fits"]
    expected = {"extract1d": "night/my.json", "nods": ["night/c_s2d.fits"]}
    assert found.keys(f"{here}/night/a_s2d.fits") == expected
    assert found.keys("/b_s2d.fits") == {}


def test_files_that_are_named_need_a_row() -> None:
    settings("file,xstart\na_s2d.fits,9\nb_s2d.fits,8\n")
    assert run("a_s2d.fits", "--table", "settings.ecsv", *QUIET).exit_code == 0
    line = refused("b_s2d.fits", "c_s2d.fits", "--table", "settings.ecsv", *QUIET)
    assert line.startswith("c_s2d.fits: has no row in settings.ecsv (did you mean '")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("name,xstart\na_s2d.fits,9\n", "has no column 'file', expected the names of files"),
        ("file,xstrat\na_s2d.fits,9\n",
         "unknown column 'xstrat' (did you mean 'xstart'?), expected an option"),
        ("file,xstart\na_s2d.fits,9\nb_s2d.fits,x\n",
         "row 2 (b_s2d.fits): xstart is 'x', expected a number"),
        ("file,aperture\na_s2d.fits,wide\n",
         "row 1 (a_s2d.fits): aperture is 'wide', expected 'measured'"),
        ("file,xstart\na_s2d.fits,9\n./a_s2d.fits,8\n",
         "row 2 (./a_s2d.fits): has another row, expected one"),
        ("file,xstart\n3,9\n", "row 1: file is 3, expected a name"),
    ],
)  # fmt: skip
def test_mistakes_in_a_table(content: str, expected: str) -> None:
    settings(content)
    assert refused("--table", "settings.ecsv", *QUIET) == f"settings.ecsv: {expected}"


def test_other_mistakes_about_tables() -> None:
    assert refused("--table", "none.ecsv") == "none.ecsv: does not exist"
    Path("text.ecsv").write_text("nothing")
    assert refused("--table", "text.ecsv").startswith("text.ecsv: cannot be read as an ECSV table")
    settings("file,xstart\na_s2d.fits,9\nb_s2d.fits,8\n")
    line = refused("--table", "settings.ecsv", "--output", "x.fits")
    assert "there are 2, and a_s2d.fits is not a segment" in line
    table = Table.read("settings.ecsv", format="ascii.ecsv")
    table["xstart"].unit = "um"
    table.write("unit.ecsv", format="ascii.ecsv")
    assert "the column xstart has the unit um, expected none" in refused("--table", "unit.ecsv")
    assert "Missing argument 'FILE...'" in refused(*QUIET)


# --- measured apertures ------------------------------------------------------------------------


def test_the_option_aperture_places_it_on_the_measured_trace() -> None:
    assert run("a_s2d.fits", *QUIET, "--aperture", "measured").exit_code == 0
    os.rename("a_x1d.fits", "option.fits")
    assert run("a_s2d.fits", *QUIET, "--set", "aperture=measured").exit_code == 0
    option, key = read_single("option.fits"), read_single("a_x1d.fits")
    assert option.provenance is not None
    assert key.provenance is not None
    assert option.provenance["parameters"] == key.provenance["parameters"]
    placed = aperture_at_source(glue_lrs.SlitImage.read("a_s2d.fits"), 8.0)
    stored = option.provenance["parameters"]["reference"]["src_coeff"]
    np.testing.assert_allclose(stored, placed.src_coeff)
    np.testing.assert_array_equal(option.columns["FLUX"], key.columns["FLUX"])


def test_mistakes_about_the_aperture() -> None:
    line = refused("a_s2d.fits", *QUIET, "--aperture", "measurd")
    assert "aperture is 'measurd'" in line
    assert "expected 'measured'" in line
    line = refused("a_s2d.fits", "--aperture", "measured", "--set", "aperture=measured")
    assert "--aperture and --set aperture exclude each other" in line
    with pytest.raises(LRSError, match="xstart is given"):
        glue_lrs.extract("a_s2d.fits", aperture="measured", xstart=9)


# --- light curves ------------------------------------------------------------------------------

CURVES = ["--output-dir", "curves", "--manifest", "curves.ecsv"]


def curves(*args: object) -> Result:
    result = CliRunner().invoke(main, ["lightcurve", *map(str, args)])
    assert "Traceback" not in result.stderr
    return result


@pytest.fixture
def series_files() -> list[str]:
    """Two segments of an exposure, and another exposure."""
    names = []
    for exposure, start, number in (("00001", 1, 12), ("00001", 13, 10), ("00002", 1, 15)):
        stack = series(np.ones(start + number - 1), noise=0.002)
        part = slice(start - 1, None)
        header = stack.header.copy()
        header.update({"TARGNAME": f"HOST {exposure}", "PROGRAM": "01234", "OBSERVTN": "001"})
        header.update({"EXPOSURE": exposure, "INTSTART": start, "INTEND": start + number - 1})
        names.append(f"jw{exposure}-int{start:02d}_x1dints.fits")
        assert stack.times is not None
        columns = {name: values[part] for name, values in stack.columns.items()}
        segment = replace(stack, header=header, times=stack.times[part], columns=columns)
        segment.write(names[-1])
    return names


def test_each_exposure_has_a_light_curve(series_files: list[str]) -> None:
    result = curves(*series_files, "--bins", 2, *CURVES)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[1].startswith("jw00001-int01_x1dints.fits and 1 more")
    assert lines[2].startswith("jw00002-int01_x1dints.fits")
    first, second = sorted(Path("curves").iterdir())
    for path, files in ((first, series_files[:2]), (second, series_files[2:])):
        found = QTable.read(path, format="ascii.ecsv")
        expected = light_curve(files, bins=2).table
        for name in expected.colnames[1:]:
            np.testing.assert_array_equal(found[name], expected[name])
    table = Table.read("curves.ecsv", format="ascii.ecsv")
    assert table["target"].tolist() == ["HOST 00001", "HOST 00002"]
    assert table["values"].tolist() == [22, 15]
    assert json.loads(table["file"][0]) == series_files[:2]
    assert [len(one) for one in json.loads(table["sha256"][0])] == [64, 64]


def test_a_second_run_makes_the_light_curves_that_have_changed(series_files: list[str]) -> None:
    curves(*series_files, *CURVES)
    before = {path: path.read_bytes() for path in Path("curves").iterdir()}
    assert "2 of 2 outputs are up to date" in curves(*series_files, *CURVES).stdout
    assert {path: path.read_bytes() for path in before} == before
    assert "1 of 1 outputs are up to date" in curves(series_files[2], *CURVES).stdout
    assert "up to date" not in curves(*series_files, *CURVES, "--bins", 3).stdout
    # Without a row, a light curve is replaced if it is the result of the same options.
    Path("curves.ecsv").unlink()
    assert curves(*series_files, *CURVES, "--bins", 3).exit_code == 0
    Path("curves.ecsv").unlink()
    result = curves(*series_files, *CURVES, "--bins", 4)
    assert result.exit_code == 2
    assert result.stderr.count("exists, expected a new name") == 2


def test_light_curves_of_images_depend_on_the_content_of_references() -> None:
    Scene(sources=(Source(flux=0.1),), exposure_time=30.0).calints(8).image.write("s_calints.fits")
    edit = ["reference", "edit", "--exp-type", "MIR_LRS-SLITLESS", "-o", "my.json", "--overwrite"]
    words = ["s_calints.fits", "--extract1d", "my.json", "--set", "apply_apcorr=false", *CURVES]
    done = []
    for start in (28, 28, 30):
        assert CliRunner().invoke(main, [*edit, "--set", f"xstart={start}"]).exit_code == 0
        result = curves(*words)
        assert result.exit_code == 0, result.stderr
        done.append("up to date" in result.stdout)
    assert done == [False, True, False]
    (row,) = Table.read("curves.ecsv", format="ascii.ecsv")
    recorded = json.loads(row["parameters"])["extraction"]
    assert recorded["extract1d"] == "my.json"
    assert recorded["sha256"] == {
        "my.json": hashlib.sha256(Path("my.json").read_bytes()).hexdigest()
    }


def test_wrong_usage_of_many_light_curves(series_files: list[str]) -> None:
    result = curves(*series_files, "--output-dir", "curves", "-o", "x.ecsv")
    assert "--output and --output-dir exclude each other" in result.stderr
    result = curves(*series_files, "--pipeline", "--jobs", 2)
    assert "--pipeline excludes all other options" in result.stderr
    result = curves(*series_files, "-o", "x.ecsv")
    assert result.exit_code == 2
    assert "because the segments of a time series are of one exposure" in result.stderr


def test_the_page_about_archives_lists_the_columns_of_a_manifest() -> None:
    page = Path(glue_lrs.__file__).parents[1] / "docs" / "archives.rst"
    content = page.read_text(encoding="utf-8").split("column            content")[1]
    assert re.findall(r"^``(\w+)``", content, re.MULTILINE)[: len(COLUMNS)] == list(COLUMNS)
