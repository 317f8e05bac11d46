"""Curve of growth: flux and signal-to-noise ratio versus aperture width.

All fluxes are extracted with the `glue_lrs.Extract1D` operator, which is run once for each width. A
warning is given if an aperture or a background region touches another source.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glue_lrs._utils.display import described, rounded, span_text
from glue_lrs._utils.statistics import smooth_flux
from glue_lrs.apertures.edges import polynomial_regions
from glue_lrs.errors import LRSError, LRSWarning, quoted, warn
from glue_lrs.extraction.base import jansky_per_sum
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.pixels import lost_share
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import FWHM
from glue_lrs.measurement.measure import measure
from glue_lrs.measurement.report import growth_dict, growth_report, growth_table

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.apertures.aperture_correction import ApertureCorrection
    from glue_lrs.apertures.background import Background
    from glue_lrs.image.slit_image import ImageSource
    from glue_lrs.measurement.measurement import DetectedSource, Measurement
    from glue_lrs.spectra.extraction import Extraction

#: Default wavelength bands in micron.
BANDS = ((4.5, 6.0), (6.0, 8.0), (8.0, 10.0), (10.0, 12.0), (12.0, 14.0))

#: Distance from a trace, in units of the FWHM, within which a region is contaminated by the source.
#: A Gaussian has a fraction of 4e-4 of its flux beyond this distance.
_CLEAR = 1.5

#: Rows with lost pixels are excluded from a band if at least this fraction of the rows in the band
#: has no lost pixels.
_ENOUGH = 0.2

#: Fraction of the flux in an aperture on lost pixels above which a note is given. Near its maximum,
#: the signal-to-noise ratio changes by less from width to width, so that a larger loss may move it.
_SHORT = 0.1


@dataclass(frozen=True, eq=False, kw_only=True)
class CurveOfGrowth:
    """Flux and signal-to-noise ratio of a source versus the width of the aperture.

    Parameters
    ----------
    label : str
        Name of the image in messages.
    widths : ndarray
        Widths of the aperture in columns, ascending, shape (width,).
    bands : tuple of (float, float)
        Limits of each band in micron.
    wavelength : ndarray
        Mean wavelength of the rows in each band in micron, shape (band,).
    flux, flux_error : ndarray
        Flux in the aperture, averaged over the rows in a band, and its 1-sigma error, in `unit`,
        shape (band, width). No aperture correction is applied.
    correction : ndarray
        Aperture correction, shape (band, width).
    correction_source : str
        Origin of the correction: ``"measured profile"``, or the name of the APCORR table.
    snr : ndarray
        Signal-to-noise ratio for all rows in the band together, which is the square root of the sum
        of squares over rows, shape (band, width). The signal is computed from the measured profile,
        which is less noisy than the extracted flux. The noise is the error of the extracted flux,
        including the error of the background.
    fwhm : ndarray
        FWHM of the source in columns in each band, shape (band,).
    unit : str
        Unit of the flux.
    best_width : ndarray
        Width in columns with the highest signal-to-noise ratio in each band, shape (band,).
    best : float
        Width in columns with the highest signal-to-noise ratio on average over the bands.
    free_width : float
        Largest width in columns at which the aperture touches no other source, negative trace or
        image edge.
    rows : ndarray
        Number of rows used in each band, shape (band,).
    notes : tuple of str
        Texts of the warnings that were issued.
    """

    label: str
    widths: Array
    bands: tuple[tuple[float, float], ...]
    wavelength: Array
    flux: Array
    flux_error: Array
    correction: Array
    correction_source: str
    snr: Array
    fwhm: Array
    unit: str
    best_width: Array
    best: float
    free_width: float
    rows: NDArray[np.intp]
    notes: tuple[str, ...] = ()

    @property
    def corrected(self) -> Array:
        """Aperture-corrected flux in `unit`, shape (band, width).

        Without contamination by other sources, it does not depend on the width.
        """
        return self.flux * self.correction

    def snr_at(self, width: float) -> Array:
        """Return the ratio of the S/N at a width to the highest S/N, shape (band,)."""
        return np.array(
            [np.interp(width, self.widths, line) / np.nanmax(line) for line in self.snr]
        )

    table = cached_property(growth_table)
    report = growth_report
    to_dict = growth_dict

    def __repr__(self) -> str:
        highest = np.nanmax(self.snr, axis=1)
        low, high = rounded(highest.min()), rounded(highest.max())
        return described(
            self,
            f"of {self.label}",
            f"{self.widths.size} widths, {span_text(self.widths, 'columns', 'g')}",
            f"highest S/N at {self.best:.1f} columns: {low} to {high} in {highest.size} bands, "
            f"{span_text(self.wavelength, 'um')}",
            f"aperture correction: {self.correction_source}",
        )


def curve_of_growth(
    image: ImageSource,
    measurement: Measurement | None = None,
    *,
    widths: ArrayLike | None = None,
    bands: Sequence[tuple[float, float]] = BANDS,
    background: Background | None = None,
    aperture_correction: ApertureCorrection | None = None,
) -> CurveOfGrowth:
    """Extract a source with apertures of many widths.

    Parameters
    ----------
    image : SlitImage, `~specutils.Spectrum`, str or path-like
        Image to extract. The values extracted from a stack are averaged over the integrations.
    measurement : Measurement, optional
        Result of `measure` for this image. By default, the image is measured.
    widths : array_like, optional
        Widths in columns, at least 1. The default widths are in steps of 0.5 from 2 to the width
        that reaches the farther edge of the data, but at least 4 and at most 30.
    bands : sequence of (float, float)
        Limits of the bands in micron. Bands without rows are omitted.
    background : Background, optional
        Background to subtract. If None, nothing is subtracted.
    aperture_correction : ApertureCorrection, optional
        Aperture correction table. By default, the corrections are computed from the measured
        profile.

    Returns
    -------
    CurveOfGrowth
        Flux, aperture correction and signal-to-noise ratio for each band and width.

    Raises
    ------
    SourceError
        If there is no source.
    LRSError
        If a width is less than 1, or no band has any rows.
    CorrectionError
        If the correction table is for a different subarray than the image.

    Warns
    -----
    LRSWarning
        If lost pixels contain more than 10% of the flux in an aperture, if background regions touch
        the source, another trace or the edge of the image, or if the aperture with the highest
        signal-to-noise ratio touches another trace or the edge.

    Notes
    -----
    The same rows are used for all widths. Rows with a lost (bad) pixel in the widest uncontaminated
    aperture are excluded if enough other rows remain in the band. Otherwise all rows are used, and
    the flux on the lost pixels is missing from flux and signal-to-noise ratio at each width. An
    aperture correction from the measured profile makes up for it.
    """
    image = SlitImage.from_any(image)
    if measurement is None:
        measurement = measure(image, integrations=False)
    notes = [] if background is None else region_notes(measurement, background)
    free = _free_width(measurement)
    grid = _check_widths(widths, measurement)
    if aperture_correction is not None:
        aperture_correction.check(image.subarray, image.label)
    rows = _extract_widths(image, measurement, grid, background)
    total = _smooth_flux(measurement.target) * jansky_per_sum(image)
    reference = int(np.argmin(np.abs(grid - min(free, grid[-1]))))
    found = [
        values
        for limits in bands
        if (values := _average(rows, total, measurement.wavelength, limits, reference))
    ]
    if not found:
        if not (rows.error > 0).any():
            raise LRSError(
                "no pixel has a variance (VAR_POISSON, VAR_RNOISE, VAR_FLAT), which the "
                "signal-to-noise ratio needs",
                subject=image.label,
            )
        raise LRSError(
            f"no row with a flux in the bands {list(map(tuple, bands))} micron", subject=image.label
        )
    limits, *averages = zip(*found, strict=True)
    wavelength, number, flux, error, correction, snr, missing = map(np.array, averages)
    correction_source = "measured profile"
    if aperture_correction is not None:
        correction = np.array([aperture_correction(wave, grid) for wave in wavelength])
        correction_source = aperture_correction.filename or "table"
    snr = snr / measurement.noise_factor
    best = np.array([_maximum(grid, line) for line in snr])
    short = missing > _SHORT
    if short.any():
        affected = grid[short.any(axis=0)]
        notes.append(
            f"bad pixels contain {missing[short].min():.0%} to {missing[short].max():.0%} of the "
            f"flux in apertures of {affected[0]:.1f} to {affected[-1]:.1f} columns: their "
            "signal-to-noise ratios are those of the remaining pixels"
        )
    if best.max() > free:
        notes.append(
            f"apertures wider than {free:.1f} columns touch another trace or the image's edge; the "
            f"one with the best signal-to-noise ratio has {best.max():.1f}"
        )
    for note in notes:
        warn(LRSWarning(note, subject=image.label))
    return CurveOfGrowth(
        label=image.label,
        widths=grid,
        bands=limits,
        wavelength=wavelength,
        flux=flux,
        flux_error=error * measurement.noise_factor,
        correction=correction,
        correction_source=correction_source,
        snr=snr,
        fwhm=measurement.width(wavelength)[0] / measurement.pixel_scale,
        unit="Jy" if image.calibrated else "DN/s",
        best_width=best,
        best=_maximum(grid, np.mean(snr / snr.max(axis=1, keepdims=True), axis=0)),
        free_width=free,
        rows=number,
        notes=tuple(notes),
    )


def measure_with_growth(
    image: ImageSource,
    *,
    background: Background | Literal["auto"] | None = "auto",
    aperture_correction: ApertureCorrection | None = None,
    widths: ArrayLike | None = None,
    **kwargs: Any,
) -> tuple[Measurement, CurveOfGrowth, Background | None]:
    """Measure an image and its curve of growth, as ``glue-lrs measure`` does.

    Parameters
    ----------
    image : SlitImage, `~specutils.Spectrum`, str or path-like
        Image to measure.
    background : Background, "auto" or None
        Background to subtract for the curve of growth. With ``"auto"``, the mean in the regions
        from `Measurement.background` is subtracted, unless S_BKDSUB is COMPLETE in the header,
        which means that the background has been subtracted before.
    aperture_correction, widths
        As for `curve_of_growth`.
    **kwargs
        As for `measure`.

    Returns
    -------
    (Measurement, CurveOfGrowth, Background or None)
        Measurement, curve of growth, and background that was subtracted. The measurement and the
        curve of growth have the methods ``report()`` for text and ``to_dict()`` for JSON.
        `glue_lrs.plotting.measurement.plot_measurement` plots them.

    Raises
    ------
    LRSError
        As for `curve_of_growth` and `measure`.
    """
    image = SlitImage.from_any(image)
    measurement = measure(image, **kwargs)
    if isinstance(background, str):
        if background != "auto":
            raise LRSError(
                f"background is {quoted(background)}, expected a Background, 'auto' or None"
            )
        subtracted = image.is_background_subtracted
        background = None if subtracted else measurement.background(bkg_fit="mean")
    curve = curve_of_growth(
        image,
        measurement,
        widths=widths,
        background=background,
        aperture_correction=aperture_correction,
    )
    return measurement, curve, background


def region_notes(measurement: Measurement, background: Background) -> list[str]:
    """Return notes about background regions that touch a trace or the edge of the image.

    Parameters
    ----------
    measurement : Measurement
        Traces and widths of the sources.
    background : Background
        Background whose regions are checked.

    Returns
    -------
    list of str
        One note for each trace or edge that a region touches. A region touches a trace if its
        distance to the trace is less than 1.5 FWHM, and it touches the edge if it extends beyond
        the columns that contain data.
    """
    wave = measurement.wavelength
    known = np.flatnonzero(np.isfinite(wave))
    grid = np.repeat(wave[:, np.newaxis], measurement.shape[1], axis=1)
    regions = polynomial_regions(
        "bkg_coeff", background.bkg_coeff, background.independent_var, grid
    )
    width = measurement.width(wave[known])[0] / measurement.pixel_scale
    first, last = measurement.columns
    notes = []
    for region in regions:
        lower, upper = (
            np.broadcast_to(np.asarray(edge, dtype=float), grid.shape)[known, 0]
            for edge in (region.lower - 0.5, region.upper + 0.5)
        )
        name = f"the background region {lower.mean():.1f} to {upper.mean():.1f}"
        for source in measurement.sources:
            trace = source.trace[known]
            touches = (lower < trace + _CLEAR * width) & (upper > trace - _CLEAR * width)
            if touches.any():
                kind = {"target": "the source", "source": "another source"}.get(
                    source.kind, "a negative trace"
                )
                where = "" if touches.all() else f" in {int(touches.sum())} of {known.size} rows"
                notes.append(f"{name} touches {kind} at column {source.column:.1f}{where}")
        if (lower < first - 0.5 - 1e-9).any() or (upper > last + 0.5 + 1e-9).any():
            notes.append(f"{name} reaches the image's edge: data are in columns {first} to {last}")
    return notes


class _RowValues(NamedTuple):
    """Extracted values for each aperture width and each row of the image, shape (width, row)."""

    flux: Array
    error: Array
    model_flux: Array  # flux extracted from the noise-free model of the target
    present_flux: Array  # the same without the flux on lost pixels
    lost: Array  # fraction of the aperture that consists of lost pixels


def _average(
    values: _RowValues, total: Array, wavelength: Array, limits: tuple[float, float], reference: int
) -> tuple[tuple[float, float], float, int, Array, Array, Array, Array, Array] | None:
    """Average the values over the rows in a band. Returns None if there are no usable rows.

    Rows with lost pixels in the aperture whose width has the index `reference` are excluded if
    enough other rows remain.

    Parameters
    ----------
    values : _RowValues
        Extracted values.
    total : ndarray
        Total flux of the fitted source in each row, shape (row,).
    wavelength : ndarray
        Wavelength of each row in micron.
    limits : (float, float)
        Limits of the band in micron.
    reference : int
        Index of the aperture width for which rows with lost pixels are excluded.

    Returns
    -------
    tuple or None
        Limits of the band, mean wavelength and number of the rows, and flux, error, aperture
        correction, signal-to-noise ratio and fraction of the flux on lost pixels for each aperture
        width, shape (width,).
    """
    low, high = limits
    inside = (wavelength >= low) & (wavelength < high)
    inside &= np.isfinite(values.flux).all(axis=0) & np.isfinite(total)
    inside &= ((values.error > 0) & (values.error < np.inf)).all(axis=0)
    if not inside.any():
        return None
    complete = inside & (values.lost[reference] < 1e-6)
    use = complete if complete.sum() >= max(3, _ENOUGH * inside.sum()) else inside
    number = int(use.sum())
    error, model_flux = values.error[:, use], values.present_flux[:, use]
    return (
        (float(low), float(high)),
        float(wavelength[use].mean()),
        number,
        values.flux[:, use].mean(axis=1),
        np.sqrt((error**2).sum(axis=1)) / number,
        1.0 / (model_flux.sum(axis=1) / total[use].sum()),
        np.sqrt(((model_flux / error) ** 2).sum(axis=1)),
        1.0 - model_flux.sum(axis=1) / values.model_flux[:, use].sum(axis=1),
    )


def _extract_widths(
    image: SlitImage, measurement: Measurement, widths: Array, background: Background | None
) -> _RowValues:
    """Extract spectra from the image and from the model of the target with each aperture width."""
    image = replace(image, wcs_source=None)  # not needed, because the aperture edges are explicit
    target = measurement.target
    source = replace(  # image of the fitted target alone, without noise and bad pixels
        image,
        data=measurement.model(replace(target, flux=_smooth_flux(target))),
        err=None,
        var_poisson=None,
        var_rnoise=None,
        var_flat=None,
        dq=None,
        times=None,
        source_type=None,
        kind="s2d" if image.kind == "calints" else image.kind,
    )
    present = replace(source, data=source.data * (1.0 - lost_share(image)))
    number = image.shape[0]
    has_wavelength = np.isfinite(np.asarray(image.wavelength, dtype=float)).any(axis=1)
    values = []
    for width in widths:
        extract = Extract1D(aperture=measurement.box(float(width)), background=background)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LRSWarning)  # the caller warns once for all widths
            extraction = extract.run(image)
            model, short = (
                Extract1D(aperture=extract.aperture).run(one) for one in (source, present)
            )
        rows, model_rows = (_image_rows(one, has_wavelength) for one in (extraction, model))
        values.append(
            (
                _in_rows(extraction.columns["FLUX"], rows, number),
                _in_rows(extraction.columns["FLUX_ERROR"], rows, number, error=True),
                _in_rows(model.columns["FLUX"], model_rows, number),
                _in_rows(short.columns["FLUX"], model_rows, number),
                _in_rows(extraction.lost_fraction, rows, number),
            )
        )
    return _RowValues(*(np.array(column) for column in zip(*values, strict=True)))


def _free_width(measurement: Measurement) -> float:
    """Return the largest width in columns at which the aperture touches no other trace or edge."""
    first, last = measurement.columns
    trace = measurement.trace
    room = min(float(np.nanmin(trace)) - (first - 0.5), (last + 0.5) - float(np.nanmax(trace)))
    fwhm = float(measurement.point_spread.core.max()) * FWHM
    for other in measurement.others:
        distance = float(np.nanmin(np.abs(other.trace - trace)))
        # For blended sources, the aperture may extend to half the distance between the sources.
        room = min(room, max(distance - _CLEAR * fwhm, distance / 2.0))
    return max(2.0 * room, 1.0)


def _check_widths(widths: ArrayLike | None, measurement: Measurement) -> Array:
    """Return the widths, validated and in ascending order, or the default widths for None."""
    first, last = measurement.columns
    if widths is None:
        trace = measurement.trace
        room = max(float(np.nanmin(trace)) - first, last - float(np.nanmax(trace)))
        return np.arange(2.0, np.clip(2.0 * room, 4.0, 30.0) + 1e-9, 0.5)
    grid = np.unique(np.asarray(widths, dtype=float).ravel())
    if grid.size == 0 or not np.isfinite(grid).all() or grid[0] < 1:
        raise LRSError(f"widths are {np.asarray(widths).tolist()}, expected numbers of 1 or more")
    return grid


def _smooth_flux(source: DetectedSource) -> Array:
    """Return the flux of a source, smoothed along the rows if its S/N is low, shape (row,)."""
    flux = np.full(source.flux.shape, np.nan)
    known = np.isfinite(source.flux)
    flux[known] = smooth_flux(source.flux[known], source.flux_error[known] ** 2)
    return flux


def _image_rows(extraction: Extraction, has_wavelength: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the image row of each extracted value. Spectra omit rows without a wavelength.

    Parameters
    ----------
    extraction : Extraction
        Extracted spectrum.
    has_wavelength : ndarray of bool
        Mask of the image rows that have a wavelength, shape (row,).
    """
    first = int(extraction.keywords["EXTRYSTR"]) - 1
    last = int(extraction.keywords["EXTRYSTP"])
    number = extraction.wavelength.size
    if last - first == number:
        return np.arange(first, last)
    return first + np.flatnonzero(has_wavelength[first:last])[:number]


def _in_rows(values: Array, rows: NDArray[np.intp], number: int, error: bool = False) -> Array:
    """Return an array for all rows of the image with the extracted values, NaN in other rows.

    Values from a stack are averaged over the integrations.

    Parameters
    ----------
    values : ndarray
        Extracted values, shape (n_wave,) or (integration, n_wave).
    rows : ndarray of int
        Image row of each value, shape (n_wave,).
    number : int
        Number of rows in the image.
    error : bool
        Whether the values are errors, whose average is the error of the mean.
    """
    placed = np.full(number, np.nan)
    if values.ndim == 2:
        count = np.isfinite(values).sum(axis=0)
        total = np.nansum(values**2 if error else values, axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = (np.sqrt(total) if error else total) / np.where(count > 0, count, np.nan)
    placed[rows] = values
    return placed


def _maximum(widths: Array, values: Array) -> float:
    """Return the width at which `values` has its maximum.

    This is the vertex of the parabola through the highest value and its two neighbours.
    """
    top = int(np.nanargmax(values))
    if top in (0, widths.size - 1):
        return float(widths[top])
    terms = np.polyfit(widths[top - 1 : top + 2] - widths[top], values[top - 1 : top + 2], 2)
    return float(widths[top] - 0.5 * terms[1] / terms[0]) if terms[0] < 0 else float(widths[top])
