"""Combination of spectra of one target, for example from different nods or exposures."""

from glue_lrs.combination.combination import Combination, CombineInput
from glue_lrs.combination.combine import combine

__all__ = ["Combination", "CombineInput", "combine"]
