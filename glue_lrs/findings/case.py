"""Extraction to be checked, together with the measurement of the source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.apertures.placement import aperture_weights

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.measurement.measurement import DetectedSource, Measurement


@dataclass(frozen=True, eq=False)
class Case:
    """Box extraction of an image, and the sources that were measured in the image.

    Parameters
    ----------
    image : SlitImage
        Image that was extracted.
    operator : Extract1D
        Operator with the aperture and the background.
    measurement : Measurement
        Sources in the image.
    """

    image: SlitImage
    operator: Extract1D
    measurement: Measurement

    @cached_property
    def weights(self) -> Array:
        """Aperture weights of all pixels, shape (row, column)."""
        placement = self.operator.place(self.image)
        return aperture_weights(self.operator.aperture, self.image, placement).full(
            self.image.shape
        )

    @cached_property
    def rows(self) -> Mask:
        """Mask of the rows with pixels in the aperture and a defined trace, shape (row,)."""
        return self.weights.any(axis=1) & np.isfinite(self.measurement.trace)

    @cached_property
    def width(self) -> Array:
        """Width of the aperture in columns in each of the `rows`."""
        width: Array = self.weights[self.rows].sum(axis=1)
        return width

    @cached_property
    def centre(self) -> Array:
        """Column of the centre of the aperture in each of the `rows`."""
        centre: Array = self.weights[self.rows] @ np.arange(self.image.shape[1]) / self.width
        return centre

    @cached_property
    def is_one_box(self) -> bool:
        """Whether the aperture consists of a single range of columns."""
        covered = (self.weights[self.rows] > 0).astype(int)
        return bool((np.abs(np.diff(covered, axis=1, prepend=0, append=0)).sum(axis=1) == 2).all())

    def distances(self, source: DetectedSource) -> Array:
        """Return the distance in columns from the aperture's centre to a source in the `rows`."""
        distances: Array = source.trace[self.rows] - self.centre
        return distances

    def distance(self, source: DetectedSource) -> float:
        """Return the mean of `distances`."""
        return float(self.distances(source).mean())

    def inside(self, source: DetectedSource) -> bool:
        """Return whether a source is inside the aperture on average over the rows."""
        return abs(self.distance(source)) < float(self.width.mean()) / 2.0

    @cached_property
    def source(self) -> DetectedSource:
        """The brightest source inside the aperture or, if there is none, the target."""
        inside = [s for s in self.measurement.sources if not s.negative and self.inside(s)]
        return max(inside, key=lambda s: s.flux_ratio, default=self.measurement.target)

    def profile(self, source: DetectedSource) -> Array:
        """Return the fraction of the flux of a source in each pixel, shape (row, column)."""
        unit = np.where(np.isfinite(source.flux), 1.0, np.nan)
        return self.measurement.model(replace(source, flux=unit))

    @cached_property
    def missing(self) -> float:
        """Fraction of a centred aperture's flux that is missing as the source is off centre."""
        wave, off = self.measurement.wavelength[self.rows], self.distances(self.source)
        profile, half = self.measurement.point_spread, self.width / 2.0
        # Both integrals are exact, so that they do not differ by the effect of partial pixels.
        enclosed = profile.cumulative(half - off, wave) - profile.cumulative(-half - off, wave)
        return 1.0 - float((enclosed / profile.enclosed(self.width, wave)).mean())

    @cached_property
    def enclosed(self) -> Array:
        """Fraction of the flux of `source` inside the aperture in each of the `rows`."""
        light: Array = (self.weights * self.profile(self.source)).sum(axis=1)[self.rows]
        return light
