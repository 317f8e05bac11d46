"""LRS images as glue datasets.

An image becomes a dataset of shape (row, column), or (integration, row, column). Its components
``flux``, ``uncertainty``, ``wavelength`` and ``dq`` are views of the planes of the image; nothing
is copied. `slit_image` returns the image of a dataset, with what glue has no place for: headers,
variances and the WCS.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from glue.core import Data
from glue.core.component import Component
from numpy.typing import NDArray

from glue_lrs.errors import ProductError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.viewers.datasets.coordinates import (
    LRSCoordinates,
    SpectrumCoordinates,
    image_coordinates,
)
from glue_lrs.viewers.datasets.session_meta import RESIDUAL_KEY, file_label, header_cards

__all__ = ["image_data", "is_lrs_image", "not_an_image", "slit_image"]

#: Component of an image -> field of `SlitImage`.
_PLANES = {"flux": "data", "uncertainty": "err", "wavelength": "wavelength", "dq": "dq"}


@dataclass(frozen=True, eq=False)
class _Source:
    """The image of a dataset, and the arrays that its components had when it was made."""

    image: SlitImage
    arrays: dict[str, NDArray[Any]]


# Keyed by the flux component, not by the dataset: a session restores a dataset with the components
# that its file was just read into.
_sources: weakref.WeakKeyDictionary[Component, _Source] = weakref.WeakKeyDictionary()


def image_data(image: SlitImage, label: str | None = None) -> Data:
    """Make a glue dataset of an image.

    To open a file use `glue_lrs.viewers.datasets.loaders.open_image` (or glue's own ways): a
    session then saves the name of the file, whereas it saves all pixels of other images.

    Parameters
    ----------
    image : SlitImage
        The image, or stack of images. Its WCS is read.
    label : str, optional
        Name of the dataset; by default that of the file.

    Returns
    -------
    `~glue.core.data.Data`
        Shape (row, column) or (integration, row, column). Components ``flux``, ``uncertainty`` (if
        there is ERR), ``wavelength`` (in micron; of a stack the one plane, broadcast) and ``dq``
        (if there is DQ), which share their memory with the image but are read-only. ``coords`` is
        an `LRSCoordinates`; ``meta`` has the cards of both headers, ``filename`` (the path, or
        None) and ``kind``.

    Raises
    ------
    LRSError
        If no pixel has a wavelength.
    """
    coordinates = image_coordinates(image)
    data = Data(label=label or file_label(image.filename) or "LRS image", coords=coordinates)
    unit = "MJy/sr" if image.calibrated else "DN/s"
    units = {"flux": unit, "uncertainty": unit, "wavelength": "um"}
    arrays = _planes(image)
    for name, values in arrays.items():
        data.add_component(Component(values, units=units.get(name)), name)
    coordinates.owner = weakref.ref(data)
    data.meta.update(header_cards(image.header) | header_cards(image.sci_header))
    data.meta.update({"filename": image.path, "kind": image.kind})
    _sources[data.get_component("flux")] = _Source(image, arrays)
    return data


def is_lrs_image(data: Any) -> bool:
    """Return whether an object is a dataset made by `image_data`, in this session or another."""
    return (
        isinstance(data, Data)
        and isinstance(data.coords, LRSCoordinates)
        and data.find_component_id("flux") is not None
    )


def not_an_image(data: Any) -> str:
    """Return the reason why an object is not the dataset of an LRS image, in one line.

    Parameters
    ----------
    data : object
        An object for which `is_lrs_image` returns False.
    """
    label = getattr(data, "label", None) or type(data).__name__
    if RESIDUAL_KEY in getattr(data, "meta", {}):
        return f"{label}: is the residual of an LRS image, expected the image"
    ours = isinstance(getattr(data, "coords", None), LRSCoordinates | SpectrumCoordinates)
    if ours and data.find_component_id("flux") is None:
        return (
            f"{label}: has no component flux, expected one image; if glue has merged several "
            "datasets into it, open the files again and do not merge them (glue-lrs combine adds "
            "the spectra of nods); if flux was renamed, name it so again"
        )
    return f"{label}: is not an LRS image, expected an s2d, cal or calints"


def slit_image(data: Data) -> SlitImage:
    """Return the image of a dataset.

    Parameters
    ----------
    data : `~glue.core.data.Data`
        A dataset for which `is_lrs_image` returns True.

    Returns
    -------
    SlitImage
        The same object each time, until the values of a component are replaced; then an image with
        the new values. If it is not known (a session that contains the pixels), the file is read.

    Raises
    ------
    ProductError
        If it is not such a dataset, or the image has no file or that no longer exists.
    """
    if not is_lrs_image(data):
        raise ProductError(not_an_image(data))
    component = data.get_component("flux")
    source = _sources.get(component)
    arrays = {
        name: data.get_component(name).data
        for name in _PLANES
        if data.find_component_id(name) is not None
    }
    if source is None:
        image = _read_again(data)
        source = _Source(image, _planes(image))
    elif all(arrays.get(name) is values for name, values in source.arrays.items()):
        return source.image
    changed = {}
    for name, values in arrays.items():
        known = source.arrays.get(name)
        if known is None or not np.array_equal(values, known, equal_nan=name != "dq"):
            one_plane = name == "wavelength" and data.ndim == 3
            changed[_PLANES[name]] = values[0] if one_plane else values
    image = replace(source.image, **changed) if changed else source.image
    _sources[component] = _Source(image, arrays)
    return image


def _planes(image: SlitImage) -> dict[str, NDArray[Any]]:
    """The planes of an image by the names of their components.

    They are views, as a component makes its array read-only, and the image belongs to the caller.
    """
    planes = {name: getattr(image, field) for name, field in _PLANES.items()}
    return {
        name: np.broadcast_to(values, image.data.shape)
        for name, values in planes.items()
        if values is not None
    }


def _read_again(data: Data) -> SlitImage:
    """Read the file that a dataset was made from."""
    path = data.meta.get("filename")
    if not path:
        raise ProductError(
            "the image was not read from a file, so that the session contains only "
            "its pixels; expected one that was opened from a file (SlitImage.write makes one)",
            subject=data.label,
        )
    return SlitImage.read(path)
