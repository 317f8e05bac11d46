"""The panel: the numbers of an extraction, to be read, typed and saved."""

from __future__ import annotations

import html
import math
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy import QtCore, QtGui, QtWidgets

from glue_lrs.errors import LRSError, LRSWarning
from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.viewers.live.wording import in_the_panel
from glue_lrs.viewers.qt.base import busy
from glue_lrs.viewers.qt.panel.groups import (
    ElidedLabel,
    SmoothingBox,
    group_box,
    number_box,
    odd_length,
    push_button,
)
from glue_lrs.viewers.qt.tooltips import (
    BEST_WIDTH_HINT,
    RESIDUAL_HINT,
    THREE_FWHM_HINT,
    TO_SOURCE_HINT,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.regions import Edge, Region

__all__ = ["Panel"]

#: Milliseconds between a change and the panel's telling of it: a drag must not wait for labels.
_DELAY = 30

#: Columns of a background region that is added, at least; one more stays free.
_NARROWEST = 2

_FITS = (("polynomial", "poly"), ("median", "median"))

_PICTURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".eps")

_LIMITS_HINT = (
    "Pixel i reaches from i − ½ to i + ½. The edges are positions on the image, as in src_coeff "
    "and bkg_coeff; xstart and xstop name the first and last pixel that are summed: edges at 26.5 "
    "and 34.5 are xstart 27, xstop 34."
)

_MEASURE_HINT = "Measure position and width of the source, and the aperture of best signal to noise"


class Panel(QtWidgets.QWidget):
    """What is set and what comes out, for one live extraction.

    Parameters
    ----------
    live : LiveExtraction
        The extraction.

    Attributes
    ----------
    message : QLabel
        What a user would want to know of the extraction, in a line. It is not part of the panel:
        whoever shows the panel puts it where it stays in sight.
    """

    def __init__(self, live: LiveExtraction, parent: Any = None) -> None:
        super().__init__(parent)
        self.live = live
        self._filling = False
        self._closed = False
        self._told: list[str] = []
        self._callbacks: list[tuple[str, Any]] = []
        self._source = expected_position(live.image)
        self._timer = QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY)
        self._timer.timeout.connect(self.refresh)
        self._build()
        for name in (
            "operator", "extraction", "message", "integration", "rows_averaged", "cursor_row",
            "wavelength_ranges", "comparison", "comparison_label", "selected", "measured",
            "residual_shown",
        ):  # fmt: skip
            live.add_callback(name, self._changed)
            self._callbacks.append((name, self._changed))
        self.refresh()

    def close_panel(self) -> None:
        """Follow the extraction no longer."""
        if self._closed:
            return
        self._closed = True
        self._timer.stop()
        for name, function in self._callbacks:
            self.live.remove_callback(name, function)

    def _changed(self, *_: Any) -> None:
        if not self._timer.isActive():
            self._timer.start()

    # --- building ------------------------------------------------------------------------------

    def _build(self) -> None:
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(6)
        self.message = QtWidgets.QLabel()
        self.message.setWordWrap(True)
        self.message.setMargin(6)
        self.message.setTextInteractionFlags(QtCore.Qt.TextSelectableByMouse)
        for part in (
            self._build_regions(),
            self._build_background(),
            self._build_position(),
            self._build_stack(),
            self._build_numbers(),
            self._build_comparison(),
            self._build_output(),
        ):
            if part is not None:
                layout.addWidget(part)
        layout.addStretch(1)

    def _build_regions(self) -> QtWidgets.QWidget:
        box, layout = group_box("Aperture and background regions")
        self.table = QtWidgets.QTableWidget(0, 3)
        self.table.setHorizontalHeaderLabels(["", "edges [pixel]", "in the JSON"])
        self.table.setToolTip(_LIMITS_HINT)
        self.table.verticalHeader().hide()
        self.table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectRows)
        self.table.setSelectionMode(QtWidgets.QAbstractItemView.SingleSelection)
        self.table.setEditTriggers(QtWidgets.QAbstractItemView.NoEditTriggers)
        self.table.setFocusPolicy(QtCore.Qt.NoFocus)
        self.table.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarAlwaysOff)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(0, QtWidgets.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(1, QtWidgets.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(2, QtWidgets.QHeaderView.Stretch)
        self.table.itemSelectionChanged.connect(self._row_selected)
        layout.addWidget(self.table)
        row = QtWidgets.QHBoxLayout()
        self.lower, self.upper = (number_box(-50.0, 2000.0, 0.1, 2) for _ in range(2))
        self.edges_label = QtWidgets.QLabel("edges")
        row.addWidget(self.edges_label)
        for spin, edge in ((self.lower, "lower"), (self.upper, "upper")):
            spin.setToolTip(f"Position of the {edge} edge of the selected region, in pixels")
            spin.valueChanged.connect(lambda value, edge=edge: self._set_edge(edge, value))
            row.addWidget(spin)
        row.addStretch(1)
        layout.addLayout(row)
        buttons = QtWidgets.QHBoxLayout()
        self.add_region = push_button("Add background", self._add_background)
        self.delete_region = push_button(
            "Delete", self._delete_region, "Delete the selected region"
        )
        self.straighten = push_button(
            "Straighten", self._straighten, "Make the edges straight again"
        )
        for button in (self.add_region, self.delete_region, self.straighten):
            buttons.addWidget(button)
        layout.addLayout(buttons)
        subsets = QtWidgets.QHBoxLayout()
        self.subset = QtWidgets.QComboBox()
        self.subset.setToolTip("A range or polygon drawn as a glue subset")
        self.subset.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self.subset.setMinimumContentsLength(6)
        self.to_aperture = push_button("→ aperture", lambda: self._use_subset("aperture"))
        self.to_background = push_button("→ background", lambda: self._use_subset("background"))
        subsets.addWidget(self.subset, 1)
        subsets.addWidget(self.to_aperture)
        subsets.addWidget(self.to_background)
        self.subset_row = QtWidgets.QWidget()
        self.subset_row.setLayout(subsets)
        subsets.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.subset_row)
        return box

    def _build_background(self) -> QtWidgets.QWidget:
        box, layout = group_box("Background")
        row = QtWidgets.QHBoxLayout()
        self.subtract = QtWidgets.QCheckBox("subtract")
        self.subtract.toggled.connect(self._set_subtract)
        self.fit = QtWidgets.QComboBox()
        for label, value in _FITS:
            self.fit.addItem(label, value)
        self.fit.activated.connect(lambda _: self._set_background(bkg_fit=self.fit.currentData()))
        self.order = QtWidgets.QSpinBox()
        self.order.setRange(0, 9)
        self.order.setPrefix("order ")
        self.order.setToolTip("Order of the polynomial across the slit; 0 is the mean")
        self.order.valueChanged.connect(lambda value: self._set_background(bkg_order=value))
        for widget in (self.subtract, self.fit, self.order):
            row.addWidget(widget)
        row.addStretch(1)
        layout.addLayout(row)
        row = QtWidgets.QHBoxLayout()
        self.smoothing = SmoothingBox()
        self.smoothing.setToolTip("Rows of a running mean along the dispersion, before the fit")
        self.smoothing.valueChanged.connect(
            lambda value: self._set_background(smoothing_length=odd_length(value))
        )
        row.addWidget(QtWidgets.QLabel("smoothing"))
        row.addWidget(self.smoothing)
        row.addStretch(1)
        layout.addLayout(row)
        self.background_rows = (self.fit, self.order, self.smoothing)
        return box

    def _build_position(self) -> QtWidgets.QWidget:
        box, layout = group_box("Position and correction")
        row = QtWidgets.QHBoxLayout()
        self.offset = number_box(-500.0, 500.0, 0.1, 2)
        self.offset.setToolTip("Columns that aperture and background are moved by")
        self.offset.valueChanged.connect(self._set_offset)
        row.addWidget(QtWidgets.QLabel("offset [pixel]"))
        row.addWidget(self.offset)
        row.addStretch(1)
        layout.addLayout(row)
        self.source_label = QtWidgets.QLabel()
        self.source_label.setWordWrap(True)
        self.source_label.setToolTip("Where the header and the WCS put the source")
        layout.addWidget(self.source_label)
        row = QtWidgets.QHBoxLayout()
        self.measured_label = QtWidgets.QLabel()
        self.measured_label.setWordWrap(True)
        self.measured_label.setTextInteractionFlags(QtCore.Qt.TextSelectableByMouse)
        self._measured_at: tuple[Any, float] | None = None
        row.addWidget(self.measured_label, 1)
        self.measure = push_button("Measure", self._measure, _MEASURE_HINT)
        row.addWidget(self.measure)
        layout.addLayout(row)
        row = QtWidgets.QHBoxLayout()
        for text, name, tip in (
            ("To the source", "to_source", TO_SOURCE_HINT),
            ("3 × FWHM", "three_fwhm", THREE_FWHM_HINT),
            ("Best S/N", "best_width", BEST_WIDTH_HINT),
        ):
            row.addWidget(push_button(text, lambda n=name: self._do_slowly(n), tip))
        layout.addLayout(row)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(
            push_button(
                "Default",
                lambda: self._do(self.live.default),
                "The default aperture of this kind of file",
            )
        )
        row.addWidget(
            push_button("Load JSON…", self._load_reference, "Load an EXTRACT1D reference")
        )
        self.residual = push_button("Residual", self._toggle_residual, RESIDUAL_HINT)
        self.residual.setCheckable(True)
        row.addWidget(self.residual)
        layout.addLayout(row)
        row = QtWidgets.QHBoxLayout()
        self.apcorr = ElidedLabel()
        self.apcorr_none = push_button("None", lambda: self._do(self.live.load_apcorr, None))
        row.addWidget(QtWidgets.QLabel("apcorr"))
        row.addWidget(self.apcorr, 1)
        row.addWidget(push_button("File…", self._load_apcorr, "Load an APCORR reference"))
        row.addWidget(self.apcorr_none)
        layout.addLayout(row)
        return box

    def _build_stack(self) -> QtWidgets.QWidget | None:
        if not self.live.image.is_stack:
            return None
        count = self.live.image.data.shape[0]
        box, layout = group_box(f"Integration (of {count})")
        self.slider = QtWidgets.QSlider(QtCore.Qt.Horizontal)
        self.slider.setRange(1, count)
        self.slider.valueChanged.connect(self._set_integration)
        self.integration = QtWidgets.QSpinBox()
        self.integration.setRange(1, count)
        self.integration.valueChanged.connect(self._set_integration)
        self.median = QtWidgets.QCheckBox("median of all")
        self.median.toggled.connect(self._set_median)
        row = QtWidgets.QHBoxLayout()
        row.addWidget(self.slider, 1)
        row.addWidget(self.integration)
        layout.addLayout(row)
        layout.addWidget(self.median)
        return box

    def _build_numbers(self) -> QtWidgets.QWidget:
        box, layout = group_box("Numbers")
        form = QtWidgets.QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(2)
        self.range = QtWidgets.QLabel()
        self.range.setWordWrap(True)
        self.signal_to_noise = QtWidgets.QLabel()
        self.ratio = QtWidgets.QLabel()
        self.lost = QtWidgets.QLabel()
        self.lost.setWordWrap(True)
        for text, label, tip in (
            ("range", self.range, "Select a range of wavelengths in the spectrum, or of rows"),
            ("median S/N", self.signal_to_noise, "Flux over error, median in the range"),
            ("flux / comparison", self.ratio, "Median in the range"),
            ("lost pixels", self.lost, "What bad pixels took from the aperture in the range"),
        ):
            label.setTextInteractionFlags(QtCore.Qt.TextSelectableByMouse)
            label.setToolTip(tip)
            form.addRow(text, label)
        self.rows_averaged = QtWidgets.QSpinBox()
        self.rows_averaged.setRange(1, self.live.image.shape[0])
        self.rows_averaged.setSingleStep(2)
        self.rows_averaged.setToolTip("Rows about the cursor that the slit profile averages")
        self.rows_averaged.valueChanged.connect(self._set_rows_averaged)
        form.addRow("profile rows", self.rows_averaged)
        layout.addLayout(form)
        return box

    def _build_comparison(self) -> QtWidgets.QWidget:
        box, layout = group_box("Compare with")
        row = QtWidgets.QHBoxLayout()
        self.comparison = ElidedLabel()
        self.comparison_none = push_button(
            "None", lambda: self._do(self.live.load_comparison, None)
        )
        row.addWidget(self.comparison, 1)
        row.addWidget(
            push_button("x1d…", self._load_comparison, "Overlay a spectrum of the pipeline")
        )
        row.addWidget(self.comparison_none)
        layout.addLayout(row)
        return box

    def _build_output(self) -> QtWidgets.QWidget:
        box, layout = group_box("Save")
        grid = QtWidgets.QGridLayout()
        grid.setSpacing(4)
        for at, (text, function, tip) in enumerate(
            (
                ("JSON…", self._save_reference, "EXTRACT1D reference, for override_extract1d"),
                ("x1d…", self._save_spectrum, "The spectrum (of a stack: of all integrations)"),
                ("Figure…", self._save_figure, "A picture of image and spectrum"),
                ("Copy Python", self.copy_python, "The lines that repeat it, to the clipboard"),
            )
        ):
            grid.addWidget(push_button(text, function, tip), at // 2, at % 2)
        layout.addLayout(grid)
        return box

    # --- showing -------------------------------------------------------------------------------

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Let widgets be filled without their telling the extraction."""
        self._filling = True
        try:
            yield
        finally:
            self._filling = False

    def refresh(self) -> None:
        """Show the state of the extraction."""
        live = self.live
        if self._closed or live.closed:
            return
        with self._quietly():
            self._show_regions()
            self._show_background()
            _set(self.offset, live.operator.position_offset)
            self._show_source()
            self._show_measured()
            self.residual.setChecked(bool(live.residual_shown))
            correction = live.operator.aperture_correction
            self.apcorr.setText("none" if correction is None else _name(correction.filename))
            self.apcorr_none.setEnabled(correction is not None)
            if live.image.is_stack:
                number = live.integration
                _set(self.slider, (number or 0) + 1)
                _set(self.integration, (number or 0) + 1)
                self.median.setChecked(number is None)
                self.slider.setEnabled(number is not None)
                self.integration.setEnabled(number is not None)
            _set(self.rows_averaged, live.rows_averaged)
            self.comparison.setText(live.comparison_label or "nothing")
            self.comparison_none.setEnabled(live.comparison is not None)
            self._show_numbers()
            self.say(live.message, bad=live.extraction is None)

    def say(self, text: str, *, bad: bool = False) -> None:
        """Show a line below the rest, in the panel's words; an error in red."""
        text = in_the_panel(text)
        self.message.setText(text)
        self.message.setToolTip(text)
        self.message.setStyleSheet(f"color: {'#b00020' if bad else '#7a5200'}" if text else "")
        self.message.setVisible(bool(text))

    def _show_regions(self) -> None:
        regions = self.live.regions
        self.table.setRowCount(len(regions))
        background = 0
        for row, region in enumerate(regions):
            background += region.kind == "background"
            name = "aperture" if region.kind == "aperture" else f"bkg {background}"
            for column, text in enumerate((name, self._edges_text(region), _file_text(region))):
                item = self.table.item(row, column)
                if item is None:
                    item = QtWidgets.QTableWidgetItem()
                    self.table.setItem(row, column, item)
                if item.text() != text:
                    item.setText(text)
                    item.setToolTip(text if column == 2 else _LIMITS_HINT)
        self.table.resizeRowsToContents()
        height = self.table.horizontalHeader().height() + 4
        height += sum(self.table.rowHeight(row) for row in range(len(regions)))
        if self.table.height() != height:
            self.table.setFixedHeight(height)
        selected = self._selected()
        if selected is None:
            self.table.clearSelection()
        elif self.table.currentRow() != selected or not self.table.selectedItems():
            self.table.selectRow(selected)
        has = selected is not None
        chosen = regions[selected] if selected is not None else None
        for widget in (self.lower, self.upper):
            widget.setEnabled(has)
        self.delete_region.setEnabled(chosen is not None and chosen.kind == "background")
        self.straighten.setEnabled(chosen is not None and not chosen.straight)
        if chosen is not None:
            lower, upper = self._at_cursor(chosen)
            _set(self.lower, lower)
            _set(self.upper, upper)
            where = "" if chosen.straight else f" at row {self._cursor()}"
            self.edges_label.setText(f"edges{where}")
        self._show_subsets()

    def _show_subsets(self) -> None:
        labels = [group.label for group in self._groups()]
        if labels != [self.subset.itemText(i) for i in range(self.subset.count())]:
            self.subset.clear()
            self.subset.addItems(labels)
        self.subset_row.setVisible(bool(labels))

    def _show_background(self) -> None:
        background = self.live.operator.background
        has = background is not None
        self.subtract.setEnabled(has)
        self.subtract.setChecked(has and self.live.operator.subtract_background is not False)
        self.subtract.setToolTip("" if has else "There is no background region yet")
        for widget in self.background_rows:
            widget.setEnabled(has)
        if background is not None:
            self.fit.setCurrentIndex(max(self.fit.findData(background.bkg_fit), 0))
            self.order.setEnabled(background.bkg_fit == "poly")
            _set(self.order, background.bkg_order)
            _set(self.smoothing, background.smoothing_length)

    def _show_source(self) -> None:
        """Where the source is, and how far from it the aperture."""
        found = self._source
        apertures = [region for region in self.live.regions if region.kind == "aperture"]
        if not isinstance(found, SourcePosition) or not apertures:
            self.source_label.setText("the header does not tell where the source is")
            return
        at = self.live.rows[found.row], self.live.row_wavelength[found.row]
        lower, upper = (float(edge) for edge in apertures[0].at(*at))
        away = round((lower + upper) / 2.0 - found.column, 2) + 0.0  # no -0.00
        self.source_label.setText(
            f"header: column {found.column:.2f}, aperture {away:+.2f} from it"
        )

    def _show_measured(self) -> None:
        """What was measured; it is worked out again only where the cursor is in another row."""
        measured = self.live.measured
        wave = float(self.live.row_wavelength[self._cursor()])
        if self._measured_at == (measured, wave):
            return
        self._measured_at = (measured, wave)
        if measured is None:
            self.measured_label.setText("not measured yet")
            self.measured_label.setToolTip(_MEASURE_HINT)
        else:
            self.measured_label.setText(f"measured: {measured.line(wave)}")
            text = f"{measured.measurement.report()}\n\n{measured.curve.report()}"
            self.measured_label.setToolTip(f"<pre>{html.escape(text)}</pre>")

    def _show_numbers(self) -> None:
        live = self.live
        chosen = [f"{low:.2f} – {high:.2f}" for low, high in live.wavelength_ranges]
        self.range.setText(f"{', '.join(chosen)} µm" if chosen else "all")
        numbers = live.numbers()
        self.signal_to_noise.setText(_digits(numbers.signal_to_noise))
        ratio = numbers.ratio
        plain = math.isfinite(ratio) and 0.01 <= abs(ratio) < 100
        self.ratio.setText(f"{ratio:.4f}" if plain else _digits(ratio, 4))
        lost = "none"
        if numbers.rows_lost:
            lost = f"{numbers.rows_lost} of {numbers.rows} rows, ≤ {numbers.most_lost:.0%}"
        if numbers.rows_masked:
            lost += f"; {numbers.rows_masked} masked"
        self.lost.setText(lost)

    def _cursor(self) -> int:
        return min(max(round(self.live.cursor_row), 0), self.live.image.shape[0] - 1)

    def _at_cursor(self, region: Region) -> tuple[float, float]:
        row = self._cursor()
        wave = self.live.row_wavelength
        lower, upper = (float(e) for e in region.at(self.live.rows[row], wave[row]))
        if math.isnan(lower) or math.isnan(upper):  # a row without a wavelength: the next that has
            known = np.flatnonzero(np.isfinite(wave))
            row = int(known[np.abs(known - row).argmin()])
            lower, upper = (float(e) for e in region.at(self.live.rows[row], wave[row]))
        return lower, upper

    def _edges_text(self, region: Region) -> str:
        lower, upper = self._at_cursor(region)
        return f"{'' if region.straight else '~ '}{lower:.2f} – {upper:.2f}"

    def _selected(self) -> int | None:
        number = self.live.selected
        return number if number is not None and 0 <= number < len(self.live.regions) else None

    def _groups(self) -> list[Any]:
        return list(self.live.session.data_collection.subset_groups)

    # --- doing ---------------------------------------------------------------------------------

    def _do(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        """Do something; an error or a warning of ours becomes the panel's line."""
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                function(*args, **kwargs)
        except LRSError as error:
            self._timer.stop()
            self.say(str(error), bad=True)
            return False
        told = [str(one.message) for one in caught if issubclass(one.category, LRSWarning)]
        if told:
            self.say("; ".join(told))
        self._told = told
        return True

    def _do_slowly(self, name: str) -> bool:
        """Call a method of the extraction that takes its time."""
        with busy():
            return self._do(getattr(self.live, name))

    def _measure(self) -> None:
        if self._do_slowly("measure") and self.live.measured is not None:
            self.say("; ".join(self.live.measured.notes))

    def _toggle_residual(self) -> None:
        if self.live.residual_shown:
            self.live.hide_residual()
        else:
            self._do_slowly("residual")
        self.residual.setChecked(bool(self.live.residual_shown))

    def _row_selected(self) -> None:
        rows = self.table.selectionModel().selectedRows()
        if not self._filling and rows:
            self.live.selected = rows[0].row()

    def _set_edge(self, edge: Edge, value: float) -> None:
        selected = self._selected()
        if self._filling or selected is None:
            return
        regions = list(self.live.regions)
        region = regions[selected]
        old = self._at_cursor(region)[0 if edge == "lower" else 1]
        regions[selected] = region.with_edge(
            edge, value - old, self.live.rows, self.live.row_wavelength
        )
        self._do(self.live.set, regions, f"move the {edge} edge", step=(edge, selected))
        self._changed()

    def _add_background(self) -> None:
        """A region where there is most room, a third as wide."""
        regions = list(self.live.regions)
        (left, right), _ = self.live.image.bounding_box
        left, right = math.ceil(left) - 0.5 + 1.0, math.floor(right) + 0.5 - 1.0
        taken = sorted(self._at_cursor(region) for region in regions)
        free, at = [], left
        for lower, upper in taken:
            free.append((lower - at, at, lower))
            at = max(at, upper)
        free.append((right - at, at, right))
        room, start, stop = max(free)
        width = max(round(room / 3.0), _NARROWEST)
        if room < width + 1.0:
            self.say("there is no room beside the other regions: no background was added", bad=True)
            return
        # away from the source: at the far side of the gap
        middle = (taken[0][0] + taken[0][1]) / 2.0 if taken else start
        lower = start + 1.0 if start + stop < 2 * middle else stop - 1.0 - width
        self._do(self.live.add_region, "background", lower, lower + width)
        self.live.selected = len(self.live.regions) - 1

    def _delete_region(self) -> None:
        selected = self._selected()
        if selected is not None and self._do(self.live.delete_region, selected):
            self.live.selected = min(selected, len(self.live.regions) - 1)

    def _straighten(self) -> None:
        selected = self._selected()
        if selected is not None:
            regions = list(self.live.regions)
            wave = self.live.row_wavelength
            regions[selected] = regions[selected].straightened(self.live.rows, wave)
            self._do(self.live.set, regions, "straighten a region")

    def _use_subset(self, kind: str) -> None:
        groups = self._groups()
        at = self.subset.currentIndex()
        if not 0 <= at < len(groups):
            return
        for subset in groups[at].subsets:
            if subset.data is self.live.data:
                self._do(self.live.subset_to_region, subset, kind)

    def _set_subtract(self, on: bool) -> None:
        if not self._filling:
            operator = replace(self.live.extract, subtract_background=None if on else False)
            self._do(self.live.set, operator, "subtract the background")

    def _set_background(self, **changes: Any) -> None:
        background = self.live.extract.background
        if self._filling or background is None:
            return
        try:
            made = replace(background, **changes)
        except LRSError as error:
            self.say(str(error), bad=True)
            return
        self._do(self.live.set, replace(self.live.extract, background=made), "fit the background")
        self._changed()

    def _set_offset(self, value: float) -> None:
        if not self._filling:
            operator = replace(self.live.extract, position_offset=value)
            self._do(self.live.set, operator, "move everything", step="offset")
            self._changed()

    def _set_integration(self, number: int) -> None:
        if not self._filling:
            self.live.integration = number - 1

    def _set_median(self, on: bool) -> None:
        if not self._filling:
            self.live.integration = None if on else self.slider.value() - 1

    def _set_rows_averaged(self, number: int) -> None:
        if not self._filling:
            self.live.rows_averaged = number

    # --- files ---------------------------------------------------------------------------------

    def _open(self, title: str, filters: str) -> str:
        path, _ = QtWidgets.QFileDialog.getOpenFileName(self, title, self._folder(), filters)
        return str(path)

    def _save(self, title: str, name: str, endings: tuple[str, ...]) -> str:
        """A name to write to, with an ending; a file that is there is replaced if a user says so.

        The dialog asks for the name as it was typed: where that has no ending, we do.
        """
        while True:
            path, _ = QtWidgets.QFileDialog.getSaveFileName(
                self,
                title,
                str(Path(self._folder()) / name),
                " ".join(f"*{ending}" for ending in endings),
            )
            if not path or str(path).lower().endswith(endings):
                return str(path)
            whole = Path(f"{path}{endings[0]}")
            if not whole.exists() or self._may_replace(whole):
                return str(whole)
            name = str(whole)

    def _may_replace(self, path: Path) -> bool:
        box = QtWidgets.QMessageBox
        answer = box.question(
            self,
            "Replace the file?",
            f"{path.name} already exists.\nDo you want to replace it?",
            box.Yes | box.No,
            box.No,
        )
        return bool(answer == box.Yes)

    def _folder(self) -> str:
        path = self.live.image.path
        return str(Path(path).resolve().parent) if path else ""

    def _stem(self) -> str:
        path = self.live.image.path or self.live.image.filename or self.live.data.label
        name = Path(path).name.removesuffix(".gz").removesuffix(".fits")
        for ending in ("_s2d", "_calints", "_cal"):
            name = name.removesuffix(ending)
        return name

    def _load_reference(self) -> None:
        path = self._open("Load an EXTRACT1D reference", "JSON (*.json);;All files (*)")
        if path:
            self._do(self.live.load_reference, path)

    def _load_apcorr(self) -> None:
        path = self._open("Load an APCORR reference", "FITS (*.fits *.fits.gz);;All files (*)")
        if path:
            self._do(self.live.load_apcorr, path)

    def _load_comparison(self) -> None:
        path = self._open("Compare with a spectrum", "x1d (*.fits *.fits.gz);;All files (*)")
        if path:
            self._do(self.live.load_comparison, path)

    def _save_reference(self) -> None:
        path = self._save(
            "Save an EXTRACT1D reference", f"{self._stem()}_extract1d.json", (".json",)
        )
        self._write(self.live.save_reference, path)

    def _save_spectrum(self) -> None:
        ending = "x1dints" if self.live.image.is_stack else "x1d"
        path = self._save(
            "Save the spectrum", f"{self._stem()}_{ending}.fits", (".fits", ".fits.gz")
        )
        self._write(self.live.save_spectrum, path)

    def _save_figure(self) -> None:
        path = self._save("Save a figure", f"{self._stem()}.png", _PICTURES)
        self._write(self.live.save_figure, path)

    def _write(self, function: Callable[..., Any], path: str) -> None:
        if path and self._do(function, path, overwrite=True):
            self.say("; ".join([f"wrote {path}", *self._told]))

    def copy_python(self) -> None:
        """Put the lines that repeat the extraction on the clipboard."""
        try:
            text = self.live.python()
        except LRSError as error:
            self.say(str(error), bad=True)
            return
        QtGui.QGuiApplication.clipboard().setText(text)
        self.say("the lines that repeat this extraction are on the clipboard")


def _set(widget: Any, value: float) -> None:
    """Show a value unless it is being typed."""
    editing = getattr(widget, "lineEdit", None)
    if editing is not None and editing().isModified() and widget.hasFocus():
        return
    widget.setValue(value)


def _digits(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if math.isfinite(value) else "–"


def _name(source: Any) -> str:
    return Path(str(source)).name if source else "given"


def _file_text(region: Region) -> str:
    """How a region stands in a reference."""
    if region.kind == "aperture" and region.straight:
        return f"xstart {region.lower[0] + 0.5:.2f}\nxstop {region.upper[0] - 0.5:.2f}"
    key = "src_coeff" if region.kind == "aperture" else "bkg_coeff"
    edges = (", " if region.straight else ",\n ").join(
        "[" + ", ".join(f"{c:.3g}" if i else f"{c:.2f}" for i, c in enumerate(edge)) + "]"
        for edge in (region.lower, region.upper)
    )
    return f"{key}\n[{edges}]"
