"""Run the benchmarks and print ratios.

    python -m benchmarks [accuracy|archive|checks|extract|findings|lightcurves|notebook|optimal|
                          transit|viewer]
                         [--integrations 400] [--repeat 20] [--files 2000] [--gigabytes 1] [--quick]

Both sides are warm and have their input open; jwst gets a fresh copy of its model for each run, as
it changes it, and the copying is not timed. Images and operators change from one repetition to the
next, and ours and jwst run in turn. Figures are medians.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import tracemalloc
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from benchmarks.timing import repeated, show, side_by_side, timed
from glue_lrs import Extract1D, SlitImage
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.reference.reference import Reference
from glue_lrs.simulation.scene import Scene

PLANES = ("SCI", "ERR", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT", "WAVELENGTH")
SLIT_BACKGROUND = [[1.5], [8.5], [51.5], [59.5]]
NARROW_BACKGROUND = [[1.5], [8.5], [33.5], [41.5]]
#: Backgrounds whose memory is reported.
MEMORY: dict[str, dict[str, Any] | None] = {
    "no background": None,
    "median": {"bkg_fit": "median"},
    "constant": {},
    "line": {"bkg_order": 1},
    "parabola": {"bkg_order": 2},
}
PRISM_BACKGROUND = [[8.5], [20.5], [50.5], [62.5]]


def memory(call: Callable[[], Any]) -> int:
    """Peak memory of a call in bytes, including its result."""
    call()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    result = call()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    del result
    return peak


def operators(image: SlitImage, apcorr: Path, background: Any, **keys: Any) -> list[Extract1D]:
    """Operators that differ by a fraction of a pixel."""
    reference = {"apertures": [{"id": image.exp_type, **keys, **background}]}
    return [
        Extract1D.from_reference(
            reference, image.exp_type, apcorr=apcorr, position_offset=0.1 * step
        )
        for step in range(5)
    ]


def cut_out(image: SlitImage, columns: int) -> SlitImage:
    """The first columns of an image."""
    planes = ("data", "wavelength", "err", "var_poisson", "var_rnoise", "var_flat", "dq")
    cut: dict[str, Any] = {
        name: None if plane is None else np.array(plane[..., :columns])
        for name in planes
        for plane in [getattr(image, name)]
    }
    return replace(image, **cut)


def pipeline_calls(
    path: Path, reference: Path, apcorr: Path, number: int, **step: Any
) -> list[Callable[[], Any]]:
    """Calls of the pipeline's run_extract1d, each on a fresh copy of the open model."""
    from jwst.extract_1d.extract import run_extract1d
    from stdatamodels.jwst import datamodels

    logging.disable(logging.CRITICAL)
    with datamodels.open(path) as model:
        copies = [model.copy() for _ in range(number + 1)]
        for copy in copies:
            copy.data, copy.meta.wcs.bounding_box  # noqa: B018 - loaded before it is timed
        run_extract1d(copies.pop(), str(reference), str(apcorr), **step)
        return [
            lambda copy=copy: run_extract1d(copy, str(reference), str(apcorr), **step)
            for copy in copies
        ]


def specreduce_boxcar(image: SlitImage) -> Callable[[], Any]:
    """Specreduce's boxcar with a median background, on the transposed image."""
    import astropy.units as u
    from astropy.nddata import NDData, StdDevUncertainty
    from specreduce.background import Background
    from specreduce.extract import BoxcarExtract
    from specreduce.tracing import FlatTrace

    data = NDData(
        np.ascontiguousarray(image.data.T, dtype=float) * u.MJy / u.sr,
        uncertainty=StdDevUncertainty(np.ascontiguousarray(image.err.T, dtype=float)),
        mask=np.isnan(image.data.T),
    )

    def run() -> Any:
        trace = FlatTrace(data, 30.5)
        background = Background.two_sided(data, trace, 24, width=8, statistic="median")
        return BoxcarExtract(background.sub_image(data), trace, width=8).spectrum

    return run


def benchmark_s2d(folder: Path, number: int) -> None:
    """One s2d: median background and aperture correction."""
    paths = []
    for seed in range(5):
        paths.append(folder / f"nods{seed}_s2d.fits")
        Scene(seed=seed, bad_fraction=0.001).combined().image.write(paths[-1])
    apcorr = folder / "apcorr.fits"
    corrections = [Scene().aperture_correction(name, size=range(1, 60)) for name in SUBARRAYS]
    write_apcorr(corrections, apcorr)
    images = [SlitImage.read(path) for path in paths]
    shape = images[0].shape
    entry = {"xstart": 27, "xstop": 34, "bkg_fit": "median", "use_source_posn": False}
    made = operators(images[0], apcorr, {"bkg_coeff": SLIT_BACKGROUND}, **entry)
    reference = folder / "extract1d.json"
    Reference(
        {"apertures": [{"id": images[0].exp_type, **entry, "bkg_coeff": SLIT_BACKGROUND}]}
    ).write(reference)
    pairs = list(zip(made, images, strict=True))

    ours, jwst = side_by_side(
        [lambda e=e, i=i: e.run(i, check=False) for _ in range(2 * number) for e, i in pairs],
        pipeline_calls(paths[0], reference, apcorr, number),
    )
    checked = repeated(lambda extract, image: extract.run(image), pairs, 10 * number)
    spectrum = repeated(lambda extract, image: extract(image), pairs, 10 * number)
    fresh = [SlitImage.read(path) for path in paths]
    first = timed([lambda i=i, e=e: e.run(i) for e, i in zip(made, fresh, strict=True)])
    moved = [replace(extract, use_source_posn=True) for extract in made]
    for image in images:
        _ = image.wcs
    positioned = repeated(
        lambda extract, image: extract.run(image), list(zip(moved, images, strict=True)), number
    )
    complete = repeated(
        lambda path, extract: extract(SlitImage.read(path)),
        list(zip(paths, made, strict=True)),
        number,
    )

    def planes(path: Path) -> list[Any]:
        with fits.open(path, memmap=True) as hdus:
            return [np.array(hdus[name].data, dtype=np.float32) for name in PLANES]

    def raw(path: Path) -> list[Any]:
        """The six planes at known offsets in the file, without reading headers."""
        return [
            np.fromfile(path, ">f4", count, offset=at).astype("f4") for at, count in places[path]
        ]

    places: dict[Path, list[tuple[int, int]]] = {}
    for path in paths:
        with fits.open(path) as hdus:
            places[path] = [(hdus[n].fileinfo()["datLoc"], hdus[n].data.size) for n in PLANES]
    reading = repeated(lambda path: SlitImage.read(path), [(path,) for path in paths], number)
    raw_planes = repeated(raw, [(path,) for path in paths], number)
    fits_planes = repeated(planes, [(path,) for path in paths], number)
    boxcars = [specreduce_boxcar(image) for image in images]
    boxcar = repeated(lambda call: call(), [(call,) for call in boxcars], number)

    print(f"\ns2d {shape[0]} x {shape[1]}, median background, aperture correction")
    show(
        [
            ("run(check=False): 18 columns", ours, None),
            ("run, with the checks", checked, ours),
            ("run, first call on a fresh image", first, ours),
            ("run, positioned by the WCS", positioned, ours),
            ("extract(image): a specutils Spectrum", spectrum, ours),
            ("SlitImage.read", reading, ours),
            ("read + extract: file to Spectrum", complete, ours),
            ("reading six planes, astropy.io.fits", fits_planes, ours),
            ("reading six planes, raw", raw_planes, ours),
            ("jwst run_extract1d", jwst, ours),
            ("specreduce: background + boxcar", boxcar, ours),
        ]
    )
    print("  memory of run, output included, of the six planes':")
    for name, keys in MEMORY.items():
        found = {}
        for columns, left, edges in ((63, 27, SLIT_BACKGROUND), (45, 18, NARROW_BACKGROUND)):
            image = cut_out(images[0], columns)
            background = {} if keys is None else {"bkg_coeff": edges, **keys}
            limits = {"xstart": left, "xstop": left + 7, "use_source_posn": False}
            extract = operators(image, apcorr, background, **limits)[0]
            peak = memory(lambda extract=extract, image=image: extract.run(image))
            found[f"{image.shape[0]} x {columns}"] = peak / (6 * 4 * image.data.size)
        print(f"    {name:20s}" + "".join(f"  {what} {share:.2f}" for what, share in found.items()))


SUBARRAYS = ("FULL", "SLITLESSPRISM")


def benchmark_stack(folder: Path, integrations: int, number: int) -> None:
    """A stack: with a median, a constant and no background, with aperture correction."""
    short_stack = 12
    scene = Scene(seed=1, bad_fraction=0.001)
    path, short = folder / "stack_calints.fits", folder / "short_calints.fits"
    scene.calints(integrations).image.write(path)
    scene.calints(short_stack).image.write(short)
    image = SlitImage.read(path)
    apcorr = folder / "apcorr.fits"
    print(
        f"\ncalints {' x '.join(map(str, image.data.shape))}, aperture correction, an integration"
    )
    rows: list[tuple[str, float, float | None]] = []
    peaks: dict[str, float] = {}
    for name, background in (
        ("no background", {}),
        ("constant background", {"bkg_coeff": PRISM_BACKGROUND}),
        ("median background", {"bkg_coeff": PRISM_BACKGROUND, "bkg_fit": "median"}),
    ):
        made = operators(image, apcorr, background, xstart=30, xstop=41)
        reference = folder / f"{name.split()[0]}.json"
        entry = {"id": image.exp_type, "xstart": 30, "xstop": 41, **background}
        Reference({"apertures": [entry]}).write(reference)
        each = [(extract,) for extract in made]
        ours, jwst = side_by_side(
            [lambda e=e: e.run(image, check=False) for e in made],
            pipeline_calls(short, reference, apcorr, 3),
        )
        checked = repeated(lambda e: e.run(image), each, max(number, 5))
        rows += [
            (f"run(check=False), {name}", ours / integrations, None),
            (f"run with the checks, {name}", checked / integrations, ours / integrations),
            (f"jwst, {name} ({short_stack} integrations)", jwst / short_stack, ours / integrations),
        ]
        peaks[name] = memory(lambda made=made: made[0].run(image)) / (24 * image.data.size)
    show(rows)
    print("  memory of run, output included, of the six planes':")
    for name, share in peaks.items():
        print(f"    {name:20s}  {share:.2f}")


WHAT = [
    "accuracy",
    "checks",
    "archive",
    "extract",
    "findings",
    "lightcurves",
    "notebook",
    "optimal",
    "transit",
    "viewer",
]


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", choices=WHAT, default="extract")
    parser.add_argument("--integrations", type=int, default=400)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the transit")
    parser.add_argument(
        "--folder", type=Path, help="folder for the files; default: a temporary one"
    )
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--only", metavar="KIND", help="kind of scene of the findings")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="accuracy: a few PSFs and scenes")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        if options.what == "viewer":
            from benchmarks.viewer import benchmark_viewer

            benchmark_viewer(folder, options.integrations, max(options.repeat, 100))
            return 0
        if options.what == "notebook":
            from benchmarks.notebook import benchmark_notebook

            benchmark_notebook(folder, max(options.repeat, 60))
            return 0
        if options.what == "checks":
            from benchmarks.checks import benchmark_checks

            benchmark_checks(options.repeat)
            return 0
        if options.what == "accuracy":
            from benchmarks.accuracy import benchmark_accuracy

            benchmark_accuracy(folder, options.repeat, options.quick)
            return 0
        if options.what == "archive":
            from benchmarks.archive import benchmark_archive

            benchmark_archive(folder, options.files)
            return 0
        if options.what == "lightcurves":
            from benchmarks.light_curves import benchmark_light_curves

            benchmark_light_curves(options.integrations, options.repeat)
            return 0
        if options.what == "transit":
            from benchmarks.transit import benchmark_transit

            benchmark_transit(folder, options.gigabytes)
            return 0
        if options.what == "findings":
            from benchmarks.findings import benchmark_findings

            benchmark_findings(folder, options.repeat, options.only)
            return 0
        if options.what == "optimal":
            from benchmarks.optimal import benchmark_optimal

            benchmark_optimal(folder, options.integrations, options.repeat)
            return 0
        benchmark_s2d(folder, options.repeat)
        benchmark_stack(folder, options.integrations, max(options.repeat // 4, 3))
    return 0


if __name__ == "__main__":
    sys.exit(main())
