"""Measure what an image shows: sources along the slit, their trace, their width.

How it is done is told in `glue_lrs.fitting.source_search`; here are the questions and the answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.polynomial.polynomial import polyfit, polyval
from numpy.typing import ArrayLike, NDArray

from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.background import Background
from glue_lrs.instrument import FWHM, PIXEL_SCALE, expected_fwhm
from glue_lrs.measurement.report import plain, plus_minus
from glue_lrs.profiles.diffraction import Profile, expected_core, profile_fwhm, width_basis

if TYPE_CHECKING:
    from astropy.table import QTable

    from glue_lrs._utils.typing import Array
    from glue_lrs.image.source_position import SourcePosition

__all__ = ["DetectedSource", "Measurement"]

#: Columns that background regions should have together.
_COLUMNS = 6.0


# --- what is found -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class DetectedSource:
    """A source along the slit, or the negative trace of one.

    Parameters
    ----------
    kind : {"target", "source", "negative"}
        The target is the source that the header means: the nearest to where it says, or else the
        brightest.
    column, column_error : float
        Column at the reference row, `Measurement.row`, and its standard deviation.
    flux_ratio, flux_ratio_error : float
        Flux over the target's, over all wavelengths; negative for a negative trace.
    snr : float
        Signal to noise over all rows together.
    trace : ndarray
        Column in each row of the image, shape (row,), NaN where there is no wavelength.
    trace_error : ndarray
        Its standard deviation.
    centroid, centroid_error : ndarray
        Column measured in each band of `Measurement.bands`, and its standard deviation.
    flux : ndarray
        Flux of the fit in each row, summed over columns in the image's unit; not smoothed.
    flux_error : ndarray
        Its standard deviation.
    """

    kind: Literal["target", "source", "negative"]
    column: float
    column_error: float
    flux_ratio: float
    flux_ratio_error: float
    snr: float
    trace: Array
    trace_error: Array
    centroid: Array
    centroid_error: Array
    flux: Array
    flux_error: Array

    @property
    def negative(self) -> bool:
        """Whether it is a negative trace."""
        return self.kind == "negative"


@dataclass(frozen=True, eq=False, kw_only=True)
class Measurement:
    """What an image shows of its sources: see `measure`.

    Parameters
    ----------
    label : str
        How messages call the image.
    shape : (int, int)
        Rows and columns of the image.
    columns : (int, int)
        First and last column that hold data.
    sources : tuple of DetectedSource
        The target first, then by brightness.
    row : int
        The row at which columns are given.
    row_wavelength : float
        Its wavelength in micron.
    wavelength : ndarray
        Wavelength of each row in micron, shape (row,), NaN where there is none.
    curve : ndarray
        The trace as the WCS has it, less its column at the reference row; shape (row,).
    expected : SourcePosition, optional
        Where the header puts the target.
    why_not : str, optional
        Why that is not known.
    tolerance : float
        Columns by which the two may differ before it is reported.
    bands : ndarray
        Wavelength in micron that each band stands for, shape (band,), descending like the rows.
    band_rows : ndarray
        Row that it stands for, not a whole number.
    fwhm, fwhm_error : ndarray
        Full width at half maximum in each band in arcsec, the pixel's own width taken out.
    width_terms : ndarray
        Coefficients, constant term first, of the logarithm of (core / expected core) as a
        polynomial of (wavelength - 8.5) / 4.
    shape_terms : ndarray
        Kurtosis of the core and the wings, as of `Profile`.
    covariance : ndarray
        Covariance of `width_terms` and `shape_terms` together.
    bend : float
        Columns that the trace departs, from end to end, from the WCS's; 0 if that is not
        significant.
    profile_column, profile, profile_error : ndarray
        Mean of all rows against the column at the reference row, background subtracted, in the
        image's unit, with its standard deviation.
    rejected : int
        Pixels that were left out as outliers, besides those that are marked.
    chi2 : float
        Chi-square of the fit over its degrees of freedom.
    noise_factor : float
        Factor that all errors include, as noise is correlated between pixels (what resampling does)
        or the residuals are larger than their errors; 1 where neither is significant.
    pixel_scale : float
        Arcsec a column.
    shift, shift_error : ndarray, optional
        Columns that the target is away from the mean in each integration of a stack.
    notes : tuple of str
        What a user would want to know.
    """

    label: str
    shape: tuple[int, int]
    columns: tuple[int, int]
    sources: tuple[DetectedSource, ...]
    row: int
    row_wavelength: float
    wavelength: Array
    curve: Array
    expected: SourcePosition | None
    why_not: str | None
    tolerance: float
    bands: Array
    band_rows: Array
    fwhm: Array
    fwhm_error: Array
    width_terms: Array
    shape_terms: Array
    covariance: Array
    bend: float
    profile_column: Array
    profile: Array
    profile_error: Array
    rejected: int
    chi2: float
    noise_factor: float
    pixel_scale: float = PIXEL_SCALE
    shift: Array | None = None
    shift_error: Array | None = None
    notes: tuple[str, ...] = ()

    # --- the position ------------------------------------------------------------------------

    @property
    def target(self) -> DetectedSource:
        """The source that the header means, or else the brightest."""
        return self.sources[0]

    @property
    def others(self) -> tuple[DetectedSource, ...]:
        """All sources and negative traces but the target."""
        return self.sources[1:]

    @property
    def column(self) -> float:
        """Column of the target at the reference row."""
        return self.target.column

    @property
    def column_error(self) -> float:
        """Its standard deviation."""
        return self.target.column_error

    @property
    def trace(self) -> Array:
        """Column of the target in each row, shape (row,), NaN where there is no wavelength."""
        return self.target.trace

    @property
    def offset(self) -> float | None:
        """Columns that the target is away from where the header puts it; None: not known."""
        return None if self.expected is None else self.column - self.expected.column

    @property
    def agrees(self) -> bool | None:
        """Whether the header's position is within the tolerance, or three standard deviations."""
        if self.offset is None:
            return None
        return abs(self.offset) <= max(self.tolerance, 3.0 * self.column_error)

    # --- the width -----------------------------------------------------------------------------

    @cached_property
    def point_spread(self) -> Profile:
        """The profile that was fitted."""
        wave = np.sort(self.wavelength[np.isfinite(self.wavelength)])
        core = np.exp(width_basis(wave) @ self.width_terms) * expected_core(wave, self.pixel_scale)
        return Profile(
            wave, core, float(self.shape_terms[0]), self.shape_terms[1:], self.pixel_scale
        )

    def width(self, wavelength: ArrayLike) -> tuple[Array, Array]:
        """FWHM as a smooth function of the wavelength, from the data, and its standard deviation.

        Parameters
        ----------
        wavelength : array_like
            Wavelengths in micron.

        Returns
        -------
        (ndarray, ndarray)
            FWHM in arcsec and its standard deviation, both of the shape of `wavelength`.
        """
        wave = np.atleast_1d(np.asarray(wavelength, dtype=float))
        log_core = width_basis(wave) @ self.width_terms + np.log(
            expected_core(wave, self.pixel_scale)
        )
        value, slopes = profile_fwhm(log_core, self.shape_terms, wave, self.pixel_scale)
        row = np.concatenate([width_basis(wave) * slopes[:, :1], slopes[:, 1:]], axis=1)
        error = np.sqrt(np.einsum("ni,ij,nj->n", row, self.covariance, row))
        shape = np.shape(wavelength)
        return (value * self.pixel_scale).reshape(shape), (error * self.pixel_scale).reshape(shape)

    @property
    def width_ratio(self) -> tuple[float, float]:
        """FWHM over the expected one, averaged over the bands, and its standard deviation."""
        good = np.isfinite(self.fwhm) & (self.fwhm_error > 0)
        expected = expected_fwhm(self.bands[good])
        weight = (expected / self.fwhm_error[good]) ** 2
        mean = float(np.average(self.fwhm[good] / expected, weights=weight))
        return mean, float(1.0 / math.sqrt(weight.sum()))

    # --- what to do with it ----------------------------------------------------------------------

    def center(
        self,
        source: DetectedSource | None = None,
        independent_var: Literal["pixel", "wavelength"] = "pixel",
    ) -> tuple[tuple[float, ...], str]:
        """The trace as a polynomial: coefficients, and what they are a polynomial of.

        Parameters
        ----------
        source : DetectedSource, optional
            Whose trace; the target's by default.
        independent_var : {"pixel", "wavelength"}
            What it is to be a polynomial of: the row, or the wavelength in micron.

        Returns
        -------
        (tuple of float, str)
            Coefficients, constant term first, of `independent_var`. One that is constant has one
            coefficient.
        """
        trace = (source or self.target).trace
        rows = np.flatnonzero(np.isfinite(trace))
        if np.ptp(trace[rows]) < 1e-6:
            return (float(trace[rows].mean()),), independent_var
        along = rows if independent_var == "pixel" else self.wavelength[rows]
        for degree in range(1, 6):
            terms = polyfit(along, trace[rows], degree)
            if np.abs(polyval(along, terms) - trace[rows]).max() < 2e-3:
                break
        return tuple(terms.tolist()), independent_var

    def box(self, width: float) -> Aperture:
        """Aperture of a width in columns, centred on the target's trace.

        Parameters
        ----------
        width : float
            Columns, at least 1.
        """
        center, variable = self.center()
        half = width / 2.0
        return Aperture.from_edges(
            (center[0] - half, *center[1:]),
            (center[0] + half, *center[1:]),
            independent_var=variable,
        )

    def tapered(self, n: float = 3.0, *, order: int = 1) -> Aperture:
        """Aperture of n times the measured FWHM, centred on the target's trace.

        Parameters
        ----------
        n : float
            Width over FWHM.
        order : int
            Degree of the polynomial of the wavelength that the width is made.
        """
        wave = self.wavelength[np.isfinite(self.wavelength)]
        inner = wave[(wave >= 4.5) & (wave <= 13.5)]
        used = inner if inner.size > order + 1 else wave
        trace = np.interp(np.arange(self.shape[0]), *_finite(self.trace))
        return Aperture.tapered(
            (used, self.width(used)[0]),
            n,
            center=trace if np.ptp(trace) > 1e-6 else float(trace[0]),
            wavelength=self.wavelength,
            order=order,
            pixel_scale=self.pixel_scale,
        )

    def clear_regions(self, distance: float = 2.5, least: float = 2.0) -> tuple[Array, ...]:
        """Stretches of columns at the reference row that neither source nor edge comes near.

        Parameters
        ----------
        distance : float
            FWHM, at the longest wavelength, to keep from every source and negative trace.
        least : float
            Columns that a stretch must have to count.

        Returns
        -------
        tuple of ndarray
            Lower and upper edge of each, at the reference row.
        """
        widest = float(np.max(self.point_spread.core)) * FWHM
        curve = self.trace - self.column
        low = self.columns[0] - 0.5 - float(np.nanmin(curve))
        high = self.columns[1] + 0.5 - float(np.nanmax(curve))
        cuts = sorted(
            (s.column - distance * widest, s.column + distance * widest) for s in self.sources
        )
        stretches, start = [], low
        for left, right in [*cuts, (high, high)]:
            end = min(left, high)
            if end - start >= least:
                # A little less: the trace's polynomial is good to 0.002 column.
                stretches.append(np.array([start + 0.01, end - 0.01]))
            start = max(start, right)
        return tuple(stretches)

    def background(
        self,
        *,
        distance: float | None = None,
        independent_var: Literal["pixel", "wavelength"] = "pixel",
        **kwargs: Any,
    ) -> Background | None:
        """A background from the columns that neither source nor edge comes near.

        Parameters
        ----------
        distance : float, optional
            As for `clear_regions`; by default 2.5, or less, down to 1.6, where that leaves fewer
            than six columns.
        independent_var : {"pixel", "wavelength"}
            What the edges are polynomials of; a reference has one for the aperture and for the
            background, and that of `tapered` is the wavelength.
        **kwargs
            Other parameters of `Background`, such as ``bkg_fit``.

        Returns
        -------
        Background or None
            None where there are no such columns.
        """
        regions: tuple[Array, ...] = ()
        for keep in (2.5, 2.0, 1.6) if distance is None else (distance,):
            regions = self.clear_regions(keep)
            if sum(upper - lower for lower, upper in regions) >= _COLUMNS:
                break
        if not regions:
            return None
        center, variable = self.center(independent_var=independent_var)
        start = polyval(self.row if variable == "pixel" else self.wavelength[self.row], center)
        edges = tuple(
            (center[0] + edge - start, *center[1:]) for region in regions for edge in region
        )
        return Background(bkg_coeff=edges, independent_var=variable, **kwargs)  # type: ignore[arg-type]

    def model(self, *which: DetectedSource) -> Array:
        """Image of the light of some sources in the fit, all by default: shape (row, column).

        Rows without a wavelength are 0; there is no background in it.
        """
        out = np.zeros(self.shape)
        known = np.flatnonzero(np.isfinite(self.wavelength))
        wave = self.wavelength[known][:, np.newaxis]
        edges = np.arange(self.shape[1] + 1) - 0.5
        for source in which or self.sources:
            below = self.point_spread.cumulative(edges - source.trace[known][:, np.newaxis], wave)
            flux = np.nan_to_num(source.flux[known])
            out[known] += flux[:, np.newaxis] * np.diff(below, axis=1)
        return out

    # --- tables and text -------------------------------------------------------------------------

    @cached_property
    def table(self) -> QTable:
        """A row for each band: wavelength, row, centroid of the target, FWHM, expected FWHM."""
        from astropy import units as u
        from astropy.table import QTable

        target = self.target
        return QTable(
            {
                "wavelength": self.bands * u.um,
                "row": self.band_rows,
                "column": target.centroid * u.pix,
                "column_error": target.centroid_error * u.pix,
                "fwhm": self.fwhm * u.arcsec,
                "fwhm_error": self.fwhm_error * u.arcsec,
                "expected_fwhm": expected_fwhm(self.bands) * u.arcsec,
            }
        )

    @cached_property
    def source_table(self) -> QTable:
        """A row for each source: kind, column, flux ratio, signal to noise."""
        from astropy import units as u
        from astropy.table import QTable

        s = self.sources
        return QTable(
            {
                "kind": [one.kind for one in s],
                "column": [one.column for one in s] * u.pix,
                "column_error": [one.column_error for one in s] * u.pix,
                "flux_ratio": [one.flux_ratio for one in s],
                "flux_ratio_error": [one.flux_ratio_error for one in s],
                "snr": [one.snr for one in s],
            }
        )

    def report(self) -> str:
        """What was measured, as text for people."""
        lines = [
            f"{self.label}",
            f"sources (columns at row {self.row}, {self.row_wavelength:.2f} um):",
        ]
        for one in self.sources:
            share = "" if one is self.target else f", {one.flux_ratio:+.3f} of the target's flux"
            lines.append(
                f"  {one.kind:<9} column {plus_minus(one.column, one.column_error)}"
                f", S/N {one.snr:.0f}{share}"
            )
        if self.expected is None:
            lines.append(f"header's position: not known ({self.why_not})")
        else:
            verdict = "agrees" if self.agrees else "DISAGREES"
            lines.append(
                f"header's position: column {self.expected.column:.3f} at row {self.expected.row}; "
                f"the source is {self.offset:+.3f} columns "
                f"({self.offset * self.pixel_scale:+.3f} arcsec) away from it: {verdict} "  # type: ignore[operator]
                f"(within {self.tolerance:g} column{'s' * (self.tolerance != 1)})"
            )
        span = self.trace[np.isfinite(self.trace)]
        bend = f"; {self.bend:.2f} columns off the WCS's" if self.bend else ""
        lines.append(f"trace: {span.min():.2f} to {span.max():.2f}{bend}")
        ratio, error = self.width_ratio
        lines += [
            f"width: {plus_minus(ratio, error)} times the expected one",
            "  wavelength    column            FWHM              expected",
            "  um            pixel             arcsec            arcsec",
        ]
        expected = expected_fwhm(self.bands)
        for n in range(self.bands.size):
            column = plus_minus(self.target.centroid[n], self.target.centroid_error[n])
            width = plus_minus(self.fwhm[n], self.fwhm_error[n])
            lines.append(
                f"  {self.bands[n]:6.2f}        {column:<17} {width:<17} {expected[n]:.3f}"
            )
        if self.shift is not None and self.shift_error is not None:
            scatter = float(np.nanstd(self.shift))
            lines.append(
                f"integrations: {self.shift.size}, position scatters by {scatter:.4f} columns "
                f"(expected from the noise: {float(np.nanmedian(self.shift_error)):.4f})"
            )
        lines.append(
            f"fit: chi-square {self.chi2:.2f} a degree of freedom, {self.rejected} outliers left "
            "out"
        )
        if self.noise_factor > 1.0:
            lines.append(
                f"errors are {self.noise_factor:.2f} times those of independent noise, as the "
                "residuals show"
            )
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """All numbers, ready for JSON; what is not known is None."""
        expected = self.expected
        ratio, ratio_error = self.width_ratio
        return {
            "image": self.label,
            "row": self.row,
            "wavelength": plain(self.row_wavelength),
            "sources": [
                {
                    "kind": s.kind,
                    "column": plain(s.column),
                    "column_error": plain(s.column_error),
                    "flux_ratio": plain(s.flux_ratio),
                    "flux_ratio_error": plain(s.flux_ratio_error),
                    "snr": plain(s.snr),
                    "centroid": plain(s.centroid),
                    "centroid_error": plain(s.centroid_error),
                }
                for s in self.sources
            ],
            "header": {
                "column": None if expected is None else expected.column,
                "row": None if expected is None else expected.row,
                "why_not": self.why_not,
                "offset": plain(self.offset),
                "tolerance": self.tolerance,
                "agrees": self.agrees,
            },
            "bands": {
                "wavelength": plain(self.bands),
                "row": plain(self.band_rows),
                "fwhm": plain(self.fwhm),
                "fwhm_error": plain(self.fwhm_error),
                "expected_fwhm": plain(expected_fwhm(self.bands)),
            },
            "width": {"ratio": plain(ratio), "ratio_error": plain(ratio_error)},
            "profile": {
                "halo": plain(self.point_spread.halo),
                "kurtosis": plain(self.point_spread.kurtosis),
                "wings": plain(self.point_spread.wings),
                "width_terms": plain(self.width_terms),
            },
            "trace": {"column": plain(self.trace), "bend": plain(self.bend)},
            "shift": plain(self.shift),
            "shift_error": plain(self.shift_error),
            "rejected": self.rejected,
            "chi2": plain(self.chi2),
            "noise_factor": plain(self.noise_factor),
            "pixel_scale": self.pixel_scale,
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        found = ", ".join(f"{s.kind} {s.column:.2f}" for s in self.sources)
        return f"<Measurement of {self.label}: {found}>"


def _finite(values: Array) -> tuple[NDArray[np.intp], Array]:
    """Index and value of what is finite."""
    known = np.flatnonzero(np.isfinite(values))
    return known, values[known]
