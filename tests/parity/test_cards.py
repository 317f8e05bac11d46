"""Every card of EXTRACT1D and the table INT_TIMES equal those of the JWST pipeline."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from jwst.extract_1d.extract import run_extract1d
from stdatamodels.jwst import datamodels

from glue_lrs import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.simulation import Scene
from tests.helpers import pipeline  # noqa: F401 - silences the log of the pipeline

#: Cards of SCI that describe the slit and its source, with values that no default has.
SLIT: dict[str, Any] = {
    "SLITID": 3,
    "SOURCEID": 17,
    "SRCNAME": "HD 1",
    "SRCALIAS": "other",
    "STLARITY": 0.75,
    "TA_XPOS": 5.5,
    "TA_YPOS": 6.5,
    "SRCXPOS": 0.25,
    "SRCYPOS": -0.125,
    "SRCRA": 53.1,
    "SRCDEC": -27.9,
    "WAVECOR": True,
    "PTHLOSS": "POINT",
    "BARSHDW": True,
    "SHUTSTA": "x1",
    "MSAQUAD": 2,
    "SLTXSCL": 0.5,
    "SLTYSCL": 0.25,
}


def written(product: str, folder: Path, cards: dict[str, Any], rows: int | None) -> Path:
    """A simulated product with the given cards in SCI and rows in INT_TIMES."""
    scene = Scene()
    image = scene.calints(2).image if product == "calints" else getattr(scene, product)(1).image
    path = folder / f"a_{product}.fits"
    image.write(path)
    with fits.open(path, mode="update") as hdulist:
        hdulist["SCI"].header.update(cards)
        if rows is not None:
            hdulist["INT_TIMES"].data = hdulist["INT_TIMES"].data[:rows]
    return path


@pytest.mark.parity
@pytest.mark.parametrize(
    ("product", "cards", "rows"),
    [
        ("s2d", {}, None),
        ("s2d", SLIT, None),
        ("s2d", {"SOURCEID": 0, "SRCXPOS": 0.0}, None),
        ("cal", {}, None),
        ("calints", SLIT, 2),
        ("calints", {}, 0),
    ],
)
def test_cards_are_those_of_the_pipeline(
    product: str, cards: dict[str, Any], rows: int | None, tmp_path: Path
) -> None:
    path = written(product, tmp_path, cards, rows)
    image = SlitImage.read(path)
    reference = tmp_path / "reference.json"
    first = 320 if product == "cal" else 12
    entry = {"id": image.exp_type, "xstart": first, "xstop": first + 7, "use_source_posn": False}
    reference.write_text(json.dumps({"apertures": [entry]}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with datamodels.open(path) as model:
            out, *_ = run_extract1d(model, str(reference), "N/A")
            out.save(tmp_path / "theirs.fits")
    extract = Extract1D.from_reference(reference, image.exp_type, apply_apcorr=False)
    made = extract.run(image)
    del made.columns["QUALITY"]  # which the pipeline does not have
    made.write(tmp_path / "ours.fits")
    with fits.open(tmp_path / "ours.fits") as ours, fits.open(tmp_path / "theirs.fits") as theirs:
        mine, judge = ours["EXTRACT1D"].header, theirs["EXTRACT1D"].header
        assert "PA_APER" in judge
        assert set(mine) - {""} == set(judge) - {""}
        for name in set(judge) - {""}:
            value = judge[name]
            exact = not isinstance(value, float)
            assert mine[name] == (value if exact else pytest.approx(value, rel=1e-10)), name
            assert mine.comments[name] == judge.comments[name]
        assert ("INT_TIMES" in ours) == ("INT_TIMES" in theirs) == (rows is not None)
        if rows is not None:
            np.testing.assert_array_equal(ours["INT_TIMES"].data, theirs["INT_TIMES"].data)
            assert len(ours["INT_TIMES"].data) == rows
