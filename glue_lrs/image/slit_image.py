"""SlitImage: a spectral image of LRS from the pipeline, or a stack of integrations."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import fits, registry
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs._utils.registry import unified_io
from glue_lrs.errors import LRSError, ProductError
from glue_lrs.image.pixels import DATA_PLANES, PLANES
from glue_lrs.image.specutils2d import image_to_spectrum, spectrum_changes
from glue_lrs.image.stack import integration_planes, median_planes

if TYPE_CHECKING:
    from astropy.table import Table
    from gwcs.wcs import WCS
    from specutils import Spectrum

    from glue_lrs.io.files import Source


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SlitImage:
    """Spectral image from MIRI LRS, or stack of integrations.

    The wavelength varies from row to row, and the position along the slit from column to column.
    Pixel coordinates start at 0, and pixel centres are at integers. The arrays are neither copied
    nor modified. They may be memory-mapped and have any byte order.

    Parameters
    ----------
    data : ndarray
        Surface brightness in `unit`, shape (row, column), or (integration, row, column) for a stack
        of integrations.
    wavelength : ndarray
        Wavelength of each pixel in micron, shape (row, column). Undefined wavelengths are NaN.
    unit : `~astropy.units.Unit`
        MJy/sr if the photometric calibration has been applied, else DN/s.
    err, var_poisson, var_rnoise, var_flat : ndarray, optional
        Total 1-sigma error, and variances from Poisson noise, read noise and flat field, with the
        shape of `data`. A missing plane is treated as 0.
    dq : ndarray of uint32, optional
        Data quality flags, with the shape of `data`. Only bit 0 (`DO_NOT_USE`) excludes a pixel.
    exp_type : str
        EXP_TYPE, either ``"MIR_LRS-FIXEDSLIT"`` or ``"MIR_LRS-SLITLESS"``.
    calibrated : bool
        Whether the photometric calibration has been applied (S_PHOTOM is COMPLETE).
    pixel_area : float, optional
        Solid angle of a pixel in sr (PIXAR_SR).
    dispaxis : int
        DISPAXIS, which must be 2 (the wavelength varies with the row).
    source_type : str, optional
        SRCTYPE, for example ``"POINT"`` or ``"EXTENDED"``.
    subarray : str, optional
        SUBARRAY, which selects the row in an APCORR reference file.
    name : str, optional
        Name of the slit, for which `slit_name` uses the EXP_TYPE if it is None.
    spectral_order : int
        Spectral order, 1 for a prism.
    source_ra, source_dec : float, optional
        Right ascension and declination of the intended source position in degrees (DITH_RA,
        DITH_DEC).
    times : `~astropy.table.Table`, optional
        INT_TIMES table of a stack, with one row per integration in the same order as in `data`, or
        without rows, as in files without times.
    header, sci_header : `~astropy.io.fits.Header`
        Headers of the primary HDU and of the SCI extension, stored as copies (`LazyHeader`).
    filename : str, optional
        Name of the file from which the image was read. Messages contain this name.
    path : str, optional
        Absolute path of the file, for the provenance.
    kind : str
        Type of the product, ``"s2d"``, ``"cal"`` or ``"calints"``.
    wcs_source : `~gwcs.wcs.WCS` or callable, optional
        WCS that converts column and row to right ascension and declination in degrees and
        wavelength in micron, or a function without arguments that returns such a WCS. The function
        is called when `wcs` is first accessed.

    Raises
    ------
    ProductError
        If shapes are inconsistent, or the unit or DISPAXIS is not as expected.
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

    @unified_io("lrs")
    @classmethod
    def read(cls, path: Source, **options: Any) -> SlitImage:
        """Read a spectral image from a file.

        Parameters
        ----------
        path : str or path-like
            An s2d, cal or calints file of MIRI LRS.

        Returns
        -------
        SlitImage
            The image. Its planes are memory-mapped if possible.

        Raises
        ------
        ProductError
            If the file is not an s2d, cal or calints file of MIRI LRS, or if a required part is
            missing or invalid.
        """
        return registry.read(cls, path, **options)

    @unified_io("lrs")
    def write(self, path: str | PathLike[str], overwrite: bool = False, **options: Any) -> None:
        """Write the image to an s2d, cal or calints file, in the format of the pipeline.

        Parameters
        ----------
        path : str or path-like
            Path of the file to write.
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        WriteError
            If the file exists or cannot be written.
        """
        registry.write(self, path, overwrite=overwrite, **options)

    def __post_init__(self) -> None:
        for name in ("header", "sci_header"):
            object.__setattr__(self, name, LazyHeader.from_header(getattr(self, name)))
        if self.data.ndim not in (2, 3) or 0 in self.data.shape:
            raise ProductError(
                f"SCI has shape {self.data.shape}, expected (row, column) or "
                "(integration, row, column) with at least one pixel",
                subject=self.label,
            )
        for plane in ("wavelength", *DATA_PLANES):
            values = getattr(self, plane)
            shape = self.shape if plane == "wavelength" else self.data.shape
            if values is not None and values.shape != shape:
                raise ProductError(
                    f"{plane.upper()} has shape {values.shape}, expected {shape} as SCI",
                    subject=self.label,
                )
        expected = u.MJy / u.sr if self.calibrated else u.DN / u.s
        if self.unit != expected:
            raise ProductError(
                f"unit is {self.unit}, expected {expected} for an image that is "
                f"{'' if self.calibrated else 'not '}photometrically calibrated",
                subject=self.label,
            )
        if self.dispaxis != 2:
            found = "none" if self.dispaxis is None else self.dispaxis
            raise ProductError(
                f"DISPAXIS is {found}, expected 2 (dispersion along rows)", subject=self.label
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and number of columns."""
        return self.data.shape[-2], self.data.shape[-1]

    @property
    def is_stack(self) -> bool:
        """Whether the data have an axis for integrations, even if its length is 1."""
        return self.data.ndim == 3

    @property
    def slit_name(self) -> str:
        """Name of the slit or EXP_TYPE, which the ``id`` of an EXTRACT1D aperture must match."""
        return self.name or self.exp_type

    @property
    def label(self) -> str:
        """Name of the image in messages."""
        return self.filename or "image"

    @property
    def is_point_source(self) -> bool:
        """Whether SRCTYPE is POINT."""
        return (self.source_type or "").upper() == "POINT"

    @property
    def is_extended_source(self) -> bool:
        """Whether SRCTYPE is EXTENDED."""
        return (self.source_type or "").upper() == "EXTENDED"

    @property
    def loaded_wcs_source(self) -> WCS | Callable[[], WCS | None] | None:
        """Value of `wcs_source` for a new image, which avoids loading the WCS twice.

        This is the WCS if it has already been loaded, else `wcs_source`.
        """
        return self.__dict__.get("wcs", self.wcs_source)

    @property
    def has_variances(self) -> bool:
        """Whether the image has a variance plane. Without variances, errors of spectra are 0."""
        return any(getattr(self, name) is not None for name in PLANES)

    @cached_property
    def wcs(self) -> WCS | None:
        """WCS that converts column and row to RA and Dec in degrees and wavelength in micron."""
        return load_wcs(self.wcs_source)

    @property
    def bounding_box(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Edges of the area in which the WCS is valid, as ((left, right), (bottom, top)).

        The edges are in pixel coordinates. Without a WCS, this is the whole image.
        """
        box = None if self.wcs is None else self.wcs.bounding_box
        if box is None:
            rows, columns = self.shape
            return (-0.5, columns - 0.5), (-0.5, rows - 0.5)
        if hasattr(box, "bounding_box"):  # astropy's ModelBoundingBox, possibly in C order
            box = box.bounding_box(order="F")
        (left, right), (bottom, top) = box
        return (float(left), float(right)), (float(bottom), float(top))

    @classmethod
    def from_any(cls, image: SlitImage | Spectrum) -> SlitImage:
        """Convert a two-dimensional spectrum to an image, or return an image unchanged.

        Parameters
        ----------
        image : SlitImage or `~specutils.Spectrum`
            Image, or spectrum read with ``format="lrs-s2d"``.

        Returns
        -------
        SlitImage
            The same image, or the image that was made from the spectrum.

        Raises
        ------
        ProductError
            If `image` is neither a `SlitImage` nor a spectrum.
        LRSError
            If the spectrum cannot be converted, as described in `from_spectrum`.
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
        """Convert a two-dimensional specutils spectrum to an image.

        Parameters
        ----------
        spectrum : `~specutils.Spectrum`
            Result of `to_spectrum`, or spectrum read with ``format="lrs-s2d"``. The values may have
            been modified since.

        Returns
        -------
        SlitImage
            The original image if the spectrum is unmodified, else an image with the values from the
            spectrum, as described in `glue_lrs.image.specutils2d.spectrum_changes`.

        Raises
        ------
        LRSError
            If the spectrum was not made from an image, or its unit cannot be converted to the unit
            of the image.
        """
        image = spectrum.meta.get("image")
        if not isinstance(image, SlitImage):
            raise LRSError(
                f"the spectrum of shape {spectrum.flux.shape} has no meta['image'], expected one "
                "read with format='lrs-s2d' or made by SlitImage.to_spectrum"
            )
        changes = spectrum_changes(spectrum, image)
        return replace(image, **changes) if changes else image

    def to_spectrum(self) -> Spectrum:
        """Convert the image to a two-dimensional specutils spectrum.

        Returns
        -------
        `~specutils.Spectrum`
            Spectrum with ascending wavelengths and a flux of shape (column, row), or (integration,
            column, row), as described in `glue_lrs.image.specutils2d.image_to_spectrum`.
        """
        return image_to_spectrum(self)

    def integration(self, number: int) -> SlitImage:
        """Return one integration of a stack.

        Parameters
        ----------
        number : int
            Index of the integration, starting at 0.

        Returns
        -------
        SlitImage
            Image of shape (row, column), whose arrays are views of the stack.

        Raises
        ------
        LRSError
            If there is no such integration, or the image is not a stack.
        """
        return replace(self, **integration_planes(self, number))

    def median(self) -> SlitImage:
        """Return the pixelwise median over the integrations of a stack.

        Returns
        -------
        SlitImage
            Image of shape (row, column). The median of each pixel excludes integrations in which
            the pixel is flagged or not finite. Pixels without a valid integration are NaN and have
            DQ bit 0 set.

        Raises
        ------
        LRSError
            If the image is not a stack.

        Notes
        -----
        The variance of the median of N independent, normally distributed values is their mean
        variance times pi / (2 N + 1) for odd N, pi / (2 N + 2.6) for even N, and 1 / N for N = 1
        and 2. These factors are accurate to 1%. They are applied to the variances from Poisson
        noise and read noise. The flat-field error is the same in all integrations, so that the
        median does not reduce it, and its variance is the mean over the integrations.
        """
        return replace(self, **median_planes(self))

    def __deepcopy__(self, memo: dict[int, object]) -> SlitImage:
        copied: dict[str, Any] = {
            name: None if values is None else np.array(values)  # copied into memory
            for name in ("data", "wavelength", *DATA_PLANES)
            for values in [getattr(self, name)]
        }
        copied |= {name: deepcopy(getattr(self, name), memo) for name in ("times", "wcs_source")}
        made = replace(self, **copied)  # `__post_init__` copies the headers
        memo[id(self)] = made
        return made

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.data.shape))
        return f"<SlitImage {self.kind} {self.exp_type} {shape} {self.unit} {self.filename or ''}>"


def load_wcs(source: WCS | Callable[[], WCS | None] | None) -> WCS | None:
    """Return the WCS for a value of `SlitImage.wcs_source`, and load it if necessary."""
    if source is None or hasattr(source, "forward_transform"):  # a WCS is callable, too
        return source
    return source()
