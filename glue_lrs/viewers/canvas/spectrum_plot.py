"""SpectrumPlot: the spectrum of a live extraction with its errors, redrawn during drags."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.text import Text
from numpy.typing import NDArray

from glue_lrs.plotting.style import (
    BLUE,
    FLAGGED,
    ORANGE,
    PURPLE,
    VERMILION,
    plain_text,
    unit_label,
)
from glue_lrs.viewers.canvas.blitting import Overlay, drawn_once
from glue_lrs.viewers.canvas.cached_text import above_heading, heading
from glue_lrs.viewers.canvas.limits import Limits
from glue_lrs.viewers.canvas.live_view import LiveView
from glue_lrs.viewers.canvas.other_setups import OtherSpectra
from glue_lrs.viewers.canvas.shapes import DASHES, RANGE_STYLE, band_outlines, bands
from glue_lrs.viewers.live.comparison import in_unit
from glue_lrs.viewers.live.plotted_spectrum import (
    FluxUnit,
    flux_text,
    flux_unit,
    isolated_points,
    plotted_columns,
    robust_range,
)
from glue_lrs.viewers.live.readout import Readout

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import MouseEvent

    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.setups import Setup

_COMPARISON: dict[str, Any] = {"color": VERMILION, "lw": 1.2, "ls": (0, (4, 1.5))}

_MASKED_ROW: dict[str, Any] = {"color": PURPLE, "ls": "", "marker": "|", "ms": 8}

_FLAGGED_ROW: dict[str, Any] = {"color": FLAGGED, "ls": "", "marker": "|", "ms": 5}

_BOX = {"boxstyle": "round,pad=0.25", "fc": "white", "ec": "none", "alpha": 0.85}

#: A press is a click, not a drag, if the mouse moves by less than this distance in points.
_CLICK = 3.0

#: Legend labels for the extracted spectrum, its errors, masked rows and rows with quality bits.
_EXTRACTED, _SIGMA, _MASKED, _FLAGGED = "extracted", "±1σ", "masked row", "quality bits"

#: Font size of the legend in points.
_FONT_SIZE = 8.3

#: Width of a letter in the legend, relative to the font size.
_LETTER_WIDTH = 0.58

#: Width of a symbol in the legend with its spacing, relative to the font size.
_KEY_WIDTH = 3.6

#: The label of the comparison is not shortened to fewer letters than this.
_MIN_LABEL = 9


class SpectrumPlot(LiveView):
    """Plot of a live spectrum: flux, errors, masked and flagged rows, and a comparison spectrum.

    A click moves the crosshair. A drag selects a range of wavelengths in glue, and a double click
    or the Delete key clears this selection.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Axes with wavelength in micron along x and flux along y.
    live : LiveExtraction
        Live extraction whose spectrum is shown.
    ratio_axes : `~matplotlib.axes.Axes`, optional
        Axes in the same figure that show the ratio of the flux to the comparison spectrum.
    unit : str, optional
        Unit of the flux, such as ``"Jy"``. By default a unit is chosen in which the values are easy
        to read. Ignored if the flux cannot be converted to Jy.

    Attributes
    ----------
    unit : str
        Unit in which fluxes are drawn.
    limits : Limits
        Limits of the y axis, which adapt to the data until a user sets them. `reset_limits` undoes
        the user's choice.
    """

    def __init__(
        self,
        axes: Axes,
        live: LiveExtraction,
        *,
        ratio_axes: Axes | None = None,
        unit: str | None = None,
    ) -> None:
        super().__init__(axes, live)
        self.ratio_axes = ratio_axes
        self._fixed_unit = unit
        self._unit = FluxUnit(None, 1.0, "")
        self._start: tuple[float, float] | None = None
        self._dragged: tuple[float, float] | None = None
        self._describer = Readout(live)
        self._legend_entries: tuple[str, ...] | None = None
        self._marked: tuple[str, ...] = ()
        self.limits = Limits(axes)
        self.y_limits.append(self.limits)
        put, across = self.layer.put, axes.get_xaxis_transform()
        self.range_patch = put(PathPatch(bands([]), **RANGE_STYLE, alpha=0.18), transform=across)
        self.band = put(PolyCollection([], fc=BLUE, alpha=0.25, lw=0))
        self.line = put(Line2D([], [], color=BLUE, lw=1.3))
        self.comparison_line = put(Line2D([], [], **_COMPARISON))
        self.others = OtherSpectra(self.layer)
        self._other_setups: tuple[Setup, ...] = ()
        self.isolated = put(Line2D([], [], color=BLUE, ls="", marker="o", ms=3))
        self.masked = put(Line2D([], [], **_MASKED_ROW), transform=across)
        self.flagged = put(Line2D([], [], **_FLAGGED_ROW), transform=across)
        self.cursor = put(Line2D([], [], color=ORANGE, lw=1.2, ls=DASHES), transform=across)
        self.readout = heading(self.layer)
        note = Text(0.5, 0.5, "", ha="center", va="center", fontsize=10, color="0.25", bbox=_BOX)
        self.note = put(note, transform=axes.transAxes)
        self._marks = [(self.cursor, self.range_patch)]
        if ratio_axes is not None:
            self.ratio_limits = Limits(ratio_axes)
            self.y_limits.append(self.ratio_limits)
            self.ratio_layer = Overlay.on_axes(ratio_axes).layer(ratio_axes)
            put, across = self.ratio_layer.put, ratio_axes.get_xaxis_transform()
            patch = PathPatch(bands([]), **RANGE_STYLE, alpha=0.18)
            range_patch = put(patch, transform=across)
            unity = Line2D([0, 1], [1, 1], color="0.4", lw=0.8)
            put(unity, transform=ratio_axes.get_yaxis_transform())
            self.ratio_line = put(Line2D([], [], color=BLUE, lw=1.2))
            cursor = Line2D([], [], color=ORANGE, lw=1.2, ls=DASHES)
            self._marks.append((put(cursor, transform=across), range_patch))
            ratio_axes.set_ylabel("ratio")
        self._connections.append(self.overlay.canvas.mpl_connect("resize_event", self._resized))
        self._all_axes = [axes] if ratio_axes is None else [axes, ratio_axes]
        self._all_axes[-1].set_xlabel("wavelength [µm]")
        for one in self._all_axes:
            one.grid(visible=True, alpha=0.25)
        self._set_x_limits()
        self.follow(self._extraction_changed, "extraction")
        self.follow(self._setups_changed, "setups")
        self.follow(self._comparison_changed, "comparison", "comparison_label")
        self.follow(self._marks_changed, "cursor_row", "wavelength_ranges")
        with drawn_once():
            self._comparison_changed()
            self._marks_changed()
            self.overlay.redraw()

    @property
    def unit(self) -> str:
        """Unit in which fluxes are drawn."""
        return self._unit[2]

    @property
    def busy(self) -> bool:
        """Whether a drag is in progress."""
        return self._start is not None

    def close(self) -> None:
        """Disconnect all callbacks and remove the artists."""
        if self.closed:
            return
        super().close()
        if self.ratio_axes is not None:
            Overlay.on_axes(self.ratio_axes).remove(self.ratio_layer)

    # --- drawing -----------------------------------------------------------------------------

    def _set_x_limits(self) -> None:
        low, high = self.wavelength.limits
        margin = 0.02 * (high - low) or 0.1
        if np.isfinite(margin):
            for axes in self._all_axes:
                axes.set_xlim(low - margin, high + margin)

    def _extraction_changed(self, *_: object) -> None:
        """Draw the spectrum; redraw the whole figure only if limits or labels change."""
        if self.removed:
            return
        extraction = self.live.extraction
        if extraction is None:
            self._draw_nothing()
            self._update_readout()
            self.overlay.update()
            return
        wave, flux, error, mask, bits = plotted_columns(extraction)
        source = extraction.units.get("FLUX")
        changed = self._choose_unit(flux[~mask], source)
        factor = self._unit[1]
        flux, error = np.where(mask, np.nan, flux * factor), np.where(mask, np.nan, error * factor)
        self.line.set_data(wave, flux)
        self.band.set_verts(band_outlines(wave, flux - error, flux + error))
        isolated = isolated_points(np.isfinite(flux))
        self.isolated.set_data(wave[isolated], flux[isolated])
        self.masked.set_data(wave[mask], np.full(int(mask.sum()), 0.02))
        self.note.set_text("" if (~mask).any() else "no row has a flux")
        self.others.update(self.live, source, factor)
        comparison = np.concatenate([self._comparison_values(), self.others.values()])
        flagged = (bits != 0) & ~mask
        self.flagged.set_data(wave[flagged], np.full(int(flagged.sum()), 0.05))
        marks = {_MASKED: mask, _FLAGGED: flagged}
        self._marked = tuple(name for name, rows in marks.items() if rows.any())
        changed |= self._update_legend()
        low, high = robust_range(flux, error, comparison)
        changed |= self.limits.include(low, high, dragging=self.dragging)
        changed |= self._draw_ratio()
        self._update_readout()
        if changed:
            self.overlay.redraw()
        else:
            self.overlay.update()

    def _setups_changed(self, *_: object) -> None:
        """Draw again if another setup than the edited one has changed."""
        others = self.live.arrangement.others
        if others != self._other_setups:
            self._other_setups = others
            self._extraction_changed()

    def _refresh(self) -> None:
        self._extraction_changed()

    def _draw_nothing(self) -> None:
        for line in (self.line, self.isolated, self.masked, self.flagged):
            line.set_data([], [])
        self.band.set_verts([])
        if self.ratio_axes is not None:
            self.ratio_line.set_data([], [])
        reason = self.live.message or "no spectrum"
        letters = 0.9 * self.axes.bbox.width / (0.6 * float(self.note.get_fontsize()) * self.points)
        self.note.set_text("\n".join(textwrap.wrap(plain_text(reason), max(int(letters), 10))))

    def _choose_unit(self, flux: NDArray[np.float64], source: str | None) -> bool:
        """Choose the unit of the flux; return whether it has changed."""
        before = self._unit
        self._unit = flux_unit(flux, source, before, self._fixed_unit)
        if self._unit == before:
            return False
        self.axes.set_ylabel(f"flux [{self._unit[2]}]")
        if self.limits.follow:
            self.limits.release()
        self._comparison_in_unit()
        return True

    def _comparison_changed(self, *_: object) -> None:
        if self.removed:
            return
        self._comparison_in_unit()
        self._extraction_changed()

    def _comparison_in_unit(self) -> None:
        """Draw the comparison in the unit of the spectrum, if it can be converted."""
        line = self.comparison_line
        line.set_data([], [])
        if self.live.comparison is None or self._unit[0] is None:
            return
        converted = in_unit(self.live.comparison, self._unit[0])
        if converted is not None:
            wave, flux = converted
            line.set_data(wave, flux * self._unit[1])

    def _comparison_values(self) -> NDArray[np.float64]:
        """Return the fluxes of the comparison within the wavelength range of the image."""
        wave, flux = (np.asarray(one, dtype=float) for one in self.comparison_line.get_data())
        low, high = self.wavelength.limits
        return flux[(wave >= low) & (wave <= high)]

    def _draw_ratio(self) -> bool:
        if self.ratio_axes is None:
            return False
        wave, ratio = self.live.ratio()
        self.ratio_line.set_data(wave, ratio)
        finite = ratio[np.isfinite(ratio)]
        if finite.size == 0:
            return False
        low, high = (float(v) for v in np.percentile(finite, [5.0, 95.0]))
        return self.ratio_limits.include(min(low, 0.95), max(high, 1.05), dragging=self.dragging)

    def _update_legend(self) -> bool:
        """Draw the legend if its labels have changed; return whether they have."""
        label = self.live.comparison_label or "comparison"
        compared = np.size(self.comparison_line.get_xdata()) > 0
        remark = ""
        if self.live.comparison is not None and not compared:
            remark = f": in {unit_label(self.live.comparison.flux.unit)}, not comparable"
        entries = self._entries(label if compared or remark else "", remark)
        if entries == self._legend_entries:
            return False
        self._legend_entries = entries
        known: dict[str, Artist] = {
            _EXTRACTED: Line2D([], [], color=BLUE, lw=1.3),
            self._sigma: Patch(color=BLUE, alpha=0.25, lw=0),
            _MASKED: Line2D([], [], **_MASKED_ROW),
            _FLAGGED: Line2D([], [], **_FLAGGED_ROW),
            f"{self.live.active} {_EXTRACTED}": Line2D([], [], color=BLUE, lw=1.3),
            **self.others.lines,
        }
        handles = [known.get(name, Line2D([], [], **_COMPARISON)) for name in entries]
        self.axes.legend(
            handles=handles, labels=[*map(plain_text, entries)], loc="lower left",
            bbox_to_anchor=(0.0, 1.0), bbox_transform=above_heading(self.axes), ncols=5,
            frameon=False, fontsize=_FONT_SIZE, handlelength=1.6, columnspacing=1.2,
            borderaxespad=0.1,
        )  # fmt: skip
        return True

    def _entries(self, label: str, remark: str) -> tuple[str, ...]:
        """Return the legend labels for which there is room above the axes.

        In a narrow window, the labels for the extraction are omitted, and the label for the
        comparison is shortened in its middle.
        """
        width = float(self.axes.bbox.width) / (_FONT_SIZE * self.points)
        setups = self.others.lines
        extracted = f"{self.live.active} {_EXTRACTED}" if setups else _EXTRACTED
        names = [extracted, *sorted(setups), self._sigma, *self._marked]

        def letters_left() -> float:
            """Return how many letters of the comparison's label fit next to the other labels."""
            taken = sum(_KEY_WIDTH + _LETTER_WIDTH * len(name) for name in names)
            return (width - taken - (_KEY_WIDTH if label else 0.0)) / _LETTER_WIDTH - len(remark)

        for name in (_FLAGGED, self._sigma, _MASKED, extracted):
            if letters_left() < min(len(label), _MIN_LABEL) and name in names:
                names.remove(name)
        most = max(int(letters_left()), _MIN_LABEL)
        if len(label) > most:
            label = f"{label[: most // 2]}…{label[len(label) - (most - most // 2 - 1) :]}"
        if label:
            marks = sum(name in self._marked for name in names)
            names.insert(len(names) - marks, label + remark)
        return tuple(names)

    @property
    def _sigma(self) -> str:
        """Label of the errors, with their origin unless they are propagated."""
        noise = self.live.operator.noise
        return _SIGMA if noise == "propagated" else f"{_SIGMA} ({noise})"

    def _resized(self, *_: object) -> None:
        """Adapt the legend to the new width."""
        if not self.removed and self._legend_entries is not None:
            self._update_legend()

    def _marks_changed(self, *_: object) -> None:
        """Draw the crosshair and the selected ranges of wavelength."""
        if self.removed:
            return
        row = self.live.cursor_row
        x = float(self.wavelength.at(row)) if self.wavelength.covers(row) else np.nan
        spans = self.live.wavelength_ranges if self._dragged is None else [self._dragged]
        for cursor, patch in self._marks:
            cursor.set_data([x, x], [0, 1])
            patch.set(visible=len(spans) > 0, path=bands(spans))
        self._update_readout()
        self.overlay.update()

    def _update_readout(self) -> None:
        """Write the flux at the crosshair in the corner of the axes."""
        row = self.live.cursor_row
        self.readout.set_visible(self.wavelength.covers(row))
        if not self.wavelength.covers(row):
            return
        at = float(self.wavelength.at(row))
        text = f"row {row:.0f}, {at:.3f} µm"
        extraction = self.live.extraction
        if extraction is not None:
            text += flux_text(extraction, at, self._unit)
        self.readout.set_text(text)

    # --- pointer -----------------------------------------------------------------------------

    def _describe(self, x: float, y: float) -> tuple[str, ...]:
        return self._describer.spectrum(x, self._unit)

    def _press(self, event: MouseEvent) -> None:
        if event.dblclick:
            self.live.deselect()
            return
        self._start = (float(event.x), self.data_at(event)[0])

    def _drag(self, event: MouseEvent) -> None:
        assert self._start is not None
        pixel, x = self._start
        if self._dragged is None and abs(event.x - pixel) < _CLICK * self.points:
            return
        low, high = sorted((x, self.data_at(event)[0]))
        low, high = np.clip((low, high), *self.wavelength.limits).tolist()
        self._dragged = (low, high)
        self._marks_changed()

    def _drop(self) -> None:
        assert self._start is not None
        (_, x), dragged = self._start, self._dragged
        self._start = self._dragged = None
        if dragged is None:
            row = float(self.wavelength.row(x))
            if np.isfinite(row):
                self.live.cursor_row = row
        elif dragged[1] > dragged[0]:
            self.live.select(*dragged)
        self._marks_changed()

    def _cancel(self) -> None:
        self._start = self._dragged = None
        self._marks_changed()

    def press_key(self, key: str) -> None:
        """Cancel a drag on Escape, or clear the selection on Delete."""
        if key == "escape" and self.busy:
            self._cancel()
        elif key in ("delete", "backspace") and not self.busy:
            self.live.deselect()
