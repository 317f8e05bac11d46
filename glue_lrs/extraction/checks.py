"""Checks of a box extraction that need sums over the image, but no fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import Hint
from glue_lrs.extraction.box_plan import column_numbers
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.findings import NEGLIGIBLE, SIGNIFICANT, Finding

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.extraction.box_plan import BoxPlan
    from glue_lrs.image.slit_image import SlitImage

#: Number of ranges of rows in which the columns beside the aperture are compared with it.
_RANGES = 8

#: Number of columns beside the aperture that a fit of a level and of wings needs.
_MIN_COLUMNS = 6

#: Median absolute deviation of a normal distribution, in units of the standard deviation.
_MAD = 0.6745

#: Approximate number of pixels from which the level is determined, in regularly spaced integrations
#: and rows. Reading all pixels of a stack would take longer than the extraction.
_SAMPLE = 4096

#: Step in rows for the mean column of the aperture: its edges differ little between rows.
_EVERY = 16

#: Maximum number of integrations from which the level is determined.
_INTEGRATIONS = 4


class BackgroundLevel(NamedTuple):
    """First row, level of the columns beside the aperture and its error, in each range of rows.

    Level and error are NaN if there are too few columns.
    """

    starts: NDArray[np.intp]
    level: Array
    error: Array


def background_level(image: SlitImage, plan: BoxPlan) -> BackgroundLevel | None:
    """Return the level of the columns beside the aperture, if no background is subtracted.

    In several ranges of rows, the sum of a constant and of the wings of the source, which decrease
    with the square of the distance, is fitted to the columns.

    Parameters
    ----------
    image : SlitImage
        Image or stack of integrations that is extracted.
    plan : BoxPlan
        Rows and weights of the extraction.
    """
    if plan.background is not None or image.is_extended_source:
        return None
    ranges = min(_RANGES, plan.n_rows)
    starts = np.arange(ranges) * (plan.n_rows // ranges)
    return BackgroundLevel(starts, *_levels(image, plan, starts))


def background_left(
    image: SlitImage, plan: BoxPlan, found: BackgroundLevel, columns: dict[str, NDArray[Any]]
) -> list[Finding]:
    """Return a finding if the level beside the aperture is part of what was extracted.

    Parameters
    ----------
    image : SlitImage
        Image that is extracted.
    plan : BoxPlan
        Rows and weights of the extraction.
    found : BackgroundLevel
        Result of `background_level`.
    columns : dict of ndarray
        Column SURF_BRIGHT of the spectrum for all rows of the plan.
    """
    starts, level, error = found
    subtracted = image.is_background_subtracted  # maybe too much
    significant = (np.abs(level) if subtracted else level) > SIGNIFICANT * error
    if not significant.any():
        return []
    middle = (starts + np.append(starts[1:], plan.n_rows)) // 2
    total, count = _sums_in_ranges(columns["SURF_BRIGHT"].reshape(-1, plan.n_rows), starts)
    if plan.correction is not None:
        total = total / plan.correction(plan.wavelength[middle], plan.total[middle])
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = level * count / total
    if subtracted:
        fraction = np.abs(fraction)
    left = (significant & (count > 0) & ~(fraction < NEGLIGIBLE)).nonzero()[0]
    # What the model of the sources leaves of them is alike in few ranges only.
    if left.size < (starts.size / 2 if subtracted else 1):
        return []
    order = np.abs(fraction[left])
    wave = plan.wavelength[middle[left]]
    low, high = int(order.argmin()), int(order.argmax())
    text = f"{order[high]:.0%} (at {wave[high]:.1f} um)"
    if low != high:
        text = f"{order[low]:.0%} (at {wave[low]:.1f} um) to {text}"
    stated = "no background was subtracted (S_BKDSUB is not COMPLETE)"
    if subtracted:
        stated = "a background was subtracted according to S_BKDSUB"
    return [
        Finding(
            "background_left",
            f"{stated}, and the level of the columns beside the aperture is {text} of what was "
            "extracted",
            {"lowest": float(order[low]), "highest": float(order[high])},
            Hint.to("{} places regions beside the source to subtract the level", background="auto"),
        )
    ]


def _sums_in_ranges(bright: Array, starts: NDArray[np.intp]) -> tuple[Array, NDArray[Any]]:
    """Return the sum and the number of the finite values in each range of rows.

    `bright` has the shape (integration, row).
    """
    total = np.add.reduceat(bright.sum(axis=0), starts)
    if np.isfinite(total).all():
        return total, len(bright) * np.diff(starts, append=bright.shape[1])
    known = np.isfinite(bright)
    total = np.add.reduceat(np.where(known, bright, 0.0).sum(axis=0), starts)
    return total, np.add.reduceat(known.sum(axis=0), starts)


def _levels(image: SlitImage, plan: BoxPlan, starts: NDArray[np.intp]) -> tuple[Array, Array]:
    """Return the level beside the aperture and its error in each range of rows.

    The error is estimated from the scatter of the columns. Both are NaN if there are too few.
    """
    inside = column_numbers(plan.source.runs)
    total, count = _column_sums(image, plan, starts.size)
    weights = plan.source.values[::_EVERY].sum(axis=0)
    centre = float(weights @ inside / weights.sum())
    complete = (count == count[0, 0]).all()
    usable = np.ones(count.shape[1], dtype=bool)
    if not complete:
        usable = (2 * count >= count.max(axis=1, keepdims=True)).all(axis=0)
    usable[max(inside[0] - 1, 0) : inside[-1] + 2] = False  # with a margin of one column
    columns = usable.nonzero()[0]
    mean = total[:, columns] / np.maximum(count[:, columns], 1)
    return _robust_level(mean, np.asarray(columns - centre, dtype=float))


def _robust_level(mean: Array, distance: Array) -> tuple[Array, Array]:
    """Return level and error from `_fit_level`, without columns that contain other sources."""
    if distance.size < _MIN_COLUMNS:
        unknown = np.full(len(mean), np.nan)
        return unknown, unknown
    level, error, residual = _fit_level(mean, distance)
    deviation = np.abs(residual.sum(axis=0))
    kept = deviation <= SIGNIFICANT / _MAD * np.sort(deviation)[distance.size // 2]
    number = np.count_nonzero(kept)
    if number < distance.size:  # other sources or bad pixels are there
        if number < _MIN_COLUMNS:
            return np.full_like(level, np.nan), np.full_like(error, np.nan)
        level, error, _ = _fit_level(mean[:, kept], distance[kept])
    return level, error


def _column_sums(image: SlitImage, plan: BoxPlan, ranges: int) -> tuple[Array, NDArray[np.intp]]:
    """Return the sum and the number of the pixels in a sample of each range of rows.

    The ranges have equal numbers of rows. Both results have the shape (range, column).
    """
    length, columns = plan.n_rows // ranges, image.shape[1]
    step = -(-len(image.data) // _INTEGRATIONS) if image.is_stack else 1
    number = -(-len(image.data) // step) if image.is_stack else 1
    row_step = min(max(number * plan.n_rows * columns // _SAMPLE, 1), length)

    def sample(plane: NDArray[Any]) -> NDArray[Any]:
        rows = slice(plan.rows.start, plan.rows.start + ranges * length)
        part = plane[::step, rows] if image.is_stack else plane[np.newaxis, rows]
        return part.reshape(-1, ranges, length, columns)[:, :, ::row_step]

    data = sample(image.data)
    good = np.isfinite(data)
    if image.dq is not None:
        good &= (sample(image.dq) & DO_NOT_USE) == 0
    if good.all():
        count = np.full((ranges, columns), data.shape[0] * data.shape[2])
        return data.sum(axis=(0, 2), dtype=float), count
    return np.where(good, data, 0.0).sum(axis=(0, 2), dtype=float), good.sum(axis=(0, 2))


def _fit_level(mean: Array, distance: NDArray[Any]) -> tuple[Array, Array, Array]:
    """Fit a level and wings that decrease with the square of the distance to means of columns.

    Parameters
    ----------
    mean : ndarray
        Mean of each column in each range of rows, shape (range, column).
    distance : ndarray
        Distance of each column from the source, shape (column,).

    Returns
    -------
    level, error, residual : ndarray
        Level and its error in each range, and the residual of each column, which is linear in the
        mean.
    """
    number = distance.size
    wings = 1.0 / (distance * distance)
    middle = float(wings.sum()) / number
    contrast = wings - middle
    power = float(contrast @ contrast)
    slope, average = mean @ contrast / power, mean.sum(axis=1) / number
    residual = mean - average[:, np.newaxis] - slope[:, np.newaxis] * contrast
    variance = np.einsum("rc,rc->r", residual, residual) / (number - 2)
    error = np.sqrt(variance * (1.0 / number + middle**2 / power))
    return average - slope * middle, error, residual
