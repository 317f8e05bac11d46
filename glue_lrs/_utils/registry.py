"""``X.read`` and ``x.write`` through astropy's unified I/O registry, which `glue_lrs.io` fills."""

from __future__ import annotations

from typing import Any

from astropy.io import registry

__all__ = ["reader", "writer"]


def reader(default_format: str, doc: str) -> Any:
    """Return a ``read`` classmethod with a default format.

    Each kind of file has a single format, whose reader explains why a file is invalid; the format
    identification of the registry does not.

    Parameters
    ----------
    default_format : str
        Format used if none is given.
    doc : str
        Docstring of the method.

    Returns
    -------
    descriptor
        To be assigned to a class attribute.
    """

    class Read(registry.UnifiedReadWrite):
        __doc__ = doc

        def __init__(self, instance: Any, cls: type) -> None:
            super().__init__(instance, cls, "read")  # astropy's default registry

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            kwargs.setdefault("format", default_format)
            return self.registry.read(self._cls, *args, **kwargs)

    return registry.UnifiedReadWriteMethod(Read)


def writer(default_format: str, doc: str) -> Any:
    """Return a ``write`` method with a default format; the parameters are those of `reader`."""

    class Write(registry.UnifiedReadWrite):
        __doc__ = doc

        def __init__(self, instance: Any, cls: type) -> None:
            super().__init__(instance, cls, "write")  # astropy's default registry

        def __call__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.setdefault("format", default_format)
            self.registry.write(self._instance, *args, **kwargs)

    return registry.UnifiedReadWriteMethod(Write)
