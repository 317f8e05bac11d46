"""Inputs of a combination: blocks of spectra with a common wavelength grid.

Spectra, stacks of integrations and images are converted to these blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from glue_lrs.combination.combination import Combination
from glue_lrs.errors import LRSError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.from_specutils import spectrum_to_extraction

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs._utils.typing import Bools, Floats
    from glue_lrs.extraction.base import Extractor

#: How to extract a spectrum from an image: an operator such as `Extract1D`, or a function that
#: takes the image.
Extract: TypeAlias = "Extractor | Callable[[SlitImage], Extraction]"

#: Header card with the time that is the weight, for each choice of weights by time.
TIME_CARDS = {"exposure_time": "EFFEXPTM", "integration_time": "EFFINTTM"}

#: Header cards that identify an exposure, and the segment of the exposure in a file.
_EXPOSURE_CARDS = ("EXPSTART", "OBSERVTN", "EXPOSURE", "PATT_NUM", "EXPSEGNUM", "INTSTART")


@dataclass(frozen=True, eq=False)
class InputBlock:
    """An object to combine: a spectrum, or a stack of integrations with a common wavelength grid.

    Parameters
    ----------
    extraction : Extraction
        Spectrum or stack to combine.
    label : str
        Name of the object in messages.
    wave : ndarray
        Wavelengths in micron, ascending, shape (n_wave,).
    order : ndarray of int
        Index of each wavelength in the extraction, shape (n_wave,).
    usable : ndarray of bool
        Whether the flux is usable, shape (integration, n_wave).
    """

    extraction: Extraction
    label: str
    wave: Floats
    order: NDArray[np.intp]
    usable: Bools

    @classmethod
    def from_extraction(cls, extraction: Extraction, label: str) -> InputBlock:
        """Make a block from an extraction: sort by wavelength and find the usable values."""
        wave = np.asarray(extraction.wavelength, dtype=float)
        order = np.flatnonzero(np.isfinite(wave))
        order = order[np.argsort(wave[order], kind="stable")]
        usable = np.isfinite(np.atleast_2d(extraction.columns["FLUX"])[:, order])
        if "DQ" in extraction.columns:
            usable &= (np.atleast_2d(extraction.columns["DQ"])[:, order] & DO_NOT_USE) == 0
        return cls(extraction, label, wave[order], order, usable)

    def __len__(self) -> int:
        return len(self.usable)

    def column(self, name: str) -> Floats:
        """Return the values of a column, shape (integration, n_wave); NaN if it does not exist."""
        if name not in self.extraction.columns:
            return np.full(self.usable.shape, np.nan)
        return np.atleast_2d(self.extraction.columns[name])[:, self.order].astype(float)

    def dq(self) -> NDArray[np.uint32]:
        """Return the values of the DQ column, or 0 if it does not exist."""
        if "DQ" not in self.extraction.columns:
            return np.zeros(self.usable.shape, dtype=np.uint32)
        return np.atleast_2d(self.extraction.columns["DQ"])[:, self.order].astype(np.uint32)

    def name(self, integration: int) -> str:
        """Return the name of the spectrum with index `integration` in messages."""
        if not self.extraction.is_stack:
            return self.label
        return f"{self.label}, integration {integration + 1}"

    @property
    def target(self) -> str | None:
        """Name of the target; None if it is not known."""
        header = self.extraction.header
        name = header.get("TARGNAME") or header.get("TARGPROP")
        return None if name is None else str(name)

    @property
    def source_type(self) -> str | None:
        """SRCTYPE if it is POINT or EXTENDED, otherwise None."""
        value = str(self.extraction.keywords.get("SRCTYPE") or "").upper()
        return value if value in ("POINT", "EXTENDED") else None

    @property
    def has_total_flux(self) -> bool | None:
        """Whether the flux is the total flux of a point source; None if that is not known."""
        provenance = self.extraction.provenance
        if provenance is None or self.source_type != "POINT":
            return None
        step = provenance["parameters"].get("step", {})
        corrected = provenance.has_reference("apcorr") and step.get("apply_apcorr", True)
        return bool(step.get("extraction_type") == "optimal" or corrected)

    @property
    def exposure(self) -> tuple[Any, ...] | None:
        """Values that identify the exposure, and its segment in the file; None if not known."""
        header = self.extraction.header
        if header.get("EXPSTART") is None or not self.usable.any():
            return None
        return tuple(header.get(card) for card in _EXPOSURE_CARDS)

    def time(self, card: str) -> float | None:
        """Return the time in seconds from a header card; None if it is missing or invalid."""
        value = self.extraction.header.get(card)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return float(value)
        return None


def input_blocks(
    spectra: Iterable[Spectrum | Extraction | SlitImage],
    extract: Extract | Sequence[Extract] | None,
) -> list[InputBlock]:
    """Convert the arguments of `combine` to blocks, and extract the images.

    Raises
    ------
    LRSError
        If an object has another type, or there is no operator or function to extract an image.
    """
    single = isinstance(spectra, Extraction | SlitImage | Combination)
    if single or hasattr(spectra, "spectral_axis"):
        spectra = [spectra]
    try:
        given = list(spectra)
    except TypeError:
        raise LRSError(
            f"spectra is a {type(spectra).__name__}, expected a sequence of spectra"
        ) from None
    if not given:
        raise LRSError("spectra is empty, expected at least one spectrum")
    images = [number for number, one in enumerate(given) if _is_image(one)]
    operators = dict(zip(images, _operators(extract, len(images)), strict=True))
    return [
        _block(one, f"spectrum {number + 1}", operators.get(number))
        for number, one in enumerate(given)
    ]


def _is_image(one: object) -> bool:
    """Return whether an object is a `SlitImage` or a spectrum that holds one in its metadata."""
    return isinstance(one, SlitImage) or isinstance(
        getattr(one, "meta", {}).get("image"), SlitImage
    )


def _operators(extract: Extract | Sequence[Extract] | None, number: int) -> list[Extract]:
    """Return the operator or function that extracts each of the `number` images."""
    if isinstance(extract, Sequence):
        if len(extract) != number:
            raise LRSError(
                f"extract has {len(extract)} operators, expected one, or one for each of the "
                f"{number} images"
            )
        operators: list[Any] = list(extract)
    else:
        operators = [extract] * number
    for one in operators:
        if not callable(one) and not hasattr(one, "run"):
            raise LRSError(
                f"extract is {one if one is None else 'a ' + type(one).__name__}, expected an "
                "Extract1D, as there are images to be extracted"
            )
    return operators


def _block(one: Any, label: str, extract: Extract | None) -> InputBlock:
    """Convert an object to a block; extract it first if it is an image."""
    if extract is not None:
        one = extract.run(one) if hasattr(extract, "run") else extract(one)
    if isinstance(one, Combination) or "combination" in getattr(one, "meta", {}):
        raise LRSError(
            "is a combination already, expected the spectra it was made of, whose exposure times "
            "count",
            subject=label,
        )
    if not isinstance(one, Extraction):
        if not hasattr(one, "spectral_axis"):
            raise LRSError(
                f"is a {type(one).__name__}, expected a Spectrum, an Extraction or a SlitImage",
                subject=label,
            )
        try:
            one = spectrum_to_extraction(one)
        except LRSError as error:
            raise LRSError(str(error), subject=label) from None
    name = one.filename or one.header.get("FILENAME")
    return InputBlock.from_extraction(one, f"{label} ({os.path.basename(name)})" if name else label)


def check_compatible(blocks: Sequence[InputBlock]) -> list[str]:
    """Check that the inputs can be combined, and return notes about probable mistakes.

    Raises
    ------
    LRSError
        If inputs have different units or modes (EXP_TYPE).
    """
    for name in ("FLUX", "SURF_BRIGHT"):
        units = [block.extraction.units.get(name) for block in blocks]
        _check_same(blocks, f"{name} is in", units, u.Unit)
    modes = [block.extraction.header.get("EXP_TYPE") for block in blocks]
    _check_same(blocks, "EXP_TYPE is", modes, str)
    notes = [note for block in blocks[1:] for note in _difference_notes(block, blocks[0])]
    return notes + _same_exposure_notes(blocks) + _same_flux_notes(blocks)


def _check_same(
    blocks: Sequence[InputBlock],
    text: str,
    values: Sequence[str | None],
    parse: Callable[[str], Any],
) -> None:
    """Raise `LRSError` if the inputs have different values; values of None are ignored.

    `parse` converts a value before the comparison.
    """
    known = [(b, value) for b, value in zip(blocks, values, strict=True) if value is not None]
    for block, value in known[1:]:
        first, expected = known[0]
        if parse(value) != parse(expected):
            raise LRSError(
                f"{text} {value}, expected {expected} as in {first.label}", subject=block.label
            )


def _difference_notes(block: InputBlock, first: InputBlock) -> list[str]:
    """Return notes about differences between an input and the first input that suggest a mistake.

    Such differences are in the name of the target, the source type or the aperture correction.
    """

    def differ(name: str) -> bool:
        values = getattr(block, name), getattr(first, name)
        return None not in values and values[0] != values[1]

    notes = []
    if differ("target"):
        notes.append(
            f"{block.label}: the target is {block.target}, that of {first.label} is {first.target}"
        )
    if differ("source_type"):
        notes.append(
            f"{block.label}: the source is {block.source_type}, that of {first.label} is "
            f"{first.source_type}"
        )
    if differ("has_total_flux"):
        partial, total = (block, first) if first.has_total_flux else (first, block)
        notes.append(
            f"{partial.label} has no aperture correction, {total.label} has all of the light"
        )
    return notes


def _same_exposure_notes(blocks: Sequence[InputBlock]) -> list[str]:
    """Return notes about inputs that come from the same exposure."""
    labels: dict[tuple[Any, ...], str] = {}
    repeated = []
    for block in blocks:
        if block.exposure is None:
            continue
        if block.exposure in labels:
            repeated.append((block.label, labels[block.exposure]))
        labels.setdefault(block.exposure, block.label)
    if not repeated:
        return []
    label, earlier = repeated[0]
    others = "" if len(repeated) == 1 else f" (and {len(repeated) - 1} more)"
    return [
        f"{label} is of the same exposure as {earlier}{others}: data that are combined twice give "
        "errors that are too small"
    ]


def _same_flux_notes(blocks: Sequence[InputBlock]) -> list[str]:
    """Return notes about spectra that have identical fluxes."""
    notes: list[str] = []
    names: dict[bytes, str] = {}
    for block in blocks:
        for number, flux in enumerate(block.column("FLUX")):
            if not block.usable[number].any():
                continue
            key, name = flux.tobytes(), block.name(number)
            if key in names:
                notes.append(
                    f"{name} has the same flux as {names[key]}: data that are combined twice give "
                    "errors that are too small"
                )
            names.setdefault(key, name)
    return notes


def zero_error_notes(blocks: Sequence[InputBlock]) -> list[str]:
    """Return notes about spectra whose errors are all 0 because the image had no variances."""
    notes = []
    for block in blocks:
        error = block.column("FLUX_ERROR")[block.usable]
        error = error[np.isfinite(error)]
        if error.size and not (error > 0).any():
            notes.append(
                f"{block.label} has errors of 0, expected positive ones: those of the combination "
                "are too small"
            )
    return notes


def exposure_times(blocks: Sequence[InputBlock], weights: str, mode: str) -> list[float]:
    """Return the time that is the weight of the spectra in each block; 1 for other weights.

    Raises
    ------
    LRSError
        If the header does not have a valid time.
    """
    if weights not in TIME_CARDS:
        return [1.0] * len(blocks)
    times = []
    for block in blocks:
        card = TIME_CARDS[weights]
        if mode == "default" and block.extraction.is_stack:
            card = "EFFINTTM"  # EFFEXPTM is the sum over all integrations of the exposure
        time = block.time(card)
        if time is None:
            raise LRSError(
                f"{card} is {block.extraction.header.get(card, 'missing')}, "
                f"expected seconds for weights={weights!r} (weights='unit' needs none)",
                subject=block.label,
            )
        times.append(time)
    return times
