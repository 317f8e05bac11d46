"""Pixels that drizzle filled in from their neighbours, because those of the exposure were bad.

The pipeline resamples an image with `resample_spec`, in which a pixel of the output is the weighted
mean of the pixels of the input that overlap with it. If one of these is bad, the pixel of the
output is the mean of the others: a finite value without a flag, which belongs to a neighbouring
column. Only the sum of the weights (WHT) shows that a part is missing.

The header card RESWHT says which weights were used: the exposure time (``"exptime"``), which is the
same in all pixels, or the inverse of the variance of the read noise (``"ivm"``), which varies along
the slit. In the second case, the product of WHT and VAR_RNOISE is the fraction of the pixel that
was overlapped by good pixels, except for a few per cent where the weights vary steeply. The missing
fraction follows from a comparison with the neighbouring columns of the same row, of which most are
not affected. Rows with small weights at the ends of the image, and different numbers of exposures
along the slit, are therefore of no consequence, and columns that are bad in all rows are found.

A bad pixel is shared by two columns, whose missing fractions add up to 1. In the mean of N
exposures, one of which has the bad pixel, they add up to 1 / N. The other exposures have a value
there, so that the pixel is not reported, unless neighbouring columns are bad in one of two
exposures.

Not found are bad pixels that the pipeline replaced before resampling (step ``pixel_replace``),
clusters of three or more columns, and pixels at the ends of the slit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from scipy.ndimage import median_filter

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.image.pixels import lost_pixels
from glue_lrs.instrument import DO_NOT_USE

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.image.slit_image import SlitImage

#: Number of columns with whose median a pixel is compared. Up to three of them may be missing.
_COLUMNS = 7

#: Sum of the missing fractions of two neighbouring pixels above which drizzle filled them in. It is
#: 1 if all exposures are bad there, and 1/2 if one of two is good. Weights that vary steeply give
#: fractions of up to 0.4 without any bad pixel.
_FILLED = 0.75

#: Missing fraction of a pixel beside a bad one below which its value is kept: the error is at most
#: this fraction of the difference from the next column. Without any bad pixel, weights that vary
#: give up to 0.02.
_KEPT = 0.03


def filled_fraction(image: SlitImage) -> Array | None:
    """Return the fraction of each pixel that drizzle filled in from its neighbours.

    The result is cached as long as the image exists.

    Parameters
    ----------
    image : SlitImage
        Image of any kind.

    Returns
    -------
    ndarray or None
        Fraction, shape (row, column). It is 0 in lost pixels, in pixels in which less than 3% is
        missing, and where a part of the combined exposures is good. None if this is not known,
        because the image was not resampled, or has no WHT, or has no VAR_RNOISE although its
        weights are the inverse of this variance.
    """
    if image not in _FRACTIONS:
        _FRACTIONS[image] = _filled(image)
    return _FRACTIONS[image]


def keep_filled_fraction(image: SlitImage, derived: SlitImage) -> None:
    """Assign the `filled_fraction` of an image to a derived image with other variances.

    It could not be computed for the derived image, whose weights do not match its variances.

    Parameters
    ----------
    image, derived : SlitImage
        Original image, and the image with other variances.
    """
    _FRACTIONS[derived] = filled_fraction(image)


def without_filled_pixels(image: SlitImage) -> SlitImage:
    """Return an image in which the pixels that drizzle filled in are lost pixels.

    They have DQ bit 0 (DO_NOT_USE). `SlitImage.changed` does not list this change, because it
    follows from the parameters of the extraction. The new image is cached.

    Parameters
    ----------
    image : SlitImage
        Image, which is returned unchanged if no pixels were filled in, or if this is not known.
    """
    fraction = filled_fraction(image)
    if fraction is None or not fraction.any():
        return image
    if image not in _WITHOUT:
        known = np.uint32(0) if image.dq is None else image.dq
        flags = np.where(fraction > 0, np.uint32(DO_NOT_USE), np.uint32(0))
        _WITHOUT[image] = image.derived(dq=known | flags)
    return _WITHOUT[image]


#: Results of `filled_fraction` and `without_filled_pixels`, cached as long as the image exists.
_FRACTIONS: WeakKeyDictionary[SlitImage, Array | None] = WeakKeyDictionary()
_WITHOUT: WeakKeyDictionary[SlitImage, SlitImage] = WeakKeyDictionary()


def _filled(image: SlitImage) -> Array | None:
    """Compute the result of `filled_fraction`, which caches it."""
    missing = _missing_fraction(image)
    if missing is None:
        return None
    missing = np.maximum(missing, 0.0)
    pairs = missing[:, 1:] + missing[:, :-1] > _FILLED
    is_filled = np.zeros(missing.shape, dtype=bool)
    is_filled[:, 1:] |= pairs
    is_filled[:, :-1] |= pairs
    return np.where(is_filled & (missing > _KEPT) & ~lost_pixels(image), missing, 0.0)


def _missing_fraction(image: SlitImage) -> Array | None:
    """Return the fraction of each pixel that no good pixel overlapped, or None if it is unknown."""
    if image.drizzle_weight is None or image.is_stack:
        return None
    weight, read = np.asarray(image.drizzle_weight, dtype=float), image.var_rnoise
    planes = [weight]
    if read is not None and (read > 0).any():
        with np.errstate(invalid="ignore", over="ignore"):
            planes.append(np.where(weight == 0, 0.0, weight * read))
    elif str(LazyHeader.view(image.header).get("RESWHT")).startswith("ivm"):
        return None
    # The weights of the input pixels cancel in WHT or in WHT times VAR_RNOISE. The plane in which
    # they do has the least structure. RESWHT, which would name it, is missing in some files.
    return min(map(_deficit, planes), key=lambda deficit: float(np.abs(deficit).sum()))


def _deficit(plane: Array) -> Array:
    """Return the relative difference of each pixel from the median of its neighbours in the row."""
    known = np.isfinite(plane)
    expected = median_filter(np.where(known, plane, 0.0), size=(1, _COLUMNS), mode="constant")
    known &= expected > 0
    return np.where(known, 1.0 - plane / np.where(known, expected, 1.0), 0.0)
