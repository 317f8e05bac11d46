"""Sums of a box extraction: pixels, flux, background and their variances."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.apertures.background_fit import spread
from glue_lrs.apertures.weights import weighted_sum
from glue_lrs.extraction.base import NO_PIXELS
from glue_lrs.extraction.box_plan import (
    BACKGROUND_SUMS,
    FLUX_SUMS,
    N_SUMS,
    PIXEL_SUM,
    block_steps,
    column_numbers,
)
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.columns import COLUMNS

if TYPE_CHECKING:
    from glue_lrs.apertures.background_fit import BackgroundFit
    from glue_lrs.extraction.box_plan import BoxPlan, ColumnRuns, WeightedColumns
    from glue_lrs.image.slit_image import SlitImage

__all__ = ["sum_box"]

_VARIANCES = ("var_poisson", "var_rnoise", "var_flat")

#: Columns in double precision: flux, surface brightness and background, each with its error and the
#: three variances; and the number of pixels.
_NUMBERS = tuple(name for name in COLUMNS if name not in ("WAVELENGTH", "DQ"))


def sum_box(image: SlitImage, plan: BoxPlan, scale: float) -> tuple[dict[str, NDArray[Any]], int]:
    """The columns but for WAVELENGTH, and the number of rows that have no background."""
    planes = {
        name: np.asarray(plane)  # slicing a memory map costs more than reading it
        for name in ("data", "err", *_VARIANCES, "dq")
        for plane in [getattr(image, name)]
        if plane is not None
    }
    rows = plan.number_of_rows
    number = len(image.data) if image.is_stack else 1
    shape = (number, rows) if image.is_stack else (rows,)
    step, row_step = block_steps(image, plan)
    sums = np.empty((N_SUMS, *shape))
    regionless = 0
    for first in range(0, number, step):
        at = (slice(first, min(first + step, number)),) if image.is_stack else ()
        part = sums[(slice(None), *at)]
        for start in range(0, rows, row_step):
            block = slice(start, min(start + row_step, rows))
            regionless += _sum_block(image, planes, plan, part[..., block], at, block)
        factor = _factor(plan, part[PIXEL_SUM])
        if first == 0:  # not before the sums of a single image: they take memory as well
            bright, flags = np.empty((5, *shape)), np.empty(shape, dtype=np.uint32)
        _scale(scale, factor, part, bright[(slice(None), *at)], flags[at])
    numbers = (*sums[FLUX_SUMS], *bright, *sums[BACKGROUND_SUMS], sums[PIXEL_SUM])
    return dict(zip(_NUMBERS, numbers, strict=True)) | {"DQ": flags}, regionless


@dataclass(frozen=True, eq=False)
class _Window:
    """The pixels of a block: columns of the aperture first, then those of the background."""

    planes: dict[str, NDArray[Any]]
    where: tuple[slice, ...]
    columns: ColumnRuns
    kept: dict[str, NDArray[Any]] = field(default_factory=dict)

    def read(self) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The data, NaN where a pixel has no value; and where a variance is infinite, if anywhere.

        NaN in any plane, or DQ bit 0, takes the value from a pixel.
        """
        data = self.columns.cut(self.planes["data"], self.where)
        bad = np.isnan(data)
        infinite = None
        for name, plane in self.planes.items():
            if name in ("data", "dq"):
                continue
            values = self.columns.cut(plane, self.where)
            odd = np.isfinite(values)
            number = odd.size - np.count_nonzero(odd)
            if number:  # seldom: then it matters which
                np.isnan(values, out=odd)
                bad |= odd
                if number > np.count_nonzero(odd) and name != "err":
                    odd = np.isinf(values)
                    infinite = odd if infinite is None else infinite | odd
            if values.ndim == 3 and name != "err":
                self.kept[name] = values  # cheap beside a stack, and dear to read twice
            del values, odd
        if "dq" in self.planes:
            flags = self.columns.cut(self.planes["dq"], self.where)
            flags &= flags.dtype.type(DO_NOT_USE)
            if np.count_nonzero(flags):
                bad |= flags.astype(bool)
        if np.count_nonzero(bad):
            np.copyto(data, np.nan, where=bad)
        return data, infinite

    def variance(self, name: str, inner: slice) -> NDArray[Any] | None:
        """One of the variances, for the inner rows; None where the image has none."""
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
) -> int:
    """Sum up a block of rows; return the number of rows without background.

    Sums are the pixels; the data less background, and the variances of that without those of the
    background; and the background and its variances.
    """
    rows = slice(plan.rows.start + block.start, plan.rows.start + block.stop)
    wide = slice(max(rows.start - plan.halo, 0), min(rows.stop + plan.halo, image.shape[0]))
    inner = slice(rows.start - wide.start, rows.stop - wide.start)
    split, weights = plan.source.width, plan.source.weights(block)
    pixels, flux, back = sums[PIXEL_SUM], sums[FLUX_SUMS][0], sums[BACKGROUND_SUMS][0]

    window = _Window(planes, (*at, wide), plan.columns)
    data, infinite = window.read()
    fit = None
    if plan.background is not None and plan.region is not None:
        smoothed = None
        if plan.halo:
            smoothed = plan.background.smooth(data[..., split:])[..., inner, :]
            data = data[..., inner, :]
            infinite = None if infinite is None else infinite[..., inner, :]
        invalid = np.isfinite(data)  # all columns, as numpy takes memory to work on some of them
        np.logical_not(invalid, out=invalid)
        if infinite is not None:
            invalid |= infinite
        fit = _fit_background(image, plan, data, invalid, smoothed, block)
        del smoothed, invalid
    del infinite
    source = data[..., :split]
    regionless = 0
    if fit is not None and np.count_nonzero(fit.empty):
        # of no matter where the aperture has no pixel either
        regionless = int(np.count_nonzero(fit.empty & np.isfinite(source).any(axis=-1)))
    if fit is not None and fit.level is not None:
        with np.errstate(invalid="ignore"):
            source -= fit.level[..., np.newaxis]
    discard = np.isfinite(data)  # of all columns: see above
    np.logical_not(discard, out=discard)
    drop = discard[..., :split]
    if not plan.source.full:
        drop |= weights == 0
    dropped = bool(drop.any())
    if dropped:
        np.copyto(source, 0, where=drop)
        pixels[...] = weighted_sum(~drop, weights)
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
            reach = (~drop * weights if dropped else weights) @ _basis(image, plan.source, terms)
            back[...] = (fit.coefficients * reach).sum(axis=-1)
        flux -= back
    elif fit.level is not None:
        with np.errstate(invalid="ignore", over="ignore"):
            np.multiply(fit.level, pixels, out=back)
        back[~np.isfinite(back)] = 0.0

    squared = weights**2
    if fit is not None:
        np.logical_not(fit.used, out=discard[..., split:])
        gain = np.square(fit.response)
        del fit
    for in_flux, in_back, name in zip(
        sums[FLUX_SUMS][2:], sums[BACKGROUND_SUMS][2:], _VARIANCES, strict=True
    ):
        variance = window.variance(name, inner)
        if variance is None:
            in_flux[...] = in_back[...] = 0.0
            continue
        np.copyto(variance, 0.0, where=discard)
        in_flux[...] = weighted_sum(variance[..., :split], squared)
        if plan.region is not None:
            in_back[...] = spread(variance[..., split:], gain)
        del variance
    return regionless


def _fit_background(
    image: SlitImage,
    plan: BoxPlan,
    data: NDArray[Any],
    invalid: NDArray[np.bool_],
    smoothed: NDArray[Any] | None,
    block: slice,
) -> BackgroundFit:
    """The background of a block, of the columns that come after those of the aperture."""
    assert plan.background is not None  # the caller has looked
    assert plan.region is not None
    split = plan.source.width
    order = plan.background.bkg_order if plan.background.bkg_fit == "poly" else 0
    return plan.background.fit(
        data[..., split:],
        plan.region.weights(block) != 0,
        invalid[..., split:],
        _axis(image)[column_numbers(plan.region.runs)] if order else np.empty(0),
        plan.source.weights(block) @ _basis(image, plan.source, order + 1),
        smoothed,
    )


def _factor(plan: BoxPlan, pixels: NDArray[np.float64]) -> NDArray[np.float64] | float:
    """The aperture correction, which the pipeline reads at the pixels that are left."""
    if plan.correction is None:
        return 1.0
    if pixels.ndim == 1:
        return plan.correction(plan.wavelength, pixels)
    whole = plan.correction(plan.wavelength, plan.total[:1] if plan.source.uniform else plan.total)
    factor = np.array(np.broadcast_to(whole, pixels.shape))
    fewer = np.nonzero(plan.total - pixels > NO_PIXELS)  # of a stack these are few
    factor[fewer] = plan.correction(plan.wavelength[fewer[-1]], pixels[fewer])
    return factor


def _scale(
    scale: float,
    factor: NDArray[np.float64] | float,
    sums: NDArray[np.float64],
    bright: NDArray[np.float64],
    flags: NDArray[np.uint32],
) -> None:
    """Turn sums into what the columns mean, in place; fill surface brightness and DQ."""
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
    with np.errstate(invalid="ignore"):  # negative variances, which are told of
        for _, error, poisson, rnoise, flat in (flux, bright, back):
            np.add(poisson, rnoise, out=error)
            error += flat
            np.sqrt(error, out=error)


def _axis(image: SlitImage) -> NDArray[np.float64]:
    """The coordinate that backgrounds are polynomials of: -1 to 1 over the columns."""
    return np.linspace(-1.0, 1.0, image.shape[1])


def _basis(image: SlitImage, part: WeightedColumns, terms: int) -> NDArray[np.float64]:
    """Powers of the coordinate at the columns of a part, shape (column, terms)."""
    if terms == 1:
        return np.ones((part.values.shape[1], 1))
    return np.vander(_axis(image)[column_numbers(part.runs)], terms, increasing=True)
