"""Identification of LRS products from their headers."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

from astropy.io import fits

from glue_lrs.errors import ProductError, listed, quoted
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.io.files import asdf_bytes, opened
from glue_lrs.io.headers import header_value
from glue_lrs.io.structure import primary_header

if TYPE_CHECKING:
    from glue_lrs.io.files import Source

#: Number of bytes at the start of a file in which the first character of JSON is searched.
_START = 256

#: Products that hold spectral images.
IMAGE_KINDS = ("s2d", "cal", "calints")

#: Products that hold spectra. The values are their descriptions in messages.
SPECTRUM_KINDS = {
    "x1d": "an x1d (EXTRACT1D)",
    "x1dints": "an x1dints (EXTRACT1D)",
    "c1d": "a c1d (COMBINE1D)",
}

#: Reference files in FITS format, by the extension that each must have.
_REFERENCE_KINDS = {"APCORR": "apcorr", "PSF": "psf"}

#: Type of the HDUs of a file, grouped by name, because several HDUs may have the same name.
HDULookup = dict[str, list[fits.PrimaryHDU | fits.ImageHDU | fits.BinTableHDU]]


def identify_product(path: Source) -> str:
    """Return the kind of a MIRI LRS product.

    Parameters
    ----------
    path : str, path-like, file object or `~astropy.io.fits.HDUList`
        Path of the file, or the open file.

    Returns
    -------
    str
        ``"s2d"``, ``"cal"``, ``"calints"``, ``"x1d"``, ``"x1dints"`` or ``"c1d"``.

    Raises
    ------
    ProductError
        If the file is not one of these products. Rate files are not accepted, because the pipeline
        has not yet assigned wavelengths to them.
    """
    with opened(path) as (hdulist, _):
        return identify_kind(hdu_by_name(hdulist))


def identify_file(path: str | os.PathLike[str]) -> str:
    """Return the kind of a file: that of a product, or of a reference file.

    Parameters
    ----------
    path : str or path-like
        Path of the file.

    Returns
    -------
    str
        A kind that `identify_product` returns, or ``"extract1d"``, ``"apcorr"`` or ``"psf"`` for a
        reference file. A file in JSON is an EXTRACT1D reference.

    Raises
    ------
    ProductError
        If the file is of none of these kinds, or cannot be read.
    """
    name = os.path.expanduser(os.fspath(path))
    # A file that cannot be opened is reported by `opened` below.
    with contextlib.suppress(OSError, ValueError), open(name, "rb") as file:
        if file.read(_START).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return "extract1d"
    if name.lower().endswith(".json"):  # empty or damaged: its reader gives the reason
        return "extract1d"
    with opened(path) as (hdulist, _):
        hdus = hdu_by_name(hdulist)
        found = (kind for extension, kind in _REFERENCE_KINDS.items() if extension in hdus)
        return next(found, None) or identify_kind(hdus)


def is_lrs_product(source: Source, kinds: Iterable[str]) -> bool:
    """Return whether a file is a MIRI LRS product of one of the given kinds.

    Neither errors are raised nor warnings issued.

    Parameters
    ----------
    source : str, path-like, file object or `~astropy.io.fits.HDUList`
        Path of the file, open binary file, or open HDU list. The position in an open file is
        restored.
    kinds : iterable of str
        Accepted products: ``"s2d"``, ``"cal"``, ``"calints"``, ``"x1d"``, ``"x1dints"``, ``"c1d"``.

    Returns
    -------
    bool
        Whether the headers are those of an accepted product. The data are not read, and may be
        invalid.
    """
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.simplefilter("ignore")
            if isinstance(source, str | os.PathLike):
                source = stack.enter_context(open(os.path.expanduser(source), "rb"))
            if not isinstance(source, fits.HDUList):
                stack.callback(source.seek, source.tell())
                source.seek(0)
                _check_mode(primary_header(source))  # first: reading the other headers takes time
            with opened(source) as (hdulist, _):
                return identify_kind(hdu_by_name(hdulist)) in kinds
    except Exception:  # not a product of MIRI LRS
        return False


def hdu_by_name(hdulist: fits.HDUList) -> HDULookup:
    """Return the HDUs grouped by name, because looking up names in an HDU list is slow."""
    hdus: HDULookup = {"PRIMARY": [hdulist[0]]}
    for hdu in hdulist[1:]:
        hdus.setdefault(hdu.name, []).append(hdu)
    return hdus


def identify_kind(hdus: HDULookup) -> str:
    """Return the kind of a product as `identify_product`, from the HDUs of an open file."""
    primary = hdus["PRIMARY"][0].header
    _check_mode(primary)
    if "SCI" in hdus:
        axes = hdus["SCI"][0].header.get("NAXIS", 0)
        if axes > 3:
            raise ProductError(f"SCI has {axes} axes, expected 2, or 3 for a stack")
        if axes != 3 and (primary.get("S_RESAMP") == "COMPLETE" or "WHT" in hdus):
            return "s2d"
        if _is_rate(hdus, primary):
            kind, accepted = ("rateints", "a calints") if axes == 3 else ("rate", "an s2d or cal")
            raise ProductError(
                f"is a {kind}, which has no wavelengths yet (neither WAVELENGTH nor WCS), "
                f"expected {accepted}, which calwebb_spec2 makes of it"
            )
        return "calints" if axes == 3 else "cal"
    if "EXTRACT1D" in hdus:
        spectrum = hdus["EXTRACT1D"][0].header
        several = (
            "INT_TIMES" in hdus
            or "INT_NUM" in spectrum
            or str(primary.get("DATAMODL")).startswith("TSO")
            or str(primary.get("FILENAME")).endswith("_x1dints.fits")
        )
        return "x1dints" if several else "x1d"
    if "COMBINE1D" in hdus:
        return "c1d"
    raise ProductError(f"has no SCI extension, found {listed(hdus)}")


def _is_rate(hdus: HDULookup, primary: fits.Header) -> bool:
    """Return whether the pipeline has not yet assigned wavelengths to a file, such as a rate."""
    done = ("S_WCS", "S_PHOTOM")
    if "WAVELENGTH" in hdus or any(str(primary.get(k)).upper() == "COMPLETE" for k in done):
        return False
    try:
        content = asdf_bytes({name: found[0] for name, found in hdus.items()})
    except ProductError:  # the reader reports damaged files
        return False
    return content is None or b"gwcs/wcs-" not in content


def _check_mode(primary: fits.Header) -> None:
    """Raise `ProductError` if the header is not that of a MIRI LRS exposure."""
    expected = {"TELESCOP": ("JWST",), "INSTRUME": ("MIRI",), "EXP_TYPE": (FIXED_SLIT, SLITLESS)}
    if header_value("FILTER", primary) is not None:  # files from other programs may lack it
        expected["FILTER"] = ("P750L",)
    for key, values in expected.items():
        value = primary.get(key)
        if value not in values:
            found = "is missing" if value is None else f"is {quoted(value)}"
            raise ProductError(f"{key} {found}, expected {' or '.join(map(repr, values))}")
