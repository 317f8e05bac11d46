"""Outlier rejection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glue_lrs.fitting.least_squares import solve_rows

if TYPE_CHECKING:
    from glue_lrs.fitting.cutout import PixelPlanes

__all__ = ["NO_PIXELS", "clean", "reject_outliers", "reject_rows"]


def clean(pixels: PixelPlanes, rows: int = 7) -> PixelPlanes:
    """Leave out pixels that stand out from the median of their neighbours along the dispersion.

    Meant for learning only: it may leave out narrow emission lines as well.
    """
    half = rows // 2
    padded = np.full((pixels.data.shape[0] + 2 * half, pixels.data.shape[1]), np.nan)
    padded[half:-half] = np.where(pixels.good, pixels.data, np.nan)
    stacked = np.sort(np.stack([padded[i : i + pixels.data.shape[0]] for i in range(rows)]), axis=0)
    count = rows - np.isnan(stacked).sum(axis=0)
    at = np.maximum(count - 1, 0)[np.newaxis] // 2
    middle = np.take_along_axis(stacked, at, axis=0)[0]
    middle[count == 0] = 0.0
    limit = 8.0 * np.sqrt(pixels.variance) + 0.5 * np.abs(middle)
    # Neighbours of a pixel that stands out must not count its own variance, which may be as wild.
    odd = pixels.good & (np.abs(pixels.data - middle) > limit)
    good = pixels.good & ~odd
    return replace(pixels, good=good, data=np.where(good, pixels.data, 0.0))


#: Times that the worst pixel of a row may be left out.
_ROUNDS = 12

#: Row and column of no pixel.
NO_PIXELS = (np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp))


def reject_rows(
    rows: NDArray[np.intp],
    data: NDArray[np.float64],
    weight: NDArray[np.float64],
    basis: list[NDArray[np.float64]],
    variance: NDArray[np.float64],
    doubt: NDArray[np.float64],
    threshold: float,
    coefficients: NDArray[np.float64],
    inverse: NDArray[np.float64],
    sources: int,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Leave out pixels of some rows that stand out, and fit these again: row and column of them.

    `weight`, `coefficients` and `inverse` are changed.
    """
    if rows.size == 0:
        return NO_PIXELS

    def solve(some: NDArray[np.intp], start: NDArray[np.float64]) -> _RowSolution:
        sub = [field[some] for field in basis]
        return _fit_rows_rejecting(data[some], start, sub, variance[some], doubt[some], threshold)

    def unlike(some: NDArray[np.intp], follow: bool) -> NDArray[np.bool_]:
        half = min(4, (len(data) - 1) // 2)
        middle = np.clip(some, half, len(data) - 1 - half)  # at the ends: as many others
        typical = np.median(coefficients[middle[:, None] + np.arange(-half, half + 1)], axis=1)
        fields = [typical[:, i, np.newaxis] * field[some] for i, field in enumerate(basis)]
        off, model = data[some] - sum(fields[sources:]), sum(fields[:sources])
        good = weight[some] > 0
        if follow:
            core = good & (np.abs(model) > 0.3 * np.abs(model).max(axis=1, keepdims=True))
            share = np.where(core, off / np.where(core, model, 1.0), np.nan)
            known = core.any(axis=1)
            off[known] -= np.nanmedian(share[known], axis=1)[:, np.newaxis] * model[known]
        else:
            off -= model
        # No matter what the profile may be wrong by: it is a guess that must leave out less.
        limit = threshold**2 * (variance[some] + np.minimum(doubt[some], 4.0 * variance[some]))
        return np.asarray(good & (off**2 > limit))

    solved = solve(rows, weight[rows])
    coefficients[rows], inverse[rows] = solved.coefficients, solved.inverse
    gone = np.zeros((rows.size, data.shape[1]), dtype=bool)
    gone[solved.rejected] = True
    # Two neighbours that are hit look like a source: what is left out then are the good pixels,
    # which have too little light. Rows that lose such a pixel, or several, are tried again without
    # what is unlike the rows around them, of which they have the brightness that most of their core
    # has, or the same. What leaves out least is right.
    dim = _lost_dim(gone, data[rows], [field[rows] for field in basis], coefficients[rows])
    todo = np.flatnonzero(dim | (gone.sum(axis=1) > 1))
    again = rows[todo]
    for follow in (True, False) if todo.size else ():
        odd = unlike(again, follow)
        other = solve(again, np.where(odd, 0.0, weight[again]))
        odd[other.rejected] = True
        more = odd.sum(axis=1) - gone[todo].sum(axis=1)
        still = _lost_dim(odd, data[again], [field[again] for field in basis], other.coefficients)
        better = (more < 0) | ((more <= 1) & dim[todo] & ~still)
        gone[todo[better]] = odd[better]
        coefficients[again[better]] = other.coefficients[better]
        inverse[again[better]] = other.inverse[better]
        dim[todo[better]] = still[better]
    where, column = np.nonzero(gone)
    found = (rows[where], column)
    weight[found] = 0.0
    return found


def _lost_dim(
    gone: NDArray[np.bool_],
    data: NDArray[np.float64],
    basis: list[NDArray[np.float64]],
    coefficients: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Whether a row lost a pixel that has less light than its fit: cosmic rays only add some."""
    model = sum(coefficients[:, i, np.newaxis] * field for i, field in enumerate(basis))
    return np.any(gone & (data < model), axis=1)


def reject_outliers(
    pixels: PixelPlanes,
    variance: NDArray[np.float64],
    doubt: NDArray[np.float64],
    basis: list[NDArray[np.float64]],
    threshold: float | None,
    sources: int,
) -> tuple[PixelPlanes, NDArray[np.float64]]:
    """A mean without pixels that stand out, and what its rows are fitted with, (row, term)."""
    weight = pixels.good / variance
    coefficients, inverse = solve_rows(pixels.data, weight, basis)
    if threshold is None:
        return pixels, coefficients
    solved = _Rows(pixels.data, weight, basis, variance, doubt, coefficients, inverse)
    rows = np.flatnonzero(solved.excess()[0].max(axis=1) > threshold**2)
    reject_rows(
        rows, pixels.data, weight, basis, variance, doubt, threshold, coefficients, inverse, sources
    )
    return replace(pixels, good=weight > 0), coefficients


@dataclass(frozen=True, eq=False)
class _RowSolution:
    """Fits of all rows of an integration."""

    coefficients: NDArray[np.float64]
    inverse: NDArray[np.float64]
    rejected: tuple[NDArray[np.intp], NDArray[np.intp]]


def _fit_rows_rejecting(
    data: NDArray[np.float64],
    weight: NDArray[np.float64],
    basis: list[NDArray[np.float64]],
    variance: NDArray[np.float64],
    doubt: NDArray[np.float64],
    threshold: float,
) -> _RowSolution:
    """Fit each row; leave out the worst pixel of rows that have one, and fit these again.

    `weight` is changed: it becomes 0 at pixels that are left out.
    """
    coefficients, inverse = solve_rows(data, weight, basis)
    rows = np.arange(data.shape[0])
    found: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    part = _Rows(data, weight, basis, variance, doubt, coefficients, inverse)
    for _ in range(_ROUNDS):
        excess, studentised = part.excess()
        worst = np.where(excess > threshold**2, studentised, 0.0).argmax(axis=1)
        bad = excess[np.arange(worst.size), worst] > threshold**2
        if not bad.any():
            break
        rows, worst = rows[bad], worst[bad]
        found.append((rows, worst))
        weight[rows, worst] = 0.0
        sub = [field[rows] for field in basis]
        again, inverted = solve_rows(data[rows], weight[rows], sub)
        coefficients[rows], inverse[rows] = again, inverted
        part = _Rows(data[rows], weight[rows], sub, variance[rows], doubt[rows], again, inverted)
    if not found:
        return _RowSolution(coefficients, inverse, NO_PIXELS)
    where = (np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found]))
    return _RowSolution(coefficients, inverse, where)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Some rows and their fits."""

    data: NDArray[np.float64]
    weight: NDArray[np.float64]
    basis: list[NDArray[np.float64]]
    variance: NDArray[np.float64]
    doubt: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    inverse: NDArray[np.float64]

    def excess(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Squared residuals over what they are expected to be; 0 where a pixel does not count.

        Also without the doubt of the model: of pixels that disagree, the one that all others speak
        against has the largest.
        """
        residual = self.data.copy()
        for i, field in enumerate(self.basis):
            residual -= self.coefficients[:, i, np.newaxis] * field
        # A pixel pulls the fit towards itself: its residual is smaller by its leverage.
        pull = self.inverse[:, 0, 0, np.newaxis] * self.basis[0] ** 2
        pull *= self.weight
        np.minimum(pull, 0.9, out=pull)
        expected = self.variance * (1.0 - pull)
        residual *= residual
        residual *= self.weight > 0
        return residual / (expected + self.doubt), residual / expected
