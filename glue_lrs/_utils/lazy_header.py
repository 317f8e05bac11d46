"""LazyHeader: a FITS header that is copied only when it is accessed.

An image, its extractions and their spectra each have an independent header. Copying a header takes
as long as an extraction, but most headers are never accessed.
"""

from __future__ import annotations

import threading
from typing import Any

from astropy.io import fits

_LOCK = threading.RLock()


class LazyHeader(fits.Header):
    """Copy of an astropy header that is not made until the header is accessed.

    Create it with `LazyHeader.from_header`. The copy is independent: changes to the copy do not
    affect the original header or other copies, and vice versa.

    Notes
    -----
    The attribute ``_template`` is the header to copy, and is never modified. Before the first
    access it is the only attribute, so that Python calls ``__getattr__`` for any other attribute.
    ``__getattr__`` then copies the template.
    """

    @classmethod
    def from_header(cls, header: fits.Header) -> LazyHeader:
        """Return an independent copy of a header.

        Parameters
        ----------
        header : `~astropy.io.fits.Header`
            Header to copy. If it is not a `LazyHeader`, it must not be modified afterwards.

        Returns
        -------
        LazyHeader
            Copy of the header. If `header` is a modified `LazyHeader`, the copy is made
            immediately, else at the first access.
        """
        template: fits.Header | None = header
        if isinstance(header, cls):
            template = header.__dict__.get("_template")
            # `_modified` is a private attribute of astropy's Header. If a version of astropy does
            # not have it, assume that each accessed header was modified.
            if template is None or (header._accessed and getattr(header, "_modified", True)):
                template = fits.Header.copy(header)
        made = cls.__new__(cls)
        made.__dict__["_template"] = template
        return made

    @staticmethod
    def view(header: fits.Header) -> fits.Header:
        """Return a header for reading only. Unlike access, this does not copy a `LazyHeader`."""
        if isinstance(header, LazyHeader) and not header._accessed:
            return header.__dict__["_template"]
        return header

    @property
    def _accessed(self) -> bool:
        """Whether the header has been copied."""
        return len(self.__dict__) > 1 or "_template" not in self.__dict__

    def __getattr__(self, name: str) -> Any:
        # Python itself looks up special names such as __len__, which must not trigger the copy.
        if not name.startswith("__") and "_template" in self.__dict__:
            with _LOCK:
                if not self._accessed:
                    self.__dict__.update(fits.Header.copy(self.__dict__["_template"]).__dict__)
            if name in self.__dict__:
                return self.__dict__[name]
        raise AttributeError(f"'Header' object has no attribute {name!r}")

    def clear(self) -> None:
        """Remove all cards, and mark the header as modified because astropy does not mark it."""
        self.__dict__.pop("_template", None)
        super().clear()
        self.__dict__["_modified"] = True

    def __copy__(self, memo: object = None) -> LazyHeader:
        return LazyHeader.from_header(self)

    __deepcopy__ = __copy__
