"""Mutations of the bytes of FITS, ASDF and JSON files."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from astropy.io import fits

_BLOCK, _CARD = 2880, 80
#: Cards that describe the structure of a file or table.
_STRUCTURE = re.compile(
    rb"(SIMPLE|XTENSION|BITPIX|NAXIS|EXTEND|PCOUNT|GCOUNT|TFIELDS|THEAP|EXTNAME|EXTVER|BZERO|"
    rb"BSCALE|BLANK|BUNIT|TTYPE|TFORM|TUNIT|TDIM|TNULL|TSCAL|TZERO|TDISP)\d*\s*="
)
#: Values that a card may be given, as they stand in a header.
_CARD_VALUES = [
    b"0", b"-1", b"1", b"2", b"3", b"7", b"-2147483648", b"999999999999", b"1000000000000000000000",
    b"1E400", b"-1.5", b"NaN", b"INF", b"T", b"F", b"", b"''", b"'", b"'unclosed", b"'abc'",
    b"'10D'", b"'1PE(7)'", b"'QX(9)'", b"'999999999D'", b"'0A'", b"'16A'", b"'(3,0)'", b"'(-1)'",
    b"'nm'", b"'Angstrom'", b"'furlong/??'", b"'mJy'", b"'K'", b"(1.0, 2.0)", b"'\x1b[31mred'",
    b"'\xff\xfe'", b"'COMPLETE'", b"'POINT'", b"'SKIPPED'", b"'EXTRACT1D'", b"'SCI     '",
]  # fmt: skip
#: Texts that a number or word in the YAML of an ASDF tree may become.
_YAML_VALUES = [
    b"null", b"-1", b"1.0e+400", b".nan", b"[]", b"{}", b"'abc'", b"2147483648", b"true",
    b"*id001", b"!unknown/tag-1.0.0 {a: 1}", b"!core/ndarray-1.0.0 {source: 'http://0.0.0.0/a'}",
    b"!core/ndarray-1.0.0 {source: 'file:///etc/hostname', shape: [3], datatype: int8}",
    b"!core/ndarray-1.0.0 {source: 99, shape: [9999999999], datatype: float64, byteorder: big}",
    b"{$ref: 'http://0.0.0.0/a#/b'}", b"{$ref: '#/meta'}", b"[[[[[[[[1]]]]]]]]",
]  # fmt: skip
_JSON_VALUES: list[object] = [
    None, True, -1, 0, 1e308, 10**30, "", "abc", "\x1b[31m", [], {}, [[]], [[1.0], [2.0, 3.0]],
    [["1.5"]], {"a": {}}, "x" * 5000, [1e9] * 50, -0.5, [[[1.0]]], 1e-320,
]  # fmt: skip
#: Words that may stand in a table of text.
_WORDS = [
    b"", b"nan", b"-1", b"1e400", b"x" * 5000, b"'", b'"', b"\x1b[31m", b"flux[furlong/??]",
    b"wave", b"flux[m]", b"dq", b"1,2,3", b"# a", b"% \xff", b"9" * 5000, b"$x$", b"int_num",
]  # fmt: skip
#: Values that an element of an array or column may become.
_NUMBERS = [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e30, -1e30, 1e-30]

Mutator = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class HDUBytes:
    """Position of an HDU: its header is ``raw[start:data]``, and its data ``raw[data:end]``."""

    start: int
    data: int
    end: int


def hdus_of(raw: bytes) -> list[HDUBytes]:
    """Return the positions of the HDUs in a valid file."""
    with fits.open(io.BytesIO(raw)) as hdulist:
        infos = [hdu.fileinfo() for hdu in hdulist]
    return [HDUBytes(one["hdrLoc"], one["datLoc"], one["datLoc"] + one["datSpan"]) for one in infos]


def structure(raw: bytes, rng: random.Random) -> bytes:
    """Drop, repeat, move or rename HDUs, or cut the file off."""
    hdus = hdus_of(raw)
    parts = [raw[one.start : one.end] for one in hdus]
    kind = rng.randrange(6)
    where = rng.randrange(len(parts))
    if kind == 0:
        del parts[where]
    elif kind == 1:
        parts.insert(rng.randrange(len(parts) + 1), parts[where])
    elif kind == 2:
        rng.shuffle(parts)
    elif kind == 3:
        names = re.findall(rb"EXTNAME = '(\w+)", raw) or [b"SCI"]
        new = rng.choice([*names, b"", b"WHT", b"SCI", b"ASDF", b"EXTRACT1D", b"INT_TIMES"])
        parts[where] = re.sub(
            rb"EXTNAME = '.{68}", lambda _: (b"EXTNAME = '" + new + b"'").ljust(79), parts[where],
            count=1, flags=re.DOTALL,
        )  # fmt: skip
    elif kind == 4:
        return raw[: rng.randrange(len(raw))]
    else:
        parts.insert(where, rng.randbytes(rng.choice([1, 80, 2880, 5000])))
    return b"".join(parts)


def cards(raw: bytes, rng: random.Random) -> bytes:
    """Change, remove or repeat one to three cards."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        raw = _change_card(raw, rng, structural=False)
    return raw


def structural_cards(raw: bytes, rng: random.Random) -> bytes:
    """Change one or two cards that describe the structure of the file."""
    for _ in range(rng.choice([1, 1, 2])):
        raw = _change_card(raw, rng, structural=True)
    return raw


def _change_card(raw: bytes, rng: random.Random, *, structural: bool) -> bytes:
    starts = [
        at
        for at in range(0, len(raw), _CARD)
        if re.match(rb"[A-Z][A-Z0-9_-]{0,7} *=? ", raw[at : at + _CARD])
        and bool(_STRUCTURE.match(raw[at : at + _CARD])) is structural
    ]
    if not starts:
        return raw
    at = rng.choice(starts)
    card = raw[at : at + _CARD]
    kind = rng.randrange(8)
    if kind == 0:
        card = b" " * _CARD
    elif kind == 1:
        card = rng.randbytes(_CARD)
    elif kind == 2:
        other = rng.choice(starts)
        card = raw[other : other + 8] + card[8:]
    elif kind == 3:
        position = rng.randrange(_CARD)
        card = card[:position] + rng.randbytes(1) + card[position + 1 :]
    else:
        card = (card[:8] + b"= " + rng.choice(_CARD_VALUES)).ljust(_CARD)[:_CARD]
    return raw[:at] + card + raw[at + _CARD :]


def bits(raw: bytes, rng: random.Random) -> bytes:
    """Flip bits in headers, data or anywhere."""
    hdus = hdus_of(raw)
    one = rng.choice(hdus)
    first, last = rng.choice([(one.start, one.data), (one.data, one.end), (0, len(raw))])
    changed = bytearray(raw)
    for _ in range(rng.choice([1, 1, 3, 20])):
        if last > first:
            changed[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def values(raw: bytes, rng: random.Random) -> bytes:
    """Change numbers in an array or column: one, many or all, or their order."""
    with fits.open(io.BytesIO(raw)) as hdulist:
        found = [hdu for hdu in hdulist[1:] if hdu.data is not None and hdu.name != "ASDF"]
        if not found:
            return raw
        hdu = rng.choice(found)
        names = hdu.columns.names if isinstance(hdu, fits.BinTableHDU) else [None]
        array = hdu.data if names == [None] else hdu.data[rng.choice(names)]
        flat = np.asarray(array).reshape(-1)
        if flat.dtype.kind in "fiu" and flat.size:
            kind = rng.randrange(6)
            number = np.array(rng.choice(_NUMBERS))
            with np.errstate(all="ignore"):
                if kind == 0:
                    flat[rng.randrange(flat.size)] = number.astype(flat.dtype)
                elif kind == 1:
                    flat[:] = number.astype(flat.dtype)
                elif kind == 2:
                    flat[rng.randrange(flat.size) :] = number.astype(flat.dtype)
                elif kind == 3:
                    np.random.default_rng(rng.randrange(99)).shuffle(flat)
                elif kind == 4:
                    flat[:] = -flat if flat.dtype.kind != "u" else flat[::-1].copy()
                else:
                    flat[:] = (flat * rng.choice([1e-6, 1e3, 1e4, 1e30])).astype(flat.dtype)
            array[...] = flat.reshape(np.shape(array))
        target = io.BytesIO()
        hdulist.writeto(target, output_verify="ignore")
    return target.getvalue()


def yaml(raw: bytes, rng: random.Random) -> bytes:
    """Change the tree in the ASDF extension, or its binary blocks."""
    with fits.open(io.BytesIO(raw)) as hdulist:
        if "ASDF" not in hdulist:
            return cards(raw, rng)
        content = hdulist["ASDF"].data["ASDF_METADATA"].tobytes()
        content = _change_yaml(content, rng)
        array = np.frombuffer(content, dtype=np.uint8)[np.newaxis]
        column = fits.Column("ASDF_METADATA", format=f"{array.size}B", array=array)
        place = hdulist.index_of("ASDF")
        hdulist[place] = fits.BinTableHDU.from_columns([column], name="ASDF")
        target = io.BytesIO()
        hdulist.writeto(target)
    return target.getvalue()


def _change_yaml(content: bytes, rng: random.Random) -> bytes:
    end = content.find(b"\n...\n")
    tree, blocks = content[:end], content[end:]
    lines = tree.split(b"\n")
    where = rng.randrange(len(lines))
    kind = rng.randrange(9)
    if kind == 0:
        del lines[where]
    elif kind == 1:
        lines.insert(rng.randrange(len(lines)), lines[where])
    elif kind == 2:
        lines[where] = b" " * rng.randrange(4) + lines[where]
    elif kind == 3:
        levels = rng.choice([10, 30])
        names = [b"a%d" % level for level in range(levels)]
        bomb = [b"glue_lrs_bomb:", b"  a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
        for low, high in itertools.pairwise(names):
            copies = b", ".join([b"*" + low] * 10)
            bomb.append(b"  " + high + b": &" + high + b" [" + copies + b"]")
        lines = [*lines, *bomb]
    elif kind == 4:
        depth = rng.choice([100, 3000])
        lines.append(b"glue_lrs_deep: " + b"[" * depth + b"]" * depth)
    elif kind == 5:
        blocks = bytearray(blocks)
        blocks[rng.randrange(len(blocks))] ^= 1 << rng.randrange(8)
        blocks = bytes(blocks)
    else:
        tokens = list(re.finditer(rb"(?<=[:\[,{-] )[^,\[\]{}]+", lines[where]))
        if tokens:
            token = rng.choice(tokens)
            line = lines[where]
            lines[where] = line[: token.start()] + rng.choice(_YAML_VALUES) + line[token.end() :]
    return b"\n".join(lines) + blocks


def compressed(raw: bytes, rng: random.Random) -> bytes:
    """Compress with gzip: valid, cut off, damaged, or a file that expands without end."""
    kind = rng.randrange(5)
    packed = bytearray(gzip.compress(raw if kind != 3 else bits(raw, rng), 1))
    if kind == 1:
        del packed[rng.randrange(2, len(packed)) :]
    elif kind == 2:
        packed[rng.randrange(2, len(packed))] ^= 1 << rng.randrange(8)
    elif kind == 4:
        packed += b"".join([_zeros()] * rng.choice([1, 40]))
    return bytes(packed)


def _zeros(cache: list[bytes] = []) -> bytes:  # noqa: B006 - computed once
    """Return 64 MB of zeros, compressed to 64 kB."""
    if not cache:
        cache.append(gzip.compress(bytes(1 << 26), 1))
    return cache[0]


def tiles(raw: bytes, rng: random.Random) -> bytes:
    """Store an image in compressed tiles, and damage them or their cards."""
    with fits.open(io.BytesIO(raw)) as hdulist:
        images = [i for i, hdu in enumerate(hdulist) if i and hdu.is_image and hdu.data is not None]
        if not images:
            return structural_cards(raw, rng)
        place = rng.choice(images)
        old = hdulist[place]
        kind = rng.choice(["GZIP_1", "RICE_1"])
        hdulist[place] = fits.CompImageHDU(
            np.array(old.data), old.header, name=old.name, compression_type=kind
        )
        target = io.BytesIO()
        hdulist.writeto(target)
    return rng.choice([bits, structural_cards, bits, lambda same, _: same])(target.getvalue(), rng)


def _damaged(raw: bytes, rng: random.Random, cut: bool) -> bytes:
    """Cut off the end of a text, or change one of its bytes."""
    if cut:
        return raw[: rng.randrange(len(raw))]
    changed = bytearray(raw)
    changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def json_tree(raw: bytes, rng: random.Random) -> bytes:
    """Change, remove or nest a node of a JSON document, or damage its text."""
    kind = rng.randrange(6)
    if kind < 2:
        return _damaged(raw, rng, cut=kind == 1)
    if kind == 2:
        depth = rng.choice([50, 100_000])
        return raw.replace(b"9", b"[" * depth + b"]" * depth, 1)
    document = json.loads(raw)
    for _ in range(rng.choice([1, 1, 2])):
        parent, key = rng.choice(list(_nodes(document)))
        action = rng.randrange(4)
        if action == 0:
            del parent[key]
        elif action == 1 and isinstance(parent, dict):
            parent[rng.choice(["xstart", "bkg_fit", "id", "unknown", "$ref"])] = parent[key]
        else:
            parent[key] = rng.choice(_JSON_VALUES)
    return json.dumps(document).encode()


def text(raw: bytes, rng: random.Random) -> bytes:
    """Change bytes, words or lines of a text file."""
    kind = rng.randrange(5)
    if kind < 2:
        return _damaged(raw, rng, cut=kind == 1)
    lines = raw.splitlines()
    place = rng.randrange(len(lines)) if rng.random() < 0.5 else 0
    if kind == 2:
        lines[place:place] = [lines[place]] * rng.choice([1, 3, 1000])
    elif kind == 3:
        del lines[place]
    else:
        words = lines[place].split(b",")
        words[rng.randrange(len(words))] = rng.choice(_WORDS)
        lines[place] = b",".join(words)
    return b"\n".join(lines)


def _nodes(node: object) -> list[tuple[object, object]]:
    items = node.items() if isinstance(node, dict) else enumerate(node)  # type: ignore[arg-type]
    found: list[tuple[object, object]] = []
    for key, value in items:
        found.append((node, key))
        if isinstance(value, dict | list):
            found += _nodes(value)
    return found


#: Mutations of FITS files, and how often each is chosen.
FITS_MUTATORS: dict[str, tuple[Mutator, int]] = {
    "structure": (structure, 3),
    "cards": (cards, 4),
    "structural cards": (structural_cards, 5),
    "bits": (bits, 3),
    "values": (values, 3),
    "ASDF": (yaml, 4),
    "gzip": (compressed, 1),
    "tiles": (tiles, 1),
}
#: Mutations of JSON documents.
JSON_MUTATORS: dict[str, tuple[Mutator, int]] = {"JSON": (json_tree, 1)}
#: Mutations of text files with spectra.
TEXT_MUTATORS: dict[str, tuple[Mutator, int]] = {"text": (text, 1)}
