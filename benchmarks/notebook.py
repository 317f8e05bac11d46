"""Latency of the notebook, from a move of the mouse to the new line of the spectrum in the browser.

JupyterLab in Chromium receives real moves of the mouse while an edge of the aperture is dragged.
The time ends when the path of the spectrum changes, or with ipympl, when its picture is drawn. For
comparison, the same moves are made on a viewer of glue-jupyter with a function that changes a line
of as many points, and nothing else.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from glue_lrs.simulation.scene import Scene
from tests.helpers.lab import notebook, server, write_notebook

if TYPE_CHECKING:
    from tests.helpers.lab import Notebook

OURS = """import glue_lrs
app = glue_lrs.viewers.extraction_app("x_s2d.fits")
app.spectrum_viewer.line.stroke_width = 7.0"""

IPYMPL = """import glue_lrs
app = glue_lrs.viewers.extraction_app("x_s2d.fits", backend="ipympl")"""

BARE = """import numpy as np
from bqplot import Lines
from glue_jupyter import jglue
from glue_jupyter.bqplot.image import BqplotImageView

app = jglue(image=np.random.normal(size=(388, 63)))
viewer = app.new_data_viewer(BqplotImageView, data=app.data_collection[0])
x = np.linspace(0.0, 60.0, 388)
line = Lines(x=x, y=x, scales=viewer.scales, stroke_width=7.0)
viewer.figure.marks = [*viewer.figure.marks, line]

def moved(event):
    line.y = np.full(388, event["domain"]["y"]) + x * event["domain"]["x"]

viewer.add_event_callback(moved, events=["dragstart", "dragmove", "dragend"])"""

#: Time of the last move, and time until the next change of the path of the thick line.
WATCH = """() => {
  window.times = [];
  window.addEventListener("mousemove", () => { window.moved = performance.now(); }, true);
  const thick = one => parseFloat(one.target.style.strokeWidth) === 7;
  new MutationObserver(records => {
    if (window.moved && records.some(thick)) {
      window.times.push(performance.now() - window.moved);
      window.moved = 0;
    }
  }).observe(document.body, {subtree: true, attributes: true, attributeFilter: ["d"]});
}"""


#: The same for the picture of the second canvas, on which ipympl draws the spectrum.
WATCH_CANVAS = """() => {
  window.times = [];
  window.addEventListener("mousemove", () => { window.moved = performance.now(); }, true);
  const spectrum = document.querySelectorAll(".jupyter-matplotlib-canvas-div")[1];
  const draw = CanvasRenderingContext2D.prototype.drawImage;
  CanvasRenderingContext2D.prototype.drawImage = function (...parts) {
    if (window.moved && spectrum.contains(this.canvas)) {
      window.times.push(performance.now() - window.moved);
      window.moved = 0;
    }
    return draw.apply(this, parts);
  };
}"""


def benchmark_notebook(folder: Path, repeat: int) -> None:
    """Print the latencies of the application, and of a bare viewer of glue-jupyter."""
    Scene(seed=1, bad_fraction=0.001).combined().image.write(folder / "x_s2d.fits")
    write_notebook(folder / "ours.ipynb", OURS)
    write_notebook(folder / "ipympl.ipynb", IPYMPL)
    write_notebook(folder / "bare.ipynb", BARE)
    print("Mouse move to new line data (milliseconds: median, 95%), JupyterLab in Chromium")
    medians = []
    with server(folder) as url:
        for label, name, start, watch in (
            ("extraction_app, s2d 388x63", "ours.ipynb", (36.0 / 65.0, 0.3), WATCH),
            ("the same with ipympl", "ipympl.ipynb", (246.0 / 420.0, 0.3), WATCH_CANVAS),
            ("bare glue-jupyter", "bare.ipynb", (0.5, 0.5), WATCH),
        ):
            with notebook(url, name) as page:
                page.run(0)
                box = page.canvas(0) if watch is WATCH_CANVAS else page.axes(0)
                times = _latencies(page, box, start, watch, repeat)
            medians.append(statistics.median(times))
            print(f"  {label:28s} {medians[-1]:6.1f} {statistics.quantiles(times, n=20)[-1]:6.1f}")
    print(f"  ratios to the last {medians[0] / medians[2]:.2f} {medians[1] / medians[2]:.2f}")


def _latencies(
    page: Notebook, box: dict[str, float], start: tuple[float, float], watch: str, repeat: int
) -> list[float]:
    """Drag to and fro, one move at a time, and return the time until each new line."""
    page.page.wait_for_timeout(3000.0)  # until the figures are drawn
    x, y = (box[a] + f * box[s] for a, s, f in zip("xy", ("width", "height"), start, strict=True))
    page.page.evaluate(watch)
    mouse = page.page.mouse
    mouse.move(x, y)
    mouse.down()
    for step in range(repeat):
        mouse.move(x + 3.0 * (1 + step % 8), y)
        page.page.wait_for_function("number => window.times.length > number", arg=step)
    mouse.up()
    return [float(one) for one in page.page.evaluate("window.times")][2:]
