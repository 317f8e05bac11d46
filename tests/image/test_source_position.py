"""Position of the source from header and WCS."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord

from glue_lrs import Extract1D, SlitImage
from glue_lrs.image.source_position import SourcePosition, expected_position, header_column
from glue_lrs.simulation import Scene
from glue_lrs.spectra.findings import Finding


def moved(image: SlitImage, across: float) -> SlitImage:
    """An image whose target in the header is some arcsec away across the slit."""
    wcs, (_, (bottom, top)) = image.wcs, image.bounding_box
    assert wcs is not None
    found = expected_position(image)
    assert isinstance(found, SourcePosition)
    row = (bottom + top) / 2.0
    here, there = (SkyCoord(*wcs(found.column + c, row)[:2], unit="deg") for c in (0.0, 5.0))
    direction = here.position_angle(there) + 90.0 * u.deg
    target = SkyCoord(image.source_ra, image.source_dec, unit="deg")
    target = target.directional_offset_by(direction, across * u.arcsec)
    return replace(image, source_ra=float(target.ra.deg), source_dec=float(target.dec.deg))


@pytest.mark.parametrize("product", ["s2d", "cal", "combined"])
def test_a_target_off_the_slit_has_no_position(product: str) -> None:
    """The inverse of the WCS drops the distance from the slit."""
    image = getattr(Scene(seed=1), product)().image
    assert isinstance(expected_position(moved(image, 1.0)), SourcePosition)
    assert header_column(moved(image, 1.0)) is not None
    off = moved(image, 60.0)
    assert expected_position(off) == "DITH_RA, DITH_DEC is 60 arcsec from the slit"
    assert header_column(off) is None
    operator = Extract1D.from_reference(None, image.exp_type, use_source_posn=True)
    findings: list[Finding] = []
    assert operator.place(off, findings).position is None
    assert [one.kind for one in findings] == ["position_unknown"]
    assert "is 60 arcsec from the slit" in findings[0].text


def test_a_bounding_box_far_beyond_the_image_gives_no_position() -> None:
    """As in a damaged file, for which there would be too many columns to compute."""
    image = Scene(seed=1).s2d().image
    wcs = copy.deepcopy(image.wcs)
    assert wcs is not None
    wcs.bounding_box = ((-0.5, 1e12), (-0.5, 386.5))
    found = expected_position(replace(image, wcs_source=wcs))
    assert found == "the WCS bounding box ends at column 1e+12, the image has 45"
