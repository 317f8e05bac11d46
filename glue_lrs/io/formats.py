"""The formats ``lrs-s2d`` and ``lrs-x1d`` of specutils.

They are registered for `~specutils.Spectrum` (which serves the old name ``Spectrum1D`` as well) and
`~specutils.SpectrumList`, with a priority above that of specutils' own JWST readers. Without
``format=`` they are taken for files of MIRI LRS and for nothing else.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from astropy.io import registry

from glue_lrs.image.slit_image import SlitImage
from glue_lrs.image.specutils2d import image_to_spectrum
from glue_lrs.io.identify import IMAGE_KINDS, claims
from glue_lrs.io.image_reader import read_image
from glue_lrs.io.image_writer import write_image
from glue_lrs.io.x1d_reader import read_single, read_x1d
from glue_lrs.io.x1d_writer import write_x1d
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.from_specutils import single, spectrum_to_extraction
from glue_lrs.spectra.to_specutils import to_spectrum

if TYPE_CHECKING:
    from specutils import Spectrum, SpectrumList

    from glue_lrs.io.files import Source

__all__ = [
    "identify_s2d",
    "identify_x1d",
    "register_extractions",
    "register_images",
    "register_spectra",
]

#: specutils' JWST readers have 10, and a tie is an error.
_PRIORITY = 20


def identify_s2d(origin: str, *args: Any, **kwargs: Any) -> bool:
    """Tell whether something is an s2d, cal or calints file of MIRI LRS; never raises."""
    return claims(IMAGE_KINDS, origin, args)


def identify_x1d(origin: str, *args: Any, **kwargs: Any) -> bool:
    """Tell whether something is an x1d or x1dints file of MIRI LRS; never raises."""
    return claims(("x1d", "x1dints"), origin, args)


def _read_s2d(source: Source) -> Spectrum:
    """Read a spectral image: see `glue_lrs.image.specutils2d.image_to_spectrum`."""
    return image_to_spectrum(read_image(_by_path(source)))


def _by_path(source: Source) -> Source:
    """The path of a file that astropy has opened to see what it is, or whatever else was given."""
    name = getattr(source, "name", None)
    with contextlib.suppress(Exception):  # no file of the system, or one that is gone
        descriptor = source.fileno()  # type: ignore[union-attr]
        if isinstance(name, str) and os.path.samestat(os.stat(name), os.fstat(descriptor)):
            return name
    return source


def _read_x1d(
    source: Source, column: str = "FLUX", order: str = "ascending", fill: str = "interpolate"
) -> Spectrum:
    """Read an x1d, or an x1dints as a spectrum of shape (integration, wavelength).

    See `Extraction.to_spectrum` for the keywords.
    """
    return to_spectrum(read_single(_by_path(source)), column, order, fill)


def _read_x1d_list(
    source: Source, column: str = "FLUX", order: str = "ascending", fill: str = "interpolate"
) -> SpectrumList:
    """Read a spectrum for each extension of an x1d, or for each integration of an x1dints."""
    from specutils import SpectrumList

    found = []
    for extraction in read_x1d(_by_path(source)):
        if extraction.is_stack:
            number = len(extraction.columns["WAVELENGTH"])
            found += [single(extraction, index) for index in range(number)]
        else:
            found.append(extraction)
    return SpectrumList([to_spectrum(extraction, column, order, fill) for extraction in found])


def _write_x1d(
    spectrum: Spectrum,
    path: str | os.PathLike[str],
    overwrite: bool = False,
    all_columns: bool = False,
) -> None:
    """Write an x1d: see `glue_lrs.spectra.from_specutils.spectrum_to_extraction` and `write_x1d`."""
    write_x1d(spectrum_to_extraction(spectrum), path, overwrite, all_columns)


def register_spectra() -> None:
    """Register the formats with specutils."""
    from specutils import Spectrum, SpectrumList
    from specutils.io.registers import custom_writer, data_loader

    options: dict[str, Any] = {"extensions": ["fits"], "priority": _PRIORITY, "force": True}
    data_loader("lrs-s2d", identifier=identify_s2d, dtype=Spectrum, **options)(_read_s2d)
    data_loader(
        "lrs-x1d",
        identifier=identify_x1d,
        dtype=Spectrum,
        autogenerate_spectrumlist=False,
        **options,
    )(_read_x1d)
    data_loader("lrs-x1d", identifier=identify_x1d, dtype=SpectrumList, **options)(_read_x1d_list)
    custom_writer("lrs-x1d", dtype=Spectrum, priority=_PRIORITY, force=True)(_write_x1d)


# --- astropy's registry --------------------------------------------------------------------------


def register_images() -> None:
    """Register the format ``"lrs"`` of `SlitImage`."""
    registry.register_reader("lrs", SlitImage, read_image, force=True)
    registry.register_writer("lrs", SlitImage, write_image, force=True)


# --- the registry ---------------------------------------------------------------------------------


def register_extractions() -> None:
    """Register the format ``lrs-x1d`` for `Extraction`."""
    registry.register_writer("lrs-x1d", Extraction, write_x1d, force=True)
    registry.register_reader("lrs-x1d", Extraction, read_single, force=True)
