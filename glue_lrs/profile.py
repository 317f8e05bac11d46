"""Spatial profiles: how the light of a point source is spread over the columns.

A `Profile` tells which fraction of the light falls on a pixel whose centre is `offset` columns from
the source, at a wavelength. There are three:

* `PSFProfile`, a PSF reference of the pipeline;
* `GaussianProfile`, whose width is a function of the wavelength;
* `EmpiricalProfile`, learned from data (`learn`): a Gaussian, and a correction that is a cubic
  spline across the slit and a polynomial in wavelength.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.polynomial import legendre
from numpy.polynomial.polynomial import polyval
from numpy.typing import ArrayLike, NDArray

from glue_lrs.errors import ProfileError
from glue_lrs.unified import reader

Light = Callable[[NDArray[np.float64]], NDArray[np.float64]]

__all__ = ["EmpiricalProfile", "GaussianProfile", "PSFProfile", "Profile"]

#: Arcsec along the slit that a column covers.
PIXEL_SCALE = 0.11

#: Full width at half maximum of LRS: wavelengths in micron, arcsec.
EXPECTED_FWHM = ((5.0, 7.5, 10.0, 12.0), (0.29, 0.30, 0.36, 0.42))

#: The same with points far beyond, on the lines through the first and the last two.
_EXTENDED = ((0.0, *EXPECTED_FWHM[0], 100.0), (0.27, *EXPECTED_FWHM[1], 3.06))

#: FWHM of a Gaussian of unit standard deviation.
FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))


def expected_fwhm(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Full width at half maximum that LRS is expected to have.

    Parameters
    ----------
    wavelength : array_like
        Wavelengths in micron.

    Returns
    -------
    ndarray
        FWHM in arcsec: 0.29, 0.30, 0.36 and 0.42 at 5, 7.5, 10 and 12 micron (the STScI's LRS
        extraction notebook), linear between and beyond.
    """
    return np.asarray(np.interp(np.asarray(wavelength, dtype=float), *_EXTENDED))


class Profile(ABC):
    """The fraction of a point source's light that falls on each pixel of a row."""

    @abstractmethod
    def __call__(
        self, offset: NDArray[np.float64], wavelength: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Fraction of the light on pixels.

        Parameters
        ----------
        offset : ndarray
            Columns from the source to the pixel's centre, shape (row, column); NaN gives 0.
        wavelength : ndarray
            Wavelength in micron of each row, shape (row,); NaN gives 0.

        Returns
        -------
        ndarray
            Fractions, shape (row, column). Over all columns, however far, they add up to 1.
        """

    def at(self, wavelength: NDArray[np.float64]) -> Light:
        """Return the profile of rows of these wavelengths, to be called with offsets.

        Faster where it is needed at several offsets.
        """
        return partial(self, wavelength=wavelength)

    def derivative(
        self, offset: NDArray[np.float64], wavelength: NDArray[np.float64], step: float = 0.05
    ) -> NDArray[np.float64]:
        """Change of the fraction per column that the pixel is farther to the right."""
        light = self.at(wavelength)
        return (light(offset + step) - light(offset - step)) / (2.0 * step)


@dataclass(frozen=True, eq=False, kw_only=True)
class PSFProfile(Profile):
    """The profile of a PSF reference: an image over wavelength and column, finer than the pixels.

    Parameters
    ----------
    data : array_like
        What a pixel whose centre is there receives, in any unit, shape (wavelength, column).
    wave : array_like
        Wavelengths in micron, shape (wavelength,), ascending or descending.
    subpix : float
        Columns of `data` for each column of a detector.
    center : float
        Column of `data` at which the source is, from 0 (CENTCOL).
    name : str
        Name of the slit (APERTURE), or ``"ANY"``.
    filename : str, optional
        The PSF reference it comes from.

    Raises
    ------
    ProfileError
        If the shapes do not fit each other, or values are not finite.
    """

    data: NDArray[np.float64]
    wave: NDArray[np.float64]
    subpix: float = 1.0
    center: float = 0.0
    name: str = "ANY"
    filename: str | None = None

    read: ClassVar[Callable[..., PSFProfile]]

    def __post_init__(self) -> None:
        where = self.filename or "PSF profile"
        data, wave = np.asarray(self.data, dtype=float), np.asarray(self.wave, dtype=float)
        if data.ndim != 2 or wave.shape != data.shape[:1] or data.shape[0] < 2:
            raise ProfileError(
                f"{where}: PSF has shape {data.shape} and WAVE {wave.shape}, expected "
                "(wavelength, column) and (wavelength,), at least 2 wavelengths"
            )
        if wave[0] > wave[-1]:
            data, wave = data[::-1], wave[::-1]
        if not (np.diff(wave) > 0).all():  # NaN as well
            raise ProfileError(f"{where}: WAVE neither rises nor falls all along")
        if not np.isfinite(data).all() or (data.sum(axis=1) <= 0).any():
            raise ProfileError(
                f"{where}: PSF holds values that are not finite, or rows of no light"
            )
        for key in ("subpix", "center"):
            value = getattr(self, key)
            if not np.isfinite(value) or (key == "subpix" and value <= 0):
                raise ProfileError(f"{where}: {key} is {value!r}, expected a number above 0")
            object.__setattr__(self, key, float(value))
        object.__setattr__(self, "data", np.ascontiguousarray(data))
        object.__setattr__(self, "wave", np.ascontiguousarray(wave))

    @classmethod
    def sampled(
        cls,
        profile: Profile,
        wave: ArrayLike,
        *,
        subpix: float = 10.0,
        reach: float = 30.0,
        name: str = "ANY",
    ) -> PSFProfile:
        """Tabulate another profile: what the pipeline takes as a PSF reference.

        Parameters
        ----------
        profile : Profile
            The profile.
        wave : array_like
            Wavelengths in micron.
        subpix : float
            Columns of the table for each column of a detector.
        reach : float
            Columns from the source at which the table ends.
        name : str
            Name of the slit.
        """
        half = round(reach * subpix)
        waves = np.asarray(wave, dtype=float)
        offset = np.broadcast_to(np.arange(-half, half + 1) / subpix, (waves.size, 2 * half + 1))
        return cls(data=profile(offset, waves), wave=waves, subpix=subpix, center=half, name=name)

    def __call__(  # noqa: D102 - as of Profile
        self, offset: NDArray[np.float64], wavelength: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return read_rows(self._normalised(wavelength), offset * self.subpix + self.center)

    def _normalised(self, wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
        """`rows`, each adding up to 1; kept, as a fit asks for the same wavelengths many times."""
        last: tuple[NDArray[np.float64], NDArray[np.float64]] | None = self.__dict__.get("_last")
        if last is not None and np.array_equal(last[0], wavelength, equal_nan=True):
            return last[1]
        table = self.rows(wavelength)
        light = table.sum(axis=1)
        np.divide(table, light[:, np.newaxis] / self.subpix, out=table, where=light[:, None] > 0)
        object.__setattr__(self, "_last", (np.array(wavelength), table))
        return table

    def rows(self, wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
        """The table at wavelengths, linear between its own, 0 outside: (row, column of `data`)."""
        low, part, inside = self.between(wavelength)
        table, above = self.data.take(low, axis=0), self.data.take(low + 1, axis=0)
        above -= table
        above *= part[:, np.newaxis]
        table += above
        table[~inside] = 0.0
        return table

    def between(
        self, wavelength: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_]]:
        """Number of the wavelength below, fraction of the way to the next, and whether inside."""
        inside = (wavelength >= self.wave[0]) & (wavelength <= self.wave[-1])
        where = np.where(inside, wavelength, self.wave[0])
        low = np.clip(np.searchsorted(self.wave, where, "right") - 1, 0, self.wave.size - 2)
        return low, (where - self.wave[low]) / (self.wave[low + 1] - self.wave[low]), inside


def read_rows(table: NDArray[np.float64], column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear interpolation in each row of a table; 0 outside and where the column is NaN.

    Parameters
    ----------
    table : ndarray
        Shape (row, n).
    column : ndarray
        Where to read, shape (row, column).
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


PSFProfile.read = reader(
    "psf",
    """Read the profile of a PSF reference that belongs to a slit.

    Parameters
    ----------
    path : str or path-like
        A PSF reference of MIRI LRS.
    name : str, optional
        Name of the slit.

    Returns
    -------
    PSFProfile
        The profile.

    Raises
    ------
    ProfileError
        If the file is not such a file, or has no aperture of that name.
    """,
)


@dataclass(frozen=True, kw_only=True)
class GaussianProfile(Profile):
    """A Gaussian, integrated over each pixel.

    Its FWHM is the one that LRS is expected to have, times a polynomial in the wavelength.

    Parameters
    ----------
    factor : tuple of float
        Coefficients of the polynomial, constant term first, in a variable that goes from -1 at the
        first to 1 at the last wavelength of `domain`.
    domain : (float, float)
        Wavelengths in micron.
    """

    factor: tuple[float, ...] = (1.0,)
    domain: tuple[float, float] = (4.0, 14.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", tuple(float(value) for value in self.factor))
        if not self.factor or not np.isfinite(self.factor).all():
            raise ProfileError(f"factor is {self.factor}, expected one or more finite numbers")
        if not self.domain[0] < self.domain[1]:
            raise ProfileError(f"domain is {self.domain}, expected two wavelengths that ascend")

    def fwhm(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """Full width at half maximum in columns, before it is smeared over a pixel."""
        wave = np.asarray(wavelength, dtype=float)
        columns = expected_fwhm(wave) / PIXEL_SCALE
        return np.maximum(columns * polyval(unit(wave, self.domain), self.factor), 0.5)

    def __call__(  # noqa: D102 - as of Profile
        self, offset: NDArray[np.float64], wavelength: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return self.at(wavelength)(offset)

    def at(self, wavelength: NDArray[np.float64]) -> Light:  # noqa: D102 - as of Profile
        return partial(gaussian, fwhm=self.fwhm(wavelength))


def unit(wavelength: NDArray[np.float64], domain: tuple[float, float]) -> NDArray[np.float64]:
    """Wavelengths as numbers from -1 to 1, held at the ends."""
    first, last = domain
    return np.clip((2.0 * wavelength - (first + last)) / (last - first), -1.0, 1.0)


def gaussian(offset: NDArray[np.float64], fwhm: NDArray[np.float64]) -> NDArray[np.float64]:
    """A Gaussian integrated over pixels: offsets (row, column), widths (row,); NaN gives 0."""
    from scipy.special import erf

    out = np.zeros(offset.shape)
    near = np.flatnonzero((np.abs(offset) < 3.0 * np.nanmax(fwhm) + 1.0).any(axis=0))
    if near.size == 0:  # 7 standard deviations away from everything
        return out
    some = slice(int(near[0]), int(near[-1]) + 1)
    scale = (FWHM / np.sqrt(2.0) / fwhm)[:, np.newaxis]
    part = offset[:, some]
    if _touch(part):  # one edge for two
        edges = np.empty((part.shape[0], part.shape[1] + 1))
        np.subtract(part, 0.5, out=edges[:, :-1])
        np.add(part[:, -1], 0.5, out=edges[:, -1])
        edges *= scale
        value = np.diff(erf(edges), axis=1)
    else:
        value = erf((part + 0.5) * scale) - erf((part - 0.5) * scale)
    value *= 0.5
    value[np.isnan(value)] = 0.0
    out[:, some] = value
    return out


def _touch(offset: NDArray[np.float64]) -> bool:
    """Whether offsets are those of pixels side by side."""
    return offset.shape[1] > 1 and abs(float(offset[0, 1] - offset[0, 0]) - 1.0) < 1e-9


@dataclass(frozen=True, eq=False, kw_only=True)
class EmpiricalProfile(Profile):
    """A profile learned from data: a Gaussian, and a correction that makes up for what it is not.

    Parameters
    ----------
    base : GaussianProfile
        The Gaussian.
    coefficients : ndarray
        Coefficients of the correction, shape (knot, term): of cubic B-splines whose knots are a
        column apart, from ``-(knots // 2)`` to ``knots // 2`` columns from the source, times
        Legendre polynomials in the wavelength. No knots: none.
    center : float
        Where the source is, in columns from the middle of Gaussian and knots.

    Notes
    -----
    As the knots are a column apart, what a B-spline adds to all pixels of a row does not depend on
    where in its pixel the source is: the sum over the pixels is the same along a curved trace.
    """

    base: GaussianProfile
    coefficients: NDArray[np.float64]
    center: float = 0.0

    def __call__(  # noqa: D102 - as of Profile
        self, offset: NDArray[np.float64], wavelength: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return self.at(wavelength)(offset)

    def at(self, wavelength: NDArray[np.float64]) -> Light:  # noqa: D102 - as of Profile
        knots = self.coefficients.shape[0]
        if knots == 0:
            return self.base.at(wavelength)
        fwhm, along = self.base.fwhm(wavelength), self.along(wavelength)
        padded = np.zeros((along.shape[0], knots + 8))
        padded[:, 4:-4] = along
        row = np.arange(along.shape[0])[:, np.newaxis]
        total = (1.0 + along.sum(axis=1))[:, np.newaxis]

        def light(offset: NDArray[np.float64]) -> NDArray[np.float64]:
            if self.center:
                offset = offset + self.center
            value = gaussian(offset, fwhm)
            near = np.flatnonzero((np.abs(offset) < knots // 2 + 2.0).any(axis=0))
            if near.size:
                some = slice(int(near[0]), int(near[-1]) + 1)
                part = np.where(np.isnan(offset[:, some]), 1e3, offset[:, some])
                if _touch(part):  # all pixels of a row are as far from the knot below
                    knot = np.floor(part[:, :1])
                    _, heights = splines(part[:, :1] - knot, knots)
                    size = padded.shape[1] - 3
                    sums = sum(h * padded[:, j : j + size] for j, h in enumerate(heights))
                    low = knot.astype(np.intp) + (knots // 2 + 3) + np.arange(part.shape[1])
                    low = np.clip(low, 0, size - 1) + row * size
                    value[:, some] += np.ravel(sums).take(low)
                else:
                    low, heights = splines(part, knots)
                    low += row * padded.shape[1]
                    for j, height in enumerate(heights):
                        value[:, some] += height * padded.take(low + j)
            value /= total
            value[np.isnan(value)] = 0.0
            return value

        return light

    def symmetric(self) -> EmpiricalProfile:
        """The same without what is not symmetric, about the middle of Gaussian and knots."""
        even = 0.5 * (self.coefficients + self.coefficients[::-1])
        return EmpiricalProfile(base=self.base, coefficients=even)

    def along(self, wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coefficients of the splines at wavelengths, shape (row, knot)."""
        return self.terms(wavelength) @ self.coefficients.T

    def terms(self, wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
        """Legendre polynomials at wavelengths, shape (row, term)."""
        count = max(self.coefficients.shape[1], 1)
        return np.asarray(
            legendre.legvander(unit(wavelength, self.base.domain), count - 1), dtype=np.float64
        )


def splines(
    offset: NDArray[np.float64], knots: int
) -> tuple[NDArray[np.intp], list[NDArray[np.float64]]]:
    """The four cubic B-splines that reach each point, of knots that are 1 apart.

    Parameters
    ----------
    offset : ndarray
        Where to evaluate.
    knots : int
        Number of knots, from ``-(knots // 2)`` to ``knots // 2``.

    Returns
    -------
    first : ndarray of int
        Number of the first of the four, where the first knot has number 4: with four splines of
        coefficient 0 on either side, points out of reach need no case of their own.
    parts : list of ndarray
        Values of the four.
    """
    half = knots // 2
    held = np.clip(offset, -half - 2.5, half + 2.5)
    low = np.floor(held)
    part = held - low
    low += half + 3
    left, square = 1.0 - part, part**2
    cube = square * part
    return low.astype(np.intp), [
        left * left * left / 6.0,
        (4.0 - 6.0 * square + 3.0 * cube) / 6.0,
        (1.0 + 3.0 * part + 3.0 * square - 3.0 * cube) / 6.0,
        cube / 6.0,
    ]
