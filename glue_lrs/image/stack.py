"""Stack: many integrations -> one image, one of them or their median."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.statistics import masked_median, median_variance
from glue_lrs.errors import LRSError
from glue_lrs.instrument import DO_NOT_USE

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage

__all__ = ["integration", "median"]

_RANDOM = ("var_poisson", "var_rnoise")

_PLANES = ("err", "var_poisson", "var_rnoise", "var_flat", "dq")

#: Numbers that are sorted at once.
_BLOCK = 1 << 22


def integration(image: SlitImage, number: int) -> SlitImage:
    """One integration of a stack as an image of its own; the arrays are views.

    See `SlitImage.integration`.
    """
    count = image.data.shape[0] if image.is_stack else 0
    if not 0 <= number < count:
        expected = f"0 to {count - 1}" if count else "none, as it is a single image"
        raise LRSError(f"{image.label}: integration is {number}, expected {expected}")
    planes = {name: getattr(image, name) for name in _PLANES}
    cut: dict[str, Any] = {
        name: None if plane is None else plane[number] for name, plane in planes.items()
    }
    return replace(image, data=image.data[number], times=None, wcs_source=_wcs(image), **cut)


def median(image: SlitImage) -> SlitImage:
    """The median of all integrations of a stack, pixel by pixel, as an image of its own.

    See `SlitImage.median`.
    """
    if not image.is_stack:
        raise LRSError(f"{image.label}: is a single image, expected a stack of integrations")
    number, rows, columns = image.data.shape
    planes: dict[str, NDArray[Any] | None] = {name: getattr(image, name) for name in _PLANES}
    data = np.empty((rows, columns))
    count = np.empty((rows, columns), dtype=int)
    means = {
        name: np.empty((rows, columns))
        for name in ("var_poisson", "var_rnoise", "var_flat", "err")
        if planes[name] is not None
    }
    step = max(_BLOCK // (number * columns), 1)
    for first in range(0, rows, step):
        cut = (slice(None), slice(first, first + step))
        variances = {name: np.asarray(getattr(image, name)[cut]) for name in means}
        values = np.asarray(image.data[cut])
        good = np.isfinite(values)
        if image.dq is not None:
            good &= (image.dq[cut] & DO_NOT_USE) == 0
        for variance in variances.values():
            good &= np.isfinite(variance)
        here = count[cut[1]] = good.sum(axis=0)
        with np.errstate(invalid="ignore", over="ignore"):  # of what is not good
            data[cut[1]] = masked_median(values, good)
            for name, variance in variances.items():
                # Products of single precision are exact enough for an error; sums are not.
                power = variance**2 if name == "err" else variance
                total = np.sum(power, axis=0, dtype=float, where=good)
                means[name][cut[1]] = total / np.maximum(here, 1)
    none = count == 0
    factor = median_variance(np.maximum(count, 1))
    made: dict[str, Any] = dict.fromkeys(_PLANES)
    for name in _RANDOM:
        if name in means:
            made[name] = means[name] * factor
    if "var_flat" in means:
        made["var_flat"] = means["var_flat"]
    parts = [plane for name, plane in made.items() if plane is not None]
    if parts:
        made["err"] = np.sqrt(np.sum(parts, axis=0))
    elif "err" in means:
        made["err"] = np.sqrt(means["err"] * factor)
    for plane in made.values():
        if plane is not None:
            plane[none] = np.nan
    made["dq"] = np.where(none, DO_NOT_USE, 0).astype(np.uint32)
    return replace(image, data=data, times=None, wcs_source=_wcs(image), **made)


def _wcs(image: SlitImage) -> Any:
    """The WCS if it is loaded already: it would be loaded again for each integration."""
    return image.__dict__.get("wcs", image.wcs_source)
