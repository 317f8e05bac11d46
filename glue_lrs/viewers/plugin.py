"""What glue loads: data factories, an exporter and the translator, without any toolkit."""

from __future__ import annotations

__all__ = ["setup"]


def setup() -> None:
    """Put what this package has for glue into its registries; a second call changes nothing."""
    from glue_lrs.viewers.datasets import loaders as files
    from glue_lrs.viewers.datasets import translators as translator

    files.register()
    translator.register()
