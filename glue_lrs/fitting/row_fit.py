"""The fit of an optimal extraction: profiles and background to each row, outliers left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.fitting.least_squares import inverse_normal, normal, solve_row_sums
from glue_lrs.fitting.noise_model import model_variance
from glue_lrs.fitting.outliers import NO_PIXELS, reject_outliers, reject_rows
from glue_lrs.fitting.profile_fit import refine_positions
from glue_lrs.profiles.empirical import EmpiricalProfile, splines
from glue_lrs.profiles.psf import PSFProfile

if TYPE_CHECKING:
    from glue_lrs.extraction.optimal import OptimalExtractor
    from glue_lrs.fitting.cutout import Cutout, MeanCutout
    from glue_lrs.fitting.engine import SourceFit

#: Expected shift between integrations in columns: it holds back shifts that are not measured.
_JITTER = 0.2

#: Largest shift in columns: farther away its second derivative does not do for a profile.
SHIFT_LIMIT = 0.5

#: Shifts below this do not matter to the errors of the fluxes.
_SMALL_SHIFT = 0.05


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Products of all pairs of fields (row, pair, column), and the number of each pair."""

    number: NDArray[np.intp]
    values: NDArray[np.float64]

    @classmethod
    def from_fields(cls, fields: NDArray[np.float64]) -> _Pairs:
        count = fields.shape[1]
        first, second = np.triu_indices(count)
        number = np.empty((count, count), dtype=np.intp)
        number[first, second] = number[second, first] = np.arange(first.size)
        return cls(number, np.ascontiguousarray(fields[:, first] * fields[:, second]))


@dataclass(frozen=True, eq=False)
class RowFitter:
    """Profiles, weights and what else all integrations share."""

    view: Cutout
    operator: OptimalExtractor
    learned: SourceFit
    positives: int
    columns: slice
    lit: list[NDArray[np.float64]]
    slope: list[NDArray[np.float64]]
    bend: list[NDArray[np.float64]]
    behind: list[NDArray[np.float64]]
    variance: NDArray[np.float64]
    doubt: NDArray[np.float64]

    @classmethod
    def from_cutout(
        cls,
        view: Cutout,
        start: MeanCutout,
        learned: SourceFit,
        positives: int,
        order: int | None,
        operator: OptimalExtractor,
    ) -> RowFitter:
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
        variance, doubts, doubt = model_variance(start, inner, lit, positives, behind, traces)
        if operator.fit_position and (positives == 1 or operator.profile is not None):
            near = replace(
                pixels, data=pixels.data[:, inner], good=pixels.good[:, inner], columns=x
            )
            given = operator.profile is not None
            mean = variance / start.number
            whole, basis = near, [*lit, *behind]
            near, coefficients = reject_outliers(
                near, mean, doubt, basis, operator.threshold, len(lit)
            )
            if near.good is not whole.good and (near.good != whole.good).any():
                # Without cosmic rays it is less.
                residual = near.data.copy()
                for i, field in enumerate(basis):
                    residual -= coefficients[:, i, np.newaxis] * field
                doubt = doubts.of(residual, near.good)
            negative = np.zeros_like(near.data)
            for i in range(positives, len(lit)):
                negative += coefficients[:, i, np.newaxis] * lit[i]
            learned = refine_positions(
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
        return _Pairs.from_fields(self.fields)

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
        coefficients, inverse = solve_row_sums(sums, vector, mix)
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
        return _Pairs.from_fields(self.fields[:, : len(self.lit) + len(self.behind)])

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
            coefficients, inverse = solve_row_sums(matrix, vector, mix)
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
            return NO_PIXELS
        made_of = (coefficients @ self.mix(shift))[:, np.newaxis]
        residual = data - np.matmul(made_of, self.fields)[:, 0]
        residual *= residual
        residual *= self.expected
        residual *= good
        # The quick look is somewhat stricter than the exact one that follows for these rows.
        rows = np.flatnonzero(residual.max(axis=1) > 0.8 * threshold**2)
        return reject_rows(
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
