"""Live extractions of an s2d and of a stack."""

from __future__ import annotations

from pathlib import Path

import pytest
from glue.core.session import Session

from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.viewers import LiveExtraction, open_extraction
from tests.helpers.images import correction, saved, slit, stack


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return saved(slit(), tmp_path / "nod1_s2d.fits")


@pytest.fixture
def live(session: Session, path: Path) -> LiveExtraction:
    return open_extraction(session, path)


@pytest.fixture
def stacked(session: Session, tmp_path: Path) -> LiveExtraction:
    return open_extraction(session, saved(stack(), tmp_path / "tso_calints.fits"))


@pytest.fixture
def apcorr(tmp_path: Path) -> Path:
    write_apcorr(correction(), tmp_path / "apcorr.fits")
    return tmp_path / "apcorr.fits"
