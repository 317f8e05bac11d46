"""Expected position of the source from DITH_RA, DITH_DEC and the WCS.

The position is computed as in the pipeline (``location_from_wcs``). Only the trace in images that
are not resampled differs: the pipeline shifts it by several rows and omits the last row, whereas
`glue_lrs.image.trace` gives the correct value in each row.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy.coordinates import angular_separation

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.instrument import FIXED_SLIT

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage


#: Largest distance in arcsec of the source from the position that the WCS gives for its column. The
#: slit is 0.51 arcsec wide.
_OFF_SLIT = 2.0

#: Largest width of the WCS bounding box, in units of the width of the image. It may be larger than
#: an image that was cut out, but not by much.
_WIDEST = 100


def source_position(image: SlitImage) -> SourcePosition | None:
    """Return the expected position of the source from header and WCS.

    Parameters
    ----------
    image : SlitImage
        Image of the source.

    Returns
    -------
    SourcePosition or None
        Expected position, or None if it is unknown.
    """
    with contextlib.suppress(NotImplementedError):  # raised if the WCS has no inverse
        found = expected_position(image)
        return found if isinstance(found, SourcePosition) else None
    return None


def nod_column(image: SlitImage) -> float | None:
    """Return the expected column of the source in the other nod, at the central wavelength.

    The column is computed from the dither offsets and the WCS.

    Parameters
    ----------
    image : SlitImage
        Image that is not resampled, so that its WCS has the frame ``v2v3``, with XOFFSET and
        YOFFSET in its header.

    Returns
    -------
    float or None
        Expected column, or None if it cannot be determined.
    """
    wcs = image.wcs
    if wcs is None or "v2v3" not in wcs.available_frames:
        return None
    found = expected_position(image)
    if not isinstance(found, SourcePosition):
        return None
    try:
        header = LazyHeader.view(image.header)
        x, y = -float(header["XOFFSET"]), float(header["YOFFSET"])
        keys = ("V3I_YANG", "V2_REF", "V3_REF", "VPARITY")
        science = LazyHeader.view(image.sci_header)
        angle, v2, v3, parity = (float(science[key]) for key in keys)
    except (KeyError, TypeError, ValueError):
        return None
    # Convert the offset of the other nod from the ideal frame of the aperture to V2, V3. Only the
    # offset along x, which is the direction of the slit, has the opposite sign in the other nod, as
    # in the pipeline (``_nod_pair_from_dither``).
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    v2 += parity * x * cosine + y * sine
    v3 += -parity * x * sine + y * cosine
    ra, dec = wcs.get_transform("v2v3", "world")(v2, v3, 0.0)[:2]
    column = float(wcs.backward_transform(ra, dec, found.wavelength)[0])
    return column if math.isfinite(column) else None


def header_column(image: SlitImage) -> float | None:
    """Return the expected column of the source in the middle row, or None if it is unknown.

    The middle row is that of a resampled image, and otherwise that of the WCS bounding box.
    """
    row = image.shape[0] // 2
    known = image.wavelength[row][np.isfinite(image.wavelength[row])]
    if image.kind != "s2d" or known.size == 0:
        position = expected_position(image)
        return position.column if isinstance(position, SourcePosition) else None
    # The trace in a resampled image is straight, so that a single evaluation of the WCS, which is
    # slow, suffices.
    if image.source_ra is None or image.source_dec is None or image.wcs is None:
        return None
    wavelength = float(known.mean())
    found = image.wcs.backward_transform(image.source_ra, image.source_dec, wavelength)
    column = float(found[0])
    inside = -0.5 <= column <= image.shape[1] - 0.5
    return column if inside and _off_slit(image, column, row) is None else None


@dataclass(frozen=True)
class SourcePosition:
    """Expected position of the source in a reference row.

    Parameters
    ----------
    row : int
        Reference row, which is the middle row of the WCS bounding box.
    wavelength : float
        Wavelength in the reference row in micron.
    column : float
        Column of the source in the reference row.
    """

    row: int
    wavelength: float
    column: float


def expected_position(image: SlitImage) -> SourcePosition | str:
    """Return the expected position of the source, or the reason why it is unknown.

    Parameters
    ----------
    image : SlitImage
        Image. The position is known only for fixed-slit images with a WCS, DITH_RA and DITH_DEC.

    Returns
    -------
    SourcePosition or str
        Expected position, or the reason as text.
    """
    if image.exp_type != FIXED_SLIT:
        return f"there is no source position for EXP_TYPE {image.exp_type}"
    if image.source_ra is None or image.source_dec is None:
        return "the header has no DITH_RA and DITH_DEC"
    if image.wcs is None:
        return "the file has no WCS"
    (left, right), (bottom, top) = image.bounding_box
    if right > _WIDEST * image.shape[1]:
        return f"the WCS bounding box ends at column {right:g}, the image has {image.shape[1]}"
    middle = (bottom + top) / 2.0
    columns = np.arange(round(right), dtype=float)
    wavelengths = np.asarray(image.wcs(columns, np.full_like(columns, middle))[2], dtype=float)
    finite = wavelengths[np.isfinite(wavelengths)]
    if finite.size == 0:
        return f"the WCS gives no wavelength in row {middle:g}"
    wavelength = float(finite.mean())
    backward = image.wcs.backward_transform
    column = float(backward(image.source_ra, image.source_dec, wavelength)[0])
    if not np.isfinite(column):
        return "the WCS gives no column for DITH_RA, DITH_DEC"
    if not left <= column <= right:
        return (
            f"the WCS puts the source at column {column:.2f}, outside the bounding box "
            f"({left:g} to {right:g})"
        )
    off_slit = _off_slit(image, column, middle)
    return off_slit or SourcePosition(int(np.round(middle)), wavelength, column)


def _off_slit(image: SlitImage, column: float, row: float) -> str | None:
    """Return the reason as text if the source is not in the slit, else None.

    The distance must be checked, because the inverse of the WCS gives a column for a source beside
    the slit, too.

    Parameters
    ----------
    image : SlitImage
        Image with a WCS and the position of the source.
    column, row : float
        Position of the source in pixels according to the WCS.
    """
    assert image.wcs is not None
    assert image.source_ra is not None
    assert image.source_dec is not None
    ra, dec = image.wcs(column, row)[:2]
    there = angular_separation(*np.radians([ra, dec, image.source_ra, image.source_dec]))
    distance = float(np.degrees(there)) * 3600.0
    # The distance is NaN where the WCS has no value, so that nothing can be said.
    if not distance > _OFF_SLIT:
        return None
    return f"DITH_RA, DITH_DEC is {distance:.3g} arcsec from the slit"
