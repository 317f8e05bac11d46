"""Cuts and embeddings of simulated products."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.simulation.geometry import DETECTOR, DETECTOR_CUT, Geometry

__all__ = ["cut_to_box", "embed_in_detector"]


def cut_to_box(geometry: Geometry) -> Geometry:
    """The pixels of the slit's bounding box alone."""
    if geometry.shape != DETECTOR.shape:
        return geometry
    (left, right), (bottom, top) = geometry.box
    row, column = DETECTOR_CUT
    shape = int(np.floor(top)) - row + 1, int(np.floor(right)) - column + 1
    return Geometry(
        geometry.dispersion,
        shape,
        geometry.column - column,
        geometry.row - row,
        ((left - column, right - column), (bottom - row, top - row)),
    )


def embed_in_detector(plane: NDArray[Any], geometry: Geometry, fill: float) -> NDArray[Any]:
    """Put the pixels of the slit on the whole detector."""
    whole = np.full(geometry.shape, fill, dtype=plane.dtype)
    row, column = DETECTOR_CUT
    whole[row : row + plane.shape[0], column : column + plane.shape[1]] = plane
    return whole
