"""Reports, tables and dictionaries from a measurement or a curve of growth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.table import QTable
from numpy.typing import NDArray

from glue_lrs.instrument import expected_fwhm

if TYPE_CHECKING:
    from glue_lrs.measurement.curve_of_growth import CurveOfGrowth
    from glue_lrs.measurement.measurement import DetectedSource, Measurement


def plus_minus(value: float, error: float) -> str:
    """Format a value and its error, rounded to two significant digits of the error."""
    if not (math.isfinite(value) and math.isfinite(error)) or error <= 0:
        return f"{value:.3f}"
    digits = int(np.clip(1 - math.floor(math.log10(error)), 0, 6))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def plain(value: float | list[Any] | NDArray[Any] | None) -> Any:
    """Convert a number or array to floats or lists of floats for JSON; NaN and infinity to None."""
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(v) for v in value]
    return float(value) if math.isfinite(value) else None


def band_table(measurement: Measurement) -> QTable:
    """Make a table with one row per band: see `Measurement.table`."""
    target = measurement.target
    return QTable(
        {
            "wavelength": measurement.bands * u.um,
            "row": measurement.band_rows,
            "column": target.centroid * u.pix,
            "column_error": target.centroid_error * u.pix,
            "fwhm": measurement.fwhm * u.arcsec,
            "fwhm_error": measurement.fwhm_error * u.arcsec,
            "expected_fwhm": expected_fwhm(measurement.bands) * u.arcsec,
        }
    )


def source_table(measurement: Measurement) -> QTable:
    """Make a table with one row per source: see `Measurement.source_table`."""
    sources = measurement.sources
    return QTable(
        {
            "kind": [s.kind for s in sources],
            "column": [s.column for s in sources] * u.pix,
            "column_error": [s.column_error for s in sources] * u.pix,
            "flux_ratio": [s.flux_ratio for s in sources],
            "flux_ratio_error": [s.flux_ratio_error for s in sources],
            "snr": [s.snr for s in sources],
        }
    )


def measurement_report(measurement: Measurement) -> str:
    """Format a measurement as text: see `Measurement.report`."""
    m = measurement
    lines = [m.label, f"sources (columns at row {m.row}, {m.row_wavelength:.2f} um):"]
    for source in m.sources:
        ratio = "" if source is m.target else f", {source.flux_ratio:+.3f} of the target's flux"
        lines.append(
            f"  {source.kind:<9} column {plus_minus(source.column, source.column_error)}"
            f", S/N {source.snr:.0f}{ratio}"
        )
    lines.append(_position_line(m))
    trace = m.trace[np.isfinite(m.trace)]
    bend = f"; {m.bend:.2f} columns off the WCS's" if m.bend else ""
    lines.append(f"trace: {trace.min():.2f} to {trace.max():.2f}{bend}")
    lines += [
        f"width: {plus_minus(*m.width_ratio)} times the expected one",
        "  wavelength    column            FWHM              expected",
        "  um            pixel             arcsec            arcsec",
    ]
    expected = expected_fwhm(m.bands)
    for n in range(m.bands.size):
        column = plus_minus(m.target.centroid[n], m.target.centroid_error[n])
        width = plus_minus(m.fwhm[n], m.fwhm_error[n])
        lines.append(f"  {m.bands[n]:6.2f}        {column:<17} {width:<17} {expected[n]:.3f}")
    if m.shift is not None and m.shift_error is not None:
        lines.append(
            f"integrations: {m.shift.size}, the position scatters by "
            f"{float(np.nanstd(m.shift)):.4f} columns "
            f"(expected from the noise: {float(np.nanmedian(m.shift_error)):.4f})"
        )
    lines.append(f"fit: reduced chi-square {m.chi2:.2f}, {m.rejected} outliers rejected")
    if m.noise_factor > 1.0:
        lines.append(
            f"errors are {m.noise_factor:.2f} times those of independent noise, as the residuals "
            "show"
        )
    lines += [f"note: {note}" for note in m.notes]
    return "\n".join(lines)


def _position_line(m: Measurement) -> str:
    """Return the line of the report that compares the measured position with the header's."""
    if m.expected is None or m.offset is None:
        return f"header's position: not known ({m.why_not})"
    return (
        f"header's position: column {m.expected.column:.3f} at row {m.expected.row}; the source is "
        f"{m.offset:+.3f} columns ({m.offset * m.pixel_scale:+.3f} arcsec) away from it: "
        f"{'agrees' if m.agrees else 'DISAGREES'} "
        f"(within {m.tolerance:g} column{'s' * (m.tolerance != 1)})"
    )


def measurement_dict(measurement: Measurement) -> dict[str, Any]:
    """Convert a measurement to a dictionary for JSON: see `Measurement.to_dict`."""
    m = measurement
    ratio, ratio_error = m.width_ratio
    profile = m.point_spread
    return {
        "image": m.label,
        "row": m.row,
        "wavelength": plain(m.row_wavelength),
        "sources": [_source_dict(source) for source in m.sources],
        "header": {
            "column": None if m.expected is None else m.expected.column,
            "row": None if m.expected is None else m.expected.row,
            "why_not": m.why_not,
            "offset": plain(m.offset),
            "tolerance": m.tolerance,
            "agrees": m.agrees,
        },
        "bands": {
            "wavelength": plain(m.bands),
            "row": plain(m.band_rows),
            "fwhm": plain(m.fwhm),
            "fwhm_error": plain(m.fwhm_error),
            "expected_fwhm": plain(expected_fwhm(m.bands)),
        },
        "width": {"ratio": plain(ratio), "ratio_error": plain(ratio_error)},
        "profile": {
            "halo": plain(profile.halo),
            "kurtosis": plain(profile.kurtosis),
            "wings": plain(profile.wings),
            "width_terms": plain(m.width_terms),
        },
        "trace": {"column": plain(m.trace), "bend": plain(m.bend)},
        "shift": plain(m.shift),
        "shift_error": plain(m.shift_error),
        "rejected": m.rejected,
        "chi2": plain(m.chi2),
        "noise_factor": plain(m.noise_factor),
        "pixel_scale": m.pixel_scale,
        "notes": list(m.notes),
    }


def _source_dict(source: DetectedSource) -> dict[str, Any]:
    """Convert a source to a dictionary for JSON."""
    numbers = (
        "column", "column_error", "flux_ratio", "flux_ratio_error", "snr", "centroid",
        "centroid_error",
    )  # fmt: skip
    return {"kind": source.kind} | {name: plain(getattr(source, name)) for name in numbers}


def growth_table(curve: CurveOfGrowth) -> QTable:
    """Make a table with one row per band and width: see `CurveOfGrowth.table`."""
    bands, widths = curve.flux.shape
    unit = u.Unit(curve.unit)
    return QTable(
        {
            "wavelength": np.repeat(curve.wavelength, widths) * u.um,
            "width": np.tile(curve.widths, bands) * u.pix,
            "flux": curve.flux.ravel() * unit,
            "flux_error": curve.flux_error.ravel() * unit,
            "correction": curve.correction.ravel(),
            "corrected": curve.corrected.ravel() * unit,
            "snr": curve.snr.ravel(),
        }
    )


def growth_report(curve: CurveOfGrowth) -> str:
    """Format a curve of growth as text: see `CurveOfGrowth.report`."""
    lines = [
        f"aperture of best signal to noise: {curve.best:.1f} columns "
        f"(correction: {curve.correction_source})",
        "  wavelength  best width         S/N there  S/N at 4, 8, 12 columns",
        "  um          columns  FWHM                 over the best",
    ]
    ratios = [curve.snr_at(width) for width in (4.0, 8.0, 12.0)]
    for n, wave in enumerate(curve.wavelength):
        lines.append(
            f"  {wave:6.2f}      {curve.best_width[n]:5.1f}    "
            f"{curve.best_width[n] / curve.fwhm[n]:4.2f}      {np.nanmax(curve.snr[n]):9.1f}  "
            + "  ".join(f"{ratio[n]:.2f}" for ratio in ratios)
        )
    lines.append(f"free of other traces and of the edge: up to {curve.free_width:.1f} columns")
    lines += [f"note: {note}" for note in curve.notes]
    return "\n".join(lines)


def growth_dict(curve: CurveOfGrowth) -> dict[str, Any]:
    """Convert a curve of growth to a dictionary for JSON: see `CurveOfGrowth.to_dict`."""
    arrays = ("wavelength", "flux", "flux_error", "correction", "snr", "fwhm", "best_width")
    return {
        "image": curve.label,
        "unit": curve.unit,
        "widths": plain(curve.widths),
        "bands": [list(band) for band in curve.bands],
        "correction_source": curve.correction_source,
        "best": plain(curve.best),
        "free_width": plain(curve.free_width),
        **{name: plain(getattr(curve, name)) for name in arrays},
        "rows": curve.rows.tolist(),
        "notes": list(curve.notes),
    }
