"""Conversion of extractions and images to and from specutils spectra."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import StdDevUncertainty, VarianceUncertainty
from specutils import SpectralRegion, Spectrum
from specutils.manipulation import LinearInterpolatedResampler, box_smooth, extract_region

from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.background import Background
from glue_lrs.errors import LRSError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.spectra.columns import COLUMNS, ERROR_OF, column_units
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.from_specutils import spectrum_to_extraction
from glue_lrs.spectra.to_specutils import to_spectrum
from tests.helpers.images import marked
from tests.helpers.spectra import make_extraction

ORDERS = ("ascending", "file")
FILLS = ("interpolate", "nan")


def filled(wave: Any, values: Any, bad: Any) -> Any:
    """Return the expected interpolation, computed with NumPy for each spectrum."""
    values, bad = np.array(values), np.broadcast_to(bad, np.shape(values))
    if values.ndim == 2:
        return np.array([filled(wave, *pair) for pair in zip(values, bad, strict=True)])
    good = ~bad & np.isfinite(values)
    values[bad] = np.interp(wave[bad], wave[good], values[good]) if good.any() else np.nan
    return values


# --- from an extraction ---------------------------------------------------------------------------


@pytest.mark.parametrize("column", COLUMNS[1:])
@pytest.mark.parametrize("integrations", [None, 3])
def test_each_column_comes_with_its_own_error_and_unit(
    column: str, integrations: int | None
) -> None:
    extraction = make_extraction(integrations=integrations)
    spectrum = extraction.to_spectrum(column)
    np.testing.assert_array_equal(
        spectrum.flux.value, extraction.columns[column][..., ::-1].astype(float)
    )
    assert spectrum.unit == u.Unit(column_units(True).get(column, ""))
    np.testing.assert_array_equal(spectrum.spectral_axis.value, extraction.wavelength[::-1])
    assert spectrum.spectral_axis.unit == u.um
    assert spectrum.mask is None
    if column in ERROR_OF:
        assert isinstance(spectrum.uncertainty, StdDevUncertainty)
        assert spectrum.uncertainty.unit == spectrum.unit
        np.testing.assert_array_equal(
            spectrum.uncertainty.array, extraction.columns[ERROR_OF[column]][..., ::-1]
        )
    else:
        assert spectrum.uncertainty is None


def test_square_stack_keeps_its_axes() -> None:
    extraction = make_extraction(rows=5, integrations=5)
    spectrum = extraction.to_spectrum()
    assert spectrum.spectral_axis_index == 1
    np.testing.assert_array_equal(spectrum.flux.value, extraction.columns["FLUX"][:, ::-1])


def test_meta_contains_the_original() -> None:
    extraction = make_extraction(integrations=2)
    meta = extraction.to_spectrum("SURF_BRIGHT").meta
    assert meta["header"].tostring() == extraction.header.tostring()
    assert meta["glue_lrs"] is extraction.provenance
    assert meta["extraction"] is extraction
    assert extraction.times is not None
    assert all(
        (meta["times"][name] == extraction.times[name]).all() for name in ("INT_NUM", "MJD-BEG")
    )
    assert meta["column"] == "SURF_BRIGHT"
    assert "times" not in make_extraction().to_spectrum().meta


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rows", [1, 2, 40])
def test_the_wcs_is_the_one_that_specutils_makes(order: Any, rows: int) -> None:
    spectrum = make_extraction(rows=rows).to_spectrum(order=order)
    plain = Spectrum(flux=spectrum.flux, spectral_axis=spectrum.spectral_axis.quantity)
    assert type(spectrum.wcs) is type(plain.wcs)
    assert repr(spectrum.wcs) == repr(plain.wcs)
    for frame in ("input_frame", "output_frame"):
        one, other = getattr(spectrum.wcs, frame), getattr(plain.wcs, frame)
        for name in ("name", "naxes", "unit", "axes_names", "axes_type", "axes_order"):
            assert getattr(one, name) == getattr(other, name)
    assert spectrum.wcs.original_unit == plain.wcs.original_unit
    where = np.linspace(0.0, rows - 1.0, 7)
    world = plain.wcs.pixel_to_world(where)
    found = spectrum.wcs.pixel_to_world(where)
    assert type(found) is type(world)
    np.testing.assert_array_equal(found.value, world.value)
    if rows > 1:  # a single row has neither edges nor neighbours
        for unit in (u.um, u.nm, u.THz):
            coordinate = world[1:-1].to(unit)
            np.testing.assert_array_equal(
                spectrum.wcs.world_to_pixel(coordinate), plain.wcs.world_to_pixel(coordinate)
            )
        edges = plain.spectral_axis.bin_edges
        np.testing.assert_array_equal(spectrum.spectral_axis.bin_edges, edges)
    for name in ("doppler_rest", "doppler_convention", "redshift", "radial_velocity"):
        assert getattr(spectrum.spectral_axis, name) == getattr(plain.spectral_axis, name)


def test_a_spectrum_can_be_sent_to_another_process() -> None:
    spectrum = make_extraction(bad=[3]).to_spectrum()
    back = pickle.loads(pickle.dumps(spectrum))
    np.testing.assert_array_equal(back.flux, spectrum.flux)
    np.testing.assert_array_equal(back.uncertainty.array, spectrum.uncertainty.array)
    np.testing.assert_array_equal(back.mask, spectrum.mask)
    np.testing.assert_array_equal(back.spectral_axis, spectrum.spectral_axis)
    assert back.wcs.pixel_to_world(3.5) == spectrum.wcs.pixel_to_world(3.5)
    assert "NPIXELS" in spectrum_to_extraction(back).columns


def test_uncalibrated_flux_is_in_counts() -> None:
    assert make_extraction(calibrated=False).to_spectrum().unit == u.DN / u.s


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("fill", FILLS)
def test_spectrum_shares_no_memory(order: str, fill: str) -> None:
    extraction = make_extraction(bad=[3], integrations=2)
    before = copy.deepcopy(dict(extraction.columns))
    before = {name: values.copy() for name, values in before.items()}
    spectrum = to_spectrum(extraction, order=order, fill=fill)
    spectrum.data[:] = -1.0
    spectrum.uncertainty.array[:] = -1.0
    for name, values in before.items():
        np.testing.assert_array_equal(extraction.columns[name], values)


@pytest.mark.parametrize("integrations", [None, 7])
@pytest.mark.parametrize("seed", range(5))
def test_masked_rows_are_interpolated_in_wavelength(integrations: int | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (40,) if integrations is None else (integrations, 40)
    bad = rng.random(shape) < (0.1, 0.3, 0.6, 0.9, 0.02)[seed]
    bad[..., [0, -1]] |= seed % 2 == 0  # both ends
    bad[..., 20] = False
    extraction = make_extraction(integrations=integrations, bad=bad, seed=seed)
    spectrum = extraction.to_spectrum()
    wave = extraction.wavelength[::-1]
    np.testing.assert_array_equal(spectrum.mask, bad[..., ::-1])
    for found, name in (
        (spectrum.flux.value, "FLUX"),
        (spectrum.uncertainty.array, "FLUX_ERROR"),
    ):
        expected = filled(wave, extraction.columns[name][..., ::-1], bad[..., ::-1])
        np.testing.assert_allclose(found, expected, rtol=1e-13)
        np.testing.assert_array_equal(  # rows that are good stay as they are
            found[~bad[..., ::-1]],
            extraction.columns[name][~bad][..., ::-1]
            if integrations is None
            else extraction.columns[name][..., ::-1][~bad[..., ::-1]],
        )


def test_without_good_rows_values_stay_nan() -> None:
    bad = np.zeros((3, 10), dtype=bool)
    bad[1] = True
    bad[2, 4] = True
    spectrum = make_extraction(10, 3, bad).to_spectrum()
    assert np.isnan(spectrum.flux.value[1]).all()
    assert np.isnan(spectrum.uncertainty.array[1]).all()
    assert np.isfinite(spectrum.flux.value[[0, 2]]).all()
    assert np.isnan(make_extraction(10, bad=range(10)).to_spectrum().flux.value).all()


def test_completely_flagged_integration_is_nan() -> None:
    extraction = make_extraction(10, 2)
    extraction.columns["DQ"][1] = 1  # every row has a flux, but is flagged
    flux = extraction.to_spectrum().flux.value
    assert np.isnan(flux[1]).all()
    assert np.isfinite(flux[0]).all()


def test_fill_nan_applies_to_flux_and_error() -> None:
    extraction = make_extraction(bad=[2, 7])
    extraction.columns["DQ"][9] = 5  # flagged, though it has a flux
    spectrum = extraction.to_spectrum(fill="nan")
    expected = np.isin(np.arange(40), [2, 7, 9])[::-1]
    np.testing.assert_array_equal(np.isnan(spectrum.flux.value), expected)
    np.testing.assert_array_equal(np.isnan(spectrum.uncertainty.array), expected)
    np.testing.assert_array_equal(spectrum.mask, expected)


def test_other_dq_bits_mask_nothing() -> None:
    extraction = make_extraction()
    extraction.columns["DQ"][:] = 4
    assert extraction.to_spectrum().mask is None


def test_infinite_error_does_not_spread() -> None:
    extraction = make_extraction(bad=[10])
    extraction.columns["FLUX_ERROR"][9] = np.inf
    spectrum = extraction.to_spectrum()
    error, wave = extraction.columns["FLUX_ERROR"], extraction.wavelength
    share = (wave[10] - wave[11]) / (wave[8] - wave[11])
    assert spectrum.uncertainty.array[::-1][10] == pytest.approx(
        error[11] + share * (error[8] - error[11])
    )
    assert spectrum.uncertainty.array[::-1][9] == np.inf


@pytest.mark.parametrize("column", ["DQ", "NPIXELS"])
def test_counts_are_not_interpolated(column: str) -> None:
    extraction = make_extraction(bad=[5])
    spectrum = extraction.to_spectrum(column)
    np.testing.assert_array_equal(spectrum.flux.value[::-1], extraction.columns[column])
    assert spectrum.mask[::-1].nonzero()[0].tolist() == [5]


@pytest.mark.parametrize("fill", FILLS)
def test_file_order_is_the_reverse(fill: str) -> None:
    extraction = make_extraction(bad=[0, 8], integrations=2)
    up, down = (to_spectrum(extraction, order=order, fill=fill) for order in ORDERS)
    np.testing.assert_array_equal(down.spectral_axis.value, extraction.wavelength)
    np.testing.assert_array_equal(down.flux.value, up.flux.value[:, ::-1])
    np.testing.assert_array_equal(down.uncertainty.array, up.uncertainty.array[:, ::-1])
    np.testing.assert_array_equal(down.mask, up.mask[:, ::-1])


def test_rows_without_wavelength_are_dropped() -> None:
    wave = np.array([np.nan, 9.0, 8.0, np.nan, 7.0, np.inf])
    extraction = make_extraction(wave=wave)
    flux = extraction.columns["FLUX"]
    np.testing.assert_array_equal(extraction.to_spectrum().flux.value, flux[[4, 2, 1]])
    np.testing.assert_array_equal(extraction.to_spectrum(order="file").flux.value, flux[[1, 2, 4]])
    with pytest.raises(LRSError, match="no row with a finite wavelength"):
        make_extraction(wave=[np.nan, np.nan]).to_spectrum()


def test_wavelengths_in_disorder_are_sorted_or_refused() -> None:
    extraction = make_extraction(wave=[5.0, 9.0, 7.0, 8.0], bad=[2])
    spectrum = extraction.to_spectrum()
    flux = extraction.columns["FLUX"]
    np.testing.assert_array_equal(spectrum.spectral_axis.value, [5.0, 7.0, 8.0, 9.0])
    assert spectrum.flux.value[1] == pytest.approx(flux[0] + (flux[3] - flux[0]) * 2 / 3)
    with pytest.raises(LRSError, match="are not monotonic"):
        extraction.to_spectrum(order="file")


def test_equal_wavelengths_keep_the_file_order() -> None:
    extraction = make_extraction(wave=[9.0, 8.0, 8.0, 8.0, 7.0], bad=[2])
    flux = extraction.columns["FLUX"]
    up, down = (to_spectrum(extraction, order=order) for order in ORDERS)
    np.testing.assert_array_equal(up.flux.value[[0, 1, 3, 4]], flux[[4, 3, 1, 0]])
    np.testing.assert_array_equal(down.flux.value[[0, 1, 3, 4]], flux[[0, 1, 3, 4]])
    assert up.flux.value[2] in (flux[1], flux[3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column": "FLUX_EROR"}, "'FLUX_EROR' \\(did you mean 'FLUX_ERROR'\\?\\)"),
        ({"column": "WAVELENGTH"}, "found 'WAVELENGTH'.*expected one of FLUX"),
        ({"order": "descending"}, "order: found 'descending'.*expected 'ascending' or 'file'"),
        ({"fill": "NaN"}, "fill: found 'NaN' \\(did you mean 'nan'\\?\\)"),
    ],
)
def test_wrong_keywords_are_named(options: dict[str, str], message: str) -> None:
    with pytest.raises(LRSError, match=message) as caught:
        make_extraction().to_spectrum(**options)
    assert "\n" not in str(caught.value)


# --- back to an extraction ------------------------------------------------------------------------


def assert_same(one: Extraction, other: Extraction, rows: Any = slice(None)) -> None:
    assert list(one.columns) == list(COLUMNS)
    for name in COLUMNS:
        np.testing.assert_array_equal(one.columns[name], other.columns[name][..., rows])


@pytest.mark.parametrize("integrations", [None, 3])
@pytest.mark.parametrize("bad", [(), (0, 11, 12)])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("column", ["FLUX", "BACKGROUND", "NPIXELS"])
def test_unchanged_spectrum_is_the_complete_extraction(
    integrations: int | None, bad: tuple[int, ...], order: str, fill: str, column: str
) -> None:
    extraction = make_extraction(integrations=integrations, bad=bad)
    spectrum = to_spectrum(extraction, column, order, fill)
    back = spectrum_to_extraction(spectrum)
    assert_same(back, extraction)
    assert back.keywords == extraction.keywords
    assert back.provenance is extraction.provenance


def test_region_keeps_the_columns_of_its_rows() -> None:
    extraction = make_extraction(bad=[15, 16])
    region = SpectralRegion(5 * u.um, 12 * u.um)
    back = spectrum_to_extraction(extract_region(extraction.to_spectrum(), region))
    rows = (extraction.wavelength >= 5) & (extraction.wavelength <= 12)
    assert 5 < rows.sum() < 40
    assert_same(back, extraction, rows)


def test_slices_of_a_stack_keep_their_times() -> None:
    extraction = make_extraction(integrations=5, bad=[4])
    spectrum = extraction.to_spectrum()
    back = spectrum_to_extraction(spectrum[1:3])
    assert back.times is not None
    assert back.times["INT_NUM"].tolist() == [2, 3]
    for name in COLUMNS:
        np.testing.assert_array_equal(back.columns[name], extraction.columns[name][1:3])
    back = spectrum_to_extraction(spectrum[4])
    np.testing.assert_array_equal(back.columns["BACKGROUND"], extraction.columns["BACKGROUND"][4])


def _masked(spectrum: Spectrum) -> Spectrum:
    mask = np.zeros(spectrum.shape, dtype=bool) if spectrum.mask is None else spectrum.mask.copy()
    mask[3] = True
    return Spectrum(
        flux=spectrum.flux,
        spectral_axis=spectrum.spectral_axis,
        uncertainty=spectrum.uncertainty,
        mask=mask,
        meta=spectrum.meta,
    )


def _wider_error(spectrum: Spectrum) -> Spectrum:
    return Spectrum(
        flux=spectrum.flux,
        spectral_axis=spectrum.spectral_axis,
        uncertainty=VarianceUncertainty(4.0 * spectrum.uncertainty.array**2 * u.Jy**2),
        mask=spectrum.mask,
        meta=spectrum.meta,
    )


CHANGES: dict[str, tuple[Callable[[Spectrum], Spectrum], float, float]] = {
    "times two": (lambda s: s * 2, 2.0, 2.0),
    "plus a constant": (lambda s: s + 0 * u.Jy + 1e-3 * u.Jy, 1.0, 1.0),
    "in mJy": (lambda s: s.with_flux_unit("mJy"), 1.0, 1.0),
    "smoothed": (lambda s: box_smooth(s, 3), 1.0, 1.0),
    "masked": (_masked, 1.0, 1.0),
    "errors": (_wider_error, 1.0, 2.0),
}


@pytest.mark.parametrize("bad", [(), (0, 11)])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("change", CHANGES)
def test_changed_spectrum_keeps_only_its_own_columns(
    bad: tuple[int, ...], order: str, change: str
) -> None:
    extraction = make_extraction(bad=bad)
    spectrum = CHANGES[change][0](to_spectrum(extraction, order=order))
    back = spectrum_to_extraction(spectrum)
    assert list(back.columns) == ["WAVELENGTH", "FLUX", "FLUX_ERROR", "DQ"]
    assert back.units == {"WAVELENGTH": "um", "FLUX": "Jy", "FLUX_ERROR": "Jy"}
    np.testing.assert_array_equal(back.wavelength, extraction.wavelength)
    turn = slice(None, None, -1 if order == "ascending" else 1)
    lost = np.isnan(extraction.columns["FLUX"])
    flux = spectrum.flux.to_value(u.Jy)[turn]
    error = spectrum.uncertainty.represent_as(StdDevUncertainty).quantity.to_value(u.Jy)[turn]
    np.testing.assert_allclose(back.columns["FLUX"], np.where(lost, np.nan, flux), rtol=1e-15)
    np.testing.assert_allclose(
        back.columns["FLUX_ERROR"], np.where(lost, np.nan, error), rtol=1e-15
    )
    mask = lost if spectrum.mask is None else spectrum.mask[turn]
    np.testing.assert_array_equal(back.columns["DQ"], mask.astype(np.uint32))
    if change == "masked":
        assert back.columns["DQ"].sum() == len(bad) + 1  # the user's row keeps its number
    assert back.provenance is not None
    assert back.findings[0].text == "as measured"
    assert "changed after the extraction" in back.findings[1].text
    assert back.keywords == extraction.keywords


def test_changed_values_are_the_right_ones() -> None:
    extraction = make_extraction(bad=[7])
    for change in ("times two", "in mJy", "errors"):
        function, flux, error = CHANGES[change]
        back = spectrum_to_extraction(function(extraction.to_spectrum()))
        for name, factor in (("FLUX", flux), ("FLUX_ERROR", error)):
            np.testing.assert_allclose(
                back.columns[name], factor * extraction.columns[name], rtol=1e-14
            )


def test_same_values_in_another_unit_are_a_change() -> None:
    spectrum = make_extraction().to_spectrum()
    other = Spectrum(
        flux=spectrum.flux.value * u.mJy,
        spectral_axis=spectrum.spectral_axis,
        uncertainty=StdDevUncertainty(spectrum.uncertainty.array * u.mJy),
        meta=spectrum.meta,
    )
    back = spectrum_to_extraction(other)
    assert list(back.columns) == ["WAVELENGTH", "FLUX", "FLUX_ERROR", "DQ"]
    np.testing.assert_allclose(back.columns["FLUX"][::-1], 1e-3 * spectrum.flux.value)


def test_changed_stack_keeps_times_only_if_they_fit() -> None:
    spectrum = make_extraction(integrations=4).to_spectrum()
    back = spectrum_to_extraction(spectrum * 2)
    assert back.times is not None
    assert back.columns["FLUX"].shape == (4, 40)
    assert spectrum_to_extraction((spectrum * 2)[1:3]).times is None


def test_flux_density_becomes_jansky() -> None:
    extraction = make_extraction()
    spectrum = extraction.to_spectrum()
    wave = spectrum.spectral_axis
    unit = u.Unit("erg / (s cm2 AA)")
    flux = spectrum.flux.to(unit, u.spectral_density(u.Quantity(wave)))
    error = spectrum.uncertainty.quantity.to(unit, u.spectral_density(u.Quantity(wave)))
    made = Spectrum(flux=flux, spectral_axis=wave, uncertainty=StdDevUncertainty(error))
    back = spectrum_to_extraction(made)
    np.testing.assert_allclose(back.columns["FLUX"], spectrum.flux.value, rtol=1e-13)
    np.testing.assert_allclose(back.columns["FLUX_ERROR"], spectrum.uncertainty.array, rtol=1e-13)


def test_spectral_axis_in_other_units() -> None:
    frequency = np.linspace(20e3, 100e3, 12) * u.GHz
    back = spectrum_to_extraction(Spectrum(flux=np.arange(12) * u.Jy, spectral_axis=frequency))
    expected = frequency.to_value(u.um, u.spectral())
    np.testing.assert_allclose(back.wavelength, expected, rtol=1e-15)
    assert back.units["FLUX"] == "Jy"
    assert "FLUX_ERROR" not in back.columns
    made = Spectrum(flux=np.ones(3) * u.Jy, spectral_axis=np.arange(3) * u.pix)
    with pytest.raises(LRSError, match="the spectral axis is in pix"):
        spectrum_to_extraction(made)


def test_resampled_spectrum_has_no_original() -> None:
    extraction = make_extraction(bad=[20])
    spectrum = extraction.to_spectrum()
    grid = np.linspace(5.0, 12.0, 15) * u.um
    resampled = LinearInterpolatedResampler()(spectrum, grid)
    resampled.meta.update(spectrum.meta)  # even if the user copies the meta
    back = spectrum_to_extraction(resampled)
    assert list(back.columns) == ["WAVELENGTH", "FLUX", "FLUX_ERROR", "DQ"]
    np.testing.assert_allclose(back.wavelength[::-1], grid.value)  # descends, as in the file
    np.testing.assert_array_equal(back.columns["FLUX"][::-1], resampled.flux.value)


def test_other_units_than_flux_cannot_be_written() -> None:
    """They would be read as Jy."""
    spectrum = make_extraction().to_spectrum()
    with pytest.raises(LRSError, match="the flux is in no unit, expected a unit that converts"):
        spectrum_to_extraction(spectrum / (2 * u.Jy))
    with pytest.raises(LRSError, match="the flux is in m, expected a unit that converts"):
        spectrum_to_extraction(
            Spectrum(flux=np.ones(4) * u.m, spectral_axis=np.arange(1, 5) * u.um)
        )


def test_other_columns_cannot_be_changed_and_written() -> None:
    for column in ("NPIXELS", "SURF_BRIGHT"):  # which would be read as a flux
        with pytest.raises(LRSError, match=f"from the column {column} and changed since"):
            spectrum_to_extraction(make_extraction().to_spectrum(column) * 2)
    cube = Spectrum(
        flux=np.ones((2, 3, 4)) * u.Jy, spectral_axis=np.arange(1, 5) * u.um, spectral_axis_index=2
    )
    with pytest.raises(LRSError, match="has 3 axes, expected 1 or 2"):
        spectrum_to_extraction(cube)


def test_a_masked_row_that_was_filled_is_not_written_as_measured() -> None:
    """A flagged row with a flux: its value is interpolated, also in a changed spectrum."""
    extraction = make_extraction()
    dq = extraction.columns["DQ"].copy()
    dq[3] = 1
    flagged = replace(extraction, columns=extraction.columns | {"DQ": dq})
    back = spectrum_to_extraction(flagged.to_spectrum() * 2)
    assert np.isnan(back.columns["FLUX"]).any()
    row = int(np.flatnonzero(np.isclose(back.wavelength, extraction.wavelength[3]))[0])
    assert np.isnan(back.columns["FLUX"][row])
    assert back.columns["DQ"][row] == 1


# --- images ---------------------------------------------------------------------------------------


OPERATORS = [
    Extract1D(aperture=Aperture(xstart=2.3, xstop=13.8)),
    Extract1D(
        aperture=Aperture(xstart=2, xstop=13),
        background=Background(bkg_coeff=((14.5,), (18.5,)), bkg_fit="median"),
    ),
]


@pytest.mark.parametrize("shape", [(30, 20), (3, 30, 20)])
def test_image_as_spectrum(make_image: Callable[..., SlitImage], shape: tuple[int, ...]) -> None:
    image = marked(make_image, shape)
    spectrum = image.to_spectrum()
    assert spectrum.shape == (*shape[:-2], 20, 29)
    assert spectrum.spectral_axis_index == len(shape) - 1
    np.testing.assert_array_equal(spectrum.spectral_axis.value, image.wavelength[:0:-1, 0])
    assert spectrum.unit == image.unit
    transposed = np.swapaxes(image.data[..., :0:-1, :], -1, -2)
    np.testing.assert_array_equal(spectrum.flux.value, transposed)
    transposed = np.swapaxes(image.err[..., :0:-1, :], -1, -2)  # type: ignore[index]
    np.testing.assert_array_equal(spectrum.uncertainty.array, transposed)
    expected = np.zeros(shape, dtype=bool)
    for pixel in ((4, 5), (5, 6), (6, 7), (7, 8)):
        expected[(..., *pixel)] = True
    np.testing.assert_array_equal(spectrum.mask, np.swapaxes(expected[..., :0:-1, :], -1, -2))
    assert spectrum.meta["header"].tostring() == image.header.tostring()
    assert make_image(shape).to_spectrum().mask is None


def test_wavelength_of_a_tilted_row_is_the_median(make_image: Callable[..., SlitImage]) -> None:
    image = make_image()
    tilted = image.wavelength.astype(float) + 0.01 * np.arange(20)
    tilted[3, 4:] = np.nan
    spectrum = replace(image, wavelength=tilted).to_spectrum()
    expected = [np.median(row[np.isfinite(row)]) for row in tilted[::-1]]
    np.testing.assert_allclose(spectrum.spectral_axis.value, expected, rtol=1e-15)
    with pytest.raises(LRSError, match="no pixel has a wavelength"):
        replace(image, wavelength=np.full((30, 20), np.nan)).to_spectrum()


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("shape", [(30, 20), (3, 30, 20)])
def test_unchanged_spectrum_extracts_to_the_same_numbers(
    make_image: Callable[..., SlitImage], operator: Extract1D, shape: tuple[int, ...]
) -> None:
    image = marked(make_image, shape)
    spectrum = image.to_spectrum()
    assert SlitImage.from_spectrum(spectrum) is image
    direct, through = operator.run(image), operator.run(spectrum)
    for name in COLUMNS:
        np.testing.assert_array_equal(through.columns[name], direct.columns[name])


@pytest.mark.parametrize("operator", OPERATORS)
def test_changed_spectrum_extracts_to_its_own_numbers(
    make_image: Callable[..., SlitImage], operator: Extract1D
) -> None:
    image = marked(make_image)
    direct = operator.run(image)
    twice = operator.run(image.to_spectrum() * 2)
    np.testing.assert_array_equal(twice.wavelength, direct.wavelength)
    np.testing.assert_allclose(twice.columns["FLUX"], 2 * direct.columns["FLUX"], rtol=1e-6)
    np.testing.assert_allclose(
        twice.columns["FLUX_ERROR"], 2 * direct.columns["FLUX_ERROR"], rtol=1e-6
    )
    np.testing.assert_array_equal(twice.columns["NPIXELS"], direct.columns["NPIXELS"])
    np.testing.assert_allclose(
        twice.columns["FLUX_VAR_POISSON"], twice.columns["FLUX_ERROR"] ** 2, rtol=1e-12
    )
    assert not twice.columns["FLUX_VAR_RNOISE"].any()
    assert twice.provenance is not None
    assert twice.provenance["input"] is None


def test_mask_of_the_user_is_used(make_image: Callable[..., SlitImage]) -> None:
    image = make_image()
    spectrum = image.to_spectrum()
    spectrum.mask = np.zeros(spectrum.shape, dtype=bool)
    assert SlitImage.from_spectrum(spectrum) is image  # nothing is masked, as before
    mask = np.zeros(spectrum.shape, dtype=bool)
    mask[6, -3] = True  # column 6, third row
    spectrum.mask = mask
    changed = SlitImage.from_spectrum(spectrum)
    assert changed.dq is not None
    assert np.argwhere(changed.dq).tolist() == [[2, 6]]
    np.testing.assert_array_equal(changed.data, image.data)
    pixels = OPERATORS[0].run(spectrum).columns["NPIXELS"]
    assert pixels[0] - pixels[2] == pytest.approx(1.0)


def test_uncertainty_of_the_user_is_used(make_image: Callable[..., SlitImage]) -> None:
    image = make_image()
    spectrum = image.to_spectrum()
    spectrum.uncertainty = StdDevUncertainty(3 * spectrum.uncertainty.array)
    direct, changed = (OPERATORS[0].run(one) for one in (image, spectrum))
    np.testing.assert_array_equal(changed.columns["FLUX"], direct.columns["FLUX"])
    np.testing.assert_allclose(
        changed.columns["FLUX_ERROR"], 3 * direct.columns["FLUX_ERROR"], rtol=1e-6
    )


def test_rows_of_a_region_keep_their_index(make_image: Callable[..., SlitImage]) -> None:
    image = replace(marked(make_image), wcs_source=lambda: None, filename="f_s2d.fits")
    part = extract_region(image.to_spectrum(), SpectralRegion(7 * u.um, 11 * u.um))
    changed = SlitImage.from_spectrum(part)
    inside = (image.wavelength[:, 0] >= 7) & (image.wavelength[:, 0] <= 11)
    assert changed.shape == image.shape
    np.testing.assert_array_equal(np.isfinite(changed.wavelength).all(axis=1), inside)
    np.testing.assert_array_equal(changed.data[inside], image.data[inside])
    assert changed.wcs_source is image.wcs_source
    assert changed.filename is None
    direct, cut = (OPERATORS[0].run(one) for one in (image, part))
    rows = np.isin(direct.wavelength, cut.wavelength)
    np.testing.assert_allclose(cut.columns["FLUX"], direct.columns["FLUX"][rows], rtol=1e-12)


def test_other_columns_have_no_wcs(make_image: Callable[..., SlitImage]) -> None:
    image = replace(make_image(), wcs_source=lambda: None)
    changed = SlitImage.from_spectrum(image.to_spectrum()[3:11])
    assert changed.wcs_source is None
    np.testing.assert_array_equal(changed.data, image.data[:, 3:11])
    np.testing.assert_array_equal(changed.wavelength, image.wavelength[:, 3:11])


def test_one_integration_of_a_stack(make_image: Callable[..., SlitImage]) -> None:
    image = marked(make_image, (3, 30, 20))
    stack, one = OPERATORS[0].run(image), OPERATORS[0].run(image.to_spectrum()[1])
    np.testing.assert_allclose(one.columns["FLUX"], stack.columns["FLUX"][1], rtol=1e-12)
    np.testing.assert_allclose(one.columns["FLUX_ERROR"], stack.columns["FLUX_ERROR"][1], rtol=1e-6)


def test_convertible_units_are_converted(make_image: Callable[..., SlitImage]) -> None:
    image = make_image()
    spectrum = image.to_spectrum()
    other = Spectrum(
        flux=spectrum.flux.to("Jy / arcsec2"),
        spectral_axis=spectrum.spectral_axis,
        uncertainty=StdDevUncertainty(spectrum.uncertainty.quantity.to("Jy / arcsec2")),
        meta=spectrum.meta,
        spectral_axis_index=1,
    )
    changed = SlitImage.from_spectrum(other)
    np.testing.assert_allclose(changed.data, image.data, rtol=1e-6)
    np.testing.assert_allclose(changed.err, image.err, rtol=1e-6)


def test_spectrum_without_an_image_is_an_error(make_image: Callable[..., SlitImage]) -> None:
    foreign = Spectrum(
        flux=np.ones((4, 6)) * u.Jy, spectral_axis=np.arange(1, 7) * u.um, spectral_axis_index=1
    )
    with pytest.raises(LRSError, match=r"has no meta\['image'\], expected one read with"):
        OPERATORS[0](foreign)
    with pytest.raises(LRSError, match="a unit that converts to MJy / sr"):
        SlitImage.from_spectrum(make_image().to_spectrum() * (2e-13 * u.sr))
    with pytest.raises(LRSError, match="has 1 axes, expected 2 or 3"):
        SlitImage.from_spectrum(make_image().to_spectrum()[3])
