"""Findings: each appears where it should, with the right value, and not in clean scenes."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from glue_lrs import (
    Extract1D,
    Extraction,
    LRSError,
    LRSWarning,
    SlitImage,
    combine,
    errors,
    measure,
)
from glue_lrs.cli import main
from glue_lrs.findings.case import Case
from glue_lrs.findings.outliers import outlier_findings
from glue_lrs.measurement import Measurement
from glue_lrs.simulation import LAWS, Scene, Source
from glue_lrs.spectra.findings import KINDS, Finding, worst_first

SLIT, SLITLESS = "MIR_LRS-FIXEDSLIT", "MIR_LRS-SLITLESS"
DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def nod() -> SlitImage:
    """Image of nod 1, with the source at column 13.05 and a negative trace at 30.95."""
    return Scene(seed=1).s2d(nod=1).image


def at(column: float, width: float = 8.0, **keys: object) -> Extract1D:
    """A box around a column."""
    half = width / 2.0 - 0.5
    return Extract1D.from_reference(
        None, SLIT, xstart=column - half, xstop=column + half, use_source_posn=False, **keys
    )


def serious(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {one.kind: one for one in findings if one.severity != "info"}


def test_a_clean_nod_has_infos_only(nod: SlitImage) -> None:
    operator = Extract1D.from_reference(None, SLIT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extraction = operator.run(nod)
        found = operator.check(nod)
    assert [one.kind for one in extraction.findings] == ["no_aperture_correction"]
    assert [one.kind for one in found] == ["flux_outside"]
    # the profile of the simulation has 5.8% of its flux beyond 4 columns at 13.5 um
    assert found[0].values["longest"] == pytest.approx(0.05, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_clean_scenes_give_no_warning(seed: int) -> None:
    """`docs/checks.rst` gives the result for more scenes."""
    slit = Scene(seed=seed, sources=(Source(flux=3e-4),)).s2d(nod=1 + seed % 2).image
    assert serious(Extract1D.from_reference(None, SLIT).check(slit)) == {}
    stack = Scene(seed=seed, sources=(Source(flux=3e-3),)).calints(n_int=2).image
    subtracted = Extract1D.from_reference(None, SLITLESS, bkg_coeff=[[8.5], [18.5], [52.5], [62.5]])
    assert serious(subtracted.check(stack)) == {}
    none = Scene(seed=seed, background=0.0).calints(n_int=2).image
    assert serious(Extract1D.from_reference(None, SLITLESS).run(none).findings) == {}


def test_the_background_that_is_left_is_measured() -> None:
    made = Scene(seed=1).calints(n_int=2)
    operator = Extract1D.from_reference(None, SLITLESS, xstart=30, xstop=41)
    with pytest.warns(errors.NoBackgroundWarning, match="columns beside the aperture is"):
        extraction = operator.run(made.image)
    found = serious(extraction.findings)["background_left"]
    assert made.image.pixel_area is not None
    sky = (
        made.truth.background[0, :, 20]
        if made.truth.background.ndim == 3
        else (made.truth.background[:, 20])
    )
    row = int(np.nanargmin(np.abs(made.truth.wavelength - 13.7)))
    extracted = np.interp(
        13.7, extraction.wavelength[::-1], extraction.columns["FLUX"].mean(axis=0)[::-1]
    )
    share = sky[row] * 12 * made.image.pixel_area * 1e6 / extracted
    assert found.values["highest"] == pytest.approx(share, rel=0.15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unchecked = operator.run(made.image, check=False)
    assert unchecked.findings == ()
    np.testing.assert_array_equal(unchecked.columns["FLUX"], extraction.columns["FLUX"])


def test_a_negative_trace_is_an_error(nod: SlitImage) -> None:
    with pytest.warns(errors.NegativeFluxWarning, match="the mean flux is negative") as caught:
        extraction = at(30.95).run(nod)
    assert caught[0].filename == __file__
    assert extraction.findings[0].values["mean"] < 0
    found = serious(at(30.95).check(nod, extraction))
    assert set(found) == {"negative_flux", "source_outside", "negative_trace"}
    assert found["negative_trace"].values["ratio"] == pytest.approx(-1.0, abs=0.02)
    assert found["negative_trace"].values["column"] == pytest.approx(30.95, abs=0.05)


@pytest.mark.parametrize(
    ("off", "kind"),
    [(0.4, None), (2.0, "off_centre"), (3.0, "far_off_centre"), (6.0, "source_outside")],
)
def test_the_source_is_off_the_aperture(nod: SlitImage, off: float, kind: str | None) -> None:
    found = serious(at(13.05 + off).check(nod))
    assert set(found) == (set() if kind is None else {kind})
    if kind is not None:
        assert found[kind].values["distance"] == pytest.approx(-off, abs=0.05)


def test_the_columns_of_a_tilted_aperture_are_those_in_the_reference_row(nod: SlitImage) -> None:
    edges = [[18.0, 0.02], [26.0, 0.02]]
    operator = Extract1D.from_reference(
        None, SLIT, src_coeff=edges, independent_var="pixel", use_source_posn=False
    )
    text = serious(operator.check(nod))["source_outside"].text
    row = measure(nod).row
    lower, upper = (start + slope * row for start, slope in edges)
    assert row > 0
    assert text.startswith(f"the aperture (columns {lower + 0.5:.2f} to {upper - 0.5:.2f}) does")


@pytest.mark.slow
def test_light_of_hot_columns_at_the_edge_is_not_the_target() -> None:
    """As in real slitless pixels: dark reference columns, and hot ones that are not flagged."""
    image = Scene(seed=1, sources=(Source(flux=3e-3),)).calints(n_int=1).image.integration(0)
    data = image.data.copy()
    data[:, :4] *= 0.07
    data[:, 4] *= 36.0
    data[:, 5] *= 2.5
    operator = Extract1D.from_reference(None, SLITLESS, bkg_coeff=[[14.5], [22.5], [50.5], [62.5]])
    found = serious(operator.check(replace(image, data=data)))
    assert not {"other_source", "source_outside"} & set(found)


@pytest.mark.slow
def test_emission_lines_are_no_outliers() -> None:
    """A line of three rows has the width of the trace. A ray beside it is still found."""

    def lines(wave: Any) -> Any:
        each = [8.0 * np.exp(-0.5 * ((np.asarray(wave) - at) / 0.03) ** 2) for at in (6.0, 8.5, 11)]
        return 1e-3 * (1.0 + sum(each))

    image = Scene(seed=2, sources=(Source(flux=lines),)).s2d(nod=1).image
    operator = Extract1D.from_reference(None, SLIT)
    kinds = {"outliers", "outlier_flux"}
    assert not kinds & {one.kind for one in operator.check(image)}
    data = image.data.copy()
    data[120, 14] += 6000.0
    found = serious(operator.check(replace(image, data=data)))["outlier_flux"]
    assert found.values["rows"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("law", ["asymmetric", "cross"])
def test_a_misfit_of_the_profile_is_no_outlier(law: str) -> None:
    """The model of the fit differs from such a profile by many errors in a bright source."""
    scene = Scene(seed=17, psf=LAWS[law], sources=(Source(flux=3.4e-3),))
    image = scene.s2d(nod=1, subtract_nod=False).image
    operator = at(13.05)
    kinds = {"outliers", "outlier_flux"}
    assert not kinds & {one.kind for one in operator.check(image)}
    data = image.data.copy()
    data[120, 14] += float(np.nanmax(data[100:140]))
    found = {one.kind: one for one in operator.check(replace(image, data=data))}
    assert found["outliers"].values["rows"] == 1


def true_light(scene: Scene) -> np.ndarray:
    """Light of the sources without noise and background, in the aperture of `at(13.05)`."""
    truth = scene.s2d(nod=1).truth
    column = np.arange(truth.data.shape[1])
    weights = np.clip(np.minimum(column + 0.5, 17.05) - np.maximum(column - 0.5, 9.05), 0.0, 1.0)
    return np.asarray(np.nan_to_num(truth.data - truth.background) @ weights)


def test_the_change_by_outliers_is_that_of_the_flux() -> None:
    """A ray and a dead pixel in the same eighth of the rows do not cancel.

    The flux of the source doubles within these 48 rows, which begin with row 98.
    """
    row, wave = np.arange(387), Scene().s2d(nod=1).truth.wavelength
    known = np.isfinite(wave)

    def steep(wavelength: Any) -> Any:
        at = np.interp(wavelength, wave[known][::-1], row[known][::-1])
        return 3e-3 * 2.0 ** (np.clip(at - 98.0, 0.0, 48.0) / 48.0)

    scene = Scene(seed=1, sources=(Source(flux=steep),))
    image, light = scene.s2d(nod=1).image, true_light(scene)
    mean = light[98:146].mean()
    data = image.data.copy()
    data[108, 14] += 0.6 * light[108]
    data[128, 12] -= 0.2 * mean
    found = serious(at(13.05).check(replace(image, data=data)))["outlier_flux"]
    assert found.values["rows"] == 2
    assert found.values["highest"] == pytest.approx(0.6, rel=0.03)
    expected = (0.6 * light[108] / mean + 0.2) / 48
    assert found.values["share"] == pytest.approx(expected, rel=0.03)
    assert "most (+59%) at" in found.text or "most (+60%) at" in found.text


def test_the_light_of_a_neighbour_is_that_of_its_profile() -> None:
    near, far = Source(flux=3e-3), Source(flux=1e-3, position=0.55)
    scene = Scene(seed=1, sources=(near, far))
    own = true_light(replace(scene, sources=(near,))).sum()
    found = serious(at(13.05).check(scene.s2d(nod=1).image))["neighbour"]
    assert found.values["share"] == pytest.approx(true_light(scene).sum() / own - 1.0, rel=0.02)


@pytest.mark.parametrize(
    ("level", "rows", "found"),
    [(50.0, slice(None), True), (-50.0, slice(None), True), (50.0, slice(100, 200), False)],
)
def test_a_background_that_was_subtracted_wrongly(
    nod: SlitImage, level: float, rows: slice, found: bool
) -> None:
    """A level in few rows is rather a misfit of the source."""
    data = nod.data.copy()
    data[rows] += level
    findings = serious(at(13.05).check(replace(nod, data=data)))
    assert set(findings) == ({"background_left"} if found else set())
    if found:
        assert "subtracted according to S_BKDSUB" in findings["background_left"].text
        expected = 0.087 if level > 0 else 0.105  # of what is left
        assert findings["background_left"].values["highest"] == pytest.approx(expected, abs=0.003)


@pytest.mark.parametrize(("rows", "kind"), [(30, "outlier_flux"), (60, "not_measured")])
def test_a_fit_that_rejects_the_light_of_many_rows_finds_no_outliers(
    nod: SlitImage, rows: int, kind: str
) -> None:
    """As in a bright source of calints, of a profile that the fit does not describe."""
    measured = measure(nod)
    light = [(row, column, 0.0) for row in range(100, 100 + rows) for column in range(11, 16)]
    rays = [(row, 13, 1e4) for row in range(200, 210)]
    changed = replace(measured, outliers=np.array([*light, *rays], dtype=float).T)
    (found,) = outlier_findings(Case(nod, at(13.05), changed))
    assert found.kind == kind
    if kind == "not_measured":
        assert found.text.startswith(f"in {rows} of ")


@pytest.mark.slow
def test_slitless_images_have_no_nods() -> None:
    """Dark columns look like a negative trace."""
    image = Scene(seed=1, sources=(Source(flux=3e-3),)).calints(n_int=1).image.integration(0)
    data = image.data - 0.2 * np.roll(image.data, -20, axis=1)
    operator = Extract1D.from_reference(None, SLITLESS, xstart=12, xstop=19)
    found = serious(operator.check(replace(image, data=data)))["negative_trace"]
    assert found.text.startswith("the aperture contains a negative trace at column 15.6")
    assert not any(
        "nod" in one.text for one in serious(operator.check(replace(image, data=data))).values()
    )


def test_a_background_region_on_the_other_nod(nod: SlitImage) -> None:
    clear = at(13.05, bkg_coeff=[[20.5], [24.5]])
    assert serious(clear.check(nod)) == {}
    found = serious(at(13.05, bkg_coeff=[[27.5], [34.5]]).check(nod))["region_on_trace"]
    wrong = at(13.05, bkg_coeff=[[27.5], [34.5]]).run(nod).columns["FLUX"]
    change = np.nanmean(wrong) / np.nanmean(at(13.05).run(nod).columns["FLUX"]) - 1.0
    assert found.values["change"] == pytest.approx(change, rel=0.1)


def test_no_variances_are_unknown_errors(nod: SlitImage) -> None:
    image = replace(nod, var_poisson=None, var_rnoise=None, var_flat=None)
    with pytest.warns(errors.NoVariancesWarning, match="the errors are unknown"):
        assert "no_variances" in serious(at(13.05).run(image).findings)


def test_bad_pixels_are_counted_by_plane(nod: SlitImage) -> None:
    assert nod.var_flat is not None
    image = replace(nod, var_flat=np.full_like(nod.var_flat, np.nan))
    with pytest.raises(LRSError, match=r"NaN in VAR_FLAT"):
        at(13.05).run(image)


def test_columns_without_data_are_not_bad_pixels(nod: SlitImage) -> None:
    """Column 0 has no data: one finding says so. The source is elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        assert set(serious(at(3.5).run(nod).findings)) == {"off_image"}
        assert set(serious(at(1.0).run(nod).findings)) == {"off_image"}


def test_the_hint_of_an_aperture_off_the_source_can_be_followed(
    nod: SlitImage, tmp_path: Path
) -> None:
    (found,) = (one for one in at(16.05).check(nod) if one.kind == "far_off_centre")
    assert found.hint is not None
    assert "src_coeff=... along the measured trace, from measure --reference" in str(found.message)
    path, reference = tmp_path / "n_s2d.fits", tmp_path / "n.json"
    nod.write(path)
    run = CliRunner().invoke(
        main, ["measure", str(path), "--no-plot", "--reference", str(reference)]
    )
    assert run.exit_code == 0
    assert serious(Extract1D.from_reference(reference, SLIT).check(path)) == {}


def test_an_aperture_far_from_the_source_is_reported_once() -> None:
    """The header's position, which is 0.3 columns from the source, is outside the aperture, too."""
    image = Scene(seed=1, trace_error=(-0.3,)).s2d(nod=1).image
    kinds = {one.kind for one in at(10.9, width=4.0).check(image)}
    assert "far_off_centre" in kinds
    assert "aperture_off_header" not in kinds


def without_variance(image: SlitImage) -> SlitImage:
    zero = np.zeros_like(image.data)
    return replace(image, var_poisson=zero, var_rnoise=zero, var_flat=zero)


def rows(image: SlitImage, first: int, last: int) -> SlitImage:
    part = slice(first, last)
    names = ("data", "err", "dq", "var_poisson", "var_rnoise", "var_flat", "wavelength")
    planes = {name: getattr(image, name) for name in names}
    return replace(image, **{name: v[part] for name, v in planes.items() if v is not None})


def masked(image: SlitImage) -> SlitImage:
    data = image.data.copy()
    data[:, :12] = data[:, 16:] = np.nan
    return replace(image, data=data)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_variance, "16555 without a positive variance of 17415"),
        (lambda image: rows(image, 200, 201), "1 rows and 45 columns have a wavelength"),
        (masked, "fewer than 5 columns hold data: 15875 NaN in SCI"),
    ],
)
def test_an_image_that_cannot_be_measured_is_not_one_without_a_source(
    nod: SlitImage, change: Callable[[SlitImage], SlitImage], reason: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        found = Extract1D.from_reference(None, SLIT).check(change(nod))
    kinds = {one.kind: one for one in found}
    assert "no_source" not in kinds
    assert reason in kinds["not_measured"].text


def test_a_measurement_that_failed_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Scene(seed=1, sources=(Source(flux=1e-9),)).s2d(nod=1).image
    calls = []

    def counted(*args: Any, **kwargs: Any) -> Measurement:
        calls.append(args)
        return measure(*args, **kwargs)

    monkeypatch.setattr(sys.modules["glue_lrs.findings.check"], "measure", counted)
    found = [at(column).check(empty) for column in (13.05, 14.05)]
    assert all("no_source" in serious(one) for one in found)
    assert len(calls) == 1


@pytest.mark.slow
def test_findings_are_recorded_and_shown(nod: SlitImage, tmp_path: Path) -> None:
    path = tmp_path / "n_s2d.fits"
    nod.write(path)
    out = tmp_path / "n_x1d.fits"
    settings = ("--set", "xstart=27", "--set", "xstop=34", "--set", "use_source_posn=false")
    run = CliRunner().invoke(main, ["extract", str(path), *settings, "-o", str(out), "--strict"])
    lines = run.stderr.splitlines()
    assert run.exit_code == 1
    assert "the mean flux is negative" in lines[0]
    assert not any("aperture correction" in line for line in lines)  # this is an info
    found = Extraction.read(out).findings
    assert [one.kind for one in found][:3] == ["negative_flux", "source_outside", "negative_trace"]
    assert found[1].hint is not None
    assert found[0].values["mean"] < 0
    shown = CliRunner().invoke(main, ["info", str(out), "--strict"])
    assert shown.exit_code == 1
    assert "the mean flux is negative" in shown.stdout
    quiet = CliRunner().invoke(
        main, ["extract", str(path), *settings, "-o", str(out), "--overwrite", "--quiet"]
    )
    assert (quiet.exit_code, quiet.stderr) == (0, "")


def test_a_finding_survives_its_record() -> None:
    hint = errors.Hint.to("give {}, or {}", "apcorr", max_lost=0)
    one = Finding("lost_pixels", "text", {"rows": 3}, hint.joined(errors.Hint.to("x")), "a.fits")
    assert Finding.from_dict(one.to_dict()) == one
    for severity in ("error", "warning", "info"):  # of a newer version
        newer = Finding("unheard_of", "text", recorded=severity)
        assert Finding.from_dict(newer.to_dict()) == newer
        assert (newer.severity, newer.message.about("b").severity) == (severity, severity)
    damaged = Finding.from_dict({"kind": "unheard_of", "severity": 3, "text": "text"})
    assert damaged.severity == "warning"
    assert Finding.from_dict(one.to_dict() | {"severity": "info"}).severity == "warning"
    info = Finding("scaled", "less")
    assert worst_first([info, one, info]) == (one, info)


def test_opposite_signs_are_refused(nod: SlitImage) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        spectra = [at(13.05).run(nod), at(30.95).run(nod)]
        with pytest.raises(LRSError, match="they would cancel each other"):
            combine(spectra)
        assert combine(spectra, allow_opposite=True).findings[0].kind == "opposite_signs"


def test_nods_are_scaled_and_short_values_rejected() -> None:
    nods = [Scene(seed=1).s2d(nod=n).image for n in (1, 2)]
    operator = Extract1D.from_reference(None, SLIT)
    full = combine(nods, extract=operator)
    assert serious(full.findings) == {}
    first, second = (operator.run(one) for one in nods)
    dimmed = replace(
        second,
        columns=second.columns
        | {name: 0.8 * second.columns[name] for name in ("FLUX", "FLUX_ERROR", "SURF_BRIGHT")},
    )
    with pytest.warns(errors.DifferentSpectraWarning, match=r"0\.\d+ \+- "):
        found = combine([first, dimmed]).findings
    assert serious(found)["different_flux"].values["ratio"] == pytest.approx(0.8, abs=0.005)
    scaled = combine([first, dimmed], scale=True)
    assert serious(scaled.findings) == {}
    factors = [one.values["factor"] for one in scaled.findings if one.kind == "scaled"]
    assert factors[1] / factors[0] == pytest.approx(1.25, abs=0.01)
    data = nods[1].data.copy()
    data[200, 30:32] = np.nan
    with pytest.warns(errors.LostPixelsWarning):
        short = operator.run(replace(nods[1], data=data))
    made, kept = (combine([first, short], incomplete=how) for how in ("reject", "keep"))
    at_row = int(np.abs(made.wavelength - second.wavelength[200]).argmin())
    assert made.columns["N_INPUT"][at_row] == 1
    assert kept.columns["FLUX"][at_row] < 0.9 * made.columns["FLUX"][at_row]


def test_all_kinds_are_documented() -> None:
    page = (DOCS / "checks.rst").read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"``{kind}``" not in page] == []
