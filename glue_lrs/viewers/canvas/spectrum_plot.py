"""SpectrumPlot: a live spectrum with its errors, drawn as fast as the mouse moves."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.text import Text
from numpy.typing import NDArray

from glue_lrs.plotting.spectra import scale_axes
from glue_lrs.plotting.style import BLUE, GREEN, ORANGE, PURPLE, VERMILION, unit_label
from glue_lrs.viewers.canvas.blitting import Overlay, held
from glue_lrs.viewers.canvas.cached_text import CachedText
from glue_lrs.viewers.canvas.live_view import Limits, LiveView, bands
from glue_lrs.viewers.live.comparison import series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.viewers.live.live_extraction import LiveExtraction

__all__ = ["SpectrumPlot", "band_outlines"]

_BOX = {"boxstyle": "round,pad=0.25", "fc": "white", "ec": "none", "alpha": 0.85}

#: A press that moves by fewer points than this is a click.
_CLICK = 3.0

_CURSOR = (0, (6, 3))

#: Errors that many times larger than most, at as little signal, do not set the limits.
_WILD = 5.0

#: What is explained beside the comparison.
_EXTRACTED, _SIGMA, _MASKED = "extracted", "±1σ", "masked row"

#: Size of the explanation in points; over it, the width of a letter, and of a line with its spaces.
_SMALL, _LETTER, _KEY = 8.3, 0.58, 3.6

#: A label is not made shorter than that.
_SHORTEST = 9

#: The unit stays while typical values have this many of it.
_KEEP_UNIT = (0.2, 2e3)


class SpectrumPlot(LiveView):
    """The spectrum of a live extraction: flux, errors, masked rows, and one to compare with.

    A click sets the crosshair, a drag selects a range of wavelengths in glue, a double click or
    Delete clears it.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Wavelength in micron along x, flux along y.
    live : LiveExtraction
        What to show.
    ratio_axes : `~matplotlib.axes.Axes`, optional
        Where to draw the ratio to the comparison, on the same figure.
    unit : str, optional
        Unit of the flux, as ``"Jy"``; by default one that makes readable numbers. Without effect on
        fluxes that are no flux densities.
    labels : bool
        Whether to label the axes and to explain the lines.

    Attributes
    ----------
    unit : str
        The unit in use.
    limits : Limits
        Follows the data until somebody else sets the limits; see `reset_limits`.
    """

    def __init__(
        self,
        axes: Axes,
        live: LiveExtraction,
        *,
        ratio_axes: Axes | None = None,
        unit: str | None = None,
        labels: bool = True,
    ) -> None:
        super().__init__(axes, live)
        self.ratio_axes = ratio_axes
        self._fixed_unit = unit
        self._labels = labels
        self._unit: tuple[str | None, float, str] = (None, 1.0, "")
        self._start: tuple[float, float] | None = None
        self._dragged: tuple[float, float] | None = None
        self._compared: tuple[NDArray[np.float64], NDArray[np.float64], Any] | None = None
        self._explained: tuple[str, ...] | None = None
        self._masked = False
        self.limits = Limits(axes)
        put, across = self.layer.put, axes.get_xaxis_transform()
        self.range_patch = put(
            PathPatch(bands([]), fc=GREEN, ec=GREEN, lw=1.0, alpha=0.18), transform=across
        )
        self.band = put(PolyCollection([], fc=BLUE, alpha=0.25, lw=0))
        self.line = put(Line2D([], [], color=BLUE, lw=1.3))
        self.comparison_line = put(Line2D([], [], color=VERMILION, lw=1.2, ls=(0, (4, 1.5))))
        self.lone = put(Line2D([], [], color=BLUE, ls="", marker="o", ms=3))
        self.masked = put(Line2D([], [], color=PURPLE, ls="", marker="|", ms=8), transform=across)
        self.cursor = put(Line2D([], [], color=ORANGE, lw=1.2, ls=_CURSOR), transform=across)
        corner = axes.transAxes
        self.readout = put(
            CachedText(0.01, 0.985, "", ha="left", va="top", fontsize=9),
            transform=corner,
            above=True,
        )
        self.note = put(
            Text(0.5, 0.5, "", ha="center", va="center", fontsize=10, color="0.25", bbox=_BOX),
            transform=corner,
        )
        if ratio_axes is not None:
            self.ratio_limits = Limits(ratio_axes, text=False)
            self.ratio_layer = Overlay.on_axes(ratio_axes).layer(ratio_axes)
            across = ratio_axes.get_xaxis_transform()
            self.ratio_range = self.ratio_layer.put(
                PathPatch(bands([]), fc=GREEN, ec=GREEN, lw=1.0, alpha=0.18), transform=across
            )
            self.unity = self.ratio_layer.put(
                Line2D([0, 1], [1, 1], color="0.4", lw=0.8),
                transform=ratio_axes.get_yaxis_transform(),
            )
            self.ratio_line = self.ratio_layer.put(Line2D([], [], color=BLUE, lw=1.2))
            self.ratio_cursor = self.ratio_layer.put(
                Line2D([], [], color=ORANGE, lw=1.2, ls=_CURSOR), transform=across
            )
        self._connections.append(self.overlay.canvas.mpl_connect("resize_event", self._resized))
        self._set_up_axes()
        self.follow(self._extraction_changed, "extraction")
        self.follow(self._comparison_changed, "comparison", "comparison_label")
        self.follow(self._marks_changed, "cursor_row", "wavelength_ranges")
        with held():
            self._comparison_changed()
            self._marks_changed()
            self.overlay.redraw()

    @property
    def unit(self) -> str:
        """Unit of the fluxes that are drawn."""
        return self._unit[2]

    @property
    def busy(self) -> bool:
        """Whether a range is being drawn or the crosshair dragged."""
        return self._start is not None

    def reset_limits(self) -> None:
        """Let the limits follow the data again, after somebody else has set them."""
        self.limits.release()
        if self.ratio_axes is not None:
            self.ratio_limits.release()
        with held():
            self._set_x_limits()
            self._extraction_changed()
            self.overlay.redraw()

    def close(self) -> None:
        """Disconnect everything and take away what was drawn."""
        if self.closed:
            return
        super().close()
        self.limits.close()
        if self.ratio_axes is not None:
            self.ratio_limits.close()
            Overlay.on_axes(self.ratio_axes).remove(self.ratio_layer)

    # --- what is drawn -----------------------------------------------------------------------

    def _set_up_axes(self) -> None:
        self._set_x_limits()
        if self._labels:
            for axes in filter(None, (self.axes, self.ratio_axes)):
                axes.grid(visible=True, alpha=0.25)
            below = self.axes if self.ratio_axes is None else self.ratio_axes
            below.set_xlabel("wavelength [µm]")
        if self.ratio_axes is not None and self._labels:
            self.ratio_axes.set_ylabel("ratio")

    def _set_x_limits(self) -> None:
        if self.wavelength.empty:
            return
        low, high = float(self.wavelength.known.min()), float(self.wavelength.known.max())
        margin = 0.02 * (high - low) or 0.1
        for axes in filter(None, (self.axes, self.ratio_axes)):
            axes.set_xlim(low - margin, high + margin)

    def _extraction_changed(self, *_: Any) -> None:
        """Draw another spectrum: only the lines, unless limits or labels have to change."""
        if self.gone:
            return
        extraction = self.live.extraction
        if extraction is None:
            self._draw_nothing()
            self._read_out()
            self.overlay.update()
            return
        wave, flux, error, mask = _columns(extraction)
        source = extraction.units.get("FLUX")
        changed = self._choose_unit(flux[~mask], source)
        factor = self._unit[1]
        flux, error = np.where(mask, np.nan, flux * factor), np.where(mask, np.nan, error * factor)
        self.line.set_data(wave, flux)
        self.band.set_verts(band_outlines(wave, flux - error, flux + error))
        alone = _lone(np.isfinite(flux))
        self.lone.set_data(wave[alone], flux[alone])
        self.masked.set_data(wave[mask], np.full(int(mask.sum()), 0.02))
        self.note.set_text("" if (~mask).any() else "no row has a flux")
        comparison = self._draw_comparison()
        changed |= self._explain(bool(mask.any()))
        low, high = _robust(flux, error, comparison)
        changed |= self.limits.want(low, high, self.dragging)
        changed |= self._draw_ratio()
        self._read_out()
        if changed:
            self.overlay.redraw()
        else:
            self.overlay.update()

    def _settle(self) -> None:
        self._extraction_changed()

    def _draw_nothing(self) -> None:
        for line in (self.line, self.lone, self.masked):
            line.set_data([], [])
        self.band.set_verts([])
        if self.ratio_axes is not None:
            self.ratio_line.set_data([], [])
        why = self.live.message or "no spectrum"
        room = 0.9 * self.axes.bbox.width / (0.6 * self.note.get_fontsize() * self.points)
        self.note.set_text("\n".join(textwrap.wrap(why, max(int(room), 10))))

    def _choose_unit(self, flux: NDArray[np.float64], source: str | None) -> bool:
        """Choose the unit that is drawn; return whether it has changed."""
        before = self._unit
        if source is None or not u.Unit(source).is_equivalent(u.Jy):
            self._unit = (source, 1.0, unit_label(source))
        elif self._fixed_unit is not None:
            factor = u.Unit(source).to(self._fixed_unit)
            self._unit = (source, factor, unit_label(self._fixed_unit))
        else:
            finite = np.abs(flux[np.isfinite(flux)])
            typical = float(np.percentile(finite, 90)) * before[1] if finite.size else 1.0
            kept = before[0] == source and _KEEP_UNIT[0] <= typical <= _KEEP_UNIT[1]
            if not kept:
                self._unit = (source, *scale_axes(flux, source))
        if self._unit == before:
            return False
        if self._labels:
            self.axes.set_ylabel(f"flux [{self._unit[2]}]")
        if self.limits.follow:
            self.limits.release()
        self._comparison_in_unit()
        return True

    def _comparison_changed(self, *_: Any) -> None:
        if self.gone:
            return
        self._compared = None if self.live.comparison is None else series(self.live.comparison)
        self._comparison_in_unit()
        with held():
            self._extraction_changed()
            self.overlay.update()

    def _comparison_in_unit(self) -> None:
        """Put the comparison into the unit that is drawn; none if that cannot be."""
        line = self.comparison_line
        line.set_data([], [])
        if self._compared is None or self._unit[0] is None:
            return
        wave, flux, unit = self._compared
        try:
            factor = u.Unit(unit).to(self._unit[0]) * self._unit[1]
        except u.UnitConversionError:
            return
        line.set_data(wave, flux * factor)

    def _draw_comparison(self) -> NDArray[np.float64]:
        """Values of the comparison that are within the image's wavelengths."""
        wave, flux = self.comparison_line.get_data()
        wave, flux = np.asarray(wave, dtype=float), np.asarray(flux, dtype=float)
        if wave.size == 0 or self.wavelength.empty:
            return np.zeros(0)
        known = self.wavelength.known
        return flux[(wave >= known.min()) & (wave <= known.max())]

    def _draw_ratio(self) -> bool:
        if self.ratio_axes is None:
            return False
        wave, ratio = self.live.ratio()
        self.ratio_line.set_data(wave, ratio)
        finite = ratio[np.isfinite(ratio)]
        if finite.size == 0:
            return False
        low, high = (float(v) for v in np.percentile(finite, [5.0, 95.0]))
        return self.ratio_limits.want(min(low, 0.95), max(high, 1.05), self.dragging)

    def _explain(self, masked: bool) -> bool:
        """Explain the lines, where there is more than one; return whether that has changed."""
        label = self.live.comparison_label or "comparison"
        compared = np.size(self.comparison_line.get_xdata()) > 0
        other = self._compared is not None and not compared
        remark = ""
        if other and self._compared is not None:
            remark = f": in {unit_label(self._compared[2])}, not comparable"
        self._masked = masked
        wanted = self._entries(label if compared or other else "", remark, masked)
        if not self._labels or wanted == self._explained:
            return False
        self._explained = wanted
        known: dict[str, Any] = {
            _EXTRACTED: Line2D([], [], color=BLUE, lw=1.3),
            _SIGMA: Patch(color=BLUE, alpha=0.25, lw=0),
            _MASKED: Line2D([], [], color=PURPLE, ls="", marker="|", ms=8),
        }
        handles = [
            known.get(name) or Line2D([], [], color=VERMILION, lw=1.2, ls=(0, (4, 1.5)))
            for name in wanted
        ]
        self.axes.legend(
            handles=handles, labels=wanted, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4,
            frameon=False, fontsize=_SMALL, handlelength=1.6, columnspacing=1.2, borderaxespad=0.1,
        )  # fmt: skip
        return True

    def _entries(self, label: str, remark: str, masked: bool) -> tuple[str, ...]:
        """The explanation as far as there is room above the axes.

        In a narrow window what explains itself is left out, and a label is cut in its middle.
        """
        room = float(self.axes.bbox.width) / (_SMALL * self.points)
        names = [_EXTRACTED, _SIGMA, *([_MASKED] if masked else [])]

        def left() -> float:
            """Letters that there is room for beside the names."""
            taken = sum(_KEY + _LETTER * len(name) for name in names)
            return (room - taken - (_KEY if label else 0.0)) / _LETTER - len(remark)

        for name in (_SIGMA, _MASKED, _EXTRACTED):
            if left() < min(len(label), _SHORTEST) and name in names:
                names.remove(name)
        most = max(int(left()), _SHORTEST)
        if len(label) > most:
            label = f"{label[: most // 2]}…{label[len(label) - (most - most // 2 - 1) :]}"
        if label:
            names.insert(len(names) - (_MASKED in names), label + remark)
        return tuple(names)

    def _resized(self, *_: Any) -> None:
        """There is other room for the explanation."""
        if not self.gone and self._explained is not None:
            self._explain(self._masked)

    def _marks_changed(self, *_: Any) -> None:
        """Draw the crosshair and the selected range."""
        if self.gone:
            return
        row = self.live.cursor_row
        seen = row is not None and self.wavelength.covers(row)
        x = [float(self.wavelength.at(row))] * 2 if seen else []
        self.cursor.set_data(x, [0, 1] if seen else [])
        spans = self.live.wavelength_ranges if self._dragged is None else [self._dragged]
        patches = [self.range_patch]
        if self.ratio_axes is not None:
            self.ratio_cursor.set_data(x, [0, 1] if seen else [])
            patches.append(self.ratio_range)
        for patch in patches:
            patch.set_visible(len(spans) > 0)
            patch.set_path(bands(spans))
        self._read_out()
        self.overlay.update()

    def _read_out(self) -> None:
        """Say what the spectrum is at the crosshair."""
        row = self.live.cursor_row
        if row is None or not self.wavelength.covers(row):
            self.readout.set_visible(False)
            return
        at = float(self.wavelength.at(row))
        text = f"row {row:.0f}, {at:.3f} µm"
        extraction = self.live.extraction
        if extraction is not None:
            wave, flux, error, mask = _columns(extraction)
            near = int(np.argmin(np.abs(wave - at)))
            if abs(wave[near] - at) < 0.1 and not mask[near]:
                factor = self._unit[1]
                digits = _digits(error[near] * factor)
                text += (
                    f":  {flux[near] * factor:.{digits}f} ± {error[near] * factor:.{digits}f} "
                    f"{self._unit[2]}"
                )
            elif abs(wave[near] - at) < 0.1:
                text += ":  masked"
        self.readout.set_visible(True)
        self.readout.set_text(text)

    # --- the mouse ---------------------------------------------------------------------------

    def _press(self, event: Any) -> None:
        if event.dblclick:
            self.live.deselect()
            return
        self._start = (float(event.x), self.data_at(event)[0])

    def _drag(self, event: Any) -> None:
        assert self._start is not None
        pixel, x = self._start
        if self._dragged is None and abs(event.x - pixel) < _CLICK * self.points:
            return
        low, high = sorted((x, self.data_at(event)[0]))
        if not self.wavelength.empty:
            ends = float(self.wavelength.known.min()), float(self.wavelength.known.max())
            low, high = (min(max(end, ends[0]), ends[1]) for end in (low, high))
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

    def _key(self, key: str) -> None:
        if key == "escape" and self.busy:
            self._cancel()
        elif key in ("delete", "backspace") and not self.busy:
            self.live.deselect()


# --- numbers -----------------------------------------------------------------------------------


def _columns(
    extraction: Extraction,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Wavelength, flux, error and mask; of a stack the first spectrum."""
    pick: Any = 0 if extraction.is_stack else ...
    columns = extraction.columns
    flux = np.asarray(columns["FLUX"][pick], dtype=float)
    error = columns.get("FLUX_ERROR")
    width = np.full(flux.shape, np.nan) if error is None else np.asarray(error[pick], dtype=float)
    return extraction.wavelength, flux, width, np.asarray(extraction.mask[pick])


def _robust(
    flux: NDArray[np.float64], error: NDArray[np.float64], comparison: NDArray[np.float64]
) -> tuple[float, float]:
    """The range that shows all but the wildest values, with errors: LRS's ends are wild."""
    good = np.isfinite(flux)
    bars = good & np.isfinite(error)
    ends = []
    if bars.any():
        # Much larger errors than elsewhere, and no signal either.
        wild = (error > _WILD * np.median(error[bars])) & (np.abs(flux) < 2 * _WILD * error)
        if (bars & ~wild).any():
            good, bars = good & ~wild, bars & ~wild
        for side in (flux[bars] - error[bars], flux[bars] + error[bars]):
            ends.append(np.percentile(side, [10.0, 90.0]))
    for part in (flux[good], comparison[np.isfinite(comparison)]):
        if part.size:
            ends.append(np.percentile(part, [2.0, 98.0]))
        if part.size >= 5:  # single rows do not count, the few of a steep rise do
            smooth = np.median(np.lib.stride_tricks.sliding_window_view(part, 5), axis=1)
            ends.append(np.percentile(smooth, [0.5, 99.5]))
    if not ends:
        return np.nan, np.nan
    found = np.concatenate(ends)
    return float(found.min()), float(found.max())


def _runs(good: NDArray[np.bool_]) -> list[slice]:
    """Stretches without a gap."""
    steps = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(int)))
    return [slice(first, stop) for first, stop in zip(steps[::2], steps[1::2], strict=True)]


def _lone(good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Points without a neighbour, which a line does not show."""
    padded = np.concatenate([[False], good, [False]])
    return good & ~padded[:-2] & ~padded[2:]


def band_outlines(
    x: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Outlines of a band between two lines, one for each stretch without a gap."""
    outlines = []
    for run in _runs(np.isfinite(low) & np.isfinite(high)):
        where, bottom, top = x[run], low[run], high[run]
        if where.size == 1:  # as wide as its pixel
            pitch = np.abs(np.diff(x[max(run.start - 1, 0) : run.stop + 1]))
            half = 0.4 * float(np.min(pitch, initial=0.1))
            where, bottom, top = where + np.array([-half, half]), bottom.repeat(2), top.repeat(2)
        outlines.append(
            np.column_stack(
                [np.concatenate([where, where[::-1]]), np.concatenate([bottom, top[::-1]])]
            )
        )
    return outlines


def _digits(error: float) -> int:
    """Decimals that show two digits of an error."""
    if not np.isfinite(error) or error <= 0:
        return 3
    return int(np.clip(1 - np.floor(np.log10(error)), 0, 9))
