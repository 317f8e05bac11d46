"""Weighted mean of spectra on a common grid, with sigma clipping."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import LRSError
from glue_lrs.instrument import DO_NOT_USE

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Bools, Floats
    from glue_lrs.combination.inputs import InputBlock

__all__ = ["CombinedColumns", "weighted_mean"]

#: Elements of the running median through the variances.
_SMOOTHED = 31

#: A variance this many times above what its neighbours and the other inputs let expect is real.
_JUMP = 4.0

#: And so many times the scatter of the logarithm of the variances about their running median.
_STANDS_OUT = 6.0

#: Elements over which an input's disagreement with the others is looked at before clipping.
_DISAGREES = 51

#: S/N of an element above which their ratio is.
_SEEN = 3.0

#: Fraction of an input's own spacing beyond which its element gets a place of its own in the grid.
_OWN_PLACE = 0.75


@dataclass(frozen=True, eq=False)
class CombinedColumns:
    """Columns of the result, and which input was used and clipped in which element of the grid."""

    columns: dict[str, NDArray[Any]]  # (n_wave,)
    used: Bools  # (n_input, grid)
    clipped: Bools  # (n_input, grid)
    kept: Any  # the elements of the grid that the columns have


# --- our own way ----------------------------------------------------------------------------------


def weighted_mean(
    blocks: Sequence[InputBlock],
    times: Sequence[float],
    weights: str,
    sigma_clip: float | None,
    notes: list[str],
) -> CombinedColumns:
    inverse = weights == "inverse_variance"
    filled = [block for block in blocks if block.usable.any()]
    for block in blocks:
        empty = np.flatnonzero(~block.usable.any(axis=1))
        if empty.size:
            notes.append(f"{block.name(int(empty[0]))} has no usable flux{_more(empty.size)}")
    if not filled:
        raise LRSError(
            f"no spectrum has a usable flux, expected one of the {len(blocks)} to have some"
        )
    grid = _grid([block.wave for block in filled])
    gathered = [_Gathered.from_block(block, grid, inverse) for block in blocks]
    flux, variance, flat, bright, bright_variance, bright_flat, offset = (
        np.concatenate([getattr(one, name) for one in gathered])
        for name in (
            "flux", "variance", "flat", "bright", "bright_variance", "bright_flat", "offset",
        )
    )  # fmt: skip
    dq = np.concatenate([one.dq for one in gathered])
    usable = np.concatenate([one.usable for one in gathered])
    group = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
    if inverse:
        for block, one in zip(blocks, gathered, strict=True):
            lost = np.flatnonzero(block.usable.any(axis=1) & ~one.usable.any(axis=1))
            if lost.size and usable.any():
                notes.append(
                    f"{block.name(int(lost[0]))} has no usable error{_more(lost.size)}: left out"
                )
    if inverse and not usable.any():
        raise LRSError(
            "no spectrum has an error, expected some for weights='inverse_variance' "
            "(weights='unit' needs none)"
        )
    clipped = np.zeros(usable.shape, dtype=bool)
    if sigma_clip is not None:
        if len(flux) < 3:
            notes.append(
                f"sigma_clip: {'one spectrum is' if len(flux) == 1 else 'two spectra are'} not "
                "clipped, as nobody knows which of two is wrong; expected at least 3"
            )
        elif not (variance[usable] > 0).any():
            raise LRSError("sigma_clip needs errors, expected spectra that have some")
        else:
            clipped = _clip(flux, variance, usable, sigma_clip)
    used = usable & ~clipped
    if inverse:
        weight = _inverse_variance(variance, used)
    else:
        weight = np.repeat(np.asarray(times), [len(block) for block in blocks])[:, np.newaxis]
        weight = np.where(used, weight, 0.0)
    total = weight.sum(axis=0)
    some = used.any(axis=0)
    everywhere = np.concatenate([one.offset_of_all for one in gathered])
    with np.errstate(invalid="ignore", divide="ignore"):
        # Where nothing is used the elements still have a wavelength.
        middle = np.where(some, _mean(offset, weight), np.nanmean(_some(everywhere), axis=0))
    flags = np.bitwise_or.reduce(np.where(used, dq, np.uint32(0)), axis=0)
    left_out = np.bitwise_or.reduce(dq, axis=0) | np.uint32(DO_NOT_USE)
    bright_weight = np.where(np.isfinite(bright), weight, 0.0)
    columns = {
        "WAVELENGTH": grid + middle,
        "FLUX": _mean(flux, weight),
        "ERROR": _error(variance, flat, weight, group),
        "SURF_BRIGHT": _mean(bright, bright_weight),
        "SB_ERROR": _error(bright_variance, bright_flat, bright_weight, group),
        "DQ": np.where(some, flags, left_out).astype(np.uint32),
        "WEIGHT": total,
        "N_INPUT": used.sum(axis=0).astype(float),
    }
    return CombinedColumns(columns, used, clipped, slice(None))


def _more(number: int) -> str:
    return "" if number == 1 else f", nor have {number - 1} more of them"


def _some(values: Floats) -> Floats:
    """The same, with 0 in columns that are all NaN."""
    return np.where(np.isnan(values).all(axis=0), 0.0, values)


def _grid(waves: Sequence[Floats]) -> Floats:
    """The common grid, ascending: that of the longest input, and what others have beside it."""
    longest = max(range(len(waves)), key=lambda number: waves[number].size)
    grid = np.unique(waves[longest])
    if grid.size < 2:
        raise LRSError("no spectrum has more than one wavelength, expected at least 2")
    for number, wave in enumerate(waves):
        if number == longest or wave.size == 0 or np.array_equal(wave, grid):
            continue
        own = np.unique(wave)
        gap = np.diff(own if own.size > 1 else grid)
        # At a hole in the input the nearer neighbour tells its spacing.
        spacing = np.minimum(np.append(gap, np.inf), np.insert(gap, 0, np.inf))
        if own.size == 1:
            spacing = spacing[_nearest(grid, own)]
        away = np.abs(grid[_nearest(grid, own)] - own)
        beside = own[away > _OWN_PLACE * spacing]
        if beside.size:
            grid = np.unique(np.concatenate([grid, beside]))
    return grid


def _nearest(grid: Floats, wave: Floats) -> NDArray[np.intp]:
    """Which element of an ascending grid is the nearest."""
    return np.searchsorted((grid[1:] + grid[:-1]) / 2.0, wave)


@dataclass(frozen=True, eq=False)
class _Gathered:
    """The spectra of a block on the common grid, shape (integration, grid)."""

    usable: Bools
    flux: Floats
    variance: Floats
    flat: Floats  # the part of the variance that all integrations share
    bright: Floats
    bright_variance: Floats
    bright_flat: Floats
    dq: NDArray[np.uint32]  # of usable elements where there are some, else of all
    offset: Floats  # wavelength of the usable elements, less the grid's
    offset_of_all: Floats  # of all elements

    @classmethod
    def from_block(cls, block: InputBlock, grid: Floats, need_variance: bool) -> _Gathered:
        place = _nearest(grid, block.wave)
        first = np.flatnonzero(np.diff(place, prepend=-1))  # of each run of the same place
        shape = (len(block), grid.size)

        def gather(function: Any, values: NDArray[Any], empty: Any) -> NDArray[Any]:
            out = np.full(shape, empty, dtype=values.dtype)
            if first.size:
                out[:, place[first]] = function.reduceat(values, first, axis=1)
            return out

        usable = block.usable
        variance = block.column("FLUX_ERROR") ** 2
        if need_variance:
            usable = usable & np.isfinite(variance) & (variance > 0)
        count = gather(np.add, usable.astype(float), 0.0)

        def mean(values: Floats, power: int = 1) -> Floats:
            # Not multiplied by 0: what is not used may be NaN. What is used and NaN stays so.
            total = gather(np.add, np.where(usable, values, 0.0), 0.0)
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.where(count > 0, total / count**power, np.nan)

        offset = np.broadcast_to(block.wave - grid[place], usable.shape)
        number = gather(np.add, np.ones(usable.shape), 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            offset_of_all = gather(np.add, offset, 0.0) / number
        dq = block.dq()
        used_dq = gather(np.bitwise_or, np.where(usable, dq, np.uint32(0)), np.uint32(0))
        return cls(
            usable=count > 0,
            flux=mean(block.column("FLUX")),
            variance=mean(variance, 2),
            flat=mean(_flat(block, "FLUX_VAR_FLAT"), 2),
            bright=mean(block.column("SURF_BRIGHT")),
            bright_variance=mean(block.column("SB_ERROR") ** 2, 2),
            bright_flat=mean(_flat(block, "SB_VAR_FLAT"), 2),
            dq=np.where(count > 0, used_dq, gather(np.bitwise_or, dq, np.uint32(0))),
            offset=mean(offset),
            offset_of_all=offset_of_all,
        )


def _flat(block: InputBlock, name: str) -> Floats:
    """The variance of the flat field where it is shared: by the integrations of a stack."""
    values = block.column(name)
    return np.nan_to_num(values, nan=0.0) if len(block) > 1 else np.zeros_like(values)


def _mean(values: Floats, weight: Floats) -> Floats:
    """Weighted mean over the inputs; NaN where nothing has a weight."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sum(np.where(weight > 0, values, 0.0) * weight, axis=0) / weight.sum(axis=0)


def _error(variance: Floats, flat: Floats, weight: Floats, group: NDArray[np.intp]) -> Floats:
    """Error of a weighted mean; `flat` is the same in all inputs of a group."""
    used = weight > 0
    own = np.sum(np.where(used, variance - flat, 0.0) * weight**2, axis=0)
    shared = np.where(used, np.sqrt(flat), 0.0) * weight
    together = np.add.reduceat(shared, np.flatnonzero(np.diff(group, prepend=-1)), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(own + np.sum(together**2, axis=0)) / weight.sum(axis=0)


def _inverse_variance(variance: Floats, used: Bools) -> Floats:
    """Weights from variances that are smoothed along the wavelength; 0 where nothing is used."""
    if len(variance) == 1:
        return np.where(used, 1.0, 0.0) / np.where(used, variance, 1.0)
    # Without the element itself, whose noise must not make its own weight, and its neighbours,
    # which share their noise where an image was resampled.
    smooth = _running_median(variance, used, _SMOOTHED, without=3)
    # A line in the spectrum raises the variances of all inputs; a cut ramp that of one.
    ratio = np.where(used, variance, 1.0) / np.where(used, smooth, 1.0)
    excess = ratio / np.where(used, ratio, np.inf).min(axis=0)
    # What noise in the variances does is no jump: it would be the bias again.
    noise = [
        np.median(np.abs(np.log(line[kept]))) if kept.any() else 0.0
        for line, kept in zip(ratio, used, strict=True)
    ]
    limit = np.maximum(_JUMP, np.exp(_STANDS_OUT * np.array(noise) / 0.6745))[:, np.newaxis]
    smooth = np.where(used & (excess > limit), smooth * excess, smooth)
    return np.where(used, 1.0, 0.0) / np.where(used, smooth, 1.0)


def _running_median(values: Floats, good: Bools, size: int, without: int = 0) -> Floats:
    """Running median along each line, past what is not good; NaN in lines without anything good.

    The `without` elements in the middle of the window do not count.
    """
    from scipy.ndimage import median_filter

    place = np.arange(values.shape[1])
    whole = np.full(values.shape, np.nan)
    for line, kept, out in zip(values, good, whole, strict=True):
        if kept.any():
            out[:] = np.interp(place, place[kept], line[kept])
    window = np.abs(np.arange(size) - size // 2) > (without - 1) // 2
    # mirror: at the ends no value counts more often than twice
    found: Floats = median_filter(whole, footprint=window[np.newaxis], mode="mirror")
    return found


def _clip(flux: Floats, variance: Floats, usable: Bools, limit: float) -> Bools:
    """Where an input is too far from the median of at least three."""
    number = usable.sum(axis=0)
    enough = number >= 3
    known = usable & np.isfinite(variance)
    flux = np.where(usable, flux, np.nan)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # elements without any input
        # Nods of a bright source differ by more than their noise, all along: that is no outlier.
        level = np.nanmedian(flux, axis=0)
        signal = np.abs(level) / np.sqrt(variance)
        bright = _smooth_medians(signal, known & enough) > _SEEN  # False where there is a NaN
        ratio = flux / level
        ratio = _smooth_medians(ratio, known & enough & np.isfinite(ratio))
        scale = np.where(bright & (ratio > 0), ratio, 1.0)
        flux, variance = flux / scale, variance / scale**2
        median = np.nanmedian(flux, axis=0)
        # pi / 2: the median of normal values is that much less certain than their mean
        of_median = np.pi / 2.0 * np.sum(np.where(known, variance, 0.0), axis=0) / number**2
        pull = np.abs(flux - median) / np.sqrt(variance + of_median)
    known &= np.isfinite(pull) & enough
    # What else they differ by all along, such as a background.
    spread = _smooth_medians(np.where(known, pull, 0.0), known) / 0.6745
    pull = pull / np.where(spread > 1.0, spread, 1.0)
    return known & (pull > limit)


def _smooth_medians(values: Floats, good: Bools) -> Floats:
    return _running_median(values, good, _DISAGREES)
