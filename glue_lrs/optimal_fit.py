"""The fit of an optimal extraction: profiles and background to each row, outliers left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.learn import Learned, Pixels, invert, normal, refine, unsure
from glue_lrs.optimal_view import Mean, View, median, row_level, running, window
from glue_lrs.profile import EmpiricalProfile, PSFProfile, splines

if TYPE_CHECKING:
    from glue_lrs.optimal import OptimalExtraction

#: Rows to each side over which the model of the variances is averaged.
_SMOOTH = 8

#: Times that the worst pixel of a row may be left out.
_ROUNDS = 12

#: What the model may be wrong by, as a fraction of the profile's peak.
_TOLERANCE = 0.004

#: Least that it is taken to be wrong by, in standard deviations of a pixel.
_LEAST = 0.3

#: Standard deviations by which a pixel can disagree with a profile, where that is measured.
_HELD = 4.0

#: Least error of a profile, as a fraction of its peak, as far as weights are concerned: without it
#: the faintest wings of the brightest sources would count as much as the core.
_BELIEF = 1e-4

#: Expected shift between integrations in columns: it holds back shifts that are not measured.
_JITTER = 0.2

#: Largest shift in columns: farther away its second derivative does not do for a profile.
SHIFT_LIMIT = 0.5

#: Shifts below this do not matter to the errors of the fluxes.
_SMALL_SHIFT = 0.05

#: Row and column of no pixel.
_NOTHING = (np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp))


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Products of all pairs of fields (row, pair, column), and the number of each pair."""

    number: NDArray[np.intp]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, fields: NDArray[np.float64]) -> _Pairs:
        count = fields.shape[1]
        first, second = np.triu_indices(count)
        number = np.empty((count, count), dtype=np.intp)
        number[first, second] = number[second, first] = np.arange(first.size)
        return cls(number, np.ascontiguousarray(fields[:, first] * fields[:, second]))


@dataclass(frozen=True, eq=False)
class Work:
    """Profiles, weights and what else all integrations share."""

    view: View
    operator: OptimalExtraction
    learned: Learned
    positives: int
    columns: slice
    lit: list[NDArray[np.float64]]
    slope: list[NDArray[np.float64]]
    bend: list[NDArray[np.float64]]
    behind: list[NDArray[np.float64]]
    variance: NDArray[np.float64]
    doubt: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        view: View,
        start: Mean,
        learned: Learned,
        positives: int,
        order: int | None,
        operator: OptimalExtraction,
    ) -> Work:
        """Prepare a fit: profiles on the pixels, weights, background."""
        pixels = start.pixels
        traces = np.where(np.isfinite(learned.traces), learned.traces, -1e3)
        profile = learned.profile
        columns = view.columns
        if order is None:  # only pixels that see any of the sources matter
            reach = operator.reach if not isinstance(profile, PSFProfile) else np.inf
            known = np.isfinite(learned.traces)
            low = np.floor(np.nanmin(learned.traces[known]) - reach)
            high = np.ceil(np.nanmax(learned.traces[known]) + reach)
            first = max(int(max(low, columns.start)), columns.start)
            last = min(int(min(high + 1, columns.stop)), columns.stop)
            columns = slice(first, max(last, first + 1))
        inner = slice(columns.start - view.columns.start, columns.stop - view.columns.start)
        x = pixels.columns[inner]
        lit, slope, bend = [], [], []
        stack = start.number > 1 and operator.fit_shift
        light = profile.at(view.wavelength)
        for trace in traces:
            offset = x - trace[:, np.newaxis]
            lit.append(light(offset))
            if stack:
                step = 0.25
                right, left = light(offset + step), light(offset - step)
                slope.append((right - left) / (2.0 * step))
                bend.append((right + left - 2.0 * lit[-1]) / step**2)
        middle = (view.columns.start + view.columns.stop - 1) / 2.0
        half = max((view.columns.stop - view.columns.start - 1) / 2.0, 1.0)
        behind = []
        if order is not None:
            shape = (x.size,)
            behind = [np.broadcast_to(((x - middle) / half) ** i, shape) for i in range(order + 1)]
            behind = [np.broadcast_to(b, lit[0].shape) for b in behind]
        variance, doubts, doubt = _model_variance(start, inner, lit, positives, behind, traces)
        if operator.fit_position and (positives == 1 or operator.profile is not None):
            near = replace(
                pixels, data=pixels.data[:, inner], good=pixels.good[:, inner], columns=x
            )
            given = operator.profile is not None
            mean = variance / start.number
            whole, basis = near, [*lit, *behind]
            near, coefficients = _kept(near, mean, doubt, basis, operator.threshold, len(lit))
            if near.good is not whole.good and (near.good != whole.good).any():
                # Without cosmic rays it is less.
                residual = near.data.copy()
                for i, field in enumerate(basis):
                    residual -= coefficients[:, i, np.newaxis] * field
                doubt = doubts.of(residual, near.good)
            negative = np.zeros_like(near.data)
            for i in range(positives, len(lit)):
                negative += coefficients[:, i, np.newaxis] * lit[i]
            learned = refine(
                replace(near, data=near.data - negative),
                mean,
                learned,
                positives=positives,
                behind=behind,
                learned=not given,
            )
            if given or positives > 1:
                traces = np.where(np.isfinite(learned.traces), learned.traces, -1e3)
                light = learned.profile.at(view.wavelength)
                lit = [light(x - trace[:, np.newaxis]) for trace in traces]
        return cls(
            view, operator, learned, positives, columns, lit, slope, bend, behind, variance,
            doubt,
        )  # fmt: skip

    def basis(self, shift: float = 0.0) -> list[NDArray[np.float64]]:
        """Sources and background at a shift, each of shape (row, column)."""
        if shift == 0.0 or not self.slope:
            return [*self.lit, *self.behind]
        moved = [
            p - shift * d + 0.5 * shift**2 * b
            for p, d, b in zip(self.lit, self.slope, self.bend, strict=True)
        ]
        return [*moved, *self.behind]

    @cached_property
    def fields(self) -> NDArray[np.float64]:
        """Sources, background, derivatives of the sources: shape (row, field, column)."""
        parts = [*self.lit, *self.behind, *self.slope, *self.bend]
        return np.ascontiguousarray(np.stack(parts, axis=1))

    @cached_property
    def pairs(self) -> _Pairs:
        """Products of all pairs of fields."""
        return _Pairs.of(self.fields)

    @cached_property
    def expected(self) -> NDArray[np.float64]:
        """1 over what squared residuals are expected to be."""
        weight = 1.0 / self.variance
        power = np.einsum("rc,rc->r", self.lit[0] ** 2, weight)
        pull = self.lit[0] ** 2 * weight
        pull /= np.where(power > 0, power, 1.0)[:, np.newaxis]
        return 1.0 / (self.variance * (1.0 - np.minimum(pull, 0.9)) + self.doubt)

    def mix(self, shift: float) -> NDArray[np.float64]:
        """How the fields make up sources at a shift, and the background: (term, field)."""
        sources, terms = len(self.lit), len(self.lit) + len(self.behind)
        mix = np.eye(terms, self.fields.shape[1])
        if self.slope:
            some = np.arange(sources)
            mix[some, terms + some] = -shift
            mix[some, terms + sources + some] = 0.5 * shift**2
        return mix

    def run(
        self,
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.float64] | None, tuple[NDArray[np.intp], ...]]:
        """Fit all integrations: raw columns, shifts, and indices of rejected pixels."""
        image = self.view.image
        number = image.data.shape[0] if image.is_stack else 1
        rows, sources, terms = len(self.lit[0]), self.positives, len(self.lit) + len(self.behind)
        out: dict[str, NDArray[Any]] = {
            "coefficients": np.empty((number, rows, terms)),
            "good": np.empty((number, sources, rows)),
            "flux_variance": np.zeros((3, number, sources, rows)),
        }
        if self.behind:
            out["background_variance"] = np.zeros((3, number, sources, rows))
        shifts = np.zeros(number)
        gone: list[tuple[NDArray[np.intp], ...]] = []
        for i in range(number):
            data, good, variances = self.view.read(i if image.is_stack else None, self.columns)
            shifts[i], rejected = self._fit(data, good, variances, i, out)
            if rejected[0].size:
                gone.append((np.full(rejected[0].size, i), *rejected))
        if gone:
            where = [np.concatenate(part) for part in zip(*gone, strict=True)]
        else:
            where = [np.zeros(0, dtype=np.intp)] * 3
        where[1] = where[1] + self.view.rows.start
        where[2] = where[2] + self.columns.start
        all_gone = tuple(where) if image.is_stack else tuple(where[1:])
        return out, shifts if image.is_stack else None, all_gone

    def _fit(
        self,
        data: NDArray[np.float64],
        good: NDArray[np.bool_],
        variances: list[NDArray[np.float64] | None],
        i: int,
        out: dict[str, NDArray[Any]],
    ) -> tuple[float, tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Fit an integration: its shift, and the pixels that were left out."""
        # Sums over columns of all products that are needed; all else is done row by row.
        rows = len(data)
        weight = good * self.inverse
        sums = self._sums(weight[:, np.newaxis], self.pairs)[..., 0]
        vector = np.matmul(self.fields, (weight * data)[..., np.newaxis])[..., 0]
        shift = self._shift(sums, vector) if self.slope else 0.0
        mix = self.mix(shift)
        coefficients, inverse = _solve_sums(sums, vector, mix)
        rejected = self._reject(data, good, weight, shift, coefficients, inverse)
        present = [k for k, v in enumerate(variances) if v is not None]
        if present:
            planes = np.empty((rows, len(present), data.shape[1]))
            for at, k in enumerate(present):  # 0 where a pixel is not good
                np.multiply(variances[k], self.squared, out=planes[:, at])  # type: ignore[arg-type]
            planes[rejected[0], :, rejected[1]] = 0.0
            # Of large shifts the errors feel the derivatives as well.
            few = abs(shift) < _SMALL_SHIFT
            spread = self._sums(planes, self.few_pairs if few else self.pairs)
            if few:
                mix = np.eye(mix.shape[0])
            self._errors(spread, present, mix, inverse, i, out)
        out["coefficients"][i] = coefficients
        bad = np.nonzero(~good)
        for s in range(self.positives):
            lost = np.bincount(bad[0], weights=self.lit[s][bad], minlength=rows).astype(float)
            lost += np.bincount(rejected[0], weights=self.lit[s][rejected], minlength=rows)
            out["good"][i, s] = self.light[s] - lost
        return shift, rejected

    @cached_property
    def inverse(self) -> NDArray[np.float64]:
        """Weights of pixels that are good."""
        return 1.0 / self.variance

    @cached_property
    def squared(self) -> NDArray[np.float64]:
        """Their squares."""
        return self.inverse**2

    @cached_property
    def light(self) -> list[NDArray[np.float64]]:
        """Sum of each source's profile."""
        return [profile.sum(axis=1) for profile in self.lit]

    @cached_property
    def seen(self) -> list[NDArray[np.float64]]:
        """The same of the pixels that have a wavelength."""
        return [(profile * self.inside).sum(axis=1) for profile in self.lit]

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which pixels have a wavelength, shape (row, column)."""
        first = self.view.columns.start
        return self.view.lit[:, self.columns.start - first : self.columns.stop - first]

    def rows(self, source: int) -> NDArray[np.intp]:
        """Rows of the view in which a source is on the image."""
        return np.flatnonzero((self.light[source] > 0.05) & np.isfinite(self.view.wavelength))

    @cached_property
    def few_pairs(self) -> _Pairs:
        """The same without the derivatives."""
        if not self.slope:
            return self.pairs
        return _Pairs.of(self.fields[:, : len(self.lit) + len(self.behind)])

    def _sums(self, planes: NDArray[np.float64], pairs: _Pairs) -> NDArray[np.float64]:
        """Sums over columns of pairs of fields times planes: (row, field, field, plane)."""
        return np.matmul(pairs.values, np.swapaxes(planes, 1, 2))[:, pairs.number]

    def _shift(self, matrix: NDArray[np.float64], vector: NDArray[np.float64]) -> float:
        """The shift of an integration: Gauss-Newton; rows that stand out do not count."""
        sources, terms = len(self.lit), len(self.lit) + len(self.behind)
        some = np.arange(sources)
        shift = 0.0
        for _ in range(2):
            mix = self.mix(shift)
            coefficients, inverse = _solve_sums(matrix, vector, mix)
            change = np.zeros((len(vector), matrix.shape[-1]))
            change[:, terms + some] = -coefficients[:, :sources]
            change[:, terms + sources + some] = shift * coefficients[:, :sources]
            pushed = np.einsum("rkl,rl->rk", matrix, change)
            pull = np.einsum("rk,rk->r", change, vector)
            pull -= np.einsum("rk,rk->r", coefficients @ mix, pushed)
            across = pushed @ mix.T
            power = np.einsum("rk,rk->r", change, pushed)
            power -= np.einsum("ri,rij,rj->r", across, inverse, across)
            power = np.where(power > 0, power, 0.0)
            own = np.divide(pull, power, out=np.zeros_like(pull), where=power > 0)
            order = np.argsort(own)
            heap = np.cumsum(power[order])
            if not heap[-1] > 0:
                return 0.0
            middle = own[order[np.searchsorted(heap, 0.5 * heap[-1])]]
            keep = (own - middle) ** 2 * power < 25.0
            total = power[keep].sum()
            step = float(pull[keep].sum() / (total + _JITTER**-2))
            shift = min(max(shift + step, -SHIFT_LIMIT), SHIFT_LIMIT)
            if abs(step) < 0.02:
                break
        return shift

    def _reject(
        self,
        data: NDArray[np.float64],
        good: NDArray[np.bool_],
        weight: NDArray[np.float64],
        shift: float,
        coefficients: NDArray[np.float64],
        inverse: NDArray[np.float64],
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Leave out pixels that stand out, and fit their rows again: row and column of them.

        `weight`, `coefficients` and `inverse` are changed.
        """
        threshold = self.operator.threshold
        if threshold is None:
            return _NOTHING
        made_of = (coefficients @ self.mix(shift))[:, np.newaxis]
        residual = data - np.matmul(made_of, self.fields)[:, 0]
        residual *= residual
        residual *= self.expected
        residual *= good
        # The quick look is somewhat stricter than the exact one that follows for these rows.
        rows = np.flatnonzero(residual.max(axis=1) > 0.8 * threshold**2)
        return _reject_rows(
            rows, data, weight, self.basis(shift), self.variance, self.doubt, threshold,
            coefficients, inverse, len(self.lit),
        )  # fmt: skip

    def _errors(
        self,
        sums: NDArray[np.float64],
        present: list[int],
        mix: NDArray[np.float64],
        inverse: NDArray[np.float64],
        i: int,
        out: dict[str, NDArray[Any]],
    ) -> None:
        """Variances of fluxes and background levels, by the image's own variances."""
        sources = len(self.lit)
        for s in range(self.positives):
            wanted = {"flux": inverse[:, s]}
            if self.behind:
                wanted["background"] = np.einsum("ri,rij->rj", self.level[s], inverse[:, sources:])
            for name, response in wanted.items():
                spread = response @ mix
                for at, k in enumerate(present):
                    out[f"{name}_variance"][k, i, s] = np.einsum(
                        "rk,rkl,rl->r", spread, sums[..., at], spread
                    )

    def profile_covariance(self) -> NDArray[np.float64] | None:
        """Covariance that the noise of a learned profile gives to the logarithm of fluxes.

        Of the first source in all rows of an image whose pixels are all good, shape (row, row);
        None where the profile was not learned from one source.
        """
        from scipy.linalg import cho_solve

        profile, factor = self.learned.profile, self.learned.factor
        if factor is None or not isinstance(profile, EmpiricalProfile):
            return None
        basis = [*self.lit, *self.behind]
        inverse = inverse_normal(normal(basis, [field * self.inverse for field in basis]))
        response = self.inverse * np.einsum("rj,jrc->rc", inverse[:, 0], np.stack(basis))
        trace = np.where(np.isfinite(self.learned.traces[0]), self.learned.traces[0], -1e3)
        columns = np.arange(self.columns.start, self.columns.stop)
        knots, rows = profile.coefficients.shape[0], len(trace)
        first, parts = splines(columns - trace[:, np.newaxis] + profile.center, knots)
        first += (np.arange(rows) * (knots + 8))[:, np.newaxis]
        sums = np.zeros(rows * (knots + 8))
        for j, part in enumerate(parts):
            weights = (response * part).ravel()
            sums += np.bincount((first + j).ravel(), weights=weights, minlength=sums.size)
        # The profile is divided by its sum, so that what is added to it is taken from elsewhere.
        change = sums.reshape(rows, -1)[:, 4:-4] - 1.0
        terms = profile.terms(np.nan_to_num(self.view.wavelength))
        change /= 1.0 + (terms @ profile.coefficients.T).sum(axis=1)[:, np.newaxis]
        along = (change[:, :, np.newaxis] * terms[:, np.newaxis]).reshape(rows, -1)
        return np.asarray(along @ cho_solve(factor, along.T, check_finite=False))

    @cached_property
    def level(self) -> list[NDArray[np.float64]]:
        """What the background's terms are under each source, shape (row, term)."""
        levels = []
        for profile, light in zip(self.lit, self.light, strict=True):
            level = np.stack([(profile * b).sum(axis=1) for b in self.behind], axis=-1)
            levels.append(level / np.where(light > 0, light, 1.0)[:, np.newaxis])
        return levels


def _reject_rows(
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
        return _NOTHING

    def solve(some: NDArray[np.intp], start: NDArray[np.float64]) -> _Solved:
        sub = [field[some] for field in basis]
        return _solve_rows(data[some], start, sub, variance[some], doubt[some], threshold)

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


def _kept(
    pixels: Pixels,
    variance: NDArray[np.float64],
    doubt: NDArray[np.float64],
    basis: list[NDArray[np.float64]],
    threshold: float | None,
    sources: int,
) -> tuple[Pixels, NDArray[np.float64]]:
    """A mean without pixels that stand out, and what its rows are fitted with, (row, term)."""
    weight = pixels.good / variance
    coefficients, inverse = _solve(pixels.data, weight, basis)
    if threshold is None:
        return pixels, coefficients
    solved = _Rows(pixels.data, weight, basis, variance, doubt, coefficients, inverse)
    rows = np.flatnonzero(solved.excess()[0].max(axis=1) > threshold**2)
    _reject_rows(
        rows, pixels.data, weight, basis, variance, doubt, threshold, coefficients, inverse, sources
    )
    return replace(pixels, good=weight > 0), coefficients


def _solve_sums(
    matrix: NDArray[np.float64], vector: NDArray[np.float64], mix: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients and inverse normal matrices of terms that are made up of fields."""
    normal_matrix = mix @ matrix @ mix.T
    inverse = inverse_normal(normal_matrix)
    return np.einsum("rij,rj->ri", inverse, vector @ mix.T), inverse


def inverse_normal(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse; a source that no pixel of a row sees must not take the others with it."""
    some = np.arange(matrix.shape[-1])
    if some.size > 1:
        diagonal = matrix[:, some, some]
        matrix[:, some, some] += 1e-9 * diagonal.max(axis=1, keepdims=True)
    return invert(matrix)[0]


@dataclass(frozen=True, eq=False)
class _Solved:
    """Fits of all rows of an integration."""

    coefficients: NDArray[np.float64]
    inverse: NDArray[np.float64]
    rejected: tuple[NDArray[np.intp], NDArray[np.intp]]


def _solve(
    data: NDArray[np.float64], weight: NDArray[np.float64], basis: list[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit each row: coefficients (row, term), inverse normal matrices (row, term, term)."""
    weighted = [field * weight for field in basis]
    inverse = inverse_normal(normal(basis, weighted))
    vector = np.stack([np.einsum("rc,rc->r", field, data) for field in weighted], axis=-1)
    return np.einsum("rij,rj->ri", inverse, vector), inverse


def _solve_rows(
    data: NDArray[np.float64],
    weight: NDArray[np.float64],
    basis: list[NDArray[np.float64]],
    variance: NDArray[np.float64],
    doubt: NDArray[np.float64],
    threshold: float,
) -> _Solved:
    """Fit each row; leave out the worst pixel of rows that have one, and fit these again.

    `weight` is changed: it becomes 0 at pixels that are left out.
    """
    coefficients, inverse = _solve(data, weight, basis)
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
        again, inverted = _solve(data[rows], weight[rows], sub)
        coefficients[rows], inverse[rows] = again, inverted
        part = _Rows(data[rows], weight[rows], sub, variance[rows], doubt[rows], again, inverted)
    if not found:
        return _Solved(coefficients, inverse, _NOTHING)
    where = (np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found]))
    return _Solved(coefficients, inverse, where)


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


def _model_variance(
    start: Mean,
    inner: slice,
    lit: list[NDArray[np.float64]],
    positives: int,
    behind: list[NDArray[np.float64]],
    traces: NDArray[np.float64],
) -> tuple[NDArray[np.float64], _Doubt, NDArray[np.float64]]:
    """Variance of each pixel of one integration as a smooth function of the model.

    The photon noise is a + g |source| in each row, the flat field's f model^2, with a, g and f
    averaged over rows; the read noise is the pixel's own, which owes nothing to the data.

    Returns
    -------
    variance : ndarray
        Shape (row, column), more than 0.
    doubt : _Doubt
        Tells what the model's inaccuracy adds to squared residuals.
    added : ndarray
        What it adds, shape (row, column).
    """
    from scipy.ndimage import median_filter

    pixels = start.pixels
    data, good, x = pixels.data[:, inner], pixels.good[:, inner], pixels.columns[inner]
    weight = good / pixels.variance[:, inner]
    basis = [*lit, *behind]
    coefficients, _ = _solve(data, weight, basis)
    residual = data.copy()
    for i, field in enumerate(basis):
        residual -= coefficients[:, i, np.newaxis] * field
    kept = good & (residual**2 * weight < 25.0 + (0.1 * coefficients[:, :1] * lit[0]) ** 2 * weight)
    smooth = running(coefficients, np.ones(coefficients.shape, dtype=bool), 3)
    source, whole = np.zeros_like(data), np.zeros_like(data)
    for i, field in enumerate(basis):
        whole += smooth[:, i, np.newaxis] * field
        if i < len(lit):
            source += np.abs(smooth[:, i, np.newaxis]) * field
    poisson, rnoise, flat = (
        None if v is None else v[:, inner] * (start.number if i < 2 else 1)
        for i, v in enumerate(start.variances)
    )
    total = np.zeros_like(data)
    mask = kept.astype(float)
    if poisson is not None:
        total += _photon_noise(poisson, source, kept, lit)
    if rnoise is not None:
        known = good & (rnoise > 0)
        typical = running(np.where(known, rnoise, 0.0), known, _SMOOTH)
        total += np.where(known, rnoise, typical)
    if flat is not None:
        square = whole**2
        top = window((mask * square * flat).sum(axis=1), _SMOOTH)
        low = window((mask * square**2).sum(axis=1), _SMOOTH)
        total += np.divide(top, low, out=np.zeros_like(top), where=low > 0)[:, np.newaxis] * square
    some = total[good]
    if not (some > 0).any():
        total[...] = 1.0
    else:
        np.maximum(total, 1e-2 * median(some[some > 0]), out=total)
    peak = np.max([np.abs(smooth[:, i]) * f.max(axis=1) for i, f in enumerate(lit)], axis=0)
    for i in range(positives, len(lit)):
        total += unsure(smooth[:, i, np.newaxis] * lit[i], x - traces[i][:, np.newaxis])
    weighing = total + (_BELIEF * peak[:, np.newaxis]) ** 2
    # Where errors are too small, as those of resampled images are, more must be allowed for.
    stretch = 1.0
    near = kept & (lit[0] > 0.05)
    if start.number == 1 and near.sum() > 50:
        stretch = max(1.0, 2.198 * float(np.median((residual**2 / total)[near])))
    # Fluxes that a cosmic ray has driven up must not make room for it.
    flux = np.abs(coefficients[:, 0])
    flux = np.minimum(flux, 3.0 * median_filter(flux, 9, mode="nearest"))
    ceiling = (_TOLERANCE * lit[0].max(axis=1) * flux)[:, np.newaxis] ** 2
    doubt = _Doubt(total * stretch, np.broadcast_to(ceiling, total.shape), stretch, start.number)
    return weighing, doubt, doubt.of(residual, kept)


@dataclass(frozen=True, eq=False)
class _Doubt:
    """What the model's inaccuracy adds to squared residuals, by what neighbouring rows show.

    Parameters
    ----------
    variance : ndarray
        What squared residuals of one integration are expected to be, times `stretch`.
    ceiling : ndarray
        The most that the model is taken to be wrong by, squared.
    stretch : float
        How much larger squared residuals are than the variances say.
    number : int
        Integrations of which the residuals are the mean.
    """

    variance: NDArray[np.float64]
    ceiling: NDArray[np.float64]
    stretch: float
    number: int

    def of(self, residual: NDArray[np.float64], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The doubt that residuals of pixels that are kept give, shape (row, column)."""
        mask = kept.astype(float)
        away = residual / np.sqrt(self.variance / self.number)
        away = np.clip(away, -_HELD, _HELD) * mask
        # What is wrong with a profile is so in neighbouring rows as well; in the last ones, where
        # the wavelength changes fast, in fewer of them.
        count, mean = window(mask, _SMOOTH), np.abs(window(away, _SMOOTH))
        mean /= np.maximum(count, 1.0)
        for end in (slice(None, 3), slice(-3, None)):
            near = np.abs(window(away[end], 1)) / np.maximum(window(mask[end], 1), 1.0)
            mean[end] = np.maximum(mean[end], near)
        mean *= 2.0 / (1.0 - np.minimum(mean / _HELD, 0.9))
        found = np.minimum(self.ceiling, self.variance * (_LEAST**2 + mean**2))
        found = np.where(count > 0, found, self.ceiling)
        return np.asarray(found + (1.0 - 1.0 / self.stretch) * self.variance)


def _photon_noise(
    variance: NDArray[np.float64],
    source: NDArray[np.float64],
    mask: NDArray[np.bool_],
    lit: list[NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Least squares variance = a + g source; a of each row, g of some rows; neither below 0."""
    brightest = reduce(np.maximum, lit)
    dark = mask & (brightest < 0.002)
    if np.median(dark.sum(axis=1)) < 6:
        dark = mask & (brightest < 0.02)
    few = dark.sum(axis=1, keepdims=True) < 4
    level = row_level(variance, np.where(few, mask, dark))
    # In units of the row's level: electrons for a flux change fast at the ends of the spectrum.
    x, y = source / level, variance / level - 1.0
    top = window((mask * x * y).sum(axis=1), _SMOOTH)
    low = window((mask * x * x).sum(axis=1), _SMOOTH)
    gain = np.divide(top, low, out=np.zeros_like(top), where=low > 0)
    return level * (1.0 + np.maximum(gain, 0.0)[:, np.newaxis] * x)
