"""Record of the outliers along time that an extraction removed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glue_lrs.apertures.weights import mean_wavelength
from glue_lrs.fitting.time_outliers import removed_time_outliers
from glue_lrs.spectra.column_checks import REPORTED_LOSS
from glue_lrs.spectra.columns import QUALITY
from glue_lrs.spectra.findings import Finding
from glue_lrs.spectra.quality import quality_bits

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction


def with_time_outliers_recorded(
    operator: Extract1D, image: SlitImage, extraction: Extraction
) -> Extraction:
    """Return an extraction with quality bits and a finding for the outliers that were removed.

    Parameters
    ----------
    operator : Extract1D
        Operator that extracted the image.
    image : SlitImage
        Image that was extracted, without its outliers along time: a stack, or one integration.
    extraction : Extraction
        Result, which is returned unchanged if outliers along time were not searched for.
    """
    found = removed_time_outliers(image)
    if found is None:
        return extraction
    weights = operator.weights(image, operator.place(image)).full(image.shape)
    weights *= np.isfinite(image.wavelength)
    replaced = operator.time_outliers == "replace"
    integrations = len(image.data) if image.is_stack else 1
    affected = np.zeros((integrations, len(weights)))  # sum of weights in each row
    for places in (found.outliers, found.lost) if replaced else (found.outliers,):
        time, row, column = places
        np.add.at(affected, (time, row), weights[row, column])
    rows = rows_of_spectrum(extraction.wavelength, image, weights)
    name = "restored" if replaced else "rejected"
    shape = extraction.columns["FLUX"].shape
    bits = quality_bits(shape, {name: (affected[:, rows] > REPORTED_LOSS).reshape(shape)})
    inside = weights[found.outliers[1], found.outliers[2]] > 0
    number, total = int(inside.sum()), int((weights > 0).sum()) * integrations
    text = f"{number} of {total} pixels of the aperture are outliers along time"
    if image.is_stack:
        times = np.unique(found.outliers[0][inside]).size
        text += f", in {times} of {integrations} integrations"
    text += "; "
    values = {"outliers": number, "all": total}
    if replaced:
        filled = int((weights[found.lost[1], found.lost[2]] > 0).sum())
        text += f"they and {filled} lost pixels got the values expected from other integrations"
        values["lost"] = filled
    else:
        text += "they are treated as lost pixels"
    columns = extraction.columns | {QUALITY: extraction.columns[QUALITY] | bits}
    finding = Finding("time_outliers", text, values)
    return replace(extraction, columns=columns).with_findings([*extraction.findings, finding])


def rows_of_spectrum(wave: Array, image: SlitImage, weights: Array) -> NDArray[np.intp]:
    """Return the row of the image for each wavelength of a spectrum.

    Parameters
    ----------
    wave : ndarray
        Wavelengths of the spectrum in micron, shape (n_wave,).
    image : SlitImage
        Image that was extracted.
    weights : ndarray
        Weights of the aperture, 0 for pixels without a wavelength, shape (row, column).
    """
    rows = np.flatnonzero(weights.any(axis=1))
    wavelength = np.where(weights > 0, image.wavelength, 0.0)[rows]
    mean = mean_wavelength(wavelength, weights[rows], weights[rows].sum(axis=1))
    order = np.argsort(mean)
    nearest = np.interp(np.nan_to_num(wave), mean[order], np.arange(rows.size))
    found: NDArray[np.intp] = rows[order][nearest.round().astype(int)]
    return found
