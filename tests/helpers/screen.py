"""Pixels on the screen: where a viewer has drawn which colour."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray


def pixels(viewer: Any) -> NDArray[np.int_]:
    """The pixels on the screen, without drawing."""
    return np.array(viewer.figure.canvas.buffer_rgba())[..., :3].astype(int)


def coloured(viewer: Any, colour: str, tolerance: int = 12) -> NDArray[np.bool_]:
    """Mask of the pixels of a colour."""
    rgb = np.rint(255 * np.array(to_rgb(colour)))
    return np.asarray((np.abs(pixels(viewer) - rgb) <= tolerance).all(axis=-1))


def screen(viewer: Any, x: Any, y: Any) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Rows and columns of the pixels of points in data coordinates."""
    at = viewer.axes.transData.transform(np.column_stack(np.broadcast_arrays(x, y)))
    height = viewer.figure.canvas.renderer.height
    return np.floor(height - at[:, 1]).astype(int), np.floor(at[:, 0]).astype(int)


def near(mask: NDArray[np.bool_], rows: Any, columns: Any, reach: int = 2) -> NDArray[np.bool_]:
    """Whether a pixel of the mask is within reach of each place."""
    found = np.zeros(np.shape(rows), dtype=bool)
    for down in range(-reach, reach + 1):
        for across in range(-reach, reach + 1):
            found |= mask[
                np.clip(rows + down, 0, mask.shape[0] - 1),
                np.clip(columns + across, 0, mask.shape[1] - 1),
            ]
    return found


def redrawn(viewer: Any) -> NDArray[np.int_]:
    """The pixels after a full draw."""
    viewer.figure.canvas.draw()
    return pixels(viewer)


def inside(viewer: Any, picture: NDArray[np.int_]) -> NDArray[np.int_]:
    """The part of the pixels within the axes, without the frame."""
    box, height = viewer.axes.bbox, viewer.figure.canvas.renderer.height
    return picture[
        round(height - box.y1) + 3 : round(height - box.y0) - 3,
        round(box.x0) + 3 : round(box.x1) - 3,
    ]
