"""Combination: several spectra of a target, nods or exposures, made one without resampling."""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import fits

from glue_lrs._utils.validation import check_choice
from glue_lrs.combination.combination import (
    COLUMNS,
    Combination,
    CombinationProvenance,
    CombineInput,
    InputFile,
)
from glue_lrs.combination.inputs import (
    TIME_CARDS,
    check_compatible,
    exposure_times,
    input_blocks,
    without_errors,
)
from glue_lrs.combination.pipeline import pipeline_mean
from glue_lrs.combination.weighted_mean import weighted_mean
from glue_lrs.errors import LRSError, LRSWarning

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs.combination.inputs import InputBlock
    from glue_lrs.combination.weighted_mean import CombinedColumns
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction

__all__ = ["WEIGHTS", "combine"]

#: What spectra may be weighted by.
WEIGHTS = ("exposure_time", "integration_time", "unit", "inverse_variance")


# --- the function ---------------------------------------------------------------------------------


def combine(
    spectra: Iterable[Spectrum | Extraction | SlitImage],
    *,
    weights: str = "exposure_time",
    sigma_clip: float | None = None,
    mode: str = "default",
    extract: Any = None,
) -> Combination:
    """Combine spectra of one target, such as nods or exposures, without resampling.

    Every element of an input goes, whole, to one element of the common grid.

    Parameters
    ----------
    spectra : sequence
        Each a `~specutils.Spectrum`, an `Extraction`, or a `SlitImage`. Integrations of a stack are
        spectra of their own.
    weights : {"exposure_time", "integration_time", "unit", "inverse_variance"}
        EFFEXPTM, EFFINTTM, 1, or the inverse of the variance, smoothed along the wavelength.
    sigma_clip : float, optional
        An element of an input is left out where it is farther from the median of the inputs than
        this many times the error. The default is not to clip.
    mode : {"default", "pipeline"}
        ``"pipeline"`` gives the numbers of the pipeline's combine_1d step, with its faults, which
        are listed in the notes. It does not know ``"inverse_variance"``.
    extract : Extract1D, callable, or a sequence of them, optional
        What makes an `Extraction` of each `SlitImage`: an operator with a method ``run``, or a
        function of the image; or one of them for each image.

    Returns
    -------
    Combination
        The combined columns, what was clipped, and what was combined.

    Raises
    ------
    LRSError
        If spectra are of different units or modes (EXP_TYPE), none has a usable flux, a time or
        error that the weights need is missing, or a parameter is wrong.

    Warns
    -----
    LRSWarning
        If targets differ, two spectra are the same, one has no usable flux, or there are fewer than
        three spectra to clip.

    Notes
    -----
    The grid is that of the input with the most elements. Elements of other inputs go to the
    nearest; where there is none within 3/4 of their own spacing they add one. The wavelength
    of an element is the mean of those of the elements in it, weighted as the flux.

    With values f, errors s and weights w of n inputs in an element the flux is
    sum(w f) / sum(w), and the error sqrt(sum(w^2 s^2)) / sum(w). Integrations of a stack share
    their pixels, so that the part of the error that the flat field has is the same in all of them
    and is not averaged down: s^2 is then FLUX_ERROR^2 - FLUX_VAR_FLAT, and (sum of w sqrt
    (FLUX_VAR_FLAT) of each stack)^2 is added.

    What the default mode does other than the pipeline's step (jwst 3.0):

    - several elements of an input in one element of the grid are averaged; there the last one wins;
    - elements beyond the outermost output wavelengths, which are means, are not lost;
    - rows where no input is usable stay, as NaN with DQ bit 0; there they are gone;
    - clipping compares with the median in units of the errors of the element and the median, after
      what an input differs by from the others all along (in running medians over 51 elements), and
      not at all where there are fewer than three; there the limit is one median of
      abs(flux * weight - median) for all wavelengths and inputs, so that unequal exposure times and
      steep spectra lose what is good, and of two inputs both go or none;
    - a surface brightness or error that is NaN does not count as 0;
    - an integration's exposure time is EFFINTTM; there it is EFFEXPTM, that of all integrations;
    - inverse variances come from a running median over 31 elements, as the variance of a pixel that
      happens to be low is low as well, which draws the mean down.

    Examples
    --------
    >>> from glue_lrs import Aperture, Extract1D
    >>> from glue_lrs.combine import combine
    >>> from glue_lrs.simulate import Scene
    >>> scene = Scene(seed=1)
    >>> nods = [scene.s2d(nod=1).image, scene.s2d(nod=2).image]
    >>> extract = Extract1D(aperture=Aperture(xstart=9, xstop=17), use_source_posn=True)
    >>> combine(nods, extract=extract)
    <Combination of 2 spectra, 387, 3.19 to 14.02 um>
    """
    check_choice("weights", weights, WEIGHTS)
    check_choice("mode", mode, ("default", "pipeline"))
    if mode == "pipeline" and weights == "inverse_variance":
        raise LRSError(
            "weights is 'inverse_variance', which the pipeline does not know: expected "
            "mode='default', or another weight"
        )
    if sigma_clip is not None:
        number = isinstance(sigma_clip, int | float | np.number)
        if not number or isinstance(sigma_clip, bool) or not 0 < sigma_clip < np.inf:
            raise LRSError(f"sigma_clip is {sigma_clip!r}, expected a number above 0, or None")
        sigma_clip = float(sigma_clip)
    notes: list[str] = []
    blocks = input_blocks(spectra, extract)
    check_compatible(blocks, notes)
    if weights != "inverse_variance":
        notes += without_errors(blocks)
    times = exposure_times(blocks, weights, mode)
    work = pipeline_mean if mode == "pipeline" else weighted_mean
    made = work(blocks, times, weights, sigma_clip, notes)
    for note in notes:
        warnings.warn(note, LRSWarning, stacklevel=2)
    inputs = _inputs(blocks, made)
    parameters = {"weights": weights, "sigma_clip": sigma_clip, "mode": mode}
    return Combination(
        columns={name: made.columns[name] for name in COLUMNS},
        units=_units(blocks, weights),
        clipped=made.clipped[:, made.kept],
        header=_header(blocks[0], inputs, mode),
        keywords=_keywords(blocks[0]),
        inputs_source=inputs,
        provenance=_record(parameters, inputs, blocks, notes),
    )


def _inputs(blocks: Sequence[InputBlock], made: CombinedColumns) -> tuple[CombineInput, ...]:
    found: list[CombineInput] = []
    for block in blocks:
        file = InputFile(block.extraction)
        stack = block.extraction.is_stack
        for integration in range(len(block)):
            number = len(found)
            found.append(
                CombineInput(
                    label=block.name(integration),
                    file_source=file,
                    integration=integration if stack else None,
                    target=block.target,
                    exposure_time=block.time("EFFINTTM" if stack else "EFFEXPTM"),
                    rows_used=int(made.used[number].sum()),
                    rows_clipped=int(made.clipped[number].sum()),
                )
            )
    return tuple(found)


def _record(
    parameters: dict[str, Any],
    inputs: Sequence[CombineInput],
    blocks: Sequence[InputBlock],
    notes: Sequence[str],
) -> CombinationProvenance:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    # Not the blocks: they would keep all columns alive.
    provenances = [block.extraction.provenance for block in blocks]

    def source() -> dict[str, Any]:
        return {
            "parameters": parameters,
            "inputs": [one.to_dict() for one in inputs],
            "extractions": [None if one is None else dict(one) for one in provenances],
            "notes": list(notes),
            "versions": {
                name: importlib.metadata.version(name)
                for name in ("glue-lrs", "numpy", "astropy", "specutils")
            },
            "date": now,
        }

    return CombinationProvenance(source)


def _units(blocks: Sequence[InputBlock], weights: str) -> dict[str, str]:
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
    header = first.extraction.header.copy()
    used = [one.exposure_time for one in inputs if one.rows_used]
    times = [time for time in used if time is not None]
    if mode == "default" and len(times) == len(used) and "EFFEXPTM" in header:
        header["EFFEXPTM"] = sum(times)  # as the pipeline does where it resamples
    return header


def _keywords(first: InputBlock) -> dict[str, Any]:
    """What the pipeline takes over from the first input."""
    known = first.extraction.keywords
    names = ("SPORDER", "SOURCEID", "SRCTYPE", "SRCRA", "SRCDEC", "DISPAXIS")
    return {name: known[name] for name in names if known.get(name) is not None}
