"""Pages for contributors name files that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("docs/contributing/architecture.rst", "CONTRIBUTING.md")


@pytest.mark.parametrize("page", PAGES)
def test_named_paths_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = re.findall(r"`((?:glue_lrs|tests|docs|changes)/[\w./-]*)`", text)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_definitions_named_in_the_recipes_exist() -> None:
    """``name`` in ``path``: the file defines or mentions the name."""
    text = (ROOT / PAGES[0]).read_text(encoding="utf-8")
    named = re.findall(r"``([\w.]+)``\s+(?:in|\()\s*``(glue_lrs/[\w/]+\.py)``", text)
    assert len(named) > 10
    missing = [
        (name, path)
        for name, path in named
        if not re.search(rf"\b{name.split('.')[-1]}\b", (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert missing == []
