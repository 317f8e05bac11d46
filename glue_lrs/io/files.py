"""What several readers and writers share: FITS files opened, files written whole, ASDF in FITS."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import secrets
import shutil
import warnings
from collections import UserList
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from astropy.io import fits

from glue_lrs.errors import LRSError, ProductError, WriteError

__all__ = [
    "Source",
    "asdf_bytes",
    "asdf_hdu",
    "atomic_write",
    "load_asdf",
    "open_fits",
    "opened",
    "parse_asdf",
]

_COLUMN = "ASDF_METADATA"

#: What a FITS file may be read from: its name, an open file, or what astropy made of it.
Source: TypeAlias = str | os.PathLike[str] | io.IOBase | fits.HDUList


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Write a file whole or not at all.

    Parameters
    ----------
    path : str or path-like
        The file to make. A symbolic link is followed.
    overwrite : bool
        Whether an existing file may be replaced.

    Yields
    ------
    `~pathlib.Path`
        A name in the same folder, of the same suffix, to write to. It becomes `path` when the block
        ends, and is removed when the block raises.

    Raises
    ------
    WriteError
        If the file exists, the folder does not, `path` is none, or the system refuses to write, in
        the block as well.
    """
    if not isinstance(path, str | os.PathLike):
        found = "None" if path is None else f"an object of type {type(path).__name__}"
        raise WriteError(f"found {found}, expected the path of the file to write")
    label = os.fspath(path)
    target = Path(os.path.realpath(os.path.expanduser(label)))
    try:
        _check_target(target, label, overwrite)
    except OSError as error:
        raise WriteError(f"{label}: cannot be written, {_reason(error)}") from error
    temporary = target.with_name(f".{secrets.token_hex(8)}{target.suffix}")
    try:
        yield temporary
        if target.exists() and overwrite:
            shutil.copymode(target, temporary)
        _move(temporary, target, overwrite)
    except FileExistsError as error:
        raise WriteError(_exists(label)) from error
    except OSError as error:
        raise WriteError(f"{label}: cannot be written, {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _check_target(target: Path, label: str, overwrite: bool) -> None:
    """Say early what would fail late."""
    if target.is_dir():
        raise WriteError(f"{label}: is a directory, expected the name of a file")
    if target.exists():
        if not overwrite:
            raise WriteError(_exists(label))
        if not target.is_file():  # such as /dev/null, which must not be replaced
            raise WriteError(f"{label}: is not a regular file, expected one or a new name")
        if not os.access(target, os.W_OK):
            raise WriteError(f"{label}: cannot be written, the file is write-protected")
    if not target.parent.is_dir():
        raise WriteError(f"{label}: the folder {target.parent} does not exist")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise WriteError(f"{label}: cannot be written, no permission to write to {target.parent}")


def _exists(label: str) -> str:
    return f"{label}: exists, give overwrite=True (--overwrite) to replace it"


def _reason(error: BaseException) -> str:
    """What went wrong, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _move(temporary: Path, target: Path, overwrite: bool) -> None:
    if not overwrite:
        # A hard link never replaces a file that somebody else made meanwhile; a rename does.
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if target.exists():
                raise FileExistsError(str(target)) from None
        else:
            return
    os.replace(temporary, target)


def open_fits(
    source: str | os.PathLike[str] | io.IOBase, error: type[LRSError] = ProductError
) -> fits.HDUList:
    """Open a FITS file, memory-mapped, with all headers found and no warning.

    Parameters
    ----------
    source : str, path-like or file object
        The file. An open one must be binary and is read from its start; it is not memory-mapped.
    error : type
        The class of what is raised.

    Returns
    -------
    `~astropy.io.fits.HDUList`
        To be closed by the caller; arrays taken from it outlive that.

    Raises
    ------
    LRSError
        Of class `error`, if the file is missing, unreadable, not FITS, empty or truncated.
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
    except Exception as reason:  # astropy lets through whatever its parser stumbles over
        if hdulist is not None:
            hdulist.close(closed=isinstance(source, str | os.PathLike))
        raise error(f"{label}: {_open_problem(reason)}") from reason
    problem = None
    for warning in caught:
        text = str(warning.message)
        if "truncated" in text:
            problem = f"is truncated, {text.split(': ', 1)[-1]}"
        elif "Error validating header" in text:
            problem = f"is damaged or truncated, extension {number} has no valid header"
        if problem is not None:
            hdulist.close(closed=isinstance(source, str | os.PathLike))
            raise error(f"{label}: {problem}")
    return hdulist


def _label(source: object, error: type[LRSError]) -> str:
    """What messages call a source that is not an HDU list."""
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
    """The name of a file, or all of it where it is compressed by gzip."""
    # Looked at first, as astropy would take a name that looks like an address from the network.
    if os.path.isdir(name):
        raise error(f"{label}: is a directory, expected a FITS file")
    if os.stat(name).st_size == 0:
        raise error(f"{label}: is empty, expected a FITS file")
    with open(name, "rb") as stream:
        whole = _unpacked(stream)
    return name if whole is None else whole


def _checked_stream(stream: Any, label: str, error: type[LRSError]) -> Any:
    """An open file at its start, or all of it where it is compressed by gzip."""
    stream.seek(0)
    start = stream.read(1)
    if not isinstance(start, bytes):
        raise error(f"{label}: is open as text, expected binary (mode 'rb')")
    if not start:
        raise error(f"{label}: is empty, expected a FITS file")
    stream.seek(0)
    whole = _unpacked(stream)
    stream.seek(0)
    return stream if whole is None else whole


def _unpacked(stream: Any) -> io.BytesIO | None:
    """All of a file that is compressed by gzip; None for another."""
    # Of such a stream astropy does not see that it is cut off.
    if stream.read(2) != b"\x1f\x8b":
        return None
    stream.seek(0)
    with gzip.open(stream) as packed:
        return io.BytesIO(packed.read())


@contextlib.contextmanager
def opened(
    source: Source, error: type[LRSError] = ProductError
) -> Iterator[tuple[fits.HDUList, str]]:
    """Open whatever a FITS file may be read from.

    Parameters
    ----------
    source : str, path-like, file object or `~astropy.io.fits.HDUList`
        The file. An HDU list that was closed is opened again by its name.
    error : type
        The class of what is raised.

    Yields
    ------
    `~astropy.io.fits.HDUList`, str
        An open HDU list and what messages call it. What was given open stays open.

    Raises
    ------
    LRSError
        Of class `error`, as `open_fits`, and if `source` is something else or an empty list.
    """
    if isinstance(source, fits.HDUList):
        file = (source.fileinfo(0) or {}).get("file") if len(source) else None
        if file is None or not file.closed:
            if not len(source):
                raise error("found an empty HDU list, expected that of a FITS file")
            yield source, source.filename() or "file"
            return
        name = source.filename()  # extensions that were not looked at are lost
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
    text = _reason(reason)
    if "SIMPLE" in text or "does not appear to be a valid FITS" in text:
        return "is not a FITS file"
    if "END card" in text or "Empty or corrupt" in text:
        return "is truncated or not a FITS file, a header has no end"
    return f"cannot be read as FITS, {text}"


def asdf_hdu(tree: dict[str, Any]) -> fits.BinTableHDU:
    """Make the ASDF extension of a pipeline file.

    Parameters
    ----------
    tree : dict
        What to store: numbers, strings, lists, dicts, arrays, WCS objects.

    Returns
    -------
    `~astropy.io.fits.BinTableHDU`
        Named ASDF: one row, one column ASDF_METADATA that holds the bytes of an ASDF file.
    """
    import asdf

    buffer = io.BytesIO()
    asdf.AsdfFile(tree).write_to(buffer)
    data = np.frombuffer(buffer.getvalue(), dtype=np.uint8)[np.newaxis]
    column = fits.Column(name=_COLUMN, format=f"{data.size}B", array=data)
    return fits.BinTableHDU.from_columns([column], name="ASDF")


def load_asdf(hdulist: fits.HDUList) -> dict[str, Any] | None:
    """Read the tree of the ASDF extension of a pipeline file.

    Parameters
    ----------
    hdulist : `~astropy.io.fits.HDUList`
        An open file.

    Returns
    -------
    dict or None
        The tree, which does not depend on the file any more, without its references to other
        extensions; None where there is no ASDF extension.

    Raises
    ------
    ProductError
        If the extension cannot be read.
    """
    raw = asdf_bytes(hdulist)
    name = getattr(hdulist, "filename", lambda: None)() or "file"
    return None if raw is None else parse_asdf(raw, name)


def asdf_bytes(hdulist: fits.HDUList, label: str | None = None) -> bytes | None:
    """Get the ASDF file that is the extension of a pipeline file.

    Parameters
    ----------
    hdulist : `~astropy.io.fits.HDUList`
        An open file.
    label : str, optional
        What messages call it.

    Returns
    -------
    bytes or None
        None where there is no ASDF extension.

    Raises
    ------
    ProductError
        If the extension is not what it should be.
    """
    if "ASDF" not in hdulist:
        return None
    try:
        raw: bytes = hdulist["ASDF"].data[_COLUMN].tobytes()
    except Exception as reason:  # not a table, another column, cut off
        name = label or hdulist.filename() or "file"
        raise ProductError(
            f"{name}: the ASDF extension cannot be read, {_reason(reason)}"
        ) from reason
    return raw


def parse_asdf(raw: bytes, label: str) -> dict[str, Any]:
    """Read the tree of an ASDF file: see `load_asdf`.

    Parameters
    ----------
    raw : bytes
        What `asdf_bytes` gave.
    label : str
        What messages call the file.
    """
    import asdf

    try:
        with asdf.config_context() as config:
            # Files of older pipelines do not always fit today's schemas, which does not hurt.
            config.validate_on_read = False
            if hasattr(config, "warn_on_failed_conversion"):  # asdf 5: an error, without a warning
                config.warn_on_failed_conversion = False
            with asdf.open(
                io.BytesIO(raw),
                lazy_tree=True,  # references to other HDUs must not be followed
                lazy_load=False,  # so that nothing needs the ASDF file later
                memmap=False,
                ignore_missing_extensions=True,  # written by newer or other packages: no warning
                ignore_unrecognized_tag=True,
            ) as file:
                _prune(file.tree.data.data)
                return {key: _plain(file.tree[key]) for key in file.tree}
    except Exception as reason:  # anything a YAML parser and all converters may raise
        raise ProductError(
            f"{label}: the ASDF extension cannot be read, {_reason(reason)}"
        ) from reason


def _prune(node: Any, seen: set[int] | None = None) -> None:
    """Take the references to arrays in other HDUs out of a tree that is not converted yet.

    It may hold itself: a model is the inverse of its inverse.
    """
    seen = set() if seen is None else seen
    if id(node) in seen:
        return
    if hasattr(node, "items"):
        seen.add(id(node))
        for key in [key for key, value in node.items() if _is_reference(value)]:
            del node[key]
        for value in node.values():
            _prune(value, seen)
    elif isinstance(node, list | UserList):
        seen.add(id(node))
        node[:] = [value for value in node if not _is_reference(value)]
        for value in node:
            _prune(value, seen)


def _is_reference(value: Any) -> bool:
    source = value.get("source") if hasattr(value, "get") else None
    return isinstance(source, str) and source.startswith("fits:")


def _plain(node: Any) -> Any:
    """Dicts and lists in place of ASDF's lazy nodes, which need the file to be open."""
    from asdf.lazy_nodes import AsdfDictNode, AsdfListNode

    if isinstance(node, AsdfDictNode):
        return {key: _plain(node[key]) for key in node}
    if isinstance(node, AsdfListNode):
        return [_plain(value) for value in node]
    return node
