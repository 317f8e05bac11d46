"""Readers and writers of files. Importing this package registers all formats."""

from __future__ import annotations

from glue_lrs.io.formats import register

register()
