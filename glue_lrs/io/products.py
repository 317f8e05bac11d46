"""Spectral images in and out: s2d, cal and calints files of the JWST pipeline, 1.3 to 3.0."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import fits, registry
from astropy.table import Table
from numpy.typing import NDArray

from glue_lrs.errors import LRSWarning, ProductError
from glue_lrs.image import FIXED_SLIT, SLITLESS, SlitImage
from glue_lrs.io._files import (
    Source,
    asdf_bytes,
    asdf_hdu,
    atomic_write,
    load_asdf,
    open_fits,
    opened,
    parse_asdf,
)

if TYPE_CHECKING:
    from gwcs.wcs import WCS

__all__ = ["claims", "identify_product", "is_lrs_product", "read_image", "register", "write_image"]

#: The kinds of file that hold spectral images.
IMAGE_KINDS = ("s2d", "cal", "calints")

_EXP_TYPES = (FIXED_SLIT, SLITLESS)
_SOURCE_TYPES = ("POINT", "EXTENDED", "UNKNOWN")
#: What wavelengths in micron may be; those of LRS are 3 to 15.
_PLAUSIBLE = (1e-3, 1e3)
_UNITS = {True: u.Unit("MJy/sr"), False: u.Unit("DN/s")}
_UNIT_NAMES = {True: "MJy/sr", False: "DN/s"}
_FULL_FRAME = (1024, 1032)
_HDUs = dict[str, list[Any]]


# --- what is it? ---------------------------------------------------------------------------------


#: How messages call what is a spectrum already.
_SPECTRA = {
    "x1d": "an x1d (EXTRACT1D)",
    "x1dints": "an x1dints (EXTRACT1D)",
    "c1d": "a c1d (COMBINE1D)",
}


def identify_product(path: Source) -> str:
    """Tell which product of MIRI LRS a file is.

    Parameters
    ----------
    path : str, path-like, file object or `~astropy.io.fits.HDUList`
        The file, open or not.

    Returns
    -------
    str
        ``"s2d"``, ``"cal"``, ``"calints"``, ``"x1d"``, ``"x1dints"`` or ``"c1d"``.

    Raises
    ------
    ProductError
        If it is none of them. A rate is none: the pipeline has not given it wavelengths yet.
    """
    with opened(path) as (hdulist, label):
        return _identify(_by_name(hdulist), label)


def is_lrs_product(source: str | os.PathLike[str] | fits.HDUList, kinds: Iterable[str]) -> bool:
    """Tell, without ever raising or warning, whether something is a product of MIRI LRS.

    Parameters
    ----------
    source : str, path-like or `~astropy.io.fits.HDUList`
        A file, open or not. An open one is left open.
    kinds : iterable of str
        Which products count, of ``"s2d"``, ``"cal"``, ``"calints"``, ``"x1d"``, ``"x1dints"``,
        ``"c1d"``.

    Returns
    -------
    bool
        Headers are looked at, not data: a damaged file may well be one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(source, fits.HDUList):
                _check_mode(source[0].header, "file")
                return _identify(_by_name(source), "file") in kinds
            name = os.path.expanduser(os.fspath(source))
            with open(name, "rb") as stream:
                start = stream.read(6)
            if start != b"SIMPLE" and start[:2] != b"\x1f\x8b":  # or compressed by gzip
                return False
            with fits.open(name) as hdulist:
                _check_mode(hdulist[0].header, name)  # before all the other headers are read
                return _identify(_by_name(hdulist), name) in kinds
    except Exception:  # whatever it is, it is not ours
        return False


def _by_name(hdulist: fits.HDUList) -> _HDUs:
    """All HDUs, by their names; asking an HDU for its name is not for free."""
    hdus: _HDUs = {"PRIMARY": [hdulist[0]]}
    for hdu in hdulist[1:]:
        hdus.setdefault(hdu.name, []).append(hdu)
    return hdus


def claims(kinds: tuple[str, ...], origin: str, args: tuple[Any, ...]) -> bool:
    """Whether what an identifier gets (path, file object, arguments) is such a product."""
    if origin != "read":
        return False
    try:
        source = next(arg for arg in args[:3] if arg is not None)
        if isinstance(source, str | os.PathLike | fits.HDUList):
            return is_lrs_product(source, kinds)
        position = source.tell()
        try:
            source.seek(0)
            if source.read(6) != b"SIMPLE":
                return False
            source.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a damaged file: the reader will say so
                return is_lrs_product(fits.open(source, memmap=False), kinds)
        finally:
            source.seek(position)
    except Exception:  # whatever it is, it is not ours
        return False


def _identify(hdus: _HDUs, label: str) -> str:
    primary = hdus["PRIMARY"][0].header
    _check_mode(primary, label)
    if "SCI" in hdus:
        axes = hdus["SCI"][0].header.get("NAXIS", 0)
        if axes > 3:
            raise ProductError(f"{label}: SCI has {axes} axes, expected 2, or 3 for a stack")
        if axes != 3 and (primary.get("S_RESAMP") == "COMPLETE" or "WHT" in hdus):
            return "s2d"
        if _is_rate(hdus, primary):
            kind, wanted = ("rateints", "a calints") if axes == 3 else ("rate", "an s2d or cal")
            raise ProductError(
                f"{label}: is a {kind}, which has no wavelengths yet (neither WAVELENGTH nor WCS), "
                f"expected {wanted}, which calwebb_spec2 makes of it"
            )
        return "calints" if axes == 3 else "cal"
    if "EXTRACT1D" in hdus:
        spectrum = hdus["EXTRACT1D"][0].header
        many = (
            "INT_TIMES" in hdus
            or "INT_NUM" in spectrum
            or str(primary.get("DATAMODL")).startswith("TSO")
            or str(primary.get("FILENAME")).endswith("_x1dints.fits")
        )
        return "x1dints" if many else "x1d"
    if "COMBINE1D" in hdus:
        return "c1d"
    raise ProductError(f"{label}: has no SCI extension, found {', '.join(hdus)}")


def _is_rate(hdus: _HDUs, primary: fits.Header) -> bool:
    """Whether the steps that give a spectral image its wavelengths have not run yet."""
    done = ("S_WCS", "S_PHOTOM")
    if "WAVELENGTH" in hdus or any(str(primary.get(k)).upper() == "COMPLETE" for k in done):
        return False
    if "ASDF" not in hdus:
        return True
    try:
        return b"gwcs/wcs-" not in hdus["ASDF"][0].data["ASDF_METADATA"].tobytes()
    except Exception:  # damaged: reading will say how
        return False


def _check_mode(primary: fits.Header, label: str) -> None:
    _expect(primary, "TELESCOP", ("JWST",), label)
    _expect(primary, "INSTRUME", ("MIRI",), label)
    _expect(primary, "EXP_TYPE", _EXP_TYPES, label)
    if _card("FILTER", primary) is not None:  # headers made by hand seldom have it
        _expect(primary, "FILTER", ("P750L",), label)


def _expect(header: fits.Header, key: str, values: tuple[str, ...], label: str) -> None:
    value = header.get(key)
    if value not in values:
        found = "is missing" if value is None else f"is {value!r}"
        expected = " or ".join(map(repr, values))
        raise ProductError(f"{label}: {key} {found}, expected {expected}")


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
    hdus = _by_name(hdulist)
    kind = _identify(hdus, label)
    if kind not in IMAGE_KINDS:
        raise ProductError(
            f"{label}: is {_SPECTRA[kind]}, expected an s2d, cal or calints image (SCI)"
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


def _plane(hdus: _HDUs, name: str, label: str) -> NDArray[Any] | None:
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


def _wavelength_plane(hdus: _HDUs, label: str) -> NDArray[Any] | None:
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


def _card(key: str, *headers: fits.Header) -> Any:
    """The first value that is there; cards without a value do not count."""
    for header in headers:
        value = header.get(key)
        if value is not None and not isinstance(value, fits.card.Undefined):
            return value
    return None


def _text(key: str, *headers: fits.Header) -> str | None:
    value = _card(key, *headers)
    return None if value is None or value == "" else str(value)


def _number(key: str, label: str, *headers: fits.Header) -> float | None:
    value = _card(key, *headers)
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
    expected = _UNIT_NAMES[calibrated]
    if found is None or found == expected:
        return
    unit = u.Unit(str(found), parse_strict="silent")
    if unit != _UNITS[calibrated]:
        state = "COMPLETE" if calibrated else "not COMPLETE"
        _warn(
            f"{label}: BUNIT is {found!r}, expected {expected!r} as S_PHOTOM is {state}; "
            "the values are taken as that"
        )


def _times(hdus: _HDUs, primary: fits.Header, shape: tuple[int, ...], label: str) -> Table | None:
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


# --- writing -------------------------------------------------------------------------------------


def write_image(image: SlitImage, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write an image as a file that the pipeline's own steps open.

    Parameters
    ----------
    image : SlitImage
        The image. Its headers are written with the cards that its fields stand for set to them.
    path : str or path-like
        The file.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    WriteError
        If the file exists or cannot be written.

    Notes
    -----
    Planes are stored as float32, as in the pipeline's files, DQ as uint32.
    """
    with atomic_write(path, overwrite) as temporary:
        _hdulist(image, Path(path).name).writeto(temporary, output_verify="silentfix")


def _hdulist(image: SlitImage, filename: str) -> fits.HDUList:
    unit = _UNIT_NAMES[image.calibrated]
    model = _model(image)
    hdus = [fits.PrimaryHDU(header=_primary(image, model, filename))]
    hdus.append(_image_hdu("SCI", image.data, _science(image, unit)))
    bunit = fits.Header([("BUNIT", unit, "physical units of the array values")])
    planes: list[tuple[str, NDArray[Any] | None, fits.Header | None]] = [
        ("ERR", image.err, bunit),
        ("DQ", image.dq, None),
        ("WAVELENGTH", image.wavelength, None),
        ("VAR_POISSON", image.var_poisson, None),
        ("VAR_RNOISE", image.var_rnoise, None),
        ("VAR_FLAT", image.var_flat, None),
    ]
    hdus += [_image_hdu(name, plane, cards) for name, plane, cards in planes if plane is not None]
    if image.times is not None:
        hdus.append(_times_hdu(image.times))
    if image.wcs is not None:
        tree: dict[str, Any] = {"meta": {"wcs": image.wcs}}
        if model == "MultiSlitModel":
            tree = {"slits": [tree]}
        hdus.append(asdf_hdu(tree))
    return fits.HDUList(hdus)


def _image_hdu(name: str, plane: NDArray[Any], header: fits.Header | None = None) -> fits.ImageHDU:
    """An image extension in the file's type of number; a memory-mapped plane is not converted."""
    kind = np.dtype(np.uint32 if name == "DQ" else np.float32)
    if plane.dtype.newbyteorder("=") != kind:
        plane = plane.astype(kind)
    return fits.ImageHDU(plane, header=header, name=name, ver=1)


def _times_hdu(times: Table) -> fits.BinTableHDU:
    columns = [
        fits.Column(
            name=name,
            format="J" if name == "integration_number" else "D",
            array=np.asarray(times[name]),
        )
        for name in times.colnames
    ]
    return fits.BinTableHDU.from_columns(columns, name="INT_TIMES", ver=1)


def _model(image: SlitImage) -> str:
    """The data model: the header's if it can hold the image, else that of today's pipeline."""
    stated = image.header.get("DATAMODL")
    possible = {"SlitModel", "MultiSlitModel", "CubeModel" if image.is_stack else "ImageModel"}
    if stated in possible:
        return str(stated)
    return "ImageModel" if image.kind == "cal" and image.data.shape == _FULL_FRAME else "SlitModel"


def _primary(image: SlitImage, model: str, filename: str) -> fits.Header:
    header = _cleaned(image.header)
    defaults: dict[str, Any] = {
        "DATE": datetime.now(UTC).isoformat(timespec="milliseconds")[:-6],
        "TELESCOP": "JWST",
        "INSTRUME": "MIRI",
        "DETECTOR": "MIRIMAGE",
        "FILTER": "P750L",
    }
    if image.is_stack:
        defaults["NINTS"] = len(image.data)
    for key, value in defaults.items():
        if _card(key, header) is None:
            header[key] = value
    if image.times is not None:
        # What the times are found by: a segment's table may have been cut to its own rows.
        number = np.asarray(image.times["integration_number"])
        header["TSOVISIT"] = True
        header["INTSTART"] = int(number[0])
        header["INTEND"] = int(number[-1])
        header["NINTS"] = max(int(header["NINTS"]), int(number[-1]), 2)
    if image.kind == "s2d":
        header["S_RESAMP"] = "COMPLETE"
    elif header.get("S_RESAMP") == "COMPLETE":
        header["S_RESAMP"] = "SKIPPED"
    if image.calibrated:
        header["S_PHOTOM"] = "COMPLETE"
    elif str(header.get("S_PHOTOM", "COMPLETE")).upper() == "COMPLETE":
        header["S_PHOTOM"] = "SKIPPED"
    header["DATAMODL"] = model
    header["FILENAME"] = filename.encode("ascii", "replace").decode()  # FITS has no other letters
    header["EXP_TYPE"] = image.exp_type
    _set(header, "SUBARRAY", image.subarray)
    _set(header, "DITH_RA", image.source_ra)
    _set(header, "DITH_DEC", image.source_dec)
    # Where the SCI header has none, a reader looks for these here.
    for key, field in (("SRCTYPE", image.source_type), ("PIXAR_SR", image.pixel_area)):
        if field is None:
            _set(header, key, None)
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
    """A copy without what describes the bytes of the file it came from."""
    header = header.copy(strip=True)
    for key in ("CHECKSUM", "DATASUM", "BSCALE", "BZERO"):
        header.remove(key, ignore_missing=True)
    return header


def _set(header: fits.Header, key: str, value: Any) -> None:
    """Set a card, or remove it for None."""
    if value is None or value != value:  # a header cannot hold NaN
        header.remove(key, ignore_missing=True)
    else:
        header[key] = value


# --- astropy's registry --------------------------------------------------------------------------


def register() -> None:
    """Register the format ``"lrs"`` of `SlitImage`."""
    registry.register_reader("lrs", SlitImage, read_image, force=True)
    registry.register_writer("lrs", SlitImage, write_image, force=True)
