"""Every column equals the JWST pipeline's, over random cases that reach every branch."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jwst.extract_1d.source_location import location_from_wcs

from glue_lrs import Aperture, Extract1D, LRSError, LRSWarning
from glue_lrs.apertures.placement import Placement, PlacementRule
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.io.apcorr import write_apcorr
from tests.helpers import pipeline
from tests.helpers.cases import Case, make_case

TOLERANCE, STIFF = 1e-9, 1e-8
#: Also the rarest: a background that slides off the image, a trace that the pipeline misplaces.
SEEDS = [*range(320), 342, 384, 414, 429, 815, 1043]
CHUNK = 20

#: Every branch that the cases must reach at least once, by the words that `make_case` uses.
BRANCHES = {
    "image": "s2d cal cal_cut calints slit_tso",
    "wavelength": "plane wcs",
    "lines": "level tilted",
    "var_flat": "present missing",
    "photom": "calibrated uncalibrated",
    "dither": "there missing outside",
    "source": "point extended unknown none",
    "stack": "SlitModel CubeModel",
    "bad": "none data err variance dq mixed row infinite",
    "limits": "default whole fraction beyond width pixel taper two",
    "rows": "all cut",
    "background": "none poly0 poly1 poly2 poly3 median step_mean",
    "regions": "both one overlapping sloped",
    "smoothing": "none reference even",
    "position": "default ref_true ref_false step_true step_false",
    "offset": "none some",
    "subtract": "none true false",
    "apcorr": "none table",
    "mended": "trace limits background",
    "acted": "position offset trace background polynomial smoothing apcorr lost empty",
}


class PipelineTraceRule(PlacementRule):
    """Our rule with the pipeline's own trace, which is some rows away from the right ones."""

    def place(
        self, aperture: Aperture, image: SlitImage, notes: list[LRSWarning] | None = None
    ) -> Placement:
        placement = super().place(aperture, image, notes)
        trace = location_from_wcs(pipeline.to_model(image, "ImageModel"), None)[3]
        return replace(placement, trace=trace + self.position_offset)


class PipelineTrace(Extract1D):
    """Our operator with `PipelineTraceRule`."""

    @property
    def placement_rule(self) -> PlacementRule:
        rule = super().placement_rule
        return PipelineTraceRule(**{one.name: getattr(rule, one.name) for one in fields(rule)})


def operator(case: Case, cls: type[Extract1D] = Extract1D) -> Extract1D:
    reference = {"apertures": [{"id": case.image.exp_type, **case.entry}]}
    return cls.from_reference(reference, case.image.exp_type, apcorr=case.apcorr, **case.step)


def mended(case: Case) -> set[str]:
    """The pipeline's faults that a case runs into and that are mended here."""
    found = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        extract = operator(case)
        placement = extract.place(case.image)
        if placement.trace is not None and "image: cal" in case.branches:
            found.add("mended: trace")  # stored some rows away, the last row lost
        if extract.background is not None and extract.subtract_background is not False:
            try:
                extract.background.weights(case.image.wavelength, placement.background_offset)
            except LRSError:
                found.add("mended: background")  # moved off the image: nothing is subtracted
    if "limits: taper" in case.branches and np.isnan(case.image.wavelength).any():
        found.add("mended: limits")  # NaN in the header
    return found


def acted(case: Case) -> set[str]:
    """What did not only stand in a case but changed its numbers."""
    if "mended: background" in mended(case):
        return set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        extract = operator(case)
        extraction = extract.run(case.image)

        def changes(**without: Any) -> bool:
            other = replace(extract, **without).run(case.image).columns
            return any(
                not np.array_equal(extraction.columns[key], other[key], equal_nan=True)
                for key in ("FLUX", "BACKGROUND")
            )

        placement, background = extract.place(case.image), extract.background
        lost = extraction.lost_fraction
        what = {
            "position": placement.offset != extract.position_offset,
            "offset": extract.position_offset != 0 and changes(position_offset=0.0),
            "trace": placement.trace is not None,
            "apcorr": changes(aperture_correction=None),
            "lost": bool(np.any((lost > 0) & (lost < 1))),
            "empty": bool(np.isnan(extraction.columns["FLUX"]).any()),
        }
        if background is not None:
            level, rough = replace(background, bkg_order=0), replace(background, smoothing_length=0)
            what["background"] = changes(background=None)
            what["polynomial"] = changes(background=level)
            what["smoothing"] = changes(background=rough)
    return {f"acted: {name}" for name, did in what.items() if did}


def compare(case: Case, folder: Path, largest: dict[str, float] | None = None) -> list[str]:
    """All that differs between the two. In `largest`, the largest differences are kept."""
    apcorr = None
    if case.apcorr is not None:
        apcorr = folder / "apcorr.fits"
        write_apcorr([case.apcorr], apcorr, overwrite=True)
    theirs = pipeline.run(
        case.image, case.entry, folder, apcorr=apcorr, model_class=case.model_class, **case.step
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        cls = PipelineTrace if "mended: trace" in mended(case) else Extract1D
        if "mended: background" in mended(case):
            with pytest.raises(LRSError, match="no background region"):
                operator(case).run(case.image)
            subtracted = theirs.columns["BACKGROUND"]
            return [] if not subtracted.any() else ["BACKGROUND: there is one after all"]
        ours = operator(case, cls).run(case.image)
    tolerance = STIFF if case.stiff else TOLERANCE
    found = pipeline.disagreements(ours.columns, theirs.columns, tolerance, largest)
    for key, judge in theirs.keywords.items():
        mine = ours.keywords.get(key)
        if isinstance(judge, float) and np.isnan(judge) and "mended: limits" in mended(case):
            if not (mine is not None and np.isfinite(mine)):
                found.append(f"{key}: {mine}, expected a number")
        elif isinstance(judge, int | float | np.number) and not isinstance(judge, bool):
            if not np.isclose(mine, judge, rtol=1e-9, atol=1e-9):
                found.append(f"{key}: {mine}, the pipeline {judge}")
        elif mine != judge and (key, judge) != (
            "SRCTYPE",
            None,
        ):  # an ImageModel has nowhere for it
            found.append(f"{key}: {mine!r}, the pipeline {judge!r}")
    return found


@pytest.mark.parametrize("first", range(0, len(SEEDS), CHUNK))
def test_random_cases(first: int, tmp_path: Path) -> None:
    wrong: dict[int, Any] = {}
    for seed in SEEDS[first : first + CHUNK]:
        case = make_case(seed)
        found = compare(case, tmp_path)
        if found:
            wrong[seed] = (found, case.entry, case.step)
    assert not wrong, "\n".join(f"{seed}: {what}" for seed, what in wrong.items())


def test_every_branch_was_reached(capsys: pytest.CaptureFixture[str]) -> None:
    """The random cases cover what they claim to; the counts are printed."""
    reached: Counter[str] = Counter()
    for seed in SEEDS:
        case = make_case(seed)
        reached.update(case.branches | mended(case) | acted(case))
    wanted = {f"{what}: {name}" for what, names in BRANCHES.items() for name in names.split()}
    with capsys.disabled():
        print(f"\n{len(SEEDS)} cases against jwst reached:")
        for what, names in BRANCHES.items():
            each = ", ".join(f"{name} {reached[f'{what}: {name}']}" for name in names.split())
            print(f"  {what:10s} {each}")
    assert set(reached) == wanted
    assert min(reached[name] for name in wanted) > 0
