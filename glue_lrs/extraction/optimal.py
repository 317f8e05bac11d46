"""OptimalExtractor, the operator: SlitImage -> Extraction, with the best weights.

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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs._utils.validation import check_number
from glue_lrs.errors import ProfileError, ReferenceFileError, SourceError
from glue_lrs.extraction.base import NO_VARIANCES, emit_notes, jansky_per_sum
from glue_lrs.extraction.optimal_result import assemble_result, flux_ratios, middle_row_value
from glue_lrs.fitting.cutout import Cutout
from glue_lrs.fitting.initial_sources import BlendDiagnostics, initial_sources
from glue_lrs.fitting.profile_fit import fit_profile, fit_traces
from glue_lrs.fitting.row_fit import SHIFT_LIMIT, RowFitter
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.profiles.base import Profile
from glue_lrs.profiles.empirical import REACH

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs.extraction.optimal_result import OptimalResult
    from glue_lrs.fitting.cutout import MeanCutout
    from glue_lrs.fitting.engine import SourceFit
    from glue_lrs.fitting.initial_sources import InitialSources
    from glue_lrs.spectra.extraction import Extraction

__all__ = ["OptimalExtractor"]

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
class OptimalExtractor:
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
        image = SlitImage.from_any(image)
        scale = jansky_per_sum(image)
        view = Cutout.from_image(image)
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
        result = assemble_result(self, view, work, *found, scale, notes)
        emit_notes(image, notes)
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
        header = LazyHeader.view(image.header)
        return None if header.get("S_BKDSUB") == "COMPLETE" else 0

    @property
    def _wanted(self) -> int:
        """How many sources are asked for."""
        return 1 if self.position is None else len(self.position)  # type: ignore[arg-type]

    def _fitted(
        self,
        view: Cutout,
        mean: MeanCutout,
        order: int | None,
        start: InitialSources,
        learned: SourceFit,
    ) -> tuple[RowFitter, tuple[Any, Any, tuple[NDArray[np.intp], ...]]]:
        operator = replace(self, fit_position=False) if start.held else self
        work = RowFitter.from_cutout(view, mean, learned, start.positives, order, operator)
        operator._check_place(view, start, work.learned)
        return work, work.run()

    def _learn(
        self, view: Cutout, mean: MeanCutout, order: int | None, careful: bool = False
    ) -> tuple[InitialSources, SourceFit]:
        """Where the fit begins, and the profile and traces that it begins with."""
        start = initial_sources(self, view, mean, careful=careful)
        learned = self._learn_from(view, mean, order, start)
        spread = BlendDiagnostics.from_fit(learned)
        alone = not start.careful and start.positives == 1
        # Light of a neighbour would be counted as the source's.
        if self.profile is None and alone and spread.looks_blended:
            again = initial_sources(self, view, mean, careful=True)
            if again.positives > 1 or len(again.traces) != len(start.traces):
                start, learned = again, self._learn_from(view, mean, order, again)
                spread = BlendDiagnostics.from_fit(learned)
        if self.profile is None and start.positives == 1 and spread.odd is not None:
            start = replace(start, notes=(*start.notes, spread.odd))
        if not self.fit_position or start.held:
            unknown = np.full(start.positives, np.nan)
            learned = replace(learned, traces=start.traces, shift_error=unknown)
        return start, learned

    def _learn_from(
        self, view: Cutout, mean: MeanCutout, order: int | None, start: InitialSources
    ) -> SourceFit:
        shared: dict[str, Any] = {
            "positives": start.positives,
            "order": order,
            "trace_order": self.trace_order,
            "thin": start.thin,
        }
        try:
            if self.profile is None:
                shared |= {"reach": self.reach, "spline": self.spline}
                return fit_profile(mean.pixels, start.traces, **shared)
            return fit_traces(mean.pixels, self.profile, start.traces, **shared)
        except ProfileError as error:
            raise ProfileError(
                f"{view.image.label}: {error} (looked for at column {middle_row_value(start.traces[0]):.1f})"
            ) from None

    def _check_place(self, view: Cutout, start: InitialSources, learned: SourceFit) -> None:
        """A fit that begins where no source is goes astray."""
        if not self.fit_position:
            return
        for s in range(self._wanted):
            asked, found = middle_row_value(start.traces[s]), middle_row_value(learned.traces[s])
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


def _lost_core(work: RowFitter, rejected: tuple[NDArray[np.intp], ...]) -> float:
    """Fraction of the pixels with light of the first source that were rejected."""
    core = work.lit[0] > 0.02
    *_, row, column = rejected
    inside = core[row - work.view.rows.start, column - work.columns.start]
    image = work.view.image
    number = image.data.shape[0] if image.is_stack else 1
    return float(inside.sum() / max(core.sum() * number, 1))


def _notes(
    operator: OptimalExtractor,
    view: Cutout,
    work: RowFitter,
    start: InitialSources,
    found: tuple[dict[str, NDArray[Any]], NDArray[np.float64] | None, Any],
    lost: float,
) -> list[str]:
    """What a user should know of a fit."""
    notes = []
    place = middle_row_value(work.learned.traces[0])
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
    shares = flux_ratios(coefficients["coefficients"], len(work.lit))
    for s in range(work.positives, len(work.lit), work.positives):
        if -shares[s] > _TOO_MUCH and work.learned.signal_to_noise > _SURE:
            notes.append(
                f"the negative trace at column {middle_row_value(work.learned.traces[s]):.2f} has "
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
