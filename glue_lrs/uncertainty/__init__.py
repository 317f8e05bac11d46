"""Comparison of errors with the noise of source-free columns, and variances missing from errors."""

from glue_lrs.uncertainty.added_variance import (
    AddedVariance,
    empirical_variance,
    nod_key,
    nod_variance,
)
from glue_lrs.uncertainty.source_free import (
    Comparison,
    SourceFreeNoise,
    excess_noise,
)

__all__ = [
    "AddedVariance",
    "Comparison",
    "SourceFreeNoise",
    "empirical_variance",
    "excess_noise",
    "nod_key",
    "nod_variance",
]
