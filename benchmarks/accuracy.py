"""Accuracy of optimal extraction: simulated scenes with a known truth, case by case.

Fluxes, errors and positions are compared with the best linear estimate
(`glue_lrs.simulation.bounds.LinearBound`), which comes from the scene's profile and true variances.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.psf_laws import benchmark_laws
from glue_lrs.extraction.optimal import OptimalExtractor
from glue_lrs.simulation.bounds import TrueProfile
from glue_lrs.simulation.optics import PIXEL_SCALE, PSF
from glue_lrs.simulation.spectra import Source
from tests.helpers.study import HALO, PRODUCTS, StudyResult, changes_of, flux_of, scene, study

RATIOS = (3.0, 10.0, 30.0, 100.0, 1000.0)
#: Number of scenes at low signal-to-noise ratios, as a multiple of that at others.
MORE = {3.0: 20, 10.0: 4}
#: Seeds that no test uses and no constant was tuned with.
FIRST_SEED = 950_000


def case(
    name: str,
    ratio: float,
    number: int,
    *,
    product: str = "s2d, nod subtracted",
    given: bool = False,
    separation: float | None = None,
    cosmic_rays: bool = False,
) -> StudyResult:
    """Study one case and print its line."""
    make, order = PRODUCTS[product]
    changes = changes_of(ratio, product)
    flux = flux_of(ratio, product, **changes)
    keys: dict[str, Any] = {"order": order, "cosmic_rays": cosmic_rays}
    profile = TrueProfile(PSF(), HALO) if given else None
    operator = OptimalExtractor(profile=profile)
    if separation is not None:
        second = Source(flux=0.6 * flux, halo=HALO, position=separation * PIXEL_SCALE)
        changes["sources"] = (Source(flux=flux, halo=HALO), second)
        keys |= {"separations": (separation,), "flux_ratios": (0.6,)}
        operator = replace(operator, position=(13.0, 13.0 + separation))
    number *= MORE.get(ratio, 1)
    if product.startswith("stack"):
        number = max(number // 4, 3)
    scenes = (scene(FIRST_SEED + i, flux, **changes) for i in range(number))
    found = study(scenes, make, operator, **keys)
    position = f"{found.position:5.2f}" if found.position_ratios.size else "    -"
    print(
        f"  {name:34s} {'given' if given else 'learned':7s} {ratio:5g} {number:4d}  "
        f"{100 * found.bias:+7.3f} +- {100 * found.bias_error:5.3f} {found.spread:6.3f} "
        f"{found.efficiency:6.3f} {position} {found.common_error:6.2f}",
        flush=True,
    )
    return found


def benchmark_accuracy(folder: Path, number: int, quick: bool) -> None:
    """Print tables of all cases and PSF laws, each with this number of scenes.

    If `quick` is True, only a subset of the PSF laws is run.
    """
    if not quick:
        _benchmark_cases(number)
    benchmark_laws(folder, number, quick)


def _benchmark_cases(number: int) -> None:
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
            case(f"{product}, cosmic rays", ratio, number, product=product, cosmic_rays=True)
    for separation in (2.0, 3.0, 4.0, 6.0):
        for ratio in (10.0, 100.0):
            for given in (False, True):
                name = f"blend, {separation:g} columns apart"
                case(name, ratio, number, given=given, separation=separation)
