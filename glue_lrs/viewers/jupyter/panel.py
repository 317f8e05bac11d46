"""The extraction panel in a notebook: settings and results of a live extraction."""

from __future__ import annotations

import html
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from glue_jupyter.utils import get_ioloop

from glue_lrs.errors import LRSError, LRSWarning
from glue_lrs.viewers.live.comparison import not_comparable
from glue_lrs.viewers.live.follower import Follower
from glue_lrs.viewers.live.messages import panel_text
from glue_lrs.viewers.live.names import (
    folder_of,
    lost_text,
    noise_text,
    ratio_text,
    spectrum_ending,
    stem_of,
)
from glue_lrs.viewers.live.regions import DIGITS, Region
from glue_lrs.viewers.live.tooltips import (
    ADD_BACKGROUND,
    CORRECTIONS,
    METHODS,
    RESIDUAL_HINT,
    SOURCE_ACTIONS,
)

if TYPE_CHECKING:
    from asyncio import TimerHandle
    from collections.abc import Callable

    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Colours of messages. JupyterLab defines those of its theme; the others are readable on light and
#: dark pages.
_COLOURS = {
    "error": "var(--jp-error-color1, #d32f2f)",
    "warning": "var(--jp-warn-color1, #b26a00)",
    "info": "inherit",
}

#: Height of the list of messages in pixels. It scrolls if there are more.
_MESSAGES = 84

#: Seconds after the last change in which all checks are made, as in the desktop.
_CHECK_DELAY = 0.4

_ROW = {"flex_flow": "row wrap", "width": "100%", "align_items": "center"}


class Panel(Follower):
    """Widgets that show a live extraction and change it.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction that the panel shows.

    Attributes
    ----------
    widget : ipywidgets.VBox
        The panel.
    status : ipywidgets.HTML
        Line that describes the region that is dragged.
    message : ipywidgets.HTML
        List of errors, warnings and notes, in a place of constant height.
    buttons : dict of str to ipywidgets.Button
        The buttons, by the name of the action.
    """

    live: LiveExtraction

    def __init__(self, live: LiveExtraction) -> None:
        self.live = live
        self._filling = False
        self._unchecked: Extraction | None = None
        self._checked: Extraction | None = None
        self._timer: TimerHandle | None = None
        self.buttons: dict[str, widgets.Button] = {}
        self.status, self.message, self.results = (_line() for _ in range(3))
        self.xstart, self.xstop = (
            self._number(name, f"First and last pixel of the aperture ({name})", self._set_limits)
            for name in ("xstart", "xstop")
        )
        self.subtract = widgets.Checkbox(description="background", indent=False, layout=_auto())
        self.fit = widgets.Dropdown(
            options=[("polynomial", "poly"), ("median", "median")], layout=_auto("110px")
        )
        self.order = widgets.BoundedIntText(
            min=0, max=9, description="order", layout=_auto("110px"),
            style={"description_width": "initial"},
            tooltip="Order of the polynomial along the slit; 0 is the mean",
        )  # fmt: skip
        self._observe(self.subtract, self._set_subtract)
        self._observe(self.fit, lambda value: self._set_background(bkg_fit=value))
        self._observe(self.order, lambda value: self._set_background(bkg_order=value))
        self.method = self._choice("method", METHODS, live.actions.set_method)
        self.correction = self._choice("correction", CORRECTIONS, live.actions.set_correction)
        self.adding = widgets.ToggleButton(
            description="Draw background", layout=_auto(),
            tooltip="The next drag across columns of the image adds a background region",
        )  # fmt: skip
        self.comparison = self._path("x1d file to compare with")
        self.apcorr = self._path("")
        self.spectrum_path = self._path("", f"{stem_of(live)}{spectrum_ending(live)}")
        self.reference_path = self._path("", f"{stem_of(live)}_extract1d.json")
        self.replace = widgets.Checkbox(
            description="replace files", indent=False, layout=_auto(),
            tooltip="Whether the buttons on the left may replace existing files",
        )  # fmt: skip
        rows = [
            self._stack_row(), self._aperture_row(), self._method_row(), self._action_row(),
            self._file_row(),
            self.status, self.results, self._message_row(),
        ]  # fmt: skip
        self.widget = widgets.VBox(
            [row for row in rows if row is not None], layout={"width": "100%"}
        )
        self.follow(self.refresh, "operator", "extraction", "measured", "comparison", "integration")
        self.follow(self.refresh, "wavelength_ranges", "cursor_row", "residual_shown")
        self.follow(self._show_message, "message", "findings", "notices", "extraction")
        live.session.command_stack.add_callback(self.refresh)  # not all commits change a property
        self.refresh()
        self._show_message()

    # --- widgets ---------------------------------------------------------------------------------

    def _stack_row(self) -> widgets.Widget | None:
        if not self.live.image.is_stack:
            return None
        self.slider = widgets.IntSlider(
            min=1, max=self.live.image.data.shape[0], description="integration",
            layout={"width": "60%"}, style={"description_width": "initial"},
        )  # fmt: skip
        self.median = widgets.Checkbox(description="median of all", indent=False, layout=_auto())
        self._observe(self.slider, lambda number: self._set_integration(number - 1))
        self._observe(
            self.median, lambda on: self._set_integration(None if on else self.slider.value - 1)
        )
        return widgets.HBox([self.slider, self.median], layout=_ROW)

    def _aperture_row(self) -> widgets.Widget:
        parts = [self.xstart, self.xstop, self.subtract, self.fit, self.order, self.adding]
        return widgets.HBox(parts, layout=_ROW)

    def _method_row(self) -> widgets.Widget:
        method, text, tip = ADD_BACKGROUND
        self._button(text, getattr(self.live, method), tip)
        parts = [self.method, self.correction, self.buttons[text]]
        return widgets.HBox(parts, layout=_ROW)

    def _message_row(self) -> widgets.Widget:
        self.message.layout.height = f"{_MESSAGES}px"
        self.message.layout.overflow = "auto"
        tip = "Remove the messages of earlier actions; those about the spectrum remain"
        self._button("Clear", self.live.messages.clear, tip)
        self.message.layout.width = "88%"
        return widgets.HBox([self.message, self.buttons["Clear"]], layout=_ROW)

    def _choice(
        self, name: str, choices: tuple[tuple[str, str], ...], function: Callable[[str], object]
    ) -> widgets.Dropdown:
        """Make a menu with values and labels, which calls a function with the value."""
        menu = widgets.Dropdown(
            options=[(label, value) for value, label in choices],
            description=name,
            layout=_auto("230px"),
            style={"description_width": "70px"},
        )
        self._observe(menu, function)
        return menu

    def _action_row(self) -> widgets.Widget:
        live = self.live
        tip = "Measure position and width of the source, and the aperture with the best S/N"
        self._button("Measure", self._measure, tip)
        for method, text, tip in SOURCE_ACTIONS:
            self._button(text, getattr(live, method), tip)
        self._button("Default", live.default, "Default aperture for this type of file")
        self.residual = widgets.ToggleButton(
            description="Residual", tooltip=RESIDUAL_HINT, layout=_auto()
        )
        self._observe(self.residual, self._set_residual)
        self._button("Undo", partial(self._step, "undo"), "Undo the last change")
        self._button("Redo", partial(self._step, "redo"), "Redo the change that was undone last")
        names = ("Add background", "Clear")
        actions = [button for name, button in self.buttons.items() if name not in names]
        return widgets.HBox([*actions, self.residual], layout=_ROW)

    def _file_row(self) -> widgets.Widget:
        self._button("Save x1d", partial(self._save, self.live.save_spectrum, self.spectrum_path))
        tip = "EXTRACT1D reference, for override_extract1d"
        save = partial(self._save, self.live.save_reference, self.reference_path)
        self._button("Save JSON", save, tip)
        self._button("Compare", self._compare, "Overlay the spectrum of this file, or none")
        tip = "Correct for the aperture with this APCORR reference, or not at all"
        self._button("APCORR", self._set_apcorr, tip)
        pairs = (
            ("Save x1d", self.spectrum_path),
            ("Save JSON", self.reference_path),
            ("Compare", self.comparison),
            ("APCORR", self.apcorr),
        )
        parts = [part for name, path in pairs for part in (path, self.buttons[name])]
        parts.insert(4, self.replace)
        return widgets.HBox(parts, layout=_ROW)

    def _button(self, text: str, function: Callable[[], object], tip: str = "") -> None:
        button = widgets.Button(description=text, tooltip=tip, layout=_auto())
        button.on_click(lambda _: self.run(function))
        self.buttons[text] = button

    def _number(
        self, name: str, tip: str, function: Callable[[float], object]
    ) -> widgets.BoundedFloatText:
        number = widgets.BoundedFloatText(
            min=-500.0, max=2000.0, step=0.1, description=name, tooltip=tip, layout=_auto("140px"),
            style={"description_width": "45px"},
        )  # fmt: skip
        self._observe(number, function)
        return number

    def _path(self, placeholder: str, value: str = "") -> widgets.Text:
        return widgets.Text(value=value, placeholder=placeholder, layout=_auto("190px"))

    def _observe(self, widget: Any, function: Callable[[Any], object]) -> None:
        """Call a function with a value that the user, not `refresh`, has set."""

        def changed(change: dict[str, Any]) -> None:
            if not self._filling:
                self.run(lambda: function(change["new"]))

        widget.observe(changed, names="value")

    # --- actions ---------------------------------------------------------------------------------

    def run(self, function: Callable[[], object]) -> bool:
        """Call a function, and show the text that it returns, or an `LRSError` or `LRSWarning`.

        Returns
        -------
        bool
            Whether the function has returned without an `LRSError`.
        """
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                result = function()
        except LRSError as error:
            self.refresh()  # the widgets show the committed values again
            self.live.notify(panel_text(error, self.live.image), "error")
            return False
        if isinstance(result, str):
            self.live.notify(result, "info")
        for one in caught:
            if issubclass(one.category, LRSWarning):
                self.live.notify(panel_text(one.message, self.live.image))
        return True

    def _set_limits(self, _: float) -> None:
        """Move the edges of the aperture to the numbers in the panel."""
        regions = list(self.live.regions)
        limits = self.xstart.value - 0.5, self.xstop.value + 0.5
        at = next(index for index, region in enumerate(regions) if region.kind == "aperture")
        lower, upper = limits
        regions[at] = Region("aperture", (lower,), (upper,), regions[at].variable)
        self.live.editing.set_or_raise(regions, "move an edge of the aperture")

    def _set_subtract(self, on: bool) -> None:
        operator = replace(self.live.extract, subtract_background=None if on else False)
        self.live.editing.set_or_raise(operator, "subtract the background")

    def _set_background(self, **changes: Any) -> None:
        background = self.live.extract.background
        if background is not None:
            operator = replace(self.live.extract, background=replace(background, **changes))
            self.live.editing.set_or_raise(operator, "fit the background")

    def _set_integration(self, number: int | None) -> None:
        self.live.integration = number

    def _set_residual(self, on: bool) -> None:
        if on:
            self.live.residual()
        else:
            self.live.hide_residual()

    def _measure(self) -> None:
        for note in self.live.measure().notes:
            self.live.notify(note)

    def _step(self, name: str) -> str | None:
        stack = self.live.session.command_stack
        possible = dict(zip(("undo", "redo"), stack.can_undo_redo(), strict=True))
        if not possible[name]:
            return f"there is nothing to {name}"
        getattr(stack, name)()
        return None

    def _save(self, function: Callable[..., object], path: widgets.Text) -> str:
        """Write a file, whose name is relative to the folder of the image, and say so."""
        target = folder_of(self.live) / path.value.strip()
        function(target, overwrite=self.replace.value)
        return f"wrote {target}"

    def _compare(self) -> None:
        self.live.load_comparison(self._file_in(self.comparison))

    def _set_apcorr(self) -> None:
        self.live.load_apcorr(self._file_in(self.apcorr))

    def _file_in(self, path: widgets.Text) -> Path | None:
        """Return the path in a field, relative to the folder of the image, or None if empty."""
        name = path.value.strip()
        return folder_of(self.live) / Path(name).expanduser() if name else None

    # --- state -----------------------------------------------------------------------------------

    def refresh(self, *_: object) -> None:
        """Show the committed operator and its results; during a drag, nothing changes."""
        live = self.live
        if live.closed or live.operator is not live.extract:
            return
        self._filling = True
        try:
            self._fill()
        finally:
            self._filling = False
        lines = [self._numbers(), live.correction_text()]
        if live.measured is not None:
            row = min(max(round(live.cursor_row), 0), live.image.shape[0] - 1)
            lines.append(f"measured: {live.measured.line(float(live.row_wavelength[row]))}")
        if live.extraction is not self._unchecked:
            self._unchecked = live.extraction
            self._check_soon()
        self.results.value = "<br>".join(_html(line) for line in lines if line)

    def _check_soon(self) -> None:
        """Make all checks when nothing has changed for a while, as they take about a second."""
        loop = get_ioloop()
        if self._timer is not None:
            self._timer.cancel()
        if loop is not None:
            self._timer = loop.call_later(_CHECK_DELAY, self._check)

    def _check(self) -> None:
        """Make all checks, unless the user is dragging a region."""
        self._timer = None
        if not self.live.closed and self.live.operator is self.live.extract:
            self._checked = self.live.extraction
            self.live.check()
            self.refresh()

    def check_now(self) -> None:
        """Make all checks now, unless they were made for the spectrum that is shown."""
        if self.live.extraction is not self._checked:
            if self._timer is not None:
                self._timer.cancel()
            self._check()

    def _fill(self) -> None:
        """Show the settings in the widgets."""
        live = self.live
        apertures = [region for region in live.regions if region.kind == "aperture"]
        straight = len(apertures) == 1 and apertures[0].straight
        for widget in (self.xstart, self.xstop):
            widget.disabled = not straight
        if straight:
            self.xstart.value = round(apertures[0].lower[0] + 0.5, DIGITS)
            self.xstop.value = round(apertures[0].upper[0] - 0.5, DIGITS)
        operator = live.operator
        self.method.value = operator.mode
        self.correction.value = operator.correction if operator.apply_apcorr else "none"
        background = operator.background
        for widget in (self.subtract, self.fit, self.order):
            widget.disabled = background is None
        self.subtract.value = (
            background is not None and live.operator.subtract_background is not False
        )
        if background is not None:
            self.fit.value = "median" if background.bkg_fit == "median" else "poly"
            self.order.value = background.bkg_order
            self.order.disabled = background.bkg_fit != "poly"
        self.residual.value = bool(live.residual_shown)
        correction = live.operator.aperture_correction
        file = "" if correction is None else correction.filename or "given in Python"
        self.apcorr.placeholder = f"APCORR: {file or 'none'}"
        if live.image.is_stack:
            self.median.value = live.integration is None
            self.slider.disabled = live.integration is None
            self.slider.value = (live.integration or 0) + 1

    def _numbers(self) -> str:
        """Return the statistics of the spectrum in one line."""
        live, numbers = self.live, self.live.numbers()
        ranges = [f"{low:.2f} – {high:.2f}" for low, high in live.wavelength_ranges]
        parts = [
            f"{', '.join(ranges)} µm" if ranges else "all wavelengths",
            f"median S/N {noise_text(numbers)}",
            f"lost pixels: {lost_text(numbers)}",
        ]
        if live.comparison is not None:
            remark = not_comparable(live.extraction, live.comparison)
            ratio = f"flux / {live.comparison_label} {ratio_text(numbers.ratio)}"
            parts.append(f"{live.comparison_label}: {remark}" if remark else ratio)
        return "; ".join(parts)

    def _show_message(self, *_: object) -> None:
        """List the messages, each in the colour of its severity."""
        self.message.value = "<br>".join(
            _html(f"{'' if one.severity == 'info' else f'{one.severity}: '}{one}", one.severity)
            for one in self.live.messages.lines()
        )

    def show_status(self, text: str) -> None:
        """Show a text about the region that is dragged."""
        self.status.value = _html(text)

    def close(self) -> None:
        """Disconnect the panel from the extraction."""
        if self._timer is not None:
            self._timer.cancel()
        self.unfollow()
        self.live.session.command_stack.remove_callback(self.refresh)


def _auto(width: str = "auto") -> dict[str, str]:
    """Return the layout of a widget that is as wide as its text, or has a given width."""
    return {"width": width}


def _line() -> widgets.HTML:
    return widgets.HTML(layout={"width": "100%", "min_height": "20px"})


def _html(text: str, severity: str = "info") -> str:
    """Return a line of text that is shown as it is, even if it looks like HTML."""
    colour = _COLOURS[severity]
    return f'<span style="line-height: 1.3; color: {colour}">{html.escape(text)}</span>'
