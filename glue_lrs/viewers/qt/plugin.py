"""Plugin for the glue desktop application, which sets it up when it builds its menus."""

from __future__ import annotations

#: Label in glue's Plugins menu.
MENU_LABEL = "MIRI LRS extraction"
#: Name in glue of the colour map for residuals, which must be registered to be selectable.
DIVERGING = "Blue-Red"


def setup() -> None:
    """Register loaders, translators, viewers, tools and menus; repeated calls have no effect."""
    import matplotlib
    from glue.config import colormaps
    from glue_qt.config import layer_action, menubar_plugin, qt_client, startup_action

    from glue_lrs.viewers.datasets import loaders, translators
    from glue_lrs.viewers.qt.image import LRSImageViewer
    from glue_lrs.viewers.qt.panel.viewer import ExtractionPanel
    from glue_lrs.viewers.qt.profile import SlitProfileViewer
    from glue_lrs.viewers.qt.spectrum import LRSSpectrumViewer
    from glue_lrs.viewers.qt.tab import extract_layer, open_from_menu, open_startup

    loaders.register()
    translators.register()
    for viewer in (LRSImageViewer, LRSSpectrumViewer, SlitProfileViewer, ExtractionPanel):
        if viewer not in qt_client.members:
            qt_client.add(viewer)
    if all(label != DIVERGING for label, _ in colormaps.members):
        # positive residuals are red, as in the figures
        colormaps.add(DIVERGING, matplotlib.colormaps["RdBu_r"])
    if all(label != MENU_LABEL for label, _ in menubar_plugin.members):
        menubar_plugin.add(MENU_LABEL, open_from_menu)
    if "lrs" not in startup_action.members:
        startup_action.add("lrs", open_startup)
    if all(item.label != MENU_LABEL for item in layer_action.members):
        tip = "Draw the aperture on this image and watch its spectrum"
        layer_action(MENU_LABEL, tooltip=tip, single=True, data=True)(extract_layer)
