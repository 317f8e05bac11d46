"""SlitImage: a spectral image of LRS from the pipeline, or a stack of integrations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from astropy import units as u
from astropy.io import fits, registry
from numpy.typing import NDArray

from glue_lrs._utils.display import described, html, joined, span_text
from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs._utils.registry import unified_io
from glue_lrs._utils.source_file import SourceFile
from glue_lrs.errors import LRSError, LRSWarning, ProductError, warn
from glue_lrs.image.lazy_plane import in_mapped_file
from glue_lrs.image.pixels import DATA_PLANES, PLANES
from glue_lrs.image.specutils2d import image_to_spectrum, spectrum_changes
from glue_lrs.image.stack import integration_planes, median_planes

if TYPE_CHECKING:
    from astropy.table import Table
    from gwcs.wcs import WCS
    from specutils import Spectrum

    from glue_lrs.io.files import Source

    #: Image, or object that `SlitImage.from_any` converts to an image.
    ImageSource: TypeAlias = "SlitImage | Spectrum | str | PathLike[str]"


#: Parameters of `SlitImage` that affect a spectrum. The headers are not included, because they are
#: copied and could not be compared by identity.
_CONTENT = (
    "data", "wavelength", *DATA_PLANES, "unit", "exp_type", "calibrated", "pixel_area",
    "source_type", "subarray", "name", "spectral_order", "source_ra", "source_dec", "times",
    "wcs_source",
)  # fmt: skip
#: Largest difference in rows between WAVELENGTH and the WCS of one image. The pipeline computes
#: WAVELENGTH from the WCS, so that they agree to 1e-4 rows.
_ROWS_APART = 1.0


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SlitImage:
    """Spectral image from MIRI LRS, or stack of integrations.

    The wavelength varies from row to row, and the position along the slit from column to column.
    Pixel coordinates start at 0, and pixel centres are at integers. The arrays are neither copied
    nor modified. They may be memory-mapped and have any byte order. The planes of a stack that was
    read from several files are `~glue_lrs.image.joined.JoinedPlane` objects, which can be indexed
    like arrays and are read in parts.

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
    drizzle_weight : ndarray, optional
        Sum of the drizzle weights of a resampled image (WHT), with the shape of `data`. It affects
        no spectrum unless ``filled_pixels="lost"`` (`glue_lrs.image.drizzle`).
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
        without rows, as in files without times. That of a stack from several files also has a
        column SEGMENT.
    header, sci_header : `~astropy.io.fits.Header`
        Headers of the primary HDU and of the SCI extension, stored as copies (`LazyHeader`).
    filename : str, optional
        Name of the file from which the image was read. Messages contain this name.
    path : str, optional
        Absolute path of the file, for the provenance.
    segments : tuple of str
        Absolute paths of the files of a stack that was read from several files, in the order of the
        integrations. `path` is then None.
    kind : str
        Type of the product, ``"s2d"``, ``"cal"`` or ``"calints"``.
    wcs_source : `~gwcs.wcs.WCS` or callable, optional
        WCS that converts column and row to right ascension and declination in degrees and
        wavelength in micron, or a function without arguments that returns such a WCS. The function
        is called when `wcs` is first accessed.
    as_read : mapping, optional
        Values of the other parameters when the image was read from `path` (see `changed`).

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
    drizzle_weight: NDArray[Any] | None = None
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
    segments: tuple[str, ...] = ()
    kind: str = "s2d"
    wcs_source: WCS | Callable[[], WCS | None] | None = None
    as_read: Mapping[str, object] | None = None

    @unified_io("lrs")
    @classmethod
    def read(cls, path: Source | Sequence[Source], **options: Any) -> SlitImage:
        """Read a spectral image from a file, or a stack from the files of its segments.

        Parameters
        ----------
        path : str, path-like, or a list of these
            An s2d, cal or calints file of MIRI LRS, or the calints files of the segments of an
            exposure, in any order.

        Returns
        -------
        SlitImage
            The image. Its planes are memory-mapped if possible.

        Raises
        ------
        ProductError
            If the file is not an s2d, cal or calints file of MIRI LRS, or if a required part is
            missing or invalid. For several files, also if they are not the segments of one
            exposure, or if an integration is in several of them.

        Warns
        -----
        LRSWarning
            If integrations are missing between the segments, among others.
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
        self.check_file()
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
        """Name of the slit, else EXP_TYPE. The ``id`` of an EXTRACT1D aperture must match it."""
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
    def is_background_subtracted(self) -> bool:
        """Whether the pipeline subtracted a background (S_BKDSUB is COMPLETE)."""
        return bool(LazyHeader.view(self.header).get("S_BKDSUB") == "COMPLETE")

    def as_source_type(self, source_type: str | None) -> SlitImage:
        """Return the image with another SRCTYPE.

        The new image is cached, so that its WCS is not loaded at each call. `changed` does not list
        `source_type`, because the parameters of the extraction contain it.

        Parameters
        ----------
        source_type : str, optional
            ``"POINT"`` or ``"EXTENDED"``, or None to return the image unchanged.
        """
        if source_type in (None, self.source_type):
            return self
        if source_type not in self._by_source_type:
            image = self.derived(source_type=source_type)
            if image.as_read is not None:
                image = replace(image, as_read={**image.as_read, "source_type": source_type})
            self._by_source_type[source_type] = image
        return self._by_source_type[source_type]

    def derived(self, **values: Any) -> SlitImage:
        """Return a copy with other values, which follow from parameters of an extraction.

        `changed` lists such a parameter only if it had been changed before. The WCS is not loaded
        again.

        Parameters
        ----------
        **values
            Parameters of `SlitImage`.
        """
        values["wcs_source"] = self.loaded_wcs_source
        known = self.as_read
        if known is not None:
            kept = [name for name in values if _same(getattr(self, name), known[name])]
            values["as_read"] = {**known, **{name: values[name] for name in kept}}
        return replace(self, **values)

    @cached_property
    def _by_source_type(self) -> dict[str, SlitImage]:
        """Images that `as_source_type` has returned, by source type."""
        return {}

    def with_record(self) -> SlitImage:
        """Return a copy in which `as_read` contains the current values of the parameters."""
        return replace(self, as_read={name: getattr(self, name) for name in _CONTENT})

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the parameters that were replaced after the image was read from `path`.

        An image that was not read from a file has none. Arrays are compared by identity, so that
        this takes no time, and values that are assigned to elements of an array are not noticed.
        """
        known = self.as_read or {}
        return tuple(name for name in known if not _same(getattr(self, name), known[name]))

    @property
    def loaded_wcs_source(self) -> WCS | Callable[[], WCS | None] | None:
        """The WCS if it has already been loaded, else `wcs_source`.

        It is passed on as `wcs_source` of derived images, so that the WCS is not loaded twice.
        """
        return self.__dict__.get("wcs", self.wcs_source)

    @property
    def has_variances(self) -> bool:
        """Whether the image has a variance plane. Without variances, errors of spectra are 0."""
        return any(getattr(self, name) is not None for name in PLANES)

    @cached_property
    def wcs(self) -> WCS | None:
        """WCS that converts column and row to RA and Dec in degrees and wavelength in micron.

        At the first access, `LRSWarning` is issued if its wavelengths are not those of
        `wavelength`.
        """
        wcs = load_wcs(self.wcs_source, self.label)
        if wcs is not None and (difference := self._wavelength_difference(wcs)) > _ROWS_APART:
            warn(
                LRSWarning(
                    f"WAVELENGTH and the WCS differ by {difference:.1f} rows, expected less than "
                    "one: one of them belongs to another image",
                    subject=self.label,
                )
            )
        return wcs

    def _wavelength_difference(self, wcs: WCS) -> float:
        """Return the median difference between `wavelength` and a WCS in rows, 0 if unknown."""
        known = np.flatnonzero(np.isfinite(self.wavelength[self.shape[0] // 2]))
        if not known.size:
            return 0.0
        column = known[known.size // 2]
        rows = np.linspace(0, self.shape[0] - 1, 9).round()[1:-1]
        plane = np.asarray(self.wavelength[:, column], dtype=float)
        # The errors of a damaged WCS are reported when it is used.
        with contextlib.suppress(Exception), np.errstate(all="ignore"):
            found = np.asarray(wcs(np.full(rows.size, float(column)), rows)[2], dtype=float)
            difference = np.abs(found - plane[rows.astype(int)])
            difference /= np.abs(np.gradient(plane))[rows.astype(int)]
            if np.isfinite(difference).any():
                return float(np.median(difference[np.isfinite(difference)]))
        return 0.0

    @property
    def bounding_box(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Edges of the area in which the WCS is valid, as ((left, right), (bottom, top)).

        The edges are in pixel coordinates. Without a WCS, this is the whole image.
        """
        box = None if self.wcs is None else self.wcs.bounding_box
        if box is None:
            rows, columns = self.shape
            return (-0.5, columns - 0.5), (-0.5, rows - 0.5)
        return _edges(box)

    @classmethod
    def from_any(cls, image: ImageSource) -> SlitImage:
        """Read an image, convert a two-dimensional spectrum, or return an image unchanged.

        Parameters
        ----------
        image : SlitImage, `~specutils.Spectrum`, str or path-like
            Image, spectrum read with ``format="lrs-s2d"``, or path of an s2d, cal or calints file.

        Returns
        -------
        SlitImage
            The same image, or the image that was read or made from the spectrum.

        Raises
        ------
        ProductError
            If `image` is neither a `SlitImage` nor a spectrum nor a path, or the file cannot be
            read or was overwritten.
        LRSError
            If the spectrum cannot be converted, as described in `from_spectrum`.
        """
        if isinstance(image, SlitImage):
            image.check_file()
            return image
        if isinstance(image, str | PathLike):
            return cls.read(image)
        if not hasattr(image, "spectral_axis"):
            raise ProductError(
                f"the image is a {type(image).__name__}, expected a SlitImage or a Spectrum, or "
                "the path of a file"
            )
        return cls.from_spectrum(image)

    def check_file(self) -> None:
        """Raise `ProductError` if the file of a memory-mapped image was overwritten or cut off.

        Its pixels would have other values or, where the file is cut off, reading them would end the
        program.
        """
        for path in self.segments or (self.path,):
            if isinstance(path, SourceFile) and path.is_overwritten and self._is_mapped:
                raise ProductError(
                    "was overwritten since it was read, expected the same file; read it again",
                    subject=path if self.segments else self.label,
                )

    @property
    def _is_mapped(self) -> bool:
        """Whether a plane is in a memory-mapped file."""
        return any(in_mapped_file(getattr(self, n)) for n in ("data", *DATA_PLANES, "wavelength"))

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
        if self.as_read is not None:
            copied["as_read"] = {
                name: ... if name in self.changed else copied.get(name, getattr(self, name))
                for name in self.as_read
            }
        made = replace(self, **copied)  # `__post_init__` copies the headers
        memo[id(self)] = made
        return made

    def __repr__(self) -> str:
        try:
            self.check_file()  # the wavelengths of a file that was cut off cannot be read
            span = span_text(self.wavelength, "um")
        except ProductError as error:
            span = error.text
        number = f"{self.data.shape[0]} integrations of " if self.is_stack else ""
        target = str(self.header.get("TARGNAME") or "").strip()
        return described(
            self,
            joined(self.kind, target, self.exp_type, self.source_type),
            f"{number}{self.shape[0]} rows x {self.shape[1]} columns, {span}, {self.unit}",
            self.filename,
        )

    _repr_html_ = html


def _same(value: object, other: object) -> bool:
    """Return whether two values are the same object, or equal numbers, texts or units."""
    plain = isinstance(value, str | float | int | u.UnitBase)
    return value is other or (plain and bool(value == other))


def _edges(box: Any) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the edges ((left, right), (bottom, top)) of the bounding box of a WCS."""
    if hasattr(box, "bounding_box"):  # astropy's ModelBoundingBox, possibly in C order
        box = box.bounding_box(order="F")
    (left, right), (bottom, top) = box
    return (float(left), float(right)), (float(bottom), float(top))


def load_wcs(source: WCS | Callable[[], WCS | None] | None, label: str | None = None) -> WCS | None:
    """Return the WCS for a value of `SlitImage.wcs_source`, and load it if necessary.

    A bounding box without a finite area, in which the WCS would give only NaN, is ignored.

    Warns
    -----
    LRSWarning
        If the bounding box is ignored. `label` is the name of the image in the message.
    """
    wcs: Any = source
    if source is not None and not hasattr(source, "forward_transform"):  # a WCS is callable, too
        wcs = source()
    box = None if wcs is None else wcs.bounding_box
    if box is None or all(-np.inf < low < high < np.inf for low, high in _edges(box)):
        return wcs
    text = f"the bounding box of the WCS is {_edges(box)}, expected ascending edges; it is ignored"
    warn(LRSWarning(text, subject=label))
    wcs = deepcopy(wcs)
    wcs.bounding_box = None
    return wcs
