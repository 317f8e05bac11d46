"""Extraction of a stack in chunks of integrations, of which one is in memory at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from glue_lrs.errors import Hint, LRSError, LRSWarning, MeasurementError, SourceError
from glue_lrs.extraction.drift import with_drift_columns
from glue_lrs.extraction.options import flagged_image, typed_image
from glue_lrs.fitting.drift import drift_model, share_drift_model
from glue_lrs.fitting.time_outliers import FEWEST, group_edges, remove_time_outliers
from glue_lrs.image.lazy_plane import release_plane
from glue_lrs.image.pixels import DATA_PLANES
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.image.stack import read_stack, stack_in_memory, stack_part
from glue_lrs.spectra.findings import Finding, worst_first

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import ImageSource
    from glue_lrs.spectra.extraction import Extraction

#: Largest number of integrations that are checked.
CHECKED = 64


def can_extract_in_chunks(operator: Extract1D) -> bool:
    """Return whether an extraction treats each chunk of a stack alike.

    Other extractions fit a profile, or measure the noise, in the whole stack.
    """
    return not operator.fits_profile and operator.noise == "propagated"


class ChunkedExtraction(Sequence["Extraction"]):
    """Spectra of a stack that are extracted in chunks, when they are asked for.

    The chunks are the groups of about 64 integrations in which outliers along time are searched
    for, so that the spectra are those of an extraction of the whole stack, to rounding errors.

    Parameters
    ----------
    operator : Extract1D
        Operator for a box extraction with the propagated errors. The other extractions fit a
        profile, or measure the noise, in the whole stack.
    image : SlitImage, `~specutils.Spectrum`, str or path-like
        Stack of integrations, as for `Extract1D.run`.
    drift : bool
        Whether the drift of the source is measured, and recorded in the times of the spectra. If
        `operator` corrects for it, it is measured in any case. Without a source that can be
        measured, there is a finding, and the spectra have no drift.
    release : bool
        Whether memory-mapped pages are released after a chunk was read, so that the process seems
        to need no more memory than it does. Values that were assigned to elements of the planes of
        `image` would be lost.

    Raises
    ------
    LRSError
        If the image is a single image, or the operator fits a profile or measures the noise.
    """

    def __init__(
        self, operator: Extract1D, image: ImageSource, *, drift: bool = True, release: bool = False
    ) -> None:
        # All chunks are parts of this image, to which the model of the drift belongs.
        self.operator, self.image = operator, typed_image(operator, image)
        if not self.image.is_stack or len(self.image.data) < 2:
            raise LRSError(
                "is a single image, expected a stack of integrations", subject=self.image.label
            )
        if not can_extract_in_chunks(operator):
            raise LRSError(
                "a profile that is fitted, or noise that is measured, needs the whole stack",
                subject=self.image.label,
                hint=Hint("extract it to an x1dints first"),
            )
        edges = group_edges(len(self.image.data))
        self.slices = tuple(slice(first, stop) for first, stop in pairwise(edges))
        self._release = release
        self._memory: list[dict[str, NDArray[Any]]] = []
        self.notes: list[Finding] = []
        self._drift = drift and self._has_source()

    def __len__(self) -> int:
        return len(self.slices)

    @property
    def number(self) -> int:
        """Number of integrations."""
        return len(self.image.data)

    def __getitem__(self, index: int) -> Extraction:  # type: ignore[override]
        """Extract a chunk, without the checks of `Extract1D.run`."""
        self.image.check_file()
        memory = self._memory.pop() if self._memory else {}  # not shared between threads
        found = self._extracted(self._part(index, memory))
        self._memory.append(memory)
        self._release_memory()
        return found

    def _part(self, index: int, memory: dict[str, NDArray[Any]]) -> SlitImage:
        """Return a chunk of the image, without outliers along time.

        It is read into `memory` if its planes are needed several times.
        """
        operator = self.operator
        part = stack_part(self.image, self.slices[index])
        follows = self._drift or operator.drift != "keep" or operator.hot_pixels != "keep"
        if follows:
            share_drift_model(self.image, part)
        if not follows and operator.time_outliers == "keep":
            return part
        part = read_stack(flagged_image(operator, part), memory)
        if operator.time_outliers != "keep" and len(part.data) >= FEWEST:
            part = remove_time_outliers(part, operator.time_outliers)
        if follows:
            share_drift_model(self.image, part)
        return part

    def _extracted(self, part: SlitImage) -> Extraction:
        """Return the spectra of a chunk."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LRSWarning)
            found = self.operator.run(part, check=False)
            if self._drift and self.operator.drift == "keep":
                found = with_drift_columns(part, found)
        return found

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of the checks of `Extract1D.run` for the integrations of `sample`."""
        return worst_first([*self.notes, *self.sample.findings])

    @cached_property
    def sample(self) -> Extraction:
        """Spectra of `CHECKED` integrations or fewer, evenly spaced in the stack, with findings.

        Outliers along time are not removed, and the drift is not corrected for.
        """
        step = -(-self.number // CHECKED)
        where = slice((self.number - 1) % step // 2, None, step)
        sample = stack_in_memory(stack_part(self.image, where))
        self._release_memory()
        if self.operator.hot_pixels != "keep":
            share_drift_model(self.image, sample)
        operator = replace(self.operator, time_outliers="keep", drift="keep")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LRSWarning)
            return operator.run(sample)

    def _has_source(self) -> bool:
        """Return whether there is a source whose drift can be measured, else note a finding."""
        try:
            drift_model(self.image)
        except (SourceError, MeasurementError) as error:
            text = f"the drift of the source could not be measured: {error.text}"
            self.notes.append(Finding("not_measured", text))
            return False
        finally:
            self._release_memory()
        return True

    def _release_memory(self) -> None:
        if self._release:
            for name in ("data", *DATA_PLANES):
                plane = getattr(self.image, name)
                release_plane(plane)

    def __iter__(self) -> Iterator[Extraction]:
        return (self[index] for index in range(len(self)))
