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

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from glue_lrs.aperture import check_number
from glue_lrs.errors import LRSWarning, ProductError, ReferenceFileError
from glue_lrs.extract import _integration_times, _jansky_per_sum, _Keywords
from glue_lrs.extraction import COLUMNS, Extraction, Provenance, column_units
from glue_lrs.header import OwnHeader
from glue_lrs.image import DO_NOT_USE, FIXED_SLIT, SlitImage
from glue_lrs.position import SourcePosition, expected_position, expected_trace
from glue_lrs.profile import (
    _UNSURE,
    REACH,
    Learned,
    Pixels,
    Profile,
    PSFProfile,
    expected_fwhm,
    fit_traces,
    invert,
    learn,
    normal,
    refine,
)

if TYPE_CHECKING:
    from specutils import Spectrum

__all__ = ["OptimalExtraction", "OptimalResult"]

_PLANES = ("var_poisson", "var_rnoise", "var_flat")
_COMPONENTS = ("POISSON", "RNOISE", "FLAT")
#: Pixels of a block of integrations that are worked on at once: some fit the processor's cache.
_BLOCK_PIXELS = 1 << 16
#: Rows to each side over which the model of the variances is averaged.
_SMOOTH = 8
#: Times that the worst pixel of a row may be left out.
_ROUNDS = 12
#: What the model may be wrong by, as a fraction of the profile's peak.
_TOLERANCE = 0.004
#: Least error of a profile, as a fraction of its peak, as far as weights are concerned: without it
#: the faintest wings of the brightest sources would count as much as the core.
_BELIEF = 1e-4
#: Standard deviations above which a maximum along the slit is a source.
_FOUND = 5.0
#: Signal-to-noise ratios above which every second, third and fourth row will do for the position.
_THIN = (200.0, 400.0, 800.0)
#: Columns from the source where negative traces are looked for.
_NOD_APART = 6.0
#: A source that is not asked for is fitted if it has more than this fraction of the target's light,
#: stands out from it by a dip to this fraction of its height, and is so many columns away.
_MATTERS, _DIP, _APART = 0.1, 0.5, 4.0
#: At most so many of them.
_NEIGHBOURS = 3
#: Expected shift between integrations in columns: it holds back shifts that are not measured.
_JITTER = 0.2
#: Sources closer than so many columns cannot be told from a broader profile but in bright images.
_BLEND = 2.5
#: Shifts below this do not matter to the errors of the fluxes.
_SMALL_SHIFT = 0.05
#: Header and data may disagree on the position by so many columns without a word.
_TELL_OFFSET = 1.0
#: Integrations of which the median stands at the beginning of a stack's mean.
_PILOTS = 9


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

        Warns
        -----
        LRSWarning
            If header and data disagree on where the source is.
        """
        if not isinstance(image, SlitImage):
            image = SlitImage.from_spectrum(image)
        notes: list[str] = []
        scale = _jansky_per_sum(image)
        view = _View.of(image)
        order = self._order(image)
        start = view.mean()
        traces, positives, thin = self._start(view, start, notes)
        learned = self._learn(start.pixels, traces, positives, order, thin)
        work = _Work.of(view, start, learned, positives, order, self)
        columns, shifts, rejected = work.run()
        result = _result(self, view, work, columns, shifts, rejected, scale, notes)
        for note in notes:
            warnings.warn(f"{image.label}: {note}", LRSWarning, stacklevel=2)
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

    def _start(
        self, view: _View, start: _Mean, notes: list[str]
    ) -> tuple[NDArray[np.float64], int, int]:
        """Traces to start from, how many are positive, and which part of the rows will do."""
        image = view.image
        shape = view.trace_shape
        extremes = find_sources(start.pixels, shape)
        found = [(extreme.column, extreme.ratio) for extreme in extremes]
        expected = None
        if image.exp_type == FIXED_SLIT and self.position is None:
            expected = _header_column(image)
        if self.position is not None:
            columns = list(self.position)  # type: ignore[arg-type]
            apart = float(np.diff(np.sort(columns)).min()) if len(columns) > 1 else np.inf
            if self.profile is None and apart < _BLEND:
                notes.append(
                    f"two sources are {apart:.1f} columns apart, which is close for learning "
                    "their profile; give one, such as that of a star (fit(star).profile)"
                )
        else:
            bright = [column for column, ratio in found if ratio > _FOUND]
            if not bright and expected is None:
                raise ProductError(
                    f"{image.label}: no source was found, expected a maximum of {_FOUND:g} "
                    "standard deviations along the slit; give its position"
                )
            if bright and expected is not None:
                near = [c for c in bright if abs(c - expected) < 3.0]
                columns = [near[0] if near else bright[0]]
                away = columns[0] - expected
                if abs(away) > _TELL_OFFSET:
                    notes.append(
                        f"the source was found at column {columns[0]:.2f}, {away:+.2f} from where "
                        f"the header puts it"
                    )
            elif bright:
                columns = [bright[0]]
            else:
                assert expected is not None
                columns = [expected]
                notes.append(
                    "no source stands out; it is taken to be where the header puts it, at column "
                    f"{expected:.2f}"
                )
        columns += self._neighbours(extremes, columns)
        both = list(columns)
        # The deepest minimum belongs to the highest maximum: of blended sources that of their sum.
        maxima = [e for e in extremes if e.light > 0]
        tops = (e.column for e in maxima if min(abs(e.column - c) for c in columns) < 3.0)
        peak = next(tops, columns[0])
        if len(columns) == 1:
            peak = columns[0]
        if self.nods and OwnHeader.peek(image.header).get("S_BKDSUB") == "COMPLETE":
            for column, depth in found:
                if depth > -_FOUND or len(both) == 3 * len(columns):
                    continue
                if any(abs(column - c) < _NOD_APART for c in both):
                    continue
                both += [c + column - peak for c in columns]
        nearest = min(maxima, key=lambda e: abs(e.column - columns[0]), default=None)
        ratio = 0.0 if nearest is None else nearest.ratio
        thin = 1 + sum(ratio > limit for limit in _THIN)
        return np.array(both)[:, np.newaxis] + shape, len(columns), thin

    def _neighbours(self, extremes: list[_Extreme], columns: list[float]) -> list[float]:
        """Other sources whose light reaches those that are asked for: they are fitted as well."""
        own = [e for e in extremes if e.light > 0 and abs(e.column - columns[0]) < 3.0]
        if not own:
            return []
        return [
            e.column
            for e in extremes
            if e.ratio > 2.0 * _FOUND
            and e.light > _MATTERS * own[0].light
            and e.dip < _DIP
            and _APART < min(abs(e.column - c) for c in columns) < 2.0 * self.reach
        ][:_NEIGHBOURS]

    @property
    def _wanted(self) -> int:
        """How many sources are asked for."""
        return 1 if self.position is None else len(self.position)  # type: ignore[arg-type]

    def _learn(
        self,
        pixels: Pixels,
        traces: NDArray[np.float64],
        positives: int,
        order: int | None,
        thin: int,
    ) -> Learned:
        shared: dict[str, Any] = {
            "positives": positives,
            "order": order,
            "trace_order": self.trace_order,
            "thin": thin,
        }
        if self.profile is None:
            found = learn(pixels, traces, reach=self.reach, spline=self.spline, **shared)
        else:
            found = fit_traces(pixels, self.profile, traces, **shared)
        return found if self.fit_position else replace(found, traces=traces)


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
        Standard deviation of the traces' positions in columns, shape (source,).
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
    _work: _Work
    _coefficients: NDArray[np.float64]

    @property
    def image(self) -> SlitImage:
        """The image that was extracted."""
        return self._work.view.image

    @property
    def number_rejected(self) -> int:
        """How many pixels were left out because they disagree with the model."""
        return int(self.rejected[0].size)

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
        for name in _PLANES:
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


# --- reading --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Mean:
    """The mean of a stack, or a single image, to learn from; with its three variances."""

    pixels: Pixels
    variances: list[NDArray[np.float64] | None]
    number: int


@dataclass(frozen=True, eq=False)
class _View:
    """The part of an image that has a wavelength."""

    image: SlitImage
    rows: slice
    columns: slice
    wavelength: NDArray[np.float64]
    lit: NDArray[np.bool_]

    @classmethod
    def of(cls, image: SlitImage) -> _View:
        finite = np.isfinite(image.wavelength)
        rows, columns = np.flatnonzero(finite.any(axis=1)), np.flatnonzero(finite.any(axis=0))
        if rows.size < 2:
            raise ProductError(f"{image.label}: no two rows have a wavelength")
        r = slice(int(rows[0]), int(rows[-1]) + 1)
        c = slice(int(columns[0]), int(columns[-1]) + 1)
        lit = finite[r, c]
        count = lit.sum(axis=1)
        total = np.where(lit, image.wavelength[r, c], 0.0).sum(axis=1, dtype=float)
        wavelength = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return cls(image, r, c, wavelength, lit)

    @cached_property
    def trace_shape(self) -> NDArray[np.float64]:
        """How far a trace is from its column in the middle row, by the WCS; shape (row,)."""
        image, number = self.image, self.rows.stop - self.rows.start
        if image.kind == "s2d" or image.wcs is None:
            return np.zeros(number)
        (left, right), (bottom, top) = image.bounding_box
        middle = round((bottom + top) / 2.0)
        ra, dec = (float(v) for v in image.wcs((left + right) / 2.0, middle)[:2])
        if not (np.isfinite(ra) and np.isfinite(dec)):
            return np.zeros(number)
        moved = replace(image, source_ra=ra, source_dec=dec, wcs_source=image.wcs)
        trace = expected_trace(moved)
        known = np.isfinite(trace)
        if not known.any():
            return np.zeros(number)
        trace = np.interp(np.arange(trace.size), np.flatnonzero(known), trace[known])
        return (trace - trace[middle])[self.rows]

    def read(
        self, integration: int | slice | None, columns: slice, variances: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], list[NDArray[np.float64] | None]]:
        """Data (0 where bad), which pixels are good, and the three variances."""
        image = self.image
        part: Any = (self.rows, columns)
        if image.is_stack:
            part = (slice(None) if integration is None else integration, *part)
        data = np.asarray(image.data)[part].astype(float)
        good = np.isfinite(data)
        if image.err is not None:
            good &= ~np.isnan(np.asarray(image.err)[part])
        if image.dq is not None:
            flags = np.asarray(image.dq)[part]
            good &= (flags & flags.dtype.type(DO_NOT_USE)) == 0
        planes: list[NDArray[np.float64] | None] = []
        for name in _PLANES:
            plane = getattr(image, name)
            if plane is None:
                planes.append(None)
                continue
            values = np.asarray(plane)[part]
            good &= np.isfinite(values)
            planes.append(values.astype(float) if variances else None)
        inner = slice(columns.start - self.columns.start, columns.stop - self.columns.start)
        lit = self.lit[:, inner]
        if not lit.all():
            good &= lit
        if not good.all():
            bad = ~good
            data[bad] = 0.0
            for values in planes:
                if values is not None:
                    values[bad] = 0.0
        return data, good, planes

    def mean(self) -> _Mean:
        """The image, or the mean of all integrations without pixels that stand out."""
        image = self.image
        if not image.is_stack or image.data.shape[0] == 1:
            data, good, variances = self.read(0 if image.is_stack else None, self.columns)
            return self._mean(data, good, variances, 1)
        number = image.data.shape[0]
        pilots = np.unique(np.linspace(0, number - 1, min(_PILOTS, number)).astype(int))
        several = [self.read(int(i), self.columns) for i in pilots]
        stacked = np.stack([np.where(good, data, np.nan) for data, good, _ in several])
        stacked.sort(axis=0)
        count = np.isfinite(stacked).sum(axis=0)
        middle = np.take_along_axis(stacked, np.maximum(count - 1, 0)[np.newaxis] // 2, axis=0)[0]
        middle[count == 0] = 0.0
        spreads: list[NDArray[np.float64] | None] = []
        for i in range(3):
            planes = [v[i] for _, _, v in several]
            # Of a variance the median, as that of a cosmic ray is as wild as the pixel.
            spreads.append(
                None
                if planes[0] is None
                else np.median(np.stack([p for p in planes if p is not None]), axis=0)
            )
        spread = np.sum([v for v in spreads if v is not None], axis=0)
        limit = 8.0 * np.sqrt(np.maximum(spread, 0.0)) + 0.3 * np.abs(middle)
        total, times = np.zeros_like(middle), np.zeros_like(middle)
        for i in range(number):
            data, good, _ = self.read(i, self.columns, variances=False)
            good &= np.abs(data - middle) <= limit
            total += np.where(good, data, 0.0)
            times += good
        good = times > number / 4
        mean = np.where(good, total / np.maximum(times, 1), 0.0)
        shared = [None if v is None else v / number for v in spreads]
        if shared[2] is not None:  # the flat field's error is that of each integration
            shared[2] = shared[2] * number
        return self._mean(mean, good, shared, number)

    def _mean(
        self,
        data: NDArray[np.float64],
        good: NDArray[np.bool_],
        variances: list[NDArray[np.float64] | None],
        number: int,
    ) -> _Mean:
        total = np.zeros_like(data)
        for values in variances:
            if values is not None:
                total += values
        good = good & np.isfinite(self.wavelength)[:, np.newaxis]
        if not good.any():
            raise ProductError(f"{self.image.label}: every pixel is NaN or flagged")
        if not (total[good] > 0).any():
            total[good] = 1.0  # no variances: all pixels alike
        floor = 1e-3 * np.median(total[good])
        # In units of the row's level, which changes fast at the ends of the spectrum.
        level = _level(total, good)
        smooth = level * _running(np.where(good, total / level, 0.0), good, 4)
        columns = np.arange(self.columns.start, self.columns.stop, dtype=float)
        pixels = Pixels(
            np.where(good, data, 0.0),
            np.maximum(smooth, max(floor, 1e-300)),
            good,
            self.wavelength,
            columns,
        )
        return _Mean(pixels, variances, number)


def _running(
    values: NDArray[np.float64], good: NDArray[np.bool_], half: int
) -> NDArray[np.float64]:
    """Mean over rows from `half` before to `half` after, of good pixels."""
    total, count = _window(values, half), _window(good.astype(float), half)
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0.5)


def _window(values: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """Sum over rows from `half` before to `half` after; cut off at the ends."""
    rows = values.shape[0]
    total = np.zeros((rows + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=total[1:])
    last = np.minimum(np.arange(rows) + half + 1, rows)
    first = np.maximum(np.arange(rows) - half, 0)
    return total[last] - total[first]


def _header_column(image: SlitImage) -> float | None:
    """Column of the source in the middle row, by the header; None where it does not tell."""
    row = image.shape[0] // 2
    known = image.wavelength[row][np.isfinite(image.wavelength[row])]
    if image.kind != "s2d" or known.size == 0:
        position = expected_position(image)
        return position.column if isinstance(position, SourcePosition) else None
    # The trace is straight: one call of the WCS, which takes longer than the fit of a row, will do.
    if image.source_ra is None or image.source_dec is None or image.wcs is None:
        return None
    wavelength = float(known.mean())
    found = image.wcs.backward_transform(image.source_ra, image.source_dec, wavelength)
    column = float(found[0])
    return column if -0.5 <= column <= image.shape[1] - 0.5 else None


@dataclass(frozen=True)
class _Extreme:
    """A maximum along the slit, or a minimum, of which light and ratio are negative.

    `column` is that in the middle row, `ratio` a signal-to-noise ratio, `dip` the least light
    between it and a brighter one, as a fraction of its own.
    """

    column: float
    ratio: float
    light: float
    dip: float


def find_sources(pixels: Pixels, shape: NDArray[np.float64], chunk: int = 64) -> list[_Extreme]:
    """Find maxima and minima along the slit.

    Parameters
    ----------
    pixels : Pixels
        The image.
    shape : ndarray
        How far the trace is from its column in the middle row, shape (row,).
    chunk : int
        Rows of which the median is taken.

    Returns
    -------
    list of _Extreme
        The one with the most light first.
    """
    from scipy.ndimage import convolve1d

    rows, width = pixels.data.shape
    number = max(rows // chunk, 1)
    edges = np.linspace(0, rows, number + 1).astype(int)
    light, noise = np.zeros(width), np.zeros(width)
    columns = pixels.columns
    for first, last in pairwise(edges.tolist()):
        good = pixels.good[first:last]
        some = good.any(axis=1)
        if not some.any():
            continue
        values = np.sort(np.where(good, pixels.data[first:last], np.inf), axis=0)
        count = good.sum(axis=0)
        low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, last - first - 1)
        c = np.arange(width)
        middle = 0.5 * (values[low, c] + values[high, c])
        known = count > (last - first) / 4
        if known.sum() < 8:
            continue
        variance = np.where(good, pixels.variance[first:last], 0.0).sum(axis=0)
        variance = 1.6 * variance / np.maximum(count, 1) ** 2  # of a median
        wave = np.nanmean(pixels.wavelength[first:last])
        sigma = float(expected_fwhm(np.asarray(wave))) / 2.355
        level = np.median(middle[known])
        x = columns - np.mean(shape[first:last])
        flat = np.interp(columns, x[known], middle[known] - level, left=0.0, right=0.0)
        error = np.interp(columns, x[known], variance[known])
        kernel = np.exp(-0.5 * (np.arange(-6, 7) / sigma) ** 2)
        weight = 1.0 / np.median(error)
        light += weight * convolve1d(flat, kernel, mode="constant")
        noise += weight**2 * convolve1d(error, kernel**2, mode="nearest")
    # Maxima of the light: over its own photon noise a bright source has two, one on either side.
    ratio = light / np.sqrt(np.maximum(noise, 1e-300))
    found = []
    for sign in (1.0, -1.0):
        value = sign * light
        peak = np.flatnonzero((value[1:-1] >= value[:-2]) & (value[1:-1] > value[2:])) + 1
        for at in peak:
            before, here, after = value[at - 1 : at + 2]
            curvature = before - 2.0 * here + after
            part = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
            higher = np.flatnonzero(value > here)
            between = [
                value[min(at, other) : max(at, other) + 1].min()
                for other in (higher[higher < at][-1:], higher[higher > at][:1])
                for other in other.tolist()
            ]
            dip = max(between, default=0.0) / here if here > 0 else 1.0
            column = float(columns[at] + part)
            found.append(_Extreme(column, float(ratio[at]), float(sign * here), float(dip)))
    return sorted(found, key=lambda item: -abs(item.light))


# --- the fit --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Products of all pairs of fields (row, pair, column), and the number of each pair."""

    number: NDArray[np.intp]
    values: NDArray[np.float64]

    @classmethod
    def of(cls, fields: NDArray[np.float64]) -> _Pairs:
        count = fields.shape[1]
        first, second = np.triu_indices(count)
        number = np.empty((count, count), dtype=np.intp)
        number[first, second] = number[second, first] = np.arange(first.size)
        return cls(number, np.ascontiguousarray(fields[:, first] * fields[:, second]))


@dataclass(frozen=True, eq=False)
class _Work:
    """Profiles, weights and what else all integrations share."""

    view: _View
    operator: OptimalExtraction
    learned: Learned
    positives: int
    columns: slice
    lit: list[NDArray[np.float64]]
    slope: list[NDArray[np.float64]]
    bend: list[NDArray[np.float64]]
    behind: list[NDArray[np.float64]]
    variance: NDArray[np.float64]
    doubt: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        view: _View,
        start: _Mean,
        learned: Learned,
        positives: int,
        order: int | None,
        operator: OptimalExtraction,
    ) -> _Work:
        pixels = start.pixels
        traces = np.where(np.isfinite(learned.traces), learned.traces, -1e3)
        profile = learned.profile
        columns = view.columns
        if order is None:  # only pixels that see any of the sources matter
            reach = operator.reach if not isinstance(profile, PSFProfile) else np.inf
            known = np.isfinite(learned.traces)
            low = np.floor(np.nanmin(learned.traces[known]) - reach)
            high = np.ceil(np.nanmax(learned.traces[known]) + reach)
            first = max(int(max(low, columns.start)), columns.start)
            last = min(int(min(high + 1, columns.stop)), columns.stop)
            columns = slice(first, max(last, first + 1))
        inner = slice(columns.start - view.columns.start, columns.stop - view.columns.start)
        x = pixels.columns[inner]
        lit, slope, bend = [], [], []
        stack = start.number > 1 and operator.fit_shift
        for trace in traces:
            offset = x - trace[:, np.newaxis]
            lit.append(profile(offset, view.wavelength))
            if stack:
                step = 0.25
                right = profile(offset + step, view.wavelength)
                left = profile(offset - step, view.wavelength)
                slope.append((right - left) / (2.0 * step))
                bend.append((right + left - 2.0 * lit[-1]) / step**2)
        middle = (view.columns.start + view.columns.stop - 1) / 2.0
        half = max((view.columns.stop - view.columns.start - 1) / 2.0, 1.0)
        behind = []
        if order is not None:
            shape = (x.size,)
            behind = [np.broadcast_to(((x - middle) / half) ** i, shape) for i in range(order + 1)]
            behind = [np.broadcast_to(b, lit[0].shape) for b in behind]
        variance, doubt = _model_variance(start, inner, lit, positives, behind)
        if operator.fit_position and (positives == 1 or operator.profile is not None):
            near = replace(
                pixels, data=pixels.data[:, inner], good=pixels.good[:, inner], columns=x
            )
            given = operator.profile is not None
            learned = refine(
                near,
                variance / start.number,
                learned,
                positives=positives,
                others=[*lit[positives:], *behind],
                learned=not given,
            )
            if given or positives > 1:
                traces = np.where(np.isfinite(learned.traces), learned.traces, -1e3)
                offsets = (x - trace[:, np.newaxis] for trace in traces)
                lit = [learned.profile(offset, view.wavelength) for offset in offsets]
        return cls(
            view, operator, learned, positives, columns, lit, slope, bend, behind, variance,
            doubt,
        )  # fmt: skip

    def basis(self, shift: float = 0.0) -> list[NDArray[np.float64]]:
        """Sources and background at a shift, each of shape (row, column)."""
        if shift == 0.0 or not self.slope:
            return [*self.lit, *self.behind]
        moved = [
            p - shift * d + 0.5 * shift**2 * b
            for p, d, b in zip(self.lit, self.slope, self.bend, strict=True)
        ]
        return [*moved, *self.behind]

    @cached_property
    def fields(self) -> NDArray[np.float64]:
        """Sources, background, derivatives of the sources: shape (row, field, column)."""
        parts = [*self.lit, *self.behind, *self.slope, *self.bend]
        return np.ascontiguousarray(np.stack(parts, axis=1))

    @cached_property
    def pairs(self) -> _Pairs:
        """Products of all pairs of fields."""
        return _Pairs.of(self.fields)

    @cached_property
    def expected(self) -> NDArray[np.float64]:
        """1 over what squared residuals are expected to be."""
        weight = 1.0 / self.variance
        power = np.einsum("rc,rc->r", self.lit[0] ** 2, weight)
        pull = self.lit[0] ** 2 * weight
        pull /= np.where(power > 0, power, 1.0)[:, np.newaxis]
        return 1.0 / (self.variance * (1.0 - np.minimum(pull, 0.9)) + self.doubt)

    def mix(self, shift: float) -> NDArray[np.float64]:
        """How the fields make up sources at a shift, and the background: (term, field)."""
        sources, terms = len(self.lit), len(self.lit) + len(self.behind)
        mix = np.eye(terms, self.fields.shape[1])
        if self.slope:
            some = np.arange(sources)
            mix[some, terms + some] = -shift
            mix[some, terms + sources + some] = 0.5 * shift**2
        return mix

    def run(
        self,
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.float64] | None, tuple[NDArray[np.intp], ...]]:
        """Fit all integrations: raw columns, shifts, and indices of rejected pixels."""
        image = self.view.image
        number = image.data.shape[0] if image.is_stack else 1
        rows, sources, terms = len(self.lit[0]), self.positives, len(self.lit) + len(self.behind)
        out: dict[str, NDArray[Any]] = {
            "coefficients": np.empty((number, rows, terms)),
            "good": np.empty((number, sources, rows)),
            "flux_variance": np.zeros((3, number, sources, rows)),
        }
        if self.behind:
            out["background_variance"] = np.zeros((3, number, sources, rows))
        shifts = np.zeros(number)
        gone: list[tuple[NDArray[np.intp], ...]] = []
        for i in range(number):
            data, good, variances = self.view.read(i if image.is_stack else None, self.columns)
            shifts[i], rejected = self._fit(data, good, variances, i, out)
            if rejected[0].size:
                gone.append((np.full(rejected[0].size, i), *rejected))
        if gone:
            where = [np.concatenate(part) for part in zip(*gone, strict=True)]
        else:
            where = [np.zeros(0, dtype=np.intp)] * 3
        where[1] = where[1] + self.view.rows.start
        where[2] = where[2] + self.columns.start
        all_gone = tuple(where) if image.is_stack else tuple(where[1:])
        return out, shifts if image.is_stack else None, all_gone

    def _fit(
        self,
        data: NDArray[np.float64],
        good: NDArray[np.bool_],
        variances: list[NDArray[np.float64] | None],
        i: int,
        out: dict[str, NDArray[Any]],
    ) -> tuple[float, tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Fit an integration: its shift, and the pixels that were left out."""
        # Sums over columns of all products that are needed; all else is done row by row.
        rows = len(data)
        weight = good * self.inverse
        sums = self._sums(weight[:, np.newaxis], self.pairs)[..., 0]
        vector = np.matmul(self.fields, (weight * data)[..., np.newaxis])[..., 0]
        shift = self._shift(sums, vector) if self.slope else 0.0
        mix = self.mix(shift)
        coefficients, inverse = _solve_sums(sums, vector, mix)
        rejected = self._reject(data, good, weight, shift, coefficients, inverse)
        present = [k for k, v in enumerate(variances) if v is not None]
        if present:
            planes = np.empty((rows, len(present), data.shape[1]))
            for at, k in enumerate(present):  # 0 where a pixel is not good
                np.multiply(variances[k], self.squared, out=planes[:, at])  # type: ignore[arg-type]
            planes[rejected[0], :, rejected[1]] = 0.0
            # Of large shifts the errors feel the derivatives as well.
            few = abs(shift) < _SMALL_SHIFT
            spread = self._sums(planes, self.few_pairs if few else self.pairs)
            if few:
                mix = np.eye(mix.shape[0])
            self._errors(spread, present, mix, inverse, i, out)
        out["coefficients"][i] = coefficients
        bad = np.nonzero(~good)
        for s in range(self.positives):
            lost = np.bincount(bad[0], weights=self.lit[s][bad], minlength=rows)
            lost += np.bincount(rejected[0], weights=self.lit[s][rejected], minlength=rows)
            out["good"][i, s] = self.light[s] - lost
        return shift, rejected

    @cached_property
    def inverse(self) -> NDArray[np.float64]:
        """Weights of pixels that are good."""
        return 1.0 / self.variance

    @cached_property
    def squared(self) -> NDArray[np.float64]:
        """Their squares."""
        return self.inverse**2

    @cached_property
    def light(self) -> list[NDArray[np.float64]]:
        """Sum of each source's profile."""
        return [profile.sum(axis=1) for profile in self.lit]

    @cached_property
    def few_pairs(self) -> _Pairs:
        """The same without the derivatives."""
        if not self.slope:
            return self.pairs
        return _Pairs.of(self.fields[:, : len(self.lit) + len(self.behind)])

    def _sums(self, planes: NDArray[np.float64], pairs: _Pairs) -> NDArray[np.float64]:
        """Sums over columns of pairs of fields times planes: (row, field, field, plane)."""
        return np.matmul(pairs.values, np.swapaxes(planes, 1, 2))[:, pairs.number]

    def _shift(self, matrix: NDArray[np.float64], vector: NDArray[np.float64]) -> float:
        """The shift of an integration: Gauss-Newton; rows that stand out do not count."""
        sources, terms = len(self.lit), len(self.lit) + len(self.behind)
        some = np.arange(sources)
        shift = 0.0
        for _ in range(2):
            mix = self.mix(shift)
            coefficients, inverse = _solve_sums(matrix, vector, mix)
            change = np.zeros((len(vector), matrix.shape[-1]))
            change[:, terms + some] = -coefficients[:, :sources]
            change[:, terms + sources + some] = shift * coefficients[:, :sources]
            pushed = np.einsum("rkl,rl->rk", matrix, change)
            pull = np.einsum("rk,rk->r", change, vector)
            pull -= np.einsum("rk,rk->r", coefficients @ mix, pushed)
            across = pushed @ mix.T
            power = np.einsum("rk,rk->r", change, pushed)
            power -= np.einsum("ri,rij,rj->r", across, inverse, across)
            power = np.where(power > 0, power, 0.0)
            own = np.divide(pull, power, out=np.zeros_like(pull), where=power > 0)
            order = np.argsort(own)
            heap = np.cumsum(power[order])
            if not heap[-1] > 0:
                return 0.0
            middle = own[order[np.searchsorted(heap, 0.5 * heap[-1])]]
            keep = (own - middle) ** 2 * power < 25.0
            total = power[keep].sum()
            step = float(pull[keep].sum() / (total + _JITTER**-2))
            shift = min(max(shift + step, -0.5), 0.5)
            if abs(step) < 0.02:
                break
        return shift

    def _reject(
        self,
        data: NDArray[np.float64],
        good: NDArray[np.bool_],
        weight: NDArray[np.float64],
        shift: float,
        coefficients: NDArray[np.float64],
        inverse: NDArray[np.float64],
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Leave out pixels that stand out, and fit their rows again: row and column of them.

        `weight`, `coefficients` and `inverse` are changed.
        """
        nothing = np.zeros(0, dtype=np.intp)
        threshold = self.operator.threshold
        if threshold is None:
            return nothing, nothing
        made_of = (coefficients @ self.mix(shift))[:, np.newaxis]
        residual = data - np.matmul(made_of, self.fields)[:, 0]
        residual *= residual
        residual *= self.expected
        residual *= good
        # The quick look is somewhat stricter than the exact one that follows for these rows.
        rows = np.flatnonzero(residual.max(axis=1) > 0.8 * threshold**2)
        if rows.size == 0:
            return nothing, nothing
        basis = self.basis(shift)

        def solve(some: NDArray[np.intp], start: NDArray[np.float64]) -> _Solved:
            sub = [field[some] for field in basis]
            return _solve_rows(
                data[some], start, sub, self.variance[some], self.doubt[some], threshold
            )

        solved = solve(rows, weight[rows])
        coefficients[rows], inverse[rows] = solved.coefficients, solved.inverse
        gone = np.zeros((rows.size, data.shape[1]), dtype=bool)
        gone[solved.rejected] = True
        # Two neighbours that are hit look like a source: what is left out then are the good pixels.
        # Rows that lose several are tried again without what is unlike the rows around them.
        several = np.flatnonzero(gone.sum(axis=1) > 1)
        if several.size:
            again = rows[several]
            around = np.clip(again[:, np.newaxis] + np.arange(-4, 5), 0, len(data) - 1)
            typical = np.median(coefficients[around], axis=1)
            off = data[again] - sum(
                typical[:, i, np.newaxis] * field[again] for i, field in enumerate(basis)
            )
            limit = threshold**2 * (self.variance[again] + self.doubt[again])
            odd = good[again] & (off**2 > limit)
            other = solve(again, np.where(odd, 0.0, weight[again]))
            odd[other.rejected] = True
            fewer = odd.sum(axis=1) < gone[several].sum(axis=1)
            gone[several[fewer]] = odd[fewer]
            coefficients[again[fewer]] = other.coefficients[fewer]
            inverse[again[fewer]] = other.inverse[fewer]
        where, column = np.nonzero(gone)
        found = (rows[where], column)
        weight[found] = 0.0
        return found

    def _errors(
        self,
        sums: NDArray[np.float64],
        present: list[int],
        mix: NDArray[np.float64],
        inverse: NDArray[np.float64],
        i: int,
        out: dict[str, NDArray[Any]],
    ) -> None:
        """Variances of fluxes and background levels, by the image's own variances."""
        sources = len(self.lit)
        for s in range(self.positives):
            wanted = {"flux": inverse[:, s]}
            if self.behind:
                wanted["background"] = np.einsum("ri,rij->rj", self.level[s], inverse[:, sources:])
            for name, response in wanted.items():
                spread = response @ mix
                for at, k in enumerate(present):
                    out[f"{name}_variance"][k, i, s] = np.einsum(
                        "rk,rkl,rl->r", spread, sums[..., at], spread
                    )

    @cached_property
    def level(self) -> list[NDArray[np.float64]]:
        """What the background's terms are under each source, shape (row, term)."""
        levels = []
        for profile, light in zip(self.lit, self.light, strict=True):
            level = np.stack([(profile * b).sum(axis=1) for b in self.behind], axis=-1)
            levels.append(level / np.where(light > 0, light, 1.0)[:, np.newaxis])
        return levels


def _solve_sums(
    matrix: NDArray[np.float64], vector: NDArray[np.float64], mix: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients and inverse normal matrices of terms that are made up of fields."""
    normal_matrix = mix @ matrix @ mix.T
    inverse = _inverse(normal_matrix)
    return np.einsum("rij,rj->ri", inverse, vector @ mix.T), inverse


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse; a source that no pixel of a row sees must not take the others with it."""
    some = np.arange(matrix.shape[-1])
    if some.size > 1:
        diagonal = matrix[:, some, some]
        matrix[:, some, some] += 1e-9 * diagonal.max(axis=1, keepdims=True)
    return invert(matrix)[0]


@dataclass(frozen=True, eq=False)
class _Solved:
    """Fits of all rows of an integration."""

    coefficients: NDArray[np.float64]
    inverse: NDArray[np.float64]
    rejected: tuple[NDArray[np.intp], NDArray[np.intp]]


def _solve(
    data: NDArray[np.float64], weight: NDArray[np.float64], basis: list[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit each row: coefficients (row, term), inverse normal matrices (row, term, term)."""
    weighted = [field * weight for field in basis]
    inverse = _inverse(normal(basis, weighted))
    vector = np.stack([np.einsum("rc,rc->r", field, data) for field in weighted], axis=-1)
    return np.einsum("rij,rj->ri", inverse, vector), inverse


def _solve_rows(
    data: NDArray[np.float64],
    weight: NDArray[np.float64],
    basis: list[NDArray[np.float64]],
    variance: NDArray[np.float64],
    doubt: NDArray[np.float64],
    threshold: float | None,
) -> _Solved:
    """Fit each row; leave out the worst pixel of rows that have one, and fit these again.

    `weight` is changed: it becomes 0 at pixels that are left out.
    """
    coefficients, inverse = _solve(data, weight, basis)
    nothing = np.zeros(0, dtype=np.intp)
    if threshold is None:
        return _Solved(coefficients, inverse, (nothing, nothing))
    rows = np.arange(data.shape[0])
    found: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    part = _Rows(data, weight, basis, variance, doubt, coefficients, inverse)
    for _ in range(_ROUNDS):
        excess = part.excess()
        worst = excess.argmax(axis=1)
        bad = excess[np.arange(worst.size), worst] > threshold**2
        if not bad.any():
            break
        rows, worst = rows[bad], worst[bad]
        found.append((rows, worst))
        weight[rows, worst] = 0.0
        sub = [field[rows] for field in basis]
        again, inverted = _solve(data[rows], weight[rows], sub)
        coefficients[rows], inverse[rows] = again, inverted
        part = _Rows(data[rows], weight[rows], sub, variance[rows], doubt[rows], again, inverted)
    if not found:
        return _Solved(coefficients, inverse, (nothing, nothing))
    where = (np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found]))
    return _Solved(coefficients, inverse, where)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Some rows and their fits."""

    data: NDArray[np.float64]
    weight: NDArray[np.float64]
    basis: list[NDArray[np.float64]]
    variance: NDArray[np.float64]
    doubt: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    inverse: NDArray[np.float64]

    def excess(self) -> NDArray[np.float64]:
        """Squared residuals over what they are expected to be; 0 where a pixel does not count."""
        residual = self.data.copy()
        for i, field in enumerate(self.basis):
            residual -= self.coefficients[:, i, np.newaxis] * field
        # A pixel pulls the fit towards itself: its residual is smaller by its leverage.
        pull = self.inverse[:, 0, 0, np.newaxis] * self.basis[0] ** 2
        pull *= self.weight
        np.minimum(pull, 0.9, out=pull)
        expected = self.variance * (1.0 - pull)
        expected += self.doubt
        residual *= residual
        residual /= expected
        residual *= self.weight > 0
        return residual


def _model_variance(
    start: _Mean,
    inner: slice,
    lit: list[NDArray[np.float64]],
    positives: int,
    behind: list[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance of each pixel of one integration as a smooth function of the model.

    The photon noise is a + g |source| in each row, the flat field's f model^2, with a, g and f
    averaged over rows; the read noise is the pixel's own, which owes nothing to the data.

    Returns
    -------
    variance : ndarray
        Shape (row, column), more than 0.
    doubt : ndarray
        What the model's inaccuracy adds to squared residuals, shape (row, column).
    """
    from scipy.ndimage import median_filter

    pixels = start.pixels
    data, good = pixels.data[:, inner], pixels.good[:, inner]
    weight = good / pixels.variance[:, inner]
    basis = [*lit, *behind]
    coefficients, _ = _solve(data, weight, basis)
    residual = data.copy()
    for i, field in enumerate(basis):
        residual -= coefficients[:, i, np.newaxis] * field
    kept = good & (residual**2 * weight < 25.0 + (0.1 * coefficients[:, :1] * lit[0]) ** 2 * weight)
    smooth = _running(coefficients, np.ones(coefficients.shape, dtype=bool), 3)
    source, whole = np.zeros_like(data), np.zeros_like(data)
    for i, field in enumerate(basis):
        whole += smooth[:, i, np.newaxis] * field
        if i < len(lit):
            source += np.abs(smooth[:, i, np.newaxis]) * field
    poisson, rnoise, flat = (
        None if v is None else v[:, inner] * (start.number if i < 2 else 1)
        for i, v in enumerate(start.variances)
    )
    total = np.zeros_like(data)
    mask = kept.astype(float)
    if poisson is not None:
        total += _photon_noise(poisson, source, kept, lit)
    if rnoise is not None:
        known = good & (rnoise > 0)
        typical = _running(np.where(known, rnoise, 0.0), known, _SMOOTH)
        total += np.where(known, rnoise, typical)
    if flat is not None:
        square = whole**2
        top = _window((mask * square * flat).sum(axis=1), _SMOOTH)
        low = _window((mask * square**2).sum(axis=1), _SMOOTH)
        total += np.divide(top, low, out=np.zeros_like(top), where=low > 0)[:, np.newaxis] * square
    some = total[good]
    if not (some > 0).any():
        total[...] = 1.0
    else:
        np.maximum(total, 1e-2 * np.median(some[some > 0]), out=total)
    peak = np.max([np.abs(smooth[:, i]) * f.max(axis=1) for i, f in enumerate(lit)], axis=0)
    for i in range(positives, len(lit)):  # of which parts may be missing: see _UNSURE
        total += (_UNSURE * smooth[:, i, np.newaxis] * lit[i]) ** 2
    weighing = total + (_BELIEF * peak[:, np.newaxis]) ** 2
    # Where errors are too small, as those of resampled images are, more must be allowed for.
    ratio = np.abs(residual) / np.sqrt(total / start.number)
    near = kept & (lit[0] > 0.05)
    stretch = 1.0
    if near.sum() > 50 and start.number == 1:
        stretch = max(1.0, 1.4826 * float(np.median(ratio[near])))
    # Fluxes that a cosmic ray has driven up must not make room for it.
    flux = np.abs(coefficients[:, 0])
    flux = np.minimum(flux, 3.0 * median_filter(flux, 9, mode="nearest"))
    doubt = (_TOLERANCE * lit[0].max(axis=1) * flux)[:, np.newaxis] ** 2
    doubt = doubt + (stretch**2 - 1.0) * total
    return weighing, doubt


def _level(values: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Median of each row's pixels, shape (row, 1); more than 0."""
    ordered = np.sort(np.where(mask, values, np.inf), axis=1)
    count = mask.sum(axis=1)
    middle = ordered[np.arange(len(values)), np.maximum(count - 1, 0) // 2]
    known = (count > 0) & np.isfinite(middle) & (middle > 0)
    if not known.any():
        return np.ones((len(values), 1))
    rows = np.arange(len(values))
    return np.interp(rows, rows[known], middle[known])[:, np.newaxis]


def _photon_noise(
    variance: NDArray[np.float64],
    source: NDArray[np.float64],
    mask: NDArray[np.bool_],
    lit: list[NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Least squares variance = a + g source; a of each row, g of some rows; neither below 0."""
    brightest = np.max(lit, axis=0)
    dark = mask & (brightest < 0.002)
    if np.median(dark.sum(axis=1)) < 6:
        dark = mask & (brightest < 0.02)
    few = dark.sum(axis=1, keepdims=True) < 4
    level = _level(variance, np.where(few, mask, dark))
    # In units of the row's level: electrons for a flux change fast at the ends of the spectrum.
    x, y = source / level, variance / level - 1.0
    top = _window((mask * x * y).sum(axis=1), _SMOOTH)
    low = _window((mask * x * x).sum(axis=1), _SMOOTH)
    gain = np.divide(top, low, out=np.zeros_like(top), where=low > 0)
    return level * (1.0 + np.maximum(gain, 0.0)[:, np.newaxis] * x)


# --- the result -----------------------------------------------------------------------------------


def _result(
    operator: OptimalExtraction,
    view: _View,
    work: _Work,
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
        rows = np.flatnonzero((light > 0.05) & np.isfinite(view.wavelength))
        if rows.size == 0:
            raise ProductError(f"{image.label}: the source has no light on the image")
        worth = light[rows] / square[rows]
        shape = (number, rows.size)
        columns: dict[str, NDArray[Any]] = {name: np.zeros(shape) for name in COLUMNS}
        pixels = raw["good"][:, s][:, rows] / square[rows]
        flux = coefficients[:, rows, s] * scale
        none = (raw["flux_variance"][:, :, s][:, :, rows].sum(axis=0) <= 0) & (flux == 0)
        none |= pixels <= 1e-8
        flux = np.where(none, np.nan, flux)
        columns["FLUX"], columns["NPIXELS"] = flux, pixels
        columns["DQ"] = np.isnan(flux).astype(np.uint32)
        if operator.max_lost is not None:
            columns["DQ"][pixels < worth * (1.0 - operator.max_lost)] |= np.uint32(DO_NOT_USE)
        if work.behind:
            sources = len(work.lit)
            for i, field in enumerate(work.behind):
                place = (profile * field).sum(axis=1)[rows] / light[rows]
                columns["BACKGROUND"] += coefficients[:, rows, sources + i] * place
        for k, component in enumerate(_COMPONENTS):
            columns[f"FLUX_VAR_{component}"] = raw["flux_variance"][k][:, s][:, rows] * scale**2
            if work.behind:
                columns[f"BKGD_VAR_{component}"] = raw["background_variance"][k][:, s][:, rows]
        for name in ("FLUX", "SB", "BKGD"):
            total = np.zeros(shape)
            for component in _COMPONENTS:
                columns[f"{name}_VAR_{component}"][none] = np.nan
                total += columns[f"{name}_VAR_{component}"]
            columns[f"{name}_ERROR"] = np.sqrt(total)
        lit = work.view.lit[
            :, work.columns.start - view.columns.start : work.columns.stop - view.columns.start
        ]
        weight = np.where(lit, profile, 0.0)[rows]
        wave = image.wavelength[view.rows, work.columns][rows]
        wavelength = np.where(weight > 0, wave, 0.0).astype(float)
        wavelength = (wavelength * weight).sum(axis=1) / weight.sum(axis=1)
        columns["WAVELENGTH"] = np.broadcast_to(wavelength, shape)
        if np.isnan(columns["FLUX"]).all():
            raise ProductError(f"{image.label}: every pixel of the profile is NaN or flagged")
        if not image.is_stack:
            columns = {name: values[0] for name, values in columns.items()}
        if s == 0 and rejected[0].size:
            notes_here = [f"{rejected[0].size} pixels were rejected as outliers"]
        else:
            notes_here = []
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
                        "column_error": float(learned.shift_error[s]),
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


def _middle(trace: NDArray[np.float64]) -> float:
    """The trace in the middle row."""
    return float(trace[(trace.size - 1) // 2])


def _keywords(
    image: SlitImage, view: _View, work: _Work, source: int, rows: NDArray[np.intp]
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
