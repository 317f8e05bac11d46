"""Links in glue between the dataset of an image and the dataset of its spectrum."""

from __future__ import annotations

from glue.core import Data, DataCollection
from glue.core.link_helpers import LinkSame


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
