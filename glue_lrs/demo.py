"""Demonstration: extract simulated spectra as in the LRS notebook of STScI and check the fluxes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from glue_lrs.errors import LRSWarning
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.io.files import already_exists
from glue_lrs.plotting import plot_comparison, plot_product, plot_stack, plot_width, save
from glue_lrs.simulation.optics import PIXEL_SCALE
from glue_lrs.simulation.scene import Scene, demo_scene
from glue_lrs.simulation.spectra import Source, Supernova
from glue_lrs.simulation.truth import Simulated
from glue_lrs.spectra.extraction import Extraction

#: Half width of the tapered aperture in pixels, as a linear function of the wavelength in micron:
#: constant term and slope. STScI's LRS extraction notebook fits this function to 1.5 FWHM.
TAPER = (2.445618715370405, 0.2579519802996102)
#: Table to which `TAPER` is fitted: FWHM of the PSF in arcsec at wavelengths in micron.
FWHM_WAVELENGTH, FWHM = (5.0, 7.5, 10.0, 12.0), (0.29, 0.30, 0.36, 0.42)
#: Column of the target in the simulated level-3 image.
_CENTRE = 30.5
#: Wavelength range in micron in which extracted and true spectra are compared. LRS has little
#: throughput outside this range.
_COMPARED = (5.0, 12.0)
#: Number of integrations of the simulated time series.
_INTEGRATIONS = 16
#: Flux of the simulated supernova at 7 micron in Jy.
_LEVEL = 1.5e-4


@dataclass(frozen=True)
class Example:
    """Example of an extraction: a simulated product and the aperture for it.

    Parameters
    ----------
    name : str
        Name of the example in file names and in the table.
    product : str
        Simulated image: ``"nod1_s2d"``, ``"level3_s2d"`` or ``"slitless_calints"``.
    keys : dict
        Keys of the aperture in the EXTRACT1D reference. `run_demo` adds the key ``id``, and sets
        ``use_source_posn`` to False.
    description : str
        Short description of the aperture.
    """

    name: str
    product: str
    keys: dict[str, Any]
    description: str

    @property
    def exp_type(self) -> str:
        """EXP_TYPE of the simulated image."""
        return SLITLESS if self.product.startswith("slitless") else FIXED_SLIT


_NOD = {"xstart": 9, "xstop": 17}
#: The five worked examples from STScI's LRS extraction notebook, and a slitless time series.
EXAMPLES = (
    Example("default", "level3_s2d", {"xstart": 27, "xstop": 34}, "columns 27 - 34"),
    Example("wider", "level3_s2d", {"xstart": 25, "xstop": 36}, "columns 25 - 36"),
    Example("nod", "nod1_s2d", _NOD, "columns 9 - 17"),
    Example(
        "background",
        "nod1_s2d",
        {**_NOD, "bkg_coeff": [[0.5], [4.5], [38.5], [43.5]], "bkg_fit": "median"},
        "the same, minus a median background",
    ),
    Example(
        "tapered",
        "level3_s2d",
        {
            "src_coeff": [[_CENTRE - TAPER[0], -TAPER[1]], [_CENTRE + TAPER[0], TAPER[1]]],
            "independent_var": "wavelength",
        },
        "1.5 FWHM on either side",
    ),
    Example(
        "slitless",
        "slitless_calints",
        {
            "xstart": 30,
            "xstop": 41,
            "bkg_coeff": [[8.5], [20.5], [50.5], [62.5]],
            "bkg_fit": "median",
        },
        f"columns 30 - 41, {_INTEGRATIONS} integrations",
    ),
)


@dataclass(frozen=True)
class Score:
    """Comparison of an extracted spectrum with the true spectrum between 5 and 12 micron.

    Parameters
    ----------
    ratio : float
        Median of the ratio of extracted flux to true flux.
    rms : float
        Root mean square of (extracted flux - true flux) / error. It is about 1 if the fluxes are
        unbiased and the errors are correct.
    pull : float
        Standard deviation of (extracted flux - true flux) / error. Unlike `rms`, it is not affected
        by a constant offset.
    signal_to_noise : float
        Median of the ratio of flux to error.
    compared, excluded : int
        Numbers of fluxes that were compared with the truth, and that were excluded because of a bad
        pixel in the aperture.
    """

    ratio: float
    rms: float
    pull: float
    signal_to_noise: float
    compared: int
    excluded: int


@dataclass(frozen=True)
class DemoResult:
    """Result of the demonstration.

    Parameters
    ----------
    scores : dict
        Score of each example, with the name of the example as key.
    files : list of Path
        Paths of all files that were written.
    notes : list of str
        Texts of the warnings that the extractions issued.
    """

    scores: dict[str, Score]
    files: list[Path]
    notes: list[str] = field(default_factory=list)

    @property
    def advice(self) -> str:
        """Two lines of text: which figures to look at, and which command to try next."""
        folder = self.files[0].parent
        return (
            f"look at   {folder / 'demo_compared.png'} and {folder / 'demo_background.png'}: "
            "without its two regions some background remains\n"
            f"try next  glue-lrs extract {folder / 'demo_nod2_s2d.fits'} "
            f"--apcorr {folder / 'demo_apcorr.fits'} --plot"
        )

    @property
    def table(self) -> list[dict[str, str]]:
        """Table of the scores, one dict per example, with the column headings as keys."""
        return [
            {
                "example": example.name,
                "image": example.product,
                "flux/truth": f"{score.ratio:.4f}",
                "rms [sigma]": f"{score.rms:.2f}",
                "pull std": f"{score.pull:.2f}",
                "median S/N": f"{score.signal_to_noise:.1f}",
                "bad pixel": str(score.excluded),
                "aperture": example.description,
            }
            for example in EXAMPLES
            for score in [self.scores[example.name]]
        ]


def run_demo(
    output_dir: str | PathLike[str],
    *,
    overwrite: bool = False,
    report: Callable[[str], object] = lambda text: None,
) -> DemoResult:
    """Simulate files, extract and plot spectra, and compare the spectra with the true spectra.

    Parameters
    ----------
    output_dir : str or path-like
        Folder for the files, which is created if it does not exist.
    overwrite : bool
        Whether existing files may be replaced.
    report : callable
        Function that is called with a line of text when a stage of the demonstration starts.

    Returns
    -------
    DemoResult
        Scores, files and warnings.

    Raises
    ------
    WriteError
        If a file exists and `overwrite` is False, or a file cannot be written.
    """
    folder = Path(output_dir)
    files = {key: folder / f"demo_{name}" for key, name in _file_names().items()}
    for path in files.values():
        if path.exists() and not overwrite:
            raise already_exists(path)
    folder.mkdir(parents=True, exist_ok=True)
    # The source is so faint that the background is conspicuous where it is not subtracted.
    scene = replace(demo_scene(), sources=(Source(flux=Supernova(level=_LEVEL)),))

    report("simulating: two nods, both combined, a slitless time series ...")
    products = _products(scene)
    for name, product in products.items():
        product.image.write(files[name], overwrite=overwrite)
    tables = [
        scene.aperture_correction(subarray, size=np.arange(1, 31))
        for subarray in ("FULL", "SLITLESSPRISM")
    ]
    write_apcorr(tables, files["apcorr"], overwrite=overwrite)

    report("extracting and drawing: " + ", ".join(example.name for example in EXAMPLES) + " ...")
    scores: dict[str, Score] = {}
    slit: dict[str, Extraction] = {}
    notes: list[str] = []
    for example in EXAMPLES:
        product = products[example.product]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LRSWarning)
            spectrum = _run(example, product, files, overwrite)
        notes += [f"{example.name}: {warning.message}" for warning in caught]
        scores[example.name] = _compare(spectrum, product)
        if example.exp_type == FIXED_SLIT:
            slit[f"{example.name}: {example.description}"] = spectrum
    truth = products["level3_s2d"].truth
    title = "the five worked examples, and the truth"
    compared = plot_comparison(
        slit, truth=(truth.wavelength, truth.flux), figure=Figure, title=title
    )
    save(compared.figure, files["compared"], overwrite=overwrite)
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    ax = plot_width(FWHM_WAVELENGTH, FWHM, TAPER, pixel_scale=PIXEL_SCALE, ax=figure.subplots())
    ax.set_title("the tapered aperture: a line through 1.5 FWHM", fontsize="medium", loc="left")
    save(figure, files["width"], overwrite=overwrite)
    return DemoResult(scores, list(files.values()), notes)


def _file_names() -> dict[str, str]:
    """Return the names of all files of the demonstration, without the prefix ``demo_``."""
    products = ("nod1_s2d", "nod2_s2d", "level3_s2d", "slitless_calints", "apcorr")
    names = {product: f"{product}.fits" for product in products}
    for example in EXAMPLES:
        name = example.name
        ending = "x1dints" if example.product.endswith("calints") else "x1d"
        names[f"{name} json"] = f"{name}_extract1d.json"
        names[f"{name} x1d"] = f"{name}_{ending}.fits"
        names[f"{name} png"] = f"{name}.png"
    names["light curve"] = "slitless_light_curve.png"
    return {**names, "compared": "compared.png", "width": "tapered_width.png"}


def _products(scene: Scene) -> dict[str, Simulated]:
    # Relative brightness of the source in each integration, for a transit with a depth of 1%.
    phase = np.linspace(-1.0, 1.0, _INTEGRATIONS)
    factors = 1.0 - 0.01 / (1.0 + np.exp((np.abs(phase) - 0.45) / 0.04))
    return {
        "nod1_s2d": scene.s2d(1),
        "nod2_s2d": scene.s2d(2),
        "level3_s2d": scene.combined(),
        "slitless_calints": scene.calints(_INTEGRATIONS, factors=factors),
    }


def _run(
    example: Example, product: Simulated, files: dict[str, Path], overwrite: bool
) -> Extraction:
    """Write the reference for an example, extract the spectrum, and write and plot it."""
    path, picture = files[f"{example.name} json"], files[example.product]
    keys = {"id": example.exp_type, "use_source_posn": False, **example.keys}
    correction = files["apcorr"]
    recipe = Extract1D.from_reference({"apertures": [keys]}, example.exp_type, apcorr=correction)
    recipe.to_reference().write(path, overwrite=overwrite)
    image = SlitImage.read(picture)
    operator = Extract1D.from_reference(path, image.exp_type, apcorr=correction)
    extraction = operator.run(image)
    extraction.write(files[f"{example.name} x1d"], overwrite=overwrite)
    truth = product.truth
    flux = truth.flux * (1.0 if truth.factors is None else truth.factors[0])
    panels = plot_product(
        image,
        operator,
        extraction,
        integration=0 if extraction.is_stack else None,
        truth=(truth.wavelength, flux),
        figure=Figure,
        title=f"{example.name}: {picture.name}, {example.description}",
    )
    save(panels.figure, files[f"{example.name} png"], overwrite=overwrite)
    if extraction.is_stack:
        title = f"{picture.name}: a transit, 1% deep"
        panels = plot_stack(extraction, figure=Figure, title=title)
        save(panels.figure, files["light curve"], overwrite=overwrite)
    return extraction


def _compare(extraction: Extraction, product: Simulated) -> Score:
    """Compare a spectrum with the true spectrum, in rows without lost pixels."""
    truth = product.truth
    known = np.flatnonzero(np.isfinite(truth.wavelength))
    wave = extraction.wavelength
    row = known[np.abs(truth.wavelength[known] - wave[:, np.newaxis]).argmin(axis=1)]
    true_flux = truth.flux[row]
    if truth.factors is not None:
        true_flux = truth.factors[:, np.newaxis] * true_flux
    flux, error = extraction.columns["FLUX"], extraction.columns["FLUX_ERROR"]
    in_range = (wave > _COMPARED[0]) & (wave < _COMPARED[1]) & np.isfinite(true_flux)
    # Rows with lost pixels are excluded, because their missing flux would bias the comparison.
    complete = np.abs(extraction.lost_fraction) < 1e-6
    good = in_range & complete & ~extraction.mask & (error > 0)
    flux, error, true_flux = (
        np.broadcast_to(v, good.shape)[good] for v in (flux, error, true_flux)
    )
    pull = (flux - true_flux) / error
    return Score(
        ratio=float(np.median(flux / true_flux)),
        rms=float(np.sqrt(np.mean(pull**2))),
        pull=float(np.std(pull)),
        signal_to_noise=float(np.median(flux / error)),
        compared=int(good.sum()),
        excluded=int((in_range & ~good).sum()),
    )
