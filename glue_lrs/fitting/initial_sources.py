"""Which sources and negative traces an optimal extraction fits, and where it begins.

There are two ways to look. The quick one, some milliseconds, takes maxima and minima along the
slit; it is right where a single source stands on its own. The careful one is that of
`glue_lrs.measurement.measure.measure`, a second or so: it is what other scenes need, in which sources overlap.
A profile learned from a blend that was taken for one source tells so: it is too broad, or lopsided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.errors import ProductError, SourceError
from glue_lrs.fitting.peaks import Peak, find_peaks
from glue_lrs.image.source_position import header_column
from glue_lrs.instrument import FIXED_SLIT, PIXEL_SCALE
from glue_lrs.profiles.empirical import EmpiricalProfile

if TYPE_CHECKING:
    from glue_lrs.extraction.optimal import OptimalExtractor
    from glue_lrs.fitting.cutout import Cutout, MeanCutout
    from glue_lrs.fitting.engine import SourceFit

__all__ = ["BlendDiagnostics", "InitialSources", "initial_sources"]

#: Standard deviations above which a maximum along the slit is a source.
_FOUND = 5.0

#: Fainter ones, as a fraction of the brightest, do not count.
_FAINT = 0.005

#: Most sources and negative traces that the careful way looks for.
_SOURCES = 10

#: Signal-to-noise ratios above which every second, third and fourth row will do for the position.
_THIN = (200.0, 400.0, 800.0)

#: Columns from a source beyond which its negative traces lie.
_NOD_APART = 6.0

#: Columns by which a negative trace may miss the place that the sources make one expect.
_NOD_MISS = 2.5

#: Columns from a source within which a maximum is its own, and not that of a blend.
_SEEN = 1.0

#: Other nods that leave negative traces.
_NODS = 2

#: Columns from where it is expected within which a source is the one that is meant.
_NEAR = 3.0

#: Of several near ones the nearest that has this fraction of the light of the brightest.
_BRIGHT = 0.3

#: A source that is not asked for is fitted if it has more than this fraction of the target's light.
#: Of maxima that the quick way finds, if it is so many columns away and stands out by a dip to this
#: fraction of its height.
_MATTERS, _APART, _DIP = 0.003, 4.0, 0.5

#: At most so many of them.
_NEIGHBOURS = 4

#: Sources closer than so many columns cannot be told from a broader profile but in bright images.
_BLEND = 2.5

#: Columns from a bright source within which another may be hidden.
_HIDDEN = 6.0

#: Width over the expected one, and fraction of the light that is on one side only, from which a
#: learned profile may be that of several sources; of faint ones so much over the signal-to-noise.
_BROAD, _LOPSIDED, _NOISE = 1.15, 0.007, 8.0

#: The same from which the user is told, where no other source was found: real ones, in the slitless
#: mode, are up to 1.2 times as wide.
_WIDE, _ODD = 1.3, 0.05


@dataclass(frozen=True, eq=False)
class InitialSources:
    """Where a fit begins.

    Parameters
    ----------
    traces : ndarray
        Column of each source in each row, shape (source, row): those that are asked for, then
        others whose light reaches them, then the negative traces of all for each nod.
    positives : int
        How many are no negative traces.
    thin : int
        Each so many-th row is enough to find the position.
    careful : bool
        Whether the sources were looked for the careful way.
    sure : bool
        Whether a source was found where the first is.
    held : bool
        Whether the position is not to be fitted, for want of a source that stands out.
    expected : float or None
        Column of the source in the middle row by the header, if that says which is meant.
    notes : tuple of str
        What the user should know.
    """

    traces: NDArray[np.float64]
    positives: int
    thin: int
    careful: bool
    sure: bool
    held: bool
    expected: float | None
    notes: tuple[str, ...]


def initial_sources(
    operator: OptimalExtractor, view: Cutout, mean: MeanCutout, *, careful: bool = False
) -> InitialSources:
    """Find the sources and negative traces.

    Parameters
    ----------
    operator : OptimalExtractor
        Says which source is meant, and whether nods are looked for.
    view : View
        The image.
    mean : Mean
        Its mean, if it is a stack.
    careful : bool
        Whether to look the careful way in any case.

    Raises
    ------
    ProductError
        If there is no source, and nothing tells where it should be.
    SourceError
        If there are sources, but none where one is asked for.
    """
    shape = view.trace_shape
    quick = found = find_peaks(mean.pixels, shape)
    nodded = operator.nods and LazyHeader.view(view.image.header).get("S_BKDSUB") == "COMPLETE"
    listed = operator.position is not None and operator._wanted > 1  # those who list all know
    careful = careful or not (listed or _is_simple(quick, nodded))
    if careful:
        found = _look_carefully(view) or quick
    maxima = [e for e in found if e.light > 0]
    bright = [e for e in maxima if e.ratio > _FOUND]
    columns, notes, expected, held = _targets(operator, view, found, careful)
    if operator.position is not None and operator.fit_position:
        _check_asked(view, columns, bright)
    sure = all(any(abs(e.column - c) < _NEAR and e.ratio > _FOUND for e in maxima) for c in columns)
    if not held:
        columns += _neighbours(maxima, columns, 2.0 * operator.reach, careful)
    both = list(columns)
    if nodded:
        both += [c + apart for apart in _nods(columns, found, mean) for c in columns]
    nearest = min(maxima, key=lambda e: abs(e.column - columns[0]), default=None)
    ratio = 0.0 if nearest is None else nearest.ratio
    thin = 1 + sum(ratio > limit for limit in _THIN)
    traces = np.array(both)[:, np.newaxis] + shape
    return InitialSources(traces, len(columns), thin, careful, sure, held, expected, tuple(notes))


def _is_simple(extremes: list[Peak], nodded: bool) -> bool:
    """Whether there is one source at most, and of negative traces no more than nods would leave."""
    tall = max((abs(e.light) for e in extremes), default=0.0)
    clear = [e for e in extremes if abs(e.ratio) > _FOUND and abs(e.light) > _FAINT * tall]
    positive = sum(e.light > 0 for e in clear)
    return positive <= 1 and (not nodded or len(clear) - positive <= _NODS)


def _look_carefully(view: Cutout) -> list[Peak]:
    """What `measure` finds; the brightest first."""
    from glue_lrs.fitting.cutout import SlitCutout
    from glue_lrs.fitting.engine import SourceModel
    from glue_lrs.fitting.source_search import search_residuals as look

    try:
        slit = SlitCutout.from_image(view.image, PIXEL_SCALE)
        fit = look(SourceModel(slit), _SOURCES)
    except SourceError:
        return []
    shape = np.zeros(view.image.shape[0])
    shape[view.rows] = view.trace_shape
    solved, found = fit.solved, []
    for trace, strength, flux, smooth, variance in zip(
        fit.parameters.shape(slit).traces,
        solved.strength,
        solved.flux,
        solved.smooth,
        np.maximum(solved.flux_variance, 1e-300),
        strict=True,
    ):
        template = np.abs(smooth)
        power = float((template**2 / variance).sum())
        ratio = float((flux * template / variance).sum()) / np.sqrt(max(power, 1e-300))
        column = float(np.median(trace - shape[slit.rows]))
        light = float(np.sign(ratio) * strength)
        found.append(Peak(column, ratio, light, 0.0))
    return sorted(found, key=lambda item: -abs(item.light))


class _Targets(NamedTuple):
    """Columns in the middle row, that of the header, what is to be said; `held`: see `InitialSources`."""

    columns: list[float]
    notes: list[str]
    expected: float | None = None
    held: bool = False


def _targets(
    operator: OptimalExtractor, view: Cutout, found: list[Peak], careful: bool
) -> _Targets:
    """Which sources are asked for, or meant by the header."""
    image, notes = view.image, []
    bright = [e for e in found if e.light > 0 and e.ratio > _FOUND]
    tall = max((abs(e.light) for e in found), default=0.0)
    if operator.position is not None:
        columns = list(operator.position)  # type: ignore[arg-type]
        apart = float(np.diff(np.sort(columns)).min()) if len(columns) > 1 else np.inf
        if operator.profile is None and apart < _BLEND:
            notes.append(
                f"two sources are {apart:.1f} columns apart, which is close for learning "
                "their profile; give one, such as that of a star (fit(star).profile)"
            )
        if careful and operator.fit_position and len(columns) == 1:
            columns = [_meant(bright, columns[0]) or columns[0]]
        return _Targets(columns, notes)
    expected = header_column(image) if image.exp_type == FIXED_SLIT else None
    if expected is None:
        if not bright:
            raise ProductError(
                f"{image.label}: no source was found, expected a maximum of {_FOUND:g} "
                "standard deviations along the slit; give its position"
            )
        return _Targets([bright[0].column], notes)
    if not operator.fit_position:
        return _Targets([expected], notes)
    column = _meant(bright, expected)
    if column is None:  # not the noise beside a bright negative trace
        column = next((e.column for e in bright if e.light > _FAINT * tall), None)
    if column is None:
        notes.append(
            "no source stands out; it is taken to be where the header puts it, at column "
            f"{expected:.2f}"
        )
        return _Targets([expected], notes, expected, True)
    return _Targets([column], notes, expected)


def _check_asked(view: Cutout, columns: list[float], bright: list[Peak]) -> None:
    """A position cannot be fitted where nothing is: the fit would go to the next source."""
    for column in columns:
        away = min((abs(e.column - column) for e in bright), default=np.inf)
        if bright and away > _HIDDEN:
            there = ", ".join(f"{e.column:.2f}" for e in bright[:3])
            raise SourceError(
                f"{view.image.label}: no source at column {column:.2f}, expected one of those that "
                f"stand out, at column {there} (fit_position=False extracts where there is none)"
            )


def _meant(bright: list[Peak], expected: float) -> float | None:
    """The nearest source to a place that is no faint companion of another that is near."""
    near = [e for e in bright if abs(e.column - expected) < _NEAR]
    if not near:
        return None
    least = _BRIGHT * max(e.light for e in near)
    some = [e.column for e in near if e.light >= least]
    return min(some, key=lambda column: abs(column - expected))


def _neighbours(
    maxima: list[Peak], columns: list[float], reach: float, careful: bool
) -> list[float]:
    """Other sources whose light reaches those that are asked for: they are fitted as well."""
    own = [e for e in maxima if abs(e.column - columns[0]) < _NEAR]
    least = _MATTERS * max((e.light for e in own), default=0.0)
    others = []
    for e in maxima:
        away = min(abs(e.column - c) for c in columns)
        if careful:
            other = e.ratio > _FOUND and away > 0.5
        else:
            other = e.ratio > 2.0 * _FOUND and away > _APART and e.dip < _DIP
        if other and e.light > least and away < reach:
            others.append(e.column)
    return others[:_NEIGHBOURS]


def _nods(columns: list[float], found: list[Peak], mean: MeanCutout) -> list[float]:
    """Columns from each source to its negative trace, of each of the other nods.

    The distance is the one at which most of the light that the sources make one expect is there,
    and least of it is missing.
    """
    maxima = [e for e in found if e.light > 0]
    lights = [min(maxima, key=lambda e: abs(e.column - c)).light for c in columns if maxima]
    tall = max((abs(e.light) for e in found), default=0.0)
    left = [e for e in found if e.ratio < -_FOUND and -e.light > _FAINT * max(lights, default=tall)]
    first, last = mean.pixels.columns[0], mean.pixels.columns[-1]
    # Of a blend that shows one maximum and one minimum, these belong together.
    places = [*columns, *(e.column for e in maxima if min(abs(e.column - c) for c in columns) < 3)]
    seen = [c for c in columns if min((abs(e.column - c) for e in maxima), default=9.0) < _SEEN]
    nods: list[float] = []
    while left and len(nods) < _NODS and lights:
        best, score = 0.0, 0.0
        for apart in (n.column - c for n in left for c in places):
            if abs(apart) < _NOD_APART:
                continue
            total = 0.0
            for column, light in zip(columns, lights, strict=True):
                place = column + apart
                nearest = min(left, key=lambda n: abs(n.column - place))
                miss = abs(nearest.column - place)
                if miss < _NOD_MISS:
                    total += min(light, -nearest.light) * (1.0 - 0.1 * miss**2)
                elif first <= place <= last and column in seen:
                    total -= light
            if total > score:
                best, score = apart, total
        if score <= 0.0:
            break
        nods.append(best)
        left = [n for n in left if min(abs(n.column - c - best) for c in columns) > _NOD_MISS]
    return nods


@dataclass(frozen=True)
class BlendDiagnostics:
    """How the light of a source is spread by what was learned from an image.

    Parameters
    ----------
    width : float
        Width of the profile over that of a point source.
    aside : float
        Fraction of the light that is on one side only.
    signal_to_noise : float
        Of the source, all rows together.
    """

    width: float
    aside: float
    signal_to_noise: float

    @classmethod
    def from_fit(cls, learned: SourceFit) -> BlendDiagnostics:
        """That of a learned profile; a given one is as wide as it should be."""
        profile, ratio = learned.profile, max(learned.signal_to_noise, 1e-9)
        if not isinstance(profile, EmpiricalProfile):
            return cls(1.0, 0.0, ratio)
        first, last = profile.base.domain
        wave = np.linspace(first, last, 7)[1:-1]
        half = max(profile.coefficients.shape[0] // 2, 4)
        offset = np.broadcast_to(np.arange(-half, half + 1.0), (wave.size, 2 * half + 1))
        light = profile(offset, wave)
        aside = np.abs(np.convolve((light - light[:, ::-1]).mean(axis=0), np.ones(3), "same"))
        width = np.median(profile.base.fwhm(wave) / type(profile.base)().fwhm(wave))
        return cls(float(width), float(aside[: half - 1].max()), ratio)

    @property
    def looks_blended(self) -> bool:
        """Whether it may be that of several sources: too broad, or lopsided."""
        return self.width > _BROAD or self.aside > max(_LOPSIDED, _NOISE / self.signal_to_noise)

    @property
    def odd(self) -> str | None:
        """What is odd about the light of a source in which no other was found; None: nothing."""
        least = 2.0 * _NOISE / self.signal_to_noise
        if self.width > _WIDE + least:
            found = f"{self.width:.2f} times as wide as a point source should be"
        elif self.aside > _ODD + least:
            found = f"lopsided, with {self.aside:.0%} of the light on one side only"
        else:
            return None
        return f"the source is {found}: what was not told apart from it counts as its light"
