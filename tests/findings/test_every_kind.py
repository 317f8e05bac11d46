"""Each kind of finding about an extraction, in Python, on the command line and in the viewers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from glue.core.session import Session

from glue_lrs import Extract1D, LRSWarning, SlitImage
from glue_lrs.cli import main
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.simulation import Scene, Source
from glue_lrs.spectra.findings import KINDS, Finding
from glue_lrs.viewers import open_extraction

pytestmark = pytest.mark.slow

#: Column of the source in nod 1. The negative trace is at column 30.95.
SOURCE = 13.05

#: Pixels at the peak of the trace in ten rows.
PEAK = (slice(150, 160), 13)

CORRECTION = Scene().aperture_correction(size=np.arange(1, 31))


def nod(**values: Any) -> Callable[[], SlitImage]:
    return lambda: Scene(seed=1, **values).s2d(nod=1).image


def damaged(plane: str, pixels: Any, value: float, **values: Any) -> Callable[[], SlitImage]:
    """A nod in which some pixels of a plane have another value."""

    def make() -> SlitImage:
        image = nod(**values)()
        changed = getattr(image, plane).copy()
        changed[pixels] = value
        return replace(image, **{plane: changed})

    return make


def no_variances() -> SlitImage:
    return replace(nod()(), var_poisson=None, var_rnoise=None, var_flat=None)


def zero_variances() -> SlitImage:
    image = nod()()
    zero = np.zeros_like(image.data)
    return replace(image, var_poisson=zero, var_rnoise=zero, var_flat=zero)


def drizzled() -> SlitImage:
    """A nod with bad pixels that drizzle filled in, according to its weights."""
    image = nod()()
    weight = np.ones(image.shape, dtype=np.float32)
    weight[PEAK] = 0.0
    return replace(image, drizzle_weight=weight)


def pedestal() -> SlitImage:
    """A nod with a background that the header says was subtracted."""
    image = nod()()
    return replace(image, data=image.data + 50.0)


def stack() -> SlitImage:
    return Scene(seed=1).calints(n_int=2).image


def struck() -> SlitImage:
    """A stack of which a pixel at the source is hit by a cosmic ray in one integration."""
    image = Scene(seed=1).calints(n_int=5).image
    data = np.array(image.data)
    data[2, 200, 35] += 100 * np.nanmedian(np.asarray(image.err))
    return replace(image, data=data)


def box(column: float, width: float = 8.0, **keys: Any) -> dict[str, Any]:
    """Parameters of a box around a column."""
    half = width / 2.0 - 0.5
    return {"xstart": column - half, "xstop": column + half, "use_source_posn": False} | keys


@dataclass(frozen=True)
class Case:
    """An extraction of which a kind of finding is expected, with some of the values.

    `twin` has the parameters that are changed to get an extraction without this finding, or is
    another image that does not have it.
    """

    kind: str
    image: Callable[[], SlitImage]
    keys: Mapping[str, Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    twin: Mapping[str, Any] | Callable[[], SlitImage] = field(default_factory=nod)

    def __str__(self) -> str:
        return self.kind

    def operator(self, image: SlitImage) -> Extract1D:
        return Extract1D.from_reference(None, image.exp_type, **self.keys)

    def without(self) -> tuple[SlitImage, Extract1D]:
        if callable(self.twin):
            image = self.twin()
            return image, self.operator(image)
        image = self.image()
        return image, replace(self, keys={**self.keys, **self.twin}).operator(image)


GAP = (slice(100, 110), slice(19, 27))
ROWS_OF_0 = (slice(100, 105), slice(None))
WIDE_GAP = (slice(150, 154), slice(10, 17))
OPTIMAL = {"extraction_type": "optimal"}
REGION = [[20.5], [24.5]]
SLITLESS_REGIONS = [[8.5], [18.5], [52.5], [62.5]]
SHORT_TABLE = replace(CORRECTION, wavelength=CORRECTION.wavelength / 2.0)
EMPTY = (Source(flux=1e-9),)
FAINT = nod(sources=EMPTY)
NEIGHBOUR = nod(sources=(Source(), Source(flux=3e-4, position=1.1)))

CASES = [
    Case("negative_flux", nod(), box(30.95), twin=box(SOURCE)),
    Case("background_left", stack, {}, twin={"bkg_coeff": SLITLESS_REGIONS}),
    Case("background_left", pedestal, box(SOURCE), {"highest": pytest.approx(0.087, abs=0.005)}),
    Case(
        "rows_without_background",
        damaged("data", GAP, np.nan),
        box(SOURCE, bkg_coeff=REGION),
        {"rows": 10},
    ),
    Case(
        "lost_pixels",
        damaged("data", PEAK, np.nan, sources=EMPTY),
        box(SOURCE),
        {"rows": 10, "lost": 1.0},
    ),
    Case(
        "flux_lost",
        damaged("data", PEAK, np.nan),
        box(SOURCE),
        {"rows": 10, "lost": 1.0, "mean": pytest.approx(0.24, abs=0.03)},
    ),
    Case("flux_lost", damaged("var_flat", PEAK, np.nan), box(SOURCE), {"rows": 10}),
    Case(
        "empty_rows",
        damaged("data", (slice(100, 105), slice(5, 25)), np.nan),
        box(SOURCE),
        {"rows": 5, "shortest": pytest.approx(12.45, abs=0.01)},
        damaged("data", (slice(0, 5), slice(5, 25)), np.nan),
    ),
    Case("empty_rows", damaged("data", ROWS_OF_0, 0.0), box(SOURCE), {"rows": 5}),
    Case(
        "restored_pixels",
        damaged("data", PEAK, np.nan),
        box(SOURCE, bad_pixels="profile"),
        {"rows": 10},
    ),
    Case(
        "time_outliers",
        struck,
        {"time_outliers": "replace", "bkg_coeff": SLITLESS_REGIONS},
        {"outliers": 1, "lost": 0},
        twin={"time_outliers": "keep"},
    ),
    Case(
        "uncorrected_pixels",
        damaged("data", WIDE_GAP, np.nan),
        box(SOURCE, bad_pixels="profile"),
        {"rows": 4},
    ),
    Case(
        "filled_pixels",
        drizzled,
        box(SOURCE),
        {"rows": 10, "filled": pytest.approx(1.0)},
        {"filled_pixels": "lost"},
    ),
    Case("no_variances", no_variances, box(SOURCE)),
    Case("no_variances", zero_variances, box(SOURCE)),
    Case("invalid_variances", damaged("var_rnoise", PEAK, -1e3), box(SOURCE), {"rows": 10}),
    Case("no_aperture_correction", FAINT, box(SOURCE), twin={"apcorr": CORRECTION}),
    Case("flux_outside", nod(), box(SOURCE), twin={"apcorr": CORRECTION}),
    Case(
        "noise_excess",
        nod(nod_variance=False, sources=(Source(flux=1e-5),)),
        box(SOURCE),
        {"factor": pytest.approx(2.0**0.5, abs=0.1)},
    ),
    Case(
        "noise_added",
        nod(nod_variance=False),
        box(SOURCE, noise="nod"),
        twin=box(SOURCE, noise="propagated"),
    ),
    Case("uncalibrated", lambda: Scene(seed=1).s2d(nod=1, calibrated=False).image, box(SOURCE)),
    Case("off_image", nod(), box(1.0), {"lower": -2.5, "columns": 45}, box(SOURCE)),
    Case("off_image", nod(), box(3.5), {"lower": 0.0, "rows": 385}, box(4.5)),
    Case(
        "position_unknown",
        lambda: replace(nod()(), source_ra=None, source_dec=None),
        {"use_source_posn": True},
    ),
    Case(
        "aperture_off_header",
        FAINT,
        box(30.0),
        {"column": pytest.approx(SOURCE, abs=0.01)},
        box(SOURCE),
    ),
    Case(
        "region_on_header",
        FAINT,
        box(30.0, bkg_coeff=[[10.5], [15.5]]),
        {"lower": 11.0, "upper": 15.0},
        {"bkg_coeff": REGION},
    ),
    Case(
        "region_overlap",
        nod(),
        box(SOURCE, bkg_coeff=[[15.5], [24.5]]),
        {"lower": 16.0, "rows": 387},
        {"bkg_coeff": REGION},
    ),
    Case("no_source", FAINT, box(SOURCE)),
    Case(
        "source_outside",
        nod(),
        box(20.0),
        {"distance": pytest.approx(-6.95, abs=0.02)},
        box(SOURCE),
    ),
    Case(
        "off_centre",
        nod(),
        box(15.05),
        {"distance": pytest.approx(-2.0, abs=0.02), "outside": pytest.approx(0.10, abs=0.04)},
        box(SOURCE),
    ),
    Case(
        "far_off_centre",
        nod(),
        box(16.05),
        {"distance": pytest.approx(-3.0, abs=0.02), "missing": pytest.approx(0.25, abs=0.04)},
        box(15.05),
    ),
    Case(
        "negative_trace", nod(), box(30.95), {"ratio": pytest.approx(-1.0, abs=0.02)}, box(SOURCE)
    ),
    Case(
        "other_source",
        NEIGHBOUR,
        box(23.05),
        {"column": pytest.approx(23.05, abs=0.05), "target": pytest.approx(SOURCE, abs=0.02)},
        box(SOURCE),
    ),
    Case(
        "neighbour",
        nod(sources=(Source(), Source(flux=1e-3, position=0.5))),
        box(SOURCE, 14.0),
        {"column": pytest.approx(SOURCE + 0.5 / 0.11, abs=0.1)},
        box(SOURCE - 4.0, 2.0),
    ),
    Case(
        "blend",
        nod(sources=(Source(), Source(flux=1e-3, position=0.2))),
        box(SOURCE),
        {"column": pytest.approx(SOURCE + 0.2 / 0.11, abs=0.3)},
    ),
    Case(
        "header_off", nod(pointing_error=0.15), box(14.4), {"offset": pytest.approx(1.36, abs=0.02)}
    ),
    Case(
        "leaning_trace",
        nod(trace_error=(0.0, 0.4)),
        box(SOURCE),
        {"lean": pytest.approx(0.8, abs=0.02)},
    ),
    Case(
        "region_on_trace",
        nod(),
        box(SOURCE, bkg_coeff=[[27.5], [34.5]]),
        {"column": pytest.approx(30.95, abs=0.02)},
        {"bkg_coeff": REGION},
    ),
    Case(
        "correction_off_centre",
        nod(),
        box(14.6, apcorr=CORRECTION),
        {"distance": pytest.approx(1.55, abs=0.02), "missing": pytest.approx(0.05, abs=0.02)},
        box(SOURCE),
    ),
    Case(
        "correction_narrow",
        nod(),
        box(SOURCE, width=2.0, apcorr=CORRECTION),
        {"width": pytest.approx(2.0)},
        box(SOURCE),
    ),
    Case(
        "correction_range",
        nod(),
        box(SOURCE, apcorr=SHORT_TABLE),
        twin={"apcorr": CORRECTION},
    ),
    Case(
        "outliers",
        damaged("data", (120, 14), 1800.0),
        box(SOURCE),
        {"rows": 1, "highest": pytest.approx(0.15, abs=0.05)},
        damaged("data", (120, slice(None)), 1800.0),
    ),
    Case(
        "outlier_flux",
        damaged("data", (slice(120, 123), 14), 5000.0),
        box(SOURCE),
        {"rows": 3, "share": pytest.approx(0.05, abs=0.02)},
    ),
    Case(
        "outliers",
        damaged("data", (120, 13), 0.0),
        box(SOURCE),
        {"rows": 1, "highest": pytest.approx(-0.24, abs=0.03)},
    ),
    Case(
        "outlier_flux",
        damaged("data", (slice(120, 123), 13), -400.0),
        box(SOURCE),
        {"rows": 3, "highest": pytest.approx(-0.325, abs=0.03)},
    ),
    Case(
        "fit",
        nod(),
        {**OPTIMAL, "bkg_order": 8, "bkg_coeff": REGION},
        twin={"bkg_order": 1},
    ),
    Case(
        "fitted",
        nod(),
        OPTIMAL,
        twin=lambda: Scene(seed=1, background=0.0).s2d(nod=1, subtract_nod=False).image,
    ),
    Case(
        "unused_option",
        nod(),
        {**OPTIMAL, "bkg_fit": "median", "bkg_coeff": REGION},
        twin={"bkg_fit": "poly"},
    ),
    Case(
        "not_measured",
        nod(),
        {"src_coeff": [[9.5], [11.5], [14.5], [16.5]], "use_source_posn": False},
        twin={"src_coeff": [[9.5], [16.5]]},
    ),
]

#: Text of the warning when the file is read, in place of the finding's text.
READ = {"there are no variances": "has no VAR_POISSON"}

every = pytest.mark.parametrize("case", CASES, ids=str)

#: Cases about what the viewers show: one integration, or the median of all, without outliers.
SHOWN = [case for case in CASES if case.kind != "time_outliers"]


def named(found: tuple[Finding, ...], kind: str) -> list[Finding]:
    return [one for one in found if one.kind == kind]


@every
def test_python(case: Case) -> None:
    image = case.image()
    operator = case.operator(image)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LRSWarning)
        extraction = operator.run(image)
    ran = named(extraction.findings, case.kind)
    (finding,) = named(operator.check(image, extraction), case.kind)
    for name, expected in case.values.items():
        assert finding.values[name] == expected
    kind = KINDS[case.kind]
    assert finding.severity == kind.severity
    issued = [one for one in caught if str(finding.text) in str(one.message)]
    assert len(issued) == (len(ran) if kind.severity != "info" else 0)
    assert {one.category for one in issued} <= {kind.category}
    assert {one.filename for one in issued} <= {__file__}
    other, sound = case.without()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        assert named(sound.check(other), case.kind) == []


@every
def test_command_line(case: Case, tmp_path: Path) -> None:
    path, out = tmp_path / "given_s2d.fits", tmp_path / "made_x1d.fits"
    image = case.image()
    image.write(path)
    options = ["extract", str(path), "-o", str(out)]
    for key, value in case.keys.items():
        if key == "apcorr":
            write_apcorr(value, tmp_path / "apcorr.fits")
            options += ["--apcorr", str(tmp_path / "apcorr.fits")]
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            options += ["--set", f"{key}={text}"]
    run = CliRunner().invoke(main, [*options, "--strict"], env={"COLUMNS": "100"})
    (finding,) = named(case.operator(image).check(image), case.kind)
    serious = finding.severity != "info"
    assert run.exit_code == 1 or not serious
    words = finding.text.split()
    beginning = READ.get(" ".join(words[:4]), " ".join(words[:7]))
    lines = [line for line in run.stderr.splitlines() if beginning in line]
    assert (len(lines) == 1) is serious
    assert all(f"glue-lrs: {finding.severity}: " in line for line in lines)
    shown = CliRunner().invoke(main, ["info", str(out)])
    assert finding.text[:40] in " ".join(shown.stdout.split())


@pytest.mark.desktop
@pytest.mark.parametrize("case", SHOWN, ids=str)
def test_viewer(case: Case, tmp_path: Path) -> None:
    image = case.image()
    path = tmp_path / "given_s2d.fits"
    image.write(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        live = open_extraction(Session(), path)
    if image.is_stack:
        live.integration = 0
    live.set(case.operator(image), "case")
    live.check()
    (finding,) = named(live.findings, case.kind)
    assert (" ".join(finding.text.split()[:4]) in live.message) is (finding.severity != "info")


def test_every_kind_about_an_extraction_has_a_case() -> None:
    kinds = list(KINDS)
    extraction = kinds[: kinds.index("opposite_signs")]
    # `changed` and `not_extracted` are not results of a check of an image.
    assert {case.kind for case in CASES} == set(extraction) - {"changed", "not_extracted"}
