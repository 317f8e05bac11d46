"""Resample images with the pipeline's ``resample_spec``, without CRDS."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jwst.resample.resample_spec import ResampleSpec

from glue_lrs.image.slit_image import SlitImage
from tests.helpers.pipeline import to_model


def resample(images: Sequence[SlitImage], weight_type: str = "ivm") -> SlitImage:
    """Resample cal images to one s2d, with the planes, the WCS and the weights of the pipeline."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the pipeline are not tested here
        models = [to_model(image) for image in images]
        for model in models:
            exposure = model.meta.exposure
            exposure.exposure_time = exposure.measurement_time = 100.0
            exposure.start_time, exposure.end_time = 60000.0, 60000.1
            model.meta.wcsinfo.s_region = "POLYGON ICRS 0 0 0 1 1 1 1 0"
        made = ResampleSpec(
            models,
            weight_type=weight_type,
            good_bits="~DO_NOT_USE",
            enable_var=True,
            compute_err="from_var",
        ).resample_many_to_one()
    first = images[0]
    header = first.header.copy()
    header["RESWHT"], header["S_RESAMP"] = weight_type, "COMPLETE"
    planes = {name: np.array(made[name]) for name in ("data", "err")}
    planes |= {name: np.array(made[name]) for name in ("var_poisson", "var_rnoise", "var_flat")}
    rows, columns = np.indices(made.data.shape)
    return replace(
        first,
        **planes,
        wavelength=np.asarray(made.meta.wcs(columns, rows)[2], dtype=np.float32),
        dq=None,
        drizzle_weight=np.array(made.wht),
        pixel_area=made.meta.photometry.pixelarea_steradians,
        header=header,
        kind="s2d",
        wcs_source=made.meta.wcs,
    )
