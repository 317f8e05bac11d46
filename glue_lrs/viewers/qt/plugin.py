"""Entry point for glue's plugin system, for the Qt desktop."""

from __future__ import annotations

#: Label in glue's Plugins menu.
MENU_LABEL = "MIRI LRS extraction"
#: Name under which the colour map for residuals is registered, so that glue can select it.
DIVERGING = "Blue-Red"


def setup() -> None:
    """Register viewers, tools and menus; do nothing if glue-qt is not installed."""
    try:
        import glue_qt  # noqa: F401
        import qtpy.QtWidgets  # noqa: F401
    except ImportError:  # includes the errors that qtpy raises itself
        return

    import matplotlib
    from glue.config import colormaps
    from glue_qt.config import layer_action, menubar_plugin, qt_client, startup_action

    from glue_lrs.viewers.qt.image import LRSImageViewer
    from glue_lrs.viewers.qt.panel.viewer import ExtractionPanel
    from glue_lrs.viewers.qt.profile import SlitProfileViewer
    from glue_lrs.viewers.qt.spectrum import LRSSpectrumViewer
    from glue_lrs.viewers.qt.tab import extract_layer, open_from_menu, open_startup

    if LRSImageViewer in qt_client.members:
        return
    for viewer in (LRSImageViewer, LRSSpectrumViewer, SlitProfileViewer, ExtractionPanel):
        qt_client.add(viewer)
    # positive residuals are red, as in the figures
    colormaps.add(DIVERGING, matplotlib.colormaps["RdBu_r"])
    menubar_plugin.add(MENU_LABEL, open_from_menu)
    startup_action.add("lrs", open_startup)
    tip = "Draw the aperture on this image and watch its spectrum"
    layer_action(MENU_LABEL, tooltip=tip, single=True, data=True)(extract_layer)
