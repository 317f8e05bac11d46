"""Functions that write files atomically, open FITS files, and read and write ASDF extensions."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import secrets
import shutil
import warnings
from collections import UserList
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import asdf
import numpy as np
from asdf.lazy_nodes import AsdfDictNode, AsdfListNode
from astropy.io import fits
from numpy.typing import NDArray

from glue_lrs.errors import Hint, LRSError, ProductError, WriteError

_COLUMN = "ASDF_METADATA"

#: A FITS file, given as a path, an open binary file, or an HDU list.
Source: TypeAlias = str | os.PathLike[str] | io.IOBase | fits.HDUList


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Write a file atomically, so that after an error there is no partial file.

    After an error, a file that existed before is unchanged.

    Parameters
    ----------
    path : str or path-like
        Path of the file to write. Symbolic links are followed.
    overwrite : bool
        Whether an existing file may be replaced.

    Yields
    ------
    `~pathlib.Path`
        Path of a temporary file in the same folder, with the same suffix. The temporary file is
        renamed to `path` at the end of the block, and removed if the block raises an error.

    Raises
    ------
    WriteError
        If the file exists, its folder does not exist, `path` is not a path, or the operating system
        reports an error, also within the block.
    """
    if not isinstance(path, str | os.PathLike):
        found = "None" if path is None else f"an object of type {type(path).__name__}"
        raise WriteError(f"found {found}, expected the path of the file to write")
    label = os.fspath(path)
    target = Path(os.path.realpath(os.path.expanduser(label)))
    try:
        _check_target(target, label, overwrite)
    except OSError as error:
        raise WriteError(f"cannot be written, {one_line(error)}", subject=label) from error
    temporary = target.with_name(f".{secrets.token_hex(8)}{target.suffix}")
    try:
        yield temporary
        if target.exists() and overwrite:
            shutil.copymode(target, temporary)
        _move(temporary, target, overwrite)
    except FileExistsError as error:
        raise _exists(label) from error
    except OSError as error:
        raise WriteError(f"cannot be written, {one_line(error)}", subject=label) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _check_target(target: Path, label: str, overwrite: bool) -> None:
    """Raise `WriteError` if the file cannot be written, before its content is computed."""
    if target.is_dir():
        raise WriteError("is a directory, expected the name of a file", subject=label)
    if target.exists():
        if not overwrite:
            raise _exists(label)
        if not target.is_file():  # such as /dev/null, which must not be replaced
            raise WriteError("is not a regular file, expected one or a new name", subject=label)
        if not os.access(target, os.W_OK):
            raise WriteError("cannot be written, the file is write-protected", subject=label)
    if not target.parent.is_dir():
        raise WriteError(f"the folder {target.parent} does not exist", subject=label)
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise WriteError(
            f"cannot be written, no permission to write to {target.parent}", subject=label
        )


def _exists(label: str) -> WriteError:
    return WriteError(
        "exists, expected a new name",
        subject=label,
        hint=Hint.to("{} replaces it", overwrite=True),
    )


def one_line(error: BaseException) -> str:
    """Return the text of an error on one line, or its class name if it has no text."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _move(temporary: Path, target: Path, overwrite: bool) -> None:
    if not overwrite:
        # Unlike a rename, a hard link never replaces a file that was created in the meantime.
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise
        except OSError:  # the file system has no hard links
            if target.exists():
                raise FileExistsError(str(target)) from None
        else:
            return
    os.replace(temporary, target)


def open_fits(
    source: str | os.PathLike[str] | io.IOBase, error: type[LRSError] = ProductError
) -> fits.HDUList:
    """Open a FITS file and read all its headers, without warnings.

    Parameters
    ----------
    source : str, path-like or file object
        Path of the file, which is memory-mapped, or an open binary file, which is read from its
        start and not memory-mapped.
    error : type
        Class of the exception to raise.

    Returns
    -------
    `~astropy.io.fits.HDUList`
        Open HDU list, which the caller must close. Arrays from the list remain valid afterwards.

    Raises
    ------
    LRSError
        The class is `error`. If the file is missing, unreadable, not FITS, empty or truncated.
    """
    label = _label(source, error)
    hdulist = None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if isinstance(source, str | os.PathLike):
                hdulist = fits.open(_checked_file(os.path.expanduser(label), label, error))
            else:
                hdulist = fits.open(_checked_stream(source, label, error), memmap=False)
            number = len(hdulist)  # reads every header
    except LRSError:
        raise
    except Exception as reason:  # the parser of astropy may raise any error
        if hdulist is not None:
            hdulist.close(closed=isinstance(source, str | os.PathLike))
        raise error(f"{_open_problem(reason)}", subject=label) from reason
    problem = None
    for warning in caught:
        text = str(warning.message)
        if "truncated" in text:
            problem = f"is truncated, {text.split(': ', 1)[-1]}"
        elif "Error validating header" in text:
            problem = f"is damaged or truncated, extension {number} has no valid header"
        if problem is not None:
            hdulist.close(closed=isinstance(source, str | os.PathLike))
            raise error(f"{problem}", subject=label)
    return hdulist


def _label(source: object, error: type[LRSError]) -> str:
    """Return the name, for messages, of a path or open file; raise `error` for other objects."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if hasattr(source, "read") and hasattr(source, "seek"):
        name = getattr(source, "name", None)
        return name if isinstance(name, str) else "file"
    raise error(
        f"found {'None' if source is None else 'an object of type ' + type(source).__name__}, "
        "expected the path of a FITS file, an open file or an HDUList"
    )


def _checked_file(name: str, label: str, error: type[LRSError]) -> str | io.BytesIO:
    """Return the name of a file, or its decompressed content if it is compressed with gzip."""
    # Check that the file exists, because astropy would download a name that looks like a URL.
    if os.path.isdir(name):
        raise error("is a directory, expected a FITS file", subject=label)
    if os.stat(name).st_size == 0:
        raise error("is empty, expected a FITS file", subject=label)
    with open(name, "rb") as stream:
        content = _decompressed(stream)
    return name if content is None else content


def _checked_stream(stream: Any, label: str, error: type[LRSError]) -> Any:
    """Return an open file, positioned at its start, or its content if it is compressed."""
    stream.seek(0)
    start = stream.read(1)
    if not isinstance(start, bytes):
        raise error("is open as text, expected binary (mode 'rb')", subject=label)
    if not start:
        raise error("is empty, expected a FITS file", subject=label)
    stream.seek(0)
    content = _decompressed(stream)
    stream.seek(0)
    return stream if content is None else content


def _decompressed(stream: Any) -> io.BytesIO | None:
    """Decompress a gzip file; return None if the file is not compressed.

    Astropy would not detect that a compressed file is truncated.
    """
    if stream.read(2) != b"\x1f\x8b":
        return None
    stream.seek(0)
    with gzip.open(stream) as packed:
        return io.BytesIO(packed.read())


@contextlib.contextmanager
def opened(
    source: Source, error: type[LRSError] = ProductError
) -> Iterator[tuple[fits.HDUList, str]]:
    """Open a FITS file, given in any form, for the duration of a block.

    Parameters
    ----------
    source : str, path-like, file object or `~astropy.io.fits.HDUList`
        Path of the file, an open binary file, or an HDU list. A closed HDU list is opened again
        from its file name.
    error : type
        Class of the exception to raise.

    Yields
    ------
    `~astropy.io.fits.HDUList`, str
        Open HDU list and its name in messages. If `source` was open before, it stays open.

    Raises
    ------
    LRSError
        The class is `error`. As for `open_fits`, or if `source` has another type or is an empty
        HDU list.
    """
    if isinstance(source, fits.HDUList):
        file = (source.fileinfo(0) or {}).get("file") if len(source) else None
        if file is None or not file.closed:
            if not len(source):
                raise error("found an empty HDU list, expected that of a FITS file")
            yield source, source.filename() or "file"
            return
        name = source.filename()  # a closed list lacks extensions that were not read
        if name is None or not os.path.exists(name):
            raise error(f"{name or 'file'}: the HDU list is closed, expected an open one")
        source = name
    hdulist = open_fits(source, error)
    try:
        yield hdulist, _label(source, error)
    finally:
        hdulist.close(closed=isinstance(source, str | os.PathLike))


def _open_problem(reason: Exception) -> str:
    if isinstance(reason, FileNotFoundError):
        return "does not exist"
    if isinstance(reason, PermissionError):
        return "cannot be read, permission denied"
    if isinstance(reason, EOFError):
        return "is truncated, the compressed data end too early"
    text = one_line(reason)
    if "SIMPLE" in text or "does not appear to be a valid FITS" in text:
        return "is not a FITS file"
    if "END card" in text or "Empty or corrupt" in text:
        return "is truncated or not a FITS file, a header has no end"
    return f"cannot be read as FITS, {text}"


def native(values: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of an array in native byte order, because FITS files are big-endian."""
    return np.array(values, dtype=values.dtype.newbyteorder("="))


# --- ASDF extension ----------------------------------------------------------------------------


def asdf_hdu(tree: dict[str, Any]) -> fits.BinTableHDU:
    """Make an ASDF extension in the form that the pipeline writes.

    Parameters
    ----------
    tree : dict
        Content: numbers, strings, lists, dicts, arrays and WCS objects.

    Returns
    -------
    `~astropy.io.fits.BinTableHDU`
        Table with the name ASDF, one row and one column ASDF_METADATA, which holds the bytes of an
        ASDF file.
    """
    buffer = io.BytesIO()
    asdf.AsdfFile(tree).write_to(buffer)
    data = np.frombuffer(buffer.getvalue(), dtype=np.uint8)[np.newaxis]
    column = fits.Column(name=_COLUMN, format=f"{data.size}B", array=data)
    return fits.BinTableHDU.from_columns([column], name="ASDF")


def load_asdf(hdulist: fits.HDUList, label: str = "file") -> dict[str, Any] | None:
    """Read the tree from the ASDF extension of a pipeline file.

    Parameters
    ----------
    hdulist : `~astropy.io.fits.HDUList`
        Open FITS file.
    label : str
        Name of the file in messages.

    Returns
    -------
    dict or None
        The tree, which remains valid when the file is closed. References to other extensions are
        removed. None if the file has no ASDF extension.

    Raises
    ------
    ProductError
        If the extension cannot be read.
    """
    raw = asdf_bytes(hdulist, label)
    return None if raw is None else parse_asdf(raw, label)


def asdf_bytes(hdus: fits.HDUList | Mapping[str, Any], label: str) -> bytes | None:
    """Return the content of the ASDF extension of a pipeline file as bytes.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList` or mapping of str to HDU
        HDUs of an open FITS file.
    label : str
        Name of the file in messages.

    Returns
    -------
    bytes or None
        Content of an ASDF file; None if the FITS file has no ASDF extension.

    Raises
    ------
    ProductError
        If the extension is not a table with a column ASDF_METADATA.
    """
    if "ASDF" not in hdus:
        return None
    try:
        raw: bytes = hdus["ASDF"].data[_COLUMN].tobytes()
    except Exception as reason:  # not a table, wrong columns, or truncated
        raise ProductError(
            f"the ASDF extension cannot be read, {one_line(reason)}", subject=label
        ) from reason
    return raw


def parse_asdf(raw: bytes, label: str) -> dict[str, Any]:
    """Read the tree from the content of an ASDF extension: see `load_asdf`.

    Parameters
    ----------
    raw : bytes
        Content of the extension, from `asdf_bytes`.
    label : str
        Name of the file in messages.
    """
    try:
        with asdf.config_context() as config:
            # Files of older pipeline versions may violate the current schemas; this is harmless.
            config.validate_on_read = False
            if hasattr(config, "warn_on_failed_conversion"):  # asdf 5
                config.warn_on_failed_conversion = False
            with asdf.open(
                io.BytesIO(raw),
                lazy_tree=True,  # do not follow references to other HDUs
                lazy_load=False,  # the arrays must outlive the file
                memmap=False,
                ignore_missing_extensions=True,  # do not warn about other packages or versions
                ignore_unrecognized_tag=True,
            ) as file:
                _remove_references(file.tree.data.data)
                return {key: _converted(file.tree[key]) for key in file.tree}
    except Exception as reason:  # the YAML parser and the converters may raise any error
        raise ProductError(
            f"the ASDF extension cannot be read, {one_line(reason)}", subject=label
        ) from reason


def _remove_references(node: Any, seen: set[int] | None = None) -> None:
    """Remove references to arrays in other HDUs from a tree that is not yet converted.

    The tree may contain cycles: a model refers to its inverse, which may refer to the model. `seen`
    holds the identities of the nodes that were visited.
    """
    seen = set() if seen is None else seen
    if id(node) in seen:
        return
    if hasattr(node, "items"):
        seen.add(id(node))
        for key in [key for key, value in node.items() if _is_reference(value)]:
            del node[key]
        for value in node.values():
            _remove_references(value, seen)
    elif isinstance(node, list | UserList):
        seen.add(id(node))
        node[:] = [value for value in node if not _is_reference(value)]
        for value in node:
            _remove_references(value, seen)


def _is_reference(value: Any) -> bool:
    source = value.get("source") if hasattr(value, "get") else None
    return isinstance(source, str) and source.startswith("fits:")


def _converted(node: Any) -> Any:
    """Convert lazy nodes to dicts and lists, because lazy nodes require an open file."""
    if isinstance(node, AsdfDictNode):
        return {key: _converted(node[key]) for key in node}
    if isinstance(node, AsdfListNode):
        return [_converted(value) for value in node]
    return node
