"""Spectra for tests: extractions with random columns, inputs of combinations, a nod pair."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source, Supernova
from glue_lrs.simulation.truth import Simulated
from glue_lrs.spectra.columns import COLUMNS, column_units
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.findings import Finding
from glue_lrs.spectra.provenance import Provenance

#: Wavelengths of `spectrum`.
SIZE = 60
WAVE = np.linspace(14.0, 4.0, SIZE) ** 1.05


def make_extraction(
    rows: int = 40,
    integrations: int | None = None,
    bad: Any = (),
    seed: int = 0,
    wave: Any = None,
    calibrated: bool = True,
) -> Extraction:
    """Random columns on the descending wavelengths of LRS; `bad` indexes rows without flux."""
    rng = np.random.default_rng(seed)
    wave = np.linspace(14.0, 3.0, rows) ** 1.1 if wave is None else np.asarray(wave, dtype=float)
    shape = wave.shape if integrations is None else (integrations, *wave.shape)
    columns: dict[str, Any] = {name: rng.uniform(1.0, 2.0, shape) for name in COLUMNS}
    columns["WAVELENGTH"] = np.broadcast_to(wave, shape)
    columns["DQ"] = np.zeros(shape, dtype=np.uint32)
    lost = np.zeros(shape, dtype=bool)
    lost[bad if isinstance(bad, np.ndarray) else (..., list(bad))] = True
    for name in COLUMNS:
        if name not in ("WAVELENGTH", "DQ", "NPIXELS") and not name.startswith("B"):
            columns[name][lost] = np.nan
    columns["NPIXELS"][lost] = 0.0
    columns["DQ"][lost] = 1
    header = fits.Header({"TELESCOP": "JWST", "INSTRUME": "MIRI", "EXP_TYPE": "MIR_LRS-FIXEDSLIT"})
    times = None
    if integrations is not None:
        numbers = np.arange(1, integrations + 1, dtype=np.int32)
        times = Table({"INT_NUM": numbers, "MJD-BEG": 60000.0 + numbers})
    return Extraction(
        columns=columns,
        units=column_units(calibrated),
        header=header,
        keywords_source={"SLTNAME": "slit", "SRCTYPE": "POINT", "EXTRXSTR": 27.5},
        times=times,
        provenance=Provenance({"step": {}}, findings=[Finding("changed", "as measured")]),
    )


def spectrum(
    flux: Any = None,
    error: Any = 0.1,
    wave: np.ndarray = WAVE,
    seed: int = 0,
    time: float = 332.0,
    calibrated: bool = True,
    **cards: Any,
) -> Extraction:
    """One spectrum; its surface brightness is ten times its flux."""
    rng = np.random.default_rng(seed)
    flux = rng.normal(1.0, 0.1, wave.size) if flux is None else np.broadcast_to(flux, wave.shape)
    flux = np.array(flux, dtype=float)
    error = np.array(np.broadcast_to(error, wave.shape), dtype=float)
    columns = {
        "WAVELENGTH": wave,
        "FLUX": flux,
        "FLUX_ERROR": error,
        "FLUX_VAR_FLAT": 0.3 * error**2,
        "SURF_BRIGHT": 10.0 * flux,
        "SB_ERROR": 10.0 * error,
        "SB_VAR_FLAT": 30.0 * error**2,
        "DQ": np.zeros(wave.size, dtype=np.uint32),
    }
    header = fits.Header({"TELESCOP": "JWST", "INSTRUME": "MIRI", "EXP_TYPE": "MIR_LRS-FIXEDSLIT"})
    header.update({"EFFEXPTM": time, "EFFINTTM": time / 4})
    header.update(cards)
    units = column_units(calibrated)
    return Extraction(
        columns=columns,
        units={name: units[name] for name in columns if name in units},
        header=header,
        keywords_source={"SRCTYPE": "POINT", "SPORDER": 1, "EXTRXSTR": 3.0},
        provenance=Provenance({"step": {}}, findings=[Finding("changed", "as measured")]),
    )


def stack(parts: list[Extraction]) -> Extraction:
    """A stack of spectra with the same wavelengths."""
    names = parts[0].columns
    return replace(
        parts[0],
        columns={name: np.stack([one.columns[name] for one in parts]) for name in names},
    )


def lose(extraction: Extraction, rows: Any, by: str = "nan") -> Extraction:
    """The extraction with masked rows, as an extraction masks them."""
    columns = {name: np.array(values) for name, values in extraction.columns.items()}
    columns["DQ"][rows] |= 1
    if by == "nan":
        for name in columns:
            if name not in ("WAVELENGTH", "DQ"):
                columns[name][rows] = np.nan
    return replace(extraction, columns=columns)


def nods(seed: int = 1, **options: Any) -> list[Simulated]:
    """Both nods of a faint supernova."""
    scene = Scene(sources=(Source(flux=Supernova(level=1.5e-4), halo=0.0),), seed=seed, **options)
    return [scene.s2d(nod=1), scene.s2d(nod=2)]
