"""Groups of widgets in the extraction panel."""

from __future__ import annotations

import html
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy import QtGui, QtWidgets
from qtpy.QtCore import Qt

from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.viewers.live.names import (
    lost_text,
    noise_text,
    ratio_text,
    spectrum_ending,
)
from glue_lrs.viewers.live.tooltips import RESIDUAL_HINT, SOURCE_ACTIONS, TIME_OUTLIERS
from glue_lrs.viewers.qt.panel import widgets
from glue_lrs.viewers.qt.panel.widgets import FITS_FILES, push_button, show_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy import QtCore
    from qtpy.QtWidgets import QWidget

    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.source_measurement import Measured
    from glue_lrs.viewers.qt.panel.actions import PanelActions

_FITS = (("polynomial", "poly"), ("median", "median"))

#: Labels and values of the source types. The label of None contains SRCTYPE from the header.
_SOURCE_TYPES = (("as in the header", None), ("point", "POINT"), ("extended", "EXTENDED"))

_FIGURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".eps")

_MEASURE_HINT = (
    "Measure position and width of the source, and the aperture with the best signal to noise"
)


class PanelGroup(QtWidgets.QGroupBox):
    """Group of widgets that shows a part of a live extraction and changes it.

    Parameters
    ----------
    title : str
        Title of the group.
    panel : PanelActions
        Panel that contains the group, and that calls methods of the extraction for the widgets.
    """

    def __init__(self, title: str, panel: PanelActions) -> None:
        super().__init__(title)
        self.panel = panel
        self.live: LiveExtraction = panel.live
        self.column = QtWidgets.QVBoxLayout(self, spacing=4)
        self.column.setContentsMargins(6, 4, 6, 6)

    def add_row(self, *parts: QWidget, wide: QWidget | None = None, blank: bool = False) -> None:
        """Add a row of widgets; free width goes to `wide`, or with `blank` to the row's end."""
        row = QtWidgets.QHBoxLayout()
        for widget in parts:
            row.addWidget(widget, int(widget is wide))
        if blank:
            row.addStretch(1)
        self.column.addLayout(row)

    def on_edit(self, signal: QtCore.SignalInstance, function: Callable[..., object]) -> None:
        """Call a function when a signal reports a value that the user, not `refresh`, has set."""
        signal.connect(lambda value: None if self.panel.filling else function(value))

    def edit(
        self, label: str, change: Callable[[Extract1D], Extract1D], step: object = None
    ) -> None:
        """Replace the operator by `change(operator)`; see `LiveExtraction.commit`."""
        if self.panel.run(lambda: self.live.set(change(self.live.extract), label, step)):
            self.panel.refresh_soon()

    def load_button(
        self, text: str, title: str, filters: str, function: Callable[[str], object]
    ) -> QtWidgets.QPushButton:
        """Make a button that calls a function with the path of a file that the user chooses."""
        return push_button(text, partial(self.panel.load, title, filters, function), title)

    def refresh(self) -> None:
        """Show the current state of the extraction."""


class BackgroundGroup(PanelGroup):
    """Settings for the fit of the background."""

    def __init__(self, panel: PanelActions) -> None:
        super().__init__("Background", panel)
        self.subtract = QtWidgets.QCheckBox("subtract")
        self.on_edit(self.subtract.toggled, self._set_subtract)
        self.fit = QtWidgets.QComboBox()
        for label, value in _FITS:
            self.fit.addItem(label, value)
        self.on_edit(self.fit.activated, lambda _: self._set(bkg_fit=self.fit.currentData()))
        tip = "Order of the polynomial along the slit; 0 is the mean"
        self.order = QtWidgets.QSpinBox(minimum=0, maximum=9, prefix="order ", toolTip=tip)
        self.on_edit(self.order.valueChanged, lambda value: self._set(bkg_order=value))
        self.add_row(self.subtract, self.fit, self.order, blank=True)
        tip = "Number of rows of a running mean along the dispersion, before the fit"
        self.smoothing = widgets.SmoothingBox(tip)
        self.on_edit(
            self.smoothing.valueChanged,
            lambda value: self._set(smoothing_length=widgets.odd_length(value)),
        )
        self.add_row(QtWidgets.QLabel("smoothing"), self.smoothing, blank=True)

    def refresh(self) -> None:
        """Show the settings of the background."""
        background = self.live.operator.background
        present = background is not None
        self.subtract.setChecked(present and self.live.operator.subtract_background is not False)
        self.subtract.setToolTip("" if present else "There is no background region yet")
        for widget in (self.subtract, self.fit, self.order, self.smoothing):
            widget.setEnabled(present)
        if background is not None:
            self.fit.setCurrentIndex(max(self.fit.findData(background.bkg_fit), 0))
            self.order.setEnabled(background.bkg_fit == "poly")
            show_value(self.order, background.bkg_order)
            show_value(self.smoothing, background.smoothing_length)

    def _set_subtract(self, on: bool) -> None:
        subtract = None if on else False
        self.edit("subtract the background", partial(replace, subtract_background=subtract))

    def _set(self, **changes: Any) -> None:
        def change(operator: Extract1D) -> Extract1D:
            background = operator.background
            return replace(operator, background=background and replace(background, **changes))

        self.edit("fit the background", change)


class PositionGroup(PanelGroup):
    """Position of the aperture, and measurement of the source."""

    def __init__(self, panel: PanelActions) -> None:
        super().__init__("Position", panel)
        live = self.live
        self._expected = expected_position(live.image)
        self._shown_measurement: tuple[Measured | None, float] | None = None
        self.offset = widgets.number_box(
            -500.0, 500.0, "Number of columns by which aperture and background are moved"
        )
        self.on_edit(
            self.offset.valueChanged,
            lambda value: self.edit(
                "move everything", partial(replace, position_offset=value), step="offset"
            ),
        )
        self.add_row(QtWidgets.QLabel("offset [pixel]"), self.offset, blank=True)
        self.source_type = QtWidgets.QComboBox(
            toolTip="Only a point source has an aperture correction and, by default, an aperture "
            "that moves to the source position"
        )
        for label, value in _SOURCE_TYPES:
            known = f" ({live.image.source_type or 'none'})" if value is None else ""
            self.source_type.addItem(label + known, value)
        self.on_edit(self.source_type.activated, lambda _: self._set_source_type())
        self.add_row(QtWidgets.QLabel("source type"), self.source_type, blank=True)
        self.source_label = widgets.LinesLabel(
            toolTip="Position of the source from the header and the WCS"
        )
        self.column.addWidget(self.source_label)
        self.measured_label = widgets.LinesLabel(3)
        self.measure_button = push_button("Measure", self._measure, _MEASURE_HINT)
        self.add_row(self.measured_label, self.measure_button, wide=self.measured_label)
        self.add_row(
            *(
                push_button(text, partial(panel.run_slow, getattr(live, method)), tip)
                for method, text, tip in SOURCE_ACTIONS
            )
        )
        self.residual_button = push_button("Residual", self._toggle_residual, RESIDUAL_HINT)
        self.residual_button.setCheckable(True)
        self.add_row(
            push_button(
                "Default",
                partial(panel.run, live.default),
                "Default aperture for this type of file",
            ),
            self.load_button(
                "Load JSON…", "Load an EXTRACT1D reference", "JSON (*.json)", live.load_reference
            ),
            self.residual_button,
        )

    def refresh(self) -> None:
        """Show the offset and the positions of the source."""
        show_value(self.offset, self.live.operator.position_offset)
        self.source_type.setCurrentIndex(
            max(self.source_type.findData(self.live.operator.source_type), 0)
        )
        self._show_expected_position()
        self._show_measurement()
        self.residual_button.setChecked(bool(self.live.residual_shown))

    def _set_source_type(self) -> None:
        value = self.source_type.currentData()
        self.edit("change the source type", partial(replace, source_type=value))

    def _show_expected_position(self) -> None:
        """Show the source position from the header, and the aperture's offset from it."""
        found = self._expected
        apertures = [region for region in self.live.regions if region.kind == "aperture"]
        if not isinstance(found, SourcePosition) or not apertures:
            self.source_label.setText("the header gives no position of the source")
            return
        at = self.live.rows[found.row], self.live.row_wavelength[found.row]
        lower, upper = (float(edge) for edge in apertures[0].at(*at))
        offset = round((lower + upper) / 2.0 - found.column, 2) + 0.0  # + 0.0 changes -0.0 to 0.0
        self.source_label.setText(
            f"header: column {found.column:.2f}, aperture {offset:+.2f} from it"
        )

    def _show_measurement(self) -> None:
        """Show the measurement with the FWHM at the crosshair, if either has changed."""
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

    def _measure(self) -> None:
        if self.panel.run_slow(self.live.measure) and self.live.measured is not None:
            for note in self.live.measured.notes:
                self.panel.report(note, "warning")

    def _toggle_residual(self) -> None:
        if self.live.residual_shown:
            self.live.hide_residual()
        else:
            self.panel.run_slow(self.live.residual)
        self.residual_button.setChecked(bool(self.live.residual_shown))


class StackGroup(PanelGroup):
    """Selection of the integration to show from a stack."""

    def __init__(self, panel: PanelActions) -> None:
        count = panel.live.image.data.shape[0]
        super().__init__(f"Integration (of {count})", panel)
        self.slider = QtWidgets.QSlider(Qt.Horizontal, minimum=1, maximum=count)
        self.integration = QtWidgets.QSpinBox(minimum=1, maximum=count)
        for widget in (self.slider, self.integration):
            self.on_edit(widget.valueChanged, lambda number: self._set_integration(number - 1))
        self.add_row(self.slider, self.integration, wide=self.slider)
        self.median = QtWidgets.QCheckBox("median of all")
        self.on_edit(
            self.median.toggled,
            lambda on: self._set_integration(None if on else self.slider.value() - 1),
        )
        tip = (
            "Pixels that deviate from the other integrations are kept, as in the pipeline, or "
            "become lost pixels, or are replaced by the values expected from other integrations"
        )
        self.time_outliers = widgets.choice_box(TIME_OUTLIERS, tip)
        self.on_edit(
            self.time_outliers.activated,
            lambda _: self.panel.run_slow(
                partial(self.live.actions.set_time_outliers, self.time_outliers.currentData())
            ),
        )
        self.add_row(self.median, QtWidgets.QLabel("outliers"), self.time_outliers, blank=True)

    def refresh(self) -> None:
        """Show the number of the integration, or that the median is shown."""
        self.time_outliers.setCurrentIndex(
            self.time_outliers.findData(self.live.operator.time_outliers)
        )
        number = self.live.integration
        for widget in (self.slider, self.integration):
            show_value(widget, (number or 0) + 1)
            widget.setEnabled(number is not None)
        self.median.setChecked(number is None)

    def _set_integration(self, number: int | None) -> None:
        self.live.integration = number


class StatisticsGroup(PanelGroup):
    """Statistics of the spectrum in the selected ranges of wavelength."""

    def __init__(self, panel: PanelActions) -> None:
        super().__init__("Numbers", panel)
        form = QtWidgets.QFormLayout(verticalSpacing=2)
        form.setContentsMargins(0, 0, 0, 0)

        def add(text: str, tip: str, lines: int = 1) -> widgets.LinesLabel:
            label = widgets.LinesLabel(lines, toolTip=tip)
            form.addRow(text, label)
            return label

        tip = "Select a range of wavelengths in the spectrum, or a range of rows in the image"
        self.range = add("range", tip)
        tip = "Median flux/error in the range; includes the sky if no background was subtracted"
        self.signal_to_noise = add("median S/N", tip)
        self.ratio = add("flux / comparison", "Median ratio in the range")
        tip = "Rows in the range with bad pixels in the aperture, and largest lost fraction"
        self.lost = add("lost pixels", tip, 2)
        tip = "Number of rows around the crosshair over which the slit profile is averaged"
        count = self.live.image.shape[0]
        self.rows_averaged = QtWidgets.QSpinBox(minimum=1, maximum=count, singleStep=2, toolTip=tip)
        self.on_edit(self.rows_averaged.valueChanged, partial(setattr, self.live, "rows_averaged"))
        form.addRow("profile rows", self.rows_averaged)
        self.column.addLayout(form)

    def refresh(self) -> None:
        """Show the statistics."""
        live = self.live
        show_value(self.rows_averaged, live.rows_averaged)
        ranges = [f"{low:.2f} – {high:.2f}" for low, high in live.wavelength_ranges]
        self.range.setText(f"{', '.join(ranges)} µm" if ranges else "all")
        numbers = live.numbers()
        self.signal_to_noise.setText(noise_text(numbers))
        self.ratio.setText(ratio_text(numbers.ratio))
        self.lost.setText(lost_text(numbers))


class ComparisonGroup(PanelGroup):
    """Selection of a spectrum with which to compare the extraction."""

    def __init__(self, panel: PanelActions) -> None:
        super().__init__("Compare with", panel)
        self.label = widgets.ElidedLabel()
        live = self.live
        self.none_button = push_button("None", partial(panel.run, live.load_comparison, None))
        self.add_row(
            self.label,
            self.load_button("x1d…", "Compare with a spectrum", FITS_FILES, live.load_comparison),
            self.none_button,
            wide=self.label,
        )

    def refresh(self) -> None:
        """Show the name of the spectrum with which the extraction is compared."""
        self.label.setText(self.live.comparison_label or "nothing")
        self.none_button.setEnabled(self.live.comparison is not None)


class OutputGroup(PanelGroup):
    """Buttons that save the extraction."""

    def __init__(self, panel: PanelActions) -> None:
        super().__init__("Save", panel)
        grid = QtWidgets.QGridLayout(spacing=4)
        for at, (text, function, tip) in enumerate(
            (
                ("JSON…", self._save_reference, "EXTRACT1D reference, for override_extract1d"),
                ("x1d…", self._save_spectrum, "Spectrum, or spectra of all integrations"),
                ("Figure…", self._save_figure, "Figure with the image and the spectrum"),
                ("Copy Python", self._copy_python, "Copy a script that repeats the extraction"),
            )
        ):
            grid.addWidget(push_button(text, function, tip), at // 2, at % 2)
        self.column.addLayout(grid)

    def _save_reference(self) -> None:
        title, extensions = "Save an EXTRACT1D reference", (".json",)
        self.panel.save(title, "_extract1d.json", extensions, self.live.save_reference)

    def _save_spectrum(self) -> None:
        ending = spectrum_ending(self.live)
        extensions = (".fits", ".fits.gz")
        self.panel.save("Save the spectrum", ending, extensions, self.live.save_spectrum)

    def _save_figure(self) -> None:
        self.panel.save("Save a figure", ".png", _FIGURES, self.live.save_figure)

    def _copy_python(self) -> None:
        """Copy to the clipboard a script that repeats the extraction."""
        if self.panel.run(lambda: QtGui.QGuiApplication.clipboard().setText(self.live.python())):
            self.panel.report("a script that repeats the extraction was copied to the clipboard")


def cursor_row(live: LiveExtraction) -> int:
    """Return the row of the crosshair, rounded to a row of the image."""
    return min(max(round(live.cursor_row), 0), live.image.shape[0] - 1)
