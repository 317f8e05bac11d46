"""Archives of s2d files: one process, workers of a Dask cluster, and processes.

Each way extracts the same files, with a manifest, in turn. The workers of the clusters run before,
and have imported the package; processes are started within the time.
"""

from __future__ import annotations

import logging
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from distributed import LocalCluster

from glue_lrs.cli import main
from glue_lrs.simulation.scene import Scene

#: Number of different images, of which the files are copies.
IMAGES = 8

#: Number of times that each way is measured.
REPETITIONS = 3


def benchmark_archive(folder: Path, number: int) -> None:
    """Print the time of each way for `number` files, and the ratios that matter."""
    files = archive(folder, number)
    options: dict[str, Any] = {"dashboard_address": None, "silence_logs": logging.ERROR}
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, **options) as one,
        LocalCluster(n_workers=2, threads_per_worker=1, **options) as two,
    ):
        ways = {
            "serial": [],
            "1 worker": ["--scheduler", one.scheduler_address],
            "2 workers": ["--scheduler", two.scheduler_address],
            "2 processes": ["--jobs", "2"],
        }
        calls: dict[str, Callable[[], None]] = {
            name: lambda words=words: extract(files, folder, words) for name, words in ways.items()
        }
        for words in ways.values():  # imports, and the files in the page cache
            extract(files[:4], folder, words)
        found: dict[str, list[float]] = {name: [] for name in ways}
        loads = [os.getloadavg()[0]]
        for _ in range(REPETITIONS):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                found[name].append(time.perf_counter() - start)
            loads.append(os.getloadavg()[0])
        start = time.perf_counter()
        extract(files, folder, [], again=True)
        unchanged = time.perf_counter() - start
    times = {name: statistics.median(every) for name, every in found.items()}
    print(f"{number} s2d files, median of {REPETITIONS}, in turn")
    for name, seconds in times.items():
        each = ", ".join(f"{one:.1f}" for one in found[name])
        print(f"  {name:12s} {seconds:8.1f} s  {1e3 * seconds / number:6.0f} ms a file  ({each})")
    print(f"  {'unchanged':12s} {unchanged:8.1f} s  {1e3 * unchanged / number:6.1f} ms a file")
    print(f"  2 workers are {times['1 worker'] / times['2 workers']:.2f} times 1 worker (from 1.7)")
    print(f"  1 worker takes {times['1 worker'] / times['serial']:.2f} of serial (to 1.1)")
    print(f"  load average of the machine: {', '.join(f'{load:.1f}' for load in loads)}")


def archive(folder: Path, number: int) -> list[str]:
    """Write the files and return their paths."""
    made = []
    for seed in range(min(IMAGES, number)):
        path = folder / f"image{seed}.fits"
        Scene(seed=seed, bad_fraction=0.001).s2d(1 + seed % 2).image.write(path)
        made.append(path)
    files = [folder / f"x{index:05d}_s2d.fits" for index in range(number)]
    for index, path in enumerate(files):
        shutil.copyfile(made[index % len(made)], path)
    return list(map(str, files))


def extract(files: list[str], folder: Path, words: list[str], again: bool = False) -> None:
    """Extract files to an empty folder, or `again` to the one of the last call."""
    output = folder / "spectra"
    if not again:
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
    options = ["--set", "apply_apcorr=false", "--quiet", "--output-dir", str(output)]
    options += ["--manifest", str(output / "run.ecsv")]
    result = CliRunner().invoke(main, ["extract", *files, *options, *words])
    if result.exit_code != 0:
        raise RuntimeError(result.output)
