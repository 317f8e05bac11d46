"""Comparison of the extraction with a pipeline product or another spectrum in glue."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.nddata import StdDevUncertainty
from glue.core import Data
from numpy.typing import NDArray
from specutils import Spectrum

from glue_lrs.errors import LRSError
from glue_lrs.io.spectra import read_spectra
from glue_lrs.plotting.style import unit_label
from glue_lrs.viewers.datasets.session_meta import absolute_path

if TYPE_CHECKING:
    from glue_lrs.spectra.extraction import Extraction


@dataclass(frozen=True, eq=False)
class Comparison:
    """A spectrum, or a stack of spectra, to compare with the extraction.

    Parameters
    ----------
    label : str
        Name of the spectrum.
    source : dict
        Either ``{"path": path of the file}`` or ``{"uuid": uuid of the glue dataset}``. A session
        restores the comparison from this file or dataset.
    spectra : `~specutils.Spectrum`
        Flux of shape (n_wave,) or (integration, n_wave).
    """

    label: str
    source: dict[str, str]
    spectra: Spectrum

    def spectrum(self, integration: int | None) -> Spectrum:
        """Return the spectrum of an integration, or the median over all integrations."""
        spectra = self.spectra
        if spectra.flux.ndim == 1:
            return spectra
        if integration is not None and integration < spectra.flux.shape[0]:
            return spectra[integration]
        mask = None if spectra.mask is None else spectra.mask.all(axis=0)
        with warnings.catch_warnings(action="ignore"):  # about wavelengths without finite flux
            flux = np.nanmedian(spectra.flux, axis=0)
            return Spectrum(flux=flux, spectral_axis=spectra.spectral_axis, mask=mask)


def comparison_of(source: str | PathLike[str] | Data) -> Comparison:
    """Read a spectrum with which to compare the extraction.

    Parameters
    ----------
    source : str, path-like or Data
        An x1d, x1dints or c1d file, or the glue dataset of a spectrum.

    Returns
    -------
    Comparison
        Spectrum with ascending wavelengths. Masked fluxes from a file are NaN.

    Raises
    ------
    LRSError
        If `source` is not a spectrum.
    """
    if isinstance(source, Data):
        return Comparison(source.label, {"uuid": source.uuid}, _spectrum_of_data(source))
    path = absolute_path(source)
    spectra = read_spectra(path)  # an x1dints file contains one stack
    if len(spectra) != 1:
        raise LRSError(f"has {len(spectra)} spectra, expected one to compare with", subject=path)
    return Comparison(Path(path).name, {"path": path}, spectra[0].to_spectrum(fill="nan"))


def _spectrum_of_data(data: Data) -> Spectrum:
    """Make a spectrum from any glue dataset with the components wavelength and flux."""
    names = [component.label for component in data.main_components]
    if "flux" not in names or "wavelength" not in names:
        found = ", ".join(names)
        raise LRSError(
            f"has {found}, expected the components wavelength and flux", subject=data.label
        )
    wavelength = np.asarray(data["wavelength"], dtype=float)
    flux = np.asarray(data["flux"], dtype=float)
    axis = wavelength if wavelength.ndim == 1 else wavelength[0]
    finite = np.isfinite(axis)
    same = data.ndim == 1 or (data.ndim == 2 and bool((wavelength == axis).all()))
    if not same:
        raise LRSError(
            f"has shape {data.shape}, expected one spectrum, or one row for each integration with "
            "the same wavelengths",
            subject=data.label,
        )
    if not finite.any():
        raise LRSError("has no finite wavelength, expected a spectrum", subject=data.label)
    order = np.flatnonzero(finite)[np.argsort(axis[finite])]
    unit = data.get_component("flux").units or ""
    error, mask = None, None
    if "uncertainty" in names:
        error = StdDevUncertainty(np.asarray(data["uncertainty"], dtype=float)[..., order])
    if "masked" in names:
        mask = np.asarray(data["masked"])[..., order] != 0
    return Spectrum(
        flux=flux[..., order] * u.Unit(unit),
        spectral_axis=axis[order] * u.um,
        uncertainty=error,
        mask=mask,
    )


def series(
    spectrum: Spectrum,
) -> tuple[NDArray[np.float64], NDArray[np.float64], u.UnitBase]:
    """Return the wavelength in micron (ascending), the flux (NaN where masked), and its unit.

    Parameters
    ----------
    spectrum : `~specutils.Spectrum`
        Single spectrum to convert.
    """
    wavelength = np.asarray(spectrum.spectral_axis.to_value(u.um, u.spectral()), dtype=float)
    flux = np.asarray(spectrum.flux.value, dtype=float)
    if spectrum.mask is not None:
        flux = np.where(spectrum.mask, np.nan, flux)
    order = np.argsort(wavelength, kind="stable")
    return wavelength[order], flux[order], spectrum.flux.unit


def in_unit(
    spectrum: Spectrum, unit: str | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the wavelength and the flux in a unit, or None if the flux cannot be converted.

    Parameters
    ----------
    spectrum : `~specutils.Spectrum`
        Single spectrum, as for `series`.
    unit : str or None
        Unit of the returned flux.
    """
    wavelength, flux, own = series(spectrum)
    densities = u.spectral_density(wavelength * u.um)  # per wavelength, and per frequency
    try:
        return wavelength, np.asarray((flux * own).to_value(u.Unit(unit or ""), densities))
    except u.UnitConversionError:
        return None


def not_comparable(extraction: Extraction | None, comparison: Spectrum | None) -> str:
    """Return a remark if the flux of a comparison cannot be converted, or else ""."""
    if extraction is None or comparison is None:
        return ""
    if in_unit(comparison, extraction.units["FLUX"]) is not None:
        return ""
    return f"in {unit_label(comparison.flux.unit)}, not comparable"


def flux_ratio(
    extraction: Extraction | None, comparison: Spectrum | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Divide the flux of an extraction by the flux of a comparison.

    Parameters
    ----------
    extraction : Extraction or None
        Single spectrum whose flux is divided.
    comparison : `~specutils.Spectrum` or None
        Single spectrum by which to divide. It is interpolated at the wavelengths of `extraction`.

    Returns
    -------
    wavelength, ratio : ndarray
        Wavelengths in micron (ascending), and the ratio. The ratio is NaN where either spectrum is
        masked, and outside the wavelength range of the comparison. Both are empty if there is no
        extraction or comparison, or if their units cannot be converted.
    """
    empty = np.empty(0), np.empty(0)
    if extraction is None or comparison is None:
        return empty
    converted = in_unit(comparison, extraction.units["FLUX"])
    if converted is None:
        return empty
    axis, flux = converted
    finite = np.isfinite(flux)
    if not finite.any():
        return empty
    order = np.argsort(extraction.wavelength)
    wavelength = extraction.wavelength[order]
    extracted = np.where(extraction.mask, np.nan, extraction.columns["FLUX"])[order]
    reference = np.interp(wavelength, axis[finite], flux[finite], left=np.nan, right=np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = extracted / reference
    return wavelength, np.where(np.isfinite(ratio), ratio, np.nan)


def plotted_comparison(
    comparison: Spectrum | None, label: str, extraction: Extraction
) -> tuple[str, NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the label, wavelength and flux of a comparison for a figure with an extraction.

    Parameters
    ----------
    comparison : `~specutils.Spectrum` or None
        Single spectrum.
    label : str
        Name of the spectrum.
    extraction : Extraction
        Single spectrum, in whose unit the flux is returned.

    Returns
    -------
    (str, ndarray, ndarray) or None
        The label says so if the flux cannot be converted; then there are no points. None if there
        is no comparison.
    """
    if comparison is None:
        return None
    converted = in_unit(comparison, extraction.units["FLUX"])
    if converted is None:
        remark = not_comparable(extraction, comparison)
        return f"{label}: {remark}", np.empty(0), np.empty(0)
    return label, *converted
