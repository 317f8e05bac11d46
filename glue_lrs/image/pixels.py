"""Definition of bad pixels, masks of bad pixels, and reading of pixels without lost pixels.

A pixel is *lost* if it has no usable value. As in the pipeline, this is the case if SCI, ERR or a
variance is NaN, SCI is infinite, or bit 0 of DQ is set.

A pixel is *unweighted* if it has a value of unknown uncertainty, because a variance is infinite or
the sum of the variances is not positive. A box extraction includes unweighted pixels (an infinite
variance makes the error infinite), whereas fits give them no weight. The bad-pixel correction does
not replace them, because the box extraction already includes their flux.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.typing import Array, Mask
from glue_lrs.instrument import DO_NOT_USE

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage

#: Names of the variance planes in `SlitImage` (Poisson noise, read noise, flat field).
PLANES = ("var_poisson", "var_rnoise", "var_flat")

#: Names of the planes in `SlitImage` that may exclude a pixel, apart from the data.
_EXCLUDING = ("err", *PLANES, "dq")

#: Names of all planes in `SlitImage` that have the shape of the data.
DATA_PLANES = (*_EXCLUDING, "drizzle_weight")


#: Maximum number of integrations that `always_lost` examines.
_SOME = 12

#: Index that selects a part of a plane.
Index: TypeAlias = int | slice | EllipsisType | tuple[int | slice | EllipsisType, ...]

#: Arrays of the variance planes `PLANES`, with None for each plane that the image does not have.
Variances: TypeAlias = list[NDArray[np.float64] | None]


def _lost_mask(
    data: NDArray[Any], others: Iterable[NDArray[Any] | None], dq: NDArray[Any] | None
) -> Mask:
    """Return the mask of lost pixels. `others` contains ERR and the variances."""
    lost: Mask = ~np.isfinite(data)
    for plane in others:
        if plane is not None:
            lost |= np.isnan(plane)
    if dq is not None:
        lost |= (dq & dq.dtype.type(DO_NOT_USE)) != 0
    return lost


def lost_mask(planes: Mapping[str, NDArray[Any]]) -> Mask:
    """Return the mask of lost pixels for planes that were read, by their names in `SlitImage`."""
    others = [planes.get(name) for name in ("err", *PLANES)]
    return _lost_mask(planes["data"], others, planes.get("dq"))


def unweighted_mask(variances: Sequence[NDArray[Any] | None]) -> Mask | None:
    """Return the mask of pixels that get no weight in a fit because of their variances.

    Parameters
    ----------
    variances : sequence of ndarray or None
        Variance planes, with None for each plane that the image does not have.

    Returns
    -------
    ndarray of bool or None
        Mask of the unweighted pixels, which may include lost pixels, or None if the image has no
        variances, in which case all pixels have equal weights.
    """
    present = [plane for plane in variances if plane is not None]
    if not present:
        return None
    with np.errstate(invalid="ignore"):  # for the sum of -inf and inf
        total = np.sum(present, axis=0, dtype=float)
    return ~(np.isfinite(total) & (total > 0))


def read_pixels(
    image: SlitImage, read: Callable[[NDArray[Any]], NDArray[Any]]
) -> tuple[Array, Variances, Mask]:
    """Read the data and variances from a part of an image, without lost pixels.

    Parameters
    ----------
    image : SlitImage
        Image from which to read.
    read : callable
        Function that receives a plane and returns the required part of the plane.

    Returns
    -------
    data : ndarray
        Data, with lost pixels set to 0.
    variances : list of ndarray or None
        Variance planes in the order of `PLANES`, with lost pixels set to 0, and None for each plane
        that the image does not have.
    present : ndarray of bool
        Mask of the pixels that are not lost.
    """
    data = read(image.data).astype(float)
    err, dq, *planes = (
        None if plane is None else read(plane)
        for plane in (getattr(image, name) for name in ("err", "dq", *PLANES))
    )
    variances: Variances = [None if plane is None else plane.astype(float) for plane in planes]
    lost = _lost_mask(data, [err, *variances], dq)
    set_zero(lost, data, variances)
    return data, variances, ~lost


def set_zero(mask: Mask, data: Array, variances: Variances) -> None:
    """Set data and variances to 0 in place where a mask is True."""
    if mask.any():
        for plane in (data, *variances):
            if plane is not None:
                plane[mask] = 0.0


def lost_pixels(image: SlitImage, where: Index = ...) -> Mask:
    """Return the mask of the lost pixels in an image.

    Parameters
    ----------
    image : SlitImage
        Image or stack of integrations.
    where : index
        Index that selects a part of each plane. The default is the full image.
    """
    others = [_part(image, name, where) for name in ("err", *PLANES)]
    return _lost_mask(np.asarray(image.data[where]), others, _part(image, "dq", where))


def lost_share(image: SlitImage) -> Array:
    """Return the fraction of the integrations in which a pixel is lost, shape (row, column)."""
    if not image.is_stack:
        return lost_pixels(image).astype(float)
    share = np.zeros(image.shape)
    for integration in range(len(image.data)):  # a mask of the whole stack would need much memory
        share += lost_pixels(image, integration)
    return share / len(image.data)


def always_lost(image: SlitImage, columns: slice = slice(None)) -> Mask:
    """Return the mask of pixels that are lost in all examined integrations, shape (row, column).

    Up to `_SOME` integrations, evenly spaced in the stack, are examined. Pixels that are not
    permanently bad are lost in few of them.

    Parameters
    ----------
    image : SlitImage
        Stack of integrations.
    columns : slice
        Columns that are examined, which are those of the mask.
    """
    number = len(image.data)
    some = np.unique(np.linspace(0, number - 1, min(_SOME, number)).round().astype(int))
    masks = [lost_pixels(image, (index, slice(None), columns)) for index in some.tolist()]
    return np.logical_and.reduce(masks)


def beyond_data(image: SlitImage, rows: NDArray[np.intp]) -> Mask:
    """Return the mask of the pixels before the first or after the last pixel of a row with a value.

    Of a stack, the first integration is examined. In rows without any value, the mask is False.
    """
    where: Any = (0, rows) if image.is_stack else rows
    good = ~lost_pixels(image, where)
    inside = np.logical_or.accumulate(good, axis=1)
    inside &= np.logical_or.accumulate(good[:, ::-1], axis=1)[:, ::-1]
    return ~inside & good.any(axis=1, keepdims=True)


def lost_by_plane(image: SlitImage, where: Index = ...) -> dict[str, int]:
    """Return the number of pixels that are lost because of each plane.

    A pixel that several planes exclude is counted for each of them.

    Parameters
    ----------
    image, where
        As for `lost_pixels`.

    Returns
    -------
    dict of int
        Number of pixels that are not finite in SCI, NaN in ERR, VAR_POISSON, VAR_RNOISE and
        VAR_FLAT, and flagged with bit 0 in DQ. Planes without such pixels are omitted.
    """
    counts = {"SCI": int((~np.isfinite(image.data[where])).sum())}
    for name in _EXCLUDING:
        plane = _part(image, name, where)
        if plane is not None:
            bad: Mask = (plane & DO_NOT_USE) != 0 if name == "dq" else np.isnan(plane)
            counts[name.upper()] = int(bad.sum())
    return {name: number for name, number in counts.items() if number}


def lost_text(counts: Mapping[str, int]) -> str:
    """Return the result of `lost_by_plane` as text, such as "3 NaN in SCI and 5 flagged in DQ"."""
    return " and ".join(
        f"{number} {'flagged' if plane == 'DQ' else 'NaN'} in {plane}"
        for plane, number in counts.items()
    )


def good_pixels(image: SlitImage, where: Index = ...) -> Mask:
    """Return the mask of pixels that can be fitted, because they are neither lost nor unweighted.

    The parameters are those of `lost_pixels`.
    """
    unweighted = unweighted_mask([_part(image, name, where) for name in PLANES])
    lost = lost_pixels(image, where)
    return ~lost if unweighted is None else ~(lost | unweighted)


def _part(image: SlitImage, name: str, where: Index) -> NDArray[Any] | None:
    plane = getattr(image, name)
    return None if plane is None else np.asarray(plane[where])
