"""Reader for the calints files of the segments of an exposure, as one stack of integrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from astropy.io import fits
from astropy.table import Table, vstack
from numpy.typing import NDArray

from glue_lrs.errors import ProductError, warn
from glue_lrs.image.joined import JoinedPlane
from glue_lrs.image.pixels import DATA_PLANES
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.io.files import opened, reading
from glue_lrs.io.headers import header_integer
from glue_lrs.io.identify import hdu_by_name, identify_kind
from glue_lrs.io.image_reader import read_image
from glue_lrs.spectra.segments import Segment, exposure_of, joined_header, segment_order
from glue_lrs.spectra.times import SEGMENT, TIMES

if TYPE_CHECKING:
    from glue_lrs.io.files import Source

#: Parameters of `SlitImage` that are the same for all segments of an exposure.
_SAME = (
    "shape", "unit", "exp_type", "calibrated", "pixel_area", "dispaxis", "source_type", "subarray",
    "name", "spectral_order", "source_ra", "source_dec", "kind",
)  # fmt: skip


def read_images(source: Source | Sequence[Source]) -> SlitImage:
    """Read an image as `read_image`, or the segments of an exposure as one stack.

    Parameters
    ----------
    source : str, path-like, file object, `~astropy.io.fits.HDUList`, or a list of these
        An s2d, cal or calints file, or the calints files of the segments of an exposure in any
        order.

    Returns
    -------
    SlitImage
        The image, or the stack of all integrations in ascending order. The planes of a stack from
        several files are `JoinedPlane` objects, which read the selected integrations only, and
        ``times`` has a row for each integration. The WCS and the SCI header are those of the first
        segment, as is the header, apart from INTEND.

    Raises
    ------
    ProductError
        If a file is not such a product, if the files are not the segments of one exposure with
        equal wavelengths, or if an integration is in several of them.

    Warns
    -----
    LRSWarning
        As described in `read_image`, and if integrations are missing between the segments.
    """
    if not isinstance(source, list | tuple) or isinstance(source, fits.HDUList):
        return read_image(source)
    if not source:
        raise ProductError("there are no files, expected at least one")
    if len(source) == 1:
        return read_image(source[0])
    images = [read_image(one, flags_in_memory=False) for one in source]
    for one in images:
        _check_alike(one, images[0])
    with reading("INTSTART"):  # its value may be absurd
        numbers = [_numbers(one) for one in images]
    order, notes = segment_order(
        [
            Segment(one.label, one.header, number)
            for one, number in zip(images, numbers, strict=True)
        ]
    )
    first, *others = ordered = [images[index] for index in order]
    planes: dict[str, Any] = {
        name: cast("NDArray[Any]", JoinedPlane([getattr(one, name) for one in ordered]))
        for name in ("data", *DATA_PLANES)
        if getattr(first, name) is not None
    }
    paths = [one.path for one in ordered if one.path is not None]
    joined = replace(
        first,
        **planes,
        times=vstack([_times(images[index], numbers[index]) for index in order]),
        header=joined_header(first.header, np.concatenate(numbers)),
        filename=f"{first.label} and {len(others)} more segment{'s' * (len(others) > 1)}",
        path=None,
        segments=tuple(paths) if len(paths) == len(ordered) else (),
        as_read=None,
    )
    for note in notes:
        warn(note.about(joined.filename))
    return joined.with_record() if joined.segments else joined


def group_segments(paths: Sequence[str]) -> list[list[str]]:
    """Group the paths of images or spectra, such that the segments of an exposure are in one group.

    Parameters
    ----------
    paths : sequence of str
        s2d, cal and calints files, or x1dints files.

    Returns
    -------
    list of list of str
        Groups in the order of their first files. A calints or x1dints whose exposure or first
        integration is not in its header, or whose first integration is that of another file, is
        alone.
    """
    groups: dict[object, list[str]] = {}
    starts: dict[object, list[object]] = {}
    for number, path in enumerate(paths):
        with opened(path) as (hdulist, _):
            header = hdulist[0].header
            stack = identify_kind(hdu_by_name(hdulist)) in {"calints", "x1dints"}
        key: object = exposure_of(header) if stack else None
        start = header.get("INTSTART")
        if key is None or start is None or start in starts.setdefault(key, []):
            key = number
        else:
            starts[key].append(start)
        groups.setdefault(key, []).append(path)
    return list(groups.values())


def _check_alike(one: SlitImage, first: SlitImage) -> None:
    """Raise `ProductError` if images cannot be segments of one exposure."""
    if not one.is_stack:
        raise ProductError(
            f"is a single image ({one.kind}), expected a calints, because several files are read "
            "as the segments of one exposure",
            subject=one.label,
        )
    for name in _SAME:
        found, expected = getattr(one, name), getattr(first, name)
        if found != expected:
            raise ProductError(
                f"{name} is {found}, expected {expected} as in {first.label}", subject=one.label
            )
    for name in DATA_PLANES:
        if (getattr(one, name) is None) != (getattr(first, name) is None):
            raise ProductError(
                f"{name.upper()} is in one of this file and {first.label}, expected in both",
                subject=one.label,
            )
    if not np.array_equal(one.wavelength, first.wavelength, equal_nan=True):
        raise ProductError(f"has other wavelengths than {first.label}", subject=one.label)


def _numbers(image: SlitImage) -> NDArray[np.int_]:
    """Return the number of each integration of a segment within the exposure."""
    count = len(image.data)
    if image.times is not None and len(image.times) == count:
        return np.asarray(image.times["integration_number"], dtype=int)
    start = header_integer("INTSTART", image.header)
    if start is None:
        text = "has neither INTSTART nor INT_TIMES, expected one of them in a segment"
        raise ProductError(text, subject=image.label)
    return start + np.arange(count)


def _times(image: SlitImage, numbers: NDArray[np.int_]) -> Table:
    """Return the times of a segment, NaN if they are unknown, and the number of the segment."""
    segment = header_integer("EXSEGNUM", image.header)
    known = image.times if image.times is not None and len(image.times) == numbers.size else None
    made = Table({"integration_number": numbers.astype(np.int32)})
    for name in TIMES.values():
        made[name] = np.full(numbers.size, np.nan) if known is None else np.asarray(known[name])
    made[SEGMENT] = np.full(numbers.size, 1 if segment is None else segment, dtype=np.int32)
    return made
