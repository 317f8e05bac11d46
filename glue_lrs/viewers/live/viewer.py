"""Base classes for glue viewers, of any toolkit, that follow the live extraction of their data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from glue.core import BaseData

from glue_lrs.errors import LRSError
from glue_lrs.viewers.datasets.images import is_lrs_image, not_an_image
from glue_lrs.viewers.live.follower import Follower
from glue_lrs.viewers.live.messages import panel_text
from glue_lrs.viewers.live.open import live_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from glue.core import Subset
    from glue.core.session import Session
    from glue.core.state import GlueUnSerializer

    from glue_lrs.viewers.live.live_extraction import LiveExtraction


class StateWithHome:
    """Mixin for the state of a viewer whose limits can be reset by a function.

    Attributes
    ----------
    home : callable or None
        Function that resets the limits. If it is None, glue adapts the limits to the layers.
    """

    home: Callable[[], None] | None = None

    def reset_limits(self) -> None:
        """Reset the limits of the axes."""
        reset = self.home or getattr(super(), "reset_limits", None)
        if reset is not None:
            reset()


class ExtractionViewer(Follower):
    """Mixin for glue viewers that follow the live extraction of their data.

    Subclasses must call `find_live` after layers have been added, and override `attach` and
    `detach`.
    """

    live: LiveExtraction | None = None
    inherit_tools = False
    tools: ClassVar[tuple[str, ...]] = ()
    # attributes that glue's viewers set
    session: Session
    state: Any

    def find_live(self, *, make: bool = True) -> None:
        """Attach the viewer to the extraction of the first layer that has one."""
        if self.live is not None:
            return
        for state in self.state.layers:
            live = self.live_or_error(state.layer, make=make)
            if live is not None:
                self.live = live
                self.attach(live)
                self.follow(self._live_closed, "closed")
                return

    def live_or_error(self, data: BaseData, *, make: bool) -> LiveExtraction | None:
        """Return the result of `live_of`; on an `LRSError`, show its message and return None."""
        try:
            return live_of(self.session, data, make=make)
        except LRSError as error:
            self.show_error(panel_text(error))
            return None

    def show_error(self, text: str) -> None:
        """Show an error message in the viewer."""
        raise NotImplementedError

    @classmethod
    def __setgluestate__(cls, rec: dict[str, Any], context: GlueUnSerializer) -> Self:
        viewer: Self = super().__setgluestate__(rec, context)  # type: ignore[misc]
        viewer.find_live()
        return viewer

    def attach(self, live: LiveExtraction) -> None:
        """Start to follow an extraction."""
        raise NotImplementedError

    def detach(self) -> None:
        """Stop following the extraction. This is called once, before `live` becomes None."""

    def leave_live(self) -> None:
        """Disconnect the viewer from the extraction."""
        if self.live is not None:
            self.unfollow()
            self.detach()
            self.live = None

    def _live_closed(self, closed: bool) -> None:
        if closed:
            self.leave_live()

    def remove_data(self, data: BaseData) -> None:
        """Remove a dataset, and disconnect from the extraction that it belongs to."""
        if self.live is not None and data in (self.live.data, self.live.spectrum_data):
            self.leave_live()
        super().remove_data(data)  # type: ignore[misc]


class ShowsOneImage(ExtractionViewer):
    """Mixin for viewers that show a single LRS image and no subsets."""

    def add_data(self, data: BaseData) -> bool:
        """Add an LRS image, unless another image is shown already."""
        if not is_lrs_image(data):
            self.show_error(not_an_image(data))
            return False
        if self.live is not None and data is not self.live.data:
            name = self.LABEL  # type: ignore[attr-defined]
            self.show_error(f"{data.label}: the {name} shows {self.live.data.label} already")
            return False
        added: bool = super().add_data(data)  # type: ignore[misc]
        if added:
            self.find_live()
        return added

    def add_subset(self, subset: Subset) -> bool:
        """Return False, because subsets are not shown."""
        return False
