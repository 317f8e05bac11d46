"""Spectral images in and out: s2d, cal and calints files of the JWST pipeline, 1.3 to 3.0."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from glue_lrs.errors import LRSWarning, ProductError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.io.files import asdf_bytes, load_asdf, open_fits, opened, parse_asdf
from glue_lrs.io.identify import (
    IMAGE_KINDS,
    SPECTRUM_KINDS,
    UNIT_NAMES,
    hdu_by_name,
    header_value,
    identify_kind,
)

if TYPE_CHECKING:
    from gwcs.wcs import WCS

    from glue_lrs.io.files import Source
    from glue_lrs.io.identify import HDULookup

__all__ = ["read_image"]

_SOURCE_TYPES = ("POINT", "EXTENDED", "UNKNOWN")

#: What wavelengths in micron may be; those of LRS are 3 to 15.
_PLAUSIBLE = (1e-3, 1e3)

_UNITS = {True: u.Unit("MJy/sr"), False: u.Unit("DN/s")}


# --- reading -------------------------------------------------------------------------------------


def read_image(path: Source) -> SlitImage:
    """Read an s2d, cal or calints file of MIRI LRS.

    Parameters
    ----------
    path : str, path-like, file object or `~astropy.io.fits.HDUList`
        The file. One that is open must be binary, and is left open.

    Returns
    -------
    SlitImage
        Planes of a file that is given by its name are memory-mapped in its byte order, but for DQ;
        all others are in memory, and `filename` is then None. The wavelength is that of the
        WAVELENGTH extension or, where this is absent or all zero, that of the WCS at pixel
        centres. The WCS is read when it is first asked for.

    Raises
    ------
    ProductError
        If the file is not such a file, or something in it is missing or wrong.

    Warns
    -----
    LRSWarning
        If BUNIT contradicts S_PHOTOM, which decides; SRCTYPE is no word of the pipeline's, which
        counts as none; or there is no variance, so that errors will be 0.
    """
    with opened(path) as (hdulist, label):
        try:
            return _read(hdulist, label, isinstance(path, str | os.PathLike))
        except (OSError, ValueError, TypeError, KeyError, fits.VerifyError) as error:
            reason = " ".join(str(error).split())
            raise ProductError(f"{label}: cannot be read, {reason}") from error


def _read(hdulist: fits.HDUList, label: str, named: bool) -> SlitImage:
    """Read an open file; `named` is whether `label` is its path."""
    hdus = hdu_by_name(hdulist)
    kind = identify_kind(hdus, label)
    if kind not in IMAGE_KINDS:
        raise ProductError(
            f"{label}: is {SPECTRUM_KINDS[kind]}, expected an s2d, cal or calints image (SCI)"
        )
    if len(hdus["SCI"]) > 1:
        raise ProductError(
            f"{label}: has {len(hdus['SCI'])} SCI extensions, expected a single slit"
        )
    primary, science = hdulist[0].header, hdus["SCI"][0].header
    data = _plane(hdus, "SCI", label)
    if data is None:
        raise ProductError(f"{label}: SCI is empty, expected an image")
    calibrated = str(primary.get("S_PHOTOM")).upper() == "COMPLETE"
    _check_unit(science.get("BUNIT"), calibrated, label)
    path = os.path.abspath(os.path.expanduser(label)) if named else None
    wcs_source: WCS | _WCSLoader | _WCSBytes | None = None
    if "ASDF" in hdus and path is not None:
        wcs_source = _WCSLoader(path)
    elif "ASDF" in hdus:  # the file may be gone when the WCS is asked for
        wcs_source = _WCSBytes(asdf_bytes(hdulist, label) or b"", label)
    wavelength = _wavelength_plane(hdus, label)
    if wavelength is None or _all_zero(wavelength):
        wcs = _wcs_of(hdulist, label)
        if wcs is None:
            state = "is missing" if wavelength is None else "is all zero"
            raise ProductError(
                f"{label}: WAVELENGTH {state} and no WCS (ASDF extension) can take its place"
            )
        wavelength = _wavelength_of(wcs, data.shape[-2:])
        _check_wavelength(wavelength, f"{label}: the wavelength of the WCS")
        wcs_source = wcs
    variances = {
        name.lower(): _plane(hdus, name, label)
        for name in ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
    }
    image = SlitImage(
        data=data,
        err=_plane(hdus, "ERR", label),
        **variances,
        dq=_plane(hdus, "DQ", label),
        wavelength=wavelength,
        unit=_UNITS[calibrated],
        exp_type=primary["EXP_TYPE"],
        calibrated=calibrated,
        pixel_area=_number("PIXAR_SR", label, science, primary),
        dispaxis=_integer("DISPAXIS", label, science, primary),
        source_type=_source_type(label, science, primary),
        subarray=_text("SUBARRAY", primary),
        name=_text("SLTNAME", science) if _is_multislit(primary) else None,
        spectral_order=_order(label, science),
        source_ra=_number("DITH_RA", label, primary),
        source_dec=_number("DITH_DEC", label, primary),
        times=_times(hdus, primary, data.shape, label),
        header=primary,
        sci_header=science,
        filename=label if named else None,
        path=path,
        kind=kind,
        wcs_source=wcs_source,
    )
    if _all_nan(data):
        raise ProductError(f"{label}: SCI holds nothing but NaN")
    if all(plane is None for plane in variances.values()):
        beside = "" if image.err is None else "beside ERR "
        _warn(
            f"{label}: has no VAR_POISSON, VAR_RNOISE or VAR_FLAT {beside}- all errors will be 0, "
            "as they come from the variances, in the pipeline too",
            depth=6,
        )
    lost = [name.upper() for name in ("var_poisson", "var_rnoise") if variances[name] is None]
    if len(lost) == 1:  # rates have no VAR_FLAT yet
        _warn(f"{label}: has no {lost[0]}, whose part the errors will not have", depth=6)
    return image


def _warn(text: str, depth: int = 7) -> None:
    """Warn whoever called ``SlitImage.read``, so many calls above this one."""
    warnings.warn(text, LRSWarning, stacklevel=depth)


def _plane(hdus: HDULookup, name: str, label: str) -> NDArray[Any] | None:
    """The array of an image extension, memory-mapped unless it is scaled; None for an empty one."""
    if name not in hdus:
        return None
    hdu = hdus[name][0]
    if not hdu.is_image:
        raise ProductError(f"{label}: {name} is a table, expected an image")
    data: NDArray[Any] | None = hdu.data
    if data is None or data.size == 0:
        return None
    return data.astype(float) if name != "DQ" and data.dtype.kind in "iub" else data


def _wavelength_plane(hdus: HDULookup, label: str) -> NDArray[Any] | None:
    """The WAVELENGTH extension in micron: as it is in the file unless that says another unit."""
    plane = _plane(hdus, "WAVELENGTH", label)
    if plane is None:
        return None
    header = hdus["WAVELENGTH"][0].header
    stated = _text("BUNIT", header) or _text("TUNIT", header) or _text("TUNIT1", header)
    if stated is not None:
        unit = u.Unit(stated, parse_strict="silent")
        if not unit.is_equivalent(u.um):
            raise ProductError(f"{label}: WAVELENGTH is in {stated!r}, expected 'um'")
        factor = unit.to(u.um)
        if factor != 1.0:
            plane = plane.astype(float) * factor  # not in place: it may be mapped
    if not _all_zero(plane):
        _check_wavelength(plane, f"{label}: WAVELENGTH")
    return plane


def _check_wavelength(wavelength: NDArray[Any], label: str) -> None:
    """Raise where wavelengths are in no unit that is near micron."""
    positive = wavelength[wavelength.shape[0] // 2]
    positive = positive[np.isfinite(positive) & (positive > 0)]
    if not positive.size:  # nearly never: the rest need not be looked at
        positive = wavelength[np.isfinite(wavelength) & (wavelength > 0)]
    if positive.size and not _PLAUSIBLE[0] < positive.max() < _PLAUSIBLE[1]:
        raise ProductError(
            f"{label} is {positive.max():.4g}, expected micron (3 to 15 for LRS), or a unit (BUNIT)"
        )


def _all_zero(wavelength: NDArray[Any]) -> bool:
    """Whether all finite values are 0, which is how older pipelines say that there are none."""
    middle = wavelength[wavelength.shape[0] // 2]
    if (middle > 0).any():  # nearly always: the rest need not be looked at
        return False
    finite = wavelength[np.isfinite(wavelength)]
    return finite.size > 0 and not finite.any()


def _all_nan(data: NDArray[Any]) -> bool:
    planes = data if data.ndim == 3 else data[np.newaxis]
    return not any(
        np.isfinite(plane[plane.shape[0] // 2]).any() or np.isfinite(plane).any()
        for plane in planes
    )


def _wavelength_of(wcs: WCS, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Wavelength in micron at pixel centres, NaN outside the bounding box."""
    rows, columns = np.indices(shape, dtype=float)
    return np.asarray(wcs(columns, rows)[2], dtype=float)


def _is_multislit(primary: fits.Header) -> bool:
    # The pipeline looks at the slit's name in such a file only.
    return str(primary.get("DATAMODL")).startswith("Multi")


def _text(key: str, *headers: fits.Header) -> str | None:
    value = header_value(key, *headers)
    return None if value is None or value == "" else str(value)


def _number(key: str, label: str, *headers: fits.Header) -> float | None:
    value = header_value(key, *headers)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ProductError(f"{label}: {key} is {value!r}, expected a number")
    return float(value)


def _source_type(label: str, *headers: fits.Header) -> str | None:
    """SRCTYPE, if it is one of the pipeline's words; whatever else is there counts as none."""
    found = _text("SRCTYPE", *headers)
    if found is None or found in _SOURCE_TYPES:
        return found
    _warn(
        f"{label}: SRCTYPE is {found!r}, expected 'POINT', 'EXTENDED' or 'UNKNOWN'; it counts "
        "as unknown, as in the pipeline: no aperture correction, and the aperture stays where it "
        "is (use_source_posn=True would move it to the source)"
    )
    return None


def _integer(key: str, label: str, *headers: fits.Header) -> int | None:
    value = _number(key, label, *headers)
    if value is not None and value != int(value):
        raise ProductError(f"{label}: {key} is {value}, expected a whole number")
    return None if value is None else int(value)


def _order(label: str, science: fits.Header) -> int:
    order = _integer("SPORDER", label, science)
    return 1 if order is None else order


def _check_unit(found: Any, calibrated: bool, label: str) -> None:
    """Warn where BUNIT and S_PHOTOM tell different stories."""
    expected = UNIT_NAMES[calibrated]
    if found is None or found == expected:
        return
    unit = u.Unit(str(found), parse_strict="silent")
    if unit != _UNITS[calibrated]:
        state = "COMPLETE" if calibrated else "not COMPLETE"
        _warn(
            f"{label}: BUNIT is {found!r}, expected {expected!r} as S_PHOTOM is {state}; "
            "the values are taken as that"
        )


def _times(
    hdus: HDULookup, primary: fits.Header, shape: tuple[int, ...], label: str
) -> Table | None:
    """The rows of INT_TIMES that belong to the integrations in the file.

    The pipeline's rules (``populate_time_keywords``): only of a time series (TSOVISIT) with two or
    more integrations (NINTS), only if the table holds all those from INTSTART to INTEND.
    """
    hdu = hdus.get("INT_TIMES", [None])[0]
    total = _integer("NINTS", label, primary)
    time_series = primary.get("TSOVISIT") is True and (total is None or total >= 2)
    if hdu is None or len(shape) != 3 or not time_series or hdu.header.get("NAXIS2", 0) < shape[0]:
        return None
    number = np.asarray(hdu.data["integration_number"])
    first = _integer("INTSTART", label, primary)
    last = _integer("INTEND", label, primary)
    first = 1 if first is None else first
    last = (total if total is not None else first + shape[0] - 1) if last is None else last
    offset = first - int(number[0])
    if offset < 0 or last > number[-1] or offset + shape[0] > len(number):
        return None
    rows = hdu.data[offset : offset + shape[0]]
    return Table({name: _native(rows[name]) for name in rows.names})


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return np.array(values, dtype=values.dtype.newbyteorder("="))


# --- the world coordinate system -----------------------------------------------------------------


@dataclass(frozen=True)
class _WCSLoader:
    """Reads the WCS of a file when it is called."""

    path: str

    def __call__(self) -> WCS | None:
        with open_fits(self.path) as hdulist:
            return _wcs_of(hdulist, self.path)


@dataclass(frozen=True)
class _WCSBytes:
    """Reads the WCS of an ASDF file in memory when it is called."""

    raw: bytes
    label: str

    def __call__(self) -> WCS | None:
        return _wcs_in(parse_asdf(self.raw, self.label), self.label)


def _wcs_of(hdulist: fits.HDUList, label: str) -> WCS | None:
    tree = load_asdf(hdulist)
    return None if tree is None else _wcs_in(tree, label)


def _wcs_in(tree: Any, label: str) -> WCS | None:
    slits = tree.get("slits")
    if slits:
        tree = slits[0]
    wcs = tree.get("meta", {}).get("wcs")
    if wcs is not None and not hasattr(wcs, "forward_transform"):
        raise ProductError(
            f"{label}: meta.wcs (ASDF extension) is a {type(wcs).__name__}, expected a gwcs WCS"
        )
    return wcs
