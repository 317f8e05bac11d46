"""Protocol and functions that all extractors use: flux scale, warnings, assembly of the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.apertures.weights import mean_wavelength
from glue_lrs.errors import Hint, ProductError
from glue_lrs.extraction.keywords import SpectrumKeywords, integration_times
from glue_lrs.image.drizzle import filled_fraction
from glue_lrs.spectra.column_checks import REPORTED_LOSS, flux_findings
from glue_lrs.spectra.columns import COLUMNS, COMPONENTS, QUALITY, column_units
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.findings import Finding, emit, worst_first
from glue_lrs.spectra.provenance import Provenance
from glue_lrs.spectra.quality import quality_bits

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.image.slit_image import SlitImage

#: Fraction of the flux of a source beyond the image above which a fit of its profile is doubtful.
OFF_IMAGE = 0.05

#: Type of the columns of a spectrum by name. DQ and QUALITY are uint32, the others are float64.
Columns: TypeAlias = dict[str, NDArray[Any]]

#: Factor from MJy to Jy.
_MEGA = 1e6


class Extractor(Protocol):
    """Protocol for extractors. They do not depend on the `Extract1D` operator."""

    def run(self, image: SlitImage, *, check: bool = True) -> Extraction:
        """Extract all columns of the spectrum.

        Parameters
        ----------
        image : SlitImage
            Image or stack of integrations to extract.
        check : bool
            Whether to check the result, which takes additional time.
        """


def image_findings(image: SlitImage, error: Array | None = None) -> list[Finding]:
    """Return findings about missing variances and a missing photometric calibration.

    Parameters
    ----------
    image : SlitImage
        Image that was extracted.
    error : ndarray, optional
        Errors of the flux, which are all 0 if the variances are.
    """
    findings = []
    zero = error is not None and np.isfinite(error).any() and not (error > 0).any()
    if zero or not image.has_variances:
        found = "the variances are 0" if image.has_variances else "there are no variances"
        findings.append(
            Finding(
                "no_variances",
                f"{found} (VAR_POISSON, VAR_RNOISE, VAR_FLAT): the errors are unknown, and written "
                "as 0, as in the pipeline",
            )
        )
    if not image.calibrated:
        stated = LazyHeader.view(image.header).get("S_PHOTOM") or "missing"
        unit = image.unit.to_string().replace(" ", "")
        findings.append(
            Finding(
                "uncalibrated",
                f"not photometrically calibrated (S_PHOTOM is {stated}): the spectrum is in "
                f"{unit}, not in Jy",
            )
        )
    return findings


def flux_sign(image: SlitImage, columns: Columns) -> list[Finding]:
    """Return a finding if the mean flux of a spectrum is significantly negative."""
    return flux_findings(columns, column_units(image.calibrated)["FLUX"])


def filled_pixels(
    image: SlitImage,
    rows: slice | NDArray[np.intp],
    weights: Array,
    columns: slice | NDArray[np.intp] = slice(None),
) -> Array:
    """Return the number of pixels of the aperture that drizzle filled in, in each row.

    Parameters
    ----------
    image : SlitImage
        Image that is extracted.
    rows : slice or ndarray of int
        Rows of the image from which the spectrum is extracted.
    weights : ndarray
        Weights of the pixels in NPIXELS, shape (row, column), or (1, column) if they are the same
        in all rows.
    columns : slice or ndarray of int
        Columns of the image that `weights` describes, by default all.

    Returns
    -------
    ndarray
        Weighted number of pixels, shape (row,), which is 0 if it is not known.
    """
    fraction = filled_fraction(image)
    if fraction is None or not fraction.any():
        return np.zeros(image.wavelength[rows].shape[0])
    part = fraction[rows][:, columns]
    return np.einsum("rc,rc->r", part, np.broadcast_to(weights, part.shape))


def filled_findings(image: SlitImage, filled: Array, total: Array, wave: Array) -> list[Finding]:
    """Return a finding if drizzle filled in a part of the aperture, else an empty list.

    Parameters
    ----------
    image : SlitImage
        Image that is extracted.
    filled, total, wave : ndarray
        Result of `filled_pixels`, sum of the weights, and wavelength in micron of each row, shape
        (row,).
    """
    affected = filled > REPORTED_LOSS
    if not affected.any():
        return []
    worst, number = int(filled.argmax()), int(affected.sum())
    hint = Hint.to("{} treats them as lost pixels", filled_pixels="lost")
    if image.is_point_source:
        hint = hint.joined(
            Hint.to("with {}, a box extraction restores the flux", bad_pixels="profile")
        )
    return [
        Finding(
            "filled_pixels",
            f"drizzle filled in bad pixels of the aperture from their neighbours in {number} of "
            f"{filled.size} rows, at most {filled[worst]:.1f} of {total[worst]:.1f} pixels at "
            f"{wave[worst]:.2f} um; these pixels contain the flux of the next columns",
            {"rows": number, "all": filled.size, "filled": float(filled[worst])},
            hint,
        )
    ]


def new_findings(image: SlitImage, findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings, worst first, without those that were reported on reading the file."""
    read = (
        (image.path is not None or image.segments) and not image.changed and not image.has_variances
    )
    return worst_first(one for one in findings if not (read and one.kind == "no_variances"))


def emit_findings(image: SlitImage, findings: Sequence[Finding]) -> None:
    """Issue warnings, worst first, except those that were issued when the image's file was read."""
    emit(new_findings(image, findings), image.label)


def jansky_per_sum(image: SlitImage) -> float:
    """Return the factor that converts a sum over pixels in MJy/sr to a flux in Jy.

    The factor is 1e6 PIXAR_SR or, as in the pipeline, 1 for an image without photometric
    calibration.

    Raises
    ------
    ProductError
        If a calibrated image has no solid angle per pixel.
    """
    if not image.calibrated:
        return 1.0
    if image.pixel_area is None or not image.pixel_area > 0:
        found = "missing" if image.pixel_area is None else f"{image.pixel_area:g}"
        raise ProductError(
            f"PIXAR_SR is {found}, expected a solid angle in sr, as S_PHOTOM says "
            "that the file is photometrically calibrated",
            subject=image.label,
        )
    return image.pixel_area * _MEGA


def complete_columns(
    image: SlitImage, columns: Columns, empty: Mask, wave: Array, weight: Array
) -> None:
    """Add WAVELENGTH, DQ and the errors to the columns of a profile fit, and mask empty rows.

    The dictionary `columns` and its arrays are modified in place.

    Parameters
    ----------
    image : SlitImage
        Image that was extracted, for the error message.
    columns : dict of ndarray
        Columns with the fluxes and variances of the fit, each of shape (..., row).
    empty : ndarray of bool
        Rows without a flux, in which the flux and all variances become NaN, shape (..., row).
    wave, weight : ndarray
        Wavelength of each pixel, and weight of the pixel in the mean wavelength of the row, shape
        (row, column).

    Raises
    ------
    ProductError
        If no row has a flux.
    """
    columns["FLUX"][empty] = np.nan
    missing = np.isnan(columns["FLUX"])
    if missing.all():
        raise ProductError("every pixel of the profile is NaN or flagged", subject=image.label)
    columns["DQ"] = missing.astype(np.uint32)
    wavelength = mean_wavelength(np.where(weight > 0, wave, 0.0), weight, weight.sum(axis=1))
    columns["WAVELENGTH"] = np.broadcast_to(wavelength, missing.shape)
    for name in ("FLUX", "SB", "BKGD"):
        variances = [columns[f"{name}_VAR_{component}"] for component in COMPONENTS]
        for values in variances:
            values[empty] = np.nan
        columns[f"{name}_ERROR"] = np.sqrt(sum(variances))


def assemble_extraction(
    image: SlitImage,
    columns: Columns,
    *,
    limits: tuple[float, float],
    rows: tuple[int, int],
    centroid: tuple[float, float] | Callable[[], tuple[float, float]],
    aperture_weight: Array,
    position: dict[str, Any],
    findings: Sequence[Finding],
    quality: Mapping[str, Mask],
    parameters: dict[str, Any] | Callable[[], dict[str, Any]] | None = None,
    references: dict[str, str | None] | None = None,
) -> Extraction:
    """Add units, header, keywords, times and provenance to extracted columns.

    Parameters
    ----------
    image : SlitImage
        Image that was extracted. It provides the header, the times and the units.
    columns : dict of ndarray
        The 18 columns of the pipeline, in any order.
    limits, rows, centroid
        Extent and centroid of the aperture, as described in `SpectrumKeywords.from_image`.
    aperture_weight : ndarray
        Sum of the weights in each row, including lost pixels, shape (n_wave,).
    position : dict
        Position of the source, to be recorded in the provenance.
    findings : sequence of Finding
        Findings to be recorded in the provenance.
    quality : mapping of str to ndarray of bool
        Mask of the values with each quality bit, as in `glue_lrs.spectra.quality.quality_bits`.
    parameters, references
        Parameters and reference files for the provenance, as described in `Provenance`. An
        `Extract1D` operator that runs the extraction replaces them with its own.
    """
    flux = columns["FLUX"]
    masks = {"no_error": np.isfinite(flux) & ~(columns["FLUX_ERROR"] > 0), **quality}
    bits = quality_bits(flux.shape, masks)
    return Extraction(
        columns={name: columns[name] for name in COLUMNS} | {QUALITY: bits},
        units=column_units(image.calibrated),
        header=image.header,
        keywords_source=SpectrumKeywords.from_image(image, limits, rows, centroid),
        times=integration_times(image),
        int_times=None if image.times is None else image.times.copy(),
        provenance=Provenance(
            parameters or {},
            image.segments or image.path or image.filename,
            references,
            position,
            findings,
            changed=image.changed,
        ),
        aperture_weight=aperture_weight,
    )
