"""Selection: the ranges of wavelength that are selected in glue."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from echo import delay_callback
from glue.core.command import ApplySubsetState
from glue.core.subset import RangeSubsetState, Subset

from glue_lrs.viewers.live.commands import EmptySubset
from glue_lrs.viewers.live.subsets import wavelengths_of

if TYPE_CHECKING:
    from glue.core.message import SubsetMessage

    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.subsets import Ranges


class Selection:
    """Connection between `wavelength_ranges` of a live extraction and the edited subset in glue.

    A change of the ranges changes the subset, and a change of the subset changes the ranges.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction whose ranges are connected.
    """

    def __init__(self, live: LiveExtraction) -> None:
        self._live = live
        self._followed: weakref.ref[Subset] | None = None

    def select(self, low: float, high: float) -> None:
        """Select a range of wavelengths (micron) in glue, in the spectrum and in the image.

        This is a command on glue's command stack. It changes the subset that is edited in glue, or
        makes a new subset, according to glue's subset mode.
        """
        live = self._live
        if live.closed:
            return
        low, high = min(low, high), max(low, high)
        wavelength = live.spectrum_data.find_component_id("wavelength")
        collection = live.session.data_collection
        state = RangeSubsetState(low, high, wavelength)
        live.session.command_stack.do(
            ApplySubsetState(data_collection=collection, subset_state=state)
        )
        if live.spectrum_data not in collection:  # glue then sends no message about its subsets
            live.wavelength_range = (float(low), float(high))

    def deselect(self) -> None:
        """Empty the subset that `wavelength_range` follows, and set `wavelength_range` to None.

        This is a command on glue's command stack. The empty subset is kept for the next range.
        """
        live = self._live
        if live.closed:
            return
        subset = self._subset
        if subset is not None:
            live.session.command_stack.do(
                EmptySubset(subset=getattr(subset, "group", subset), old=subset.subset_state)
            )
        live.wavelength_range = None

    @property
    def _subset(self) -> Subset | None:
        """Subset in glue that determines the ranges, or None."""
        return None if self._followed is None else self._followed()

    def set_ranges(self, ranges: Ranges) -> None:
        """Set the ranges, which must be ascending, and the range that encloses all of them."""
        live = self._live
        with delay_callback(live, "wavelength_range", "wavelength_ranges"):
            live.wavelength_ranges = ranges
            live.wavelength_range = (ranges[0][0], ranges[-1][1]) if ranges else None

    def range_changed(self, chosen: tuple[float, float] | None) -> None:
        """Adapt the ranges to a new value of `wavelength_range`; called when it is set."""
        live = self._live
        ranges = live.wavelength_ranges
        if chosen is None:
            live.wavelength_ranges = ()
        elif not ranges or tuple(chosen) != (ranges[0][0], ranges[-1][1]):
            live.wavelength_ranges = ((float(chosen[0]), float(chosen[1])),)

    def subset_changed(self, message: SubsetMessage) -> None:
        """Adapt the ranges to a subset of the spectrum that was made or changed in glue."""
        live = self._live
        if message.subset.data is not live.spectrum_data:
            return
        if getattr(message, "attribute", "subset_state") != "subset_state":
            return
        ranges = wavelengths_of(message.subset, live.spectrum_data)
        if ranges:
            self._followed = weakref.ref(message.subset)
            self.set_ranges(ranges)
        elif message.subset is self._subset:
            live.wavelength_range = None  # the subset is empty but may get a new range later

    def subset_removed(self, message: SubsetMessage) -> None:
        """Clear the ranges when the subset that determines them is deleted."""
        live = self._live
        if message.subset is self._subset:
            self._followed = None
            live.wavelength_range = None
