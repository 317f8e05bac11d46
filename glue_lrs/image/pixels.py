"""The rule for good pixels, and reading pixels by it.

A pixel is *lost*, as in the pipeline, if SCI, ERR or a variance is NaN, SCI is infinite, or bit 0
of DQ is set: it holds no value. A pixel is *unweighted* if a variance is infinite, or if the
variances add up to 0 or less: it holds a value of unknown uncertainty. A box sums it (an infinite
variance makes the error infinite), a fit gives it no weight, and the bad-pixel correction does not
replace it, as its light is in the box already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.instrument import DO_NOT_USE

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.image.slit_image import SlitImage

__all__ = [
    "PLANES",
    "good_pixels",
    "lost_mask",
    "lost_pixels",
    "read_pixels",
    "unweighted_mask",
]

#: Attributes of `SlitImage` with the variances: Poisson noise, read noise, flat field.
PLANES = ("var_poisson", "var_rnoise", "var_flat")


def lost_mask(
    data: NDArray[Any], others: Iterable[NDArray[Any] | None], dq: NDArray[Any] | None
) -> Mask:
    """Return which pixels hold no value.

    Parameters
    ----------
    data : ndarray
        SCI.
    others : iterable of ndarray or None
        ERR and the variances.
    dq : ndarray or None
        Data quality flags.
    """
    lost: Mask = ~np.isfinite(data)
    for plane in others:
        if plane is not None:
            lost |= np.isnan(plane)
    if dq is not None:
        lost |= (dq & dq.dtype.type(DO_NOT_USE)) != 0
    return lost


def unweighted_mask(variances: Sequence[NDArray[Any] | None]) -> Mask | None:
    """Return which pixels get no weight in a fit, whether lost or not.

    Parameters
    ----------
    variances : sequence of ndarray or None
        The variances.

    Returns
    -------
    ndarray of bool or None
        None for an image without any variance, in which all pixels count alike.
    """
    present = [plane for plane in variances if plane is not None]
    if not present:
        return None
    with np.errstate(invalid="ignore"):  # inf - inf
        total = np.sum(present, axis=0, dtype=float)
    weighted = np.isfinite(total) & (total > 0)
    if not weighted.any() and not total.any():
        return None
    return ~weighted


def read_pixels(
    image: SlitImage, read: Callable[[Any], Any]
) -> tuple[Array, list[Array | None], Mask]:
    """Read data and variances of a part of an image.

    Parameters
    ----------
    image : SlitImage
        The image.
    read : callable
        Returns the part of a plane, and None for None.

    Returns
    -------
    data : ndarray
        0 at lost pixels.
    variances : list of ndarray or None
        Of each of `PLANES`, likewise.
    present : ndarray of bool
        Pixels that are not lost.
    """
    data = read(image.data).astype(float)
    variances: list[Array | None] = [
        None if plane is None else plane.astype(float)
        for plane in (read(getattr(image, name)) for name in PLANES)
    ]
    lost = lost_mask(data, [read(image.err), *variances], read(image.dq))
    if lost.any():
        for plane in (data, *variances):
            if plane is not None:
                plane[lost] = 0.0
    return data, variances, ~lost


def lost_pixels(image: SlitImage, where: Any = ...) -> Mask:
    """Return which pixels of an image hold no value.

    Parameters
    ----------
    image : SlitImage
        The image.
    where : index
        The part of the image.
    """
    others = [_part(image, name, where) for name in ("err", *PLANES)]
    return lost_mask(np.asarray(image.data[where]), others, _part(image, "dq", where))


def good_pixels(image: SlitImage, where: Any = ...) -> Mask:
    """Return which pixels take part in a fit: those that are neither lost nor unweighted.

    Parameters
    ----------
    image : SlitImage
        The image.
    where : index
        The part of the image.
    """
    unweighted = unweighted_mask([_part(image, name, where) for name in PLANES])
    lost = lost_pixels(image, where)
    return ~lost if unweighted is None else ~(lost | unweighted)


def _part(image: SlitImage, name: str, where: Any) -> NDArray[Any] | None:
    plane = getattr(image, name)
    return None if plane is None else np.asarray(plane[where])
