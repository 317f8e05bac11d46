"""The command-line program ``glue-lrs``: see `glue_lrs.cli.program`."""

from __future__ import annotations

from importlib import import_module as _import_module

from glue_lrs.cli.program import main

for _command in (
    "extract",
    "measure",
    "budget",
    "combine",
    "lightcurve",
    "info",
    "export",
    "reference",
    "plot",
    "view",
    "demo",
):
    _import_module(f"glue_lrs.cli.{_command}")  # registers the command with `main`

__all__ = ["main"]
