"""Public objects and results in other processes, and their copies."""

from __future__ import annotations

import copy
import inspect
import io
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from specutils import Spectrum, SpectrumList

import glue_lrs
from glue_lrs import (
    Aperture,
    Background,
    Extract1D,
    LRSWarning,
    OptimalExtractor,
    Reference,
)
from glue_lrs._utils.lazy_header import LazyHeader  # noqa: PLC2701
from glue_lrs.combination.combination import Combination, CombineInput
from glue_lrs.errors import Hint, ProductError
from glue_lrs.extraction.optimal_result import OptimalResult
from glue_lrs.measurement.curve_of_growth import CurveOfGrowth
from glue_lrs.measurement.measurement import Measurement
from glue_lrs.profiles import GaussianProfile
from glue_lrs.reference.reference import ReferenceIssue
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import BlackBody, Source, Supernova
from glue_lrs.simulation.truth import Simulated
from glue_lrs.spectra.findings import Finding
from glue_lrs.spectra.provenance import CombinationProvenance, Provenance
from glue_lrs.spectra.to_specutils import Meta
from tests.helpers.content import assert_same_content, returned
from tests.helpers.images import correction
from tests.helpers.profiles import PROFILES

PLAIN = Extract1D(aperture=Aperture(xstart=9, xstop=17))
EXTRACT = replace(PLAIN, aperture_correction=correction())

#: Classes of results that are not among the names of the package.
RESULTS = (
    Combination, CombinationProvenance, CombineInput, CurveOfGrowth, LazyHeader, Measurement, Meta,
    OptimalResult, Provenance, ReferenceIssue, Simulated, Spectrum, SpectrumList,
)  # fmt: skip


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One or more objects of each public class."""
    scene = Scene(seed=1, sources=(Source(flux=Supernova(level=1.5e-2), halo=0.0),))
    simulated = [scene.s2d(nod=1), scene.s2d(nod=2)]
    image, stack = simulated[0].image, scene.calints(3).image
    made: dict[str, Any] = {
        "scene": scene,
        "simulated": simulated[0],
        "black body": BlackBody(900.0),
        "image": image,
        "stack": stack,
        "aperture": EXTRACT.aperture,
        "background": Background(bkg_coeff=((2.5,), (5.5,)), bkg_fit="median"),
        "aperture correction": EXTRACT.aperture_correction,
        "operator": EXTRACT,
        "reference": Reference({"apertures": [{"id": image.exp_type, "xstart": 3, "xstop": 9}]}),
        "issue": ReferenceIssue("warning", "an issue"),
        "error": ProductError("text", subject="f.fits", hint=Hint.to("set {}", "column", row=3)),
        "warning": LRSWarning("text", subject="f.fits", hint=Hint.to("set {}", "column")),
        "finding": Finding("lost_pixels", "text", {"rows": 3}, Hint.to("set {}", "column")),
        "optimal": OptimalExtractor(),
        "extraction": EXTRACT.run(image),
        "stack of spectra": PLAIN.run(stack),
        "fitted spectrum": OptimalExtractor().run(image),
        "fit": OptimalExtractor(profile=GaussianProfile()).fit(image),
        "measurement": glue_lrs.measure(image),
        "curve of growth": glue_lrs.curve_of_growth(image),
    }
    inputs = [EXTRACT.run(one.image) for one in simulated]
    made["combination"] = glue_lrs.combine(inputs, allow_opposite=True)  # nod 2 at nod 1
    made["combination of a stack"] = glue_lrs.combine([stack], extract=PLAIN, sigma_clip=4)
    made["input"] = made["combination"].inputs[0]
    made |= PROFILES
    made |= _read(made, tmp_path_factory.mktemp("products"))
    for name in ("image", "stack", "extraction", "stack of spectra", "combination", "read c1d"):
        made[f"spectrum of {name}"] = made[name].to_spectrum()
    for name in ("extraction", "combination"):
        made[f"table of {name}"] = made[name].table
        made[f"provenance of {name}"] = made[name].provenance
    made["changed spectrum"] = made["spectrum of extraction"] * 2
    made["header"] = made["image"].header
    made["meta"] = made["spectrum of extraction"].meta
    return made


def _read(made: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What is read from files, from file objects and from opened files."""
    read: dict[str, Any] = {}
    names = {"image": "s2d", "stack": "calints", "extraction": "x1d"}
    names |= {"stack of spectra": "x1dints", "combination": "c1d"}
    for name, kind in names.items():
        path = folder / f"a_{kind}.fits"
        made[name].write(path)
        cls = type(made[name])
        read[f"read {kind}"] = cls.read(path)
        read[f"{kind} of bytes"] = cls.read(io.BytesIO(path.read_bytes()))
        with fits.open(path) as hdulist:
            read[f"{kind} of HDUs"] = copy.deepcopy(cls.read(hdulist))
        form = {"s2d": "lrs-s2d", "calints": "lrs-s2d", "c1d": "lrs-c1d"}.get(kind, "lrs-x1d")
        read[f"spectrum read from {kind}"] = Spectrum.read(path, format=form)
    read["list"] = SpectrumList.read(folder / "a_x1d.fits", format="lrs-x1d")
    for name in ("read s2d", "read calints"):
        read[f"extraction of {name}"] = PLAIN.run(read[name])
    return read


WAYS: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_copies_have_the_same_content(way: str, objects: dict[str, Any]) -> None:
    for name, value in objects.items():
        assert_same_content(value, WAYS[way](value), name)


def test_no_public_class_is_left_out(objects: dict[str, Any]) -> None:
    public = [getattr(glue_lrs, name) for name in glue_lrs.__all__]
    classes = [one for one in public if inspect.isclass(one)]
    values = objects.values()
    missing = [
        one.__name__
        for one in (*classes, *RESULTS)
        if not any(isinstance(value, one) for value in values)
    ]
    assert missing == []
    for one in public:
        assert pickle.loads(pickle.dumps(one)) is one


@pytest.mark.slow
def test_objects_pass_through_a_spawned_process(objects: dict[str, Any]) -> None:
    made = objects
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for name, back in zip(made, pool.map(returned, made.values()), strict=True):
            assert_same_content(made[name], back, name)
        (there,) = pool.map(EXTRACT.run, [made["image"]])
    for name, values in made["extraction"].columns.items():
        np.testing.assert_array_equal(there.columns[name], values)
    assert there.keywords == made["extraction"].keywords


def test_a_deep_copy_of_a_combination_is_independent(objects: dict[str, Any]) -> None:
    original: Combination = objects["combination"]
    made = copy.deepcopy(original)
    for name, values in original.columns.items():
        assert not np.shares_memory(made.columns[name], values)
    made.header["TARGNAME"] = made.to_spectrum().meta["header"]["TARGNAME"] = "another"
    assert original.header["TARGNAME"] != "another"
    spectrum = original.to_spectrum()
    spectrum.meta["header"]["TARGNAME"] = "another"
    assert original.header["TARGNAME"] != "another"
    assert copy.deepcopy(spectrum).meta["combination"] is original
