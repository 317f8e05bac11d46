"""Registration of all file formats with `astropy.io.registry` and with specutils.

Each class of this package with a method ``read`` or ``write`` has one format. For specutils, the
formats ``lrs-s2d``, ``lrs-x1d`` and ``lrs-c1d`` are registered for `~specutils.Spectrum` (formerly
``Spectrum1D``) and `~specutils.SpectrumList`. They accept only MIRI LRS files, and take precedence
over the JWST readers of specutils.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from astropy.io import registry
from specutils import Spectrum, SpectrumList
from specutils.io.registers import custom_writer, data_loader

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.combination.combination import Combination
from glue_lrs.errors import LRSError, WriteError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.image.specutils2d import image_to_spectrum
from glue_lrs.io.apcorr import read_apcorr
from glue_lrs.io.c1d import read_c1d, write_c1d
from glue_lrs.io.identify import IMAGE_KINDS, is_lrs_product
from glue_lrs.io.image_reader import read_image
from glue_lrs.io.image_segments import read_images
from glue_lrs.io.image_writer import write_image
from glue_lrs.io.light_curve_writer import write_light_curve
from glue_lrs.io.psf import read_psf
from glue_lrs.io.reference import read_reference, write_reference
from glue_lrs.io.x1d_reader import is_sequence, read_single, read_x1d
from glue_lrs.io.x1d_writer import write_x1d
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.reference.reference import Reference
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.from_specutils import integrations, spectrum_to_extraction
from glue_lrs.timeseries.curve import LightCurve

if TYPE_CHECKING:
    from glue_lrs.io.files import Source

#: Priority of the readers. It must be higher than 10, the priority of specutils' JWST readers.
_PRIORITY = 20


def register() -> None:
    """Register all formats."""
    for name, kind, reader, writer in (
        ("lrs", SlitImage, read_images, write_image),
        ("lrs-x1d", Extraction, read_single, write_x1d),
        ("lrs-c1d", Combination, read_c1d, write_c1d),
        ("extract1d", Reference, read_reference, write_reference),
        ("apcorr", ApertureCorrection, read_apcorr, None),
        ("psf", PSFProfile, read_psf, None),
    ):
        registry.register_reader(name, kind, reader, force=True)
        if writer is not None:
            registry.register_writer(name, kind, writer, force=True)
    registry.register_writer("lrs-lightcurve", LightCurve, write_light_curve, force=True)
    options: dict[str, Any] = {"extensions": ["fits"], "priority": _PRIORITY, "force": True}
    for name, identifier, read, read_list in (
        ("lrs-s2d", identify_s2d, _read_s2d, _read_s2d_list),
        ("lrs-x1d", identify_x1d, _read_x1d, _read_x1d_list),
        ("lrs-c1d", identify_c1d, _read_c1d, _read_c1d_list),
    ):
        each = partial(_identify_each, identifier)
        options["identifier"] = each if name == "lrs-x1d" else identifier
        data_loader(name, dtype=Spectrum, autogenerate_spectrumlist=False, **options)(read)
        options["identifier"] = each
        data_loader(name, dtype=SpectrumList, **options)(partial(_read_each, read_list))
    custom_writer("lrs-x1d", dtype=Spectrum, priority=_PRIORITY, force=True)(_write_x1d)
    custom_writer("lrs-x1d", dtype=SpectrumList, priority=_PRIORITY, force=True)(_write_x1d_list)


# --- identifiers -------------------------------------------------------------------------------


def _identify(kinds: tuple[str, ...], origin: str, *args: Any, **kwargs: Any) -> bool:
    """Return whether a file is a MIRI LRS product of one of the given kinds, and never raise.

    Parameters
    ----------
    kinds : tuple of str
        Kinds of products that the format accepts.
    origin : str
        ``"read"`` or ``"write"``. For ``"write"``, False is returned.
    *args, **kwargs
        Path, file object and further arguments that `astropy.io.registry` passes to identifiers.
    """
    source = next((arg for arg in args[:3] if arg is not None), None)
    return origin == "read" and is_lrs_product(source, kinds)


def _identify_each(identifier: Callable[..., bool], origin: str, *args: Any, **kwargs: Any) -> bool:
    """Return whether a file, or each file of a sequence, is identified by `identifier`."""
    source = next((arg for arg in args[:3] if arg is not None), None)
    if not is_sequence(source):
        return identifier(origin, *args, **kwargs)
    return len(source) > 0 and all(identifier(origin, one) for one in source)


identify_s2d = partial(_identify, IMAGE_KINDS)
identify_x1d = partial(_identify, ("x1d", "x1dints"))
identify_c1d = partial(_identify, ("c1d",))


# --- readers and writers of specutils ----------------------------------------------------------


def _read_each(
    read: Callable[..., list[Spectrum]], source: Source | Sequence[Source], **options: Any
) -> SpectrumList:
    """Read the spectra from a file, from each file of a sequence, or from files with wildcards.

    Files that a pattern such as ``"*_x1d.fits"`` matches are read in the order of their names.

    Raises
    ------
    LRSError
        If the sequence is empty, or no file matches the pattern.
    """
    sources: Sequence[Source] = [source] if not is_sequence(source) else source
    if isinstance(source, str) and glob.has_magic(source) and not os.path.exists(source):
        sources = sorted(glob.glob(os.path.expanduser(source)))
    if not sources:
        subject = source if isinstance(source, str) else None
        raise LRSError("there are no files, expected at least one", subject=subject)
    return SpectrumList([spectrum for one in sources for spectrum in read(one, **options)])


def _read_s2d_list(source: Source) -> list[Spectrum]:
    """Read an image as a list that contains a single spectrum."""
    return [_read_s2d(source)]


def _read_s2d(source: Source) -> Spectrum:
    """Read an image, converted by `glue_lrs.image.specutils2d.image_to_spectrum`."""
    return image_to_spectrum(read_image(_by_path(source)))


def _by_path(source: Source) -> Source:
    """Return the path of a file on disk that astropy has opened to identify the format.

    Other sources are returned unchanged.
    """
    name = getattr(source, "name", None)
    with contextlib.suppress(Exception):  # `source` is not a file on disk, or was deleted
        descriptor = source.fileno()  # type: ignore[union-attr]
        if isinstance(name, str) and os.path.samestat(os.stat(name), os.fstat(descriptor)):
            return name
    return source


def _read_x1d(source: Source | Sequence[Source], column: str = "FLUX", **options: Any) -> Spectrum:
    """Read an x1d, or an x1dints as a spectrum of shape (integration, n_wave).

    A list of x1dints files, those of the segments of an exposure, is read as one spectrum. The
    options are those of `Extraction.to_spectrum`: ``column``, ``order`` and ``fill``.
    """
    paths = [_by_path(one) for one in source] if is_sequence(source) else _by_path(source)
    return read_single(paths).to_spectrum(column, **options)


def _read_x1d_list(source: Source, column: str = "FLUX", **options: Any) -> list[Spectrum]:
    """Read a spectrum from each extension of an x1d, or from each integration of an x1dints."""
    spectra = [one for found in read_x1d(_by_path(source)) for one in integrations(found)]
    return [spectrum.to_spectrum(column, **options) for spectrum in spectra]


def _write_x1d(
    spectrum: Spectrum, path: str | os.PathLike[str], overwrite: bool = False, **options: Any
) -> None:
    """Convert a spectrum with `spectrum_to_extraction`, and write it with `write_x1d`."""
    write_x1d(spectrum_to_extraction(spectrum), path, overwrite, **options)


def _write_x1d_list(
    spectra: SpectrumList, path: str | os.PathLike[str], overwrite: bool = False, **options: Any
) -> None:
    """Write the only spectrum of a list, because an x1d has one spectrum."""
    if len(spectra) != 1:
        raise WriteError(
            f"a SpectrumList of {len(spectra)} spectra is no x1d, expected one spectrum: write "
            "each to a file of its own with spectrum.write(path, format='lrs-x1d')",
            subject=os.fspath(path),
        )
    _write_x1d(spectra[0], path, overwrite, **options)


def _read_c1d(source: Source, column: str = "FLUX", **options: Any) -> Spectrum:
    """Read a c1d as a spectrum.

    The options are those of `Combination.to_spectrum`: ``column`` and ``fill``.
    """
    return read_c1d(source).to_spectrum(column, **options)  # type: ignore[arg-type]


def _read_c1d_list(source: Source, column: str = "FLUX", **options: Any) -> list[Spectrum]:
    """Read a c1d as a list that contains a single spectrum."""
    return [_read_c1d(source, column, **options)]
