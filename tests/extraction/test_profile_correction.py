"""The aperture correction by the profile: off-centre, tapered and fractional apertures, bad pixels.

The true flux is that of scenes whose PSF is a diffraction pattern through the slit, which no fit
knows. The APCORR table is that of the same PSF.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose, assert_array_equal

from glue_lrs import (
    Aperture,
    Background,
    Extract1D,
    Extraction,
    PSFProfile,
    SlitImage,
    combine,
    rerun,
)
from glue_lrs.cli import main
from glue_lrs.errors import (
    CorrectionRangeWarning,
    LRSWarning,
    ReferenceFileError,
    UncorrectedPixelsWarning,
    UnusedOptionWarning,
)
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.profiles.drizzled import DrizzledProfile
from glue_lrs.profiles.gaussian import GaussianProfile
from glue_lrs.simulation import LAWS, Scene, Source
from glue_lrs.simulation.truth import Simulated
from glue_lrs.viewers.live.script import python_lines
from tests.helpers.images import stack

pytestmark = pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning")

#: Bands in micron. The flux of each is a mean over tens of rows.
BANDS = ((5.0, 6.5), (6.5, 8.5), (8.5, 11.0), (11.0, 13.5))
SCENE = Scene(sources=(Source(flux=5e-3, halo=0.0),), psf=LAWS["diffraction"], seed=3)
CORRECTION = SCENE.aperture_correction()


@cache
def exposure(kind: str) -> Simulated:
    return SCENE.s2d(nod=1) if kind == "s2d" else SCENE.cal(nod=1, full_frame=False)


def aperture(width: float, offset: float, made: Simulated) -> Aperture:
    middle = float(np.nanmedian(made.truth.column)) + offset
    return Aperture(xstart=middle - (width - 1) / 2, xstop=middle + (width - 1) / 2)


def operator(given: Aperture, **options: Any) -> Extract1D:
    options = {"aperture_correction": CORRECTION, "correction": "profile", **options}
    return Extract1D(aperture=given, **options)


def bias(found: Extraction, made: Simulated, rows: Any = None) -> np.ndarray:
    """Relative error of the mean flux in each band, in per cent."""
    order = np.argsort(made.truth.wavelength)
    wave = found.wavelength
    expected = np.interp(wave, made.truth.wavelength[order], made.truth.flux[order])
    ratio = found.columns["FLUX"] / expected
    good = ~found.mask if rows is None else ~found.mask & rows
    return np.array(
        [100 * ratio[good & (wave > low) & (wave < high)].mean() - 100 for low, high in BANDS]
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s2d", "cal"])
@pytest.mark.parametrize("profile", ["learned", "psf"])
def test_flux_is_right_wherever_the_aperture_is(kind: str, profile: str) -> None:
    made = exposure(kind)
    psf = SCENE.psf_reference() if profile == "psf" else None
    limit = 0.5 if profile == "psf" else 1.0
    apertures = [aperture(*one, made) for one in ((8, 2), (4, 0), (4, 2), (12, -2))]
    column = float(np.nanmedian(made.truth.column))
    apertures.append(Aperture.tapered(n=1.5, center=column))
    for given in apertures:
        found = operator(given, psf=psf).run(made.image)
        assert np.abs(bias(found, made)).max() < limit
    # The table is for a source in the middle: 4 columns that are 2 off miss 38% and more.
    table = operator(apertures[2], correction="table").run(made.image)
    assert bias(table, made).max() < -20.0


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["learned", "psf"])
def test_a_bad_pixel_at_the_peak(profile: str) -> None:
    made = exposure("s2d")
    psf = SCENE.psf_reference() if profile == "psf" else None
    data = np.array(made.image.data)
    rows = np.arange(20, len(data) - 20, 5)
    data[rows, np.rint(made.truth.column[rows]).astype(int)] = np.nan
    image = replace(made.image, data=data)
    given = operator(aperture(8, 1, made), psf=psf)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = given.run(image)
    restored = found.quality_mask("restored")
    assert restored.sum() == rows.size
    assert not found.quality_mask("lost")[restored].any()
    assert np.abs(bias(found, made, restored)).max() < 0.8
    assert_allclose(found.columns["NPIXELS"][restored], 8.0)
    bright, flux = found.columns["SURF_BRIGHT"], found.columns["FLUX"]
    assert_allclose((bright * 8.0 / flux)[~found.mask], np.nanmedian(bright * 8.0 / flux))
    table = replace(given, correction="table", psf=None).run(image)
    assert bias(table, made, restored).max() < -20.0
    (text,) = [one.text for one in found.findings if one.kind == "restored_pixels"]
    assert f"in {rows.size} of " in text
    assert "lost_pixels" not in {one.kind for one in found.findings}
    # The values are complete, so that a combination uses them.
    assert (combine([found]).columns["N_INPUT"][1:-1] == 1).all()


def test_rows_without_good_pixels_have_no_flux() -> None:
    made = exposure("s2d")
    data = np.array(made.image.data)
    data[[100, 200]] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", LRSWarning)
        image = replace(made.image, data=data)
        found = operator(aperture(8, 0, made)).run(image)
        table = operator(aperture(8, 0, made), correction="table").run(image)
    assert_array_equal(found.mask, table.mask)
    assert found.mask[[100, 200]].all()


def test_errors_are_scaled_and_the_background_is_not() -> None:
    made = exposure("s2d")
    given = operator(aperture(6, 1, made))
    found = given.run(made.image)
    plain = replace(given, correction="table", apply_apcorr=False).run(made.image)
    factor = (found.columns["FLUX"] / plain.columns["FLUX"])[~found.mask]
    assert factor.min() > 1.0
    for name, values in plain.columns.items():
        after, before = found.columns[name][~found.mask], values[~found.mask]
        power = 0 if name[:2] not in ("FL", "SU", "SB") else 2 if "_VAR_" in name else 1
        assert_allclose(after, before * factor**power, rtol=1e-12)


def test_each_integration_has_its_position() -> None:
    image = stack(3)
    x, rng = np.arange(46.0), np.random.default_rng(1)
    columns = np.array([35.2, 35.4, 35.7])[:, np.newaxis, np.newaxis]
    data = 20.0 + 5000.0 * np.exp(-0.5 * ((x - columns) / 1.5) ** 2) * np.ones((40, 1))
    image = replace(image, data=(data + rng.normal(0.0, 1.0, data.shape)).astype(np.float32))
    table = np.arange(-150, 151) / 10.0
    psf = PSFProfile(
        data=np.tile(np.exp(-0.5 * (table / 1.5) ** 2), (2, 1)), wave=[3.0, 16.0], subpix=10.0,
        center=150.0,
    )  # fmt: skip
    given = Extract1D(
        aperture=Aperture(xstart=34, xstop=36), background=Background.from_edges((2.0, 20.0)),
        correction="profile", psf=psf,
    )  # fmt: skip
    flux = given.run(image).columns["FLUX"]
    assert flux.shape == (3, 40)
    expected = 5000.0 * 1.5 * np.sqrt(2.0 * np.pi)
    assert_allclose(flux.mean(axis=1), expected, rtol=1e-3)
    plain = replace(given, correction="table", psf=None).run(image).columns["FLUX"].mean(axis=1)
    assert np.ptp(plain) > 0.02 * expected


def test_without_table_and_for_other_sources() -> None:
    made = exposure("s2d")
    given = operator(aperture(8, 1, made), aperture_correction=None)
    found = given.run(made.image)
    (finding,) = [one for one in found.findings if one.kind == "no_aperture_correction"]
    assert "beyond the fitted profile is not counted" in finding.text
    lost = bias(found, made)
    assert (lost < 0.0).all()
    assert (lost > -4.0).all()  # beyond the profile
    extended = replace(made.image, source_type="EXTENDED")
    same = replace(given, correction="table").run(extended)
    assert_array_equal(given.run(extended).columns["FLUX"], same.columns["FLUX"])


def test_aperture_without_the_source() -> None:
    made = exposure("s2d")
    data = np.array(made.image.data)
    middle = round(float(np.nanmedian(made.truth.column)))
    data[50, middle - 3 : middle + 4] = np.nan
    given = operator(aperture(8, 0, made), psf=SCENE.psf_reference())
    with pytest.warns(UncorrectedPixelsWarning, match=r"1 of \d+ rows have less than 10%"):
        found = given.run(replace(made.image, data=data))
    has_pixels = found.columns["NPIXELS"] > 0
    (row,) = np.flatnonzero(found.quality_mask("uncorrected") & has_pixels)
    assert found.quality_mask("uncorrected")[~has_pixels].all()
    assert found.mask[row]
    assert found.columns["NPIXELS"][row] < 2
    assert found.columns["FLUX"][row] > 0
    short = replace(CORRECTION, wavelength=np.array([9.0, 10.0]), factor=CORRECTION.factor[:2])
    with pytest.warns(CorrectionRangeWarning):
        replace(given, aperture_correction=short).run(made.image)


def test_warnings_of_the_fit_and_of_empty_rows_are_findings() -> None:
    made = exposure("cal")
    shift = round(float(np.nanmedian(made.truth.column))) - 1  # cuts the source at the edge

    def cut(plane: Any) -> Any:
        return None if plane is None else np.array(plane)[:, shift:]

    names = ("data", "err", "dq", "var_poisson", "var_rnoise", "var_flat", "wavelength")
    image = replace(made.image, **{name: cut(getattr(made.image, name)) for name in names})
    given = operator(Aperture(xstart=0, xstop=6), use_source_posn=False)
    with pytest.warns(LRSWarning, match="flux is off the image"):
        found = given.run(image)
    assert any("off the image" in one.text for one in found.findings if one.kind == "fit")
    data = np.array(made.image.data)
    data[200:203] = np.nan
    with pytest.warns(LRSWarning, match="3 of .* rows have no flux"):
        found = operator(aperture(8, 0, made)).run(replace(made.image, data=data))
    assert "empty_rows" in {one.kind for one in found.findings}
    extended = replace(made.image, source_type="EXTENDED")
    with pytest.warns(UnusedOptionWarning, match="not a point source"):
        operator(aperture(8, 0, made)).run(extended)


def test_findings_about_an_aperture_that_is_off_centre() -> None:
    made = exposure("s2d")
    kinds = {"off_centre", "correction_off_centre", "correction_narrow", "flux_outside"}
    for given, expected in (
        (operator(aperture(4, 1.2, made), correction="table"), True),
        (operator(aperture(4, 1.2, made)), False),
    ):
        found = {one.kind for one in given.check(made.image)}
        assert bool(found & kinds) == expected


def test_options(tmp_path: Path) -> None:
    path = str(tmp_path / "x_s2d.fits")
    exposure("s2d").image.write(path)
    image = SlitImage.read(path)
    given = Extract1D.from_reference(None, FIXED_SLIT, correction="profile")
    assert given.parameters["options"]["correction"] == "profile"
    assert "correction" not in replace(given, correction="table").parameters["options"]
    assert Extract1D.from_parameters(given.parameters) == given
    made = given.run(image)
    again = rerun(json.loads(json.dumps(dict(made.provenance))))
    assert_array_equal(again.columns["FLUX"], made.columns["FLUX"])
    assert "correction='profile'" in python_lines(given, image)
    with pytest.raises(ReferenceFileError, match="cannot hold correction 'profile', which"):
        given.to_reference()
    for wrong, text in (
        ({"correction": "learned"}, "correction is 'learned', expected 'table' or 'profile'"),
        ({"extraction_type": "optimal"}, "expected extraction_type 'box' with it"),
        ({"bad_pixels": "profile"}, "expected correction 'table' with it"),
    ):
        with pytest.raises(ReferenceFileError, match=text):
            replace(given, **wrong)
    with pytest.warns(UnusedOptionWarning, match="correction 'profile' has no effect, as apply_ap"):
        replace(given, apply_apcorr=False).run(image)
    output = str(tmp_path / "x1d.fits")
    arguments = ["extract", path, "--set", "correction=profile", "-o", output]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert_array_equal(Extraction.read(output).columns["FLUX"], made.columns["FLUX"])
    wrong = CliRunner().invoke(main, [*arguments, "--overwrite", "--set", "bad_pixels=profile"])
    assert wrong.exit_code == 2
    assert "includes bad pixels" in wrong.stderr


def test_drizzle_broadens_a_profile() -> None:
    wave = np.array([6.0, 10.0])
    offset = np.broadcast_to(np.arange(-12.0, 13.0), (2, 25))
    plain = GaussianProfile()
    for amount in (0.0, 1.0, 1.5):
        drizzled = DrizzledProfile(plain, np.full(2, amount))(offset, wave)
        assert_allclose(drizzled.sum(axis=1), 1.0, atol=1e-6)
        added = ((drizzled - plain(offset, wave)) * offset**2).sum(axis=1)
        # The mean of p (1 - p) over the overlaps is 1/6.
        assert_allclose(added, amount / 6.0, rtol=0.05, atol=1e-12)


@pytest.mark.parity
@pytest.mark.slow
def test_images_that_the_pipeline_resampled() -> None:
    from tests.helpers.resample import resample

    made = exposure("cal")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        image = resample([made.image])
        at = Extract1D(aperture=Aperture(xstart=10, xstop=20), use_source_posn=True).place(image)
    assert at.position is not None
    for width, offset in ((8, 2), (4, 0), (4, 1)):
        middle = at.position.column + offset
        given = Aperture(xstart=middle - (width - 1) / 2, xstop=middle + (width - 1) / 2)
        for psf, limit in ((SCENE.psf_reference(), 0.7), (None, 1.0)):
            found = operator(given, psf=psf).run(image)
            assert np.abs(bias(found, made)).max() < limit
