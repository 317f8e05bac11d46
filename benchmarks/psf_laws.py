"""Accuracy of optimal extraction on PSFs that differ from the prior, band by band.

Each law of `glue_lrs.simulation.LAWS` is extracted with the fitted profile, and with three others:
the pipeline's optimal extraction with the true PSF, specreduce, and a plain algorithm after Horne
(1986). Only the fitted profile is tied to an aperture correction, which the others cannot be; their
bias includes the light beyond their aperture.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.optimal import jwst_optimal, specreduce_horne, true_psf
from glue_lrs._utils.typing import Array
from glue_lrs.extraction.optimal import OptimalExtractor
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.reference.reference import Reference
from glue_lrs.simulation import LAWS, Scene, Source
from glue_lrs.simulation.bounds import LinearBound
from glue_lrs.simulation.truth import Simulated
from tests.helpers.study import PRODUCTS, changes_of, flux_of, good_pixels, scene

BANDS = ((5.0, 6.5), (6.5, 8.5), (8.5, 11.0), (11.0, 13.5))
RATIOS = (3.0, 30.0, 300.0, 1000.0)
PRODUCT = "s2d, nod subtracted"
#: Laws, signal-to-noise ratios and number of scenes of the subset for CI.
QUICK = (("constant", "diffraction", "cross"), (30.0, 300.0), 3)
#: Seeds that no test uses and no constant was tuned with.
FIRST_SEED = 970_000
#: Half width in columns of the aperture of the plain algorithm.
HALF_WIDTH = 7


def plain_horne(image: SlitImage, column: Array) -> tuple[Array, Array]:
    """Flux and error of each row (Jy), after Horne (1986), with a profile fitted to the image.

    The fraction of the flux in each column is a cubic polynomial of the row, fitted once and again
    without outliers of 5 standard deviations, set to 0 where it is negative, and normalised.
    """
    columns = np.arange(image.shape[1])
    near = np.abs(columns - column[:, np.newaxis]) <= HALF_WIDTH
    variance = image.err.astype(float) ** 2
    use = near & good_pixels(image) & (variance > 0)
    data, variance = np.where(use, image.data, 0.0), np.where(use, variance, 1.0)
    box = data.sum(axis=1, keepdims=True)
    row = np.linspace(-1.0, 1.0, len(data))
    kept, profile = use & (box > 0), np.zeros(data.shape)
    for _ in range(2):
        for c in np.flatnonzero(kept.sum(axis=0) > 20):
            i = kept[:, c]
            weight = np.abs(box[i, 0]) / np.sqrt(variance[i, c])
            fit = np.polynomial.legendre.legfit(row[i], data[i, c] / box[i, 0], 3, w=weight)
            profile[:, c] = np.maximum(np.polynomial.legendre.legval(row, fit), 0.0)
        profile *= near
        profile /= np.maximum(profile.sum(axis=1, keepdims=True), 1e-9)
        kept &= np.abs(data - box * profile) < 5.0 * np.sqrt(variance)
    power = (use * profile**2 / variance).sum(axis=1)
    scale = image.pixel_area * 1e6
    with np.errstate(invalid="ignore", divide="ignore"):
        flux = (use * profile * data / variance).sum(axis=1) / power
        return flux * scale, scale / np.sqrt(power)


class Comparison:
    """Differences from the truth of one kind of extraction, for all scenes so far."""

    def __init__(self) -> None:
        self.rows: list[Array] = []

    def add(
        self, simulated: Simulated, bound: LinearBound, wave: Array, flux: Array, error: Array
    ) -> None:
        """Add the rows of a spectrum, which are assigned to the image by their wavelengths."""
        truth = simulated.truth
        known = np.flatnonzero(np.isfinite(truth.wavelength) & np.isfinite(bound.error))
        for w, f, e in zip(wave, flux, error, strict=True):
            if np.isfinite(w) and np.isfinite(f) and f != 0:
                i = known[np.abs(truth.wavelength[known] - w).argmin()]
                difference = f - truth.flux[i]
                noise, least = bound.noise[i], bound.error[i]
                self.rows.append(np.array([w, truth.flux[i], difference, noise, least, e]))

    def __str__(self) -> str:
        """Bias and its standard error in each band, relative S/N, and pulls."""
        if not self.rows:
            return "nothing extracted"
        wave, true, difference, noise, least, error = np.array(self.rows).T
        text = ""
        for first, last in BANDS:
            i = (wave >= first) & (wave < last)
            weight = true[i] / least[i] ** 2
            total = (true[i] * weight).sum()
            cleaned = (difference - noise)[i] * weight
            bias = cleaned.sum() / total
            uncertainty = np.sqrt(((cleaned - bias * true[i] * weight) ** 2).sum()) / total
            text += f" {100 * bias:+7.2f} +-{100 * uncertainty:5.2f}"
        i = (wave >= BANDS[0][0]) & (wave < BANDS[-1][1])
        efficiency = 1.0 / np.sqrt(1.0 + np.mean(((difference - noise)[i] / least[i]) ** 2))
        pulls = (difference / error)[i]
        pulls = pulls[np.isfinite(pulls)]
        shown = (
            f"{np.sqrt(np.mean(pulls**2)):6.2f} {np.abs(pulls).max():6.1f}" if pulls.size else ""
        )
        return f"{text}  {efficiency:5.3f} {shown}"


def scenes_of(law: str, ratio: float, number: int) -> Iterator[tuple[Scene, Simulated]]:
    """Scenes of a law in which the median S/N of the rows is `ratio`, and their images."""
    changes: dict[str, Any] = {"psf": LAWS[law], **changes_of(ratio, PRODUCT)}
    flux = flux_of(ratio, PRODUCT, **changes)
    changes["sources"] = (Source(flux=flux, halo=0.0),)
    for i in range(number):
        made = scene(FIRST_SEED + i, flux, **changes)
        yield made, PRODUCTS[PRODUCT][0](made)


def compare(folder: Path, law: str, ratio: float, number: int) -> dict[str, Comparison]:
    """Extract all scenes of a law with each kind of extraction; the slow ones only once."""
    found = {name: Comparison() for name in ("fitted profile", "Horne", "jwst", "specreduce")}
    psf = true_psf(folder, LAWS[law], halo=0.0)
    for i, (made, simulated) in enumerate(scenes_of(law, ratio, number)):
        image, truth = simulated.image, simulated.truth
        bound = LinearBound.from_truth(truth, None, data=image.data, good=good_pixels(image))
        correction = made.aperture_correction(image.subarray or "FULL")
        ours = OptimalExtractor(aperture_correction=correction).run(image, check=False)
        good = ours.columns["DQ"] == 0
        flux = np.where(good, ours.columns["FLUX"], np.nan)
        found["fitted profile"].add(
            simulated, bound, ours.wavelength, flux, ours.columns["FLUX_ERROR"]
        )
        found["Horne"].add(simulated, bound, truth.wavelength, *plain_horne(image, truth.column))
        if i:
            continue
        path, reference = folder / "image_s2d.fits", folder / "optimal.json"
        image.write(path, overwrite=True)
        Reference({"apertures": [{"id": image.exp_type}]}).write(reference, overwrite=True)
        table = jwst_optimal(path, reference, psf, 1)[1]
        columns = (np.asarray(table[name]) for name in ("WAVELENGTH", "FLUX", "FLUX_ERROR"))
        found["jwst"].add(simulated, bound, *columns)
        spectrum = specreduce_horne(SlitImage.read(path))()
        flux = spectrum.flux.value * image.pixel_area * 1e6
        error = np.full(flux.size, np.nan)
        found["specreduce"].add(simulated, bound, truth.wavelength, flux, error)
    return found


def benchmark_laws(folder: Path, number: int, quick: bool) -> None:
    """Print a table of all PSF laws, or of a subset.

    Parameters
    ----------
    folder : Path
        Folder for temporary files.
    number : int
        Number of scenes.
    quick : bool
        Whether only `QUICK` is run, which takes some minutes.
    """
    laws, ratios, number = QUICK if quick else (tuple(LAWS), RATIOS, number)
    bands = "".join(f"{first:8g} to {last:4g} um" for first, last in BANDS)
    print(
        f"\n  bias in percent by band; S/N over that of the best linear estimate; pulls, largest\n"
        f"  {PRODUCT}\n  {'PSF':12s} {'S/N':>5s} {'extraction':14s}{bands}    S/N  pulls    max"
    )
    for law in laws:
        for ratio in ratios:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = compare(folder, law, ratio, number)
            for name, comparison in found.items():
                print(f"  {law:12s} {ratio:5g} {name:14s}{comparison}", flush=True)
