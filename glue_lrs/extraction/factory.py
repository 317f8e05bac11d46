"""Factory: the extractor of a recipe (box, corrected box, optimal, pipeline optimal)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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

__all__ = ["extractor_for", "named_as_in_recipe", "optimal_for"]


def extractor_for(recipe: Extract1D, image: SlitImage) -> Extractor:
    """Build the extractor that a recipe describes.

    Parameters
    ----------
    recipe : Extract1D
        The recipe.
    image : SlitImage
        The image, which determines the position of an optimal extraction.

    Returns
    -------
    BoxExtractor, CorrectedBoxExtractor, OptimalExtractor or PipelineOptimalExtractor
        Ready to run on this image.
    """
    if recipe.mode == "pipeline":
        assert recipe.psf is not None  # as `check_profile_options` requires
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
    """Build the optimal extraction of the source that a recipe is about.

    That is the source at the header's position if the aperture moves there, else the one inside the
    aperture.

    Parameters
    ----------
    recipe : Extract1D
        The recipe.
    image : SlitImage
        The image, which determines the position of the aperture.

    Returns
    -------
    OptimalExtractor
        With the profile of the recipe or, in mode "learned", one fitted to the image; with its
        background as a polynomial that is fitted together with the source.
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
    """Re-raise `SourceError` with the parameter names of `Extract1D`."""
    try:
        yield
    except SourceError as error:
        text, hint = error.text, error.hint
        if hint is not None:
            names = {"fit_position": "optimize_psf_location"}
            settings = (Setting(names.get(s.name, s.name), s.value) for s in hint.settings)
            hint = Hint(hint.template, tuple(settings))
        if not recipe.positions(image) and _position(recipe, image) is not None:
            text += (
                "; this is the middle of the aperture, which stays where it is: expected "
                "xstart and xstop about a source"
            )
            moved = Hint.to("{} moves it to the source", use_source_posn=True)
            hint = moved if hint is None else hint.joined(moved)
        raise SourceError(text, subject=error.subject, hint=hint) from None


def _background_order(recipe: Extract1D) -> int | Literal["auto"] | None:
    """Order of the background's polynomial in an optimal extraction."""
    if recipe.subtract_background is False:
        return None
    if recipe.background is None:
        return 0 if recipe.subtract_background else "auto"
    return recipe.background.bkg_order if recipe.background.bkg_fit == "poly" else 0


def _position(recipe: Extract1D, image: SlitImage) -> tuple[float] | None:
    """Mean column of the aperture in the middle row; None where the source position is used."""
    if recipe.positions(image) and recipe.position_offset == 0.0:
        return None
    rows = np.flatnonzero(np.isfinite(image.wavelength).any(axis=1))
    if rows.size == 0:
        return None  # the extraction raises the error
    row = int(rows[rows.size // 2])
    weights = aperture_weights(recipe.aperture, image, recipe.place(image))
    inside = min(max(row, weights.rows.start), weights.rows.stop - 1) - weights.rows.start
    at_row = weights.values[0 if weights.uniform else inside]
    if not at_row.any():
        return None
    columns = np.arange(weights.columns.start, weights.columns.stop)
    return (float(np.average(columns, weights=at_row)),)
