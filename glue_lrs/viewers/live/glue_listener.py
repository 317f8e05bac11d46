"""GlueListener: passes changes that are made in glue on to a live extraction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glue.core import HubListener
from glue.core.message import (
    DataCollectionDeleteMessage,
    NumericalDataChangedMessage,
    SubsetCreateMessage,
    SubsetDeleteMessage,
    SubsetUpdateMessage,
)

from glue_lrs.errors import LRSError
from glue_lrs.viewers.datasets.images import slit_image
from glue_lrs.viewers.live.messages import panel_text

if TYPE_CHECKING:
    from glue_lrs.viewers.live.live_extraction import LiveExtraction


class GlueListener(HubListener):
    """Listener on glue's hub and command stack for a live extraction.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction that is informed about changes.
    """

    def __init__(self, live: LiveExtraction) -> None:
        self._live = live

    def connect(self) -> None:
        """Start listening."""
        live = self._live
        live.session.command_stack.add_callback(live.editing.end_steps)
        for message, handler in (
            (DataCollectionDeleteMessage, self._data_removed),
            (NumericalDataChangedMessage, self._pixels_changed),
            (SubsetCreateMessage, live.selection.subset_changed),
            (SubsetUpdateMessage, live.selection.subset_changed),
            (SubsetDeleteMessage, live.selection.subset_removed),
        ):
            live.session.hub.subscribe(self, message, handler=handler)

    def disconnect(self) -> None:
        """Stop listening."""
        self._live.session.hub.unsubscribe_all(self)
        self._live.session.command_stack.remove_callback(self._live.editing.end_steps)

    def _data_removed(self, message: Any) -> None:
        live = self._live
        if message.data is live.data:
            live.close()
        elif message.data is live.residual_data:
            live.hide_residual()
            live.residual_data = None

    def _pixels_changed(self, message: Any) -> None:
        live = self._live
        if message.data is not live.data:
            return
        try:
            image = slit_image(live.data)
        except LRSError as error:
            live.message = panel_text(error, live.image)
            return
        if image is not live.image:
            live.set_image(image)
