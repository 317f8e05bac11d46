"""``X.read`` and ``x.write`` through astropy's unified I/O registry, which `glue_lrs.io` fills."""

from __future__ import annotations

from typing import Any

from astropy.io import registry

__all__ = ["reader", "writer"]


def reader(default_format: str, doc: str) -> Any:
    """Make a ``read`` classmethod that takes one format unless told another.

    There is one format for each kind of file, and its reader says what is wrong with a file, which
    the registry's guessing does not.

    Parameters
    ----------
    default_format : str
        Format that is taken where none is given.
    doc : str
        Docstring.
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
    """Make a ``write`` method; the parameters are those of `reader`."""

    class Write(registry.UnifiedReadWrite):
        __doc__ = doc

        def __init__(self, instance: Any, cls: type) -> None:
            super().__init__(instance, cls, "write")  # astropy's default registry

        def __call__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.setdefault("format", default_format)
            self.registry.write(self._instance, *args, **kwargs)

    return registry.UnifiedReadWriteMethod(Write)
