"""Decorator for methods ``read`` and ``write`` that use astropy's unified I/O registry.

The formats are registered in `glue_lrs.io`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from astropy.io import registry

Method = TypeVar("Method", bound=Callable[..., Any])


def unified_io(default_format: str) -> Callable[[Method], Method]:
    """Return a decorator that adds ``help`` and ``list_formats`` to ``read`` and ``write``.

    The decorated methods must pass the argument ``format`` on to `astropy.io.registry.read` or
    `astropy.io.registry.write`.

    Parameters
    ----------
    default_format : str
        Format that is used if the caller gives none, so that the registry does not identify the
        format. Identification would hide the error message of the reader, which explains why a file
        is invalid.

    Returns
    -------
    callable
        Decorator for a classmethod ``read`` or a method ``write``.
    """

    def decorate(method: Method) -> Method:
        class ReadWrite(registry.UnifiedReadWrite):
            __doc__ = method.__doc__

            def __init__(self, instance: object, cls: type) -> None:
                super().__init__(instance, cls, method.__name__)  # astropy's default registry

            def __call__(self, *args: Any, **kwargs: Any) -> Any:
                kwargs.setdefault("format", default_format)
                return method.__get__(self._instance, self._cls)(*args, **kwargs)

        return registry.UnifiedReadWriteMethod(ReadWrite)

    return decorate
