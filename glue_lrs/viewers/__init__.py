"""Viewers for glue. Only the modules in `glue_lrs.viewers.qt` depend on a GUI toolkit."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.open import open_extraction
    from glue_lrs.viewers.live.registry import live_for

_MODULES = {
    "LiveExtraction": "live_extraction",
    "live_for": "registry",
    "open_extraction": "open",
}

__all__ = ["LiveExtraction", "live_for", "open_extraction"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:  # imported at first use, because the import of glue is slow
        return getattr(import_module(f"glue_lrs.viewers.live.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
