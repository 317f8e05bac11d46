"""Constraints on the movement of regions: the limits of the image and a minimum width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.viewers.live.regions import DIGITS

if TYPE_CHECKING:
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.regions import Edge, End, Region

_Array = NDArray[np.float64]

#: Minimum width of a region, and minimum width of its part on the image, in columns.
MIN_WIDTH = 1.0


class RegionConstraints:
    """Methods that move parts of regions as far as the image and the minimum width permit.

    An edge stops at a distance of `MIN_WIDTH` columns from the opposite edge, and at the limit of
    the image. A body stops when only `MIN_WIDTH` columns of it are left on the image. A region that
    is already outside the image may be moved back.

    Parameters
    ----------
    live : LiveExtraction
        Extraction that provides the image and the wavelengths of the rows.
    """

    def __init__(self, live: LiveExtraction) -> None:
        self._live = live
        self._sampled: tuple[NDArray[Any], tuple[_Array, _Array]] | None = None

    @property
    def _columns(self) -> float:
        return float(self._live.image.shape[1])

    @property
    def _samples(self) -> tuple[_Array, _Array]:
        """Rows and wavelengths at which the edges of a region can have extreme positions."""
        image = self._live.image
        if self._sampled is None or self._sampled[0] is not image.wavelength:
            rows = np.tile(np.arange(image.shape[0], dtype=float), 3)
            known = np.where(np.isfinite(image.wavelength), image.wavelength, np.nan)
            # `fmin` and `fmax` return NaN only for rows without any wavelength
            extremes = np.fmin.reduce(known, axis=1), np.fmax.reduce(known, axis=1)
            wave = np.concatenate([self._live.wavelengths.all, *extremes])
            self._sampled = image.wavelength, (rows, wave)
        return self._sampled[1]

    def move_body(self, region: Region, dx: float) -> Region:
        """Return a region with both edges moved by up to `dx` columns."""
        with np.errstate(invalid="ignore"):
            lower, upper = region.at(*self._samples)
        if not np.isfinite(lower).any():
            return region
        left = -0.5 + MIN_WIDTH - np.nanmax(upper)
        right = self._columns - 0.5 - MIN_WIDTH - np.nanmin(lower)
        dx = min(max(dx, min(left, 0.0)), max(right, 0.0))
        return region.moved(round(dx, DIGITS)).rounded()

    def move_edge(self, region: Region, edge: Edge, dx: float, row: float) -> Region:
        """Return a region with one edge, grabbed in `row`, moved by up to `dx` columns."""
        position = region.at(row, self._live.wavelengths.at(row))[0 if edge == "lower" else 1]
        dx = self._on_image(float(position), dx) - float(position)
        return region.with_edge(edge, round(dx, DIGITS), *self._samples).rounded()

    def move_end(
        self, region: Region, edge: Edge, end: End, dx: float, rows: _Array, mirrored: bool
    ) -> Region:
        """Return a region with one end of an edge moved by up to `dx` columns.

        Parameters
        ----------
        region : Region
            Region to change.
        edge, end : str
            Edge ("lower" or "upper") and end of the edge ("bottom" or "top") to move.
        dx : float
            Number of columns to move by.
        rows : ndarray
            Row of the bottom end and row of the top end.
        mirrored : bool
            Whether the same end of the opposite edge moves by -`dx`.
        """
        wave = self._live.wavelengths.at(rows)
        which = 0 if end == "bottom" else 1
        lower, upper = (float(ends[which]) for ends in region.at(rows, wave))
        old, other, inward = (lower, upper, 1.0) if edge == "lower" else (upper, lower, -1.0)
        dx = self._on_image(old, dx) - old
        if mirrored:
            dx = other - self._on_image(other, -dx)
        room = max(upper - lower - MIN_WIDTH, 0.0)
        dx = inward * min(inward * dx, room / 2.0 if mirrored else room)

        def tilted(fraction: float) -> Region:
            step = fraction * dx
            if fraction == 1.0:
                step = round(old + step, DIGITS) - old
            made = region.with_end(edge, end, old + step, rows, wave)
            if mirrored:
                opposite: Edge = "upper" if edge == "lower" else "lower"
                made = made.with_end(opposite, end, other - step, rows, wave)
            return made

        made = tilted(1.0)
        fraction = self._permitted_fraction(region, made)
        return made if fraction >= 1.0 else tilted(fraction)

    def _on_image(self, old: float, dx: float) -> float:
        """Return the position of an edge moved by up to `dx`, so that it stays on the image."""
        low, high = min(-0.5, old), max(self._columns - 0.5, old)
        return float(min(max(old + dx, low), high))

    def _permitted_fraction(self, region: Region, made: Region) -> float:
        """Return the largest fraction of a change with which all rows keep the minimum width."""
        with np.errstate(invalid="ignore"):
            before, after = (np.diff(one.at(*self._samples), axis=0)[0] for one in (region, made))
        tight = after < MIN_WIDTH
        if not tight.any():
            return 1.0
        closer = np.maximum(before[tight] - after[tight], 1e-12)
        fraction = float(np.min((before[tight] - MIN_WIDTH) / closer))
        # Reduce the fraction slightly, because the pipeline rejects a region even if only a
        # rounding error makes it narrower than a pixel.
        return max(fraction - 1e-6, 0.0)
