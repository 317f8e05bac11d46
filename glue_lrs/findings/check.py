"""All checks of an extraction."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from glue_lrs.errors import LRSError, LRSWarning, SourceError
from glue_lrs.extraction.options import prepared_image
from glue_lrs.extraction.regions import region_findings
from glue_lrs.findings.aperture import flux_findings, lost_flux, position_findings, trace_findings
from glue_lrs.findings.background import background_findings, residual_background
from glue_lrs.findings.case import Case
from glue_lrs.findings.outliers import outlier_findings
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.measurement.measure import measure
from glue_lrs.spectra.findings import Finding, worst_first

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import ImageSource
    from glue_lrs.measurement.measurement import Measurement
    from glue_lrs.spectra.extraction import Extraction

#: Checks of a box extraction of an image with a source. A new check is added here, and its kind of
#: finding to `glue_lrs.spectra.findings.KINDS`.
CHECKS: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    position_findings,
    trace_findings,
    flux_findings,
    background_findings,
    residual_background,
    outlier_findings,
)

#: Measurement of each image, or the finding that says why there is none. They are cached as long as
#: the image exists, so that they are not repeated when an operator is edited.
_MEASUREMENTS: WeakKeyDictionary[SlitImage, Measurement | Finding] = WeakKeyDictionary()

#: Kinds of findings that are left out if there is one of the kinds that are listed for them.
_REPLACED = {
    "aperture_off_header": (
        "source_outside",
        "off_centre",
        "far_off_centre",
        "other_source",
        "header_off",
    ),
    "region_on_header": ("region_on_trace", "header_off"),
    "no_aperture_correction": ("flux_outside",),
    "lost_pixels": ("flux_lost",),
}


def check(
    operator: Extract1D,
    image: ImageSource,
    extraction: Extraction | None = None,
) -> tuple[Finding, ...]:
    """Return all findings about an extraction, worst first.

    Parameters
    ----------
    operator : Extract1D
        Operator that extracts the image.
    image : SlitImage, `~specutils.Spectrum`, str or path-like
        Image to be extracted, as for `Extract1D.run`.
    extraction : Extraction, optional
        Result of ``operator.run(image)``, if there is one already.

    Returns
    -------
    tuple of Finding
        Findings of the extraction, of the header, and of the measurement of the source. In an
        optimal extraction, which fits the source, and for an extended source, nothing is measured.

    Raises
    ------
    LRSError
        If the image cannot be extracted.
    """
    image = prepared_image(operator, image)
    if extraction is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LRSWarning)
            extraction = operator.run(image)
    found = [*extraction.findings, *region_findings(image, operator)]
    if operator.mode == "box" and not image.is_extended_source:
        found += _measured(image, operator, found)
    kinds = {one.kind for one in found}
    return worst_first(one for one in found if kinds.isdisjoint(_REPLACED.get(one.kind, ())))


def _measured(image: SlitImage, operator: Extract1D, known: list[Finding]) -> list[Finding]:
    """Return the findings that need a measurement of the source.

    `known` contains the findings that do not need it.
    """
    if image not in _MEASUREMENTS:
        _MEASUREMENTS[image] = _measurement(image)
    measurement = _MEASUREMENTS[image]
    if isinstance(measurement, Finding):
        return [measurement]
    case = Case(image, operator, measurement)
    if not case.rows.any() or not case.is_one_box:
        text = "the aperture is not a single range of columns: its position was not checked"
        return [Finding("not_measured", text)]
    found = [finding for one_check in CHECKS for finding in one_check(case)]
    if operator.max_lost is None:  # otherwise the rows are masked
        found += [lost_flux(case, one) for one in known if one.kind == "lost_pixels"]
    return found


def _measurement(image: SlitImage) -> Measurement | Finding:
    """Return the sources in an image, or a finding that says why they were not measured."""
    try:
        return measure(image, integrations=False)
    except SourceError as error:
        text = f"{error.text}: the spectrum is probably that of the background"
        return Finding("no_source", f"no source was found in the image: {text}")
    except LRSError as error:
        return Finding("not_measured", f"the source could not be measured: {error.text}")
