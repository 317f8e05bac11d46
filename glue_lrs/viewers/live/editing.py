"""Editing: preview, commit and cancel changes of the operator, with glue's command stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from echo import delay_callback

from glue_lrs.errors import LRSError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.viewers.live.commands import SetOperator
from glue_lrs.viewers.live.messages import panel_text, without_warnings
from glue_lrs.viewers.live.regions import Region, operator_with

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.regions import Kind

#: Time in seconds after which a step starts a new command, even if it is of the same kind.
_STEP_TIMEOUT = 1.0


class Editing:
    """Changes of the `Extract1D` operator of a live extraction.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction whose operator is edited.
    """

    def __init__(self, live: LiveExtraction) -> None:
        self._live = live
        self._last_step: tuple[object, SetOperator, float] | None = None
        self._fixed: tuple[Extract1D, SlitImage, Extract1D] | None = None

    def preview(self, target: Extract1D | Sequence[Region]) -> None:
        """Show an operator or regions without committing; see `LiveExtraction.preview`."""
        live = self._live
        if live.closed:
            return
        try:
            operator = self.operator_of(target)
        except LRSError as error:
            with delay_callback(live, "extraction", "message"):
                live.extraction = None
                live.message = panel_text(error, live.image)
            return
        live.show(operator)

    def operator_of(self, target: Extract1D | Sequence[Region]) -> Extract1D:
        """Return an operator unchanged; for regions, the committed operator with these regions.

        Raises
        ------
        LRSError
            If the regions cannot form an operator.
        """
        if isinstance(target, Extract1D):
            return target
        live = self._live
        regions = tuple(target)
        committed = live.regions_of(live.extract)
        if regions == committed:
            return live.extract
        base = self._fixed_operator(committed)
        edited = [region if region in committed else region.rounded() for region in regions]
        added = _n_background(edited) > _n_background(committed)
        if added and base.subtract_background is False:
            base = replace(base, subtract_background=None)  # a new region is meant to be subtracted
        return operator_with(base, live.image, edited, live.last_background)

    def _fixed_operator(self, regions: tuple[Region, ...]) -> Extract1D:
        """Return the committed operator with its regions fixed on the image.

        The result is cached, because finding the positions of the regions may need the WCS, which
        is too slow for each step of a drag.
        """
        live = self._live
        if (
            self._fixed is None
            or self._fixed[0] is not live.extract
            or self._fixed[1] is not live.image
        ):
            fixed = operator_with(live.extract, live.image, regions)
            self._fixed = (live.extract, live.image, fixed)
        return self._fixed[2]

    def commit(self, label: str, step: object = None) -> bool:
        """Commit the operator that is shown; see `LiveExtraction.commit`."""
        live = self._live
        if live.closed:
            return False
        if live.extraction is None:
            reason = live.message
            self.cancel()
            if reason and live.extraction is not None:
                live.message = f"not kept: {reason}"
            return False
        if live.operator == live.extract:
            return False
        command = self._continued_command(step)
        if command is None:
            command = SetOperator(
                uuid=live.data.uuid, old=live.extract, new=live.operator, text=label
            )
            live.session.command_stack.do(command)
        else:  # change the last command, so that undo restores the operator before the first step
            command.new = live.operator
            live.accept(live.operator)
        self._last_step = None if step is None else (step, command, monotonic())
        return True

    def _continued_command(self, step: object) -> SetOperator | None:
        """Return the command to which a step is added, or None if a new command is needed."""
        if step is None or self._last_step is None:
            return None
        known, command, time = self._last_step
        continued = (
            known == step
            and command.new is self._live.extract
            and monotonic() - time < _STEP_TIMEOUT
        )
        return command if continued else None

    def end_steps(self, *_: Any) -> None:
        """Make the next step a new command; called when glue's command stack changes."""
        self._last_step = None

    def cancel(self) -> None:
        """Discard the preview and show the committed operator again."""
        if not self._live.closed:
            self._live.show(self._live.extract)

    def set(self, target: Extract1D | Sequence[Region], label: str, step: object = None) -> bool:
        """Show and commit an operator or regions; see `LiveExtraction.set`."""
        self.preview(target)
        return self.commit(label, step)

    def set_or_raise(self, target: Extract1D | Sequence[Region], label: str) -> bool:
        """Set an operator or regions; if the extraction fails, raise an error and change nothing.

        Raises
        ------
        LRSError
            If nothing can be extracted.
        """
        if self._live.closed:
            return False
        operator = self.operator_of(target)
        with without_warnings():
            operator.run(self._live.shown)
        return self.set(operator, label)

    def add_region(self, kind: Kind, lower: float, upper: float) -> bool:
        """Add a straight region; see `LiveExtraction.add_region`."""
        live = self._live
        curved = [region.variable for region in live.regions if not region.straight]
        try:
            region = Region(kind, (lower,), (upper,), curved[0] if curved else "wavelength")
        except LRSError as error:
            live.message = panel_text(error, live.image)
            return False
        regions = live.regions_of(live.extract)
        return self.set([*regions, region], f"add {with_article(kind)}")

    def delete_region(self, index: int) -> bool:
        """Delete a region; see `LiveExtraction.delete_region`."""
        live = self._live
        regions = live.regions_of(live.extract)
        if not 0 <= index < len(regions):
            live.message = f"region is {index}, expected 0 to {len(regions) - 1}"
            return False
        remaining = [*regions[:index], *regions[index + 1 :]]
        return self.set(remaining, f"delete {with_article(regions[index].kind)}")


def _n_background(regions: Sequence[Region]) -> int:
    return sum(region.kind == "background" for region in regions)


def with_article(kind: Kind) -> str:
    """Return the name of a kind of region with an article, for the labels of commands."""
    return "an aperture" if kind == "aperture" else "a background region"
