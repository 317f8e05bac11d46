"""Weighted mean of spectra on a common wavelength grid, with sigma clipping."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from glue_lrs.errors import Hint, LRSError
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.columns import NOD_VARIANCE, QUALITY
from glue_lrs.spectra.findings import Finding

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Bools, Floats
    from glue_lrs.combination.inputs import InputBlock

#: Window length, in wavelength bins, of the running median of the variances.
_VARIANCE_WINDOW = 31

#: Number of bins excluded in the middle of the variance window, so that the noise in a bin does not
#: influence the weight of the bin. Adjacent bins are excluded too because resampling correlates
#: their noise.
_EXCLUDED = 3

#: Limits above which an increase of the variance in a bin over the running median is assumed to be
#: real, and not due to noise, if it occurs in one input only. Both limits must be exceeded.
_JUMP, _JUMP_SCATTER = (
    4.0,  # limit on the factor by which the variance is increased
    6.0,  # limit on the logarithm of this factor, in units of the scatter of the logarithms
)

#: Window length, in wavelength bins, of the running medians by which inputs are compared.
_DIFFERENCE_WINDOW = 51

#: Running median of the signal-to-noise ratio per bin above which an input is scaled to the median
#: of the inputs before clipping. The scale factor of fainter inputs would be too uncertain.
_SCALED_SNR = 3.0

#: A wavelength of an input is added to the common grid if its distance to the nearest grid
#: wavelength exceeds this fraction of the input's wavelength spacing.
_NEW_BIN = 0.75

#: Median absolute deviation of a normal distribution, in units of the standard deviation.
_MAD = 0.6745


class CombinedColumns(NamedTuple):
    """Combined columns, and masks of the used and the clipped values.

    Parameters
    ----------
    columns : dict of ndarray
        Combined columns, shape (n_wave,).
    used, clipped : ndarray of bool
        Masks of the used values and of the clipped values of each input, shape (n_input, n_grid).
    kept : slice or ndarray of int
        Selection of the n_wave bins, among the n_grid bins of the common grid, that are in
        `columns`.
    """

    columns: dict[str, NDArray[Any]]
    used: Bools
    clipped: Bools
    kept: slice | NDArray[np.intp]


def weighted_mean(
    blocks: Sequence[InputBlock],
    times: Sequence[float],
    weights: str,
    sigma_clip: float | None,
    findings: list[Finding],
    incomplete: str,
) -> CombinedColumns:
    """Combine the inputs as in the default mode of `combine`.

    `times` contains the weight of the spectra in each block, as returned by `exposure_times`. It is
    not used if `weights` is ``"inverse_variance"``. `incomplete` is "reject" or "keep", for values
    that lack pixels of the aperture. Findings are appended to `findings`.
    """
    inverse = weights == "inverse_variance"
    filled = [block for block in blocks if block.usable.any()]
    for block in blocks:
        empty = np.flatnonzero(~block.usable.any(axis=1))
        if empty.size:
            text = f"has no usable flux{_more(empty.size)}"
            findings.append(Finding("unused_spectra", text, subject=block.name(int(empty[0]))))
    if not filled:
        raise LRSError(
            f"no spectrum has a usable flux, expected one of the {len(blocks)} to have some"
        )
    grid = _common_grid([block.wave for block in filled])
    if incomplete == "reject":
        blocks = _without_incomplete(blocks, grid, findings)
    gridded = [_gridded(block, grid, inverse) for block in blocks]
    every = {name: np.concatenate([one[name] for one in gridded]) for name in gridded[0]}
    dq, flux, variance, bright = (every[name] for name in ("dq", "flux", "variance", "bright"))
    usable = every["count"] > 0
    stack = _groups(blocks, [block.stack or number for number, block in enumerate(blocks)])
    nod = _groups(blocks, [block.nod for block in blocks])
    shared = [(every["flat"], stack), (every["nod"], nod)]
    bright_shared = [(every["bright_flat"], stack), (every["bright_nod"], nod)]
    if inverse:
        findings += _without_variances(blocks, usable)
    clipped = _clipped(flux, variance, usable, sigma_clip, findings)
    used = usable & ~clipped
    if inverse:
        weight = _inverse_variance(variance, used)
    else:
        weight = np.repeat(np.asarray(times), [len(block) for block in blocks])[:, np.newaxis]
        weight = np.where(used, weight, 0.0)
    has_input = used.any(axis=0)
    any_offset = every["any_offset"]
    any_offset = np.where(np.isnan(any_offset).all(axis=0), 0.0, any_offset)
    # Bins without a usable input also need a wavelength.
    mean_offset = np.where(
        has_input, _mean(every["offset"], weight), np.nanmean(any_offset, axis=0)
    )
    flags = _flags(dq, used) | np.where(has_input, 0, DO_NOT_USE).astype(np.uint32)
    bright_weight = np.where(np.isfinite(bright), weight, 0.0)
    columns = {
        "WAVELENGTH": grid + mean_offset,
        "FLUX": _mean(flux, weight),
        "ERROR": _error(variance, shared, weight),
        "SURF_BRIGHT": _mean(bright, bright_weight),
        "SB_ERROR": _error(every["bright_variance"], bright_shared, bright_weight),
        "DQ": flags,
        QUALITY: _flags(every["quality"], used),
        "WEIGHT": weight.sum(axis=0),
        "N_INPUT": used.sum(axis=0).astype(float),
    }
    return CombinedColumns(columns, used, clipped, slice(None))


def _flags(bits: NDArray[np.uint32], used: Bools) -> NDArray[np.uint32]:
    """Return the bits of the used values in each bin, or of all values if none is used."""
    chosen = np.where(used.any(axis=0) & ~used, np.uint32(0), bits)
    return np.asarray(np.bitwise_or.reduce(chosen, axis=0), dtype=np.uint32)


def _without_incomplete(
    blocks: Sequence[InputBlock], grid: Floats, findings: list[Finding]
) -> list[InputBlock]:
    """Return the inputs, with incomplete values rejected in bins with a complete value.

    Findings about the rejected values, and about bins in which no value is complete, are appended
    to `findings`.
    """
    complete, every = np.zeros(grid.size, dtype=bool), np.zeros(grid.size, dtype=bool)
    indices = [_nearest(grid, block.wave) for block in blocks]
    for block, index in zip(blocks, indices, strict=True):
        complete[index[(block.usable & ~block.incomplete).any(axis=0)]] = True
        every[index[block.usable.any(axis=0)]] = True
    kept = []
    number = 0
    for block, index in zip(blocks, indices, strict=True):
        rejected = block.incomplete & complete[index]
        number += int(rejected.sum())
        kept.append(replace(block, rejected=rejected) if rejected.any() else block)
    if number:
        text = f"{number} values that lost pixels were rejected"
        findings.append(Finding("rejected_elements", text, {"values": number}))
    if short := int((every & ~complete).sum()):
        text = (
            f"{short} of {grid.size} wavelength bins have no value without lost pixels: the flux "
            "is too low there"
        )
        findings.append(Finding("short_spectra", text, {"bins": short}))
    return kept


def _more(number: int) -> str:
    """Return the end of a message about one integration of a stack, with the number of others.

    `number` is the total number of integrations to which the message applies.
    """
    return "" if number == 1 else f", nor have {number - 1} more of them"


def _without_variances(blocks: Sequence[InputBlock], usable: Bools) -> list[Finding]:
    """Return findings about spectra with fluxes but without the errors that the weights require.

    `usable` is the mask of the values that have a flux and an error, shape (n_input, n_grid).
    """
    if not usable.any():
        raise LRSError(
            "no spectrum has an error, expected some for the weights 'inverse_variance'",
            hint=Hint.to("{} needs none", weights="unit"),
        )
    findings = []
    ends = np.cumsum([len(block) for block in blocks])
    for block, own in zip(blocks, np.split(usable, ends[:-1]), strict=True):
        lost = np.flatnonzero(block.usable.any(axis=1) & ~own.any(axis=1))
        if lost.size:
            text = f"has no usable error{_more(lost.size)}: skipped"
            findings.append(Finding("unused_spectra", text, subject=block.name(int(lost[0]))))
    return findings


def _clipped(
    flux: Floats, variance: Floats, usable: Bools, sigma_clip: float | None, findings: list[Finding]
) -> Bools:
    """Return the mask of the values that are clipped.

    They differ from the median of the inputs by more than `sigma_clip` standard deviations. Values
    are clipped only in bins with at least three inputs. If there are fewer than three spectra, a
    finding is appended to `findings`.
    """
    clipped = np.zeros(usable.shape, dtype=bool)
    if sigma_clip is None:
        return clipped
    if len(flux) < 3:
        number = "one spectrum is" if len(flux) == 1 else "two spectra are"
        text = f"{number} not clipped, as outliers cannot be identified; expected at least 3"
        findings.append(Finding("unused_option", text, subject="sigma_clip"))
        return clipped
    if not (variance[usable] > 0).any():
        raise LRSError("sigma_clip needs errors, expected spectra that have some")
    number = usable.sum(axis=0)
    enough = number >= 3
    known = usable & np.isfinite(variance)
    flux = np.where(usable, flux, np.nan)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # bins without any input
        # The nods of a bright source may differ by more than their noise over a range of
        # wavelengths. Each input is scaled to the median by a slowly varying ratio, so that such
        # differences are not clipped.
        level = np.nanmedian(flux, axis=0)
        snr = np.abs(level) / np.sqrt(variance)
        bright = _running_median(snr, known & enough) > _SCALED_SNR  # NaN compares as False
        ratio = flux / level
        ratio = _running_median(ratio, known & enough & np.isfinite(ratio))
        scale = np.where(bright & (ratio > 0), ratio, 1.0)
        flux, variance = flux / scale, variance / scale**2
        median = np.nanmedian(flux, axis=0)
        # The variance of the median of normal deviates is pi / 2 times the variance of their mean.
        of_median = np.pi / 2.0 * np.sum(np.where(known, variance, 0.0), axis=0) / number**2
        pull = np.abs(flux - median) / np.sqrt(variance + of_median)
    known &= np.isfinite(pull) & enough
    # Reduce the pulls of inputs that differ over a range of wavelengths for another reason, such as
    # residual background.
    spread = _running_median(np.where(known, pull, 0.0), known) / _MAD
    pull = pull / np.where(spread > 1.0, spread, 1.0)
    return known & (pull > sigma_clip)


def _common_grid(waves: Sequence[Floats]) -> Floats:
    """Return the common wavelength grid, ascending.

    The grid consists of the wavelengths of the longest input and of the wavelengths of other inputs
    that are not close to any of these.
    """
    longest = max(range(len(waves)), key=lambda number: waves[number].size)
    grid = np.unique(waves[longest])
    if grid.size < 2:
        raise LRSError("no spectrum has more than one wavelength, expected at least 2")
    for number, wave in enumerate(waves):
        if number == longest or wave.size == 0 or np.array_equal(wave, grid):
            continue
        own = np.unique(wave)
        gap = np.diff(own if own.size > 1 else grid)
        # The spacing at a wavelength is the smaller of the gaps to its two neighbours, because the
        # larger gap may be caused by missing wavelengths.
        spacing = np.minimum(np.append(gap, np.inf), np.insert(gap, 0, np.inf))
        if own.size == 1:
            spacing = spacing[_nearest(grid, own)]
        distance = np.abs(grid[_nearest(grid, own)] - own)
        added = own[distance > _NEW_BIN * spacing]
        if added.size:
            grid = np.unique(np.concatenate([grid, added]))
    return grid


def _nearest(grid: Floats, wave: Floats) -> NDArray[np.intp]:
    """Return the index of the nearest wavelength in an ascending grid for each `wave`."""
    return np.searchsorted((grid[1:] + grid[:-1]) / 2.0, wave)


def _gridded(block: InputBlock, grid: Floats, need_variance: bool) -> dict[str, NDArray[Any]]:
    """Assign the values of each spectrum to the nearest bin of the grid and average them.

    Returns
    -------
    dict of ndarray
        Arrays of shape (integration, n_grid). ``count`` is the number of usable values in a bin.
        ``dq`` and ``quality`` combine the bits of the usable values, or of all values if none is
        usable. ``flat`` and ``bright_flat`` are the flat-field variances of flux and surface
        brightness, which the integrations share. ``nod`` and ``bright_nod`` are the variances of
        the subtracted background, which exposures at a nod share. ``offset`` is the mean wavelength
        of the usable values minus the wavelength of the bin, and ``any_offset`` that of all values.
        The other arrays are means of the usable values and variances of these means.
    """
    index = _nearest(grid, block.wave)
    first = np.flatnonzero(np.diff(index, prepend=-1))  # first value in each bin
    shape = (len(block), grid.size)

    def gather(function: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
        gathered = np.zeros(shape, dtype=values.dtype)
        if first.size:
            gathered[:, index[first]] = function.reduceat(values, first, axis=1)
        return gathered

    usable = block.usable
    variance = block.column("FLUX_ERROR") ** 2
    if need_variance:
        usable = usable & np.isfinite(variance) & (variance > 0)
    count = gather(np.add, usable.astype(float))

    def mean(values: Floats, power: int = 1) -> Floats:
        # Unusable values are replaced because they may be NaN. Usable values may also be NaN, which
        # is kept.
        total = gather(np.add, np.where(usable, values, 0.0))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(count > 0, total / count**power, np.nan)

    offset = np.broadcast_to(block.wave - grid[index], usable.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        any_offset = gather(np.add, offset) / gather(np.add, np.ones(usable.shape))

    def combined(bits: NDArray[np.uint32]) -> NDArray[np.uint32]:
        used = gather(np.bitwise_or, np.where(usable, bits, np.uint32(0)))
        return np.where(count > 0, used, gather(np.bitwise_or, bits))

    return {
        "count": count,
        "flux": mean(block.column("FLUX")),
        "variance": mean(variance, 2),
        "flat": mean(_shared_variance(block, "FLUX_VAR_FLAT"), 2),
        "nod": mean(_nod_variance(block, "FLUX_ERROR"), 2),
        "bright_nod": mean(_nod_variance(block, "SB_ERROR"), 2),
        "bright": mean(block.column("SURF_BRIGHT")),
        "bright_variance": mean(block.column("SB_ERROR") ** 2, 2),
        "bright_flat": mean(_shared_variance(block, "SB_VAR_FLAT"), 2),
        "dq": combined(block.dq()),
        "quality": combined(block.quality()),
        "offset": mean(offset),
        "any_offset": any_offset,
    }


def _shared_variance(block: InputBlock, name: str) -> Floats:
    """Return the flat-field variance that the integrations of a stack share, 0 for a spectrum."""
    values = block.column(name)
    return np.nan_to_num(values, nan=0.0) if block.extraction.is_stack else np.zeros_like(values)


def _mean(values: Floats, weight: Floats) -> Floats:
    """Return the weighted mean over the inputs, NaN in bins in which all weights are 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sum(np.where(weight > 0, values, 0.0) * weight, axis=0) / weight.sum(axis=0)


def _nod_variance(block: InputBlock, error: str) -> Floats:
    """Return the variance of the subtracted background, which exposures at the same nod share.

    It is a part of the square of the column named `error`, FLUX_ERROR or SB_ERROR. It is 0 if it is
    not known.
    """
    part = block.column(NOD_VARIANCE, missing=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = part / block.column("FLUX_ERROR") ** 2 * block.column(error) ** 2
    return np.nan_to_num(variance, nan=0.0, posinf=0.0)


def _groups(blocks: Sequence[InputBlock], keys: Sequence[object]) -> NDArray[np.intp]:
    """Return a number for each spectrum, which is the same for all blocks with the same key."""
    known: dict[object, int] = {}
    numbers = [known.setdefault(key, len(known)) for key in keys]
    return np.repeat(np.array(numbers, dtype=np.intp), [len(block) for block in blocks])


def _error(
    variance: Floats, shared: Sequence[tuple[Floats, NDArray[np.intp]]], weight: Floats
) -> Floats:
    """Return the error of the weighted mean over the inputs, shape (n_grid,).

    Parameters
    ----------
    variance : ndarray
        Variance of each value, shape (n_input, n_grid).
    shared : sequence of (ndarray, ndarray of int)
        Parts of the variance that are due to errors that all inputs in a group have in common, and
        the number of the group to which each input belongs, shape (n_input,).
    weight : ndarray
        Weight of each value, 0 if it is not used.
    """
    used = weight > 0
    total = np.sum(
        np.where(used, variance - sum(part for part, _ in shared), 0.0) * weight**2, axis=0
    )
    for part, group in shared:
        common = np.where(used, np.sqrt(part), 0.0) * weight
        sums = np.zeros((group.max() + 1, weight.shape[1]))
        np.add.at(sums, group, common)
        total = total + np.sum(sums**2, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.sqrt(total) / weight.sum(axis=0))


def _inverse_variance(variance: Floats, used: Bools) -> Floats:
    """Return the inverses of the smoothed variances as weights, 0 for unused values.

    The variances of a single input are not smoothed, because its weights do not affect the mean.
    """
    if len(variance) == 1:
        return np.where(used, 1.0, 0.0) / np.where(used, variance, 1.0)
    smooth = _running_median(variance, used, _VARIANCE_WINDOW, exclude=_EXCLUDED)
    # A spectral line increases the variances of all inputs, but a truncated ramp increases the
    # variance of a single input, whose weight must be reduced.
    ratio = np.where(used, variance, 1.0) / np.where(used, smooth, 1.0)
    excess = ratio / np.where(used, ratio, np.inf).min(axis=0)
    # Increases within the scatter of the variances must be ignored, because weights that follow the
    # scatter would bias the weighted mean towards low values.
    scatter = [
        np.median(np.abs(np.log(line[kept]))) if kept.any() else 0.0
        for line, kept in zip(ratio, used, strict=True)
    ]
    limit = np.maximum(_JUMP, np.exp(_JUMP_SCATTER * np.array(scatter) / _MAD))[:, np.newaxis]
    smooth = np.where(used & (excess > limit), smooth * excess, smooth)
    return np.where(used, 1.0, 0.0) / np.where(used, smooth, 1.0)


def _running_median(
    values: Floats, good: Bools, size: int = _DIFFERENCE_WINDOW, exclude: int = 0
) -> Floats:
    """Return the running median along the wavelength for each input, shape (n_input, n_grid).

    Values that are not good are interpolated. The result is NaN for an input without good values.
    The window has `size` bins, of which the `exclude` bins in the middle are not used.
    """
    index = np.arange(values.shape[1])
    filled = np.full(values.shape, np.nan)
    for line, kept, out in zip(values, good, filled, strict=True):
        if kept.any():
            out[:] = np.interp(index, index[kept], line[kept])
    window = np.abs(np.arange(size) - size // 2) > (exclude - 1) // 2
    # With mode="mirror", no value is used more than twice near the ends.
    median: Floats = median_filter(filled, footprint=window[np.newaxis], mode="mirror")
    return median
