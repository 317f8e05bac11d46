"""Drift of the source in a stack: columns of the spectra, and correction of box extractions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Column

from glue_lrs.extraction.time_outliers import rows_of_spectrum
from glue_lrs.fitting.drift import stack_drift, stack_light
from glue_lrs.image.pixels import always_lost
from glue_lrs.spectra.columns import COMPONENTS
from glue_lrs.spectra.times import DRIFT

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction


def with_drift(operator: Extract1D, image: SlitImage, extraction: Extraction) -> Extraction:
    """Return the spectra of a stack with the columns `DRIFT`, a box extraction also corrected.

    Parameters
    ----------
    operator : Extract1D
        Operator that extracted the image.
    image : SlitImage
        Stack that was extracted.
    extraction : Extraction
        Result, with a row of times for each integration.

    Raises
    ------
    SourceError
        If there is no source whose position could be measured.
    """
    found = with_drift_columns(image, extraction)
    return _corrected(operator, image, found) if operator.mode == "box" else found


def with_drift_columns(image: SlitImage, extraction: Extraction) -> Extraction:
    """Return the spectra of a stack with the columns `DRIFT` among their times.

    The parameters and errors are those of `with_drift`.
    """
    assert extraction.times is not None  # that of a stack
    drift, times = stack_drift(image), extraction.times.copy()
    for name, (attribute, unit) in DRIFT.items():
        times[name] = Column(getattr(drift, attribute), unit=unit)
    return replace(extraction, times=times)


def _corrected(operator: Extract1D, image: SlitImage, extraction: Extraction) -> Extraction:
    """Return a box extraction as if the source had its mean position and width everywhere.

    The fluxes of an integration are divided by the fraction of the source's flux that the aperture
    contains, and multiplied by this fraction at the mean position. The fractions follow from the
    model with which the drift was measured. The aperture is not moved with the source: its edges
    would divide pixels, and the flux is not evenly distributed within a pixel.
    """
    weights = operator.weights(image, operator.place(image)).full(image.shape)
    # A row that lacks a bright pixel in all integrations depends strongly on the position.
    weights *= np.isfinite(image.wavelength)
    inside = np.flatnonzero(weights.any(axis=0))
    span = slice(int(inside[0]), int(inside[-1]) + 1)
    weights[:, span] *= ~always_lost(image, span)
    light, mean = stack_light(image, weights)
    rows = rows_of_spectrum(extraction.wavelength, image, weights)
    factor = (mean / light)[:, rows]
    columns = dict(extraction.columns)
    for name in ("FLUX", "SURF_BRIGHT", "FLUX_ERROR", "SB_ERROR"):
        columns[name] = columns[name] * factor
    for name in COMPONENTS:
        for prefix in ("FLUX_VAR_", "SB_VAR_"):
            columns[prefix + name] = columns[prefix + name] * factor**2
    return replace(extraction, columns=columns)
