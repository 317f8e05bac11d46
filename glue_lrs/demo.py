"""The demonstration: STScI's worked examples on simulated files whose truth is known."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import LRSWarning, WriteError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import FIXED_SLIT, SLITLESS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from glue_lrs.simulation.scene import Scene
    from glue_lrs.simulation.truth import Simulated
    from glue_lrs.spectra.extraction import Extraction

__all__ = ["EXAMPLES", "DemoResult", "Example", "Score", "run_demo"]

#: Half width of the tapered aperture in pixels, as a function of the wavelength in micron: the line
#: through 1.5 FWHM of STScI's LRS extraction notebook.
TAPER = (2.445618715370405, 0.2579519802996102)
#: The points of that line.
FWHM_WAVELENGTH, FWHM = (5.0, 7.5, 10.0, 12.0), (0.29, 0.30, 0.36, 0.42)
#: Column of the target on the level-3 image.
_CENTRE = 30.5
#: Where the truth is compared: at the ends of its range LRS has hardly any light.
_COMPARED = (5.0, 12.0)
_INTEGRATIONS = 16
#: Flux of the supernova at 7 micron in Jy.
_LEVEL = 1.5e-4


@dataclass(frozen=True)
class Example:
    """A way to extract: which simulated product, and what stands in its EXTRACT1D reference.

    Parameters
    ----------
    name : str
        How files and the table call it.
    product : str
        Ending of the image's name: ``"nod1_s2d"``, ``"level3_s2d"``, ``"slitless_calints"``.
    keys : dict
        Keys of the reference.
    what : str
        What it is, in a few words.
    """

    name: str
    product: str
    keys: dict[str, Any]
    what: str

    @property
    def exp_type(self) -> str:
        """EXP_TYPE of its image."""
        return SLITLESS if self.product.startswith("slitless") else FIXED_SLIT


_NOD = {"xstart": 9, "xstop": 17, "use_source_posn": False}
#: The worked examples of the notebook, and a slitless stack.
EXAMPLES = (
    Example(
        "default",
        "level3_s2d",
        {"xstart": 27, "xstop": 34, "use_source_posn": False},
        "columns 27 - 34",
    ),
    Example(
        "wider",
        "level3_s2d",
        {"xstart": 25, "xstop": 36, "use_source_posn": False},
        "columns 25 - 36",
    ),
    Example("nod", "nod1_s2d", _NOD, "columns 9 - 17"),
    Example(
        "background",
        "nod1_s2d",
        {**_NOD, "bkg_coeff": [[0.5], [4.5], [38.5], [43.5]], "bkg_fit": "median"},
        "the same, less a median background",
    ),
    Example(
        "tapered",
        "level3_s2d",
        {
            "src_coeff": [[_CENTRE - TAPER[0], -TAPER[1]], [_CENTRE + TAPER[0], TAPER[1]]],
            "independent_var": "wavelength",
            "use_source_posn": False,
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
            "use_source_posn": False,
        },
        f"columns 30 - 41, {_INTEGRATIONS} integrations",
    ),
)


@dataclass(frozen=True)
class Score:
    """How a spectrum compares with the truth between 5 and 12 micron.

    Parameters
    ----------
    ratio : float
        Median of extracted over true flux.
    rms : float
        Root mean square of the differences in units of the errors; 1 is perfect.
    pull : float
        Standard deviation of the differences in units of the errors: as `rms`, without what all
        have in common.
    signal_to_noise : float
        Median of flux over error.
    compared, left_out : int
        Fluxes that were compared, and those that were not, as a bad pixel lies in their aperture.
    """

    ratio: float
    rms: float
    pull: float
    signal_to_noise: float
    compared: int
    left_out: int


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration made.

    Parameters
    ----------
    scores : dict
        The score of each example, by its name.
    files : list of Path
        All files that were written.
    notes : list of str
        What the extractions warned of.
    """

    scores: dict[str, Score]
    files: list[Path]
    notes: list[str] = field(default_factory=list)

    @property
    def advice(self) -> str:
        """Two lines: what to look at, and what to try next."""
        folder = self.files[0].parent
        return (
            f"look at   {folder / 'demo_compared.png'} and {folder / 'demo_background.png'}: "
            "without its two regions some background stays in\n"
            f"try next  glue-lrs extract {folder / 'demo_nod2_s2d.fits'} "
            f"--apcorr {folder / 'demo_apcorr.fits'} --plot"
        )

    @property
    def lines(self) -> list[dict[str, str]]:
        """The table, a dict of cells for each line."""
        found = []
        for example in EXAMPLES:
            score = self.scores[example.name]
            found.append(
                {
                    "example": example.name,
                    "image": example.product,
                    "flux/truth": f"{score.ratio:.4f}",
                    "rms [sigma]": f"{score.rms:.2f}",
                    "pull std": f"{score.pull:.2f}",
                    "median S/N": f"{score.signal_to_noise:.1f}",
                    "bad pixel": str(score.left_out),
                    "aperture": example.what,
                }
            )
        return found


def run_demo(
    output_dir: str | PathLike[str],
    *,
    overwrite: bool = False,
    tell: Callable[[str], object] = lambda text: None,
) -> DemoResult:
    """Simulate files, extract them, draw pictures, and compare with the truth.

    Parameters
    ----------
    output_dir : str or path-like
        Folder to write to; made if there is none.
    overwrite : bool
        Whether existing files may be replaced.
    tell : callable
        Called with a line of text for each stage.

    Returns
    -------
    DemoResult
        The scores and the files.

    Raises
    ------
    WriteError
        If a file exists or cannot be written.
    """
    from glue_lrs.io.apcorr import write_apcorr
    from glue_lrs.plotting.style import save
    from glue_lrs.simulation.scene import demo_scene
    from glue_lrs.simulation.spectra import Source, Supernova

    folder = Path(output_dir)
    files = _names(folder)
    if not overwrite:
        for path in files.values():
            if path.exists():
                raise WriteError(
                    f"{path}: exists, expected a new folder (--output-dir) or --overwrite"
                )
    folder.mkdir(parents=True, exist_ok=True)
    # Faint enough for the background to matter.
    scene = replace(demo_scene(), sources=(Source(flux=Supernova(level=_LEVEL)),))

    tell("simulating: two nods, both combined, a slitless time series ...")
    products = _products(scene)
    for name, made in products.items():
        made.image.write(files[name], overwrite=overwrite)
    tables = [
        scene.aperture_correction(subarray, size=np.arange(1, 31))
        for subarray in ("FULL", "SLITLESSPRISM")
    ]
    write_apcorr(tables, files["apcorr"], overwrite=overwrite)

    tell("extracting and drawing: " + ", ".join(example.name for example in EXAMPLES) + " ...")
    scores: dict[str, Score] = {}
    spectra: dict[str, Extraction] = {}
    notes: list[str] = []
    for example in EXAMPLES:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LRSWarning)
            spectra[example.name] = _run(example, products[example.product], files, overwrite)
        notes += [f"{example.name}: {one.message}" for one in caught]
        scores[example.name] = _compare(spectra[example.name], products[example.product])
    truth = products["level3_s2d"].truth
    save(_comparison(spectra, truth.wavelength, truth.flux), files["compared"], overwrite=overwrite)
    save(_width(), files["width"], overwrite=overwrite)
    return DemoResult(scores, list(files.values()), notes)


def _names(folder: Path) -> dict[str, Path]:
    """All files of the demonstration."""
    names = {
        f"{product}": f"demo_{product}.fits"
        for product in ("nod1_s2d", "nod2_s2d", "level3_s2d", "slitless_calints")
    }
    names["apcorr"] = "demo_apcorr.fits"
    for example in EXAMPLES:
        ending = "x1dints" if example.product.endswith("calints") else "x1d"
        names[f"{example.name} json"] = f"demo_{example.name}_extract1d.json"
        names[f"{example.name} x1d"] = f"demo_{example.name}_{ending}.fits"
        names[f"{example.name} png"] = f"demo_{example.name}.png"
    names["light curve"] = "demo_slitless_light_curve.png"
    names["compared"] = "demo_compared.png"
    names["width"] = "demo_tapered_width.png"
    return {key: folder / name for key, name in names.items()}


def _products(scene: Scene) -> dict[str, Simulated]:
    # A transit, one per cent deep.
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
    """Write an example's reference, extract with it as a user would, write and draw."""
    from glue_lrs.plotting.product import plot_product
    from glue_lrs.plotting.spectra import plot_stack
    from glue_lrs.plotting.style import save

    path = files[f"{example.name} json"]
    wanted = Extract1D.from_reference(
        {"apertures": [{"id": example.exp_type, **example.keys}]},
        example.exp_type,
        apcorr=files["apcorr"],
    )
    wanted.to_reference().write(path, overwrite=overwrite)
    image = SlitImage.read(files[example.product])
    operator = Extract1D.from_reference(path, image.exp_type, apcorr=files["apcorr"])
    extraction = operator.run(image)
    extraction.write(files[f"{example.name} x1d"], overwrite=overwrite)
    truth = product.truth
    flux = truth.flux * (1.0 if truth.factors is None else truth.factors[0])
    figure = plot_product(
        image,
        operator,
        extraction,
        integration=0 if extraction.is_stack else None,
        truth=(truth.wavelength, flux),
        title=f"{example.name}: {files[example.product].name}, {example.what}",
    )
    save(figure, files[f"{example.name} png"], overwrite=overwrite)
    if extraction.is_stack:
        stack = plot_stack(extraction, title=f"{files[example.product].name}: a transit, 1% deep")
        save(stack, files["light curve"], overwrite=overwrite)
    return extraction


def _compare(extraction: Extraction, product: Simulated) -> Score:
    truth = product.truth
    known = np.flatnonzero(np.isfinite(truth.wavelength))
    wave = extraction.wavelength
    row = known[np.abs(truth.wavelength[known] - wave[:, np.newaxis]).argmin(axis=1)]
    flux = truth.flux[row]
    if truth.factors is not None:
        flux = truth.factors[:, np.newaxis] * flux
    found, error = extraction.columns["FLUX"], extraction.columns["FLUX_ERROR"]
    compared = (wave > _COMPARED[0]) & (wave < _COMPARED[1]) & np.isfinite(flux)
    # A lost pixel's light is not made up for: these rows say nothing of the extraction.
    whole = np.abs(extraction.lost_fraction) < 1e-6
    good = compared & whole & ~extraction.mask & (error > 0)
    pull = _part(found - flux, good) / _part(error, good)
    return Score(
        ratio=float(np.median(_part(found, good) / _part(flux, good))),
        rms=float(np.sqrt(np.mean(pull**2))),
        pull=float(np.std(pull)),
        signal_to_noise=float(np.median(_part(found, good) / _part(error, good))),
        compared=int(good.sum()),
        left_out=int((compared & ~good).sum()),
    )


def _part(values: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[Any]:
    return np.broadcast_to(values, chosen.shape)[chosen]


def _comparison(
    spectra: dict[str, Extraction], wavelength: NDArray[np.float64], flux: NDArray[np.float64]
) -> Figure:
    from glue_lrs.plotting.spectra import plot_comparison

    slit = {
        f"{one.name}: {one.what}": spectra[one.name]
        for one in EXAMPLES
        if one.exp_type == FIXED_SLIT
    }
    figure: Figure = plot_comparison(
        slit, truth=(wavelength, flux), title="the five worked examples, and the truth"
    )
    return figure


def _width() -> Figure:
    from matplotlib.figure import Figure

    from glue_lrs.plotting.image import plot_width
    from glue_lrs.simulation.optics import PIXEL_SCALE

    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    ax = figure.subplots()
    plot_width(FWHM_WAVELENGTH, FWHM, TAPER, pixel_scale=PIXEL_SCALE, ax=ax)
    ax.set_title("the tapered aperture: a line through 1.5 FWHM", fontsize="medium", loc="left")
    return figure
