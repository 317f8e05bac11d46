"""Figures of pyplot in the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from matplotlib import pyplot


@pytest.fixture(autouse=True)
def own_figures() -> Iterator[None]:
    """Start and end without figures, which pyplot keeps until they are closed, and windows."""
    pyplot.switch_backend("agg")
    pyplot.close("all")
    yield
    pyplot.close("all")
