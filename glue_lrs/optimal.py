"""OptimalExtraction, the operator: SlitImage -> Extraction, with the best weights.

Each row is fitted with the profiles of all sources and a polynomial background, each pixel with the
weight 1 / variance. Three things make the result honest:

* The variances behind the weights are those of a smooth model, not the pixels' own: these are
  estimated from the noisy data, so that a pixel that is low by chance would weigh more, and fluxes
  would come out too low. The errors, on the other hand, are worked out from the image's variances.
* The profile is learned from the image (or given), and sources are put where they are found.
* Pixels that disagree with the model are left out one by one, the worst first, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from glue_lrs.aperture import check_number
from glue_lrs.errors import ProductError, ProfileError, ReferenceFileError, SourceError
from glue_lrs.extract import NO_VARIANCES, _integration_times, _jansky_per_sum, _Keywords, tell
from glue_lrs.extraction import COLUMNS, COMPONENTS, Extraction, Provenance, column_units
from glue_lrs.header import OwnHeader
from glue_lrs.image import DO_NOT_USE, SlitImage
from glue_lrs.learn import REACH, Learned, fit_traces, learn
from glue_lrs.optimal_fit import SHIFT_LIMIT, Work
from glue_lrs.optimal_start import Spread, Start, find_start
from glue_lrs.optimal_view import PLANES, Mean, View
from glue_lrs.profile import Profile

if TYPE_CHECKING:
    from specutils import Spectrum


__all__ = ["OptimalExtraction", "OptimalResult"]

#: Columns that a fit may end from where the source was asked for.
_ASTRAY = 2.5

#: Columns by which header and data may disagree on the position without a word, as in `measure`.
_TELL_OFFSET = 0.5

#: Columns that two sources must be apart to be two.
_SAME = 0.5

#: Fraction of the pixels on a source that cosmic rays do not reach.
_MANY = 0.05

#: Fraction of the light off the image that is told, and flux of a negative trace over the source's,
#: where the signal-to-noise ratio of that is this.
_OFF_IMAGE, _TOO_MUCH, _SURE = 0.05, 1.5, 30.0

#: Order of a background's polynomial above which it is as narrow as a source.
_ORDER = 4


@dataclass(frozen=True, kw_only=True)
class OptimalExtraction:
    """Optimal extraction of point sources.

    Made once, called with images: ``extract(image)`` gives a specutils spectrum,
    ``extract.run(image)`` all the columns, ``extract.fit(image)`` the model as well.

    Parameters
    ----------
    profile : Profile, optional
        How the light is spread: a PSF reference (`PSFProfile`), or what was learned from another
        image (``fit(star).profile``). None: learned from the image itself.
    position : float or sequence of float, optional
        Column of the source in the middle row, to within some two columns; of several sources
        they are fitted together, and the first is the target. None: found.
    nods : bool
        Whether negative traces that other nods have left are found and fitted.
    bkg_order : int, None or "auto"
        Order of the background's polynomial in each row, fitted with the sources; None: there is
        none; "auto": 0, but none where the header says that a background was subtracted.
    threshold : float, optional
        Pixels that disagree with the model by more standard deviations are left out; None: none.
    fit_position : bool
        Whether the position is fitted.
    trace_order : int, optional
        Order of the polynomial by which the trace may differ from the WCS's. None: 0 to 3, as the
        signal-to-noise ratio allows.
    fit_shift : bool
        Whether each integration of a stack has a shift of its own.
    reach : int
        Columns from the source at which a learned profile ends; what light lies farther out is not
        counted.
    spline : bool
        Whether a learned profile may differ from a Gaussian.
    max_lost : float, optional
        Rows in which bad pixels took more than this fraction of the profile are masked (DQ bit 0).

    Raises
    ------
    ReferenceFileError
        If a value is out of range.

    Notes
    -----
    After Horne (1986), and Marsh (1989) for curved traces. There is no aperture correction: the
    profile adds up to 1 over all of its columns.
    """

    profile: Profile | None = None
    position: float | Sequence[float] | None = None
    nods: bool = True
    bkg_order: int | Literal["auto"] | None = "auto"
    threshold: float | None = 5.0
    fit_position: bool = True
    trace_order: int | None = None
    fit_shift: bool = True
    reach: int = REACH
    spline: bool = True
    max_lost: float | None = None

    def __post_init__(self) -> None:
        if self.profile is not None and not isinstance(self.profile, Profile):
            raise ReferenceFileError(
                f"profile is a {type(self.profile).__name__}, expected a Profile such as "
                "PSFProfile.read(path)"
            )
        if self.position is not None:
            several = np.atleast_1d(np.asarray(self.position, dtype=object)).tolist()
            columns = tuple(check_number("position", value) for value in several)
            if not columns:
                raise ReferenceFileError("position is empty, expected a column or several")
            if len(columns) > 1 and np.diff(np.sort(columns)).min() < _SAME:
                raise ReferenceFileError(
                    f"position is {list(columns)}, expected columns that are at least {_SAME:g} "
                    "apart"
                )
            object.__setattr__(self, "position", columns)
        for key in ("nods", "fit_position", "fit_shift", "spline"):
            if not isinstance(getattr(self, key), bool):
                raise ReferenceFileError(f"{key} is {getattr(self, key)!r}, expected True or False")
        for key, least in (("bkg_order", 0), ("trace_order", 0), ("reach", 4)):
            value = getattr(self, key)
            if value is None and key != "reach":
                continue
            if key == "bkg_order" and value == "auto":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ReferenceFileError(
                    f"{key} is {value!r}, expected a whole number of {least} or more"
                )
        if self.threshold is not None and not check_number("threshold", self.threshold) > 0:
            raise ReferenceFileError(f"threshold is {self.threshold!r}, expected more than 0")
        if self.max_lost is not None and not 0.0 <= check_number("max_lost", self.max_lost) <= 1.0:
            raise ReferenceFileError(
                f"max_lost is {self.max_lost!r}, expected a fraction between 0 and 1"
            )

    def __call__(self, image: SlitImage | Spectrum) -> Spectrum:
        """Extract the spectrum of the first source; see `run`.

        Parameters
        ----------
        image : SlitImage or `~specutils.Spectrum`
            An image, a stack of them, or a spectrum read with ``format="lrs-s2d"``.
        """
        return self.run(image).to_spectrum()

    def run(self, image: SlitImage | Spectrum) -> Extraction:
        """Extract all columns of the first source; see `fit`.

        Parameters
        ----------
        image : SlitImage or `~specutils.Spectrum`
            An image, a stack of them, or a spectrum read with ``format="lrs-s2d"``.

        Returns
        -------
        Extraction
            The 18 columns. SURF_BRIGHT and its errors are 0, as in the pipeline. BACKGROUND is the
            level under the source. NPIXELS is the number of pixels that the profile is worth, and
            ``lost_fraction`` the fraction of it that bad and rejected pixels took.
        """
        return self.fit(image).extractions[0]

    def fit(self, image: SlitImage | Spectrum) -> OptimalResult:
        """Extract all sources, and keep the model.

        Parameters
        ----------
        image : SlitImage or `~specutils.Spectrum`
            An image or a stack of them.

        Returns
        -------
        OptimalResult
            A spectrum of each source, the profile, traces, shifts and rejected pixels.

        Raises
        ------
        ProductError
            If the image cannot be extracted: no PIXAR_SR, nothing but NaN, no source.
        ProfileError
            If there is too little light to learn a profile from.
        SourceError
            If there is no source at the position that is asked for.

        Warns
        -----
        LRSWarning
            If header and data disagree on where the source is.
        """
        image = SlitImage.of(image)
        scale = _jansky_per_sum(image)
        view = View.of(image)
        order = self._order(image)
        mean = view.mean()
        start, learned = self._learn(view, mean, order)
        work, found = self._fitted(view, mean, order, start, learned)
        lost = _lost_core(work, found[2])
        if lost > _MANY and not start.careful and self._wanted == 1:
            # Something else may be there.
            again, learned = self._learn(view, mean, order, careful=True)
            if len(again.traces) != len(start.traces):
                start = again
                work, found = self._fitted(view, mean, order, start, learned)
                lost = _lost_core(work, found[2])
        notes = [*start.notes, *_notes(self, view, work, start, found, lost)]
        if not image.has_variances:
            notes.append(NO_VARIANCES)
        result = _result(self, view, work, *found, scale, notes)
        tell(image, notes)
        return result

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters, ready for JSON; the profile by its name."""
        keys = (
            "position", "nods", "bkg_order", "threshold", "fit_position", "trace_order",
            "fit_shift", "reach", "spline", "max_lost",
        )  # fmt: skip
        options = {key: getattr(self, key) for key in keys}
        if options["position"] is not None:
            options["position"] = list(options["position"])
        options["profile"] = None
        if self.profile is not None:
            options["profile"] = type(self.profile).__name__
        return {"reference": {}, "step": {"extraction_type": "optimal"}, "options": options}

    # --- how ---------------------------------------------------------------------------------

    def _order(self, image: SlitImage) -> int | None:
        if self.bkg_order != "auto":
            return self.bkg_order
        header = OwnHeader.peek(image.header)
        return None if header.get("S_BKDSUB") == "COMPLETE" else 0

    @property
    def _wanted(self) -> int:
        """How many sources are asked for."""
        return 1 if self.position is None else len(self.position)  # type: ignore[arg-type]

    def _fitted(
        self, view: View, mean: Mean, order: int | None, start: Start, learned: Learned
    ) -> tuple[Work, tuple[Any, Any, tuple[NDArray[np.intp], ...]]]:
        operator = replace(self, fit_position=False) if start.held else self
        work = Work.of(view, mean, learned, start.positives, order, operator)
        operator._check_place(view, start, work.learned)
        return work, work.run()

    def _learn(
        self, view: View, mean: Mean, order: int | None, careful: bool = False
    ) -> tuple[Start, Learned]:
        """Where the fit begins, and the profile and traces that it begins with."""
        start = find_start(self, view, mean, careful=careful)
        learned = self._learn_from(view, mean, order, start)
        spread = Spread.of(learned)
        alone = not start.careful and start.positives == 1
        # Light of a neighbour would be counted as the source's.
        if self.profile is None and alone and spread.looks_blended:
            again = find_start(self, view, mean, careful=True)
            if again.positives > 1 or len(again.traces) != len(start.traces):
                start, learned = again, self._learn_from(view, mean, order, again)
                spread = Spread.of(learned)
        if self.profile is None and start.positives == 1 and spread.odd is not None:
            start = replace(start, notes=(*start.notes, spread.odd))
        if not self.fit_position or start.held:
            unknown = np.full(start.positives, np.nan)
            learned = replace(learned, traces=start.traces, shift_error=unknown)
        return start, learned

    def _learn_from(self, view: View, mean: Mean, order: int | None, start: Start) -> Learned:
        shared: dict[str, Any] = {
            "positives": start.positives,
            "order": order,
            "trace_order": self.trace_order,
            "thin": start.thin,
        }
        try:
            if self.profile is None:
                shared |= {"reach": self.reach, "spline": self.spline}
                return learn(mean.pixels, start.traces, **shared)
            return fit_traces(mean.pixels, self.profile, start.traces, **shared)
        except ProfileError as error:
            raise ProfileError(
                f"{view.image.label}: {error} (looked for at column {_middle(start.traces[0]):.1f})"
            ) from None

    def _check_place(self, view: View, start: Start, learned: Learned) -> None:
        """A fit that begins where no source is goes astray."""
        if not self.fit_position:
            return
        for s in range(self._wanted):
            asked, found = _middle(start.traces[s]), _middle(learned.traces[s])
            if self.position is not None:
                asked = self.position[s]  # type: ignore[index]
            elif start.sure:
                continue
            if abs(found - asked) > _ASTRAY:
                raise SourceError(
                    f"{view.image.label}: no source at column {asked:.2f}, the nearest light is at "
                    f"column {found:.2f}; expected a position within {_ASTRAY:g} columns of a "
                    "source (fit_position=False extracts where there is none)"
                )


@dataclass(frozen=True, eq=False, kw_only=True)
class OptimalResult:
    """What an optimal extraction gives.

    Parameters
    ----------
    extractions : tuple of Extraction
        One for each source that was asked for.
    profile : Profile
        The profile; can be given to another `OptimalExtraction`.
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
    _work: Work
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
        return _relative_flux(self._coefficients, len(self.traces))

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


def _lost_core(work: Work, rejected: tuple[NDArray[np.intp], ...]) -> float:
    """Fraction of the pixels with light of the first source that were rejected."""
    core = work.lit[0] > 0.02
    *_, row, column = rejected
    inside = core[row - work.view.rows.start, column - work.columns.start]
    image = work.view.image
    number = image.data.shape[0] if image.is_stack else 1
    return float(inside.sum() / max(core.sum() * number, 1))


def _notes(
    operator: OptimalExtraction,
    view: View,
    work: Work,
    start: Start,
    found: tuple[dict[str, NDArray[Any]], NDArray[np.float64] | None, Any],
    lost: float,
) -> list[str]:
    """What a user should know of a fit."""
    notes = []
    place = _middle(work.learned.traces[0])
    expected, error = start.expected, float(np.nan_to_num(work.learned.shift_error[0]))
    if expected is not None and abs(place - expected) > max(_TELL_OFFSET, 3.0 * error):
        notes.append(
            f"the source was found at column {place:.2f}, {place - expected:+.2f} from where the "
            "header puts it"
        )
    rows = work.rows(0)
    missing = 1.0 - float(np.median(work.seen[0][rows])) if rows.size else 0.0
    if missing > _OFF_IMAGE and operator.profile is None:
        notes.append(
            f"{missing:.0%} of the source's light is off the image, where a learned profile is a "
            "guess that the flux depends on: expected a profile (fit(star).profile)"
        )
    coefficients, shifts, _ = found
    shares = _relative_flux(coefficients["coefficients"], len(work.lit))
    for s in range(work.positives, len(work.lit), work.positives):
        if -shares[s] > _TOO_MUCH and work.learned.signal_to_noise > _SURE:
            notes.append(
                f"the negative trace at column {_middle(work.learned.traces[s]):.2f} has "
                f"{-shares[s]:.1f} times the source's light, expected as much or less: another "
                "source may have been subtracted with the other nod"
            )
    far = 0 if shifts is None else int(np.count_nonzero(np.abs(shifts) >= SHIFT_LIMIT))
    if far:
        notes.append(
            f"{far} of {len(shifts)} integrations {'is' if far == 1 else 'are'} "  # type: ignore[arg-type]
            f"{SHIFT_LIMIT:g} columns or more off the mean: they are extracted as if it were "
            f"{SHIFT_LIMIT:g}, and have too little flux"
        )
    if lost > _MANY:
        notes.append(
            f"{lost:.0%} of the pixels on the source were rejected, as the profile does not fit "
            "them: their variances may be too small, or something else is there"
        )
    if operator.bkg_order not in (None, "auto") and operator.bkg_order > _ORDER:  # type: ignore[operator]
        notes.append(
            f"a background of order {operator.bkg_order} can follow the source, and take its "
            f"light: expected up to {_ORDER}"
        )
    return notes


def _result(
    operator: OptimalExtraction,
    view: View,
    work: Work,
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
                header=OwnHeader.of(image.header),
                keywords_source=_keywords(image, view, work, s, rows),
                times=_integration_times(image),
                int_times=None if image.times is None else image.times.copy(),
                provenance=Provenance(
                    partial(getattr, operator, "parameters"),
                    image.path or image.filename,
                    {"psf": getattr(operator.profile, "filename", None)},
                    {
                        "column": _middle(learned.traces[s]),
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
    work: Work, coefficients: NDArray[np.float64], rejected: tuple[NDArray[np.intp], ...]
) -> list[str]:
    """What was fitted together with the target, and how many pixels were left out."""
    places = [_middle(trace) for trace in work.learned.traces]
    count = rejected[0].size
    remarks = [f"{count or 'no'} pixel{'s were' if count > 1 else ' was'} rejected"]
    if work.positives > 1:
        shares = _relative_flux(coefficients, work.positives)[1:]
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


def _relative_flux(coefficients: NDArray[np.float64], sources: int) -> NDArray[np.float64]:
    """Medians of the sources' fluxes over that of the first."""
    flux = coefficients[..., :sources].reshape(-1, sources)
    known = np.isfinite(flux).all(axis=1) & (flux != 0).any(axis=1)
    middle = np.median(flux[known], axis=0) if known.any() else np.full(sources, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(middle / middle[0])


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _middle(trace: NDArray[np.float64]) -> float:
    """The trace in the middle row."""
    return float(trace[(trace.size - 1) // 2])


def _keywords(
    image: SlitImage, view: View, work: Work, source: int, rows: NDArray[np.intp]
) -> _Keywords:
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
    header = OwnHeader.peek(image.header)
    if "DETECTOR" in header:
        cards["DETECTOR"] = header["DETECTOR"]
    return _Keywords(
        cards,
        image.__dict__.get("wcs", image.wcs_source),
        _middle(trace),
        float((view.rows.start + view.rows.stop - 1) // 2),
    )
