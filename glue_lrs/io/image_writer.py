"""Writer of s2d, cal and calints files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from glue_lrs.io.files import asdf_hdu, atomic_write
from glue_lrs.io.headers import BUNIT, current_date, header_value, printable_ascii
from glue_lrs.spectra.times import SEGMENT

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage

#: Number of rows and columns of the full detector.
_FULL_FRAME = (1024, 1032)


def write_image(image: SlitImage, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write an image as an s2d, cal or calints file that the pipeline can open.

    Parameters
    ----------
    image : SlitImage
        Image to write. Header cards that correspond to attributes of the image are set from them.
    path : str or path-like
        Path of the file to write.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    WriteError
        If the file exists or cannot be written.

    Notes
    -----
    DQ is stored as uint32 and all other planes as float32, as in the pipeline's files.
    """
    with atomic_write(path, overwrite) as temporary:
        unit, model = BUNIT[image.calibrated], _model(image)
        hdus = [fits.PrimaryHDU(header=_primary(image, model, Path(path).name))]
        hdus.append(_image_hdu("SCI", image.data, _science(image, unit)))
        bunit = fits.Header([("BUNIT", unit, "physical units of the array values")])
        for name in ("ERR", "DQ", "WAVELENGTH", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"):
            plane = getattr(image, name.lower())
            if plane is not None:
                hdus.append(_image_hdu(name, plane, bunit if name == "ERR" else None))
        if image.drizzle_weight is not None:
            hdus.append(_image_hdu("WHT", image.drizzle_weight))
        if image.times is not None:
            names = [name for name in image.times.colnames if name != SEGMENT]
            hdus.append(times_hdu(image.times[names]))
        if image.wcs is not None:
            tree = {"meta": {"wcs": image.wcs}}
            hdus.append(asdf_hdu({"slits": [tree]} if model == "MultiSlitModel" else tree))
        fits.HDUList(hdus).writeto(temporary, output_verify="silentfix")


def _image_hdu(name: str, plane: NDArray[Any], header: fits.Header | None = None) -> fits.ImageHDU:
    """Make an image extension with the data type of the pipeline's files."""
    dtype = np.dtype(np.uint32 if name == "DQ" else np.float32)
    plane = np.asarray(plane)
    if plane.dtype.newbyteorder("=") != dtype:
        plane = plane.astype(dtype)
    return fits.ImageHDU(plane, header=header, name=name, ver=1)


def times_hdu(times: Table) -> fits.BinTableHDU:
    """Make an INT_TIMES extension from a table of integration times."""
    forms = {"integration_number": "J"}
    columns = [
        fits.Column(name=name, format=forms.get(name, "D"), array=np.asarray(times[name]))
        for name in times.colnames
    ]
    return fits.BinTableHDU.from_columns(columns, name="INT_TIMES", ver=1)


def _model(image: SlitImage) -> str:
    """Return the value of the card DATAMODL for the file.

    The value from the header is kept if this data model can hold the image. Otherwise the data
    model is the one that pipeline 3.0 uses.
    """
    stated = image.header.get("DATAMODL")
    possible = {"SlitModel", "MultiSlitModel", "CubeModel" if image.is_stack else "ImageModel"}
    if stated in possible:
        return str(stated)
    return "ImageModel" if image.kind == "cal" and image.data.shape == _FULL_FRAME else "SlitModel"


def _primary(image: SlitImage, model: str, filename: str) -> fits.Header:
    header = _cleaned(image.header)
    defaults: dict[str, Any] = {
        "DATE": current_date(),
        "TELESCOP": "JWST",
        "INSTRUME": "MIRI",
        "DETECTOR": "MIRIMAGE",
        "FILTER": "P750L",
    }
    if image.is_stack:
        defaults["NINTS"] = len(image.data)
    for key, value in defaults.items():
        if header_value(key, header) is None:
            header[key] = value
    if image.times is not None and len(image.times):
        # A reader finds the rows of INT_TIMES with these cards. They must be set here, because the
        # table may have fewer rows than in the original file.
        first, last = (int(image.times["integration_number"][index]) for index in (0, -1))
        header["TSOVISIT"], header["INTSTART"], header["INTEND"] = True, first, last
        header["NINTS"] = max(int(header["NINTS"]), last, 2)
    if image.kind == "s2d":
        header["S_RESAMP"] = "COMPLETE"
    elif header.get("S_RESAMP") == "COMPLETE":
        header["S_RESAMP"] = "SKIPPED"
    if image.calibrated:
        header["S_PHOTOM"] = "COMPLETE"
    elif str(header.get("S_PHOTOM", "COMPLETE")).upper() == "COMPLETE":
        header["S_PHOTOM"] = "SKIPPED"
    header["DATAMODL"] = model
    header["FILENAME"] = printable_ascii(filename)
    header["EXP_TYPE"] = image.exp_type
    _set(header, "SUBARRAY", image.subarray)
    _set(header, "DITH_RA", image.source_ra)
    _set(header, "DITH_DEC", image.source_dec)
    # Remove these cards if the image has no value, because readers use the primary header if the
    # SCI header lacks a card.
    for key, value in (("SRCTYPE", image.source_type), ("PIXAR_SR", image.pixel_area)):
        if value is None:
            header.remove(key, ignore_missing=True)
    return header


def _science(image: SlitImage, unit: str) -> fits.Header:
    header = _cleaned(image.sci_header)
    header["BUNIT"] = unit
    header["DISPAXIS"] = image.dispaxis
    _set(header, "PIXAR_SR", image.pixel_area)
    _set(header, "SRCTYPE", image.source_type)
    if image.spectral_order != 1 or "SPORDER" in header:
        header["SPORDER"] = image.spectral_order
    if image.name is not None:
        header["SLTNAME"] = image.name
    return header


def _cleaned(header: fits.Header) -> fits.Header:
    """Return a copy of a header without the cards about the layout of the original file."""
    header = header.copy(strip=True)
    for key in ("CHECKSUM", "DATASUM", "BSCALE", "BZERO"):
        header.remove(key, ignore_missing=True)
    return header


def _set(header: fits.Header, key: str, value: object) -> None:
    """Set a header card, or remove it if the value is None or NaN."""
    if value is None or value != value:  # a header cannot hold NaN
        header.remove(key, ignore_missing=True)
    else:
        header[key] = value
