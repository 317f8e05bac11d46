"""Functions that build the extractor for an `Extract1D` operator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from glue_lrs.apertures.placement import aperture_weights
from glue_lrs.errors import Hint, Setting, SourceError
from glue_lrs.extraction.bad_pixels import CorrectedBoxExtractor
from glue_lrs.extraction.box import BoxExtractor
from glue_lrs.extraction.optimal import OptimalExtractor
from glue_lrs.extraction.pipeline_optimal import PipelineOptimalExtractor
from glue_lrs.extraction.profile_correction import ProfileCorrectedBoxExtractor

if TYPE_CHECKING:
    from glue_lrs.extraction.base import Extractor
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage


def extractor_for(operator: Extract1D, image: SlitImage) -> Extractor:
    """Build the extractor for the mode and the settings of an operator.

    Parameters
    ----------
    operator : Extract1D
        Operator with the settings of the extraction.
    image : SlitImage
        Image to be extracted, which determines the source position for an optimal extraction.

    Returns
    -------
    Extractor
        Extractor that can be run on this image.
    """
    if operator.mode == "pipeline":
        assert operator.psf is not None  # guaranteed by `check_profile_options`
        background = operator.subtracted_background
        forced = background is None and operator.subtract_background
        return PipelineOptimalExtractor(
            psf=operator.psf,
            aperture=operator.aperture,
            placement=operator.placement_rule,
            background=background,
            bkg_order=0 if forced else None,
            model_nod_pair=operator.model_nod_pair,
            optimize_psf_location=operator.optimize_psf_location,
        )
    if operator.mode != "box":
        return optimal_for(operator, image)
    box = box_for(operator)
    if operator.bad_pixels is not None:
        return CorrectedBoxExtractor(box=box, optimal=optimal_for(operator, image))
    if operator.correction == "profile" and operator.apply_apcorr:
        return ProfileCorrectedBoxExtractor(box=box, optimal=optimal_for(operator, image))
    return box


def box_for(operator: Extract1D) -> BoxExtractor:
    """Build the extractor for the aperture and the background of an operator."""
    return BoxExtractor(
        aperture=operator.aperture,
        placement=operator.placement_rule,
        background=operator.subtracted_background,
        aperture_correction=operator.aperture_correction if operator.apply_apcorr else None,
        max_lost=operator.max_lost,
    )


def optimal_for(operator: Extract1D, image: SlitImage) -> OptimalExtractor:
    """Build the extractor for an optimal extraction of the source that an operator selects.

    This is the source at the position from the header if the operator moves the aperture to this
    position, else the source inside the aperture.

    Parameters
    ----------
    operator : Extract1D
        Operator for a box extraction or an optimal extraction.
    image : SlitImage
        Image to be extracted, which determines the position of the aperture.

    Returns
    -------
    OptimalExtractor
        Extractor with the operator's profile or, in mode "learned", a profile that is fitted to the
        image. Instead of the operator's background, a polynomial is fitted together with the
        source. The flux is not corrected if the operator is one for a box extraction.
    """
    corrected = operator.mode != "box" and operator.apply_apcorr
    return OptimalExtractor(
        profile=None if operator.mode == "learned" else operator.psf,
        position=_position(operator, image),
        nods=operator.model_nod_pair,
        bkg_order=_background_order(operator),
        fit_position=operator.optimize_psf_location,
        max_lost=operator.max_lost,
        aperture_correction=operator.aperture_correction if corrected else None,
    )


@contextmanager
def named_as_in_operator(operator: Extract1D, image: SlitImage) -> Iterator[None]:
    """Raise any `SourceError` again, with the parameter names of `Extract1D` in the message."""
    try:
        yield
    except SourceError as error:
        text, hint = error.text, error.hint
        if hint is not None:
            names = {"fit_position": "optimize_psf_location"}
            settings = (Setting(names.get(s.name, s.name), s.value) for s in hint.settings)
            hint = replace(hint, settings=tuple(settings))
        if not operator.positions(image) and _position(operator, image) is not None:
            text += (
                "; this is the middle of the aperture, which stays where it is: expected "
                "xstart and xstop about a source"
            )
            moved = Hint.to("{} moves it to the source", use_source_posn=True)
            hint = moved if hint is None else hint.joined(moved)
        raise SourceError(text, subject=error.subject, hint=hint) from None


def _background_order(operator: Extract1D) -> int | Literal["auto"] | None:
    """Return the order of the background polynomial that an optimal extraction fits."""
    if operator.subtract_background is False:
        return None
    if operator.background is None:
        return 0 if operator.subtract_background else "auto"
    return operator.background.order


def _position(operator: Extract1D, image: SlitImage) -> tuple[float] | None:
    """Return the mean column of the aperture, in the middle one of the rows with a wavelength.

    Returns None if the extraction uses the source position from the header, or if the aperture has
    no pixel in that row.
    """
    if operator.positions(image) and operator.position_offset == 0.0:
        return None
    rows = np.flatnonzero(np.isfinite(image.wavelength).any(axis=1))
    if rows.size == 0:
        return None  # the extraction will raise an error
    row = int(rows[rows.size // 2])
    weights = aperture_weights(operator.aperture, image, operator.place(image))
    inside = min(max(row, weights.rows.start), weights.rows.stop - 1) - weights.rows.start
    at_row = weights.values[0 if weights.uniform else inside]
    if not at_row.any():
        return None
    columns = np.arange(weights.columns.start, weights.columns.stop)
    return (float(np.average(columns, weights=at_row)),)
