"""Tables of spectra in the formats of astropy."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.io.votable.exceptions import W50
from astropy.table import QTable
from astropy.utils.masked import Masked

from glue_lrs import Aperture, Extract1D, combine
from glue_lrs.combination.combination import Combination
from glue_lrs.simulation.scene import Scene
from glue_lrs.spectra.extraction import Extraction
from tests.helpers.spectra import make_extraction

EXTRACT = Extract1D(aperture=Aperture(xstart=9, xstop=17))

#: Name in astropy of each format, and options for writing and reading.
FORMATS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ecsv": ("ascii.ecsv", {}, {}),
    "csv": ("ascii.ecsv", {"delimiter": ","}, {}),
    "hdf5": ("hdf5", {"path": "spectrum", "serialize_meta": True}, {"path": "spectrum"}),
    "parquet": ("parquet", {}, {}),
    # The default "tabledata" writes a byte beyond its buffer (issue 20419 of astropy).
    "votable": ("votable", {"tabledata_format": "binary2"}, {}),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Extraction | Combination]:
    scene = Scene(seed=1)
    image, stack = scene.s2d(nod=1).image, scene.calints(3).image
    image.header["HISTORY"] = "first"
    image.header["HISTORY"] = "second"
    made: dict[str, Extraction | Combination] = {
        "spectrum": EXTRACT.run(image),
        "stack": EXTRACT.run(stack),
        "combination": combine([image, replace(scene, seed=2).s2d(nod=1).image], extract=EXTRACT),
    }
    folder = tmp_path_factory.mktemp("products")
    for name, one in list(made.items()):
        path = folder / f"{name}.fits"
        one.write(path)
        made[f"{name} that was read"] = type(one).read(path)
    made["spectrum in memory"] = make_extraction(calibrated=False, bad=[3])
    return made


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_tables_come_back_from_each_format(
    kind: str, results: dict[str, Extraction | Combination], tmp_path: Path
) -> None:
    form, write, read = FORMATS[kind]
    for name, result in results.items():
        path = tmp_path / f"{name}.{kind}"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if result.units["FLUX"] == "DN/s":  # no unit of the Virtual Observatory
                warnings.simplefilter("ignore", W50)
            result.table.write(path, format=form, **write)
            back = QTable.read(path, format=form, **read)
        assert back.colnames == result.table.colnames
        for column in back.colnames:
            one, other = result.table[column], back[column]
            # VOTable reads DN as a unit of its own with the same name.
            assert one.unit == (other.unit and u.Unit(str(other.unit))), (name, column)
            assert one.dtype == other.dtype, (name, column)
            if form == "votable":  # masks all columns: quantities and others
                other = other.unmasked if isinstance(other, Masked) else other.data.data
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        if form != "votable":  # which has no meta
            assert back.meta == result.table.meta, name


def test_the_meta_is_plain(results: dict[str, Extraction | Combination]) -> None:
    for name, result in results.items():
        meta = result.table.meta
        assert_plain(meta)
        assert meta["header"]["TELESCOP"] == "JWST"
        assert meta["glue_lrs"] is not None, name
        assert set(meta["glue_lrs"]) == set(result.provenance or ())
    history = results["spectrum"].table.meta["header"]["HISTORY"]
    assert history[-2:] == ["first", "second"]


def assert_plain(value: Any) -> None:
    if type(value) is dict:
        assert all(type(key) is str for key in value)
        value = list(value.values())
    if type(value) is list:
        for item in value:
            assert_plain(item)
    else:
        assert type(value) in (str, int, float, bool, type(None)), type(value)


def test_unusual_cards() -> None:
    header = fits.Header([("A", None), ("B", np.float32(0.5)), ("C", 1 + 2j), ("", "blank")])
    header["D"] = np.int64(3)
    header["COMMENT"] = "one"
    extraction = Extraction(columns=make_extraction().columns, units={}, header=header)
    meta = extraction.table.meta
    assert_plain(meta)
    assert meta["glue_lrs"] is None
    assert meta["header"] == {"A": None, "B": 0.5, "C": "(1+2j)", "D": 3, "COMMENT": ["one"]}


def test_the_table_of_a_stack_has_a_row_for_each_integration(
    results: dict[str, Extraction | Combination],
) -> None:
    for name in ("stack", "stack that was read"):
        table = results[name].table
        assert table.colnames[0] == "INT_NUM"
        assert table["INT_NUM"].tolist() == [1, 2, 3]
        assert table["MJD-BEG"].unit == u.d
        assert table["FLUX"].shape == results[name].columns["FLUX"].shape
        table["INT_NUM"][:] = 7  # a copy
        times = results[name].times  # type: ignore[union-attr]
        assert times["INT_NUM"].tolist() == [1, 2, 3]
