"""PSF references of MIRI LRS (SPECPSF) as FITS files."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np
from astropy.io import fits, registry

from glue_lrs.errors import ProfileError, WriteError
from glue_lrs.io.files import atomic_write, open_fits
from glue_lrs.profiles.psf import PSFProfile

__all__ = ["read_psf", "register", "write_psf"]

#: Names of an aperture that stand for every slit.
_ANY = ("NONE", "ANY", "")


def read_psf(path: str | PathLike[str], name: str | None = None) -> PSFProfile:
    """Read the profile of a PSF reference that belongs to a slit.

    Parameters
    ----------
    path : str or path-like
        A PSF reference (``SpecPsfModel``): image extensions PSF, each with an extension WAVE of the
        same EXTVER and the keywords SUBPIX, CENTCOL and APERTURE. Older files have the keywords
        in the primary header.
    name : str, optional
        Name of the slit, to be found in APERTURE; upper and lower case do not matter. Apertures
        called ANY or NONE, or without a name, fit every slit. The first that fits is taken.

    Returns
    -------
    PSFProfile
        The profile over wavelength in micron and column.

    Raises
    ------
    ProfileError
        If the file is not a PSF reference of MIRI LRS, or has no aperture of that name.
    """
    label = fspath(path)
    wanted = str(name or "NONE").strip().upper()
    found = []
    with open_fits(path, ProfileError) as hdulist:
        primary = hdulist[0].header
        _check(primary, hdulist, label)
        for hdu in hdulist[1:]:
            if hdu.name != "PSF":
                continue
            aperture = str(hdu.header.get("APERTURE", primary.get("APERTURE", "ANY"))).strip()
            found.append(aperture)
            if aperture.upper() not in _ANY and aperture.upper() != wanted:
                continue
            numbers = {}
            for key in ("SUBPIX", "CENTCOL"):
                value = hdu.header.get(key, primary.get(key))
                if isinstance(value, bool) or not isinstance(value, int | float):
                    state = "is missing" if value is None else f"is {value!r}"
                    raise ProfileError(
                        f"{label}: {key} of PSF,{hdu.ver} {state}, expected a number"
                    )
                numbers[key] = float(value)
            if ("WAVE", hdu.ver) not in hdulist:
                raise ProfileError(
                    f"{label}: has no extension WAVE,{hdu.ver}, expected one beside PSF,{hdu.ver}"
                )
            try:
                data = np.array(hdu.data, dtype=float)
                wave = np.array(hdulist["WAVE", hdu.ver].data, dtype=float)
            except (OSError, ValueError, TypeError) as error:
                raise ProfileError(
                    f"{label}: PSF,{hdu.ver} or its WAVE cannot be read: {error}"
                ) from None
            if data.ndim != 2 or wave.ndim != 1 or data.shape[0] != wave.size:
                raise ProfileError(
                    f"{label}: PSF has shape {data.shape} and WAVE {wave.shape}, expected "
                    "(wavelength, column) and (wavelength,), dispersion along rows"
                )
            known = np.isfinite(wave)
            return PSFProfile(
                data=data[known],
                wave=wave[known],
                subpix=numbers["SUBPIX"],
                center=numbers["CENTCOL"],
                name=aperture,
                filename=label,
            )
    raise ProfileError(
        f"{label}: found no aperture {wanted}; there are {', '.join(found) or 'none'}"
    )


def _check(primary: fits.Header, hdulist: fits.HDUList, label: str) -> None:
    expected = "expected a PSF reference of MIRI LRS"
    instrument = str(primary.get("INSTRUME", "MIRI")).strip().upper()
    if instrument != "MIRI":
        raise ProfileError(f"{label}: INSTRUME is {instrument}, {expected}")
    kind = str(primary.get("REFTYPE", "PSF")).strip().upper()
    if kind not in ("PSF", "SPECPSF"):
        raise ProfileError(f"{label}: REFTYPE is {kind}, {expected}")
    if "PSF" not in hdulist:
        there = ", ".join(hdu.name for hdu in hdulist[1:]) or "none"
        raise ProfileError(f"{label}: has no extension PSF (there are: {there}), {expected}")


def write_psf(
    profiles: PSFProfile | Sequence[PSFProfile],
    path: str | PathLike[str],
    overwrite: bool = False,
) -> None:
    """Write a PSF reference that the pipeline takes by ``override_psf``.

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
        If there is none, or two have the same name.
    WriteError
        If the file exists or cannot be written.
    """
    label = fspath(path)
    several = [profiles] if isinstance(profiles, PSFProfile) else list(profiles)
    if not several:
        raise ProfileError(f"{label}: no profile was given, expected at least one")
    names = [profile.name.upper() for profile in several]
    for name in names:
        if names.count(name) > 1:
            raise ProfileError(f"{label}: two profiles are for aperture {name}, expected one")
    primary = fits.PrimaryHDU()
    primary.header.update(
        {
            "TELESCOP": "JWST",
            "INSTRUME": "MIRI",
            "REFTYPE": "PSF",
            "DATAMODL": "SpecPsfModel",
            "FILTER": "P750L",
            "EXP_TYPE": "MIR_LRS-FIXEDSLIT",
            "P_EXP_TY": "MIR_LRS-FIXEDSLIT|MIR_LRS-SLITLESS|",
            "PEDIGREE": "SIMULATION",
            "AUTHOR": "glue_lrs",
            "DESCRIP": "Spatial profile written by glue_lrs",
            "USEAFTER": "2022-01-01T00:00:00",
        }
    )
    hdus: list[Any] = [primary]
    for version, profile in enumerate(several, start=1):
        image = fits.ImageHDU(np.asarray(profile.data, dtype=float), name="PSF", ver=version)
        image.header.update(
            {
                "APERTURE": profile.name,
                "SUBPIX": profile.subpix,
                "CENTCOL": profile.center,
                "CENTROW": 0.0,  # for dispersion along columns; the pipeline does not look at it
            }
        )
        hdus += [image, fits.ImageHDU(np.asarray(profile.wave), name="WAVE", ver=version)]
    with atomic_write(path, overwrite) as temporary:
        try:
            fits.HDUList(hdus).writeto(temporary)
        except OSError as error:
            raise WriteError(f"{label}: cannot be written: {error.strerror or error}") from None


def register() -> None:
    """Register the format ``psf`` of `PSFProfile`."""
    registry.register_reader("psf", PSFProfile, read_psf, force=True)
