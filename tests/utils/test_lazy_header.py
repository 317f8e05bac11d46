"""Headers of images, extractions and spectra are independent and copied at first access."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from specutils import Spectrum
from specutils.manipulation import extract_region
from specutils.spectra import SpectralRegion

from glue_lrs import Aperture, Background, Extract1D
from glue_lrs._utils.lazy_header import LazyHeader  # noqa: PLC2701 - tested as a unit
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.to_specutils import Meta

Make = Callable[..., SlitImage]

EXTRACT = Extract1D(aperture=Aperture(xstart=7, xstop=12), background=Background.from_edges((0, 5)))


def cards() -> fits.Header:
    header = fits.Header()
    header["TARGNAME"] = ("BD+60 1753", "the target")
    header["DETECTOR"] = "MIRIMAGE"
    header["HISTORY"] = "made for a test"
    return header


@pytest.fixture
def image(make_image: Make) -> SlitImage:
    return make_image(header=cards(), sci_header=fits.Header({"BUNIT": "MJy/sr"}))


def is_copied(header: fits.Header) -> bool:
    return isinstance(header, LazyHeader) and len(header.__dict__) > 1


def test_a_header_equals_the_original() -> None:
    header = LazyHeader.from_header(cards())
    assert not is_copied(header)
    assert isinstance(header, fits.Header)
    assert header["TARGNAME"] == "BD+60 1753"
    assert is_copied(header)
    assert header.comments["TARGNAME"] == "the target"
    assert list(header["HISTORY"]) == ["made for a test"]
    assert header.tostring() == LazyHeader.from_header(cards()).tostring() == cards().tostring()
    assert len(LazyHeader.from_header(cards())) == 3
    assert "DETECTOR" in LazyHeader.from_header(cards())
    assert fits.PrimaryHDU(header=LazyHeader.from_header(cards())).header["DETECTOR"] == "MIRIMAGE"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = LazyHeader.from_header(cards()).nonsense


CHANGES: dict[str, Callable[[fits.Header], Any]] = {
    "value": lambda header: header.__setitem__("TARGNAME", "changed"),
    "new": lambda header: header.__setitem__("TARGET2", "changed"),
    "comment": lambda header: header.comments.__setitem__("TARGNAME", "changed"),
    "card": lambda header: setattr(header.cards["TARGNAME"], "value", "changed"),
    "history": lambda header: header.add_history("changed"),
    "removed": lambda header: header.remove("TARGNAME"),
    "renamed": lambda header: header.rename_keyword("TARGNAME", "TARGET"),
    "update": lambda header: header.update({"TARGNAME": "changed"}),
    "cleared": lambda header: header.clear(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("looked_at", [False, True])
@pytest.mark.parametrize(
    "made",
    [LazyHeader.from_header, copy.copy, copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))],
)
def test_a_change_does_not_affect_copies(
    change: str, looked_at: bool, made: Callable[[LazyHeader], fits.Header]
) -> None:
    # Read from a file: no card is marked as modified.
    first = LazyHeader.from_header(fits.Header.fromstring(cards().tostring()))
    if looked_at:
        assert first["TARGNAME"]
    second = made(first)
    third = made(first)
    CHANGES[change](first)
    assert second.tostring() == cards().tostring()
    CHANGES[change](second)
    assert first.tostring() == second.tostring() != cards().tostring()
    assert third.tostring() == cards().tostring()
    after = made(first)  # with the changes
    assert after.tostring() == first.tostring()


def test_access_from_many_threads() -> None:
    many = fits.Header({f"KEY{number}": number for number in range(500)})
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            header = LazyHeader.from_header(many)
            assert list(pool.map(lambda key, h=header: h[f"KEY{key}"], range(40))) == list(
                range(40)
            )


def test_the_original_header_is_not_changed(image: SlitImage) -> None:
    one, other = EXTRACT(image), EXTRACT(image)
    extraction = EXTRACT.run(image)
    third, fourth = extraction.to_spectrum(), extraction.to_spectrum("SURF_BRIGHT")
    flat = image.to_spectrum()
    second = replace(image, source_type="EXTENDED")
    holders = [
        image.header,
        extraction.header,
        extraction.table.meta["header"],
        second.header,
        *(s.meta["header"] for s in (one, other, third, fourth, flat)),
        *(s.meta["extraction"].header for s in (one, other)),
    ]
    assert len({id(header) for header in holders}) == len(holders)
    for number, header in enumerate(holders):
        assert "OBSERVER" not in header
        header["OBSERVER"] = f"number {number}"
    for number, header in enumerate(holders):
        assert header["OBSERVER"] == f"number {number}"
    flat.meta["sci_header"]["BUNIT"] = "Jy"
    assert image.sci_header["BUNIT"] == "MJy/sr"


def test_a_later_change_of_the_image_does_not_reach_its_spectra(image: SlitImage) -> None:
    before = EXTRACT(image)
    image.header["TARGNAME"] = "another"
    assert before.meta["header"]["TARGNAME"] == "BD+60 1753"
    assert before.meta["extraction"].header["TARGNAME"] == "BD+60 1753"
    assert EXTRACT(image).meta["header"]["TARGNAME"] == "another"


def test_an_extraction_copies_no_header(image: SlitImage, tmp_path: Path) -> None:
    spectrum = EXTRACT(image)
    moved = extract_region(spectrum * 2.0, SpectralRegion(6.0 * u.um, 12.0 * u.um))
    assert isinstance(spectrum.meta, Meta)
    for header in (image.header, spectrum.meta["header"], spectrum.meta["extraction"].header):
        assert not is_copied(header)
    assert moved.meta["header"]["TARGNAME"] == "BD+60 1753"
    assert not is_copied(spectrum.meta["header"])
    moved.meta["header"]["TARGNAME"] = "another"
    assert spectrum.meta["header"]["TARGNAME"] == "BD+60 1753"


def test_a_deep_copy_of_meta_shares_the_original(make_image: Make) -> None:
    stack = make_image((3, 30, 20), header=cards())
    spectrum = EXTRACT(stack)
    spectrum.meta["mine"] = [1, 2]
    made = copy.deepcopy(spectrum.meta)
    assert type(made) is Meta
    assert made["extraction"] is spectrum.meta["extraction"]
    for key in ("header", "times", "mine"):
        assert made[key] is not spectrum.meta[key]
    assert made["mine"] == [1, 2]
    flat = copy.deepcopy(stack.to_spectrum().meta)
    assert flat["image"] is stack
    assert type(spectrum.meta.copy()) is Meta
    assert spectrum[1].meta["extraction"] is spectrum.meta["extraction"]  # specutils copies meta
    # A plain dict is copied completely.
    plain = copy.deepcopy(dict(spectrum.meta))
    assert plain["extraction"] is not spectrum.meta["extraction"]


def test_times_belong_to_their_spectrum(make_image: Make) -> None:
    extraction = EXTRACT.run(make_image((3, 30, 20)))
    one, other = extraction.to_spectrum(), extraction.to_spectrum()
    one.meta["times"]["INT_NUM"][:] = 7
    assert other.meta["times"]["INT_NUM"].tolist() == [1, 2, 3]
    assert extraction.times is not None
    assert extraction.times["INT_NUM"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("shape", [(30, 20), (3, 30, 20)])
def test_a_deep_copy_of_an_image_is_independent(shape: tuple[int, ...], make_image: Make) -> None:
    image = make_image(shape, header=cards(), dq=np.zeros(shape, dtype=np.uint32), path="/a.fits")
    made = copy.deepcopy(image)
    for name in ("data", "wavelength", "err", "var_poisson", "var_rnoise", "var_flat", "dq"):
        one, other = getattr(image, name), getattr(made, name)
        np.testing.assert_array_equal(one, other)
        assert not np.shares_memory(one, other)
    assert made.path == image.path
    made.header["TARGNAME"] = "another"
    assert image.header["TARGNAME"] == "BD+60 1753"
    before = EXTRACT.run(image).columns["FLUX"]
    made.data[...] = 0.0
    np.testing.assert_array_equal(EXTRACT.run(image).columns["FLUX"], before)
    both = copy.deepcopy([image, image])
    assert both[0] is both[1]


@pytest.mark.parametrize("shape", [(30, 20), (3, 30, 20)])
def test_a_deep_copy_of_an_extraction_is_independent(
    shape: tuple[int, ...], make_image: Make
) -> None:
    extraction = EXTRACT.run(make_image(shape, header=cards()))
    made = copy.deepcopy(extraction)
    assert made.keywords == extraction.keywords
    for name, values in extraction.columns.items():
        np.testing.assert_array_equal(made.columns[name], values)
        assert not np.shares_memory(made.columns[name], values)
    made.columns["FLUX"][...] = 0.0
    made.units["FLUX"] = "mJy"
    made.header["TARGNAME"] = "another"
    assert (extraction.columns["FLUX"] != 0).all()
    assert extraction.units["FLUX"] == "Jy"
    assert extraction.header["TARGNAME"] == "BD+60 1753"
    if extraction.times is not None and made.times is not None:
        made.times["INT_NUM"][:] = 7
        assert extraction.times["INT_NUM"].tolist() == [1, 2, 3]
    both = copy.deepcopy([extraction, extraction])
    assert both[0] is both[1]


def test_images_and_extractions_can_be_sent_to_another_process(image: SlitImage) -> None:
    extraction = EXTRACT.run(image)
    assert "DETECTOR" in extraction.keywords
    back: Extraction = pickle.loads(pickle.dumps(extraction))
    assert back.header.tostring() == cards().tostring()
    assert back.keywords == extraction.keywords
    for name, values in extraction.columns.items():
        np.testing.assert_array_equal(back.columns[name], values)
    spectrum = back.to_spectrum()
    assert isinstance(spectrum, Spectrum)
    again: SlitImage = pickle.loads(pickle.dumps(image))
    assert again.header.tostring() == cards().tostring()
    meta = pickle.loads(pickle.dumps(spectrum.meta))
    assert type(meta) is Meta
    assert meta["header"].tostring() == cards().tostring()
