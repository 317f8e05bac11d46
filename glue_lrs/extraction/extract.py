"""Extraction with one call: from a file to a spectrum."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.reference.schema import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from specutils import Spectrum

    from glue_lrs.image.slit_image import ImageSource
    from glue_lrs.reference.reference import Reference


def extract(
    image: ImageSource,
    *,
    reference: str | PathLike[str] | Mapping[str, Any] | Reference | None = None,
    apcorr: str | PathLike[str] | ApertureCorrection | None = None,
    psf: str | PathLike[str] | PSFProfile | None = None,
    **keys: Any,
) -> Spectrum:
    """Extract the spectrum of an image or of a file.

    Parameters
    ----------
    image : str, path-like, SlitImage or `~specutils.Spectrum`
        Path of an s2d, cal or calints file, an image, or a two-dimensional spectrum that was read
        with ``format="lrs-s2d"``.
    reference : str, path-like, dict, Reference or None
        EXTRACT1D reference, as in `Extract1D.from_reference`. None stands for the built-in
        defaults.
    apcorr : str, path-like, ApertureCorrection or None
        APCORR reference. From a file, the row for the SUBARRAY of the image is used.
    psf : str, path-like, PSFProfile or None
        PSF reference. From a file, the profile for the slit of the image is used.
    **keys
        Keys of an EXTRACT1D aperture such as `xstart` and `xstop`, step parameters of the pipeline
        and parameters of `Extract1D`, as for `Extract1D.from_reference`.

    Returns
    -------
    `~specutils.Spectrum`
        Spectrum with the flux in Jy (DN/s without photometric calibration), ascending wavelengths
        in micron, 1-sigma errors and mask; for a stack, one spectrum per integration. All columns
        are in ``spectrum.meta["extraction"]``, an `Extraction`.

    Raises
    ------
    LRSError
        If the image cannot be read or extracted, or a key or its value is wrong, under the same
        conditions as in `Extract1D.from_reference` and `Extract1D.run`.

    Warns
    -----
    LRSWarning
        For each warning or error among the findings of the extraction.

    Examples
    --------
    ::

        spectrum = glue_lrs.extract("x_s2d.fits", xstart=25, xstop=36)
    """
    source = SlitImage.from_any(image)
    return operator_for(source, reference, apcorr=apcorr, psf=psf, **keys)(source)


def operator_for(
    image: SlitImage,
    reference: str | PathLike[str] | Mapping[str, Any] | Reference | None = None,
    *,
    apcorr: str | PathLike[str] | ApertureCorrection | None = None,
    psf: str | PathLike[str] | PSFProfile | None = None,
    **keys: Any,
) -> Extract1D:
    """Return the operator for an image, whose SUBARRAY and slit select from reference files.

    Parameters and errors are those of `extract`.
    """
    if isinstance(apcorr, str | PathLike):
        apcorr = read_correction(image, apcorr, keys)
    if isinstance(psf, str | PathLike):
        psf = PSFProfile.read(psf, image.slit_name)
    return Extract1D.from_reference(reference, image.exp_type, apcorr=apcorr, psf=psf, **keys)


def read_correction(
    image: SlitImage, path: str | PathLike[str], keys: Mapping[str, Any]
) -> ApertureCorrection | str | PathLike[str]:
    """Read the aperture correction for an image, or return the path if it is not applied.

    Parameters
    ----------
    image : SlitImage
        Image to be extracted.
    path : str or path-like
        APCORR reference file.
    keys : mapping
        Keys and parameters of the extraction, as for `extract`.
    """
    image = image.as_source_type(OPTIONS["source_type"]("source_type", keys.get("source_type")))
    applied = keys.get("apply_apcorr") is not False and keys.get("extraction_type") != "optimal"
    if image.subarray is None or not image.is_point_source or not applied:
        return path
    return ApertureCorrection.read(path, subarray=image.subarray)
