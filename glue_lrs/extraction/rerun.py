"""Repetition of an extraction with the parameters recorded in the provenance of a spectrum."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import LRSError, LRSWarning, warn
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.reference.schema import IN_MEMORY

if TYPE_CHECKING:
    from glue_lrs.spectra.extraction import Extraction

_T = TypeVar("_T")


def rerun(
    provenance: Mapping[str, Any],
    *,
    input: str | PathLike[str] | None = None,
    apcorr: str | PathLike[str] | ApertureCorrection | None = None,
    psf: str | PathLike[str] | PSFProfile | None = None,
) -> Extraction:
    """Repeat the extraction that a provenance describes.

    Parameters
    ----------
    provenance : Provenance or mapping
        ``meta["glue_lrs"]`` from a spectrum, possibly written to JSON and read back.
    input : str or path-like, optional
        Path of the image file if it was moved. The checksum must be equal to the recorded checksum.
    apcorr : str, path-like or ApertureCorrection, optional
        Path of the APCORR reference file if it was moved, or the aperture correction if it was not
        read from a file.
    psf : str, path-like or PSFProfile, optional
        Path of the PSF reference file if it was moved, or the profile if it was not read from a
        file.

    Returns
    -------
    Extraction
        Extraction of the same image with the same parameters.

    Raises
    ------
    LRSError
        If a file is missing or has changed, or if the image was not read from a file.
    """
    if not isinstance(provenance, Mapping):
        raise LRSError(
            f"provenance is a {type(provenance).__name__}, expected that of a spectrum, such as "
            "Extraction.read(path).provenance"
        )
    recorded = provenance["input"]
    records: Mapping[str, Any] = provenance["references"] or {}
    if recorded is None and input is None:
        raise LRSError("the spectrum was made from an image in memory, expected one from a file")
    image = SlitImage.read(_same_file(recorded, input, "the image"))
    options = provenance["parameters"].get("options", {})
    if "bkg_order" in options:
        raise LRSError(
            "the spectrum was made by OptimalExtractor, whose profile is not recorded; expected "
            "one made by Extract1D"
        )
    subarray = {} if image.subarray is None else {"subarray": image.subarray}
    read_apcorr = partial(ApertureCorrection.read, **subarray)
    read_psf = partial(PSFProfile.read, name=options.get("psf_name", image.slit_name))
    operator = Extract1D.from_parameters(
        provenance["parameters"],
        apcorr=_same_reference("apcorr", "the aperture correction", records, apcorr, read_apcorr),
        psf=_same_reference("psf", "the PSF profile", records, psf, read_psf),
        references={key: record and record["filename"] for key, record in records.items()},
    )
    return operator.run(image)


def _same_reference(
    key: str,
    noun: str,
    records: Mapping[str, Any],
    given: str | PathLike[str] | _T | None,
    read: Callable[[str], _T],
) -> _T | None:
    """Return the given reference, or read it from the given path or else the recorded path."""
    record = records.get(key)
    if given is None and record is None:
        return None
    if given is not None and not isinstance(given, str | PathLike):
        return given
    if given is None and record is not None and record["filename"] == IN_MEMORY:
        raise LRSError(f"{noun} was not read from a file, expected it as {key}=")
    return read(_same_file(record, given, f"the {key.upper()} reference"))


def _same_file(
    record: Mapping[str, Any] | None, given: str | PathLike[str] | None, what: str
) -> str:
    """Return the given path or else the recorded path, after checking the file's checksum."""
    path = os.fspath(given) if given is not None else (record or {})["filename"]
    try:
        with Path(path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise LRSError(f"{what} cannot be read: {error.strerror or error}", subject=path) from None
    expected = None if record is None else record.get("sha256")
    if expected is None:
        text = f"no checksum was recorded, {what} may differ from the original file"
        warn(LRSWarning(text, subject=path))
    elif digest != expected:
        raise LRSError(
            f"{what} has SHA-256 {digest[:12]}..., expected {expected[:12]}... as when the "
            "spectrum was made",
            subject=path,
        )
    return path
