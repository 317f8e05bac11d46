"""mode="pipeline" equals jwst's combine_1d_spectra, over random cases that reach every branch."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from jwst.combine_1d.combine1d import combine_1d_spectra

from glue_lrs.combination.combination import COLUMNS, Combination
from glue_lrs.combination.combine import combine
from glue_lrs.errors import LRSWarning
from glue_lrs.spectra.columns import COLUMNS as X1D_COLUMNS
from glue_lrs.spectra.columns import column_units
from glue_lrs.spectra.extraction import Extraction
from tests.helpers.pipeline import to_models

logging.getLogger("jwst").setLevel(logging.CRITICAL)

TOLERANCE = 1e-9
SEEDS = range(120)
CHUNK = 30

#: Every branch that the cases must reach at least once, by the words of `make_case`.
BRANCHES = {
    "inputs": "one two three more",
    "layout": "files stack",
    "order": "rising falling",
    "grid": "same rounding shifted other gaps short single range",
    "bad": "none nan dq error flags zero row empty unsorted",
    "weights": "exposure_time integration_time unit",
    "clip": "none low high",
    "units": "jansky dn",
    "acted": "clipped gone overwritten beyond lost_all skipped filled clump",
}


@dataclass(frozen=True)
class Case:
    spectra: list[Extraction]
    weights: str
    sigma_clip: float | None
    branches: frozenset[str]


def _wave(rng: np.random.Generator, base: np.ndarray, grid: str) -> np.ndarray:
    step = np.gradient(base)
    if grid == "rounding":
        return base * (1.0 + 1e-15 * rng.integers(-3, 4, base.size))
    if grid == "shifted":
        return base + step * rng.choice([rng.uniform(-1.0, 1.0), 0.5, 0.25])
    if grid == "other":
        return np.linspace(base[0], base[-1], max(2, int(base.size * rng.uniform(0.5, 1.6))))
    if grid == "gaps":
        return base[rng.random(base.size) > 0.2]
    if grid == "short":
        return base[: rng.integers(2, 5)]
    if grid == "single":
        return base[rng.integers(0, base.size)][np.newaxis]
    if grid == "range":
        first = rng.integers(0, base.size // 2)
        return base[first : first + rng.integers(base.size // 3, base.size)]
    return base.copy()


def make_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    said = set()

    def say(what: str, name: Any) -> Any:
        said.add(f"{what}: {name}")
        return name

    number = int(rng.choice([1, 2, 2, 3, 3, 4, 5, 7]))
    say("inputs", {1: "one", 2: "two", 3: "three"}.get(number, "more"))
    layout = say("layout", rng.choice(["files", "stack"], p=[0.8, 0.2]))
    size = int(rng.choice([6, 20, 60]))
    base = np.sort(5.0 + 9.0 * np.linspace(0.0, 1.0, size) ** rng.uniform(0.7, 1.4))
    calibrated = say("units", rng.choice(["jansky", "dn"], p=[0.8, 0.2])) == "jansky"
    spectra: list[Extraction] = []
    for which in range(number):
        usual = ["same"] if which == 0 else []
        grids = ["same", "rounding", "shifted", "other", "gaps", "short", "single", "range"]
        odds = np.array([4, 2, 4, 2, 1, 0.5, 0.3, 1.0])
        grid = usual[0] if usual else str(rng.choice(grids, p=odds / odds.sum()))
        wave = _wave(rng, base, say("grid", grid))
        if layout == "stack" and which:
            wave = np.sort(spectra[0].wavelength)  # integrations share it
        if say("order", rng.choice(["rising", "falling"], p=[0.3, 0.7])) == "falling":
            wave = wave[::-1].copy()
        bad = str(
            rng.choice(
                ["none", "nan", "dq", "error", "flags", "zero", "row", "empty", "unsorted"],
                p=[0.25, 0.15, 0.15, 0.1, 0.1, 0.09, 0.09, 0.04, 0.03],
            )
        )
        if which == 0 and bad in ("empty", "unsorted"):
            bad = "none"
        columns = {name: rng.normal(1.0, 0.3, wave.size) for name in X1D_COLUMNS}
        columns |= {name: rng.uniform(0.1, 0.3, wave.size) for name in ("FLUX_ERROR", "SB_ERROR")}
        columns["WAVELENGTH"] = wave
        columns["DQ"] = np.zeros(wave.size, dtype=np.uint32)
        some = rng.random(wave.size) < 0.2
        if bad == "nan":
            columns["FLUX"][some] = np.nan
        elif bad == "dq":
            columns["DQ"][some] = rng.choice([1, 3, 5], some.sum())
        elif bad == "flags":
            columns["DQ"][some] = rng.choice([2, 4, 1 << 30], some.sum())
        elif bad == "error":
            columns["FLUX_ERROR"][some] = columns["SB_ERROR"][some] = np.nan
            columns["SURF_BRIGHT"][some] = np.nan
        elif bad == "zero":
            columns["FLUX"][some] = 0.0
        elif bad == "row":
            for one in spectra:  # a row that nobody has
                if one.wavelength.size > 3:
                    one.columns["FLUX"][3] = np.nan
            columns["FLUX"][min(3, wave.size - 1)] = np.nan
        elif bad == "empty":
            columns["FLUX"][:] = np.nan
        elif bad == "unsorted" and wave.size > 3:
            wave[2] = wave[1]
        say("bad", bad)
        if rng.random() < 0.3:
            columns["FLUX"][rng.integers(0, wave.size)] *= 20.0  # an outlier
        header = fits.Header({"EXP_TYPE": "MIR_LRS-FIXEDSLIT"})
        header["EFFEXPTM"] = float(rng.choice([100.0, 332.0])) if layout == "files" else 332.0
        header["EFFINTTM"] = header["EFFEXPTM"] / 4.0
        spectra.append(
            Extraction(
                columns=columns,
                units=column_units(calibrated),
                header=header,
                keywords_source={"SRCTYPE": "POINT"},
            )
        )
    weights = say("weights", str(rng.choice(["exposure_time", "integration_time", "unit"])))
    clip = say("clip", str(rng.choice(["none", "low", "high"], p=[0.5, 0.25, 0.25])))
    sigma = {"none": None, "low": 2.0, "high": 6.0}[clip]
    if layout == "stack":
        size = spectra[0].wavelength.size
        spectra = [one for one in spectra if one.wavelength.size == size]
        stack = {name: np.stack([one.columns[name] for one in spectra]) for name in X1D_COLUMNS} | {
            "WAVELENGTH": np.tile(spectra[0].wavelength, (len(spectra), 1))
        }
        first = spectra[0]
        spectra = [
            Extraction(
                columns=stack,
                units=first.units,
                header=first.header,
                keywords_source=first.keywords,
            )
        ]
    return Case(spectra, weights, sigma, frozenset(said))


def pipeline(case: Case) -> tuple[dict[str, np.ndarray], dict[str, str | None]]:
    """Columns and units that the pipeline gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the pipeline warns of is not what is tested here
        key = "unit_weight" if case.weights == "unit" else case.weights
        out = combine_1d_spectra(to_models(case.spectra), key, sigma_clip=case.sigma_clip)
        spec = out.spec[0]
        table = np.asarray(spec.spec_table)
        units = {name: spec.spec_table.columns[name].unit for name in spec.spec_table.columns.names}
    return (
        {name.upper(): np.array(table[name]) for name in table.dtype.names},
        {name.upper(): unit for name, unit in units.items()},
    )


def ours(case: Case, **changes: Any) -> tuple[Combination, list[str]]:
    options = {"weights": case.weights, "sigma_clip": case.sigma_clip, "mode": "pipeline"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = combine(case.spectra, **options | changes)
    return made, [str(one.message) for one in caught if issubclass(one.category, LRSWarning)]


def compare(case: Case) -> list[str]:
    """All that differs."""
    theirs, units = pipeline(case)
    made, _ = ours(case)
    found = []
    for name in COLUMNS:
        mine, judge = made.columns[name].astype(float), theirs[name].astype(float)
        if mine.shape != judge.shape:
            found.append(f"{name}: shape {mine.shape}, the pipeline's {judge.shape}")
            continue
        if not np.array_equal(np.isnan(mine), np.isnan(judge)):
            found.append(f"{name}: NaN differ")
            continue
        if not np.allclose(mine, judge, rtol=TOLERANCE, atol=1e-12, equal_nan=True):
            worst = np.nanargmax(np.abs(mine - judge))
            found.append(f"{name}: {mine[worst]!r}, the pipeline {judge[worst]!r}")
    for name in ("WAVELENGTH", "FLUX", "ERROR", "SURF_BRIGHT", "SB_ERROR"):
        if made.units.get(name) != units[name]:
            found.append(f"{name}: unit {made.units.get(name)}, the pipeline's {units[name]}")
    assert made.clipped is not None
    if made.clipped.shape != (len(made.inputs), made.wavelength.size):
        found.append(f"clipped: shape {made.clipped.shape}")
    return found


def acted(case: Case) -> set[str]:
    """What did not only stand in a case but changed its numbers."""
    made, notes = ours(case)
    free, _ = ours(case, sigma_clip=None)
    usable = sum(
        int((~one.mask).sum()) for one in case.spectra if np.isfinite(one.wavelength).all()
    )
    taken = sum(one.rows_used for one in free.inputs)
    what = {
        "clipped": sum(one.rows_clipped for one in made.inputs) > 0,
        "gone": any("and are removed" in note for note in notes),
        "overwritten": taken < usable,
        "skipped": any("is skipped" in note for note in notes),
        "lost_all": made.wavelength.size < free.wavelength.size,
    }
    waves = [np.sort(one.wavelength) for one in case.spectra]
    what["beyond"] = any(
        wave[0] < free.wavelength[0] or wave[-1] > free.wavelength[-1] for wave in waves
    )
    what["clump"] = bool((free.columns["N_INPUT"] > 1).any())
    what["filled"] = (
        len(waves) > 1
        and not np.isin(np.round(free.wavelength, 9), np.round(np.concatenate(waves), 9)).all()
    )
    return {f"acted: {name}" for name, did in what.items() if did}


@pytest.mark.parametrize("first", range(0, len(SEEDS), CHUNK))
def test_random_cases(first: int) -> None:
    wrong = {}
    for seed in SEEDS[first : first + CHUNK]:
        found = compare(make_case(seed))
        if found:
            wrong[seed] = found
    assert not wrong, "\n".join(f"{seed}: {what}" for seed, what in wrong.items())


def test_every_branch_was_reached(capsys: pytest.CaptureFixture[str]) -> None:
    """The random cases cover what they claim to; the counts are printed."""
    reached: Counter[str] = Counter()
    for seed in SEEDS:
        case = make_case(seed)
        reached.update(case.branches | acted(case))
    wanted = {f"{what}: {name}" for what, names in BRANCHES.items() for name in names.split()}
    with capsys.disabled():
        print(f"\n{len(SEEDS)} cases against jwst's combine_1d reached:")
        for what, names in BRANCHES.items():
            each = ", ".join(f"{name} {reached[f'{what}: {name}']}" for name in names.split())
            print(f"  {what:10s} {each}")
    assert set(reached) == wanted
