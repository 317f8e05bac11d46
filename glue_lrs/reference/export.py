"""Export of an aperture and its placement rule to an equivalent EXTRACT1D reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.background import Background
from glue_lrs.apertures.edges import is_constant
from glue_lrs.errors import Hint, LRSWarning, ReferenceFileError, warn
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.reference.reference import Reference
from glue_lrs.reference.schema import ANY, DEFAULT, TARGET, entry_of

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
        Image to be extracted with the reference. Shifts of the aperture on this image are included
        in the limits.
    id : str, optional
        Id of the aperture in the reference. If None, it is the slit name of the image or, without
        an image, "ANY".
    inexpressible : sequence of str
        Descriptions of other parameters of the extraction that a reference cannot represent. They
        are listed in the message of the error or warning.
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
        text, hint = f"a reference cannot hold {'; nor '.join(lacking)}", None
        if image is None and shifts.inexpressible:
            hint = Hint.to("give {} to include the shifts in the limits", "image")
        if strict:
            raise ReferenceFileError(text, hint=hint)
        warn(LRSWarning(text, hint=hint))
    aperture = _shifted(aperture, shifts.aperture, image)
    variable = _common_variable(aperture, background)
    if background is not None:
        background = background.shifted(shifts.background)
    entry = {"id": name, **TARGET, **entry_of(aperture, background)}
    del entry["independent_var"]
    if variable != "pixel":
        entry["independent_var"] = variable
    if shifts.use_source_posn is not None:
        entry["use_source_posn"] = shifts.use_source_posn
    document = {
        **DEFAULT,
        "description": "MIRI LRS aperture, written by glue_lrs",
        "history": "Written by glue_lrs; step parameters are included in the aperture limits",
        "apertures": [entry],
    }
    if name in (FIXED_SLIT, SLITLESS):
        document["exp_type"] = name
    return Reference.from_dict(document)


@dataclass(frozen=True)
class _Shifts:
    """Changes to an aperture and its background regions that are equivalent to a placement rule.

    `use_source_posn` is the value of this key in the reference, or None if the key is omitted.
    `aperture` and `background` are shifts in columns, which must be applied to the aperture and to
    the background regions. `inexpressible` describes parameters that a reference cannot represent.
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
    """Return the changes to aperture and background that are equivalent to a placement rule.

    `name` is the id of the aperture in the reference. The other parameters are those of
    `export_reference`.
    """
    offset = float(rule.position_offset)
    step = f"(run the step with --position_offset={offset!r})"
    key = rule.reference_source_posn if rule.use_source_posn is None else rule.use_source_posn
    if image is not None:
        may_move = rule.follows_source(image)
    else:
        may_move = name != SLITLESS if key is None else key
    if not may_move:
        fixed = 0.0 if rule.fixed_background else offset
        return _Shifts(False if offset != 0.0 else key, offset, fixed)
    lacking = []
    keeps_regions = rule.fixed_background and background is not None
    if image is None:
        if offset != 0.0:
            lacking.append(
                f"position_offset={offset!r} where the aperture moves to the source {step}"
            )
        if keeps_regions:
            lacking.append("fixed_background, which is no parameter of the step")
        if rule.use_source_posn:
            warn(
                LRSWarning(
                    "the pipeline obeys use_source_posn of a reference for SRCTYPE POINT only; for "
                    "other source types, run the step with --use_source_posn=true",
                    hint=Hint.to("or give {} to include the shift in the limits", "image"),
                )
            )
        return _Shifts(key, inexpressible=tuple(lacking))
    found = rule.place(aperture, image)
    keeps_regions = keeps_regions and found.offset != 0.0
    ignored = rule.use_source_posn is True and not image.is_point_source
    if found.trace is None:
        if offset != 0.0 or keeps_regions or ignored:
            return _Shifts(False, found.offset, found.background_offset)
        return _Shifts(key)
    # A reference cannot contain a trace. The pipeline must therefore move the aperture itself.
    along = "with extract_width along the source's trace"
    if offset != 0.0:
        lacking.append(f"position_offset={offset!r} {along} {step}")
    if ignored:
        lacking.append(
            f"use_source_posn for SRCTYPE {image.source_type} {along} "
            "(run the step with --use_source_posn=true)"
        )
    # The pipeline shifts the background regions together with the aperture. If the regions are
    # fixed, this shift must be compensated.
    return _Shifts(
        key, background=-found.offset if keeps_regions else 0.0, inexpressible=tuple(lacking)
    )


def _shifted(aperture: Aperture, offset: float, image: SlitImage | None) -> Aperture:
    """Return the aperture shifted by `offset` columns.

    If the offset is not 0, limits of None are replaced by the edges of the image.
    """
    if offset == 0.0:
        return aperture
    if aperture.src_coeff is None and aperture.xstart is None:
        aperture = replace(aperture, xstart=0.0)
    if aperture.src_coeff is None and aperture.xstop is None:
        if image is None:
            raise ReferenceFileError(
                f"xstop is not set, expected a number to add position_offset={offset!r} to",
                hint=Hint.to("give {}, whose last column is then used", "image"),
            )
        aperture = replace(aperture, xstop=image.shape[1] - 1.0)
    return aperture.shifted(offset)


def _common_variable(aperture: Aperture, background: Background | None) -> str:
    """Return an independent variable for the edges of both the aperture and the background.

    A reference has only one variable for both. If the two variables differ, `ReferenceFileError` is
    raised unless the edges of the aperture or of the background are constant.
    """
    if background is None or is_constant(background.bkg_coeff):
        return aperture.independent_var
    if is_constant(aperture.src_coeff) or aperture.independent_var == background.independent_var:
        return background.independent_var
    raise ReferenceFileError(
        f"independent_var is {aperture.independent_var!r} for the aperture and "
        f"{background.independent_var!r} for the background, expected one for both"
    )
