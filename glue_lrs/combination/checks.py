"""Checks of the inputs of a combination: units, targets, repetitions, contradictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u

from glue_lrs.errors import Hint, LRSError
from glue_lrs.spectra.column_checks import BLOCK, mean_flux
from glue_lrs.spectra.findings import SIGNIFICANT, Finding

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Floats
    from glue_lrs.combination.inputs import InputBlock

#: Inputs are refused if their weighted mean fluxes have opposite signs, and each exceeds this
#: multiple of its error.
_OPPOSITE = 5.0

#: Largest accepted relative difference between the mean fluxes of two inputs. The slit losses of
#: two nods of one target, and the fluxes of two visits, differ by some per cent.
_SAME_FLUX = 0.05


def check_compatible(blocks: Sequence[InputBlock]) -> list[Finding]:
    """Raise an error if the inputs cannot be combined, and return findings about probable mistakes.

    Raises
    ------
    LRSError
        If inputs have different units or modes (EXP_TYPE).
    """
    for name in ("FLUX", "SURF_BRIGHT"):
        units = [block.extraction.units.get(name) for block in blocks]
        _check_same(blocks, f"{name} is in", units, u.Unit)
    modes = [block.extraction.header.get("EXP_TYPE") for block in blocks]
    _check_same(blocks, "EXP_TYPE is", modes, str)
    found = _differences(blocks)
    unknown = [block.label for block in blocks if block.target is None]
    if unknown and len(blocks) > 1:
        others = "" if len(unknown) == 1 else f" (and {len(unknown) - 1} more)"
        text = f"has no TARGNAME{others}: the target may be another one"
        found.append(Finding("unknown_target", text, subject=unknown[0]))
    return found + _repetitions(blocks)


def _check_same(
    blocks: Sequence[InputBlock],
    text: str,
    values: Sequence[str | None],
    parse: Callable[[str], object],
) -> None:
    """Raise `LRSError` if the inputs have different values. Values of None are ignored.

    `text` begins the message, before the value, and `parse` converts a value for the comparison.
    """
    known = [(b, value) for b, value in zip(blocks, values, strict=True) if value is not None]
    for block, value in known[1:]:
        first, expected = known[0]
        if parse(value) != parse(expected):
            raise LRSError(
                f"{text} {value}, expected {expected} as in {first.label}", subject=block.label
            )


def _differences(blocks: Sequence[InputBlock]) -> list[Finding]:
    """Return findings about differences between the inputs that may be due to a mistake.

    The names of the targets, the source types and the aperture corrections are compared with those
    of the first input in which they are known.
    """
    found = []
    for what, name in (("target", "target"), ("source", "source_type")):
        known = [(block.label, getattr(block, name)) for block in blocks]
        known = [(label, value) for label, value in known if value is not None]
        for label, value in known[1:]:
            first, expected = known[0]
            if value != expected:
                kind = "different_targets" if name == "target" else "different_spectra"
                text = f"the {what} is {value}, that of {first} is {expected}"
                found.append(Finding(kind, text, subject=label))
    total = [block.label for block in blocks if block.has_total_flux]
    if total:
        text = f"has no aperture correction, but {total[0]} has all of the flux of its source"
        partial = [block.label for block in blocks if block.has_total_flux is False]
        found += [Finding("different_spectra", text, subject=label) for label in partial]
    return found


def _repetitions(blocks: Sequence[InputBlock]) -> list[Finding]:
    """Return findings about inputs of the same exposure, and about spectra of equal flux."""
    twice = "data that are combined twice give errors that are too small"
    exposures = [(block.exposure, block.label) for block in blocks if block.exposure is not None]
    fluxes = [
        (flux.tobytes(), block.name(number))
        for block in blocks
        for number, flux in enumerate(block.column("FLUX"))
        if block.usable[number].any()
    ]
    found = [
        Finding("repeated", f"has the same flux as {first}: {twice}", subject=name)
        for name, first in _repeated(fluxes)
    ]
    repeated = _repeated(exposures)
    if repeated:
        label, first = repeated[0]
        others = "" if len(repeated) == 1 else f" (and {len(repeated) - 1} more)"
        text = f"is of the same exposure as {first}{others}: {twice}"
        found.insert(0, Finding("repeated", text, subject=label))
    return found


def _repeated(named: Sequence[tuple[Hashable, str]]) -> list[tuple[str, str]]:
    """Return the names of repeated items, each with the name of the first equal item.

    `named` contains the key by which items are compared and the name of each item.
    """
    first: dict[Hashable, str] = {}
    return [(name, first[key]) for key, name in named if first.setdefault(key, name) != name]


def zero_errors(blocks: Sequence[InputBlock]) -> list[Finding]:
    """Return findings about spectra whose errors are all 0 because the image had no variances."""
    found = []
    for block in blocks:
        error = block.column("FLUX_ERROR")[block.usable]
        error = error[np.isfinite(error)]
        if error.size and not (error > 0).any():
            text = "has errors of 0, which are unknown: those of the combination are too small"
            found.append(Finding("no_variances", text, subject=block.label))
    return found


def mean_spectrum(block: InputBlock) -> tuple[Floats, Floats, Floats]:
    """Return the wavelengths, the mean flux over the integrations, and the variance of the mean.

    Wavelengths without a usable flux and error are omitted.
    """
    variance = block.column("FLUX_ERROR") ** 2
    used = block.usable & np.isfinite(variance) & (variance > 0)
    count = used.sum(axis=0)
    known = count > 0
    flux, variance = (
        np.where(used, column, 0.0).sum(axis=0)[known]
        for column in (block.column("FLUX"), variance)
    )
    return block.wave[known], flux / count[known], variance / count[known] ** 2


def flux_ratio(
    mean: tuple[Floats, Floats, Floats], reference: tuple[Floats, Floats, Floats]
) -> tuple[float, float] | None:
    """Return the ratio of the fluxes of two inputs at common wavelengths, and its error.

    The arguments are results of `mean_spectrum`. Both mean fluxes have the same weights: the
    inverse of the sum of both variances, after this sum is averaged over blocks of `BLOCK` values.
    Returns None if the mean flux of the reference is not significant, or fewer than `BLOCK`
    wavelengths are common.
    """
    wave, flux, variance = mean
    other_wave, other_flux, other_variance = reference
    if wave.size == 0 or other_wave.size == 0:
        return None
    common = (wave >= other_wave[0]) & (wave <= other_wave[-1])
    wave, flux, variance = wave[common], flux[common], variance[common]
    other_flux = np.interp(wave, other_wave, other_flux)
    other_variance = np.interp(wave, other_wave, other_variance)
    if wave.size < BLOCK:
        return None
    starts = np.arange(0, wave.size, BLOCK)
    number = np.diff(starts, append=wave.size)
    weight = np.repeat(number / np.add.reduceat(variance + other_variance, starts), number)
    own, other = float(weight @ flux), float(weight @ other_flux)
    error, other_error = (float(np.sqrt(weight**2 @ v)) for v in (variance, other_variance))
    if other < SIGNIFICANT * other_error:
        return None
    ratio = own / other
    return ratio, float(np.hypot(error, ratio * other_error)) / other


def contradictions(blocks: Sequence[InputBlock], allow_opposite: bool) -> list[Finding]:
    """Return findings about inputs whose fluxes contradict each other.

    Raises
    ------
    LRSError
        If two mean fluxes have opposite signs, each by more than 5 times its error, and
        `allow_opposite` is False.
    """
    found = []
    means = []
    for block in blocks:
        flux = np.where(block.usable, block.column("FLUX"), np.nan)
        mean = mean_flux({"FLUX": flux, "FLUX_ERROR": block.column("FLUX_ERROR")})
        means.append(0.0 if mean is None else mean[0] / mean[1])
    low, high = int(np.argmin(means)), int(np.argmax(means))
    if means[low] < -_OPPOSITE and means[high] > _OPPOSITE:
        text = (
            f"the mean flux is negative by {-means[low]:.3g} times its error, that of "
            f"{blocks[high].label} is positive by {means[high]:.3g} times its error: they would "
            "cancel each other"
        )
        if not allow_opposite:
            hint = Hint.to("{} combines them nevertheless", allow_opposite=True)
            raise LRSError(text, subject=blocks[low].label, hint=hint)
        found.append(
            Finding(
                "opposite_signs",
                text,
                {"lowest": means[low], "highest": means[high]},
                subject=blocks[low].label,
            )
        )
    return found + _different_fluxes(blocks)


def _flux_ratios(blocks: Sequence[InputBlock]) -> dict[tuple[int, int], tuple[float, float]]:
    """Return the flux ratio of each pair of inputs, and its error, where `flux_ratio` gives one.

    The keys are the indices of the two inputs.
    """
    means = [mean_spectrum(block) for block in blocks]
    pairs = permutations(range(len(blocks)), 2)
    found = {(i, j): flux_ratio(means[i], means[j]) for i, j in pairs}
    return {pair: ratio for pair, ratio in found.items() if ratio is not None}


def _different_fluxes(blocks: Sequence[InputBlock]) -> list[Finding]:
    """Return a finding about each input whose flux differs from that of other inputs.

    Every two inputs are compared. Those that contradict the fewest others are accepted first, and
    an input is reported if it contradicts an accepted one.
    """
    different = {
        pair: (ratio, error)
        for pair, (ratio, error) in _flux_ratios(blocks).items()
        if abs(ratio - 1.0) > max(_SAME_FLUX, SIGNIFICANT * error)
    }
    contradicted = Counter(i for i, _ in different)
    accepted: list[int] = []
    found = {}
    for i in sorted(range(len(blocks)), key=lambda i: contradicted[i]):
        other = next((j for j in accepted if (i, j) in different), None)
        if other is None:
            accepted.append(i)
            continue
        ratio, error = different[i, other]
        hint = Hint.to("{} scales them to their mean", scale=True)
        found[i] = Finding(
            "different_flux",
            f"the flux is {ratio:.3f} +- {error:.3f} times that of {blocks[other].label}",
            {"ratio": ratio, "error": error},
            hint if _scalable(ratio, error) else None,
            blocks[i].label,
        )
    return [found[i] for i in sorted(found)]


def _scalable(ratio: float, error: float) -> bool:
    """Return whether an input with a ratio from `flux_ratio` can be scaled to the reference."""
    return ratio > SIGNIFICANT * error


def scaled(blocks: Sequence[InputBlock]) -> tuple[list[InputBlock], list[Finding]]:
    """Return the inputs, scaled to the mean of their fluxes, and findings with the factors.

    All inputs are compared with one of them, the reference, which is the one that is comparable
    (see `flux_ratio`) with most others. Inputs without a usable flux are returned unchanged.

    Raises
    ------
    LRSError
        If an input and the reference have no significant flux at common wavelengths.
    """
    ratios = _flux_ratios(blocks)
    ratios = {pair: found for pair, found in ratios.items() if _scalable(*found)}
    filled = [i for i, block in enumerate(blocks) if block.usable.any()]
    known = Counter(j for _, j in ratios)
    reference = max(filled, key=lambda j: known[j], default=0)
    relative = {}
    for i in filled:
        if i != reference and (i, reference) not in ratios:
            raise LRSError(
                f"cannot be scaled to {blocks[reference].label}: expected significant fluxes at "
                "common wavelengths",
                subject=blocks[i].label,
            )
        relative[i] = 1.0 if i == reference else ratios[i, reference][0]
    made, found = list(blocks), []
    for i, ratio in relative.items():
        factor = sum(relative.values()) / len(relative) / ratio
        made[i] = blocks[i].scaled(factor)
        text = f"the flux was multiplied by {factor:.4f}"
        found.append(Finding("scaled", text, {"factor": factor}, subject=blocks[i].label))
    return made, found
