"""Functions that write files atomically, open FITS files, and read and write ASDF extensions."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import platform
import re
import secrets
import shutil
import time
import warnings
import zlib
from collections import UserList
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeAlias

import asdf
import numpy as np
from asdf.lazy_nodes import AsdfDictNode, AsdfListNode
from astropy.io import fits
from numpy.typing import NDArray

from glue_lrs._utils.source_file import SourceFile
from glue_lrs.errors import Hint, LRSError, LRSWarning, ProductError, WriteError, naming, warn
from glue_lrs.io.structure import check_structure, decompressed, remove_unreadable_cards
from glue_lrs.io.trees import check_blocks, check_tree

_COLUMN = "ASDF_METADATA"

#: Largest number of characters of another package's error that a message quotes: two lines.
_LONGEST_REASON = 160

#: Age in seconds above which the temporary file of a process of another computer is a remainder: a
#: week, as no file is written for so long.
_OLD = 7 * 24 * 3600

#: FITS file, given as a path, an open binary file, or an HDU list.
Source: TypeAlias = str | os.PathLike[str] | io.IOBase | fits.HDUList


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Write a file atomically.

    After an error there is no partial file, and a file that existed before is unchanged. Of two
    processes that write the same file, one wins, with a complete file. If a process is killed, its
    temporary file remains until the next file is written to the same folder.

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
        If the file exists, its folder does not exist, or `path` is not a path, and if the operating
        system reports an error here or within the block.
    """
    if not isinstance(path, str | os.PathLike):
        found = "None" if path is None else f"an object of type {type(path).__name__}"
        raise WriteError(f"found {found}, expected the path of the file to write")
    label = os.fspath(path)
    target = Path(os.path.realpath(os.path.expanduser(label)))
    temporary = target.with_name(f"{_temporary_start()}{secrets.token_hex(8)}{target.suffix}")
    with naming(label):
        try:
            check_target(target, overwrite)
            _remove_remains_once(target.parent)
            yield temporary
            if target.exists() and overwrite:
                shutil.copymode(target, temporary)
            _move(temporary, target, overwrite)
        except FileExistsError as error:
            raise already_exists() from error
        except OSError as error:
            raise WriteError(f"cannot be written, {one_line(error)}") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _temporary_start() -> str:
    """Return the start of the names of temporary files of this process."""
    return f".glue-lrs-{_computer():08x}-{os.getpid()}-"


def _computer() -> int:
    """Return a number for the processes among which the number of a process is unique.

    Computers, and containers of the same name on one computer, may share a folder. In Linux, the
    numbers belong to a namespace, whose own number is unique until the computer is restarted.
    """
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii"))
        parts.append(os.readlink("/proc/self/ns/pid"))
    return zlib.crc32("".join(parts).encode())


def remove_remains(folder: Path) -> None:
    """Remove the temporary files of processes that were killed from a folder.

    Files of other users and of processes that are running are kept. Whether a process of another
    computer is running is unknown: its files are kept until they are old.
    """
    if os.name != "posix":
        return
    pattern = re.compile(r"\.glue-lrs-([0-9a-f]{8})-(\d{1,9})-[0-9a-f]{16}")
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = pattern.match(entry.name)
            if match is None:
                continue
            here = int(match[1], 16) == _computer()
            if here and _is_running(int(match[2])):
                continue
            with contextlib.suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                old = time.time() - found.st_mtime > _OLD
                if found.st_uid == os.getuid() and (here or old):
                    os.unlink(entry.path)


_remove_remains_once = functools.cache(remove_remains)


def _is_running(process: int) -> bool:
    """Return whether a process exists, perhaps that of another user."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def check_target(target: Path, overwrite: bool) -> None:
    """Raise `WriteError` if a file cannot be written.

    This is checked before the content of the file is computed.
    """
    if target.is_dir():
        raise WriteError("is a directory, expected the name of a file")
    if target.exists():
        if not overwrite:
            raise already_exists()
        if not target.is_file():  # such as /dev/null, which must not be replaced
            raise WriteError("is not a regular file, expected a regular file or a new name")
        if not os.access(target, os.W_OK):
            raise WriteError("cannot be written, the file is write-protected")
    if not target.parent.is_dir():
        raise WriteError(f"the folder {target.parent} does not exist")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise WriteError(f"cannot be written, no permission to write to {target.parent}")


def already_exists(path: str | os.PathLike[str] | None = None) -> WriteError:
    """Return the error for a file that exists and must not be replaced."""
    hint = Hint.to("{} replaces it", overwrite=True)
    return WriteError("exists, expected a new name", subject=path, hint=hint)


def one_line(error: BaseException) -> str:
    """Return the text of an error on one line of limited length, or its class name without a text.

    A `KeyError` has only the key as its text, so that its class is named, too.
    """
    text = getattr(error, "strerror", None) or str(error)
    if not text or isinstance(error, KeyError):
        text = f"{type(error).__name__} {text}"
    return shorten(" ".join(str(text).split()), _LONGEST_REASON, placeholder="...")


def _move(temporary: Path, target: Path, overwrite: bool) -> None:
    if not overwrite:
        # Unlike a rename, a hard link never replaces a file that was created in the meantime.
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise
        except OSError:  # the file system has no hard links: reserve the name
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            try:
                os.replace(temporary, target)
            except BaseException:
                target.unlink(missing_ok=True)
                raise
        return
    os.replace(temporary, target)


@contextlib.contextmanager
def opened(
    source: Source, error: type[LRSError] = ProductError
) -> Iterator[tuple[fits.HDUList, str]]:
    """Open a FITS file for the duration of a block, and read all headers without warnings.

    Parameters
    ----------
    source : str, path-like, file object or `~astropy.io.fits.HDUList`
        Path of the file, open binary file, or HDU list. Only a file given by its path is
        memory-mapped. An open file is read from the start. A closed HDU list is opened again from
        its file name.
    error : type
        Class of the exceptions to raise.

    Yields
    ------
    `~astropy.io.fits.HDUList`, str
        HDU list, and name of the file, a `SourceFile` if `source` is a path. After the block, a
        file or HDU list that was passed open remains open. Arrays from the HDU list remain valid
        when the file is closed.

    Raises
    ------
    LRSError
        An exception of the class `error`, if the file is missing, unreadable, not FITS, empty or
        truncated, if the block raises an error because the file is damaged, or if `source` has a
        wrong type or is an empty HDU list. The name of the file also becomes the subject of each
        `LRSError` that the block raises without a subject.
    """
    if isinstance(source, fits.HDUList):
        source = _reopened(source, error)
    label = _label(source, error)
    with naming(label):
        hdulist = source if isinstance(source, fits.HDUList) else _open(source, label, error)
        try:
            with reading(error=error):
                yield hdulist, label
        finally:
            if hdulist is not source:
                hdulist.close(closed=isinstance(source, str | os.PathLike))


@contextlib.contextmanager
def reading(part: str = "", error: type[LRSError] = ProductError) -> Iterator[None]:
    """Convert any exception in a block to an `error` of one line; drop other packages' warnings.

    The content of a file may make astropy, asdf, gwcs and numpy raise errors and issue warnings of
    any type. Errors and warnings of this package are passed on unchanged.

    Parameters
    ----------
    part : str
        Part of the file that is read, for the message.
    error : type
        Class of the exceptions to raise.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except LRSError:
            raise
        except Exception as reason:  # astropy, asdf and gwcs may raise any error for a broken file
            text = f"{part} cannot be read, {one_line(reason)}"
            raise error(text.lstrip()) from reason
    for warning in caught:
        if isinstance(warning.message, LRSWarning):
            warn(warning.message)


def _reopened(hdulist: fits.HDUList, error: type[LRSError]) -> fits.HDUList | str:
    """Return the HDU list if it is open, or its file name if it is closed."""
    if not len(hdulist):
        raise error("found an empty HDU list, expected that of a FITS file")
    file = (hdulist.fileinfo(0) or {}).get("file")
    if file is None or not file.closed:
        return hdulist
    name: str | None = hdulist.filename()  # a closed list lacks extensions that were not read
    if name is None or not os.path.exists(name):
        raise error(f"{name or 'file'}: the HDU list is closed, expected an open one")
    return name


def _label(source: object, error: type[LRSError]) -> str:
    """Return the name of a file for messages, or raise `error` if `source` is not a file."""
    if isinstance(source, str | os.PathLike):
        return SourceFile.from_path(os.fspath(source))
    if isinstance(source, fits.HDUList):
        return source.filename() or "file"
    if hasattr(source, "read") and hasattr(source, "seek"):
        name = getattr(source, "name", None)
        return name if isinstance(name, str) else "file"
    raise error(
        f"found {'None' if source is None else 'an object of type ' + type(source).__name__}, "
        "expected the path of a FITS file, an open file or an HDUList"
    )


def _open(
    source: str | os.PathLike[str] | io.IOBase, label: str, error: type[LRSError]
) -> fits.HDUList:
    """Open a FITS file and read all headers, or raise `error` if the file is damaged."""
    named = isinstance(source, str | os.PathLike)
    hdulist = None
    try:
        content, doubtful = _content(os.path.expanduser(label) if named else source, error)
        with reading(error=error):
            hdulist = fits.open(content, memmap=None if named else False)
            for number, hdu in enumerate(hdulist):  # reads every header
                note = number in doubtful and remove_unreadable_cards(hdu.header, hdu.name)
                if note:
                    warn(note.about(label))
    except Exception as reason:  # the operating system and the decompression may raise any error
        if hdulist is not None:
            hdulist.close(closed=named)
        if isinstance(reason, LRSError):
            raise
        raise error(_open_problem(reason)) from reason
    return hdulist


def _content(source: Any, error: type[LRSError]) -> tuple[Any, set[int]]:
    """Return the path or open file, or the content of a compressed file, after checking it.

    The second item contains the indices of the HDUs whose cards may be damaged. The file is opened
    here, because astropy would not detect that a compressed file is truncated, and would download a
    file whose name looks like a URL.
    """
    if isinstance(source, str):
        if os.path.isdir(source):
            raise error("is a directory, expected a FITS file")
        with open(source, "rb") if os.stat(source).st_size else io.BytesIO() as stream:
            content, doubtful = _content(stream, error)
        return source if content is stream else content, doubtful
    source.seek(0)
    start = source.read(2)
    source.seek(0)
    if not isinstance(start, bytes):
        raise error("is open as text, expected binary (mode 'rb')")
    if not start:
        raise error("is empty, expected a FITS file")
    content = decompressed(source, error)
    return content, check_structure(content, error)


def _open_problem(reason: Exception) -> str:
    if isinstance(reason, FileNotFoundError):
        return "does not exist"
    if isinstance(reason, PermissionError):
        return "cannot be read, permission denied"
    if isinstance(reason, EOFError):
        return "is truncated, the compressed data end too early"
    return f"cannot be read as FITS, {one_line(reason)}"


def native(values: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of an array in native byte order. Arrays from FITS files are big-endian."""
    return np.array(values, dtype=values.dtype.newbyteorder("="))


# --- ASDF extension ----------------------------------------------------------------------------


def asdf_hdu(tree: dict[str, Any]) -> fits.BinTableHDU:
    """Make an ASDF extension in the form that the pipeline writes.

    Parameters
    ----------
    tree : dict
        Tree of dicts and lists that contains numbers, strings, arrays and WCS objects.

    Returns
    -------
    `~astropy.io.fits.BinTableHDU`
        Table with the name ASDF, whose only row and column (ASDF_METADATA) contains the bytes of an
        ASDF file.
    """
    buffer = io.BytesIO()
    asdf.AsdfFile(tree).write_to(buffer)
    data = np.frombuffer(buffer.getvalue(), dtype=np.uint8)[np.newaxis]
    column = fits.Column(name=_COLUMN, format=f"{data.size}B", array=data)
    return fits.BinTableHDU.from_columns([column], name="ASDF")


def asdf_bytes(hdus: fits.HDUList | Mapping[str, Any]) -> bytes | None:
    """Return the content of the ASDF extension of a pipeline file as bytes.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList` or mapping of str to HDU
        HDUs of an open FITS file.

    Returns
    -------
    bytes or None
        Content of an ASDF file, or None if the FITS file has no ASDF extension.

    Raises
    ------
    ProductError
        If the extension is not a table with a column ASDF_METADATA.
    """
    if "ASDF" not in hdus:
        return None
    with reading("the ASDF extension"):  # it may not be a table, lack the column, or be truncated
        raw: bytes = hdus["ASDF"].data[_COLUMN].tobytes()
    return raw


def parse_asdf(raw: bytes) -> dict[str, Any]:
    """Read the tree from the bytes of an ASDF extension.

    Parameters
    ----------
    raw : bytes
        Content of an ASDF file, such as from `asdf_bytes`.

    Returns
    -------
    dict
        Tree without references to other extensions, files and hosts, from which nothing is read.

    Raises
    ------
    ProductError
        If the content cannot be read, or expands to an implausible size.
    """
    check_tree(raw, "the ASDF extension")
    check_blocks(raw, "the ASDF extension")
    with reading("the ASDF extension"), asdf.config_context() as config:
        # Files of older pipeline versions may violate the current schemas, which is harmless.
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
            _remove_references(file.tree.data.data, set())
            return {key: _converted(file.tree[key]) for key in file.tree}


def _remove_references(node: Any, seen: set[int]) -> None:
    """Remove references to arrays in other HDUs from a tree that is not yet converted to objects.

    `seen` contains the ids of the nodes already visited, because the tree may contain cycles, such
    as a model that refers to its inverse, which in turn refers to the model.
    """
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


def _is_reference(value: object) -> bool:
    """Return whether a node refers to another HDU, file or host, from which nothing is read."""
    if not hasattr(value, "get"):
        return False
    return isinstance(value.get("source"), str) or value.get("$ref") is not None


def _converted(node: Any) -> Any:
    """Convert lazy nodes of asdf to dicts and lists, because lazy nodes require an open file."""
    if isinstance(node, AsdfDictNode):
        return {key: _converted(node[key]) for key in node}
    if isinstance(node, AsdfListNode):
        return [_converted(value) for value in node]
    return node
