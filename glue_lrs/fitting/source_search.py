"""The model of what a slit shows, and its fit: what `glue_lrs.measurement.measurement` measures with.

The image is described by one model,

    data(r, c) = sum_s F_s(r) P(c - t_s(r)) + b0(r) + b1(r) c,

with the fluxes F of each source and the background free in every row, the traces t known up to a
shift (the curve comes from the WCS) and, where the data ask for it, a low polynomial, and P a
profile that is integrated over the pixels: a core whose width is a smooth function of the
wavelength, and wings in the distance over the wavelength. It is fitted by weighted least squares
with the linear parameters eliminated row by row; what remains is the Fisher matrix of the shifts
and widths, whose inverse gives their errors. The weights are those of a smooth model of the
variances: the variances of a product are estimated from its own noisy data, and weights made of
those would follow the noise.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.errors import SourceError
from glue_lrs.fitting.engine import (
    FOUND,
    LOOSE,
    TIGHT,
    SlitFit,
    SmoothParameters,
    correlation,
    refine_parameters,
    settle_parameters,
    shape_prior,
    typical_width,
)
from glue_lrs.fitting.least_squares import invert_ridge
from glue_lrs.instrument import FWHM
from glue_lrs.profiles.diffraction import WIDTH_KNOTS, core_integral, profile_fwhm

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.fitting.cutout import SlitCutout
    from glue_lrs.fitting.engine import LinearFit, SourceModel

#: A companion nearer than so many FWHM has to beat a single source of free width...
NEAR = 3.0

#: ...by this much chi-square, and to be this bright beside it.
_COMPANION, _COMPANION_FLUX = 40.0, 0.02

#: What is further than twice the width away may be fainter.
_FAR_FLUX = 0.005

#: FWHM over the expected one from which a source may be two.
_BROAD = 1.15

#: A bend or tilt of the trace beyond the WCS's is believed above this chi-square.
_BEND = 16.0

#: The same for a blend, whose parts' colours look like a tilt.
_BEND_BLENDED = 100.0


# --- looking for sources -----------------------------------------------------------------------


def search_residuals(work: SourceModel, max_sources: int) -> SlitFit:
    """Add the strongest source that is left, again and again; then take back what is none."""
    slit = work.slit
    empty = SmoothParameters(np.zeros(0), np.zeros(0), np.zeros(WIDTH_KNOTS), shape_prior()[0])
    fit = SlitFit(empty, np.zeros((0, 0)), work.solve(empty.shape(slit)), 0.0)
    work.reweigh(fit.solved)
    while fit.parameters.shift.size < max_sources:
        found = _strongest(work, fit)
        if found is None:
            break
        # What is left around a blend that is taken for one source looks like more sources.
        near = np.abs(fit.parameters.shift - found) < 2.5 * typical_width(slit)
        if near.any():
            split = _split_broad(work, fit, max_sources)
            if split is not fit:
                fit = split
                continue
        starts = _starts(fit.parameters, found, typical_width(slit), max_sources)
        trials = [
            refine_parameters(work, start, TIGHT, steps=6, close=0.1, search=True)
            for start in starts
        ]
        best = min(trials, key=_cost)
        fit = settle_parameters(work, best, TIGHT, rounds=2, search=True)
    if fit.parameters.shift.size == 0:
        raise SourceError(
            f"{slit.label}: no source above {FOUND:g} standard deviations in columns "
            f"{slit.columns[0]} to {slit.columns[-1]}"
        )
    fit = settle_parameters(work, fit, LOOSE)
    fit = _split_broad(work, fit, max_sources)
    fit = _take_back(work, fit)
    return _bend(work, fit)


def _cost(fit: SlitFit) -> float:
    """Chi-square, to compare fits of different numbers of sources: each has a flux in every row."""
    return fit.objective - fit.solved.freedom


def _starts(
    parameters: SmoothParameters, column: float, width: float, max_sources: int
) -> list[SmoothParameters]:
    """Where to begin with one source more: beside the others, or sharing a place with the nearest.

    A blend looks like one source in the middle at first.
    """
    shift = parameters.shift
    starts = [np.append(shift, column)]
    near = np.abs(shift - column)
    if near.size and near.min() < 2.0 * width:
        nearest = int(near.argmin())
        others = np.delete(shift, nearest)
        starts += [
            np.concatenate([others, shift[nearest] + half * np.array([-1.0, 1.0])])
            for half in (0.4 * width, 0.75 * width)
        ]
    else:
        # A nod repeats what is there: where there is a blend, there may be another.
        apart = np.diff(np.sort(shift))
        starts += [
            np.append(shift, [column - part * gap, column + (1.0 - part) * gap])
            for gap in apart[apart < NEAR * width][:1]
            for part in (0.0, 0.5, 1.0)
        ]
    return [
        SmoothParameters(start, parameters.bend, np.zeros(WIDTH_KNOTS), parameters.terms)
        for start in starts
        if start.size <= max_sources
    ]


def _strongest(work: SourceModel, fit: SlitFit) -> float | None:
    """Column, at the reference row, of the strongest source that the fit leaves out, if any."""
    slit, solved, parameters = work.slit, fit.solved, fit.parameters
    weight = work.good / work.variance
    residual = weight * (slit.data - solved.model)
    heavy = np.swapaxes(solved.basis * weight[..., np.newaxis], 1, 2)
    spread = slit.curve
    grid = np.arange(
        math.ceil(slit.columns[0] - spread.max()), math.floor(slit.columns[-1] - spread.min()) + 1
    )
    # The profile at all whole columns from the source; that of a place is a part of it.
    reach = np.arange(slit.columns[0] - grid[-1], slit.columns[-1] - grid[0] + 2) - 0.5
    core = np.exp(parameters.shape(slit).log_core)[:, np.newaxis]
    wide = np.diff(core_integral((reach - spread[:, np.newaxis]) / core, 0.0), axis=1)
    width = typical_width(slit)
    if parameters.shift.size:
        away = np.abs(grid[:, np.newaxis] - parameters.shift).min(axis=1)
        grid = grid[away > 0.5 * width]
    first = math.floor(reach[0] + 1.0)
    quarter = np.minimum(np.arange(slit.rows.size) * 4 // slit.rows.size, 3)
    target = solved.smooth[0] if parameters.shift.size else np.ones(slit.rows.size)
    noise = correlation(work, fit) * math.sqrt(max(solved.chi2 / solved.freedom, 1.0))
    best, where = 0.0, None
    for column in grid:
        start = int(slit.columns[0] - column) - first
        profile = wide[:, start : start + slit.columns.size]
        number = (profile * residual).sum(axis=1)
        shared = (heavy @ profile[..., np.newaxis])[..., 0]
        total = (profile**2 * weight).sum(axis=1)
        rest = np.maximum(total - np.einsum("rl,rlm,rm->r", shared, solved.inverse, shared), 0.0)
        rest[rest < 0.02 * total] = 0.0  # what the others can stand in for tells nothing
        number = np.where(rest > 0, number, 0.0)
        scores = [_score(number, rest), _score(number * target, rest * target**2)]
        scores += [_score(number[quarter == n], rest[quarter == n]) for n in range(4)]
        score = max(map(abs, scores)) / noise
        if score <= max(best, FOUND):
            continue
        if parameters.shift.size and not _bright_enough(
            solved, parameters, column, number, rest, width
        ):
            continue
        best, where = score, float(column)
    return where


def _score(number: Array, information: Array) -> float:
    total = float(information.sum())
    return float(number.sum()) / math.sqrt(total) if total > 0 else 0.0


def _bright_enough(
    solved: LinearFit,
    parameters: SmoothParameters,
    column: float,
    number: Array,
    information: Array,
    width: float,
) -> bool:
    """Whether it is no misfit of a neighbour's profile: 2% of its flux near, 0.5% further away."""
    flux = abs(float(number.sum())) / max(float(information.sum()), 1e-300)
    for s, place in enumerate(parameters.shift):
        distance = abs(place - column)
        if distance > 5.0 * width:
            continue
        neighbour = abs(
            float(np.average(solved.smooth[s], weights=np.maximum(information, 1e-300)))
        )
        least = _COMPANION_FLUX if distance < 2.0 * width else _FAR_FLUX
        if flux < least * neighbour:
            return False
    return True


def _take_back(work: SourceModel, fit: SlitFit) -> SlitFit:
    """Join sources that a single one of free width describes as well."""
    width = typical_width(work.slit)
    kept: set[tuple[float, float]] = set()
    while fit.parameters.shift.size > 1:
        shift = fit.parameters.shift
        strength = fit.solved.strength
        pairs = [
            (strength[i], i, j)
            for i in range(shift.size)
            for j in range(shift.size)
            if i != j
            and strength[i] <= strength[j]
            and abs(shift[i] - shift[j]) < NEAR * width
            and (round(shift[i], 2), round(shift[j], 2)) not in kept
        ]
        if not pairs:
            return fit
        _, weak, strong = min(pairs)
        fewer = np.delete(shift, weak)
        share = strength[[weak, strong]] / strength[[weak, strong]].sum()
        middle = fewer.copy()
        middle[strong - (weak < strong)] = float(share @ shift[[weak, strong]])
        singles = [
            refine_parameters(work, _other_sources(fit.parameters, start), LOOSE, close=1.0)
            for start in (fewer, middle)
        ]
        single = min(singles, key=lambda trial: trial.objective)
        if _is_pair(work, fit, single, weak, strong):
            kept.add((round(shift[weak], 2), round(shift[strong], 2)))
        else:
            fit = settle_parameters(work, single, LOOSE)
    return fit


def _other_sources(parameters: SmoothParameters, shift: Array) -> SmoothParameters:
    """The same parameters for other sources, the width as expected."""
    return SmoothParameters(shift, parameters.bend, np.zeros(WIDTH_KNOTS), parameters.terms)


def _is_pair(work: SourceModel, fit: SlitFit, single: SlitFit, weak: int, strong: int) -> bool:
    """Whether two sources describe the data better than one, by more than their freedom."""
    slit, solved = work.slit, fit.solved
    shift = fit.parameters.shift
    if abs(shift[weak] - shift[strong]) < 0.35 * typical_width(slit):
        return False
    pair_chi2 = _tied_chi2(work, fit, [(weak, strong)])
    if (single.solved.chi2 - pair_chi2) / _noise_power(work, fit) < _COMPANION:
        return False
    misfit = single.solved.chi2 - single.solved.freedom
    left = pair_chi2 - single.solved.freedom
    if left < 5.0 * math.sqrt(2.0 * single.solved.freedom):
        return True  # nothing is left to explain
    # Of a profile that is not quite the model's a second source explains a part only.
    apart = abs(shift[weak] - shift[strong])
    least = _COMPANION_FLUX if apart < 2.0 * typical_width(slit) else _FAR_FLUX
    bright = solved.strength[weak] > least * solved.strength[strong]
    return bool(bright and left < 0.6 * misfit)


def _noise_power(work: SourceModel, fit: SlitFit) -> float:
    """What chi-square is to be divided by before differences of it mean something."""
    return correlation(work, fit) ** 2 * max(fit.solved.chi2 / fit.solved.freedom, 1.0)


def _tied_chi2(work: SourceModel, fit: SlitFit, pairs: list[tuple[int, int]]) -> float:
    """Chi-square with the flux ratio of each pair held to one number in each quarter of the rows.

    Two sources have a flux more in every row than one: this makes the freedom of both comparable.
    """
    slit, solved = work.slit, fit.solved
    quarter = np.minimum(np.arange(slit.rows.size) * 4 // slit.rows.size, 3)
    weight = work.good / work.variance
    weak = [pair[0] for pair in pairs]
    kept = np.setdiff1d(np.arange(solved.basis.shape[2]), weak)
    ratio, error = np.zeros((len(pairs), 4)), np.ones((len(pairs), 4))
    for number, (one, other) in enumerate(pairs):
        variance = np.maximum(solved.flux_variance[one], 1e-300)
        template = solved.smooth[other]
        power = np.bincount(quarter, template**2 / variance, 4)
        cross = np.bincount(quarter, template * solved.flux[one] / variance, 4)
        ratio[number] = cross / np.maximum(power, 1e-300)
        error[number] = 1.0 / np.sqrt(np.maximum(power, 1e-300))

    def chi2(values: Array) -> Array:
        basis = solved.basis.copy()
        for (one, other), held in zip(pairs, values, strict=True):
            basis[..., other] += held[quarter][:, np.newaxis] * solved.basis[..., one]
        basis = basis[..., kept]
        heavy = np.swapaxes(basis * weight[..., np.newaxis], 1, 2)
        linear = invert_ridge(heavy @ basis) @ (heavy @ slit.data[..., np.newaxis])
        residual = slit.data - (basis @ linear)[..., 0]
        return np.asarray(np.bincount(quarter, (weight * residual**2).sum(axis=1), 4), dtype=float)

    for _ in range(2):
        for number in range(len(pairs)):
            step = np.zeros_like(error)
            step[number] = error[number]
            low, middle, high = chi2(ratio - step), chi2(ratio), chi2(ratio + step)
            bend = high - 2.0 * middle + low
            move = np.where(bend > 0, 0.5 * (low - high) / np.where(bend > 0, bend, 1.0), 0.0)
            ratio = ratio + step * np.clip(move, -3.0, 3.0)
    return float(chi2(ratio).sum())


def _split_broad(work: SourceModel, fit: SlitFit, max_sources: int) -> SlitFit:
    """Describe sources that are too wide by two each, if that is better than one broader profile.

    A blend of two like sources is symmetric, and a profile that is free enough looks like it. Here
    both ways are given the same profile, up to a width.
    """
    slit, parameters = work.slit, fit.parameters
    if parameters.shift.size == 0 or _broadening(slit, parameters) < _BROAD:
        return fit
    strength = fit.solved.strength
    bright = np.flatnonzero(strength > 0.05 * strength.max())
    if bright.size + strength.size > max_sources:
        return fit
    faint = np.setdiff1d(np.arange(strength.size), bright)
    count = bright.size
    trials = []
    for half in np.array([0.3, 0.5, 0.75]) * typical_width(slit):
        shift = np.concatenate(
            [
                parameters.shift[bright] - half,
                parameters.shift[bright] + half,
                parameters.shift[faint],
            ]
        )
        start = SmoothParameters(shift, parameters.bend, np.zeros(WIDTH_KNOTS), shape_prior()[0])
        trials.append(refine_parameters(work, start, TIGHT, steps=15, close=1.0))
    pair = settle_parameters(work, min(trials, key=lambda trial: trial.objective), LOOSE)
    if not 0.75 < _broadening(slit, pair.parameters) < _BROAD:
        return fit
    held = replace(parameters, terms=pair.parameters.terms)
    single = refine_parameters(work, held, LOOSE, hold=True)
    gain = single.solved.chi2 - _tied_chi2(work, pair, [(n, count + n) for n in range(count)])
    return pair if gain / _noise_power(work, pair) > _COMPANION else fit


def _broadening(slit: SlitCutout, parameters: SmoothParameters) -> float:
    """FWHM over the expected one, in the middle of the rows that hold the light."""
    inner = np.flatnonzero((slit.wave > 5.0) & (slit.wave < 12.0))
    rows = (inner if inner.size else np.arange(slit.wave.size))[:: max(inner.size // 20, 1)]
    log_core, wave = parameters.shape(slit).log_core[rows], slit.wave[rows]
    width, _ = profile_fwhm(log_core, parameters.terms, wave, slit.scale, slopes_too=False)
    return float(np.median(width / (slit.core[rows] * FWHM)))


def _bend(work: SourceModel, fit: SlitFit) -> SlitFit:
    """Let the traces depart from the WCS's curve, if the data ask for it."""
    slit = work.slit
    terms = 2 if slit.follows_wcs else 4
    terms = min(terms, max(slit.rows.size - 3, 0))
    if terms == 0:
        return fit
    parameters = fit.parameters
    start = SmoothParameters(parameters.shift, np.zeros(terms), parameters.width, parameters.terms)
    bent = settle_parameters(work, refine_parameters(work, start, LOOSE), LOOSE, rounds=2)
    where = slice(parameters.shift.size, parameters.shift.size + terms)
    found, covariance = bent.parameters.bend, bent.covariance[where, where]
    scale = correlation(work, bent) ** 2 * max(bent.solved.chi2 / bent.solved.freedom, 1.0)
    significance = float(found @ np.linalg.solve(covariance, found)) / scale
    apart = np.diff(np.sort(parameters.shift))
    blended = bool((apart < NEAR * typical_width(slit)).any())
    needed = _BEND_BLENDED if blended else _BEND + terms
    return bent if significance > needed else refine_parameters(work, parameters, LOOSE)
