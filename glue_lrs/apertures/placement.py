"""Placement of an aperture: offsets and trace found for one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from glue_lrs.image.source_position import SourcePosition

__all__ = ["Placement"]


@dataclass(frozen=True)
class Placement:
    """Where the source was found and what that did to the aperture.

    Parameters
    ----------
    position : SourcePosition, optional
        Where the header puts the source; None where it was not asked or is not known.
    offset : float
        Columns that the aperture was moved by, `position_offset` included.
    background_offset : float
        Columns that the background regions were moved by.
    trace : ndarray, optional
        Column of the source in each row.
    """

    position: SourcePosition | None = None
    offset: float = 0.0
    background_offset: float = 0.0
    trace: NDArray[np.float64] | None = None
