"""Weighted mean with the arithmetic of the pipeline's combine_1d step."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import interpn

from glue_lrs.combination.weighted_mean import CombinedColumns
from glue_lrs.errors import LRSError
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.columns import QUALITY
from glue_lrs.spectra.findings import Finding

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Bools, Floats
    from glue_lrs.combination.inputs import InputBlock

#: Columns of an x1d that are averaged.
_AVERAGED = ("FLUX", "FLUX_ERROR", "SURF_BRIGHT", "SB_ERROR")


def pipeline_mean(
    blocks: Sequence[InputBlock],
    times: Sequence[float],
    weights: str,
    sigma_clip: float | None,
    findings: list[Finding],
) -> CombinedColumns:
    """Combine the inputs like the pipeline's combine_1d step (jwst 3.0, combine_1d/combine1d.py).

    The parameters are the same as for `weighted_mean`. Findings are appended to `findings`.
    """
    inputs = _usable_inputs(blocks, times, findings)
    total = sum(len(block) for block in blocks)
    if not inputs:
        raise LRSError(f"none of the {total} spectra can be used in the mode 'pipeline'")
    grid = _pipeline_grid([block.extraction.wavelength for _, block, *_ in inputs])
    shape = (total, grid.size)
    values = {name: np.zeros(shape) for name in _AVERAGED}
    weight, count = np.zeros(shape), np.zeros(shape)
    dq, quality = (np.zeros(grid.size, dtype=np.uint32) for _ in range(2))
    for number, block, integration, time in inputs:
        rows = {
            name: np.atleast_2d(column)[integration]
            for name, column in block.extraction.columns.items()
        }
        position = grid_position(grid, np.asarray(block.extraction.wavelength, dtype=float))
        flags = rows.get("DQ", np.zeros(position.shape, dtype=np.uint32)).astype(np.uint32)
        good = ((flags & DO_NOT_USE) == 0) & ~np.isnan(rows["FLUX"]) & ~np.isnan(position)
        index = np.rint(position[good]).astype(int)
        np.bitwise_or.at(dq, index, flags[good])
        if QUALITY in rows:
            np.bitwise_or.at(quality, index, rows[QUALITY][good].astype(np.uint32))
        # If several values are in the same bin, the last value overwrites the others.
        for name, target in values.items():
            target[number, index] = rows[name][good] if name in rows else np.nan
        weight[number, index] = time
        count[number, index] = 1.0
    used = count > 0
    clipped = np.zeros(used.shape, dtype=bool)
    if sigma_clip is not None:
        clipped = _pipeline_clip(values["FLUX"] * weight, used, sigma_clip)
        weight[clipped] = count[clipped] = 0.0
    columns: dict[str, NDArray[Any]] = {"WAVELENGTH": grid}
    divisor = weight.sum(axis=0)
    divisor = np.where(divisor > 0, divisor, 1.0)
    for name, source in zip(("FLUX", "ERROR", "SURF_BRIGHT", "SB_ERROR"), _AVERAGED, strict=True):
        weighted = np.where(clipped, 0.0, values[source]) * weight  # `nansum` treats NaN as 0
        if name.endswith("ERROR"):
            columns[name] = np.sqrt(np.nansum(weighted**2, axis=0)) / divisor
        else:
            columns[name] = np.nansum(weighted, axis=0) / divisor
        if any(source not in block.extraction.columns for _, block, *_ in inputs):
            # If an input lacks the column, the step has no result for it.
            columns[name] = np.full(grid.size, np.nan)
    columns |= {"DQ": dq, QUALITY: quality}
    columns |= {"WEIGHT": weight.sum(axis=0), "N_INPUT": count.sum(axis=0)}
    kept = np.flatnonzero(columns["N_INPUT"] > 0)
    if kept.size == 0:
        raise LRSError(f"no spectrum has a usable flux, expected one of the {total} to have some")
    if kept.size < grid.size:
        number = grid.size - kept.size
        text = f"{number} of {grid.size} wavelength bins have no input and are removed"
        findings.append(Finding("empty_bins", text, {"bins": number}))
    return CombinedColumns(
        {name: column[kept] for name, column in columns.items()}, used & ~clipped, clipped, kept
    )


def _usable_inputs(
    blocks: Sequence[InputBlock], times: Sequence[float], findings: list[Finding]
) -> list[tuple[int, InputBlock, int, float]]:
    """Return the index, block, integration and weight of each spectrum that the step uses.

    Findings about the spectra that the step skips are appended to `findings`.
    """
    inputs = []
    number = 0
    for block, time in zip(blocks, times, strict=True):
        step = np.diff(np.asarray(block.extraction.wavelength, dtype=float))
        monotonic = bool((step > 0).all() or (step < 0).all())
        has_flux = np.isfinite(np.atleast_2d(block.extraction.columns["FLUX"])).any(axis=1)
        for integration in range(len(block)):
            usable = has_flux[integration]
            if usable and monotonic:
                inputs.append((number, block, integration, time))
            else:
                reason = "wavelengths that are not monotonic" if usable else "no usable flux"
                text = f"has {reason} and is skipped"
                findings.append(Finding("unused_spectra", text, subject=block.name(integration)))
            number += 1
    return inputs


def _pipeline_clip(scaled: Floats, used: Bools, limit: float) -> Bools:
    """Return the mask of the values that differ too much from the median of the inputs.

    The largest accepted difference is `limit` times the median absolute deviation of all values of
    all inputs. `scaled` is the flux times the weight. Values of 0 are treated as missing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # bins without any input
        known = np.where(used & (scaled != 0.0), scaled, np.nan)
        median = np.nanmedian(known, axis=0)
        deviation = np.nanmedian(np.abs(known - median))
        return used & (np.abs(scaled - median) > limit * deviation)


def grid_position(grid: Floats, wave: Floats) -> Floats:
    """Return the fractional index of each wavelength in an ascending grid, NaN beyond its ends.

    Raises
    ------
    LRSError
        If the grid has the same wavelength twice, in which case the pipeline also fails.
    """
    if not (np.diff(grid) > 0).all():
        raise LRSError(
            "the pipeline's grid has the same wavelength twice, which makes the pipeline fail; "
            "expected the mode 'default'"
        )
    # The routine must be the same as in the pipeline's WCS, because a difference in the last bit
    # could change how an index that ends in 1/2 is rounded.
    index = np.arange(grid.size, dtype=float)
    position: Floats = interpn((grid,), index, wave, bounds_error=False, fill_value=np.nan)
    return position


def _pipeline_grid(waves: Sequence[Floats]) -> Floats:
    """Return the pipeline's common wavelength grid, ascending.

    The wavelengths of all inputs are sorted together. Where n inputs overlap, n consecutive sorted
    wavelengths have a small standard deviation (spread) if they belong to the same bin in the n
    inputs. The mean of such a clump becomes a wavelength of the grid. Between clumps, the mean of n
    consecutive wavelengths is used instead.
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

    # The mean and standard deviation must be computed by numpy for each slice, as in the pipeline,
    # because it depends on rounding in the last bit whether a spread is exactly 0.
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
