"""Images are opened for live extraction."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from glue.core import Data, DataCollection
from glue.core.application_base import Application
from glue.core.session import Session

from glue_lrs import Extract1D, LRSError, SlitImage
from glue_lrs.viewers import LiveExtraction, live_for, open_extraction
from glue_lrs.viewers.live.regions import Region
from tests.helpers.images import SOURCE, slit
from tests.helpers.live import assert_shows


class App:
    """The attributes that all applications of glue have."""

    def __init__(self) -> None:
        self.session = Session(application=self)
        self.data_collection = self.session.data_collection


@pytest.mark.parametrize("make", [App, Session, DataCollection, Application])
def test_opens_in_applications_sessions_and_collections(
    make: Callable[[], Any], path: Path
) -> None:
    where = make()
    live = open_extraction(where, path)
    collection = getattr(where, "data_collection", where)
    assert list(collection) == [live.data, live.spectrum_data]
    assert live.session.data_collection is collection
    assert open_extraction(where, live.data) is live
    assert open_extraction(live.session, str(path)) is live
    assert live_for(where, live.spectrum_data) is live
    assert open_extraction(where, live.spectrum_data) is live
    if make is not DataCollection:
        assert live.session is getattr(where, "session", where)


def test_opens_images_and_datasets(session: Session, path: Path) -> None:
    from glue_lrs.viewers.datasets.images import image_data

    image = SlitImage.read(path)
    of_image = open_extraction(session, image)
    assert of_image.image is image
    assert open_extraction(session, image) is of_image
    data = image_data(slit(), label="mine")
    of_data = open_extraction(session, data)
    assert of_data.data is data
    assert data in session.data_collection
    assert of_data is not of_image
    assert live_for(session, data.uuid) is of_data


def test_the_default_is_extracted_where_the_source_is(live: LiveExtraction) -> None:
    expected = Extract1D.from_reference(None, live.image.exp_type, apply_apcorr=False)
    assert_shows(live, replace(expected, apply_apcorr=True))
    (region,) = live.regions
    assert (region.lower[0] + region.upper[0]) / 2 == pytest.approx(SOURCE, abs=0.01)
    assert region.upper[0] - region.lower[0] == pytest.approx(8)
    assert live.spectrum.flux.unit == u.Jy
    # The background of 2 MJy/sr is not subtracted: 16 of 207 in the aperture.
    assert live.message.startswith("no background was subtracted")
    assert live.message.endswith("is 7% (at 13.3 um) to 8% (at 7.6 um) of what was extracted")
    assert live.spectrum_data.label == "nod1_s2d spectrum"


@pytest.mark.slow
def test_no_toolkit_is_imported(path: Path) -> None:
    code = (
        "import sys; from glue.core import DataCollection\n"
        "before = set(sys.modules)  # glue loads a part of glue_qt if that is installed\n"
        "import glue_lrs.viewers\n"
        "assert 'glue_lrs.viewers.live.live_extraction' not in sys.modules\n"
        "from glue_lrs.viewers import open_extraction\n"
        f"live = open_extraction(DataCollection(), {str(path)!r})\n"
        "live.preview([live.regions[0].moved(1)]); assert live.commit()\n"
        "bad = {'qtpy', 'PyQt6', 'PySide6', 'ipywidgets', 'glue_qt', 'glue_jupyter', 'jwst'}\n"
        "bad &= {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "assert not bad, bad\n"
    )
    ours = ["-W", "error::UserWarning", "-W", "ignore::DeprecationWarning"]
    subprocess.run([sys.executable, *ours, "-c", code], check=True, cwd=Path.cwd())


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("missing_s2d.fits", "missing_s2d.fits: does not exist"),
        (12, "data is a int, expected a Data, a SlitImage or the path"),
        (Data(label="table", x=[1, 2]), "table: is not an LRS image"),
    ],
)
def test_an_invalid_source_is_an_error_of_one_line(session, source, text) -> None:
    with pytest.raises(LRSError, match=text) as caught:
        open_extraction(session, source)
    assert "\n" not in str(caught.value)
    assert len(session.data_collection) == 0


def test_an_object_without_data_is_an_error() -> None:
    with pytest.raises(LRSError, match="int has no data collection, expected a glue application"):
        open_extraction(3, slit())


def test_an_image_whose_default_fails_opens_and_can_be_edited(session: Session) -> None:
    image = slit()
    data = np.array(image.data)
    data[:, 20:] = np.nan
    live = open_extraction(session, replace(image, data=data, source_ra=None))
    assert live.extraction is None
    assert "every pixel of the aperture is bad" in live.message
    assert np.isnan(live.spectrum_data["flux"]).all()
    assert live.set([Region("aperture", (8.0,), (16.0,))])
    assert live.extraction is not None
    assert np.isfinite(live.spectrum_data["flux"]).all()
