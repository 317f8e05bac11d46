"""Group in the extraction panel for the method of extraction and the aperture correction."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy import QtWidgets
from qtpy.QtCore import Qt

from glue_lrs.viewers.live.tooltips import CORRECTIONS, METHODS
from glue_lrs.viewers.qt.panel import widgets
from glue_lrs.viewers.qt.panel.groups import PanelGroup
from glue_lrs.viewers.qt.panel.widgets import FITS_FILES, push_button

if TYPE_CHECKING:
    from collections.abc import Callable

    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.viewers.qt.panel.actions import PanelActions

_METHOD_HINT = (
    "Sum of the pixels in the aperture, or fit of the profile of a point source. A profile is "
    "fitted to the image, or given by a PSF reference; 'as the pipeline' has the defects of the "
    "pipeline's algorithm"
)
_CORRECTION_HINT = (
    "Correction of a point source for the flux outside the aperture: that of the APCORR reference "
    "for the width of the aperture, as in the pipeline, or that of the source's profile at the "
    "measured position, which includes bad pixels"
)


class MethodGroup(PanelGroup):
    """Method of extraction, aperture correction and its size, and reference files."""

    def __init__(self, panel: PanelActions) -> None:
        super().__init__("Extraction and aperture correction", panel)
        actions = self.live.actions
        self._shown: tuple[object, Extraction | None] | None = None
        self.method = widgets.choice_box(METHODS, _METHOD_HINT)
        self.correction = widgets.choice_box(CORRECTIONS, _CORRECTION_HINT)
        for text, box, function in (
            ("method", self.method, actions.set_method),
            ("correction", self.correction, actions.set_correction),
        ):
            self.on_edit(box.activated, partial(self._choose, box, function))
            self.add_row(QtWidgets.QLabel(text), box, wide=box)
        self.size = widgets.LinesLabel(2, toolTip="Size of the aperture correction")
        self.column.addWidget(self.size)
        self.apcorr, self.no_apcorr_button = self._file_row(
            "APCORR", "Load an APCORR reference", self.live.load_apcorr
        )
        self.psf, self.no_psf_button = self._file_row(
            "PSF", "Load a PSF reference", actions.load_psf
        )

    def _file_row(
        self, text: str, title: str, load: Callable[[str | None], object]
    ) -> tuple[widgets.ElidedLabel, QtWidgets.QPushButton]:
        """Add a row with the name of a reference file and buttons to change it."""
        label = widgets.ElidedLabel()
        none = push_button("None", lambda: self.panel.run_slow(partial(load, None)))
        self.add_row(
            QtWidgets.QLabel(text),
            label,
            self.load_button("File…", title, FITS_FILES, load),
            none,
            wide=label,
        )
        return label, none

    def _choose(self, box: QtWidgets.QComboBox, function: Callable[[str], object], _: int) -> None:
        self.panel.run_slow(partial(function, box.currentData()))
        self.panel.refresh_soon()

    def refresh(self) -> None:
        """Show method, correction with its size, and the names of the files."""
        operator = self.live.operator
        box = operator.mode == "box"
        self.method.setCurrentIndex(self.method.findData(operator.mode))
        for name in ("psf", "pipeline"):
            self._enable(self.method, name, operator.psf is not None)
        choice = operator.correction if operator.apply_apcorr else "none"
        self.correction.setCurrentIndex(self.correction.findData(choice))
        self._enable(self.correction, "profile", box)
        for label, button, used in (
            (self.apcorr, self.no_apcorr_button, operator.aperture_correction),
            (self.psf, self.no_psf_button, operator.psf),
        ):
            filename = "none"
            if used is not None:
                filename = Path(str(used.filename)).name if used.filename else "given"
            label.setText(filename)
            button.setEnabled(used is not None)
        shown = operator, self.live.extraction
        if operator is self.live.extract and shown != self._shown:  # not during a drag
            self._shown = shown
            text = self.live.correction_text()
            self.size.setText(text)
            self.size.setToolTip(widgets.plain(text))

    @staticmethod
    def _enable(box: QtWidgets.QComboBox, value: str, enabled: bool) -> None:
        """Enable or disable a choice."""
        index = box.findData(value)
        flags = Qt.ItemIsEnabled | Qt.ItemIsSelectable if enabled else Qt.NoItemFlags
        box.model().item(index).setFlags(flags)
