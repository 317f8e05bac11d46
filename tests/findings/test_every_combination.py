"""Each kind of finding about a combination or a light curve, in Python and on the command line.

There is no panel for them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from glue_lrs import Extraction, LRSWarning, combine
from glue_lrs.cli import main
from glue_lrs.spectra.findings import KINDS, Finding
from glue_lrs.timeseries import light_curve
from tests.helpers.light_curves import series
from tests.helpers.spectra import lose, make_extraction

ROWS = 60
LOST = slice(20, 25)


def nod(flux: float = 1.0, seed: int = 0, source: str = "POINT", **cards: Any) -> Extraction:
    """A spectrum with a noise of 0.5%, of an aperture of 8 pixels."""
    made = make_extraction(ROWS, seed=seed)
    noise = np.random.default_rng(seed).normal(0.0, 0.005, ROWS)
    columns = {"FLUX": flux * (1.0 + noise), "FLUX_ERROR": np.full(ROWS, 0.005)}
    columns |= {"NPIXELS": np.full(ROWS, 8.0)}
    made = replace(made, columns=made.columns | columns)
    made = replace(made, keywords_source=dict(made.keywords_source) | {"SRCTYPE": source})
    made.header.update({"TARGNAME": "STAR", "EFFEXPTM": 100.0, "EFFINTTM": 10.0} | cards)
    return made


def short(seed: int) -> Extraction:
    """A spectrum that lost three of eight pixels in five rows."""
    made = nod(seed=seed)
    pixels = made.columns["NPIXELS"].copy()
    pixels[LOST] = 5.0
    return replace(made, columns=made.columns | {"NPIXELS": pixels}, provenance=None)


def unknown(seed: int) -> Extraction:
    made = nod(seed=seed)
    del made.header["TARGNAME"]
    return made


def empty(seed: int) -> Extraction:
    return lose(nod(seed=seed), list(range(ROWS)))


def curve(change: Callable[[Extraction], None] | None = None, noise: float = 0.0) -> Extraction:
    """A star of constant brightness in 40 integrations."""
    stack = series(np.ones(40), noise)
    if change is not None:
        change(stack)
    return stack


def no_barycentre(stack: Extraction) -> None:
    assert stack.times is not None
    stack.times["TDB-MID"] = np.nan


def no_time(stack: Extraction) -> None:
    assert stack.times is not None
    for name in ("TDB-MID", "MJD-AVG"):
        stack.times[name][3:5] = np.nan


def same_time(stack: Extraction) -> None:
    assert stack.times is not None
    for name in stack.times.colnames:
        if name != "INT_NUM":
            stack.times[name][4] = stack.times[name][3]


def lost(integrations: Any, elements: Any) -> Callable[[Extraction], None]:
    def change(stack: Extraction) -> None:
        for name, value in (("FLUX", np.nan), ("DQ", 1), ("NPIXELS", 0.0)):
            stack.columns[name][integrations, elements] = value

    return change


def jitter(stack: Extraction) -> None:
    factors = 1.0 + 0.02 * np.random.default_rng(3).standard_normal(40)
    stack.columns["FLUX"] *= factors[:, np.newaxis]


def nods() -> list[Extraction]:
    return [nod(seed=1), nod(seed=2)]


@dataclass(frozen=True)
class Case:
    """Spectra with a kind of finding, some of its values, and spectra that do not have it."""

    kind: str
    spectra: Callable[[], list[Extraction]]
    values: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    twin: Callable[[], list[Extraction]] = nods

    def __str__(self) -> str:
        return self.kind


def near(value: float) -> Any:
    return pytest.approx(value, abs=0.01)


COMBINED = [
    Case(
        "opposite_signs",
        lambda: [nod(), nod(-1.0, 1)],
        {},
        {"allow_opposite": True},
        ("--allow-opposite",),
    ),
    Case("different_flux", lambda: [nod(), nod(1.3, 1)], {"ratio": near(1.3)}),
    Case("different_spectra", lambda: [nod(), nod(seed=1, source="EXTENDED")]),
    Case("different_targets", lambda: [nod(), nod(seed=1, TARGNAME="OTHER")]),
    Case("unknown_target", lambda: [nod(), unknown(1)]),
    Case("repeated", lambda: [nod(), nod()]),
    Case("unused_spectra", lambda: [nod(), nod(seed=1), empty(2)]),
    Case(
        "empty_bins",
        lambda: [lose(nod(), [7]), lose(nod(seed=1), [7])],
        {"bins": 1},
        {"mode": "pipeline"},
        ("--pipeline",),
    ),
    Case(
        "short_spectra", lambda: [short(0), short(1)], {"bins": 5}, twin=lambda: [nod(), short(1)]
    ),
    Case("rejected_elements", lambda: [nod(), short(1)], {"values": 5}),
    Case(
        "scaled",
        lambda: [nod(), nod(1.3, 1)],
        {"factor": near(1.15)},
        {"scale": True},
        ("--scale",),
    ),
]

LIGHT_CURVES = [
    Case("times_utc", lambda: [curve(no_barycentre)]),
    Case("times_missing", lambda: [curve(no_time)]),
    Case("times_repeated", lambda: [curve(same_time)]),
    Case("points_lost", lambda: [curve(lost(5, slice(10, 110)))], {"points": 1, "all": 40}),
    Case("elements_left_out", lambda: [curve(lost(slice(None), 60))], {"elements": 1}),
    Case("elements_replaced", lambda: [curve(lost(7, 60))], {"values": 1}),
    Case("scatter_excess", lambda: [curve(jitter, 0.01)]),
]


def found(case: Case, spectra: list[Extraction], options: Mapping[str, Any]) -> list[Finding]:
    """Return the findings of the kind, and check the class and severity of their warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LRSWarning)
        made = light_curve(*spectra) if case in LIGHT_CURVES else combine(spectra, **options)
    of_kind = [one for one in made.findings if one.kind == case.kind]
    serious = [one for one in of_kind if one.severity != "info"]
    issued = [one for one in caught if any(each.text in str(one.message) for each in serious)]
    assert len(issued) == len(serious)
    assert {one.category for one in issued} <= {KINDS[case.kind].category}
    return of_kind


@pytest.mark.parametrize("case", [*COMBINED, *LIGHT_CURVES], ids=str)
def test_python(case: Case) -> None:
    finding, *_ = found(case, case.spectra(), case.options)
    for name, expected in case.values.items():
        assert finding.values[name] == expected
    clean = [curve(noise=0.01)] if case in LIGHT_CURVES else case.twin()
    assert found(case, clean, {}) == []


@pytest.mark.parametrize("case", [*COMBINED, *LIGHT_CURVES], ids=str)
def test_command_line(case: Case, tmp_path: Path) -> None:
    finding, *_ = found(case, case.spectra(), case.options)
    series_given = case in LIGHT_CURVES
    paths = []
    for number, one in enumerate(case.spectra()):
        paths.append(str(tmp_path / f"n{number}_x1d{'ints' if series_given else ''}.fits"))
        one.write(paths[-1])
    out = tmp_path / ("made.ecsv" if series_given else "made_c1d.fits")
    command = ["lightcurve" if series_given else "combine", *paths, *case.arguments, "--strict"]
    run = CliRunner().invoke(main, [*command, "-o", str(out)], env={"COLUMNS": "100"})
    serious = finding.severity != "info"
    assert run.exit_code == 1 or not serious, run.output
    beginning = " ".join(finding.text.split()[:5])
    lines = [line for line in run.stderr.splitlines() if beginning in line]
    assert bool(lines) is serious, run.stderr
    assert all(f"glue-lrs: {finding.severity}: " in line for line in lines)
    if series_given:
        return  # `info` describes products of the pipeline
    shown = CliRunner().invoke(main, ["info", str(out)], env={"COLUMNS": "200"})
    assert beginning in " ".join(shown.stdout.split())


def test_every_kind_has_a_case() -> None:
    kinds = list(KINDS)
    assert {case.kind for case in (*COMBINED, *LIGHT_CURVES)} == set(
        kinds[kinds.index("opposite_signs") :]
    )
