"""Limits of the YAML trees and binary blocks in ASDF extensions, checked before asdf reads them.

asdf and the conversion to dicts visit each node as often as it is referenced, so that a few aliases
of aliases would take all time and memory.
"""

from __future__ import annotations

import io
import math
import struct
from typing import Any

from asdf.util import load_yaml

from glue_lrs.errors import ProductError
from glue_lrs.io.structure import check_expansion

#: Largest number of nodes of a tree, if each alias counts as a copy. Trees of the pipeline have
#: fewer than 10,000.
_MOST_NODES = 1_000_000
#: Largest depth of a tree. Trees of the pipeline have fewer than 30 levels.
_DEEPEST = 200
#: Largest number of elements of an array. A WCS holds no array larger than an image, 1e6 pixels.
_MOST_ELEMENTS = 100_000_000
#: Largest number of inputs, outputs or axes of a transform. Those of a WCS have fewer than 10, and
#: astropy makes a name for each of them.
_MOST_AXES = 1000

_BLOCK_MAGIC = b"\xd3BLK"
#: Fields of the header of a block: flags, compression, allocated size, used size, size of the data.
_BLOCK_HEADER = struct.Struct(">I4sQQQ")


def check_tree(raw: bytes, part: str) -> Any:
    """Parse the YAML tree of an ASDF file without converting its tags, and check its size.

    Parameters
    ----------
    raw : bytes
        Content of an ASDF file.
    part : str
        Name of the content for messages.

    Returns
    -------
    dict
        Tree of dicts, lists and strings.

    Raises
    ------
    ProductError
        If the content has no tree, is not valid YAML, or is too large.
    """
    try:
        tree = load_yaml(io.BytesIO(raw))
        nodes = _count(tree, {}, 0)
    except Exception as error:  # the parser may raise any error
        text = " ".join(str(error).split())[:120]
        raise ProductError(f"{part} cannot be read, {text}") from error
    if nodes > _MOST_NODES:
        raise ProductError(f"{part} expands to {nodes:.3g} nodes, expected at most {_MOST_NODES}")
    return tree


def _count(node: Any, known: dict[int, int], depth: int) -> int:
    """Return the number of nodes of a tree, in which each alias counts as a copy.

    `known` contains the numbers for nodes that were already counted, by their ids.
    """
    if not isinstance(node, dict | list):
        return 1
    if id(node) in known:
        return known[id(node)]
    if depth > _DEEPEST:
        raise ValueError(f"it is nested in more than {_DEEPEST} levels")
    known[id(node)] = 1  # number that is used if the node occurs again within itself
    if isinstance(node, dict) and isinstance(shape := node.get("shape"), list):
        number = math.prod(int(n) for n in shape if str(n).isdecimal())
        if number > _MOST_ELEMENTS:
            raise ValueError(f"an array has {number:.3g} elements, expected fewer")
    if isinstance(node, dict):
        _check_axes(node)
    children = node.values() if isinstance(node, dict) else node
    known[id(node)] = 1 + sum(_count(child, known, depth + 1) for child in children)
    return known[id(node)]


def _check_axes(node: dict[Any, Any]) -> None:
    """Raise an error if a transform, or what looks like one, has an implausible number of axes."""
    mapping = node.get("mapping")
    numbers = [node.get(key) for key in ("n_inputs", "n_outputs", "n_dims", "naxes")]
    for number in [*numbers, *(mapping if isinstance(mapping, list) else [])]:
        if isinstance(number, int | float) and not abs(number) <= _MOST_AXES:
            raise ValueError(f"a transform has {number:.3g} axes, expected fewer")


def check_blocks(raw: bytes, part: str) -> None:
    """Raise `ProductError` if a compressed block of an ASDF file expands to an implausible size."""
    place = raw.find(_BLOCK_MAGIC)
    while place >= 0 and len(raw) >= (start := place + 6) + _BLOCK_HEADER.size:
        _, compression, allocated, used, size = _BLOCK_HEADER.unpack_from(raw, start)
        if compression.strip(b"\0"):
            check_expansion(size, used, ProductError)
        place = raw.find(_BLOCK_MAGIC, start + min(allocated, len(raw)))
