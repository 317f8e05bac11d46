"""Fast extraction of JWST MIRI LRS spectra, with the same results as the JWST pipeline.

Importing the package registers the formats ``lrs-s2d``, ``lrs-x1d`` and ``lrs-c1d`` for specutils.
The public names, listed in ``__init__.pyi``, are imported on first access.
"""

from __future__ import annotations

from glue_lrs._utils import interrupt as interrupt  # first because the other imports are slow

# isort: split
from importlib import import_module
from importlib.metadata import version
from typing import Any

import lazy_loader

from glue_lrs import io as _io  # noqa: F401 - registers the formats

_getattr, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__all__.remove("open")  # a star import would hide Python's function


#: Subpackages that are attributes without an import of their own. Completion does not list them.
_ROOMS = ("plotting", "simulation", "viewers")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    return version("glue-lrs") if name == "__version__" else _getattr(name)
