"""Editing: preview, commit and cancel changes of the operator, with glue's command stack."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from echo import delay_callback

from glue_lrs.errors import LRSError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.viewers.live.commands import SetOperator
from glue_lrs.viewers.live.messages import panel_text
from glue_lrs.viewers.live.regions import WITH_ARTICLE, Region, operator_with, shared_variable

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

    def preview(self, target: Extract1D | Sequence[Region], check: bool = False) -> None:
        """Show the result with an operator or with regions, without committing it.

        If this fails, `extraction` is None and `message` gives the reason; nothing is raised.

        Parameters
        ----------
        target : Extract1D or sequence of Region
            An operator, or the complete list of regions. Limits of straight regions are rounded to
            0.01 pixel, except for regions of the committed operator.
        check : bool
            Whether to make the checks of `Extract1D.run`, which are omitted during a drag.
        """
        live = self._live
        if live.closed:
            return
        try:
            operator = self._operator_of(target)
        except LRSError as error:
            with delay_callback(live, "extraction", "message"):
                live.extraction, live.findings = None, ()
                live.message = panel_text(error, live.image)
            return
        live.show(operator, check)

    def _operator_of(self, target: Extract1D | Sequence[Region]) -> Extract1D:
        """Return an operator unchanged; for regions, the committed operator with these regions."""
        live = self._live
        if isinstance(target, Extract1D):
            return target
        regions = tuple(target)
        committed = live.regions_of(live.extract)
        if regions == committed:
            return live.extract
        base = self._fixed_operator(committed)
        edited = [region if region in committed else region.rounded() for region in regions]
        before, after = (
            sum(region.kind == "background" for region in one) for one in (committed, edited)
        )
        if after > before and base.subtract_background is False:
            base = replace(base, subtract_background=None)  # the user wants the region to be used
        return operator_with(base, live.image, edited, live.last_background)

    def _fixed_operator(self, regions: tuple[Region, ...]) -> Extract1D:
        """Return the committed operator with its regions fixed on the image.

        The result is cached, because finding the positions of the regions may need the WCS, which
        is too slow for each step of a drag.
        """
        live = self._live
        known = self._fixed
        if known is None or known[0] is not live.extract or known[1] is not live.image:
            fixed = operator_with(live.extract, live.image, regions)
            self._fixed = known = (live.extract, live.image, fixed)
        return known[2]

    def commit(self, label: str, step: object = None) -> bool:
        """Commit the operator that is shown, as a command on glue's command stack.

        Parameters
        ----------
        label : str
            Label of the command in glue's undo menu.
        step : object, optional
            Identifies a kind of small steps, such as presses of an arrow key. Successive calls with
            equal `step`, each within a second of the previous call, form one command.

        Returns
        -------
        bool
            Whether the operator has changed and is committed. If nothing can be extracted with it,
            the committed operator is shown again, and `message` gives the reason.
        """
        live = self._live
        if live.closed:
            return False
        live.complete()
        if live.extraction is None:
            reason = live.message
            self.cancel()
            if reason and live.extraction is not None:
                live.notify(f"not kept: {reason}", "error")
            return False
        if live.operator == live.extract:
            live.accept(live.extract)  # makes the checks that a preview has omitted
            return False
        command = None
        if step is not None and self._last_step is not None:
            known, last, time = self._last_step
            if known == step and last.new is live.extract and monotonic() - time < _STEP_TIMEOUT:
                command = last
        if command is None:
            command = SetOperator(
                uuid=live.data.uuid,
                setup=live.active,
                old=live.extract,
                new=live.operator,
                label=label,
            )
            live.session.command_stack.do(command)
        else:  # change the last command, so that undo restores the operator before the first step
            command.new = live.operator
            live.accept(live.operator)
        self._last_step = None if step is None else (step, command, monotonic())
        return True

    def end_steps(self, *_: object) -> None:
        """Make the next step a new command; called when glue's command stack changes."""
        self._last_step = None

    def cancel(self) -> None:
        """Discard the preview and show the committed operator again."""
        live = self._live
        if not live.closed:
            live.show(live.extract)

    def set(
        self,
        target: Extract1D | Sequence[Region],
        label: str,
        step: object = None,
    ) -> bool:
        """Show and commit an operator or regions; see `preview` and `commit`."""
        self.preview(target, check=True)
        return self.commit(label, step)

    def set_or_raise(self, target: Extract1D | Sequence[Region], label: str) -> bool:
        """Set an operator or regions; if the extraction fails, raise an error and change nothing.

        Raises
        ------
        LRSError
            If nothing can be extracted.
        """
        live = self._live
        if live.closed:
            return False
        operator = self._operator_of(target)
        with warnings.catch_warnings(action="ignore"):
            operator.run(live.shown)
        return self.set(operator, label)

    def add_region(self, kind: Kind, lower: float, upper: float) -> bool:
        """Add a straight region between two positions; see `set`."""
        live = self._live
        variable = shared_variable(live.regions) or "wavelength"
        try:
            region = Region(kind, (lower,), (upper,), variable)
        except LRSError as error:
            live.notify(panel_text(error, live.image), "error")
            return False
        regions = live.regions_of(live.extract)
        return self.set([*regions, region], f"add {WITH_ARTICLE[kind]}")

    def delete_region(self, index: int) -> bool:
        """Delete a region, unless it is the only aperture; see `set`."""
        live = self._live
        regions = live.regions_of(live.extract)
        if not 0 <= index < len(regions):
            live.notify(f"region is {index}, expected 0 to {len(regions) - 1}", "error")
            return False
        remaining = [*regions[:index], *regions[index + 1 :]]
        return self.set(remaining, f"delete {WITH_ARTICLE[regions[index].kind]}")
