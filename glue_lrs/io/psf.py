"""PSF references of MIRI LRS (SPECPSF) as FITS files."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np
from astropy.io import fits

from glue_lrs.errors import ProfileError
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.io.files import atomic_write, open_fits
from glue_lrs.io.headers import check_reference, header_value, reference_header
from glue_lrs.profiles.psf import PSFProfile

__all__ = ["read_psf", "write_psf"]

#: Values of APERTURE that apply to every slit.
_ANY = ("NONE", "ANY", "")


def read_psf(path: str | PathLike[str], name: str | None = None) -> PSFProfile:
    """Read the spatial profile of a slit from a PSF reference.

    Parameters
    ----------
    path : str or path-like
        A PSF reference (``SpecPsfModel``): image extensions PSF, each with an extension WAVE of the
        same EXTVER and the keywords SUBPIX, CENTCOL and APERTURE. Older files have the keywords
        in the primary header.
    name : str, optional
        Name of the slit, compared with APERTURE; case-insensitive. The apertures ANY and NONE, and
        those without a name, match every slit. The first match is returned.

    Returns
    -------
    PSFProfile
        The profile as a function of wavelength in micron and column.

    Raises
    ------
    ProfileError
        If the file is not a PSF reference of MIRI LRS, or has no aperture of that name.
    """
    label = fspath(path)
    slit = str(name or "NONE").strip().upper()
    found = []
    with open_fits(path, ProfileError) as hdulist:
        primary = hdulist[0].header
        check_reference(hdulist, "PSF", label, ProfileError, reftypes=("SPECPSF",))
        for hdu in hdulist[1:]:
            if hdu.name != "PSF":
                continue
            aperture = str(hdu.header.get("APERTURE", primary.get("APERTURE", "ANY"))).strip()
            found.append(aperture)
            if aperture.upper() not in _ANY and aperture.upper() != slit:
                continue
            if ("WAVE", hdu.ver) not in hdulist:
                raise ProfileError(
                    f"has no extension WAVE,{hdu.ver}, expected one beside PSF,{hdu.ver}",
                    subject=label,
                )
            try:
                data = np.array(hdu.data, dtype=float)
                wave = np.array(hdulist["WAVE", hdu.ver].data, dtype=float)
            except (OSError, ValueError, TypeError) as error:
                raise ProfileError(
                    f"PSF,{hdu.ver} or its WAVE cannot be read: {error}", subject=label
                ) from None
            if data.ndim != 2 or wave.ndim != 1 or data.shape[0] != wave.size:
                raise ProfileError(
                    f"PSF has shape {data.shape} and WAVE {wave.shape}, expected "
                    "(wavelength, column) and (wavelength,), dispersion along rows",
                    subject=label,
                )
            known = np.isfinite(wave)
            return PSFProfile(
                data=data[known],
                wave=wave[known],
                subpix=_number("SUBPIX", label, hdu, primary),
                center=_number("CENTCOL", label, hdu, primary),
                name=aperture,
                filename=label,
            )
    raise ProfileError(
        f"found no aperture {slit}; there are {', '.join(found) or 'none'}", subject=label
    )


def _number(key: str, label: str, hdu: fits.ImageHDU, primary: fits.Header) -> float:
    value = header_value(key, hdu.header, primary)
    if isinstance(value, bool) or not isinstance(value, int | float):
        state = "is missing" if value is None else f"is {value!r}"
        raise ProfileError(f"{key} of PSF,{hdu.ver} {state}, expected a number", subject=label)
    return float(value)


def write_psf(
    profiles: PSFProfile | Sequence[PSFProfile],
    path: str | PathLike[str],
    overwrite: bool = False,
) -> None:
    """Write a PSF reference, for ``override_psf`` of the pipeline.

    Parameters
    ----------
    profiles : PSFProfile or sequence of them
        One for each slit; their names become APERTURE.
    path : str or path-like
        The file to write.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    ProfileError
        If there is no profile, or two have the same name.
    WriteError
        If the file exists or cannot be written.
    """
    label = fspath(path)
    all_profiles = [profiles] if isinstance(profiles, PSFProfile) else list(profiles)
    if not all_profiles:
        raise ProfileError("no profile was given, expected at least one", subject=label)
    names = [profile.name.upper() for profile in all_profiles]
    for name in names:
        if names.count(name) > 1:
            raise ProfileError(f"two profiles are for aperture {name}, expected one", subject=label)
    header = reference_header(
        "PSF", "SpecPsfModel", "Spatial profile written by glue_lrs", FIXED_SLIT
    )
    header["FILTER"] = "P750L"
    hdus: list[Any] = [fits.PrimaryHDU(header=header)]
    for version, profile in enumerate(all_profiles, start=1):
        image = fits.ImageHDU(np.asarray(profile.data, dtype=float), name="PSF", ver=version)
        image.header.update(
            {
                "APERTURE": profile.name,
                "SUBPIX": profile.subpix,
                "CENTCOL": profile.center,
                "CENTROW": 0.0,  # unused by the pipeline for dispersion along rows
            }
        )
        hdus += [image, fits.ImageHDU(np.asarray(profile.wave), name="WAVE", ver=version)]
    with atomic_write(path, overwrite) as temporary:
        fits.HDUList(hdus).writeto(temporary)
