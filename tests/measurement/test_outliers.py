"""Deviations of outliers, judged by the rows beside them."""

from __future__ import annotations

import numpy as np
import pytest

from glue_lrs.measurement.outliers import deviations

ROW, COLUMN = 15, 5


@pytest.mark.parametrize(
    ("misfit", "own", "expected"),
    [
        (0.0, 40.0, 40.0),  # a cosmic ray
        (0.0, -70.0, -70.0),  # a dead pixel
        (30.0, 50.0, 20.0),  # on top of a misfit
        (30.0, 30.0, 0.0),  # the misfit itself
        (30.0, 20.0, 0.0),  # above the fit, but below the neighbours
        (-30.0, 20.0, 20.0),  # the fit is closer than the neighbours
    ],
)
def test_a_misfit_is_no_outlier(misfit: float, own: float, expected: float) -> None:
    column = np.arange(11)
    sources = np.tile(100.0 * np.exp(-0.5 * ((column - COLUMN) / 1.5) ** 2), (31, 1))
    model = sources + 2.0
    data = model.copy()
    data[:, COLUMN] += misfit
    data[ROW, COLUMN] = model[ROW, COLUMN] + own
    kept = np.ones(data.shape, dtype=bool)
    kept[ROW, COLUMN] = False
    found = deviations(data, model, sources, kept, (np.array([ROW]), np.array([COLUMN])))
    assert found == pytest.approx([expected], abs=1e-9)
