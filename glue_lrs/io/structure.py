"""Check of the structure of FITS files before astropy reads them.

astropy trusts the sizes in headers: a negative or huge size makes it hang or allocate all memory.
It parses a card only when the card is accessed, so that a damaged card may raise an error anywhere.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import re
import zipfile
from collections.abc import Callable
from typing import Any

from astropy.io import fits

from glue_lrs.errors import LRSError, LRSWarning, quoted

#: Sizes of a block and of a card in bytes, and largest NAXIS and TFIELDS (FITS standard 4.0).
_BLOCK, _CARD, _LARGEST_NUMBER = 2880, 80, 999
#: Largest header in blocks. Headers of the pipeline have about 30.
_LONGEST_HEADER = 2000
#: Size in bytes to which any compressed file may expand (an s2d has 2 MB).
_EXPANSION = 1 << 28
#: Factor by which a compressed file may expand if the result is larger than `_EXPANSION`. Images
#: with noise expand by less than 10, zeros compressed with gzip by 1000.
_EXPANSION_FACTOR = 50
#: Number of bytes that are decompressed at a time.
_PIECE = 1 << 22

#: Functions that open a compressed file, and the first bytes of such files.
_OPENERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
    b"PK\x03\x04": lambda stream: (archive := zipfile.ZipFile(stream)).open(archive.namelist()[0]),
}

#: Bytes for each element of a column, by the letter in TFORM.
_WIDTHS = {"X": 1 / 8, "L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "C": 8}
_WIDTHS |= {"P": 8, "M": 16, "Q": 16}
_TFORM = re.compile(rf"(\d*)([{''.join(_WIDTHS)}]).*")
_SIZE_CARD = re.compile(
    rb"(BITPIX|NAXIS\d*|PCOUNT|GCOUNT|TFIELDS|TFORM\d+|ZBITPIX|ZNAXIS\d*) *= *('[^']*'|[^ /]*)"
)
#: Pattern of cards that astropy parses without an error or a warning. Because of the possessive
#: quantifiers, the time for matching is proportional to the length.
_VALID_CARD = re.compile(
    rb"(?:COMMENT|HISTORY|CONTINUE| {8})[ -~]*+"
    rb"|(?:[A-Z0-9_-]++ *+(?<=.{8})|HIERARCH [A-Za-z0-9_. -]++)= *+"
    rb"(?:'(?:''|[ -&(-~])*+' *+|[TF] *+|[+-]?+(?:\d++\.?+\d*+|\.\d++)(?:[ED][+-]?+\d++)?+ *+)?+"
    rb"(?:/[ -~]*+)?+"
)


def decompressed(stream: Any, error: type[LRSError]) -> Any:
    """Return an open file, or its decompressed content in memory if it is compressed.

    Parameters
    ----------
    stream : file object
        Open binary file, at its start.
    error : type
        Class of the exception to raise.

    Raises
    ------
    LRSError
        If the content is not a FITS file, or expands to an implausible size.
    """
    start = stream.read(5)
    stored = stream.seek(0, 2)
    stream.seek(0)
    opener = next((one for magic, one in _OPENERS.items() if start.startswith(magic)), None)
    if opener is None:
        return stream
    content = io.BytesIO()
    with opener(stream) as packed:
        while piece := packed.read(_PIECE):
            if not content.tell() and not piece.startswith(b"SIMPLE"):
                raise error("is not a FITS file")
            content.write(piece)
            check_expansion(content.tell(), stored, error)
    stream.seek(0)
    content.seek(0)
    return content


def check_expansion(size: int, stored: int, error: type[LRSError]) -> None:
    """Raise `error` if compressed data are implausibly large for their `stored` size in bytes."""
    if size > max(_EXPANSION, _EXPANSION_FACTOR * stored):
        raise error(
            f"expands from {stored / 1e6:.3g} MB to more than {size / 1e6:.3g} MB, "
            f"expected at most {_EXPANSION_FACTOR} times its size"
        )


def check_structure(stream: Any, error: type[LRSError]) -> set[int]:
    """Check the sizes of all HDUs of an uncompressed FITS file.

    Parameters
    ----------
    stream : file object
        Open binary file. Afterwards it is at its start.
    error : type
        Class of the exception to raise.

    Returns
    -------
    set of int
        Indices of the HDUs with cards that astropy may not be able to parse.

    Raises
    ------
    LRSError
        If the file is not a FITS file, a size is invalid, or the file is shorter than its headers
        state.
    """
    size, position, doubtful = stream.seek(0, 2), 0, set()
    stream.seek(0)
    number = 0
    while position < size:
        header = _header(stream, number, error)
        position += len(header)
        cards = [header[at : at + _CARD] for at in range(0, header.rfind(b"END"), _CARD)]
        if not all(map(_VALID_CARD.fullmatch, cards)):
            doubtful.add(number)
        length = _data_size(_sizes(cards, number, error), number, error)
        if position + length > size:
            raise error(
                f"is truncated, extension {number} states {length} bytes of data, "
                f"found {size - position}"
            )
        position += length
        stream.seek(position)
        number += 1
    stream.seek(0)
    return doubtful


def primary_header(stream: Any) -> fits.Header:
    """Return the primary header of an open file, which may be compressed, without reading further.

    The file is at its start before and afterwards.
    """
    start = stream.read(5)
    stream.seek(0)
    opener = next((one for magic, one in _OPENERS.items() if start.startswith(magic)), None)
    if opener is None:
        header = _header(stream, 0, LRSError)
    else:
        with opener(stream) as packed:
            header = _header(packed, 0, LRSError)
    stream.seek(0)
    return fits.Header.fromstring(header)


def _header(stream: Any, number: int, error: type[LRSError]) -> bytes:
    """Return the bytes of a header, including the padding after its END card."""
    blocks: list[bytes] = []
    while len(blocks) < _LONGEST_HEADER:
        block = stream.read(_BLOCK)
        if not blocks and not block.startswith(b"XTENSION" if number else b"SIMPLE"):
            raise error(
                f"is damaged or truncated, extension {number} has no valid header"
                if number
                else "is not a FITS file"
            )
        if len(block) < _BLOCK:
            break
        blocks.append(block)
        if any(block[at : at + _CARD].rstrip() == b"END" for at in range(0, _BLOCK, _CARD)):
            return b"".join(blocks)
    raise error("is truncated or not a FITS file, a header has no end")


def _sizes(cards: list[bytes], number: int, error: type[LRSError]) -> dict[str, str]:
    """Return the values of the cards that determine the size of an HDU, as text."""
    sizes: dict[str, str] = {}
    for one in filter(None, map(_SIZE_CARD.match, cards)):
        key, text = one[1].decode(), one[2].decode("latin1").strip("' ")
        if sizes.setdefault(key, text) != text:  # readers differ in which of the two they take
            values = f"{quoted(sizes[key])} and {quoted(text)}"
            raise error(f"{key} of extension {number} is given twice, as {values}")
    return sizes


def _data_size(sizes: dict[str, str], number: int, error: type[LRSError]) -> int:
    """Return the number of bytes of the data of an HDU, including the padding."""

    def integer(key: str, low: float, high: float, default: str = "") -> int:
        text = sizes.get(key, default)
        if not re.fullmatch(r"[+-]?\d{1,18}", text) or not low <= int(text) <= high:
            found = f"is {quoted(text)}" if text else "is missing or empty"
            expected = f"{low:g} to {high:g}" if math.isfinite(high) else f"at least {low:g}"
            raise error(f"{key} of extension {number} {found}, expected {expected}")
        return int(text)

    def volume(prefix: str) -> int:
        if not (axes := integer(f"{prefix}NAXIS", 0, _LARGEST_NUMBER)):
            return 0
        lengths = [integer(f"{prefix}NAXIS{axis + 1}", 0, math.inf) for axis in range(axes)]
        return math.prod(lengths) * (abs(integer(f"{prefix}BITPIX", -64, 64)) // 8)

    bits = integer("BITPIX", -64, 64)
    if abs(bits) not in (8, 16, 32, 64):
        raise error(f"BITPIX of extension {number} is {bits}, expected 8, 16, 32, 64, -32 or -64")
    length = 0
    if integer("NAXIS", 0, _LARGEST_NUMBER):
        parameters = integer("PCOUNT", 0, math.inf, "0") * (abs(bits) // 8)
        length = (volume("") + parameters) * integer("GCOUNT", 1, math.inf, "1")
    if "TFIELDS" in sizes:
        names = [f"TFORM{n + 1}" for n in range(integer("TFIELDS", 0, _LARGEST_NUMBER))]
        _check_columns({name: sizes.get(name, "") for name in names}, sizes, number, error)
    if "ZNAXIS" in sizes:
        check_expansion(volume("Z"), length, error)
    return -(-length // _BLOCK) * _BLOCK


def _check_columns(
    forms: dict[str, str], sizes: dict[str, str], number: int, error: type[LRSError]
) -> None:
    """Raise `error` if the columns of a binary table do not fill its rows."""
    width = 0
    for name, form in forms.items():
        match = _TFORM.fullmatch(form)
        if match is None:
            raise error(f"{name} of extension {number} is {quoted(form)}, expected one like '10D'")
        width += math.ceil(int(match[1] or 1) * _WIDTHS[match[2]])
    if width != int(sizes["NAXIS1"]):
        raise error(
            f"the columns of extension {number} take {width} bytes a row, expected "
            f"{sizes['NAXIS1']} (NAXIS1)"
        )


def remove_unreadable_cards(header: fits.Header, name: str) -> LRSWarning | None:
    """Remove the cards whose keyword or value astropy cannot parse.

    Returns
    -------
    LRSWarning or None
        Warning that names the removed cards, or None if all cards can be parsed.
    """
    removed: list[str] = []
    for index in range(len(header.cards) - 1, -1, -1):
        keyword = ""
        try:
            card = header.cards[index]
            keyword = card.keyword
            _ = card.value, card.comment
            card.verify("silentfix+exception")
        except Exception:  # astropy raises errors of many types
            removed.append(keyword or f"card {index + 1}")
            del header[index]
    if not removed:
        return None
    listed = ", ".join(dict.fromkeys(reversed(removed)))
    return LRSWarning(f"the header of {name} has invalid cards, which are ignored: {listed}")
