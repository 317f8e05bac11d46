"""Light curves as tables, files and datasets of other packages."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import QTable
from astropy.timeseries import TimeSeries

from glue_lrs.errors import WriteError
from glue_lrs.timeseries import LightCurve, light_curve
from tests.helpers.light_curves import series


@pytest.fixture(scope="module")
def curve() -> LightCurve:
    stack = series(np.linspace(1.0, 0.9, 12), noise=0.001)
    stack.columns["FLUX"][4, 60] = np.nan
    return light_curve(stack, bins=3)


def test_the_table_is_a_time_series(curve: LightCurve) -> None:
    table = curve.table
    assert isinstance(table, TimeSeries)
    assert table.colnames == ["time"] + [
        f"{name}{suffix}"
        for suffix in ("", "_1", "_2", "_3")
        for name in ("flux", "flux_err", "replaced")
    ]
    assert table["flux_2"].unit == u.Jy
    np.testing.assert_array_equal(table["flux_2"].value, curve.flux[:, 2])
    np.testing.assert_array_equal(table["flux_err_2"].value, curve.error[:, 2])
    assert table["flux_2"].info.description == "7.3333 to 9.6667 um"
    assert table["replaced"].sum() == 1
    assert table.meta["header"]["TARGNAME"] == "STAR"
    assert table.meta["bands"][2]["flux"] == "flux_2"
    assert table.meta["bands"][2]["elements"] == curve.elements[2]
    assert table.meta["glue_lrs"]["parameters"]["weights"] == "sum"
    assert [one["kind"] for one in table.meta["glue_lrs"]["findings"]] == ["elements_replaced"]


def test_ecsv_round_trip(curve: LightCurve, tmp_path: Path) -> None:
    path = tmp_path / "curve.ecsv"
    curve.write(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # astropy leaves the file open
        found = TimeSeries.read(path, format="ascii.ecsv")
    assert isinstance(found, TimeSeries)
    assert found.colnames == curve.table.colnames
    assert found.time.scale == "tdb"
    assert abs(found.time - curve.time).max() < 1 * u.us
    for name in found.colnames[1:]:
        np.testing.assert_array_equal(found[name], curve.table[name])
    assert found.meta["time"] == "BMJD_TDB"
    assert found.meta["glue_lrs"] == curve.table.meta["glue_lrs"]


@pytest.mark.parametrize("suffix", ["fits", "fits.gz"])
def test_fits_round_trip(curve: LightCurve, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"curve.{suffix}"
    curve.write(path)
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "LIGHTCURVE", "BANDS", "ASDF"]
        assert hdus[0].header["TARGNAME"] == "STAR"
        cards = hdus["LIGHTCURVE"].header
        assert (cards["TIMESYS"], cards["TREFPOS"], cards["MJDREF"]) == ("TDB", "BARYCENTER", 0.0)
        assert cards["TUNIT1"] == "d"
        bands = hdus["BANDS"].data
        np.testing.assert_array_equal(bands["lower"], curve.edges[:, 0])
        np.testing.assert_array_equal(bands["scatter"], curve.scatter)
        assert bands["column"].tolist() == ["flux", "flux_1", "flux_2", "flux_3"]
    table = QTable.read(path, hdu="LIGHTCURVE", astropy_native=True)
    found = TimeSeries(table)
    assert found.colnames == curve.table.colnames
    assert found.time.scale == "tdb"
    np.testing.assert_array_equal(found.time.mjd, curve.time.mjd)
    for name in found.colnames[1:]:
        np.testing.assert_array_equal(found[name], curve.table[name])
        assert found[name].unit == curve.table[name].unit


def test_nothing_is_overwritten_unasked(curve: LightCurve, tmp_path: Path) -> None:
    path = tmp_path / "curve.ecsv"
    path.write_text("mine")
    with pytest.raises(WriteError, match="exists"):
        curve.write(path)
    assert path.read_text() == "mine"
    curve.write(path, overwrite=True)
    assert path.read_text().startswith("# %ECSV")
    with pytest.raises(WriteError, match=r"ends in '\.csv', expected \.ecsv, \.fits or \.fits\.gz"):
        curve.write(tmp_path / "curve.csv")
    with pytest.raises(WriteError, match=r"cannot be written|does not exist"):
        curve.write(tmp_path / "missing" / "curve.fits")
    assert [one.name for one in tmp_path.iterdir()] == ["curve.ecsv"]


@pytest.mark.slow
def test_xarray(curve: LightCurve) -> None:
    found = curve.to_xarray()
    assert dict(found.sizes) == {"time": 12, "wavelength": 3}
    np.testing.assert_array_equal(found["flux"], curve.flux[:, 1:])
    np.testing.assert_array_equal(found["flux_err"], curve.error[:, 1:])
    np.testing.assert_array_equal(found["white"], curve.flux[:, 0])
    np.testing.assert_allclose(found["wavelength"], [37 / 6, 8.5, 65 / 6])
    assert found["flux"].attrs["units"] == "Jy"
    assert found["time"].attrs["units"] == "BMJD_TDB"
    assert found.sel(wavelength=8.4, method="nearest")["flux"].shape == (12,)
    white = light_curve(series([1.0, 0.9, 1.0])).to_xarray()
    np.testing.assert_array_equal(white["flux"][:, 0], white["white"])
