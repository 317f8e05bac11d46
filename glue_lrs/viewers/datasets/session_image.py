"""Image of a dataset in sessions that contain the data, with all that a dataset cannot contain."""

from __future__ import annotations

import base64
import re
import shutil
import weakref
import zlib
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Any

from glue_lrs.errors import LRSError, ProductError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.viewers.datasets.session_meta import data_from_file, file_reference

if TYPE_CHECKING:
    from glue.core import Data
    from glue.core.state import GlueSerializer, GlueUnSerializer

#: Key of the `SessionImage` in the ``meta`` of a dataset.
IMAGE_KEY = "lrs_image"

#: Names that are given to the temporary file with the image.
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,120}\.fits(\.gz)?")


class SessionImage:
    """Image that a session contains as a FITS file, if the session contains the data.

    Parameters
    ----------
    image : SlitImage, optional
        Image of the dataset.
    stored : (str, bytes), optional
        Name and content of the file, from a session.
    """

    #: Dataset whose ``meta`` contains this object. If it was loaded from a file, a session without
    #: the data refers to the file.
    owner: weakref.ref[Data] | None = None

    def __init__(
        self, image: SlitImage | None = None, stored: tuple[str, bytes] | None = None
    ) -> None:
        self._image = image
        self._stored = stored

    def __repr__(self) -> str:
        return "<image for sessions>"

    @property
    def has_image(self) -> bool:
        """Whether the image is known, or the session contains it."""
        return self._image is not None or self._stored is not None

    def image(self) -> SlitImage:
        """Return the image, which has no path if it comes from a session.

        Raises
        ------
        LRSError
            If the session contains no image, or an invalid one.
        """
        if self._image is None:
            if self._stored is None:
                raise ProductError("the session does not contain the image")
            name, content = self._stored
            # The planes are read when they are needed, so that the file must exist as long.
            folder = mkdtemp(prefix="glue_lrs_")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            path = Path(folder) / (name if _NAME.fullmatch(name) else "image.fits")
            path.write_bytes(content)
            self._image = replace(SlitImage.read(path), filename=name, path=None, as_read=None)
        return self._image

    def __gluestate__(self, context: GlueSerializer) -> dict[str, Any]:
        reference = file_reference(self.owner, context)
        if reference is not None:
            return reference
        try:
            name, content = self._content()
        except (LRSError, OSError):
            return {}  # the pixels can be saved without the image
        return {"name": name, "fits": base64.b85encode(zlib.compress(content, 6)).decode()}

    @classmethod
    def __setgluestate__(cls, rec: dict[str, Any], context: GlueUnSerializer) -> SessionImage:
        if "log" in rec:
            found = data_from_file(rec, context).meta.get(IMAGE_KEY)
            return found if isinstance(found, SessionImage) else cls()
        if "fits" not in rec:
            return cls()
        content = zlib.decompress(base64.b85decode(rec["fits"]))
        return cls(stored=(str(rec.get("name", "")), content))

    def _content(self) -> tuple[str, bytes]:
        """Return name and content of a file with the image: its own, or one that is written."""
        if self._stored is not None:
            return self._stored
        image = self.image()
        name = Path(image.path or image.filename or "image.fits").name
        if image.path is not None and not image.changed and not image.segments:
            image.check_file()
            return name, Path(image.path).read_bytes()
        with TemporaryDirectory(prefix="glue_lrs_") as folder:
            path = Path(folder) / "image.fits"
            image.write(path)
            return name, path.read_bytes()
