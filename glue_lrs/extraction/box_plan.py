"""Plan of a box extraction: rows, columns, weights and block sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.apertures.weights import weighted_sum
from glue_lrs.spectra.columns import COLUMNS

if TYPE_CHECKING:
    from glue_lrs.apertures.aperture_correction import ApertureCorrection
    from glue_lrs.apertures.background import Background
    from glue_lrs.apertures.weights import Weights
    from glue_lrs.image.slit_image import SlitImage

__all__ = [
    "BACKGROUND_SUMS",
    "FLUX_SUMS",
    "N_SUMS",
    "PIXEL_SUM",
    "BoxPlan",
    "ColumnRuns",
    "WeightedColumns",
    "align_rows",
    "block_steps",
    "column_numbers",
]

#: Pixels of a window that are worked on at once: few enough to stay in the processor's cache and
#: far below the image's own memory, enough to hide the cost of a call.
_BLOCK_PIXELS = 3 << 15

#: Whole rows of a stack are read where they have up to so many times the columns that are wanted.
_WHOLE_ROWS = 3

#: What a run may add to the memory of the six planes (SCI, ERR, three variances, WAVELENGTH).
_MEMORY = 0.25

#: Bytes that a run takes apart from arrays, and that a row takes apart from its pixels.
_OVERHEAD, _ROW_BYTES = 6_000, 20

#: The least rows of a block: with fewer it would be calls that take the time.
_LEAST_ROWS = 64

#: Where they stand among the sums that they are made from.
PIXEL_SUM, FLUX_SUMS, BACKGROUND_SUMS, N_SUMS = 0, slice(1, 6), slice(6, 11), 11


@dataclass(frozen=True, eq=False)
class WeightedColumns:
    """The columns of an image that have any weight, as runs of neighbours, and their weights.

    `values` has the shape (row, column) for the rows of the plan, or (1, column) where all are
    alike.
    """

    runs: tuple[slice, ...]
    values: NDArray[np.float64]

    @classmethod
    def from_weights(cls, weights: Weights, rows: slice) -> WeightedColumns:
        values = weights.values
        if not weights.uniform:
            values = values[rows.start - weights.rows.start : rows.stop - weights.rows.start]
        used = values.any(axis=0)
        if used.all():
            return cls((weights.columns,), values)
        edges = np.zeros(used.size + 2, dtype=bool)
        edges[1:-1] = used
        turns = np.flatnonzero(edges[1:] != edges[:-1]).tolist()
        first = weights.columns.start
        runs = tuple(
            slice(first + start, first + stop)
            for start, stop in zip(turns[::2], turns[1::2], strict=True)
        )
        return cls(runs, values[:, used])

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.values.shape[1]

    @property
    def uniform(self) -> bool:
        """Whether all rows are alike."""
        return self.values.shape[0] == 1

    @cached_property
    def full(self) -> bool:
        """Whether all pixels have some weight."""
        return bool(self.values.all())

    def weights(self, block: slice) -> NDArray[np.float64]:
        """The weights of a block of rows."""
        return self.values if self.uniform else self.values[block]


def column_numbers(runs: tuple[slice, ...]) -> NDArray[np.intp]:
    """Column numbers."""
    return np.concatenate([np.arange(run.start, run.stop) for run in runs])


@dataclass(frozen=True, eq=False)
class ColumnRuns:
    """Runs of columns of a plane, and where they go in an array of these columns alone."""

    places: tuple[tuple[slice, slice], ...]
    width: int

    @classmethod
    def from_slices(cls, runs: tuple[slice, ...]) -> ColumnRuns:
        places, done = [], 0
        for run in runs:
            places.append((run, slice(done, done + run.stop - run.start)))
            done += run.stop - run.start
        return cls(tuple(places), done)

    def whole_rows(self, columns: int) -> bool:
        """Whether whole rows of a stack are copied before they are cut.

        Memory is read fastest from end to end, unless most of it is not wanted.
        """
        return columns <= _WHOLE_ROWS * self.width

    def cut(self, plane: NDArray[Any], where: tuple[slice, ...]) -> NDArray[Any]:
        """A copy of the columns of a part of a plane, in the machine's byte order."""
        part = plane[where]
        native = part.dtype if part.dtype.isnative else part.dtype.newbyteorder("=")
        if part.ndim == 2 or part.strides[-1] != part.itemsize:
            out = np.empty((*part.shape[:-1], self.width), native)
            for run, place in self.places:
                out[..., place] = part[..., run]
            return out
        # In a stack each row's run is copied as one item, many times faster than number by number;
        # for a single image that is not worth it.
        if self.whole_rows(part.shape[-1]):
            part = part.astype(native, order="C")
        out = np.empty((*part.shape[:-1], self.width), part.dtype)
        for run, place in self.places:
            item = f"V{(run.stop - run.start) * part.itemsize}"
            out[..., place].view(item)[...] = part[..., run].view(item)
        return out if part.dtype.isnative else out.byteswap(inplace=True).view(native)


def align_rows(
    part: WeightedColumns, wavelength: NDArray[Any], within: slice
) -> tuple[slice, WeightedColumns, NDArray[np.float64], NDArray[np.float64]]:
    """Rows from the first to the last with any weight; weights, their sums and mean wavelengths.

    `part` is for the rows `within`. A pixel without a finite wavelength has no weight.
    """
    window = ColumnRuns.from_slices(part.runs).cut(np.asarray(wavelength), (within,))
    finite = np.isfinite(window)
    first, values = within.start, part.values
    if not finite.all():
        some = np.flatnonzero((finite & (values > 0)).any(axis=1))
        inner = slice(int(some[0]), int(some[-1]) + 1) if some.size else slice(0, 0)
        within = slice(first + inner.start, first + inner.stop)
        window, finite = window[inner], finite[inner]
        values = part.weights(inner)
    if part.uniform and finite.all():
        total = np.full(len(window), values.sum())
        return within, part, total, weighted_sum(window, values) / values.sum()
    if part.uniform or not finite.all():
        values = values * finite
    total = values.sum(axis=1)
    np.copyto(window, 0, where=~finite)
    sums = weighted_sum(window, values)
    mean = np.divide(sums, total, out=np.ones_like(total), where=total > 0)
    return within, replace(part, values=values), total, mean


@dataclass(frozen=True, eq=False)
class BoxPlan:
    """What is to be summed on one image: rows and weights.

    `total` and `wavelength` have a value for each of the rows; `kept` tells which of them have any
    weight (None: all).
    """

    rows: slice
    source: WeightedColumns
    total: NDArray[np.float64]
    wavelength: NDArray[np.float64]
    kept: NDArray[np.bool_] | None
    limits: tuple[float, float]
    background: Background | None
    region: WeightedColumns | None
    correction: ApertureCorrection | None

    @property
    def number_of_rows(self) -> int:
        return self.rows.stop - self.rows.start

    @cached_property
    def columns(self) -> ColumnRuns:
        """Columns of the aperture, then those of the regions."""
        return ColumnRuns.from_slices(
            self.source.runs + (() if self.region is None else self.region.runs)
        )

    @property
    def halo(self) -> int:
        """Rows on either side that smoothing looks at."""
        return 0 if self.background is None else self.background.smoothing_length // 2


def block_steps(image: SlitImage, plan: BoxPlan) -> tuple[int, int]:
    """Integrations and rows of a block."""
    rows, width = plan.number_of_rows, plan.columns.width
    size, beside = image.data.itemsize, 0 if plan.region is None else plan.region.width
    # What lasts is taken from the memory that may be added: columns, wavelengths, totals, weights.
    free = _MEMORY * 6 * image.data.nbytes - _OVERHEAD - 16 * rows - plan.source.values.nbytes
    free -= 8 * len(COLUMNS) * rows * len(image.data) if image.is_stack else 8 * N_SUMS * rows
    # Measured: when planes are read; when variances are summed; when a background is fitted.
    double = 8 * max(plan.source.width, min(beside, 24))
    at_once = [2 * (size + 1) * width, (size + 1) * width + double]
    order = 0
    if plan.background is not None and plan.region is not None:
        free -= plan.region.values.nbytes
        order = plan.background.bkg_order if plan.background.bkg_fit == "poly" else 0
        if plan.background.bkg_fit == "poly":
            at_once.append(size * width + 11 * beside + (130 + 10 * order if order else 20))
        if plan.halo:
            at_once.append(size * width + (4 * size + 2) * beside)
    a_row = max(at_once) + _ROW_BYTES + (0 if plan.source.uniform else 8 * plan.source.width)
    if image.is_stack:  # variances are kept; there may be many patterns of pixels
        a_row += 3 * size * width + (40 * (order + 1) ** 2 if order else 0)
        if plan.columns.whole_rows(image.shape[1]):
            a_row += size * image.shape[1]
    most = max(int(free / a_row) - 2 * plan.halo, _LEAST_ROWS)
    most = max(min(most, _BLOCK_PIXELS // width), 1)
    if image.is_stack:
        row_step = min(rows, most)
        return most // row_step, row_step
    number = -(-rows // most)
    return 1, -(-rows // number)
