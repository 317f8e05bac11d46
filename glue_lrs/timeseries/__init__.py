"""Light curves of time series: white and spectroscopic, from the spectra of all integrations.

The names in ``__init__.pyi`` are imported on first access, because light curves from images need
`glue_lrs.fitting`, which the readers of files do not.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
