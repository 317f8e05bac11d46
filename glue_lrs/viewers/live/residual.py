"""Residual of an image: data minus the model of an optimal extraction, as a glue dataset.

The residual is a dataset of its own, linked to the image by row and column. Sessions therefore save
it, all viewers can show it, and either dataset can be removed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from glue.core import Data, DataCollection
from glue.core.component import Component
from glue.core.link_helpers import LinkSame
from numpy.typing import NDArray

from glue_lrs.viewers.datasets.coordinates import image_coordinates
from glue_lrs.viewers.datasets.session_meta import RESIDUAL_KEY
from glue_lrs.viewers.live.links import derived_data
from glue_lrs.viewers.live.messages import collected_warnings

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage

#: Percentile of the absolute residual that is the limit of the colour scale.
_LIMIT_PERCENTILE = 99.0


class Residual(NamedTuple):
    """Arrays of shape (row, column), the limit of the colour scale, and notes for the user.

    The arrays are ``residual`` (data minus model in the image's unit), ``sigma`` (residual over its
    1-sigma error) and ``rejected`` (1 in pixels rejected as outliers, else 0).
    """

    planes: dict[str, NDArray[Any]]
    limit: float
    notes: tuple[str, ...]


def fit_residual(operator: Extract1D, image: SlitImage) -> Residual:
    """Fit a model to the source within an aperture, and subtract it from the image.

    Parameters
    ----------
    operator : Extract1D
        `Extract1D` operator. Its aperture selects the source, and its background gives the order of
        the fitted background.
    image : SlitImage
        A single image.

    Returns
    -------
    Residual
        Data minus model.

    Raises
    ------
    LRSError
        If nothing can be fitted; see `glue_lrs.extraction.optimal.OptimalExtractor.fit`.
    """
    with collected_warnings(image) as warned:
        result = operator.fit_model(image)
    residual = result.residual()
    rejected = np.zeros(image.shape, dtype=np.uint8)
    rejected[result.rejected[-2:]] = 1
    finite = np.abs(residual[np.isfinite(residual)])
    limit = float(np.percentile(finite, _LIMIT_PERCENTILE)) if finite.size else 0.0
    planes: dict[str, NDArray[Any]] = {
        "residual": residual.astype(np.float32),
        "sigma": result.normalised_residual().astype(np.float32),
        "rejected": rejected,
    }
    return Residual(planes, limit if limit > 0 else 1.0, (*result.remarks, *warned))


def residual_data(
    collection: DataCollection, owner: Data, image: SlitImage, residual: Residual
) -> Data:
    """Update the dataset with the residual of an image, or make the dataset.

    Parameters
    ----------
    collection : DataCollection
        Collection that contains the dataset.
    owner : `~glue.core.data.Data`
        Dataset of the image, to which the dataset of the residual is linked by row and column.
    image : SlitImage
        Image that was fitted, which is an integration or the median if the dataset is a stack.
    residual : Residual
        Residual to store in the dataset.

    Returns
    -------
    `~glue.core.data.Data`
        Dataset of shape (row, column) with the components ``residual``, ``sigma`` and ``rejected``.
    """
    data = derived_data(collection, owner, RESIDUAL_KEY)
    if data is not None and data.shape != image.shape:
        collection.remove(data)  # the image was replaced by an image with another shape
        data = None
    if data is None:
        data = Data(label=f"{owner.label} residual", coords=image_coordinates(image))
        units = {"residual": "MJy/sr" if image.calibrated else "DN/s"}
        for name, plane in residual.planes.items():
            data.add_component(Component(plane, units=units.get(name)), name)
        data.meta[RESIDUAL_KEY] = {}
        collection.append(data)
        pairs = zip(owner.pixel_component_ids[-2:], data.pixel_component_ids, strict=True)
        collection.add_link([LinkSame(*pair) for pair in pairs])
    else:
        data.update_components(
            {data.find_component_id(name): plane for name, plane in residual.planes.items()}
        )
    data.meta[RESIDUAL_KEY] = {
        "image": owner.uuid,
        "rejected": int(residual.planes["rejected"].sum()),
        "limit": residual.limit,
    }
    return data
