"""FITS headers: look up, check and set cards."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from astropy.io import fits

from glue_lrs.errors import LRSError, ProductError

__all__ = [
    "BUNIT",
    "STRUCTURE",
    "check_exp_type",
    "check_reference",
    "current_date",
    "header_integer",
    "header_number",
    "header_text",
    "header_value",
    "reference_header",
    "set_card",
    "without_structure",
]

#: BUNIT of images with and without photometric calibration.
BUNIT = {True: "MJy/sr", False: "DN/s"}

#: Cards that describe a table or the file; a writer makes new ones.
STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|TFIELDS|THEAP|EXTNAME|EXTVER|EXTLEVEL|"
    r"CHECKSUM|DATASUM|(TTYPE|TFORM|TUNIT|TDIM|TNULL|TSCAL|TZERO|TDISP|TBCOL)\d+"
)


def header_value(key: str, *headers: fits.Header) -> Any:
    """Return the value of a card in the first header that has one; None if none has."""
    for header in headers:
        value = header.get(key)
        if value is not None and not isinstance(value, fits.card.Undefined):
            return value
    return None


def header_text(key: str, *headers: fits.Header) -> str | None:
    """Return a card as text; None if it is missing or empty."""
    value = header_value(key, *headers)
    return None if value is None or value == "" else str(value)


def header_number(key: str, label: str, *headers: fits.Header) -> float | None:
    """Return a card as float, None if it is missing; raise `ProductError` for another value."""
    value = header_value(key, *headers)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ProductError(f"{key} is {value!r}, expected a number", subject=label)
    return float(value)


def header_integer(key: str, label: str, *headers: fits.Header) -> int | None:
    """Return a card as int, None if it is missing; raise `ProductError` for another value."""
    value = header_number(key, label, *headers)
    if value is not None and value != int(value):
        raise ProductError(f"{key} is {value}, expected a whole number", subject=label)
    return None if value is None else int(value)


def set_card(header: fits.Header, name: str, value: Any, comment: str) -> None:
    """Set a header card; insert new S_*, R_* cards after existing cards of the same group."""
    if isinstance(value, str):
        value = value.encode("ascii", "replace").decode()  # FITS headers are ASCII
    room = 80 - len(fits.Card(name, value).image.rstrip()) - len(" / ")
    card = fits.Card(name, value, comment[: max(room, 0)])
    if name in header:
        header[name] = (card.value, card.comment)
        return
    group = [other for other in header if name[1:2] == "_" and other.startswith(name[:2])]
    header.insert(group[-1] if group else len(header), card, after=bool(group))


def without_structure(header: fits.Header) -> fits.Header:
    """Return a copy without the cards that describe the table or the file."""
    return fits.Header(
        [card for card in header.cards if not STRUCTURE.fullmatch(card.keyword)], copy=True
    )


def current_date() -> str:
    """Return the current time (UTC) as the pipeline writes it to DATE."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")[:-6]


def check_exp_type(header: fits.Header, label: str) -> None:
    """Raise `ProductError` if EXP_TYPE is that of another mode; it may be missing."""
    exp_type = header.get("EXP_TYPE")
    if exp_type is not None and not str(exp_type).startswith("MIR_LRS"):
        raise ProductError(
            f"EXP_TYPE is {exp_type} ({header.get('INSTRUME', 'no INSTRUME')}), "
            "expected MIR_LRS-FIXEDSLIT or MIR_LRS-SLITLESS",
            subject=label,
        )


# --- reference files ---------------------------------------------------------------------------


def check_reference(
    hdulist: fits.HDUList,
    extension: str,
    label: str,
    error: type[LRSError],
    reftypes: tuple[str, ...] = (),
) -> None:
    """Raise `error` if a file is not a MIRI reference with an extension of that name.

    Parameters
    ----------
    hdulist : `~astropy.io.fits.HDUList`
        The file.
    extension : str
        Name of the required extension, which is also the REFTYPE.
    label : str
        Name of the file in messages.
    error : type
        Class of the error.
    reftypes : tuple of str
        Other accepted values of REFTYPE.
    """
    article = "an" if extension[0] in "AEIOU" else "a"
    expected = f"expected {article} {extension} reference of MIRI LRS"
    header = hdulist[0].header
    instrument = str(header.get("INSTRUME", "MIRI")).strip().upper()
    if instrument != "MIRI":
        raise error(f"{label}: INSTRUME is {instrument}, {expected}")
    reftype = str(header.get("REFTYPE", extension)).strip().upper()
    if reftype not in (extension, *reftypes):
        raise error(f"{label}: REFTYPE is {reftype}, {expected}")
    if extension not in hdulist:
        found = ", ".join(hdu.name for hdu in hdulist[1:]) or "none"
        raise error(f"{label}: has no extension {extension} (there are: {found}), {expected}")


def reference_header(reftype: str, datamodel: str, description: str, exp_type: str) -> fits.Header:
    """Return the primary header of a reference file written by this package."""
    return fits.Header(
        {
            "TELESCOP": "JWST",
            "INSTRUME": "MIRI",
            "REFTYPE": reftype,
            "DATAMODL": datamodel,
            "EXP_TYPE": exp_type,
            "P_EXP_TY": "MIR_LRS-FIXEDSLIT|MIR_LRS-SLITLESS|",
            "PEDIGREE": "SIMULATION",
            "AUTHOR": "glue_lrs",
            "DESCRIP": description,
            "USEAFTER": "2022-01-01T00:00:00",
        }
    )
