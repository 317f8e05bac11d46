"""Functions with which glue loads LRS files and exports LRS spectra.

`register` adds them to glue's registries. The loaders (data factories) have precedence over glue's
own FITS reader, but accept only products of MIRI LRS: s2d, cal and calints files as images, and
x1d, x1dints and c1d files as spectra.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar

from glue.config import data_exporter, data_factory
from glue.core import Data, Subset
from glue.core.component_id import ComponentID
from glue.core.data_factories import load_data
from glue.core.data_factories.fits import fits_reader

from glue_lrs.errors import LRSError, LRSWarning, WriteError, warn
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.io.files import opened
from glue_lrs.io.identify import IMAGE_KINDS, is_lrs_product
from glue_lrs.io.spectra import read_spectra
from glue_lrs.viewers.datasets.conversions import data_to_extraction
from glue_lrs.viewers.datasets.images import image_data
from glue_lrs.viewers.datasets.spectra import is_lrs_spectrum, spectrum_data

#: Priority of the data factories, above the 100 of glue's own FITS reader.
_PRIORITY = 200

#: Whether a data factory raises an error if a file cannot be read as an LRS product. Otherwise, the
#: file is read with glue's own FITS reader.
_strict: ContextVar[bool] = ContextVar("strict", default=False)


def open_image(path: str | os.PathLike[str]) -> Data:
    """Open an s2d, cal or calints file such that a session saves its name instead of its pixels.

    Parameters
    ----------
    path : str or path-like
        File to open.

    Returns
    -------
    `~glue.core.data.Data`
        Dataset as made by `image_data`.

    Raises
    ------
    ProductError
        If the file is not such a product.
    """
    token = _strict.set(True)
    try:
        return load_data(os.path.expanduser(os.fspath(path)), factory=lrs_image)
    finally:
        _strict.reset(token)


def is_image_file(filename: str, **kwargs: object) -> bool:
    """Return whether a file is a MIRI LRS s2d, cal or calints file, without raising errors.

    The result is False for images without wavelengths, such as rate files, so that glue's own FITS
    reader opens them.
    """
    if not is_lrs_product(filename, IMAGE_KINDS):
        return False
    try:
        with opened(filename) as (hdulist, _):
            return "WAVELENGTH" in hdulist or hdulist[0].header.get("S_WCS") == "COMPLETE"
    except LRSError:
        return False


def is_spectrum_file(filename: str, **kwargs: object) -> bool:
    """Return whether a file is a MIRI LRS x1d, x1dints or c1d file, without raising errors."""
    return is_lrs_product(filename, ("x1d", "x1dints", "c1d"))


def _with_fallback(
    filename: str, read: Callable[[str], Data | list[Data]], accepts: Callable[[str], bool]
) -> Data | list[Data]:
    """Read an LRS file; if that fails, warn and use glue's own FITS reader."""
    try:
        return read(filename)
    except LRSError as error:
        if _strict.get() or not accepts(filename):
            raise
        try:
            plain: Data | list[Data] = fits_reader(filename)
        except Exception:  # glue cannot read it either: our reason is the one to be shown
            raise error from None
        warn(LRSWarning(f"{error}; it is opened as a plain FITS file, without extraction"))
        return plain


def lrs_image(filename: str) -> Data | list[Data]:
    """Read an s2d, cal or calints file; see `glue_lrs.viewers.datasets.images.image_data`.

    Parameters
    ----------
    filename : str
        File to read.

    Returns
    -------
    `~glue.core.data.Data`
        Dataset of the image or of the stack of images.

    Raises
    ------
    ProductError
        If the file cannot be read, not even by glue's own FITS reader.

    Warns
    -----
    LRSWarning
        If the file cannot be read as an LRS image, so that glue's own FITS reader is used.
    """
    return _with_fallback(filename, lambda name: image_data(SlitImage.read(name)), is_image_file)


def lrs_spectrum(filename: str) -> Data | list[Data]:
    """Read an x1d, x1dints or c1d file; see `glue_lrs.viewers.datasets.spectra.spectrum_data`.

    Parameters
    ----------
    filename : str
        File to read.

    Returns
    -------
    `~glue.core.data.Data` or list of `~glue.core.data.Data`
        Dataset of the spectrum. The spectra in an x1dints file form a single dataset of shape
        (integration, wavelength). If a file contains several spectra with different wavelengths, a
        list of datasets is returned.

    Raises
    ------
    ProductError
        If the file cannot be read, not even by glue's own FITS reader.

    Warns
    -----
    LRSWarning
        If the file cannot be read as an LRS spectrum, so that glue's own FITS reader is used.
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
    """Write an LRS spectrum as an x1d or x1dints file; called by File > Export in glue.

    Parameters
    ----------
    filename : str
        File to write. An existing file is replaced, because glue has asked the user already.
    data : `~glue.core.data.Data` or `~glue.core.subset.Subset`
        Dataset made by `glue_lrs.viewers.datasets.spectra.spectrum_data`, or a subset of such a
        dataset. Wavelength bins outside the subset get DQ 1.
    components : list of `~glue.core.component_id.ComponentID`, optional
        Components to write in addition to wavelength, flux and DQ. By default, all columns of an
        x1d are written.

    Raises
    ------
    WriteError
        If the dataset is not an LRS spectrum, or the file cannot be written.
    """
    dataset = data.data if isinstance(data, Subset) else data
    if not is_lrs_spectrum(dataset):
        raise WriteError(
            "is not a spectrum of MIRI LRS, expected one that was read from an "
            "x1d or extracted from an image",
            subject=dataset.label,
        )
    extraction = data_to_extraction(data, components)
    extraction.write(filename, overwrite=True, all_columns=components is None)


def register() -> None:
    """Add the data factories and the exporter to glue's registries, if they are not there yet."""
    factories = (
        (lrs_image, "JWST MIRI LRS image (s2d, cal, calints)", is_image_file),
        (lrs_spectrum, "JWST MIRI LRS spectrum (x1d, x1dints, c1d)", is_spectrum_file),
    )
    for function, label, identifier in factories:
        if all(item.function is not function for item in data_factory.members):
            data_factory(label, identifier=identifier, priority=_PRIORITY)(function)
    if all(item.function is not export_x1d for item in data_exporter.members):
        data_exporter("JWST MIRI LRS spectrum (x1d)", extension=["fits"])(export_x1d)
