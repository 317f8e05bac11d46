"""Of several writers of one file, one wins, with a complete file; nothing is replaced unasked."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from glue_lrs.errors import WriteError
from glue_lrs.io.files import atomic_write


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("overwrite", [True, False])
def test_several_writers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool, links: bool
) -> None:
    if not links:

        def link(*_: object) -> None:
            raise OSError(errno.EPERM, "no hard links on this file system")

        monkeypatch.setattr(os, "link", link)
    path = tmp_path / "out.fits"
    count = 8
    ready = threading.Barrier(count)
    outcomes: list[str] = []

    def write(number: int) -> None:
        try:
            with atomic_write(path, overwrite) as temporary:
                temporary.write_bytes(bytes([number]) * 100_000)
                ready.wait(timeout=60)
        except WriteError as error:
            outcomes.append(str(error))
        else:
            outcomes.append("written")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = path.read_bytes()
    assert len(content) == 100_000
    assert len(set(content)) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["out.fits"]
    assert outcomes.count("written") == (count if overwrite else 1)
    assert all("exists" in one for one in outcomes if one != "written")


@pytest.mark.skipif(os.name != "posix", reason="processes of other systems are not looked up")
def test_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as ended:
        ended.wait()
    here = tmp_path / "here"
    here.mkdir()
    names: list[str] = []
    with atomic_write(tmp_path / "a.fits") as temporary:
        temporary.write_text("a")
        names.append(temporary.name)
    of_ended = names[0].replace(f"-{os.getpid()}-", f"-{ended.pid}-")
    computer = names[0].split("-")[2]
    kept = [names[0], of_ended.replace(computer, "00000000"), ".other", f"x{of_ended}", "b.fits"]
    for name in (of_ended, *kept):
        (here / name).write_text("half of it")
    with atomic_write(here / "c.fits") as temporary:
        temporary.write_text("c")
    assert sorted(one.name for one in here.iterdir()) == sorted([*kept, "c.fits"])


@pytest.mark.skipif(os.name != "posix", reason="processes are looked up by number")
def test_files_of_other_computers_are_kept_until_they_are_old(tmp_path: Path) -> None:
    """So are those of a container, in which other processes have the same numbers."""
    with atomic_write(tmp_path / "x.fits") as temporary:
        temporary.write_bytes(b"")
        start, computer, process, _ = temporary.stem.rsplit("-", 3)
    other = f"{int(computer, 16) ^ 1:08x}"
    ended = 999_999_999  # above the largest number of a process
    folder = tmp_path / "folder"
    folder.mkdir()
    names = {
        "mine": f"{start}-{computer}-{process}-{'0' * 16}.fits",
        "remains": f"{start}-{computer}-{ended}-{'1' * 16}.fits",
        "elsewhere": f"{start}-{other}-{ended}-{'2' * 16}.fits",
        "old": f"{start}-{other}-{ended}-{'3' * 16}.fits",
    }
    for name in names.values():
        (folder / name).write_bytes(b"half of it")
    os.utime(folder / names["old"], (1.7e9, 1.7e9))
    with atomic_write(folder / "new.fits") as temporary:
        temporary.write_bytes(b"")
    kept = {names["mine"], names["elsewhere"], "new.fits"}
    assert {path.name for path in folder.iterdir()} == kept
