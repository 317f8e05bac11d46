"""Combination of spectra of one target, for example from different nods, without resampling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import fits

from glue_lrs._utils.validation import check_bool, check_choice
from glue_lrs.combination.checks import (
    check_compatible,
    contradictions,
    scaled,
    zero_errors,
)
from glue_lrs.combination.combination import COLUMNS, Combination, CombineInput, InputFile
from glue_lrs.combination.inputs import (
    TIME_CARDS,
    exposure_times,
    input_blocks,
)
from glue_lrs.combination.pipeline import pipeline_mean
from glue_lrs.combination.weighted_mean import weighted_mean
from glue_lrs.errors import LRSError, quoted
from glue_lrs.spectra.columns import QUALITY
from glue_lrs.spectra.findings import emit, worst_first
from glue_lrs.spectra.provenance import CombinationProvenance, package_versions

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs.combination.inputs import Extract, InputBlock
    from glue_lrs.combination.weighted_mean import CombinedColumns
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.spectra.findings import Finding
    from glue_lrs.spectra.provenance import Provenance

#: Accepted values of the parameter `weights`.
WEIGHTS = ("exposure_time", "integration_time", "unit", "inverse_variance")

#: Keywords that are copied from the first input to the result, as in the pipeline.
_KEYWORDS = ("SPORDER", "SOURCEID", "SRCTYPE", "SRCRA", "SRCDEC", "DISPAXIS")


def combine(
    spectra: Iterable[Spectrum | Extraction | SlitImage | str | PathLike[str]],
    *,
    weights: str = "exposure_time",
    sigma_clip: float | None = None,
    mode: str = "default",
    incomplete: str = "reject",
    scale: bool = False,
    allow_opposite: bool = False,
    extract: Extract | Sequence[Extract] | None = None,
) -> Combination:
    """Combine spectra of one target, for example from different nods, without resampling.

    Each value of an input contributes to exactly one wavelength bin of a common grid.

    Parameters
    ----------
    spectra : sequence
        Spectra to combine. Each item is a `~specutils.Spectrum`, an `Extraction`, a `SlitImage`, or
        the path of an x1d, x1dints, s2d, cal or calints file. The integrations of a stack count as
        separate spectra.
    weights : {"exposure_time", "integration_time", "unit", "inverse_variance"}
        Weights of the spectra, in this order: EFFEXPTM, EFFINTTM, 1, or the inverse of the
        variances after smoothing along the wavelength.
    sigma_clip : float, optional
        Difference between a value and the median of the inputs, in standard deviations, above which
        the value is clipped. By default, nothing is clipped.
    mode : {"default", "pipeline"}
        ``"pipeline"`` reproduces the numbers of the pipeline's combine_1d step, including its
        deficiencies (see Notes). It does not support ``"inverse_variance"``.
    incomplete : {"reject", "keep"}
        Whether values that lost more than half a pixel of the aperture, according to NPIXELS, are
        rejected where another input has a complete value. The mode ``"pipeline"`` always keeps
        them.
    scale : bool
        Whether each spectrum is first multiplied by a factor that gives all the same mean flux.
    allow_opposite : bool
        Whether to combine spectra whose weighted mean fluxes have opposite signs, each by more than
        5 times its error. They are probably those of a source and of its negative trace.
    extract : Extract1D, callable, or a sequence of them, optional
        Operator with a method ``run``, or function of an image, with which each `SlitImage` is
        extracted. If it is a sequence, it must have one item for each image. Otherwise all images
        are extracted in the same way.

    Returns
    -------
    Combination
        The combined columns, the mask of clipped values, and descriptions of the inputs.

    Raises
    ------
    LRSError
        If spectra have different units or modes (EXP_TYPE), no spectrum has a usable flux, a time
        or error that the weights require is missing, mean fluxes have opposite signs, or a
        parameter is invalid.

    Warns
    -----
    LRSWarning
        For each of the `Combination.findings` whose severity is "warning" or "error", for example
        if spectra have different targets or fluxes, or two are the same. The class of the warning
        depends on the kind of the finding.

    Notes
    -----
    The bins of the common grid are the wavelengths of the input with the most wavelengths. Each
    value of another input is assigned to the nearest bin. If this bin is farther away than 3/4 of
    the wavelength spacing in the input, the wavelength of the value becomes a new bin. The
    wavelength of a combined bin is the mean wavelength of its values, with the same weights as for
    the flux.

    If the n inputs in a bin have values f, errors s and weights w, then the combined flux is
    sum(w f) / sum(w) and its error is sqrt(sum(w^2 s^2)) / sum(w). The integrations of a stack are
    measured with the same pixels, so that their flat-field error is the same and is not reduced by
    averaging. For stacks, s^2 is therefore FLUX_ERROR^2 - FLUX_VAR_FLAT, and for each stack, which
    may consist of the segments of an exposure, the square of sum(w sqrt(FLUX_VAR_FLAT)) is added to
    sum(w^2 s^2). From all exposures at a nod, the pipeline subtracts the same background. If the
    spectra were extracted with ``noise="nod"``, its variance (FLUX_VAR_NOD) is treated in the same
    way for all exposures at a nod.

    Bits of DQ and QUALITY are set in a bin if they are set in any value that is used there. Inputs
    without QUALITY, which another program extracted, have no bits.

    The default mode differs from the pipeline's step (jwst 3.0) as follows:

    - If several values of an input are in the same bin, they are averaged. The step uses only the
      last of them.
    - All values are used. The grid of the step consists of mean wavelengths, so that some values
      are beyond its ends and are not used.
    - Bins without a usable input are NaN with DQ bit 0. The step removes such bins.
    - Differences between inputs that persist along the wavelength (running medians over 51 bins)
      are removed before clipping. In bins with at least three inputs, a value is then clipped if
      its difference from the median exceeds `sigma_clip` times the combined error of the value and
      the median. The step uses one limit for all wavelengths and inputs, which is `sigma_clip`
      times the median of abs(flux * weight - median). It thus clips good values if the spectrum is
      steep or the exposure times are unequal. If there are two inputs, it clips both or neither.
    - Surface brightnesses and errors that are NaN are not treated as 0.
    - The exposure time of an integration is EFFINTTM. The step uses EFFEXPTM, which is the total
      time of all integrations.
    - The variances for the weights are smoothed by a running median over 31 bins. Without
      smoothing, the mean would be biased because pixels with low values have low variances.

    Examples
    --------
    >>> from glue_lrs import Aperture, Extract1D
    >>> from glue_lrs.combination import combine
    >>> from glue_lrs.simulation import Scene
    >>> scene = Scene(seed=1)
    >>> nods = [scene.s2d(nod=1).image, scene.s2d(nod=2).image]
    >>> extract = Extract1D(aperture=Aperture(xstart=9, xstop=17), use_source_posn=True)
    >>> combine(nods, extract=extract)
    <Combination of 2 spectra, SIMULATED, MIR_LRS-FIXEDSLIT
      387 wavelengths, 3.19 to 14.02 um
      median S/N 554, flux in Jy>
    """
    check_choice("weights", weights, WEIGHTS)
    check_choice("mode", mode, ("default", "pipeline"))
    check_choice("incomplete", incomplete, ("reject", "keep"))
    for key, value in (("scale", scale), ("allow_opposite", allow_opposite)):
        check_bool(key, value)
    if mode == "pipeline" and scale:
        raise LRSError("scale is set, which the pipeline does not have: expected the default mode")
    if mode == "pipeline" and weights == "inverse_variance":
        raise LRSError(
            "weights is 'inverse_variance', which the pipeline does not have: expected the default "
            "mode, or other weights"
        )
    if sigma_clip is not None:
        number = isinstance(sigma_clip, int | float | np.number)
        if not number or isinstance(sigma_clip, bool) or not 0 < sigma_clip < np.inf:
            raise LRSError(
                f"sigma_clip is {quoted(sigma_clip)}, expected a number above 0, or None"
            )
        sigma_clip = float(sigma_clip)
    blocks = input_blocks(spectra, extract)
    findings = check_compatible(blocks)
    if weights != "inverse_variance":
        findings += zero_errors(blocks)
    if scale:
        blocks, factors = scaled(blocks)
        findings += factors
    findings += contradictions(blocks, allow_opposite)
    times = exposure_times(blocks, weights, mode)
    if mode == "pipeline":
        combined = pipeline_mean(blocks, times, weights, sigma_clip, findings)
    else:
        combined = weighted_mean(blocks, times, weights, sigma_clip, findings, incomplete)
    found = worst_first(findings)
    emit(found, "")
    inputs, known = _inputs(blocks, combined), blocks[0].extraction.keywords
    has_quality = any(QUALITY in block.extraction.columns for block in blocks)
    names = (*COLUMNS, QUALITY) if has_quality else COLUMNS
    parameters = {
        "weights": weights,
        "sigma_clip": sigma_clip,
        "mode": mode,
        "incomplete": incomplete,
        "scale": scale,
        "allow_opposite": allow_opposite,
    }
    return Combination(
        columns={name: combined.columns[name] for name in names},
        units=_units(blocks, weights),
        clipped=combined.clipped[:, combined.kept],
        header=_header(blocks[0], inputs, mode),
        keywords={name: known[name] for name in _KEYWORDS if known.get(name) is not None},
        inputs_source=inputs,
        provenance=_provenance(parameters, inputs, blocks, found),
    )


def _inputs(blocks: Sequence[InputBlock], combined: CombinedColumns) -> tuple[CombineInput, ...]:
    """Return the descriptions of the input spectra."""
    inputs: list[CombineInput] = []
    for block in blocks:
        file = InputFile(block.extraction.filename, block.extraction.provenance)
        stack = block.extraction.is_stack
        for integration in range(len(block)):
            number = len(inputs)
            inputs.append(
                CombineInput(
                    label=block.name(integration),
                    file_source=file,
                    integration=integration if stack else None,
                    target=block.target,
                    exposure_time=block.time("EFFINTTM" if stack else "EFFEXPTM"),
                    rows_used=int(combined.used[number].sum()),
                    rows_clipped=int(combined.clipped[number].sum()),
                )
            )
    return tuple(inputs)


def _provenance(
    parameters: Mapping[str, object],
    inputs: Sequence[CombineInput],
    blocks: Sequence[InputBlock],
    findings: Sequence[Finding],
) -> CombinationProvenance:
    """Return the provenance of a combination. Its values are computed when first accessed."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    # The function below must not refer to the blocks, which would keep all columns in memory.
    provenances = [block.extraction.provenance for block in blocks]

    # Unlike a closure, a partial of a function of the module can be pickled.
    return CombinationProvenance(partial(_record, parameters, inputs, provenances, findings, now))


def _record(
    parameters: Mapping[str, object],
    inputs: Sequence[CombineInput],
    provenances: Sequence[Provenance | None],
    findings: Sequence[Finding],
    date: str,
) -> dict[str, Any]:
    """Return the values of the record of a combination."""
    return {
        "parameters": parameters,
        "inputs": [one.to_dict() for one in inputs],
        "extractions": [None if one is None else dict(one) for one in provenances],
        "findings": [one.to_dict() for one in findings],
        "versions": package_versions(),
        "date": date,
    }


def _units(blocks: Sequence[InputBlock], weights: str) -> dict[str, str]:
    """Return the units of the columns of the combined spectrum that have a unit."""
    units = {"WAVELENGTH": "um"}
    for name, error in (("FLUX", "ERROR"), ("SURF_BRIGHT", "SB_ERROR")):
        known = [block.extraction.units.get(name) for block in blocks]
        unit = next((one for one in known if one is not None), None)
        if unit is not None:
            units[name] = units[error] = unit
    if weights in TIME_CARDS:
        units["WEIGHT"] = "s"
    elif weights == "inverse_variance" and "FLUX" in units:
        units["WEIGHT"] = (u.Unit(units["FLUX"]) ** -2).to_string()
    return units


def _header(first: InputBlock, inputs: Sequence[CombineInput], mode: str) -> fits.Header:
    """Return the header of the first input.

    In the default mode, EFFEXPTM is the sum of the exposure times of all used inputs.
    """
    header = first.extraction.header.copy()
    used = [one.exposure_time for one in inputs if one.rows_used]
    times = [time for time in used if time is not None]
    if mode == "default" and len(times) == len(used) and "EFFEXPTM" in header:
        header["EFFEXPTM"] = sum(times)  # as in the pipeline's resampling
    return header
