"""Findings about clean scenes: the number of warnings and errors that should not have been issued.

The point spread function, the flux (1e-5 to 1e-2 Jy) and the nod change from one scene to the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from glue_lrs import Extract1D, LRSError, SlitImage
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.simulation import LAWS, Scene, Source

PRISM_BACKGROUND = [[8.5], [18.5], [52.5], [62.5]]

#: Image of a scene with a number, and the parameters of its extraction, for each kind of product.
PRODUCTS: dict[str, tuple[Callable[[Scene, int], SlitImage], dict[str, Any]]] = {
    "s2d": (lambda scene, n: scene.s2d(nod=1 + n % 2).image, {}),
    "s2d, optimal": (
        lambda scene, n: scene.s2d(nod=1 + n % 2).image,
        {"extraction_type": "optimal"},
    ),
    "s2d, level 3": (lambda scene, n: scene.combined().image, {}),
    "cal": (lambda scene, n: scene.cal(nod=1 + n % 2).image, {}),
    "calints": (lambda scene, n: scene.calints(n_int=3).image, {"bkg_coeff": PRISM_BACKGROUND}),
    "calints without background": (lambda scene, n: scene.calints(n_int=3).image, {}),
}


def clean_scene(number: int, **values: Any) -> Scene:
    """The scene with a number, which also chooses the point spread function."""
    flux = 10.0 ** np.random.default_rng(number).uniform(-5.0, -2.0)
    law = list(LAWS.values())[number % len(LAWS)]
    return Scene(seed=number, psf=law, sources=(Source(flux=flux),), **values)


def benchmark_findings(number: int) -> None:
    """Count the warnings and errors about clean scenes of each kind."""
    print(f"{number} clean scenes of each kind: warnings and errors")
    for name, (make, keys) in PRODUCTS.items():
        found: Counter[str] = Counter()
        values = {"background": 0.0} if "without background" in name else {}
        for n in range(number):
            image = make(clean_scene(n, **values), n)
            exp_type = SLITLESS if image.is_stack else FIXED_SLIT
            operator = Extract1D.from_reference(None, exp_type, **keys)
            try:
                findings = operator.check(image)
            except LRSError as error:
                found[type(error).__name__] += 1
                continue
            found.update(one.kind for one in findings if one.severity != "info")
        print(f"  {name:28s} {dict(found) or 'none'}", flush=True)
