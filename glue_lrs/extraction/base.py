"""Protocol and functions that all extractors use: flux scale, warnings, assembly of the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.apertures.weights import mean_wavelength
from glue_lrs.errors import ProductError
from glue_lrs.extraction.keywords import SpectrumKeywords, integration_times
from glue_lrs.spectra.column_checks import flux_findings
from glue_lrs.spectra.columns import COLUMNS, COMPONENTS, column_units
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.findings import Finding, emit, worst_first
from glue_lrs.spectra.provenance import Provenance

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.image.slit_image import SlitImage

#: A row is treated as empty if the sum of the aperture weights of its good pixels is at most this
#: value. The value is the tolerance of `numpy.isclose`, by which the pipeline identifies such rows.
NO_PIXELS = 1e-8

#: Type of the columns of a spectrum by name. DQ is uint32, the other columns are float64.
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
            Whether to make the checks that need additional sums, and to issue warnings.
        """


def image_findings(image: SlitImage) -> list[Finding]:
    """Return findings about missing variances and a missing photometric calibration."""
    findings = []
    if not image.has_variances:
        findings.append(
            Finding(
                "no_variances",
                "there are no variances (VAR_POISSON, VAR_RNOISE, VAR_FLAT): the errors are "
                "unknown, and written as 0, as in the pipeline",
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


def new_findings(image: SlitImage, findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings, worst first, without those of which reading the image's file warns."""
    read = image.path is not None and not image.changed
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
    parameters: dict[str, Any] | Callable[[], dict[str, Any]] | None = None,
    references: dict[str, str | None] | None = None,
) -> Extraction:
    """Add units, header, keywords, times and provenance to extracted columns.

    Parameters
    ----------
    image : SlitImage
        Image that was extracted. It provides the header, the times and the units.
    columns : dict of ndarray
        The 18 columns, in any order.
    limits, rows, centroid
        Extent and centroid of the aperture, as described in `SpectrumKeywords.from_image`.
    aperture_weight : ndarray
        Sum of the weights in each row, including lost pixels, shape (n_wave,).
    position : dict
        Position of the source, to be recorded in the provenance.
    findings : sequence of Finding
        Findings to be recorded in the provenance.
    parameters, references
        Parameters and reference files for the provenance, as described in `Provenance`. An
        `Extract1D` operator that runs the extraction replaces them with its own.
    """
    return Extraction(
        columns={name: columns[name] for name in COLUMNS},
        units=column_units(image.calibrated),
        header=image.header,
        keywords_source=SpectrumKeywords.from_image(image, limits, rows, centroid),
        times=integration_times(image),
        int_times=None if image.times is None else image.times.copy(),
        provenance=Provenance(
            parameters or {},
            image.path or image.filename,
            references,
            position,
            findings,
            changed=image.changed,
        ),
        aperture_weight=aperture_weight,
    )
