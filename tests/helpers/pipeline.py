"""Run jwst's ``run_extract1d`` on the arrays of a `SlitImage`, without CRDS and without files."""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jwst.datamodels import ModelContainer
from jwst.extract_1d.extract import run_extract1d
from stdatamodels.jwst import datamodels

from glue_lrs.image.slit_image import SlitImage
from glue_lrs.spectra.columns import COLUMNS
from glue_lrs.spectra.extraction import Extraction

logging.getLogger("jwst").setLevel(logging.CRITICAL)
logging.getLogger("stpipe").setLevel(logging.CRITICAL)

#: Data type of the table of an x1d; the schema is slow to read.
SPEC_TABLE = datamodels.SpecModel().get_dtype("spec_table")


@dataclass(frozen=True)
class Result:
    """What the pipeline returns: columns (n_wave,) or (integration, n_wave), and header limits."""

    columns: dict[str, np.ndarray]
    keywords: dict[str, Any]
    model: Any


def to_model(image: SlitImage, model_class: str | None = None) -> Any:
    """Make the pipeline's data model of an image."""
    if model_class is None:
        model_class = "SlitModel"
    model = getattr(datamodels, model_class)(data=np.array(image.data, dtype=np.float32))
    for plane in ("err", "var_poisson", "var_rnoise", "var_flat"):
        values = getattr(image, plane)
        if values is not None:
            setattr(model, plane, np.array(values, dtype=np.float32))
    if image.dq is not None:
        model.dq = np.array(image.dq, dtype=np.uint32)
    if image.wavelength.dtype.itemsize == 4:  # a plane of the file; else it comes from the WCS
        model.wavelength = np.array(image.wavelength, dtype=np.float32)
    meta = model.meta
    meta.wcs = image.wcs
    meta.telescope, meta.instrument.name, meta.instrument.filter = "JWST", "MIRI", "P750L"
    meta.instrument.detector = "MIRIMAGE"
    meta.exposure.type = image.exp_type
    meta.subarray.name = image.subarray
    meta.wcsinfo.dispersion_direction = image.dispaxis
    meta.target.source_type = image.source_type
    if model_class == "SlitModel":
        model.source_type = image.source_type
    meta.dither.dithered_ra, meta.dither.dithered_dec = image.source_ra, image.source_dec
    meta.cal_step.photom = "COMPLETE" if image.calibrated else "SKIPPED"
    meta.photometry.pixelarea_steradians = image.pixel_area
    meta.exposure.nints = image.data.shape[0] if image.is_stack else 1
    return model


def to_models(spectra: list[Extraction]) -> ModelContainer:
    """Make the pipeline's data models of spectra."""
    models = ModelContainer()
    for extraction in spectra:
        model = datamodels.MultiSpecModel()
        columns = {name: np.atleast_2d(extraction.columns[name]).copy() for name in COLUMNS}
        for integration in range(len(columns["FLUX"])):
            spec = datamodels.SpecModel()
            table = np.zeros(columns["FLUX"].shape[1], dtype=SPEC_TABLE)
            for name in COLUMNS:
                table[name] = columns[name][integration]
            spec.spec_table = table
            for name in COLUMNS:
                if extraction.units.get(name):
                    spec.spec_table.columns[name.lower()].unit = extraction.units[name]
            spec.spectral_order, spec.source_type = 1, "POINT"
            model.spec.append(spec)
        model.meta.exposure.exposure_time = extraction.header["EFFEXPTM"]
        model.meta.exposure.integration_time = extraction.header["EFFINTTM"]
        model.meta.target.ra, model.meta.target.dec = 53.0, -27.0
        models.append(model)
    return models


def run(
    image: SlitImage,
    entry: dict[str, Any],
    folder: Path,
    *,
    apcorr: Path | None = None,
    model_class: str | None = None,
    **step: Any,
) -> Result:
    """Run the pipeline's box extraction with one aperture entry and step parameters."""
    reference = folder / "oracle.json"
    reference.write_text(json.dumps({"apertures": [{"id": image.exp_type, **entry}]}))
    apply = step.pop("apply_apcorr", True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the pipeline are not tested here
        model = to_model(image, model_class)
        out, *_ = run_extract1d(
            model,
            str(reference),
            str(apcorr) if apcorr is not None and apply else "N/A",
            **step,
        )
        spec = out.spec[0]
        table = np.asarray(spec.spec_table)
        names = {name.upper(): name for name in table.dtype.names}
        columns = {name: np.array(table[names[name]]) for name in COLUMNS}
    keywords = {
        "EXTRXSTR": spec.extraction_xstart,
        "EXTRXSTP": spec.extraction_xstop,
        "EXTRYSTR": spec.extraction_ystart,
        "EXTRYSTP": spec.extraction_ystop,
        "SLIT_RA": spec.slit_ra,
        "SLIT_DEC": spec.slit_dec,
        "SLTNAME": spec.name,
        "SRCTYPE": spec.source_type,
        "SPORDER": spec.spectral_order,
        "DISPAXIS": spec.dispersion_direction,
    }
    return Result(columns, keywords, out)


def disagreements(
    ours: dict[str, np.ndarray],
    theirs: dict[str, np.ndarray],
    tolerance: float,
    largest: dict[str, float] | None = None,
) -> list[str]:
    """Name every column that differs by more than `tolerance` of max(|x|, column median).

    In `largest`, the largest such difference of each column is kept.

    On rows without flux our error and variance columns are NaN: they are not compared there.
    """
    found = []
    missing = np.isnan(theirs["FLUX"])
    for name in COLUMNS:
        mine, judge = np.asarray(ours[name], float), np.asarray(theirs[name], float)
        if mine.shape != judge.shape:
            found.append(f"{name}: shape {mine.shape}, the pipeline's {judge.shape}")
            continue
        if "ERROR" in name or "_VAR_" in name:
            if not np.isnan(mine[missing]).all():
                found.append(f"{name}: not NaN on rows without flux")
            mine, judge = mine[~missing], judge[~missing]
        if not np.array_equal(np.isnan(mine), np.isnan(judge)):
            found.append(
                f"{name}: {np.isnan(mine).sum()} NaN, the pipeline {np.isnan(judge).sum()}"
            )
            continue
        finite = np.isfinite(judge)
        if not np.array_equal(mine[~finite & ~np.isnan(judge)], judge[~finite & ~np.isnan(judge)]):
            found.append(f"{name}: infinities differ")
        mine, judge = mine[finite], judge[finite]
        if mine.size == 0:
            continue
        scale = np.maximum(np.abs(judge), np.median(np.abs(judge)))
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.where(mine == judge, 0.0, np.abs(mine - judge) / scale)
        if largest is not None:
            largest[name] = max(largest.get(name, 0.0), float(error.max()))
        if not error.max() <= tolerance:
            worst = int(error.argmax())
            found.append(
                f"{name}: {mine[worst]!r}, the pipeline {judge[worst]!r} ({error.max():.1e})"
            )
    return found
