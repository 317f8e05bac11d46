"""Open an image for live extraction."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import Any

from glue.core import Data, DataCollection

from glue_lrs.errors import LRSError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.viewers.datasets import datasets as glue_data
from glue_lrs.viewers.datasets.loaders import open_image
from glue_lrs.viewers.live.live_extraction import LiveExtraction, image_uuid
from glue_lrs.viewers.live.registry import registry_of, session_of
from glue_lrs.viewers.live.residual import image_of_residual

__all__ = ["open_extraction"]


def open_extraction(where: Any, data: Any) -> LiveExtraction:
    """Open an image for extraction, or find the extraction that it has.

    Parameters
    ----------
    where : Application, Session or DataCollection
        Of glue.
    data : Data, SlitImage, str or path-like
        An image: a Data made by this package, which is added to the collection if it is not in it
        (or that of its spectrum), an image, or an s2d, cal or calints file.

    Returns
    -------
    LiveExtraction
        The same one whenever the same data are opened again.

    Raises
    ------
    LRSError
        If the file cannot be read or has moved, or the data are no image of MIRI LRS.
    """
    session = session_of(where)
    collection = session.data_collection
    registry = registry_of(collection, session)
    found = _image_data(collection, data)
    image = glue_data.slit_image(found)  # says if the file is gone, before anything is changed
    if found not in collection:
        collection.append(found)
    live = registry.lives.get(found.uuid)
    if live is None or live.data is not found:
        live = LiveExtraction(session, found, image)
        registry.lives[found.uuid] = live
    elif live.spectrum_data not in collection:  # somebody has removed it
        collection.append(live.spectrum_data)
        live._link()
    return live


def _image_data(collection: DataCollection, source: Any) -> Data:
    """The Data of an image: one of the collection if it is there."""
    if isinstance(source, Data):
        uuid = image_uuid(source) or image_of_residual(source)
        source = next((data for data in collection if data.uuid == uuid), source)
        if not glue_data.is_lrs_image(source):
            raise LRSError(glue_data.no_image(source))
        return source
    images = [data for data in collection if glue_data.is_lrs_image(data)]
    if isinstance(source, SlitImage):
        for data in images:
            if glue_data.slit_image(data) is source:
                return data
        return glue_data.image_data(source)
    if not isinstance(source, str | PathLike):
        raise LRSError(
            f"data is a {type(source).__name__}, expected a Data, a SlitImage or the path of an "
            "s2d, cal or calints file"
        )
    path = Path(fspath(source)).expanduser().resolve()
    for data in images:
        name = data.meta.get("filename")
        if name and Path(name).resolve() == path:
            return data
    return open_image(source)
