"""Growth curve: flux and signal to noise against the aperture's width, and what spoils them.

Every number comes from `glue_lrs.Extract1D`, once for each width; here is no sum over pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glue_lrs._utils.statistics import smooth_flux
from glue_lrs.apertures.edges import polynomial_regions
from glue_lrs.errors import LRSError, LRSWarning
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import FWHM
from glue_lrs.measurement.measure import measure

if TYPE_CHECKING:
    from astropy.table import QTable
    from specutils import Spectrum

    from glue_lrs.apertures.aperture_correction import ApertureCorrection
    from glue_lrs.apertures.background import Background
    from glue_lrs.measurement.measurement import DetectedSource, Measurement

__all__ = ["BANDS", "CurveOfGrowth", "curve_of_growth", "measure_with_growth", "region_notes"]

Array = NDArray[np.float64]

#: Bands of wavelength in micron that a growth curve is made for by default.
BANDS = ((4.5, 6.0), (6.0, 8.0), (8.0, 10.0), (10.0, 12.0), (12.0, 14.0))

#: FWHM around a trace that a background region must not touch: a Gaussian has 4e-4 of its light
#: beyond.
_CLEAR = 1.5

#: Fraction of a band's rows that must have lost no pixel for the others to be left out.
_ENOUGH = 0.2


@dataclass(frozen=True, eq=False, kw_only=True)
class CurveOfGrowth:
    """Flux and signal to noise of a source against the width of the aperture.

    Parameters
    ----------
    label : str
        How messages call the image.
    widths : ndarray
        Widths of the aperture in columns, ascending, shape (width,).
    bands : tuple of (float, float)
        Limits of each band in micron.
    wavelength : ndarray
        Mean wavelength of the rows of each band, shape (band,).
    flux, flux_error : ndarray
        Mean flux within the aperture, in `unit`, not corrected; shape (band, width).
    correction : ndarray
        Factor for the light outside, of the same shape.
    correction_source : str
        Where it comes from: ``"measured profile"``, or the name of the APCORR table.
    snr : ndarray
        Signal to noise of all rows of the band together (the root of the sum of its square over
        rows), of the same shape. The signal is that of the measured profile, which is smoother than
        the flux; the noise is that of the extraction, the background's included.
    fwhm : ndarray
        FWHM of the source in columns in each band.
    unit : str
        Unit of the flux.
    best_width : ndarray
        Width of best signal to noise in each band, shape (band,).
    best : float
        Width that is best for all bands together.
    free_width : float
        Widest aperture that touches no other source, negative trace or edge.
    rows : ndarray
        Number of rows used in each band.
    notes : tuple of str
        What a user was warned of.
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
        """Flux times correction: the same at all widths if all is well; shape (band, width)."""
        return self.flux * self.correction

    def snr_at(self, width: float) -> Array:
        """Signal to noise at a width over that at the best one, in each band."""
        return np.array(
            [np.interp(width, self.widths, line) / np.nanmax(line) for line in self.snr]
        )

    @cached_property
    def table(self) -> QTable:
        """A row for each band and width."""
        from astropy import units as u
        from astropy.table import QTable

        bands, widths = self.flux.shape
        return QTable(
            {
                "wavelength": np.repeat(self.wavelength, widths) * u.um,
                "width": np.tile(self.widths, bands) * u.pix,
                "flux": self.flux.ravel() * u.Unit(self.unit),
                "flux_error": self.flux_error.ravel() * u.Unit(self.unit),
                "correction": self.correction.ravel(),
                "corrected": self.corrected.ravel() * u.Unit(self.unit),
                "snr": self.snr.ravel(),
            }
        )

    def report(self) -> str:
        """What the curve says, as text for people."""
        lines = [
            f"aperture of best signal to noise: {self.best:.1f} columns "
            f"(correction: {self.correction_source})",
            "  wavelength  best width         S/N there  S/N at 4, 8, 12 columns",
            "  um          columns  FWHM                 over the best",
        ]
        at = [self.snr_at(width) for width in (4.0, 8.0, 12.0)]
        for n, wave in enumerate(self.wavelength):
            parts = "  ".join(f"{values[n]:.2f}" for values in at)
            lines.append(
                f"  {wave:6.2f}      {self.best_width[n]:5.1f}    "
                f"{self.best_width[n] / self.fwhm[n]:4.2f}      {np.nanmax(self.snr[n]):9.1f}  "
                f"{parts}"
            )
        lines.append(f"free of other traces and of the edge: up to {self.free_width:.1f} columns")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """All numbers, ready for JSON; what is not known is None."""
        from glue_lrs.measurement.report import plain

        return {
            "image": self.label,
            "unit": self.unit,
            "widths": plain(self.widths),
            "bands": [list(band) for band in self.bands],
            "correction_source": self.correction_source,
            "best": plain(self.best),
            "free_width": plain(self.free_width),
            **{
                name: plain(getattr(self, name))
                for name in (
                    "wavelength", "flux", "flux_error", "correction", "snr", "fwhm", "best_width",
                )
            },
            "rows": self.rows.tolist(),
            "notes": list(self.notes),
        }  # fmt: skip

    def __repr__(self) -> str:
        return f"<CurveOfGrowth of {self.label}: best {self.best:.1f} columns>"


def curve_of_growth(
    image: SlitImage | Spectrum,
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
    image : SlitImage or `~specutils.Spectrum`
        An image; of a stack the mean over the integrations of what is extracted is taken.
    measurement : Measurement, optional
        What `glue_lrs.measurement.measure.measure` found in it; it is measured where this is not given.
    widths : array_like, optional
        Widths in columns, at least 1; by default from 2 to what fits on the image in steps of a
        half.
    bands : sequence of (float, float)
        Limits of the bands in micron. Those without rows are left out.
    background : Background, optional
        What to subtract first. None: nothing is subtracted.
    aperture_correction : ApertureCorrection, optional
        A table of corrections; without one they come from the measured profile.

    Returns
    -------
    CurveOfGrowth
        Flux, correction and signal to noise.

    Raises
    ------
    SourceError
        If there is no source.
    LRSError
        If a width is less than 1, or no band has any rows.
    CorrectionError
        If the table belongs to another subarray.

    Warns
    -----
    LRSWarning
        If background regions touch the source, another trace or the image's edge.

    Notes
    -----
    Rows that lost a pixel of the widest aperture that is free of other traces are left out, so that
    all widths have the same rows; where few would remain, all are used, and the lost light is
    missing.
    """
    image = SlitImage.from_any(image)
    found = measure(image, integrations=False) if measurement is None else measurement
    notes = [] if background is None else region_notes(found, background)
    free = _free_width(found)
    grid = _check_widths(widths, found)
    if aperture_correction is not None:
        aperture_correction.check(image.subarray, image.label)
    image = replace(image, wcs_source=None)  # the edges are known: nothing asks for it
    source = _source_image(image, found)
    rows = _row_slice(image)
    flux, error, light, lost = [], [], [], []
    for width in grid:
        extract = Extract1D(aperture=found.box(float(width)), background=background)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LRSWarning)  # what spoils it is told below
            extraction = extract.run(image)
            seen = Extract1D(aperture=extract.aperture).run(source)
        where = rows(extraction)
        flux.append(_placed(extraction.columns["FLUX"], where, image.shape[0]))
        error.append(_placed(extraction.columns["FLUX_ERROR"], where, image.shape[0], error=True))
        lost.append(_placed(extraction.lost_fraction, where, image.shape[0]))
        light.append(_placed(seen.columns["FLUX"], rows(seen), image.shape[0]))
    values = {
        name: np.array(part)
        for name, part in (("flux", flux), ("error", error), ("light", light), ("lost", lost))
    }
    total = _steady(found.target) * _scale(image)
    kept: list[tuple[float, float]] = []
    columns: dict[str, list[Any]] = {
        name: [] for name in ("wave", "flux", "error", "correction", "snr", "fwhm", "rows")
    }
    reference = int(np.argmin(np.abs(grid - min(free, grid[-1]))))
    for low, high in bands:
        inside = (found.wavelength >= low) & (found.wavelength < high)
        inside &= np.isfinite(values["flux"]).all(axis=0) & (values["error"] > 0).all(axis=0)
        inside &= np.isfinite(total)
        if not inside.any():
            continue
        whole = inside & (values["lost"][reference] < 1e-6)
        use = whole if whole.sum() >= max(3, _ENOUGH * inside.sum()) else inside
        number = int(use.sum())
        wave = float(found.wavelength[use].mean())
        part = {name: array[:, use] for name, array in values.items()}
        mean_error = np.sqrt((part["error"] ** 2).sum(axis=1)) / number
        enclosed = part["light"].sum(axis=1) / total[use].sum()
        snr = np.sqrt(((part["light"] / part["error"]) ** 2).sum(axis=1))
        kept.append((float(low), float(high)))
        columns["wave"].append(wave)
        columns["flux"].append(part["flux"].mean(axis=1))
        columns["error"].append(mean_error * found.noise_factor)
        columns["snr"].append(snr / found.noise_factor)
        columns["correction"].append(
            1.0 / enclosed if aperture_correction is None else aperture_correction(wave, grid)
        )
        columns["fwhm"].append(float(found.width(wave)[0]) / found.pixel_scale)
        columns["rows"].append(number)
    if not kept and not (values["error"] > 0).any():
        raise LRSError(
            f"{image.label}: no pixel has a variance (VAR_POISSON, VAR_RNOISE, VAR_FLAT), expected "
            "some to tell the signal to noise"
        )
    if not kept:
        raise LRSError(
            f"{image.label}: no row with a flux in the bands {list(map(tuple, bands))} micron"
        )
    curves = np.array(columns["snr"])
    best = np.array([_peak(grid, line) for line in curves])
    together = np.mean(curves / curves.max(axis=1, keepdims=True), axis=0)
    notes += _curve_notes(found, free, float(best.max()))
    for note in notes:
        warnings.warn(f"{image.label}: {note}", LRSWarning, stacklevel=2)
    return CurveOfGrowth(
        label=image.label,
        widths=grid,
        bands=tuple(kept),
        wavelength=np.array(columns["wave"]),
        flux=np.array(columns["flux"]),
        flux_error=np.array(columns["error"]),
        correction=np.array(columns["correction"]),
        correction_source=(
            "measured profile"
            if aperture_correction is None
            else aperture_correction.filename or "table"
        ),
        snr=curves,
        fwhm=np.array(columns["fwhm"]),
        unit="Jy" if image.calibrated else "DN/s",
        best_width=best,
        best=_peak(grid, together),
        free_width=free,
        rows=np.array(columns["rows"]),
        notes=tuple(notes),
    )


def measure_with_growth(
    image: SlitImage | Spectrum,
    *,
    background: Background | Literal["auto"] | None = "auto",
    aperture_correction: ApertureCorrection | None = None,
    widths: ArrayLike | None = None,
    **kwargs: Any,
) -> tuple[Measurement, CurveOfGrowth, Background | None]:
    """Measure an image and make its growth curve: all that ``glue-lrs measure`` tells.

    Parameters
    ----------
    image : SlitImage or `~specutils.Spectrum`
        The image.
    background : Background, "auto" or None
        What the growth curve subtracts. ``"auto"``: nothing where the header says that the
        background has been subtracted (S_BKDSUB is COMPLETE), else the mean of what
        `Measurement.background` finds.
    aperture_correction, widths
        As for `curve_of_growth`.
    **kwargs
        As for `glue_lrs.measurement.measure.measure`.

    Returns
    -------
    (Measurement, CurveOfGrowth, Background or None)
        What was measured, the growth curve, and the background that was subtracted. Text is in
        their ``report()``, numbers for JSON in their ``to_dict()``, pictures in
        `glue_lrs.plotting.measurement.plot_measurement`.

    Raises
    ------
    LRSError
        As `curve_of_growth` and `glue_lrs.measurement.measure.measure`.
    """
    image = SlitImage.from_any(image)
    found = measure(image, **kwargs)
    if isinstance(background, str):
        if background != "auto":
            raise LRSError(f"background is {background!r}, expected a Background, 'auto' or None")
        done = image.header.get("S_BKDSUB") == "COMPLETE"
        background = None if done else found.background(bkg_fit="mean")
    curve = curve_of_growth(
        image,
        found,
        widths=widths,
        background=background,
        aperture_correction=aperture_correction,
    )
    return found, curve, background


def region_notes(measurement: Measurement, background: Background) -> list[str]:
    """Tell which background regions touch a trace or the image's edge.

    Parameters
    ----------
    measurement : Measurement
        Where the traces are, and how wide.
    background : Background
        The regions.

    Returns
    -------
    list of str
        A line for each fault; empty if all is well. A trace is touched where a region comes nearer
        than 1.5 FWHM to it, the edge where a region reaches beyond the columns that hold data.
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
        span = f"the background region {lower.mean():.1f} to {upper.mean():.1f}"
        for source in measurement.sources:
            trace = source.trace[known]
            touches = (lower < trace + _CLEAR * width) & (upper > trace - _CLEAR * width)
            if touches.any():
                what = {"target": "the source", "source": "another source"}.get(
                    source.kind, "a negative trace"
                )
                share = "" if touches.all() else f" in {int(touches.sum())} of {known.size} rows"
                notes.append(f"{span} touches {what} at column {source.column:.1f}{share}")
        if (lower < first - 0.5 - 1e-9).any() or (upper > last + 0.5 + 1e-9).any():
            notes.append(f"{span} reaches the image's edge: data are in columns {first} to {last}")
    return notes


def _curve_notes(measurement: Measurement, free: float, best: float) -> list[str]:
    """Tell where the growth curve's own apertures meet something else."""
    if free >= best:
        return []
    return [
        f"apertures wider than {free:.1f} columns touch another trace or the image's edge, and "
        f"that of best signal to noise has {best:.1f}"
    ]


def _free_width(measurement: Measurement) -> float:
    """Widest aperture about the target's trace that touches no other trace and no edge."""
    first, last = measurement.columns
    trace = measurement.trace
    room = min(float(np.nanmin(trace)) - (first - 0.5), (last + 0.5) - float(np.nanmax(trace)))
    widest = float(measurement.point_spread.core.max()) * FWHM
    for other in measurement.others:
        distance = float(np.nanmin(np.abs(other.trace - trace)))
        # A blend has no room between its parts: half the way belongs to each.
        room = min(room, max(distance - _CLEAR * widest, distance / 2.0))
    return max(2.0 * room, 1.0)


def _check_widths(widths: ArrayLike | None, measurement: Measurement) -> Array:
    first, last = measurement.columns
    if widths is None:
        trace = measurement.trace
        room = max(float(np.nanmin(trace)) - first, last - float(np.nanmax(trace)))
        return np.arange(2.0, np.clip(2.0 * room, 4.0, 30.0) + 1e-9, 0.5)
    grid = np.unique(np.asarray(widths, dtype=float).ravel())
    if grid.size == 0 or not np.isfinite(grid).all() or grid[0] < 1:
        raise LRSError(f"widths are {np.asarray(widths).tolist()}, expected numbers of 1 or more")
    return grid


def _source_image(image: SlitImage, measurement: Measurement) -> SlitImage:
    """The target's light alone, as an image without noise and without lost pixels."""
    return replace(
        image,
        data=measurement.model(replace(measurement.target, flux=_steady(measurement.target))),
        err=None,
        var_poisson=None,
        var_rnoise=None,
        var_flat=None,
        dq=None,
        times=None,
        source_type=None,
        kind="s2d" if image.kind == "calints" else image.kind,
    )


def _steady(source: DetectedSource) -> Array:
    """Flux of a source in each row, smoothed as far as its noise asks for."""
    out = np.full(source.flux.shape, np.nan)
    known = np.isfinite(source.flux)
    out[known] = smooth_flux(source.flux[known], source.flux_error[known] ** 2)
    return out


def _scale(image: SlitImage) -> float:
    """From a sum of pixels to a flux."""
    if not image.calibrated or image.pixel_area is None:
        return 1.0
    return image.pixel_area * 1e6


def _row_slice(image: SlitImage) -> Any:
    """Make a function that tells which rows of the image an extraction has."""
    wavelength = np.asarray(image.wavelength, dtype=float)

    def rows(extraction: Any) -> NDArray[np.intp]:
        first = int(extraction.keywords["EXTRYSTR"]) - 1
        last = int(extraction.keywords["EXTRYSTP"])
        number = extraction.wavelength.size
        if last - first == number:
            return np.arange(first, last)
        # Rows without a wavelength are left out of an extraction.
        return first + np.flatnonzero(np.isfinite(wavelength[first:last]).any(axis=1))[:number]

    return rows


def _placed(
    values: NDArray[Any], rows: NDArray[np.intp], number: int, error: bool = False
) -> Array:
    """A column of an extraction in the rows of the image; of a stack the mean, or its error."""
    out = np.full(number, np.nan)
    if values.ndim == 2:
        count = np.isfinite(values).sum(axis=0)
        power = np.nansum(values**2 if error else values, axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = (np.sqrt(power) if error else power) / np.where(count > 0, count, np.nan)
    out[rows] = values
    return out


def _peak(widths: Array, values: Array) -> float:
    """Place of the maximum, by a parabola through the highest point and its neighbours."""
    top = int(np.nanargmax(values))
    if top in (0, widths.size - 1):
        return float(widths[top])
    terms = np.polyfit(widths[top - 1 : top + 2] - widths[top], values[top - 1 : top + 2], 2)
    return float(widths[top] - 0.5 * terms[1] / terms[0]) if terms[0] < 0 else float(widths[top])
