"""Reader and writer of PSF reference files (SPECPSF) for MIRI LRS in FITS format."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import numpy as np
from astropy.io import fits

from glue_lrs.errors import ProfileError, listed, quoted, warn
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.io.files import atomic_write, opened
from glue_lrs.io.headers import check_names, check_reference, header_value, reference_header
from glue_lrs.io.plausibility import check_profile, check_wavelength
from glue_lrs.profiles.psf import PSFProfile

#: Values of APERTURE with which a profile applies to every slit.
_ANY = ("NONE", "ANY", "")


def read_psf(path: str | PathLike[str], name: str | None = None) -> PSFProfile:
    """Read the spatial profile for a slit from a PSF reference file.

    Parameters
    ----------
    path : str or path-like
        PSF reference file (``SpecPsfModel``). Each image extension PSF has the keywords SUBPIX,
        CENTCOL and APERTURE, and belongs to the extension WAVE with the same EXTVER. In older files
        the keywords are in the primary header.
    name : str, optional
        Name of the slit. The first profile whose APERTURE is this name, ignoring case, is returned.
        An APERTURE that is ANY, NONE or empty matches every slit.

    Returns
    -------
    PSFProfile
        Spatial profile as a function of wavelength in micron and column.

    Raises
    ------
    ProfileError
        If the file is not a PSF reference file for MIRI LRS, has no profile for the slit, or the
        profile has its flux elsewhere than at the source.

    Warns
    -----
    LRSWarning
        If the profile is narrower than the diffraction limit or not centred, or its wavelengths are
        not those of LRS.
    """
    slit = str(name or "NONE").strip().upper()
    found = []
    with opened(path, ProfileError) as (hdulist, label):
        primary = hdulist[0].header
        check_reference(hdulist, "PSF", ProfileError, reftypes=("SPECPSF",))
        for hdu in hdulist[1:]:
            if hdu.name != "PSF":
                continue
            aperture = str(hdu.header.get("APERTURE", primary.get("APERTURE", "ANY"))).strip()
            found.append(aperture)
            if aperture.upper() not in (*_ANY, slit):
                continue
            if ("WAVE", hdu.ver) not in hdulist:
                raise ProfileError(
                    f"has no extension WAVE,{hdu.ver}, expected one beside PSF,{hdu.ver}"
                )
            data = np.array(hdu.data, dtype=float)
            wave = np.array(hdulist["WAVE", hdu.ver].data, dtype=float)
            if data.ndim != 2 or wave.ndim != 1 or data.shape[0] != wave.size:
                raise ProfileError(
                    f"PSF has shape {data.shape} and WAVE {wave.shape}, expected "
                    "(wavelength, column) and (wavelength,), dispersion along rows"
                )
            known = np.isfinite(wave)
            profile = PSFProfile(
                data=data[known],
                wave=wave[known],
                subpix=_number("SUBPIX", hdu, primary),
                center=_number("CENTCOL", hdu, primary),
                name=aperture,
                filename=label,
            )
            notes = check_wavelength(profile.wave, "WAVE", "wavelengths")
            for note in notes + check_profile(profile.data, profile.subpix, profile.center):
                warn(note.about(label))
            return profile
        raise ProfileError(f"found no aperture {slit}; there are {listed(found) or 'none'}")


def _number(key: str, hdu: fits.ImageHDU, primary: fits.Header) -> float:
    value = header_value(key, hdu.header, primary)
    if isinstance(value, bool) or not isinstance(value, int | float):
        state = "is missing" if value is None else f"is {quoted(value)}"
        raise ProfileError(f"{key} of PSF,{hdu.ver} {state}, expected a number")
    return float(value)


def write_psf(
    profiles: PSFProfile | Sequence[PSFProfile],
    path: str | PathLike[str],
    overwrite: bool = False,
) -> None:
    """Write a PSF reference file that the pipeline accepts as ``override_psf``.

    Parameters
    ----------
    profiles : PSFProfile or sequence of PSFProfile
        Spatial profiles to write, one for each slit. Their names are written to APERTURE.
    path : str or path-like
        Path of the file to write.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    ProfileError
        If there is no profile, or two profiles have the same name.
    WriteError
        If the file exists or cannot be written.
    """
    all_profiles = [profiles] if isinstance(profiles, PSFProfile) else list(profiles)
    header = reference_header(
        "PSF", "SpecPsfModel", "Spatial profile written by glue_lrs", FIXED_SLIT
    )
    header["FILTER"] = "P750L"
    with atomic_write(path, overwrite) as temporary:
        names = [profile.name.upper() for profile in all_profiles]
        check_names(names, "profile", "aperture", ProfileError)
        hdus = [fits.PrimaryHDU(header=header)]
        for version, profile in enumerate(all_profiles, start=1):
            image = fits.ImageHDU(np.asarray(profile.data, dtype=float), name="PSF", ver=version)
            image.header["APERTURE"] = profile.name
            image.header["SUBPIX"] = profile.subpix
            image.header["CENTCOL"] = profile.center
            image.header["CENTROW"] = 0.0  # not used by the pipeline for LRS
            hdus += [image, fits.ImageHDU(np.asarray(profile.wave), name="WAVE", ver=version)]
        fits.HDUList(hdus).writeto(temporary)
