"""Outliers along time: pixels of a stack that deviate from the other integrations.

The integrations are divided into groups of similar size. In each group and in bands of some rows,
an integration is modelled as the pixelwise median of the group plus multiples of four images: the
median without background (a change of the source's flux), its first and second derivative along the
columns (a shift of the trace and a change of its width), and a constant (a change of the
background). The multiples are fitted by iteratively reweighted least squares, so that an eclipse, a
flare or a drift of the source is not taken for outliers, and outliers do not affect the fit. The
residual of a pixel is compared with the largest of its error, its own scatter along time and that
of the neighbouring rows. A pixel with a varying dark current has a large scatter and no outliers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from glue_lrs._utils.statistics import SIGMA_PER_MAD, masked_median, median_variance, nanmedian
from glue_lrs.errors import ProductError
from glue_lrs.fitting.least_squares import invert_ridge
from glue_lrs.image.patched_plane import PatchedPlane
from glue_lrs.image.pixels import PLANES, lost_mask
from glue_lrs.instrument import DO_NOT_USE

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.image.slit_image import SlitImage

#: Smallest number of integrations. The median of fewer is not much better than one of them.
FEWEST = 5

#: Deviation in standard deviations above which a pixel is an outlier. Normal noise exceeds it in
#: one of two million pixels.
_THRESHOLD = 5.0

#: Number of integrations in a group. Within a group, the shape of the spectrum must be constant,
#: and the group must fit into memory several times.
_GROUP = 64

#: Number of rows in a band, within which the relative change of the flux must be constant.
_BAND = 24

#: Deviation in standard deviations above which a pixel gets less weight in the first fits (Huber),
#: and above which it gets none in the last (Tukey's biweight; 4.7 is usual, for 95% efficiency).
_HUBER, _TUKEY = 1.5, 6.0

#: Number of fits with each of the two weights, after which the fits have converged.
_FITS = 3

#: Largest deviation of a pixel in standard deviations above which a fit is repeated with weights.
_OUTLYING = 4.5

#: Smallest number of pixels of a band from which a standard deviation is estimated, to 8% or
#: better, and lower limit of this standard deviation.
_SAMPLE, _SMALLEST = 200, 1e-3

#: Fraction of the information about flux and background that the good pixels of a band must
#: contain. Otherwise its lost pixels are not replaced.
_INFORMATION = 0.5

#: Number of columns with a wavelength that are too few for a model of source and background.
_FEWEST_COLUMNS = 4

#: Number of integrations from which a typical error is computed.
_ERRORS = 16


@dataclass(frozen=True, eq=False)
class TimeOutliers:
    """Outliers along time in a stack, and lost pixels whose value follows from other integrations.

    Parameters
    ----------
    outliers, lost : ndarray of int
        Integration, row and column of the outliers and of the lost pixels, shape (3, pixel), with
        ascending integrations.
    outlier_values, lost_values : dict of ndarray
        Expected value, error and variances of each of these pixels by the name of the plane in
        `SlitImage`, each of shape (pixel,).
    """

    outliers: NDArray[np.intp]
    lost: NDArray[np.intp]
    outlier_values: dict[str, NDArray[Any]]
    lost_values: dict[str, NDArray[Any]]

    def of_integration(self, number: int) -> TimeOutliers:
        """Return the pixels of one integration, as those of a stack that contains only this one."""
        parts: list[Any] = []
        for places, values in (
            (self.outliers, self.outlier_values),
            (self.lost, self.lost_values),
        ):
            inside = places[0] == number
            moved = places[:, inside].copy()
            moved[0] = 0
            parts += [moved, {name: value[inside] for name, value in values.items()}]
        return TimeOutliers(parts[0], parts[2], parts[1], parts[3])

    def without(self, image: SlitImage, how: Literal["lost", "replace"]) -> SlitImage:
        """Return the stack without outliers. Its planes are patched when they are read.

        Parameters
        ----------
        image : SlitImage
            Stack in which the outliers were found.
        how : {"lost", "replace"}
            Whether the outliers become lost pixels, or they and the lost pixels get their expected
            values.
        """
        dq = image.dq
        if dq is None:
            dq = np.broadcast_to(np.zeros((), np.uint32), image.data.shape)
        if how == "lost":
            flags = PatchedPlane(dq, self.outliers, _at(dq, self.outliers) | DO_NOT_USE)
            return image.derived(dq=flags)
        order = np.argsort(np.r_[self.outliers[0], self.lost[0]], kind="stable")
        places = np.concatenate([self.outliers, self.lost], axis=1)[:, order]
        planes: dict[str, Any] = {
            name: PatchedPlane(
                getattr(image, name), places, np.r_[values, self.lost_values[name]][order]
            )
            for name, values in self.outlier_values.items()
        }
        cleared = _at(dq, places) & ~np.uint32(DO_NOT_USE)
        return image.derived(**planes, dq=PatchedPlane(dq, places, cleared))


#: Caches whose entries last as long as the image: results of `find_time_outliers`, results of
#: `without_time_outliers`, and the outliers that were removed from an image.
_FOUND: WeakKeyDictionary[SlitImage, TimeOutliers] = WeakKeyDictionary()
_WITHOUT: WeakKeyDictionary[SlitImage, dict[str, SlitImage]] = WeakKeyDictionary()
_REMOVED: WeakKeyDictionary[SlitImage, TimeOutliers] = WeakKeyDictionary()

#: Number of integrations of the stack from which `one_integration` took an image.
_TAKEN_FROM: WeakKeyDictionary[SlitImage, int] = WeakKeyDictionary()


def without_time_outliers(image: SlitImage, how: Literal["lost", "replace"]) -> SlitImage:
    """Return a stack without outliers along time.

    `SlitImage.changed` does not list this change, because it follows from the parameters of the
    extraction. The new stack is cached as long as the image exists.

    Parameters
    ----------
    image : SlitImage
        Stack of at least `FEWEST` integrations, which is returned unchanged if its outliers were
        removed before.
    how : {"lost", "replace"}
        As for `TimeOutliers.without`.
    """
    if image in _REMOVED:
        return image
    made = _WITHOUT.setdefault(image, {})
    if how not in made:
        found = find_time_outliers(image)
        made[how] = found.without(image, how)
        _REMOVED[made[how]] = found
    return made[how]


def removed_time_outliers(image: SlitImage) -> TimeOutliers | None:
    """Return the outliers that `without_time_outliers` removed from an image, or None."""
    return _REMOVED.get(image)


def one_integration(image: SlitImage, number: int | None) -> SlitImage:
    """Return an integration of a stack, of which `removed_time_outliers` are those of the stack.

    Parameters
    ----------
    image : SlitImage
        Stack, from which `without_time_outliers` may have removed outliers.
    number : int or None
        Index of the integration; None for the median of all.
    """
    made = image.median() if number is None else image.integration(number)
    _TAKEN_FROM[made] = len(image.data)
    found = _REMOVED.get(image)
    if found is not None and number is not None:
        _REMOVED[made] = found.of_integration(number)
    return made


def number_of_integrations(image: SlitImage) -> int:
    """Return the number of integrations in which outliers along time can be searched for.

    For an image from `one_integration`, it is that of the stack.
    """
    return len(image.data) if image.is_stack else _TAKEN_FROM.get(image, 1)


def find_time_outliers(image: SlitImage) -> TimeOutliers:
    """Find outliers along time.

    The result is cached as long as the image exists. Values that are assigned to elements of its
    arrays are not noticed; make a new image instead (`dataclasses.replace`).

    Parameters
    ----------
    image : SlitImage
        Stack of at least `FEWEST` integrations.
    """
    if image not in _FOUND:
        known = np.isfinite(image.wavelength)
        rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
        if np.ptp(columns) < _FEWEST_COLUMNS if columns.size else True:
            raise ProductError(
                f"has {columns.size} columns with a wavelength, expected more than "
                f"{_FEWEST_COLUMNS} to find outliers along time",
                subject=image.label,
            )
        window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        groups = [
            _search(image, (slice(first, last), *window))
            for first, last in pairwise(group_edges(len(image.data)))
        ]
        places = [np.concatenate([group[i] for group in groups], axis=1) for i in (0, 2)]
        values = [
            {name: np.concatenate([group[i][name] for group in groups]) for name in groups[0][i]}
            for i in (1, 3)
        ]
        _FOUND[image] = TimeOutliers(places[0], places[1], values[0], values[1])
    return _FOUND[image]


def group_edges(number: int) -> list[int]:
    """Return the edges of the groups into which a number of integrations is divided."""
    edges = np.linspace(0, number, max(round(number / _GROUP), 1) + 1)
    found: list[int] = edges.round().astype(int).tolist()
    return found


def _search(image: SlitImage, where: tuple[slice, slice, slice]) -> tuple[Any, Any, Any, Any]:
    """Search the group of integrations `where`.

    The result contains the attributes of `TimeOutliers` for the group: outliers, their values, lost
    pixels, their values.
    """
    planes = _native_planes(image, where)
    data = np.asarray(planes["data"], dtype=np.float32)
    good = ~lost_mask(planes)
    middle = masked_median(data, good)
    known = np.isfinite(middle)
    sigma = _typical_error(planes, data, good, middle)
    expected, pull, fitted = _deviations(data, good & known, middle, sigma)
    # A brighter source has larger noise, and the noise of the median is scaled with the source.
    bright = np.divide(expected, middle, where=middle > _THRESHOLD * sigma, out=np.ones_like(data))
    of_median = (bright - 1.0) ** 2 * median_variance(np.array(len(data)))
    pull /= np.sqrt(np.maximum(bright, 1.0) + of_median)
    pull = np.abs(pull, out=pull)
    scatter = SIGMA_PER_MAD * masked_median(pull, np.ones((1, *pull.shape[1:]), dtype=bool))
    # With few integrations, the scatter of one pixel may be small by chance.
    scatter = np.maximum(scatter, _row_median(scatter))
    outliers = pull > (_THRESHOLD * np.maximum(scatter, 1.0)).astype(np.float32)
    # A pixel that is lost in most integrations is not known well enough to be replaced, nor is one
    # in an integration of which most of the band is lost.
    lost = ~good & (good.mean(axis=0) > 0.5) & np.isfinite(image.wavelength[where[1:]]) & fitted
    found = []
    typical = good & ~outliers
    for mask in (outliers, lost):
        # Much faster than `numpy.nonzero` of an array with three axes.
        at = np.array(np.unravel_index(np.flatnonzero(mask), mask.shape))
        values = {"data": expected[tuple(at)]}
        for name in ("err", *PLANES):
            if name in planes:
                values[name] = _typical(planes[name], at, typical)
        found += [at + np.array([[part.start] for part in where]), values]
    return tuple(found)


def _native_planes(image: SlitImage, where: tuple[slice, ...]) -> dict[str, NDArray[Any]]:
    """Return the group of each plane in native byte order, in which it is read only once."""
    planes = {}
    for name in ("data", "err", *PLANES, "dq"):
        plane = getattr(image, name)
        if plane is not None:
            part = np.asarray(plane[where])
            planes[name] = part.astype(part.dtype.newbyteorder("="), copy=False)
    return planes


def _row_median(values: Array) -> Array:
    """Return the running median of `_BAND` rows, the larger of the two middle values.

    It is that of `scipy.ndimage.median_filter`, ten times as fast.
    """
    half = _BAND // 2
    padded = np.pad(values.T, ((0, 0), (half, _BAND - half - 1)), mode="edge")
    windows = np.sort(sliding_window_view(padded, _BAND, axis=1), axis=-1)
    return np.asarray(windows[..., half].T)


def _typical_error(
    planes: dict[str, NDArray[Any]], data: NDArray[Any], good: Mask, middle: Array
) -> NDArray[np.float32]:
    """Return the error of each pixel in a typical integration, shape (row, column).

    It is the median error from the variances, without that of the flat field, which is the same in
    all integrations; else the median of ERR; else the scatter of neighbouring integrations.
    """
    some = slice(None, None, max(len(data) // _ERRORS, 1))
    names = [name for name in ("var_poisson", "var_rnoise") if name in planes]
    variances = [np.asarray(planes[name][some], dtype=float) for name in names]
    if "err" in planes:
        errors = np.square(np.asarray(planes["err"][some], dtype=float))
        variances = [np.sum(variances, axis=0), errors] if variances else [errors]
    elif variances:
        variances = [np.sum(variances, axis=0)]
    sigma, usable = np.zeros_like(middle), np.zeros(middle.shape, dtype=bool)
    for variance in variances:
        found = np.sqrt(np.maximum(masked_median(variance, good[some]), 0.0))
        sigma = np.where(usable, sigma, found)
        usable = np.isfinite(sigma) & (sigma > 0)
    if not usable.any():
        change = np.abs(np.diff(data, axis=0)) / np.sqrt(2.0)
        sigma = SIGMA_PER_MAD * masked_median(change, good[1:] & good[:-1])
        usable = np.isfinite(sigma) & (sigma > 0)
    typical = float(np.median(sigma[usable])) if usable.any() else 1.0  # no noise at all
    return np.where(usable, sigma, typical).astype(np.float32)


def _typical(plane: NDArray[Any], at: NDArray[np.intp], good: Mask) -> Array:
    """Return the median of a plane over the good integrations of a group, at the places `at`."""
    pixels, which = np.unique(at[1:], axis=1, return_inverse=True)
    lines = plane[:, pixels[0], pixels[1]].astype(float)
    return masked_median(lines, good[:, pixels[0], pixels[1]])[which.ravel()]


def _deviations(
    data: NDArray[np.float32], good: Mask, middle: Array, sigma: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], Mask]:
    """Fit the images of `_terms` to the difference of each integration from the median.

    Parameters
    ----------
    data, good : ndarray
        Values and mask of the good ones, shape (integration, row, column).
    middle, sigma : ndarray
        Median over the integrations, and error of one integration, shape (row, column).

    Returns
    -------
    expected, pull : ndarray
        Fitted values, and deviations divided by `sigma` (0 where they are not good or not fitted),
        with the shape of `data`.
    fitted : ndarray of bool
        Whether the good pixels of the band contain most of the information about the flux of the
        source and about the background, shape (integration, row, 1).
    """
    rows = middle.shape[0]
    number = max(round(rows / _BAND), 1)
    height = -(-rows // number)

    def bands(values: NDArray[Any]) -> NDArray[Any]:
        """Divide (n, row, column) into (band, n, pixel)."""
        padded = np.pad(values, ((0, 0), (0, number * height - rows), (0, 0)))
        split = padded.reshape(len(values), number, -1)
        return np.ascontiguousarray(split.swapaxes(0, 1))

    terms = bands(_terms(middle) / sigma)
    usable = bands(good.astype(np.float32))
    pull = bands(np.where(good, (data - middle) / sigma, 0.0).astype(np.float32))
    model = _robust_fit(terms, usable, pull)
    # Pixels that are lost in all integrations are not in the model.
    power = np.square(terms[:, [0, -1]]) * bands(np.isfinite(middle)[np.newaxis])
    share = (usable @ power.swapaxes(1, 2)) / np.maximum(power.sum(axis=-1), 1e-30)[:, np.newaxis]
    enough = (share > _INFORMATION).all(axis=-1)  # shape (band, integration)
    pull = (pull - model) * usable * enough[..., np.newaxis]
    fitted = np.repeat(enough.T, height, axis=1)[:, :rows, np.newaxis]
    shape = (len(data), number * height, middle.shape[1])
    model, pull = (v.swapaxes(0, 1).reshape(shape)[:, :rows] for v in (model, pull))
    return (middle + model * sigma).astype(np.float32), pull, fitted


def _terms(middle: Array) -> NDArray[np.float32]:
    """Return the four images of the model (see the module), shape (4, row, column)."""
    columns = np.arange(middle.shape[1], dtype=float)
    filled = np.array(middle)
    for number in np.flatnonzero(~np.isfinite(filled).all(axis=1)):
        row = filled[number]
        known = np.isfinite(row)
        row[:] = np.interp(columns, columns[known], row[known]) if known.any() else 0.0
    filled -= np.median(filled, axis=1, keepdims=True)  # the background
    spline = CubicSpline(columns, filled, axis=1)
    images = [filled, spline(columns, 1), spline(columns, 2), np.ones_like(filled)]
    return np.asarray(images, dtype=np.float32)


def _robust_fit(
    terms: NDArray[np.float32], usable: NDArray[np.float32], pull: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the fit of the terms to the deviations of each band and integration.

    Parameters
    ----------
    terms : ndarray
        Shape (band, term, pixel).
    usable, pull : ndarray
        1 for good pixels and else 0, and deviations in standard deviations, shape
        (band, integration, pixel).
    """
    model = np.empty_like(pull)
    for term, good, values, out in zip(terms, usable, pull, model, strict=True):
        products = (term[:, np.newaxis] * term).reshape(-1, term.shape[1])

        def fit(weights: Any, values: Any, term: Any = term, products: Any = products) -> Any:
            normal = (weights @ products.T).astype(float).reshape(-1, len(term), len(term))
            moments = ((weights * values) @ term.T).astype(float)
            found = (invert_ridge(normal) @ moments[..., np.newaxis])[..., 0]
            return found.astype(np.float32) @ term

        out[:] = fit(good, values)
        distance = np.abs(values - out) * good
        again = np.flatnonzero(distance.max(axis=1) > _OUTLYING * _spread(distance, good)[:, 0])
        for attempt in range(2 * _FITS if again.size else 0):
            distance = np.abs(values[again] - out[again]) * good[again]
            spread = _spread(distance, good[again])
            if attempt < _FITS:
                weights = np.minimum(_HUBER * spread / np.maximum(distance, 1e-6), 1.0)
            else:
                weights = np.square(np.maximum(1.0 - (distance / (_TUKEY * spread)) ** 2, 0.0))
            out[again] = fit(good[again] * weights, values[again])
    return model


def _spread(distance: NDArray[np.float32], good: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a robust standard deviation of each integration, shape (integration, 1).

    It is estimated from a sample of the absolute deviations of its good pixels.
    """
    every = slice(None, None, max(distance.shape[1] // _SAMPLE, 1))
    sample = np.where(good[:, every] > 0, distance[:, every], np.nan)
    spread = SIGMA_PER_MAD * nanmedian(sample, axis=1)[:, np.newaxis]
    return np.asarray(np.fmax(spread, _SMALLEST), dtype=np.float32)


def _at(plane: NDArray[Any], places: NDArray[np.intp]) -> NDArray[Any]:
    """Return the values of a plane at places with ascending integrations."""
    if not places.size:
        return np.empty(0, plane.dtype)
    numbers, first = np.unique(places[0], return_index=True)
    values = [
        plane[int(number)][row, column]
        for number, (_, row, column) in zip(
            numbers, np.split(places, first[1:], axis=1), strict=True
        )
    ]
    return np.concatenate(values)
