"""Inputs of a combination, converted to blocks.

A block is one spectrum, or a stack of spectra that have the same wavelengths.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glue_lrs.combination.combination import Combination
from glue_lrs.errors import Hint, LRSError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.column_checks import REPORTED_LOSS, incomplete
from glue_lrs.spectra.columns import QUALITY
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.from_specutils import spectrum_to_extraction
from glue_lrs.spectra.segments import exposure_of
from glue_lrs.uncertainty.added_variance import nod_key

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs._utils.typing import Bools, Floats
    from glue_lrs.extraction.base import Extractor
    from glue_lrs.spectra.findings import Finding

#: Type of an operator such as `Extract1D`, or function, that extracts a spectrum from an image.
Extract: TypeAlias = "Extractor | Callable[[SlitImage], Extraction]"

#: Function that reads spectra and images, imported by name because it belongs to a higher layer.
_READ = "glue_lrs.io.spectra:read_inputs"

#: Header card from which the weight is taken, for each value of `weights` that is a time.
TIME_CARDS = {"exposure_time": "EFFEXPTM", "integration_time": "EFFINTTM"}

#: Header cards that together identify an exposure and a segment of the exposure.
_EXPOSURE_CARDS = ("EXPSTART", "OBSERVTN", "EXPOSURE", "PATT_NUM", "EXSEGNUM", "INTSTART")

#: Columns of `Extraction.times` that together identify an integration.
_TIMES = ("SEGMENT", "INT_NUM", "MJD-BEG")


@dataclass(frozen=True, eq=False)
class InputBlock:
    """Input of a combination: a spectrum, or a stack of integrations with a common grid.

    Parameters
    ----------
    extraction : Extraction
        Spectrum or stack to combine.
    label : str
        Name of the input in messages.
    rejected : ndarray of bool, optional
        Mask of values that are not used, shape (integration, n_wave).
    """

    extraction: Extraction
    label: str
    rejected: Bools | None = None

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """Indices that select the finite wavelengths and sort them in ascending order."""
        wave = np.asarray(self.extraction.wavelength, dtype=float)
        order = np.flatnonzero(np.isfinite(wave))
        return order[np.argsort(wave[order], kind="stable")]

    @cached_property
    def wave(self) -> Floats:
        """Wavelengths in micron, ascending, shape (n_wave,)."""
        return np.asarray(self.extraction.wavelength, dtype=float)[self.order]

    @cached_property
    def usable(self) -> Bools:
        """Mask of the usable fluxes, shape (integration, n_wave).

        These are finite, do not have DQ bit 0, and are not `rejected`.
        """
        usable: Bools = np.isfinite(self.column("FLUX")) & ((self.dq() & DO_NOT_USE) == 0)
        return usable if self.rejected is None else usable & ~self.rejected

    @cached_property
    def short(self) -> Bools:
        """Mask of the fluxes that lack pixels of the aperture, shape (integration, n_wave).

        It is False for an optimal extraction (whose surface brightness is 0), because the fit of
        the profile makes up for lost pixels.
        """
        extraction = self.extraction
        bright = extraction.columns.get("SURF_BRIGHT")
        if bright is not None and not np.nan_to_num(bright).any():
            return np.zeros_like(self.usable)
        if extraction.aperture_weight is not None and "NPIXELS" in extraction.columns:
            short = extraction.columns["NPIXELS"] < extraction.aperture_weight - REPORTED_LOSS
        else:
            short = incomplete(extraction.columns)
        return np.atleast_2d(short)[:, self.order]

    @property
    def incomplete(self) -> Bools:
        """Mask of the usable fluxes that lack pixels of the aperture, shape (integration, n_wave).

        They are rejected where another input has a complete value, and reported elsewhere.
        """
        return self.usable & self.short

    def remaining_findings(self, findings: Iterable[Finding]) -> list[Finding]:
        """Return the findings about the spectrum that still apply after values are rejected.

        Findings about lost pixels are removed, because values that lack pixels are rejected, unless
        the finding is about more rows than are `short`.
        """
        number = int(self.short.sum())
        return [
            one
            for one in findings
            if one.kind not in ("lost_pixels", "flux_lost")
            or one.values.get("rows", np.inf) > number
        ]

    def scaled(self, factor: float) -> InputBlock:
        """Return the input with all fluxes and surface brightnesses multiplied by a factor."""
        columns = dict(self.extraction.columns)
        for name, values in columns.items():
            if name.startswith(("FLUX", "SURF", "SB_")):
                columns[name] = values * (factor**2 if "_VAR_" in name else factor)
        return replace(self, extraction=replace(self.extraction, columns=columns))

    def __len__(self) -> int:
        return len(np.atleast_2d(self.extraction.columns["FLUX"]))

    def column(self, name: str, missing: float = np.nan) -> Floats:
        """Return a column, shape (integration, n_wave), filled with `missing` if it is absent."""
        if name not in self.extraction.columns:
            return np.full((len(self), self.order.size), missing)
        return np.atleast_2d(self.extraction.columns[name])[:, self.order].astype(float)

    def dq(self) -> NDArray[np.uint32]:
        """Return the DQ column, shape (integration, n_wave), filled with 0 if it is absent."""
        return self.column("DQ", missing=0.0).astype(np.uint32)

    def quality(self) -> NDArray[np.uint32]:
        """Return the quality bits, shape (integration, n_wave), filled with 0 if unknown."""
        return self.column(QUALITY, missing=0.0).astype(np.uint32)

    def name(self, integration: int) -> str:
        """Return the name of the spectrum from an integration, for messages."""
        if not self.extraction.is_stack:
            return self.label
        return f"{self.label}, integration {integration + 1}"

    @property
    def target(self) -> str | None:
        """Name of the target, or None if unknown."""
        header = self.extraction.header
        name = header.get("TARGNAME") or header.get("TARGPROP")
        return None if name is None else str(name)

    @property
    def source_type(self) -> str | None:
        """SRCTYPE if it is POINT or EXTENDED, else None."""
        value = str(self.extraction.keywords.get("SRCTYPE") or "").upper()
        return value if value in ("POINT", "EXTENDED") else None

    @property
    def has_total_flux(self) -> bool | None:
        """Whether the flux is the total flux of a point source, or None if unknown."""
        provenance = self.extraction.provenance
        if provenance is None or self.source_type != "POINT":
            return None
        step = provenance["parameters"].get("step", {})
        if provenance.has_reference("apcorr") and step.get("apply_apcorr", True):
            return True
        options = provenance["parameters"].get("options", {})
        if options.get("correction") == "profile" and provenance.has_reference("psf"):
            return True
        # The profile of the mode "learned" is normalised within some columns of the source. It
        # therefore does not account for flux at larger distances, unlike that of a PSF reference.
        return step.get("extraction_type") == "optimal" and options.get("optimal_mode") != "learned"

    @property
    def exposure(self) -> tuple[object, ...] | None:
        """Values that identify the exposure and its integrations, or None if unknown.

        Besides header values, these are the number and the time of the first integration, because
        the segments of an exposure may be in the same file and have the same header.
        """
        header, times = self.extraction.header, self.extraction.times
        if header.get("EXPSTART") is None or not self.usable.any():
            return None
        first = () if times is None else tuple(times[0][n] for n in _TIMES if n in times.colnames)
        return (*(header.get(card) for card in _EXPOSURE_CARDS), *map(str, first))

    @property
    def stack(self) -> tuple[object, ...] | None:
        """Header values that identify the exposure of a stack, whose segments have the same ones.

        They are None for a single spectrum, and if the header lacks some.
        """
        return exposure_of(self.extraction.header) if self.extraction.is_stack else None

    @property
    def nod(self) -> tuple[object, ...]:
        """Header values that identify the nod."""
        return nod_key(self.extraction.header)

    def time(self, card: str) -> float | None:
        """Return the time in seconds from a header card, or None if it is missing or invalid."""
        value = self.extraction.header.get(card)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return float(value)
        return None


def input_blocks(
    spectra: Iterable[Spectrum | Extraction | SlitImage | str | os.PathLike[str]],
    extract: Extract | Sequence[Extract] | None,
) -> list[InputBlock]:
    """Convert the spectra given to `combine` to blocks. Images are extracted first.

    The items of an iterator are created and extracted one by one, unless `extract` is a sequence.

    Raises
    ------
    LRSError
        If an object is not a spectrum or image, or if no operator or function is given for an
        image.
    """
    single = isinstance(spectra, Extraction | SlitImage | Combination)
    if single or hasattr(spectra, "spectral_axis") or isinstance(spectra, str | os.PathLike):
        spectra = [spectra]
    try:
        spectra = (item for one in iter(spectra) for item in _contents(one))
    except TypeError:
        text = f"spectra is a {type(spectra).__name__}, expected a sequence of spectra"
        raise LRSError(text) from None
    operators: Iterator[Extract | None]
    if not isinstance(extract, Sequence):
        operators = repeat(extract)
    else:
        spectra = list(spectra)
        images = sum(map(_is_image, spectra))
        if len(extract) != images:
            raise LRSError(
                f"extract has {len(extract)} operators, expected one, or one for each of the "
                f"{images} images"
            )
        operators = iter(extract)
    blocks = [
        _block(one, f"spectrum {number}", _checked(next(operators)) if _is_image(one) else None)
        for number, one in enumerate(spectra, start=1)
    ]
    if not blocks:
        raise LRSError("spectra is empty, expected at least one spectrum")
    return blocks


def _contents(one: Any) -> Iterable[Any]:
    """Return the spectra or the image in a file as a sequence, or one of another object itself."""
    if isinstance(one, str | os.PathLike):
        return resolve_name(_READ)([one])
    return [one]


def _is_image(one: object) -> bool:
    """Return whether an object is a `SlitImage`, or a spectrum whose ``meta`` contains one."""
    return isinstance(one, SlitImage) or isinstance(
        getattr(one, "meta", {}).get("image"), SlitImage
    )


def _checked(extract: Extract | None) -> Extract:
    """Return an operator or function that extracts an image, or raise `LRSError` if it is none."""
    if extract is None or not (callable(extract) or hasattr(extract, "run")):
        raise LRSError(
            f"extract is {extract if extract is None else 'a ' + type(extract).__name__}, expected "
            "an Extract1D, as there are images to be extracted"
        )
    return extract


def _block(one: Any, label: str, extract: Extract | None) -> InputBlock:
    """Convert a spectrum to a block. If `extract` is given, `one` is an image to extract first."""
    if extract is not None:
        one = extract.run(one) if hasattr(extract, "run") else extract(one)
    if isinstance(one, Combination) or "combination" in getattr(one, "meta", {}):
        raise LRSError(
            "is a combination already, expected the spectra that were combined, because their "
            "individual exposure times are needed",
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
    return InputBlock(one, f"{label} ({os.path.basename(name)})" if name else label)


def exposure_times(blocks: Sequence[InputBlock], weights: str, mode: str) -> list[float]:
    """Return the time in seconds that is the weight of the spectra in each block.

    It is 1 if the weights are not times.

    Raises
    ------
    LRSError
        If a header does not have a valid time.
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
                f"expected seconds for the weights {weights!r}",
                subject=block.label,
                hint=Hint.to("{} needs none", weights="unit"),
            )
        times.append(time)
    return times
