"""Identification of LRS products by their headers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from astropy.io import fits

from glue_lrs.errors import ProductError
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.io.files import opened

if TYPE_CHECKING:
    from glue_lrs.io.files import Source

__all__ = [
    "FULL_FRAME",
    "IMAGE_KINDS",
    "SPECTRUM_KINDS",
    "UNIT_NAMES",
    "HDULookup",
    "claims",
    "hdu_by_name",
    "header_value",
    "identify_kind",
    "identify_product",
    "is_lrs_product",
]

#: The kinds of file that hold spectral images.
IMAGE_KINDS = ("s2d", "cal", "calints")

_EXP_TYPES = (FIXED_SLIT, SLITLESS)

UNIT_NAMES = {True: "MJy/sr", False: "DN/s"}

FULL_FRAME = (1024, 1032)

HDULookup = dict[str, list[Any]]

# --- what is it? ---------------------------------------------------------------------------------


#: How messages call what is a spectrum already.
SPECTRUM_KINDS = {
    "x1d": "an x1d (EXTRACT1D)",
    "x1dints": "an x1dints (EXTRACT1D)",
    "c1d": "a c1d (COMBINE1D)",
}


def identify_product(path: Source) -> str:
    """Tell which product of MIRI LRS a file is.

    Parameters
    ----------
    path : str, path-like, file object or `~astropy.io.fits.HDUList`
        The file, open or not.

    Returns
    -------
    str
        ``"s2d"``, ``"cal"``, ``"calints"``, ``"x1d"``, ``"x1dints"`` or ``"c1d"``.

    Raises
    ------
    ProductError
        If it is none of them. A rate is none: the pipeline has not given it wavelengths yet.
    """
    with opened(path) as (hdulist, label):
        return identify_kind(hdu_by_name(hdulist), label)


def is_lrs_product(source: str | os.PathLike[str] | fits.HDUList, kinds: Iterable[str]) -> bool:
    """Tell, without ever raising or warning, whether something is a product of MIRI LRS.

    Parameters
    ----------
    source : str, path-like or `~astropy.io.fits.HDUList`
        A file, open or not. An open one is left open.
    kinds : iterable of str
        Which products count, of ``"s2d"``, ``"cal"``, ``"calints"``, ``"x1d"``, ``"x1dints"``,
        ``"c1d"``.

    Returns
    -------
    bool
        Headers are looked at, not data: a damaged file may well be one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(source, fits.HDUList):
                _check_mode(source[0].header, "file")
                return identify_kind(hdu_by_name(source), "file") in kinds
            name = os.path.expanduser(os.fspath(source))
            with open(name, "rb") as stream:
                start = stream.read(6)
            if start != b"SIMPLE" and start[:2] != b"\x1f\x8b":  # or compressed by gzip
                return False
            with fits.open(name) as hdulist:
                _check_mode(hdulist[0].header, name)  # before all the other headers are read
                return identify_kind(hdu_by_name(hdulist), name) in kinds
    except Exception:  # whatever it is, it is not ours
        return False


def hdu_by_name(hdulist: fits.HDUList) -> HDULookup:
    """All HDUs, by their names; asking an HDU for its name is not for free."""
    hdus: HDULookup = {"PRIMARY": [hdulist[0]]}
    for hdu in hdulist[1:]:
        hdus.setdefault(hdu.name, []).append(hdu)
    return hdus


def claims(kinds: tuple[str, ...], origin: str, args: tuple[Any, ...]) -> bool:
    """Whether what an identifier gets (path, file object, arguments) is such a product."""
    if origin != "read":
        return False
    try:
        source = next(arg for arg in args[:3] if arg is not None)
        if isinstance(source, str | os.PathLike | fits.HDUList):
            return is_lrs_product(source, kinds)
        position = source.tell()
        try:
            source.seek(0)
            if source.read(6) != b"SIMPLE":
                return False
            source.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a damaged file: the reader will say so
                return is_lrs_product(fits.open(source, memmap=False), kinds)
        finally:
            source.seek(position)
    except Exception:  # whatever it is, it is not ours
        return False


def identify_kind(hdus: HDULookup, label: str) -> str:
    primary = hdus["PRIMARY"][0].header
    _check_mode(primary, label)
    if "SCI" in hdus:
        axes = hdus["SCI"][0].header.get("NAXIS", 0)
        if axes > 3:
            raise ProductError(f"{label}: SCI has {axes} axes, expected 2, or 3 for a stack")
        if axes != 3 and (primary.get("S_RESAMP") == "COMPLETE" or "WHT" in hdus):
            return "s2d"
        if _is_rate(hdus, primary):
            kind, wanted = ("rateints", "a calints") if axes == 3 else ("rate", "an s2d or cal")
            raise ProductError(
                f"{label}: is a {kind}, which has no wavelengths yet (neither WAVELENGTH nor WCS), "
                f"expected {wanted}, which calwebb_spec2 makes of it"
            )
        return "calints" if axes == 3 else "cal"
    if "EXTRACT1D" in hdus:
        spectrum = hdus["EXTRACT1D"][0].header
        many = (
            "INT_TIMES" in hdus
            or "INT_NUM" in spectrum
            or str(primary.get("DATAMODL")).startswith("TSO")
            or str(primary.get("FILENAME")).endswith("_x1dints.fits")
        )
        return "x1dints" if many else "x1d"
    if "COMBINE1D" in hdus:
        return "c1d"
    raise ProductError(f"{label}: has no SCI extension, found {', '.join(hdus)}")


def _is_rate(hdus: HDULookup, primary: fits.Header) -> bool:
    """Whether the steps that give a spectral image its wavelengths have not run yet."""
    done = ("S_WCS", "S_PHOTOM")
    if "WAVELENGTH" in hdus or any(str(primary.get(k)).upper() == "COMPLETE" for k in done):
        return False
    if "ASDF" not in hdus:
        return True
    try:
        return b"gwcs/wcs-" not in hdus["ASDF"][0].data["ASDF_METADATA"].tobytes()
    except Exception:  # damaged: reading will say how
        return False


def _check_mode(primary: fits.Header, label: str) -> None:
    _expect(primary, "TELESCOP", ("JWST",), label)
    _expect(primary, "INSTRUME", ("MIRI",), label)
    _expect(primary, "EXP_TYPE", _EXP_TYPES, label)
    if header_value("FILTER", primary) is not None:  # headers made by hand seldom have it
        _expect(primary, "FILTER", ("P750L",), label)


def _expect(header: fits.Header, key: str, values: tuple[str, ...], label: str) -> None:
    value = header.get(key)
    if value not in values:
        found = "is missing" if value is None else f"is {value!r}"
        expected = " or ".join(map(repr, values))
        raise ProductError(f"{label}: {key} {found}, expected {expected}")


def header_value(key: str, *headers: fits.Header) -> Any:
    """The first value that is there; cards without a value do not count."""
    for header in headers:
        value = header.get(key)
        if value is not None and not isinstance(value, fits.card.Undefined):
            return value
    return None
