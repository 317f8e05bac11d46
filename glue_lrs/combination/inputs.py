"""Inputs of a combination: spectra, stacks and images, as blocks of equal wavelength grids."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from glue_lrs.combination.combination import Combination
from glue_lrs.errors import LRSError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.extraction import Extraction

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Bools, Floats

__all__ = [
    "TIME_CARDS",
    "InputBlock",
    "check_compatible",
    "exposure_times",
    "input_blocks",
    "without_errors",
]

#: Header cards of the times.
TIME_CARDS = {"exposure_time": "EFFEXPTM", "integration_time": "EFFINTTM"}


# --- what goes in ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class InputBlock:
    """One of the objects that were given: a spectrum, or a stack with the same wavelengths.

    Arrays have the shape (integration, element); elements are in ascending order of wavelength.
    """

    extraction: Extraction
    label: str
    wave: Floats  # (element,)
    order: NDArray[np.intp]  # (element,): rows of the extraction
    usable: Bools  # flux that may be used

    @classmethod
    def from_extraction(cls, extraction: Extraction, label: str) -> InputBlock:
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
        """A column, NaN where the spectrum does not have it."""
        if name not in self.extraction.columns:
            return np.full(self.usable.shape, np.nan)
        return np.atleast_2d(self.extraction.columns[name])[:, self.order].astype(float)

    def dq(self) -> NDArray[np.uint32]:
        """The DQ column."""
        if "DQ" not in self.extraction.columns:
            return np.zeros(self.usable.shape, dtype=np.uint32)
        return np.atleast_2d(self.extraction.columns["DQ"])[:, self.order].astype(np.uint32)

    def name(self, integration: int) -> str:
        """What messages call one of its spectra."""
        if not self.extraction.is_stack:
            return self.label
        return f"{self.label}, integration {integration + 1}"

    @property
    def target(self) -> str | None:
        header = self.extraction.header
        found = header.get("TARGNAME") or header.get("TARGPROP")
        return None if found is None else str(found)

    @property
    def kind(self) -> str | None:
        """SRCTYPE; None where it is not known."""
        found = str(self.extraction.keywords.get("SRCTYPE") or "").upper()
        return found if found in ("POINT", "EXTENDED") else None

    @property
    def whole(self) -> bool | None:
        """Whether the flux is all of the light of a point source; None where that is not known."""
        provenance = self.extraction.provenance
        if provenance is None or self.kind != "POINT":
            return None
        step = provenance["parameters"].get("step", {})
        corrected = provenance.has_reference("apcorr") and step.get("apply_apcorr", True)
        return bool(step.get("extraction_type") == "optimal" or corrected)

    @property
    def exposure(self) -> tuple[Any, ...] | None:
        """What tells an exposure, or the part of it, from others."""
        header = self.extraction.header
        if header.get("EXPSTART") is None or not self.usable.any():
            return None
        cards = ("EXPSTART", "OBSERVTN", "EXPOSURE", "PATT_NUM", "EXPSEGNUM", "INTSTART")
        return tuple(header.get(card) for card in cards)

    def time(self, card: str) -> float | None:
        """A time of the header in seconds; None where there is none."""
        value = self.extraction.header.get(card)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return float(value)
        return None


def input_blocks(spectra: Any, extract: Any) -> list[InputBlock]:
    """All that was given, extracted where it is an image."""
    if isinstance(spectra, Extraction | SlitImage | Combination) or hasattr(
        spectra, "spectral_axis"
    ):
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
    operators = _operators(extract, len(images))
    which = dict(zip(images, operators, strict=True))
    return [
        _block(one, f"spectrum {number + 1}", which.get(number)) for number, one in enumerate(given)
    ]


def _is_image(one: Any) -> bool:
    if isinstance(one, SlitImage):
        return True
    return isinstance(getattr(one, "meta", {}).get("image"), SlitImage)


def _operators(extract: Any, number: int) -> list[Any]:
    """What extracts each of the images."""
    if isinstance(extract, Sequence):
        if len(extract) != number:
            raise LRSError(
                f"extract has {len(extract)} operators, expected one, or one for each of the "
                f"{number} images"
            )
        found = list(extract)
    else:
        found = [extract] * number
    for one in found:
        if not callable(one) and not hasattr(one, "run"):
            raise LRSError(
                f"extract is {one if one is None else 'a ' + type(one).__name__}, expected an "
                "Extract1D, as there are images to be extracted"
            )
    return found


def _block(one: Any, label: str, extract: Any) -> InputBlock:
    from glue_lrs.spectra.from_specutils import spectrum_to_extraction

    if extract is not None:
        one = extract.run(one) if hasattr(extract, "run") else extract(one)
    if isinstance(one, Combination) or "combination" in getattr(one, "meta", {}):
        raise LRSError(
            f"{label}: is a combination already, expected the spectra it was made of, whose "
            "exposure times count"
        )
    if not isinstance(one, Extraction):
        if not hasattr(one, "spectral_axis"):
            raise LRSError(
                f"{label}: is a {type(one).__name__}, expected a Spectrum, an Extraction or a "
                "SlitImage"
            )
        try:
            one = spectrum_to_extraction(one)
        except LRSError as error:
            raise LRSError(f"{label}: {error}") from None
    name = one.filename or one.header.get("FILENAME")
    return InputBlock.from_extraction(one, f"{label} ({os.path.basename(name)})" if name else label)


def check_compatible(blocks: Sequence[InputBlock], notes: list[str]) -> None:
    """Refuse what does not belong together; note what probably does not."""
    first = blocks[0]
    for name in ("FLUX", "SURF_BRIGHT"):
        units = [(block, block.extraction.units.get(name)) for block in blocks]
        known = [(block, unit) for block, unit in units if unit is not None]
        for block, unit in known[1:]:
            if u.Unit(unit) != u.Unit(known[0][1]):
                raise LRSError(
                    f"{block.label}: {name} is in {unit}, expected {known[0][1]} as in "
                    f"{known[0][0].label}"
                )
    modes = [(block, block.extraction.header.get("EXP_TYPE")) for block in blocks]
    known = [(block, mode) for block, mode in modes if mode is not None]
    for block, mode in known[1:]:
        if mode != known[0][1]:
            raise LRSError(
                f"{block.label}: EXP_TYPE is {mode}, expected {known[0][1]} as in "
                f"{known[0][0].label}"
            )
    for block in blocks[1:]:
        if None not in (block.target, first.target) and block.target != first.target:
            notes.append(
                f"{block.label}: the target is {block.target}, that of {first.label} is "
                f"{first.target}"
            )
        if None not in (block.kind, first.kind) and block.kind != first.kind:
            notes.append(
                f"{block.label}: the source is {block.kind}, that of {first.label} is {first.kind}"
            )
        if None not in (block.whole, first.whole) and block.whole != first.whole:
            some, other = (block, first) if first.whole else (first, block)
            notes.append(
                f"{some.label} has no aperture correction, {other.label} has all of the light"
            )
    exposures: dict[tuple[Any, ...], str] = {}
    twice = []
    for block in blocks:
        if block.exposure is None:
            continue
        if block.exposure in exposures:
            twice.append((block.label, exposures[block.exposure]))
        exposures.setdefault(block.exposure, block.label)
    if twice:
        again, first_of_it = twice[0]
        others = "" if len(twice) == 1 else f" (and {len(twice) - 1} more)"
        notes.append(
            f"{again} is of the same exposure as {first_of_it}{others}: what is combined twice "
            "gives errors that are too small"
        )
    seen: dict[bytes, str] = {}
    for block in blocks:
        for number, flux in enumerate(block.column("FLUX")):
            if block.usable[number].any():
                key = flux.tobytes()
                if key in seen:
                    notes.append(
                        f"{block.name(number)} has the same flux as {seen[key]}: what is combined "
                        "twice gives errors that are too small"
                    )
                seen.setdefault(key, block.name(number))


def without_errors(blocks: Sequence[InputBlock]) -> list[str]:
    """What is to be said of spectra whose errors are 0, as those of images without variances."""
    notes = []
    for block in blocks:
        error = block.column("FLUX_ERROR")[block.usable]
        told = error[np.isfinite(error)]
        if told.size and not (told > 0).any():
            notes.append(
                f"{block.label} has errors of 0, expected some: those of the combination are too "
                "small"
            )
    return notes


def exposure_times(blocks: Sequence[InputBlock], weights: str, mode: str) -> list[float]:
    """Weight of each spectrum of a block; 1 where no time counts."""
    if weights not in TIME_CARDS:
        return [1.0] * len(blocks)
    found = []
    for block in blocks:
        card = TIME_CARDS[weights]
        if mode == "default" and block.extraction.is_stack:
            card = "EFFINTTM"  # that of the exposure is the sum over its integrations
        time = block.time(card)
        if time is None:
            raise LRSError(
                f"{block.label}: {card} is {block.extraction.header.get(card, 'missing')}, "
                f"expected seconds for weights={weights!r} (weights='unit' needs none)"
            )
        found.append(time)
    return found
