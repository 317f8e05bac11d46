"""Sphinx extension for this documentation: figures, output of commands, downloads, list of changes.

Before the pages are read, ``glue-lrs demo`` runs in a temporary directory, and `make_figures` draws
into ``docs/generated``. The directive ``command`` runs commands in a copy of the demo directory.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
import warnings
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

#: Displayed path of the directory in which commands run.
SHOWN_FOLDER = "/home/me/lrs"

_state: dict[str, Path] = {}


def prepare(app: Sphinx) -> None:
    """Run the demonstration and draw the figures."""
    import make_figures

    from glue_lrs.demo import run_demo
    from glue_lrs.errors import LRSWarning

    work = Path(tempfile.mkdtemp(prefix="glue-lrs-docs-")).resolve()
    _state["work"], demo = work, work / "demo"
    with warnings.catch_warnings(), contextlib.chdir(work):
        warnings.simplefilter("ignore", LRSWarning)
        run_demo(demo)
        make_figures.draw_all(demo, Path(app.srcdir) / "generated")
        # In a separate process: glue changes Matplotlib settings, and Qt must be imported first.
        screenshots = Path(app.srcdir) / "make_screenshots.py"
        subprocess.run(
            [sys.executable, screenshots, demo, Path(app.srcdir) / "generated"],
            check=True,
            capture_output=True,
        )


def clean_up(app: Sphinx, error: Exception | None) -> None:
    """Remove the temporary directory."""
    if "work" in _state:
        shutil.rmtree(_state.pop("work"), ignore_errors=True)


def page_folder(page: str) -> Path:
    """Return the working directory of a page, with links to the demo files."""
    folder = _state["work"] / page.replace("/", "-")
    if not folder.exists():
        folder.mkdir()
        for path in (_state["work"] / "demo").iterdir():
            (folder / path.name).symlink_to(path)
    return folder


def run(line: str) -> tuple[str, int]:
    """Run a ``glue-lrs`` command line in the current directory; return output and exit code."""
    from click.testing import CliRunner

    from glue_lrs.cli.program import main

    program, *words = shlex.split(line)
    if program != "glue-lrs":
        raise ExtensionError(f"command: {program!r}, expected glue-lrs")
    arguments: list[str] = []
    for word in words:
        arguments += sorted(glob.glob(word)) or [word]
    result = CliRunner().invoke(main, arguments, prog_name=program, env={"COLUMNS": "100"})
    return result.output, result.exit_code


class Command(SphinxDirective):
    """Show ``glue-lrs`` command lines with their output; an unexpected exit code is an error.

    A line that ends in a backslash is continued on the next one.
    """

    has_content = True
    option_spec = {"exit": directives.nonnegative_int, "head": directives.positive_int}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """Run the lines in the working directory of the page."""
        folder = page_folder(self.env.docname)
        expected = self.options.get("exit", 0)
        shown: list[str] = []
        with contextlib.chdir(folder):
            for text in re.split(r"(?<!\\)\n", "\n".join(self.content)):
                if not text.strip():
                    continue
                output, code = run(text.replace("\\\n", " "))
                if code != expected:
                    raise self.severe(f"{text}: exit code {code}, expected {expected}\n{output}")
                lines = output.rstrip().replace(f"{folder}{os.sep}", SHOWN_FOLDER + "/").split("\n")
                head = self.options.get("head", len(lines))
                shown += ["$ " + text.replace("\n", "\n> "), *lines[:head]]
                shown += ["..."] * (head < len(lines))
                shown += ["$ echo $?", str(code)] * bool(expected)
        block = nodes.literal_block("\n".join(shown), "\n".join(shown), language="console")
        return [block]


class Changes(SphinxDirective):
    """List the changelog fragments by type, in the order of ``[tool.towncrier]``."""

    def run(self) -> list[nodes.Node]:
        """Parse the fragments as reStructuredText, with Markdown code marks converted."""
        root = Path(self.env.srcdir).parent
        settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        found: list[nodes.Node] = []
        for kind in settings["tool"]["towncrier"]["type"]:
            items = nodes.bullet_list()
            for path in sorted((root / "changes").glob(f"*.{kind['directory']}*.md"), key=_number):
                self.env.note_dependency(str(path))
                text = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", path.read_text(encoding="utf-8"))
                item = nodes.list_item()
                lines = StringList(text.strip().splitlines(), source=str(path))
                self.state.nested_parse(lines, 0, item)
                items += item
            if items.children:
                found += [nodes.rubric(kind["name"], kind["name"]), items]
        if not found:
            text = "No changes yet."
            found = [nodes.paragraph(text, text)]
        return found


def _number(path: Path) -> tuple[int, ...]:
    """Issue and counter of a fragment: 11.feature.2.md is after 2.feature.md."""
    return tuple(int(part) for part in path.name.split(".") if part.isdigit())


def with_download(app: Sphinx, page: str, source: list[str]) -> None:
    """Add a link to the file of a notebook to its first cell."""
    path = Path(app.env.doc2path(page))
    if path.suffix == ".ipynb":
        notebook = json.loads(source[0])
        link = f"\n\n{{download}}`Download this notebook <{path.name}>`"
        text = notebook["cells"][0]["source"]
        notebook["cells"][0]["source"] = "".join(text) + link
        source[0] = json.dumps(notebook)


def without_formats(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Remove the table of formats that astropy adds to ``read`` and ``write``: it has one row."""
    for number, line in enumerate(lines):
        if line.startswith("The available built-in formats are"):
            del lines[number:]
            return


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives and event handlers."""
    app.connect("builder-inited", prepare)
    app.connect("build-finished", clean_up)
    app.connect("source-read", with_download)
    app.connect("autodoc-process-docstring", without_formats, priority=400)  # before numpydoc
    app.add_directive("command", Command)
    app.add_directive("changes", Changes)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
