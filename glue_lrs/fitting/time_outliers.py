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
from numpy.typing import NDArray

from glue_lrs.errors import ProductError
from glue_lrs.fitting.time_search import FoundPixels, search_group
from glue_lrs.image.patched_plane import PatchedPlane
from glue_lrs.image.pixels import PLANES
from glue_lrs.instrument import DO_NOT_USE

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage

#: Smallest number of integrations. The median of fewer is not much better than one of them.
FEWEST = 5

#: Number of integrations in a group. Within a group, the shape of the spectrum must be constant,
#: and the group must fit into memory several times.
_GROUP = 64

#: Number of columns with a wavelength that are too few for a model of source and background.
_FEWEST_COLUMNS = 4


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
        changes, planes = self._changes(image, how), {}
        for name, (places, values) in changes.items():
            plane = getattr(image, name)
            planes[name] = PatchedPlane(
                _no_flags(image) if plane is None else plane, places, values
            )
        return image.derived(**planes)

    def remove_from(self, image: SlitImage, how: Literal["lost", "replace"]) -> SlitImage:
        """Return the stack without outliers, as `without`, after modifying its planes in memory."""
        if image.dq is None:
            image = image.derived(dq=_no_flags(image).copy())
        for name, (places, values) in self._changes(image, how).items():
            getattr(image, name)[tuple(places)] = values
        return image

    def _changes(self, image: SlitImage, how: Literal["lost", "replace"]) -> dict[str, Any]:
        """Return the changed pixels, sorted by integration, and their new values for each plane."""
        dq = _no_flags(image) if image.dq is None else image.dq
        if how == "lost":
            return {"dq": (self.outliers, _at(dq, self.outliers) | DO_NOT_USE)}
        order = np.argsort(np.r_[self.outliers[0], self.lost[0]], kind="stable")
        places = np.concatenate([self.outliers, self.lost], axis=1)[:, order]
        made = {
            name: (places, np.r_[values, self.lost_values[name]][order])
            for name, values in self.outlier_values.items()
        }
        return {**made, "dq": (places, _at(dq, places) & ~np.uint32(DO_NOT_USE))}


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


def remove_time_outliers(image: SlitImage, how: Literal["lost", "replace"]) -> SlitImage:
    """Return a stack without outliers along time, as `without_time_outliers`.

    It is faster, but modifies the planes of the stack, which must be arrays that belong to the
    caller. The parameters are those of `without_time_outliers`.
    """
    found = find_time_outliers(image)
    made = found.remove_from(image, how)
    _FOUND.pop(image)
    _REMOVED[made] = found
    return made


def share_removed_outliers(image: SlitImage, other: SlitImage) -> None:
    """Record the outliers that were removed from a stack also for a modified copy of it."""
    if image in _REMOVED:
        _REMOVED[other] = _REMOVED[image]


def removed_time_outliers(image: SlitImage) -> TimeOutliers | None:
    """Return the outliers that `without_time_outliers` removed from an image, or None."""
    return _REMOVED.get(image)


def one_integration(image: SlitImage, number: int | None) -> SlitImage:
    """Return one integration, or the median, of a stack, with its record of removed outliers.

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
        found: tuple[list[FoundPixels], list[FoundPixels]] = [], []
        first_pixel = np.array([[0], [rows[0]], [columns[0]]])
        for first, last in pairwise(group_edges(len(image.data))):
            first_pixel[0] = first
            planes = _native_planes(image, (slice(first, last), *window))
            for parts, part in zip(found, search_group(planes, known[window]), strict=True):
                parts.append(FoundPixels(part.places + first_pixel, part.values))
        places = [np.concatenate([part.places for part in parts], axis=1) for parts in found]
        values = [
            {name: np.concatenate([p.values[name] for p in parts]) for name in parts[0].values}
            for parts in found
        ]
        _FOUND[image] = TimeOutliers(places[0], places[1], values[0], values[1])
    return _FOUND[image]


def group_edges(number: int) -> list[int]:
    """Return the edges of the groups into which a number of integrations is divided."""
    edges = np.linspace(0, number, max(round(number / _GROUP), 1) + 1)
    found: list[int] = edges.round().astype(int).tolist()
    return found


def _native_planes(image: SlitImage, where: tuple[slice, ...]) -> dict[str, NDArray[Any]]:
    """Return the group of each plane in native byte order, in which it is read only once."""
    planes = {}
    for name in ("data", "err", *PLANES, "dq"):
        plane = getattr(image, name)
        if plane is not None:
            part = np.asarray(plane[where])
            planes[name] = part.astype(part.dtype.newbyteorder("="), copy=False)
    return planes


def _no_flags(image: SlitImage) -> NDArray[np.uint32]:
    return np.broadcast_to(np.zeros((), np.uint32), image.data.shape)


def _at(plane: NDArray[Any], places: NDArray[np.intp]) -> NDArray[Any]:
    """Return the values of a plane at places with ascending integrations."""
    if isinstance(plane, np.ndarray):
        return plane[tuple(places)]
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
