"""Source search in the residuals, for `glue_lrs.measure` and for blends in optimal extraction.

The search repeatedly adds the most significant source in the residuals to the fit. Afterwards, two
neighbouring sources are merged unless they have a significantly smaller chi-square than a single
source whose width is free.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations

import numpy as np

from glue_lrs._utils.typing import Array
from glue_lrs.errors import SourceError
from glue_lrs.fitting import engine
from glue_lrs.fitting.cutout import SlitCutout
from glue_lrs.fitting.least_squares import fit_rows_ridge
from glue_lrs.fitting.source_model import SourceModel
from glue_lrs.instrument import FWHM
from glue_lrs.profiles.diffraction import WIDTH_KNOTS, core_integral, shape_in_rows, solve_fwhm

#: Detection: significance in standard deviations above which a source is added.
_FOUND = 5.0

#: Detection: minimum distance in FWHM between a new source and known sources. Closer sources are
#: found by splitting a broad source into two.
_LEAST_DISTANCE = 0.5

#: Detection: rows are ignored if the inverse variance of the flux of a new source is reduced below
#: this fraction when known sources and background are fitted simultaneously.
_LEAST_INFORMATION = 0.02

#: Detection: the columns have a pattern that is the same in all rows, as after an inexact flat
#: field, if the variance of their means exceeds this multiple of that expected from the noise.
#: For 40 columns, the ratio has a standard deviation of about 0.3 if there is no pattern.
_PATTERN = 2.0

#: Detection: fewest columns from which a pattern of the columns is estimated.
_FEWEST_COLUMNS = 8

#: Blends: distance in FWHM below which two sources are compared with a single source whose width is
#: free.
NEAR = 3.0

#: Blends: decrease of chi-square above which two sources are preferred over a single source.
_COMPANION_GAIN = 40.0

#: Blends: minimum ratio of the flux of a companion to the flux of its neighbour. Fainter companions
#: are assumed to be misfits of the neighbour's profile.
_COMPANION_FLUX, _FAR_COMPANION_FLUX, _COMPANION_REACH = (
    0.02,  # ratio for near companions
    0.005,  # ratio for far companions
    2.0,  # distance in FWHM below which a companion is near
)

#: Blends: distance in FWHM below which two sources cannot be separated.
_INSEPARABLE = 0.35

#: Blends: limits on the ratio of the FWHM to the expected FWHM.
_BROAD, _NARROW = (
    1.25,  # if the ratio is larger, a source may be a blend of two
    0.75,  # if the ratio is smaller after a source was split, the split is not plausible
)

#: Decrease of chi-square above which a polynomial is added to the WCS trace. It is larger for
#: blends because two blended sources with different spectra look like a tilted trace.
_TRACE_GAIN, _TRACE_GAIN_BLENDED = (
    16.0,  # for isolated sources
    100.0,  # for blends
)


def search_residuals(model: SourceModel, max_sources: int) -> engine.SlitFit:
    """Find sources and fit their parameters.

    Parameters
    ----------
    model : SourceModel
        Model of the image to search. Its variances and outliers are updated.
    max_sources : int
        Largest number of sources and negative traces.

    Returns
    -------
    SlitFit
        Fit of all sources that were found.

    Raises
    ------
    SourceError
        If there is no source.
    """
    slit = model.slit
    empty = engine.SmoothParameters(
        np.zeros(0), np.zeros(0), np.zeros(WIDTH_KNOTS), engine.shape_prior()[0]
    )
    fit = engine.SlitFit(empty, np.zeros((0, 0)), model.solve(empty.geometry(slit)), 0.0)
    model.reweigh(fit.linear)
    while fit.parameters.shift.size < max_sources:
        found = _strongest(model, fit)
        if found is None and fit.parameters.shift.size == 0 and model.groups.any():
            # The groups of pixels that were rejected may be emission lines of a source without a
            # continuum.
            model.good |= model.groups
            model.groups = np.zeros_like(model.groups)
            found = _strongest(model, fit)
        if found is None:
            break
        # The residuals around a blend that is fitted as one source may look like a new source.
        distance = np.abs(fit.parameters.shift - found)
        if (distance < 2.5 * engine.typical_width(slit)).any():
            split = _split_broad(model, fit, max_sources)
            if split is not fit:
                fit = split
                continue
        trials = [
            engine.refine_parameters(model, start, engine.TIGHT, steps=6, close=0.1, search=True)
            for start in _starts(fit.parameters, found, engine.typical_width(slit), max_sources)
        ]
        fit = engine.settle_parameters(
            model, min(trials, key=_cost), engine.TIGHT, rounds=2, search=True
        )
    if fit.parameters.shift.size == 0:
        raise SourceError(
            f"no source above {_FOUND:g} standard deviations in columns "
            f"{slit.columns[0]} to {slit.columns[-1]}",
            subject=slit.label,
        )
    fit = engine.settle_parameters(model, fit, engine.LOOSE)
    fit = _split_broad(model, fit, max_sources)
    fit = _merge_pairs(model, fit)
    return _fit_trace(model, fit)


# --- detection -----------------------------------------------------------------------------------


def _cost(fit: engine.SlitFit) -> float:
    """Return chi-square minus its expected value, to compare different numbers of sources."""
    return fit.objective - fit.linear.freedom


def _starts(
    parameters: engine.SmoothParameters, column: float, width: float, max_sources: int
) -> list[engine.SmoothParameters]:
    """Return several initial parameters, with an additional source or with a source split into two.

    A source is split because two blended sources may have been fitted as a single source between
    them.

    Parameters
    ----------
    parameters : SmoothParameters
        Parameters of the known sources.
    column : float
        Column of the additional source in the reference row.
    width : float
        Typical FWHM in columns.
    max_sources : int
        Largest number of sources.
    """
    shift = parameters.shift
    starts = [np.append(shift, column)]
    distance = np.abs(shift - column)
    if distance.size and distance.min() < 2.0 * width:
        nearest = int(distance.argmin())
        others = np.delete(shift, nearest)
        starts += [
            np.concatenate([others, shift[nearest] + half * np.array([-1.0, 1.0])])
            for half in (0.4 * width, 0.75 * width)
        ]
    else:
        # If the known sources include a blend, the new source may be the same blend at the other
        # nod position.
        gaps = np.diff(np.sort(shift))
        starts += [
            np.append(shift, [column - part * gap, column + (1.0 - part) * gap])
            for gap in gaps[gaps < NEAR * width][:1]
            for part in (0.0, 0.5, 1.0)
        ]
    return [_with_sources(parameters, start) for start in starts if start.size <= max_sources]


def _with_sources(parameters: engine.SmoothParameters, shift: Array) -> engine.SmoothParameters:
    """Return a copy of parameters with sources at the columns `shift` and the expected width."""
    return replace(parameters, shift=shift, width=np.zeros(WIDTH_KNOTS))


def _strongest(model: SourceModel, fit: engine.SlitFit) -> float | None:
    """Return the column of the most significant source in the residuals, or None if there is none.

    The column is the column in the reference row. The significance at each column is the largest of
    six signal-to-noise ratios. They assume a flux that is the same in all rows, a flux proportional
    to the spectrum of the first source, or a flux that is the same within a quarter of the rows.
    """
    slit, linear, parameters = model.slit, fit.linear, fit.parameters
    weight = model.weight
    residual = weight * (slit.data - linear.model)
    weighted = np.swapaxes(linear.basis * weight[..., np.newaxis], 1, 2)
    curve = slit.curve
    grid = np.arange(
        math.ceil(slit.columns[0] - curve.max()), math.floor(slit.columns[-1] - curve.min()) + 1
    )
    # The profile is evaluated once for a wide range of columns. The profile at each position is a
    # slice of it.
    reach = np.arange(slit.columns[0] - grid[-1], slit.columns[-1] - grid[0] + 2) - 0.5
    core = np.exp(parameters.geometry(slit).log_core)[:, np.newaxis]
    profiles = np.diff(core_integral((reach - curve[:, np.newaxis]) / core, 0.0), axis=1)
    width = engine.typical_width(slit)
    if parameters.shift.size:
        distance = np.abs(grid[:, np.newaxis] - parameters.shift).min(axis=1)
        grid = grid[distance > _LEAST_DISTANCE * width]
    first = math.floor(reach[0] + 1.0)
    quarter = _quarters(slit)
    target = linear.smooth[0] if parameters.shift.size else np.ones(slit.rows.size)
    noise = engine.correlation(model, fit) * math.sqrt(max(linear.chi2 / linear.freedom, 1.0))
    pattern = _pattern_variance(slit, weight, residual, noise) / noise**2
    best, where = 0.0, None
    for column in grid:
        start = int(slit.columns[0] - column) - first
        profile = profiles[:, start : start + slit.columns.size]
        number = (profile * residual).sum(axis=1)
        shared = (weighted @ profile[..., np.newaxis])[..., 0]
        total = (profile**2 * weight).sum(axis=1)
        rest = np.maximum(total - np.einsum("rl,rlm,rm->r", shared, linear.inverse, shared), 0.0)
        rest[rest < _LEAST_INFORMATION * total] = 0.0
        number = np.where(rest > 0, number, 0.0)
        pixels = np.where(rest[:, np.newaxis] > 0, profile * weight, 0.0)
        templates = [np.ones_like(target), target, *(quarter == n for n in range(4))]
        scores = [
            _score(number * one, rest * one**2, pattern * ((one @ pixels) ** 2).sum())
            for one in templates
        ]
        score = max(map(abs, scores)) / noise
        if score > max(best, _FOUND) and _bright_enough(fit, column, number, rest, width):
            best, where = score, float(column)
    return where


def _score(number: Array, information: Array, extra: float) -> float:
    """Return the signal-to-noise ratio of a flux that is the same in all rows.

    Parameters
    ----------
    number : ndarray
        Numerator of the flux estimate in each row: the sum over columns of
        weight * profile * residual, shape (row,).
    information : ndarray
        Inverse variance of the flux in each row, shape (row,).
    extra : float
        Additional variance of the sum of `number`, which the variances of the pixels lack.
    """
    total = float(information.sum())
    return float(number.sum()) / math.sqrt(total + extra) if total > 0 else 0.0


def _pattern_variance(slit: SlitCutout, weight: Array, residual: Array, noise: float) -> float:
    """Return the variance of the columns, along the trace, that is due to a pattern in all rows.

    It is computed from third differences of neighbouring columns. Sources and a gradient of the
    background are smoother and hardly contribute.

    Parameters
    ----------
    slit : SlitCutout
        Pixels that are fitted.
    weight, residual : ndarray
        Inverse variance of each pixel, and residual times inverse variance, shape (row, column).
    noise : float
        Factor by which the errors of the pixels are too small.
    """
    place = slit.columns - np.rint(slit.curve).astype(int)[:, np.newaxis]
    place = (place - place.min()).ravel()
    total, power = np.bincount(place, residual.ravel()), np.bincount(place, weight.ravel())
    known = power > 0.5 * power.max()
    if known.sum() < _FEWEST_COLUMNS:
        return 0.0
    change = np.diff(total[known] / power[known], 3)
    found = float(np.quantile(np.abs(change), 0.683)) ** 2 / 20.0  # 1 + 9 + 9 + 1
    expected = noise**2 * float(np.median(1.0 / power[known]))
    return found - expected if found > _PATTERN * expected else 0.0


def _bright_enough(
    fit: engine.SlitFit, column: float, number: Array, information: Array, width: float
) -> bool:
    """Return whether a new source is too bright to be a misfit of a neighbour's profile.

    Parameters
    ----------
    fit : SlitFit
        Fit of the known sources.
    column : float
        Column of the new source in the reference row.
    number, information : ndarray
        See `_score`.
    width : float
        Typical FWHM in columns.
    """
    flux = abs(float(number.sum())) / max(float(information.sum()), 1e-300)
    weights = np.maximum(information, 1e-300)
    for place, smooth in zip(fit.parameters.shift, fit.linear.smooth, strict=True):
        distance = abs(place - column)
        neighbour = abs(float(np.average(smooth, weights=weights)))
        if distance <= 5.0 * width and flux < _least_flux(distance, width) * neighbour:
            return False
    return True


def _least_flux(distance: float, width: float) -> float:
    """Return the minimum ratio of the flux of a companion to the flux of its neighbour.

    `distance` is the distance between the two sources, and `width` the typical FWHM, both in
    columns.
    """
    return _COMPANION_FLUX if distance < _COMPANION_REACH * width else _FAR_COMPANION_FLUX


# --- blends --------------------------------------------------------------------------------------


def _merge_pairs(model: SourceModel, fit: engine.SlitFit) -> engine.SlitFit:
    """Merge pairs of close sources unless `_is_pair` prefers them over a single source."""
    width = engine.typical_width(model.slit)
    confirmed: set[tuple[float, float]] = set()
    while fit.parameters.shift.size > 1:
        shift = fit.parameters.shift
        strength = fit.linear.strength
        pairs = [
            (strength[i], i, j)
            for i, j in permutations(range(shift.size), 2)
            if strength[i] <= strength[j]
            and abs(shift[i] - shift[j]) < NEAR * width
            and (round(shift[i], 2), round(shift[j], 2)) not in confirmed
        ]
        if not pairs:
            return fit
        _, weak, strong = min(pairs)
        fewer = np.delete(shift, weak)
        share = strength[[weak, strong]] / strength[[weak, strong]].sum()
        middle = fewer.copy()
        middle[strong - (weak < strong)] = float(share @ shift[[weak, strong]])
        singles = [
            engine.refine_parameters(
                model, _with_sources(fit.parameters, start), engine.LOOSE, close=1.0
            )
            for start in (fewer, middle)
        ]
        single = min(singles, key=lambda trial: trial.objective)
        if _is_pair(model, fit, single, weak, strong):
            confirmed.add((round(shift[weak], 2), round(shift[strong], 2)))
        else:
            fit = engine.settle_parameters(model, single, engine.LOOSE)
    return fit


def _is_pair(
    model: SourceModel, fit: engine.SlitFit, single: engine.SlitFit, weak: int, strong: int
) -> bool:
    """Return whether two sources are significantly better than a single source of free width.

    The comparison takes into account that two sources have more free parameters.

    Parameters
    ----------
    model : SourceModel
        Model of the image.
    fit, single : SlitFit
        Fit with both sources, and fit with a single source instead.
    weak, strong : int
        Index of the fainter source and index of the brighter source in `fit`.
    """
    slit, linear = model.slit, fit.linear
    shift, width = fit.parameters.shift, engine.typical_width(slit)
    distance = abs(shift[weak] - shift[strong])
    if distance < _INSEPARABLE * width:
        return False
    pair_chi2 = _tied_chi2(model, fit, [(weak, strong)])
    if (single.linear.chi2 - pair_chi2) / _noise_power(model, fit) < _COMPANION_GAIN:
        return False
    freedom = single.linear.freedom
    misfit, remaining = single.linear.chi2 - freedom, pair_chi2 - freedom
    if remaining < 5.0 * math.sqrt(2.0 * freedom):
        return True  # the fit with two sources agrees with the noise
    # The remaining misfit shows that the model profile differs from the true profile. Because a
    # second source may reduce such a misfit, two sources are accepted only if they remove a
    # large part of it.
    bright = linear.strength[weak] > _least_flux(distance, width) * linear.strength[strong]
    return bool(bright and remaining < 0.6 * misfit)


def _noise_power(model: SourceModel, fit: engine.SlitFit) -> float:
    """Return the factor by which correlated noise and misfit increase chi-square differences."""
    return engine.correlation(model, fit) ** 2 * max(fit.linear.chi2 / fit.linear.freedom, 1.0)


def _quarters(slit: SlitCutout) -> Array:
    """Return the index, from 0 to 3, of the quarter of all rows to which each row belongs."""
    return np.minimum(np.arange(slit.rows.size) * 4 // slit.rows.size, 3)


def _tied_chi2(model: SourceModel, fit: engine.SlitFit, pairs: list[tuple[int, int]]) -> float:
    """Return chi-square for pairs of sources whose flux ratio is constant in each quarter of rows.

    If both fluxes of a pair were free in every row, the pair would have many more free parameters
    than a single source. With a constant flux ratio, chi-square can be compared with chi-square for
    a single source.

    Parameters
    ----------
    model : SourceModel
        Model of the image.
    fit : SlitFit
        Fit with all sources.
    pairs : list of (int, int)
        Indices of the two sources in each pair.
    """
    slit, linear = model.slit, fit.linear
    quarter, weight = _quarters(slit), model.weight
    remaining = np.setdiff1d(np.arange(linear.basis.shape[2]), [pair[0] for pair in pairs])
    ratio, error = np.zeros((len(pairs), 4)), np.ones((len(pairs), 4))
    for number, (one, other) in enumerate(pairs):
        variance = np.maximum(linear.flux_variance[one], 1e-300)
        template = linear.smooth[other]
        with np.errstate(over="ignore"):  # where the variance is 0
            power = np.bincount(quarter, template**2 / variance, 4)
            cross = np.bincount(quarter, template * linear.flux[one] / variance, 4)
        ratio[number] = cross / np.maximum(power, 1e-300)
        error[number] = 1.0 / np.sqrt(np.maximum(power, 1e-300))

    def chi2(ratios: Array) -> Array:
        basis = linear.basis.copy()
        for (one, other), values in zip(pairs, ratios, strict=True):
            basis[..., other] += values[quarter][:, np.newaxis] * linear.basis[..., one]
        basis = basis[..., remaining]
        residual = slit.data - fit_rows_ridge(basis, weight, slit.data)[2]
        return np.asarray(np.bincount(quarter, (weight * residual**2).sum(axis=1), 4), dtype=float)

    # Each flux ratio is moved to the vertex of the parabola through three values of chi-square.
    for _ in range(2):
        for number in range(len(pairs)):
            step = np.zeros_like(error)
            step[number] = error[number]
            low, middle, high = chi2(ratio - step), chi2(ratio), chi2(ratio + step)
            curvature = high - 2.0 * middle + low
            convex = curvature > 0
            vertex = np.where(convex, 0.5 * (low - high) / np.where(convex, curvature, 1.0), 0.0)
            ratio = ratio + step * np.clip(vertex, -3.0, 3.0)
    return float(chi2(ratio).sum())


def _split_broad(model: SourceModel, fit: engine.SlitFit, max_sources: int) -> engine.SlitFit:
    """Split each bright source into two if the sources are broad and pairs are a better fit.

    A blend of two equal sources is symmetric and may be fitted well by one source with a free
    profile shape. In the comparison, the single sources must therefore have the same profile shape
    as the pairs.

    Parameters
    ----------
    model : SourceModel
        Model of the image.
    fit : SlitFit
        Fit with all sources found so far. It is returned if the sources are not split.
    max_sources : int
        Largest number of sources.
    """
    slit, parameters = model.slit, fit.parameters
    if parameters.shift.size == 0 or _broadening(slit, parameters) < _BROAD:
        return fit
    strength = fit.linear.strength
    bright = np.flatnonzero(strength > 0.05 * strength.max())
    if bright.size + strength.size > max_sources:
        return fit
    faint = np.setdiff1d(np.arange(strength.size), bright)
    count = bright.size
    trials = []
    for half in np.array([0.3, 0.5, 0.75]) * engine.typical_width(slit):
        column = parameters.shift
        shift = np.concatenate([column[bright] - half, column[bright] + half, column[faint]])
        start = replace(_with_sources(parameters, shift), terms=engine.shape_prior()[0])
        trials.append(engine.refine_parameters(model, start, engine.TIGHT, steps=15, close=1.0))
    pair = engine.settle_parameters(
        model, min(trials, key=lambda trial: trial.objective), engine.LOOSE
    )
    if not _NARROW < _broadening(slit, pair.parameters) < _BROAD:
        return fit
    same_shape = replace(parameters, terms=pair.parameters.terms)
    single = engine.refine_parameters(model, same_shape, engine.LOOSE, fix_shape=True)
    gain = single.linear.chi2 - _tied_chi2(model, pair, [(n, count + n) for n in range(count)])
    return pair if gain / _noise_power(model, pair) > _COMPANION_GAIN else fit


def _broadening(slit: SlitCutout, parameters: engine.SmoothParameters) -> float:
    """Return the median ratio of the FWHM to the expected FWHM between 5 and 12 micron.

    Other wavelengths contain little flux. They are used only if the range contains no row.
    """
    inner = np.flatnonzero((slit.wave > 5.0) & (slit.wave < 12.0))
    rows = (inner if inner.size else np.arange(slit.wave.size))[:: max(inner.size // 20, 1)]
    log_core, wave = parameters.geometry(slit).log_core[rows], slit.wave[rows]
    width = solve_fwhm(shape_in_rows(log_core, parameters.terms), wave, slit.scale)
    return float(np.median(width / (slit.core[rows] * FWHM)))


# --- trace ---------------------------------------------------------------------------------------


def _fit_trace(model: SourceModel, fit: engine.SlitFit) -> engine.SlitFit:
    """Add a polynomial in the row number to all traces if it is significant."""
    slit = model.slit
    terms = 2 if slit.follows_wcs else 4
    terms = min(terms, max(slit.rows.size - 3, 0))
    if terms == 0:
        return fit
    parameters = fit.parameters
    start = replace(parameters, bend=np.zeros(terms))
    bent = engine.settle_parameters(
        model, engine.refine_parameters(model, start, engine.LOOSE), engine.LOOSE, rounds=2
    )
    polynomial = slice(parameters.shift.size, parameters.shift.size + terms)
    found, covariance = bent.parameters.bend, bent.covariance[polynomial, polynomial]
    gain = float(found @ np.linalg.solve(covariance, found)) / _noise_power(model, bent)
    gaps = np.diff(np.sort(parameters.shift))
    blended = bool((gaps < NEAR * engine.typical_width(slit)).any())
    needed = _TRACE_GAIN_BLENDED if blended else _TRACE_GAIN + terms
    return bent if gain > needed else engine.refine_parameters(model, parameters, engine.LOOSE)
