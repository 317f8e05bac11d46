"""Files of LRS in and out of glue: data factories and an exporter.

`register` puts them into glue's registries. The factories come before glue's own reader of FITS,
and claim products of MIRI LRS only: s2d, cal and calints as images, x1d, x1dints and c1d as
spectra.
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

from glue_lrs.errors import LRSError, LRSWarning, WriteError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.io.identify import IMAGE_KINDS, is_lrs_product
from glue_lrs.io.spectra import read_spectra
from glue_lrs.viewers.datasets.datasets import image_data, is_lrs_spectrum, spectrum_data

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


def open_image(path: str | os.PathLike[str]) -> Data:
    """Open an s2d, cal or calints file as glue does: a session then keeps the file's name only.

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
    from glue.core.data_factories import load_data

    with strictly():
        return load_data(os.path.expanduser(os.fspath(path)), factory=lrs_image)


#: glue's own reader of FITS has 100.
_PRIORITY = 200


def is_image_file(filename: str, **kwargs: Any) -> bool:
    """Tell whether a file is an s2d, cal or calints of MIRI LRS; never raises.

    A rate or another image without wavelengths is none, and left to glue's own reader.
    """
    if not is_lrs_product(filename, IMAGE_KINDS):
        return False
    try:
        with fits.open(filename) as hdulist:
            return "WAVELENGTH" in hdulist or hdulist[0].header.get("S_WCS") == "COMPLETE"
    except Exception:  # whatever it is, it is not ours
        return False


def is_spectrum_file(filename: str, **kwargs: Any) -> bool:
    """Tell whether a file is an x1d, x1dints or c1d of MIRI LRS; never raises."""
    return is_lrs_product(filename, ("x1d", "x1dints", "c1d"))


#: Whether what cannot be read as a file of LRS is an error.
_strict: ContextVar[bool] = ContextVar("strict", default=False)


@contextmanager
def strictly() -> Iterator[None]:
    """Have the factories raise where they would read a plain FITS file instead."""
    token = _strict.set(True)
    try:
        yield
    finally:
        _strict.reset(token)


def _or_plain(filename: str, read: Callable[[str], Any], ours: Callable[[str], bool]) -> Any:
    """Read a file of LRS; as any FITS file, with a warning, where it cannot be extracted.

    Without this factory glue would have opened it.
    """
    try:
        return read(filename)
    except LRSError as error:
        if _strict.get() or not ours(filename):
            raise
        from glue.core.data_factories.fits import fits_reader

        try:
            plain = fits_reader(filename)
        except Exception:
            raise error from None
        warnings.warn(
            f"{error}; it is opened as a plain FITS file, without extraction",
            LRSWarning,
            stacklevel=3,
        )
        return plain


def lrs_image(filename: str) -> Data | list[Data]:
    """Read an s2d, cal or calints: see `glue_lrs.viewers.datasets.datasets.image_data`.

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
    return _or_plain(filename, lambda name: image_data(SlitImage.read(name)), is_image_file)


def lrs_spectrum(filename: str) -> Data | list[Data]:
    """Read an x1d, x1dints or c1d: see `glue_lrs.viewers.datasets.datasets.spectrum_data`.

    Parameters
    ----------
    filename : str
        The file.

    Returns
    -------
    `~glue.core.data.Data` or list of them
        A spectrum; of an x1dints a single dataset of the shape (integration, wavelength). A list
        where the file has several spectra with wavelengths of their own.

    Raises
    ------
    ProductError
        If it cannot be read, not even as a plain FITS file.

    Warns
    -----
    LRSWarning
        If it cannot be extracted, and is read as a plain FITS file.
    """
    return _or_plain(filename, _spectra, is_spectrum_file)


def _spectra(filename: str) -> Data | list[Data]:
    found = [spectrum_data(extraction) for extraction in read_spectra(filename)]
    if len(found) == 1:
        return found[0]
    for number, data in enumerate(found, start=1):
        data.label = f"{data.label} {number}"
    return found


def export_x1d(filename: str, data: Data | Subset, components: list[Any] | None = None) -> None:
    """Write a spectrum of LRS as an x1d or x1dints, as glue's File > Export asks for it.

    Parameters
    ----------
    filename : str
        The file. One that is there is replaced: glue has asked before.
    data : `~glue.core.data.Data` or `~glue.core.subset.Subset`
        A dataset of `glue_lrs.viewers.datasets.datasets.spectrum_data`. Of a subset, the elements outside have
        DQ 1.
    components : list of `~glue.core.component_id.ComponentID`, optional
        What is to be written besides the wavelength, the flux and DQ; all by default.

    Raises
    ------
    WriteError
        If it is no spectrum of LRS, or cannot be written.
    """
    from glue_lrs.viewers.datasets.translators import data_to_extraction

    whole = data.data if isinstance(data, Subset) else data
    if not is_lrs_spectrum(whole):
        raise WriteError(
            f"{whole.label}: is no spectrum of MIRI LRS, expected one that was read from an x1d or "
            "extracted from an image"
        )
    data_to_extraction(data, components).write(filename, overwrite=True)


def register() -> None:
    """Put the factories and the exporter into glue's registries, once."""
    factories = (
        (lrs_image, "JWST MIRI LRS image (s2d, cal, calints)", is_image_file),
        (lrs_spectrum, "JWST MIRI LRS spectrum (x1d, x1dints, c1d)", is_spectrum_file),
    )
    for function, label, identifier in factories:
        if all(item.function is not function for item in data_factory.members):
            data_factory(label, identifier=identifier, priority=_PRIORITY)(function)
    if all(item.function is not export_x1d for item in data_exporter.members):
        data_exporter("JWST MIRI LRS spectrum (x1d)", extension=["fits"])(export_x1d)
