"""Geometry of simulated products: pixel grid, slit, pointing and WCS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import gwcs
import numpy as np
from astropy import coordinates
from astropy import units as u
from astropy.modeling import Model, models
from gwcs import coordinate_frames as cf
from numpy.typing import NDArray

from glue_lrs.simulation.optics import PIXEL_SCALE, PRISM, SLIT, SceneError

if TYPE_CHECKING:
    from gwcs.wcs import WCS

    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.simulation.optics import Dispersion

_Number = TypeVar("_Number", np.float32, np.float64, np.uint32)

_ARCSEC_PER_DEGREE = 3600.0

#: Length of the slit in columns.
SLIT_COLUMNS = 44


@dataclass(frozen=True)
class Geometry:
    """Pixel grid of a product, with the wavelength and the position along the slit of each pixel.

    Parameters
    ----------
    dispersion : Dispersion
        Wavelength and trace as functions of the row relative to the reference point.
    shape : (int, int)
        Number of rows and columns.
    column, row : float
        Pixel coordinates of the reference point of the aperture.
    box : ((float, float), (float, float))
        Bounding box of the WCS: lower and upper limits of the columns, and of the rows.
    resampled : bool
        Whether the image is resampled. A resampled image has a straight trace, and its WCS has no
        intermediate frame V2, V3.
    start : (int, int)
        Detector row and detector column of the image's first pixel, counted from 1.
    trace_error : tuple of float
        Distance in columns from the trace of the WCS to the true trace: coefficients, constant term
        first, of a polynomial in the row, which is scaled to the range from -1 to 1 within `box`.
    """

    dispersion: Dispersion
    shape: tuple[int, int]
    column: float
    row: float
    box: tuple[tuple[float, float], tuple[float, float]]
    resampled: bool = False
    start: tuple[int, int] = (1, 1)
    trace_error: tuple[float, ...] = ()

    @classmethod
    def rectified(cls, shape: tuple[int, int], column: float) -> Geometry:
        """Make the grid of an s2d with the reference point at `column`.

        Row 0 has the longest wavelength of the slit.

        Raises
        ------
        SceneError
            If the shape has less than 2 or more than 388 rows, or less than 2 columns.
        """
        rows, columns = shape
        if not (2 <= rows <= 388 and columns > 1):
            raise SceneError(f"shape is {shape}, expected 2 to 388 rows and at least 2 columns")
        box = ((-0.5, columns - 0.5), (-0.5, rows - 0.5))
        return cls(SLIT, shape, column, -SLIT.rows[0], box, resampled=True)

    @cached_property
    def nodes(self) -> Array:
        """Rows of the image at which the WCS tabulates the wavelength."""
        count = round(self.dispersion.rows[-1] - self.dispersion.rows[0]) + 1
        nodes = self.row + self.dispersion.rows[0] + np.arange(count, dtype=float)
        if self.resampled:
            nodes = nodes[(nodes >= 0) & (nodes <= self.shape[0] - 1)]
        return nodes

    @cached_property
    def node_wavelength(self) -> Array:
        """Wavelengths at `nodes` in micron."""
        rows = np.clip(self.nodes - self.row, self.dispersion.rows[0], self.dispersion.rows[-1])
        return self.dispersion.wavelength(rows)

    @cached_property
    def wavelength(self) -> Array:
        """Wavelength of each row in micron, interpolated linearly between `nodes`.

        It is NaN outside `box`.
        """
        rows = np.arange(self.shape[0], dtype=float)
        wave = np.interp(rows, self.nodes, self.node_wavelength, left=np.nan, right=np.nan)
        (bottom, top) = self.box[1]
        return np.where((rows >= bottom) & (rows <= top), wave, np.nan)

    @cached_property
    def filled_wavelength(self) -> Array:
        """Wavelength of each row in micron.

        Rows outside `box` get the wavelength of the nearest row inside `box`.
        """
        known = np.flatnonzero(np.isfinite(self.wavelength))
        nearest = np.clip(np.arange(self.wavelength.size), known[0], known[-1])
        return self.wavelength[nearest]

    @cached_property
    def inside(self) -> Mask:
        """Mask of the columns inside the bounding box, shape (column,)."""
        columns = np.arange(self.shape[1])
        return (columns >= self.box[0][0]) & (columns <= self.box[0][1])

    def trace(self, position: float) -> Array:
        """Return the true trace of a point of the slit, including the trace error.

        `position` is the position of the point along the slit in arcsec from the reference point.
        The trace is NaN in rows without a wavelength.
        """
        rows = np.arange(self.shape[0], dtype=float)
        column = np.asarray(self.column_at(position, rows))
        if self.trace_error:
            bottom, top = self.box[1]
            scaled = (2.0 * rows - bottom - top) / (top - bottom)
            column = column + np.polynomial.polynomial.polyval(scaled, self.trace_error)
        return np.where(np.isfinite(self.wavelength), column, np.nan)

    def column_at(self, position: float, row: Array | float) -> Array | float:
        """Return the column of a point of the slit in a given row, according to the WCS.

        `position` is the position of the point along the slit in arcsec from the reference point.
        `row` may be fractional.
        """
        column = self.column + position / PIXEL_SCALE
        return column if self.resampled else column + self.dispersion.shift(row - self.row)

    def wcs(self, pointing: Pointing) -> WCS:
        """Make the WCS, including the inverse transform.

        The WCS transforms column and row to right ascension and declination in degrees and
        wavelength in micron.
        """
        to_v2v3, to_sky = self._to_v2v3(pointing), pointing.to_sky() & models.Identity(1)
        detector = cf.Frame2D(name="detector", unit=(u.pix, u.pix))
        spectral = cf.SpectralFrame(
            name="spectral", axes_order=(2,), unit=(u.micron,), axes_names=("wavelength",)
        )
        focal = cf.Frame2D(name="v2v3_spatial", unit=(u.arcsec, u.arcsec), axes_names=("v2", "v3"))
        sky = cf.CelestialFrame(
            name="sky", axes_order=(0, 1), unit=(u.deg, u.deg), reference_frame=coordinates.ICRS()
        )
        world = cf.CompositeFrame([sky, spectral], name="world")
        if self.resampled:
            wcs = gwcs.WCS([(detector, to_v2v3 | to_sky), (world, None)])
        else:
            v2v3 = cf.CompositeFrame([focal, spectral], name="v2v3")
            wcs = gwcs.WCS([(detector, to_v2v3), (v2v3, to_sky), (world, None)])
        wcs.bounding_box = self.box
        return wcs

    def _to_v2v3(self, pointing: Pointing) -> Model:
        """Make the transform from column and row to V2, V3 in arcsec and wavelength in micron."""
        scale, at = PIXEL_SCALE, -self.row
        c0, c1, c2 = self.dispersion.curve  # coefficients in powers of (row - reference row)
        shift = models.Polynomial1D(2, c0=c0 + c1 * at + c2 * at**2, c1=c1 + 2.0 * c2 * at, c2=c2)
        wave = models.Tabular1D(
            self.nodes, self.node_wavelength, bounds_error=False, fill_value=np.nan
        )
        column, row = models.Mapping([0], n_inputs=2), models.Mapping([1], n_inputs=2)
        along = column if self.resampled else column - (row | shift)
        along = along | models.Polynomial1D(1, c0=-self.column * scale, c1=scale)
        to_slit = models.Mapping((0, 1, 0, 1)) | along & (row | wave)
        to_column = models.Polynomial1D(1, c0=self.column, c1=1.0 / scale)
        curved = to_column & wave.inverse | column + (row | shift)
        on_column = column | to_column if self.resampled else curved
        to_slit.inverse = models.Mapping((0, 1, 0, 1)) | on_column & (row | wave.inverse)

        # The slit is parallel to the x axis of the aperture's ideal frame. A position along this
        # axis is a linear function of V2 and V3.
        v2, v3 = pointing.ideal_axis
        to_v2v3 = models.Mapping((0, 0, 1)) | models.Polynomial1D(
            1, c0=pointing.v2, c1=v2
        ) & models.Polynomial1D(1, c0=pointing.v3, c1=v3) & models.Identity(1)
        projection = models.Polynomial2D(
            1, c0_0=-pointing.v2 * v2 - pointing.v3 * v3, c1_0=v2, c0_1=v3
        )
        to_v2v3.inverse = projection & models.Identity(1)
        return to_slit | to_v2v3


@dataclass(frozen=True)
class Pointing:
    """Positions of the aperture's reference point in the focal plane and on the sky.

    Parameters
    ----------
    v2, v3 : float
        Coordinates of the reference point in the telescope frame in arcsec.
    yangle : float
        Angle in degrees from the V3 axis to the y axis of the aperture's ideal frame (V3I_YANG).
    roll : float
        Position angle of the V3 axis in degrees.
    ra, dec : float
        Right ascension and declination of the reference point in degrees.
    """

    v2: float
    v3: float
    yangle: float
    roll: float
    ra: float
    dec: float

    @classmethod
    def of_target(
        cls, dispersion: Dispersion, position: float, *, ra: float, dec: float, roll: float
    ) -> Pointing:
        """Make the pointing for which the target is at a given position along the slit.

        `position` is in arcsec from the reference point. `ra` and `dec` are the coordinates of the
        target in degrees, and `roll` is the position angle of the V3 axis in degrees.
        """
        v2, v3 = (
            (-414.7798311657103, -400.61593483851567)
            if dispersion is SLIT
            else (-378.8320736785982, -344.9445433053003)
        )
        at_target = cls(v2, v3, 4.75797, roll, ra, dec)
        x, y = (position * component for component in at_target.ideal_axis)
        cos, sin = np.cos(np.deg2rad(roll)), np.sin(np.deg2rad(roll))
        east, north = float(x * cos + y * sin), float(y * cos - x * sin)
        return replace(
            at_target,
            ra=ra - east / _ARCSEC_PER_DEGREE / float(np.cos(np.deg2rad(dec))),
            dec=dec - north / _ARCSEC_PER_DEGREE,
        )

    @property
    def ideal_axis(self) -> tuple[float, float]:
        """Unit vector (V2, V3) along the x axis of the ideal frame (VPARITY is -1)."""
        angle = np.deg2rad(self.yangle)
        return -float(np.cos(angle)), float(np.sin(angle))

    def footprint(self, left: float, right: float) -> tuple[Array, Array]:
        """Return RA and Dec in degrees of the corners of the slit, which is 0.51 arcsec wide.

        `left` and `right` are the ends of the slit in arcsec from the reference point.
        """
        along, across = np.array([left, right, right, left]), 0.255 * np.array([-1, -1, 1, 1])
        v2, v3 = self.ideal_axis  # the y axis of the ideal frame is (v3, -v2)
        ra, dec = self.to_sky()(
            self.v2 + along * v2 + across * v3, self.v3 + along * v3 - across * v2
        )
        return ra, dec

    def to_sky(self) -> Model:
        """Make the invertible transform from V2 and V3 in arcsec to RA and Dec in degrees."""
        roll = np.deg2rad(self.roll)
        rotation = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
        return (
            models.Shift(-self.v2) & models.Shift(-self.v3)
            | models.AffineTransformation2D(matrix=rotation / _ARCSEC_PER_DEGREE)
            | models.Pix2Sky_TAN()
            | models.RotateNative2Celestial(self.ra, self.dec, 180.0)
        )


#: Grid of the full detector with the fixed slit. The bounding box is that of real products.
DETECTOR = Geometry(SLIT, (1024, 1032), 325.13, 299.7, ((302.5, 346.5), (6.7, 393.7)))

#: First row and first column inside the bounding box of `DETECTOR`.
DETECTOR_CUT = (7, 303)


def slitless(column: float) -> Geometry:
    """Make the geometry of the slitless subarray whose reference point is at a given column."""
    return Geometry(PRISM, (416, 72), column, 300.0, ((3.5, 71.5), (5.5, 395.5)), start=(529, 1))


def cut_to_box(geometry: Geometry) -> Geometry:
    """Cut the grid of the full detector to the slit's bounding box.

    Other grids are returned unchanged.
    """
    if geometry.shape != DETECTOR.shape:
        return geometry
    (left, right), (bottom, top) = geometry.box
    row, column = DETECTOR_CUT
    shape = int(np.floor(top)) - row + 1, int(np.floor(right)) - column + 1
    return replace(
        geometry,
        shape=shape,
        column=geometry.column - column,
        row=geometry.row - row,
        box=((left - column, right - column), (bottom - row, top - row)),
        start=(row + 1, column + 1),
    )


def embed_in_detector(plane: NDArray[_Number], fill: float) -> NDArray[_Number]:
    """Embed images of the slit's bounding box in images of the full detector.

    The last two axes of `plane` are row and column. Pixels outside the bounding box get the value
    `fill`.
    """
    full = np.full((*plane.shape[:-2], *DETECTOR.shape), fill, dtype=plane.dtype)
    (row, column), (rows, columns) = DETECTOR_CUT, plane.shape[-2:]
    full[..., row : row + rows, column : column + columns] = plane
    return full
