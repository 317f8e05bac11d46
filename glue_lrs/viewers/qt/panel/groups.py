"""Groups of widgets in the extraction panel."""

from __future__ import annotations

import html
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy import QtGui, QtWidgets
from qtpy.QtCore import Qt

from glue_lrs.errors import LRSError
from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.viewers.live.messages import panel_text
from glue_lrs.viewers.qt.panel.widgets import (
    ElidedLabel,
    SmoothingBox,
    number_box,
    odd_length,
    push_button,
    show_value,
)
from glue_lrs.viewers.qt.tooltips import (
    BEST_WIDTH_HINT,
    RESIDUAL_HINT,
    THREE_FWHM_HINT,
    TO_SOURCE_HINT,
)

if TYPE_CHECKING:
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.qt.panel.actions import PanelActions
    from glue_lrs.viewers.qt.panel.files import FileDialogs

_FITS = (("polynomial", "poly"), ("median", "median"))

_FIGURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".eps")

_MEASURE_HINT = "Measure position and width of the source, and the aperture of best signal to noise"


class PanelGroup(QtWidgets.QGroupBox):
    """Group of widgets that shows a part of a live extraction and changes it.

    Parameters
    ----------
    title : str
        Title of the group.
    actions : PanelActions
        Object that calls methods of the extraction for the widgets.
    """

    def __init__(self, title: str, actions: PanelActions) -> None:
        super().__init__(title)
        self.actions = actions
        self.live: LiveExtraction = actions.live
        self.column = QtWidgets.QVBoxLayout(self)
        self.column.setContentsMargins(6, 4, 6, 6)
        self.column.setSpacing(4)

    def add_row(
        self,
        *widgets: QtWidgets.QWidget,
        wide: QtWidgets.QWidget | None = None,
        stretch: bool = False,
    ) -> None:
        """Add a row of widgets; `wide`, or with `stretch` a blank, gets the free width."""
        row = QtWidgets.QHBoxLayout()
        for widget in widgets:
            row.addWidget(widget, int(widget is wide))
        if stretch:
            row.addStretch(1)
        self.column.addLayout(row)

    def refresh(self) -> None:
        """Show the current state of the extraction."""


class BackgroundGroup(PanelGroup):
    """Settings for the fit of the background."""

    def __init__(self, actions: PanelActions) -> None:
        super().__init__("Background", actions)
        self.subtract = QtWidgets.QCheckBox("subtract")
        self.subtract.toggled.connect(self._set_subtract)
        self.fit = QtWidgets.QComboBox()
        for label, value in _FITS:
            self.fit.addItem(label, value)
        self.fit.activated.connect(lambda _: self._set(bkg_fit=self.fit.currentData()))
        self.order = QtWidgets.QSpinBox()
        self.order.setRange(0, 9)
        self.order.setPrefix("order ")
        self.order.setToolTip("Order of the polynomial across the slit; 0 is the mean")
        self.order.valueChanged.connect(lambda value: self._set(bkg_order=value))
        self.add_row(self.subtract, self.fit, self.order, stretch=True)
        self.smoothing = SmoothingBox()
        self.smoothing.setToolTip("Rows of a running mean along the dispersion, before the fit")
        self.smoothing.valueChanged.connect(
            lambda value: self._set(smoothing_length=odd_length(value))
        )
        self.add_row(QtWidgets.QLabel("smoothing"), self.smoothing, stretch=True)

    def refresh(self) -> None:
        """Show the settings of the background."""
        background = self.live.operator.background
        present = background is not None
        self.subtract.setEnabled(present)
        self.subtract.setChecked(present and self.live.operator.subtract_background is not False)
        self.subtract.setToolTip("" if present else "There is no background region yet")
        for widget in (self.fit, self.order, self.smoothing):
            widget.setEnabled(present)
        if background is not None:
            self.fit.setCurrentIndex(max(self.fit.findData(background.bkg_fit), 0))
            self.order.setEnabled(background.bkg_fit == "poly")
            show_value(self.order, background.bkg_order)
            show_value(self.smoothing, background.smoothing_length)

    def _set_subtract(self, on: bool) -> None:
        if not self.actions.filling:
            operator = replace(self.live.extract, subtract_background=None if on else False)
            self.actions.run(self.live.set, operator, "subtract the background")

    def _set(self, **changes: Any) -> None:
        background = self.live.extract.background
        if self.actions.filling or background is None:
            return
        try:
            operator = replace(self.live.extract, background=replace(background, **changes))
        except LRSError as error:
            self.actions.report(panel_text(error), error=True)
            return
        self.actions.run(self.live.set, operator, "fit the background")
        self.actions.refresh_soon()


class PositionGroup(PanelGroup):
    """Position of the aperture, measurement of the source, and aperture correction."""

    def __init__(self, actions: PanelActions, files: FileDialogs) -> None:
        super().__init__("Position and correction", actions)
        live = self.live
        self._files = files
        self._expected = expected_position(live.image)
        self._shown_measurement: tuple[Any, float] | None = None
        self.offset = number_box(-500.0, 500.0, 0.1, 2)
        self.offset.setToolTip("Columns that aperture and background are moved by")
        self.offset.valueChanged.connect(self._set_offset)
        self.add_row(QtWidgets.QLabel("offset [pixel]"), self.offset, stretch=True)
        self.source_label = QtWidgets.QLabel()
        self.source_label.setWordWrap(True)
        self.source_label.setToolTip("Where the header and the WCS put the source")
        self.column.addWidget(self.source_label)
        self.measured_label = QtWidgets.QLabel()
        self.measured_label.setWordWrap(True)
        self.measured_label.setTextInteractionFlags(Qt.TextSelectableByMouse)
        self.measure_button = push_button("Measure", self._measure, _MEASURE_HINT)
        self.add_row(self.measured_label, self.measure_button, wide=self.measured_label)
        self.add_row(
            push_button("To the source", lambda: actions.run_slow(live.to_source), TO_SOURCE_HINT),
            push_button("3 × FWHM", lambda: actions.run_slow(live.three_fwhm), THREE_FWHM_HINT),
            push_button("Best S/N", lambda: actions.run_slow(live.best_width), BEST_WIDTH_HINT),
        )
        self.residual_button = push_button("Residual", self._toggle_residual, RESIDUAL_HINT)
        self.residual_button.setCheckable(True)
        self.add_row(
            push_button(
                "Default",
                lambda: actions.run(live.default),
                "The default aperture of this kind of file",
            ),
            push_button("Load JSON…", self._load_reference, "Load an EXTRACT1D reference"),
            self.residual_button,
        )
        self.apcorr = ElidedLabel()
        self.no_apcorr_button = push_button("None", lambda: actions.run(live.load_apcorr, None))
        self.add_row(
            QtWidgets.QLabel("apcorr"),
            self.apcorr,
            push_button("File…", self._load_apcorr, "Load an APCORR reference"),
            self.no_apcorr_button,
            wide=self.apcorr,
        )

    def refresh(self) -> None:
        """Show the offset, the positions of the source and the aperture correction."""
        show_value(self.offset, self.live.operator.position_offset)
        self._show_expected_position()
        self._show_measurement()
        self.residual_button.setChecked(bool(self.live.residual_shown))
        correction = self.live.operator.aperture_correction
        filename = "none"
        if correction is not None:
            filename = Path(str(correction.filename)).name if correction.filename else "given"
        self.apcorr.setText(filename)
        self.no_apcorr_button.setEnabled(correction is not None)

    def _show_expected_position(self) -> None:
        """Show the position of the source from the header, and the aperture relative to it."""
        found = self._expected
        apertures = [region for region in self.live.regions if region.kind == "aperture"]
        if not isinstance(found, SourcePosition) or not apertures:
            self.source_label.setText("the header gives no position of the source")
            return
        at = self.live.rows[found.row], self.live.row_wavelength[found.row]
        lower, upper = (float(edge) for edge in apertures[0].at(*at))
        offset = round((lower + upper) / 2.0 - found.column, 2) + 0.0  # changes -0.0 to 0.0
        self.source_label.setText(
            f"header: column {found.column:.2f}, aperture {offset:+.2f} from it"
        )

    def _show_measurement(self) -> None:
        """Show the measurement and the FWHM at the crosshair, if either has changed."""
        measured = self.live.measured
        wave = float(self.live.row_wavelength[cursor_row(self.live)])
        if self._shown_measurement == (measured, wave):
            return
        self._shown_measurement = (measured, wave)
        if measured is None:
            self.measured_label.setText("not measured yet")
            self.measured_label.setToolTip(_MEASURE_HINT)
        else:
            self.measured_label.setText(f"measured: {measured.line(wave)}")
            text = f"{measured.measurement.report()}\n\n{measured.curve.report()}"
            self.measured_label.setToolTip(f"<pre>{html.escape(text)}</pre>")

    def _set_offset(self, value: float) -> None:
        if not self.actions.filling:
            operator = replace(self.live.extract, position_offset=value)
            self.actions.run(self.live.set, operator, "move everything", step="offset")
            self.actions.refresh_soon()

    def _measure(self) -> None:
        if self.actions.run_slow(self.live.measure) and self.live.measured is not None:
            self.actions.report("; ".join(self.live.measured.notes))

    def _toggle_residual(self) -> None:
        if self.live.residual_shown:
            self.live.hide_residual()
        else:
            self.actions.run_slow(self.live.residual)
        self.residual_button.setChecked(bool(self.live.residual_shown))

    def _load_reference(self) -> None:
        path = self._files.open_path("Load an EXTRACT1D reference", "JSON (*.json);;All files (*)")
        if path:
            self.actions.run(self.live.load_reference, path)

    def _load_apcorr(self) -> None:
        path = self._files.open_path(
            "Load an APCORR reference", "FITS (*.fits *.fits.gz);;All files (*)"
        )
        if path:
            self.actions.run(self.live.load_apcorr, path)


class StackGroup(PanelGroup):
    """Selection of the integration of a stack that is shown."""

    def __init__(self, actions: PanelActions) -> None:
        count = actions.live.image.data.shape[0]
        super().__init__(f"Integration (of {count})", actions)
        self.slider = QtWidgets.QSlider(Qt.Horizontal)
        self.slider.setRange(1, count)
        self.slider.valueChanged.connect(self._set_integration)
        self.integration = QtWidgets.QSpinBox()
        self.integration.setRange(1, count)
        self.integration.valueChanged.connect(self._set_integration)
        self.add_row(self.slider, self.integration, wide=self.slider)
        self.median = QtWidgets.QCheckBox("median of all")
        self.median.toggled.connect(self._set_median)
        self.column.addWidget(self.median)

    def refresh(self) -> None:
        """Show the number of the integration."""
        number = self.live.integration
        for widget in (self.slider, self.integration):
            show_value(widget, (number or 0) + 1)
            widget.setEnabled(number is not None)
        self.median.setChecked(number is None)

    def _set_integration(self, number: int) -> None:
        if not self.actions.filling:
            self.live.integration = number - 1

    def _set_median(self, on: bool) -> None:
        if not self.actions.filling:
            self.live.integration = None if on else self.slider.value() - 1


class StatisticsGroup(PanelGroup):
    """Statistics of the spectrum in the selected ranges of wavelength."""

    def __init__(self, actions: PanelActions) -> None:
        super().__init__("Numbers", actions)
        form = QtWidgets.QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(2)
        self.range, self.signal_to_noise, self.ratio, self.lost = (
            QtWidgets.QLabel() for _ in range(4)
        )
        self.range.setWordWrap(True)
        self.lost.setWordWrap(True)
        for text, label, tip in (
            ("range", self.range, "Select a range of wavelengths in the spectrum, or of rows"),
            ("median S/N", self.signal_to_noise, "Flux over error, median in the range"),
            ("flux / comparison", self.ratio, "Median in the range"),
            ("lost pixels", self.lost, "What bad pixels took from the aperture in the range"),
        ):
            label.setTextInteractionFlags(Qt.TextSelectableByMouse)
            label.setToolTip(tip)
            form.addRow(text, label)
        self.rows_averaged = QtWidgets.QSpinBox()
        self.rows_averaged.setRange(1, self.live.image.shape[0])
        self.rows_averaged.setSingleStep(2)
        self.rows_averaged.setToolTip("Rows about the cursor that the slit profile averages")
        self.rows_averaged.valueChanged.connect(self._set_rows_averaged)
        form.addRow("profile rows", self.rows_averaged)
        self.column.addLayout(form)

    def refresh(self) -> None:
        """Show the statistics."""
        live = self.live
        show_value(self.rows_averaged, live.rows_averaged)
        ranges = [f"{low:.2f} – {high:.2f}" for low, high in live.wavelength_ranges]
        self.range.setText(f"{', '.join(ranges)} µm" if ranges else "all")
        numbers = live.numbers()
        self.signal_to_noise.setText(_short(numbers.signal_to_noise))
        ratio = numbers.ratio
        plain = math.isfinite(ratio) and 0.01 <= abs(ratio) < 100
        self.ratio.setText(f"{ratio:.4f}" if plain else _short(ratio, 4))
        lost = "none"
        if numbers.rows_lost:
            lost = f"{numbers.rows_lost} of {numbers.rows} rows, ≤ {numbers.most_lost:.0%}"
        if numbers.rows_masked:
            lost += f"; {numbers.rows_masked} masked"
        self.lost.setText(lost)

    def _set_rows_averaged(self, number: int) -> None:
        if not self.actions.filling:
            self.live.rows_averaged = number


class ComparisonGroup(PanelGroup):
    """Selection of a spectrum with which to compare the extraction."""

    def __init__(self, actions: PanelActions, files: FileDialogs) -> None:
        super().__init__("Compare with", actions)
        self._files = files
        self.label = ElidedLabel()
        self.none_button = push_button("None", lambda: actions.run(self.live.load_comparison, None))
        self.add_row(
            self.label,
            push_button("x1d…", self._load, "Overlay a spectrum of the pipeline"),
            self.none_button,
            wide=self.label,
        )

    def refresh(self) -> None:
        """Show the name of the spectrum with which the extraction is compared."""
        self.label.setText(self.live.comparison_label or "nothing")
        self.none_button.setEnabled(self.live.comparison is not None)

    def _load(self) -> None:
        path = self._files.open_path(
            "Compare with a spectrum", "x1d (*.fits *.fits.gz);;All files (*)"
        )
        if path:
            self.actions.run(self.live.load_comparison, path)


class OutputGroup(PanelGroup):
    """Buttons that save the extraction."""

    def __init__(self, actions: PanelActions, files: FileDialogs) -> None:
        super().__init__("Save", actions)
        self._files = files
        grid = QtWidgets.QGridLayout()
        grid.setSpacing(4)
        for at, (text, function, tip) in enumerate(
            (
                ("JSON…", self._save_reference, "EXTRACT1D reference, for override_extract1d"),
                ("x1d…", self._save_spectrum, "The spectrum (of a stack: of all integrations)"),
                ("Figure…", self._save_figure, "A picture of image and spectrum"),
                ("Copy Python", self._copy_python, "The lines that repeat it, to the clipboard"),
            )
        ):
            grid.addWidget(push_button(text, function, tip), at // 2, at % 2)
        self.column.addLayout(grid)

    def _save_reference(self) -> None:
        path = self._files.save_path("Save an EXTRACT1D reference", "_extract1d.json", (".json",))
        self.actions.write(self.live.save_reference, path)

    def _save_spectrum(self) -> None:
        ending = "_x1dints.fits" if self.live.image.is_stack else "_x1d.fits"
        path = self._files.save_path("Save the spectrum", ending, (".fits", ".fits.gz"))
        self.actions.write(self.live.save_spectrum, path)

    def _save_figure(self) -> None:
        path = self._files.save_path("Save a figure", ".png", _FIGURES)
        self.actions.write(self.live.save_figure, path)

    def _copy_python(self) -> None:
        """Copy a script that reproduces the extraction to the clipboard."""
        try:
            text = self.live.python()
        except LRSError as error:
            self.actions.report(panel_text(error), error=True)
            return
        QtGui.QGuiApplication.clipboard().setText(text)
        self.actions.report("the lines that repeat this extraction are on the clipboard")


def cursor_row(live: LiveExtraction) -> int:
    """Return the row of the crosshair, rounded to a row of the image."""
    return min(max(round(live.cursor_row), 0), live.image.shape[0] - 1)


def _short(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if math.isfinite(value) else "–"
