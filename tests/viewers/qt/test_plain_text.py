"""Names and messages appear as they are, even if they look like HTML or a formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt

from glue_lrs.errors import LRSError
from glue_lrs.viewers.datasets.session_meta import file_label
from glue_lrs.viewers.qt.panel.widgets import PlainLabel, plain
from tests.helpers.pointer import Tab, settle

HTML = "<b>bold</b> & <img src='file:///etc/hostname'> $x^2$"


def test_labels_show_html_as_text(live: Any, tab: Tab, panel: Any, tmp_path: Path) -> None:
    path = tmp_path / "<b>a $x^2$_x1d.fits"
    live.extract.run(live.image).write(path)
    assert panel.run(live.load_comparison, str(path))
    settle(0.3)
    panel.report(str(LRSError("found nothing", subject=f"{HTML}\n\x1b[31m")))
    labels = panel.findChildren(PlainLabel)
    shown = [label for label in labels if "&lt;b&gt;" in label.toolTip()]
    assert len(shown) == 1  # the name of the comparison
    assert all("<b>" not in label.toolTip() for label in labels)
    assert all(label.textFormat() == Qt.PlainText for label in labels)
    text = rf"{HTML}\n\u001b[31m: found nothing"
    assert panel.message.view.lines[0].text == text
    assert text in panel.message.view.toPlainText()
    assert "<b>bold" not in panel.message.view.toHtml()
    drawn = [text.get_text() for text in tab.spectrum.axes.get_legend().get_texts()]
    assert any("<b>" in text for text in drawn)
    assert all("$" not in text.replace(r"\$", "") for text in drawn)


def test_every_label_with_text_from_files_is_plain(panel: Any) -> None:
    groups = {"source_label", "measured_label", "apcorr", "psf", "label"}
    found = [
        widget
        for group in panel.children()
        for name in groups
        if (widget := getattr(group, name, None)) is not None
    ]
    assert len(found) >= 4
    assert all(isinstance(widget, PlainLabel) for widget in found)
    assert all(widget.textFormat() == Qt.PlainText for widget in found)


def test_tool_tips_without_html_are_unchanged() -> None:
    assert plain("3 > 2 & µ") == "3 > 2 & µ"
    assert plain("a < b") == "<qt>a &lt; b</qt>"


def test_labels_of_datasets() -> None:
    name = "a\x1b[31m\nb‮_s2d.fits"
    assert file_label(f"/tmp/{name}") == r"a\u001b[31m\nb\u202e_s2d"
