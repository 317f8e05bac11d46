"""Reading of mutated files, and classification of the outcomes."""

from __future__ import annotations

import contextlib
import random
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glue_lrs.cli.summary import describe_file
from glue_lrs.combination.combine import combine
from glue_lrs.errors import LRSError, LRSWarning
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.io.apcorr import read_apcorr
from glue_lrs.io.c1d import read_c1d
from glue_lrs.io.identify import IMAGE_KINDS, SPECTRUM_KINDS, identify_product, is_lrs_product
from glue_lrs.io.psf import read_psf
from glue_lrs.io.reference import read_reference
from glue_lrs.io.text import read_text
from glue_lrs.io.x1d_reader import read_x1d
from glue_lrs.viewers.datasets.session_check import check_session
from tests.helpers.images import slit
from tests.mutations.commands import run_command
from tests.mutations.mutators import FITS_MUTATORS, JSON_MUTATORS, TEXT_MUTATORS
from tests.mutations.products import DOCUMENTS, REFERENCE

#: Longest duration of a case in seconds, and largest additional memory in bytes.
SECONDS, BYTES = 20, 1 << 30
#: A command is run on one of so many files, because commands take longer than readers.
EVERY = 3
#: Outcomes that are faults of the package.
FAULTS = ("raw error", "several lines", "foreign warning", "hang", "memory")


class Hang(BaseException):
    """Raised in a case that takes too long. It is no Exception, so that no reader catches it."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a case: its kind, and a description if it is a fault."""

    kind: str
    detail: str = ""


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Raise `Hang` after SECONDS of computation, or six times as long of waiting.

    On a machine that others load, a case may wait for the processor.
    """

    def stop(*_: object) -> None:
        raise Hang

    before = [signal.signal(number, stop) for number in (signal.SIGALRM, signal.SIGPROF)]
    signal.alarm(6 * SECONDS)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in zip((signal.SIGALRM, signal.SIGPROF), before, strict=True):
            signal.signal(number, handler)


def _memory(key: str) -> int:
    """Return an amount of memory of this process in bytes, such as its peak (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return 0


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


# --- what is read, as a user would --------------------------------------------------------------


def _read_image(path: str) -> list[Any]:
    image = SlitImage.read(path)
    operator = Extract1D.from_reference(REFERENCE, image.exp_type, apply_apcorr=False)
    result = operator.run(image)
    return [*result.columns.values(), image.wcs and 1.0, dict(result.keywords)]


def _read_spectra(path: str) -> list[Any]:
    spectra = read_x1d(path)
    for one in spectra:
        if one.provenance is not None:
            with contextlib.suppress(LRSError):
                dict(one.provenance)
        str(one.table)
        one.to_spectrum()
    with contextlib.suppress(LRSError):
        combine(spectra)
    return [values for one in spectra for values in one.columns.values()]


def _read_combined(path: str) -> list[Any]:
    combined = read_c1d(path)
    with contextlib.suppress(LRSError):
        list(combined.inputs)
    str(combined.table)
    combined.to_spectrum()
    return list(combined.columns.values())


def _read_correction(path: str) -> list[Any]:
    correction = read_apcorr(path)
    operator = Extract1D.from_reference(REFERENCE, FIXED_SLIT, apcorr=correction)
    return list(operator.run(slit()).columns.values())


def _read_profile(path: str) -> list[Any]:
    profile = read_psf(path)
    offset = np.broadcast_to(np.arange(-5.0, 6.0), (3, 11))
    return [profile(offset, np.array([5.0, 9.0, 12.0]))]


def _read_reference(path: str) -> list[Any]:
    operator = Extract1D.from_reference(path, FIXED_SLIT, apply_apcorr=False)
    read_reference(path).check((40, 46), FIXED_SLIT)
    return list(operator.run(slit()).columns.values())


def _read_text(path: str) -> list[Any]:
    return list(read_text(path).columns.values())


def _read_session(path: str) -> list[Any]:
    """Only the check of the package is called, because glue raises errors of its own."""
    check_session(path)
    return []


def _product(read: Callable[[str], list[Any]]) -> list[Callable[[str], Any]]:
    kinds = (*IMAGE_KINDS, *SPECTRUM_KINDS)
    return [identify_product, lambda path: is_lrs_product(path, kinds), describe_file, read]


#: Calls for each kind of file. The last one returns the numbers.
CALLS: dict[str, list[Callable[[str], Any]]] = {
    "s2d": _product(_read_image),
    "calints": _product(_read_image),
    "x1d": _product(_read_spectra),
    "x1dints": _product(_read_spectra),
    "c1d": _product(_read_combined),
    "apcorr": [_read_correction],
    "psf": [_read_profile],
    "extract1d": [_read_reference],
    "session": [_read_session],
    "text": [_read_text],
}


def run_case(
    kind: str, path: Path, expected: list[Any], valid: dict[str, Path], seed: int
) -> Outcome:
    """Read a file in each way, run one of the commands on it, and classify what happens."""
    numbers: list[Any] | None = None
    refused = warned = False
    _reset_peak()
    before = _memory("VmRSS")

    def command(_: str) -> None:
        nonlocal warned
        warned |= run_command(kind, path, valid, seed)

    commands = [command] * (seed % EVERY == 0)
    for call in [*commands, *CALLS[kind]]:
        numbers = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                with _time_limit():
                    numbers = call(str(path))
            except LRSError as error:
                refused = True
                if "\n" in str(error) or not str(error).isprintable():
                    return Outcome("several lines", repr(str(error)))
            except Hang:
                return Outcome("hang", traceback.format_exc(limit=-6))
            except Exception:
                return Outcome("raw error", traceback.format_exc(limit=-6))
        foreign = [one for one in caught if not issubclass(one.category, LRSWarning)]
        if foreign:
            one = foreign[0]
            where = f"{one.filename}:{one.lineno}"
            return Outcome("foreign warning", f"{one.category.__name__}: {one.message} ({where})")
        warned |= bool(caught)
    if _memory("VmHWM") - before > BYTES:
        return Outcome("memory", f"{_memory('VmHWM') - before:.3g} bytes")
    if numbers is None:
        return Outcome("refused")
    if not _same(numbers, expected):
        return Outcome("other numbers, warned" if warned else "other numbers")
    return Outcome("partly refused" if refused else "warned" if warned else "same numbers")


def _same(numbers: list[Any], expected: list[Any]) -> bool:
    if len(numbers) != len(expected):
        return False
    return all(
        np.shape(one) == np.shape(other) and np.array_equal(one, other, equal_nan=True)
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray)
        else one == other
        for one, other in zip(numbers, expected, strict=True)
    )


def mutate(paths: dict[str, Path], seed: int) -> tuple[str, str, bytes]:
    """Return the kind of file, the kind of mutation, and the mutated content of a case."""
    rng = random.Random(seed)
    kind = rng.choice(list(paths))
    known = (
        TEXT_MUTATORS if kind == "text" else JSON_MUTATORS if kind in DOCUMENTS else FITS_MUTATORS
    )
    name = rng.choices(list(known), [weight for _, weight in known.values()])[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind, name, known[name][0](paths[kind].read_bytes(), rng)


def run_cases(
    valid: dict[str, Path],
    kinds: Collection[str],
    seeds: range,
    folder: Path,
    *,
    keep: bool = False,
) -> Report:
    """Run one case for each seed, with a mutation of one of the valid files of certain kinds."""
    paths = {kind: path for kind, path in valid.items() if kind in kinds}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {kind: CALLS[kind][-1](str(path)) for kind, path in paths.items()}
    report = Report(Counter(), Counter(), [])
    for seed in seeds:
        kind, name, content = mutate(paths, seed)
        path = folder / f"case{seed}{paths[kind].suffix}"
        path.write_bytes(content)
        start = time.perf_counter()
        outcome = run_case(kind, path, expected[kind], valid, seed)
        report.slowest = max(report.slowest, time.perf_counter() - start)
        report.outcomes[outcome.kind] += 1
        report.mutations[name, outcome.kind] += 1
        if outcome.kind in FAULTS:
            report.faults.append(f"seed {seed}, {kind}, {name}: {outcome.kind}\n{outcome.detail}")
        if not keep or outcome.kind not in FAULTS:
            path.unlink()
    return report


@dataclass
class Report:
    """Numbers of the outcomes, in total and by kind of mutation, and descriptions of the faults."""

    outcomes: Counter[str]
    mutations: Counter[tuple[str, str]]
    faults: list[str]
    slowest: float = 0.0

    def __str__(self) -> str:
        total = sum(self.outcomes.values())
        lines = [f"{total} cases, the slowest took {self.slowest:.1f} s"]
        lines += [f"  {number:6d}  {kind}" for kind, number in self.outcomes.most_common()]
        for name in sorted({name for name, _ in self.mutations}):
            found = {kind: n for (one, kind), n in self.mutations.items() if one == name}
            lines.append(f"  {name}: " + ", ".join(f"{n} {kind}" for kind, n in found.items()))
        return "\n".join(lines)
