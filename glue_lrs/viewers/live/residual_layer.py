"""Layer of an image viewer, of any toolkit, that shows the residual of a fit above the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib import colormaps

from glue_lrs.viewers.live.viewer import ExtractionViewer

if TYPE_CHECKING:
    from glue.core import BaseData, Subset


class ShowsResidual(ExtractionViewer):
    """Mixin for image viewers that show `residual_data` of the extraction, or hide it.

    Subclasses call `follow_residual` in `attach` and `leave_residual` in `detach`.
    """

    def follow_residual(self) -> None:
        """Show the residual now and later, whenever the extraction says so."""
        self.follow(self._show_residual, "residual_shown", "residual_limit")
        self._show_residual(restored=True)
        self.state.add_callback("layers", self._layers_changed)

    def leave_residual(self) -> None:
        """Disconnect from the layers of the viewer."""
        self.state.remove_callback("layers", self._layers_changed)

    def add_residual(self, data: BaseData) -> None:
        """Add the residual as a layer."""
        self.add_data(data)  # type: ignore[attr-defined]

    def add_subset(self, subset: Subset) -> bool:
        """Add a subset, except on the residual, because the subset is drawn on the image."""
        if self.live is not None and subset.data is self.live.residual_data:
            return False
        return self.add_image_subset(subset)

    def add_image_subset(self, subset: Subset) -> bool:
        """Add a subset of an image."""
        return bool(super().add_subset(subset))  # type: ignore[misc]

    def remove_data(self, data: BaseData) -> None:
        """Remove a dataset; remove the residual together with the image."""
        live, layer = self.live, self.residual_layer()
        if live is not None and data is live.data and layer is not None:
            super().remove_data(layer.layer)
        super().remove_data(data)

    def residual_layer(self) -> Any:
        """Return the state of the layer of the residual, or None."""
        residual = self.live.residual_data if self.live is not None else None
        found = (one for one in self.state.layers if residual is not None and one.layer is residual)
        return next(found, None)

    def _show_residual(self, *_: object, restored: bool = False) -> None:
        """Show the residual above the image in diverging colours, or hide it."""
        live = self.live
        if live is None or live.residual_data is None:
            return
        layer = self.residual_layer()
        if not live.residual_shown:
            if layer is not None:
                self.remove_data(live.residual_data)
            return
        if layer is not None and restored:  # keep the style that was saved in the session
            return
        if layer is None:
            self.add_residual(live.residual_data)
            layer = self.residual_layer()
        if layer is not None:
            layer.attribute = live.residual_data.id["residual"]
            layer.stretch = "linear"
            layer.v_min, layer.v_max = -live.residual_limit, live.residual_limit
            layer.cmap = colormaps["RdBu_r"]
            layer.alpha = 1.0
            layer.visible = True

    def _layers_changed(self, *_: object) -> None:
        """Hide the residual if its layer was deleted."""
        live = self.live
        if live is not None and live.residual_shown and self.residual_layer() is None:
            live.hide_residual()
