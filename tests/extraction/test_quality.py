"""Each extractor sets the quality bits of the rows that have a defect, and of no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from glue_lrs import Aperture, Background, Extract1D, PSFProfile, SlitImage
from glue_lrs.spectra.quality import quality_counts
from tests.helpers.drizzle import drizzled
from tests.helpers.images import ROWS, SOURCE, slit, stack

pytestmark = pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning")

#: Rows of the image in which a pixel at the source, a distant one, or the aperture is bad.
PEAK, ASIDE, EMPTY = 10, 15, 20

#: The profile of the image, a Gaussian of 1.5 columns.
_OFFSET = np.arange(-150, 151) / 10.0
PSF = PSFProfile(
    data=np.tile(np.exp(-0.5 * (_OFFSET / 1.5) ** 2), (2, 1)), wave=[3.0, 16.0], subpix=10.0,
    center=150.0,
)  # fmt: skip


def spoiled() -> SlitImage:
    data = np.array(slit().data)
    data[PEAK, 12] = np.nan
    data[ASIDE, 40] = np.nan
    data[EMPTY] = np.nan
    return slit(data=data)


def box(**options: object) -> Extract1D:
    return Extract1D(aperture=Aperture(xstart=9, xstop=16), **options)


def rows(operator: Extract1D, image: SlitImage, name: str) -> list[int]:
    found = operator.run(image)
    return np.flatnonzero(found.quality_mask(name)).tolist()


EXTRACTORS: dict[str, Callable[[], Extract1D]] = {
    "box": box,
    "psf": lambda: box(extraction_type="optimal", optimal_mode="psf", psf=PSF),
    "pipeline": lambda: box(
        extraction_type="optimal", psf=PSF, optimize_psf_location=False, use_source_posn=True
    ),
}


@pytest.mark.parametrize("name", EXTRACTORS)
def test_lost_pixels_and_clean_data(name: str) -> None:
    operator = EXTRACTORS[name]()
    assert not quality_counts(operator.run(slit()).columns["QUALITY"])
    for check in (True, False):
        found = operator.run(spoiled(), check=check)
        assert quality_counts(found.columns["QUALITY"]) == {"lost": 2}
    assert rows(operator, spoiled(), "lost") == [PEAK, EMPTY]


def test_restored_and_uncorrected_pixels() -> None:
    data = np.array(spoiled().data)
    data[25, 10:15] = np.nan
    operator = box(bad_pixels="profile", psf=PSF)
    found = operator.run(slit(data=data))
    assert_array_equal(np.flatnonzero(found.quality_mask("restored")), [PEAK])
    assert_array_equal(np.flatnonzero(found.quality_mask("uncorrected")), [EMPTY, 25])
    assert_array_equal(np.flatnonzero(found.quality_mask("lost")), [EMPTY, 25])
    assert found.mask[25]


@pytest.mark.parametrize("name", EXTRACTORS)
def test_filled_pixels(name: str) -> None:
    operator = EXTRACTORS[name]()
    # The first and the last row of the image have no values.
    found = operator.run(drizzled(slit(), ((9, 12), (21, 30))))
    assert quality_counts(found.columns["QUALITY"]) == {"lost": 2, "filled": 1}
    assert found.quality_mask("filled")[9]
    lost = replace(operator, filled_pixels="lost").run(drizzled(slit(), ((9, 12), (21, 30))))
    assert quality_counts(lost.columns["QUALITY"]) == {"lost": 3}


def test_rejected_pixels_and_misfit() -> None:
    data = np.array(slit().data)
    data[10, 12] += 500.0  # a cosmic ray at the peak, and one aside
    data[15, 30] += 500.0
    data[20, 9:16:2] += [300.0, 500.0, 400.0, 600.0]
    operator = EXTRACTORS["psf"]()
    found = operator.run(slit(data=data))
    assert rows(operator, slit(data=data), "rejected")[0] == 10
    assert not found.quality_mask("rejected")[15]
    assert not found.quality_mask("lost").any()
    assert_array_equal(np.flatnonzero(found.quality_mask("misfit")), [20])
    assert found.mask[20]


def test_misfit_of_one_integration() -> None:
    image = stack()
    data = np.array(image.data)
    data[2, 10, 35] += 5000.0
    data[3, 12, 35] = np.nan
    operator = Extract1D(
        aperture=Aperture(xstart=31, xstop=39), extraction_type="optimal", optimal_mode="psf",
        psf=PSF,
    )  # fmt: skip
    found = operator.run(replace(image, data=data))
    assert found.quality_mask("rejected")[2, 10]
    assert found.quality_mask("rejected").sum() <= 2  # 5 integrations of 40 rows
    assert_array_equal(np.argwhere(found.quality_mask("lost")), [[3, 12]])


def test_apertures_beyond_the_image() -> None:
    for aperture, expected in (
        (Aperture(xstart=-2, xstop=16), ROWS),
        (Aperture.from_edges(-0.5, 16.5), 0),  # ends with the image
        (Aperture(), 0),
        (Aperture(extract_width=8, xstart=40, xstop=48), ROWS),
        (Aperture.from_edges((40.0, 0.1), (44.0, 0.1)), 20),  # reaches 46 in row 20
        (Aperture(src_coeff=[[-3.0], [3.0], [20.0], [30.0]]), ROWS),
    ):
        found = Extract1D(aperture=aperture).run(slit())
        assert found.quality_mask("edge").sum() == pytest.approx(expected, abs=1)
    no_wavelength = np.array(slit().wavelength)
    no_wavelength[:, :12] = np.nan
    found = box().run(slit(wavelength=no_wavelength))
    assert found.quality_mask("edge").all()
    for name in ("psf", "pipeline"):
        x = np.arange(46.0)
        data = np.array(slit().data) + 50.0 * np.exp(-0.5 * ((x - 45.0) / 1.5) ** 2)
        operator = replace(
            EXTRACTORS[name](), aperture=Aperture(xstart=43, xstop=45), position_offset=0.0
        )
        if name == "pipeline":  # it places the profile by the header
            operator = replace(operator, position_offset=45.0 - SOURCE)
        found = operator.run(slit(data=data.astype(np.float32)))
        assert found.quality_mask("edge").all()


def test_rows_without_background_or_error() -> None:
    data, variance = np.array(slit().data), np.array(slit().var_rnoise)
    data[7, 30:] = np.nan
    variance[9] = -100.0
    image = slit(data=data, var_rnoise=variance)
    background = Background.from_edges((30.0, 40.0))
    operator = box(background=background)
    assert rows(operator, image, "no_background") == [7]
    assert rows(operator, image, "no_error") == [9]
    images = np.stack([image.data, slit().data])
    changes = {
        name: np.stack([getattr(image, name)] * 2)
        for name in ("err", "var_poisson", "var_rnoise", "var_flat")
    }
    found = operator.run(slit(data=images, **changes))
    assert_array_equal(np.argwhere(found.quality_mask("no_background")), [[0, 7]])


@pytest.mark.parametrize("first", [0, 1])
def test_overlapping_boxes_inside_the_image_are_not_at_its_edge(first: int) -> None:
    image = slit()
    found = Extract1D(aperture=Aperture(src_coeff=[[first], [6], [4], [10]])).run(image)
    assert not found.quality_mask("edge").any()
    over = Extract1D(aperture=Aperture(src_coeff=[[-3], [2], [1], [6]])).run(image)
    assert over.quality_mask("edge").all()


def test_an_edge_that_depends_on_the_wavelength_and_rows_without_one() -> None:
    wave = np.array(slit().wavelength)
    wave[5] = np.nan
    aperture = Aperture(src_coeff=[[-2.0, 0.1], [6.0]], independent_var="wavelength")
    found = Extract1D(aperture=aperture).run(slit(wavelength=wave))
    # More than half a pixel is beyond the image where the edge is left of -1.
    assert_array_equal(found.quality_mask("edge"), found.wavelength < 10.0)


def test_columns_without_data_are_an_edge() -> None:
    data = slit().data.copy()
    data[:, :11] = np.nan
    for check in (True, False):
        found = Extract1D(aperture=Aperture(xstart=9, xstop=16)).run(slit(data=data), check=check)
        assert found.quality_mask("edge").all()
        assert not found.quality_mask("lost").any()
