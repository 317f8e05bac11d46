"""The figures of the application on ipympl canvases: the views of the desktop, in a notebook.

The views of `glue_lrs.viewers.canvas` draw all but the pixels of the image, and respond to mouse
and keyboard; here they get their figures. glue-jupyter's viewers for Matplotlib are not used,
because their axes, tools and layers are those that the views replace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ipympl.backend_nbagg import Canvas, FigureManager
from matplotlib.figure import Figure

from glue_lrs.plotting.grey import CMAP, grey_norm
from glue_lrs.plotting.image import add_wavelength_axis
from glue_lrs.plotting.style import NO_DATA
from glue_lrs.viewers.canvas.image_editor import ImageEditor
from glue_lrs.viewers.canvas.profile_editor import ProfileEditor
from glue_lrs.viewers.canvas.spectrum_plot import SpectrumPlot
from glue_lrs.viewers.jupyter.timing import OTHERS_DELAY, Postponed
from glue_lrs.viewers.live.follower import Follower
from glue_lrs.viewers.live.image_layer import shown_box

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from glue_lrs.viewers.canvas.live_view import LiveView
    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Seconds in which changes are collected for one frame. The kernel compresses frames as PNG, which
#: takes longer than all else during a drag; without the delay, moves of the mouse would queue up.
_FRAME_DELAY = 0.02

#: Resolution in CSS pixels per inch of the figures, and font size of the labels of the axes.
_DPI, _LABEL_SIZE = 100.0, 9


class NotebookCanvas(Canvas):
    """Canvas with fewer frames during a drag, and with events in the order that views expect.

    ipympl sends moves of the mouse at most every 33 ms, so that a move before a press may arrive
    after it. It sends a double click after the release of the button, as a press without a release.

    Parameters
    ----------
    figure : `~matplotlib.figure.Figure`
        Figure to draw.
    """

    _pressed = False

    def __init__(self, figure: Figure) -> None:
        super().__init__(figure)
        #: Whether frames may come later, because the mouse drags something on another canvas.
        self.may_wait: Callable[[], bool] = lambda: False
        self._soon = Postponed(self._send_frame, _FRAME_DELAY)
        self._later = Postponed(self._send_frame, OTHERS_DELAY)

    def blit(self, bbox: object = None) -> None:
        """Send the pixels that have changed, once for all changes within a short time."""
        self._png_is_old = True
        (self._later if self.may_wait() else self._soon).request()

    def _send_frame(self) -> None:
        self.manager.refresh_all()

    def close(self) -> None:
        """Close the widget; a frame that waits is not sent."""
        self._soon.cancel()
        self._later.cancel()
        super().close()

    def handle_button_press(self, event: dict[str, Any]) -> None:
        """Handle a press."""
        self._pressed = True
        super().handle_button_press(event)

    def handle_motion_notify(self, event: dict[str, Any]) -> None:
        """Handle a move, unless it was made before the press that has arrived."""
        late = self._pressed and not event["buttons"]
        self._pressed = False
        if not late:
            super().handle_motion_notify(event)

    def handle_dblclick(self, event: dict[str, Any]) -> None:
        """Handle a double click."""
        super().handle_dblclick(event)
        super().handle_button_release({**event, "type": "button_release"})


class CanvasFigure(Follower):
    """Base class for a Matplotlib figure on an ipympl canvas with a view of a live extraction.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction to show.

    Attributes
    ----------
    canvas : NotebookCanvas
        The widget.
    figure, axes : `~matplotlib.figure.Figure`, `~matplotlib.axes.Axes`
        Figure on the canvas, which pyplot does not know, and its axes.
    on_text : callable or None
        Called with a text about the place under the mouse, or with "".
    """

    #: Width and height of the canvas in CSS pixels; users can change them with the mouse.
    size: ClassVar[tuple[float, float]]
    #: Left, right, bottom and top margins of the axes in inches. On the left, ipympl shows its
    #: toolbar while the mouse is on the canvas.
    margins: ClassVar[tuple[float, float, float, float]] = (1.02, 0.12, 0.42, 0.24)

    live: LiveExtraction

    def __init__(self, live: LiveExtraction) -> None:
        self.live = live
        self.on_text: Callable[[str], None] | None = None
        width, height = self.size
        self.figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
        self.canvas = NotebookCanvas(self.figure)
        manager = FigureManager(self.canvas, 0)
        # Matplotlib's own keys: the left arrow would go back in the history of the limits
        self.canvas.mpl_disconnect(manager.key_press_handler_id)
        self.canvas.toolbar.home = self.home
        self.canvas.header_visible = self.canvas.footer_visible = False
        self.canvas.capture_scroll = True  # the wheel zooms, and does not scroll the page
        self.axes: Axes = self.figure.add_subplot()
        self.axes.tick_params(labelsize=_LABEL_SIZE)
        self._fit()
        self.canvas.mpl_connect("resize_event", self._fit)
        self.view = self._make_view()
        for axis in (self.axes.xaxis, self.axes.yaxis):
            axis.label.set_fontsize(_LABEL_SIZE)
        self.view.on_readout = self._report
        self.canvas.may_wait = self._may_wait
        self.home()

    def _make_view(self) -> LiveView:
        """Draw into the axes, and return the view on them."""
        raise NotImplementedError

    def home(self, *_: object) -> None:
        """Show everything, and forget the limits to which the user has zoomed."""
        self.view.reset_limits()
        self.canvas.toolbar.update()

    def close(self) -> None:
        """Disconnect from the extraction, and remove what follows it. The widget stays open."""
        self.unfollow()
        self.view.close()
        self.on_text = None

    def _may_wait(self) -> bool:
        """Return whether the mouse drags something in another figure."""
        return self.view.dragging and not self.view.busy

    def _fit(self, *_: object) -> None:
        """Set the position of the axes, whose margins do not depend on the size of the figure."""
        left, right, bottom, top = self.margins
        width, height = self.figure.get_size_inches()
        size = max(width - left - right, 0.1) / width, max(height - bottom - top, 0.1) / height
        self.axes.set_position((left / width, bottom / height, *size))

    def _report(self, lines: tuple[str, ...]) -> None:
        if self.on_text is not None:
            self.on_text("; ".join(lines))


class ImageCanvas(CanvasFigure):
    """Image, or its residual, with editable regions.

    Attributes
    ----------
    editor : ImageEditor
        Editor of the regions.
    picture, residual : `~matplotlib.image.AxesImage`
        Pixels of the image, and those of the residual above them.
    """

    size = (420.0, 560.0)
    margins = (0.95, 0.52, 0.42, 0.12)

    def _make_view(self) -> ImageEditor:
        live, axes = self.live, self.axes
        axes.set_facecolor(NO_DATA)
        geometry: dict[str, Any] = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
        self._shown = live.shown
        pixels = np.asarray(live.shown.data)
        self.picture = axes.imshow(pixels, cmap=CMAP, norm=grey_norm(live.shown), **geometry)
        self.residual = axes.imshow(np.zeros(pixels.shape), cmap="RdBu_r", **geometry)
        axes.set(xlabel="column [pixel]", ylabel="row [pixel]")
        wavelengths = add_wavelength_axis(axes, live.image)
        wavelengths.tick_params(labelsize=_LABEL_SIZE)
        wavelengths.yaxis.label.set_fontsize(_LABEL_SIZE)
        self.editor = ImageEditor(axes, live)
        self.follow(self._image_changed, "integration", "extraction")
        self.follow(self._residual_changed, "residual_shown", "residual_limit")
        self._residual_changed()
        return self.editor

    def home(self, *_: object) -> None:
        """Show the illuminated part of the image."""
        columns, rows = shown_box(self.live.image)
        self.axes.set(xlim=columns, ylim=rows)
        super().home()

    def _image_changed(self, *_: object) -> None:
        """Draw the pixels again if another image, such as another integration, is shown."""
        if self._shown is not self.live.shown:
            self._shown = self.live.shown
            self.picture.set_data(np.asarray(self._shown.data))
            self.editor.overlay.redraw()

    def _residual_changed(self, *_: object) -> None:
        """Show or hide the residual."""
        live = self.live
        shown = live.residual_shown and live.residual_data is not None
        if shown:
            assert live.residual_data is not None
            self.residual.set_data(live.residual_data["residual"])
            self.residual.set_clim(-live.residual_limit, live.residual_limit)
        self.residual.set_visible(shown)
        self.editor.overlay.redraw()


class SpectrumCanvas(CanvasFigure):
    """Flux against wavelength, with errors; `plot` is its `SpectrumPlot`."""

    size = (560.0, 310.0)
    margins = (1.02, 0.12, 0.42, 0.44)

    def _make_view(self) -> SpectrumPlot:
        self.plot = SpectrumPlot(self.axes, self.live)
        return self.plot

    def _may_wait(self) -> bool:
        """Return False: the spectrum follows each drag."""
        return False


class ProfileCanvas(CanvasFigure):
    """Brightness along the slit, with editable regions; `editor` is its `ProfileEditor`."""

    size = (560.0, 240.0)

    def _make_view(self) -> ProfileEditor:
        self.editor = ProfileEditor(self.axes, self.live)
        return self.editor
