"""Error budget: contributions to the uncertainty of a flux, most of which FLUX_ERROR omits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.table import QTable

from glue_lrs._utils.validation import check_type
from glue_lrs.errors import LRSError, SourceError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.extraction.options import prepared_image
from glue_lrs.instrument import APERTURE_WIDTH
from glue_lrs.measurement.measure import measure
from glue_lrs.spectra.columns import NOD_VARIANCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from glue_lrs._utils.typing import Array
    from glue_lrs.image.slit_image import ImageSource, SlitImage
    from glue_lrs.spectra.extraction import Extraction

#: Contributions by the name of their column: the meaning, and whether the errors of different
#: wavelengths are the same, in which case a mean over wavelengths does not reduce them.
CONTRIBUTIONS = {
    "PHOTON_NOISE": ("Poisson noise of source and background", False),
    "READ_NOISE": ("read noise", False),
    "ADDED_NOISE": ("noise added by the option noise, such as that of the other nods", False),
    "FLAT_FIELD": ("error of the flat field", False),
    "POSITION": ("uncertainty of the measured position of the source in the aperture", True),
    "PROFILE": ("noise of a fitted profile", True),
    "APERTURE_CORRECTION": ("error of the aperture correction (apcorr_err)", True),
}

#: Bands in micron for `mean_in_bands`.
BANDS = ((5.0, 7.0), (7.0, 9.0), (9.0, 11.0), (11.0, 13.0))

#: Half of the difference in columns between the positions from which a derivative is computed. The
#: flux in an aperture changes smoothly over a tenth of a column.
_STEP = 0.1


def error_budget(image: ImageSource, operator: Extract1D) -> QTable:
    """Return the contributions to the uncertainty of each flux.

    Parameters
    ----------
    image : SlitImage, `~specutils.Spectrum`, str or path-like
        Single image. From a stack, select one integration or the median.
    operator : Extract1D
        Operator that extracts the image.

    Returns
    -------
    `~astropy.table.QTable`
        Columns WAVELENGTH, FLUX and FLUX_ERROR of the spectrum; one column for each of the
        `CONTRIBUTIONS`, a 1-sigma error in the unit of the flux; BACKGROUND, the error of the
        subtracted background, which is a part of the noise in the other columns; and TOTAL, the
        square root of the sum of their squares. A contribution that is not known, or belongs to a
        correction that is not applied, is NaN and is not included in TOTAL; those that are not
        applied are listed in ``meta["not_applied"]``. The description of each column says what it
        is, and ``meta["correlated"]`` which of them are the same at all wavelengths.

    Raises
    ------
    LRSError
        If the image is a stack, or under the same conditions as in `Extract1D.run`.

    Notes
    -----
    PROFILE is known for an optimal extraction of one source with a fitted profile.

    The errors of position and aperture correction change the fluxes of all wavelengths together.
    The position error of the flux is the derivative of the flux by the position of the aperture,
    times the error of the position that `measure` finds. It is 0 for an optimal extraction, which
    fits the position: to first order, the flux does not depend on it.
    """
    check_type("operator", operator, Extract1D, "an Extract1D")
    image = prepared_image(operator, image)
    if image.is_stack:
        raise LRSError(
            "is a stack of integrations, expected a single image, such as image.median()",
            subject=image.label,
        )
    result = operator.fit(image) if operator.mode in ("psf", "learned") else None
    extraction = operator.run(image, check=False) if result is None else result.extractions[0]
    columns = extraction.columns
    not_applied = _not_applied(operator, image, columns)
    # The part that exposures share may exceed the read-noise variance by some Poisson noise.
    added = columns.get(NOD_VARIANCE, np.zeros_like(columns["FLUX"]))
    added = np.minimum(added, columns["FLUX_VAR_RNOISE"])
    covariance = None if result is None else result.profile_covariance()
    with np.errstate(invalid="ignore"):
        relative = np.nan if covariance is None else np.sqrt(np.diagonal(covariance))
        terms = {
            "PHOTON_NOISE": np.sqrt(columns["FLUX_VAR_POISSON"]),
            "READ_NOISE": np.sqrt(columns["FLUX_VAR_RNOISE"] - added),
            "ADDED_NOISE": np.sqrt(added) + (np.nan if "ADDED_NOISE" in not_applied else 0.0),
            "FLAT_FIELD": np.sqrt(columns["FLUX_VAR_FLAT"]),
            "POSITION": _position_error(operator, image, extraction),
            "PROFILE": np.abs(columns["FLUX"]) * relative,
            "APERTURE_CORRECTION": _correction_error(operator, image, extraction),
        }
    total = np.sqrt(np.nansum(np.square(list(terms.values())), axis=0))
    total[~np.isfinite(columns["FLUX_ERROR"])] = np.nan
    unit = u.Unit(extraction.units["FLUX"])
    correlated = [name for name, (_, same) in CONTRIBUTIONS.items() if same]
    table = QTable(meta={"correlated": correlated, "not_applied": not_applied})
    table["WAVELENGTH"] = extraction.wavelength * u.um
    for name in ("FLUX", "FLUX_ERROR"):
        table[name] = columns[name] * unit
    for name, values in terms.items():
        table[name] = values * unit
        table[name].info.description = CONTRIBUTIONS[name][0]
    table["BACKGROUND"] = _background_error(operator, image, extraction) * unit
    table["BACKGROUND"].info.description = "error of the background, part of the noise"
    table["TOTAL"] = total * unit
    table["TOTAL"].info.description = "root of the sum of the squares, without BACKGROUND"
    table["FLUX_ERROR"].info.description = "error in the spectrum"
    return table


def mean_in_bands(table: QTable, bands: Sequence[tuple[float, float]] = BANDS) -> QTable:
    """Return the mean flux in bands, with the contributions to its uncertainty.

    Contributions that are the same at all wavelengths (``table.meta["correlated"]``) are averaged;
    the others are added in quadrature, and divided by the number of wavelengths.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        Result of `error_budget`.
    bands : sequence of (float, float)
        Lower and upper end of each band in micron.

    Returns
    -------
    `~astropy.table.QTable`
        Row for each band, with LOWER and UPPER, the mean FLUX, its contributions and their TOTAL.
        They are NaN for a band without a flux.
    """
    wavelength, flux = table["WAVELENGTH"].value, table["FLUX"].value
    rows = []
    for lower, upper in bands:
        used = (wavelength >= lower) & (wavelength < upper) & np.isfinite(flux)
        used &= np.isfinite(table["FLUX_ERROR"].value)
        number = max(int(used.sum()), 1)
        row = {"FLUX": flux[used].sum() / number if used.any() else np.nan}
        for name in (*CONTRIBUTIONS, "BACKGROUND"):
            values = table[name].value[used]
            same = name in table.meta["correlated"]
            row[name] = (values.sum() if same else np.sqrt(np.square(values).sum())) / number
        row["TOTAL"] = np.sqrt(np.nansum(np.square([row[name] for name in CONTRIBUTIONS])))
        rows.append(row)
    means = QTable(meta=table.meta)
    means["LOWER"], means["UPPER"] = np.transpose(np.asarray(bands, dtype=float)) * u.um
    for name in rows[0]:
        means[name] = [row[name] for row in rows] * table["FLUX"].unit
    return means


def _not_applied(operator: Extract1D, image: SlitImage, columns: Mapping[str, Array]) -> list[str]:
    """Return the names of the contributions that belong to corrections that are not applied."""
    absent = {
        "ADDED_NOISE": operator.noise == "propagated" and NOD_VARIANCE not in columns,
        "PROFILE": not _fits_profile(operator, image),
        "APERTURE_CORRECTION": not _corrects_aperture(operator, image),
        "BACKGROUND": operator.subtracted_background is None and operator.mode == "box",
    }
    return [name for name, is_absent in absent.items() if is_absent]


def _corrects_aperture(operator: Extract1D, image: SlitImage) -> bool:
    """Return whether the flux outside the aperture is corrected for."""
    if not operator.apply_apcorr or not image.is_point_source:
        return False
    return operator.aperture_correction is not None or operator.correction == "profile"


def _uses_profile_correction(operator: Extract1D, image: SlitImage) -> bool:
    """Return whether the aperture correction follows from the profile."""
    return operator.correction == "profile" and operator.apply_apcorr and image.is_point_source


def _fits_profile(operator: Extract1D, image: SlitImage) -> bool:
    """Return whether the flux depends on a profile that is fitted to the image."""
    used = operator.mode == "learned" or operator.bad_pixels is not None
    return used or (_uses_profile_correction(operator, image) and operator.psf is None)


def _position_error(operator: Extract1D, image: SlitImage, extraction: Extraction) -> Array:
    """Return the error of each flux due to the error of the source's position."""
    flux: Array = extraction.columns["FLUX"]
    if operator.mode != "box":
        return np.zeros_like(flux)
    if _uses_profile_correction(operator, image):
        return np.full_like(flux, np.nan)  # the factor depends on the position, too
    try:
        error = measure(image, integrations=False).target.column_error
    except SourceError:
        return np.full_like(flux, np.nan)
    offset, background = operator.position_offset, operator.background
    if background is not None:
        # The background regions keep their place, as the source moves and not the background.
        background = background.shifted(operator.place(image).background_offset)
    fixed = replace(operator, background=background, fixed_background=True)
    low, high = (
        replace(fixed, position_offset=offset + step).run(image, check=False).columns["FLUX"]
        for step in (-_STEP, _STEP)
    )
    if low.shape != flux.shape or high.shape != flux.shape:  # the aperture gains or loses rows
        return np.full_like(flux, np.nan)
    return np.asarray(np.abs(high - low) / (2 * _STEP) * error)


def _correction_error(operator: Extract1D, image: SlitImage, extraction: Extraction) -> Array:
    """Return the error of each flux due to the aperture correction, NaN if it is not known."""
    flux: Array = extraction.columns["FLUX"]
    table = operator.aperture_correction
    if table is None or not _corrects_aperture(operator, image) or table.error is None:
        return np.full_like(flux, np.nan)
    size = extraction.columns["NPIXELS"]
    if operator.mode != "box" or _uses_profile_correction(operator, image):
        size = np.full_like(size, APERTURE_WIDTH)  # for which an optimal extraction is corrected
    factor = table(extraction.wavelength, size)
    return np.asarray(np.abs(flux / factor) * table.error_of(extraction.wavelength, size))


def _background_error(operator: Extract1D, image: SlitImage, extraction: Extraction) -> Array:
    """Return the part of the noise of each flux that is due to the subtracted background."""
    columns = extraction.columns
    if operator.subtracted_background is None or operator.mode != "box":
        return np.full_like(columns["FLUX"], np.nan)
    plain = replace(operator, apply_apcorr=False, correction="table", bad_pixels=None)
    with np.errstate(divide="ignore", invalid="ignore"):
        sums = plain.run(image, check=False).columns
        factor = columns["FLUX"] / sums["FLUX"]
        area = sums["FLUX"] / sums["SURF_BRIGHT"]  # pixels, times the solid angle of a pixel
        return np.asarray(np.abs(columns["BKGD_ERROR"] * area * factor))
