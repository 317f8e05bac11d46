"""What `Extract1D` hands over: optimal extraction, and boxes with bad pixels made up for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from glue_lrs.errors import LRSWarning, ReferenceFileError, SourceError
from glue_lrs.extraction import Extraction
from glue_lrs.image import SlitImage
from glue_lrs.mending import extract_mended
from glue_lrs.optimal import OptimalExtraction, OptimalResult
from glue_lrs.optimal_pipeline import PipelineOptimal
from glue_lrs.profile import PSFProfile
from glue_lrs.reference import BAD_PIXELS, EXTRACTION_TYPES, OPTIMAL_MODES, one_of

if TYPE_CHECKING:
    from glue_lrs.extract import Extract1D

__all__ = ["check", "fit", "fit_model", "robust", "run_other"]


def check(operator: Extract1D) -> None:
    """Check the parameters of an operator that have to do with profiles.

    Parameters
    ----------
    operator : Extract1D
        The operator.

    Raises
    ------
    ReferenceFileError
        If a value is not one of those listed, or two do not go together.
    """
    one_of(*EXTRACTION_TYPES)("extraction_type", operator.extraction_type)
    for key, words in (("optimal_mode", OPTIMAL_MODES), ("bad_pixels", BAD_PIXELS)):
        value = getattr(operator, key)
        if value is not None:
            one_of(*words)(key, value)
    if operator.psf is not None and not isinstance(operator.psf, PSFProfile):
        raise ReferenceFileError(
            f"psf is a {type(operator.psf).__name__}, expected a PSFProfile such as "
            "PSFProfile.read(path)"
        )
    for key in ("model_nod_pair", "optimize_psf_location"):
        if not isinstance(getattr(operator, key), bool):
            raise ReferenceFileError(f"{key} is {getattr(operator, key)!r}, expected True or False")
    mode = operator.optimal_mode
    if mode is not None and operator.extraction_type != "optimal":
        raise ReferenceFileError(
            f"optimal_mode is {mode!r}, expected extraction_type 'optimal' with it"
        )
    if mode in ("pipeline", "psf") and operator.psf is None:
        raise ReferenceFileError(
            f"optimal_mode is {mode!r}, expected a PSF reference with it (give psf= or --psf)"
        )
    if operator.bad_pixels is not None and operator.extraction_type == "optimal":
        raise ReferenceFileError(
            "bad_pixels is 'profile', expected extraction_type 'box' with it: an optimal "
            "extraction makes up for bad pixels anyway"
        )


def run_other(operator: Extract1D, image: SlitImage) -> Extraction:
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
        optimal = robust(operator, image)
        with _own_words(operator, image, optimal):
            return _owned(extract_mended(box, image, optimal), operator)
    if operator.mode == "pipeline":
        _tell_idle(operator, image)
        assert operator.psf is not None  # `check` has looked
        pipeline = PipelineOptimal(
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
    _tell_idle(operator, image)
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
        As `robust` makes it.

    Raises
    ------
    LRSError
        If nothing can be fitted: see `glue_lrs.optimal.OptimalExtraction.fit`.
    """
    optimal = robust(operator, image)
    with _own_words(operator, image, optimal):
        return optimal.fit(image)


@contextmanager
def _own_words(operator: Extract1D, image: SlitImage, optimal: OptimalExtraction) -> Iterator[None]:
    """Say in an operator's own words that there is no source."""
    try:
        yield
    except SourceError as error:
        text = str(error).replace("fit_position=", "optimize_psf_location=")
        if optimal.position is not None and not operator.positions(image):
            text += "; this is the middle of the aperture, which stays where it is: expected "
            text += "use_source_posn=True, or xstart and xstop about a source"
        raise SourceError(text) from None


def robust(operator: Extract1D, image: SlitImage) -> OptimalExtraction:
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
    OptimalExtraction
        With the profile of `operator`, or one that is learned; with its background, which is a
        polynomial that is fitted together with the source.
    """
    return OptimalExtraction(
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


def _tell_idle(operator: Extract1D, image: SlitImage) -> None:
    """Tell what has no effect on an optimal extraction though it was asked for."""
    idle = []
    background = operator.background
    if background is not None and operator.subtract_background is not False:
        if background.bkg_fit == "median":
            idle.append("bkg_fit 'median'")
        if background.smoothing_length:
            idle.append("smoothing_length")
    told = []
    if idle:
        verb = "have" if len(idle) > 1 else "has"
        told.append(
            f"{' and '.join(idle)} {verb} no effect: the background of an optimal extraction is a "
            "polynomial that is fitted with the source"
        )
    rows = [key for key in ("ystart", "ystop") if getattr(operator.aperture, key) is not None]
    if rows and operator.mode != "pipeline":
        told.append(
            f"{' and '.join(rows)} {'have' if len(rows) > 1 else 'has'} no effect: an optimal "
            "extraction gives all rows"
        )
    if (image.source_type or "").upper() == "EXTENDED":
        told.append(
            "SRCTYPE is EXTENDED, but an optimal extraction takes the source for a point; "
            "a box has no such need"
        )
    if operator.max_lost is not None and operator.mode == "pipeline":
        told.append("max_lost has no effect in the pipeline's optimal extraction")
    for text in told:
        warnings.warn(f"{image.label}: {text}", LRSWarning, stacklevel=4)


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
