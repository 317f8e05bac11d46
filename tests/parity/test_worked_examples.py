"""The worked examples of STScI's LRS notebook, through files, at full size."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jwst.extract_1d.extract import run_extract1d
from stdatamodels.jwst import datamodels

from glue_lrs import Extract1D, LRSWarning, SlitImage
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.simulation.scene import Scene, demo_scene
from glue_lrs.spectra.columns import COLUMNS
from tests.helpers.pipeline import disagreements

BACKGROUND = [[0.5], [4.5], [38.5], [43.5]]
TAPER = (2.445618715370405, 0.2579519802996102)
EXAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("combined", {"xstart": 27, "xstop": 34}),
    "wider": ("combined", {"xstart": 25, "xstop": 36}),
    "one nod": ("s2d", {"xstart": 9, "xstop": 17}),
    "background": (
        "s2d",
        {"xstart": 9, "xstop": 17, "bkg_coeff": BACKGROUND, "bkg_fit": "median"},
    ),
    "tapered": (
        "combined",
        {
            "independent_var": "wavelength",
            "src_coeff": [[30.5 - TAPER[0], -TAPER[1]], [30.5 + TAPER[0], TAPER[1]]],
        },
    ),
    "slitless": (
        "calints",
        {"xstart": 30, "xstop": 41, "bkg_coeff": [[8.5], [20.5], [50.5], [62.5]]},
    ),
    "cal": ("cal", {"xstart": 320, "xstop": 330, "bkg_coeff": [[304.5], [309.5]], "bkg_order": 1}),
    "cal along the trace": ("cut", {"extract_width": 8}),
    "slit stack": ("slit_calints", {"xstart": 17, "xstop": 26}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("products")
    scene = demo_scene(seed=4)
    products = {
        "combined": scene.combined(),
        "s2d": scene.s2d(nod=1),
        "cal": scene.cal(nod=2),
        "cut": scene.cal(nod=2, full_frame=False),
        "calints": scene.calints(3),
        "slit_calints": scene.slit_calints(2),
    }
    found = {}
    for name, product in products.items():
        found[name] = folder / f"{name}.fits"
        product.image.write(found[name])
    found["apcorr"] = folder / "apcorr.fits"
    tables = [Scene().aperture_correction(n, size=range(1, 40)) for n in ("FULL", "SLITLESSPRISM")]
    write_apcorr(tables, found["apcorr"])
    return found


@pytest.mark.parametrize(("positioned", "offset"), [(False, 0.0), (True, 0.0), (True, 0.4)])
@pytest.mark.parametrize("name", EXAMPLES)
def test_equal_to_the_pipeline(
    name: str, positioned: bool, offset: float, files: dict[str, Path], tmp_path: Path
) -> None:
    product, entry = EXAMPLES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)  # bad pixels; no position without a slit
        image = SlitImage.read(files[product])
        reference = tmp_path / "extract1d.json"
        reference.write_text(
            json.dumps(
                {
                    "apertures": [
                        {"id": image.exp_type, "use_source_posn": positioned, **entry},
                    ]
                }
            )
        )
        extract = Extract1D.from_reference(
            reference, image.exp_type, apcorr=files["apcorr"], position_offset=offset
        )
        ours = extract.run(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with datamodels.open(files[product]) as model:
            out, *_ = run_extract1d(
                model, str(reference), str(files["apcorr"]), position_offset=offset
            )
            spec = out.spec[0]
            table = np.asarray(spec.spec_table)
            theirs = {n: np.array(table[k]) for n, k in zip(COLUMNS, _names(table), strict=True)}
    # A trace as well: this box begins at row 0, the one place where the pipeline stores it rightly.
    traced = extract.place(image).trace is not None
    assert traced == (positioned and name == "cal along the trace")
    assert not disagreements(ours.columns, theirs, 1e-9)
    limits = {
        "EXTRXSTR": spec.extraction_xstart,
        "EXTRXSTP": spec.extraction_xstop,
        "EXTRYSTR": spec.extraction_ystart,
        "EXTRYSTP": spec.extraction_ystop,
        "SLIT_RA": spec.slit_ra,
        "SLIT_DEC": spec.slit_dec,
    }
    assert {key: ours.keywords[key] for key in limits} == pytest.approx(limits, rel=1e-10)


def _names(table: np.ndarray) -> list[str]:
    names = {name.upper(): name for name in table.dtype.names}
    return [names[name] for name in COLUMNS]
