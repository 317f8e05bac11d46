"""PSFProfile: spatial profile from a PSF reference file of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import registry
from numpy.typing import ArrayLike, NDArray

from glue_lrs._utils.display import described, span_text
from glue_lrs._utils.registry import unified_io
from glue_lrs.errors import ProfileError, quoted
from glue_lrs.profiles.base import SpatialProfile

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.io.files import Source


@dataclass(frozen=True, eq=False, kw_only=True)
class PSFProfile(SpatialProfile):
    """Spatial profile from a PSF reference file: a table for wavelengths and subpixel columns.

    Parameters
    ----------
    data : array_like
        Table of fluxes, shape (wavelength, column). Each value is the flux on a detector pixel that
        is centred at the position of the table column, in any unit.
    wave : array_like
        Wavelengths in micron, shape (wavelength,), ascending or descending.
    subpix : float
        Number of columns in `data` per detector column.
    center : float
        Column of the source in `data`, counted from 0 (keyword CENTCOL).
    name : str
        Name of the slit (keyword APERTURE), or ``"ANY"``.
    filename : str, optional
        Name of the PSF reference file.

    Raises
    ------
    ProfileError
        If the shapes are inconsistent, a value is not finite, a row of `data` has no flux, or the
        wavelengths are not strictly monotonic.
    """

    data: Array
    wave: Array
    subpix: float = 1.0
    center: float = 0.0
    name: str = "ANY"
    filename: str | None = None

    @unified_io("psf")
    @classmethod
    def read(cls, path: Source, name: str | None = None, **options: Any) -> PSFProfile:
        """Read the spatial profile for a slit from a PSF reference file.

        Parameters
        ----------
        path : str or path-like
            PSF reference file for MIRI LRS.
        name : str, optional
            Name of the slit. By default, the first profile that applies to every slit is read.

        Returns
        -------
        PSFProfile
            Spatial profile as a function of wavelength and column.

        Raises
        ------
        ProfileError
            If the file is not a PSF reference file for MIRI LRS, or has no profile for the slit.
        """
        return registry.read(cls, path, name, **options)

    def __repr__(self) -> str:
        return described(
            self,
            f"for aperture {self.name}",
            f"{self.data.shape[1] / self.subpix:g} columns in steps of 1/{self.subpix:g}, "
            f"{span_text(self.wave, 'um')}",
            self.filename,
        )

    def __post_init__(self) -> None:
        where = self.filename or "PSF profile"
        data, wave = np.asarray(self.data, dtype=float), np.asarray(self.wave, dtype=float)
        if data.ndim != 2 or wave.shape != data.shape[:1] or data.shape[0] < 2:
            raise ProfileError(
                f"PSF has shape {data.shape} and WAVE {wave.shape}, expected "
                "(wavelength, column) and (wavelength,), at least 2 wavelengths",
                subject=where,
            )
        if wave[0] > wave[-1]:
            data, wave = data[::-1], wave[::-1]
        if not (np.diff(wave) > 0).all():  # NaN fails this test too
            raise ProfileError("WAVE neither rises nor falls throughout", subject=where)
        if not np.isfinite(data).all() or (data.sum(axis=1) <= 0).any():
            raise ProfileError(
                "PSF holds values that are not finite, or rows without flux", subject=where
            )
        for key in ("subpix", "center"):
            value = getattr(self, key)
            if not np.isfinite(value) or (key == "subpix" and value <= 0):
                expected = "a number above 0" if key == "subpix" else "a finite number"
                raise ProfileError(f"{key} is {quoted(value)}, expected {expected}", subject=where)
            object.__setattr__(self, key, float(value))
        object.__setattr__(self, "data", np.ascontiguousarray(data))
        object.__setattr__(self, "wave", np.ascontiguousarray(wave))

    @classmethod
    def sampled(
        cls,
        profile: SpatialProfile,
        wave: ArrayLike,
        *,
        subpix: float = 10.0,
        reach: float = 30.0,
        name: str = "ANY",
    ) -> PSFProfile:
        """Return a table of a profile of another class, for example for a PSF reference file.

        Parameters
        ----------
        profile : SpatialProfile
            Profile to tabulate.
        wave : array_like
            Wavelengths in micron at which the profile is tabulated.
        subpix : float
            Number of columns in the table per detector column.
        reach : float
            Distance in detector columns from the source at which the table ends.
        name : str
            Name of the slit to which the profile applies. The default is every slit.
        """
        half = round(reach * subpix)
        waves = np.asarray(wave, dtype=float)
        offset = np.broadcast_to(np.arange(-half, half + 1) / subpix, (waves.size, 2 * half + 1))
        return cls(data=profile(offset, waves), wave=waves, subpix=subpix, center=half, name=name)

    def __call__(self, offset: Array, wavelength: Array) -> Array:  # noqa: D102 - inherited
        return read_rows(self._normalised(wavelength), offset * self.subpix + self.center)

    def _normalised(self, wavelength: Array) -> Array:
        """Return the rows of the table at given wavelengths, normalised to a sum of `subpix`.

        The fluxes on the detector pixels, which are `subpix` columns apart, then add up to 1. The
        last result is cached because a fit needs the same wavelengths many times.
        """
        last: tuple[Array, Array] | None = self.__dict__.get("_last")
        if last is not None and np.array_equal(last[0], wavelength, equal_nan=True):
            return last[1]
        table = self.rows(wavelength)
        light = table.sum(axis=1)
        np.divide(table, light[:, np.newaxis] / self.subpix, out=table, where=light[:, None] > 0)
        object.__setattr__(self, "_last", (np.array(wavelength), table))
        return table

    def rows(self, wavelength: Array) -> Array:
        """Interpolate the table at given wavelengths.

        The shape of the result is (wavelength, column of `data`). The result is 0 for wavelengths
        outside the table.
        """
        low, part, inside = self.between(wavelength)
        table, above = self.data.take(low, axis=0), self.data.take(low + 1, axis=0)
        above -= table
        above *= part[:, np.newaxis]
        table += above
        table[~inside] = 0.0
        return table

    def between(self, wavelength: Array) -> tuple[NDArray[np.intp], Array, Mask]:
        """Return the positions of given wavelengths relative to the wavelengths in the table.

        Parameters
        ----------
        wavelength : ndarray
            Wavelengths in micron.

        Returns
        -------
        low : ndarray of int
            Index of the next smaller wavelength in the table.
        part : ndarray
            Distance from the wavelength at `low`, as a fraction of the interval in the table.
        inside : ndarray of bool
            Whether each wavelength is within the range of the table.
        """
        inside = (wavelength >= self.wave[0]) & (wavelength <= self.wave[-1])
        where = np.where(inside, wavelength, self.wave[0])
        low = np.clip(np.searchsorted(self.wave, where, "right") - 1, 0, self.wave.size - 2)
        return low, (where - self.wave[low]) / (self.wave[low + 1] - self.wave[low]), inside


def read_rows(table: Array, column: Array) -> Array:
    """Interpolate linearly in each row of a table.

    Parameters
    ----------
    table : ndarray
        Table of values, shape (row, n).
    column : ndarray
        Columns of the table at which to interpolate, shape (row, column).

    Returns
    -------
    ndarray
        Interpolated values, shape (row, column), 0 outside the table or where `column` is NaN.
    """
    rows, width = table.shape
    inside = (column >= 0.0) & (column <= width - 1.0)
    where = np.where(inside, column, 0.0)
    low = where.astype(np.intp)
    np.minimum(low, width - 2, out=low)
    where -= low
    low += (np.arange(rows) * width)[:, np.newaxis]
    flat = table.ravel()
    left = flat.take(low)
    low += 1
    right = flat.take(low)
    right -= left
    right *= where
    right += left
    right *= inside
    return right
