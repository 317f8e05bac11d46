"""Light curves of glue_lrs in lightkurve, in an environment of its own: see .ci/lightkurve."""

from __future__ import annotations

from pathlib import Path

import lightkurve
import numpy as np
from astropy import units as u
from astropy.timeseries import TimeSeries

from glue_lrs import Extract1D
from glue_lrs.simulation import Scene, Source
from glue_lrs.timeseries import light_curve


def test_lightkurve_reads_the_table_and_the_file(tmp_path: Path) -> None:
    image = Scene(sources=(Source(flux=0.1),), background=0.0, seed=1).calints(12).image
    curve = light_curve(Extract1D.from_reference(None, image.exp_type).run(image), bins=3)
    curve.write(tmp_path / "star.ecsv")
    stored = TimeSeries.read(tmp_path / "star.ecsv", format="ascii.ecsv")
    for table in (curve.table, stored):
        found = lightkurve.LightCurve(table)
        np.testing.assert_array_equal(found.flux.value, curve.flux[:, 0])
        np.testing.assert_array_equal(found.flux_err.value, curve.error[:, 0])
        np.testing.assert_array_equal(found["flux_3"].value, curve.flux[:, 3])
        assert found.flux.unit == u.Jy
        assert found.time.scale == "tdb"
        assert abs(found.time - curve.time).max() < 1 * u.us
        normal = found.normalize()
        np.testing.assert_allclose(
            normal.flux.value, curve.flux[:, 0] / np.median(curve.flux[:, 0])
        )
