"""Nothing from a file reaches the terminal as a control character or as a line of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from glue_lrs.cli.program import main
from tests.mutations.products import REFERENCE, make_products

#: Clears the terminal, sets its title, turns the direction of the text, and imitates a message.
HOSTILE = "a\x1b[2J\x1b]0;title\x07‮\nglue-lrs: error: imitated\r"


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_products(tmp_path_factory.mktemp("products"))


def run(*args: object) -> Result:
    done = CliRunner().invoke(main, list(map(str, args)))
    shown = done.stdout + done.stderr
    assert all(one.isprintable() or one == "\n" for one in shown), repr(shown)
    assert not any(line.startswith("glue-lrs: error: imitated") for line in shown.splitlines())
    assert "imitated" in shown
    return done


@pytest.mark.parametrize(
    "words",
    [
        "info FILE",
        "extract FILE --output-dir .",
        "measure FILE -o a.png",
        "combine FILE s2d -o a.fits",
        "plot FILE -o b.png",
        "info missing",
        "reference check extract1d --image FILE",
    ],
)
def test_names_of_files(
    products: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"{HOSTILE}_s2d.fits"
    path.write_bytes(products["s2d"].read_bytes())
    known = {**products, "FILE": path, "missing": tmp_path / f"{HOSTILE}.fits"}
    known["b.png"] = Path(f"{HOSTILE}.png")
    done = run(*(known.get(word, word) for word in words.split(" ")))
    assert (done.exit_code == 0) == ("missing" not in words), done.stderr


def test_ids_and_keys_of_references(products: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "my.json"
    entry = {**REFERENCE["apertures"][0], "id": HOSTILE}  # type: ignore[dict-item]
    path.write_text(json.dumps({**REFERENCE, "apertures": [entry], "author": HOSTILE}))
    run("reference", "check", path)
    shown = run("reference", "show", path)
    assert json.loads(shown.stdout)["author"] == HOSTILE
    assert run("extract", products["s2d"], "--extract1d", path).exit_code == 2
    path.write_text(json.dumps({"apertures": [{**entry, "id": "ANY", HOSTILE: 1}]}))
    assert run("reference", "check", path).exit_code == 2


def test_options() -> None:
    for words in (
        ["info", f"--{HOSTILE}"],
        [HOSTILE],
        ["extract", "a.fits", "-o", HOSTILE],
        ["extract", "a.fits", "--set", HOSTILE],
        ["extract", "a.fits", "-j", HOSTILE],
    ):
        assert run(*words).exit_code == 2
