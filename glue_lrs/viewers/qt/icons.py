"""Icons for the tools: SVG files in the folder ``icons``."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "icons"


def icon(name: str) -> str:
    """Return the path of the file with an icon."""
    return str(_FOLDER / f"{name}.svg")
