"""Relations in glue between the dataset of an image and the datasets derived from it."""

from __future__ import annotations

from glue.core import Data, DataCollection
from glue.core.link_helpers import LinkSame

#: Key in the ``meta`` of a spectrum, for the state of the live extraction.
STATE_KEY = "glue_lrs"


def image_uuid(data: object, key: str = STATE_KEY) -> str | None:
    """Return the uuid of the image from which a dataset was derived, or None.

    Parameters
    ----------
    data : object
        Dataset that may be derived from an image.
    key : str
        Key in the ``meta`` of the dataset. By default, the key of spectra.
    """
    stored = getattr(data, "meta", {}).get(key)
    return stored.get("image") if isinstance(stored, dict) else None


def derived_data(collection: DataCollection, image: Data, key: str = STATE_KEY) -> Data | None:
    """Return the dataset in a collection that was derived from an image, or None."""
    return next((one for one in collection if image_uuid(one, key) == image.uuid), None)


def link_image_and_spectrum(collection: DataCollection, image: Data, spectrum: Data) -> None:
    """Link an image and its spectrum, so that a subset of either selects the same rows in both.

    They are linked by wavelength and by row.

    Parameters
    ----------
    collection : DataCollection
        Collection that contains both datasets. Existing links are not added again.
    image, spectrum : Data
        Datasets to link.
    """
    wavelength = spectrum.find_component_id("wavelength")
    image_wavelength = image.find_component_id("wavelength")
    pairs = [
        (image_wavelength, wavelength),
        (image.pixel_component_ids[-2], spectrum.find_component_id("row")),
    ]
    if image.coords is not None:
        pairs.append((image.world_component_ids[-2], wavelength))
    if spectrum.coords is not None:
        pairs.append((image_wavelength, spectrum.world_component_ids[0]))
    linked = {
        frozenset((*link.cids1, *link.cids2))
        for link in collection.external_links
        if hasattr(link, "cids1")
    }
    new = [LinkSame(*pair) for pair in pairs if frozenset(pair) not in linked]
    if new:
        collection.add_link(new)
