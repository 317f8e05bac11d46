"""Cost of the checks: processor time of ``run`` with them and without them, in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from glue_lrs import Extract1D, SlitImage
from glue_lrs.instrument import SLITLESS
from glue_lrs.simulation import Scene

PRISM_BACKGROUND = {"bkg_coeff": [[8.5], [18.5], [52.5], [62.5]]}
SLIT = {"xstart": 10, "xstop": 17, "use_source_posn": False}
PRISM = {"xstart": 30, "xstop": 41}

#: Image of a scene, and parameters of the extraction.
CASES: dict[str, tuple[Callable[[Scene], SlitImage], dict[str, Any]]] = {
    "s2d": (lambda scene: scene.s2d(nod=1).image, SLIT),
    "s2d, background": (lambda scene: scene.s2d(nod=1).image, {**SLIT, "bkg_coeff": [[20], [24]]}),
    "s2d, no background subtracted": (
        lambda scene: scene.s2d(nod=1, subtract_nod=False).image,
        SLIT,
    ),
    "one integration": (lambda scene: scene.calints(1).image.integration(0), PRISM),
    "one integration, background": (
        lambda scene: scene.calints(1).image.integration(0),
        PRISM | PRISM_BACKGROUND,
    ),
    "10 integrations": (lambda scene: scene.calints(10).image, PRISM),
    "10 integrations, background": (
        lambda scene: scene.calints(10).image,
        PRISM | PRISM_BACKGROUND,
    ),
    "100 integrations": (lambda scene: scene.calints(100).image, PRISM),
    "100 integrations, background": (
        lambda scene: scene.calints(100).image,
        PRISM | PRISM_BACKGROUND,
    ),
}


def benchmark_checks(number: int) -> None:
    """Print the ratios of the least and median times, of repeated runs and of first runs."""
    print("processor time of run with the checks, of that of run(check=False): least, median")
    for name, (make, keys) in CASES.items():
        images = [make(Scene(seed=seed, bad_fraction=0.001)) for seed in range(3)]
        correction = Scene().aperture_correction(
            "SLITLESSPRISM" if images[0].exp_type == SLITLESS else "FULL", size=range(1, 60)
        )
        operator = Extract1D.from_reference(None, images[0].exp_type, apcorr=correction, **keys)
        size = len(images[0].data) if images[0].is_stack else 1
        line = f"  {name:32s}"
        for fresh in (False, True):
            times: dict[bool, list[float]] = {True: [], False: []}
            for turn in range(max(10 * number // size, 8)):
                for check in (False, True):
                    image = images[turn % len(images)]
                    image = replace(image) if fresh else image  # without what is cached
                    start = time.process_time()
                    operator.run(image, check=check)
                    times[check].append(time.process_time() - start)
            ratios = [f(times[True]) / f(times[False]) for f in (min, statistics.median)]
            line += f"  {'first' if fresh else 'repeated'} {ratios[0]:.2f} {ratios[1]:.2f}"
        print(line, flush=True)
