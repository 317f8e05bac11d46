"""Sums of the spectra of a time series over wavelength bands, chunk by chunk.

What is the same in all integrations follows from a sample of chunks, evenly spaced in the time
series: which elements are left out, the spectrum of the star, and the weights. The sample contains
all integrations if there are a thousand or fewer. Then one chunk after the other is summed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import LRSError
from glue_lrs.fitting.drift import Drift
from glue_lrs.spectra.findings import Finding
from glue_lrs.spectra.times import DRIFT
from glue_lrs.timeseries.consistency import (
    ConsistentSpectra,
    lost_elements,
    mean_spectrum,
    most_pixels,
    unusable_elements,
)

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.timeseries.source import SpectralChunks

#: Largest number of chunks in the sample. A chunk has about 64 integrations.
_SAMPLE = 16

#: Columns that are needed of each spectrum.
_NEEDED = ("FLUX", "DQ", "NPIXELS", "FLUX_VAR_POISSON", "FLUX_VAR_RNOISE", "FLUX_ERROR")


@dataclass(frozen=True, eq=False)
class _Elements:
    """Wavelength elements that are summed, and what is the same in all integrations.

    Parameters
    ----------
    chosen : ndarray of int
        Indices of the elements among those in the wavelength range.
    most : ndarray or None
        Largest NPIXELS of each of these elements.
    spectrum : ndarray
        Spectrum of the star.
    weight : ndarray
        Weights in each band, shape (band, element).
    findings : tuple of Finding
        Findings about elements that are left out.
    """

    chosen: NDArray[np.intp]
    most: Array | None
    spectrum: Array
    weight: Array
    findings: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class BandSums:
    """Sums over wavelength bands, for the integrations that have a time.

    Parameters
    ----------
    flux, variance, photon : ndarray
        Flux, variance and its part from the photons, shape (integration, band).
    replaced : ndarray of int
        Number of replaced elements, shape (integration, band).
    replaced_share : ndarray
        Fraction of the flux that is due to replaced elements, shape (integration, band).
    elements : ndarray of int
        Number of elements in each band.
    drift : Drift, optional
        Position and width of the source, if the spectra have them.
    findings : tuple of Finding
        Findings about elements that are left out or replaced.
    """

    flux: Array
    variance: Array
    photon: Array
    replaced: NDArray[np.int_]
    replaced_share: Array
    elements: NDArray[np.int_]
    drift: Drift | None
    findings: tuple[Finding, ...]

    @classmethod
    def from_chunks(
        cls,
        spectra: SpectralChunks,
        rows: NDArray[np.intp],
        edges: Array,
        weights: str,
        max_replaced: float,
    ) -> BandSums:
        """Sum the spectra. The parameters are those of `light_curve`.

        Parameters
        ----------
        spectra : SpectralChunks
            Spectra of the time series.
        rows : ndarray of int
            Integrations that are summed, in the order of the result.
        edges : ndarray
            Lower and upper edge of each band in micron, shape (band, 2).
        weights, max_replaced
            As for `light_curve`.

        Raises
        ------
        LRSError
            If a band has no usable element.
        """
        used = np.zeros(spectra.number, dtype=bool)
        used[rows] = True
        number = len(spectra.slices)
        sample = np.unique(np.linspace(0, number - 1, min(_SAMPLE, number)).round().astype(int))
        reader = _Reader(spectra, used, edges)
        kept = {index: reader.read(index) for index in sample.tolist()}
        elements = _elements(list(kept.values()), reader.wavelength, edges, weights, max_replaced)
        bands = len(edges)
        sums = np.zeros((5, spectra.number, bands))
        drifts = np.full((len(DRIFT), spectra.number), np.nan)
        lost = 0
        for index in range(number):
            columns = kept.pop(index) if index in kept else reader.read(index)
            where = np.flatnonzero(used[spectra.slices[index]]) + spectra.slices[index].start
            if where.size:
                sums[:, where], missing = _summed(columns, elements)
                lost += missing
            for at, name in enumerate(DRIFT):
                if name in columns:
                    drifts[at, where] = columns[name]
        findings = [*elements.findings]
        if lost:
            total = rows.size * elements.chosen.size
            text = (
                f"{lost} of {total} values lost pixels, and are replaced by the mean spectrum "
                "scaled to their neighbours"
            )
            findings.append(Finding("elements_replaced", text, {"values": lost, "all": total}))
        flux, variance, photon, replaced, share = sums[:, rows]
        found = drifts[:, rows]
        return cls(
            flux=flux,
            variance=variance,
            photon=photon,
            replaced=replaced.astype(int),
            replaced_share=share,
            elements=(elements.weight != 0).sum(axis=1),
            drift=Drift(*found) if np.isfinite(found).any() else None,
            findings=tuple(findings),
        )


class _Reader:
    """Reader of the columns of a chunk, for the integrations and wavelengths in question."""

    def __init__(self, spectra: SpectralChunks, used: Mask, edges: Array) -> None:
        self._spectra, self._used, self._edges = spectra, used, edges
        self._inside: NDArray[np.intp] | None = None
        self.wavelength = np.empty(0)

    def read(self, index: int) -> dict[str, Any]:
        """Return the needed columns of a chunk, and those of the drift if it has them."""
        columns, times = self._spectra.columns(index)
        if self._inside is None:
            wave, (low, high) = columns["WAVELENGTH"][0], self._edges[0]
            self._inside = np.flatnonzero((wave >= low) & (wave <= high))
            self.wavelength = wave[self._inside]
            if self._inside.size == 0:
                raise LRSError(
                    f"has no wavelength from {low:g} to {high:g} um, expected some of "
                    f"{np.nanmin(wave):.2f} to {np.nanmax(wave):.2f}",
                    subject=self._spectra.filename,
                )
        rows = np.flatnonzero(self._used[self._spectra.slices[index]])
        at = np.ix_(rows, self._inside)
        made = {name: np.asarray(columns[name][at]) for name in _NEEDED if name in columns}
        if times is not None:
            made |= {name: np.array(times[name])[rows] for name in DRIFT if name in times.colnames}
        return made


def _elements(
    sample: list[dict[str, Any]], wavelength: Array, edges: Array, weights: str, max_replaced: float
) -> _Elements:
    """Return the elements that are lost in few of the integrations of the sample."""
    names = [name for name in _NEEDED if name in sample[0]]
    columns = {name: np.concatenate([one[name] for one in sample]) for name in names}
    most = None
    if "NPIXELS" in columns:
        most = most_pixels(columns, unusable_elements(columns))
    good = ~lost_elements(columns, most)
    kept = (~good).mean(axis=0) <= max_replaced
    findings = []
    if not kept.all():
        number = int((~kept).sum())
        gone = wavelength[~kept]
        where = f"{gone.min():.2f} to {gone.max():.2f} um" if number > 1 else f"{gone[0]:.2f} um"
        text = (
            f"{number} of {kept.size} wavelength elements are left out (at {where}), as they are "
            f"lost in more than {max_replaced:.0%} of the integrations"
        )
        findings.append(Finding("elements_left_out", text, {"elements": number, "all": kept.size}))
    chosen = np.flatnonzero(kept)
    flux, variance, _ = _values(columns, chosen)
    good = good[:, chosen]
    spectrum = mean_spectrum(flux, variance, good)
    weight = _weights(wavelength[chosen], variance, good, spectrum, edges, weights)
    return _Elements(
        chosen, None if most is None else most[chosen], spectrum, weight, tuple(findings)
    )


def _summed(columns: dict[str, Any], elements: _Elements) -> tuple[Array, int]:
    """Return the sums of a chunk, shape (5, integration, band), and the number of lost values.

    The sums are those of the attributes of `BandSums`, in order.
    """
    flux, variance, photon = _values(columns, elements.chosen)
    chosen = {
        name: values[:, elements.chosen] for name, values in columns.items() if values.ndim == 2
    }
    good = ~lost_elements(chosen, elements.most)
    spectra = ConsistentSpectra(flux, np.stack([variance, photon]), good, elements.spectrum)
    sums, variances = spectra.band_sums(elements.weight)
    replaced = (~good).astype(int) @ (elements.weight != 0).T
    signal = np.abs(elements.weight * elements.spectrum)
    total = np.maximum(signal.sum(axis=1), np.finfo(float).tiny)
    share = (~good) @ signal.T / total
    return np.array([sums, *variances, replaced, share]), int((~good).sum())


def _values(columns: Mapping[str, Any], chosen: NDArray[np.intp]) -> tuple[Array, Array, Array]:
    """Return flux, variance that differs between integrations, and variance of the photons.

    The error of the flat field, which is the same in all integrations, is included only if the
    spectra have no column with the variances of the other components. Unknown values are 0.
    """
    flux = np.asarray(columns["FLUX"][:, chosen], dtype=float)
    photon, read = (
        _known(columns[name][:, chosen]) if name in columns else np.zeros(flux.shape)
        for name in ("FLUX_VAR_POISSON", "FLUX_VAR_RNOISE")
    )
    total = photon + read
    if not (total > 0).any() and "FLUX_ERROR" in columns:
        total = _known(columns["FLUX_ERROR"][:, chosen]) ** 2
    return flux, total, photon


def _known(values: Any) -> Array:
    return np.where(np.isfinite(values) & (values > 0), values, 0.0)


def _weights(
    wave: Array, variance: Array, good: Mask, spectrum: Array, edges: Array, kind: str
) -> Array:
    """Return the weights of the elements in each band, shape (band, element)."""
    low, high = edges[:, :1], edges[:, 1:]
    inside = (wave >= low) & ((wave < high) | (high == edges[0, 1]) & (wave <= high))
    for (lower, upper), any_inside in zip(edges, inside.any(axis=1), strict=True):
        if not any_inside:
            raise LRSError(
                f"there is no usable wavelength element from {lower:g} to {upper:g} um, expected "
                "at least one in each bin",
                subject="bins",
            )
    weight = inside.astype(float)
    if kind == "sum":
        return weight
    known = good & (variance > 0)
    if not known.any():
        raise LRSError("is 'inverse_variance', but the spectra have no errors", subject="weights")
    total, number = np.where(known, variance, 0.0).sum(axis=0), known.sum(axis=0)
    mean = np.divide(total, number, out=np.full(wave.size, np.inf), where=number > 0)
    signal = np.maximum(spectrum, 0.0)
    for one in weight:
        norm = float((one * signal**2 / mean).sum())
        if norm > 0:
            one *= signal / mean * float((one * spectrum).sum()) / norm
    return weight
