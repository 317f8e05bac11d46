"""LRS scenes with a known truth, as images that are shaped like the pipeline's products.

A `Scene` holds point sources, a background and a detector; its methods make products: `Scene.s2d`
(level 2b, one nod), `Scene.combined` (level 3, both nods), `Scene.cal` (not resampled),
`Scene.calints` (slitless) and `Scene.slit_calints`. Each gives a `Simulated`: the `SlitImage` and,
beside it, the `Truth`.

How a pixel comes about:

- The light of a source is spread over columns by a point spread function (a Gaussian core and a
  halo) that is integrated exactly over each pixel: a row's noise-free sum is the source's flux.
- Electrons are drawn from a Poisson distribution, read noise is added, the other nod is subtracted,
  and each pixel is multiplied by an error of the flat field.
- The variances are estimated from these noisy data, as the pipeline's are.

What is true is known from the scene alone; no extraction has a part in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.special import erf

from glue_lrs.aperture_correction import ApertureCorrection
from glue_lrs.errors import LRSError
from glue_lrs.image import DO_NOT_USE, FIXED_SLIT, SLITLESS, SlitImage

if TYPE_CHECKING:
    from gwcs.wcs import WCS

__all__ = [
    "PIXEL_AREA",
    "PIXEL_SCALE",
    "PSF",
    "BlackBody",
    "Dispersion",
    "Scene",
    "SceneError",
    "Simulated",
    "Source",
    "Supernova",
    "Truth",
    "demo_scene",
    "thermal_background",
]

#: Arcsec along the slit that a column covers.
PIXEL_SCALE = 0.11
#: Solid angle of a pixel in sr, as PIXAR_SR of real products has it.
PIXEL_AREA = 2.8606325654256e-13
#: MJy/sr that give one DN/s, as PHOTMJSR of real products has it.
MJYSR_PER_DN = 13.851669311523438

_MEGA = 1e6
_DEGREE = 3600.0  # arcsec
#: DQ flags that take nothing from a pixel: JUMP_DET, and a warning of bit 23.
_HARMLESS = (4, 1 << 23)
_NON_SCIENCE = 512
#: hc / k in micron kelvin.
_SECOND_RADIATION = 14387.768775

Spectral = float | Callable[[NDArray[np.float64]], ArrayLike]


class SceneError(LRSError):
    """A scene cannot be simulated as it is described."""


# --- the instrument ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Dispersion:
    """Where a wavelength falls on the detector, relative to the reference point.

    Parameters
    ----------
    rows : tuple of float
        Rows from the reference point at which the wavelength is given, ascending.
    wavelengths : tuple of float
        Wavelength there in micron, descending; a cubic spline leads through them.
    curve : tuple of float
        Columns that the trace is away from the reference point: a polynomial in the row, constant
        term first.

    Notes
    -----
    The two instances, `SLIT` and `PRISM` (slitless), follow the calibration of LRS (miricoord,
    specwcs references 0005 and 0006) to better than 0.01 micron, but for the last row of the slit,
    where 2.9 micron, as the pipeline's smoothing gives, stands for 2.23.
    """

    rows: tuple[float, ...]
    wavelengths: tuple[float, ...]
    curve: tuple[float, ...]

    @cached_property
    def _spline(self) -> Any:
        return CubicSpline(self.rows, self.wavelengths)

    def wavelength(self, row: ArrayLike) -> NDArray[np.float64]:
        """Wavelength in micron at rows from the reference point; NaN beyond the table."""
        where = np.asarray(row, dtype=float)
        inside = (where >= self.rows[0]) & (where <= self.rows[-1])
        return np.where(inside, self._spline(where), np.nan)

    def shift(self, row: ArrayLike) -> NDArray[np.float64]:
        """Columns that the trace is away from the reference point at rows from it."""
        return np.polynomial.polynomial.polyval(np.asarray(row, dtype=float), self.curve)


# fmt: off
#: The fixed slit.
SLIT = Dispersion(
    rows=(-293, -193, -93, 7, 40, 57, 75, 79, 85, 87, 90, 91, 92, 93, 94),
    wavelengths=(
        14.02, 12.516, 10.662, 8.136, 6.985, 6.258, 5.263, 4.977, 4.466, 4.246, 3.85, 3.666, 3.46,
        3.187, 2.9,
    ),
    curve=(-4.2336e-5, 3.049996e-3, -1.0564e-5),
)
#: The slitless subarray.
PRISM = Dispersion(
    rows=(-293, -193, -93, 7, 57, 76, 84, 89, 91, 92, 93, 94),
    wavelengths=(
        13.992, 12.556, 10.786, 8.379, 6.617, 5.671, 5.151, 4.729, 4.5, 4.367, 4.2, 3.7,
    ),
    curve=(2.31372883e-5, 1.95340972e-3, -6.70278628e-6),
)
# fmt: on


@dataclass(frozen=True)
class PSF:
    """Point spread function across the slit: a Gaussian core, and a halo of compact support.

    Parameters
    ----------
    wavelengths : tuple of float
        Wavelengths in micron, ascending.
    fwhm : tuple of float
        Full width at half maximum of the core in arcsec; linear between the wavelengths and beyond.
    halo_width : float
        Arcsec per micron of wavelength at which the halo, a raised cosine, ends on either side.
    """

    wavelengths: tuple[float, ...] = (5.0, 7.5, 10.0, 12.0)
    fwhm: tuple[float, ...] = (0.29, 0.30, 0.36, 0.42)
    halo_width: float = 0.09

    def __post_init__(self) -> None:
        if len(self.wavelengths) != len(self.fwhm) or len(self.fwhm) < 2:
            raise SceneError(
                f"fwhm has {len(self.fwhm)} values for {len(self.wavelengths)} wavelengths, "
                "expected at least 2 and as many"
            )
        if not (np.diff(self.wavelengths) > 0).all():
            raise SceneError("wavelengths of the FWHM do not ascend")
        if min(self.fwhm) <= 0 or self.halo_width <= 0:
            raise SceneError("fwhm and halo_width must be greater than 0")

    def width(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """FWHM of the core in arcsec."""
        at, known = np.asarray(self.wavelengths), np.asarray(self.fwhm)
        wave = np.asarray(wavelength, dtype=float)
        part = np.clip(np.searchsorted(at, wave) - 1, 0, at.size - 2)
        slope = (known[part + 1] - known[part]) / (at[part + 1] - at[part])
        return np.maximum(known[part] + slope * (wave - at[part]), 0.1)

    def cumulative(self, x: ArrayLike, wavelength: ArrayLike, halo: float) -> NDArray[np.float64]:
        """Fraction of a source's light that falls below a position.

        Parameters
        ----------
        x : array_like
            Arcsec from the source.
        wavelength : array_like
            Wavelength in micron; broadcasts against `x`.
        halo : float
            Fraction of the light in the halo.
        """
        where, wave = np.asarray(x, dtype=float), np.asarray(wavelength, dtype=float)
        # 2 sqrt(ln 2) turns the FWHM of a Gaussian into sqrt(2) sigma.
        core = 0.5 * (1.0 + erf(where * (2.0 * np.sqrt(np.log(2.0))) / self.width(wave)))
        part = np.clip(where / (self.halo_width * wave), -1.0, 1.0)
        wing = 0.5 * (1.0 + part + np.sin(np.pi * part) / np.pi)
        return (1.0 - halo) * core + halo * wing

    def enclosed(
        self, lower: ArrayLike, upper: ArrayLike, wavelength: ArrayLike, halo: float
    ) -> NDArray[np.float64]:
        """Fraction of a source's light between two positions in arcsec from the source."""
        above = self.cumulative(upper, wavelength, halo)
        return above - self.cumulative(lower, wavelength, halo)


@dataclass(frozen=True)
class _Geometry:
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
    def rectified(cls, shape: tuple[int, int], column: float) -> _Geometry:
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

    def wcs(self, pointing: _Pointing) -> WCS:
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
class _Pointing:
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

    def at(self, position: float) -> _Pointing:
        """The pointing that puts the present target at `position` arcsec along the slit."""
        east, north = self.sky_offset(position)
        return _Pointing(
            self.v2,
            self.v3,
            self.yangle,
            self.roll,
            self.ra - east / _DEGREE / float(np.cos(np.deg2rad(self.dec))),
            self.dec - north / _DEGREE,
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
        turn = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]]) / _DEGREE
        return (
            models.Shift(-self.v2) & models.Shift(-self.v3)
            | models.AffineTransformation2D(matrix=turn)
            | models.Pix2Sky_TAN()
            | models.RotateNative2Celestial(self.ra, self.dec, 180.0)
        )


# --- what is looked at -------------------------------------------------------------------------


@dataclass(frozen=True)
class Supernova:
    """Flux of something like an infrared supernova: dust, molecular bands, broad lines.

    Parameters
    ----------
    level : float
        Flux of the continuum at 7 micron in Jy.
    velocity : float
        Full width at half maximum of the emission lines in km/s.

    Notes
    -----
    Lines of [Ni II] 6.64, [Ar II] 6.98, [Co II] 10.52, [Co III] 11.89 and [Ne II] 12.81 micron,
    P-Cygni features, the CO band at 4.6 and the SiO band at 8 micron. It looks like one; it is no
    model of one.
    """

    level: float = 2e-3
    velocity: float = 6000.0

    def __call__(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """Flux in Jy at wavelengths in micron."""
        wave = np.asarray(wavelength, dtype=float)
        flux = 0.8 * (wave / 7.0) ** -1.2 + 0.2 * BlackBody(450.0, 1.0, 7.0)(wave)
        width = self.velocity / 2.99792458e5 / 2.3548
        for centre, strength in (
            (6.636, 0.45),
            (6.985, 0.9),
            (10.521, 0.5),
            (11.888, 0.8),
            (12.814, 1.4),
        ):
            flux = flux + strength * np.exp(-0.5 * ((wave - centre) / (width * centre)) ** 2)
        for centre, strength in ((5.3, 0.25), (9.4, 0.2)):  # emission, absorption to the blue of it
            dip = np.exp(-0.5 * ((wave - centre * 0.975) / (0.009 * centre)) ** 2)
            peak = np.exp(-0.5 * ((wave - centre * 1.005) / (0.014 * centre)) ** 2)
            flux = flux + strength * (peak - 0.9 * dip)
        for centre, strength, blue, red in ((4.55, 0.6, 0.08, 0.25), (7.95, 0.7, 0.15, 0.55)):
            side = np.where(wave < centre, blue, red)
            flux = flux + strength * np.exp(-0.5 * ((wave - centre) / side) ** 2)
        return self.level * flux


@dataclass(frozen=True)
class BlackBody:
    """Flux of a black body.

    Parameters
    ----------
    temperature : float
        Kelvin.
    level : float
        Flux in Jy at the `pivot`.
    pivot : float
        Wavelength in micron.
    """

    temperature: float
    level: float = 1e-3
    pivot: float = 7.0

    def __call__(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """Flux in Jy at wavelengths in micron (Planck's law in frequency)."""

        def planck(wave: Any) -> Any:
            return wave**-3.0 / np.expm1(_SECOND_RADIATION / (wave * self.temperature))

        wave = np.asarray(wavelength, dtype=float)
        return self.level * planck(wave) / planck(self.pivot)


def thermal_background(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Zodiacal light and the warm telescope: MJy/sr at wavelengths in micron, steeply rising."""
    wave = np.asarray(wavelength, dtype=float)
    zodi = 12.0 * BlackBody(265.0, 1.0, 10.0)(wave)
    return zodi + 6.0 * BlackBody(110.0, 1.0, 14.0)(wave) + 0.3


def sensitivity(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Electrons per second and pixel for 1 MJy/sr at wavelengths in micron; best at 6.5 micron."""
    wave = np.asarray(wavelength, dtype=float)
    return 0.4 * np.exp(-((np.log(wave / 6.5) / 0.45) ** 2))


@dataclass(frozen=True)
class Source:
    """A point source.

    Parameters
    ----------
    flux : float or callable
        Flux in Jy: a number, or a function of the wavelength in micron.
    position : float
        Arcsec from the target along the slit, to higher columns.
    halo : float
        Fraction of the light in the halo of the point spread function.
    """

    flux: Spectral = field(default_factory=Supernova)
    position: float = 0.0
    halo: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 <= self.halo < 1.0:
            raise SceneError(f"halo is {self.halo}, expected a fraction of 0 or more, below 1")
        if not np.isfinite(self.position):
            raise SceneError(f"position is {self.position}, expected arcsec")


# --- what comes out ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth:
    """What a simulated image was made from.

    Parameters
    ----------
    wavelength : ndarray
        Wavelength of each row in micron, NaN where there is none; shape (row,).
    flux : ndarray
        Flux of the first source in each row, in `unit`; shape (row,). For a stack: at a factor
        of 1.
    unit : `~astropy.units.Unit`
        Jy, or DN/s without photometric calibration.
    column : ndarray
        Column of the first source in each row; shape (row,).
    negative : tuple of ndarray
        Columns of its negative images, which the other nods have left; each of shape (row,).
    background : ndarray
        What is left of the background in `data`, MJy/sr or DN/s, shape (row, column).
    data : ndarray
        The image without noise, shape (row, column), NaN where the image has no data for any
        reason but a bad pixel. For a stack: at a factor of 1.
    var_poisson, var_rnoise, var_flat : ndarray
        The true variances of which noise was drawn, shape (row, column).
    factors : ndarray, optional
        For a stack: what the flux of all sources is multiplied by; shape (integration,).
    psf : PSF
        Point spread function.
    halo : float
        Fraction of the first source's light in the halo.
    """

    wavelength: NDArray[np.float64]
    flux: NDArray[np.float64]
    unit: u.UnitBase
    column: NDArray[np.float64]
    negative: tuple[NDArray[np.float64], ...]
    background: NDArray[np.float64]
    data: NDArray[np.float64]
    var_poisson: NDArray[np.float64]
    var_rnoise: NDArray[np.float64]
    var_flat: NDArray[np.float64]
    psf: PSF
    halo: float
    factors: NDArray[np.float64] | None = None

    def enclosed(self, lower: ArrayLike, upper: ArrayLike) -> NDArray[np.float64]:
        """Fraction of the first source's light between two edges, in each row.

        Parameters
        ----------
        lower, upper : array_like
            Positions of the edges in columns (pixel i reaches from i - 0.5 to i + 0.5): numbers, or
            of shape (row,).
        """
        below, above = (
            (np.asarray(edge, dtype=float) - self.column) * PIXEL_SCALE for edge in (lower, upper)
        )
        return self.psf.enclosed(below, above, self.wavelength, self.halo)


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulated image and what it was made from.

    Parameters
    ----------
    image : SlitImage
        The image.
    truth : Truth
        Its truth.
    """

    image: SlitImage
    truth: Truth


@dataclass(frozen=True)
class _Planes:
    """Planes of one image or of a block of a stack."""

    data: NDArray[Any]
    var_poisson: NDArray[Any]
    var_rnoise: NDArray[Any]
    var_flat: NDArray[Any]

    def scaled(self, factor: float) -> _Planes:
        """The same in another unit."""
        square = factor**2
        return _Planes(
            self.data * factor,
            self.var_poisson * square,
            self.var_rnoise * square,
            self.var_flat * square,
        )


# --- the scene ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Point sources on a background, seen by LRS.

    Parameters
    ----------
    sources : tuple of Source
        The sources; the first is the target.
    background : float or callable
        MJy/sr: a number, or a function of the wavelength in micron.
    background_slope : float
        Relative change of the background per arcsec along the slit.
    background_drift : float
        How much brighter, relatively, the background is in an exposure than in the other nod that
        is subtracted from it.
    psf : PSF
        Point spread function across the slit.
    nod_throw : float
        Arcsec between the two nods.
    pointing_error : float
        Arcsec that all sources are to higher columns of where the header says.
    exposure_time : float
        Seconds of an exposure, or of an integration of a stack.
    sensitivity : float or callable
        Electrons per second and pixel for 1 MJy/sr: a number, or a function of the wavelength.
    read_noise : float
        Standard deviation in electrons of an exposure or integration; varies by 5% between pixels.
    flat_error : float
        Relative standard deviation of the flat field; one draw for each pixel of a product, so that
        all integrations of a stack share it.
    bad_fraction : float
        Fraction of pixels without a value: NaN on a resampled image; on others half of them NaN
        and half a wild number, all with DQ bit 0. In a stack half of them change from one
        integration to the next.
    source_type : str
        SRCTYPE: ``"POINT"`` or ``"EXTENDED"``.
    ra, dec : float
        Where the target is, in degrees.
    roll : float
        Position angle of the V3 axis in degrees.
    seed : int
        Seed of the noise. Each product has its own noise, the same each time.

    Raises
    ------
    SceneError
        If a value is out of range.

    Examples
    --------
    >>> from glue_lrs.simulate import Scene, Source
    >>> scene = Scene(sources=(Source(flux=1e-3),), seed=1)
    >>> nod = scene.s2d(nod=1)
    >>> nod.image
    <SlitImage s2d MIR_LRS-FIXEDSLIT 387 x 45 MJy / sr >
    >>> float(nod.truth.flux[100])
    0.001
    """

    sources: tuple[Source, ...] = (Source(),)
    background: Spectral = thermal_background
    background_slope: float = 0.0
    background_drift: float = 0.0
    psf: PSF = PSF()
    nod_throw: float = 1.97
    pointing_error: float = 0.0
    exposure_time: float = 332.0
    sensitivity: Spectral = sensitivity
    read_noise: float = 20.0
    flat_error: float = 0.003
    bad_fraction: float = 0.0
    source_type: str = "POINT"
    ra: float = 53.0827
    dec: float = -27.8556
    roll: float = 3.0052305503727696
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))
        if not self.sources:
            raise SceneError("sources is empty, expected at least one Source")
        for key in ("exposure_time", "nod_throw"):
            if not getattr(self, key) > 0:
                raise SceneError(f"{key} is {getattr(self, key)}, expected more than 0")
        for key in ("read_noise", "flat_error", "bad_fraction"):
            if not getattr(self, key) >= 0:
                raise SceneError(f"{key} is {getattr(self, key)}, expected 0 or more")
        if self.bad_fraction >= 1:
            raise SceneError(f"bad_fraction is {self.bad_fraction}, expected less than 1")

    # --- products ----------------------------------------------------------------------------

    def s2d(
        self,
        nod: Literal[1, 2] = 1,
        *,
        subtract_nod: bool = True,
        calibrated: bool = True,
        edges: bool = True,
        shape: tuple[int, int] = (387, 45),
        column: float = 22.0,
    ) -> Simulated:
        """Make a level-2b s2d: one nod, rectified.

        Parameters
        ----------
        nod : {1, 2}
            The source is at lower columns in nod 1 (column 13 by default), at higher ones in nod 2
            (column 31).
        subtract_nod : bool
            Whether the other nod has been subtracted: it leaves a negative trace, no background
            (but `background_drift`) and more noise.
        calibrated : bool
            False gives DN/s, S_PHOTOM SKIPPED and no PIXAR_SR.
        edges : bool
            Whether the first and last row and column are NaN, as the resampling leaves them.
        shape : (int, int)
            Rows and columns.
        column : float
            Column of the middle of the slit.

        Returns
        -------
        Simulated
            The image, whose pixels have independent noise, and its truth. Noise of the two nods is
            independent as well, though real ones share their exposures.
        """
        _check_nod(nod)
        geometry = _Geometry.rectified(shape, column)
        return self._slit_image("s2d", geometry, nod, subtract_nod, calibrated, edges=edges)

    def cal(
        self,
        nod: Literal[1, 2] = 1,
        *,
        full_frame: bool = True,
        subtract_nod: bool = True,
        calibrated: bool = True,
        datamodel: Literal["SlitModel", "ImageModel"] = "SlitModel",
    ) -> Simulated:
        """Make a cal of one nod: on the detector's pixels, with a curved trace and a DQ plane.

        Parameters
        ----------
        nod : {1, 2}
            As for `s2d`.
        full_frame : bool
            Whether the image has the detector's 1024 x 1032 pixels, NaN and flagged outside of the
            slit, or is cut to its bounding box.
        subtract_nod, calibrated
            As for `s2d`.
        datamodel : {"SlitModel", "ImageModel"}
            DATAMODL: older versions of the pipeline left an ImageModel.

        Returns
        -------
        Simulated
            The image and its truth.
        """
        _check_nod(nod)
        geometry = _DETECTOR
        if not full_frame:
            geometry = _cut_to_box(geometry)
        return self._slit_image(
            "cal", geometry, nod, subtract_nod, calibrated, edges=False, datamodel=datamodel
        )

    def combined(
        self,
        *,
        calibrated: bool = True,
        edges: bool = True,
        shape: tuple[int, int] = (388, 63),
        column: float = 30.5,
    ) -> Simulated:
        """Make a level-3 s2d: the mean of both nods, each with the other one subtracted.

        Parameters
        ----------
        calibrated, edges
            As for `s2d`; columns that neither nod reaches are NaN in any case.
        shape : (int, int)
            Rows and columns.
        column : float
            Column of the target.

        Returns
        -------
        Simulated
            The image, whose pixels have independent noise (it is not drizzled), and its truth. A
            negative trace lies on either side of the source, seen by one of the nods only.
        """
        geometry, columns = _Geometry.rectified(shape, column), shape[1]
        rng = self._generator("combined")
        sums = [np.zeros(shape) for _ in range(9)]
        seen = np.zeros(columns)
        for sign in (-1, 1):
            # The slit's middle is half a throw from the source, which stays where it is on the sky.
            middle = column - sign * self.nod_throw / 2.0 / PIXEL_SCALE
            reach = np.abs(np.arange(columns) - middle) <= _SLIT_COLUMNS / 2.0
            seen += reach
            own, other = 0.0, -sign * self.nod_throw
            # Slope of the background: from the slit's middle.
            planes, true, left = self._nod_pair(geometry, rng, own, other, True, middle)
            values = (
                planes.data, planes.var_poisson, planes.var_rnoise, planes.var_flat,
                true.data, true.var_poisson, true.var_rnoise, true.var_flat, left,
            )  # fmt: skip
            for total, value in zip(sums, values, strict=True):
                total += np.where(reach, value, 0.0)
        power = np.array([1, 2, 2, 2, 1, 2, 2, 2, 1])
        with np.errstate(invalid="ignore", divide="ignore"):
            means = [total / seen**n for total, n in zip(sums, power, strict=True)]
        columns_of = tuple(
            geometry.trace(self.sources[0].position + self.pointing_error + sign * self.nod_throw)
            for sign in (-1, 1)
        )
        pointing = self._pointing(SLIT, 0.0)
        return self._finish(
            "s2d",
            geometry,
            pointing,
            _Planes(*means[:4]),
            _Planes(*means[4:8]),
            means[8],
            columns_of,
            rng,
            calibrated=calibrated,
            edges=edges,
            cards={
                "PATTTYPE": "ALONG-SLIT-NOD",
                "NUMDTHPT": 2,
                "PATT_NUM": 1,
                "XOFFSET": -self.nod_throw / 2.0,
                "YOFFSET": 0.0,
                "S_BKDSUB": "COMPLETE",
                "S_RESAMP": "COMPLETE",
                "NDRIZ": 2,
                "EFFEXPTM": 2 * self.exposure_time,
                "ASNTABLE": "simulated_spec3_asn.json",
            },
        )

    def calints(
        self,
        n_int: int = 10,
        *,
        factors: ArrayLike | None = None,
        calibrated: bool = True,
        first: int = 1,
        segment: int = 1,
        n_total: int | None = None,
        column: float = 35.9,
        datamodel: Literal["SlitModel", "CubeModel"] = "SlitModel",
    ) -> Simulated:
        """Make slitless calints: a stack of integrations of a time series, background still in.

        Parameters
        ----------
        n_int : int
            Number of integrations in the file.
        factors : array_like, optional
            What the flux of all sources is multiplied by in each integration; shape (n_int,).
        calibrated : bool
            False gives DN/s, S_PHOTOM SKIPPED and no PIXAR_SR.
        first : int
            Number of the first integration in the exposure, from 1.
        segment : int
            Number of the segment of the exposure.
        n_total : int, optional
            Number of integrations in the exposure; None: the file has its last.
        column : float
            Column of the reference point; the trace's mean is 0.4 less.
        datamodel : {"SlitModel", "CubeModel"}
            DATAMODL: older versions of the pipeline left a CubeModel.

        Returns
        -------
        Simulated
            The stack, 416 x 72 pixels each, and its truth.
        """
        geometry = _Geometry(PRISM, (416, 72), column, 300.0, ((3.5, 71.5), (5.5, 395.5)))
        return self._stack(
            geometry, n_int, factors, calibrated, first, segment, n_total, datamodel, SLITLESS
        )

    def slit_calints(
        self,
        n_int: int = 10,
        *,
        factors: ArrayLike | None = None,
        calibrated: bool = True,
        first: int = 1,
        segment: int = 1,
        n_total: int | None = None,
        datamodel: Literal["SlitModel", "CubeModel"] = "SlitModel",
    ) -> Simulated:
        """Make a stack of integrations through the fixed slit, cut to its bounding box.

        Parameters are those of `calints`; the source is in the middle of the slit.
        """
        return self._stack(
            _cut_to_box(_DETECTOR),
            n_int,
            factors,
            calibrated,
            first,
            segment,
            n_total,
            datamodel,
            FIXED_SLIT,
        )

    def aperture_correction(
        self,
        subarray: str = "FULL",
        *,
        size: ArrayLike | None = None,
        wavelength: ArrayLike | None = None,
        offset: float = 0.0,
    ) -> ApertureCorrection:
        """Table of the true factors for the first source's light outside an aperture.

        Parameters
        ----------
        subarray : str
            SUBARRAY that the table belongs to: ``"FULL"`` or ``"SLITLESSPRISM"``.
        size : array_like, optional
            Widths in pixels; None: 1 to 30 in steps of a half.
        wavelength : array_like, optional
            Wavelengths in micron; None: 2.8 to 14.2 in steps of 0.1.
        offset : float
            Columns that the aperture's middle is to the right of the source.

        Returns
        -------
        ApertureCorrection
            1 over the fraction of the light inside.
        """
        sizes = np.arange(1.0, 30.25, 0.5) if size is None else np.asarray(size, dtype=float)
        waves = (
            np.arange(2.8, 14.25, 0.1)
            if wavelength is None
            else np.asarray(wavelength, dtype=float)
        )
        inside = self.psf.enclosed(
            (offset - sizes / 2.0) * PIXEL_SCALE,
            (offset + sizes / 2.0) * PIXEL_SCALE,
            waves[:, np.newaxis],
            self.sources[0].halo,
        )
        return ApertureCorrection(
            wavelength=waves, size=sizes, factor=1.0 / inside, subarray=subarray
        )

    # --- how ---------------------------------------------------------------------------------

    def _generator(self, *product: str | int) -> np.random.Generator:
        """The product's own stream of random numbers."""
        key = [ord(letter) for part in product for letter in str(part)]
        return np.random.default_rng([self.seed, *key])

    def _pointing(self, dispersion: Dispersion, position: float) -> _Pointing:
        """The pointing that puts the target `position` arcsec from the reference point."""
        if dispersion is SLIT:
            v2, v3, angle = -414.7798311657103, -400.61593483851567, 4.75797
        else:
            v2, v3, angle = -378.8320736785982, -344.9445433053003, 4.75797
        return _Pointing(v2, v3, angle, self.roll, self.ra, self.dec).at(position)

    def _light(self, geometry: _Geometry, position: float) -> NDArray[np.float64]:
        """Surface brightness of all sources in MJy/sr, with the target `position` arcsec along."""
        known = np.isfinite(geometry.wavelength)
        wave = geometry.wavelength[known][:, np.newaxis]
        edges = np.arange(geometry.shape[1] + 1) - 0.5
        image = np.zeros(geometry.shape)
        for source in self.sources:
            flux = _evaluate(source.flux, wave[:, 0], "flux")
            trace = geometry.trace(position + source.position + self.pointing_error)[known]
            x = (edges - trace[:, np.newaxis]) * PIXEL_SCALE
            share = np.diff(self.psf.cumulative(x, wave, source.halo), axis=1)
            image[known] += flux[:, np.newaxis] / (PIXEL_AREA * _MEGA) * share
        return image * geometry.inside

    def _sky(self, geometry: _Geometry, middle: float) -> NDArray[np.float64]:
        """Background in MJy/sr; rows without a wavelength have the nearest one's."""
        wave = _fill(geometry.wavelength)
        level = _evaluate(self.background, wave, "background")
        away = (np.arange(geometry.shape[1]) - middle) * PIXEL_SCALE
        return level[:, np.newaxis] * (1.0 + self.background_slope * away)

    def _electrons(self, geometry: _Geometry) -> NDArray[np.float64]:
        """Electrons for 1 MJy/sr in each row, shape (row, 1)."""
        wave = _fill(geometry.wavelength)
        rate = _evaluate(self.sensitivity, wave, "sensitivity")
        if not (rate > 0).all():
            raise SceneError("sensitivity is not greater than 0 everywhere")
        return np.asarray(rate * self.exposure_time)[:, np.newaxis]

    def _expose(
        self,
        rng: np.random.Generator,
        signal: NDArray[np.float64],
        electrons: NDArray[np.float64],
        noise: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Observe a surface brightness: Poisson noise and read noise (`noise`, in electrons)."""
        if (signal < 0).any():
            raise SceneError("flux and background add up to less than 0 in some pixels")
        counts = rng.poisson(signal * electrons).astype(float)
        counts += noise * rng.standard_normal(signal.shape)
        counts /= electrons
        return counts

    def _nod_pair(
        self,
        geometry: _Geometry,
        rng: np.random.Generator,
        own: float,
        other: float,
        subtract: bool,
        middle: float,
    ) -> tuple[_Planes, _Planes, NDArray[np.float64]]:
        """One exposure, less the other nod's: observed planes, true planes, background left in.

        `own` and `other` are where the target is in the two, in arcsec; `middle` the slit's column.
        """
        electrons = self._electrons(geometry)
        noise = self._noise_map(geometry, rng)
        sky = self._sky(geometry, middle)
        bright = sky * (1.0 + self.background_drift) if subtract else sky
        signal = self._light(geometry, own) + bright
        seen = self._expose(rng, signal, electrons, noise)
        true, left = signal, sky
        poisson, seen_poisson = signal / electrons, np.maximum(seen, 0.0) / electrons
        rnoise = (noise / electrons) ** 2
        if subtract:
            negative = self._light(geometry, other) + sky
            seen_negative = self._expose(rng, negative, electrons, noise)
            true, left = signal - negative, self.background_drift * sky
            seen = seen - seen_negative
            poisson = poisson + negative / electrons
            seen_poisson += np.maximum(seen_negative, 0.0) / electrons
            rnoise = 2.0 * rnoise
        seen = seen * (1.0 + self.flat_error * rng.standard_normal(geometry.shape))
        return (
            _Planes(seen, seen_poisson, rnoise, (self.flat_error * seen) ** 2),
            _Planes(true, poisson, rnoise, (self.flat_error * true) ** 2),
            left,
        )

    def _noise_map(self, geometry: _Geometry, rng: np.random.Generator) -> NDArray[np.float64]:
        """Read noise of each pixel in electrons."""
        spread = np.clip(rng.standard_normal(geometry.shape), -3.0, 3.0)
        return self.read_noise * (1.0 + 0.05 * spread)

    def _slit_image(
        self,
        kind: str,
        geometry: _Geometry,
        nod: int,
        subtract: bool,
        calibrated: bool,
        *,
        edges: bool,
        datamodel: str = "SlitModel",
    ) -> Simulated:
        """A product of one nod."""
        rng = self._generator(kind, nod)
        own = (nod * 2 - 3) * self.nod_throw / 2.0
        worked = _cut_to_box(geometry) if kind == "cal" else geometry
        planes, true, left = self._nod_pair(worked, rng, own, -own, subtract, worked.column)
        shift = self.sources[0].position + self.pointing_error
        return self._finish(
            kind,
            geometry,
            self._pointing(SLIT, own),
            planes,
            true,
            left,
            (geometry.trace(shift - own),) if subtract else (),
            rng,
            position=own,
            calibrated=calibrated,
            edges=edges,
            datamodel=datamodel,
            cards={
                "PATTTYPE": "ALONG-SLIT-NOD",
                "NUMDTHPT": 2,
                "PATT_NUM": nod,
                "XOFFSET": own,
                "YOFFSET": 0.0,
                "S_BKDSUB": "COMPLETE" if subtract else "SKIPPED",
                **({"S_RESAMP": "COMPLETE", "NDRIZ": 1} if kind == "s2d" else {}),
            },
        )

    def _stack(
        self,
        geometry: _Geometry,
        n_int: int,
        factors: ArrayLike | None,
        calibrated: bool,
        first: int,
        segment: int,
        n_total: int | None,
        datamodel: str,
        exp_type: str,
    ) -> Simulated:
        """A stack of integrations."""
        if n_int < 1 or first < 1:
            raise SceneError(f"n_int is {n_int} and first {first}, expected at least 1")
        scale = np.ones(n_int) if factors is None else np.asarray(factors, dtype=float)
        if scale.shape != (n_int,) or not (scale >= 0).all():
            raise SceneError(f"factors has shape {scale.shape}, expected ({n_int},), none below 0")
        rng = self._generator("calints", exp_type)
        electrons = self._electrons(geometry)
        noise = self._noise_map(geometry, rng)
        sky, light = self._sky(geometry, geometry.column), self._light(geometry, 0.0)
        flat = 1.0 + self.flat_error * rng.standard_normal(geometry.shape)
        signal = light + sky
        shape = (n_int, *geometry.shape)
        planes = _Planes(*(np.empty(shape, dtype=np.float32) for _ in range(4)))
        rnoise = (noise / electrons) ** 2
        planes.var_rnoise[...] = rnoise
        for start in range(0, n_int, _BLOCK):
            block = slice(start, min(start + _BLOCK, n_int))
            total = light * scale[block, np.newaxis, np.newaxis] + sky
            seen = self._expose(rng, total, electrons, noise)
            planes.var_poisson[block] = np.maximum(seen, 0.0) / electrons
            seen *= flat
            planes.data[block] = seen
            planes.var_flat[block] = (self.flat_error * seen) ** 2
        true = _Planes(signal, signal / electrons, rnoise, (self.flat_error * signal) ** 2)
        last = first + n_int - 1
        return self._finish(
            "calints",
            geometry,
            self._pointing(geometry.dispersion, 0.0),
            planes,
            true,
            sky,
            (),
            rng,
            calibrated=calibrated,
            edges=False,
            datamodel=datamodel,
            exp_type=exp_type,
            factors=scale,
            times=_integration_times(first, n_int, self.exposure_time),
            cards={
                "TSOVISIT": True,
                "EXSEGNUM": segment,
                "NINTS": last if n_total is None else n_total,
                "INTSTART": first,
                "INTEND": last,
                "PATTTYPE": "NONE",
                "NUMDTHPT": 1,
                "PATT_NUM": 1,
                "XOFFSET": 0.0,
                "YOFFSET": 0.0,
                "S_BKDSUB": "SKIPPED",
            },
        )

    def _finish(
        self,
        kind: str,
        geometry: _Geometry,
        pointing: _Pointing,
        planes: _Planes,
        true: _Planes,
        background: NDArray[np.float64],
        negative: tuple[NDArray[np.float64], ...],
        rng: np.random.Generator,
        *,
        cards: dict[str, Any],
        position: float = 0.0,
        calibrated: bool,
        edges: bool,
        datamodel: str = "SlitModel",
        exp_type: str = FIXED_SLIT,
        factors: NDArray[np.float64] | None = None,
        times: Table | None = None,
    ) -> Simulated:
        """Give the planes their units, bad pixels, frame, header and WCS."""
        framed = planes.data.shape[-2:] != geometry.shape  # worked out in the slit's box alone
        worked = _cut_to_box(geometry) if framed else geometry
        factor = 1.0 if calibrated else 1.0 / MJYSR_PER_DN
        if not calibrated:
            planes, true = planes.scaled(factor), true.scaled(factor)
        data, variances, dq = self._spoil(kind, planes, rng)
        missing = np.zeros(worked.shape, dtype=bool)
        if edges:
            missing[[0, -1]] = True
            missing[:, [0, -1]] = True
        if kind == "s2d":
            missing |= ~np.isfinite(true.data)
        for plane in (data, *variances):
            plane[..., missing] = np.nan
        err = np.sqrt(variances[0] + variances[1] + variances[2])
        truths = [np.where(missing, np.nan, plane) for plane in (true.data, background * factor)]
        truths += [
            np.where(missing, np.nan, v) for v in (true.var_poisson, true.var_rnoise, true.var_flat)
        ]
        if framed:
            data, err, *variances = (_embed(p, geometry, np.nan) for p in (data, err, *variances))
            truths = [_embed(plane, geometry, np.nan) for plane in truths]
            assert dq is not None  # only a cal is embedded
            dq = _embed(dq, geometry, DO_NOT_USE | _NON_SCIENCE)

        first = self.sources[0]
        wave = geometry.wavelength
        known = np.isfinite(wave)
        flux = np.full(wave.shape, np.nan)
        flux[known] = _evaluate(first.flux, wave[known], "flux")
        if not calibrated:
            flux *= factor / (PIXEL_AREA * _MEGA)
        truth = Truth(
            wavelength=wave,
            flux=flux,
            unit=u.Jy if calibrated else u.DN / u.s,
            column=geometry.trace(position + first.position + self.pointing_error),
            negative=negative,
            background=truths[1],
            data=truths[0],
            var_poisson=truths[2],
            var_rnoise=truths[3],
            var_flat=truths[4],
            psf=self.psf,
            halo=first.halo,
            factors=factors,
        )
        wcs = geometry.wcs(pointing)
        row = float(np.mean(geometry.box[1]))
        at_source = geometry.column + (position + first.position) / PIXEL_SCALE
        if geometry.curved:
            at_source += float(geometry.dispersion.shift(row - geometry.row))
        dith_ra, dith_dec, _ = (float(value) for value in wcs(at_source, row))
        header, sci = self._headers(
            kind,
            geometry,
            pointing,
            calibrated,
            datamodel,
            exp_type,
            (dith_ra, dith_dec),
            cards,
        )
        grid = np.broadcast_to(
            np.where(geometry.inside, wave[:, np.newaxis], np.nan), geometry.shape
        )
        image = SlitImage(
            data=data,
            err=err,
            var_poisson=variances[0],
            var_rnoise=variances[1],
            var_flat=variances[2],
            dq=dq,
            wavelength=grid.astype(np.float32),
            unit=u.MJy / u.sr if calibrated else u.DN / u.s,
            exp_type=exp_type,
            calibrated=calibrated,
            pixel_area=PIXEL_AREA if calibrated else None,
            source_type=self.source_type,
            subarray=header["SUBARRAY"],
            source_ra=dith_ra,
            source_dec=dith_dec,
            times=times,
            header=header,
            sci_header=sci,
            kind=kind,
            wcs_source=wcs,
        )
        return Simulated(image, truth)

    def _spoil(
        self, kind: str, planes: _Planes, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], list[NDArray[np.float32]], NDArray[np.uint32] | None]:
        """Data, variances and DQ in the file's precision, with bad pixels."""
        data = np.array(planes.data, dtype=np.float32)
        variances = [
            np.array(v, dtype=np.float32)
            for v in (planes.var_poisson, planes.var_rnoise, planes.var_flat)
        ]
        frame = data.shape[-2:]
        lasting = rng.random(frame) < (
            self.bad_fraction / 2 if data.ndim == 3 else self.bad_fraction
        )
        bad = np.broadcast_to(lasting, data.shape).copy()
        if data.ndim == 3 and self.bad_fraction:
            bad |= rng.random(data.shape, dtype=np.float32) < self.bad_fraction / 2
        if kind == "s2d":
            for plane in (data, *variances):
                plane[bad] = np.nan
            return data, variances, None
        dq = np.zeros(data.shape, dtype=np.uint32)
        for flag in _HARMLESS:
            dq[..., rng.random(frame) < 0.02] |= np.uint32(flag)
        where = np.nonzero(bad)
        dq[where] |= np.uint32(DO_NOT_USE)
        gone = rng.random(where[0].size) < 0.5
        data[where] = np.where(gone, np.nan, rng.uniform(-1e4, 1e5, gone.size)).astype(np.float32)
        for plane in variances:
            plane[where] = np.where(gone, np.nan, plane[where])
        return data, variances, dq

    def _headers(
        self,
        kind: str,
        geometry: _Geometry,
        pointing: _Pointing,
        calibrated: bool,
        datamodel: str,
        exp_type: str,
        dithered: tuple[float, float],
        cards: dict[str, Any],
    ) -> tuple[fits.Header, fits.Header]:
        """Primary and SCI header, with the cards of real products."""
        slit = geometry.dispersion is SLIT
        exposure = self.exposure_time
        integrations = cards.get("INTEND", 1) - cards.get("INTSTART", 1) + 1
        # Scenes of other seeds are other exposures.
        begin = _EXPOSURE_START + 1e-4 * self.seed
        duration = exposure * integrations
        done = "COMPLETE" if calibrated else "SKIPPED"
        primary: dict[str, Any] = {
            "DATE": "2025-11-16T00:00:00.000",
            "ORIGIN": "glue_lrs",
            "CAL_VER": "3.0.0",
            "CAL_VCS": "RELEASE",
            "DATAMODL": datamodel,
            "TELESCOP": "JWST",
            "DATE-OBS": "2025-11-15",
            "TIME-OBS": "14:24:00.000",
            "DATE-BEG": "2025-11-15T14:24:00.000",
            "OBS_ID": "V00001001001P0000000001101",
            "VISIT_ID": "00001001001",
            "PROGRAM": "00001",
            "OBSERVTN": "001",
            "VISIT": "001",
            "VISITGRP": "01",
            "SEQ_ID": "1",
            "ACT_ID": "01",
            "EXPOSURE": f"{cards['PATT_NUM']:05d}",
            "TSOVISIT": False,
            "TARGPROP": "SIMULATED",
            "TARGNAME": "SIMULATED",
            "TARG_RA": self.ra,
            "TARG_DEC": self.dec,
            "SRCTYAPT": self.source_type,
            "INSTRUME": "MIRI",
            "DETECTOR": "MIRIMAGE",
            "FILTER": "P750L",
            "EXP_TYPE": exp_type,
            "EXPSTART": begin,
            "EXPMID": begin + duration / 2.0 / 86400.0,
            "EXPEND": begin + duration / 86400.0,
            "READPATT": "FASTR1",
            "NINTS": 1,
            "NGROUPS": 119,
            "EFFINTTM": exposure,
            "EFFEXPTM": duration,
            "TMEASURE": duration,
            "DURATION": duration,
            "SUBARRAY": "FULL" if slit else "SLITLESSPRISM",
            "SUBSTRT1": 1,
            "SUBSTRT2": 1 if slit else 529,
            "SUBSIZE1": 1032 if slit else 72,
            "SUBSIZE2": 1024 if slit else 416,
            "FASTAXIS": 1,
            "SLOWAXIS": 2,
            "DITH_RA": dithered[0],
            "DITH_DEC": dithered[1],
            "APERNAME": "MIRIM_SLIT" if slit else "MIRIM_SLITLESSPRISM",
            "S_WCS": "COMPLETE",
            "S_SRCTYP": "COMPLETE",
            "S_FLAT": "COMPLETE",
            "S_PHOTOM": done,
        }
        if kind == "s2d":
            primary |= {"RESWHT": "ivm", "PIXFRAC": 1.0, "PXSCLRT": 1.0}
        primary |= cards
        corners = pointing.footprint(
            *((edge - geometry.column) * PIXEL_SCALE for edge in geometry.box[0])
        )
        polygon = " ".join(f"{ra:.9f} {dec:.9f}" for ra, dec in zip(*corners, strict=True))
        science: dict[str, Any] = {
            "SRCTYPE": self.source_type,
            "XPOSURE": primary["EFFEXPTM"],
            "TELAPSE": primary["EFFEXPTM"],
            "VA_SCALE": 1.0,
            "BUNIT": "MJy/sr" if calibrated else "DN/s",
        }
        if calibrated:
            science |= {
                "PHOTMJSR": MJYSR_PER_DN,
                "PHOTUJA2": 325.5755920410156,
                "PIXAR_SR": PIXEL_AREA,
                "PIXAR_A2": 0.012170609965075093,
            }
        science |= {
            "RADESYS": "ICRS",
            "PA_V3": self.roll,
            "S_REGION": f"POLYGON ICRS  {polygon}",
            "DISPAXIS": 2,
            "V2_REF": pointing.v2,
            "V3_REF": pointing.v3,
            "VPARITY": -1,
            "V3I_YANG": pointing.yangle,
            "RA_REF": pointing.ra,
            "DEC_REF": pointing.dec,
            "ROLL_REF": self.roll,
            "SPECSYS": "BARYCENT",
        }
        if kind != "s2d" and datamodel == "SlitModel":
            start = (529, 1) if not slit else (1, 1)
            if slit and geometry.shape != _DETECTOR.shape:
                start = (_DETECTOR_CUT[0] + 1, _DETECTOR_CUT[1] + 1)
            science |= {
                "SLTSTRT1": start[1],
                "SLTSIZE1": geometry.shape[1],
                "SLTSTRT2": start[0],
                "SLTSIZE2": geometry.shape[0],
            }
        return fits.Header(primary.items()), fits.Header(science.items())


def demo_scene(seed: int = 1) -> Scene:
    """Make the scene of the demonstration: a supernova with a halo, on a sloping background.

    Parameters
    ----------
    seed : int
        Seed of the noise.
    """
    return Scene(
        sources=(Source(flux=Supernova(), halo=0.05),),
        background_slope=0.02,
        background_drift=0.02,
        bad_fraction=0.001,
        seed=seed,
    )


# --- helpers -----------------------------------------------------------------------------------

#: MJD at which simulated exposures start.
_EXPOSURE_START = 60994.6
#: Integrations of a stack that are made at once.
_BLOCK = 16
#: Columns that the slit covers.
_SLIT_COLUMNS = 44
#: The fixed slit on the detector, with the bounding box of the real WCS.
_DETECTOR = _Geometry(SLIT, (1024, 1032), 325.13, 299.7, ((302.5, 346.5), (6.7, 393.7)))
#: First row and column of the bounding box.
_DETECTOR_CUT = (7, 303)


def _cut_to_box(geometry: _Geometry) -> _Geometry:
    """The pixels of the slit's bounding box alone."""
    if geometry.shape != _DETECTOR.shape:
        return geometry
    (left, right), (bottom, top) = geometry.box
    row, column = _DETECTOR_CUT
    shape = int(np.floor(top)) - row + 1, int(np.floor(right)) - column + 1
    return _Geometry(
        geometry.dispersion,
        shape,
        geometry.column - column,
        geometry.row - row,
        ((left - column, right - column), (bottom - row, top - row)),
    )


def _embed(plane: NDArray[Any], geometry: _Geometry, fill: float) -> NDArray[Any]:
    """Put the pixels of the slit on the whole detector."""
    whole = np.full(geometry.shape, fill, dtype=plane.dtype)
    row, column = _DETECTOR_CUT
    whole[row : row + plane.shape[0], column : column + plane.shape[1]] = plane
    return whole


def _evaluate(value: Spectral, wavelength: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """A number or function of the wavelength, at each wavelength."""
    found = value(wavelength) if callable(value) else value
    result = np.broadcast_to(np.asarray(found, dtype=float), wavelength.shape)
    if not np.isfinite(result).all():
        at = wavelength[~np.isfinite(result)][0]
        raise SceneError(f"{name} is not finite at {at:.2f} um, expected a number")
    return result


def _fill(wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest wavelength for rows that have none."""
    known = np.flatnonzero(np.isfinite(wavelength))
    nearest = np.clip(np.arange(wavelength.size), known[0], known[-1])
    return wavelength[nearest]


def _check_nod(nod: int) -> None:
    if nod not in (1, 2):
        raise SceneError(f"nod is {nod}, expected 1 or 2")


def _integration_times(first: int, number: int, seconds: float) -> Table:
    """INT_TIMES of the integrations of a stack."""
    index = np.arange(first, first + number, dtype=np.int32)
    start = _EXPOSURE_START + (index - 1) * seconds / 86400.0
    table = Table()
    table["integration_number"] = index
    # From UTC to TDB, and the light's way to the barycentre: about 69 s and 4 minutes.
    for scale, offset in (("MJD_UTC", 0.0), ("BJD_TDB", (69.184 + 241.0) / 86400.0)):
        for name, part in (("start", 0.0), ("mid", 0.5), ("end", 1.0)):
            table[f"int_{name}_{scale}"] = start + part * seconds / 86400.0 + offset
    return Table(
        table[
            "integration_number",
            "int_start_MJD_UTC",
            "int_mid_MJD_UTC",
            "int_end_MJD_UTC",
            "int_start_BJD_TDB",
            "int_mid_BJD_TDB",
            "int_end_BJD_TDB",
        ]
    )
