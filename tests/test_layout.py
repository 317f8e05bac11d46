"""Layout of the package: layers, circles, private and public names, lengths."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import grimp
import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

import glue_lrs

PACKAGE = Path(glue_lrs.__file__).parent
ROOT = Path(__file__).parents[1]
MODULES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE, MAX_FUNCTION = 600, 80


def test_rooms_import_from_lower_layers_only() -> None:
    """The contracts stand in pyproject.toml under ``tool.importlinter``."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_imports_itself_through_others() -> None:
    """Not within a room, either; imports for type checkers do not count."""
    graph = grimp.build_graph("glue_lrs", exclude_type_checking_imports=True, cache_dir=None)
    modules = sorted(graph.modules)
    matrix = np.array(
        [
            [other in imported for other in modules]
            for imported in map(graph.find_modules_directly_imported_by, modules)
        ]
    )
    _, component = connected_components(matrix, connection="strong")
    circles = [
        [m for m, c in zip(modules, component, strict=True) if c == k] for k in set(component)
    ]
    assert [one for one in circles if len(one) > 1] == []


@pytest.mark.slow
def test_no_private_name_of_another_module_is_imported() -> None:
    """Ruff's PLC2701 does not look at imports within the own package."""
    found = []
    for path in [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("glue_lrs"):
                names = [*(node.module or "").split(".")[1:], *(alias.name for alias in node.names)]
                private = [
                    n for n in names if n.startswith("_") and n not in ("_utils", "__version__")
                ]
                found += [f"{path.name}: {name}" for name in private]
    assert found == []


def test_public_names() -> None:
    assert set(glue_lrs.__all__) == {
        "Aperture", "ApertureCorrection", "Background", "Extract1D", "Extraction", "LRSError",
        "LRSWarning", "OptimalExtractor", "PSFProfile", "Reference", "SlitImage", "combine",
        "curve_of_growth", "extract", "measure", "plot_cut", "plot_image",
        "plot_spectrum", "rerun",
    }  # fmt: skip
    # A star import would hide Python's `open`.
    assert set(dir(glue_lrs)) == {*glue_lrs.__all__, "open"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_listed_names_exist(path: Path) -> None:
    name = ".".join(["glue_lrs", *path.relative_to(PACKAGE).with_suffix("").parts])
    module = importlib.import_module(name.removesuffix(".__init__"))
    assert [one for one in getattr(module, "__all__", ()) if not hasattr(module, one)] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path: Path) -> None:
    """Docstrings do not count as part of a function."""
    text = path.read_text(encoding="utf-8")
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
