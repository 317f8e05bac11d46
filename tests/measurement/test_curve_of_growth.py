"""Curves of growth compared with the true light and noise of simulated scenes."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from glue_lrs import Background, LRSError, LRSWarning
from glue_lrs.errors import CorrectionError
from glue_lrs.measurement.curve_of_growth import (
    BANDS,
    CurveOfGrowth,
    curve_of_growth,
    measure_with_growth,
    region_notes,
)
from glue_lrs.measurement.measure import aperture_at_source, measure
from glue_lrs.measurement.measurement import Measurement
from glue_lrs.simulation.optics import PIXEL_AREA, PIXEL_SCALE
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source
from glue_lrs.simulation.truth import Simulated

#: Flux in Jy at 7 micron of a source fainter than the background, and of a brighter one.
FAINT, BRIGHT = 3.8e-6, 1.2e-3


def made(level: float, seed: int = 1, **changes: Any) -> Scene:
    values: dict[str, Any] = {
        "sources": (Source(flux=lambda wave: level * (wave / 7.0) ** -1),),
        "bad_fraction": 0.01,
        "seed": seed,
    }
    return Scene(**values | changes)


def true_snr(simulated: Simulated, widths: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    """Signal to noise of a band at each width, from the truth alone."""
    truth = simulated.truth
    variance = truth.var_poisson + truth.var_rnoise + truth.var_flat
    flux = truth.flux / (PIXEL_AREA * 1e6)
    edges = np.arange(truth.data.shape[1] + 1) - 0.5
    below = truth.psf.cumulative(
        (edges - truth.column[:, np.newaxis]) * PIXEL_SCALE,
        truth.wavelength[:, np.newaxis],
        truth.halo,
    )
    light = flux[:, np.newaxis] * np.diff(below, axis=1)
    rows = (truth.wavelength >= band[0]) & (truth.wavelength < band[1])
    rows &= np.isfinite(variance[:, 10])
    out = []
    for width in widths:
        weights = np.clip(
            np.minimum(edges[1:], truth.column[:, np.newaxis] + width / 2)
            - np.maximum(edges[:-1], truth.column[:, np.newaxis] - width / 2),
            0.0,
            1.0,
        )
        signal, noise = weights * light, weights**2 * variance
        out.append(np.sqrt(np.nansum(signal[rows], 1) ** 2 / np.nansum(noise[rows], 1)))
    return np.sqrt((np.array(out) ** 2).sum(axis=1))


@pytest.fixture(scope="module")
def faint() -> tuple[Simulated, Measurement, CurveOfGrowth]:
    source = Source(flux=lambda wave: FAINT * (wave / 7.0) ** -1, halo=0.0)
    simulated = made(FAINT, sources=(source,), pointing_error=0.03).s2d(nod=1)
    found = measure(simulated.image)
    return simulated, found, curve_of_growth(simulated.image, found, widths=np.arange(2, 16, 0.5))


def test_signal_to_noise_is_the_scenes(faint: tuple[Simulated, Measurement, CurveOfGrowth]) -> None:
    simulated, _, growth = faint
    assert growth.bands == BANDS
    for n, band in enumerate(growth.bands):
        true = true_snr(simulated, growth.widths, band)
        # Rows with lost pixels are excluded.
        true *= np.sqrt(growth.rows[n] / (simulated.truth.wavelength >= 0).sum() * 1.0) / np.sqrt(
            (
                (simulated.truth.wavelength >= band[0]) & (simulated.truth.wavelength < band[1])
            ).mean()
        )
        # The relative error of a band's flux is the inverse of its signal to noise.
        np.testing.assert_allclose(growth.snr[n], true, rtol=0.05, atol=2.0)
        np.testing.assert_allclose(
            growth.snr[n] / growth.snr[n].max(), true / true.max(), atol=0.015
        )


def test_the_best_width_is_the_best(faint: tuple[Simulated, Measurement, CurveOfGrowth]) -> None:
    simulated, _, growth = faint
    fine = np.arange(1.5, 16, 0.05)
    for n, band in enumerate(growth.bands):
        true = true_snr(simulated, fine, band)
        assert np.interp(growth.best_width[n], fine, true) > 0.997 * true.max()
        # The best width for a Gaussian on a background is 1.19 FWHM; the noise of the source, its
        # halo and fractional pixels change that slightly.
        assert 0.9 < growth.best_width[n] / growth.fwhm[n] < 1.9
    assert growth.best == pytest.approx(growth.best_width.mean(), abs=1.5)
    at_eight = growth.snr_at(8.0)
    assert at_eight[0] < 0.85  # loss with the default aperture at 5 micron
    assert at_eight[0] < at_eight[-1] < 1.0


def test_flux_is_the_truth_at_every_width() -> None:
    simulated = made(BRIGHT, seed=2).s2d(nod=2)
    truth = simulated.truth
    growth = curve_of_growth(simulated.image, widths=np.arange(3.0, 16.0, 1.0))
    assert growth.unit == "Jy"
    for n, (low, high) in enumerate(growth.bands):
        rows = (truth.wavelength >= low) & (truth.wavelength < high)
        flux = np.mean(truth.flux[rows])
        # Rows with lost pixels are excluded.
        assert growth.wavelength[n] == pytest.approx(truth.wavelength[rows].mean(), abs=0.1)
        # Few rows are excluded, and the flux changes by 1% over a band.
        np.testing.assert_allclose(growth.corrected[n], flux, rtol=0.015)
        assert np.all(np.diff(growth.correction[n]) < 1e-4)
        assert growth.correction[n, 0] > 1.2
    assert growth.correction_source == "measured profile"


def test_a_table_of_corrections_is_used() -> None:
    scene = made(BRIGHT, seed=3)
    simulated = scene.s2d(nod=1)
    column = float(np.nanmean(simulated.truth.column))
    table = scene.aperture_correction()
    growth = curve_of_growth(simulated.image, widths=[5.0, 9.0, 13.0], aperture_correction=table)
    np.testing.assert_allclose(growth.correction[1], table(growth.wavelength[1], growth.widths))
    assert growth.correction_source == "table"
    spread = np.ptp(growth.corrected, axis=1) / growth.corrected.mean(axis=1)
    assert spread.max() < 0.02
    assert column == pytest.approx(13.0, abs=0.1)
    with pytest.raises(CorrectionError, match="SUBARRAY SLITLESSPRISM"):
        curve_of_growth(
            simulated.image, aperture_correction=scene.aperture_correction("SLITLESSPRISM")
        )


@pytest.mark.slow
def test_the_background_is_subtracted() -> None:
    simulated = made(BRIGHT, seed=4, background=30.0).s2d(nod=1, subtract_nod=False)
    found, growth, background = measure_with_growth(simulated.image)
    assert background is not None
    assert background.bkg_fit == "poly"
    assert growth.notes == ()
    truth = simulated.truth.flux.mean()
    level = [np.interp(8.0, growth.widths, line) for line in growth.corrected]
    expected = BRIGHT * (growth.wavelength / 7.0) ** -1
    np.testing.assert_allclose(level, expected, rtol=0.03)
    assert truth > 0
    bare = curve_of_growth(simulated.image, found)
    assert bare.flux[0, -1] > 1.1 * growth.flux[0, -1]
    assert (
        measure_with_growth(made(BRIGHT).s2d(nod=1).image)[2] is None
    )  # the header says it is subtracted
    with pytest.raises(LRSError, match="background is 'some', expected a Background"):
        measure_with_growth(simulated.image, background="some")  # type: ignore[arg-type]


# --- contamination -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nod() -> tuple[Any, Measurement]:
    image = made(BRIGHT, seed=5).s2d(nod=1).image
    return image, measure(image)


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ([(1.5, 5.5)], []),
        ([(20.5, 23.5), (39.0, 43.0)], []),
        ([(1.5, 10.0)], ["touches the source at column 13.0"]),
        ([(20.5, 28.0)], ["touches a negative trace at column 31.0"]),
        ([(20.5, 41.0)], ["touches a negative trace at column 31.0"]),
        ([(-3.0, 5.0)], ["reaches the image's edge: data are in columns 1 to 43"]),
        ([(39.0, 44.4)], ["reaches the image's edge"]),
        ([(1.5, 30.0)], ["touches the source", "touches a negative trace"]),
    ],
)
def test_contaminated_regions_are_reported(
    nod: tuple[Any, Measurement], edges: list[tuple[float, float]], expected: list[str]
) -> None:
    image, found = nod
    background = Background.from_edges(*edges)
    notes = region_notes(found, background)
    assert len(notes) == len(expected)
    for note, part in zip(notes, expected, strict=True):
        assert part in note
        assert f"the background region {edges[0][0]:.1f} to" in note
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        growth = curve_of_growth(image, found, widths=[4.0, 6.0, 8.0], background=background)
    texts = [str(w.message) for w in caught if issubclass(w.category, LRSWarning)]
    assert texts == [f"{image.label}: {note}" for note in notes]
    assert growth.notes == tuple(notes)


def test_a_region_that_touches_in_some_rows(nod: tuple[Any, Measurement]) -> None:
    _, found = nod
    tilted = Background(bkg_coeff=[[1.5], [4.0, 0.02]])
    (note,) = region_notes(found, tilted)
    assert "touches the source" in note
    assert "rows" in note
    tapered = Background(bkg_coeff=[[1.5], [8.0, -0.2]], independent_var="wavelength")
    assert region_notes(found, tapered) == []


def test_another_source_is_reported() -> None:
    sources = (
        Source(flux=lambda wave: BRIGHT * (wave / 7.0) ** -1),
        Source(flux=lambda wave: 0.3 * BRIGHT * (wave / 7.0) ** -1, position=10 * PIXEL_SCALE),
    )
    image = made(BRIGHT, sources=sources, background=5.0).s2d(nod=1, subtract_nod=False).image
    found = measure(image)
    (note,) = region_notes(found, Background.from_edges((20.5, 27.0)))
    assert "touches another source at column 23.0" in note
    assert found.others[0].flux_ratio == pytest.approx(0.3, abs=0.01)
    with pytest.warns(LRSWarning, match="touch another trace or the image's edge"):
        growth = curve_of_growth(image, found)
    assert 2 < growth.free_width < 12
    # Wide apertures include light of the other source.
    assert growth.corrected[0, -1] > 1.2 * growth.corrected[0, 4]


@pytest.mark.slow
def test_a_contaminated_aperture_is_reported() -> None:
    sources = tuple(
        Source(flux=lambda wave: BRIGHT * (wave / 7.0) ** -1, position=apart * PIXEL_SCALE)
        for apart in (0.0, 4.0)
    )
    image = made(BRIGHT, sources=sources, background=5.0).s2d(nod=1, subtract_nod=False).image
    with pytest.warns(LRSWarning, match="touch another trace or the image's edge"):
        growth = curve_of_growth(image)
    assert growth.free_width < growth.best_width.max()


# --- other images, reports, errors -------------------------------------------------------------


def test_along_a_curved_trace() -> None:
    simulated = made(BRIGHT, seed=6).cal(nod=2, full_frame=False)
    growth = curve_of_growth(simulated.image, widths=[4.0, 7.0, 10.0])
    expected = BRIGHT * (growth.wavelength / 7.0) ** -1
    np.testing.assert_allclose(growth.corrected[:, 1], expected, rtol=0.02)


@pytest.mark.slow
def test_a_stack_is_its_mean() -> None:
    simulated = made(BRIGHT, seed=7, sources=(Source(flux=lambda wave: 5e-3 + 0 * wave),)).calints(
        4
    )
    one = measure(simulated.image)
    background = one.background(bkg_fit="mean")
    growth = curve_of_growth(simulated.image, one, widths=[6.0, 9.0, 12.0], background=background)
    np.testing.assert_allclose(growth.corrected, 5e-3, rtol=0.02)
    single = curve_of_growth(
        made(BRIGHT, seed=7, sources=(Source(flux=lambda wave: 5e-3 + 0 * wave),)).calints(1).image,
        widths=[6.0, 9.0, 12.0],
        background=background,
    )
    assert np.median(growth.snr / single.snr) == pytest.approx(2.0, rel=0.15)


def test_report_table_and_json(faint: tuple[Simulated, Measurement, CurveOfGrowth]) -> None:
    growth = faint[2]
    assert f"{growth.best:.1f} columns" in growth.report()
    assert len(growth.table) == growth.flux.size
    stored = json.loads(json.dumps(growth.to_dict(), allow_nan=False))
    assert stored["best"] == growth.best
    assert np.shape(stored["snr"]) == growth.snr.shape
    assert f"highest S/N at {growth.best:.1f} columns" in repr(growth)


@pytest.mark.parametrize("widths", [[], [0.5, 3.0], [np.nan]])
def test_widths_are_checked(nod: tuple[Any, Measurement], widths: list[float]) -> None:
    with pytest.raises(LRSError, match=r"widths? (are|is) .*, expected (numbers|a finite)"):
        curve_of_growth(*nod, widths=widths)


def test_bands_without_rows_are_omitted(nod: tuple[Any, Measurement]) -> None:
    growth = curve_of_growth(*nod, widths=[4.0], bands=[(8.0, 9.0), (20.0, 21.0)])
    assert growth.bands == ((8.0, 9.0),)
    with pytest.raises(LRSError, match="no row with a flux in the bands"):
        curve_of_growth(*nod, widths=[4.0], bands=[(20.0, 21.0)])


def test_bands_with_infinite_errors_are_omitted(nod: tuple[Any, Measurement]) -> None:
    """As in a damaged file."""
    image, measurement = nod
    damaged = replace(image, var_rnoise=np.where(image.wavelength < 8.0, np.inf, 1.0))
    bands = [(6.0, 7.0), (9.0, 10.0)]
    growth = curve_of_growth(damaged, measurement, widths=[4.0, 5.0], bands=bands)
    assert growth.bands == ((9.0, 10.0),)
    assert np.isfinite(growth.best)


def test_the_curve_is_the_extraction_at_each_width(nod: tuple[Any, Measurement]) -> None:
    """The curve at a width is the extraction with an aperture of that width."""
    from glue_lrs import Extract1D

    image, found = nod
    growth = curve_of_growth(image, found, widths=[7.3], bands=[(8.0, 9.0)])
    extraction = Extract1D(aperture=aperture_at_source(image, 7.3)).run(image)
    wave = extraction.wavelength
    use = (wave >= 8.0) & (wave < 9.0) & (extraction.lost_fraction < 1e-6)
    assert growth.rows[0] == use.sum()
    assert growth.flux[0, 0] == pytest.approx(extraction.columns["FLUX"][use].mean(), rel=1e-9)
    error = np.sqrt((extraction.columns["FLUX_ERROR"][use] ** 2).sum()) / use.sum()
    assert growth.flux_error[0, 0] == pytest.approx(error, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("column", "share"), [(13, "22% to 59%"), (15, "10% to 15%"), (19, None)])
def test_bad_columns_do_not_make_narrow_apertures_better(column: int, share: str | None) -> None:
    """The source is at column 13.05."""
    image = Scene(seed=1).s2d(nod=1).image
    data = image.data.copy()
    data[:, column] = np.nan
    widths = np.arange(2.0, 20.0)
    clean = curve_of_growth(image, widths=widths)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = curve_of_growth(replace(image, data=data), widths=widths)
    assert found.best == pytest.approx(clean.best, abs=0.5)
    assert (found.snr <= 1.01 * clean.snr).all()
    assert found.corrected == pytest.approx(clean.corrected, rel=0.02)
    texts = [str(one.message) for one in caught]
    assert len(texts) == (share is not None)
    assert share is None or f"bad pixels contain {share} of the flux" in texts[0]
