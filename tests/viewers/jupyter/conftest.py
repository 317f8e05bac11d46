"""Applications for a notebook, without a browser: events arrive as a browser would send them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from glue_lrs.viewers import ExtractionApp, extraction_app
from tests.helpers.images import saved, slit, stack


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return saved(slit(), tmp_path / "nod1_s2d.fits")


@pytest.fixture
def app(path: Path) -> Iterator[ExtractionApp]:
    """The aperture begins at columns 8.3 to 16.3, around the source."""
    app = extraction_app(path, show=False)
    yield app
    app.close()


@pytest.fixture
def stacked(tmp_path: Path) -> Iterator[ExtractionApp]:
    app = extraction_app(saved(stack(), tmp_path / "tso_calints.fits"), show=False)
    yield app
    app.close()
