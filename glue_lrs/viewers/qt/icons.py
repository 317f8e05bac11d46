"""Icons of our tools, drawn in SVG files beside this module."""

from __future__ import annotations

from pathlib import Path

__all__ = ["icon"]

_FOLDER = Path(__file__).parent / "icons"


def icon(name: str) -> str:
    """Path of an icon's file."""
    return str(_FOLDER / f"{name}.svg")
