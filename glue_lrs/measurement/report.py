"""Text and tables of a measurement."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["plain", "plus_minus"]


def plus_minus(value: float, error: float) -> str:
    """A value and its error, with two digits of the error."""
    if not (math.isfinite(value) and math.isfinite(error)) or error <= 0:
        return f"{value:.3f}"
    digits = int(np.clip(1 - math.floor(math.log10(error)), 0, 6))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def plain(value: Any) -> Any:
    """Numbers as JSON has them: NaN and infinity are None."""
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(v) for v in value]
    return float(value) if math.isfinite(value) else None
