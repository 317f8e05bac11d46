"""Reader for s2d, cal and calints files from the JWST pipeline, versions 1.3 to 3.0."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from glue_lrs._utils.source_file import SourceFile, is_mapped, release_memory
from glue_lrs.errors import Hint, LRSWarning, NoVariancesWarning, ProductError, naming, quoted, warn
from glue_lrs.image.joined import FlagPlane
from glue_lrs.image.pixels import PLANES
from glue_lrs.image.slit_image import SlitImage, load_wcs
from glue_lrs.io.files import asdf_bytes, native, opened, parse_asdf, reading
from glue_lrs.io.headers import BUNIT, header_integer, header_number, header_text
from glue_lrs.io.identify import IMAGE_KINDS, SPECTRUM_KINDS, hdu_by_name, identify_kind
from glue_lrs.io.plausibility import check_pixel_area, check_plane, check_wavelength
from glue_lrs.io.x1d_layout import INT_TIMES
from glue_lrs.spectra.segments import spans
from glue_lrs.spectra.times import matching_times

if TYPE_CHECKING:
    from gwcs.wcs import WCS

    from glue_lrs.io.files import Source
    from glue_lrs.io.identify import HDULookup

#: Number of integrations after whose check the pages of a memory-mapped file are released.
_RELEASED = 128

_SOURCE_TYPES = ("POINT", "EXTENDED", "UNKNOWN")


def read_image(path: Source, *, flags_in_memory: bool = True) -> SlitImage:
    """Read an s2d, cal or calints file of MIRI LRS.

    Parameters
    ----------
    path : str, path-like, file object or `~astropy.io.fits.HDUList`
        Path of the file, open binary file, or HDU list. An open file or HDU list remains open.
    flags_in_memory : bool
        Whether DQ is an array in memory. If False, DQ of a stack that is memory-mapped is a
        `~glue_lrs.image.joined.FlagPlane`, for functions that read parts of the planes.

    Returns
    -------
    SlitImage
        The image. If the file is given by its path, all planes except DQ are memory-mapped, in the
        byte order of the file. Otherwise they are in memory, and `filename` is None. Wavelengths
        are read from the WAVELENGTH extension, or computed from the WCS at pixel centres if this
        extension is missing or all zero. The WCS is read at the first access.

    Raises
    ------
    ProductError
        If the file is not an image of MIRI LRS, or a part of it is missing or invalid.

    Warns
    -----
    LRSWarning
        If BUNIT contradicts S_PHOTOM (S_PHOTOM is used), if SRCTYPE is not a value that the
        pipeline writes (it is ignored), if variances are missing (errors are 0 or too small) or DQ
        is missing, if INT_TIMES lacks rows or columns (these times are NaN), or if values are not
        plausible for an image of LRS.
    """
    notes: list[LRSWarning] = []
    with opened(path) as (hdulist, label):
        image = _read(hdulist, label, isinstance(path, str | os.PathLike), notes, flags_in_memory)
    for note in notes:
        warn(note.about(label))
    return image


def _read(
    hdulist: fits.HDUList, label: str, named: bool, notes: list[LRSWarning], flags_in_memory: bool
) -> SlitImage:
    """Read an image from an open file, and append warnings to `notes`.

    `named` must be True if `label` is the path of the file, and False if it is only a description.
    """
    hdus = hdu_by_name(hdulist)
    kind = identify_kind(hdus)
    if kind not in IMAGE_KINDS:
        raise ProductError(
            f"is {SPECTRUM_KINDS[kind]}, expected an s2d, cal or calints image (SCI)"
        )
    if len(hdus["SCI"]) > 1:
        raise ProductError(f"has {len(hdus['SCI'])} SCI extensions, expected a single slit")
    primary, science = hdulist[0].header, hdus["SCI"][0].header
    data = _plane(hdus, "SCI")
    if data is None:
        raise ProductError("SCI is empty, expected an image")
    calibrated = str(primary.get("S_PHOTOM")).upper() == "COMPLETE"
    _check_unit(science.get("BUNIT"), calibrated, notes)
    path = label.absolute() if named and isinstance(label, SourceFile) else None
    # The file may be closed or replaced when the WCS is accessed.
    content = asdf_bytes(hdulist)
    wcs_source: WCS | partial[WCS | None] | None = None
    if content is not None:
        wcs_source = partial(_parse_wcs, content, label)
    wavelength = _wavelength_plane(hdus)
    if wavelength is None or _all_zero(wavelength):
        wcs_source = None if content is None else load_wcs(_parse_wcs(content, label), label)
        if wcs_source is None:
            state = "is missing" if wavelength is None else "is all zero"
            raise ProductError(
                f"WAVELENGTH {state} and there is no WCS (ASDF extension) to compute it"
            )
        rows, columns = np.indices(data.shape[-2:], dtype=float)
        # The wavelength is NaN outside the bounding box of the WCS.
        wavelength = np.asarray(wcs_source(columns, rows)[2], dtype=float)
        notes += _check_wavelength(wavelength, "the wavelength of the WCS")
    else:
        notes += _check_wavelength(wavelength, "WAVELENGTH")
    order = header_integer("SPORDER", science)
    names = ("ERR", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT")
    planes: dict[str, Any] = {name.lower(): _plane(hdus, name) for name in names}
    flags = None if flags_in_memory or not is_mapped(data) else _mapped_flags(hdus)
    planes["dq"] = _plane(hdus, "DQ") if flags is None else flags
    # As in the pipeline, the name of the slit is used only in files with a multi-slit data model.
    multislit = str(primary.get("DATAMODL")).startswith("Multi")
    image = SlitImage(
        data=data,
        **planes,
        drizzle_weight=_weight_plane(hdus, data.shape, notes),
        wavelength=wavelength,
        unit=u.Unit(BUNIT[calibrated]),
        exp_type=primary["EXP_TYPE"],
        calibrated=calibrated,
        pixel_area=header_number("PIXAR_SR", science, primary),
        dispaxis=header_integer("DISPAXIS", science, primary),
        source_type=_source_type(notes, science, primary),
        subarray=header_text("SUBARRAY", primary),
        name=header_text("SLTNAME", science) if multislit else None,
        spectral_order=1 if order is None else order,
        source_ra=header_number("DITH_RA", primary),
        source_dec=header_number("DITH_DEC", primary),
        times=_times(hdus, primary, data.shape, notes),
        header=primary,
        sci_header=science,
        filename=label if named else None,
        path=path,
        kind=kind,
        wcs_source=wcs_source,
    )
    notes += [*check_pixel_area(image.pixel_area), *_check_values(image, named)]
    _check_planes(image, primary, notes)
    return image.with_record() if named else image


def _check_planes(image: SlitImage, primary: fits.Header, notes: list[LRSWarning]) -> None:
    """Append warnings to `notes` if planes that the product should have are missing."""
    names = {"VAR_POISSON": image.var_poisson, "VAR_RNOISE": image.var_rnoise}
    if primary.get("S_FLAT") == "COMPLETE":  # only this step adds VAR_FLAT
        names["VAR_FLAT"] = image.var_flat
    missing = [name for name, plane in names.items() if plane is None]
    if not image.has_variances:
        where = "" if image.err is None else "beside ERR "
        notes.append(
            NoVariancesWarning(
                f"has no VAR_POISSON, VAR_RNOISE or VAR_FLAT {where}- all errors will be 0, as in "
                "the pipeline, because they are computed from the variances"
            )
        )
    elif missing:
        text = f"has no {' and '.join(missing)}, so that the errors will be too small"
        notes.append(LRSWarning(text))
    if image.dq is None and image.kind != "s2d" and primary.get("CAL_VER"):
        text = "has no DQ, so that bad pixels are recognised only if they are NaN"
        notes.append(LRSWarning(text))


def _plane(hdus: HDULookup, name: str) -> NDArray[Any] | None:
    """Return the array of an image extension, or None if the extension is missing or empty.

    The array is memory-mapped if the file is, unless it is stored as scaled integers (BZERO).
    """
    if name not in hdus:
        return None
    hdu = hdus[name][0]
    if not hdu.is_image:
        raise ProductError(f"{name} is a table, expected an image")
    data: NDArray[Any] | None = hdu.data
    if data is None or data.size == 0:
        return None
    return data.astype(float) if name != "DQ" and data.dtype.kind in "iub" else data


def _mapped_flags(hdus: HDULookup) -> FlagPlane | None:
    """Return the DQ extension of a stack without reading it, or None if this is not possible."""
    hdu = hdus.get("DQ", [None])[0]
    if hdu is None or not hdu.is_image or (found := hdu.fileinfo()) is None:
        return None
    header = hdu.header
    shape = tuple(header[f"NAXIS{axis}"] for axis in range(header["NAXIS"], 0, -1))
    unsigned = header.get("BZERO") == 1 << 31 and header.get("BSCALE", 1) == 1
    if not unsigned or header["BITPIX"] != 32 or len(shape) != 3 or 0 in shape:
        return None
    return FlagPlane(np.memmap(found["file"].name, ">i4", "r", found["datLoc"], shape))


def _weight_plane(
    hdus: HDULookup, shape: tuple[int, ...], notes: list[LRSWarning]
) -> NDArray[Any] | None:
    """Return the WHT extension, or None and a warning if it is not an image of the given shape."""
    try:
        plane = _plane(hdus, "WHT")
    except ProductError as error:
        problem = error.text
    else:
        if plane is None or plane.shape == shape:
            return plane
        problem = f"WHT has shape {plane.shape}, expected {shape} as SCI"
    notes.append(LRSWarning(f"{problem}; it is ignored: pixels that drizzle filled in are unknown"))
    return None


def _wavelength_plane(hdus: HDULookup) -> NDArray[Any] | None:
    """Return the WAVELENGTH extension in micron, or None if the extension is missing.

    If the header states no unit, the values must be in micron.
    """
    plane = _plane(hdus, "WAVELENGTH")
    if plane is None:
        return None
    header = hdus["WAVELENGTH"][0].header
    units = (header_text(key, header) for key in ("BUNIT", "TUNIT", "TUNIT1"))
    stated = next(filter(None, units), None)
    if stated is not None:
        unit = u.Unit(stated, parse_strict="silent")
        if not unit.is_equivalent(u.um):
            raise ProductError(f"WAVELENGTH is in {quoted(stated)}, expected 'um'")
        factor = unit.to(u.um)
        if factor != 1.0:
            plane = plane.astype(float) * factor  # not in place, as the plane may be memory-mapped
    return plane


def _check_wavelength(wavelength: NDArray[Any], name: str) -> list[LRSWarning]:
    """Check the wavelengths in one column, as described in `check_wavelength`."""
    middle = np.flatnonzero(np.isfinite(wavelength[wavelength.shape[0] // 2]))
    if not middle.size:  # a rare case, in which all rows must be read
        middle = np.flatnonzero(np.isfinite(wavelength).any(axis=0))
    column = middle[middle.size // 2] if middle.size else 0
    return check_wavelength(wavelength[:, column], name, "rows")


def _all_zero(wavelength: NDArray[Any]) -> bool:
    """Return whether all finite wavelengths are 0.

    Older pipeline versions write zeros if the wavelengths are not known.
    """
    middle = wavelength[wavelength.shape[0] // 2]
    if (middle > 0).any():  # nearly always true, so that the other rows are not read
        return False
    finite = wavelength[np.isfinite(wavelength)]
    return finite.size > 0 and not finite.any()


def _check_values(image: SlitImage, release: bool) -> list[LRSWarning]:
    """Return warnings about implausible values in the middle row of each plane.

    Of a stack, the first integration is checked, as reading all of them takes time. `release` says
    whether the pages of a memory-mapped file that were read are released: the process would seem to
    need more memory for a longer stack. Values that were assigned to the planes would be lost.

    Raises
    ------
    ProductError
        If all values are NaN or infinite.
    """
    notes = []
    planes = image.data if image.is_stack else image.data[np.newaxis]
    middle = image.shape[0] // 2
    empty = []
    for number, plane in enumerate(planes, start=1):
        if not np.isfinite(plane[middle]).any() and not np.isfinite(plane).any():
            empty.append(number)
        if release and (number % _RELEASED == 0 or number == len(planes)):
            release_memory(image.data)
    if len(empty) == len(planes):
        raise ProductError("SCI holds nothing but NaN")
    if empty:
        listed = ", ".join(map(str, empty[:10])) + ", ..." * (len(empty) > 10)
        notes.append(LRSWarning(f"SCI is NaN throughout in the integrations {listed}"))
    for name in ("data", "err", *PLANES):
        values = getattr(image, name)
        if values is not None:
            label = "SCI" if name == "data" else name.upper()
            notes += check_plane((values[0] if image.is_stack else values)[middle], label)
    return notes


def _source_type(notes: list[LRSWarning], *headers: fits.Header) -> str | None:
    """Return SRCTYPE, or append a warning and return None if its value is not a valid type."""
    found = header_text("SRCTYPE", *headers)
    if found is None or found in _SOURCE_TYPES:
        return found
    notes.append(
        LRSWarning(
            f"SRCTYPE is {quoted(found)}, expected 'POINT', 'EXTENDED' or 'UNKNOWN'; as in the "
            "pipeline, no aperture correction is applied, and the aperture is not moved to the "
            "source",
            hint=Hint.to("{} moves it to the source", use_source_posn=True),
        )
    )
    return None


def _check_unit(found: object, calibrated: bool, notes: list[LRSWarning]) -> None:
    """Append a warning to `notes` if BUNIT contradicts S_PHOTOM."""
    expected = BUNIT[calibrated]
    if found is None or u.Unit(str(found), parse_strict="silent") == u.Unit(expected):
        return
    state = "COMPLETE" if calibrated else "not COMPLETE"
    notes.append(
        LRSWarning(
            f"BUNIT is {quoted(found)}, expected {expected!r} as S_PHOTOM is {state}; the values "
            f"are read as {expected}"
        )
    )


def _times(
    hdus: HDULookup, primary: fits.Header, shape: tuple[int, ...], notes: list[LRSWarning]
) -> Table | None:
    """Return the rows of the INT_TIMES table for the integrations in the file.

    If the table is damaged, append a warning to `notes` and return None.

    As in the pipeline (``populate_time_keywords``), the table is used only for a time series
    (TSOVISIT) with two or more integrations (NINTS). If it lacks some of the rows from INTSTART to
    INTEND, the pipeline does not use it; here, the integrations whose rows are missing have the
    time NaN. A table without rows is returned as it is, because the pipeline passes it on. Columns
    that the table lacks are NaN. A warning is appended to `notes` if rows or columns are missing.
    """
    hdu = hdus.get("INT_TIMES", [None])[0]
    total = header_integer("NINTS", primary)
    time_series = primary.get("TSOVISIT") is True and (total is None or total >= 2)
    if hdu is None or len(shape) != 3 or not time_series:
        return None
    first = header_integer("INTSTART", primary)
    last = header_integer("INTEND", primary)
    first = 1 if first is None else first
    last = (total if total is not None else first + shape[0] - 1) if last is None else last
    try:
        with reading("INT_TIMES"):
            wanted = first + np.arange(shape[0])
            columns = _time_columns(hdu)
            rows = len(columns.get("integration_number", ()))
            if not rows and hdu.header.get("TFIELDS") and not hdu.header.get("NAXIS2"):
                return Table({name: native(hdu.data[name]) for name in hdu.columns.names})
    except ProductError as error:  # the image itself is intact
        notes.append(LRSWarning(f"{error.text}; the times of the integrations are unknown"))
        return None
    known = np.isin(wanted, columns["integration_number"] if rows else ())
    if not known.all() or last > columns["integration_number"].max():
        number = columns["integration_number"] if rows else np.zeros(1)
        span = f"integrations {number[0]:g} to {number[-1]:g} in {rows} rows"
        used = f"its rows for {spans(wanted[known])} are used" if known.any() else ""
        lack = "" if known.all() else f"{spans(wanted[~known])} have no times"
        notes.append(
            LRSWarning(
                f"INT_TIMES has {span if rows else 'no column of integration numbers'}, expected "
                f"rows for {first} to {last}, and SCI has {shape[0]} integrations; "
                f"{' and '.join(filter(None, (used, lack)))}"
            )
        )
    if not known.any():
        return None
    missing = [name for name in INT_TIMES if name not in columns]
    if missing:
        text = f"INT_TIMES has no numbers in {', '.join(missing)}, so that these times are NaN"
        notes.append(LRSWarning(text))
    return matching_times(wanted, Table(columns))


def _time_columns(hdu: Any) -> dict[str, NDArray[Any]]:
    """Return the columns of an INT_TIMES extension that contain one number per row."""
    if not isinstance(hdu, fits.BinTableHDU) or hdu.data is None:
        return {}
    found = {name: native(hdu.data[name]) for name in hdu.columns.names if name in INT_TIMES}
    return {
        name: values
        for name, values in found.items()
        if values.ndim == 1 and values.dtype.kind in "iuf"
        and (name != "integration_number" or np.isfinite(values).all())
    }  # fmt: skip


# --- WCS ---------------------------------------------------------------------------------------


def _parse_wcs(raw: bytes, label: str) -> WCS | None:
    """Return the WCS from the bytes of an ASDF extension. `label` names the file in errors.

    The WCS is evaluated once, because a damaged one raises errors only then.
    """
    with naming(label):
        wcs = _wcs_in(parse_asdf(raw))
        if wcs is not None:
            with reading("the WCS in the ASDF extension"), np.errstate(all="ignore"):
                world = [float(value) for value in wcs(0.0, 0.0)]
                if len(world) != 3:
                    raise ProductError(f"the WCS has {len(world)} outputs, expected 3")
                with contextlib.suppress(NotImplementedError):  # it has no inverse
                    for value in wcs.backward_transform(*world):
                        float(value)
    return wcs


def _wcs_in(tree: dict[str, Any]) -> WCS | None:
    """Return the WCS from the tree of an ASDF extension, for a multi-slit model the first WCS."""
    with reading("meta.wcs (ASDF extension)"):
        slits = tree.get("slits")
        wcs = (slits[0] if slits else tree).get("meta", {}).get("wcs")
    if wcs is not None and not hasattr(wcs, "forward_transform"):
        raise ProductError(
            f"meta.wcs (ASDF extension) is a {type(wcs).__name__}, expected a gwcs WCS"
        )
    return wcs
