"""Light curves with their times and errors, as tables and datasets of other packages."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import fits, registry
from astropy.time import Time
from astropy.timeseries import TimeSeries

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs._utils.registry import unified_io
from glue_lrs.spectra.provenance import ProvenanceRecord, json_tree

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.fitting.drift import Drift
    from glue_lrs.spectra.findings import Finding


class LightCurveProvenance(ProvenanceRecord):
    """Record of how light curves were made, as a mapping with JSON values.

    The keys are ``parameters``, ``inputs`` (names and checksums of the files), ``extractions`` (the
    provenance of the spectra, or None), ``findings``, ``versions`` and ``date``.
    """

    _keys = ("parameters", "inputs", "extractions", "findings", "versions", "date")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class LightCurve:
    """White light curve of a time series, and those of wavelength bins.

    Band 0 is the white light curve; the bands from 1 are the bins, in ascending order of
    wavelength.

    Parameters
    ----------
    time : `~astropy.time.Time`
        Middle of the integrations, in ascending order, shape (n,). The scale is "tdb" at the
        barycentre, or "utc" at JWST.
    reference : {"barycentre", "spacecraft"}
        Place at which the light arrives at these times.
    edges : ndarray
        Lower and upper edge of each band in micron, shape (band, 2).
    flux : ndarray
        Sum of the flux over the wavelength elements of each band, shape (n, band). It is NaN if too
        many elements are lost.
    error : ndarray
        1-sigma errors of the flux.
    propagated : ndarray
        Errors that were propagated from the spectra. `error` differs if the scatter was asked for.
    photon_noise : ndarray
        Part of the propagated errors that is due to the Poisson noise, NaN if it is unknown.
    scatter : ndarray
        Standard deviation of a point of each band, from the light curve itself, shape (band,).
    replaced : ndarray of int
        Number of lost elements that were replaced, shape (n, band).
    elements : ndarray of int
        Number of wavelength elements in each band, shape (band,).
    unit : str
        Unit of the flux, Jy or DN/s.
    out_of_transit : ndarray of bool, optional
        Mask of the points from which the scatter was measured, shape (n,). None: all points.
    drift : Drift, optional
        Position and width of the source in each integration, if the spectra have them.
    header : `~astropy.io.fits.Header`
        Primary header of the spectra, stored as a copy (`LazyHeader`).
    provenance : LightCurveProvenance
        Parameters, inputs, findings and versions. The checksums of the files are computed at the
        first access.
    findings : tuple of Finding
        Findings about the light curves and their spectra, worst first.
    """

    time: Time
    reference: str
    edges: Array
    flux: Array
    error: Array
    propagated: Array
    photon_noise: Array
    scatter: Array
    replaced: NDArray[np.int_]
    elements: NDArray[np.int_]
    unit: str
    out_of_transit: Mask | None = None
    drift: Drift | None = None
    header: fits.Header = field(default_factory=fits.Header)
    provenance: LightCurveProvenance
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "header", LazyHeader.from_header(self.header))

    @property
    def time_label(self) -> str:
        """Name of the times: BMJD_TDB at the barycentre, MJD_UTC at JWST."""
        return "BMJD_TDB" if self.reference == "barycentre" else "MJD_UTC"

    @cached_property
    def level(self) -> Array:
        """Median flux of each band, of the points out of transit if they are known."""
        chosen = self.flux if self.out_of_transit is None else self.flux[self.out_of_transit]
        return np.array([typical(one) for one in chosen.T])

    @property
    def expected_noise(self) -> Array:
        """Median of the propagated errors of each band."""
        return np.array([typical(one) for one in self.propagated.T])

    @property
    def expected_photon_noise(self) -> Array:
        """Median of the photon noise of each band."""
        return np.array([typical(one) for one in self.photon_noise.T])

    @cached_property
    def table(self) -> TimeSeries:
        """Astropy `~astropy.timeseries.TimeSeries` with one row per integration.

        The columns are ``time``, ``flux``, ``flux_err`` and ``replaced`` (number of replaced
        wavelength elements) of the white light curve, and ``flux_1``, ``flux_err_1``,
        ``replaced_1`` and so on of the bins. Their descriptions, and ``meta["bands"]``, contain the
        wavelengths. If the drift of the source is known, ``shift`` is its displacement from the
        mean position in columns, ``width`` its width relative to the mean, and ``shift_err`` and
        ``width_err`` are their errors. ``meta["header"]`` has cards of the header,
        ``meta["time"]`` the label of the times, and ``meta["glue_lrs"]`` the provenance.
        """
        table = TimeSeries(time=self.time)
        bands = []
        for band, (low, high) in enumerate(self.edges):
            suffix = f"_{band}" if band else ""
            span = f"{low:.4f} to {high:.4f} um"
            table[f"flux{suffix}"] = u.Quantity(self.flux[:, band], self.unit)
            table[f"flux_err{suffix}"] = u.Quantity(self.error[:, band], self.unit)
            table[f"replaced{suffix}"] = self.replaced[:, band]
            for name in ("flux", "flux_err", "replaced"):
                table[f"{name}{suffix}"].info.description = span
            bands.append(
                {
                    "flux": f"flux{suffix}",
                    "lower_um": float(low),
                    "upper_um": float(high),
                    "elements": int(self.elements[band]),
                    "scatter": _number(self.scatter[band]),
                    "photon_noise": _number(self.expected_photon_noise[band]),
                }
            )
        if self.drift is not None:
            table["shift"] = u.Quantity(self.drift.shift, u.pix)
            table["shift_err"] = u.Quantity(self.drift.shift_error, u.pix)
            table["width"] = u.Quantity(self.drift.width)
            table["width_err"] = u.Quantity(self.drift.width_error)
        cards = ("TELESCOP", "INSTRUME", "FILTER", "EXP_TYPE", "TARGNAME", "TARGPROP", "OBSLABEL")
        known = LazyHeader.view(self.header)
        table.meta = {
            "header": {card: known[card] for card in cards if card in known},
            "time": self.time_label,
            "bands": bands,
            "glue_lrs": json_tree(self.provenance),
        }
        return table

    def to_xarray(self) -> Any:
        """Return the light curves of the bins as an `xarray.Dataset` (package xarray).

        The dataset has the variables ``flux``, ``flux_err`` and ``replaced`` with the dimensions
        ``time`` and ``wavelength`` (middle of the bin in micron), the coordinates
        ``wavelength_lower`` and ``wavelength_upper``, and the variables ``white`` and ``white_err``
        with the dimension ``time``. Times are in days, with ``time.attrs["units"]`` BMJD_TDB or
        MJD_UTC. Without bins, the white light curve is the only one.
        """
        import xarray  # noqa: PLC0415 - optional

        bands = slice(1, None) if len(self.edges) > 1 else slice(None)
        edges = self.edges[bands]
        dims, flux = ("time", "wavelength"), {"units": self.unit}
        return xarray.Dataset(
            {
                "flux": (dims, self.flux[:, bands], flux),
                "flux_err": (dims, self.error[:, bands], flux),
                "replaced": (dims, self.replaced[:, bands]),
                "white": ("time", self.flux[:, 0], flux),
                "white_err": ("time", self.error[:, 0], flux),
            },
            coords={
                "time": ("time", self.time.mjd, {"units": self.time_label}),
                "wavelength": ("wavelength", edges.mean(axis=1), {"units": "um"}),
                "wavelength_lower": ("wavelength", edges[:, 0], {"units": "um"}),
                "wavelength_upper": ("wavelength", edges[:, 1], {"units": "um"}),
            },
            attrs=dict(self.table.meta["header"]),
        )

    @unified_io("lrs-lightcurve")
    def write(self, path: str | PathLike[str], overwrite: bool = False, **options: Any) -> None:
        """Write the light curves to an ECSV or FITS file, as its suffix says.

        Parameters
        ----------
        path : str or path-like
            Path of the file to write, which ends in .ecsv, .fits or .fits.gz.
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        WriteError
            If the file exists or cannot be written, or has another suffix.
        """
        registry.write(self, path, overwrite=overwrite, **options)

    def __repr__(self) -> str:
        bins = len(self.edges) - 1
        low, high = self.edges[0]
        return f"<LightCurve {len(self.flux)} points, {low:.2f} to {high:.2f} um, {bins} bins>"


def typical(values: Array) -> float:
    """Return the median of the finite values, or NaN if there are none."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else np.nan


def _number(value: float) -> float | None:
    """Return a number for a file, or None for NaN."""
    return float(value) if np.isfinite(value) else None
