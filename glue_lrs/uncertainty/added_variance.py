"""Variance that is missing from the planes of an image, such as that of a subtracted background.

The pipeline subtracts the mean of the exposures at the other nods, or of a dedicated background,
and leaves ERR and the variances unchanged. The missing variance is that of the subtracted mean.
It is known from the variances of the subtracted exposures. Without them, it is derived from the
image itself: in source-free columns, the subtracted exposures had the same background and read
noise as this one. The variance is additive: it does not depend on the brightness of the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.errors import Hint, NoiseError, ProductError
from glue_lrs.image.drizzle import keep_filled_fraction
from glue_lrs.uncertainty.source_free import SourceFreeNoise

if TYPE_CHECKING:
    from astropy.io import fits

    from glue_lrs._utils.typing import Array
    from glue_lrs.image.slit_image import SlitImage

#: Largest relative error of `Comparison.factor` for which the missing variance is derived from the
#: image; above it, a `NoiseError` is raised. The errors of faint spectra are thus known to 10%.
_LARGEST_ERROR = 0.1

#: A variance derived from the image is added if it exceeds this multiple of its own error. The
#: limit is low, because even a small variance matters in a combination of many exposures: they
#: share it, so that averaging does not reduce it.
_SIGNIFICANT = 2.0

#: The variance of exposures that the user gives is not added if the variances of the image would
#: then exceed the square of the measured noise by more than this number of standard deviations. The
#: errors already include it in this case. The limit is high, because those of the pipeline do not.
_CONTRADICTED = 3.0

#: Number of columns of the sums whose noise is measured for this decision. In narrower sums, the
#: ratio of noise to error depends on the correlation of pixels by resampling.
_DECISION_COLUMNS = 8

#: Standard deviation in rows of the weights with which empirical noise is averaged along the
#: wavelength. They average about 70 rows, so that with 16 source-free columns, the result is as
#: certain as that from one column in 1000 rows.
_SMOOTHING_ROWS = 20

#: Header cards that identify the exposures from which the pipeline subtracts the same background.
NOD_CARDS = ("PROGRAM", "OBSERVTN", "VISIT", "PATT_NUM")


@dataclass(frozen=True, eq=False)
class AddedVariance:
    """Variance to be added to the planes of an image.

    Parameters
    ----------
    poisson, rnoise : ndarray
        Variances to be added to the planes VAR_POISSON and VAR_RNOISE, shape (row, column).
    description : str
        Text that says how the variances were derived, with the uncertainty.
    """

    poisson: Array
    rnoise: Array
    description: str

    def added_to(self, image: SlitImage) -> SlitImage:
        """Return a copy of an image to whose variances and errors this variance is added."""
        planes: dict[str, Any] = {}
        for name, added in (("var_poisson", self.poisson), ("var_rnoise", self.rnoise)):
            plane = getattr(image, name)
            planes[name] = added if plane is None else (plane + added).astype(plane.dtype)
        if image.err is not None:
            square = np.square(image.err, dtype=float) + self.poisson + self.rnoise
            planes["err"] = np.sqrt(square).astype(image.err.dtype)
        larger = image.derived(**planes)
        keep_filled_fraction(image, larger)
        return larger

    def relative_to_read_noise(self, image: SlitImage, weights: Array) -> Array:
        """Return the added variance in an aperture, divided by the resulting VAR_RNOISE.

        Parameters
        ----------
        image : SlitImage
            Image without the added variance.
        weights : ndarray
            Weights of the pixels in the aperture, shape (row, column).

        Returns
        -------
        ndarray
            Ratio to VAR_RNOISE of the image returned by `added_to` in each row, shape (row,). It is
            0 in rows without a variance.
        """
        read = _read_noise(image)
        known = weights * (read > 0)
        added = (known * (self.poisson + self.rnoise)).sum(axis=1)
        total = (known * (read + self.rnoise)).sum(axis=1)
        return np.divide(added, total, out=np.zeros_like(added), where=total > 0)


def nod_variance(
    image: SlitImage, weights: Array, exposures: Sequence[SlitImage] = ()
) -> AddedVariance:
    """Return the variance of a background that the pipeline subtracted, where it is missing.

    Parameters
    ----------
    image : SlitImage
        Image from which a background was subtracted.
    weights : ndarray
        Weights of the pixels in the aperture, shape (column,). The variance that is derived from a
        resampled image depends somewhat on the width of the aperture.
    exposures : sequence of SlitImage
        Exposures whose mean was subtracted. They must have the shape and unit of the image.
        Exposures at the same nod as the image are ignored. If no exposures are given, the variance
        is derived from the image.

    Raises
    ------
    NoiseError
        If an exposure does not match the image, or the variance can be derived neither from
        exposures nor from source-free columns.
    """
    check_image(image)
    noise = SourceFreeNoise.from_image(image)
    if exposures:
        poisson, rnoise = _mean_variance(image, _of_other_nods(image, exposures))
        if _is_included(image, noise, poisson + rnoise):
            return _nothing(image, "the errors already include the noise of the other nods")
        return AddedVariance(poisson, rnoise, "the variance of the given exposures was added")
    found = noise.compare(weights, common=False)
    if not found.error <= _LARGEST_ERROR * found.factor:
        raise _too_few(
            image, noise, "nod", Hint.to("give the files of the other nods as {}", "nods")
        )
    excess, error = found.factor**2 - 1.0, 2.0 * found.factor * found.error
    if excess < _SIGNIFICANT * error:
        return _nothing(
            image,
            f"the noise of the source-free columns is {found.factor:.2f} +- {found.error:.2f} "
            "times their error, and nothing was added",
        )
    ratio = _poisson_ratio(image, noise)
    read = _read_noise(image)
    return AddedVariance(
        excess * ratio * read,
        excess * read,
        f"{excess:.2f} +- {error:.2f} times the variance of the background was added",
    )


def empirical_variance(image: SlitImage, weights: Array) -> AddedVariance:
    """Return the variance by which the noise of source-free columns exceeds their variances.

    The excess at each wavelength is measured in the row and its neighbours. It includes noise that
    all pixels in a row have in common. Where the noise is smaller than the error, the variance is
    0.

    Parameters
    ----------
    image : SlitImage
        Image with source-free columns.
    weights : ndarray
        Weights of the pixels in the aperture, shape (column,).

    Raises
    ------
    NoiseError
        If there are too few source-free columns.
    """
    check_image(image)
    noise = SourceFreeNoise.from_image(image)
    found = noise.compare(weights)
    if not found.error <= _LARGEST_ERROR * found.factor:
        raise _too_few(image, noise, "empirical", None)
    square = noise.local_square(weights, _SMOOTHING_ROWS)
    excess = np.maximum(_filled(square) - 1.0, 0.0)[:, np.newaxis]
    read = _read_noise(image)
    return AddedVariance(
        np.zeros(read.shape),
        excess * (1.0 + _poisson_ratio(image, noise)) * read,
        f"the noise of the source-free columns is {found.factor:.2f} +- {found.error:.2f} times "
        "their error, and the difference was added",
    )


def nod_key(header: fits.Header) -> tuple[object, ...]:
    """Return the values of `NOD_CARDS` in a header.

    Exposures with the same key have the noise of the subtracted background in common.
    """
    cards = LazyHeader.view(header)
    return tuple(cards.get(card) for card in NOD_CARDS)


def check_image(image: SlitImage) -> None:
    """Raise `NoiseError` or `ProductError` if no variance can be added to an image.

    This is a stack, or an image without VAR_RNOISE.
    """
    if image.is_stack:
        raise NoiseError(
            "is a stack of integrations, from which no nod is subtracted, expected noise "
            "'propagated' for it",
            subject=image.label,
        )
    if not (_read_noise(image) > 0).any():
        raise ProductError(
            "VAR_RNOISE is missing or 0, expected the variance of the read noise, from "
            "which the variance to add is computed",
            subject=image.label,
        )


def _read_noise(image: SlitImage) -> Array:
    """Return the variance of the read noise, 0 where it is not known."""
    if image.var_rnoise is None:
        return np.zeros(image.shape)
    read = np.asarray(image.var_rnoise, dtype=float)
    return np.where(np.isfinite(read), read, 0.0)


def _nothing(image: SlitImage, description: str) -> AddedVariance:
    zero = np.zeros(image.shape)
    return AddedVariance(zero, zero, description)


def _too_few(image: SlitImage, noise: SourceFreeNoise, name: str, hint: Hint | None) -> NoiseError:
    return NoiseError(
        f"noise is {name!r}, but only {noise.free.sum(axis=1).mean():.1f} columns are free of "
        "sources on average, which are too few to derive the noise from them",
        subject=image.label,
        hint=hint,
    )


def _of_other_nods(image: SlitImage, exposures: Sequence[SlitImage]) -> list[SlitImage]:
    """Return the exposures that are not at the same nod as the image."""
    key = nod_key(image.header)
    unknown = None in key
    others = [one for one in exposures if unknown or nod_key(one.header) != key]
    if not others:
        raise NoiseError(
            f"all {len(exposures)} files of nods are at the same nod as the image, expected those "
            "of the other nods, which were subtracted",
            subject=image.label,
        )
    for one in others:
        found, expected = (one.data.shape, str(one.unit)), (image.data.shape, str(image.unit))
        if found != expected:
            raise NoiseError(
                f"has shape {found[0]} and unit {found[1]}, expected {expected[0]} and "
                f"{expected[1]} as in {image.label}, from which it was subtracted",
                subject=one.label,
            )
        check_image(one)
    return others


def _mean_variance(image: SlitImage, exposures: Sequence[SlitImage]) -> tuple[Array, Array]:
    """Return the variance from Poisson noise and that from read noise of the mean of exposures."""
    sums = []
    for name in ("var_poisson", "var_rnoise"):
        planes = [getattr(one, name) for one in exposures]
        values = [np.zeros(image.shape) if p is None else np.asarray(p, float) for p in planes]
        lost = ~np.isfinite(values)
        number = np.maximum((~lost).sum(axis=0), 1)
        total = np.where(lost, 0.0, values).sum(axis=0)
        # As in the pipeline, the mean is that of the exposures in which the pixel is not lost.
        sums.append(total / number**2)
    return sums[0], sums[1]


def _is_included(image: SlitImage, noise: SourceFreeNoise, added: Array) -> bool:
    """Return whether the errors already include an added variance.

    They do if the noise of the source-free pixels is significantly smaller than the errors would be
    after the addition.
    """
    found = noise.compare(np.ones(_DECISION_COLUMNS), common=False)
    if not np.isfinite(found.error):
        return False
    free = noise.free
    planes = (image.var_poisson, image.var_rnoise, image.var_flat)
    present = sum(np.asarray(plane, float)[free].sum() for plane in planes if plane is not None)
    limit = found.factor**2 + _CONTRADICTED * 2.0 * found.factor * found.error
    return bool(limit < 1.0 + added[free].sum() / present)


def _poisson_ratio(image: SlitImage, noise: SourceFreeNoise) -> Array:
    """Return the median of VAR_POISSON / VAR_RNOISE in each row, shape (row, 1).

    It is the median over the source-free pixels, interpolated in rows that have none.
    """
    if image.var_poisson is None:
        return np.zeros((image.shape[0], 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.asarray(image.var_poisson, float) / np.asarray(image.var_rnoise, float)
    known = noise.free & np.isfinite(ratio)
    rows = np.full(image.shape[0], np.nan)
    for row in np.flatnonzero(known.any(axis=1)):
        rows[row] = np.median(ratio[row, known[row]])
    return _filled(rows)[:, np.newaxis]


def _filled(values: Array) -> Array:
    """Return the values, with those that are not finite interpolated between the finite ones."""
    known = np.isfinite(values)
    index = np.arange(values.size)
    return np.asarray(np.interp(index, index[known], values[known]))
