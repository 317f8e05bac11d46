"""Open an image for live extraction."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import Any

from glue.core import Data, DataCollection

from glue_lrs.errors import LRSError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.viewers.datasets.images import image_data, is_lrs_image, not_an_image, slit_image
from glue_lrs.viewers.datasets.loaders import open_image
from glue_lrs.viewers.live.live_extraction import LiveExtraction
from glue_lrs.viewers.live.persistence import image_uuid
from glue_lrs.viewers.live.registry import registry_of, session_of
from glue_lrs.viewers.live.residual import image_of_residual

__all__ = ["open_extraction"]


def open_extraction(where: Any, data: Any) -> LiveExtraction:
    """Open an image for extraction, or return the extraction that is open for it.

    Parameters
    ----------
    where : Application, Session or DataCollection
        Object of glue where the image is opened.
    data : Data, SlitImage, str or path-like
        An image: a dataset of this package (also that of the spectrum or the residual of an image),
        which is added to the collection if it is not in it, a `SlitImage`, or the path of an s2d,
        cal or calints file.

    Returns
    -------
    LiveExtraction
        The same one whenever the same image is opened again.

    Raises
    ------
    LRSError
        If the file cannot be read or has moved, or it is not an image of MIRI LRS.
    """
    session = session_of(where)
    collection = session.data_collection
    registry = registry_of(collection, session)
    found = _image_dataset(collection, data)
    image = slit_image(found)  # raises if the file has moved, before anything is changed
    if found not in collection:
        collection.append(found)
    live = registry.lives.get(found.uuid)
    if live is None or live.data is not found:
        live = LiveExtraction(session, found, image)
        registry.lives[found.uuid] = live
    elif live.spectrum_data not in collection:  # the user has removed it
        live.add_spectrum()
    return live


def _image_dataset(collection: DataCollection, source: Any) -> Data:
    """The dataset of an image: that of the collection if it is there."""
    if isinstance(source, Data):
        uuid = image_uuid(source) or image_of_residual(source)
        source = next((data for data in collection if data.uuid == uuid), source)
        if not is_lrs_image(source):
            raise LRSError(not_an_image(source))
        return source
    images = [data for data in collection if is_lrs_image(data)]
    if isinstance(source, SlitImage):
        for data in images:
            if slit_image(data) is source:
                return data
        return image_data(source)
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
