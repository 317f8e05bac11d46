"""Light curves of images that are extracted in chunks, and a transit of 200 MB."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from glue_lrs import Extract1D, SlitImage
from glue_lrs.errors import LRSError
from glue_lrs.extraction.chunks import ChunkedExtraction
from glue_lrs.timeseries import LightCurve, light_curve
from tests.helpers.time_series import APERTURE, BYTES, TimeSeries

SERIES = TimeSeries(number=150, seed=4)
CLEAN = {"time_outliers": "replace", "drift": "correct", "hot_pixels": "lost"}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> SlitImage:
    folder = tmp_path_factory.mktemp("transit")
    return SlitImage.read([str(path) for path in SERIES.write(folder, segments=3)])


@pytest.mark.filterwarnings("ignore::glue_lrs.LRSWarning")
@pytest.mark.parametrize("settings", [{}, CLEAN], ids=["plain", "clean"])
def test_chunks_give_the_light_curve_of_the_whole_stack(
    image: SlitImage, settings: dict[str, str]
) -> None:
    """The fit of the drift is in single precision, and depends on the division into chunks."""
    operator = Extract1D.from_reference(None, image.exp_type, **APERTURE, **settings)
    chunks = ChunkedExtraction(operator, image)
    assert len(chunks) > 1
    found = light_curve(chunks, bins=5)
    whole = light_curve(operator.run(image, check=False), bins=5)
    tolerance = 1e-7 if settings else 1e-12
    for name in ("flux", "error", "photon_noise", "scatter"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), rtol=tolerance)
    np.testing.assert_array_equal(found.replaced, whole.replaced)
    np.testing.assert_array_equal(found.time.mjd, whole.time.mjd)
    assert found.drift is not None
    drift = found.drift.shift - SERIES.shifts
    assert np.std(drift) < 3.0 * np.median(found.drift.shift_error)
    assert found.table["shift"].unit == "pix"
    assert {"shift_err", "width", "width_err"} <= set(found.table.colnames)


def test_the_drift_is_in_files(image: SlitImage, tmp_path: Path) -> None:
    from astropy.table import QTable

    operator = Extract1D.from_reference(None, image.exp_type, **APERTURE, time_outliers="replace")
    curve = light_curve(ChunkedExtraction(operator, image), check=False)
    assert isinstance(curve, LightCurve)
    curve.write(tmp_path / "c.fits")
    read = QTable.read(tmp_path / "c.fits", hdu="LIGHTCURVE")
    assert curve.drift is not None
    np.testing.assert_array_equal(read["width"], curve.drift.width)
    np.testing.assert_array_equal(read["shift"].value, curve.drift.shift)


def test_the_checksums_are_those_of_the_files_that_were_read(
    image: SlitImage, tmp_path: Path
) -> None:
    operator = Extract1D.from_reference(None, image.exp_type, **APERTURE)
    path = tmp_path / "x_x1dints.fits"
    operator.run(image, check=False).write(path)
    curve = light_curve(str(path), check=False)
    path.unlink()
    operator.run(image, check=False).write(path)
    with pytest.warns(match="has changed or was removed since it was read"):
        (record,) = curve.provenance["inputs"]
    assert record == {"filename": str(path), "sha256": None}


def test_recipes_that_need_the_whole_stack(image: SlitImage) -> None:
    operator = Extract1D.from_reference(None, image.exp_type, extraction_type="optimal")
    with pytest.raises(LRSError, match="needs the whole stack"):
        ChunkedExtraction(operator, image)
    with pytest.raises(LRSError, match="is a single image"):
        ChunkedExtraction(Extract1D.from_reference(None, image.exp_type), image.integration(0))


@pytest.mark.slow
def test_memory_does_not_depend_on_the_size(tmp_path: Path) -> None:
    """A transit of 200 MB, and a third of it."""
    number = round(2e8 / (416 * 72 * BYTES))
    series = TimeSeries(number=number, seed=5)
    paths = [str(path) for path in series.write(tmp_path, segments=10)]
    context = multiprocessing.get_context("spawn")
    peaks = []
    for some in (paths[:3], paths):
        with context.Pool(1) as pool:  # a process of its own
            flux, peak = pool.apply(_light_curve, (some,))
        peaks.append(peak)
    assert flux.size == number
    inside = series.inside
    depth = 1.0 - flux[inside].mean() / flux[~inside].mean()
    assert depth == pytest.approx(0.01, abs=4e-5)
    assert peaks[1] < 1e9
    assert peaks[1] - peaks[0] < 5e7


def _light_curve(paths: list[str]) -> tuple[np.ndarray, int]:
    """Return the white light curve of images, and the peak memory of this process in bytes."""
    image = SlitImage.read(paths)
    operator = Extract1D.from_reference(None, image.exp_type, **APERTURE, **CLEAN)
    curve = light_curve(ChunkedExtraction(operator, image, release=True), check=False)
    # Not ru_maxrss, which begins with that of the process that started this one.
    return curve.flux[:, 0], _memory("VmHWM")


def _memory(name: str) -> int:
    """Return an amount of memory of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{name}:")[1].split()[0])


@pytest.mark.filterwarnings("ignore::glue_lrs.LRSWarning")
def test_reading_a_long_stack_keeps_no_pages_of_the_file(tmp_path: Path) -> None:
    """A row of each integration is read for the checks."""
    path = TimeSeries(number=1000).write_blank(tmp_path / "blank_calints.fits")
    before = _memory("RssFile")
    image = SlitImage.read([str(path)])
    assert len(image.data) == 1000
    assert _memory("RssFile") - before < 2e6
