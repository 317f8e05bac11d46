"""The slit profile viewer: profile along the slit at the crosshair, with editable regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from echo.qt import connect_value
from glue.viewers.matplotlib.layer_artist import MatplotlibLayerArtist
from glue.viewers.matplotlib.state import MatplotlibDataViewerState, MatplotlibLayerState
from glue_qt.viewers.matplotlib.data_viewer import MatplotlibDataViewer
from qtpy import QtWidgets

from glue_lrs.viewers.canvas.profile_editor import ProfileEditor
from glue_lrs.viewers.live.viewer import ShowsOneImage, StateWithHome
from glue_lrs.viewers.qt.base import PLOT_TOOLS, HasPointerView

if TYPE_CHECKING:
    from glue.core.roi import Roi
    from glue.core.session import Session

    from glue_lrs.viewers.live.live_extraction import LiveExtraction


class SlitProfileLayerArtist(MatplotlibLayerArtist):
    """Artist for the layer of an image; it draws nothing, because the editor draws the profile."""

    _layer_state_cls = MatplotlibLayerState
    is_computing = False

    def update(self) -> None:
        """Do nothing, because the editor redraws the profile when the extraction changes."""


class SlitProfileState(StateWithHome, MatplotlibDataViewerState):
    """State of the viewer, whose limits are reset by the editor."""


class SlitProfileOptions(QtWidgets.QWidget):
    """Options of the viewer: the number of rows to average."""

    def __init__(self, viewer_state: SlitProfileState, session: Session) -> None:
        super().__init__()
        self.rows = QtWidgets.QSpinBox(minimum=1, maximum=999, singleStep=2, enabled=False)
        QtWidgets.QFormLayout(self).addRow("rows averaged", self.rows)


class SlitProfileViewer(HasPointerView, ShowsOneImage, MatplotlibDataViewer):
    """Viewer for the brightness along the slit, averaged over rows around the crosshair."""

    LABEL = "LRS slit profile"
    _state_cls = SlitProfileState
    _data_artist_cls = SlitProfileLayerArtist
    _subset_artist_cls = SlitProfileLayerArtist
    _options_cls = SlitProfileOptions
    tools = (*PLOT_TOOLS, "window")
    margins = (0.74, 0.12, 0.42, 0.24)

    editor: ProfileEditor | None = None

    def attach(self, live: LiveExtraction) -> None:
        """Draw the profile and the regions, and follow the extraction."""
        self.editor = ProfileEditor(self.axes, live)
        self.editor.on_hint = self.set_status
        self.editor.on_readout = self.status.show_readout
        self.enable_pointer()
        self._home()
        self.state.home = self._home
        self.state.x_axislabel = self.axes.get_xlabel()
        self.state.y_axislabel = self.axes.get_ylabel()
        self.options.rows.setEnabled(True)
        self.options.rows.setMaximum(live.image.shape[0])
        self._rows = connect_value(live, "rows_averaged", self.options.rows)

    def _home(self) -> None:
        """Let the y limits follow the profile, and set the x limits to the illuminated columns."""
        if self.editor is not None and self.live is not None:
            self.editor.reset_limits()
            (left, right), _ = self.live.image.bounding_box
            last = self.live.image.shape[1] - 0.5
            self.axes.set_xlim(max(left - 2, -0.5), min(right + 2, last))

    def detach(self) -> None:
        """Remove the editor."""
        super().detach()
        self._rows.disconnect()

    def apply_roi(self, roi: Roi, override_mode: object = None) -> None:
        """Do nothing, because a region of interest in this viewer does not define a subset."""
