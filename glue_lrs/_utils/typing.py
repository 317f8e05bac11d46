"""Array types."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Bools", "Floats", "Mask"]

Floats: TypeAlias = NDArray[np.float64]

Bools: TypeAlias = NDArray[np.bool_]

Array = NDArray[np.float64]

Mask = NDArray[np.bool_]
