"""Mutated files end in one line or a result."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["files", "documents"])
def test_mutated_files_raise_no_foreign_error(kind: str) -> None:
    """In a process of its own, whose memory is measured. By hand: ``.ci/mutate``."""
    command = [sys.executable, "-m", "tests.mutations", "300", "--kind", kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.startswith("300 cases")
