"""The slit profile viewer: profile across the slit at the crosshair, with editable regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from glue.viewers.matplotlib.layer_artist import MatplotlibLayerArtist
from glue.viewers.matplotlib.state import MatplotlibDataViewerState, MatplotlibLayerState
from glue_qt.viewers.matplotlib.data_viewer import MatplotlibDataViewer
from qtpy import QtWidgets

from glue_lrs.viewers.canvas.profile_editor import ProfileEditor
from glue_lrs.viewers.qt.base import SUBTOOLS, HasPointerView, ShowsOneImage

if TYPE_CHECKING:
    from collections.abc import Callable

    from glue_lrs.viewers.live.live_extraction import LiveExtraction


class SlitProfileLayerArtist(MatplotlibLayerArtist):
    """Artist for the layer of an image; it draws nothing, because the editor draws the profile."""

    _layer_state_cls = MatplotlibLayerState
    is_computing = False

    def update(self) -> None:
        """Do nothing, because the editor follows the extraction itself."""


class SlitProfileState(MatplotlibDataViewerState):
    """State of the viewer, whose limits are reset by the editor."""

    #: Function that resets the limits; None without an extraction.
    home: Callable[[], None] | None = None

    def reset_limits(self) -> None:
        """Reset the limits of the axes."""
        if self.home is not None:
            self.home()


class SlitProfileOptions(QtWidgets.QWidget):
    """Options of the viewer: the number of rows to average."""

    def __init__(self, viewer_state: Any, session: Any) -> None:
        super().__init__()
        self.rows = QtWidgets.QSpinBox()
        self.rows.setRange(1, 999)
        self.rows.setSingleStep(2)
        self.rows.setEnabled(False)
        layout = QtWidgets.QFormLayout(self)
        layout.addRow("rows averaged", self.rows)


class SlitProfileViewer(HasPointerView, ShowsOneImage, MatplotlibDataViewer):
    """Viewer for the flux across the slit, averaged over rows around the crosshair."""

    LABEL = "LRS slit profile"
    _state_cls = SlitProfileState
    _data_artist_cls = SlitProfileLayerArtist
    _subset_artist_cls = SlitProfileLayerArtist
    _options_cls = SlitProfileOptions
    inherit_tools = False
    tools: ClassVar[list[str]] = ["save", "mpl:home", "mpl:pan", "mpl:zoom", "window"]
    subtools: ClassVar[dict[str, list[str]]] = SUBTOOLS

    editor: ProfileEditor | None = None

    def __init__(self, session: Any, parent: Any = None, state: Any = None) -> None:
        super().__init__(session, parent=parent, state=state)
        self.mpl_widget.canvas.setMinimumSize(240, 160)  # glue fails on axes of zero size
        self.axes.resizer.margins = [0.7, 0.12, 0.42, 0.12]
        self.axes.resizer.on_resize(None)
        self.state.x_axislabel_size = self.state.y_axislabel_size = 9
        self.state.x_ticklabel_size = self.state.y_ticklabel_size = 9

    @property
    def pointer_view(self) -> ProfileEditor | None:
        """Editor that draws the profile and the regions, or None."""
        return self.editor

    def attach(self, live: LiveExtraction) -> None:
        """Draw the profile and the regions, and follow the extraction."""
        self.editor = ProfileEditor(self.axes, live)
        self.editor.on_hint = self.set_status
        self.enable_pointer()
        self._home()
        self.state.home = self._home
        self.state.x_axislabel = self.axes.get_xlabel()
        self.state.y_axislabel = self.axes.get_ylabel()
        self.options.rows.setEnabled(True)
        self.options.rows.setMaximum(live.image.shape[0])
        self.options.rows.setValue(live.rows_averaged)
        self.options.rows.valueChanged.connect(self._set_rows)
        self.follow("rows_averaged", self._show_rows)

    def _home(self) -> None:
        """Set the limits to the illuminated columns, for example those of the slit."""
        if self.editor is not None and self.live is not None:
            self.editor.reset_limits()
            (left, right), _ = self.live.image.bounding_box
            last = self.live.image.shape[1] - 0.5
            self.axes.set_xlim(max(left - 2, -0.5), min(right + 2, last))

    def detach(self) -> None:
        """Remove the editor."""
        self.state.home = None
        if self.editor is not None:
            self.editor.on_hint = None
            self.editor.close()
            self.editor = None
        self.options.rows.valueChanged.disconnect(self._set_rows)

    def _set_rows(self, number: int) -> None:
        if self.live is not None:
            self.live.rows_averaged = number

    def _show_rows(self, number: int) -> None:
        if self.options.rows.value() != number:
            self.options.rows.setValue(number)

    def apply_roi(self, roi: Any, override_mode: Any = None) -> None:
        """Do nothing, because a region of interest in this viewer does not define a subset."""
