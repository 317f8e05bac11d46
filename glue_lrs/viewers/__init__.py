"""The glue viewers: what they share, without any toolkit. `qt` and `jupyter` are thin shells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glue_lrs.viewers.live import LiveExtraction, live_for, open_extraction

__all__ = ["LiveExtraction", "live_for", "open_extraction"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # glue is imported when something of it is asked for
        from glue_lrs.viewers import live

        return getattr(live, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
