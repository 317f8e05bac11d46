"""Widgets that contain others, and their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def widget_tree(widget: Any, seen: set[widgets.Widget]) -> Iterator[widgets.Widget]:
    """Yield the open widgets in a widget or a collection, innermost first, except those in `seen`.

    They are added to `seen`.
    """
    if isinstance(widget, dict):
        widget = list(widget.values())
    if isinstance(widget, list | tuple):
        for one in widget:
            yield from widget_tree(one, seen)
    elif isinstance(widget, widgets.Widget) and widget not in seen and widget.comm is not None:
        seen.add(widget)
        for name in widget.keys:
            if name != "template" and not name.startswith("_"):  # shared by all widgets of a class
                yield from widget_tree(getattr(widget, name), seen)
        yield widget


def widgets_of(glue: object) -> list[widgets.Widget]:
    """Return the widgets that an application of glue-jupyter makes, which its viewers share."""
    names = ("widget", "widget_subset_select", "widget_subset_mode", "widget_data_collection")
    return [getattr(glue, name, None) for name in names]


def close_widgets(closing: Iterable[widgets.Widget]) -> None:
    """Close widgets, and remove their observers."""
    for widget in list(closing):
        widget.unobserve_all()
        widget.close()
