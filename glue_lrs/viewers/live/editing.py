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
from glue_lrs.viewers.live.persistence import Persistence
from glue_lrs.viewers.live.regions import Region, operator_with, shared_variable

if TYPE_CHECKING:
    from glue_lrs.apertures.aperture import Aperture
    from glue_lrs.apertures.background import Background
    from glue_lrs.viewers.live.regions import Kind

#: Time in seconds after which a step starts a new command, even if it is of the same kind.
_STEP_TIMEOUT = 1.0

#: Names of the kinds of regions in the labels of commands.
WITH_ARTICLE = {"aperture": "an aperture", "background": "a background region"}


class Editing(Persistence):
    """Changes of the `Extract1D` operator of a live extraction."""

    _last_step: tuple[object, SetOperator, float] | None = None

    @property
    def aperture(self) -> Aperture:
        """The committed aperture. Setting it adds a command to glue's command stack.

        Raises
        ------
        LRSError
            If the aperture is set and nothing can be extracted with it. Then nothing changes.
        """
        return self._extract.aperture

    @aperture.setter
    def aperture(self, aperture: Aperture) -> None:
        self._set_or_raise(replace(self._extract, aperture=aperture), "change the aperture")

    @property
    def background(self) -> Background | None:
        """The committed background. Setting it adds a command, as for `aperture`."""
        return self._extract.background

    @background.setter
    def background(self, background: Background | None) -> None:
        self._set_or_raise(replace(self._extract, background=background), "change the background")

    def preview(self, target: Extract1D | Sequence[Region]) -> None:
        """Show the result with an operator or with regions, without committing it.

        If this fails, `extraction` is None and `message` gives the reason; nothing is raised.

        Parameters
        ----------
        target : Extract1D or sequence of Region
            An operator, or the complete list of regions. Limits of straight regions are rounded to
            0.01 pixel, except for regions of the committed operator.
        """
        if self.closed:
            return
        try:
            operator = self._operator_of(target)
        except LRSError as error:
            with delay_callback(self, "extraction", "message"):
                self.extraction = None
                self.message = panel_text(error, self.image)
            return
        self.show(operator)

    def _operator_of(self, target: Extract1D | Sequence[Region]) -> Extract1D:
        """Return an operator unchanged; for regions, the committed operator with these regions."""
        if isinstance(target, Extract1D):
            return target
        regions = tuple(target)
        committed = self.regions_of(self._extract)
        if regions == committed:
            return self._extract
        if self._fixed is None or self._fixed[0] is not self._extract:
            # Finding the positions of the regions may need the WCS, which is too slow for each step
            # of a drag. The operator with fixed regions is therefore cached.
            self._fixed = (self._extract, operator_with(self._extract, self.image, committed))
        base = self._fixed[1]
        edited = [region if region in committed else region.rounded() for region in regions]
        before, after = (
            sum(region.kind == "background" for region in one) for one in (committed, edited)
        )
        if after > before and base.subtract_background is False:
            base = replace(base, subtract_background=None)  # the user wants the region to be used
        return operator_with(base, self.image, edited, self.last_background)

    def commit(self, label: str = "change the extraction", step: object = None) -> bool:
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
        if self.closed:
            return False
        if self.extraction is None:
            reason = self.message
            self.cancel()
            if reason and self.extraction is not None:
                self.message = f"not kept: {reason}"
            return False
        if self.operator == self._extract:
            return False
        command = None
        if step is not None and self._last_step is not None:
            known, last, time = self._last_step
            if known == step and last.new is self._extract and monotonic() - time < _STEP_TIMEOUT:
                command = last
        if command is None:
            command = SetOperator(
                uuid=self.data.uuid, old=self._extract, new=self.operator, label=label
            )
            self.session.command_stack.do(command)
        else:  # change the last command, so that undo restores the operator before the first step
            command.new = self.operator
            self.accept(self.operator)
        self._last_step = None if step is None else (step, command, monotonic())
        return True

    def _end_steps(self, *_: object) -> None:
        """Make the next step a new command; called when glue's command stack changes."""
        self._last_step = None

    def accept(self, operator: Extract1D) -> None:
        """Make an operator the committed operator; only for commands, otherwise use `set`."""
        if self.closed:
            return
        if operator.background is None and self._extract.background is not None:
            self.last_background = self._extract.background
        self._extract = operator
        if self.operator != operator or self.extraction is None:
            self.show(operator)
        else:
            self.operator = operator
        if self.spectrum_data not in self.session.data_collection:  # needed to save the operator
            self.add_spectrum()
        self._update_spectrum_data()
        self._store()

    def cancel(self) -> None:
        """Discard the preview and show the committed operator again."""
        if not self.closed:
            self.show(self._extract)

    def set(
        self,
        target: Extract1D | Sequence[Region],
        label: str = "change the extraction",
        step: object = None,
    ) -> bool:
        """Show and commit an operator or regions; see `preview` and `commit`."""
        self.preview(target)
        return self.commit(label, step)

    def _set_or_raise(self, target: Extract1D | Sequence[Region], label: str) -> bool:
        """Set an operator or regions; if the extraction fails, raise an error and change nothing.

        Raises
        ------
        LRSError
            If nothing can be extracted.
        """
        if self.closed:
            return False
        operator = self._operator_of(target)
        with warnings.catch_warnings(action="ignore"):
            operator.run(self.shown)
        return self.set(operator, label)

    def add_region(self, kind: Kind, lower: float, upper: float) -> bool:
        """Add a straight region between two positions; see `set`."""
        variable = shared_variable(self.regions) or "wavelength"
        try:
            region = Region(kind, (lower,), (upper,), variable)
        except LRSError as error:
            self.message = panel_text(error, self.image)
            return False
        regions = self.regions_of(self._extract)
        return self.set([*regions, region], f"add {WITH_ARTICLE[kind]}")

    def delete_region(self, index: int) -> bool:
        """Delete a region, unless it is the only aperture; see `set`."""
        regions = self.regions_of(self._extract)
        if not 0 <= index < len(regions):
            self.message = f"region is {index}, expected 0 to {len(regions) - 1}"
            return False
        remaining = [*regions[:index], *regions[index + 1 :]]
        return self.set(remaining, f"delete {WITH_ARTICLE[regions[index].kind]}")
