"""Comparison: a spectrum of the pipeline, or any other in glue, beside the extracted one."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.nddata import StdDevUncertainty
from glue.core import Data
from numpy.typing import NDArray

from glue_lrs.errors import LRSError
from glue_lrs.io.spectra import read_spectra

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs.spectra.extraction import Extraction

__all__ = ["Comparison", "comparison_of", "series"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """A spectrum, or a stack of them, to compare with, and where it comes from.

    Parameters
    ----------
    label : str
        Its name.
    source : dict
        ``path`` of the file, or ``uuid`` of the glue data: what a session keeps.
    spectra : `~specutils.Spectrum`
        Flux of shape (n_wave,) or (integration, n_wave).
    """

    label: str
    source: dict[str, str]
    spectra: Any

    def spectrum(self, integration: int | None) -> Spectrum:
        """The spectrum of an integration, or the median of all."""
        from specutils import Spectrum

        whole = self.spectra
        if whole.flux.ndim == 1:
            return whole
        number = whole.flux.shape[0]
        if integration is not None and integration < number:
            return whole[integration]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of elements without any value
            mask = None if whole.mask is None else whole.mask.all(axis=0)
            return Spectrum(
                flux=np.nanmedian(whole.flux, axis=0), spectral_axis=whole.spectral_axis, mask=mask
            )


def _read(path: str) -> Extraction:
    """The single spectrum of an x1d or c1d, or the stack of an x1dints."""
    found = read_spectra(path)
    if len(found) != 1:
        raise LRSError(f"{path}: has {len(found)} spectra, expected one to compare with")
    return found[0]


def comparison_of(source: str | PathLike[str] | Data) -> Comparison:
    """Read a spectrum to compare with.

    Parameters
    ----------
    source : str, path-like or Data
        An x1d, x1dints or c1d, or the glue data of a spectrum.

    Returns
    -------
    Comparison
        The spectrum in ascending order; masked elements of a file are NaN.

    Raises
    ------
    LRSError
        If it is no spectrum.
    """
    if isinstance(source, Data):
        return Comparison(source.label, {"uuid": source.uuid}, _data_spectrum(source))
    path = Path(fspath(source)).expanduser().resolve()
    return Comparison(path.name, {"path": str(path)}, _read(str(path)).to_spectrum(fill="nan"))


def series(
    spectrum: Spectrum,
) -> tuple[NDArray[np.float64], NDArray[np.float64], u.UnitBase]:
    """Wavelength in micron, ascending, flux (NaN where it is masked), and the flux's unit.

    Parameters
    ----------
    spectrum : `~specutils.Spectrum`
        A single spectrum.
    """
    wave = np.asarray(spectrum.spectral_axis.to_value(u.um, u.spectral()), dtype=float)
    flux = np.asarray(spectrum.flux.value, dtype=float)
    if spectrum.mask is not None:
        flux = np.where(spectrum.mask, np.nan, flux)
    order = np.argsort(wave, kind="stable")
    return wave[order], flux[order], spectrum.flux.unit


def _data_spectrum(data: Data) -> Spectrum:
    """The specutils spectrum of the data of a spectrum."""
    from specutils import Spectrum

    names = [component.label for component in data.main_components]
    if "flux" not in names or "wavelength" not in names:
        found = ", ".join(names)
        raise LRSError(f"{data.label}: has {found}, expected the components wavelength and flux")
    wave = np.asarray(data["wavelength"], dtype=float)
    flux = np.asarray(data["flux"], dtype=float)
    axis = wave if wave.ndim == 1 else wave[0]
    known = np.isfinite(axis)
    if data.ndim > 2 or (data.ndim == 2 and not (wave == axis).all()) or not known.any():
        raise LRSError(f"{data.label}: has shape {data.shape}, expected a spectrum")
    order = np.flatnonzero(known)[np.argsort(axis[known])]
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
