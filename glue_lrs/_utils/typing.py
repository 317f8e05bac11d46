"""Type aliases for arrays."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

#: Array in double precision. `Floats` is a synonym.
Array: TypeAlias = NDArray[np.float64]
Floats: TypeAlias = Array

#: Boolean array. `Bools` is a synonym.
Mask: TypeAlias = NDArray[np.bool_]
Bools: TypeAlias = Mask
