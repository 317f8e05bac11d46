"""Findings about the aperture: is the source in its middle, and how much flux is outside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.errors import Hint
from glue_lrs.spectra.findings import NEGLIGIBLE, SIGNIFICANT, Finding

if TYPE_CHECKING:
    from glue_lrs.findings.case import Case

#: Largest accepted distance (columns) of the source from the middle of the aperture. It is also the
#: largest accepted difference from the position in the header, as in `measure`.
_OFFSET = 0.5

#: Largest accepted deviation (columns, peak to peak) of the shape of the trace from that of the
#: WCS, with which the ends of the trace deviate from its middle by half as much.
_LEAN = 0.5


def position_findings(case: Case) -> Iterator[Finding]:
    """Yield findings about the position of the source, relative to aperture, header and WCS."""
    source, measured = case.source, case.measurement
    distance, half = case.distance(source), float(case.width.mean()) / 2.0
    where = f"the source was found at column {source.column:.2f} +- {source.column_error:.2f}"
    centre = source.column - distance
    span = f"the aperture (columns {centre - half + 0.5:.2f} to {centre + half - 0.5:.2f})"
    values = {
        "distance": distance,
        "error": source.column_error,
        "column": source.column,
        "width": 2.0 * half,
    }
    hint = None
    if measured.expected is not None and not case.operator.positions(case.image):
        hint = Hint.to("{} moves it where the header puts the source", use_source_posn=True)
    if abs(distance) - half > SIGNIFICANT * source.column_error:
        text = f"{span} does not contain the source: {where}"
        yield Finding("source_outside", text, values, hint)
    elif not _by_profile(case) and abs(distance) > max(_OFFSET, SIGNIFICANT * source.column_error):
        lost = max(1.0 - float(case.enclosed.mean()), 0.0)
        if lost > NEGLIGIBLE:
            yield Finding(
                "off_centre",
                f"{where}, {distance:+.2f} columns from the middle of {span}, which misses "
                f"{lost:.0%} of its flux",
                values | {"outside": lost},
                hint,
            )
    if source is not measured.target:
        yield Finding(
            "other_source",
            f"the aperture is on the source at column {source.column:.2f}, and not on the target, "
            f"which was found at column {measured.target.column:.2f}",
            {"column": source.column, "target": measured.target.column},
        )
    expected, offset = measured.expected, measured.offset
    limit = max(_OFFSET, SIGNIFICANT * measured.column_error)
    if expected is not None and offset is not None and abs(offset) > limit:
        yield Finding(
            "header_off",
            f"the target was found at column {measured.column:.2f}, {offset:+.2f} from where the "
            "header puts it",
            {"offset": offset, "error": measured.column_error},
        )


def _by_profile(case: Case) -> bool:
    """Return whether the profile at the measured position corrects the flux."""
    return case.operator.correction == "profile" and case.operator.apply_apcorr


def trace_findings(case: Case) -> Iterator[Finding]:
    """Yield findings about negative traces in the aperture, and about the shape of the trace."""
    half = float(case.width.mean()) / 2.0
    for source in case.measurement.sources:
        if not source.negative:
            continue
        depth = half - abs(case.distance(source))
        if depth > SIGNIFICANT * source.column_error and source.snr > SIGNIFICANT:
            yield Finding(
                "negative_trace",
                f"the aperture contains the negative trace of another nod at column "
                f"{source.column:.2f}, whose flux is {source.flux_ratio:.2g} times that of the "
                "source",
                {"column": source.column, "ratio": source.flux_ratio},
            )
    known = np.flatnonzero(np.isfinite(case.measurement.trace))
    shape = (case.measurement.trace - case.measurement.curve)[known]
    low, high = int(shape.argmin()), int(shape.argmax())
    lean = float(shape[high] - shape[low])
    error = float(np.hypot(*case.measurement.target.trace_error[known[[low, high]]]))
    if lean > max(_LEAN, SIGNIFICANT * error):
        yield Finding(
            "leaning_trace",
            f"the trace of the source deviates from that of the WCS by {lean:.2f} +- {error:.2f} "
            f"columns between rows {known[low]} and {known[high]}",
            {"lean": lean, "error": error},
        )


def flux_findings(case: Case) -> Iterator[Finding]:
    """Yield findings about the flux outside the aperture, and about the aperture correction."""
    if not case.image.is_point_source or not case.inside(case.source) or _by_profile(case):
        return
    wave = case.measurement.wavelength[case.rows]
    correction = case.operator.aperture_correction
    ends = sorted(int(np.abs(wave - at).argmin()) for at in np.nanpercentile(wave, [10.0, 90.0]))
    high, low = ends  # the wavelength decreases with the row
    if correction is None or not case.operator.apply_apcorr:
        outside = np.clip(1.0 - case.enclosed, 0.0, 1.0)
        yield Finding(
            "flux_outside",
            f"no aperture correction was applied: {outside[low]:.0%} of the flux at "
            f"{wave[low]:.1f} um and {outside[high]:.0%} at {wave[high]:.1f} um is outside the "
            "aperture, according to the measured profile",
            {"shortest": float(outside[low]), "longest": float(outside[high])},
            Hint.to("give {}", "apcorr"),
        )
        return
    distance, error = abs(case.distance(case.source)), case.source.column_error
    profile, half = case.measurement.point_spread, case.width / 2.0
    off = case.distances(case.source)
    # Both integrals are exact, so that they do not differ by the effect of partial pixels.
    enclosed = profile.cumulative(half - off, wave) - profile.cumulative(-half - off, wave)
    missing = 1.0 - float((enclosed / profile.enclosed(case.width, wave)).mean())
    # The missing flux increases with the square of the distance.
    if missing > max(NEGLIGIBLE, SIGNIFICANT * missing * 2.0 * error / max(distance, error)):
        yield Finding(
            "correction_off_centre",
            f"the aperture correction is for a source in the middle of the aperture; the source is "
            f"{distance:.2f} columns off, and the corrected flux {missing:.0%} short",
            {"missing": missing, "distance": distance},
        )
    scale = case.measurement.pixel_scale
    fwhm, fwhm_error = (values / scale for values in case.measurement.width(wave))
    narrow = case.width < fwhm - SIGNIFICANT * fwhm_error
    if narrow.any():
        worst = int((fwhm / case.width).argmax())
        yield Finding(
            "correction_narrow",
            f"the aperture is narrower than the source in {int(narrow.sum())} of {narrow.size} "
            f"rows ({case.width[worst]:.1f} columns for a FWHM of {fwhm[worst]:.1f} at "
            f"{wave[worst]:.1f} um): the aperture correction depends on the exact profile",
            {"rows": int(narrow.sum()), "width": float(case.width[worst])},
        )
