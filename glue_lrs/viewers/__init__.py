"""Viewers for glue. Only the modules in `qt` and `jupyter` depend on a toolkit.

The names in ``__init__.pyi`` are imported on first access, because the import of glue is slow.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
