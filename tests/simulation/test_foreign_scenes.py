"""Scenes that differ from the assumptions of the fits: PSF laws, traces, noise and nods."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from glue_lrs.errors import LRSError
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.simulation.optics import JY_PER_PIXEL, PIXEL_SCALE, PSFLaw
from glue_lrs.simulation.psf_laws import (
    LAWS,
    Asymmetric,
    Diffraction,
    Gaussian,
    Moffat,
    Scattered,
    telescope_width,
)
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source
from glue_lrs.simulation.truth import Simulated, Truth

#: Wavelengths in micron, and standard deviations in columns of Gaussians fitted to a bright star
#: (program 6620).
REAL = np.array([5.55, 5.96, 6.35, 7.08, 7.57, 8.17, 8.97, 9.85, 11.0, 12.0, 13.0, 14.0])
REAL_SIGMA = np.array([1.07, 0.98, 0.98, 1.0, 1.02, 1.06, 1.14, 1.23, 1.34, 1.46, 1.58, 1.72])
OFFSETS = np.broadcast_to(np.arange(-400, 401) / 8.0, (81, 801))
WAVES = np.linspace(4.5, 14.0, 81)


def scene(**changes: object) -> Scene:
    return Scene(**{"sources": (Source(flux=5e-3, halo=0.0),)} | changes)


def widths(law: PSFLaw, waves: np.ndarray) -> np.ndarray:
    """FWHM in arcsec of the core, without pixels, from its cumulative flux."""
    x = np.linspace(-1.0, 1.0, 4001)
    density = np.gradient(law.core(x, waves[:, np.newaxis]), x, axis=1)
    found = []
    for line in density:
        above = np.flatnonzero(line >= line.max() / 2)
        found.append(x[above[-1]] - x[above[0]])
    return np.array(found)


@pytest.mark.parametrize("name", LAWS)
def test_laws_are_normalised_centred_and_smooth(name: str) -> None:
    law = LAWS[name]
    fractions = law(OFFSETS, WAVES)[:, ::8]
    assert_allclose(fractions.sum(axis=1), 1.0, atol=5e-3)  # some light is beyond 50 columns
    assert fractions.min() > -2e-6
    within = np.abs(OFFSETS[0, ::8]) < 30
    centroid = (fractions * OFFSETS[:, ::8])[:, within].sum(axis=1)
    assert_allclose(centroid, 0.0, atol=2e-3)
    fine = law(OFFSETS, WAVES)
    # A kink in the width at a wavelength would change the peak from one step to the next.
    assert np.abs(np.diff(fine.max(axis=1), n=2)).max() < 6e-3 * np.ptp(fine.max(axis=1)) + 1e-6


def test_width_is_neither_that_of_the_telescope_nor_proportional_to_it() -> None:
    ratio = telescope_width(REAL) / (REAL_SIGMA * PIXEL_SCALE * 2.0 * np.sqrt(2.0 * np.log(2.0)))
    difference = np.abs(ratio - 1.0)
    assert 0.02 < np.median(difference) < 0.15
    assert difference.max() < 0.16
    assert np.ptp(ratio) > 0.08


def test_widths_of_the_laws() -> None:
    waves = np.array([5.0, 8.0, 12.0])
    for law in (Gaussian(), Moffat()):
        assert_allclose(widths(law, waves), telescope_width(waves), atol=2e-3)
    assert_allclose(widths(Gaussian(0.31), waves), 0.31, atol=2e-3)
    diffraction = widths(Diffraction(blur=0.0), np.array([6.0, 12.0]))
    assert diffraction[1] / diffraction[0] == pytest.approx(2.0, abs=0.1)
    # 0.9 to 1.1 wavelengths over 6.5 m
    assert diffraction[1] == pytest.approx(12e-6 / 6.5 * 206265, rel=0.1)


def test_parameters_of_the_laws() -> None:
    far = (0.9, np.inf, 5.0, 0.0)
    assert Moffat(beta=2.0).enclosed(*far) > 2 * Moffat(beta=3.0).enclosed(*far)
    part = Scattered(Gaussian(), 0.2, scale=0.5)
    assert part.enclosed(*far) == pytest.approx(0.1 * np.exp(-0.9 / 0.5), rel=1e-6)
    halved = part.enclosed(0.9, np.inf, 5.0 * np.sqrt(2.0), 0.0)
    assert halved == pytest.approx(0.05 * np.exp(-0.9 / 0.5), rel=1e-4)
    lopsided = Asymmetric(Gaussian(0.3), 0.2, 0.4)
    assert lopsided.enclosed(0.3, 0.7, 8.0, 0.0) > 3 * lopsided.enclosed(-0.7, -0.3, 8.0, 0.0)
    for make in (
        lambda: Moffat(beta=1.0),
        lambda: Scattered(fraction=1.5),
        lambda: Scattered(scale=0.0),
        lambda: Asymmetric(fraction=-0.1),
        lambda: Scene(psf=Gaussian(-0.1)).s2d(1),
        lambda: Scene(psf=Moffat(lambda wave: wave - 8.0)).s2d(1),
    ):
        with pytest.raises(LRSError):
            make()


@pytest.mark.slow
@pytest.mark.parametrize("name", LAWS)
def test_aperture_correction_and_reference_are_those_of_the_law(name: str) -> None:
    made = scene(psf=LAWS[name], sources=(Source(flux=2e-3, halo=0.03),))
    truth = made.s2d(1, subtract_nod=False, edges=False).truth
    light = (truth.data - truth.background)[:, 9:18].sum(axis=1) * JY_PER_PIXEL
    table = made.aperture_correction(offset=13.0 - truth.column[0])
    assert_allclose(table(truth.wavelength, 9.0) * light, truth.flux, rtol=3e-4)
    offset = np.arange(45) - truth.column[:, np.newaxis]
    reference = made.psf_reference(reach=60.0)(offset, truth.wavelength)
    known = truth.wavelength < 14.0
    assert_allclose(reference[known], truth.pixel_fractions()[known], atol=2e-3)


@pytest.mark.parametrize("law", [None, LAWS["asymmetric"]])
def test_brighter_fatter(law: PSFLaw | None) -> None:
    psf = {} if law is None else {"psf": law}
    keys = {"subtract_nod": False, "edges": False}
    thin = scene(**psf).s2d(1, **keys).truth
    thick = scene(**psf, brighter_fatter=0.02).s2d(1, **keys).truth
    flux = (thick.data - thick.background) * JY_PER_PIXEL
    assert_allclose(flux.sum(axis=1), (thin.data - thin.background).sum(axis=1) * JY_PER_PIXEL)
    assert_allclose(thick.pixel_fractions() * thick.flux[:, np.newaxis], flux, atol=1e-12)
    assert_allclose(thick.enclosed(8.5, 17.5) * thick.flux, flux[:, 9:18].sum(axis=1))
    change = thick.pixel_fractions()[:, 13] / thin.pixel_fractions()[:, 13] - 1.0
    assert -0.1 < change.min() < -0.05
    # It is proportional to the flux, so that a faint source has none.
    faint = scene(**psf, sources=(Source(flux=5e-6, halo=0.0),), brighter_fatter=0.02)
    assert_allclose(faint.s2d(1, **keys).truth.pixel_fractions(), thin.pixel_fractions(), atol=1e-4)


PRODUCTS = {
    "s2d": lambda scene: scene.s2d(1, subtract_nod=False, edges=False),
    "cal": lambda scene: scene.cal(1, subtract_nod=False),
    "cut cal": lambda scene: scene.cal(2, full_frame=False, subtract_nod=False),
    "calints": lambda scene: scene.calints(1),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_trace_error(name: str) -> None:
    straight, made = (PRODUCTS[name](scene(trace_error=e)) for e in ((), (0.3, -0.4, 0.2)))
    truth = made.truth
    rows = np.flatnonzero(np.isfinite(truth.wavelength))
    shift = (truth.column - straight.truth.column)[rows]
    assert_allclose(shift[[0, -1]], [0.3 + 0.4 + 0.2, 0.3 - 0.4 + 0.2], atol=0.01)
    assert shift[rows.size // 2] == pytest.approx(0.3, abs=0.01)
    light = np.nan_to_num((truth.data - truth.background)[rows])
    centroid = light @ np.arange(light.shape[1]) / light.sum(axis=1)
    assert_allclose(centroid, truth.column[rows], atol=2e-3)
    # The WCS and the position in the header do not know of it.
    for one in ("source_ra", "source_dec"):
        assert getattr(made.image, one) == getattr(straight.image, one)
    at = (made.truth.column[rows[100]], rows[100])
    assert made.image.wcs(*at) == pytest.approx(straight.image.wcs(*at))


@pytest.mark.parametrize("name", ["s2d", "cut cal", "calints"])
def test_common_noise_is_in_the_data_and_not_in_the_variances(name: str) -> None:
    changes = {"sources": (Source(flux=0.0),), "background": 0.0, "flat_error": 0.0}
    plain, made = (PRODUCTS[name](scene(common_noise=c, **changes)) for c in (0.0, 0.5))
    assert_allclose(np.nanmean(made.image.var_rnoise / plain.image.var_rnoise), 1.0, rtol=0.01)
    ratio = np.nanmedian(made.truth.var_rnoise / plain.truth.var_rnoise)
    assert ratio == pytest.approx(1.5, abs=0.02)
    pulls = np.squeeze(made.image.data / np.sqrt(made.image.var_rnoise))
    for axis in (0, 1):
        known = np.isfinite(pulls).any(axis=axis)
        means = np.nanmean(pulls.compress(known, axis=1 - axis), axis=axis)
        assert means.std() == pytest.approx(0.5, abs=0.2)


def test_hot_and_dead_columns() -> None:
    keys = {"hot_columns": {5: 40.0}, "dead_columns": (-3,)}
    for name, make in PRODUCTS.items():
        plain, made = make(scene()), make(scene(**keys))
        hot, dead = {"s2d": (27, 19), "cal": (330, 322), "cut cal": (27, 19), "calints": (41, 33)}[
            name
        ]
        assert_allclose((made.truth.background - plain.truth.background)[200, hot], 40.0)
        assert not (made.truth.background - plain.truth.background)[200, hot + 1]
        rows = np.isfinite(plain.image.data[..., hot]).reshape(-1, plain.image.shape[0])[0]
        column = made.image.data[..., dead].reshape(-1, rows.size)[0]
        if made.image.dq is None:
            assert np.isnan(column).all()
        else:
            flags = made.image.dq[..., dead].reshape(-1, rows.size)[0]
            assert (flags[rows] & DO_NOT_USE).all()
    # The dark signal is in both nods, so that only its noise remains.
    truth = scene(**keys, sources=(Source(flux=1e-6),)).s2d(1).truth
    assert truth.background[200, 27] == 0.0
    assert truth.variance[200, 27] > 2 * truth.variance[200, 28]
    with pytest.raises(LRSError, match="expected columns of the image"):
        scene(dead_columns=(40,)).s2d(1)


# --- nods --------------------------------------------------------------------------------------


def blank(seed: int, **changes: object) -> Scene:
    changes = {"sources": (Source(flux=1e-9, halo=0.0),), "flat_error": 0.0} | changes
    return Scene(seed=seed, **changes)


def scatter(made: Simulated, truth: Truth | None = None) -> float:
    """Standard deviation of the noise over its error in the image, or its true error."""
    variance = made.image.err**2 if truth is None else truth.variance
    return float(np.nanstd((made.image.data - made.truth.data) / np.sqrt(variance)))


@pytest.mark.parametrize("number", [1, 3])
def test_noise_of_nods(number: int) -> None:
    expected = np.sqrt(1.0 + 1.0 / number)
    ours, pipeline = (blank(1, nod_variance=v).nods(number) for v in (True, False))
    assert len(ours) == 2 * number
    for one, other in zip(ours, pipeline, strict=True):
        assert_array_equal(one.image.data, other.image.data)
        assert scatter(one) == pytest.approx(1.0, abs=0.025)
        assert scatter(other) == pytest.approx(expected, abs=0.035)
        for made in (one, other):
            assert scatter(made, made.truth) == pytest.approx(1.0, abs=0.025)
    assert scatter(blank(2, nod_variance=False).s2d(1)) == pytest.approx(np.sqrt(2.0), abs=0.035)


def test_noise_of_the_other_nod_is_shared() -> None:
    number = 3
    made = blank(1).nods(number)
    noise = [np.nan_to_num((m.image.data - m.truth.data) / np.sqrt(m.truth.variance)) for m in made]
    flat = np.array(noise)[:, 1:-1, 1:-1].reshape(2 * number, -1)
    correlation = np.corrcoef(flat)
    same = correlation[:number, :number][~np.eye(number, dtype=bool)]
    assert_allclose(same, (1.0 / number) / (1.0 + 1.0 / number), atol=0.03)
    # A_i minus the mean of B, and B_j minus the mean of A: -2/n of their variance is common.
    across = correlation[:number, number:]
    assert_allclose(across, -(2.0 / number) / (1.0 + 1.0 / number), atol=0.03)


def test_headers_and_truth_of_nods() -> None:
    made = Scene(seed=4, background_drift=0.1).nods(2)
    assert [m.image.header["PATT_NUM"] for m in made] == [1, 1, 2, 2]
    assert len({m.image.header["EXPOSURE"] for m in made}) == 4
    assert {m.image.header["S_BKDSUB"] for m in made} == {"COMPLETE"}
    first, last = made[0].truth, made[-1].truth
    single = Scene(seed=4, background_drift=0.1).s2d(1).truth
    assert_allclose(first.data, single.data)
    assert_allclose(first.column, single.column)
    assert_allclose(last.data, -first.data, atol=1e-9)
    with pytest.raises(LRSError, match="n_exposures"):
        Scene().nods(0)
