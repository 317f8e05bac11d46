"""Loaders and an exporter of LRS files for glue.

`register` adds them to glue's registries. The data factories have precedence over glue's own FITS
reader, and accept products of MIRI LRS only: s2d, cal and calints as images, x1d, x1dints and c1d
as spectra.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from astropy.io import fits
from glue.config import data_exporter, data_factory
from glue.core import Data, Subset
from glue.core.component_id import ComponentID
from glue.core.data_factories import load_data
from glue.core.data_factories.fits import fits_reader

from glue_lrs.errors import LRSError, LRSWarning, WriteError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.io.identify import IMAGE_KINDS, is_lrs_product
from glue_lrs.io.spectra import read_spectra
from glue_lrs.viewers.datasets.conversions import data_to_extraction
from glue_lrs.viewers.datasets.images import image_data
from glue_lrs.viewers.datasets.spectra import is_lrs_spectrum, spectrum_data

__all__ = [
    "export_x1d",
    "is_image_file",
    "is_spectrum_file",
    "lrs_image",
    "lrs_spectrum",
    "open_image",
    "register",
    "strictly",
]

#: glue's own FITS reader has 100.
_PRIORITY = 200

#: Whether a factory raises if a file cannot be read as one of LRS.
_strict: ContextVar[bool] = ContextVar("strict", default=False)


def open_image(path: str | os.PathLike[str]) -> Data:
    """Open an s2d, cal or calints file as glue does: a session then saves only the file's name.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    `~glue.core.data.Data`
        See `image_data`.

    Raises
    ------
    ProductError
        If it is not such a file.
    """
    with strictly():
        return load_data(os.path.expanduser(os.fspath(path)), factory=lrs_image)


def is_image_file(filename: str, **kwargs: Any) -> bool:
    """Return whether a file is an s2d, cal or calints of MIRI LRS; never raise.

    A rate, or another image without wavelengths, is not: glue's own reader opens it.
    """
    if not is_lrs_product(filename, IMAGE_KINDS):
        return False
    try:
        with fits.open(filename) as hdulist:
            return "WAVELENGTH" in hdulist or hdulist[0].header.get("S_WCS") == "COMPLETE"
    except Exception:  # anything may be wrong with the file
        return False


def is_spectrum_file(filename: str, **kwargs: Any) -> bool:
    """Return whether a file is an x1d, x1dints or c1d of MIRI LRS; never raise."""
    return is_lrs_product(filename, ("x1d", "x1dints", "c1d"))


@contextmanager
def strictly() -> Iterator[None]:
    """Let the factories raise instead of falling back to a plain FITS file."""
    token = _strict.set(True)
    try:
        yield
    finally:
        _strict.reset(token)


def _with_fallback(
    filename: str, read: Callable[[str], Data | list[Data]], accepts: Callable[[str], bool]
) -> Data | list[Data]:
    """Read a file of LRS, or with glue's own FITS reader and a warning if that fails."""
    try:
        return read(filename)
    except LRSError as error:
        if _strict.get() or not accepts(filename):
            raise
        try:
            plain: Data | list[Data] = fits_reader(filename)
        except Exception:
            raise error from None
        warnings.warn(
            f"{error}; it is opened as a plain FITS file, without extraction",
            LRSWarning,
            stacklevel=3,
        )
        return plain


def lrs_image(filename: str) -> Data | list[Data]:
    """Read an s2d, cal or calints: see `glue_lrs.viewers.datasets.images.image_data`.

    Parameters
    ----------
    filename : str
        The file.

    Returns
    -------
    `~glue.core.data.Data`
        The image, or the stack of images.

    Raises
    ------
    ProductError
        If it cannot be read, not even as a plain FITS file.

    Warns
    -----
    LRSWarning
        If it cannot be extracted, and is read as a plain FITS file.
    """
    return _with_fallback(filename, lambda name: image_data(SlitImage.read(name)), is_image_file)


def lrs_spectrum(filename: str) -> Data | list[Data]:
    """Read an x1d, x1dints or c1d: see `glue_lrs.viewers.datasets.spectra.spectrum_data`.

    Parameters
    ----------
    filename : str
        The file.

    Returns
    -------
    `~glue.core.data.Data` or list of them
        A spectrum; of an x1dints a single dataset of shape (integration, wavelength). A list if the
        file has several spectra with different wavelengths.

    Raises
    ------
    ProductError
        If it cannot be read, not even as a plain FITS file.

    Warns
    -----
    LRSWarning
        If it cannot be read as a spectrum, and is read as a plain FITS file.
    """
    return _with_fallback(filename, _read_spectra, is_spectrum_file)


def _read_spectra(filename: str) -> Data | list[Data]:
    datasets = [spectrum_data(extraction) for extraction in read_spectra(filename)]
    if len(datasets) == 1:
        return datasets[0]
    for number, data in enumerate(datasets, start=1):
        data.label = f"{data.label} {number}"
    return datasets


def export_x1d(
    filename: str, data: Data | Subset, components: list[ComponentID | str] | None = None
) -> None:
    """Write a spectrum of LRS as an x1d or x1dints; called by glue's File > Export.

    Parameters
    ----------
    filename : str
        The file. An existing one is replaced, as glue asks before.
    data : `~glue.core.data.Data` or `~glue.core.subset.Subset`
        A dataset of `glue_lrs.viewers.datasets.spectra.spectrum_data`. Elements outside a subset
        have DQ 1.
    components : list of `~glue.core.component_id.ComponentID`, optional
        The components to write, in addition to wavelength, flux and DQ; all by default.

    Raises
    ------
    WriteError
        If it is not a spectrum of LRS, or cannot be written.
    """
    dataset = data.data if isinstance(data, Subset) else data
    if not is_lrs_spectrum(dataset):
        raise WriteError(
            "is not a spectrum of MIRI LRS, expected one that was read from an "
            "x1d or extracted from an image",
            subject=dataset.label,
        )
    data_to_extraction(data, components).write(filename, overwrite=True)


def register() -> None:
    """Add the factories and the exporter to glue's registries, unless they are in them."""
    factories = (
        (lrs_image, "JWST MIRI LRS image (s2d, cal, calints)", is_image_file),
        (lrs_spectrum, "JWST MIRI LRS spectrum (x1d, x1dints, c1d)", is_spectrum_file),
    )
    for function, label, identifier in factories:
        if all(item.function is not function for item in data_factory.members):
            data_factory(label, identifier=identifier, priority=_PRIORITY)(function)
    if all(item.function is not export_x1d for item in data_exporter.members):
        data_exporter("JWST MIRI LRS spectrum (x1d)", extension=["fits"])(export_x1d)
