"""Times of light curves: barycentric, at JWST, missing, repeated, in another order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from astropy.time import Time

from glue_lrs.errors import LRSError, TimesWarning
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.timeseries import light_curve
from tests.helpers.light_curves import START, STEP, series, times

NUMBER = 6
UTC = START + (np.arange(NUMBER) + 0.5) * STEP / 86400.0
TDB = UTC + 240.0 / 86400.0


def stack(table: Table | None = None, int_times: Table | None = None) -> Extraction:
    """A star that brightens by 1% in each integration."""
    made = series(1.0 + 0.01 * np.arange(NUMBER))
    return replace(made, times=times(NUMBER) if table is None else table, int_times=int_times)


def without(column: str, rows: Any = slice(None)) -> Table:
    table = times(NUMBER)
    table[column][rows] = np.nan
    return table


def stored(numbers: Any = range(1, NUMBER + 1)) -> Table:
    """The table INT_TIMES with other times than the x1dints, by which it is recognised."""
    numbers = np.array(numbers)
    return Table(
        {
            "integration_number": numbers,
            "int_mid_MJD_UTC": 50000.0 + numbers,
            "int_mid_BJD_TDB": 51000.0 + numbers,
        }
    )


def test_barycentric_times() -> None:
    curve = light_curve(stack())
    assert curve.time.scale == "tdb"
    assert (curve.reference, curve.time_label) == ("barycentre", "BMJD_TDB")
    np.testing.assert_array_equal(curve.time.mjd, TDB)
    assert curve.findings == ()


def test_times_at_jwst_have_a_finding() -> None:
    with pytest.warns(TimesWarning, match="no barycentric times .* UTC at JWST"):
        curve = light_curve(stack(without("TDB-MID")))
    assert curve.time.scale == "utc"
    assert (curve.reference, curve.time_label) == ("spacecraft", "MJD_UTC")
    np.testing.assert_array_equal(curve.time.mjd, UTC)
    assert curve.table.meta["time"] == "MJD_UTC"


def test_int_times_are_used_where_the_columns_have_none() -> None:
    table = without("TDB-MID")
    table["MJD-AVG"] = np.nan
    curve = light_curve(stack(table, stored(range(NUMBER + 3, 0, -1))))
    np.testing.assert_array_equal(curve.time.mjd, 51001.0 + np.arange(NUMBER))
    assert curve.time.scale == "tdb"
    curve = light_curve(stack(times(NUMBER), stored()))
    np.testing.assert_array_equal(curve.time.mjd, TDB)


def test_integrations_without_a_time_are_left_out() -> None:
    table = without("TDB-MID", [1, 4])
    table["MJD-AVG"] = np.nan
    with pytest.warns(TimesWarning, match="2 of 6 integrations have no time: they are left out"):
        curve = light_curve(stack(table))
    np.testing.assert_array_equal(curve.time.mjd, TDB[[0, 2, 3, 5]])
    np.testing.assert_allclose(curve.flux[:, 0] / curve.flux[0, 0], [1.0, 1.02, 1.03, 1.05])


def test_barycentric_times_are_preferred_even_if_one_is_missing() -> None:
    """The difference from UTC is minutes."""
    with pytest.warns(TimesWarning, match="1 of 6 integrations have no time: they are left out"):
        curve = light_curve(stack(without("TDB-MID", [1])))
    np.testing.assert_array_equal(curve.time.mjd, TDB[[0, 2, 3, 4, 5]])


def test_points_are_in_order_of_time_and_each_time_once() -> None:
    table = times(NUMBER)
    table["TDB-MID"] = TDB[[3, 4, 5, 0, 1, 1]]
    with pytest.warns(TimesWarning, match="1 of 6 integrations have the time of another one"):
        curve = light_curve(stack(table))
    np.testing.assert_array_equal(curve.time.mjd, TDB[[0, 1, 3, 4, 5]])
    np.testing.assert_allclose(curve.flux[:, 0] / curve.flux[2, 0], [1.03, 1.04, 1.0, 1.01, 1.02])


def test_without_times_they_must_be_given() -> None:
    table = times(NUMBER)[["INT_NUM"]]
    with pytest.raises(LRSError, match=r"have no times, expected TDB-MID .* \(give time=\.\.\.\)"):
        light_curve(stack(table))
    with pytest.raises(LRSError, match="have no times"):
        light_curve(replace(stack(), times=None))
    given = Time(TDB, format="mjd", scale="tdb")
    assert (light_curve(stack(table), time=given).time == given).all()
    with pytest.warns(TimesWarning):
        curve = light_curve(stack(table), time=Time(UTC, format="mjd", scale="utc").tt)
    np.testing.assert_allclose(curve.time.mjd, UTC, rtol=0, atol=1e-9)
    for wrong in (given[:3], TDB):
        with pytest.raises(LRSError, match=r"time: found .*, expected a Time with 6 values"):
            light_curve(stack(table), time=wrong)
