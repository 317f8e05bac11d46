"""Noise in the source-free pixels of an image, compared with the errors of these pixels.

The noise is measured along the wavelength: the second difference of three rows contains the noise
of the pixels, but neither the background nor the wings of the sources, which are smooth. Resampling
hardly correlates rows, because the rows of an LRS s2d are detector rows. It does correlate
neighbouring columns, so that the variance of a sum over columns is not the sum of the variances.
The covariances of columns are therefore measured, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self
from weakref import WeakKeyDictionary

import numpy as np

from glue_lrs.errors import Hint
from glue_lrs.image.pixels import PLANES, good_pixels
from glue_lrs.spectra.findings import Finding

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.image.slit_image import SlitImage

#: Number of rows in which the sources are detected together. The sources must be in the same
#: columns in these rows, and the median of the rows must have a low noise: for 48 rows, it is 0.18
#: times that of a pixel.
_DETECTION_ROWS = 48

#: Surface brightness, relative to its error in a pixel, above which a pixel is not source-free. The
#: Poisson noise of fainter light is small: in a pixel with a variance of 400 electrons^2, light at
#: the lower limit (20 electrons) contributes 5% of the variance. Where fewer than
#: `_FEWEST_COLUMNS` columns are below the lower limit, the limit is raised until there are so many
#: columns, but at most to the higher limit. There, the source is so bright that the noise of the
#: background matters little.
_FAINT, _FAINTEST_FEW, _FEWEST_COLUMNS = 1.0, 3.0, 8

#: Number of columns at either end of the slit whose noise is not compared with the errors.
#: Resampling averages pixels less there than elsewhere, so that their noise is larger.
_EDGE = 2

#: Pixels that deviate by more than this number of standard deviations are excluded as outliers. For
#: Gaussian noise, this reduces the measured variance by a fraction of less than 1e-4.
_CLIP = 5.0

#: Distance in columns at and beyond which the covariance of two pixels is assumed not to depend on
#: the distance, as for noise that is common to a row. Drizzle correlates only neighbouring columns.
_LAGS = 2

#: Number of rows in the blocks that are left out in turn (jackknife) to estimate the error of the
#: comparison.
_JACKKNIFE_ROWS = 16

#: Median absolute deviation of a normal distribution, in units of the standard deviation.
_MAD = 0.6745

#: A finding is reported if the ratio of the noise in an aperture to its error exceeds the first
#: number by more than the second number times the standard deviation of the ratio.
_REPORTED, _SIGNIFICANT = 1.05, 3.0

#: Number of source-free pixels below which no excess is reported. Fewer remain where the wings of a
#: bright source cover the slit. Structure in the wings is then taken for noise that is common to
#: distant columns, and so few parts of the image are left that the jackknife error is too small.
_FEWEST_PIXELS = 1000


class Comparison(NamedTuple):
    """Noise of a sum over an aperture in source-free columns, divided by its propagated error.

    Parameters
    ----------
    factor : float
        Ratio of the noise to the error.
    error : float
        Standard deviation of `factor`. It is infinite if there are too few source-free pixels.
    """

    factor: float
    error: float

    @property
    def is_excess(self) -> bool:
        """Whether the noise exceeds the error by more than 5%, with a significance of 3 sigma."""
        return self.factor - _SIGNIFICANT * self.error > _REPORTED


@dataclass(frozen=True, eq=False)
class SourceFreeNoise:
    """Noise of the source-free pixels of an image, in units of their errors.

    Parameters
    ----------
    free : ndarray of bool
        Mask of the source-free pixels, shape (row, column).
    products : ndarray
        Sum of the products of the noise of two pixels in each row, at distances of 0, 1, and 2
        or more columns, shape (row, 3).
    pairs : ndarray
        Number of products in each of these sums, shape (row, 3).
    """

    free: Mask
    products: Array
    pairs: Array
    _means: dict[bytes, tuple[float, float]] = field(default_factory=dict, init=False, repr=False)
    _compared: dict[tuple[bytes, bool], Comparison] = field(
        default_factory=dict, init=False, repr=False
    )

    @classmethod
    def from_image(cls, image: SlitImage) -> Self:
        """Measure the noise in an image. The result is cached as long as the image exists.

        Parameters
        ----------
        image : SlitImage
            Image of shape (row, column) with variances.
        """
        known = _KNOWN.get(image)
        if known is None:
            known = _KNOWN[image] = cls._measured(image)
        assert isinstance(known, cls)
        return known

    @classmethod
    def _measured(cls, image: SlitImage) -> Self:
        good = good_pixels(image) & np.isfinite(image.wavelength)
        planes = (getattr(image, name) for name in PLANES)
        variance = sum(np.where(good, plane, 0.0) for plane in planes if plane is not None)
        pulls = np.where(good, image.data, 0.0) / np.sqrt(np.where(good, variance, 1.0))
        free = source_free(pulls, good)
        noise = np.zeros(pulls.shape)
        noise[1:-1] = (2.0 * pulls[1:-1] - pulls[:-2] - pulls[2:]) / np.sqrt(6.0)
        known = np.zeros(pulls.shape, dtype=bool)
        known[1:-1] = free[1:-1] & free[:-2] & free[2:]
        if known.any():
            known &= np.abs(noise) < _CLIP / _MAD * np.median(np.abs(noise[known]))
        noise = np.where(known, noise, 0.0)
        return cls(free, _products(noise), _products(known.astype(float)))

    def compare(self, weights: Array, *, common: bool = True) -> Comparison:
        """Compare the noise of a sum over an aperture with its propagated error.

        Parameters
        ----------
        weights : ndarray
            Weights of the pixels in the aperture, shape (column,).
        common : bool
            Whether noise that is common to distant columns of a row is included. If False, the
            comparison is more accurate, and neighbouring columns are treated as independent unless
            they are significantly correlated.
        """
        key = weights.tobytes(), common
        if key not in self._compared:
            self._compared[key] = self._comparison(weights, common)
        return self._compared[key]

    def _comparison(self, weights: Array, common: bool) -> Comparison:
        """Compute the result of `compare`, without the cache."""
        counts = _counts(weights)
        if not common:
            counts[_LAGS:] = 0.0
            neighbours, error = self._mean(np.eye(_LAGS + 1)[1])
            if not neighbours > _SIGNIFICANT * error:
                counts[1] = 0.0
        square, error = self._mean(counts)
        if not square > 0:
            return Comparison(np.nan, np.inf)
        factor = float(np.sqrt(square))
        return Comparison(factor, error / (2.0 * factor))

    def _mean(self, counts: Array) -> tuple[float, float]:
        """Return the result of `_square` for the sums over all rows, and its jackknife error.

        The error is infinite if there are too few source-free pixels. The result is cached, because
        the same aperture is often extracted again.
        """
        key = counts.tobytes()
        if key not in self._means:
            self._means[key] = self._jackknife(counts)
        return self._means[key]

    def _jackknife(self, counts: Array) -> tuple[float, float]:
        """Compute the result of `_mean`, without the cache."""
        starts = np.arange(0, len(self.pairs), _JACKKNIFE_ROWS)
        products, pairs = (
            np.add.reduceat(sums, starts, axis=0) for sums in (self.products, self.pairs)
        )
        all_products, all_pairs = products.sum(axis=0), pairs.sum(axis=0)
        square = float(_square(all_products, all_pairs, counts))
        without = _square(all_products - products, all_pairs - pairs, counts)
        number = len(starts)
        spread = np.sum((without - without.mean()) ** 2) * (number - 1) / number
        return square, float(np.sqrt(spread)) if number > 1 and np.isfinite(spread) else np.inf

    def local_square(self, weights: Array, rows: int) -> Array:
        """Return the square of the factor of `compare` in the neighbourhood of each row, (row,).

        Parameters
        ----------
        weights : ndarray
            Weights of the pixels in the aperture, shape (column,).
        rows : int
            Standard deviation, in rows, of the Gaussian weights of the neighbouring rows.
        """
        index = np.arange(len(self.pairs))
        near = np.exp(-0.5 * ((index[:, np.newaxis] - index) / rows) ** 2)
        return _square(near @ self.products, near @ self.pairs, _counts(weights))


#: Cache of the noise measured in each image.
_KNOWN: WeakKeyDictionary[SlitImage, SourceFreeNoise] = WeakKeyDictionary()


def source_free(pulls: Array, good: Mask) -> Mask:
    """Return the mask of the pixels without light of a source, shape (row, column).

    Parameters
    ----------
    pulls : ndarray
        Data divided by their errors, 0 in bad pixels.
    good : ndarray of bool
        Mask of the good pixels.
    """
    length, columns = good.shape
    number = max(length // _DETECTION_ROWS, 1)
    limits = np.arange(number + 1) * length // number
    # Rows of each block, shape (block, row of the block). Shorter blocks are padded with a row that
    # `inside` excludes.
    rows = limits[:-1, np.newaxis] + np.arange(np.diff(limits).max())
    inside = rows < limits[1:, np.newaxis]
    rows = np.minimum(rows, length - 1)
    known = good[rows] & inside[..., np.newaxis]
    use = known.any(axis=1)
    brightness = _median(pulls[rows].swapaxes(1, 2), known.swapaxes(1, 2))
    brightness = np.where(use, brightness, 0.0) - _median(brightness, use)[:, np.newaxis]
    brightness = np.where(use, np.abs(brightness), np.inf)
    faintest = np.sort(brightness, axis=1)[:, [min(_FEWEST_COLUMNS, columns) - 1]]
    bright = use & (brightness > np.clip(faintest, _FAINT, _FAINTEST_FEW))
    # The light of a source extends to the neighbouring columns.
    bright[:, 1:] |= bright[:, :-1].copy()
    bright[:, :-1] |= bright[:, 1:].copy()
    first, last = use.argmax(axis=1), columns - 1 - use[:, ::-1].argmax(axis=1)
    column = np.arange(columns)
    middle = (column >= first[:, np.newaxis] + _EDGE) & (column <= last[:, np.newaxis] - _EDGE)
    free: Mask = good & np.repeat(middle & ~bright, np.diff(limits), axis=0)
    return free


def _median(values: Array, known: Mask) -> Array:
    """Return the median of the known values along the last axis, infinite where there are none."""
    ordered = np.sort(np.where(known, values, np.inf), axis=-1)  # unknown values come last
    number = known.sum(axis=-1, keepdims=True)
    middle = np.maximum(number - np.array([1, 0]), 0) // 2
    return np.asarray(np.take_along_axis(ordered, middle, axis=-1).mean(axis=-1))


def _products(values: Array) -> Array:
    """Return the sums of products of two values in a row at distances of 0, 1, and 2 or more.

    The shape of `values` is (row, column), and that of the result (row, 3).
    """
    sums = [(values**2).sum(axis=1)]
    sums += [(values[:, :-lag] * values[:, lag:]).sum(axis=1) for lag in range(1, _LAGS)]
    far = (values.sum(axis=1) ** 2 - sums[0]) / 2.0 - sum(sums[1:])
    return np.stack([*sums, far], axis=1)


def _counts(weights: Array) -> Array:
    """Return the weight of each distance in the variance of a weighted sum, for `_square`.

    The weights are divided by the sum of the squares of the pixel weights.
    """
    counts = _products(weights[np.newaxis])[0]
    counts[1:] *= 2.0
    return counts / counts[0]


def _square(products: Array, pairs: Array, counts: Array) -> Array:
    """Return the variance of a weighted sum of pixels divided by that of uncorrelated pixels.

    `products` and `pairs` are as in `SourceFreeNoise`; their last axis is the distance. `counts`
    is the result of `_counts`.
    """
    needed = counts > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = np.where(needed, products / pairs, 0.0)
    return np.asarray(covariance @ counts)


def excess_noise(image: SlitImage, weights: Array) -> Finding | None:
    """Return a finding if the noise of a nod-subtracted image exceeds its errors, else None.

    Parameters
    ----------
    image : SlitImage
        Image that is extracted, from which the pipeline subtracted a background.
    weights : ndarray
        Weights of the pixels in the aperture, averaged over the rows, shape (column,).

    Notes
    -----
    The pipeline subtracts the mean of the exposures at the other nods, and leaves the errors
    unchanged. The errors of faint sources are then too small by a factor of up to 1.4. The factor
    is smaller for bright sources, because the missing variance, that of the background, does not
    increase with the flux of the source.
    """
    if image.is_stack or not image.has_variances or not image.is_background_subtracted:
        return None
    noise = SourceFreeNoise.from_image(image)
    found = noise.compare(weights)
    if not found.is_excess or noise.pairs[:, 0].sum() < _FEWEST_PIXELS:
        return None
    return Finding(
        "noise_excess",
        f"in source-free columns, the noise of a sum over {weights.sum():.3g} columns is "
        f"{found.factor:.2f} +- {found.error:.2f} times its error: a background was subtracted, "
        "whose noise is not in the errors",
        {"factor": found.factor, "error": found.error},
        Hint.to("{} adds it", noise="nod"),
    )
