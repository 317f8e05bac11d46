"""Findings about the aperture: is the source in its middle, and how much flux is outside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.errors import Hint
from glue_lrs.image.pixels import lost_share
from glue_lrs.instrument import SLITLESS
from glue_lrs.spectra.column_checks import REPORTED_LOSS
from glue_lrs.spectra.findings import NEGLIGIBLE, SIGNIFICANT, Finding

if TYPE_CHECKING:
    from glue_lrs.findings.case import Case

#: Largest accepted distance (columns) of the source from the middle of the aperture. It is also the
#: largest accepted difference from the position in the header, as in `measure`.
_OFFSET = 0.5

#: Largest accepted difference in shape between the measured trace and that of the WCS: maximum
#: minus minimum of their distance, in columns. At this limit, the ends of a tilted trace are
#: displaced by half of it.
_LEAN = 0.5

#: Fraction of the flux in a centred aperture above which missing flux is a finding of severity
#: error. It is several times the uncertainty of the absolute flux calibration.
_WRONG = 0.2


def position_findings(case: Case) -> Iterator[Finding]:
    """Yield findings about the position of the source, relative to aperture, header and WCS."""
    source, measured = case.source, case.measurement
    distance, half = case.distance(source), float(case.width.mean()) / 2.0
    where = f"the source was found at column {source.column:.2f} +- {source.column_error:.2f}"
    # As the source's column, in the reference row of the measurement.
    near = int(np.abs(np.flatnonzero(case.rows) - measured.row).argmin())
    centre, inner = float(case.centre[near]), float(case.width[near]) / 2.0 - 0.5
    span = f"the aperture (columns {centre - inner:.2f} to {centre + inner:.2f})"
    values = {
        "distance": distance,
        "error": source.column_error,
        "column": source.column,
        "width": 2.0 * half,
    }
    hint = Hint.to("give {} along the measured trace, from measure --reference", "src_coeff")
    if measured.expected is not None and not case.operator.positions(case.image):
        moved = Hint.to("{} moves it to the header position of the source", use_source_posn=True)
        hint = moved.joined(hint)
    if abs(distance) - half > SIGNIFICANT * source.column_error:
        text = f"{span} does not contain the source: {where}"
        yield Finding("source_outside", text, values, hint)
    elif not _by_profile(case) and abs(distance) > max(_OFFSET, SIGNIFICANT * source.column_error):
        lost = max(1.0 - float(case.enclosed.mean()), 0.0)
        if lost > NEGLIGIBLE:
            yield Finding(
                "far_off_centre" if case.missing > _WRONG else "off_centre",
                f"{where}, on average {distance:+.2f} columns from the middle of {span}, which "
                f"misses {lost:.0%} of the source's flux",
                values | {"outside": lost, "missing": case.missing},
                hint,
            )
    if source is not measured.target:
        yield Finding(
            "other_source",
            f"the aperture is on the source at column {source.column:.2f}, and not on the target, "
            f"which was found at column {measured.target.column:.2f}",
            {"column": source.column, "target": measured.target.column},
        )
    yield from _neighbours(case)
    expected, offset = measured.expected, measured.offset
    limit = max(_OFFSET, SIGNIFICANT * measured.column_error)
    if expected is not None and offset is not None and abs(offset) > limit:
        yield Finding(
            "header_off",
            f"the target was found at column {measured.column:.2f}, {offset:+.2f} from the "
            "header position",
            {"offset": offset, "error": measured.column_error},
        )


def _neighbours(case: Case) -> Iterator[Finding]:
    """Yield a finding for each other source whose light in the aperture changes the flux.

    The fit takes the shoulder of an asymmetric profile for a source that is closer than a FWHM.
    """
    if not case.inside(case.source):
        return
    own = float(case.enclosed.sum()) * case.source.flux_ratio
    wave = case.measurement.wavelength[case.rows]
    fwhm = float(case.measurement.width(wave)[0].mean()) / case.measurement.pixel_scale
    for other in case.measurement.sources:
        if other is case.source or other.negative or other.snr < SIGNIFICANT:
            continue
        light = float((case.weights * case.profile(other))[case.rows].sum()) * other.flux_ratio
        share = light / max(own, 1e-300)
        near = abs(other.column - case.source.column) < fwhm
        if share > NEGLIGIBLE:
            blend = ", or the profile has a shoulder there" if near else ""
            yield Finding(
                "blend" if near else "neighbour",
                f"the aperture contains light of another source at column {other.column:.2f}, "
                f"about {share:.0%} of the flux of the source at column {case.source.column:.2f}"
                f"{blend}",
                {"column": other.column, "share": share},
                Hint.to("{} separates the sources", extraction_type="optimal"),
            )


def _by_profile(case: Case) -> bool:
    """Return whether the aperture correction follows from the profile at the measured position."""
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
                f"the aperture contains {_negative_trace(case)} at column {source.column:.2f}, "
                f"whose flux is {source.flux_ratio:.2g} times that of the source",
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


def _negative_trace(case: Case) -> str:
    """Return the text for a negative trace. Observations without a slit have no nods."""
    slitless = case.image.exp_type == SLITLESS
    return "a negative trace" if slitless else "the negative trace of another nod"


def lost_flux(case: Case, found: Finding) -> Finding:
    """Return a finding about lost pixels with the missing flux, or `found` if this is unknown.

    Parameters
    ----------
    case : Case
        Extraction that lost pixels in some rows.
    found : Finding
        Finding ``lost_pixels``.
    """
    lost = case.weights * lost_share(case.image)
    light = case.profile(case.source)
    short = (lost.sum(axis=1) > REPORTED_LOSS)[case.rows]
    share = ((lost * light).sum(axis=1)[case.rows] / np.maximum(case.enclosed, 1e-300))[short]
    wave = case.measurement.wavelength[case.rows][short]
    known = share < 1.0  # the other rows have no flux
    if not case.inside(case.source) or not known.any():
        return found
    mean, worst = float(share[known].mean()), int(np.where(known, share, -1.0).argmax())
    return Finding(
        "flux_lost",
        f"{found.text}, by about {mean:.0%} on average and {share[worst]:.0%} at "
        f"{wave[worst]:.2f} um, according to the measured profile",
        {**found.values, "mean": mean, "highest": float(share[worst])},
        found.hint,
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
    missing = case.missing
    # The missing flux increases with the square of the distance.
    if missing > max(NEGLIGIBLE, SIGNIFICANT * missing * 2.0 * error / max(distance, error)):
        yield Finding(
            "correction_off_centre",
            f"the aperture correction is for a source in the middle of the aperture; the source is "
            f"{distance:.2f} columns off, and the corrected flux is {missing:.0%} too low",
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
