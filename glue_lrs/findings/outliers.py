"""Findings about outliers, such as cosmic rays, among the pixels of the aperture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import uniform_filter1d

from glue_lrs.errors import Hint
from glue_lrs.spectra.findings import NEGLIGIBLE, Finding

if TYPE_CHECKING:
    from glue_lrs.findings.case import Case

#: Number of ranges of rows in which the flux of outliers is compared with that of the source, as
#: for the background that was not subtracted.
_RANGES = 8

#: Number of rows over which the flux is averaged; the flux of outliers is compared with this mean.
_NEAR = 21

#: Largest accepted change of the flux of a row, as a fraction of the mean around it. The profile is
#: fitted to a few per cent of its peak, which is significant in a bright source.
_LEAST_CHANGE = 0.05

#: Largest fraction of the source's flux in a row that may fall on outliers. If more does, too few
#: pixels remain to scale the profile.
_MOST_LIGHT = 0.5

#: Largest fraction of the rows in which more than `_MOST_LIGHT` may fall on outliers. Cosmic rays
#: affect far fewer rows as severely: if there are more, the fitted profile is wrong.
_MOST_ROWS = 0.1


def outlier_findings(case: Case) -> Iterator[Finding]:
    """Yield a finding if outliers among the pixels of the aperture change the flux.

    The measurement fits the flux of the source in each row, so that an emission line, which has the
    profile of the source, is no outlier, and a cosmic ray or a dead pixel is one.
    """
    row, column = case.measurement.outliers[:2].astype(int)
    if row.size == 0 or not case.inside(case.source):
        return
    number, rows = case.rows.size, np.flatnonzero(case.rows)
    light = np.bincount(row, case.profile(case.source)[row, column], number)
    unreliable = int((light[case.rows] >= _MOST_LIGHT).sum())
    if unreliable > _MOST_ROWS * case.rows.sum():
        text = (
            f"in {unreliable} of {case.rows.sum()} rows, the fitted profile differs from the data"
        )
        yield Finding("not_measured", f"{text}: outliers were not searched for")
        return
    change = np.bincount(row, case.weights[row, column] * case.measurement.outliers[2], number)
    change = np.where(light < _MOST_LIGHT, change, 0.0)[rows]
    level, share = np.zeros(rows.size), 0.0
    flux = case.source.flux[rows] * case.enclosed
    for part in np.array_split(np.arange(rows.size), min(_RANGES, rows.size)):
        level[part] = abs(float(flux[part].mean()))
        mean = float(np.abs(change[part]).mean())
        share = max(share, mean / max(float(level[part[0]]), 1e-300))
    # Within an eighth of the rows, a spectrum may change by tens of percents.
    local = np.abs(uniform_filter1d(flux, _NEAR, mode="nearest"))
    level = np.where(local > 0.5 * level, local, level)
    ratio = change / np.maximum(level, 1e-300)
    affected, worst = np.abs(ratio) > _LEAST_CHANGE, int(np.abs(ratio).argmax())
    if not affected.any():
        return
    yield Finding(
        "outlier_flux" if share > NEGLIGIBLE else "outliers",
        "outliers, such as cosmic rays and dead pixels, change the flux in "
        f"{int(affected.sum())} of {rows.size} rows, most ({ratio[worst]:+.0%}) at "
        f"{case.measurement.wavelength[rows[worst]]:.2f} um, and the mean flux of an eighth of the "
        f"rows by up to {share:.1%}",
        {
            "rows": int(affected.sum()),
            "all": rows.size,
            "highest": float(ratio[worst]),
            "share": share,
        },
        Hint.to("{} rejects them", extraction_type="optimal"),
    )
