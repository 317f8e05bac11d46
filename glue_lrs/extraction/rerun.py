"""Repetition of an extraction with the parameters recorded in the provenance of a spectrum."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
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
from glue_lrs.spectra.provenance import Provenance, check_record, column_sums, same_recipe

if TYPE_CHECKING:
    from glue_lrs.spectra.extraction import Extraction

_T = TypeVar("_T")

#: Largest relative difference of a sum over a column between an extraction and its repetition.
#: Rounding in other environments causes smaller differences, and a single lost pixel larger ones.
_TOLERANCE = 1e-6


def rerun(
    provenance: Mapping[str, Any],
    *,
    input: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None,
    apcorr: str | PathLike[str] | ApertureCorrection | None = None,
    psf: str | PathLike[str] | PSFProfile | None = None,
) -> Extraction:
    """Repeat the extraction that a provenance describes.

    Parameters
    ----------
    provenance : Provenance or mapping
        ``meta["glue_lrs"]`` from a spectrum, possibly written to JSON and read back.
    input : str, path-like, or a list of these, optional
        Path of the image file if it was moved, or the paths of its segments in the recorded order.
        The checksums must be equal to the recorded ones.
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
        If a file is missing or has changed, if the image was not read from a file or was changed in
        memory, or if the result differs from the recorded one.
    """
    if not isinstance(provenance, Mapping):
        raise LRSError(
            f"provenance is a {type(provenance).__name__}, expected that of a spectrum, such as "
            "Extraction.read(path).provenance"
        )
    check_record(provenance, combined="inputs" in provenance)
    recorded = provenance.get("input")
    records: Mapping[str, Any] = provenance.get("references") or {}
    parameters = {key: part or {} for key, part in (provenance.get("parameters") or {}).items()}
    if "reference" not in parameters:
        raise LRSError("the provenance has no parameters of an extraction that could be repeated")
    if recorded is None and input is None:
        raise LRSError("the spectrum was made from an image in memory, expected one from a file")
    changed = (recorded or {}).get("changed")
    if changed:
        raise LRSError(
            f"the image was changed in memory after it was read ({', '.join(changed)}), expected "
            "one with the content of its file (SlitImage.write makes a file of a changed image)",
            subject=(recorded or {}).get("filename"),
        )
    image = SlitImage.read(_same_image(recorded, input))
    options = parameters.get("options", {})
    if "bkg_order" in options:
        raise LRSError(
            "the spectrum was made by OptimalExtractor, whose profile is not recorded; expected "
            "one made by Extract1D"
        )
    subarray = {} if image.subarray is None else {"subarray": image.subarray}
    read_apcorr = partial(ApertureCorrection.read, **subarray)
    read_psf = partial(PSFProfile.read, name=options.get("psf_name", image.slit_name))
    operator = Extract1D.from_parameters(
        parameters,
        apcorr=_same_reference("apcorr", "the aperture correction", records, apcorr, read_apcorr),
        psf=_same_reference("psf", "the PSF profile", records, psf, read_psf),
        references={key: record and record.get("filename") for key, record in records.items()},
    )
    made = operator.run(image)
    sums = column_sums(made.columns)
    for name, recorded_sum in (provenance.get("result") or {}).items():
        if not math.isclose(sums.get(name, math.nan), recorded_sum, rel_tol=_TOLERANCE):
            raise LRSError(
                f"the repeated extraction has a sum of {name} of {sums.get(name):.6g}, expected "
                f"{recorded_sum:.6g}: the image was changed in memory before it was extracted, or "
                "another version of the package extracted it",
                subject=image.label,
            )
    return made


def is_result(provenance: Mapping[str, Any] | None, operator: Extract1D, image: SlitImage) -> bool:
    """Return whether a spectrum is the result of an operator for an image that was read from files.

    The checksums of the files, the parameters, the references and the versions of the packages are
    compared. No extraction is made.

    Parameters
    ----------
    provenance : Provenance or mapping, optional
        Provenance of the spectrum.
    operator : Extract1D
        Operator, which would be applied to the image.
    image : SlitImage
        Image.
    """
    source = image.segments or image.path
    if provenance is None or not source:
        return False
    made = Provenance(operator.parameters, source, dict(operator.references))
    return same_recipe(provenance, made)


def _same_image(
    recorded: Mapping[str, Any] | None,
    given: str | PathLike[str] | Sequence[str | PathLike[str]] | None,
) -> str | list[str]:
    """Return the path of the image or the paths of its segments, after checking the checksums."""
    segments = (recorded or {}).get("segments")
    if segments is None and (given is None or isinstance(given, str | PathLike)):
        return _same_file(recorded, given, "the image")
    records: Sequence[Mapping[str, Any] | None] = [recorded] if segments is None else segments
    paths: Sequence[str | PathLike[str] | None]
    paths = [given] if isinstance(given, str | PathLike) else given or [None] * len(records)
    if len(paths) != len(records):
        found = f"{len(paths)} file{'s' * (len(paths) != 1)}"
        raise LRSError(f"input has {found}, expected {len(records)} as recorded")
    return [
        _same_file(record, path, "a segment of the image")
        for record, path in zip(records, paths, strict=True)
    ]


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
    if given is None and record is not None and record.get("filename") == IN_MEMORY:
        raise LRSError(f"{noun} was not read from a file, expected it as {key}=")
    return read(_same_file(record, given, f"the {key.upper()} reference"))


def _same_file(
    record: Mapping[str, Any] | None, given: str | PathLike[str] | None, what: str
) -> str:
    """Return the given path or else the recorded path, after checking the file's checksum."""
    path = os.fspath(given) if given is not None else (record or {}).get("filename")
    if path is None:
        raise LRSError(f"{what} has no recorded file name, expected it as an argument")
    try:
        with Path(path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise LRSError(f"{what} cannot be read: {reason}", subject=path) from None
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
