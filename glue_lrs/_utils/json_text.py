"""Errors of JSON texts in plain words."""

from __future__ import annotations

import json
import re

from glue_lrs.errors import quoted

#: Constants of Python, and how JSON spells them.
_CONSTANTS = {"True": "true", "False": "false", "None": "null"}


def json_problem(error: json.JSONDecodeError) -> str:
    """Return a text that says what is wrong in a JSON text, and in which line and column.

    Parameters
    ----------
    error : `~json.JSONDecodeError`
        Error that the parser raised.
    """
    text, position = error.doc, error.pos
    rest, before = text[position:].lstrip(), text[:position].rstrip()
    if error.msg.startswith("Illegal trailing comma"):  # since Python 3.13, at the comma
        before, rest = text[: position + 1], text[position + 1 :].lstrip()
    word = re.match(r"\w+", rest)
    if rest[:1] in ("]", "}") and before.endswith(","):
        found = f"a comma before {rest[0]!r}, expected none after the last item"
        position = len(before) - 1
    elif error.msg.startswith("Invalid control character"):
        found = "a line break or control character within quotes"
    elif error.msg.startswith("Unterminated string"):
        found = "a text without its closing quote"
    elif error.msg.startswith("Invalid \\"):
        found = "a backslash that JSON does not allow"
    elif not rest:
        found = "the end of the text, expected a value or a closing ']' or '}'"
        position = len(before)
    elif error.msg.startswith("Extra data"):
        found = f"{quoted(rest[:10])} after the end, expected nothing there"
    elif rest[0] == "'":
        found = "single quotes, expected double quotes"
    elif rest[0] == "/" or rest[0] == "#":
        found = "a comment, which JSON does not have"
    elif error.msg.startswith("Expecting ',' delimiter"):
        found = f"no comma before {quoted(rest[:10])}"
    elif error.msg.startswith("Expecting ':' delimiter"):
        found = f"no colon before {quoted(rest[:10])}"
    elif word is not None and word[0] in _CONSTANTS:
        found = f"{word[0]}, expected {_CONSTANTS[word[0]]}"
    elif word is not None:
        found = f"{quoted(word[0])} without double quotes"
    else:
        kind = "a name in double quotes" if "property name" in error.msg else "a value"
        found = f"{quoted(rest[:10])}, expected {kind}"
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f"{found} (line {line}, column {column})"
