"""Messages are one printable line, and quote no more of a value than fits a line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from glue_lrs import Aperture, Background, Extract1D, Reference
from glue_lrs.cli.program import main
from glue_lrs.errors import LONGEST_VALUE, LRSError, escaped, listed, quoted
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.reference.validation import reference_errors

HOSTILE = "a\x1b[2J\x07\r\nb‮c\x7f\x9b\u2028"


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    ["x" * 10**7, [1.0] * 10**6, nested(10**5), {"a": nested(10**5)}, 10**5000, HOSTILE * 100],
    ids=["text", "list", "nested", "dict", "number", "hostile"],
)
def test_values_of_any_size_are_quoted_on_a_line(value: object) -> None:
    start = time.process_time()
    text = quoted(value)
    assert 10 < len(text) <= LONGEST_VALUE
    assert text.isprintable()
    assert time.process_time() - start < 1.0


def test_short_values_are_quoted_as_they_are() -> None:
    for value in ("it's", 1.5, [[0.5], [4.5]], {"b": 1}, ("a", 2)):
        assert quoted(value) == repr(value)
    # as in a reference file
    words = {"null": None, "true": True, "[false, 2.5]": [False, np.float64(2.5)], "3": np.int64(3)}
    for text, value in words.items():
        assert quoted(value) == text
    assert listed(["a", "b"]) == "a, b"
    assert listed(str(i) for i in range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert len(listed(["x" * 1000] * 1000)) < 12 * LONGEST_VALUE


def test_messages_are_one_printable_line() -> None:
    text = str(LRSError(f"found {HOSTILE}", subject=f"{HOSTILE}.fits"))
    assert text.isprintable()
    assert text.startswith(r"a\u001b[2J\u0007\r\nb\u202ec\u007f\u009b\u2028.fits: found a\u001b")
    assert str(LRSError("found µ, 3 × FWHM", subject="é.fits")) == "é.fits: found µ, 3 × FWHM"
    assert escaped("a\nb\x1b", keep="\n") == "a\nb\\u001b"


LONG = "x" * 5000
SOURCES: dict[str, tuple[Any, dict[str, Any]]] = {
    "option": (Extract1D.from_reference, {"reference": None, "exp_type": FIXED_SLIT, LONG: 1}),
    "exp_type": (Extract1D.from_reference, {"reference": None, "exp_type": LONG}),
    "aperture": (Aperture, {"xstart": LONG, "xstop": 3}),
    "variable": (Aperture, {"xstart": 1, "xstop": 3, "independent_var": LONG}),
    "edges": (Aperture, {"src_coeff": [LONG, LONG]}),
    "fit": (Background.from_edges, {"bkg_fit": LONG}),
    "keys": (Reference.from_dict, {"document": dict.fromkeys(map(str, range(5000)), 1)}),
    "id": (Reference.from_dict, {"document": {"apertures": [{"id": LONG, "xstart": "a"}]}}),
    "word": (Reference.from_dict, {"document": {"apertures": [{"id": "ANY", LONG: "a"}]}}),
    "step": (
        Extract1D.from_reference,
        {"reference": None, "exp_type": FIXED_SLIT, "extraction_type": [LONG] * 100},
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_errors_quote_little_of_a_value(name: str) -> None:
    function, arguments = SOURCES[name]
    given = dict(arguments)
    first = [given.pop(key) for key in ("reference", "exp_type", "document") if key in given]
    with pytest.raises(LRSError) as caught:
        function(*first, **given)
    assert len(str(caught.value)) < 500
    assert LONG[:100] not in str(caught.value)


@pytest.mark.parametrize("depth", [60, 400, 900, 100_000])
def test_deep_nesting_is_one_line(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "deep.json"
    path.write_text('{"apertures": [{"id": "ANY", "comment": ' + "[" * depth + "]" * depth + "}]}")
    for read in (Reference.read, lambda name: Extract1D.from_reference(name, FIXED_SLIT)):
        with pytest.raises(LRSError, match=r"deep\.json: "):
            read(path)
    text = "[" * depth + "]" * depth
    done = CliRunner().invoke(main, ["plot", "no.fits", "--set", f"xstart={text}"])
    assert done.exit_code == 2
    assert done.stderr.startswith("glue-lrs: error: ")
    assert len(done.stderr.splitlines()) == 1
    assert reference_errors(json.loads(text) if depth < 500 else [], "deep.json")
