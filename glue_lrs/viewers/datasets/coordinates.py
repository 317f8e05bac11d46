"""World coordinates of LRS images and spectra in glue.

The coordinates are tables of the values in the file, between which values are interpolated
linearly; values outside are extrapolated. The tables may ascend or descend: the wavelength of LRS
descends along the rows. Axes are in the order of astropy. The pixel axes of an image are column,
row and integration; its world axes are the offset across the dispersion in arcsec, the wavelength
in micron and the integration number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeGuard, cast

import numpy as np
from astropy import units as u
from glue.core import Data
from glue.core.coordinates import Coordinates
from numpy.typing import ArrayLike, NDArray

from glue_lrs.errors import LRSError
from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.instrument import PIXEL_SCALE
from glue_lrs.viewers.datasets.session_meta import data_from_file, file_reference

if TYPE_CHECKING:
    import weakref

    from astropy.table import Table
    from glue.core.state import GlueSerializer, GlueUnSerializer
    from gwcs.wcs import WCS

    from glue_lrs.image.slit_image import SlitImage

_Floats = NDArray[np.float64]

#: A plane is reduced to a table along its main axis, if values vary along the other axis by at most
#: this fraction of their change from pixel to pixel along the main axis.
_ONE_AXIS_TOLERANCE = 1e-4

#: Limits for the iterative conversion from world to pixel coordinates, if each world axis depends
#: on both pixel axes: maximum number of iterations, and precision in pixels.
_ITERATIONS, _PRECISION = 50, 1e-10

#: Names and physical types (UCD1+) of spectral axes for the physical types of their units.
_SPECTRAL_AXES: dict[str, tuple[str, str | None]] = {
    "length": ("Wavelength", "em.wl"),
    "frequency": ("Frequency", "em.freq"),
    "wavenumber": ("Wavenumber", None),
}


# --- tables ---------------------------------------------------------------------------------------


class _Table:
    """Values at consecutive integer positions, with inverse and linear extrapolation.

    Within half a pixel beyond either end, values are extrapolated with the local slope; farther
    out, with the mean slope, because the local slope would soon lead to a wavelength of -100
    micron. The extrapolation is not NaN, because astropy cannot draw axes on which all values are
    NaN.

    If the values are not monotonic, the inverse is computed for their running maximum.
    """

    def __init__(self, values: ArrayLike, first: int = 0) -> None:
        values = np.asarray(values, dtype=float)
        if not np.isfinite(values).any():
            raise LRSError("the coordinates have no finite value")
        self.values = _filled(values)
        position = np.arange(first, first + self.values.size, dtype=float)
        self._mean_slope = _mean_slope(self.values)
        step = np.diff(self.values) if self.values.size > 1 else np.array([self._mean_slope])
        ends = self.values[0] - step[0] / 2, self.values[-1] + step[-1] / 2
        self._position = np.concatenate([[first - 0.5], position, [position[-1] + 0.5]])
        self._known = np.concatenate([ends[:1], self.values, ends[1:]])
        self._ascending = slice(None, None, -1 if self._mean_slope < 0 else 1)
        self._rising = np.maximum.accumulate(self._known[self._ascending])

    def __call__(self, position: ArrayLike, across: ArrayLike = 0.0) -> _Floats:
        """Return the values at positions; `across` has no effect, in contrast to a `_Plane`."""
        position = np.asarray(position, dtype=float)
        return _interpolate(position, self._position, self._known, self._mean_slope)

    def inverse(self, value: ArrayLike) -> _Floats:
        value = np.asarray(value, dtype=float)
        return _interpolate(
            value, self._rising, self._position[self._ascending], 1.0 / self._mean_slope
        )


def _mean_slope(values: _Floats, number: float | None = None) -> float:
    """Return the mean change of values per step, or 1 if there is no change.

    `number` is the number of steps from the first to the last value, by default one less than the
    number of values.
    """
    change = float(values[-1] - values[0])
    return change / (values.size - 1 if number is None else number) if change != 0 else 1.0


def _interpolate(x: _Floats, known: _Floats, values: _Floats, slope: float) -> _Floats:
    """Interpolate linearly between ascending positions `known`; extrapolate with a slope."""
    beyond = x - np.clip(x, known[0], known[-1])
    return np.asarray(np.interp(x, known, values) + beyond * slope)


def _filled(values: _Floats) -> _Floats:
    """Replace NaN by linear interpolation and extrapolation along the last axis.

    Lines of the array without any finite value are not changed.
    """
    filled = values.copy()
    position = np.arange(values.shape[-1], dtype=float)
    for line in filled.reshape(-1, values.shape[-1]):  # each line is a view into `filled`
        good = np.isfinite(line)
        if good.any() and not good.all():
            known = line[good]
            slope = _mean_slope(known, np.ptp(position[good]))
            line[~good] = _interpolate(position[~good], position[good], known, slope)
    return filled


class _Plane:
    """Values that change mainly along one axis of an image, and slightly along the other axis.

    Values between pixels are interpolated bilinearly. Outside the plane they are extrapolated as in
    a `_Table` along the main axis, and constant along the other axis.

    Parameters
    ----------
    values : ndarray
        Finite values. The first axis is the main axis.
    first : (int, int)
        Positions of the first value along both axes.
    """

    def __init__(self, values: _Floats, first: tuple[int, int]) -> None:
        self._values, self._first = values, first
        self._mean_slope = _mean_slope(np.median(values, axis=1))
        self._middle = _Table(values[:, values.shape[1] // 2], first[0])

    def __call__(self, along: _Floats, across: _Floats) -> _Floats:
        """Return the values at positions along the main axis and across it."""
        return self._with_slope(along, across)[0]

    def inverse(self, values: _Floats) -> _Floats:
        """Return positions along the main axis for values in the middle of the other axis."""
        return self._middle.inverse(values)

    def step(self, values: _Floats, along: _Floats, across: _Floats) -> _Floats:
        """Return a step of Newton's method along the main axis, towards the given values."""
        found, slope = self._with_slope(along, across)
        return np.divide(values - found, slope, out=np.zeros_like(found), where=slope != 0)

    def _with_slope(self, along: _Floats, across: _Floats) -> tuple[_Floats, _Floats]:
        """Return values, and their slopes along the main axis."""
        low, high, up, beyond = self._cell(0, along, 0.5)
        left, right, fraction, _ = self._cell(1, across, 0.0)
        values = self._values
        lower = values[low, left] * (1 - fraction) + values[low, right] * fraction
        slope = values[high, left] * (1 - fraction) + values[high, right] * fraction - lower
        found = lower + slope * up + beyond * self._mean_slope
        return found, np.where(beyond == 0, slope, self._mean_slope)

    def _cell(
        self, axis: int, position: _Floats, margin: float
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], _Floats, _Floats]:
        """Return the indices on both sides of positions, the fractions between, and the excess.

        The excess is the signed distance from the plane extended by `margin` at both ends, or 0
        inside.
        """
        last = self._values.shape[axis] - 1
        index = position - self._first[axis]
        inside = np.clip(index, -margin, last + margin)
        cell = np.clip(np.floor(np.nan_to_num(inside)), 0, max(last - 1, 0)).astype(np.intp)
        return cell, np.minimum(cell + 1, last), inside - cell, index - inside


def integration_numbers(times: Table | None, column: str, number: int) -> _Floats:
    """Return the numbers of integrations from a table of times, or from 1 if it has none.

    Parameters
    ----------
    times : `~astropy.table.Table` or None
        Table with one row for each integration.
    column : str
        Column of the table with the numbers.
    number : int
        Number of integrations.
    """
    if times is not None and column in times.colnames and len(times) == number:
        return np.asarray(times[column], dtype=float)
    return np.arange(1, number + 1, dtype=float)


class _FileCoordinates(Coordinates):
    """Coordinates that a session restores from the file of the dataset, if there is one.

    Parameters
    ----------
    axes : list of (str, str, str or None)
        Name, unit and physical type (UCD1+) of each world axis other than the integration, in the
        order of astropy.
    integrations : ndarray, optional
        Number of each integration in a stack.
    """

    #: Dataset that has these coordinates. If it was loaded from a file, a session refers to the
    #: file instead of saving the arrays.
    owner: weakref.ref[Data] | None = None

    def __init__(
        self, axes: list[tuple[str, str, str | None]], integrations: ArrayLike | None
    ) -> None:
        self._integration = None if integrations is None else _Table(integrations)
        self._axes = axes if integrations is None else [*axes, ("Integration", "", None)]
        super().__init__(n_dim=len(self._axes))

    @property
    def world_axis_names(self) -> list[str]:
        """Names of the axes, in astropy's order."""
        return [name for name, _, _ in self._axes]

    @property
    def world_axis_units(self) -> list[str]:
        """Units of the axes, in astropy's order."""
        return [unit for _, unit, _ in self._axes]

    @property
    def world_axis_physical_types(self) -> list[str | None]:
        """Physical types of the axes (UCD1+), in astropy's order."""
        return [physical_type for _, _, physical_type in self._axes]

    @property
    def axis_correlation_matrix(self) -> NDArray[np.bool_]:
        """Boolean matrix: whether a world axis (1st index) depends on a pixel axis (2nd index)."""
        return np.identity(self.world_n_dim, dtype=bool)

    def _arguments(self) -> dict[str, object]:
        """Return the arguments of the class that yield equal coordinates."""
        raise NotImplementedError

    def __gluestate__(self, context: GlueSerializer) -> dict[str, object]:
        return file_reference(self.owner, context) or {
            key: value if isinstance(value, str) else context.do(value)
            for key, value in self._arguments().items()
        }

    @classmethod
    def __setgluestate__(cls, rec: dict[str, Any], context: GlueUnSerializer) -> Self:
        if "log" in rec:
            return cast(Self, data_from_file(rec, context).coords)
        arguments: dict[str, Any] = {
            key: value if isinstance(value, str) else context.object(value)
            for key, value in rec.items()
            if not key.startswith("_")
        }
        return cls(**arguments)


# --- images ---------------------------------------------------------------------------------------


class LRSCoordinates(_FileCoordinates):
    """World coordinates of an image, or of a stack of images.

    Parameters
    ----------
    wavelength : ndarray
        Wavelength in micron; NaN where there is none. Its shape is (row,), or (row, column) if the
        wavelength changes along a row.
    offset : ndarray
        Offset across the dispersion in arcsec. Its shape is (column,), or (row, column) if the
        offset changes along a column.
    integrations : ndarray, optional
        Number of each integration in a stack.
    origin : (int, int)
        Row and column in the image that correspond to the first value of the arrays.

    Raises
    ------
    LRSError
        If an array has no finite value.
    """

    def __init__(
        self,
        wavelength: ArrayLike,
        offset: ArrayLike,
        integrations: ArrayLike | None = None,
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        axes = [("Cross-dispersion", "arcsec", None), ("Wavelength", "um", "em.wl")]
        super().__init__(axes, integrations)
        wavelength = np.array(wavelength, dtype=float)
        offset = np.array(offset, dtype=float)
        self._arrays = (wavelength, offset)
        self._origin = (int(origin[0]), int(origin[1]))
        self._wavelength = self._axis(wavelength, 0)
        self._offset = self._axis(offset, 1)

    def _axis(self, values: _Floats, main: int) -> _Table | _Plane:
        if values.ndim == 1:
            return _Table(values, self._origin[main])
        along = _filled(values if main == 1 else values.T)
        finite = np.flatnonzero(np.isfinite(along).all(axis=1))
        if finite.size == 0:
            raise LRSError("the coordinates have no finite value")
        nearest = finite[np.abs(finite[:, np.newaxis] - np.arange(len(along))).argmin(axis=0)]
        origin = (self._origin[main], self._origin[1 - main])
        return _Plane(along[nearest].T, origin)

    @property
    def axis_correlation_matrix(self) -> NDArray[np.bool_]:
        """Boolean matrix: whether a world axis (1st index) depends on a pixel axis (2nd index)."""
        matrix = super().axis_correlation_matrix
        if not self._separable:  # the inverse needs both world coordinates
            matrix[:2, :2] = True
        return matrix

    @property
    def _separable(self) -> bool:
        """Whether each world axis depends on a single pixel axis."""
        return isinstance(self._offset, _Table) and isinstance(self._wavelength, _Table)

    def pixel_to_world_values(self, *pixel_arrays: ArrayLike) -> tuple[_Floats, ...]:
        """Convert pixel to world coordinates: offset, wavelength and, for a stack, integration."""
        column, row, *others = (np.asarray(array, dtype=float) for array in pixel_arrays)
        if not self._separable:
            column, row = np.broadcast_arrays(column, row)
        world = (self._offset(column, row), self._wavelength(row, column))
        return world if self._integration is None else (*world, self._integration(others[0]))

    def world_to_pixel_values(self, *world_arrays: ArrayLike) -> tuple[_Floats, ...]:
        """Convert world to pixel coordinates: column, row and, for a stack, integration."""
        offset, wavelength, *others = (np.asarray(array, dtype=float) for array in world_arrays)
        if not self._separable:
            offset, wavelength = np.broadcast_arrays(offset, wavelength)
        column, row = self._offset.inverse(offset), self._wavelength.inverse(wavelength)
        # Newton's method along one axis at a time converges, because the axes are nearly
        # independent.
        for _ in range(0 if self._separable else _ITERATIONS):
            steps = np.zeros((2, *column.shape))
            if isinstance(self._offset, _Plane):
                steps[0] = self._offset.step(offset, column, row)
                column = column + steps[0]
            if isinstance(self._wavelength, _Plane):
                steps[1] = self._wavelength.step(wavelength, row, column)
                row = row + steps[1]
            if np.max(np.abs(np.nan_to_num(steps)), initial=0.0) < _PRECISION:
                break
        pixel = (column, row)
        return (
            pixel if self._integration is None else (*pixel, self._integration.inverse(others[0]))
        )

    def _arguments(self) -> dict[str, object]:
        return {
            "wavelength": self._arrays[0],
            "offset": self._arrays[1],
            "integrations": None if self._integration is None else self._integration.values,
            "origin": list(self._origin),
        }


def has_coordinates(data: object, kind: type[Coordinates]) -> TypeGuard[Data]:
    """Return whether an object is a dataset with coordinates of a kind and a component flux."""
    return (
        isinstance(data, Data)
        and isinstance(data.coords, kind)
        and data.find_component_id("flux") is not None
    )


def image_coordinates(image: SlitImage) -> LRSCoordinates:
    """Make the world coordinates of an image.

    Parameters
    ----------
    image : SlitImage
        Image for which to make coordinates. Its WCS is read.

    Returns
    -------
    LRSCoordinates
        Wavelengths are those of `image`. The offset is the angle on the sky in arcsec, measured
        along the slit in the direction of increasing column. It is computed from right ascension
        and declination of the WCS, relative to the source position in the header, or, if that is
        not known, to the middle of the bounding box. Without a celestial WCS, the offset is the
        number of columns from the middle of the image times the pixel scale, which is the square
        root of PIXAR_SR, or 0.11 arcsec if PIXAR_SR is missing.

    Raises
    ------
    LRSError
        If no pixel has a wavelength.
    """
    wave = np.asarray(image.wavelength, dtype=float)
    finite = np.isfinite(wave)
    rows, columns = np.flatnonzero(finite.any(axis=1)), np.flatnonzero(finite.any(axis=0))
    if rows.size == 0:
        raise LRSError("no pixel has a wavelength", subject=image.label)
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    offset = _sky_offset(image, box)
    if offset is None:  # there is no WCS: use the distance from the middle of the image
        scale = PIXEL_SCALE
        if image.pixel_area is not None and image.pixel_area > 0:
            scale = float((np.sqrt(image.pixel_area) * u.rad).to_value(u.arcsec))
        column = np.arange(image.shape[1], dtype=float)[box[1]]
        offset = (column - (image.shape[1] - 1) / 2) * scale
    integrations = None
    if image.is_stack:
        integrations = integration_numbers(image.times, "integration_number", len(image.data))
    origin = int(rows[0]), int(columns[0])
    return LRSCoordinates(_one_axis(wave[box], 0), _one_axis(offset, 1), integrations, origin)


def _one_axis(values: _Floats, main: int) -> _Floats:
    """Reduce a plane to values along its main axis, if it is constant along the other axis."""
    if values.ndim == 1:
        return values
    across = 1 - main
    with np.errstate(invalid="ignore"):
        low = np.where(np.isfinite(values), values, np.inf).min(axis=across)
        high = np.where(np.isfinite(values), values, -np.inf).max(axis=across)
    known = np.isfinite(low)
    middle = np.where(known, low + (high - low) / 2, np.nan)
    steps = np.abs(np.diff(middle[known]))
    step = float(np.median(steps)) if steps.size else np.inf
    return middle if ((high - low)[known] <= _ONE_AXIS_TOLERANCE * step).all() else values


def _sky_offset(image: SlitImage, box: tuple[slice, slice]) -> _Floats | None:
    """Return the angle along the slit in arcsec for each pixel of a box.

    The result is None if the image has no celestial WCS, or if the angle does not increase with the
    column.
    """
    try:
        wcs = image.wcs
        if wcs is None:
            return None
        grid = np.mgrid[box].astype(float)
        ra, dec = (np.asarray(values, dtype=float) for values in wcs(grid[1], grid[0])[:2])
        origin = _sky_origin(image, wcs)
    except (LRSError, OSError, ValueError, TypeError, KeyError, NotImplementedError):
        return None  # the image can be displayed without a WCS
    if origin is None:
        return None
    # A tangent plane is sufficient, because the slit is 5 arcsec and the slitless subarray 8 arcsec
    # long.
    east = (np.mod(ra - origin[0] + 180.0, 360.0) - 180.0) * np.cos(np.deg2rad(origin[1])) * 3600.0
    north = (dec - origin[1]) * 3600.0
    along = np.array([np.nanmedian(np.diff(values, axis=1)) for values in (east, north)])
    length = float(np.hypot(*along))
    if not np.isfinite(length) or length == 0:
        return None
    offset = (east * along[0] + north * along[1]) / length
    steps = np.diff(offset, axis=1)
    return offset if (steps[np.isfinite(steps)] > 0).all() else None


def _sky_origin(image: SlitImage, wcs: WCS) -> tuple[float, float] | None:
    """Return the right ascension and declination where the offset is 0, in degrees, or None."""
    if isinstance(expected_position(image), SourcePosition):
        assert image.source_ra is not None  # the position was computed from it
        assert image.source_dec is not None
        return image.source_ra, image.source_dec
    (left, right), (bottom, top) = image.bounding_box
    middle = wcs((left + right) / 2, (bottom + top) / 2)[:2]
    ra, dec = (float(value) for value in middle)
    return (ra, dec) if np.isfinite(ra) and np.isfinite(dec) else None


# --- spectra --------------------------------------------------------------------------------------


class SpectrumCoordinates(_FileCoordinates):
    """World coordinates of a spectrum, or of a stack of spectra with the same wavelengths.

    Parameters
    ----------
    values : ndarray or `~astropy.units.Quantity`
        Spectral axis, ascending or descending.
    integrations : ndarray, optional
        Number of each integration in a stack.
    base : ndarray, optional
        Wavelength of each bin in micron, used by `update_spectrum_data` where there is no spectrum.
    unit : str
        Unit of `values` if they are not a quantity.

    Raises
    ------
    LRSError
        If `values` has no finite value.
    """

    def __init__(
        self,
        values: ArrayLike | u.Quantity,
        integrations: ArrayLike | None = None,
        base: ArrayLike | None = None,
        unit: str = "um",
    ) -> None:
        self.unit: u.UnitBase = values.unit if isinstance(values, u.Quantity) else u.Unit(unit)
        known = [axis for kind, axis in _SPECTRAL_AXES.items() if kind in self.unit.physical_type]
        name, ucd = known[0] if known else ("Spectral axis", None)
        super().__init__([(name, self.unit.to_string(), ucd)], integrations)
        self.base = None if base is None else np.array(base, dtype=float)
        self.update(values.value if isinstance(values, u.Quantity) else values)

    def update(self, values: ArrayLike) -> None:
        """Replace the spectral axis by the same number of values in the same unit."""
        self._spectral = _Table(values)

    @property
    def values(self) -> _Floats:
        """Spectral axis as numbers."""
        return self._spectral.values

    @property
    def spectral_axis(self) -> u.Quantity:
        """Copy of the spectral axis."""
        return u.Quantity(self._spectral.values, self.unit)

    def pixel_to_world_values(self, *pixel_arrays: ArrayLike) -> _Floats | tuple[_Floats, ...]:
        """Convert pixel to world coordinates: spectral axis and, for a stack, integration."""
        spectral = self._spectral(pixel_arrays[0])
        if self._integration is None:
            return spectral
        return spectral, self._integration(pixel_arrays[1])

    def world_to_pixel_values(self, *world_arrays: ArrayLike) -> _Floats | tuple[_Floats, ...]:
        """Convert world to pixel coordinates: wavelength bin and, for a stack, integration."""
        bins = self._spectral.inverse(world_arrays[0])
        if self._integration is None:
            return bins
        return bins, self._integration.inverse(world_arrays[1])

    def _arguments(self) -> dict[str, object]:
        return {
            "values": self._spectral.values,
            "integrations": None if self._integration is None else self._integration.values,
            "base": self.base,
            "unit": self.unit.to_string(),
        }
