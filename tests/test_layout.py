"""The layout of the package: layers, public names, lengths of files and functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import glue_lrs

PACKAGE = Path(glue_lrs.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE, MAX_FUNCTION = 600, 80


def test_rooms_import_from_lower_layers_only() -> None:
    """The contracts stand in pyproject.toml under ``tool.importlinter``."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").exists() else Path.cwd(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path: Path) -> None:
    """Docstrings do not count as part of a function."""
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE
    long = [
        f"{node.name} (line {node.lineno}): {lines}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := _code_lines(node)) > MAX_FUNCTION
    ]
    assert not long


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring
