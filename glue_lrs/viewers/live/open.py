"""Functions that open an image for live extraction, or find its extraction."""

from __future__ import annotations

from os import PathLike

from glue.core import Data, DataCollection
from glue.core.session import Session

from glue_lrs.errors import LRSError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.viewers.datasets.images import image_data, is_lrs_image, not_an_image, slit_image
from glue_lrs.viewers.datasets.loaders import open_image
from glue_lrs.viewers.datasets.session_meta import RESIDUAL_KEY, absolute_path
from glue_lrs.viewers.live.links import image_uuid
from glue_lrs.viewers.live.live_extraction import LiveExtraction
from glue_lrs.viewers.live.registry import live_for, registry_of, session_of


def open_extraction(where: object, data: Data | SlitImage | str | PathLike[str]) -> LiveExtraction:
    """Open an image for extraction, or return the extraction that is open for it already.

    Parameters
    ----------
    where : Application, Session or DataCollection
        The glue object in which to open the image.
    data : Data, SlitImage, str or path-like
        An image, as a glue dataset made by this package, a `SlitImage`, or the path of an s2d, cal
        or calints file. The dataset of the image's spectrum or residual is accepted as well. The
        dataset of the image is added to the collection if necessary.

    Returns
    -------
    LiveExtraction
        The same object whenever the same image is opened again.

    Raises
    ------
    LRSError
        If the file cannot be read or has moved, or if `data` is not an image from MIRI LRS.
    """
    session = session_of(where)
    collection = session.data_collection
    lives = registry_of(collection).lives
    found = _image_dataset(collection, data)
    image = slit_image(found)  # raises an error, before anything changes, if the file has moved
    if found not in collection:
        collection.append(found)
    live = lives.get(found.uuid)
    if live is None or live.data is not found:
        live = LiveExtraction(session, found, image)
        lives[found.uuid] = live
    elif live.spectrum_data not in collection:  # the user has removed the spectrum
        live.add_spectrum()
    return live


def live_of(session: Session, data: object, *, make: bool = False) -> LiveExtraction | None:
    """Return the live extraction for a dataset.

    Parameters
    ----------
    session : glue.core.session.Session
        glue session that contains the dataset.
    data : glue.core.Data
        Dataset of an LRS image, or of the spectrum of a live extraction.
    make : bool
        Whether to open an extraction for an LRS image if there is none yet.

    Returns
    -------
    LiveExtraction or None
        The live extraction, or None if the dataset has none.
    """
    if not isinstance(data, Data):
        return None
    found = live_for(session, data)
    if found is not None:
        return found
    if make and is_lrs_image(data):
        return open_extraction(session, data)
    # A session may restore the dataset of the spectrum before that of its image.
    uuid = image_uuid(data)
    for image in session.data_collection:
        if uuid is not None and image.uuid == uuid and is_lrs_image(image):
            open_extraction(session, image)
            return live_for(session, data)
    return None


def _image_dataset(collection: DataCollection, source: object) -> Data:
    """Return the dataset of an image, if possible from the collection."""
    if isinstance(source, Data):
        uuid = image_uuid(source) or image_uuid(source, RESIDUAL_KEY)
        found: Data = next((data for data in collection if data.uuid == uuid), source)
        if not is_lrs_image(found):
            raise LRSError(not_an_image(found))
        return found
    images = [data for data in collection if is_lrs_image(data)]
    if isinstance(source, SlitImage):
        known = [data for data in images if slit_image(data) is source]
        return known[0] if known else image_data(source)
    if not isinstance(source, str | PathLike):
        raise LRSError(
            f"data is a {type(source).__name__}, expected a Data, a SlitImage or the path of an "
            "s2d, cal or calints file"
        )
    path = absolute_path(source)
    named = [data for data in images if data.meta.get("filename")]
    known = [data for data in named if absolute_path(data.meta["filename"]) == path]
    return known[0] if known else open_image(source)
