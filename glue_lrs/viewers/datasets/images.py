"""LRS images as glue datasets.

An image becomes a dataset of shape (row, column), or (integration, row, column). Its components
``flux``, ``uncertainty``, ``wavelength`` and ``dq`` share memory with the arrays of the image.
`slit_image` returns the image from which a dataset was made, including what a glue dataset cannot
contain: headers, variances and the WCS.
"""

from __future__ import annotations

import os
import weakref
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np
from glue.core import Data
from glue.core.component import Component
from numpy.typing import NDArray

from glue_lrs.errors import ProductError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.viewers.datasets.coordinates import (
    LRSCoordinates,
    SpectrumCoordinates,
    has_coordinates,
    image_coordinates,
)
from glue_lrs.viewers.datasets.session_image import IMAGE_KEY, SessionImage
from glue_lrs.viewers.datasets.session_meta import RESIDUAL_KEY, file_label, header_cards

_Planes = dict[str, NDArray[Any]]

#: Names of the components, and the fields of `SlitImage` that they contain.
_PLANES = {"flux": "data", "uncertainty": "err", "wavelength": "wavelength", "dq": "dq"}


# Images from which datasets were made, with the arrays that their components had at that time.
# The keys are the flux components, not the datasets, because a session restores a dataset by
# reading its file into a temporary dataset and taking the components from there.
_sources: weakref.WeakKeyDictionary[Component, tuple[SlitImage, _Planes]]
_sources = weakref.WeakKeyDictionary()


def image_data(image: SlitImage, label: str | None = None) -> Data:
    """Make a glue dataset from an image.

    To open a file, use `glue_lrs.viewers.datasets.loaders.open_image`, or open it in glue. A
    session then saves only the name of the file, whereas it saves all pixels for datasets made by
    this function.

    Parameters
    ----------
    image : SlitImage
        Image or stack of images. Its WCS is read.
    label : str, optional
        Name of the dataset; by default, the name of the file.

    Returns
    -------
    `~glue.core.data.Data`
        Dataset of shape (row, column) or (integration, row, column), with the components ``flux``,
        ``uncertainty`` (if the image has ERR), ``wavelength`` (in micron; the same plane for all
        integrations of a stack) and ``dq`` (if the image has DQ). They share memory with the image
        but are read-only. ``coords`` is an `LRSCoordinates`. ``meta`` contains the cards of both
        headers, ``filename`` (the path, or None) and ``kind``.

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
    data.meta[IMAGE_KEY] = SessionImage(image)
    data.meta[IMAGE_KEY].owner = weakref.ref(data)
    _sources[data.get_component("flux")] = image, arrays
    return data


def is_lrs_image(data: object) -> TypeGuard[Data]:
    """Return whether an object is a dataset made by `image_data`, in this or an earlier session."""
    return has_coordinates(data, LRSCoordinates)


def not_an_image(data: object) -> str:
    """Explain in one line why an object is not the dataset of an LRS image.

    Parameters
    ----------
    data : object
        Object for which `is_lrs_image` returns False.
    """
    label = getattr(data, "label", None) or type(data).__name__
    if RESIDUAL_KEY in getattr(data, "meta", {}):
        return f"{label}: is the residual of an LRS image, expected the image"
    ours = isinstance(getattr(data, "coords", None), LRSCoordinates | SpectrumCoordinates)
    if ours and isinstance(data, Data) and data.find_component_id("flux") is None:
        return (
            f"{label}: has no component flux, expected one image; if glue has merged several "
            "datasets into it, open the files again and do not merge them (glue-lrs combine adds "
            "the spectra of nods); if flux was renamed, name it so again"
        )
    return f"{label}: is not an LRS image, expected an s2d, cal or calints"


def slit_image(data: Data) -> SlitImage:
    """Return the image from which a dataset was made.

    Parameters
    ----------
    data : `~glue.core.data.Data`
        Dataset for which `is_lrs_image` returns True.

    Returns
    -------
    SlitImage
        The same object at each call, as long as the values of the components are not replaced.
        After a change, an image with the new values. If the original image is not in memory,
        because the dataset was restored from a session that contained the pixels, the file of the
        image is read or, if it does not exist, the image in the session.

    Raises
    ------
    ProductError
        If `data` is not such a dataset, or the session contains no image and the file is missing.
    """
    if not is_lrs_image(data):
        raise ProductError(not_an_image(data))
    component = data.get_component("flux")
    arrays = {
        name: data.get_component(name).data
        for name in _PLANES
        if data.find_component_id(name) is not None
    }
    if component in _sources:
        image, known = _sources[component]
        if all(arrays.get(name) is values for name, values in known.items()):
            return image
    else:
        image = _image_of_session(data)
        known = _planes(image)
    changed = {}
    for name, values in arrays.items():
        same = name in known and np.array_equal(values, known[name], equal_nan=name != "dq")
        if not same:
            one_plane = name == "wavelength" and data.ndim == 3
            changed[_PLANES[name]] = values[0] if one_plane else values
    image = replace(image, **changed) if changed else image
    _sources[component] = image, arrays
    return image


def _image_of_session(data: Data) -> SlitImage:
    """Return the image of a dataset from its file, or from the session that contained the data."""
    path, stored = data.meta.get("filename"), data.meta.get(IMAGE_KEY)
    if path and os.path.exists(path):
        return SlitImage.read(path)
    if isinstance(stored, SessionImage) and stored.has_image:
        return stored.image()
    if path:
        return SlitImage.read(path)  # raises an error that names the file
    raise ProductError(
        "the image was not read from a file, so that the session contains only its pixels, "
        "expected an image that was opened from a file (SlitImage.write makes one)",
        subject=data.label,
    )


def _planes(image: SlitImage) -> _Planes:
    """Return the arrays of an image under the names of their components.

    The arrays are views, because glue makes the arrays of components read-only, but the arrays of
    the image belong to the caller and must stay writable.
    """
    planes = {name: getattr(image, field) for name, field in _PLANES.items()}
    return {
        name: np.broadcast_to(values, image.data.shape)
        for name, values in planes.items()
        if values is not None
    }
