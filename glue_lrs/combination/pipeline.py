"""Weighted mean with the arithmetic of the pipeline's ``combine_1d``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.combination.weighted_mean import CombinedColumns
from glue_lrs.errors import LRSError
from glue_lrs.instrument import DO_NOT_USE

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Bools, Floats
    from glue_lrs.combination.inputs import InputBlock

__all__ = ["pipeline_mean"]


# --- the pipeline's way ---------------------------------------------------------------------------


def pipeline_mean(
    blocks: Sequence[InputBlock],
    times: Sequence[float],
    weights: str,
    sigma_clip: float | None,
    notes: list[str],
) -> CombinedColumns:
    """What the pipeline's combine_1d step computes (jwst 3.0, jwst/combine_1d/combine1d.py)."""
    kept: list[tuple[InputBlock, int, float] | None] = []
    for block, time in zip(blocks, times, strict=True):
        wave = np.asarray(block.extraction.wavelength, dtype=float)
        step = np.diff(wave)
        monotonic = bool((step > 0).all() or (step < 0).all())
        flux = np.atleast_2d(block.extraction.columns["FLUX"])
        for integration in range(len(block)):
            reason = None
            if not np.isfinite(flux[integration]).any():
                reason = "has no usable flux"
            elif not monotonic:
                reason = "has wavelengths that neither rise nor fall all along"
            if reason is not None:
                notes.append(f"{block.name(integration)} {reason}, it is left out")
            kept.append(None if reason is not None else (block, integration, time))
    some = [one for one in kept if one is not None]
    if not some:
        raise LRSError(f"none of the {len(kept)} spectra can be used by the pipeline's way")
    grid = _pipeline_grid([block.extraction.wavelength for block, *_ in some])
    columns = ("FLUX", "FLUX_ERROR", "SURF_BRIGHT", "SB_ERROR")
    values = {name: np.zeros((len(kept), grid.size)) for name in columns}
    weight = np.zeros((len(kept), grid.size))
    count = np.zeros((len(kept), grid.size))
    dq = np.zeros(grid.size, dtype=np.uint32)
    for number, one in enumerate(kept):
        if one is None:
            continue
        block, integration, time = one
        rows = {
            name: np.atleast_2d(column)[integration]
            for name, column in block.extraction.columns.items()
        }
        place = _pipeline_place(grid, np.asarray(block.extraction.wavelength, dtype=float))
        flags = rows.get("DQ", np.zeros(place.shape, dtype=np.uint32)).astype(np.uint32)
        good = ((flags & DO_NOT_USE) == 0) & ~np.isnan(rows["FLUX"]) & ~np.isnan(place)
        index = np.rint(place[good]).astype(int)
        np.bitwise_or.at(dq, index, flags[good])
        # Of several elements in one place the last one stays.
        for name, target in values.items():
            target[number, index] = rows[name][good] if name in rows else np.nan
        weight[number, index] = time
        count[number, index] = 1.0
    used = count > 0
    clipped = np.zeros(used.shape, dtype=bool)
    if sigma_clip is not None:
        clipped = _pipeline_clip(values["FLUX"] * weight, used, sigma_clip)
        weight[clipped] = count[clipped] = 0.0
    total = weight.sum(axis=0)
    divisor = np.where(total > 0, total, 1.0)
    made: dict[str, NDArray[Any]] = {"WAVELENGTH": grid}
    for name, error in (("FLUX", "FLUX_ERROR"), ("SURF_BRIGHT", "SB_ERROR")):
        own = np.where(clipped, 0.0, values[name])
        made[name] = np.nansum(own * weight, axis=0) / divisor
        own = np.where(clipped, 0.0, values[error])
        made["ERROR" if name == "FLUX" else error] = (
            np.sqrt(np.nansum((own * weight) ** 2, axis=0)) / divisor
        )
    for name, source in (("ERROR", "FLUX_ERROR"), ("SURF_BRIGHT",) * 2, ("SB_ERROR",) * 2):
        if any(source not in block.extraction.columns for block, *_ in some):
            made[name] = np.full(grid.size, np.nan)  # the pipeline has no spectra without them
    made |= {"DQ": dq, "WEIGHT": total, "N_INPUT": count.sum(axis=0)}
    left = np.flatnonzero(made["N_INPUT"] > 0)
    if left.size == 0:
        raise LRSError(
            f"no spectrum has a usable flux, expected one of the {len(kept)} to have some"
        )
    if left.size < grid.size:
        notes.append(
            f"{grid.size - left.size} of {grid.size} elements have no input, they are gone"
        )
    return CombinedColumns(
        {name: column[left] for name, column in made.items()}, used & ~clipped, clipped, left
    )


def _pipeline_clip(scaled: Floats, used: Bools, limit: float) -> Bools:
    """One limit for all wavelengths and inputs; a flux of 0 counts as missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # elements without any input
        known = np.where(used & (scaled != 0.0), scaled, np.nan)
        median = np.nanmedian(known, axis=0)
        deviation = np.nanmedian(np.abs(known - median))
        return used & (np.abs(scaled - median) > limit * deviation)


def _pipeline_place(grid: Floats, wave: Floats) -> Floats:
    """Place of wavelengths in the grid, a fraction between two; NaN beyond its ends."""
    from scipy.interpolate import interpn

    if not (np.diff(grid) > 0).all():
        raise LRSError(
            "the pipeline's grid has the same wavelength twice, with which it fails; expected "
            "mode='default'"
        )
    # The same routine as behind the pipeline's WCS: a last bit may decide on either side of 1/2.
    place = np.arange(grid.size, dtype=float)
    found: Floats = interpn((grid,), place, wave, bounds_error=False, fill_value=np.nan)
    return found


def _pipeline_grid(waves: Sequence[Floats]) -> Floats:
    """The common grid of the pipeline, ascending.

    All wavelengths are sorted. At each the number n of inputs that cover it is known; the spread of
    n neighbours is small where they are the same element of the n inputs, and their mean becomes an
    element of the grid. Where no such clump is found the means of n in a row are taken.
    """
    long = [np.asarray(wave, dtype=float) for wave in waves if len(wave) > 1]
    if not long:
        raise LRSError("no spectrum has more than one wavelength, expected at least 2")
    every = np.sort(np.concatenate(long))
    size = every.size
    cover = np.zeros(size, dtype=int)
    for wave in long:
        rising = wave if wave[1] > wave[0] else wave[::-1]
        below = rising[0] - 0.5 * (rising[1] - rising[0])
        above = rising[-1] + 0.5 * (rising[-1] - rising[-2])
        cover += (every >= below) & (every < above)

    # Slice by slice, with numpy's own mean and std: whether a spread is 0 hangs on the last bit.
    spread, mean = np.full(size, 9999.0), np.full(size, -99.0)
    for k, n in enumerate(cover):
        last = k + n // 2 + 1
        if n == 1:
            spread[k], mean[k] = 0.0, every[k]
        elif last - n >= 0 and last <= size:
            part = every[last - n : last]
            spread[k], mean[k] = part.std(), part.mean()

    neighbours = np.empty(size)
    neighbours[1:-1] = (spread[:-2] + spread[2:]) / 2.0
    neighbours[0], neighbours[-1] = spread[1], spread[-2]
    clump = (spread == 0.0) | (spread < 0.8 * neighbours)
    found = np.where(clump, mean, -99.0)

    k = 0
    while k < size:
        n = cover[k]
        if k + n // 2 < size:
            n = cover[k + n // 2]
            if k + n < size:
                around = found[max(k - 1, 0) : min(k + n + 1, size - 1)]
                if around.max() <= 0.0:
                    found[k] = every[k : k + n].mean()
        k += n
    return np.sort(found[found > 0.0])
