"""Entry point of the plugin for glue: loaders, an exporter and translators, without a toolkit."""

from __future__ import annotations

__all__ = ["setup"]


def setup() -> None:
    """Add the loaders and translators to glue's registries; repeated calls have no effect."""
    from glue_lrs.viewers.datasets import loaders, translators

    loaders.register()
    translators.register()
