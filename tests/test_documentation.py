"""Pages name files that exist, and the commands of the first page run as written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from glue_lrs.cli import main
from glue_lrs.demo import run_demo

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


@pytest.mark.slow
def test_commands_of_a_first_pair_of_nods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All commands succeed in the folder of the demonstration, and none finds a fault."""
    run_demo(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/first-nods.rst").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"^   glue-lrs (.*)$", text, flags=re.MULTILINE)
    used = [shlex.split(one)[0] for one in commands]
    assert used == ["info", "extract", "info", "combine", "plot", "export", "budget"]
    for command in commands:
        done = CliRunner().invoke(main, shlex.split(command))
        assert done.exit_code == 0, done.output
        assert "glue-lrs: error" not in done.stderr
        assert command.startswith("info demo") or not done.stderr, done.stderr
    assert Path("demo_c1d.ecsv").exists()
    assert Path("demo_nods.png").exists()
