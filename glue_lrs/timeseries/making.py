"""White and spectroscopic light curves from the spectra of a time series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.time import Time
from numpy.typing import ArrayLike

from glue_lrs._utils.validation import check_choice, check_fraction
from glue_lrs.errors import LostPixelsWarning, LRSError, quoted
from glue_lrs.spectra.findings import SIGNIFICANT, Finding, emit, worst_first
from glue_lrs.spectra.provenance import file_record, package_versions
from glue_lrs.timeseries.band_sums import BandSums
from glue_lrs.timeseries.curve import LightCurve, LightCurveProvenance, typical
from glue_lrs.timeseries.noise import point_scatter
from glue_lrs.timeseries.source import chunks_from
from glue_lrs.timeseries.times import mid_times

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.spectra.provenance import Provenance
    from glue_lrs.timeseries.source import Source, SpectralChunks

#: Wavelengths in micron that are used by default: at shorter ones the dispersion of the prism folds
#: over, and at longer ones LRS detects few photons of a star.
DEFAULT_RANGE = (5.0, 12.0)

#: A scatter is reported if it exceeds the propagated error by this factor, and significantly.
_EXCESS = 1.2


def light_curve(
    source: Source,
    *,
    wavelength_range: Any = None,
    bins: Any = None,
    weights: str = "sum",
    error: str = "propagated",
    out_of_transit: ArrayLike | None = None,
    time: Time | None = None,
    max_replaced: float = 0.5,
    check: bool = True,
) -> LightCurve:
    """Make the white light curve of a time series, and those of wavelength bins.

    Wavelength elements that are lost in single integrations are replaced, and those that are lost
    in many are left out of all, so that a bad pixel is no dip
    (`glue_lrs.timeseries.consistency`).

    Parameters
    ----------
    source : Extraction, ChunkedExtraction, `~specutils.Spectrum`, path, or sequence of paths
        Stack of spectra of shape (integration, n_wave), or x1dints files. The spectra of a
        `~glue_lrs.extraction.chunks.ChunkedExtraction` are extracted and summed in chunks, so that
        the memory does not depend on the number of integrations.
    wavelength_range : (float, float) or `~astropy.units.Quantity`, optional
        Shortest and longest wavelength in micron, by default 5 to 12, or the first and the last
        edge of `bins`.
    bins : int or array_like, optional
        Number of bins of equal width, or the edges of the bins in micron. An element belongs to a
        bin from its lower edge, including it, to its upper edge. By default, there is the white
        light curve only.
    weights : {"sum", "inverse_variance"}
        With "sum", the flux is the sum over the elements, as in the pipeline's white light curve.
        With "inverse_variance", the relative light curves of the elements are averaged with their
        inverse variances and multiplied by the sum of the spectrum of the star, which has the same
        level and the smallest errors. The weights are the same in all integrations.
    error : {"propagated", "scatter"}
        Errors of the result: propagated from the Poisson and read noise of the elements, or
        multiplied by the factor by which the scatter exceeds them. The error of the flat field is
        not included in either, because it is the same in all integrations.
    out_of_transit : array_like of bool, or of (float, float), optional
        Points for the scatter that are not in transit: a mask with one value per integration, or
        pairs of times (MJD, in the scale of the light curve) between which they are. By default,
        the scatter is that of the differences of neighbouring points (`point_scatter`).
    time : `~astropy.time.Time`, optional
        Times of the middle of the integrations, which replace those of the stack. They are
        barycentric if their scale is "tdb".
    max_replaced : float
        Largest fraction of the integrations in which an element may be replaced, and of the flux of
        a point that may be due to replaced elements. A point that exceeds it is NaN.
    check : bool
        Whether to warn of the findings about the light curve. Those about the spectra are recorded
        as well, apart from those about lost pixels.

    Returns
    -------
    LightCurve
        Light curves with times and errors.

    Raises
    ------
    LRSError
        If the source is no stack or has no times, if a band has no usable element, or a parameter
        is invalid.
    """
    check_choice("weights", weights, ("sum", "inverse_variance"))
    check_choice("error", error, ("propagated", "scatter"))
    max_replaced = check_fraction("max_replaced", max_replaced)
    spectra = chunks_from(source)
    edges = band_edges(wavelength_range, bins)
    times = mid_times(
        spectra.number, spectra.times, spectra.int_times, time, subject=spectra.filename
    )
    sums = BandSums.from_chunks(spectra, times.rows, edges, weights, max_replaced)
    flux, incomplete = sums.flux.copy(), sums.replaced_share > max_replaced
    findings = [*sums.findings, *_lost_findings(incomplete, max_replaced)]
    flux[incomplete] = np.nan
    sigma, noise = (
        np.sqrt(np.where(incomplete | ~(variance > 0), np.nan, variance))
        for variance in (sums.variance, sums.photon)
    )
    days = times.time.mjd
    outside = _out_of_transit(out_of_transit, days, times.rows, spectra.number)
    if outside is None:
        scatter = np.array([point_scatter(one) for one in flux.T])
    else:
        scatter = np.array([point_scatter(one[outside], days[outside]) for one in flux.T])
    findings += _scatter_findings(scatter, sigma, flux)
    own = worst_first([*times.findings, *findings])
    # lost pixels are replaced
    kept = [one for one in spectra.findings if not isinstance(one.message, LostPixelsWarning)]
    recorded = worst_first([*own, *kept])
    parameters = {
        "edges": edges.tolist(),
        "weights": weights,
        "error": error,
        "out_of_transit": None if outside is None else np.flatnonzero(outside).tolist(),
        "max_replaced": max_replaced,
    }
    curve = LightCurve(
        time=times.time,
        reference=times.reference,
        edges=edges,
        flux=flux,
        error=_scaled(sigma, scatter, flux) if error == "scatter" else sigma,
        propagated=sigma,
        photon_noise=noise,
        scatter=scatter,
        replaced=sums.replaced,
        elements=sums.elements,
        unit=spectra.unit,
        out_of_transit=outside,
        drift=sums.drift,
        header=spectra.header,
        provenance=_provenance(parameters, spectra, recorded),
        findings=recorded,
    )
    if check:
        emit(own, spectra.filename or "")
    return curve


# --- input ----------------------------------------------------------------------------------------


def band_edges(wavelength_range: Any, bins: Any) -> Array:
    """Return the lower and upper edges of the white band and of the bins in micron.

    The parameters are those of `light_curve`, and the shape is (band, 2).

    Raises
    ------
    LRSError
        If the range or the edges do not ascend.
    """
    if isinstance(bins, Integral) and bins < 1:
        raise LRSError(f"found {bins}, expected at least 1, or edges", subject="bins")
    if bins is None or isinstance(bins, Integral):
        chosen = DEFAULT_RANGE if wavelength_range is None else wavelength_range
        inner = _ascending("wavelength_range", chosen, 2)
        if bins is not None:
            inner = np.linspace(inner[0], inner[1], int(bins) + 1)
    else:
        inner = _ascending("bins", bins)
        if wavelength_range is not None:
            raise LRSError(
                "is given together with the edges of bins, expected one of them",
                subject="wavelength_range",
            )
    white = [[inner[0], inner[-1]]]
    if bins is None:
        return np.array(white)
    return np.concatenate([white, np.column_stack([inner[:-1], inner[1:]])])


def _ascending(name: str, values: Any, number: int | None = None) -> Array:
    """Return wavelengths in micron that ascend, or raise `LRSError`."""
    try:
        array = np.atleast_1d(u.Quantity(values, u.um, dtype=float).value)
    except (TypeError, ValueError, u.UnitConversionError):
        raise LRSError(
            f"found {quoted(values)}, expected wavelengths in micron", subject=name
        ) from None
    expected = "two" if number == 2 else "at least two"
    wrong = array.ndim != 1 or array.size < 2 or (number is not None and array.size != number)
    if wrong or not np.isfinite(array).all() or not (np.diff(array) > 0).all():
        raise LRSError(
            f"found {quoted(values)}, expected {expected} ascending wavelengths", subject=name
        )
    return np.asarray(array, dtype=float)


# --- errors and record ---


def _lost_findings(incomplete: Mask, max_replaced: float) -> list[Finding]:
    """Return a finding if points have no flux, because too many of their elements are lost."""
    number = int(incomplete.any(axis=1).sum())
    if number == 0:
        return []
    text = (
        f"{number} of {len(incomplete)} integrations have lost more than {max_replaced:.0%} of a "
        "band, and have no flux there"
    )
    return [Finding("points_lost", text, {"points": number, "all": len(incomplete)})]


def _out_of_transit(given: Any, mjd: Array, rows: Any, number: int) -> Mask | None:
    """Return the mask of the points that are not in transit, or None if it is unknown."""
    if given is None:
        return None
    if np.asarray(given).dtype == object:  # pairs of Time objects
        given = [[getattr(one, "mjd", np.nan) for one in pair] for pair in given]
    values = np.asarray(given)
    if values.dtype == bool and values.shape == (number,):
        mask = values[rows]
    elif values.dtype != bool and values.ndim == 2 and values.shape[1] == 2:
        mask = np.any([(mjd >= first) & (mjd <= last) for first, last in values], axis=0)
    else:
        raise LRSError(
            f"has the shape {values.shape}, expected a mask of {number} integrations, or pairs of "
            "times",
            subject="out_of_transit",
        )
    if mask.sum() < 3:
        raise LRSError(
            f"selects {int(mask.sum())} points, expected at least 3", subject="out_of_transit"
        )
    return np.asarray(mask, dtype=bool)


def _scatter_findings(scatter: Array, sigma: Array, flux: Array) -> list[Finding]:
    """Return a finding if the white light curve scatters more than its errors."""
    number = int(np.isfinite(flux[:, 0]).sum())
    expected, level = typical(sigma[:, 0]), typical(flux[:, 0])
    if not expected > 0 or not level > 0 or number < 3:
        return []
    factor = float(scatter[0]) / expected
    # The relative error of the scatter of n points is 1 / sqrt(n), or 1.4 / sqrt(n) for ten points,
    # of which the ingress and egress of a transit are many.
    if factor < _EXCESS or (factor - 1.0) < SIGNIFICANT * 1.4 / np.sqrt(number):
        return []
    text = (
        f"the white light curve scatters by {1e6 * scatter[0] / level:.0f} ppm from point to point "
        f"where {1e6 * expected / level:.0f} ppm are expected from its errors"
    )
    return [Finding("scatter_excess", text, {"factor": factor})]


def _scaled(sigma: Array, scatter: Array, flux: Array) -> Array:
    """Return errors whose median in each band is the scatter."""
    made = np.empty_like(sigma)
    for band, one in enumerate(sigma.T):
        middle = typical(one)
        made[:, band] = one * (scatter[band] / middle) if middle > 0 else scatter[band]
    made[np.isnan(flux)] = np.nan
    return made


def _provenance(
    parameters: Mapping[str, Any],
    spectra: SpectralChunks,
    findings: Sequence[Finding],
) -> LightCurveProvenance:
    """Return the provenance, whose values are computed when first accessed."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    # The function must not refer to the spectra, which would keep all columns in memory.
    files, extraction = spectra.files, spectra.provenance
    return LightCurveProvenance(partial(_record, parameters, files, extraction, findings, now))


def _record(
    parameters: Mapping[str, Any],
    files: Sequence[str],
    extraction: Provenance | None,
    findings: Sequence[Finding],
    date: str,
) -> dict[str, Any]:
    return {
        "parameters": dict(parameters),
        "inputs": [file_record(path) for path in files],
        "extractions": [None if extraction is None else dict(extraction)],
        "findings": [one.to_dict() for one in findings],
        "versions": package_versions(),
        "date": date,
    }
