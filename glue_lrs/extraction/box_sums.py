"""Sums over the aperture in a box extraction: weights, flux, background and variances."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.parallel import for_each
from glue_lrs.apertures.background_fit import spread
from glue_lrs.apertures.weights import weighted_sum
from glue_lrs.extraction.box_plan import (
    BACKGROUND_SUMS,
    FLUX_SUMS,
    N_SUMS,
    PIXEL_SUM,
    block_steps,
    column_numbers,
)
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.column_checks import NO_PIXELS
from glue_lrs.spectra.columns import COLUMNS

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Mask
    from glue_lrs.apertures.background_fit import BackgroundFit
    from glue_lrs.extraction.box_plan import BoxPlan, ColumnRuns, WeightedColumns
    from glue_lrs.image.slit_image import SlitImage

_VARIANCES = ("var_poisson", "var_rnoise", "var_flat")

#: Columns in double precision: flux, surface brightness and background, each with its error and
#: three variances, and the number of pixels.
_FLOAT_COLUMNS = tuple(name for name in COLUMNS if name not in ("WAVELENGTH", "DQ"))


def sum_box(image: SlitImage, plan: BoxPlan, scale: float) -> tuple[dict[str, NDArray[Any]], Mask]:
    """Sum the pixels of an aperture in each row.

    Parameters
    ----------
    image : SlitImage
        Image or stack of integrations to extract.
    plan : BoxPlan
        Rows, weights and corrections for this image.
    scale : float
        Factor that converts a sum over pixels to a flux.

    Returns
    -------
    columns : dict of ndarray
        All columns of the spectrum except WAVELENGTH.
    without_background : ndarray of bool
        Mask of the values with a flux, but without a background that was to be subtracted.
    """
    planes: dict[str, Any] = {
        # Slicing a memory map is slower than slicing an array.
        name: np.asarray(plane) if isinstance(plane, np.ndarray) else plane
        for name in ("data", "err", *_VARIANCES, "dq")
        for plane in [getattr(image, name)]
        if plane is not None
    }
    rows = plan.n_rows
    number = len(image.data) if image.is_stack else 1
    shape = (number, rows) if image.is_stack else (rows,)
    step, row_step = block_steps(image, plan)
    sums = np.empty((N_SUMS, *shape))
    without_background = np.zeros(shape, dtype=bool)

    def place(first: int) -> tuple[slice, ...]:
        return (slice(first, min(first + step, number)),) if image.is_stack else ()

    def add(first: int) -> NDArray[np.float64] | float:
        at = place(first)
        part = sums[(slice(None), *at)]
        for start in range(0, rows, row_step):
            block = slice(start, min(start + row_step, rows))
            without_background[(*at, block)] = _sum_block(
                image, planes, plan, part[..., block], at, block
            )
        return _factor(plan, part[PIXEL_SUM])

    def scale_sums(first: int, factor: NDArray[np.float64] | float) -> None:
        at = (slice(None), *place(first))
        _scale(scale, factor, sums[at], bright[at], flags[at[1:]])

    factor = add(0)
    # allocated only after the first sums, to reduce the peak memory
    bright, flags = np.empty((5, *shape)), np.empty(shape, dtype=np.uint32)
    scale_sums(0, factor)
    for_each(lambda first: scale_sums(first, add(first)), range(step, number, step))
    numbers = (*sums[FLUX_SUMS], *bright, *sums[BACKGROUND_SUMS], sums[PIXEL_SUM])
    return dict(zip(_FLOAT_COLUMNS, numbers, strict=True)) | {"DQ": flags}, without_background


@dataclass(frozen=True, eq=False)
class _Window:
    """Pixels of a block of rows: the columns of the aperture, then those of the background.

    Parameters
    ----------
    planes : dict of ndarray
        Data, errors, variances and DQ of the whole image, by attribute name.
    where : tuple of slice
        Index of the block in the planes: (rows,) for an image, (integrations, rows) for a stack.
    columns : ColumnRuns
        Columns of the block.
    kept : dict of ndarray
        Variances of a stack, which `read` stores so that `variance` need not read them again.
    """

    planes: dict[str, NDArray[Any]]
    where: tuple[slice, ...]
    columns: ColumnRuns
    kept: dict[str, NDArray[Any]] = field(default_factory=dict)

    def read(self) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Return the data, and the mask of pixels with infinite variances (None if there are none).

        The data are NaN in lost pixels, which are pixels that are NaN in any plane or have DQ
        bit 0.
        """
        data = self.columns.cut(self.planes["data"], self.where)
        bad = np.isnan(data)
        infinite = None
        for name, plane in self.planes.items():
            if name in ("data", "dq"):
                continue
            values = self.columns.cut(plane, self.where)
            mask = np.isfinite(values)
            n_not_finite = mask.size - np.count_nonzero(mask)
            if n_not_finite:  # this is rare
                np.isnan(values, out=mask)
                bad |= mask
                if n_not_finite > np.count_nonzero(mask) and name != "err":
                    mask = np.isinf(values)
                    infinite = mask if infinite is None else infinite | mask
            if values.ndim == 3 and name != "err":
                self.kept[name] = values  # small compared to the stack, and slow to read again
            del values, mask
        if "dq" in self.planes:
            flags = self.columns.cut(self.planes["dq"], self.where)
            flags &= flags.dtype.type(DO_NOT_USE)
            if np.count_nonzero(flags):
                bad |= flags.astype(bool)
        if np.count_nonzero(bad):
            np.copyto(data, np.nan, where=bad)
        return data, infinite

    def variance(self, name: str, inner: slice) -> NDArray[Any] | None:
        """Return a variance plane in rows `inner` of the block, or None if the image lacks it."""
        if name in self.kept:
            return self.kept.pop(name)[..., inner, :]
        if name not in self.planes:
            return None
        rows = self.where[-1]
        rows = slice(rows.start + inner.start, rows.start + inner.stop)
        return self.columns.cut(self.planes[name], (*self.where[:-1], rows))


def _sum_block(
    image: SlitImage,
    planes: dict[str, NDArray[Any]],
    plan: BoxPlan,
    sums: NDArray[np.float64],
    at: tuple[slice, ...],
    block: slice,
) -> Mask | bool:
    """Sum a block of rows, and return the mask of its values without a background.

    The results are written to `sums`: the sum of the weights, the flux (data minus background) with
    its variances from the pixels in the aperture, and the background with its variances. Arrays are
    deleted early to reduce the peak memory.
    """
    rows = slice(plan.rows.start + block.start, plan.rows.start + block.stop)
    wide = slice(max(rows.start - plan.padding, 0), min(rows.stop + plan.padding, image.shape[0]))
    inner = slice(rows.start - wide.start, rows.stop - wide.start)
    split, weights = plan.source.width, plan.source.weights(block)
    pixels, flux, back = sums[PIXEL_SUM], sums[FLUX_SUMS][0], sums[BACKGROUND_SUMS][0]

    window = _Window(planes, (*at, wide), plan.columns)
    data, infinite = window.read()
    fit = None
    if plan.background is not None and plan.region is not None:
        smoothed = None
        if plan.padding:
            smoothed = plan.background.smooth(data[..., split:])[..., inner, :]
            data = data[..., inner, :]
            infinite = None if infinite is None else infinite[..., inner, :]
        # The mask is computed for all columns, because NumPy would allocate buffers for an
        # operation on some of the columns.
        invalid = np.isfinite(data)
        np.logical_not(invalid, out=invalid)
        if infinite is not None:
            invalid |= infinite
        fit = _fit_background(image, plan, data, invalid, smoothed, block)
        del smoothed, invalid
    del infinite
    source = data[..., :split]
    without_background: Mask | bool = False
    if fit is not None and np.count_nonzero(fit.empty):
        # Rows without a valid pixel in the aperture are not included because they have no flux.
        without_background = fit.empty & np.isfinite(source).any(axis=-1)
    if fit is not None and fit.level is not None:
        with np.errstate(invalid="ignore"):
            source -= fit.level[..., np.newaxis]
    excluded = np.isfinite(data)  # in all columns for the same reason as `invalid`
    np.logical_not(excluded, out=excluded)
    source_excluded = excluded[..., :split]
    if not plan.source.full:
        source_excluded |= weights == 0
    any_excluded = bool(source_excluded.any())
    if any_excluded:
        np.copyto(source, 0, where=source_excluded)
        pixels[...] = weighted_sum(~source_excluded, weights)
    else:
        pixels[...] = weights.sum(axis=-1)
    flux[...] = weighted_sum(source, weights)
    del data, source
    if fit is None:
        sums[BACKGROUND_SUMS] = 0.0
    elif fit.coefficients is not None:
        terms = fit.coefficients.shape[-1]
        if terms == 1:
            np.multiply(fit.coefficients[..., 0], pixels, out=back)
        else:
            included = ~source_excluded * weights if any_excluded else weights
            in_aperture = included @ _basis(image, plan.source, terms)
            back[...] = (fit.coefficients * in_aperture).sum(axis=-1)
            del included
        flux -= back
    elif fit.level is not None:
        with np.errstate(invalid="ignore", over="ignore"):
            np.multiply(fit.level, pixels, out=back)
        back[~np.isfinite(back)] = 0.0

    squared_response = None
    if fit is not None:
        np.logical_not(fit.used, out=excluded[..., split:])
        squared_response = np.square(fit.response)
        del fit
    _sum_variances(window, inner, excluded, weights, squared_response, sums)
    return without_background


def _sum_variances(
    window: _Window,
    inner: slice,
    excluded: NDArray[np.bool_],
    weights: NDArray[np.float64],
    squared_response: NDArray[np.float64] | None,
    sums: NDArray[np.float64],
) -> None:
    """Write the variances of flux and background, summed over the pixels of a block, to `sums`.

    `squared_response` is the square of `BackgroundFit.response`, or None without a background.
    """
    split = weights.shape[-1]
    squared = weights**2
    for in_flux, in_back, name in zip(
        sums[FLUX_SUMS][2:], sums[BACKGROUND_SUMS][2:], _VARIANCES, strict=True
    ):
        variance = window.variance(name, inner)
        if variance is None:
            in_flux[...] = in_back[...] = 0.0
            continue
        np.copyto(variance, 0.0, where=excluded)
        in_flux[...] = weighted_sum(variance[..., :split], squared)
        if squared_response is not None:
            in_back[...] = spread(variance[..., split:], squared_response)
        del variance


def _fit_background(
    image: SlitImage,
    plan: BoxPlan,
    data: NDArray[Any],
    invalid: NDArray[np.bool_],
    smoothed: NDArray[Any] | None,
    block: slice,
) -> BackgroundFit:
    """Fit the background of a block to the pixels in the background regions."""
    assert plan.background is not None
    assert plan.region is not None
    split = plan.source.width
    order = plan.background.order
    return plan.background.fit(
        data[..., split:],
        plan.region.weights(block) != 0,
        invalid[..., split:],
        _axis(image)[column_numbers(plan.region.runs)] if order else np.empty(0),
        plan.source.weights(block) @ _basis(image, plan.source, order + 1),
        smoothed,
    )


def _factor(plan: BoxPlan, pixels: NDArray[np.float64]) -> NDArray[np.float64] | float:
    """Return the aperture correction for each row, or 1 if no correction is applied.

    As in the pipeline, the aperture size is the sum of the weights without lost pixels.
    """
    if plan.correction is None:
        return 1.0
    if pixels.ndim == 1:
        return plan.correction(plan.wavelength, pixels)
    size = plan.total[:1] if plan.source.uniform else plan.total
    factor = np.array(np.broadcast_to(plan.correction(plan.wavelength, size), pixels.shape))
    # Usually only a few rows in a stack have lost pixels.
    incomplete = np.nonzero(plan.total - pixels > NO_PIXELS)
    factor[incomplete] = plan.correction(plan.wavelength[incomplete[-1]], pixels[incomplete])
    return factor


def _scale(
    scale: float,
    factor: NDArray[np.float64] | float,
    sums: NDArray[np.float64],
    bright: NDArray[np.float64],
    flags: NDArray[np.uint32],
) -> None:
    """Convert sums to flux and mean background in place, and compute surface brightness and DQ."""
    pixels, flux, back = sums[PIXEL_SUM], sums[FLUX_SUMS], sums[BACKGROUND_SUMS]
    flux[2:] += back[2:]
    none = pixels <= NO_PIXELS
    area = pixels
    if none.any():
        np.copyto(flux, np.nan, where=none)
        np.copyto(back[2:], np.nan, where=none)
        area = np.where(pixels > 0, pixels, 1.0)
    flags[...] = np.isnan(flux[0])
    to_flux = factor * scale
    np.divide(factor, area, out=bright[0])
    np.multiply(flux[2:], bright[0], out=bright[2:])
    bright[2:] *= bright[0]
    bright[0] *= flux[0]
    flux[0] *= to_flux
    flux[2:] *= to_flux
    flux[2:] *= to_flux
    back[0] /= area
    back[2:] /= area
    back[2:] /= area
    # The square root of negative variances is NaN. `BoxExtractor` warns about them.
    with np.errstate(invalid="ignore"):
        for _, error, poisson, rnoise, flat in (flux, bright, back):
            np.add(poisson, rnoise, out=error)
            error += flat
            np.sqrt(error, out=error)


def _axis(image: SlitImage) -> NDArray[np.float64]:
    """Return the coordinate for background polynomials, from -1 to 1 across the image's columns."""
    return np.linspace(-1.0, 1.0, image.shape[1])


def _basis(image: SlitImage, part: WeightedColumns, terms: int) -> NDArray[np.float64]:
    """Return the powers of the background polynomials' coordinate, shape (column, terms)."""
    if terms == 1:
        return np.ones((part.values.shape[1], 1))
    return np.vander(_axis(image)[column_numbers(part.runs)], terms, increasing=True)
