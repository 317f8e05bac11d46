"""ApertureCorrection: a table over wavelength and aperture size -> the factor for lost light."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glue_lrs._utils.registry import reader
from glue_lrs.errors import CorrectionError

__all__ = ["ApertureCorrection"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ApertureCorrection:
    """Factors that make up for the light of a point source outside the aperture.

    Parameters
    ----------
    wavelength : array_like
        Wavelengths in micron, shape (n_wave,), without repeats, in any order.
    size : array_like
        Aperture sizes in pixels, shape (n_size,), ascending.
    factor : array_like
        Factors, shape (n_wave, n_size).
    subarray : str
        SUBARRAY that the table belongs to; matched without regard to case.
    filename : str, optional
        The APCORR reference it comes from.

    Raises
    ------
    CorrectionError
        If the shapes do not fit each other or an axis does not ascend.
    """

    wavelength: NDArray[np.float64]
    size: NDArray[np.float64]
    factor: NDArray[np.float64]
    subarray: str = "FULL"
    filename: str | None = None

    read: ClassVar[Callable[..., ApertureCorrection]]

    def __post_init__(self) -> None:
        where = self.filename or "aperture correction"
        wavelength, size, factor = (
            np.asarray(a, dtype=float) for a in (self.wavelength, self.size, self.factor)
        )
        if factor.shape != (wavelength.size, size.size) or factor.size == 0:
            raise CorrectionError(
                f"{where}: APCORR has shape {factor.shape}, expected "
                f"({wavelength.size}, {size.size}) for its wavelengths and sizes"
            )
        order = np.argsort(wavelength)
        wavelength, factor = wavelength[order], factor[order]
        for name, axis in (("WAVELENGTH", wavelength), ("SIZE", size)):
            if axis.size < 2 or not (np.diff(axis) > 0).all():
                raise CorrectionError(
                    f"{where}: {name} has {axis.size} values, expected at least 2 that ascend"
                )
        if not np.isfinite(factor).all():
            raise CorrectionError(f"{where}: APCORR holds values that are not finite")
        for name, values in (("wavelength", wavelength), ("size", size), ("factor", factor)):
            object.__setattr__(self, name, values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ApertureCorrection):
            return NotImplemented
        return self.subarray.upper() == other.subarray.upper() and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("wavelength", "size", "factor")
        )

    def __hash__(self) -> int:
        return hash((self.subarray.upper(), self.factor.tobytes()))

    def check(self, subarray: str | None, label: str = "image") -> None:
        """Raise `CorrectionError` unless the table belongs to this SUBARRAY."""
        if (subarray or "").upper() != self.subarray.upper():
            raise CorrectionError(
                f"{self.filename or 'aperture correction'}: is for SUBARRAY {self.subarray}, "
                f"expected {subarray} as {label}"
            )

    def __call__(self, wavelength: ArrayLike, size: ArrayLike) -> NDArray[np.float64]:
        """Bilinear interpolation, clamped at the edges of the table.

        Parameters
        ----------
        wavelength : array_like
            Wavelengths in micron.
        size : array_like
            Aperture sizes in pixels (NPIXELS); broadcasts against `wavelength`.

        Returns
        -------
        ndarray
            Factors, of the broadcast shape.
        """
        row, down = _between(self.wavelength, wavelength)
        column, right = _between(self.size, size)
        table, width = self.factor.ravel(), self.size.size
        corner = row * width + column
        up, left = 1.0 - down, 1.0 - right
        short = table.take(corner) * left + table.take(corner + 1) * right
        corner += width
        long = table.take(corner) * left + table.take(corner + 1) * right
        return short * up + long * down


def _between(
    axis: NDArray[np.float64], values: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Index of the point below each value, and the fraction of the way to the next; clamped."""
    clamped = np.minimum(np.maximum(np.asarray(values, dtype=float), axis[0]), axis[-1])
    low = np.minimum(axis.searchsorted(clamped, "right") - 1, axis.size - 2)
    below = axis.take(low)
    return low, (clamped - below) / (axis.take(low + 1) - below)


ApertureCorrection.read = reader(
    "apcorr",
    """Read the row of an APCORR reference that belongs to a SUBARRAY.

    Parameters
    ----------
    path : str or path-like
        An APCORR reference of MIRI LRS.
    subarray : str
        SUBARRAY, such as ``"FULL"`` or ``"SLITLESSPRISM"``.

    Returns
    -------
    ApertureCorrection
        The table.

    Raises
    ------
    CorrectionError
        If the file is not such a file, or has no row for the subarray.
    """,
)
