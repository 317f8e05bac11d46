"""CachedText looks like the text of Matplotlib."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from glue_lrs.viewers.canvas.cached_text import CachedText

TEXT = "edges 26.50 .. 34.50"


def ink(*texts: Text, dpi: int = 100) -> np.ndarray:
    """Darkness of a figure with texts on it, 0 to 1."""
    figure = Figure(figsize=(4, 2), dpi=dpi)
    canvas = FigureCanvasAgg(figure)
    for text in texts:
        figure.add_artist(text)
    canvas.draw()
    return 1.0 - np.asarray(canvas.buffer_rgba())[..., 0] / 255.0


@pytest.mark.parametrize("dpi", [72, 100, 200])
@pytest.mark.parametrize("text", [TEXT, "row 193, 10.800 µm:  3.93 ± 0.49 µJy"])
def test_text_is_as_long_and_dark_as_that_of_matplotlib(text: str, dpi: int) -> None:
    quick = ink(CachedText(0.1, 0.5, text, fontsize=9), dpi=dpi)
    plain = ink(Text(0.1, 0.5, text, fontsize=9), dpi=dpi)
    assert quick.sum() == pytest.approx(plain.sum(), rel=0.05)
    spans = [np.ptp(np.flatnonzero(one.any(axis=0))) for one in (quick, plain)]
    assert spans[0] == pytest.approx(spans[1], rel=0.03)
    tall = [np.ptp(np.flatnonzero(one.any(axis=1))) for one in (quick, plain)]
    assert tall[0] == pytest.approx(tall[1], abs=1)


@pytest.mark.parametrize("ha", ["left", "center", "right"])
@pytest.mark.parametrize("va", ["bottom", "center", "top"])
def test_the_box_is_where_it_is_put(ha: str, va: str) -> None:
    text = CachedText(0.5, 0.5, TEXT, fontsize=9, ha=ha, va=va, edge="black")
    found = ink(text)[::-1]
    width, height = text.size(100)
    columns, rows = (np.flatnonzero(found.any(axis=axis)) for axis in (0, 1))
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (width, height)
    left = 200 - {"left": 0, "center": width / 2, "right": width}[ha]
    bottom = 100 - {"bottom": 0, "center": height / 2, "top": height}[va]
    assert (columns[0], rows[0]) == pytest.approx((left, bottom), abs=1)


def test_lines_go_down() -> None:
    one, two = (ink(CachedText(0.1, 0.9, text, va="top")) for text in ("o\n", "\no"))
    assert np.flatnonzero(one.any(axis=1))[0] < np.flatnonzero(two.any(axis=1))[0]
    assert ink(CachedText(0.1, 0.5, "")).sum() == 0


def test_vector_formats_have_text(tmp_path: Path) -> None:
    figure = Figure()
    figure.add_artist(CachedText(0.1, 0.5, TEXT, color="#D55E00"))
    figure.savefig(tmp_path / "a.svg")
    assert "<image" not in (tmp_path / "a.svg").read_text()
