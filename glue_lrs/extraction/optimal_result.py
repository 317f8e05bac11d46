"""Result of an optimal extraction: spectra, profile, traces, rejected pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.errors import ProductError
from glue_lrs.extraction.keywords import SpectrumKeywords, integration_times
from glue_lrs.image.pixels import PLANES
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.columns import COLUMNS, COMPONENTS, column_units
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.provenance import Provenance

if TYPE_CHECKING:
    from glue_lrs.extraction.optimal import OptimalExtractor
    from glue_lrs.fitting.cutout import Cutout
    from glue_lrs.fitting.row_fit import RowFitter
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.profiles.base import Profile

__all__ = ["OptimalResult", "assemble_result", "flux_ratios", "middle_row_value"]


@dataclass(frozen=True, eq=False, kw_only=True)
class OptimalResult:
    """What an optimal extraction gives.

    Parameters
    ----------
    extractions : tuple of Extraction
        One for each source that was asked for.
    profile : Profile
        The profile; can be given to another `OptimalExtractor`.
    traces : ndarray
        Column of each source in each row of the image: those asked for, then others whose light
        reaches them, negative traces last; shape (source, row), NaN where there is no wavelength.
    position_errors : ndarray
        Standard deviation of the traces' positions in columns, shape (source,); NaN where they
        are not fitted.
    signal_to_noise : float
        Of the first source, all rows together; of a stack's mean.
    shifts : ndarray or None
        Columns that each integration of a stack is shifted by; shape (integration,).
    rejected : tuple of ndarray
        Indices of the pixels that were left out because they disagree with the model, as
        `numpy.nonzero` gives them: (integration,) row and column of the image.
    """

    extractions: tuple[Extraction, ...]
    profile: Profile
    traces: NDArray[np.float64]
    position_errors: NDArray[np.float64]
    signal_to_noise: float
    shifts: NDArray[np.float64] | None
    rejected: tuple[NDArray[np.intp], ...]
    _work: RowFitter
    _coefficients: NDArray[np.float64]

    @property
    def image(self) -> SlitImage:
        """The image that was extracted."""
        return self._work.view.image

    @property
    def number_rejected(self) -> int:
        """How many pixels were left out because they disagree with the model."""
        return int(self.rejected[0].size)

    @property
    def positive(self) -> NDArray[np.bool_]:
        """Which of the traces are those of sources; the others are negative. Shape (source,)."""
        return np.arange(len(self.traces)) < self._work.positives

    @property
    def relative_flux(self) -> NDArray[np.float64]:
        """Median flux of each trace over that of the first, shape (source,)."""
        return flux_ratios(self._coefficients, len(self.traces))

    @property
    def remarks(self) -> list[str]:
        """How many pixels were rejected and what was fitted with the first source, in words."""
        return _remarks(self._work, self._coefficients, self.rejected)

    def profile_covariance(self) -> NDArray[np.float64] | None:
        """Covariance of the first source's fluxes that comes from the noise of a learned profile.

        The errors of the spectrum do not have it. In a single row it does not matter; but rows
        share it, so that a mean over many is less certain than their errors say.

        Returns
        -------
        ndarray or None
            In units of the fluxes: of flux over true flux, shape (row, row), with the rows of the
            spectrum. None where the profile was given, or learned from several sources.
        """
        found = self._work.profile_covariance()
        if found is None:
            return None
        rows = self._work.rows(0)
        return found[np.ix_(rows, rows)]

    def model(self, integration: int = 0) -> NDArray[np.float64]:
        """The model of the image, in its unit, NaN where nothing was fitted; (row, column).

        Parameters
        ----------
        integration : int
            Which integration of a stack.
        """
        work = self._work
        shift = 0.0 if self.shifts is None else float(self.shifts[integration])
        coefficients = self._coefficients
        if coefficients.ndim == 3:
            coefficients = coefficients[integration]
        basis = work.basis(shift)
        part = sum(coefficients[:, i, np.newaxis] * field for i, field in enumerate(basis))
        full = np.full(work.view.image.shape, np.nan)
        full[work.view.rows, work.columns] = part
        return full

    def residual(self, integration: int = 0) -> NDArray[np.float64]:
        """The image less the model; NaN where a pixel has no value. Shape (row, column)."""
        return self._plane("data", integration) - self.model(integration)

    def normalised_residual(self, integration: int = 0) -> NDArray[np.float64]:
        """`residual` over the standard deviation that the image's variances give; (row, column).

        NaN where a pixel has no value, is flagged, or has no variance.
        """
        variance = np.zeros(self.image.shape)
        for name in PLANES:
            if getattr(self.image, name) is not None:
                variance += self._plane(name, integration)
        bad = ~(variance > 0)
        if self.image.dq is not None:
            bad |= (self._plane("dq", integration, np.uint32) & np.uint32(DO_NOT_USE)) != 0
        variance[bad] = np.nan
        return self.residual(integration) / np.sqrt(variance)

    def _plane(self, name: str, integration: int, dtype: Any = float) -> NDArray[Any]:
        plane = np.asarray(getattr(self.image, name))
        return (plane[integration] if self.image.is_stack else plane).astype(dtype)


def assemble_result(
    operator: OptimalExtractor,
    view: Cutout,
    work: RowFitter,
    raw: dict[str, NDArray[Any]],
    shifts: NDArray[np.float64] | None,
    rejected: tuple[NDArray[np.intp], ...],
    scale: float,
    notes: list[str],
) -> OptimalResult:
    image = view.image
    learned = work.learned
    coefficients = raw["coefficients"]
    number = coefficients.shape[0]
    extractions = []
    for s in range(operator._wanted):
        profile = work.lit[s]
        light, square = profile.sum(axis=1), (profile**2).sum(axis=1)
        rows = work.rows(s)
        if rows.size == 0:
            raise ProductError(f"{image.label}: the source has no light on the image")
        worth = light[rows] / square[rows]
        shape = (number, rows.size)
        columns: dict[str, NDArray[Any]] = {name: np.zeros(shape) for name in COLUMNS}
        pixels = raw["good"][:, s][:, rows] / square[rows]
        flux = coefficients[:, rows, s] * scale
        variance = raw["flux_variance"][:, :, s][:, :, rows].sum(axis=0)
        # Where no row has a variance, as in images without any, a flux is enough.
        none = ~(variance > 0) if (variance > 0).any() else flux == 0
        none |= pixels <= 1e-8
        flux = np.where(none, np.nan, flux)
        columns["FLUX"], columns["NPIXELS"] = flux, np.maximum(pixels, 0.0)
        columns["DQ"] = np.isnan(flux).astype(np.uint32)
        if operator.max_lost is not None:
            columns["DQ"][pixels < worth * (1.0 - operator.max_lost)] |= np.uint32(DO_NOT_USE)
        if work.behind:
            sources = len(work.lit)
            for i, field in enumerate(work.behind):
                place = (profile * field).sum(axis=1)[rows] / light[rows]
                columns["BACKGROUND"] += coefficients[:, rows, sources + i] * place
        for k, component in enumerate(COMPONENTS):
            columns[f"FLUX_VAR_{component}"] = raw["flux_variance"][k][:, s][:, rows] * scale**2
            if work.behind:
                columns[f"BKGD_VAR_{component}"] = raw["background_variance"][k][:, s][:, rows]
        for name in ("FLUX", "SB", "BKGD"):
            total = np.zeros(shape)
            for component in COMPONENTS:
                values = columns[f"{name}_VAR_{component}"]
                np.maximum(values, 0.0, out=values)  # what rounding leaves of next to nothing
                values[none] = np.nan
                total += values
            columns[f"{name}_ERROR"] = np.sqrt(total)
        # Its wings may be below 0.
        weight = np.where(work.inside, np.maximum(profile, 0.0), 0.0)[rows]
        wave = image.wavelength[view.rows, work.columns][rows]
        wavelength = np.where(weight > 0, wave, 0.0).astype(float)
        wavelength = (wavelength * weight).sum(axis=1) / weight.sum(axis=1)
        columns["WAVELENGTH"] = np.broadcast_to(wavelength, shape)
        if np.isnan(columns["FLUX"]).all():
            raise ProductError(f"{image.label}: every pixel of the profile is NaN or flagged")
        if not image.is_stack:
            columns = {name: values[0] for name, values in columns.items()}
        remarks = _remarks(work, coefficients, rejected) if s == 0 else []
        notes_here = remarks if rejected[0].size else remarks[1:]
        extractions.append(
            Extraction(
                columns={name: columns[name] for name in COLUMNS},
                units=column_units(image.calibrated),
                header=LazyHeader.from_header(image.header),
                keywords_source=_keywords(image, view, work, s, rows),
                times=integration_times(image),
                int_times=None if image.times is None else image.times.copy(),
                provenance=Provenance(
                    partial(getattr, operator, "parameters"),
                    image.path or image.filename,
                    {"psf": getattr(operator.profile, "filename", None)},
                    {
                        "column": middle_row_value(learned.traces[s]),
                        "column_error": _or_none(learned.shift_error[s]),
                        "row": (view.rows.start + view.rows.stop - 1) // 2,
                    },
                    [*notes, *notes_here],
                ),
                aperture_weight=worth,
            )
        )
    traces = np.full((len(learned.traces), image.shape[0]), np.nan)
    traces[:, view.rows] = learned.traces
    return OptimalResult(
        extractions=tuple(extractions),
        profile=learned.profile,
        traces=traces,
        position_errors=learned.shift_error,
        signal_to_noise=learned.signal_to_noise,
        shifts=shifts,
        rejected=rejected,
        _work=work,
        _coefficients=coefficients if image.is_stack else coefficients[0],
    )


def _remarks(
    work: RowFitter, coefficients: NDArray[np.float64], rejected: tuple[NDArray[np.intp], ...]
) -> list[str]:
    """What was fitted together with the target, and how many pixels were left out."""
    places = [middle_row_value(trace) for trace in work.learned.traces]
    count = rejected[0].size
    remarks = [f"{count or 'no'} pixel{'s were' if count > 1 else ' was'} rejected"]
    if work.positives > 1:
        shares = flux_ratios(coefficients, work.positives)[1:]
        others = [
            f"column {place:.2f} ({share:.3g} times its flux)"
            for place, share in zip(places[1 : work.positives], shares, strict=True)
        ]
        noun = "another source" if len(others) == 1 else f"{len(others)} other sources"
        remarks.append(f"fitted together with {noun} at {' and '.join(others)}")
    if len(places) > work.positives:
        columns = [f"column {place:.2f}" for place in places[work.positives :]]
        noun = "a negative trace" if len(columns) == 1 else f"{len(columns)} negative traces"
        remarks.append(f"fitted together with {noun} at {' and '.join(columns)}")
    return remarks


def flux_ratios(coefficients: NDArray[np.float64], sources: int) -> NDArray[np.float64]:
    """Medians of the sources' fluxes over that of the first."""
    flux = coefficients[..., :sources].reshape(-1, sources)
    known = np.isfinite(flux).all(axis=1) & (flux != 0).any(axis=1)
    middle = np.median(flux[known], axis=0) if known.any() else np.full(sources, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(middle / middle[0])


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def middle_row_value(trace: NDArray[np.float64]) -> float:
    """The trace in the middle row."""
    return float(trace[(trace.size - 1) // 2])


def _keywords(
    image: SlitImage, view: Cutout, work: RowFitter, source: int, rows: NDArray[np.intp]
) -> SpectrumKeywords:
    cards: dict[str, Any] = {"SLTNAME": image.slit_name}
    if image.source_type:
        cards["SRCTYPE"] = image.source_type
    trace = work.learned.traces[source]
    reach = work.operator.reach
    cards |= {
        "EXTRXSTR": float(max(np.nanmean(trace) - reach, work.columns.start) + 1),
        "EXTRXSTP": float(min(np.nanmean(trace) + reach, work.columns.stop - 1) + 1),
        "EXTRYSTR": view.rows.start + int(rows[0]) + 1,
        "EXTRYSTP": view.rows.start + int(rows[-1]) + 1,
        "SPORDER": image.spectral_order,
        "DISPAXIS": image.dispaxis,
    }
    header = LazyHeader.view(image.header)
    if "DETECTOR" in header:
        cards["DETECTOR"] = header["DETECTOR"]
    return SpectrumKeywords(
        cards,
        image.__dict__.get("wcs", image.wcs_source),
        middle_row_value(trace),
        float((view.rows.start + view.rows.stop - 1) // 2),
    )
