"""Objects at the prompt and in notebooks."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from matplotlib import image as pictures
from matplotlib import pyplot

from glue_lrs import (
    Aperture,
    ApertureCorrection,
    Background,
    Extract1D,
    OptimalExtractor,
    PSFProfile,
    Reference,
    SlitImage,
    combine,
    plot_image,
)
from glue_lrs.errors import ProductError
from glue_lrs.instrument import SLITLESS
from glue_lrs.profiles import EmpiricalProfile

Maker = Callable[..., SlitImage]
CORRECTION = ApertureCorrection(
    wavelength=[4.0, 15.0],
    size=[1.0, 20.0],
    factor=[[1.5, 1.2], [1.6, 1.3]],
    filename="apcorr.fits",
)
HEADER = fits.Header({"TARGNAME": "BD+60 1753", "EXP_TYPE": SLITLESS, "EFFEXPTM": 3.0})


def test_texts_of_images_and_spectra(make_image: Maker) -> None:
    image = make_image(header=HEADER, filename="a_s2d.fits")
    assert repr(image).splitlines() == [
        "<SlitImage s2d, BD+60 1753, MIR_LRS-FIXEDSLIT, POINT",
        "  30 rows x 20 columns, 5.00 to 14.00 um, MJy / sr",
        "  a_s2d.fits>",
    ]
    stack = make_image((3, 30, 20), wavelength=np.full((30, 20), np.nan))
    assert "3 integrations of 30 rows x 20 columns, no um, MJy / sr>" in repr(stack)
    operator = Extract1D(aperture=Aperture(xstart=7, xstop=10))
    found = operator.run(image)
    ratio = np.median(found.columns["FLUX"] / found.columns["FLUX_ERROR"])
    assert repr(found).splitlines() == [
        "<Extraction BD+60 1753, MIR_LRS-SLITLESS",
        "  30 wavelengths, 5.00 to 14.00 um",
        f"  aperture columns 7.00 to 10.00, median S/N {ratio:.3g} (sky included), flux in Jy",
        "  findings: background_left (warning)>",
    ]
    data = np.array(image.data)
    data[4] = np.nan
    masked = operator.run(replace(image, data=data))
    assert "30 wavelengths, 5.00 to 14.00 um, 1 masked" in repr(masked)
    made = combine([found, operator.run(make_image(seed=2, header=HEADER))], weights="unit")
    assert repr(made).startswith(
        "<Combination of 2 spectra, BD+60 1753, MIR_LRS-SLITLESS\n  30 wave"
    )


def test_texts_of_operators_and_references() -> None:
    operator = Extract1D.from_reference(
        None, SLITLESS, apcorr=CORRECTION, xstart=25, bkg_coeff=[[0.5], [4.5]], max_lost=0.1
    )
    assert repr(operator).splitlines() == [
        "<Extract1D box for MIR_LRS-SLITLESS",
        "  aperture: xstart=25.0, xstop=41.0",
        "  background: bkg_coeff=((0.5,), (4.5,))",
        "  apcorr='apcorr.fits'",
        "  use_source_posn=None, reference_source_posn=False, max_lost=0.1>",
    ]
    assert repr(Extract1D(aperture=Aperture())).splitlines()[1:] == [
        "  aperture: all columns", "  background: none>",
    ]  # fmt: skip
    assert repr(CORRECTION).splitlines() == [
        "<ApertureCorrection for SUBARRAY FULL",
        "  factors 1.200 to 1.600, 1 to 20 pixels, 4.00 to 15.00 um",
        "  apcorr.fits>",
    ]
    psf = PSFProfile(data=np.ones((2, 21)), wave=[4.0, 15.0], subpix=2.0, center=10.0, name="ANY")
    assert "10.5 columns in steps of 1/2, 4.00 to 15.00 um" in repr(psf)
    assert repr(Reference.default()).splitlines()[1] == (
        "  MIR_LRS-FIXEDSLIT: xstart=27, xstop=34, bkg_order=0"
    )
    many = {"apertures": [{"id": f"SLIT{n}", "xstart": n} for n in range(9)]}
    assert len(repr(Reference.from_dict(many)).splitlines()) == 5
    profile = EmpiricalProfile(domain=(4.0, 14.0), coefficients=np.zeros((22, 8)))
    assert len(repr(OptimalExtractor(profile=profile)).splitlines()) < 5


@pytest.mark.slow
def test_texts_of_fits() -> None:
    from glue_lrs import curve_of_growth, measure
    from glue_lrs.simulation import Scene, Source

    image = Scene(sources=(Source(flux=1e-3),), seed=1).s2d(nod=1).image
    found = measure(image)
    first, target, quality, others = repr(found).splitlines()
    assert first == f"<Measurement of {image.label}"
    assert f"target at column {found.column:.2f}"[:-1] in target
    assert f"S/N {found.target.snr:.0f}, FWHM 0.3" in quality
    assert others == f"  negative at {found.others[0].column:.2f}>"
    growth = repr(curve_of_growth(image, found))
    assert "aperture correction: measured profile" in growth
    operator = Extract1D.from_reference(None, image.exp_type, extraction_type="optimal")
    result = operator.fit(image)
    assert "1 extracted, 1 fitted source, 1 negative trace\n" in repr(result)
    assert f"S/N {result.signal_to_noise:.0f}, {result.number_rejected} pixels" in repr(result)
    assert max(len(growth.splitlines()), len(repr(result).splitlines())) <= 5


def test_text_of_a_file_that_was_cut_off(make_image: Maker, tmp_path: Path) -> None:
    """Its wavelengths cannot be read: the program would end."""
    path = tmp_path / "a_s2d.fits"
    make_image().write(path)
    image = SlitImage.read(path)
    assert "5.00 to 14.00 um" in repr(image)
    path.write_bytes(path.read_bytes()[:5760])
    assert "was overwritten since it was read" in repr(image)
    assert image._repr_html_() is None
    with pytest.raises(ProductError, match="was overwritten since it was read"):
        plot_image(image)


def picture(html: str) -> np.ndarray:
    """The pixels of the only picture in a text."""
    (content,) = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
    return np.asarray(pictures.imread(BytesIO(b64decode(content)), format="png"))


@pytest.mark.slow
def test_html_of_images(make_image: Maker) -> None:
    wide = make_image((400, 45), header=HEADER)
    html = wide._repr_html_()
    assert html is not None
    assert "<figcaption>default aperture of MIR_LRS-FIXEDSLIT</figcaption>" in html
    vermilion = np.array([0xD5, 0x5E, 0x00]) / 255.0
    aperture = np.abs(picture(html)[..., :3] - vermilion).max(axis=-1) < 0.1
    assert aperture.any(axis=1).sum() > 0.5 * len(aperture)  # its edges extend over the rows
    narrow = make_image()  # without the columns of the aperture
    html = narrow._repr_html_()
    assert html is not None
    assert re.search("<figcaption>default aperture of MIR_LRS-FIXEDSLIT: .* no pixel", html)
    assert picture(html).shape == picture(wide._repr_html_() or "").shape
    stack = make_image((3, 400, 45), exp_type=SLITLESS)
    assert "integration 1 of 3; default aperture of MIR_LRS-SLITLESS" in (stack._repr_html_() or "")
    assert pyplot.get_fignums() == []


@pytest.mark.slow
def test_html_of_extractions(make_image: Maker) -> None:
    operator = Extract1D(
        aperture=Aperture(xstart=7, xstop=10),
        background=Background.from_edges((0.5, 4.0), bkg_fit="median"),
    )
    found = operator.run(make_image())
    html = found._repr_html_()
    assert html is not None
    assert picture(html).size
    cells = re.findall("<td>([^<]*)</td>", html)
    assert f"{found.columns['FLUX'][0]:.5g}" in cells
    assert f"{found.columns['FLUX'][-1]:.5g}" in cells
    stack = operator.run(make_image((3, 30, 20)))
    html = stack._repr_html_()
    assert html is not None
    assert "median of 3 integrations" in html
    assert f"{np.median(stack.columns['FLUX'], axis=0)[0]:.5g}" in html
    counts = operator.run(make_image(unit=u.Unit("DN/s"), calibrated=False))
    assert "DN" in (counts._repr_html_() or "")


@pytest.mark.slow
def test_texts_in_html_are_escaped(make_image: Maker) -> None:
    name = "<script>alert(1)</script>"
    header = fits.Header({"TARGNAME": name, "EXP_TYPE": "<b>&\u202e"[:4]})
    image = make_image(header=header, filename=f"{name}\x1b[31m.fits")
    found = replace(
        Extract1D(aperture=Aperture(xstart=7, xstop=10)).run(image), filename=image.filename
    )
    for one in (image, found):
        html = one._repr_html_()
        assert html is not None
        assert "<script" not in html
        assert "<b>" not in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
        assert "\x1b" not in html + repr(one)


def test_text_where_the_picture_fails(make_image: Maker) -> None:
    """A notebook shows the text of an object whose HTML is None."""
    found = Extract1D(aperture=Aperture(xstart=7, xstop=10)).run(make_image())
    broken = replace(found, columns={**found.columns, "NPIXELS": np.zeros(3)})
    assert broken._repr_html_() is None
    assert repr(broken).startswith("<Extraction ")
