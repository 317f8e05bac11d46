"""Function that opens any file of MIRI LRS."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from glue_lrs.errors import LRSError
from glue_lrs.io.apcorr import read_apcorr
from glue_lrs.io.identify import identify_file
from glue_lrs.io.image_reader import read_image
from glue_lrs.io.psf import read_psf
from glue_lrs.io.reference import read_reference
from glue_lrs.io.spectra import read_combined
from glue_lrs.io.text import is_text, read_text
from glue_lrs.io.x1d_reader import read_x1d

if TYPE_CHECKING:
    from glue_lrs.apertures.aperture_correction import ApertureCorrection
    from glue_lrs.combination.combination import Combination
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.profiles.psf import PSFProfile
    from glue_lrs.reference.reference import Reference
    from glue_lrs.spectra.extraction import Extraction

    #: Content of a file.
    Content: TypeAlias = (
        SlitImage
        | Extraction
        | list[Extraction]
        | Combination
        | Reference
        | ApertureCorrection
        | PSFProfile
    )


def _read_spectra(path: str | os.PathLike[str]) -> Extraction | list[Extraction]:
    """Read an x1d or x1dints: the only spectrum or stack, else a list of them."""
    spectra = read_x1d(path)
    return spectra[0] if len(spectra) == 1 else spectra


#: Readers by the kind of the file, and the options that they accept.
_READERS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "text": (read_text, ("units",)),
    "s2d": (read_image, ()),
    "cal": (read_image, ()),
    "calints": (read_image, ()),
    "x1d": (_read_spectra, ()),
    "x1dints": (_read_spectra, ()),
    "c1d": (read_combined, ()),
    "extract1d": (read_reference, ()),
    "apcorr": (read_apcorr, ("subarray",)),
    "psf": (read_psf, ("name",)),
}


def open(path: str | os.PathLike[str], **options: Any) -> Content:
    """Open a file of MIRI LRS, whatever it is.

    Parameters
    ----------
    path : str or path-like
        Path of a product, a reference file, or a spectrum in a text file. The content determines
        the kind of the file, except that a text file is recognised by its suffix (csv, ecsv, txt,
        dat, ...).
    **options
        `subarray` for an APCORR reference (by default ``"FULL"``), `name` for the profile in a PSF
        reference, and `units` for text files (see `glue_lrs.io.text.read_text`).

    Returns
    -------
    SlitImage, Extraction, list of Extraction, Combination, Reference, ApertureCorrection or
    PSFProfile
        An image from an s2d, cal or calints file; a spectrum or stack of spectra from an x1d,
        x1dints or text file (a list if the file has several with their own wavelengths); a combined
        spectrum from a c1d file; or the content of an EXTRACT1D, APCORR or PSF reference.

    Raises
    ------
    LRSError
        If the file is none of these or is damaged, or if files of its kind have no such option.

    Examples
    --------
    ::

        image = glue_lrs.open("x_s2d.fits")
    """
    if not isinstance(path, str | os.PathLike):
        raise LRSError(f"path is a {type(path).__name__}, expected the path of a file")
    name = os.path.expanduser(os.fspath(path))
    kind = "text" if is_text(name) else identify_file(name)
    reader, accepted = _READERS[kind]
    for option in options:
        if option not in accepted:
            raise LRSError(
                f"{option} is not an option for {kind} files, expected "
                f"{', '.join(accepted) or 'none'}",
                subject=name,
            )
    return reader(name, **options)
