"""Check of glue sessions (.glu) before glue restores them.

glue imports and calls whatever a session names: a session may run any command. The check admits the
classes that glue, glue-qt and this package save, registered functions, and arithmetic expressions.
"""

from __future__ import annotations

import ast
import importlib
import json
import types
from collections.abc import Iterator
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from glue.config import data_factory, link_function
from glue.core import parse
from glue.core.data_factories.helpers import LoadLog
from glue.core.layer_artist import LayerArtistBase
from glue.core.state import PATH_PATCHES, GlueSerializer, GlueUnSerializer

from glue_lrs.errors import LRSError, naming, quoted

#: Packages with code to restore objects, and packages whose classes glue restores by its own code.
_PACKAGES = ("glue", "glue_qt", "glue_lrs")
_LIBRARIES = ("builtins", "collections", "datetime", "echo", "astropy", "numpy", "matplotlib")
#: Functions that glue saves for component arithmetic and for profiles, besides registered ones.
_NAMED_FUNCTIONS = {
    *(f"_operator.{name}" for name in ("add", "sub", "mul", "truediv", "pow", "neg")),
    *(f"numpy.{name}" for name in ("nansum", "nanmean", "nanmedian", "nanmin", "nanmax", "nanstd")),
}
#: Types of the records that hold the name of a function.
_FUNCTIONS = (
    "types.FunctionType", "types.BuiltinFunctionType", "builtins.function",
    "builtins.builtin_function_or_method",
)  # fmt: skip
_EXPRESSIONS = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop,
    ast.boolop, ast.cmpop, ast.Constant, ast.Load, ast.IfExp,
)  # fmt: skip


def check_session(path: str | PathLike[str]) -> None:
    """Raise `LRSError` if a session could run code other than that of glue and this package.

    Nothing that the session names is imported, except from glue, glue-qt and this package.

    Parameters
    ----------
    path : str or path-like
        Session file.

    Raises
    ------
    LRSError
        If the file is not a session, or names a class, function or file that is not admitted.
    """
    with naming(fspath(path)):
        try:
            document = json.loads(Path(path).read_bytes())
        except FileNotFoundError:
            raise LRSError("does not exist, expected a glue session") from None
        except (OSError, ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())[:80]
            raise LRSError(f"is not a glue session, {reason}") from None
        if not isinstance(document, dict) or not isinstance(document.get("__main__"), dict):
            raise LRSError("is not a glue session, it has no object __main__")
        factories = {item.function for item in data_factory.members}
        functions = factories | {item.function for item in link_function.members}
        for record in _records(document):
            _check_record(record, functions)


def _records(node: Any) -> Iterator[dict[str, Any]]:
    """Yield the mappings in a JSON document, at all levels."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _check_record(record: dict[str, Any], functions: set[Any]) -> None:
    if "_type" not in record:
        return
    kind = record["_type"]
    if kind in _FUNCTIONS:
        if "pickle" in record or not _is_function(record.get("function"), functions):
            raise _refused(f"the function {quoted(record.get('function'))}")
        return
    found = _class(kind)
    if found is None:
        raise _refused(f"the type {quoted(kind)}")
    if issubclass(found, parse.ParsedCommand) and not _is_arithmetic(record.get("cmd")):
        raise _refused(f"the expression {quoted(record.get('cmd'))}")
    if issubclass(found, LoadLog) and "://" in str(record.get("path")):
        raise _refused(f"the address {quoted(record['path'])}")


def _refused(what: str) -> LRSError:
    return LRSError(f"{what} is not something that glue or glue-lrs saves; nothing was opened")


def _object(name: Any, packages: tuple[str, ...]) -> Any:
    """Return the class or function with a name if it is defined in one of the packages, or None."""
    if not isinstance(name, str):
        return None
    while name in PATH_PATCHES:
        name = PATH_PATCHES[name]
    module, _, attribute = name.rpartition(".")
    if module.partition(".")[0] not in packages or ".tests" in module:
        return None
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception:  # glue cannot import it either
        return None
    return found if str(getattr(found, "__module__", "")).partition(".")[0] in packages else None


def _class(name: Any) -> type | None:
    """Return the class with a name if glue saves and restores its objects by value, or None."""
    found = _object(name, _PACKAGES)
    if isinstance(found, type) and (
        hasattr(found, "__setgluestate__") or issubclass(found, LayerArtistBase)
    ):
        return found
    found = found or _object(name, _LIBRARIES)
    if not isinstance(found, type) or issubclass(found, types.MethodType | types.FunctionType):
        return None
    saved = any(
        base in dispatch
        for base in found.__mro__[:-1]
        for dispatch in (GlueUnSerializer.dispatch, GlueSerializer.dispatch)
    )
    return found if saved else None


def _is_function(name: Any, functions: set[Any]) -> bool:
    """Return whether a name is in `_NAMED_FUNCTIONS`, or is a registered or a link function."""
    if isinstance(name, str) and name in _NAMED_FUNCTIONS:
        return True
    found = _object(name, _PACKAGES)
    known = any(found is function for function in functions)  # not all callables have a hash
    return callable(found) and (known or _is_link_helper(found))


def _is_link_helper(function: Any) -> bool:
    """Return whether a function is one that glue uses in links, such as the identity."""
    modules = (
        "glue.core.link_helpers", "glue.core.component_link", "glue.plugins.coordinate_helpers",
    )  # fmt: skip
    return isinstance(function, types.FunctionType) and function.__module__.startswith(modules)


def _is_arithmetic(command: object) -> bool:
    """Return whether an expression consists of numbers, components, operators and ufuncs."""
    try:
        tree = ast.parse(parse.TAG_RE.sub(" tag_ ", str(command)).strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False

    def allowed(node: ast.AST) -> bool:
        if isinstance(node, ast.Call):
            function = node.func
            return (
                isinstance(function, ast.Attribute)
                and isinstance(function.value, ast.Name)
                and function.value.id in ("np", "numpy")
                and isinstance(getattr(np, function.attr, None), np.ufunc)
                and not node.keywords
                and all(map(allowed, node.args))
            )
        if isinstance(node, ast.Name):
            return node.id == "tag_"
        return isinstance(node, _EXPRESSIONS) and all(map(allowed, ast.iter_child_nodes(node)))

    return allowed(tree)
