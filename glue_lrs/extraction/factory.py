"""Factory that builds the extractor for a recipe (box, corrected box, optimal or pipeline)."""

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

if TYPE_CHECKING:
    from glue_lrs.extraction.base import Extractor
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage


def extractor_for(recipe: Extract1D, image: SlitImage) -> Extractor:
    """Build the extractor that a recipe describes.

    Parameters
    ----------
    recipe : Extract1D
        Recipe of the extraction.
    image : SlitImage
        Image to be extracted, which determines the source position for an optimal extraction.

    Returns
    -------
    BoxExtractor, CorrectedBoxExtractor, OptimalExtractor or PipelineOptimalExtractor
        Extractor that can be run on this image.
    """
    if recipe.mode == "pipeline":
        assert recipe.psf is not None  # guaranteed by `check_profile_options`
        background = recipe.subtracted_background
        forced = background is None and recipe.subtract_background
        return PipelineOptimalExtractor(
            psf=recipe.psf,
            aperture=recipe.aperture,
            placement=recipe.placement_rule,
            background=background,
            bkg_order=0 if forced else None,
            model_nod_pair=recipe.model_nod_pair,
            optimize_psf_location=recipe.optimize_psf_location,
        )
    if recipe.mode != "box":
        return optimal_for(recipe, image)
    box = BoxExtractor(
        aperture=recipe.aperture,
        placement=recipe.placement_rule,
        background=recipe.subtracted_background,
        aperture_correction=recipe.aperture_correction if recipe.apply_apcorr else None,
        max_lost=recipe.max_lost,
    )
    if recipe.bad_pixels is None:
        return box
    return CorrectedBoxExtractor(box=box, optimal=optimal_for(recipe, image))


def optimal_for(recipe: Extract1D, image: SlitImage) -> OptimalExtractor:
    """Build the extractor for an optimal extraction of the same source as in a recipe.

    If the recipe moves the aperture to the position in the header, the source there is extracted,
    else the source inside the aperture.

    Parameters
    ----------
    recipe : Extract1D
        Recipe of a box extraction or an optimal extraction.
    image : SlitImage
        Image to be extracted, which determines the position of the aperture.

    Returns
    -------
    OptimalExtractor
        Extractor with the recipe's profile or, in mode "learned", a profile that is fitted to the
        image. The recipe's background becomes a polynomial that is fitted together with the source.
    """
    return OptimalExtractor(
        profile=None if recipe.mode == "learned" else recipe.psf,
        position=_position(recipe, image),
        nods=recipe.model_nod_pair,
        bkg_order=_background_order(recipe),
        fit_position=recipe.optimize_psf_location,
        max_lost=recipe.max_lost,
    )


@contextmanager
def named_as_in_recipe(recipe: Extract1D, image: SlitImage) -> Iterator[None]:
    """Context manager that replaces parameter names in a `SourceError` by those of `Extract1D`."""
    try:
        yield
    except SourceError as error:
        text, hint = error.text, error.hint
        if hint is not None:
            names = {"fit_position": "optimize_psf_location"}
            settings = (Setting(names.get(s.name, s.name), s.value) for s in hint.settings)
            hint = replace(hint, settings=tuple(settings))
        if not recipe.positions(image) and _position(recipe, image) is not None:
            text += (
                "; this is the middle of the aperture, which stays where it is: expected "
                "xstart and xstop about a source"
            )
            moved = Hint.to("{} moves it to the source", use_source_posn=True)
            hint = moved if hint is None else hint.joined(moved)
        raise SourceError(text, subject=error.subject, hint=hint) from None


def _background_order(recipe: Extract1D) -> int | Literal["auto"] | None:
    """Return the order of the background polynomial that an optimal extraction fits."""
    if recipe.subtract_background is False:
        return None
    if recipe.background is None:
        return 0 if recipe.subtract_background else "auto"
    return recipe.background.bkg_order if recipe.background.bkg_fit == "poly" else 0


def _position(recipe: Extract1D, image: SlitImage) -> tuple[float] | None:
    """Return the mean column of the aperture in the middle row.

    Returns None if the source position from the header is used instead.
    """
    if recipe.positions(image) and recipe.position_offset == 0.0:
        return None
    rows = np.flatnonzero(np.isfinite(image.wavelength).any(axis=1))
    if rows.size == 0:
        return None  # the extraction will raise an error
    row = int(rows[rows.size // 2])
    weights = aperture_weights(recipe.aperture, image, recipe.place(image))
    inside = min(max(row, weights.rows.start), weights.rows.stop - 1) - weights.rows.start
    at_row = weights.values[0 if weights.uniform else inside]
    if not at_row.any():
        return None
    columns = np.arange(weights.columns.start, weights.columns.stop)
    return (float(np.average(columns, weights=at_row)),)
