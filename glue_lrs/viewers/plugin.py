"""Entry point for glue's plugin system: loaders, an exporter and translators for LRS data.

This module does not depend on a GUI toolkit.
"""

from __future__ import annotations


def setup() -> None:
    """Add the loaders, the exporter and the translators to glue; repeated calls have no effect."""
    from glue_lrs.viewers.datasets import loaders, translators

    loaders.register()
    translators.register()
