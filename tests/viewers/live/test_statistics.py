"""Comparison spectra, and statistics of the selected range."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from glue.core import Data
from glue.core.session import Session

from glue_lrs import Aperture, LRSError
from glue_lrs.viewers import LiveExtraction, open_extraction
from glue_lrs.viewers.live.regions import Region
from tests.helpers.images import slit
from tests.helpers.live import ends


def test_a_pipeline_spectrum_is_compared_with(live: LiveExtraction, tmp_path: Path) -> None:
    other = replace(live.extract, aperture=Aperture(xstart=25, xstop=36))
    other.run(live.image).write(tmp_path / "other_x1d.fits")
    live.load_comparison(tmp_path / "other_x1d.fits")
    assert live.comparison_label == "other_x1d.fits"
    wave, ratio = live.ratio()
    assert (np.diff(wave) > 0).all()
    expected = live.extraction.columns["FLUX"] / other.run(live.image).columns["FLUX"]
    np.testing.assert_allclose(ratio, expected[::-1], rtol=1e-6)
    assert live.numbers().ratio == pytest.approx(np.median(expected), rel=1e-6)
    live.load_comparison(None)
    assert live.comparison is None
    assert live.comparison_label == ""
    assert np.isnan(live.numbers().ratio)
    assert live.ratio()[0].size == 0


def test_the_ratio_is_taken_on_common_wavelengths(live: LiveExtraction) -> None:
    wave = np.linspace(6.0, 9.0, 301)
    data = Data(label="model", wavelength=wave, flux=0.001 * wave)
    data.get_component("flux").units = "Jy"
    live.load_comparison(data)
    assert live.comparison_label == "model"
    found, ratio = live.ratio()
    mine = live.extraction
    inside = (mine.wavelength >= 6) & (mine.wavelength <= 9)
    np.testing.assert_array_equal(found, mine.wavelength[::-1])
    np.testing.assert_array_equal(np.isfinite(ratio), inside[::-1])
    expected = (mine.columns["FLUX"] / (0.001 * mine.wavelength))[::-1]
    np.testing.assert_allclose(ratio[inside[::-1]], expected[inside[::-1]], rtol=1e-9)
    assert live.numbers().ratio == pytest.approx(np.median(expected[inside[::-1]]))


def test_another_live_spectrum_can_be_compared_with(live: LiveExtraction, session) -> None:
    other = open_extraction(session, slit(data=2 * np.asarray(live.image.data)))
    live.load_comparison(other.spectrum_data)
    np.testing.assert_allclose(live.ratio()[1], 0.5, rtol=1e-6)


def test_units_that_differ_have_no_ratio(live: LiveExtraction, stacked) -> None:
    live.load_comparison(stacked.spectrum_data)
    assert live.comparison is not None
    assert live.ratio()[0].size == 0


def test_a_comparison_must_be_a_spectrum(live: LiveExtraction, path: Path) -> None:
    with pytest.raises(LRSError, match="expected the components wavelength and flux"):
        live.load_comparison(Data(label="table", x=[1.0, 2.0]))
    with pytest.raises(LRSError, match=r"nod1_s2d\.fits"):
        live.load_comparison(path)
    assert live.comparison is None


def test_statistics_refer_to_the_selected_range(live: LiveExtraction) -> None:
    extraction = live.extraction
    signal = extraction.columns["FLUX"] / extraction.columns["FLUX_ERROR"]
    assert live.numbers().signal_to_noise == pytest.approx(np.median(signal))
    assert live.numbers().rows == signal.size
    live.wavelength_range = (6.0, 8.0)
    inside = (extraction.wavelength >= 6) & (extraction.wavelength <= 8)
    assert 0 < inside.sum() < signal.size
    assert live.numbers().signal_to_noise == pytest.approx(np.median(signal[inside]))
    assert live.numbers().rows == inside.sum()
    live.wavelength_range = (1.0, 2.0)
    assert np.isnan(live.numbers().signal_to_noise)


def test_limits_are_given_in_both_conventions(live: LiveExtraction) -> None:
    live.set([Region("aperture", (9.25,), (16.75,))])
    numbers = live.numbers()
    assert (numbers.limits, numbers.edges) == ("9.75 to 16.25", "9.25 to 16.75")
    live.set([live.regions[0].with_end("upper", "top", 20.0, *ends(live))])
    live.cursor_row = 39.0
    assert live.numbers().limits == "9.75 to 19.50 in row 39"


def test_lost_pixels_are_counted(session: Session) -> None:
    image = slit()
    data = np.array(image.data)
    data[7, 12] = data[9, 12] = data[9, 13] = np.nan
    live = open_extraction(session, replace(image, data=data))
    live.set([Region("aperture", (8.5,), (16.5,))])
    assert live.numbers().rows_lost == 2
    assert live.numbers().most_lost == pytest.approx(2 / 8)
    # A row without good pixels is masked, and counted as such only.
    data[20] = np.nan
    live = open_extraction(session, replace(image, data=data))
    live.set([Region("aperture", (8.5,), (16.5,))])
    numbers = live.numbers()
    assert (numbers.rows, numbers.rows_masked, numbers.rows_lost) == (39, 1, 2)
    assert numbers.most_lost == pytest.approx(2 / 8)
