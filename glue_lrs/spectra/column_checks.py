"""Checks of a spectrum that need only its columns, neither the image nor the operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.findings import SIGNIFICANT, Finding

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array

#: Number of rows whose variances are averaged for the weights of a mean flux. The variance of a
#: single row is low where the flux is low by chance, so that its inverse would bias the mean.
BLOCK = 16

#: A loss of pixels is reported if it exceeds this number of pixels. Half a pixel at the peak of the
#: trace contains a tenth of the flux.
REPORTED_LOSS = 0.5

#: A row is treated as empty if the sum of the aperture weights of its good pixels is at most this
#: value. The value is the tolerance of `numpy.isclose`, by which the pipeline identifies such rows.
NO_PIXELS = 1e-8

#: Number of rows of the running median of NPIXELS by which the number of pixels in the complete
#: aperture is estimated.
_SIZE_WINDOW = 31


def mean_flux(columns: Mapping[str, NDArray[Any]]) -> tuple[float, float] | None:
    """Return the weighted mean of the flux over all rows, and its 1-sigma error.

    The integrations of a stack are averaged. The weights are the inverses of the variances,
    averaged over blocks of rows. None is returned if no row has a flux with an error.

    Parameters
    ----------
    columns : mapping of str to ndarray
        Columns FLUX, FLUX_ERROR and, optionally, DQ, shape (n_wave,) or (integration, n_wave).
    """
    if "FLUX_ERROR" not in columns:
        return None
    flux, error = columns["FLUX"], columns["FLUX_ERROR"]
    good = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    if "DQ" in columns:
        good &= (columns["DQ"] & DO_NOT_USE) == 0
    if not good.any():
        return None
    total, variance, used = flux, error**2, good
    if not good.all():
        total, variance = np.where(good, flux, 0.0), np.where(good, variance, 0.0)
    if flux.ndim == 2:
        count = np.maximum(good.sum(axis=0), 1)
        total, variance = total.sum(axis=0) / count, variance.sum(axis=0) / count**2
        used = good.any(axis=0)
    starts = np.arange(0, flux.shape[-1], BLOCK)
    total, variance, number = (
        np.add.reduceat(values, starts, dtype=float) for values in (total, variance, used)
    )
    weight = number / np.where(number > 0, variance, 1.0)  # 1 / mean of the variances
    norm = float(weight @ number)
    return float(weight @ total) / norm, float(np.sqrt(weight**2 @ variance)) / norm


def flux_findings(columns: Mapping[str, NDArray[Any]], unit: str) -> list[Finding]:
    """Return a finding if the mean flux is significantly negative."""
    found = mean_flux(columns)
    if found is None or found[0] >= -SIGNIFICANT * found[1]:
        return []
    mean, error = found
    return [
        Finding(
            "negative_flux",
            f"the mean flux is negative: {mean:.3g} +- {error:.2g} {unit}, as on a negative "
            "trace or with too much background subtracted",
            {"mean": mean, "error": error},
        )
    ]


def complete_size(columns: Mapping[str, NDArray[Any]]) -> Array | None:
    """Return the number of pixels in the complete aperture in each row of a spectrum from a file.

    This is the running median of NPIXELS along the rows, or None if NPIXELS is unknown.
    """
    pixels = columns.get("NPIXELS")
    if pixels is None or not (pixels > 0).any():
        return None
    largest = np.nanmax(np.atleast_2d(np.where(pixels > 0, pixels, 0.0)), axis=0)
    size: Array = median_filter(largest, _SIZE_WINDOW, mode="nearest")
    return size


def incomplete(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Return the mask of the values of a spectrum from a file that lack pixels of the aperture."""
    size = complete_size(columns)
    if size is None:
        return np.zeros(columns["FLUX"].shape, dtype=bool)
    pixels = columns["NPIXELS"]
    return (pixels > 0) & (pixels < size - REPORTED_LOSS)


def empty_rows(columns: Mapping[str, NDArray[Any]]) -> list[Finding]:
    """Return a finding if rows between the first and the last with data have no pixels.

    Parameters
    ----------
    columns : mapping of str to ndarray
        Columns NPIXELS and WAVELENGTH, shape (n_wave,) or (integration, n_wave).
    """
    present = np.atleast_2d(columns["NPIXELS"] > NO_PIXELS)
    if present.all():
        return []
    known = np.flatnonzero(present.any(axis=0))
    if known.size == 0:
        return []
    inner = slice(known[0], known[-1] + 1)
    empty = ~present[:, inner]
    if not empty.any():
        return []
    wave = np.atleast_2d(columns["WAVELENGTH"])[:, inner][empty]
    low, high, number = float(wave.min()), float(wave.max()), int(empty.sum())
    where = f"{low:.2f} um" if number == 1 else f"{low:.2f} to {high:.2f} um"
    return [
        Finding(
            "empty_rows",
            f"{number} of {present.size} rows have no flux, as every pixel of the aperture is bad "
            f"there (at {where})",
            {"rows": number, "all": present.size, "shortest": low, "longest": high},
        )
    ]


def column_findings(columns: Mapping[str, NDArray[Any]], unit: str) -> list[Finding]:
    """Return findings about a negative flux, lost pixels and missing errors of a spectrum.

    They are for a spectrum without a record of its own checks, such as one from the pipeline.
    """
    findings = flux_findings(columns, unit)
    complete, short = complete_size(columns), incomplete(columns)
    if complete is not None and (number := int(short.sum())) > 0:
        size = np.broadcast_to(complete, short.shape)
        lost = np.where(short, size - columns["NPIXELS"], 0.0)
        worst = np.unravel_index(int(lost.argmax()), lost.shape)
        findings.append(
            Finding(
                "lost_pixels",
                f"NPIXELS is too small in {number} of {short.size} rows, by at most "
                f"{lost[worst]:.1f} of {size[worst]:.1f} pixels at "
                f"{columns['WAVELENGTH'][worst]:.2f} um: the flux is too low there",
                {"rows": number, "all": short.size, "lost": float(lost[worst])},
            )
        )
        findings += empty_rows(columns)
    error = columns.get("FLUX_ERROR")
    if error is not None and np.isfinite(error).any() and not (error > 0).any():
        text = "the errors are 0, because the image had no variances: they are unknown"
        findings.append(Finding("no_variances", text))
    return findings
