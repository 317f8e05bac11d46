"""Rows, columns, weights and block sizes of a box extraction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.apertures.weights import mean_wavelength
from glue_lrs.errors import ProductError

if TYPE_CHECKING:
    from glue_lrs.apertures.aperture_correction import ApertureCorrection
    from glue_lrs.apertures.background import Background
    from glue_lrs.apertures.weights import Weights
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.findings import Finding

#: Maximum number of pixels in a block. It is small enough for the processor's cache, and large
#: enough for the overhead of the function calls to be negligible.
BLOCK_PIXELS = 3 << 15

#: Full rows of a stack are copied if the number of columns is at most this many times the number
#: of required columns.
FULL_ROW_RATIO = 3

#: The number of pixels in a block is at most the number of pixels in the image divided by this
#: value. An extraction then needs less than a quarter of the memory of the image's six planes (SCI,
#: ERR, three variances, WAVELENGTH).
BLOCKS_PER_IMAGE = 5

#: Indices along the first axis of the array of sums: the sum of the weights, five sums for the
#: flux, and five sums for the background. The five are the value, its error and three variances.
PIXEL_SUM, FLUX_SUMS, BACKGROUND_SUMS, N_SUMS = 0, slice(1, 6), slice(6, 11), 11


@dataclass(frozen=True, eq=False)
class WeightedColumns:
    """Columns of an image that have nonzero weights, and their weights.

    Parameters
    ----------
    runs : tuple of slice
        Contiguous ranges of columns with nonzero weights.
    values : ndarray
        Weights of these columns, shape (row, column) with the rows of the extraction, or
        (1, column) if all rows have the same weights.
    """

    runs: tuple[slice, ...]
    values: NDArray[np.float64]

    @classmethod
    def from_weights(cls, weights: Weights, rows: slice) -> WeightedColumns:
        """Select the columns that have nonzero weights in the given rows."""
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
        """Whether all weights are nonzero."""
        return bool(self.values.all())

    def in_all_columns(self, number: int) -> NDArray[np.float64]:
        """Return the weights with all columns of an image, of which there are `number`."""
        values = np.zeros((len(self.values), number))
        values[:, column_numbers(self.runs)] = self.values
        return values

    def weights(self, block: slice | NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the weights of a block of rows."""
        return self.values if self.uniform else self.values[block]


def column_numbers(runs: tuple[slice, ...]) -> NDArray[np.intp]:
    """Return the numbers of all columns in the given ranges."""
    return np.concatenate([np.arange(run.start, run.stop) for run in runs])


@dataclass(frozen=True, eq=False)
class ColumnRuns:
    """Column ranges of an image plane that are copied side by side into a narrower array.

    Parameters
    ----------
    places : tuple of (slice, slice)
        Columns of each range in the plane, and the columns to which they are copied in the array.
    width : int
        Number of columns in the array.
    """

    places: tuple[tuple[slice, slice], ...]
    width: int

    @classmethod
    def from_slices(cls, runs: tuple[slice, ...]) -> ColumnRuns:
        """Return the arrangement of ranges one after the other in the array."""
        places, done = [], 0
        for run in runs:
            places.append((run, slice(done, done + run.stop - run.start)))
            done += run.stop - run.start
        return cls(tuple(places), done)

    def full_rows(self, columns: int) -> bool:
        """Return whether to copy full rows of a stack before the columns are selected.

        Copying contiguous memory is faster, unless only a small part of it is required.

        Parameters
        ----------
        columns : int
            Number of columns in the stack.
        """
        return columns <= FULL_ROW_RATIO * self.width

    def cut(self, plane: NDArray[Any], where: tuple[slice, ...]) -> NDArray[Any]:
        """Return a copy of the columns in a part of a plane, in native byte order.

        Parameters
        ----------
        plane : ndarray
            Plane of an image or stack, shape (..., row, column).
        where : tuple of slice
            Rows to copy, after the integrations to copy for a stack.
        """
        part = plane[where]
        native = part.dtype if part.dtype.isnative else part.dtype.newbyteorder("=")
        if part.ndim == 2 or part.strides[-1] != part.itemsize:
            out = np.empty((*part.shape[:-1], self.width), native)
            for run, place in self.places:
                out[..., place] = part[..., run]
            return out
        # In a stack, each range of a row is copied as one large item, because this is many times
        # faster than copying single pixels. For a single image, it is not faster.
        if self.full_rows(part.shape[-1]) and not part.dtype.isnative:
            part = part.astype(native, order="C")
        out = np.empty((*part.shape[:-1], self.width), part.dtype)
        for run, place in self.places:
            item = f"V{(run.stop - run.start) * part.itemsize}"
            out[..., place].view(item)[...] = part[..., run].view(item)
        return out if part.dtype.isnative else out.byteswap(inplace=True).view(native)


def align_rows(
    part: WeightedColumns, wavelength: NDArray[Any], within: slice
) -> tuple[slice, WeightedColumns, NDArray[np.float64], NDArray[np.float64]]:
    """Remove rows without a weighted pixel that has a wavelength from both ends.

    Parameters
    ----------
    part : WeightedColumns
        Weights in the rows `within`.
    wavelength : ndarray
        Wavelength of each pixel in micron, shape (row, column). Pixels without a finite wavelength
        get weight 0.
    within : slice
        Rows of the image that `part` covers.

    Returns
    -------
    rows : slice
        Remaining rows of the image.
    part : WeightedColumns
        Weights in the remaining rows.
    total, mean : ndarray
        Sum of the weights and weighted mean wavelength in each remaining row.
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
        return within, part, total, mean_wavelength(window, values, total)
    if part.uniform or not finite.all():
        values = values * finite
    total = values.sum(axis=1)
    np.copyto(window, 0, where=~finite)
    return within, replace(part, values=values), total, mean_wavelength(window, values, total)


@dataclass(frozen=True, eq=False)
class BoxPlan:
    """Rows, weights, background regions and aperture correction for extracting an image.

    Parameters
    ----------
    rows : slice
        Rows of the image from the first to the last row with nonzero weights.
    source : WeightedColumns
        Weights of the aperture in these rows.
    total, wavelength : ndarray
        Sum of the weights and weighted mean wavelength in each row, shape (row,).
    kept : ndarray of bool, optional
        Mask of the rows with nonzero weights, shape (row,). If None, all rows have nonzero weights.
    limits : tuple of float
        First and last column of the aperture, inclusive and averaged over the rows.
    background : Background, optional
        Background to subtract.
    region : WeightedColumns, optional
        Weights of the background regions in `rows`.
    correction : ApertureCorrection, optional
        Aperture correction to apply.
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
        findings: list[Finding] | None = None,
    ) -> BoxPlan:
        """Return the plan for extracting an image with given aperture weights.

        Parameters
        ----------
        image : SlitImage
            Image to be extracted.
        weights : Weights
            Aperture weights of the pixels.
        background : Background, optional
            Background to subtract.
        background_offset : float
            Shift of the background regions in columns.
        correction : ApertureCorrection, optional
            Aperture correction to apply.
        findings : list of Finding, optional
            List to which findings about the background regions are appended.

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
            found = background.weights(wavelength, background_offset, findings)
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
        """Columns of the aperture, followed by the columns of the background regions."""
        return ColumnRuns.from_slices(
            self.source.runs + (() if self.region is None else self.region.runs)
        )

    @property
    def padding(self) -> int:
        """Number of additional rows needed on either side of a block to smooth the background."""
        return 0 if self.background is None else self.background.smoothing_length // 2

    def centroid_source(self) -> Callable[[], tuple[float, float]]:
        """Return a function that computes the centroid (column, row) of the aperture weights.

        The function stores only sums of the weights, so that it does not keep the plan in memory.
        """
        in_columns = self.source.values.sum(axis=0)
        return partial(_centroid, self.source.runs, in_columns, self.rows, self.total)


def _centroid(
    runs: tuple[slice, ...],
    in_columns: NDArray[np.float64],
    rows: slice,
    in_rows: NDArray[np.float64],
) -> tuple[float, float]:
    """Return the centroid (column, row) of the aperture weights.

    `in_columns` is the sum of the weights in each column of `runs`, and `in_rows` is the sum of the
    weights in each row of `rows`.
    """
    column = float(column_numbers(runs) @ in_columns / in_columns.sum())
    row = float(np.arange(rows.start, rows.stop) @ in_rows / in_rows.sum())
    return column, row


def block_steps(image: SlitImage, plan: BoxPlan) -> tuple[int, int]:
    """Return the number of integrations and the number of rows in a block."""
    # For a stack, a block also contains the variances.
    parts = BLOCKS_PER_IMAGE * (2 if image.is_stack else 1)
    pixels = min(image.data.size // parts, BLOCK_PIXELS)
    rows = max(pixels // plan.columns.width - plan.padding, 1)
    n_blocks = -(-plan.n_rows // rows)
    row_step = -(-plan.n_rows // n_blocks)  # blocks of equal size
    return rows // row_step, row_step
