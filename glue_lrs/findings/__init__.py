"""Checks of an extraction that measure the source: is the aperture on it, the background off it."""

from glue_lrs.findings.check import check

__all__ = ["check"]
