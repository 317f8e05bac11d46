"""Quality bits: flags about the pixels from which each value of a spectrum was made.

The column QUALITY has the bits of `QUALITY_BITS`, which are independent of the pipeline's DQ. Only
bit 0 of DQ masks a value. Quality bits mask values only on request (`Extraction.quality_mask`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import LRSError, nearest, quoted

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Mask


class QualityBit(NamedTuple):
    """Value of a quality bit, and its meaning."""

    value: int
    text: str


#: Quality bits by name. Names and values never change, because they are stored in files.
QUALITY_BITS: Mapping[str, QualityBit] = MappingProxyType(
    {
        "lost": QualityBit(1 << 0, "bad pixels remove more than half a pixel of the aperture"),
        "filled": QualityBit(
            1 << 1, "drizzle filled in more than half a pixel of the aperture from its neighbours"
        ),
        "restored": QualityBit(
            1 << 2,
            "the flux of bad pixels was restored with the profile or from other integrations",
        ),
        "uncorrected": QualityBit(1 << 3, "too few good pixels to restore or correct the flux"),
        "rejected": QualityBit(
            1 << 4, "outliers that were rejected make up more than half a pixel of the profile"
        ),
        "misfit": QualityBit(
            1 << 5, "so many pixels were rejected that the profile is probably wrong"
        ),
        "edge": QualityBit(1 << 6, "a part of the aperture or of the profile is beyond the image"),
        "no_background": QualityBit(
            1 << 7, "too few pixels in the background regions to fit the background"
        ),
        "no_error": QualityBit(1 << 8, "there is a flux, but its error is unknown"),
    }
)


def quality_bits(shape: tuple[int, ...], masks: Mapping[str, Mask]) -> NDArray[np.uint32]:
    """Return the quality bits for masks of values, as an array of the given shape.

    Parameters
    ----------
    shape : tuple of int
        Shape of the flux.
    masks : mapping of str to ndarray of bool
        For each name of a bit, the mask of the values that have it. The masks must broadcast to the
        shape of the flux.
    """
    bits = np.zeros(shape, dtype=np.uint32)
    for name, mask in masks.items():
        bits |= np.where(mask, np.uint32(QUALITY_BITS[name].value), np.uint32(0))
    return bits


def has_bits(bits: NDArray[Any], names: Iterable[str]) -> Mask:
    """Return the mask of values that have any of the named quality bits.

    Raises
    ------
    LRSError
        If a name is not that of a quality bit.
    """
    wanted = 0
    for name in [names] if isinstance(names, str) else names:
        if not isinstance(name, str) or name not in QUALITY_BITS:
            raise LRSError(
                f"the quality bit is {quoted(name)}{nearest(str(name), [*QUALITY_BITS])}, expected "
                f"one of {', '.join(QUALITY_BITS)}"
            )
        wanted |= QUALITY_BITS[name].value
    found: Mask = (bits & np.uint32(wanted)) != 0
    return found


def bit_names(bits: int) -> list[str]:
    """Return the names of the bits that are set in a number."""
    return [name for name, bit in QUALITY_BITS.items() if bits & bit.value]


def quality_counts(bits: NDArray[Any]) -> dict[str, int]:
    """Return the number of values that have each quality bit, without bits that no value has."""
    counts = {name: int(has_bits(bits, [name]).sum()) for name in QUALITY_BITS}
    return {name: number for name, number in counts.items() if number}
