"""Group in the extraction panel for the aperture and the background regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy import QtWidgets
from qtpy.QtCore import Qt

from glue_lrs.viewers.live.tooltips import ADD_BACKGROUND
from glue_lrs.viewers.qt.panel.groups import PanelGroup, cursor_row
from glue_lrs.viewers.qt.panel.widgets import number_box, push_button, show_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from glue.core.subset_group import SubsetGroup

    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.regions import Edge, Kind, Region
    from glue_lrs.viewers.qt.panel.actions import PanelActions

#: Number of lines of text for which the table has room; it scrolls if there are more.
_TABLE_LINES = 6

_LIMITS_HINT = (
    "Pixel i extends from i − ½ to i + ½. Edges are positions on the image, as in src_coeff and "
    "bkg_coeff. xstart and xstop are the first and the last pixel that are summed: edges at 26.5 "
    "and 34.5 correspond to xstart 27 and xstop 34."
)


class RegionsGroup(PanelGroup):
    """Table of the regions, input fields for their edges, and buttons that change them."""

    def __init__(self, panel: PanelActions) -> None:
        super().__init__("Aperture and background regions", panel)
        self.table = self._make_table()
        self.column.addWidget(self.table)
        self.edges_label = QtWidgets.QLabel("edges")
        self.lower = self._make_edge_box("lower")
        self.upper = self._make_edge_box("upper")
        self.add_row(self.edges_label, self.lower, self.upper, blank=True)
        method, text, tip = ADD_BACKGROUND
        self.add_button = push_button(
            text, lambda: self.panel.run_slow(getattr(self.live, method)), tip
        )
        self.delete_button = push_button("Delete", self._delete, "Delete the selected region")
        self.straighten_button = push_button(
            "Straighten", self._straighten, "Make the edges straight again"
        )
        self.add_row(self.add_button, self.delete_button, self.straighten_button)
        self.subset = QtWidgets.QComboBox(
            toolTip="A range or polygon drawn as a glue subset",
            placeholderText="no subset",
            sizeAdjustPolicy=QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon,
            minimumContentsLength=6,
        )
        self.to_aperture = push_button("→ aperture", lambda: self._use_subset("aperture"))
        self.to_background = push_button("→ background", lambda: self._use_subset("background"))
        self.subset_row = QtWidgets.QWidget()
        row = QtWidgets.QHBoxLayout(self.subset_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.subset, 1)
        row.addWidget(self.to_aperture)
        row.addWidget(self.to_background)
        self.column.addWidget(self.subset_row)

    def _make_table(self) -> QtWidgets.QTableWidget:
        view, resizing = QtWidgets.QAbstractItemView, QtWidgets.QHeaderView
        table = QtWidgets.QTableWidget(0, 3, toolTip=_LIMITS_HINT, focusPolicy=Qt.NoFocus)
        table.setSelectionBehavior(view.SelectRows)
        table.setSelectionMode(view.SingleSelection)
        table.setEditTriggers(view.NoEditTriggers)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        table.setHorizontalHeaderLabels(["", "edges [pixel]", "in the JSON"])
        table.horizontalHeader().setSectionResizeMode(resizing.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(2, resizing.Stretch)
        table.verticalHeader().hide()
        lines = _TABLE_LINES * table.fontMetrics().lineSpacing()
        table.setFixedHeight(table.horizontalHeader().sizeHint().height() + lines + 12)
        table.itemSelectionChanged.connect(self._row_selected)
        return table

    def _make_edge_box(self, edge: Edge) -> QtWidgets.QDoubleSpinBox:
        """Make the input field for an edge of the selected region."""
        tip = f"Position of the {edge} edge of the selected region, in pixels"
        box = number_box(-50.0, 2000.0, tip)
        self.on_edit(box.valueChanged, lambda value: self._set_edge(edge, value))
        return box

    # --- refresh -------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the regions of the extraction."""
        regions, selected = self.live.regions, self._selected()
        self._fill_table(regions)
        if selected is None:
            self.table.clearSelection()
        elif self.table.currentRow() != selected or not self.table.selectedItems():
            self.table.selectRow(selected)
        region = None if selected is None else regions[selected]
        self.delete_button.setEnabled(region is not None and region.kind == "background")
        self.straighten_button.setEnabled(region is not None and not region.straight)
        for widget in (self.lower, self.upper):
            widget.setEnabled(region is not None)
        if region is not None:
            lower, upper = _edges_at_cursor(self.live, region)
            show_value(self.lower, lower)
            show_value(self.upper, upper)
            where = "" if region.straight else f" at row {cursor_row(self.live)}"
            self.edges_label.setText(f"edges{where}")
        labels = [group.label for group in self._subset_groups()]
        if labels != [self.subset.itemText(i) for i in range(self.subset.count())]:
            self.subset.clear()
            self.subset.addItems(labels)
        self.subset_row.setEnabled(bool(labels))

    def _fill_table(self, regions: tuple[Region, ...]) -> None:
        self.table.setRowCount(len(regions))
        backgrounds = 0
        for row, region in enumerate(regions):
            backgrounds += region.kind == "background"
            name = "aperture" if region.kind == "aperture" else f"bkg {backgrounds}"
            lower, upper = _edges_at_cursor(self.live, region)
            edges = f"{'' if region.straight else '~ '}{lower:.2f} – {upper:.2f}"
            for column, text in enumerate((name, edges, _reference_text(region))):
                item = self.table.item(row, column)
                if item is None:
                    item = QtWidgets.QTableWidgetItem()
                    self.table.setItem(row, column, item)
                if item.text() != text:
                    item.setText(text)
                    item.setToolTip(text if column == 2 else _LIMITS_HINT)
        self.table.resizeRowsToContents()

    def _selected(self) -> int | None:
        number = self.live.selected
        return number if number is not None and 0 <= number < len(self.live.regions) else None

    def _subset_groups(self) -> list[SubsetGroup]:
        return list(self.live.session.data_collection.subset_groups)

    # --- actions -------------------------------------------------------------------------------

    def _row_selected(self) -> None:
        rows = self.table.selectionModel().selectedRows()
        if not self.panel.filling and rows:
            self.live.selected = rows[0].row()

    def _replace_selected(
        self, change: Callable[[Region], Region], label: str, step: object = None
    ) -> None:
        """Replace the selected region by `change(region)`, as a command that can be undone."""
        selected = self._selected()
        if selected is not None:
            regions = list(self.live.regions)
            regions[selected] = change(regions[selected])
            self.panel.run(self.live.set, regions, label, step=step)
            self.panel.refresh_soon()

    def _set_edge(self, edge: Edge, value: float) -> None:
        def moved(region: Region) -> Region:
            old = _edges_at_cursor(self.live, region)[0 if edge == "lower" else 1]
            return region.with_edge(edge, value - old, self.live.rows, self.live.row_wavelength)

        self._replace_selected(moved, f"move the {edge} edge", (edge, self._selected()))

    def _straighten(self) -> None:
        self._replace_selected(
            lambda region: region.straightened(self.live.rows, self.live.row_wavelength),
            "straighten a region",
        )

    def _delete(self) -> None:
        selected = self._selected()
        if selected is not None and self.panel.run(self.live.delete_region, selected):
            self.live.selected = min(selected, len(self.live.regions) - 1)

    def _use_subset(self, kind: Kind) -> None:
        groups, index = self._subset_groups(), self.subset.currentIndex()
        if not 0 <= index < len(groups):
            return
        for subset in groups[index].subsets:
            if subset.data is self.live.data:
                self.panel.run(self.live.subset_to_region, subset, kind)


def _edges_at_cursor(live: LiveExtraction, region: Region) -> tuple[float, float]:
    """Return the edges of a region in the row of the crosshair, or the closest row with edges."""
    row, wave = cursor_row(live), live.row_wavelength
    lower, upper = region.at(live.rows[row], wave[row])
    if np.isnan([lower, upper]).any():
        known = np.flatnonzero(np.isfinite(wave))
        row = int(known[np.abs(known - row).argmin()])
        lower, upper = region.at(live.rows[row], wave[row])
    return float(lower), float(upper)


def _reference_text(region: Region) -> str:
    """Format the edges of a region as keywords of an EXTRACT1D reference file."""
    if region.kind == "aperture" and region.straight:
        return f"xstart {region.lower[0] + 0.5:.2f}\nxstop {region.upper[0] - 0.5:.2f}"
    key = "src_coeff" if region.kind == "aperture" else "bkg_coeff"
    edges = (", " if region.straight else ",\n ").join(
        "[" + ", ".join(f"{c:.3g}" if i else f"{c:.2f}" for i, c in enumerate(edge)) + "]"
        for edge in (region.lower, region.upper)
    )
    return f"{key}\n[{edges}]"
