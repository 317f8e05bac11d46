"""Default, references and aperture corrections of live extractions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glue_lrs import Aperture, ApertureCorrection, Extract1D, LRSError
from glue_lrs.viewers import LiveExtraction
from tests.helpers.images import correction, slit
from tests.helpers.live import assert_shows


def test_the_default_is_restored(live: LiveExtraction) -> None:
    default = live.extract
    live.set([live.regions[0].moved(8).with_edge("upper", -2)])
    assert live.default()
    assert_shows(live, default)


@pytest.mark.filterwarnings("ignore:no aperture correction:UserWarning")
def test_a_reference_is_loaded(live: LiveExtraction, tmp_path: Path) -> None:
    entry = {
        "id": live.image.exp_type,
        "xstart": 9.5,
        "xstop": 15,
        "bkg_coeff": [[25], [40]],
        "bkg_fit": "median",
        "use_source_posn": False,
    }
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"apertures": [entry]}))
    assert live.load_reference(path)
    assert_shows(live, Extract1D.from_reference(path, live.image.exp_type, apply_apcorr=True))
    assert dict(live.extract.references)["extract1d"] == str(path)
    assert live.set([live.regions[0].moved(1), live.regions[1]])
    assert dict(live.extract.references)["extract1d"] == "<in memory>"  # it was edited
    with pytest.raises(LRSError, match="does not exist"):
        live.load_reference(tmp_path / "missing.json")


def test_an_aperture_correction_is_loaded_and_removed(live, apcorr) -> None:
    before = live.extract
    bare = live.extraction.columns["FLUX"]
    assert live.load_apcorr(apcorr)
    factor = correction()(live.extraction.wavelength, live.extraction.columns["NPIXELS"])
    np.testing.assert_allclose(live.extraction.columns["FLUX"] / bare, factor, rtol=1e-6)
    assert_shows(live, replace(before, aperture_correction=ApertureCorrection.read(apcorr)))
    assert live.set([live.regions[0].moved(1)])
    assert live.extract.aperture_correction is not None
    assert live.default()  # the correction is kept
    assert live.extract.aperture_correction is not None
    assert live.load_apcorr(None)
    assert_shows(live, before)
    with pytest.raises(LRSError, match="does not exist"):
        live.load_apcorr(apcorr.with_name("missing.fits"))


def test_the_noise_of_the_errors_is_chosen(live: LiveExtraction) -> None:
    before, label = live.extract, live.session.command_stack
    plain = live.extraction.columns["FLUX_ERROR"]
    assert live.actions.set_noise("empirical")
    assert_shows(live, replace(before, noise="empirical"))
    assert np.all(live.extraction.columns["FLUX_ERROR"] >= plain)
    assert label.undo_label == "take the empirical errors"
    assert not live.actions.set_noise("empirical")
    assert live.actions.set_noise("nod")  # nothing was subtracted from this image
    assert "S_BKDSUB is not COMPLETE" in live.message
    np.testing.assert_array_equal(live.extraction.columns["FLUX_ERROR"], plain)
    assert live.actions.set_noise("propagated")
    assert_shows(live, before)


def test_noise_that_cannot_be_derived_changes_nothing(live: LiveExtraction) -> None:
    columns = live.image.shape[1]
    assert live.set(replace(live.extract, aperture=Aperture(xstart=0, xstop=columns - 1)))
    before = live.extract
    with pytest.raises(LRSError, match="column"):
        live.actions.set_noise("empirical")
    assert live.extract == before


def test_the_exposures_that_were_subtracted_are_kept(live: LiveExtraction) -> None:
    given = replace(live.extract, noise="nod", nods=(slit(),))
    assert live.set(given)
    assert live.actions.set_noise("empirical")
    assert live.extract.nods == ()
    assert live.actions.set_noise("nod")
    assert live.extract.nods == given.nods
