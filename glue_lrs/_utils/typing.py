"""Array types."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Bools", "Floats", "Mask"]

#: Numbers in double precision; Floats is the same.
Array: TypeAlias = NDArray[np.float64]
Floats: TypeAlias = Array

#: Masks; Bools is the same.
Mask: TypeAlias = NDArray[np.bool_]
Bools: TypeAlias = Mask
