"""Registration of loaders, exporter, translators and viewers with glue, without a GUI toolkit."""

from __future__ import annotations

import sys


def register() -> None:
    """Add the loaders, the exporter, the translators and the viewers for LRS data to glue.

    The viewers are those for glue-jupyter, ``new_data_viewer("lrs-image")`` and so on, added if
    glue-jupyter was imported before. The desktop application has its own.

    The glue desktop application calls this function when it starts. In other applications based on
    glue it must be called explicitly, because it changes them: the translators also replace those
    with which, for instance, jdaviz makes its datasets from LRS spectra. Repeated calls have no
    effect.
    """
    from glue_lrs.viewers.datasets import loaders, translators

    loaders.register()
    translators.register()
    if "glue_jupyter" in sys.modules:  # its import is slow, and not needed in the desktop
        from glue_lrs.viewers.jupyter import image, profile, spectrum  # noqa: F401
