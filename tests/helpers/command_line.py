"""The command ``glue-lrs`` in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from glue_lrs.cli import main


def extract(*words: object) -> Result:
    """Run ``glue-lrs extract``; a traceback is always a failure."""
    result = CliRunner().invoke(main, ["extract", *map(str, words)])
    assert "Traceback" not in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result
