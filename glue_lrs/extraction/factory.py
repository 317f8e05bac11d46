"""What `Extract1D` hands over: optimal extraction, and boxes with bad pixels made up for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from glue_lrs.errors import ReferenceFileError, SourceError
from glue_lrs.extraction.bad_pixels import extract_corrected
from glue_lrs.extraction.optimal import OptimalExtractor
from glue_lrs.extraction.options import warn_unused
from glue_lrs.extraction.pipeline_optimal import PipelineOptimalExtractor

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.extraction.optimal_result import OptimalResult
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction

__all__ = ["fit", "fit_model", "optimal_for", "run_profile_extraction"]


def run_profile_extraction(operator: Extract1D, image: SlitImage) -> Extraction:
    """Extract as the operator says, if not with a mere box: see `Extract1D.run`.

    Parameters
    ----------
    operator : Extract1D
        The operator.
    image : SlitImage
        An image or a stack of them.

    Returns
    -------
    Extraction
        All columns. The provenance is that of `operator`.
    """
    if operator.extraction_type == "box":
        box = replace(operator, bad_pixels=None)
        optimal = optimal_for(operator, image)
        with _own_words(operator, image, optimal):
            return _owned(extract_corrected(box, image, optimal), operator)
    if operator.mode == "pipeline":
        warn_unused(operator, image)
        assert operator.psf is not None  # `check` has looked
        pipeline = PipelineOptimalExtractor(
            box=operator,
            psf=operator.psf,
            model_nod_pair=operator.model_nod_pair,
            optimize_psf_location=operator.optimize_psf_location,
            psf_reference=dict(operator.references).get("psf"),
        )
        return pipeline.run(image)
    return fit(operator, image).extractions[0]


def fit(operator: Extract1D, image: SlitImage) -> OptimalResult:
    """Extract and keep the model: see `Extract1D.fit`.

    Parameters
    ----------
    operator : Extract1D
        An operator in the mode ``"psf"`` or ``"learned"``.
    image : SlitImage
        An image or a stack of them.

    Returns
    -------
    OptimalResult
        The first extraction's provenance is that of `operator`.

    Raises
    ------
    ReferenceFileError
        If the operator is in another mode.
    """
    if operator.mode not in ("psf", "learned"):
        raise ReferenceFileError(
            f"the extraction is of the kind {operator.mode!r}, expected an optimal one with a "
            "model: extraction_type='optimal' and optimal_mode='psf' or 'learned'"
        )
    warn_unused(operator, image)
    made = fit_model(operator, image)
    first, *others = made.extractions
    return replace(made, extractions=(_owned(first, operator), *others))


def fit_model(operator: Extract1D, image: SlitImage) -> OptimalResult:
    """Fit a model of the source that an operator is about, whatever its extraction is.

    Parameters
    ----------
    operator : Extract1D
        The operator.
    image : SlitImage
        An image or a stack of them.

    Returns
    -------
    OptimalResult
        As `optimal_for` makes it.

    Raises
    ------
    LRSError
        If nothing can be fitted: see `glue_lrs.extraction.optimal.OptimalExtractor.fit`.
    """
    optimal = optimal_for(operator, image)
    with _own_words(operator, image, optimal):
        return optimal.fit(image)


@contextmanager
def _own_words(operator: Extract1D, image: SlitImage, optimal: OptimalExtractor) -> Iterator[None]:
    """Say in an operator's own words that there is no source."""
    try:
        yield
    except SourceError as error:
        text = str(error).replace("fit_position=", "optimize_psf_location=")
        if optimal.position is not None and not operator.positions(image):
            text += "; this is the middle of the aperture, which stays where it is: expected "
            text += "use_source_posn=True, or xstart and xstop about a source"
        raise SourceError(text) from None


def optimal_for(operator: Extract1D, image: SlitImage) -> OptimalExtractor:
    """Make the optimal extraction of the source that an operator is about.

    The source is that which the header tells of, if the aperture moves there; else it is the one
    within the aperture.

    Parameters
    ----------
    operator : Extract1D
        The operator.
    image : SlitImage
        The image: it tells where the aperture is.

    Returns
    -------
    OptimalExtractor
        With the profile of `operator`, or one that is learned; with its background, which is a
        polynomial that is fitted together with the source.
    """
    return OptimalExtractor(
        profile=None if operator.mode == "learned" else operator.psf,
        position=_position(operator, image),
        nods=operator.model_nod_pair,
        bkg_order=_order(operator),
        fit_position=operator.optimize_psf_location,
        max_lost=operator.max_lost,
    )


def _order(operator: Extract1D) -> int | Literal["auto"] | None:
    if operator.subtract_background is False:
        return None
    if operator.background is None:
        return 0 if operator.subtract_background else "auto"
    return operator.background.bkg_order if operator.background.bkg_fit == "poly" else 0


def _position(operator: Extract1D, image: SlitImage) -> tuple[float] | None:
    """Column of the source in the middle row; None where the header tells of it and it is found."""
    if operator.positions(image) and operator.position_offset == 0.0:
        return None
    placement = operator.place(image)
    rows = np.flatnonzero(np.isfinite(image.wavelength).any(axis=1))
    if rows.size == 0:
        return None  # which is told when it is extracted
    row = int(rows[rows.size // 2])
    weights = operator.weights(image, placement)
    inside = min(max(row, weights.rows.start), weights.rows.stop - 1) - weights.rows.start
    at_row = weights.values[0 if weights.uniform else inside]
    if not at_row.any():
        return None
    columns = np.arange(weights.columns.start, weights.columns.stop)
    return (float(np.average(columns, weights=at_row)),)


def _owned(extraction: Extraction, operator: Extract1D) -> Extraction:
    """The extraction with a provenance that tells of `operator`."""
    if extraction.provenance is None:
        return extraction
    made = extraction.provenance.changed(
        partial(getattr, operator, "parameters"), dict(operator.references)
    )
    return replace(extraction, provenance=made)
