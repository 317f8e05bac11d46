"""Reports, tables and dictionaries from a measurement or a curve of growth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.table import QTable

from glue_lrs.errors import LRSError, escaped
from glue_lrs.instrument import expected_fwhm

if TYPE_CHECKING:
    from glue_lrs.measurement.curve_of_growth import CurveOfGrowth
    from glue_lrs.measurement.measurement import Measurement


def plus_minus(value: float, error: float) -> str:
    """Return a value with its error as text, rounded to two significant digits of the error."""
    if not (math.isfinite(value) and math.isfinite(error)) or error <= 0:
        return f"{value:.3f}"
    digits = int(np.clip(1 - math.floor(math.log10(error)), 0, 6))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _plain(value: object) -> Any:
    """Return a value for JSON: arrays become lists, and NaN and infinity None, at any depth."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def band_table(measurement: Measurement) -> QTable:
    """Return a table with the wavelength, row, target centroid and FWHM for each band."""
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
    """Return a table with the kind, column, flux ratio and signal-to-noise ratio of each source."""
    names = ("kind", "column", "column_error", "flux_ratio", "flux_ratio_error", "snr")
    columns = [[getattr(source, name) for source in measurement.sources] for name in names]
    return QTable(columns, names=names, units={"column": u.pix, "column_error": u.pix})


def drift_table(measurement: Measurement) -> QTable:
    """Return a table with shift and width for each integration of a stack.

    Raises
    ------
    LRSError
        If the measurement has no drift, because the image is no stack, for example.
    """
    drift = measurement.drift
    if drift is None:
        raise LRSError("has no drift, expected a stack of integrations", subject=measurement.label)
    return QTable(
        {
            "integration": np.arange(1, drift.shift.size + 1),
            "shift": drift.shift * u.pix,
            "shift_error": drift.shift_error * u.pix,
            "width": drift.width,
            "width_error": drift.width_error,
        },
        meta={
            "image": str(measurement.label),
            "column": float(measurement.column),
            "row": int(measurement.row),
        },
    )


def measurement_report(measurement: Measurement) -> str:
    """Return a text with all results of a measurement."""
    m = measurement
    lines = [escaped(m.label), f"sources (columns at row {m.row}, {m.row_wavelength:.2f} um):"]
    for source in m.sources:
        ratio = "" if source is m.target else f", {source.flux_ratio:+.3f} of the target's flux"
        lines.append(
            f"  {source.kind:<9} column {plus_minus(source.column, source.column_error)}"
            f", S/N {source.snr:.0f}{ratio}"
        )
    lines.append(_position_line(m))
    trace = m.trace[np.isfinite(m.trace)]
    bend = f"; its shape differs by {m.bend:.2f} columns from the WCS trace" if m.bend else ""
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
    if m.drift is not None:
        drift = m.drift
        for name, values, errors, unit in (
            ("position", drift.shift, drift.shift_error, " columns"),
            ("relative width", drift.width, drift.width_error, ""),
        ):
            scatter, expected_scatter = float(np.nanstd(values)), float(np.nanmedian(errors))
            lines.append(
                f"integrations: {values.size}, the {name} scatters by {scatter:.4f}{unit} "
                f"(expected from the noise: {expected_scatter:.4f})"
            )
    lines.append(f"fit: reduced chi-square {m.chi2:.2f}, {m.rejected} outliers rejected")
    if m.noise_factor > 1.0:
        lines.append(
            f"errors are {m.noise_factor:.2f} times those of independent noise, because the "
            "residuals are correlated or larger than expected"
        )
    lines += [f"note: {note}" for note in m.notes]
    return "\n".join(lines)


def _position_line(m: Measurement) -> str:
    """Return the line of the report that compares the measured and the header position."""
    if m.expected is None or m.offset is None:
        return f"header's position: not known ({m.why_not})"
    return (
        f"header's position: column {m.expected.column:.3f} at row {m.expected.row}; the source is "
        f"{m.offset:+.3f} columns ({m.offset * m.pixel_scale:+.3f} arcsec) away from it: "
        f"{'agrees' if m.agrees else 'DISAGREES'} "
        f"(within {m.tolerance:g} column{'s' * (m.tolerance != 1)})"
    )


def measurement_dict(measurement: Measurement) -> dict[str, Any]:
    """Return all results as a dictionary for JSON, in which unknown numbers are None."""
    m = measurement
    ratio, ratio_error = m.width_ratio
    profile = m.point_spread
    source_numbers = (
        "kind", "column", "column_error", "flux_ratio", "flux_ratio_error", "snr", "centroid",
        "centroid_error",
    )  # fmt: skip
    numbers = {
        "image": m.label,
        "row": m.row,
        "wavelength": m.row_wavelength,
        "sources": [
            {name: getattr(source, name) for name in source_numbers} for source in m.sources
        ],
        "header": {
            "column": None if m.expected is None else m.expected.column,
            "row": None if m.expected is None else m.expected.row,
            "why_not": m.why_not,
            "offset": m.offset,
            "tolerance": m.tolerance,
            "agrees": m.agrees,
        },
        "bands": {
            "wavelength": m.bands,
            "row": m.band_rows,
            "fwhm": m.fwhm,
            "fwhm_error": m.fwhm_error,
            "expected_fwhm": expected_fwhm(m.bands),
        },
        "width": {"ratio": ratio, "ratio_error": ratio_error},
        "profile": {
            "halo": profile.halo,
            "kurtosis": profile.kurtosis,
            "wings": profile.wings,
            "width_terms": m.width_terms,
        },
        "trace": {"column": m.trace, "bend": m.bend},
        "shift": m.shift,
        "shift_error": m.shift_error,
        "relative_width": None if m.drift is None else m.drift.width,
        "relative_width_error": None if m.drift is None else m.drift.width_error,
        "rejected": m.rejected,
        "chi2": m.chi2,
        "noise_factor": m.noise_factor,
        "pixel_scale": m.pixel_scale,
        "notes": m.notes,
    }
    return {key: _plain(value) for key, value in numbers.items()}


def growth_table(curve: CurveOfGrowth) -> QTable:
    """Return a table with the flux, correction and S/N for each band and aperture width."""
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
    """Return a text with all results of a curve of growth."""
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
    """Return all results as a dictionary for JSON, in which unknown numbers are None."""
    scalars = ("widths", "bands", "correction_source", "best", "free_width")
    arrays = ("wavelength", "flux", "flux_error", "correction", "snr", "fwhm", "best_width")
    names = (*scalars, *arrays, "rows", "notes")
    numbers = {name: _plain(getattr(curve, name)) for name in names}
    return {"image": curve.label, "unit": curve.unit, **numbers}
