"""Files that are changed, replaced, cut off or removed after they were read."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from glue_lrs import Extract1D, Reference, SlitImage
from glue_lrs.combination.combine import combine
from glue_lrs.errors import LRSError, LRSWarning, ProductError
from glue_lrs.extraction.rerun import rerun
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.measurement import measure
from glue_lrs.spectra.extraction import Extraction
from tests.helpers.images import correction, slit
from tests.mutations.products import REFERENCE


@pytest.fixture
def s2d(tmp_path: Path) -> Path:
    path = tmp_path / "a_s2d.fits"
    slit().write(path)
    return path


def other(path: Path, *, in_place: bool) -> None:
    """Put another image of the same size in the place of a file."""
    image = slit(data=slit().data * 2)
    new = path.with_name("new.fits")
    image.write(new)
    if in_place:
        path.write_bytes(new.read_bytes())
        new.unlink()
    else:
        os.replace(new, path)


def operator(**options: object) -> Extract1D:
    return Extract1D.from_reference(REFERENCE, "MIR_LRS-FIXEDSLIT", apply_apcorr=False, **options)


def test_a_replaced_image_is_extracted_as_it_was_read(s2d: Path, tmp_path: Path) -> None:
    """The map keeps the old content; the checksum of the new one is not recorded."""
    expected = operator().run(slit())
    image = SlitImage.read(s2d)
    other(s2d, in_place=False)
    extraction = operator().run(image)
    np.testing.assert_array_equal(extraction.columns["FLUX"], expected.columns["FLUX"])
    with pytest.warns(LRSWarning, match=r"a_s2d\.fits: has changed or was removed"):
        record = dict(extraction.provenance or {})
    assert record["input"] == {"filename": str(s2d), "sha256": None}
    different = pytest.raises(LRSError, match="the repeated extraction has a sum of FLUX")
    with pytest.warns(LRSWarning, match="no checksum was recorded"), different:
        rerun(record)


def test_an_image_that_is_replaced_after_the_extraction(s2d: Path) -> None:
    extraction = operator().run(SlitImage.read(s2d))
    other(s2d, in_place=False)
    with pytest.warns(LRSWarning, match="has changed or was removed"):
        assert (extraction.provenance or {})["input"]["sha256"] is None


def test_the_wcs_is_that_of_the_file_that_was_read(s2d: Path) -> None:
    image, same = SlitImage.read(s2d), slit()
    s2d.unlink()
    assert image.wcs is not None
    assert image.wcs(3.0, 4.0) == pytest.approx(same.wcs(3.0, 4.0), rel=1e-12)  # type: ignore[misc]


def test_a_result_is_written_when_its_input_has_gone(s2d: Path, tmp_path: Path) -> None:
    expected = dict(operator().run(SlitImage.read(s2d)).keywords)
    image = SlitImage.read(s2d)
    s2d.unlink()
    extraction = operator().run(image)
    with pytest.warns(LRSWarning, match="no checksum of it is recorded"):
        extraction.write(tmp_path / "a_x1d.fits")
    written = Extraction.read(tmp_path / "a_x1d.fits")
    assert written.keywords["SLIT_RA"] == expected["SLIT_RA"]


@pytest.mark.parametrize("cut", [False, True])
def test_an_image_that_is_overwritten_in_place_is_refused(s2d: Path, cut: bool) -> None:
    image = SlitImage.read(s2d)
    if cut:
        os.truncate(s2d, 6000)
    else:
        other(s2d, in_place=True)
    for use in (operator().run, measure, lambda one: one.write(s2d.with_name("b.fits"))):
        with pytest.raises(ProductError, match=r"a_s2d\.fits: was overwritten since it was read"):
            use(image)
    assert not s2d.with_name("b.fits").exists()


def test_an_image_in_memory_may_lose_its_file(s2d: Path) -> None:
    with fits.open(s2d) as hdulist:
        image = SlitImage.read(hdulist)
        expected = operator().run(image).columns["FLUX"]
    s2d.unlink()
    np.testing.assert_array_equal(operator().run(image).columns["FLUX"], expected)


def test_references_that_change(s2d: Path, tmp_path: Path) -> None:
    """Their checksums are those of the files that were read, or none."""
    table, document = tmp_path / "apcorr.fits", tmp_path / "extract1d.json"
    write_apcorr(correction(), table)
    document.write_text(json.dumps(REFERENCE))
    image = SlitImage.read(s2d)
    made = Extract1D.from_reference(Reference.read(document), image.exp_type, apcorr=table)
    complete = made.run(image).provenance or {}
    assert all(complete["references"][key]["sha256"] for key in ("apcorr", "extract1d"))
    extraction = made.run(image)
    document.write_text(json.dumps(REFERENCE) + " ")
    table.unlink()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        references = (extraction.provenance or {})["references"]
    assert {str(one.message).partition(":")[0] for one in caught} == {str(table), str(document)}
    assert references["apcorr"]["sha256"] is None
    assert references["extract1d"]["sha256"] is None


def test_inputs_of_a_combination_that_change(s2d: Path, tmp_path: Path) -> None:
    x1d = tmp_path / "a_x1d.fits"
    operator().run(SlitImage.read(s2d)).write(x1d)
    spectrum = Extraction.read(x1d)
    combined = combine([spectrum], weights="unit")
    x1d.write_bytes(x1d.read_bytes() + bytes(2880))
    with pytest.warns(LRSWarning, match=r"a_x1d\.fits: has changed or was removed"):
        assert combined.inputs[0].sha256 is None
