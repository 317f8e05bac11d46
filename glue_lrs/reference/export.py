"""Folding: the reference that has the pipeline do what an operator does."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from glue_lrs._utils.validation import written
from glue_lrs.apertures.edges import is_constant, shift_coefficients
from glue_lrs.errors import LRSWarning, ReferenceFileError
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.reference.reference import Reference
from glue_lrs.reference.schema import ANY, APERTURE_KEYS, DEFAULT

if TYPE_CHECKING:
    from glue_lrs.apertures.aperture import Aperture
    from glue_lrs.apertures.background import Background
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage

__all__ = ["to_reference"]


def to_reference(
    operator: Extract1D, image: SlitImage | None = None, *, strict: bool = True
) -> Reference:
    """Write an operator as an EXTRACT1D reference: see `Extract1D.to_reference`."""
    aperture = operator.aperture
    background = operator.background if operator.subtract_background is not False else None
    offset = float(operator.position_offset)
    name = operator.id or (ANY if image is None else image.slit_name)
    key = operator.use_source_posn
    if key is None:
        key = operator.reference_source_posn
    left: list[str] = []  # what the reference cannot say, and what to do about it
    aperture_shift = background_shift = 0.0

    if not _may_move(operator, image, name):
        aperture_shift = offset
        background_shift = 0.0 if operator.fixed_background else offset
        if offset != 0.0:
            key = False
    elif image is None:
        if offset != 0.0:
            left.append(
                f"position_offset={offset!r} where the aperture moves to the source (give the "
                f"image, or run the step with --position_offset={offset!r})"
            )
        if operator.fixed_background and background is not None:
            left.append("fixed_background, which is no parameter of the step (give the image)")
        if operator.use_source_posn:
            warnings.warn(
                "the pipeline obeys use_source_posn of a reference for SRCTYPE POINT only; for "
                "others give the image, or run the step with --use_source_posn=true",
                LRSWarning,
                stacklevel=3,
            )
    else:
        placement = operator.place(image)
        disobeyed = operator.use_source_posn is True and image.source_type != "POINT"
        stays = operator.fixed_background and background is not None and placement.offset != 0.0
        if placement.trace is not None:
            # A trace is no key of the reference: the pipeline has to find it again.
            along = "beside extract_width along the source's trace (run the step with"
            if offset != 0.0:
                left.append(f"position_offset={offset!r} {along} --position_offset={offset!r})")
            if disobeyed:
                left.append(
                    f"use_source_posn for SRCTYPE {image.source_type} {along} "
                    "--use_source_posn=true)"
                )
            # The regions will be moved along with the source: put them back beforehand.
            background_shift = -placement.offset if stays else 0.0
        elif offset != 0.0 or stays or disobeyed:
            aperture_shift = placement.offset
            background_shift = placement.background_offset
            key = False
    point = image is None or (image.source_type or "").upper() == "POINT"
    if not operator.apply_apcorr and point:
        left.append("apply_apcorr=False (run the step with --apply_apcorr=false)")
    if operator.extraction_type != "box":
        if operator.mode == "pipeline":
            left.append("extraction_type='optimal' (run the step with --extraction_type=optimal)")
        else:
            left.append(
                f"optimal_mode={operator.mode!r}, which the pipeline does not have (its own is "
                "that with a PSF reference)"
            )
    if operator.bad_pixels is not None:
        left.append(f"bad_pixels={operator.bad_pixels!r}, which the pipeline does not have")
    if operator.max_lost is not None:
        warnings.warn(
            "max_lost is left out: the pipeline does not mask rows that lost pixels",
            LRSWarning,
            stacklevel=3,
        )
    if left:
        text = f"a reference cannot hold {'; nor '.join(left)}"
        if strict:
            raise ReferenceFileError(text)
        warnings.warn(text, LRSWarning, stacklevel=3)

    aperture = _shifted(aperture, aperture_shift, image)
    entry: dict[str, Any] = {"id": name, "region_type": "target", "dispaxis": 2}
    entry |= {
        one: written(getattr(aperture, one))
        for one in APERTURE_KEYS
        if one != "independent_var" and getattr(aperture, one) is not None
    }
    if background is not None:
        regions = shift_coefficients(background.bkg_coeff, background_shift)
        entry["bkg_coeff"] = written(regions)
        entry["bkg_fit"] = background.bkg_fit
        entry["bkg_order"] = background.bkg_order
        entry["smoothing_length"] = background.smoothing_length
    variable = _one_variable(aperture, background)
    if variable != "pixel":
        entry["independent_var"] = variable
    if key is not None:
        entry["use_source_posn"] = key
    document = {one: value for one, value in DEFAULT.items() if one != "apertures"}
    if name in (FIXED_SLIT, SLITLESS):
        document["exp_type"] = name
    document |= {
        "description": "MIRI LRS aperture, written by glue_lrs",
        "history": "Written by glue_lrs; parameters of the step are folded into the aperture",
        "apertures": [entry],
    }
    return Reference.from_dict(document)


def _may_move(operator: Extract1D, image: SlitImage | None, name: str) -> bool:
    """Whether the aperture moves to the source, or may do so where the image is not known."""
    if image is not None:
        return operator.positions(image)
    if operator.use_source_posn is not None:
        return operator.use_source_posn
    if operator.reference_source_posn is not None:
        return operator.reference_source_posn
    return name != SLITLESS


def _shifted(aperture: Aperture, offset: float, image: SlitImage | None) -> Aperture:
    if offset == 0.0:
        return aperture
    if aperture.src_coeff is None and None in (aperture.xstart, aperture.xstop):
        if aperture.xstop is None and image is None:
            raise ReferenceFileError(
                f"xstop is not set, expected a number to add position_offset={offset!r} to (or "
                "give the image, whose last column it is)"
            )
        last = aperture.xstop if image is None else image.shape[1] - 1.0
        aperture = replace(
            aperture,
            xstart=0.0 if aperture.xstart is None else aperture.xstart,
            xstop=last if aperture.xstop is None else aperture.xstop,
        )
    return aperture.shifted(offset)


def _one_variable(aperture: Aperture, background: Background | None) -> str:
    """The variable that the edges of both depend on, as an entry has one for both."""
    if background is None or is_constant(background.bkg_coeff):
        return aperture.independent_var
    if is_constant(aperture.src_coeff) or aperture.independent_var == background.independent_var:
        return background.independent_var
    raise ReferenceFileError(
        f"independent_var is {aperture.independent_var!r} for the aperture and "
        f"{background.independent_var!r} for the background, expected one for both"
    )
