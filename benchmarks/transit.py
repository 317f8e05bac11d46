"""A long simulated transit: time beside reading the files, and memory.

The transit has ten segments, with 0.2% lost pixels, 0.1% cosmic rays without a flag, 1% hot pixels,
a drift of 0.05 columns and a depth of 1%. Each extraction runs in a process of its own, in which
reading and extracting alternate, chunk by chunk: a chunk is read once to warm the page cache, its
planes are read into native arrays with astropy.io.fits, and it is extracted.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from astropy.io import fits

from glue_lrs import Extract1D, SlitImage
from glue_lrs._utils.parallel import threads  # noqa: PLC2701 - as the command line
from glue_lrs.extraction.chunks import ChunkedExtraction
from glue_lrs.timeseries import light_curve
from tests.helpers.time_series import APERTURE, BYTES, PLANES, TimeSeries

#: Pixels of an integration.
PIXELS = 416 * 72

CLEAN = APERTURE | {"time_outliers": "replace", "drift": "correct"}

#: Settings of the extractions, whether the drift is measured, and number of threads.
RECIPES: dict[str, tuple[dict[str, Any], bool, int]] = {
    "plain box": ({key: APERTURE[key] for key in ("xstart", "xstop")}, False, 1),
    "background": (APERTURE, False, 1),
    "background, time outliers, drift": (CLEAN, True, 1),
    "the same in two threads": (CLEAN, True, 2),
}


class Measured(NamedTuple):
    """Times in seconds (elapsed, and of the processor), and peak memory in bytes."""

    read: tuple[float, float]
    extracted: tuple[float, float]
    memory: int
    integrations: int


def benchmark_transit(folder: Path, gigabytes: float) -> None:
    """Write the transit, and print time and memory of its extractions."""
    number = max(round(gigabytes * 1e9 / (PIXELS * BYTES)), 100)
    start = time.perf_counter()
    paths = TimeSeries(number=number).write(folder)
    size = sum(path.stat().st_size for path in paths) / 1e9
    spent = time.perf_counter() - start
    print(f"{number} integrations, {size:.2f} GB in {len(paths)} segments, made in {spent:.0f} s")
    for name, recipe in RECIPES.items():
        found = _apart(_extract, paths, *recipe)
        ratios = [ours / theirs for ours, theirs in zip(found.extracted, found.read, strict=True)]
        print(
            f"  {name:34s} {_ms(found.extracted, found)} ms per integration, reading "
            f"{_ms(found.read, found)}; ratio {ratios[0]:.2f} (processor {ratios[1]:.2f}); peak "
            f"{found.memory / 1e6:.0f} MB",
            flush=True,
        )
    for count in [n for n in (100, 1000, 10_000, 20_000) if n < number] + [number]:
        seconds, memory, text = _apart(_light_curve, paths, count)
        print(
            f"  light curve of {count:6d}: {1e3 * seconds / count:.2f} ms per integration after "
            f"the start, peak {memory / 1e6:.0f} MB; {text}",
            flush=True,
        )
    some = [path for path in paths if gigabytes <= 1.5 or path in paths[:1]]
    seconds, memory, count = _apart(_optimal, some)
    print(
        f"  optimal extraction of {count}: {1e3 * seconds / count:.2f} ms per integration, peak "
        f"{memory / 1e6:.0f} MB",
        flush=True,
    )


def _ms(times: tuple[float, float], found: Measured) -> str:
    return f"{1e3 * times[0] / found.integrations:.2f}"


def _apart(function: Any, *arguments: Any) -> Any:
    """Call a function in a new process, so that its peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(function, arguments)


def _clock() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def _peak() -> int:
    """Peak memory of this process in bytes.

    That of getrusage begins with the peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _extract(paths: list[Path], keys: dict[str, Any], drift: bool, number: int) -> Measured:
    """Extract a transit in chunks, and read each of them with astropy."""
    image = SlitImage.read([os.fspath(path) for path in paths])
    operator = Extract1D.from_reference(None, image.exp_type, **keys)
    before = _clock()
    chunks = ChunkedExtraction(operator, image, drift=drift, release=True)
    extracted, read = _clock() - before, np.zeros(2)
    edges = np.cumsum([0, *(_length(path) for path in paths)])
    total = 0.0
    for index, where in enumerate(chunks.slices):
        parts = [
            (path, max(where.start - first, 0), min(where.stop, last) - first)
            for path, first, last in zip(paths, edges, edges[1:], strict=False)
            if first < where.stop and last > where.start
        ]
        for _ in range(2):  # the first time warms the page cache
            before = _clock()
            for path, first, stop in parts:
                _read(path, slice(first, stop))
            once = _clock() - before
        read += once
        with threads(number) if number > 1 else nullcontext():
            before = _clock()
            total += np.nansum(chunks[index].columns["FLUX"])
            extracted += _clock() - before
    assert total > 0
    return Measured(tuple(read), tuple(extracted), _peak(), int(edges[-1]))


def _length(path: Path) -> int:
    return fits.getheader(path, "SCI")["NAXIS3"]


def _read(path: Path, where: slice) -> None:
    """Read the planes of some integrations into native arrays."""
    with fits.open(path, memmap=True, do_not_scale_image_data=True) as hdus:
        for name in PLANES:
            stored = hdus[name].data[where]
            stored.astype(stored.dtype.newbyteorder("="))


def _light_curve(paths: list[Path], count: int) -> tuple[float, int, str]:
    """Return time and memory of a light curve of the first `count` integrations, and its noise.

    The time is that beyond the fit of the mean image, which does not depend on their number.
    """
    from glue_lrs.image.stack import stack_part

    image = stack_part(SlitImage.read([os.fspath(path) for path in paths]), slice(0, count))
    operator = Extract1D.from_reference(None, image.exp_type, **CLEAN)
    chunks = ChunkedExtraction(operator, image, release=True)
    assert chunks.sample is not None  # made now
    before = time.perf_counter()
    curve = light_curve(chunks, bins=20, check=False)
    spent = time.perf_counter() - before
    ratio = curve.scatter[0] / curve.expected_photon_noise[0]
    return spent, _peak(), f"scatter {ratio:.3f} of the photon noise"


def _optimal(paths: list[Path]) -> tuple[float, int, int]:
    """Return time and memory of an optimal extraction with a fitted profile."""
    names = [os.fspath(path) for path in paths]
    image = SlitImage.read(names if len(names) > 1 else names[0])
    operator = Extract1D.from_reference(None, image.exp_type, extraction_type="optimal")
    before = time.perf_counter()
    operator.run(image, check=False)
    return time.perf_counter() - before, _peak(), len(image.data)
