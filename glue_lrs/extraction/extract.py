"""Extraction with one call: from a file to a spectrum."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np

from glue_lrs._utils.validation import one_of
from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import LRSWarning, ReferenceFileError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.reference import schema
from glue_lrs.reference.overrides import check_overrides

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs.image.slit_image import ImageSource
    from glue_lrs.reference.reference import Reference

#: Functions that place an aperture and background regions, imported by name because they belong to
#: a higher layer.
_MEASURE = "glue_lrs.measurement:aperture_at_source"
_PLACE = "glue_lrs.measurement:place_background"

#: Keys that have no effect without a background.
_BACKGROUND = ("bkg_fit", "bkg_order", "smoothing_length")


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
        and parameters of `Extract1D`, as for `Extract1D.from_reference`. In addition,
        ``aperture="measured"`` places an aperture of the width in the reference on the measured
        trace (`glue_lrs.measurement.aperture_at_source`), and ``background="auto"`` places
        background regions beside the source, clear of other sources and of hot columns
        (`glue_lrs.measurement.place_background`).

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
    """Return the operator for an image. Its SUBARRAY selects the APCORR row, its slit the PSF.

    Parameters and errors are those of `extract`.
    """
    if isinstance(apcorr, str | PathLike):
        apcorr = read_correction(image, apcorr, keys)
    if isinstance(psf, str | PathLike):
        psf = PSFProfile.read(psf, image.slit_name)

    def operator(keys: Mapping[str, Any]) -> Extract1D:
        made = Extract1D.from_reference
        return made(reference, image.exp_type, apcorr=apcorr, psf=psf, **keys)

    placed = {key: keys.pop(key, None) for key in _PLACED}
    for key, (word, place) in _PLACED.items():
        if placed[key] is not None:
            one_of(word)(key, placed[key])
            keys = place(image, operator, keys)
    return operator(keys)


def _with_measured_aperture(
    image: SlitImage, operator: Callable[[Mapping[str, Any]], Extract1D], keys: dict[str, Any]
) -> dict[str, Any]:
    """Return the keys with an aperture on the measured trace, as wide as that of the reference."""
    for key in ("xstart", "xstop", "src_coeff", "use_source_posn"):
        value = keys.get(key)
        if value is not None and value is not False:
            raise ReferenceFileError(f"aperture is 'measured' and {key} is given, expected one")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)  # about the aperture that is replaced
        default = operator(keys)
        weights = default.weights(image, default.place(image)).values.sum(axis=1)
    box = resolve_name(_MEASURE)(image, float(np.median(weights)))
    return keys | {
        "src_coeff": box.src_coeff,
        "independent_var": box.independent_var,
        "use_source_posn": False,
        **dict.fromkeys(("xstart", "xstop", "extract_width")),
    }


def _with_automatic_background(
    image: SlitImage, operator: Callable[[Mapping[str, Any]], Extract1D], keys: dict[str, Any]
) -> dict[str, Any]:
    """Return the keys with background regions, of which the median is subtracted by default."""
    if keys.get("bkg_coeff") is not None or keys.get("subtract_background") is False:
        given = keys.get("bkg_coeff") is not None
        other = "bkg_coeff is given" if given else "subtract_background is false"
        raise ReferenceFileError(f"background is 'auto' and {other}, expected one of the two")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)  # the final operator issues them
        without = operator({key: value for key, value in keys.items() if key not in _BACKGROUND})
    placed = resolve_name(_PLACE)(image, without)
    chosen = {"bkg_coeff": placed.bkg_coeff, "bkg_fit": placed.bkg_fit}
    return {**keys, **chosen, **{key: value for key, value in keys.items() if value is not None}}


#: Keys that stand for measured regions, with their only value and the function that replaces them.
_PLACED = {
    "aperture": ("measured", _with_measured_aperture),
    "background": ("auto", _with_automatic_background),
}


#: Names of all keys that `extract` accepts.
ALL_KEYS = tuple(dict.fromkeys((*schema.KEYS, *schema.STEP, *schema.OPTIONS, *_PLACED)))


def check_keys(keys: Mapping[str, Any]) -> None:
    """Check keys as far as this is possible without an image.

    Parameters
    ----------
    keys : mapping
        Keys and parameters of an extraction, as for `extract`.

    Raises
    ------
    ReferenceFileError
        If a key or its value is wrong.
    """
    for key, (word, _) in _PLACED.items():
        if keys.get(key) is not None:
            one_of(word)(key, keys[key])
    check_overrides({key: value for key, value in keys.items() if key not in _PLACED})


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
    image = image.as_source_type(
        schema.OPTIONS["source_type"]("source_type", keys.get("source_type"))
    )
    applied = keys.get("apply_apcorr") is not False and keys.get("extraction_type") != "optimal"
    if image.subarray is None or not image.is_point_source or not applied:
        return path
    return ApertureCorrection.read(path, subarray=image.subarray)
