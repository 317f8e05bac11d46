"""Sessions that name foreign code are refused before glue sees them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from glue.core import Data, DataCollection
from glue.core.application_base import Application
from glue.core.component_link import ComponentLink
from glue.core.parse import ParsedCommand, ParsedComponentLink

from glue_lrs.errors import LRSError
from glue_lrs.viewers.datasets.loaders import open_image
from glue_lrs.viewers.datasets.session_check import check_session
from glue_lrs.viewers.plugin import register
from tests.helpers.images import slit


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """A session with an image, a derived component, an expression and a subset."""
    register()
    path = tmp_path / "a_s2d.fits"
    slit().write(path)
    data = open_image(path)
    plain = Data(a=[1.0, 2.0], b=[3.0, 4.0], label="plain")
    plain["c"] = plain.id["a"] * 2 + plain.id["b"]
    command = ParsedCommand("np.sqrt({a}) / 2", {"a": plain.id["a"]})
    plain.add_component_link(ParsedComponentLink(plain.id["b"], command))
    collection = DataCollection([data, plain])
    collection.add_link(ComponentLink([plain.id["a"]], data.pixel_component_ids[0]))
    collection.new_subset_group("bright", plain.id["a"] > 1.5)
    target = tmp_path / "session.glu"
    Application(collection).save_session(str(target))
    return target


def test_a_session_of_glue_is_admitted_and_restored(session: Path) -> None:
    check_session(session)
    restored = Application.restore_session(str(session)).data_collection
    assert [data.label for data in restored] == ["a_s2d", "plain"]


def record(**values: Any) -> Callable[[dict[str, Any]], None]:
    """Add a record to a session."""

    def change(document: dict[str, Any]) -> None:
        document["evil"] = values

    return change


def factory(name: str, kind: str = "types.FunctionType") -> Callable[[dict[str, Any]], None]:
    """Name another function in the record of the file that was loaded."""

    def change(document: dict[str, Any]) -> None:
        (log,) = (one for one in document.values() if str(one.get("_type")).endswith("LoadLog"))
        log["factory"] = {"_type": kind, "function": name}

    return change


def path(address: str) -> Callable[[dict[str, Any]], None]:
    """Name another file in the record of the file that was loaded."""

    def change(document: dict[str, Any]) -> None:
        (log,) = (one for one in document.values() if str(one.get("_type")).endswith("LoadLog"))
        log["path"] = address

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (factory("os.system"), "the function 'os.system'"),
        (factory("posix.system", "types.BuiltinFunctionType"), "the function 'posix.system'"),
        (factory("posix.system", "builtins.builtin_function_or_method"), "'posix.system'"),
        (factory("glue.main.os.system"), "the function 'glue.main.os.system'"),
        (factory("glue.core.data_factories.helpers.os.system"), "helpers.os.system'"),
        (factory("glue.utils.misc.lookup_class"), "the function 'glue.utils.misc.lookup_class'"),
        (factory("numpy.load"), "the function 'numpy.load'"),
        (factory("glue_lrs.io.files.atomic_write"), "the function 'glue_lrs.io.files.atomic"),
        (record(_type="types.FunctionType", pickle="gASVAA=="), "the function null"),
        (record(_type="types.FunctionType", function=["os.system"]), "the function ['os.system']"),
        (record(_type="types.FunctionType", function={"a": 1}), "the function {'a': 1}"),
        (record(_type=["types.FunctionType"], function="os.system"), "the type ['types.Func"),
        (record(_type="types.MethodType", instance="x", method="y"), "'types.MethodType'"),
        (record(_type="subprocess.Popen", args="id"), "the type 'subprocess.Popen'"),
        (record(_type="glue.core.state.types.MethodType"), "the type 'glue.core.state.types.Meth"),
        (record(_type=["os"]), "the type ['os']"),
        (record(_type="glue.core.data.Data", inner={"_type": "os.system"}), "the type 'os.system'"),
        (
            record(_type="glue.core.parse.ParsedCommand", cmd="__import__('os').system('id')"),
            "the expression",
        ),
        (record(_type="glue.core.parse.ParsedCommand", cmd="np.load('a')"), "the expression"),
        (record(_type="glue.core.parse.ParsedCommand", cmd="{a}.__class__"), "the expression"),
        (path("http://0.0.0.0/a_s2d.fits"), "the address 'http://0.0.0.0/a_s2d.fits'"),
    ],
)
def test_foreign_code_is_refused(session: Path, change: Any, message: str) -> None:
    document = json.loads(session.read_text())
    change(document)
    session.write_text(json.dumps(document))
    with pytest.raises(LRSError, match="nothing was opened") as caught:
        check_session(session)
    assert str(caught.value).startswith(f"{session}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"__main__": 3}', "[" * 100_000, "\x00", '{"a": {}}', "\ud800"]
)
def test_other_documents_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    other = tmp_path / "other.glu"
    other.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(LRSError, match="is not a glue session") as caught:
        check_session(other)
    assert "\n" not in str(caught.value)
    with pytest.raises(LRSError, match="does not exist"):
        check_session(tmp_path / "missing.glu")
