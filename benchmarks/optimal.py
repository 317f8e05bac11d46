"""Optimal extraction compared with the pipeline and specreduce: speed and accuracy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import repeated, show, timed
from glue_lrs import Extract1D, SlitImage
from glue_lrs.io.psf import write_psf
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.reference.reference import Reference
from glue_lrs.simulation.optics import PIXEL_SCALE, PSF, PSFLaw
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source
from glue_lrs.simulation.truth import Simulated

WAVES = np.linspace(2.0, 15.0, 131)
SEEDS = 5


def true_psf(folder: Path, psf: PSFLaw | None = None, halo: float = 0.05) -> Path:
    """Write the PSF of the scenes, or another one, as a PSF reference."""
    subpix, reach = 10, 30
    offset = np.arange(-reach * subpix, reach * subpix + 1) / subpix
    psf = psf or PSF()
    data = np.stack(
        [
            psf.enclosed(
                (offset - 0.5) * PIXEL_SCALE,
                (offset + 0.5) * PIXEL_SCALE,
                np.full(offset.size, wave),
                halo,
            )
            for wave in WAVES
        ]
    )
    path = folder / "psf.fits"
    profile = PSFProfile(data=data, wave=WAVES, subpix=subpix, center=float(reach * subpix))
    write_psf(profile, path, overwrite=True)
    return path


def jwst_optimal(path: Path, reference: Path, psf: Path, number: int) -> tuple[float, Any]:
    """Median seconds of the pipeline's optimal extraction, and its table."""
    from jwst.extract_1d.extract import run_extract1d
    from stdatamodels.jwst import datamodels

    logging.disable(logging.CRITICAL)
    settings = {"psf_ref_name": str(psf), "extraction_type": "optimal"}
    with datamodels.open(path) as model:
        copies = [model.copy() for _ in range(number + 1)]
        for copy in copies:
            copy.data, copy.meta.wcs.bounding_box  # noqa: B018 - loaded before it is timed
        found = run_extract1d(copies.pop(), str(reference), None, **settings)
        table = (
            found[0].spec[0].spec_table if isinstance(found, tuple) else found.spec[0].spec_table
        )
        spent = timed(
            [
                lambda copy=copy: run_extract1d(copy, str(reference), None, **settings)
                for copy in copies
            ]
        )
    return spent, table


def specreduce_horne(image: SlitImage) -> Callable[[], Any]:
    """Specreduce's trace and Horne extraction, on the transposed image."""
    import astropy.units as u
    from astropy.nddata import NDData, VarianceUncertainty
    from specreduce.extract import HorneExtract
    from specreduce.tracing import FitTrace

    # Columns with data, without the negative trace, which HorneExtract does not model.
    has_data = np.isfinite(image.wavelength).all(axis=0) & np.isfinite(image.data).any(axis=0)
    first, last = np.flatnonzero(has_data)[[0, -1]]
    last = min(last, 22)
    part = (slice(None), slice(first, last + 1))
    values = np.array(image.data[part].T, dtype=float)
    variance = np.array(image.err[part].T, dtype=float) ** 2
    bad = ~np.isfinite(values) | ~np.isfinite(variance) | (variance <= 0)
    values[bad], variance[bad] = 0.0, 1.0
    data = NDData(
        values * u.MJy / u.sr, uncertainty=VarianceUncertainty(variance), mask=bad,
    )  # fmt: skip

    def run() -> Any:
        trace = FitTrace(data, peak_method="gaussian", bins=20, guess=13 - first)
        return HorneExtract(data, trace).spectrum

    return run


def accuracy(flux: Any, wavelength: Any, simulated: Simulated) -> str:
    """Bias of the flux, and robust scatter about the truth, between 5 and 12 micron."""
    wave, true = simulated.truth.wavelength, simulated.truth.flux
    known = np.isfinite(wave) & np.isfinite(true)
    order = np.argsort(wave[known])
    expected = np.interp(wavelength, wave[known][order], true[known][order])
    inside = (wavelength > 5) & (wavelength < 12) & np.isfinite(flux) & (flux != 0)
    ratio = np.asarray(flux, dtype=float)[inside] / expected[inside]
    scatter = 1.4826 * np.median(np.abs(ratio - np.median(ratio)))
    total = np.asarray(flux, dtype=float)[inside].sum() / expected[inside].sum() - 1
    return f"flux {100 * total:+6.2f}%, scatter {100 * scatter:.2f}%"


def benchmark_optimal(folder: Path, integrations: int, number: int) -> None:
    """An s2d with a negative trace and a few bad pixels; then a stack."""
    psf = true_psf(folder)
    source = Source(flux=1e-3)
    made = [Scene(seed=seed, sources=(source,), bad_fraction=0.005).s2d(1) for seed in range(SEEDS)]
    images, paths = [], []
    for seed, simulated in enumerate(made):
        paths.append(folder / f"nod{seed}_s2d.fits")
        simulated.image.write(paths[-1])
        images.append(SlitImage.read(paths[-1]))
        _ = images[-1].wcs
    reference = folder / "optimal.json"
    Reference({"apertures": [{"id": images[0].exp_type}]}).write(reference)
    modes: dict[str, dict[str, Any]] = {
        "learned profile, negative trace fitted": {},
        "learned profile alone": {"model_nod_pair": False},
        "PSF reference, negative trace fitted": {"psf": psf, "optimal_mode": "psf"},
        "the pipeline's arithmetic": {"psf": psf, "model_nod_pair": False},
    }
    rows: list[tuple[str, float, float | None]] = []
    results = []
    times = {}
    for name, keys in modes.items():
        extract = Extract1D.from_reference(
            None, images[0].exp_type, extraction_type="optimal", **keys
        )
        times[name] = repeated(extract.run, [(image,) for image in images], number)
        rows.append((name, times[name], None))
        one = extract.run(images[0])
        results.append((name, accuracy(one.columns["FLUX"], one.wavelength, made[0])))
    spent, table = jwst_optimal(paths[0], reference, psf, max(number // 4, 3))
    first = times["learned profile, negative trace fitted"]
    rows.append(("jwst, extraction_type optimal (over the first)", spent, first))
    rows.append(
        ("jwst (over the pipeline's arithmetic)", spent, times["the pipeline's arithmetic"])
    )
    results.append(("jwst", accuracy(table["FLUX"], table["WAVELENGTH"], made[0])))
    calls = [specreduce_horne(image) for image in images]
    horne = repeated(lambda call: call(), [(call,) for call in calls], max(number // 4, 3))
    rows.append(("specreduce: trace + Horne (over the first)", horne, first))
    spectrum = calls[0]()
    wave = np.nanmean(images[0].wavelength, axis=1)
    flux = spectrum.flux.value * images[0].pixel_area * 1e6
    results.append(("specreduce", accuracy(flux, wave, made[0])))
    print(f"\noptimal, s2d {images[0].shape[0]} x {images[0].shape[1]}")
    show(rows)
    width = max(len(name) for name, _ in results)
    print("  against the truth, 5 to 12 um:")
    for name, text in results:
        print(f"    {name:{width}s}  {text}")

    stack = Scene(seed=1, sources=(source,), bad_fraction=0.005).calints(integrations)
    extract = Extract1D.from_reference(None, stack.image.exp_type, extraction_type="optimal")
    spent = repeated(extract.run, [(stack.image,)], 3)
    print(f"\noptimal, calints {' x '.join(map(str, stack.image.data.shape))}, an integration")
    show([("learned profile, a shift for each integration", spent / integrations, None)])
