"""Type aliases for arrays."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

#: Type of arrays in double precision, with the synonym `Floats`.
Array: TypeAlias = NDArray[np.float64]
Floats: TypeAlias = Array

#: Type of boolean arrays, with the synonym `Bools`.
Mask: TypeAlias = NDArray[np.bool_]
Bools: TypeAlias = Mask
