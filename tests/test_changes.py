"""Changelog fragments: valid names, and a draft that towncrier can build."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
TYPES = [
    one["directory"]
    for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]["type"]
]
NAME = re.compile(rf"\d+\.({'|'.join(TYPES)})(\.\d+)?\.md")
FRAGMENTS = sorted(path for path in (ROOT / "changes").iterdir() if path.name != "README.md")


def test_fragments_have_a_number_a_type_and_a_text() -> None:
    assert [path.name for path in FRAGMENTS if not NAME.fullmatch(path.name)] == []
    assert [path.name for path in FRAGMENTS if not path.read_text(encoding="utf-8").strip()] == []


def test_draft_has_every_fragment() -> None:
    """towncrier silently skips files whose type it does not know."""
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for path in FRAGMENTS:
        first_line = path.read_text(encoding="utf-8").strip().splitlines()[0]
        assert first_line in done.stdout, path.name
