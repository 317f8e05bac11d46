"""Geometry of simulated products: detector, slit, pointing and WCS."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from glue_lrs.simulation.optics import DEGREE, PIXEL_SCALE, SLIT, SceneError

if TYPE_CHECKING:
    from gwcs.wcs import WCS

    from glue_lrs.simulation.optics import Dispersion

__all__ = ["DETECTOR", "DETECTOR_CUT", "SLIT_COLUMNS", "Geometry", "Pointing"]


@dataclass(frozen=True)
class Geometry:
    """A grid of pixels: what wavelength, and what position along the slit, each has.

    `column` and `row` are the reference point, `box` the bounding box of the WCS. A resampled image
    has a straight trace, and the celestial and spectral frame alone.
    """

    dispersion: Dispersion
    shape: tuple[int, int]
    column: float
    row: float
    box: tuple[tuple[float, float], tuple[float, float]]
    resampled: bool = False

    @classmethod
    def rectified(cls, shape: tuple[int, int], column: float) -> Geometry:
        """The grid of an s2d, the slit's first wavelength in row 0."""
        rows, columns = shape
        if not (2 <= rows <= 388 and columns > 1):
            raise SceneError(f"shape is {shape}, expected 2 to 388 rows and at least 2 columns")
        box = ((-0.5, columns - 0.5), (-0.5, rows - 0.5))
        return cls(SLIT, shape, column, -SLIT.rows[0], box, resampled=True)

    @property
    def curved(self) -> bool:
        """Whether the trace moves across the columns."""
        return not self.resampled

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """Rows at which the wavelength is tabulated."""
        count = round(self.dispersion.rows[-1] - self.dispersion.rows[0]) + 1
        points = self.row + self.dispersion.rows[0] + np.arange(count, dtype=float)
        if self.resampled:
            points = points[(points >= 0) & (points <= self.shape[0] - 1)]
        return points

    @cached_property
    def table(self) -> NDArray[np.float64]:
        """Wavelength at `points`."""
        rows = np.clip(self.points - self.row, self.dispersion.rows[0], self.dispersion.rows[-1])
        return self.dispersion.wavelength(rows)

    @cached_property
    def wavelength(self) -> NDArray[np.float64]:
        """Wavelength of each row, NaN where there is none; linear between `points`."""
        rows = np.arange(self.shape[0], dtype=float)
        wave = np.interp(rows, self.points, self.table, left=np.nan, right=np.nan)
        (bottom, top) = self.box[1]
        return np.where((rows >= bottom) & (rows <= top), wave, np.nan)

    @cached_property
    def inside(self) -> NDArray[np.bool_]:
        """Columns within the bounding box."""
        columns = np.arange(self.shape[1])
        return (columns >= self.box[0][0]) & (columns <= self.box[0][1])

    def trace(self, position: float) -> NDArray[np.float64]:
        """Column of a position along the slit (arcsec) in each row, NaN without a wavelength."""
        rows = np.arange(self.shape[0], dtype=float) - self.row
        shift = self.dispersion.shift(rows) if self.curved else np.zeros_like(rows)
        column = self.column + position / PIXEL_SCALE + shift
        return np.where(np.isfinite(self.wavelength), column, np.nan)

    def wcs(self, pointing: Pointing) -> WCS:
        """The world coordinate system: column, row -> RA, Dec in degrees, wavelength in micron."""
        import gwcs
        from astropy import coordinates
        from astropy.modeling import models
        from gwcs import coordinate_frames as cf

        scale = PIXEL_SCALE
        shift = models.Polynomial1D(
            2, **dict(zip(("c0", "c1", "c2"), self._curve_at_row(), strict=True))
        )
        wave = models.Tabular1D(
            points=self.points, lookup_table=self.table, bounds_error=False, fill_value=np.nan
        )
        column, row = models.Mapping([0], n_inputs=2), models.Mapping([1], n_inputs=2)
        along = column - (row | shift) if self.curved else column
        along = along | models.Polynomial1D(1, c0=-self.column * scale, c1=scale)
        to_slit = models.Mapping((0, 1, 0, 1)) | along & (row | wave)
        back = models.Polynomial1D(1, c0=self.column, c1=1.0 / scale)
        moved = back & wave.inverse | column + (row | shift)
        on_column = moved if self.curved else column | back
        to_slit.inverse = models.Mapping((0, 1, 0, 1)) | on_column & (row | wave.inverse)

        # Along the slit is the x axis of the aperture's "ideal" frame; V2 and V3 are linear in it.
        v2, v3 = pointing.ideal_axis
        to_v2v3 = models.Mapping((0, 0, 1)) | models.Polynomial1D(
            1, c0=pointing.v2, c1=v2
        ) & models.Polynomial1D(1, c0=pointing.v3, c1=v3) & models.Identity(1)
        projection = models.Polynomial2D(
            1, c0_0=-pointing.v2 * v2 - pointing.v3 * v3, c1_0=v2, c0_1=v3
        )
        to_v2v3.inverse = projection & models.Identity(1)
        first = to_slit | to_v2v3
        first.inverse = to_v2v3.inverse | to_slit.inverse
        second = pointing.to_sky() & models.Identity(1)

        detector = cf.Frame2D(name="detector", axes_order=(0, 1), unit=(u.pix, u.pix))
        spectral = cf.SpectralFrame(
            name="spectral", axes_order=(2,), unit=(u.micron,), axes_names=("wavelength",)
        )
        focal = cf.Frame2D(
            name="v2v3_spatial",
            axes_order=(0, 1),
            unit=(u.arcsec, u.arcsec),
            axes_names=("v2", "v3"),
        )
        sky = cf.CelestialFrame(
            name="sky", axes_order=(0, 1), unit=(u.deg, u.deg), reference_frame=coordinates.ICRS()
        )
        world = cf.CompositeFrame([sky, spectral], name="world")
        if self.resampled:
            whole = first | second
            whole.inverse = second.inverse | first.inverse
            wcs = gwcs.WCS([(detector, whole), (world, None)])
        else:
            v2v3 = cf.CompositeFrame([focal, spectral], name="v2v3")
            wcs = gwcs.WCS([(detector, first), (v2v3, second), (world, None)])
        wcs.bounding_box = self.box
        return wcs

    def _curve_at_row(self) -> tuple[float, float, float]:
        """The polynomial of the trace in the image's own rows."""
        c0, c1, c2 = self.dispersion.curve
        at = -self.row
        return c0 + c1 * at + c2 * at**2, c1 + 2.0 * c2 * at, c2


@dataclass(frozen=True)
class Pointing:
    """Where the aperture's reference point is in the focal plane and on the sky."""

    v2: float
    v3: float
    yangle: float
    roll: float
    ra: float
    dec: float

    @property
    def ideal_axis(self) -> tuple[float, float]:
        """Direction of the ideal x axis in V2 and V3 (VPARITY is -1)."""
        angle = np.deg2rad(self.yangle)
        return -float(np.cos(angle)), float(np.sin(angle))

    def sky_offset(self, position: float) -> tuple[float, float]:
        """Offset to the east and to the north of a position along the slit, all in arcsec."""
        v2, v3 = (position * part for part in self.ideal_axis)
        roll = np.deg2rad(self.roll)
        return (
            float(v2 * np.cos(roll) + v3 * np.sin(roll)),
            float(v3 * np.cos(roll) - v2 * np.sin(roll)),
        )

    def at(self, position: float) -> Pointing:
        """The pointing that puts the present target at `position` arcsec along the slit."""
        east, north = self.sky_offset(position)
        return Pointing(
            self.v2,
            self.v3,
            self.yangle,
            self.roll,
            self.ra - east / DEGREE / float(np.cos(np.deg2rad(self.dec))),
            self.dec - north / DEGREE,
        )

    def footprint(self, left: float, right: float) -> tuple[NDArray[Any], NDArray[Any]]:
        """RA and Dec of the corners of a slit of 0.51 arcsec between two positions along it."""
        along, across = np.array([left, right, right, left]), 0.255 * np.array([-1, -1, 1, 1])
        v2, v3 = self.ideal_axis  # the y axis is at right angles: (v3, -v2)
        ra, dec = self.to_sky()(
            self.v2 + along * v2 + across * v3, self.v3 + along * v3 - across * v2
        )
        return ra, dec

    def to_sky(self) -> Any:
        """Transform of V2, V3 in arcsec into RA, Dec in degrees, with its inverse."""
        from astropy.modeling import models

        roll = np.deg2rad(self.roll)
        turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]]) / DEGREE
        return (
            models.Shift(-self.v2) & models.Shift(-self.v3)
            | models.AffineTransformation2D(matrix=turn)
            | models.Pix2Sky_TAN()
            | models.RotateNative2Celestial(self.ra, self.dec, 180.0)
        )


#: Columns that the slit covers.
SLIT_COLUMNS = 44

#: The fixed slit on the detector, with the bounding box of the real WCS.
DETECTOR = Geometry(SLIT, (1024, 1032), 325.13, 299.7, ((302.5, 346.5), (6.7, 393.7)))

#: First row and column of the bounding box.
DETECTOR_CUT = (7, 303)
