"""The doctests of the pages run in a directory with the files of ``glue-lrs demo``."""

from __future__ import annotations

from pathlib import Path

import pytest

collect_ignore = [
    "conf.py",
    "make_figures.py",
    "make_notebook_screenshots.py",
    "make_screenshots.py",
    "_ext",
    "_build",
    "generated",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ignore warnings of the package, which the pages discuss; others remain errors."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning"))


@pytest.fixture(scope="session")
def demo_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory with the files of ``glue-lrs demo``."""
    from glue_lrs.demo import run_demo

    folder = tmp_path_factory.mktemp("demo")
    run_demo(folder)
    return folder


@pytest.fixture(autouse=True)
def in_demo_folder(demo_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each page in a separate directory, so that pages do not depend on each other."""
    for path in demo_files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
