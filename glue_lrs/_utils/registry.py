"""Methods ``read`` and ``write`` that use astropy's unified I/O registry.

`glue_lrs.io` registers the formats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from astropy.io import registry


def reader(default_format: str, doc: str | Callable[..., object]) -> Any:
    """Return a ``read`` classmethod with a default format.

    The default avoids the format identification by the registry. Each class is read from a single
    format, and its reader explains why a file is invalid, which the identification does not.

    Parameters
    ----------
    default_format : str
        Format that is used if the caller gives none.
    doc : str or callable
        Docstring of the method, or a function without a body that has this docstring.

    Returns
    -------
    descriptor
        Object that must be assigned to the class attribute ``read``.
    """

    class Read(registry.UnifiedReadWrite):
        __doc__ = doc if isinstance(doc, str) else doc.__doc__

        def __init__(self, instance: Any, cls: type) -> None:
            super().__init__(instance, cls, "read")  # uses astropy's default registry

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            kwargs.setdefault("format", default_format)
            return self.registry.read(self._cls, *args, **kwargs)

    return registry.UnifiedReadWriteMethod(Read)


def writer(default_format: str, doc: str | Callable[..., object]) -> Any:
    """Return a ``write`` method with a default format, with the same parameters as `reader`."""

    class Write(registry.UnifiedReadWrite):
        __doc__ = doc if isinstance(doc, str) else doc.__doc__

        def __init__(self, instance: Any, cls: type) -> None:
            super().__init__(instance, cls, "write")  # uses astropy's default registry

        def __call__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.setdefault("format", default_format)
            self.registry.write(self._instance, *args, **kwargs)

    return registry.UnifiedReadWriteMethod(Write)
