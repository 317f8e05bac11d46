"""LazyHeader: a FITS header of one's own, copied only when somebody looks at it.

An image, its extractions and their spectra each have a header. Copying one takes as long as an
extraction, and few are ever looked at.
"""

from __future__ import annotations

import threading
from typing import Any

from astropy.io import fits

__all__ = ["LazyHeader"]

_LOCK = threading.RLock()


class LazyHeader(fits.Header):
    """An astropy header that becomes a copy of another one when it is first looked at.

    Made by `OwnHeader.of`. Whatever is done to it changes nothing else, and whatever is done to the
    header that it was made of does not change it.

    Notes
    -----
    ``_template`` is a header that nobody changes. Until somebody looks at it, an `LazyHeader` has no
    other attribute: Python calls ``__getattr__`` for what is not there, and only for that.
    """

    @classmethod
    def from_header(cls, header: fits.Header) -> LazyHeader:
        """Make a header of one's own.

        Parameters
        ----------
        header : `~astropy.io.fits.Header`
            A plain header must not be changed any more by whoever hands it over; an `LazyHeader`
            may be.

        Returns
        -------
        LazyHeader
            A copy, that is made now only if `header` is an `LazyHeader` that was changed.
        """
        template: fits.Header | None = header
        if isinstance(header, cls):
            template = header.__dict__.get("_template")
            # astropy keeps account of changes for its own use; should that end, all are copied.
            if template is None or (header._looked_at and getattr(header, "_modified", True)):
                template = fits.Header.copy(header)
        made = cls.__new__(cls)
        made.__dict__["_template"] = template
        return made

    @staticmethod
    def view(header: fits.Header) -> fits.Header:
        """The same cards, to be read only: they are not copied for it."""
        if isinstance(header, LazyHeader) and not header._looked_at:
            return header.__dict__["_template"]
        return header

    @property
    def _looked_at(self) -> bool:
        return len(self.__dict__) > 1 or "_template" not in self.__dict__

    def __getattr__(self, name: str) -> Any:
        # Python asks for names with underscores by itself.
        if not name.startswith("__") and "_template" in self.__dict__:
            with _LOCK:
                if not self._looked_at:
                    self.__dict__.update(fits.Header.copy(self.__dict__["_template"]).__dict__)
            if name in self.__dict__:
                return self.__dict__[name]
        raise AttributeError(f"'Header' object has no attribute {name!r}")

    def clear(self) -> None:
        """Remove all cards; astropy does not count that as a change."""
        self.__dict__.pop("_template", None)
        super().clear()
        self.__dict__["_modified"] = True

    def __copy__(self) -> LazyHeader:
        return LazyHeader.from_header(self)

    def __deepcopy__(self, *args: Any, **kwargs: Any) -> LazyHeader:
        return LazyHeader.from_header(self)
