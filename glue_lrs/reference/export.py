"""Export of an aperture and its placement as an equivalent EXTRACT1D reference file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from glue_lrs._utils.validation import json_value
from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.background import Background
from glue_lrs.apertures.edges import is_constant, shift_coefficients
from glue_lrs.errors import Hint, LRSWarning, ReferenceFileError, warn
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.reference.reference import Reference
from glue_lrs.reference.schema import ANY, APERTURE_KEYS, DEFAULT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glue_lrs.apertures.placement import PlacementRule
    from glue_lrs.image.slit_image import SlitImage


def export_reference(
    aperture: Aperture,
    background: Background | None,
    placement: PlacementRule,
    image: SlitImage | None = None,
    *,
    id: str | None = None,
    inexpressible: Sequence[str] = (),
    strict: bool = True,
) -> Reference:
    """Return an EXTRACT1D reference with which the pipeline makes the same extraction.

    Parameters
    ----------
    aperture : Aperture
        Aperture to export.
    background : Background, optional
        Background to subtract.
    placement : PlacementRule
        Rule by which the aperture follows the source.
    image : SlitImage, optional
        Image to extract, which determines the position of the source.
    id : str, optional
        Id of the aperture in the reference. If None, it is the slit name of the image or, without
        an image, "ANY".
    inexpressible : sequence of str
        Descriptions of other parameters that a reference cannot represent, for the message.
    strict : bool
        Whether to raise an error if a parameter cannot be represented. If False, a warning is
        issued instead.

    Returns
    -------
    Reference
        Reference with one aperture.

    Raises
    ------
    ReferenceFileError
        If a parameter cannot be represented and `strict` is True, or if aperture and background
        have different independent variables.

    Warns
    -----
    LRSWarning
        If a parameter cannot be represented and `strict` is False.
    """
    name = id or (ANY if image is None else image.slit_name)
    shifts = _shifts(aperture, background, placement, image, name)
    lacking = [*shifts.inexpressible, *inexpressible]
    if lacking:
        lacking_image = image is None and bool(shifts.inexpressible)
        text = f"a reference cannot hold {'; nor '.join(lacking)}"
        hint = Hint.to("give {} to absorb it into the limits", "image") if lacking_image else None
        if strict:
            raise ReferenceFileError(text, hint=hint)
        warn(LRSWarning(text, hint=hint))
    aperture = _shifted(aperture, shifts.aperture, image)
    entry: dict[str, Any] = {"id": name, "region_type": "target", "dispaxis": 2}
    entry |= {
        key: json_value(getattr(aperture, key))
        for key in APERTURE_KEYS
        if key != "independent_var" and getattr(aperture, key) is not None
    }
    if background is not None:
        regions = shift_coefficients(background.bkg_coeff, shifts.background)
        entry["bkg_coeff"] = json_value(regions)
        entry["bkg_fit"] = background.bkg_fit
        entry["bkg_order"] = background.bkg_order
        entry["smoothing_length"] = background.smoothing_length
    variable = _common_variable(aperture, background)
    if variable != "pixel":
        entry["independent_var"] = variable
    if shifts.use_source_posn is not None:
        entry["use_source_posn"] = shifts.use_source_posn
    document = {key: value for key, value in DEFAULT.items() if key != "apertures"}
    if name in (FIXED_SLIT, SLITLESS):
        document["exp_type"] = name
    document |= {
        "description": "MIRI LRS aperture, written by glue_lrs",
        "history": "Written by glue_lrs; step parameters are absorbed into the aperture",
        "apertures": [entry],
    }
    return Reference.from_dict(document)


@dataclass(frozen=True)
class _Shifts:
    """Changes to an aperture that are equivalent to its placement rule.

    `use_source_posn` is the value of this key in the reference, or None if the key is omitted.
    `aperture` and `background` are shifts in columns that must be added to the limits.
    `inexpressible` describes parameters that a reference cannot represent.
    """

    use_source_posn: bool | None
    aperture: float = 0.0
    background: float = 0.0
    inexpressible: tuple[str, ...] = ()


def _shifts(
    aperture: Aperture,
    background: Background | None,
    rule: PlacementRule,
    image: SlitImage | None,
    name: str,
) -> _Shifts:
    """Return the changes to an aperture that are equivalent to a placement rule."""
    offset = float(rule.position_offset)
    key = rule.use_source_posn
    if key is None:
        key = rule.reference_source_posn
    if not _may_move(rule, image, name):
        fixed = 0.0 if rule.fixed_background else offset
        return _Shifts(False if offset != 0.0 else key, offset, fixed)
    if image is None:
        lacking = []
        if offset != 0.0:
            lacking.append(
                f"position_offset={offset!r} where the aperture moves to the source (run the "
                f"step with --position_offset={offset!r})"
            )
        if rule.fixed_background and background is not None:
            lacking.append("fixed_background, which is no parameter of the step")
        if rule.use_source_posn:
            warn(
                LRSWarning(
                    "the pipeline obeys use_source_posn of a reference for SRCTYPE POINT only; "
                    "for others run the step with --use_source_posn=true",
                    hint=Hint.to("give {} for those", "image"),
                )
            )
        return _Shifts(key, inexpressible=tuple(lacking))
    return _shifts_on_image(aperture, background, rule, image, key)


def _shifts_on_image(
    aperture: Aperture,
    background: Background | None,
    rule: PlacementRule,
    image: SlitImage,
    key: bool | None,
) -> _Shifts:
    """Return the changes that are equivalent to following the source on a given image."""
    offset = float(rule.position_offset)
    found = rule.place(aperture, image)
    ignored = rule.use_source_posn is True and not image.is_point_source
    fixed = rule.fixed_background and background is not None and found.offset != 0.0
    if found.trace is None:
        if offset != 0.0 or fixed or ignored:
            return _Shifts(False, found.offset, found.background_offset)
        return _Shifts(key)
    # A reference cannot contain a trace. The pipeline must determine it from the source position.
    along = "with extract_width along the source's trace (run the step with"
    lacking = []
    if offset != 0.0:
        lacking.append(f"position_offset={offset!r} {along} --position_offset={offset!r})")
    if ignored:
        lacking.append(
            f"use_source_posn for SRCTYPE {image.source_type} {along} --use_source_posn=true)"
        )
    # The pipeline shifts the background regions with the source. This shift must be compensated.
    return _Shifts(key, background=-found.offset if fixed else 0.0, inexpressible=tuple(lacking))


def _may_move(rule: PlacementRule, image: SlitImage | None, name: str) -> bool:
    """Return whether the aperture follows the source, or may follow it if `image` is None."""
    if image is not None:
        return rule.follows_source(image)
    if rule.use_source_posn is not None:
        return rule.use_source_posn
    if rule.reference_source_posn is not None:
        return rule.reference_source_posn
    return name != SLITLESS


def _shifted(aperture: Aperture, offset: float, image: SlitImage | None) -> Aperture:
    """Return the aperture shifted by `offset` columns.

    If the offset is not 0, default limits are replaced by numbers.
    """
    if offset == 0.0:
        return aperture
    if aperture.src_coeff is None and None in (aperture.xstart, aperture.xstop):
        if aperture.xstop is None and image is None:
            raise ReferenceFileError(
                f"xstop is not set, expected a number to add position_offset={offset!r} to",
                hint=Hint.to("give {}, whose last column is then used", "image"),
            )
        last = aperture.xstop if image is None else image.shape[1] - 1.0
        aperture = replace(
            aperture,
            xstart=0.0 if aperture.xstart is None else aperture.xstart,
            xstop=last if aperture.xstop is None else aperture.xstop,
        )
    return aperture.shifted(offset)


def _common_variable(aperture: Aperture, background: Background | None) -> str:
    """Return the independent variable that is valid for both the aperture and the background.

    A reference has only one variable for both. If the variables differ, an error is raised unless
    the edges of one of them are constant.
    """
    if background is None or is_constant(background.bkg_coeff):
        return aperture.independent_var
    if is_constant(aperture.src_coeff) or aperture.independent_var == background.independent_var:
        return background.independent_var
    raise ReferenceFileError(
        f"independent_var is {aperture.independent_var!r} for the aperture and "
        f"{background.independent_var!r} for the background, expected one for both"
    )
