"""JupyterLab in Debian's Chromium, for tests, screenshots and benchmarks with a real mouse."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
from playwright.sync_api import TimeoutError, sync_playwright

ROOT = Path(__file__).parents[2]

#: Names of the browser's program; Debian's package is named chromium.
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

#: Seconds to wait for the server, and for a cell: machines of CI are slow.
_PATIENCE = 120.0

#: Arguments of the browser, which draws with WebGL on machines without a graphics card.
BROWSER = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)

_SETTINGS = (
    "--no-browser",
    "--allow-root",
    "--ServerApp.token=",
    "--ServerApp.password=",
    "--ServerApp.disable_check_xsrf=True",
    "--LabApp.news_url=",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)

#: Bars, buttons and notifications that are no subject of a screenshot.
_STYLE = ".jp-toast-container, .Toastify, #jp-MainLogo { display: none !important; }"


def chromium() -> str:
    """Return the path of the browser, or fail with a line that says what to install."""
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    assert found, (
        "no browser is installed, expected Debian's package chromium: apt install chromium"
    )
    return found


def write_notebook(path: Path, *cells: str) -> None:
    """Write a notebook with cells of Python."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
        metadata={"kernelspec": kernel},
    )
    nbformat.write(made, path)


def free_port() -> int:
    """Return a port of this machine that no program uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run a server of JupyterLab in a folder, with the package of this folder in the kernels."""
    chromium()  # fail before anything is started
    port = free_port()
    settings = folder / ".jupyter"
    directories = {f"JUPYTER_{name}_DIR": str(settings) for name in ("CONFIG", "RUNTIME", "DATA")}
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "jupyterlab", *_SETTINGS, f"--port={port}"]
    command.append("--ServerApp.port_retries=0")  # the port is part of the address
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*command, f"--ServerApp.root_dir={folder}"],
            env={**os.environ, **directories, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(f"http://127.0.0.1:{port}/api/status", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(30.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            urlopen(url).close()
        except URLError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server of JupyterLab does not answer: see server.log")


#: Whether the cells have prompts, and their kernel is connected.
_READY = """() => {
    const prompt = document.querySelector(".jp-CodeCell .jp-InputPrompt");
    const status = document.querySelector(".jp-Notebook-ExecutionIndicator");
    return prompt?.innerText.includes("[") && status?.dataset.status === "idle";
}"""

#: Prompt of a cell. It is sought each time, because JupyterLab makes it anew.
_PROMPT = """number => document.querySelectorAll(".jp-Notebook .jp-CodeCell")[number]
    .querySelector(".jp-InputPrompt").innerText"""
_STARTED = f"([number, before]) => ({_PROMPT})(number) != before"
_FINISHED = f"([number, before]) => /\\d/.test(({_PROMPT})(number))"

#: Seconds after which a cell that has not started is run again: JupyterLab may still be loading.
_START = 10.0


class Notebook:
    """A notebook that is open in a browser.

    Parameters
    ----------
    page : playwright Page
        Page of the browser.
    url : str
        Address of the notebook.
    """

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        page.set_default_timeout(1000.0 * _PATIENCE)
        page.goto(url)
        page.add_style_tag(content=_STYLE)
        self.cells = page.locator(".jp-Notebook .jp-CodeCell")
        self.cells.first.wait_for()
        page.wait_for_function(_READY)  # JupyterLab ignores what is run before

    def run(self, number: int) -> str:
        """Run a cell, wait until it has finished, and return what it has printed."""
        cell = self.cells.nth(number)
        state = [number, self.page.evaluate(_PROMPT, number)]
        end = time.monotonic() + _PATIENCE
        started = False
        while not started and time.monotonic() < end:
            cell.locator(".cm-content").click()
            self.page.keyboard.press("Control+Enter")
            with suppress(TimeoutError):
                self.page.wait_for_function(_STARTED, arg=state, timeout=1000.0 * _START)
                started = True
        self.page.wait_for_function(_FINISHED, arg=state)
        texts = cell.locator(".jp-OutputArea-output pre")
        return "\n".join(texts.nth(index).inner_text() for index in range(texts.count()))

    def type(self, number: int, code: str) -> None:
        """Replace the code of a cell."""
        self.cells.nth(number).locator(".cm-content").fill(code)

    def axes(self, number: int) -> dict[str, float]:
        """Return the position and the size of the axes of a figure on the page."""
        return self._box(".bqplot .plotarea_events", number)

    def canvas(self, number: int) -> dict[str, float]:
        """Return the position and the size of a canvas of ipympl on the page."""
        return self._box(".jupyter-matplotlib-canvas-div", number)

    def _box(self, selector: str, number: int) -> dict[str, float]:
        part = self.page.locator(selector).nth(number)
        part.wait_for()
        part.scroll_into_view_if_needed()
        box = part.bounding_box()
        assert box is not None
        return dict(box)

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 8) -> None:
        """Drag with the left button between two positions on the page."""
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move(*end, steps=steps)
        mouse.up()


@contextmanager
def notebook(url: str, name: str, width: int = 1200, height: int = 1100) -> Iterator[Notebook]:
    """Open a notebook of a server in a browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*BROWSER])
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            yield Notebook(page, f"{url}/doc/tree/{name}")
        finally:
            browser.close()
