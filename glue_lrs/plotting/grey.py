"""Grey scale of images, which figures and viewers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.visualization import (
    AsinhStretch,
    BaseStretch,
    ImageNormalize,
    LinearStretch,
    LogStretch,
    SqrtStretch,
)

from glue_lrs.errors import LRSError, nearest, quoted
from glue_lrs.image.pixels import lost_pixels
from glue_lrs.instrument import NOMINAL_RANGE

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Floats
    from glue_lrs.image.slit_image import SlitImage

#: Colour map of images: bright pixels are white.
CMAP = "gray"

#: Functions from the position between the limits of the scale to brightness, both 0 to 1. The
#: parameter of the asinh stretch is that of glue, so that its viewers show the same picture.
STRETCHES: dict[str, Callable[[], BaseStretch]] = {
    "asinh": lambda: AsinhStretch(0.1),
    "linear": LinearStretch,
    "sqrt": SqrtStretch,
    "log": LogStretch,
}

#: Percentiles of the pixel values that become the lower and the upper limit of the scale.
_CUTS = (1.0, 99.7)
#: Maximum distance of the lower limit from the median, relative to that of the upper limit, so that
#: negative traces do not determine it.
_BELOW = 0.1


def displayed_part(image: SlitImage) -> tuple[slice, slice]:
    """Return the rows and columns of an image to display: the bounding box with a margin."""
    (left, right), (bottom, top) = image.bounding_box
    rows, columns = image.shape
    return (
        slice(max(int(np.floor(bottom)) - 4, 0), min(int(np.ceil(top)) + 5, rows)),
        slice(max(int(np.floor(left)) - 2, 0), min(int(np.ceil(right)) + 3, columns)),
    )


def grey_limits(values: Floats, wavelength: Floats) -> tuple[float, float]:
    """Return the limits of the grey scale for the shown part of an image.

    Parameters
    ----------
    values : ndarray
        Pixel values, NaN where there are none.
    wavelength : ndarray
        Wavelengths of the pixels in micron. Pixels outside `NOMINAL_RANGE` are ignored, unless
        there are no others.

    Returns
    -------
    (float, float)
        Values that are black and white, 0 and 1 if there is no pixel.
    """
    low, high = NOMINAL_RANGE
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        nominal = finite & (wavelength >= low) & (wavelength <= high)
    used = values[nominal if nominal.any() else finite]
    if used.size == 0:
        return 0.0, 1.0
    bottom, middle, top = (float(v) for v in np.percentile(used, [_CUTS[0], 50, _CUTS[1]]))
    bottom = max(bottom, middle - _BELOW * (top - middle))
    return (bottom, top) if top > bottom else (bottom - 1.0, bottom + 1.0)


def image_limits(image: SlitImage) -> tuple[float, float]:
    """Return the limits of the grey scale for the displayed part of an image.

    Parameters
    ----------
    image : SlitImage
        Single image, not a stack. Lost pixels (`glue_lrs.image.pixels.lost_pixels`) are ignored.

    Returns
    -------
    (float, float)
        Values that are black and white; see `grey_limits`.
    """
    part = displayed_part(image)
    good = np.where(lost_pixels(image, part), np.nan, np.asarray(image.data[part], dtype=float))
    return grey_limits(good, np.asarray(image.wavelength)[part])


def grey_norm(image: SlitImage, stretch: str = "asinh") -> Any:
    """Return the normalisation of the displayed part of an image.

    Parameters
    ----------
    image : SlitImage
        Single image, as for `image_limits`.
    stretch : {"asinh", "linear", "sqrt", "log"}
        Name of the stretch.

    Returns
    -------
    `~matplotlib.colors.Normalize`
        Normalisation with limits and stretch.

    Raises
    ------
    LRSError
        If there is no such stretch.
    """
    if stretch not in STRETCHES:
        hint = nearest(str(stretch), list(STRETCHES))
        raise LRSError(
            f"stretch is {quoted(stretch)}{hint}, expected one of {', '.join(STRETCHES)}"
        )
    low, high = image_limits(image)
    return ImageNormalize(vmin=low, vmax=high, stretch=STRETCHES[stretch](), invalid=None)
