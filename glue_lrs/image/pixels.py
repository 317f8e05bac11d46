"""Pixel planes and the rule for good pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.instrument import DO_NOT_USE

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Mask
    from glue_lrs.image.slit_image import SlitImage

__all__ = ["PLANES", "good_pixels", "read_pixels"]


def read_pixels(
    image: SlitImage, read: Any
) -> tuple[NDArray[np.float64], list[NDArray[np.float64] | None], NDArray[np.bool_]]:
    """Data, variances and which pixels have a value; 0 at those that have none.

    Parameters
    ----------
    image : SlitImage
        The image.
    read : callable
        Cuts a part out of a plane.
    """
    data = read(image.data).astype(float)
    bad = ~np.isfinite(data)
    err = read(image.err)
    if err is not None:
        bad |= np.isnan(err)
    flags = read(image.dq)
    if flags is not None:
        bad |= (flags & DO_NOT_USE) != 0
    variances: list[NDArray[np.float64] | None] = []
    for name in PLANES:
        values = read(getattr(image, name))
        if values is not None:
            values = values.astype(float)
            bad |= ~np.isfinite(values)
        variances.append(values)
    if bad.any():
        data[bad] = 0.0
        for values in variances:
            if values is not None:
                values[bad] = 0.0
    return data, variances, ~bad


PLANES = ("var_poisson", "var_rnoise", "var_flat")


def good_pixels(image: SlitImage, where: Any) -> Mask:
    """Pixels that hold a value: no NaN in any plane, no DQ bit 0."""
    good = np.isfinite(np.asarray(image.data[where]))
    for name in ("err", "var_poisson", "var_rnoise", "var_flat"):
        plane = getattr(image, name)
        if plane is not None:
            good &= np.isfinite(np.asarray(plane[where]))
    if image.dq is not None:
        good &= (np.asarray(image.dq[where]) & DO_NOT_USE) == 0
    return good
