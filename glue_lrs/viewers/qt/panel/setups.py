"""Group in the extraction panel for several apertures or settings, each with its spectrum."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy import QtWidgets

from glue_lrs.viewers.qt.panel.groups import PanelGroup, cursor_row
from glue_lrs.viewers.qt.panel.widgets import push_button

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.viewers.qt.panel.actions import PanelActions


class SetupsGroup(PanelGroup):
    """Choice of the setup that is edited, and buttons that add, compare and remove setups."""

    def __init__(self, panel: PanelActions) -> None:
        super().__init__("Sources and settings", panel)
        setups = self.live.arrangement
        self.choice = QtWidgets.QComboBox(
            toolTip="Aperture and settings that are edited; the other spectra are drawn as well"
        )
        self.on_edit(self.choice.activated, self._activate)
        self.switch_button = push_button(
            "A/B", partial(panel.run, setups.switch), "Go back to the setup that was edited before"
        )
        self.remove_button = push_button(
            "Remove", self._remove, "Remove this setup; its settings are lost"
        )
        self.add_row(self.choice, self.switch_button, self.remove_button, wide=self.choice)
        tip = "Put another aperture of the same width on the brightest source that has none"
        self.source_button = push_button(
            "Next source", partial(panel.run_slow, setups.add_source), tip
        )
        tip = "Keep this result for comparison, and edit a copy; A/B switches between them"
        self.keep_button = push_button("Keep", partial(panel.run, setups.keep_for_comparison), tip)
        self.add_row(self.source_button, self.keep_button)

    def refresh(self) -> None:
        """Show the names of the setups."""
        live = self.live
        labels = [f"{one.name}: {self._summary(one.operator)}" for one in live.setups]
        if labels != [self.choice.itemText(i) for i in range(self.choice.count())]:
            self.choice.clear()
            for one, label in zip(live.setups, labels, strict=True):
                self.choice.addItem(label, one.name)
        self.choice.setCurrentIndex(self.choice.findData(live.active))
        for button in (self.switch_button, self.remove_button):
            button.setEnabled(len(live.setups) > 1)

    def _summary(self, operator: Extract1D) -> str:
        """Return the columns of an aperture and the method in a few words."""
        apertures = [one for one in self.live.regions_of(operator) if one.kind == "aperture"]
        row = cursor_row(self.live)
        at = self.live.rows[row], self.live.row_wavelength[row]
        edges = ", ".join("{:.1f} – {:.1f}".format(*one.at(*at)) for one in apertures)
        return edges + (", optimal" if operator.mode != "box" else "")

    def _activate(self, index: int) -> None:
        self.panel.run(self.live.arrangement.activate, self.choice.itemData(index))

    def _remove(self) -> None:
        self.panel.run(self.live.arrangement.remove, self.live.active)
