"""Group in the extraction panel for the aperture and the background regions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy import QtWidgets
from qtpy.QtCore import Qt

from glue_lrs.viewers.qt.panel.groups import PanelGroup, cursor_row
from glue_lrs.viewers.qt.panel.widgets import number_box, push_button, show_value

if TYPE_CHECKING:
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.regions import Edge, Kind, Region
    from glue_lrs.viewers.qt.panel.actions import PanelActions

#: Minimum width in columns of a background region that is added with the button.
_MIN_BACKGROUND = 2

_LIMITS_HINT = (
    "Pixel i reaches from i − ½ to i + ½. The edges are positions on the image, as in src_coeff "
    "and bkg_coeff; xstart and xstop name the first and last pixel that are summed: edges at 26.5 "
    "and 34.5 are xstart 27, xstop 34."
)


class RegionsGroup(PanelGroup):
    """Table of the regions, input fields for their edges, and buttons that change them."""

    def __init__(self, actions: PanelActions) -> None:
        super().__init__("Aperture and background regions", actions)
        self.table = self._make_table()
        self.column.addWidget(self.table)
        self.lower, self.upper = (number_box(-50.0, 2000.0, 0.1, 2) for _ in range(2))
        self.edges_label = QtWidgets.QLabel("edges")
        for spin, edge in ((self.lower, "lower"), (self.upper, "upper")):
            spin.setToolTip(f"Position of the {edge} edge of the selected region, in pixels")
            spin.valueChanged.connect(lambda value, edge=edge: self._set_edge(edge, value))
        self.add_row(self.edges_label, self.lower, self.upper, stretch=True)
        self.add_button = push_button("Add background", self._add_background)
        self.delete_button = push_button("Delete", self._delete, "Delete the selected region")
        self.straighten_button = push_button(
            "Straighten", self._straighten, "Make the edges straight again"
        )
        self.add_row(self.add_button, self.delete_button, self.straighten_button)
        self.subset = QtWidgets.QComboBox()
        self.subset.setToolTip("A range or polygon drawn as a glue subset")
        self.subset.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        self.subset.setMinimumContentsLength(6)
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
        table = QtWidgets.QTableWidget(0, 3)
        table.setHorizontalHeaderLabels(["", "edges [pixel]", "in the JSON"])
        table.setToolTip(_LIMITS_HINT)
        table.verticalHeader().hide()
        table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectRows)
        table.setSelectionMode(QtWidgets.QAbstractItemView.SingleSelection)
        table.setEditTriggers(QtWidgets.QAbstractItemView.NoEditTriggers)
        table.setFocusPolicy(Qt.NoFocus)
        table.setHorizontalScrollBarPolicy(Qt.ScrollBarAlwaysOff)
        header = table.horizontalHeader()
        header.setSectionResizeMode(0, QtWidgets.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(1, QtWidgets.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(2, QtWidgets.QHeaderView.Stretch)
        table.itemSelectionChanged.connect(self._row_selected)
        return table

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
        for widget in (self.lower, self.upper):
            widget.setEnabled(region is not None)
        self.delete_button.setEnabled(region is not None and region.kind == "background")
        self.straighten_button.setEnabled(region is not None and not region.straight)
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
        self.subset_row.setVisible(bool(labels))

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
        height = self.table.horizontalHeader().height() + 4
        height += sum(self.table.rowHeight(row) for row in range(len(regions)))
        if self.table.height() != height:
            self.table.setFixedHeight(height)

    def _selected(self) -> int | None:
        number = self.live.selected
        return number if number is not None and 0 <= number < len(self.live.regions) else None

    def _subset_groups(self) -> list[Any]:
        return list(self.live.session.data_collection.subset_groups)

    # --- actions -------------------------------------------------------------------------------

    def _row_selected(self) -> None:
        rows = self.table.selectionModel().selectedRows()
        if not self.actions.filling and rows:
            self.live.selected = rows[0].row()

    def _set_edge(self, edge: Edge, value: float) -> None:
        selected = self._selected()
        if self.actions.filling or selected is None:
            return
        regions = list(self.live.regions)
        region = regions[selected]
        old = _edges_at_cursor(self.live, region)[0 if edge == "lower" else 1]
        regions[selected] = region.with_edge(
            edge, value - old, self.live.rows, self.live.row_wavelength
        )
        self.actions.run(self.live.set, regions, f"move the {edge} edge", step=(edge, selected))
        self.actions.refresh_soon()

    def _add_background(self) -> None:
        """Add a background region to the widest gap between regions, a third as wide as the gap."""
        (left, right), _ = self.live.image.bounding_box
        left, right = math.ceil(left) - 0.5 + 1.0, math.floor(right) + 0.5 - 1.0
        taken = sorted(_edges_at_cursor(self.live, region) for region in self.live.regions)
        gaps, at = [], left
        for lower, upper in taken:
            gaps.append((lower - at, at, lower))
            at = max(at, upper)
        gaps.append((right - at, at, right))
        room, start, stop = max(gaps)
        width = max(round(room / 3.0), _MIN_BACKGROUND)
        if room < width + 1.0:
            self.actions.report(
                "no background region was added: there is no room between the other regions",
                error=True,
            )
            return
        # put the region at the side of the gap that is farther from the source
        middle = (taken[0][0] + taken[0][1]) / 2.0 if taken else start
        lower = start + 1.0 if start + stop < 2 * middle else stop - 1.0 - width
        self.actions.run(self.live.add_region, "background", lower, lower + width)
        self.live.selected = len(self.live.regions) - 1

    def _delete(self) -> None:
        selected = self._selected()
        if selected is not None and self.actions.run(self.live.delete_region, selected):
            self.live.selected = min(selected, len(self.live.regions) - 1)

    def _straighten(self) -> None:
        selected = self._selected()
        if selected is not None:
            regions = list(self.live.regions)
            wave = self.live.row_wavelength
            regions[selected] = regions[selected].straightened(self.live.rows, wave)
            self.actions.run(self.live.set, regions, "straighten a region")

    def _use_subset(self, kind: Kind) -> None:
        groups, index = self._subset_groups(), self.subset.currentIndex()
        if not 0 <= index < len(groups):
            return
        for subset in groups[index].subsets:
            if subset.data is self.live.data:
                self.actions.run(self.live.subset_to_region, subset, kind)


def _edges_at_cursor(live: LiveExtraction, region: Region) -> tuple[float, float]:
    """Return the edges of a region in the row of the crosshair, or the closest row with edges."""
    row, wave = cursor_row(live), live.row_wavelength
    edges = region.at(live.rows[row], wave[row])
    if np.isnan(edges).any():
        known = np.flatnonzero(np.isfinite(wave))
        row = int(known[np.abs(known - row).argmin()])
        edges = region.at(live.rows[row], wave[row])
    return float(edges[0]), float(edges[1])


def _reference_text(region: Region) -> str:
    """Format a region with the keywords of an EXTRACT1D reference file."""
    if region.kind == "aperture" and region.straight:
        return f"xstart {region.lower[0] + 0.5:.2f}\nxstop {region.upper[0] - 0.5:.2f}"
    key = "src_coeff" if region.kind == "aperture" else "bkg_coeff"
    edges = (", " if region.straight else ",\n ").join(
        "[" + ", ".join(f"{c:.3g}" if i else f"{c:.2f}" for i, c in enumerate(edge)) + "]"
        for edge in (region.lower, region.upper)
    )
    return f"{key}\n[{edges}]"
