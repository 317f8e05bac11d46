"""Initial sources: which sources and negative traces an optimal extraction fits.

There are two searches. The fast search (`find_peaks`) takes some milliseconds. It uses the extrema
of the mean profile along the slit and suffices for a single isolated source. The careful search
(`search_residuals`, also used by `glue_lrs.measure`) takes about a second and separates blended
sources. It is used if the fast search finds several sources, or if the fitted empirical profile is
so broad or asymmetric that it indicates an unresolved blend (`BlendDiagnostics`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs._utils.typing import Array
from glue_lrs.errors import Hint, MeasurementError, ProductError, SourceError
from glue_lrs.fitting.cutout import Cutout, MeanCutout, SlitCutout
from glue_lrs.fitting.options import FitOptions
from glue_lrs.fitting.peaks import Peak, find_peaks
from glue_lrs.fitting.source_fit import SourceFit
from glue_lrs.fitting.source_model import SourceModel
from glue_lrs.fitting.source_search import search_residuals
from glue_lrs.image.source_position import header_column
from glue_lrs.instrument import FIXED_SLIT, PIXEL_SCALE, expected_fwhm
from glue_lrs.profiles.empirical import EmpiricalProfile

#: Signal-to-noise ratio above which a peak is a source.
_FOUND = 5.0

#: Fraction of the flux of the brightest peak below which a peak is ignored.
_FAINT = 0.005

#: Careful search: largest number of sources and negative traces.
_MAX_SOURCES = 10

#: Signal-to-noise ratios of the source above which only every second, third and fourth row is used
#: to fit the position, which is then precise enough.
_ROW_STEP_SNR = (200.0, 400.0, 800.0)

#: Largest distance in columns of the peak of a source from its expected position. Of several peaks,
#: the nearest one is chosen whose flux is at least `_COMPARABLE` times that of the brightest.
_SAME_SOURCE, _COMPARABLE = 3.0, 0.3

#: Largest distance in columns of a requested position from the nearest source. Positions farther
#: away are an error, because the fit would move to a different source.
_FARTHEST = 6.0

#: Smallest flux of the neighbours that are fitted with the target, as a fraction of its flux, and
#: largest number of such neighbours.
_NEIGHBOUR_LIGHT, _MAX_NEIGHBOURS = 0.003, 4

#: Smallest distance in columns of a neighbour from the target in the fast and the careful search.
#: In the fast search, the minimum between the two peaks must also be below `_FAST_DIP` times the
#: fainter peak.
_FAST_DISTANCE, _FAST_DIP, _CAREFUL_DISTANCE = 4.0, 0.5, 0.5

#: A neighbour may be only a shoulder of the target's profile if it is less than
#: `_SHOULDER_DISTANCE` columns away, about the FWHM of the profile, and has less than
#: `_SHOULDER_LIGHT` of the target's flux. A brighter neighbour would be a second maximum.
_SHOULDER_DISTANCE, _SHOULDER_LIGHT = 3.2, 0.4

#: Such a neighbour is fitted as a source if chi-square is then smaller than with a profile that has
#: a shoulder, by more than this number of standard deviations of the difference.
_SEPARATE = 5.0

#: Smallest distance in columns of a negative trace from its source, largest deviation in columns
#: from the position predicted from the sources, and largest number of nods.
_NOD_DISTANCE, _NOD_DEVIATION, _MAX_NODS = 6.0, 2.5, 2

#: A source is resolved if the mean profile has a peak within this distance in columns. Otherwise it
#: is part of a blend with a peak elsewhere.
_RESOLVED = 1.0

#: Distance between two requested sources in columns below which an empirical profile is uncertain.
_CLOSE_PAIR = 2.5

#: Ratio of the width to the expected width, and asymmetry (see `BlendDiagnostics`), above which the
#: careful search is made. The asymmetry must also exceed `_NOISE` / signal-to-noise ratio.
_BROAD, _ASYMMETRIC, _NOISE = 1.25, 0.007, 8.0

#: Ratio of the width to the expected width, and asymmetry, above which a warning is issued if no
#: other source is found. Real sources in slitless mode are up to 1.35 times as wide as expected.
_WARN_BROAD, _WARN_ASYMMETRIC = 1.5, 0.05


@dataclass(frozen=True, eq=False)
class InitialSources:
    """Initial sources and negative traces for a fit.

    Parameters
    ----------
    traces : ndarray
        Column of each source in each row, shape (source, row): first the requested sources, then
        other sources that overlap them, then for each nod the negative traces of all these sources.
    positives : int
        Number of sources, not counting negative traces.
    row_step : int
        The position is fitted to every `row_step`-th row, because it does not need all rows.
    careful : bool
        Whether the careful search was made.
    target_found : bool
        Whether there is a source at each requested position.
    position_fixed : bool
        Whether the position is taken from the header because no source was found.
    header_position : float or None
        Column of the source in the middle row according to the header, if the target was chosen by
        this position.
    notes : tuple of str
        Messages to the user.
    doubtful : tuple of int
        Sources (indices) that may be a shoulder of the target's profile.
    """

    traces: Array
    positives: int
    row_step: int
    careful: bool
    target_found: bool
    position_fixed: bool
    header_position: float | None
    notes: tuple[str, ...]
    doubtful: tuple[int, ...] = ()

    def without_doubtful(self) -> InitialSources:
        """Return a copy without the doubtful sources and their negative traces."""
        source = np.arange(len(self.traces)) % self.positives
        traces = self.traces[~np.isin(source, self.doubtful)]
        left = self.positives - len(self.doubtful)
        return replace(self, traces=traces, positives=left, doubtful=())


def initial_sources(
    options: FitOptions, cutout: Cutout, mean: MeanCutout, *, careful: bool = False
) -> InitialSources:
    """Find the sources and negative traces to fit.

    Parameters
    ----------
    options : FitOptions
        Options that specify requested positions and whether nods are searched for.
    cutout : Cutout
        Image, for the careful search and the header.
    mean : MeanCutout
        Image or mean of a stack of integrations, for the fast search.
    careful : bool
        Whether the careful search is made even if the fast search finds a single source.

    Raises
    ------
    ProductError
        If there is no source and the header has no position.
    SourceError
        If there is no source at a requested position.
    """
    trace_shape = cutout.trace_shape
    peaks = find_peaks(mean.pixels, trace_shape)
    header = LazyHeader.view(cutout.image.header)
    nodded = options.nods and header.get("S_BKDSUB") == "COMPLETE"
    # If several positions are requested, there are assumed to be no other sources.
    listed = options.position is not None and options.n_requested > 1
    careful = careful or not (listed or _is_single_source(peaks, nodded))
    if careful:
        peaks = _search_carefully(cutout) or peaks
    maxima = [peak for peak in peaks if peak.light > 0]
    sources = [peak for peak in maxima if peak.ratio > _FOUND]
    columns, notes, header_position, position_fixed = _targets(options, cutout, peaks, careful)
    if options.position is not None and options.fit_position:
        _check_requested(cutout, columns, sources)
    target_found = all(any(abs(s.column - c) < _SAME_SOURCE for s in sources) for c in columns)
    doubtful: tuple[int, ...] = ()
    if not position_fixed:
        others = _neighbours(maxima, columns, 2.0 * options.reach, careful)
        target = max((p.light for p in maxima if abs(p.column - columns[0]) < 1.0), default=0.0)
        doubtful = tuple(
            i
            for i, peak in enumerate(others, len(columns))
            if abs(peak.column - columns[0]) < _SHOULDER_DISTANCE
            and peak.light < _SHOULDER_LIGHT * target
        )
        columns += [peak.column for peak in others]
    all_columns = list(columns)
    if nodded:
        all_columns += [c + nod for nod in _nods(columns, peaks, mean) for c in columns]
    nearest = min(maxima, key=lambda peak: abs(peak.column - columns[0]), default=None)
    ratio = 0.0 if nearest is None else nearest.ratio
    return InitialSources(
        traces=np.array(all_columns)[:, np.newaxis] + trace_shape,
        positives=len(columns),
        row_step=1 + sum(ratio > limit for limit in _ROW_STEP_SNR),
        careful=careful,
        target_found=target_found,
        position_fixed=position_fixed,
        header_position=header_position,
        notes=tuple(notes),
        doubtful=doubtful if options.profile is None else (),
    )


# --- searches ------------------------------------------------------------------------------------


def _is_single_source(peaks: list[Peak], nodded: bool) -> bool:
    """Return whether there is at most one source, with at most one negative trace per nod."""
    brightest = max((abs(peak.light) for peak in peaks), default=0.0)
    clear = [
        peak for peak in peaks if abs(peak.ratio) > _FOUND and abs(peak.light) > _FAINT * brightest
    ]
    positive = sum(peak.light > 0 for peak in clear)
    return positive <= 1 and (not nodded or len(clear) - positive <= _MAX_NODS)


def _search_carefully(cutout: Cutout) -> list[Peak]:
    """Find sources with `search_residuals`.

    Returns
    -------
    list of Peak
        Sources and negative traces, the brightest first. The list is empty if there are none.
    """
    try:
        slit = SlitCutout.from_image(cutout.image, PIXEL_SCALE)
        fit = search_residuals(SourceModel(slit), _MAX_SOURCES)
    except (MeasurementError, SourceError):
        return []
    trace_shape = np.zeros(cutout.image.shape[0])
    trace_shape[cutout.rows] = cutout.trace_shape
    linear, found = fit.linear, []
    for trace, strength, flux, smooth, variance in zip(
        fit.parameters.geometry(slit).traces,
        linear.strength,
        linear.flux,
        linear.smooth,
        np.maximum(linear.flux_variance, 1e-300),
        strict=True,
    ):
        template = np.abs(smooth)
        with np.errstate(over="ignore"):  # where the variance is 0
            power = float((template**2 / variance).sum())
            ratio = float((flux * template / variance).sum()) / np.sqrt(max(power, 1e-300))
        column = float(np.median(trace - trace_shape[slit.rows]))
        light = float(np.sign(ratio) * strength)
        found.append(Peak(column, ratio, light, 0.0))
    return sorted(found, key=lambda peak: -abs(peak.light))


# --- requested sources ---------------------------------------------------------------------------


class _Targets(NamedTuple):
    """Columns of the requested sources in the middle row, and attributes of `InitialSources`."""

    columns: list[float]
    notes: list[str]
    header_position: float | None = None
    position_fixed: bool = False


def _targets(options: FitOptions, cutout: Cutout, peaks: list[Peak], careful: bool) -> _Targets:
    """Choose the sources that were requested, or else the target according to the header."""
    image, notes = cutout.image, []
    sources = [peak for peak in peaks if peak.light > 0 and peak.ratio > _FOUND]
    if options.position is not None:
        columns = list(options.position)
        distance = float(np.diff(np.sort(columns)).min()) if len(columns) > 1 else np.inf
        if options.profile is None and distance < _CLOSE_PAIR:
            notes.append(
                f"two sources are {distance:.1f} columns apart, too close to fit their profile "
                "reliably: expected the profile of another image or of a PSF reference"
            )
        if careful and options.fit_position and len(columns) == 1:
            columns = [_source_at(sources, columns[0]) or columns[0]]
        return _Targets(columns, notes)
    expected = header_column(image) if image.exp_type == FIXED_SLIT else None
    if expected is None:
        if not sources:
            raise ProductError(
                f"no source was found, expected a maximum above {_FOUND:g} "
                "standard deviations along the slit; give its position",
                subject=image.label,
            )
        return _Targets([sources[0].column], notes)
    if not options.fit_position:
        return _Targets([expected], notes)
    column = _source_at(sources, expected)
    if column is None:  # take the brightest source that is not noise near a negative trace
        brightest = max((abs(peak.light) for peak in peaks), default=0.0)
        column = next((s.column for s in sources if s.light > _FAINT * brightest), None)
    if column is None:
        notes.append(
            "no source was found; the position is fixed to that of the header, at column "
            f"{expected:.2f}"
        )
        return _Targets([expected], notes, expected, True)
    return _Targets([column], notes, expected)


def _check_requested(cutout: Cutout, columns: list[float], sources: list[Peak]) -> None:
    """Raise `SourceError` if a requested position is far from every source."""
    for column in columns:
        distance = min((abs(s.column - column) for s in sources), default=np.inf)
        if sources and distance > _FARTHEST:
            places = ", ".join(f"{s.column:.2f}" for s in sources[:3])
            raise SourceError(
                f"no source at column {column:.2f}, expected one of those detected, at column "
                f"{places}",
                subject=cutout.image.label,
                hint=Hint.to("{} extracts without a source", fit_position=False),
            )


def _source_at(sources: list[Peak], expected: float) -> float | None:
    """Return the column of the source at an expected position, or None if there is none.

    It is the nearest source, but not a faint companion of a brighter source that is also near.
    """
    candidates = [s for s in sources if abs(s.column - expected) < _SAME_SOURCE]
    if not candidates:
        return None
    least = _COMPARABLE * max(s.light for s in candidates)
    columns = [s.column for s in candidates if s.light >= least]
    return min(columns, key=lambda column: abs(column - expected))


# --- other sources, negative traces --------------------------------------------------------------


def _neighbours(
    maxima: list[Peak], columns: list[float], reach: float, careful: bool
) -> list[Peak]:
    """Return other sources to be fitted because they overlap the requested sources.

    Parameters
    ----------
    maxima : list of Peak
        All maxima of the mean profile.
    columns : list of float
        Columns of the requested sources, the target first.
    reach : float
        Largest distance in columns at which sources overlap.
    careful : bool
        Whether the maxima were found by the careful search.
    """
    own = [peak for peak in maxima if abs(peak.column - columns[0]) < _SAME_SOURCE]
    least = _NEIGHBOUR_LIGHT * max((peak.light for peak in own), default=0.0)
    others = []
    for peak in maxima:
        distance = min(abs(peak.column - c) for c in columns)
        if careful:
            separate = peak.ratio > _FOUND and distance > _CAREFUL_DISTANCE
        else:
            separate = peak.ratio > 2.0 * _FOUND and distance > _FAST_DISTANCE
            separate = separate and peak.dip < _FAST_DIP
        if separate and peak.light > least and distance < reach:
            others.append(peak)
    return others[:_MAX_NEIGHBOURS]


def _nods(columns: list[float], peaks: list[Peak], mean: MeanCutout) -> list[float]:
    """Return the distance in columns from the sources to their negative traces, for each nod.

    Every difference between the column of a negative peak and the column of a source is a possible
    distance. The score of a distance is the flux of the negative peaks that are found at the
    predicted positions, minus the flux of the sources for which no negative peak is found. The
    distance with the highest score is accepted, and the search is repeated with the other peaks.
    """
    maxima = [peak for peak in peaks if peak.light > 0]
    lights = [min(maxima, key=lambda p: abs(p.column - c)).light for c in columns if maxima]
    brightest = max((abs(peak.light) for peak in peaks), default=0.0)
    least = _FAINT * max(lights, default=brightest)
    negatives = [peak for peak in peaks if peak.ratio < -_FOUND and -peak.light > least]
    first, last = mean.pixels.columns[0], mean.pixels.columns[-1]
    # Distances are also measured from the maximum of an unresolved blend, because the minimum of
    # its negative trace corresponds to this maximum and not to one of the sources.
    places = [*columns, *(p.column for p in maxima if min(abs(p.column - c) for c in columns) < 3)]
    resolved = [
        c for c in columns if min((abs(p.column - c) for p in maxima), default=9.0) < _RESOLVED
    ]
    nods: list[float] = []
    while negatives and len(nods) < _MAX_NODS and lights:
        best, best_score = 0.0, 0.0
        for nod in (n.column - c for n in negatives for c in places):
            if abs(nod) < _NOD_DISTANCE:
                continue
            score = 0.0
            for column, light in zip(columns, lights, strict=True):
                place = column + nod
                nearest = min(negatives, key=lambda n: abs(n.column - place))
                deviation = abs(nearest.column - place)
                if deviation < _NOD_DEVIATION:
                    score += min(light, -nearest.light) * (1.0 - 0.1 * deviation**2)
                elif first <= place <= last and column in resolved:
                    score -= light
            if score > best_score:
                best, best_score = nod, score
        if best_score <= 0.0:
            break
        nods.append(best)
        negatives = [
            n for n in negatives if min(abs(n.column - c - best) for c in columns) > _NOD_DEVIATION
        ]
    return nods


# --- shoulders -----------------------------------------------------------------------------------


def is_separate(alone: SourceFit, fit: SourceFit) -> bool:
    """Return whether doubtful sources are separate, and not a shoulder of the profile (F-test).

    Parameters
    ----------
    alone, fit : SourceFit
        Fit of a profile without and with the doubtful sources.
    """
    expected, found = alone.chi2 / alone.freedom, fit.chi2 / fit.freedom
    gain = (expected - found) * fit.freedom / max(found, 1.0)
    return bool(gain > _SEPARATE * np.sqrt(2.0 * abs(alone.freedom - fit.freedom)))


# --- diagnostics ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class BlendDiagnostics:
    """Properties that show whether a fitted profile looks like an unresolved blend.

    Parameters
    ----------
    width : float
        Ratio of the width of the profile to the width for a point source.
    asymmetry : float
        Largest difference between the flux at opposite positions in the profile, summed over three
        columns, as a fraction of the total flux.
    signal_to_noise : float
        Signal-to-noise ratio of the flux summed over all rows.
    """

    width: float
    asymmetry: float
    signal_to_noise: float

    @classmethod
    def from_fit(cls, fit: SourceFit) -> BlendDiagnostics:
        """Return the diagnostics for a fit.

        A profile that was supplied by the user is assumed to be the profile of a point source.
        """
        profile, ratio = fit.profile, max(fit.signal_to_noise, 1e-9)
        if not isinstance(profile, EmpiricalProfile):
            return cls(1.0, 0.0, ratio)
        wave = np.linspace(*profile.domain, 7)[1:-1]
        half = max(profile.reach - 2, 4)
        offset = np.broadcast_to(np.arange(-half, half + 1.0), (wave.size, 2 * half + 1))
        light = profile(offset, wave)
        difference = (light - light[:, ::-1]).mean(axis=0)
        asymmetry = np.abs(np.convolve(difference, np.ones(3), "same"))
        width = np.median(profile.gaussian_fwhm(wave) * PIXEL_SCALE / expected_fwhm(wave))
        return cls(float(width), float(asymmetry[: half - 1].max()), ratio)

    @property
    def looks_blended(self) -> bool:
        """Whether the profile is too broad or too asymmetric for a single source."""
        limit = max(_ASYMMETRIC, _NOISE / self.signal_to_noise)
        return self.width > _BROAD or self.asymmetry > limit

    @property
    def warning(self) -> str | None:
        """Warning about a profile that is too broad or too asymmetric; None if it is not.

        It is meant for sources near which no other source was found.
        """
        least = 2.0 * _NOISE / self.signal_to_noise
        if self.width > _WARN_BROAD + least:
            found = f"{self.width:.2f} times as wide as a point source should be"
        elif self.asymmetry > _WARN_ASYMMETRIC + least:
            found = f"asymmetric, with {self.asymmetry:.0%} of the light on one side only"
        else:
            return None
        return f"the source is {found}: the flux includes any unresolved companion"
