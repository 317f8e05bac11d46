"""Monte Carlo studies of optimal extraction: simulated scenes compared with their truth."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import LRSWarning
from glue_lrs.extraction.optimal import OptimalExtractor
from glue_lrs.extraction.optimal_result import OptimalResult
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.simulation.bounds import LinearBound
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source
from glue_lrs.simulation.truth import Simulated
from glue_lrs.spectra.extraction import Extraction

#: Fraction of the light in the halo.
HALO = 0.05
INTEGRATIONS = 8

#: How each product is made, and the order of the background that is left in it.
PRODUCTS: dict[str, tuple[Callable[[Scene], Simulated], int | None]] = {
    "s2d, nod subtracted": (lambda s: s.s2d(1), None),
    "s2d, background": (lambda s: s.s2d(1, subtract_nod=False), 0),
    "cal, nod subtracted": (lambda s: s.cal(2, full_frame=False), None),
    "cal, background": (lambda s: s.cal(1, full_frame=False, subtract_nod=False), 0),
    "both nods": (lambda s: s.combined(), None),
    "stack, slitless": (lambda s: s.calints(INTEGRATIONS), 0),
    "stack, slit": (lambda s: s.slit_calints(INTEGRATIONS), 0),
}


def scene(seed: int, flux: Any, **changes: Any) -> Scene:
    """A source with a halo, slightly off the header's position; 2% of the pixels are bad."""
    values: dict[str, Any] = {
        "sources": (Source(flux=flux, halo=HALO),),
        "bad_fraction": 0.02,
        "pointing_error": 0.021,
        "seed": seed,
    }
    return Scene(**values | changes)


def rows_of(extraction: Extraction) -> slice:
    """Rows of the image that an extraction covers."""
    return slice(extraction.keywords["EXTRYSTR"] - 1, extraction.keywords["EXTRYSTP"])


def good_pixels(image: SlitImage) -> NDArray[np.bool_]:
    """Mask of the pixels that have a value."""
    good = np.isfinite(image.data)
    if image.dq is not None:
        good &= (image.dq & np.uint32(DO_NOT_USE)) == 0
    return good


def add_cosmic_rays(simulated: Simulated, seed: int) -> tuple[SlitImage, NDArray[np.bool_]]:
    """Hit 1% of the pixels by 20 to 3000 standard deviations of the background.

    Returns the image and a mask of the pixels that were hit.
    """
    rng = np.random.default_rng(seed + 100)
    image = simulated.image
    data = image.data.copy()
    noise = np.nan_to_num(image.var_poisson + image.var_rnoise)  # rows without a pixel
    sigma = np.sqrt(np.median(noise, axis=-1, keepdims=True))
    hit = rng.random(data.shape) < 0.01
    size = 10 ** rng.uniform(1.3, 3.5, data.shape)
    data[hit] += (size * sigma)[hit].astype(np.float32)
    return replace(image, data=data), hit


@dataclass(frozen=True, eq=False)
class StudyResult:
    """Comparison of many extractions with their truth.

    The bias is sum(flux - truth) / sum(truth) over all rows that have a flux, weighted by the
    inverse variance of the best linear estimate, as the errors of the rows differ by factors. Its
    error is that of the difference from the best linear estimate, which is unbiased and whose noise
    is known.

    Parameters
    ----------
    pulls : ndarray
        (flux - truth) / error of all rows.
    bias, bias_error : float
        See above.
    efficiency : float
        S/N over that of the best linear estimate, from the scatter about the truth.
    reported : float
        The same from the errors that the extraction reports; median.
    position_ratios : ndarray
        Error of the first source's position in each image over the Cramer-Rao bound.
    position_bounds : ndarray
        The bounds in columns.
    rejected : float
        Mean number of rejected pixels per image.
    common_error : float
        Error of the mean of all rows of an image over that of the best linear estimate.
    inspected : list
        Return values of `inspect`, one for each scene.
    """

    pulls: NDArray[np.float64]
    bias: float
    bias_error: float
    efficiency: float
    reported: float
    position_ratios: NDArray[np.float64]
    position_bounds: NDArray[np.float64]
    rejected: float
    common_error: float
    inspected: list[Any]

    @property
    def spread(self) -> float:
        """Standard deviation of the pulls."""
        return float(self.pulls.std())

    @property
    def position(self) -> float:
        """Root mean square of `position_ratios`."""
        return float(np.sqrt(np.mean(self.position_ratios**2)))


@dataclass
class _Sums:
    """Rows and images of all scenes so far."""

    pulls: list[Any] = field(default_factory=list)
    squares: list[Any] = field(default_factory=list)
    reported: list[Any] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)
    cleaned: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    position_ratios: list[float] = field(default_factory=list)
    position_bounds: list[float] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)
    inspected: list[Any] = field(default_factory=list)

    def result(self) -> StudyResult:
        total = np.array(self.weights)
        bias = np.sum(self.cleaned) / total.sum()
        rest = np.array(self.cleaned) / total - bias
        number = len(total)
        bias_error = np.sqrt((rest**2 * total**2).sum() * number / max(number - 1, 1)) / total.sum()
        return StudyResult(
            pulls=np.concatenate(self.pulls),
            bias=float(bias),
            bias_error=float(bias_error),
            efficiency=float(1.0 / np.sqrt(np.mean(np.concatenate(self.squares)))),
            reported=float(np.median(np.concatenate(self.reported))),
            position_ratios=np.array(self.position_ratios),
            position_bounds=np.array(self.position_bounds),
            rejected=float(np.mean(self.rejected)),
            common_error=float(np.sqrt(np.mean((np.array(self.differences) / total) ** 2 * total))),
            inspected=self.inspected,
        )


def study(
    scenes: Iterable[Scene],
    make: Callable[[Scene], Simulated],
    operator: OptimalExtractor,
    *,
    order: int | None = None,
    cosmic_rays: bool = False,
    factor: Any = 1.0,
    separations: tuple[float, ...] = (),
    flux_ratios: tuple[float, ...] = (),
    inspect: Callable[[OptimalResult], Any] | None = None,
) -> StudyResult:
    """Extract scenes and compare the fluxes with the truth and the best linear estimate.

    Parameters
    ----------
    scenes : iterable of Scene
        The scenes.
    make : callable
        Makes the product of a scene.
    operator : OptimalExtractor
        The extractor. If it fits the profile, its flux scale is that of the aperture correction
        of each scene.
    order : int, optional
        Order of the background of the best linear estimate.
    cosmic_rays : bool
        Whether 1% of the pixels are hit.
    factor : float or array_like
        Factor of the flux in each integration of a stack.
    separations, flux_ratios : tuple of float
        Other sources, as for `LinearBound.from_truth`.
    inspect : callable, optional
        Called with each `OptimalResult`.
    """
    sums = _Sums()
    for made in scenes:
        simulated = make(made)
        image, truth = simulated.image, simulated.truth
        good = good_pixels(image)
        if cosmic_rays:
            image, hit = add_cosmic_rays(simulated, made.seed)
            good &= ~hit
        if operator.profile is None:
            correction = made.aperture_correction(image.subarray or "FULL")
            operator = replace(operator, aperture_correction=correction)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LRSWarning)
            result = operator.fit(image)
        if inspect is not None:
            sums.inspected.append(inspect(result))
        extraction = result.extractions[0]
        rows = rows_of(extraction)
        flux, error = (np.atleast_2d(extraction.columns[k]) for k in ("FLUX", "FLUX_ERROR"))
        factors = np.broadcast_to(factor, len(flux))
        data, good = (x.reshape(-1, *x.shape[-2:]) for x in (image.data, good))
        difference_sum = clean_sum = weight_sum = 0.0
        for i, f in enumerate(factors):
            bound = LinearBound.from_truth(
                truth, order, data=data[i], good=good[i], separations=separations,
                flux_ratios=flux_ratios, flux=f * truth.flux, factor=f,
            )  # fmt: skip
            true = truth.flux[rows] * f
            least = bound.error[rows]
            known = np.isfinite(flux[i]) & np.isfinite(least)
            known &= np.atleast_2d(extraction.columns["DQ"])[i] == 0
            # Exclude rows that lost nearly all of their pixels.
            known &= np.where(known, error[i] < 5 * np.nanmedian(error[i]), False)
            difference = (flux[i] - true)[known]
            sums.pulls.append(difference / error[i][known])
            sums.squares.append((difference / least[known]) ** 2)
            sums.reported.append(least[known] / error[i][known])
            weight = true[known] / least[known] ** 2
            difference_sum += (difference * weight).sum()
            clean_sum += ((difference - bound.noise[rows][known]) * weight).sum()
            weight_sum += (true[known] * weight).sum()
        sums.differences.append(difference_sum)
        sums.cleaned.append(clean_sum)
        sums.weights.append(weight_sum)
        if len(factors) == 1 and np.isfinite(bound.information).any():
            distance = result.traces[0] - truth.column
            use = np.isfinite(distance) & np.isfinite(bound.information)
            mean = np.average(distance[use], weights=bound.information[use])
            sums.position_bounds.append(1.0 / np.sqrt(bound.information[use].sum()))
            sums.position_ratios.append(mean / sums.position_bounds[-1])
        sums.rejected.append(result.number_rejected)
    return sums.result()


@cache
def _signal_to_noise(
    product: str, **changes: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithms of fluxes, and of the median signal-to-noise ratio of the rows at each."""
    make, order = PRODUCTS[product]
    levels = np.arange(-7.0, -0.4, 0.5)
    ratios = []
    for level in levels:
        truth = make(scene(0, 10**level, **changes)).truth
        error = LinearBound.from_truth(truth, order).error
        ratios.append(level - np.log10(np.nanmedian(error)))
    return levels, np.array(ratios)


def flux_of(ratio: float, product: str, **changes: Any) -> float:
    """Flux in Jy at which the median signal-to-noise ratio of the rows is `ratio`."""
    levels, ratios = _signal_to_noise(product, **changes)
    return float(10 ** np.interp(np.log10(ratio), ratios, levels))


def changes_of(ratio: float, product: str) -> dict[str, Any]:
    """Other settings of a scene: a flat error of 0.3% does not allow a ratio of 1000."""
    changes: dict[str, Any] = {"flat_error": 1e-3} if ratio > 500 else {}
    if product.startswith("stack"):
        changes |= {"exposure_time": 60.0, "flat_error": 1e-4}
    return changes
