"""Notebooks, run from a clean kernel without a front end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]

#: Seconds that a cell may take: machines of CI are slow.
_PATIENCE = 600


def run_notebook(notebook: Path | list[str], folder: Path, *, last: str = "") -> list[Any]:
    """Run a notebook, or cells of Python, in a folder, and return the cells of code with outputs.

    Parameters
    ----------
    notebook : Path or list of str
        File of the notebook, or the texts of its cells.
    folder : Path
        Folder in which the kernel runs.
    last : str
        Code of an additional cell at the end.
    """
    if isinstance(notebook, Path):
        made = nbformat.read(notebook, as_version=4)
    else:
        made = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, notebook)])
    made.cells += [nbformat.v4.new_code_cell(last)] * bool(last)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    client = NotebookClient(
        made,
        timeout=_PATIENCE,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    return [cell for cell in made.cells if cell.cell_type == "code"]


def outputs(cell: Any, mime: str) -> list[str]:
    """Return the outputs of a cell that have a type."""
    return [one.data[mime] for one in cell.outputs if mime in one.get("data", {})]


def printed(cell: Any) -> str:
    """Return what a cell has printed."""
    return "".join(one.text for one in cell.outputs if one.get("name") == "stdout")
