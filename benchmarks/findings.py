"""Findings about clean scenes: the number of warnings and errors that should not have been issued.

The point spread function, the flux (1e-5 to 1e-2 Jy) and the nod change from one scene to the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from glue_lrs import Extract1D, Extraction, LRSError, SlitImage, combine
from glue_lrs.extraction.extract import operator_for
from glue_lrs.io.x1d_reader import read_x1d
from glue_lrs.simulation import LAWS, Scene, Source
from glue_lrs.spectra.findings import Finding

PRISM_BACKGROUND = [[8.5], [18.5], [52.5], [62.5]]

#: Image of a scene with a number, and the parameters of its extraction, for each kind of product.
PRODUCTS: dict[str, tuple[Callable[[Scene, int], SlitImage], dict[str, Any]]] = {
    "s2d": (lambda scene, n: scene.s2d(nod=1 + n % 2).image, {}),
    "s2d, background regions": (
        lambda scene, n: scene.s2d(nod=1 + n % 2, subtract_nod=False).image,
        {"background": "auto"},
    ),
    "s2d without background": (
        lambda scene, n: scene.s2d(nod=1 + n % 2, subtract_nod=False).image,
        {},
    ),
    "s2d, optimal": (
        lambda scene, n: scene.s2d(nod=1 + n % 2).image,
        {"extraction_type": "optimal"},
    ),
    "s2d, level 3": (lambda scene, n: scene.combined().image, {}),
    "cal": (lambda scene, n: scene.cal(nod=1 + n % 2).image, {}),
    "calints": (lambda scene, n: scene.calints(n_int=3).image, {"bkg_coeff": PRISM_BACKGROUND}),
    "calints without background": (lambda scene, n: scene.calints(n_int=3).image, {}),
    "one integration": (
        lambda scene, n: scene.calints(n_int=1).image.integration(0),
        {"bkg_coeff": PRISM_BACKGROUND},
    ),
}


def clean_scene(number: int, **values: Any) -> Scene:
    """The scene with a number, which also chooses the point spread function."""
    flux = 10.0 ** np.random.default_rng(number).uniform(-5.0, -2.0)
    law = list(LAWS.values())[number % len(LAWS)]
    return Scene(seed=number, psf=law, sources=(Source(flux=flux),), **values)


def image_findings(name: str, number: int) -> tuple[Finding, ...]:
    """All findings about the image of a clean scene."""
    make, keys = PRODUCTS[name]
    values = {"background": 0.0} if "without background" in name else {}
    image = make(clean_scene(number, **values), number)
    return operator_for(image, **keys).check(image)


def _spectra(number: int, name: str) -> list[Extraction]:
    """Spectra of both nods, or of a stack."""
    scene = clean_scene(number)
    if name == "x1dints":
        images, keys = [scene.calints(n_int=3).image], {"bkg_coeff": PRISM_BACKGROUND}
    else:
        images, keys = [scene.s2d(nod=nod).image for nod in (1, 2)], {}
    return [Extract1D.from_reference(None, one.exp_type, **keys).run(one) for one in images]


def _without_record(spectrum: Extraction, folder: Path) -> Extraction:
    """The spectrum as read from a file that another program wrote."""
    path = folder / "made_x1d.fits"
    spectrum.write(path, overwrite=True)
    (read,) = read_x1d(path)
    return replace(read, provenance=None)


def file_findings(name: str, number: int, folder: Path) -> Iterable[Finding]:
    """Findings about spectra that are written and read again, or combined."""
    spectra = _spectra(number, name)
    if name == "c1d":
        return combine(spectra).findings
    return [one for each in spectra for one in _without_record(each, folder).findings]


SPECTRA = ("x1d", "x1dints", "c1d")


def benchmark_findings(folder: Path, number: int, only: str | None = None) -> None:
    """Count the warnings and errors about clean scenes of each kind."""
    print(f"{number} clean scenes of each kind: warnings and errors")
    for name in [*PRODUCTS, *SPECTRA]:
        if only not in (None, name):
            continue
        found: Counter[str] = Counter()
        for n in range(number):
            try:
                if name in PRODUCTS:
                    findings = image_findings(name, n)
                else:
                    findings = tuple(file_findings(name, n, folder))
            except LRSError as error:
                found[type(error).__name__] += 1
                print(f"    scene {n}: {error}")
                continue
            for one in findings:
                if one.severity != "info":
                    found[one.kind] += 1
                    print(f"    scene {n}: {one.kind}: {one.text}")
        print(f"  {name:28s} {dict(found) or 'none'}", flush=True)
