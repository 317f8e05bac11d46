"""Base class for viewers in notebooks that follow the live extraction of their data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from echo import SelectionCallbackProperty
from glue_jupyter.utils import get_ioloop
from ipywidgets import Widget

from glue_lrs.errors import LRSError
from glue_lrs.viewers.jupyter.widgets import close_widgets, widget_tree, widgets_of
from glue_lrs.viewers.live.viewer import ExtractionViewer

if TYPE_CHECKING:
    from asyncio import TimerHandle

#: Seconds after which limits that the user has changed in the browser become those of the state.
_DELAY = 0.5


class NotebookViewer(ExtractionViewer):
    """Mixin for viewers of glue-jupyter that follow the live extraction of their data."""

    #: The mouse edits regions while no tool is active; glue-jupyter would move selections.
    _default_mouse_mode_cls = None
    figure: Any
    scales: dict[str, Any]
    scale_x: Any
    scale_y: Any

    toolbar: Any

    #: Whether `close` was called.
    closed = False
    _timer: TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.figure.layout.width = "100%"
        self.figure.layout.min_width = "200px"

    def show_error(self, text: str) -> None:
        """Raise an `LRSError`, which the cell displays in one line.

        A viewer that is not yet part of the application is closed.
        """
        if self not in self.session.application.viewers:
            self.close()
        raise LRSError(text)

    def update_glue_scales(self, *_: object) -> None:
        """Make the limits in the browser those of the state, when they have settled.

        This replaces a method of glue-jupyter that keeps each viewer in memory for ever.
        """
        loop = get_ioloop()
        if self._timer is not None:
            self._timer.cancel()
        if loop is not None:
            self._timer = loop.call_later(_DELAY, self._limits_settled)

    def _limits_settled(self) -> None:
        self._timer = None
        x, y = self.scale_x, self.scale_y
        limits = {"x_min": x.min, "x_max": x.max, "y_min": y.min, "y_max": y.max}
        self.state.update_from_dict({**self.state.as_dict(), **limits})

    def close(self, warn: bool = True) -> None:
        """Disconnect the viewer from the extraction and from glue, and close its widgets.

        glue passes `warn` for the desktop application, which asks; a notebook does not.
        """
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        made = self._own_widgets()
        self.leave_live()
        states = [self.state, *(artist.state for artist in self.layers)]  # type: ignore[attr-defined]
        self.cleanup()  # type: ignore[attr-defined]
        for state in states:  # functions of glue would keep the viewer and its data in memory
            state.clear_callbacks()
            for _, one in state.iter_callback_properties():
                if isinstance(one, SelectionCallbackProperty):
                    one.set_display_func(state, None)
        self.state.layers = []
        close_widgets(made)

    def _own_widgets(self) -> list[Widget]:
        """Return the widgets of this viewer, without those that viewers share."""
        shared = set[Widget]()
        list(widget_tree(widgets_of(self.session.application), shared))
        roots = [vars(tool) for tool in self.toolbar.tools.values()]
        names = ("figure", "layout", "toolbar", "viewer_options", "layer_options", "output_widget")
        roots += [getattr(self, name) for name in names]
        roots.append(getattr(self, "_vl", None))  # of an image: it reports the size of the figure
        return list(widget_tree(roots, shared))
