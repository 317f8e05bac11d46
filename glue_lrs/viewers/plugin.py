"""Registration of loaders, exporter and translators with glue, without a GUI toolkit."""

from __future__ import annotations


def register() -> None:
    """Add the loaders, the exporter and the translators for LRS data to glue.

    The glue desktop application calls this function when it starts. In any other application based
    on glue it must be called explicitly, before the first LRS file is loaded, because the
    translators replace those with which the application (for instance jdaviz) makes its own
    datasets from spectra of LRS. Repeated calls have no effect.
    """
    from glue_lrs.viewers.datasets import loaders, translators

    loaders.register()
    translators.register()
