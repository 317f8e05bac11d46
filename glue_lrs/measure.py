"""Measure what an image shows: sources along the slit, their trace, their width.

How it is done is told in `glue_lrs.slit_fit`; here are the questions and the answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.polynomial.polynomial import polyfit, polyval
from numpy.typing import ArrayLike, NDArray

from glue_lrs.aperture import Aperture
from glue_lrs.background import Background
from glue_lrs.errors import LRSError, SourceError
from glue_lrs.image import SlitImage
from glue_lrs.position import SourcePosition, expected_position
from glue_lrs.profile import EXPECTED_FWHM, FWHM, PIXEL_SCALE, expected_fwhm
from glue_lrs.slit_fit import (
    LOOSE,
    NEAR,
    SHAPES,
    Array,
    Fit,
    Profile,
    Shape,
    Slit,
    Work,
    bend_basis,
    correlation,
    expected_core,
    find_sources,
    good_pixels,
    invert,
    possible_terms,
    profile_fwhm,
    profiles,
    pulled_back,
    shape_prior,
    typical_width,
    width_basis,
)

if TYPE_CHECKING:
    from astropy.table import QTable
    from specutils import Spectrum

__all__ = [
    "EXPECTED_FWHM",
    "PIXEL_SCALE",
    "FoundSource",
    "Measurement",
    "Profile",
    "SourceError",
    "expected_fwhm",
    "measure",
]

#: Columns that background regions should have together.
_COLUMNS = 6.0

# --- what is found -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class FoundSource:
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
    sources : tuple of FoundSource
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
    sources: tuple[FoundSource, ...]
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
    def target(self) -> FoundSource:
        """The source that the header means, or else the brightest."""
        return self.sources[0]

    @property
    def others(self) -> tuple[FoundSource, ...]:
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
        source: FoundSource | None = None,
        independent_var: Literal["pixel", "wavelength"] = "pixel",
    ) -> tuple[tuple[float, ...], str]:
        """The trace as a polynomial: coefficients, and what they are a polynomial of.

        Parameters
        ----------
        source : FoundSource, optional
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

    def model(self, *which: FoundSource) -> Array:
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
                f"  {one.kind:<9} column {_plus_minus(one.column, one.column_error)}"
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
            f"width: {_plus_minus(ratio, error)} times the expected one",
            "  wavelength    column            FWHM              expected",
            "  um            pixel             arcsec            arcsec",
        ]
        expected = expected_fwhm(self.bands)
        for n in range(self.bands.size):
            column = _plus_minus(self.target.centroid[n], self.target.centroid_error[n])
            width = _plus_minus(self.fwhm[n], self.fwhm_error[n])
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


# --- measuring ---------------------------------------------------------------------------------


def measure(
    image: SlitImage | Spectrum,
    *,
    bands: int = 12,
    max_sources: int = 6,
    tolerance: float = 0.5,
    integrations: bool = True,
    pixel_scale: float = PIXEL_SCALE,
) -> Measurement:
    """Find the sources of an image and measure where they are and how wide.

    Parameters
    ----------
    image : SlitImage or `~specutils.Spectrum`
        An s2d, a cal (the trace may be curved), or a stack, of which the mean is measured.
    bands : int
        Bands of wavelength in which centroid and width are measured, at most; fewer for a source
        that is too faint to be measured in each.
    max_sources : int
        How many sources and negative traces are looked for.
    tolerance : float
        Columns by which the header's position may differ from the measured one before a note says
        so; three standard deviations of a faint source are tolerated as well.
    integrations : bool
        Whether the shift of each integration of a stack is measured.
    pixel_scale : float
        Arcsec a column.

    Returns
    -------
    Measurement
        Sources, trace, width.

    Raises
    ------
    SourceError
        If there is no source, or only negative traces.
    LRSError
        If a parameter is out of range.
    """
    for key, value, least in (("bands", bands, 1), ("max_sources", max_sources, 1)):
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
            raise LRSError(f"{key} is {value!r}, expected a whole number of {least} or more")
    for key, number in (("tolerance", tolerance), ("pixel_scale", pixel_scale)):
        if not (np.isfinite(number) and number > 0):
            raise LRSError(f"{key} is {number!r}, expected a number greater than 0")
    image = SlitImage.of(image)
    slit = Slit.of(image, pixel_scale)
    work = Work(slit)
    fit = find_sources(work, max_sources)
    return _Report(image, work, fit, bands, tolerance).make(integrations)


# --- putting it together -----------------------------------------------------------------------


class _Report:
    """Makes the `Measurement` of a converged fit."""

    def __init__(
        self, image: SlitImage, work: Work, fit: Fit, bands: int, tolerance: float
    ) -> None:
        self.image, self.work, self.slit = image, work, work.slit
        self.bands, self.tolerance = bands, tolerance
        self.fit = fit
        self.correlation = correlation(work, fit)
        self.chi2 = fit.solved.chi2 / fit.solved.freedom
        significant = self.chi2 > 1.0 + 5.0 * math.sqrt(2.0 / fit.solved.freedom)
        self.scale = self.correlation * (math.sqrt(self.chi2) if significant else 1.0)
        position = expected_position(image)
        self.expected = position if isinstance(position, SourcePosition) else None
        self.why_not = position if isinstance(position, str) else None
        self.notes: list[str] = []

    def make(self, integrations: bool) -> Measurement:
        slit, fit = self.slit, self.fit
        order = self._order()
        covariance = fit.covariance * self.scale**2
        number = fit.parameters.shift.size
        traces = fit.parameters.shape(slit).traces
        wave = np.full(self.image.shape[0], np.nan)
        wave[slit.rows] = slit.wave
        split = self._split(order[0])
        offsets, offset_errors, log_core, terms, log_errors, pivots = self._in_bands(
            split, order[0]
        )
        band_rows, band_waves = pivots
        basis = bend_basis(slit, fit.parameters.bend.size)
        reference = np.array([[float(np.interp(slit.reference, slit.rows, b)) for b in basis.T]])
        sources = []
        template = fit.solved.smooth[order[0]]
        for place, s in enumerate(order):
            own = np.zeros((slit.rows.size + 1, covariance.shape[0]))
            own[:, s] = 1.0
            own[:, number : number + basis.shape[1]] = np.concatenate(
                [basis, reference.reshape(1, basis.shape[1])]
            )
            errors = np.sqrt(np.einsum("ri,ij,rj->r", own, covariance, own))
            column = float(np.interp(slit.reference, slit.rows, traces[s]))
            variance = np.maximum(fit.solved.flux_variance[s], 1e-300) * self.scale**2
            flux, smooth = fit.solved.flux[s], fit.solved.smooth[s]
            power = float((template**2 / variance).sum())
            ratio = float((template * flux / variance).sum()) / power
            snr = float((flux * smooth / variance).sum()) / math.sqrt(
                max(float((smooth**2 / variance).sum()), 1e-300)
            )
            sources.append(
                FoundSource(
                    kind="target" if place == 0 else "negative" if self.sign(s) < 0 else "source",
                    column=column,
                    column_error=float(errors[-1]),
                    flux_ratio=1.0 if place == 0 else ratio,
                    flux_ratio_error=0.0 if place == 0 else 1.0 / math.sqrt(power),
                    snr=snr,
                    trace=self._whole(traces[s]),
                    trace_error=self._whole(errors[:-1]),
                    centroid=np.interp(band_rows, slit.rows, traces[s]) + offsets[s],
                    centroid_error=offset_errors[s],
                    flux=self._whole(flux),
                    flux_error=self._whole(np.sqrt(variance)),
                )
            )
        width = np.concatenate([np.arange(number + basis.shape[1], covariance.shape[0])])
        fwhm, slopes = profile_fwhm(log_core, terms, band_waves, slit.scale)
        fwhm_error = np.sqrt(np.einsum("ni,nij,nj->n", slopes, log_errors, slopes))
        bend = float(np.ptp(basis @ fit.parameters.bend)) if basis.shape[1] else 0.0
        axis, profile, profile_error = self._profile(traces[order[0]])
        shift, shift_error = (None, None)
        if integrations and self.image.is_stack:
            shift, shift_error = self._integrations()
        measurement = Measurement(
            label=self.image.label,
            shape=self.image.shape,
            columns=(int(slit.columns[0]), int(slit.columns[-1])),
            sources=tuple(sources),
            row=slit.reference,
            row_wavelength=float(np.interp(slit.reference, slit.rows, slit.wave)),
            wavelength=wave,
            curve=self._whole(slit.curve),
            expected=self.expected,
            why_not=self.why_not,
            tolerance=self.tolerance,
            bands=band_waves,
            band_rows=band_rows,
            fwhm=fwhm * slit.scale,
            fwhm_error=fwhm_error * slit.scale,
            width_terms=fit.parameters.width,
            shape_terms=fit.parameters.terms,
            covariance=covariance[np.ix_(width, width)],
            bend=bend,
            profile_column=axis,
            profile=profile,
            profile_error=profile_error,
            rejected=self.work.rejected,
            chi2=self.chi2,
            noise_factor=self.scale,
            pixel_scale=slit.scale,
            shift=shift,
            shift_error=shift_error,
        )
        return replace(measurement, notes=tuple(self.notes + _notes(measurement)))

    def sign(self, s: int) -> float:
        """Whether a source adds light or takes it away."""
        solved = self.fit.solved
        weight = np.abs(solved.smooth[s]) / np.maximum(solved.flux_variance[s], 1e-300)
        return float(np.sign((solved.flux[s] * weight).sum()))

    def _order(self) -> list[int]:
        """The target first, then by brightness."""
        shift = self.fit.parameters.shift
        solved = self.fit.solved
        strength = solved.strength
        order = sorted(range(shift.size), key=lambda s: -strength[s])
        positive = [s for s in order if self.sign(s) > 0]
        if not positive:
            places = ", ".join(f"{shift[s]:.1f}" for s in order)
            raise SourceError(
                f"{self.image.label}: only negative traces (columns {places}), expected a source"
            )
        target = positive[0]
        if self.expected is not None:
            near = typical_width(self.slit)
            away = np.abs(shift - self.expected.column)
            inside = [s for s in positive if away[s] < near]
            if inside:
                # Of a blend the nearest, but no faint companion of what is meant.
                bright = [s for s in inside if strength[s] > 0.3 * strength[inside[0]]]
                target = min(bright, key=lambda s: away[s])
            if strength[target] < 0.5 * strength[positive[0]]:
                self.notes.append("the target is not the brightest source")
        return [target, *(s for s in order if s != target)]

    def _whole(self, values: Array) -> Array:
        """Values of the rows that were used, in all rows of the image."""
        out = np.full(self.image.shape[0], np.nan)
        out[self.slit.rows] = values
        return out

    def _split(self, target: int) -> NDArray[np.intp]:
        """Number of the band that each row belongs to."""
        information = self.fit.solved.curvature[:, target, target]
        flux = self.fit.solved
        power = float(
            (flux.smooth[target] ** 2 / np.maximum(flux.flux_variance[target], 1e-300)).sum()
        )
        number = int(np.clip(power / self.scale**2 / 150.0, 1, self.bands))
        rows = self.slit.rows.size
        number = min(number, rows)
        share = np.cumsum(information) / max(float(information.sum()), 1e-300)
        place = 0.5 * share + 0.5 * (np.arange(rows) + 1.0) / rows
        return np.minimum((place * number * (1.0 - 1e-9)).astype(int), number - 1)

    def _in_bands(
        self, split: NDArray[np.intp], target: int
    ) -> tuple[Array, Array, Array, Array, Array, tuple[Array, Array]]:
        """Shifts and widths of each band on their own, from the smooth fit on.

        Returned are the shift of each source from the smooth trace (source, band) with its error,
        the logarithm of the width (band,), the terms of the shape, their covariance with the width
        of each band (band, 1 + p, 1 + p), and the row and wavelength each band stands for.
        """
        slit, parameters = self.slit, self.fit.parameters
        split = np.unique(split, return_inverse=True)[1]
        number, bands = parameters.shift.size, int(split.max()) + 1
        size = (number + 1) * bands + SHAPES
        tangent = np.zeros((slit.rows.size, number + 1 + SHAPES, size))
        rows = np.arange(slit.rows.size)
        for s in range(number + 1):
            tangent[rows, s, s * bands + split] = 1.0
        for n in range(SHAPES):
            tangent[:, number + 1 + n, size - SHAPES + n] = 1.0
        mean, precision = np.zeros(size), np.zeros(size)
        precision[: number * bands] = 1.0  # a trace does not leave its place by columns
        precision[number * bands : -SHAPES] = 1.0 / LOOSE**2
        mean[-SHAPES:], precision[-SHAPES:] = shape_prior()
        vector = np.zeros(size)
        vector[-SHAPES:] = parameters.terms
        smooth = parameters.shape(slit)
        hessian = np.eye(size)
        for _ in range(3):
            shape = Shape(
                smooth.traces + vector[: number * bands].reshape(number, bands)[:, split],
                smooth.log_core + vector[number * bands : -SHAPES][split],
                possible_terms(vector[-SHAPES:], parameters.terms),
            )
            solved = self.work.solve(shape)
            hessian = pulled_back(solved.curvature, tangent)
            hessian += np.diag(precision)
            slope = np.einsum("rpk,rp->k", tangent, solved.gradient) + precision * (mean - vector)
            step = np.linalg.solve(hessian, slope)
            vector = vector + np.clip(step, -0.5, 0.5)
            if float(slope @ step) < 1e-4:
                break
        covariance = np.linalg.inv(hessian) * self.scale**2
        weight = np.maximum(self.fit.solved.curvature[:, target, target], 1e-300)
        total = np.bincount(split, weight)
        band_rows = np.bincount(split, weight * slit.rows) / total
        waves = np.interp(band_rows, slit.rows, slit.wave)
        errors = np.sqrt(np.diag(covariance))
        log_core = vector[number * bands : -SHAPES] + np.interp(
            band_rows, slit.rows, smooth.log_core
        )
        joint = np.empty((bands, 1 + SHAPES, 1 + SHAPES))
        for b in range(bands):
            index = [number * bands + b, *range(size - SHAPES, size)]
            joint[b] = covariance[np.ix_(index, index)]
        return (
            vector[: number * bands].reshape(number, bands),
            errors[: number * bands].reshape(number, bands),
            log_core,
            possible_terms(vector[-SHAPES:], parameters.terms),
            joint,
            (band_rows, waves),
        )

    def _profile(self, trace: Array) -> tuple[Array, Array, Array]:
        """Mean over the rows against the column at the reference row, without the background."""
        slit, solved = self.slit, self.fit.solved
        number = self.fit.parameters.shift.size
        weight = self.work.good / self.work.variance
        light = solved.model - self._background(number)
        clean = np.where(self.work.good, slit.data - solved.model, 0.0) + light
        moved = trace - float(np.interp(slit.reference, slit.rows, trace))
        row_weight = 1.0 / np.median(self.work.variance, axis=1)
        total, power = np.zeros(slit.columns.size), np.zeros(slit.columns.size)
        norm = np.zeros(slit.columns.size)
        for r in range(slit.rows.size):
            # Read on the straightened grid; a bad pixel is filled from the model and does not count
            at = slit.columns + moved[r]
            values = np.interp(at, slit.columns, clean[r], left=np.nan, right=np.nan)
            known = np.interp(at, slit.columns, (weight[r] > 0).astype(float), left=0, right=0)
            variance = np.interp(at, slit.columns, self.work.variance[r])
            use = np.isfinite(values) & (known > 0.5)
            total[use] += row_weight[r] * values[use]
            power[use] += row_weight[r] ** 2 * variance[use]
            norm[use] += row_weight[r]
        with np.errstate(invalid="ignore", divide="ignore"):
            return (
                slit.columns.astype(float),
                total / norm,
                np.sqrt(power) / norm * self.scale,
            )

    def _background(self, number: int) -> Array:
        """Background of the fit in each pixel."""
        solved, slit = self.fit.solved, self.slit
        light = np.einsum("rcs,sr->rc", solved.basis[..., :number], solved.flux)
        del slit
        return solved.model - light

    def _integrations(self) -> tuple[Array, Array]:
        """Shift of all sources together in each integration, from the mean; and its error.

        One step from the common fit; fluxes and background of each row are eliminated, and bad
        pixels stand in from the model. The flat field's error is the same for all and has no part
        in how they differ.
        """
        image, slit, work = self.image, self.slit, self.work
        shape = self.fit.parameters.shape(slit)
        solved = self.fit.solved
        _, moves = profiles(slit, shape)
        number = image.data.shape[0]
        weight = work.good / work.variance
        jacobian = np.einsum("sr,src->rc", solved.smooth, moves["shift"])
        heavy = np.swapaxes(solved.basis * weight[..., np.newaxis], 1, 2)
        basis = solved.basis
        part = (basis @ (solved.inverse @ (heavy @ jacobian[..., np.newaxis])))[..., 0]
        kernel = weight * (jacobian - part)
        light = solved.model - self._background(len(shape.traces))
        steady = (
            light
            - (
                basis[..., -2:]
                @ (  # what of the light is no background
                    invert(
                        np.swapaxes(basis[..., -2:] * weight[..., np.newaxis], 1, 2)
                        @ basis[..., -2:]
                    )
                    @ (heavy[:, -2:] @ light[..., np.newaxis])
                )
            )[..., 0]
        )
        bright = weight * steady
        bright_norm = float((bright * light).sum())
        flat = slit.variances[2]
        single = np.maximum(work.variance - flat, 0.0) * number
        shift, error = np.full(number, np.nan), np.full(number, np.nan)
        window = (
            slice(slit.rows[0], slit.rows[-1] + 1),
            slice(slit.columns[0], slit.columns[-1] + 1),
        )
        pick = slit.rows - slit.rows[0]
        step = max(1, (1 << 20) // (slit.rows.size * slit.columns.size))
        for first in range(0, number, step):
            where = (slice(first, min(first + step, number)), *window)
            data = np.asarray(image.data[where], dtype=float)[:, pick]
            good = good_pixels(image, where)[:, pick] & work.good
            away = np.where(good, data - solved.model, 0.0)
            factor = 1.0 + np.einsum("irc,rc->i", away, bright) / bright_norm
            away = np.where(
                good, data - solved.model - (factor - 1.0)[:, np.newaxis, np.newaxis] * light, 0.0
            )
            odd = np.abs(away) > 6.0 * np.sqrt(single) + 0.1 * np.abs(light)
            away[odd] = 0.0
            good &= ~odd
            seen = good.astype(float)  # what is left to tell of the shift
            scale = factor * np.einsum("irc,rc->i", seen, kernel * jacobian)
            power = np.einsum("irc,rc->i", seen, kernel**2 * single)
            with np.errstate(invalid="ignore", divide="ignore"):
                shift[where[0]] = np.einsum("irc,rc->i", away, kernel) / scale
                error[where[0]] = np.sqrt(power) / np.abs(scale)
        return shift, error * self.correlation


def _notes(measurement: Measurement) -> list[str]:
    """What a user would want to know of a measurement."""
    notes = []
    expected, offset = measurement.expected, measurement.offset
    if expected is not None and offset is not None and not measurement.agrees:
        notes.append(
            f"the source is {offset:+.2f} columns ({offset * measurement.pixel_scale:+.3f} arcsec) "
            f"from where the header puts it (column {expected.column:.2f}): use_source_posn would "
            "move the aperture there"
        )
    ratio, error = measurement.width_ratio
    if abs(ratio - 1.0) > max(0.15, 5.0 * error):
        notes.append(f"the source is {ratio:.2f} times as wide as a point source should be")
    for other in measurement.others:
        away = other.column - measurement.column
        if abs(away) < NEAR * float(np.median(measurement.point_spread.core)) * FWHM:
            what = "negative trace" if other.negative else "source"
            notes.append(
                f"a {what} of {abs(other.flux_ratio):.2g} times the flux is {abs(away):.1f} "
                "columns from the target: a box mixes their light"
            )
    return notes


def _plus_minus(value: float, error: float) -> str:
    """A value and its error, with two digits of the error."""
    if not (math.isfinite(value) and math.isfinite(error)) or error <= 0:
        return f"{value:.3f}"
    digits = int(np.clip(1 - math.floor(math.log10(error)), 0, 6))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def plain(value: Any) -> Any:
    """Numbers as JSON has them: NaN and infinity are None."""
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [plain(v) for v in value]
    return float(value) if math.isfinite(value) else None


def _finite(values: Array) -> tuple[NDArray[np.intp], Array]:
    """Index and value of what is finite."""
    known = np.flatnonzero(np.isfinite(values))
    return known, values[known]
