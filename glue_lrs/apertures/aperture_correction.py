"""Aperture correction factors as a function of wavelength and aperture size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import registry
from numpy.typing import ArrayLike, NDArray

from glue_lrs._utils.display import described, joined, span_text
from glue_lrs._utils.registry import unified_io
from glue_lrs.errors import CorrectionError
from glue_lrs.spectra.findings import Finding

if TYPE_CHECKING:
    from glue_lrs.io.files import Source

#: Wavelengths and sizes that are outside the table by at most `_MARGIN` (micron or pixels) count as
#: inside, because factors change by less than 1% over this distance. Values farther outside are
#: reported if they are more than the fraction `_REPORTED_OUTSIDE` of all values. A smaller fraction
#: is usually at the ends of the spectrum, which have little flux.
_MARGIN, _REPORTED_OUTSIDE = 0.01, 0.1


@dataclass(frozen=True, eq=False, kw_only=True)
class ApertureCorrection:
    """Table of factors that account for point-source flux outside the aperture.

    Parameters
    ----------
    wavelength : array_like
        Distinct wavelengths in micron, in any order, shape (n_wave,).
    size : array_like
        Aperture sizes in pixels, ascending, shape (n_size,).
    factor : array_like
        Factors by which a flux is multiplied, shape (n_wave, n_size).
    subarray : str
        SUBARRAY to which the table applies. Upper and lower case are equivalent.
    filename : str, optional
        APCORR reference file from which the table was read.
    error : array_like, optional
        1-sigma errors of the factors, shape (n_wave, n_size). They do not affect a spectrum
        (`glue_lrs.measurement.error_budget`).

    Raises
    ------
    CorrectionError
        If the shapes are inconsistent, wavelengths are equal, sizes do not ascend, or a factor is
        not finite.
    """

    wavelength: NDArray[np.float64]
    size: NDArray[np.float64]
    factor: NDArray[np.float64]
    subarray: str = "FULL"
    filename: str | None = None
    error: NDArray[np.float64] | None = None

    @unified_io("apcorr")
    @classmethod
    def read(cls, path: Source, subarray: str = "FULL", **options: Any) -> ApertureCorrection:
        """Read the aperture correction for a SUBARRAY from an APCORR reference file.

        Parameters
        ----------
        path : str or path-like
            APCORR reference file for MIRI LRS.
        subarray : str
            SUBARRAY, such as ``"FULL"`` or ``"SLITLESSPRISM"``.

        Returns
        -------
        ApertureCorrection
            Correction factors from the row for this SUBARRAY.

        Raises
        ------
        CorrectionError
            If the file is not an APCORR reference file for MIRI LRS, or if it does not have exactly
            one row for this SUBARRAY.
        """
        return registry.read(cls, path, subarray, **options)

    def __post_init__(self) -> None:
        subject = self._label
        wavelength, size, factor = (
            np.asarray(a, dtype=float) for a in (self.wavelength, self.size, self.factor)
        )
        if factor.shape != (wavelength.size, size.size) or factor.size == 0:
            raise CorrectionError(
                f"APCORR has shape {factor.shape}, expected "
                f"({wavelength.size}, {size.size}) for its wavelengths and sizes",
                subject=subject,
            )
        order = np.argsort(wavelength)
        wavelength, factor = wavelength[order], factor[order]
        if self.error is not None:
            error = np.asarray(self.error, dtype=float)
            if error.shape != factor.shape:
                raise CorrectionError(
                    f"APCORR_ERR has shape {error.shape}, expected {factor.shape} as APCORR",
                    subject=subject,
                )
            object.__setattr__(self, "error", error[order])
        for name, axis in (("WAVELENGTH", wavelength), ("SIZE", size)):
            if axis.size < 2 or not (np.diff(axis) > 0).all():
                raise CorrectionError(
                    f"{name} has {axis.size} values, expected at least 2 that ascend",
                    subject=subject,
                )
        if not np.isfinite(factor).all():
            raise CorrectionError("APCORR holds values that are not finite", subject=subject)
        for name, values in (("wavelength", wavelength), ("size", size), ("factor", factor)):
            object.__setattr__(self, name, values)

    def __repr__(self) -> str:
        sizes, waves = span_text(self.size, "pixels", "g"), span_text(self.wavelength, "um")
        factors = f"factors {span_text(self.factor, '', '.3f')}"
        subarray = f"for SUBARRAY {self.subarray}"
        return described(self, subarray, joined(factors, sizes, waves), self.filename)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ApertureCorrection):
            return NotImplemented
        return self.subarray.upper() == other.subarray.upper() and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("wavelength", "size", "factor", "error")
        )

    def __hash__(self) -> int:
        return hash((self.subarray.upper(), self.factor.tobytes()))

    def check(self, subarray: str | None, label: str = "image") -> None:
        """Raise `CorrectionError` if the table is not for the SUBARRAY of an image.

        `label` is the name of the image in the message.
        """
        if (subarray or "").upper() != self.subarray.upper():
            raise CorrectionError(
                f"is for SUBARRAY {self.subarray}, expected {subarray}, that of {label}",
                subject=self._label,
            )

    def range_findings(self, wavelength: ArrayLike, size: ArrayLike) -> list[Finding]:
        """Return findings if more than 10% of the wavelengths or sizes are outside the table.

        Values outside have the factor of the nearest value in the table, as in the pipeline.

        Parameters
        ----------
        wavelength, size : array_like
            Wavelengths in micron, and aperture sizes in pixels.
        """
        findings = []
        for name, unit, axis, values in (
            ("wavelengths", "um", self.wavelength, np.asarray(wavelength, dtype=float)),
            ("aperture sizes", "pixels", self.size, np.asarray(size, dtype=float)),
        ):
            if values.size and axis[0] <= values.min() and values.max() <= axis[-1]:
                continue  # and none is NaN
            known = values[np.isfinite(values)]
            outside = (known < axis[0] - _MARGIN) | (known > axis[-1] + _MARGIN)
            if known.size and outside.mean() > _REPORTED_OUTSIDE:
                findings.append(
                    Finding(
                        "correction_range",
                        f"{outside.mean():.0%} of the {name} ({known.min():.4g} to "
                        f"{known.max():.4g} {unit}) are outside the aperture correction, which "
                        f"covers {axis[0]:.4g} to {axis[-1]:.4g}; its nearest factors are applied",
                        {"outside": float(outside.mean())},
                    )
                )
        return findings

    @property
    def _label(self) -> str:
        """Name of the table in messages."""
        return self.filename or "aperture correction"

    def __call__(self, wavelength: ArrayLike, size: ArrayLike) -> NDArray[np.float64]:
        """Interpolate the factors bilinearly.

        Wavelengths and sizes outside the table are replaced by the nearest value in the table.

        Parameters
        ----------
        wavelength : array_like
            Wavelengths in micron.
        size : array_like
            Aperture sizes in pixels (NPIXELS). They must broadcast against `wavelength`.

        Returns
        -------
        ndarray
            Interpolated factors, with the broadcast shape.
        """
        return self._interpolated(self.factor, wavelength, size)

    def error_of(self, wavelength: ArrayLike, size: ArrayLike) -> NDArray[np.float64]:
        """Interpolate the errors of the factors bilinearly.

        Parameters
        ----------
        wavelength, size : array_like
            Wavelengths and aperture sizes as for a call.

        Returns
        -------
        ndarray
            Interpolated 1-sigma errors.

        Raises
        ------
        CorrectionError
            If the table has no errors.
        """
        if self.error is None:
            raise CorrectionError("has no errors (APCORR_ERR)", subject=self._label)
        return self._interpolated(self.error, wavelength, size)

    def _interpolated(
        self, values: NDArray[np.float64], wavelength: ArrayLike, size: ArrayLike
    ) -> NDArray[np.float64]:
        """Interpolate values of the table, shape (n_wave, n_size)."""
        row, down = _between(self.wavelength, wavelength)
        column, right = _between(self.size, size)
        table, width = values.ravel(), self.size.size
        corner = row * width + column
        up, left = 1.0 - down, 1.0 - right
        short = table.take(corner) * left + table.take(corner + 1) * right
        corner += width
        long = table.take(corner) * left + table.take(corner + 1) * right
        return short * up + long * down


def _between(
    axis: NDArray[np.float64], values: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the index of the grid point below each value, and the fractional distance from it.

    The fractional distance is 0 at this grid point and 1 at the next grid point.
    """
    clamped = np.minimum(np.maximum(np.asarray(values, dtype=float), axis[0]), axis[-1])
    low = np.minimum(axis.searchsorted(clamped, "right") - 1, axis.size - 2)
    below = axis.take(low)
    return low, (clamped - below) / (axis.take(low + 1) - below)
