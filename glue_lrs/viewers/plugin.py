"""Registration of loaders, exporter and translators with glue, without a GUI toolkit."""

from __future__ import annotations


def register() -> None:
    """Add the loaders, the exporter and the translators for LRS data to glue.

    The glue desktop application calls this function when it starts. In other applications based on
    glue it must be called explicitly, because it changes them: the translators also replace those
    with which, for instance, jdaviz makes its datasets from LRS spectra. Repeated calls have no
    effect.
    """
    from glue_lrs.viewers.datasets import loaders, translators

    loaders.register()
    translators.register()
