"""Functions that read, check and set FITS header cards."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from astropy.io import fits

from glue_lrs.errors import LRSError, ProductError, listed, quoted

#: BUNIT of images, by whether the image is photometrically calibrated.
BUNIT = {True: "MJy/sr", False: "DN/s"}

#: Pattern of the cards that describe the structure of a file or table. They must not be copied to
#: another file.
STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|TFIELDS|THEAP|EXTNAME|EXTVER|EXTLEVEL|"
    r"CHECKSUM|DATASUM|(TTYPE|TFORM|TUNIT|TDIM|TNULL|TSCAL|TZERO|TDISP|TBCOL)\d+"
)


def header_value(key: str, *headers: fits.Header) -> Any:
    """Return the value of a card from the first header that has it, or None if none has it."""
    for header in headers:
        value = header.get(key)
        if value is not None and not isinstance(value, fits.card.Undefined):
            return value
    return None


def header_text(key: str, *headers: fits.Header) -> str | None:
    """Return the value of a card as text, or None if the card is missing or empty."""
    value = header_value(key, *headers)
    return None if value is None or value == "" else str(value)


def header_number(key: str, *headers: fits.Header) -> float | None:
    """Return the value of a card as float, or None if the card is missing.

    Raise `ProductError` if the value is not a number.
    """
    value = header_value(key, *headers)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ProductError(f"{key} is {quoted(value)}, expected a number")
    return float(value)


def printable_ascii(text: str) -> str:
    """Replace the characters of a text that a FITS header cannot hold by question marks.

    Headers hold printable ASCII.
    """
    return "".join(one if one.isascii() and one.isprintable() else "?" for one in text)


def header_integer(key: str, *headers: fits.Header) -> int | None:
    """Return the value of a card as int, or None if the card is missing.

    Raise `ProductError` if the value is not a whole number.
    """
    value = header_number(key, *headers)
    if value is not None and value != int(value):
        raise ProductError(f"{key} is {value}, expected a whole number")
    return None if value is None else int(value)


def set_card(header: fits.Header, name: str, value: object, comment: str) -> None:
    """Set a header card. Insert a new S_* or R_* card after the other cards with this prefix."""
    if isinstance(value, str):
        value = printable_ascii(value)
    room = 80 - len(fits.Card(name, value).image.rstrip()) - len(" / ")
    card = fits.Card(name, value, comment[: max(room, 0)])
    if name in header:
        header[name] = (card.value, card.comment)
        return
    group = [other for other in header if name[1:2] == "_" and other.startswith(name[:2])]
    header.insert(group[-1] if group else len(header), card, after=bool(group))


def without_structure(header: fits.Header) -> fits.Header:
    """Return a copy of a header without the cards that describe the structure of the file."""
    return fits.Header(
        [card for card in header.cards if not STRUCTURE.fullmatch(card.keyword)], copy=True
    )


def product_header(header: fits.Header, filename: str, model: str) -> fits.Header:
    """Return a copy of a header with current date, file name and data model, for a new file."""
    header = without_structure(header)
    set_card(header, "DATE", current_date(), "UTC date file created")
    set_card(header, "FILENAME", filename, "Name of the file")
    set_card(header, "DATAMODL", model, "Type of data model")
    return header


def current_date() -> str:
    """Return the current time (UTC) in the format that the pipeline uses for DATE."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")[:-6]


def check_exp_type(header: fits.Header) -> None:
    """Raise `ProductError` if EXP_TYPE is present and is not an LRS mode."""
    exp_type = header.get("EXP_TYPE")
    if exp_type is not None and not str(exp_type).startswith("MIR_LRS"):
        raise ProductError(
            f"EXP_TYPE is {exp_type} ({header.get('INSTRUME', 'no INSTRUME')}), "
            "expected MIR_LRS-FIXEDSLIT or MIR_LRS-SLITLESS"
        )


# --- reference files ---------------------------------------------------------------------------


def check_reference(
    hdulist: fits.HDUList,
    extension: str,
    error: type[LRSError],
    reftypes: tuple[str, ...] = (),
) -> None:
    """Raise `error` if a file is not a MIRI reference file with the required extension.

    Parameters
    ----------
    hdulist : `~astropy.io.fits.HDUList`
        Open reference file.
    extension : str
        Name of the required extension. REFTYPE must have the same value.
    error : type
        Class of the exception to raise.
    reftypes : tuple of str
        Further accepted values of REFTYPE.
    """
    article = "an" if extension[0] in "AEIOU" else "a"
    expected = f"expected {article} {extension} reference of MIRI LRS"
    header = hdulist[0].header
    instrument = str(header.get("INSTRUME", "MIRI")).strip().upper()
    if instrument != "MIRI":
        raise error(f"INSTRUME is {instrument}, {expected}")
    reftype = str(header.get("REFTYPE", extension)).strip().upper()
    if reftype not in (extension, *reftypes):
        raise error(f"REFTYPE is {reftype}, {expected}")
    if extension not in hdulist:
        found = listed(hdu.name for hdu in hdulist[1:]) or "none"
        raise error(f"has no extension {extension} (there are: {found}), {expected}")


def check_names(names: list[str], kind: str, card: str, error: type[LRSError]) -> None:
    """Raise `error` if the list of names is empty, or if two names are equal.

    Parameters
    ----------
    names : list of str
        Names of the corrections or profiles that are to be written to a reference file.
    kind : str
        Description of the named objects for the message, such as "profile".
    card : str
        Card or column in which the names are stored.
    error : type
        Class of the exception to raise.
    """
    if not names:
        raise error(f"no {kind} was given, expected at least one")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise error(f"two {kind}s are for {card} {twice}, expected one")


def reference_header(reftype: str, datamodel: str, description: str, exp_type: str) -> fits.Header:
    """Make the primary header for a reference file that this package writes."""
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
