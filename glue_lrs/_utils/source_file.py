"""SourceFile: path of a file that was read, with the state of the file at that time."""

from __future__ import annotations

import hashlib
import mmap
import os
from typing import Any, Self

from numpy.typing import NDArray


class SourceFile(str):
    """Path of a file, with the size, time of modification and inode when it was read.

    It is a string, so that it can be used as a name everywhere. A file that was replaced or changed
    since is recognised before its checksum is recorded or its memory-mapped arrays are used.

    Create it with `SourceFile.from_path`.
    """

    __slots__ = ("_state",)
    _state: tuple[int, int, int] | None

    @classmethod
    def from_path(cls, path: str) -> Self:
        """Return the path with the current state of the file, None if the file is missing."""
        made = cls(path)
        made._state = _state(path)
        return made

    def absolute(self) -> Self:
        """Return the absolute path, with ``~`` expanded, and with the same state."""
        made = type(self)(os.path.abspath(os.path.expanduser(self)))
        made._state = self._state
        return made

    @property
    def was_read(self) -> bool:
        """Whether there was a file at this path when the object was made to record its state."""
        return self._state is not None

    @property
    def is_unchanged(self) -> bool:
        """Whether the file exists and is the one that was read."""
        return self._state is not None and _state(self) == self._state

    @property
    def is_overwritten(self) -> bool:
        """Whether the content of the file that was read was changed in place or truncated.

        If the file was instead replaced by a new file or removed, its memory-mapped arrays remain
        valid.
        """
        now = _state(self)
        if now is None or self._state is None or now == self._state:
            return False
        return now[2] == self._state[2]

    def sha256(self) -> str | None:
        """Return the SHA-256 checksum of the file that was read, or None if it has changed."""
        digest = file_digest(self) if self.is_unchanged else None
        return digest if self.is_unchanged else None

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), str(self), self._state)


def _restored(kind: type[SourceFile], path: str, state: tuple[int, int, int] | None) -> SourceFile:
    made = kind(path)
    made._state = state
    return made


def _state(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(os.path.expanduser(path))
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def is_mapped(array: NDArray[Any] | None) -> bool:
    """Return whether an array is in a memory-mapped file."""
    return _mapping(array) is not None


def _mapping(array: object) -> mmap.mmap | None:
    """Return the memory-mapped file that contains an array, or None."""
    base = array
    while hasattr(base, "base"):  # arrays are views of other arrays
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def release_memory(array: NDArray[Any] | None) -> None:
    """Release the memory of a memory-mapped file, whose pages are read again when needed.

    Without it, the process seems to need as much memory as the file has been read. Values that were
    assigned to the array are lost.
    """
    found = _mapping(array)
    if found is not None and hasattr(mmap, "MADV_DONTNEED"):
        found.madvise(mmap.MADV_DONTNEED)


def file_digest(path: str) -> str | None:
    """Return the SHA-256 checksum of a file, or None if it cannot be read."""
    try:
        with open(os.path.expanduser(path), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
