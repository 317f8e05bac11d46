"""Files of a session that was moved: those beside the session replace files that do not exist."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

#: Endings of the names of files to which a session of this package refers.
_ENDINGS = (".fits", ".fits.gz", ".json", ".asdf")

#: Prefix of strings in a session that are values, not the names of objects.
_LITERAL = "st__"

#: Keys of the records with the path of a file.
_KEYS = ("path", "filename")


def moved_files(document: Any, folder: Path) -> dict[str, str]:
    """Return the files of a session that do not exist, and the files beside the session.

    Parameters
    ----------
    document : object
        Content of the session, from JSON.
    folder : Path
        Folder of the session.

    Returns
    -------
    dict of str to str
        Paths in the session, and the paths of files with the same name in the folder of the
        session, or in the same subfolder of it.
    """
    found = {}
    for old in _paths(document):
        if (folder / old).exists():
            continue
        parts = _parts(old)
        # the longest end of the path that exists beside the session
        candidates = (folder.joinpath(*parts[start:]) for start in range(1, len(parts)))
        new = next((one for one in candidates if one.is_file()), None)
        if new is not None:
            found[old] = str(new.resolve())
    return found


def relocated(text: str, moved: dict[str, str]) -> str:
    """Return the text of a session with other paths.

    Parameters
    ----------
    text : str
        Content of the session.
    moved : dict of str to str
        Old paths and new paths; see `moved_files`.
    """

    def changed(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: changed(one) for key, one in node.items()}
        if isinstance(node, list):
            return [changed(one) for one in node]
        if not isinstance(node, str):
            return node
        prefix = _LITERAL if node.startswith(_LITERAL) else ""
        path = node.removeprefix(_LITERAL)
        return prefix + moved[path] if path in moved else node

    return json.dumps(changed(json.loads(text)))


def _paths(document: Any) -> list[str]:
    """Return the strings in a document that are paths of files, in the order of the document."""
    found: dict[str, None] = {}
    waiting = [document]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += reversed([*one.values()])
            found |= dict.fromkeys(
                value.removeprefix(_LITERAL)
                for key in _KEYS
                if isinstance(value := one.get(key), str)
            )
        elif isinstance(one, list):
            waiting += reversed(one)
        elif isinstance(one, str) and one.endswith(_ENDINGS) and len(_parts(one)) > 1:
            found[one.removeprefix(_LITERAL)] = None
    return [path for path in found if path and "\n" not in path and len(path) < 4096]


def _parts(path: str) -> tuple[str, ...]:
    """Return the parts of a path of this or another operating system."""
    windows = PureWindowsPath(path)
    if os.sep not in path and (windows.drive or "\\" in path):
        return windows.parts
    return PurePosixPath(path).parts
