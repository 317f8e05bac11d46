"""Selection of integrations from a stack, and median over the integrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.statistics import masked_median, median_variance
from glue_lrs.errors import LRSError
from glue_lrs.image.lazy_plane import part_of
from glue_lrs.image.pixels import DATA_PLANES, PLANES, good_pixels
from glue_lrs.instrument import DO_NOT_USE

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage

#: Number of pixels that are sorted at a time, to limit the memory use.
BLOCK_PIXELS = 1 << 22

#: Number of integrations that `read_stack` reads at a time, which fit into the processor's cache.
_READ = 8


def integration_planes(image: SlitImage, number: int) -> dict[str, Any]:
    """Return the new values of the attributes that `SlitImage.integration` replaces."""
    count = image.data.shape[0] if image.is_stack else 0
    if not 0 <= number < count:
        expected = f"0 to {count - 1}" if count else "none, as it is a single image"
        raise LRSError(f"integration is {number}, expected {expected}", subject=image.label)
    planes = {name: getattr(image, name) for name in DATA_PLANES}
    return {
        "data": image.data[number],
        "times": None,
        "wcs_source": image.loaded_wcs_source,
        **{name: None if plane is None else plane[number] for name, plane in planes.items()},
    }


def stack_part(image: SlitImage, where: slice | NDArray[np.intp]) -> SlitImage:
    """Return a stack of some of the integrations, without reading its planes.

    Parameters
    ----------
    image : SlitImage
        Stack of integrations.
    where : slice or ndarray of int
        Integrations in ascending order. An array requires planes that are in memory.
    """
    names = ("data", *DATA_PLANES)
    planes = {n: part_of(p, where) for n in names if (p := getattr(image, n)) is not None}
    times = image.times
    if times is not None and len(times) == len(image.data):
        planes["times"] = times[where]
    return image.derived(**planes)


def stack_in_memory(image: SlitImage) -> SlitImage:
    """Return a stack whose planes are in memory, in native byte order."""
    planes: dict[str, Any] = {}
    for name in ("data", *DATA_PLANES):
        plane = getattr(image, name)
        if plane is not None:
            values = np.asarray(plane[:])
            planes[name] = values.astype(values.dtype.newbyteorder("="), copy=False)
    return image.derived(**planes)


def read_stack(image: SlitImage, memory: dict[str, NDArray[Any]]) -> SlitImage:
    """Return a copy of a stack in given arrays, as `stack_in_memory`.

    Parameters
    ----------
    image : SlitImage
        Stack of integrations.
    memory : dict of ndarray
        Arrays that are overwritten, by the name of the plane. Missing and unsuitable arrays are
        made. Reading one part of a stack after the other into the same arrays is faster, but the
        parts that were read before are then lost.
    """
    planes: dict[str, Any] = {}
    for name in ("data", *DATA_PLANES):
        plane = getattr(image, name)
        if plane is None:
            continue
        number, kind = len(plane), plane.dtype.newbyteorder("=")
        made = memory.get(name)
        if made is None or made.dtype != kind or made[:number].shape != plane.shape:
            made = memory[name] = np.empty(plane.shape, dtype=kind)
        planes[name] = made[:number]
        for first in range(0, number, _READ):
            some = slice(first, first + _READ)
            planes[name][some] = plane[some]
    return image.derived(**planes)


def median_planes(image: SlitImage) -> dict[str, Any]:
    """Return the new values of the attributes that `SlitImage.median` replaces."""
    if not image.is_stack:
        raise LRSError("is a single image, expected a stack of integrations", subject=image.label)
    number, rows, columns = image.data.shape
    data, count = np.empty((rows, columns)), np.empty((rows, columns), dtype=int)
    names = [name for name in (*PLANES, "err") if getattr(image, name) is not None]
    means = {name: np.empty((rows, columns)) for name in names}
    step = max(BLOCK_PIXELS // (number * columns), 1)
    for first in range(0, rows, step):
        cut = (slice(None), slice(first, first + step))
        variances = {name: np.asarray(getattr(image, name)[cut]) for name in means}
        values = np.asarray(image.data[cut])
        good = good_pixels(image, cut)
        here = count[cut[1]] = good.sum(axis=0)
        with np.errstate(invalid="ignore", over="ignore"):  # bad pixels may have extreme values
            data[cut[1]] = masked_median(values, good)
            for name, variance in variances.items():
                # Single precision is sufficient for squaring the errors, but not for the sum.
                power = variance**2 if name == "err" else variance
                total = np.sum(power, axis=0, dtype=float, where=good)
                means[name][cut[1]] = total / np.maximum(here, 1)
    none = count == 0
    factor = median_variance(np.maximum(count, 1))
    made: dict[str, Any] = dict.fromkeys(DATA_PLANES)
    # The flat-field error is the same in all integrations, so that the median does not reduce it.
    made |= {n: mean if n == "var_flat" else mean * factor for n, mean in means.items()}
    parts = [made[name] for name in names if name != "err"]
    if parts:
        made["err"] = np.sum(parts, axis=0)
    if names:
        made["err"] = np.sqrt(made["err"])
    for plane in made.values():
        if plane is not None:
            plane[none] = np.nan
    made["dq"] = np.where(none, DO_NOT_USE, 0).astype(np.uint32)
    return {"data": data, "times": None, "wcs_source": image.loaded_wcs_source, **made}
