"""Files in and out. Importing this package registers all formats."""

from __future__ import annotations

from importlib import import_module

for _module in ("products", "apcorr", "psf", "reference", "x1d", "c1d", "formats"):
    import_module(f"glue_lrs.io.{_module}").register()
