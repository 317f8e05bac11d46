"""Residual: what the model of an optimal extraction leaves of an image, as a glue dataset.

It is a dataset of its own beside the image's, linked to it by row and column: sessions save it,
every viewer shows it, and neither removing it nor removing the image harms the other.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from glue.core import Data, DataCollection
from glue.core.component import Component
from glue.core.link_helpers import LinkSame
from numpy.typing import NDArray

from glue_lrs.errors import LRSWarning
from glue_lrs.extraction.factory import fit_model
from glue_lrs.viewers.datasets.coordinates import image_coordinates

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage

__all__ = ["META", "Residual", "fit_residual", "image_of_residual", "residual_data", "residual_of"]

#: The key of the meta that tells whose residual it is.
META = "glue_lrs_residual"

#: Percentile of the residual's size at which the colours end.
_LIMIT = 99.0


class Residual(NamedTuple):
    """Planes of the shape (row, column), the end of the colours, and what is to be said.

    `residual` is in the image's unit, `sigma` over its standard deviation; `rejected` is 1 where a
    pixel was left out as it disagrees with the model, else 0.
    """

    planes: dict[str, NDArray[Any]]
    limit: float
    notes: tuple[str, ...]


def fit_residual(operator: Extract1D, image: SlitImage) -> Residual:
    """Fit a model to the source within an aperture, and take it from the image.

    Parameters
    ----------
    operator : Extract1D
        Its aperture tells which source, its background the order of what is fitted beside it.
    image : SlitImage
        A single image.

    Returns
    -------
    Residual
        Data less model.

    Raises
    ------
    LRSError
        If nothing can be fitted: see `glue_lrs.extraction.optimal.OptimalExtractor.fit`.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = fit_model(operator, image)
    residual = result.residual()
    rejected = np.zeros(image.shape, dtype=np.uint8)
    rejected[result.rejected[-2:]] = 1
    finite = np.abs(residual[np.isfinite(residual)])
    limit = float(np.percentile(finite, _LIMIT)) if finite.size else 0.0
    planes: dict[str, NDArray[Any]] = {
        "residual": residual.astype(np.float32),
        "sigma": result.normalised_residual().astype(np.float32),
        "rejected": rejected,
    }
    told = [str(one.message) for one in caught if issubclass(one.category, LRSWarning)]
    told = [text.replace(f"{image.label}: ", "") for text in told]
    return Residual(planes, limit if limit > 0 else 1.0, (*result.remarks, *told))


def residual_data(
    collection: DataCollection, owner: Data, image: SlitImage, found: Residual
) -> Data:
    """Put a residual into the dataset of an image's residual; make that where there is none.

    Parameters
    ----------
    collection : DataCollection
        Where the dataset is, or is put.
    owner : `~glue.core.data.Data`
        The image's dataset. The residual's is linked to it by row and column.
    image : SlitImage
        The image that was fitted, of a stack one of its integrations or the median.
    found : Residual
        The residual.

    Returns
    -------
    `~glue.core.data.Data`
        Shape (row, column), components ``residual``, ``sigma`` and ``rejected``.
    """
    data = residual_of(collection, owner)
    if data is not None and data.shape != image.shape:
        collection.remove(data)  # the image has become another one
        data = None
    if data is None:
        data = Data(label=f"{owner.label} residual", coords=image_coordinates(image))
        units = {"residual": "MJy/sr" if image.calibrated else "DN/s"}
        for name, plane in found.planes.items():
            data.add_component(Component(plane, units=units.get(name)), name)
        data.meta[META] = {}
        collection.append(data)
        pairs = zip(owner.pixel_component_ids[-2:], data.pixel_component_ids, strict=True)
        collection.add_link([LinkSame(*pair) for pair in pairs])
    else:
        data.update_components(
            {data.find_component_id(name): plane for name, plane in found.planes.items()}
        )
    data.meta[META] = {
        "image": owner.uuid,
        "rejected": int(found.planes["rejected"].sum()),
        "limit": found.limit,
    }
    return data


def image_of_residual(data: Any) -> str | None:
    """The uuid of the dataset of the image that a dataset is the residual of."""
    stored = getattr(data, "meta", {}).get(META)
    return stored.get("image") if isinstance(stored, dict) else None


def residual_of(collection: DataCollection, owner: Data) -> Data | None:
    """The dataset of an image's residual, if there is one."""
    return next((one for one in collection if image_of_residual(one) == owner.uuid), None)
