"""How true optimal extraction is: simulated scenes with a known truth, case by case.

What is best is worked out from the scene's own profile and true variances; no extraction has a part
in it. Errors of the biases are those of what is left when the noise that the best linear estimate
of each row has is taken off: it is known, as the truth is, and it has no bias.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import LRSWarning
from glue_lrs.extraction.optimal import OptimalExtractor
from glue_lrs.extraction.optimal_result import OptimalResult
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.profiles.base import Profile
from glue_lrs.simulation.optics import PIXEL_AREA, PIXEL_SCALE, PSF
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source
from glue_lrs.simulation.truth import Simulated, Truth
from glue_lrs.spectra.extraction import Extraction

JANSKY = PIXEL_AREA * 1e6
HALO = 0.05


class TrueProfile(Profile):
    """The scene's own."""

    def __init__(self, psf: PSF, halo: float) -> None:
        self.psf, self.halo = psf, halo

    def __call__(
        self, offset: NDArray[np.float64], wavelength: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Fraction of the light on pixels."""
        below, above = ((offset + half) * PIXEL_SCALE for half in (-0.5, 0.5))
        return np.nan_to_num(self.psf.enclosed(below, above, wavelength[:, None], self.halo))


def scene(seed: int, flux: Any, **changes: Any) -> Scene:
    """A source with a halo, somewhat off, 2% of the pixels bad."""
    values: dict[str, Any] = {
        "sources": (Source(flux=flux, halo=HALO),),
        "bad_fraction": 0.02,
        "pointing_error": 0.021,
        "seed": seed,
    }
    return Scene(**values | changes)


def light(truth: Truth, apart: float = 0.0) -> NDArray[np.float64]:
    """Fraction of a source's light on each pixel; of the first, or of one so far from it."""
    columns = np.arange(truth.data.shape[1]) - apart
    offset = columns - truth.column[:, None]
    return TrueProfile(truth.psf, truth.halo)(offset, truth.wavelength)


def true_variance(truth: Truth) -> NDArray[np.float64]:
    """All three, NaN where the image has no data."""
    return truth.var_poisson + truth.var_rnoise + truth.var_flat


@dataclass(frozen=True, eq=False)
class Best:
    """The best linear estimates of the fluxes of an image's rows, by its truth.

    Parameters
    ----------
    error : ndarray
        Standard deviation of the first source's flux in Jy, shape (row,).
    noise : ndarray
        The estimate less the truth in Jy.
    position : ndarray
        1 over the variance of the position that a row tells, in columns.
    """

    error: NDArray[np.float64]
    noise: NDArray[np.float64]
    position: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        truth: Truth,
        order: int | None,
        *,
        data: NDArray[Any] | None = None,
        good: NDArray[np.bool_] | None = None,
        apart: tuple[float, ...] = (),
        parts: tuple[float, ...] = (),
        flux: float | NDArray[Any] = np.nan,
        factor: float = 1.0,
    ) -> Best:
        """Work them out.

        Parameters
        ----------
        truth : Truth
            The truth.
        order : int or None
            Order of the background that is fitted.
        data : ndarray, optional
            The noisy image.
        good : ndarray, optional
            Which pixels count; None: all that have data.
        apart : tuple of float
            Columns from the first source to others that are fitted with it.
        parts : tuple of float
            Their fluxes, of the first one's.
        flux : float or ndarray
            Flux in Jy, for the position.
        factor : float
            What the flux of the data is multiplied by.
        """
        variance = true_variance(truth)
        use = np.isfinite(variance) & (variance > 0)
        if good is not None:
            use &= good
        weight = np.zeros_like(variance)
        weight[use] = 1.0 / variance[use]
        profile = light(truth)
        basis = [profile, *(light(truth, c) for c in apart)]
        if order is not None:
            x = np.linspace(-1, 1, profile.shape[1])
            basis += [np.broadcast_to(x**i, profile.shape) for i in range(order + 1)]
        matrix = np.array([[(a * b * weight).sum(axis=1) for a in basis] for b in basis])
        matrix = np.moveaxis(matrix, -1, 0)
        size = np.arange(len(basis))
        scale = np.sqrt(matrix[:, size, size])
        some = (scale > 0).all(axis=1)
        matrix = matrix[some] / scale[some, :, None] / scale[some, None, :]
        fine = np.linalg.cond(matrix) < 1e8
        some[some] = fine
        inverse = np.linalg.inv(matrix[fine]) / scale[some, :, None] / scale[some, None, :]
        error, noise, told = (np.full(len(profile), np.nan) for _ in range(3))
        error[some] = np.sqrt(inverse[:, 0, 0]) * JANSKY
        if data is not None:
            off = np.where(use, data - factor * truth.data, 0.0)
            pull = np.stack([(b * weight * off).sum(axis=1) for b in basis], axis=-1)[some]
            noise[some] = np.einsum("rj,rj->r", inverse[:, 0], pull) * JANSKY
        slopes = [
            (light(truth, c + 0.01) - light(truth, c - 0.01))
            * (50.0 * part * np.broadcast_to(flux, len(profile))[:, None] / JANSKY)
            for c, part in zip((0.0, *apart), (1.0, *parts), strict=True)
        ]
        size = len(slopes)
        known = np.zeros((int(some.sum()), size, size))
        across = [
            np.stack([(b * weight * d).sum(axis=1) for b in basis], axis=-1)[some] for d in slopes
        ]
        for i, j in np.ndindex(size, size):
            known[:, i, j] = (weight * slopes[i] * slopes[j]).sum(axis=1)[some]
            known[:, i, j] -= np.einsum("ri,rij,rj->r", across[i], inverse, across[j])
        # The positions of all sources are free.
        told[some] = 1.0 / np.linalg.inv(known)[:, 0, 0] if size > 1 else known[:, 0, 0]
        return cls(error, noise, told)


def best_box(truth: Truth) -> NDArray[np.float64]:
    """The least relative error of all boxes in each row, without a background; in Jy.

    Position and width are free, and edges may cut pixels: a pixel of weight w adds w to the light
    and w^2 to the variance. For a Gaussian in white noise, finely sampled, it is 1.06 times the
    error of the best weights; with the pixels of LRS, whose FWHM is 2.6 to 3.8 of them, 1.01 to
    1.03 times, as pixels that an edge cuts have weights between 0 and 1 and thus follow the
    profile.
    """
    variance = np.nan_to_num(true_variance(truth))
    profile, columns = light(truth), np.arange(truth.data.shape[1])
    best = np.full(len(profile), np.inf)
    for move in np.arange(-0.5, 0.5, 0.05):
        for width in np.arange(1.0, 14.0, 0.05):
            away = columns - truth.column[:, None] - move
            right, left = np.minimum(away + 0.5, width / 2), np.maximum(away - 0.5, -width / 2)
            weight = np.clip(right - left, 0.0, 1.0)
            with np.errstate(invalid="ignore", divide="ignore"):
                error = np.sqrt((variance * weight**2).sum(1)) / (profile * weight).sum(1)
            best = np.fmin(best, error)
    return best * JANSKY


def rows_of(extraction: Extraction) -> slice:
    """The rows of the image that an extraction has."""
    return slice(extraction.keywords["EXTRYSTR"] - 1, extraction.keywords["EXTRYSTP"])


def good_pixels(image: SlitImage) -> NDArray[np.bool_]:
    """Pixels that have a value."""
    good = np.isfinite(image.data)
    if image.dq is not None:
        good &= (image.dq & np.uint32(DO_NOT_USE)) == 0
    return good


def cosmic_rays(simulated: Simulated, seed: int) -> tuple[SlitImage, NDArray[np.bool_]]:
    """1% of the pixels hit: 20 to 3000 standard deviations of the background; which ones."""
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
class Found:
    """What a number of scenes gave.

    The bias is sum(flux - truth) / sum(truth), over all rows that have a flux (weighted by the
    inverse variance of the best estimate, as the errors of rows differ by factors).

    Parameters
    ----------
    pulls : ndarray
        (flux - truth) / error, of all rows.
    bias, bias_error : float
        See above.
    efficiency : float
        S/N of the best estimate's, from the scatter about the truth.
    told : float
        The same, from the errors that the extraction tells; median.
    moves : ndarray
        Error of the first source's position in each image over the Cramer-Rao bound.
    bounds : ndarray
        The bounds, in columns.
    rejected : float
        Pixels that were left out of an image.
    scatter : float
        Error of the mean of all rows of an image, over that of the best estimate.
    looked : list
        What `look` made of each result.
    """

    pulls: NDArray[np.float64]
    bias: float
    bias_error: float
    efficiency: float
    told: float
    moves: NDArray[np.float64]
    bounds: NDArray[np.float64]
    rejected: float
    scatter: float
    looked: list[Any]

    @property
    def spread(self) -> float:
        """Standard deviation of the pulls."""
        return float(self.pulls.std())

    @property
    def position(self) -> float:
        """Errors of positions over the Cramer-Rao bound, root of the mean square."""
        return float(np.sqrt(np.mean(self.moves**2)))


def study(
    scenes: Iterable[Scene],
    make: Callable[[Scene], Simulated],
    operator: OptimalExtractor,
    *,
    order: int | None = None,
    spoil: bool = False,
    factor: Any = 1.0,
    apart: tuple[float, ...] = (),
    parts: tuple[float, ...] = (),
    look: Callable[[OptimalResult], Any] | None = None,
) -> Found:
    """Extract scenes, and compare with the truth and with the best there is."""
    pulls, offs, clean, weights, squares, told, moved, gone, looked, bounds = (
        [] for _ in range(10)
    )
    for made in scenes:
        simulated = make(made)
        image, truth = simulated.image, simulated.truth
        good = good_pixels(image)
        if spoil:
            image, hit = cosmic_rays(simulated, made.seed)
            good &= ~hit
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LRSWarning)
            result = operator.fit(image)
        if look is not None:
            looked.append(look(result))
        extraction = result.extractions[0]
        rows = rows_of(extraction)
        flux, error = (np.atleast_2d(extraction.columns[k]) for k in ("FLUX", "FLUX_ERROR"))
        factors = np.broadcast_to(factor, len(flux))
        data, good = (x.reshape(-1, *x.shape[-2:]) for x in (image.data, good))
        off_all = clean_all = weight_all = 0.0
        for i, f in enumerate(factors):
            best = Best.of(
                truth, order, data=data[i], good=good[i], apart=apart, parts=parts,
                flux=f * truth.flux, factor=f,
            )  # fmt: skip
            true = truth.flux[rows] * f
            least = best.error[rows]
            known = np.isfinite(flux[i]) & np.isfinite(least)
            # Rows of which bad pixels took nearly all.
            known &= np.where(known, error[i] < 5 * np.nanmedian(error[i]), False)
            off = (flux[i] - true)[known]
            pulls.append(off / error[i][known])
            squares.append((off / least[known]) ** 2)
            told.append(least[known] / error[i][known])
            weight = true[known] / least[known] ** 2
            off_all += (off * weight).sum()
            clean_all += ((off - best.noise[rows][known]) * weight).sum()
            weight_all += (true[known] * weight).sum()
        offs.append(off_all)
        clean.append(clean_all)
        weights.append(weight_all)
        if len(factors) == 1 and np.isfinite(best.position).any():
            away = result.traces[0] - truth.column
            use = np.isfinite(away) & np.isfinite(best.position)
            mean = np.average(away[use], weights=best.position[use])
            bounds.append(1.0 / np.sqrt(best.position[use].sum()))
            moved.append(mean / bounds[-1])
        gone.append(result.number_rejected)
    total = np.array(weights)
    bias = np.sum(clean) / total.sum()
    rest = np.array(clean) / total - bias
    number = len(total)
    spread = np.sqrt((rest**2 * total**2).sum() * number / max(number - 1, 1)) / total.sum()
    return Found(
        np.concatenate(pulls),
        float(bias),
        float(spread),
        float(1.0 / np.sqrt(np.mean(np.concatenate(squares)))),
        float(np.median(np.concatenate(told))),
        np.array(moved),
        np.array(bounds),
        float(np.mean(gone)),
        float(np.sqrt(np.mean((np.array(offs) / total) ** 2 * total))),
        looked,
    )


# --- the table ------------------------------------------------------------------------------------

PRODUCTS: dict[str, tuple[Callable[[Scene], Simulated], int | None]] = {
    "s2d, nod subtracted": (lambda s: s.s2d(1), None),
    "s2d, background": (lambda s: s.s2d(1, subtract_nod=False), 0),
    "cal, nod subtracted": (lambda s: s.cal(2, full_frame=False), None),
    "cal, background": (lambda s: s.cal(1, full_frame=False, subtract_nod=False), 0),
    "both nods": (lambda s: s.combined(), None),
    "stack, slitless": (lambda s: s.calints(INTEGRATIONS), 0),
    "stack, slit": (lambda s: s.slit_calints(INTEGRATIONS), 0),
}
INTEGRATIONS = 8
RATIOS = (3.0, 10.0, 30.0, 100.0, 1000.0)
#: Scenes at low signal-to-noise ratios, as a multiple of those at others.
MORE = {3.0: 20, 10.0: 4}
#: No test and no constant was looked at with scenes of these seeds.
FIRST_SEED = 950_000


@cache
def _ratios(product: str, **changes: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithms of fluxes, and of the signal-to-noise ratio that half the rows exceed."""
    make, order = PRODUCTS[product]
    levels = np.arange(-7.0, -0.4, 0.5)
    found = []
    for level in levels:
        error = Best.of(make(scene(0, 10**level, **changes)).truth, order).error
        found.append(level - np.log10(np.nanmedian(error)))
    return levels, np.array(found)


def flux_of(ratio: float, product: str, **changes: Any) -> float:
    """Flux in Jy of which half the rows have a better signal-to-noise ratio."""
    levels, found = _ratios(product, **changes)
    return float(10 ** np.interp(np.log10(ratio), found, levels))


def changes_of(ratio: float, product: str) -> dict[str, Any]:
    """What else a scene must have: a flat field's error of 0.3% allows no ratio of 1000."""
    changes: dict[str, Any] = {"flat_error": 1e-3} if ratio > 500 else {}
    if product.startswith("stack"):
        changes |= {"exposure_time": 60.0, "flat_error": 1e-4}
    return changes


def case(
    name: str,
    ratio: float,
    number: int,
    *,
    product: str = "s2d, nod subtracted",
    given: bool = False,
    apart: float | None = None,
    spoil: bool = False,
) -> Found:
    """Study one case and print its line."""
    make, order = PRODUCTS[product]
    changes = changes_of(ratio, product)
    flux = flux_of(ratio, product, **changes)
    keys: dict[str, Any] = {"order": order, "spoil": spoil}
    profile = TrueProfile(PSF(), HALO) if given else None
    operator = OptimalExtractor(profile=profile)
    if apart is not None:
        second = Source(flux=0.6 * flux, halo=HALO, position=apart * PIXEL_SCALE)
        changes["sources"] = (Source(flux=flux, halo=HALO), second)
        keys |= {"apart": (apart,), "parts": (0.6,)}
        operator = replace(operator, position=(13.0, 13.0 + apart))
    number *= MORE.get(ratio, 1)
    if product.startswith("stack"):
        number = max(number // 4, 3)
    scenes = (scene(FIRST_SEED + i, flux, **changes) for i in range(number))
    found = study(scenes, make, operator, **keys)
    position = f"{found.position:5.2f}" if found.moves.size else "    -"
    print(
        f"  {name:34s} {'given' if given else 'learned':7s} {ratio:5g} {number:4d}  "
        f"{100 * found.bias:+7.3f} +- {100 * found.bias_error:5.3f} {found.spread:6.3f} "
        f"{found.efficiency:6.3f} {position} {found.scatter:6.2f}",
        flush=True,
    )
    return found


def benchmark_accuracy(number: int) -> None:
    """Print a table of all cases, each of so many scenes."""
    print(
        "  what                               profile   S/N scenes    bias in %      pulls    S/N "
        "position  common\n"
        "  S/N: over that of the best linear estimate; position: error over the Cramer-Rao bound;\n"
        "  common: error of the mean of all rows over that of the best estimate"
    )
    for product in PRODUCTS:
        for ratio in RATIOS:
            case(product, ratio, number, product=product)
    for ratio in RATIOS:
        case("s2d, nod subtracted", ratio, number, given=True)
    for product in ("s2d, background", "cal, nod subtracted"):
        for ratio in (10.0, 100.0):
            case(f"{product}, cosmic rays", ratio, number, product=product, spoil=True)
    for apart in (2.0, 3.0, 4.0, 6.0):
        for ratio in (10.0, 100.0):
            for given in (False, True):
                case(f"blend, {apart:g} columns apart", ratio, number, given=given, apart=apart)
