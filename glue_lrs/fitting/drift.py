"""Drift: position and width of the sources in each integration of a stack.

The sources are modelled in the mean of some of the integrations (`glue_lrs.fitting.source_model`).
The difference of an integration from this model is projected onto the derivatives of the model with
respect to the position and the logarithm of the width, from which the profiles and the background
of each row are projected out. The projections are summed in bands of rows, so that the flux of the
source may change with the wavelength, and a pixel that is hit by a cosmic ray affects one band
only. Position and width are robust means over the bands.

The projections are linear in the position. An integration that is more than a tenth of a column
from the model is therefore compared with a model that is shifted by tenths of a column.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from glue_lrs._utils.statistics import SIGMA_PER_MAD, masked_median, nanmedian
from glue_lrs.errors import LRSError
from glue_lrs.fitting.cutout import SlitCutout
from glue_lrs.fitting.engine import SlitFit, correlation
from glue_lrs.fitting.least_squares import invert_ridge
from glue_lrs.fitting.source_model import SourceModel, profile_images
from glue_lrs.fitting.source_search import search_residuals
from glue_lrs.image.patched_plane import MarkedFlags
from glue_lrs.image.pixels import lost_pixels
from glue_lrs.image.stack import stack_in_memory, stack_part
from glue_lrs.instrument import DO_NOT_USE, PIXEL_SCALE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.image.slit_image import SlitImage

#: Number of integrations from which the model is made, evenly spaced in the stack.
_SAMPLE = 64

#: Largest difference of the relative flux between the integrations from which the model is made;
#: and fraction of the brightest pixel of a row above which pixels are used to measure this flux.
_FLUX, _BRIGHT = 0.1, 0.3

#: Maximum number of sources in the model.
_MAX_SOURCES = 6

#: If the positions in the sample differ by more than `_BLURRED` columns, the mean image is blurred.
#: The model is then fitted again, to integrations within `_SHARP` columns of the most frequent
#: position, but to at least `_FEWEST`.
_BLURRED, _SHARP, _FEWEST = 0.1, 0.05, 5

#: Maximum number of pixels that are read at once.
_BLOCK_PIXELS = 1 << 21

#: Number of rows in a band.
_BAND = 32

#: A pixel is an outlier if its residual exceeds the sum of two terms. The second term is included
#: because a shift of the source causes residuals that are proportional to its flux.
_OUTLIER, _OUTLIER_FRACTION = (
    6.0,  # first term in standard deviations
    0.1,  # second term as a fraction of the source model
)

#: Step and maximum of the shifts of the model in columns, and maximum number of iterations.
_GRID, _FARTHEST, _ROUNDS = 0.1, 3.0, 12

#: Distances from the shifted model in units of `_GRID`. Up to the first, the model is not shifted
#: again. Beyond the second, pixels are rejected only by the wider limits for large shifts.
_NEAR, _NEAR_FAR = 0.6, 5.0

#: Columns on either side of the source that are compared, in standard deviations of the core at the
#: longest wavelength.
_REACH = 7.0

#: Fraction of the information about position and width that the used pixels of a band must contain.
_INFORMATION = 0.5

#: Fraction of the light of the source that an aperture must contain to be corrected for drift.
_LEAST_LIGHT = 0.05

#: Derivatives of the profile (see `profile_images`) with respect to shift and width.
_CHANGES = ("shift", "core")

#: Deviation of a band in standard deviations above which it gets less weight (Huber).
_HUBER = 1.5


@dataclass(frozen=True, eq=False)
class Drift:
    """Position and width of the sources in each integration of a stack.

    Parameters
    ----------
    shift, shift_error : ndarray
        Displacement of the sources from their mean position in columns, and its 1-sigma error,
        shape (integration,). NaN for an integration without data.
    width, width_error : ndarray
        Width of the core of the profile divided by that of the model, and its 1-sigma error.
    """

    shift: Array
    shift_error: Array
    width: Array
    width_error: Array

    def __post_init__(self) -> None:
        shapes = {getattr(self, field.name).shape for field in fields(self)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise LRSError(f"a drift has the shapes {sorted(shapes)}, expected (integration,)")

    def __getitem__(self, where: slice | NDArray[Any]) -> Drift:
        """Return the drift of some of the integrations."""
        return Drift(**{field.name: getattr(self, field.name)[where] for field in fields(self)})


@dataclass(frozen=True, eq=False)
class _Kernels:
    """Model at one shift, and the kernels with which the pixels are summed.

    Parameters
    ----------
    model, sources : ndarray
        Model of the image and its part without background, shape (row, column).
    kernels : ndarray
        Weights of the pixels for the flux, the shift and the width, shape (3, row, column).
    derivatives : ndarray
        Derivatives with respect to flux, shift and width, same shape.
    """

    model: NDArray[np.float32]
    sources: NDArray[np.float32]
    kernels: NDArray[np.float32]
    derivatives: NDArray[np.float32]


class DriftModel:
    """Model of the sources in the mean of a stack, with which integrations are compared.

    Parameters
    ----------
    model : SourceModel
        Model of the mean image, with the final weights of the pixels.
    fit : SlitFit
        Converged fit of the mean image.
    number : int
        Number of integrations in the mean.

    Attributes
    ----------
    zero : float
        Shift relative to the model at the zero point of the returned shifts, in columns.
    """

    def __init__(self, model: SourceModel, fit: SlitFit, number: int) -> None:
        self.slit, self.fit = model.slit, fit
        self.correlation = correlation(model, fit)
        self.zero = 0.0
        # Only the columns near the brightest source are compared.
        slit, brightest = model.slit, int(np.argmax(fit.linear.strength))
        trace = fit.parameters.geometry(slit).traces[brightest]
        reach = _REACH * float(slit.core.max())
        ends = np.searchsorted(slit.columns, (trace.min() - reach, trace.max() + reach))
        self._cut = cut = slice(int(ends[0]), max(int(ends[1]), int(ends[0]) + 1))
        self.columns = slit.columns[cut]
        self.good = model.good
        # The error of the flat field is the same in all integrations.
        self._weight = (model.good / model.noise_variance)[:, cut]
        self._variance = number * model.noise_variance[:, cut]
        light = np.abs(fit.linear.light[:, cut])
        limit = _OUTLIER * np.sqrt(self._variance) + _OUTLIER_FRACTION * light
        self._limit = limit.astype(np.float32)
        self._far_limit = (limit + light.max(axis=1, keepdims=True)).astype(np.float32)
        bands = max(round(slit.rows.size / _BAND), 1)
        edges = np.linspace(0, slit.rows.size, bands + 1).round().astype(int)
        self._starts, self._sizes = edges[:-1], np.diff(edges)
        self._band_of = np.repeat(np.arange(bands), self._sizes * self.columns.size)
        self._kernels: dict[int, _Kernels] = {}
        self._lights: tuple[Array, dict[int, Array]] = np.empty(0), {}

    @classmethod
    def from_stack(cls, image: SlitImage) -> DriftModel:
        """Fit the model to the mean of some of the integrations of a stack.

        Raises
        ------
        SourceError
            If there is no source.
        MeasurementError
            If there are too few rows, columns or good pixels to search for a source.
        """
        number = len(image.data)
        step = -(-number // _SAMPLE)
        sample = stack_in_memory(stack_part(image, slice((number - 1) % step // 2, None, step)))
        # In the mean of a star and its eclipse, pixels would be rejected as outliers.
        alike = _near_most(_relative_flux(sample), _FLUX)
        made = cls._fitted(stack_part(sample, alike))
        shift = made.measure(sample).shift
        known = shift[alike][np.isfinite(shift[alike])]
        if known.size and np.ptp(known) > _BLURRED:
            chosen = alike[_near_most(shift[alike], _SHARP)]
            made = cls._fitted(stack_part(sample, chosen))
            shift = made.measure(sample).shift
        made.zero = float(np.nanmean(shift)) if np.isfinite(shift).any() else 0.0
        return made

    @classmethod
    def _fitted(cls, image: SlitImage) -> DriftModel:
        model = SourceModel(SlitCutout.from_image(image, PIXEL_SCALE))
        return cls(model, search_residuals(model, _MAX_SOURCES), len(image.data))

    def measure(self, image: SlitImage) -> Drift:
        """Measure shift and width of the sources in each integration of a stack.

        Bad pixels and outliers do not contribute. The flat-field error does not contribute to the
        errors because it is the same in all integrations.
        """
        number, slit = len(image.data), self.slit
        made = np.full((4, number), np.nan)
        step = max(1, _BLOCK_PIXELS // (slit.rows.size * slit.columns.size))
        for first in range(0, number, step):
            block = slice(first, min(first + step, number))
            made[:, block] = self._block(image, block)
        made[0] -= self.zero
        return Drift(*made)

    def _block(self, image: SlitImage, block: slice) -> Array:
        """Return shift, its error, width and its error of a block, shape (4, integration)."""
        rows, columns = self.slit.rows, self.columns
        where = (block, slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        data = np.asarray(image.data[where], dtype=np.float32)
        good = ~lost_pixels(image, where)
        if rows.size < data.shape[1]:  # rows without data are left out
            data, good = data[:, rows - rows[0]], good[:, rows - rows[0]]
        made = np.full((4, len(data)), np.nan)
        pending = np.flatnonzero(good.any(axis=(1, 2)))
        state = np.zeros((len(data), 2), dtype=int)  # shift of the model, and whether it is far
        for _ in range(_ROUNDS):
            for step, far in np.unique(state[pending], axis=0).tolist():
                chosen = pending[(state[pending] == (step, far)).all(axis=1)]
                part = slice(None) if chosen.size == len(data) else chosen
                found = self._compare(self._at(step), data[part], good[part], bool(far))
                found[0] += step * _GRID
                made[:, chosen] = found
            shift = np.clip(made[0, pending], -_FARTHEST, _FARTHEST) / _GRID
            step, far = state[pending].T
            lost = np.isnan(shift)  # too many pixels were rejected as outliers
            moved = ~lost & ((np.abs(shift - step) > _NEAR) | (far == 1))
            state[pending[lost], 1] = 1
            state[pending[moved], 0] = shift[moved].round()
            state[pending[moved], 1] = np.abs(shift - step)[moved] > _NEAR_FAR
            pending = pending[moved | (lost & (far == 0))]
            if pending.size == 0:
                break
        made[[1, 3]] *= self.correlation
        return made

    def _compare(self, at: _Kernels, data: NDArray[np.float32], good: Mask, far: bool) -> Array:
        """Return shift and width relative to the model `at`, with errors, in the form of `_block`.

        If `far`, the source is so far from the model that wider limits for outliers apply.
        """
        allowed = self._far_limit if far else self._limit
        difference = data - at.model
        np.copyto(difference, 0.0, where=~good)
        flux = 1.0 + self._sums(at, difference, 0) / self._norm(at, 0, 0)
        residual, limit = np.empty_like(difference), np.empty_like(difference)
        for _ in range(2):  # an outlier changes the flux in the first round
            row_flux = np.repeat(flux, self._sizes, axis=1).astype(np.float32)[..., np.newaxis]
            np.multiply(row_flux - 1.0, at.sources, out=residual)
            np.subtract(difference, residual, out=residual)
            np.multiply(np.sqrt(np.maximum(row_flux, 1.0)), allowed, out=limit)
            used = np.abs(residual) <= limit
            used &= good
            residual *= used
            norm = self._norms(at, used, 0, 0)
            flux = flux + np.divide(
                self._sums(at, residual, 0), norm, out=np.zeros_like(flux), where=norm > 0
            )
        sums = np.stack([self._sums(at, residual, kind) for kind in (1, 2)], axis=-1)
        normal = np.empty((*flux.shape, 2, 2))
        power = np.empty((flux.shape[1], 2, 2))
        for i in range(2):
            for j in range(2):
                normal[..., i, j] = self._norms(at, used, i + 1, j + 1)
                power[:, i, j] = self._band_sums(
                    at.kernels[i + 1].astype(float) * at.kernels[j + 1] * self._variance
                )
        whole = np.stack([self._norm(at, 1, 1), self._norm(at, 2, 2)], axis=-1)
        enough = np.einsum("nbii->nbi", normal) > _INFORMATION * whole
        usable = enough.all(axis=-1) & (flux > 0)
        normal[~usable] = np.eye(2)
        inverse = np.linalg.inv(normal) / np.where(usable, flux, 1.0)[..., np.newaxis, np.newaxis]
        found = np.einsum("nbij,nbj->nbi", inverse, sums)
        variance = np.einsum("nbij,bjk,nbik->nbi", inverse, power, inverse)
        error = np.sqrt(np.where(usable[..., np.newaxis], variance, np.inf))
        values, errors = _robust_mean(found, error)
        return np.stack([values[:, 0], errors[:, 0], np.exp(values[:, 1]), errors[:, 1]])

    def light(self, drift: Drift, weights: Array) -> tuple[Array, Array]:
        """Return the fraction of a source's light that an aperture contains.

        The source is that with the most light in the aperture. Its wings beyond the image are not
        counted.

        Parameters
        ----------
        drift : Drift
            Shift and width of each integration. NaN is replaced by the mean.
        weights : ndarray
            Weights of the pixels of the image, shape (row, column).

        Returns
        -------
        fraction : ndarray
            Fraction in each integration, shape (integration, row), 1 in rows without a model.
        mean : ndarray
            Fraction for the mean position and width, shape (row,), 1 in rows without a model.
        """
        slit = self.slit
        inside = weights[np.ix_(slit.rows, slit.columns)]
        shift = np.clip(np.nan_to_num(drift.shift), -_FARTHEST, _FARTHEST)
        log_width = np.log(np.where(drift.width > 0, drift.width, 1.0))
        first, last = np.floor(shift.min() / _GRID) - 2, np.ceil(shift.max() / _GRID) + 2
        steps = range(int(min(first, -2)), int(max(last, 2)) + 1)
        nodes, values = np.array(steps) * _GRID, self._lights_of(steps, inside)
        unmoved = values[-steps.start, 0]
        strongest = int(np.argmax((unmoved * self.fit.linear.smooth).sum(axis=1)))
        spline = CubicSpline(nodes, values[:, :, strongest], axis=0)
        mean, found = np.ones(len(weights)), np.ones((shift.size, len(weights)))
        at = spline(shift)
        mean[slit.rows] = spline(0.0)[0]
        found[:, slit.rows] = at[:, 0] + at[:, 1] * log_width[:, np.newaxis]
        empty = ~(mean > _LEAST_LIGHT)
        mean[empty], found[:, empty] = 1.0, 1.0
        return np.where(found > _LEAST_LIGHT, found, mean), mean

    def _lights_of(self, steps: Iterable[int], inside: Array) -> Array:
        """Return the flux in an aperture and its derivative with the width at shifts of the model.

        Parameters
        ----------
        steps : iterable of int
            Shifts from the mean position in units of `_GRID`.
        inside : ndarray
            Weights of the pixels of the model, shape (row, column). The result for the last
            aperture is cached, because the chunks of a stack have the same one.

        Returns
        -------
        ndarray
            Shape (shift, flux or derivative, source, row).
        """
        aperture, lights = self._lights
        if not np.array_equal(aperture, inside):
            lights = {}
            self._lights = inside.copy(), lights
        geometry = self.fit.parameters.geometry(self.slit)
        for step in steps:
            if step not in lights:
                moved = replace(geometry, traces=geometry.traces + step * _GRID + self.zero)
                images, changes = profile_images(self.slit, moved)
                both = [np.einsum("src,rc->sr", one, inside) for one in (images, changes["core"])]
                lights[step] = np.array(both)
        return np.array([lights[step] for step in steps])

    # --- sums over bands -------------------------------------------------------------------------

    def _sums(self, at: _Kernels, residual: NDArray[np.float32], kind: int) -> Array:
        """Return the sums over bands of residuals times a kernel, shape (integration, band)."""
        rows = np.einsum("nrc,rc->nr", residual, at.kernels[kind])
        return np.add.reduceat(rows.astype(float), self._starts, axis=1)

    def _band_sums(self, values: NDArray[Any]) -> Array:
        """Return the sums over bands of an image, shape (band,)."""
        return np.add.reduceat(values.sum(axis=1, dtype=float), self._starts)

    def _norm(self, at: _Kernels, kernel: int, derivative: int) -> Array:
        """Return the response of a sum to a change of a parameter in each band, shape (band,)."""
        return self._band_sums(at.kernels[kernel].astype(float) * at.derivatives[derivative])

    def _norms(self, at: _Kernels, used: Mask, kernel: int, derivative: int) -> Array:
        """Return the response as `_norm`, of the used pixels of each integration."""
        product = at.kernels[kernel].astype(float) * at.derivatives[derivative]
        total = self._band_sums(product)
        size, bands = product.size, total.size
        unused = np.flatnonzero(~used)
        image, pixel = np.divmod(unused, size)
        place = image * bands + self._band_of[pixel]
        missing = np.bincount(place, product.ravel()[pixel], len(used) * bands)
        return np.asarray(total - missing.reshape(-1, bands))

    # --- model -----------------------------------------------------------------------------------

    def _at(self, step: int) -> _Kernels:
        """Return the model and the kernels at a shift of `step` times `_GRID`."""
        if step not in self._kernels:
            slit, linear, cut = self.slit, self.fit.linear, self._cut
            geometry = self.fit.parameters.geometry(slit)
            geometry = replace(geometry, traces=geometry.traces + step * _GRID)
            images, changes = profile_images(slit, geometry)
            flux, smooth = linear.flux[..., np.newaxis], linear.smooth[..., np.newaxis]
            sources = (flux * images).sum(axis=0)[:, cut]
            derivatives = [sources, *((smooth * changes[n]).sum(axis=0)[:, cut] for n in _CHANGES)]
            terms = [
                *images[:, :, cut],
                np.ones_like(sources),
                np.ones_like(sources) * slit.across[cut],
            ]
            basis, weight = np.stack(terms, axis=-1), self._weight
            kernels = [_projected(derivatives[0], basis[..., len(images) :], weight)]
            kernels += [_projected(one, basis, weight) for one in derivatives[1:]]
            self._kernels[step] = _Kernels(
                (sources + linear.background[:, cut]).astype(np.float32),
                sources.astype(np.float32),
                np.asarray(kernels, dtype=np.float32),
                np.asarray(derivatives, dtype=np.float32),
            )
        return self._kernels[step]


def _relative_flux(image: SlitImage) -> Array:
    """Return the flux of the source in each integration relative to the median, shape (number,)."""
    known = np.isfinite(image.wavelength)
    if not known.any():  # which is an error of the model
        return np.ones(len(image.data))
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    where = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    data, good = image.data[where], ~lost_pixels(image, where)
    middle = masked_median(data, good)
    light = np.nan_to_num(middle - np.nanmedian(middle, axis=1, keepdims=True))
    bright = light > _BRIGHT * light.max(axis=1, keepdims=True)
    ratio = 1.0 + (data[:, bright] - middle[bright]) / light[bright]
    return nanmedian(np.where(good[:, bright], ratio, np.nan), axis=1)


def _near_most(values: Array, tolerance: float) -> NDArray[np.intp]:
    """Return the indices of values near the middle of the shortest interval with half of them.

    At least `_FEWEST` are returned, if there are as many, and no NaN unless all are NaN.
    """
    ordered = np.sort(values[np.isfinite(values)])
    if ordered.size <= _FEWEST:
        return np.flatnonzero(np.isfinite(values)) if ordered.size else np.arange(values.size)
    half = ordered.size // 2
    start = int(np.argmin(ordered[half:] - ordered[: ordered.size - half]))
    middle = 0.5 * (ordered[start] + ordered[start + half])
    distance = np.nan_to_num(np.abs(values - middle), nan=np.inf)
    return np.flatnonzero(distance <= max(tolerance, np.sort(distance)[_FEWEST - 1]))


def _projected(image: Array, basis: Array, weight: Array) -> Array:
    """Return the weighted image without the part that the basis can fit in each row."""
    weighted = np.swapaxes(basis * weight[..., np.newaxis], 1, 2)
    inverse = invert_ridge(weighted @ basis)
    fitted = basis @ (inverse @ (weighted @ image[..., np.newaxis]))
    return np.asarray(weight * (image - fitted[..., 0]))


def _robust_mean(values: Array, error: Array) -> tuple[Array, Array]:
    """Return the robust weighted mean over bands and its error, shape (integration, parameter).

    Parameters
    ----------
    values, error : ndarray
        Shape (integration, band, parameter). Bands with an infinite error are not used.
    """
    weight = np.where(np.isfinite(error), 1.0 / np.maximum(error, 1e-12) ** 2, 0.0)
    middle = nanmedian(np.where(weight > 0, values, np.nan), axis=1)[:, np.newaxis]
    for _ in range(3):
        pull = np.abs(values - middle) * np.sqrt(weight)
        spread = nanmedian(np.where(weight > 0, pull, np.nan), axis=1)[:, np.newaxis]
        limit = _HUBER * np.fmax(SIGMA_PER_MAD * spread, 1.0)
        robust = weight * np.minimum(limit / np.maximum(pull, 1e-12), 1.0)
        total = robust.sum(axis=1, keepdims=True)
        middle = np.divide(
            (robust * values).sum(axis=1, keepdims=True), total,
            out=np.full(total.shape, np.nan), where=total > 0,
        )  # fmt: skip
    error = np.sqrt(np.divide(1.0, total, out=np.full(total.shape, np.nan), where=total > 0))
    return middle[:, 0], error[:, 0]


#: Models and drifts of stacks, and stacks without hot pixels, which last as long as the image.
_MODELS: WeakKeyDictionary[SlitImage, DriftModel] = WeakKeyDictionary()
_DRIFTS: WeakKeyDictionary[SlitImage, Drift] = WeakKeyDictionary()
_WITHOUT_HOT: WeakKeyDictionary[SlitImage, SlitImage] = WeakKeyDictionary()


def drift_model(image: SlitImage) -> DriftModel:
    """Return the model of a stack, which is fitted when it is first asked for.

    The parameters and errors are those of `DriftModel.from_stack`.
    """
    if image not in _MODELS:
        _MODELS[image] = DriftModel.from_stack(image)
    return _MODELS[image]


def stack_drift(image: SlitImage) -> Drift:
    """Return the drift in a stack, which is measured when it is first asked for.

    The errors are those of `DriftModel.from_stack`.
    """
    if image not in _DRIFTS:
        _DRIFTS[image] = drift_model(image).measure(image)
    return _DRIFTS[image]


def stack_light(image: SlitImage, weights: Array) -> tuple[Array, Array]:
    """Return the fraction of the light in an aperture in each integration, and the mean one.

    The parameters are a stack and the weights of its pixels; see `DriftModel.light`.
    """
    return drift_model(image).light(stack_drift(image), weights)


def without_hot_pixels(image: SlitImage) -> SlitImage:
    """Return a stack in which pixels that deviate from the model in all integrations are lost.

    These are pixels, such as hot and dead ones, that the fit to the mean image rejects as outliers.
    The new stack is cached as long as `image` exists, and shares its drift model.

    Raises
    ------
    SourceError
        If there is no source.
    """
    if image not in _WITHOUT_HOT:
        marks = np.zeros(image.shape, dtype=np.uint32)
        slit = drift_model(image).slit
        rejected = slit.good & ~drift_model(image).good
        marks[np.ix_(slit.rows, slit.columns)] = np.where(rejected, DO_NOT_USE, 0)
        dq: Any = image.dq
        if dq is None:
            dq = np.broadcast_to(np.zeros((), np.uint32), image.data.shape)
        made = image.derived(dq=MarkedFlags(dq, marks))
        share_drift_model(image, made)
        _WITHOUT_HOT[image] = made
    return _WITHOUT_HOT[image]


def share_drift_model(image: SlitImage, other: SlitImage) -> None:
    """Use the drift model of a stack also for a part or a modified copy of it.

    The shifts of both then have the same zero point.
    """
    _MODELS[other] = drift_model(image)
