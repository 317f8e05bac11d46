"""SlitImage: a two-dimensional LRS spectrum, or a stack of them, as the pipeline leaves it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from astropy import units as u
from astropy.io import fits
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs._utils.registry import reader, writer
from glue_lrs.errors import ProductError

if TYPE_CHECKING:
    from astropy.table import Table
    from gwcs.wcs import WCS
    from specutils import Spectrum

__all__ = ["SlitImage", "load_wcs"]

_PLANES = ("err", "var_poisson", "var_rnoise", "var_flat", "dq")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SlitImage:
    """A spectral image of MIRI LRS: rows are dispersion, columns are cross-dispersion.

    Indices count from 0 and a pixel's centre is a whole number. Arrays are not copied, and nothing
    in this package changes them; they may be memory-mapped and of any byte order.

    Parameters
    ----------
    data : ndarray
        Surface brightness, shape (row, column) or (integration, row, column), in `unit`.
    wavelength : ndarray
        Wavelength of each pixel in micron, shape (row, column), NaN where there is none.
    unit : `~astropy.units.Unit`
        MJy/sr where the photometric calibration has been applied, else DN/s.
    err, var_poisson, var_rnoise, var_flat : ndarray, optional
        Total error and the three variances, of the shape of `data`. None counts as 0.
    dq : ndarray of uint32, optional
        Data quality flags, of the shape of `data`. Only bit 0 (`DO_NOT_USE`) removes a pixel.
    exp_type : str
        EXP_TYPE: ``"MIR_LRS-FIXEDSLIT"`` or ``"MIR_LRS-SLITLESS"``.
    calibrated : bool
        Whether the photometric calibration has been applied (S_PHOTOM is COMPLETE).
    pixel_area : float, optional
        Solid angle of a pixel in sr (PIXAR_SR).
    dispaxis : int
        DISPAXIS. LRS disperses along rows, which is 2; nothing else is accepted.
    source_type : str, optional
        SRCTYPE: ``"POINT"`` or ``"EXTENDED"``.
    subarray : str, optional
        SUBARRAY: the key into an APCORR reference.
    name : str, optional
        Slit name, where the file gives one; the EXP_TYPE takes its place otherwise.
    spectral_order : int
        Spectral order, 1 for a prism.
    source_ra, source_dec : float, optional
        Where the telescope meant to put the source (DITH_RA, DITH_DEC), in degrees.
    times : `~astropy.table.Table`, optional
        The rows of INT_TIMES that belong to the integrations of a stack, in order.
    header, sci_header : `~astropy.io.fits.Header`
        Headers of the primary HDU and of the SCI extension. The image gets its own, an `LazyHeader`.
    filename : str, optional
        The file the image was read from, as messages call it.
    path : str, optional
        Its absolute path, for the provenance.
    kind : str
        ``"s2d"``, ``"cal"`` or ``"calints"``.
    wcs_source : `~gwcs.wcs.WCS` or callable, optional
        Where `wcs` comes from: the world coordinate system (column, row -> RA, Dec in degrees,
        wavelength in micron), or a function without arguments that loads it when it is first
        asked for.

    Raises
    ------
    ProductError
        If shapes disagree or something that an extraction cannot do without is missing.
    """

    data: NDArray[Any]
    wavelength: NDArray[Any]
    unit: u.UnitBase
    exp_type: str
    err: NDArray[Any] | None = None
    var_poisson: NDArray[Any] | None = None
    var_rnoise: NDArray[Any] | None = None
    var_flat: NDArray[Any] | None = None
    dq: NDArray[Any] | None = None
    calibrated: bool = True
    pixel_area: float | None = None
    dispaxis: int | None = 2
    source_type: str | None = None
    subarray: str | None = None
    name: str | None = None
    spectral_order: int = 1
    source_ra: float | None = None
    source_dec: float | None = None
    times: Table | None = None
    header: fits.Header = field(default_factory=fits.Header)
    sci_header: fits.Header = field(default_factory=fits.Header)
    filename: str | None = None
    path: str | None = None
    kind: str = "s2d"
    wcs_source: WCS | Callable[[], WCS | None] | None = None

    read: ClassVar[Callable[..., SlitImage]]
    write: ClassVar[Callable[..., None]]

    def __post_init__(self) -> None:
        for name in ("header", "sci_header"):
            object.__setattr__(self, name, LazyHeader.from_header(getattr(self, name)))
        where = self.filename or "image"
        if self.data.ndim not in (2, 3) or 0 in self.data.shape:
            raise ProductError(
                f"{where}: SCI has shape {self.data.shape}, expected (row, column) or "
                "(integration, row, column) with at least one pixel"
            )
        if self.wavelength.shape != self.data.shape[-2:]:
            raise ProductError(
                f"{where}: WAVELENGTH has shape {self.wavelength.shape}, "
                f"expected {self.data.shape[-2:]} as SCI"
            )
        for plane in _PLANES:
            values = getattr(self, plane)
            if values is not None and values.shape != self.data.shape:
                raise ProductError(
                    f"{where}: {plane.upper()} has shape {values.shape}, "
                    f"expected {self.data.shape} as SCI"
                )
        expected = u.MJy / u.sr if self.calibrated else u.DN / u.s
        if self.unit != expected:
            raise ProductError(
                f"{where}: unit is {self.unit}, expected {expected} for an image that is "
                f"{'' if self.calibrated else 'not '}photometrically calibrated"
            )
        if self.dispaxis != 2:
            found = "none" if self.dispaxis is None else self.dispaxis
            raise ProductError(f"{where}: DISPAXIS is {found}, expected 2 (dispersion along rows)")

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return self.data.shape[-2], self.data.shape[-1]

    @property
    def is_stack(self) -> bool:
        """Whether there is an axis of integrations, even if it has one element only."""
        return self.data.ndim == 3

    @property
    def slit_name(self) -> str:
        """The name that an EXTRACT1D aperture's ``id`` must match."""
        return self.name or self.exp_type

    @property
    def label(self) -> str:
        """How messages call this image."""
        return self.filename or "image"

    @property
    def has_variances(self) -> bool:
        """Whether any of the three variance planes is there; without them errors are 0."""
        return not (self.var_poisson is None and self.var_rnoise is None and self.var_flat is None)

    @cached_property
    def wcs(self) -> WCS | None:
        """The WCS: column, row -> RA and Dec in degrees, wavelength in micron."""
        return load_wcs(self.wcs_source)

    @property
    def bounding_box(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """((first column, last column), (first row, last row)) where the WCS holds; pixel edges."""
        box = None if self.wcs is None else self.wcs.bounding_box
        if box is None:
            rows, columns = self.shape
            return (-0.5, columns - 0.5), (-0.5, rows - 0.5)
        if hasattr(box, "bounding_box"):  # astropy's ModelBoundingBox, whose order may be C
            box = box.bounding_box(order="F")
        (left, right), (bottom, top) = box
        return (float(left), float(right)), (float(bottom), float(top))

    @classmethod
    def from_any(cls, image: SlitImage | Spectrum) -> SlitImage:
        """Take an image as it is, and make one of a spectrum of two axes.

        Parameters
        ----------
        image : SlitImage or `~specutils.Spectrum`
            An image, or what reading with ``format="lrs-s2d"`` gave.

        Raises
        ------
        ProductError
            If it is something else.
        LRSError
            As `from_spectrum`.
        """
        if isinstance(image, SlitImage):
            return image
        if not hasattr(image, "spectral_axis"):
            raise ProductError(
                f"the image is a {type(image).__name__}, expected a SlitImage or a Spectrum"
            )
        return cls.from_spectrum(image)

    @classmethod
    def from_spectrum(cls, spectrum: Spectrum) -> SlitImage:
        """Make an image of a spectrum of two axes: see `glue_lrs.image.specutils2d.spectrum_to_image`.

        Parameters
        ----------
        spectrum : `~specutils.Spectrum`
            What `to_spectrum`, or reading with ``format="lrs-s2d"``, gave; changed or not.

        Returns
        -------
        SlitImage
            The image it was made from if it is unchanged, else one of the spectrum's own values.

        Raises
        ------
        LRSError
            If it does not come from an image, or is no surface brightness any more.
        """
        from glue_lrs.image.specutils2d import spectrum_to_image

        return spectrum_to_image(spectrum)

    def to_spectrum(self) -> Spectrum:
        """Make a specutils spectrum of two axes: see `glue_lrs.image.specutils2d.image_to_spectrum`.

        Returns
        -------
        `~specutils.Spectrum`
            Flux of shape (column, row), or (integration, column, row), the wavelength ascending.
        """
        from glue_lrs.image.specutils2d import image_to_spectrum

        return image_to_spectrum(self)

    def integration(self, number: int) -> SlitImage:
        """One integration of a stack as an image of its own.

        Parameters
        ----------
        number : int
            Which one, counted from 0.

        Returns
        -------
        SlitImage
            Shape (row, column); the arrays are views.

        Raises
        ------
        LRSError
            If there is no such integration, or the image is no stack.
        """
        from glue_lrs.image.stack import integration

        return integration(self, number)

    def median(self) -> SlitImage:
        """The median of all integrations of a stack, pixel by pixel, as an image of its own.

        Returns
        -------
        SlitImage
            Shape (row, column). Pixels without a value in any integration are NaN, with DQ bit 0
            set. Each pixel's median leaves out the integrations in which it is flagged or not
            finite.

        Raises
        ------
        LRSError
            If the image is no stack.

        Notes
        -----
        The variance of a median of N independent values of a normal distribution is the values'
        mean variance times pi / (2 N + 1) for odd N, pi / (2 N + 2.6) for even N, and 1 / N for one
        or two: within 1% for all N. That goes for photon and read noise. The flat's error is the
        same in all integrations, so that its variance is their mean.
        """
        from glue_lrs.image.stack import median

        return median(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> SlitImage:
        copied: dict[str, Any] = {
            name: None if values is None else np.array(values)  # in memory
            for name in ("data", "wavelength", *_PLANES)
            for values in [getattr(self, name)]
        }
        copied |= {name: deepcopy(getattr(self, name), memo) for name in ("times", "wcs_source")}
        made = replace(self, **copied)  # each image has headers of its own
        memo[id(self)] = made
        return made

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.data.shape))
        return f"<SlitImage {self.kind} {self.exp_type} {shape} {self.unit} {self.filename or ''}>"


def load_wcs(source: WCS | Callable[[], WCS | None] | None) -> WCS | None:
    """The WCS itself, of what `SlitImage.wcs_source` may be."""
    if source is None or hasattr(source, "forward_transform"):  # a WCS is callable as well
        return source
    return source()


SlitImage.read = reader(
    "lrs",
    """Read a spectral image.

    Parameters
    ----------
    path : str or path-like
        An s2d, cal or calints file of MIRI LRS.

    Returns
    -------
    SlitImage
        The image, memory-mapped where the file allows it.

    Raises
    ------
    ProductError
        If the file is not such a file, or something in it is missing or wrong.
    """,
)

SlitImage.write = writer(
    "lrs",
    """Write a spectral image as a file like the pipeline's.

    Parameters
    ----------
    path : str or path-like
        The file to write.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    WriteError
        If the file exists or cannot be written.
    """,
)
