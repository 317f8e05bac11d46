"""Plan of a box extraction: rows, columns, weights and block sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.apertures.weights import weighted_sum
from glue_lrs.errors import ProductError
from glue_lrs.spectra.columns import COLUMNS

if TYPE_CHECKING:
    from glue_lrs.apertures.aperture_correction import ApertureCorrection
    from glue_lrs.apertures.background import Background
    from glue_lrs.apertures.weights import Weights
    from glue_lrs.image.slit_image import SlitImage

__all__ = [
    "BACKGROUND_SUMS",
    "BLOCK_PIXELS",
    "FLUX_SUMS",
    "FULL_ROW_RATIO",
    "MEMORY_FRACTION",
    "N_SUMS",
    "PIXEL_SUM",
    "BoxPlan",
    "ColumnRuns",
    "WeightedColumns",
    "align_rows",
    "block_steps",
    "column_numbers",
]

#: Maximum number of pixels of a block: small enough for the processor's cache, large enough for the
#: overhead of the function calls to be negligible.
BLOCK_PIXELS = 3 << 15

#: Full rows of a stack are read if they have at most this number of times the required columns.
FULL_ROW_RATIO = 3

#: Memory of a run as a fraction of that of the six planes (SCI, ERR, three variances, WAVELENGTH).
MEMORY_FRACTION = 0.25

#: Bytes of a run other than in arrays, and bytes of a row other than in its pixels.
_OVERHEAD, _ROW_BYTES = 6_000, 20

#: Minimum number of rows of a block: with fewer, the overhead of the function calls dominates.
_MIN_ROWS = 64

#: Indices of the sums: pixels; flux and background, each with error and three variances.
PIXEL_SUM, FLUX_SUMS, BACKGROUND_SUMS, N_SUMS = 0, slice(1, 6), slice(6, 11), 11


@dataclass(frozen=True, eq=False)
class WeightedColumns:
    """Columns of an image with nonzero weights, as contiguous runs, and their weights.

    Parameters
    ----------
    runs : tuple of slice
        Runs of columns.
    values : ndarray
        Weights, shape (row, column) for the rows of the plan, or (1, column) where all rows have
        the same.
    """

    runs: tuple[slice, ...]
    values: NDArray[np.float64]

    @classmethod
    def from_weights(cls, weights: Weights, rows: slice) -> WeightedColumns:
        """Return the columns with nonzero weights in the given rows."""
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
        """Whether all rows have the same weights."""
        return self.values.shape[0] == 1

    @cached_property
    def full(self) -> bool:
        """Whether the weights of all pixels are nonzero."""
        return bool(self.values.all())

    def weights(self, block: slice) -> NDArray[np.float64]:
        """Return the weights of a block of rows."""
        return self.values if self.uniform else self.values[block]


def column_numbers(runs: tuple[slice, ...]) -> NDArray[np.intp]:
    """Return the column numbers of runs of columns."""
    return np.concatenate([np.arange(run.start, run.stop) for run in runs])


@dataclass(frozen=True, eq=False)
class ColumnRuns:
    """Runs of columns of a plane, and their places in an array of these columns only.

    Parameters
    ----------
    places : tuple of (slice, slice)
        Each run in the plane and in the array.
    width : int
        Number of columns of the array.
    """

    places: tuple[tuple[slice, slice], ...]
    width: int

    @classmethod
    def from_slices(cls, runs: tuple[slice, ...]) -> ColumnRuns:
        """Place runs of columns one after the other."""
        places, done = [], 0
        for run in runs:
            places.append((run, slice(done, done + run.stop - run.start)))
            done += run.stop - run.start
        return cls(tuple(places), done)

    def full_rows(self, columns: int) -> bool:
        """Whether full rows of a stack are copied before the columns are selected.

        Contiguous memory is read fastest, unless most of it is not required.
        """
        return columns <= FULL_ROW_RATIO * self.width

    def cut(self, plane: NDArray[Any], where: tuple[slice, ...]) -> NDArray[Any]:
        """Return a copy of the columns in part of a plane, in native byte order."""
        part = plane[where]
        native = part.dtype if part.dtype.isnative else part.dtype.newbyteorder("=")
        if part.ndim == 2 or part.strides[-1] != part.itemsize:
            out = np.empty((*part.shape[:-1], self.width), native)
            for run, place in self.places:
                out[..., place] = part[..., run]
            return out
        # In a stack, each run of a row is copied as one item, many times faster than element by
        # element; a single image does not gain from it.
        if self.full_rows(part.shape[-1]):
            part = part.astype(native, order="C")
        out = np.empty((*part.shape[:-1], self.width), part.dtype)
        for run, place in self.places:
            item = f"V{(run.stop - run.start) * part.itemsize}"
            out[..., place].view(item)[...] = part[..., run].view(item)
        return out if part.dtype.isnative else out.byteswap(inplace=True).view(native)


def align_rows(
    part: WeightedColumns, wavelength: NDArray[Any], within: slice
) -> tuple[slice, WeightedColumns, NDArray[np.float64], NDArray[np.float64]]:
    """Restrict weights to the rows from the first to the last with a weight and a wavelength.

    Parameters
    ----------
    part : WeightedColumns
        Weights in the rows `within`.
    wavelength : ndarray
        Wavelength of each pixel in micron, shape (row, column). The weight of pixels without a
        finite wavelength becomes 0.
    within : slice
        Rows of `part`.

    Returns
    -------
    rows : slice
        The remaining rows.
    part : WeightedColumns
        Their weights.
    total, mean : ndarray
        Sum of the weights and weighted mean wavelength of each row.
    """
    window = ColumnRuns.from_slices(part.runs).cut(np.asarray(wavelength), (within,))
    finite = np.isfinite(window)
    first, values = within.start, part.values
    if not finite.all():
        weighted = np.flatnonzero((finite & (values > 0)).any(axis=1))
        inner = slice(int(weighted[0]), int(weighted[-1]) + 1) if weighted.size else slice(0, 0)
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
    """Rows, weights, background regions and aperture correction of the extraction of an image.

    Parameters
    ----------
    rows : slice
        Rows from the first to the last with nonzero weights.
    source : WeightedColumns
        Weights of the aperture in these rows.
    total, wavelength : ndarray
        Sum of the weights and weighted mean wavelength of each row, shape (row,).
    kept : ndarray of bool, optional
        Rows with nonzero weights; None: all.
    limits : tuple of float
        Mean inclusive limits of the aperture.
    background : Background, optional
        The background to subtract.
    region : WeightedColumns, optional
        Weights of the background regions.
    correction : ApertureCorrection, optional
        The aperture correction to apply.
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

    @classmethod
    def from_weights(
        cls,
        image: SlitImage,
        weights: Weights,
        background: Background | None,
        background_offset: float,
        correction: ApertureCorrection | None,
    ) -> BoxPlan:
        """Plan the extraction of an image with the weights of a placed aperture.

        Parameters
        ----------
        image : SlitImage
            The image.
        weights : Weights
            Weights of the aperture.
        background : Background, optional
            The background to subtract.
        background_offset : float
            Shift of its regions in columns.
        correction : ApertureCorrection, optional
            The aperture correction to apply.

        Raises
        ------
        ProductError
            If no pixel of the aperture has a wavelength.
        """
        wavelength = image.wavelength
        rows, source, total, mean = align_rows(
            WeightedColumns.from_weights(weights, weights.rows), wavelength, weights.rows
        )
        kept = total > 0
        if not kept.any():
            raise ProductError("no pixel of the aperture has a wavelength", subject=image.label)
        region = None
        if background is not None:
            found = background.weights(wavelength, background_offset)
            region = WeightedColumns.from_weights(found, rows)
        return cls(
            rows=rows,
            source=source,
            total=total,
            wavelength=mean,
            kept=None if kept.all() else kept,
            limits=(weights.lower, weights.upper),
            background=background,
            region=region,
            correction=correction,
        )

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.rows.stop - self.rows.start

    @cached_property
    def columns(self) -> ColumnRuns:
        """Columns of the aperture, followed by those of the background regions."""
        return ColumnRuns.from_slices(
            self.source.runs + (() if self.region is None else self.region.runs)
        )

    @property
    def padding(self) -> int:
        """Additional rows on either side of a block for the smoothing of the background."""
        return 0 if self.background is None else self.background.smoothing_length // 2

    def centroid(self) -> tuple[float, float]:
        """Return column and row of the centroid of the weights."""
        in_columns = self.source.values.sum(axis=0)
        column = float(column_numbers(self.source.runs) @ in_columns / in_columns.sum())
        row = float(np.arange(self.rows.start, self.rows.stop) @ self.total / self.total.sum())
        return column, row


def block_steps(image: SlitImage, plan: BoxPlan) -> tuple[int, int]:
    """Return the number of integrations and of rows of a block, within the memory of a run."""
    rows, width = plan.n_rows, plan.columns.width
    size, region_width = image.data.itemsize, 0 if plan.region is None else plan.region.width
    # Memory left for blocks besides the permanent arrays: columns, wavelengths, totals, weights.
    free = MEMORY_FRACTION * 6 * image.data.nbytes - _OVERHEAD
    free -= 16 * rows + plan.source.values.nbytes
    free -= 8 * len(COLUMNS) * rows * len(image.data) if image.is_stack else 8 * N_SUMS * rows
    # Measured bytes per row: reading the planes, summing variances, fitting the background.
    double = 8 * max(plan.source.width, min(region_width, 24))
    steps = [2 * (size + 1) * width, (size + 1) * width + double]
    order = 0
    if plan.background is not None and plan.region is not None:
        free -= plan.region.values.nbytes
        order = plan.background.bkg_order if plan.background.bkg_fit == "poly" else 0
        if plan.background.bkg_fit == "poly":
            steps.append(size * width + 11 * region_width + (130 + 10 * order if order else 20))
        if plan.padding:
            steps.append(size * width + (4 * size + 2) * region_width)
    row_bytes = max(steps) + _ROW_BYTES + (0 if plan.source.uniform else 8 * plan.source.width)
    if image.is_stack:  # variances are kept, and there may be many patterns of bad pixels
        row_bytes += 3 * size * width + (40 * (order + 1) ** 2 if order else 0)
        if plan.columns.full_rows(image.shape[1]):
            row_bytes += size * image.shape[1]
    n_max = max(int(free / row_bytes) - 2 * plan.padding, _MIN_ROWS)
    n_max = max(min(n_max, BLOCK_PIXELS // width), 1)
    if image.is_stack:
        row_step = min(rows, n_max)
        return n_max // row_step, row_step
    n_blocks = -(-rows // n_max)
    return 1, -(-rows // n_blocks)
