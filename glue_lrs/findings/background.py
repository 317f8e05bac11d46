"""Findings about background that is left, and about sources in the background regions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.apertures.edges import polynomial_regions
from glue_lrs.apertures.weights import region_weights
from glue_lrs.extraction.base import jansky_per_sum
from glue_lrs.extraction.box_sums import sum_box
from glue_lrs.extraction.checks import background_left, background_level
from glue_lrs.extraction.factory import box_for
from glue_lrs.spectra.findings import NEGLIGIBLE, SIGNIFICANT, Finding

if TYPE_CHECKING:
    from glue_lrs.findings.case import Case

#: A region is on a trace if its distance to the trace is less than this many FWHM. A Gaussian has
#: 0.04% of its flux beyond 1.5 FWHM, on both sides together. `region_notes` uses the same distance.
_CLEAR = 1.5

_NAMES = {"target": "the source", "source": "another source", "negative": "a negative trace"}


def residual_background(case: Case) -> Iterator[Finding]:
    """Yield a finding if background is left in an image from which the pipeline subtracted it.

    The traces of all sources are subtracted first. In other images, the box extraction itself looks
    for the background.
    """
    if not case.image.is_background_subtracted:
        return
    image = case.image.integration(0) if case.image.is_stack else case.image
    sources = np.nan_to_num(case.measurement.model())
    box = box_for(case.operator)
    plan = box.plan(image, box.placement.place(box.aperture, image))
    level = background_level(replace(image, data=image.data - sources), plan)
    if level is not None:
        columns, _ = sum_box(image, plan, jansky_per_sum(image))
        yield from background_left(image, plan, level, columns)


def background_findings(case: Case) -> Iterator[Finding]:
    """Yield a finding for each trace in a background region that changes the flux noticeably."""
    background, measured = case.operator.subtracted_background, case.measurement
    if background is None:
        return
    image, offset = case.image, case.operator.place(case.image).background_offset
    known = np.flatnonzero(case.rows)
    fwhm = measured.width(measured.wavelength[known])[0] / measured.pixel_scale
    regions = polynomial_regions(
        "bkg_coeff", background.bkg_coeff, background.independent_var, image.wavelength, offset
    )
    each = [region_weights(limits, image.shape).full(image.shape) > 0 for limits in regions]
    every = np.any(each, axis=0)
    for pixels in each:
        columns = np.flatnonzero(pixels.any(axis=0))
        if columns.size == 0:
            continue  # the region is off the image, which the extraction reports
        for source in measured.sources:
            trace = source.trace[known][:, np.newaxis]
            near = np.abs(np.arange(image.shape[1]) - trace) < _CLEAR * fwhm[:, np.newaxis]
            touched = (near & pixels[known]).any(axis=1)
            if source.snr < SIGNIFICANT or not touched.any():
                continue
            light = np.where(every, case.profile(source), 0.0)[known].sum(axis=1)
            level = light / np.maximum(every[known].sum(axis=1), 1)
            change = -float((level * case.width).mean()) * source.flux_ratio
            change /= case.source.flux_ratio
            if abs(change) < NEGLIGIBLE:
                continue
            part = "" if touched.all() else f" in {int(touched.sum())} of {known.size} rows"
            yield Finding(
                "region_on_trace",
                f"the background region (columns {columns[0]} to {columns[-1]}) contains "
                f"{_NAMES[source.kind]} at column {source.column:.2f}{part}, which changes the "
                f"flux by about {change:+.0%}",
                {"column": source.column, "change": change, "rows": int(touched.sum())},
            )
