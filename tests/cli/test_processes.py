"""Processes that are terminated or killed leave neither files nor other processes behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.images import slit

#: A program that is stopped in the middle of writing a file, in each of its processes.
PROGRAM = """
import os, sys, time
from astropy.io import fits
def half(self, name, *args, **kwargs):
    open(name, "wb").write(b"half of it")
    open(os.path.join({folder!r}, f"begun{{os.getpid()}}"), "w").close()
    time.sleep(300)
fits.HDUList.writeto = half
from glue_lrs.cli.program import main
if __name__ == "__main__":
    sys.exit(main())
"""

#: Time in seconds for the start of processes and for their end, on a loaded machine.
PATIENCE = 150.0


def started(folder: Path, jobs: int) -> tuple[subprocess.Popen[str], list[int]]:
    """Start an extraction, and return it and the processes that have begun to write."""
    for name in ("a", "b"):
        slit().write(folder / f"{name}_s2d.fits")
    marks = folder / "marks"
    marks.mkdir()
    program = folder / "glue-lrs"
    program.write_text(PROGRAM.format(folder=str(marks)))
    words = ["extract", "a_s2d.fits", "b_s2d.fits", "--set", "apply_apcorr=false"]
    process = subprocess.Popen(
        [sys.executable, str(program), *words, "--output-dir", "new", "--jobs", str(jobs)],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # nohup ignores it
    )  # fmt: skip
    end = time.monotonic() + PATIENCE
    while len(list(marks.iterdir())) < jobs and time.monotonic() < end:
        time.sleep(0.1)
    if not left(folder):
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"nothing was written: {process.communicate()}")
    return process, [int(mark.name.removeprefix("begun")) for mark in marks.iterdir()]


def left(folder: Path) -> list[Path]:
    return list((folder / "new").iterdir()) if (folder / "new").exists() else []


def runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for_end(processes: list[int]) -> None:
    end = time.monotonic() + PATIENCE
    while any(map(runs, processes)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(runs, processes))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_terminations_remove_files_and_end_the_workers(
    tmp_path: Path, name: str, jobs: int
) -> None:
    process, workers = started(tmp_path, jobs)
    number = getattr(signal, name)
    process.send_signal(number)
    assert process.communicate(timeout=PATIENCE) == ("", "glue-lrs: error: terminated\n")
    assert process.returncode == 128 + number
    wait_for_end(workers)
    assert not left(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    process, workers = started(tmp_path, 2)
    assert len(workers) == 2
    process.kill()
    process.communicate(timeout=PATIENCE)
    wait_for_end(workers)
    assert not left(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_files_of_killed_processes_are_removed_later(tmp_path: Path) -> None:
    process, _ = started(tmp_path, 1)
    process.kill()
    process.communicate(timeout=PATIENCE)
    (remains,) = left(tmp_path)
    assert remains.read_bytes() == b"half of it"
    running = remains.with_name(remains.name.replace(f"-{process.pid}-", f"-{os.getpid()}-"))
    other = remains.with_name(".other")
    for path in (running, other):
        path.write_text("kept")
    slit().write(tmp_path / "new" / "c_s2d.fits")
    assert sorted(path.name for path in left(tmp_path)) == sorted(
        [running.name, other.name, "c_s2d.fits"]
    )
