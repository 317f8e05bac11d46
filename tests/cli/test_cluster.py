"""Commands on a Dask cluster, whose workers are killed and whose scheduler is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from click.testing import CliRunner
from distributed import Client

from glue_lrs import LRSError
from glue_lrs.cli import main
from glue_lrs.cli.cluster import on_cluster
from glue_lrs.io.x1d_reader import read_single
from glue_lrs.simulation import Scene, Source
from tests.helpers.command_line import extract as run
from tests.helpers.images import slit
from tests.helpers.light_curves import series

pytestmark = pytest.mark.slow

FILES = [f"{name}_s2d.fits" for name in "abcd"]
QUIET = ["--set", "apply_apcorr=false"]

#: Time in seconds for the start of processes and for their end, on a loaded machine.
PATIENCE = 300.0


def wait_for(path: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < end, f"{path} was not made"
        time.sleep(0.05)


#: A scheduler with some workers, which end with it.
SERVER = """
import asyncio, contextlib, sys
from distributed import Nanny, Scheduler
async def serve():
    async with Scheduler(port=int(sys.argv[1]), dashboard=False, host="127.0.0.1") as scheduler:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(int(sys.argv[3])):
                nanny = Nanny(scheduler.address, nthreads=1, dashboard=False)
                await stack.enter_async_context(nanny)
            open(sys.argv[2], "w").write(scheduler.address)
            await scheduler.finished()
if __name__ == "__main__":
    asyncio.run(serve())
"""


class Server:
    """Scheduler with some workers, in processes of their own."""

    def __init__(self, folder: Path, workers: int = 1) -> None:
        self._folder, self._workers, self._number, self._port = folder, workers, 0, 0
        (folder / "server.py").write_text(SERVER)
        self.start()

    def start(self) -> None:
        """Start it, at the same address as before."""
        if self._number:
            self._process.wait()  # it was killed
        self._number += 1
        mark = self._folder / f"server{self._number}"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, self._folder / "server.py", str(self._port), mark, str(self._workers)],
            stderr=subprocess.DEVNULL, start_new_session=True, env=environment,
        )  # fmt: skip
        wait_for(mark)
        while not mark.read_text():
            time.sleep(0.05)
        self.address = mark.read_text()
        self._port = int(self.address.rpartition(":")[2])

    @property
    def group(self) -> int:
        """Number of the group of processes."""
        return self._process.pid

    def kill(self) -> None:
        """Kill the scheduler and the workers."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="module", autouse=True)
def patient() -> Iterator[None]:
    """Dask does not give up on a loaded machine."""
    with dask.config.set({
        "distributed.comm.timeouts.connect": f"{PATIENCE}s",
        "distributed.admin.tick.limit": f"{PATIENCE}s",
    }):  # fmt: skip
        yield


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the scheduler of two workers on this machine."""
    made = Server(tmp_path_factory.mktemp("cluster"), workers=2)
    yield made.address
    made.kill()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number, name in enumerate(FILES):
        image = slit()
        image.data[:] += number
        image.write(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_results_are_those_of_one_process(cluster: str, here: Path) -> None:
    Path("bad_s2d.fits").write_bytes(b"nothing of the kind")
    files = [*FILES, "bad_s2d.fits"]
    serial = run(*files, *QUIET, "--output-dir", "serial")
    found = run(*files, *QUIET, "--output-dir", "cluster", "--scheduler", cluster)
    assert found.exit_code == serial.exit_code == 1
    assert found.stdout == serial.stdout.replace("serial/", "cluster/")
    assert found.stderr == serial.stderr.replace("bad_s2d.fits:", f"{here}/bad_s2d.fits:")
    for name in FILES:
        spectrum = name.replace("s2d", "x1d")
        one, other = (read_single(Path(folder) / spectrum) for folder in ("serial", "cluster"))
        assert list(one.columns) == list(other.columns)
        for column, values in one.columns.items():
            np.testing.assert_array_equal(values, other.columns[column])
        assert one.provenance is not None
        assert other.provenance is not None
        for key in ("parameters", "input", "result", "findings"):
            assert one.provenance[key] == other.provenance[key]
    assert sorted(os.listdir("cluster")) == sorted(os.listdir("serial"))


def test_light_curves_and_references_are_found_from_another_folder(
    cluster: str, here: Path
) -> None:
    series(np.ones(12), noise=0.002).write("star_x1dints.fits")
    for words in ([], ["--scheduler", cluster]):
        folder = "cluster" if words else "serial"
        options = ["--output-dir", folder, "--bins", 2, *words]
        result = CliRunner().invoke(main, ["lightcurve", "star_x1dints.fits", *map(str, options)])
        assert result.exit_code == 0, result.stderr
    one, other = (
        Table.read(f"{folder}/star_lightcurve.ecsv", format="ascii.ecsv")
        for folder in ("serial", "cluster")
    )
    for name in one.colnames:
        np.testing.assert_array_equal(one[name], other[name])
    words = ["reference", "edit", "--exp-type", "MIR_LRS-FIXEDSLIT", "-o", "my.json", "--set"]
    assert CliRunner().invoke(main, [*words, "xstart=9"]).exit_code == 0
    result = run(FILES[0], *QUIET, "--extract1d", "my.json", "--scheduler", cluster)
    assert result.exit_code == 0, result.stderr
    spectrum = read_single("a_x1d.fits")
    assert spectrum.provenance is not None
    assert spectrum.provenance["parameters"]["reference"]["xstart"] == 9
    Scene(sources=(Source(flux=0.1),), exposure_time=30.0).calints(8).image.write("s_calints.fits")
    words = ["reference", "edit", "--exp-type", "MIR_LRS-SLITLESS", "-o", "less.json", "--set"]
    assert CliRunner().invoke(main, [*words, "xstart=28"]).exit_code == 0
    options = ["--extract1d", "less.json", *QUIET, "--scheduler", cluster]
    result = CliRunner().invoke(main, ["lightcurve", "s_calints.fits", *options])
    assert result.exit_code == 0, result.stderr


def kill_once(mark: str) -> None:
    """Let a worker be killed in the middle of the next file that is written in any of them."""
    kept = fits.HDUList.writeto

    def write(self: fits.HDUList, name: Path, *args: Any, **kwargs: Any) -> None:
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            kept(self, name, *args, **kwargs)
        else:
            Path(name).write_bytes(b"half of it")
            os.kill(os.getpid(), signal.SIGKILL)

    fits.HDUList.writeto = write


def test_a_killed_worker_loses_nothing(cluster: str, here: Path) -> None:
    mark = here / "killed"
    with Client(cluster, set_as_default=False) as client:
        client.run(kill_once, str(mark))
    options = [*QUIET, "--output-dir", "out", "--manifest", "run.ecsv"]
    result = run(*FILES, *options, "--scheduler", cluster)
    assert mark.exists()
    assert result.exit_code == 0, result.stderr
    assert "error" not in result.stderr
    assert sorted(os.listdir("out")) == [name.replace("s2d", "x1d") for name in FILES]
    table = Table.read("run.ecsv", format="ascii.ecsv")
    assert sorted(table["output"]) == [f"out/{name}".replace("s2d", "x1d") for name in FILES]
    assert set(table["status"]) == {"done"}
    assert "4 of 4 outputs are up to date" in run(*FILES, *options).stdout


def test_an_interrupted_command_leaves_the_cluster_to_others(cluster: str, tmp_path: Path) -> None:
    def interrupt() -> None:
        wait_for(tmp_path / "task3")
        signal.pthread_kill(main_thread, signal.SIGINT)

    main_thread = threading.main_thread().ident
    assert main_thread is not None
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    arguments = [(str(tmp_path), number) for number in range(3, 60)]
    try:
        with pytest.raises(KeyboardInterrupt):
            list(on_cluster(task, arguments, cluster))
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    (tmp_path / "go").touch()
    assert list(on_cluster(task, [(str(tmp_path), 70)], cluster)) == [(0, 4900)]
    assert (tmp_path / "task3").read_text() == "x"
    wait_for(tmp_path / "task70")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.kill()


def task(argument: tuple[str, int]) -> int:
    """Write a file once, and wait in the middle of number 3 for a file ``go``."""
    folder, number = Path(argument[0]), argument[1]
    with (folder / f"task{number}").open("a") as stream:
        stream.write("x")
    if number == 3:
        wait_for(folder / "go")
    return number**2


def test_a_restarted_scheduler_gets_the_rest(server: Server, tmp_path: Path) -> None:
    def restart() -> None:
        wait_for(tmp_path / "task3")
        server.kill()
        (tmp_path / "go").touch()
        server.start()

    thread = threading.Thread(target=restart)
    thread.start()
    arguments = [(str(tmp_path), number) for number in range(6)]
    found = list(on_cluster(task, arguments, server.address))
    thread.join()
    assert sorted(found) == [(number, number**2) for number in range(6)]
    calls = [(tmp_path / f"task{number}").read_text() for number in range(6)]
    assert calls[3] == "xx"  # the one that was in progress
    assert calls[4:] == ["x", "x"]


def test_after_a_lost_connection_the_next_run_does_the_rest(server: Server, here: Path) -> None:
    options = [*QUIET, "--output-dir", "out", "--manifest", "run.ecsv"]
    with Client(server.address, set_as_default=False) as client:
        client.run(kill_scheduler, server.group)
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        result = run(*FILES, *options, "--scheduler", server.address)
    assert result.exit_code == 2
    (line,) = (line for line in result.stderr.splitlines() if "error" in line)
    assert "the connection to the scheduler was lost, and " in line
    left = int(line.split("and ")[1].split(" of 4")[0])
    assert left in {2, 3}  # the second file was in progress
    server.start()
    result = run(*FILES, *options, "--scheduler", server.address)
    assert result.exit_code == 0, result.stderr
    assert f"{4 - left} of 4 outputs are up to date" in result.stdout
    assert sorted(os.listdir("out")) == [name.replace("s2d", "x1d") for name in FILES]


def kill_scheduler(group: int) -> None:
    """Let the scheduler and the workers be killed when the third file is written."""
    kept = fits.HDUList.writeto
    count: list[Path] = []

    def write(self: fits.HDUList, name: Path, *args: Any, **kwargs: Any) -> None:
        count.append(name)
        if len(count) == 3:
            Path(name).write_bytes(b"half of it")
            os.killpg(group, signal.SIGKILL)
        kept(self, name, *args, **kwargs)

    fits.HDUList.writeto = write


def versions_differ(*_: Any) -> None:
    """Let a worker have another version of the package."""
    import glue_lrs.cli.cluster as module

    module.package_versions = lambda: {"glue-lrs": "0.0.1"}


def test_a_worker_with_another_version_is_refused(server: Server, here: Path) -> None:
    with Client(server.address, set_as_default=False) as client:
        client.run(versions_differ)
    result = run(*FILES, *QUIET, "--scheduler", server.address)
    assert result.exit_code == 2
    assert "a_s2d.fits: a worker has glue-lrs 0.0.1, " in result.stderr
    assert "expected glue-lrs 0.1.0" in result.stderr
    assert not list(here.glob("*x1d*"))


def test_no_scheduler_is_one_line(here: Path) -> None:
    before = sorted(here.iterdir())
    with dask.config.set({"distributed.comm.timeouts.connect": "500ms"}):
        for address, expected in (
            ("tcp://127.0.0.1:9", "tcp://127.0.0.1:9: no Dask scheduler answers: "),
            ("cluster.json", "cluster.json: the scheduler file does not exist"),
            ("nonsense", "nonsense: no Dask scheduler answers: "),
        ):
            result = run(*FILES, *QUIET, "--scheduler", address)
            assert result.exit_code == 2
            (line,) = result.stderr.splitlines()
            assert line.startswith(f"glue-lrs: error: {expected}")
    assert sorted(here.iterdir()) == before


def test_without_dask_a_line_names_the_extra(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = run(*FILES, *QUIET, "--scheduler", "tcp://127.0.0.1:9")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "pip install 'glue-lrs[dask]'" in line
    assert "--jobs N" in line
    with pytest.raises(LRSError, match="needs Dask"):
        list(on_cluster(task, [], "tcp://127.0.0.1:9"))
